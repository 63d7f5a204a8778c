/*
What every command of eval_steer works with: the options, the model, its tokenizer and the vectors or the LoRA that was
asked for.
*/
#ifndef LLMC_EVAL_SESSION_H
#define LLMC_EVAL_SESSION_H

#include "llmc/model.h"               // model_name_from_dir, steering_load
#include "llmc/device.h"              // ops_for_device
#include "llmc/generation.h"          // generation_begin
#include "llmc/grpo.h"                // PolicyPass
#include "llmc/memory/host.h"         // MemoryPlan, host_limits
#include "llmc/options/options.h"     // Options
#include "llmc/files/peft.h"          // peft_load
#include "llmc/rollout.h"             // Sampling
#include "llmc/tokenizer/tokenizer.h" // Tokenizer

// The largest that a command will allocate beside the model: a rollout (slots 0: none), a pass (longest 0: none; of so
// many bytes).
typedef struct {
    int slots, max_prompt, max_new;
    int longest;
    double pass_bytes;
    bool backward;
} SessionWork;

// A model, its tokenizer and the vectors or the LoRA that was asked for.
typedef struct Session {
    Options options;
    Tokenizer *tokenizer;
    Qwen2 model;
    Tuning tuning;      // of a LoRA: the model's
    Intervention place; // of vectors that were trained elsewhere than behind the feed-forward: the model's
    float *steering;    // [L,C], or as tuning says, in the backend's memory, NULL = base model
    float *vectors;     // [L,C] the same on the host; NULL of a LoRA
    char *model_name;
    cJSON *hashes;                       // of the model, the vectors and the program, once asked for (made_with.h)
    SessionWork work;                    // set before session_model
    const struct Experiment *experiment; // which one `experiment NAME` asks for (experiments.h)
} Session;

bool session_tokenizer(Session *s, Error *err) {
    s->tokenizer = model_dir_check(s->options.model, err) ? tokenizer_load(s->options.model, err) : NULL;
    return s->tokenizer != NULL;
}

// The LoRA of a folder, for the model.
bool session_adapter(Session *s, const char *dir, Error *err) {
    PeftConfig config;
    float *numbers;
    if (s->experiment)
        return fail(err, EXIT_USAGE,
                    "%s is a LoRA, and experiments are about vectors\n  -> a checkpoint of setup steering; lora1_plots "
                    "takes its LoRA by --adapter",
                    dir);
    if (!peft_load(&config, &s->tuning, &numbers, &s->model.config, dir, err)) return false;
    s->steering = (float *)s->model.ops->alloc(s->tuning.n * sizeof(float));
    s->model.ops->upload(s->steering, numbers, s->tuning.n * sizeof(float));
    s->model.tuning = &s->tuning;
    free(numbers);
    return true;
}

// The vectors of a file or folder; where they were trained elsewhere in their layer, there they are added (experiments
// have an option for that).
bool session_vectors(Session *s, const char *path, Error *err) {
    const ModelConfig *c = &s->model.config;
    const size_t bytes = (size_t)c->L * c->C * sizeof(float);
    char *site = NULL;
    s->vectors = (float *)xcalloc((size_t)c->L * c->C, sizeof(float));
    if (!steering_load_site(s->vectors, &site, c, path, err)) return false;
    s->steering = (float *)s->model.ops->alloc(bytes);
    s->model.ops->upload(s->steering, s->vectors, bytes);
    s->place.place = place_by_site(site);
    free(site);
    if (s->place.place == PLACE_MLP || s->experiment) return true;
    if (!s->model.ops->act_add_row)
        return fail(err, EXIT_USAGE,
                    "%s: the vectors belong behind %s, which device %s cannot compute\n  -> --device cpu", path,
                    place_names[s->place.place].name, s->options.device);
    s->model.intervention = &s->place;
    return true;
}

// Whether model and work go into this machine's memory; dir: the model's. False with what lowers it, and nothing is
// allocated yet.
static bool session_memory(const Session *s, const char *dir, Error *err) {
    const SessionWork *w = &s->work;
    Qwen2 dry = s->model;
    MemoryPlan plan;
    memset(&plan, 0, sizeof plan);
    if (!dry.ops->weight_bytes) return true;
    plan.part[MEMORY_WEIGHTS] = qwen2_bytes(&dry);
    const Ops counting = memory_counting(dry.ops);
    dry.ops = &counting;
    if (w->slots > 0) {
        Rollout r;
        rollout_alloc(&r, &dry, w->slots, 0, w->max_prompt, w->max_new);
        plan.part[MEMORY_CACHE] = memory_counted();
        rollout_free(&r, &dry);
    }
    if (w->longest > 0) {
        PolicyPass p;
        policy_alloc(&p, &dry, w->pass_bytes, w->longest, w->backward ? 0 : dry.config.L, w->backward);
        plan.part[MEMORY_ACTIVATIONS] = memory_counted();
        policy_free(&p, &dry);
    }
    HostLimits limits;
    host_limits(&limits, "");
    return host_memory_fits(&limits, &plan, dry.ops->name, 1, model_file_bytes(dir), err);
}

// Loads the model for sequences of up to `positions` tokens, and the vectors or the LoRA of --steering or --checkpoint.
bool session_model(Session *s, int positions, Error *err) {
    const Options *o = &s->options;
    const Ops *ops = ops_for_device(o->device, err);
    const char *vectors = *o->steering ? o->steering : o->checkpoint;
    const bool whole = *vectors && model_is_folder(vectors); // setup full: a model of its own
    const char *dir = whole ? vectors : o->model;
    if (!ops || !qwen2_open(&s->model, dir, positions, ops, err) || !session_memory(s, dir, err) ||
        !qwen2_load_weights(&s->model, dir, err))
        return false;
    if (s->experiment && !ops->mix_blocks)
        return fail(err, EXIT_USAGE,
                    "device %s lacks the operations that change the forward pass (llmc/intervene.h)\n  -> --device cpu",
                    o->device);
    const ModelConfig *c = &s->model.config;
    if (s->tokenizer && tokenizer_size(s->tokenizer) > c->V)
        return fail(err, EXIT_RUN, "%s: tokenizer.json has ids up to %d, the model's vocab_size is %d", o->model,
                    tokenizer_size(s->tokenizer) - 1, c->V);
    if (*vectors && !whole &&
        !(peft_is_folder(vectors) ? session_adapter(s, vectors, err) : session_vectors(s, vectors, err)))
        return false;
    s->model_name = *o->model_name ? xstrdup(o->model_name) : model_name_from_dir(o->model);
    return true;
}

// As session_model, for commands that sample. raw: the prompts have no template.
bool session_sampler(Session *s, int positions, bool raw, Error *err) {
    const Options *o = &s->options;
    return session_model(s, positions, err) &&
           generation_begin(&s->model.config, s->tokenizer, o->model, o->stop, o->prompt_template, raw, err);
}

void session_free(Session *s) {
    if (s->tokenizer) tokenizer_free(s->tokenizer);
    if (s->steering) s->model.ops->release(s->steering);
    if (s->model.ops) qwen2_free(&s->model);
    free(s->vectors);
    tuning_free(&s->tuning);
    cJSON_Delete(s->hashes);
    free(s->model_name);
    options_free(&s->options);
}

// The sampler's settings, from the options that every sampling command has.
Sampling session_sampling(const Options *o) {
    Sampling how = {
        (float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false, (uint32_t)o->seed, 0};
    return how;
}

#endif
