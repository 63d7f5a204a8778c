/*
The threads of a block as fibers of one CPU thread: each has its stack, and hands over only where it waits for others.
The last one to come to a barrier or a warp operation completes it for all.
*/
#include <ucontext.h>

namespace cuda_on_cpu {

constexpr size_t STACK = 128 << 10;
static uintptr_t stacks, stacks_end;
static Thread scheduler; // the stack that CUDA functions were called on

// ----------------------------------------------------------------------------
// Changing the stack

#if defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
// Saves what a call must preserve and the stack pointer in *from, and goes on where `to` was saved.
extern "C" void cuda_on_cpu_switch(void **from, void *to);
asm(R"(
    .text
    .p2align 4
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size cuda_on_cpu_switch, . - cuda_on_cpu_switch
)");
// The first switch to t enters function, on the stack below top.
static void new_stack(Thread *t, uintptr_t top, void (*function)()) {
    uintptr_t *p = reinterpret_cast<uintptr_t *>(top / 16 * 16) - 1;
    *p = 0; // no caller: here a debugger's backtrace ends
    *--p = reinterpret_cast<uintptr_t>(function);
    for (int i = 0; i < 6; i++) *--p = 0;
    t->stack_pointer = p;
}
static void switch_stack(Thread *from, Thread *to) { cuda_on_cpu_switch(&from->stack_pointer, to->stack_pointer); }
#else
// Other CPUs: the library's way, slower.
static ucontext_t contexts[MAX_THREADS + 1];
static ucontext_t *context_of(const Thread *t) { return &contexts[t == &scheduler ? MAX_THREADS : t->id]; }
static void new_stack(Thread *t, uintptr_t top, void (*function)()) {
    ucontext_t *c = context_of(t);
    getcontext(c);
    c->uc_stack.ss_size = STACK - PAGE * 2; // top may lie up to 2 pages lower than the end
    c->uc_stack.ss_sp = reinterpret_cast<void *>(top - c->uc_stack.ss_size);
    makecontext(c, function, 0);
}
static void switch_stack(Thread *from, Thread *to) { swapcontext(context_of(from), context_of(to)); }
#endif

// ----------------------------------------------------------------------------
// Which thread runs next

static uint32_t ready[MAX_THREADS], ready_first, ready_count; // ring of the threads that can go on
static uint32_t at_barrier, in_warp, exited; // how many threads wait at a barrier, in a warp operation, have returned
static uint8_t awaited[MAX_THREADS / 32];    // of each warp, the lane that was found missing last

static void make_ready(Thread *t) {
    t->state = READY;
    ready[(ready_first + ready_count++) % MAX_THREADS] = t->id;
}
// All threads of [first, last) in `state` become ready, in the order of the settings.
template <class F> static void make_all_ready(uint32_t first, uint32_t last, F which) {
    for (uint32_t i = 0; i < last - first; i++) {
        Thread *t = &threads[settings.order == REVERSE ? last - 1 - i : first + i];
        if (which(t)) make_ready(t);
    }
}

[[noreturn]] static void stuck();
static void run_next() {
    Thread *me = current, *next = &scheduler;
    if (ready_count) {
        if (settings.order == RANDOM)
            std::swap(ready[ready_first], ready[(ready_first + random_below(ready_count)) % MAX_THREADS]);
        next = &threads[ready[ready_first]];
        ready_first = (ready_first + 1) % MAX_THREADS;
        ready_count--;
    } else if (exited < block_size) {
        stuck();
    }
    if (next == me) return;
    current = next;
    threadIdx = next->index;
    switch_stack(me, next);
}

static void enter(uintptr_t pc) {
    settle_write();
    current->pc = pc;
}

// ----------------------------------------------------------------------------
// Barriers of the block

static void finish_barrier() {
    const Thread *first = nullptr, *gone = nullptr;
    int count = 0;
    for (uint32_t i = 0; i < block_size; i++) {
        const Thread *t = &threads[i];
        if (t->state == EXITED) {
            gone = gone ? gone : t;
            continue;
        }
        first = first ? first : t;
        count += int(t->value);
        if (t->op != first->op || (t->site != first->site && t->site && first->site))
            report("divergent barrier", t, t->pc,
                   "waits here, while thread (%u,%u,%u) waits at another barrier, %s\n    -> all threads of a block "
                   "must come to the same __syncthreads()",
                   first->index.x, first->index.y, first->index.z, source_line(first->pc).c_str());
    }
    if (gone)
        report("divergent barrier", first, first->pc,
               "waits here, but thread (%u,%u,%u) has returned from the kernel\n    -> let threads with nothing "
               "to do skip the work, not the barriers",
               gone->index.x, gone->index.y, gone->index.z);
    for (uint32_t i = 0; i < block_size; i++) {
        Thread *t = &threads[i];
        t->result = t->op == BARRIER_OR    ? count != 0
                    : t->op == BARRIER_AND ? count == int(block_size - exited)
                                           : uint64_t(count);
    }
    at_barrier = 0;
    if (checked) synchronised_block();
    make_all_ready(0, block_size, [](Thread *t) { return t->state == AT_BARRIER; });
}

int barrier(const void *site, Barrier kind, int value) {
    enter(CALLER);
    current->site = site;
    current->op = kind;
    current->value = uint64_t(value);
    current->state = AT_BARRIER;
    if (++at_barrier + exited == block_size) finish_barrier();
    run_next();
    return int(current->result);
}

// ----------------------------------------------------------------------------
// Warps

// The lanes of mask that wait for the operation of lane t, once all that have not returned from the kernel do; 0
// before.
static unsigned all_arrived(const Thread *t, const Thread *warp_threads) {
    unsigned arrived = 0;
    uint8_t *missing = &awaited[warp_threads->id / 32];
    for (unsigned i = 0, first = *missing; i < 32; i++) { // most often that one is missing still, or the one after it
        const unsigned lane = (first + i) % 32;
        const Thread *other = warp_threads + lane;
        if (!(t->mask >> lane & 1) || other->id >= block_size || other->state == EXITED) continue;
        if (other->state != IN_WARP || other->mask != t->mask) {
            *missing = uint8_t(lane);
            return 0;
        }
        arrived |= 1u << lane;
    }
    return arrived;
}

static int source_lane(const Thread *t) {
    int lane = int(t->lane()), first = lane & ~(t->width - 1), last = first + t->width - 1, source = lane;
    switch (t->op) {
    case SHUFFLE: return first | (t->argument & (t->width - 1));
    case SHUFFLE_UP: source = lane - t->argument; return source < first ? lane : source;
    case SHUFFLE_DOWN: source = lane + t->argument; return source > last ? lane : source;
    default: source = lane ^ t->argument; return source > last ? lane : source;
    }
}
static uint64_t reduce(int op, uint64_t a, uint64_t b) {
    switch (op) {
    case BALLOT:
    case REDUCE_OR: return a | b;
    case REDUCE_AND: return a & b;
    case REDUCE_XOR: return a ^ b;
    case REDUCE_MIN: return std::min(a, b);
    case REDUCE_MAX: return std::max(a, b);
    case REDUCE_MIN_SIGNED: return uint32_t(std::min(int32_t(a), int32_t(b)));
    case REDUCE_MAX_SIGNED: return uint32_t(std::max(int32_t(a), int32_t(b)));
    default: return uint32_t(a + b);
    }
}
static const char *const warp_op_names[] = {
    "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",  "__shfl_xor_sync",
    "__ballot_sync",     "__reduce_add_sync", "__reduce_min_sync", "__reduce_min_sync", "__reduce_max_sync",
    "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",  "__reduce_xor_sync", "load_matrix_sync",
    "store_matrix_sync", "mma_sync",          "fill_fragment"};
static void multiply_fragments(Thread *warp_threads);

static void finish_warp(Thread *warp_threads, unsigned lanes) {
    Thread *leader = warp_threads + __builtin_ctz(lanes);
    uint64_t total = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        Thread *t = warp_threads + lane;
        if (!(lanes >> lane & 1)) continue;
        if (t->op != leader->op) {
            report("divergent warp", t, t->pc,
                   "comes with %s, while lane %u waits for %s at %s\n    -> all lanes of the mask must do the same",
                   warp_op_names[t->op], leader->lane(), warp_op_names[leader->op], source_line(leader->pc).c_str());
            give_up();
        }
        uint64_t value = t->op == BALLOT ? t->value << lane : t->value;
        total = t == leader ? value : reduce(t->op, total, value);
        if ((t->op == MATRIX_LOAD || t->op == MATRIX_STORE) &&
            (t->value != leader->value || t->argument != leader->argument))
            report("divergent warp", t, t->pc, "%s with another address or leading dimension than lane %u",
                   warp_op_names[t->op], leader->lane());
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        Thread *t = warp_threads + lane;
        if (!(lanes >> lane & 1)) continue;
        t->result = total;
        if (t->op < SHUFFLE || t->op > SHUFFLE_XOR) continue;
        int source = source_lane(t);
        bool there = lanes >> source & 1;
        t->result = there ? warp_threads[source].value : ~uint64_t(0);
        if (!there)
            report("bad shuffle", t, t->pc,
                   "%s reads from lane %d, which %s\n    -> the value is undefined on a GPU: change the mask (0x%08x), "
                   "or keep "
                   "the lane in",
                   warp_op_names[t->op], source,
                   t->mask >> source & 1 ? "has returned from the kernel" : "is not in the mask", t->mask);
    }
    if (leader->op == MATRIX_MULTIPLY) multiply_fragments(warp_threads);
    if (checked && leader->op == SYNCWARP) synchronised_warp(warp_threads, lanes);
    in_warp -= uint32_t(__builtin_popcount(lanes));
    uint32_t first = uint32_t(warp_threads - threads);
    make_all_ready(first, first + 32, [=](Thread *t) { return (lanes >> t->lane() & 1) != 0; });
}

