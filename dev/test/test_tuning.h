/*
What else than vectors after the MLP can be trained (param_layout.h): log-probs and gradients against PyTorch
(dev/reference/ make_tuning_records.py) under the rules of test_model.h, finite differences, and that neither batches
nor threads nor the cache change a bit.
*/
#ifndef DEV_TEST_TEST_TUNING_H
#define DEV_TEST_TEST_TUNING_H

#include "dev/test/backends.h"
#include "dev/test/test.h"
#include "dev/test/test_dist.h"           // check_parts
#include "dev/test/test_intervene.h"      // intervened
#include "llmc/run/trainable_setup.h"     // params_from_weights
#include "dev/test/test_model.h"          // Records, ModelOutputs
#include "dev/test/test_rollout.h"        // RolloutCase
#include "llmc/experiments/experiments.h" // place_by_name, vectors_scale, lora1_load

/*
Tolerances: those of test_model.h, but for pieces of a gradient on cpu and cuda against the rounded ref. The gradient of
one matrix's factors is a small sum of large terms that cancel, and the values that tip over between two neighbours of
bf16 move each piece by about the same amount: some 1e-3 of the whole gradient may be several 1e-3 of a piece. 3e-2 is
allowed; a planted error is then 6 %. What is wrong in one piece alone is found on ref, which runs the same qwen2.h and
has 1e-5.
*/
#define TOLERANCE_PIECE 3e-2

const char *const tuning_cases[] = {
    "lora_all", "lora_down", "lora_kup", "place_self_attn", "place_post_attention_layernorm", "place_input_layernorm",
    "full"};
#define TUNING_CASES ((int)(sizeof tuning_cases / sizeof tuning_cases[0]))

typedef struct {
    const char *name;
    Records r;
    SafeTensors recorded;
    ParamLayout layout;
    float *params; // on the host
    float *there;  // full: in the backend's memory, what the model computes with
    int lowest;    // layer with something trained
} TuningCase;

// The record "<case>/<rest>", of n numbers unless n is 0.
const RawTensor *tuning_record(const SafeTensors *st, const char *name, const char *rest, size_t n) {
    char key[128];
    snprintf(key, sizeof key, "%s/%s", name, rest);
    const RawTensor *t = safetensors_find(st, key);
    CHECK(t && t->dtype == DTYPE_F32 && (n == 0 || (size_t)tensor_elements(t) == n), "record %s: %zu values expected",
          key, n);
    return t;
}

// "3.down_proj.A", with `before` in front
typedef struct {
    char text[64];
} FactorName;
FactorName factor_name(const char *before, int l, int p, char factor) {
    FactorName name;
    snprintf(name.text, sizeof name.text, "%s%d.%s.%c", before, l, projections[p].name, factor);
    return name;
}

// to[cols,rows] = from[rows,cols]: PEFT has B as [N,r], `params` as [r,N].
void transposed(float *to, const float *from, int rows, int cols) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) to[(size_t)j * rows + i] = from[(size_t)i * cols + j];
}

