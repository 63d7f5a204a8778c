/*
steer.c, the trainer: teaches a frozen Qwen2.5 to reason better by training one vector per layer (or what else option
setup names, llmc/trainable.h) with GRPO on problems whose answer can be checked. Read it top to bottom; `main`, at the
end, is the table of contents of one run:

    options -> model -> [ rollout -> reward -> advantage -> forward and backward -> AdamW -> log -> checkpoint ]

Read it as a program that runs alone. Under mpirun several run, the ranks, and these calls do more than nothing
(llmc/dist/ranks.h, llmc/dist/sync.h):

    my_range, my_samples                            this rank's share of the work; alone, all of it
    share_groups, share_logprobs, reduce_gradient   what each has found becomes known to all
    agree                                           what fails on one rank fails on all

In between all ranks do the same arithmetic on the same numbers, so that any number of ranks gives the same bits (all
weights, llmc/dist/shard.h: the same number).

    make train_steer && ./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml
*/
#include "llmc/dist/dist.h"        // my_range, agree; dist_init, dist_die
#include "llmc/dist/sync.h"        // share_groups, my_samples, share_logprobs, reduce_gradient, share_times
#include "llmc/evaluate.h"         // evaluate
#include "llmc/grpo.h"             // group_advantages, policy_pass
#include "llmc/logger.h"           // progress_update, stop_requested
#include "llmc/natural_gradient.h" // natural_gradient_update
#include "llmc/options/options.h"  // options_parse, options_help
#include "llmc/reward.h"           // completion_reward
#include "llmc/run/run.h"          // trainer_plan, trainer_load, start_or_resume, save_checkpoint, log_step
#include "llmc/trainer.h"          // Trainer: model, problems, vectors, state

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

// Appends n groups of the next problems, without completions.
Group *draw_groups(Trainer *t, int n) {
    t->groups = (Group *)xrealloc(t->groups, (size_t)(t->n_groups + n) * sizeof(Group));
    Group *fresh = t->groups + t->n_groups;
    memset(fresh, 0, (size_t)n * sizeof(Group));
    for (int i = 0; i < n; i++) {
        Group *g = &fresh[i];
        g->problem = draw_problem(t, &g->key);
        g->sampled_by = rank_of(n, i);
        g->completions = (Completion *)xcalloc((size_t)t->G, sizeof(Completion));
        g->reward = (float *)xcalloc((size_t)t->G, sizeof(float));
        g->advantage = (float *)xcalloc((size_t)t->G, sizeof(float));
    }
    t->n_groups += n;
    return fresh;
}

// Setup sft_...: appends n groups of one, the given solutions of the next problems. All ranks know all of them.
void take_solutions(Trainer *t, int n) {
    Group *fresh = draw_groups(t, n);
    for (int i = 0; i < n; i++) {
        const IntVec *solution = &t->solutions[fresh[i].problem];
        Completion *c = fresh[i].completions;
        c->ids = (int *)xmalloc((size_t)solution->n * sizeof(int));
        memcpy(c->ids, solution->v, (size_t)solution->n * sizeof(int));
        c->n = solution->n;
        c->finished = true;
    }
}

// Appends n groups: draws problems, samples the completions of this rank's share of them.
bool sample_groups(Trainer *t, int n, Error *err) {
    const Options *o = &t->options;
    ops_wait(t->ops);
    const double start = own_time();
    Group *fresh = draw_groups(t, n);
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)n, sizeof(RolloutPrompt));
    for (int i = 0; i < n; i++) {
        const Group *g = &fresh[i];
        asked[i].prompt = t->prompts[g->problem].v;
        asked[i].P = t->prompts[g->problem].n;
        asked[i].key = g->key;
        asked[i].completions = g->completions;
    }
    Sampling sampling = {(float)o->temperature, (float)o->top_p,        o->top_k, o->max_completion_length, false,
                         (uint32_t)o->seed,     (uint32_t)t->state.step};
    int first, last;
    my_range(n, &first, &last);
    bool ok = rollout(&t->rollout, &t->model, t->trainable.model_params, asked + first, last - first, t->G, &sampling,
                      rollout_progress, t, err);
    free(asked);
    ops_wait(t->ops);
    t->times.rollout += own_time() - start;
    return ok;
}

