/*
How a training run is set up from its options: which problems, as tokens; the model's shape; the memory it will take;
then the weights and that memory.
*/
#ifndef LLMC_RUN_SETUP_H
#define LLMC_RUN_SETUP_H

#include "llmc/chat.h"                // chat_solution
#include "llmc/device.h"              // ops_for_device
#include "llmc/evaluate.h"            // prompts_encode
#include "llmc/files/weights.h"       // qwen2_open, qwen2_load_weights
#include "llmc/generation.h"          // generation_begin
#include "llmc/memory/host.h"         // host_limits
#include "llmc/run/trainable_setup.h" // trainable_init, trainable_alloc, trainable_begin
#include "llmc/trainer.h"             // Trainer

// Keeps the training problems the options want: not excluded, short enough a solution; then splits off validation.
bool select_problems(Trainer *t, Error *err) {
    const Options *o = &t->options;
    Dataset *d = &t->train;
    if (!dataset_load(d, o->data, err)) return false;
    int found = d->n;
    if (o->limit > 0) dataset_truncate(d, o->limit);
    if (*o->exclude && !dataset_exclude(d, o->exclude, err)) return false;
    if (o->max_solution_steps > 0) dataset_keep_short(d, o->max_solution_steps);
    if (o->validation_size > 0) {
        if (o->validation_size >= d->n)
            return fail(err, EXIT_RUN, "%s: validation_size %d of %d problems leaves nothing to train on", o->data,
                        o->validation_size, d->n);
        int *order = (int *)xmalloc((size_t)d->n * sizeof(int));
        rng_permutation(order, d->n, (uint32_t)o->seed, RNG_SPLIT, 0);
        dataset_split(d, &t->validation, order, o->validation_size);
        free(order);
    }
    if (*o->validation_data) {
        if (!dataset_load(&t->validation, o->validation_data, err)) return false;
        int a, b, shared = dataset_overlap(d, &t->validation, &a, &b);
        if (shared > 0)
            warn("%d training problems are also in %s, e.g. %s = %s", shared, o->validation_data, d->items[a].id,
                 t->validation.items[b].id);
    }
    answer_warn_unmatchable(d, o->data);
    answer_warn_unmatchable(&t->validation, *o->validation_data ? o->validation_data : o->data);
    if (d->n == 0)
        return fail(err, EXIT_RUN,
                    "%s: none of %d problems is left to train on\n  -> look at limit, exclude and max_solution_steps",
                    o->data, found);
    return true;
}

// Keeps the training problems i with keep[i], and their tokens. Returns how many are left.
int keep_problems(Trainer *t, const bool *keep) {
    int n = 0;
    for (int i = 0; i < t->train.n; i++) {
        if (!keep[i]) {
            ints_free(&t->prompts[i]);
            if (t->solutions) ints_free(&t->solutions[i]);
            continue;
        }
        if (t->solutions) t->solutions[n] = t->solutions[i];
        t->prompts[n++] = t->prompts[i];
    }
    dataset_keep(&t->train, keep);
    return n;
}

// Leaves out the training problems whose prompt has more than max_prompt_length tokens, and says how many.
bool drop_long_prompts(Trainer *t, int *longest, Error *err) {
    int most = t->options.max_prompt_length, found = t->train.n;
    if (most <= 0 || *longest <= most) return true;
    bool *keep = (bool *)xcalloc((size_t)found, sizeof(bool));
    *longest = 0;
    for (int i = 0; i < found; i++) {
        keep[i] = t->prompts[i].n <= most;
        if (keep[i] && t->prompts[i].n > *longest) *longest = t->prompts[i].n;
    }
    const int n = keep_problems(t, keep);
    free(keep);
    warn("%d of %d training problems have prompts of more than %d tokens (max_prompt_length) and are left out",
         found - n, found, most);
    return n > 0 || fail(err, EXIT_RUN, "max_prompt_length %d leaves no problem to train on", most);
}

