/*
Answering benchmarks: a list of problem files, answered once for each evaluation seed, with the accuracies and every completion
in a folder per seed. `eval_steer eval` does it once, an experiment once for each of its variants.

    <dir>/temp_1.0_top_p_1.0/eval_seed-<k>/metrics.json       one object a benchmark
                                           <benchmark>.jsonl  every completion with its verdict
                                           <benchmark>.tokens.jsonl  with save_tokens: its tokens and their log-probs with and without vectors
*/
#ifndef LLMC_BENCHMARK_H
#define LLMC_BENCHMARK_H

#include "evaluate.h" // evaluate, Evaluation, prompts_encode
#include "grpo.h"     // policy_pass
#include "select.h"   // dataset_truncate, dataset_stem
#include "session.h"  // Session

// One benchmark: a file of problems, and how it is answered.
typedef struct {
    char *path, *name;
    Dataset problems;
    IntVec *prompts;
    int G, max_new; // completions of each problem, most tokens of one
} Benchmark;

typedef struct {
    Benchmark *items; // [n]
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
            return fail(err, EXIT_USAGE, "%s: found \"%.*s\", expected NAME=N with N from 1 to 1048576\n  -> for example aime24=32", key, (int)n, item);
        if ((size_t)(equals - item) == length && strncmp(item, name, length) == 0) *value = (int)number;
    }
    return true;
}

// Loads and encodes the files of --data. Free with benchmarks_free (also after a failure).
bool benchmarks_load(Benchmarks *all, const Session *s, Error *err) {
    const Options *o = &s->options;
    memset(all, 0, sizeof *all);
    if (!*o->data) return fail(err, EXIT_USAGE, "data is missing: the problems to answer\n  -> --data FILE.jsonl,..., or a line `data: ...` in --config FILE.yml");
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
             benchmark_number(&b->max_new, o->benchmark_lengths, b->name, "benchmark_lengths", err) && dataset_load(&b->problems, path, err);
        if (ok && o->limit > 0) dataset_truncate(&b->problems, o->limit);
        if (ok) answer_warn_unmatchable(&b->problems, path);
        ok = ok && prompts_encode(&b->prompts, &longest, s->tokenizer, &b->problems, o->prompt_template, o->system, err);
        if (longest > all->longest) all->longest = longest;
        if (b->max_new > all->max_new) all->max_new = b->max_new;
    }
    free(paths);
    return ok;
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
    str_printf(out, ", \"accuracy\": %.6g, \"ci_low\": %.6g, \"ci_high\": %.6g, \"format_rate\": %.6g, \"truncation_rate\": %.6g, \"formed_rate\": %.6g, "
                    "\"accuracy_formed\": %.6g, \"mean_length\": %.6g, ", e->accuracy, e->low, e->high, e->format_rate, e->truncation_rate, e->formed_rate,
               e->accuracy_formed, e->mean_length);
    for (int i = 0; i < e->n_pass; i++) str_printf(out, "\"pass@%d\": %.6g, ", e->pass[i].k, e->pass[i].percent);
    str_printf(out, "\"n\": %d, \"num_generations\": %d, \"tokens\": %lld, \"seconds\": %.1f}", e->n, e->G, e->tokens, e->seconds);
}

// Appends what metrics.json at `path` says of benchmarks other than these, so that one evaluated later does not drop it.
void benchmarks_keep_others(Str *all, const char *path, const Benchmarks *b) {
    char *text = path_exists(path) ? read_file(path, NULL, NULL) : NULL;
    cJSON *old = text ? cJSON_Parse(text) : NULL; // not JSON: it is replaced
    for (const cJSON *item = cJSON_IsArray(old) ? old->child : NULL; item; item = item->next) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "benchmark"));
        bool again = name == NULL;
        for (int i = 0; i < b->n && !again; i++) again = strcmp(b->items[i].name, name) == 0;
        char *line = again ? NULL : cJSON_PrintUnformatted(item);
        if (line) str_printf(all, ",\n  %s", line);
        cJSON_free(line);
    }
    cJSON_Delete(old);
    free(text);
}

// "temp_1.0_top_p_1.0/eval_seed-0", appended.
void benchmark_seed_dir(Str *dir, const Options *o, int seed) {
    char temperature[32], top_p[32];
    number_text(temperature, o->temperature);
    number_text(top_p, o->top_p);
    str_printf(dir, "/temp_%s%s_top_p_%s%s/eval_seed-%d", temperature, strpbrk(temperature, ".e") ? "" : ".0", top_p, strpbrk(top_p, ".e") ? "" : ".0", seed);
}

