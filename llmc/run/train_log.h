/*
What a training step was: its figures, one line of them in metrics.jsonl (TRL's names) and on stdout, and
completions/step-<n>.jsonl.
*/
#ifndef LLMC_RUN_TRAIN_LOG_H
#define LLMC_RUN_TRAIN_LOG_H

#include "llmc/reward.h"  // reward_format
#include "llmc/trainer.h" // Trainer, Group; Evaluation, PolicyStats, Logger

// Of the updates on one batch of completions, of which there are num_iterations.
typedef struct {
    long long rows; // run by the passes of all updates and of the reference, on all ranks
    double loss, kl, entropy, clipped_low, clipped_high, low_min,
        high_max;                    // sums over the updates: of the loss, then of means over tokens
    double grad_norm, learning_rate; // of the last update
    double gap_mean, gap_max;        // |log-prob of the sampler - of the trainer|, of the first
    double norm;                     // of what is trained, after the last
    int updates, trained_samples;
    long long loss_tokens; // those that the loss is over
    double squares;        // sum over these tokens of (weight * advantage)^2
    int skipped_samples; // of the completions that it is over, left out of the passes because their part of it is zero
} UpdateStats;

// Adds one update. What was left out of its passes had advantage 0: nothing of it is clipped, its entropy is not known.
void update_add(UpdateStats *u, const PolicyLoss *loss) {
    const double tokens = u->loss_tokens > 0 ? (double)u->loss_tokens : 1,
                 passed = loss->tokens > 0 ? (double)loss->tokens : 1;
    u->updates++;
    u->loss += loss->loss;
    u->kl += loss->kl / passed;
    u->entropy += loss->entropy / passed;
    u->clipped_low += loss->clipped_low / tokens;
    u->clipped_high += loss->clipped_high / tokens;
    u->low_min += u->skipped_samples > 0 ? 0 : loss->low_min;
    u->high_max += loss->high_max;
}

// The sampler-trainer gap, over the tokens that were trained on.
void measure_gap(UpdateStats *u, const PolicySample *samples, int n) {
    double sum = 0;
    long long tokens = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < samples[i].completion->n; k++, tokens++) {
            double gap = samples[i].old_logprob ? fabs((double)samples[i].logprob[k] - samples[i].old_logprob[k]) : 0;
            sum += gap;
            if (gap > u->gap_max) u->gap_max = gap;
        }
    }
    u->gap_mean = tokens ? sum / tokens : 0;
}

// May the passes leave out what the loss is over? Then means over its tokens are not known of all of them.
bool passes_skip(const Options *o) {
    return o->skip_equal_groups && o->beta == 0 && o->entropy_coeff == 0 && !o->dynamic_sampling &&
           !setup_is_sft(o->setup);
}

// Does this group move what is trained? Different rewards do, and a KL or entropy term does whatever the rewards are.
bool group_has_gradient(const Options *o, const Group *g) {
    return !g->equal || ((o->beta > 0 || o->entropy_coeff != 0) && !o->dynamic_sampling);
}

// Of the completions.
typedef struct {
    double reward, reward_std, right, zero_std; // reward_std: of all rewards about the mean of all
    double mean_length, ended_length, clipped_ratio;
    long long tokens, prompt_tokens; // a prompt counts for each of its completions
    int min_length, max_length, min_ended, max_ended, completions, with_gradient;
} RolloutStats;

RolloutStats rollout_stats(const Trainer *t) {
    RolloutStats r;
    memset(&r, 0, sizeof r);
    int G = t->G, ended = 0;
    long long ended_tokens = 0;
    double squares = 0;
    r.min_length = r.min_ended = INT_MAX;
    r.completions = t->n_groups * G;
    for (int i = 0; i < t->n_groups; i++) {
        const Group *g = &t->groups[i];
        for (int k = 0; k < G; k++) {
            const int n = g->completions[k].n;
            r.reward += g->reward[k];
            r.right += g->reward[k] > 0;
            r.tokens += n;
            r.prompt_tokens += t->prompts[g->problem].n;
            if (n < r.min_length) r.min_length = n;
            if (n > r.max_length) r.max_length = n;
            if (!g->completions[k].finished) continue;
            ended++;
            ended_tokens += n;
            if (n < r.min_ended) r.min_ended = n;
            if (n > r.max_ended) r.max_ended = n;
        }
        r.zero_std += g->equal;
        r.with_gradient += group_has_gradient(&t->options, g);
    }
    r.reward /= r.completions;
    for (int i = 0; i < t->n_groups; i++)
        for (int k = 0; k < G; k++)
            squares += (t->groups[i].reward[k] - r.reward) * (t->groups[i].reward[k] - r.reward);
    r.right /= r.completions;
    r.reward_std = r.completions > 1 ? sqrt(squares / (r.completions - 1)) : 0;
    r.zero_std /= t->n_groups;
    r.mean_length = (double)r.tokens / r.completions;
    r.ended_length = ended ? (double)ended_tokens / ended : 0;
    if (!ended) r.min_ended = 0;
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
    printf("           validation %.1f %% [%.1f, %.1f], boxed %.1f %%, cut %.1f %%\n", v->accuracy, v->low, v->high,
           v->format_rate, v->truncation_rate);
}

