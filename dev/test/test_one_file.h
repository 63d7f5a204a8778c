/*
dev/doc/steer_in_one_file.c repeats the program on purpose, so this holds it to the program: tokens, rewards,
advantages, log-probs, loss, gradient and update of one group, all computed again from its sampled tokens by `ref` and
the trainer's own functions. Then it is started as a reader starts it, and so are the commands of the page about it,
dev/doc/one_vector.md.

Tolerance: both compute in fp32 from the same weights, and add in another order. `ref` alone may be TOLERANCE_REF
(test_model.h) from what fp64 would give; so may this file: twice that. Measured against the file with all its floats
made doubles, on this group: log-probs 2e-7 and gradient 1e-6 off; `ref` 1.5e-6 and 1.1e-5, as it keeps the logarithm of
the sum of exp, some 40, in fp32, which makes every probability wrong by 2e-6. AdamW's first step is rate * g / |g|, so
a number of the gradient that is almost 0 may turn its sign: the update is compared with the program's from the same
gradient.
*/
#ifndef DEV_TEST_TEST_ONE_FILE_H
#define DEV_TEST_TEST_ONE_FILE_H

#include "dev/test/one_file.h"
#include "dev/test/records.h"
#include "dev/test/test_model.h"    // relative_error, TOLERANCE_REF
#include "dev/test/test_programs.h" // run_command, expect_command
#include "llmc/reward.h"            // completion_reward

#define ONE_FILE_PROGRAM "build/steer_in_one_file"

// Every byte has the tokenizer's number.
void one_file_tokens(const OneFile *o, Tokenizer *tokenizer) {
    int wrong = 0;
    for (int b = 0; b < ONE_FILE_BYTES; b++) {
        Str text = {0};
        tokenizer_decode(tokenizer, &text, &o->token_of[b], 1, true);
        wrong += text.n != 1 || (unsigned char)text.s[0] != b;
        str_free(&text);
    }
    CHECK(wrong == 0, "%d of %d bytes have another token than in tokenizer.json", wrong, ONE_FILE_BYTES);
}

// The group as samples of the trainer's policy; rewards and advantages are the program's.
void one_file_group(PolicySample *samples, Completion *completions, const OneFile *o, Tokenizer *tokenizer,
                    const IntVec *prompt) {
    Problem problem;
    const RewardKey unused = {0, 0, 0, 0};
    float reward[ONE_FILE_G], advantage[ONE_FILE_G];
    int tokens = 0;
    memset(&problem, 0, sizeof problem);
    problem.problem = (char *)o->problem;
    problem.answer = (char *)o->answer;
    for (int i = 0; i < ONE_FILE_G; i++) {
        Str text = {0};
        tokenizer_decode(tokenizer, &text, o->ids[i], o->n[i], true);
        reward[i] = completion_reward("math", &problem, text.s ? text.s : "", text.n, unused);
        CHECK(reward[i] == o->reward[i], "answer %d, \"%s\" to %s = %s: reward %g, the program gives %g", i,
              text.s ? text.s : "", o->problem, o->answer, o->reward[i], reward[i]);
        str_free(&text);
        tokens += o->n[i];
    }
    group_advantages(advantage, reward, ONE_FILE_G, "rloo");
    for (int i = 0; i < ONE_FILE_G; i++) {
        CHECK(fabsf(advantage[i] - o->advantage[i]) <= 1e-6f, "answer %d: advantage %g, the program gives %g", i,
              o->advantage[i], advantage[i]);
        memset(&completions[i], 0, sizeof completions[i]);
        completions[i].ids = (int *)o->ids[i];
        completions[i].n = o->n[i];
        memset(&samples[i], 0, sizeof samples[i]);
        samples[i].prompt = prompt->v;
        samples[i].P = prompt->n;
        samples[i].completion = &completions[i];
        samples[i].advantage = advantage[i];
        samples[i].weight = token_weight("dapo", tokens, ONE_FILE_G, o->n[i], ONE_FILE_MAX_NEW);
        samples[i].old_logprob = o->old_logprob[i];
        samples[i].logprob = (float *)xcalloc((size_t)o->n[i], sizeof(float));
    }
}

// Log-probs, loss and gradient by `ref`.
void one_file_against_ref(const OneFile *o, Tokenizer *tokenizer) {
    const Ops *ops = ops_ref_init();
    const LossConfig loss_config = {0.2f, 0.28f, 0, 1, false, 0};
    const bool trained[4] = {true, true, true, true};
    PolicySample samples[ONE_FILE_G];
    Completion completions[ONE_FILE_G];
    PolicyPass pass;
    PolicyStats stats;
    Qwen2 m;
    IntVec prompt = {0};
    Error err = {0, ""};
    float gradient[ONE_FILE_VECTORS] = {0}, found[ONE_FILE_G * ONE_FILE_MAX_NEW],
          expected[ONE_FILE_G * ONE_FILE_MAX_NEW];
    size_t n = 0;
    memset(&stats, 0, sizeof stats);
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 512, ops, &err) &&
                   tokenizer_encode(tokenizer, &prompt, o->problem, strlen(o->problem), &err),
               "%s", err.text))
        return;
    one_file_group(samples, completions, o, tokenizer, &prompt);
    policy_alloc(&pass, &m, 64 << 20, 128, 0, true);
    CHECK(policy_pass(&pass, &m, o->vectors, samples, ONE_FILE_G, &loss_config, gradient, trained, &stats, &err), "%s",
          err.text);
    const PolicyLoss loss = policy_loss(samples, ONE_FILE_G, &loss_config);
    for (int i = 0; i < ONE_FILE_G; i++)
        for (int t = 0; t < o->n[i]; t++, n++) {
            found[n] = o->logprob[i][t];
            expected[n] = samples[i].logprob[t];
        }
    const double of_logprobs = relative_error(found, expected, n),
                 of_gradient = relative_error(o->gradient, gradient, ONE_FILE_VECTORS);
    CHECK(loss.clipped_low > 0 && loss.clipped_high > 0, "the group should have tokens clipped on both sides");
    CHECK(of_logprobs <= 2 * TOLERANCE_REF, "log-probs: relative error %g, expected at most %g", of_logprobs,
          2 * TOLERANCE_REF);
    CHECK(fabs(o->loss - loss.loss) <= 2 * TOLERANCE_REF, "loss %.9g, the program's is %.9g", o->loss, loss.loss);
    CHECK(of_gradient <= 2 * TOLERANCE_REF, "gradient: relative error %g, expected at most %g", of_gradient,
          2 * TOLERANCE_REF);
    printf("steer_in_one_file.c against ref: log-probs %.1e, gradient %.1e, allowed %.0e\n", of_logprobs, of_gradient,
           2 * TOLERANCE_REF);
    for (int i = 0; i < ONE_FILE_G; i++) free(samples[i].logprob);
    policy_free(&pass, &m);
    ints_free(&prompt);
    qwen2_free(&m);
}

