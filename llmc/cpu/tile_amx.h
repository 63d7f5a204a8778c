/*
The tile of matmul.h for AMX (Intel Sapphire Rapids and later): a core that has it does some fifteen times the bf16
multiply-adds of its AVX-512. Compiled with the instructions (level `amx`), or with eight arrays that stand in for the
eight tile registers (dev/test/amx_emulated.c), so that any machine can test this file.

A tile register holds 16 rows of 64 bytes. TDPBF16PS adds to 16 x 16 floats the product of 16 rows x 32 bf16 (the input,
as it lies) and 16 pairs x 16 outputs (a strip of the packed weights, as it lies). Tiles 0-3 are sums, 4-5 input, 6-7
weights:

    32 rows or more   2 x 2 sums: 32 rows x 32 outputs, four loads for four products
    the last 16       1 x 4 sums: 16 rows x 64 outputs

Batch-invariance: each step of 32 inputs begins at a multiple of 32 and adds, to every output alike, the sum of its
even products and the sum of its odd ones (that is how the instruction is defined); which rows lie beside a row in a
tile does not enter. Rows and pairs that are missing are copied with zeros after them.
*/
#ifndef LLMC_CPU_TILE_AMX_H
#define LLMC_CPU_TILE_AMX_H

#include "llmc/cpu/swiglu.h" // rows_swiglu

#define amx_rows SIMD_NAME(amx_rows)
#define amx_panel SIMD_NAME(amx_panel)
#define amx_swiglu SIMD_NAME(amx_swiglu)

#define AMX_STEP 16                        // pairs that one product takes
#define AMX_TILE (AMX_STEP * 2 * MM_STRIP) // bf16 values in a register
#define AMX_PANELS 8                       // panels that take a block of the input in turn

// scratch of one thread: the last rows of an input, the last pairs of a panel, the edge of an output; zeros after
static __thread __attribute__((aligned(64))) bf16_t amx_input[32 * (MM_BLOCK_MAX * 2 + 32)];
static __thread __attribute__((aligned(64))) bf16_t amx_pairs[AMX_STEP * MM_COLS * 2];
static __thread __attribute__((aligned(64))) float amx_edge[32 * MM_COLS];
static __thread
    __attribute__((aligned(64))) float amx_products[MM_CHUNK * AMX_PANELS * MM_COLS]; // 512 KiB, before SwiGLU

#if !AMX_EMULATED

// What LDTILECFG reads: palette 1, eight tiles of 16 rows of 64 bytes.
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} AmxConfig;

static const AmxConfig amx_config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

#define TILE_BEGIN() _tile_loadconfig(&amx_config)
#define TILE_END() _tile_release()
#define TILE_ZERO(i) _tile_zero(i)
#define TILE_LOAD(i, p, stride) _tile_loadd(i, p, stride)
#define TILE_STREAM(i, p, stride) _tile_stream_loadd(i, p, stride) // past the L1 cache
#define TILE_STORE(i, p, stride) _tile_stored(i, p, stride)
#define TILE_DP(c, a, b) _tile_dpbf16ps(c, a, b)

#endif

// out[32][32] (+)= in[32] times `steps` steps of two strips b and b + strip, then of `last`, MM_STRIP * AMX_STEP pairs
// a strip, if there are pairs left over. Strides in elements.
SIMD_INLINE void amx_tile_32x32(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b,
                                size_t strip, int steps, const bf16_t *last, bool first, MatmulPrefetch *next) {
    const size_t in_bytes = ld_in * sizeof *in, out_bytes = ld_out * sizeof *out;
    MatmulPrefetch f = *next; // in registers
    if (first) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 16 * ld_out, out_bytes);
        TILE_LOAD(3, out + 16 * ld_out + 16, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_TILE) {
        if (i == steps) b = last, strip = AMX_TILE;
        TILE_STREAM(4, in, in_bytes);
        TILE_LOAD(6, b, 64);
        TILE_LOAD(7, b + strip, 64);
        TILE_DP(0, 4, 6);
        TILE_STREAM(5, in + 16 * ld_in, in_bytes);
        TILE_DP(1, 4, 7);
        mm_prefetch(&f);
        TILE_DP(2, 5, 6);
        mm_prefetch(&f);
        TILE_DP(3, 5, 7);
    }
    TILE_STORE(0, out, out_bytes);
    TILE_STORE(1, out + 16, out_bytes);
    TILE_STORE(2, out + 16 * ld_out, out_bytes);
    TILE_STORE(3, out + 16 * ld_out + 16, out_bytes);
    *next = f;
}

