/*
The `cpu` backend: OpenMP and vector instructions, bf16 weights and matmul inputs, everything else fp32.

The kernels are written once (ops_cpu_matmul.h, ops_cpu_rows.h, ops_cpu_attention.h over the vector type of
ops_cpu_simd.h) and compiled three times here, each time told another instruction set:

    avx512     AVX-512 with bf16 dot products (Intel Cooper Lake, Sapphire Rapids ...; AMD Zen 4 ...)
    avx2       AVX2 and FMA (about every x86 since 2013)
    portable   what the compiler assumes anyway: SSE2, NEON, ...

so one binary runs anywhere, without -march. The best level the CPU has is taken at run time; the environment
variable LLMC_ISA=avx512|avx2|portable forces one. Bits differ between levels, never within one.
*/
#ifndef LLMC_OPS_CPU_H
#define LLMC_OPS_CPU_H

#include "ops.h"

#include <omp.h>

#if defined __x86_64__
#define OPS_CPU_X86 1
#if defined __GNUC__ && !defined __clang__ // gcc's own intrinsics header, seen from C++
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic pop
#endif
#endif

// ----------------------------------------------------------------------------
// memory and weights: the same at every level

// Zeroed, 64-byte aligned. Large pieces are pages the system zeroes when they are first touched, so what is
// never used costs nothing. Freed by cpu_release.
void *cpu_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - 128) out_of_memory(bytes);
    char *base = (char *)calloc(bytes + 128, 1);
    if (!base) out_of_memory(bytes);
    char *p = (char *)(((uintptr_t)base + sizeof(void *) + 63) & ~(uintptr_t)63);
    memcpy(p - sizeof(void *), &base, sizeof(void *));
    return p;
}

void cpu_release(void *p) {
    if (!p) return;
    void *base;
    memcpy(&base, (char *)p - sizeof(void *), sizeof(void *));
    free(base);
}

// Row `row` of a raw matrix of n columns as bf16, columns k0 ... k0+n-1.
void cpu_raw_bf16(bf16_t *to, const RawTensor *raw, int64_t row, int64_t k0, int n) {
    size_t at = (size_t)(row * raw->shape[1] + k0);
    if (raw->dtype == DTYPE_BF16) {
        memcpy(to, (const bf16_t *)raw->data + at, (size_t)n * sizeof *to);
    } else if (raw->dtype == DTYPE_F16) {
        for (int i = 0; i < n; i++) to[i] = f32_to_bf16(f16_to_f32(((const uint16_t *)raw->data)[at + i]));
    } else {
        for (int i = 0; i < n; i++) {
            float f;
            memcpy(&f, (const char *)raw->data + (at + i) * sizeof f, sizeof f); // a file's data need not be aligned
            to[i] = f32_to_bf16(f);
        }
    }
}

// w = raw[0 ... n_raw-1] stacked along N, all [*, K], in strips of `strip` rows as ops_cpu_matmul.h describes.
// Freed by cpu_weight_free.
void cpu_weight_pack(Weight *w, const RawTensor *raw, int n_raw, int strip) {
    memset(w, 0, sizeof *w);
    w->n_raw = n_raw;
    w->K = (int)raw[0].shape[1];
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    const int K = w->K, k2 = (K + 1) / 2, n_strips = (w->N + 63) / 64 * (64 / strip);
    bf16_t *data = (bf16_t *)cpu_alloc((size_t)n_strips * strip * k2 * 2 * sizeof *data);
#pragma omp parallel for schedule(static)
    for (int s = 0; s < n_strips; s++)
        for (int k = 0; k < K; k += 32) // 32 columns of all rows at a time: what is written stays in the L1 cache
            for (int n = 0; n < strip && s * strip + n < w->N; n++) {
                int from = 0, row = s * strip + n;
                while (row >= w->raw[from].shape[0]) row -= (int)w->raw[from++].shape[0];
                bf16_t x[32] = {0};
                cpu_raw_bf16(x, &w->raw[from], row, k, K - k < 32 ? K - k : 32);
                bf16_t *to = data + ((size_t)s * k2 + k / 2) * 2 * strip + 2 * n;
                for (int i = 0; i < 16 && k / 2 + i < k2; i++) memcpy(to + (size_t)i * 2 * strip, x + 2 * i, 4);
            }
    w->data = data;
}

void cpu_weight_free(Weight *w) {
    cpu_release(w->data);
    memset(w, 0, sizeof *w);
}

// ----------------------------------------------------------------------------
// the kernels, once per instruction set

