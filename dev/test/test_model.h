/*
The whole model against PyTorch: dev/reference/tiny_records.* hold what transformers computed in fp64 for the tiny model
at non-zero vectors: logits, log-probs, entropies, losses, gradients of every vector, five AdamW steps, greedy tokens.
Plus finite differences, and that accumulation, batching, threads and the cache change no bit.
*/
#ifndef DEV_TEST_TEST_MODEL_H
#define DEV_TEST_TEST_MODEL_H

#include "dev/test/backends.h"    // test_backends, to_backend, from_backend
#include "dev/test/records.h"     // Records
#include "dev/test/rounded_ref.h" // rounded_ops
#include "dev/test/test.h"
#include "llmc/rollout.h"

/*
Tolerances. Errors are relative: |found - expected| in the 2-norm over the tensor, divided by |expected| in the same
norm.

ref against PyTorch in fp64, 1e-5: one rounding to fp32 is 2^-24 = 6e-8; sums of at most a few hundred terms, 4 layers
deep, come
     to some 1e-6. A loss is divided by 1 at least: it is a difference of terms of that size.
cpu  rounds the inputs of every product to bf16, which no tolerance on the result describes well: how far the result
     moves depends on the model. So the test rounds `ref` at the same places (rounded_ops below) and asks for two
     things. cpu against rounded ref, 5e-3: what is left is the order of fp32 sums, some 1e-6, which tips a value over
     the edge between two neighbouring bf16 (2^-8 apart) once in about 2^-8 / 2e-6 = 2,000 times. Such a value is off by
     2^-8 and the others by nothing, which is 2^-8 / sqrt(2000) = 9e-5 in the 2-norm, at each of some 8 places a layer,
     forward and backward: sqrt(4 * 8 * 2) * 9e-5 = 7e-4. Four times that, 3e-3, is allowed for; and the KL term takes
     exp of a log-prob's error, which at the records' largest |log-prob| of some 20 is 20 * 1e-4 = 2e-3 more. cpu
     against PyTorch: no further than 1.5 times as far as rounded ref is. The distance is printed.
cuda the same two things, where the rounded ref also rounds what attention gives to the tensor cores. There is a
probability for every two
     tokens, so many more values tip over: log-probs are off by some 1.5e-3 instead of 3e-4. That stays below 5e-3, but
     exp of it in the KL
     term does not: 20 * 1.5e-3 = 3e-2, of which twice is allowed, 6e-2.
*/
#define TOLERANCE_REF 1e-5
#define TOLERANCE_CPU 5e-3
#define TOLERANCE_CPU_FACTOR 1.5
#define TOLERANCE_CUDA_KL 6e-2

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

// Everything that is compared, in one list: name, values.
typedef struct {
    char name[80];
    float *values;
    size_t n;
} ModelOutput;
typedef struct {
    ModelOutput of[128];
    int n;
} ModelOutputs;

void outputs_add(ModelOutputs *all, const char *name, const float *values, size_t n) {
    ModelOutput *o = &all->of[all->n++];
    snprintf(o->name, sizeof o->name, "%s", name);
    o->n = n;
    o->values = (float *)xmalloc(n * sizeof(float));
    memcpy(o->values, values, n * sizeof(float));
}

void outputs_add_number(ModelOutputs *all, const char *name, double x) {
    float value = (float)x;
    outputs_add(all, name, &value, 1);
}

void outputs_add_samples(ModelOutputs *all, const char *name, const Records *r, bool entropy) {
    float *values = records_collect(r, entropy);
    outputs_add(all, name, values, (size_t)r->tokens);
    free(values);
}

void outputs_free(ModelOutputs *all) {
    for (int i = 0; i < all->n; i++) free(all->of[i].values);
    all->n = 0;
}

