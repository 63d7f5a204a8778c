/*
Choosing problems from a data set: the first so many, the short ones, all but those that overlap an evaluation, and a
part held out for validation. Everything works in place; what leaves a set is freed.
*/
#ifndef LLMC_FILES_SELECT_H
#define LLMC_FILES_SELECT_H

#include "llmc/files/dataset.h" // Dataset, Problem, problem_free, problem_steps
#include "llmc/files/json.h"    // json_parse, json_get_string

// The data file's name without folder and ending: "data/gsm8k_train.jsonl,..." -> "gsm8k_train". Free with free().
char *dataset_stem(const char *paths) {
    char *first = xstrndup(paths, strcspn(paths, ","));
    char *name = path_basename(first);
    char *dot = strrchr(name, '.');
    if (dot && dot != name) *dot = 0;
    free(first);
    return name;
}

// Keeps the problems i with keep[i] != 0, in order.
void dataset_keep(Dataset *d, const bool *keep) {
    int n = 0;
    for (int i = 0; i < d->n; i++) {
        if (keep[i]) d->items[n++] = d->items[i];
        else problem_free(&d->items[i]);
    }
    d->n = n;
}

// Keeps the first n.
void dataset_truncate(Dataset *d, int n) {
    while (d->n > n) problem_free(&d->items[--d->n]);
}

// Keeps the problems whose solution has at most `steps` calculator marks <<...>>: a measure of difficulty that costs
// nothing.
void dataset_keep_short(Dataset *d, int steps) {
    bool *keep = (bool *)xmalloc((size_t)d->n * sizeof(bool));
    for (int i = 0; i < d->n; i++) keep[i] = problem_steps(&d->items[i]) <= steps;
    dataset_keep(d, keep);
    free(keep);
}

// Leaves out the problems whose id is the train_id of a line of the JSONL file `path` (overlap with an evaluation).
bool dataset_exclude(Dataset *d, const char *path, Error *err) {
    char *file = read_file(path, NULL, err);
    if (!file) return false;
    bool ok = true, *keep = (bool *)xmalloc((size_t)d->n * sizeof(bool));
    for (int i = 0; i < d->n; i++) keep[i] = true;
    int number = 0;
    for (char *rest = file, *line; ok && (line = strsep(&rest, "\n")) != NULL;) {
        number++;
        if (!*line) continue;
        char what[512];
        const char *id = NULL;
        snprintf(what, sizeof what, "%s:%d", path, number);
        cJSON *object = json_parse(line, strlen(line), what, err);
        ok = object && json_get_string(object, "train_id", &id, what, err);
        for (int i = 0; i < d->n && ok; i++)
            if (strcmp(d->items[i].id, id) == 0) keep[i] = false;
        cJSON_Delete(object);
    }
    if (ok) dataset_keep(d, keep);
    free(keep);
    free(file);
    return ok;
}

// Moves the n problems order[0 ... n-1] from d to `out`; both keep the order of the file.
void dataset_split(Dataset *d, Dataset *out, const int *order, int n) {
    bool *moves = (bool *)xcalloc((size_t)d->n, sizeof(bool));
    for (int i = 0; i < n; i++) moves[order[i]] = true;
    out->n = 0;
    out->items = (Problem *)xmalloc((size_t)n * sizeof(Problem));
    int kept = 0;
    for (int i = 0; i < d->n; i++) {
        if (moves[i]) out->items[out->n++] = d->items[i];
        else d->items[kept++] = d->items[i];
    }
    d->n = kept;
    free(moves);
}

#endif
