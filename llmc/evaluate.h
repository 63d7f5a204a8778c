/*
Answering a set of problems and counting: accuracy with its 95 % interval, how many answers have a box, how many were
cut, how long they are. Used by `eval_steer eval` and by the trainer's validation.
*/
#ifndef LLMC_EVALUATE_H
#define LLMC_EVALUATE_H

#include "llmc/answer/answer.h"       // answer_correct
#include "llmc/chat.h"                // chat_format
#include "llmc/dist/dist.h"           // dist_share, dist_gather, agree
#include "llmc/files/files.h"         // Dataset, Problem, json_add_string
#include "llmc/files/journal.h"       // Journal
#include "llmc/logger.h"              // Progress, stop_requested
#include "llmc/rollout.h"             // rollout, Sampling
#include "llmc/tokenizer/tokenizer.h" // tokenizer_encode, tokenizer_decode

// ----------------------------------------------------------------------------
// prompts

// prompts[n] = the token ids of each problem in the chat format. *longest = the most tokens of one. Free with
// prompts_free.
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
        if (ok && (*prompts)[i].n == 0)
            ok = fail(err, EXIT_RUN, "problem %s: its prompt has no tokens", d->items[i].id);
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
    int n, G;                            // problems, completions of each
    double accuracy, low, high;          // percent; 95 % interval of the mean over problems
    double format_rate, truncation_rate; // percent of completions with a box, cut by the length limit
    double formed_rate,
        accuracy_formed; // percent that have a box and ended in time; of those, percent right: form and reasoning apart
    double mean_length;  // tokens
    int n_pass;          // pass@k for k = 1, 2, 4 ... below G, and G
    struct {
        int k;
        double percent;
    } pass[20];
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

// pass@k in percent for k = 1, 2, 4 ... and G: the chance that k of the G answers to a problem hold a right one,
// without bias: 1 - C(G - c, k) / C(G, k) for c right ones (Chen et al. 2021, arXiv 2107.03374).
void evaluation_pass(Evaluation *e, const int *right) {
    e->n_pass = 0;
    for (int k = 1;; k = 2 * k < e->G ? 2 * k : e->G) {
        double sum = 0;
        for (int i = 0; i < e->n; i++) {
            double all_wrong = 1;
            for (int j = 0; j < k; j++)
                all_wrong *= (double)(e->G - right[i] - j > 0 ? e->G - right[i] - j : 0) / (e->G - j);
            sum += 1 - all_wrong;
        }
        e->pass[e->n_pass].k = k;
        e->pass[e->n_pass++].percent = 100 * sum / e->n;
        if (k == e->G) return;
    }
}

// One line of <benchmark>.jsonl: the completion with its verdict.
void completion_line(Str *line, const Problem *p, int sample, const Completion *c, const Str *text,
                     const Str *extracted, bool boxed, bool right) {
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

// Whole numbers, counted by each rank over its share of n problems, become those of all: right[n] is put together, the
// others are added.
void evaluation_share(int *right, int n, long long counts[5]) {
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    long long mine[5];
    Str all = {0};
    const int first = dist_share(n, dist.rank), last = dist_share(n, dist.rank + 1);
    dist_gather(&all, start, right + first, (size_t)(last - first) * sizeof(int));
    memcpy(right, all.s, (size_t)n * sizeof(int));
    dist_gather(&all, start, counts, sizeof mine);
    memset(counts, 0, sizeof mine);
    for (int r = 0; r < dist.size; r++) {
        memcpy(mine, all.s + start[r], sizeof mine);
        for (int i = 0; i < 5; i++) counts[i] += mine[i];
    }
    str_free(&all);
    free(start);
}

// What rollout calls after each step, where nothing is kept.
bool evaluation_progress(int done, int total, void *context) {
    (void)total;
    progress_update((Progress *)context, done, "");
    return !stop_requested;
}

// The same with a journal.
typedef struct {
    Progress progress;
    Journal *journal; // NULL: none
    const RolloutPrompt *asked;
    int n, G, max_new,
        before; // prompts asked, completions of each, tokens of one at most, completions that were there before
    int seen;   // completions done when the journal was last looked after
    double start;
} EvaluationRun;

bool evaluation_ended(const Completion *c, int max_new) { return c->finished || c->n == max_new; }

bool evaluation_keep(int done, int total, void *context) {
    EvaluationRun *run = (EvaluationRun *)context;
    (void)total;
    for (int i = 0; run->journal && done != run->seen && i < run->n; i++) {
        const RolloutPrompt *p = &run->asked[i];
        bool ended = !run->journal->has[p->key];
        for (int g = 0; g < run->G && ended; g++) ended = evaluation_ended(&p->completions[g], run->max_new);
        if (ended && !journal_add(run->journal, (int)p->key, p->completions, run->start + now_s())) return false;
    }
    run->seen = done;
    progress_update(&run->progress, run->before + done, "");
    return !stop_requested;
}

// completions[n * G]: the answers of this rank's share of the problems, but for those that the journal (NULL: none)
// has. On failure those sampled in this call are freed; the journal holds what was whole. *seconds: of all calls.
bool evaluate_sample(Completion *completions, double *seconds, Journal *journal, Rollout *r, const Qwen2 *m,
                     const float *steering, const Dataset *d, const IntVec *prompts, int G, const Sampling *sampling,
                     Error *err) {
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)d->n, sizeof(RolloutPrompt));
    EvaluationRun run;
    memset(&run, 0, sizeof run);
    for (int i = dist_share(d->n, dist.rank); i < dist_share(d->n, dist.rank + 1); i++) {
        if (journal && journal->has[i]) continue;
        RolloutPrompt *p = &asked[run.n++];
        p->prompt = prompts[i].v;
        p->P = prompts[i].n;
        p->key = (uint32_t)i;
        p->completions = completions + (size_t)i * G;
    }
    run.journal = journal;
    run.asked = asked;
    run.G = G;
    run.max_new = sampling->max_new;
    run.before = journal ? journal->count * G : 0;
    run.start = (journal ? journal->seconds : 0) - now_s();
    progress_begin(&run.progress, "answer", run.before, (int64_t)d->n * G);
    bool ok = rollout(r, m, steering, asked, run.n, G, sampling, evaluation_keep, &run, err);
    progress_clear(&run.progress);
    *seconds = run.start + now_s();
    free(asked);
    return agree(ok, err);
}

