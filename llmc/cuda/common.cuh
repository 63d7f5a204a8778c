/*
What every kernel file builds on: checked calls, the state of the backend, 128-bit packs, reductions in a fixed order.
*/
#ifndef LLMC_CUDA_COMMON_CUH
#define LLMC_CUDA_COMMON_CUH

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>
#include <cuda_fp16.h>

#include "llmc/cuda/launch.cuh" // LAUNCH, SHARED, DYN_SHARED

extern "C" {
#include "llmc/ops.h" // Ops, act, Weight, KVCache, Sequence
}

typedef __nv_bfloat16 bf16; // what `act` is here

// ----------------------------------------------------------------------------
// state

// All work is queued here, in order.
static cudaStream_t cuda_stream;

// A piece of device memory of the backend's own that grows when more is wanted and is kept for the next call.
// cuda_reserve gives each its largest size.
typedef struct {
    void *p;
    size_t bytes;
} CudaScratch;

// Set by ops_cuda_init (backend.cu).
static struct {
    cudaDeviceProp device;
    cublasLtHandle_t cublas;
    void *workspace; // cuBLASLt's
    size_t workspace_bytes;
    CudaScratch output;   // sums of chunks of logits (output.cuh)
    CudaScratch update;   // partial sums of a gradient's norm (update.cuh)
    CudaScratch convert;  // a piece of a weight before its conversion (matmul.cuh)
    CudaScratch decode;   // chunks that wait to be folded (attention_decode.cuh)
    CudaScratch backward; // attention_backward.cuh
} cuda;

static inline int cuda_multiprocessors() { return cuda.device.multiProcessorCount; }

// Without the point, as GPU_ARCH of the Makefile takes it: 90.
static inline int cuda_compute_capability() { return 10 * cuda.device.major + cuda.device.minor; }

// ----------------------------------------------------------------------------
// checked calls

[[noreturn]] static void cuda_failed(const char *what, const char *error, const char *advice, const char *file,
                                     int line) {
    fprintf(stderr, "error: %s:%d: %s: %s\n  -> %s\n", file, line, what, error, advice);
    exit(EXIT_FAILURE);
}

static const char *cuda_advice(cudaError_t error) {
    static char rebuild[80];
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "lower rollout_batch_size, max_completion_length or activation_memory, or use --device cpu";
    case cudaErrorNoKernelImageForDevice:
        snprintf(rebuild, sizeof rebuild, "rebuild for this GPU: make CUDA=1 GPU_ARCH=%d", cuda_compute_capability());
        return rebuild;
    case cudaErrorInsufficientDriver: return "update the NVIDIA driver, or use --device cpu";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
        return "a kernel went wrong: `compute-sanitizer` before the command names it; please report what it prints";
    default: return "see whether nvidia-smi finds the GPU in order; CUDA_LAUNCH_BLOCKING=1 shows which call it was";
    }
}

