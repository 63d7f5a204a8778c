/*
The programs as a user meets them: ./train_steer and ./eval_steer are started as commands. Help, wrong calls and broken
files; generate against score; a run that was stopped and resumed against an unbroken one, to the bit; threads and
batch sizes that must not change a bit.
*/
#ifndef DEV_TEST_TEST_PROGRAMS_H
#define DEV_TEST_TEST_PROGRAMS_H

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include "dev/test/backends.h" // test_cuda_ops
#include "dev/test/test.h"
#include "llmc/experiments/experiments.h" // experiments
#include "llmc/files/files.h"

#define TINY_RECIPE "scripts/train/rl/tiny/arithmetic/steering.yml"
#define TINY_SMALL \
    " --prompts_per_step 4 --num_generations 4 --max_completion_length 48 --max_steps 4 --save_steps 2 " \
    "--warmup_ratio 0"

// Runs a shell command; its stdout and stderr together in *out. Returns the exit code, 128 + n for signal n.
__attribute__((format(printf, 2, 3))) int run_command(Str *out, const char *format, ...) {
    Str command = {0};
    va_list args;
    char text[4096];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    str_printf(&command, "( %s ) 2>&1", text);
    fflush(stdout);
    out->n = 0;
    str_reserve(out, 1);
    out->s[0] = 0;
    FILE *pipe = popen(command.s, "r");
    char chunk[4096];
    size_t got;
    while (pipe && (got = fread(chunk, 1, sizeof chunk, pipe)) > 0) str_add(out, chunk, got);
    int status = pipe ? pclose(pipe) : -1;
    str_free(&command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The command must end with this code and say this word.
__attribute__((format(printf, 3, 4))) void expect_command(int code, const char *word, const char *format, ...) {
    Str out = {0};
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int found = run_command(&out, "%s", text);
    CHECK(found == code && strcasestr(out.s, word), "`%s` ended with %d, expected %d and \"%s\"; it said:\n%s", text,
          found, code, word, out.s);
    str_free(&out);
}

bool same_files(const char *a, const char *b) {
    size_t na = 0, nb = 0;
    char *x = read_file(a, &na, NULL), *y = read_file(b, &nb, NULL);
    bool same = x && y && na == nb && memcmp(x, y, na) == 0;
    free(x);
    free(y);
    return same;
}

// What two checkpoints must share: vectors and moments.
void check_same_checkpoint(const char *run_a, const char *run_b, int n, const char *what) {
    const char *files[2] = {"steering_vectors.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        char a[512], b[512];
        snprintf(a, sizeof a, "%s/checkpoint-%d/%s", run_a, n, files[i]);
        snprintf(b, sizeof b, "%s/checkpoint-%d/%s", run_b, n, files[i]);
        CHECK(same_files(a, b), "%s: %s and %s differ", what, a, b);
    }
}

// metrics.jsonl of two runs agree in everything but times and rates.
void check_same_metrics(const char *run_a, const char *run_b) {
    char path[2][512];
    char *text[2], *rest[2], *line[2];
    snprintf(path[0], sizeof path[0], "%s/metrics.jsonl", run_a);
    snprintf(path[1], sizeof path[1], "%s/metrics.jsonl", run_b);
    for (int i = 0; i < 2; i++) rest[i] = text[i] = read_file(path[i], NULL, NULL);
    int lines = 0, different = 0;
    while (text[0] && text[1]) {
        for (int i = 0; i < 2; i++) line[i] = strsep(&rest[i], "\n");
        if (!line[0] || !line[1] || !*line[0] || !*line[1]) break;
        cJSON *a = cJSON_Parse(line[0]), *b = cJSON_Parse(line[1]);
        const cJSON *item;
        cJSON_ArrayForEach(item, a) {
            if (strncmp(item->string, "time/", 5) == 0 || strstr(item->string, "_per_s") ||
                strcmp(item->string, "step_time") == 0)
                continue;
            different += !cJSON_Compare(item, cJSON_GetObjectItemCaseSensitive(b, item->string), true);
        }
        cJSON_Delete(a);
        cJSON_Delete(b);
        lines++;
    }
    CHECK(lines == 4 && different == 0, "%s and %s: %d lines, %d values differ", path[0], path[1], lines, different);
    free(text[0]);
    free(text[1]);
}

void test_programs_calls(void) {
    const char *commands[6] = {"eval", "generate", "score", "tokenize", "bench", "export"};
    expect_command(0, "--learning_rate", "./train_steer --help");
    for (int i = 0; i < 6; i++) expect_command(0, "--model", "./eval_steer %s --help", commands[i]);
    expect_command(0, "commands:", "./eval_steer --help");
    expect_command(2, "commands:", "./eval_steer");
    expect_command(2, "nosuch", "./eval_steer nosuch");
    expect_command(2, "learning_rate", "./train_steer --config " TINY_RECIPE " --learnig_rate 1e-3");
    expect_command(2, "1e-3x", "./train_steer --config " TINY_RECIPE " --learning_rate 1e-3x");
    expect_command(2, "num_generations", "./train_steer --config " TINY_RECIPE " --num_generations 0");
    expect_command(2, "num_generations", "./train_steer --config " TINY_RECIPE " --num_generations 1 --advantage rloo");
    expect_command(2, "nosuch.yml", "./train_steer --config nosuch.yml");
    expect_command(2, "layers",
                   "./train_steer --config " TINY_RECIPE " --setup steering_layer --layers 99 --output_dir %s",
                   test_path("never"));
#ifndef LLMC_CUDA
    expect_command(2, "cuda", "./train_steer --config " TINY_RECIPE " --device cuda");
#else
    if (!test_cuda_ops()) {
        expect_command(1, "GPU", "./train_steer --config " TINY_RECIPE " --device cuda");
    } else { // a run begun on one device goes on with another
        expect_command(0, "step    1/1",
                       "./train_steer --config " TINY_RECIPE
                       " --device cuda --max_steps 1 --prompts_per_step 2 --output_dir %s",
                       test_path("devices"));
        expect_command(0, "step    2/2",
                       "./train_steer --config " TINY_RECIPE
                       " --device cpu --max_steps 2 --prompts_per_step 2 --resume auto --output_dir %s",
                       test_path("devices"));
    }
#endif
    expect_command(2, "LLMC_ISA", "LLMC_ISA=mmx ./train_steer --config " TINY_RECIPE);
    expect_command(1, "nosuchdir", "./eval_steer generate --model nosuchdir --prompt hi");
    expect_command(1, "nosuch.jsonl", "./train_steer --config " TINY_RECIPE " --data nosuch.jsonl");

    test_write(test_path("empty.jsonl"), "");
    expect_command(1, "empty.jsonl", "./train_steer --config " TINY_RECIPE " --data %s", test_path("empty.jsonl"));
    test_write(test_path("noanswer.jsonl"),
               "{\"id\": \"a\", \"problem\": \"1 + 1\", \"answer\": \"\", \"source\": \"x\"}\n");
    expect_command(1, "noanswer.jsonl:1", "./train_steer --config " TINY_RECIPE " --data %s",
                   test_path("noanswer.jsonl"));
    expect_command(1, "leaves no problem", "./train_steer --config " TINY_RECIPE " --max_prompt_length 1");
    expect_command(1, "leaves nothing", "./train_steer --config " TINY_RECIPE " --validation_size 100000");
    test_write(test_path("a_file"), "x");
    expect_command(1, "left out",
                   "./train_steer --config " TINY_RECIPE
                   " --max_prompt_length 25 --model data/tiny/model --output_dir %s/below",
                   test_path("a_file"));
    expect_command(1, "a_file", "./train_steer --config " TINY_RECIPE TINY_SMALL " --output_dir %s/below",
                   test_path("a_file"));
    expect_command(1, "context",
                   "./eval_steer generate --model data/tiny/model --raw --prompt 1 --max_completion_length 1000000");

    // broken model folders
    expect_command(0, "", "mkdir -p %s && cp data/tiny/model/* %s", test_path("cut"), test_path("cut"));
    expect_command(0, "", "head -c 5000 data/tiny/model/model.safetensors > %s/model.safetensors", test_path("cut"));
    expect_command(1, "model.safetensors", "./eval_steer generate --model %s --prompt hi", test_path("cut"));
    expect_command(0, "",
                   "cp data/tiny/model/* %s && sed s/Qwen2ForCausalLM/LlamaForCausalLM/ data/tiny/model/config.json > "
                   "%s/config.json",
                   test_path("cut"), test_path("cut"));
    expect_command(1, "LlamaForCausalLM", "./eval_steer generate --model %s --prompt hi", test_path("cut"));
    expect_command(0, "", "cp data/tiny/model/config.json %s && printf '{\"model\":' > %s/tokenizer.json",
                   test_path("cut"), test_path("cut"));
    expect_command(1, "tokenizer.json", "./eval_steer generate --model %s --prompt hi", test_path("cut"));

    // vectors of another shape
    Error err = {0, ""};
    float values[6] = {0, 0, 0, 0, 0, 0};
    OutTensor t;
    memset(&t, 0, sizeof t);
    t.name = "steering";
    t.ndim = 2;
    t.shape[0] = 2;
    t.shape[1] = 3;
    t.data = values;
    const char *metadata[] = {NULL};
    CHECK(safetensors_write(test_path("other.safetensors"), &t, 1, metadata, &err), "%s", err.text);
    expect_command(1, "[2, 3]", "./eval_steer generate --model data/tiny/model --steering %s --prompt hi",
                   test_path("other.safetensors"));
    expect_command(1, "stdin:2",
                   "printf '{\"prompt_ids\":[1],\"completion_ids\":[2]}\\n{\"prompt_ids\":[1]}\\n' | ./eval_steer "
                   "score --model data/tiny/model");
    expect_command(1, "stdin: no prompt", "printf '' | ./eval_steer generate --model data/tiny/model");
    expect_command(
        1, "100000",
        "echo '{\"prompt_ids\":[1],\"completion_ids\":[100000]}' | ./eval_steer score --model data/tiny/model");
}

// generate's own log-probs are the bits that score finds, alone or together, with 1 or 2 threads; text survives
// tokenize.
void test_programs_generate_score(void) {
    Str made = {0}, requests = {0}, found = {0}, one = {0};
    int code = run_command(&made, "./eval_steer generate --model data/tiny/model --raw --prompt 'What is 13 + 18 - 2?' "
                                  "--num_generations 5 --max_completion_length 40 --seed 3 --json 2>/dev/null");
    CHECK(code == 0, "generate ended with %d", code);
    Str ids = {0};
    run_command(&ids, "echo '{\"text\": \"What is 13 + 18 - 2?\"}' | ./eval_steer tokenize --model data/tiny/model");
    char *end = strrchr(ids.s, '}');
    if (!CHECK(strncmp(ids.s, "{\"ids\": [", 9) == 0 && end, "tokenize said %s", ids.s)) return;
    *end = 0;
    char *expected[5];
    int n = 0;
    for (char *rest = made.s, *line; n < 5 && (line = strsep(&rest, "\n")) != NULL && *line;) {
        cJSON *object = cJSON_Parse(line);
        char *completion = cJSON_PrintUnformatted(cJSON_GetObjectItem(object, "ids"));
        str_printf(&requests, "{\"prompt_ids\": %s, \"completion_ids\": %s}\n", ids.s + 8,
                   completion ? completion : "[]");
        const char *logprobs = strstr(line, "\"logprobs\": [");
        expected[n++] = xstrdup(logprobs ? logprobs : "");
        free(completion);
        cJSON_Delete(object);
    }
    CHECK(n == 5, "generate wrote %d lines", n);
    test_write(test_path("requests.jsonl"), requests.s);
    for (int threads = 1; threads <= 2; threads++) {
        run_command(&found, "OMP_NUM_THREADS=%d ./eval_steer score --model data/tiny/model < %s 2>/dev/null", threads,
                    test_path("requests.jsonl"));
        int i = 0;
        for (char *rest = found.s, *line; i < n && (line = strsep(&rest, "\n")) != NULL && *line; i++) {
            char *entropy = strstr(line, ", \"entropy\"");
            if (entropy) *entropy = 0;
            expected[i][strcspn(expected[i], "]") + 1] = 0;
            CHECK(strcmp(line + 1, expected[i]) == 0, "completion %d: score says %s, generate said %s", i, line + 1,
                  expected[i]);
        }
        CHECK(i == n, "score wrote %d lines", i);
    }
    run_command(&one, "sed -n 3p %s | OMP_NUM_THREADS=1 ./eval_steer score --model data/tiny/model 2>/dev/null",
                test_path("requests.jsonl"));
    CHECK(n > 2 && strstr(one.s, expected[2]), "scored alone, completion 2 has other bits: %s", one.s);
    for (int i = 0; i < n; i++) free(expected[i]);

    // bytes survive: text -> ids -> text
    const char *text =
        "{\"text\": \"\xC3\xA9 q\xCC\x81 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80 \\n\\t <|im_end|> 12,345\"}\n";
    test_write(test_path("text.jsonl"), text);
    run_command(
        &found,
        "./eval_steer tokenize --model data/tiny/model < %s | ./eval_steer tokenize --model data/tiny/model --decode",
        test_path("text.jsonl"));
    cJSON *a = cJSON_Parse(text), *b = cJSON_Parse(found.s);
    CHECK(b && cJSON_Compare(a, b, true), "tokenize and back: %s", found.s);
    cJSON_Delete(a);
    cJSON_Delete(b);
    str_free(&made);
    str_free(&requests);
    str_free(&found);
    str_free(&one);
    str_free(&ids);
}

#include "dev/test/test_resume.h" // test_programs_resume, test_programs_resume_said, test_programs_resume_validation

// The features of the loop that the plain recipe leaves off.
void test_programs_variants(void) {
    Str out = {0};
    const char *variants[8] = {
        "--dynamic_sampling --dynamic_sampling_max_rounds 2 --log_completions",
        "--beta 0.05 --num_iterations 2 --epsilon 0.1 --loss_type grpo --advantage grpo",
        "--loss_type dr_grpo --advantage grpo_no_std --mask_truncated_completions",
        "--setup steering_layer --layers 1,3 --lr_scheduler_type cosine",
        "--reward random --lr_scheduler_type linear",
        "--reward format --temperature 0.7 --top_p 0.9 --top_k 10",
        "--validation_size 20 --validation_steps 1 --save_total_limit 1",
        "--device ref --skip_equal_groups false",
    };
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "variant%d", i);
        int code =
            run_command(&out, "./train_steer --config " TINY_RECIPE TINY_SMALL " --max_steps 2 %s --output_dir %s",
                        variants[i], test_path(name));
        CHECK(code == 0 && strstr(out.s, "saved "), "%s ended with %d:\n%s", variants[i], code, out.s);
        CHECK(strstr(out.s, "gap 0 "), "%s: the sampler-trainer gap is not 0:\n%s", variants[i], out.s);
    }
    // eval: one JSON line, a share between its limits, files in their places; the same seed, the same figures
    Str again = {0};
    const char *eval =
        "./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint none --limit 50 --json";
    int code = run_command(&out, "%s --results_dir %s 2>/dev/null", eval, test_path("results"));
    cJSON *object = cJSON_Parse(out.s);
    const cJSON *accuracy = cJSON_GetObjectItem(object, "accuracy"), *low = cJSON_GetObjectItem(object, "ci_low"),
                *high = cJSON_GetObjectItem(object, "ci_high");
    CHECK(code == 0 && low && high && accuracy && low->valuedouble < accuracy->valuedouble &&
              accuracy->valuedouble < high->valuedouble,
          "eval said %s", out.s);
    CHECK(path_exists(test_path("results/eval/tiny/base/temp_1.0_top_p_1.0/eval_seed-0/metrics.json")),
          "metrics.json is not in its place");
    run_command(&again, "%s --rollout_batch_size 7 --results_dir %s 2>/dev/null", eval, test_path("results7"));
    cJSON *second = cJSON_Parse(again.s);
    CHECK(second && accuracy && cJSON_Compare(accuracy, cJSON_GetObjectItem(second, "accuracy"), true),
          "eval again said %s", again.s);
    cJSON_Delete(object);
    cJSON_Delete(second);
    // another benchmark of the same model: metrics.json keeps the first
    run_command(&again,
                "./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint none --data "
                "data/tiny/train.jsonl --limit 50 "
                "--results_dir %s",
                test_path("results"));
    char *metrics =
        read_file(test_path("results/eval/tiny/base/temp_1.0_top_p_1.0/eval_seed-0/metrics.json"), NULL, NULL);
    object = metrics ? cJSON_Parse(metrics) : NULL;
    CHECK(cJSON_GetArraySize(object) == 2 && strstr(metrics, "\"train\"") && strstr(metrics, "\"test\""),
          "metrics.json of two benchmarks: %s", metrics);
    cJSON_Delete(object);
    free(metrics);
    str_free(&out);
    str_free(&again);
}

