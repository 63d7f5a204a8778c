/*
Row operations: embedding, residual adds with RMSNorm, RoPE with the write to the cache, sums of rows, the gradient of
SwiGLU (which itself is in swiglu.h). What each operation computes is said in ops.h.

A row is always reduced by one thread in one order, so its bits depend neither on the rows beside it nor on
the threads.
*/
#ifndef LLMC_CPU_ROWS_H
#define LLMC_CPU_ROWS_H

#include "llmc/cpu/swiglu.h" // simd.h, vf_get, vf_put

#define rows_embed SIMD_NAME(rows_embed)
#define rows_add_rmsnorm SIMD_NAME(rows_add_rmsnorm)
#define rows_rmsnorm_backward SIMD_NAME(rows_rmsnorm_backward)
#define rows_to_act SIMD_NAME(rows_to_act)
#define rows_add SIMD_NAME(rows_add)
#define rows_add_normalised SIMD_NAME(rows_add_normalised)
#define rows_swiglu_backward SIMD_NAME(rows_swiglu_backward)
#define rows_rotate SIMD_NAME(rows_rotate)
#define rows_rope_kv SIMD_NAME(rows_rope_kv)
#define rows_rope_backward SIMD_NAME(rows_rope_backward)

// ----------------------------------------------------------------------------
// one row each

static void rows_embed(float *h, const RawTensor *wte, int id, int C) {
    size_t first = (size_t)id * C;
    if (wte->dtype == DTYPE_F32) {
        memcpy(h, (const char *)wte->data + first * sizeof *h, (size_t)C * sizeof *h);
    } else if (wte->dtype == DTYPE_BF16) {
        const bf16_t *row = (const bf16_t *)wte->data + first;
        for (int c = 0; c < C; c += VF_LANES) vf_put(h + c, vf_get_bf16(row + c, C - c), C - c);
    } else if (wte->dtype == DTYPE_F16) {
        for (int c = 0; c < C; c++) h[c] = f16_to_f32(((const uint16_t *)wte->data)[first + c]);
    } else {
        quant_exact(h, wte->dtype, wte->data, first, (size_t)C);
        for (int c = 0; c < C; c++) h[c] = bf16_to_f32(f32_to_bf16(h[c]));
    }
}

static void rows_add_rmsnorm(float *h_out, bf16_t *x, float *rstd, const float *h, const float *y, const float *s,
                             const float *w, float eps, int C) {
    vf squares[VF_PARTS] = {vf_zero()};
    for (int c = 0; c < C; c += 16)
        for (int j = 0; j < VF_PARTS; j++) {
            const int i = c + j * VF_LANES;
            vf v = vf_get(h + i, C - i);
            if (y) v += vf_get(y + i, C - i);
            if (s) v += vf_get(s + i, C - i);
            if (y || s || h_out != h) vf_put(h_out + i, v, C - i);
            squares[j] = vf_fma(v, v, squares[j]);
        }
    float r = 1.0f / sqrtf(vf_sum(squares) / (float)C + eps);
    if (rstd) *rstd = r;
    if (x)
        for (int c = 0; c < C; c += VF_LANES)
            vf_put_bf16(x + c, vf_get(h_out + c, C - c) * r * vf_get(w + c, C - c), C - c);
}

static void rows_rmsnorm_backward(float *dh, bf16_t *dy, const float *dx, const float *h, float r, const float *w,
                                  int C) {
    vf dots[VF_PARTS] = {vf_zero()};
    for (int c = 0; c < C; c += 16)
        for (int j = 0; j < VF_PARTS; j++) {
            const int i = c + j * VF_LANES;
            dots[j] = vf_fma(vf_get(w + i, C - i) * vf_get(dx + i, C - i), vf_get(h + i, C - i), dots[j]);
        }
    float k = r * r / (float)C * vf_sum(dots);
    for (int c = 0; c < C; c += VF_LANES) {
        vf d = vf_get(w + c, C - c) * vf_get(dx + c, C - c) - vf_get(h + c, C - c) * k;
        vf v = vf_fma(d, vf_set1(r), vf_get(dh + c, C - c));
        vf_put(dh + c, v, C - c);
        if (dy) vf_put_bf16(dy + c, v, C - c);
    }
}

static void rows_to_act(bf16_t *out, const float *in, int n) {
    for (int i = 0; i < n; i += VF_LANES) vf_put_bf16(out + i, vf_get(in + i, n - i), n - i);
}

