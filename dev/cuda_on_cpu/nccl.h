/*
NCCL between the processes of one machine: broadcasts, and groups of sends and receives, from device memory to device
memory, in stream order, by way of shared memory (shadow/nccl.h is the interface). Each rank publishes what it is about
to do, and all compare before a byte moves, so that what on GPUs hangs or gives other numbers is reported instead.

The memory belongs to no file: ncclGetUniqueId makes it, the id says where in /proc the others find it, and it ends with
its last process. A rank holds a lock on its own byte of it, which the kernel takes back when its process ends, however
that happens.
*/
#include <atomic>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <nccl.h>

namespace cuda_on_cpu {

constexpr int MOST_RANKS = 64;
constexpr size_t NCCL_PIECE = size_t(1) << 20; // bytes that go through the shared memory at once

struct Broadcast {
    uint64_t number; // how manieth of this communicator
    const void *send;
    void *receive;
    size_t count;
    ncclDataType_t type;
    int root;
    uintptr_t pc;
};
// The sends and receives of one group: from and to each rank at most one.
struct Message {
    const void *send;
    void *receive;
    size_t count;
    int type; // -1: none
    uintptr_t pc;
};
struct Trade {
    uint64_t number;
    Message out[MOST_RANKS], in[MOST_RANKS];
    uintptr_t pc;
};
struct Announced {
    size_t count;
    int type;
};
struct RankState {
    std::atomic<int> taken;
    std::atomic<uint64_t> step; // grows by one whenever the rank may go on if all others have come as far
    int nranks, device;
    uint64_t number; // what it does: which broadcast or group, and how
    size_t count;
    int type, root; // root -1: a group of sends and receives
    Announced out[MOST_RANKS], in[MOST_RANKS];
    char line[200]; // where in its source
};
struct SharedState {
    RankState rank[MOST_RANKS];
    char data[NCCL_PIECE];
};

} // namespace cuda_on_cpu

struct ncclComm {
    int rank, nranks, file;
    cuda_on_cpu::SharedState *shared;
    uint64_t step, queued; // broadcasts and groups of sends and receives that were called
    ncclResult_t error;    // what ncclCommGetAsyncError tells
    const char *gone;      // "destroyed" or "aborted"
};

