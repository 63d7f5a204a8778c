/*
`ref`: every operation of ops.h as plain loops in fp32, straight from its formula. This is the specification
the other backends are checked against, so nothing here is clever; OpenMP shares independent outputs among
threads and never splits a sum.
*/
#ifndef LLMC_OPS_REF_H
#define LLMC_OPS_REF_H

#include "llmc/ops_host.h"    // ops_host_init
#include "llmc/utils/utils.h" // xaligned, bf16_to_f32

// ----------------------------------------------------------------------------
// memory and weights: a weight is computed from the file's own tensors

void *ref_alloc(size_t bytes) {
    void *p = xaligned(bytes);
    memset(p, 0, bytes);
    return p;
}

void ref_release(void *p) { free(p); }

void ref_weight_load(Weight *w, const RawTensor *raw, int n_raw) {
    memset(w, 0, sizeof *w);
    w->K = (int)raw[0].shape[1];
    w->n_raw = n_raw;
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
}

size_t ref_weight_bytes(const RawTensor *raw, int n_raw) { return (void)raw, (void)n_raw, 0; }

void ref_weight_free(Weight *w) { memset(w, 0, sizeof *w); }

// out[K] = row n of the stacked matrix
void ref_weight_row(float *out, const Weight *w, int n) {
    int i = 0;
    while (n >= w->raw[i].shape[0]) n -= (int)w->raw[i++].shape[0];
    raw_to_f32(out, &w->raw[i], (int64_t)n * w->K, w->K);
}

// ----------------------------------------------------------------------------
// residual stream

void ref_embed(float *h, const int *ids, const RawTensor *wte, int T, int C) {
    for (int t = 0; t < T; t++) raw_to_f32(h + (size_t)t * C, wte, (int64_t)ids[t] * C, C);
}

void ref_add_rmsnorm_forward(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s,
                             const float *w, float eps, int T, int C) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        const float *hi = h + (size_t)t * C, *yi = y ? y + (size_t)t * C : NULL;
        float *ho = h_out + (size_t)t * C;
        float squares = 0;
        for (int c = 0; c < C; c++) {
            ho[c] = hi[c] + (yi ? yi[c] : 0.0f) + (s ? s[c] : 0.0f);
            squares += ho[c] * ho[c];
        }
        float r = 1.0f / sqrtf(squares / (float)C + eps);
        if (rstd) rstd[t] = r;
        if (x)
            for (int c = 0; c < C; c++) ((float *)x)[(size_t)t * C + c] = ho[c] * r * w[c];
    }
}

void ref_rmsnorm_backward(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w, int T,
                          int C) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        const float *dxi = dx + (size_t)t * C, *hi = h + (size_t)t * C;
        float r = rstd[t], dot = 0;
        for (int c = 0; c < C; c++) dot += hi[c] * w[c] * dxi[c];
        for (int c = 0; c < C; c++) {
            size_t i = (size_t)t * C + c;
            dh[i] += r * (w[c] * dxi[c] - hi[c] * (r * r / (float)C * dot));
            if (dy) ((float *)dy)[i] = dh[i];
        }
    }
}

void ref_rmsnorm_weight_backward(float *dw, const float *dx, const float *h, const float *rstd, int T, int C) {
    #pragma omp parallel for
    for (int c = 0; c < C; c++)
        for (int t = 0; t < T; t++) dw[c] += dx[(size_t)t * C + c] * h[(size_t)t * C + c] * rstd[t];
}

void ref_column_sum(float *ds, const float *dh, int T, int C) {
    #pragma omp parallel for
    for (int c = 0; c < C; c++) {
        float sum = 0;
        for (int t = 0; t < T; t++) sum += dh[(size_t)t * C + c];
        ds[c] += sum;
    }
}

void ref_gather_rows(float *out, const float *x, const int *rows, int n, int C) {
    for (int i = 0; i < n; i++) memcpy(out + (size_t)i * C, x + (size_t)rows[i] * C, (size_t)C * sizeof(float));
}

void ref_scatter_add_rows(float *x, const float *in, const int *rows, int n, int C) {
    for (int i = 0; i < n; i++)
        for (int c = 0; c < C; c++) x[(size_t)rows[i] * C + c] += in[(size_t)i * C + c];
}

// ----------------------------------------------------------------------------
// matrix products

