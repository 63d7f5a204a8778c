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
    for (size_t i = 0; i < n; i += VF_LANES) vf_store(y + i, vf_exp(vf_load(x + i)));
}

static void loops_to_bf16(bf16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += VF_LANES) vf_store_bf16(y + i, vf_load(x + i));
}

static void loops_from_bf16(float *y, const bf16_t *x, size_t n) {
    for (size_t i = 0; i < n; i += VF_LANES) vf_store(y + i, vf_load_bf16(x + i));
}

static void loops_part(float *y, bf16_t *h, const float *x, const bf16_t *xh, int n) {
    for (int i = 0; i < 16; i += VF_LANES) {
        const int left = n < i ? 0 : n - i < VF_LANES ? n - i : VF_LANES;
        vf_store_n(y + i, vf_load_n(x + i, left), left);
        vf_store_bf16_n(h + i, vf_load_n(x + i, left), left);
        vf_store_bf16(h + 16 + i, vf_load_bf16_n(xh + i, left));
        vf_store(y + 16 + i, vf_load_n(x + i, left));
    }
}

static void loops_reduce(float *sum_max, const float *x) {
    vf v[VF_PARTS];
    for (int i = 0; i < VF_PARTS; i++) v[i] = vf_load(x + i * VF_LANES);
    sum_max[0] = vf_sum(v);
    sum_max[1] = vf_hmax(v);
}

static void loops_fma(float *y, const float *a, const float *b, const float *c, float *smaller, float *larger) {
    for (int i = 0; i < 16; i += VF_LANES) {
        const vf x = vf_load(a + i), z = vf_load(b + i);
        vf_store(y + i, vf_fma(x, z, vf_load(c + i)));
        vf_store(smaller + i, vf_min(x, z));
        vf_store(larger + i, vf_max(x, z));
    }
}

TestSimd SIMD_NAME(test_simd)(void) {
    const TestSimd t = {loops_exp, loops_to_bf16, loops_from_bf16, loops_part, loops_reduce, loops_fma};
    return t;
}
