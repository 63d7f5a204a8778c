/*
Matrix products over packed bf16 weights: how they are cut into tiles and dealt to threads. The tiles themselves are in tile_fma.h,
tile_bf16.h, tile_amx.h, tile_neon.h and tile_neon_bf16.h, the packing's two transposes there or in pack.h.

Packing (weight_load, once): strips of 64 rows of W (avx512_bf16; 32 avx512, 16 the others), each [K/2][64][2]: a
pair of neighbours along K lies in one 32-bit word, the words of 64 outputs side by side. One VDPBF16PS takes 16 such
words and one broadcast pair of x. Same size as the file's bf16; the last panel (64 rows) is padded with zeros. neon_bf16
has four neighbours together, [K/4][16][4], in the same places.

    forward   y[T,N]  = x[T,K] W^T     sums over K, reads the panels as they lie
    backward  dx[T,K] = dy[T,N] W      sums over N: blocks of W are turned into strips of 64 columns,
                                       [N/2][64][2], in a buffer that stays in the L2 cache, then the same tile

Batch-invariance: an output element is one accumulator that starts at 0 and takes the pairs of its sum in
ascending order, then the bias. Between blocks of the sum the accumulator rests in the output array, which
keeps its bits. Which rows share a tile, how panels are dealt to threads, where blocks end: none of it
enters the chain.
*/
#ifndef LLMC_CPU_MATMUL_H
#define LLMC_CPU_MATMUL_H

#include "llmc/cpu/shared.h" // Weight, bf16_t, cpu_weight_pack
#include "llmc/cpu/simd.h"
#include "llmc/threads.h"

#define MM_COLS 64      // outputs of a panel, the unit of work: one strip of 64, two of 32 or four of 16
#define MM_BLOCK_MAX 512 // pairs of the sum per pass over a panel, see MM_BLOCK
#define MM_PACK (SIMD_LEVEL == SIMD_NEON_BF16 ? 4 : 2) // neighbours along a sum that lie together in the packed weights; sums are padded to whole ones
#define MM_GROUP 8      // pairs between two bursts of prefetches
#define MM_NEAR 262144  // bytes of input that stay in the L2 cache; of more, each tile's are prefetched

typedef struct {
    float *out;         // [T, n_out]
    const bf16_t *in;   // [T, n_sum]
    const bf16_t *w;    // packed
    const float *bias;  // [n_out] or NULL
    int T, n_out, n_sum; // n_sum even
    int ld_in;
    size_t panel;       // bf16 values in one packed panel
    bool backward;
    int chunk, n_chunks, n_panels; // rows per chunk; panels of 64 outputs
    int block;          // pairs of the sum per pass over a panel
    bf16_t *a, *gu_saved; // amx: not NULL: SwiGLU instead of out; a panel is 32 columns of gate and the same 32 of up
} MatmulJob;

// What to bring into the L2 cache while tiles compute: `lines` more cache lines from `at` on, in pieces of `piece` lines
// (`left` of this one) with `skip` bytes between them, at most `burst` at a time; with each, where `beside` is not 0, the line
// so many bytes further.
typedef struct {
    const char *at;
    size_t skip, beside;
    int piece, left, lines, burst;
} MatmulPrefetch;

// in[T, ...] times w, either way; the caller adds where the sums run
SIMD_INLINE MatmulJob matmul_job(const act *in, const Weight *w, int T) {
    MatmulJob job;
    memset(&job, 0, sizeof job);
    job.in = (const bf16_t *)in;
    job.w = (const bf16_t *)w->data;
    job.T = T;
    job.panel = (size_t)((w->K + MM_PACK - 1) / MM_PACK * MM_PACK) * MM_COLS;
    return job;
}

// scratch of one thread: one block of a backward panel
static __thread __attribute__((aligned(64))) bf16_t matmul_scratch[MM_BLOCK_MAX * MM_COLS * 2];

#define mm_rows SIMD_NAME(mm_rows)
#define mm_turn SIMD_NAME(mm_turn)
#define mm_repack SIMD_NAME(mm_repack)
#define mm_turn_input SIMD_NAME(mm_turn_input)
#define mm_work SIMD_NAME(mm_work)
#define mm_run SIMD_NAME(mm_run)

