/*
steer.c, the trainer: teaches a frozen Qwen2.5 to reason better by training one vector per layer with GRPO on problems
whose answer can be checked. Read it top to bottom; `main`, at the end, is the table of contents of one run:

    options -> model -> [ rollout -> reward -> advantage -> forward and backward -> AdamW -> log -> checkpoint ]

Under mpirun each rank does its share of the sampling and of the passes; in between all ranks exchange what they have found
(llmc/dist.h) and do the same arithmetic on the same numbers, so that any number of ranks gives the same bits.

    make train_steer && ./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml
*/
#include "llmc/dist.h"       // dist, dist_agree, dist_share
#include "llmc/dist_gpu.h"   // dist_gpu_begin
#include "llmc/evaluate.h"   // evaluate
#include "llmc/exchange.h"   // exchange_groups, assign_groups, my_samples, exchange_logprobs
#include "llmc/grpo.h"       // group_advantages, policy_pass
#include "llmc/logger.h"     // logger_number, progress_update, stop_requested
#include "llmc/options.h"    // options_parse, options_help
#include "llmc/reward.h"     // completion_reward
#include "llmc/trainer.h"    // Trainer: model, problems, vectors, state; set-up, checkpoints

#define VALIDATION_STEP 0x80000000u // random numbers of validation: the same at every step, so that curves compare

// ----------------------------------------------------------------------------
// rollout: problems -> groups of completions

// The next problem of the endless stream: every epoch its own permutation.
int draw_problem(Trainer *t, uint32_t *key) {
    long long place = t->state.next_problem++;
    long long epoch = place / t->train.n;
    if (epoch != t->order_epoch) {
        rng_permutation(t->order, t->train.n, (uint32_t)t->options.seed, RNG_SHUFFLE, (uint32_t)epoch);
        t->order_epoch = epoch;
    }
    *key = (uint32_t)place;
    return t->order[place % t->train.n];
}

bool rollout_progress(int done, int total, void *context) {
    Trainer *t = (Trainer *)context;
    char note[192];
    snprintf(note, sizeof note, "%s  sampling %d/%d", t->note, done, total);
    progress_update(&t->progress, t->state.step, note);
    return !stop_requested;
}

// Appends n groups: draws problems, samples the completions of this rank's share of them.
bool sample_groups(Trainer *t, int n, Error *err) {
    const Options *o = &t->options;
    int G = o->num_generations;
    double start = now_s();
    t->groups = (Group *)xrealloc(t->groups, (size_t)(t->n_groups + n) * sizeof(Group));
    Group *fresh = t->groups + t->n_groups;
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)n, sizeof(RolloutPrompt));
    for (int i = 0; i < n; i++) {
        Group *g = &fresh[i];
        g->sampled_by = 0;
        g->problem = draw_problem(t, &g->key);
        while (i >= dist_share(n, g->sampled_by + 1)) g->sampled_by++;
        g->completions = (Completion *)xcalloc((size_t)G, sizeof(Completion));
        g->reward = (float *)xcalloc((size_t)G, sizeof(float));
        g->advantage = (float *)xcalloc((size_t)G, sizeof(float));
        asked[i].prompt = t->prompts[g->problem].v;
        asked[i].P = t->prompts[g->problem].n;
        asked[i].key = g->key;
        asked[i].completions = g->completions;
    }
    t->n_groups += n;
    Sampling how = {(float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false, (uint32_t)o->seed, (uint32_t)t->state.step};
    const int first = dist_share(n, dist.rank), last = dist_share(n, dist.rank + 1);
    bool ok = rollout(&t->rollout, &t->model, t->steering, asked + first, last - first, G, &how, rollout_progress, t, err);
    free(asked);
    t->rollout_s += now_s() - start;
    return ok;
}

// ----------------------------------------------------------------------------
// reward and advantage

// The rewards of the groups from `first` on that this rank has sampled.
void grade_groups(Trainer *t, int first) {
    const Options *o = &t->options;
    double start = now_s();
    Str text = {0};
    for (int i = first; i < t->n_groups; i++) {
        Group *g = &t->groups[i];
        for (int k = 0; k < o->num_generations && g->sampled_by == dist.rank; k++) {
            text.n = 0;
            tokenizer_decode(t->tokenizer, &text, g->completions[k].ids, g->completions[k].n, true);
            RewardKey key = {(uint32_t)o->seed, (uint32_t)t->state.step, g->key, (uint32_t)k};
            g->reward[k] = completion_reward(o->reward, &t->train.items[g->problem], text.s ? text.s : "", text.n, key);
        }
    }
    str_free(&text);
    t->reward_s += now_s() - start;
}