uint64_t warp(WarpOp op, unsigned mask, uint64_t value, int argument, int width) {
    enter(CALLER);
    Thread *t = current, *warp_threads = threads + t->id / 32 * 32;
    if (!(mask >> t->lane() & 1) || width < 1 || width > 32 || (width & (width - 1)) ||
        (op >= MATRIX_LOAD && mask != ~0u)) {
        report("bad shuffle", t, t->pc,
               "%s by lane %u with mask 0x%08x and width %d\n    -> the mask must hold the lane itself, the width be a "
               "power of 2 "
               "up to 32",
               warp_op_names[op], t->lane(), mask, width);
        give_up();
    }
    t->op = op;
    t->mask = mask;
    t->value = value;
    t->argument = argument;
    t->width = width;
    t->state = IN_WARP;
    in_warp++;
    if (unsigned lanes = all_arrived(t, warp_threads)) finish_warp(warp_threads, lanes);
    run_next();
    return current->result;
}

// Nobody can go on, but not all have returned.
static void stuck() {
    std::string where;
    const Thread *first = nullptr;
    for (uint32_t i = 0; i < block_size; i++) {
        const Thread *t = &threads[i];
        if (t->state == EXITED) continue;
        first = first ? first : t;
        char text[160];
        snprintf(text, sizeof text, "thread (%u,%u,%u) waits for %s", t->index.x, t->index.y, t->index.z,
                 t->state == AT_BARRIER ? "the whole block" : (std::string(warp_op_names[t->op]) + ", mask ").c_str());
        std::string line = text;
        if (t->state == IN_WARP) snprintf(text, sizeof text, "0x%08x,", t->mask), line += text;
        line += " at " + source_line(t->pc);
        size_t place = line.find(" waits");
        if (where.find(line.substr(place)) == std::string::npos) where += "\n    " + line;
    }
    report("deadlock", first, first->pc,
           "the threads of this block wait for each other:%s\n    -> all lanes of a mask must come to the warp "
           "operation, all "
           "threads of a block to __syncthreads()",
           where.c_str());
    give_up();
}

