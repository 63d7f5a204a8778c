/*
The loops around the tiles of one strip (tile_fma.h, tile_neon.h, tile_neon_bf16.h). Some rows of the input by MM_SUM
values of the sum are turned to what a tile reads, once for all outputs of a piece, and lie in the L2 cache; a strip of
weights by as many values lies in the L1 cache while all these rows pass, as tiles. Between blocks of the sum, sums rest
in the output.
*/
#ifndef LLMC_CPU_STRIPS_H
#define LLMC_CPU_STRIPS_H

#define MM_SUM (2 * MM_BLOCK)
#define mm_tile_of SIMD_NAME(mm_tile_of)
#define mm_strip SIMD_NAME(mm_strip)
#define mm_panels SIMD_NAME(mm_panels)

#if MM_CHUNK_BACKWARD > MM_CHUNK
#error "matmul_input has room for MM_CHUNK rows"
#endif
// scratch of one thread: the input of a chunk, each of whose tiles may end in rows that are missing
static __thread __attribute__((aligned(64))) mm_input matmul_input[(MM_CHUNK + MM_CHUNK / MM_ROWS * 3) * MM_SUM];

static __thread int matmul_tiles[MM_CHUNK / MM_ROWS + 2]; // the first row of each tile of a chunk, and of none

// out[height][n] = (first ? 0 : out) + x times `steps` steps of the strip at b (+ bias). An edge, fewer outputs than a
// strip, goes through an array of whole strips.
static inline void mm_tile_of(float *out, size_t ld_out, int height, int n, bool first, const float *bias,
                              const mm_input *x, const bf16_t *b, int steps, MatmulPrefetch *prefetch) {
    float edge[MM_ROWS * MM_STRIP], *to = n < MM_STRIP ? edge : out;
    const size_t ld = n < MM_STRIP ? MM_STRIP : ld_out;
    for (int j = 0; j < height && n < MM_STRIP && !first; j++)
        memcpy(edge + j * MM_STRIP, out + j * ld_out, (size_t)n * sizeof *edge);
    const float *from = first ? NULL : to;
#define MM_TILE(R) \
case R: mm_tile(R, to, ld, from, ld, x, b, steps, prefetch); break
    switch (height) {
        MM_TILE(1);
        MM_TILE(2);
        MM_TILE(3);
        MM_TILE(4);
        MM_TILE(5);
        MM_TILE(6);
#if MM_ROWS == 12
        MM_TILE(7);
        MM_TILE(8);
        MM_TILE(9);
        MM_TILE(10);
        MM_TILE(11);
        MM_TILE(12);
#endif
    }
#undef MM_TILE
    for (int j = 0; j < height && n < MM_STRIP; j++)
        memcpy(out + j * ld_out, edge + j * MM_STRIP, (size_t)n * sizeof *edge);
    for (int j = 0; j < height && bias; j++)
        for (int k = 0; k < n; k++) out[j * ld_out + k] += bias[k];
}

// Rows r0 ... r1-1 of one strip and the `steps` of the sum from `sum0` on, of which b points to the weights. Meanwhile
// those at prefetch come in.
static void mm_strip(const MatmulJob *job, int r0, int r1, int strip, int sum0, int steps, const bf16_t *b,
                     MatmulPrefetch *prefetch) {
    const int n_tiles = (r1 - r0 + MM_ROWS - 1) / MM_ROWS, left = job->n_out - strip * MM_STRIP;
    const int whole = mm_whole(steps), groups = (whole / 2 + MM_GROUP - 1) / MM_GROUP * n_tiles;
    const size_t ld = (size_t)job->n_out;
    const float *bias = job->bias && sum0 + steps >= job->n_sum ? job->bias + (size_t)strip * MM_STRIP : NULL;
    const mm_input *x = matmul_input;
    prefetch->burst = (prefetch->lines + groups - 1) / groups;
    for (int i = 0; i < n_tiles; i++) {
        const int r = matmul_tiles[i], height = matmul_tiles[i + 1] - r;
        float *out = job->out + (size_t)(r0 + r) * ld + (size_t)strip * MM_STRIP;
        for (int j = height; i + 1 < n_tiles && j < 2 * height; j++)
            __builtin_prefetch(out + j * ld, 1, 3); // the next tile's sums
        mm_tile_of(out, ld, height, left < MM_STRIP ? left : MM_STRIP, sum0 == 0, bias, x, b, whole, prefetch);
        x += mm_input_size(height, whole);
    }
}