SIMD_INLINE void mm_prefetch(MatmulPrefetch *f) {
    for (int i = 0; i < f->burst && f->lines > 0; i++, f->lines--) {
        __builtin_prefetch(f->at, 0, 2);
        if (f->beside) __builtin_prefetch(f->at + f->beside, 0, 2);
        f->at += 64;
        if (--f->left > 0) continue;
        f->at += f->skip;
        f->left = f->piece;
    }
}

// MM_STRIP: outputs side by side in memory, what a tile is wide. MM_ROWS: rows of the largest tile. MM_BLOCK: pairs of the sum
// per pass. MM_CHUNK: rows that share one pass over the weights; more in the backward, where each pass also turns the weights.
#if SIMD_LEVEL == SIMD_AMX
#define MM_STRIP 16            // a tile register is 16 outputs wide: each is filled from 1 KiB in one piece
#define MM_BLOCK 256           // 32 KiB of two strips, in the L1 cache
#define MM_CHUNK 256
#define MM_CHUNK_BACKWARD 512
#elif SIMD_LEVEL == SIMD_AVX512_BF16
#define MM_STRIP 64
#define MM_ROWS 6              // 6 x 4 accumulators of 16, 4 weights, 1 input: 29 of 32 registers
#define MM_BLOCK MM_BLOCK_MAX  // 128 KiB of a panel, well inside the L2 cache
#define MM_CHUNK 384
#define MM_CHUNK_BACKWARD 512
#elif SIMD_LEVEL == SIMD_AVX512
#define MM_STRIP 32
#define MM_ROWS 12             // 12 x 2 accumulators, 2 weights, 1 input, 1 mask: 28 of 32 registers
#define MM_BLOCK 128           // 16 KiB of a strip and 12 of input, in the L1 cache
#define MM_CHUNK 384
#define MM_CHUNK_BACKWARD 512
#elif SIMD_LEVEL == SIMD_NEON
#define MM_STRIP 16
#define MM_ROWS 12
#define MM_BLOCK 128           // 8 KiB of a strip and 12 of input, in the L1 cache
#define MM_CHUNK 384
#define MM_CHUNK_BACKWARD 512
#else
#define MM_STRIP 16
#define MM_ROWS 6
#define MM_BLOCK 256           // 16 KiB of a strip, in the L1 cache
#define MM_CHUNK 128           // rows of 896 stay in an L2 cache of 512 KiB
#define MM_CHUNK_BACKWARD 512
#endif

#if defined __clang__ && defined __aarch64__
#define MM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined __clang__
#define MM_UNROLL
#else
#define MM_UNROLL _Pragma("GCC unroll 12") // so that the accumulators are registers
#endif

#if SIMD_LEVEL == SIMD_NEON
#include "llmc/cpu/tile_neon.h" // mm_turn, mm_repack, mm_turn_input, mm_tile
#elif SIMD_LEVEL == SIMD_NEON_BF16
#include "llmc/cpu/tile_neon_bf16.h"
#else
#include "llmc/cpu/pack.h" // mm_turn, mm_repack
#if SIMD_LEVEL == SIMD_AMX
#include "llmc/cpu/tile_amx.h" // mm_work
#elif SIMD_LEVEL == SIMD_AVX512_BF16
#include "llmc/cpu/tile_bf16.h" // mm_tile
#else
#include "llmc/cpu/tile_fma.h" // mm_turn_input, mm_tile
#endif
#endif

#if SIMD_LEVEL != SIMD_AMX

#if SIMD_LEVEL != SIMD_AVX512_BF16
// scratch of one thread: the sums of a panel between two blocks of a forward product. In the output, whose rows may lie a multiple of a
// large power of two apart, they would share few sets of the cache.
static __thread __attribute__((aligned(64))) float matmul_rest[MM_CHUNK * MM_COLS];
#endif

