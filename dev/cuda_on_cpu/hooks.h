/*
Where the runtime hears of what the kernels do: the functions that -fsanitize=thread,alignment calls, and signals.
*/
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

namespace cuda_on_cpu {

// ----------------------------------------------------------------------------
// Where an address belongs

static uintptr_t refused = UINTPTR_MAX / 2; // the last address that a report was about
static bool misaligned;                     // one was reported
static bool was_refused(uintptr_t address) { return address - refused < 64 || refused - address < 64; }

static const SharedArray *shared_array_at(uintptr_t address) { // or the one before
    const SharedArray *found = &shared_arrays[0];
    for (const SharedArray &a : shared_arrays)
        if (address >= a.begin) found = &a;
    return found;
}
static std::string describe(uintptr_t address) {
    char text[160];
    if (address - shared_base < SHARED_ARENA) {
        const SharedArray *a = shared_array_at(address);
        snprintf(text, sizeof text, "%s (%zu bytes of shared memory), byte %zu", a->name, size_t(a->end - a->begin),
                 size_t(address - a->begin));
        return text;
    }
    const Allocation *a = allocation_at(address);
    if (a) return "global memory, " + place_in(*a, address);
    snprintf(text, sizeof text, "memory at 0x%zx", size_t(address));
    return text;
}

static Cell *cells_of(uintptr_t address, size_t size, bool write, uintptr_t pc, uint32_t *written_since) {
    const char *does = write ? "writes" : "reads";
    if (in_device_range(address)) {
        const Allocation *a = allocation_at(address);
        *written_since = HOST_SEGMENT;
        if (a && !a->freed && address >= a->begin && address + size <= a->end)
            return device_cells + (address - device_base) / 2;
        refused = address;
        report(a && a->freed ? "use after free" : "out of bounds", current, pc, "%s %zu bytes of global memory, %s",
               does, size, a ? place_in(*a, address).c_str() : "far from what cudaMalloc returned");
        return nullptr;
    }
    if (address - shared_base < SHARED_ARENA) {
        const SharedArray *a = shared_array_at(address);
        *written_since = block_first;
        if (address >= a->begin && address + size <= a->end) return shared_cells + (address - shared_base) / 2;
        refused = address;
        report("shared out of bounds", current, pc,
               "%s %zu bytes of shared memory, %zd bytes past the beginning of %s, which has %zu", does, size,
               ssize_t(address - a->begin), a->name, size_t(a->end - a->begin));
        return nullptr;
    }
    uintptr_t arguments = reinterpret_cast<uintptr_t>(kernel->call.get());
    bool own =
        address - stacks < stacks_end - stacks || address - arguments < kernel->call_size ||
        (address >= reinterpret_cast<uintptr_t>(__executable_start) && address < reinterpret_cast<uintptr_t>(end));
    if (own || is_pinned(address, size)) return nullptr;
    refused = address;
    report("host pointer", current, pc,
           "%s %zu bytes at 0x%zx, which is %s\n    -> kernels may follow only pointers from cudaMalloc", does, size,
           size_t(address), address < PAGE ? "a null pointer" : "the host's memory");
    return nullptr;
}

// ----------------------------------------------------------------------------
// Signals

static bool is_kernel_thread(pid_t id) { return pid_t(syscall(SYS_gettid)) == id; }
static pid_t kernel_thread;
static timer_t timer;

static uintptr_t interrupted_at(void *context) {
#if defined(__x86_64__)
    uintptr_t pc = uintptr_t(static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP]) + 1;
#elif defined(__aarch64__)
    uintptr_t pc = uintptr_t(static_cast<ucontext_t *>(context)->uc_mcontext.pc) + 1;
#else
    uintptr_t pc = 0;
#endif
    // In the runtime or in a library: where the kernel called it.
    char line[1024];
    return kernel && current && current->pc && !write_source_line(pc, line, sizeof line) ? current->pc : pc;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
    bool in_kernel = kernel && is_kernel_thread(kernel_thread);
    if (!in_kernel && !in_device_range(address)) { // not ours
        struct sigaction plain = {};
        plain.sa_handler = SIG_DFL;
        sigaction(signal, &plain, nullptr);
        return;
    }
    if (in_kernel && open_device(address)) return; // now it may
    uintptr_t pc = interrupted_at(context);
    const Allocation *a = allocation_at(address);
    if (!in_kernel) {
        void *callers[32]; // for a fault within a function of the library
        int n = backtrace(callers, 32);
        for (int i = 0; i < n && !find_source_line(pc).outside; i++) pc = reinterpret_cast<uintptr_t>(callers[i]);
        fprintf(stderr,
                "cuda_on_cpu: device pointer on host: host code\n    at %s\n    touches device memory, %s\n"
                "    -> copy it with cudaMemcpy first, and wait for the copy\n",
                source_line(pc).c_str(), a ? place_in(*a, address).c_str() : "far from what cudaMalloc returned");
        give_up();
    }
    if (!was_refused(address) && !(misaligned && info->si_code == SI_KERNEL)) {
        if (address >= stacks && address < stacks_end)
            report("stack overflow", current, pc, "a thread has %zu bytes for its local variables here", STACK);
        else if (in_device_range(address))
            report(a && a->freed ? "use after free" : "out of bounds", current, pc, "touches global memory, %s",
                   a ? place_in(*a, address).c_str() : "far from what cudaMalloc returned");
        else if (info->si_code == SI_KERNEL)
            report("misaligned access", current, pc,
                   "needs an address that is a multiple of its size, or is no address at all");
        else report("bad pointer", current, pc, "touches 0x%zx, which is no memory", size_t(address));
    }
    fprintf(stderr, "cuda_on_cpu: the kernel cannot go on\n");
    give_up();
}