#define CUDA_CHECK(call) \
    do { \
        cudaError_t cuda_error = (call); \
        if (cuda_error != cudaSuccess) \
            cuda_failed(#call, cudaGetErrorString(cuda_error), cuda_advice(cuda_error), __FILE__, __LINE__); \
    } while (0)

#define CUBLAS_CHECK(call) \
    do { \
        cublasStatus_t cublas_status = (call); \
        if (cublas_status != CUBLAS_STATUS_SUCCESS) \
            cuda_failed(#call, cublasLtGetStatusString(cublas_status), \
                        "CUBLASLT_LOG_LEVEL=2 in the environment says more", __FILE__, __LINE__); \
    } while (0)

// ----------------------------------------------------------------------------
// launches

// Blocks that cover n items, `each` in a block. A grid has 2^31 - 1 blocks in x, more than any array here fills.
static inline unsigned blocks_for(size_t n, size_t each) { return (unsigned)((n + each - 1) / each); }

// kernel<true> where `wide` (128-bit accesses), else kernel<false>; a second template argument follows in
// LAUNCH_WIDE2. Both are named, so that a report of dev/cuda_on_cpu says which one it was.
#define LAUNCH_WIDE(wide, kernel, grid, block, arguments) \
    do { \
        if (wide) LAUNCH(kernel<true>, grid, block, 0, cuda_stream) arguments; \
        else LAUNCH(kernel<false>, grid, block, 0, cuda_stream) arguments; \
        CUDA_CHECK(cudaGetLastError()); \
    } while (0)
#define LAUNCH_WIDE2(wide, kernel, second, grid, block, arguments) \
    do { \
        if (wide) LAUNCH((kernel<true, second>), grid, block, 0, cuda_stream) arguments; \
        else LAUNCH((kernel<false, second>), grid, block, 0, cuda_stream) arguments; \
        CUDA_CHECK(cudaGetLastError()); \
    } while (0)

static inline bool aligned16(const void *p) { return (uintptr_t)p % 16 == 0; } // true for NULL

// ----------------------------------------------------------------------------
// packs: numbers that one thread moves with 128-bit accesses

// 4 and 8 bf16. As vectors of integers, since of structs of bf16 nvcc makes several smaller accesses.
typedef uint2 Bf16x4;
typedef uint4 Bf16x8;

__device__ __forceinline__ uint32_t round2(float a, float b) {
    __nv_bfloat162 x = __floats2bfloat162_rn(a, b);
    return *(const uint32_t *)&x;
}
__device__ __forceinline__ Bf16x4 round4(float a, float b, float c, float d) {
    return make_uint2(round2(a, b), round2(c, d));
}
__device__ __forceinline__ Bf16x8 round8(float4 a, float4 b) {
    return make_uint4(round2(a.x, a.y), round2(a.z, a.w), round2(b.x, b.y), round2(b.z, b.w));
}
__device__ __forceinline__ Bf16x8 round8(const float *x) {
    return make_uint4(round2(x[0], x[1]), round2(x[2], x[3]), round2(x[4], x[5]), round2(x[6], x[7]));
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }

// out[8] = p[0..8) as float. WIDE: p is aligned and all 8 exist; otherwise the first n (<= 8) do, and 0 stands for the
// others.
template <bool WIDE> __device__ __forceinline__ void load8(float *out, const float *p, int n) {
    if (WIDE) {
        #pragma unroll
        for (int i = 0; i < 8; i += 4) {
            float4 v = *(const float4 *)(p + i);
            out[i] = v.x;
            out[i + 1] = v.y;
            out[i + 2] = v.z;
            out[i + 3] = v.w;
        }
    } else {
        #pragma unroll
        for (int i = 0; i < 8; i++) out[i] = i < n ? p[i] : 0.0f;
    }
}

__device__ __forceinline__ void from_bits(bf16 *x, unsigned short bits) { *x = __ushort_as_bfloat16(bits); }
__device__ __forceinline__ void from_bits(__half *x, unsigned short bits) { *x = __ushort_as_half(bits); }

template <bool WIDE, class Half>
__device__ __forceinline__ void load8(float *out, const Half *p, int n) { // bf16 or __half
    if (WIDE) {
        const uint4 v = *(const uint4 *)p;
        const uint32_t two[4] = {v.x, v.y, v.z, v.w};
        #pragma unroll
        for (int i = 0; i < 8; i++) {
            Half x;
            from_bits(&x, (unsigned short)(two[i / 2] >> 16 * (i % 2)));
            out[i] = to_float(x);
        }
    } else {
        #pragma unroll
        for (int i = 0; i < 8; i++) out[i] = i < n ? to_float(p[i]) : 0.0f;
    }
}

// p[0..8) = x[8]; not WIDE: only the first n
template <bool WIDE> __device__ __forceinline__ void store8(float *p, const float *x, int n) {
    if (WIDE) {
        *(float4 *)p = make_float4(x[0], x[1], x[2], x[3]);
        *(float4 *)(p + 4) = make_float4(x[4], x[5], x[6], x[7]);
    } else {
        #pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) p[i] = x[i];
    }
}

template <bool WIDE> __device__ __forceinline__ void store8(bf16 *p, const float *x, int n) {
    if (WIDE) *(Bf16x8 *)p = round8(x);
    else {
        #pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) p[i] = __float2bfloat16(x[i]);
    }
}

// ----------------------------------------------------------------------------
// reductions. The order is that of a butterfly, the same in every run; every thread gets the result.

struct Sum {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};
struct Largest {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return b > a ? b : a; }
}; // of numbers, not NaN
struct Smallest {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a < b ? a : b; }
};

template <class Op, class T> __device__ __forceinline__ T warp_reduce(T x) {
    #pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = Op()(x, __shfl_xor_sync(0xFFFFFFFFu, x, distance));
    return x;
}

// Of all threads of the block, whole warps. `parts` has room for one T a warp and may be reused at once.
template <class Op, class T> __device__ __forceinline__ T block_reduce(T x, T *parts) {
    int warps = (int)blockDim.x / 32;
    x = warp_reduce<Op>(x);
    if (warps == 1) return x;
    __syncthreads(); // parts may still be read from the reduction before
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    T all = parts[0];
    for (int w = 1; w < warps; w++) all = Op()(all, parts[w]);
    return all;
}

// The sum of x over the threads before this one, and of all in *total.
template <class T> __device__ __forceinline__ T block_sum_before(T x, T *total, T *parts) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    T upto = x, before = 0;
    #pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        T other = __shfl_up_sync(0xFFFFFFFFu, upto, (unsigned)distance);
        if (lane >= distance) upto += other;
    }
    T in_warp = __shfl_up_sync(0xFFFFFFFFu, upto, 1u);
    if (lane == 0) in_warp = 0;
    __syncthreads();
    if (lane == 31) parts[warp] = upto;
    __syncthreads();
    T all = 0;
    for (int w = 0; w < warps; w++) {
        if (w == warp) before = all;
        all += parts[w];
    }
    *total = all;
    return before + in_warp;
}

#endif
