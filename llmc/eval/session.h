/*
What every command of eval_steer works with: the options, the model, its tokenizer and the vectors or the LoRA that was
asked for.
*/
#ifndef LLMC_EVAL_SESSION_H
#define LLMC_EVAL_SESSION_H

#include "llmc/files/steering_file.h" // steering_load_site
#include "llmc/files/weights.h"       // qwen2_open, qwen2_load_weights
#include "llmc/device.h"              // ops_for_device
#include "llmc/generation.h"          // generation_begin
#include "llmc/grpo.h"                // PolicyPass
#include "llmc/memory/host.h"         // MemoryPlan, host_limits
#include "llmc/options/options.h"     // Options
#include "llmc/files/peft.h"          // peft_load
#include "llmc/rollout.h"             // Sampling
#include "llmc/tokenizer/tokenizer.h" // Tokenizer

// The largest that a command will allocate beside the model.
typedef struct SessionWork {
    int slots, max_prompt, max_new; // rollout; slots 0: none
    double cache_bytes;             // of the rollout's keys and values, 0: as much as they may need
    double answer_tokens;           // of the completions that are held at once, each with room for the longest
    int longest, samples;           // a pass over so many samples; longest 0: none
    double pass_bytes, pass_tokens; // what it may take for activations; tokens of all samples
    bool backward, for_tokens;      // for_tokens: it is that of save_tokens
    bool patched;                   // an experiment patches a layer (intervene.h)
    int lora_r;                     // of a LoRA that an experiment brings; 0: none
    int first_longest;              // of the first benchmark: tokens of the longest prompt with its completion,
    double first_tokens;            // of all of them
    // What an experiment allocates when its rollout has gone; NULL: nothing. It allocates on dry, which counts, and
    // returns the bytes of the host that no backend's alloc gives.
    size_t (*look)(const struct SessionWork *w, Qwen2 *dry);
} SessionWork;

// A model, its tokenizer and the vectors or the LoRA that was asked for.
typedef struct Session {
    Options options;
    Tokenizer *tokenizer;
    Qwen2 model;
    ParamLayout layout; // of a LoRA, or of vectors elsewhere than after the feed-forward: the model's
    float *steering;    // [L,C], or as layout says, in the backend's memory, NULL = base model
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
    if (!peft_load(&config, &s->layout, &numbers, &s->model.config, dir, err)) return false;
    s->steering = (float *)s->model.ops->alloc(s->layout.n * sizeof(float));
    s->model.ops->upload(s->steering, numbers, s->layout.n * sizeof(float));
    s->model.layout = &s->layout;
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
    const Place place = place_by_site(site);
    free(site);
    if (place == PLACE_MLP || s->experiment) return true;
    if (!s->model.ops->act_add_row)
        return fail(err, EXIT_USAGE,
                    "%s: the vectors belong after %s, which device %s cannot compute\n  -> --device cpu", path,
                    place_names[place].name, s->options.device);
    layout_steering(&s->layout, c, place);
    s->model.layout = &s->layout;
    return true;
}

// *device = what the session will take of the backend's memory beside the weights, *host = of the host's that no
// backend's alloc gives. Their parts MEMORY_LOOK come when the rollout has gone.
// *largest: what the operations will be asked for.
static void session_plan(const Session *s, MemoryPlan *device, MemoryPlan *host, LargestPass *largest) {
    const SessionWork *w = &s->work;
    const ModelConfig *c = &s->model.config;
    Qwen2 dry = s->model;
    const Ops counting = memory_counting(dry.ops);
    LargestPass most = {0, 0, w->slots, c->NH, c->NKV, c->HD, c->V, w->backward, false};
    dry.ops = &counting;
    if (w->longest > 0) {
        PolicyPass p;
        policy_alloc(&p, &dry, w->pass_bytes, w->longest, w->backward ? 0 : c->L, w->backward);
        most.T = p.rows;
        if (p.rows > w->pass_tokens) p.rows = (int)w->pass_tokens;
        policy_reserve(&p, &dry, w->samples, w->samples, w->longest);
        device->part[w->for_tokens ? MEMORY_TOKENS : MEMORY_ACTIVATIONS] = memory_counted();
        policy_free(&p, &dry);
    }
    float somewhere;
    Intervention patched;
    ParamLayout lora;
    memset(&patched, 0, sizeof patched);
    memset(&lora, 0, sizeof lora);
    patched.vector = &somewhere;
    lora.lora_r = w->lora_r;
    if (w->patched) dry.intervention = &patched;
    if (w->lora_r) dry.layout = &lora;
    if (w->slots > 0) {
        Rollout r;
        rollout_alloc(&r, &dry, w->slots, w->cache_bytes, w->max_prompt, w->max_new);
        if (most.T < r.scratch.T) most.T = r.scratch.T;
        device->part[MEMORY_CACHE] = memory_counted();
        rollout_free(&r, &dry);
    }
    host->part[MEMORY_ANSWERS] = (size_t)(w->answer_tokens * ANSWER_TOKEN_BYTES);
    host->part[MEMORY_LOOK] = w->look ? w->look(w, &dry) : 0;
    device->part[MEMORY_LOOK] = memory_counted();
    device->room = memory_room() + (s->model.ops->weight_bytes ? weights_room_planned(c, s->model.ops) : 0);
    most.n_sequences = 2 * most.T;
    if ((w->longest > 0 || w->look) && most.head_rows < HEAD_ROWS) most.head_rows = HEAD_ROWS;
    device->part[MEMORY_OWN] = s->model.ops->own_bytes ? s->model.ops->own_bytes(&most) : 0;
    device->part[MEMORY_MARGIN] = memory_margin(s->model.ops, c->L, device->room);
    *largest = most;
}

