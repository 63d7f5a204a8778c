/*
What this machine can do, measured here and now with all threads: multiply-adds per second of the instruction the
kernels use, and bytes per second of reading memory. A GPU says it of itself: a large product of matrices, a large copy.
Used by `eval_steer bench` and dev/bench/.
*/
#ifndef LLMC_EVAL_BENCH_LIMITS_H
#define LLMC_EVAL_BENCH_LIMITS_H

#include "llmc/cpu/cpu.h"       // cpu_chains
#include "llmc/ops.h"           // peak_flops, copy_speed
#include "llmc/utils/threads.h" // omp_get_max_threads
#include "llmc/utils/utils.h"   // now_s, xmalloc

#define BENCH_LIMIT_S 0.5 // how long each is measured

double bench_thread_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// GFLOP/s (a multiply-add counts 2) of the instruction that the products of Ops.isa use; "ref" counts as portable.
// Every thread counts the time it was running, so that load of others does not pass for a slower machine.
double bench_peak_gflops(const char *isa) {
    const int n = 1 << 17; // about a millisecond
    const CpuChains chains = cpu_chains(isa);
    double total = 0, sum = 0, stop = now_s() + BENCH_LIMIT_S;
    #pragma omp parallel reduction(+ : total, sum)
    {
        double begin = bench_thread_s();
        int count = 0;
        do {
            sum += chains.run(n);
            count++;
        } while (now_s() < stop);
        total += 1e-9 * chains.flops * n * count / (bench_thread_s() - begin);
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

// FLOP/s of the device of these operations, bytes/s of its memory, and bytes of its last cache (0: not known).
double bench_peak_flops(const Ops *ops) {
    return ops->peak_flops ? ops->peak_flops() : 1e9 * bench_peak_gflops(ops->isa);
}
double bench_memory_speed(const Ops *ops) { return ops->copy_speed ? ops->copy_speed() : 1e9 * bench_memory_gbs(); }
double bench_cache_bytes(const Ops *ops) {
#ifdef _SC_LEVEL3_CACHE_SIZE
    if (!ops->cache_bytes) return (double)sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return (double)ops->cache_bytes;
}

#endif