namespace cuda_on_cpu {

static std::vector<ncclComm *> communicators; // all of them: a handle stays known when it is gone
struct Queued {
    ncclComm *comm;
    CUstream_st *stream;
    Broadcast what;
};
static std::vector<Queued> group; // called since ncclGroupStart
static struct {
    ncclComm *comm;
    CUstream_st *stream;
    Trade what;
} trade; // the same of sends and receives; comm NULL: none
static char nccl_last_error[512];

static ncclResult_t nccl_failed(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));
static ncclResult_t nccl_failed(ncclResult_t result, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(nccl_last_error, sizeof nccl_last_error, format, list);
    va_end(list);
    return result;
}
static ncclResult_t bad_nccl(const char *what, uintptr_t pc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static ncclResult_t bad_nccl(const char *what, uintptr_t pc, const char *format, ...) {
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    report(what, nullptr, pc, "%s", text);
    return nccl_failed(ncclInvalidUsage, "%s", text);
}

static size_t nccl_bytes(ncclDataType_t type) { // 0: no such type
    static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return size_t(type) < sizeof bytes / sizeof bytes[0] ? bytes[type] : 0;
}
static bool known(const ncclComm *comm, const char *function, uintptr_t pc) {
    bool there = std::find(communicators.begin(), communicators.end(), comm) != communicators.end();
    if (there && !comm->gone) return true;
    bad_nccl("bad communicator", pc, "%s: %s", function,
             there ? (std::string("the communicator was ") + comm->gone + " before").c_str()
                   : "there is no such communicator");
    return false;
}

// ----------------------------------------------------------------------------
// Waiting for the others

static bool rank_lives(const ncclComm *c, int rank) {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = rank;
    lock.l_len = 1;
    return rank == c->rank || fcntl(c->file, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}
static double seconds_now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}
// This rank is through with what it did; returns when all are. False where one has died, which is the communicator's
// error then. what: for the report of a rank that does not come within the watchdog's time.
static bool meet(ncclComm *c, const char *what, uintptr_t pc) {
    const double start = seconds_now();
    RankState *ranks = c->shared->rank;
    ranks[c->rank].step.store(++c->step, std::memory_order_release);
    for (int r = 0; r < c->nranks; r++) {
        for (unsigned turn = 0; ranks[r].step.load(std::memory_order_acquire) < c->step; turn++) {
            const timespec pause = {0, turn < 100 ? 1000 : 100000};
            nanosleep(&pause, nullptr);
            if (turn % 32 != 31 || c->step == 1) { // at the first meeting nobody need be there yet
            } else if (!rank_lives(c, r) && ranks[r].step.load(std::memory_order_acquire) < c->step) {
                c->error = nccl_failed(ncclRemoteError, "rank %d of %d has ended", r, c->nranks);
                return false;
            }
            if (seconds_now() - start < settings.watchdog) continue;
            report("deadlock", nullptr, pc,
                   "%s: rank %d of %d waits for rank %d, which does not come; it was last at %s\n"
                   "    -> every rank must make the same calls, in the same order",
                   what, c->rank, c->nranks, r, ranks[r].line[0] ? ranks[r].line : "nothing");
            give_up();
        }
    }
    return true;
}

// ----------------------------------------------------------------------------
// The broadcast, when its stream comes to it

// CUDA_ON_CPU_NCCL=kill:RANK:N or fail:RANK:N: the rank dies in the middle of its Nth broadcast or group of sends and
// receives, or its network fails there.
static bool planned(const char *how, const ncclComm *c, uint64_t number) {
    const char *text = getenv("CUDA_ON_CPU_NCCL");
    char name[8];
    int rank;
    unsigned long long n;
    if (!text || !*text) return false;
    if (sscanf(text, "%7[a-z]:%d:%llu", name, &rank, &n) != 3 ||
        (strcmp(name, "kill") != 0 && strcmp(name, "fail") != 0))
        wrong_setting("CUDA_ON_CPU_NCCL", text, "kill:RANK:N or fail:RANK:N");
    return strcmp(name, how) == 0 && rank == c->rank && n == number;
}

// What rank r and this one are doing is the same. Ends the program after a report, for on GPUs it would hang or go on
// with nonsense.
static void compare(const ncclComm *c, int r, uintptr_t pc) {
    const RankState &mine = c->shared->rank[c->rank], &theirs = c->shared->rank[r];
    if (mine.number == theirs.number && mine.count == theirs.count && mine.type == theirs.type &&
        mine.root == theirs.root)
        return;
    report("ranks differ", nullptr, pc,
           "call number %llu of rank %d: %zu of type %d from rank %d (-1: sends and receives); number %llu of rank %d, "
           "at %s: %zu of type %d from rank %d\n"
           "    -> the same calls in the same order on every rank, with the same count, type and root",
           static_cast<unsigned long long>(mine.number), c->rank, mine.count, mine.type, mine.root,
           static_cast<unsigned long long>(theirs.number), r, theirs.line, theirs.count, theirs.type, theirs.root);
    give_up();
}

static void broadcast_now(ncclComm *c, const Broadcast &b) {
    if (c->gone || c->error != ncclSuccess) return;
    const size_t bytes = b.count * nccl_bytes(b.type);
    const bool root = c->rank == b.root;
    if (planned("fail", c, b.number)) {
        c->error = nccl_failed(ncclSystemError, "CUDA_ON_CPU_NCCL says that the network fails here");
        return;
    }
    // The pointers were checked when the call came; a stream may have freed them since.
    if (root && !check_device_bytes(b.send, bytes, "ncclBroadcast", "the send buffer", b.pc)) give_up();
    if (!check_device_bytes(b.receive, bytes, "ncclBroadcast", "the receive buffer", b.pc)) give_up();
    if (root) {
        size_t first = first_unwritten(reinterpret_cast<uintptr_t>(b.send), bytes);
        if (first < bytes)
            report("uninitialised read", nullptr, b.pc, "ncclBroadcast: byte %zu of the send buffer was never written",
                   first);
    }
    RankState &mine = c->shared->rank[c->rank];
    mine.number = b.number;
    mine.count = b.count;
    mine.type = b.type;
    mine.root = b.root;
    snprintf(mine.line, sizeof mine.line, "%s", source_line(b.pc).c_str());
    if (!meet(c, "ncclBroadcast", b.pc)) return;
    for (int r = 0; r < c->nranks; r++) compare(c, r, b.pc);
    for (size_t done = 0; done < bytes; done += NCCL_PIECE) {
        const size_t n = std::min(NCCL_PIECE, bytes - done);
        if (root) {
            open_device(reinterpret_cast<uintptr_t>(b.send));
            memcpy(c->shared->data, static_cast<const char *>(b.send) + done, planned("kill", c, b.number) ? n / 2 : n);
            close_device();
        }
        if (planned("kill", c, b.number)) raise(SIGKILL);
        if (!meet(c, "ncclBroadcast", b.pc)) return;
        if (!root || b.send != b.receive) {
            open_device(reinterpret_cast<uintptr_t>(b.receive));
            memcpy(static_cast<char *>(b.receive) + done, c->shared->data, n);
            close_device();
            written_by_host(reinterpret_cast<uintptr_t>(b.receive) + done, n);
        }
        if (!meet(c, "ncclBroadcast", b.pc)) return;
    }
}

// What this rank sends is what the other receives.
static void compare_messages(const ncclComm *c, int r, const Trade &t) {
    const RankState &mine = c->shared->rank[c->rank], &theirs = c->shared->rank[r];
    const Announced &out = mine.out[r], &awaited = theirs.in[c->rank];
    if (out.type == awaited.type && (out.type < 0 || out.count == awaited.count)) return;
    report("ranks differ", nullptr, t.pc,
           "rank %d sends %zu of type %d (-1: nothing) to rank %d, which at %s receives %zu of type %d\n"
           "    -> an ncclRecv for each ncclSend, with the same count and type",
           c->rank, out.type < 0 ? 0 : out.count, out.type, r, theirs.line, awaited.type < 0 ? 0 : awaited.count,
           awaited.type);
    give_up();
}

static void trade_now(ncclComm *c, const Trade &t) {
    if (c->gone || c->error != ncclSuccess) return;
    if (planned("fail", c, t.number)) {
        c->error = nccl_failed(ncclSystemError, "CUDA_ON_CPU_NCCL says that the network fails here");
        return;
    }
    RankState &mine = c->shared->rank[c->rank];
    for (int r = 0; r < c->nranks; r++) {
        const Message &out = t.out[r], &in = t.in[r];
        const size_t bytes = out.type < 0 ? 0 : out.count * nccl_bytes(ncclDataType_t(out.type));
        // The pointers were checked when the call came; a stream may have freed them since.
        if (out.type >= 0 && !check_device_bytes(out.send, bytes, "ncclSend", "the send buffer", out.pc)) give_up();
        if (in.type >= 0 && !check_device_bytes(in.receive, in.count * nccl_bytes(ncclDataType_t(in.type)), "ncclRecv",
                                                "the receive buffer", in.pc))
            give_up();
        const size_t first = bytes ? first_unwritten(reinterpret_cast<uintptr_t>(out.send), bytes) : 0;
        if (first < bytes)
            report("uninitialised read", nullptr, out.pc, "ncclSend: byte %zu of the send buffer was never written",
                   first);
        mine.out[r] = {out.count, out.type};
        mine.in[r] = {in.count, in.type};
    }
    mine.number = t.number;
    mine.count = 0;
    mine.type = mine.root = -1;
    snprintf(mine.line, sizeof mine.line, "%s", source_line(t.pc).c_str());
    if (!meet(c, "ncclSend and ncclRecv", t.pc)) return;
    for (int r = 0; r < c->nranks; r++) compare(c, r, t.pc);
    for (int r = 0; r < c->nranks; r++) compare_messages(c, r, t);
    if (!meet(c, "ncclSend and ncclRecv", t.pc)) return; // all have compared
    for (int from = 0; from < c->nranks; from++) {
        for (int to = 0; to < c->nranks; to++) {
            const Announced a = c->shared->rank[from].out[to];
            const size_t bytes = a.type < 0 ? 0 : a.count * nccl_bytes(ncclDataType_t(a.type));
            for (size_t done = 0; done < bytes; done += NCCL_PIECE) {
                const size_t n = std::min(NCCL_PIECE, bytes - done);
                if (from == c->rank) {
                    open_device(reinterpret_cast<uintptr_t>(t.out[to].send));
                    memcpy(c->shared->data, static_cast<const char *>(t.out[to].send) + done,
                           planned("kill", c, t.number) ? n / 2 : n);
                    close_device();
                    if (planned("kill", c, t.number)) raise(SIGKILL);
                }
                if (!meet(c, "ncclSend and ncclRecv", t.pc)) return;
                if (to == c->rank) {
                    void *receive = static_cast<char *>(t.in[from].receive) + done;
                    open_device(reinterpret_cast<uintptr_t>(t.in[from].receive));
                    memcpy(receive, c->shared->data, n);
                    close_device();
                    written_by_host(reinterpret_cast<uintptr_t>(receive), n);
                }
                if (!meet(c, "ncclSend and ncclRecv", t.pc)) return;
            }
        }
    }
}

// A send or a receive is noted; ncclGroupEnd starts all of them.
static ncclResult_t add_message(const char *function, bool sends, const void *buffer, size_t count, ncclDataType_t type,
                                int peer, ncclComm *comm, CUstream_st *stream, uintptr_t pc) {
    CUstream_st *s = stream_of(stream, function, pc);
    if (!s) return nccl_failed(ncclInvalidArgument, "no such stream");
    if (comm->error != ncclSuccess)
        return bad_nccl("bad communicator", pc, "%s after the error %d of its communicator\n    -> ncclCommAbort",
                        function, int(comm->error));
    if (!nccl_bytes(type) || peer < 0 || peer >= comm->nranks)
        return bad_nccl("bad message", pc, "%s: type %d, peer %d of %d ranks", function, int(type), peer, comm->nranks);
    if (!nccl_groups) return bad_nccl("not supported", pc, "%s outside of ncclGroupStart and ncclGroupEnd", function);
    if (!check_device_bytes(buffer, count * nccl_bytes(type), function,
                            sends ? "the send buffer" : "the receive buffer", pc))
        return nccl_failed(ncclInvalidArgument, "not device memory, or not enough of it");
    if (!trade.comm) {
        trade.comm = comm;
        trade.stream = s;
        for (int r = 0; r < MOST_RANKS; r++) trade.what.out[r].type = trade.what.in[r].type = -1;
    }
    Message &m = (sends ? trade.what.out : trade.what.in)[peer];
    if (trade.comm != comm || trade.stream != s || m.type >= 0)
        return bad_nccl("not supported", pc,
                        "%s: in a group one communicator, one stream, and one message to and from each rank", function);
    if (sends) m.send = buffer;
    else m.receive = const_cast<void *>(buffer);
    m.count = count;
    m.type = int(type);
    m.pc = trade.what.pc = pc;
    return ncclSuccess;
}

} // namespace cuda_on_cpu