// ----------------------------------------------------------------------------
// reward and advantage

// The rewards of the groups from `first` on that this rank has sampled: its share, as in sample_groups.
void grade_groups(Trainer *t, int first) {
    const Options *o = &t->options;
    const double start = own_time();
    int from, to;
    Str text = {0};
    my_range(t->n_groups - first, &from, &to);
    for (int i = first + from; i < first + to; i++) {
        Group *g = &t->groups[i];
        for (int k = 0; k < t->G; k++) {
            text.n = 0;
            tokenizer_decode(t->tokenizer, &text, g->completions[k].ids, g->completions[k].n, true);
            RewardKey key = {(uint32_t)o->seed, (uint32_t)t->state.step, g->key, (uint32_t)k};
            g->reward[k] = completion_reward(o->reward, &t->train.items[g->problem], text.s ? text.s : "", text.n, key);
        }
    }
    str_free(&text);
    t->times.reward += own_time() - start;
}

// The advantages of the groups from `first` on, from their rewards.
void compute_advantages(Trainer *t, int first) {
    for (int i = first; i < t->n_groups; i++) {
        Group *g = &t->groups[i];
        group_advantages(g->advantage, g->reward, t->G, t->options.advantage);
        g->equal = group_is_equal(g->reward, t->G);
    }
}

void free_groups(Trainer *t) {
    for (int i = 0; i < t->n_groups; i++) {
        for (int k = 0; k < t->G; k++) completion_free(&t->groups[i].completions[k]);
        free(t->groups[i].completions);
        free(t->groups[i].reward);
        free(t->groups[i].advantage);
    }
    free(t->groups);
    t->groups = NULL;
    t->n_groups = 0;
}

// The completions of this step: given ones, or one round of prompts, or with dynamic_sampling as many as give
// prompts_per_step groups with a gradient.
bool collect_groups(Trainer *t, Error *err) {
    const Options *o = &t->options;
    int missing = o->prompts_per_step;
    if (t->solutions) take_solutions(t, missing);
    for (int round = 0;
         missing > 0 && !t->solutions && round < (o->dynamic_sampling ? o->dynamic_sampling_max_rounds : 1); round++) {
        int first = t->n_groups;
        if (!agree(sample_groups(t, missing, err), err)) return false;
        grade_groups(t, first);
        share_groups(t, first);
        compute_advantages(t, first);
        for (int i = first; i < t->n_groups; i++) missing -= !t->groups[i].equal;
    }
    return true;
}

// ----------------------------------------------------------------------------
// forward, backward, update

// The samples that go through the pass, each with the weight of its tokens; u: how many tokens and completions the loss
// is over. With dynamic_sampling groups of equal reward are no part of the batch; otherwise they count in the
// normaliser, and are passed over only where that changes nothing (skip_equal_groups).
int list_samples(const Trainer *t, PolicySample *samples, UpdateStats *u) {
    const Options *o = &t->options;
    const bool skip = passes_skip(o);
    int n = 0, counted = 0;
    for (int i = 0; i < t->n_groups; i++) {
        const Group *g = &t->groups[i];
        if (o->dynamic_sampling && g->equal) continue;
        for (int k = 0; k < t->G; k++) {
            const Completion *c = &g->completions[k];
            counted++;
            if (o->mask_truncated_completions && !c->finished) continue;
            u->loss_tokens += c->n;
            if (g->equal && skip) {
                u->skipped_samples++;
                continue;
            }
            PolicySample *s = &samples[n++];
            memset(s, 0, sizeof *s);
            s->prompt = t->prompts[g->problem].v;
            s->P = t->prompts[g->problem].n;
            s->group = o->share_prompts ? i : n - 1;
            s->slot = i;
            s->completion = c;
            s->advantage = g->advantage[k];
            s->old_logprob = c->logprob;                                     // NULL of a given solution: cross-entropy
            s->logprob = (float *)xmalloc(3 * (size_t)c->n * sizeof(float)); // log-prob, entropy, reference log-prob
            s->entropy = s->logprob + c->n;
            if (o->beta > 0) s->ref_logprob = s->logprob + 2 * c->n;
        }
    }
    for (int i = 0; i < n; i++)
        samples[i].weight =
            token_weight(o->loss_type, u->loss_tokens, counted, samples[i].completion->n, o->max_completion_length);
    for (int i = 0; i < n; i++) {
        const double a = (double)samples[i].weight * samples[i].advantage;
        u->squares += samples[i].completion->n * a * a;
    }
    u->trained_samples = n;
    return n;
}

