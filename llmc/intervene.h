/*
Interventions: what the experiments change inside the forward pass, as data. The one forward pass of qwen2.h reads them
(Qwen2.intervention); no experiment has a forward pass of its own, and training knows none.

The simplest need no entry here: other vectors are another array [L,C] (base: NULL; a magnitude: the array times f; a
pair: two rows of it; an exchange: another file), and where in its layer a vector is added is its Place
(param_layout.h). The others:

1. A patched layer: one vector reaches some parts of one layer only. The vector is added to the input of `layer`, which
   runs twice as far as needed: `plain` without the vector, `steered` with it. Of each query, key and value head the
   attention sees either form (before RoPE), and the output of each head is taken from that attention or from the wholly
   plain one. The residual stream keeps the vector, the feed-forward reads it (Skip-Layer: neither; it is added after
   the layer). `path` hands the patched attention to the residual stream or to the feed-forward alone, and the other
   gets the steered one.
2. `put`: the residual stream after layer `put_layer` is replaced at one position.

A patched layer keeps the keys and values of its plain and of its wholly steered attention in two more layers of the
cache, L and L + 1, so an intervention must be in place before the cache and the scratch memory are made.
*/
#ifndef LLMC_INTERVENE_H
#define LLMC_INTERVENE_H

#include <string.h>   // memset, strcmp
#include "llmc/ops.h" // Ops

typedef enum { PATH_BOTH, PATH_RESIDUAL, PATH_MLP } PatchPath;

// Zero-initialised it changes nothing. The pointers are the backend's memory; intervention_free gives them back.
typedef struct Intervention {
    // a patched layer
    float *vector; // [C]; NULL: no layer is patched
    int layer;
    unsigned char *plain_qkv;   // [NH + 2 NKV] 1: the attention sees this query, key or value head without the vector
    unsigned char *plain_heads; // [NH] 1: this head's output is that of the plain attention
    bool skip_layer;            // residual and feed-forward are plain, the vector is added after the layer
    PatchPath path;
    // one position replaced
    float *put; // [C]; NULL: none
    int put_layer, put_pos;
} Intervention;

// n floats of the host in the backend's memory; release with ops->release.
float *intervention_floats(const Ops *ops, const float *from, size_t n) {
    float *x = (float *)ops->alloc(n * sizeof(float));
    ops->upload(x, from, n * sizeof(float));
    return x;
}

void intervention_free(Intervention *v, const Ops *ops) {
    void *all[] = {v->vector, v->plain_qkv, v->plain_heads, v->put};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i]) ops->release(all[i]);
    memset(v, 0, sizeof *v);
}

#endif
