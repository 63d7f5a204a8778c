/*
Which backend computes: the one place that turns the option `device` into a table of operations.
*/
#ifndef LLMC_DEVICE_H
#define LLMC_DEVICE_H

#include "cpu/cpu.h" // ops_cpu_init
#include "ops_ref.h" // ops_ref_init

#ifdef LLMC_CUDA      // set by `make CUDA=...`, which links cuda/backend.cu
#include "cuda/gpu.h" // ops_cuda_init
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
    fail(err, EXIT_USAGE, "device %s: this program was built without CUDA\n  -> --device cpu, or build with `make CUDA=1`", device);
    return NULL;
#endif
}

#endif
