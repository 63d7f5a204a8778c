/*
Answering benchmarks: a list of problem files, answered once for each evaluation seed, with the accuracies and every
completion in a folder per seed. `eval_steer eval` does it once, an experiment once for each of its variants.

    <dir>/temp_1.0_top_p_1.0/eval_seed-<k>/metrics.json       one object a benchmark, with what it was made with
                                                              (made_with.h)
                                           <benchmark>.jsonl  every completion with its verdict
                                           <benchmark>.partial  the answers so far, while they are not all there
                                                                (files/journal.h)
                                           <benchmark>.tokens.jsonl  with save_tokens: its tokens and their log-probs
                                                                     with and without vectors
*/
#ifndef LLMC_EVAL_BENCHMARK_H
#define LLMC_EVAL_BENCHMARK_H

#include "llmc/eval/results.h" // results_check, results_write
#include "llmc/eval/session.h" // Session
#include "llmc/evaluate.h"     // evaluate, Evaluation, prompts_encode
#include "llmc/files/files.h"  // dataset_truncate, dataset_stem
#include "llmc/grpo.h"         // policy_pass

// One benchmark: a file of problems, and how it is answered.
typedef struct {
    char *path, *name, sha256[SHA256_HEX]; // of the file
    Dataset problems;
    IntVec *prompts;
    int G, max_new; // completions of each problem, most tokens of one
} Benchmark;

typedef struct {
    Benchmark *items;        // [n]
    int n, longest, max_new; // tokens of the longest prompt, of the longest completion
} Benchmarks;

// *value = N of `name=N` in a list of those; unchanged where the list has no such name. key: the option, for messages.
bool benchmark_number(int *value, const char *list, const char *name, const char *key, Error *err) {
    size_t length = strlen(name);
    for (const char *item = list; *item; item += strcspn(item, ","), item += *item == ',') {
        size_t n = strcspn(item, ",");
        const char *equals = (const char *)memchr(item, '=', n);
        char *end = NULL;
        long number = equals ? strtol(equals + 1, &end, 10) : 0;
        if (!equals || end != item + n || number < 1 || number > 1 << 20)
            return fail(err, EXIT_USAGE,
                        "%s: found \"%.*s\", expected NAME=N with N from 1 to 1048576\n  -> for example aime24=32", key,
                        (int)n, item);
        if ((size_t)(equals - item) == length && strncmp(item, name, length) == 0) *value = (int)number;
    }
    return true;
}

#define TOKENS_PASS_BYTES (0.5 * (1 << 30)) // of the pass of save_tokens

// The results of each go by its name: no two may share a file.
bool benchmarks_check_names(const Benchmarks *all, Error *err) {
    for (int i = 0; i < all->n; i++) {
        for (int k = 0; k < all->n; k++) {
            const Benchmark *a = &all->items[i], *b = &all->items[k];
            const size_t n = strlen(a->name);
            if (i != k && strncmp(b->name, a->name, n) == 0 && (b->name[n] == 0 || strcmp(b->name + n, ".tokens") == 0))
                return fail(err, EXIT_USAGE,
                            "data: %s and %s would both write %s.jsonl\n  -> give one of the files another name, or "
                            "evaluate them with "
                            "two --results_dir",
                            a->path, b->path, b->name);
        }
    }
    return true;
}

// What answering these takes, and what looking into the first one may: s->work, of which an experiment has set its own
// already.
static void benchmarks_plan(const Benchmarks *all, Session *s) {
    const Benchmark *first = &all->items[0];
    SessionWork *w = &s->work;
    w->slots = s->options.rollout_batch_size;
    w->cache_bytes = w->look ? 0 : s->options.cache_memory * (1 << 30);
    w->max_prompt = all->longest;
    w->max_new = all->max_new;
    w->for_tokens = true;
    w->longest = s->options.save_tokens && !w->look ? all->longest + all->max_new : 0;
    w->pass_bytes = TOKENS_PASS_BYTES;
    for (int i = 0; i < all->n; i++) {
        const Benchmark *b = &all->items[i];
        const double answers = (double)b->problems.n * (w->look ? 1 : b->G) * b->max_new;
        if (i > 0 && w->look) break;
        if (answers > w->answer_tokens) w->answer_tokens = answers;
        if (b->problems.n * b->G > w->samples) w->samples = b->problems.n * b->G;
    }
    w->pass_tokens = (double)w->samples * w->longest;
    for (int i = 0; i < first->problems.n; i++) {
        const int tokens = first->prompts[i].n + first->max_new;
        if (tokens > w->first_longest) w->first_longest = tokens;
        w->first_tokens += tokens;
    }
}