// Gold answers that no box can match are named by both programs, with how many and one of them; good ones are not.
void test_programs_gold(void) {
    const char *bad = test_path("gold.jsonl"), *out = test_path("gold_out");
    test_write(bad, "{\"problem\": \"What is 1 + 3?\", \"answer\": \"1+3 = <<1+3=4>>4\\n#### 4\"}\n"
                    "{\"problem\": \"What is 2 + 3?\", \"answer\": \"5\"}\n{\"problem\": \"What is 3 + 3?\", "
                    "\"answer\": \"#### 6\"}\n");
    expect_command(0, "2 of 3 gold answers of",
                   "./eval_steer eval --model data/tiny/model --prompt_template raw --max_completion_length 4 --data "
                   "%s --results_dir %s",
                   bad, out);
    expect_command(
        0, "2 of 3 gold answers of",
        "./train_steer --config " TINY_RECIPE TINY_SMALL
        " --max_steps 1 --save_steps 0 --data %s --exclude= --validation_size 0 --validation_steps 0 --output_dir %s",
        bad, out);
    Str said = {0};
    run_command(&said,
                "./eval_steer eval --model data/tiny/model --prompt_template raw --max_completion_length 4 --limit 2 "
                "--data data/tiny/test.jsonl --results_dir %s",
                out);
    CHECK(!strstr(said.s, "gold answers"), "good gold answers: %s", said.s);
    str_free(&said);
}

