/*
The whole model against PyTorch: dev/reference/tiny_records.* hold what transformers computed in fp64 for the tiny model
at non-zero vectors: logits, log-probs, entropies, losses, gradients of every vector, five AdamW steps, greedy tokens.
Plus finite differences, and that accumulation, batching, threads and the cache change no bit.
*/
#ifndef DEV_TEST_TEST_MODEL_H
#define DEV_TEST_TEST_MODEL_H

#include "dev/test/test.h"
#include "llmc/grpo.h"
#include "llmc/json.h"
#include "llmc/ops_cpu.h"
#include "llmc/ops_ref.h"
#include "llmc/rollout.h"
#include "llmc/safetensors.h"

#define TINY_MODEL "data/tiny/model"

/*
Tolerances. Errors are relative: |found - expected| in the 2-norm over the tensor, divided by |expected| in the same norm.

ref  1e-5: fp32 against fp64. One rounding is 2^-24 = 6e-8; sums of at most a few hundred terms and 4 layers deep
     come to some 1e-6.
cpu  bf16 inputs of every product: one rounding has a relative error of at most 2^-9, 2^-9/sqrt(3) = 1.1e-3 in the mean
     square. A layer rounds the inputs of four products, one behind the other, and the gradient passes as many again, so
     the errors of 4 layers add to about sqrt(4 * 4) * 1.1e-3 = 4.5e-3 of a block's output going forward and sqrt(2) of
     that for a gradient. Twice the estimate is allowed.
*/
typedef struct { double logits, logprob, loss, gradient, steps; } ModelTolerance;

const ModelTolerance model_tolerance_ref = {1e-5, 1e-5, 1e-5, 1e-5, 1e-5};
const ModelTolerance model_tolerance_cpu = {9e-3, 9e-3, 9e-3, 1.3e-2, 1.3e-2};

// Relative error in the 2-norm; NaN or a mismatch of sizes gives infinity.
double relative_error(const float *found, const float *expected, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)found[i] - expected[i];
        if (!(fabs(d) < 1e30)) return INFINITY;
        difference += d * d;
        size += (double)expected[i] * expected[i];
    }
    return size > 0 ? sqrt(difference / size) : INFINITY;
}

typedef struct {
    cJSON *json;
    SafeTensors tensors;
    PolicySample *samples;
    Completion *completions;
    int n, tokens, longest, G;
    float *advantages;
    Qwen2 model;
    int L, C, V;
} Records;

const float *records_tensor(const Records *r, const char *name, size_t n) {
    const RawTensor *t = safetensors_find(&r->tensors, name);
    size_t found = 1;
    if (t) for (int i = 0; i < t->ndim; i++) found *= (size_t)t->shape[i];
    CHECK(t && t->dtype == DTYPE_F32 && found == n, "record %s: %zu values expected", name, n);
    return t ? (const float *)t->data : NULL;
}

double records_number(const Records *r, const char *key) {
    const cJSON *item = cJSON_GetObjectItem(r->json, key);
    CHECK(cJSON_IsNumber(item), "record %s is missing", key);
    return item ? item->valuedouble : NAN;
}

IntVec records_ids(const cJSON *array) {
    IntVec ids = {0};
    const cJSON *item;
    cJSON_ArrayForEach(item, array) ints_push(&ids, item->valueint);
    return ids;
}

