/*
What a change does to the next token, position by position: the engine of last_layer_steering, pre_last_layer_steering
and add_place_steering. Completions are sampled under one condition (those cut by the length limit are left out), then
run under P and under Q; at every generated position, in double over the whole vocabulary,

    delta_v = Q(v) - P(v)        KL(P || Q)        entropy of P

    <dir>/positions.jsonl   {"sample", "position", "id", "token": what was generated there; "top", "top_token", "delta":
                            the token with the largest delta; "was_top": P preferred it already; "followed": delta of
                            --token; "kl", "entropy"}
    <dir>/summary.json      counts and means
*/
#ifndef LLMC_EXPERIMENTS_TOKEN_EFFECT_H
#define LLMC_EXPERIMENTS_TOKEN_EFFECT_H

#include "llmc/experiments/lens.h"
#include "llmc/experiments/teacher.h"
#include "llmc/experiments/variants.h"

typedef struct {
    long long positions, was_top;
    double kl, delta;
} EffectSums;

// The id of --token, which must be one token; -1 and err if not.
int effect_token(const Session *s, Error *err) {
    const char *text = s->options.token;
    IntVec ids = {0};
    bool ok = tokenizer_encode(s->tokenizer, &ids, text, strlen(text), err);
    int id = ok && ids.n == 1 ? ids.v[0] : -1;
    if (ok && ids.n != 1)
        fail(err, EXIT_USAGE,
             "token: \"%.40s\" is %d tokens of this model, expected one\n  -> choose another: ./eval_steer tokenize "
             "shows how a text is split",
             text, ids.n);
    ints_free(&ids);
    return id;
}

// One position: a line for positions.jsonl.
void effect_line(Str *out, const Session *s, int sample, int position, int generated, int followed, const double *p,
                 const double *q, double entropy, EffectSums *sums) {
    const int V = s->model.config.V;
    int top = 0, was = 0;
    for (int v = 1; v < V; v++) {
        if (q[v] - p[v] > q[top] - p[top]) top = v;
        if (p[v] > p[was]) was = v;
    }
    double kl = distribution_kl(p, q, V);
    str_printf(out, "{\"sample\": %d, \"position\": %d, \"id\": %d, \"token\": ", sample, position, generated);
    lens_json_token(out, s->tokenizer, generated);
    str_printf(out, ", \"top\": %d, \"top_token\": ", top);
    lens_json_token(out, s->tokenizer, top);
    str_printf(out, ", \"delta\": %.6g, \"was_top\": %s, \"followed\": %.6g, \"kl\": ", q[top] - p[top],
               top == was ? "true" : "false", q[followed] - p[followed]);
    lens_json_number(out, kl);
    str_printf(out, ", \"entropy\": %.6g}\n", entropy);
    sums->positions++;
    sums->was_top += top == was;
    sums->kl += kl;
    sums->delta += q[top] - p[top];
}

// Bytes of the host that a comparison takes: two distributions, logits.
static size_t effect_host_bytes(const ModelConfig *c) {
    return (size_t)c->V * (2 * sizeof(double) + TEACHER_ROWS * sizeof(float));
}

// SessionWork.look of the experiments that compare.
size_t effect_memory(const SessionWork *w, Qwen2 *dry) {
    Teacher t;
    teacher_alloc(&t, dry, w->first_longest, dry->intervention, false);
    dry->ops->alloc((size_t)w->first_longest * dry->config.C * sizeof(float));
    teacher_free(&t, dry);
    return effect_host_bytes(&dry->config);
}

