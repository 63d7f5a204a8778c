/*
Problems from JSON Lines files: one object a line with non-empty strings `problem` and `answer`; `id` and `source` (file
name and line where absent), `solution`, `alt` (further right answers), `multiple` (a comma-separated list, any order)
and `error` (absolute tolerance) are optional, other keys are ignored.
*/
#ifndef LLMC_FILES_DATASET_H
#define LLMC_FILES_DATASET_H

#include "llmc/files/json.h"  // json_parse, json_get_*
#include "llmc/utils/utils.h" // Error, Str, read_file

typedef struct {
    char *id, *problem, *answer, *source;
    char *solution; // "" if the source has none
    char **alt;     // [n_alt] other answers to accept
    int n_alt;
    bool multiple;
    double error;
} Problem;

typedef struct {
    Problem *items; // [n]
    int n;
} Dataset;

// ----------------------------------------------------------------------------
// loading

void problem_free(Problem *p) {
    for (int i = 0; i < p->n_alt; i++) free(p->alt[i]);
    free(p->alt);
    free(p->id);
    free(p->problem);
    free(p->answer);
    free(p->source);
    free(p->solution);
    memset(p, 0, sizeof *p);
}

void dataset_free(Dataset *d) {
    for (int i = 0; i < d->n; i++) problem_free(&d->items[i]);
    free(d->items);
    memset(d, 0, sizeof *d);
}

bool problem_is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == 0; }

// A string of the line, copied; `otherwise` where it is absent (NULL: an error). Blank is always an error.
bool problem_string(const cJSON *o, const char *key, const char *otherwise, char **copy, const char *where,
                    Error *err) {
    const char *s = otherwise;
    if ((!s || json_has(o, key)) && !json_get_string(o, key, &s, where, err)) return false;
    if (s != otherwise && problem_is_blank(s))
        return fail(err, EXIT_RUN, "%s: key \"%s\" is empty\n  -> correct or remove the line", where, key);
    *copy = xstrdup(s);
    return true;
}

bool problem_parse(Problem *p, const cJSON *o, const char *where, const char *file, Error *err) {
    if (!problem_string(o, "problem", NULL, &p->problem, where, err) ||
        !problem_string(o, "answer", NULL, &p->answer, where, err) ||
        !problem_string(o, "id", where, &p->id, where, err) ||
        !problem_string(o, "source", file, &p->source, where, err) ||
        !problem_string(o, "solution", "", &p->solution, where, err))
        return false;
    if (json_has(o, "multiple") && !json_get_bool(o, "multiple", &p->multiple, where, err)) return false;
    const cJSON *error = json_find(o, "error"); // OlympiadBench writes it as a string
    char *end = NULL;
    if (cJSON_IsString(error)) p->error = strtod(error->valuestring, &end);
    else if (error && !json_get_double(o, "error", &p->error, where, err)) return false;
    if (end && (*end || end == error->valuestring))
        return fail(err, EXIT_RUN, "%s: key \"error\": found \"%.60s\", expected a number", where, error->valuestring);
    if (!(p->error >= 0 && p->error < HUGE_VAL))
        return fail(err, EXIT_RUN, "%s: key \"error\": found %g, expected a finite tolerance of 0 or more", where,
                    p->error);
    if (!json_has(o, "alt")) return true;
    const cJSON *alt = json_get_array(o, "alt", where, err);
    if (!alt) return false;
    p->alt = (char **)xcalloc((size_t)cJSON_GetArraySize(alt), sizeof(char *));
    for (const cJSON *item = alt->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return fail(err, EXIT_RUN, "%s: key \"alt\": found %s in it, expected strings", where,
                        json_type_name(item));
        p->alt[p->n_alt++] = xstrdup(item->valuestring);
    }
    return true;
}

