/*
A table whose memory is not the host's (cuda), wrapped into one that takes the host's pointers: each call copies its
inputs to device buffers of exactly their size, calls, and copies the outputs back. So the tests of the CPU's
operations, their tolerances and planted errors judge the others as well, and a kernel that reads or writes past a
buffer leaves it.

Outputs travel both ways, as some operations add to them or write only a part.
*/
#ifndef DEV_TEST_HOST_OPS_H
#define DEV_TEST_HOST_OPS_H

#include "llmc/ops.h"
#include "llmc/ops_ref.h"     // ref_alloc, ref_release; host_upload and its like
#include "llmc/utils/utils.h" // xmalloc

const Ops *hosted; // the table that is wrapped

// Buffers of the call that is under way.
#define HOSTED_BUFFERS 64
struct {
    const void *host;
    void *there, *back;
    size_t bytes;
} hosted_buffer[HOSTED_BUFFERS]; // back: where it is copied to, or NULL
int hosted_n;

void *hosted_copy(const void *host, void *back, size_t bytes) {
    if (!host) return NULL;
    for (int i = 0; i < hosted_n; i++) { // in place: one buffer for both
        if (hosted_buffer[i].host != host || hosted_buffer[i].bytes != bytes) continue;
        if (back) hosted_buffer[i].back = back;
        return hosted_buffer[i].there;
    }
    if (hosted_n == HOSTED_BUFFERS) {
        fprintf(stderr, "host_ops.h: more than %d buffers in a call\n", HOSTED_BUFFERS);
        exit(1);
    }
    void *there = hosted->alloc(bytes);
    hosted->upload(there, host, bytes);
    hosted_buffer[hosted_n].host = host;
    hosted_buffer[hosted_n].there = there;
    hosted_buffer[hosted_n].back = back;
    hosted_buffer[hosted_n++].bytes = bytes;
    return there;
}

// An input and an output of n elements.
#define IN(type, host, n) ((const type *)hosted_copy(host, NULL, (size_t)(n) * sizeof(type)))
#define OUT(type, host, n) ((type *)hosted_copy(host, host, (size_t)(n) * sizeof(type)))
#define IN_ACT(host, n) hosted_copy(host, NULL, (size_t)(n) * hosted->act_bytes)
#define OUT_ACT(host, n) hosted_copy(host, host, (size_t)(n) * hosted->act_bytes)

uint64_t hosted_bits = 14695981039346656037u; // FNV-1a over all outputs of all calls, 4 bytes at a time

// Ends a call.
void hosted_done(void) {
    for (int i = 0; i < hosted_n; i++) {
        if (!hosted_buffer[i].back) continue;
        hosted->download(hosted_buffer[i].back, hosted_buffer[i].there, hosted_buffer[i].bytes);
        for (size_t k = 0; k + 4 <= hosted_buffer[i].bytes; k += 4) {
            uint32_t word;
            memcpy(&word, (const char *)hosted_buffer[i].back + k, 4);
            hosted_bits = (hosted_bits ^ word) * 1099511628211u;
        }
    }
    for (int i = 0; i < hosted_n; i++) hosted->release(hosted_buffer[i].there);
    hosted_n = 0;
}

size_t hosted_rows(const int *rows, int n) { // how many rows an array has that these are of
    int most = -1;
    for (int i = 0; i < n; i++)
        if (rows[i] > most) most = rows[i];
    return (size_t)(most + 1);
}

// ----------------------------------------------------------------------------

void hosted_embed(float *h, const int *ids, const RawTensor *wte, int T, int C) {
    RawTensor there = hosted->embedding_load(wte);
    hosted->embed(OUT(float, h, (size_t)T *C), IN(int, ids, T), &there, T, C);
    hosted_done();
    hosted->embedding_free(&there);
}

void hosted_add_rmsnorm_forward(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s,
                                const float *w, float eps, int T, int C) {
    size_t n = (size_t)T * C;
    float *d_h_out = OUT(float, h_out, n), *d_rstd = OUT(float, rstd, T);
    act *d_x = OUT_ACT(x, n);
    hosted->add_rmsnorm_forward(d_h_out, d_x, d_rstd, IN(float, h, n), IN(float, y, n), IN(float, s, C),
                                IN(float, w, C), eps, T, C);
    hosted_done();
}

