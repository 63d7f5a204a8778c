// metrics.jsonl: what stands under TRL's names is what TRL logs. trl_metrics.json is a recorded run of it.
#ifndef DEV_TEST_TEST_METRICS_H
#define DEV_TEST_TEST_METRICS_H

#include "dev/test/test_programs.h" // run_command, TINY_RECIPE, TINY_SMALL
#include "llmc/ops_ref.h"           // ops_ref_init
#include "llmc/run/train_log.h"     // rollout_stats, update_add, log_step

#define METRICS_RUN 16 // completions of a recorded step

// A recorded step as a trainer has it after its updates.
typedef struct {
    Trainer t;
    Completion completions[METRICS_RUN];
    float reward[METRICS_RUN], advantage[METRICS_RUN];
    Group groups[METRICS_RUN];
    IntVec prompts[METRICS_RUN];
} MetricsRun;

double metrics_number(const cJSON *o, const char *key) {
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

// Floats of a JSON list. Free with free().
float *metrics_floats(const cJSON *list) {
    float *values = (float *)xcalloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(float));
    const cJSON *x;
    int n = 0;
    cJSON_ArrayForEach(x, list) values[n++] = (float)x->valuedouble;
    return values;
}

void metrics_begin(MetricsRun *r, const cJSON *run) {
    const cJSON *o = cJSON_GetObjectItem(run, "options"), *metrics = cJSON_GetObjectItem(run, "metrics"),
                *all = cJSON_GetObjectItem(run, "completions");
    memset(r, 0, sizeof *r);
    Trainer *t = &r->t;
    t->ops = ops_ref_init();
    t->options.beta = metrics_number(o, "beta");
    t->options.epsilon = metrics_number(o, "epsilon");
    t->options.epsilon_high = metrics_number(o, "epsilon_high");
    t->options.num_iterations = (int)metrics_number(o, "num_iterations");
    t->options.max_completion_length = (int)metrics_number(o, "max_completion_length");
    t->options.use_bias_correction_kl = cJSON_IsTrue(cJSON_GetObjectItem(o, "use_bias_correction_kl"));
    t->options.mask_truncated_completions = cJSON_IsTrue(cJSON_GetObjectItem(o, "mask_truncated_completions"));
    t->options.loss_type = cJSON_GetStringValue(cJSON_GetObjectItem(o, "loss_type"));
    t->options.reward = "by_sum";
    t->options.setup = "steering";
    t->G = (int)metrics_number(o, "num_generations");
    t->groups = r->groups;
    t->prompts = r->prompts;
    t->train.n = t->n_groups = METRICS_RUN / t->G;
    t->state.next_problem = 2 * t->n_groups;
    t->max_steps = t->state.step = 2;
    for (int i = 0; i < METRICS_RUN; i++) {
        const cJSON *c = cJSON_GetArrayItem(all, i);
        Group *g = &r->groups[i / t->G];
        r->completions[i].n = (int)metrics_number(c, "tokens");
        r->completions[i].finished = cJSON_IsTrue(cJSON_GetObjectItem(c, "finished"));
        r->reward[i] = (float)metrics_number(c, "reward");
        r->prompts[i / t->G].n = (int)metrics_number(c, "prompt");
        if (i % t->G > 0) continue;
        g->problem = i / t->G;
        g->completions = r->completions + i;
        g->reward = r->reward + i;
        g->advantage = r->advantage + i;
    }
    for (int i = 0; i < t->n_groups; i++) {
        group_advantages(r->groups[i].advantage, r->groups[i].reward, t->G,
                         cJSON_HasObjectItem(o, "scale_rewards") ? "grpo_no_std" : "grpo");
        r->groups[i].equal = group_is_equal(r->groups[i].reward, t->G);
    }
    for (int i = 0; i < METRICS_RUN; i++) {
        const double expected = metrics_number(cJSON_GetArrayItem(all, i), "advantage");
        CHECK(fabs(r->advantage[i] - expected) < 1e-5, "advantage of completion %d: %g, TRL's %g", i,
              (double)r->advantage[i], expected);
    }
    const RolloutStats stats = rollout_stats(t); // as train_step adds them
    t->state.tokens_total = stats.tokens + (long long)metrics_number(metrics, "num_tokens before");
    t->state.prompt_tokens_total = stats.prompt_tokens;
}

