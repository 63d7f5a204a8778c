/*
The vector register of the level that is being compiled (level.h).

    vf   VF_LANES floats (16 avx512, 8 avx2, 4 neon and portable), vi as many int32, vu as many uint32, all of the
         compiler's vector extension: + - * / & | ~ << >> work on them. It does badly for comparisons: write vf_lt(a,
         b), not a < b.

A vector longer than a register would live in memory (gcc cuts it so badly that e^x took five times as long), so kernels
say how many there are. So that bits do not depend on the level, sums are of 16 lanes at each: VF_PARTS registers, of
which number j takes the elements VF_LANES * j ... of every 16, and which vf_sum adds up in one order.

A rule for kernels: -ffp-contract=off everywhere, so what is a fused multiply-add is written vf_fma, and nothing else is
one.
*/
#ifndef LLMC_CPU_SIMD_H
#define LLMC_CPU_SIMD_H

#include "llmc/cpu/level.h"
#include "llmc/utils/numbers.h" // bf16_t
#include <math.h>               // INFINITY

typedef float vf16 __attribute__((vector_size(64)));
typedef int32_t vi16 __attribute__((vector_size(64)));
typedef uint32_t vu16 __attribute__((vector_size(64)));
typedef float vf8 __attribute__((vector_size(32)));
typedef int32_t vi8 __attribute__((vector_size(32)));
typedef uint32_t vu8 __attribute__((vector_size(32)));
typedef float vf4 __attribute__((vector_size(16)));
typedef int32_t vi4 __attribute__((vector_size(16)));
typedef uint32_t vu4 __attribute__((vector_size(16)));

static const float simd_lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if SIMD_VECTORS == SIMD_AVX512
#define vf vf16
#define vi vi16
#define vu vu16
#define VF_LANES 16
#elif SIMD_VECTORS == SIMD_AVX2
#define vf vf8
#define vi vi8
#define vu vu8
#define VF_LANES 8
#else
#define vf vf4
#define vi vi4
#define vu vu4
#define VF_LANES 4
#endif
#define VF_PARTS (16 / VF_LANES)

// ----------------------------------------------------------------------------
// memory: no alignment is needed. The _n forms touch only the first n of VF_LANES (0 <= n <= VF_LANES), the others are
// read as 0 and not written.

SIMD_INLINE vf vf_set1(float x) {
#if SIMD_VECTORS == SIMD_AVX512
    return (vf)_mm512_set1_ps(x);
#elif SIMD_VECTORS == SIMD_AVX2
    return (vf)_mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}

SIMD_INLINE vf vf_zero(void) { return vf_set1(0.0f); }

SIMD_INLINE vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

SIMD_INLINE void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }

// the numbers of the lanes of register `part` of VF_PARTS
SIMD_INLINE vf vf_lane(int part) { return vf_load(simd_lanes + part * VF_LANES); }

#if SIMD_VECTORS == SIMD_AVX512

SIMD_INLINE vf vf_load_n(const float *p, int n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
SIMD_INLINE void vf_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }

#else

SIMD_INLINE vf vf_load_n(const float *p, int n) {
    float a[VF_LANES] = {0};
    memcpy(a, p, (size_t)n * sizeof *p);
    return vf_load(a);
}

SIMD_INLINE void vf_store_n(float *p, vf v, int n) {
    float a[VF_LANES];
    vf_store(a, v);
    memcpy(p, a, (size_t)n * sizeof *p);
}

#endif

// ----------------------------------------------------------------------------
// arithmetic

// a*b + c: rounded once where the level has the instruction, twice on portable
SIMD_INLINE vf vf_fma(vf a, vf b, vf c) {
#if SIMD_VECTORS == SIMD_AVX512
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif SIMD_VECTORS == SIMD_AVX2
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif SIMD_VECTORS == SIMD_NEON
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// mask (0 or -1 per lane) ? a : b
SIMD_INLINE vf vf_select(vi mask, vf a, vf b) {
#if SIMD_VECTORS == SIMD_AVX2
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#elif SIMD_VECTORS == SIMD_NEON
    return (vf)vbslq_f32((uint32x4_t)mask, (float32x4_t)a, (float32x4_t)b);
#else
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
#endif
}

// a < b and "is NaN" as masks; false for NaN, as <
SIMD_INLINE vi vf_lt(vf a, vf b) { return (vi)(a < b); }
SIMD_INLINE vi vf_is_nan(vf a) { return (vi)(a != a); }

// As the x86 instructions: the second operand if either is NaN.
#if SIMD_VECTORS == SIMD_AVX512
SIMD_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
SIMD_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif SIMD_VECTORS == SIMD_AVX2
SIMD_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
SIMD_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#else
SIMD_INLINE vf vf_max(vf a, vf b) { return vf_select(vf_lt(b, a), a, b); }
SIMD_INLINE vf vf_min(vf a, vf b) { return vf_select(vf_lt(a, b), a, b); }
#endif

// Sum of 16 lanes: i and i+8, then i and i+4, i and i+2, i and i+1; the same tree at every level.
SIMD_INLINE float vf_sum(const vf v[VF_PARTS]) {
    vf4 q[4];
    memcpy(q, v, 64);
    q[0] = (q[0] + q[2]) + (q[1] + q[3]);
    return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]);
}

