/*
What every file of CUDA code includes first: the toolkit's headers, and three macros instead of the three pieces of
CUDA's syntax that only nvcc can read. With them the same source compiles with nvcc for a GPU, and with g++
-DCUDA_ON_CPU for the CPU, where dev/cuda_on_cpu runs it with every check switched on.

    LAUNCH((kernel<64, float>), grid, block, smem, stream)(args);   kernel<64, float><<<grid, block, smem,
                                                                    stream>>>(args);
    SHARED(float, s, [8][32]);                                      __shared__ float s[8][32];
    SHARED(int, flag);                                              __shared__ int flag;
    DYN_SHARED(float, d);                                           extern __shared__ float d[];

A kernel with commas between its template arguments stands in parentheses; smem counts bytes. Both kinds of shared
memory begin at a multiple of 32 bytes: enough for 128-bit accesses and for wmma. Kernels with different types may each
use DYN_SHARED, and one kernel may use it twice: both name the same bytes, as in CUDA.
*/
#ifndef LLMC_CUDA_LAUNCH_CUH
#define LLMC_CUDA_LAUNCH_CUH

#ifdef CUDA_ON_CPU
#include "dev/cuda_on_cpu/cuda_on_cpu.h"
#else
#include <cuda_runtime.h>
#include <cuda_bf16.h>

#define LAUNCH(kernel, grid, block, smem, stream) kernel<<<grid, block, smem, stream>>>
#define SHARED(type, name, ...) __shared__ alignas(32) type name __VA_ARGS__
// One symbol for all kernels: nvcc refuses two external arrays of one name and different types.
extern __shared__ __align__(32) unsigned char llmc_cuda_dynamic_shared[];
#define DYN_SHARED(type, name) type *name = reinterpret_cast<type *>(llmc_cuda_dynamic_shared)
#endif

#endif
