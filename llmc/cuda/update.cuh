/*
The update of the vectors, in double as ops_host.h does it: the length of the gradient, AdamW, and momentum.
*/
#ifndef LLMC_CUDA_UPDATE_CUH
#define LLMC_CUDA_UPDATE_CUH

#include <math.h> // pow, sqrt

#include "llmc/cuda/memory.cuh"

#define UPDATE_THREADS 256
#define NORM_BYTES (NORM_BLOCKS * sizeof(double))
#define NORM_BLOCKS 64 // a fixed number, so that the order of the sum depends on n alone

// Block b's part of the sum of squares.
__global__ void __launch_bounds__(UPDATE_THREADS) squares_kernel(double *part, const float *g, size_t n) {
    SHARED(double, parts, [UPDATE_THREADS / 32]);
    double sum = 0;
    for (size_t i = (size_t)blockIdx.x * UPDATE_THREADS + threadIdx.x; i < n; i += (size_t)NORM_BLOCKS * UPDATE_THREADS)
        sum += (double)g[i] * g[i];
    sum = block_reduce<Sum>(sum, parts);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

double cuda_gradient_norm(const float *g, size_t n) {
    double part[NORM_BLOCKS], sum = 0;
    double *there = (double *)cuda_scratch(&cuda.update, NORM_BYTES);
    LAUNCH(squares_kernel, NORM_BLOCKS, UPDATE_THREADS, 0, cuda_stream)(there, g, n);
    CUDA_CHECK(cudaGetLastError());
    cuda_download(part, there, sizeof part);
    for (int b = 0; b < NORM_BLOCKS; b++) sum += part[b];
    return sqrt(sum);
}

// Products and sums one by one, as on the host: nvcc would fuse them.
__device__ __forceinline__ double mul(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double add(double a, double b) { return __dadd_rn(a, b); }

__global__ void __launch_bounds__(UPDATE_THREADS)
    adamw_kernel(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n,
                 double correction1, double correction2, AdamW a) {
    size_t i = (size_t)blockIdx.x * UPDATE_THREADS + threadIdx.x;
    if (i >= n) return;
    float gi = (float)mul(g[i], scale), m, v;
    m = exp_avg[i] = (float)add(mul(a.beta1, exp_avg[i]), mul(1 - a.beta1, gi));
    v = exp_avg_sq[i] = (float)add(mul(a.beta2, exp_avg_sq[i]), mul(mul(1 - a.beta2, gi), gi));
    double denominator = add(sqrt(v / correction2), a.epsilon);
    x[i] = (float)add(mul(x[i], add(1, -mul(a.learning_rate, a.weight_decay))),
                      -(mul(a.learning_rate, m) / correction1 / denominator));
}

void cuda_adamw_update(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale, size_t n, int step,
                       const AdamW *a) {
    if (n == 0) return;
    LAUNCH(adamw_kernel, blocks_for(n, UPDATE_THREADS), UPDATE_THREADS, 0, cuda_stream)
    (x, exp_avg, exp_avg_sq, g, scale, n, 1 - pow(a->beta1, step), 1 - pow(a->beta2, step), *a);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void __launch_bounds__(UPDATE_THREADS)
    momentum_kernel(float *x, float *exp_avg, const float *g, double scale, size_t n, double correction1,
                    double learning_rate, double beta1) {
    const size_t i = (size_t)blockIdx.x * UPDATE_THREADS + threadIdx.x;
    if (i >= n) return;
    const float gi = (float)mul(g[i], scale), m = (float)add(mul(beta1, exp_avg[i]), mul(1 - beta1, gi));
    exp_avg[i] = m;
    x[i] = (float)add(x[i], -(mul(learning_rate, m) / correction1));
}

void cuda_momentum_update(float *x, float *exp_avg, const float *g, double scale, size_t n, int step,
                          double learning_rate, double beta1) {
    if (n == 0) return;
    LAUNCH(momentum_kernel, blocks_for(n, UPDATE_THREADS), UPDATE_THREADS, 0, cuda_stream)
    (x, exp_avg, g, scale, n, 1 - pow(beta1, step), learning_rate, beta1);
    CUDA_CHECK(cudaGetLastError());
}

#endif
