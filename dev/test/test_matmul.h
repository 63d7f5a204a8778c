// The matrix products of every backend, and the vector layer of `cpu` at every level this CPU can run.
#ifndef DEV_TEST_TEST_MATMUL_H
#define DEV_TEST_TEST_MATMUL_H

#include "dev/test/backends.h"   // test_backends; CHECK
#include "dev/test/simd_level.h" // the vector layer of each level
#include "llmc/cpu/shared.h"     // cpu_levels, CpuFill
#include "llmc/utils/threads.h"  // omp_set_num_threads

float test_matmul_random(uint64_t *state) { // about uniform in -1 ... 1
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

// largest error of y against e^x in units of the last place of the result
double test_exp_error(const float *y, const float *x, size_t n, float *at) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double e = exp((double)x[i]);
        int exponent;
        frexp(e, &exponent);
        double error = fabs((double)y[i] - e) / ldexp(1, exponent - 24);
        if (!(error <= worst)) {
            worst = error;
            *at = x[i];
        }
    }
    return worst;
}

void test_simd(const char *level) {
    const TestSimd t = test_simd_level(level);

    // e^x over every 509th float of the whole range
    const uint32_t step = test_few() ? 70001 : 509;
    enum { N = 1 << 14 };
    static float x[N], y[N], back[N];
    static bf16_t h[N];
    double worst = 0;
    float at = 0;
    size_t n = 0;
    for (int sign = 0; sign < 2; sign++)
        for (uint32_t u = 0x30000000;; u += step) {
            float f;
            memcpy(&f, &u, 4);
            if (sign) f = -f;
            bool end = f > 88.72283f || f < -87.33654f;
            if (!end) x[n++] = f;
            if (n == N || (end && n)) {
                size_t full = (n + 15) / 16 * 16;
                for (size_t i = n; i < full; i++) x[i] = 0;
                t.exp(y, x, full);
                float w = 0;
                double e = test_exp_error(y, x, n, &w);
                if (!(e <= worst)) {
                    worst = e;
                    at = w;
                }
                n = 0;
            }
            if (end) break;
        }
    CHECK(worst <= 1.5, "%s: e^x is off by %.2f ulp at %.9g", level, worst, (double)at);
    const float edge[16] = {0.0f,   -0.0f,  INFINITY, -INFINITY, NAN,       88.73f,     1e30f,     -87.3366f,
                            -88.0f, -1e30f, 1e-40f,   -1e-30f,   88.72283f, -87.33654f, 88.72284f, -100.0f};
    const float want[16] = {1, 1, INFINITY, 0, NAN, INFINITY, INFINITY, 0, 0, 0, 1, 1, 0, 0, INFINITY, 0};
    t.exp(y, edge, 16);
    for (int i = 0; i < 16; i++) {
        if (i == 12 || i == 13)
            CHECK(isfinite(y[i]) && y[i] >= 0x1p-126f, "%s: e^%g = %g", level, (double)edge[i], (double)y[i]);
        else if (i == 4) CHECK(y[i] != y[i], "%s: e^NaN = %g", level, (double)y[i]);
        else CHECK(y[i] == want[i], "%s: e^%.9g = %g", level, (double)edge[i], (double)y[i]);
    }

    // bf16: all upper halves with lower halves around the rounding points
    const uint32_t low[8] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x4000, 0xC000};
    int wrong = 0;
    uint32_t wrong_at = 0;
    for (int l = 0; l < 8; l += test_few() ? 3 : 1)
        for (uint32_t high = 0; high < 0x10000; high += N) {
            for (uint32_t i = 0; i < N; i++) {
                uint32_t u = (high + i) << 16 | low[l];
                memcpy(&x[i], &u, 4);
            }
            t.to_bf16(h, x, N);
            t.from_bf16(back, h, N);
            for (uint32_t i = 0; i < N; i++) {
                bool ok = x[i] != x[i] ? back[i] != back[i] : h[i] == f32_to_bf16(x[i]) && back[i] == bf16_to_f32(h[i]);
                if (!ok) {
                    wrong++;
                    wrong_at = (high + i) << 16 | low[l];
                }
            }
        }
    CHECK(wrong == 0, "%s: %d floats to bf16 and back differ from f32_to_bf16, such as 0x%08x", level, wrong,
          (unsigned)wrong_at);

    // the first n of 16, from memory that ends there
    uint64_t state = 1;
    for (int len = 0; len <= 16; len++) {
        float *from = (float *)xmalloc((size_t)len * sizeof(float)), out[32];
        bf16_t *from_h = (bf16_t *)xmalloc((size_t)len * sizeof(bf16_t)), out_h[32];
        for (int i = 0; i < len; i++) {
            from[i] = test_matmul_random(&state);
            from_h[i] = f32_to_bf16(from[i]);
        }
        for (int i = 0; i < 32; i++) {
            out[i] = 7;
            out_h[i] = 7;
        }
        t.part(out, out_h, from, from_h, len);
        bool ok = true;
        for (int i = 0; i < 16; i++) {
            ok = ok && out[i] == (i < len ? from[i] : 7) && out_h[i] == (i < len ? from_h[i] : 7);
            ok = ok && out[16 + i] == (i < len ? from[i] : 0) && out_h[16 + i] == (i < len ? from_h[i] : 0);
        }
        CHECK(ok, "%s: partial load or store of %d", level, len);
        free(from);
        free(from_h);
    }

    float a[16], b[16], c[16], smaller[16], larger[16], sum_max[2];
    for (int i = 0; i < 16; i++) {
        a[i] = test_matmul_random(&state);
        b[i] = test_matmul_random(&state);
        c[i] = -a[i] * b[i];
    }
    t.fma(y, a, b, c, smaller, larger);
    bool ok = true;
    for (int i = 0; i < 16; i++) {
        float fused = !strcmp(level, "portable") ? a[i] * b[i] + c[i] : fmaf(a[i], b[i], c[i]);
        ok = ok && y[i] == fused && smaller[i] == fminf(a[i], b[i]) && larger[i] == fmaxf(a[i], b[i]);
    }
    CHECK(ok, "%s: fma, min or max", level);
    float s8[8], most = a[0];
    for (int i = 0; i < 8; i++) s8[i] = a[i] + a[i + 8];
    for (int i = 0; i < 16; i++) most = fmaxf(most, a[i]);
    t.reduce(sum_max, a);
    CHECK(sum_max[0] == ((s8[0] + s8[4]) + (s8[2] + s8[6])) + ((s8[1] + s8[5]) + (s8[3] + s8[7])), "%s: sum", level);
    CHECK(sum_max[1] == most, "%s: largest", level);
}