bool tuning_case_open(TuningCase *k, const Ops *ops, const char *name) {
    Error err = {0, ""};
    memset(k, 0, sizeof *k);
    k->name = name;
    if (!CHECK(safetensors_open(&k->recorded, "dev/reference/tiny_tuning.safetensors", &err), "%s", err.text) ||
        !records_open(&k->r, ops))
        return false;
    const ModelConfig *c = &k->r.model.config;
    if (strncmp(name, "place_", 6) == 0) {
        k->params = (float *)xmalloc((size_t)c->L * c->C * sizeof(float));
        if (!CHECK(steering_load(k->params, c, "data/tiny/vectors/layers.safetensors", &err), "%s", err.text))
            return false;
        vectors_scale(k->params, k->params, 0.3, (size_t)c->L * c->C);
        layout_steering(&k->layout, c, place_by_name(name + 6));
        k->r.model.layout = &k->layout;
        return true;
    }
    if (strcmp(name, "full") == 0) {
        layout_full(&k->layout, c);
        k->params = (float *)xmalloc(k->layout.n * sizeof(float));
        params_from_weights(k->params, &k->layout, &k->r.model.weights);
        k->there = to_backend(ops, k->params, k->layout.n);
        weights_from_params(&k->r.model.weights, &k->layout, k->there, ops);
        k->r.model.layout = &k->layout;
        return true;
    }
    const RawTensor *settings = tuning_record(&k->recorded, name, "rank_alpha", 2);
    bool targets[N_PROJ] = {false}, layers[64] = {false}, sites[64 * N_PROJ] = {false};
    for (int i = 0; i < c->L * N_PROJ; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s/%s", name, factor_name("", i / N_PROJ, i % N_PROJ, 'A').text);
        if (safetensors_find(&k->recorded, key)) targets[i % N_PROJ] = layers[i / N_PROJ] = sites[i] = true;
    }
    while (!layers[k->lowest]) k->lowest++;
    layout_lora(&k->layout, c, (int)((const float *)settings->data)[0], ((const float *)settings->data)[1], targets,
                sites);
    const int r = k->layout.lora_r;
    k->params = (float *)xcalloc(k->layout.n, sizeof(float));
    for (int i = 0; i < c->L * N_PROJ; i++) {
        const LoraSite *site = layout_lora_site(&k->layout, i / N_PROJ, (Projection)(i % N_PROJ));
        if (!site) continue;
        const RawTensor *a =
            tuning_record(&k->recorded, name, factor_name("", i / N_PROJ, i % N_PROJ, 'A').text, (size_t)r * site->K);
        const RawTensor *b =
            tuning_record(&k->recorded, name, factor_name("", i / N_PROJ, i % N_PROJ, 'B').text, (size_t)r * site->N);
        if (!a || !b) return false;
        memcpy(k->params + site->a, a->data, (size_t)r * site->K * sizeof(float));
        transposed(k->params + site->b, (const float *)b->data, site->N, r);
    }
    k->r.model.layout = &k->layout;
    return true;
}

void tuning_case_close(TuningCase *k) {
    const Ops *ops = k->r.model.ops;
    records_close(&k->r);
    safetensors_close(&k->recorded);
    if (k->there) ops->release(k->there);
    layout_free(&k->layout);
    free(k->params);
}

// ----------------------------------------------------------------------------
// against PyTorch

// Log-probs of the recorded completions, and the gradient of the dapo loss, each part of it under its record's name.
void tuning_outputs(ModelOutputs *all, const Ops *ops, const char *name) {
    TuningCase k;
    all->n = 0;
    if (!tuning_case_open(&k, ops, name)) return;
    const size_t n = records_trained(&k.r);
    const LossConfig loss_config = {0.2f, 0.28f, 0, 1, false, 0};
    float *gradient = (float *)xcalloc(n, sizeof(float));
    PolicyPass pass;
    policy_alloc(&pass, &k.r.model, 64 << 20, k.r.longest, k.lowest, true);
    records_pass(&k.r, &pass, k.params, &loss_config, gradient, true, "dapo", NULL, NULL);
    outputs_add_samples(all, "logprobs", &k.r, false);
    if (!k.r.model.layout) outputs_add(all, "grad", gradient, n);
    for (int i = 0; i < k.layout.n_tensors; i++) { // as make_tuning_records.py thins them out
        const ParamTensor *x = &k.layout.tensors[i];
        const size_t size = (size_t)x->rows * (size_t)(x->cols ? x->cols : 1), step = size <= 128 ? 1 : 37;
        float *sample = (float *)xmalloc(size * sizeof(float));
        char name_of[2][80];
        for (size_t j = 0; j < size; j += step) sample[j / step] = gradient[x->at + j];
        snprintf(name_of[0], sizeof name_of[0], "sample/%s", x->name);
        snprintf(name_of[1], sizeof name_of[1], "norm/%s", x->name);
        outputs_add(all, name_of[0], sample, (size + step - 1) / step);
        outputs_add_number(all, name_of[1], host_gradient_norm(gradient + x->at, size));
        free(sample);
    }
    for (int i = 0; i < k.r.L * N_PROJ; i++) {
        const LoraSite *site = layout_lora_site(k.r.model.layout, i / N_PROJ, (Projection)(i % N_PROJ));
        if (!site) continue;
        const int r = k.layout.lora_r;
        float *b = (float *)xmalloc((size_t)r * site->N * sizeof(float));
        transposed(b, gradient + site->b, r, site->N);
        outputs_add(all, factor_name("grad/", i / N_PROJ, i % N_PROJ, 'A').text, gradient + site->a,
                    (size_t)r * site->K);
        outputs_add(all, factor_name("grad/", i / N_PROJ, i % N_PROJ, 'B').text, b, (size_t)r * site->N);
        free(b);
    }
    policy_free(&pass, &k.r.model);
    free(gradient);
    tuning_case_close(&k);
}