// The given solutions as tokens: chat_solution, then the model's first end-of-text token. Those of more than
// max_completion_length tokens are left out.
bool encode_solutions(Trainer *t, int eos, Error *err) {
    const int found = t->train.n, most = t->options.max_completion_length;
    bool *keep = (bool *)xcalloc((size_t)found, sizeof(bool)), ok = true;
    Str text = {0};
    t->solutions = (IntVec *)xcalloc((size_t)found, sizeof(IntVec));
    for (int i = 0; i < found && ok; i++) {
        const Problem *p = &t->train.items[i];
        if (problem_is_blank(p->solution)) {
            ok = fail(err, EXIT_RUN,
                      "%s: problem %s has no \"solution\", which setup %s learns from\n  -> give every line one, or "
                      "--setup %s",
                      t->options.data, p->id, t->options.setup, setup_kind(t->options.setup));
            break;
        }
        text.n = 0;
        ok = chat_solution(&text, t->options.prompt_template, p->solution, p->answer, err) &&
             tokenizer_encode(t->tokenizer, &t->solutions[i], text.s, text.n, err);
        ints_push(&t->solutions[i], eos);
        keep[i] = t->solutions[i].n <= most;
    }
    const int n = ok ? keep_problems(t, keep) : 0;
    if (ok && n < found)
        warn("%d of %d solutions have more than %d tokens (max_completion_length) and are left out", found - n, found,
             most);
    if (ok && n == 0) ok = fail(err, EXIT_RUN, "max_completion_length %d leaves no solution to learn from", most);
    free(keep);
    str_free(&text);
    return ok;
}

// The most groups of a step: one round of prompts, or with dynamic_sampling several.
int step_groups(const Options *o) {
    return o->prompts_per_step * (o->dynamic_sampling ? o->dynamic_sampling_max_rounds : 1);
}

void trainer_alloc_trained(Trainer *t) {
    const Options *o = &t->options;
    const int parts = step_groups(o);
    trainable_alloc(&t->trainable, t->ops);
    if (t->trainable.layout.kind == PARAMS_FULL) { // its gradient is too large to be kept for each group
        reduction_init_single(&t->reduction, t->ops, t->trainable.n, t->trainable.grads);
        return;
    }
    reduction_init(&t->reduction, t->ops, t->trainable.layout.n);
    reduction_reserve(&t->reduction, parts);
    if (!dist_gpu_will_be_direct(o->device)) return;
    reduction_swap(&t->reduction); // what comes from other GPUs arrives in a second array
    reduction_reserve(&t->reduction, parts);
}

void trainer_alloc_passes(Trainer *t) {
    const Options *o = &t->options;
    const int groups = step_groups(o), longest = t->longest + o->max_completion_length;
    const long long samples = (long long)groups * t->G;
    const int lowest = trainable_lowest(&t->trainable);
    rollout_alloc(&t->rollout, &t->model, t->slots, t->cache_bytes, t->longest, o->max_completion_length);
    policy_alloc(&t->policy, &t->model, o->activation_memory * (1 << 30), longest, lowest, true);
    policy_reserve(&t->policy, &t->model, samples, groups, longest);
}

// What trainer_alloc_passes has taken, and the gradient's parts.
void trainer_release_passes(Trainer *t) {
    rollout_free(&t->rollout, &t->model);
    policy_free(&t->policy, &t->model);
    reduction_free(&t->reduction);
}

// The rest of a run's host memory that no backend's alloc gives: rank 0's copies of moments that are split, for
// checkpoints.
size_t trainer_copies_bytes(const Trainer *t) {
    return t->trainable.shard.split && dist.rank == 0 ? 2 * shard_room(&t->trainable.shard) * sizeof(float) : 0;
}