// What the rewards of the groups from `first` on mean.
void judge_groups(Trainer *t, int first) {
    int G = t->options.num_generations;
    for (int i = first; i < t->n_groups; i++) {
        Group *g = &t->groups[i];
        group_advantages(g->advantage, g->reward, G, t->options.advantage);
        g->equal = group_is_equal(g->reward, G);
    }
}

void free_groups(Trainer *t) {
    for (int i = 0; i < t->n_groups; i++) {
        for (int k = 0; k < t->options.num_generations; k++) completion_free(&t->groups[i].completions[k]);
        free(t->groups[i].completions);
        free(t->groups[i].reward);
        free(t->groups[i].advantage);
    }
    free(t->groups);
    t->groups = NULL;
    t->n_groups = 0;
}

// The completions of this step: one round of prompts, or with dynamic_sampling as many as give prompts_per_step groups
// with a gradient.
bool collect_groups(Trainer *t, Error *err) {
    const Options *o = &t->options;
    int missing = o->prompts_per_step;
    t->rollout.kept = o->kept_memory > 0 ? &t->kept : NULL;
    rollout_reset(&t->rollout);
    for (int round = 0; missing > 0 && round < (o->dynamic_sampling ? o->dynamic_sampling_max_rounds : 1); round++) {
        int first = t->n_groups;
        if (!dist_agree(sample_groups(t, missing, err), err)) return false;
        grade_groups(t, first);
        exchange_groups(t, first);
        judge_groups(t, first);
        for (int i = first; i < t->n_groups; i++) missing -= !t->groups[i].equal;
    }
    return true;
}

// ----------------------------------------------------------------------------
// forward, backward, update

// The samples that go through the pass, each with the weight of its tokens. *weighted_tokens = tokens in the normaliser.
// With dynamic_sampling groups of equal reward are no part of the batch; otherwise they count in the
// normaliser, and are passed over only where that changes nothing (skip_equal_groups).
int list_samples(const Trainer *t, PolicySample *samples, long long *weighted_tokens) {
    const Options *o = &t->options;
    int G = o->num_generations, n = 0, counted = 0;
    *weighted_tokens = 0;
    for (int i = 0; i < t->n_groups; i++) {
        const Group *g = &t->groups[i];
        if (o->dynamic_sampling && g->equal) continue;
        for (int k = 0; k < G; k++) {
            const Completion *c = &g->completions[k];
            counted++;
            if (o->mask_truncated_completions && !c->finished) continue;
            *weighted_tokens += c->n;
            if (g->equal && o->skip_equal_groups && o->beta == 0) continue;
            PolicySample *s = &samples[n++];
            memset(s, 0, sizeof *s);
            s->prompt = t->prompts[g->problem].v;
            s->P = t->prompts[g->problem].n;
            s->group = o->share_prompts ? i : n - 1;
            s->part = i;
            s->completion = c;
            s->advantage = g->advantage[k];
            s->old_logprob = c->logprob;
            s->logprob = (float *)xmalloc(3 * (size_t)c->n * sizeof(float)); // log-prob, entropy, reference log-prob
            s->entropy = s->logprob + c->n;
            if (o->beta > 0) s->ref_logprob = s->logprob + 2 * c->n;
        }
    }
    for (int i = 0; i < n; i++) {
        PolicySample *s = &samples[i];
        s->weight = strcmp(o->loss_type, "dapo") == 0   ? 1.0f / (float)*weighted_tokens
                    : strcmp(o->loss_type, "grpo") == 0 ? 1.0f / ((float)counted * (float)s->completion->n)
                                                        : 1.0f / ((float)counted * (float)o->max_completion_length);
    }
    return n;
}

