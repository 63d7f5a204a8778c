// The memory that a run plans (trainer_plan_memory) is what it allocates, to the byte, and a step allocates nothing
// more.
#ifndef DEV_TEST_TEST_MEMORY_H
#define DEV_TEST_TEST_MEMORY_H

#include "dev/test/backends.h"      // test_cuda_ops
#include "dev/test/test_programs.h" // TINY_RECIPE, expect_command
#include "llmc/run/setup.h"

static const Ops *memory_test_ops;
static size_t memory_test_bytes;

static void *memory_test_alloc(size_t bytes) {
    memory_test_bytes += bytes ? bytes : 1;
    return memory_test_ops->alloc(bytes);
}

static size_t memory_test_taken(void) {
    const size_t bytes = memory_test_bytes;
    memory_test_bytes = 0;
    return bytes;
}

// Samples two problems, and the gradient of what came, as train_steer.cu does.
static bool memory_test_step(Trainer *t, Error *err) {
    const Options *o = &t->options;
    const int n = o->prompts_per_step, G = o->num_generations;
    const Sampling sampling = {1, 1, 0, o->max_completion_length, true, 1, 0};
    const LossConfig loss = {0.2f, 0.2f, 0, 1, false, 0};
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)n, sizeof *asked);
    PolicySample *samples = (PolicySample *)xcalloc((size_t)(n * G), sizeof *samples);
    float *logprob = (float *)xcalloc((size_t)(n * G * o->max_completion_length), sizeof(float));
    PolicyStats stats;
    memset(&stats, 0, sizeof stats);
    for (int i = 0; i < n; i++) {
        asked[i].prompt = t->prompts[i].v;
        asked[i].P = t->prompts[i].n;
        asked[i].key = (uint32_t)i;
        asked[i].completions = (Completion *)xcalloc((size_t)G, sizeof(Completion));
    }
    bool ok = rollout(&t->rollout, &t->model, t->trainable.model_params, asked, n, G, &sampling, NULL, NULL, err);
    reduction_begin(&t->reduction, n);
    for (int i = 0; i < n * G && ok; i++) {
        PolicySample *s = &samples[i];
        s->prompt = asked[i / G].prompt;
        s->P = asked[i / G].P;
        s->group = s->slot = i / G; // its place in reduction.slots is known below
        s->completion = &asked[i / G].completions[i % G];
        s->advantage = i % 2 ? 1.0f : -1.0f;
        s->weight = 0.01f;
        s->old_logprob = s->completion->logprob;
        s->logprob = logprob + i * o->max_completion_length;
        t->reduction.owner[i / G] = 0;
    }
    reduction_zero(&t->reduction, 0);
    for (int i = 0; i < n * G; i++) samples[i].slot = t->reduction.slot[i / G];
    ok = ok && policy_pass(&t->policy, &t->model, t->trainable.model_params, samples, n * G, &loss, t->reduction.slots,
                           t->trainable.layers, &stats, err);
    if (ok) reduction_sum(&t->reduction, t->trainable.model_grads);
    ok = ok && t->ops->gradient_norm(t->trainable.model_grads, t->trainable.layout.n) > 0;
    for (int i = 0; i < n; i++)
        for (int g = 0; g < G; g++) completion_free(&asked[i].completions[g]);
    for (int i = 0; i < n; i++) free(asked[i].completions);
    free(asked);
    free(samples);
    free(logprob);
    return ok;
}