bool dataset_load_file(Dataset *d, const char *path, Error *err) {
    size_t n;
    char *text = read_file(path, &n, err);
    if (!text) return false;
    char *file = path_basename(path);
    int before = d->n, cap = d->n, line = 0;
    bool ok = true;
    for (size_t i = 0; i < n && ok;) {
        const char *start = text + i, *newline = (const char *)memchr(start, '\n', n - i);
        size_t length = newline ? (size_t)(newline - start) : n - i;
        i += length + 1;
        line++;
        size_t k = 0;
        while (k < length && (start[k] == ' ' || start[k] == '\t' || start[k] == '\r')) k++;
        if (k == length) continue;
        char where[512];
        snprintf(where, sizeof where, "%.480s:%d", path, line);
        cJSON *o = json_parse(start, length, where, err);
        if (o) {
            if (d->n == cap) {
                cap = cap ? 2 * cap : 256;
                d->items = (Problem *)xrealloc(d->items, (size_t)cap * sizeof(Problem));
            }
            Problem *p = &d->items[d->n++];
            memset(p, 0, sizeof *p);
            ok = problem_parse(p, o, where, file, err);
        } else ok = false;
        cJSON_Delete(o);
    }
    if (ok && d->n == before)
        ok = fail(err, EXIT_RUN,
                  "%s: no problems in it\n  -> expected one JSON object a line with \"problem\" and \"answer\"", path);
    free(file);
    free(text);
    return ok;
}

// Loads one or several files (comma-separated) one after the other. On failure err names file, line and key, and *d is
// empty.
bool dataset_load(Dataset *d, const char *paths, Error *err) {
    memset(d, 0, sizeof *d);
    for (const char *p = paths;;) {
        size_t n = strcspn(p, ",");
        char *path = xstrndup(p, n);
        bool ok = n > 0 ? dataset_load_file(d, path, err)
                        : fail(err, EXIT_USAGE,
                               "found an empty file name in the data files \"%.200s\", expected FILE.jsonl,...", paths);
        free(path);
        if (!ok) {
            dataset_free(d);
            return false;
        }
        if (p[n] == 0) return true;
        p += n + 1;
    }
}

// ----------------------------------------------------------------------------
// what is asked of problems

// Number of calculator marks <<a*b=c>> in a GSM8K solution: a measure of its difficulty.
int problem_steps(const Problem *p) {
    int count = 0;
    for (const char *s = p->solution; (s = strstr(s, "<<")) != NULL; count++) {
        s = strstr(s, ">>");
        if (!s) break;
    }
    return count;
}

typedef struct {
    char *text;
    int index;
} DatasetKey; // letters and digits of a problem, lower case

int dataset_compare_keys(const void *a, const void *b) {
    const DatasetKey *x = (const DatasetKey *)a, *y = (const DatasetKey *)b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

char *dataset_key(const char *s) {
    char *key = (char *)xmalloc(strlen(s) + 1), *k = key;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 'A' && c <= 'Z') *k++ = (char)(c + 32);
        else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80)
            *k++ = (char)c; // other scripts stay as they are
    }
    *k = 0;
    return key;
}

// How many training problems are also evaluation problems, by their letters and digits; the indices of the first such
// pair in *first_train, *first_eval (each may be NULL; unchanged if there is none).
int dataset_overlap(const Dataset *train, const Dataset *eval, int *first_train, int *first_eval) {
    DatasetKey *keys = (DatasetKey *)xmalloc((size_t)eval->n * sizeof(DatasetKey));
    for (int i = 0; i < eval->n; i++) {
        keys[i].text = dataset_key(eval->items[i].problem);
        keys[i].index = i;
    }
    qsort(keys, (size_t)eval->n, sizeof(DatasetKey), dataset_compare_keys);
    int count = 0;
    for (int i = 0; i < train->n; i++) {
        char *text = dataset_key(train->items[i].problem);
        int low = 0, high = eval->n; // the first key that is not smaller
        while (low < high) {
            int middle = low + (high - low) / 2;
            if (strcmp(keys[middle].text, text) < 0) low = middle + 1;
            else high = middle;
        }
        if (text[0] && low < eval->n && strcmp(keys[low].text, text) == 0 && count++ == 0) {
            if (first_train) *first_train = i;
            if (first_eval) *first_eval = keys[low].index;
        }
        free(text);
    }
    for (int i = 0; i < eval->n; i++) free(keys[i].text);
    free(keys);
    return count;
}

#endif