// Panels p0 ... p1-1 of rows r0 ... r1-1 and one block of the sum.
static void mm_panels(const MatmulJob *job, int r0, int r1, int p0, int p1, int sum0, int steps) {
    enum {
        STRIPS = MM_COLS / MM_STRIP,
        PIECE = 2 * MM_STRIP
    }; // of a panel; cache lines that the backward finds side by side
    const size_t strip = job->panel / STRIPS;
    const int n_tiles = (r1 - r0 + MM_ROWS - 1) / MM_ROWS, whole = mm_whole(steps);
    mm_input *x = matmul_input;
    for (int i = 0; i <= n_tiles; i++) matmul_tiles[i] = (r1 - r0) * i / n_tiles; // as equal as can be
    for (int i = 0; i < n_tiles; i++) {
        const int r = matmul_tiles[i], height = matmul_tiles[i + 1] - r;
        for (int j = r + height; j < r + 2 * height && r0 + j < r1; j++)
            for (int k = 0; k < steps; k += 32)
                __builtin_prefetch(job->in + (size_t)(r0 + j) * job->ld_in + sum0 + k, 0, 3);
        mm_turn_input(x, job->in + (size_t)(r0 + r) * job->ld_in + sum0, (size_t)job->ld_in, height, steps);
        x += mm_input_size(height, whole);
    }
    for (int p = p0; p < p1; p++) {
        const bf16_t *from = job->w + (job->backward ? sum0 / MM_COLS * job->panel + (size_t)p * MM_COLS * MM_STRIP
                                                     : p * job->panel + (size_t)sum0 * MM_STRIP);
        if (job->backward) {
            const int n_words = (job->n_out + 1) / 2 - 32 * p < 32 ? (job->n_out + 1) / 2 - 32 * p : 32;
            for (int i = 0; i < whole; i += MM_COLS) {
                bf16_t *rows = matmul_scratch + (size_t)i * MM_STRIP;
                if (job->quant) mm_unpack_turned(rows, job->quant, sum0 + i, MM_COLS * p, n_words);
                else mm_repack(rows, from + i / MM_COLS * job->panel, strip, n_words);
            }
        } else if (job->quant)
            mm_unpack(matmul_scratch, (size_t)MM_SUM * MM_STRIP, job->quant, MM_COLS * p, MM_COLS, sum0, steps);
        for (int s = 0; s < STRIPS && p * MM_COLS + s * MM_STRIP < job->n_out; s++) {
            const bf16_t *b =
                job->backward || job->quant ? matmul_scratch + (size_t)s * MM_SUM * MM_STRIP : from + s * strip;
            MatmulPrefetch f;
            memset(&f, 0, sizeof f);
            f.lines = job->quant ? 0 : whole * MM_STRIP / 32;
            if (job->quant) {
                f.at = (const char *)b;
            } else if (!job->backward) { // the next strip, or the first of the next block
                const bool more = s + 1 < STRIPS || p + 1 < p1;
                f.at = (const char *)(more ? b + strip : job->w + p0 * job->panel + (size_t)(sum0 + steps) * MM_STRIP);
                f.piece = f.left = f.lines;
                if (!more && sum0 + steps >= job->n_sum) f.lines = 0;
            } else { // of the next panel what lies in this one of the forward's strips; the last may be short
                f.at = (const char *)(from + MM_COLS * MM_STRIP + s * strip);
                f.piece = f.left = PIECE;
                f.skip = (job->panel - (size_t)MM_COLS * MM_STRIP) * sizeof *b;
                if (p + 1 == p1 || p + 2 == job->n_panels) f.lines = 0;
            }
            mm_strip(job, r0, r1, p * STRIPS + s, sum0, steps, b, &f);
        }
    }
}

// Units u0 ... u1-1 of a product; unit u is chunk u / n_panels of the rows times panel u % n_panels.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    const int block = 2 * job->block;
    for (int u = u0, next; u < u1; u = next) {
        const int chunk = u / job->n_panels, p0 = u % job->n_panels;
        next = (chunk + 1) * job->n_panels < u1 ? (chunk + 1) * job->n_panels : u1;
        const int r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        for (int k = 0; k < job->n_sum; k += block)
            mm_panels(job, r0, r1, p0, p0 + next - u, k, job->n_sum - k < block ? job->n_sum - k : block);
    }
}

#endif
