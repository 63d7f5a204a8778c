/*
What is trained, by option `setup`. However it is shaped, it is one flat array of floats, `params`, and its gradient is
another of the same layout:

    steering        a vector s_l for each layer, h <- h + s_l after the layer's feed-forward:            [L,C]
                    (steering_at_place: after another part of the layer, see Place; steering_rank: the same array, made
                    of two factors, trainable.h)
    lora            for each matrix W[N,K] that has a LoRA, y = W x + lora_alpha / lora_r * B (A x): A [lora_r,K], then
                    B transposed [lora_r,N] (Hu et al. 2021)
    full            every weight of the model, fp32, in the order of ParamTensor below. The model computes with its own
                    form of them (bf16 on cpu and cuda), which weights_from_params makes again after each step

This header knows the layout, and how weights come and go. Who computes with it: qwen2.h. Who makes, moves, saves it:
run/trainable_setup.h, files/checkpoint.h.
*/
#ifndef LLMC_PARAM_LAYOUT_H
#define LLMC_PARAM_LAYOUT_H

#include "llmc/model.h" // ModelConfig, FrozenWeights

typedef enum { PARAMS_STEERING, PARAMS_LORA, PARAMS_FULL } ParamKind;

// Where in its layer a vector is added: after the feed-forward unless asked otherwise.
typedef enum { PLACE_MLP, PLACE_SELF_ATTN, PLACE_POST_NORM, PLACE_INPUT_NORM, N_PLACES } Place;

// The LoRA of one matrix: where its factors lie in `params`. K == 0: this matrix has none.
typedef struct {
    size_t a, b; // A [r,K] at params + a, B transposed [r,N] at params + b
    int K, N;
} LoraSite;

// One weight, under Hugging Face's name: [rows,cols], or [rows] where cols is 0, at params + at.
typedef struct {
    char name[TENSOR_NAME];
    size_t at;
    int rows, cols;
} ParamTensor;

// Where the weights of a layer lie, as numbers of their ParamTensor, -1 where there is none. Weights that are stacked
// are neighbours, and so are their biases.
typedef struct {
    int norm[N_NORMS], weight[N_PROJ], bias[N_PROJ];
} ParamLayer;

typedef struct ParamLayout {
    ParamKind kind;
    int L;
    size_t n; // floats of `params`
    // steering
    Place place;
    // lora
    int lora_r;
    float scale;     // lora_alpha / lora_r
    LoraSite *sites; // [L, N_PROJ]
    // full
    ParamTensor *tensors; // [n_tensors]
    int n_tensors;
    ParamLayer *layers;        // [L]
    int wte, final_norm, head; // head is wte where the model ties them
} ParamLayout;

// A vector for every layer, added at `place`. Nothing to free.
void layout_steering(ParamLayout *t, const ModelConfig *c, Place place) {
    memset(t, 0, sizeof *t);
    t->kind = PARAMS_STEERING;
    t->place = place;
    t->L = c->L;
    t->n = (size_t)c->L * c->C;
}

// LoRA of rank lora_r on the projections p with targets[p] in every layer; or on those with chosen[l, p] (NULL: all).
// Free with layout_free.
void layout_lora(ParamLayout *t, const ModelConfig *c, int lora_r, float alpha, const bool targets[N_PROJ],
                 const bool *chosen) {
    memset(t, 0, sizeof *t);
    t->kind = PARAMS_LORA;
    t->L = c->L;
    t->lora_r = lora_r;
    t->scale = alpha / (float)lora_r;
    t->sites = (LoraSite *)xcalloc((size_t)c->L * N_PROJ, sizeof(LoraSite));
    for (int i = 0; i < c->L * N_PROJ; i++) {
        LoraSite *s = &t->sites[i];
        if (!targets[i % N_PROJ] || (chosen && !chosen[i])) continue;
        projection_shape(&s->N, &s->K, c, (Projection)(i % N_PROJ));
        s->a = t->n;
        s->b = s->a + (size_t)lora_r * s->K;
        t->n = s->b + (size_t)lora_r * s->N;
    }
}