// ----------------------------------------------------------------------------
// the products

typedef struct {
    int T, N, K;
    float *file;    // [N,K] the weights, bf16 values
    bf16_t *x, *dy; // [T,K], [T,N]
    float *bias;    // [N]
    Weight w;
} TestMatmul;

TestMatmul test_matmul_make(const Ops *ops, int T, int N, int K, uint64_t seed) {
    TestMatmul m;
    m.T = T;
    m.N = N;
    m.K = K;
    m.file = (float *)xmalloc((size_t)N * K * sizeof(float));
    m.x = (bf16_t *)xmalloc((size_t)T * K * sizeof(bf16_t));
    m.dy = (bf16_t *)xmalloc((size_t)T * N * sizeof(bf16_t));
    m.bias = (float *)xmalloc((size_t)N * sizeof(float));
    for (size_t i = 0; i < (size_t)N * K; i++) m.file[i] = bf16_to_f32(f32_to_bf16(test_matmul_random(&seed)));
    for (size_t i = 0; i < (size_t)T * K; i++) m.x[i] = f32_to_bf16(test_matmul_random(&seed));
    for (size_t i = 0; i < (size_t)T * N; i++) m.dy[i] = f32_to_bf16(test_matmul_random(&seed));
    for (int i = 0; i < N; i++) m.bias[i] = test_matmul_random(&seed);
    RawTensor raw;
    memset(&raw, 0, sizeof raw);
    raw.name = "test";
    raw.dtype = DTYPE_F32;
    raw.ndim = 2;
    raw.shape[0] = N;
    raw.shape[1] = K;
    raw.data = m.file;
    ops->weight_load(&m.w, &raw, 1);
    return m;
}

