/*
What runs over the rows of the residual stream: embedding, normalisation and its gradient, the gradient of a steering
vector, gathering and scattering, conversion to act. All are bound by memory: each element is read and written once.

Threads move packs of 8 elements with 128-bit accesses where C and the pointers allow it (WIDE), one by one otherwise.
*/
#ifndef LLMC_CUDA_ROWS_CUH
#define LLMC_CUDA_ROWS_CUH

#include "llmc/cuda/memory.cuh"

// Threads for a row of C elements, 8 a thread where that fits a block of 256: whole warps.
static inline int row_threads(int C) {
    int packs = (C + 7) / 8;
    return packs >= 256 ? 256 : (packs + 31) / 32 * 32;
}

// ----------------------------------------------------------------------------
// embedding, gathering, scattering: one block a row

template <bool WIDE, class Type> __global__ void copy_rows_kernel(float *out, const Type *x, const int *rows, int C) {
    size_t from = (size_t)rows[blockIdx.x] * C, to = (size_t)blockIdx.x * C;
    for (int c = 8 * (int)threadIdx.x; c < C; c += 8 * (int)blockDim.x) {
        float v[8];
        load8<WIDE>(v, x + from + c, C - c);
        store8<WIDE>(out + to + c, v, C - c);
    }
}

template <class Type> static void copy_rows(float *out, const void *x, const int *rows, int n, int C) {
    if (n == 0) return;
    bool wide = C % 8 == 0 && aligned16(out) && aligned16(x);
    LAUNCH_WIDE2(wide, copy_rows_kernel, Type, (unsigned)n, row_threads(C), (out, (const Type *)x, rows, C));
}

void cuda_gather_rows(float *out, const float *x, const int *rows, int n, int C) {
    copy_rows<float>(out, x, rows, n, C);
}

void cuda_embed(float *h, const int *ids, const RawTensor *wte, int T, int C) {
    if (wte->dtype == DTYPE_F32) copy_rows<float>(h, wte->data, ids, T, C);
    else if (wte->dtype == DTYPE_BF16) copy_rows<bf16>(h, wte->data, ids, T, C);
    else copy_rows<__half>(h, wte->data, ids, T, C);
}

// The block of a row's first mention adds all of its mentions, in order; the others have nothing to do.
template <bool WIDE> __global__ void scatter_add_rows_kernel(float *x, const float *in, const int *rows, int n, int C) {
    int me = (int)blockIdx.x, row = rows[me], earlier = 0;
    for (int i = (int)threadIdx.x; i < me; i += (int)blockDim.x) earlier |= rows[i] == row;
    if (__syncthreads_or(earlier)) return;
    for (int c = 8 * (int)threadIdx.x; c < C; c += 8 * (int)blockDim.x) {
        float sum[8], v[8];
        load8<WIDE>(sum, x + (size_t)row * C + c, C - c);
        for (int i = me; i < n; i++) {
            if (rows[i] != row) continue;
            load8<WIDE>(v, in + (size_t)i * C + c, C - c);
            #pragma unroll
            for (int j = 0; j < 8; j++) sum[j] += v[j];
        }
        store8<WIDE>(x + (size_t)row * C + c, sum, C - c);
    }
}

void cuda_scatter_add_rows(float *x, const float *in, const int *rows, int n, int C) {
    if (n == 0) return;
    bool wide = C % 8 == 0 && aligned16(x) && aligned16(in);
    LAUNCH_WIDE(wide, scatter_add_rows_kernel, (unsigned)n, row_threads(C), (x, in, rows, n, C));
}

// ----------------------------------------------------------------------------
// residual + steering vector + RMSNorm, and backward: one block a row, of which each thread keeps PACKS packs in
// registers between the two passes. PACKS 0: rows too long for that are read again.

