/*
SwiGLU and its backward: silu(gate) * up, gate stacked before up. 8 elements of I a thread.
*/
#ifndef LLMC_CUDA_SWIGLU_CUH
#define LLMC_CUDA_SWIGLU_CUH

#include "llmc/cuda/common.cuh"

#define SWIGLU_THREADS 256

// Where this thread's pack lies: row t, elements i ... i+7 of its I. False: after the last.
__device__ __forceinline__ bool swiglu_at(size_t *t, int *i, int T, int I) {
    size_t pack = (size_t)blockIdx.x * blockDim.x + threadIdx.x, packs = ((size_t)I + 7) / 8;
    *t = pack / packs;
    *i = 8 * (int)(pack % packs);
    return *t < (size_t)T;
}

template <bool WIDE>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_forward_kernel(bf16 *a, bf16 *gu_saved, const float *gu, int T, int I) {
    size_t t;
    int i;
    if (!swiglu_at(&t, &i, T, I)) return;
    float g[8], u[8];
    size_t at = t * 2 * I + i;
    load8<WIDE>(g, gu + at, I - i);
    load8<WIDE>(u, gu + at + I, I - i);
    if (gu_saved) {
        store8<WIDE>(gu_saved + at, g, I - i);
        store8<WIDE>(gu_saved + at + I, u, I - i);
    }
    #pragma unroll
    for (int j = 0; j < 8; j++) g[j] = g[j] / (1.0f + expf(-g[j])) * u[j];
    store8<WIDE>(a + t * I + i, g, I - i);
}

// AGAIN: silu(gate) * up too, to a; a template, as it costs registers.
template <bool WIDE, bool AGAIN>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_backward_kernel(bf16 *dgu, bf16 *a, const float *da, const bf16 *gu_saved, int T, int I) {
    size_t t;
    int i;
    if (!swiglu_at(&t, &i, T, I)) return;
    float g[8], u[8], d[8], out[8];
    size_t at = t * 2 * I + i;
    load8<WIDE>(g, gu_saved + at, I - i);
    load8<WIDE>(u, gu_saved + at + I, I - i);
    load8<WIDE>(d, da + t * I + i, I - i);
    #pragma unroll
    for (int j = 0; j < 8; j++) {
        float sigmoid = 1.0f / (1.0f + expf(-g[j])), dg = d[j] * u[j] * sigmoid * (1.0f + g[j] * (1.0f - sigmoid));
        if (AGAIN) out[j] = g[j] * sigmoid * u[j];
        u[j] = d[j] * g[j] * sigmoid;
        g[j] = dg;
    }
    store8<WIDE>(dgu + at, g, I - i);
    store8<WIDE>(dgu + at + I, u, I - i);
    if (AGAIN) store8<WIDE>(a + t * I + i, out, I - i);
}

void cuda_swiglu_forward(act *a, act *gu_saved, const float *gu, int T, int I) {
    if (T == 0) return;
    bool wide = I % 8 == 0 && aligned16(a) && aligned16(gu_saved) && aligned16(gu);
    unsigned blocks = blocks_for((size_t)T * (((size_t)I + 7) / 8), SWIGLU_THREADS);
    LAUNCH_WIDE(wide, swiglu_forward_kernel, blocks, SWIGLU_THREADS, ((bf16 *)a, (bf16 *)gu_saved, gu, T, I));
}

void cuda_swiglu_backward(act *dgu, act *a, const float *da, const act *gu_saved, int T, int I) {
    if (T == 0) return;
    bool wide = I % 8 == 0 && aligned16(dgu) && aligned16(a) && aligned16(da) && aligned16(gu_saved);
    unsigned blocks = blocks_for((size_t)T * (((size_t)I + 7) / 8), SWIGLU_THREADS);
    if (a)
        LAUNCH_WIDE2(wide, swiglu_backward_kernel, true, blocks, SWIGLU_THREADS,
                     ((bf16 *)dgu, (bf16 *)a, da, (const bf16 *)gu_saved, T, I));
    else
        LAUNCH_WIDE2(wide, swiglu_backward_kernel, false, blocks, SWIGLU_THREADS,
                     ((bf16 *)dgu, NULL, da, (const bf16 *)gu_saved, T, I));
}

#endif