// ----------------------------------------------------------------------------
// Running a kernel

[[noreturn]] static void thread_main() {
    kernel->call->run();
    enter(kernel->pc);
    current->state = EXITED;
    exited++;
    Thread *warp_threads = threads + current->id / 32 * 32;
    for (unsigned lane = 0; lane < 32 && in_warp; lane++) // those who waited only for this one
        if (warp_threads[lane].id < block_size && warp_threads[lane].state == IN_WARP)
            if (unsigned lanes = all_arrived(warp_threads + lane, warp_threads)) finish_warp(warp_threads, lanes);
    if (at_barrier && at_barrier + exited == block_size) finish_barrier();
    run_next();
    abort(); // never comes back
}

static void fibers_init() {
    size_t each = STACK + PAGE;
    stacks = reinterpret_cast<uintptr_t>(reserve(each * MAX_THREADS, PROT_READ | PROT_WRITE));
    stacks_end = stacks + each * MAX_THREADS;
    for (uint32_t i = 0; i < MAX_THREADS; i++) {
        mprotect(reinterpret_cast<void *>(stacks + i * each), PAGE, PROT_NONE);
        threads[i].id = i;
        threads[i].calls = new std::vector<uintptr_t>;
    }
}

static void async_begin_block();

static void run_block(uint32_t number) {
    block_number = number;
    blockIdx = {number % gridDim.x, number / gridDim.x % gridDim.y, number / gridDim.x / gridDim.y};
    shared_begin_block();
    async_begin_block();
    if (checked) races_begin_block();
    at_barrier = in_warp = exited = ready_first = ready_count = 0;
    for (uint32_t i = 0; i < block_size; i++) {
        Thread *t = &threads[i];
        t->index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        t->calls->clear();
        // Not all stacks at the same place within a page: they would compete for the same lines of the cache.
        new_stack(t, stacks + (i + 1) * (STACK + PAGE) - i % 32 * 192, reinterpret_cast<void (*)()>(thread_main));
    }
    make_all_ready(0, block_size, [](Thread *) { return true; });
    current = &scheduler;
    run_next();
}