// Every recipe is understood: with a model that is not there, the error is about the model and not about the recipe.
void test_programs_recipes(void) {
    Str files = {0};
    run_command(&files, "find scripts/train scripts/eval -name '*.yml' | sort");
    int n = 0;
    for (char *rest = files.s, *file; (file = strsep(&rest, "\n")) != NULL && *file; n++) {
        char program[64];
        snprintf(program, sizeof program, "%s",
                 strncmp(file, "scripts/eval", 12) == 0 ? "./eval_steer eval" : "./train_steer");
        for (int i = 0; i < EXPERIMENTS; i++) { // a recipe for evaluation that has an experiment's name is for that
            const char *name = strrchr(file, '/') + 1;
            const size_t length = strlen(experiments[i].name);
            if (strncmp(name, experiments[i].name, length) == 0 && strcmp(name + length, ".yml") == 0)
                snprintf(program, sizeof program, "./eval_steer experiment %s", experiments[i].name);
        }
        expect_command(1, "nosuchmodel", "%s --config %s --model nosuchmodel --data data/tiny/test.jsonl --limit 3%s",
                       program, file,
                       strstr(program, "eval") ? "" : " --exclude= --validation_size 0 --validation_steps 0");
    }
    CHECK(n >= 20, "only %d recipes found", n);
    str_free(&files);
}

