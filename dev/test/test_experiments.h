/*
Every experiment as a user starts it, on the tiny model with few problems: it ends well, leaves what its file says, and
variants that mean the same leave the same completions to the byte. Wrong calls are named.
*/
#ifndef DEV_TEST_TEST_EXPERIMENTS_H
#define DEV_TEST_TEST_EXPERIMENTS_H

#include "dev/test/test.h"
#include "dev/test/test_programs.h" // run_command, expect_command, same_files
#include "llmc/experiments/experiments.h"

// Runs one with its recipe, made small, into the test's folder; more: further options.
void experiment_runs(const char *name, const char *more) {
    expect_command(
        0, "saved",
        "./eval_steer experiment %s --config scripts/eval/tiny/%s.yml --results_dir %s --limit 6 --seeds 3 %s", name,
        name, test_path("results"), more);
}

// results/experiments/<path>, valid until the 8th call of test_path from now.
const char *experiment_result(const char *path) {
    char relative[200];
    snprintf(relative, sizeof relative, "results/experiments/%s", path);
    return test_path(relative);
}

// Two variants left the same completions.
void experiment_same(const char *a, const char *b) {
    char path[2][256];
    const char *variants[2] = {a, b};
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/temp_1.0_top_p_1.0/eval_seed-3/test.jsonl",
                 experiment_result(variants[i]));
    CHECK(same_files(path[0], path[1]), "%s and %s differ", path[0], path[1]);
}

// The file is JSON and holds the key, as a list of `size` entries (0: any).
void experiment_holds(const char *file, const char *key, int size) {
    Error err = {0, ""};
    cJSON *root = json_load(experiment_result(file), &err);
    const cJSON *item = cJSON_GetObjectItem(root, key);
    CHECK(item && (size == 0 || cJSON_GetArraySize(item) == size), "%s: key %s: %d entries, expected %d %s", file, key,
          cJSON_GetArraySize(item), size, err.text);
    cJSON_Delete(root);
}

double experiment_number(const cJSON *matrix, int i, int k) {
    const cJSON *x = cJSON_GetArrayItem(cJSON_GetArrayItem(matrix, i), k);
    return cJSON_IsNumber(x) ? x->valuedouble : NAN;
}

// What must be so in match_effect: after layer l itself the change is s_l at every position; below it there is none.
void test_experiments_match(void) {
    Error err = {0, ""};
    cJSON *root = json_load(experiment_result("match_effect/tiny/arithmetic/match_effect.json"), &err);
    const char *keys[3] = {"diff_vector", "diff_diff", "mean_vector"};
    for (int k = 0; k < 3; k++) {
        const cJSON *matrix = cJSON_GetObjectItem(root, keys[k]);
        for (int l = 0; l < 4; l++) {
            CHECK(fabs(experiment_number(matrix, l, l) - 1) < 1e-3, "%s[%d,%d] is %g", keys[k], l, l,
                  experiment_number(matrix, l, l));
            for (int below = 0; below < l; below++)
                CHECK(isnan(experiment_number(matrix, l, below)), "%s[%d,%d] is a number", keys[k], l, below);
            for (int above = l + 1; above < 4; above++)
                CHECK(fabs(experiment_number(matrix, l, above)) < 0.999, "%s[%d,%d] is %g", keys[k], l, above,
                      experiment_number(matrix, l, above));
        }
    }
    cJSON_Delete(root);

    // a layer without a vector of its own has nothing that the change could point to
    float vectors[4 * 96] = {0};
    for (int c = 0; c < 96; c++) vectors[96 + c] = c % 2 ? 0.5f : -0.25f;
    const OutTensor t = {"steering", 2, {4, 96}, vectors};
    char more[400];
    snprintf(more, sizeof more, "--layers 1 --dataset_name one --steering %s", test_path("only_layer_1.safetensors"));
    CHECK(safetensors_write(test_path("only_layer_1.safetensors"), &t, 1, NULL, &err), "%s", err.text);
    experiment_runs("match_effect", more);
    root = json_load(experiment_result("match_effect/tiny/one/match_effect.json"), &err);
    for (int k = 0; k < 3; k++) {
        const double after = experiment_number(cJSON_GetObjectItem(root, keys[k]), 0, 3);
        CHECK(cJSON_GetObjectItem(root, keys[k]) && isnan(after) == (k != 1), "%s[1,3] is %g", keys[k], after);
    }
    cJSON_Delete(root);
}

