/*
SwiGLU, a = silu(gate) * up: an operation on rows, and the epilogue of a product (tile_amx.h).
*/
#ifndef LLMC_CPU_SWIGLU_H
#define LLMC_CPU_SWIGLU_H

#include "llmc/cpu/shared.h"
#include "llmc/cpu/simd.h"
#include "llmc/utils/threads.h"

#define rows_swiglu SIMD_NAME(rows_swiglu)

// A register of elements, or the last n of a row when fewer are left; where none is (n <= 0), zeros are read and
// nothing is written.
SIMD_INLINE vf vf_get(const float *p, int n) {
    return n >= VF_LANES ? vf_load(p) : n > 0 ? vf_load_n(p, n) : vf_zero();
}
SIMD_INLINE vf vf_get_bf16(const bf16_t *p, int n) {
    return n >= VF_LANES ? vf_load_bf16(p) : n > 0 ? vf_load_bf16_n(p, n) : vf_zero();
}

SIMD_INLINE void vf_put(float *p, vf v, int n) {
    if (n >= VF_LANES) vf_store(p, v);
    else if (n > 0) vf_store_n(p, v, n);
}

SIMD_INLINE void vf_put_bf16(bf16_t *p, vf v, int n) {
    if (n >= VF_LANES) vf_store_bf16(p, v);
    else if (n > 0) vf_store_bf16_n(p, v, n);
}

// n of a row's I; the saved gate and up may be NULL
static void rows_swiglu(bf16_t *a, bf16_t *saved_gate, bf16_t *saved_up, const float *gate, const float *up, int n) {
    for (int i = 0; i < n; i += VF_LANES) {
        vf g = vf_get(gate + i, n - i), u = vf_get(up + i, n - i);
        vf_put_bf16(a + i, g / (1.0f + vf_exp(-g)) * u, n - i);
        if (!saved_gate) continue;
        vf_put_bf16(saved_gate + i, g, n - i);
        vf_put_bf16(saved_up + i, u, n - i);
    }
}

static void SIMD_NAME(swiglu_forward)(act *a, act *gu_saved, const float *gu, int T, int I) {
    #pragma omp parallel for if ((size_t)T * I > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) {
        size_t row = (size_t)t * I;
        bf16_t *saved = gu_saved ? (bf16_t *)gu_saved + 2 * row : NULL;
        rows_swiglu((bf16_t *)a + row, saved, saved ? saved + I : NULL, gu + 2 * row, gu + 2 * row + I, I);
    }
}

#endif