// The updates' loss and means from the recorded log-probs. skip: groups of equal rewards do not go through the passes.
void metrics_updates(MetricsRun *r, const cJSON *run, bool skip, UpdateStats *u) {
    const Options *o = &r->t.options;
    const LossConfig loss_config = {
        (float)o->epsilon, (float)o->epsilon_high, (float)o->beta, 1, o->use_bias_correction_kl, 0};
    PolicySample samples[METRICS_RUN];
    memset(u, 0, sizeof *u);
    for (int update = 0; update < o->num_iterations; update++) {
        int n = 0;
        u->loss_tokens = u->skipped_samples = 0;
        for (int i = 0; i < METRICS_RUN; i++) {
            const cJSON *c = cJSON_GetArrayItem(cJSON_GetObjectItem(run, "completions"), i);
            if (o->mask_truncated_completions && !r->completions[i].finished) continue;
            u->loss_tokens += r->completions[i].n;
            if (skip && r->groups[i / r->t.G].equal) {
                u->skipped_samples++;
                continue;
            }
            PolicySample *s = &samples[n++];
            memset(s, 0, sizeof *s);
            s->completion = &r->completions[i];
            s->advantage = r->advantage[i];
            s->old_logprob = metrics_floats(cJSON_GetObjectItem(c, "old"));
            s->ref_logprob = metrics_floats(cJSON_GetObjectItem(c, "ref"));
            s->logprob = metrics_floats(cJSON_GetArrayItem(cJSON_GetObjectItem(c, "logprob"), update));
            s->entropy = metrics_floats(cJSON_GetArrayItem(cJSON_GetObjectItem(c, "entropy"), update));
        }
        for (int i = 0; i < n; i++)
            samples[i].weight = token_weight(o->loss_type, u->loss_tokens, METRICS_RUN, samples[i].completion->n,
                                             o->max_completion_length);
        const PolicyLoss loss = policy_loss(samples, n, &loss_config);
        update_add(u, &loss);
        for (int i = 0; i < n; i++) {
            free((void *)(uintptr_t)samples[i].old_logprob);
            free((void *)(uintptr_t)samples[i].ref_logprob);
            free(samples[i].logprob);
            free(samples[i].entropy);
        }
    }
}

// The line that log_step writes, without what it prints. Free with cJSON_Delete.
cJSON *metrics_line(Trainer *t, const UpdateStats *u, const Evaluation *validation) {
    Error err = {0, ""};
    const RolloutStats stats = rollout_stats(t);
    const char *path = test_path("line.jsonl");
    remove(path);
    fflush(stdout);
    fflush(stderr);
    const int out = dup(1), warnings = dup(2), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    const bool ok = logger_open(&t->log, path, &err) && log_step(t, &stats, u, 1, validation, &err);
    fflush(stdout);
    dup2(out, 1);
    dup2(warnings, 2);
    close(out);
    close(warnings);
    close(nowhere);
    logger_close(&t->log);
    CHECK(ok, "%s", err.text);
    char *text = read_file(path, NULL, NULL);
    cJSON *line = text ? cJSON_Parse(text) : NULL;
    free(text);
    return line;
}

// Every key that TRL logs, and its value: single sums in fp32 there.
void metrics_compare(const cJSON *trl, const cJSON *line, int run, const char *but) {
    const cJSON *x;
    cJSON_ArrayForEach(x, trl) {
        const char *key = x->string;
        if (strcmp(key, "step_time") == 0 || strcmp(key, "num_tokens before") == 0 || strcmp(key, but) == 0) continue;
        const double found = metrics_number(line, key);
        CHECK(fabs(found - x->valuedouble) <= 2e-5 * (fabs(x->valuedouble) + 0.1), "run %d: %s is %.9g, TRL's %.9g",
              run, key, found, x->valuedouble);
    }
}

