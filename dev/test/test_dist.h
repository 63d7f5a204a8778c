/*
Several processes. Without MPI: the tree that adds up a step's gradient, for any owners of its parts, and parts that do
not depend on what is packed beside them. With mpirun: 1, 2, 3 and 4 ranks against a run alone, to the bit; resuming
with another number of ranks; ranks that fail, are interrupted, or are killed in the rollout, in an exchange and in the
checkpoint.
*/
#ifndef DEV_TEST_TEST_DIST_H
#define DEV_TEST_TEST_DIST_H

#include "dev/test/records.h"       // Records
#include "dev/test/test_programs.h" // run_command, check_same_checkpoint, check_same_metrics
#include "llmc/dist/dist.h"
#include "llmc/files/peft.h" // PEFT_WEIGHTS

// ----------------------------------------------------------------------------
// in one process

// total[size] = the tree's sum of values[n,size] as `ranks` ranks would compute it, each on its own: all must agree.
void tree_of_ranks(float *total, const float *values, const int *owner, int n, int size, int ranks) {
    const Ops *ops = ops_ref_init();
    Str sums = {0};
    size_t start[8], again[8];
    float *mine = (float *)xmalloc((size_t)size * sizeof(float));
    for (int step = 0; step < 2; step++) { // first all send, then all receive
        for (int r = 0; r < ranks; r++) {
            GradientReduction g;
            IntVec subtrees = {0};
            reduction_init(&g, ops, (size_t)size);
            reduction_begin(&g, n);
            memcpy(g.owner, owner, (size_t)n * sizeof(int));
            reduction_zero(&g, r);
            for (int i = 0; i < n; i++)
                if (owner[i] == r)
                    memcpy(g.slots + (size_t)g.slot[i] * (size_t)size, values + (size_t)i * (size_t)size,
                           (size_t)size * sizeof(float));
            reduction_subtrees(&g, 0, n, &subtrees);
            if (step == 0) {
                start[r] = sums.n;
                reduction_send(&g, &subtrees, r, &sums);
            } else {
                memcpy(again, start, sizeof again);
                reduction_receive(&g, &subtrees, sums.s, again, r == 0 ? total : mine);
                if (r > 0)
                    CHECK(memcmp(mine, total, (size_t)size * sizeof(float)) == 0,
                          "%d groups: rank %d of %d has another sum than rank 0", n, r, ranks);
            }
            ints_free(&subtrees);
            reduction_free(&g);
        }
    }
    str_free(&sums);
    free(mine);
}

void test_dist_tree(void) {
    enum { SIZE = 5, MOST = 13 };
    float values[MOST * SIZE], alone[SIZE], shared[SIZE];
    int owner[MOST], wrong = 0, off = 0, order_seen = 0;
    for (int n = 1; n <= MOST; n++) {
        for (uint32_t k = 0; k < 24; k++) {
            const int ranks = 1 + (int)(k % 4);
            double sum[SIZE] = {0}, size[SIZE] = {0};
            float in_order[SIZE] = {0};
            for (int i = 0; i < n * SIZE; i++)
                values[i] = rng_uniform(k, RNG_TOKEN, (uint32_t)n, (uint32_t)i, 0, 0) - 0.5f;
            // every second time neighbours have one owner; some groups have no gradient
            for (int i = 0; i < n; i++) {
                const uint32_t bits = rng_bits(k, RNG_TOKEN, (uint32_t)n, 1000, (uint32_t)i, 0);
                owner[i] = k >= 12 && bits % 3 == 0 ? -1 : k % 8 < 4 ? i * ranks / n : (int)(bits >> 8) % ranks;
                for (int c = 0; c < SIZE && owner[i] >= 0; c++) {
                    sum[c] += (double)values[i * SIZE + c];
                    size[c] += fabs((double)values[i * SIZE + c]);
                    in_order[c] += values[i * SIZE + c];
                }
            }
            tree_of_ranks(shared, values, owner, n, SIZE, ranks);
            for (int i = 0; i < n; i++)
                if (owner[i] >= 0) owner[i] = 0;
            tree_of_ranks(alone, values, owner, n, SIZE, 1);
            wrong += memcmp(alone, shared, sizeof alone) != 0;
            order_seen += memcmp(alone, in_order, sizeof alone) != 0;
            for (int c = 0; c < SIZE; c++) off += !(fabs((double)alone[c] - sum[c]) <= 1e-6 * size[c]);
        }
    }
    CHECK(wrong == 0, "%d sums of several ranks have other bits than one rank's", wrong);
    CHECK(off == 0, "%d numbers are not the sum", off);
    CHECK(order_seen > 50, "only %d sums would notice another order", order_seen);
}

