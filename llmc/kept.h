/*
Activations kept from the rollout. On-policy, the training forward would compute again, bit for bit, what the rollout has
computed token by token; where memory allows, that is kept and put into the order of the training batch instead. Some 0.7 MB
a row for the 0.5B model. What does not fit is computed again: the result is the same in every bit.
*/
#ifndef LLMC_KEPT_H
#define LLMC_KEPT_H

#include "batch.h" // Activations, Packed, Completion

typedef struct {
    Activations acts;  // [cap] rows in the order they were run
    Activations view;  // the same from row `used` on: where the next batch is kept
    float *h;          // [cap,C] residual stream after the last layer
    const KVCache *kv; // the rollout's: pages of sampled completions are not given back before kept_reset
    int cap, used;
    bool full;         // a batch did not fit; nothing more is kept in this step
    IntVec rows;       // scratch
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
    memset(k, 0, sizeof *k);
}

void kept_reset(Kept *k) {
    k->used = 0;
    k->full = false;
}

// An array of activations: its place in both, and the floats in a row (pairs of bf16 count as one: they are only copied).
typedef struct { void **to; void *from; size_t floats; } KeptArray;

// The arrays of one layer, `to` a layer of `to_layer`, `from` one of `from_layer`; returns their number.
int kept_arrays(KeptArray list[8], const Qwen2 *m, LayerActivations *to, const LayerActivations *from) {
    const ModelConfig *c = &m->config;
    const size_t C = (size_t)c->C, QD = (size_t)c->NH * c->HD * m->ops->act_bytes / sizeof(float), I2 = 2 * (size_t)c->I * m->ops->act_bytes / sizeof(float);
    const KeptArray all[8] = {
        {(void **)&to->h_in, from->h_in, C}, {(void **)&to->h_mid, from->h_mid, C}, {(void **)&to->rstd_in, from->rstd_in, 1},
        {(void **)&to->rstd_mid, from->rstd_mid, 1}, {&to->q, from->q, QD}, {&to->att, from->att, QD}, {(void **)&to->lse, from->lse, (size_t)c->NH},
        {&to->gu, from->gu, I2}};
    memcpy(list, all, sizeof all);
    return 8;
}

// Runs the batch and keeps what the backward pass needs; returns the kept row of its first row, or -1 if k is NULL or full.
int kept_forward(Kept *k, const Qwen2 *m, Scratch *s, KVCache *kv, const Batch *b, const float *steering) {
    if (k && k->used + b->T > k->cap) k->full = true;
    if (!k || k->full) {
        qwen2_forward(m, s, NULL, kv, b, steering);
        return -1;
    }
    KeptArray list[8];
    for (int l = k->acts.first; l < m->config.L; l++)
        for (int i = 0, n = kept_arrays(list, m, &k->view.layers[l], &k->acts.layers[l]); i < n; i++)
            *list[i].to = (float *)list[i].from + (size_t)k->used * list[i].floats;
    qwen2_forward(m, s, &k->view, kv, b, steering);
    k->rows.n = 0;
    for (int t = 0; t < b->T; t++) ints_push(&k->rows, t);
    m->ops->gather_rows(k->h + (size_t)k->used * m->config.C, s->h, k->rows.v, b->T, m->config.C);
    k->used += b->T;
    return k->used - b->T;
}

// Instead of qwen2_forward on a batch packed for training: its rows are those of k numbered rows[T].
void kept_recall(const Kept *k, const Qwen2 *m, Scratch *s, Activations *acts, const int *rows, int T) {
    KeptArray list[8];
    for (int l = acts->first; l < m->config.L; l++)
        for (int i = 0, n = kept_arrays(list, m, &acts->layers[l], &k->acts.layers[l]); i < n; i++)
            m->ops->gather_rows((float *)*list[i].to, (const float *)list[i].from, rows, T, (int)list[i].floats);
    m->ops->gather_rows(s->h, k->h, rows, T, m->config.C);
}

#endif
