// Every operation of every backend (backends.h) against ops_ref.h: odd shapes,
// a tolerance table that says where each tolerance comes from, an error of 1 % and a NaN planted in every
// comparison; gradients against finite differences; and the promise that no bit depends on batching, threads or
// pages. The products are in test_matmul.h, log-probabilities and sampling in test_ops_output.h.
#ifndef DEV_TEST_TEST_OPS_H
#define DEV_TEST_TEST_OPS_H

#include "llmc/utils/threads.h" // omp_set_num_threads

#include "dev/test/backends.h" // test_backends
#include "dev/test/test.h"
#include "llmc/cpu/cpu.h"   // cpu_levels, cpu_ops_for, cpu_kv_page
#include "llmc/ops_ref.h"   // ops_ref_init, ref_kv_at
#include "llmc/utils/rng.h" // rng_uniform

// ----------------------------------------------------------------------------
// comparing: |got - want| <= relative |want| + of_rms rms(want) + absolute

typedef struct {
    const char *output;
    float relative, of_rms, absolute;
    const char *why;
} OpTolerance;

#define BF16_ROUNDING 0x1.02p-8f // half a unit in the last of 8 bits, and 1 % of that for the fp32 value being rounded

// clang-format off
const OpTolerance op_tolerances[] = {
    {"embed", 0, 0, 0, "a copy; bf16 and fp16 are exact in fp32"},
    {"add_rmsnorm h", 0, 0, 0, "the same two additions"},
    {"add_rmsnorm rstd", 4e-6f, 0, 0, "a sum of up to 896 squares in another order: 896 * 2^-24 at the very worst, a tenth in practice"},
    {"add_rmsnorm x", BF16_ROUNDING, 1e-6f, 0, "act"},
    {"rmsnorm_backward dh", 0, 4e-6f, 0, "a dot product of up to 896 terms in another order, one fused multiply-add"},
    {"rmsnorm_backward dy", BF16_ROUNDING, 4e-6f, 0, "act"},
    {"column_sum", 0, 2e-6f, 0, "ds + rows against ds + (sum of rows): 60 additions"},
    {"gather_rows", 0, 0, 0, "a copy"},
    {"scatter_add_rows", 0, 0, 0, "the same additions in the same order"},
    {"swiglu", BF16_ROUNDING, 1e-6f, 0, "act; exp to 2 units"},
    {"swiglu_backward", BF16_ROUNDING, 1e-6f, 0, "act; exp to 2 units"},
    {"rope", BF16_ROUNDING, 1e-6f, 0, "act; a c - b s may cancel"},
    {"attention out", BF16_ROUNDING, 1e-5f, 0, "act; scores of up to 256 terms and sums over keys in another order"},
    {"attention lse", 0, 4e-6f, 0, "the same sums, log of them"},
    {"attention_backward", 1e-5f, 1e-5f, 0, "fp32 sums over keys and queries in another order, exp(s - lse) from both"},
    {"attention out, bf16 p", BF16_ROUNDING, 1e-5f, 0x1p-8f, "cuda rounds probabilities to 8 bits: a mean of values of up to 2 moves by 2^-9 of 2"},
    {"attention_backward, bf16 p", 0, 0x1p-5f, 0, "cuda rounds probabilities and dS to 8 bits: off by 2^-9 of the sum of absolute terms, here below 16 rms"},
    {"mix_blocks", 0, 0, 0, "a copy"},
    {"put_rows", 0, 0, 0, "a copy"},
    {"act_add_row", BF16_ROUNDING, 0, 0, "act"},
    {"lora_down", 0, 4e-6f, 0, "a dot product of up to 896 terms in another order"},
    {"lora_up", 0, 2e-6f, 0, "up to 17 terms, fused or not"},
    {"lora_grad", 0, 4e-6f, 0, "up to 300 terms, fused or not"},
    {"matmul_weight_backward", 0, 4e-6f, 0, "dw + terms against dw + (sum of terms): up to 300"},
    {"rmsnorm_weight_backward", 0, 4e-6f, 0, "up to 300 terms, fused or not"},
    {"logprob", 0, 0, 0x1p-17f, "z and lse reach 35, where fp32 rounds by 2^-19: two roundings in each backend"},
    {"lse", 0, 0, 0x1p-18f, "the same, one rounding in each"},
    {"entropy", 1e-5f, 0, 0x1p-18f, "ref takes it from the rounded lse, cpu from sums of the vocabulary in fp32"},
    {"dlogits", BF16_ROUNDING + 4e-6f, 1e-9f, 0, "act; exp(z - lse) inherits their 2^-20"},
};
// clang-format on