// What TRL's GRPOTrainer logs of the updates, as the means over them: its line where logging_steps is num_iterations.
void log_updates(Trainer *t, const UpdateStats *u) {
    Logger *log = &t->log;
    const bool given = t->solutions != NULL, skip = passes_skip(&t->options);
    const double updates = u->updates;
    logger_number(log, skip ? "trained/entropy" : "entropy", u->entropy / updates);
    if (t->options.beta > 0) logger_number(log, "kl", u->kl / updates);
    if (given) return;
    logger_number(log, "clip_ratio/low_mean", u->clipped_low / updates);
    logger_number(log, "clip_ratio/high_mean", u->clipped_high / updates);
    logger_number(log, "clip_ratio/region_mean", (u->clipped_low + u->clipped_high) / updates);
    logger_number(log, "clip_ratio/low_min", u->low_min / updates);
    logger_number(log, "clip_ratio/high_max", u->high_max / updates);
    logger_number(log, skip ? "trained/sampling_logp_difference/mean" : "sampling/sampling_logp_difference/mean",
                  u->gap_mean);
    logger_number(log, skip ? "trained/sampling_logp_difference/max" : "sampling/sampling_logp_difference/max",
                  u->gap_max);
}

// Does any completion of the step have an answer that a reward could look at?
bool log_any_box(const Trainer *t) {
    Str text = {0};
    bool any = false;
    for (int i = 0; i < t->n_groups && !any; i++)
        for (int k = 0; k < t->G && !any; k++) {
            text.n = 0;
            tokenizer_decode(t->tokenizer, &text, t->groups[i].completions[k].ids, t->groups[i].completions[k].n, true);
            any = reward_format(text.s ? text.s : "", text.n);
        }
    str_free(&text);
    return any;
}

// What a step says that teaches nothing, or little: why, as far as it can be seen, and what changes that.
void log_advice(const Trainer *t, const RolloutStats *r) {
    const Options *o = &t->options;
    const bool cut = r->clipped_ratio > 0.5;
    const char *longer = t->ended
                             ? "completions ended by themselves before: if the updates have spoilt the model, a lower "
                               "learning_rate and --resume from a checkpoint before that; else a larger "
                               "max_completion_length"
                             : "a larger max_completion_length";
    if (r->with_gradient > 0) {
        if (r->zero_std == 1)
            warn("step %d: in all %d groups every answer has the same reward: the KL term alone has a gradient",
                 t->state.step, t->n_groups);
        if (cut)
            warn("step %d: %.0f %% of the completions were cut at max_completion_length %d\n  -> %s", t->state.step,
                 100 * r->clipped_ratio, o->max_completion_length, longer);
        return;
    }
    Str text = {0};
    str_printf(&text,
               "step %d: in all %d groups every answer has the same reward, so there is no gradient "
               "(frac_reward_zero_std 1); ",
               t->state.step, t->n_groups);
    if (strcmp(o->reward, "random") != 0 && r->right == 0 && cut)
        str_printf(&text, "%.0f %% of them were cut at max_completion_length %d\n  -> %s", 100 * r->clipped_ratio,
                   o->max_completion_length, longer);
    else if (strcmp(o->reward, "random") != 0 && r->right == 0 && !log_any_box(t))
        str_printf(&text,
                   "none has a boxed answer, which the reward looks for\n  -> the prompt_template that the model was "
                   "trained with (now "
                   "%s), or a system turn that asks for \\boxed{}",
                   o->prompt_template);
    else
        str_printf(&text, "all are %s\n  -> %s problems, more num_generations, or dynamic_sampling",
                   r->right == 0   ? "wrong"
                   : r->right == 1 ? "right"
                                   : "right or all wrong, group by group",
                   r->right == 0   ? "easier"
                   : r->right == 1 ? "harder"
                                   : "easier or harder");
    warn("%s", text.s);
    str_free(&text);
}

