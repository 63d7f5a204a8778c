/*
What a training step was: its figures, one line of them in metrics.jsonl (TRL's names) and on stdout, and completions/step-<n>.jsonl.
*/
#ifndef LLMC_TRAIN_LOG_H
#define LLMC_TRAIN_LOG_H

#include "trainer.h" // Trainer, Group; Evaluation, PolicyStats, Logger

// Of the gradient steps.
typedef struct {
    PolicyStats pass;         // times of all iterations
    PolicyLoss loss;          // loss of the first; KL and clipping of all
    double grad_norm, learning_rate, entropy;
    double gap_mean, gap_max; // |log-prob of the sampler - of the trainer|
    int trained_samples;
} UpdateStats;

// The sampler-trainer gap and the entropy, over the tokens that were trained on.
void measure_gap(UpdateStats *u, const PolicySample *samples, int n) {
    double sum = 0, entropy = 0;
    long long tokens = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < samples[i].completion->n; k++, tokens++) {
            double gap = samples[i].old_logprob ? fabs((double)samples[i].logprob[k] - samples[i].old_logprob[k]) : 0;
            sum += gap;
            entropy += samples[i].entropy[k];
            if (gap > u->gap_max) u->gap_max = gap;
        }
    }
    u->gap_mean = tokens ? sum / tokens : 0;
    u->entropy = tokens ? entropy / tokens : 0;
}

// Of the completions.
typedef struct {
    double reward, reward_std, right, zero_std;
    double mean_length, ended_length, clipped_ratio;
    long long tokens;
    int min_length, max_length, completions, with_gradient;
} RolloutStats;

RolloutStats rollout_stats(const Trainer *t) {
    RolloutStats r;
    memset(&r, 0, sizeof r);
    int G = t->G, ended = 0;
    long long ended_tokens = 0;
    r.min_length = INT_MAX;
    for (int i = 0; i < t->n_groups; i++) {
        const Group *g = &t->groups[i];
        double sum = 0, squares = 0;
        for (int k = 0; k < G; k++) {
            int n = g->completions[k].n;
            sum += g->reward[k];
            r.right += g->reward[k] > 0;
            r.tokens += n;
            if (n < r.min_length) r.min_length = n;
            if (n > r.max_length) r.max_length = n;
            if (g->completions[k].finished) { ended++; ended_tokens += n; }
        }
        for (int k = 0; k < G; k++) squares += (g->reward[k] - sum / G) * (g->reward[k] - sum / G);
        r.reward += sum;
        r.reward_std += G > 1 ? sqrt(squares / (G - 1)) : 0;
        r.zero_std += g->equal;
        r.with_gradient += !g->equal;
    }
    r.completions = t->n_groups * G;
    r.reward /= r.completions;
    r.right /= r.completions;
    r.reward_std /= t->n_groups;
    r.zero_std /= t->n_groups;
    r.mean_length = (double)r.tokens / r.completions;
    r.ended_length = ended ? (double)ended_tokens / ended : 0;
    r.clipped_ratio = 1 - (double)ended / r.completions;
    return r;
}

void log_validation(Trainer *t, const Evaluation *v) {
    Logger *log = &t->log;
    logger_number(log, "validation/accuracy", v->accuracy);
    logger_number(log, "validation/low", v->low);
    logger_number(log, "validation/high", v->high);
    logger_number(log, "validation/format_rate", v->format_rate);
    logger_number(log, "validation/clipped_ratio", v->truncation_rate / 100);
    logger_number(log, "time/validation", v->seconds);
}

void print_validation(const Evaluation *v) {
    printf("           validation %.1f %% [%.1f, %.1f], boxed %.1f %%, cut %.1f %%\n", v->accuracy, v->low, v->high, v->format_rate, v->truncation_rate);
}

