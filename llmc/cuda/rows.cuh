/*
Operations on the rows of the residual stream: the embedding, the sum of residual, block output and steering vector with the
RMSNorm behind it in one pass, the norm's backward fused with the residual's gradient, the gradient of a vector, rows picked and
put back. What they compute is said in ops.h.
*/
#ifndef LLMC_CUDA_ROWS_CUH
#define LLMC_CUDA_ROWS_CUH

#include "llmc/cuda/common.cuh"

#define ROW_THREADS 256

// ----------------------------------------------------------------------------
// embedding: a block per row

template <typename Stored> __device__ __forceinline__ float as_float(Stored x) { return (float)x; }
template <> __device__ __forceinline__ float as_float(bf16 x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ float as_float(__half x) { return __half2float(x); }

// PACK values of a row at a time, in accesses of up to 128 bits.
template <typename Stored, int PACK>
__global__ void embed_kernel(float *h, const int *ids, const Stored *wte, int C) {
    struct alignas(PACK * sizeof(Stored)) In { Stored x[PACK]; };
    const In *from = (const In *)(wte + (size_t)ids[blockIdx.x] * C);
    Floats<PACK> *to = (Floats<PACK> *)(h + (size_t)blockIdx.x * C);
    for (int c = threadIdx.x; c < C / PACK; c += blockDim.x) {
        const In in = from[c];
        Floats<PACK> out;
        for (int i = 0; i < PACK; i++) out.x[i] = as_float(in.x[i]);
        to[c] = out;
    }
}

template <typename Stored>
static void embed_as(float *h, const int *ids, const void *wte, int T, int C) {
    const int pack = 16 / sizeof(Stored);
    if (C % pack == 0) LAUNCH((embed_kernel<Stored, 16 / sizeof(Stored)>), T, ROW_THREADS, 0, cuda_stream)(h, ids, (const Stored *)wte, C);
    else LAUNCH((embed_kernel<Stored, 1>), T, ROW_THREADS, 0, cuda_stream)(h, ids, (const Stored *)wte, C);
}

static void cuda_embed(float *h, const int *ids, const RawTensor *wte, int T, int C) {
    if (T == 0) return;
    if (wte->dtype == DTYPE_F32) embed_as<float>(h, ids, wte->data, T, C);
    if (wte->dtype == DTYPE_BF16) embed_as<bf16>(h, ids, wte->data, T, C);
    if (wte->dtype == DTYPE_F16) embed_as<__half>(h, ids, wte->data, T, C);
    CUDA_CHECK(cudaGetLastError());
}

// ----------------------------------------------------------------------------
// RMSNorm: a block per row. VECTOR: four columns at a time.

template <bool VECTOR>
__global__ void add_rmsnorm_forward_kernel(float *h_out, bf16 *x, float *rstd, const float *h, const float *y, const float *s,
                                           const float *w, float eps, int C) {
    constexpr int N = VECTOR ? 4 : 1;
    DYN_SHARED(float, row); // the sum, for the second half; each thread reads only what it wrote
    SHARED(float, parts, [32]);
    const size_t at = (size_t)blockIdx.x * C;
    float squares = 0;
    for (int c = N * threadIdx.x; c < C; c += N * blockDim.x) {
        Floats<N> sum = *(const Floats<N> *)(h + at + c);
        const Floats<N> add = y ? *(const Floats<N> *)(y + at + c) : Floats<N>{}, steer = s ? *(const Floats<N> *)(s + c) : Floats<N>{};
        for (int i = 0; i < N; i++) {
            sum.x[i] = sum.x[i] + add.x[i] + steer.x[i];
            squares += sum.x[i] * sum.x[i];
        }
        *(Floats<N> *)(h_out + at + c) = sum;
        *(Floats<N> *)(row + c) = sum;
    }
    if (!x && !rstd) return;
    const float r = 1.0f / sqrtf(block_sum(squares, parts) / (float)C + eps);
    if (rstd && threadIdx.x == 0) rstd[blockIdx.x] = r;
    if (!x) return;
    for (int c = N * threadIdx.x; c < C; c += N * blockDim.x) {
        const Floats<N> sum = *(const Floats<N> *)(row + c), weight = *(const Floats<N> *)(w + c);
        Bf16s<N> out;
        for (int i = 0; i < N; i++) out.x[i] = __float2bfloat16(sum.x[i] * r * weight.x[i]);
        *(Bf16s<N> *)(x + at + c) = out;
    }
}

static void cuda_add_rmsnorm_forward(float *h_out, act *x, float *rstd, const float *h, const float *y, const float *s, const float *w,
                                     float eps, int T, int C) {
    if (T == 0) return;
    const size_t bytes = (size_t)C * sizeof(float);
    const bool vector = C % 4 == 0 && cuda_aligned(s, 16);
    auto kernel = vector ? add_rmsnorm_forward_kernel<true> : add_rmsnorm_forward_kernel<false>;
    if (bytes > 48 << 10) CUDA_CHECK(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    LAUNCH(kernel, T, ROW_THREADS, bytes, cuda_stream)(h_out, (bf16 *)x, rstd, h, y, s, w, eps, C);
    CUDA_CHECK(cudaGetLastError());
}

template <bool VECTOR>
__global__ void rmsnorm_backward_kernel(float *dh, bf16 *dy, const float *dx, const float *h, const float *rstd, const float *w, int C) {
    constexpr int N = VECTOR ? 4 : 1;
    SHARED(float, parts, [32]);
    const size_t at = (size_t)blockIdx.x * C;
    float dot = 0;
    for (int c = N * threadIdx.x; c < C; c += N * blockDim.x) {
        const Floats<N> hs = *(const Floats<N> *)(h + at + c), ws = *(const Floats<N> *)(w + c), ds = *(const Floats<N> *)(dx + at + c);
        for (int i = 0; i < N; i++) dot += hs.x[i] * ws.x[i] * ds.x[i];
    }
    const float r = rstd[blockIdx.x], k = r * r / (float)C * block_sum(dot, parts);
    for (int c = N * threadIdx.x; c < C; c += N * blockDim.x) {
        const Floats<N> hs = *(const Floats<N> *)(h + at + c), ws = *(const Floats<N> *)(w + c), ds = *(const Floats<N> *)(dx + at + c);
        Floats<N> sum = *(const Floats<N> *)(dh + at + c);
        Bf16s<N> out;
        for (int i = 0; i < N; i++) {
            sum.x[i] += r * (ws.x[i] * ds.x[i] - hs.x[i] * k);
            out.x[i] = __float2bfloat16(sum.x[i]);
        }
        *(Floats<N> *)(dh + at + c) = sum;
        if (dy) *(Bf16s<N> *)(dy + at + c) = out;
    }
}

static void cuda_rmsnorm_backward(float *dh, act *dy, const float *dx, const float *h, const float *rstd, const float *w, int T, int C) {
    if (T == 0) return;
    auto kernel = C % 4 == 0 ? rmsnorm_backward_kernel<true> : rmsnorm_backward_kernel<false>;
    LAUNCH(kernel, T, ROW_THREADS, 0, cuda_stream)(dh, (bf16 *)dy, dx, h, rstd, w, C);
    CUDA_CHECK(cudaGetLastError());
}

// ----------------------------------------------------------------------------
// the gradient of a steering vector: first the sums of SUM_ROWS rows each, then those, in order

#define SUM_ROWS 128
#define SUM_COLUMNS 32
#define SUM_STRIDE 8 // rows that a block reads at once

__global__ void column_sum_parts_kernel(float *parts, const float *dh, int T, int C) {
    SHARED(float, sums, [SUM_STRIDE][SUM_COLUMNS]);
    const int c = blockIdx.y * SUM_COLUMNS + threadIdx.x, first = blockIdx.x * SUM_ROWS, last = min(first + SUM_ROWS, T);
    float sum = 0;
    if (c < C) for (int t = first + (int)threadIdx.y; t < last; t += SUM_STRIDE) sum += dh[(size_t)t * C + c];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= C) return;
    for (int i = 1; i < SUM_STRIDE; i++) sum += sums[i][threadIdx.x];
    parts[(size_t)blockIdx.x * C + c] = sum;
}

__global__ void column_sum_kernel(float *ds, const float *parts, int n_parts, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = 0;
    for (int i = 0; i < n_parts; i++) sum += parts[(size_t)i * C + c];
    ds[c] += sum;
}

static void cuda_column_sum(float *ds, const float *dh, int T, int C) {
    if (T == 0) return;
    const unsigned n_parts = cuda_blocks((size_t)T, SUM_ROWS);
    float *parts = (float *)cuda_scratch((size_t)n_parts * C * sizeof(float));
    LAUNCH(column_sum_parts_kernel, dim3(n_parts, cuda_blocks((size_t)C, SUM_COLUMNS)), dim3(SUM_COLUMNS, SUM_STRIDE), 0, cuda_stream)(parts, dh, T, C);
    CUDA_CHECK(cudaGetLastError());
    LAUNCH(column_sum_kernel, cuda_blocks((size_t)C, 64), 64, 0, cuda_stream)(ds, parts, (int)n_parts, C);
    CUDA_CHECK(cudaGetLastError());
}

// ----------------------------------------------------------------------------
// rows picked and put back

// Unit: float4 where rows and addresses allow it, else float; C counts units.
template <typename Unit>
__global__ void gather_rows_kernel(Unit *out, const Unit *x, const int *rows, size_t n_units, int C) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n_units) out[i] = x[(size_t)rows[i / C] * C + i % C];
}

