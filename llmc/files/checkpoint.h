/*
Checkpoints: everything needed to go on training bit for bit, in train_output/<Model>/<dataset>/<setup>/seed-<s>/:

    checkpoint-<n>/steering_vectors.safetensors   `steering` [L,C] fp32, for steering_rank also its factors `steering_A`
                                                  [L,r] and `steering_B` [r,C]; metadata: base_model, site, step, setup
                   optimizer.safetensors          `exp_avg`, `exp_avg_sq`: AdamW's moments, fp32, [L,C] or all in a row
                                                  [1,n]
                   trainer_state.json             the counters
                   config.yml                     every option of the run

A LoRA has, in the place of the first, PEFT's two files (peft.h), so the folder is an adapter that PEFT loads. Where all
weights are trained it is a model's folder as Hugging Face has it: model.safetensors, in fp32, and the base model's
config.json, tokenizer and settings.

A checkpoint is either whole or absent: it is written to .tmp-checkpoint-<n>, synced to the disk file by file, and
renamed. A failure (full disk, no permission, power cut) leaves every older checkpoint as it was. Random numbers are a
function of (seed, step, ...), so there is no generator to save.
*/
#ifndef LLMC_FILES_CHECKPOINT_H
#define LLMC_FILES_CHECKPOINT_H

#ifdef __linux__
#include <sys/syscall.h> // SYS_renameat2
#endif
#include "llmc/files/export_files.h" // export_copy_side_files
#include "llmc/files/json.h"         // json_load, json_get_*, json_add_string
#include "llmc/files/peft.h"         // PeftConfig, peft_config_read, peft_config_write
#include "llmc/files/safetensors.h"  // safetensors_open, safetensors_metadata
#include "llmc/files/file_tensor.h"  // FileTensor, file_tensor_read, file_tensor_write
#include "llmc/model_config.h"       // model_path
#include "llmc/utils/utils.h"        // Error, fail, warn, Str, write_file, fsync_path, make_dirs, remove_dir

#define CHECKPOINT_TEXT 256 // bytes of a short text, its NUL included

// The counters of a run, saved as trainer_state.json.
typedef struct {
    int step;                      // optimiser steps done
    int updates;                   // AdamW's t, for its bias correction (above `step` where num_iterations > 1)
    long long next_problem;        // position in the shuffled stream of problems
    long long tokens_total;        // completion tokens sampled so far
    long long prompt_tokens_total; // prompt tokens, a prompt for each of its completions; 0 in a checkpoint that does
                                   // not know
    long long samples_total;       // completions sampled so far
    double seconds_total;          // of all steps with their validation, over all starts
    char fingerprint[CHECKPOINT_TEXT]; // whatever the trainer wants to compare on resume: data, seed, batch
} TrainerState;

// What a checkpoint holds. The arrays belong to the trainer.
typedef struct {
    const char *base_model, *setup, *site; // base_model NULL: any, when loading
    const char *file;                      // of the weights: steering_vectors.safetensors or adapter_model.safetensors
    const PeftConfig *adapter;             // of a LoRA, NULL: vectors
    bool whole_model;                      // the weights are all of a model's
    const char *base_path;     // the base model's folder: named in an adapter, copied from for a whole model
    const FileTensor *tensors; // [n_tensors] what that file holds
    int n_tensors;
    FileTensor moments[2]; // exp_avg, exp_avg_sq
    TrainerState state;
} Checkpoint;

// ----------------------------------------------------------------------------
// paths and folders

// "<output_dir>/<Model>/<dataset>/<setup>/seed-<s>". Free with free().
char *checkpoint_run_dir(const char *output_dir, const char *model, const char *dataset, const char *setup,
                         long long seed) {
    Str s = {0};
    str_printf(&s, "%s/%s/%s/%s/seed-%lld", output_dir, model, dataset, setup, seed);
    return s.s;
}