// Sums over a distribution: the largest gain is a gain, KL is not negative, every generated token has its line.
void test_experiments_positions(const char *folder) {
    char path[256];
    snprintf(path, sizeof path, "%s/positions.jsonl", experiment_result(folder));
    char *text = read_file(path, NULL, NULL);
    int lines = 0, bad = 0;
    for (char *rest = text, *line; text && (line = strsep(&rest, "\n")) != NULL && *line; lines++) {
        cJSON *object = cJSON_Parse(line);
        const double delta = cJSON_GetNumberValue(cJSON_GetObjectItem(object, "delta")),
                     kl = cJSON_GetNumberValue(cJSON_GetObjectItem(object, "kl"));
        const double followed = cJSON_GetNumberValue(cJSON_GetObjectItem(object, "followed")),
                     entropy = cJSON_GetNumberValue(cJSON_GetObjectItem(object, "entropy"));
        bad += !(delta >= 0 && delta <= 1 && followed <= delta && kl >= -1e-9 && entropy >= 0 && entropy < log(259.1));
        cJSON_Delete(object);
    }
    CHECK(lines > 50 && bad == 0, "%s: %d lines, %d of them impossible", path, lines, bad);
    free(text);
}

// pass@k by hand: 4 answers, one problem with 1 right and one with 3: pass@1 = (1/4 + 3/4) / 2, pass@2 = (1 - 3/6 + 1 -
// 0) / 2, pass@4 = 1. And options by benchmark.
void test_experiments_evaluation(void) {
    Evaluation e;
    const int right[2] = {1, 3};
    memset(&e, 0, sizeof e);
    e.n = 2;
    e.G = 4;
    evaluation_pass(&e, right);
    CHECK(e.n_pass == 3 && e.pass[0].k == 1 && e.pass[1].k == 2 && e.pass[2].k == 4, "%d values of k", e.n_pass);
    CHECK(fabs(e.pass[0].percent - 50) < 1e-9 && fabs(e.pass[1].percent - 75) < 1e-9 &&
              fabs(e.pass[2].percent - 100) < 1e-9,
          "pass@1, 2, 4: %g, %g, %g", e.pass[0].percent, e.pass[1].percent, e.pass[2].percent);

    Error err = {0, ""};
    Str out = {0};
    int code = run_command(&out,
                           "./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --data "
                           "data/tiny/test.jsonl,data/tiny/train.jsonl --limit 8 --seeds 1,2 --results_dir %s "
                           "--benchmark_generations test=3 --benchmark_lengths train=5",
                           test_path("two"));
    CHECK(code == 0 && strstr(out.s, "over 2 seeds"), "%s", out.s);
    for (int seed = 1; seed <= 2; seed++) {
        char path[256];
        snprintf(path, sizeof path, "%s/eval/tiny/base/temp_1.0_top_p_1.0/eval_seed-%d/metrics.json", test_path("two"),
                 seed);
        cJSON *root = json_load(path, &err);
        const cJSON *test = cJSON_GetArrayItem(root, 0), *train = cJSON_GetArrayItem(root, 1);
        const double accuracy = cJSON_GetNumberValue(cJSON_GetObjectItem(test, "accuracy")),
                     one = cJSON_GetNumberValue(cJSON_GetObjectItem(test, "pass@1"));
        CHECK(cJSON_GetNumberValue(cJSON_GetObjectItem(test, "num_generations")) == 3 && fabs(accuracy - one) < 1e-3 &&
                  cJSON_GetObjectItem(test, "pass@3"),
              "%s: pass@1 %g, accuracy %g", path, one, accuracy);
        CHECK(cJSON_GetNumberValue(cJSON_GetObjectItem(train, "mean_length")) <= 5 &&
                  cJSON_GetNumberValue(cJSON_GetObjectItem(train, "num_generations")) == 1,
              "%s: the second benchmark", path);
        const double formed = cJSON_GetNumberValue(cJSON_GetObjectItem(test, "formed_rate")),
                     of_formed = cJSON_GetNumberValue(cJSON_GetObjectItem(test, "accuracy_formed"));
        CHECK(formed <= cJSON_GetNumberValue(cJSON_GetObjectItem(test, "format_rate")) + 1e-9 &&
                  formed * of_formed / 100 <= accuracy + 1e-3,
              "%s: %g %% formed, %g %% of them right", path, formed, of_formed);
        cJSON_Delete(root);
    }
    str_free(&out);
}