// The rate of update u (from 0) where the highest is `most`: linear warm-up that is full at its last update, then the
// schedule.
double rate_at(const Options *o, double most, int u, int total) {
    double warmup = ceil(o->warmup_ratio * total), done = u + 1;
    if (done < warmup) return most * done / warmup;
    double left =
        total > warmup ? (total - u) / (total - warmup + 1) : 1; // 1 just after the warm-up, towards 0 at the end
    if (left > 1) left = 1;
    if (strcmp(o->lr_scheduler_type, "linear") == 0) return most * left;
    if (strcmp(o->lr_scheduler_type, "cosine") == 0) return most * 0.5 * (1 - cos(3.14159265358979323846 * left));
    return most;
}

// Log-probs of the base model: the reference of the KL term is the same model with what is trained left out.
bool reference_logprobs(Trainer *t, PolicySample *samples, int n, const LossConfig *loss_config, Error *err) {
    PolicyStats pass;
    memset(&pass, 0, sizeof pass);
    PolicySample *base = (PolicySample *)xmalloc((size_t)n * sizeof(PolicySample));
    memcpy(base, samples, (size_t)n * sizeof(PolicySample));
    for (int i = 0; i < n; i++) {
        base[i].logprob = samples[i].logprob + 2 * samples[i].completion->n;
        base[i].entropy = NULL;
    }
    bool ok = policy_pass(&t->policy, &t->model, NULL, base, n, loss_config, NULL, NULL, &pass, err);
    t->times.forward += pass.forward_s;
    free(base);
    return ok;
}

// What is trained must stay numbers that a model can compute with: vectors are of order 0.01 to 1, the residual stream
// that they are added to of order 1 to 100. Beyond DIVERGED nothing of it is left, though all may be finite: RMSNorm
// makes 0 of a row whose square overflows. u->norm = the norm of all of it. Every rank finds the same.
#define DIVERGED 1000
bool check_diverged(const Trainer *t, UpdateStats *u, Error *err) {
    const size_t n = t->trainable.layout.n;
    u->norm = t->ops->gradient_norm(t->trainable.model_params, n);
    const double root_mean_square = u->norm / sqrt((double)n);
    if (root_mean_square <= DIVERGED) return true; // false of NaN
    return fail(
        err, EXIT_RUN,
        "step %d: training has diverged: the root mean square of what is trained is %g (norm %g), expected at most "
        "%d\n"
        "  -> lower learning_rate (%g in this step) and resume from the last checkpoint",
        t->state.step + 1, root_mean_square, u->norm, DIVERGED, u->learning_rate);
}

// The optimizer moves what is trained along the gradient of this step: norm, clipping, learning rate, update. Every
// rank does the same (of all weights, its shard). Fails on a norm that is not finite; then nothing has moved.
bool optimizer_step(Trainer *t, UpdateStats *u, Error *err) {
    const Options *o = &t->options;
    Trainable *x = &t->trainable;
    const Shard *s = &x->shard;
    ops_wait(t->ops);
    const double start = own_time(), norm = shard_norm(s, x->grads);
    if (!isfinite(norm))
        return fail(err, EXIT_RUN,
                    "step %d: the gradient's norm is %g\n  -> lower learning_rate and resume from the last checkpoint",
                    t->state.step + 1, norm);
    const bool natural = strcmp(o->optimizer, "natural_gradient") == 0;
    const double rate = rate_at(o, natural ? 1 : o->learning_rate, t->state.updates, t->max_steps * o->num_iterations);
    const AdamW adamw = {rate, o->adam_beta1, o->adam_beta2, o->adam_epsilon, o->weight_decay};
    const double scale = norm > o->max_grad_norm ? o->max_grad_norm / (norm + 1e-6) : 1; // PyTorch's clip_grad_norm_
    t->state.updates++;
    t->moved = true;
    if (natural)
        natural_gradient_update(x->params, x->exp_avg, x->grads, x->layers, x->L, x->C, o->target_kl, u->squares, rate,
                                o->adam_beta1, t->state.updates, t->ops);
    else
        t->ops->adamw_update(x->params + s->first, x->exp_avg, x->exp_avg_sq, x->grads + s->first, scale, s->mine,
                             t->state.updates, &adamw);
    trainable_moved(x);
    u->grad_norm = norm;
    u->learning_rate = rate;
    ops_wait(t->ops);
    t->times.update += own_time() - start;
    return true;
}