bool op_close_to(const char *output, const float *got, const float *want, size_t n, size_t *worst, float *limit) {
    const OpTolerance *t = op_tolerances;
    while (strcmp(t->output, output) != 0) t++;
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (double)want[i] * want[i];
    float rms = (float)sqrt(squares / (n ? n : 1)), worst_excess = -INFINITY;
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        float allowed = t->relative * fabsf(want[i]) + t->of_rms * rms + t->absolute,
              excess = fabsf(got[i] - want[i]) - allowed;
        if (!(excess <= 0)) ok = false;
        if (!(excess <= worst_excess)) {
            worst_excess = excess;
            *worst = i;
            *limit = allowed;
        }
    }
    return ok;
}

// got agrees with want; and would not if one element were 1 % off or NaN.
void op_check(const char *isa, const char *output, const float *got, const float *want, size_t n, const char *shape) {
    size_t at = 0, largest = 0;
    float limit = 0;
    bool ok = op_close_to(output, got, want, n, &at, &limit);
    CHECK(ok, "%s %s, %s: element %zu of %zu is %.9g, expected %.9g +- %.2g", isa, output, shape, at, n, got[at],
          want[at], limit);
    float *planted = (float *)xmalloc(n * sizeof *planted);
    memcpy(planted, got, n * sizeof *planted);
    for (size_t i = 0; i < n; i++)
        if (fabsf(want[i]) > fabsf(want[largest])) largest = i;
    planted[largest] = want[largest] * 1.01f;
    CHECK(want[largest] == 0 || !op_close_to(output, planted, want, n, &at, &limit),
          "%s %s, %s: 1 %% off was not noticed", isa, output, shape);
    planted[largest] = NAN;
    CHECK(!op_close_to(output, planted, want, n, &at, &limit), "%s %s, %s: NaN was not noticed", isa, output, shape);
    free(planted);
}

// ----------------------------------------------------------------------------
// data: numbers every act type holds exactly, so that both backends see the same inputs

uint32_t op_draws;

float *op_random(size_t n, float scale) {
    float *x = (float *)xmalloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = bf16_to_f32(f32_to_bf16(scale * (2 * rng_uniform(7, RNG_TOKEN, op_draws++, 0, 0, 0) - 1)));
    return x;
}

int op_integer(int below) { return (int)(below * rng_uniform(7, RNG_TOKEN, op_draws++, 0, 0, 0)); }

act *op_act(const Ops *ops, const float *x, size_t n) { // n acts, from x unless NULL
    act *a = ops->alloc((n + 1) * ops->act_bytes);
    if (x) ops->to_act(a, x, n);
    return a;
}

float *op_floats(const Ops *ops, const act *a, size_t n) {
    float *x = (float *)xmalloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = ops->act_bytes == 2 ? bf16_to_f32(((const bf16_t *)a)[i]) : ((const float *)a)[i];
    return x;
}

// compares two acts, then frees them
void op_check_act(const Ops *ops, const Ops *ref, const char *output, act *got, act *want, size_t n,
                  const char *shape) {
    float *x = op_floats(ops, got, n), *y = op_floats(ref, want, n);
    op_check(ops->isa, output, x, y, n, shape);
    free(x);
    free(y);
    ops->release(got);
    ref->release(want);
}

// ----------------------------------------------------------------------------
// row operations: backend against backend, then one row alone against the row in its batch

