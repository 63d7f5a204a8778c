/*
THE list of operations: everything the model computes, as a table of function pointers, so that qwen2.h is
written once and runs on every backend:

    ops_ref.h   `ref`   plain loops in fp32: the specification
    cpu/        `cpu`   OpenMP and vector instructions, bf16 weights
    cuda/       `cuda`  CUDA kernels and cuBLASLt, bf16 weights

Shape letters, everywhere in this project:
    T  rows: tokens of all sequences packed one after another, no padding
    C  hidden_size        I  intermediate_size     L  layers          V  vocabulary
    NH query heads        NKV key/value heads      HD head dimension  QKV = (NH + 2 NKV) HD
    N, K  rows and columns of a weight matrix: y[T,N] = x[T,K] W[N,K]^T

Every pointer that an operation takes, ids and positions included, is memory of the backend: from `alloc`, filled by
`upload`, read by `download`. Where `host_memory` is set that is plain memory, which the host may pass and read as it
is.

`act` is the type of a matmul input: bf16 on cpu and cuda, float on ref (`act_bytes` tells). Everything else is float:
the residual stream, matmul outputs, gradients. Outputs come first, then inputs, then sizes. In the comments
`=` overwrites and `+=` adds. No output depends, in any bit, on how many threads ran, on how rows were
batched, or on which pages of the cache hold the keys: see "Batch invariance" in dev/doc/numbers.md. The
exception are the matrix products of cuda, which cuBLASLt adds up in an order that it chooses by the number
of rows: there the same shapes give the same bits, other shapes other last ones.
*/
#ifndef LLMC_OPS_H
#define LLMC_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "llmc/quant.h" // DType

typedef void act; // bf16_t (cpu, cuda) or float (ref); only ever used as `act *`

// One tensor as it lies in a file: row-major, borrowed memory (the mmapped file), shape[0] rows. Rows of a quantised
// type (quant.h) are whole blocks.
typedef struct {
    const char *name; // "model.layers.0.mlp.down_proj.weight", for messages
    DType dtype;
    int ndim;
    int64_t shape[4];
    const void *data;
} RawTensor;

// A weight matrix as a backend keeps it: several raw tensors stacked along N (q, k and v; gate and up).
typedef struct {
    int N, K;
    void *data;       // backend's own form; NULL where the backend computes from raw
    size_t bytes;     // of data, or of the quantised blocks; 0 where they are another tensor's, too
    RawTensor raw[3]; // what it was made from, in order of rows
    int n_raw;
} Weight;

// Keys and values of all layers, in pages of KV_PAGE consecutive positions. Page p of a sequence holds its
// positions p*KV_PAGE ... p*KV_PAGE+KV_PAGE-1; a slot is page * KV_PAGE + offset. The layout inside a page
// is the backend's own. Sequences may share whole pages (the prompt of a group).
#define KV_PAGE 16
typedef struct {
    int L, NKV, HD, n_pages;
    void *k, *v; // act [L, n_pages, NKV, KV_PAGE * HD]
} KVCache;

// Rows row0 ... row0+T-1 are the queries of one sequence at positions pos0 ... pos0+T-1; each attends to
// positions 0 ... its own, which lie on `pages`. Sequences of one `group` share the rows of their prompt:
// key position p < pos0 is row prefix_row0 + p, any other is row0 + (p - pos0) (used by the backward only).
typedef struct {
    int row0, T, pos0;
    const int *pages;
    int prefix_row0;
    int group; // sequences of a group are neighbours, its prompt first
} Sequence;

// AdamW's settings (Loshchilov & Hutter 2019, decoupled weight decay).
typedef struct {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
} AdamW;

// The largest that operations will be asked for: rows and sequences of a batch, rows of logits; whether weights will be
// made of fp32.
typedef struct {
    int T, n_sequences, head_rows, NH, NKV, HD, V;
    bool backward, fp32_weights;
} LargestPass;

// Address space that a piece of the host's memory takes beyond its bytes: large ones lie in huge pages
// (llmc/cpu/backend.c).
static inline size_t alloc_room(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    return bytes < huge * 3 / 4 ? 0 : (huge - bytes % huge) % huge + huge; // up to whole pages, and one to align
}