// Forward and backward over the samples `mine`, then the whole step's log-probs (in `samples`) and gradient (in
// trainable.grads) on every rank.
bool compute_gradient(Trainer *t, PolicySample *samples, int n, PolicySample *mine, int n_mine,
                      const LossConfig *loss_config, UpdateStats *u, Error *err) {
    PolicyStats pass;
    memset(&pass, 0, sizeof pass);
    zero_gradient(t);
    if (!agree(policy_pass(&t->policy, &t->model, t->trainable.model_params, mine, n_mine, loss_config,
                           t->reduction.slots, t->trainable.layers, &pass, err),
               err))
        return false;
    share_logprobs(t, samples, n, &pass.rows);
    reduce_gradient(t);
    u->rows += pass.rows;
    t->times.forward += pass.forward_s;
    t->times.backward += pass.backward_s;
    return true;
}

// num_iterations gradient steps on the completions of this step.
bool update_trained(Trainer *t, UpdateStats *u, Error *err) {
    const Options *o = &t->options;
    memset(u, 0, sizeof *u);
    PolicySample *samples = (PolicySample *)xmalloc((size_t)t->n_groups * t->G * sizeof(PolicySample));
    const int n = list_samples(t, samples, u);
    int n_mine;
    PolicySample *mine = my_samples(t, samples, n, &n_mine);
    const float temperature = t->solutions ? 1 : (float)o->temperature; // that of the options is the sampler's
    const LossConfig loss_config = {(float)o->epsilon, (float)o->epsilon_high,    (float)o->beta,
                                    temperature,       o->use_bias_correction_kl, (float)o->entropy_coeff};
    bool ok = o->beta == 0 || agree(reference_logprobs(t, mine, n_mine, &loss_config, err), err);

    for (int iteration = 0; iteration < o->num_iterations && ok; iteration++) {
        ok = compute_gradient(t, samples, n, mine, n_mine, &loss_config, u, err) && optimizer_step(t, u, err);
        if (!ok) break;
        const PolicyLoss loss = policy_loss(samples, n, &loss_config);
        update_add(u, &loss);
        if (iteration > 0) continue;
        measure_gap(u, samples, n);
        if (o->beta > 0) u->rows *= 2; // the reference has run the same
    }
    if (ok) ok = agree(check_diverged(t, u, err), err);
    for (int i = 0; i < n; i++) free(samples[i].logprob);
    free(samples);
    free(mine);
    return ok;
}

// ----------------------------------------------------------------------------
// one step, and the run