// The gradient of each group, [groups, records_trained], with the groups in this order and `rows` rows in a batch.
float *parts_gradient(Records *r, const float *params, int lowest, int rows, bool reversed,
                      const LossConfig *loss_config) {
    const Ops *ops = r->model.ops;
    const size_t n = records_trained(r);
    const int groups = r->samples[r->n - 1].group + 1;
    PolicySample *samples = (PolicySample *)xmalloc((size_t)r->n * sizeof(PolicySample));
    bool trained[64];
    PolicyPass pass;
    PolicyStats stats;
    Error err = {0, ""};
    for (int l = 0; l < r->L; l++) trained[l] = true;
    for (int i = 0, at = 0; i < groups; i++)
        for (int k = 0; k < r->n; k++)
            if (r->samples[k].group == (reversed ? groups - 1 - i : i)) samples[at++] = r->samples[k];
    for (int i = 0; i < r->n; i++) samples[i].slot = samples[i].group;
    memset(&stats, 0, sizeof stats);
    policy_alloc(&pass, &r->model, 1, rows, lowest, true);
    float *there = (float *)ops->alloc((size_t)groups * n * sizeof(float)), *s = to_backend(ops, params, n);
    float *gradient = (float *)xmalloc((size_t)groups * n * sizeof(float));
    CHECK(policy_pass(&pass, &r->model, s, samples, r->n, loss_config, there, trained, &stats, &err), "%s", err.text);
    from_backend(ops, gradient, there, (size_t)groups * n);
    from_backend(ops, NULL, s, n);
    policy_free(&pass, &r->model);
    free(samples);
    return gradient;
}

// A group's part has the same bits alone in its batch and among others, before and after them; the parts together are
// the gradient. lowest: the lowest layer with something of `params`.
void check_parts(const char *backend, Records *r, const float *params, int lowest) {
    const size_t n = records_trained(r);
    const int groups = r->samples[r->n - 1].group + 1;
    const LossConfig loss_config = {0.2f, 0.2f, 0, 1, false, 0};
    float *whole = (float *)xcalloc(n, sizeof(float)), *sum = (float *)xcalloc(n, sizeof(float));
    PolicyPass pass;
    policy_alloc(&pass, &r->model, 64 << 20, r->longest, lowest, true);
    records_pass(r, &pass, params, &loss_config, whole, true, "dapo", NULL, NULL);
    policy_free(&pass, &r->model);
    int largest = 0, all = 0;
    for (int g = 0; g < groups; g++) {
        int rows = 0;
        for (int i = 0; i < r->n; i++)
            if (r->samples[i].group == g) rows += (rows == 0 ? r->samples[i].P : 0) + r->samples[i].completion->n - 1;
        if (rows > largest) largest = rows;
        all += rows;
    }
    float *together = parts_gradient(r, params, lowest, all, false, &loss_config);
    for (int rows = largest, k = 0; rows < all; rows += 37, k++) {
        float *apart = parts_gradient(r, params, lowest, rows, k % 2 == 1, &loss_config);
        CHECK(memcmp(together, apart, (size_t)groups * n * sizeof(float)) == 0,
              "%s: the gradients of %d groups have other bits in batches of %d rows", backend, groups, rows);
        free(apart);
    }
    for (int g = 0; g < groups; g++)
        for (size_t i = 0; i < n; i++) sum[i] += together[(size_t)g * n + i];
    const double e = relative_error(sum, whole, n);
    CHECK(e <= 1e-5, "%s: the parts' sum differs from the gradient by %.3g", backend, e);
    free(whole);
    free(sum);
    free(together);
}

