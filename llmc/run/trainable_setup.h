/*
What a run trains (trainable.h), around its steps: what it is called, where it begins, and how checkpoints are written
from it and read into it.
*/
#ifndef LLMC_RUN_TRAINABLE_SETUP_H
#define LLMC_RUN_TRAINABLE_SETUP_H

#include "llmc/files/peft.h"          // peft_load, peft_tensors
#include "llmc/files/steering_file.h" // steering_load
#include "llmc/files/weights.h"       // weights_find_raw
#include "llmc/trainable.h"           // Trainable
#include "llmc/utils/rng.h"           // rng_uniform

// ----------------------------------------------------------------------------
// names

// The folder of runs that train alike, and what must not change when one goes on: "steering_layer_3_12",
// "steering_rank_1", "lora_r4"; appended.
void trainable_folder(Str *out, const Options *o) {
    const char *kind = setup_kind(o->setup);
    str_printf(out, "%s", o->setup);
    if (strcmp(kind, "steering_at_place") == 0) str_printf(out, "_%s", o->place);
    for (int i = 0; i < o->layers.n; i++) str_printf(out, "_%d", o->layers.v[i]);
    if (strcmp(kind, "steering_rank") == 0) str_printf(out, "_%d", o->rank);
    if (strcmp(kind, "lora") == 0) str_printf(out, "_r%d", o->lora_r);
}

// The same for a fingerprint: with the settings that a folder's name leaves out; appended.
void trainable_shape(Str *out, const Trainable *t, const Options *o) {
    str_printf(out, "%s", o->setup);
    if (t->rank) str_printf(out, " of rank %d", t->rank);
    if (t->layout.place != PLACE_MLP) str_printf(out, " %s", o->place);
    if (t->layout.kind == PARAMS_LORA) {
        str_printf(out, " r %d alpha %g ", t->adapter.r, t->adapter.alpha);
        peft_target_names(out, t->adapter.targets);
    }
    if (strcmp(o->optimizer, "adamw") != 0) str_printf(out, ", %s", o->optimizer); // whose exp_avg is another
}

// For the run header: "552960 in LoRA of rank 4 on down of 24 layers"; appended.
void trainable_describe(Str *out, const Trainable *t) {
    int layers = 0;
    for (int l = 0; l < t->L; l++) layers += t->layers[l];
    if (t->rank)
        str_printf(out, "%zu: A [%d, %d] and B [%d, %d], whose product is %d vectors", t->n, t->L, t->rank, t->rank,
                   t->C, layers);
    else if (t->layout.kind == PARAMS_LORA) {
        str_printf(out, "%zu in LoRA of rank %d on ", t->n, t->adapter.r);
        peft_target_names(out, t->adapter.targets);
        str_printf(out, " of %d layers", layers);
    } else if (t->layout.kind == PARAMS_FULL) str_printf(out, "%zu, all weights", t->n);
    else str_printf(out, "%d in %d vectors after %s", layers * t->C, layers, place_names[t->layout.place].name);
}

FileTensor trainable_tensor(const char *name, int rows, int columns, float *data) {
    FileTensor t;
    memset(&t, 0, sizeof t);
    snprintf(t.name, sizeof t.name, "%s", name);
    t.rows = rows;
    t.columns = columns;
    t.data = data;
    return t;
}

// ----------------------------------------------------------------------------
// set-up

bool trainable_layers(Trainable *t, const Options *o, Error *err) {
    t->layers = (bool *)xcalloc((size_t)t->L, sizeof(bool));
    for (int l = 0; l < t->L && o->layers.n == 0; l++) t->layers[l] = true;
    for (int i = 0; i < o->layers.n; i++) {
        int l = o->layers.v[i];
        if (l >= t->L)
            return fail(err, EXIT_USAGE, "layers: found %d, the model has %d layers: expected 0 to %d", l, t->L,
                        t->L - 1);
        t->layers[l] = true;
    }
    return true;
}

