/*
Attention straight from its formula, one thread per query vector or per key: the reference of the attention kernels in
llmc/cuda, with the same contract (ops.h) and the same cache layout (llmc/cuda/rope.cuh). With p = exp(q k / sqrt(HD) -
lse) and D = dout . out:

    out = sum p v,   ds = p (dout . v - D) / sqrt(HD),   dq = sum ds k,   dk = sum ds q,   dv = sum p dout
*/
#ifndef DEV_CUDA_ATTENTION_PLAIN_CUH
#define DEV_CUDA_ATTENTION_PLAIN_CUH

#include "llmc/cuda/rope.cuh" // kv_page_at

#define PLAIN_MAX_HD 256
#define PLAIN_THREADS 128

// What all kernels are told: the cache's pages of one layer, the sequences.
struct PlainAttention {
    const bf16 *k, *v;
    const Sequence *sequences;
    int n_sequences, n_pages, NH, NKV, HD, layer;
};

// The sequence of a row, -1: none.
__device__ int plain_sequence(const PlainAttention &a, int row) {
    for (int s = 0; s < a.n_sequences; s++)
        if (row >= a.sequences[s].row0 && row < a.sequences[s].row0 + a.sequences[s].T) return s;
    return -1;
}

// Where the key and the value of a position lie.
__device__ size_t plain_key_at(const PlainAttention &a, const Sequence &g, int position, int kv_head) {
    return kv_page_at(a.layer, g.pages[position / KV_PAGE], kv_head, a.n_pages, a.NKV, a.HD) +
           position % KV_PAGE * a.HD;
}

__device__ float plain_dot(const bf16 *x, const bf16 *y, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += __bfloat162float(x[i]) * __bfloat162float(y[i]);
    return sum;
}

__device__ float plain_dot(const float *x, const bf16 *y, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * __bfloat162float(y[i]);
    return sum;
}

// One thread per row and head, in turns.
__global__ void plain_attention_forward_kernel(bf16 *out, float *lse, const bf16 *q, PlainAttention a) {
    const Sequence &end = a.sequences[a.n_sequences - 1];
    float scale = 1.0f / sqrtf((float)a.HD), sum_v[PLAIN_MAX_HD];
    size_t n = (size_t)(end.row0 + end.T) * a.NH;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < n; at += (size_t)gridDim.x * blockDim.x) {
        int row = (int)(at / a.NH), kv_head = (int)(at % a.NH) / (a.NH / a.NKV), s = plain_sequence(a, row);
        if (s < 0) continue;
        const Sequence g = a.sequences[s];
        float max = -INFINITY, sum = 0;
        int keys = g.pos0 + row - g.row0 + 1;
        for (int j = 0; j < keys; j++)
            max = fmaxf(max, plain_dot(q + at * a.HD, a.k + plain_key_at(a, g, j, kv_head), a.HD) * scale);
        for (int d = 0; d < a.HD; d++) sum_v[d] = 0;
        for (int j = 0; j < keys; j++) {
            size_t key = plain_key_at(a, g, j, kv_head);
            float p = expf(plain_dot(q + at * a.HD, a.k + key, a.HD) * scale - max);
            sum += p;
            for (int d = 0; d < a.HD; d++) sum_v[d] += p * __bfloat162float(a.v[key + d]);
        }
        for (int d = 0; d < a.HD; d++) out[at * a.HD + d] = __float2bfloat16(sum_v[d] / sum);
        if (lse) lse[at] = max + logf(sum);
    }
}

// dq: one thread per row and head.
__global__ void plain_attention_dq_kernel(float *dq, const float *dout, const bf16 *out, const float *lse,
                                          const bf16 *q, PlainAttention a, int T) {
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (size_t)T * a.NH) return;
    int row = (int)(at / a.NH), kv_head = (int)(at % a.NH) / (a.NH / a.NKV), s = plain_sequence(a, row);
    float scale = 1.0f / sqrtf((float)a.HD), D = plain_dot(dout + at * a.HD, out + at * a.HD, a.HD);
    for (int d = 0; d < a.HD; d++) dq[at * a.HD + d] = 0;
    if (s < 0) return;
    const Sequence g = a.sequences[s];
    for (int j = 0; j <= g.pos0 + row - g.row0; j++) {
        size_t key = plain_key_at(a, g, j, kv_head);
        float p = expf(plain_dot(q + at * a.HD, a.k + key, a.HD) * scale - lse[at]);
        float ds = p * (plain_dot(dout + at * a.HD, a.v + key, a.HD) - D) * scale;
        for (int d = 0; d < a.HD; d++) dq[at * a.HD + d] += ds * __bfloat162float(a.k[key + d]);
    }
}

