// Checkpoints: what comes back is bit for bit what was saved; broken ones are passed over; a full disk, a folder that
// cannot be made and a killed run cost nothing that was saved before.
#ifndef DEV_TEST_TEST_CHECKPOINT_H
#define DEV_TEST_TEST_CHECKPOINT_H

#include <signal.h>                    // SIGXFSZ
#include <sys/resource.h>              // setrlimit
#include "dev/test/test.h"             // CHECK, test_path, test_write
#include "dev/test/test_safetensors.h" // mf_expect, mf_random, mf_replace
#include "llmc/files/checkpoint.h"     // checkpoint_*

#define MF_L 3
#define MF_C 37

typedef struct {
    float v[3][MF_L * MF_C];
    FileTensor tensors[2];
    Checkpoint c;
} MfCheckpoint;

static bool mf_lora; // a LoRA's checkpoints (A [3,10], B [27,3]) instead of vectors'
static const PeftConfig mf_adapter = {3, 6.5, {false, false, false, false, false, false, true}, true};

void mf_tensor(FileTensor *t, const char *name, int rows, int columns, float *data) {
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->columns = columns;
    t->data = data;
}

// A checkpoint of this step whose floats are arbitrary bits (finite): tiny, huge, negative zero.
void mf_fill(MfCheckpoint *k, int step) {
    memset(k, 0, sizeof *k);
    uint32_t state = (uint32_t)step + 1;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < MF_L * MF_C; j++) {
            uint32_t u = j == 0 ? 0x80000000u : mf_random(&state);
            if ((u & 0x7F800000) == 0x7F800000) u &= 0x807FFFFF;
            memcpy(&k->v[i][j], &u, 4);
        }
    }
    k->c.base_model = "Qwen \"tiny\"";
    k->c.setup = mf_lora ? "lora" : "steering";
    k->c.site = "mlp.down_proj output";
    k->c.file = mf_lora ? PEFT_WEIGHTS : "steering_vectors.safetensors";
    k->c.adapter = mf_lora ? &mf_adapter : NULL;
    k->c.base_path = "models/\"tiny\"";
    k->c.tensors = k->tensors;
    k->c.n_tensors = mf_lora ? 2 : 1;
    mf_tensor(&k->tensors[0], mf_lora ? "a.lora_A.weight" : "steering", MF_L, mf_lora ? 10 : MF_C, k->v[0]);
    mf_tensor(&k->tensors[1], "a.lora_B.weight", 27, 3, k->v[0] + 30);
    k->tensors[1].transposed = true;
    for (int i = 0; i < 2; i++) mf_tensor(&k->c.moments[i], i ? "exp_avg_sq" : "exp_avg", MF_L, MF_C, k->v[1 + i]);
    k->c.state.step = step;
    k->c.state.updates = 2 * step;
    k->c.state.next_problem = 9007199254740991LL - step;
    k->c.state.tokens_total = 1234567890123LL;
    k->c.state.samples_total = 77;
    k->c.state.seconds_total = 0.1 + step / 3.0;
    snprintf(k->c.state.fingerprint, sizeof k->c.state.fingerprint, "seed 1, \"x\"\n");
}

// run_dir/checkpoint-<step> holds exactly what mf_fill makes of `step`.
bool mf_holds(const char *run_dir, int step, Error *err) {
    MfCheckpoint want, got;
    mf_fill(&want, step);
    mf_fill(&got, 0);
    memset(got.v, 0, sizeof got.v);
    char *path = checkpoint_path(run_dir, "", step);
    bool ok = checkpoint_load(&got.c, path, err);
    const TrainerState *a = &want.c.state, *b = &got.c.state;
    ok = ok && memcmp(want.v, got.v, sizeof want.v) == 0 && a->step == b->step && a->updates == b->updates &&
         a->next_problem == b->next_problem && a->tokens_total == b->tokens_total &&
         a->samples_total == b->samples_total && memcmp(&a->seconds_total, &b->seconds_total, sizeof(double)) == 0 &&
         strcmp(a->fingerprint, b->fingerprint) == 0;
    free(path);
    return ok;
}

bool mf_save(const char *run_dir, int step, Error *err) {
    MfCheckpoint k;
    mf_fill(&k, step);
    return checkpoint_save(run_dir, &k.c, "# config\nlearning_rate: 0.001\n", err);
}

// How many entries a folder has besides . and ..
int mf_entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2;
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

// The warnings about broken ones are expected: they go nowhere.
void mf_check_latest(const char *run_dir, int step) {
    fflush(stderr);
    int keep = dup(2), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 2);
    MfCheckpoint like;
    mf_fill(&like, 0);
    char *latest = checkpoint_find_latest(run_dir, &like.c);
    fflush(stderr);
    dup2(keep, 2);
    close(keep);
    close(nowhere);
    char *expected = checkpoint_path(run_dir, "", step);
    if (step < 0) CHECK(!latest, "found %s, expected none", latest);
    else CHECK(latest && strcmp(latest, expected) == 0, "found %s, expected %s", latest ? latest : "none", expected);
    free(latest);
    free(expected);
}

