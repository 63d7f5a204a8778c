/*
A folder of results, temp_1.0_top_p_1.0/, as one or several calls fill it: what lies there already, and whether what is
to come may lie beside it.

    eval_seed-<k>/metrics.json        rows, one a line, each with what it was made with
    eval_seed-<k>/<benchmark>.partial answers of a benchmark that is not done (files/journal.h)

All of a folder is made alike but for seeds; each benchmark has its own data, generations and lengths.
*/
#ifndef LLMC_EVAL_RESULTS_H
#define LLMC_EVAL_RESULTS_H

#include "llmc/eval/made_with.h" // made_with_check
#include "llmc/files/journal.h"  // journal_made_with

typedef struct {
    char **lines;
    cJSON **rows;
    int n;
} ResultRows; // of one metrics.json: the text and the meaning of each row

void results_rows_free(ResultRows *r) {
    for (int i = 0; i < r->n; i++) {
        free(r->lines[i]);
        cJSON_Delete(r->rows[i]);
    }
    free(r->lines);
    free(r->rows);
    memset(r, 0, sizeof *r);
}

const char *results_name(const cJSON *row) {
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "benchmark"));
    return name ? name : "";
}

// The rows of dir/metrics.json, to the byte where each is a line as results_write has it; none if there is no such
// file. Free with results_rows_free, also after a failure.
bool results_read(ResultRows *r, const char *dir, Error *err) {
    memset(r, 0, sizeof *r);
    char *path = model_path(dir, "metrics.json"),
         *text = path_exists(path) ? read_file(path, NULL, err) : xstrdup("[]"), *rest = text;
    cJSON *all = text ? json_parse(text, strlen(text), path, err) : NULL;
    const int n = cJSON_GetArraySize(all);
    bool ok =
        all && (cJSON_IsArray(all) || fail(err, EXIT_RUN, "%s: found %s, expected a list of rows\n  -> move it away",
                                           path, json_type_name(all)));
    if (ok && n) {
        r->lines = (char **)xcalloc((size_t)n, sizeof(char *));
        r->rows = (cJSON **)xcalloc((size_t)n, sizeof(cJSON *));
    }
    for (; ok && r->n < n; r->n++) {
        char *line;
        do line = strsep(&rest, "\n");
        while (line && strncmp(line, "  {", 3) != 0);
        const size_t length = line ? strlen(line) : 0;
        if (line && line[length - 1] == ',') line[length - 1] = 0;
        r->rows[r->n] = cJSON_DetachItemFromArray(all, 0);
        cJSON *same = line ? cJSON_Parse(line) : NULL;
        char *anew = cJSON_PrintUnformatted(r->rows[r->n]);
        r->lines[r->n] = xstrdup(cJSON_Compare(same, r->rows[r->n], true) ? line + 2 : anew);
        cJSON_free(anew);
        cJSON_Delete(same);
    }
    cJSON_Delete(all);
    free(text);
    free(path);
    return ok;
}

// Writes dir/metrics.json: `row` (of the benchmark `name`) in the place of that benchmark's, or after all.
bool results_write(const char *dir, const ResultRows *r, const char *name, const char *row, Error *err) {
    Str text = {0};
    bool placed = false;
    for (int i = 0; i < r->n; i++) {
        const bool here = strcmp(results_name(r->rows[i]), name) == 0;
        if (!here || !placed) str_printf(&text, "%s  %s", text.n ? ",\n" : "[\n", here ? row : r->lines[i]);
        placed |= here;
    }
    if (!placed) str_printf(&text, "%s  %s", text.n ? ",\n" : "[\n", row);
    str_printf(&text, "\n]\n");
    char *path = model_path(dir, "metrics.json");
    const bool ok = write_file(path, text.s, text.n, err);
    free(path);
    str_free(&text);
    return ok;
}

// k of a folder called eval_seed-<k>, -1 for any other name.
long long results_seed(const char *name) {
    char *end;
    const long long seed =
        strncmp(name, "eval_seed-", 10) == 0 && name[10] >= '0' && name[10] <= '9' ? strtoll(name + 10, &end, 10) : -1;
    return seed >= 0 && *end == 0 ? seed : -1;
}

// One eval_seed folder: every row and every benchmark on its way against `mine`, of the benchmark `name`.
bool results_check_seed(const char *dir, const char *name, const cJSON *mine, int kind, Error *err) {
    ResultRows r;
    Str what = {0};
    bool ok = results_read(&r, dir, err);
    for (int i = 0; i < r.n && ok; i++) {
        const char *found = results_name(r.rows[i]);
        what.n = 0;
        str_printf(&what, "%s: %s", dir, found);
        ok = made_with_check(what.s, cJSON_GetObjectItemCaseSensitive(r.rows[i], "made_with"), mine,
                             strcmp(found, name) == 0 ? kind : kind | MADE_OTHER_BENCHMARK, err);
    }
    results_rows_free(&r);
    DIR *folder = ok ? opendir(dir) : NULL;
    for (struct dirent *e; folder && ok && (e = readdir(folder)) != NULL;) {
        const size_t n = strlen(e->d_name),
                     k = n > 8 && e->d_name[0] != '.' && strcmp(e->d_name + n - 8, ".partial") == 0 ? n - 8 : 0;
        if (!k) continue;
        what.n = 0;
        str_printf(&what, "%s/%s", dir, e->d_name);
        cJSON *found = journal_made_with(what.s);
        if (found)
            ok = made_with_check(
                what.s, found, mine,
                strlen(name) == k && strncmp(e->d_name, name, k) == 0 ? kind : kind | MADE_OTHER_BENCHMARK, err);
        cJSON_Delete(found);
    }
    if (folder) closedir(folder);
    str_free(&what);
    return ok;
}

// May the benchmark `name` of this seed, made with `mine`, lie in dir/eval_seed-<seed>? False and err if something
// there, or of another seed, was made otherwise.
bool results_check(const char *dir, int seed, const char *name, const cJSON *mine, Error *err) {
    DIR *folder = opendir(dir);
    bool ok = true;
    Str here = {0};
    for (struct dirent *e; folder && ok && (e = readdir(folder)) != NULL;) {
        const long long k = results_seed(e->d_name);
        if (k < 0) continue;
        here.n = 0;
        str_printf(&here, "%s/%s", dir, e->d_name);
        ok = results_check_seed(here.s, name, mine, k == seed ? MADE_ALIKE : MADE_OTHER_SEED, err);
    }
    if (folder) closedir(folder);
    str_free(&here);
    return ok;
}

#endif