// x[rows, columns] uniform in +- 1 / sqrt(columns): PEFT's A (kaiming_uniform_ with a = sqrt(5)). `which`: a stream of
// its own for each matrix.
void trainable_init_factor(float *x, int rows, int columns, uint32_t seed, uint32_t which) {
    const float bound = 1 / sqrtf((float)columns);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            x[(size_t)i * columns + j] =
                bound * (2 * rng_uniform(seed, RNG_INIT, which, (uint32_t)i, (uint32_t)j, 0) - 1);
}

// params[n], in the host's memory, = the weights as the model's files hold them, exactly.
void params_from_weights(float *params, const ParamLayout *t, const FrozenWeights *w) {
    for (int i = 0; i < t->n_tensors; i++) {
        const ParamTensor *x = &t->tensors[i];
        const RawTensor *raw = weights_find_raw(w, x->name); // weights_load has seen them all
        for (int row = 0; row < (x->cols ? x->rows : 1); row++) {
            const int n = x->cols ? x->cols : x->rows;
            raw_to_f32(params + x->at + (size_t)row * n, raw, (int64_t)row * n, n);
        }
    }
}

// Where the numbers begin (host[0]): at a file's, or so that the model is the base model.
bool trainable_start(Trainable *t, const ModelConfig *c, const Options *o, Error *err) {
    if (t->rank) trainable_init_factor(t->host[0], t->L, t->rank, (uint32_t)o->seed, 0);
    if (t->layout.kind == PARAMS_FULL) {
        if (weights_have_vectors(t->weights))
            return fail(err, EXIT_RUN,
                        "setup %s: the model has biases of down_proj, which are not among the weights that it trains "
                        "and saves\n  -> setup steering or lora, which train on top of them",
                        o->setup);
        params_from_weights(t->host[0], &t->layout, t->weights);
        weights_drop_pages(t->weights);
    }
    if (t->layout.kind != PARAMS_LORA) return !*o->init_steering || steering_load(t->host[0], c, o->init_steering, err);
    for (int i = 0; i < c->L * N_PROJ; i++) {
        const LoraSite *s = &t->layout.sites[i];
        if (s->K > 0) trainable_init_factor(t->host[0] + s->a, t->adapter.r, s->K, (uint32_t)o->seed, (uint32_t)i);
    }
    if (!*o->init_adapter) return true;
    PeftConfig found;
    ParamLayout layout;
    float *numbers;
    if (!peft_load(&found, &layout, &numbers, c, o->init_adapter, err)) return false;
    bool ok = found.r == t->adapter.r && found.alpha == t->adapter.alpha && layout.n == t->n &&
              memcmp(found.targets, t->adapter.targets, sizeof found.targets) == 0;
    if (ok) memcpy(t->host[0], numbers, t->n * sizeof(float));
    else {
        Str names = {0};
        peft_target_names(&names, found.targets);
        fail(err, EXIT_USAGE,
             "init_adapter %s: found r %d, lora_alpha %g, %s with %zu numbers, expected lora_r %d, lora_alpha %g and "
             "the same targets in all layers (%zu numbers)\n"
             "  -> set lora_r, lora_alpha and lora_target_modules to the adapter's",
             o->init_adapter, found.r, found.alpha, names.s, layout.n, t->adapter.r, t->adapter.alpha, t->n);
        str_free(&names);
    }
    layout_free(&layout);
    free(numbers);
    return ok;
}

// The layout: which matrices, of what rank.
bool trainable_layout(Trainable *t, const ModelConfig *c, const Options *o, Error *err) {
    layout_steering(&t->layout, c, place_by_name(o->place));
    t->n = t->layout.n;
    if (strcmp(setup_kind(o->setup), "steering_rank") == 0) {
        t->rank = o->rank;
        t->n = (size_t)t->rank * (c->L + c->C);
    }
    if (strcmp(setup_kind(o->setup), "full") == 0) {
        if (gguf_is_file(o->model))
            return fail(
                err, EXIT_USAGE,
                "setup %s: the model %s is a GGUF file, and whole weights are saved as a Hugging Face folder like "
                "the one they came from\n  -> --setup lora or steering, or a folder as --model",
                o->setup, o->model);
        layout_full(&t->layout, c);
        t->n = t->layout.n;
        if (t->n > INT_MAX)
            return fail(err, EXIT_USAGE, "setup %s: the model has %zu weights, expected at most %d\n  -> --setup lora",
                        o->setup, t->n, INT_MAX);
    }
    if (strcmp(setup_kind(o->setup), "lora") != 0) return true;
    t->adapter.r = o->lora_r;
    t->adapter.alpha = o->lora_alpha > 0 ? o->lora_alpha : o->lora_r;
    char *copy = xstrdup(o->lora_target_modules), *rest = copy, *name;
    bool ok = true;
    while (ok && (name = strsep(&rest, ",")) != NULL)
        ok = peft_add_target(t->adapter.targets, name, "lora_target_modules", err);
    free(copy);
    if (!ok) return false;
    layout_lora(&t->layout, c, t->adapter.r, (float)t->adapter.alpha, t->adapter.targets, NULL);
    t->n = t->layout.n;
    return true;
}

