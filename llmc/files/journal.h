/*
Answers kept while a benchmark is being answered, so that nothing that was sampled is lost by Ctrl-C, a kill or a full
disk: <benchmark>.partial, which becomes <benchmark>.jsonl and goes when all are there.

    {"made_with": {...}}                                the settings that these answers belong to
    {"problem": 0, "seconds": 1.5, "completions": [{"ids": [...], "finished": true}, ...]}
                                                        all G of one problem; with save_tokens each with its "logprobs",
                                                        too

A line is appended when the last completion of a problem has ended, in the order in which they end. What is read back is
what was sampled, bit for bit. A line that was cut off, and what stands after it, is dropped and answered again.
*/
#ifndef LLMC_FILES_JOURNAL_H
#define LLMC_FILES_JOURNAL_H

#include "llmc/batch.h"       // Completion
#include "llmc/files/json.h"  // json_parse, json_get_*
#include "llmc/utils/utils.h" // Error, Str

typedef struct {
    FILE *f;
    char *path;
    bool *has;       // [n] problems whose completions are in it
    int n, G, count; // problems, completions of each, problems that it has
    bool logprobs;   // they are wanted, too
    double seconds;  // of all calls so far, up to the last line
    Error failed;    // the first line that could not be written
} Journal;

// ----------------------------------------------------------------------------
// reading

// One completion of a line. False: not as journal_add writes it.
bool journal_read_completion(Completion *c, const cJSON *o, bool with_logprobs, int max_new, int V) {
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(o, "ids"),
                *logprobs = cJSON_GetObjectItemCaseSensitive(o, "logprobs"),
                *finished = cJSON_GetObjectItemCaseSensitive(o, "finished");
    const int n = cJSON_GetArraySize(ids);
    if (!cJSON_IsArray(ids) || !cJSON_IsBool(finished) || n < 1 || n > max_new ||
        (with_logprobs && cJSON_GetArraySize(logprobs) != n))
        return false;
    c->ids = (int *)xmalloc((size_t)n * sizeof(int));
    c->logprob = (float *)xcalloc((size_t)n, sizeof(float));
    c->finished = cJSON_IsTrue(finished);
    const cJSON *id = ids->child, *logprob = with_logprobs ? logprobs->child : NULL;
    for (; id; id = id->next, c->n++) {
        if (!cJSON_IsNumber(id) || id->valueint < 0 || id->valueint >= V || (logprob && !cJSON_IsNumber(logprob)))
            return false;
        c->ids[c->n] = id->valueint;
        if (!logprob) continue;
        c->logprob[c->n] = (float)logprob->valuedouble;
        logprob = logprob->next;
    }
    return c->finished || n == max_new;
}

// A line into completions[n*G]. False: not one of ours, and nothing is kept of it.
bool journal_read_line(Journal *j, Completion *completions, const char *line, size_t length, int max_new, int V) {
    cJSON *o = cJSON_ParseWithLength(line, length);
    const cJSON *problem = cJSON_GetObjectItemCaseSensitive(o, "problem"),
                *seconds = cJSON_GetObjectItemCaseSensitive(o, "seconds"),
                *all = cJSON_GetObjectItemCaseSensitive(o, "completions");
    const int i = cJSON_IsNumber(problem) ? problem->valueint : -1;
    bool ok = i >= 0 && i < j->n && !j->has[i] && cJSON_IsNumber(seconds) && cJSON_IsArray(all) &&
              cJSON_GetArraySize(all) == j->G;
    int g = 0;
    for (const cJSON *c = ok ? all->child : NULL; c && ok; c = c->next)
        ok = journal_read_completion(&completions[(size_t)i * j->G + g++], c, j->logprobs, max_new, V);
    if (ok) {
        j->has[i] = true;
        j->count++;
        j->seconds = seconds->valuedouble;
    } else
        while (g > 0) completion_free(&completions[(size_t)i * j->G + --g]);
    cJSON_Delete(o);
    return ok;
}