// A step's completions on the host, each with room for the longest, and what the pass finds of each token (list_samples
// of train_steer.cu); or those of a validation.
size_t trainer_answers_bytes(const Trainer *t) {
    const Options *o = &t->options;
    const size_t step = (size_t)step_groups(o) * t->G * (sizeof(int) + 4 * sizeof(float)),
                 validation = o->validation_steps > 0 ? (size_t)t->validation.n * ANSWER_TOKEN_BYTES : 0;
    return (step > validation ? step : validation) * o->max_completion_length;
}

// t->memory = what the run will take with its slots and its cache, weights included; they are loaded already where the
// backend knows their size only then.
void trainer_count_memory(Trainer *t) {
    Trainer dry = *t; // has allocated nothing yet
    const Ops counting = memory_counting(t->ops);
    size_t *part = t->memory.part;
    dry.ops = dry.model.ops = &counting;
    trainer_alloc_trained(&dry);
    part[MEMORY_TRAINED] = memory_counted();
    trainer_alloc_passes(&dry);
    const size_t passes = memory_counted();
    t->memory.room = memory_room() + (t->ops->weight_bytes ? weights_room_planned(&t->model.config, t->ops) : 0);

    // of which: the same functions once more
    const PolicyPass *p = &dry.policy;
    KVCache kv;
    Scratch head;
    Activations acts;
    kv_cache_alloc(&kv, &dry.model, dry.rollout.kv.n_pages);
    part[MEMORY_CACHE] = memory_counted();
    kv_cache_alloc(&kv, &dry.model, p->kv.n_pages);
    part[MEMORY_PASS_CACHE] = memory_counted();
    scratch_alloc_head(&head, &dry.model, dry.rollout.scratch.head_rows, false);
    scratch_alloc_head(&head, &dry.model, p->scratch.head_rows, true);
    part[MEMORY_HEAD] = memory_counted();
    activations_alloc(&acts, &dry.model, p->rows, p->first_layer);
    activations_free(&acts, &dry.model);
    part[MEMORY_ACTIVATIONS] = memory_counted();
    part[MEMORY_SCRATCH] =
        passes - part[MEMORY_CACHE] - part[MEMORY_PASS_CACHE] - part[MEMORY_HEAD] - part[MEMORY_ACTIVATIONS];

    const ModelConfig *c = &t->model.config;
    const int head_rows = p->scratch.head_rows > dry.rollout.slots ? p->scratch.head_rows : dry.rollout.slots;
    const LargestPass most = {
        p->rows, 2 * p->rows, head_rows, c->NH, c->NKV, c->HD, c->V, true, t->trainable.layout.kind == PARAMS_FULL};
    part[MEMORY_WEIGHTS] = qwen2_bytes(&t->model);
    t->largest = most;
    part[MEMORY_OWN] = t->ops->own_bytes ? t->ops->own_bytes(&most) : 0;
    part[MEMORY_MARGIN] = memory_margin(t->ops, c->L, t->memory.room);
    trainer_release_passes(&dry);
    if (t->ops->host_memory) part[MEMORY_ANSWERS] = trainer_answers_bytes(t);
}

// Whether that is there; false with what lowers it.
bool trainer_memory_fits(const Trainer *t, Error *err) {
    size_t taken, available;
    HostLimits limits;
    host_limits(&limits, "");
    if (t->ops->host_memory) {
        MemoryPlan all = t->memory;
        all.part[MEMORY_TRAINED] += trainer_copies_bytes(t);
        const size_t mapped = model_file_bytes(t->options.model) - weights_plan(&t->model.config, t->ops).in_file;
        return host_memory_fits(&limits, &all, t->ops->name, dist.local_size, mapped, err);
    }
    taken = t->ops->memory(&available);
    MemoryPlan host;
    memset(&host, 0, sizeof host);
    host.part[MEMORY_ANSWERS] = trainer_answers_bytes(t);
    return memory_fits(&t->memory, t->ops->name, taken, available, err) &&
           host_memory_fits(&limits, &host, "cuda, memory of the host", dist.local_size, 0, err);
}