void ref_matmul_forward(float *y, const act *x, const Weight *w, const float *bias, int T) {
    int N = w->N, K = w->K;
    #pragma omp parallel
    {
        float *row = (float *)xmalloc((size_t)K * sizeof(float));
        #pragma omp for
        for (int n = 0; n < N; n++) {
            ref_weight_row(row, w, n);
            for (int t = 0; t < T; t++) {
                const float *xt = (const float *)x + (size_t)t * K;
                float sum = 0;
                #pragma omp simd reduction(+ : sum)
                for (int k = 0; k < K; k++) sum += xt[k] * row[k];
                y[(size_t)t * N + n] = bias ? sum + bias[n] : sum;
            }
        }
        free(row);
    }
}

void ref_matmul_backward(float *dx, const act *dy, const Weight *w, int T) {
    int N = w->N, K = w->K;
    memset(dx, 0, (size_t)T * K * sizeof(float));
    float *row = (float *)xmalloc((size_t)K * sizeof(float));
    for (int n = 0; n < N; n++) {
        ref_weight_row(row, w, n);
        #pragma omp parallel for
        for (int t = 0; t < T; t++) {
            float d = ((const float *)dy)[(size_t)t * N + n];
            for (int k = 0; k < K; k++) dx[(size_t)t * K + k] += d * row[k];
        }
    }
    free(row);
}

void ref_matmul_weight_backward(float *dw, const act *dy, const act *x, int T, int N, int K) {
    #pragma omp parallel for
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            for (int k = 0; k < K; k++)
                dw[(size_t)n * K + k] += ((const float *)dy)[(size_t)t * N + n] * ((const float *)x)[(size_t)t * K + k];
}

// ----------------------------------------------------------------------------
// products with matrices of few rows

void ref_lora_down(float *u, const act *x, int ld, const float *a, float scale, int T, int K, int r) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < r; j++) {
            float sum = 0;
            for (int k = 0; k < K; k++) sum += ((const float *)x)[(size_t)t * ld + k] * a[(size_t)j * K + k];
            u[(size_t)t * r + j] = scale * sum;
        }
    }
}

void ref_lora_up(float *y, int ld, const float *u, const float *b, int T, int N, int r) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        for (int n = 0; n < N; n++) {
            float sum = 0;
            for (int j = 0; j < r; j++) sum += u[(size_t)t * r + j] * b[(size_t)j * N + n];
            y[(size_t)t * ld + n] += sum;
        }
    }
}

void ref_lora_grad(float *g, const float *u, const act *x, int ld, int T, int K, int r) {
    #pragma omp parallel for
    for (int k = 0; k < K; k++)
        for (int j = 0; j < r; j++)
            for (int t = 0; t < T; t++)
                g[(size_t)j * K + k] += u[(size_t)t * r + j] * ((const float *)x)[(size_t)t * ld + k];
}

// ----------------------------------------------------------------------------
// attention. A page of ref holds [KV_PAGE][HD] floats per key/value head.

float *ref_kv_at(void *base, const KVCache *kv, int layer, int slot, int head) {
    size_t page = ((size_t)layer * kv->n_pages + slot / KV_PAGE) * kv->NKV + head;
    return (float *)base + (page * KV_PAGE + slot % KV_PAGE) * kv->HD;
}

// turns the pairs (i, i + HD/2) of one head by the angle of its position; direction -1 turns back
void ref_rotate(float *out, const float *in, const float *cos_sin, int HD, float direction) {
    for (int i = 0; i < HD / 2; i++) {
        float c = cos_sin[2 * i], s = direction * cos_sin[2 * i + 1], a = in[i], b = in[i + HD / 2];
        out[i] = a * c - b * s;
        out[i + HD / 2] = b * c + a * s;
    }
}

void ref_rope_kv_write(act *q, KVCache *kv, int layer, const float *qkv, const float *rope, const int *pos,
                       const int *write_row, const int *write_slot, int n_writes, int T, int NH) {
    int HD = kv->HD, NKV = kv->NKV, QKV = (NH + 2 * NKV) * HD;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < NH; h++)
            ref_rotate((float *)q + ((size_t)t * NH + h) * HD, qkv + (size_t)t * QKV + h * HD,
                       rope + (size_t)pos[t] * HD, HD, 1);
    for (int i = 0; i < n_writes; i++) {
        const float *k = qkv + (size_t)write_row[i] * QKV + NH * HD, *v = k + NKV * HD;
        for (int h = 0; h < NKV; h++) {
            ref_rotate(ref_kv_at(kv->k, kv, layer, write_slot[i], h), k + h * HD, rope + (size_t)pos[write_row[i]] * HD,
                       HD, 1);
            memcpy(ref_kv_at(kv->v, kv, layer, write_slot[i], h), v + h * HD, (size_t)HD * sizeof(float));
        }
    }
}

