// The vector layer of each level of `cpu` (llmc/cpu/simd.h) as small loops that tests can call: simd_level.c, compiled
// once per level.
#ifndef DEV_TEST_SIMD_LEVEL_H
#define DEV_TEST_SIMD_LEVEL_H

#include <stddef.h>
#include <string.h>
#include "llmc/utils/numbers.h" // bf16_t

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    void (*exp)(float *y, const float *x, size_t n);        // n a multiple of 16
    void (*to_bf16)(bf16_t *y, const float *x, size_t n);   // n a multiple of 16
    void (*from_bf16)(float *y, const bf16_t *x, size_t n); // n a multiple of 16
    // y, h = the first n of x; y[16 ...], h[16 ...] = 16 of x and xh, read as n
    void (*part)(float *y, bf16_t *h, const float *x, const bf16_t *xh, int n);
    void (*reduce)(float *sum_max, const float *x);                                                       // of 16
    void (*fma)(float *y, const float *a, const float *b, const float *c, float *smaller, float *larger); // 16
} TestSimd;

TestSimd test_simd_portable(void);
TestSimd test_simd_avx2(void);
TestSimd test_simd_avx512(void);
TestSimd test_simd_neon(void);

#ifdef __cplusplus
}
#endif

// One of the levels that this CPU has.
static inline TestSimd test_simd_level(const char *level) {
#ifdef LLMC_LEVEL_avx512
    if (strcmp(level, "avx512") == 0) return test_simd_avx512();
#endif
#ifdef LLMC_LEVEL_avx2
    if (strcmp(level, "avx2") == 0) return test_simd_avx2();
#endif
#ifdef LLMC_LEVEL_neon
    if (strcmp(level, "neon") == 0) return test_simd_neon();
#endif
    (void)level;
    return test_simd_portable();
}

#endif