// With so many slots, and a cache for answers of USUAL_LENGTH of the longest: those that grow longer are made room for
// by preempting others.
#define USUAL_LENGTH 0.4
#define MOST_SLOTS 1024 // more gain nothing
void trainer_set_slots(Trainer *t, int slots) {
    const int usual = t->longest + (int)(USUAL_LENGTH * t->options.max_completion_length);
    t->slots = slots;
    t->cache_bytes = t->options.cache_memory * (1 << 30);
    if (t->cache_bytes == 0) t->cache_bytes = (double)slots * (pages_for(usual) + 1) * (double)kv_page_bytes(&t->model);
}

// The plan: t->slots, t->cache_bytes, t->memory. With rollout_batch_size 0 as many slots as a step has answers, or as
// memory has room for. False if it is more than there is.
bool trainer_plan_memory(Trainer *t, Error *err) {
    const Options *o = &t->options;
    t->slots = o->rollout_batch_size;
    t->cache_bytes = o->cache_memory * (1 << 30);
    const long long answers = (long long)o->prompts_per_step * t->G;
    int least = 1, most = answers > MOST_SLOTS ? MOST_SLOTS : (int)answers;
    while (o->rollout_batch_size == 0 && least < most) { // `least` fits, if anything does; more than `most` does not
        Error too_much = {0, ""};
        const int middle = least + (most - least + 1) / 2;
        trainer_set_slots(t, middle);
        trainer_count_memory(t);
        if (t->ops->host_memory) t->memory.part[MEMORY_CACHE] *= 2; // others live there, too
        if (trainer_memory_fits(t, &too_much)) least = middle;
        else most = middle - 1;
    }
    if (o->rollout_batch_size == 0) trainer_set_slots(t, least);
    trainer_count_memory(t);
    return trainer_memory_fits(t, err);
}

// Everything but what takes memory: problems as tokens, the model's shape, the plan. False, with nothing large
// allocated, where the plan does not fit.
bool trainer_plan(Trainer *t, Error *err) {
    const Options *o = &t->options;
    int longest = 0, longest_validation = 0;
    if (!dist_gpu_choose(o->device, err)) return false;
    t->ops = ops_for_device(o->device, err);
    if (!t->ops || !model_dir_check(o->model, err) || !select_problems(t, err)) return false;
    t->tokenizer = tokenizer_load(o->model, err);
    if (!t->tokenizer) return false;
    if (!prompts_encode(&t->prompts, &longest, t->tokenizer, &t->train, o->prompt_template, o->system, err) ||
        !drop_long_prompts(t, &longest, err))
        return false;
    if (t->validation.n > 0 && !prompts_encode(&t->validation_prompts, &longest_validation, t->tokenizer,
                                               &t->validation, o->prompt_template, o->system, err))
        return false;
    if (longest_validation > longest) longest = longest_validation;
    if (!qwen2_open(&t->model, o->model, longest + o->max_completion_length, t->ops, err)) return false;
    const ModelConfig *c = &t->model.config;
    if (tokenizer_size(t->tokenizer) > c->V)
        return fail(err, EXIT_RUN, "%s: tokenizer.json has ids up to %d, the model's vocab_size is %d", o->model,
                    tokenizer_size(t->tokenizer) - 1, c->V);
    if (!generation_begin(&t->model.config, t->tokenizer, o->model, o->stop, o->prompt_template, false, err))
        return false;
    if (!setup_is_sft(o->setup) && (o->top_p < 1 || o->top_k > 0))
        warn("top_p %g, top_k %d: completions are sampled from the likeliest tokens alone, while log-probs, gradient "
             "and gap are those of the whole distribution:\n"
             "  the policy that is trained is not the one that samples, and a gap of 0 does not show it\n  -> top_p 1, "
             "top_k 0",
             o->top_p, o->top_k);
    t->G = setup_is_sft(o->setup) ? 1 : o->num_generations;
    if (setup_is_sft(o->setup) && !encode_solutions(t, c->eos.v[0], err)) return false;
    if (!trainable_init(&t->trainable, t->ops, c, &t->model.weights, o, err)) return false;
    t->model.layout = &t->trainable.layout;

    t->longest = longest;
    t->model_name = *o->model_name ? xstrdup(o->model_name) : model_name_from_dir(o->model);
    t->dataset_name = *o->dataset_name ? xstrdup(o->dataset_name) : dataset_stem(o->data);
    Str setup = {0};
    trainable_folder(&setup, o);
    t->run_dir = checkpoint_run_dir(o->output_dir, t->model_name, t->dataset_name, setup.s, o->seed);
    str_free(&setup);
    t->order = (int *)xmalloc((size_t)t->train.n * sizeof(int));
    t->order_epoch = -1;
    t->max_steps = o->max_steps > 0 ? o->max_steps : (int)ceil(o->num_train_epochs * t->train.n / o->prompts_per_step);
    return !t->ops->weight_bytes || trainer_plan_memory(t, err);
}