// "<run_dir>/<prefix>checkpoint-<n>". Free with free().
char *checkpoint_path(const char *run_dir, const char *prefix, int n) {
    Str s = {0};
    str_printf(&s, "%s/%scheckpoint-%d", run_dir, prefix, n);
    return s.s;
}

// n of a folder called checkpoint-<n>, -1 for any other name.
int checkpoint_number(const char *name) {
    if (strncmp(name, "checkpoint-", 11) != 0 || name[11] < '0' || name[11] > '9') return -1;
    char *end;
    errno = 0;
    long n = strtol(name + 11, &end, 10);
    char again[32];
    snprintf(again, sizeof again, "%ld", n);
    return *end == 0 && errno == 0 && n <= INT_MAX && strcmp(again, name + 11) == 0 ? (int)n : -1;
}

int checkpoint_compare_down(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Appends the n of every checkpoint-<n> in run_dir, highest first. No folder: none.
void checkpoint_list(IntVec *numbers, const char *run_dir) {
    DIR *dir = opendir(run_dir);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        int n = checkpoint_number(e->d_name);
        if (n >= 0) ints_push(numbers, n);
    }
    closedir(dir);
    if (numbers->n > 1) qsort(numbers->v, (size_t)numbers->n, sizeof(int), checkpoint_compare_down);
}

// ----------------------------------------------------------------------------
// saving

bool checkpoint_write_state(const char *dir, const TrainerState *s, Error *err) {
    Str text = {0};
    str_printf(&text,
               "{\n  \"step\": %d,\n  \"updates\": %d,\n  \"next_problem\": %lld,\n  \"tokens_total\": %lld,\n"
               "  \"prompt_tokens_total\": %lld,\n  \"samples_total\": %lld,\n  \"seconds_total\": %.17g,\n  "
               "\"fingerprint\": ",
               s->step, s->updates, s->next_problem, s->tokens_total, s->prompt_tokens_total, s->samples_total,
               s->seconds_total);
    json_add_string(&text, s->fingerprint, strlen(s->fingerprint));
    str_printf(&text, "\n}\n");
    char *path = model_path(dir, "trainer_state.json");
    bool ok = write_file(path, text.s, text.n, err);
    free(path);
    str_free(&text);
    return ok;
}

// The files and the folder itself, synced.
bool checkpoint_write_files(const char *dir, const Checkpoint *c, const char *config_yaml, Error *err) {
    char step[16];
    snprintf(step, sizeof step, "%d", c->state.step);
    const char *metadata[] = {"format", "pt", "base_model", c->base_model, "site", c->site,
                              "step",   step, "setup",      c->setup,      NULL};
    char *weights = model_path(dir, c->file), *optimizer = model_path(dir, "optimizer.safetensors"),
         *config = model_path(dir, "config.yml"), *adapter = model_path(dir, PEFT_CONFIG);
    Str text = {0};
    if (c->adapter) peft_config_write(&text, c->adapter, NULL, c->base_path);
    char *model_config = model_path(c->base_path ? c->base_path : "", "config.json"),
         *own_config = model_path(dir, "config.json");
    bool ok = (!c->whole_model ||
               (export_copy_side_files(c->base_path, dir, err) && export_copy_file(model_config, own_config, err))) &&
              file_tensor_write(weights, c->tensors, c->n_tensors, metadata, err) &&
              (!c->adapter || write_file(adapter, text.s, text.n, err)) &&
              file_tensor_write(optimizer, c->moments, 2, metadata, err) &&
              checkpoint_write_state(dir, &c->state, err) &&
              write_file(config, config_yaml, strlen(config_yaml), err) && fsync_path(dir, err);
    str_free(&text);
    free(weights);
    free(optimizer);
    free(config);
    free(adapter);
    free(model_config);
    free(own_config);
    return ok;
}