// Compares P and Q on completions sampled under `from`; what: the keys of summary.json that say what P and Q are,
// without braces.
bool effect_compare(Session *s, const Benchmarks *b, const char *dir, const char *what, Condition from, Condition P,
                    Condition Q, Error *err) {
    Qwen2 *m = &s->model;
    const int V = m->config.V, C = m->config.C, followed = effect_token(s, err);
    Sampled a;
    Str lines = {0}, summary = {0};
    if (followed < 0 || !experiment_result_begin(&summary, s, dir, "summary.json", err)) return false;
    bool ok = sample_under(&a, s, &b->items[0], from, err);
    Teacher t;
    const Intervention *patched = P.intervention && P.intervention->vector ? P.intervention : Q.intervention;
    teacher_alloc(&t, m, ok ? a.longest : 1, patched, false);
    float *first = (float *)m->ops->alloc((size_t)(ok ? a.longest : 1) * C * sizeof(float));
    double *p = (double *)xmalloc(effect_host_bytes(&m->config)), *q = p + V;
    float *logits = (float *)(q + V);
    EffectSums sums = {0, 0, 0, 0};
    NewFile positions; // written as they come: of a whole data set they are hundreds of megabytes
    char *path = model_path(dir, "positions.jsonl");
    const bool writing = ok && make_dirs(dir, err) && new_file_begin(&positions, path, err);
    ok = writing;
    Progress progress;
    progress_begin(&progress, "compare", 0, a.n);
    for (int i = 0; i < a.n && ok; i++) {
        const Completion *c = &a.completions[i];
        if (!c->finished) continue;
        ok = !stop_requested || fail(err, EXIT_RUN, "stopped while comparing (%d of %d completions done)", i, a.n);
        teacher_run(&t, m, &b->items[0].prompts[i], c, P);
        m->ops->gather_rows(first, t.scratch.h, teacher_head_rows(&t, m), c->n, C);
        teacher_run(&t, m, &b->items[0].prompts[i], c, Q);
        const int *head_rows = teacher_head_rows(&t, m);
        for (int from_row = 0; from_row < c->n && ok; from_row += TEACHER_ROWS) {
            int rows = c->n - from_row < TEACHER_ROWS ? c->n - from_row : TEACHER_ROWS;
            qwen2_head_forward(m, &t.scratch, first + (size_t)from_row * C, NULL, rows);
            m->ops->download(logits, t.scratch.logits, (size_t)rows * V * sizeof(float));
            qwen2_head_forward(m, &t.scratch, t.scratch.h, head_rows + from_row, rows);
            for (int k = 0; k < rows; k++) {
                double entropy = distribution(p, logits + (size_t)k * V, V);
                m->ops->download(logits + (size_t)k * V, t.scratch.logits + (size_t)k * V, (size_t)V * sizeof(float));
                distribution(q, logits + (size_t)k * V, V);
                effect_line(&lines, s, i, from_row + k, c->ids[from_row + k], followed, p, q, entropy, &sums);
            }
        }
        ok =
            ok && (fwrite(lines.s, 1, lines.n, positions.f) == lines.n ||
                   fail(err, EXIT_RUN, "cannot write %s: %s\n  -> free the disk and run again", path, strerror(errno)));
        lines.n = 0;
        progress_update(&progress, i + 1, "");
    }
    progress_clear(&progress);
    if (ok && sums.positions == 0)
        ok = fail(err, EXIT_RUN,
                  "none of %d completions ended within %d tokens: nothing to compare\n  -> raise max_completion_length",
                  a.n, b->items[0].max_new);
    if (writing && !new_file_end(&positions, ok))
        ok = fail(err, EXIT_RUN, "cannot write %s: %s\n  -> free the disk and run again", path, strerror(errno));
    if (ok) {
        const double n = (double)sums.positions;
        str_printf(&summary, "%s, \"problems\": %d, \"kept\": %d, \"positions\": %lld, \"followed_token\": ", what, a.n,
                   a.finished, sums.positions);
        lens_json_token(&summary, s->tokenizer, followed);
        str_printf(&summary, ", \"was_top\": %.6g, \"mean_kl\": %.6g, \"mean_delta\": %.6g}\n", sums.was_top / n,
                   sums.kl / n, sums.delta / n);
        ok = experiment_write(dir, "summary.json", &summary, err);
        if (ok) printf("%s", s->options.json ? summary.s : "");
        if (ok && !s->options.json)
            printf("%d of %d completions kept, %lld positions: mean KL %.4f; the token that gains most was on top "
                   "already at %.1f %%\nsaved %s\n",
                   a.finished, a.n, sums.positions, sums.kl / n, 100.0 * sums.was_top / n, dir);
    }
    m->ops->release(first);
    free(p);
    free(path);
    str_free(&lines);
    str_free(&summary);
    teacher_free(&t, m);
    sampled_free(&a);
    return ok;
}

#endif
