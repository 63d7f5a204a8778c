/*
The two transposes of packed weights (matmul.h): from the file's rows to strips, once, and from strips to the backward's
strips, in every pass.
*/
#ifndef LLMC_CPU_PACK_H
#define LLMC_CPU_PACK_H

#if SIMD_VECTORS == SIMD_AVX512

// For cpu_weight_pack: to[16][MM_STRIP] 32-bit words from x[MM_STRIP][16], transposes of 16 x 16.
static void mm_turn(bf16_t *to, const bf16_t *x) {
    for (int n = 0; n < MM_STRIP; n += 16) {
        __m512i a[16], b[16];
        for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(x + (size_t)(n + i) * 32);
        for (int i = 0; i < 16; i += 2) { // pairs of rows: words 0 and 1 of each lane, 2 and 3
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) // fours of rows: a[i + c] holds words c, 4 + c, 8 + c, 12 + c
            for (int c = 0; c < 2; c++) {
                a[i + 2 * c] = _mm512_unpacklo_epi64(b[i + c], b[i + c + 2]);
                a[i + 2 * c + 1] = _mm512_unpackhi_epi64(b[i + c], b[i + c + 2]);
            }
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < 16; i += 8) { // eights: words c and 8 + c (b[i + c]), 4 + c and 12 + c (b[i + c + 4])
                b[i + c] = _mm512_shuffle_i32x4(a[i + c], a[i + c + 4], 0x88);
                b[i + c + 4] = _mm512_shuffle_i32x4(a[i + c], a[i + c + 4], 0xDD);
            }
        for (int c = 0; c < 8; c++) {
            _mm512_storeu_si512(to + (size_t)c * 2 * MM_STRIP + 2 * n, _mm512_shuffle_i32x4(b[c], b[c + 8], 0x88));
            _mm512_storeu_si512(to + (size_t)(c + 8) * 2 * MM_STRIP + 2 * n,
                                _mm512_shuffle_i32x4(b[c], b[c + 8], 0xDD));
        }
    }
}

// 64 rows n times 64 columns k of W (n_k2 pairs of columns present) from the forward packing, whose strips are
// `strip` values apart, to 32 pairs of the backward's panel: 8 x 8 transposes of 64-bit words after swapping the
// middle two bf16 of each.
SIMD_INLINE void mm_repack(bf16_t *to, const bf16_t *from, size_t strip, int n_k2) {
    const __m512i swap = _mm512_set4_epi32(0x0F0E0B0A, 0x0D0C0908, 0x07060302, 0x05040100);
    for (int k = 0; k < n_k2; k += 8)
        for (int n = 0; n < 64; n += 16) {
            const bf16_t *f = from + n / MM_STRIP * strip + (size_t)k * 2 * MM_STRIP + n % MM_STRIP * 2;
            __m512i a[8], b[8];
            for (int i = 0; i < 8; i++)
                a[i] = k + i < n_k2 ? _mm512_shuffle_epi8(_mm512_loadu_si512(f + (size_t)i * 2 * MM_STRIP), swap)
                                    : _mm512_setzero_si512();
            for (int i = 0; i < 8; i += 2) { // pairs of rows: b[i] even columns, b[i+1] odd ones
                b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
                b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
            }
            for (int i = 0; i < 2; i++) { // a[4 i ...]: 128-bit lanes 0 2 | 1 3 of rows 0-3, then of rows 4-7
                a[4 * i + 0] = _mm512_shuffle_i64x2(b[4 * i], b[4 * i + 2], 0x88);
                a[4 * i + 1] = _mm512_shuffle_i64x2(b[4 * i + 1], b[4 * i + 3], 0x88);
                a[4 * i + 2] = _mm512_shuffle_i64x2(b[4 * i], b[4 * i + 2], 0xDD);
                a[4 * i + 3] = _mm512_shuffle_i64x2(b[4 * i + 1], b[4 * i + 3], 0xDD);
            }
            bf16_t *t =
                to + (size_t)(2 * k / MM_STRIP) * MM_BLOCK * 2 * MM_STRIP + (size_t)n * MM_STRIP + 2 * k % MM_STRIP * 2;
            for (int i = 0; i < 4; i++) { // columns i (lane 0 or 1) and i + 4 (lane 2 or 3)
                _mm512_storeu_si512(t + (size_t)i * 2 * MM_STRIP, _mm512_shuffle_i64x2(a[i], a[4 + i], 0x88));
                _mm512_storeu_si512(t + (size_t)(i + 4) * 2 * MM_STRIP, _mm512_shuffle_i64x2(a[i], a[4 + i], 0xDD));
            }
        }
}

