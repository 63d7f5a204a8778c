/*
What every file of kernels shares: the stream they run on, checked calls, sums in a fixed order, 128-bit accesses, and scratch
memory of the device.
*/
#ifndef LLMC_CUDA_COMMON_CUH
#define LLMC_CUDA_COMMON_CUH

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llmc/cuda/launch.cuh"
#include "llmc/ops.h"

typedef __nv_bfloat16 bf16;

static cudaStream_t cuda_stream; // all work, in order
static int cuda_major;           // compute capability

// ----------------------------------------------------------------------------
// errors: nothing that the device refuses can be mended by the caller, so the program ends

[[noreturn]] static void cuda_fail(const char *what, const char *why, const char *file, int line) {
    fflush(stdout);
    fprintf(stderr, "error: CUDA: %s, at %s:%d: %s\n  -> --device cpu computes the same without a GPU; compute-sanitizer names the kernel\n", what, file, line, why);
    exit(1);
}

#define CUDA_CHECK(call)                                                                        \
    do {                                                                                        \
        cudaError_t cuda_error_ = (call);                                                       \
        if (cuda_error_ != cudaSuccess) cuda_fail(#call, cudaGetErrorString(cuda_error_), __FILE__, __LINE__); \
    } while (0)

static inline unsigned cuda_blocks(size_t n, size_t per_block) { return (unsigned)((n + per_block - 1) / per_block); }

// Streaming multiprocessors of the device.
static inline int cuda_multiprocessors(void) {
    static int n;
    if (n == 0) CUDA_CHECK(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, 0));
    return n;
}

// ----------------------------------------------------------------------------
// sums: the same bits whatever runs first

template <typename Number>
__device__ __forceinline__ Number warp_sum(Number x) {
    for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, d);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
    return x;
}

// The sum over a block of 32 * n threads, n <= 32, to every thread. `parts` [32] may be used again at once.
template <typename Number>
__device__ __forceinline__ Number block_sum(Number x, Number *parts) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = warp_sum(x);
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    x = warp_sum(lane < (int)blockDim.x / 32 ? parts[lane] : (Number)0);
    __syncthreads();
    return x;
}

// ----------------------------------------------------------------------------
// wide accesses

// N neighbours, read and written in one access: 128 bits for 4 floats or 8 bf16.
template <int N> struct alignas(4 * N > 16 ? 16 : 4 * N) Floats { float x[N]; };
template <int N> struct alignas(2 * N) Bf16s { bf16 x[N]; };

static inline bool cuda_aligned(const void *p, size_t bytes) { return ((uintptr_t)p % bytes) == 0; }

// ----------------------------------------------------------------------------
// device memory for one operation's partial results; grows, and is reused by the next (all work is on one stream)

static void *cuda_scratch(size_t bytes) {
    static void *memory;
    static size_t held;
    if (bytes > held) {
        if (memory) CUDA_CHECK(cudaFree(memory));
        held = bytes;
        CUDA_CHECK(cudaMalloc(&memory, held));
    }
    return memory;
}

#endif
