/*
The arrays of a model's passes, allocated and given back: Scratch, Activations, and the cache of keys and values.
Nothing is allocated for what is not asked for: no gradient's buffer for inference, no LoRA's without one.
*/
#ifndef LLMC_MEMORY_PASSES_H
#define LLMC_MEMORY_PASSES_H

#include "llmc/qwen2_memory.h" // Qwen2, Scratch, Activations

// Zero-initialise s; the output layer's part of scratch_alloc.
void scratch_alloc_head(Scratch *s, const Qwen2 *m, int head_rows, bool backward) {
    const Ops *ops = m->ops;
    size_t f = sizeof(float), r = (size_t)head_rows, C = (size_t)m->config.C, V = (size_t)m->config.V;
    s->head_rows = head_rows;
    s->head_h = (float *)ops->alloc(r * C * f);
    s->head_x = ops->alloc(r * C * ops->act_bytes);
    s->head_rstd = (float *)ops->alloc(r * f);
    s->logits = (float *)ops->alloc(r * V * f);
    if (!backward) return;
    s->dlogits = ops->alloc(r * V * ops->act_bytes);
    s->head_dx = (float *)ops->alloc(r * C * f);
    s->head_dh = (float *)ops->alloc(r * C * f);
}

void scratch_alloc(Scratch *s, const Qwen2 *m, int T, int head_rows, bool backward) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    size_t f = sizeof(float), t = (size_t)T, C = (size_t)c->C, I = (size_t)c->I;
    size_t QKV = (size_t)qwen2_qkv_size(c), QD = (size_t)c->NH * c->HD, KD = (size_t)c->NKV * c->HD;
    size_t mlp = t < MLP_ROWS ? t : MLP_ROWS;
    memset(s, 0, sizeof *s);
    s->T = T;
    scratch_alloc_head(s, m, head_rows, backward);
    s->h = (float *)ops->alloc(t * C * f);
    s->y = (float *)ops->alloc(t * C * f);
    s->x = ops->alloc(t * C * ops->act_bytes);
    s->qkv = (float *)ops->alloc(t * QKV * f);
    s->q = ops->alloc(t * QD * ops->act_bytes);
    s->att = ops->alloc(t * QD * ops->act_bytes);
    s->gu = (float *)ops->alloc(mlp * 2 * I * f);
    s->a = ops->alloc(mlp * I * ops->act_bytes);
    const size_t r = m->layout ? (size_t)m->layout->lora_r : 0;
    if (r) s->u = (float *)ops->alloc(t * r * f);
    if (qwen2_is_patched(m)) {
        s->patch_h = (float *)ops->alloc(t * C * f);
        s->patch_y = (float *)ops->alloc(t * C * f);
        s->patch_qkv = (float *)ops->alloc(t * QKV * f);
        s->patch_att = ops->alloc(t * QD * ops->act_bytes);
    }
    if (!backward) return;
    if (r) s->du = (float *)ops->alloc((size_t)layout_stacked(m->layout) * t * r * f);
    if (m->layout && m->layout->kind == PARAMS_FULL) {
        float *ones = (float *)xmalloc(t * f);
        for (size_t i = 0; i < t; i++) ones[i] = 1;
        s->ones = (float *)ops->alloc(t * f);
        ops->upload(s->ones, ones, t * f);
        free(ones);
    }
    s->dh = (float *)ops->alloc(t * C * f);
    s->dx = (float *)ops->alloc(t * C * f);
    s->dy = ops->alloc(t * C * ops->act_bytes);
    s->da = (float *)ops->alloc(mlp * I * f);
    s->dgu = ops->alloc(mlp * 2 * I * ops->act_bytes);
    s->dq = (float *)ops->alloc(t * QD * f);
    s->datt = (float *)ops->alloc(t * QD * f);
    s->dk = (float *)ops->alloc(t * KD * f);
    s->dv = (float *)ops->alloc(t * KD * f);
    s->dqkv = ops->alloc(t * QKV * ops->act_bytes);
}

void scratch_free(Scratch *s, const Ops *ops) {
    void *all[] = {s->h,      s->y,         s->x,      s->qkv,     s->q,       s->att,       s->gu,        s->a,
                   s->u,      s->du,        s->ones,   s->patch_h, s->patch_y, s->patch_qkv, s->patch_att, s->head_h,
                   s->head_x, s->head_rstd, s->logits, s->dh,      s->dx,      s->dy,        s->da,        s->dgu,
                   s->dq,     s->datt,      s->dk,     s->dv,      s->dqkv,    s->dlogits,   s->head_dx,   s->head_dh};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i]) ops->release(all[i]);
    memset(s, 0, sizeof *s);
}

// Bytes of Activations for one row in one layer.
size_t activation_bytes_per_row(const Qwen2 *m) {
    const ModelConfig *c = &m->config;
    return (2 * (size_t)c->C + (size_t)c->NH + 2) * sizeof(float) +
           (2 * (size_t)c->NH * c->HD + 2 * (size_t)c->I) * m->ops->act_bytes;
}

void activations_alloc(Activations *a, const Qwen2 *m, int T, int first) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    size_t f = sizeof(float), t = (size_t)T, QD = (size_t)c->NH * c->HD;
    a->T = T;
    a->first = first;
    a->layers = (LayerActivations *)xcalloc((size_t)c->L, sizeof *a->layers);
    for (int l = first; l < c->L; l++) {
        LayerActivations *k = &a->layers[l];
        k->h_in = (float *)ops->alloc(t * c->C * f);
        k->h_mid = (float *)ops->alloc(t * c->C * f);
        k->rstd_in = (float *)ops->alloc(t * f);
        k->rstd_mid = (float *)ops->alloc(t * f);
        k->q = ops->alloc(t * QD * ops->act_bytes);
        k->att = ops->alloc(t * QD * ops->act_bytes);
        k->lse = (float *)ops->alloc(t * c->NH * f);
        k->gu = ops->alloc(t * 2 * c->I * ops->act_bytes);
    }
}

void activations_free(Activations *a, const Qwen2 *m) {
    if (!a->layers) return;
    for (int l = a->first; l < m->config.L; l++) {
        LayerActivations *k = &a->layers[l];
        void *all[] = {k->h_in, k->h_mid, k->rstd_in, k->rstd_mid, k->q, k->att, k->lse, k->gu};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) m->ops->release(all[i]);
    }
    free(a->layers);
    memset(a, 0, sizeof *a);
}

void kv_cache_alloc(KVCache *kv, const Qwen2 *m, int n_pages) {
    const ModelConfig *c = &m->config;
    kv->L = c->L + (qwen2_is_patched(m) ? 2 : 0); // see intervene.h
    kv->NKV = c->NKV;
    kv->HD = c->HD;
    kv->n_pages = n_pages;
    size_t bytes = (size_t)kv->L * n_pages * c->NKV * KV_PAGE * c->HD * m->ops->act_bytes;
    kv->k = m->ops->alloc(bytes);
    kv->v = m->ops->alloc(bytes);
}

size_t kv_page_bytes(const Qwen2 *m) {
    return 2 * (size_t)m->config.L * m->config.NKV * KV_PAGE * m->config.HD * m->ops->act_bytes;
}

void kv_cache_free(KVCache *kv, const Ops *ops) {
    if (kv->k) ops->release(kv->k);
    if (kv->v) ops->release(kv->v);
    memset(kv, 0, sizeof *kv);
}

#endif
