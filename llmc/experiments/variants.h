/*
What the experiments share: where results go, lists of numbers, and one variant of an evaluation.

    results/experiments/<experiment>/<Model>/<dataset>/<variant>/variant.json              what the variant is
                                                                 temp_.../eval_seed-<k>/ as of `eval` (eval/benchmark.h)
*/
#ifndef LLMC_EXPERIMENTS_VARIANTS_H
#define LLMC_EXPERIMENTS_VARIANTS_H

#include "llmc/eval/eval.h" // Benchmarks, benchmarks_answer; made_with, Session

// results/experiments/<name>/<Model>/<dataset>, made; NULL and err if it cannot be. Free with free().
char *experiment_dir(const Session *s, const char *name, Error *err) {
    const Options *o = &s->options;
    Str dir = {0};
    char *stem = *o->dataset_name ? xstrdup(o->dataset_name) : *o->data ? dataset_stem(o->data) : xstrdup("none");
    str_printf(&dir, "%s/experiments/%s/%s/%s", o->results_dir, name, s->model_name, stem);
    free(stem);
    if (make_dirs(dir.s, err)) return dir.s;
    str_free(&dir);
    return NULL;
}

// Writes text to dir/file.
bool experiment_write(const char *dir, const char *file, const Str *text, Error *err) {
    char *path = model_path(dir, file);
    bool ok = write_file(path, text->s ? text->s : "", text->n, err);
    free(path);
    return ok;
}

// numbers[n] = a comma-separated list, strictly read; key: the option, for messages. Free with free().
bool experiment_numbers(double **numbers, int *n, const char *list, const char *key, Error *err) {
    *numbers = (double *)xmalloc((strlen(list) / 2 + 1) * sizeof(double));
    *n = 0;
    for (const char *item = list; *item; item += strcspn(item, ","), item += *item == ',') {
        char *end;
        double x = strtod(item, &end);
        if (end == item || (*end && *end != ',') || !isfinite(x)) {
            free(*numbers);
            return fail(err, EXIT_USAGE, "%s: found \"%.*s\", expected a number\n  -> for example %s: [0, 0.5, 1]", key,
                        (int)strcspn(item, ","), item, key);
        }
        (*numbers)[(*n)++] = x;
    }
    if (*n > 0) return true;
    free(*numbers);
    return fail(err, EXIT_USAGE, "%s is empty\n  -> for example %s: [0, 0.5, 1]", key, key);
}

// layers[n] = --layers, or all of them. Free with ints_free.
bool experiment_layers(IntVec *layers, const Session *s, Error *err) {
    const int L = s->model.config.L;
    const IntList *chosen = &s->options.layers;
    for (int i = 0; i < (chosen->n ? chosen->n : L); i++) {
        int l = chosen->n ? chosen->v[i] : i;
        if (l >= L)
            return fail(err, EXIT_USAGE, "layers: found %d, the model has %d layers: expected 0 to %d", l, L, L - 1);
        ints_push(layers, l);
    }
    return true;
}

// The vectors must be given: true if they were.
bool experiment_needs_vectors(const Session *s, Error *err) {
    return s->steering ||
           fail(err, EXIT_USAGE,
                "steering is missing: this experiment works on vectors\n  -> --steering FILE or --checkpoint DIR");
}

// Tokenizer, benchmarks and model; the vectors where wanted. False: *b needs no freeing.
bool experiment_begin(Session *s, Benchmarks *b, bool vectors, Error *err) {
    memset(b, 0, sizeof *b);
    bool ok = session_tokenizer(s, err) && benchmarks_load(b, s, err) &&
              session_sampler(s, b->longest + b->max_new, false, err) && (!vectors || experiment_needs_vectors(s, err));
    if (!ok) benchmarks_free(b);
    else install_signal_handlers();
    return ok;
}

// What a variant is made with: what an evaluation is, the variant, and the numbers put in for vectors. NULL and err on
// failure. Free with cJSON_Delete.
cJSON *experiment_made_with(Session *s, const Str *variant, const float *vectors, Error *err) {
    char hex[SHA256_HEX];
    cJSON *m = made_with(s, CMD_EVAL, err);
    if (!m) return NULL;
    cJSON_AddItemToObject(m, "variant", cJSON_Parse(variant->s));
    if (vectors) sha256_bytes(hex, vectors, (size_t)s->model.config.L * s->model.config.C * sizeof(float));
    if (vectors) cJSON_AddStringToObject(m, "put_in_sha256", hex);
    return m;
}

// Answers the benchmarks under these vectors (on the host) and this intervention (each may be NULL) into dir/name;
// json: what variant.json holds besides the name, without braces.
bool experiment_answer(Session *s, const Benchmarks *b, const char *dir, const char *name, const char *json,
                       const float *vectors, const Intervention *v, Error *err) {
    Str here = {0}, text = {0}, label = {0};
    str_printf(&here, "%s/%s", dir, name);
    str_printf(&text, "{\"variant\": \"%s\"%s%s}\n", name, *json ? ", " : "", json);
    str_printf(&label, "%-16s ", name);
    const Intervention *before = s->model.intervention;
    float *there =
        vectors ? intervention_floats(s->model.ops, vectors, (size_t)s->model.config.L * s->model.config.C) : NULL;
    s->model.intervention = v;
    cJSON *made = experiment_made_with(s, &text, vectors, err);
    bool ok = made && benchmarks_answer(s, b, there, made, here.s, label.s, err) &&
              experiment_write(here.s, "variant.json", &text, err);
    cJSON_Delete(made);
    s->model.intervention = before;
    if (there) s->model.ops->release(there);
    str_free(&here);
    str_free(&text);
    str_free(&label);
    return ok;
}

// ----------------------------------------------------------------------------
// experiments that leave one object

// Before the work: may dir/file be written? Where it is there, it must have been made with what this call has. *out =
// its beginning, the key `made_with`; the caller goes on after it, and closes the brace.
bool experiment_result_begin(Str *out, Session *s, const char *dir, const char *file, Error *err) {
    cJSON *mine = made_with_data(s, CMD_EXPERIMENT, err), *old = NULL;
    char *path = model_path(dir, file), *text = mine ? cJSON_PrintUnformatted(mine) : NULL;
    bool ok = mine != NULL;
    if (ok && path_exists(path)) {
        old = json_load(path, err);
        ok = old && made_with_check(path, cJSON_GetObjectItemCaseSensitive(old, "made_with"), mine, MADE_ALIKE, err);
    }
    if (ok) str_printf(out, "{\"made_with\": %s, ", text);
    cJSON_free(text);
    cJSON_Delete(old);
    cJSON_Delete(mine);
    free(path);
    return ok;
}

#endif
