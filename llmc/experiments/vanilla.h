/*
vanilla: the plain evaluation, without vectors and with them, side by side: what every other experiment is compared
with.
*/
#ifndef LLMC_EXPERIMENTS_VANILLA_H
#define LLMC_EXPERIMENTS_VANILLA_H

#include "llmc/experiments/variants.h"

bool experiment_vanilla(Session *s, Error *err) {
    Benchmarks b;
    if (!experiment_begin(s, &b, false, err)) return false;
    char *dir = experiment_dir(s, "vanilla", err);
    bool ok = dir && experiment_answer(s, &b, dir, "base", "", NULL, NULL, err);
    if (ok && s->vectors) ok = experiment_answer(s, &b, dir, "steered", "", s->vectors, NULL, err);
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(dir);
    benchmarks_free(&b);
    return ok;
}

#endif