static void on_watchdog(int, siginfo_t *, void *context) {
    static volatile sig_atomic_t again;
    if (again++) { // stuck while it reported
        static const char text[] = "cuda_on_cpu: endless loop\n";
        if (write(2, text, sizeof text - 1) < 0) _exit(EXIT_REPORTED);
        _exit(EXIT_REPORTED);
    }
    if (!kernel) {
        again = 0;
        return;
    }
    report("endless loop", current, interrupted_at(context),
           "the kernel has run for %g s\n    -> a loop that does not end, or one that waits for another thread without "
           "a barrier; "
           "CUDA_ON_CPU_WATCHDOG=seconds allows more",
           settings.watchdog);
    give_up();
}

static void watchdog_set(double seconds) {
    itimerspec t = {};
    t.it_value.tv_sec = time_t(seconds);
    t.it_value.tv_nsec = long((seconds - double(t.it_value.tv_sec)) * 1e9);
    t.it_interval.tv_sec = seconds > 0 ? 10 : 0;
    timer_settime(timer, 0, &t, nullptr);
}
static void watchdog_start() {
    pid_t id = pid_t(syscall(SYS_gettid));
    if (id != kernel_thread) { // the signal goes to the thread that runs the kernel
        if (kernel_thread) timer_delete(timer);
        kernel_thread = id;
        sigevent event = {};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGALRM;
        event._sigev_un._tid = id;
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) perror("cuda_on_cpu: timer_create");
        stack_t stack = {};
        stack.ss_size = 512 << 10;
        stack.ss_sp = reserve(stack.ss_size, PROT_READ | PROT_WRITE);
        sigaltstack(&stack, nullptr); // faults may be about the stack
    }
    watchdog_set(settings.watchdog);
}
static void watchdog_stop() { watchdog_set(0); }

static void hooks_init() {
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    action.sa_sigaction = on_watchdog;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGALRM, &action, nullptr);
}

static inline void touched(const volatile void *p, size_t size, bool write, uintptr_t pc) {
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    if (!kernel || address - stacks < stacks_end - stacks) return;
    current->pc = pc;
    access(address, size, write, false, pc);
}

} // namespace cuda_on_cpu

// ----------------------------------------------------------------------------
// The names that the compiler calls

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *pc) {
    using namespace cuda_on_cpu;
    if (kernel && current->calls) current->calls->push_back(reinterpret_cast<uintptr_t>(pc));
}
void __tsan_func_exit() {
    using namespace cuda_on_cpu;
    if (kernel && current->calls && !current->calls->empty()) current->calls->pop_back();
}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}

#define HOOK(name, size, write) \
    void __tsan_##name(void *p) { cuda_on_cpu::touched(p, size, write, CALLER); }
// clang-format off
#define HOOKS(size) \
    HOOK(read##size, size, false) HOOK(write##size, size, true) \
    HOOK(unaligned_read##size, size, false) HOOK(unaligned_write##size, size, true) \
    HOOK(volatile_read##size, size, false) HOOK(volatile_write##size, size, true)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
// clang-format on
#undef HOOKS
#undef HOOK
    void __tsan_read_range(void *p, size_t n) {
    cuda_on_cpu::touched(p, n, false, CALLER);
}
void __tsan_write_range(void *p, size_t n) { cuda_on_cpu::touched(p, n, true, CALLER); }

// Atomics of host code: guards of static variables, shared_ptr. Kernels have atomicAdd and its like, which come
// elsewhere.
#define HOOKS(bits, T) \
    T __tsan_atomic##bits##_load(const volatile T *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
    void __tsan_atomic##bits##_store(volatile T *p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_exchange(volatile T *p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_sub(volatile T *p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *expected, T v, int, int) { \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    }
// clang-format off
HOOKS(8, uint8_t) HOOKS(16, uint16_t) HOOKS(32, uint32_t) HOOKS(64, uint64_t)
// clang-format on
#undef HOOKS

    // Data of -fsanitize=alignment: where in the source, which type, log2 of its alignment.
    struct CudaOnCpuMismatch {
    const char *file;
    uint32_t line, column;
    const struct {
        uint16_t kind, info;
        char name[1];
    } *type;
    unsigned char log_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(const CudaOnCpuMismatch *data, uintptr_t address) {
    using namespace cuda_on_cpu;
    if (address % (size_t(1) << data->log_alignment) == 0) return;
    refused = address;
    misaligned = true;
    report("misaligned access", kernel ? current : nullptr, CALLER,
           "address 0x%zx for type %s, which needs a multiple of %d", size_t(address), data->type->name,
           1 << data->log_alignment);
}
void __ubsan_handle_type_mismatch_v1_abort(const CudaOnCpuMismatch *data, uintptr_t address) {
    __ubsan_handle_type_mismatch_v1(data, address);
}
}
