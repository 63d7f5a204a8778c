/*
The records of the tiny model: dev/reference/tiny_records.*, what transformers computed for it in fp64, as samples that
the trainer's policy takes. Used by the tests that compare with them or need a batch of real samples.
*/
#ifndef DEV_TEST_RECORDS_H
#define DEV_TEST_RECORDS_H

#include "dev/test/backends.h" // Ops
#include "dev/test/test.h"
#include "llmc/files/files.h"
#include "llmc/files/weights.h"
#include "llmc/grpo.h"

#define TINY_MODEL "data/tiny/model"

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
    if (t)
        for (int i = 0; i < t->ndim; i++) found *= (size_t)t->shape[i];
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
    bool ok = r->json && safetensors_open(&r->tensors, "dev/reference/tiny_records.safetensors", &err) &&
              qwen2_load(&r->model, TINY_MODEL, 512, ops, &err);
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

// The samples' outputs one after another.
float *records_collect(const Records *r, bool entropy) {
    float *all = (float *)xmalloc((size_t)r->tokens * sizeof(float));
    int at = 0;
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->completions[i].n; t++)
            all[at++] = entropy ? r->samples[i].entropy[t] : r->samples[i].logprob[t];
    return all;
}

// Sets advantages, weights of loss_type, and the old and reference log-probs (NULL: on-policy, what the last pass
// found).
void records_prepare(Records *r, const char *loss_type, const float *old, const float *ref) {
    int at = 0;
    double limit = strcmp(loss_type, "dr_grpo") == 0 ? records_number(r, "max_completion_length") : 0;
    for (int i = 0; i < r->n; i++) {
        PolicySample *s = &r->samples[i];
        int n = s->completion->n;
        s->advantage = r->advantages[i];
        s->weight = (float)(strcmp(loss_type, "dapo") == 0   ? 1.0 / r->tokens
                            : strcmp(loss_type, "grpo") == 0 ? 1.0 / (r->n * (double)n)
                                                             : 1.0 / (r->n * limit));
        if (!old) memcpy(s->completion->logprob, s->logprob, (size_t)n * sizeof(float));
        s->old_logprob = old ? old + at : s->completion->logprob;
        s->ref_logprob = ref ? ref + at : NULL;
        at += n;
    }
}

// Numbers of what is trained.
size_t records_trained(const Records *r) { return r->model.layout ? r->model.layout->n : (size_t)r->L * r->C; }

// One pass with gradient; the loss is returned, gradient[records_trained] overwritten. Log-probs come first, so that
// on-policy means it.
double records_pass(Records *r, PolicyPass *pass, const float *params, const LossConfig *loss_config, float *gradient,
                    bool on_policy, const char *loss_type, const float *old, const float *ref) {
    Error err = {0, ""};
    PolicyStats stats;
    bool trained[64];
    const size_t n = records_trained(r);
    float *s = to_backend(r->model.ops, params, n), *ds = to_backend(r->model.ops, gradient, n);
    for (int l = 0; l < r->L; l++) trained[l] = true;
    memset(&stats, 0, sizeof stats);
    if (on_policy) {
        CHECK(policy_pass(pass, &r->model, s, r->samples, r->n, loss_config, NULL, NULL, &stats, &err), "%s", err.text);
        old = NULL;
    }
    records_prepare(r, loss_type, old, ref);
    r->model.ops->zero(ds, n * sizeof(float));
    memset(&stats, 0, sizeof stats);
    CHECK(policy_pass(pass, &r->model, s, r->samples, r->n, loss_config, ds, trained, &stats, &err), "%s", err.text);
    from_backend(r->model.ops, gradient, ds, n);
    from_backend(r->model.ops, NULL, s, n);
    return policy_loss(r->samples, r->n, loss_config).loss;
}

#endif
