/*
Qwen2 / Qwen2.5, forward and backward, written once over the operations of ops.h.

The trained thing: one vector per layer, `steering` [L,C], added to the residual stream after each layer at every
position (equal to a bias on the MLP's down_proj):

    h <- h + attention(rmsnorm(h));   h <- h + mlp(rmsnorm(h)) + s_l

and its whole gradient is one column sum, ds_l = sum over rows of dL/dh after layer l, taken group by group. No weight has a gradient, so
the backward pass is one product per matrix (dx = dy W), and keeps no matmul inputs.

Three things are kept apart: what is frozen (FrozenWeights, model.h), what is trained (`steering`, owned by the
caller), and scratch (Scratch, Activations).
*/
#ifndef LLMC_QWEN2_H
#define LLMC_QWEN2_H

#include "intervene.h" // Intervention
#include "model.h"     // ModelConfig, FrozenWeights
#include "ops.h"       // Ops, Segment, KVCache

// ----------------------------------------------------------------------------
// the model

typedef struct {
    ModelConfig config;
    FrozenWeights weights;
    const Ops *ops;
    float *rope;          // [rope_positions, HD/2, 2] cos and sin
    int rope_positions;
    const Intervention *intervention; // what an experiment changes in the forward pass; NULL: nothing
} Qwen2;

int qwen2_qkv_size(const ModelConfig *c) { return (c->NH + 2 * c->NKV) * c->HD; }

// Loads a Hugging Face folder. `positions`: the longest sequence that will be run; it must fit the model's context.
// Free with qwen2_free (also after a failure).
bool qwen2_load(Qwen2 *m, const char *dir, int positions, const Ops *ops, Error *err) {
    memset(m, 0, sizeof *m);
    m->ops = ops;
    if (!model_config_load(&m->config, dir, err)) return false;
    const ModelConfig *c = &m->config;
    if (positions > c->max_position)
        return fail(err, EXIT_RUN, "%s: sequences of up to %d tokens are wanted, the model's context is %d (max_position_embeddings)\n"
                    "  -> lower max_completion_length or leave out the longest prompts", dir, positions, c->max_position);
    if (!weights_load(&m->weights, c, dir, ops, err)) return false;
    m->rope_positions = positions;
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
    float *h, *y;         // [T,C] residual stream; output of a block, not yet added
    act *x;               // [T,C] normalised input of a block
    float *qkv;           // [T,QKV]
    act *q, *att;         // [T,NH*HD]
    float *gu;            // [MLP_ROWS,2I]
    act *a;               // [MLP_ROWS,I]
    // a layer that an intervention patches: its steered half (NULL without one)
    float *patch_h, *patch_y; // [T,C]
    float *patch_qkv;     // [T,QKV]
    act *patch_att;       // [T,NH*HD]
    // output layer
    float *head_h;        // [head_rows,C] gathered residual
    act *head_x;          // [head_rows,C]
    float *head_rstd;     // [head_rows]
    float *logits;        // [head_rows,V]
    // backward (NULL when made for inference)
    float *dh, *dx;       // [T,C]
    act *dy;              // [T,C]
    float *da;            // [MLP_ROWS,I]
    act *dgu;             // [MLP_ROWS,2I]
    float *dq, *datt;     // [T,NH*HD]
    float *dk, *dv;       // [T,NKV*HD]
    act *dqkv;            // [T,QKV]
    act *dlogits;         // [head_rows,V]
    float *head_dx, *head_dh; // [head_rows,C]
} Scratch;

// What the backward pass needs of each layer above `first`; keys and values stay in the cache's pages.
typedef struct {
    float *h_in, *h_mid;  // [T,C] residual before the attention norm, before the MLP norm
    float *rstd_in, *rstd_mid; // [T]
    act *q, *att;         // [T,NH*HD]
    float *lse;           // [T,NH]
    act *gu;              // [T,2I]
} LayerActivations;

