/*
The output side: log-probs of given tokens, entropy, the logits' gradient. As in cpu/output.h, where the same words are
defined, a row is cut into chunks of OUTPUT_CHUNK logits at fixed places. A block reads a chunk once, keeps it in
registers and leaves its largest z and its sum of exp(z - largest); the few chunk sums of a row are added in order, in
double. So a row's bits do not depend on its batch, and the trainer's log-prob is the sampler's (sample.cuh).

z = logit * (1/temperature). A row with a NaN or +inf logit has a NaN sum, hence lse, logprob and entropy NaN and token
-1. -inf is a token of probability 0. Products that two kernels must round alike are written with __fmul_rn, which is
never fused.
*/
#ifndef LLMC_CUDA_OUTPUT_CUH
#define LLMC_CUDA_OUTPUT_CUH

#include "llmc/cuda/memory.cuh"

#define OUTPUT_CHUNK 4096
#define OUTPUT_THREADS 256 // 16 logits each

typedef struct {
    float max, sum, moment;
} OutputChunk; // largest z, sum of e = exp(z - max), sum of e (z - max)
typedef struct {
    float max, lse;
    double total;
} OutputRow; // largest z, log sum exp(z), sum of exp(z - max)

static inline int output_chunks_of(int V) { return (V + OUTPUT_CHUNK - 1) / OUTPUT_CHUNK; }

__device__ __forceinline__ float output_z(float logit, float inv_t) { return __fmul_rn(logit, inv_t); }
__device__ __forceinline__ float output_logprob(float logit, float inv_t, float lse) {
    return __fsub_rn(__fmul_rn(logit, inv_t), lse);
}

// Four logits from `at` of a row of V on; -inf after its end, which adds nothing.
template <bool WIDE> __device__ __forceinline__ float4 output_load4(const float *row, int at, int V) {
    if (WIDE) return at < V ? *(const float4 *)(row + at) : make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
    return make_float4(at < V ? row[at] : -INFINITY, at + 1 < V ? row[at + 1] : -INFINITY,
                       at + 2 < V ? row[at + 2] : -INFINITY, at + 3 < V ? row[at + 3] : -INFINITY);
}

// Block i: chunk i % n_chunks of row i / n_chunks.
template <bool WIDE>
__global__ void __launch_bounds__(OUTPUT_THREADS)
    output_chunks_kernel(OutputChunk *chunks, const float *logits, float inv_t, int n_chunks, int V) {
    SHARED(float, parts, [OUTPUT_THREADS / 32]);
    const float *row = logits + (size_t)(blockIdx.x / n_chunks) * V;
    const int first = (int)(blockIdx.x % n_chunks) * OUTPUT_CHUNK;
    float z[16], top = -INFINITY, sum = 0, moment = 0;
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        float4 v = output_load4<WIDE>(row, first + 4 * ((int)threadIdx.x + i * OUTPUT_THREADS), V);
        z[4 * i] = output_z(v.x, inv_t);
        z[4 * i + 1] = output_z(v.y, inv_t);
        z[4 * i + 2] = output_z(v.z, inv_t);
        z[4 * i + 3] = output_z(v.w, inv_t);
    }
    #pragma unroll
    for (int i = 0; i < 16; i++)
        if (z[i] > top) top = z[i];
    top = block_reduce<Largest>(top, parts);
    const float base = top > -INFINITY ? top : 0.0f; // nothing but -inf (or NaN): their sum is 0 (or NaN)
    #pragma unroll
    for (int i = 0; i < 16; i++) {
        float below = z[i] - base, e = expf(below);
        sum += e;
        moment += e * (below < -100.0f ? -100.0f : below); // the bound keeps 0 * -inf out; below it e is 0
    }
    sum = block_reduce<Sum>(sum, parts);
    moment = block_reduce<Sum>(moment, parts);
    if (threadIdx.x == 0) chunks[blockIdx.x] = {top, sum, moment};
}

static size_t output_chunks_bytes(int n, int V) { return (size_t)n * output_chunks_of(V) * sizeof(OutputChunk); }

