/*
The tile of matmul.h in fp32 multiply-adds, for CPUs without products of bf16.
*/
#ifndef LLMC_CPU_TILE_FMA_H
#define LLMC_CPU_TILE_FMA_H

// acc[S] += w[S] times one float. By hand where registers are short: gcc, left to choose, broadcasts early and moves sums
// about, and on avx2 12 sums, 2 weights, a mask and this float are all 16 registers.
#if SIMD_LEVEL == SIMD_AVX2 || SIMD_LEVEL == SIMD_AVX512
SIMD_INLINE void mm_step(vf acc[2], const vu w[2], const float *x) {
    vf t;
    __asm__("vbroadcastss %5, %2\n\tvfmadd231ps %2, %3, %0\n\tvfmadd231ps %2, %4, %1"
            : "+v"(acc[0]), "+v"(acc[1]), "=&v"(t)
            : "v"(w[0]), "v"(w[1]), "m"(*x));
}
#else
SIMD_INLINE void mm_step(vf acc[4], const vu w[4], const float *x) {
    MM_UNROLL
    for (int j = 0; j < 4; j++) acc[j] = acc[j] + (vf)w[j] * *x;
}
#endif

// w = the even (low) or odd (high) elements of the pairs of a strip, as floats. On avx2 no shift, which would take the multiply-adds'
// port: the first register is shuffled, any other loaded two bytes early and masked, for which it lies in the same cache line.
SIMD_INLINE void mm_even(vu w[MM_STRIP / VF_LANES], const bf16_t *b) {
#if SIMD_LEVEL == SIMD_AVX2
    static const int8_t __attribute__((aligned(32))) up[32] =
        {-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13, -1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13};
    memcpy(&w[0], b, sizeof w[0]);
    __asm__("vpshufb %1, %0, %0" : "+x"(w[0]) : "m"(up)); // by hand: no register is left for the pattern
    memcpy(&w[1], b + 15, sizeof w[1]);
    w[1] = w[1] & 0xFFFF0000u;
#else
    MM_UNROLL
    for (int j = 0; j < MM_STRIP / VF_LANES; j++) {
        memcpy(&w[j], b + 2 * VF_LANES * j, sizeof w[j]);
        w[j] = w[j] << 16;
    }
#endif
}

SIMD_INLINE void mm_odd(vu w[MM_STRIP / VF_LANES], const bf16_t *b) {
    MM_UNROLL
    for (int j = 0; j < MM_STRIP / VF_LANES; j++) {
        memcpy(&w[j], b + 2 * VF_LANES * j, sizeof w[j]);
        w[j] = w[j] & 0xFFFF0000u;
    }
}

typedef float mm_input;
#define MM_SPLIT (MM_BLOCK + 16) // of a row; not a power of two: rows would share a cache set
#define MM_INPUT (2 * MM_ROWS * MM_SPLIT)

// x[2][MM_ROWS][MM_SPLIT]: the even elements of `height` rows of `in` as floats, then the odd
static inline void mm_turn_input(mm_input *x, const bf16_t *in, size_t ld_in, int height, int pairs) {
    for (int j = 0; j < height; j++)
        for (int k = 0; k < pairs; k++) {
            uint32_t pair;
            memcpy(&pair, in + j * ld_in + 2 * k, 4);
            uint32_t low = pair << 16, high = pair & 0xFFFF0000u;
            memcpy(&x[j * MM_SPLIT + k], &low, 4);
            memcpy(&x[(MM_ROWS + j) * MM_SPLIT + k], &high, 4);
        }
}

// out[R][MM_STRIP] = from[R][MM_STRIP] (or 0 where that is NULL) + x, as mm_turn_input makes it, times `pairs` pairs of a strip from b on.
// All rows take the even ones of a pair, then the odd. R is a constant after inlining.
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, const float *from, size_t ld_from, const float *x, const bf16_t *b,
                         int pairs, MatmulPrefetch *prefetch) {
    enum { S = MM_STRIP / VF_LANES };
    vf acc[MM_ROWS][S];
    MM_UNROLL
    for (int r = 0; r < R; r++)
        MM_UNROLL
        for (int j = 0; j < S; j++) {
            acc[r][j] = (vf){0};
            if (from) memcpy(&acc[r][j], from + r * ld_from + j * VF_LANES, sizeof acc[r][j]);
        }
    for (const float *end = x + pairs; x < end;) {
        mm_prefetch(prefetch);
        const float *stop = end - x < MM_GROUP ? end : x + MM_GROUP;
        for (; x < stop; x++, b += 2 * MM_STRIP) {
            vu w[S];
            mm_even(w, b);
            MM_UNROLL
            for (int r = 0; r < R; r++) mm_step(acc[r], w, x + r * MM_SPLIT);
            __asm__ volatile("" ::: "memory"); // load w again rather than keep it: two registers fewer
            mm_odd(w, b);
            MM_UNROLL
            for (int r = 0; r < R; r++) mm_step(acc[r], w, x + (MM_ROWS + r) * MM_SPLIT);
        }
    }
    MM_UNROLL
    for (int r = 0; r < R; r++)
        MM_UNROLL
        for (int j = 0; j < S; j++) memcpy(out + r * ld_out + j * VF_LANES, &acc[r][j], sizeof acc[r][j]);
}

#endif