// Loads and encodes the files of --data; s->work: what answering them takes. Free with benchmarks_free (also after a
// failure).
bool benchmarks_load(Benchmarks *all, Session *s, Error *err) {
    const Options *o = &s->options;
    memset(all, 0, sizeof *all);
    if (!*o->data)
        return fail(err, EXIT_USAGE,
                    "data is missing: the problems to answer\n  -> --data FILE.jsonl,..., or a line `data: ...` in "
                    "--config FILE.yml");
    char *paths = xstrdup(o->data), *rest = paths;
    bool ok = true;
    for (char *path; ok && (path = strsep(&rest, ",")) != NULL;) {
        all->items = (Benchmark *)xrealloc(all->items, (size_t)(all->n + 1) * sizeof(Benchmark));
        Benchmark *b = &all->items[all->n++];
        memset(b, 0, sizeof *b);
        b->path = xstrdup(path);
        b->name = dataset_stem(path);
        b->G = o->num_generations;
        b->max_new = o->max_completion_length;
        int longest = 0;
        ok = benchmark_number(&b->G, o->benchmark_generations, b->name, "benchmark_generations", err) &&
             benchmark_number(&b->max_new, o->benchmark_lengths, b->name, "benchmark_lengths", err) &&
             dataset_load(&b->problems, path, err) && sha256_file(b->sha256, path, err);
        if (ok && o->limit > 0) dataset_truncate(&b->problems, o->limit);
        if (ok) answer_warn_unmatchable(&b->problems, path);
        ok =
            ok && prompts_encode(&b->prompts, &longest, s->tokenizer, &b->problems, o->prompt_template, o->system, err);
        if (longest > all->longest) all->longest = longest;
        if (b->max_new > all->max_new) all->max_new = b->max_new;
    }
    free(paths);
    if (ok) benchmarks_plan(all, s);
    return ok && benchmarks_check_names(all, err);
}

void benchmarks_free(Benchmarks *all) {
    for (int i = 0; i < all->n; i++) {
        free(all->items[i].path);
        free(all->items[i].name);
        prompts_free(all->items[i].prompts, all->items[i].problems.n);
        dataset_free(&all->items[i].problems);
    }
    free(all->items);
    memset(all, 0, sizeof *all);
}

// ----------------------------------------------------------------------------
// results

// metrics.json's object for one benchmark.
void benchmark_json(Str *out, const char *name, const Evaluation *e) {
    str_printf(out, "{\"benchmark\": ");
    json_add_string(out, name, strlen(name));
    str_printf(out,
               ", \"accuracy\": %.6g, \"ci_low\": %.6g, \"ci_high\": %.6g, \"format_rate\": %.6g, \"truncation_rate\": "
               "%.6g, \"formed_rate\": %.6g, "
               "\"accuracy_formed\": %.6g, \"mean_length\": %.6g, ",
               e->accuracy, e->low, e->high, e->format_rate, e->truncation_rate, e->formed_rate, e->accuracy_formed,
               e->mean_length);
    for (int i = 0; i < e->n_pass; i++) str_printf(out, "\"pass@%d\": %.6g, ", e->pass[i].k, e->pass[i].percent);
    str_printf(out, "\"n\": %d, \"num_generations\": %d, \"tokens\": %lld, \"seconds\": %.3f}", e->n, e->G, e->tokens,
               e->seconds);
}