bool records_open(Records *r, const Ops *ops) {
    Error err = {0, ""};
    memset(r, 0, sizeof *r);
    r->json = json_load("dev/reference/tiny_records.json", &err);
    bool ok = r->json && safetensors_open(&r->tensors, "dev/reference/tiny_records.safetensors", &err) && qwen2_load(&r->model, TINY_MODEL, 512, ops, &err);
    if (!CHECK(ok, "%s", err.text)) return false;
    r->L = r->model.config.L;
    r->C = r->model.config.C;
    r->V = r->model.config.V;
    const cJSON *groups = cJSON_GetObjectItem(r->json, "groups"), *group, *answer;
    int g = 0;
    r->samples = (PolicySample *)xcalloc(256, sizeof(PolicySample));
    r->completions = (Completion *)xcalloc(256, sizeof(Completion));
    r->advantages = (float *)xcalloc(256, sizeof(float));
    cJSON_ArrayForEach(group, groups) {
        IntVec prompt = records_ids(cJSON_GetObjectItem(group, "prompt_ids"));
        const cJSON *rewards = cJSON_GetObjectItem(group, "rewards");
        float reward[64];
        int first = r->n, G = cJSON_GetArraySize(rewards);
        for (int k = 0; k < G; k++) reward[k] = (float)cJSON_GetArrayItem(rewards, k)->valuedouble;
        cJSON_ArrayForEach(answer, cJSON_GetObjectItem(group, "completions")) {
            IntVec ids = records_ids(answer);
            PolicySample *s = &r->samples[r->n];
            Completion *c = &r->completions[r->n++];
            c->ids = ids.v;
            c->n = ids.n;
            c->logprob = (float *)xcalloc((size_t)ids.n, sizeof(float));
            s->prompt = prompt.v;
            s->P = prompt.n;
            s->group = g;
            s->completion = c;
            s->logprob = (float *)xcalloc((size_t)ids.n, sizeof(float));
            s->entropy = (float *)xcalloc((size_t)ids.n, sizeof(float));
            r->tokens += ids.n;
            if (prompt.n + ids.n > r->longest) r->longest = prompt.n + ids.n;
        }
        group_advantages(r->advantages + first, reward, G, "rloo");
        r->G = G;
        g++;
    }
    return true;
}

void records_close(Records *r) {
    for (int i = 0; i < r->n; i++) {
        if (i == 0 || r->samples[i].group != r->samples[i - 1].group) free((void *)r->samples[i].prompt);
        completion_free(&r->completions[i]);
        free(r->samples[i].logprob);
        free(r->samples[i].entropy);
    }
    free(r->samples);
    free(r->completions);
    free(r->advantages);
    cJSON_Delete(r->json);
    safetensors_close(&r->tensors);
    qwen2_free(&r->model);
}

// The samples' outputs one behind the other.
float *records_collect(const Records *r, bool entropy) {
    float *all = (float *)xmalloc((size_t)r->tokens * sizeof(float));
    int at = 0;
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->completions[i].n; t++) all[at++] = entropy ? r->samples[i].entropy[t] : r->samples[i].logprob[t];
    return all;
}

// Sets advantages, weights of loss_type, and the old and reference log-probs (NULL: on-policy, what the last pass found).
void records_prepare(Records *r, const char *loss_type, const float *old, const float *ref) {
    int at = 0;
    double limit = strcmp(loss_type, "dr_grpo") == 0 ? records_number(r, "max_completion_length") : 0;
    for (int i = 0; i < r->n; i++) {
        PolicySample *s = &r->samples[i];
        int n = s->completion->n;
        s->advantage = r->advantages[i];
        s->weight = (float)(strcmp(loss_type, "dapo") == 0 ? 1.0 / r->tokens : strcmp(loss_type, "grpo") == 0 ? 1.0 / (r->n * (double)n) : 1.0 / (r->n * limit));
        if (!old) memcpy(s->completion->logprob, s->logprob, (size_t)n * sizeof(float));
        s->old_logprob = old ? old + at : s->completion->logprob;
        s->ref_logprob = ref ? ref + at : NULL;
        at += n;
    }
}

// One pass with gradient; the loss is returned, gradient[L,C] overwritten. Log-probs come first, so that on-policy means it.
double records_pass(Records *r, PolicyPass *pass, const float *steering, const LossConfig *how, float *gradient, bool on_policy, const char *loss_type,
                    const float *old, const float *ref) {
    Error err = {0, ""};
    PolicyStats stats;
    bool trained[64];
    for (int l = 0; l < r->L; l++) trained[l] = true;
    memset(&stats, 0, sizeof stats);
    if (on_policy) {
        CHECK(policy_pass(pass, &r->model, steering, r->samples, r->n, how, NULL, NULL, &stats, &err), "%s", err.text);
        old = NULL;
    }
    records_prepare(r, loss_type, old, ref);
    memset(gradient, 0, (size_t)r->L * r->C * sizeof(float));
    memset(&stats, 0, sizeof stats);
    CHECK(policy_pass(pass, &r->model, steering, r->samples, r->n, how, gradient, trained, &stats, &err), "%s", err.text);
    return stats.loss;
}

