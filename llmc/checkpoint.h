/*
Checkpoints: everything needed to go on training bit for bit, in train_output/<Model>/<dataset>/<setup>/seed-<s>/:

    checkpoint-<n>/steering_vectors.safetensors   `steering` [L,C] fp32; metadata: base_model, site, step, setup
                   optimizer.safetensors          `exp_avg`, `exp_avg_sq` [L,C] fp32: AdamW's moments
                   trainer_state.json             the counters
                   config.yml                     every option of the run

A checkpoint is either whole or absent: it is written to .tmp-checkpoint-<n>, synced to the disk file by file, and
renamed. A failure (full disk, no permission, power cut) leaves every older checkpoint as it was. Random numbers are a
function of (seed, step, ...), so there is no generator to save.
*/
#ifndef LLMC_CHECKPOINT_H
#define LLMC_CHECKPOINT_H

#include <dirent.h>      // opendir, readdir
#include <sys/syscall.h> // SYS_renameat2
#include "json.h"        // json_load, json_get_*, json_add_string
#include "model.h"       // model_path
#include "safetensors.h" // safetensors_open, safetensors_get, safetensors_write, tensor_check_finite
#include "utils.h"       // Error, fail, warn, Str, write_file, fsync_path, make_dirs

#define CHECKPOINT_SITE "mlp.down_proj output"
#define CHECKPOINT_TEXT 128 // bytes of a short text, its NUL included

// The counters of a run, saved as trainer_state.json.
typedef struct {
    int step;                           // optimiser steps done
    int updates;                        // AdamW's t, for its bias correction (above `step` where num_iterations > 1)
    long long next_problem;             // position in the shuffled stream of problems
    long long tokens_total;             // completion tokens sampled so far
    long long samples_total;            // completions sampled so far
    double seconds_total;               // spent training, over all starts
    char fingerprint[CHECKPOINT_TEXT];  // whatever the trainer wants to compare on resume: data, seed, batch
} TrainerState;

// What a checkpoint holds. The arrays belong to the trainer.
typedef struct {
    const char *base_model, *setup;
    int L, C;
    float *steering;             // [L,C]
    float *exp_avg, *exp_avg_sq; // [L,C]
    TrainerState state;
} Checkpoint;

// ----------------------------------------------------------------------------
// paths and folders