// The kernels, the model and the rollout in a build without code for particular CPUs; `make test` makes it.
void test_programs_portable(void) {
    if (access("build/test_portable", X_OK) != 0) {
        SKIP("no build/test_portable: the portable build is not tested (`make test` makes it)");
        return;
    }
    Str out = {0};
    int code = run_command(&out, "build/test_portable matmul ops model rollout");
    CHECK(code == 0 && strstr(out.s, " passed, 0 failed") && !strstr(out.s, "avx") && strstr(out.s, "cpu (portable)"),
          "the portable build ended with %d:\n%s", code, out.s);
    // it says once that it is slow
    CHECK(strstr(out.s, "warning: this CPU") &&
              strstr(strstr(out.s, "warning: this CPU") + 1, "warning: this CPU") == NULL,
          "what the portable build says of the CPU:\n%s", out.s);
    str_free(&out);
}

// Advice that fits what went wrong.
void test_programs_advice(void) {
    const char *train = "./train_steer --config " TINY_RECIPE TINY_SMALL " --max_steps 1";
    expect_command(0, "-> a larger max_completion_length", "%s --max_completion_length 3 --output_dir %s", train,
                   test_path("advice0")); // all are cut
    expect_command(0, "completions ended by themselves before",
                   "./train_steer --config " TINY_RECIPE TINY_SMALL " --max_steps 2 --learning_rate 3 --output_dir %s",
                   test_path("advice4")); // all are cut since an update
    expect_command(0, "-> the prompt_template",
                   "%s --prompt_template qwen25-math-cot --temperature 0.1 --output_dir %s", train,
                   test_path("advice1")); // no box
    expect_command(0, "so there is no gradient",
                   "%s --prompt_template qwen25-math-cot --temperature 0.1 --reward format --output_dir %s", train,
                   test_path("advice2"));
    expect_command(0, "all are right\n  -> harder problems",
                   "%s --temperature 0.01 --reward format --limit 8 --output_dir %s", train, test_path("advice3"));
    // what is given as a model
    const char *given = test_path("given");
    expect_command(1, "hf download Qwen/Qwen2.5-0.5B --local-dir models/Qwen2.5-0.5B",
                   "./eval_steer generate --model Qwen/Qwen2.5-0.5B --prompt hi");
    expect_command(1, "hf download Qwen/Qwen2.5-0.5B", "%s --model Qwen/Qwen2.5-0.5B --output_dir %s", train,
                   test_path("advice"));
    expect_command(
        0, "", "mkdir -p %s/gguf %s/cache/snapshots/abc && printf 'GGUF\\003' | tee %s/gguf/model-q4.gguf > %s/weights",
        given, given, given, given);
    expect_command(1, "weights: found 5 bytes, expected a GGUF file", "./eval_steer bench --model %s/weights",
                   given); // by what is in it
    expect_command(1, "give the file", "./eval_steer score --model %s/gguf < /dev/null", given);
    expect_command(1, "/snapshots", "./eval_steer generate --model %s/cache --prompt hi", given);
    expect_command(1, "the one this file lies in",
                   "./eval_steer generate --model data/tiny/model/model.safetensors --prompt hi");
    expect_command(0, "MPI ", "./train_steer --version");
    expect_command(0, "kernels for this CPU: ", "./eval_steer --version");
    // 0 of 0 is no rate
    Str out = {0};
    int code = run_command(&out, "./eval_steer score --model data/tiny/model < /dev/null");
    CHECK(code == 0 && !strstr(out.s, "nan") && strstr(out.s, "0 rows/s"), "score of nothing: %s", out.s);
    // --resume auto is advice for training alone
    code = run_command(&out,
                       "./eval_steer export --format hf --model data/tiny/model --steering "
                       "data/tiny/vectors/steering.safetensors --out %s/weights/there",
                       given);
    CHECK(code == 1 && !strstr(out.s, "--resume") && !strstr(out.s, "output_dir"), "export: %s", out.s);
    str_free(&out);
    if (!path_exists("/dev/full")) {
        SKIP("a full disk behind standard output: no /dev/full here");
        return;
    }
    expect_command(1, "cannot write to standard output", "%s --output_dir %s 2>&1 >/dev/full", train,
                   test_path("unheard"));
    CHECK(!path_exists(test_path("unheard")), "a run that nobody can read of has begun");
    const char *const others[] = {"./train_steer --help", "./eval_steer --help", "./eval_steer eval --help",
                                  "./train_steer --version", "./eval_steer --version"};
    for (int i = 0; i < 5; i++) expect_command(1, "cannot write to standard output", "%s 2>&1 >/dev/full", others[i]);
}

