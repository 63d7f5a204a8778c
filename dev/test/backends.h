/*
The backends that are judged by `ref`: every level of cpu that this machine can run, and cuda in a program that has it, on a GPU or
emulated. And the memory of a backend, for tests that hold their values on the host.
*/
#ifndef DEV_TEST_BACKENDS_H
#define DEV_TEST_BACKENDS_H

#include "dev/test/host_ops.h" // host_ops
#include "dev/test/test.h"     // CHECK, SKIP
#include "llmc/device.h"       // ops_for_device, cpu_levels, cpu_ops_for

#define TEST_BACKENDS (CPU_LEVELS + 1)

// list[n] = the fastest of cpu first, cuda last. host_pointers: cuda wrapped so that it takes the host's memory (host_ops.h).
int test_backends(const Ops *list[TEST_BACKENDS], bool host_pointers) {
    const char *levels[CPU_LEVELS];
    int n_levels = cpu_levels(levels), n = 0;
    Error err = {0, ""};
    for (int i = 0; i < n_levels; i++) {
        const Ops *ops = cpu_ops_for(levels[i], &err);
        if (CHECK(ops && !strcmp(ops->isa, levels[i]), "%s: %s", levels[i], err.text)) list[n++] = ops;
    }
#ifdef LLMC_CUDA
    const Ops *cuda = ops_for_device("cuda", &err);
    if (cuda) list[n++] = host_pointers ? host_ops(cuda) : cuda;
    else SKIP("%s", err.text);
#else
    (void)host_pointers;
#endif
    return n;
}

typedef struct { char text[64]; } BackendName; // "cpu (avx512)"

BackendName backend_name(const Ops *ops) {
    BackendName name;
    snprintf(name.text, sizeof name.text, "%.15s (%.40s)", ops->name, ops->isa);
    return name;
}

// Whether a row of a product has the same bits in every batch. cuBLASLt chooses its algorithm by the number of rows.
bool test_same_in_any_batch(const Ops *ops) { return strcmp(ops->name, "cuda") != 0 || strstr(ops->isa, "emulated"); }

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
