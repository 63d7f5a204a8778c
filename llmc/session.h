/*
What every command of eval_steer works with: the options, the model, its tokenizer and the vectors that were asked for.
*/
#ifndef LLMC_SESSION_H
#define LLMC_SESSION_H

#include "model.h"     // model_name_from_dir, steering_load
#include "device.h"     // ops_for_device
#include "options.h"    // Options
#include "rollout.h"    // Sampling
#include "tokenizer.h"  // Tokenizer

// A model, its tokenizer and the vectors that were asked for.
typedef struct Session {
    Options options;
    Tokenizer *tokenizer;
    Qwen2 model;
    float *steering; // [L,C] in the backend's memory, NULL = base model
    float *vectors;  // [L,C] the same on the host
    char *model_name;
    const struct Experiment *experiment; // which one `experiment NAME` asks for (experiments.h)
} Session;

bool session_tokenizer(Session *s, Error *err) {
    s->tokenizer = tokenizer_load(s->options.model, err);
    return s->tokenizer != NULL;
}

// Loads the model for sequences of up to `positions` tokens, and the vectors of --steering or --checkpoint.
bool session_model(Session *s, int positions, Error *err) {
    const Options *o = &s->options;
    const Ops *ops = ops_for_device(o->device, err);
    if (!ops || !qwen2_load(&s->model, o->model, positions, ops, err)) return false;
    if (s->experiment && !ops->mix_blocks)
        return fail(err, EXIT_USAGE, "device %s lacks the operations that change the forward pass (llmc/intervene.h)\n  -> --device cpu", o->device);
    const ModelConfig *c = &s->model.config;
    if (s->tokenizer && tokenizer_size(s->tokenizer) > c->V)
        return fail(err, EXIT_RUN, "%s: tokenizer.json has ids up to %d, the model's vocab_size is %d", o->model, tokenizer_size(s->tokenizer) - 1, c->V);
    const char *vectors = *o->steering ? o->steering : o->checkpoint;
    if (*vectors) {
        s->vectors = (float *)xcalloc((size_t)c->L * c->C, sizeof(float));
        if (!steering_load(s->vectors, c, vectors, err)) return false;
        s->steering = steering_load_there(c, vectors, ops, err);
        if (!s->steering) return false;
    }
    s->model_name = *o->model_name ? xstrdup(o->model_name) : model_name_from_dir(o->model);
    return true;
}

void session_free(Session *s) {
    if (s->tokenizer) tokenizer_free(s->tokenizer);
    if (s->steering) s->model.ops->release(s->steering);
    if (s->model.ops) qwen2_free(&s->model);
    free(s->vectors);
    free(s->model_name);
    options_free(&s->options);
}

// The sampler's settings, from the options that every sampling command has.
Sampling session_sampling(const Options *o) {
    Sampling how = {(float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false, (uint32_t)o->seed, 0};
    return how;
}

#endif