// [n, n_chunks] in the backend's scratch, valid until the next call.
static OutputChunk *output_chunks(const float *logits, float inv_t, int n, int V) {
    int n_chunks = output_chunks_of(V);
    OutputChunk *chunks = (OutputChunk *)cuda_scratch(&cuda.output, output_chunks_bytes(n, V));
    bool wide = V % 4 == 0 && aligned16(logits);
    LAUNCH_WIDE(wide, output_chunks_kernel, (unsigned)((size_t)n * n_chunks), OUTPUT_THREADS,
                (chunks, logits, inv_t, n_chunks, V));
    return chunks;
}

// how much of exp(z - row's max) is in the chunk
__device__ __forceinline__ double output_share(const OutputChunk &c, float row_max) {
    return exp((double)c.max - row_max) * c.sum;
}

// What the chunks of a row come to, by one thread.
__device__ __forceinline__ OutputRow output_row(const OutputChunk *c, int n_chunks) {
    OutputRow row = {-INFINITY, 0, 0};
    for (int i = 0; i < n_chunks; i++)
        if (c[i].max > row.max) row.max = c[i].max;
    for (int i = 0; i < n_chunks; i++) row.total += output_share(c[i], row.max);
    row.lse = (float)(row.max + log(row.total));
    return row;
}

// -sum p log p = log total - sum e (z - max) / total
__device__ __forceinline__ float output_entropy(const OutputChunk *c, int n_chunks, const OutputRow &row) {
    double moment = 0;
    for (int i = 0; i < n_chunks; i++) {
        double below = (double)c[i].max - row.max;
        if (c[i].sum > 0) moment += exp(below) * (c[i].moment + below * c[i].sum);
    }
    return (float)(log(row.total) - moment / row.total);
}

// one thread a row, in blocks of one warp
__global__ void logprob_rows_kernel(float *logprob, float *lse, float *entropy, const OutputChunk *chunks,
                                    const float *logits, const int *target, float inv_t, int n, int n_chunks, int V) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    const OutputChunk *c = chunks + (size_t)i * n_chunks;
    OutputRow row = output_row(c, n_chunks);
    lse[i] = row.lse;
    logprob[i] = output_logprob(logits[(size_t)i * V + target[i]], inv_t, row.lse);
    if (entropy) entropy[i] = output_entropy(c, n_chunks, row);
}

void cuda_logprob_rows(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                       float temperature, int n, int V) {
    if (n == 0) return;
    float inv_t = 1.0f / temperature;
    OutputChunk *chunks = output_chunks(logits, inv_t, n, V);
    LAUNCH(logprob_rows_kernel, blocks_for((size_t)n, 32), 32, 0, cuda_stream)
    (logprob, lse, entropy, chunks, logits, target, inv_t, n, output_chunks_of(V), V);
    CUDA_CHECK(cudaGetLastError());
}

// 8 logits a thread; a block's are of one row
template <bool WIDE>
__global__ void __launch_bounds__(256)
    dlogits_rows_kernel(bf16 *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                        float inv_t, int row_blocks, int V) {
    int row = (int)(blockIdx.x / row_blocks), v = 8 * ((int)(blockIdx.x % row_blocks) * 256 + (int)threadIdx.x);
    if (v >= V) return;
    float x[8], scale = dlogprob[row] * inv_t, row_lse = lse[row];
    size_t at = (size_t)row * V + v;
    int t = target[row];
    load8<WIDE>(x, logits + at, V - v);
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        float p = expf(output_logprob(x[i], inv_t, row_lse));
        x[i] = v + i == t ? scale * (1.0f - p) : -scale * p;
    }
    store8<WIDE>(dlogits + at, x, V - v);
}

void cuda_dlogits_rows(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob,
                       float temperature, int n, int V) {
    if (n == 0) return;
    int row_blocks = (int)blocks_for((size_t)V, 8 * 256);
    bool wide = V % 8 == 0 && aligned16(dlogits) && aligned16(logits);
    LAUNCH_WIDE(wide, dlogits_rows_kernel, (unsigned)((size_t)n * row_blocks), 256,
                ((bf16 *)dlogits, logits, lse, target, dlogprob, 1.0f / temperature, row_blocks, V));
}

#endif