typedef struct Ops {
    const char *name; // "ref", "cpu" or "cuda"
    const char *isa;  // what the kernels use: "avx512", "avx2", "portable", ...; "plain loops" for ref
    size_t act_bytes; // sizeof one act
    bool host_memory; // alloc gives memory that the host may touch

    // -- memory ------------------------------------------------------------------------------------------
    void *(*alloc)(size_t bytes); // zeroed, 64-byte aligned; ends the program when there is none
    void (*release)(void *p);
    void (*zero)(void *p, size_t bytes);
    void (*upload)(void *p, const void *host, size_t bytes);   // the host's memory may be reused at once
    void (*download)(void *host, const void *p, size_t bytes); // waits for what came before
    void (*wait)(void); // until all that was asked for is done; NULL: it is when a call returns. See ops_wait

    // Bytes of the device's memory that this program has taken; *available: those that are free. NULL: the host's
    // memory, not counted.
    size_t (*memory)(size_t *available);
    // Bytes that the operations take for themselves, beside what alloc gives, once they have been asked for the
    // largest.
    size_t (*own_bytes)(const LargestPass *most);
    // Takes them now, so that no later call up to the largest takes or gives back memory. NULL: there are none.
    void (*reserve)(const LargestPass *most);

    // What the device can do at most, measured here and now: FLOP/s of a large product of matrices, bytes/s of a large
    // copy (read and written, each counts). NULL: the host, which llmc/eval/bench_limits.h measures. cache_bytes: of
    // the device's last cache; 0: the host's.
    double (*peak_flops)(void);
    double (*copy_speed)(void);
    size_t cache_bytes;

    // Operations that come again: between graph_begin, if it returns true, and graph_end they are called as ever; if it
    // returns false it has done them, and they and graph_end are not called. key: all that the host tells them (every
    // size and address), so that rounds with the same key differ in nothing but what the backend's memory holds. No
    // copy, alloc or release in between. NULL: the backend has no use for it.
    bool (*graph_begin)(const void *key, size_t bytes);
    void (*graph_end)(void);

    // The embedding matrix as `embed` wants it: `file` itself, or a copy in the backend's memory, same type and shape.
    RawTensor (*embedding_load)(const RawTensor *file);
    void (*embedding_free)(RawTensor *wte);

    // w = the raw tensors stacked along N, in the backend's own form. Every type of quant.h loads; a quantised number
    // becomes the bf16 that it is nearest to.
    void (*weight_load)(Weight *w, const RawTensor *raw, int n_raw);
    // Bytes that weight_load will keep for the same tensors, of which only shape and type are looked at: of its own, or
    // of the file, where it computes from quantised blocks. NULL: known only when it is loaded.
    size_t (*weight_bytes)(const RawTensor *raw, int n_raw);
    void (*weight_free)(Weight *w);

    // -- residual stream ---------------------------------------------------------------------------------
    // h[T,C] = rows ids[T] of the embedding matrix (from embedding_load)
    void (*embed)(float *h, const int *ids, const RawTensor *wte, int T, int C);

    // h_out[T,C] = h[T,C] + y[T,C] + s[C]              (y, s may be NULL; h_out may be h)
    // x[T,C]     = h_out * rstd * w[C],  rstd[T] = 1/sqrt(mean(h_out^2) + eps)   (x NULL: only the sum; rstd may be
    //                                                                            NULL)
    // This is where a steering vector enters: h <- h + mlp(x) + s_l.
    void (*add_rmsnorm_forward)(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s,
                                const float *w, float eps, int T, int C);

    // dh[T,C] += gradient through x = h * rstd * w, given dx[T,C]:
    //   dh_i += rstd (w_i dx_i - h_i rstd^2 / C * sum_j h_j w_j dx_j)
    // dy[T,C] = dh as act: the input of the matmul backward that comes next (may be NULL)
    void (*rmsnorm_backward)(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w,
                             int T, int C);

    // dw[C] += sum over t of dx[t,C] h[t,C] rstd[t], rows in order: the gradient of a norm's weight
    void (*rmsnorm_weight_backward)(float *dw, const float *dx, const float *h, const float *rstd, int T, int C);

    // ds[C] += sum over t of dh[t,C], rows in order: the whole gradient of a steering vector
    void (*column_sum)(float *ds, const float *dh, int T, int C);

    // out[n,C] = x[rows[n],C] and x[rows[n],C] += in[n,C] (n in order; a row may come more than once)
    void (*gather_rows)(float *out, const float *x, const int *rows, int n, int C);
    void (*scatter_add_rows)(float *x, const float *in, const int *rows, int n, int C);

    // -- matrix products ---------------------------------------------------------------------------------
    // y[T,N] = x[T,K] W^T + bias[N] (bias may be NULL)
    void (*matmul_forward)(float *y, const act *x, const Weight *w, const float *bias, int T);
    // dx[T,K] = dy[T,N] W
    void (*matmul_backward)(float *dx, const act *dy, const Weight *w, int T);

    // dw[N,K] += dy[T,N]^T x[T,K]: the gradient of a weight, where all weights are trained
    void (*matmul_weight_backward)(float *dw, const act *dy, const act *x, int T, int N, int K);

    // The product with gate stacked on up, w[2I,K], and SwiGLU (below) as its epilogue: the bits of the two operations
    // one after the other, without the large fp32 array between them, gu[T,2I], which is scratch. NULL: no such form.
    void (*matmul_swiglu_forward)(act *a, act *gu_saved, float *gu, const act *x, const Weight *w, int T);

    // -- LoRA --------------------------------------------------------------------------------------------
    // Products with matrices of r rows, wholly in fp32. Rows of x and y may be pieces of wider ones, ld elements apart.
    // u[T,r] = scale * x[T,K] A[r,K]^T
    void (*lora_down)(float *u, const act *x, int ld, const float *a, float scale, int T, int K, int r);
    // y[T,N] += u[T,r] B[r,N]
    void (*lora_up)(float *y, int ld, const float *u, const float *b, int T, int N, int r);
    // g[r,K] += sum over t of u[t,r] x[t,K], onto what g holds, rows in order: rows that come in several calls give the
    // bits of one. (With u all ones and r = 1 it is the gradient of a bias.)
    void (*lora_grad)(float *g, const float *u, const act *x, int ld, int T, int K, int r);

    // -- attention ---------------------------------------------------------------------------------------
    // qkv[T,QKV] from the product: rotates q and k (Hugging Face's half-split RoPE, pair i of a head turns by
    // pos * theta^(-2i/HD), given as rope[pos][HD/2][2] = cos, sin). q[T,NH*HD] = rotated q. Then for
    // i < n_writes row write_row[i] of k and v goes to slot write_slot[i] of `layer` (a row may go to several).
    void (*rope_kv_write)(act *q, KVCache *kv, int layer, const float *qkv, const float *rope, const int *pos,
                          const int *write_row, const int *write_slot, int n_writes, int T, int NH);
    // dqkv[T,QKV] = dq, dk rotated back, dv, as act
    void (*rope_backward)(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope,
                          const int *pos, int T, int NH, int NKV, int HD);
    // copies one page in every layer
    void (*kv_copy_page)(KVCache *kv, int to_page, int from_page);

    // out[T,NH*HD] = softmax(q k^T / sqrt(HD)) v, causal, per sequence; lse[T,NH] = log sum exp (may be NULL)
    void (*attention_forward)(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                              const Sequence *sequences, int n_sequences, int NH);
    // dq[T,NH*HD], dk[T,NKV*HD], dv[T,NKV*HD] = gradients given dout[T,NH*HD]; keys and values are read from
    // the cache, their gradients go to the rows they came from (see Sequence).
    void (*attention_backward)(float *dq, float *dk, float *dv, const float *dout, const act *out, const float *lse,
                               const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                               int T, int NH);

    // float -> act, n values
    void (*to_act)(act *out, const float *in, size_t n);

    // -- feed-forward: gu[T,2I] = gate, then up ----------------------------------------------------------
    // a[T,I] = silu(gate) * up; gu_saved[T,2I] = gu as act, for the backward (may be NULL)
    void (*swiglu_forward)(act *a, act *gu_saved, const float *gu, int T, int I);
    // dgu[T,2I] = gradient, given da[T,I]; a[T,I] = silu(gate) * up again, from what was saved (may be NULL)
    void (*swiglu_backward)(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I);

    // -- interventions (intervene.h) ---------------------------------------------------------------------
    // x[T,blocks,n]: block j of every row becomes other's where take[j] != 0 (heads of qkv or of an attention's output)
    void (*mix_blocks)(float *x, const float *other, const unsigned char *take, int T, int blocks, int n);
    // x[T,C] += s[C], rounded to act
    void (*act_add_row)(act *x, const float *s, int T, int C);
    // h[t,C] = v[C] in the rows with pos[t] == at
    void (*put_rows)(float *h, const float *v, const int *pos, int at, int T, int C);

    // -- output ------------------------------------------------------------------------------------------
    // For each row: logprob[n] = logits[target]/temperature - lse[n], lse = log sum exp(logits/temperature),
    // entropy[n] of that distribution in nats (may be NULL). temperature > 0.
    void (*logprob_rows)(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                         float temperature, int n, int V);
    // dlogits[n,V] = dlogprob[n] / temperature * (onehot(target) - exp(logits/temperature - lse)): d loss / d logits
    void (*dlogits_rows)(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                         float temperature, int n, int V);
    // Draws token[n] by inverting the cumulative distribution at u[n] in [0,1), tokens in order of id.
    // temperature 0: the arg max (the lowest id of equals). top_k 0 and top_p 1: off; top_k keeps the k most
    // likely, then top_p the fewest whose probabilities reach p (ties: lower id first).
    // logprob[n]: under the full distribution at `temperature` (at 1 where temperature is 0), the same bits as
    // logprob_rows gives.
    void (*sample_rows)(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k,
                        float top_p, int n, int V);

    // -- update ------------------------------------------------------------------------------------------
    // Length of a gradient, summed in double and in a fixed order. Returned to the host.
    double (*gradient_norm)(const float *g, size_t n);
    // One step of AdamW, in double, in PyTorch's order of operations: x[n] moves, exp_avg and exp_avg_sq are its
    // moments, step counts from 1. The gradient is multiplied by `scale` first (clipping).
    void (*adamw_update)(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n, int step,
                         const AdamW *a);
    // One step of gradient descent with momentum, in double: gi = g scale, exp_avg = beta1 exp_avg + (1 - beta1) gi,
    // x[n] -= learning_rate exp_avg / (1 - beta1^step), the mean of the gradients weighed by age. step counts from 1.
    void (*momentum_update)(float *x, float *exp_avg, const float *g, double scale, size_t n, int step,
                            double learning_rate, double beta1);
} Ops;

