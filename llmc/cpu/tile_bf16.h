/*
Products of matmul.h in bf16 dot products, VDPBF16PS: one instruction multiplies 16 words of weights by a broadcast pair
of the input. A strip is a whole panel, of which all is read where it lies.
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

// Rows r0 ... r1-1 of one panel and one block of the sum, in tiles of as equal height as can be. Meanwhile next_pairs
// pairs from `next` on, in pieces of 32 that lie next_stride bytes apart, come in.
static inline void mm_rows(const MatmulJob *job, int r0, int r1, int panel, const bf16_t *b, int sum0, int pairs,
                           const bf16_t *next, size_t next_stride, int next_pairs) {
    int rows = r1 - r0, n_tiles = (rows + MM_ROWS - 1) / MM_ROWS;
    int cols = job->n_out - panel * MM_COLS < MM_COLS ? job->n_out - panel * MM_COLS : MM_COLS;
    bool first = sum0 == 0, last = sum0 + 2 * pairs >= job->n_sum;
    const float *bias = last && job->bias ? job->bias + (size_t)panel * MM_COLS : NULL;
    enum { PIECE = 2 * MM_COLS };                       // cache lines of 32 pairs
    if (n_tiles == 1 && !job->backward) next_pairs = 0; // it is a stream anyway
    const int next_lines = next_pairs * MM_STRIP / 16, burst = (MM_GROUP * MM_STRIP / 16 + n_tiles - 1) / n_tiles;
    MatmulPrefetch prefetch = {(const char *)next, next_stride - PIECE * 64, 0, PIECE, PIECE, 0, burst};
    for (int i = 0; i < n_tiles; i++) {
        int r = r0 + (int)((int64_t)rows * i / n_tiles), height = r0 + (int)((int64_t)rows * (i + 1) / n_tiles) - r;
        float *out = job->out + (size_t)r * job->n_out + (size_t)panel * MM_COLS;
        const bf16_t *in = job->in + (size_t)r * job->ld_in + sum0;
        const size_t ld_out = (size_t)job->n_out, ld_in = (size_t)job->ld_in;
        prefetch.lines = next_lines * (i + 1) / n_tiles - next_lines * i / n_tiles;
#define MM_TILE(R) \
case R: mm_tile(R, out, ld_out, cols, in, ld_in, b, pairs, first, bias, &prefetch); break
        switch (height) {
            MM_TILE(1);
            MM_TILE(2);
            MM_TILE(3);
            MM_TILE(4);
            MM_TILE(5);
            MM_TILE(6);
        }
#undef MM_TILE
    }
}

// Units u0 ... u1-1 of a product; unit u is chunk u / n_panels of the rows times panel u % n_panels.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    const int n_pairs = job->n_sum / 2;
    for (int u = u0, next; u < u1; u = next) {
        int chunk = u / job->n_panels, p0 = u % job->n_panels;
        next = (chunk + 1) * job->n_panels < u1 ? (chunk + 1) * job->n_panels : u1;
        int p1 = p0 + next - u, r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        if (!job->backward) {
            for (int p = p0; p < p1; p++)
                for (int k = 0; k < n_pairs; k += job->block) {
                    const bf16_t *b = job->w + p * job->panel + (size_t)k * 2 * MM_COLS;
                    int pairs = n_pairs - k < job->block ? n_pairs - k : job->block;
                    bool end = p + 1 == p1 && k + pairs == n_pairs;
                    const bf16_t *after =
                        k + pairs < n_pairs ? b + (size_t)pairs * 2 * MM_COLS : job->w + (p + 1) * job->panel;
                    if (job->quant) {
                        mm_unpack(matmul_scratch, 0, job->quant, MM_COLS * p, MM_COLS, 2 * k, 2 * pairs);
                        mm_rows(job, r0, r1, p, matmul_scratch, 2 * k, pairs, matmul_scratch, 128 * MM_COLS, 0);
                    } else mm_rows(job, r0, r1, p, b, 2 * k, pairs, after, 128 * MM_COLS, end ? 0 : pairs);
                }
            continue;
        }
        for (int k = 0; k < n_pairs; k += job->block) // every panel takes this block of `in` while it is in the cache
            for (int p = p0; p < p1; p++) {
                int pairs = n_pairs - k < job->block ? n_pairs - k : job->block;
                int n_k2 = (job->n_out + 1) / 2 - 32 * p < 32 ? (job->n_out + 1) / 2 - 32 * p : 32;
                const bf16_t *from = job->w + k / 32 * job->panel + (size_t)p * 32 * 2 * MM_COLS;
                for (int i = 0; i < pairs; i += 32) {
                    bf16_t *rows = matmul_scratch + (size_t)i * 2 * MM_COLS;
                    if (job->quant) mm_unpack_turned(rows, job->quant, 2 * (k + i), 64 * p, n_k2);
                    else mm_repack(rows, from + i / 32 * job->panel, job->panel, n_k2);
                }
                bool end = p + 1 == p1 || p + 2 == job->n_panels || job->quant; // the last panel may be short
                mm_rows(job, r0, r1, p, matmul_scratch, 2 * k, pairs, from + 32 * 2 * MM_COLS,
                        job->panel * sizeof *from, end ? 0 : pairs / 32 * 32);
            }
    }
}

#endif
