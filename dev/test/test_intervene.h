/*
What each intervention means, to the bit: log-probs under it against log-probs of the plain model with vectors that must
come to the same. On ref and on the best level of cpu; scored in one forward pass and decoded token by token with the
cache.
*/
#ifndef DEV_TEST_TEST_INTERVENE_H
#define DEV_TEST_TEST_INTERVENE_H

#include "dev/test/records.h" // Records
#include "dev/test/test.h"
#include "llmc/experiments/experiments.h" // vectors_scale, vectors_pair
#include "llmc/experiments/patch.h"       // intervention_patch, variant_heads

// Log-probs of the recorded completions under steering (NULL: base) and intervention (NULL: none). Free with free().
float *intervened(Records *r, const float *steering, const Intervention *v) {
    Error err = {0, ""};
    PolicyPass pass;
    PolicyStats stats;
    LossConfig loss_config = {0.2f, 0.2f, 0, 1, false, 0};
    memset(&stats, 0, sizeof stats);
    r->model.intervention = v;
    float *there = to_backend(r->model.ops, steering, records_trained(r));
    policy_alloc(&pass, &r->model, 64 << 20, r->longest, r->L, false);
    CHECK(policy_pass(&pass, &r->model, there, r->samples, r->n, &loss_config, NULL, NULL, &stats, &err), "%s",
          err.text);
    policy_free(&pass, &r->model);
    from_backend(r->model.ops, NULL, there, 0);
    r->model.intervention = NULL;
    return records_collect(r, false);
}

// Same bits (or, with `same` false, not the same).
void check_intervened(Records *r, bool same, const char *what, const float *steering, const Intervention *v,
                      const float *steering2, const Intervention *v2) {
    float *a = intervened(r, steering, v), *b = intervened(r, steering2, v2);
    bool equal = memcmp(a, b, (size_t)r->tokens * sizeof(float)) == 0;
    CHECK(equal == same, "%s, %s: %s", r->model.ops->name, what, same ? "the bits differ" : "nothing changed");
    free(a);
    free(b);
}

// The patched layer: vector s of layer L-2 lifted out and put into the input of layer L-1.
void test_intervene_patches(Records *r, const float *vectors) {
    const ModelConfig *c = &r->model.config;
    const Ops *ops = r->model.ops;
    const int NH = c->NH, NKV = c->NKV, C = c->C, L = c->L;
    const float *s = vectors + (size_t)(L - 2) * C;
    float *below = (float *)xcalloc((size_t)L * C, sizeof(float)),
          *last = (float *)xcalloc((size_t)L * C, sizeof(float));
    memcpy(below + (size_t)(L - 2) * C, s, (size_t)C * sizeof(float));
    memcpy(last + (size_t)(L - 1) * C, s, (size_t)C * sizeof(float));
    Intervention a, b;
    unsigned char ones[64];
    memset(ones, 1, sizeof ones);

    intervention_patch(&a, ops, "no_patch", 0, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, true, "no_patch is the vector at layer L-2", NULL, &a, below, NULL);
    intervention_patch(&b, ops, "steer_head", 1, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, false, "Steer-Head 1 is not no_patch", NULL, &b, NULL, &a);
    ops->zero(b.plain_heads, (size_t)NH);
    check_intervened(r, true, "Steer-Head of all heads is no_patch", NULL, &b, NULL, &a);
    intervention_free(&b, ops);
    for (int path = PATH_RESIDUAL; path <= PATH_MLP; path++) {
        intervention_patch(&b, ops, "no_patch", 0, s, L - 1, (PatchPath)path, NH, NKV, C);
        check_intervened(r, true, "no_patch on one path is no_patch", NULL, &b, NULL, &a);
        intervention_free(&b, ops);
    }
    intervention_free(&a, ops);

    intervention_patch(&a, ops, "skip_layer", 0, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, true, "Skip-Layer is adding before the final norm", NULL, &a, last, NULL);
    intervention_free(&a, ops);
    intervention_patch(&a, ops, "base", 0, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, true, "base is the base model", NULL, &a, NULL, NULL);
    intervention_free(&a, ops);

    intervention_patch(&a, ops, "skip_attn", 0, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, false, "Skip-Attn is not the base model", NULL, &a, NULL, NULL);
    intervention_patch(&b, ops, "skip_head", 2, s, L - 1, PATH_BOTH, NH, NKV, C);
    check_intervened(r, false, "Skip-Head 2 is not Skip-Attn", NULL, &b, NULL, &a);
    ops->upload(b.plain_heads, ones, (size_t)NH);
    check_intervened(r, true, "Skip-Head of all heads is Skip-Attn", NULL, &b, NULL, &a);
    ops->zero(b.plain_heads, (size_t)NH);
    ops->upload(b.plain_qkv, ones, (size_t)(NH + 2 * NKV));
    check_intervened(r, true, "an attention that sees plain q, k and v is Skip-Attn", NULL, &b, NULL, &a);
    intervention_free(&b, ops);

    // the residual path alone and the MLP path alone are two different things
    Intervention residual, mlp;
    intervention_patch(&residual, ops, "skip_attn", 0, s, L - 1, PATH_RESIDUAL, NH, NKV, C);
    intervention_patch(&mlp, ops, "skip_attn", 0, s, L - 1, PATH_MLP, NH, NKV, C);
    check_intervened(r, false, "Skip-Attn on the residual path is not Skip-Attn", NULL, &residual, NULL, &a);
    check_intervened(r, false, "Skip-Attn on the MLP path is not Skip-Attn", NULL, &mlp, NULL, &a);
    check_intervened(r, false, "Skip-Attn on the two paths differs", NULL, &residual, NULL, &mlp);
    intervention_free(&residual, ops);
    intervention_free(&mlp, ops);
    intervention_free(&a, ops);

    // q, k and v heads: what the one variant leaves plain the other steers
    const char *kinds[] = {"q", "k", "v", "kv"};
    for (int i = 0; i < 4; i++) {
        char skip[16], steer[16];
        snprintf(skip, sizeof skip, "skip_%s", kinds[i]);
        snprintf(steer, sizeof steer, "steer_%s", kinds[i]);
        intervention_patch(&a, ops, skip, 1, s, L - 1, PATH_BOTH, NH, NKV, C);
        intervention_patch(&b, ops, steer, 1, s, L - 1, PATH_BOTH, NH, NKV, C);
        int opposite = 0;
        unsigned char of_a[64], of_b[64];
        ops->download(of_a, a.plain_qkv, (size_t)(NH + 2 * NKV));
        ops->download(of_b, b.plain_qkv, (size_t)(NH + 2 * NKV));
        for (int k = 0; k < NH + 2 * NKV; k++) opposite += of_a[k] != of_b[k];
        CHECK(opposite == NH + 2 * NKV, "%s and %s share %d heads", skip, steer, NH + 2 * NKV - opposite);
        check_intervened(r, false, skip, NULL, &a, below, NULL);
        intervention_free(&a, ops);
        intervention_free(&b, ops);
    }
    free(below);
    free(last);
}

