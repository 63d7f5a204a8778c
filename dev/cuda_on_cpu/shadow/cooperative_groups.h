/*
Of cooperative groups: the block, and tiles of up to 32 threads of it.
*/
#ifndef CUDA_ON_CPU_COOPERATIVE_GROUPS_H
#define CUDA_ON_CPU_COOPERATIVE_GROUPS_H

#include "dev/cuda_on_cpu/cuda_on_cpu.h"

namespace cooperative_groups {

struct thread_block {
    static __forceinline__ void sync() { cuda_on_cpu::barrier(nullptr, cuda_on_cpu::BARRIER, 0); }
    static __forceinline__ unsigned thread_rank() {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }
    static __forceinline__ unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
    static __forceinline__ unsigned size() { return num_threads(); }
    static __forceinline__ dim3 group_index() { return dim3(blockIdx.x, blockIdx.y, blockIdx.z); }
    static __forceinline__ dim3 thread_index() { return dim3(threadIdx.x, threadIdx.y, threadIdx.z); }
    static __forceinline__ dim3 dim_threads() { return blockDim; }
};
__forceinline__ thread_block this_thread_block() { return {}; }

template <unsigned n, class Parent = void> struct thread_block_tile {
    static_assert(n >= 1 && n <= 32 && (n & (n - 1)) == 0, "a tile has 1, 2, 4, 8, 16 or 32 threads here");
    thread_block_tile() {}
    template <class Other> thread_block_tile(const thread_block_tile<n, Other> &) {}
    // The lanes of this tile, as a mask over its warp
    static __forceinline__ unsigned mask() {
        return n == 32 ? ~0u : ((1u << (n % 32)) - 1) << (thread_block::thread_rank() % 32 / n * n);
    }
    static __forceinline__ unsigned thread_rank() { return thread_block::thread_rank() % n; }
    static constexpr __forceinline__ unsigned num_threads() { return n; }
    static constexpr __forceinline__ unsigned size() { return n; }
    static __forceinline__ unsigned meta_group_rank() { return thread_block::thread_rank() / n; }
    static __forceinline__ unsigned meta_group_size() { return (thread_block::num_threads() + n - 1) / n; }
    static __forceinline__ void sync() { __syncwarp(mask()); }
    template <class T> static __forceinline__ T shfl(T value, int source) {
        return __shfl_sync(mask(), value, source, n);
    }
    template <class T> static __forceinline__ T shfl_up(T value, unsigned delta) {
        return __shfl_up_sync(mask(), value, delta, n);
    }
    template <class T> static __forceinline__ T shfl_down(T value, unsigned delta) {
        return __shfl_down_sync(mask(), value, delta, n);
    }
    template <class T> static __forceinline__ T shfl_xor(T value, int lanes) {
        return __shfl_xor_sync(mask(), value, lanes, n);
    }
    static __forceinline__ unsigned ballot(int predicate) {
        return __ballot_sync(mask(), predicate) >> (thread_block::thread_rank() % 32 / n * n);
    }
    static __forceinline__ int any(int predicate) { return __any_sync(mask(), predicate); }
    static __forceinline__ int all(int predicate) { return __all_sync(mask(), predicate); }
};
template <unsigned n, class Group> __forceinline__ thread_block_tile<n, Group> tiled_partition(const Group &) {
    return {};
}
template <class Group> __forceinline__ void sync(const Group &group) { group.sync(); }

} // namespace cooperative_groups

#endif
