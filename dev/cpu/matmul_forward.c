/*
Kernel lab: the matrix product of the forward pass, y[T,N] = x[T,K] W^T with W[N,K] in bf16, from naive to fast.

    make build/lab_matmul_forward
    build/lab_matmul_forward [T K N]        64 896 9728, the gate-and-up product of Qwen2.5-0.5B on 64 rows

Each version keeps the idea of the ones above it and adds one; all are compared with version 1. The last line is what
the programs run (llmc/cpu/matmul.h, tile_amx.h). Versions that this CPU cannot run are left out.

Every version but the last two runs on one thread.
*/
#include "llmc/cpu/cpu.h" // bf16_t, Weight, ops_cpu_init
#include "llmc/utils/threads.h"
#if defined __AVX512F__
#include <immintrin.h>
#endif

typedef float vf16 __attribute__((vector_size(64)));

typedef struct {
    int T, K, N;
    const float *x, *w;      // [T,K], [N,K] in fp32
    const bf16_t *x16, *w16; // the same in bf16 (all values are bf16 numbers)
    float *packed;           // [N/16][K][16]: 16 outputs side by side
    bf16_t *packed16;        // [N/16][K/2][16][2]: pairs of neighbours along K, as VDPBF16PS and TDPBF16PS take them
    float *y;                // [T,N]
} Lab;

// 1. The definition. One sum at a time: each addition waits for the one before it.
void version_1(const Lab *l) {
    for (int t = 0; t < l->T; t++)
        for (int n = 0; n < l->N; n++) {
            float sum = 0;
            for (int k = 0; k < l->K; k++) sum += l->x[(size_t)t * l->K + k] * l->w[(size_t)n * l->K + k];
            l->y[(size_t)t * l->N + n] = sum;
        }
}

// 2. Sixteen partial sums along K in one register, added up at the end. W is still read from memory for every row.
void version_2(const Lab *l) {
    for (int t = 0; t < l->T; t++)
        for (int n = 0; n < l->N; n++) {
            vf16 sum = {0};
            float total = 0;
            for (int k = 0; k < l->K; k += 16) {
                vf16 a, b;
                memcpy(&a, l->x + (size_t)t * l->K + k, sizeof a);
                memcpy(&b, l->w + (size_t)n * l->K + k, sizeof b);
                sum += a * b;
            }
            for (int i = 0; i < 16; i++) total += sum[i];
            l->y[(size_t)t * l->N + n] = total;
        }
}

// 3. The loops change places: a row of W is read from memory once and meets all rows of x while it is in the cache.
void version_3(const Lab *l) {
    for (int n = 0; n < l->N; n++)
        for (int t = 0; t < l->T; t++) {
            vf16 sum = {0};
            float total = 0;
            for (int k = 0; k < l->K; k += 16) {
                vf16 a, b;
                memcpy(&a, l->x + (size_t)t * l->K + k, sizeof a);
                memcpy(&b, l->w + (size_t)n * l->K + k, sizeof b);
                sum += a * b;
            }
            for (int i = 0; i < 16; i++) total += sum[i];
            l->y[(size_t)t * l->N + n] = total;
        }
}

// out[4][16 j] for 4 rows and 64 outputs, from packed fp32 weights: 16 sums live in registers, every weight loaded
// serves 4 rows and every input 64 outputs; lanes are outputs, so nothing is added up across them.
#define LAB_ROWS 4
#define LAB_UNROLL _Pragma("GCC unroll 4") // so that the sums are registers
static inline void tile_fp32(const Lab *l, int t, int n) {
    vf16 sum[LAB_ROWS][4] = {{{0}}};
    for (int k = 0; k < l->K; k++) {
        vf16 w[4];
        LAB_UNROLL
        for (int j = 0; j < 4; j++) memcpy(&w[j], l->packed + ((size_t)(n / 16 + j) * l->K + k) * 16, sizeof w[j]);
        LAB_UNROLL
        for (int r = 0; r < LAB_ROWS; r++) LAB_UNROLL
        for (int j = 0; j < 4; j++) sum[r][j] += l->x[(size_t)(t + r) * l->K + k] * w[j];
    }
    for (int r = 0; r < LAB_ROWS; r++) memcpy(l->y + (size_t)(t + r) * l->N + n, sum[r], sizeof sum[r]);
}