// out[16][64], as above with four strips
SIMD_INLINE void amx_tile_16x64(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b,
                                size_t strip, int steps, const bf16_t *last, bool first) {
    const size_t in_bytes = ld_in * sizeof *in, out_bytes = ld_out * sizeof *out;
    if (first) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 32, out_bytes);
        TILE_LOAD(3, out + 48, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_TILE) {
        if (i == steps) b = last, strip = AMX_TILE;
        TILE_STREAM(4, in, in_bytes);
        TILE_LOAD(6, b, 64);
        TILE_LOAD(7, b + strip, 64);
        TILE_DP(0, 4, 6);
        TILE_LOAD(5, b + 2 * strip, 64);
        TILE_DP(1, 4, 7);
        TILE_LOAD(6, b + 3 * strip, 64);
        TILE_DP(2, 4, 5);
        TILE_DP(3, 4, 6);
    }
    TILE_STORE(0, out, out_bytes);
    TILE_STORE(1, out + 16, out_bytes);
    TILE_STORE(2, out + 32, out_bytes);
    TILE_STORE(3, out + 48, out_bytes);
}

// Rows r ... r+height-1 (height <= 32) of columns column ... column+width-1, one block of the sum. width: 32, or, for
// 16 rows or fewer, 64. b: the first of their strips. next: what comes in meanwhile.
static inline void amx_rows(const MatmulJob *job, int r, int height, int column, int width, const bf16_t *b,
                            size_t strip, int sum0, int pairs, MatmulPrefetch *next) {
    const int tall = width == MM_COLS ? 16 : 32, cols = job->n_out - column < width ? job->n_out - column : width;
    const int steps = pairs / AMX_STEP, over = pairs % AMX_STEP;
    const bool first = sum0 == 0, edge = height < tall || cols < width;
    const bf16_t *in = job->in + (size_t)r * job->ld_in + sum0, *last = NULL;
    float *out = job->out + (size_t)r * job->n_out + column, *to = edge ? amx_edge : out;
    size_t ld_in = (size_t)job->ld_in, ld_out = (size_t)job->n_out, ld_to = edge ? MM_COLS : ld_out;
    if (over) {
        memset(amx_pairs, 0, sizeof amx_pairs);
        for (int i = 0; i < width / MM_STRIP; i++)
            memcpy(amx_pairs + i * AMX_TILE, b + i * strip + (size_t)steps * AMX_TILE,
                   (size_t)over * 2 * MM_STRIP * sizeof *b);
        last = amx_pairs;
    }
    if (over || height < tall) {
        size_t n = 2 * (size_t)pairs, padded = (size_t)(steps + (over > 0)) * 2 * AMX_STEP;
        memset(amx_input, 0, tall * padded * sizeof *in);
        for (int i = 0; i < height; i++) memcpy(amx_input + i * padded, in + i * ld_in, n * sizeof *in);
        in = amx_input;
        ld_in = padded;
    }
    for (int i = 0; i < height && edge && !first; i++)
        memcpy(to + i * ld_to, out + i * ld_out, (size_t)cols * sizeof *to);
    if (tall == 32) amx_tile_32x32(to, ld_to, in, ld_in, b, strip, steps, last, first, next);
    else amx_tile_16x64(to, ld_to, in, ld_in, b, strip, steps, last, first);
    for (int i = 0; i < height && edge; i++) memcpy(out + i * ld_out, to + i * ld_to, (size_t)cols * sizeof *to);
    if (!job->bias || sum0 + 2 * pairs < job->n_sum) return;
    for (int i = 0; i < height; i++)
        for (int c = 0; c < cols; c++) out[i * ld_out + c] += job->bias[column + c];
}

// Where panel p's weights for the sum from pair k on begin. With SwiGLU a panel is 32 columns of gate, then the same of
// up.
SIMD_INLINE const bf16_t *amx_weights(const MatmulJob *job, int p, int k) {
    if (job->backward) return job->w + k / 32 * job->panel + (size_t)p * 32 * 2 * MM_STRIP;
    return job->w + p * (job->a ? job->panel / 2 : job->panel) + (size_t)k * 2 * MM_STRIP;
}

