/*
add_place_steering: the vector of the last layer at its usual place (P, --steering) against a vector trained after
another part of it (Q, --place_steering at --place), token by token; completions sampled from P.
*/
#ifndef LLMC_EXPERIMENTS_ADD_PLACE_STEERING_H
#define LLMC_EXPERIMENTS_ADD_PLACE_STEERING_H

#include "llmc/experiments/add_place.h"
#include "llmc/experiments/last_layer_steering.h"

bool experiment_add_place_steering(Session *s, Error *err) {
    Benchmarks b;
    if (!*s->options.place_steering)
        return fail(err, EXIT_USAGE,
                    "place_steering is missing: the vectors trained at --place\n  -> --place_steering FILE");
    s->work.look = effect_memory;
    if (!experiment_begin(s, &b, true, err)) return false;
    const int L = s->model.config.L, C = s->model.config.C;
    IntVec layers = {0};
    float *usual = NULL, *placed = (float *)xmalloc((size_t)L * C * sizeof(float));
    char *dir = NULL;
    ParamLayout at_place;
    Str what = {0};
    layout_steering(&at_place, &s->model.config, place_by_name(s->options.place));
    if (s->options.layers.n == 0) ints_push(&layers, L - 1);
    bool ok = (layers.n || experiment_layers(&layers, s, err)) &&
              (usual = effect_rows(s->vectors, &layers, L, C, err)) != NULL &&
              steering_load(placed, &s->model.config, s->options.place_steering, err) &&
              (dir = experiment_dir(s, "add_place_steering", err)) != NULL;
    const size_t LC = (size_t)L * C;
    Condition P = {ok ? intervention_floats(s->model.ops, usual, LC) : NULL, NULL, NULL},
              Q = {ok ? intervention_floats(s->model.ops, placed, LC) : NULL, NULL, &at_place};
    str_printf(&what, "\"P\": \"mlp\", \"Q\": \"%s\"", s->options.place);
    ok = ok && effect_compare(s, &b, dir, what.s, P, P, Q, err);
    if (P.steering) s->model.ops->release((void *)P.steering);
    if (Q.steering) s->model.ops->release((void *)Q.steering);
    free(usual);
    free(placed);
    free(dir);
    str_free(&what);
    ints_free(&layers);
    benchmarks_free(&b);
    return ok;
}

#endif