// 4. Weights packed once so that lanes are outputs; a tile of 4 rows x 64 outputs in registers.
void version_4(const Lab *l) {
    for (int n = 0; n < l->N; n += 64)
        for (int t = 0; t < l->T; t += LAB_ROWS) tile_fp32(l, t, n);
}

#ifdef __AVX512BF16__
// 5. The hardware's product of bf16 pairs: half the bytes, and two multiply-adds a lane.
static inline void tile_bf16(const Lab *l, int t, int n) {
    __m512 sum[LAB_ROWS][4];
    for (int r = 0; r < LAB_ROWS; r++)
        for (int j = 0; j < 4; j++) sum[r][j] = _mm512_setzero_ps();
    for (int k = 0; k < l->K / 2; k++) {
        __m512bh w[4];
        for (int j = 0; j < 4; j++)
            w[j] = (__m512bh)_mm512_loadu_si512(l->packed16 + ((size_t)(n / 16 + j) * (l->K / 2) + k) * 32);
        for (int r = 0; r < LAB_ROWS; r++) {
            int32_t pair;
            memcpy(&pair, l->x16 + (size_t)(t + r) * l->K + 2 * k, sizeof pair);
            for (int j = 0; j < 4; j++)
                sum[r][j] = _mm512_dpbf16_ps(sum[r][j], (__m512bh)_mm512_set1_epi32(pair), w[j]);
        }
    }
    for (int r = 0; r < LAB_ROWS; r++)
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(l->y + (size_t)(t + r) * l->N + n + 16 * j, sum[r][j]);
}

void version_5(const Lab *l) {
    for (int n = 0; n < l->N; n += 64)
        for (int t = 0; t < l->T; t += LAB_ROWS) tile_bf16(l, t, n);
}
#endif

#ifdef __AMX_BF16__
// What LDTILECFG reads: palette 1, eight tiles of 16 rows of 64 bytes.
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} lab_tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// 6. Tile registers: one instruction multiplies 16 rows by 16 outputs over 32 inputs. 2 x 2 of them: 32 rows, 32
// outputs.
static inline void tile_amx(const Lab *l, int t, int n) {
    const bf16_t *x = l->x16 + (size_t)t * l->K, *w = l->packed16 + (size_t)(n / 16) * l->K * 16,
                 *w2 = w + (size_t)l->K * 16;
    float *y = l->y + (size_t)t * l->N + n;
    const size_t row = (size_t)l->K * 2, out = (size_t)l->N * 4;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < l->K; k += 32, w += 512, w2 += 512) {
        _tile_loadd(4, x + k, row);
        _tile_loadd(5, x + k + 16 * (size_t)l->K, row);
        _tile_loadd(6, w, 64);
        _tile_loadd(7, w2, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, y, out);
    _tile_stored(1, y + 16, out);
    _tile_stored(2, y + 16 * (size_t)l->N, out);
    _tile_stored(3, y + 16 * (size_t)l->N + 16, out);
}

void version_6(const Lab *l) {
    _tile_loadconfig(&lab_tiles);
    for (int n = 0; n < l->N; n += 32)
        for (int t = 0; t < l->T; t += 32) tile_amx(l, t, n);
    _tile_release();
}
#endif

// 7. All cores: outputs are dealt out, so no sum is shared and no bit depends on the number of threads.
void version_7(const Lab *l) {
#pragma omp parallel
    {
#ifdef __AMX_BF16__
        _tile_loadconfig(&lab_tiles);
#endif
#pragma omp for schedule(static)
        for (int n = 0; n < l->N; n += 64) {
#if defined __AMX_BF16__
            for (int t = 0; t < l->T; t += 32) {
                tile_amx(l, t, n);
                tile_amx(l, t, n + 32);
            }
#elif defined __AVX512BF16__
            for (int t = 0; t < l->T; t += LAB_ROWS) tile_bf16(l, t, n);
#else
            for (int t = 0; t < l->T; t += LAB_ROWS) tile_fp32(l, t, n);
#endif
        }
#ifdef __AMX_BF16__
        _tile_release();
#endif
    }
}

// 8. What the programs run: blocks along K that stay in the L1 cache, chunks of rows that stay in the L2, any shape.
const Ops *lab_ops;
Weight lab_weight;
void version_8(const Lab *l) { lab_ops->matmul_forward(l->y, l->x16, &lab_weight, NULL, l->T); }

// ----------------------------------------------------------------------------

double lab_first_s;

