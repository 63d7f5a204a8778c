// Attention at the shapes of larger models than the tiny one: heads of 128 columns in groups of 6 (1.5B) and 7 (7B),
// and a decode step with a sequence that has more chunks of keys than there is memory for (attention_decode.cuh): then
// its first block does it alone, to the same bits.
#ifndef DEV_TEST_TEST_CUDA_ATTENTION_H
#define DEV_TEST_TEST_CUDA_ATTENTION_H

#include "dev/test/test_ops.h" // Scene, op_check

// Forward and backward against ref, once.
void test_cuda_heads(const Ops *ops, int NH, int NKV, int HD) {
    const Ops *ref = ops_ref_init();
    char shape[64];
    snprintf(shape, sizeof shape, "NH %d NKV %d HD %d", NH, NKV, HD);
    Scene c;
    SceneRun got, want;
    scene_make(&c, NH, NKV, HD, 17, 1);
    const size_t n = (size_t)c.T * NH * HD, n_kv = (size_t)c.T * NKV * HD;
    float *still = (float *)xcalloc((size_t)SCENE_POSITIONS * HD, sizeof(float)); // turns nothing: keys stay exact
    for (int i = 0; i < SCENE_POSITIONS * HD; i += 2) still[i] = 1;
    scene_run_make(&got, ops, &c, c.qkv, still);
    scene_run_make(&want, ref, &c, c.qkv, still);
    float *out = op_floats(ops, got.out, n);
    op_check(ops->isa, "attention out, bf16 p", out, (float *)want.out, n, shape);
    op_check(ops->isa, "attention lse", got.lse, want.lse, (size_t)c.T * NH, shape);
    for (size_t i = 0; i < n; i++) ((float *)want.out)[i] = out[i]; // both start from the same output
    scene_run_backward(&got, ops, &c, got.out, want.lse);
    scene_run_backward(&want, ref, &c, want.out, want.lse);
    op_check(ops->isa, "attention_backward, bf16 p", got.dq, want.dq, n, shape);
    op_check(ops->isa, "attention_backward, bf16 p", got.dk, want.dk, n_kv, shape);
    op_check(ops->isa, "attention_backward, bf16 p", got.dv, want.dv, n_kv, shape);
    free(out);
    free(still);
    scene_run_free(&got, ops);
    scene_run_free(&want, ref);
    scene_free(&c);
}

// 27 sequences with 4 key/value heads of 128 columns: on GPUs with 54 to 215 multiprocessors each pair has more than
// one block, and 32 MiB have room for 37 chunks of a pair; the first sequence has 38. They share their pages.
void test_cuda_long_decode(const Ops *ops) {
    enum { N = 27, H = 4, HD = 128, KEYS = 37 * 64 + 5, PAGES = KEYS / KV_PAGE + 1, QKV = 3 * H * HD };
    const Ops *ref = ops_ref_init(), *both[2] = {ops, ref};
    const size_t n = (size_t)N * H * HD;
    int *pages = (int *)xmalloc(PAGES * sizeof(int)), *pos = (int *)xmalloc(3 * KEYS * sizeof(int)), *row = pos + KEYS,
        *slot = pos + 2 * KEYS;
    float *rope = (float *)xcalloc((size_t)KEYS * HD, sizeof(float)), *qkv, *query, *lse[2], *found[2];
    Sequence sequences[N];
    op_draws = 5000;
    qkv = op_random((size_t)KEYS * QKV, 2);
    query = op_random(n, 2);
    rng_permutation(pages, PAGES, 3, RNG_SHUFFLE, 0);
    for (int i = 0; i < KEYS; i++) {
        pos[i] = row[i] = i;
        slot[i] = pages[i / KV_PAGE] * KV_PAGE + i % KV_PAGE;
        for (int d = 0; d < HD; d += 2) rope[(size_t)i * HD + d] = 1; // turns nothing
    }
    for (int i = 0; i < N; i++) {
        const Sequence g = {i, 1, i == 0 ? KEYS - 1 : 3 * i, pages, 0, i};
        sequences[i] = g;
    }
    for (int k = 0; k < 2; k++) {
        const Ops *o = both[k];
        const size_t cache = (size_t)PAGES * H * KV_PAGE * HD * o->act_bytes;
        KVCache kv = {1, H, HD, PAGES, o->alloc(cache), o->alloc(cache)};
        act *rotated = op_act(o, NULL, (size_t)KEYS * H * HD), *q = op_act(o, query, n), *out = op_act(o, NULL, n);
        lse[k] = (float *)xcalloc((size_t)N * H, sizeof(float));
        o->rope_kv_write(rotated, &kv, 0, qkv, rope, pos, row, slot, KEYS, KEYS, H);
        o->attention_forward(out, lse[k], q, &kv, 0, sequences, N, H);
        found[k] = op_floats(o, out, n);
        if (k == 0) { // alone, where its chunks have room
            float alone_lse[N * H];
            o->attention_forward(out, alone_lse, q, &kv, 0, sequences, 1, H);
            float *alone = op_floats(o, out, n);
            CHECK(memcmp(alone, found[0], H * HD * sizeof(float)) == 0 &&
                      memcmp(alone_lse, lse[0], H * sizeof(float)) == 0,
                  "%s: %d keys beside other sequences: other bits than alone", o->isa, KEYS);
            free(alone);
        }
        void *all[] = {kv.k, kv.v, rotated, q, out};
        for (int i = 0; i < 5; i++) o->release(all[i]);
    }
    op_check(ops->isa, "attention out, bf16 p", found[0], found[1], n, "27 sequences, one of 2373 keys");
    op_check(ops->isa, "attention lse", lse[0], lse[1], (size_t)N * H, "27 sequences, one of 2373 keys");
    for (int k = 0; k < 2; k++) {
        free(lse[k]);
        free(found[k]);
    }
    void *all[] = {pages, pos, rope, qkv, query};
    for (int i = 0; i < 5; i++) free(all[i]);
}

void test_cuda_attention(const Ops *ops) {
    test_cuda_heads(ops, 6, 1, 128);
    test_cuda_heads(ops, 7, 1, 128);
    test_cuda_long_decode(ops);
}

#endif