// The largest of 16 lanes. A NaN may be lost.
SIMD_INLINE float vf_hmax(const vf v[VF_PARTS]) {
    vf4 q[4];
    memcpy(q, v, 64);
    float m[4];
    for (int i = 0; i < 4; i++) {
        float a = q[0][i] > q[1][i] ? q[0][i] : q[1][i], b = q[2][i] > q[3][i] ? q[2][i] : q[3][i];
        m[i] = a > b ? a : b;
    }
    float a = m[0] > m[2] ? m[0] : m[2], b = m[1] > m[3] ? m[1] : m[3];
    return a > b ? a : b;
}

// ----------------------------------------------------------------------------
// bf16: to nearest, ties to even, subnormals kept, NaN stays NaN; bit for bit what f32_to_bf16 gives. (The
// avx512 instruction for it, VCVTNEPS2BF16, flushes subnormals, so it is not used.)

// the bf16 of each lane in the lower half of 32 bits
SIMD_INLINE vu vf_bf16_bits(vf v) {
    vu u = (vu)v;
    vu rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    return (vu)vf_select(vf_is_nan(v), (vf)((u >> 16) | 0x40u), (vf)rounded);
}

#if SIMD_VECTORS == SIMD_AVX512

SIMD_INLINE vf vf_load_bf16(const bf16_t *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}

SIMD_INLINE vf vf_load_bf16_n(const bf16_t *p, int n) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p)), 16);
}

SIMD_INLINE void vf_store_bf16(bf16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)vf_bf16_bits(v)));
}

SIMD_INLINE void vf_store_bf16_n(bf16_t *p, vf v, int n) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), _mm512_cvtepi32_epi16((__m512i)vf_bf16_bits(v)));
}

#elif SIMD_VECTORS == SIMD_AVX2

SIMD_INLINE vf vf_load_bf16(const bf16_t *p) {
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
}

SIMD_INLINE void vf_store_bf16(bf16_t *p, vf v) {
    const __m256i u = (__m256i)vf_bf16_bits(v);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1)));
}

#elif SIMD_VECTORS == SIMD_NEON

SIMD_INLINE vf vf_load_bf16(const bf16_t *p) { return (vf)vshll_n_u16(vld1_u16(p), 16); }
SIMD_INLINE void vf_store_bf16(bf16_t *p, vf v) { vst1_u16(p, vmovn_u32((uint32x4_t)vf_bf16_bits(v))); }

#else

SIMD_INLINE vf vf_load_bf16(const bf16_t *p) {
    uint16_t h __attribute__((vector_size(8)));
    memcpy(&h, p, sizeof h);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

SIMD_INLINE void vf_store_bf16(bf16_t *p, vf v) {
    vu u = vf_bf16_bits(v);
    for (int i = 0; i < VF_LANES; i++) p[i] = (bf16_t)u[i];
}

#endif

#if SIMD_VECTORS != SIMD_AVX512

SIMD_INLINE vf vf_load_bf16_n(const bf16_t *p, int n) {
    bf16_t a[VF_LANES] = {0};
    memcpy(a, p, (size_t)n * sizeof *p);
    return vf_load_bf16(a);
}

SIMD_INLINE void vf_store_bf16_n(bf16_t *p, vf v, int n) {
    bf16_t a[VF_LANES];
    vf_store_bf16(a, v);
    memcpy(p, a, (size_t)n * sizeof *p);
}

#endif

// ----------------------------------------------------------------------------
// e^x to about 1 ulp; 0 where the result would be subnormal (x < -87.33654) and for -inf, +inf above
// 88.72283, NaN for NaN, exactly 1 for 0. x = n ln2 + r, |r| <= ln2/2, e^r by a polynomial (Cephes expf),
// then n is added to the exponent. ln2 is cut in two, the first so short that n times it is exact.
SIMD_INLINE vf vf_exp(vf x) {
    const vf round = vf_set1(12582912.0f); // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    vf t = vf_fma(x, vf_set1(1.44269504088896341f), round);
    vf n = t - round;
    vf r = vf_fma(n, vf_set1(-0.693359375f), x);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + 1.0f;
    vf y = (vf)((vu)p + ((vu)t << 23));
    y = vf_select(vf_lt(vf_set1(88.72283f), x), vf_set1(INFINITY), y);
    y = vf_select(vf_lt(x, vf_set1(-87.3365402f)), vf_zero(), y);
    return vf_select(vf_is_nan(x), x, y);
}

#endif