void hosted_rmsnorm_backward(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w,
                             int T, int C) {
    size_t n = (size_t)T * C;
    hosted->rmsnorm_backward(OUT(float, dh, n), OUT_ACT(dy, n), IN(float, dx, n), IN(float, h, n), IN(float, rstd, T),
                             IN(float, w, C), T, C);
    hosted_done();
}

void hosted_rmsnorm_weight_backward(float *dw, const float *dx, const float *h, const float *rstd, int T, int C) {
    size_t n = (size_t)T * C;
    hosted->rmsnorm_weight_backward(OUT(float, dw, C), IN(float, dx, n), IN(float, h, n), IN(float, rstd, T), T, C);
    hosted_done();
}

void hosted_column_sum(float *ds, const float *dh, int T, int C) {
    hosted->column_sum(OUT(float, ds, C), IN(float, dh, (size_t)T *C), T, C);
    hosted_done();
}

void hosted_gather_rows(float *out, const float *x, const int *rows, int n, int C) {
    hosted->gather_rows(OUT(float, out, (size_t)n *C), IN(float, x, hosted_rows(rows, n) * C), IN(int, rows, n), n, C);
    hosted_done();
}

void hosted_scatter_add_rows(float *x, const float *in, const int *rows, int n, int C) {
    hosted->scatter_add_rows(OUT(float, x, hosted_rows(rows, n) * C), IN(float, in, (size_t)n *C), IN(int, rows, n), n,
                             C);
    hosted_done();
}

void hosted_weight_load(Weight *w, const RawTensor *raw, int n_raw) { hosted->weight_load(w, raw, n_raw); }
void hosted_weight_free(Weight *w) { hosted->weight_free(w); }

void hosted_matmul_forward(float *y, const act *x, const Weight *w, const float *bias, int T) {
    hosted->matmul_forward(OUT(float, y, (size_t)T * w->N), IN_ACT(x, (size_t)T * w->K), w, IN(float, bias, w->N), T);
    hosted_done();
}

void hosted_matmul_backward(float *dx, const act *dy, const Weight *w, int T) {
    hosted->matmul_backward(OUT(float, dx, (size_t)T * w->K), IN_ACT(dy, (size_t)T * w->N), w, T);
    hosted_done();
}

void hosted_matmul_weight_backward(float *dw, const act *dy, const act *x, int T, int N, int K) {
    hosted->matmul_weight_backward(OUT(float, dw, (size_t)N *K), IN_ACT(dy, (size_t)T * N), IN_ACT(x, (size_t)T * K), T,
                                   N, K);
    hosted_done();
}

size_t hosted_strided(int T, int ld, int n) {
    return (size_t)(T - 1) * (size_t)ld + (size_t)n;
} // T rows of n, ld apart; T > 0

void hosted_lora_down(float *u, const act *x, int ld, const float *a, float scale, int T, int K, int r) {
    hosted->lora_down(OUT(float, u, (size_t)T *r), IN_ACT(x, hosted_strided(T, ld, K)), ld, IN(float, a, (size_t)r *K),
                      scale, T, K, r);
    hosted_done();
}

void hosted_lora_up(float *y, int ld, const float *u, const float *b, int T, int N, int r) {
    hosted->lora_up(OUT(float, y, hosted_strided(T, ld, N)), ld, IN(float, u, (size_t)T *r), IN(float, b, (size_t)r *N),
                    T, N, r);
    hosted_done();
}

void hosted_lora_grad(float *g, const float *u, const act *x, int ld, int T, int K, int r) {
    hosted->lora_grad(OUT(float, g, (size_t)r *K), IN(float, u, (size_t)T *r), IN_ACT(x, hosted_strided(T, ld, K)), ld,
                      T, K, r);
    hosted_done();
}

