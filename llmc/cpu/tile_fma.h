/*
The tile of strips.h in fp32 multiply-adds, for x86 CPUs without products of bf16 and for any CPU there is.
*/
#ifndef LLMC_CPU_TILE_FMA_H
#define LLMC_CPU_TILE_FMA_H

// acc[2] += w[2] times one float. By hand where registers are short: gcc, left to choose, broadcasts early and moves
// sums about.
#if SIMD_LEVEL == SIMD_AVX2 || SIMD_LEVEL == SIMD_AVX512
SIMD_INLINE void mm_step(vf acc[2], const vf w[2], const float *x) {
    vf t;
    __asm__("vbroadcastss %5, %2\n\tvfmadd231ps %2, %3, %0\n\tvfmadd231ps %2, %4, %1"
            : "+v"(acc[0]), "+v"(acc[1]), "=&v"(t)
            : "v"(w[0]), "v"(w[1]), "m"(*x));
}
#define MM_UNROLL_STEPS _Pragma("GCC unroll 16") // else sums are moved between registers
#else
SIMD_INLINE void mm_step(vf acc[2], const vf w[2], const float *x) {
    const vf t = vf_set1(*x);
    acc[0] = acc[0] + w[0] * t;
    acc[1] = acc[1] + w[1] * t;
}
#define MM_UNROLL_STEPS _Pragma("GCC unroll 2")
#endif

typedef float mm_input;

// what mm_turn_input writes; steps: a multiple of MM_WHOLE
SIMD_INLINE int mm_input_size(int height, int steps) { return height * steps; }

// x[steps / 16][height][16] = `height` rows of `in`: one stream for the tile. After the last step -0, which times a
// weight of 0 changes no sum.
static inline void mm_turn_input(mm_input *x, const bf16_t *in, size_t ld_in, int height, int steps) {
    for (int k = 0; k < steps; k += MM_WHOLE)
        for (int r = 0; r < height; r++, x += MM_WHOLE) {
            const bf16_t *from = in + r * ld_in + k;
            if (steps - k >= MM_WHOLE)
                for (int i = 0; i < MM_WHOLE; i += VF_LANES) vf_store(x + i, vf_load_bf16(from + i));
            else
                for (int i = 0; i < MM_WHOLE; i++) x[i] = i < steps - k ? bf16_to_f32(from[i]) : -0.0f;
        }
}

// f = the first (low) or second elements of the pairs at b. On avx2 no shift, which would take the multiply-adds' port:
// the first register is shuffled, any other loaded two bytes early and masked, for which it lies in the same cache
// line.
SIMD_INLINE void mm_words(vf f[2], const bf16_t *b, int second) {
    vu w[2];
    MM_UNROLL
    for (int j = 0; j < 2; j++) {
        const int early = SIMD_LEVEL == SIMD_AVX2 && !second && j > 0;
        memcpy(&w[j], b + 2 * VF_LANES * j - early, sizeof w[j]);
#if SIMD_LEVEL == SIMD_AVX2
        static const int8_t
            __attribute__((aligned(32))) up[32] = {-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13,
                                                   -1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13};
        if (!second && !early)
            __asm__("vpshufb %1, %0, %0" : "+x"(w[j]) : "m"(up)); // by hand: no register is left for the pattern
        else w[j] = w[j] & 0xFFFF0000u;
#else
        w[j] = second ? w[j] & 0xFFFF0000u : w[j] << 16;
#endif
        f[j] = (vf)w[j];
    }
}

// out[R][MM_STRIP] = from[R][MM_STRIP] (or 0 where that is NULL) + x, as mm_turn_input makes it, times `steps` steps of
// the strip at b. steps: a multiple of MM_WHOLE. R is a constant after inlining.
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, const float *from, size_t ld_from, const mm_input *x,
                         const bf16_t *b, int steps, MatmulPrefetch *prefetch) {
    const mm_input *const end = x + R * steps;
    for (int c = 0; c < MM_STRIP; c += 2 * VF_LANES) { // once where registers are long
        vf acc[MM_ROWS][2];
        MM_UNROLL
        for (int r = 0; r < R; r++) {
            MM_UNROLL
            for (int j = 0; j < 2; j++) acc[r][j] = from ? vf_load(from + r * ld_from + c + j * VF_LANES) : vf_zero();
        }
        const bf16_t *w = b + 2 * c;
        for (const mm_input *p = x; p < end; p += R * MM_WHOLE, w += MM_WHOLE * MM_STRIP) {
            mm_prefetch(prefetch);
            MM_UNROLL_STEPS
            for (int i = 0; i < MM_WHOLE; i++) {
                vf f[2];
                mm_words(f, w + i / 2 * 2 * MM_STRIP, i % 2);
                MM_UNROLL
                for (int r = 0; r < R; r++) mm_step(acc[r], f, p + r * MM_WHOLE + i);
                __asm__ volatile("" ::: "memory"); // loads weights when they are needed: no registers keep them
            }
        }
        MM_UNROLL
        for (int r = 0; r < R; r++) {
            MM_UNROLL
            for (int j = 0; j < 2; j++) vf_store(out + r * ld_out + c + j * VF_LANES, acc[r][j]);
        }
    }
}

#endif
