/*
All weights in several processes (llmc/dist/shard.h). Without MPI: the shards cover the numbers, each once. With mpirun:
sums, norm and what is gathered, to the bit (dev/test/ranks.c on the CPU); training twice on 2 and on 4 ranks to the
same bits, and close to a run in one process; resumed with the same and with other numbers of ranks; ranks killed in the
reduce-scatter and while moments are gathered; a disk that refuses a checkpoint.
*/
#ifndef DEV_TEST_TEST_SHARD_H
#define DEV_TEST_TEST_SHARD_H

#include "dev/test/test_dist.h"   // dist_can_run, dist_expect
#include "dev/test/test_setups.h" // setups_metric
#include "llmc/dist/dist.h"

void test_shard_layout(void) {
    static const size_t sizes[] = {1, 64, 65, 1000, 419584, 2000000000};
    const Dist before = dist;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (dist.size = 1; dist.size <= 9; dist.size++) {
            size_t next = 0;
            for (dist.rank = 0; dist.rank < dist.size; dist.rank++) {
                Shard s;
                shard_init(&s, ops_ref_init(), sizes[k], true);
                CHECK((s.mine == 0 || s.first == next) && s.mine <= s.each &&
                          (size_t)dist.size * s.each == shard_room(&s) && s.first % SHARD_ALIGN == 0 &&
                          shard_room(&s) < sizes[k] + (size_t)dist.size * SHARD_ALIGN,
                      "%zu numbers, rank %d of %d: %zu from %zu on, expected from %zu", sizes[k], dist.rank, dist.size,
                      s.mine, s.first, next);
                next += s.mine;
            }
            CHECK(next == sizes[k], "%zu of %zu numbers are somebody's of %d", next, sizes[k], dist.size);
        }
    }
    dist = before;
}

// ----------------------------------------------------------------------------
// with mpirun

#define SHARD_FULL "--setup full --learning_rate 0.0001"

// The file of checkpoint n of folder `name`. Free with free().
char *shard_file(const char *name, const char *setup, int n, const char *file) {
    Str s = {0};
    str_printf(&s, "%s/tiny/arithmetic/%s/seed-0/checkpoint-%d/%s", test_path(name), setup, n, file);
    return s.s;
}

// Weights and moments of checkpoint 4 in folders a and b are the same bits.
void shard_same(const char *a, const char *b, const char *setup, const char *what) {
    const char *files[2] = {"model.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        char *x = shard_file(a, setup, 4, files[i]), *y = shard_file(b, setup, 4, files[i]);
        CHECK(same_files(x, y), "%s: %s and %s differ", what, x, y);
        free(x);
        free(y);
    }
}

// How far apart the weights of two checkpoints are, as a share of how far the first has come from the base model.
double shard_distance(const char *a, const char *b, const char *setup, int n) {
    char *files[3] = {shard_file(a, setup, n, "model.safetensors"), shard_file(b, setup, n, "model.safetensors"),
                      xstrdup("data/tiny/model/model.safetensors")};
    SafeTensors st[3];
    Error err = {0, ""};
    ModelConfig c;
    ParamLayout full;
    double apart = 0, moved = 0;
    bool ok = model_config_load(&c, "data/tiny/model", &err);
    for (int k = 0; k < 3 && ok; k++) ok = safetensors_open(&st[k], files[k], &err);
    if (!CHECK(ok, "%s", err.text)) return INFINITY;
    layout_full(&full, &c);
    for (int i = 0; i < full.n_tensors; i++) {
        const size_t size = (size_t)full.tensors[i].rows * (size_t)(full.tensors[i].cols ? full.tensors[i].cols : 1);
        float *x[3];
        for (int k = 0; k < 3; k++) {
            x[k] = (float *)xmalloc(size * sizeof(float));
            raw_to_f32(x[k], safetensors_find(&st[k], full.tensors[i].name), 0, (int)size);
        }
        for (size_t j = 0; j < size; j++) {
            apart += ((double)x[0][j] - x[1][j]) * ((double)x[0][j] - x[1][j]);
            moved += ((double)x[0][j] - x[2][j]) * ((double)x[0][j] - x[2][j]);
        }
        for (int k = 0; k < 3; k++) free(x[k]);
    }
    for (int k = 0; k < 3; k++) {
        safetensors_close(&st[k]);
        free(files[k]);
    }
    layout_free(&full);
    model_config_free(&c);
    return sqrt(apart / moved);
}