void ref_rope_backward(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope, const int *pos,
                       int T, int NH, int NKV, int HD) {
    for (int t = 0; t < T; t++) {
        float *out = (float *)dqkv + (size_t)t * (NH + 2 * NKV) * HD;
        const float *cos_sin = rope + (size_t)pos[t] * HD;
        for (int h = 0; h < NH; h++) ref_rotate(out + h * HD, dq + ((size_t)t * NH + h) * HD, cos_sin, HD, -1);
        for (int h = 0; h < NKV; h++) ref_rotate(out + (NH + h) * HD, dk + ((size_t)t * NKV + h) * HD, cos_sin, HD, -1);
        memcpy(out + (NH + NKV) * HD, dv + (size_t)t * NKV * HD, (size_t)NKV * HD * sizeof(float));
    }
}

void ref_kv_copy_page(KVCache *kv, int to_page, int from_page) {
    size_t n = (size_t)kv->NKV * KV_PAGE * kv->HD;
    for (int l = 0; l < kv->L; l++) {
        size_t to = ((size_t)l * kv->n_pages + to_page) * n, from = ((size_t)l * kv->n_pages + from_page) * n;
        memcpy((float *)kv->k + to, (float *)kv->k + from, n * sizeof(float));
        memcpy((float *)kv->v + to, (float *)kv->v + from, n * sizeof(float));
    }
}

int sequence_slot(const Sequence *g, int position) {
    return g->pages[position / KV_PAGE] * KV_PAGE + position % KV_PAGE;
}
int sequence_key_row(const Sequence *g, int position) {
    return position < g->pos0 ? g->prefix_row0 + position : g->row0 + position - g->pos0;
}

void ref_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer, const Sequence *sequences,
                           int n_sequences, int NH) {
    int HD = kv->HD, per_kv = NH / kv->NKV;
    float scale = 1.0f / sqrtf((float)HD);
    for (int i = 0; i < n_sequences; i++) {
        const Sequence *g = &sequences[i];
        #pragma omp parallel
        {
            float *p = (float *)xmalloc((size_t)(g->pos0 + g->T) * sizeof(float));
            #pragma omp for collapse(2)
            for (int t = 0; t < g->T; t++) {
                for (int h = 0; h < NH; h++) {
                    size_t at = (size_t)(g->row0 + t) * NH + h;
                    const float *qh = (const float *)q + at * HD;
                    float *o = (float *)out + at * HD;
                    int keys = g->pos0 + t + 1;
                    float max = -INFINITY, sum = 0;
                    for (int j = 0; j < keys; j++) {
                        const float *k = ref_kv_at(kv->k, kv, layer, sequence_slot(g, j), h / per_kv);
                        p[j] = 0;
                        for (int d = 0; d < HD; d++) p[j] += qh[d] * k[d];
                        p[j] *= scale;
                        if (p[j] > max) max = p[j];
                    }
                    for (int j = 0; j < keys; j++) sum += p[j] = expf(p[j] - max);
                    for (int d = 0; d < HD; d++) o[d] = 0;
                    for (int j = 0; j < keys; j++) {
                        const float *v = ref_kv_at(kv->v, kv, layer, sequence_slot(g, j), h / per_kv);
                        for (int d = 0; d < HD; d++) o[d] += p[j] / sum * v[d];
                    }
                    if (lse) lse[at] = max + logf(sum);
                }
            }
            free(p);
        }
    }
}