void tuning_recorded(ModelOutputs *all, const ModelOutputs *like, const char *name) {
    SafeTensors st;
    Error err = {0, ""};
    all->n = 0;
    if (!CHECK(safetensors_open(&st, "dev/reference/tiny_tuning.safetensors", &err), "%s", err.text)) return;
    for (int i = 0; i < like->n; i++) {
        const RawTensor *t = tuning_record(&st, name, like->of[i].name, like->of[i].n);
        outputs_add(all, like->of[i].name, t ? (const float *)t->data : like->of[i].values, t ? like->of[i].n : 0);
    }
    safetensors_close(&st);
}

void test_tuning_records(const char *name) {
    ModelOutputs ref, rounded, found, recorded;
    char what[128];
    tuning_outputs(&ref, ops_ref_init(), name);
    tuning_recorded(&recorded, &ref, name);
    snprintf(what, sizeof what, "%s, ref against PyTorch", name);
    compare_outputs(what, &ref, &recorded, TOLERANCE_REF, TOLERANCE_REF);
    tuning_outputs(&rounded, rounded_ops(), name);
    const Ops *backends[TEST_BACKENDS];
    const int n = test_backends(backends);
    double worst = 0;
    for (int k = 0; k < n; k += n > 1 ? n - 1 : 1) { // the fastest of cpu, and cuda or the slowest
        if (!backends[k]->host_memory) {             // the last
            outputs_free(&rounded);
            tuning_outputs(&rounded, rounded_cuda_ops(), name);
        }
        tuning_outputs(&found, backends[k], name);
        snprintf(what, sizeof what, "%s, %s against rounded ref", name, backend_name(backends[k]).text);
        compare_outputs(what, &found, &rounded, TOLERANCE_PIECE, TOLERANCE_PIECE);
        for (int i = 0; i < found.n && i < recorded.n; i++) {
            const double e = output_error(&found.of[i], &recorded.of[i]),
                         allowed =
                             TOLERANCE_CPU_FACTOR * output_error(&rounded.of[i], &recorded.of[i]) + TOLERANCE_PIECE;
            CHECK(e <= allowed, "%s, %s against PyTorch: %s: relative error %.3g, allowed %.3g", name,
                  backend_name(backends[k]).text, found.of[i].name, e, allowed);
            if (e > worst) worst = e;
        }
        outputs_free(&found);
    }
    printf("%s: bf16 moves the tiny model's log-probs and gradients by at most %.2g of their size\n", name, worst);
    outputs_free(&ref);
    outputs_free(&rounded);
    outputs_free(&recorded);
}

// The rank-one adapter of an experiment, against the same pass in PyTorch that the interventions are held against.
void test_tuning_lora1(const Ops *ops, double tolerance) {
    Records r;
    SafeTensors st;
    ParamLayout layout;
    Error err = {0, ""};
    if (!records_open(&r, ops) ||
        !CHECK(safetensors_open(&st, "dev/reference/tiny_interventions.safetensors", &err), "%s", err.text))
        return;
    const ModelConfig *c = &r.model.config;
    float *a = (float *)xcalloc((size_t)c->L * c->I, sizeof(float)),
          *b = (float *)xcalloc((size_t)c->L * c->C, sizeof(float));
    CHECK(lora1_load(a, b, c, "data/tiny/lora1", &err), "%s", err.text);
    float *params = lora1_params(&layout, a, b, c);
    r.model.layout = &layout;
    const RawTensor *t = safetensors_find(&st, "lora");
    float *found = intervened(&r, params, NULL), *base = intervened(&r, NULL, NULL);
    if (CHECK(t && tensor_elements(t) == r.tokens, "record lora")) {
        const double error = relative_error(found, (const float *)t->data, (size_t)r.tokens),
                     off = relative_error(base, (const float *)t->data, (size_t)r.tokens);
        CHECK(error <= tolerance && off > 0.01,
              "%s, the adapter of rank one: %.2e from PyTorch, at most %.2e expected (without it %.2e)", ops->name,
              error, tolerance, off);
    }
    free(found);
    free(base);
    free(a);
    free(b);
    free(params);
    layout_free(&layout);
    safetensors_close(&st);
    records_close(&r);
}