void check_relative(const char *backend, const char *what, const float *found, const float *expected, size_t n, double tolerance) {
    double e = expected ? relative_error(found, expected, n) : INFINITY;
    CHECK(e <= tolerance, "%s %s: relative error %.3g, allowed %.3g", backend, what, e, tolerance);
    // the same comparison must notice a planted error of 1 % of the tensor's size in one direction
    float *planted = (float *)xmalloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++) planted[i] = found[i] * (i % 2 ? 1.01f : 0.99f) + (tolerance > 5e-3 ? found[i] * (i % 2 ? 0.01f : -0.01f) : 0);
    CHECK(!expected || !(relative_error(planted, expected, n) <= tolerance), "%s %s: a planted error went unnoticed", backend, what);
    planted[0] = NAN;
    CHECK(!expected || !(relative_error(planted, expected, n) <= tolerance), "%s %s: NaN went unnoticed", backend, what);
    free(planted);
}

void test_model_records(const char *backend, const Ops *ops, const ModelTolerance *tolerance) {
    Records r;
    if (!records_open(&r, ops)) return;
    size_t LC = (size_t)r.L * r.C, n = (size_t)r.tokens;
    const float *steering0 = records_tensor(&r, "steering0", LC), *old = records_tensor(&r, "old_logprobs", n), *ref = records_tensor(&r, "ref_logprobs", n);
    float *gradient = (float *)xmalloc(LC * sizeof(float)), *found;
    PolicyPass pass;
    policy_alloc(&pass, &r.model, 64 << 20, r.longest, 0, true);
    LossConfig how = {0.2f, 0.28f, 0, 1};
    Error err = {0, ""};

    // log-probs, entropy, reference log-probs
    double loss = records_pass(&r, &pass, steering0, &how, gradient, true, "dapo", NULL, NULL);
    double expected_loss = records_number(&r, "loss");
    CHECK(fabs(loss - expected_loss) <= tolerance->loss * fabs(expected_loss), "%s loss: found %.9g, expected %.9g", backend, loss, expected_loss);
    check_relative(backend, "logprobs", found = records_collect(&r, false), records_tensor(&r, "logprobs", n), n, tolerance->logprob);
    free(found);
    check_relative(backend, "entropy", found = records_collect(&r, true), records_tensor(&r, "entropy", n), n, tolerance->logprob);
    free(found);
    check_relative(backend, "grad_dapo", gradient, records_tensor(&r, "grad_dapo", LC), LC, tolerance->gradient);
    PolicyStats stats;
    memset(&stats, 0, sizeof stats);
    CHECK(policy_pass(&pass, &r.model, NULL, r.samples, r.n, &how, NULL, NULL, &stats, &err), "%s", err.text);
    check_relative(backend, "ref_logprobs", found = records_collect(&r, false), ref, n, tolerance->logprob);
    free(found);

    // logits and the residual stream of the first sample
    Packed packed;
    IntVec rows = {0}, targets = {0};
    KVCache kv;
    int next_page = 0;
    memset(&packed, 0, sizeof packed);
    const Completion *first = r.samples[0].completion;
    kv_cache_alloc(&kv, &r.model, group_pages(r.samples[0].P, &first, 1));
    packed_add_group(&packed, r.samples[0].prompt, r.samples[0].P, &first, 1, 0, &next_page, &rows, &targets);
    qwen2_forward(&r.model, &pass.scratch, NULL, &kv, packed_finish(&packed), steering0);
    qwen2_head_forward(&r.model, &pass.scratch, pass.scratch.h, rows.v, rows.n);
    check_relative(backend, "logits", pass.scratch.logits, records_tensor(&r, "logits", n * r.V), (size_t)rows.n * r.V, tolerance->logits);
    kv_cache_free(&kv, ops);
    packed_free(&packed);
    ints_free(&rows);
    ints_free(&targets);

    // the other losses, and temperature 0.7
    const char *kinds[3] = {"grpo", "dr_grpo", "dapo_clip_kl"};
    for (int k = 0; k < 3; k++) {
        char name[64];
        snprintf(name, sizeof name, "loss_%s", kinds[k]);
        LossConfig variant = how;
        bool clip = k == 2;
        if (clip) variant.beta = 0.1f;
        loss = records_pass(&r, &pass, steering0, &variant, gradient, !clip, clip ? "dapo" : kinds[k], old, clip ? ref : NULL);
        expected_loss = records_number(&r, name);
        // a clipped loss sums terms of both signs, so its error is measured against the loss of the unclipped variant too
        CHECK(fabs(loss - expected_loss) <= tolerance->loss * (fabs(expected_loss) + 1), "%s %s: found %.9g, expected %.9g", backend, name, loss, expected_loss);
        snprintf(name, sizeof name, "grad_%s", kinds[k]);
        check_relative(backend, name, gradient, records_tensor(&r, name, LC), LC, tolerance->gradient);
    }
    LossConfig cool = how;
    cool.temperature = 0.7f;
    records_pass(&r, &pass, steering0, &cool, gradient, true, "dapo", NULL, NULL);
    check_relative(backend, "logprobs_t07", found = records_collect(&r, false), records_tensor(&r, "logprobs_t07", n), n, tolerance->logprob);
    free(found);
    check_relative(backend, "grad_t07", gradient, records_tensor(&r, "grad_t07", LC), LC, tolerance->gradient);

    // five AdamW steps
    float *steering = (float *)xmalloc(LC * sizeof(float)), *exp_avg = (float *)xcalloc(LC, sizeof(float)), *exp_avg_sq = (float *)xcalloc(LC, sizeof(float));
    if (steering0) memcpy(steering, steering0, LC * sizeof(float));
    const cJSON *betas = cJSON_GetObjectItem(r.json, "betas"), *norms = cJSON_GetObjectItem(r.json, "grad_norms");
    AdamW adamw = {records_number(&r, "learning_rate"), cJSON_GetArrayItem(betas, 0)->valuedouble, cJSON_GetArrayItem(betas, 1)->valuedouble, records_number(&r, "eps"),
                   records_number(&r, "weight_decay")};
    double max_norm = records_number(&r, "max_grad_norm");
    for (int step = 1; step <= 5; step++) {
        char name[32];
        records_pass(&r, &pass, steering, &how, gradient, true, "dapo", NULL, NULL);
        double norm = gradient_norm(gradient, LC), expected = cJSON_GetArrayItem(norms, step - 1)->valuedouble;
        CHECK(fabs(norm - expected) <= tolerance->gradient * expected, "%s grad_norm of step %d: found %.9g, expected %.9g", backend, step, norm, expected);
        adamw_update(steering, exp_avg, exp_avg_sq, gradient, norm > max_norm ? max_norm / (norm + 1e-6) : 1, LC, step, &adamw);
        snprintf(name, sizeof name, "steering_step%d", step);
        check_relative(backend, name, steering, records_tensor(&r, name, LC), LC, tolerance->steps);
    }
    free(steering);
    free(exp_avg);
    free(exp_avg_sq);
    free(gradient);
    policy_free(&pass, &r.model);
    records_close(&r);
}