#else

#if SIMD_LEVEL == SIMD_AVX2

// Transposes of 8 x 8 32-bit words.
static void mm_turn(bf16_t *to, const bf16_t *x) {
    for (int n = 0; n < MM_STRIP; n += 8)
        for (int k = 0; k < 16; k += 8) {
            __m256i a[8], b[8];
            for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_si256((const __m256i *)(x + (size_t)(n + i) * 32 + 2 * k));
            for (int i = 0; i < 8; i += 2) { // pairs of rows: words 0 and 1 of each half, 2 and 3
                b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
                b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
            }
            for (int i = 0; i < 8; i += 4) // fours of rows: a[i + c] holds words c and 4 + c
                for (int c = 0; c < 2; c++) {
                    a[i + 2 * c] = _mm256_unpacklo_epi64(b[i + c], b[i + c + 2]);
                    a[i + 2 * c + 1] = _mm256_unpackhi_epi64(b[i + c], b[i + c + 2]);
                }
            for (int c = 0; c < 4; c++) {
                bf16_t *t = to + ((size_t)(k + c) * MM_STRIP + n) * 2;
                _mm256_storeu_si256((__m256i *)t, _mm256_permute2x128_si256(a[c], a[c + 4], 0x20));
                _mm256_storeu_si256((__m256i *)(t + (size_t)4 * MM_STRIP * 2),
                                    _mm256_permute2x128_si256(a[c], a[c + 4], 0x31));
            }
        }
}

#else

static void mm_turn(bf16_t *to, const bf16_t *x) {
    for (int k = 0; k < 16; k++)
        for (int n = 0; n < MM_STRIP; n++) memcpy(to + (k * MM_STRIP + n) * 2, x + n * 32 + 2 * k, 4);
}

#endif

#if SIMD_LEVEL == SIMD_AVX2

// As above for strips of 16: 4 x 4 transposes of 64-bit words. What would lie after the last column is a copy of it,
// which nobody reads.
SIMD_INLINE void mm_repack(bf16_t *to, const bf16_t *from, size_t strip, int n_k2) {
    const __m256i swap = _mm256_set_epi32(0x0F0E0B0A, 0x0D0C0908, 0x07060302, 0x05040100, 0x0F0E0B0A, 0x0D0C0908,
                                          0x07060302, 0x05040100);
    for (int n = 0; n < 4; n++) // one source strip each
        for (int k = 0; k < n_k2; k += 4) {
            const bf16_t *f[4];
            for (int i = 0; i < 4; i++) f[i] = from + n * strip + (size_t)(k + i < n_k2 ? k + i : n_k2 - 1) * 32;
            bf16_t *t = to + (size_t)(k / 8) * MM_BLOCK * 32 + n * 8 * 32 + k % 8 * 4;
            for (int j = 0; j < 8; j += 2, t += 2 * 32) { // two words, those of four rows, become two rows of four
                __m256i a[2];
                for (int i = 0; i < 2; i++) {
                    const __m128i low = _mm_loadu_si128((const __m128i *)(f[i] + 4 * j)),
                                  high = _mm_loadu_si128((const __m128i *)(f[i + 2] + 4 * j));
                    a[i] = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), swap);
                }
                _mm256_storeu_si256((__m256i *)t, _mm256_unpacklo_epi64(a[0], a[1]));
                _mm256_storeu_si256((__m256i *)(t + 32), _mm256_unpackhi_epi64(a[0], a[1]));
            }
        }
}

#else

static inline void mm_repack(bf16_t *to, const bf16_t *from, size_t strip, int n_k2) {
    for (int n = 0; n < 32; n += 8) // one source strip each
        for (int k = 0; k < n_k2; k++) {
            const bf16_t *f = from + n / 8 * strip + (size_t)k * 32;
            bf16_t *t = to + (size_t)(k / 8) * MM_BLOCK * 32 + (size_t)n * 32 + k % 8 * 4;
            for (int i = 0; i < 8; i++) {
                uint32_t pair[2], turned[2]; // of two rows: (k, k+1) each
                memcpy(pair, f + 4 * i, 8);
                turned[0] = (pair[0] & 0xFFFF) | pair[1] << 16;
                turned[1] = pair[0] >> 16 | (pair[1] & 0xFFFF0000u);
                memcpy(t + (size_t)i * 32, turned, 8);
            }
        }
}

#endif

#endif

#endif