// The first update is the program's, at the recipe's rate in the first of 8 steps of warm-up: to the last bit or the
// one before.
void one_file_update(const OneFile *o) {
    float x[ONE_FILE_VECTORS], m[ONE_FILE_VECTORS] = {0}, v[ONE_FILE_VECTORS] = {0};
    const AdamW adamw = {0.03 / 8, 0.9, 0.999, 1e-8, 0};
    int wrong = 0;
    memcpy(x, o->vectors, sizeof x);
    host_adamw_update(x, m, v, o->gradient, 1, ONE_FILE_VECTORS, 1, &adamw);
    for (int i = 0; i < ONE_FILE_VECTORS; i++)
        wrong += !(fabsf(x[i] - o->moved[i]) <= 1e-6f * adamw.learning_rate + 1.2e-7f * fabsf(x[i]));
    CHECK(wrong == 0, "AdamW: %d of %d numbers are not where the program's update puts them", wrong, ONE_FILE_VECTORS);
}

// The number after a word, the k-th time (from 0) it occurs.
double one_file_number(const char *text, const char *word, int k) {
    while ((text = strstr(text, word)) != NULL && k-- > 0) text++;
    return text ? strtod(text + strlen(word), NULL) : NAN;
}

// Started as a program: it learns, and does the same again.
void one_file_program(void) {
    Str out = {0}, again = {0};
    const char *const words[] = {"right ", "length ", "loss ", "|ds| ", "|s| "};
    const int steps = 10;
    int code = run_command(&out, ONE_FILE_PROGRAM " train %d 20 1", steps);
    if (!CHECK(code == 0, "it said:\n%s", out.s)) return;
    const double begin = (one_file_number(out.s, "right ", 0) + one_file_number(out.s, "right ", 1)) / 2;
    const double end = (one_file_number(out.s, "right ", steps - 2) + one_file_number(out.s, "right ", steps - 1)) / 2;
    CHECK(end >= begin + 10,
          "%.1f %% of the answers are right in the first two steps, %.1f %% in the last two of %d, expected 10 points "
          "more; it said:\n%s",
          begin, end, steps, out.s);
    code = run_command(&again, ONE_FILE_PROGRAM " train 1 20 1");
    CHECK(code == 0, "it said:\n%s", again.s);
    for (int i = 0; i < 5; i++)
        CHECK(one_file_number(out.s, words[i], 0) == one_file_number(again.s, words[i], 0),
              "%sdiffers from run to run:\n%s%s", words[i], out.s, again.s);
    expect_command(1, "expected train", ONE_FILE_PROGRAM " nonsense");
    expect_command(1, "from the top of the repository", "cd data && ../" ONE_FILE_PROGRAM);
    str_free(&out);
    str_free(&again);
}

// Printed finite differences agree with the printed gradient: steps of 0.01 leave 3 digits or 4 of fp32.
void one_file_differences(void) {
    Str out = {0};
    const int code = run_command(&out, ONE_FILE_PROGRAM " difference");
    if (!CHECK(code == 0, "it said:\n%s", out.s)) return;
    const char *table = strstr(out.s, "|ds|");
    for (int l = 0; l < 4 && CHECK(table && (table = strchr(table, '\n')) != NULL, "no table of layers:\n%s", out.s);
         l++) {
        int layer;
        double length, difference;
        const int read = sscanf(++table, "%d %lf %lf", &layer, &length, &difference);
        CHECK(read == 3 && layer == l && fabs(difference / length - 1) <= 3e-3,
              "layer %d: gradient %g, finite difference %g:\n%s", l, length, difference, out.s);
    }
    str_free(&out);
}

void test_one_file(void) {
    static OneFile o;
    Error err = {0, ""};
    Tokenizer *tokenizer = tokenizer_load(TINY_MODEL, &err);
    if (!CHECK(tokenizer != NULL, "%s", err.text)) return;
    one_file_run(&o);
    CHECK(o.gap == 0, "a log-prob differs by %g between sampling and a pass over all rows", o.gap);
    one_file_tokens(&o, tokenizer);
    one_file_against_ref(&o, tokenizer);
    one_file_update(&o);
    one_file_differences();
    one_file_program();
    expect_command(0, ", 0 failed", "dev/test/one_vector.sh");
    tokenizer_free(tokenizer);
}

#endif
