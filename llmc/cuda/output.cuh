/*
The output layer over rows of logits[n,V]: log-probs, entropy, and the gradient of the logits. One pass over a row gives all
sums: the largest value so far is kept with them, and they are rescaled where it rises (Milakov & Gimelshein 2018, arXiv
1805.02867). See ops.h.
*/
#ifndef LLMC_CUDA_OUTPUT_CUH
#define LLMC_CUDA_OUTPUT_CUH

#include "llmc/cuda/common.cuh"

#define OUTPUT_THREADS 512

// Of some of the values z: m = max z, s = sum exp(z - m), e = sum exp(z - m) (z - m).
struct RowSums { float m, s, e; };

__device__ __forceinline__ RowSums row_sums_none() { return {-INFINITY, 0, 0}; }

// The sums moved to another m, at least as large.
__device__ __forceinline__ RowSums row_sums_at(RowSums a, float m) {
    if (a.m == m || a.s == 0) return {m, a.s, a.e};
    const float d = a.m - m, f = expf(d);
    return {m, a.s * f, f * (a.e + a.s * d)};
}

__device__ __forceinline__ RowSums row_sums_join(RowSums a, RowSums b) {
    const float m = fmaxf(a.m, b.m);
    a = row_sums_at(a, m);
    b = row_sums_at(b, m);
    return {m, a.s + b.s, a.e + b.e};
}

// Of a whole row, to every thread of a block of OUTPUT_THREADS. z = logits * inv_t. `parts` [OUTPUT_THREADS / 32].
__device__ __forceinline__ RowSums row_sums(const float *logits, float inv_t, int V, RowSums *parts) {
    RowSums sums = row_sums_none();
    const bool vector = V % 4 == 0;
    for (int v = (vector ? 4 : 1) * threadIdx.x; v < V; v += (vector ? 4 : 1) * OUTPUT_THREADS) {
        float z[4];
        if (vector) *(Floats<4> *)z = *(const Floats<4> *)(logits + v);
        else z[0] = logits[v];
        float m = sums.m;
        for (int i = 0; i < (vector ? 4 : 1); i++) {
            z[i] *= inv_t;
            m = fmaxf(m, z[i]);
        }
        sums = row_sums_at(sums, m);
        for (int i = 0; i < (vector ? 4 : 1); i++) {
            const float d = z[i] - m, p = expf(d);
            sums.s += p;
            if (p > 0) sums.e += p * d;
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        const RowSums other = {__shfl_xor_sync(0xFFFFFFFFu, sums.m, step), __shfl_xor_sync(0xFFFFFFFFu, sums.s, step), __shfl_xor_sync(0xFFFFFFFFu, sums.e, step)};
        sums = threadIdx.x & step ? row_sums_join(other, sums) : row_sums_join(sums, other);
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sums;
    __syncthreads();
    sums = parts[0];
    for (int i = 1; i < OUTPUT_THREADS / 32; i++) sums = row_sums_join(sums, parts[i]);
    return sums;
}

__global__ void __launch_bounds__(OUTPUT_THREADS) logprob_kernel(float *logprob, float *lse, float *entropy, const float *logits, const int *target, float inv_t, int V) {
    SHARED(RowSums, parts, [OUTPUT_THREADS / 32]);
    const int i = blockIdx.x;
    const float *row = logits + (size_t)i * V;
    const RowSums sums = row_sums(row, inv_t, V, parts);
    if (threadIdx.x > 0) return;
    const float l = sums.m + logf(sums.s);
    lse[i] = l;
    logprob[i] = row[target[i]] * inv_t - l;
    if (entropy) entropy[i] = logf(sums.s) - sums.e / sums.s;
}

static void cuda_logprob_rows(float *logprob, float *lse, float *entropy, const float *logits, const int *target, float temperature, int n, int V) {
    if (n == 0) return;
    LAUNCH(logprob_kernel, n, OUTPUT_THREADS, 0, cuda_stream)(logprob, lse, entropy, logits, target, 1.0f / temperature, V);
    CUDA_CHECK(cudaGetLastError());
}

#define DLOGITS_THREADS 256

// N columns per thread; rows along x, since there may be more than 65,535.
template <int N>
__global__ void dlogits_kernel(bf16 *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob, float inv_t, int V) {
    const int row = blockIdx.x, v = N * (blockIdx.y * DLOGITS_THREADS + threadIdx.x);
    if (v >= V) return;
    const float l = lse[row], scale = dlogprob[row] * inv_t;
    const int t = target[row] - v;
    const Floats<N> z = *(const Floats<N> *)(logits + (size_t)row * V + v);
    Bf16s<N> out;
    for (int i = 0; i < N; i++) out.x[i] = __float2bfloat16(scale * ((i == t ? 1.0f : 0.0f) - expf(z.x[i] * inv_t - l)));
    *(Bf16s<N> *)(dlogits + (size_t)row * V + v) = out;
}

static void cuda_dlogits_rows(act *dlogits, const float *logits, const float *lse, const int *target, const float *dlogprob, float temperature, int n, int V) {
    if (n == 0) return;
    auto kernel = V % 4 == 0 ? dlogits_kernel<4> : dlogits_kernel<1>;
    const dim3 grid((unsigned)n, cuda_blocks((size_t)V, (V % 4 == 0 ? 4 : 1) * DLOGITS_THREADS));
    LAUNCH(kernel, grid, DLOGITS_THREADS, 0, cuda_stream)((bf16 *)dlogits, logits, lse, target, dlogprob, 1.0f / temperature, V);
    CUDA_CHECK(cudaGetLastError());
}

#endif