// The rollout and what an experiment looks at are never there together: the larger one counts.
static void session_larger(MemoryPlan *p) {
    const bool look = p->part[MEMORY_LOOK] > p->part[MEMORY_CACHE];
    p->part[look ? MEMORY_CACHE : MEMORY_LOOK] = 0;
}

// Whether model and work go into the memory of the device and of this machine; dir: the model's. False with what lowers
// it. Called before anything is allocated; where the size of weights is known when they are loaded, after that.
static bool session_memory(const Session *s, const char *dir, Error *err) {
    const Ops *ops = s->model.ops;
    MemoryPlan device, host;
    HostLimits limits;
    LargestPass largest;
    memset(&device, 0, sizeof device);
    memset(&host, 0, sizeof host);
    host_limits(&limits, "");
    session_plan(s, &device, &host, &largest);
    device.part[MEMORY_WEIGHTS] = qwen2_bytes(&s->model);
    if (ops->host_memory) {
        device.part[MEMORY_ANSWERS] = host.part[MEMORY_ANSWERS];
        device.part[MEMORY_LOOK] += host.part[MEMORY_LOOK];
        session_larger(&device);
        const size_t mapped = model_file_bytes(dir) - weights_plan(&s->model.config, ops).in_file;
        return host_memory_fits(&limits, &device, ops->name, 1, mapped, err);
    }
    const size_t numbers = !s->steering      ? 0
                           : s->model.layout ? s->layout.n
                                             : (size_t)s->model.config.L * s->model.config.C;
    size_t available;
    session_larger(&device);
    device.part[MEMORY_TRAINED] = numbers * sizeof(float); // is there already
    const size_t taken = ops->memory(&available);
    if (!memory_fits(&device, ops->name, taken, available, err) ||
        !host_memory_fits(&limits, &host, "cuda, memory of the host", 1, 0, err))
        return false;
    if (ops->reserve) ops->reserve(&largest);
    return true;
}

// The weights of the model that is open, from dir, once they and the session's work are known to fit.
bool session_weights(Session *s, const char *dir, Error *err) {
    const bool known = s->model.ops->weight_bytes != NULL;
    return (!known || session_memory(s, dir, err)) && qwen2_load_weights(&s->model, dir, err) &&
           (known || session_memory(s, dir, err));
}

// Loads the model for sequences of up to `positions` tokens, and the vectors or the LoRA of --steering or --checkpoint.
bool session_model(Session *s, int positions, Error *err) {
    const Options *o = &s->options;
    const Ops *ops = ops_for_device(o->device, err);
    const char *vectors = *o->steering ? o->steering : o->checkpoint;
    const bool whole = *vectors && model_is_folder(vectors); // setup full: a model of its own
    const char *dir = whole ? vectors : o->model;
    if (!ops) return false;
    if (s->experiment && !ops->mix_blocks)
        return fail(err, EXIT_USAGE,
                    "device %s lacks the operations that change the forward pass (llmc/intervene.h)\n  -> --device cpu",
                    o->device);
    if (!qwen2_open(&s->model, dir, positions, ops, err)) return false;
    if (*vectors && !whole &&
        !(peft_is_folder(vectors) ? session_adapter(s, vectors, err) : session_vectors(s, vectors, err)))
        return false;
    if (!session_weights(s, dir, err)) return false;
    const ModelConfig *c = &s->model.config;
    if (s->tokenizer && tokenizer_size(s->tokenizer) > c->V)
        return fail(err, EXIT_RUN, "%s: tokenizer.json has ids up to %d, the model's vocab_size is %d", o->model,
                    tokenizer_size(s->tokenizer) - 1, c->V);
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
    layout_free(&s->layout);
    cJSON_Delete(s->hashes);
    free(s->model_name);
    options_free(&s->options);
}

// The sampler's settings, from the options that every sampling command has.
Sampling session_sampling(const Options *o) {
    Sampling sampling = {
        (float)o->temperature, (float)o->top_p, o->top_k, o->max_completion_length, false, (uint32_t)o->seed, 0};
    return sampling;
}

#endif
