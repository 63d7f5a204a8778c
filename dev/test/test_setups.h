/*
What can be trained besides a vector for each layer: factors and their gradient, adapters in PEFT's format (good,
foreign, malicious), solutions as completions, option errors; and each setup as a user starts it: it improves, and goes
on from a checkpoint to the bit. That PEFT and PyTorch agree is dev/reference/check_peft.py's to show.
*/
#ifndef DEV_TEST_TEST_SETUPS_H
#define DEV_TEST_TEST_SETUPS_H

#include "dev/test/test.h"
#include "dev/test/test_options.h"     // test_options_call
#include "dev/test/test_programs.h"    // run_command, expect_command, same_files, TINY_RECIPE
#include "dev/test/test_safetensors.h" // mf_expect, mf_replace
#include "llmc/chat.h"
#include "llmc/run/trainable_setup.h"

#define TINY_LORA "data/tiny/lora1"

// ----------------------------------------------------------------------------
// factors

void test_setups_factors(void) {
    // by hand: A = (1, 2)^T, B = (3, 4); dS = the unit matrix
    const float a[2] = {1, 2}, b[2] = {3, 4}, unit[4] = {1, 0, 0, 1};
    float s[4], da[2], db[2];
    factors_product(s, a, b, 2, 1, 2);
    CHECK(s[0] == 3 && s[1] == 4 && s[2] == 6 && s[3] == 8, "product %g %g %g %g", (double)s[0], (double)s[1],
          (double)s[2], (double)s[3]);
    factors_gradient(da, db, unit, a, b, 2, 1, 2);
    CHECK(da[0] == 3 && da[1] == 4 && db[0] == 1 && db[1] == 2, "gradient %g %g, %g %g", (double)da[0], (double)da[1],
          (double)db[0], (double)db[1]);

    // finite differences of f = sum of w S + S^2 / 2, whose dS is w + S
    enum { L = 3, R = 2, C = 5, N = L * R + R * C };
    float x[N], w[L * C], ds[L * C], S[L * C], g[N];
    for (int i = 0; i < N; i++) x[i] = rng_uniform(1, RNG_TOKEN, 0, (uint32_t)i, 0, 0) - 0.5f;
    for (int i = 0; i < L * C; i++) w[i] = rng_uniform(2, RNG_TOKEN, 0, (uint32_t)i, 0, 0) - 0.5f;
    factors_product(S, x, x + L * R, L, R, C);
    for (int i = 0; i < L * C; i++) ds[i] = w[i] + S[i];
    factors_gradient(g, g + L * R, ds, x, x + L * R, L, R, C);
    double worst = 0;
    for (int i = 0; i < N; i++) {
        double f[2];
        for (int k = 0; k < 2; k++) {
            float moved[N];
            memcpy(moved, x, sizeof x);
            moved[i] += k ? 0.01f : -0.01f;
            factors_product(S, moved, moved + L * R, L, R, C);
            f[k] = 0;
            for (int j = 0; j < L * C; j++) f[k] += (double)w[j] * S[j] + 0.5 * (double)S[j] * S[j];
        }
        const double off = fabs((f[1] - f[0]) / 0.02 - g[i]);
        if (!(off <= worst)) worst = off;
    }
    CHECK(worst < 1e-4, "the gradient is off by %g of finite differences",
          worst); // fp32 of S over a step of 0.02: some 1e-5
}

// ----------------------------------------------------------------------------
// solutions

