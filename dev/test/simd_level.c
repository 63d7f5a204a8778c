// See simd_level.h; compiled once per level, as llmc/cpu/level.c is.
#include "dev/test/simd_level.h"
#include "llmc/cpu/simd.h"

#define loops_exp SIMD_NAME(loops_exp)
#define loops_to_bf16 SIMD_NAME(loops_to_bf16)
#define loops_from_bf16 SIMD_NAME(loops_from_bf16)
#define loops_part SIMD_NAME(loops_part)
#define loops_reduce SIMD_NAME(loops_reduce)
#define loops_fma SIMD_NAME(loops_fma)

static void loops_exp(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) vf_store(y + i, vf_exp(vf_load(x + i)));
}

static void loops_to_bf16(bf16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) vf_store_bf16(y + i, vf_load(x + i));
}

static void loops_from_bf16(float *y, const bf16_t *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) vf_store(y + i, vf_load_bf16(x + i));
}

static void loops_part(float *y, bf16_t *h, const float *x, const bf16_t *xh, int n) {
    vf_store_n(y, vf_load_n(x, n), n);
    vf_store_bf16_n(h, vf_load_n(x, n), n);
    vf_store_bf16(h + 16, vf_load_bf16_n(xh, n));
    vf_store(y + 16, vf_load_n(x, n));
}

static void loops_reduce(float *sum_max, const float *x) {
    sum_max[0] = vf_sum(vf_load(x));
    sum_max[1] = vf_hmax(vf_load(x));
}

static void loops_fma(float *y, const float *a, const float *b, const float *c, float *smaller, float *larger) {
    vf x = vf_load(a), z = vf_load(b);
    vf_store(y, vf_fma(x, z, vf_load(c)));
    vf_store(smaller, vf_min(x, z));
    vf_store(larger, vf_max(x, z));
}

TestSimd SIMD_NAME(test_simd)(void) {
    const TestSimd t = {loops_exp, loops_to_bf16, loops_from_bf16, loops_part, loops_reduce, loops_fma};
    return t;
}