// Puts the finished folder `from` in the place of `to`. Where `to` exists the two are exchanged in one step; a file
// system that cannot do that gets two renames by way of `old`, the first undone if the second fails. What was in
// the place before is then removed.
bool checkpoint_move(const char *from, const char *to, const char *old, Error *err) {
    if (!path_exists(to))
        return rename(from, to) == 0 ? true
                                     : fail(err, EXIT_RUN, "cannot rename %s to %s: %s", from, to, strerror(errno));
    const char *leftover = old;
    bool moved = false;
#ifdef SYS_renameat2
    moved = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 2u /* RENAME_EXCHANGE */) == 0;
    if (moved) leftover = from;
#endif
    if (!moved) {
        if (!remove_dir(old, err)) return false;
        if (rename(to, old) != 0) return fail(err, EXIT_RUN, "cannot rename %s to %s: %s", to, old, strerror(errno));
        if (rename(from, to) != 0) {
            int why = errno;
            if (rename(old, to) != 0) warn("the older %s is now %s: %s", to, old, strerror(errno));
            return fail(err, EXIT_RUN, "cannot rename %s to %s: %s", from, to, strerror(why));
        }
    }
    Error ignored = {0, ""};
    if (!remove_dir(leftover, &ignored)) warn("%s is no longer needed: %s", leftover, ignored.text);
    return true;
}

bool checkpoint_check_finite(const Checkpoint *c, Error *err) {
    for (int i = 0; i < c->n_tensors; i++)
        if (!file_tensor_check_finite(&c->tensors[i], err)) return false;
    for (int i = 0; i < 2; i++)
        if (!file_tensor_check_finite(&c->moments[i], err)) return false;
    return isfinite(c->state.seconds_total) ||
           fail(err, EXIT_RUN, "seconds_total: found %g, expected a finite number", c->state.seconds_total);
}

// Writes run_dir/checkpoint-<step>, making run_dir where needed and replacing a checkpoint of that number. On failure
// nothing that was saved before has changed, the temporary folder is gone and err says what to do.
bool checkpoint_save(const char *run_dir, const Checkpoint *c, const char *config_yaml, Error *err) {
    char *path = checkpoint_path(run_dir, "", c->state.step),
         *temporary = checkpoint_path(run_dir, ".tmp-", c->state.step),
         *old = checkpoint_path(run_dir, ".old-", c->state.step);
    Error inner = {0, ""}, ignored = {0, ""};
    bool ok = checkpoint_check_finite(c, &inner) && make_dirs(run_dir, &inner) && remove_dir(temporary, &inner) &&
              make_dirs(temporary, &inner);
    if (ok) {
        ok = checkpoint_write_files(temporary, c, config_yaml, &inner) &&
             checkpoint_move(temporary, path, old, &inner) && fsync_path(run_dir, &inner);
        if (!ok && !remove_dir(temporary, &ignored)) warn("%s", ignored.text);
    }
    if (!ok)
        fail(err, EXIT_RUN, "cannot save %s: %s%s: earlier checkpoints are untouched, go on with --resume auto", path,
             inner.text, strstr(inner.text, "\n  -> ") ? "" : "\n  -> mend this");
    free(path);
    free(temporary);
    free(old);
    return ok;
}

// Before a run begins, its folder locked: removes what a killed run left half written or half removed, and puts back a
// checkpoint that it had moved aside (checkpoint_move without an exchange) and not replaced.
void checkpoint_clean(const char *run_dir) {
    DIR *dir = opendir(run_dir);
    IntVec aside = {0};
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        const int n = strncmp(e->d_name, ".old-", 5) == 0 ? checkpoint_number(e->d_name + 5) : -1;
        if (n >= 0) ints_push(&aside, n);
    }
    if (dir) closedir(dir);
    for (int i = 0; i < aside.n; i++) {
        char *old = checkpoint_path(run_dir, ".old-", aside.v[i]), *path = checkpoint_path(run_dir, "", aside.v[i]);
        Error why = {0, ""};
        if (!path_exists(path) ? rename(old, path) != 0 : !remove_dir(old, &why))
            warn("left over from a run that was killed: %s %s", old, why.text);
        free(old);
        free(path);
    }
    ints_free(&aside);
    remove_temporaries(run_dir);
}

// ----------------------------------------------------------------------------
// loading

