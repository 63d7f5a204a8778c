/*
What qwen2.h computes with: the loaded model, and the memory of its passes. Scratch is used by every layer again,
Activations are kept by the forward pass for the backward, keys and values stay in the cache. memory/passes.h
allocates them.
*/
#ifndef LLMC_QWEN2_MEMORY_H
#define LLMC_QWEN2_MEMORY_H

#include "llmc/intervene.h"    // Intervention
#include "llmc/model.h"        // ModelConfig, FrozenWeights
#include "llmc/ops.h"          // Ops, Sequence, KVCache
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

void qwen2_free(Qwen2 *m) {
    if (m->ops) weights_free(&m->weights, m->ops);
    if (m->rope) m->ops->release(m->rope);
    model_config_free(&m->config);
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

#endif