// The learning rate of update u (from 0): linear warm-up that is full at its last update, then the schedule.
double learning_rate_at(const Options *o, int u, int total) {
    double warmup = ceil(o->warmup_ratio * total), done = u + 1;
    if (done < warmup) return o->learning_rate * done / warmup;
    double left = total > warmup ? (total - u) / (total - warmup + 1) : 1; // 1 just after the warm-up, towards 0 at the end
    if (left > 1) left = 1;
    if (strcmp(o->lr_scheduler_type, "linear") == 0) return o->learning_rate * left;
    if (strcmp(o->lr_scheduler_type, "cosine") == 0) return o->learning_rate * 0.5 * (1 - cos(3.14159265358979323846 * left));
    return o->learning_rate;
}

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
            double gap = fabs((double)samples[i].logprob[k] - samples[i].completion->logprob[k]);
            sum += gap;
            entropy += samples[i].entropy[k];
            if (gap > u->gap_max) u->gap_max = gap;
        }
    }
    u->gap_mean = tokens ? sum / tokens : 0;
    u->entropy = tokens ? entropy / tokens : 0;
}

// Log-probs of the base model: the reference of the KL term is the same model with the vectors off.
bool reference_logprobs(Trainer *t, PolicySample *samples, int n, const LossConfig *how, PolicyStats *stats, Error *err) {
    PolicySample *base = (PolicySample *)xmalloc((size_t)n * sizeof(PolicySample));
    memcpy(base, samples, (size_t)n * sizeof(PolicySample));
    for (int i = 0; i < n; i++) {
        base[i].logprob = samples[i].logprob + 2 * samples[i].completion->n;
        base[i].entropy = NULL;
    }
    bool ok = policy_pass(&t->policy, &t->model, NULL, base, n, how, NULL, NULL, stats, err);
    free(base);
    return ok;
}

// num_iterations gradient steps on the completions of this step.
bool update_vectors(Trainer *t, UpdateStats *u, Error *err) {
    const Options *o = &t->options;
    const ModelConfig *c = &t->model.config;
    size_t size = (size_t)c->L * c->C;
    memset(u, 0, sizeof *u);
    t->policy.kept = t->rollout.kept;
    PolicySample *samples = (PolicySample *)xmalloc((size_t)t->n_groups * o->num_generations * sizeof(PolicySample));
    long long weighted_tokens;
    int n = list_samples(t, samples, &weighted_tokens);
    u->trained_samples = n;
    assign_groups(t, samples, n);
    int n_mine;
    PolicySample *mine = my_samples(t, samples, n, &n_mine);
    LossConfig how = {(float)o->epsilon, (float)o->epsilon_high, (float)o->beta, (float)o->temperature};
    bool ok = true;

    if (o->beta > 0) ok = dist_agree(reference_logprobs(t, mine, n_mine, &how, &u->pass, err), err);
    for (int iteration = 0; iteration < o->num_iterations && ok; iteration++) {
        PolicyStats pass;
        memset(&pass, 0, sizeof pass);
        grad_tree_zero(&t->tree, dist.rank);
        ok = policy_pass(&t->policy, &t->model, t->steering, mine, n_mine, &how, t->tree.parts, t->trained, &pass, err);
        ok = dist_agree(ok, err);
        if (!ok) break;
        exchange_logprobs(t, samples, n, &pass.rows);
        grad_tree_sum(&t->tree, t->dsteering);
        PolicyLoss loss = policy_loss(samples, n, &how);
        double start = now_s(), norm = t->ops->gradient_norm(t->dsteering, size);
        if (!isfinite(norm)) { ok = fail(err, EXIT_RUN, "step %d: the gradient's norm is %g\n  -> lower learning_rate and resume from the last checkpoint", t->state.step + 1, norm); break; }
        AdamW adamw = {learning_rate_at(o, t->state.updates, t->max_steps * o->num_iterations), o->adam_beta1, o->adam_beta2, o->adam_epsilon, o->weight_decay};
        double scale = norm > o->max_grad_norm ? o->max_grad_norm / (norm + 1e-6) : 1; // PyTorch's clip_grad_norm_
        t->state.updates++;
        t->ops->adamw_update(t->steering, t->exp_avg, t->exp_avg_sq, t->dsteering, scale, size, t->state.updates, &adamw);
        t->policy.kept = NULL; // it is of the vectors before this update
        t->update_s += now_s() - start;
        pass.forward_s += u->pass.forward_s;
        pass.backward_s += u->pass.backward_s;
        if (iteration == 0) {
            u->grad_norm = norm;
            u->learning_rate = adamw.learning_rate;
            measure_gap(u, samples, n);
            u->pass = pass;
            u->loss = loss;
        } else {
            u->loss.clipped_low += loss.clipped_low;
            u->loss.clipped_high += loss.clipped_high;
            u->loss.tokens += loss.tokens;
            u->loss.kl += loss.kl;
            u->pass.forward_s = pass.forward_s;
            u->pass.backward_s = pass.backward_s;
        }
    }
    for (int i = 0; i < n; i++) free(samples[i].logprob);
    free(samples);
    free(mine);
    return ok;
}