#define LAUNCH_PACKS(wide, kernel, T, C, arguments) \
    do { \
        if ((C) <= 8 * 256) LAUNCH_WIDE2(wide, kernel, 1, (unsigned)(T), row_threads(C), arguments); \
        else if ((C) <= 2 * 8 * 256) LAUNCH_WIDE2(wide, kernel, 2, (unsigned)(T), row_threads(C), arguments); \
        else if ((C) <= 4 * 8 * 256) LAUNCH_WIDE2(wide, kernel, 4, (unsigned)(T), row_threads(C), arguments); \
        else LAUNCH_WIDE2(wide, kernel, 0, (unsigned)(T), row_threads(C), arguments); \
    } while (0)

template <bool WIDE>
__device__ __forceinline__ void residual8(float *sum, const float *h, const float *y, const float *s, size_t at, int c,
                                          int C) {
    float v[8];
    load8<WIDE>(sum, h + at + c, C - c);
    if (y) {
        load8<WIDE>(v, y + at + c, C - c);
        #pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += v[i];
    }
    if (s) {
        load8<WIDE>(v, s + c, C - c);
        #pragma unroll
        for (int i = 0; i < 8; i++) sum[i] += v[i];
    }
}

__device__ __forceinline__ float squares8(const float *x) {
    float sum = 0;
    #pragma unroll
    for (int i = 0; i < 8; i++) sum += x[i] * x[i];
    return sum;
}

template <bool WIDE>
__device__ __forceinline__ void normalise8(bf16 *x, const float *h, float r, const float *w, size_t at, int c, int C) {
    float v[8];
    load8<WIDE>(v, w + c, C - c);
    #pragma unroll
    for (int i = 0; i < 8; i++) v[i] = h[i] * r * v[i];
    store8<WIDE>(x + at + c, v, C - c);
}

template <bool WIDE, int PACKS>
__global__ void __launch_bounds__(256)
    add_rmsnorm_kernel(float *h_out, bf16 *x, float *rstd, const float *h, const float *y, const float *s,
                       const float *w, float eps, int C) {
    SHARED(float, parts, [8]);
    const int step = 8 * (int)blockDim.x, c0 = 8 * (int)threadIdx.x;
    const size_t at = (size_t)blockIdx.x * C;
    float kept[PACKS ? PACKS : 1][8], squares = 0;
    if (PACKS) {
        #pragma unroll
        for (int p = 0; p < PACKS; p++) {
            int c = c0 + p * step;
            if (c >= C) break;
            residual8<WIDE>(kept[p], h, y, s, at, c, C);
            store8<WIDE>(h_out + at + c, kept[p], C - c);
            squares += squares8(kept[p]);
        }
    } else {
        for (int c = c0; c < C; c += step) {
            residual8<WIDE>(kept[0], h, y, s, at, c, C);
            store8<WIDE>(h_out + at + c, kept[0], C - c);
            squares += squares8(kept[0]);
        }
    }
    if (!x && !rstd) return;
    float r = 1.0f / sqrtf(block_reduce<Sum>(squares, parts) / (float)C + eps);
    if (rstd && threadIdx.x == 0) rstd[blockIdx.x] = r;
    if (!x) return;
    if (PACKS) {
        #pragma unroll
        for (int p = 0; p < PACKS; p++) {
            int c = c0 + p * step;
            if (c >= C) break;
            normalise8<WIDE>(x, kept[p], r, w, at, c, C);
        }
    } else {
        for (int c = c0; c < C; c += step) {
            load8<WIDE>(kept[0], h_out + at + c, C - c);
            normalise8<WIDE>(x, kept[0], r, w, at, c, C);
        }
    }
}

void cuda_add_rmsnorm_forward(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s,
                              const float *w, float eps, int T, int C) {
    if (T == 0) return;
    bool wide =
        C % 8 == 0 && aligned16(h_out) && aligned16(x) && aligned16(h) && aligned16(y) && aligned16(s) && aligned16(w);
    LAUNCH_PACKS(wide, add_rmsnorm_kernel, T, C, (h_out, (bf16 *)x, rstd, h, y, s, w, eps, C));
}

