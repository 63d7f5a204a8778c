/*
What the backends that compute in host memory, ref and cpu, have in common: moving data is copying, and the update of
the vectors is a plain loop.
*/
#ifndef LLMC_OPS_HOST_H
#define LLMC_OPS_HOST_H

#include <math.h>               // sqrt, pow
#include <string.h>             // memcpy, memset
#include "llmc/ops.h"           // Ops, RawTensor
#include "llmc/utils/numbers.h" // bf16_to_f32

static inline void host_zero(void *p, size_t bytes) { memset(p, 0, bytes); }
static inline void host_upload(void *p, const void *host, size_t bytes) { memcpy(p, host, bytes); }
static inline void host_download(void *host, const void *p, size_t bytes) { memcpy(host, p, bytes); }
static inline RawTensor host_embedding_load(const RawTensor *file) { return *file; }
static inline void host_embedding_free(RawTensor *wte) { (void)wte; }

// out[n] = elements [first, first + n) of a raw tensor as float: exact, or of a quantised type the bf16 that it stands
// for
static inline void raw_to_f32(float *out, const RawTensor *raw, int64_t first, int n) {
    if (raw->dtype == DTYPE_F32) memcpy(out, (const float *)raw->data + first, (size_t)n * sizeof(float));
    if (raw->dtype == DTYPE_BF16)
        for (int i = 0; i < n; i++) out[i] = bf16_to_f32(((const bf16_t *)raw->data)[first + i]);
    if (raw->dtype == DTYPE_F16)
        for (int i = 0; i < n; i++) out[i] = f16_to_f32(((const uint16_t *)raw->data)[first + i]);
    if (!dtype_quantised(raw->dtype)) return;
    quant_exact(out, raw->dtype, raw->data, (size_t)first, (size_t)n);
    for (int i = 0; i < n; i++) out[i] = bf16_to_f32(f32_to_bf16(out[i]));
}

static inline double host_gradient_norm(const float *g, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)g[i] * g[i];
    return sqrt(sum);
}

static inline void host_adamw_update(float *x, float *exp_avg, float *exp_avg_sq, const float *g, double scale,
                                     size_t n, int step, const AdamW *a) {
    double correction1 = 1 - pow(a->beta1, step), correction2 = 1 - pow(a->beta2, step);
    for (size_t i = 0; i < n; i++) {
        float gi = (float)(g[i] * scale);
        exp_avg[i] = (float)(a->beta1 * exp_avg[i] + (1 - a->beta1) * gi);
        exp_avg_sq[i] = (float)(a->beta2 * exp_avg_sq[i] + (1 - a->beta2) * gi * gi);
        double denominator = sqrt(exp_avg_sq[i] / correction2) + a->epsilon;
        x[i] = (float)(x[i] * (1 - a->learning_rate * a->weight_decay) -
                       a->learning_rate * exp_avg[i] / correction1 / denominator);
    }
}

static inline void host_momentum_update(float *x, float *exp_avg, const float *g, double scale, size_t n, int step,
                                        double learning_rate, double beta1) {
    const double correction1 = 1 - pow(beta1, step);
    for (size_t i = 0; i < n; i++) {
        float gi = (float)(g[i] * scale);
        exp_avg[i] = (float)(beta1 * exp_avg[i] + (1 - beta1) * gi);
        x[i] = (float)(x[i] - learning_rate * exp_avg[i] / correction1);
    }
}

// Fills in these entries of a table.
static inline void ops_host_init(Ops *ops) {
    ops->host_memory = true;
    ops->zero = host_zero;
    ops->upload = host_upload;
    ops->download = host_download;
    ops->embedding_load = host_embedding_load;
    ops->embedding_free = host_embedding_free;
    ops->gradient_norm = host_gradient_norm;
    ops->adamw_update = host_adamw_update;
    ops->momentum_update = host_momentum_update;
}

#endif
