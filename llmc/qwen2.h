/*
Qwen2 / Qwen2.5, forward and backward, written once over the operations of ops.h.

What is trained (`params`, laid out as param_layout.h says) is by default one vector per layer, added to the residual
stream after each layer at every position (equal to a bias on the MLP's down_proj):

    h <- h + attention(rmsnorm(h));   h <- h + mlp(rmsnorm(h)) + s_l

and its whole gradient is one column sum, ds_l = sum over rows of dL/dh after layer l, taken group by group. No weight
has a gradient, so the backward pass is one product per matrix (dx = dy W), and keeps no matmul inputs. LoRA adds B (A
x) to some products: its backward makes the inputs x again from what is kept, the norms' by their rows of h, the
feed-forward's from gate and up; so does full tuning, where alone weights have gradients (dW = dy^T x).

Three things are kept apart: what is frozen (FrozenWeights, model.h), what is trained (`params`, owned by the
caller), and scratch (Scratch, Activations).
*/
#ifndef LLMC_QWEN2_H
#define LLMC_QWEN2_H

#include "llmc/linear.h"       // linear_forward, linear_backward, linear_weight_backward, norm_backward; Gradient
#include "llmc/qwen2_memory.h" // Qwen2, Scratch, Activations; Ops, ParamLayout, Intervention

// ----------------------------------------------------------------------------
// forward

// Rows to run: several sequences packed one after another (see Sequence in ops.h). The arrays are in the backend's
// memory.
typedef struct {
    int T;
    const int *ids, *pos;              // [T]
    const int *write_row, *write_slot; // [n_writes] where keys and values go
    int n_writes;
    const Sequence *sequences;
    int n_sequences;
} Batch;

// att = attention of the rows whose projections are qkv; their keys and values go to `layer` of the cache.
void qwen2_attention(const Qwen2 *m, act *q, act *att, float *lse, const float *qkv, KVCache *kv, int layer,
                     const Batch *b) {
    const Ops *ops = m->ops;
    ops->rope_kv_write(q, kv, layer, qkv, m->rope, b->pos, b->write_row, b->write_slot, b->n_writes, b->T,
                       m->config.NH);
    ops->attention_forward(att, lse, q, kv, layer, b->sequences, b->n_sequences, m->config.NH);
}

// The attention half of a patched layer (intervene.h, 1), which knows no LoRA. s->h: the residual stream without the
// vector, s->x its norm. Out: s->h, the residual stream after the attention; s->x, the input of the feed-forward.
void qwen2_patched_attention(const Qwen2 *m, Scratch *s, KVCache *kv, const Batch *b) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const Intervention *change = m->intervention;
    const Layer *w = &m->weights.layers[change->layer];
    const Linear *qkv = &w->linear[LINEAR_QKV], *o = &w->linear[LINEAR_O];
    const int T = b->T,
              head_floats = c->HD * (int)ops->act_bytes / (int)sizeof(float); // pairs of bf16 are moved as one float
    const float eps = c->rms_norm_eps;

    linear_forward(m, s, s->qkv, s->x, qkv, NULL, T); // plain
    qwen2_attention(m, s->q, s->att, NULL, s->qkv, kv, c->L, b);
    ops->add_rmsnorm_forward(s->patch_h, s->x, NULL, s->h, NULL, change->vector, w->norm[NORM_INPUT], eps, T,
                             c->C); // steered
    linear_forward(m, s, s->patch_qkv, s->x, qkv, NULL, T);
    if (change->path != PATH_BOTH) {
        qwen2_attention(m, s->q, s->patch_att, NULL, s->patch_qkv, kv, c->L + 1, b);
        linear_forward(m, s, s->patch_y, s->patch_att, o, NULL, T);
    }
    ops->mix_blocks(s->patch_qkv, s->qkv, change->plain_qkv, T, c->NH + 2 * c->NKV, c->HD); // patched
    qwen2_attention(m, s->q, s->patch_att, NULL, s->patch_qkv, kv, change->layer, b);
    ops->mix_blocks((float *)s->patch_att, (const float *)s->att, change->plain_heads, T, c->NH, head_floats);
    linear_forward(m, s, s->y, s->patch_att, o, NULL, T);

    const float *to_mlp = change->path == PATH_RESIDUAL ? s->patch_y : s->y,
                *to_residual = change->path == PATH_MLP ? s->patch_y : s->y;
    const float *h = change->skip_layer ? s->h : s->patch_h;
    ops->add_rmsnorm_forward(s->h, s->x, NULL, h, to_mlp, NULL, w->norm[NORM_POST], eps, T, c->C);
    if (change->path != PATH_BOTH)
        ops->add_rmsnorm_forward(s->h, NULL, NULL, s->patch_h, to_residual, NULL, NULL, eps, T, c->C);
}

