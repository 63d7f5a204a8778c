/*
The tile of matmul.h in fp32 multiply-adds, for CPUs without products of bf16.
*/
#ifndef LLMC_CPU_TILE_FMA_H
#define LLMC_CPU_TILE_FMA_H

#if defined __clang__
#define MM_UNROLL
#else
#define MM_UNROLL _Pragma("GCC unroll 12") // so that the accumulators are registers
#endif

// acc[S] += w[S] times one float. By hand where registers are short: gcc, left to choose, broadcasts early and moves sums
// about, and on avx2 12 sums, 2 weights, a mask and this float are all 16 registers.
#if SIMD_LEVEL == SIMD_AVX2 || SIMD_LEVEL == SIMD_AVX512
#if SIMD_LEVEL == SIMD_AVX512
#define MM_LANES 16
#define MM_VEC vf
#define MM_UVEC vu
#else
#define MM_LANES 8
#define MM_VEC vf8
#define MM_UVEC vu8
#endif
SIMD_INLINE void mm_step(MM_VEC acc[2], const MM_UVEC w[2], const float *x) {
    MM_VEC t;
    __asm__("vbroadcastss %5, %2\n\tvfmadd231ps %2, %3, %0\n\tvfmadd231ps %2, %4, %1"
            : "+v"(acc[0]), "+v"(acc[1]), "=&v"(t)
            : "v"(w[0]), "v"(w[1]), "m"(*x));
}
#else
#define MM_LANES 4
#define MM_VEC vf4
#define MM_UVEC vu4
SIMD_INLINE void mm_step(vf4 acc[4], const vu4 w[4], const float *x) {
    MM_UNROLL
    for (int j = 0; j < 4; j++) acc[j] = acc[j] + (vf4)w[j] * *x;
}
#endif

// As above for a strip of MM_STRIP in registers of MM_LANES. x is split into floats, even[MM_ROWS][MM_SPLIT] and odd
// alike. A word of weights becomes two floats by a shift and a mask; all rows take the even ones, then the odd.
#define MM_SPLIT (MM_BLOCK + 16) // not a power of two: rows would share a cache set
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, const float *x_even, const float *x_odd, const bf16_t *b,
                         int pairs, bool first, MatmulPrefetch *prefetch) {
    enum { S = MM_STRIP / MM_LANES };
    MM_VEC acc[MM_ROWS][S];
    MM_UNROLL
    for (int r = 0; r < R; r++)
        MM_UNROLL
        for (int j = 0; j < S; j++) {
            acc[r][j] = (MM_VEC){0};
            if (!first) memcpy(&acc[r][j], out + r * ld_out + j * MM_LANES, sizeof acc[r][j]);
        }
    for (int k = 0; k < pairs; k++) {
        if (k % MM_GROUP == 0) mm_prefetch(prefetch);
        MM_UVEC w[S];
        MM_UNROLL
        for (int j = 0; j < S; j++) {
            memcpy(&w[j], b + (size_t)k * 2 * MM_STRIP + 2 * MM_LANES * j, sizeof w[j]);
            w[j] = w[j] << 16;
        }
        MM_UNROLL
        for (int r = 0; r < R; r++) mm_step(acc[r], w, x_even + r * MM_SPLIT + k);
        __asm__ volatile("" ::: "memory"); // load w again rather than keep it: two registers fewer
        MM_UNROLL
        for (int j = 0; j < S; j++) {
            memcpy(&w[j], b + (size_t)k * 2 * MM_STRIP + 2 * MM_LANES * j, sizeof w[j]);
            w[j] = w[j] & 0xFFFF0000u;
        }
        MM_UNROLL
        for (int r = 0; r < R; r++) mm_step(acc[r], w, x_odd + r * MM_SPLIT + k);
    }
    MM_UNROLL
    for (int r = 0; r < R; r++)
        MM_UNROLL
        for (int j = 0; j < S; j++) memcpy(out + r * ld_out + j * MM_LANES, &acc[r][j], sizeof acc[r][j]);
}

#endif
