/*
magnitude: all vectors multiplied by f, for each f of --magnitudes, and the benchmarks answered. 0 is the base model, 1
the trained vectors; how far beyond can one go?
*/
#ifndef LLMC_EXPERIMENTS_MAGNITUDE_H
#define LLMC_EXPERIMENTS_MAGNITUDE_H

#include "llmc/experiments/variants.h"

// out[n] = f x[n]
void vectors_scale(float *out, const float *x, double f, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (float)(f * x[i]);
}

bool experiment_magnitude(Session *s, Error *err) {
    Benchmarks b;
    double *factors;
    int n;
    if (!experiment_numbers(&factors, &n, s->options.magnitudes, "magnitudes", err) ||
        !experiment_begin(s, &b, true, err))
        return false;
    const size_t LC = (size_t)s->model.config.L * s->model.config.C;
    float *scaled = (float *)xmalloc(LC * sizeof(float));
    char *dir = experiment_dir(s, "magnitude", err);
    bool ok = dir != NULL;
    for (int i = 0; i < n && ok; i++) {
        char name[48], json[64], number[32];
        number_text(number, factors[i]);
        snprintf(name, sizeof name, "f_%s", number);
        snprintf(json, sizeof json, "\"magnitude\": %s", number);
        vectors_scale(scaled, s->vectors, factors[i], LC);
        ok = experiment_answer(s, &b, dir, name, json, scaled, NULL, err);
    }
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(scaled);
    free(factors);
    free(dir);
    benchmarks_free(&b);
    return ok;
}

#endif
