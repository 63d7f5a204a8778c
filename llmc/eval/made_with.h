/*
What a result was made with: an object in it, `made_with`, with every option that can change it and the SHA-256 of the
model, the vectors and the data. Results that were not made alike are never put in each other's place, nor side by side
without a word.

    "made_with": {"model": "data/tiny/model", "limit": 0, "temperature": 1, ..., "model_sha256": "...",
    "vectors_sha256": "...",
                  "data_sha256": "...", "isa": "amx", "program_sha256": "..."}

Compared is all but where files lie (the hashes say what they hold), the instruction set and the program: these round
otherwise or may, so a difference there is named, and no more.
*/
#ifndef LLMC_EVAL_MADE_WITH_H
#define LLMC_EVAL_MADE_WITH_H

#include "llmc/eval/session.h" // Session
#include "llmc/files/files.h"  // sha256_file, sha256_folder

// Options that say where things go, how many results a call makes or how fast it is: none of these depends on them. Of
// the last two each benchmark has its own.
static const char *const made_with_left_out[] = {"config",
                                                 "results_dir",
                                                 "model_name",
                                                 "dataset_name",
                                                 "seeds",
                                                 "rollout_batch_size",
                                                 "activation_memory",
                                                 "cache_memory",
                                                 "json",
                                                 "skip_done",
                                                 "save_tokens",
                                                 "variants",
                                                 "benchmark_generations",
                                                 "benchmark_lengths"};
static const char *const made_with_paths[] = {"model",          "data",    "checkpoint", "steering",
                                              "place_steering", "adapter", "recipients", "donors"};
static const char *const made_with_rounding[] = {"isa", "program_sha256"};
// what each benchmark has of its own
static const char *const made_with_benchmark[] = {"data", "data_sha256", "num_generations", "max_completion_length"};

#define MADE_WITH_HAS(list, key) made_with_has(list, (int)(sizeof(list) / sizeof *(list)), key)
static bool made_with_has(const char *const *list, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}

// An option's value as JSON. Free with cJSON_Delete.
cJSON *made_with_value(const Options *o, const OptionRow *row) {
    const void *field = (const char *)o + row->offset;
    switch (row->type) {
    case OPTION_INT: return cJSON_CreateNumber(*(const int *)field);
    case OPTION_REAL: return cJSON_CreateNumber(*(const double *)field);
    case OPTION_FLAG: return cJSON_CreateBool(*(const bool *)field);
    case OPTION_INTS: return cJSON_CreateIntArray(((const IntList *)field)->v, ((const IntList *)field)->n);
    default: return cJSON_CreateString(*(const char *const *)field);
    }
}

// The default of an option, as JSON; NULL if there is no such option or it must be given.
cJSON *made_with_preset(const char *key) {
    Options o;
    cJSON *value = NULL;
    memset(&o, 0, sizeof o);
    for (int i = 0; i < OPTIONS_ROWS && !value; i++) {
        const char *preset = options_preset(&options_table[i], CMD_EVAL);
        if (options_table[i].type == OPTION_GROUP || strcmp(options_table[i].key, key) != 0 || !preset) continue;
        if (options_set(&o, &options_table[i], preset, "default", NULL)) value = made_with_value(&o, &options_table[i]);
    }
    options_free(&o);
    return value;
}

// ----------------------------------------------------------------------------
// hashes

// Of a GGUF file; of one in several parts that of their hashes, in order.
bool made_with_hash_gguf(char hex[SHA256_HEX], const char *path, Error *err) {
    Gguf *all;
    int n;
    Str lines = {0};
    if (!gguf_open_all(&all, &n, path, err)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        ok = sha256_file(hex, all[i].tensors.path, err);
        str_printf(&lines, "%s\n", hex);
    }
    if (n > 1) sha256_bytes(hex, lines.s, lines.n);
    str_free(&lines);
    gguf_close_all(all, n);
    return ok;
}