// The residual stream between two layers is h + y + vector: the next norm adds them up. y and vector may be NULL.
typedef struct {
    const float *h, *y, *vector;
} Residual;

// s->y[T,C] = the feed-forward of layer l on s->x[T,C], MLP_ROWS rows at a time.
void qwen2_mlp(const Qwen2 *m, Scratch *s, LayerActivations *keep, const float *params, int l, int T) {
    const int C = m->config.C, I = m->config.I;
    const size_t bytes = m->ops->act_bytes;
    const Linear *w = m->weights.layers[l].linear;
    for (int t = 0; t < T; t += MLP_ROWS) {
        const int rows = T - t < MLP_ROWS ? T - t : MLP_ROWS;
        const act *x = (char *)s->x + (size_t)t * C * bytes;
        act *gu_saved = keep ? (char *)keep->gu + (size_t)t * 2 * I * bytes : NULL;
        linear_swiglu_forward(m, s, s->a, gu_saved, x, &w[LINEAR_GATE_UP], params, rows);
        linear_forward(m, s, s->y + (size_t)t * C, s->a, &w[LINEAR_DOWN], params, rows);
    }
}

// Runs layer l: *r is the residual stream before it, and then after it. keep: where what the backward pass needs is
// kept; NULL: nowhere.
void qwen2_layer(const Qwen2 *m, Scratch *s, Residual *r, LayerActivations *keep, KVCache *kv, const Batch *b,
                 const float *params, int l) {
    const Ops *ops = m->ops;
    const Layer *w = &m->weights.layers[l];
    const int T = b->T, C = m->config.C;
    const float eps = m->config.rms_norm_eps;
    float *h_in = keep ? keep->h_in : s->h, *h_mid = keep ? keep->h_mid : s->h;
    float *rstd_in = keep ? keep->rstd_in : NULL, *rstd_mid = keep ? keep->rstd_mid : NULL;
    act *q = keep ? keep->q : s->q, *att = keep ? keep->att : s->att;
    const float *vector[N_PLACES] = {NULL}; // what is added at each place
    if (params && qwen2_steers(m)) vector[qwen2_place(m)] = params + (size_t)l * C;

    // attention
    ops->add_rmsnorm_forward(h_in, s->x, rstd_in, r->h, r->y, r->vector, w->norm[NORM_INPUT], eps, T, C);
    if (qwen2_patches(m, l)) {
        qwen2_patched_attention(m, s, kv, b);
    } else {
        if (vector[PLACE_INPUT_NORM]) ops->act_add_row(s->x, vector[PLACE_INPUT_NORM], T, C);
        linear_forward(m, s, s->qkv, s->x, &w->linear[LINEAR_QKV], params, T);
        qwen2_attention(m, q, att, keep ? keep->lse : NULL, s->qkv, kv, l, b);
        linear_forward(m, s, s->y, att, &w->linear[LINEAR_O], params, T);
        ops->add_rmsnorm_forward(h_mid, s->x, rstd_mid, h_in, s->y, vector[PLACE_SELF_ATTN], w->norm[NORM_POST], eps, T,
                                 C);
        if (vector[PLACE_POST_NORM]) ops->act_add_row(s->x, vector[PLACE_POST_NORM], T, C);
    }

    // feed-forward
    qwen2_mlp(m, s, keep, params, l, T);
    r->h = h_mid;
    r->y = s->y;
    r->vector = vector[PLACE_MLP];
}

