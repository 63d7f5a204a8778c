/*
What qwen2.h computes with: the loaded model, and the memory of its passes. Scratch is used by every layer again,
Activations are kept by the forward pass for the backward, keys and values stay in the cache. Nothing here is allocated
for what is not asked for: no gradient's buffer for inference, no LoRA's without one.
*/
#ifndef LLMC_QWEN2_MEMORY_H
#define LLMC_QWEN2_MEMORY_H

#include "llmc/intervene.h"    // Intervention
#include "llmc/model.h"        // ModelConfig, FrozenWeights
#include "llmc/ops.h"          // Ops, Segment, KVCache
#include "llmc/param_layout.h" // ParamLayout

// ----------------------------------------------------------------------------
// the model

typedef struct {
    ModelConfig config;
    FrozenWeights weights;
    const Ops *ops;
    float *rope; // [rope_positions, HD/2, 2] cos and sin
    int rope_positions;
    const ParamLayout *layout;        // how the forward pass's `params` is laid out; NULL: steering vectors after the
                                      // feed-forward. Set it before memory is planned
    const Intervention *intervention; // what an experiment changes in the forward pass; NULL: nothing
} Qwen2;

// Whether `params` is vectors [L,C], and where in its layer each is added.
bool qwen2_steers(const Qwen2 *m) { return !m->layout || m->layout->kind == PARAMS_STEERING; }
Place qwen2_place(const Qwen2 *m) { return m->layout ? m->layout->place : PLACE_MLP; }

int qwen2_qkv_size(const ModelConfig *c) { return (c->NH + 2 * c->NKV) * c->HD; }

// Reads what a Hugging Face folder says of its model, not the weights: then qwen2_load_weights. `positions`: the
// longest sequence that will be run; it must fit the model's context. Free with qwen2_free (also after a failure).
bool qwen2_open(Qwen2 *m, const char *dir, int positions, const Ops *ops, Error *err) {
    memset(m, 0, sizeof *m);
    m->ops = ops;
    m->rope_positions = positions;
    if (!model_config_load(&m->config, dir, err)) return false;
    if (positions > m->config.max_position)
        return fail(err, EXIT_RUN,
                    "%s: sequences of up to %d tokens are wanted, the model's context is %d (max_position_embeddings)\n"
                    "  -> lower max_completion_length or leave out the longest prompts",
                    dir, positions, m->config.max_position);
    return true;
}

bool qwen2_load_weights(Qwen2 *m, const char *dir, Error *err) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const int positions = m->rope_positions;
    if (!weights_load(&m->weights, &m->config, dir, ops, err)) return false;
    const size_t rope_bytes = (size_t)positions * c->HD * sizeof(float);
    float *rope = (float *)xmalloc(rope_bytes);
    for (int p = 0; p < positions; p++) {
        for (int i = 0; i < c->HD / 2; i++) {
            double angle = p * pow((double)c->rope_theta, -2.0 * i / c->HD);
            rope[(size_t)p * c->HD + 2 * i] = (float)cos(angle);
            rope[(size_t)p * c->HD + 2 * i + 1] = (float)sin(angle);
        }
    }
    m->rope = (float *)ops->alloc(rope_bytes);
    ops->upload(m->rope, rope, rope_bytes);
    free(rope);
    return true;
}

// Both, where nobody plans memory in between.
bool qwen2_load(Qwen2 *m, const char *dir, int positions, const Ops *ops, Error *err) {
    return qwen2_open(m, dir, positions, ops, err) && qwen2_load_weights(m, dir, err);
}

// Bytes of the backend's memory that weights and RoPE's table take: as loaded, or, for a backend that has weight_bytes,
// as they will be.
size_t qwen2_bytes(const Qwen2 *m) {
    const size_t rope = (size_t)m->rope_positions * m->config.HD * sizeof(float);
    return rope + (m->ops->weight_bytes ? weights_bytes_planned(&m->config, m->ops)
                                        : weights_bytes(&m->weights, &m->config, m->ops));
}

void qwen2_free(Qwen2 *m) {
    if (m->ops) weights_free(&m->weights, m->ops);
    if (m->rope) m->ops->release(m->rope);
    ints_free(&m->config.eos);
    memset(m, 0, sizeof *m);
}

// ----------------------------------------------------------------------------
// scratch and activations

#define MLP_ROWS 512 // the feed-forward runs over this many rows at a time, so that [rows, 2I] floats stay small

// Buffers of a forward and backward pass of at most T rows, and of the output layer over at most head_rows rows.
typedef struct {
    int T, head_rows;
    // forward
    float *h, *y;  // [T,C] residual stream; output of a block, not yet added
    act *x;        // [T,C] normalised input of a block
    float *qkv;    // [T,QKV]
    act *q, *att;  // [T,NH*HD]
    float *gu;     // [MLP_ROWS,2I]
    act *a;        // [MLP_ROWS,I]
    float *u, *du; // [T,r] A x of a LoRA; [stacked,T,r] its gradient, of those of one linear (NULL without LoRA)
    float *ones;   // [T] what sums up a bias's gradient (NULL but for full tuning)
    // a layer that an intervention patches: its steered half (NULL without one)
    float *patch_h, *patch_y; // [T,C]
    float *patch_qkv;         // [T,QKV]
    act *patch_att;           // [T,NH*HD]
    // output layer
    float *head_h;    // [head_rows,C] gathered residual
    act *head_x;      // [head_rows,C]
    float *head_rstd; // [head_rows]
    float *logits;    // [head_rows,V]
    // backward (NULL when made for inference)
    float *dh, *dx;           // [T,C]
    act *dy;                  // [T,C]
    float *da;                // [MLP_ROWS,I]
    act *dgu;                 // [MLP_ROWS,2I]
    float *dq, *datt;         // [T,NH*HD]
    float *dk, *dv;           // [T,NKV*HD]
    act *dqkv;                // [T,QKV]
    act *dlogits;             // [head_rows,V]
    float *head_dx, *head_dh; // [head_rows,C]
} Scratch;

// What the backward pass needs of each layer above `first`; keys and values stay in the cache's pages.
typedef struct {
    float *h_in, *h_mid;       // [T,C] residual before the attention norm, before the MLP norm
    float *rstd_in, *rstd_mid; // [T]
    act *q, *att;              // [T,NH*HD]
    float *lse;                // [T,NH]
    act *gu;                   // [T,2I]
} LayerActivations;

typedef struct {
    int T, first;             // layers first ... L-1 are kept, see qwen2_first_kept
    LayerActivations *layers; // [L]
} Activations;

// The lowest layer whose activations a gradient needs, if `lowest` is the lowest layer with something trained: a vector
// after the feed-forward needs the layers above it, everything else its own too.
int qwen2_first_kept(const Qwen2 *m, int lowest) { return lowest + (qwen2_steers(m) && qwen2_place(m) == PLACE_MLP); }

bool qwen2_is_patched(const Qwen2 *m) { return m->intervention && m->intervention->vector; }
bool qwen2_patches(const Qwen2 *m, int l) { return qwen2_is_patched(m) && m->intervention->layer == l; }

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