// Appends a weight; returns its number.
int layout_add(ParamLayout *t, int rows, int cols, const char *name) {
    t->tensors = (ParamTensor *)xrealloc(t->tensors, ((size_t)t->n_tensors + 1) * sizeof(ParamTensor));
    ParamTensor *x = &t->tensors[t->n_tensors];
    snprintf(x->name, sizeof x->name, "%s", name);
    x->at = t->n;
    x->rows = rows;
    x->cols = cols;
    t->n += (size_t)rows * (size_t)(cols ? cols : 1);
    return t->n_tensors++;
}

// All weights. Free with layout_free.
void layout_full(ParamLayout *t, const ModelConfig *c) {
    const Family *family = c->family;
    char name[TENSOR_NAME];
    int N, K;
    memset(t, 0, sizeof *t);
    t->kind = PARAMS_FULL;
    t->L = c->L;
    t->layers = (ParamLayer *)xcalloc((size_t)c->L, sizeof(ParamLayer));
    t->wte = layout_add(t, c->V, c->C, MODULE_EMBEDDING ".weight");
    for (int l = 0; l < c->L; l++) {
        ParamLayer *y = &t->layers[l];
        for (int i = 0; i < N_NORMS; i++) {
            const char *module = family->norms[i].module;
            y->norm[i] = -1;
            if (module)
                y->norm[i] =
                    layout_add(t, model_size(c, family->norms[i].size), 0, tensor_name(name, l, module, ".weight"));
        }
        for (int p = 0; p < N_PROJ; p++) {
            projection_shape(&N, &K, c, (Projection)p);
            y->weight[p] = layout_add(t, N, K, tensor_name(name, l, projections[p].module, ".weight"));
        }
        for (int p = 0; p < N_PROJ; p++) {
            projection_shape(&N, &K, c, (Projection)p);
            y->bias[p] = -1;
            if (family->bias[p] == BIAS)
                y->bias[p] = layout_add(t, N, 0, tensor_name(name, l, projections[p].module, ".bias"));
        }
    }
    t->final_norm = layout_add(t, c->C, 0, MODULE_FINAL_NORM ".weight");
    t->head = c->tied ? t->wte : layout_add(t, c->V, c->C, MODULE_HEAD ".weight");
}

void layout_free(ParamLayout *t) {
    free(t->sites);
    free(t->tensors);
    free(t->layers);
    memset(t, 0, sizeof *t);
}

// The LoRA of a matrix; NULL where there is none.
const LoraSite *layout_lora_site(const ParamLayout *t, int l, Projection p) {
    const LoraSite *s = t && t->kind == PARAMS_LORA ? &t->sites[l * N_PROJ + p] : NULL;
    return s && s->K > 0 ? s : NULL;
}

// The most LoRAs that one linear has, stacked as it is of several projections.
int layout_stacked(const ParamLayout *t) {
    int most = 0;
    for (int l = 0; l < t->L; l++) {
        int n[N_LINEARS] = {0};
        for (int p = 0; p < N_PROJ; p++)
            if (layout_lora_site(t, l, (Projection)p) && ++n[projections[p].linear] > most)
                most = n[projections[p].linear];
    }
    return most;
}

// Whether anything of layer l is trained. (Of vectors, the trainer chooses the layers.)
bool layout_in_layer(const ParamLayout *t, int l) {
    if (t->kind != PARAMS_LORA) return true;
    for (int p = 0; p < N_PROJ; p++)
        if (t->sites[l * N_PROJ + p].K > 0) return true;
    return false;
}

// ----------------------------------------------------------------------------
// places by name

static const struct {
    const char *name, *site;
} place_names[] = {
    // in the order of Place; site: as files of vectors name it
    {"mlp", "mlp.down_proj output"},
    {"self_attn", "self_attn output"},
    {"post_attention_layernorm", "post_attention_layernorm output"},
    {"input_layernorm", "input_layernorm output"},
};

// The value of the option `place`.
Place place_by_name(const char *name) {
    int p = 3;
    while (p > 0 && strcmp(name, place_names[p].name) != 0) p--;
    return (Place)p;
}