// d loss / d s against (loss(s + e) - loss(s - e)) / 2e on ref, in the direction of the gradient and at single coordinates.
void test_model_finite_differences(void) {
    Records r;
    if (!records_open(&r, ops_ref_init())) return;
    size_t LC = (size_t)r.L * r.C;
    const float *steering0 = records_tensor(&r, "steering0", LC);
    float *gradient = (float *)xmalloc(LC * sizeof(float)), *scrap = (float *)xmalloc(LC * sizeof(float)), *moved = (float *)xmalloc(LC * sizeof(float));
    PolicyPass pass;
    policy_alloc(&pass, &r.model, 64 << 20, r.longest, 0, true);
    LossConfig how = {10, 10, 0, 1}; // clipping off: the ratio's derivative is that of the log-prob at ratio 1
    records_pass(&r, &pass, steering0, &how, gradient, true, "dapo", NULL, NULL);
    float *old = records_collect(&r, false);
    double norm = gradient_norm(gradient, LC);
    for (int k = 0; k < 9; k++) {
        // k = 0: along the gradient; else: along the gradient of one layer; then single coordinates
        double e = 1e-2, expected = 0, loss[2];
        for (int side = 0; side < 2; side++) {
            expected = 0;
            for (size_t i = 0; i < LC; i++) {
                double direction = k == 0 ? gradient[i] / norm : k <= 4 ? ((int)(i / (size_t)r.C) == (k - 1) % r.L ? gradient[i] / norm : 0) : (i == (size_t)k * 31 % LC ? 1 : 0);
                moved[i] = (float)(steering0[i] + (side ? -e : e) * direction);
                expected += direction * gradient[i];
            }
            loss[side] = records_pass(&r, &pass, moved, &how, scrap, false, "dapo", old, NULL);
        }
        double measured = (loss[0] - loss[1]) / (2 * e);
        CHECK(fabs(measured - expected) <= 2e-3 * norm, "finite difference %d: %.6g, gradient says %.6g (norm %.4g)", k, measured, expected, norm);
    }
    free(old);
    free(gradient);
    free(scrap);
    free(moved);
    policy_free(&pass, &r.model);
    records_close(&r);
}