// wdx[8] = w dx, h8[8] = h; returns their dot product
template <bool WIDE>
__device__ __forceinline__ float weighted8(float *wdx, float *h8, const float *dx, const float *h, const float *w,
                                           size_t at, int c, int C) {
    float v[8], dot = 0;
    load8<WIDE>(wdx, dx + at + c, C - c);
    load8<WIDE>(v, w + c, C - c);
    load8<WIDE>(h8, h + at + c, C - c);
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        wdx[i] *= v[i];
        dot += h8[i] * wdx[i];
    }
    return dot;
}

template <bool WIDE>
__device__ __forceinline__ void add_gradient8(float *dh, bf16 *dy, const float *wdx, const float *h8, float r,
                                              float share, size_t at, int c, int C) {
    float v[8];
    load8<WIDE>(v, dh + at + c, C - c);
    #pragma unroll
    for (int i = 0; i < 8; i++) v[i] += r * (wdx[i] - h8[i] * share);
    store8<WIDE>(dh + at + c, v, C - c);
    if (dy) store8<WIDE>(dy + at + c, v, C - c);
}

template <bool WIDE, int PACKS>
__global__ void __launch_bounds__(256) rmsnorm_backward_kernel(float *dh, bf16 *dy, const float *dx, const float *h,
                                                               const float *rstd, const float *w, int C) {
    SHARED(float, parts, [8]);
    const int step = 8 * (int)blockDim.x, c0 = 8 * (int)threadIdx.x;
    const size_t at = (size_t)blockIdx.x * C;
    float wdx[PACKS ? PACKS : 1][8], h8[PACKS ? PACKS : 1][8], dot = 0;
    if (PACKS) {
        #pragma unroll
        for (int p = 0; p < PACKS; p++) {
            int c = c0 + p * step;
            if (c < C) dot += weighted8<WIDE>(wdx[p], h8[p], dx, h, w, at, c, C);
        }
    } else {
        for (int c = c0; c < C; c += step) dot += weighted8<WIDE>(wdx[0], h8[0], dx, h, w, at, c, C);
    }
    float r = rstd[blockIdx.x], share = r * r / (float)C * block_reduce<Sum>(dot, parts);
    if (PACKS) {
        #pragma unroll
        for (int p = 0; p < PACKS; p++) {
            int c = c0 + p * step;
            if (c < C) add_gradient8<WIDE>(dh, dy, wdx[p], h8[p], r, share, at, c, C);
        }
    } else {
        for (int c = c0; c < C; c += step) {
            weighted8<WIDE>(wdx[0], h8[0], dx, h, w, at, c, C);
            add_gradient8<WIDE>(dh, dy, wdx[0], h8[0], r, share, at, c, C);
        }
    }
}

void cuda_rmsnorm_backward(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w,
                           int T, int C) {
    if (T == 0) return;
    bool wide = C % 8 == 0 && aligned16(dh) && aligned16(dy) && aligned16(dx) && aligned16(h) && aligned16(w);
    LAUNCH_PACKS(wide, rmsnorm_backward_kernel, T, C, (dh, (bf16 *)dy, dx, h, rstd, w, C));
}

// The gradient of a norm's weight: a thread a column, rows in order.
__global__ void __launch_bounds__(256)
    rmsnorm_weight_backward_kernel(float *dw, const float *dx, const float *h, const float *rstd, int T, int C) {
    const int c = (int)(blockIdx.x * 256 + threadIdx.x);
    if (c >= C) return;
    float sum = dw[c];
    for (int t = 0; t < T; t++) sum += dx[(size_t)t * C + c] * h[(size_t)t * C + c] * rstd[t];
    dw[c] = sum;
}

void cuda_rmsnorm_weight_backward(float *dw, const float *dx, const float *h, const float *rstd, int T, int C) {
    LAUNCH(rmsnorm_weight_backward_kernel, blocks_for((size_t)C, 256), 256, 0, cuda_stream)(dw, dx, h, rstd, T, C);
    CUDA_CHECK(cudaGetLastError());
}

// ----------------------------------------------------------------------------
// the gradient of a steering vector. A column's sum is one chain of additions, row after row: then it has the same bits
// however the rows come in batches. A block has few columns; all its threads fetch the next rows while a few add the
// last.