// To be called before the clock is read: a backend may still be at work on what it was asked for.
static inline void ops_wait(const Ops *ops) {
    if (ops->wait) ops->wait();
}

// A copy in the backend's memory of an array of the host that changes from call to call. Zero-initialise; free with
// device_copy_free.
typedef struct {
    void *p;
    size_t cap;
} DeviceCopy;

// Room for `bytes`, so that the copy stays where it is. What was there is lost if it has to grow.
static inline void device_copy_reserve(DeviceCopy *m, const Ops *ops, size_t bytes) {
    if (ops->host_memory || bytes <= m->cap) return;
    if (m->p) ops->release(m->p);
    m->cap = bytes;
    m->p = ops->alloc(bytes);
}

// host[bytes] where an operation can read it: itself, or the copy.
static inline const void *device_copy(DeviceCopy *m, const Ops *ops, const void *host, size_t bytes) {
    if (ops->host_memory || bytes == 0) return host;
    if (bytes > m->cap) device_copy_reserve(m, ops, 2 * bytes);
    ops->upload(m->p, host, bytes);
    return m->p;
}

static inline void device_copy_free(DeviceCopy *m, const Ops *ops) {
    if (m->p) ops->release(m->p);
    m->p = NULL;
    m->cap = 0;
}

#endif