// Batches of one completion or of all, and any activation budget, give the same log-probs to the bit and the same gradient up
// to the order in which rows are added.
void test_model_accumulation(const char *backend, const Ops *ops) {
    Records r;
    if (!records_open(&r, ops)) return;
    size_t LC = (size_t)r.L * r.C;
    const float *steering0 = records_tensor(&r, "steering0", LC);
    float *whole = (float *)xmalloc(LC * sizeof(float)), *parts = (float *)xmalloc(LC * sizeof(float));
    LossConfig how = {0.2f, 0.2f, 0, 1};
    PolicyPass big, small;
    policy_alloc(&big, &r.model, 64 << 20, r.longest, 0, true);
    policy_alloc(&small, &r.model, 1, r.longest, 0, true); // room for one completion only
    records_pass(&r, &big, steering0, &how, whole, true, "dapo", NULL, NULL);
    float *logprob = records_collect(&r, false);
    records_pass(&r, &small, steering0, &how, parts, true, "dapo", NULL, NULL);
    float *again = records_collect(&r, false);
    CHECK(memcmp(logprob, again, (size_t)r.tokens * sizeof(float)) == 0, "%s: log-probs depend on how samples are packed", backend);
    double e = relative_error(parts, whole, LC), allowed = strcmp(backend, "ref") == 0 ? 1e-5 : 5e-3; // cpu: dh of a shared prompt is rounded to bf16 per batch
    CHECK(e <= allowed, "%s: accumulated gradient differs by %.3g, allowed %.3g", backend, e, allowed);
    free(logprob);
    free(again);
    free(whole);
    free(parts);
    policy_free(&big, &r.model);
    policy_free(&small, &r.model);
    records_close(&r);
}

// Greedy tokens, with and without vectors, where the record's margin is above what bf16 can move.
void test_model_golden(const char *backend, const Ops *ops, double margin) {
    Records r;
    if (!records_open(&r, ops)) return;
    const float *steering0 = records_tensor(&r, "steering0", (size_t)r.L * r.C);
    const cJSON *golden = cJSON_GetObjectItem(r.json, "golden"), *item;
    int compared = 0;
    Rollout rollout_memory;
    rollout_alloc(&rollout_memory, &r.model, 4, 256, 64);
    cJSON_ArrayForEach(item, golden) {
        IntVec prompt = records_ids(cJSON_GetObjectItem(item, "prompt_ids"));
        for (int steered = 0; steered < 2; steered++) {
            const cJSON *record = cJSON_GetObjectItem(item, steered ? "steered" : "base");
            IntVec expected = records_ids(cJSON_GetObjectItem(record, "ids"));
            if (cJSON_GetObjectItem(record, "min_margin")->valuedouble > margin) {
                Error err = {0, ""};
                Completion c;
                RolloutPrompt asked = {prompt.v, prompt.n, 0, &c};
                Sampling how = {0, 1, 0, 64, false, 0, 0};
                CHECK(rollout(&rollout_memory, &r.model, steered ? steering0 : NULL, &asked, 1, 1, &how, NULL, NULL, &err), "%s", err.text);
                CHECK(c.n == expected.n && memcmp(c.ids, expected.v, (size_t)c.n * sizeof(int)) == 0, "%s: greedy tokens differ (%d found, %d expected)", backend, c.n, expected.n);
                completion_free(&c);
                compared++;
            }
            ints_free(&expected);
        }
        ints_free(&prompt);
    }
    CHECK(compared >= 2, "%s: only %d golden completions have a margin above %g", backend, compared, margin);
    rollout_free(&rollout_memory, &r.model);
    records_close(&r);
}

void test_model(void) {
    Error err = {0, ""};
    const Ops *ref = ops_ref_init(), *cpu = ops_cpu_init(&err);
    test_model_records("ref", ref, &model_tolerance_ref);
    test_model_finite_differences();
    test_model_accumulation("ref", ref);
    test_model_golden("ref", ref, 1e-3);
    if (!CHECK(cpu != NULL, "%s", err.text)) return;
    test_model_records("cpu", cpu, &model_tolerance_cpu);
    test_model_accumulation("cpu", cpu);
    test_model_golden("cpu", cpu, 0.1);
}

#endif
