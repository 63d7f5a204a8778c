/*
What a run trains, by its option `setup`: parameters, their gradients, and the optimizer's state (AdamW's two moments).
`params` is what AdamW moves, `model_params` what the model reads, laid out as param_layout.h says. They are the same
numbers but for

    steering_rank    S = A B,  A [L,r], B [r,C]: the model reads S, the product; dA = dS B^T, dB = A^T dS

    full             every weight, in fp32: the model's own form of them (bf16) is made again after each step

The few products of S are made on the host, summed in double. A begins random, as a LoRA's A, and B at zero: the first
step starts from the base model.
*/
#ifndef LLMC_TRAINABLE_H
#define LLMC_TRAINABLE_H

#include "llmc/dist/dist.h"        // Shard: what of it is this rank's
#include "llmc/files/checkpoint.h" // Checkpoint, FileTensor
#include "llmc/files/peft.h"       // PeftConfig, peft_load, peft_tensors
#include "llmc/options/options.h"  // Options, setup_kind

typedef struct {
    const Ops *ops;
    ParamLayout layout;
    PeftConfig adapter; // lora
    bool *layers;       // [L] which layers are trained
    int L, C;
    int rank;                          // of steering_rank, else 0
    size_t n;                          // numbers that are trained
    float *model_params, *model_grads; // [layout.n] what the model reads, and its gradient
    Shard shard;                       // of full in several processes: which of the n numbers this rank moves; else all
    float *params, *grads; // [n] what AdamW moves, and its gradient: model_params and model_grads themselves, but A,
                           // then B of steering_rank
    float *exp_avg, *exp_avg_sq; // [shard.each] all these in the backend's memory
    float *host[3]; // [n] params, exp_avg, exp_avg_sq where checkpoints are written from and read to: the arrays
                    // themselves, where they lie in the host's memory as a whole; copies elsewhere, which full has only
                    // meanwhile (trainable_stage), split moments on rank 0 alone
    float *host_model;   // [layout.n] steering_rank: S
    FileTensor *tensors; // [n_tensors] host[0] (and host_model) under the names of their file
    int n_tensors;
    FrozenWeights *weights; // full: the model's, which follow params
} Trainable;

// ----------------------------------------------------------------------------
// the host's copies

float *trainable_array(const Trainable *t, int i) {
    float *const all[3] = {t->params, t->exp_avg, t->exp_avg_sq};
    return all[i];
}

// host[i] = array i, and the other way; nothing where they are one.
void trainable_download(Trainable *t, int i) {
    if (t->host[i] != trainable_array(t, i)) t->ops->download(t->host[i], trainable_array(t, i), t->n * sizeof(float));
}
void trainable_upload(Trainable *t, int i) {
    if (t->host[i] != trainable_array(t, i)) t->ops->upload(trainable_array(t, i), t->host[i], t->n * sizeof(float));
}

// ----------------------------------------------------------------------------
// S = A B

// s[L,C] = a[L,r] b[r,C]
void factors_product(float *s, const float *a, const float *b, int L, int r, int C) {
    for (int l = 0; l < L; l++)
        for (int c = 0; c < C; c++) {
            double sum = 0;
            for (int k = 0; k < r; k++) sum += (double)a[l * r + k] * b[(size_t)k * C + c];
            s[(size_t)l * C + c] = (float)sum;
        }
}

// da[L,r] = ds[L,C] b^T, db[r,C] = a^T ds
void factors_gradient(float *da, float *db, const float *ds, const float *a, const float *b, int L, int r, int C) {
    for (int k = 0; k < r; k++) {
        for (int l = 0; l < L; l++) {
            double sum = 0;
            for (int c = 0; c < C; c++) sum += (double)ds[(size_t)l * C + c] * b[(size_t)k * C + c];
            da[l * r + k] = (float)sum;
        }
        for (int c = 0; c < C; c++) {
            double sum = 0;
            for (int l = 0; l < L; l++) sum += (double)a[l * r + k] * ds[(size_t)l * C + c];
            db[(size_t)k * C + c] = (float)sum;
        }
    }
}

// Of steering_rank: S, for the model, from the factors on the host.
void trainable_multiply(Trainable *t) {
    factors_product(t->host_model, t->host[0], t->host[0] + (size_t)t->L * t->rank, t->L, t->rank, t->C);
    t->ops->upload(t->model_params, t->host_model, t->layout.n * sizeof(float));
}

// grads from model_grads.
void trainable_gradient(Trainable *t) {
    if (!t->rank) return;
    const size_t na = (size_t)t->L * t->rank;
    float *ds = (float *)xmalloc(t->layout.n * sizeof(float)), *d = (float *)xmalloc(t->n * sizeof(float));
    t->ops->download(ds, t->model_grads, t->layout.n * sizeof(float));
    trainable_download(t, 0);
    factors_gradient(d, d + na, ds, t->host[0], t->host[0] + na, t->L, t->rank, t->C);
    t->ops->upload(t->grads, d, t->n * sizeof(float));
    free(ds);
    free(d);
}

// What the model reads from params, after AdamW has moved this rank's shard of it. All ranks together.
void trainable_moved(Trainable *t) {
    shard_share(&t->shard, t->params);
    if (t->layout.kind == PARAMS_FULL) weights_from_params(t->weights, &t->layout, t->params, t->ops);
    if (!t->rank) return;
    trainable_download(t, 0);
    trainable_multiply(t);
}

#endif
