/*
self_explain: what does the model itself say a vector means? In

    What is the meaning of the word "X"?

the residual stream at X is replaced, after layer l, by a s_l / |s_l|, for each layer of --layers and each a of
--magnitudes, and the answer is decoded greedily. Beside it: the cosine of s_l with the state after the last layer at
the end of the prompt, and the entropy of the next token. "residual_norm" is how long the replaced state was.

    results/experiments/self_explain/<Model>/<dataset>/self_explain.json
*/
#ifndef LLMC_EXPERIMENTS_SELF_EXPLAIN_H
#define LLMC_EXPERIMENTS_SELF_EXPLAIN_H

#include "llmc/experiments/last_layer_steering.h" // effect_rows
#include "llmc/experiments/lens.h"
#include "llmc/experiments/teacher.h"
#include "llmc/experiments/variants.h"

#define SELF_EXPLAIN_PROBLEM "What is the meaning of the word \"X\"?"

// *prompt = the question as ids, *at = the position of the token that holds its X.
bool self_explain_prompt(IntVec *prompt, int *at, Session *s, Error *err) {
    Str text = {0}, piece = {0};
    bool ok = chat_format(&text, s->options.prompt_template, s->options.system, SELF_EXPLAIN_PROBLEM, err) &&
              tokenizer_encode(s->tokenizer, prompt, text.s, text.n, err);
    const char *question = ok ? strstr(text.s, SELF_EXPLAIN_PROBLEM) : NULL;
    size_t wanted = question ? (size_t)(strstr(question, "\"X\"") + 1 - text.s) : 0;
    *at = -1;
    for (int i = 0; ok && i < prompt->n && *at < 0; i++) {
        tokenizer_decode(s->tokenizer, &piece, prompt->v + i, 1, false);
        if (piece.n > wanted) *at = i;
    }
    if (ok && *at < 0)
        ok = fail(err, EXIT_RUN, "the question's X is in no token of its prompt\n  -> choose another prompt_template");
    str_free(&text);
    str_free(&piece);
    return ok;
}

// One (l, a): an object appended to out.
bool self_explain_one(Session *s, Teacher *t, Rollout *r, const IntVec *prompt, int at, int layer, double alpha,
                      double residual_norm, Str *out, Error *err) {
    Qwen2 *m = &s->model;
    const int C = m->config.C, V = m->config.V;
    const float *v = s->vectors + (size_t)layer * C;
    const double size = lens_norm(v, (size_t)C);
    float *put = (float *)xmalloc((size_t)C * sizeof(float)), *state = (float *)xmalloc((size_t)C * sizeof(float)),
          *logits = (float *)xmalloc((size_t)V * sizeof(float));
    double *p = (double *)xmalloc((size_t)V * sizeof(double));
    for (int c = 0; c < C; c++) put[c] = (float)(alpha * v[c] / size);
    Intervention change;
    memset(&change, 0, sizeof change);
    change.put = intervention_floats(m->ops, put, (size_t)C);
    change.put_layer = layer;
    change.put_pos = at;
    Condition changed = {NULL, &change, NULL};

    const int last = teacher_run(t, m, prompt, NULL, changed) - 1;
    qwen2_head_forward(m, &t->scratch, t->scratch.h + (size_t)last * C, NULL, 1);
    m->ops->download(state, t->scratch.h + (size_t)last * C, (size_t)C * sizeof(float));
    m->ops->download(logits, t->scratch.logits, (size_t)V * sizeof(float));
    const double entropy = distribution(p, logits, V);

    Completion c;
    RolloutPrompt asked = {prompt->v, prompt->n, 0, &c};
    Sampling greedy = {0, 1, 0, s->options.max_completion_length, false, 0, 0};
    m->intervention = &change;
    bool ok = rollout(r, m, NULL, &asked, 1, 1, &greedy, NULL, NULL, err);
    m->intervention = NULL;
    Str text = {0};
    if (ok) {
        tokenizer_decode(s->tokenizer, &text, c.ids, c.n, true);
        str_printf(out, "{\"layer\": %d, \"alpha\": %.6g, \"residual_norm\": %.6g, \"cosine\": ", layer, alpha,
                   residual_norm);
        lens_json_number(out, alpha < 0 ? -lens_cosine(v, state, (size_t)C) : lens_cosine(v, state, (size_t)C));
        str_printf(out, ", \"entropy\": %.6g, \"text\": ", entropy);
        json_add_string(out, text.s ? text.s : "", text.n);
        str_printf(out, "}");
        completion_free(&c);
    }
    intervention_free(&change, m->ops);
    str_free(&text);
    free(put);
    free(state);
    free(logits);
    free(p);
    return ok;
}