// Every key of a line is explained in the page.
void metrics_explained(const cJSON *line) {
    char *page = read_file("dev/doc/metrics.md", NULL, NULL), quoted[80];
    const cJSON *x;
    cJSON_ArrayForEach(x, line) {
        const char *last = strrchr(x->string, '/');
        const bool named = strncmp(x->string, "rewards/", 8) == 0 && last > x->string + 8; // rewards/NAME/mean
        snprintf(quoted, sizeof quoted, named ? "`rewards/NAME%s`" : "`%s`", named ? last : x->string);
        CHECK(page && strstr(page, quoted), "dev/doc/metrics.md says nothing of %s", quoted);
    }
    free(page);
}

void test_metrics_trl(void) {
    char *text = read_file("dev/test/trl_metrics.json", NULL, NULL);
    cJSON *records = text ? cJSON_Parse(text) : NULL;
    const cJSON *run;
    int runs = 0;
    cJSON_ArrayForEach(run, cJSON_GetObjectItem(records, "runs")) {
        MetricsRun r;
        UpdateStats u;
        Evaluation validation;
        const cJSON *trl = cJSON_GetObjectItem(run, "metrics");
        memset(&validation, 0, sizeof validation);
        metrics_begin(&r, run);
        for (int skip = 0; skip < 2; skip++) {
            r.t.options.skip_equal_groups = skip;
            const bool skips = passes_skip(&r.t.options);
            metrics_updates(&r, run, skips, &u);
            u.grad_norm = metrics_number(trl, "grad_norm"); // of the model, which is not here
            u.learning_rate = metrics_number(trl, "learning_rate");
            cJSON *line = metrics_line(&r.t, &u, &validation);
            metrics_compare(trl, line, runs, skips ? "entropy" : "");
            metrics_explained(line);
            CHECK(skips == (skip && r.t.options.beta == 0) && skips == !cJSON_HasObjectItem(line, "entropy") &&
                      skips == cJSON_HasObjectItem(line, "trained/entropy"),
                  "run %d: the entropy of some of the tokens goes by TRL's name", runs);
            cJSON_Delete(line);
        }
        runs++;
    }
    CHECK(runs == 3, "%d runs in trl_metrics.json", runs);
    cJSON_Delete(records);
    free(text);
}

// The gradient of the KL term against finite differences; on-policy with the correction it is beta (logprob - ref), the
// KL's.
void test_metrics_kl(void) {
    for (int corrected = 0; corrected < 2; corrected++) {
        const LossConfig loss_config = {0.2f, 0.2f, 0.5f, 1, corrected != 0, 0};
        for (int i = 0; i < 5; i++) {
            const float logprob = -1.0f - 0.3f * (float)i, old = -1.3f, ref = -2.1f,
                        h = 0x1p-7f; // advantage 0: the KL alone
            const double slope = ((double)token_loss(logprob + h, old, ref, 0, 0, &loss_config).loss -
                                  token_loss(logprob - h, old, ref, 0, 0, &loss_config).loss) /
                                 (2 * h);
            const TokenLoss t = token_loss(logprob, old, ref, 0, 0, &loss_config);
            CHECK(fabs(t.dlogprob - slope) < 2e-4, "use_bias_correction_kl %d at %g: gradient %g, by differences %g",
                  corrected, (double)logprob, (double)t.dlogprob, slope);
        }
        const TokenLoss on = token_loss(-1, -1, -2, 0, 0, &loss_config);
        CHECK(fabs(on.dlogprob - 0.5 * (corrected ? 1 : 1 - exp(-1))) < 1e-6, "on-policy: %g", (double)on.dlogprob);
    }
}

// The lines of a run's metrics.jsonl. Free with cJSON_Delete.
cJSON *metrics_of(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/tiny/arithmetic/steering/seed-0/metrics.jsonl", test_path(name));
    cJSON *lines = cJSON_CreateArray();
    char *text = read_file(path, NULL, NULL), *rest = text, *line;
    while (text && (line = strsep(&rest, "\n")) != NULL && *line) cJSON_AddItemToArray(lines, cJSON_Parse(line));
    free(text);
    return lines;
}