// What an intervention does after layer l: the residual stream is added up in s->h, and changed there.
void qwen2_intervene(const Qwen2 *m, Scratch *s, Residual *r, const Batch *b, int l) {
    const Intervention *change = m->intervention;
    const int T = b->T, C = m->config.C;
    const float eps = m->config.rms_norm_eps;
    const bool skipped = change && qwen2_patches(m, l) && change->skip_layer,
               put = change && change->put && change->put_layer == l;
    if (!skipped && !put) return;
    m->ops->add_rmsnorm_forward(s->h, NULL, NULL, r->h, r->y, r->vector, NULL, eps, T, C);
    if (skipped) m->ops->add_rmsnorm_forward(s->h, NULL, NULL, s->h, NULL, change->vector, NULL, eps, T, C);
    if (put) m->ops->put_rows(s->h, change->put, b->pos, change->put_pos, T, C);
    r->h = s->h;
    r->y = r->vector = NULL;
}

// The operations of qwen2_forward.
void qwen2_layers(const Qwen2 *m, Scratch *s, Activations *acts, KVCache *kv, const Batch *b, const float *params) {
    const ModelConfig *c = &m->config;
    Residual r = {s->h, NULL, NULL};
    m->ops->embed(s->h, b->ids, &m->weights.wte, b->T, c->C);
    for (int l = 0; l < c->L; l++) {
        const bool keeps = acts && l >= acts->first && !qwen2_patches(m, l);
        qwen2_layer(m, s, &r, keeps ? &acts->layers[l] : NULL, kv, b, params, l);
        qwen2_intervene(m, s, &r, b, l);
    }
    m->ops->add_rmsnorm_forward(s->h, NULL, NULL, r.h, r.y, r.vector, NULL, c->rms_norm_eps, b->T, c->C);
}

// Everything that a decode step's launches are made of, by value: they are a function of qwen2_forward's arguments.
// Only three things lie behind pointers of the host's: the layers' weights, which stay as they are until memory is
// released (that ends all recordings), the layout of what is trained, which is a run's, and an intervention, with which
// nothing is recorded. What lies behind the others is read when the operations run: how long a sequence is and where
// its pages are stands in the batch's sequences, and no grid depends on it. (T alone could be left out: a decode step
// has a sequence a row.)
typedef struct {
    Qwen2 model;
    Scratch scratch;
    KVCache kv;
    Batch batch;
    const float *params;
} DecodeStep;

// s->h[T,C] = the residual stream after the last layer, vectors included. params may be NULL (the base model); full
// tuning ignores it and computes with the model's weights. acts != NULL keeps what qwen2_backward needs (a patched
// layer keeps nothing). m->intervention is honoured. A decode step, one row of each sequence, is recorded and replayed
// where the backend can: other batches seldom come twice.
void qwen2_forward(const Qwen2 *m, Scratch *s, Activations *acts, KVCache *kv, const Batch *b, const float *params) {
    const Ops *ops = m->ops;
    const bool comes_again = ops->graph_begin && !acts && !m->intervention && b->n_sequences == b->T;
    if (comes_again) {
        DecodeStep step;
        memset(&step, 0, sizeof step); // the padding, too, is compared
        memcpy(&step.model, m, sizeof *m);
        memcpy(&step.scratch, s, sizeof *s);
        memcpy(&step.kv, kv, sizeof *kv);
        memcpy(&step.batch, b, sizeof *b);
        step.params = params;
        if (!ops->graph_begin(&step, sizeof step)) return;
    }
    qwen2_layers(m, s, acts, kv, b, params);
    if (comes_again) ops->graph_end();
}