// The figures of a row, as benchmark_json wrote them.
void benchmark_from_json(Evaluation *e, const cJSON *row) {
    const struct {
        const char *key;
        double *value;
    } numbers[] = {{"accuracy", &e->accuracy},
                   {"ci_low", &e->low},
                   {"ci_high", &e->high},
                   {"format_rate", &e->format_rate},
                   {"truncation_rate", &e->truncation_rate},
                   {"formed_rate", &e->formed_rate},
                   {"accuracy_formed", &e->accuracy_formed},
                   {"mean_length", &e->mean_length},
                   {"seconds", &e->seconds}};
    memset(e, 0, sizeof *e);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        *numbers[i].value = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(row, numbers[i].key));
    for (const cJSON *item = row->child; item && e->n_pass < 20; item = item->next) {
        if (strncmp(item->string, "pass@", 5) != 0) continue;
        e->pass[e->n_pass].k = atoi(item->string + 5);
        e->pass[e->n_pass++].percent = item->valuedouble;
    }
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(row, "n"),
                *G = cJSON_GetObjectItemCaseSensitive(row, "num_generations"),
                *tokens = cJSON_GetObjectItemCaseSensitive(row, "tokens");
    e->n = n ? n->valueint : 0;
    e->G = G ? G->valueint : 0;
    e->tokens = tokens ? (long long)tokens->valuedouble : 0;
}

// "/temp_1.0_top_p_1.0", appended.
void benchmark_decoding_dir(Str *dir, const Options *o) {
    char temperature[32], top_p[32];
    number_text(temperature, o->temperature);
    number_text(top_p, o->top_p);
    str_printf(dir, "/temp_%s%s_top_p_%s%s", temperature, strpbrk(temperature, ".e") ? "" : ".0", top_p,
               strpbrk(top_p, ".e") ? "" : ".0");
}

// save_tokens: every completion's tokens with their log-probs under what sampled it (`own`) and under the other model:
// the base model for completions of steered ones, the session's vectors for those of the base.
bool benchmark_tokens(const Session *s, const float *steering, const Benchmark *b, Completion *completions,
                      const char *path, Error *err) {
    const int n = b->problems.n * b->G;
    const float *other = steering ? NULL : s->steering;
    Qwen2 plain = s->model; // the other model has no intervention
    plain.intervention = NULL;
    PolicySample *samples = (PolicySample *)xcalloc((size_t)n, sizeof(PolicySample));
    int longest = 1;
    for (int i = 0; i < n; i++) {
        const IntVec *prompt = &b->prompts[i / b->G];
        samples[i].prompt = prompt->v;
        samples[i].P = prompt->n;
        samples[i].group = i / b->G;
        samples[i].completion = &completions[i];
        samples[i].logprob = (float *)xmalloc((size_t)completions[i].n * sizeof(float));
        if (prompt->n + completions[i].n > longest) longest = prompt->n + completions[i].n;
    }
    PolicyPass pass;
    PolicyStats stats;
    LossConfig loss_config = {0.2f, 0.2f, 0, s->options.temperature > 0 ? (float)s->options.temperature : 1, false, 0};
    memset(&stats, 0, sizeof stats);
    policy_alloc(&pass, &plain, TOKENS_PASS_BYTES, longest, plain.config.L, false);
    bool ok = policy_pass(&pass, &plain, other, samples, n, &loss_config, NULL, NULL, &stats, err);
    Str lines = {0}, text = {0};
    for (int i = 0; i < n; i++) {
        Completion *c = &completions[i];
        const char *id = b->problems.items[i / b->G].id;
        str_printf(&lines, "{\"id\": ");
        json_add_string(&lines, id, strlen(id));
        str_printf(&lines, ", \"sample\": %d, \"steered\": %s, \"tokens\": [", i % b->G, steering ? "true" : "false");
        for (int t = 0; t < c->n; t++) {
            text.n = 0;
            tokenizer_decode(s->tokenizer, &text, &c->ids[t], 1, false);
            str_printf(&lines, "%s", t ? ", " : "");
            json_add_string(&lines, text.s ? text.s : "", text.n);
        }
        str_printf(&lines, "], \"own\": [");
        for (int t = 0; t < c->n; t++) str_printf(&lines, "%s%.4g", t ? ", " : "", (double)c->logprob[t]);
        str_printf(&lines, "], \"other\": [");
        for (int t = 0; t < c->n; t++)
            str_printf(&lines, "%s%.4g", t ? ", " : "", ok ? (double)samples[i].logprob[t] : 0);
        str_printf(&lines, "]}\n");
        free(samples[i].logprob);
    }
    ok = ok && write_file(path, lines.s ? lines.s : "", lines.n, err);
    policy_free(&pass, &plain);
    str_free(&lines);
    str_free(&text);
    free(samples);
    return ok;
}