extern "C" {

// ----------------------------------------------------------------------------
// Communicators

ncclResult_t ncclGetVersion(int *version) { return *version = NCCL_VERSION_CODE, ncclSuccess; }

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    int file = memfd_create("nccl_on_cpu", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, sizeof(SharedState)) != 0)
        return nccl_failed(ncclSystemError, "memfd_create: %s", strerror(errno));
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", int(getpid()),
             file); // stays open as long as this process
    return ncclSuccess;
}

// Returns when all ranks have called it.
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank) {
    const uintptr_t pc = CALLER;
    *comm = nullptr;
    if (nranks < 1 || nranks > MOST_RANKS || rank < 0 || rank >= nranks)
        return bad_nccl("bad communicator", pc, "ncclCommInitRank: rank %d of %d", rank, nranks);
    if (nccl_groups)
        return bad_nccl("not supported", pc,
                        "ncclCommInitRank between ncclGroupStart and ncclGroupEnd: here a process has one rank");
    const int file = id.internal[0] == '/' ? open(id.internal, O_RDWR | O_CLOEXEC) : -1;
    void *memory =
        file < 0 ? MAP_FAILED : mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        return bad_nccl("bad communicator", pc,
                        "ncclCommInitRank: the id leads nowhere\n    -> ncclGetUniqueId on one rank, which stays "
                        "alive, and its bytes to all others");
    SharedState *shared = static_cast<SharedState *>(memory);
    RankState &mine = shared->rank[rank];
    if (mine.taken.exchange(1))
        return bad_nccl("bad communicator", pc, "ncclCommInitRank: somebody else is rank %d of %d already", rank,
                        nranks);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = rank;
    lock.l_len = 1;
    if (fcntl(file, F_SETLK, &lock) != 0) return nccl_failed(ncclSystemError, "fcntl: %s", strerror(errno));
    mine.nranks = nranks;
    mine.device = visible_devices[current_device];
    snprintf(mine.line, sizeof mine.line, "%s", source_line(pc).c_str());
    ncclComm *c = new ncclComm{rank, nranks, file, shared, 0, 0, ncclSuccess, nullptr};
    if (!meet(c, "ncclCommInitRank", pc)) return c->error;
    for (int r = 0; r < nranks; r++) {
        const RankState &other = shared->rank[r];
        if (other.nranks != nranks)
            return bad_nccl("ranks differ", pc, "ncclCommInitRank: rank %d says %d ranks, rank %d says %d", rank,
                            nranks, r, other.nranks);
        if (r != rank && other.device == mine.device)
            return bad_nccl("bad communicator", pc,
                            "ncclCommInitRank: ranks %d and %d both use device %d\n    -> cudaSetDevice, a device for "
                            "each rank of a machine",
                            std::min(r, rank), std::max(r, rank), mine.device);
    }
    communicators.push_back(c);
    *comm = c;
    return ncclSuccess;
}

