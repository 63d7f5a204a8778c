/*
Shared memory: one arena for the block that runs. Arrays lie in it one after another, 64 bytes that belong to nobody
between them; the one that the launch asks for comes first.
*/
namespace cuda_on_cpu {

constexpr size_t SHARED_ARENA = 1 << 20, RED_ZONE = 64, MAX_STATIC_SHARED = 48 << 10;

struct SharedArray {
    const void *site;
    const char *name;
    uintptr_t begin, end;
};
static uintptr_t shared_base;
static std::vector<SharedArray> shared_arrays; // of this block
static uintptr_t shared_top;
static size_t static_shared;

static void shared_init() { shared_base = reinterpret_cast<uintptr_t>(reserve(SHARED_ARENA, PROT_READ | PROT_WRITE)); }

static void *add_shared_array(const void *site, const char *name, size_t size) {
    uintptr_t begin = (shared_top + RED_ZONE + 31) / 32 * 32;
    if (begin + size + RED_ZONE > shared_base + SHARED_ARENA) begin = shared_base; // reported as too much
    else shared_top = begin + size;
    memset(reinterpret_cast<void *>(begin), 0xFF, std::min(size, SHARED_ARENA));
    shared_arrays.push_back({site, name, begin, begin + size});
    return reinterpret_cast<void *>(begin);
}
static void shared_begin_block() {
    shared_arrays.clear();
    shared_top = shared_base;
    static_shared = 0;
    add_shared_array(nullptr, "dynamic shared memory", kernel->smem);
}

// What a block may have at most, once it was asked for.
static size_t max_shared() { return settings.arch == 80 ? 163 << 10 : 227 << 10; }

void *shared_array(const void *site, const char *name, size_t size) {
    for (const SharedArray &a : shared_arrays)
        if (a.site == site) return reinterpret_cast<void *>(a.begin);
    static_shared += size;
    if (static_shared > MAX_STATIC_SHARED)
        report("bad launch", current, CALLER,
               "SHARED arrays take %zu bytes; a block has %zu for them\n    -> DYN_SHARED has more", static_shared,
               MAX_STATIC_SHARED);
    else if (static_shared + kernel->smem > max_shared())
        report("bad launch", current, CALLER,
               "SHARED arrays of %zu bytes beside %zu of dynamic shared memory; a block has %zu", static_shared,
               kernel->smem, max_shared());
    return add_shared_array(site, name, size);
}
void *dynamic_shared() {
    if (!kernel->smem)
        report("bad launch", current, CALLER,
               "DYN_SHARED in a kernel that was launched with 0 bytes of it\n    -> LAUNCH's fourth argument");
    return reinterpret_cast<void *>(shared_arrays[0].begin);
}

} // namespace cuda_on_cpu
