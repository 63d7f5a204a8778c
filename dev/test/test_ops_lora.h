// The products of LoRA and of full tuning, each backend against ref, with rows that are pieces of wider ones; a row
// alone against the row in its batch, and sums that come in pieces. Included by test_ops.h.
#ifndef DEV_TEST_TEST_OPS_LORA_H
#define DEV_TEST_TEST_OPS_LORA_H

// Rows of n numbers in wider ones of ld = n + pad, whose other numbers are NaN where they must not be read, `other`
// where not be written.
float *lora_rows(const float *x, int T, int n, int pad, float other) {
    float *wide = (float *)xmalloc((size_t)T * (size_t)(n + pad) * sizeof(float));
    for (size_t i = 0; i < (size_t)T * (size_t)(n + pad); i++) wide[i] = other;
    for (int t = 0; t < T; t++)
        memcpy(wide + (size_t)t * (size_t)(n + pad), x + (size_t)t * n, (size_t)n * sizeof(float));
    return wide;
}

void test_ops_lora_shape(const Ops *ops, const Ops *ref, int T, int K, int r, int pad) {
    char shape[64];
    snprintf(shape, sizeof shape, "T %d K %d r %d pad %d", T, K, r, pad);
    const int ld = K + pad;
    const size_t n = (size_t)T * ld, n_u = (size_t)T * r, n_a = (size_t)r * K;
    float *narrow = op_random((size_t)T * K, 2), *a = op_random(n_a, 1), *u = op_random(n_u, 1),
          *wide = lora_rows(narrow, T, K, pad, NAN);
    for (size_t i = 0; i < n_u; i++) u[i] /= 3; // so that every addition rounds
    act *x = op_act(ops, wide, n), *x2 = op_act(ref, wide, n);

    float *down = (float *)xmalloc(n_u * sizeof(float)), *down2 = (float *)xmalloc(n_u * sizeof(float));
    ops->lora_down(down, x, ld, a, 0.75f, T, K, r);
    ref->lora_down(down2, x2, ld, a, 0.75f, T, K, r);
    op_check(ops->isa, "lora_down", down, down2, n_u, shape);
    float *alone = (float *)xmalloc((size_t)(ld + r) * sizeof(float));
    ops->lora_down(alone, (char *)x + (size_t)(T - 1) * ld * ops->act_bytes, ld, a, 0.75f, 1, K, r);
    CHECK(memcmp(alone, down + n_u - r, (size_t)r * 4) == 0, "%s lora_down, %s: the last row has other bits alone",
          ops->isa, shape);

    float *y = lora_rows(narrow, T, K, pad, 7), *y2 = lora_rows(narrow, T, K, pad, 7);
    memcpy(alone, y + (size_t)(T - 1) * ld, (size_t)ld * sizeof(float));
    ops->lora_up(y, ld, u, a, T, K, r);
    ref->lora_up(y2, ld, u, a, T, K, r);
    op_check(ops->isa, "lora_up", y, y2, n, shape);
    int written = 0;
    for (size_t i = 0; i < n; i++) written += (int)(i % (size_t)ld) >= K && y[i] != 7;
    CHECK(written == 0, "%s lora_up, %s: %d numbers between the rows are written", ops->isa, shape, written);
    ops->lora_up(alone, ld, u + n_u - r, a, 1, K, r);
    CHECK(memcmp(alone, y + (size_t)(T - 1) * ld, (size_t)K * 4) == 0,
          "%s lora_up, %s: the last row has other bits alone", ops->isa, shape);

    float *g = op_random(n_a, 1), *g2 = (float *)xmalloc(n_a * sizeof(float)),
          *g3 = (float *)xmalloc(n_a * sizeof(float));
    memcpy(g2, g, n_a * sizeof(float));
    memcpy(g3, g, n_a * sizeof(float));
    ops->lora_grad(g, u, x, ld, T, K, r);
    ref->lora_grad(g2, u, x2, ld, T, K, r);
    op_check(ops->isa, "lora_grad", g, g2, n_a, shape);
    const int cut = T / 3, threads = omp_get_max_threads();
    omp_set_num_threads(5);
    if (cut) ops->lora_grad(g3, u, x, ld, cut, K, r);
    ops->lora_grad(g3, u + (size_t)cut * r, (char *)x + (size_t)cut * ld * ops->act_bytes, ld, T - cut, K, r);
    omp_set_num_threads(threads);
    CHECK(memcmp(g, g3, n_a * 4) == 0, "%s lora_grad, %s: two pieces have other bits than the whole", ops->isa, shape);

    ops->release(x);
    ref->release(x2);
    void *all[] = {narrow, wide, a, u, down, down2, alone, y, y2, g, g2, g3};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

void test_ops_lora(const Ops *ops, const Ops *ref) {
    static const int shapes[][4] = {{1, 96, 1, 0},   {1, 896, 16, 0},  {3, 30, 2, 5},   {17, 96, 3, 32},
                                    {17, 897, 7, 0}, {300, 70, 17, 3}, {300, 33, 4, 0}, {2, 1, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        test_ops_lora_shape(ops, ref, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
}

void test_ops_full_shape(const Ops *ops, const Ops *ref, int T, int N, int K) {
    char shape[64];
    snprintf(shape, sizeof shape, "T %d N %d K %d", T, N, K);
    const size_t n_x = (size_t)T * K, n_y = (size_t)T * N, n_w = (size_t)N * K;
    float *x = op_random(n_x, 2), *y = op_random(n_y, 1), *h = op_random(n_x, 2), *rstd = op_random((size_t)T, 1),
          *dw = op_random(n_w, 1);
    float *dw2 = (float *)xmalloc(n_w * sizeof(float)), *norm = op_random((size_t)K, 1),
          *norm2 = (float *)xmalloc((size_t)K * sizeof(float)), *norm3 = (float *)xmalloc((size_t)K * sizeof(float));
    act *dy = op_act(ops, y, n_y), *dy2 = op_act(ref, y, n_y), *in = op_act(ops, x, n_x), *in2 = op_act(ref, x, n_x);
    memcpy(dw2, dw, n_w * sizeof(float));
    ops->matmul_weight_backward(dw, dy, in, T, N, K);
    ref->matmul_weight_backward(dw2, dy2, in2, T, N, K);
    op_check(ops->isa, "matmul_weight_backward", dw, dw2, n_w, shape);

    memcpy(norm2, norm, (size_t)K * sizeof(float));
    memcpy(norm3, norm, (size_t)K * sizeof(float));
    ops->rmsnorm_weight_backward(norm, x, h, rstd, T, K);
    ref->rmsnorm_weight_backward(norm2, x, h, rstd, T, K);
    op_check(ops->isa, "rmsnorm_weight_backward", norm, norm2, (size_t)K, shape);
    if (T > 1) ops->rmsnorm_weight_backward(norm3, x, h, rstd, 1, K);
    ops->rmsnorm_weight_backward(norm3, x + (T > 1 ? K : 0), h + (T > 1 ? K : 0), rstd + (T > 1), T > 1 ? T - 1 : 1, K);
    CHECK(memcmp(norm, norm3, (size_t)K * 4) == 0,
          "%s rmsnorm_weight_backward, %s: two pieces have other bits than the whole", ops->isa, shape);

    ops->release(dy);
    ref->release(dy2);
    ops->release(in);
    ref->release(in2);
    void *all[] = {x, y, h, rstd, dw, dw2, norm, norm2, norm3};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

void test_ops_full(const Ops *ops, const Ops *ref) {
    static const int shapes[][3] = {{1, 3, 5}, {2, 64, 64}, {17, 96, 30}, {300, 70, 33}, {9, 2100, 8}, {64, 1, 130}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        test_ops_full_shape(ops, ref, shapes[i][0], shapes[i][1], shapes[i][2]);
}

#endif
