// Runs that are interrupted and go on, or save work: the same bits, and what is said.
#ifndef DEV_TEST_TEST_RESUME_H
#define DEV_TEST_TEST_RESUME_H

#include "dev/test/test_programs.h" // expect_command, check_same_checkpoint, check_same_metrics

// A run cut in two, by an interrupt or between two calls, ends in the same bits as one that was not.
void test_programs_resume(void) {
    Str out = {0};
    char whole[256], broken[256], other[256], run[3][512];
    snprintf(whole, sizeof whole, "%s", test_path("whole"));
    snprintf(broken, sizeof broken, "%s", test_path("broken"));
    snprintf(other, sizeof other, "%s", test_path("other"));
    const char *dirs[3] = {whole, broken, other};
    for (int i = 0; i < 3; i++) snprintf(run[i], sizeof run[i], "%s/model/train/steering/seed-0", dirs[i]);
    const char *train = "./train_steer --config " TINY_RECIPE TINY_SMALL " --model_name model --dataset_name train";

    int code = run_command(&out, "OMP_NUM_THREADS=2 %s --output_dir %s", train, whole);
    if (!CHECK(code == 0, "training ended with %d:\n%s", code, out.s)) return;
    CHECK(strstr(out.s, "gap 0 "), "the sampler-trainer gap is not 0:\n%s", out.s);
    expect_command(1, "earlier run", "%s --output_dir %s", train, whole);

    expect_command(1, "another process", "flock %s %s --output_dir %s --resume auto", run[0], train, whole);

    // other threads, slots and activation budget (as long as no group must be cut)
    code = run_command(&out, "OMP_NUM_THREADS=1 %s --output_dir %s --rollout_batch_size 3 --activation_memory 0.006",
                       train, other);
    CHECK(code == 0, "training ended with %d:\n%s", code, out.s);
    check_same_checkpoint(run[0], run[2], 4,
                          "2 threads, 64 slots, one batch against 1 thread, 3 slots, several batches");
    check_same_metrics(run[0], run[2]);

    // continued from checkpoint-2, with a newer checkpoint that is damaged: it is passed over and named
    expect_command(0, "", "cp -r %s %s && rm -r %s/checkpoint-4/trainer_state.json", whole, broken, run[1]);
    code = run_command(&out, "%s --output_dir %s --resume auto", train, broken);
    CHECK(code == 0 && strstr(out.s, "checkpoint-4") && strstr(out.s, "resumed from") && strstr(out.s, "checkpoint-2"),
          "resume ended with %d:\n%s", code, out.s);
    check_same_checkpoint(run[0], run[1], 4, "resumed at step 2");
    check_same_metrics(run[0], run[1]);
    expect_command(1, "cannot resume", "%s --output_dir %s --resume auto --limit 100", train, broken);

    // another optimizer, whose exp_avg is another: from the beginning, and resumed at step 2
    const char *natural = "--optimizer natural_gradient --lr_scheduler_type linear --entropy_coeff -0.01";
    expect_command(1, "cannot resume", "%s --output_dir %s --resume auto %s", train, broken, natural);
    expect_command(0, "", "rm -rf %s %s", other, broken);
    expect_command(0, "saved", "%s --output_dir %s %s", train, other, natural);
    expect_command(0, "", "cp -r %s %s && rm -r %s/checkpoint-4", other, broken, run[1]);
    expect_command(0, "resumed from", "%s --output_dir %s --resume auto %s", train, broken, natural);
    check_same_checkpoint(run[2], run[1], 4, "natural_gradient resumed at step 2");
    check_same_metrics(run[2], run[1]);
    char vectors[2][700];
    for (int i = 0; i < 2; i++)
        snprintf(vectors[i], sizeof vectors[i], "%s/checkpoint-4/steering_vectors.safetensors", run[2 * i]);
    CHECK(!same_files(vectors[0], vectors[1]), "natural_gradient ends in AdamW's vectors");
    expect_command(2, "it moves vectors of layers", "%s --setup lora %s", train, natural);
    expect_command(2, "answers that are sampled", "%s --setup sft_steering --optimizer natural_gradient", train);
    expect_command(2, "entropy_coeff has no meaning there", "%s --setup sft_steering --entropy_coeff 0.1", train);

    // interrupted in the middle of a step, made slow by decoding one sequence at a time
    expect_command(0, "", "rm -rf %s", broken);
    code = run_command(&out,
                       "%s --rollout_batch_size 1 --output_dir %s & p=$!; while ! [ -s %s/metrics.jsonl ]; do kill -0 "
                       "$p || exit 99; sleep 0.01; done; kill -INT $p; wait $p",
                       train, broken, run[1]);
    CHECK(code == 130 && strstr(out.s, "--resume auto"), "an interrupted run ended with %d:\n%s", code, out.s);
    code = run_command(&out, "%s --output_dir %s --resume auto", train, broken);
    CHECK(code == 0, "resume ended with %d:\n%s", code, out.s);
    check_same_checkpoint(run[0], run[1], 4, "interrupted and resumed");
    check_same_metrics(run[0], run[1]);
    str_free(&out);
}

