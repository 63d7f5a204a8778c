/*
`ref`, rounded to bf16 wherever cpu rounds: after every operation that writes `act`. What is left between it and cpu is
the order of sums. And the same for cuda, whose attention also rounds what its tensor cores take: probabilities and
their gradients.
*/
#ifndef DEV_TEST_ROUNDED_REF_H
#define DEV_TEST_ROUNDED_REF_H

#include "llmc/ops_ref.h"

void round_to_bf16(act *x, size_t n) {
    float *f = (float *)x;
    for (size_t i = 0; i < n && f; i++) f[i] = bf16_to_f32(f32_to_bf16(f[i]));
}

void rounded_add_rmsnorm_forward(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s,
                                 const float *w, float eps, int T, int C) {
    ref_add_rmsnorm_forward(h_out, x, rstd, h, y, s, w, eps, T, C);
    round_to_bf16(x, (size_t)T * C);
}

void rounded_rmsnorm_backward(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w,
                              int T, int C) {
    ref_rmsnorm_backward(dh, dy, dx, h, rstd, w, T, C);
    round_to_bf16(dy, (size_t)T * C);
}

void rounded_rope_kv_write(act *q, KVCache *kv, int layer, const float *qkv, const float *rope, const int *pos,
                           const int *write_row, const int *write_slot, int n_writes, int T, int NH) {
    ref_rope_kv_write(q, kv, layer, qkv, rope, pos, write_row, write_slot, n_writes, T, NH);
    round_to_bf16(q, (size_t)T * NH * kv->HD);
    size_t n = (size_t)kv->n_pages * kv->NKV * KV_PAGE * kv->HD;
    round_to_bf16((float *)kv->k + layer * n, n);
    round_to_bf16((float *)kv->v + layer * n, n);
}

void rounded_rope_backward(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope,
                           const int *pos, int T, int NH, int NKV, int HD) {
    ref_rope_backward(dqkv, dq, dk, dv, rope, pos, T, NH, NKV, HD);
    round_to_bf16(dqkv, (size_t)T * (NH + 2 * NKV) * HD);
}

void rounded_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                               const Sequence *sequences, int n_sequences, int NH) {
    ref_attention_forward(out, lse, q, kv, layer, sequences, n_sequences, NH);
    for (int i = 0; i < n_sequences; i++)
        round_to_bf16((float *)out + (size_t)sequences[i].row0 * NH * kv->HD, (size_t)sequences[i].T * NH * kv->HD);
}

void rounded_swiglu_forward(act *a, act *gu_saved, const float *gu, int T, int I) {
    ref_swiglu_forward(a, gu_saved, gu, T, I);
    round_to_bf16(a, (size_t)T * I);
    round_to_bf16(gu_saved, (size_t)T * 2 * I);
}

void rounded_swiglu_backward(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I) {
    ref_swiglu_backward(dgu, a, da, gu_saved, T, I);
    round_to_bf16(a, (size_t)T * I);
    round_to_bf16(dgu, (size_t)T * 2 * I);
}

void rounded_dlogits_rows(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                          float temperature, int n, int V) {
    ref_dlogits_rows(dlogits, logits, lse, target, dlogprob, temperature, n, V);
    round_to_bf16(dlogits, (size_t)n * V);
}

void rounded_act_add_row(act *x, const float *s, int T, int C) {
    ref_act_add_row(x, s, T, C);
    round_to_bf16(x, (size_t)T * C);
}

void rounded_to_act(act *out, const float *in, size_t n) {
    ref_to_act(out, in, n);
    round_to_bf16(out, n);
}

const Ops *rounded_ops(void) {
    static Ops ops;
    ops = *ops_ref_init();
    ops.add_rmsnorm_forward = rounded_add_rmsnorm_forward;
    ops.rmsnorm_backward = rounded_rmsnorm_backward;
    ops.rope_kv_write = rounded_rope_kv_write;
    ops.rope_backward = rounded_rope_backward;
    ops.attention_forward = rounded_attention_forward;
    ops.swiglu_forward = rounded_swiglu_forward;
    ops.swiglu_backward = rounded_swiglu_backward;
    ops.act_add_row = rounded_act_add_row;
    ops.dlogits_rows = rounded_dlogits_rows;
    ops.to_act = rounded_to_act;
    return &ops;
}

float rounded_bf16(float x) { return bf16_to_f32(f32_to_bf16(x)); }