// The scripts: from any folder, saying what they build, and no setting that is misread or passed over in silence.
void test_programs_scripts(void) {
    char here[300];
    if (!getcwd(here, sizeof here)) return;
    const char *recipe = "CONFIG_PATH=" TINY_RECIPE, *small = TINY_SMALL " --max_steps 1";
    static const struct {
        const char *setting, *word;
    } wrong[] = {{"RANKS=abc IS_DIST=true", "RANKS=abc"},
                 {"RANKS=0 IS_DIST=true", "RANKS=0"},
                 {"RANKS=-2 IS_DIST=true", "RANKS=-2"},
                 {"RANKS= IS_DIST=true", "RANKS=:"},
                 {"RANKS=1e1 IS_DIST=1", "RANKS=1e1"},
                 {"HOSTFILE=nope IS_DIST=yes", "HOSTFILE=nope"},
                 {"HOSTFILE=/dev/null IS_DIST=True", "HOSTFILE=/dev/null"},
                 {"IS_DIST=maybe", "IS_DIST=maybe"},
                 {"IS_STEERING=vectors", "IS_STEERING=vectors"},
                 {"IS_STEERING=False", "IS_STEERING=False"},
                 {"CONFIG_PATH=nope.yml", "nope.yml"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) // without mpirun the first thing that is missed is that
        expect_command(2, wrong[i].word, "%s %s scripts/train.sh%s --output_dir %s", recipe, wrong[i].setting, small,
                       test_path("wrong"));
    expect_command(2, "IS_DIST=yes", "CONFIG_PATH=scripts/eval/tiny/arithmetic.yml IS_DIST=yes scripts/eval.sh");
    expect_command(2, "IS_STEERING=1",
                   "CONFIG_PATH=scripts/eval/tiny/arithmetic.yml IS_STEERING=1 scripts/eval.sh --checkpoint none");
    expect_command(0, "RANKS=2 is ignored", "%s RANKS=2 IS_DIST=0 IS_STEERING=yes scripts/train.sh%s --output_dir %s",
                   recipe, small, test_path("ignored"));
    // from elsewhere: a recipe and an output folder there, a model of the repository
    expect_command(0, "saved ",
                   "mkdir %s && cd %s && cp %s/" TINY_RECIPE
                   " mine.yml && CONFIG_PATH=mine.yml %s/scripts/train.sh%s --output_dir out --model=data/tiny/model",
                   test_path("elsewhere"), test_path("elsewhere"), here, here, small);
    CHECK(path_exists(test_path("elsewhere/out/tiny/arithmetic/steering/seed-0/checkpoint-1")),
          "a relative output_dir is not where the call came from");
    expect_command(0, "saved ",
                   "cd %s && CONFIG_PATH=scripts/eval/tiny/arithmetic.yml %s/scripts/eval.sh --checkpoint "
                   "out/tiny/arithmetic/steering/seed-0/checkpoint-1 --limit 3 --results_dir .",
                   test_path("elsewhere"), here);
    // what is built, and that it is said: with programs and a Makefile that only tell that they were called
    const char *stub = test_path("stub");
    expect_command(0, "",
                   "mkdir -p %s/llmc && cp -R scripts %s && cd %s && touch llmc/x.h train_steer.cu && printf "
                   "'train_steer: llmc/x.h\\n\\t@touch $@ built\\n' > Makefile && "
                   "printf '#!/bin/sh\\necho ran\\n' > train_steer && chmod +x train_steer",
                   stub, stub, stub);
    expect_command(0, "ran",
                   "cd %s && CONFIG_PATH=Makefile scripts/train.sh 2>&1 | grep -v '^ran$' && exit 9; test ! -e built "
                   "&& CONFIG_PATH=Makefile scripts/train.sh",
                   stub);
    expect_command(0, "building train_steer, for llmc/x.h is newer",
                   "cd %s && touch -t 200001010000 train_steer train_steer.cu && CONFIG_PATH=Makefile scripts/train.sh "
                   "&& test -e built",
                   stub);
    expect_command(1, "building train_steer: make train_steer",
                   "cd %s && rm train_steer Makefile && CONFIG_PATH=llmc/x.h scripts/train.sh", stub);
}

void test_programs(void) {
    test_programs_scripts();
    test_programs_advice();
    test_programs_portable();
    test_programs_recipes();
    test_programs_calls();
    test_programs_generate_score();
    test_programs_resume();
    test_programs_resume_said();
    test_programs_resume_validation();
    test_programs_variants();
    test_programs_gold();
    test_programs_saved_work();
}

#endif