// Adds `key` = the hash of a file or a folder; of a checkpoint's folder that of its vectors, which is that of the file
// alone.
bool made_with_hash(cJSON *to, const char *key, const char *path, Error *err) {
    char hex[SHA256_HEX];
    struct stat info;
    const bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode),
               whole = folder && (model_is_folder(path) || peft_is_folder(path));
    char *file = folder && !whole ? model_path(path, "steering_vectors.safetensors") : xstrdup(path);
    const bool ok = whole                ? sha256_folder(hex, file, err)
                    : gguf_is_file(file) ? made_with_hash_gguf(hex, file, err)
                                         : sha256_file(hex, file, err);
    if (ok) cJSON_AddStringToObject(to, key, hex);
    free(file);
    return ok;
}

// The hashes of a session, made once: of the model, the vectors, the running program (where the system says which file
// that is).
bool made_with_hashes(Session *s, Error *err) {
    const Options *o = &s->options;
    if (s->hashes) return true;
    cJSON *h = cJSON_CreateObject();
    const struct {
        const char *key, *path;
    } all[] = {{"model_sha256", o->model},
               {"vectors_sha256", *o->steering ? o->steering : o->checkpoint},
               {"place_steering_sha256", o->place_steering},
               {"adapter_sha256", o->adapter}};
    bool ok = true;
    for (int i = 0; i < 4 && ok; i++)
        if (*all[i].path) ok = made_with_hash(h, all[i].key, all[i].path, err);
    char hex[SHA256_HEX];
    cJSON_AddStringToObject(h, "isa", s->model.ops->isa);
    if (sha256_file(hex, "/proc/self/exe", NULL)) cJSON_AddStringToObject(h, "program_sha256", hex);
    if (ok) s->hashes = h;
    else cJSON_Delete(h);
    return ok;
}

// ----------------------------------------------------------------------------
// the object

// Everything that a session's results are made with but for the data: the options that `cmd` knows, then the hashes.
// NULL and err on failure. Free with cJSON_Delete.
cJSON *made_with(Session *s, Command cmd, Error *err) {
    if (!made_with_hashes(s, err)) return NULL;
    cJSON *m = cJSON_CreateObject();
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP || !(row->commands & cmd) || MADE_WITH_HAS(made_with_left_out, row->key))
            continue;
        cJSON_AddItemToObject(m, row->key, made_with_value(&s->options, row));
    }
    for (const cJSON *h = s->hashes->child; h; h = h->next)
        cJSON_AddItemToObject(m, h->string, cJSON_Duplicate(h, true));
    return m;
}

// With the hashes of all files of --data, in order.
cJSON *made_with_data(Session *s, Command cmd, Error *err) {
    cJSON *m = made_with(s, cmd, err),
          *hashes = m && *s->options.data ? cJSON_AddArrayToObject(m, "data_sha256") : NULL;
    char *paths = xstrdup(s->options.data), *rest = paths, hex[SHA256_HEX];
    bool ok = m != NULL;
    for (char *path; hashes && ok && (path = strsep(&rest, ",")) != NULL;) {
        ok = sha256_file(hex, path, err);
        cJSON_AddItemToArray(hashes, cJSON_CreateString(hex));
    }
    free(paths);
    if (ok) return m;
    cJSON_Delete(m);
    return NULL;
}

// Replaces what is under key, or adds it.
void made_with_set(cJSON *m, const char *key, cJSON *value) {
    cJSON_DeleteItemFromObjectCaseSensitive(m, key);
    cJSON_AddItemToObject(m, key, value);
}

// ----------------------------------------------------------------------------
// comparing

typedef enum {
    MADE_ALIKE = 0,
    MADE_OTHER_BENCHMARK = 1,
    MADE_OTHER_SEED = 2,
    MADE_ROUNDING = 4
} MadeKind; // bits: what may differ; ROUNDING: that alone is asked