// Rows r0 ... r1-1 of one panel and one block of the sum, in tiles of as equal height as can be. Meanwhile next_pairs pairs of
// each strip from `next` on, in pieces of 32 that lie next_stride bytes apart, come in.
static inline void mm_rows(const MatmulJob *job, int r0, int r1, int panel, const bf16_t *b, size_t strip, int sum0,
                           int pairs, const bf16_t *next, size_t next_stride, int next_pairs) {
    int rows = r1 - r0, n_tiles = (rows + MM_ROWS - 1) / MM_ROWS;
    int cols = job->n_out - panel * MM_COLS < MM_COLS ? job->n_out - panel * MM_COLS : MM_COLS;
    bool first = sum0 == 0, last = sum0 + 2 * pairs >= job->n_sum;
    const float *bias = last && job->bias ? job->bias + (size_t)panel * MM_COLS : NULL;
    enum { STRIPS = MM_COLS / MM_STRIP, PIECE = 2 * MM_STRIP }; // of a panel; cache lines of 32 pairs
    if (SIMD_LEVEL == SIMD_AVX512_BF16 && n_tiles == 1 && !job->backward) next_pairs = 0; // it is a stream anyway
    const int next_lines = next_pairs * MM_STRIP / 16, burst = (MM_GROUP * MM_STRIP / 16 + n_tiles - 1) / n_tiles;
#if SIMD_LEVEL != SIMD_AVX512_BF16
    const bool far = (size_t)rows * (job->backward ? 2 * job->block : job->n_sum) * sizeof(bf16_t) > MM_NEAR; // the input that passes again and again
#endif
    MatmulPrefetch prefetch[STRIPS];
    for (int s = 0; s < STRIPS; s++) {
        const MatmulPrefetch f = {(const char *)(next + s * job->panel / STRIPS), next_stride - PIECE * 64, 0, PIECE, PIECE, 0, burst};
        prefetch[s] = f;
    }
    for (int i = 0; i < n_tiles; i++) {
        int r = r0 + (int)((int64_t)rows * i / n_tiles), height = r0 + (int)((int64_t)rows * (i + 1) / n_tiles) - r;
        float *out = job->out + (size_t)r * job->n_out + (size_t)panel * MM_COLS;
        const bf16_t *in = job->in + (size_t)r * job->ld_in + sum0;
        const size_t ld_out = (size_t)job->n_out, ld_in = (size_t)job->ld_in;
        for (int s = 0; s < STRIPS; s++) prefetch[s].lines = next_lines * (i + 1) / n_tiles - next_lines * i / n_tiles;
#if SIMD_LEVEL == SIMD_AVX512_BF16
        (void)strip;
#define MM_TILE(R) case R: mm_tile(R, out, ld_out, cols, in, ld_in, b, pairs, first, bias, prefetch); break
        switch (height) { MM_TILE(1); MM_TILE(2); MM_TILE(3); MM_TILE(4); MM_TILE(5); MM_TILE(6); }
#else
        const int next_height = i + 1 < n_tiles ? r0 + (int)((int64_t)rows * (i + 2) / n_tiles) - r - height : 0;
        mm_input x[MM_INPUT];
        mm_turn_input(x, in, ld_in, height, pairs);
        float *rest = matmul_rest + (size_t)(r - r0) * MM_COLS; // sums go to `to` from `from`
        float *to = job->backward || last ? out : rest;
        const float *from = first ? NULL : job->backward ? out : rest;
        const size_t ld_to = to == out ? ld_out : MM_COLS, ld_from = from == out ? ld_out : MM_COLS;
        for (int c = 0; c < cols; c += MM_STRIP) {
            const int n = cols - c < MM_STRIP ? cols - c : MM_STRIP;
            const bf16_t *bc = b + c / MM_STRIP * strip;
            if (far) // a part of the next tile's input
                for (int j = next_height * c / cols; j < next_height * (c + MM_STRIP) / cols; j++)
                    for (int k = 0; k < pairs; k += 16) __builtin_prefetch(in + (height + j) * ld_in + 2 * k, 0, 2);
            if (from == out) { // what the next strip's sums begin with
                const bool more = c + MM_STRIP < cols;
                for (int j = 0; j < (more ? height : next_height); j++)
                    __builtin_prefetch(more ? from + j * ld_from + c + MM_STRIP : from + (height + j) * ld_from, 0, 3);
            }
            float edge[MM_ROWS * MM_STRIP], *strip_to = to + c; // a tile writes whole strips
            const float *strip_from = from ? from + c : NULL;
            size_t ld_strip_to = ld_to, ld_strip_from = ld_from;
            if (n < MM_STRIP && to == out) {
                for (int j = 0; j < height && from; j++) memcpy(edge + j * MM_STRIP, from + j * ld_from + c, (size_t)n * sizeof *edge);
                strip_to = edge;
                ld_strip_to = MM_STRIP;
                if (from) strip_from = edge, ld_strip_from = MM_STRIP;
            }
#define MM_TILE(R) case R: mm_tile(R, strip_to, ld_strip_to, strip_from, ld_strip_from, x, bc, pairs, &prefetch[c / MM_STRIP]); break
            switch (height) {
                MM_TILE(1); MM_TILE(2); MM_TILE(3); MM_TILE(4); MM_TILE(5); MM_TILE(6);
#if MM_ROWS == 12
                MM_TILE(7); MM_TILE(8); MM_TILE(9); MM_TILE(10); MM_TILE(11); MM_TILE(12);
#endif
            }
            for (int j = 0; j < height && strip_to == edge; j++)
                memcpy(out + j * ld_out + c, edge + j * MM_STRIP, (size_t)n * sizeof *edge);
            for (int j = 0; j < height && bias; j++)
                for (int k = 0; k < n; k++) out[j * ld_out + c + k] += bias[c + k];
        }
#endif
#undef MM_TILE
    }
}