// A counter of trainer_state.json: a whole number from 0 to 2^53.
bool checkpoint_read_count(long long *value, const cJSON *root, const char *key, const char *path, Error *err) {
    int64_t x = 0;
    if (!json_get_int64(root, key, 0, (int64_t)JSON_MAX_INTEGER, &x, path, err)) return false;
    *value = x;
    return true;
}

bool checkpoint_read_state(TrainerState *s, const char *path, Error *err) {
    memset(s, 0, sizeof *s);
    cJSON *root = json_load(path, err);
    const char *fingerprint = NULL;
    bool ok = root && json_get_int(root, "step", 0, INT_MAX, &s->step, path, err) &&
              json_get_int(root, "updates", 0, INT_MAX, &s->updates, path, err) &&
              checkpoint_read_count(&s->next_problem, root, "next_problem", path, err) &&
              checkpoint_read_count(&s->tokens_total, root, "tokens_total", path, err) &&
              (!json_has(root, "prompt_tokens_total") ||
               checkpoint_read_count(&s->prompt_tokens_total, root, "prompt_tokens_total", path, err)) &&
              checkpoint_read_count(&s->samples_total, root, "samples_total", path, err) &&
              json_get_double(root, "seconds_total", &s->seconds_total, path, err) &&
              json_get_string(root, "fingerprint", &fingerprint, path, err);
    if (ok && strlen(fingerprint) >= sizeof s->fingerprint)
        ok = fail(err, EXIT_RUN, "%s: fingerprint: found %zu bytes, expected fewer than %zu", path, strlen(fingerprint),
                  sizeof s->fingerprint);
    if (ok) snprintf(s->fingerprint, sizeof s->fingerprint, "%s", fingerprint);
    cJSON_Delete(root);
    return ok;
}

// One of the two tensor files: opened, of this step and this base model.
bool checkpoint_open(SafeTensors *st, const char *path, const Checkpoint *c, Error *err) {
    if (!safetensors_open(st, path, err)) return false;
    char step[16];
    snprintf(step, sizeof step, "%d", c->state.step);
    const char *keys[2] = {"step", "base_model"}, *expected[2] = {step, c->base_model};
    for (int i = 0; i < 2; i++) {
        const char *found = safetensors_metadata(st, keys[i]);
        if (!found || (expected[i] && strcmp(found, expected[i]) != 0)) {
            fail(err, EXIT_RUN, "%s: metadata %s: found \"%.100s\", expected \"%.100s\"", path, keys[i],
                 found ? found : "(nothing)", expected[i] ? expected[i] : "a name");
            safetensors_close(st);
            return false;
        }
    }
    return true;
}

// dir/file's tensors, of this step and this base model; look: only checked.
bool checkpoint_read_file(const char *dir, const char *file, const FileTensor *t, int n, const Checkpoint *c, bool look,
                          Error *err) {
    SafeTensors st;
    char *path = model_path(dir, file);
    bool ok = checkpoint_open(&st, path, c, err);
    free(path);
    if (!ok) return false;
    for (int i = 0; i < n && ok; i++) ok = file_tensor_read(&t[i], &st, true, look, err);
    safetensors_close(&st);
    return ok;
}

// adapter_config.json must mean the adapter that is trained.
bool checkpoint_check_adapter(const char *dir, const PeftConfig *expected, Error *err) {
    PeftConfig found;
    bool sites[N_PROJ]; // every layer has the same
    if (!peft_config_read(&found, sites, 1, dir, err)) return false;
    if (found.r == expected->r && found.alpha == expected->alpha &&
        memcmp(found.targets, expected->targets, sizeof found.targets) == 0)
        return true;
    return fail(err, EXIT_RUN,
                "%s/" PEFT_CONFIG
                ": found r %d, lora_alpha %g or target_modules other than the %d, %g and targets of this run",
                dir, found.r, found.alpha, expected->r, expected->alpha);
}

