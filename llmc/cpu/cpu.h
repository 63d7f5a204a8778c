/*
The backend `cpu`: OpenMP and vector instructions, bf16 weights and matmul inputs, everything else fp32. What the
programs see of it.

The kernels are written once and compiled once for each level, the instruction sets that a CPU may have:

    amx          tile products (Intel Sapphire Rapids ...), the rest as avx512
    avx512_bf16  bf16 dot products (AMD Zen 4 ..., Intel Cooper Lake), the rest as avx512
    avx512       AVX-512 with fp32 multiply-adds (Intel since Skylake-SP)
    avx2         AVX2 and FMA (about every x86 since 2013)
    neon_bf16    products of 2 x 2 outputs in bf16, BFMMLA (ARM: Neoverse V1, N2, Apple since M2 ...), the rest as neon
    neon         fp32 multiply-adds (every 64-bit ARM)
    portable     what the compiler assumes anyway: SSE2, NEON, ...

Each level is an object of its own, build/cpu_<level>.o, made of level.c and the headers of this folder with that
level's flags (Makefile); nothing leaves it but the function cpu_level_<level>. What runs on every CPU (backend.c) is
compiled for every CPU. So one binary runs anywhere, and `make test` disassembles it to see that this is so.

The best level the CPU has is taken at run time (cpu_levels); the environment variable LLMC_ISA forces one. avx512, avx2
and neon give the same bits (dev/test/test_bits.h); otherwise bits differ between levels, never within one.

    backend.c   what no level owns: the choice of the level, memory, packing; plain.h, operations that are plain loops
    shared.h    what the levels call of it
    level.c     a level: level.h its name, simd.h its vectors
    matmul.h    products, and the tiles that the level takes (pack.h, strips.h, tile_*.h); chains.h their multiply-add
                alone
    unpack.h    quantised weights become strips on the way
    rows.h      norms, RoPE, sums (swiglu.h); rank.h: LoRA; attention.h; output.h: log-probs, sampling

From outside: cpu.h
From dev/, too: level.c shared.h simd.h
*/
#ifndef LLMC_CPU_CPU_H
#define LLMC_CPU_CPU_H

#include "llmc/ops.h"         // Ops, act, KVCache
#include "llmc/utils/utils.h" // Error, bf16_t

#ifdef __cplusplus
extern "C" {
#endif

#define CPU_LEVELS 5
#define CPU_MAX_HD 1024 // what files/config.h accepts; buffers on the stack hold a row of a head

// names[n] = the levels that this program has and this CPU with its operating system can run, best first; returns n, at
// least 1.
int cpu_levels(const char *names[CPU_LEVELS]);

// The table of one level. NULL and err, which names those that can be had, if this CPU or this program has no such
// level.
const Ops *cpu_ops_for(const char *level, Error *err);

// Independent chains of the multiply-add that the products of a level use: run(n) does n rounds of `flops` (a
// multiply-add counts 2) in one thread, and returns a number that must be used.
typedef struct {
    float (*run)(int n);
    double flops;
} CpuChains;

// Those of a level that cpu_levels named; portable's for any other name.
CpuChains cpu_chains(const char *level);

// Where the cache keeps a page of one layer and key/value head, base = kv->k or kv->v:
//     keys    [HD][KV_PAGE] bf16, transposed: one load gives an element of 16 keys
//     values  [KV_PAGE][HD] bf16
NUMBERS_INLINE bf16_t *cpu_kv_page(void *base, const KVCache *kv, int layer, int page, int head) {
    return (bf16_t *)base + (((size_t)layer * kv->n_pages + page) * kv->NKV + head) * KV_PAGE * kv->HD;
}

#ifdef __cplusplus
}
#endif

// The fastest table this CPU can run, or the one LLMC_ISA names. NULL and err if it cannot. Here, since a rank may have
// its warnings switched off.
static inline const Ops *ops_cpu_init(Error *err) {
    const char *forced = getenv("LLMC_ISA"), *names[CPU_LEVELS];
    const bool alone = cpu_levels(names) == 1;
    if (forced && *forced) return cpu_ops_for(forced, err);
    if (alone)
        warn("this CPU has none of the instructions that kernels exist for (AVX2, AVX-512, AMX; NEON), or the compiler "
             "that built\n"
             "  this program had not: the portable code runs, much slower");
    return cpu_ops_for(names[0], err);
}

#endif
