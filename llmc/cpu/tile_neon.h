/*
The tile of strips.h for NEON, in fp32 (level `neon`), and its packing.

FMLA takes one factor from a lane of a register, so nothing is broadcast: the rows of a tile are turned into groups of
four, a pair of the sum [4] even and [4] odd floats, which one LDP fetches; two rows or one that are left over into [2]
and [2]. A word of weights becomes two floats by a shift and a mask. Of 32 registers 24 are sums:

    7 to 12 rows   12 x 8 outputs: 48 FMLA for 4 conversions of weights, twice per strip
    up to 6 rows   6 x 16 outputs

Which of the two a row passes through does not enter its bits: a sum takes the even product of a pair, then the odd one,
pairs in ascending order, as on avx2 and avx512.
*/
#ifndef LLMC_CPU_TILE_NEON_H
#define LLMC_CPU_TILE_NEON_H

typedef float mm_input;

// v[4][4], turned
SIMD_INLINE void mm_turn_words(uint32x4_t v[4]) {
    const uint32x4_t a = vzip1q_u32(v[0], v[2]), b = vzip1q_u32(v[1], v[3]), c = vzip2q_u32(v[0], v[2]),
                     d = vzip2q_u32(v[1], v[3]);
    v[0] = vzip1q_u32(a, b);
    v[1] = vzip2q_u32(a, b);
    v[2] = vzip1q_u32(c, d);
    v[3] = vzip2q_u32(c, d);
}

// For cpu_weight_pack: to[16][MM_STRIP] words from x[MM_STRIP][16].
static void mm_turn(bf16_t *to, const bf16_t *x) {
    for (int n = 0; n < MM_STRIP; n += 4)
        for (int k = 0; k < 16; k += 4) {
            uint32x4_t v[4];
            for (int i = 0; i < 4; i++) v[i] = vreinterpretq_u32_u16(vld1q_u16(x + (n + i) * 32 + 2 * k));
            mm_turn_words(v);
            for (int i = 0; i < 4; i++) vst1q_u16(to + ((k + i) * MM_STRIP + n) * 2, vreinterpretq_u16_u32(v[i]));
        }
}

// 64 rows n times 64 columns k of W (n_k2 pairs of columns present) from the forward packing, whose strips are `strip`
// values apart, to 32 pairs of the backward's panel: pairs along n, columns side by side.
static inline void mm_repack(bf16_t *to, const bf16_t *from, size_t strip, int n_k2) {
    for (int n = 0; n < 64; n += 4)
        for (int k = 0; k < n_k2; k += 2) {
            const bf16_t *f = from + n / MM_STRIP * strip + ((size_t)k * MM_STRIP + n % MM_STRIP) * 2;
            bf16_t *t =
                to + (size_t)(2 * k / MM_STRIP) * MM_BLOCK * 2 * MM_STRIP + (size_t)n * MM_STRIP + 2 * k % MM_STRIP * 2;
            const uint16x8_t a = vld1q_u16(f), b = k + 1 < n_k2 ? vld1q_u16(f + 2 * MM_STRIP) : vdupq_n_u16(0);
            const uint32x4_t even = vreinterpretq_u32_u16(vuzp1q_u16(a, b)),
                             odd = vreinterpretq_u32_u16(vuzp2q_u16(a, b)); // columns
            vst1q_u16(t, vreinterpretq_u16_u32(vtrn1q_u32(even, odd)));
            vst1q_u16(t + 2 * MM_STRIP, vreinterpretq_u16_u32(vtrn2q_u32(even, odd)));
        }
}

// floats of a pair that the input of `height` rows takes
SIMD_INLINE int mm_input_step(int height) { return height / 4 * 8 + (height % 4 > 2 ? 8 : height % 4 > 0 ? 4 : 0); }

// what mm_turn_input writes; steps: a multiple of MM_WHOLE
SIMD_INLINE int mm_input_size(int height, int steps) { return mm_input_step(height) * steps / 2; }

