/*
Where a training run begins: anew, or at a checkpoint; and the checkpoints that it leaves.
*/
#ifndef LLMC_RUN_RESUME_H
#define LLMC_RUN_RESUME_H

#include "llmc/run/trainable_setup.h" // trainable_checkpoint, trainable_to_host, trainable_from_host
#include "llmc/trainer.h"             // Trainer

// FNV-1a, continued from `hash`.
uint64_t hash_bytes(uint64_t hash, const void *data, size_t n) {
    const unsigned char *c = (const unsigned char *)data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ c[i]) * 1099511628211u;
    return hash;
}

// What must not change between a run and its continuation: the problems, their order, their texts, and how they are
// drawn. with_texts: false as checkpoints have it from before texts were looked at.
void run_fingerprint(const Trainer *t, bool with_texts, char *out, size_t n) {
    const uint64_t start = 14695981039346656037u;
    uint64_t ids = start, texts = start;
    for (int i = 0; i < t->train.n; i++) {
        const Problem *p = &t->train.items[i];
        const char *const read[] = {p->problem, p->answer, t->solutions ? p->solution : ""};
        ids = hash_bytes(ids, p->id, strlen(p->id));
        for (int k = 0; k < 3; k++) texts = hash_bytes(texts, read[k], strlen(read[k]) + 1);
        for (int k = 0; k < p->n_alt; k++) texts = hash_bytes(texts, p->alt[k], strlen(p->alt[k]) + 1);
    }
    Str text = {0};
    str_printf(&text, "%d problems %016llx", t->train.n, (unsigned long long)ids);
    if (with_texts) str_printf(&text, ", texts %016llx", (unsigned long long)texts);
    str_printf(&text, ", seed %d, ", t->options.seed);
    trainable_shape(&text, &t->trainable, &t->options);
    snprintf(out, n, "%s", text.s);
    str_free(&text);
}

// Whether this run may go on from the checkpoint `from`, which has the fingerprint `saved`. Of one from before texts
// were looked at, the rest must be alike; that the texts are not known is said.
static bool fingerprint_check(const Trainer *t, const char *saved, const char *from, Error *err) {
    char mine[2][CHECKPOINT_TEXT];
    for (int i = 0; i < 2; i++) run_fingerprint(t, i == 0, mine[i], sizeof mine[i]);
    if (strcmp(saved, mine[0]) == 0) return true;
    if (strcmp(saved, mine[1]) != 0)
        return fail(err, EXIT_RUN,
                    "cannot resume from %s: it was trained on \"%s\", this call means \"%s\"\n"
                    "  -> the same data, filters and seed as before",
                    from, saved, mine[0]);
    warn("%s does not say which texts its problems had: whether they have changed since is not known", from);
    return true;
}

// The run; the arrays are the host's copies, until trainable_unstage. Rank 0.
Checkpoint trainer_checkpoint(Trainer *t) {
    Checkpoint c = trainable_checkpoint(&t->trainable);
    c.base_model = t->model_name;
    c.base_path = t->options.model;
    c.setup = t->options.setup;
    c.state = t->state;
    return c;
}

// All ranks together, which have agreed that the step went well: rank 0 writes, with the others' shards where moments
// are split. What it returns is not agreed on.
bool save_checkpoint(Trainer *t, Error *err) {
    trainable_to_host(&t->trainable);
    if (dist.rank > 0) {
        trainable_unstage(&t->trainable);
        return true;
    }
    Checkpoint c = trainer_checkpoint(t);
    Str config = {0};
    Error old = {0, ""};
    bool ok = options_write_yaml(&t->options, CMD_TRAIN, &config) && checkpoint_save(t->run_dir, &c, config.s, err);
    str_free(&config);
    progress_clear(&t->progress);
    if (ok) {
        printf("saved %s/checkpoint-%d\n", t->run_dir, t->state.step);
        if (!checkpoint_prune(t->run_dir, t->options.save_total_limit, &c, &old))
            warn("%s", old.text); // the new one is safe
    }
    trainable_unstage(&t->trainable);
    return ok;
}

// Is validation accuracy measured after step state.step?
bool validation_due(const Trainer *t) {
    const int every = t->options.validation_steps, step = t->state.step;
    return every > 0 && t->validation.n > 0 && step > 0 && (step % every == 0 || step >= t->max_steps);
}

// Names the options that are not those that the checkpoint `dir` was trained with.
void warn_of_changes(const Trainer *t, const char *dir) {
    char *path = model_path(dir, "config.yml");
    Error err = {0, ""};
    Str changes = {0};
    char *saved = read_file(path, NULL, &err);
    if (saved) options_changes(&changes, &t->options, CMD_TRAIN, saved);
    if (!saved) warn("whether options have changed since %s is not known: %s", dir, err.text);
    else if (changes.n)
        warn("options are not those that %s was trained with; from here on the new ones hold:%s", dir, changes.s);
    free(saved);
    free(path);
    str_free(&changes);
}