// dk, dv: one thread per row and key/value head, which looks for all queries that see its key.
__global__ void plain_attention_dkv_kernel(float *dk, float *dv, const float *dout, const bf16 *out, const float *lse,
                                           const bf16 *q, PlainAttention a, int T) {
    size_t key_at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (key_at >= (size_t)T * a.NKV) return;
    int key_row = (int)(key_at / a.NKV), kv_head = (int)(key_at % a.NKV), G = a.NH / a.NKV,
        own = plain_sequence(a, key_row);
    float scale = 1.0f / sqrtf((float)a.HD);
    for (int d = 0; d < a.HD; d++) dk[key_at * a.HD + d] = dv[key_at * a.HD + d] = 0;
    if (own < 0) return;
    int position = a.sequences[own].pos0 + key_row - a.sequences[own].row0;
    size_t key = plain_key_at(a, a.sequences[own], position, kv_head);
    for (int s = 0; s < a.n_sequences; s++) {
        const Sequence g = a.sequences[s];
        if ((position < g.pos0 ? g.prefix_row0 + position : g.row0 + position - g.pos0) != key_row) continue;
        for (int t = max(0, position - g.pos0); t < g.T; t++)
            for (int h = kv_head * G; h < (kv_head + 1) * G; h++) {
                size_t at = (size_t)(g.row0 + t) * a.NH + h;
                float p = expf(plain_dot(q + at * a.HD, a.k + key, a.HD) * scale - lse[at]);
                float D = plain_dot(dout + at * a.HD, out + at * a.HD, a.HD);
                float ds = p * (plain_dot(dout + at * a.HD, a.v + key, a.HD) - D) * scale;
                for (int d = 0; d < a.HD; d++) {
                    dk[key_at * a.HD + d] += ds * __bfloat162float(q[at * a.HD + d]);
                    dv[key_at * a.HD + d] += p * dout[at * a.HD + d];
                }
            }
    }
}

void plain_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                             const Sequence *sequences, int n_sequences, int NH) {
    PlainAttention a = {
        (const bf16 *)kv->k, (const bf16 *)kv->v, sequences, n_sequences, kv->n_pages, NH, kv->NKV, kv->HD, layer};
    LAUNCH(plain_attention_forward_kernel, 256, PLAIN_THREADS, 0, cuda_stream)((bf16 *)out, lse, (const bf16 *)q, a);
    CUDA_CHECK(cudaGetLastError());
}

void plain_attention_backward(float *dq, float *dk, float *dv, const float *dout, const act *out, const float *lse,
                              const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                              int T, int NH) {
    PlainAttention a = {
        (const bf16 *)kv->k, (const bf16 *)kv->v, sequences, n_sequences, kv->n_pages, NH, kv->NKV, kv->HD, layer};
    unsigned queries = (unsigned)(((size_t)T * NH + PLAIN_THREADS - 1) / PLAIN_THREADS);
    unsigned keys = (unsigned)(((size_t)T * kv->NKV + PLAIN_THREADS - 1) / PLAIN_THREADS);
    LAUNCH(plain_attention_dq_kernel, queries, PLAIN_THREADS, 0, cuda_stream)
    (dq, dout, (const bf16 *)out, lse, (const bf16 *)q, a, T);
    CUDA_CHECK(cudaGetLastError());
    LAUNCH(plain_attention_dkv_kernel, keys, PLAIN_THREADS, 0, cuda_stream)
    (dk, dv, dout, (const bf16 *)out, lse, (const bf16 *)q, a, T);
    CUDA_CHECK(cudaGetLastError());
}

#endif
