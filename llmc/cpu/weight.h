/*
The gradient of a weight on `cpu`, dw[N,K] += dy[T,N]^T x[T,K]: a product of matmul_forward, whose sums run over the
columns of its input and its weight, so both are turned first: dy^T [N,T] is the input, some rows at a time, and x^T
[K,T] the weight.
*/
#ifndef LLMC_CPU_WEIGHT_H
#define LLMC_CPU_WEIGHT_H

#include "llmc/cpu/matmul.h"

#define WEIGHT_ROWS 2048 // of dw at a time

static void SIMD_NAME(matmul_weight_backward)(float *dw, const act *dy, const act *x, int T, int N, int K) {
    if (T == 0) return;
    const int most = N < WEIGHT_ROWS ? N : WEIGHT_ROWS;
    bf16_t *turned_x = (bf16_t *)cpu_scratch((size_t)K * T * sizeof(bf16_t)),
           *turned_dy = (bf16_t *)cpu_scratch((size_t)most * T * sizeof(bf16_t));
    float *product = (float *)cpu_scratch((size_t)most * K * sizeof(float));
    Weight w;
    cpu_turn(turned_x, (const bf16_t *)x, T, K, K);
    const RawTensor raw = {"x transposed", DTYPE_BF16, 2, {K, T, 0, 0}, turned_x};
    SIMD_NAME(weight_load)(&w, &raw, 1);
    for (int n = 0; n < N; n += WEIGHT_ROWS) {
        const int rows = N - n < WEIGHT_ROWS ? N - n : WEIGHT_ROWS;
        const int64_t all = (int64_t)rows * K;
        float *to = dw + (size_t)n * K;
        cpu_turn(turned_dy, (const bf16_t *)dy + n, T, rows, N);
        SIMD_NAME(matmul_forward)(product, turned_dy, &w, NULL, rows);
        #pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < all; i++) to[i] += product[i];
    }
    cpu_weight_free(&w);
    free(turned_x);
    free(turned_dy);
    free(product);
}

#endif