static void watchdog_start();
static void watchdog_stop();

static void run_kernel(const Kernel *k) {
    kernel = k;
    gridDim = k->grid;
    blockDim = k->block;
    block_size = k->block.x * k->block.y * k->block.z;
    random_state = settings.seed;
    if (checked) races_begin_launch();
    for (size_t i = 0; i + sizeof(uintptr_t) <= k->call_size; i += sizeof(uintptr_t)) {
        uintptr_t word; // of the arguments: a pointer, perhaps
        memcpy(&word, reinterpret_cast<const char *>(k->call.get()) + i, sizeof word);
        open_device(word);
    }
    watchdog_start();
    uint32_t n = k->grid.x * k->grid.y * k->grid.z;
    if (settings.order == RANDOM) {
        std::vector<uint32_t> order(n);
        for (uint32_t i = 0; i < n; i++) order[i] = i;
        for (uint32_t i = n; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
        for (uint32_t i : order) run_block(i);
    } else {
        for (uint32_t i = 0; i < n; i++) run_block(settings.order == REVERSE ? n - 1 - i : i);
    }
    watchdog_stop();
    close_device();
    kernel = nullptr;
    current = nullptr;
}

// ----------------------------------------------------------------------------
// Fences, atomics

void fence(bool whole_device) {
    enter(CALLER);
    if (checked && whole_device) fenced();
}
void trap() {
    enter(CALLER);
    report("trap", current, current->pc, "__trap() was called");
    give_up();
}

template <class T> static uint64_t apply_atomic(AtomicOp op, void *address, uint64_t value, uint64_t compare) {
    T old, v = value_of<T>(value), now = v;
    memcpy(&old, address, sizeof old);
    switch (op) {
    case ATOMIC_ADD: now = T(old + v); break;
    case ATOMIC_MIN: now = std::min(old, v); break;
    case ATOMIC_MAX: now = std::max(old, v); break;
    case ATOMIC_AND: now = value_of<T>(bits_of(old) & value); break;
    case ATOMIC_OR: now = value_of<T>(bits_of(old) | value); break;
    case ATOMIC_XOR: now = value_of<T>(bits_of(old) ^ value); break;
    case ATOMIC_EXCHANGE: break;
    case ATOMIC_CAS: now = bits_of(old) == compare ? v : old; break;
    case ATOMIC_INC: now = old >= v ? T(0) : T(old + 1); break;
    case ATOMIC_DEC: now = old == 0 || old > v ? v : T(old - 1); break;
    }
    memcpy(address, &now, sizeof now);
    return bits_of(old);
}
template <> uint64_t apply_atomic<int>(AtomicOp op, void *address, uint64_t value, uint64_t compare) {
    int old, v = value_of<int>(value);
    if (op != ATOMIC_MIN && op != ATOMIC_MAX)
        return apply_atomic<unsigned>(op, address, value, compare); // no overflow of int
    memcpy(&old, address, sizeof old);
    int now = op == ATOMIC_MIN ? std::min(old, v) : std::max(old, v);
    memcpy(address, &now, sizeof now);
    return bits_of(old);
}

uint64_t atomic(AtomicOp op, AtomicType type, void *address, uint64_t value, uint64_t compare) {
    enter(CALLER);
    size_t size = type == ATOMIC_U64 || type == ATOMIC_F64 ? 8 : 4;
    uintptr_t word = reinterpret_cast<uintptr_t>(address);
    if (word % size) report("misaligned access", current, current->pc, "an atomic of %zu bytes at %p", size, address);
    if (checked) {
        access(word, size, true, true, current->pc);
        atomic_orders(word);
    }
    switch (type) {
    case ATOMIC_I32: return apply_atomic<int>(op, address, value, compare);
    case ATOMIC_U32: return apply_atomic<unsigned>(op, address, value, compare);
    case ATOMIC_U64: return apply_atomic<uint64_t>(op, address, value, compare);
    case ATOMIC_F32: return apply_atomic<float>(op, address, value, compare);
    default: return apply_atomic<double>(op, address, value, compare);
    }
}

} // namespace cuda_on_cpu