// p = exp(s - lse); with D = dout . out:  ds = p (dout . v - D), dq = scale sum ds k, dk = scale sum ds q, dv = sum p
//                                         dout
void ref_attention_backward(float *dq, float *dk, float *dv, const float *dout, const act *out, const float *lse,
                            const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                            int T, int NH) {
    int HD = kv->HD, NKV = kv->NKV, per_kv = NH / NKV;
    float scale = 1.0f / sqrtf((float)HD);
    memset(dq, 0, (size_t)T * NH * HD * sizeof(float));
    memset(dk, 0, (size_t)T * NKV * HD * sizeof(float));
    memset(dv, 0, (size_t)T * NKV * HD * sizeof(float));
    #pragma omp parallel for
    for (int kh = 0; kh < NKV; kh++) {
        for (int i = 0; i < n_sequences; i++) {
            const Sequence *g = &sequences[i];
            for (int t = 0; t < g->T; t++) {
                for (int h = kh * per_kv; h < (kh + 1) * per_kv; h++) {
                    size_t at = (size_t)(g->row0 + t) * NH + h;
                    const float *qh = (const float *)q + at * HD, *o = (const float *)out + at * HD,
                                *d_o = dout + at * HD;
                    float D = 0;
                    for (int d = 0; d < HD; d++) D += d_o[d] * o[d];
                    for (int j = 0; j <= g->pos0 + t; j++) {
                        const float *k = ref_kv_at(kv->k, kv, layer, sequence_slot(g, j), kh);
                        const float *v = ref_kv_at(kv->v, kv, layer, sequence_slot(g, j), kh);
                        size_t key = ((size_t)sequence_key_row(g, j) * NKV + kh) * HD;
                        float s = 0, dp = 0;
                        for (int d = 0; d < HD; d++) {
                            s += qh[d] * k[d];
                            dp += d_o[d] * v[d];
                        }
                        float p = expf(s * scale - lse[at]), ds = p * (dp - D) * scale;
                        for (int d = 0; d < HD; d++) {
                            dq[at * HD + d] += ds * k[d];
                            dk[key + d] += ds * qh[d];
                            dv[key + d] += p * d_o[d];
                        }
                    }
                }
            }
        }
    }
}

void ref_to_act(act *out, const float *in, size_t n) { memcpy(out, in, n * sizeof(float)); }

// ----------------------------------------------------------------------------
// feed-forward: silu(g) = g sigmoid(g)

void ref_swiglu_forward(act *a, act *gu_saved, const float *gu, int T, int I) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < I; i++) {
            float g = gu[(size_t)t * 2 * I + i], u = gu[(size_t)t * 2 * I + I + i];
            ((float *)a)[(size_t)t * I + i] = g / (1.0f + expf(-g)) * u;
        }
    }
    if (gu_saved) memcpy(gu_saved, gu, (size_t)T * 2 * I * sizeof(float));
}

void ref_swiglu_backward(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I) {
    #pragma omp parallel for
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < I; i++) {
            size_t at = (size_t)t * 2 * I + i;
            float g = ((const float *)gu_saved)[at], u = ((const float *)gu_saved)[at + I], d = da[(size_t)t * I + i];
            float sigmoid = 1.0f / (1.0f + expf(-g));
            ((float *)dgu)[at] = d * u * sigmoid * (1.0f + g * (1.0f - sigmoid));
            ((float *)dgu)[at + I] = d * g * sigmoid;
            if (a) ((float *)a)[(size_t)t * I + i] = g * sigmoid * u;
        }
    }
}

// ----------------------------------------------------------------------------
// interventions

void ref_mix_blocks(float *x, const float *other, const unsigned char *take, int T, int blocks, int n) {
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < blocks; j++) {
            size_t at = ((size_t)t * blocks + j) * n;
            if (take[j]) memcpy(x + at, other + at, (size_t)n * sizeof(float));
        }
    }
}

void ref_act_add_row(act *x, const float *s, int T, int C) {
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) ((float *)x)[(size_t)t * C + c] += s[c];
}

void ref_put_rows(float *h, const float *v, const int *pos, int at, int T, int C) {
    for (int t = 0; t < T; t++)
        if (pos[t] == at) memcpy(h + (size_t)t * C, v, (size_t)C * sizeof(float));
}

// ----------------------------------------------------------------------------
// output

// The sum over a vocabulary is kept in double: 151,936 fp32 additions in one chain would lose three digits.
float ref_row_lse(const float *logits, float temperature, int V) {
    float max = -INFINITY;
    double sum = 0;
    for (int v = 0; v < V; v++)
        if (logits[v] / temperature > max) max = logits[v] / temperature;
    for (int v = 0; v < V; v++) sum += exp((double)(logits[v] / temperature) - max);
    return max + (float)log(sum);
}

void ref_logprob_rows(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                      float temperature, int n, int V) {
    #pragma omp parallel for
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * V;
        lse[i] = ref_row_lse(row, temperature, V);
        logprob[i] = row[target[i]] / temperature - lse[i];
        if (!entropy) continue;
        double sum = 0; // -sum p log p
        for (int v = 0; v < V; v++) {
            double logp = (double)(row[v] / temperature) - lse[i];
            sum -= exp(logp) * logp;
        }
        entropy[i] = (float)sum;
    }
}