void test_matmul_free(const Ops *ops, TestMatmul *m) {
    ops->weight_free(&m->w);
    free(m->file);
    free(m->x);
    free(m->dy);
    free(m->bias);
}

// Largest error of an output in units of what rounding may do to it. Products of two bf16 are exact in fp32; a
// sum of n of them in fp32, in any order, is off by at most n 2^-24 sum |a b| (Higham, Accuracy and Stability,
// 4.2; 1 % for the higher orders), the bias adds one rounding, and an instruction may flush n subnormals.
double test_matmul_worst(const TestMatmul *m, const float *y, bool backward, bool bias) {
    int n_out = backward ? m->K : m->N, n_sum = backward ? m->N : m->K;
    double worst = 0;
    for (int t = 0; t < m->T; t++)
        for (int o = 0; o < n_out; o++) {
            double sum = 0, size = 0;
            for (int i = 0; i < n_sum; i++) {
                double p = backward ? (double)bf16_to_f32(m->dy[(size_t)t * m->N + i]) * m->file[(size_t)i * m->K + o]
                                    : (double)bf16_to_f32(m->x[(size_t)t * m->K + i]) * m->file[(size_t)o * m->K + i];
                sum += p;
                size += fabs(p);
            }
            if (bias) {
                sum += m->bias[o];
                size += fabs(sum);
            }
            double bound = 1.01 * n_sum * (0x1p-24 * size + 0x1p-126);
            double ratio = fabs(y[(size_t)t * n_out + o] - sum) / bound;
            if (!(ratio <= worst)) worst = ratio;
        }
    return worst;
}

void test_matmul_run(const Ops *ops, const TestMatmul *m, float *y, bool backward, bool bias, int t0, int rows) {
    if (backward) ops->matmul_backward(y, m->dy + (size_t)t0 * m->N, &m->w, rows);
    else ops->matmul_forward(y, m->x + (size_t)t0 * m->K, &m->w, bias ? m->bias : NULL, rows);
}

void test_matmul_shape(const Ops *ops, int T, int N, int K, bool values) {
    TestMatmul m = test_matmul_make(ops, T, N, K, (uint64_t)(T * 7 + N * 3 + K));
    int usual = omp_get_max_threads();
    for (int form = 0; form < 3; form++) {
        bool backward = form == 2, bias = form == 1;
        const char *what = backward ? "backward" : bias ? "forward with bias" : "forward";
        size_t n_out = (size_t)(backward ? K : N), n = n_out * T;
        float *y = (float *)xmalloc(n * sizeof *y), *z = (float *)xmalloc(n * sizeof *z);
        for (size_t i = 0; i < n; i++) y[i] = z[i] = NAN; // what is there before must not matter
        test_matmul_run(ops, &m, y, backward, bias, 0, T);
        if (values) {
            double worst = test_matmul_worst(&m, y, backward, bias);
            CHECK(worst <= 1, "%s T %d N %d K %d %s: an error is %.2f times the bound", ops->isa, T, N, K, what, worst);
        }
        const int threads[3] = {1, 2, 5};
        for (int i = 0; i < 3; i++) {
            omp_set_num_threads(threads[i]);
            for (size_t j = 0; j < n; j++) z[j] = NAN;
            test_matmul_run(ops, &m, z, backward, bias, 0, T);
            CHECK(!memcmp(y, z, n * sizeof *y), "%s T %d N %d K %d %s: other bits with %d threads", ops->isa, T, N, K,
                  what, threads[i]);
        }
        omp_set_num_threads(1); // quicker for many small ones; that threads change nothing was seen above
        if (test_same_in_any_batch(ops)) {
            for (int t = 0; t < T; t++) test_matmul_run(ops, &m, z + t * n_out, backward, bias, t, 1);
            CHECK(!memcmp(y, z, n * sizeof *y), "%s T %d N %d K %d %s: a row alone has other bits", ops->isa, T, N, K,
                  what);
            for (int t = 0, rows = 1; t < T; t += rows, rows++)
                test_matmul_run(ops, &m, z + t * n_out, backward, bias, t, T - t < rows ? T - t : rows);
            CHECK(!memcmp(y, z, n * sizeof *y), "%s T %d N %d K %d %s: pieces have other bits", ops->isa, T, N, K,
                  what);
        }
        omp_set_num_threads(usual);
        free(y);
        free(z);
    }
    test_matmul_free(ops, &m);
}

