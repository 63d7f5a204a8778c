/*
The tile of ops_cpu_matmul.h for AMX (Intel Sapphire Rapids and later): a core that has it does some fifteen times the
bf16 multiply-adds of its AVX-512. Included by ops_cpu_matmul.h, with the instructions
(level `amx`) or with eight arrays that stand in for the eight tile registers (dev/test/amx_emulated.h), so that any
machine can test this file.

A tile register holds 16 rows of 64 bytes. TDPBF16PS adds to 16 x 16 floats the product of 16 rows x 32 bf16 (the
input, as it lies) and 16 pairs x 16 outputs (the packed weights, as they lie: every fourth of a panel's rows of words
is one register row). Tiles 0-3 are sums, 4-5 input, 6-7 weights:

    32 rows or more   2 x 2 sums: 32 rows x 32 outputs, four loads for four products
    the last 16       1 x 4 sums: 16 rows x 64 outputs

Batch-invariance: each step of 32 inputs begins at a multiple of 32 and adds, to every output alike, the sum of its
even products and the sum of its odd ones (that is how the instruction is defined); which rows lie beside a row in a
tile does not enter. Rows and pairs that are missing are copied with zeros behind them.
*/
#ifndef LLMC_OPS_CPU_AMX_ONCE
#define LLMC_OPS_CPU_AMX_ONCE

#define AMX_STEP 16  // pairs that one product takes
#define AMX_PANELS 4 // panels of weights that share one pass over the input

// scratch of one thread: the last rows of an input, the last pairs of a panel, the edge of an output; zeros behind
static __thread __attribute__((aligned(64))) bf16_t amx_input[32 * (MM_BLOCK_MAX * 2 + 32)];
static __thread __attribute__((aligned(64))) bf16_t amx_pairs[AMX_STEP * MM_COLS * 2];
static __thread __attribute__((aligned(64))) float amx_edge[32 * MM_COLS];

#endif

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
#define TILE_STORE(i, p, stride) _tile_stored(i, p, stride)
#define TILE_DP(c, a, b) _tile_dpbf16ps(c, a, b)

#endif

// out[32][32] (+)= in[32] times `steps` steps of 32 outputs of a panel, then `last` if there are pairs left over.
// Strides in elements.
SIMD_INLINE void amx_tile_32x32(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b, int steps,
                                const bf16_t *last, bool first) {
    const size_t in_bytes = ld_in * sizeof *in, b_bytes = 2 * MM_COLS * sizeof *b, out_bytes = ld_out * sizeof *out;
    if (first) {
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 16 * ld_out, out_bytes);
        TILE_LOAD(3, out + 16 * ld_out + 16, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_STEP * 2 * MM_COLS) {
        const bf16_t *w = i < steps ? b : last;
        TILE_LOAD(4, in, in_bytes);
        TILE_LOAD(6, w, b_bytes);
        TILE_LOAD(7, w + 32, b_bytes);
        TILE_DP(0, 4, 6);
        TILE_LOAD(5, in + 16 * ld_in, in_bytes);
        TILE_DP(1, 4, 7);
        TILE_DP(2, 5, 6);
        TILE_DP(3, 5, 7);
    }
    TILE_STORE(0, out, out_bytes);
    TILE_STORE(1, out + 16, out_bytes);
    TILE_STORE(2, out + 16 * ld_out, out_bytes);
    TILE_STORE(3, out + 16 * ld_out + 16, out_bytes);
}

// out[16][64], as above
SIMD_INLINE void amx_tile_16x64(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b, int steps,
                                const bf16_t *last, bool first) {
    const size_t in_bytes = ld_in * sizeof *in, b_bytes = 2 * MM_COLS * sizeof *b, out_bytes = ld_out * sizeof *out;
    if (first) {
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 32, out_bytes);
        TILE_LOAD(3, out + 48, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_STEP * 2 * MM_COLS) {
        const bf16_t *w = i < steps ? b : last;
        TILE_LOAD(4, in, in_bytes);
        TILE_LOAD(6, w, b_bytes);
        TILE_LOAD(7, w + 32, b_bytes);
        TILE_DP(0, 4, 6);
        TILE_LOAD(5, w + 64, b_bytes);
        TILE_DP(1, 4, 7);
        TILE_LOAD(6, w + 96, b_bytes);
        TILE_DP(2, 4, 5);
        TILE_DP(3, 4, 6);
    }
    TILE_STORE(0, out, out_bytes);
    TILE_STORE(1, out + 16, out_bytes);
    TILE_STORE(2, out + 32, out_bytes);
    TILE_STORE(3, out + 48, out_bytes);
}

