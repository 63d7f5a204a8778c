/*
The checks on every access of a kernel, in the build with -fsanitize=thread,alignment: bounds, memory never written,
races.

A race is found from what orders two accesses, not from bad luck with the schedule. A thread's life is cut into segments
by its barriers; segments have numbers that only grow. For every 2 bytes a cell remembers the segment of the last writer
and of two readers since, with their program counters. An earlier segment comes before the running one if - it belongs
to an earlier launch; - it belongs to this block, and a barrier of the block came between; - it belongs to this warp,
and __syncwarp or a chain of them came between (`seen`); - its thread passed a __threadfence and its block then did an
atomic on a word that this block did an atomic on later: the way
  by which the last block to finish may read what all others wrote.
Two accesses of which one writes, neither comes before the other and not both are atomic, are a race; but threads that
all write the same value are left in peace.
*/
namespace cuda_on_cpu {

struct Access {
    uint32_t segment;                // 0: none
    uint32_t pc : 31, is_atomic : 1; // pc: counted from the beginning of the program
};
struct Cell {
    Access writer, reader[2];
};
struct Segment {
    uint32_t block, previous; // number of the block; the segment of this thread before this one
    uint16_t thread;
    bool fenced;
};
struct Release { // an atomic after a fence
    uintptr_t word;
    uint32_t block, thread, floor, own; // segments up to floor of the block and up to own of the thread come before
    uint32_t barrier_floor;             // those up to here of the block too, where their threads fenced themselves
};
struct Acquire {
    uintptr_t word;
    uint32_t segment;
    size_t releases; // that many had happened
};

constexpr uint32_t HOST_SEGMENT = 1, MAX_SEGMENTS = 1 << 26;
static Cell *device_cells, *shared_cells;
static uint32_t launch_first = HOST_SEGMENT + 1; // first segment of this launch
static uint32_t block_first, barrier_floor;      // first of this block; last one before its last barrier
static std::vector<Segment> segments;            // of this launch, from launch_first on
static std::vector<Release> releases;            // of this launch
static std::vector<Acquire> acquires;            // of this block

static uint32_t newest_segment() { return launch_first + uint32_t(segments.size()) - 1; }
static Segment &segment_at(uint32_t segment) { return segments[segment - launch_first]; }
static uint32_t segment_of(Thread *t) {
    if (!t->segment) {
        segments.push_back({block_number, t->last_segment, uint16_t(t->id), false});
        t->segment = t->last_segment = newest_segment();
    }
    return t->segment;
}

static void races_init() {
    device_cells = static_cast<Cell *>(reserve(DEVICE_RANGE / 2 * sizeof(Cell), PROT_READ | PROT_WRITE));
    shared_cells = static_cast<Cell *>(reserve(SHARED_ARENA / 2 * sizeof(Cell), PROT_READ | PROT_WRITE));
}
// What whole pages remember goes back to the system: they are not given out again. Cells of a page fill 12 pages.
static void races_forget(uintptr_t first, size_t bytes) {
    if (device_cells) madvise(device_cells + (first - device_base) / 2, bytes / 2 * sizeof(Cell), MADV_DONTNEED);
}
// Segment numbers have 32 bits. Long before they run out, all that was written is marked as written by the host.
static void renumber_segments() {
    for (const Allocation &a : allocations)
        for (uintptr_t i = (a.begin - device_base) / 2; !a.freed && i < (a.end + 1 - device_base) / 2; i++)
            device_cells[i] = {{device_cells[i].writer.segment ? HOST_SEGMENT : 0, 0, 0}, {}};
    memset(static_cast<void *>(shared_cells), 0, SHARED_ARENA / 2 * sizeof(Cell));
    for (Thread &t : threads) memset(t.seen, 0, sizeof t.seen);
    launch_first = HOST_SEGMENT + 1;
}
static void races_begin_launch() {
    launch_first += uint32_t(segments.size());
    segments.clear();
    releases.clear();
    if (launch_first > 3000000000u) renumber_segments();
}
static void races_begin_block() {
    if (segments.size() > MAX_SEGMENTS) races_begin_launch(); // the blocks so far are forgotten
    block_first = newest_segment() + 1;
    barrier_floor = block_first - 1;
    acquires.clear();
    for (uint32_t i = 0; i < block_size; i++) threads[i].segment = threads[i].last_segment = threads[i].fence_floor = 0;
}
static void synchronised_block() {
    barrier_floor = newest_segment();
    for (uint32_t i = 0; i < block_size; i++) threads[i].segment = 0;
}
static void synchronised_warp(const Thread *warp_threads, unsigned lanes) {
    uint32_t joint[32] = {};
    Thread *t = const_cast<Thread *>(warp_threads);
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1)) continue;
        for (int i = 0; i < 32; i++) joint[i] = std::max(joint[i], t[lane].seen[i]);
        joint[lane] = std::max(joint[lane], t[lane].last_segment);
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1)) continue;
        memcpy(t[lane].seen, joint, sizeof joint);
        t[lane].segment = 0;
    }
}