// Places and a replaced position, where they must come to nothing or to the plain vector.
void test_intervene_others(Records *r, const float *vectors) {
    const ModelConfig *c = &r->model.config;
    const Ops *ops = r->model.ops;
    const size_t LC = (size_t)c->L * c->C;
    float *zero = (float *)xcalloc(LC, sizeof(float));
    Intervention v;
    memset(&v, 0, sizeof v);
    check_intervened(r, true, "an empty intervention is none", vectors, &v, vectors, NULL);
    float *usual = intervened(r, vectors, NULL);
    for (int place = PLACE_SELF_ATTN; place < N_PLACES; place++) {
        ParamLayout layout;
        layout_steering(&layout, c, (Place)place);
        r->model.layout = &layout;
        check_intervened(r, true, "zeros at another place are the base model", zero, NULL, NULL, NULL);
        check_intervened(r, false, "vectors at another place are not the base model", vectors, NULL, NULL, NULL);
        float *placed = intervened(r, vectors, NULL);
        CHECK(memcmp(placed, usual, (size_t)r->tokens * sizeof(float)) != 0, "%s: vectors at %s are as after the MLP",
              ops->name, place_names[place].name);
        free(placed);
        r->model.layout = NULL;
    }
    free(usual);
    v.put = intervention_floats(ops, vectors, (size_t)c->C);
    v.put_layer = c->L - 1; // after the last layer no other position sees it
    v.put_pos = 1 << 20;
    check_intervened(r, true, "a position that no sequence has is not replaced", vectors, &v, vectors, NULL);
    v.put_pos = 3;
    v.put_layer = 0;
    check_intervened(r, false, "a position is replaced", vectors, &v, vectors, NULL);
    intervention_free(&v, ops);
    free(zero);
}