// The first step's completions, loss and reward are one process's exactly: its weights are. Later ones are close: the
// gradients are added in another order.
void test_shard_runs(const char *setup) {
    dist_expect(0, "saved ", 60, 0, "shard1", "--setup %s --learning_rate 0.0001", setup);
    char run[2][400];
    snprintf(run[0], sizeof run[0], "%s/tiny/arithmetic/%s/seed-0", test_path("shard1"), setup);
    for (int n = 2; n <= 4; n += 2) {
        char name[2][32];
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "shard%d%c", n, "ab"[k]);
            dist_expect(0, "numbers on each process", 60, n, name[k], "--setup %s --learning_rate 0.0001", setup);
        }
        shard_same(name[0], name[1], setup, "the same twice");
        snprintf(run[1], sizeof run[1], "%s/tiny/arithmetic/%s/seed-0", test_path(name[0]), setup);
        const char *key = strncmp(setup, "sft", 3) == 0 ? "entropy" : "reward";
        CHECK(setups_metric(run[0], 1, "loss") == setups_metric(run[1], 1, "loss") &&
                  setups_metric(run[0], 1, key) == setups_metric(run[1], 1, key),
              "%s on %d ranks: loss %.17g and %s %.17g in the first step, alone %.17g and %.17g", setup, n,
              setups_metric(run[1], 1, "loss"), key, setups_metric(run[1], 1, key), setups_metric(run[0], 1, "loss"),
              setups_metric(run[0], 1, key));
        const double norms = setups_metric(run[1], 1, "grad_norm") / setups_metric(run[0], 1, "grad_norm"),
                     off = shard_distance("shard1", name[0], setup, 4);
        CHECK(fabs(norms - 1) < 1e-4, "%s on %d ranks: the first gradient's norm is %.8g times that of one process",
              setup, n, norms);
        CHECK(off < 0.02, "%s on %d ranks: after four steps weights are %.3g of their way from those of one process",
              setup, n, off);
    }
}

// From folder `from`, whose run is not to be changed, a run that has come as far as step 2.
void shard_cut(const char *from, const char *to) {
    expect_command(0, "", "rm -rf %s && cp -r %s %s && rm -r %s/tiny/arithmetic/full/seed-0/checkpoint-4",
                   test_path(to), test_path(from), test_path(to), test_path(to));
}

void test_shard_resume(void) {
    shard_cut("shard2a", "shard_go");
    dist_expect(0, "resumed from", 60, 2, "shard_go", SHARD_FULL " --resume auto");
    shard_same("shard2a", "shard_go", "full", "resumed on 2 ranks");
    static const struct {
        const char *from;
        int ranks;
    } others[] = {{"shard2a", 0}, {"shard1", 2}, {"shard2a", 3}};
    for (int i = 0; i < 3; i++) {
        shard_cut(others[i].from, "shard_go");
        dist_expect(0, "resumed from", 60, others[i].ranks, "shard_go", SHARD_FULL " --resume auto");
        const double off = shard_distance(others[i].from, "shard_go", "full", 4);
        CHECK(off < 0.02, "%s resumed on %d ranks: weights are %.3g of their way from those of the unbroken run",
              others[i].from, others[i].ranks, off);
    }
}

void test_shard_failures(void) {
    Str out = {0};
    expect_command(0, "", "mkdir -p %s/tiny/arithmetic/full/seed-0/.tmp-checkpoint-2/mine", test_path("shard_refused"));
    dist_expect(1, "rank 0 of 2", 20, 2, "shard_refused", SHARD_FULL);
    if (run_command(&out, "cc -shared -fPIC -o %s dev/test/kill_at.c -ldl", test_path("kill_at.so")) != 0) {
        SKIP("ranks killed in the reduce-scatter: %s", out.s);
        return;
    }
    // What rank 1 of 2 sends, in two pieces: 2 of x at the start; 2 of the gradient and 2 of x a step; 4 of moments a
    // checkpoint. So the second piece of the third step's gradient, and of the second checkpoint's first moments
    const char *places[2] = {"MPI_Isend:16:1", "MPI_Isend:24:1"};
    for (int i = 0; i < 2; i++) {
        const double t0 = now_s();
        const int code =
            run_command(&out,
                        "export OMP_NUM_THREADS=1; rm -rf %s; KILL_AT=%s mpirun -np 2 env LD_PRELOAD=%s " DIST_TRAIN
                        " --output_dir %s " SHARD_FULL " < /dev/null",
                        test_path("shard_broken"), places[i], test_path("kill_at.so"), test_path("shard_broken"));
        CHECK(code == 137 && strstr(out.s, "rank 1") && now_s() - t0 < 20,
              "killed at %s: ended with %d after %.1f s:\n%s", places[i], code, now_s() - t0, out.s);
        char *two = shard_file("shard_broken", "full", 2, "model.safetensors"),
             *four = shard_file("shard_broken", "full", 4, "model.safetensors");
        const int steps =
            run_command(&out, "wc -l < %s/tiny/arithmetic/full/seed-0/metrics.jsonl", test_path("shard_broken")) == 0
                ? atoi(out.s)
                : -1;
        CHECK(path_exists(two) && !path_exists(four) && steps == (i ? 4 : 2),
              "killed at %s: in another place, after %d steps", places[i], steps);
        free(two);
        free(four);
        dist_expect(0, "resumed from", 60, 2, "shard_broken", SHARD_FULL " --resume auto");
        shard_same("shard2a", "shard_broken", "full", places[i]);
    }
    str_free(&out);
}

void test_shard(void) {
    test_shard_layout();
    if (!dist_can_run()) return;
    for (int n = 1; n <= 4; n++) {
        if (!path_exists("build/test_ranks")) {
            SKIP("sums of shards: build/test_ranks is not built");
            break;
        }
        expect_command(0, " passed, 0 failed",
                       "export OMP_NUM_THREADS=1; mpirun -np %d build/test_ranks cpu < /dev/null", n);
    }
    test_shard_runs("sft_full");
    test_shard_runs("full"); // its folders are used below
    test_shard_resume();
    test_shard_failures();
}

#endif