// Units u0 ... u1-1 of a product; unit u is chunk u / n_panels of the rows times panel u % n_panels.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    const int n_pairs = job->n_sum / 2;
    const size_t strip = job->panel / (MM_COLS / MM_STRIP);
    for (int u = u0, next; u < u1; u = next) {
        int chunk = u / job->n_panels, p0 = u % job->n_panels;
        next = (chunk + 1) * job->n_panels < u1 ? (chunk + 1) * job->n_panels : u1;
        int p1 = p0 + next - u, r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        if (!job->backward) {
            for (int p = p0; p < p1; p++)
                for (int k = 0; k < n_pairs; k += job->block) {
                    const bf16_t *b = job->w + p * job->panel + (size_t)k * 2 * MM_STRIP;
                    int pairs = n_pairs - k < job->block ? n_pairs - k : job->block;
                    bool end = p + 1 == p1 && k + pairs == n_pairs;
                    const bf16_t *behind = k + pairs < n_pairs ? b + (size_t)pairs * 2 * MM_STRIP : job->w + (p + 1) * job->panel;
                    mm_rows(job, r0, r1, p, b, strip, 2 * k, pairs, behind, 128 * MM_STRIP, end ? 0 : pairs);
                }
            continue;
        }
        for (int k = 0; k < n_pairs; k += job->block) // every panel takes this block of `in` while it is in the cache
            for (int p = p0; p < p1; p++) {
                int pairs = n_pairs - k < job->block ? n_pairs - k : job->block;
                int n_k2 = (job->n_out + 1) / 2 - 32 * p < 32 ? (job->n_out + 1) / 2 - 32 * p : 32;
                const bf16_t *from = job->w + k / 32 * job->panel + (size_t)p * 32 * 2 * MM_STRIP;
                for (int i = 0; i < pairs; i += 32)
                    mm_repack(matmul_scratch + (size_t)i * 2 * MM_STRIP, from + i / 32 * job->panel, strip, n_k2);
                bool end = p + 1 == p1 || p + 2 == job->n_panels; // the last panel may be short
                mm_rows(job, r0, r1, p, matmul_scratch, (size_t)MM_BLOCK * 2 * MM_STRIP, 2 * k, pairs, from + 32 * 2 * MM_STRIP,
                        job->panel * sizeof *from, end ? 0 : pairs / 32 * 32);
            }
    }
}

#endif