void test_dist_parts(const char *backend, const Ops *ops) {
    Records r;
    if (!records_open(&r, ops)) return;
    check_parts(backend, &r, records_tensor(&r, "steering0", (size_t)r.L * r.C), 0);
    records_close(&r);
}

// ----------------------------------------------------------------------------
// with mpirun

#define DIST_NATURAL "--optimizer natural_gradient --entropy_coeff -0.01 --num_iterations 2"
#define DIST_RUN "tiny/arithmetic/steering/seed-0"
#define DIST_TRAIN "./train_steer --config " TINY_RECIPE TINY_SMALL

// Does mpirun start a train_steer that was built with MPI? If not, says why.
bool dist_can_run(void) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    setenv("OMPI_MCA_odls_base_sigkill_timeout", "0", 1); // seconds that mpirun leaves those it has asked to end
    setenv("OMP_WAIT_POLICY", "passive", 1);
    Str out = {0};
    const bool ok = run_command(&out, "OMP_NUM_THREADS=1 mpirun -np 2 ./train_steer --help < /dev/null") == 0;
    out.s[strcspn(out.s, "\n")] = 0;
    if (!ok)
        SKIP("several ranks: mpirun does not work here or train_steer was built without MPI (`scripts/setup.sh --mpi "
             "&& make` changes that): %s",
             out.s);
    str_free(&out);
    return ok;
}

// What `how` (options, output_dir left out) gives in folder `name` on n ranks (0: without mpirun) ends with this code
// within `limit` seconds and says `word`. before: put in front of the command.
__attribute__((format(printf, 6, 7))) void dist_expect(int code, const char *word, double limit, int n,
                                                       const char *name, const char *how, ...) {
    char options[1024], start[64] = "";
    va_list args;
    va_start(args, how);
    vsnprintf(options, sizeof options, how, args);
    va_end(args);
    if (n > 0) snprintf(start, sizeof start, "mpirun -np %d", n);
    Str out = {0};
    const double t0 = now_s();
    const int found = run_command(&out, "export OMP_NUM_THREADS=1; %s " DIST_TRAIN " --output_dir %s %s < /dev/null",
                                  start, test_path(name), options);
    CHECK(found == code && strstr(out.s, word), "%d ranks, %s: ended with %d, expected %d and \"%s\"; it said:\n%s", n,
          options, found, code, word, out.s);
    CHECK(now_s() - t0 < limit, "%d ranks, %s: took %.1f s, allowed %.1f", n, options, now_s() - t0, limit);
    str_free(&out);
}

// Folders a and b hold the same run of 4 steps: vectors, moments, metrics.
void dist_same(const char *a, const char *b, const char *what) {
    char run[2][300];
    snprintf(run[0], sizeof run[0], "%s/" DIST_RUN, test_path(a));
    snprintf(run[1], sizeof run[1], "%s/" DIST_RUN, test_path(b));
    check_same_checkpoint(run[0], run[1], 4, what);
    check_same_metrics(run[0], run[1]);
}

double json_value(const cJSON *object, const char *key) {
    const cJSON *number = cJSON_GetObjectItem(object, key);
    return number ? number->valuedouble : NAN;
}

