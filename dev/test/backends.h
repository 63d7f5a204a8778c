/*
The backends that are judged by `ref`: each instruction set of cpu that this machine can run, and CUDA where it is built in. And
the memory of a backend, for tests that hold their values on the host.
*/
#ifndef DEV_TEST_BACKENDS_H
#define DEV_TEST_BACKENDS_H

#include "llmc/device.h" // ops_for_device, cpu_levels, cpu_ops_for

#define MAX_BACKENDS (CPU_LEVELS + 1)

typedef struct { char name[64]; const Ops *ops; } Backend;

// all[n] = the backends, the fastest of cpu first.
int test_backends(Backend all[MAX_BACKENDS]) {
    const char *levels[CPU_LEVELS];
    int n = cpu_levels(levels);
    Error err = {0, ""};
    for (int i = 0; i < n; i++) {
        snprintf(all[i].name, sizeof all[i].name, "cpu (%s)", levels[i]);
        all[i].ops = cpu_ops_for(levels[i], &err);
    }
#ifdef LLMC_CUDA
    const Ops *cuda = ops_for_device("cuda", &err);
    if (!cuda) { printf("skipped: %s\n", err.text); return n; }
    snprintf(all[n].name, sizeof all[n].name, "cuda (%.50s)", cuda->isa);
    all[n++].ops = cuda;
#endif
    return n;
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