// x[steps / 2][groups of four rows][even and odd][4] from `height` rows of `in`; what is missing of the last group is
// 0. After the last step -0, which times a weight of 0 changes no sum.
static inline void mm_turn_input(mm_input *x, const bf16_t *in, size_t ld_in, int height, int steps) {
    const uint32x4_t high = vdupq_n_u32(0xFFFF0000u);
    const int step = mm_input_step(height);
    for (int r = 0; r < height; r += 4)
        for (int k = 0; 2 * k < mm_whole(steps); k += 4) {
            const int left = steps - 2 * k;
            float *t = x + (size_t)k * step + 2 * r;
            uint32x4_t v[4];
            for (int i = 0; i < 4; i++) {
                v[i] = vdupq_n_u32(0);
                if (r + i >= height) continue;
                const bf16_t *row = in + (r + i) * ld_in + 2 * k;
                if (left < 8) v[i] = vdupq_n_u32(0x80008000u);
                if (left >= 8) v[i] = vreinterpretq_u32_u16(vld1q_u16(row));
                else if (left > 0) memcpy(&v[i], row, (size_t)left * sizeof *row);
            }
            mm_turn_words(v);
            for (int i = 0; i < 4; i++, t += step) {
                const float32x4_t even = vreinterpretq_f32_u32(vshlq_n_u32(v[i], 16)),
                                  odd = vreinterpretq_f32_u32(vandq_u32(v[i], high));
                if (height - r > 2) {
                    vst1q_f32(t, even);
                    vst1q_f32(t + 4, odd);
                } else {
                    vst1q_f32(t, vcombine_f32(vget_low_f32(even), vget_low_f32(odd)));
                }
            }
        }
}

// One pair: acc[R][S] += the words at w times what mm_turn_input has made of R rows
SIMD_INLINE void mm_step(int R, int S, float32x4_t acc[MM_ROWS][4], const bf16_t *w, const mm_input *x) {
    const uint32x4_t high = vdupq_n_u32(0xFFFF0000u);
    uint32x4_t word[4];
    MM_UNROLL
    for (int j = 0; j < S; j++) word[j] = vreinterpretq_u32_u16(vld1q_u16(w + 8 * j));
    MM_UNROLL
    for (int half = 0; half < 2; half++) {
        float32x4_t f[4];
        MM_UNROLL
        for (int j = 0; j < S; j++)
            f[j] = vreinterpretq_f32_u32(half ? vandq_u32(word[j], high) : vshlq_n_u32(word[j], 16));
        MM_UNROLL
        for (int r = 0; r < MM_ROWS; r++) {
            if (r >= R) break;
            const int g = r / 4 * 4, whole = R - g > 2; // a group of four, or of the last two
            const float32x4_t rows = vld1q_f32(x + 2 * g + (whole ? 4 * half : 0));
            const float factor = whole ? rows[r % 4] : rows[2 * half + r % 2];
            MM_UNROLL
            for (int j = 0; j < S; j++) acc[r][j] = vfmaq_n_f32(acc[r][j], f[j], factor);
        }
    }
}

// out[R][4 S] = from[R][4 S] (or 0 where that is NULL) + x, as mm_turn_input makes it, times `pairs` pairs of a
// strip from b on. R and S are constants after inlining.
SIMD_INLINE void mm_tile_any(int R, int S, float *out, size_t ld_out, const float *from, size_t ld_from,
                             const mm_input *x, const bf16_t *b, int pairs, MatmulPrefetch *prefetch) {
    float32x4_t acc[MM_ROWS][4];
    MM_UNROLL
    for (int r = 0; r < R; r++) {
        MM_UNROLL
        for (int j = 0; j < S; j++) acc[r][j] = from ? vld1q_f32(from + r * ld_from + 4 * j) : vdupq_n_f32(0);
    }
    for (int k = 0, stop; k < pairs; k = stop) {
        mm_prefetch(prefetch);
        stop = pairs - k < MM_GROUP ? pairs : k + MM_GROUP;
        for (int i = k; i < stop; i++, b += 2 * MM_STRIP, x += mm_input_step(R)) mm_step(R, S, acc, b, x);
    }
    MM_UNROLL
    for (int r = 0; r < R; r++) {
        MM_UNROLL
        for (int j = 0; j < S; j++) vst1q_f32(out + r * ld_out + 4 * j, acc[r][j]);
    }
}