// a[n] += b[n]
static void rows_add(float *a, const float *b, int n) {
    for (int c = 0; c < n; c += VF_LANES) vf_put(a + c, vf_get(a + c, n - c) + vf_get(b + c, n - c), n - c);
}

// dw[n] += dx[n] h[n] r
static void rows_add_normalised(float *dw, const float *dx, const float *h, float r, int n) {
    for (int c = 0; c < n; c += VF_LANES)
        vf_put(dw + c, vf_fma(vf_get(dx + c, n - c) * vf_get(h + c, n - c), vf_set1(r), vf_get(dw + c, n - c)), n - c);
}

// a (n values) may be NULL
static void rows_swiglu_backward(bf16_t *dgate, bf16_t *dup, bf16_t *a, const float *da, const bf16_t *gate,
                                 const bf16_t *up, int n) {
    for (int i = 0; i < n; i += VF_LANES) {
        vf g = vf_get_bf16(gate + i, n - i), u = vf_get_bf16(up + i, n - i), d = vf_get(da + i, n - i);
        vf sigmoid = 1.0f / (1.0f + vf_exp(-g));
        vf_put_bf16(dgate + i, d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)), n - i);
        vf_put_bf16(dup + i, d * g * sigmoid, n - i);
        if (a) vf_put_bf16(a + i, g * sigmoid * u, n - i);
    }
}

// Turns the pairs (i, i + HD/2) of n_heads heads by the angles of one position, cs = rope[pos]; direction -1
// turns back.
static void rows_rotate(bf16_t *out, const float *in, const float *cs, float direction, int n_heads, int HD) {
    int half = HD / 2;
    float cosine[CPU_MAX_HD / 2], sine[CPU_MAX_HD / 2];
    for (int i = 0; i < half; i++) {
        cosine[i] = cs[2 * i];
        sine[i] = direction * cs[2 * i + 1];
    }
    for (int h = 0; h < n_heads; h++, in += HD, out += HD) {
        for (int i = 0; i < half; i += VF_LANES) {
            vf a = vf_get(in + i, half - i), b = vf_get(in + half + i, half - i);
            vf c = vf_get(cosine + i, half - i), s = vf_get(sine + i, half - i);
            vf_put_bf16(out + i, a * c - b * s, half - i);
            vf_put_bf16(out + half + i, b * c + a * s, half - i);
        }
    }
}

static void rows_rope_kv(KVCache *kv, int layer, int slot, const float *k, const float *v, const float *cs) {
    int HD = kv->HD, offset = slot % KV_PAGE;
    bf16_t rotated[CPU_MAX_HD];
    for (int head = 0; head < kv->NKV; head++) {
        bf16_t *k_page = cpu_kv_page(kv->k, kv, layer, slot / KV_PAGE, head);
        bf16_t *v_row = cpu_kv_page(kv->v, kv, layer, slot / KV_PAGE, head) + offset * HD;
        rows_rotate(rotated, k + head * HD, cs, 1, 1, HD);
        for (int d = 0; d < HD; d++) k_page[d * KV_PAGE + offset] = rotated[d];
        rows_to_act(v_row, v + head * HD, HD);
    }
}

static void rows_rope_backward(bf16_t *dqkv, const float *dq, const float *dk, const float *dv, const float *cs, int NH,
                               int NKV, int HD) {
    rows_rotate(dqkv, dq, cs, -1, NH, HD);
    rows_rotate(dqkv + NH * HD, dk, cs, -1, NKV, HD);
    rows_to_act(dqkv + (NH + NKV) * HD, dv, NKV * HD);
}

// ----------------------------------------------------------------------------
// the operations

static void SIMD_NAME(embed)(float *h, const int *ids, const RawTensor *wte, int T, int C) {
    #pragma omp parallel for if ((size_t)T * C > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) rows_embed(h + (size_t)t * C, wte, ids[t], C);
}

static void SIMD_NAME(add_rmsnorm_forward)(float *h_out, act *x, float *rstd, const float *h, const float *y,
                                           const float *s, const float *w, float eps, int T, int C) {
    #pragma omp parallel for if ((size_t)T * C > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) {
        size_t row = (size_t)t * C;
        rows_add_rmsnorm(h_out + row, x ? (bf16_t *)x + row : NULL, rstd ? rstd + t : NULL, h + row, y ? y + row : NULL,
                         s, w, eps, C);
    }
}

static void SIMD_NAME(rmsnorm_backward)(float *dh, act *dy, const float *dx, const float *h, const float *rstd,
                                        const float *w, int T, int C) {
    #pragma omp parallel for if ((size_t)T * C > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) {
        size_t row = (size_t)t * C;
        rows_rmsnorm_backward(dh + row, dy ? (bf16_t *)dy + row : NULL, dx + row, h + row, rstd[t], w, C);
    }
}