bool log_step(Trainer *t, const RolloutStats *r, const UpdateStats *u, const Evaluation *validation, Error *err) {
    Logger *log = &t->log;
    const PolicyStats *p = &u->pass;
    const PolicyLoss *loss = &u->loss;
    const bool given = t->solutions != NULL; // then there are no rewards, and nobody sampled
    double seconds = now_s() - t->step_start, tokens = loss->tokens > 0 ? (double)loss->tokens : 1;
    logger_number(log, "step", t->state.step);
    logger_number(log, "epoch", (double)t->state.next_problem / t->train.n);
    logger_number(log, "loss", loss->loss);
    logger_number(log, "grad_norm", u->grad_norm);
    logger_number(log, "learning_rate", u->learning_rate);
    if (!given) {
        logger_number(log, "reward", r->reward);
        logger_number(log, "reward_std", r->reward_std);
        logger_number(log, "frac_reward_zero_std", r->zero_std);
        logger_number(log, "rewards/positive", r->right);
    }
    logger_number(log, "completions/mean_length", r->mean_length);
    logger_number(log, "completions/min_length", r->min_length);
    logger_number(log, "completions/max_length", r->max_length);
    logger_number(log, "completions/clipped_ratio", r->clipped_ratio);
    logger_number(log, "completions/mean_terminated_length", r->ended_length);
    logger_number(log, "num_completions", r->completions);
    logger_number(log, "num_trained_completions", u->trained_samples);
    logger_number(log, "num_tokens", (double)t->state.tokens_total);
    logger_number(log, "entropy", u->entropy);
    if (t->options.beta > 0) logger_number(log, "kl", loss->kl / tokens);
    if (!given) {
        logger_number(log, "clip_ratio/low_mean", loss->clipped_low / tokens);
        logger_number(log, "clip_ratio/high_mean", loss->clipped_high / tokens);
        logger_number(log, "clip_ratio/region_mean", (loss->clipped_low + loss->clipped_high) / tokens);
        logger_number(log, "sampling/sampling_logp_difference/mean", u->gap_mean);
        logger_number(log, "sampling/sampling_logp_difference/max", u->gap_max);
    }
    const char *const norms[] = {"steering/norm", "lora/norm", "weights/norm"}; // in the order of TuneKind
    logger_number(log, norms[t->trained.tuning.kind], t->ops->gradient_norm(t->trained.tuned, t->trained.tuning.n));
    if (validation) log_validation(t, validation);
    logger_number(log, "time/rollout", t->rollout_s);
    logger_number(log, "time/reward", t->reward_s);
    logger_number(log, "time/forward", p->forward_s);
    logger_number(log, "time/backward", p->backward_s);
    logger_number(log, "time/update", t->update_s);
    logger_number(log, "time/communication", dist.seconds);
    logger_number(log, "step_time", seconds);
    if (!given) logger_number(log, "tokens_per_s", r->tokens / (t->rollout_s > 0 ? t->rollout_s : 1));
    logger_number(log, "train_rows_per_s", p->rows / (p->forward_s + p->backward_s > 0 ? p->forward_s + p->backward_s : 1));
    if (!logger_end(log, err)) return false;
    if (log->nonfinite[0]) return fail(err, EXIT_RUN, "step %d: %s is not finite\n  -> resume from the last checkpoint with a lower learning_rate", t->state.step, log->nonfinite);

    progress_clear(&t->progress);
    if (given) {
        snprintf(t->note, sizeof t->note, "loss %.4f", loss->loss);
        printf("step %4d/%d  loss %.4f  entropy %.3f  norm %.3f  %d solutions, %lld tokens  %.1f s (forward %.1f, backward %.1f)\n", t->state.step, t->max_steps, loss->loss,
               u->entropy, u->grad_norm, r->completions, r->tokens, seconds, p->forward_s, p->backward_s);
    } else {
        snprintf(t->note, sizeof t->note, "reward %+.3f", r->reward);
        printf("step %4d/%d  reward %+.3f (%4.1f %% right)  signal %d/%d  length %.0f (%.0f %% cut)  loss %+.4f  norm %.3f  gap %.3g  %.1f s "
               "(rollout %.1f, forward %.1f, backward %.1f)  %.0f tok/s\n",
               t->state.step, t->max_steps, r->reward, 100 * r->right, r->with_gradient, t->n_groups, r->mean_length, 100 * r->clipped_ratio, loss->loss,
               u->grad_norm, u->gap_max, seconds, t->rollout_s, p->forward_s, p->backward_s, r->tokens / (t->rollout_s > 0 ? t->rollout_s : 1));
    }
    if (validation) print_validation(validation);
    if (r->with_gradient == 0) warn("step %d: in all %d groups every answer has the same reward, so there is no gradient (frac_reward_zero_std 1)\n"
                                    "  -> easier or harder problems, more num_generations, or dynamic_sampling", t->state.step, t->n_groups);
    else if (r->clipped_ratio > 0.5) warn("step %d: %.0f %% of the completions were cut at max_completion_length %d", t->state.step, 100 * r->clipped_ratio, t->options.max_completion_length);
    fflush(stdout);
    return true;
}

// completions/step-<n>.jsonl: what was sampled, with its reward and advantage.
bool log_completions(const Trainer *t, Error *err) {
    Str dir = {0}, lines = {0}, text = {0};
    str_printf(&dir, "%s/completions", t->run_dir);
    bool ok = make_dirs(dir.s, err);
    for (int i = 0; i < t->n_groups && ok; i++) {
        const Group *g = &t->groups[i];
        const Problem *p = &t->train.items[g->problem];
        for (int k = 0; k < t->G; k++) {
            text.n = 0;
            tokenizer_decode(t->tokenizer, &text, g->completions[k].ids, g->completions[k].n, false);
            str_printf(&lines, "{\"id\": ");
            json_add_string(&lines, p->id, strlen(p->id));
            str_printf(&lines, ", \"sample\": %d, \"reward\": %g, \"advantage\": %.9g, \"tokens\": %d, \"answer\": ", k, (double)g->reward[k], (double)g->advantage[k], g->completions[k].n);
            json_add_string(&lines, p->answer, strlen(p->answer));
            str_printf(&lines, ", \"completion\": ");
            json_add_string(&lines, text.s ? text.s : "", text.n);
            str_printf(&lines, "}\n");
        }
    }
    str_printf(&dir, "/step-%d.jsonl", t->state.step);
    ok = ok && write_file(dir.s, lines.s, lines.n, err);
    str_free(&dir);
    str_free(&lines);
    str_free(&text);
    return ok;
}

#endif
