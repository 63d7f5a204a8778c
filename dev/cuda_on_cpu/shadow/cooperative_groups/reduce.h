/*
cooperative_groups::reduce over a tile: every thread gets the result, summed up along a butterfly.
*/
#ifndef CUDA_ON_CPU_COOPERATIVE_GROUPS_REDUCE_H
#define CUDA_ON_CPU_COOPERATIVE_GROUPS_REDUCE_H

#include "dev/cuda_on_cpu/shadow/cooperative_groups.h"

namespace cooperative_groups {

template <class T = void> struct plus {
    T operator()(T a, T b) const { return a + b; }
};
template <class T = void> struct less {
    T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T = void> struct greater {
    T operator()(T a, T b) const { return a < b ? b : a; }
};

template <unsigned n, class Parent, class T, class Op>
__forceinline__ T reduce(const thread_block_tile<n, Parent> &tile, T value, Op op) {
    for (unsigned lanes = n / 2; lanes > 0; lanes /= 2) value = op(value, tile.shfl_xor(value, int(lanes)));
    return value;
}

} // namespace cooperative_groups

#endif