// One block of the sum, from pair k on, for rows r0 ... r1-1 of panel p; the products go to to->out from `column` on.
// Meanwhile the weights at `next`, of a panel like this one, come in.
static inline void amx_panel(const MatmulJob *job, const MatmulJob *to, int r0, int r1, int p, int column, int k,
                             const bf16_t *next) {
    const int n_pairs = job->n_sum / 2, pairs = n_pairs - k < MM_BLOCK ? n_pairs - k : MM_BLOCK;
    size_t strip = job->panel / (MM_COLS / MM_STRIP);
    const bf16_t *b = amx_weights(job, p, k), *second = b + (job->a ? job->n_out / 2 / MM_STRIP : 2) * strip;
    const int last = r1 - r0 > 0 && (r1 - r0 - 1) % 32 < 16 && !job->a ? (r1 - r0 - 1) / 32 * 32 + r0
                                                                       : r1; // where 16 or fewer begin
    const int blocks =
        (last - r0 + 31) / 32; // of rows; each brings in its part of what comes next, two strips at a time
    const size_t strip_bytes = strip * sizeof *b, piece_bytes = 32 * 2 * MM_STRIP * sizeof *b;
    MatmulPrefetch f = {(const char *)next,
                        2 * strip_bytes - piece_bytes,
                        strip_bytes,
                        32,
                        32,
                        2 * pairs,
                        blocks ? (AMX_STEP / 2 + blocks - 1) / blocks : 0};
    if (job->backward || job->quant) {
        const int left_k2 = (job->n_out + 1) / 2 - 32 * p, n_k2 = left_k2 < 32 ? left_k2 : 32;
        const size_t turned = (size_t)MM_BLOCK * 2 * MM_STRIP;
        for (int j = 0; j < pairs && job->backward; j += 32) {
            bf16_t *rows = matmul_scratch + (size_t)j * 2 * MM_STRIP;
            if (job->quant) mm_unpack_turned(rows, job->quant, 2 * (k + j), 64 * p, n_k2);
            else mm_repack(rows, b + j / 32 * job->panel, strip, n_k2);
        }
        for (int half = 0; half < 2 && !job->backward; half++)
            mm_unpack(matmul_scratch + 2 * half * turned, turned, job->quant,
                      job->a ? half * (job->n_out / 2) + 32 * p : MM_COLS * p + 32 * half, 32, 2 * k, 2 * pairs);
        strip = turned;
        b = matmul_scratch;
        second = b + 2 * strip;
        if (job->quant) f.lines = 0;
    }
    for (int c = 0; c < MM_COLS && column + c < to->n_out;
         c += 32) { // two strips lie in the L1 cache while all rows pass
        if (!job->backward && !job->quant) {
            MatmulPrefetch strips = {(const char *)(c ? next : second), 0, strip_bytes, pairs, pairs, pairs, f.burst};
            f = strips;
        }
        for (int r = r0; r < last; r += 32)
            amx_rows(to, r, r1 - r < 32 ? r1 - r : 32, column + c, 32, c ? second : b, strip, 2 * k, pairs, &f);
    }
    if (last < r1) amx_rows(to, last, r1 - last, column, MM_COLS, b, strip, 2 * k, pairs, &f);
}

// The epilogue SwiGLU of n panels from p on, whose products lie in amx_products[r1 - r0][n * MM_COLS]. Several panels
// at a time, since a row's columns lie together in memory.
static inline void amx_swiglu(const MatmulJob *job, int r0, int r1, int p, int n) {
    const int I = job->n_out / 2;
    for (int r = r0; r < r1; r++)
        for (int i = 0; i < n; i++) {
            const float *products = amx_products + (size_t)(r - r0) * n * MM_COLS + i * MM_COLS;
            bf16_t *saved = job->gu_saved ? job->gu_saved + (size_t)r * 2 * I + (p + i) * 32 : NULL;
            rows_swiglu(job->a + (size_t)r * I + (p + i) * 32, saved, saved ? saved + I : NULL, products, products + 32,
                        32);
        }
}

// Units u0 ... u1-1 of a product, see mm_work of matmul.h. The chunk's rows by MM_BLOCK pairs lie in the L2 cache
// while some panels take them in turn.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    TILE_BEGIN();
    for (int u = u0, n; u < u1; u += n) {
        const int chunk = u / job->n_panels, p = u % job->n_panels,
                  left = job->n_panels - p < u1 - u ? job->n_panels - p : u1 - u;
        const int r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        const int most = job->a && job->chunk > MM_CHUNK ? AMX_PANELS * MM_CHUNK / job->chunk : AMX_PANELS; // that fit
        n = left < most ? left : most;
        MatmulJob to = *job;
        if (job->a) {
            to.out = amx_products;
            to.n_out = n * MM_COLS;
            to.in += (size_t)r0 * job->ld_in;
        }
        for (int k = 0; k < job->n_sum / 2; k += MM_BLOCK)
            for (int i = 0; i < n; i++) {
                const bool more = k + MM_BLOCK < job->n_sum / 2;
                const bf16_t *next = i + 1 < n ? amx_weights(job, p + i + 1, k)
                                     : more    ? amx_weights(job, p, k + MM_BLOCK)
                                               : amx_weights(job, (p + n) % job->n_panels, 0);
                if (job->a) amx_panel(job, &to, 0, r1 - r0, p + i, i * MM_COLS, k, next);
                else amx_panel(job, &to, r0, r1, p + i, (p + i) * MM_COLS, k, next);
            }
        if (job->a) amx_swiglu(job, r0, r1, p, n);
    }
    TILE_END();
}

#endif