void test_dist_runs(void) {
    const char *plain = "--validation_size 20 --validation_steps 4 --log_completions";
    const char *more = "--beta 0.05 --num_iterations 2 --dynamic_sampling --dynamic_sampling_max_rounds 2";
    dist_expect(0, "saved ", 60, 0, "alone", "%s", plain);
    dist_expect(0, "gap 0 ", 60, 0, "alone_more", "%s", more);
    for (int n = 1; n <= 4; n *= 2) {
        char name[32], what[64];
        snprintf(name, sizeof name, "ranks%d", n);
        snprintf(what, sizeof what, "%d ranks against a run alone", n);
        dist_expect(0, "gap 0 ", 60, n, name, "%s", plain);
        dist_same("alone", name, what);
    }
    CHECK(same_files(test_path("alone/" DIST_RUN "/completions/step-4.jsonl"),
                     test_path("ranks4/" DIST_RUN "/completions/step-4.jsonl")),
          "completions differ");
    dist_expect(0, "gap 0 ", 60, 3, "ranks3", "%s", more);
    dist_same("alone_more", "ranks3", "3 ranks against a run alone, with everything else");
    // with more ranks than problems rank 0 has none to sample, and the step's figures are still those of the step
    dist_expect(0, "saved ", 60, 4, "idle", "--prompts_per_step 2 --max_steps 1");
    char *line = read_file(test_path("idle/" DIST_RUN "/metrics.jsonl"), NULL, NULL);
    cJSON *step = line ? cJSON_Parse(line) : NULL;
    const double seconds = json_value(step, "time/rollout"),
                 tokens = json_value(step, "completions/mean_length") * json_value(step, "num_completions");
    CHECK(seconds > 2e-4 && seconds <= json_value(step, "step_time"), "more ranks than problems: a rollout of %g s",
          seconds);
    CHECK(fabs(json_value(step, "tokens_per_s") * seconds - tokens) < 1e-6 * tokens, "more ranks than problems: %s",
          line);
    cJSON_Delete(step);
    free(line);
    // what else can be trained
    static const struct {
        const char *setup, *folder, *file;
    } setups[] = {{"lora --learning_rate 0.01", "lora_r4", PEFT_WEIGHTS},
                  {"sft_lora --learning_rate 0.01", "sft_lora_r4", PEFT_WEIGHTS},
                  {"steering_rank", "steering_rank_1", "steering_vectors.safetensors"}};
    for (int i = 0; i < 3; i++) {
        for (int n = 0; n <= 3; n += 3)
            dist_expect(0, "saved ", 60, n, n ? "setup_ranks" : "setup_alone", "--setup %s", setups[i].setup);
        char file[2][512];
        for (int k = 0; k < 2; k++)
            snprintf(file[k], sizeof file[k], "%s/tiny/arithmetic/%s/seed-0/checkpoint-4/%s",
                     test_path(k ? "setup_ranks" : "setup_alone"), setups[i].folder, setups[i].file);
        CHECK(same_files(file[0], file[1]), "setup %s: 3 ranks end with other numbers than one", setups[i].setup);
    }
    // another optimizer, and a term that groups of equal rewards have, too
    dist_expect(0, "saved ", 60, 0, "natural_alone", "%s", DIST_NATURAL);
    dist_expect(0, "saved ", 60, 3, "natural_ranks", "%s", DIST_NATURAL);
    dist_same("natural_alone", "natural_ranks", "natural_gradient: 3 ranks against a run alone");
    // resumed at step 2 with another number of ranks
    const int resumed[2] = {0, 4};
    for (int i = 0; i < 2; i++) {
        expect_command(0, "", "rm -rf %s && cp -r %s %s && rm -r %s/" DIST_RUN "/checkpoint-4", test_path("resumed"),
                       test_path("ranks2"), test_path("resumed"), test_path("resumed"));
        dist_expect(0, "resumed from", 60, resumed[i], "resumed", "%s --resume auto", plain);
        dist_same("alone", "resumed", "begun by 2 ranks, resumed by another number");
    }
}

