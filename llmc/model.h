/*
A model's weights, as its passes read them. files/weights.h loads them.
*/
#ifndef LLMC_MODEL_H
#define LLMC_MODEL_H

#include "llmc/files/safetensors.h" // SafeTensors, RawTensor
#include "llmc/model_config.h"      // ModelConfig, LinearId, NormId
#include "llmc/ops.h"               // Ops, Weight

// A linear layer, y = x W^T + bias: one projection or several stacked (tensors.h).
typedef struct {
    Weight weight;    // [N,K]
    float *bias;      // [N]; NULL: none
    int layer;        // -1: the output matrix
    Projection first; // in a layer: of the projections it is stacked of
    int n;            // how many they are; 0: the output matrix
} Linear;

typedef struct {
    Linear linear[N_LINEARS]; // by LinearId
    float *norm[N_NORMS];     // by NormId; NULL: the family has none
} Layer;

// Written after loading by weights_from_params (param_layout.h) alone.
typedef struct {
    RawTensor wte;     // [V, C]  the embedding matrix, as `embed` wants it
    bool wte_lent;     // it is an array of somebody else's, who frees it
    Layer *layers;     // [L]
    float *final_norm; // [C]
    Linear head;       // [V, C]  made of wte where tied
    int L;
    SafeTensors *files; // what the raw tensors point into
    int n_files;
    const Family *gguf; // whose names those files have; NULL: Hugging Face's
} FrozenWeights;

void model_free_linear(Linear *y, const Ops *ops) {
    if (y->weight.n_raw > 0) ops->weight_free(&y->weight); // never loaded where loading failed half-way
    if (y->bias) ops->release(y->bias);
    memset(y, 0, sizeof *y);
}

void weights_free(FrozenWeights *w, const Ops *ops) {
    for (int l = 0; w->layers && l < w->L; l++) {
        for (int i = 0; i < N_LINEARS; i++) model_free_linear(&w->layers[l].linear[i], ops);
        for (int i = 0; i < N_NORMS; i++)
            if (w->layers[l].norm[i]) ops->release(w->layers[l].norm[i]);
    }
    model_free_linear(&w->head, ops);
    if (w->wte.data && !w->wte_lent) ops->embedding_free(&w->wte);
    if (w->final_norm) ops->release(w->final_norm);
    free(w->layers);
    for (int i = 0; i < w->n_files; i++) safetensors_close(&w->files[i]);
    free(w->files);
    memset(w, 0, sizeof *w);
}

#endif