void ref_dlogits_rows(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                      float temperature, int n, int V) {
    #pragma omp parallel for
    for (int i = 0; i < n; i++) {
        for (int v = 0; v < V; v++) {
            float p = expf(logits[(size_t)i * V + v] / temperature - lse[i]);
            ((float *)dlogits)[(size_t)i * V + v] = dlogprob[i] / temperature * ((v == target[i] ? 1.0f : 0.0f) - p);
        }
    }
}

typedef struct {
    float p;
    int id;
} RefCandidate;

int ref_by_probability(const void *a, const void *b) {
    const RefCandidate *x = (const RefCandidate *)a, *y = (const RefCandidate *)b;
    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return x->id - y->id;
}

int ref_by_id(const void *a, const void *b) { return ((const RefCandidate *)a)->id - ((const RefCandidate *)b)->id; }

void ref_sample_rows(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k,
                     float top_p, int n, int V) {
    #pragma omp parallel for
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * V;
        float lse = ref_row_lse(row, temperature > 0 ? temperature : 1.0f, V);
        RefCandidate *all = (RefCandidate *)xmalloc((size_t)V * sizeof *all);
        for (int v = 0; v < V; v++) {
            all[v].p = temperature > 0 ? expf(row[v] / temperature - lse) : row[v];
            all[v].id = v;
        }
        qsort(all, (size_t)V, sizeof *all, ref_by_probability);
        int keep = V;
        if (temperature <= 0) keep = 1;
        else if (top_k > 0 && top_k < V) keep = top_k;
        double mass = 0, sum = 0;
        for (int j = 0; j < keep; j++) mass += all[j].p;
        if (temperature > 0 && top_p < 1) {
            int j = 0;
            while (j < keep && sum < (double)top_p * mass) sum += all[j++].p;
            keep = j > 0 ? j : 1;
            mass = sum > 0 ? sum : mass;
        }
        qsort(all, (size_t)keep, sizeof *all, ref_by_id);
        token[i] = -1; // NaN logits: the caller stops
        if (isfinite(lse)) {
            double target = u[i] * mass;
            sum = 0;
            for (int j = 0; j < keep; j++) {
                if (temperature > 0 && !(all[j].p > 0)) continue;
                token[i] = all[j].id; // the last candidate stays if rounding leaves the target unreached
                sum += all[j].p;
                if (temperature > 0 && sum > target) break;
            }
        }
        logprob[i] = token[i] < 0 ? NAN : row[token[i]] / (temperature > 0 ? temperature : 1.0f) - lse;
        free(all);
    }
}

// ----------------------------------------------------------------------------

const Ops *ops_ref_init(void) {
    static Ops ops;
    ops.name = "ref";
    ops.isa = "plain loops";
    ops.act_bytes = sizeof(float);
    ops_host_init(&ops);
    ops.alloc = ref_alloc;
    ops.release = ref_release;
    ops.weight_load = ref_weight_load;
    ops.weight_bytes = ref_weight_bytes;
    ops.weight_free = ref_weight_free;
    ops.embed = ref_embed;
    ops.add_rmsnorm_forward = ref_add_rmsnorm_forward;
    ops.rmsnorm_backward = ref_rmsnorm_backward;
    ops.rmsnorm_weight_backward = ref_rmsnorm_weight_backward;
    ops.column_sum = ref_column_sum;
    ops.gather_rows = ref_gather_rows;
    ops.scatter_add_rows = ref_scatter_add_rows;
    ops.matmul_forward = ref_matmul_forward;
    ops.matmul_backward = ref_matmul_backward;
    ops.matmul_weight_backward = ref_matmul_weight_backward;
    ops.lora_down = ref_lora_down;
    ops.lora_up = ref_lora_up;
    ops.lora_grad = ref_lora_grad;
    ops.rope_kv_write = ref_rope_kv_write;
    ops.rope_backward = ref_rope_backward;
    ops.kv_copy_page = ref_kv_copy_page;
    ops.attention_forward = ref_attention_forward;
    ops.attention_backward = ref_attention_backward;
    ops.to_act = ref_to_act;
    ops.swiglu_forward = ref_swiglu_forward;
    ops.swiglu_backward = ref_swiglu_backward;
    ops.mix_blocks = ref_mix_blocks;
    ops.act_add_row = ref_act_add_row;
    ops.put_rows = ref_put_rows;
    ops.logprob_rows = ref_logprob_rows;
    ops.dlogits_rows = ref_dlogits_rows;
    ops.sample_rows = ref_sample_rows;
    return &ops;
}

#endif
