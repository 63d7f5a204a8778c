/*
exchange_svs: the vectors of each donor put, as they are, into each recipient, and the benchmarks answered: a grid.
--recipients are models of one shape (none: the model alone), --donors files of vectors; the base model of each
recipient is answered too.
*/
#ifndef LLMC_EXPERIMENTS_EXCHANGE_SVS_H
#define LLMC_EXPERIMENTS_EXCHANGE_SVS_H

#include "llmc/experiments/variants.h"

// The next NAME=PATH of a list: both are copied, *list moves on. False and err for anything else.
bool exchange_next(const char **list, char **name, char **path, const char *key, Error *err) {
    const size_t n = strcspn(*list, ",");
    const char *equals = (const char *)memchr(*list, '=', n);
    if (!equals || equals == *list || equals + 1 == *list + n || memchr(*list, '/', (size_t)(equals - *list)))
        return fail(
            err, EXIT_USAGE,
            "%s: found \"%.*s\", expected NAME=PATH (no / in the name)\n  -> for example %s: [math=FILE, base=FILE]",
            key, (int)n, *list, key);
    *name = xstrndup(*list, (size_t)(equals - *list));
    *path = xstrndup(equals + 1, n - (size_t)(equals + 1 - *list));
    *list += n + ((*list)[n] == ',');
    return true;
}

// All donors in the model that is loaded.
bool exchange_row(Session *s, const Benchmarks *b, const char *dir, const char *recipient, Error *err) {
    Str name = {0}, json = {0};
    float *vectors = (float *)xmalloc((size_t)s->model.config.L * s->model.config.C * sizeof(float));
    str_printf(&name, "%s_from_base", recipient);
    str_printf(&json, "\"recipient\": \"%s\", \"donor\": null", recipient);
    bool ok = experiment_answer(s, b, dir, name.s, json.s, NULL, NULL, err);
    for (const char *list = s->options.donors; *list && ok;) {
        char *donor, *path;
        if (!(ok = exchange_next(&list, &donor, &path, "donors", err))) break;
        name.n = json.n = 0;
        str_printf(&name, "%s_from_%s", recipient, donor);
        str_printf(&json, "\"recipient\": \"%s\", \"donor\": \"%s\"", recipient, donor);
        ok = steering_load(vectors, &s->model.config, path, err) &&
             experiment_answer(s, b, dir, name.s, json.s, vectors, NULL, err);
        free(donor);
        free(path);
    }
    free(vectors);
    str_free(&name);
    str_free(&json);
    return ok;
}

bool experiment_exchange_svs(Session *s, Error *err) {
    Benchmarks b;
    if (!*s->options.donors)
        return fail(err, EXIT_USAGE, "donors is missing: whose vectors to put in\n  -> --donors NAME=FILE,NAME=FILE");
    if (!experiment_begin(s, &b, false, err)) return false;
    char *dir = experiment_dir(s, "exchange_svs", err);
    bool ok = dir != NULL;
    if (ok && !*s->options.recipients) ok = exchange_row(s, &b, dir, s->model_name, err);
    const Ops *ops = s->model.ops;
    const int positions = s->model.rope_positions;
    for (const char *list = s->options.recipients;
         *list && ok;) { // tokenizer and prompts are those of --model: a family shares them
        char *name, *path;
        if (!(ok = exchange_next(&list, &name, &path, "recipients", err))) break;
        qwen2_free(&s->model);
        ok = qwen2_open(&s->model, path, positions, ops, err) && session_weights(s, path, err) &&
             made_with_hashes(s, err);
        if (ok) cJSON_DeleteItemFromObjectCaseSensitive(s->hashes, "model_sha256");
        ok = ok && made_with_hash(s->hashes, "model_sha256", path, err) && exchange_row(s, &b, dir, name, err);
        free(name);
        free(path);
    }
    if (ok && !s->options.json) printf("saved %s\n", dir);
    free(dir);
    benchmarks_free(&b);
    return ok;
}

#endif
