/*
patch_head: which part of the last layer does the vector before it speak to? The vector s of layer L-2 is lifted out and
put into the input of layer L-1, which is patched (intervene.h): each of --variants answers the benchmarks. Measured
beside them: base, the vector where it was (no_patch), Skip-Attn, Skip-Layer.

patch_head_path: the same, three times: the patched attention goes to both paths, to the residual stream alone, to the
MLP alone.
*/
#ifndef LLMC_EXPERIMENTS_PATCH_HEAD_H
#define LLMC_EXPERIMENTS_PATCH_HEAD_H

#include "llmc/experiments/patch.h" // intervention_patch, variant_heads
#include "llmc/experiments/variants.h"

// One variant with its head; name: "skip_head_3".
typedef struct {
    char name[40], kind[24];
    int head;
} PatchVariant;
typedef struct {
    PatchVariant *items;
    int n;
} PatchVariants;

// --variants, those without a number run over all heads they count. Free items with free().
bool patch_variants(PatchVariants *all, const Session *s, Error *err) {
    const int NH = s->model.config.NH, NKV = s->model.config.NKV;
    memset(all, 0, sizeof *all);
    char *copy = xstrdup(s->options.variants), *rest = copy;
    bool ok = true;
    for (char *word; ok && (word = strsep(&rest, ",")) != NULL;) {
        char *number = word + strlen(word);
        while (number > word && number[-1] >= '0' && number[-1] <= '9') number--;
        const bool numbered = *number && number > word + 1 && number[-1] == '_' && strlen(number) < 6;
        int first = numbered ? atoi(number) : 0;
        if (numbered) number[-1] = 0;
        const int heads = variant_heads(word, NH, NKV), last = numbered ? first : heads - 1;
        if (heads < 0 || (numbered && first >= heads)) {
            ok = fail(err, EXIT_USAGE,
                      "variants: found \"%.40s\"%s%s, expected no_patch, base, skip_attn, skip_layer, skip_all_v, "
                      "steer_all_v, or skip_ or steer_ with head or q "
                      "(0 to %d) or k, v or kv (0 to %d)\n  -> skip_head_3 is one head, skip_head all of them",
                      word, numbered ? " with head " : "", numbered ? number : "", NH - 1, NKV - 1);
            break;
        }
        for (int h = first; h <= (heads ? last : first); h++) {
            all->items = (PatchVariant *)xrealloc(all->items, (size_t)(all->n + 1) * sizeof(PatchVariant));
            PatchVariant *v = &all->items[all->n++];
            v->head = heads ? h : 0;
            snprintf(v->kind, sizeof v->kind, "%s", word);
            if (heads) snprintf(v->name, sizeof v->name, "%.20s_%d", word, h);
            else snprintf(v->name, sizeof v->name, "%.20s", word);
        }
    }
    free(copy);
    if (!ok) {
        free(all->items);
        memset(all, 0, sizeof *all);
    }
    return ok;
}

// The vector that is lifted out: row L-2. NULL and err if there is none.
const float *patch_vector(const Session *s, Error *err) {
    const int L = s->model.config.L, C = s->model.config.C;
    const float *v = L > 1 ? s->vectors + (size_t)(L - 2) * C : NULL;
    for (int c = 0; c < C && v; c++)
        if (v[c] != 0) return v;
    fail(err, EXIT_RUN,
         "the vector of layer %d is zero: there is nothing to patch\n  -> give vectors that were trained there (setup "
         "steering_layer, layers: [%d])",
         L - 2, L - 2);
    return NULL;
}

const char *const patch_path_names[] = {"both", "residual", "mlp"};

// One variant as an intervention on layer L-1. Free with intervention_free.
void patch_variant(Intervention *v, const Session *s, const PatchVariant *p, const float *vector, PatchPath path) {
    const ModelConfig *c = &s->model.config;
    intervention_patch(v, s->model.ops, p->kind, p->head, vector, c->L - 1, path, c->NH, c->NKV, c->C);
}

bool patch_head_run(Session *s, const char *experiment, int n_paths, Error *err) {
    Benchmarks b;
    s->work.patched = true;
    if (!experiment_begin(s, &b, true, err)) return false;
    PatchVariants all = {NULL, 0};
    const float *vector = patch_vector(s, err);
    char *dir = NULL;
    bool ok = vector && patch_variants(&all, s, err) && (dir = experiment_dir(s, experiment, err)) != NULL;
    for (int path = 0; path < n_paths && ok; path++) {
        for (int i = 0; i < all.n && ok; i++) {
            const PatchVariant *p = &all.items[i];
            Intervention v;
            Str name = {0}, json = {0};
            str_printf(&name, "%s%s%s", n_paths > 1 ? patch_path_names[path] : "", n_paths > 1 ? "_" : "", p->name);
            str_printf(&json, "\"kind\": \"%s\", \"head\": %d, \"path\": \"%s\"", p->kind, p->head,
                       patch_path_names[path]);
            patch_variant(&v, s, p, vector, (PatchPath)path);
            ok = experiment_answer(s, &b, dir, name.s, json.s, NULL, &v, err);
            intervention_free(&v, s->model.ops);
            str_free(&name);
            str_free(&json);
        }
    }
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(all.items);
    free(dir);
    benchmarks_free(&b);
    return ok;
}

bool experiment_patch_head(Session *s, Error *err) { return patch_head_run(s, "patch_head", 1, err); }
bool experiment_patch_head_path(Session *s, Error *err) { return patch_head_run(s, "patch_head_path", 3, err); }

#endif