// The step's line of metrics.jsonl, which dev/doc/metrics.md explains key by key, and what is printed of it. seconds:
// what the step took, without validation.
bool log_step(Trainer *t, const RolloutStats *r, const UpdateStats *u, double seconds, const Evaluation *validation,
              Error *err) {
    Logger *log = &t->log;
    const StepTimes *s = &t->times;
    const bool given = t->solutions != NULL; // then there are no rewards, and nobody sampled
    const double loss = u->loss / u->updates;
    char key[64];
    logger_number(log, "step", t->state.step);
    logger_number(log, "epoch", (double)t->state.next_problem / t->train.n);
    logger_number(log, "loss", loss);
    logger_number(log, "grad_norm", u->grad_norm);
    logger_number(log, "learning_rate", u->learning_rate);
    if (!given) {
        logger_number(log, "reward", r->reward);
        logger_number(log, "reward_std", r->reward_std);
        logger_number(log, "frac_reward_zero_std", r->zero_std);
        for (int k = 0; k < 2; k++) { // the one reward function's: the same
            snprintf(key, sizeof key, "rewards/%s/%s", t->options.reward, k ? "std" : "mean");
            logger_number(log, key, k ? r->reward_std : r->reward);
        }
        logger_number(log, "rewards/positive", r->right);
    }
    logger_number(log, "completions/mean_length", r->mean_length);
    logger_number(log, "completions/min_length", r->min_length);
    logger_number(log, "completions/max_length", r->max_length);
    logger_number(log, "completions/clipped_ratio", r->clipped_ratio);
    logger_number(log, "completions/mean_terminated_length", r->ended_length);
    logger_number(log, "completions/min_terminated_length", r->min_ended);
    logger_number(log, "completions/max_terminated_length", r->max_ended);
    logger_number(log, "num_completions", r->completions);
    logger_number(log, "num_trained_completions", u->trained_samples);
    logger_number(log, "num_tokens", (double)(t->state.tokens_total + t->state.prompt_tokens_total));
    log_updates(t, u);
    const char *const norms[] = {"steering/norm", "lora/norm", "weights/norm"}; // in the order of ParamKind
    logger_number(log, norms[t->trainable.layout.kind], u->norm);
    if (validation) log_validation(t, validation);
    logger_number(log, "time/rollout", s->rollout);
    logger_number(log, "time/reward", s->reward);
    logger_number(log, "time/forward", s->forward);
    logger_number(log, "time/backward", s->backward);
    logger_number(log, "time/update", s->update);
    logger_number(log, "time/communication", dist.seconds);
    logger_number(log, "step_time", seconds);
    if (!given) logger_number(log, "tokens_per_s", r->tokens / (s->rollout > 0 ? s->rollout : 1));
    logger_number(log, "train_rows_per_s", u->rows / (s->forward + s->backward > 0 ? s->forward + s->backward : 1));
    if (!logger_end(log, err)) return false;
    if (log->nonfinite[0])
        return fail(err, EXIT_RUN,
                    "step %d: %s is not finite\n  -> resume from the last checkpoint with a lower learning_rate",
                    t->state.step, log->nonfinite);

    progress_clear(&t->progress);
    if (given) {
        snprintf(t->note, sizeof t->note, "loss %.4f", loss);
        printf("step %4d/%d  loss %.4f  entropy %.3f  norm %.3f  %d solutions, %lld tokens  %.1f s (forward %.1f, "
               "backward %.1f)\n",
               t->state.step, t->max_steps, loss, u->entropy / u->updates, u->grad_norm, r->completions, r->tokens,
               seconds, s->forward, s->backward);
    } else {
        snprintf(t->note, sizeof t->note, "reward %+.3f", r->reward);
        printf("step %4d/%d  reward %+.3f (%4.1f %% right)  signal %d/%d  length %.0f (%.0f %% cut)  loss %+.4f  norm "
               "%.3f  gap %.3g  %.1f s "
               "(rollout %.1f, forward %.1f, backward %.1f)  %.0f tok/s\n",
               t->state.step, t->max_steps, r->reward, 100 * r->right, r->with_gradient, t->n_groups, r->mean_length,
               100 * r->clipped_ratio, loss, u->grad_norm, u->gap_max, seconds, s->rollout, s->forward, s->backward,
               r->tokens / (s->rollout > 0 ? s->rollout : 1));
    }
    if (validation) print_validation(validation);
    if (!given) log_advice(t, r);
    t->ended |= !given && r->clipped_ratio <= 0.5;
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
            str_printf(&lines, ", \"sample\": %d, \"reward\": %g, \"advantage\": %.9g, \"tokens\": %d, \"answer\": ", k,
                       (double)g->reward[k], (double)g->advantage[k], g->completions[k].n);
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