void made_with_difference(Str *out, const char *key, const cJSON *found, const cJSON *mine, int kind) {
    const bool rounding = MADE_WITH_HAS(made_with_rounding, key);
    if (MADE_WITH_HAS(made_with_paths, key) || rounding != (kind == MADE_ROUNDING)) return;
    if ((kind & MADE_OTHER_BENCHMARK) && MADE_WITH_HAS(made_with_benchmark, key)) return;
    if ((kind & MADE_OTHER_SEED) && strcmp(key, "seed") == 0) return;
    cJSON *preset =
        !found || !mine ? made_with_preset(key) : NULL; // an option that one of the two programs did not have yet
    if (!cJSON_Compare(found ? found : preset, mine ? mine : preset, true)) {
        char *a = found ? cJSON_PrintUnformatted(found) : xstrdup("nothing"),
             *b = mine ? cJSON_PrintUnformatted(mine) : xstrdup("nothing");
        const int long_enough = strstr(key, "_sha256") ? 13 : 60; // of a hash its beginning tells two apart
        str_printf(out, "%s%s: found %.*s, this call has %.*s", out->n ? "; " : "", key, long_enough, a, long_enough,
                   b);
        free(a);
        free(b);
    }
    cJSON_Delete(preset);
}

// Appends "limit: found 30, this call has 10; ...": what differs between what was found and `mine`, as far as `kind`
// asks. Nothing: made alike.
void made_with_differences(Str *out, const cJSON *found, const cJSON *mine, int kind) {
    for (const cJSON *m = mine->child; m; m = m->next)
        made_with_difference(out, m->string, cJSON_GetObjectItemCaseSensitive(found, m->string), m, kind);
    for (const cJSON *f = found ? found->child : NULL; f; f = f->next)
        if (f->string && !cJSON_GetObjectItemCaseSensitive(mine, f->string))
            made_with_difference(out, f->string, f, NULL, kind);
}

// For what stands at the path `what` and does not say what it was made with. Always false, with err.
bool made_with_unknown(const char *what, Error *err) {
    return fail(err, EXIT_RUN,
                "%s is there and does not say what it was made with (an earlier version wrote it, or another program)\n"
                "  -> another --results_dir, or move it away",
                what);
}

// Appends a --results_dir for what differs from `found`, as "results_limit_10" beside "results": the folder of `what`,
// the option, its value. Nothing where the folder or the value is none to put into a name.
static void made_with_folder(Str *out, const char *what, const cJSON *found, const cJSON *mine, int kind) {
    const char *end = NULL, *folders[] = {"/eval/", "/experiments/"};
    for (int i = 0; i < 2; i++)
        for (const char *at = what; (at = strstr(at, folders[i])) != NULL; at++)
            if (!end || at > end) end = at;
    for (const cJSON *m = mine->child; m && end; m = m->next) {
        Str differs = {0};
        made_with_difference(&differs, m->string, cJSON_GetObjectItemCaseSensitive(found, m->string), m, kind);
        const bool here = differs.n > 0;
        str_free(&differs);
        if (!here) continue; // the first that does
        char *json = cJSON_PrintUnformatted(m), *value = *json == '"' ? json + 1 : json;
        value[strcspn(value, "\"")] = 0;
        if (strstr(m->string, "_sha256") && strlen(value) > 8) value[8] = 0;
        if (*value && !strchr(value, '/')) str_printf(out, "%.*s_%s_%s", (int)(end - what), what, m->string, value);
        cJSON_free(json);
        break;
    }
    const char *plain = "/0123456789.-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"; // needs no quotes
    if (out->n > 200 || (out->n && strspn(out->s, plain) < out->n)) str_free(out);
}

// What stands at `what` (a path, perhaps with a benchmark) was made with `found` (NULL: it does not say): false and err
// unless that is like `mine`.
bool made_with_check(const char *what, const cJSON *found, const cJSON *mine, int kind, Error *err) {
    if (!cJSON_IsObject(found)) return made_with_unknown(what, err);
    Str differs = {0}, folder = {0};
    made_with_differences(&differs, found, mine, kind);
    if (differs.n) {
        made_with_folder(&folder, what, found, mine, kind);
        fail(err, EXIT_RUN,
             "%s was made with other settings: %.1200s\n"
             "  -> %s%.300s keeps both; or the same settings; or move it away",
             what, differs.s, folder.n ? "--results_dir " : "another --results_dir", folder.n ? folder.s : "");
    }
    const bool ok = differs.n == 0;
    str_free(&differs);
    str_free(&folder);
    return ok;
}

#endif