// The log-probs, losses, gradients and AdamW steps of one backend on the recorded completions.
void model_outputs(ModelOutputs *all, const Ops *ops) {
    Records r;
    all->n = 0;
    if (!records_open(&r, ops)) return;
    size_t LC = (size_t)r.L * r.C, n = (size_t)r.tokens;
    const float *steering0 = records_tensor(&r, "steering0", LC), *old = records_tensor(&r, "old_logprobs", n),
                *ref = records_tensor(&r, "ref_logprobs", n);
    float *gradient = (float *)xcalloc(LC, sizeof(float)), *d_steering0 = to_backend(ops, steering0, LC);
    PolicyPass pass;
    PolicyStats stats;
    Error err = {0, ""};
    policy_alloc(&pass, &r.model, 64 << 20, r.longest, 0, true);
    LossConfig on_policy = {0.2f, 0.28f, 0, 1, false, 0}, clip_kl = {0.2f, 0.28f, 0.1f, 1, false, 0},
               cool = {0.2f, 0.28f, 0, 0.7f, false, 0};

    double loss = records_pass(&r, &pass, steering0, &on_policy, gradient, true, "dapo", NULL, NULL);
    outputs_add_number(all, "loss dapo", loss);
    outputs_add(all, "grad_dapo", gradient, LC);
    outputs_add_samples(all, "logprobs", &r, false);
    outputs_add_samples(all, "entropy", &r, true);
    memset(&stats, 0, sizeof stats);
    CHECK(policy_pass(&pass, &r.model, NULL, r.samples, r.n, &on_policy, NULL, NULL, &stats, &err), "%s", err.text);
    outputs_add_samples(all, "ref_logprobs", &r, false);

    // logits of the first sample
    BatchBuilder packed;
    IntVec rows = {0}, targets = {0};
    KVCache kv;
    int next_page = 0;
    memset(&packed, 0, sizeof packed);
    const Completion *first = r.samples[0].completion;
    kv_cache_alloc(&kv, &r.model, group_pages(r.samples[0].P, &first, 1));
    batch_add_group(&packed, r.samples[0].prompt, r.samples[0].P, &first, 1, 0, &next_page, &rows, &targets);
    qwen2_forward(&r.model, &pass.scratch, NULL, &kv, batch_finish(&packed, ops), d_steering0);
    DeviceCopy d_rows = {NULL, 0};
    qwen2_head_forward(&r.model, &pass.scratch, pass.scratch.h,
                       (const int *)device_copy(&d_rows, ops, rows.v, (size_t)rows.n * sizeof(int)), rows.n);
    float *logits = (float *)xmalloc((size_t)rows.n * r.V * sizeof(float));
    ops->download(logits, pass.scratch.logits, (size_t)rows.n * r.V * sizeof(float));
    outputs_add(all, "logits", logits, (size_t)rows.n * r.V);
    free(logits);
    device_copy_free(&d_rows, ops);
    kv_cache_free(&kv, ops);
    batch_free(&packed, ops);
    ints_free(&rows);
    ints_free(&targets);

    // the other losses, and temperature 0.7
    outputs_add_number(all, "loss grpo",
                       records_pass(&r, &pass, steering0, &on_policy, gradient, true, "grpo", NULL, NULL));
    outputs_add(all, "grad_grpo", gradient, LC);
    outputs_add_number(all, "loss dr_grpo",
                       records_pass(&r, &pass, steering0, &on_policy, gradient, true, "dr_grpo", NULL, NULL));
    outputs_add(all, "grad_dr_grpo", gradient, LC);
    outputs_add_number(all, "loss dapo_clip_kl",
                       records_pass(&r, &pass, steering0, &clip_kl, gradient, false, "dapo", old, ref));
    outputs_add(all, "grad_dapo_clip_kl", gradient, LC);
    records_pass(&r, &pass, steering0, &cool, gradient, true, "dapo", NULL, NULL);
    outputs_add_samples(all, "logprobs_t07", &r, false);
    outputs_add(all, "grad_t07", gradient, LC);

    // five AdamW steps, some of them with a clipped gradient
    float *steering = (float *)xmalloc(LC * sizeof(float)), *there[4]; // vectors, gradient, moments
    double first_norm = 0;
    memcpy(steering, steering0, LC * sizeof(float));
    for (int i = 0; i < 4; i++) there[i] = (float *)ops->alloc(LC * sizeof(float));
    ops->upload(there[0], steering0, LC * sizeof(float));
    const cJSON *betas = cJSON_GetObjectItem(r.json, "betas");
    AdamW adamw = {records_number(&r, "learning_rate"), cJSON_GetArrayItem(betas, 0)->valuedouble,
                   cJSON_GetArrayItem(betas, 1)->valuedouble, records_number(&r, "eps"),
                   records_number(&r, "weight_decay")};
    double max_norm = records_number(&r, "max_grad_norm");
    for (int step = 1; step <= 5; step++) {
        char name[32];
        records_pass(&r, &pass, steering, &on_policy, gradient, true, "dapo", NULL, NULL);
        ops->upload(there[1], gradient, LC * sizeof(float));
        double norm = ops->gradient_norm(there[1], LC);
        if (step == 1) first_norm = norm;
        ops->adamw_update(there[0], there[2], there[3], there[1], norm > max_norm ? max_norm / (norm + 1e-6) : 1, LC,
                          step, &adamw);
        ops->download(steering, there[0], LC * sizeof(float));
        snprintf(name, sizeof name, "steering_step%d", step);
        outputs_add(all, name, steering, LC);
    }
    outputs_add_number(all, "grad_norm", first_norm);
    for (int i = 0; i < 4; i++) ops->release(there[i]);
    from_backend(ops, NULL, d_steering0, LC);
    free(steering);
    free(gradient);
    policy_free(&pass, &r.model);
    records_close(&r);
}