// By hand at full height, as gcc loads early what it then has no registers for, and clang moves sums to the stack: one
// piece of code per MM_GROUP pairs, which takes the sums from memory and puts them back.

// Four sums += the weights w times the lanes of x
// clang-format off
#define MM_FMLA_ROWS(a, b, c, d, w, x) \
    "fmla v" a ".4s, " w ".4s, " x ".s[0]\n\tfmla v" b ".4s, " w ".4s, " x ".s[1]\n\t" \
    "fmla v" c ".4s, " w ".4s, " x ".s[2]\n\tfmla v" d ".4s, " w ".4s, " x ".s[3]\n\t"
// clang-format on

// out[12][8]. v8g ... v8g+3: the left vector of the four rows of group g, v8g+4 ... v8g+7: the right one
// clang-format off
#define MM_FOUR_ROWS(a, b, c, d, e, f, g, h) \
    "ldp q30, q31, [%[x]], #32\n\t" \
    MM_FMLA_ROWS(a, b, c, d, "v26", "v30") MM_FMLA_ROWS(e, f, g, h, "v27", "v30") \
    MM_FMLA_ROWS(a, b, c, d, "v24", "v31") MM_FMLA_ROWS(e, f, g, h, "v25", "v31")
// clang-format on
SIMD_INLINE void mm_tile_12(float *out, size_t ld_out, const float *from, size_t ld_from, const mm_input *x,
                            const bf16_t *b, int pairs, MatmulPrefetch *prefetch) {
    const uint32x4_t high = vdupq_n_u32(0xFFFF0000u);
    float sums[24][4] = {{0}}; // in the order of the registers
    for (int i = 0; i < 24 && from; i++)
        memcpy(sums[i], from + (i / 8 * 4 + i % 4) * ld_from + i / 4 % 2 * 4, sizeof sums[i]);
    for (int k = 0; k < pairs; k += MM_GROUP) {
        int n = pairs - k < MM_GROUP ? pairs - k : MM_GROUP;
        mm_prefetch(prefetch);
        // clang-format off
        __asm__(MM_SUMS("ldp")
                "1:\n\tldp q24, q25, [%[w]], #64\n\t"
                "shl v26.4s, v24.4s, #16\n\tshl v27.4s, v25.4s, #16\n\t"
                "and v24.16b, v24.16b, %[high].16b\n\tand v25.16b, v25.16b, %[high].16b\n\t"
                MM_FOUR_ROWS("0", "1", "2", "3", "4", "5", "6", "7") MM_FOUR_ROWS("8", "9", "10", "11", "12", "13", "14", "15")
                MM_FOUR_ROWS("16", "17", "18", "19", "20", "21", "22", "23")
                "subs %w[n], %w[n], #1\n\tb.ne 1b\n\t"
                MM_SUMS("stp")
                : [x] "+r"(x), [w] "+r"(b), [n] "+r"(n), "+m"(sums)
                : [high] "w"(high), [sums] "r"(sums), "m"(*(const mm_input (*)[MM_GROUP * 2 * MM_ROWS])x),
                  "m"(*(const bf16_t (*)[MM_GROUP * 2 * MM_STRIP])b)
                : MM_SUMS_CLOBBERED, "v24", "v25", "v26", "v27", "v30", "v31", "cc");
        // clang-format on
    }
    for (int i = 0; i < 24; i++) memcpy(out + (i / 8 * 4 + i % 4) * ld_out + i / 4 % 2 * 4, sums[i], sizeof sums[i]);
}