// The number of lines of a file that hold a text.
int count_lines(const char *path, const char *word) {
    char *text = read_file(path, NULL, NULL);
    int n = 0;
    for (char *rest = text, *line; text && (line = strsep(&rest, "\n")) != NULL;) n += strstr(line, word) != NULL;
    free(text);
    return n;
}

// What a resumed run says and refuses: another meaning, nothing left to do, nothing that can be read, a training that
// diverges.
void test_programs_resume_said(void) {
    Str out = {0};
    char dir[256], run[512];
    snprintf(dir, sizeof dir, "%s", test_path("said"));
    snprintf(run, sizeof run, "%s/model/train/steering/seed-0", dir);
    const char *train =
        "OMP_NUM_THREADS=1 ./train_steer --config " TINY_RECIPE TINY_SMALL " --model_name model --dataset_name train";
    expect_command(0, "saved", "%s --max_steps 2 --output_dir %s", train, dir);
    int code = run_command(&out, "%s --max_steps 2 --output_dir %s --resume auto", train, dir);
    CHECK(code == 0 && strstr(out.s, "this run is finished, at step 2 of 2") && !strstr(out.s, "before, "),
          "a finished run ended with %d:\n%s", code, out.s);

    // data that was changed in place, though its ids are the same; a checkpoint that says nothing of texts goes on
    const char *changed = test_path("changed.jsonl");
    expect_command(0, "", "sed 's/\"answer\": *\"/&1/' data/tiny/train.jsonl > %s", changed);
    expect_command(1, "cannot resume from", "%s --max_steps 3 --output_dir %s --resume auto --data %s", train, dir,
                   changed);
    expect_command(0, "", "sed -i.old 's/, texts [0-9a-f]*//' %s/checkpoint-2/trainer_state.json", run);
    expect_command(0, "does not say which texts its problems had", "%s --max_steps 2 --output_dir %s --resume auto",
                   train, dir);

    // every option that training depends on and none else; the checkpoint of an older version lacks one, and a counter
    expect_command(0, "", "sed -i.old /prompt_tokens_total/d %s/checkpoint-2/trainer_state.json", run);
    expect_command(0, "",
                   "sed -i.old -e /^epsilon_high:/d -e 's/^adam_beta2: .*/adam_beta2: 0.5/' %s/checkpoint-2/config.yml",
                   run);
    code = run_command(
        &out,
        "%s --max_steps 3 --output_dir %s --resume auto --temperature 0.7 --learning_rate 2e-3 --prompts_per_step 2"
        " --beta 0.1 --reward format --rollout_batch_size 7 --save_steps 1 --log_completions",
        train, dir);
    static const char *const said[] = {
        "\n  max_steps: 2 before, 3 now\n",        "\n  temperature: 1 before, 0.7 now\n",
        "\n  prompts_per_step: 4 before, 2 now\n", "\n  beta: 0 before, 0.1 now\n",
        "\n  reward: math before, format now\n",   "\n  learning_rate: ",
        "\n  adam_beta2: 0.5 before, 0.999 now\n", "\n  epsilon_high: not an option before, 0.2 now\n"};
    for (int i = 0; i < 8; i++)
        CHECK(code == 0 && strstr(out.s, said[i]), "a change is not named: %sit ended with %d:\n%s", said[i], code,
              out.s);
    CHECK(strstr(out.s, "has not counted prompt tokens"), "nothing is said of the missing counter:\n%s", out.s);
    int changes = 0;
    for (const char *s = out.s; (s = strstr(s, " now\n")) != NULL; s++) changes++;
    CHECK(changes == 8, "%d changes are named, not 8:\n%s", changes, out.s);

    // from an older one, told so
    expect_command(0, "checkpoint-3 is later",
                   "%s --max_steps 3 --output_dir %s --resume %s/checkpoint-2 --temperature 1", train, dir, run);

    // a training that diverges ends, and the last checkpoint stays the last
    expect_command(1, "diverged", "%s --max_steps 4 --output_dir %s --resume auto --learning_rate 1e30", train, dir);
    CHECK(path_exists(test_path("said/model/train/steering/seed-0/checkpoint-3/trainer_state.json")) &&
              !path_exists(test_path("said/model/train/steering/seed-0/checkpoint-4")),
          "checkpoints of a run that diverged");

    // no checkpoint that can be read: nothing is begun over
    expect_command(0, "", "for c in %s/checkpoint-*; do printf x > $c/optimizer.safetensors; done", run);
    expect_command(1, "none of the 2 checkpoints", "%s --output_dir %s --resume auto", train, dir);
    expect_command(1, "earlier run", "%s --output_dir %s", train, dir);
    CHECK(path_exists(test_path("said/model/train/steering/seed-0/checkpoint-3")) &&
              count_lines(test_path("said/model/train/steering/seed-0/metrics.jsonl"), "\"step\": 3") == 1,
          "what an earlier run has left is touched");
    expect_command(0, "has left no checkpoint", "rm -r %s/checkpoint-*; %s --max_steps 1 --output_dir %s", run, train,
                   dir);
    str_free(&out);
}

