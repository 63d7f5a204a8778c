/*
last_layer_steering: which tokens does the vector of the last layer make likelier? It cannot change what later layers
see: it acts on the output alone. P: the base model, Q: with the vector (rows --layers of --steering, by default the
last), completions sampled from Q.
*/
#ifndef LLMC_EXPERIMENTS_LAST_LAYER_STEERING_H
#define LLMC_EXPERIMENTS_LAST_LAYER_STEERING_H

#include "llmc/experiments/token_effect.h"

// A copy of the rows `layers` of x[L,C], zero elsewhere; an error if all of it is zero. Free with free().
float *effect_rows(const float *x, const IntVec *layers, int L, int C, Error *err) {
    float *y = (float *)xcalloc((size_t)L * C, sizeof(float));
    for (int i = 0; i < layers->n; i++)
        memcpy(y + (size_t)layers->v[i] * C, x + (size_t)layers->v[i] * C, (size_t)C * sizeof(float));
    for (size_t i = 0; i < (size_t)L * C; i++)
        if (y[i] != 0) return y;
    fail(err, EXIT_RUN, "the vector of layer %d is zero\n  -> give vectors that were trained there, or other --layers",
         layers->n ? layers->v[0] : 0);
    free(y);
    return NULL;
}

bool experiment_last_layer_steering(Session *s, Error *err) {
    Benchmarks b;
    s->work.look = effect_memory;
    if (!experiment_begin(s, &b, true, err)) return false;
    const int L = s->model.config.L;
    IntVec layers = {0};
    char *dir = NULL;
    float *vectors = NULL;
    if (s->options.layers.n == 0) ints_push(&layers, L - 1);
    bool ok = (layers.n || experiment_layers(&layers, s, err)) &&
              (vectors = effect_rows(s->vectors, &layers, L, s->model.config.C, err)) != NULL &&
              (dir = experiment_dir(s, "last_layer_steering", err)) != NULL;
    float *there = ok ? intervention_floats(s->model.ops, vectors, (size_t)L * s->model.config.C) : NULL;
    Condition base = {NULL, NULL, NULL}, steered = {there, NULL, NULL};
    ok = ok && effect_compare(s, &b, dir, "\"P\": \"base\", \"Q\": \"steered\"", steered, base, steered, err);
    if (there) s->model.ops->release(there);
    free(vectors);
    free(dir);
    ints_free(&layers);
    benchmarks_free(&b);
    return ok;
}

#endif