// Decoding with the cache finds the bits that one forward pass finds, whatever is patched.
void test_intervene_decoding(Records *r, const float *vectors) {
    const ModelConfig *c = &r->model.config;
    const float *s = vectors + (size_t)(c->L - 2) * c->C;
    const char *names[] = {"no_patch", "skip_attn", "skip_head", "steer_kv"};
    for (int i = 0; i < 4; i++) {
        for (int path = PATH_BOTH; path <= PATH_MLP; path++) {
            Intervention v;
            Error err = {0, ""};
            intervention_patch(&v, r->model.ops, names[i], 1, s, c->L - 1, (PatchPath)path, c->NH, c->NKV, c->C);
            r->model.intervention = &v;
            Rollout rollout_memory;
            Completion completions[6];
            RolloutPrompt prompts[2];
            for (int p = 0; p < 2; p++) {
                const PolicySample *from = &r->samples[p ? r->n - 1 : 0];
                RolloutPrompt asked = {from->prompt, from->P, (uint32_t)p, completions + 3 * p};
                prompts[p] = asked;
            }
            Sampling sampling = {1, 1, 0, 40, false, 5, 0};
            rollout_alloc(&rollout_memory, &r->model, 4, 0, r->longest, 40);
            bool ok = CHECK(rollout(&rollout_memory, &r->model, NULL, prompts, 2, 3, &sampling, NULL, NULL, &err), "%s",
                            err.text);
            PolicySample samples[6];
            PolicyPass pass;
            PolicyStats stats;
            LossConfig loss = {0.2f, 0.2f, 0, 1, false, 0};
            float found[6][40];
            memset(samples, 0, sizeof samples);
            memset(&stats, 0, sizeof stats);
            for (int k = 0; k < 6 && ok; k++) {
                samples[k].prompt = prompts[k / 3].prompt;
                samples[k].P = prompts[k / 3].P;
                samples[k].group = k / 3;
                samples[k].completion = &completions[k];
                samples[k].logprob = found[k];
            }
            policy_alloc(&pass, &r->model, 64 << 20, r->longest + 40, c->L, false);
            ok = ok && CHECK(policy_pass(&pass, &r->model, NULL, samples, 6, &loss, NULL, NULL, &stats, &err), "%s",
                             err.text);
            int different = 0;
            for (int k = 0; k < 6 && ok; k++)
                different += memcmp(found[k], completions[k].logprob, (size_t)completions[k].n * sizeof(float)) != 0;
            CHECK(different == 0,
                  "%s, %s, path %d: %d of 6 completions have other log-probs when scored than when sampled",
                  r->model.ops->name, names[i], path, different);
            for (int k = 0; k < 6 && ok; k++) completion_free(&completions[k]);
            policy_free(&pass, &r->model);
            rollout_free(&rollout_memory, &r->model);
            r->model.intervention = NULL;
            intervention_free(&v, r->model.ops);
        }
    }
}

void test_intervene_vectors(Records *r, const float *vectors) {
    const int L = r->L, C = r->C;
    const size_t LC = (size_t)L * C;
    float *a = (float *)xcalloc(LC, sizeof(float)), *b = (float *)xcalloc(LC, sizeof(float)),
          *zero = (float *)xcalloc((size_t)C, sizeof(float));
    vectors_scale(a, vectors, 0, LC);
    check_intervened(r, true, "magnitude 0 is the base model", a, NULL, NULL, NULL);
    vectors_scale(a, vectors, 1, LC);
    check_intervened(r, true, "magnitude 1 is the steered model", a, NULL, vectors, NULL);
    vectors_scale(a, vectors, 1.01, LC);
    check_intervened(r, false, "magnitude 1.01 is not", a, NULL, vectors, NULL);
    for (int i = 0; i < L; i++) {
        memset(b, 0, LC * sizeof(float));
        memcpy(b + (size_t)i * C, vectors + (size_t)i * C, (size_t)C * sizeof(float));
        vectors_pair(a, vectors, i, i, L, C);
        check_intervened(r, true, "the pair (i, i) is the single vector i", a, NULL, b, NULL);
        vectors_pair(a, vectors, i, (i + 1) % L, L, C);
        for (int l = 0; l < L; l++) {
            const float *expected = l == i || l == (i + 1) % L ? vectors + (size_t)l * C : zero;
            CHECK(memcmp(a + (size_t)l * C, expected, (size_t)C * sizeof(float)) == 0, "row %d of the pair (%d, %d)", l,
                  i, (i + 1) % L);
        }
        check_intervened(r, false, "the pair (i, i + 1) is not", a, NULL, b, NULL);
    }
    free(a);
    free(b);
    free(zero);
}

// The intervention that a record's name says (dev/reference/make_interventions.py); *steering = vectors to run with,
// NULL for none, and *layout where they are added.
void record_intervention(Intervention *v, const float **steering, ParamLayout *layout, const char *name,
                         const Records *r, const float *vectors, const float *soft) {
    const ModelConfig *c = &r->model.config;
    char copy[96], *rest = copy, *part[4] = {copy, copy, copy, copy};
    snprintf(copy, sizeof copy, "%s", name);
    for (int i = 0; i < 4 && rest; i++) part[i] = strsep(&rest, "/");
    memset(v, 0, sizeof *v);
    *steering = NULL;
    layout_steering(layout, c, PLACE_MLP);
    if (strcmp(part[0], "place") == 0) {
        layout_steering(layout, c, place_by_name(part[1]));
        *steering = soft;
    } else if (strcmp(part[0], "patch") == 0) {
        PatchPath path = strcmp(part[3], "residual") == 0 ? PATH_RESIDUAL
                         : strcmp(part[3], "mlp") == 0    ? PATH_MLP
                                                          : PATH_BOTH;
        intervention_patch(v, r->model.ops, part[1], atoi(part[2]), vectors + (size_t)(c->L - 2) * c->C, c->L - 1, path,
                           c->NH, c->NKV, c->C);
    } else {
        v->put = intervention_floats(r->model.ops, vectors, (size_t)c->C);
        v->put_layer = atoi(part[1]);
        v->put_pos = atoi(part[2]);
    }
}

