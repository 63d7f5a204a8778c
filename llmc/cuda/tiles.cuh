/*
Tiles of 16 x 16 for the tensor cores (nvcuda::wmma), and copies to shared memory that run on by themselves. The inline
PTX of this backend is all here, each piece with what it means on the CPU beside it.

load_tile is load_matrix_sync for a tile in shared memory. nvcc 13 does not tell wmma's bf16 loads that an address is
shared: it makes four generic loads and two transpositions of each, where one LDSM.x4 does.
*/
#ifndef LLMC_CUDA_TILES_CUH
#define LLMC_CUDA_TILES_CUH

#include <mma.h>

#include "llmc/cuda/common.cuh"

namespace wmma = nvcuda::wmma;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> Tile;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> TileA;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::row_major> TileB;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> TileBT; // of a transposed matrix

// f = the tile at p, in shared memory, whose rows lie ld elements apart.
#ifdef CUDA_ON_CPU
template <class F> __forceinline__ void load_tile(F &f, const bf16 *p, unsigned ld) {
    wmma::load_matrix_sync(f, p, ld);
}
#else
#define LOAD_TILE(F, operand, order) \
    __device__ __forceinline__ void load_tile(F &f, const bf16 *p, unsigned ld) { \
        unsigned x[4]; \
        static_assert(sizeof x == sizeof f, "a tile is four registers"); \
        asm volatile("wmma.load." operand ".sync.aligned." order ".m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;" \
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) \
                     : "r"((unsigned)__cvta_generic_to_shared(p)), "r"(ld) \
                     : "memory"); \
        memcpy(&f, x, sizeof x); \
    }
LOAD_TILE(TileA, "a", "row")
LOAD_TILE(TileB, "b", "row")
LOAD_TILE(TileBT, "b", "col")
#undef LOAD_TILE
#endif

// 16 bytes from global to shared memory, or 16 zeros, on their way until copies_wait.
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool valid) {
#ifdef CUDA_ON_CPU
    cuda_on_cpu::copy_async(shared, global, 16, valid); // the bytes arrive as late as they may
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
#endif
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void copies_commit() {
#ifdef CUDA_ON_CPU
    cuda_on_cpu::copies_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups but the `left` latest; not for copies that no group has taken in yet.
template <int left> __device__ __forceinline__ void copies_wait() {
#ifdef CUDA_ON_CPU
    cuda_on_cpu::copies_wait(left);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#endif
}

#endif