// SessionWork.look: all of it, for its rollout is there beside the rest.
size_t self_explain_memory(const SessionWork *w, Qwen2 *dry) {
    const ModelConfig *c = &dry->config;
    Teacher t;
    Rollout r;
    teacher_alloc(&t, dry, w->max_prompt, NULL, true);
    rollout_alloc(&r, dry, 1, 0, w->max_prompt, w->max_new);
    rollout_free(&r, dry);
    teacher_free(&t, dry);
    return (size_t)w->max_prompt * c->C * sizeof(float) + (size_t)c->V * (sizeof(float) + sizeof(double));
}

bool experiment_self_explain(Session *s, Error *err) {
    double *alphas = NULL;
    int n_alphas, at;
    IntVec prompt = {0}, layers = {0};
    if (!experiment_numbers(&alphas, &n_alphas, s->options.magnitudes, "magnitudes", err) ||
        !session_tokenizer(s, err) || !self_explain_prompt(&prompt, &at, s, err))
        return false;
    s->work.max_prompt = prompt.n;
    s->work.max_new = s->options.max_completion_length;
    s->work.answer_tokens = s->work.max_new;
    s->work.look = self_explain_memory;
    if (!session_sampler(s, prompt.n + s->options.max_completion_length, false, err) ||
        !experiment_needs_vectors(s, err) || !experiment_layers(&layers, s, err))
        return false;
    install_signal_handlers();
    Qwen2 *m = &s->model;
    const int C = m->config.C;
    char *dir = experiment_dir(s, "self_explain", err);
    Teacher t;
    Rollout r;
    Str out = {0};
    bool ok = dir && experiment_result_begin(&out, s, dir, "self_explain.json", err);
    float *residual = (float *)xmalloc((size_t)prompt.n * C * sizeof(float));
    teacher_alloc(&t, m, prompt.n, NULL, true);
    rollout_alloc(&r, m, 1, 0, prompt.n, s->options.max_completion_length);
    str_printf(&out, "\"question\": ");
    json_add_string(&out, SELF_EXPLAIN_PROBLEM, strlen(SELF_EXPLAIN_PROBLEM));
    str_printf(&out, ", \"position\": %d, \"answers\": [\n", at);
    for (int i = 0; i < layers.n && ok; i++) {
        const int l = layers.v[i];
        Condition base = {NULL, NULL, NULL};
        IntVec only = {&layers.v[i], 1, 1};
        float *row = effect_rows(s->vectors, &only, m->config.L, C, err); // an error if it is zero
        ok = row != NULL;
        free(row);
        teacher_residual(residual, &t, m, l, teacher_run(&t, m, &prompt, NULL, base));
        const double before = lens_norm(residual + (size_t)at * C, (size_t)C);
        for (int k = 0; k < n_alphas && ok; k++) {
            ok = !stop_requested || fail(err, EXIT_RUN, "stopped at layer %d", l);
            str_printf(&out, "%s  ", i || k ? ",\n" : "");
            ok = ok && self_explain_one(s, &t, &r, &prompt, at, l, alphas[k], before, &out, err);
        }
        if (ok && !s->options.json)
            printf("layer %2d: %d answers (the residual stream at X is %.3g long)\n", l, n_alphas, before);
    }
    str_printf(&out, "\n]}\n");
    ok = ok && experiment_write(dir, "self_explain.json", &out, err);
    if (ok && !s->options.json) printf("saved %s\n", dir);
    teacher_free(&t, m);
    rollout_free(&r, m);
    free(residual);
    free(alphas);
    free(dir);
    str_free(&out);
    ints_free(&prompt);
    ints_free(&layers);
    return ok;
}

#endif
