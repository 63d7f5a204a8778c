/*
What the parts of the runtime share: the threads of the block that runs, the launch they belong to, device memory,
settings. Everything lives on one CPU thread: the one that calls the CUDA functions.
*/
#ifndef CUDA_ON_CPU_RUNTIME_H
#define CUDA_ON_CPU_RUNTIME_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"

namespace cuda_on_cpu {

// ----------------------------------------------------------------------------
// Settings, from the environment (report.h)

enum Order { FORWARD, REVERSE, RANDOM };
struct Settings {
    Order order;
    uint64_t seed;
    bool lazy;
    bool keys;            // the CPU's protection keys may close device memory
    double watchdog;      // seconds a kernel may run
    size_t device_memory; // bytes
    int arch;             // 80, 90 or 100: what cudaGetDeviceProperties tells
    int devices;          // of this machine
    bool other_cublaslt;  // cublaslt.h refuses odd shapes and adds up in another order for another shape
    int max_reports;
};
static Settings settings;
static bool checked; // the kernels were compiled with -fsanitize=thread

constexpr int MOST_DEVICES = 64;
static int visible_devices[MOST_DEVICES],
    visible;               // numbers of those that this process can use: all, or what CUDA_VISIBLE_DEVICES says
static int current_device; // index into them

// What random schedules are drawn from: the same numbers at each launch.
static uint64_t random_state;
static uint32_t random_below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return uint32_t((random_state >> 32) * n >> 32);
}

// ----------------------------------------------------------------------------
// Threads

constexpr int MAX_THREADS = 1024;
enum State { READY, AT_BARRIER, IN_WARP, EXITED };

struct Thread {
    void *stack_pointer; // where it stopped
    uint3 index;
    uint32_t id; // number within the block
    State state;
    // What it waits for, and what it brought
    const void *site;
    int op; // Barrier or WarpOp
    unsigned mask;
    uint64_t value, result;
    int argument, width;
    uintptr_t pc; // where in the kernel it last came into the runtime
    // For the race detector: the stretch of this thread's life that it is in, 0 if it has touched nothing since the
    // last synchronisation; the last one with a number; and for each lane of its warp the last one known to be over.
    uint32_t segment, last_segment, fence_floor;
    uint32_t seen[32];
    // Return addresses of the functions it is in
    std::vector<uintptr_t> *calls;
    unsigned lane() const { return id % 32; }
};

// The running launch
struct Kernel {
    const char *name;
    dim3 grid, block;
    size_t smem;
    uintptr_t pc; // of the launch
    std::shared_ptr<const Call> call;
    size_t call_size;
};
static const Kernel *kernel; // NULL while host code runs
static Thread threads[MAX_THREADS];
static Thread *current; // the running one
static uint32_t block_size, block_number;

// ----------------------------------------------------------------------------
// Reports (report.h)

// Prints where (kernel, block, thread, source line of pc), then what. Returns at once where the same was reported
// before. thread NULL: on the host. The process will exit with EXIT_REPORTED.
static void report(const char *what, const Thread *thread, uintptr_t pc, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
[[noreturn]] static void give_up(); // flush and leave, after a report that nothing can go on from
constexpr int EXIT_REPORTED = 70;
static std::string source_line(uintptr_t pc); // "file.cu:12 (function)"
// Return addresses of the functions around pc, innermost first, if pc is on the stack of host code; how many.
static int callers_of(uintptr_t pc, uintptr_t *callers, int most);

#define CALLER reinterpret_cast<uintptr_t>(__builtin_return_address(0))

// ----------------------------------------------------------------------------
// Device memory (memory.h)

struct Allocation {
    uintptr_t begin, end; // end: of what was asked for
    bool freed;
    uintptr_t pc, freed_pc; // of cudaMalloc, cudaFree
    uintptr_t callers[2];   // of the function that called cudaMalloc
    bool open;              // may be touched now
    Allocation *next_open;
};
static const Allocation *allocation_at(uintptr_t address); // NULL: no device memory was ever there, nor beside it
static bool in_device_range(uintptr_t address);
static bool
open_device(uintptr_t address); // its allocation may be touched until close_device(). False if it may already, or never
static void close_device();
// A host function is about to read or write n bytes of device memory. False after a report.
static bool check_device_bytes(const void *p, size_t n, const char *function, const char *argument, uintptr_t pc);

// ----------------------------------------------------------------------------
// Races (races.h); no-ops unless `checked`

static void access(uintptr_t address, size_t size, bool write, bool is_atomic, uintptr_t pc);
static void settle_write();
static void written_by_host(uintptr_t address, size_t n);
static void copied_by_host(uintptr_t to, uintptr_t from, size_t n);
static void synchronised_warp(const Thread *warp_threads, unsigned lanes);

} // namespace cuda_on_cpu

#endif
