/*
Answering a set of problems and counting: accuracy with its 95 % interval, how many answers have a box, how many were
cut, how long they are. Used by `eval_steer eval` and by the trainer's validation.
*/
#ifndef LLMC_EVALUATE_H
#define LLMC_EVALUATE_H

#include "answer.h"    // answer_correct
#include "chat.h"      // chat_format
#include "dataset.h"   // Dataset, Problem
#include "dist.h"      // dist_share, dist_gather, dist_agree
#include "json.h"      // json_add_string
#include "logger.h"    // Progress, stop_requested
#include "rollout.h"   // rollout, Sampling
#include "tokenizer.h" // tokenizer_encode, tokenizer_decode

// ----------------------------------------------------------------------------
// prompts

// prompts[n] = the token ids of each problem in the chat format. *longest = the most tokens of one. Free with prompts_free.
bool prompts_encode(IntVec **prompts, int *longest, Tokenizer *tokenizer, const Dataset *d, const char *prompt_template,
                    const char *system, Error *err) {
    Str text = {0};
    bool ok = true;
    *prompts = (IntVec *)xcalloc((size_t)d->n, sizeof(IntVec));
    *longest = 0;
    for (int i = 0; i < d->n && ok; i++) {
        text.n = 0;
        ok = chat_format(&text, prompt_template, system, d->items[i].problem, err) &&
             tokenizer_encode(tokenizer, &(*prompts)[i], text.s, text.n, err);
        if (ok && (*prompts)[i].n == 0) ok = fail(err, EXIT_RUN, "problem %s: its prompt has no tokens", d->items[i].id);
        if (ok && (*prompts)[i].n > *longest) *longest = (*prompts)[i].n;
    }
    str_free(&text);
    return ok;
}

void prompts_free(IntVec *prompts, int n) {
    for (int i = 0; i < n && prompts; i++) ints_free(&prompts[i]);
    free(prompts);
}

// ----------------------------------------------------------------------------
// counting

typedef struct {
    int n, G;                      // problems, completions of each
    double accuracy, low, high;    // percent; 95 % interval of the mean over problems
    double format_rate, truncation_rate; // percent of completions with a box, cut by the length limit
    double mean_length;            // tokens
    double pass_at_k;              // percent of problems with at least one right answer among the G
    double seconds;
    long long tokens;
} Evaluation;

// 95 % interval in percent. One completion each: Wilson's score interval for a share (Wilson 1927). Several: the mean
// over problems of each one's own share, +- 1.96 standard errors, problems being the independent draws.
void evaluation_interval(Evaluation *e, const int *right) {
    double z = 1.959964, n = e->n, sum = 0, squares = 0;
    for (int i = 0; i < e->n; i++) {
        double p = (double)right[i] / e->G;
        sum += p;
        squares += p * p;
    }
    double p = sum / n, half;
    double centre = p;
    if (e->G == 1) {
        centre = (p + z * z / (2 * n)) / (1 + z * z / n);
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n);
    } else {
        double variance = n > 1 ? (squares - n * p * p) / (n - 1) : 0;
        half = z * sqrt(variance > 0 ? variance / n : 0);
    }
    e->accuracy = 100 * p;
    e->low = 100 * (p > 0 && centre - half > 0 ? centre - half : 0); // at 0 and 1 rounding would leave a trace
    e->high = 100 * (p < 1 && centre + half < 1 ? centre + half : 1);
}

bool evaluation_progress(int done, int total, void *context) {
    (void)total;
    progress_update((Progress *)context, done, "");
    return !stop_requested;
}

// One line of <benchmark>.jsonl: the completion with its verdict.
void completion_line(Str *line, const Problem *p, int sample, const Completion *c, const Str *text, const Str *extracted, bool boxed, bool right) {
    str_printf(line, "{\"id\": ");
    json_add_string(line, p->id, strlen(p->id));
    str_printf(line, ", \"sample\": %d, \"correct\": %s, \"answer\": ", sample, right ? "true" : "false");
    json_add_string(line, p->answer, strlen(p->answer));
    str_printf(line, ", \"extracted\": ");
    if (boxed) json_add_string(line, extracted->s ? extracted->s : "", extracted->n);
    else str_printf(line, "null");
    str_printf(line, ", \"tokens\": %d, \"truncated\": %s, \"problem\": ", c->n, c->finished ? "false" : "true");
    json_add_string(line, p->problem, strlen(p->problem));
    str_printf(line, ", \"completion\": ");
    json_add_string(line, text->s ? text->s : "", text->n);
    str_printf(line, "}\n");
}

