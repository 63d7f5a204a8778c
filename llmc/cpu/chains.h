/*
Independent chains of the multiply-add that the products use, enough of them to hide its latency: what `eval_steer
bench` calls the limit (eval/bench_limits.h). The loops over them are unrolled into registers; the empty asm hides the
operands' values, so that nothing can be moved out of the loop.
*/
#ifndef LLMC_CPU_CHAINS_H
#define LLMC_CPU_CHAINS_H

#include "llmc/cpu/simd.h"

#define CHAINS_UNROLL _Pragma("GCC unroll 20")

#if SIMD_LEVEL == SIMD_AMX

// Four sums of 16 x 16, as many as the products keep, of numbers as real ones are: with zeros a core runs faster.
#define CHAINS 4
#define CHAINS_FLOPS (CHAINS * 16 * 16 * 32 * 2)
static float SIMD_NAME(chains)(int n) {
    __attribute__((aligned(64))) bf16_t in[4][512];
    float out[256];
    uint32_t state = 1;
    for (int i = 0; i < 4 * 512; i++) {
        state = state * 1664525u + 1013904223u;
        in[i / 512][i % 512] = f32_to_bf16((float)(int32_t)state * 0x1p-31f);
    }
    TILE_BEGIN();
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    TILE_LOAD(4, in[0], 64);
    TILE_LOAD(5, in[1], 64);
    TILE_LOAD(6, in[2], 64);
    TILE_LOAD(7, in[3], 64);
    for (int k = 0; k < n; k++) {
        TILE_DP(0, 4, 6);
        TILE_DP(1, 4, 7);
        TILE_DP(2, 5, 6);
        TILE_DP(3, 5, 7);
    }
    TILE_STORE(0, out, 64);
    TILE_END();
    return out[0];
}

#else

#if SIMD_LEVEL == SIMD_AVX512_BF16
#define CHAINS 20
#define CHAINS_FLOPS (CHAINS * 32 * 2)
typedef __m512bh chains_in;
#define CHAINS_SET(x) (__m512bh) _mm512_set1_epi32(x)
#define CHAINS_ADD(sum, a, b) (vf) _mm512_dpbf16_ps((__m512)(sum), a, b)
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+v"(a), "+v"(b))
#elif SIMD_LEVEL == SIMD_AVX512
#define CHAINS 20
#define CHAINS_FLOPS (CHAINS * 16 * 2)
typedef __m512 chains_in;
#define CHAINS_SET(x) _mm512_set1_ps((float)(x))
#define CHAINS_ADD(sum, a, b) (vf) _mm512_fmadd_ps(a, b, (__m512)(sum))
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+v"(a), "+v"(b))
#elif SIMD_LEVEL == SIMD_AVX2
#define CHAINS 12
#define CHAINS_FLOPS (CHAINS * 8 * 2)
typedef __m256 chains_in;
#define CHAINS_SET(x) _mm256_set1_ps((float)(x))
#define CHAINS_ADD(sum, a, b) (vf) _mm256_fmadd_ps(a, b, (__m256)(sum))
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+x"(a), "+x"(b))
#elif SIMD_LEVEL == SIMD_NEON
#define CHAINS 20
#define CHAINS_FLOPS (CHAINS * 4 * 2)
typedef float32x4_t chains_in;
#define CHAINS_SET(x) vdupq_n_f32((float)(x))
#define CHAINS_ADD(sum, a, b) (vf) vfmaq_f32((float32x4_t)(sum), a, b)
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+w"(a), "+w"(b))
#elif SIMD_LEVEL == SIMD_NEON_BF16
#define CHAINS 20
#define CHAINS_FLOPS (CHAINS * 16 * 2)
typedef uint16x8_t chains_in;
#define CHAINS_SET(x) vdupq_n_u16((uint16_t)(x))
#define CHAINS_ADD(sum, a, b) \
    (vf) vbfmmlaq_f32((float32x4_t)(sum), vreinterpretq_bf16_u16(a), vreinterpretq_bf16_u16(b))
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+w"(a), "+w"(b))
#else
// A multiplication and an addition, 4 floats at a time: what every x86-64 and arm64 has. Each product needs the sum
// before it, or the compiler would compute it once for all chains.
#define CHAINS 14
#define CHAINS_FLOPS (CHAINS * 4 * 2)
typedef vf chains_in;
#define CHAINS_SET(x) (vf){(float)(x), 0, 0, 0}
#define CHAINS_ADD(sum, a, b) ((sum) * a + b)
#define CHAINS_HIDE(a, b) __asm__ volatile("" : "+m"(a), "+m"(b))
#endif

static float SIMD_NAME(chains)(int n) {
    vf sum[CHAINS];
    chains_in a = CHAINS_SET(n & 1), b = CHAINS_SET(n & 2);
    CHAINS_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = (vf){0};
        sum[i] = sum[i] + (float)i;
    }
    for (int k = 0; k < n; k++) {
        CHAINS_HIDE(a, b);
        CHAINS_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = CHAINS_ADD(sum[i], a, b);
    }
    CHAINS_UNROLL
    for (int i = 1; i < CHAINS; i++) sum[0] = sum[0] + sum[i];
    return sum[0][0];
}

#endif

#endif
