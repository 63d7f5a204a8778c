/*
Which backend computes: the one place that turns the option `device` into a table of operations.
*/
#ifndef LLMC_DEVICE_H
#define LLMC_DEVICE_H

#include "ops_cpu.h" // ops_cpu_init
#include "ops_ref.h" // ops_ref_init

// The operations of device cpu or ref. NULL and err for cuda, which this program does not have, or a wrong LLMC_ISA.
const Ops *ops_for_device(const char *device, Error *err) {
    if (strcmp(device, "ref") == 0) return ops_ref_init();
    if (strcmp(device, "cpu") == 0) return ops_cpu_init(err);
    fail(err, EXIT_USAGE, "device %s: this program was built without CUDA\n  -> --device cpu", device);
    return NULL;
}

#endif
