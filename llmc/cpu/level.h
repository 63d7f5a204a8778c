/*
Which level is being compiled. The Makefile says -DSIMD=avx2 and tells the compiler its instructions; from the name
follow

    SIMD_LEVEL    what the matrix products use
    SIMD_VECTORS  the registers of everything else
    SIMD_NAME(f)  f_avx2

Every function that is not inlined is called SIMD_NAME(...), so that a profile, a debugger and the disassembly in `make
test` say whose it is; a header lists those names at its top.
*/
#ifndef LLMC_CPU_LEVEL_H
#define LLMC_CPU_LEVEL_H

#define SIMD_PORTABLE 1
#define SIMD_AVX2 2
#define SIMD_AVX512 3
#define SIMD_AVX512_BF16 4
#define SIMD_AMX 5
#define SIMD_NEON 6
#define SIMD_NEON_BF16 7

#define SIMD_LEVEL_portable SIMD_PORTABLE
#define SIMD_LEVEL_avx2 SIMD_AVX2
#define SIMD_LEVEL_avx512 SIMD_AVX512
#define SIMD_LEVEL_avx512_bf16 SIMD_AVX512_BF16
#define SIMD_LEVEL_amx SIMD_AMX
#define SIMD_LEVEL_amx_emulated SIMD_AMX // dev/test/amx_emulated.c
#define SIMD_LEVEL_neon SIMD_NEON
#define SIMD_LEVEL_neon_bf16 SIMD_NEON_BF16

#define SIMD_PASTE2(x, y) x##_##y
#define SIMD_PASTE(x, y) SIMD_PASTE2(x, y)
#define SIMD_NAME(x) SIMD_PASTE(x, SIMD)
#define SIMD_LEVEL_OF(level) SIMD_PASTE2(SIMD_LEVEL, level)
#define SIMD_LEVEL_NUMBER(level) SIMD_LEVEL_OF(level)
#define SIMD_LEVEL SIMD_LEVEL_NUMBER(SIMD)

#ifndef AMX_EMULATED
#define AMX_EMULATED 0
#endif
#if AMX_EMULATED
#define SIMD_VECTORS SIMD_PORTABLE
#elif SIMD_LEVEL == SIMD_AMX || SIMD_LEVEL == SIMD_AVX512_BF16
#define SIMD_VECTORS SIMD_AVX512
#elif SIMD_LEVEL == SIMD_NEON_BF16
#define SIMD_VECTORS SIMD_NEON
#else
#define SIMD_VECTORS SIMD_LEVEL
#endif

#define SIMD_INLINE static inline __attribute__((always_inline, unused))

#if SIMD_VECTORS == SIMD_AVX2 || SIMD_VECTORS == SIMD_AVX512
#if defined __GNUC__ && !defined __clang__ // gcc 12 warns of its own intrinsics header in C++
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic pop
#endif
#elif SIMD_VECTORS == SIMD_NEON
#include <arm_neon.h>
#endif

#endif