// s->logits[n,V] for rows rows[n] of h[.,C] (rows NULL: the first n); n <= head_rows. Final norm, then the output
// matrix.
void qwen2_head_forward(const Qwen2 *m, Scratch *s, const float *h, const int *rows, int n) {
    const ModelConfig *c = &m->config;
    if (rows) m->ops->gather_rows(s->head_h, h, rows, n, c->C);
    const float *in = rows ? s->head_h : h;
    m->ops->add_rmsnorm_forward(s->head_h, s->head_x, s->head_rstd, in, NULL, NULL, m->weights.final_norm,
                                c->rms_norm_eps, n, c->C);
    linear_forward(m, s, s->logits, s->head_x, &m->weights.head, NULL, n);
}

// ----------------------------------------------------------------------------
// backward

// Gradient at the output: must follow qwen2_head_forward on the same rows. s->dlogits[n,V] is given; s->dh[rows[n],C]
// += gradient through the output matrix and the final norm, and g those two's own, where they are trained.
void qwen2_head_backward(const Qwen2 *m, Scratch *s, const int *rows, int n, const Gradient *g) {
    const ModelConfig *c = &m->config;
    linear_backward(m, s, s->head_dx, s->dlogits, &m->weights.head, NULL, n);
    linear_weight_backward(m, s, g, s->dlogits, s->head_x, &m->weights.head, NULL, 0, n);
    m->ops->zero(s->head_dh, (size_t)n * c->C * sizeof(float));
    norm_backward(m, g, s->head_dh, NULL, s->head_dx, s->head_h, s->head_rstd, -1, NORM_INPUT, n);
    m->ops->scatter_add_rows(s->dh, s->head_dh, rows, n, c->C);
}

// The vector of layer l: the column sums of d[T,C], the gradient where it is added.
void qwen2_steering_gradient(const Qwen2 *m, const Gradient *g, const float *d, int l) {
    const size_t C = (size_t)m->config.C;
    for (const RowRange *range = g->ranges; range < g->ranges + g->n_ranges; range++)
        m->ops->column_sum(g->slots + range->slot * g->size + l * C, d + (size_t)range->row0 * C, range->T, (int)C);
}

// s->dx[T,C] = gradient at the input of layer l's feed-forward, given s->dy[T,C] at its output.
void qwen2_mlp_backward(const Qwen2 *m, Scratch *s, const LayerActivations *keep, const float *params,
                        const Gradient *g, int l, int T) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const Layer *w = &m->weights.layers[l];
    const Linear *gate_up = &w->linear[LINEAR_GATE_UP], *down = &w->linear[LINEAR_DOWN];
    if (linear_is_trained(m, gate_up)) // s->x = the input again
        ops->add_rmsnorm_forward(s->h, s->x, NULL, keep->h_mid, NULL, NULL, w->norm[NORM_POST], c->rms_norm_eps, T,
                                 c->C);
    for (int t = 0; t < T; t += MLP_ROWS) {
        const int rows = T - t < MLP_ROWS ? T - t : MLP_ROWS;
        const size_t skip = (size_t)t * c->C * ops->act_bytes, skip_gu = (size_t)t * 2 * c->I * ops->act_bytes;
        const act *dy = (char *)s->dy + skip, *x = (char *)s->x + skip;
        act *a = linear_is_trained(m, down) ? s->a : NULL; // its input again
        linear_backward(m, s, s->da, dy, down, params, rows);
        ops->swiglu_backward(s->dgu, a, s->da, (char *)keep->gu + skip_gu, rows, c->I);
        linear_weight_backward(m, s, g, dy, a, down, params, t, rows);
        linear_backward(m, s, s->dx + (size_t)t * c->C, s->dgu, gate_up, params, rows);
        linear_weight_backward(m, s, g, s->dgu, x, gate_up, params, t, rows);
    }
}