// Rows r ... r+height-1 (height <= 32) of one panel and one block of the sum. b: the panel's pairs of this block.
static inline void amx_rows(const MatmulJob *job, int r, int height, int panel, const bf16_t *b, int sum0, int pairs) {
    const int column = panel * MM_COLS, cols = job->n_out - column < MM_COLS ? job->n_out - column : MM_COLS;
    const int steps = pairs / AMX_STEP, over = pairs % AMX_STEP, tall = height > 16 ? 32 : 16;
    const bool first = sum0 == 0, edge = height < tall || cols < MM_COLS;
    const bf16_t *in = job->in + (size_t)r * job->ld_in + sum0, *last = NULL;
    float *out = job->out + (size_t)r * job->n_out + column, *to = edge ? amx_edge : out;
    size_t ld_in = (size_t)job->ld_in, ld_out = (size_t)job->n_out, ld_to = edge ? MM_COLS : ld_out;
    if (over) {
        memset(amx_pairs, 0, sizeof amx_pairs);
        memcpy(amx_pairs, b + (size_t)steps * AMX_STEP * 2 * MM_COLS, (size_t)over * 2 * MM_COLS * sizeof *b);
        last = amx_pairs;
    }
    if (over || height < tall) {
        size_t n = 2 * (size_t)pairs, padded = (size_t)(steps + (over > 0)) * 2 * AMX_STEP;
        memset(amx_input, 0, tall * padded * sizeof *in);
        for (int i = 0; i < height; i++) memcpy(amx_input + i * padded, in + i * ld_in, n * sizeof *in);
        in = amx_input;
        ld_in = padded;
    }
    for (int i = 0; i < height && edge && !first; i++) memcpy(to + i * ld_to, out + i * ld_out, (size_t)cols * sizeof *to);
    if (tall == 16) {
        amx_tile_16x64(to, ld_to, in, ld_in, b, steps, last, first);
    } else {
        amx_tile_32x32(to, ld_to, in, ld_in, b, steps, last, first);
        amx_tile_32x32(to + 32, ld_to, in, ld_in, b + 64, steps, last ? last + 64 : NULL, first);
    }
    for (int i = 0; i < height && edge; i++) memcpy(out + i * ld_out, to + i * ld_to, (size_t)cols * sizeof *to);
    if (!job->bias || sum0 + 2 * pairs < job->n_sum) return;
    for (int i = 0; i < height; i++)
        for (int c = 0; c < cols; c++) out[i * ld_out + c] += job->bias[column + c];
}

// Units u0 ... u1-1 of a product, see mm_work of ops_cpu_matmul.h. AMX_PANELS panels of weights by MM_BLOCK pairs lie in
// the L2 cache while all rows of the chunk pass, 32 at a time, whose part of the input lies in the L1 cache.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    const int n_pairs = job->n_sum / 2;
    TILE_BEGIN();
    for (int u = u0, next; u < u1; u = next) {
        const int chunk = u / job->n_panels, p = u % job->n_panels, left = job->n_panels - p;
        const int n = left < AMX_PANELS ? left < u1 - u ? left : u1 - u : AMX_PANELS < u1 - u ? AMX_PANELS : u1 - u;
        const int r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        next = u + n;
        for (int k = 0; k < n_pairs; k += MM_BLOCK) {
            const int pairs = n_pairs - k < MM_BLOCK ? n_pairs - k : MM_BLOCK;
            const bf16_t *b = job->w + p * job->panel + (size_t)k * 2 * MM_COLS;
            size_t stride = job->panel;
            if (job->backward) {
                b = matmul_scratch;
                stride = (size_t)MM_BLOCK * 2 * MM_COLS;
                for (int i = 0; i < n; i++) {
                    const bf16_t *from = job->w + k / 32 * job->panel + (size_t)(p + i) * 32 * 2 * MM_COLS;
                    int n_k2 = (job->n_out + 1) / 2 - 32 * (p + i) < 32 ? (job->n_out + 1) / 2 - 32 * (p + i) : 32;
                    for (int j = 0; j < pairs; j += 32)
                        mm_repack(matmul_scratch + i * stride + (size_t)j * 2 * MM_COLS, from + j / 32 * job->panel, 0, n_k2);
                }
            }
            for (int r = r0; r < r1; r += 32)
                for (int i = 0; i < n; i++)
                    amx_rows(job, r, r1 - r < 32 ? r1 - r : 32, p + i, b + i * stride, 2 * k, pairs);
        }
    }
    TILE_END();
}