// Fills c->state and the arrays of c (look: only checks them) from the folder dir; the other fields of c say what is
// expected. Shapes, types, values, the step in every file and in the folder's name, and the base model are checked; err
// names what differs. On failure the arrays may be half filled: do not train on.
bool checkpoint_read(Checkpoint *c, const char *dir, bool look, Error *err) {
    char *state = model_path(dir, "trainer_state.json"), *config = model_path(dir, "config.yml"),
         *name = path_basename(dir);
    char *model_config = model_path(dir, "config.json");
    Error inner = {0, ""};
    bool ok = checkpoint_read_state(&c->state, state, &inner);
    int number = checkpoint_number(name);
    if (ok && number >= 0 && number != c->state.step)
        ok = fail(&inner, EXIT_RUN, "%s: step: found %d, expected %d as in the folder's name", state, c->state.step,
                  number);
    if (ok && !path_exists(config)) ok = fail(&inner, EXIT_RUN, "%s is missing", config);
    if (ok && c->whole_model && !path_exists(model_config)) ok = fail(&inner, EXIT_RUN, "%s is missing", model_config);
    free(model_config);
    ok = ok && (!c->adapter || checkpoint_check_adapter(dir, c->adapter, &inner)) &&
         checkpoint_read_file(dir, c->file, c->tensors, c->n_tensors, c, look, &inner) &&
         checkpoint_read_file(dir, "optimizer.safetensors", c->moments, 2, c, look, &inner);
    if (!ok)
        fail(err, EXIT_RUN,
             "cannot resume from %s: %s\n  -> resume from another checkpoint, or start anew in another --output_dir",
             dir, inner.text);
    free(state);
    free(config);
    free(name);
    return ok;
}

bool checkpoint_load(Checkpoint *c, const char *dir, Error *err) { return checkpoint_read(c, dir, false, err); }

// True if run_dir/checkpoint-<n> is whole and of the shapes of `like`, whose arrays stay as they are.
bool checkpoint_is_whole(const char *run_dir, int n, const Checkpoint *like, Error *err) {
    Checkpoint c = *like;
    c.base_model = NULL;
    char *path = checkpoint_path(run_dir, "", n);
    bool ok = checkpoint_read(&c, path, true, err);
    free(path);
    return ok;
}

// The whole checkpoint with the highest number in run_dir, NULL if there is none. Broken ones are named in a
// warning and passed over. Free with free().
char *checkpoint_find_latest(const char *run_dir, const Checkpoint *like) {
    IntVec numbers = {0};
    checkpoint_list(&numbers, run_dir);
    char *found = NULL;
    for (int i = 0; i < numbers.n && !found; i++) {
        Error why = {0, ""};
        if (checkpoint_is_whole(run_dir, numbers.v[i], like, &why)) found = checkpoint_path(run_dir, "", numbers.v[i]);
        else warn("passing over checkpoint-%d: %s", numbers.v[i], why.text);
    }
    ints_free(&numbers);
    return found;
}

// Removes all but the `keep` newest whole checkpoints (keep <= 0: removes none). Broken ones do not count, and go when
// they are older than the last one kept. Each leaves its place by a rename, so no half-removed one is ever found.
bool checkpoint_prune(const char *run_dir, int keep, const Checkpoint *like, Error *err) {
    IntVec numbers = {0};
    if (keep > 0) checkpoint_list(&numbers, run_dir);
    int kept = 0;
    bool ok = true;
    for (int i = 0; i < numbers.n && ok; i++) {
        if (kept < keep) {
            kept += checkpoint_is_whole(run_dir, numbers.v[i], like, NULL);
            continue;
        }
        char *path = checkpoint_path(run_dir, "", numbers.v[i]),
             *temporary = checkpoint_path(run_dir, ".tmp-", numbers.v[i]);
        ok = remove_dir(temporary, err);
        if (ok && rename(path, temporary) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", path, strerror(errno));
        ok = ok && remove_dir(temporary, err);
        free(path);
        free(temporary);
    }
    ints_free(&numbers);
    return ok;
}

#endif
