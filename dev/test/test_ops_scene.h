// What attention is tested on: groups of a shared prompt and its completions, packed one after another.
#ifndef DEV_TEST_TEST_OPS_SCENE_H
#define DEV_TEST_TEST_OPS_SCENE_H

#include "dev/test/test_ops.h" // op_random

#define SCENE_PAGES 128
#define SCENE_POSITIONS 150

typedef struct {
    int NH, NKV, HD, T, n_sequences, n_writes, n_pages;
    Sequence sequences[16];
    int order[SCENE_PAGES]; // pages in the order they are dealt, the first n_pages are in use
    int pos[512], write_row[1024], write_slot[1024];
    int *pages; // 64 for each sequence
    float *rope, *qkv, *dout;
} Scene;

// Two groups: a prompt of `prompt` tokens with completions of 1, 17 and 5 tokens, then a lone sequence of 150 (more
// than ATTENTION_KEYS). A
// prompt's last page is its completions' first own page, so its rows are written to each. Pages are dealt in an
// order drawn from `shuffle`; the rest depends only on the shape.
void scene_make(Scene *c, int NH, int NKV, int HD, int prompt, uint32_t shuffle) {
    static const int completions[3] = {1, 17, 5};
    int QKV = (NH + 2 * NKV) * HD;
    memset(c, 0, sizeof *c);
    c->NH = NH;
    c->NKV = NKV;
    c->HD = HD;
    c->pages = (int *)xmalloc(16 * 64 * sizeof(int));
    memset(c->pages, 0xFF, 16 * 64 * sizeof(int)); // -1: none
    rng_permutation(c->order, SCENE_PAGES, shuffle, RNG_SHUFFLE, 0);
    for (int s = 0; s < 5; s++) {
        int length = s == 0 ? prompt : s < 4 ? completions[s - 1] : 150, pos0 = s > 0 && s < 4 ? prompt : 0;
        int *pages = c->pages + 64 * s;
        if (length == 0) continue; // no prompt, no row of it
        for (int p = 0; p * KV_PAGE < pos0 + length; p++) {
            bool shared = (p + 1) * KV_PAGE <= pos0;
            pages[p] = shared ? c->pages[p] : c->order[c->n_pages++];
            for (int i = p * KV_PAGE; !shared && i < (p + 1) * KV_PAGE && i < pos0 + length; i++) {
                c->write_row[c->n_writes] = i < pos0 ? i : c->T + i - pos0;
                c->write_slot[c->n_writes++] = pages[p] * KV_PAGE + i % KV_PAGE;
            }
        }
        Sequence g = {c->T, length, pos0, pages, 0, s < 4 ? 0 : 1};
        for (int t = 0; t < length; t++) c->pos[c->T++] = pos0 + t;
        c->sequences[c->n_sequences++] = g;
    }
    op_draws = 1000;
    c->qkv = op_random((size_t)c->T * QKV, 2);
    c->dout = op_random((size_t)c->T * NH * HD, 1);
    c->rope = (float *)xmalloc((size_t)SCENE_POSITIONS * HD * sizeof(float));
    for (int p = 0; p < SCENE_POSITIONS; p++)
        for (int i = 0; i < HD / 2; i++) {
            c->rope[p * HD + 2 * i] = cosf((float)p * powf(10000, -2.0f * (float)i / (float)HD));
            c->rope[p * HD + 2 * i + 1] = sinf((float)p * powf(10000, -2.0f * (float)i / (float)HD));
        }
}

void scene_free(Scene *c) {
    free(c->pages);
    free(c->rope);
    free(c->qkv);
    free(c->dout);
}

// what one backend makes of a scene
typedef struct {
    KVCache kv;
    act *q, *out, *dqkv;
    float *lse, *dq, *dk, *dv;
} SceneRun;

// every byte of the cache is NaN before the keys and values are written
void scene_run_make(SceneRun *r, const Ops *ops, const Scene *c, const float *qkv, const float *rope) {
    size_t cache = (size_t)2 * SCENE_PAGES * c->NKV * KV_PAGE * c->HD * ops->act_bytes,
           n = (size_t)c->T * c->NH * c->HD;
    KVCache kv = {2, c->NKV, c->HD, SCENE_PAGES, ops->alloc(cache), ops->alloc(cache)};
    memset(kv.k, 0xFF, cache);
    memset(kv.v, 0xFF, cache);
    r->kv = kv;
    r->q = op_act(ops, NULL, n);
    r->out = op_act(ops, NULL, n);
    r->dqkv = op_act(ops, NULL, (size_t)c->T * (c->NH + 2 * c->NKV) * c->HD);
    r->lse = (float *)xcalloc((size_t)c->T * c->NH, sizeof(float));
    r->dq = (float *)xcalloc(n, sizeof(float));
    r->dk = (float *)xcalloc((size_t)c->T * c->NKV * c->HD, sizeof(float));
    r->dv = (float *)xcalloc((size_t)c->T * c->NKV * c->HD, sizeof(float));
    ops->rope_kv_write(r->q, &r->kv, 1, qkv, rope, c->pos, c->write_row, c->write_slot, c->n_writes, c->T, c->NH);
    ops->attention_forward(r->out, r->lse, r->q, &r->kv, 1, c->sequences, c->n_sequences, c->NH);
}

void scene_run_backward(SceneRun *r, const Ops *ops, const Scene *c, const act *out, const float *lse) {
    ops->attention_backward(r->dq, r->dk, r->dv, c->dout, out, lse, r->q, &r->kv, 1, c->sequences, c->n_sequences, c->T,
                            c->NH);
    ops->rope_backward(r->dqkv, r->dq, r->dk, r->dv, c->rope, c->pos, c->T, c->NH, c->NKV, c->HD);
}

void scene_run_free(SceneRun *r, const Ops *ops) {
    void *acts[] = {r->kv.k, r->kv.v, r->q, r->out, r->dqkv};
    for (int i = 0; i < 5; i++) ops->release(acts[i]);
    free(r->lse);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}

// The key and the value at a slot as cpu (see cpu_kv_page), cuda (see rope.cuh) and ref keep them: element d.
float scene_key(const Ops *ops, SceneRun *r, int page, int h, int offset, int d) {
    if (strcmp(ops->name, "cuda") == 0)
        return bf16_to_f32(cpu_kv_page(r->kv.k, &r->kv, 1, page, h)[offset * r->kv.HD + d]);
    return bf16_to_f32(cpu_kv_page(r->kv.k, &r->kv, 1, page, h)[d * KV_PAGE + offset]);
}

#endif