// The same list as PyTorch recorded it.
void recorded_outputs(ModelOutputs *all, const ModelOutputs *like) {
    Records r;
    all->n = 0;
    if (!records_open(&r, ops_ref_init())) return;
    const cJSON *losses = cJSON_GetObjectItem(r.json, "loss"), *at_one = cJSON_GetObjectItem(r.json, "loss_ratio_one"),
                *norms = cJSON_GetObjectItem(r.json, "grad_norms");
    for (int i = 0; i < like->n; i++) {
        const ModelOutput *o = &like->of[i];
        if (strncmp(o->name, "loss ", 5) ==
            0) { // on-policy the surrogate's value at ratio 1; PyTorch's own is -A log-prob
            const cJSON *number = cJSON_GetObjectItem(strstr(o->name, "clip") ? losses : at_one, o->name + 5);
            CHECK(cJSON_IsNumber(number), "record %s is missing", o->name);
            outputs_add_number(all, o->name, number ? number->valuedouble : NAN);
        } else if (strcmp(o->name, "grad_norm") == 0) {
            outputs_add_number(all, o->name, cJSON_GetArrayItem(norms, 0)->valuedouble);
        } else { // logits are recorded for every sample; the first is compared
            const RawTensor *t = safetensors_find(&r.tensors, o->name);
            int64_t size = t ? tensor_elements(t) : 0;
            if (CHECK(t && t->dtype == DTYPE_F32 &&
                          (strcmp(o->name, "logits") == 0 ? size >= (int64_t)o->n : size == (int64_t)o->n),
                      "record %s: %zu values expected", o->name, o->n))
                outputs_add(all, o->name, (const float *)t->data, o->n);
            else outputs_add(all, o->name, o->values, 0);
        }
    }
    records_close(&r);
}

double output_error(const ModelOutput *found, const ModelOutput *expected) {
    if (found->n != expected->n) return INFINITY;
    if (strncmp(found->name, "loss ", 5) == 0) {
        double e = fabs((double)found->values[0] - expected->values[0]) / (fabs((double)expected->values[0]) + 1);
        return e == e ? e : INFINITY;
    }
    return relative_error(found->values, expected->values, found->n);
}

// Every output within the tolerance; and the same comparison notices a planted error of 1 % (twice the tolerance where
// that is more), and NaN.
void compare_outputs(const char *what, const ModelOutputs *found, const ModelOutputs *expected, double everywhere,
                     double of_kl) {
    CHECK(found->n == expected->n && found->n > 0, "%s: %d outputs, expected %d", what, found->n, expected->n);
    for (int i = 0; i < found->n && i < expected->n; i++) {
        const ModelOutput *f = &found->of[i];
        const double tolerance = strstr(f->name, "kl") ? of_kl : everywhere,
                     planted_error = tolerance > 0.005 ? 2 * tolerance : 0.01;
        double e = output_error(f, &expected->of[i]);
        CHECK(e <= tolerance, "%s: %s: relative error %.3g, allowed %.3g", what, f->name, e, tolerance);
        ModelOutputs planted;
        planted.n = 0;
        outputs_add(&planted, f->name, f->values, f->n);
        for (size_t k = 0; k < f->n; k++)
            planted.of[0].values[k] += (float)planted_error * (f->values[k] + (strncmp(f->name, "loss ", 5) == 0));
        CHECK(!(output_error(&planted.of[0], &expected->of[i]) <= tolerance),
              "%s: %s: a planted error of %g %% went unnoticed", what, f->name, 100 * planted_error);
        planted.of[0].values[f->n - 1] = NAN;
        CHECK(!(output_error(&planted.of[0], &expected->of[i]) <= tolerance), "%s: %s: NaN went unnoticed", what,
              f->name);
        outputs_free(&planted);
    }
}

