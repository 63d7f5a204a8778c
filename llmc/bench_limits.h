/*
What this machine can do, measured here and now with all threads: multiply-adds per second of the instruction the
kernels use, and bytes per second of reading memory. Used by `eval_steer bench` and dev/bench/.
*/
#ifndef LLMC_BENCH_LIMITS_H
#define LLMC_BENCH_LIMITS_H

#include "ops_cpu.h" // OPS_CPU_X86 and the intrinsics, vf4, omp_get_max_threads
#include "utils.h"   // now_s, xmalloc

#define BENCH_LIMIT_S 0.5 // how long each is measured

// Independent chains of multiply-adds, enough of them to hide the instruction's latency; the loops over them are
// unrolled into registers. The empty asm hides the operands' values, so that nothing can be moved out of the loop.
#define BENCH_UNROLL _Pragma("GCC unroll 20")

#if OPS_CPU_X86

#define BENCH_CHAINS_AVX512 20
__attribute__((target("avx512f")))
float bench_chains_avx512(int n) {
    __m512 sum[BENCH_CHAINS_AVX512];
    __m512 a = _mm512_set1_ps((float)(n & 1)), b = _mm512_set1_ps((float)(n & 2));
    BENCH_UNROLL
    for (int i = 0; i < BENCH_CHAINS_AVX512; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int k = 0; k < n; k++) {
        __asm__ volatile("" : "+v"(a), "+v"(b));
        BENCH_UNROLL
        for (int i = 0; i < BENCH_CHAINS_AVX512; i++) sum[i] = _mm512_fmadd_ps(a, b, sum[i]);
    }
    BENCH_UNROLL
    for (int i = 1; i < BENCH_CHAINS_AVX512; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f,avx512bf16")))
float bench_chains_avx512_bf16(int n) {
    __m512 sum[BENCH_CHAINS_AVX512];
    __m512bh a = (__m512bh)_mm512_set1_epi32(n & 1), b = (__m512bh)_mm512_set1_epi32(n & 2);
    BENCH_UNROLL
    for (int i = 0; i < BENCH_CHAINS_AVX512; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int k = 0; k < n; k++) {
        __asm__ volatile("" : "+v"(a), "+v"(b));
        BENCH_UNROLL
        for (int i = 0; i < BENCH_CHAINS_AVX512; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
    }
    BENCH_UNROLL
    for (int i = 1; i < BENCH_CHAINS_AVX512; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

// Four sums of 16 x 16, as many as the products keep, of numbers as real ones are: with zeros a core runs faster.
#define BENCH_CHAINS_AMX 4
__attribute__((target("amx-tile,amx-bf16")))
float bench_chains_amx(int n) {
    __attribute__((aligned(64))) bf16_t in[4][512];
    float out[256];
    uint32_t state = 1;
    for (int i = 0; i < 4 * 512; i++) {
        state = state * 1664525u + 1013904223u;
        in[i / 512][i % 512] = f32_to_bf16((float)(int32_t)state * 0x1p-31f);
    }
    _tile_loadconfig(&amx_config);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_loadd(4, in[0], 64);
    _tile_loadd(5, in[1], 64);
    _tile_loadd(6, in[2], 64);
    _tile_loadd(7, in[3], 64);
    for (int k = 0; k < n; k++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, 64);
    _tile_release();
    return out[0];
}

#define BENCH_CHAINS_AVX2 12
__attribute__((target("avx2,fma")))
float bench_chains_avx2(int n) {
    __m256 sum[BENCH_CHAINS_AVX2];
    __m256 a = _mm256_set1_ps((float)(n & 1)), b = _mm256_set1_ps((float)(n & 2));
    BENCH_UNROLL
    for (int i = 0; i < BENCH_CHAINS_AVX2; i++) sum[i] = _mm256_set1_ps((float)i);
    for (int k = 0; k < n; k++) {
        __asm__ volatile("" : "+x"(a), "+x"(b));
        BENCH_UNROLL
        for (int i = 0; i < BENCH_CHAINS_AVX2; i++) sum[i] = _mm256_fmadd_ps(a, b, sum[i]);
    }
    BENCH_UNROLL
    for (int i = 1; i < BENCH_CHAINS_AVX2; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}

#endif

// A multiplication and an addition, 4 floats at a time: what every x86-64 and arm64 has. Each product needs the sum
// before it, or the compiler would compute it once for all chains.
#define BENCH_CHAINS_PORTABLE 14
float bench_chains_portable(int n) {
    vf4 sum[BENCH_CHAINS_PORTABLE], a = {1, 1, 1, 1}, b = {(float)(n & 1), 0, 0, 0};
    BENCH_UNROLL
    for (int i = 0; i < BENCH_CHAINS_PORTABLE; i++) sum[i] = a * (float)i;
    for (int k = 0; k < n; k++) {
        __asm__ volatile("" : "+m"(a), "+m"(b));
        BENCH_UNROLL
        for (int i = 0; i < BENCH_CHAINS_PORTABLE; i++) sum[i] = sum[i] * a + b;
    }
    BENCH_UNROLL
    for (int i = 1; i < BENCH_CHAINS_PORTABLE; i++) sum[0] += sum[i];
    return sum[0][0];
}

double bench_thread_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// GFLOP/s (a multiply-add counts 2) of the instruction that the products of Ops.isa use; "ref" counts as portable.
// Every thread counts the time it was running, so that load of others does not pass for a slower machine.
double bench_peak_gflops(const char *isa) {
    const int n = 1 << 17; // about a millisecond
    float (*chains)(int) = bench_chains_portable;
    double flops = BENCH_CHAINS_PORTABLE * 4 * 2, total = 0, sum = 0, stop = now_s() + BENCH_LIMIT_S;
#if OPS_CPU_X86
    if (strcmp(isa, "avx512_bf16") == 0) { chains = bench_chains_avx512_bf16; flops = BENCH_CHAINS_AVX512 * 32 * 2; }
    if (strcmp(isa, "avx512") == 0) { chains = bench_chains_avx512; flops = BENCH_CHAINS_AVX512 * 16 * 2; }
    if (strcmp(isa, "amx") == 0) { chains = bench_chains_amx; flops = BENCH_CHAINS_AMX * 16 * 16 * 32 * 2; }
    if (strcmp(isa, "avx2") == 0) { chains = bench_chains_avx2; flops = BENCH_CHAINS_AVX2 * 8 * 2; }
#else
    (void)isa;
#endif
    #pragma omp parallel reduction(+ : total, sum)
    {
        double begin = bench_thread_s();
        int count = 0;
        do {
            sum += chains(n);
            count++;
        } while (now_s() < stop);
        total += 1e-9 * flops * n * count / (bench_thread_s() - begin);
    }
    volatile double sink = sum; // so that the sums are wanted
    (void)sink;
    return total;
}

// GB/s (10^9 bytes) of reading memory: 512 MiB in turn, far more than a cache holds, timed 64 MiB at a time. The
// best of these, as other load only ever lowers it.
double bench_memory_gbs(void) {
    const int64_t lines = (int64_t)1 << 23, piece = lines / 8; // cache lines of 8 words
    uint64_t *x = (uint64_t *)xmalloc((size_t)lines * 64);
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < 8 * lines; i++) x[i] = (uint64_t)i;
    volatile uint64_t sink = 0;
    double best = 0, stop = now_s() + BENCH_LIMIT_S;
    for (int64_t first = 0; now_s() < stop; first = (first + piece) % lines) {
        uint64_t sum = 0;
        double t = now_s();
        #pragma omp parallel for schedule(static) reduction(+ : sum)
        for (int64_t i = first; i < first + piece; i++) {
            const uint64_t *p = x + 8 * i;
            sum += (p[0] ^ p[1]) + (p[2] ^ p[3]) + (p[4] ^ p[5]) + (p[6] ^ p[7]);
        }
        double gbs = 1e-9 * 64 * (double)piece / (now_s() - t);
        if (gbs > best) best = gbs;
        sink = sink + sum;
    }
    free(x);
    return best;
}

#endif
