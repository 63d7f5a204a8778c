/*
Quantised weights (quant.h), which stay as the file has them: the part that a tile is about to read becomes strips of
bf16 (matmul.h) in the cache. From there on a product is that of packed weights, so its bits are those of the same
numbers in bf16.

    forward   mm_unpack          rows to strips: 32 columns of a strip's rows at a time, turned as in the packing
    backward  mm_unpack_turned   64 rows by 64 columns to strips, and those to the backward's (mm_repack)

A block is read once for all rows of the input that share a pass over the weights.
*/
#ifndef LLMC_CPU_UNPACK_H
#define LLMC_CPU_UNPACK_H

#define mm_unpack SIMD_NAME(mm_unpack)
#define mm_unpack_turned SIMD_NAME(mm_unpack_turned)
#define mm_unpack_strip SIMD_NAME(mm_unpack_strip)

#include "llmc/cpu/unpack_32.h" // mm_unpack_32

// x[rows][32] = columns 32 j ... 32 j + 31 of the block at `at` and of those below it, row_bytes apart. s[rows][16]:
// their scales, computed where the block is `fresh`. t is a constant after inlining. What the next panel wants comes in
// meanwhile.
SIMD_INLINE void mm_unpack_run(bf16_t *x, float (*s)[16], DType t, const uint8_t *at, size_t row_bytes, int rows, int j,
                               bool fresh) {
    const DTypeInfo type = dtype_info(t);
    for (int n = 0; n < rows && fresh; n++) {
        for (int i = 0; i < type.bytes; i += 64) __builtin_prefetch(at + (MM_COLS + n) * row_bytes + i, 0, 2);
        if (type.block == 256) mm_scales_256(s[n], t, at + n * row_bytes);
    }
    for (int n = 0; n < rows; n++) mm_unpack_32(x + 32 * n, t, at + n * row_bytes, j, s[n]);
}

// Neighbouring rows of a strip that come from one tensor.
typedef struct {
    const uint8_t *at; // the first row
    size_t row_bytes;
    DType type;
    int first, rows;  // of the strip
    int shift, bytes; // a block is 1 << shift columns
} MatmulRun;

// The runs of rows row0 ... row0 + MM_STRIP - 1 of w, as far as there are rows; returns how many.
SIMD_INLINE int mm_runs(MatmulRun runs[3], const Weight *w, int row0) {
    int n = 0;
    const RawTensor *raw = w->raw;
    for (int s = 0; s < MM_STRIP && row0 + s < w->N; s += runs[n++].rows) {
        int row = row0 + s;
        for (raw = w->raw; row >= raw->shape[0]; raw++) row -= (int)raw->shape[0];
        MatmulRun *run = &runs[n];
        const DTypeInfo type = dtype_info(raw->dtype);
        run->type = raw->dtype;
        run->row_bytes = dtype_size(raw->dtype, (size_t)w->K);
        run->at = (const uint8_t *)raw->data + (size_t)row * run->row_bytes;
        run->first = s;
        run->rows = (int)raw->shape[0] - row < MM_STRIP - s ? (int)raw->shape[0] - row : MM_STRIP - s;
        run->shift = type.block == 256 ? 8 : 5;
        run->bytes = type.block > 1 ? type.bytes : 32 * type.bytes;
    }
    return n;
}

// The same of a float tensor, seldom: stacked with one that is quantised.
static inline void mm_unpack_floats(bf16_t *x, DType t, const uint8_t *at, size_t row_bytes, int rows) {
    for (int n = 0; n < rows; n++, at += row_bytes)
        for (int c = 0; c < 32; c++, x++) {
            uint16_t h;
            float f;
            memcpy(&h, at + 2 * c, 2);
            if (t == DTYPE_F32) memcpy(&f, at + 4 * c, 4);
            else f = f16_to_f32(h);
            *x = t == DTYPE_BF16 ? h : f32_to_bf16(f);
        }
}

// to[steps / 2][MM_STRIP][2] = columns k0 ... of rows row0 ... of w; zeros where there is no such row. k0 and steps are
// multiples of 32.
static void mm_unpack_strip(bf16_t *to, const Weight *w, int row0, int k0, int steps) {
    __attribute__((aligned(64))) bf16_t x[MM_STRIP * 32];
    __attribute__((aligned(64))) float scales[MM_STRIP][16];
    MatmulRun runs[3];
    const int n_runs = mm_runs(runs, w, row0);
    if (row0 + MM_STRIP > w->N) memset(x, 0, sizeof x);
    for (int k = k0; k < k0 + steps; k += 32, to += 32 * MM_STRIP) {
        for (const MatmulRun *run = runs; run < runs + n_runs; run++) {
            const uint8_t *at = run->at + (size_t)(k >> run->shift) * (size_t)run->bytes;
            const int j = (k & ((1 << run->shift) - 1)) / 32;
            const bool fresh = j == 0 || k == k0;
            bf16_t *part = x + 32 * run->first;
            float (*s)[16] = scales + run->first;
#define MM_UNPACK(type) \
case DTYPE_##type: mm_unpack_run(part, s, DTYPE_##type, at, run->row_bytes, run->rows, j, fresh); break
            switch (run->type) {
                MM_UNPACK(Q8_0);
                MM_UNPACK(Q5_0);
                MM_UNPACK(Q5_1);
                MM_UNPACK(Q4_0);
                MM_UNPACK(Q4_1);
                MM_UNPACK(Q4_K);
                MM_UNPACK(Q5_K);
                MM_UNPACK(Q6_K);
            default: mm_unpack_floats(part, run->type, at, run->row_bytes, run->rows);
            }
#undef MM_UNPACK
        }
        mm_turn(to, x);
    }
}

// Strips of `rows` rows from row0 on, `strip` values apart.
static void mm_unpack(bf16_t *to, size_t strip, const Weight *w, int row0, int rows, int k0, int steps) {
    for (int s = 0; s < rows / MM_STRIP; s++) mm_unpack_strip(to + s * strip, w, row0 + s * MM_STRIP, k0, steps);
}

// What mm_repack makes of the packed rows row0 ... row0 + 63 and n_k2 pairs of columns from k0 on.
static void mm_unpack_turned(bf16_t *to, const Weight *w, int row0, int k0, int n_k2) {
    __attribute__((aligned(64))) bf16_t square[MM_COLS * 64];
    mm_unpack(square, 64 * MM_STRIP, w, row0, MM_COLS, k0, 2 * n_k2);
    mm_repack(to, square, 64 * MM_STRIP, n_k2);
}

#endif