// "<output_dir>/<Model>/<dataset>/<setup>/seed-<s>". Free with free().
char *checkpoint_run_dir(const char *output_dir, const char *model, const char *dataset, const char *setup, long long seed) {
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

// Removes a folder and the files in it, but no folder in it: one that somebody else filled stays, with an error.
// A folder that is not there is no error.
bool checkpoint_remove_dir(const char *path, Error *err) {
    DIR *dir = opendir(path);
    if (!dir) return errno == ENOENT ? true : fail(err, EXIT_RUN, "cannot open %s: %s", path, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *file = model_path(path, e->d_name);
        if (unlink(file) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", file, strerror(errno));
        free(file);
    }
    closedir(dir);
    if (ok && rmdir(path) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", path, strerror(errno));
    return ok;
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
    str_printf(&text, "{\n  \"step\": %d,\n  \"updates\": %d,\n  \"next_problem\": %lld,\n  \"tokens_total\": %lld,\n"
                      "  \"samples_total\": %lld,\n  \"seconds_total\": %.17g,\n  \"fingerprint\": ",
               s->step, s->updates, s->next_problem, s->tokens_total, s->samples_total, s->seconds_total);
    json_add_string(&text, s->fingerprint, strlen(s->fingerprint));
    str_printf(&text, "\n}\n");
    char *path = model_path(dir, "trainer_state.json");
    bool ok = write_file(path, text.s, text.n, err);
    free(path);
    str_free(&text);
    return ok;
}

// The four files and the folder itself, synced.
bool checkpoint_write_files(const char *dir, const Checkpoint *c, const char *config_yaml, Error *err) {
    char step[16];
    snprintf(step, sizeof step, "%d", c->state.step);
    const char *metadata[] = {"format", "pt", "base_model", c->base_model, "site", CHECKPOINT_SITE, "step", step, "setup", c->setup, NULL};
    const char *names[3] = {"steering", "exp_avg", "exp_avg_sq"};
    const float *data[3] = {c->steering, c->exp_avg, c->exp_avg_sq};
    OutTensor t[3];
    memset(t, 0, sizeof t);
    for (int i = 0; i < 3; i++) {
        t[i].name = names[i];
        t[i].ndim = 2;
        t[i].shape[0] = c->L;
        t[i].shape[1] = c->C;
        t[i].data = data[i];
    }
    char *steering = model_path(dir, "steering_vectors.safetensors"), *optimizer = model_path(dir, "optimizer.safetensors"),
         *config = model_path(dir, "config.yml");
    bool ok = safetensors_write(steering, t, 1, metadata, err) && safetensors_write(optimizer, t + 1, 2, metadata, err) &&
              checkpoint_write_state(dir, &c->state, err) && write_file(config, config_yaml, strlen(config_yaml), err) &&
              fsync_path(dir, err);
    free(steering);
    free(optimizer);
    free(config);
    return ok;
}

// Puts the finished folder `from` in the place of `to`. Where `to` exists the two are exchanged in one step; a file
// system that cannot do that gets two renames by way of `old`, the first undone if the second fails. What was in
// the place before is then removed.
bool checkpoint_move(const char *from, const char *to, const char *old, Error *err) {
    if (!path_exists(to))
        return rename(from, to) == 0 ? true : fail(err, EXIT_RUN, "cannot rename %s to %s: %s", from, to, strerror(errno));
    const char *leftover = old;
    bool moved = false;
#ifdef SYS_renameat2
    moved = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 2u /* RENAME_EXCHANGE */) == 0;
    if (moved) leftover = from;
#endif
    if (!moved) {
        if (!checkpoint_remove_dir(old, err)) return false;
        if (rename(to, old) != 0) return fail(err, EXIT_RUN, "cannot rename %s to %s: %s", to, old, strerror(errno));
        if (rename(from, to) != 0) {
            int why = errno;
            if (rename(old, to) != 0) warn("the older %s is now %s: %s", to, old, strerror(errno));
            return fail(err, EXIT_RUN, "cannot rename %s to %s: %s", from, to, strerror(why));
        }
    }
    Error ignored = {0, ""};
    if (!checkpoint_remove_dir(leftover, &ignored)) warn("%s is no longer needed: %s", leftover, ignored.text);
    return true;
}

// Values that must never reach the disk: training has gone wrong, the last good checkpoint is the one to keep.
bool checkpoint_check_finite(const Checkpoint *c, Error *err) {
    const char *names[3] = {"steering", "exp_avg", "exp_avg_sq"};
    const float *data[3] = {c->steering, c->exp_avg, c->exp_avg_sq};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < c->L * c->C; j++) {
            if (!isfinite(data[i][j]))
                return fail(err, EXIT_RUN, "%s: found %g at layer %d, place %d, expected finite numbers", names[i], (double)data[i][j],
                            j / c->C, j % c->C);
        }
    }
    return isfinite(c->state.seconds_total)
               ? true
               : fail(err, EXIT_RUN, "seconds_total: found %g, expected a finite number", c->state.seconds_total);
}

// Writes run_dir/checkpoint-<step>, making run_dir where needed and replacing a checkpoint of that number. On failure
// nothing that was saved before has changed, the temporary folder is gone and err says what to do.
bool checkpoint_save(const char *run_dir, const Checkpoint *c, const char *config_yaml, Error *err) {
    char *path = checkpoint_path(run_dir, "", c->state.step), *temporary = checkpoint_path(run_dir, ".tmp-", c->state.step),
         *old = checkpoint_path(run_dir, ".old-", c->state.step);
    Error inner = {0, ""}, ignored = {0, ""};
    bool ok = checkpoint_check_finite(c, &inner) && make_dirs(run_dir, &inner) && checkpoint_remove_dir(temporary, &inner) &&
              make_dirs(temporary, &inner);
    if (ok) {
        ok = checkpoint_write_files(temporary, c, config_yaml, &inner) && checkpoint_move(temporary, path, old, &inner) &&
             fsync_path(run_dir, &inner);
        if (!ok && !checkpoint_remove_dir(temporary, &ignored)) warn("%s", ignored.text);
    }
    if (!ok)
        fail(err, EXIT_RUN, "cannot save %s: %s%s", path, inner.text,
             strstr(inner.text, "\n  -> ") ? "" : "\n  -> earlier checkpoints are untouched: mend this and run again with --resume auto");
    free(path);
    free(temporary);
    free(old);
    return ok;
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
            fail(err, EXIT_RUN, "%s: metadata %s: found \"%.100s\", expected \"%.100s\"", path, keys[i], found ? found : "(nothing)",
                 expected[i] ? expected[i] : "a name");
            safetensors_close(st);
            return false;
        }
    }
    return true;
}