void test_memory_plan(const char *device, const char *setup, const char *activations) {
    const char *call[] = {"train_steer", "--config",
                          TINY_RECIPE,   "--device",
                          device,        "--setup",
                          setup,         "--prompts_per_step",
                          "3",           "--num_generations",
                          "3",           "--max_completion_length",
                          "20",          "--rollout_batch_size",
                          "4",           "--activation_memory",
                          activations,   "--limit",
                          "30",          "--output_dir",
                          test_tmpdir()};
    Trainer t;
    Error err = {0, ""};
    size_t left, before = 0, loaded_bytes = 0;
    memset(&t, 0, sizeof t);
    const Ops *ops = ops_for_device(device, &err);
    if (ops->memory) before = ops->memory(&left);
    if (!CHECK(options_parse(&t.options, CMD_TRAIN, (int)(sizeof call / sizeof call[0]), (char **)call, &err) &&
                   trainer_plan(&t, &err) && trainer_load(&t, &err),
               "%s: %s", device, err.text))
        return;
    const size_t *part = t.memory.part, total = memory_total(&t.memory);
    if (ops->weight_bytes) { // what was planned before anything was loaded
        const size_t loaded = weights_bytes(&t.model.weights, &t.model.config, ops);
        CHECK(weights_bytes_planned(&t.model.config, ops) == loaded,
              "%s: %zu bytes of weights were planned, %zu are there", device,
              weights_bytes_planned(&t.model.config, ops), loaded);
    }
    if (ops->memory) {
        loaded_bytes = ops->memory(&left);
        const size_t taken = loaded_bytes - before, most = total - part[MEMORY_MARGIN];
        CHECK(taken <= most && taken >= most - part[MEMORY_OWN],
              "%s, %s: %zu bytes were taken, %zu were planned, %zu of them the kernels' own", device, setup, taken,
              most, part[MEMORY_OWN]);
    }

    // the same once more, each allocation counted
    Ops counting = *ops;
    memory_test_ops = ops;
    counting.alloc = memory_test_alloc;
    trainer_release_passes(&t);
    trainable_release(&t.trainable);
    t.ops = t.model.ops = &counting;
    memory_test_taken();
    trainer_alloc_trained(&t);
    size_t taken = memory_test_taken();
    CHECK(taken == part[MEMORY_TRAINED], "%s, %s: what is trained takes %zu bytes, %zu were planned", device, setup,
          taken, part[MEMORY_TRAINED]);
    trainer_alloc_passes(&t);
    taken = memory_test_taken();
    const size_t planned = total - part[MEMORY_TRAINED] - part[MEMORY_WEIGHTS] - part[MEMORY_OWN] -
                           part[MEMORY_ANSWERS] - part[MEMORY_MARGIN];
    if (!CHECK(trainable_begin(&t.trainable, &t.model.config, &t.options, &err), "%s", err.text)) return; // what it was
    CHECK(taken == planned, "%s, %s: passes take %zu bytes, %zu were planned", device, setup, taken, planned);

    // its parts, from the shapes
    const ModelConfig *c = &t.model.config;
    const size_t kv = (size_t)t.rollout.kv.n_pages * kv_page_bytes(&t.model),
                 pass_kv = (size_t)t.policy.kv.n_pages * kv_page_bytes(&t.model);
    const size_t acts =
        activation_bytes_per_row(&t.model) * (size_t)t.policy.rows * (size_t)(c->L - t.policy.first_layer);
    const size_t row = (size_t)c->V * sizeof(float) + (size_t)c->C * (sizeof(float) + ops->act_bytes) + sizeof(float);
    const size_t head =
        (4 + HEAD_ROWS) * row + HEAD_ROWS * ((size_t)c->V * ops->act_bytes + 2 * (size_t)c->C * sizeof(float));
    CHECK(part[MEMORY_CACHE] == kv && part[MEMORY_PASS_CACHE] == pass_kv,
          "%s: caches of %zu and %zu bytes, expected %zu and %zu", device, part[MEMORY_CACHE], part[MEMORY_PASS_CACHE],
          kv, pass_kv);
    CHECK(part[MEMORY_ACTIVATIONS] == acts, "%s: activations of %zu bytes, expected %zu", device,
          part[MEMORY_ACTIVATIONS], acts);
    CHECK(part[MEMORY_HEAD] == head, "%s: output layer of %zu bytes, expected %zu", device, part[MEMORY_HEAD], head);
    CHECK(ops->host_memory ? part[MEMORY_OWN] == 0 : part[MEMORY_OWN] > (size_t)c->V, "%s: %zu bytes for the kernels",
          device, part[MEMORY_OWN]);
    CHECK(strcmp(device, "ref") == 0 || part[MEMORY_WEIGHTS] > (size_t)c->V * c->C * 2, "%s: %zu bytes of weights",
          device, part[MEMORY_WEIGHTS]);

    CHECK(memory_test_step(&t, &err), "%s, %s: %s", device, setup, err.text);
    taken = memory_test_taken();
    CHECK(taken == 0, "%s, %s: a step has allocated %zu bytes", device, setup, taken);
    if (ops->memory) {
        taken = ops->memory(&left);
        CHECK(taken == loaded_bytes, "%s, %s: %zu bytes are taken after a step, %zu before it", device, setup, taken,
              loaded_bytes);
    }
    trainer_free(&t);
}