typedef struct {
    int T, first;         // layers first ... L-1 are kept: a vector at layer l needs the layers above l
    LayerActivations *layers; // [L]
} Activations;

bool qwen2_is_patched(const Qwen2 *m) { return m->intervention && m->intervention->vector; }

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
    if (qwen2_is_patched(m)) {
        s->patch_h = (float *)ops->alloc(t * C * f);
        s->patch_y = (float *)ops->alloc(t * C * f);
        s->patch_qkv = (float *)ops->alloc(t * QKV * f);
        s->patch_att = ops->alloc(t * QD * ops->act_bytes);
    }
    if (!backward) return;
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
    void *all[] = {s->h, s->y, s->x, s->qkv, s->q, s->att, s->gu, s->a, s->patch_h, s->patch_y, s->patch_qkv, s->patch_att, s->head_h, s->head_x,
                   s->head_rstd, s->logits, s->dh, s->dx, s->dy, s->da, s->dgu, s->dq, s->datt, s->dk, s->dv, s->dqkv, s->dlogits, s->head_dx, s->head_dh};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) if (all[i]) ops->release(all[i]);
    memset(s, 0, sizeof *s);
}

// Bytes of Activations for one row in one layer.
size_t activation_bytes_per_row(const Qwen2 *m) {
    const ModelConfig *c = &m->config;
    return (2 * (size_t)c->C + (size_t)c->NH + 2) * sizeof(float) + (2 * (size_t)c->NH * c->HD + 2 * (size_t)c->I) * m->ops->act_bytes;
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

size_t kv_page_bytes(const Qwen2 *m) { return 2 * (size_t)m->config.L * m->config.NKV * KV_PAGE * m->config.HD * m->ops->act_bytes; }

void kv_cache_free(KVCache *kv, const Ops *ops) {
    if (kv->k) ops->release(kv->k);
    if (kv->v) ops->release(kv->v);
    memset(kv, 0, sizeof *kv);
}

// ----------------------------------------------------------------------------
// forward

// Rows to run: several sequences packed one behind the other (see Segment in ops.h). The arrays are in the backend's memory.
typedef struct {
    int T;
    const int *ids, *pos;                    // [T]
    const int *write_row, *write_slot;       // [n_writes] where keys and values go
    int n_writes;
    const Segment *segments;
    int n_segments;
} Batch;

// att = attention of the rows whose projections are qkv; their keys and values go to `layer` of the cache.
void qwen2_attention(const Qwen2 *m, act *q, act *att, float *lse, const float *qkv, KVCache *kv, int layer, const Batch *b) {
    const Ops *ops = m->ops;
    ops->rope_kv_write(q, kv, layer, qkv, m->rope, b->pos, b->write_row, b->write_slot, b->n_writes, b->T, m->config.NH);
    ops->attention_forward(att, lse, q, kv, layer, b->segments, b->n_segments, m->config.NH);
}

// The attention half of a patched layer (intervene.h, 2). s->h: the residual stream without the vector, s->x its norm. Out: s->h, the
// residual stream behind the attention; s->x, the input of the feed-forward.
void qwen2_patched_attention(const Qwen2 *m, Scratch *s, KVCache *kv, const Batch *b) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const Intervention *how = m->intervention;
    const Layer *w = &m->weights.layers[how->layer];
    const int T = b->T, head_floats = c->HD * (int)ops->act_bytes / (int)sizeof(float); // pairs of bf16 are moved as one float
    const float eps = c->rms_norm_eps;

    ops->matmul_forward(s->qkv, s->x, &w->qkv, w->qkv_bias, T); // plain
    qwen2_attention(m, s->q, s->att, NULL, s->qkv, kv, c->L, b);
    ops->add_rmsnorm_forward(s->patch_h, s->x, NULL, s->h, NULL, how->vector, w->input_norm, eps, T, c->C); // steered
    ops->matmul_forward(s->patch_qkv, s->x, &w->qkv, w->qkv_bias, T);
    if (how->path != PATH_BOTH) {
        qwen2_attention(m, s->q, s->patch_att, NULL, s->patch_qkv, kv, c->L + 1, b);
        ops->matmul_forward(s->patch_y, s->patch_att, &w->o, NULL, T);
    }
    ops->mix_blocks(s->patch_qkv, s->qkv, how->plain_qkv, T, c->NH + 2 * c->NKV, c->HD); // patched
    qwen2_attention(m, s->q, s->patch_att, NULL, s->patch_qkv, kv, how->layer, b);
    ops->mix_blocks((float *)s->patch_att, (const float *)s->att, how->plain_heads, T, c->NH, head_floats);
    ops->matmul_forward(s->y, s->patch_att, &w->o, NULL, T);

    const float *to_mlp = how->path == PATH_RESIDUAL ? s->patch_y : s->y, *to_residual = how->path == PATH_MLP ? s->patch_y : s->y;
    const float *h = how->skip_layer ? s->h : s->patch_h;
    ops->add_rmsnorm_forward(s->h, s->x, NULL, h, to_mlp, NULL, w->post_norm, eps, T, c->C);
    if (how->path != PATH_BOTH) ops->add_rmsnorm_forward(s->h, NULL, NULL, s->patch_h, to_residual, NULL, NULL, eps, T, c->C);
}