static void mm_run(MatmulJob *job) {
    if (job->T <= 0 || job->n_out <= 0) return;
    bf16_t *padded = NULL; // a sum that does not fill its last MM_PACK: copy in with zeros at the end of each row
    if (job->n_sum % MM_PACK) {
        const int n = job->n_sum, n_padded = (n + MM_PACK - 1) / MM_PACK * MM_PACK;
        padded = (bf16_t *)cpu_scratch((size_t)job->T * n_padded * sizeof *padded);
        for (int t = 0; t < job->T; t++) {
            memcpy(padded + (size_t)t * n_padded, job->in + (size_t)t * n, (size_t)n * sizeof *padded);
            for (int i = n; i < n_padded; i++) padded[(size_t)t * n_padded + i] = 0;
        }
        job->in = padded;
        job->n_sum = n_padded;
    }
    job->ld_in = job->n_sum;
    job->n_panels = (job->n_out + MM_COLS - 1) / MM_COLS;
    const int n_blocks = (job->n_sum / 2 + MM_BLOCK - 1) / MM_BLOCK; // as equal as can be in pieces of 32
    job->block = ((job->n_sum / 2 + n_blocks - 1) / n_blocks + 31) / 32 * 32;
    double work = (double)job->T * job->n_out * job->n_sum;
    int n_threads = work < 5e5 ? 1 : omp_get_max_threads(); // below, waking threads costs more than they save
    int least = job->backward ? 96 : 24; // rows that pay for another pass over the weights
    job->chunk = job->backward ? MM_CHUNK_BACKWARD : MM_CHUNK;
    job->n_chunks = (job->T + job->chunk - 1) / job->chunk;
    job->chunk = (job->T + job->n_chunks - 1) / job->n_chunks; // as equal as can be
    while ((int64_t)job->n_panels * job->n_chunks < 4 * n_threads && job->chunk / 2 >= least) {
        job->chunk = (job->chunk + 1) / 2;
        job->n_chunks = (job->T + job->chunk - 1) / job->chunk;
    }
    int n_units = job->n_panels * job->n_chunks;
    // Large products are dealt out in more pieces than threads, to whoever is free: cores may be unlike or busy. In
    // fewer where each reads all of `in`. With tiles that reading, and the first weights of a piece, which nobody brought
    // in, cost more than the dealing gains.
    int n_pieces = n_threads * (work < 1e8 || SIMD_LEVEL == SIMD_AMX ? 1 : job->backward ? 2 : 8), taken = 0;
    if (n_pieces > n_units) n_pieces = n_units;
    if (n_threads == 1) {
        mm_work(job, 0, n_units);
    } else {
#pragma omp parallel // always the whole team: libgomp ends and starts threads when its size changes
        for (;;) {
            int i;
#pragma omp atomic capture
            i = taken++;
            if (i >= n_pieces) break;
            mm_work(job, (int)((int64_t)n_units * i / n_pieces), (int)((int64_t)n_units * (i + 1) / n_pieces));
        }
    }
    free(padded);
}

// w = the raw tensors stacked along N, packed
static void SIMD_NAME(weight_load)(Weight *w, const RawTensor *raw, int n_raw) {
    cpu_weight_pack(w, raw, n_raw, MM_STRIP, MM_PACK, mm_turn);
}

// y[T,N] = x[T,K] W^T + bias[N]
static void SIMD_NAME(matmul_forward)(float *y, const act *x, const Weight *w, const float *bias, int T) {
    MatmulJob job = matmul_job(x, w, T);
    job.out = y;
    job.bias = bias;
    job.n_out = w->N;
    job.n_sum = w->K;
    mm_run(&job);
}

// dx[T,K] = dy[T,N] W
static void SIMD_NAME(matmul_backward)(float *dx, const act *dy, const Weight *w, int T) {
    MatmulJob job = matmul_job(dy, w, T);
    job.out = dx;
    job.n_out = w->K;
    job.n_sum = w->N;
    job.backward = true;
    mm_run(&job);
}

#if SIMD_LEVEL == SIMD_AMX
static void SIMD_NAME(matmul_swiglu_forward)(act *a, act *gu_saved, float *gu, const act *x, const Weight *w, int T) {
    if (w->N % (2 * MM_COLS) || w->K % 2) { // a panel would not hold as much of gate as of up
        SIMD_NAME(matmul_forward)(gu, x, w, NULL, T);
        SIMD_NAME(swiglu_forward)(a, gu_saved, gu, T, w->N / 2);
        return;
    }
    MatmulJob job = matmul_job(x, w, T);
    job.n_out = w->N;
    job.n_sum = w->K;
    job.a = (bf16_t *)a;
    job.gu_saved = (bf16_t *)gu_saved;
    mm_run(&job);
}
#endif

#endif