// A small file under a faked root.
static void memory_file(const char *root, const char *path, const char *text) {
    Str name = {0};
    str_printf(&name, "%s%s", root, path);
    char *slash = strrchr(name.s, '/');
    *slash = 0;
    Error err = {0, ""};
    CHECK(make_dirs(name.s, &err), "%s", err.text);
    *slash = '/';
    CHECK(write_file(name.s, text, strlen(text), &err), "%s", err.text);
    str_free(&name);
}

// The least that is free under a root, and who says so; SIZE_MAX where nobody limits anything. ulimit's are left out:
// they are this process's own.
static size_t memory_least(const char *root, Str *who) {
    HostLimits h;
    size_t least = SIZE_MAX;
    host_limits(&h, root);
    who->n = 0;
    str_printf(who, "nobody");
    for (int i = 0; i < h.n; i++) {
        if (!h.all[i].shared || h.all[i].free >= least) continue;
        least = h.all[i].free;
        who->n = 0;
        str_printf(who, "%s", h.all[i].who);
    }
    return least;
}

// RAM, and cgroups of both versions with all above them, as the kernel's files say it.
void test_memory_limits(void) {
    enum { MIB = 1 << 20 };
    char root[300];
    Str who = {0};
    snprintf(root, sizeof root, "%s", test_path("machine"));
    CHECK(memory_least(root, &who) == SIZE_MAX, "a machine that says nothing is limited");
    memory_file(root, "/proc/meminfo",
                "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    4096000 kB\n");
    CHECK(memory_least(root, &who) == 4000u * MIB && strstr(who.s, "MemAvailable"), "RAM: %s", who.s);

    // version 2: the limit is two levels above the process; what files hold and nobody uses is free
    memory_file(root, "/proc/self/mountinfo",
                "22 1 0:20 / /proc rw - proc proc rw\n30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 "
                "rw,nsdelegate\n");
    memory_file(root, "/proc/self/cgroup", "0::/user/job/step\n");
    memory_file(root, "/sys/fs/cgroup/user/job/step/memory.max", "max\n");
    memory_file(root, "/sys/fs/cgroup/user/job/memory.max", "3145728000\n");
    CHECK(memory_least(root, &who) == 3000u * MIB && strstr(who.s, "/sys/fs/cgroup/user/job/memory.max"),
          "a cgroup's limit: %s", who.s);
    memory_file(root, "/sys/fs/cgroup/user/memory.max", "2097152000\n");
    memory_file(root, "/sys/fs/cgroup/user/memory.current", "1048576000\n");
    memory_file(root, "/sys/fs/cgroup/user/memory.stat", "anon 5\nfile 7\ninactive_file 104857600\nactive_file 3\n");
    CHECK(memory_least(root, &who) == 1100u * MIB && strstr(who.s, "/sys/fs/cgroup/user/memory.max"),
          "an ancestor's limit less what is taken: %s", who.s);
    memory_file(root, "/sys/fs/cgroup/user/job/step/memory.high", "52428800\n");
    CHECK(memory_least(root, &who) == 50u * MIB && strstr(who.s, "memory.high"), "memory.high: %s", who.s);

    // a container: the path is the host's, and what is mounted is the container's own
    memory_file(root, "/proc/self/cgroup", "0::/docker/0123abcd\n");
    memory_file(root, "/sys/fs/cgroup/memory.max", "629145600\n");
    CHECK(memory_least(root, &who) == 600u * MIB && strstr(who.s, "/sys/fs/cgroup/memory.max"),
          "a container's limit: %s", who.s);
    memory_file(root, "/proc/self/mountinfo", "30 22 0:26 /docker/0123abcd /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    CHECK(memory_least(root, &who) == 600u * MIB, "a container's limit, mounted from within: %s", who.s);

    // version 1, where the memory controller has a hierarchy of its own, and no limit is a large number
    memory_file(root, "/proc/self/mountinfo",
                "31 22 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 22 0:28 / /sys/fs/cgroup/memory rw - "
                "cgroup cgroup rw,memory\n");
    memory_file(root, "/proc/self/cgroup", "4:cpu:/a\n3:memory:/a/b\n0::/\n");
    memory_file(root, "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(memory_least(root, &who) == 4000u * MIB, "version 1 without a limit: %s", who.s);
    memory_file(root, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "838860800\n");
    memory_file(root, "/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "209715200\n");
    memory_file(root, "/sys/fs/cgroup/memory/a/memory.stat", "cache 1\ntotal_inactive_file 104857600\n");
    CHECK(memory_least(root, &who) == 700u * MIB && strstr(who.s, "memory/a/memory.limit_in_bytes"), "version 1: %s",
          who.s);

    // what is held against it: every process of a machine takes its part of RAM, not of ulimit
    HostLimits h;
    MemoryPlan plan;
    Error err = {0, ""};
    memset(&plan, 0, sizeof plan);
    plan.part[MEMORY_WEIGHTS] = 100u * MIB;
    plan.part[MEMORY_ACTIVATIONS] = 300u * MIB;
    host_limits(&h, root);
    CHECK(host_memory_fits(&h, &plan, "cpu", 1, 0, &err), "400 MiB in 700: %s", err.text);
    CHECK(!host_memory_fits(&h, &plan, "cpu", 2, 0, &err) && strstr(err.text, "2 processes") &&
              strstr(err.text, "memory/a/memory.limit_in_bytes") && strstr(err.text, "--activation_memory"),
          "twice 400 MiB in 700: %s", err.text);
    err.code = 0;
    plan.part[MEMORY_WEIGHTS] = 800u * MIB;
    CHECK(!host_memory_fits(&h, &plan, "cpu", 1, 0, &err) && strstr(err.text, "smaller model") &&
              !strstr(err.text, "--activation_memory"),
          "no option lowers weights: %s", err.text);
    str_free(&who);
}

#ifdef __linux__
// The least `ulimit -d`, in steps of 1.5 MB, under which an experiment on the tiny model is not refused; with that it
// must end well: what is planned is what it takes. -1 if it does not.
static int memory_experiment_limit(const char *name, const char *more) {
    Str out = {0};
    int limit = 18000, code = -1; // what a program takes before it plans
    for (; limit < 200000; limit += 1500) {
        out.n = 0;
        code = run_command(&out,
                           "export OMP_NUM_THREADS=1; ulimit -d %d; ./eval_steer experiment %s --config "
                           "scripts/eval/tiny/%s.yml --rollout_batch_size 4 "
                           "--max_completion_length 800 --results_dir %s %s 2>&1",
                           limit, name, name, test_path("looked"), more);
        if (code == 0 || !strstr(out.s, "that `ulimit -d` allows")) break;
    }
    const bool ok =
        CHECK(code == 0 && strstr(out.s, "saved "),
              "experiment %s is not refused with `ulimit -d %d`, and ends with %d:\n%s", name, limit, code, out.s);
    str_free(&out);
    return ok ? limit : -1;
}

// What experiments take beyond a rollout is planned, too, and the answers of those that answer benchmarks.
static void test_memory_experiments(void) {
    const int plain = memory_experiment_limit("last_layer_steering", "--limit 4");
    const int patched = memory_experiment_limit("pre_last_layer_steering", "--limit 2 --variants skip_layer");
    const int match = memory_experiment_limit("match_effect", "--limit 2 --layers 3"),
              lora = memory_experiment_limit("lora1_plots", "--limit 100");
    memory_experiment_limit("self_explain", "--layers 3");
    memory_experiment_limit("vanilla", "--limit 40");
    memory_experiment_limit("magnitude", "--limit 40 --magnitudes 1");
    memory_experiment_limit("patch_head", "--limit 20 --variants skip_attn");
    memory_experiment_limit("exchange_svs", "--limit 40");
    CHECK(plain > 0 && patched > plain && match > plain && lora > match,
          "limits: %d plain, %d patched, %d match_effect, %d lora1_plots", plain, patched, match, lora);
    expect_command(1, "--max_completion_length or --limit (what the experiment looks at",
                   "export OMP_NUM_THREADS=1; ulimit -d %d; ./eval_steer experiment lora1_plots "
                   "--config scripts/eval/tiny/lora1_plots.yml --rollout_batch_size 4 --max_completion_length 800 "
                   "--limit 100 --results_dir %s",
                   match, test_path("looked"));
    expect_command(1, "leave out --save_tokens",
                   "export OMP_NUM_THREADS=1; ulimit -d 30000; ./eval_steer eval --config "
                   "scripts/eval/tiny/arithmetic.yml --save_tokens true --limit 400 "
                   "--steering data/tiny/vectors/steering.safetensors --rollout_batch_size 4 --results_dir %s",
                   test_path("looked"));
}
#endif

// The programs refuse before they take anything: within a ulimit that they would run into.
void test_memory_refused(void) {
#ifdef LLMC_CUDA
    SKIP("refusing within a ulimit: a program with CUDA in it reserves more address space than that");
    return;
#endif
#ifdef __linux__
    const char *train = "./train_steer --config " TINY_RECIPE " --max_steps 1";
    if (test_few()) return; // the emulator of a CPU takes address space itself
    expect_command(1, "--rollout_batch_size", "ulimit -d 1000000; %s --rollout_batch_size 16384 --output_dir %s", train,
                   test_path("large"));
    CHECK(!path_exists(test_path("large")), "a run that was refused has made its folder");
    expect_command(1, "that `ulimit -v` allows", "export OMP_NUM_THREADS=1; ulimit -v 700000; %s --output_dir %s",
                   train, test_path("large"));
    expect_command(1, "that `ulimit -d` allows", "export OMP_NUM_THREADS=1; ulimit -d 400000; %s --output_dir %s",
                   train, test_path("large"));
    expect_command(
        0, "saved ",
        "export OMP_NUM_THREADS=1; ulimit -v 700000; %s --prompts_per_step 2 --activation_memory 0.05 --output_dir %s",
        train, test_path("small"));
    // as many sequences at once as there is room for
    expect_command(0, "saved ",
                   "export OMP_NUM_THREADS=1; ulimit -d 66000; %s --prompts_per_step 16 --num_generations 16 "
                   "--max_completion_length 900 --activation_memory 0.005 --validation_steps 0 --rollout_batch_size 0 "
                   "--output_dir %s",
                   train, test_path("filled"));
    expect_command(1, "--rollout_batch_size, --cache_memory or --max_completion_length",
                   "ulimit -d 400000; ./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint none "
                   "--rollout_batch_size 16384 "
                   "--limit 3 --results_dir %s",
                   test_path("large"));
    expect_command(1, "--activation_memory",
                   "ulimit -d 120000; printf '{\"prompt_ids\": [1], \"completion_ids\": [2]}' | ./eval_steer score "
                   "--model data/tiny/model");
    test_memory_experiments();
#endif
}

void test_memory(void) {
    MemoryPlan plan;
    Error err = {0, ""};
    memset(&plan, 0, sizeof plan);
    plan.part[MEMORY_WEIGHTS] = 100u << 20;
    plan.part[MEMORY_CACHE] = 50u << 20;
    plan.part[MEMORY_ACTIVATIONS] = 30u << 20;
    CHECK(memory_fits(&plan, "cuda", 100u << 20, 80u << 20, &err) && memory_fits(&plan, "cuda", 200u << 20, 0, &err),
          "what fits: %s", err.text);
    CHECK(!memory_fits(&plan, "cuda", 100u << 20, (80u << 20) - 1, &err), "a byte too many fits");
    CHECK(strstr(err.text, "180.0 MiB") && strstr(err.text, "80.0 MiB more are wanted") &&
              strstr(err.text, "--activation_memory") && strstr(err.text, "--rollout_batch_size") &&
              strstr(err.text, "--max_completion_length"),
          "the message: %s", err.text);
    test_memory_limits();
    test_memory_refused();
    test_memory_plan("cpu", "steering", "0.01");
    test_memory_plan("cpu", "lora", "0.01");
    test_memory_plan("ref", "steering_rank", "0.01");
    test_memory_plan("cpu", "full", "0.01");
    const Ops *cuda = test_cuda_ops();
    if (!cuda) return;
    test_memory_plan("cuda", "lora", "0.01");
    test_memory_plan("cuda", "full", "0.01");
    test_memory_plan("cuda", "steering", "0.000001"); // a batch has room for one completion
    if (strstr(cuda->isa, "emulated"))
        expect_command(1, "more are wanted",
                       "CUDA_ON_CPU_MEMORY=128 ./train_steer --config " TINY_RECIPE
                       " --device cuda --output_dir %s/small",
                       test_tmpdir());
    if (strstr(cuda->isa, "emulated"))
        expect_command(1, "device cuda: the run wants",
                       "CUDA_ON_CPU_MEMORY=24 ./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint "
                       "none --device cuda "
                       "--rollout_batch_size 256 --limit 300 --results_dir %s/small",
                       test_tmpdir());
}

#endif