// ----------------------------------------------------------------------------
// finite differences, bits

// d loss / d params on ref, in the direction of the gradient.
void test_tuning_finite_differences(const char *name) {
    TuningCase k;
    if (!tuning_case_open(&k, ops_ref_init(), name)) return;
    const size_t n = records_trained(&k.r);
    float *gradient = (float *)xcalloc(n, sizeof(float)), *scrap = (float *)xcalloc(n, sizeof(float)),
          *moved = (float *)xmalloc(n * sizeof(float));
    const LossConfig loss_config = {10, 10, 0, 1, false, 0};
    PolicyPass pass;
    policy_alloc(&pass, &k.r.model, 64 << 20, k.r.longest, k.lowest, true);
    records_pass(&k.r, &pass, k.params, &loss_config, gradient, true, "dapo", NULL, NULL);
    float *old = records_collect(&k.r, false);
    const double norm = host_gradient_norm(gradient, n), e = 5e-4;
    double loss[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++) moved[i] = (float)(k.params[i] + (side ? -e : e) * gradient[i] / norm);
        if (k.there) weights_from_params(&k.r.model.weights, &k.layout, moved, k.r.model.ops);
        loss[side] = records_pass(&k.r, &pass, moved, &loss_config, scrap, false, "dapo", old, NULL);
    }
    const double measured = (loss[0] - loss[1]) / (2 * e);
    CHECK(fabs(measured - norm) <= 2e-3 * norm, "%s: finite difference %.6g, the gradient's length is %.6g", name,
          measured, norm);
    free(old);
    free(gradient);
    free(scrap);
    free(moved);
    policy_free(&pass, &k.r.model);
    tuning_case_close(&k);
}

// Weights that go into the flat array and back are the same weights, to the bit; others are others.
void test_tuning_weights(const Ops *ops) {
    Records r;
    ParamLayout t;
    if (!records_open(&r, ops)) return;
    float *before = intervened(&r, NULL, NULL);
    layout_full(&t, &r.model.config);
    float *params = (float *)xmalloc(t.n * sizeof(float));
    params_from_weights(params, &t, &r.model.weights);
    for (int i = 0; i <= t.n_tensors; i++) { // i == 0: as they were; else tensor i-1 has another last number
        const size_t at = i ? (i < t.n_tensors ? t.tensors[i].at : t.n) - 1 : 0;
        if (i % 5 > 1) continue;
        const float was = params[at];
        if (i) params[at] = was + 1;
        float *there = to_backend(ops, params, t.n);
        weights_from_params(&r.model.weights, &t, there, ops);
        float *after = intervened(&r, NULL, NULL);
        const bool same = memcmp(before, after, (size_t)r.tokens * sizeof(float)) == 0;
        CHECK(same == (i == 0), "%s: weights %s: %s", backend_name(ops).text, i ? t.tensors[i - 1].name : "unchanged",
              i ? "nothing changed" : "the bits differ");
        free(after);
        from_backend(ops, NULL, there, t.n);
        params[at] = was;
    }
    free(before);
    free(params);
    records_close(&r);
    layout_free(&t);
}

