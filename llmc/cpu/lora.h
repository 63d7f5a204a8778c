/*
Products with matrices of few rows (LoRA), in fp32. They run for every token that is sampled too, beside products some
hundred times their size.

Each output element has one chain of additions that knows nothing of the rows beside its own, of blocks or of threads.
*/
#ifndef LLMC_CPU_LORA_H
#define LLMC_CPU_LORA_H

#include "llmc/cpu/rows.h"

#define LORA_COLUMNS 64 // of a unit of lora_grad, pieces of two vectors
#define LORA_ROWS 256   // of x that stay in the L1 cache while all rows of u have their turn: 32 KiB

#define lora_down_rows SIMD_NAME(lora_down_rows)
#define lora_up_row SIMD_NAME(lora_up_row)
#define lora_grad_unit SIMD_NAME(lora_grad_unit)

// Four at a time of what there are r of, the last n < 4 apart: f(4, ...) is compiled for a constant number.
#define LORA_BY_FOUR(j, r, f, ...) \
    for (int j = 0; j < (r); j += 4) switch ((r) - j) { \
        case 1: f(1, __VA_ARGS__); break; \
        case 2: f(2, __VA_ARGS__); break; \
        case 3: f(3, __VA_ARGS__); break; \
        default: f(4, __VA_ARGS__); \
        }

// Rows of x that take their dot products at once, so that the rows of a are read once for all of them: as many as there
// are registers.
#if SIMD_VECTORS == SIMD_AVX512
#define LORA_TILE 4
#else
#define LORA_TILE 1
#endif

// n columns of `rows` rows of u = scale * x . rows of a
SIMD_INLINE void lora_dots(int n, int rows, float *u, const bf16_t *x, int ld, const float *a, float scale, int K,
                           int r) {
    vf sum[LORA_TILE][4][VF_PARTS];
    for (int t = 0; t < rows; t++)
        for (int j = 0; j < n; j++)
            for (int part = 0; part < VF_PARTS; part++) sum[t][j][part] = vf_zero();
    for (int at = 0; at < K; at += 16)
        for (int part = 0; part < VF_PARTS; part++) {
            const int k = at + part * VF_LANES;
            vf v[LORA_TILE];
            for (int t = 0; t < rows; t++) v[t] = vf_get_bf16(x + (size_t)t * ld + k, K - k);
            for (int j = 0; j < n; j++) {
                const vf factor = vf_get(a + (size_t)j * K + k, K - k);
                for (int t = 0; t < rows; t++) sum[t][j][part] = vf_fma(v[t], factor, sum[t][j][part]);
            }
        }
    for (int t = 0; t < rows; t++)
        for (int j = 0; j < n; j++) u[(size_t)t * r + j] = scale * vf_sum(sum[t][j]);
}

// LORA_TILE rows, or those that are left of T
static void lora_down_rows(float *u, const bf16_t *x, int ld, const float *a, float scale, int T, int K, int r) {
    if (T >= LORA_TILE) {
        LORA_BY_FOUR(j, r, lora_dots, LORA_TILE, u + j, x, ld, a + (size_t)j * K, scale, K, r)
        return;
    }
    for (int t = 0; t < T; t++)
        LORA_BY_FOUR(j, r, lora_dots, 1, u + (size_t)t * r + j, x + (size_t)t * ld, ld, a + (size_t)j * K, scale, K, r)
}

static void lora_up_row(float *y, const float *u, const float *b, int N, int r) {
    for (int n = 0; n < N; n += VF_LANES) {
        vf sum = vf_zero();
        for (int j = 0; j < r; j++) sum = vf_fma(vf_set1(u[j]), vf_get(b + (size_t)j * N + n, N - n), sum);
        vf_put(y + n, vf_get(y + n, N - n) + sum, N - n);
    }
}

// `columns` (2 VF_LANES at most) of n rows of g, whose rows lie K apart, take T rows
SIMD_INLINE void lora_grad_tile(int n, float *g, const float *u, const bf16_t *x, int ld, int T, int columns, int K,
                                int r) {
    vf sum[4][2];
    for (int j = 0; j < n; j++)
        for (int i = 0; i < 2; i++)
            sum[j][i] =
                columns > VF_LANES * i ? vf_get(g + (size_t)j * K + VF_LANES * i, columns - VF_LANES * i) : vf_zero();
    for (int t = 0; t < T; t++) {
        const bf16_t *row = x + (size_t)t * ld;
        const vf v[2] = {vf_get_bf16(row, columns),
                         columns > VF_LANES ? vf_get_bf16(row + VF_LANES, columns - VF_LANES) : vf_zero()};
        for (int j = 0; j < n; j++)
            for (int i = 0; i < 2; i++) sum[j][i] = vf_fma(vf_set1(u[(size_t)t * r + j]), v[i], sum[j][i]);
    }
    for (int j = 0; j < n; j++)
        for (int i = 0; i < 2; i++)
            if (columns > VF_LANES * i) vf_put(g + (size_t)j * K + VF_LANES * i, sum[j][i], columns - VF_LANES * i);
}

// all rows of g, `columns` (LORA_COLUMNS at most) of them
static void lora_grad_unit(float *g, const float *u, const bf16_t *x, int ld, int T, int columns, int K, int r) {
    for (int t = 0; t < T; t += LORA_ROWS) {
        const int rows = T - t < LORA_ROWS ? T - t : LORA_ROWS;
        for (int c = 0; c < columns; c += 2 * VF_LANES)
            LORA_BY_FOUR(j, r, lora_grad_tile, g + (size_t)j * K + c, u + (size_t)t * r + j, x + (size_t)t * ld + c, ld,
                         rows, columns - c < 2 * VF_LANES ? columns - c : 2 * VF_LANES, K, r)
    }
}

static void SIMD_NAME(lora_down)(float *u, const act *x, int ld, const float *a, float scale, int T, int K, int r) {
    #pragma omp parallel for if ((size_t)T * K * r > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t += LORA_TILE)
        lora_down_rows(u + (size_t)t * r, (const bf16_t *)x + (size_t)t * ld, ld, a, scale, T - t, K, r);
}

static void SIMD_NAME(lora_up)(float *y, int ld, const float *u, const float *b, int T, int N, int r) {
    #pragma omp parallel for if ((size_t)T * N * r > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) lora_up_row(y + (size_t)t * ld, u + (size_t)t * r, b, N, r);
}

static void SIMD_NAME(lora_grad)(float *g, const float *u, const act *x, int ld, int T, int K, int r) {
    #pragma omp parallel for schedule(static) if ((size_t)T * K * r > CPU_PARALLEL_MIN)
    for (int k = 0; k < K; k += LORA_COLUMNS)
        lora_grad_unit(g + k, u, (const bf16_t *)x + k, ld, T, K - k < LORA_COLUMNS ? K - k : LORA_COLUMNS, K, r);
}

#endif
