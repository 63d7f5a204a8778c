/*
Products with matrices of few rows (LoRA), in fp32. What they compute is said in ops.h. Each element of an output has
one chain or one tree of additions of its own, which knows nothing of the rows beside it.
*/
#ifndef LLMC_CUDA_LORA_CUH
#define LLMC_CUDA_LORA_CUH

#include "llmc/cuda/common.cuh"

#define LORA_THREADS 256
#define LORA_GROUP 4 // rows of a gradient that a thread sums up at once

// A warp per element of u.
__global__ void __launch_bounds__(LORA_THREADS)
    lora_down_kernel(float *u, const bf16 *x, int ld, const float *a, float scale, size_t all, int K, int r) {
    const size_t i = (size_t)blockIdx.x * (LORA_THREADS / 32) + threadIdx.x / 32;
    if (i >= all) return;
    const bf16 *row = x + i / r * ld;
    const float *factor = a + i % r * K;
    float sum = 0;
    for (int k = (int)threadIdx.x % 32; k < K; k += 32) sum += to_float(row[k]) * factor[k];
    sum = warp_reduce<Sum>(sum);
    if (threadIdx.x % 32 == 0) u[i] = scale * sum;
}

void cuda_lora_down(float *u, const act *x, int ld, const float *a, float scale, int T, int K, int r) {
    const size_t all = (size_t)T * r;
    if (all == 0) return;
    LAUNCH(lora_down_kernel, blocks_for(all, LORA_THREADS / 32), LORA_THREADS, 0, cuda_stream)(u, (const bf16 *)x, ld,
                                                                                               a, scale, all, K, r);
    CUDA_CHECK(cudaGetLastError());
}

// A thread per element of y.
__global__ void __launch_bounds__(LORA_THREADS)
    lora_up_kernel(float *y, int ld, const float *u, const float *b, size_t all, int N, int r) {
    const size_t i = (size_t)blockIdx.x * LORA_THREADS + threadIdx.x;
    if (i >= all) return;
    const size_t t = i / N, n = i % N;
    float sum = 0;
    for (int j = 0; j < r; j++) sum += u[t * r + j] * b[(size_t)j * N + n];
    y[t * ld + n] += sum;
}

void cuda_lora_up(float *y, int ld, const float *u, const float *b, int T, int N, int r) {
    const size_t all = (size_t)T * N;
    if (all == 0) return;
    LAUNCH(lora_up_kernel, blocks_for(all, LORA_THREADS), LORA_THREADS, 0, cuda_stream)(y, ld, u, b, all, N, r);
    CUDA_CHECK(cudaGetLastError());
}

// A thread per column, for LORA_GROUP rows of g.
__global__ void __launch_bounds__(LORA_THREADS)
    lora_grad_kernel(float *g, const float *u, const bf16 *x, int ld, int T, int K, int r) {
    const int k = (int)(blockIdx.x * LORA_THREADS + threadIdx.x), first = (int)blockIdx.y * LORA_GROUP;
    if (k >= K) return;
    float sum[LORA_GROUP];
    #pragma unroll
    for (int j = 0; j < LORA_GROUP; j++) sum[j] = first + j < r ? g[(size_t)(first + j) * K + k] : 0;
    for (int t = 0; t < T; t++) {
        const float v = to_float(x[(size_t)t * ld + k]);
        #pragma unroll
        for (int j = 0; j < LORA_GROUP; j++)
            if (first + j < r) sum[j] += u[(size_t)t * r + first + j] * v;
    }
    #pragma unroll
    for (int j = 0; j < LORA_GROUP; j++)
        if (first + j < r) g[(size_t)(first + j) * K + k] = sum[j];
}

void cuda_lora_grad(float *g, const float *u, const act *x, int ld, int T, int K, int r) {
    if (T == 0 || r == 0) return;
    const dim3 grid(blocks_for((size_t)K, LORA_THREADS), blocks_for((size_t)r, LORA_GROUP));
    LAUNCH(lora_grad_kernel, grid, LORA_THREADS, 0, cuda_stream)(g, u, (const bf16 *)x, ld, T, K, r);
    CUDA_CHECK(cudaGetLastError());
}

#endif
