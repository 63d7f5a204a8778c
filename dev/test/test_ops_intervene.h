/*
The operations of interventions, each backend against ref. Values go through the
backend's memory, so cuda is judged by the same lines.
*/
#ifndef DEV_TEST_TEST_OPS_INTERVENE_H
#define DEV_TEST_TEST_OPS_INTERVENE_H

#include "dev/test/backends.h" // to_backend, from_backend
#include "dev/test/test_ops.h" // op_check and the like

// x[n] as acts in the backend's memory.
act *intervene_acts(const Ops *ops, const float *x, size_t n) {
    float *there = to_backend(ops, x, n);
    act *a = ops->alloc((n + 1) * ops->act_bytes);
    ops->to_act(a, there, n);
    ops->release(there);
    return a;
}

typedef struct {
    float *mixed, *put, *added;
} IntervenedOps; // on the host

// All three operations of one backend on the same numbers.
void intervene_run(IntervenedOps *out, const Ops *ops, const float *x, const float *other, const float *s,
                   const unsigned char *take, const int *pos, int T, int C, int blocks) {
    const size_t n = (size_t)T * C * blocks, tc = (size_t)T * C;
    float *to = to_backend(ops, x, n), *from = to_backend(ops, other, n), *d_s = to_backend(ops, s, (size_t)C);
    unsigned char *d_take = (unsigned char *)ops->alloc((size_t)blocks);
    int *d_pos = (int *)ops->alloc((size_t)T * sizeof(int));
    ops->upload(d_take, take, (size_t)blocks);
    ops->upload(d_pos, pos, (size_t)T * sizeof(int));
    out->mixed = (float *)xmalloc(n * sizeof(float));
    out->put = (float *)xmalloc(tc * sizeof(float));

    ops->mix_blocks(to, from, d_take, T, blocks, C);
    ops->download(out->mixed, to, n * sizeof(float));
    ops->put_rows(to, d_s, d_pos, 1, T, C);
    ops->download(out->put, to, tc * sizeof(float));

    act *a = intervene_acts(ops, other, tc);
    ops->act_add_row(a, d_s, T, C);
    act *host = xmalloc((tc + 1) * ops->act_bytes);
    ops->download(host, a, tc * ops->act_bytes);
    out->added = op_floats(ops, host, tc);
    free(host);
    void *all[] = {to, from, d_s, d_take, d_pos, a};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ops->release(all[i]);
}

void test_ops_intervene(const Ops *ops, const Ops *ref, int T, int C, int blocks) {
    char shape[64];
    snprintf(shape, sizeof shape, "T %d C %d blocks %d", T, C, blocks);
    const size_t n = (size_t)T * C * blocks, tc = (size_t)T * C;
    float *x = op_random(n, 2), *other = op_random(n, 2), *s = op_random((size_t)C, 1);
    unsigned char *take = (unsigned char *)xmalloc((size_t)blocks);
    int *pos = (int *)xmalloc((size_t)T * sizeof(int));
    for (int j = 0; j < blocks; j++) take[j] = (unsigned char)op_integer(2);
    take[0] = 1;
    for (int t = 0; t < T; t++) pos[t] = t % 3;

    IntervenedOps got, want;
    intervene_run(&got, ops, x, other, s, take, pos, T, C, blocks);
    intervene_run(&want, ref, x, other, s, take, pos, T, C, blocks);
    op_check(ops->isa, "mix_blocks", got.mixed, want.mixed, n, shape);
    op_check(ops->isa, "put_rows", got.put, want.put, tc, shape);
    op_check(ops->isa, "act_add_row", got.added, want.added, tc, shape);
    int wrong = 0;
    for (int t = 0; t < T; t++)
        for (int j = 0; j < blocks; j++) { // what it means
            const size_t at = ((size_t)t * blocks + j) * C;
            wrong += memcmp(got.mixed + at, (take[j] ? other : x) + at, (size_t)C * sizeof(float)) != 0;
        }
    CHECK(wrong == 0, "%s mix_blocks, %s: %d blocks come from the wrong place", ops->isa, shape, wrong);

    void *all[] = {x, other, s, take, pos, got.mixed, got.put, got.added, want.mixed, want.put, want.added};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// Odd shapes on one backend, over its own memory.
void test_ops_interventions(const Ops *ops) {
    static const int rows[] = {1, 3, 17}, columns[] = {96, 896, 30};
    for (int t = 0; t < 3; t++)
        for (int c = 0; c < 3; c++) test_ops_intervene(ops, ops_ref_init(), rows[t], columns[c], 1 + 3 * t);
}

#endif