// Waits for what the streams still hold for this communicator.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!known(comm, __func__, CALLER)) return ncclInvalidArgument;
    if (nccl_groups) return bad_nccl("open group", CALLER, "ncclCommDestroy between ncclGroupStart and ncclGroupEnd");
    run_all();
    comm->gone = "destroyed";
    return ncclSuccess;
}
// What is still queued will not happen.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (!known(comm, __func__, CALLER)) return ncclInvalidArgument;
    comm->gone = "aborted";
    return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    if (!known(comm, __func__, CALLER)) return ncclInvalidArgument;
    *error = comm->error;
    return ncclSuccess;
}

// ----------------------------------------------------------------------------
// Calls

static void nccl_launch(const Queued &q) {
    ncclComm *comm = q.comm;
    const Broadcast b = q.what;
    enqueue(q.stream, "ncclBroadcast", b.pc, [comm, b] { broadcast_now(comm, b); });
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    const uintptr_t pc = CALLER;
    if (!known(comm, __func__, pc)) return ncclInvalidArgument;
    CUstream_st *s = stream_of(stream, __func__, pc);
    if (!s) return nccl_failed(ncclInvalidArgument, "no such stream");
    if (comm->error != ncclSuccess)
        return bad_nccl("bad communicator", pc,
                        "ncclBroadcast after the error %d of its communicator\n    -> ncclCommAbort", int(comm->error));
    const size_t bytes = count * nccl_bytes(type);
    if (!nccl_bytes(type) || root < 0 || root >= comm->nranks)
        return bad_nccl("bad broadcast", pc, "ncclBroadcast: type %d, root %d of %d ranks", int(type), root,
                        comm->nranks);
    if (!check_device_bytes(receive, bytes, __func__, "the receive buffer", pc) ||
        (comm->rank == root && !check_device_bytes(send, bytes, __func__, "the send buffer", pc)))
        return nccl_failed(ncclInvalidArgument, "not device memory, or not enough of it");
    const uintptr_t from = reinterpret_cast<uintptr_t>(send), to = reinterpret_cast<uintptr_t>(receive);
    if (comm->rank == root && from != to && from < to + bytes && to < from + bytes)
        return bad_nccl("bad broadcast", pc,
                        "ncclBroadcast: send and receive buffer overlap\n    -> the same buffer, or another one");
    const Queued q = {comm, s, {++comm->queued, send, receive, count, type, root, pc}};
    if (nccl_groups) group.push_back(q);
    else nccl_launch(q);
    return ncclSuccess;
}
ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    const uintptr_t pc = CALLER;
    if (!known(comm, __func__, pc)) return ncclInvalidArgument;
    return add_message(__func__, true, send, count, type, peer, comm, stream, pc);
}
ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    const uintptr_t pc = CALLER;
    if (!known(comm, __func__, pc)) return ncclInvalidArgument;
    return add_message(__func__, false, receive, count, type, peer, comm, stream, pc);
}
ncclResult_t ncclGroupStart(void) {
    nccl_groups++;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    if (!nccl_groups) return bad_nccl("open group", CALLER, "ncclGroupEnd without ncclGroupStart");
    if (--nccl_groups) return ncclSuccess;
    std::vector<Queued> all;
    all.swap(group);
    for (const Queued &q : all) nccl_launch(q);
    if (ncclComm *comm = trade.comm) {
        Trade t = trade.what;
        t.number = ++comm->queued;
        trade.comm = nullptr;
        enqueue(trade.stream, "ncclSend and ncclRecv", t.pc, [comm, t] { trade_now(comm, t); });
    }
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "NCCL operation in progress"};
    return size_t(result) < sizeof text / sizeof text[0] ? text[result] : "unknown result code";
}
const char *ncclGetLastError(ncclComm_t) { return nccl_last_error; }
}