// Vectors that are biases of down_proj in a model's files do what they do when they are added: log-probs, and the
// gradient of vectors on top.
void test_tuning_down_bias(const Ops *ops, double tolerance) {
    Records r;
    if (!records_open(&r, ops)) return;
    const size_t C = (size_t)r.C, LC = (size_t)r.L * C;
    const float *vectors = records_tensor(&r, "steering0", LC);
    float *zeros = (float *)xcalloc(LC, sizeof(float)), *gradient[3], *logprobs[3];
    const LossConfig loss_config = {0.2f, 0.28f, 0, 1, false, 0};
    PolicyPass pass;
    policy_alloc(&pass, &r.model, 64 << 20, r.longest, 0, true);
    for (int way = 0; way < 3; way++) { // added; neither; biases
        gradient[way] = (float *)xcalloc(LC, sizeof(float));
        for (int l = 0; l < r.L && way == 2; l++)
            r.model.weights.layers[l].linear[LINEAR_DOWN].bias = to_backend(ops, vectors + l * C, C);
        records_pass(&r, &pass, way ? zeros : vectors, &loss_config, gradient[way], true, "dapo", NULL, NULL);
        logprobs[way] = records_collect(&r, false);
    }
    const size_t n = (size_t)r.tokens;
    const double e = relative_error(logprobs[2], logprobs[0], n), eg = relative_error(gradient[2], gradient[0], LC),
                 off = relative_error(logprobs[1], logprobs[0], n);
    CHECK(e <= tolerance && eg <= tolerance && off > 10 * tolerance,
          "%s: biases of down_proj: log-probs %.3g, gradient %.3g off (at most %.3g); without them %.3g",
          backend_name(ops).text, e, eg, tolerance, off);
    for (int way = 0; way < 3; way++) {
        free(gradient[way]);
        free(logprobs[way]);
    }
    free(zeros);
    policy_free(&pass, &r.model);
    records_close(&r);
}

// The gradients of an embedding and of an output layer apart are together that of one matrix that is both; all others
// are the same.
void test_tuning_untied(const Ops *ops) {
    TuningCase k;
    if (!tuning_case_open(&k, ops, "full")) return;
    ModelConfig apart = k.r.model.config;
    ParamLayout untied;
    apart.tied = false;
    layout_full(&untied, &apart);
    const size_t n = k.layout.n, head = untied.tensors[untied.head].at, of_head = untied.n - head;
    CHECK(k.r.model.config.tied && k.layout.head == k.layout.wte && head == n && of_head == (size_t)k.r.V * k.r.C,
          "the output layer is not the last tensor");
    float *tied = (float *)xcalloc(n, sizeof(float)), *two = (float *)xcalloc(untied.n, sizeof(float)),
          *unread = (float *)xcalloc(untied.n, sizeof(float));
    const LossConfig loss_config = {0.2f, 0.28f, 0, 1, false, 0};
    PolicyPass pass;
    policy_alloc(&pass, &k.r.model, 64 << 20, k.r.longest, 0, true);
    records_pass(&k.r, &pass, unread, &loss_config, tied, true, "dapo", NULL, NULL);
    k.r.model.layout = &untied;
    records_pass(&k.r, &pass, unread, &loss_config, two, true, "dapo", NULL, NULL);
    CHECK(host_gradient_norm(two, of_head) > 0 && host_gradient_norm(two + head, of_head) > 0,
          "%s: a matrix has no gradient", ops->name);
    for (size_t i = 0; i < of_head; i++) two[i] += two[head + i];
    const double e = relative_error(two, tied, of_head);
    CHECK(e <= 1e-6, "%s: embedding and output layer apart: their gradients' sum is %.3g off", ops->name, e);
    CHECK(memcmp(two + of_head, tied + of_head, (n - of_head) * sizeof(float)) == 0,
          "%s: embedding and output layer apart: other gradients differ", ops->name);
    free(tied);
    free(two);
    free(unread);
    policy_free(&pass, &k.r.model);
    tuning_case_close(&k);
    layout_free(&untied);
}