void test_ops_rows(const Ops *ops, const Ops *ref, int T, int C) {
    char shape[64];
    snprintf(shape, sizeof shape, "T %d C %d", T, C);
    size_t n = (size_t)T * C, n2 = 2 * n;
    float *h = op_random(n, 2), *y = op_random(n, 1), *s = op_random((size_t)C, 0.5f), *w = op_random((size_t)C, 1);
    float *gu = op_random(n2, 6);
    float *a = op_random(n, 1), *b = op_random(n, 1);
    float *rstd = op_random((size_t)T, 1), *rstd2 = op_random((size_t)T, 1);
    act *x = op_act(ops, NULL, n), *x2 = op_act(ref, NULL, n);

    for (int variant = 0; variant < 4; variant++) { // with and without y and s
        const float *yv = variant & 1 ? y : NULL, *sv = variant & 2 ? s : NULL;
        memcpy(a, h, n * sizeof *a); // in place here, to another buffer there
        ops->add_rmsnorm_forward(a, x, rstd, a, yv, sv, w, 1e-6f, T, C);
        ref->add_rmsnorm_forward(b, x2, rstd2, h, yv, sv, w, 1e-6f, T, C);
        op_check(ops->isa, "add_rmsnorm h", a, b, n, shape);
        op_check(ops->isa, "add_rmsnorm rstd", rstd, rstd2, (size_t)T, shape);
    }
    for (int t = 0; t < T; t++) { // alone, and with fewer outputs
        float *row = op_random((size_t)C, 1), r = 0;
        act *xr = op_act(ops, NULL, (size_t)C);
        ops->add_rmsnorm_forward(row, xr, &r, h + (size_t)t * C, y + (size_t)t * C, s, w, 1e-6f, 1, C);
        bool same = r == rstd[t] && memcmp(row, a + (size_t)t * C, (size_t)C * 4) == 0 &&
                    memcmp(xr, (char *)x + (size_t)t * C * ops->act_bytes, (size_t)C * ops->act_bytes) == 0;
        ops->add_rmsnorm_forward(row, NULL, NULL, row, NULL, NULL, w, 1e-6f, 1, C);
        CHECK(same && memcmp(row, a + (size_t)t * C, (size_t)C * 4) == 0,
              "%s add_rmsnorm_forward, %s: row %d has other bits alone", ops->isa, shape, t);
        free(row);
        ops->release(xr);
    }
    op_check_act(ops, ref, "add_rmsnorm x", x, x2, n, shape);

    act *dy = op_act(ops, NULL, n), *dy2 = op_act(ref, NULL, n);
    ops->rmsnorm_backward(a, dy, y, h, rstd2, w, T, C); // a and b are the same dh here
    ref->rmsnorm_backward(b, dy2, y, h, rstd2, w, T, C);
    op_check(ops->isa, "rmsnorm_backward dh", a, b, n, shape);
    op_check_act(ops, ref, "rmsnorm_backward dy", dy, dy2, n, shape);
    ops->rmsnorm_backward(a, NULL, y, h, rstd2, w, T, C);
    ref->rmsnorm_backward(b, NULL, y, h, rstd2, w, T, C);
    op_check(ops->isa, "rmsnorm_backward dh", a, b, n, shape);

    float *ds = op_random((size_t)C, 1), *ds2 = (float *)xmalloc((size_t)C * 4), *ds3 = (float *)xmalloc((size_t)C * 4);
    memcpy(ds2, ds, (size_t)C * 4);
    memcpy(ds3, ds, (size_t)C * 4);
    for (size_t i = 0; i < n; i++) a[i] = y[i] / 3; // so that every addition rounds
    ops->column_sum(ds, a, T, C);
    ref->column_sum(ds2, a, T, C);
    op_check(ops->isa, "column_sum", ds, ds2, (size_t)C, shape);
    ops->column_sum(ds3, a, T / 2, C);
    ops->column_sum(ds3, a + (size_t)(T / 2) * C, T - T / 2, C);
    CHECK(memcmp(ds, ds3, (size_t)C * 4) == 0, "%s column_sum, %s: two halves have other bits than the whole", ops->isa,
          shape);

    int rows[40], n_rows = T + 2;
    for (int i = 0; i < n_rows; i++) rows[i] = op_integer(T); // with repeats
    float *g = op_random((size_t)n_rows * C, 1), *g2 = op_random((size_t)n_rows * C, 1);
    for (size_t i = 0; i < (size_t)n_rows * C; i++) g[i] /= 3;
    memcpy(a, h, n * 4);
    memcpy(b, h, n * 4);
    ops->scatter_add_rows(a, g, rows, n_rows, C);
    ref->scatter_add_rows(b, g, rows, n_rows, C);
    op_check(ops->isa, "scatter_add_rows", a, b, n, shape);
    ops->gather_rows(g, h, rows, n_rows, C);
    ref->gather_rows(g2, h, rows, n_rows, C);
    op_check(ops->isa, "gather_rows", g, g2, (size_t)n_rows * C, shape);

    act *f = op_act(ops, NULL, n), *f2 = op_act(ref, NULL, n), *saved = op_act(ops, NULL, n2),
        *saved2 = op_act(ref, NULL, n2);
    gu[0] = -200; // exp(200) is infinite
    ops->swiglu_forward(f, saved, gu, T, C);
    ref->swiglu_forward(f2, saved2, gu, T, C);
    act *d = op_act(ops, NULL, n2), *d2 = op_act(ref, NULL, n2), *alone = op_act(ops, NULL, n2);
    op_check_act(ops, ref, "swiglu", f, f2, n, shape);
    f = op_act(ops, NULL, n);
    f2 = op_act(ref, NULL, n);
    ops->swiglu_backward(d, f, y, saved, T, C);
    ref->swiglu_backward(d2, f2, y, saved2, T, C);
    ops->swiglu_backward(alone, NULL, y, saved, T, C);
    CHECK(memcmp(alone, d, n2 * ops->act_bytes) == 0, "%s swiglu_backward, %s: other bits without its second output",
          ops->isa, shape);
    ops->release(alone);
    op_check_act(ops, ref, "swiglu", f, f2, n, shape);
    op_check_act(ops, ref, "swiglu", saved, saved2, n2, shape);
    op_check_act(ops, ref, "swiglu_backward", d, d2, n2, shape);

    int ids[40];
    for (int t = 0; t < T; t++) ids[t] = op_integer(T);
    uint16_t *half = (uint16_t *)xmalloc((n + 1) * 2);
    for (int dtype = 0; dtype < 3; dtype++) {
        RawTensor wte = {
            "wte", (DType)dtype, 2, {T, C, 0, 0}, dtype == DTYPE_F32 ? (const void *)h : (const void *)half};
        for (size_t i = 0; i < n; i++) half[i] = dtype == DTYPE_BF16 ? f32_to_bf16(h[i]) : (uint16_t)op_integer(0x7C00);
        ops->embed(a, ids, &wte, T, C);
        ref->embed(b, ids, &wte, T, C);
        op_check(ops->isa, "embed", a, b, n, shape);
    }
    void *all[] = {h, y, s, w, gu, a, b, rstd, rstd2, ds, ds2, ds3, g, g2, half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// ----------------------------------------------------------------------------
// attention: groups of a shared prompt and its completions, packed one after another

#include "dev/test/test_ops_scene.h" // Scene, SceneRun

void scene_check_cache(const Ops *ops, SceneRun *got, SceneRun *want, const Scene *c, const char *shape) {
    size_t n = (size_t)c->n_writes * c->NKV * c->HD, i = 0;
    float *x[4];
    for (int j = 0; j < 4; j++) x[j] = (float *)xmalloc((n + 1) * sizeof(float));
    for (int write = 0; write < c->n_writes; write++)
        for (int h = 0; h < c->NKV; h++)
            for (int d = 0; d < c->HD; d++, i++) {
                int slot = c->write_slot[write], page = slot / KV_PAGE, offset = slot % KV_PAGE;
                x[0][i] = scene_key(ops, got, page, h, offset, d);
                x[1][i] = ref_kv_at(want->kv.k, &want->kv, 1, slot, h)[d];
                x[2][i] = bf16_to_f32(cpu_kv_page(got->kv.v, &got->kv, 1, page, h)[offset * c->HD + d]);
                x[3][i] = ref_kv_at(want->kv.v, &want->kv, 1, slot, h)[d];
            }
    op_check(ops->isa, "rope", x[0], x[1], n, shape);
    op_check(ops->isa, "rope", x[2], x[3], n, shape);
    for (int j = 0; j < 4; j++) free(x[j]);
}

void test_ops_attention(const Ops *ops, const Ops *ref, int NH, int NKV, int HD, int prompt) {
    char shape[96];
    const bool cuda = strcmp(ops->name, "cuda") == 0;
    const char *forward_output = cuda ? "attention out, bf16 p" : "attention out";
    const char *backward_output = cuda ? "attention_backward, bf16 p" : "attention_backward";
    snprintf(shape, sizeof shape, "NH %d NKV %d HD %d prompt %d", NH, NKV, HD, prompt);
    Scene c;
    scene_make(&c, NH, NKV, HD, prompt, 1);
    size_t n = (size_t)c.T * NH * HD, n_kv = (size_t)c.T * NKV * HD, n_qkv = n + 2 * n_kv;
    float *still =
        (float *)xcalloc((size_t)SCENE_POSITIONS * HD, sizeof(float)); // turns nothing, so that keys stay exact
    for (int i = 0; i < SCENE_POSITIONS * HD; i += 2) still[i] = 1;
    SceneRun got, want;

    scene_run_make(&got, ops, &c, c.qkv, c.rope);
    scene_run_make(&want, ref, &c, c.qkv, c.rope);
    float *q = op_floats(ops, got.q, n);
    op_check(ops->isa, "rope", q, (float *)want.q, n, shape);
    scene_check_cache(ops, &got, &want, &c, shape);
    free(q);
    scene_run_free(&got, ops);
    scene_run_free(&want, ref);

    scene_run_make(&got, ops, &c, c.qkv, still);
    scene_run_make(&want, ref, &c, c.qkv, still);
    float *out = op_floats(ops, got.out, n);
    op_check(ops->isa, forward_output, out, (float *)want.out, n, shape);
    op_check(ops->isa, "attention lse", got.lse, want.lse, (size_t)c.T * NH, shape);
    for (size_t i = 0; i < n; i++) ((float *)want.out)[i] = out[i]; // both start from the same output
    scene_run_backward(&got, ops, &c, got.out, want.lse);
    scene_run_backward(&want, ref, &c, want.out, want.lse);
    op_check(ops->isa, backward_output, got.dq, want.dq, n, shape);
    op_check(ops->isa, backward_output, got.dk, want.dk, n_kv, shape);
    op_check(ops->isa, backward_output, got.dv, want.dv, n_kv, shape);
    ops->rope_backward(got.dqkv, want.dq, want.dk, want.dv, c.rope, c.pos, c.T, NH, NKV, HD);
    float *dqkv = op_floats(ops, got.dqkv, n_qkv);
    op_check(ops->isa, "rope", dqkv, (float *)want.dqkv, n_qkv, shape);
    scene_run_backward(&got, ops, &c, got.out, got.lse);

    for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) { // other threads, other pages: the same bits
        int before = omp_get_max_threads();
        Scene c2;
        SceneRun again;
        omp_set_num_threads(threads);
        scene_make(&c2, NH, NKV, HD, prompt, 1 + (uint32_t)threads);
        scene_run_make(&again, ops, &c2, c2.qkv, still);
        scene_run_backward(&again, ops, &c2, again.out, again.lse);
        bool forward = memcmp(again.out, got.out, n * ops->act_bytes) == 0 &&
                       memcmp(again.lse, got.lse, (size_t)c.T * NH * 4) == 0;
        CHECK(forward, "%s attention_forward, %s: other bits with %d threads and other pages", ops->isa, shape,
              threads);
        bool backward = memcmp(again.dq, got.dq, n * 4) == 0 && memcmp(again.dk, got.dk, n_kv * 4) == 0 &&
                        memcmp(again.dv, got.dv, n_kv * 4) == 0;
        CHECK(backward, "%s attention_backward, %s: other bits with %d threads and other pages", ops->isa, shape,
              threads);
        scene_run_free(&again, ops);
        scene_free(&c2);
        omp_set_num_threads(before);
    }

    // each row decoded alone, and two halves of a sequence one after the other, on the same cache
    act *alone = op_act(ops, NULL, n);
    float *lse = (float *)xcalloc((size_t)c.T * NH, sizeof(float));
    for (int s = 0; s < c.n_sequences; s++)
        for (int t = 0; t < c.sequences[s].T; t++) {
            Sequence g = c.sequences[s];
            g.row0 += t;
            g.pos0 += t;
            g.T = 1;
            ops->attention_forward(alone, lse, got.q, &got.kv, 1, &g, 1, NH);
        }
    CHECK(memcmp(alone, got.out, n * ops->act_bytes) == 0 && memcmp(lse, got.lse, (size_t)c.T * NH * 4) == 0,
          "%s attention_forward, %s: rows decoded alone have other bits", ops->isa, shape);
    memset(alone, 0, n * ops->act_bytes);
    for (int s = 0; s < c.n_sequences; s++)
        for (int half = 0; half < 2; half++) {
            Sequence g = c.sequences[s];
            int first = half ? g.T / 2 : 0;
            g.row0 += first;
            g.pos0 += first;
            g.T = half ? g.T - first : g.T / 2;
            ops->attention_forward(alone, NULL, got.q, &got.kv, 1, &g, 1, NH);
        }
    CHECK(memcmp(alone, got.out, n * ops->act_bytes) == 0, "%s attention_forward, %s: two halves have other bits",
          ops->isa, shape);

    for (int i = 0; i < 16 * 64; i++) { // every page moved to another
        int k = 0;
        while (k < c.n_pages && c.order[k] != c.pages[i]) k++;
        if (k < c.n_pages) ops->kv_copy_page(&got.kv, c.pages[i] = c.order[c.n_pages + k], c.order[k]);
    }
    ops->attention_forward(alone, NULL, got.q, &got.kv, 1, c.sequences, c.n_sequences, NH);
    CHECK(memcmp(alone, got.out, n * ops->act_bytes) == 0, "%s kv_copy_page, %s: other bits on copied pages", ops->isa,
          shape);

    int bad = op_integer(c.T * NH); // a NaN in one query spoils that query's output and no other
    float nan[CPU_MAX_HD];
    for (int d = 0; d < HD; d++) nan[d] = d == HD / 2 ? NAN : 1;
    ops->to_act((char *)got.q + (size_t)bad * HD * ops->act_bytes, nan, (size_t)HD);
    ops->attention_forward(alone, lse, got.q, &got.kv, 1, c.sequences, c.n_sequences, NH);
    float *spoilt = op_floats(ops, alone, n);
    int right = 0;
    for (size_t i = 0; i < n; i++) right += (int)i / HD == bad ? isnan(spoilt[i]) : spoilt[i] == out[i];
    CHECK(right == (int)n && isnan(lse[bad]), "%s attention_forward, %s: NaN in query %d: %d of %zu outputs are right",
          ops->isa, shape, bad, right, n);
    free(spoilt);
    free(out);
    free(dqkv);
    free(still);
    free(lse);
    ops->release(alone);
    scene_run_free(&got, ops);
    scene_run_free(&want, ref);
    scene_free(&c);
}

// ----------------------------------------------------------------------------

#include "dev/test/test_ops_gradient.h"  // test_ops_gradient
#include "dev/test/test_ops_intervene.h" // test_ops_intervene
#include "dev/test/test_ops_output.h"    // test_ops_output
#include "dev/test/test_ops_lora.h"      // test_ops_lora, test_ops_full

// Every operation of one backend but its products; what it takes is the host's memory.
void test_ops_on(const Ops *ops) {
    const Ops *ref = ops_ref_init();
    static const int rows[] = {1, 3, 17}, columns[] = {96, 896, 30};
    static const int heads[][3] = {{14, 2, 64}, {3, 1, 16}, {2, 2, 128}, {1, 1, 2}, {5, 1, 24}, {2, 1, 256}};
    static const int prompts[] = {0, 1, 15, 16, 17, 130};
    for (int t = 0; t < 3; t++)
        for (int c = 0; c < 3; c++) test_ops_rows(ops, ref, rows[t], columns[c]);
    for (int h = 0; h < 6; h++)
        for (int p = 0; p < 6; p++) {
            const bool kept = h == 1 || prompts[p] == 17 ||
                              (h == 2 && prompts[p] == 130); // of all shapes, those that the emulator has time for
            if (strstr(ops->isa, "emulated") && !kept) continue;
            if (test_few() && h != 1 && (h != 0 || prompts[p] != 17)) continue;
            test_ops_attention(ops, ref, heads[h][0], heads[h][1], heads[h][2], prompts[p]);
        }
    test_ops_gradient(ops, 3e-2);
    test_ops_output_exact(ops);
    test_ops_output(ops, ref);
    test_ops_lora(ops, ref);
    test_ops_full(ops, ref);
}

void test_ops(void) {
    const Ops *backends[CPU_LEVELS];
    const int n = test_cpu_backends(backends);
    test_ops_gradient(ops_ref_init(), 2e-3);
    test_ops_output_exact(ops_ref_init());
    for (int i = 0; i < n; i++) {
        test_ops_on(backends[i]);
        test_ops_interventions(backends[i]);
    }
}

#endif