void test_checkpoint_save(void) {
    char *run =
        checkpoint_run_dir(test_path(mf_lora ? "train_output_lora" : "train_output"), "Model", "data", "steering", 3);
    CHECK(strstr(run, "/Model/data/steering/seed-3"), "%s", run);
    mf_check_latest(run, -1);
    Error e = {0, ""};
    for (int step = 8; step <= 11; step++)
        CHECK(mf_save(run, step, &e) && mf_holds(run, step, &e), "step %d: %s", step, e.text);
    CHECK(mf_entries(run) == 4, "%d entries", mf_entries(run));
    mf_check_latest(run, 11);
    char *config = model_path(run, "checkpoint-11/config.yml");
    char *text = read_file(config, NULL, &e);
    CHECK(text && strcmp(text, "# config\nlearning_rate: 0.001\n") == 0, "config.yml: %s", e.text);
    free(text);
    free(config);

    // Saving a step again replaces it whole; what a killed run left behind is in nobody's way.
    char *old = model_path(run, "checkpoint-11/trainer_state.json"), *left = checkpoint_path(run, ".tmp-", 11),
         *junk = model_path(left, "steering_vectors.safetensors");
    test_write(old, "{}");
    CHECK(make_dirs(left, &e), "%s", e.text);
    test_write(junk, "half");
    CHECK(!mf_holds(run, 11, NULL) && mf_save(run, 11, &e) && mf_holds(run, 11, &e) && mf_entries(run) == 4,
          "replacing: %s, %d entries", e.text, mf_entries(run));
    // The way without an exchange.
    char *from = checkpoint_path(run, "", 10), *to = checkpoint_path(run, "", 9),
         *aside = checkpoint_path(run, ".old-", 9);
    CHECK(rename(to, aside) == 0 && checkpoint_move(aside, to, from, &e) && mf_holds(run, 9, &e), "plain rename: %s",
          e.text);

    // Killed between the two renames: checkpoint-9 is whole, but under the name that it was moved aside to. And half a
    // checkpoint, half a file.
    char *half = checkpoint_path(run, ".tmp-", 7), *inside = model_path(half, "optimizer.safetensors"),
         *stray = model_path(run, ".tmp-metrics.jsonl");
    CHECK(rename(to, aside) == 0 && make_dirs(half, &e), "%s", e.text);
    test_write(inside, "half");
    test_write(stray, "half");
    checkpoint_clean(run);
    CHECK(mf_holds(run, 9, &e) && mf_entries(run) == 4 && !path_exists(half) && !path_exists(stray),
          "left by a killed run: %s, %d entries", e.text, mf_entries(run));
    CHECK(make_dirs(aside, &e), "%s", e.text); // killed after them: the new one is there
    checkpoint_clean(run);
    CHECK(mf_holds(run, 9, &e) && mf_entries(run) == 4 && !path_exists(aside),
          "moved aside and replaced: %s, %d entries", e.text, mf_entries(run));
    free(half);
    free(inside);
    free(stray);

    // Another step, base model, shape.
    MfCheckpoint k;
    mf_fill(&k, 0);
    k.c.base_model = "Other";
    mf_expect(checkpoint_load(&k.c, to, &e), &e, "checkpoint-9|base_model|Qwen \"tiny\"|\"Other\"", "other base model");
    memset(&e, 0, sizeof e);
    mf_fill(&k, 0);
    k.tensors[0].columns--;
    mf_expect(checkpoint_load(&k.c, to, &e), &e,
              mf_lora ? "checkpoint-9|tensor a.lora_A|[3, 10]|[3, 9]" : "checkpoint-9|tensor steering|[3, 37]|[3, 36]",
              "other shape");
    if (mf_lora) {
        const PeftConfig other = {3, 6, {false, false, false, false, false, false, true}, true};
        memset(&e, 0, sizeof e);
        mf_fill(&k, 0);
        k.c.adapter = &other;
        mf_expect(checkpoint_load(&k.c, to, &e), &e, "checkpoint-9|adapter_config.json|lora_alpha 6.5|6",
                  "other alpha");
    }
    memset(&e, 0, sizeof e);
    mf_fill(&k, 12);
    k.v[1][40] = NAN;
    mf_expect(checkpoint_save(run, &k.c, "", &e), &e,
              "checkpoint-12|exp_avg|row 1, place 3|earlier checkpoints are untouched", "NaN in the optimiser");
    CHECK(mf_entries(run) == 4, "%d entries", mf_entries(run));

    // Broken ones are passed over, in every way of being broken.
    const char *files[5] = {mf_lora ? PEFT_WEIGHTS : "steering_vectors.safetensors", "optimizer.safetensors",
                            "trainer_state.json", mf_lora ? PEFT_CONFIG : "config.yml", "config.yml"};
    char *newest = checkpoint_path(run, "", 11);
    for (int i = 0; i < 5; i++) {
        for (int cut = 0; cut < (strcmp(files[i], "config.yml") != 0 ? 2 : 1); cut++) {
            char *file = model_path(newest, files[i]);
            struct stat info;
            bool done = cut ? stat(file, &info) == 0 && truncate(file, info.st_size / 2) == 0 : unlink(file) == 0;
            CHECK(done, "cannot damage %s", file);
            mf_check_latest(run, 10);
            CHECK(mf_save(run, 11, &e), "%s", e.text);
            free(file);
        }
    }
    char *copy = checkpoint_path(run, "", 20); // a folder under another step's name
    CHECK(rename(newest, copy) == 0, "rename");
    mf_check_latest(run, 10);
    char *state = model_path(copy, "trainer_state.json"), *was = read_file(state, NULL, &e),
         *now = was ? mf_replace(was, "11", "20") : xstrdup("");
    test_write(state, now);
    mf_check_latest(run, 10); // the tensors still say 11
    CHECK(mkdir(test_path(mf_lora ? "train_output_lora/Model/data/steering/seed-3/checkpoint-099"
                                  : "train_output/Model/data/steering/seed-3/checkpoint-099"),
                0777) == 0,
          "mkdir"); // not ours
    mf_check_latest(run, 10);

    mf_fill(&k, 0);
    CHECK(mf_save(run, 21, &e) && checkpoint_prune(run, 0, &k.c, &e) && mf_entries(run) == 6, "keep 0 keeps all: %d",
          mf_entries(run));
    CHECK(checkpoint_prune(run, 3, &k.c, &e) && mf_holds(run, 21, &e) && mf_holds(run, 10, &e) && mf_holds(run, 9, &e),
          "prune: %s", e.text);
    CHECK(mf_entries(run) == 5, "8 gone; 9, 10, 20 (broken but newer than the last kept), 21 and a stranger stay: %d",
          mf_entries(run));
    CHECK(checkpoint_prune(run, 1, &k.c, &e) && mf_holds(run, 21, &e) && mf_entries(run) == 2,
          "prune to one: %s, %d entries", e.text, mf_entries(run));
    free(run);
    free(old);
    free(left);
    free(junk);
    free(from);
    free(to);
    free(aside);
    free(newest);
    free(copy);
    free(state);
    free(was);
    free(now);
}