// Sampled under a LoRA of every projection: the same tokens and log-probs whatever the slots, threads and order, in the
// packed pass too.
void test_tuning_invariance(const Ops *ops, const char *name) {
    TuningCase k;
    if (!tuning_case_open(&k, ops, name)) return;
    Qwen2 *m = &k.r.model;
    const BackendName backend_text = backend_name(ops);
    const char *backend = backend_text.text;
    const size_t n = records_trained(&k.r);
    const Sampling sampling = {1, 1, 0, 24, false, 5, 2};
    const int restore = omp_get_max_threads(), slots[3] = {64, 1, 7}, threads[3] = {2, 5, 1};
    RolloutCase first, other;
    for (int i = 0; i < 3; i++) {
        RolloutCase *c = i ? &other : &first;
        rollout_case_init(c, m->config.V);
        omp_set_num_threads(threads[i]);
        rollout_case_run(c, m, k.params, slots[i], i == 2, &sampling);
        if (i)
            CHECK(rollout_case_equal(&first, c), "%s, %s: %d slots, %d threads: tokens or log-probs differ", backend,
                  name, slots[i], threads[i]);
        if (i) rollout_case_free(c);
    }

    Error err = {0, ""};
    float *gradient[2];
    const LossConfig loss = {0.2f, 0.2f, 0, 1, false, 0};
    bool trained[64];
    for (int l = 0; l < m->config.L; l++) trained[l] = true;
    for (int way = 0; way < 2; way++) { // in a large batch and in small ones
        PolicySample samples[48];
        PolicyPass pass;
        PolicyStats stats;
        static float logprob[48][24];
        int count = 0, wrong = 0;
        memset(samples, 0, sizeof samples);
        memset(&stats, 0, sizeof stats);
        for (int i = 0; i < first.n; i++)
            for (int g = 0; g < first.G; g++, count++) {
                PolicySample s = {first.prompt[i],
                                  first.length[i],
                                  i,
                                  0,
                                  &first.completions[i][g],
                                  g % 2 ? -1.0f : 0.7f,
                                  0.01f,
                                  first.completions[i][g].logprob,
                                  NULL,
                                  logprob[count],
                                  NULL};
                samples[count] = s;
            }
        gradient[way] = (float *)xcalloc(n, sizeof(float));
        omp_set_num_threads(threads[way]);
        policy_alloc(&pass, m, way == 1 ? 1 : 64 << 20, 70, k.lowest, true);
        CHECK(policy_pass(&pass, m, k.params, samples, count, &loss, gradient[way], trained, &stats, &err), "%s",
              err.text);
        for (int i = 0; i < count; i++)
            wrong += memcmp(logprob[i], samples[i].completion->logprob,
                            (size_t)samples[i].completion->n * sizeof(float)) != 0;
        CHECK(wrong == 0,
              "%s, %s, way %d: %d of %d completions have another log-prob in the packed pass than when sampled",
              backend, name, way, wrong, count);
        policy_free(&pass, m);
    }
    const double off = relative_error(gradient[1], gradient[0], n),
                 allowed = strcmp(ops->name, "ref") == 0 ? 1e-5 : 5e-3; // as in test_model_accumulation
    CHECK(off <= allowed, "%s, %s: accumulated gradient differs by %.3g, allowed %.3g", backend, name, off, allowed);
    for (int way = 0; way < 2; way++) free(gradient[way]);
    omp_set_num_threads(restore);
    rollout_case_free(&first);
    check_parts(backend, &k.r, k.params, k.lowest);
    tuning_case_close(&k);
}

void test_tuning(void) {
    const Ops *backends[TEST_BACKENDS];
    const int n = test_backends(backends);
    for (int i = 0; i < TUNING_CASES; i++) test_tuning_records(tuning_cases[i]);
    test_tuning_finite_differences("lora_all");
    test_tuning_finite_differences("full");
    test_tuning_lora1(ops_ref_init(), TOLERANCE_REF);
    test_tuning_weights(ops_ref_init());
    test_tuning_untied(ops_ref_init());
    test_tuning_down_bias(ops_ref_init(), TOLERANCE_REF);
    test_tuning_invariance(ops_ref_init(), "lora_all");
    test_tuning_invariance(backends[0], "place_input_layernorm");
    for (int i = 0; i < n; i++) {
        test_tuning_lora1(backends[i], 2e-2);
        test_tuning_down_bias(backends[i], backends[i]->host_memory ? TOLERANCE_CPU : 2 * TOLERANCE_CPU);
        if (i == 0 || i == n - 1) test_tuning_weights(backends[i]);
        if (backends[i]->host_memory)
            test_tuning_invariance(backends[i],
                                   "lora_all"); // cuBLASLt chooses its kernel by shape: no promise about bits
    }
}

#endif
