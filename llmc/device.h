/*
Which backend computes: the one place that turns the option `device` into a table of operations.
*/
#ifndef LLMC_DEVICE_H
#define LLMC_DEVICE_H

#include "llmc/cpu/cpu.h" // ops_cpu_init
#include "llmc/ops_ref.h" // ops_ref_init

#ifdef LLMC_CUDA            // set by `make CUDA=...`, which links cuda/backend.cu
#include "llmc/cuda/cuda.h" // ops_cuda_init
#endif

// The operations of device cpu, ref or cuda. NULL and err where it cannot be had, or for a wrong LLMC_ISA.
const Ops *ops_for_device(const char *device, Error *err) {
    if (strcmp(device, "ref") == 0) return ops_ref_init();
    if (strcmp(device, "cpu") == 0) return ops_cpu_init(err);
#ifdef LLMC_CUDA
    char why[512];
    const Ops *cuda = ops_cuda_init(why, sizeof why);
    if (!cuda) fail(err, EXIT_RUN, "device cuda: %s\n  -> --device cpu", why);
    return cuda;
#else
    fail(err, EXIT_USAGE,
         "device %s: this program was built without CUDA\n  -> --device cpu, or build with `make CUDA=1`", device);
    return NULL;
#endif
}

// What this program is made of; for reports of bugs.
void print_version(const char *program) {
    const char *names[CPU_LEVELS];
    const int n = cpu_levels(names);
    const char *compiler = "gcc ";
    bool cuda = false, mpi = false, openmp = false;
#ifdef LLMC_CUDA
    cuda = true;
#endif
#ifdef LLMC_MPI
    mpi = true;
#endif
#ifdef __clang__
    compiler = ""; // names itself
#endif
#ifdef _OPENMP
    openmp = true;
#endif
    printf("%s of steer.c\ncompiler  %s%s\nCUDA %s, MPI %s, OpenMP %s; kernels for this CPU:", program, compiler,
           __VERSION__, cuda ? "yes" : "no", mpi ? "yes" : "no", openmp ? "yes" : "no");
    for (int i = 0; i < n; i++) printf(" %s", names[i]);
    printf("\n");
}

#endif