// Passes that are saved change no figure but those that then have another name.
void test_metrics_saved_passes(void) {
    Str out = {0};
    cJSON *lines[2];
    for (int skip = 0; skip < 2; skip++) {
        char name[32];
        snprintf(name, sizeof name, "metrics%d", skip);
        const int code = run_command(
            &out,
            "OMP_NUM_THREADS=1 ./train_steer --config " TINY_RECIPE TINY_SMALL
            " --max_steps 2 --num_iterations 2 --learning_rate 0.05 --epsilon 0.01 --epsilon_high 0.01 --seed 0"
            " --skip_equal_groups %s --output_dir %s",
            skip ? "true" : "false", test_path(name));
        CHECK(code == 0, "ended with %d:\n%s", code, out.s);
        lines[skip] = metrics_of(name);
    }
    int compared = 0;
    double zero_std = 0, clipped = 0;
    for (int i = 0; i < cJSON_GetArraySize(lines[0]); i++) {
        const cJSON *a = cJSON_GetArrayItem(lines[0], i), *b = cJSON_GetArrayItem(lines[1], i), *x;
        zero_std += metrics_number(a, "frac_reward_zero_std");
        clipped += metrics_number(a, "clip_ratio/region_mean");
        metrics_explained(b);
        cJSON_ArrayForEach(x, a) {
            const char *k = x->string;
            if (strncmp(k, "time/", 5) == 0 || strstr(k, "_per_s") || strcmp(k, "step_time") == 0) continue;
            if (strcmp(k, "num_trained_completions") == 0) continue;
            if (strcmp(k, "entropy") == 0 || strncmp(k, "sampling/", 9) == 0) {
                CHECK(!cJSON_HasObjectItem(b, k), "%s of some of the tokens", k);
                continue;
            }
            const double there = metrics_number(b, k);
            CHECK(fabs(there - x->valuedouble) <= 1e-9 * (1 + fabs(x->valuedouble)),
                  "step %d: %s is %.17g, with passes saved %.17g", i + 1, k, x->valuedouble, there);
            compared++;
        }
        const double completions = metrics_number(a, "num_completions"),
                     made = completions * metrics_number(a, "completions/mean_length");
        const double before = i ? metrics_number(cJSON_GetArrayItem(lines[0], i - 1), "num_tokens") : 0;
        const double prompts = metrics_number(a, "num_tokens") - before - made;
        CHECK(prompts > 10 * completions && fmod(prompts, 4) == 0,
              "step %d: %g prompt tokens in num_tokens, of prompts that have 4 completions each", i + 1, prompts);
    }
    CHECK(compared > 40 && zero_std > 0 && clipped > 0,
          "%d figures, of groups with equal rewards %g, of clipped tokens %g: nothing to compare", compared, zero_std,
          clipped);
    cJSON_Delete(lines[0]);
    cJSON_Delete(lines[1]);
    str_free(&out);
}

// Where all rewards are equal (no completion of one token has a box) the KL term still has a gradient, and nobody says
// that there is none.
void test_metrics_kl_alone(void) {
    Str out = {0};
    for (int kl = 0; kl < 2; kl++) {
        char name[32];
        snprintf(name, sizeof name, "alone%d", kl);
        const int code = run_command(
            &out,
            "OMP_NUM_THREADS=1 ./train_steer --config " TINY_RECIPE TINY_SMALL
            " --max_steps 1 --max_completion_length 1 --beta %g --init_steering data/tiny/vectors/steering.safetensors"
            " --output_dir %s",
            kl ? 0.5 : 0.0, test_path(name));
        cJSON *lines = metrics_of(name);
        const double norm = metrics_number(cJSON_GetArrayItem(lines, 0), "grad_norm");
        CHECK(code == 0 && (kl ? norm > 0 : norm == 0), "beta %d: gradient %g, ended with %d:\n%s", kl, norm, code,
              out.s);
        CHECK(strstr(out.s, kl ? "signal 4/4" : "signal 0/4") &&
                  strstr(out.s, kl ? "the KL term alone" : "there is no gradient"),
              "beta %d:\n%s", kl, out.s);
        cJSON_Delete(lines);
    }
    str_free(&out);
}

void test_metrics(void) {
    test_metrics_trl();
    test_metrics_kl();
    test_metrics_saved_passes();
    test_metrics_kl_alone();
}

#endif