void test_model_records(void) {
    ModelOutputs ref, rounded, found, recorded;
    model_outputs(&ref, ops_ref_init());
    recorded_outputs(&recorded, &ref);
    compare_outputs("ref against PyTorch", &ref, &recorded, TOLERANCE_REF, TOLERANCE_REF);
    model_outputs(&rounded, rounded_ops());
    const Ops *backends[TEST_BACKENDS];
    int n = test_backends(backends);
    for (int k = 0; k < n; k++) {
        char what[96];
        const BackendName name = backend_name(backends[k]);
        snprintf(what, sizeof what, "%s against rounded ref", name.text);
        if (!backends[k]->host_memory) { // the last
            outputs_free(&rounded);
            model_outputs(&rounded, rounded_cuda_ops());
        }
        model_outputs(&found, backends[k]);
        compare_outputs(what, &found, &rounded, TOLERANCE_CPU,
                        backends[k]->host_memory ? TOLERANCE_CPU : TOLERANCE_CUDA_KL);
        for (int i = 0; i < found.n && i < recorded.n; i++) {
            double e = output_error(&found.of[i], &recorded.of[i]),
                   allowed = TOLERANCE_CPU_FACTOR * output_error(&rounded.of[i], &recorded.of[i]) + TOLERANCE_CPU;
            CHECK(e <= allowed, "%s against PyTorch: %s: relative error %.3g, allowed %.3g", name.text,
                  found.of[i].name, e, allowed);
            if ((k == 0 || k == n - 1) &&
                (strcmp(found.of[i].name, "logprobs") == 0 || strcmp(found.of[i].name, "grad_dapo") == 0))
                printf("%s: bf16 moves the tiny model's %s by %.2g of its size\n", name.text, found.of[i].name, e);
        }
        outputs_free(&found);
    }
    outputs_free(&ref);
    outputs_free(&rounded);
    outputs_free(&recorded);
}

// avx512 and avx2 sum in the same order and round alike, so that a run's bits are the same on either.
void test_model_same_bits(void) {
    const Ops *backends[TEST_BACKENDS], *wide = NULL, *narrow = NULL;
    for (int i = test_cpu_backends(backends) - 1; i >= 0; i--) {
        if (strcmp(backends[i]->isa, "avx512") == 0) wide = backends[i];
        if (strcmp(backends[i]->isa, "avx2") == 0) narrow = backends[i];
    }
    if (!wide || !narrow) {
        SKIP("two levels with the same bits: not both are here");
        return;
    }
    ModelOutputs a, b;
    model_outputs(&a, wide);
    model_outputs(&b, narrow);
    CHECK(a.n == b.n && a.n > 0, "avx512 has %d outputs, avx2 %d", a.n, b.n);
    for (int i = 0; i < a.n && i < b.n; i++)
        CHECK(a.of[i].n == b.of[i].n && memcmp(a.of[i].values, b.of[i].values, a.of[i].n * sizeof(float)) == 0,
              "%s: avx512 and avx2 differ in bits", a.of[i].name);
    outputs_free(&a);
    outputs_free(&b);
}

// d loss / d s against (loss(s + e) - loss(s - e)) / 2e on ref, in the direction of the gradient and at single
// coordinates.
void test_model_finite_differences(void) {
    Records r;
    if (!records_open(&r, ops_ref_init())) return;
    size_t LC = (size_t)r.L * r.C;
    const float *steering0 = records_tensor(&r, "steering0", LC);
    float *gradient = (float *)xcalloc(LC, sizeof(float)), *scrap = (float *)xcalloc(LC, sizeof(float)),
          *moved = (float *)xmalloc(LC * sizeof(float));
    PolicyPass pass;
    policy_alloc(&pass, &r.model, 64 << 20, r.longest, 0, true);
    LossConfig loss_config = {10, 10,    0,
                              1,  false, 0}; // clipping off: the ratio's derivative is that of the log-prob at ratio 1
    records_pass(&r, &pass, steering0, &loss_config, gradient, true, "dapo", NULL, NULL);
    float *old = records_collect(&r, false);
    double norm = host_gradient_norm(gradient, LC);
    for (int k = 0; k < 9; k++) {
        // k = 0: along the gradient; else: along the gradient of one layer; then single coordinates
        double e = 2e-3, expected = 0, loss[2];
        for (int side = 0; side < 2; side++) {
            expected = 0;
            for (size_t i = 0; i < LC; i++) {
                double direction = k == 0   ? gradient[i] / norm
                                   : k <= 4 ? ((int)(i / (size_t)r.C) == (k - 1) % r.L ? gradient[i] / norm : 0)
                                            : (i == (size_t)k * 31 % LC ? 1 : 0);
                moved[i] = (float)(steering0[i] + (side ? -e : e) * direction);
                expected += direction * gradient[i];
            }
            loss[side] = records_pass(&r, &pass, moved, &loss_config, scrap, false, "dapo", old, NULL);
        }
        double measured = (loss[0] - loss[1]) / (2 * e);
        CHECK(fabs(measured - expected) <= 2e-3 * norm, "finite difference %d: %.6g, gradient says %.6g (norm %.4g)", k,
              measured, expected, norm);
    }
    free(old);
    free(gradient);
    free(scrap);
    free(moved);
    policy_free(&pass, &r.model);
    records_close(&r);
}