// Against a forward pass written out in PyTorch, in double. ref within TOLERANCE_REF. cpu rounds to bf16 at the same
// places as in the plain model, so it may be three times as far from PyTorch as the plain model is: vectors at odd
// places make some answers unlikely, and log-probs steeper. A wrong head is off by more than that on ref alone, which
// has no such excuse.
void test_intervene_records(Records *r, const float *vectors, double cpu_limit) {
    SafeTensors st;
    Error err = {0, ""};
    if (!CHECK(safetensors_open(&st, "dev/reference/tiny_interventions.safetensors", &err), "%s", err.text)) return;
    const size_t LC = (size_t)r->L * r->C;
    float *soft = (float *)xcalloc(LC, sizeof(float));
    vectors_scale(soft, vectors, 0.3, LC);
    double worst = 0;
    CHECK(st.n >= 30, "%d recorded interventions", st.n);
    for (int i = 0; i < st.n; i++) {
        Intervention v;
        const float *steering;
        ParamLayout layout;
        if (strcmp(st.tensors[i].name, "lora") == 0) continue; // test_tuning.h
        if (!r->model.ops->host_memory && strncmp(st.tensors[i].name, "patch", 5) == 0 && i % 6)
            continue; // cuda may be emulated, which is slow
        record_intervention(&v, &steering, &layout, st.tensors[i].name, r, vectors, soft);
        r->model.layout = &layout;
        float *found = intervened(r, steering, &v);
        r->model.layout = NULL;
        double error = relative_error(found, (const float *)st.tensors[i].data, (size_t)r->tokens);
        CHECK(error <= cpu_limit, "%s, %s: %.2e from PyTorch, at most %.2e expected", r->model.ops->name,
              st.tensors[i].name, error, cpu_limit);
        if (error > worst) worst = error;
        free(found);
        intervention_free(&v, r->model.ops);
    }
    printf("interventions: limit %.1e, %s is at most %.1e from PyTorch\n", cpu_limit, r->model.ops->name, worst);
    free(soft);
    safetensors_close(&st);
}

void test_intervene(void) {
    Error err = {0, ""};
    const Ops *backends[2] = {ops_ref_init(), ops_cpu_init(&err)};
    const Ops *all[TEST_BACKENDS];
    const int last = test_backends(all) - 1;
    CHECK(variant_heads("skip_head", 6, 2) == 6 && variant_heads("steer_kv", 6, 2) == 2 &&
              variant_heads("skip_layer", 6, 2) == 0 && variant_heads("skip", 6, 2) == -1,
          "variant_heads");
    for (int i = 0; i < 2 && backends[i]; i++) {
        Records r;
        if (!records_open(&r, backends[i])) continue;
        float *vectors = (float *)xmalloc((size_t)r.L * r.C * sizeof(float));
        if (CHECK(steering_load(vectors, &r.model.config, "data/tiny/vectors/layers.safetensors", &err), "%s",
                  err.text)) {
            float *plain = intervened(&r, NULL, NULL);
            const float *recorded = records_tensor(&r, "ref_logprobs", (size_t)r.tokens);
            double plain_error = recorded ? relative_error(plain, recorded, (size_t)r.tokens) : 0;
            free(plain);
            test_intervene_records(&r, vectors, i == 0 ? TOLERANCE_REF : 3 * plain_error);
            test_intervene_vectors(&r, vectors);
            test_intervene_patches(&r, vectors);
            test_intervene_others(&r, vectors);
            test_intervene_decoding(&r, vectors);
        }
        free(vectors);
        records_close(&r);
    }
    const Ops *other = all[last]; // cuda chooses its products by shape: no bits to compare, but it must mean the same
    Records r;
    if (other->host_memory || !other->mix_blocks || !records_open(&r, other)) return;
    float *vectors = (float *)xcalloc((size_t)r.L * r.C, sizeof(float));
    if (CHECK(steering_load(vectors, &r.model.config, "data/tiny/vectors/layers.safetensors", &err), "%s", err.text))
        test_intervene_records(&r, vectors, 2e-2);
    free(vectors);
    records_close(&r);
}

#endif
