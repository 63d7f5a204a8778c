/*
The update of the vectors: the length of their gradient, and AdamW. In double, as on the CPU: a few thousand numbers.
*/
#ifndef LLMC_CUDA_UPDATE_CUH
#define LLMC_CUDA_UPDATE_CUH

#include "llmc/cuda/memory.cuh"

#define NORM_THREADS 1024

__global__ void squares_kernel(double *sum, const float *g, size_t n) {
    SHARED(double, parts, [32]);
    double squares = 0;
    for (size_t i = threadIdx.x; i < n; i += NORM_THREADS) squares += (double)g[i] * g[i];
    squares = block_sum(squares, parts);
    if (threadIdx.x == 0) *sum = squares;
}

static double cuda_gradient_norm(const float *g, size_t n) {
    double *there = (double *)cuda_scratch(sizeof(double)), squares;
    LAUNCH(squares_kernel, 1, NORM_THREADS, 0, cuda_stream)(there, g, n);
    CUDA_CHECK(cudaGetLastError());
    cuda_download(&squares, there, sizeof squares);
    return sqrt(squares);
}

__global__ void adamw_kernel(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n, double correction1, double correction2, AdamW a) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float gi = (float)(g[i] * scale);
    const float m = (float)(a.beta1 * exp_avg[i] + (1 - a.beta1) * gi), v = (float)(a.beta2 * exp_avg_sq[i] + (1 - a.beta2) * gi * gi);
    const double denominator = sqrt(v / correction2) + a.epsilon;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    x[i] = (float)(x[i] * (1 - a.learning_rate * a.weight_decay) - a.learning_rate * m / correction1 / denominator);
}

static void cuda_adamw_update(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n, int step, const AdamW *a) {
    LAUNCH(adamw_kernel, cuda_blocks(n, 256), 256, 0, cuda_stream)(x, exp_avg, exp_avg_sq, g, scale, n, 1 - pow(a->beta1, step), 1 - pow(a->beta2, step), *a);
    CUDA_CHECK(cudaGetLastError());
}

#endif
