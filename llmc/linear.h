/*
The linear layers and norms of a model, forward and backward, whatever of them is trained:

            forward                        gradient of the input        gradients of what is trained
    frozen  y = x W^T + bias               dx = dy W
    LoRA    y += scale (x A^T) B^T         dx += scale (dy B) A         dA = scale (dy B)^T x, dB = dy^T (scale x A^T)
    full    y = x W^T + bias               dx = dy W                    dW = dy^T x, dbias = column sums of dy

Only these functions know which of the three it is; a forward pass, as qwen2.h, calls them. The gradient of the input
and those of what is trained come in two functions, because the feed-forward recomputes its input x between the two.
*/
#ifndef LLMC_LINEAR_H
#define LLMC_LINEAR_H

#include "llmc/qwen2_memory.h" // Qwen2, Scratch; Ops, ParamLayout, Linear

// ----------------------------------------------------------------------------
// forward

// The LoRA of the i-th projection that w is stacked of; NULL where there is none.
const LoraSite *linear_lora(const Qwen2 *m, const Linear *w, int i) {
    return i < w->n ? layout_lora_site(m->layout, w->layer, (Projection)(w->first + i)) : NULL;
}

bool linear_has_lora(const Qwen2 *m, const Linear *w) {
    return linear_lora(m, w, 0) || linear_lora(m, w, 1) || linear_lora(m, w, 2);
}

bool linear_is_full(const Qwen2 *m) { return m->layout && m->layout->kind == PARAMS_FULL; }

// Whether anything of w is trained: then linear_weight_backward needs its input x.
bool linear_is_trained(const Qwen2 *m, const Linear *w) { return linear_is_full(m) || linear_has_lora(m, w); }

// y[T,N] = x[T,K] W^T + bias, plus the LoRA of each stacked projection, where `params` has one (NULL: none).
void linear_forward(const Qwen2 *m, Scratch *s, float *y, const act *x, const Linear *w, const float *params, int T) {
    const Ops *ops = m->ops;
    ops->matmul_forward(y, x, &w->weight, w->bias, T);
    for (int i = 0; params && i < w->n; y += w->weight.raw[i++].shape[0]) {
        const LoraSite *lora = linear_lora(m, w, i);
        if (!lora) continue;
        ops->lora_down(s->u, x, lora->K, params + lora->a, m->layout->scale, T, lora->K, m->layout->lora_r);
        ops->lora_up(y, w->weight.N, s->u, params + lora->b, T, lora->N, m->layout->lora_r);
    }
}

// a[T,I] = silu(gate) * up, gu_saved as in ops.h, of gate and up that w[2I,C] is stacked of; in one operation where the
// backend has it.
void linear_swiglu_forward(const Qwen2 *m, Scratch *s, act *a, act *gu_saved, const act *x, const Linear *w,
                           const float *params, int T) {
    if (m->ops->matmul_swiglu_forward && !w->bias && !(params && linear_has_lora(m, w))) {
        m->ops->matmul_swiglu_forward(a, gu_saved, s->gu, x, &w->weight, T);
        return;
    }
    linear_forward(m, s, s->gu, x, w, params, T);
    m->ops->swiglu_forward(a, gu_saved, s->gu, T, w->weight.N / 2);
}

// ----------------------------------------------------------------------------
// backward

// Rows row0 ... row0+T-1 of a batch: what they add to the gradient goes to gradient slot `slot`.
typedef struct {
    int row0, T, slot;
} RowRange;

// Where gradients go: slots[slot,size], laid out as `params`. Full tuning has slot 0 alone.
typedef struct {
    float *slots;
    size_t size;
    const RowRange *ranges;
    int n_ranges;
} Gradient;

// Where the gradient of a weight goes, by its number: full tuning has one slot.
float *weight_gradient(const Qwen2 *m, const Gradient *g, int number) {
    return g->slots + m->layout->tensors[number].at;
}

