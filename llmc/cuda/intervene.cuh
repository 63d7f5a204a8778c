/*
The operations of interventions (llmc/intervene.h). They run in experiments alone, once a layer: one element a thread,
nothing clever. What they compute is said in ops.h.
*/
#ifndef LLMC_CUDA_INTERVENE_CUH
#define LLMC_CUDA_INTERVENE_CUH

#include "llmc/cuda/common.cuh"

#define INTERVENE_THREADS 256

__global__ void mix_blocks_kernel(float *x, const float *other, const unsigned char *take, size_t all, int blocks,
                                  int n) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all && take[i / n % blocks]) x[i] = other[i];
}

void cuda_mix_blocks(float *x, const float *other, const unsigned char *take, int T, int blocks, int n) {
    const size_t all = (size_t)T * blocks * n;
    if (all == 0) return;
    LAUNCH(mix_blocks_kernel, blocks_for(all, INTERVENE_THREADS), INTERVENE_THREADS, 0, cuda_stream)(x, other, take,
                                                                                                     all, blocks, n);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void act_add_row_kernel(bf16 *x, const float *s, size_t all, int C) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all) x[i] = __float2bfloat16(__bfloat162float(x[i]) + s[i % C]);
}

void cuda_act_add_row(act *x, const float *s, int T, int C) {
    const size_t all = (size_t)T * C;
    if (all == 0) return;
    LAUNCH(act_add_row_kernel, blocks_for(all, INTERVENE_THREADS), INTERVENE_THREADS, 0, cuda_stream)((bf16 *)x, s, all,
                                                                                                      C);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void put_rows_kernel(float *h, const float *v, const int *pos, int at, size_t all, int C) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all && pos[i / C] == at) h[i] = v[i % C];
}

void cuda_put_rows(float *h, const float *v, const int *pos, int at, int T, int C) {
    const size_t all = (size_t)T * C;
    if (all == 0) return;
    LAUNCH(put_rows_kernel, blocks_for(all, INTERVENE_THREADS), INTERVENE_THREADS, 0, cuda_stream)(h, v, pos, at, all,
                                                                                                   C);
    CUDA_CHECK(cudaGetLastError());
}

#endif