// The operations of qwen2_forward.
void qwen2_layers(const Qwen2 *m, Scratch *s, Activations *acts, KVCache *kv, const Batch *b, const float *steering) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    int T = b->T;
    const float *h = s->h, *y = NULL, *s_below = NULL; // the block output and the vector are not yet added to h
    const float eps = c->rms_norm_eps;
    Intervention none;
    memset(&none, 0, sizeof none);
    const Intervention *how = m->intervention ? m->intervention : &none;

    ops->embed(s->h, b->ids, &m->weights.wte, T, c->C);
    for (int l = 0; l < c->L; l++) {
        const Layer *w = &m->weights.layers[l];
        const float *s_l = steering ? steering + (size_t)l * c->C : NULL;
        const bool patched = how->vector && how->layer == l;
        LayerActivations *keep = acts && l >= acts->first && !patched ? &acts->layers[l] : NULL;
        float *h_in = keep ? keep->h_in : s->h, *h_mid = keep ? keep->h_mid : s->h;
        act *q = keep ? keep->q : s->q, *att = keep ? keep->att : s->att;

        // attention
        ops->add_rmsnorm_forward(h_in, s->x, keep ? keep->rstd_in : NULL, h, y, s_below, w->input_norm, eps, T, c->C);
        if (patched) {
            qwen2_patched_attention(m, s, kv, b);
        } else {
            if (s_l && how->place == PLACE_INPUT_NORM) ops->act_add_row(s->x, s_l, T, c->C);
            ops->matmul_forward(s->qkv, s->x, &w->qkv, w->qkv_bias, T);
            qwen2_attention(m, q, att, keep ? keep->lse : NULL, s->qkv, kv, l, b);
            ops->matmul_forward(s->y, att, &w->o, NULL, T);
            const float *behind = how->place == PLACE_SELF_ATTN ? s_l : NULL;
            ops->add_rmsnorm_forward(h_mid, s->x, keep ? keep->rstd_mid : NULL, h_in, s->y, behind, w->post_norm, eps, T, c->C);
            if (s_l && how->place == PLACE_POST_NORM) ops->act_add_row(s->x, s_l, T, c->C);
        }

        // feed-forward
        for (int t = 0; t < T; t += MLP_ROWS) {
            int rows = T - t < MLP_ROWS ? T - t : MLP_ROWS;
            size_t skip_x = (size_t)t * c->C * ops->act_bytes, skip_gu = (size_t)t * 2 * c->I * ops->act_bytes;
            act *x = (char *)s->x + skip_x, *gu_saved = keep ? (char *)keep->gu + skip_gu : NULL;
            float *out = s->y + (size_t)t * c->C;
            if (ops->matmul_swiglu_forward) {
                ops->matmul_swiglu_forward(s->a, gu_saved, s->gu, x, &w->gu, rows);
            } else {
                ops->matmul_forward(s->gu, x, &w->gu, NULL, rows);
                ops->swiglu_forward(s->a, gu_saved, s->gu, rows, c->I);
            }
            ops->matmul_forward(out, s->a, &w->down, NULL, rows);
            if (how->lora_a) ops->rank_one_add(out, s->a, how->lora_a + (size_t)l * c->I, how->lora_b + (size_t)l * c->C, rows, c->I, c->C);
        }
        h = h_mid;
        y = s->y;
        s_below = how->place == PLACE_MLP ? s_l : NULL;
        if ((patched && how->skip_layer) || (how->put && how->put_layer == l)) { // the stream is wanted now
            ops->add_rmsnorm_forward(s->h, NULL, NULL, h, y, s_below, NULL, eps, T, c->C);
            if (patched && how->skip_layer) ops->add_rmsnorm_forward(s->h, NULL, NULL, s->h, NULL, how->vector, NULL, eps, T, c->C);
            if (how->put && how->put_layer == l) ops->put_rows(s->h, how->put, b->pos, how->put_pos, T, c->C);
            h = s->h;
            y = s_below = NULL;
        }
    }
    ops->add_rmsnorm_forward(s->h, NULL, NULL, h, y, s_below, NULL, eps, T, c->C);
}

