/*
Matrix products over packed bf16 weights: how they are cut into tiles and dealt to threads. The tiles themselves are in
tile_fma.h, tile_bf16.h, tile_amx.h, tile_neon.h and tile_neon_bf16.h, loops around those of one strip in strips.h, the
packing's two transposes in pack.h or the tiles' headers.

Packing (weight_load, once): strips of 64 rows of W (avx512_bf16; 32 avx512, 16 the others), each [K/2][64][2]: a
pair of neighbours along K lies in one 32-bit word, the words of 64 outputs side by side. One VDPBF16PS takes 16 such
words and one broadcast pair of x. Same size as the file's bf16; the last panel (64 rows) is padded with zeros.
neon_bf16 has four neighbours together, [K/4][16][4], in the same places. Quantised weights are not packed: they become
such strips block by block, in the cache (unpack.h), so that the tiles, and the bits, are those of the same numbers in
bf16.

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
#include "llmc/utils/threads.h"

#define MM_COLS 64       // outputs of a panel, the unit of work: one strip of 64, two of 32 or four of 16
#define MM_BLOCK_MAX 512 // pairs of the sum per pass over a panel, see MM_BLOCK
#define MM_BF16 \
    (SIMD_LEVEL == SIMD_AMX || SIMD_LEVEL == SIMD_AVX512_BF16 || \
     SIMD_LEVEL == SIMD_NEON_BF16) // products of bf16, not floats
#define MM_WHOLE \
    (SIMD_LEVEL == SIMD_NEON_BF16 ? 4 \
     : MM_BF16                    ? 2 \
                                  : 16) // packed weights fill a sum up with zeros to a multiple of this
#define MM_GROUP \
    (SIMD_LEVEL == SIMD_NEON || SIMD_LEVEL == SIMD_NEON_BF16 ? 32 : 8) // pairs between two bursts of prefetches

SIMD_INLINE int mm_whole(int steps) { return (steps + MM_WHOLE - 1) / MM_WHOLE * MM_WHOLE; }

typedef struct {
    float *out;          // [T, n_out]
    const bf16_t *in;    // [T, n_sum]
    const bf16_t *w;     // packed
    const Weight *quant; // not NULL: w is not read, its blocks become strips on the way (unpack.h)
    const float *bias;   // [n_out] or NULL
    int T, n_out, n_sum; // n_sum even
    int ld_in;
    size_t panel; // bf16 values in one packed panel
    bool backward;
    int chunk, n_chunks, n_panels; // rows per chunk; panels of 64 outputs
    int block;                     // pairs of the sum per pass over a panel
    bf16_t *a, *gu_saved; // amx: not NULL: SwiGLU instead of out; a panel is 32 columns of gate and the same 32 of up
} MatmulJob;

// What to bring into the L2 cache while tiles compute: `lines` more cache lines from `at` on, in pieces of `piece`
// lines
// (`left` of this one) with `skip` bytes between them, at most `burst` at a time; with each, where `beside` is not 0,
// the line so many bytes further.
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
    job.w = (const bf16_t *)(w->data ? w->data : w->raw[0].data);
    job.quant = w->data ? NULL : w;
    job.T = T;
    job.panel = (size_t)mm_whole(w->K) * MM_COLS;
    return job;
}

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

// MM_STRIP: outputs side by side in memory, what a tile is wide. MM_ROWS: rows of the largest tile. MM_BLOCK: pairs of
// the sum per pass. MM_CHUNK: rows that share one pass over the weights; more in the backward, where each pass also
// turns the weights.
#if SIMD_LEVEL == SIMD_AMX
#define MM_STRIP 16  // a tile register is 16 outputs wide: each is filled from 1 KiB in one piece
#define MM_BLOCK 256 // 32 KiB of two strips, in the L1 cache
#define MM_CHUNK 256
#define MM_CHUNK_BACKWARD 512
#elif SIMD_LEVEL == SIMD_AVX512_BF16
#define MM_STRIP 64
#define MM_ROWS 6             // 6 x 4 accumulators of 16, 4 weights, 1 input: 29 of 32 registers
#define MM_BLOCK MM_BLOCK_MAX // 128 KiB of a panel, well inside the L2 cache
#define MM_CHUNK 384
#define MM_CHUNK_BACKWARD 512
#elif SIMD_LEVEL == SIMD_AVX512
#define MM_STRIP 32
#define MM_ROWS 12   // 12 x 2 accumulators, 2 weights, 1 input, 1 mask: 28 of 32 registers
#define MM_BLOCK 128 // 16 KiB of a strip and 12 of input, in the L1 cache
#define MM_CHUNK 384 // 384 KiB of input, in the L2 cache
#define MM_CHUNK_BACKWARD 384
#elif SIMD_LEVEL == SIMD_NEON
#define MM_STRIP 16
#define MM_ROWS 12
#define MM_BLOCK 128 // 8 KiB of a strip and 12 of input, in the L1 cache
#define MM_CHUNK 192
#define MM_CHUNK_BACKWARD 192
#else
#define MM_STRIP 16
#define MM_ROWS 6
#define MM_BLOCK 128 // 8 KiB of a strip and 6 of input, in the L1 cache
#define MM_CHUNK 192 // 192 KiB of input, in the L2 cache
#define MM_CHUNK_BACKWARD 192
#endif

// Rows that share one pass over quantised weights: tiles are so fast that turning blocks into strips would show.
#if SIMD_LEVEL == SIMD_AMX
#define MM_CHUNK_QUANT 1024
#else
#define MM_CHUNK_QUANT MM_CHUNK
#endif

#if defined __clang__ && defined __aarch64__
#define MM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined __clang__
#define MM_UNROLL
#else
#define MM_UNROLL _Pragma("GCC unroll 12") // so that the accumulators are registers
#endif

// scratch of one thread: one block of a backward panel
static __thread __attribute__((aligned(64))) bf16_t matmul_scratch[MM_BLOCK * 2 * MM_COLS];

#if defined __aarch64__
// For tiles by hand: their 24 registers of sums, all that are not needed for factors, from or to memory at [sums]:
// `what` is ldp or stp.
#define MM_SUMS(what) \
    what " q0, q1, [%[sums]]\n\t" what " q2, q3, [%[sums], #32]\n\t" what " q4, q5, [%[sums], #64]\n\t" what \
         " q6, q7, [%[sums], #96]\n\t" what " q8, q9, [%[sums], #128]\n\t" what " q10, q11, [%[sums], #160]\n\t" what \
         " q12, q13, [%[sums], #192]\n\t" what " q14, q15, [%[sums], #224]\n\t" what \
         " q16, q17, [%[sums], #256]\n\t" what " q18, q19, [%[sums], #288]\n\t" what \
         " q20, q21, [%[sums], #320]\n\t" what " q22, q23, [%[sums], #352]\n\t"
#define MM_SUMS_CLOBBERED \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", \
        "v17", "v18", "v19", "v20", "v21", "v22", "v23"
#endif

// mm_turn and mm_repack, the packing; mm_unpack and mm_unpack_turned, the same for quantised weights; mm_work, the
// loops over tiles
#if SIMD_LEVEL == SIMD_AMX
#include "llmc/cpu/pack.h"
#include "llmc/cpu/unpack.h"
#include "llmc/cpu/tile_amx.h"
#elif SIMD_LEVEL == SIMD_AVX512_BF16
#include "llmc/cpu/pack.h"
#include "llmc/cpu/unpack.h"
#include "llmc/cpu/tile_bf16.h"
#elif SIMD_LEVEL == SIMD_NEON
#include "llmc/cpu/tile_neon.h"
#include "llmc/cpu/unpack.h"
#include "llmc/cpu/strips.h"
#elif SIMD_LEVEL == SIMD_NEON_BF16
#include "llmc/cpu/tile_neon_bf16.h"
#include "llmc/cpu/unpack.h"
#include "llmc/cpu/strips.h"
#else
#include "llmc/cpu/pack.h"
#include "llmc/cpu/unpack.h"
#include "llmc/cpu/tile_fma.h"
#include "llmc/cpu/strips.h"
#endif

static void mm_run(MatmulJob *job) {
    if (job->T <= 0 || job->n_out <= 0) return;
    bf16_t *padded = NULL; // a sum that does not fill its last MM_WHOLE: copy in with zeros at the end of each row
    if (MM_BF16 && job->n_sum % MM_WHOLE) {
        const int n = job->n_sum, n_padded = mm_whole(n);
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
    const int n_blocks = ((job->n_sum + 1) / 2 + MM_BLOCK - 1) / MM_BLOCK,
              piece = !MM_BF16 && !job->backward && !job->quant ? MM_WHOLE / 2 : 32;
    job->block = (((job->n_sum + 1) / 2 + n_blocks - 1) / n_blocks + piece - 1) / piece * piece; // as equal as can be
    double work = (double)job->T * job->n_out * job->n_sum;
    int n_threads = work < 5e5 ? 1 : omp_get_max_threads(); // below, waking threads costs more than they save
    int least = job->backward || job->quant ? 96 : 24;      // rows that pay for another pass over the weights
    job->chunk = job->backward ? MM_CHUNK_BACKWARD : job->quant ? MM_CHUNK_QUANT : MM_CHUNK;
    job->n_chunks = (job->T + job->chunk - 1) / job->chunk;
    job->chunk = (job->T + job->n_chunks - 1) / job->n_chunks; // as equal as can be
    while ((int64_t)job->n_panels * job->n_chunks < 4 * n_threads && job->chunk / 2 >= least) {
        job->chunk = (job->chunk + 1) / 2;
        job->n_chunks = (job->T + job->chunk - 1) / job->chunk;
    }
    const int n_units = job->n_panels * job->n_chunks;
    // Large products are dealt out to whoever is free, as cores may be unlike or busy: half of a thread's share of what
    // is left, down to one unit. With tiles the reading of `in` by each piece, and its first weights, which nobody
    // brought in, cost more than that gains.
    const bool shrink = work >= 1e8 && SIMD_LEVEL != SIMD_AMX;
    if (n_threads == 1) {
        mm_work(job, 0, n_units);
    } else {
        int dealt = 0;
#pragma omp parallel // always the whole team: libgomp ends and starts threads when its size changes
        for (;;) {
            int from, to;
#pragma omp critical(mm_deal)
            {
                const int left = n_units - dealt;
                const int share = shrink ? left / (2 * n_threads) + 1 : (n_units + n_threads - 1) / n_threads;
                from = dealt;
                dealt = to = from + (left < share ? left : share);
            }
            if (from == to) break;
            mm_work(job, from, to);
        }
    }
    free(padded);
}

// w = the raw tensors stacked along N, packed
static void SIMD_NAME(weight_load)(Weight *w, const RawTensor *raw, int n_raw) {
    cpu_weight_pack(w, raw, n_raw, MM_STRIP, MM_WHOLE, mm_turn);
}

static size_t SIMD_NAME(weight_bytes)(const RawTensor *raw, int n_raw) {
    return cpu_weight_bytes(raw, n_raw, MM_WHOLE);
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

// ----------------------------------------------------------------------------
// the gradient of a weight

// dw[N,K] += dy[T,N]^T x[T,K]: a product of matmul_forward, whose sums run over the columns of its input and its
// weight, so both are turned first: dy^T [N,T] is the input, some rows at a time, and x^T [K,T] the weight.
#define WEIGHT_ROWS 2048 // of dw at a time

static void SIMD_NAME(matmul_weight_backward)(float *dw, const act *dy, const act *x, int T, int N, int K) {
    if (T == 0) return;
    const int most = N < WEIGHT_ROWS ? N : WEIGHT_ROWS;
    bf16_t *turned_x = (bf16_t *)cpu_scratch((size_t)K * T * sizeof(bf16_t)),
           *turned_dy = (bf16_t *)cpu_scratch((size_t)most * T * sizeof(bf16_t));
    float *product = (float *)cpu_scratch((size_t)most * K * sizeof(float));
    Weight w;
    cpu_turn(turned_x, (const bf16_t *)x, T, K, K);
    const RawTensor raw = {"x transposed", DTYPE_BF16, 2, {K, T, 0, 0}, turned_x};
    SIMD_NAME(weight_load)(&w, &raw, 1);
    for (int n = 0; n < N; n += WEIGHT_ROWS) {
        const int rows = N - n < WEIGHT_ROWS ? N - n : WEIGHT_ROWS;
        const int64_t all = (int64_t)rows * K;
        float *to = dw + (size_t)n * K;
        cpu_turn(turned_dy, (const bf16_t *)dy + n, T, rows, N);
        SIMD_NAME(matmul_forward)(product, turned_dy, &w, NULL, rows);
        #pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < all; i++) to[i] += product[i];
    }
    cpu_weight_free(&w);
    free(turned_x);
    free(turned_dy);
    free(product);
}

#endif