// What is made with `base` (made_with.h) of this benchmark and seed. Free with cJSON_Delete.
cJSON *benchmark_made_with(const cJSON *base, const Benchmark *b, int seed) {
    cJSON *m = cJSON_Duplicate(base, true);
    made_with_set(m, "data", cJSON_CreateString(b->path));
    made_with_set(m, "data_sha256", cJSON_CreateString(b->sha256));
    made_with_set(m, "num_generations", cJSON_CreateNumber(b->G));
    made_with_set(m, "max_completion_length", cJSON_CreateNumber(b->max_new));
    made_with_set(m, "seed", cJSON_CreateNumber(seed));
    return m;
}

char *benchmark_file(const char *dir, const Benchmark *b, const char *end) {
    Str path = {0};
    str_printf(&path, "%s/%s%s", dir, b->name, end);
    return path.s;
}

// Samples what the journal at `path` lacks and grades: *e, the lines for <benchmark>.jsonl, completions[n*G]. After a
// failure err says what is kept.
bool benchmark_sample(const Session *s, Rollout *r, const float *steering, const Benchmark *b, int seed,
                      const char *path, const char *made_with, bool logprobs, Evaluation *e, Str *lines,
                      Completion *completions, Error *err) {
    Sampling sampling = session_sampling(&s->options);
    Journal journal;
    Error why = {0, ""};
    double seconds = 0;
    sampling.seed = (uint32_t)seed;
    sampling.max_new = b->max_new;
    bool ok = journal_open(&journal, completions, path, b->problems.n, b->G, logprobs, b->max_new, s->model.config.V,
                           made_with, &why);
    if (ok && journal.count) {
        cJSON *found = journal_made_with(path), *mine = cJSON_Parse(made_with);
        Str differs = {0};
        made_with_differences(&differs, found, mine, MADE_ROUNDING);
        fprintf(stderr, "%s: going on from %d of %d problems%s%s%s\n", path, journal.count, b->problems.n,
                differs.n ? " (" : "", differs.n ? differs.s : "",
                differs.n ? ": the rest may be rounded otherwise)" : "");
        str_free(&differs);
        cJSON_Delete(found);
        cJSON_Delete(mine);
    }
    ok = ok && evaluate_sample(completions, &seconds, &journal, r, &s->model, steering, &b->problems, b->prompts, b->G,
                               &sampling, &why);
    if (ok) {
        evaluate_grade(e, lines, completions, s->tokenizer, &b->problems, b->G);
        e->seconds = seconds;
    } else if (stop_requested) {
        fail(err, 128 + stop_requested,
             "stopped: %d of %d problems of %s are answered and kept\n  -> the same call goes on from there",
             journal.count, b->problems.n, b->name);
    } else {
        fail(err, why.code, "%s\n  -> %d of %d problems of %s are answered and kept: the same call goes on from there",
             journal.failed.code ? journal.failed.text : why.text, journal.count, b->problems.n, b->name);
    }
    journal_close(&journal);
    return ok;
}