// The checkpoint to go on from, NULL: there is none, the run begins. Nothing that an earlier run has left is begun
// over: where its checkpoints cannot be read, or this call does not mean to go on with them, that is an error. Free
// *found with free().
bool find_checkpoint(const Trainer *t, const Checkpoint *like, char **found, Error *err) {
    const char *resume = t->options.resume;
    const bool automatic = strcmp(resume, "auto") == 0, none = strcmp(resume, "none") == 0;
    *found = automatic || none ? checkpoint_find_latest(t->run_dir, like) : xstrdup(resume);
    IntVec numbers = {0};
    checkpoint_list(&numbers, t->run_dir);
    const int n = numbers.n, newest = n > 0 ? numbers.v[0] : -1;
    ints_free(&numbers);
    if (!automatic && !none) {
        char *name = path_basename(resume);
        if (checkpoint_number(name) >= 0 && newest > checkpoint_number(name))
            warn("%s/checkpoint-%d is later than the one resumed from: it is overwritten at that step; --resume auto "
                 "would go on with it",
                 t->run_dir, newest);
        free(name);
    }
    if (none && n > 0)
        return fail(err, EXIT_RUN,
                    "%s is there from an earlier run\n"
                    "  -> --resume auto goes on with it; another --output_dir or --seed starts anew; or remove %s",
                    *found ? *found : t->run_dir, t->run_dir);
    if (automatic && n > 0 && !*found)
        return fail(err, EXIT_RUN,
                    "none of the %d checkpoint%s in %s can be resumed from: the warnings above say why\n"
                    "  -> bring one back from a copy, or start anew in another --output_dir; to give them up remove %s",
                    n, n == 1 ? "" : "s", t->run_dir, t->run_dir);
    return true;
}

// Starts fresh or continues, and opens metrics.jsonl. A fresh run refuses a folder that holds an earlier one. Rank 0
// only.
bool start_or_resume_here(Trainer *t, Error *err) {
    int lock; // ends with the process
    if (!make_dirs(t->run_dir, err) ||
        !lock_dir(&lock, t->run_dir, "training", "choose another --output_dir or --seed", err))
        return false;
    checkpoint_clean(t->run_dir);
    Checkpoint c = trainer_checkpoint(t);
    char *latest;
    Str metrics = {0};
    str_printf(&metrics, "%s/metrics.jsonl", t->run_dir);
    bool ok = find_checkpoint(t, &c, &latest, err);
    if (ok && latest) {
        ok = checkpoint_load(&c, latest, err) && fingerprint_check(t, c.state.fingerprint, latest, err);
        if (ok) {
            t->state = c.state;
            printf("resumed from %s\n\n", latest);
            fflush(stdout); // before what is said of it
            warn_of_changes(t, latest);
            if (t->state.prompt_tokens_total == 0 && t->state.step > 0)
                warn("%s has not counted prompt tokens: num_tokens counts them from here on", latest);
            t->validation_missing = validation_due(t) && logger_lacks(metrics.s, t->state.step, "validation/accuracy");
        }
    }
    struct stat had;
    if (ok && !latest && stat(metrics.s, &had) == 0 && had.st_size > 0)
        warn("%s is of a run that has left no checkpoint: it is begun anew", metrics.s);
    ok = ok && logger_truncate_after(metrics.s, t->state.step, err) && logger_open(&t->log, metrics.s, err);
    free(latest);
    str_free(&metrics);
    return ok;
}

// What all ranks must have alike for their sums to mean anything: options, problems as tokens, the model's norms, and
// kernels that round alike.
bool check_ranks(Trainer *t, Error *err) {
    struct {
        char kernels[32];
        uint64_t options, tokens, weights;
    } mine, *others;
    const uint64_t offset = 14695981039346656037u;
    const size_t norm_bytes = (size_t)t->model.config.C * sizeof(float);
    memset(&mine, 0, sizeof mine);
    snprintf(mine.kernels, sizeof mine.kernels, "%s", t->ops->isa);
    Str text = {0}, all = {0};
    bool ok = options_write_yaml(&t->options, CMD_TRAIN, &text);
    mine.options = hash_bytes(offset, text.s, text.n);
    mine.tokens = mine.weights = offset;
    for (int i = 0; i < t->train.n; i++)
        mine.tokens = hash_bytes(mine.tokens, t->prompts[i].v, (size_t)t->prompts[i].n * sizeof(int));
    for (int i = 0; i < t->validation.n; i++)
        mine.tokens =
            hash_bytes(mine.tokens, t->validation_prompts[i].v, (size_t)t->validation_prompts[i].n * sizeof(int));
    float *norm = (float *)xmalloc(norm_bytes);
    for (int l = 0; l <= t->model.config.L; l++) {
        t->ops->download(
            norm, l == t->model.config.L ? t->model.weights.final_norm : t->model.weights.layers[l].norm[NORM_INPUT],
            norm_bytes);
        mine.weights = hash_bytes(mine.weights, norm, norm_bytes);
    }
    free(norm);
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    dist_gather(&all, start, &mine, sizeof mine);
    others = (__typeof__(others))(void *)all.s; // rank 0's
    const char *differs = strcmp(mine.kernels, others->kernels) != 0
                              ? "computes with other kernels (LLMC_ISA=avx2 or another that all have, see the header)"
                          : mine.options != others->options ? "has other options"
                          : mine.tokens != others->tokens   ? "has other problems or another tokenizer"
                          : mine.weights != others->weights ? "has another model"
                                                            : NULL;
    if (differs)
        ok = fail(err, EXIT_RUN, "this rank %s than rank 0\n  -> the same program, files and call on every machine",
                  differs);
    str_free(&text);
    str_free(&all);
    free(start);
    return agree(ok, err);
}

// Starts fresh or continues. Rank 0 alone reads and writes the run's folder; the others get what it read.
bool start_or_resume(Trainer *t, Error *err) {
    if (!check_ranks(t, err)) return false;
    trainable_stage(&t->trainable);
    trainable_download(&t->trainable, 0); // where the run begins, if nothing is read; the moments are zero
    if (!agree(dist.rank > 0 || start_or_resume_here(t, err), err)) return false;
    dist_broadcast(&t->state, sizeof t->state);
    dist_broadcast(&t->validation_missing, sizeof t->validation_missing);
    trainable_from_host(&t->trainable);
    trainable_unstage(&t->trainable);
    return true;
}

#endif