// A validation that was interrupted is made up for, once, with the figures of one that was not.
void test_programs_resume_validation(void) {
    Str out = {0};
    char dirs[2][256], metrics[2][512];
    const char *train =
        "OMP_NUM_THREADS=1 ./train_steer --config " TINY_RECIPE
        " --model_name model --dataset_name train --prompts_per_step 2 --num_generations 2 --max_completion_length 48"
        " --max_steps 1 --validation_size 500 --validation_steps 5";
    for (int i = 0; i < 2; i++) {
        snprintf(dirs[i], sizeof dirs[i], "%s", test_path(i ? "validation_cut" : "validation_whole"));
        snprintf(metrics[i], sizeof metrics[i], "%s/model/train/steering/seed-0/metrics.jsonl", dirs[i]);
    }
    expect_command(0, "validation", "%s --output_dir %s", train, dirs[0]);
    // what a signal in mid-validation leaves: the step's checkpoint and its line without the figures of validation
    expect_command(0, "", "cp -r %s %s && sed -i -E 's/, \"(validation\\/[a-z_]+|time\\/validation)\": [^,}]+//g' %s",
                   dirs[0], dirs[1], metrics[1]);
    if (!CHECK(count_lines(metrics[1], "validation/") == 0 && count_lines(metrics[1], "\"step\": 1,") == 1,
               "%s is not what it was meant to be", metrics[1]))
        return;
    for (int again = 0; again < 2; again++) {
        const int code = run_command(&out, "%s --output_dir %s --resume auto", train, dirs[1]);
        CHECK(code == 0 && (strstr(out.s, "the validation of step 1, which was interrupted") != NULL) == (again == 0) &&
                  strstr(out.s, "this run is finished"),
              "resumed: %d:\n%s", code, out.s);
        CHECK(count_lines(metrics[1], "validation/accuracy") == 1 && count_lines(metrics[1], "\"step\": 1,") == 2,
              "resumed %d times:\n%s", again + 1, out.s);
    }
    char *texts[2], *figures[2];
    for (int i = 0; i < 2; i++) {
        texts[i] = read_file(metrics[i], NULL, NULL);
        figures[i] = texts[i] ? strstr(texts[i], "\"validation/accuracy") : NULL;
        char *end = figures[i] ? strstr(figures[i], ", \"time/validation") : NULL;
        if (end) *end = 0;
    }
    CHECK(figures[0] && figures[1] && strcmp(figures[0], figures[1]) == 0, "made up for: %s, not interrupted: %s",
          figures[1], figures[0]);
    free(texts[0]);
    free(texts[1]);
    str_free(&out);
}

// What saves work and how to switch it off: the vectors after three steps are the same in every bit, whether groups
// without a gradient are run or not, and however small the rollout's cache is.
void test_programs_saved_work(void) {
    static const char *const ways[] = {"", "--skip_equal_groups false", "--rollout_batch_size 5",
                                       "--rollout_batch_size 0 --cache_memory 0.00005"};
    const char *file = "tiny/arithmetic/steering/seed-0/checkpoint-3/steering_vectors.safetensors";
    Str out = {0}, more = {0};
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "saved%d", i);
        int code =
            run_command(&out, "./train_steer --config " TINY_RECIPE TINY_SMALL " --max_steps 3 %s --output_dir %s",
                        ways[i], test_path(name));
        CHECK(code == 0 && strstr(out.s, "gap 0 "), "%s ended with %d:\n%s", ways[i], code, out.s);
        if (i > 0)
            CHECK(run_command(&more, "cmp %s/%s %s/%s", test_path("saved0"), file, test_path(name), file) == 0,
                  "%s: other vectors: %s", ways[i], more.s);
    }
    str_free(&out);
    str_free(&more);
}

#endif