// save_tokens: every completion's tokens with their log-probs under what sampled it (`own`) and under the other model: the base model for
// completions of steered ones, the session's vectors for those of the base. Frees the completions.
bool benchmark_tokens(const Session *s, const float *steering, const Benchmark *b, Completion *completions, const char *path, Error *err) {
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
    LossConfig how = {0.2f, 0.2f, 0, s->options.temperature > 0 ? (float)s->options.temperature : 1, false};
    memset(&stats, 0, sizeof stats);
    policy_alloc(&pass, &plain, 0.5 * (1 << 30), longest, plain.config.L, false);
    bool ok = policy_pass(&pass, &plain, other, samples, n, &how, NULL, NULL, &stats, err);
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
        for (int t = 0; t < c->n; t++) str_printf(&lines, "%s%.4g", t ? ", " : "", ok ? (double)samples[i].logprob[t] : 0);
        str_printf(&lines, "]}\n");
        free(samples[i].logprob);
        completion_free(c);
    }
    ok = ok && write_file(path, lines.s ? lines.s : "", lines.n, err);
    policy_free(&pass, &plain);
    str_free(&lines);
    str_free(&text);
    free(samples);
    free(completions);
    return ok;
}

// Answers one benchmark and writes its completions; its metrics are appended to `all` and printed behind `label`.
bool benchmark_answer(const Session *s, Rollout *r, const float *steering, const Benchmark *b, int seed, const char *label, const char *dir, Evaluation *e,
                      Str *all, Error *err) {
    const Options *o = &s->options;
    Str lines = {0}, path = {0}, summary = {0};
    Sampling how = session_sampling(o);
    how.seed = (uint32_t)seed;
    how.max_new = b->max_new;
    const bool tokens = o->save_tokens && (steering || s->steering);
    Completion *completions = NULL;
    bool ok = evaluate(e, &lines, tokens ? &completions : NULL, r, &s->model, steering, s->tokenizer, &b->problems, b->prompts, b->G, &how, err);
    str_printf(&path, "%s/%s.jsonl", dir, b->name);
    ok = ok && write_file(path.s, lines.s, lines.n, err);
    if (completions) {
        path.n = 0;
        str_printf(&path, "%s/%s.tokens.jsonl", dir, b->name);
        ok = benchmark_tokens(s, steering, b, completions, path.s, err) && ok;
    }
    if (ok) {
        benchmark_json(&summary, b->name, e);
        if (o->json) printf("%s\n", summary.s);
        else printf("%s%-16s %5.1f %%  [%.1f, %.1f]   boxed %5.1f %%   cut %5.1f %%   length %6.1f   %d problems x %d   %.0f tok/s\n", label, b->name, e->accuracy,
                    e->low, e->high, e->format_rate, e->truncation_rate, e->mean_length, e->n, e->G, e->tokens / e->seconds);
        fflush(stdout);
        str_printf(all, "%s  %s", all->n ? ",\n" : "[\n", summary.s);
    }
    str_free(&lines);
    str_free(&path);
    str_free(&summary);
    return ok;
}

// Mean and population standard deviation over n seeds of the mean accuracy over benchmarks, as the papers' tables have it.
void benchmarks_print_seeds(const char *label, const double *accuracy, int n) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += accuracy[i];
    for (int i = 0; i < n; i++) squares += (accuracy[i] - sum / n) * (accuracy[i] - sum / n);
    printf("%s%-16s %5.1f +- %.1f %% over %d seeds\n", label, "mean", sum / n, sqrt(squares / n), n);
}

// Answers all benchmarks under `steering` (NULL: the base model) and the model's intervention, once for each seed, into
// dir/temp_.../eval_seed-<k>/. label stands in front of each printed line. With skip_done seeds that have a metrics.json are left out.
bool benchmarks_answer(const Session *s, const Benchmarks *b, const float *steering, const char *dir, const char *label, Error *err) {
    const Options *o = &s->options;
    const int n_seeds = o->seeds.n ? o->seeds.n : 1;
    double *accuracy = (double *)xcalloc((size_t)n_seeds, sizeof(double));
    Rollout r;
    Str all = {0}, here = {0}, path = {0};
    bool ok = true;
    int done = 0;
    rollout_alloc(&r, &s->model, o->rollout_batch_size, 0, b->longest, b->max_new);
    for (int k = 0; k < n_seeds && ok; k++) {
        const int seed = o->seeds.n ? o->seeds.v[k] : o->seed;
        all.n = here.n = path.n = 0;
        str_printf(&here, "%s", dir);
        benchmark_seed_dir(&here, o, seed);
        str_printf(&path, "%s/metrics.json", here.s);
        if (o->skip_done && path_exists(path.s)) {
            fprintf(stderr, "%skept, not answered again: %s\n", label, path.s);
            continue;
        }
        ok = make_dirs(here.s, err);
        for (int i = 0; i < b->n && ok; i++) {
            Evaluation e;
            ok = benchmark_answer(s, &r, steering, &b->items[i], seed, label, here.s, &e, &all, err);
            if (ok) accuracy[done] += e.accuracy / b->n;
        }
        if (!ok) break;
        done++;
        benchmarks_keep_others(&all, path.s, b);
        str_printf(&all, "\n]\n");
        ok = write_file(path.s, all.s, all.n, err);
    }
    if (ok && done > 1 && !o->json) benchmarks_print_seeds(label, accuracy, done);
    free(accuracy);
    str_free(&all);
    str_free(&here);
    str_free(&path);
    rollout_free(&r, &s->model);
    return ok;
}

#endif