// A full disk (here: a limit on the size of files) at every file, and a folder that cannot be made.
void test_checkpoint_failures(void) {
    char *run = checkpoint_run_dir(test_path("full"), "Model", "data", "steering", 1);
    Error e = {0, ""};
    CHECK(mf_save(run, 1, &e) && mf_save(run, 2, &e), "%s", e.text);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit, small;
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlim_t sizes[4] = {0, 20, 500, 1000}; // the vectors take 680 bytes, the moments 1200
    for (int i = 0; i < 8; i++) {
        memset(&e, 0, sizeof e);
        small = limit;
        small.rlim_cur = sizes[i / 2];
        setrlimit(RLIMIT_FSIZE, &small);
        bool ok = mf_save(run, i % 2 ? 3 : 2, &e); // a new one, and one that exists
        setrlimit(RLIMIT_FSIZE, &limit);
        mf_expect(ok, &e,
                  i % 2 ? "cannot save|checkpoint-3|File too large|-> free the disk"
                        : "cannot save|checkpoint-2|File too large|-> free the disk",
                  "full disk");
        CHECK(mf_holds(run, 1, NULL) && mf_holds(run, 2, NULL) && mf_entries(run) == 2,
              "limit %d: an older checkpoint is damaged, or %d entries", (int)sizes[i / 2], mf_entries(run));
    }
    signal(SIGXFSZ, handler);
    mf_check_latest(run, 2);
    memset(&e, 0, sizeof e);
    CHECK(mf_save(run, 3, &e) && mf_holds(run, 3, &e), "after the disk is free again: %s", e.text);

    test_write(test_path("plain"), "a file");
    memset(&e, 0, sizeof e);
    mf_expect(mf_save(test_path("plain/run"), 1, &e), &e,
              "cannot save|plain|Not a directory|another folder|--resume auto", "folder below a file");
    char *inside = model_path(run, "checkpoint-3/mine");
    memset(&e, 0, sizeof e);
    CHECK(mkdir(inside, 0777) == 0, "mkdir");
    char *target = checkpoint_path(run, "", 3);
    mf_expect(remove_dir(target, &e), &e, "cannot remove|checkpoint-3",
              "a folder in a checkpoint is not ours to remove");
    CHECK(path_exists(inside), "the user's folder is gone");
    CHECK(checkpoint_number("checkpoint-12") == 12 && checkpoint_number("checkpoint-0") == 0 &&
              checkpoint_number("checkpoint-012") == -1 && checkpoint_number("checkpoint-1x") == -1 &&
              checkpoint_number("checkpoint-") == -1 && checkpoint_number("checkpoint--1") == -1 &&
              checkpoint_number("checkpoint-99999999999999999999") == -1 &&
              checkpoint_number(".tmp-checkpoint-1") == -1,
          "names");
    free(inside);
    free(target);
    free(run);
}

void test_checkpoint(void) {
    for (int lora = 0; lora < 2; lora++) {
        mf_lora = lora;
        test_checkpoint_save();
    }
    mf_lora = false;
    test_checkpoint_failures();
}

#endif