// The check above must see an error of 1 %, and one row's NaN must stay in its row.
void test_matmul_caught(const Ops *ops) {
    TestMatmul m = test_matmul_make(ops, 7, 65, 896, 5);
    float *y = (float *)xmalloc(sizeof(float) * 7 * 896), *z = (float *)xmalloc(sizeof(float) * 7 * 896);
    for (int backward = 0; backward < 2; backward++) {
        size_t n_out = backward ? 896 : 65;
        test_matmul_run(ops, &m, y, backward, false, 0, 7);
        size_t large = 0;
        for (size_t i = 0; i < 7 * n_out; i++)
            if (fabsf(y[i]) > fabsf(y[large])) large = i;
        y[large] *= 1.01f;
        CHECK(test_matmul_worst(&m, y, backward, false) > 1, "%s: a planted error of 1 %% was not seen", ops->isa);

        test_matmul_run(ops, &m, y, backward, false, 0, 7);
        (backward ? m.dy : m.x)[3 * (backward ? 65 : 896) + 5] = 0x7FC0;
        test_matmul_run(ops, &m, z, backward, false, 0, 7);
        CHECK(!memcmp(y, z, 3 * n_out * sizeof *y) && !memcmp(y + 4 * n_out, z + 4 * n_out, 3 * n_out * sizeof *y),
              "%s: NaN in a row changed another", ops->isa);
        CHECK(z[3 * n_out] != z[3 * n_out] && z[4 * n_out - 1] != z[4 * n_out - 1], "%s: NaN was lost", ops->isa);
    }
    free(y);
    free(z);
    test_matmul_free(ops, &m);
}

// Three tensors stacked, of three types, give what one fp32 tensor gives.
void test_matmul_load(const Ops *ops) {
    const int K = 30, rows[3] = {70, 3, 20}, N = 93, T = 3;
    TestMatmul m = test_matmul_make(ops, T, N, K, 9);
    uint16_t half[70 * 30], bf[3 * 30];
    float whole[20 * 30 + 1];
    for (int i = 0; i < 70 * 30; i++) {
        half[i] = (uint16_t)((i * 37) % 0x3C00 | (i % 3 ? 0x8000 : 0)); // magnitudes below 1, subnormals too
        m.file[i] = bf16_to_f32(f32_to_bf16(f16_to_f32(half[i])));
    }
    for (int i = 0; i < 3 * 30; i++) bf[i] = f32_to_bf16(m.file[70 * 30 + i]);
    float *unaligned = (float *)(void *)((char *)whole + 1);
    memcpy(unaligned, m.file + 73 * 30, 20 * 30 * sizeof(float));
    RawTensor raw[3];
    memset(raw, 0, sizeof raw);
    const void *data[3] = {half, bf, unaligned};
    const DType types[3] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    for (int i = 0; i < 3; i++) {
        raw[i].name = "part";
        raw[i].dtype = types[i];
        raw[i].ndim = 2;
        raw[i].shape[0] = rows[i];
        raw[i].shape[1] = K;
        raw[i].data = data[i];
    }
    ops->weight_free(&m.w);
    CHECK(m.w.data == NULL, "%s: weight_free leaves the pointer", ops->isa);
    ops->weight_load(&m.w, raw, 3);
    CHECK(m.w.N == N && m.w.K == K && m.w.n_raw == 3, "%s: stacked to %d x %d", ops->isa, m.w.N, m.w.K);
    float y[3 * 93];
    test_matmul_run(ops, &m, y, false, true, 0, T);
    double worst = test_matmul_worst(&m, y, false, true);
    CHECK(worst <= 1, "%s: stacked fp16, bf16 and fp32: an error is %.2f times the bound", ops->isa, worst);
    test_matmul_free(ops, &m);
}