// out[6][16]. v4r ... v4r+3: row r. v31: the last two rows' even and odd values
// clang-format off
#define MM_FMLA_6(a, b, c, d, e, f, w, x, i, k) \
    MM_FMLA_ROWS(a, b, c, d, w, x) "fmla v" e ".4s, " w ".4s, v31.s[" i "]\n\tfmla v" f ".4s, " w ".4s, v31.s[" k "]\n\t"
#define MM_VECTOR(a, b, c, d, e, f, word) \
    "shl v26.4s, " word ".4s, #16\n\t" MM_FMLA_6(a, b, c, d, e, f, "v26", "v29", "0", "1") \
    "and " word ".16b, " word ".16b, %[high].16b\n\t" MM_FMLA_6(a, b, c, d, e, f, word, "v30", "2", "3")
// clang-format on
SIMD_INLINE void mm_tile_6(float *out, size_t ld_out, const float *from, size_t ld_from, const mm_input *x,
                           const bf16_t *b, int pairs, MatmulPrefetch *prefetch) {
    const uint32x4_t high = vdupq_n_u32(0xFFFF0000u);
    float sums[6][16] = {{0}};
    for (int r = 0; r < 6 && from; r++) memcpy(sums[r], from + r * ld_from, sizeof sums[r]);
    for (int k = 0; k < pairs; k += MM_GROUP) {
        int n = pairs - k < MM_GROUP ? pairs - k : MM_GROUP;
        mm_prefetch(prefetch);
        // clang-format off
        __asm__(MM_SUMS("ldp")
                "1:\n\tldp q29, q30, [%[x]], #32\n\tldr q31, [%[x]], #16\n\tldp q24, q25, [%[w]], #32\n\t"
                MM_VECTOR("0", "4", "8", "12", "16", "20", "v24") MM_VECTOR("1", "5", "9", "13", "17", "21", "v25")
                "ldp q24, q25, [%[w]], #32\n\t"
                MM_VECTOR("2", "6", "10", "14", "18", "22", "v24") MM_VECTOR("3", "7", "11", "15", "19", "23", "v25")
                "subs %w[n], %w[n], #1\n\tb.ne 1b\n\t"
                MM_SUMS("stp")
                : [x] "+r"(x), [w] "+r"(b), [n] "+r"(n), "+m"(sums)
                : [high] "w"(high), [sums] "r"(sums), "m"(*(const mm_input (*)[MM_GROUP * 2 * 6])x),
                  "m"(*(const bf16_t (*)[MM_GROUP * 2 * MM_STRIP])b)
                : MM_SUMS_CLOBBERED, "v24", "v25", "v26", "v29", "v30", "v31", "cc");
        // clang-format on
    }
    for (int r = 0; r < 6; r++) memcpy(out + r * ld_out, sums[r], sizeof sums[r]);
}

// out[R][MM_STRIP] = from[R][MM_STRIP] (or 0 where that is NULL) + x, as mm_turn_input makes it, times `steps` steps
// of the strip at b. R is a constant after inlining.
SIMD_INLINE void mm_tile(int R, float *out, size_t ld_out, const float *from, size_t ld_from, const mm_input *x,
                         const bf16_t *b, int steps, MatmulPrefetch *prefetch) {
    const int pairs = steps / 2;
    if (R == 6) {
        mm_tile_6(out, ld_out, from, ld_from, x, b, pairs, prefetch);
        return;
    }
    if (R == MM_ROWS) {
        mm_tile_12(out, ld_out, from, ld_from, x, b, pairs, prefetch);
        mm_tile_12(out + 8, ld_out, from ? from + 8 : NULL, ld_from, x, b + 16, pairs, prefetch);
        return;
    }
    const int S = R <= 6 ? 4 : 2;
    for (int c = 0; c < MM_STRIP; c += 4 * S)
        mm_tile_any(R, S, out + c, ld_out, from ? from + c : NULL, ld_from, x, b + 2 * c, pairs, prefetch);
}

#endif