#define SIMD_PORTABLE 1
#define SIMD_AVX2 2
#define SIMD_AVX512 3
#define SIMD_PASTE2(x, y) x##_##y
#define SIMD_PASTE(x, y) SIMD_PASTE2(x, y)
#define SIMD_NAME(x) SIMD_PASTE(x, SIMD)

#if OPS_CPU_X86

#if defined __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")
#endif
#define SIMD avx512
#define SIMD_LEVEL SIMD_AVX512
#include "ops_cpu_simd.h"
#include "ops_cpu_matmul.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_attention.h"
#include "ops_cpu_output.h"
#undef SIMD
#undef SIMD_LEVEL
#if defined __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define SIMD avx2
#define SIMD_LEVEL SIMD_AVX2
#include "ops_cpu_simd.h"
#include "ops_cpu_matmul.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_attention.h"
#include "ops_cpu_output.h"
#undef SIMD
#undef SIMD_LEVEL
#if defined __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

#define SIMD portable
#define SIMD_LEVEL SIMD_PORTABLE
#include "ops_cpu_simd.h"
#include "ops_cpu_matmul.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_attention.h"
#include "ops_cpu_output.h"
#undef SIMD
#undef SIMD_LEVEL

// ----------------------------------------------------------------------------
// the table

#define CPU_TABLE(ops, level)                                  \
    do {                                                       \
        (ops)->name = "cpu";                                   \
        (ops)->isa = #level;                                   \
        (ops)->act_bytes = sizeof(bf16_t);                     \
        (ops)->alloc = cpu_alloc;                              \
        (ops)->release = cpu_release;                          \
        (ops)->weight_load = weight_load_##level;              \
        (ops)->weight_free = cpu_weight_free;                  \
        (ops)->embed = embed_##level;                          \
        (ops)->add_rmsnorm_forward = add_rmsnorm_forward_##level; \
        (ops)->rmsnorm_backward = rmsnorm_backward_##level;    \
        (ops)->column_sum = column_sum_##level;                \
        (ops)->gather_rows = gather_rows_##level;              \
        (ops)->scatter_add_rows = scatter_add_rows_##level;    \
        (ops)->matmul_forward = matmul_forward_##level;        \
        (ops)->matmul_backward = matmul_backward_##level;      \
        (ops)->rope_kv_write = rope_kv_write_##level;          \
        (ops)->rope_backward = rope_backward_##level;          \
        (ops)->kv_copy_page = kv_copy_page_##level;            \
        (ops)->attention_forward = attention_forward_##level;  \
        (ops)->attention_backward = attention_backward_##level; \
        (ops)->to_act = to_act_##level;                        \
        (ops)->swiglu_forward = swiglu_forward_##level;        \
        (ops)->swiglu_backward = swiglu_backward_##level;      \
        (ops)->logprob_rows = logprob_rows_##level;            \
        (ops)->dlogits_rows = dlogits_rows_##level;            \
        (ops)->sample_rows = sample_rows_##level;              \
    } while (0)

// Levels this CPU and its operating system can run, best first.
int cpu_levels(const char *names[3]) {
    int n = 0;
#if OPS_CPU_X86
    __builtin_cpu_init(); // its answers include whether the system saves the registers
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16"))
        names[n++] = "avx512";
    if (avx2) names[n++] = "avx2";
#endif
    names[n++] = "portable";
    return n;
}

// The table of one level; NULL and err if this CPU has no such level.
const Ops *cpu_ops_for(const char *level, Error *err) {
    static Ops tables[3];
    const char *names[3];
    int n = cpu_levels(names);
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], level) != 0) continue;
        Ops *ops = &tables[i];
#if OPS_CPU_X86
        if (strcmp(level, "avx512") == 0) CPU_TABLE(ops, avx512);
        else if (strcmp(level, "avx2") == 0) CPU_TABLE(ops, avx2);
        else
#endif
            CPU_TABLE(ops, portable);
        return ops;
    }
    char can[64] = "";
    for (int i = 0; i < n; i++) snprintf(can + strlen(can), sizeof can - strlen(can), "%s%s", i ? ", " : "", names[i]);
    fail(err, EXIT_USAGE, "LLMC_ISA=%s: this CPU cannot run that\n  -> one of: %s (or unset it)", level, can);
    return NULL;
}

// The fastest table this CPU can run, or the one LLMC_ISA names. NULL and err if it cannot.
const Ops *ops_cpu_init(Error *err) {
    const char *forced = getenv("LLMC_ISA");
    const char *names[3];
    cpu_levels(names);
    return cpu_ops_for(forced && *forced ? forced : names[0], err);
}

#endif
