/*
32 neighbours of a quantised row as bf16, the inner step of unpack.h, and the scales of a block of 256, which eight such
steps share. What the blocks mean is said in quant.h, which is also how levels without a form of their own compute it.
Products of scales and integers are exact in fp32, so a fused multiply-add rounds as its two steps do; no result is
subnormal (all are multiples of 2^-24).
*/
#ifndef LLMC_CPU_UNPACK_32_H
#define LLMC_CPU_UNPACK_32_H

#include "llmc/quant.h" // quant_32

#if SIMD_VECTORS == SIMD_AVX512 || SIMD_VECTORS == SIMD_AVX2

// The 6-bit scales of the eight 32 of a Q4_K or Q5_K block, from its 12 bytes s, then the eight minima.
SIMD_INLINE __m128i mm_scales_6(const uint8_t *s) {
    uint32_t u[3];
    memcpy(u, s, sizeof u);
    const uint32_t sc = (u[2] & 0x0F0F0F0F) | (u[0] >> 6 & 0x03030303) << 4,
                   m = (u[2] >> 4 & 0x0F0F0F0F) | (u[1] >> 6 & 0x03030303) << 4;
    return _mm_setr_epi32((int)(u[0] & 0x3F3F3F3F), (int)sc, (int)(u[1] & 0x3F3F3F3F), (int)m);
}

// q - 32 of elements 32 j ... 32 j + 31 of the Q6_K block at b.
SIMD_INLINE __m256i mm_q6_32(const uint8_t *b, int j) {
    const int n = j / 4, k = j % 4; // of two halves, of four groups
    const __m256i low = _mm256_loadu_si256((const __m256i *)(b + 64 * n + 32 * (k & 1))),
                  high = _mm256_loadu_si256((const __m256i *)(b + 128 + 32 * n)),
                  four = _mm256_and_si256(k < 2 ? low : _mm256_srli_epi16(low, 4), _mm256_set1_epi8(15)),
                  two = _mm256_and_si256(_mm256_srli_epi16(high, 2 * k), _mm256_set1_epi8(3));
    return _mm256_sub_epi8(_mm256_or_si256(four, _mm256_slli_epi16(two, 4)), _mm256_set1_epi8(32));
}

#endif

#if SIMD_VECTORS == SIMD_AVX512

// an fp16 at p, 16 times
SIMD_INLINE __m512 mm_half(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, 2);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

// x[32] = a, then b, to nearest even
SIMD_INLINE void mm_halves_store(bf16_t *x, __m512 a, __m512 b) {
#if MM_BF16
    _mm512_storeu_si512(x, (__m512i)_mm512_cvtne2ps_pbh(b, a));
#else
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7FFF);
    __m512i u[2] = {_mm512_castps_si512(a), _mm512_castps_si512(b)};
    for (int i = 0; i < 2; i++) {
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u[i], 16), one);
        u[i] = _mm512_srli_epi32(_mm512_add_epi32(u[i], _mm512_add_epi32(odd, half)), 16);
        _mm256_storeu_si256((__m256i *)(x + 16 * i), _mm512_cvtepi32_epi16(u[i]));
    }
#endif
}

// q[32] of 0 ... 255 or, where they have a sign, of -128 ... 127: d q, or d q + m
SIMD_INLINE void mm_scale_32(bf16_t *x, __m256i q, bool has_sign, __m512 d0, __m512 d1, __m512 m, bool minimum) {
    const __m128i low = _mm256_castsi256_si128(q), high = _mm256_extracti128_si256(q, 1);
    __m512 a = _mm512_cvtepi32_ps(has_sign ? _mm512_cvtepi8_epi32(low) : _mm512_cvtepu8_epi32(low)),
           b = _mm512_cvtepi32_ps(has_sign ? _mm512_cvtepi8_epi32(high) : _mm512_cvtepu8_epi32(high));
    a = minimum ? _mm512_fmadd_ps(a, d0, m) : _mm512_mul_ps(a, d0);
    b = minimum ? _mm512_fmadd_ps(b, d1, m) : _mm512_mul_ps(b, d1);
    mm_halves_store(x, a, b);
}