void test_matmul_memory(const Ops *ops) {
    const size_t sizes[4] = {0, 1, 1000, 3 << 20};
    for (int i = 0; i < 4; i++) {
        unsigned char *p = (unsigned char *)ops->alloc(sizes[i]);
        bool zero = true;
        for (size_t j = 0; j < sizes[i]; j++) zero = zero && p[j] == 0;
        CHECK(zero && (uintptr_t)p % 64 == 0, "%s: alloc(%zu)", ops->isa, sizes[i]);
        memset(p, 1, sizes[i]);
        ops->release(p);
    }
    ops->release(NULL);
    const size_t n = 70003;
    float *x = (float *)xmalloc(n * sizeof *x);
    bf16_t *y = (bf16_t *)xmalloc(n * sizeof *y);
    uint64_t state = 3;
    for (size_t i = 0; i < n; i++) x[i] = test_matmul_random(&state);
    ops->to_act(y, x, n);
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) wrong += y[i] != f32_to_bf16(x[i]);
    CHECK(wrong == 0, "%s: to_act: %zu of %zu differ", ops->isa, wrong, n);
    free(x);
    free(y);
}

// A product with SwiGLU for an epilogue has the bits of the two operations. I columns of gate and of up.
void test_matmul_swiglu(const Ops *ops, int T, int I, int C) {
    TestMatmul m = test_matmul_make(ops, T, 2 * I, C, (uint64_t)(T + I + C));
    const size_t n = (size_t)T * I;
    float *gu = (float *)xmalloc(2 * n * sizeof *gu);
    bf16_t *a[2], *saved[2];
    for (int i = 0; i < 2; i++) {
        a[i] = (bf16_t *)xmalloc(n * sizeof **a);
        saved[i] = (bf16_t *)xmalloc(2 * n * sizeof **saved);
    }
    ops->matmul_forward(gu, m.x, &m.w, NULL, T);
    ops->swiglu_forward(a[0], saved[0], gu, T, I);
    for (int threads = 1; threads <= 2; threads++)
        for (int with_saved = 0; with_saved < 2; with_saved++) {
            omp_set_num_threads(threads);
            memset(a[1], 0xFF, n * sizeof **a);
            ops->matmul_swiglu_forward(a[1], with_saved ? saved[1] : NULL, gu, m.x, &m.w, T);
            CHECK(!memcmp(a[0], a[1], n * sizeof **a), "%s T %d I %d C %d: product with SwiGLU: other bits", ops->isa,
                  T, I, C);
        }
    CHECK(!memcmp(saved[0], saved[1], 2 * n * sizeof **saved), "%s T %d I %d C %d: what SwiGLU saves: other bits",
          ops->isa, T, I, C);
    for (int i = 0; i < 2; i++) {
        free(a[i]);
        free(saved[i]);
    }
    free(gu);
    test_matmul_free(ops, &m);
}

void test_matmul_fused(const Ops *ops) {
    const int usual = omp_get_max_threads();
    const int shapes[7][3] = {{1, 64, 96}, {17, 128, 96}, {33, 64, 1056}, {64, 192, 30},
                              {5, 80, 96}, {40, 33, 31},  {600, 64, 96}};
    for (int i = 0; i < (test_few() ? 3 : 7); i++) test_matmul_swiglu(ops, shapes[i][0], shapes[i][1], shapes[i][2]);
    omp_set_num_threads(usual);
}

#ifdef __cplusplus
extern "C"
#endif
    CpuFill cpu_level_amx_emulated; // amx_emulated.c

