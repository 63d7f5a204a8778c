/*
The tile of strips.h for BFMMLA (level `neon_bf16`: Armv8.6, Neoverse V1 and N2, Apple since M2), and its packing.

BFMMLA adds to 2 x 2 floats the product of two rows times two outputs, four values of the sum each. So four neighbours
of the sum lie together, in the packed weights, strips of 16 outputs [K/4][16][4], as in the input of a tile, pairs of
rows [K/4][pairs][2][4]; sums are padded with zeros to a multiple of 4. A tile is 6 rows x 16 outputs, 24 registers of
sums of 32: per step 24 BFMMLA take 3 registers of input and 8 of weights.

Batch-invariance: the instruction adds to a float the first two products' sum, then the other two's, whatever lies
beside them, and rounds each to odd; it takes subnormals for zero. Steps of four begin at a multiple of four.
*/
#ifndef LLMC_CPU_TILE_NEON_BF16_H
#define LLMC_CPU_TILE_NEON_BF16_H

typedef bf16_t mm_input;

// what mm_turn_input writes
SIMD_INLINE int mm_input_size(int height, int steps) { return (height + 1) / 2 * 2 * steps; }

// p[8] and q[8], four of each: the first or second halves
SIMD_INLINE uint16x8_t mm_halves(uint16x8_t p, uint16x8_t q, int second) {
    const uint64x2_t a = vreinterpretq_u64_u16(p), b = vreinterpretq_u64_u16(q);
    return vreinterpretq_u16_u64(second ? vzip2q_u64(a, b) : vzip1q_u64(a, b));
}

// For cpu_weight_pack: to[8][MM_STRIP][4] from x[MM_STRIP][32].
static void mm_turn(bf16_t *to, const bf16_t *x) {
    for (int n = 0; n < MM_STRIP; n += 2)
        for (int k = 0; k < 32; k += 8) {
            const uint16x8_t a = vld1q_u16(x + n * 32 + k), b = vld1q_u16(x + (n + 1) * 32 + k);
            vst1q_u16(to + k * MM_STRIP + 4 * n, mm_halves(a, b, 0));
            vst1q_u16(to + (k + 4) * MM_STRIP + 4 * n, mm_halves(a, b, 1));
        }
}

// 64 rows n times 64 columns k of W (n_k2 pairs of columns present) from the forward packing, whose strips are `strip`
// values apart, to 16 steps of the backward's panel: transposes of 4 x 4.
static inline void mm_repack(bf16_t *to, const bf16_t *from, size_t strip, int n_k2) {
    for (int n = 0; n < 64; n += 4)
        for (int k = 0; k < 2 * n_k2; k += 4) {
            const bf16_t *f = from + n / MM_STRIP * strip + (size_t)k * MM_STRIP + n % MM_STRIP * 4;
            bf16_t *t = to + (size_t)(k / MM_STRIP) * MM_BLOCK * 2 * MM_STRIP + (size_t)n * MM_STRIP + k % MM_STRIP * 4;
            const uint16x8_t a = vld1q_u16(f), b = vld1q_u16(f + 8);
            const uint16x8_t even = vuzp1q_u16(a, b), odd = vuzp2q_u16(a, b); // columns
            vst1q_u16(t, vuzp1q_u16(even, odd));
            vst1q_u16(t + 8, vuzp2q_u16(even, odd));
        }
}

// x[steps / 4][pairs of rows][2][4] from `height` rows of `in`; a row that is missing is 0. steps: a multiple of 4.
static inline void mm_turn_input(mm_input *x, const bf16_t *in, size_t ld_in, int height, int steps) {
    const int pairs = steps / 2, step = (height + 1) / 2 * 8;
    for (int r = 0; r < height; r += 2) {
        const bf16_t *a = in + r * ld_in, *b = a + ld_in;
        mm_input *t = x + 4 * r;
        int k = 0;
        for (; k + 4 <= pairs; k += 4, t += 2 * step) {
            const uint16x8_t p = vld1q_u16(a + 2 * k), q = r + 1 < height ? vld1q_u16(b + 2 * k) : vdupq_n_u16(0);
            vst1q_u16(t, mm_halves(p, q, 0));
            vst1q_u16(t + step, mm_halves(p, q, 1));
        }
        if (k < pairs)
            vst1q_u16(t, vcombine_u16(vld1_u16(a + 2 * k), r + 1 < height ? vld1_u16(b + 2 * k) : vdup_n_u16(0)));
    }
}

// One step: acc += the outputs at w times what mm_turn_input has made of P pairs of rows. acc[p]: the sums of pair p,
// each register two rows of two outputs
SIMD_INLINE void mm_step(int P, float32x4_t acc[3][8], const bf16_t *w, const mm_input *x) {
    MM_UNROLL
    for (int j = 0; j < 8; j++) {
        const bfloat16x8_t f = vreinterpretq_bf16_u16(vld1q_u16(w + 8 * j));
        MM_UNROLL
        for (int p = 0; p < P; p++)
            acc[p][j] = vbfmmlaq_f32(acc[p][j], vreinterpretq_bf16_u16(vld1q_u16(x + 8 * p)), f);
    }
}