void lab_time(int version, const char *idea, void (*run)(const Lab *), Lab *l, const float *right) {
    memset(l->y, 0, (size_t)l->T * l->N * sizeof(float));
    double best = 1e9, worst = 0, stop = now_s() + 1;
    for (int i = 0; i < 3 || now_s() < stop; i++) {
        double t = now_s();
        run(l);
        t = now_s() - t;
        if (t < best) best = t;
        if (t > 1) break;
    }
    for (size_t i = 0; right && i < (size_t)l->T * l->N; i++) {
        double d = fabs((double)l->y[i] - right[i]);
        if (!(d <= worst)) worst = d;
    }
    if (version == 1) lab_first_s = best;
    printf("%d  %-54s %9.2f ms %9.1f GFLOP/s %8.1fx   error %.1e\n", version, idea, 1e3 * best,
           2e-9 * l->T * l->K * l->N / best, lab_first_s / best, worst);
    fflush(stdout);
    if (!(worst < 1e-2)) {
        fprintf(stderr, "version %d is wrong\n", version);
        exit(1);
    }
}

int main(int argc, char **argv) {
    Lab l = {64, 896, 9728, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    if (argc == 4) {
        l.T = atoi(argv[1]);
        l.K = atoi(argv[2]);
        l.N = atoi(argv[3]);
    }
    if ((argc != 1 && argc != 4) || l.T < 32 || l.T % 32 || l.K < 32 || l.K % 32 || l.N < 64 || l.N % 64) {
        fprintf(stderr, "usage: %s [T K N]   multiples of 32, 32 and 64\n", argv[0]);
        return 2;
    }
    Error err = {0};
    lab_ops = ops_cpu_init(&err); // also asks the kernel for the tile registers
    if (!lab_ops) die(&err);
    const size_t nx = (size_t)l.T * l.K, nw = (size_t)l.N * l.K, ny = (size_t)l.T * l.N;
    float *x = (float *)xaligned(nx * 4), *w = (float *)xaligned(nw * 4), *right = (float *)xaligned(ny * 4);
    bf16_t *x16 = (bf16_t *)xaligned(nx * 2), *w16 = (bf16_t *)xaligned(nw * 2);
    uint32_t state = 1;
    for (size_t i = 0; i < nx + nw; i++) {
        state = state * 1664525u + 1013904223u;
        bf16_t b = f32_to_bf16((float)(int32_t)state * 0x1p-31f);
        if (i < nx) {
            x16[i] = b;
            x[i] = bf16_to_f32(b);
        } else {
            w16[i - nx] = b;
            w[i - nx] = bf16_to_f32(b);
        }
    }
    l.x = x, l.w = w, l.x16 = x16, l.w16 = w16;
    l.packed = (float *)xaligned(nw * 4);
    l.packed16 = (bf16_t *)xaligned(nw * 2);
    for (int n = 0; n < l.N; n++)
        for (int k = 0; k < l.K; k++) {
            l.packed[((size_t)(n / 16) * l.K + k) * 16 + n % 16] = w[(size_t)n * l.K + k];
            l.packed16[((size_t)(n / 16) * (l.K / 2) + k / 2) * 32 + n % 16 * 2 + k % 2] = w16[(size_t)n * l.K + k];
        }
    RawTensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.name = "lab";
    tensor.dtype = DTYPE_BF16;
    tensor.ndim = 2;
    tensor.shape[0] = l.N;
    tensor.shape[1] = l.K;
    tensor.data = w16;
    lab_ops->weight_load(&lab_weight, &tensor, 1);

    printf("y[%d,%d] = x[%d,%d] W^T, %s, %d threads\n", l.T, l.N, l.T, l.K, lab_ops->isa, omp_get_max_threads());
    l.y = right;
    lab_time(1, "naive: one sum at a time", version_1, &l, NULL);
    l.y = (float *)xaligned(ny * 4);
    lab_time(2, "16 partial sums", version_2, &l, right);
    lab_time(3, "a row of W once from memory", version_3, &l, right);
    lab_time(4, "packed weights, tile of 4 x 64 in registers", version_4, &l, right);
#ifdef __AVX512BF16__
    lab_time(5, "bf16 dot products", version_5, &l, right);
#endif
#ifdef __AMX_BF16__
    if (strcmp(lab_ops->isa, "amx") == 0) lab_time(6, "tile registers", version_6, &l, right);
#endif
    lab_time(7, "all cores", version_7, &l, right);
    lab_time(8, "llmc: blocks for the caches", version_8, &l, right);
    return 0;
}