static void cuda_gather_rows(float *out, const float *x, const int *rows, int n, int C) {
    if (n == 0) return;
    const bool vector = C % 4 == 0 && cuda_aligned(out, 16) && cuda_aligned(x, 16);
    const size_t units = (size_t)n * C / (vector ? 4 : 1);
    const unsigned blocks = cuda_blocks(units, ROW_THREADS);
    if (vector) LAUNCH(gather_rows_kernel<float4>, blocks, ROW_THREADS, 0, cuda_stream)((float4 *)out, (const float4 *)x, rows, units, C / 4);
    else LAUNCH(gather_rows_kernel<float>, blocks, ROW_THREADS, 0, cuda_stream)(out, x, rows, units, C);
    CUDA_CHECK(cudaGetLastError());
}

// A block per given row. Where a row comes more than once, the block of its first place adds all of them, in order.
__global__ void scatter_add_rows_kernel(float *x, const float *in, const int *rows, int n, int C) {
    const int me = blockIdx.x, row = rows[me];
    bool earlier = false;
    for (int i = threadIdx.x; i < me; i += blockDim.x) earlier |= rows[i] == row;
    if (__syncthreads_or(earlier)) return;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float sum = x[(size_t)row * C + c];
        for (int i = me; i < n; i++) if (rows[i] == row) sum += in[(size_t)i * C + c];
        x[(size_t)row * C + c] = sum;
    }
}

static void cuda_scatter_add_rows(float *x, const float *in, const int *rows, int n, int C) {
    if (n == 0) return;
    LAUNCH(scatter_add_rows_kernel, n, ROW_THREADS, 0, cuda_stream)(x, in, rows, n, C);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void to_act_kernel(bf16 *out, const float *in, size_t n) {
    const size_t i = 4 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    Bf16s<4> four;
    if (i + 4 <= n) {
        const float4 x = *(const float4 *)(in + i);
        four.x[0] = __float2bfloat16(x.x);
        four.x[1] = __float2bfloat16(x.y);
        four.x[2] = __float2bfloat16(x.z);
        four.x[3] = __float2bfloat16(x.w);
        *(Bf16s<4> *)(out + i) = four;
    } else {
        for (size_t k = i; k < n; k++) out[k] = __float2bfloat16(in[k]);
    }
}

static void cuda_to_act(act *out, const float *in, size_t n) {
    if (n == 0) return;
    LAUNCH(to_act_kernel, cuda_blocks(n, 4 * ROW_THREADS), ROW_THREADS, 0, cuda_stream)((bf16 *)out, in, n);
    CUDA_CHECK(cudaGetLastError());
}

#endif