// Where vectors were trained, by the metadata `site` of their file; NULL or unknown: after the feed-forward.
Place place_by_site(const char *site) {
    int p = site ? 3 : 0;
    while (p > 0 && strcmp(site, place_names[p].site) != 0) p--;
    return (Place)p;
}

// ----------------------------------------------------------------------------
// full: the flat array and the model's own form of it

// Weights number i ... i+n-1, which are neighbours, as raw tensors on the host: where `params` is, or in *stage, which
// grows.
void params_raw(RawTensor *raw, const ParamLayout *t, int i, int n, const float *params, const Ops *ops, float **stage,
                size_t *cap) {
    const float *from = params + t->tensors[i].at;
    const size_t all = (i + n < t->n_tensors ? t->tensors[i + n].at : t->n) - t->tensors[i].at;
    if (!ops->host_memory) {
        if (all > *cap) *stage = (float *)xrealloc(*stage, (*cap = all) * sizeof(float));
        ops->download(*stage, from, all * sizeof(float));
        from = *stage;
    }
    for (int k = 0; k < n; k++) {
        const ParamTensor *x = &t->tensors[i + k];
        const RawTensor r = {
            x->name, DTYPE_F32, x->cols ? 2 : 1, {x->rows, x->cols, 0, 0}, from + (x->at - t->tensors[i].at)};
        raw[k] = r;
    }
}

// A weight is made of numbers i ... i+n-1.
void matrix_from_params(Weight *w, const ParamLayout *t, int i, int n, const float *params, const Ops *ops,
                        float **stage, size_t *cap) {
    RawTensor raw[MAX_STACKED];
    params_raw(raw, t, i, n, params, ops, stage, cap);
    ops->weight_free(w);
    ops->weight_load(w, raw, n);
}

void vector_from_params(float *x, const ParamLayout *t, int i, int n, const float *params, const Ops *ops,
                        float **stage, size_t *cap) {
    RawTensor raw[MAX_STACKED];
    size_t all = 0;
    params_raw(raw, t, i, n, params, ops, stage, cap);
    for (int k = 0; k < n; k++) all += (size_t)raw[k].shape[0];
    ops->upload(x, raw[0].data, all * sizeof(float));
}

// The model computes with `params`, in the backend's memory, from now on. Call it again when its numbers have changed.
// *t and params stay where they are as long as the model is used: ref and every backend's embedding read them there.
// Each matrix goes before it is made again, so this takes no more memory than the model has, but on the host, where the
// backend's memory is elsewhere, for the fp32 numbers of the largest.
void weights_from_params(FrozenWeights *w, const ParamLayout *t, const float *params, const Ops *ops) {
    const ParamTensor *wte = &t->tensors[t->wte];
    const RawTensor lent = {wte->name, DTYPE_F32, 2, {wte->rows, wte->cols, 0, 0}, params + wte->at};
    float *stage = NULL;
    size_t cap = 0;
    for (int l = 0; l < t->L; l++) {
        Layer *y = &w->layers[l];
        const ParamLayer *at = &t->layers[l];
        for (int i = 0; i < N_LINEARS; i++) {
            Linear *x = &y->linear[i];
            matrix_from_params(&x->weight, t, at->weight[x->first], x->n, params, ops, &stage, &cap);
            if (at->bias[x->first] >= 0)
                vector_from_params(x->bias, t, at->bias[x->first], x->n, params, ops, &stage, &cap);
        }
        for (int i = 0; i < N_NORMS; i++)
            if (at->norm[i] >= 0) vector_from_params(y->norm[i], t, at->norm[i], 1, params, ops, &stage, &cap);
    }
    vector_from_params(w->final_norm, t, t->final_norm, 1, params, ops, &stage, &cap);
    if (!w->wte_lent) ops->embedding_free(&w->wte); // before the head, which may share it
    w->wte = lent;
    w->wte_lent = true;
    matrix_from_params(&w->head.weight, t, t->head, 1, params, ops, &stage, &cap);
    free(stage);
}

#endif
