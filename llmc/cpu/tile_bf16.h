/*
The tile of matmul.h in bf16 dot products, VDPBF16PS: one instruction multiplies 16 words of weights by a broadcast pair of the input.
*/
#ifndef LLMC_CPU_TILE_BF16_H
#define LLMC_CPU_TILE_BF16_H

// out[R][cols] (+)= in[R] times `pairs` pairs of one panel. R is a constant after inlining.
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, int cols, const bf16_t *in, size_t ld_in, const bf16_t *b,
                         int pairs, bool first, const float *bias, MatmulPrefetch *prefetch) {
    __m512 acc[MM_ROWS][4];
    __mmask16 mask[4];
    for (int j = 0; j < 4; j++) {
        int n = cols - 16 * j;
        mask[j] = n >= 16 ? 0xFFFF : n > 0 ? (__mmask16)((1u << n) - 1) : 0;
    }
    for (int r = 0; r < R && first; r++) // the lines written at the end
        for (int j = 0; j < 4; j++) __builtin_prefetch(out + r * ld_out + 16 * j, 1, 3);
    for (int r = 0; r < R; r++)
        for (int j = 0; j < 4; j++)
            acc[r][j] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask[j], out + r * ld_out + 16 * j);
    for (int k = 0, stop; k < pairs; k = stop) {
        mm_prefetch(prefetch);
        stop = pairs - k < MM_GROUP ? pairs : k + MM_GROUP;
        for (int i = k; i < stop; i++) {
            __m512bh w[4];
            for (int j = 0; j < 4; j++) w[j] = (__m512bh)_mm512_loadu_si512(b + (size_t)i * 128 + 32 * j);
            for (int r = 0; r < R; r++) {
                int32_t pair;
                memcpy(&pair, in + r * ld_in + 2 * i, 4);
                __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
                for (int j = 0; j < 4; j++) acc[r][j] = _mm512_dpbf16_ps(acc[r][j], a, w[j]);
            }
        }
    }
    if (bias)
        for (int j = 0; j < 4; j++) {
            __m512 v = _mm512_maskz_loadu_ps(mask[j], bias + 16 * j);
            for (int r = 0; r < R; r++) acc[r][j] = _mm512_add_ps(acc[r][j], v);
        }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < 4; j++) _mm512_mask_storeu_ps(out + r * ld_out + 16 * j, mask[j], acc[r][j]);
}

#endif
