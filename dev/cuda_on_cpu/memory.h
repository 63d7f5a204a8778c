/*
Device memory: one range of addresses, reserved at the start and never used twice. Each allocation ends, but for its
rounding up to 256 bytes, at a page that nobody may touch, and is filled with NaN (0xFF). Outside kernels and copies all
of it is closed, so that a host program that follows a device pointer stops there and then. Where the CPU has protection
keys (x86-64), one key opens and closes all of it at once. Elsewhere the kernel of the operating system changes page
after page, so that only those allocations are opened that the arguments of a kernel point into; another one opens when
it is first touched.
*/
namespace cuda_on_cpu {

constexpr size_t DEVICE_RANGE = size_t(256) << 30, PAGE = 4096, ALIGNMENT = 256;

static uintptr_t device_base, device_top;  // reserved range; first address not yet given out
static size_t device_used;                 // bytes allocated now
static std::deque<Allocation> allocations; // by address
static uint32_t *page_owner;               // for each page of the range: number of its allocation + 1
static std::map<uintptr_t, size_t> pinned; // cudaMallocHost
static Allocation *open_allocations;
static int device_key = -1;                              // -1: none
static void races_forget(uintptr_t first, size_t bytes); // races.h

static void *reserve(size_t n, int protection) {
    void *p = mmap(nullptr, n, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) return p;
    fprintf(
        stderr,
        "cuda_on_cpu: cannot reserve %zu GiB of addresses\n  -> raise `ulimit -v`, or set vm.overcommit_memory to 0\n",
        n >> 30);
    exit(1);
}
static void memory_init() {
    device_base = reinterpret_cast<uintptr_t>(reserve(DEVICE_RANGE, PROT_NONE));
    device_top = device_base + PAGE; // what lies before the first allocation is closed as well
    page_owner = static_cast<uint32_t *>(reserve(DEVICE_RANGE / PAGE * sizeof *page_owner, PROT_READ | PROT_WRITE));
    if (settings.keys) device_key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
}

static bool in_device_range(uintptr_t address) { return address - device_base < DEVICE_RANGE; }
static const Allocation *allocation_at(uintptr_t address) {
    uint32_t owner = in_device_range(address) ? page_owner[(address - device_base) / PAGE] : 0;
    if (!owner) return nullptr;
    const Allocation *a = &allocations[owner - 1];
    // Between two allocations, the nearer one is meant.
    bool next =
        owner < allocations.size() && address >= a->end && allocations[owner].begin - address < address - a->end;
    return next ? &allocations[owner] : a;
}

// Closed memory has no key of its own, so that what is freed becomes one mapping with its neighbours: their number is
// limited.
static void protect(const Allocation &a, int protection) {
    uintptr_t first = a.begin / PAGE * PAGE;
    int key = device_key >= 0 && protection == PROT_NONE ? 0 : device_key;
    if (pkey_mprotect(reinterpret_cast<void *>(first), (a.end - first + PAGE - 1) / PAGE * PAGE, protection, key) == 0)
        return;
    fprintf(stderr,
            "cuda_on_cpu: cannot change the protection of %zu bytes: %s\n  -> too many allocations: raise "
            "vm.max_map_count\n",
            size_t(a.end - a.begin), strerror(errno));
    exit(1);
}
static bool open_device(uintptr_t address) {
    if (device_key >= 0) {
        pkey_set(device_key, 0);
        return false;
    }
    uint32_t owner = in_device_range(address) ? page_owner[(address - device_base) / PAGE] : 0;
    if (!owner) return false;
    Allocation &a = allocations[owner - 1];
    if (a.freed || a.open || address >= (a.end + PAGE - 1) / PAGE * PAGE) return false;
    protect(a, PROT_READ | PROT_WRITE);
    a.open = true;
    a.next_open = open_allocations;
    open_allocations = &a;
    return true;
}
static void close_device() {
    if (device_key >= 0) pkey_set(device_key, PKEY_DISABLE_ACCESS);
    for (; open_allocations; open_allocations = open_allocations->next_open) {
        protect(*open_allocations, PROT_NONE);
        open_allocations->open = false;
    }
}

// NULL where the device has too little left.
static void *device_allocate(size_t n, uintptr_t pc) {
    size_t rounded = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, pages = (rounded + PAGE - 1) / PAGE;
    if (n > settings.device_memory || device_used + rounded > settings.device_memory) return nullptr;
    if (device_top + (pages + 2) * PAGE > device_base + DEVICE_RANGE) {
        fprintf(stderr,
                "cuda_on_cpu: all %zu GiB of addresses are used up: they are never given out twice, so that a pointer "
                "to freed memory "
                "stays wrong\n  -> allocate once, not in a loop\n",
                DEVICE_RANGE >> 30);
        exit(1);
    }
    uintptr_t first = device_top, begin = first + pages * PAGE - rounded;
    allocations.push_back({begin, begin + n, false, pc, 0, {}, false, nullptr});
    callers_of(pc, allocations.back().callers, 2);
    // The page after it belongs to this allocation, too; the page before to the last one.
    if (allocations.size() == 1) page_owner[0] = 1;
    for (uintptr_t p = first; p <= first + pages * PAGE; p += PAGE)
        page_owner[(p - device_base) / PAGE] = uint32_t(allocations.size());
    device_top = first + (pages + 1) * PAGE;
    device_used += rounded;
    if (device_key >= 0) protect(allocations.back(), PROT_READ | PROT_WRITE); // until it is freed: the key closes it
    open_device(begin);
    memset(reinterpret_cast<void *>(first), 0xFF, pages * PAGE);
    close_device();
    return reinterpret_cast<void *>(begin);
}
// False after a report.
static bool device_free(void *p, uintptr_t pc) {
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    Allocation *a = const_cast<Allocation *>(allocation_at(address));
    if (!a || a->begin != address || a->freed) {
        report("bad pointer", nullptr, pc, "cudaFree: %p %s\n    -> free what cudaMalloc returned, once", p,
               a && a->freed ? ("was freed before at " + source_line(a->freed_pc)).c_str()
                             : "does not come from cudaMalloc");
        return false;
    }
    a->freed = true;
    a->freed_pc = pc;
    device_used -= (a->end - a->begin + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    protect(*a, PROT_NONE);
    uintptr_t first = a->begin / PAGE * PAGE;
    madvise(reinterpret_cast<void *>(first), (a->end - first + PAGE - 1) / PAGE * PAGE, MADV_DONTNEED);
    races_forget(first, (a->end - first + PAGE - 1) / PAGE * PAGE);
    return true;
}

static bool is_pinned(uintptr_t address, size_t n) {
    auto next = pinned.upper_bound(address);
    if (next == pinned.begin()) return false;
    --next;
    return address + n <= next->first + next->second;
}

// "which lies 4 bytes past the end of the 4096 bytes from cudaMalloc at file.cu:3"
static std::string place_in(const Allocation &a, uintptr_t address) {
    char text[256];
    const char *side = address >= a.end ? "past the end of" : address < a.begin ? "before" : "into";
    size_t distance = address >= a.end ? address - a.end : address < a.begin ? a.begin - address : address - a.begin;
    snprintf(text, sizeof text, "%zu bytes %s the %zu bytes from cudaMalloc at ", distance, side,
             size_t(a.end - a.begin));
    std::string lines = source_line(a.pc);
    for (uintptr_t caller : a.callers)
        if (caller && find_source_line(caller).outside) lines += ", called at " + source_line(caller);
    return text + lines + (a.freed ? ", freed at " + source_line(a.freed_pc) : "");
}

static bool check_device_bytes(const void *p, size_t n, const char *function, const char *argument, uintptr_t pc) {
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    const Allocation *a = allocation_at(address);
    if (!n) return true;
    if (!a)
        report("host pointer", nullptr, pc, "%s: %s = %p is no device memory\n    -> pass what cudaMalloc returned",
               function, argument, p);
    else if (a->freed)
        report("use after free", nullptr, pc, "%s: %s points %s", function, argument, place_in(*a, address).c_str());
    else if (address < a->begin || address >= a->end || n > a->end - address)
        report("out of bounds", nullptr, pc, "%s: %s: %zu bytes beginning %s", function, argument, n,
               place_in(*a, address).c_str());
    else return true;
    return false;
}

} // namespace cuda_on_cpu