// One line of figures after `label`, or, with --json, of JSON.
void benchmark_print(const Options *o, const char *label, const Benchmark *b, const Evaluation *e) {
    Str summary = {0};
    benchmark_json(&summary, b->name, e);
    if (o->json) printf("%s\n", summary.s);
    else
        printf("%s%-16s %5.1f %%  [%.1f, %.1f]   boxed %5.1f %%   cut %5.1f %%   length %6.1f   %d problems x %d   "
               "%.0f tok/s\n",
               label, b->name, e->accuracy, e->low, e->high, e->format_rate, e->truncation_rate, e->mean_length, e->n,
               e->G, e->tokens / (e->seconds > 0 ? e->seconds : 1e-3));
    fflush(stdout);
    str_free(&summary);
}

// Answers one benchmark into the folder dir, which is locked: its completions first, then its row of metrics.json; the
// journal goes last.
bool benchmark_answer(const Session *s, Rollout *r, const float *steering, const Benchmark *b, int seed,
                      const char *dir, const ResultRows *rows, const cJSON *mine, Evaluation *e, Error *err) {
    const bool tokens = s->options.save_tokens && (steering || s->steering);
    Completion *completions = (Completion *)xcalloc((size_t)b->problems.n * b->G, sizeof(Completion));
    char *journal = benchmark_file(dir, b, ".partial"), *path = benchmark_file(dir, b, ".jsonl"),
         *tokens_path = benchmark_file(dir, b, ".tokens.jsonl");
    char *made = cJSON_PrintUnformatted(mine);
    Str lines = {0}, row = {0};
    bool ok = benchmark_sample(s, r, steering, b, seed, journal, made, tokens, e, &lines, completions, err);
    ok = ok && write_file(path, lines.s, lines.n, err) &&
         (!tokens || benchmark_tokens(s, steering, b, completions, tokens_path, err));
    if (ok) {
        benchmark_json(&row, b->name, e);
        row.n--; // its brace
        str_printf(&row, ", \"made_with\": %s}", made);
        ok = results_write(dir, rows, b->name, row.s, err);
    }
    if (ok && unlink(journal) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", journal, strerror(errno));
    for (int i = 0; i < b->problems.n * b->G; i++) completion_free(&completions[i]);
    free(completions);
    cJSON_free(made);
    free(journal);
    free(path);
    free(tokens_path);
    str_free(&lines);
    str_free(&row);
    return ok;
}

const cJSON *benchmark_row(const Benchmark *b, const ResultRows *rows) {
    for (int i = 0; i < rows->n; i++)
        if (strcmp(results_name(rows->rows[i]), b->name) == 0) return rows->rows[i];
    return NULL;
}

// Completions without a row of metrics.json and without a journal are not ours to replace.
bool benchmark_may_write(const Benchmark *b, const char *dir, const ResultRows *rows, Error *err) {
    char *journal = benchmark_file(dir, b, ".partial");
    const bool ours = benchmark_row(b, rows) || path_exists(journal);
    bool ok = true;
    for (int i = 0; i < 2 && ok && !ours; i++) {
        char *path = benchmark_file(dir, b, i ? ".tokens.jsonl" : ".jsonl");
        ok = !path_exists(path) || made_with_unknown(path, err);
        free(path);
    }
    free(journal);
    return ok;
}

// Is the benchmark answered already, with all that is asked for? `mine` may lie there (results_check). Then *e and
// true.
bool benchmark_kept(const Session *s, const float *steering, const Benchmark *b, const char *dir,
                    const ResultRows *rows, const cJSON *mine, const char *label, Evaluation *e) {
    char *path = benchmark_file(dir, b, ".jsonl"), *tokens = benchmark_file(dir, b, ".tokens.jsonl");
    bool kept = path_exists(path) && (!s->options.save_tokens || !(steering || s->steering) || path_exists(tokens));
    const cJSON *row = benchmark_row(b, rows);
    kept = kept && row;
    if (kept) {
        Str differs = {0};
        made_with_differences(&differs, cJSON_GetObjectItemCaseSensitive(row, "made_with"), mine, MADE_ROUNDING);
        fprintf(stderr, "%skept, not answered again: %s%s%s%s\n", label, path, differs.n ? " (" : "",
                differs.n ? differs.s : "", differs.n ? ": remove it to answer again)" : "");
        str_free(&differs);
        benchmark_from_json(e, row);
    }
    free(path);
    free(tokens);
    return kept;
}

// All benchmarks with one seed, into dir/eval_seed-<seed>; *accuracy: their mean.
bool benchmarks_answer_seed(const Session *s, Rollout *r, const Benchmarks *b, const float *steering, const cJSON *base,
                            const char *dir, int seed, const char *label, double *accuracy, Error *err) {
    Str here = {0};
    int lock = -1;
    str_printf(&here, "%s/eval_seed-%d", dir, seed);
    bool ok =
        make_dirs(here.s, err) && lock_dir(&lock, here.s, "answering", "choose another --results_dir or --seed", err);
    if (ok) remove_temporaries(here.s);
    for (int i = 0; i < b->n && ok; i++) {
        const Benchmark *one = &b->items[i];
        cJSON *mine = benchmark_made_with(base, one, seed);
        ResultRows rows;
        Evaluation e;
        ok = results_check(dir, seed, one->name, mine, err) && results_read(&rows, here.s, err);
        if (ok) {
            const bool kept = benchmark_kept(s, steering, one, here.s, &rows, mine, label, &e);
            ok = kept || (benchmark_may_write(one, here.s, &rows, err) &&
                          benchmark_answer(s, r, steering, one, seed, here.s, &rows, mine, &e, err));
            if (ok && !(kept && s->options.skip_done)) benchmark_print(&s->options, label, one, &e);
            if (ok) *accuracy += e.accuracy / b->n;
            results_rows_free(&rows);
        }
        cJSON_Delete(mine);
    }
    if (lock >= 0) close(lock);
    str_free(&here);
    return ok;
}

// Mean and population standard deviation over n seeds of the mean accuracy over benchmarks, as the papers' tables have
// it.
void benchmarks_print_seeds(const char *label, const double *accuracy, int n) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += accuracy[i];
    for (int i = 0; i < n; i++) squares += (accuracy[i] - sum / n) * (accuracy[i] - sum / n);
    printf("%s%-16s %5.1f +- %.1f %% over %d seeds\n", label, "mean", sum / n, sqrt(squares / n), n);
}