// out[L,C] = the tensor of that name; out NULL: only looked at.
bool checkpoint_read_tensor(float *out, const SafeTensors *st, const char *name, int L, int C, Error *err) {
    const int64_t shape[2] = {L, C};
    const RawTensor *t = safetensors_get(st, name, 2, shape, err);
    if (!t || !tensor_check_finite(t, st->path, err)) return false;
    if (t->dtype != DTYPE_F32)
        return fail(err, EXIT_RUN, "%s: tensor %s: found dtype %s, expected F32", st->path, name, dtype_name(t->dtype));
    if (out) memcpy(out, t->data, (size_t)L * (size_t)C * sizeof(float));
    return true;
}

// Fills c->state and c's arrays (which may be NULL: only looked at) from the folder dir. c->L, C and base_model (NULL: any)
// say what is expected. Shapes, types, values, the step in every file and in the folder's name, and the
// base model are checked; err names what differs. On failure the arrays may be half filled: do not train on.
bool checkpoint_load(Checkpoint *c, const char *dir, Error *err) {
    char *steering = model_path(dir, "steering_vectors.safetensors"), *optimizer = model_path(dir, "optimizer.safetensors");
    char *state = model_path(dir, "trainer_state.json"), *config = model_path(dir, "config.yml"), *name = path_basename(dir);
    SafeTensors st;
    Error inner = {0, ""};
    bool ok = checkpoint_read_state(&c->state, state, &inner);
    int number = checkpoint_number(name);
    if (ok && number >= 0 && number != c->state.step)
        ok = fail(&inner, EXIT_RUN, "%s: step: found %d, expected %d as in the folder's name", state, c->state.step, number);
    if (ok && !path_exists(config)) ok = fail(&inner, EXIT_RUN, "%s is missing", config);
    if (ok && (ok = checkpoint_open(&st, steering, c, &inner))) {
        ok = checkpoint_read_tensor(c->steering, &st, "steering", c->L, c->C, &inner);
        safetensors_close(&st);
    }
    if (ok && (ok = checkpoint_open(&st, optimizer, c, &inner))) {
        ok = checkpoint_read_tensor(c->exp_avg, &st, "exp_avg", c->L, c->C, &inner) &&
             checkpoint_read_tensor(c->exp_avg_sq, &st, "exp_avg_sq", c->L, c->C, &inner);
        safetensors_close(&st);
    }
    if (!ok)
        fail(err, EXIT_RUN, "cannot resume from %s: %s\n  -> resume from another checkpoint, or start anew in another --output_dir", dir,
             inner.text);
    free(steering);
    free(optimizer);
    free(state);
    free(config);
    free(name);
    return ok;
}

// True if run_dir/checkpoint-<n> is whole. L and C as in checkpoint_load.
bool checkpoint_is_whole(const char *run_dir, int n, int L, int C, Error *err) {
    Checkpoint c;
    memset(&c, 0, sizeof c);
    c.L = L;
    c.C = C;
    char *path = checkpoint_path(run_dir, "", n);
    bool ok = checkpoint_load(&c, path, err);
    free(path);
    return ok;
}

// The whole checkpoint with the highest number in run_dir, NULL if there is none. Broken ones are named in a
// warning and passed over. Free with free().
char *checkpoint_find_latest(const char *run_dir, int L, int C) {
    IntVec numbers = {0};
    checkpoint_list(&numbers, run_dir);
    char *found = NULL;
    for (int i = 0; i < numbers.n && !found; i++) {
        Error why = {0, ""};
        if (checkpoint_is_whole(run_dir, numbers.v[i], L, C, &why)) found = checkpoint_path(run_dir, "", numbers.v[i]);
        else warn("passing over checkpoint-%d: %s", numbers.v[i], why.text);
    }
    ints_free(&numbers);
    return found;
}

// Removes all but the `keep` newest whole checkpoints (keep <= 0: removes none). Broken ones do not count, and go when
// they are older than the last one kept. Each leaves its place by a rename, so no half-removed one is ever found.
bool checkpoint_prune(const char *run_dir, int keep, int L, int C, Error *err) {
    IntVec numbers = {0};
    if (keep > 0) checkpoint_list(&numbers, run_dir);
    int kept = 0;
    bool ok = true;
    for (int i = 0; i < numbers.n && ok; i++) {
        if (kept < keep) {
            kept += checkpoint_is_whole(run_dir, numbers.v[i], L, C, NULL);
            continue;
        }
        char *path = checkpoint_path(run_dir, "", numbers.v[i]), *temporary = checkpoint_path(run_dir, ".tmp-", numbers.v[i]);
        ok = checkpoint_remove_dir(temporary, err);
        if (ok && rename(path, temporary) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", path, strerror(errno));
        ok = ok && checkpoint_remove_dir(temporary, err);
        free(path);
        free(temporary);
    }
    ints_free(&numbers);
    return ok;
}

#endif
