/*
The backends that are judged by `ref`: every level of cpu that this machine can run, and cuda in a program that has it,
on a GPU or emulated. And the memory of a backend, for tests that hold their values on the host.
*/
#ifndef DEV_TEST_BACKENDS_H
#define DEV_TEST_BACKENDS_H

#include "dev/test/test.h" // CHECK, SKIP
#include "llmc/device.h"   // ops_for_device, cpu_levels, cpu_ops_for

#define TEST_BACKENDS (CPU_LEVELS + 1)

// list[n] = the levels of cpu, the fastest first.
int test_cpu_backends(const Ops *list[CPU_LEVELS]) {
    const char *levels[CPU_LEVELS];
    int n_levels = cpu_levels(levels), n = 0;
    Error err = {0, ""};
    for (int i = 0; i < n_levels; i++) {
        const Ops *ops = cpu_ops_for(levels[i], &err);
        if (CHECK(ops && !strcmp(ops->isa, levels[i]), "%s: %s", levels[i], err.text)) list[n++] = ops;
    }
    return n;
}

// The table of cuda; NULL where this program has none or there is no GPU, which it says.
const Ops *test_cuda_ops(void) {
#ifdef LLMC_CUDA
    Error err = {0, ""};
    const Ops *ops = ops_for_device("cuda", &err);
    if (!ops) SKIP("%s", err.text);
    return ops;
#else
    return NULL;
#endif
}

// list[n] = the levels of cpu and then cuda, each over its own memory.
int test_backends(const Ops *list[TEST_BACKENDS]) {
    int n = test_cpu_backends(list);
    const Ops *cuda = test_cuda_ops();
    if (cuda) list[n++] = cuda;
    return n;
}

typedef struct {
    char text[64];
} BackendName; // "cpu (avx512)"

BackendName backend_name(const Ops *ops) {
    BackendName name;
    snprintf(name.text, sizeof name.text, "%.15s (%.40s)", ops->name, ops->isa);
    return name;
}

#ifdef LLMC_CUDA // dev/cuda_on_cpu's; NULL in a program for a GPU
#ifdef __cplusplus
extern "C"
#endif
    int cuda_on_cpu_other_cublaslt(int other) __attribute__((weak));
#endif

// Switches the emulator's cuBLASLt to the difficult one, or back. False where there is no emulator.
bool test_other_cublaslt(bool other) {
#ifdef LLMC_CUDA
    if (cuda_on_cpu_other_cublaslt) return cuda_on_cpu_other_cublaslt(other) == other;
#endif
    (void)other;
    return false;
}

// Whether a row of a product has the same bits in every batch. cuBLASLt chooses its algorithm by the number of rows,
// and so does its stand-in where it is told to.
bool test_same_in_any_batch(const Ops *ops) {
#ifdef LLMC_CUDA
    if (cuda_on_cpu_other_cublaslt) return strcmp(ops->name, "cuda") != 0 || !cuda_on_cpu_other_cublaslt(-1);
#endif
    return strcmp(ops->name, "cuda") != 0;
}

// host[n] in the backend's memory; NULL stays NULL. Release it with from_backend.
float *to_backend(const Ops *ops, const float *host, size_t n) {
    if (!host) return NULL;
    float *there = (float *)ops->alloc(n * sizeof(float));
    ops->upload(there, host, n * sizeof(float));
    return there;
}

// host[n] = what to_backend gave, which is released. host NULL: only that.
void from_backend(const Ops *ops, float *host, float *there, size_t n) {
    if (there && host) ops->download(host, there, n * sizeof(float));
    if (there) ops->release(there);
}

#endif