// Grades completions[n * G] and counts: all of *e but its seconds. lines (may be NULL) gets one JSON line per
// completion. Where there are several ranks, each grades its share of the problems (and has the lines of these); the
// figures are of all.
void evaluate_grade(Evaluation *e, Str *lines, const Completion *completions, const Tokenizer *tokenizer,
                    const Dataset *d, int G) {
    memset(e, 0, sizeof *e);
    e->n = d->n;
    e->G = G;
    int *right = (int *)xcalloc((size_t)d->n, sizeof(int));
    const int first = dist_share(d->n, dist.rank), last = dist_share(d->n, dist.rank + 1);
    long long counts[5] = {0}, *boxed_count = &counts[0], *cut = &counts[1], *formed = &counts[2],
              *formed_right = &counts[3], *tokens = &counts[4];
    Str text = {0}, extracted = {0};
    for (int i = first; i < last; i++) {
        for (int g = 0; g < G; g++) {
            const Completion *c = &completions[(size_t)i * G + g];
            text.n = extracted.n = 0;
            tokenizer_decode(tokenizer, &text, c->ids, c->n, true);
            bool boxed = text.n > 0 && answer_extract(&extracted, text.s, text.n);
            bool correct = boxed && answer_correct(&d->items[i], text.s, text.n, NULL);
            right[i] += correct;
            *boxed_count += boxed;
            *cut += !c->finished;
            *formed += boxed && c->finished;
            *formed_right += correct && c->finished;
            *tokens += c->n;
            if (lines) completion_line(lines, &d->items[i], g, c, &text, &extracted, boxed, correct);
        }
    }
    evaluation_share(right, d->n, counts);
    e->tokens = *tokens;
    double all = (double)d->n * G;
    evaluation_interval(e, right);
    e->format_rate = 100 * *boxed_count / all;
    e->truncation_rate = 100 * *cut / all;
    e->mean_length = e->tokens / all;
    e->formed_rate = 100 * *formed / all;
    e->accuracy_formed = *formed > 0 ? 100.0 * *formed_right / *formed : 0;
    evaluation_pass(e, right);
    str_free(&text);
    str_free(&extracted);
    free(right);
}

// Answers every problem G times under `steering`, grades the answers and counts. The random numbers depend on
// sampling->seed and the problem's place, so two models meet the same draws.
bool evaluate(Evaluation *e, Rollout *r, const Qwen2 *m, const float *steering, const Tokenizer *tokenizer,
              const Dataset *d, const IntVec *prompts, int G, const Sampling *sampling, Error *err) {
    Completion *completions = (Completion *)xcalloc((size_t)d->n * G, sizeof(Completion));
    double seconds = 0;
    const bool ok = evaluate_sample(completions, &seconds, NULL, r, m, steering, d, prompts, G, sampling, err);
    if (ok) evaluate_grade(e, NULL, completions, tokenizer, d, G);
    if (ok) e->seconds = seconds;
    for (int i = 0; i < d->n * G; i++) completion_free(&completions[i]);
    free(completions);
    return ok;
}

#endif
