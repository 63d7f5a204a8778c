/*
Copies from global to shared memory that run on by themselves: what cp.async does on a GPU. Here the bytes arrive as
late as they may, when their thread waits for them; until then the destination holds NaN. For the race detector they are
written at both ends of that time.
*/
namespace cuda_on_cpu {

struct AsyncCopy {
    void *to;
    const void *from; // NULL: zeros
    size_t size;
    unsigned group;
    uintptr_t pc;
};
static std::deque<AsyncCopy> async_copies[MAX_THREADS]; // by thread, oldest first
static unsigned async_groups[MAX_THREADS];              // closed so far

static void async_begin_block() {
    for (uint32_t i = 0; i < block_size; i++) {
        async_copies[i].clear();
        async_groups[i] = 0;
    }
}

void copy_async(void *shared, const void *global, size_t size, bool valid) {
    enter(CALLER);
    uintptr_t to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
    if ((size != 4 && size != 8 && size != 16) || to % size || (valid && from % size))
        report("misaligned access", current, current->pc,
               "an asynchronous copy of %zu bytes from %p to %p\n    -> 4, 8 or 16 bytes, at multiples of that", size,
               global, shared);
    for (const AsyncCopy &c : async_copies[current->id]) {
        if (!checked || reinterpret_cast<uintptr_t>(c.to) >= to + size ||
            to >= reinterpret_cast<uintptr_t>(c.to) + c.size)
            continue;
        report("race", current, current->pc,
               "an asynchronous copy to where another one of this thread has not arrived yet\n    -> wait for it "
               "first; only copies that a group has taken in are waited for");
        break;
    }
    if (checked && valid) access(from, size, false, false, current->pc);
    if (checked) access(to, size, true, false, current->pc);
    settle_write();
    memset(shared, 0xFF, size);
    async_copies[current->id].push_back(
        {shared, valid ? global : nullptr, size, async_groups[current->id], current->pc});
}
void copies_commit() { async_groups[current->id]++; }
void copies_wait(unsigned left) {
    enter(CALLER);
    std::deque<AsyncCopy> &copies = async_copies[current->id];
    while (!copies.empty() && copies.front().group + left < async_groups[current->id]) {
        const AsyncCopy c = copies.front();
        copies.pop_front();
        if (checked) access(reinterpret_cast<uintptr_t>(c.to), c.size, true, false, c.pc);
        if (c.from) memcpy(c.to, c.from, c.size);
        else memset(c.to, 0, c.size);
        settle_write();
    }
}

} // namespace cuda_on_cpu