#define COLUMN_SUM_COLUMNS 16
#define COLUMN_SUM_ROWS 128
#define COLUMN_SUM_THREADS 256

// The part of thread `thread` in rows first ... first + COLUMN_SUM_ROWS - 1 of columns c0 ... c0 + 15: two pieces of 4.
template <bool WIDE>
__device__ __forceinline__ void column_fetch(float4 *piece, const float *dh, int first, int c0, int T, int C,
                                             int thread) {
    #pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = thread + i * COLUMN_SUM_THREADS, t = first + at / 4, c = c0 + at % 4 * 4;
        const float *p = dh + (size_t)t * C + c;
        piece[i] = make_float4(0, 0, 0, 0);
        if (t >= T || c >= C) continue;
        if (WIDE) piece[i] = *(const float4 *)p;
        else piece[i] = make_float4(p[0], c + 1 < C ? p[1] : 0, c + 2 < C ? p[2] : 0, c + 3 < C ? p[3] : 0);
    }
}

template <bool WIDE>
__global__ void __launch_bounds__(COLUMN_SUM_THREADS) column_sum_kernel(float *ds, const float *dh, int T, int C) {
    SHARED(float4, rows, [2][COLUMN_SUM_ROWS * COLUMN_SUM_COLUMNS / 4]);
    const int thread = (int)threadIdx.x, c0 = (int)blockIdx.x * COLUMN_SUM_COLUMNS, column = c0 + thread;
    const bool adds = thread < COLUMN_SUM_COLUMNS && column < C;
    float sum = adds ? ds[column] : 0;
    float4 piece[2];
    int now = 0;
    column_fetch<WIDE>(piece, dh, 0, c0, T, C, thread);
    for (int i = 0; i < 2; i++) rows[0][thread + i * COLUMN_SUM_THREADS] = piece[i];
    __syncthreads();
    for (int first = 0; first < T; first += COLUMN_SUM_ROWS, now ^= 1) {
        bool more = first + COLUMN_SUM_ROWS < T;
        if (more) column_fetch<WIDE>(piece, dh, first + COLUMN_SUM_ROWS, c0, T, C, thread);
        if (adds) {
            const float *x = (const float *)rows[now] + thread;
            int n = T - first < COLUMN_SUM_ROWS ? T - first : COLUMN_SUM_ROWS;
            #pragma unroll 8
            for (int t = 0; t < n; t++) sum += x[t * COLUMN_SUM_COLUMNS];
        }
        if (more)
            for (int i = 0; i < 2; i++) rows[now ^ 1][thread + i * COLUMN_SUM_THREADS] = piece[i];
        __syncthreads();
    }
    if (adds) ds[column] = sum;
}

void cuda_column_sum(float *ds, const float *dh, int T, int C) {
    if (T == 0) return;
    bool wide = C % 4 == 0 && aligned16(dh);
    LAUNCH_WIDE(wide, column_sum_kernel, blocks_for((size_t)C, COLUMN_SUM_COLUMNS), COLUMN_SUM_THREADS, (ds, dh, T, C));
}

// ----------------------------------------------------------------------------
// conversion, 8 elements a thread

template <bool WIDE, class Type> __global__ void to_act_kernel(bf16 *out, const Type *in, size_t n) {
    size_t i = 8 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    float v[8];
    if (WIDE && n - i >= 8) {
        load8<true>(v, in + i, 8);
        store8<true>(out + i, v, 8);
    } else {
        int left = n - i < 8 ? (int)(n - i) : 8;
        load8<false>(v, in + i, left);
        store8<false>(out + i, v, left);
    }
}

// Rounds to nearest, ties to even.
template <class Type> static void convert_to_bf16(bf16 *out, const Type *in, size_t n) {
    if (n == 0) return;
    LAUNCH_WIDE2(aligned16(out) && aligned16(in), to_act_kernel, Type, blocks_for(n, 8 * 256), 256, (out, in, n));
}

void cuda_to_act(act *out, const float *in, size_t n) { convert_to_bf16((bf16 *)out, in, n); }

#endif