// Every way out: all ranks end within seconds, with the rank's name, and the run goes on from the last checkpoint as if
// nothing had been.
void test_dist_failures(void) {
    const char *plain = "--validation_size 20 --validation_steps 4 --log_completions";
    Str out = {0};
    expect_command(2, "learnig_rate", "mpirun -np 2 " DIST_TRAIN " --learnig_rate 1 < /dev/null");
    expect_command(1, "rank 1 of 2",
                   "mpirun -np 1 " DIST_TRAIN " --output_dir %s : -np 1 " DIST_TRAIN
                   " --output_dir %s --limit 50 < /dev/null",
                   test_path("differ"), test_path("differ"));
    // rank 0 cannot write its first checkpoint: something else is in the way
    expect_command(0, "", "mkdir -p %s/" DIST_RUN "/.tmp-checkpoint-2/mine", test_path("refused"));
    dist_expect(1, "rank 0 of 2", 20, 2, "refused", "%s", plain);

    // the children of mpirun are found by /proc, and kill_at.c is loaded by LD_PRELOAD
    if (!path_exists("/proc/self/task")) {
        SKIP("ranks that are interrupted or killed: no /proc here");
        str_free(&out);
        return;
    }

    // one rank is interrupted or killed in the rollout, which is made slow (an interrupted validation would be missing
    // in metrics.jsonl, so there is none before step 4). $2: the process of rank 1
    for (int kill = 0; kill < 2; kill++) {
        const double t0 = now_s();
        int code =
            run_command(&out,
                        "export OMP_NUM_THREADS=1; rm -rf %s; mpirun -np 2 " DIST_TRAIN
                        " --rollout_batch_size 1 --output_dir %s %s < /dev/null & p=$!; "
                        "while ! [ -s %s/" DIST_RUN "/metrics.jsonl ]; do kill -0 $p || exit 99; sleep 0.01; done; set "
                        "-- $(cat /proc/$p/task/$p/children); kill -%s $2; wait $p",
                        test_path("broken"), test_path("broken"), plain, test_path("broken"), kill ? "KILL" : "INT");
        CHECK(kill ? code == 137 && strstr(out.s, "rank 1") : code == 130 && strstr(out.s, "--resume auto"),
              "a %s rank: ended with %d:\n%s", kill ? "killed" : "interrupted", code, out.s);
        CHECK(now_s() - t0 < 20, "a %s rank: the run ended after %.1f s", kill ? "killed" : "interrupted",
              now_s() - t0);
        dist_expect(0, "saved ", 60, kill ? 0 : 4, "broken", "%s --resume auto", plain);
        dist_same("alone", "broken", "one rank was interrupted or killed in the rollout");
    }

    // one rank is stopped: the other notices within ddp_timeout, names it and ends the run, whichever it is
    for (int r = 0; r < 2; r++) {
        char who[32];
        snprintf(who, sizeof who, "error: rank %d (", r);
        const double t0 = now_s();
        int code = run_command(
            &out,
            "export OMP_NUM_THREADS=1; rm -rf %s; mpirun -np 2 " DIST_TRAIN
            " --rollout_batch_size 1 --ddp_timeout 2 --output_dir %s %s < /dev/null & p=$!; "
            "while ! [ -s %s/" DIST_RUN
            "/metrics.jsonl ]; do kill -0 $p || exit 99; sleep 0.01; done; set -- $(cat /proc/$p/task/$p/children); "
            "kill -STOP $%d; (sleep 30; kill -CONT $%d) >/dev/null 2>&1 & wait $p", // in the end it goes on, or a bug
                                                                                    // would hang here
            test_path("broken"), test_path("broken"), plain, test_path("broken"), r + 1, r + 1);
        CHECK(code == 1 && strstr(out.s, who) && strstr(out.s, "ddp_timeout"), "a stopped rank %d: ended with %d:\n%s",
              r, code, out.s);
        CHECK(now_s() - t0 > 2 && now_s() - t0 < 20, "a stopped rank %d: the run ended after %.1f s", r, now_s() - t0);
        dist_expect(0, "saved ", 60, 2 * r, "broken", "%s --resume auto", plain);
        dist_same("alone", "broken", "one rank was stopped");
    }
    // one rank never comes to MPI_Init, because it is stopped or sleeps: the other says so
    for (int r = 0; r < 2; r++) {
        char who[32];
        snprintf(who, sizeof who, "error: rank %d of 2 (", 1 - r);
        const double t0 = now_s();
        int code = run_command(&out,
                               "export OMP_NUM_THREADS=1; rm -rf %s; timeout -k 1 40 mpirun -np 2 sh -c 'if [ "
                               "${OMPI_COMM_WORLD_RANK:-$PMI_RANK} = %d ]; then %s; fi; exec " DIST_TRAIN
                               " --ddp_timeout 2 --output_dir %s %s' < /dev/null",
                               test_path("never"), r, r ? "kill -STOP $$" : "exec sleep 60", test_path("never"), plain);
        CHECK(code == 1 && strstr(out.s, who) && strstr(out.s, "MPI has not started within 2 s (ddp_timeout)"),
              "rank %d does not start: ended with %d:\n%s", r, code, out.s);
        CHECK(now_s() - t0 > 2 && now_s() - t0 < 20 && !path_exists(test_path("never")),
              "rank %d does not start: the run ended after %.1f s", r, now_s() - t0);
    }
    // a rank that stops for less than that, or is slow, is waited for
    int code = run_command(&out,
                           "export OMP_NUM_THREADS=1; rm -rf %s; mpirun -np 2 " DIST_TRAIN
                           " --rollout_batch_size 1 --ddp_timeout 3 --output_dir %s %s < /dev/null & p=$!; "
                           "while ! [ -s %s/" DIST_RUN
                           "/metrics.jsonl ]; do kill -0 $p || exit 99; sleep 0.01; done; set -- $(cat "
                           "/proc/$p/task/$p/children); kill -STOP $2; sleep 1; kill -CONT $2; wait $p",
                           test_path("broken"), test_path("broken"), plain, test_path("broken"));
    CHECK(code == 0, "a rank that stopped for a second: ended with %d:\n%s", code, out.s);
    dist_same("alone", "broken", "one rank stopped for a second");

    // killed at a place that only a library loaded before the others can find
    const char *places[2] = {"fsync:23:0", "nanosleep:20:1"};
    if (run_command(&out, "cc -shared -fPIC -o %s dev/test/kill_at.c -ldl", test_path("kill_at.so")) != 0) {
        SKIP("ranks killed in an exchange and in the checkpoint: %s", out.s);
        return;
    }
    for (int i = 0; i < 2; i++) {
        const double t0 = now_s();
        int code =
            run_command(&out,
                        "export OMP_NUM_THREADS=1; rm -rf %s; KILL_AT=%s mpirun -np 2 env LD_PRELOAD=%s " DIST_TRAIN
                        " --rollout_batch_size 1 --output_dir %s %s < /dev/null",
                        test_path("broken"), places[i], test_path("kill_at.so"), test_path("broken"), plain);
        CHECK(code == 137 && now_s() - t0 < 20, "killed at %s: ended with %d after %.1f s:\n%s", places[i], code,
              now_s() - t0, out.s);
        if (i == 0)
            CHECK(path_exists(test_path("broken/" DIST_RUN "/.tmp-checkpoint-4")) &&
                      path_exists(test_path("broken/" DIST_RUN "/checkpoint-2")),
                  "killed outside the second checkpoint");
        else CHECK(!path_exists(test_path("broken/" DIST_RUN "/checkpoint-4")), "killed too late");
        dist_expect(0, "saved ", 60, i == 0 ? 3 : 0, "broken", "%s --resume auto", plain);
        dist_same("alone", "broken", places[i]);
    }
    str_free(&out);
}

void test_dist(void) {
    test_dist_tree();
    test_dist_parts("ref", ops_ref_init());
    const Ops *backends[TEST_BACKENDS];
    const int n = test_backends(backends);
    for (int i = 0; i < n; i++)
        if (backends[i]->host_memory)
            test_dist_parts(backend_name(backends[i]).text, backends[i]); // cuBLASLt chooses its kernel by shape
    if (!dist_can_run()) return;
    test_dist_runs();
    test_dist_failures();
}

#endif
