/*
The `cpu` backend: OpenMP and vector instructions, bf16 weights and matmul inputs, everything else fp32.

The kernels are written once (ops_cpu_matmul.h, _weight.h, _rows.h, _rank.h, _attention.h, _output.h over the vector type of
ops_cpu_simd.h) and compiled three times here, each time told another instruction set; two levels more have matrix products
of their own (ops_cpu_amx.h is the tiles'):

    amx          tile products (Intel Sapphire Rapids ...), the rest as avx512
    avx512_bf16  bf16 dot products (AMD Zen 4 ..., Intel Cooper Lake), the rest as avx512
    avx512       AVX-512 with fp32 multiply-adds (Intel since Skylake-SP)
    avx2         AVX2 and FMA (about every x86 since 2013)
    portable     what the compiler assumes anyway: SSE2, NEON, ...

so one binary runs anywhere, without -march. The best level the CPU has is taken at run time (cpu_levels); the environment
variable LLMC_ISA, one of these names, forces one; -DLLMC_PORTABLE builds none but portable. avx512 and avx2 give
the same bits; otherwise bits differ between levels, never within one.
*/
#ifndef LLMC_OPS_CPU_H
#define LLMC_OPS_CPU_H

#include "ops_host.h" // ops_host_init
#include "utils.h"    // bf16_t, xaligned, out_of_memory

#include "threads.h" // OpenMP, or its meaning for one thread
#include <sys/mman.h> // mmap, madvise: large pieces of memory
#include <sys/syscall.h> // arch_prctl

#if defined __x86_64__ && !defined LLMC_PORTABLE
#define OPS_CPU_X86 1
#if defined __GNUC__ && !defined __clang__ // gcc 12 warns of its own intrinsics header in C++
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <cpuid.h>
#include <immintrin.h>
#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic pop
#endif
#endif

// ----------------------------------------------------------------------------
// memory and weights: the same at every level

// Zeroed, 64-byte aligned; from 1.5 MiB on in huge pages where the system has them (fewer page faults when
// loading, fewer TLB misses when streaming). Pages are zeroed when first touched, so what is never used costs
// nothing. Freed by cpu_release.
typedef struct { void *base; size_t mapped; } CpuBlock; // lies in front of what cpu_alloc returns; mapped 0: from calloc

void *cpu_alloc(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    if (bytes > SIZE_MAX / 2) out_of_memory(bytes);
    CpuBlock block;
    char *p;
    if (bytes >= huge * 3 / 4) {
        block.mapped = (bytes + huge - 1) / huge * huge + huge; // room to align
        block.base = mmap(NULL, block.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block.base == MAP_FAILED) out_of_memory(bytes);
        p = (char *)(((uintptr_t)block.base + sizeof block + huge - 1) & ~(uintptr_t)(huge - 1));
#ifdef MADV_HUGEPAGE // an advice: if refused, nothing is lost. A last piece that fills less than 3/4 stays in small pages.
        madvise(p, (bytes + huge / 4) / huge * huge, MADV_HUGEPAGE);
#endif
    } else {
        block.mapped = 0;
        block.base = calloc(bytes + 64 + sizeof block, 1);
        if (!block.base) out_of_memory(bytes);
        p = (char *)(((uintptr_t)block.base + sizeof block + 63) & ~(uintptr_t)63);
    }
    memcpy(p - sizeof block, &block, sizeof block);
    return p;
}

void cpu_release(void *p) {
    if (!p) return;
    CpuBlock block;
    memcpy(&block, (char *)p - sizeof block, sizeof block);
    if (block.mapped) munmap(block.base, block.mapped);
    else free(block.base);
}