// The model has params.
void trainable_ready(Trainable *t) {
    if (t->rank) trainable_multiply(t);
    if (t->layout.kind == PARAMS_FULL) weights_from_params(t->weights, &t->layout, t->params, t->ops);
}

// What option setup makes of a model, without its numbers yet: trainable_alloc, then trainable_begin. Free with
// trainable_free (also after a failure). weights: the model's; full changes them and has them read t's numbers, so t
// stays where it is, and is freed after them.
bool trainable_init(Trainable *t, const Ops *ops, const ModelConfig *c, FrozenWeights *weights, const Options *o,
                    Error *err) {
    memset(t, 0, sizeof *t);
    t->ops = ops;
    t->weights = weights;
    t->L = c->L;
    t->C = c->C;
    if (!trainable_layout(t, c, o, err) || !trainable_layers(t, o, err)) return false;
    shard_init(&t->shard, ops, t->n, t->layout.kind == PARAMS_FULL);
    return true;
}

// The arrays in the backend's memory.
void trainable_alloc(Trainable *t, const Ops *ops) {
    float **all[4] = {&t->params, &t->grads, &t->exp_avg, &t->exp_avg_sq};
    for (int i = 0; i < 4; i++)
        *all[i] = (float *)ops->alloc((i < 2 ? shard_room(&t->shard) : t->shard.each) * sizeof(float));
    shard_alloc(&t->shard, ops);
    t->model_params = t->rank ? (float *)ops->alloc(t->layout.n * sizeof(float)) : t->params;
    t->model_grads = t->rank ? (float *)ops->alloc(t->layout.n * sizeof(float)) : t->grads;
}

// The host's copies are there from now on, zero where they are copies.
void trainable_stage(Trainable *t) {
    if (t->tensors) return;
    for (int i = 0; i < 3; i++) {
        const bool split = i > 0 && t->shard.split;
        if (t->ops->host_memory && !split) t->host[i] = trainable_array(t, i);
        else if (!split || dist.rank == 0) t->host[i] = (float *)xcalloc(shard_room(&t->shard), sizeof(float));
    }
    if (t->rank) t->host_model = (float *)xcalloc(t->layout.n, sizeof(float));
    if (t->layout.kind == PARAMS_LORA) t->tensors = peft_tensors(&t->layout, t->host[0], &t->n_tensors);
    else if (t->layout.kind == PARAMS_FULL) {
        t->tensors = (FileTensor *)xcalloc((size_t)t->layout.n_tensors, sizeof(FileTensor));
        for (int i = 0; i < t->layout.n_tensors; i++) {
            const ParamTensor *x = &t->layout.tensors[i];
            t->tensors[t->n_tensors++] = trainable_tensor(x->name, x->rows, x->cols, t->host[0] + x->at);
        }
    } else {
        t->tensors = (FileTensor *)xcalloc(3, sizeof(FileTensor));
        t->n_tensors = t->rank ? 3 : 1;
        t->tensors[0] = trainable_tensor("steering", t->L, t->C, t->rank ? t->host_model : t->host[0]);
        t->tensors[1] = trainable_tensor("steering_A", t->L, t->rank, t->host[0]);
        t->tensors[2] = trainable_tensor("steering_B", t->rank, t->C, t->host[0] + (size_t)t->L * t->rank);
    }
}