// Everything that a decode step's launches are made of, by value: they are a function of qwen2_forward's arguments. Only two things
// lie behind pointers of the host's: the layers' weights, which stay as they are until memory is released (that ends all recordings),
// and an intervention, with which nothing is recorded. What lies behind the others is read when the operations run: how long a
// sequence is and where its pages are stands in the batch's segments, and no grid depends on it. (T alone could be left out: a decode
// step has a segment a row.)
typedef struct {
    Qwen2 model;
    Scratch scratch;
    KVCache kv;
    Batch batch;
    const float *steering;
} DecodeStep;

// s->h[T,C] = the residual stream after the last layer, vectors included. steering [L,C] may be NULL (the base
// model). acts != NULL keeps what qwen2_backward needs (a patched layer keeps nothing). m->intervention is honoured.
// A decode step, one row of each sequence, is recorded and replayed where the backend can: other batches seldom come twice.
void qwen2_forward(const Qwen2 *m, Scratch *s, Activations *acts, KVCache *kv, const Batch *b, const float *steering) {
    const Ops *ops = m->ops;
    const bool comes_again = ops->graph_begin && !acts && !m->intervention && b->n_segments == b->T;
    if (comes_again) {
        DecodeStep step;
        memset(&step, 0, sizeof step); // the padding, too, is compared
        memcpy(&step.model, m, sizeof *m);
        memcpy(&step.scratch, s, sizeof *s);
        memcpy(&step.kv, kv, sizeof *kv);
        memcpy(&step.batch, b, sizeof *b);
        step.steering = steering;
        if (!ops->graph_begin(&step, sizeof step)) return;
    }
    qwen2_layers(m, s, acts, kv, b, steering);
    if (comes_again) ops->graph_end();
}

// s->logits[n,V] for rows rows[n] of h[.,C] (rows NULL: the first n); n <= head_rows. Final norm, then the output matrix.
void qwen2_head_forward(const Qwen2 *m, Scratch *s, const float *h, const int *rows, int n) {
    const ModelConfig *c = &m->config;
    if (rows) m->ops->gather_rows(s->head_h, h, rows, n, c->C);
    const float *in = rows ? s->head_h : h;
    m->ops->add_rmsnorm_forward(s->head_h, s->head_x, s->head_rstd, in, NULL, NULL, m->weights.final_norm, c->rms_norm_eps, n, c->C);
    m->ops->matmul_forward(s->logits, s->head_x, &m->weights.head, NULL, n);
}

