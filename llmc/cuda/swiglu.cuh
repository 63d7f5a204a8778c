/*
SwiGLU, forward and backward, on gate and up as one product left them: gu[T,2I] = gate, then up. See ops.h.
*/
#ifndef LLMC_CUDA_SWIGLU_CUH
#define LLMC_CUDA_SWIGLU_CUH

#include "llmc/cuda/common.cuh"

#define SWIGLU_THREADS 256

// N columns of a row per thread.
template <int N>
__global__ void swiglu_forward_kernel(bf16 *a, bf16 *gu_saved, const float *gu, size_t pieces, int I) {
    const size_t piece = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (piece >= pieces) return;
    const size_t t = piece / (I / N), i = piece % (I / N) * N, gate = t * 2 * I + i;
    const Floats<N> g = *(const Floats<N> *)(gu + gate), u = *(const Floats<N> *)(gu + gate + I);
    Bf16s<N> out, saved_g, saved_u;
    for (int k = 0; k < N; k++) {
        out.x[k] = __float2bfloat16(g.x[k] / (1.0f + expf(-g.x[k])) * u.x[k]);
        saved_g.x[k] = __float2bfloat16(g.x[k]);
        saved_u.x[k] = __float2bfloat16(u.x[k]);
    }
    *(Bf16s<N> *)(a + t * I + i) = out;
    if (!gu_saved) return;
    *(Bf16s<N> *)(gu_saved + gate) = saved_g;
    *(Bf16s<N> *)(gu_saved + gate + I) = saved_u;
}

static void cuda_swiglu_forward(act *a, act *gu_saved, const float *gu, int T, int I) {
    if (T == 0) return;
    const size_t pieces = (size_t)T * I / (I % 4 == 0 ? 4 : 1);
    auto kernel = I % 4 == 0 ? swiglu_forward_kernel<4> : swiglu_forward_kernel<1>;
    LAUNCH(kernel, cuda_blocks(pieces, SWIGLU_THREADS), SWIGLU_THREADS, 0, cuda_stream)((bf16 *)a, (bf16 *)gu_saved, gu, pieces, I);
    CUDA_CHECK(cudaGetLastError());
}

template <int N>
__global__ void swiglu_backward_kernel(bf16 *dgu, const float *da, const bf16 *gu_saved, size_t pieces, int I) {
    const size_t piece = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (piece >= pieces) return;
    const size_t t = piece / (I / N), i = piece % (I / N) * N, gate = t * 2 * I + i;
    const Bf16s<N> gs = *(const Bf16s<N> *)(gu_saved + gate), us = *(const Bf16s<N> *)(gu_saved + gate + I);
    const Floats<N> ds = *(const Floats<N> *)(da + t * I + i);
    Bf16s<N> dg, du;
    for (int k = 0; k < N; k++) {
        const float g = __bfloat162float(gs.x[k]), u = __bfloat162float(us.x[k]), d = ds.x[k], sigmoid = 1.0f / (1.0f + expf(-g));
        dg.x[k] = __float2bfloat16(d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
        du.x[k] = __float2bfloat16(d * g * sigmoid);
    }
    *(Bf16s<N> *)(dgu + gate) = dg;
    *(Bf16s<N> *)(dgu + gate + I) = du;
}

static void cuda_swiglu_backward(act *dgu, const float *da, const act *gu_saved, int T, int I) {
    if (T == 0) return;
    const size_t pieces = (size_t)T * I / (I % 4 == 0 ? 4 : 1);
    auto kernel = I % 4 == 0 ? swiglu_backward_kernel<4> : swiglu_backward_kernel<1>;
    LAUNCH(kernel, cuda_blocks(pieces, SWIGLU_THREADS), SWIGLU_THREADS, 0, cuda_stream)((bf16 *)dgu, da, (const bf16 *)gu_saved, pieces, I);
    CUDA_CHECK(cudaGetLastError());
}

#endif
