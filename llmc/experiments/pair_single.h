/*
pair_single: the vectors s_i and s_j together, all others zero, for every pair i <= j of --layers, and the benchmarks
answered. The diagonal is the single vector. --steering holds in row l the vector that was trained alone at layer l
(scripts/merge_vectors_from_layers.sh).
*/
#ifndef LLMC_EXPERIMENTS_PAIR_SINGLE_H
#define LLMC_EXPERIMENTS_PAIR_SINGLE_H

#include "llmc/experiments/variants.h"

// out[L,C] = rows i and j of x[L,C], zero elsewhere
void vectors_pair(float *out, const float *x, int i, int j, int L, int C) {
    memset(out, 0, (size_t)L * C * sizeof(float));
    memcpy(out + (size_t)i * C, x + (size_t)i * C, (size_t)C * sizeof(float));
    memcpy(out + (size_t)j * C, x + (size_t)j * C, (size_t)C * sizeof(float));
}

bool experiment_pair_single(Session *s, Error *err) {
    Benchmarks b;
    if (!experiment_begin(s, &b, true, err)) return false;
    const int L = s->model.config.L, C = s->model.config.C;
    IntVec layers = {0};
    char *dir = NULL;
    float *pair = (float *)xmalloc((size_t)L * C * sizeof(float));
    bool ok = experiment_layers(&layers, s, err) && (dir = experiment_dir(s, "pair_single", err)) != NULL;
    for (int a = 0; a < layers.n && ok; a++) {
        for (int k = a; k < layers.n && ok; k++) {
            char name[48], json[64];
            const int i = layers.v[a] < layers.v[k] ? layers.v[a] : layers.v[k],
                      j = layers.v[a] < layers.v[k] ? layers.v[k] : layers.v[a];
            snprintf(name, sizeof name, "layers_%d_%d", i, j);
            snprintf(json, sizeof json, "\"i\": %d, \"j\": %d", i, j);
            vectors_pair(pair, s->vectors, i, j, L, C);
            ok = experiment_answer(s, &b, dir, name, json, pair, NULL, err);
        }
    }
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(pair);
    free(dir);
    ints_free(&layers);
    benchmarks_free(&b);
    return ok;
}

#endif
