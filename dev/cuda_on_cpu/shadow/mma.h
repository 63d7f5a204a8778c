/*
nvcuda::wmma for bf16 with fp32 sums, in the shapes 16x16x16, 32x8x16 and 8x32x16. A fragment is spread over the lanes
of its warp as on a GPU, in an order that is nobody's business: code that relies on the order of the hardware fails
here. What all lanes do alike with x[0 .. num_elements) - scaling, adding - means the same as there; num_elements itself
may differ.
*/
#ifndef CUDA_ON_CPU_MMA_H
#define CUDA_ON_CPU_MMA_H

#include "dev/cuda_on_cpu/cuda_on_cpu.h"

namespace nvcuda {
namespace wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int m, int n, int k, class T, class Layout = void> struct fragment {
    static_assert(k == 16 && ((m == 16 && n == 16) || (m == 32 && n == 8) || (m == 8 && n == 32)),
                  "bf16 has 16x16x16, 32x8x16, 8x32x16");
    static constexpr bool is_a = std::is_same<Use, matrix_a>::value, is_b = std::is_same<Use, matrix_b>::value;
    static_assert(is_a || is_b ? std::is_same<T, __nv_bfloat16>::value && !std::is_void<Layout>::value
                               : std::is_same<T, float>::value && std::is_void<Layout>::value,
                  "bf16 times bf16, added up in float, is what there is here");
    static constexpr int rows = is_b ? k : m, columns = is_a ? k : n, num_elements = rows * columns / 32;
    static constexpr bool column_major = std::is_same<Layout, col_major>::value;
    T x[num_elements];
};

template <class F, class T> __forceinline__ void fill_fragment(F &f, T value) {
    cuda_on_cpu::warp(cuda_on_cpu::MATRIX_FILL, ~0u, 0, 0, 32);
    for (int i = 0; i < F::num_elements; i++) f.x[i] = value;
}

// Each lane moves the elements that it holds, so that the checks know who read and wrote what.
template <class F, class T> __forceinline__ void load_elements(F &f, const T *p, unsigned ld, bool column_major) {
    cuda_on_cpu::check_fragment(p, ld, sizeof(T), column_major ? F::rows : F::columns);
    cuda_on_cpu::warp(cuda_on_cpu::MATRIX_LOAD, ~0u, uint64_t(p), int(ld), 32);
    for (int i = 0; i < F::num_elements; i++) {
        int e = cuda_on_cpu::fragment_element(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z), i);
        int row = e / F::columns, column = e % F::columns;
        f.x[i] = column_major ? p[row + size_t(column) * ld] : p[size_t(row) * ld + column];
    }
}
template <class Use, int m, int n, int k, class T, class Layout>
__forceinline__ void load_matrix_sync(fragment<Use, m, n, k, T, Layout> &f, const T *p, unsigned ld) {
    static_assert(!std::is_void<Layout>::value, "an accumulator needs its layout as the fourth argument");
    load_elements(f, p, ld, f.column_major);
}
template <int m, int n, int k>
__forceinline__ void load_matrix_sync(fragment<accumulator, m, n, k, float> &f, const float *p, unsigned ld,
                                      layout_t layout) {
    load_elements(f, p, ld, layout == mem_col_major);
}
template <int m, int n, int k>
__forceinline__ void store_matrix_sync(float *p, const fragment<accumulator, m, n, k, float> &f, unsigned ld,
                                       layout_t layout) {
    bool column_major = layout == mem_col_major;
    cuda_on_cpu::check_fragment(p, ld, sizeof(float), column_major ? m : n);
    cuda_on_cpu::warp(cuda_on_cpu::MATRIX_STORE, ~0u, uint64_t(p), int(ld), 32);
    for (int i = 0; i < f.num_elements; i++) {
        int e = cuda_on_cpu::fragment_element(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z), i);
        int row = e / n, column = e % n;
        p[column_major ? row + size_t(column) * ld : size_t(row) * ld + column] = f.x[i];
    }
}

// d = a b + c
template <int m, int n, int k, class LayoutA, class LayoutB>
__forceinline__ void
mma_sync(fragment<accumulator, m, n, k, float> &d, const fragment<matrix_a, m, n, k, __nv_bfloat16, LayoutA> &a,
         const fragment<matrix_b, m, n, k, __nv_bfloat16, LayoutB> &b, const fragment<accumulator, m, n, k, float> &c) {
    cuda_on_cpu::MatrixProduct product = {a.x, b.x, c.x, d.x, m, n, k};
    cuda_on_cpu::warp(cuda_on_cpu::MATRIX_MULTIPLY, ~0u, reinterpret_cast<uintptr_t>(&product), 0, 32);
}

} // namespace wmma
} // namespace nvcuda

#endif