// What the journal at path was made with. NULL: there is none, or it holds no answer yet. Free with cJSON_Delete.
cJSON *journal_made_with(const char *path) {
    size_t n = 0;
    char *text = path_exists(path) ? read_file(path, &n, NULL) : NULL;
    char *end = text ? (char *)memchr(text, '\n', n) : NULL;
    cJSON *first = end && memchr(end + 1, '\n', n - (size_t)(end + 1 - text))
                       ? cJSON_ParseWithLength(text, (size_t)(end - text))
                       : NULL;
    cJSON *made_with = cJSON_DetachItemFromObjectCaseSensitive(first, "made_with");
    cJSON_Delete(first);
    free(text);
    return made_with;
}

// ----------------------------------------------------------------------------
// opening, adding

void journal_close(Journal *j) {
    if (j->f) fclose(j->f); // what was written is in it already
    free(j->path);
    free(j->has);
    memset(j, 0, sizeof *j);
}

// Opens the journal of n problems, G completions of each, for appending, and reads what it has into completions[n*G]
// (zeroed; each to be freed by the caller). made_with, JSON: what journal_made_with found, if it found something, must
// mean the same; else the journal begins anew with it. Close with journal_close, also after a failure.
bool journal_open(Journal *j, Completion *completions, const char *path, int n, int G, bool logprobs, int max_new,
                  int V, const char *made_with, Error *err) {
    memset(j, 0, sizeof *j);
    j->path = xstrdup(path);
    j->n = n;
    j->G = G;
    j->logprobs = logprobs;
    j->has = (bool *)xcalloc((size_t)n, sizeof(bool));
    cJSON *found = journal_made_with(path);
    if (!found) {
        Str head = {0};
        str_printf(&head, "{\"made_with\": %s}\n", made_with);
        bool ok = write_file(path, head.s, head.n, err);
        str_free(&head);
        if (!ok) return false;
    }
    cJSON_Delete(found);
    size_t bytes = 0;
    char *text = read_file(path, &bytes, err);
    if (!text) return false;
    char *line = (char *)memchr(text, '\n', bytes), *end;
    for (line = line ? line + 1 : text; (end = (char *)memchr(line, '\n', (size_t)(text + bytes - line))) != NULL;
         line = end + 1)
        if (!journal_read_line(j, completions, line, (size_t)(end - line), max_new, V)) break;
    const off_t good = line - text;
    if (end)
        warn("%s: what stands after byte %lld is damaged or lacks log-probs: it is answered again", path,
             (long long)good);
    free(text);
    j->f = fopen(path, "ab");
    if (j->f && ftruncate(fileno(j->f), good) == 0) return true;
    return fail(err, EXIT_RUN, "cannot open %s for appending: %s", path, strerror(errno));
}

// Appends problem i with its G completions. After a failure nothing more is added, and j->failed says why.
bool journal_add(Journal *j, int i, const Completion *c, double seconds) {
    if (j->failed.code) return false;
    Str line = {0};
    str_printf(&line, "{\"problem\": %d, \"seconds\": %.3f, \"completions\": [", i, seconds);
    for (int g = 0; g < j->G; g++) {
        str_printf(&line, "%s{\"ids\": [", g ? ", " : "");
        for (int t = 0; t < c[g].n; t++) str_printf(&line, "%s%d", t ? ", " : "", c[g].ids[t]);
        if (j->logprobs) str_printf(&line, "], \"logprobs\": [");
        for (int t = 0; t < c[g].n && j->logprobs; t++)
            str_printf(&line, "%s%.9g", t ? ", " : "", (double)c[g].logprob[t]);
        str_printf(&line, "], \"finished\": %s}", c[g].finished ? "true" : "false");
    }
    str_printf(&line, "]}\n");
    const bool ok = fwrite(line.s, 1, line.n, j->f) == line.n && fflush(j->f) == 0;
    str_free(&line);
    if (!ok) return fail(&j->failed, EXIT_RUN, "cannot append to %s: %s\n  -> free the disk", j->path, strerror(errno));
    j->has[i] = true;
    j->count++;
    return true;
}

#endif