bool validate(Trainer *t, Evaluation *e, Error *err) {
    const Options *o = &t->options;
    Sampling sampling = {(float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false,
                         (uint32_t)o->seed,     VALIDATION_STEP};
    return evaluate(e, &t->rollout, &t->model, t->trainable.model_params, t->tokenizer, &t->validation,
                    t->validation_prompts, 1, &sampling, err);
}

// Rollout, reward, advantage, gradient, update, log (by rank 0, whose failures are not yet agreed on). On failure the
// vectors are those of the last finished step.
bool train_step(Trainer *t, Error *err) {
    const Options *o = &t->options;
    UpdateStats u;
    Evaluation validation;
    step_times_begin(t);
    TrainerState before = t->state;
    if (!collect_groups(t, err) || !update_trained(t, &u, err)) {
        t->state = before;
        return false;
    }
    share_times(t);
    RolloutStats stats = rollout_stats(t);
    t->state.step++;
    t->state.tokens_total += stats.tokens;
    t->state.prompt_tokens_total += stats.prompt_tokens;
    t->state.samples_total += stats.completions;
    ops_wait(t->ops);
    const double seconds = now_s() - t->times.start;
    bool validating = validation_due(t);
    if (validating && !validate(t, &validation, err)) {
        if (!stop_agreed()) return false;
        validating = false; // interrupted: the step itself is done, the resumed run makes up for the rest
        err->code = 0;
    }
    t->state.seconds_total += now_s() - t->times.start;
    if (!is_writer()) return true;
    return log_step(t, &stats, &u, seconds, validating ? &validation : NULL, err) &&
           (!o->log_completions || log_completions(t, err));
}

// The validation that an interrupted run owes: a line of its own in metrics.jsonl, of the step that it belongs to.
bool make_up_validation(Trainer *t, Error *err) {
    Evaluation validation;
    if (!validate(t, &validation, err)) {
        if (stop_agreed()) err->code = 0; // once more
        return stop_agreed() != 0;
    }
    if (!is_writer()) return true;
    printf("the validation of step %d, which was interrupted:\n", t->state.step);
    logger_number(&t->log, "step", t->state.step);
    log_validation(t, &validation);
    print_validation(&validation);
    return logger_end(&t->log, err);
}

bool train(Trainer *t, Error *err) {
    const Options *o = &t->options;
    int saved = t->state.step > 0 ? t->state.step : -1;
    bool ok = !t->validation_missing || agree(make_up_validation(t, err), err);
    if (ok && !stop_agreed() && t->state.step >= t->max_steps && is_writer())
        printf("nothing to train: this run is finished, at step %d of %d\n"
               "  -> --max_steps or --num_train_epochs above that goes on with it\n",
               t->state.step, t->max_steps);
    progress_begin(&t->progress, "step", t->state.step, t->max_steps);
    while (ok && t->state.step < t->max_steps && !stop_agreed()) {
        const int step = t->state.step;
        ok = train_step(t, err);
        free_groups(t);
        const bool done = t->state.step > step; // where that is not so, the failure is agreed on
        const bool due = o->save_steps > 0 && t->state.step % o->save_steps == 0;
        if (done) ok = agree(ok, err);
        if (ok) t->moved = false;
        if (done && ok && (due || t->state.step == t->max_steps)) {
            ok = agree(save_checkpoint(t, err), err);
            saved = t->state.step;
        }
    }
    progress_clear(&t->progress);
    if (!ok && t->moved) return false;             // what is trained is no longer that of state.step: nothing to save
    if (stop_agreed() && t->state.step != saved) { // an interrupted step leaves the state of the one before
        Error inner = {0, ""};
        if (!agree(save_checkpoint(t, &inner), &inner)) {
            *err = inner;
            return false;
        }
    }
    if (!stop_agreed()) return ok;
    err->code = 0; // whatever was interrupted, this is why
    return fail(err, 128 + stop_agreed(), "stopped by signal %d after step %d\n  -> run again with --resume auto",
                stop_agreed(), t->state.step);
}

// A run from its options to its last checkpoint; parsed: these were in order.
bool run(Trainer *t, bool parsed, Error *err) {
    if (!agree(parsed && trainer_plan(t, err), err) || !agree(trainer_load(t, err), err) ||
        !dist_gpu_begin(t->options.device, err))
        return false;
    run_fingerprint(t, true, t->state.fingerprint, sizeof t->state.fingerprint);
    print_header(t);
    if (!agree(check_stdout(err), err) || !start_or_resume(t, err)) return false; // before any work is done
    install_signal_handlers();
    return train(t, err) && agree(check_stdout(err), err); // a run that cannot tell of itself goes on to its end
}

int main(int argc, char **argv) {
    const char *usage = "usage: ./train_steer --config FILE.yml [--option value ...]\n"
                        "Trains one steering vector per layer of a frozen Qwen2.5, or what else --setup names, with "
                        "GRPO or on given solutions.\n";
    Trainer t;
    Error err = {0, ""};
    memset(&t, 0, sizeof t);
    const bool help = options_wants_help(argc, argv), version = argc == 2 && strcmp(argv[1], "--version") == 0;
    const bool parsed = help || version || options_parse(&t.options, CMD_TRAIN, argc, argv, &err);
    dist.timeout = t.options.ddp_timeout;
    if (!dist_init(&argc, &argv, &err)) die(&err);
    if (help) options_help(stdout, CMD_TRAIN, usage);
    if (version) print_version("train_steer");
    if (!(help || version ? check_stdout(&err) : run(&t, parsed, &err))) dist_die(&err);
    dist_finalize();
    if (!help && !version) trainer_free(&t);
    return 0;
}
