/*
Activations kept from the rollout. On-policy, the training forward would compute again, bit for bit, what the rollout
has computed token by token; where memory allows, that is kept and put into the order of the training batch instead.
Some 0.7 MB a row for the 0.5B model. What does not fit is computed again: the result is the same in every bit.
*/
#ifndef LLMC_KEPT_H
#define LLMC_KEPT_H

#include "llmc/batch.h" // Activations, BatchBuilder, Completion

typedef struct {
    Activations acts;  // [cap] rows in the order they were run
    Activations view;  // the same from row `used` on: where the next batch is kept
    float *h;          // [cap,C] residual stream after the last layer
    const KVCache *kv; // the rollout's: pages of sampled completions are not given back before kept_reset
    int cap, used;
    bool full;   // a batch did not fit; nothing more is kept in this step
    IntVec rows; // scratch
    DeviceCopy d_rows;
} Kept;

// Room for `bytes` of layers first ... L-1 (see Activations). Free with kept_free.
void kept_alloc(Kept *k, const Qwen2 *m, double bytes, int first) {
    const ModelConfig *c = &m->config;
    memset(k, 0, sizeof *k);
    double rows = bytes / ((double)activation_bytes_per_row(m) * (c->L - first) + (double)c->C * sizeof(float));
    k->cap = rows > 1 << 24 ? 1 << 24 : (int)rows;
    activations_alloc(&k->acts, m, k->cap, first);
    k->view = k->acts;
    k->view.layers = (LayerActivations *)xcalloc((size_t)c->L, sizeof *k->view.layers);
    k->h = (float *)m->ops->alloc((size_t)k->cap * c->C * sizeof(float));
}

void kept_free(Kept *k, const Qwen2 *m) {
    if (!k->h) return;
    activations_free(&k->acts, m);
    free(k->view.layers);
    m->ops->release(k->h);
    ints_free(&k->rows);
    device_copy_free(&k->d_rows, m->ops);
    memset(k, 0, sizeof *k);
}

void kept_reset(Kept *k) {
    k->used = 0;
    k->full = false;
}

// *v = the layer's arrays from `row` on.
void kept_view(LayerActivations *v, const LayerActivations *a, const Qwen2 *m, size_t row) {
    const ModelConfig *c = &m->config;
    const size_t QD = (size_t)c->NH * c->HD * m->ops->act_bytes, I2 = 2 * (size_t)c->I * m->ops->act_bytes;
    v->h_in = a->h_in + row * c->C;
    v->h_mid = a->h_mid + row * c->C;
    v->rstd_in = a->rstd_in + row;
    v->rstd_mid = a->rstd_mid + row;
    v->q = (char *)a->q + row * QD;
    v->att = (char *)a->att + row * QD;
    v->lse = a->lse + row * c->NH;
    v->gu = (char *)a->gu + row * I2;
}

// Runs the batch and keeps what the backward pass needs; returns the kept row of its first row, or -1 if k is NULL or
// full.
int kept_forward(Kept *k, const Qwen2 *m, Scratch *s, KVCache *kv, const Batch *b, const float *params) {
    if (k && k->used + b->T > k->cap) k->full = true;
    if (!k || k->full) {
        qwen2_forward(m, s, NULL, kv, b, params);
        return -1;
    }
    for (int l = k->acts.first; l < m->config.L; l++)
        kept_view(&k->view.layers[l], &k->acts.layers[l], m, (size_t)k->used);
    qwen2_forward(m, s, &k->view, kv, b, params);
    k->rows.n = 0;
    for (int t = 0; t < b->T; t++) ints_push(&k->rows, t);
    const int *rows = (const int *)device_copy(&k->d_rows, m->ops, k->rows.v, (size_t)b->T * sizeof(int));
    m->ops->gather_rows(k->h + (size_t)k->used * m->config.C, s->h, rows, b->T, m->config.C);
    k->used += b->T;
    return k->used - b->T;
}

// Instead of qwen2_forward on a batch packed for training: its rows are those of k numbered rows[T] (in the backend's
// memory).
void kept_recall(const Kept *k, const Qwen2 *m, Scratch *s, Activations *acts, const int *rows, int T) {
    const ModelConfig *c = &m->config;
    const size_t act_floats =
        m->ops->act_bytes * (size_t)c->NH * c->HD / sizeof(float); // pairs of bf16 are moved as one float
    for (int l = acts->first; l < c->L; l++) {
        const LayerActivations *to = &acts->layers[l], *from = &k->acts.layers[l];
        const struct {
            void *to;
            const void *from;
            size_t floats;
        } all[8] = {{to->h_in, from->h_in, (size_t)c->C},
                    {to->h_mid, from->h_mid, (size_t)c->C},
                    {to->rstd_in, from->rstd_in, 1},
                    {to->rstd_mid, from->rstd_mid, 1},
                    {to->q, from->q, act_floats},
                    {to->att, from->att, act_floats},
                    {to->lse, from->lse, (size_t)c->NH},
                    {to->gu, from->gu, 2 * (size_t)c->I * m->ops->act_bytes / sizeof(float)}};
        for (int i = 0; i < 8; i++)
            m->ops->gather_rows((float *)all[i].to, (const float *)all[i].from, rows, T, (int)all[i].floats);
    }
    m->ops->gather_rows(s->h, k->h, rows, T, m->config.C);
}

#endif