void test_experiments(void) {
    test_experiments_evaluation();
    for (int i = 0; i < EXPERIMENTS; i++)
        expect_command(0, experiments[i].what, "./eval_steer experiment %s --help", experiments[i].name);
    expect_command(0, "pair_single", "./eval_steer experiment --help");
    expect_command(2, "did you mean magnitude", "./eval_steer experiment magnitud");
    expect_command(
        2, "steering is missing",
        "./eval_steer experiment magnitude --model data/tiny/model --data data/tiny/test.jsonl --prompt_template raw");
    expect_command(2, "data is missing", "./eval_steer experiment vanilla --model data/tiny/model");
    expect_command(2, "magnitudes: found \"1x\"",
                   "./eval_steer experiment magnitude --config scripts/eval/tiny/magnitude.yml --magnitudes 1,1x");
    expect_command(2, "skip_hed",
                   "./eval_steer experiment patch_head --config scripts/eval/tiny/patch_head.yml --variants skip_hed");
    expect_command(
        2, "with head 6",
        "./eval_steer experiment patch_head --config scripts/eval/tiny/patch_head.yml --variants skip_head_6");
    expect_command(2, "layers: found 4",
                   "./eval_steer experiment pair_single --config scripts/eval/tiny/pair_single.yml --layers 4");
    expect_command(
        2, "expected one",
        "./eval_steer experiment last_layer_steering --config scripts/eval/tiny/last_layer_steering.yml --token To");
    expect_command(2, "NAME=PATH",
                   "./eval_steer experiment exchange_svs --config scripts/eval/tiny/exchange_svs.yml --donors "
                   "data/tiny/vectors/steering.safetensors --results_dir %s",
                   test_path("wrong"));
    expect_command(
        1, "adapter_config.json",
        "./eval_steer experiment lora1_plots --config scripts/eval/tiny/lora1_plots.yml --adapter data/tiny/model");
    expect_command(1, "is zero",
                   "./eval_steer experiment patch_head --config scripts/eval/tiny/patch_head.yml --steering "
                   "data/tiny/vectors/place_self_attn_3.safetensors");
    expect_command(
        2, "aime24=x",
        "./eval_steer experiment vanilla --config scripts/eval/tiny/vanilla.yml --benchmark_generations aime24=x");

    experiment_runs("vanilla", "--steering data/tiny/vectors/layers.safetensors");
    experiment_runs("magnitude", "--steering data/tiny/vectors/layers.safetensors --magnitudes 0,0.5,1");
    experiment_runs(
        "exchange_svs",
        "--donors self=data/tiny/vectors/layers.safetensors --recipients a=data/tiny/model,b=data/tiny/model");
    experiment_runs("pair_single", "");
    experiment_runs("patch_head", "--variants no_patch,base,skip_layer,skip_head_1,steer_kv");
    experiment_runs("patch_head_path", "--variants no_patch,steer_head_2");
    experiment_runs("add_place", "");
    experiment_same("magnitude/tiny/arithmetic/f_0", "vanilla/tiny/arithmetic/base");
    experiment_same("magnitude/tiny/arithmetic/f_1", "vanilla/tiny/arithmetic/steered");
    experiment_same("exchange_svs/tiny/arithmetic/a_from_self",
                    "vanilla/tiny/arithmetic/steered"); // exchanged with itself
    experiment_same("exchange_svs/tiny/arithmetic/b_from_self", "vanilla/tiny/arithmetic/steered");
    experiment_same("exchange_svs/tiny/arithmetic/a_from_base", "vanilla/tiny/arithmetic/base");
    experiment_same("patch_head/tiny/arithmetic/no_patch",
                    "pair_single/tiny/arithmetic/layers_2_2"); // the vector where it was
    experiment_same("patch_head/tiny/arithmetic/base", "vanilla/tiny/arithmetic/base");
    experiment_same("patch_head_path/tiny/arithmetic/mlp_no_patch", "patch_head/tiny/arithmetic/no_patch");
    expect_command(0, "kept, not answered again",
                   "./eval_steer experiment magnitude --config scripts/eval/tiny/magnitude.yml --results_dir %s "
                   "--limit 6 --seeds 3 "
                   "--magnitudes 1 --skip_done "
                   "--steering data/tiny/vectors/layers.safetensors",
                   test_path("results"));

    // with save_tokens both variants know every token's log-prob with vectors and without; without vectors there is
    // nothing to compare
    experiment_runs("vanilla", "--save_tokens --steering data/tiny/vectors/layers.safetensors");
    for (int k = 0; k < 2; k++) {
        const char *path =
            experiment_result(k ? "vanilla/tiny/arithmetic/steered/temp_1.0_top_p_1.0/eval_seed-3/test.tokens.jsonl"
                                : "vanilla/tiny/arithmetic/base/temp_1.0_top_p_1.0/eval_seed-3/test.tokens.jsonl");
        char *text = read_file(path, NULL, NULL);
        int lines = 0, changed = 0;
        for (char *rest = text, *line; text && (line = strsep(&rest, "\n")) != NULL && *line; lines++) {
            cJSON *object = cJSON_Parse(line);
            const cJSON *tokens = cJSON_GetObjectItem(object, "tokens"), *own = cJSON_GetObjectItem(object, "own"),
                        *other = cJSON_GetObjectItem(object, "other");
            const int n = cJSON_GetArraySize(tokens);
            CHECK(n > 0 && cJSON_GetArraySize(own) == n && cJSON_GetArraySize(other) == n &&
                      cJSON_IsTrue(cJSON_GetObjectItem(object, "steered")) == (k == 1),
                  "%s: %s", path, line);
            for (int t = 0; t < n; t++)
                changed +=
                    fabs(cJSON_GetArrayItem(own, t)->valuedouble - cJSON_GetArrayItem(other, t)->valuedouble) > 0.05;
            cJSON_Delete(object);
        }
        CHECK(lines == 6 && changed > 0, "%s: %d lines, %d tokens changed", path, lines, changed);
        free(text);
    }

    experiment_runs("logit_lens", "");
    experiment_runs("last_layer_steering", "");
    experiment_runs("pre_last_layer_steering", "");
    experiment_runs("add_place_steering", "");
    experiment_runs("match_effect", "");
    experiment_runs("self_explain", "--magnitudes 0,4 --max_completion_length 8");
    experiment_runs("lora1_plots", "");
    experiment_holds("logit_lens/tiny/arithmetic/logit_lens.json", "singular_values", 4);
    experiment_holds("logit_lens/tiny/arithmetic/logit_lens.json", "layers", 4);
    experiment_holds("match_effect/tiny/arithmetic/match_effect.json", "final", 4);
    experiment_holds("self_explain/tiny/arithmetic/self_explain.json", "answers", 8);
    experiment_holds("lora1_plots/tiny/arithmetic/lora1_plots.json", "layers", 4);
    experiment_holds("lora1_plots/tiny/arithmetic/lora1_plots.json", "samples", 4);
    experiment_holds("last_layer_steering/tiny/arithmetic/summary.json", "mean_kl", 0);
    test_experiments_match();
    test_experiments_positions("last_layer_steering/tiny/arithmetic");
    test_experiments_positions("pre_last_layer_steering/tiny/arithmetic/skip_layer");
    test_experiments_positions("add_place_steering/tiny/arithmetic");

    // singular values of a matrix whose are known: rows of a scaled identity, turned
    const float rows[6] = {3 * 0.6f, 3 * 0.8f, 0, -0.8f, 0.6f, 0};
    double values[2];
    lens_singular_values(values, rows, 2, 3);
    CHECK(fabs(values[0] - 3) < 1e-6 && fabs(values[1] - 1) < 1e-6 &&
              fabs(lens_stable_rank(values, 2) - 10.0 / 9) < 1e-6,
          "singular values %g, %g", values[0], values[1]);
    const float skew[4] = {1, 1, 0, 1}; // the golden ratio and its inverse
    lens_singular_values(values, skew, 2, 2);
    CHECK(fabs(values[0] - 1.6180339887) < 1e-7 && fabs(values[1] - 0.6180339887) < 1e-7, "singular values %g, %g",
          values[0], values[1]);
}

#endif