// dx[T,K] = gradient of the input, given dy[T,N]. Leaves s->du for linear_weight_backward of the same rows.
void linear_backward(const Qwen2 *m, Scratch *s, float *dx, const act *dy, const Linear *w, const float *params,
                     int T) {
    const Ops *ops = m->ops;
    float *du = s->du;
    size_t column = 0; // of dy
    ops->matmul_backward(dx, dy, &w->weight, T);
    for (int i = 0; i < w->n; column += (size_t)w->weight.raw[i++].shape[0]) {
        const LoraSite *lora = linear_lora(m, w, i);
        if (!lora) continue;
        const int r = m->layout->lora_r;
        ops->lora_down(du, (const char *)dy + column * ops->act_bytes, w->weight.N, params + lora->b, m->layout->scale,
                       T, lora->N, r);
        ops->lora_up(dx, lora->K, du, params + lora->a, T, lora->K, r);
        du += (size_t)T * r;
    }
}

// The factors' gradients of one LoRA: dA += du^T x, dB^T += u^T dy, range by range. x[T,K] and dy, whose rows lie ld
// apart, are rows row0 ... of the batch.
void lora_weight_backward(const Qwen2 *m, Scratch *s, const Gradient *g, const float *du, const act *dy, int ld,
                          const act *x, const float *params, const LoraSite *lora, int row0, int T) {
    const Ops *ops = m->ops;
    const int r = m->layout->lora_r;
    ops->lora_down(s->u, x, lora->K, params + lora->a, m->layout->scale, T, lora->K, r);
    for (const RowRange *range = g->ranges; range < g->ranges + g->n_ranges; range++) {
        const int first = range->row0 > row0 ? range->row0 : row0,
                  end = range->row0 + range->T < row0 + T ? range->row0 + range->T : row0 + T;
        if (first >= end) continue;
        const size_t skip = (size_t)(first - row0), act_bytes = ops->act_bytes;
        float *slot = g->slots + (size_t)range->slot * g->size;
        ops->lora_grad(slot + lora->a, du + skip * r, (const char *)x + skip * lora->K * act_bytes, lora->K,
                       end - first, lora->K, r);
        ops->lora_grad(slot + lora->b, s->u + skip * r, (const char *)dy + skip * ld * act_bytes, ld, end - first,
                       lora->N, r);
    }
}

// g's slots += gradient of what is trained of w, given dy[T,N] and its input x[T,K] (not read where nothing is), which
// are rows row0 ... of the batch. After linear_backward of these rows.
void linear_weight_backward(const Qwen2 *m, Scratch *s, const Gradient *g, const act *dy, const act *x, const Linear *w,
                            const float *params, int row0, int T) {
    const Ops *ops = m->ops;
    const int N = w->weight.N, K = w->weight.K;
    const float *du = s->du;
    size_t column = 0; // of dy
    for (int i = 0; i < w->n; column += (size_t)w->weight.raw[i++].shape[0]) {
        const LoraSite *lora = linear_lora(m, w, i);
        if (!lora) continue;
        const act *dy_i = (const char *)dy + column * ops->act_bytes;
        lora_weight_backward(m, s, g, du, dy_i, N, x, params, lora, row0, T);
        du += (size_t)T * m->layout->lora_r;
    }
    if (!linear_is_full(m)) return;
    const bool head = w->layer < 0;
    const ParamLayer *at = head ? NULL : &m->layout->layers[w->layer];
    ops->matmul_weight_backward(weight_gradient(m, g, head ? m->layout->head : at->weight[w->first]), dy, x, T, N, K);
    if (!head && at->bias[w->first] >= 0)
        ops->lora_grad(weight_gradient(m, g, at->bias[w->first]), s->ones, dy, N, T, N, 1);
}

// dh[T,C] += gradient through norm `id` of layer l (-1: the final norm), given dx[T,C], and dy = dh as act (may be
// NULL); g += its weight's own, where that is trained. h, rstd: as the forward pass has left them.
void norm_backward(const Qwen2 *m, const Gradient *g, float *dh, act *dy, const float *dx, const float *h,
                   const float *rstd, int l, NormId id, int T) {
    const int C = m->config.C;
    const float *w = l < 0 ? m->weights.final_norm : m->weights.layers[l].norm[id];
    if (linear_is_full(m))
        m->ops->rmsnorm_weight_backward(
            weight_gradient(m, g, l < 0 ? m->layout->final_norm : m->layout->layers[l].norm[id]), dx, h, rstd, T, C);
    m->ops->rmsnorm_backward(dh, dy, dx, h, rstd, w, T, C);
}

#endif