KVCache hosted_kv(const KVCache *kv, bool written) {
    KVCache there = *kv;
    size_t n = (size_t)kv->L * kv->n_pages * kv->NKV * KV_PAGE * kv->HD;
    there.k = written ? OUT_ACT(kv->k, n) : IN_ACT(kv->k, n);
    there.v = written ? OUT_ACT(kv->v, n) : IN_ACT(kv->v, n);
    return there;
}

void hosted_rope_kv_write(act *q, KVCache *kv, int layer, const float *qkv, const float *rope, const int *pos,
                          const int *write_row, const int *write_slot, int n_writes, int T, int NH) {
    KVCache there = hosted_kv(kv, true);
    size_t QKV = (size_t)(NH + 2 * kv->NKV) * kv->HD;
    hosted->rope_kv_write(OUT_ACT(q, (size_t)T * NH * kv->HD), &there, layer, IN(float, qkv, T *QKV),
                          IN(float, rope, hosted_rows(pos, T) * kv->HD), IN(int, pos, T), IN(int, write_row, n_writes),
                          IN(int, write_slot, n_writes), n_writes, T, NH);
    hosted_done();
}

void hosted_rope_backward(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope,
                          const int *pos, int T, int NH, int NKV, int HD) {
    size_t n = (size_t)T * HD;
    hosted->rope_backward(OUT_ACT(dqkv, n * (NH + 2 * NKV)), IN(float, dq, n *NH), IN(float, dk, n *NKV),
                          IN(float, dv, n *NKV), IN(float, rope, hosted_rows(pos, T) * HD), IN(int, pos, T), T, NH, NKV,
                          HD);
    hosted_done();
}

void hosted_kv_copy_page(KVCache *kv, int to_page, int from_page) {
    KVCache there = hosted_kv(kv, true);
    hosted->kv_copy_page(&there, to_page, from_page);
    hosted_done();
}

// The sequences with their lists of pages; *rows = how many rows they reach to.
const Sequence *hosted_sequences(const Sequence *sequences, int n, size_t *rows) {
    static Sequence there[HOSTED_BUFFERS];
    *rows = 0;
    if (n > HOSTED_BUFFERS) {
        fprintf(stderr, "host_ops.h: %d sequences, at most %d fit\n", n, HOSTED_BUFFERS);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        there[i] = sequences[i];
        there[i].pages = IN(int, sequences[i].pages, (sequences[i].pos0 + sequences[i].T + KV_PAGE - 1) / KV_PAGE);
        if ((size_t)(sequences[i].row0 + sequences[i].T) > *rows) *rows = (size_t)(sequences[i].row0 + sequences[i].T);
    }
    return IN(Sequence, there, n);
}

void hosted_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                              const Sequence *sequences, int n_sequences, int NH) {
    KVCache there = hosted_kv(kv, false);
    size_t rows;
    const Sequence *s = hosted_sequences(sequences, n_sequences, &rows);
    hosted->attention_forward(OUT_ACT(out, rows * NH * kv->HD), OUT(float, lse, rows *NH),
                              IN_ACT(q, rows * NH * kv->HD), &there, layer, s, n_sequences, NH);
    hosted_done();
}

void hosted_attention_backward(float *dq, float *dk, float *dv, const float *dout, const act *out, const float *lse,
                               const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                               int T, int NH) {
    KVCache there = hosted_kv(kv, false);
    size_t rows, n = (size_t)T * NH * kv->HD, n_kv = (size_t)T * kv->NKV * kv->HD;
    const Sequence *s = hosted_sequences(sequences, n_sequences, &rows);
    hosted->attention_backward(OUT(float, dq, n), OUT(float, dk, n_kv), OUT(float, dv, n_kv), IN(float, dout, n),
                               IN_ACT(out, n), IN(float, lse, (size_t)T *NH), IN_ACT(q, n), &there, layer, s,
                               n_sequences, T, NH);
    hosted_done();
}

void hosted_to_act(act *out, const float *in, size_t n) {
    hosted->to_act(OUT_ACT(out, n), IN(float, in, n), n);
    hosted_done();
}

void hosted_swiglu_forward(act *a, act *gu_saved, const float *gu, int T, int I) {
    size_t n = (size_t)T * I;
    hosted->swiglu_forward(OUT_ACT(a, n), OUT_ACT(gu_saved, 2 * n), IN(float, gu, 2 * n), T, I);
    hosted_done();
}

