/*
A model's sizes, and the shapes that follow from them. files/config.h reads them.
*/
#ifndef LLMC_MODEL_CONFIG_H
#define LLMC_MODEL_CONFIG_H

#include "llmc/tensors.h"     // Family, Size, projections
#include "llmc/utils/utils.h" // IntVec

typedef struct {
    const Family *family;
    int C, I, L, NH, NKV, HD, V; // see ops.h; HD = C / NH unless the config says otherwise
    int max_position;            // the longest context
    float rms_norm_eps, rope_theta;
    bool tied;    // the output matrix is the embedding matrix
    IntVec eos;   // every one of them ends a completion
    IntVec types; // of a GGUF file: the DType of each projection, layer by layer, then of the output matrix; else empty
    int pad;      // -1 if the model names none
} ModelConfig;

int model_size(const ModelConfig *c, Size size) {
    switch (size) {
    case SIZE_C: return c->C;
    case SIZE_I: return c->I;
    case SIZE_HD: return c->HD;
    case SIZE_Q: return c->NH * c->HD;
    case SIZE_KV: return c->NKV * c->HD;
    }
    return 0;
}

// The shape [N,K] of a projection's weight.
void projection_shape(int *N, int *K, const ModelConfig *c, Projection p) {
    *N = model_size(c, projections[p].rows);
    *K = model_size(c, projections[p].columns);
}

void model_config_free(ModelConfig *c) {
    ints_free(&c->eos);
    ints_free(&c->types);
    memset(c, 0, sizeof *c);
}

#endif