// Whole numbers, counted by each rank over its share of n problems, become those of all: right[n] is put together, the others
// are added.
void evaluation_share(int *right, int n, long long *boxed, long long *cut, long long *tokens) {
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    long long mine[3] = {*boxed, *cut, *tokens};
    Str all = {0};
    const int first = dist_share(n, dist.rank), last = dist_share(n, dist.rank + 1);
    dist_gather(&all, start, right + first, (size_t)(last - first) * sizeof(int));
    memcpy(right, all.s, (size_t)n * sizeof(int));
    dist_gather(&all, start, mine, sizeof mine);
    *boxed = *cut = *tokens = 0;
    for (int r = 0; r < dist.size; r++) {
        memcpy(mine, all.s + start[r], sizeof mine);
        *boxed += mine[0];
        *cut += mine[1];
        *tokens += mine[2];
    }
    str_free(&all);
    free(start);
}

// Answers every problem G times under `steering` and grades the answers. lines (may be NULL) gets one JSON line per
// completion. The random numbers depend on how->seed and the problem's place, so two models meet the same draws.
// Where there are several ranks, each answers its share of the problems (and has the lines of these); the figures are of all.
bool evaluate(Evaluation *e, Str *lines, Rollout *r, const Qwen2 *m, const float *steering, const Tokenizer *tokenizer,
              const Dataset *d, const IntVec *prompts, int G, const Sampling *how, Error *err) {
    memset(e, 0, sizeof *e);
    e->n = d->n;
    e->G = G;
    Completion *completions = (Completion *)xcalloc((size_t)d->n * G, sizeof(Completion));
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)d->n, sizeof(RolloutPrompt));
    int *right = (int *)xcalloc((size_t)d->n, sizeof(int));
    for (int i = 0; i < d->n; i++) {
        asked[i].prompt = prompts[i].v;
        asked[i].P = prompts[i].n;
        asked[i].key = (uint32_t)i;
        asked[i].completions = completions + (size_t)i * G;
    }
    Progress progress;
    progress_begin(&progress, "answer", 0, (int64_t)d->n * G);
    double start = now_s();
    const int first = dist_share(d->n, dist.rank), last = dist_share(d->n, dist.rank + 1);
    bool ok = dist_agree(rollout(r, m, steering, asked + first, last - first, G, how, evaluation_progress, &progress, err), err);
    progress_clear(&progress);

    long long boxed_count = 0, cut = 0, solved = 0;
    Str text = {0}, extracted = {0};
    for (int i = first; i < last && ok; i++) {
        for (int g = 0; g < G; g++) {
            const Completion *c = &asked[i].completions[g];
            text.n = extracted.n = 0;
            tokenizer_decode(tokenizer, &text, c->ids, c->n, true);
            bool boxed = text.n > 0 && answer_extract(&extracted, text.s, text.n);
            bool correct = boxed && answer_correct(&d->items[i], text.s, text.n, NULL);
            right[i] += correct;
            boxed_count += boxed;
            cut += !c->finished;
            e->tokens += c->n;
            if (lines) completion_line(lines, &d->items[i], g, c, &text, &extracted, boxed, correct);
        }
    }
    if (ok) {
        evaluation_share(right, d->n, &boxed_count, &cut, &e->tokens);
        for (int i = 0; i < d->n; i++) solved += right[i] > 0;
        e->seconds = now_s() - start;
        double all = (double)d->n * G;
        evaluation_interval(e, right);
        e->format_rate = 100 * boxed_count / all;
        e->truncation_rate = 100 * cut / all;
        e->mean_length = e->tokens / all;
        e->pass_at_k = 100.0 * solved / d->n;
    }
    for (int i = 0; i < d->n * G; i++) completion_free(&completions[i]);
    str_free(&text);
    str_free(&extracted);
    free(completions);
    free(asked);
    free(right);
    return ok;
}

#endif
