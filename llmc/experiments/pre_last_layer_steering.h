/*
pre_last_layer_steering: what the vector before the last layer makes likelier through which part of that layer. The last
layer is patched as in patch_head; for each of --variants: Q is the variant, P is no_patch where it patches heads and
Skip-Attn else (so Skip-Layer against Skip-Attn shows what the feed-forward adds). Completions are sampled from P.
--path as in patch_head_path.
*/
#ifndef LLMC_EXPERIMENTS_PRE_LAST_LAYER_STEERING_H
#define LLMC_EXPERIMENTS_PRE_LAST_LAYER_STEERING_H

#include "llmc/experiments/patch_head.h"
#include "llmc/experiments/token_effect.h"

bool experiment_pre_last_layer_steering(Session *s, Error *err) {
    Benchmarks b;
    s->work.look = effect_memory;
    s->work.patched = true;
    if (!experiment_begin(s, &b, true, err)) return false;
    PatchVariants all = {NULL, 0};
    const float *vector = patch_vector(s, err);
    char *dir = NULL;
    bool ok =
        vector && patch_variants(&all, s, err) && (dir = experiment_dir(s, "pre_last_layer_steering", err)) != NULL;
    PatchPath path = strcmp(s->options.path, "residual") == 0 ? PATH_RESIDUAL
                     : strcmp(s->options.path, "mlp") == 0    ? PATH_MLP
                                                              : PATH_BOTH;
    for (int i = 0; i < all.n && ok; i++) {
        const PatchVariant *q = &all.items[i];
        const bool heads = strncmp(q->kind, "skip_attn", 9) != 0 && strncmp(q->kind, "skip_layer", 10) != 0 &&
                           strcmp(q->kind, "base") != 0;
        PatchVariant p = {"skip_attn", "skip_attn", 0};
        if (heads) {
            strcpy(p.name, "no_patch");
            strcpy(p.kind, "no_patch");
        }
        if (strcmp(p.name, q->name) == 0) continue; // P itself
        Intervention P, Q;
        patch_variant(&P, s, &p, vector, PATH_BOTH);
        patch_variant(&Q, s, q, vector, path);
        Str here = {0}, what = {0};
        str_printf(&here, "%s/%s%s%s", dir, q->name, path ? "_" : "", path ? patch_path_names[path] : "");
        str_printf(&what, "\"P\": \"%s\", \"Q\": \"%s\", \"path\": \"%s\"", p.name, q->name, patch_path_names[path]);
        Condition is_p = {NULL, &P, NULL}, is_q = {NULL, &Q, NULL};
        if (!s->options.json) printf("%s -> %s: ", p.name, q->name);
        ok = effect_compare(s, &b, here.s, what.s, is_p, is_p, is_q, err);
        intervention_free(&P, s->model.ops);
        intervention_free(&Q, s->model.ops);
        str_free(&here);
        str_free(&what);
    }
    free(all.items);
    free(dir);
    benchmarks_free(&b);
    return ok;
}

#endif