// sums[3][8] += all steps of a strip at full height, by hand: gcc loads early what it then has no registers for. v8p
// ... v8p+7: pair p of rows
// clang-format off
#define MM_BFMMLA(a, b, c, w) \
    "bfmmla v" a ".4s, v24.8h, " w ".8h\n\tbfmmla v" b ".4s, v25.8h, " w ".8h\n\tbfmmla v" c ".4s, v26.8h, " w ".8h\n\t"
// clang-format on
SIMD_INLINE void mm_steps_6(float sums[3][8][4], const mm_input *x, const bf16_t *w, int pairs,
                            MatmulPrefetch *prefetch) {
    for (int k = 0; k < pairs; k += MM_GROUP) {
        int n = (pairs - k < MM_GROUP ? pairs - k : MM_GROUP) / 2;
        mm_prefetch(prefetch);
        // clang-format off
        __asm__(MM_SUMS("ldp")
                "1:\n\tldp q24, q25, [%[x]], #32\n\tldr q26, [%[x]], #16\n\t"
                "ldp q28, q29, [%[w]], #32\n\tldp q30, q31, [%[w]], #32\n\t"
                MM_BFMMLA("0", "8", "16", "v28") MM_BFMMLA("1", "9", "17", "v29")
                MM_BFMMLA("2", "10", "18", "v30") MM_BFMMLA("3", "11", "19", "v31")
                "ldp q28, q29, [%[w]], #32\n\tldp q30, q31, [%[w]], #32\n\t"
                MM_BFMMLA("4", "12", "20", "v28") MM_BFMMLA("5", "13", "21", "v29")
                MM_BFMMLA("6", "14", "22", "v30") MM_BFMMLA("7", "15", "23", "v31")
                "subs %w[n], %w[n], #1\n\tb.ne 1b\n\t"
                MM_SUMS("stp")
                : [x] "+r"(x), [w] "+r"(w), [n] "+r"(n), "+m"(*(float (*)[3][8][4])sums)
                : [sums] "r"(sums), "m"(*(const mm_input (*)[MM_GROUP * 2 * MM_ROWS])x),
                  "m"(*(const bf16_t (*)[MM_GROUP * 2 * MM_STRIP])w)
                : MM_SUMS_CLOBBERED, "v24", "v25", "v26", "v28", "v29", "v30", "v31", "cc");
        // clang-format on
    }
}
#undef MM_BFMMLA

// out[R][MM_STRIP] = from[R][MM_STRIP] (or 0 where that is NULL) + x, as mm_turn_input makes it, times `steps` (a
// multiple of 4) steps of the strip at b. R is a constant after inlining.
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, const float *from, size_t ld_from, const mm_input *x,
                         const bf16_t *b, int steps, MatmulPrefetch *prefetch) {
    const int pairs = steps / 2, P = (R + 1) / 2;
    float sums[3][8][4] = {{{0}}}; // as the registers hold them
    for (int p = 0; p < P && from; p++)
        for (int j = 0; j < 8; j += 2) {
            const float *row = from + 2 * p * ld_from + 2 * j;
            const float64x2_t row0 = vreinterpretq_f64_f32(vld1q_f32(row));
            const float64x2_t row1 = 2 * p + 1 < R ? vreinterpretq_f64_f32(vld1q_f32(row + ld_from)) : vdupq_n_f64(0);
            vst1q_f32(sums[p][j], vreinterpretq_f32_f64(vzip1q_f64(row0, row1)));
            vst1q_f32(sums[p][j + 1], vreinterpretq_f32_f64(vzip2q_f64(row0, row1)));
        }
    if (P == 3) {
        mm_steps_6(sums, x, b, pairs, prefetch);
    } else {
        float32x4_t acc[3][8];
        MM_UNROLL
        for (int p = 0; p < P; p++) {
            MM_UNROLL
            for (int j = 0; j < 8; j++) acc[p][j] = vld1q_f32(sums[p][j]);
        }
        for (int k = 0; k < pairs; k += MM_GROUP) {
            mm_prefetch(prefetch);
            for (int i = k; i < pairs && i < k + MM_GROUP; i += 2, b += 4 * MM_STRIP, x += P * 8) mm_step(P, acc, b, x);
        }
        MM_UNROLL
        for (int p = 0; p < P; p++) {
            MM_UNROLL
            for (int j = 0; j < 8; j++) vst1q_f32(sums[p][j], acc[p][j]);
        }
    }
    for (int p = 0; p < P; p++)
        for (int j = 0; j < 8; j += 2) {
            float *to = out + 2 * p * ld_out + 2 * j;
            const float64x2_t row = vreinterpretq_f64_f32(vld1q_f32(sums[p][j])),
                              right = vreinterpretq_f64_f32(vld1q_f32(sums[p][j + 1]));
            vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(row, right)));
            if (2 * p + 1 < R) vst1q_f32(to + ld_out, vreinterpretq_f32_f64(vzip2q_f64(row, right)));
        }
}

#endif