// s[16] = the scales of a block of 256: of Q6_K d sc of each 16, of the others d sc of each 32, then -(dmin m).
SIMD_INLINE void mm_scales_256(float s[16], DType t, const uint8_t *b) {
    if (t == DTYPE_Q6_K) {
        const __m512i sc = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(b + 192)));
        _mm512_storeu_ps(s, _mm512_mul_ps(_mm512_cvtepi32_ps(sc), mm_half(b + 208)));
    } else {
        const __m512 sc = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(mm_scales_6(b + 4))),
                     d = _mm512_mask_sub_ps(mm_half(b), 0xFF00, _mm512_set1_ps(-0.0f), mm_half(b + 2));
        _mm512_storeu_ps(s, _mm512_mul_ps(sc, d));
    }
}

// x[32] = elements 32 j ... 32 j + 31 of the block at b; s: of a block of 256 its scales. t is a constant after
// inlining.
SIMD_INLINE void mm_unpack_32(bf16_t *x, DType t, const uint8_t *b, int j, const float s[16]) {
    const __m256i low4 = _mm256_set1_epi8(15);
    const __m512 none = _mm512_setzero_ps();
    if (t == DTYPE_Q8_0) {
        const __m512 d = mm_half(b);
        mm_scale_32(x, _mm256_loadu_si256((const __m256i *)(b + 2)), true, d, d, none, false);
    } else if (t == DTYPE_Q4_0 || t == DTYPE_Q4_1 || t == DTYPE_Q5_0 || t == DTYPE_Q5_1) {
        const bool five = t == DTYPE_Q5_0 || t == DTYPE_Q5_1, minimum = t == DTYPE_Q4_1 || t == DTYPE_Q5_1;
        const uint8_t *at = b + (minimum ? 4 : 2), *nibbles = at + (five ? 4 : 0);
        const __m128i v = _mm_loadu_si128((const __m128i *)nibbles);
        __m256i q = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), low4);
        uint32_t fifth = 0;
        if (five) {
            memcpy(&fifth, at, 4);
            q = minimum ? _mm256_mask_add_epi8(q, fifth, q, _mm256_set1_epi8(16))
                        : _mm256_mask_sub_epi8(q, ~fifth, q, _mm256_set1_epi8(16));
        } else if (!minimum) q = _mm256_sub_epi8(q, _mm256_set1_epi8(8));
        const __m512 d = mm_half(b);
        mm_scale_32(x, q, true, d, d, minimum ? mm_half(b + 2) : none, minimum);
    } else if (t == DTYPE_Q4_K || t == DTYPE_Q5_K) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(b + (t == DTYPE_Q5_K ? 48 : 16) + j / 2 * 32));
        __m256i q = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(v, 4) : v, low4);
        if (t == DTYPE_Q5_K) {
            const __m256i h = _mm256_loadu_si256((const __m256i *)(b + 16));
            q = _mm256_mask_add_epi8(q, _mm256_test_epi8_mask(h, _mm256_set1_epi8((char)(1 << j))), q,
                                     _mm256_set1_epi8(16));
        }
        const __m512 d = _mm512_set1_ps(s[j]);
        mm_scale_32(x, q, false, d, d, _mm512_set1_ps(s[8 + j]), true);
    } else if (t == DTYPE_Q6_K) {
        mm_scale_32(x, mm_q6_32(b, j), true, _mm512_set1_ps(s[2 * j]), _mm512_set1_ps(s[2 * j + 1]), none, false);
    }
}

#elif SIMD_VECTORS == SIMD_AVX2

// x[32] = d q, or d q + m, to nearest even; q[32] as bytes that have a sign; d0 for the first 16, d1 for the others
SIMD_INLINE void mm_scale_32(bf16_t *x, __m256i q, float d0, float d1, float m, bool minimum) {
    const __m256i one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7FFF);
    __m256i u[4];
    for (int i = 0; i < 4; i++) {
        const __m128i part = i < 2 ? _mm256_castsi256_si128(q) : _mm256_extracti128_si256(q, 1);
        const __m256 f = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(i % 2 ? _mm_srli_si128(part, 8) : part)),
                     d = _mm256_set1_ps(i < 2 ? d0 : d1);
        u[i] = _mm256_castps_si256(minimum ? _mm256_fmadd_ps(f, d, _mm256_set1_ps(m)) : _mm256_mul_ps(f, d));
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u[i], 16), one);
        u[i] = _mm256_srli_epi32(_mm256_add_epi32(u[i], _mm256_add_epi32(odd, half)), 16);
    }
    for (int i = 0; i < 4; i += 2) // the two halves of each register come packed in turn
        _mm256_storeu_si256((__m256i *)(x + 8 * i),
                            _mm256_permute4x64_epi64(_mm256_packus_epi32(u[i], u[i + 1]), 0xD8));
}