// ----------------------------------------------------------------------------
// Fences and atomics

static void fenced() {
    if (!current->last_segment) segment_of(current); // so that there is something to release
    for (uint32_t s = current->last_segment; s && !segment_at(s).fenced; s = segment_at(s).previous)
        segment_at(s).fenced = true;
    current->segment = 0; // what comes now is not covered
    current->fence_floor = barrier_floor;
}
static void atomic_orders(uintptr_t word) {
    if (!releases.empty()) acquires.push_back({word, segment_of(current), releases.size()});
    uint32_t own = current->last_segment;
    while (own && !segment_at(own).fenced) own = segment_at(own).previous;
    if (own) releases.push_back({word, block_number, current->id, current->fence_floor, own, barrier_floor});
}

// Whether segment s of this launch comes before what the running thread does now; in_block: by barriers of the block
// alone.
static bool comes_before_in_block(uint32_t s) {
    const Segment &old = segment_at(s);
    return s >= block_first && (s <= barrier_floor || old.thread == current->id ||
                                (old.thread / 32 == current->id / 32 && s <= current->seen[old.thread % 32]));
}
static bool comes_before(uint32_t s) {
    if (comes_before_in_block(s)) return true;
    const Segment &old = segment_at(s);
    for (const Acquire &a : acquires) {
        if (!comes_before_in_block(a.segment)) continue;
        for (size_t i = 0; i < a.releases; i++) {
            const Release &r = releases[i];
            if (r.word != a.word || r.block != old.block) continue;
            if (s <= r.floor || (r.thread == old.thread && s <= r.own) || (s <= r.barrier_floor && old.fenced))
                return true;
        }
    }
    return false;
}

// ----------------------------------------------------------------------------
// The check

static std::string describe(uintptr_t address); // "s (shared), byte 4 of 256"

static void report_race(uintptr_t address, size_t size, bool write, bool is_atomic, uintptr_t pc, const Access &old,
                        bool old_write) {
    const Segment &s = segment_at(old.segment);
    dim3 g = kernel->grid, b = kernel->block;
    uint32_t k = s.block, t = s.thread;
    bool same_block = s.block == block_number;
    report("race", current, pc,
           "%s %zu bytes of %s\n    unordered with block (%u,%u,%u), thread (%u,%u,%u), which %s them at %s\n    -> %s",
           is_atomic ? "changes atomically"
           : write   ? "writes"
                     : "reads",
           size, describe(address).c_str(), k % g.x, k / g.x % g.y, k / g.x / g.y, t % b.x, t / b.x % b.y,
           t / b.x / b.y,
           old.is_atomic ? "changed atomically"
           : old_write   ? "wrote"
                         : "read",
           source_line(reinterpret_cast<uintptr_t>(__executable_start) + old.pc).c_str(),
           !same_block ? "let each block write its own place; or, to hand it on, __threadfence() before an atomic that "
                         "the other block does too"
           : s.thread / 32 == current->id / 32 ? "__syncwarp() or __syncthreads() between the two lines"
                                               : "__syncthreads() between the two lines");
}

