/*
add_place: the benchmarks answered with the vectors after another part of their layer (--place), for which they were
trained. Where in a layer a vector no longer helps says what stands in its way.
*/
#ifndef LLMC_EXPERIMENTS_ADD_PLACE_H
#define LLMC_EXPERIMENTS_ADD_PLACE_H

#include "llmc/experiments/variants.h"

bool experiment_add_place(Session *s, Error *err) {
    Benchmarks b;
    if (!experiment_begin(s, &b, true, err)) return false;
    const int C = s->model.config.C;
    Str name = {0}, json = {0};
    layout_steering(&s->layout, &s->model.config, place_by_name(s->options.place));
    s->model.layout = &s->layout;
    str_printf(&name, "%s", s->options.place);
    str_printf(&json, "\"place\": \"%s\", \"layers\": [", s->options.place);
    const char *comma = "";
    for (int l = 0; l < s->model.config.L; l++) {
        bool zero = true;
        for (int c = 0; c < C; c++) zero &= s->vectors[(size_t)l * C + c] == 0;
        if (zero) continue;
        str_printf(&json, "%s%d", comma, l);
        str_printf(&name, "_%d", l);
        comma = ", ";
    }
    str_printf(&json, "]");
    char *dir = experiment_dir(s, "add_place", err);
    bool ok = dir && experiment_answer(s, &b, dir, name.s, json.s, s->vectors, NULL, err);
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(dir);
    str_free(&name);
    str_free(&json);
    benchmarks_free(&b);
    return ok;
}

#endif