// The tile code over emulated tile registers, so that it is proved on any machine; where AMX exists, the same bits as
// AMX.
void test_matmul_amx(void) {
    Ops with_tiles = *cpu_ops_for("portable", NULL);
    CpuChains chains;
    cpu_level_amx_emulated(&with_tiles, &chains);
    with_tiles.isa = "amx_emulated";
    const Ops *emulated = &with_tiles, *amx = NULL;
    const char *levels[CPU_LEVELS];
    for (int i = cpu_levels(levels) - 1; i >= 0; i--)
        if (!strcmp(levels[i], "amx")) amx = cpu_ops_for("amx", NULL);
    const int shapes[12][3] = {{1, 64, 32},  {16, 16, 2},   {17, 65, 30},  {31, 33, 96},  {32, 64, 64},  {33, 130, 31},
                               {48, 32, 98}, {65, 1, 1100}, {9, 1100, 66}, {64, 96, 544}, {7, 40, 1055}, {300, 20, 34}};
    for (int i = 0; i < 12; i += test_few() ? 4 : 1) {
        const int T = shapes[i][0], N = shapes[i][1], K = shapes[i][2];
        test_matmul_shape(emulated, T, N, K, true);
        if (!amx) continue;
        TestMatmul m = test_matmul_make(emulated, T, N, K, (uint64_t)i),
                   a = test_matmul_make(amx, T, N, K, (uint64_t)i);
        m.x[0] = a.x[0] = 0x0001; // a subnormal: taken for zero
        for (int form = 0; form < 3; form++) {
            size_t n = (size_t)T * (form == 2 ? K : N);
            float *y = (float *)xmalloc(n * sizeof *y), *z = (float *)xmalloc(n * sizeof *z);
            test_matmul_run(emulated, &m, y, form == 2, form == 1, 0, T);
            test_matmul_run(amx, &a, z, form == 2, form == 1, 0, T);
            CHECK(!memcmp(y, z, n * sizeof *y), "amx T %d N %d K %d: other bits than its emulation", T, N, K);
            free(y);
            free(z);
        }
        test_matmul_free(emulated, &m);
        test_matmul_free(amx, &a);
    }
    test_matmul_caught(emulated);
    test_matmul_load(emulated);
    test_matmul_fused(emulated);
    if (amx) test_matmul_fused(amx);
    if (!amx) printf("matmul: no AMX on this machine, its tile code ran emulated\n");
}

// Every product of one backend; what it takes is the host's memory.
void test_matmul_on(const Ops *ops) {
    if (!test_same_in_any_batch(ops))
        SKIP("%s products: the bits of a row in another batch, which cuBLASLt does not promise", ops->isa);
    const int T[9] = {1, 2, 5, 6, 7, 12, 13, 64, 65}, N[6] = {1, 16, 63, 64, 65, 1152}, K[4] = {2, 30, 96, 896};
    for (int t = 0; t < 9; t++)
        for (int a = 0; a < 6; a++)
            for (int k = 0; k < 4; k++) {
                bool large = N[a] == 1152 && K[k] == 896; // fewer of these, the largest only by its bits: to save time
                if (large && T[t] != 1 && T[t] != 7 && T[t] != 65) continue;
                if (test_few() && (t % 3 || large || (T[t] > 13 && N[a] > 64))) continue;
                test_matmul_shape(ops, T[t], N[a], K[k], T[t] < 64 || N[a] < 1152);
            }
    test_matmul_shape(ops, 3, 65, 31, true);    // sums of odd length, both ways
    test_matmul_shape(ops, 9, 2500, 130, true); // several blocks of the sum, backward
    test_matmul_shape(ops, 9, 130, 2500, true); // and forward
    test_matmul_shape(ops, 1000, test_few() ? 17 : 70, test_few() ? 4 : 64, false); // several chunks of rows
    test_matmul_caught(ops);
    test_matmul_load(ops);
    test_matmul_memory(ops);
}

void test_matmul(void) {
    const Ops *backends[CPU_LEVELS];
    const int n = test_cpu_backends(backends);
    for (int i = 0; i < n; i++) {
        const char *isa = backends[i]->isa;
        if (strcmp(isa, "amx") != 0 && !strstr(isa, "_bf16"))
            test_simd(isa); // those take the vectors of the level below
        test_matmul_on(backends[i]);
    }
    test_matmul_amx();
    Error err = {0, ""};
    CHECK(!cpu_ops_for("axv2", &err) && err.code == EXIT_USAGE && strstr(err.text, "axv2") &&
              strstr(err.text, "portable"),
          "unknown level: %s", err.text);
}

#endif
