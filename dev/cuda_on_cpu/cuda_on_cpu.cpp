/*
The runtime that programs with CUDA code link instead of NVIDIA's: kernels, memory, streams and cuBLASLt on one CPU
thread, with every check that README.md lists. One translation unit, never compiled with sanitizers itself: it is what
they call.
*/
#include "runtime.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#include "report.h"   // settings, source lines, report
#include "memory.h"   // device memory and its guard pages
#include "shared.h"   // shared memory and its red zones
#include "races.h"    // bounds, uninitialised memory and races, access by access
#include "fibers.h"   // threads, barriers, warp operations, atomics
#include "async.h"    // copies to shared memory that run on by themselves
#include "hooks.h"    // what the instrumented code calls; signals; the watchdog
#include "streams.h"  // launches, streams, events, graphs
#include "api.h"      // cudaMalloc and the rest
#include "matrix.h"   // wmma
#include "cublaslt.h" // cublasLtMatmul for bf16
#include "nccl.h"     // broadcasts between processes

namespace cuda_on_cpu {

// Before the constructors of the program, one of which says whether it was compiled with checks.
__attribute__((constructor(101))) static void start() {
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    read_settings();
    memory_init();
    shared_init();
    fibers_init();
    hooks_init();
}
void set_checked() {
    if (!checked) races_init();
    checked = true;
}

} // namespace cuda_on_cpu