// Threads share the columns, as in column_sum.
static void SIMD_NAME(rmsnorm_weight_backward)(float *dw, const float *dx, const float *h, const float *rstd, int T,
                                               int C) {
    #pragma omp parallel for if ((size_t)T * C > CPU_PARALLEL_MIN)
    for (int c = 0; c < C; c += 128)
        for (int t = 0; t < T; t++)
            rows_add_normalised(dw + c, dx + (size_t)t * C + c, h + (size_t)t * C + c, rstd[t],
                                C - c < 128 ? C - c : 128);
}

// Threads share the columns; each adds its rows in order onto what ds holds, so rows that arrive in several
// calls give the same bits as in one. A share is as wide as can be: narrow ones read memory in small pieces far apart.
static void SIMD_NAME(column_sum)(float *ds, const float *dh, int T, int C) {
    const bool parallel = (size_t)T * C > CPU_PARALLEL_MIN;
    const int threads = parallel ? omp_get_max_threads() : 1, share = ((C + threads - 1) / threads + 15) / 16 * 16;
    #pragma omp parallel for if (parallel)
    for (int c = 0; c < C; c += share)
        for (int t = 0; t < T; t++) rows_add(ds + c, dh + (size_t)t * C + c, C - c < share ? C - c : share);
}

// Threads share the columns, as one row may come more than once.
static void SIMD_NAME(scatter_add_rows)(float *x, const float *in, const int *rows, int n, int C) {
    #pragma omp parallel for if ((size_t)n * C > CPU_PARALLEL_MIN)
    for (int c = 0; c < C; c += 128)
        for (int i = 0; i < n; i++)
            rows_add(x + (size_t)rows[i] * C + c, in + (size_t)i * C + c, C - c < 128 ? C - c : 128);
}

// float -> bf16, n values
static void SIMD_NAME(to_act)(act *out, const float *in, size_t n) {
    const size_t piece = 1 << 14;
    const int64_t pieces = (int64_t)((n + piece - 1) / piece);
    #pragma omp parallel for schedule(static) if (pieces > 4)
    for (int64_t i = 0; i < pieces; i++) {
        size_t at = (size_t)i * piece;
        rows_to_act((bf16_t *)out + at, in + at, (int)(n - at < piece ? n - at : piece));
    }
}

static void SIMD_NAME(swiglu_backward)(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I) {
    #pragma omp parallel for if ((size_t)T * I > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++) {
        size_t row = (size_t)t * I;
        const bf16_t *saved = (const bf16_t *)gu_saved + 2 * row;
        rows_swiglu_backward((bf16_t *)dgu + 2 * row, (bf16_t *)dgu + 2 * row + I, a ? (bf16_t *)a + row : NULL,
                             da + row, saved, saved + I, I);
    }
}

static void SIMD_NAME(rope_kv_write)(act *q, KVCache *kv, int layer, const float *qkv, const float *rope,
                                     const int *pos, const int *write_row, const int *write_slot, int n_writes, int T,
                                     int NH) {
    int HD = kv->HD, NKV = kv->NKV, QKV = (NH + 2 * NKV) * HD;
    #pragma omp parallel if ((size_t)T * QKV > CPU_PARALLEL_MIN)
    {
        #pragma omp for nowait
        for (int t = 0; t < T; t++)
            rows_rotate((bf16_t *)q + (size_t)t * NH * HD, qkv + (size_t)t * QKV, rope + (size_t)pos[t] * HD, 1, NH,
                        HD);
        #pragma omp for
        for (int i = 0; i < n_writes; i++) {
            const float *k = qkv + (size_t)write_row[i] * QKV + NH * HD;
            rows_rope_kv(kv, layer, write_slot[i], k, k + NKV * HD, rope + (size_t)pos[write_row[i]] * HD);
        }
    }
}

static void SIMD_NAME(rope_backward)(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope,
                                     const int *pos, int T, int NH, int NKV, int HD) {
    #pragma omp parallel for if ((size_t)T * NH * HD > CPU_PARALLEL_MIN)
    for (int t = 0; t < T; t++)
        rows_rope_backward((bf16_t *)dqkv + (size_t)t * (NH + 2 * NKV) * HD, dq + (size_t)t * NH * HD,
                           dk + (size_t)t * NKV * HD, dv + (size_t)t * NKV * HD, rope + (size_t)pos[t] * HD, NH, NKV,
                           HD);
}

#endif