void test_setups_solutions(void) {
    static const struct {
        const char *name, *solution, *expected;
    } cases[] = {
        {"raw", "\n1+2=3. \\boxed{3}", "\n1+2=3. \\boxed{3}"},
        {"qwen25-math-cot", "48/2 = <<48/2=24>>24 clips.\nIn all <<a>>72.\n#### 72",
         "48/2 = 24 clips.\nIn all 72.\n\\boxed{72}"},
        {"qwen25-math-cot", "a\n#### b\nc <<open", "a\n#### b\nc <<open\n\\boxed{72}"},
        {"r1", "so", " so </think> <answer> \\boxed{72} </answer>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str out = {0};
        Error err = {0, ""};
        str_printf(&out, "before");
        CHECK(chat_solution(&out, cases[i].name, cases[i].solution, "72", &err) &&
                  strcmp(out.s + 6, cases[i].expected) == 0,
              "%s: \"%s\" became \"%s\"", cases[i].name, cases[i].solution, out.s);
        str_free(&out);
    }
}

// ----------------------------------------------------------------------------
// PEFT's format

// A folder with these two files; config NULL: the tiny LoRA's, tensors NULL: its.
const char *setups_adapter(const char *config, const FileTensor *tensors, int n) {
    const char *dir = test_path("adapter");
    Error e = {0, ""};
    char *file = model_path(dir, PEFT_WEIGHTS), *settings = model_path(dir, PEFT_CONFIG),
         *text = read_file(TINY_LORA "/" PEFT_CONFIG, NULL, &e);
    CHECK(make_dirs(dir, &e), "%s", e.text);
    test_write(settings, config ? config : text);
    if (tensors) CHECK(file_tensor_write(file, tensors, n, NULL, &e), "%s", e.text);
    else expect_command(0, "", "cp " TINY_LORA "/" PEFT_WEIGHTS " %s", file);
    free(file);
    free(settings);
    free(text);
    return dir;
}

void setups_refused(const ModelConfig *c, const char *config, const FileTensor *tensors, int n, const char *words,
                    const char *label) {
    PeftConfig p;
    ParamLayout t;
    float *numbers;
    Error e = {0, ""};
    mf_expect(peft_load(&p, &t, &numbers, c, setups_adapter(config, tensors, n), &e), &e, words, label);
}

void test_setups_peft(void) {
    ModelConfig c;
    PeftConfig p;
    ParamLayout t;
    float *numbers;
    Error e = {0, ""};
    if (!CHECK(model_config_load(&c, "data/tiny/model", &e) && peft_load(&p, &t, &numbers, &c, TINY_LORA, &e), "%s",
               e.text))
        return;
    CHECK(p.r == 1 && p.alpha == 1 && p.targets[PROJ_DOWN] && !p.targets[PROJ_Q] && t.n == (size_t)c.L * (c.I + c.C),
          "the tiny LoRA: rank %d, %zu numbers", p.r, t.n);
    layout_free(&t);
    free(numbers);

    // written and read: every matrix, rank 3, any bits
    memset(&p, 0, sizeof p);
    p.r = 3;
    p.alpha = 0.1;
    for (int i = 0; i < N_PROJ; i++) p.targets[i] = true;
    ParamLayout all, back;
    PeftConfig q;
    layout_lora(&all, &c, 3, 0.1f, p.targets, NULL);
    float *x = (float *)xmalloc(all.n * sizeof(float));
    for (size_t i = 0; i < all.n; i++) x[i] = rng_uniform(3, RNG_TOKEN, (uint32_t)i, 0, 0, 0) - 0.5f;
    int n = 0;
    FileTensor *tensors = peft_tensors(&all, x, &n);
    Str text = {0};
    peft_config_write(&text, &p, NULL, "a \"base\"");
    CHECK(n == c.L * N_PROJ * 2, "%d tensors", n);
    if (CHECK(peft_load(&q, &back, &numbers, &c, setups_adapter(text.s, tensors, n), &e), "%s", e.text)) {
        CHECK(q.r == 3 && q.alpha == 0.1 && memcmp(q.targets, p.targets, sizeof p.targets) == 0 && back.n == all.n &&
                  back.scale == all.scale && memcmp(numbers, x, all.n * sizeof(float)) == 0,
              "what comes back is not what was written");
        layout_free(&back);
        free(numbers);
    }
    // the file has B as [N,r], the memory as [r,N]
    SafeTensors st;
    char *file = model_path(test_path("adapter"), PEFT_WEIGHTS);
    if (CHECK(safetensors_open(&st, file, &e), "%s", e.text)) {
        const RawTensor *b = safetensors_find(&st, "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
        const LoraSite *s = layout_lora_site(&all, 1, PROJ_DOWN);
        CHECK(b && b->shape[0] == c.C && b->shape[1] == 3 &&
                  ((const float *)b->data)[5 * 3 + 2] == x[s->b + 2 * (size_t)c.C + 5],
              "B is not [N,r]");
        safetensors_close(&st);
    }
    free(file);

    // one tensor missing, renamed, of another shape, not finite
    setups_refused(&c, text.s, tensors, n - 1, "down_proj.lora_B.weight is missing|layer 3", "B without its last");
    char keep[96];
    snprintf(keep, sizeof keep, "%s", tensors[0].name);
    snprintf(tensors[0].name, sizeof tensors[0].name, "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight");
    setups_refused(&c, text.s, tensors, n, "layers.0.self_attn.q_proj.lora_A.weight is missing", "another layer's");
    snprintf(tensors[0].name, sizeof tensors[0].name, "%s", keep);
    x[7] = NAN;
    setups_refused(&c, text.s, tensors, n, "lora_A.weight|NaN", "NaN");
    x[7] = 0;
    tensors[0].rows = 2;
    setups_refused(&c, text.s, tensors, n, "layers.0.self_attn.q_proj.lora_A.weight|[2, 96]|[3, 96]",
                   "rank 2 in the file");
    tensors[0].rows = 3;
    FileTensor *more = (FileTensor *)xmalloc((size_t)(n + 1) * sizeof(FileTensor));
    memcpy(more, tensors, (size_t)n * sizeof(FileTensor));
    more[n] = tensors[0];
    const char *strangers[3] = {"base_model.model.model.layers.0.mlp.down_proj.lora_B.bias",
                                "base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector",
                                "base_model.model.model.layers.4.mlp.down_proj.lora_A.weight"};
    for (int i = 0; i < 3; i++) {
        snprintf(more[n].name, sizeof more[n].name, "%s", strangers[i]);
        setups_refused(&c, text.s, more, n + 1, strangers[i], "a stranger");
    }

    // settings that mean something else
    static const struct {
        const char *from, *to, *words;
    } wrong[] = {
        {"\"r\": 3", "\"r\": 0", "r|0"},
        {"\"r\": 3", "\"r\": 100000", "r|100000"},
        {"\"r\": 3", "\"r\": 2.5", "r|2.5"},
        {"\"r\": 3", "\"r\": \"3\"", "r|string"},
        {"\"r\": 3,", "", "\"r\""},
        {"\"lora_alpha\": 0.1", "\"lora_alpha\": -1", "lora_alpha|-1"},
        {"\"lora_alpha\": 0.10000000000000001", "\"lora_alpha\": 1e999", "adapter_config.json"},
        {"\"bias\": \"none\"", "\"bias\": \"all\"", "bias|all"},
        {"\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true", "fan_in_fan_out"},
        {"\"r\": 3", "\"r\": 3, \"use_rslora\": true", "use_rslora"},
        {"\"r\": 3", "\"r\": 3, \"use_dora\": true", "use_dora"},
        {"\"r\": 3", "\"r\": 3, \"modules_to_save\": [\"lm_head\"]", "modules_to_save"},
        {"\"r\": 3", "\"r\": 3, \"rank_pattern\": {\"q_proj\": 8}", "rank_pattern"},
        {"\"r\": 3", "\"r\": 3, \"alpha_pattern\": {\"q_proj\": 8}", "alpha_pattern"},
        {"\"r\": 3", "\"r\": 3, \"lora_bias\": true", "lora_bias|--steering"},
        {"\"r\": 3", "\"r\": 3, \"init_lora_weights\": \"pissa\"", "init_lora_weights|pissa"},
        {"\"LORA\"", "\"IA3\"", "peft_type|IA3"},
        {"\"r\": 3", "\"r\": 3, \"r\": 4", "\"r\" comes twice"},
        {"\"q_proj\"", "\"lm_head\"", "target_modules|lm_head"},
        {"\"q_proj\"", "7", "target_modules|number"},
        {"[\"q_proj\"", "[\"k_proj\"", "adapter"},
        {"{", "[", "adapter_config.json"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *config = mf_replace(text.s, wrong[i].from, wrong[i].to);
        setups_refused(&c, config, tensors, n, wrong[i].words, wrong[i].to);
        free(config);
    }
    // what is off is no obstacle
    char *config = mf_replace(text.s, "\"r\": 3",
                              "\"r\": 3, \"use_rslora\": false, \"modules_to_save\": null, \"rank_pattern\": {}, "
                              "\"loftq_config\": {}, \"init_lora_weights\": true");
    memset(&e, 0, sizeof e);
    if (CHECK(peft_load(&q, &back, &numbers, &c, setups_adapter(config, tensors, n), &e), "%s", e.text)) {
        layout_free(&back);
        free(numbers);
    }
    free(config);
    free(more);
    free(tensors);
    free(x);
    str_free(&text);
    layout_free(&all);
    model_config_free(&c);
}

// Where a LoRA and factors begin: A within its bounds and not all alike, B zero; the seed decides.
void test_setups_start(void) {
    ModelConfig c;
    Error e = {0, ""};
    Options o;
    Trainable t, again, other;
    if (!CHECK(model_config_load(&c, "data/tiny/model", &e), "%s", e.text)) return;
    const char *setups[2] = {"lora --lora_r 3 --lora_target_modules q_proj,down_proj", "steering_rank --rank 2"};
    for (int i = 0; i < 2; i++) {
        Trainable *all[3] = {&t, &again, &other};
        for (int k = 0; k < 3; k++) {
            Str line = {0};
            str_printf(&line, "--model m --data d --setup %s --seed %d", setups[i], k == 2);
            if (CHECK(test_options_call(&o, CMD_TRAIN, line.s, true, &e), "%s", e.text)) {
                CHECK(trainable_init(all[k], ops_ref_init(), &c, NULL, &o, &e), "%s", e.text);
                trainable_alloc(all[k], ops_ref_init());
                CHECK(trainable_begin(all[k], &c, &o, &e), "%s", e.text);
                options_free(&o);
            }
            str_free(&line);
        }
        CHECK(memcmp(t.host[0], again.host[0], t.n * sizeof(float)) == 0 &&
                  memcmp(t.host[0], other.host[0], t.n * sizeof(float)) != 0,
              "%s: the seed", setups[i]);
        const size_t na = i ? (size_t)c.L * 2 : (size_t)3 * c.C; // the first A
        const float bound = 1 / sqrtf(i ? 2.0f : (float)c.C), *a = t.host[0], *b = a + na;
        float low = 1, high = -1, most = 0;
        for (size_t k = 0; k < na; k++) {
            if (a[k] < low) low = a[k];
            if (a[k] > high) high = a[k];
        }
        for (int k = 0; k < c.C; k++)
            if (!(fabsf(b[k]) <= most)) most = fabsf(b[k]);
        CHECK(low >= -bound && low < -bound / 4 && high <= bound && high > bound / 4 && most == 0,
              "%s: A from %g to %g of %g, B up to %g", setups[i], (double)low, (double)high, (double)bound,
              (double)most);
        for (int k = 0; k < 3; k++) trainable_free(all[k]);
    }
    model_config_free(&c);
}

// ----------------------------------------------------------------------------
// as a user starts them

void test_setups_calls(void) {
    static const char *const wrong[][2] = {
        {"--setup lora --lora_target_modules down_porj", "did you mean down_proj"},
        {"--setup lora --layers 1", "layers is set"},
        {"--setup lora --lora_r 0", "lora_r"},
        {"--setup steering_rank --init_steering x", "init_steering"},
        {"--setup steering --init_adapter x", "init_adapter"},
        {"--setup lora --init_steering x", "init_steering"},
        {"--setup steering_at_place", "--place self_attn"},
        {"--setup steering --place self_attn", "steering_at_place"},
        {"--setup sft_lora --beta 0.1", "beta"},
        {"--setup sft_steering --num_iterations 2", "num_iterations"},
        {"--setup sft_steering --dynamic_sampling", "dynamic_sampling"},
        {"--setup sft_steering --loss_type grpo", "loss_type"},
        {"--setup steering_at_place --place self_attn --layers 9", "expected 0 to 3"},
        {"--setup loar", "lora"},
        {"--setup full --beta 0.1", "no second copy"},
        {"--setup full --layers 1", "layers is set"},
        {"--setup full --init_steering x", "init_steering"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_command(2, wrong[i][1], "./train_steer --config " TINY_RECIPE " %s --output_dir %s", wrong[i][0],
                       test_path("never"));
    test_write(test_path("none.jsonl"), "{\"id\": \"here\", \"problem\": \"1 + 1\", \"answer\": \"2\"}\n");
    expect_command(1, "problem here has no \"solution\"",
                   "./train_steer --config " TINY_RECIPE " --setup sft_lora --data %s", test_path("none.jsonl"));
    expect_command(1, "leaves no solution",
                   "./train_steer --config " TINY_RECIPE " --setup sft_lora --max_completion_length 3");
    expect_command(2, "lora_r",
                   "./train_steer --config " TINY_RECIPE " --setup lora --init_adapter " TINY_LORA " --output_dir %s",
                   test_path("never"));
    expect_command(2, "experiments are about vectors",
                   "./eval_steer experiment vanilla --config scripts/eval/tiny/arithmetic.yml --checkpoint " TINY_LORA);
    expect_command(2, "cannot hold",
                   "./eval_steer export --format gguf --model data/tiny/model --checkpoint " TINY_LORA " --out %s",
                   test_path("never"));
}

// Loss or reward of line n of a run's metrics.
double setups_metric(const char *run, int n, const char *key) {
    char path[512];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    char *text = read_file(path, NULL, NULL), *rest = text, *line = NULL;
    for (int i = 0; i < n && rest; i++) line = strsep(&rest, "\n");
    cJSON *o = line ? cJSON_Parse(line) : NULL;
    const cJSON *value = cJSON_GetObjectItem(o, key);
    double x = value ? value->valuedouble : NAN;
    cJSON_Delete(o);
    free(text);
    return x;
}

// Eight steps in one go, against eight with a stop after the fourth: the same files to the byte. And the run has
// improved.
void test_setups_runs(void) {
    static const struct {
        const char *options, *folder, *file;
    } runs[] = {
        {"--setup lora --lora_r 2 --lora_alpha 3 --lora_target_modules q_proj,down_proj --learning_rate 0.01",
         "lora_r2", PEFT_WEIGHTS},
        {"--setup steering_rank --learning_rate 0.1", "steering_rank_1", "steering_vectors.safetensors"},
        {"--setup steering_at_place --place self_attn --learning_rate 0.03", "steering_at_place_self_attn",
         "steering_vectors.safetensors"},
        {"--setup sft_steering --learning_rate 0.03", "sft_steering", "steering_vectors.safetensors"},
        {"--setup full --learning_rate 0.001", "full", "model.safetensors"},
        {"--setup sft_full --learning_rate 0.0003", "sft_full", "model.safetensors"},
        {"--setup sft_lora --init_adapter " TINY_LORA " --lora_r 1 --learning_rate 0.003", "sft_lora_r1", PEFT_WEIGHTS},
    };
    Str out = {0};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        const bool sft = strncmp(runs[i].folder, "sft", 3) == 0;
        char run[2][400];
        const char *train = "./train_steer --config " TINY_RECIPE
                            " --prompts_per_step 8 --num_generations 6 --warmup_ratio 0 --save_steps 4 "
                            "--max_completion_length 60 --model_name m --dataset_name d";
        for (int k = 0; k < 2; k++)
            snprintf(run[k], sizeof run[k], "%s/m/d/%s/seed-0", test_path(k ? "setup_b" : "setup_a"), runs[i].folder);
        int code =
            run_command(&out, "%s %s --max_steps 8 --output_dir %s", train, runs[i].options, test_path("setup_a"));
        CHECK(code == 0 && (sft || strstr(out.s, "gap 0 ")), "%s ended with %d:\n%s", runs[i].options, code, out.s);
        expect_command(0, "", "mkdir -p %s && cp -r %s/. %s && rm -r %s/checkpoint-8", run[1], run[0], run[1], run[1]);
        code = run_command(&out, "%s %s --max_steps 8 --resume auto --output_dir %s", train, runs[i].options,
                           test_path("setup_b"));
        CHECK(code == 0 && strstr(out.s, "resumed from") && strstr(out.s, "checkpoint-4"),
              "%s, resumed, ended with %d:\n%s", runs[i].options, code, out.s);
        const char *files[2] = {runs[i].file, "optimizer.safetensors"};
        for (int k = 0; k < 2; k++) {
            char a[512], b[512];
            snprintf(a, sizeof a, "%s/checkpoint-8/%s", run[0], files[k]);
            snprintf(b, sizeof b, "%s/checkpoint-8/%s", run[1], files[k]);
            CHECK(same_files(a, b), "%s: %s and %s differ", runs[i].options, a, b);
        }
        const char *key = sft ? "loss" : "reward";
        double before = setups_metric(run[0], 1, key), after = setups_metric(run[0], 8, key);
        CHECK(sft ? after < 0.8 * before : after > before + 0.1, "%s: %s %g before, %g after", runs[i].options, key,
              before, after);
        // what is trained is what eval_steer runs: the loss of a step under a checkpoint is not the base model's
        Str base = {0};
        const char *score = "echo '{\"prompt\":\"What is 5 + 19 - 3 - 9?\",\"completion\":\"5+19=24, 24-3=21, "
                            "21-9=12.\"}' | ./eval_steer score --model data/tiny/model";
        run_command(&base, "%s 2>/dev/null", score);
        code = run_command(&out, "%s --checkpoint %s/checkpoint-8 2>/dev/null", score, run[0]);
        CHECK(code == 0 && strstr(out.s, "logprobs") && strcmp(out.s, base.s) != 0, "score under %s: %s",
              runs[i].options, out.s);
        str_free(&base);
    }
    // a LoRA of another shape does not go on from this one's checkpoint
    expect_command(1, "lora_alpha",
                   "./train_steer --config " TINY_RECIPE
                   " --setup lora --lora_r 2 --lora_alpha 4 --lora_target_modules q_proj,down_proj --model_name m "
                   "--dataset_name d --resume "
                   "%s/m/d/lora_r2/seed-0/checkpoint-4 --output_dir %s",
                   test_path("setup_a"), test_path("setup_c"));
    // all weights: nothing to export
    expect_command(2, "whole model already",
                   "./eval_steer export --model data/tiny/model --checkpoint %s/m/d/full/seed-0/checkpoint-8 --out %s",
                   test_path("setup_a"), test_path("never"));
    // vectors trained elsewhere in their layer are not exported as a bias of down_proj
    expect_command(2, "self_attn",
                   "./eval_steer export --format hf --model data/tiny/model --checkpoint "
                   "%s/m/d/steering_at_place_self_attn/seed-0/checkpoint-8 --out %s",
                   test_path("setup_a"), test_path("never"));
    // nor run there: where they belong goes with the file, and makes a difference
    Str there = {0}, after = {0}, copied = {0};
    const char *ask = "echo '{\"prompt\":\"What is 5 + 19 - 3 - 9?\",\"completion\":\"5+19=24\"}' | ./eval_steer score "
                      "--model data/tiny/model --device ref";
    char run[400];
    snprintf(run, sizeof run, "%s/m/d/steering_at_place_self_attn/seed-0/checkpoint-8", test_path("setup_a"));
    expect_command(0, "saved",
                   "./eval_steer export --format safetensors --model data/tiny/model --checkpoint %s --out %s", run,
                   test_path("placed"));
    expect_command(
        0, "",
        "mkdir -p %s && sed 's/self_attn output/elsewhere output/' %s/steering_vectors.safetensors > %s/x.safetensors",
        test_path("unplaced"), run, test_path("unplaced"));
    run_command(&there, "%s --checkpoint %s 2>/dev/null", ask, run);
    run_command(&copied, "%s --steering %s/steering_vectors.safetensors 2>/dev/null", ask, test_path("placed"));
    run_command(&after, "%s --steering %s/x.safetensors 2>/dev/null", ask, test_path("unplaced"));
    CHECK(strstr(there.s, "logprobs") && strcmp(there.s, copied.s) == 0,
          "exported vectors of another place score %s, not %s", copied.s, there.s);
    CHECK(strstr(after.s, "logprobs") && strcmp(there.s, after.s) != 0,
          "vectors after the attention score as after the feed-forward: %s", there.s);
    str_free(&there);
    str_free(&after);
    str_free(&copied);
    str_free(&out);
}

// The first step of all layers' vectors is, row by row, that of each vector trained alone: both sample from the same
// model, and each gradient is taken where all vectors are zero. (dev/results/2026-11-28_first_step has vectors of every
// layer from one step.)
void test_setups_first_step(void) {
    const char *train =
        "./train_steer --config " TINY_RECIPE
        " --prompts_per_step 8 --max_steps 1 --warmup_ratio 0 --max_grad_norm 1e6 --model_name m --dataset_name d";
    expect_command(0, "", "%s --setup steering --output_dir %s", train, test_path("first"));
    expect_command(0, "", "%s --setup steering_layer --layers 1 --output_dir %s", train, test_path("first"));
    const char *const folders[2] = {"steering", "steering_layer_1"};
    SafeTensors st[2];
    const float *rows[2] = {NULL, NULL};
    int L = 0, C = 0;
    for (int i = 0; i < 2; i++) {
        char file[512];
        Error e = {0};
        snprintf(file, sizeof file, "%s/m/d/%s/seed-0/checkpoint-1/steering_vectors.safetensors", test_path("first"),
                 folders[i]);
        if (!CHECK(safetensors_open(&st[i], file, &e), "%s", e.text)) return;
        const RawTensor *t = safetensors_find(&st[i], "steering");
        if (!CHECK(t && t->ndim == 2 && (i == 0 || (t->shape[0] == L && t->shape[1] == C)), "%s holds other vectors",
                   file))
            return;
        rows[i] = (const float *)t->data, L = (int)t->shape[0], C = (int)t->shape[1];
    }
    for (int l = 0; l < L; l++)
        for (int c = 0, wrong = 0; c < C && !wrong; c++) {
            float alone = rows[1][l * C + c], together = rows[0][l * C + c];
            wrong = !CHECK(alone == (l == 1 ? together : 0) && together != 0,
                           "layer %d, number %d: %.9g trained alone, %.9g with all layers", l, c, (double)alone,
                           (double)together);
        }
    for (int i = 0; i < 2; i++) safetensors_close(&st[i]);
}

// A LoRA in the weights (fp32) has the log-probs of the LoRA beside them, but for bf16's rounding of the weights.
void test_setups_export(void) {
    Str a = {0}, b = {0};
    expect_command(0, "saved",
                   "./eval_steer export --format hf --model data/tiny/model --checkpoint " TINY_LORA " --out %s",
                   test_path("merged_lora"));
    const char *line = "echo '{\"prompt\":\"What is 5 + 19 - 3 - 9?\",\"completion\":\"5+19=24\"}'";
    run_command(&a,
                "%s | ./eval_steer score --model data/tiny/model --device ref --checkpoint " TINY_LORA " 2>/dev/null",
                line);
    run_command(&b, "%s | ./eval_steer score --model %s --device ref 2>/dev/null", line, test_path("merged_lora"));
    cJSON *x = cJSON_Parse(a.s), *y = cJSON_Parse(b.s);
    const cJSON *p = cJSON_GetObjectItem(x, "logprobs"), *q = cJSON_GetObjectItem(y, "logprobs");
    int n = cJSON_GetArraySize(p);
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double off = fabs(cJSON_GetArrayItem(p, i)->valuedouble -
                          (cJSON_GetArrayItem(q, i) ? cJSON_GetArrayItem(q, i)->valuedouble : NAN));
        if (!(off <= worst)) worst = off;
    }
    CHECK(n > 5 && worst < 0.05, "merged and unmerged differ by %g over %d tokens: %s %s", worst, n, a.s, b.s);
    expect_command(0, "saved",
                   "./eval_steer export --format peft --model data/tiny/model --checkpoint " TINY_LORA " --out %s",
                   test_path("lora_again"));
    run_command(&b, "%s | ./eval_steer score --model data/tiny/model --device ref --checkpoint %s 2>/dev/null", line,
                test_path("lora_again"));
    CHECK(strcmp(a.s, b.s) == 0, "exported and read again: %s, was %s", b.s, a.s);
    cJSON_Delete(x);
    cJSON_Delete(y);
    str_free(&a);
    str_free(&b);
}

void test_setups(void) {
    test_setups_factors();
    test_setups_solutions();
    test_setups_peft();
    test_setups_start();
    test_setups_calls();
    test_setups_runs();
    test_setups_first_step();
    test_setups_export();
}

#endif