// Columns k0 ... k0+n-1 of row `row` of a raw matrix as bf16.
void cpu_raw_bf16(bf16_t *to, const RawTensor *raw, int64_t row, int64_t k0, int n) {
    const size_t at = (size_t)(row * raw->shape[1] + k0);
    const char *from = (const char *)raw->data + at * dtype_bytes(raw->dtype); // a file's data need not be aligned
    __builtin_prefetch(from + 64);                                              // the caller comes for it soon
    if (raw->dtype == DTYPE_BF16) {
        if (n == 32) memcpy(to, from, 64);
        else memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
    for (int i = 0; i < n; i++) {
        uint16_t h;
        float f;
        if (raw->dtype == DTYPE_F16) {
            memcpy(&h, from + 2 * i, 2);
            f = f16_to_f32(h);
        } else {
            memcpy(&f, from + 4 * i, 4);
        }
        to[i] = f32_to_bf16(f);
    }
}

// w = raw[0 ... n_raw-1] stacked along N, all [*, K], in strips of `strip` rows as ops_cpu_matmul.h describes.
// turn(to, x) writes 16 pairs of `strip` rows x[strip][32] as to[16][strip][2]. Freed by cpu_weight_free.
void cpu_weight_pack(Weight *w, const RawTensor *raw, int n_raw, int strip, void (*turn)(bf16_t *to, const bf16_t *x)) {
    memset(w, 0, sizeof *w);
    w->n_raw = n_raw;
    w->K = (int)raw[0].shape[1];
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    const int K = w->K, k2 = (K + 1) / 2, n_strips = (w->N + 63) / 64 * (64 / strip);
    w->bytes = (size_t)n_strips * strip * k2 * 2 * sizeof(bf16_t);
    bf16_t *data = (bf16_t *)cpu_alloc(w->bytes);
#pragma omp parallel for schedule(static)
    for (int s = 0; s < n_strips; s++) {
        bf16_t x[64 * 32], turned[64 * 32]; // 32 columns of all rows at a time: it all stays in the L1 cache
        for (int k = 0; k < K; k += 32) {
            int n_k = K - k < 32 ? K - k : 32;
            if (n_k < 32 || (s + 1) * strip > w->N) memset(x, 0, sizeof x);
            for (int n = 0; n < strip && s * strip + n < w->N; n++) {
                int from = 0, row = s * strip + n;
                while (row >= w->raw[from].shape[0]) row -= (int)w->raw[from++].shape[0];
                cpu_raw_bf16(x + 32 * n, &w->raw[from], row, k, n_k);
            }
            bf16_t *to = data + ((size_t)s * k2 + k / 2) * 2 * strip;
            if (n_k == 32) {
                turn(to, x);
            } else {
                turn(turned, x);
                memcpy(to, turned, (size_t)((n_k + 1) / 2) * 2 * strip * sizeof *to);
            }
        }
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
#define SIMD_AVX512_BF16 4
#define SIMD_AMX 5
#define AMX_EMULATED 0
#define SIMD_PASTE2(x, y) x##_##y
#define SIMD_PASTE(x, y) SIMD_PASTE2(x, y)
#define SIMD_NAME(x) SIMD_PASTE(x, SIMD)

#if OPS_CPU_X86

#if defined __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
#endif
#define SIMD avx512
#define SIMD_LEVEL SIMD_AVX512
#include "ops_cpu_simd.h"
#include "ops_cpu_matmul.h"
#include "ops_cpu_weight.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_rank.h"
#include "ops_cpu_attention.h"
#include "ops_cpu_output.h"
#undef SIMD
#undef SIMD_LEVEL
#if defined __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")
#endif
#define SIMD avx512_bf16
#define SIMD_LEVEL SIMD_AVX512_BF16
#include "ops_cpu_matmul.h" // the rest is avx512's
#include "ops_cpu_weight.h"
#undef SIMD
#undef SIMD_LEVEL
#if defined __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")
#endif
#define SIMD amx
#define SIMD_LEVEL SIMD_AMX
#include "ops_cpu_matmul.h" // the rest is avx512's
#include "ops_cpu_weight.h"
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
#include "ops_cpu_weight.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_rank.h"
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
#include "ops_cpu_weight.h"
#include "ops_cpu_rows.h"
#include "ops_cpu_rank.h"
#include "ops_cpu_attention.h"
#include "ops_cpu_output.h"
#undef SIMD
#undef SIMD_LEVEL

#include "ops_cpu_intervene.h" // the same at every level

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
        (ops)->rmsnorm_weight_backward = rmsnorm_weight_backward_##level; \
        (ops)->column_sum = column_sum_##level;                \
        (ops)->gather_rows = gather_rows_##level;              \
        (ops)->scatter_add_rows = scatter_add_rows_##level;    \
        (ops)->matmul_forward = matmul_forward_##level;        \
        (ops)->matmul_backward = matmul_backward_##level;      \
        (ops)->matmul_weight_backward = matmul_weight_backward_##level; \
        (ops)->rank_down = rank_down_##level;                  \
        (ops)->rank_up = rank_up_##level;                      \
        (ops)->rank_outer = rank_outer_##level;                \
        (ops)->rope_kv_write = rope_kv_write_##level;          \
        (ops)->rope_backward = rope_backward_##level;          \
        (ops)->kv_copy_page = kv_copy_page_##level;            \
        (ops)->attention_forward = attention_forward_##level;  \
        (ops)->attention_backward = attention_backward_##level; \
        (ops)->to_act = to_act_##level;                        \
        (ops)->swiglu_forward = swiglu_forward_##level;        \
        (ops)->swiglu_backward = swiglu_backward_##level;      \
        (ops)->mix_blocks = cpu_mix_blocks;                    \
        (ops)->act_add_row = cpu_act_add_row;                  \
        (ops)->put_rows = cpu_put_rows;                        \
        (ops)->logprob_rows = logprob_rows_##level;            \
        (ops)->dlogits_rows = dlogits_rows_##level;            \
        (ops)->sample_rows = sample_rows_##level;              \
    } while (0)

// what avx512_bf16 and amx have of their own
#define CPU_TABLE_MATMUL(ops, level)                           \
    do {                                                       \
        (ops)->isa = #level;                                   \
        (ops)->weight_load = weight_load_##level;              \
        (ops)->matmul_forward = matmul_forward_##level;        \
        (ops)->matmul_backward = matmul_backward_##level;      \
        (ops)->matmul_weight_backward = matmul_weight_backward_##level; \
    } while (0)

// Permission of the operating system to use the tile registers: Linux asks for it, once per process.
#if OPS_CPU_X86 && defined __linux__
bool cpu_amx_permitted(void) {
    const long request = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false; // AMX-BF16, AMX-TILE
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#else
bool cpu_amx_permitted(void) { return false; }
#endif

#define CPU_LEVELS 5

// Intel's cores that have AMX take two cycles for VDPBF16PS, in which they do four FMAs of half as many products: where a
// virtual machine hides the tiles, avx512 is faster. (Measured on Emerald Rapids: 86 against 176 GFLOP/s a core; the same
// is seen in libxsmm/tpp-mlir #1025.) They are known by AVX512-FP16. On Zen 4 it is twice as fast as FMAs (iree-org/iree #15089).
#if OPS_CPU_X86
bool cpu_bf16_slower(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_is("intel") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 23 & 1);
}
#endif

// Levels this CPU and its operating system can run, best first.
int cpu_levels(const char *names[CPU_LEVELS]) {
    int n = 0;
#if OPS_CPU_X86
    __builtin_cpu_init(); // its answers include whether the system saves the registers
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        const bool bf16 = __builtin_cpu_supports("avx512bf16"), slower = bf16 && cpu_bf16_slower();
        if (bf16 && cpu_amx_permitted()) names[n++] = "amx";
        if (bf16 && !slower) names[n++] = "avx512_bf16";
        names[n++] = "avx512";
        if (slower) names[n++] = "avx512_bf16";
    }
    if (avx2) names[n++] = "avx2";
#endif
    names[n++] = "portable";
    return n;
}

// The table of one level; NULL and err if this CPU has no such level.
const Ops *cpu_ops_for(const char *level, Error *err) {
    static Ops tables[CPU_LEVELS];
    const char *names[CPU_LEVELS];
    int n = cpu_levels(names);
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], level) != 0) continue;
        Ops *ops = &tables[i];
        ops_host_init(ops);
#if OPS_CPU_X86
        if (strcmp(level, "amx") == 0 || strncmp(level, "avx512", 6) == 0) CPU_TABLE(ops, avx512);
        else if (strcmp(level, "avx2") == 0) CPU_TABLE(ops, avx2);
        else
#endif
            CPU_TABLE(ops, portable);
#if OPS_CPU_X86
        if (strcmp(level, "avx512_bf16") == 0) CPU_TABLE_MATMUL(ops, avx512_bf16);
        if (strcmp(level, "amx") == 0) {
            CPU_TABLE_MATMUL(ops, amx);
            ops->matmul_swiglu_forward = matmul_swiglu_forward_amx;
        }
#endif
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
    const char *names[CPU_LEVELS];
    const bool unknown = cpu_levels(names) == 1;
    if (forced && *forced) return cpu_ops_for(forced, err);
    if (unknown) warn("this CPU has none of the instructions that kernels exist for (AVX2, AVX-512, AMX): the portable code runs, much slower");
    return cpu_ops_for(names[0], err);
}

#endif