// Weights, and the memory that was planned. All ranks come here together: those of one machine have all looked at what
// is free.
bool trainer_load(Trainer *t, Error *err) {
    if (!qwen2_load_weights(&t->model, t->options.model, err)) return false;
    if (!t->ops->weight_bytes && !trainer_plan_memory(t, err)) return false;
    trainer_alloc_trained(t);
    trainer_alloc_passes(t);
    if (t->ops->reserve) t->ops->reserve(&t->largest);
    return trainable_begin(&t->trainable, &t->model.config, &t->options, err);
}

void trainer_free(Trainer *t) {
    logger_close(&t->log);
    if (t->ops && t->model.ops) {
        trainer_release_passes(t);
        qwen2_free(&t->model);
        trainable_free(&t->trainable);
    }
    prompts_free(t->prompts, t->train.n);
    prompts_free(t->solutions, t->train.n);
    prompts_free(t->validation_prompts, t->validation.n);
    dataset_free(&t->train);
    dataset_free(&t->validation);
    if (t->tokenizer) tokenizer_free(t->tokenizer);
    void *all[] = {t->run_dir, t->model_name, t->dataset_name, t->order};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    options_free(&t->options);
}

void print_header(const Trainer *t) {
    const ModelConfig *c = &t->model.config;
    Str what = {0};
    trainable_describe(&what, &t->trainable);
    options_print(stdout, &t->options, CMD_TRAIN);
    printf("%-28s %s\n", "kernels", t->ops->isa);
    if (dist.size > 1) printf("%-28s %d, rank 0 on %s\n", "processes", dist.size, dist.host);
    if (*dist_gpu.gpu) printf("%-28s %s\n", "GPU of rank 0", dist_gpu.gpu);
    if (*dist_gpu.gradient) printf("%-28s %s\n", "the gradient travels", dist_gpu.gradient);
    printf("%-28s %d layers, hidden %d, %d heads (%d kv), vocabulary %d\n", "architecture", c->L, c->C, c->NH, c->NKV,
           c->V);
    printf("%-28s %s\n", "trained numbers", what.s);
    printf("%-28s %.3g MiB%s\n", "gradient", (double)t->reduction.size * sizeof(float) / (1 << 20),
           t->reduction.single ? "" : " for each problem of a step");
    if (t->trainable.shard.split)
        printf("%-28s of %zu numbers on each process\n", "AdamW's moments", t->trainable.shard.each);
    str_free(&what);
    printf("%-28s %d (%d for validation)\n", "training problems", t->train.n, t->validation.n);
    printf("%-28s %d at once\n", "sequences sampled", t->slots);
    printf("%-28s %d rows a pass\n", "activations", t->policy.rows);
    memory_print(stdout, &t->memory, t->ops->name);
    printf("%-28s %s\n\n", "output", t->run_dir);
    fflush(stdout);
}

#endif