// As cuda/attention.cuh: within each 64 keys exp(s - their largest), rounded for the product with v, not for the sum.
void rounded_cuda_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                                    const Sequence *sequences, int n_sequences, int NH) {
    const int HD = kv->HD, per_kv = NH / kv->NKV;
    for (int i = 0; i < n_sequences; i++) {
        const Sequence *g = &sequences[i];
        for (int t = 0; t < g->T; t++) {
            for (int h = 0; h < NH; h++) {
                const size_t at = (size_t)(g->row0 + t) * NH + h;
                const float *qh = (const float *)q + at * HD;
                float *o = (float *)out + at * HD, m = -INFINITY, l = 0;
                for (int d = 0; d < HD; d++) o[d] = 0;
                for (int first = 0; first <= g->pos0 + t; first += 64) {
                    const int keys = g->pos0 + t + 1 - first < 64 ? g->pos0 + t + 1 - first : 64;
                    float p[64], top = -INFINITY;
                    for (int j = 0; j < keys; j++) {
                        const float *k = ref_kv_at(kv->k, kv, layer, sequence_slot(g, first + j), h / per_kv);
                        p[j] = 0;
                        for (int d = 0; d < HD; d++) p[j] += qh[d] * k[d];
                        p[j] /= sqrtf((float)HD);
                        if (p[j] > top) top = p[j];
                    }
                    const float above = m > top ? m : top, keep = expf(m - above), add = expf(top - above);
                    l *= keep;
                    for (int d = 0; d < HD; d++) o[d] *= keep;
                    for (int j = 0; j < keys; j++) {
                        const float *v = ref_kv_at(kv->v, kv, layer, sequence_slot(g, first + j), h / per_kv);
                        const float e = expf(p[j] - top);
                        l += e * add;
                        for (int d = 0; d < HD; d++) o[d] += rounded_bf16(e) * add * v[d];
                    }
                    m = above;
                }
                for (int d = 0; d < HD; d++) o[d] = rounded_bf16(o[d] / l);
                if (lse) lse[at] = m + logf(l);
            }
        }
    }
}

// As cuda/attention_backward.cuh: dout, p and ds are rounded.
void rounded_cuda_attention_backward(float *dq, float *dk, float *dv, const float *dout, const act *out,
                                     const float *lse, const act *q, const KVCache *kv, int layer,
                                     const Sequence *sequences, int n_sequences, int T, int NH) {
    const int HD = kv->HD, NKV = kv->NKV;
    const float scale = 1.0f / sqrtf((float)HD);
    memset(dq, 0, (size_t)T * NH * HD * sizeof(float));
    memset(dk, 0, (size_t)T * NKV * HD * sizeof(float));
    memset(dv, 0, (size_t)T * NKV * HD * sizeof(float));
    for (int i = 0; i < n_sequences; i++) {
        const Sequence *g = &sequences[i];
        for (int t = 0; t < g->T; t++) {
            for (int h = 0; h < NH; h++) {
                const size_t at = (size_t)(g->row0 + t) * NH + h;
                const int kh = h / (NH / NKV);
                const float *qh = (const float *)q + at * HD, *o = (const float *)out + at * HD, *d_o = dout + at * HD;
                float D = 0;
                for (int d = 0; d < HD; d++) D += rounded_bf16(d_o[d]) * o[d];
                for (int j = 0; j <= g->pos0 + t; j++) {
                    const float *k = ref_kv_at(kv->k, kv, layer, sequence_slot(g, j), kh),
                                *v = ref_kv_at(kv->v, kv, layer, sequence_slot(g, j), kh);
                    const size_t key = ((size_t)sequence_key_row(g, j) * NKV + kh) * HD;
                    float s = 0, dp = 0;
                    for (int d = 0; d < HD; d++) {
                        s += qh[d] * k[d];
                        dp += rounded_bf16(d_o[d]) * v[d];
                    }
                    const float p = expf(s * scale - lse[at]), ds = rounded_bf16(p * (dp - D));
                    for (int d = 0; d < HD; d++) {
                        dq[at * HD + d] += ds * scale * k[d];
                        dk[key + d] += ds * scale * qh[d];
                        dv[key + d] += rounded_bf16(p) * rounded_bf16(d_o[d]);
                    }
                }
            }
        }
    }
}

const Ops *rounded_cuda_ops(void) {
    static Ops ops;
    ops = *rounded_ops();
    ops.attention_forward = rounded_cuda_attention_forward;
    ops.attention_backward = rounded_cuda_attention_backward;
    return &ops;
}

#endif