// A write that would be a race, unless it turns out to write what is already there.
static struct {
    uintptr_t address, pc;
    size_t size;
    unsigned char before[64];
    Access old;
} doubtful;
static void settle_write() {
    if (!doubtful.size) return;
    size_t size = doubtful.size;
    doubtful.size = 0;
    if (memcmp(doubtful.before, reinterpret_cast<const void *>(doubtful.address),
               std::min(size, sizeof doubtful.before)) == 0)
        return;
    report_race(doubtful.address, size, true, false, doubtful.pc, doubtful.old, true);
}

// The cells of [address, address + size), and whether all of them may be touched. NULL: nothing to check, or a report.
static Cell *cells_of(uintptr_t address, size_t size, bool write, uintptr_t pc, uint32_t *written_since);

static void access(uintptr_t address, size_t size, bool write, bool is_atomic, uintptr_t pc) {
    settle_write();
    uint32_t written_since;
    Cell *cells = cells_of(address, size, write, pc, &written_since);
    if (!cells) return;
    uint32_t mine = segment_of(current);
    Access now = {mine, uint32_t(pc - reinterpret_cast<uintptr_t>(__executable_start)) & 0x7fffffff, is_atomic};
    bool quiet = size == 1, unwritten = false; // two bytes share a cell: no verdict on single ones
    for (Cell *c = cells, *last = cells + ((address & 1) + size - 1) / 2; c <= last; c++) {
        Access old = c->writer;
        unwritten |= (!write || is_atomic) && old.segment < written_since;
        bool live = old.segment >= launch_first && old.segment >= written_since;
        if (!quiet && live && old.segment != mine && !(is_atomic && old.is_atomic) && !comes_before(old.segment)) {
            quiet = true;
            if (!write || is_atomic || old.is_atomic || size > sizeof doubtful.before) {
                report_race(address, size, write, is_atomic, pc, old, true);
            } else {
                doubtful.address = address, doubtful.pc = pc, doubtful.size = size, doubtful.old = old;
                memcpy(doubtful.before, reinterpret_cast<const void *>(address), size);
            }
        }
        if (write) {
            for (Access &r : c->reader) {
                if (!quiet && r.segment >= launch_first && r.segment >= written_since && r.segment != mine &&
                    !comes_before(r.segment)) {
                    quiet = true;
                    doubtful.size = 0;
                    report_race(address, size, write, is_atomic, pc, r, false);
                }
                r.segment = 0;
            }
            c->writer = now;
        } else {
            // Keep two readers that a later write could meet: of different warps rather than of one.
            Access *r = c->reader;
            bool free0 =
                r[0].segment < launch_first || r[0].segment < written_since || comes_before_in_block(r[0].segment);
            bool free1 =
                r[1].segment < launch_first || r[1].segment < written_since || comes_before_in_block(r[1].segment);
            if (free0) r[0] = now;
            else if (free1 || segment_at(r[0].segment).thread / 32 == segment_at(r[1].segment).thread / 32) r[1] = now;
        }
    }
    if (unwritten)
        report("uninitialised read", current, pc,
               "%s %zu bytes of %s, which nothing has written\n    -> the values are arbitrary on a GPU; "
               "here they are NaN (0xFF)",
               is_atomic ? "changes" : "reads", size, describe(address).c_str());
}

// ----------------------------------------------------------------------------
// Copies

static void written_by_host(uintptr_t address, size_t n) {
    if (!checked || !n) return;
    for (uintptr_t i = (address - device_base) / 2; i <= (address + n - 1 - device_base) / 2; i++)
        device_cells[i] = {{HOST_SEGMENT, 0, 0}, {}};
}
// What was never written stays so when it is copied.
static void copied_by_host(uintptr_t to, uintptr_t from, size_t n) {
    if (!checked) return;
    for (size_t i = 0; i < n; i += 2)
        device_cells[(to + i - device_base) / 2] = {
            {device_cells[(from + i - device_base) / 2].writer.segment ? HOST_SEGMENT : 0, 0, 0}, {}};
}
// First byte of [address, address + n) that was never written, n if there is none.
static size_t first_unwritten(uintptr_t address, size_t n) {
    for (size_t i = 0; checked && i < n; i += 2)
        if (!device_cells[(address + i - device_base) / 2].writer.segment) return i;
    return n;
}

} // namespace cuda_on_cpu