// ----------------------------------------------------------------------------
// backward

// Gradient at the output: must follow qwen2_head_forward on the same rows. s->dlogits[n,V] is given;
// s->dh[rows[n],C] += gradient through the output matrix and the final norm.
void qwen2_head_backward(const Qwen2 *m, Scratch *s, const int *rows, int n) {
    const ModelConfig *c = &m->config;
    m->ops->matmul_backward(s->head_dx, s->dlogits, &m->weights.head, n);
    m->ops->zero(s->head_dh, (size_t)n * c->C * sizeof(float));
    m->ops->rmsnorm_backward(s->head_dh, NULL, s->head_dx, s->head_h, s->head_rstd, m->weights.final_norm, n, c->C);
    m->ops->scatter_add_rows(s->dh, s->head_dh, rows, n, c->C);
}

// Rows row0 ... row0+T-1 of a batch: what they add to the gradient goes to its part number `part`.
typedef struct { int row0, T, part; } RowRange;

// dsteering[part,l,C] += gradient of each trained layer's vector (trained[l] != 0) from each range of rows, given s->dh[T,C] =
// dL/dh after the last layer. Stops below the lowest trained layer. s->dh is used up. b and acts as in the forward pass. A part
// has the same bits whatever else is in the batch, as long as its own rows are (see grad_tree.h).
void qwen2_backward(const Qwen2 *m, Scratch *s, const Activations *acts, const KVCache *kv, const Batch *b,
                    float *dsteering, const RowRange *ranges, int n_ranges, const bool *trained) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    int T = b->T, lowest = 0;
    while (lowest < c->L && !trained[lowest]) lowest++;

    ops->to_act(s->dy, s->dh, (size_t)T * c->C);
    for (int l = c->L - 1; l >= lowest; l--) {
        const Layer *w = &m->weights.layers[l];
        const LayerActivations *keep = &acts->layers[l];
        // h_out = h_mid + mlp + s_l: the vector sees dh of every row
        for (int i = 0; i < n_ranges && trained[l]; i++)
            ops->column_sum(dsteering + ((size_t)ranges[i].part * c->L + l) * c->C, s->dh + (size_t)ranges[i].row0 * c->C, ranges[i].T, c->C);
        if (l == lowest) break;

        // feed-forward
        for (int t = 0; t < T; t += MLP_ROWS) {
            int rows = T - t < MLP_ROWS ? T - t : MLP_ROWS;
            size_t skip_y = (size_t)t * c->C * ops->act_bytes, skip_gu = (size_t)t * 2 * c->I * ops->act_bytes;
            ops->matmul_backward(s->da, (char *)s->dy + skip_y, &w->down, rows);
            ops->swiglu_backward(s->dgu, s->da, (char *)keep->gu + skip_gu, rows, c->I);
            ops->matmul_backward(s->dx + (size_t)t * c->C, s->dgu, &w->gu, rows);
        }
        ops->rmsnorm_backward(s->dh, s->dy, s->dx, keep->h_mid, keep->rstd_mid, w->post_norm, T, c->C);

        // attention
        ops->matmul_backward(s->datt, s->dy, &w->o, T);
        ops->attention_backward(s->dq, s->dk, s->dv, s->datt, keep->att, keep->lse, keep->q, kv, l, b->segments, b->n_segments, T, c->NH);
        ops->rope_backward(s->dqkv, s->dq, s->dk, s->dv, m->rope, b->pos, T, c->NH, c->NKV, c->HD);
        ops->matmul_backward(s->dx, s->dqkv, &w->qkv, T);
        ops->rmsnorm_backward(s->dh, s->dy, s->dx, keep->h_in, keep->rstd_in, w->input_norm, T, c->C);
    }
}

#endif