// Batches of one completion or of all, and any activation budget, give the same log-probs to the bit and the same
// gradient up to the order in which rows are added.
void test_model_accumulation(const char *backend, const Ops *ops) {
    Records r;
    if (!records_open(&r, ops)) return;
    size_t LC = (size_t)r.L * r.C;
    const float *steering0 = records_tensor(&r, "steering0", LC);
    float *whole = (float *)xcalloc(LC, sizeof(float)), *parts = (float *)xcalloc(LC, sizeof(float));
    LossConfig loss_config = {0.2f, 0.2f, 0, 1, false, 0};
    PolicyPass big, small;
    policy_alloc(&big, &r.model, 64 << 20, r.longest, 0, true);
    policy_alloc(&small, &r.model, 1, r.longest, 0, true); // room for one completion only
    records_pass(&r, &big, steering0, &loss_config, whole, true, "dapo", NULL, NULL);
    float *logprob = records_collect(&r, false);
    records_pass(&r, &small, steering0, &loss_config, parts, true, "dapo", NULL, NULL);
    float *again = records_collect(&r, false);
    if (test_same_in_any_batch(ops))
        CHECK(memcmp(logprob, again, (size_t)r.tokens * sizeof(float)) == 0,
              "%s: log-probs depend on how samples are packed", backend);
    else
        CHECK(relative_error(again, logprob, (size_t)r.tokens) <= TOLERANCE_CPU,
              "%s: log-probs depend on how samples are packed", backend); // cuBLASLt chooses by shape
    double e = relative_error(parts, whole, LC),
           allowed =
               strcmp(backend, "ref") == 0 ? 1e-5 : 5e-3; // cpu: dh of a shared prompt is rounded to bf16 per batch
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
    const size_t LC = (size_t)r.L * r.C;
    float *steering = to_backend(ops, records_tensor(&r, "steering0", LC), LC);
    const cJSON *golden = cJSON_GetObjectItem(r.json, "golden"), *item;
    int compared = 0;
    Rollout rollout_memory;
    rollout_alloc(&rollout_memory, &r.model, 4, 0, 256, 64);
    cJSON_ArrayForEach(item, golden) {
        IntVec prompt = records_ids(cJSON_GetObjectItem(item, "prompt_ids"));
        for (int steered = 0; steered < 2; steered++) {
            const cJSON *record = cJSON_GetObjectItem(item, steered ? "steered" : "base");
            IntVec expected = records_ids(cJSON_GetObjectItem(record, "ids"));
            if (cJSON_GetObjectItem(record, "min_margin")->valuedouble > margin) {
                Error err = {0, ""};
                Completion c;
                RolloutPrompt asked = {prompt.v, prompt.n, 0, &c};
                Sampling sampling = {0, 1, 0, 64, false, 0, 0};
                CHECK(rollout(&rollout_memory, &r.model, steered ? steering : NULL, &asked, 1, 1, &sampling, NULL, NULL,
                              &err),
                      "%s", err.text);
                CHECK(c.n == expected.n && memcmp(c.ids, expected.v, (size_t)c.n * sizeof(int)) == 0,
                      "%s: greedy tokens differ (%d found, %d expected)", backend, c.n, expected.n);
                completion_free(&c);
                compared++;
            }
            ints_free(&expected);
        }
        ints_free(&prompt);
    }
    CHECK(compared >= 2, "%s: only %d golden completions have a margin above %g", backend, compared, margin);
    rollout_free(&rollout_memory, &r.model);
    from_backend(ops, NULL, steering, LC);
    records_close(&r);
}

void test_model(void) {
    const Ops *ref = ops_ref_init();
    const Ops *backends[TEST_BACKENDS];
    const int n = test_backends(backends);
    test_model_records();
    test_model_same_bits();
    test_model_finite_differences();
    test_model_accumulation("ref", ref);
    test_model_golden("ref", ref, 1e-3);
    for (int k = 0; k < n; k += n > 1 ? n - 1 : 1) { // the fastest of cpu, and cuda or the slowest
        test_model_accumulation(backend_name(backends[k]).text, backends[k]);
        test_model_golden(backend_name(backends[k]).text, backends[k], 0.1);
    }
}

#endif
