/*
What the CUDA side (backend.cu, and nccl.cu where there is NCCL) gives to the programs, which are C: no header of the
toolkit is needed for it. Functions that can fail return false, or NULL, with the reason in why[why_bytes].

    launch.cuh     the toolkit's headers, or dev/cuda_on_cpu in their place
    common.cuh     checked calls, reductions in a fixed order; tiles.cuh: tiles for the tensor cores
    memory.cuh     device memory and copies; graph.cuh: a decode step as a CUDA graph
    limits.cuh     what the GPU can do at most, for bench
    matmul.cuh     weights and their products; rank.cuh: LoRA
    rows.cuh       embedding, norms, sums; rope.cuh: RoPE with the write to the cache; swiglu.cuh
    attention.cuh  forward; attention_decode.cuh, attention_backward.cuh
    output.cuh     log-probs and their gradient; sample.cuh: sampling
    update.cuh     AdamW; intervene.cuh: what experiments change
    backend.cu     all of these as one table of operations
    nccl.cu        arrays from GPU to GPU

From outside: cuda.h
From dev/, too: the kernels, *.cuh
*/
#ifndef LLMC_CUDA_CUDA_H
#define LLMC_CUDA_CUDA_H

#include "llmc/ops.h" // Ops

#ifdef __cplusplus
extern "C" {
#endif

// ----------------------------------------------------------------------------
// backend.cu

typedef struct {
    int index, count; // which of the GPUs that this process can see
    char name[64];    // "NVIDIA H100 80GB HBM3"
    char bus[32];     // its PCI bus id, which tells the GPUs of a machine apart whatever numbers they go by
} Gpu;

// The GPU that everything below uses from now on: number `local_rank` of those that this process can see, counted
// round. To be called before ops_cuda_init, or never: then it is CUDA's first.
bool gpu_choose(Gpu *gpu, int local_rank, char *why, size_t why_bytes);

// The table of operations on that GPU.
const Ops *ops_cuda_init(char *why, size_t why_bytes);

// Where all of them are queued (a cudaStream_t).
void *gpu_stream(void);

// ----------------------------------------------------------------------------
// nccl.cu: arrays of several ranks' GPUs, from device memory to device memory

#define NCCL_ID_BYTES 128

// NCCL's version, 22809 for 2.28.9.
int nccl_version(void);

// id[NCCL_ID_BYTES] = a new name for a set of ranks. On one of them; it then goes to all others by other means.
bool nccl_make_id(void *id, char *why, size_t why_bytes);

// Joins the set: all ranks together, each with a GPU of its own. Ends the program, with what to do, where that fails,
// for the others would wait. `waiting` is called again and again while an exchange is awaited.
void nccl_begin(const void *id, int rank, int size, const char *host, void (*waiting)(void));

// arrays[n,count] in device memory: array i = from[i] of rank owner[i], for all i and on all ranks, which call this
// together with the same n, count and owner. from[i] is read on that rank alone; it may be its place in `arrays`, but
// not overlap it otherwise. After what is queued in gpu_stream; returns when it is done. Ends the program where a rank
// or its link is lost.
void nccl_share(float *arrays, const float *const *from, const int *owner, int n, size_t count);

// in[ranks,count] in device memory: row r = `count` numbers at out + me stride of rank r, me this rank. All ranks call
// it together with the same stride and count; `in` and what is sent, out + r stride for all r, do not overlap.
// Otherwise as nccl_share.
void nccl_trade(float *in, const float *out, size_t stride, size_t count);

// Leaves the set: all ranks together. Nothing is left over.
void nccl_end(void);

#ifdef __cplusplus
}
#endif

#endif