// s->dx[T,C] = gradient at the input of layer l's attention, given s->dy[T,C] at its output.
void qwen2_attention_backward(const Qwen2 *m, Scratch *s, const LayerActivations *keep, const KVCache *kv,
                              const Batch *b, const float *params, const Gradient *g, int l) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const Layer *w = &m->weights.layers[l];
    const Linear *qkv = &w->linear[LINEAR_QKV], *o = &w->linear[LINEAR_O];
    const int T = b->T;
    linear_backward(m, s, s->datt, s->dy, o, params, T);
    linear_weight_backward(m, s, g, s->dy, keep->att, o, params, 0, T);
    ops->attention_backward(s->dq, s->dk, s->dv, s->datt, keep->att, keep->lse, keep->q, kv, l, b->sequences,
                            b->n_sequences, T, c->NH);
    ops->rope_backward(s->dqkv, s->dq, s->dk, s->dv, m->rope, b->pos, T, c->NH, c->NKV, c->HD);
    if (linear_is_trained(m, qkv)) // s->x = the input again
        ops->add_rmsnorm_forward(s->h, s->x, NULL, keep->h_in, NULL, NULL, w->norm[NORM_INPUT], c->rms_norm_eps, T,
                                 c->C);
    linear_backward(m, s, s->dx, s->dqkv, qkv, params, T);
    linear_weight_backward(m, s, g, s->dqkv, s->x, qkv, params, 0, T);
}

// Layer l: s->dh[T,C], and s->dy = s->dh as act, are the gradient after it and become the gradient before it; g +=
// that of what is trained of it (vector: that is its vector). lowest: nothing below it is trained, so s->dh goes no
// further down than g needs.
void qwen2_layer_backward(const Qwen2 *m, Scratch *s, const LayerActivations *keep, const KVCache *kv, const Batch *b,
                          const float *params, const Gradient *g, int l, bool vector, bool lowest) {
    const int T = b->T;
    const Place place = qwen2_place(m);
    const bool ends = lowest && qwen2_steers(m);

    // h_out = h_mid + mlp + s_l: the vector sees dh of every row
    if (vector && place == PLACE_MLP) qwen2_steering_gradient(m, g, s->dh, l);
    if (ends && place == PLACE_MLP) return;

    qwen2_mlp_backward(m, s, keep, params, g, l, T);
    if (vector && place == PLACE_POST_NORM) qwen2_steering_gradient(m, g, s->dx, l);
    norm_backward(m, g, s->dh, s->dy, s->dx, keep->h_mid, keep->rstd_mid, l, NORM_POST, T);
    if (vector && place == PLACE_SELF_ATTN) qwen2_steering_gradient(m, g, s->dh, l);
    if (ends && place != PLACE_INPUT_NORM) return;

    qwen2_attention_backward(m, s, keep, kv, b, params, g, l);
    if (vector && place == PLACE_INPUT_NORM) qwen2_steering_gradient(m, g, s->dx, l);
    norm_backward(m, g, s->dh, s->dy, s->dx, keep->h_in, keep->rstd_in, l, NORM_INPUT, T);
}

// g's slots += gradient of what is trained from each range of rows, given s->dh[T,C] = dL/dh after the last layer. Of
// vectors, those of the layers with trained[l] (else not read). Stops below the lowest thing trained. s->dh and s->h
// are used up. params, b and acts as in the forward pass. A slot has the same bits whatever else is in the batch, as
// long as its own rows are (see dist/gradient_reduction.h).
void qwen2_backward(const Qwen2 *m, Scratch *s, const Activations *acts, const KVCache *kv, const Batch *b,
                    const float *params, const Gradient *g, const bool *trained) {
    const ModelConfig *c = &m->config;
    const bool steers = qwen2_steers(m);
    int lowest = 0;
    while (lowest < c->L && !(steers ? trained[lowest] : layout_in_layer(m->layout, lowest))) lowest++;

    m->ops->to_act(s->dy, s->dh, (size_t)b->T * c->C);
    for (int l = c->L - 1; l >= lowest; l--)
        qwen2_layer_backward(m, s, &acts->layers[l], kv, b, params, g, l, steers && trained[l], l == lowest);
    if (linear_is_full(m)) m->ops->scatter_add_rows(weight_gradient(m, g, m->layout->wte), s->dh, b->ids, b->T, c->C);
}

#endif