// Answers all benchmarks under `steering` (NULL: the base model) and the model's intervention, once for each seed, into
// dir/temp_.../eval_seed-<k>/. label stands in front of each printed line. base: what all of it is made with
// (made_with.h). What is answered already is kept, with skip_done without its figures; where something there was made
// otherwise nothing is answered at all.
bool benchmarks_answer(const Session *s, const Benchmarks *b, const float *steering, const cJSON *base, const char *dir,
                       const char *label, Error *err) {
    const Options *o = &s->options;
    const int n_seeds = o->seeds.n ? o->seeds.n : 1;
    double *accuracy = (double *)xcalloc((size_t)n_seeds, sizeof(double));
    Rollout r;
    Str here = {0};
    bool ok = true;
    str_printf(&here, "%s", dir);
    benchmark_decoding_dir(&here, o);
    for (int i = 0; i < n_seeds * b->n && ok; i++) { // before the first is answered
        const int seed = o->seeds.n ? o->seeds.v[i / b->n] : o->seed;
        cJSON *mine = benchmark_made_with(base, &b->items[i % b->n], seed);
        ok = results_check(here.s, seed, b->items[i % b->n].name, mine, err);
        cJSON_Delete(mine);
    }
    rollout_alloc(&r, &s->model, o->rollout_batch_size, o->cache_memory * (1 << 30), b->longest, b->max_new);
    for (int k = 0; k < n_seeds && ok; k++)
        ok = benchmarks_answer_seed(s, &r, b, steering, base, here.s, o->seeds.n ? o->seeds.v[k] : o->seed, label,
                                    &accuracy[k], err);
    if (ok && n_seeds > 1 && !o->json) benchmarks_print_seeds(label, accuracy, n_seeds);
    free(accuracy);
    str_free(&here);
    rollout_free(&r, &s->model);
    return ok;
}

#endif