// ----------------------------------------------------------------------------
// log: one line a step in metrics.jsonl (TRL's names) and on stdout

typedef struct {
    double reward, reward_std, right, zero_std;
    double mean_length, ended_length, clipped_ratio;
    long long tokens;
    int min_length, max_length, completions, with_gradient;
} RolloutStats;

RolloutStats rollout_stats(const Trainer *t) {
    RolloutStats r;
    memset(&r, 0, sizeof r);
    int G = t->options.num_generations, ended = 0;
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
        r.reward_std += sqrt(squares / (G - 1));
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

bool log_step(Trainer *t, const RolloutStats *r, const UpdateStats *u, const Evaluation *validation, Error *err) {
    Logger *log = &t->log;
    const PolicyStats *p = &u->pass;
    const PolicyLoss *loss = &u->loss;
    double seconds = now_s() - t->step_start, tokens = loss->tokens > 0 ? (double)loss->tokens : 1;
    logger_number(log, "step", t->state.step);
    logger_number(log, "epoch", (double)t->state.next_problem / t->train.n);
    logger_number(log, "loss", loss->loss);
    logger_number(log, "grad_norm", u->grad_norm);
    logger_number(log, "learning_rate", u->learning_rate);
    logger_number(log, "reward", r->reward);
    logger_number(log, "reward_std", r->reward_std);
    logger_number(log, "frac_reward_zero_std", r->zero_std);
    logger_number(log, "rewards/positive", r->right);
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
    logger_number(log, "clip_ratio/low_mean", loss->clipped_low / tokens);
    logger_number(log, "clip_ratio/high_mean", loss->clipped_high / tokens);
    logger_number(log, "clip_ratio/region_mean", (loss->clipped_low + loss->clipped_high) / tokens);
    logger_number(log, "sampling/sampling_logp_difference/mean", u->gap_mean);
    logger_number(log, "sampling/sampling_logp_difference/max", u->gap_max);
    logger_number(log, "steering/norm", t->ops->gradient_norm(t->steering, (size_t)t->model.config.L * t->model.config.C));
    if (validation) {
        logger_number(log, "validation/accuracy", validation->accuracy);
        logger_number(log, "validation/low", validation->low);
        logger_number(log, "validation/high", validation->high);
        logger_number(log, "validation/format_rate", validation->format_rate);
        logger_number(log, "validation/clipped_ratio", validation->truncation_rate / 100);
        logger_number(log, "time/validation", validation->seconds);
    }
    logger_number(log, "time/rollout", t->rollout_s);
    logger_number(log, "time/reward", t->reward_s);
    logger_number(log, "time/forward", p->forward_s);
    logger_number(log, "time/backward", p->backward_s);
    logger_number(log, "time/update", t->update_s);
    logger_number(log, "time/communication", dist.seconds);
    logger_number(log, "step_time", seconds);
    logger_number(log, "tokens_per_s", r->tokens / (t->rollout_s > 0 ? t->rollout_s : 1));
    logger_number(log, "train_rows_per_s", p->rows / (p->forward_s + p->backward_s > 0 ? p->forward_s + p->backward_s : 1));
    if (!logger_end(log, err)) return false;
    if (log->nonfinite[0]) return fail(err, EXIT_RUN, "step %d: %s is not finite\n  -> resume from the last checkpoint with a lower learning_rate", t->state.step, log->nonfinite);

    progress_clear(&t->progress);
    snprintf(t->note, sizeof t->note, "reward %+.3f", r->reward);
    printf("step %4d/%d  reward %+.3f (%4.1f %% right)  signal %d/%d  length %.0f (%.0f %% cut)  loss %+.4f  norm %.3f  gap %.3g  %.1f s "
           "(rollout %.1f, forward %.1f, backward %.1f)  %.0f tok/s\n",
           t->state.step, t->max_steps, r->reward, 100 * r->right, r->with_gradient, t->n_groups, r->mean_length, 100 * r->clipped_ratio, loss->loss,
           u->grad_norm, u->gap_max, seconds, t->rollout_s, p->forward_s, p->backward_s, r->tokens / (t->rollout_s > 0 ? t->rollout_s : 1));
    if (validation) printf("           validation %.1f %% [%.1f, %.1f], boxed %.1f %%, cut %.1f %%\n", validation->accuracy, validation->low, validation->high,
                           validation->format_rate, validation->truncation_rate);
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
        for (int k = 0; k < t->options.num_generations; k++) {
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

// ----------------------------------------------------------------------------
// one step, and the run

bool validate(Trainer *t, Evaluation *e, Error *err) {
    const Options *o = &t->options;
    Sampling how = {(float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false, (uint32_t)o->seed, VALIDATION_STEP};
    rollout_reset(&t->rollout);
    t->rollout.kept = NULL;
    return evaluate(e, NULL, NULL, &t->rollout, &t->model, t->steering, t->tokenizer, &t->validation, t->validation_prompts, 1, &how, err);
}

// Rollout, reward, advantage, gradient, update, log (by rank 0, whose failures are not yet agreed on). On failure the vectors are
// those of the last finished step.
bool train_step(Trainer *t, Error *err) {
    const Options *o = &t->options;
    UpdateStats update;
    Evaluation validation;
    t->rollout_s = t->reward_s = t->update_s = dist.seconds = 0;
    t->step_start = now_s();
    TrainerState before = t->state;
    if (!collect_groups(t, err) || !update_vectors(t, &update, err)) {
        t->state = before;
        return false;
    }
    RolloutStats stats = rollout_stats(t);
    t->state.step++;
    t->state.tokens_total += stats.tokens;
    t->state.samples_total += stats.completions;
    t->state.seconds_total += now_s() - t->step_start;
    bool validating = o->validation_steps > 0 && t->validation.n > 0 && (t->state.step % o->validation_steps == 0 || t->state.step == t->max_steps);
    if (validating && !validate(t, &validation, err)) {
        if (!dist.stop) return false;
        validating = false; // interrupted: the step itself is done
        err->code = 0;
    }
    if (dist.rank > 0) return true;
    return log_step(t, &stats, &update, validating ? &validation : NULL, err) && (!o->log_completions || log_completions(t, err));
}

bool train(Trainer *t, Error *err) {
    const Options *o = &t->options;
    int saved = t->state.step > 0 ? t->state.step : -1;
    bool ok = true;
    progress_begin(&t->progress, "step", t->state.step, t->max_steps);
    while (ok && t->state.step < t->max_steps && !dist.stop) {
        const int step = t->state.step;
        ok = train_step(t, err);
        free_groups(t);
        const bool done = t->state.step > step; // where that is not so, the failure is agreed on
        const bool due = o->save_steps > 0 && t->state.step % o->save_steps == 0;
        if (done && ok && (due || t->state.step == t->max_steps)) {
            ok = dist.rank > 0 || save_checkpoint(t, err);
            saved = t->state.step;
        }
        if (done) ok = dist_agree(ok, err);
    }
    progress_clear(&t->progress);
    if (dist.stop && t->state.step != saved) { // an interrupted step leaves the state of the one before
        Error inner = {0, ""};
        if (!dist_agree(dist.rank > 0 || save_checkpoint(t, &inner), &inner)) { *err = inner; return false; }
    }
    if (dist.stop) err->code = 0; // whatever was interrupted, this is why
    if (dist.stop) return fail(err, 128 + dist.stop, "stopped by signal %d after step %d\n  -> run again with --resume auto", dist.stop, t->state.step);
    return ok;
}

int main(int argc, char **argv) {
    const char *usage = "usage: ./train_steer --config FILE.yml [--option value ...]\n"
                        "Trains one steering vector per layer of a frozen Qwen2.5 with GRPO.\n";
    Trainer t;
    Error err = {0, ""};
    memset(&t, 0, sizeof t);
    if (!dist_init(&argc, &argv, &err)) die(&err);
    if (options_wants_help(argc, argv)) { options_help(stdout, CMD_TRAIN, usage); dist_finalize(); return 0; }
    if (!dist_agree(options_parse(&t.options, CMD_TRAIN, argc, argv, &err) && trainer_init(&t, &err), &err)) dist_die(&err);
    if (!dist_gpu_begin(t.options.device, &err)) dist_die(&err);
    run_fingerprint(&t, t.state.fingerprint, sizeof t.state.fingerprint);
    print_header(&t);
    if (!start_or_resume(&t, &err)) dist_die(&err);
    install_signal_handlers();
    if (!train(&t, &err)) dist_die(&err);
    dist_finalize();
    trainer_free(&t);
    return 0;
}