void trainable_free_host(Trainable *t) {
    for (int i = 0; i < 3; i++) {
        if (t->host[i] != trainable_array(t, i)) free(t->host[i]);
        t->host[i] = NULL;
    }
    free(t->host_model);
    free(t->tensors);
    t->host_model = NULL;
    t->tensors = NULL;
    t->n_tensors = 0;
}

// The copies may go until a checkpoint is written or read: of full they are 12 bytes a weight.
void trainable_unstage(Trainable *t) {
    if (t->layout.kind == PARAMS_FULL) trainable_free_host(t);
}

// Sets the numbers to where a run begins.
bool trainable_begin(Trainable *t, const ModelConfig *c, const Options *o, Error *err) {
    trainable_stage(t);
    if (!trainable_start(t, c, o, err)) return false;
    trainable_upload(t, 0);
    trainable_ready(t);
    trainable_unstage(t);
    return true;
}

// Rank 0's host copies = the numbers and the moments, of all ranks where they are split: then all ranks together.
void trainable_to_host(Trainable *t) {
    if (dist.rank > 0 && !t->shard.split) return;
    trainable_stage(t);
    for (int i = 0; i < 3; i++) {
        if (i > 0 && t->shard.split) shard_collect(&t->shard, t->host[i], trainable_array(t, i));
        else trainable_download(t, i);
    }
    if (t->rank) factors_product(t->host_model, t->host[0], t->host[0] + (size_t)t->L * t->rank, t->L, t->rank, t->C);
}

// The numbers, the moments and what the model reads = rank 0's host copies. All ranks together.
void trainable_from_host(Trainable *t) {
    trainable_stage(t);
    for (int i = 0; i < 3; i++) {
        if (t->shard.split) {
            shard_deal(&t->shard, trainable_array(t, i) + (i == 0 ? t->shard.first : 0), t->host[i]);
            continue;
        }
        dist_broadcast(t->host[i], t->n * sizeof(float));
        trainable_upload(t, i);
    }
    shard_share(&t->shard, t->params);
    trainable_ready(t);
}

// Gives back what trainable_alloc has taken, and the host's copies.
void trainable_release(Trainable *t) {
    trainable_free_host(t);
    shard_release(&t->shard);
    float *there[6] = {t->params,
                       t->grads,
                       t->exp_avg,
                       t->exp_avg_sq,
                       t->rank ? t->model_params : NULL,
                       t->rank ? t->model_grads : NULL};
    for (int i = 0; i < 6; i++)
        if (there[i]) t->ops->release(there[i]);
    t->params = t->grads = t->exp_avg = t->exp_avg_sq = t->model_params = t->model_grads = NULL;
}

void trainable_free(Trainable *t) {
    trainable_release(t);
    free(t->layers);
    layout_free(&t->layout);
    memset(t, 0, sizeof *t);
}

// The lowest layer that the gradient must reach.
int trainable_lowest(const Trainable *t) {
    int l = 0;
    while (!t->layers[l]) l++;
    return l;
}

// A checkpoint of the host's copies, of rank 0: as trainable_to_host has left them, or to be read into them,
// trainable_from_host then. Whoever is done with it calls trainable_unstage. What is not of the numbers is the
// caller's.
Checkpoint trainable_checkpoint(Trainable *t) {
    trainable_stage(t);
    const bool lora = t->layout.kind == PARAMS_LORA, full = t->layout.kind == PARAMS_FULL,
               flat = lora || full || t->rank;
    Checkpoint c;
    memset(&c, 0, sizeof c);
    c.whole_model = full;
    c.file = lora ? PEFT_WEIGHTS : full ? "model.safetensors" : "steering_vectors.safetensors";
    c.site = lora ? "LoRA" : full ? "all weights" : place_names[t->layout.place].site;
    c.adapter = lora ? &t->adapter : NULL;
    c.tensors = t->tensors;
    c.n_tensors = t->n_tensors;
    c.moments[0] = trainable_tensor("exp_avg", flat ? 1 : t->L, flat ? (int)t->n : t->C, t->host[1]);
    c.moments[1] = trainable_tensor("exp_avg_sq", flat ? 1 : t->L, flat ? (int)t->n : t->C, t->host[2]);
    return c;
}

#endif