void hosted_swiglu_backward(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I) {
    size_t n = (size_t)T * I;
    hosted->swiglu_backward(OUT_ACT(dgu, 2 * n), OUT_ACT(a, n), IN(float, da, n), IN_ACT(gu_saved, 2 * n), T, I);
    hosted_done();
}

void hosted_logprob_rows(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                         float temperature, int n, int V) {
    hosted->logprob_rows(OUT(float, logprob, n), OUT(float, lse, n), OUT(float, entropy, n),
                         IN(float, logits, (size_t)n *V), IN(int, target, n), temperature, n, V);
    hosted_done();
}

void hosted_dlogits_rows(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                         float temperature, int n, int V) {
    hosted->dlogits_rows(OUT_ACT(dlogits, (size_t)n * V), IN(float, logits, (size_t)n *V), IN(float, lse, n),
                         IN(int, target, n), IN(float, dlogprob, n), temperature, n, V);
    hosted_done();
}

void hosted_sample_rows(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k,
                        float top_p, int n, int V) {
    hosted->sample_rows(OUT(int, token, n), OUT(float, logprob, n), IN(float, logits, (size_t)n *V), IN(float, u, n),
                        temperature, top_k, top_p, n, V);
    hosted_done();
}

double hosted_gradient_norm(const float *g, size_t n) {
    double norm = hosted->gradient_norm(IN(float, g, n), n);
    hosted_done();
    return norm;
}

void hosted_adamw_update(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n, int step,
                         const AdamW *a) {
    hosted->adamw_update(OUT(float, x, n), OUT(float, exp_avg, n), OUT(float, exp_avg_sq, n), IN(float, g, n), scale, n,
                         step, a);
    hosted_done();
}

void hosted_momentum_update(float *x, float *exp_avg, const float *g, double scale, size_t n, int step,
                            double learning_rate, double beta1) {
    hosted->momentum_update(OUT(float, x, n), OUT(float, exp_avg, n), IN(float, g, n), scale, n, step, learning_rate,
                            beta1);
    hosted_done();
}

// `ops` over the host's memory; itself if that is where it computes. One table at a time.
const Ops *host_ops(const Ops *ops) {
    static Ops host;
    if (ops->host_memory) return ops;
    hosted = ops;
    host = *ops;
    ops_host_init(&host);
    host.alloc = ref_alloc;
    host.release = ref_release;
    host.weight_load = hosted_weight_load;
    host.weight_free = hosted_weight_free;
    host.embed = hosted_embed;
    host.add_rmsnorm_forward = hosted_add_rmsnorm_forward;
    host.rmsnorm_backward = hosted_rmsnorm_backward;
    host.rmsnorm_weight_backward = hosted_rmsnorm_weight_backward;
    host.column_sum = hosted_column_sum;
    host.gather_rows = hosted_gather_rows;
    host.scatter_add_rows = hosted_scatter_add_rows;
    host.matmul_forward = hosted_matmul_forward;
    host.matmul_backward = hosted_matmul_backward;
    host.matmul_swiglu_forward = NULL;
    host.matmul_weight_backward = hosted_matmul_weight_backward;
    host.lora_down = hosted_lora_down;
    host.lora_up = hosted_lora_up;
    host.lora_grad = hosted_lora_grad;
    host.rope_kv_write = hosted_rope_kv_write;
    host.rope_backward = hosted_rope_backward;
    host.kv_copy_page = hosted_kv_copy_page;
    host.attention_forward = hosted_attention_forward;
    host.attention_backward = hosted_attention_backward;
    host.to_act = hosted_to_act;
    host.swiglu_forward = hosted_swiglu_forward;
    host.swiglu_backward = hosted_swiglu_backward;
    host.logprob_rows = hosted_logprob_rows;
    host.dlogits_rows = hosted_dlogits_rows;
    host.sample_rows = hosted_sample_rows;
    host.gradient_norm = hosted_gradient_norm;
    host.adamw_update = hosted_adamw_update;
    host.momentum_update = hosted_momentum_update;
    return &host;
}

#endif