// bytes of 16 where the bits are set, else 0
SIMD_INLINE __m256i mm_fifth(uint32_t bits) {
    const __m256i of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303),
                  bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), of), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}

SIMD_INLINE void mm_scales_256(float s[16], DType t, const uint8_t *b) {
    const __m128i of = t == DTYPE_Q6_K ? _mm_loadu_si128((const __m128i *)(b + 192)) : mm_scales_6(b + 4);
    const float d[2] = {quant_f16(b + (t == DTYPE_Q6_K ? 208 : 0)), t == DTYPE_Q6_K ? 0 : -quant_f16(b + 2)};
    for (int i = 0; i < 2; i++) {
        const __m256 sc = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(i ? _mm_srli_si128(of, 8) : of));
        _mm256_storeu_ps(s + 8 * i, _mm256_mul_ps(sc, _mm256_set1_ps(d[t == DTYPE_Q6_K ? 0 : i])));
    }
}

SIMD_INLINE void mm_unpack_32(bf16_t *x, DType t, const uint8_t *b, int j, const float s[16]) {
    const __m256i low4 = _mm256_set1_epi8(15);
    if (t == DTYPE_Q8_0) {
        const float d = quant_f16(b);
        mm_scale_32(x, _mm256_loadu_si256((const __m256i *)(b + 2)), d, d, 0, false);
    } else if (t == DTYPE_Q4_0 || t == DTYPE_Q4_1 || t == DTYPE_Q5_0 || t == DTYPE_Q5_1) {
        const bool five = t == DTYPE_Q5_0 || t == DTYPE_Q5_1, minimum = t == DTYPE_Q4_1 || t == DTYPE_Q5_1;
        const uint8_t *at = b + (minimum ? 4 : 2), *nibbles = at + (five ? 4 : 0);
        const __m128i v = _mm_loadu_si128((const __m128i *)nibbles);
        __m256i q = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), low4);
        if (five) {
            uint32_t fifth;
            memcpy(&fifth, at, 4);
            q = _mm256_or_si256(q, mm_fifth(fifth));
        }
        if (!minimum) q = _mm256_sub_epi8(q, _mm256_set1_epi8(five ? 16 : 8));
        const float d = quant_f16(b);
        mm_scale_32(x, q, d, d, minimum ? quant_f16(b + 2) : 0, minimum);
    } else if (t == DTYPE_Q4_K || t == DTYPE_Q5_K) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(b + (t == DTYPE_Q5_K ? 48 : 16) + j / 2 * 32));
        __m256i q = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(v, 4) : v, low4);
        if (t == DTYPE_Q5_K) {
            const __m256i bit = _mm256_set1_epi8((char)(1 << j)),
                          h = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(b + 16)), bit);
            q = _mm256_or_si256(q, _mm256_and_si256(_mm256_cmpeq_epi8(h, bit), _mm256_set1_epi8(16)));
        }
        mm_scale_32(x, q, s[j], s[j], s[8 + j], true);
    } else if (t == DTYPE_Q6_K) {
        mm_scale_32(x, mm_q6_32(b, j), s[2 * j], s[2 * j + 1], 0, false);
    }
}

#else

SIMD_INLINE void mm_scales_256(float s[16], DType t, const uint8_t *b) { (void)s, (void)t, (void)b; }

SIMD_INLINE void mm_unpack_32(bf16_t *x, DType t, const uint8_t *b, int j, const float s[16]) {
    float f[32];
    (void)s;
    quant_32(f, t, b, j);
    for (int i = 0; i < 32; i++) x[i] = f32_to_bf16(f[i]);
}

#endif

#endif
