/*
The tile of ops_cpu_matmul.h for AMX (Intel Sapphire Rapids and later): a core that has it does some fifteen times the
bf16 multiply-adds of its AVX-512. Included by ops_cpu_matmul.h, with the instructions
(level `amx`) or with eight arrays that stand in for the eight tile registers (dev/test/amx_emulated.h), so that any
machine can test this file.

A tile register holds 16 rows of 64 bytes. TDPBF16PS adds to 16 x 16 floats the product of 16 rows x 32 bf16 (the
input, as it lies) and 16 pairs x 16 outputs (a strip of the packed weights, as it lies). Tiles 0-3 are sums, 4-5 input, 6-7 weights:

    32 rows or more   2 x 2 sums: 32 rows x 32 outputs, four loads for four products
    the last 16       1 x 4 sums: 16 rows x 64 outputs

Batch-invariance: each step of 32 inputs begins at a multiple of 32 and adds, to every output alike, the sum of its
even products and the sum of its odd ones (that is how the instruction is defined); which rows lie beside a row in a
tile does not enter. Rows and pairs that are missing are copied with zeros behind them.
*/
#ifndef LLMC_OPS_CPU_AMX_ONCE
#define LLMC_OPS_CPU_AMX_ONCE

#define AMX_STEP 16  // pairs that one product takes
#define AMX_TILE (AMX_STEP * 2 * MM_STRIP) // bf16 values in a register
#define AMX_PANELS 8 // panels that take a block of the input in turn

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

// out[32][32] (+)= in[32] times `steps` steps of two strips b and b + strip, then of `last`, MM_STRIP * AMX_STEP pairs a strip, if there are pairs
// left over. Strides in elements.
SIMD_INLINE void amx_tile_32x32(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b, size_t strip,
                                int steps, const bf16_t *last, bool first) {
    const size_t in_bytes = ld_in * sizeof *in, out_bytes = ld_out * sizeof *out;
    if (first) {
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 16 * ld_out, out_bytes);
        TILE_LOAD(3, out + 16 * ld_out + 16, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_TILE) {
        if (i == steps) b = last, strip = AMX_TILE;
        TILE_LOAD(4, in, in_bytes);
        TILE_LOAD(6, b, 64);
        TILE_LOAD(7, b + strip, 64);
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

// out[16][64], as above with four strips
SIMD_INLINE void amx_tile_16x64(float *out, size_t ld_out, const bf16_t *in, size_t ld_in, const bf16_t *b, size_t strip,
                                int steps, const bf16_t *last, bool first) {
    const size_t in_bytes = ld_in * sizeof *in, out_bytes = ld_out * sizeof *out;
    if (first) {
        TILE_ZERO(0); TILE_ZERO(1); TILE_ZERO(2); TILE_ZERO(3);
    } else {
        TILE_LOAD(0, out, out_bytes);
        TILE_LOAD(1, out + 16, out_bytes);
        TILE_LOAD(2, out + 32, out_bytes);
        TILE_LOAD(3, out + 48, out_bytes);
    }
    for (int i = 0; i < steps + (last != NULL); i++, in += 2 * AMX_STEP, b += AMX_TILE) {
        if (i == steps) b = last, strip = AMX_TILE;
        TILE_LOAD(4, in, in_bytes);
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

// Rows r ... r+height-1 (height <= 32) of a panel's columns column ... column+width-1, one block of the sum: 32 columns, or
// all 64 of a panel if height <= 16. b: the first of their strips.
static inline void amx_rows(const MatmulJob *job, int r, int height, int column, const bf16_t *b, size_t strip, int sum0, int pairs) {
    const int tall = height > 16 ? 32 : 16, width = height > 16 ? 32 : MM_COLS;
    const int cols = job->n_out - column < width ? job->n_out - column : width;
    const int steps = pairs / AMX_STEP, over = pairs % AMX_STEP;
    const bool first = sum0 == 0, edge = height < tall || cols < width;
    const bf16_t *in = job->in + (size_t)r * job->ld_in + sum0, *last = NULL;
    float *out = job->out + (size_t)r * job->n_out + column, *to = edge ? amx_edge : out;
    size_t ld_in = (size_t)job->ld_in, ld_out = (size_t)job->n_out, ld_to = edge ? MM_COLS : ld_out;
    if (over) {
        memset(amx_pairs, 0, sizeof amx_pairs);
        for (int i = 0; i < width / MM_STRIP; i++)
            memcpy(amx_pairs + i * AMX_TILE, b + i * strip + (size_t)steps * AMX_TILE, (size_t)over * 2 * MM_STRIP * sizeof *b);
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
    if (height > 16) amx_tile_32x32(to, ld_to, in, ld_in, b, strip, steps, last, first);
    else amx_tile_16x64(to, ld_to, in, ld_in, b, strip, steps, last, first);
    for (int i = 0; i < height && edge; i++) memcpy(out + i * ld_out, to + i * ld_to, (size_t)cols * sizeof *to);
    if (!job->bias || sum0 + 2 * pairs < job->n_sum) return;
    for (int i = 0; i < height; i++)
        for (int c = 0; c < cols; c++) out[i * ld_out + c] += job->bias[column + c];
}

// Units u0 ... u1-1 of a product, see mm_work of ops_cpu_matmul.h. Two strips by MM_BLOCK pairs lie in the L1 cache while all
// rows of the chunk pass, 32 at a time; the chunk's rows by MM_BLOCK pairs lie in the L2 cache for AMX_PANELS panels.
static void mm_work(const MatmulJob *job, int u0, int u1) {
    const int n_pairs = job->n_sum / 2;
    TILE_BEGIN();
    for (int u = u0, next; u < u1; u = next) {
        const int chunk = u / job->n_panels, p = u % job->n_panels, left = job->n_panels - p < u1 - u ? job->n_panels - p : u1 - u;
        const int n = left < AMX_PANELS ? left : AMX_PANELS;
        const int r0 = chunk * job->chunk, r1 = r0 + job->chunk < job->T ? r0 + job->chunk : job->T;
        next = u + n;
        for (int k = 0; k < n_pairs; k += MM_BLOCK)
            for (int i = p; i < p + n; i++) {
                const int pairs = n_pairs - k < MM_BLOCK ? n_pairs - k : MM_BLOCK;
                size_t strip = job->panel / (MM_COLS / MM_STRIP);
                const bf16_t *b = job->w + i * job->panel + (size_t)k * 2 * MM_STRIP;
                if (job->backward) {
                    const bf16_t *from = job->w + k / 32 * job->panel + (size_t)i * 32 * 2 * MM_STRIP;
                    const int left_k2 = (job->n_out + 1) / 2 - 32 * i, n_k2 = left_k2 < 32 ? left_k2 : 32;
                    for (int j = 0; j < pairs; j += 32)
                        mm_repack(matmul_scratch + (size_t)j * 2 * MM_STRIP, from + j / 32 * job->panel, strip, n_k2);
                    b = matmul_scratch;
                    strip = (size_t)MM_BLOCK * 2 * MM_STRIP;
                }
                for (int c = 0; c < MM_COLS && i * MM_COLS + c < job->n_out; c += 32) {
                    int r = r0;
                    for (; r1 - r > 16; r += 32) amx_rows(job, r, r1 - r < 32 ? r1 - r : 32, i * MM_COLS + c, b + c / MM_STRIP * strip, strip, 2 * k, pairs);
                    if (r < r1 && c == 0) amx_rows(job, r, r1 - r, i * MM_COLS, b, strip, 2 * k, pairs);
                }
            }
    }
    TILE_END();
}
