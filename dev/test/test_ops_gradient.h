// The backward operations against central differences of the forward ones, on whichever backend: along the
// gradient itself, so that what bf16 outputs lose to rounding averages out. Included by test_ops.h.
#ifndef DEV_TEST_TEST_OPS_GRADIENT_H
#define DEV_TEST_TEST_OPS_GRADIENT_H

// sum of weight * out, what the gradients below are of; frees out
double gradient_loss(const Ops *ops, act *out, const float *weight, size_t n) {
    float *x = op_floats(ops, out, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)weight[i] * x[i];
    free(x);
    ops->release(out);
    return sum;
}

// the forward passes under test: x[n_in] -> out acts
typedef act *(*GradientForward)(const Ops *ops, const float *x, const void *context);

void gradient_check(const Ops *ops, const char *what, GradientForward forward, const void *context, const float *x,
                    const float *gradient, size_t n_in, const float *weight, size_t n_out, double step,
                    double tolerance) {
    float *moved = (float *)xmalloc(n_in * sizeof(float));
    double squares = 0, loss[2];
    for (size_t i = 0; i < n_in; i++) squares += (double)gradient[i] * gradient[i];
    double rms = sqrt(squares / (double)n_in);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n_in; i++) moved[i] = x[i] + (float)((side ? -step : step) * gradient[i] / rms);
        loss[side] = gradient_loss(ops, forward(ops, moved, context), weight, n_out);
    }
    double along = (loss[0] - loss[1]) / (2 * step);
    double expected = squares / rms;
    CHECK(fabs(along - expected) <= tolerance * expected, "%s %s: the gradient promises %.6g, differences give %.6g",
          ops->isa, what, expected, along);
    if (tolerance < 0.005)
        CHECK(!(fabs(along - 1.01 * expected) <= tolerance * expected), "%s %s: 1 %% off was not noticed", ops->isa,
              what);
    free(moved);
}

typedef struct {
    int T, C;
    const float *w;
    const Scene *scene;
} GradientContext;

act *gradient_rmsnorm(const Ops *ops, const float *x, const void *context) {
    const GradientContext *g = (const GradientContext *)context;
    float *h = (float *)xmalloc((size_t)g->T * g->C * sizeof(float));
    act *out = op_act(ops, NULL, (size_t)g->T * g->C);
    ops->add_rmsnorm_forward(h, out, NULL, x, NULL, NULL, g->w, 1e-6f, g->T, g->C);
    free(h);
    return out;
}

act *gradient_swiglu(const Ops *ops, const float *x, const void *context) {
    const GradientContext *g = (const GradientContext *)context;
    act *out = op_act(ops, NULL, (size_t)g->T * g->C);
    ops->swiglu_forward(out, NULL, x, g->T, g->C);
    return out;
}

// through the rotation and the shared cache
act *gradient_attention(const Ops *ops, const float *x, const void *context) {
    const Scene *c = ((const GradientContext *)context)->scene;
    SceneRun r;
    scene_run_make(&r, ops, c, x, c->rope);
    act *out = r.out;
    r.out = NULL;
    scene_run_free(&r, ops);
    return out;
}

void test_ops_gradient(const Ops *ops, double tolerance) {
    const int T = 17, C = 96;
    size_t n = (size_t)T * C;
    op_draws = 5000;
    float *x = op_random(2 * n, 2), *weight = op_random(n, 1), *w = op_random((size_t)C, 1),
          *dh = (float *)xcalloc(n, sizeof(float));
    float *rstd = op_random((size_t)T, 1);
    GradientContext g = {T, C, w, NULL};

    act *out = op_act(ops, NULL, n);
    ops->add_rmsnorm_forward(x, out, rstd, x, NULL, NULL, w, 1e-6f, T, C);
    ops->rmsnorm_backward(dh, NULL, weight, x, rstd, w, T, C);
    gradient_check(ops, "rmsnorm_backward", gradient_rmsnorm, &g, x, dh, n, weight, n, 0.02, tolerance);

    act *saved = op_act(ops, x, 2 * n), *dgu = op_act(ops, NULL, 2 * n);
    ops->swiglu_backward(dgu, NULL, weight, saved, T, C);
    float *gradient = op_floats(ops, dgu, 2 * n);
    gradient_check(ops, "swiglu_backward", gradient_swiglu, &g, x, gradient, 2 * n, weight, n, 0.02, tolerance);
    free(gradient);

    Scene c;
    scene_make(&c, 4, 2, 16, 19, 3);
    g.scene = &c;
    SceneRun r;
    scene_run_make(&r, ops, &c, c.qkv, c.rope);
    scene_run_backward(&r, ops, &c, r.out, r.lse);
    size_t n_qkv = (size_t)c.T * 8 * 16;
    gradient = op_floats(ops, r.dqkv, n_qkv);
    gradient_check(ops, "attention_backward and rope_backward", gradient_attention, &g, c.qkv, gradient, n_qkv, c.dout,
                   (size_t)c.T * 4 * 16, 0.005, tolerance);
    free(gradient);
    scene_run_free(&r, ops);
    scene_free(&c);
    ops->release(out);
    ops->release(saved);
    ops->release(dgu);
    void *all[] = {x, weight, w, dh, rstd};
    for (int i = 0; i < 5; i++) free(all[i]);
}

#endif
