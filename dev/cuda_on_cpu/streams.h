/*
Streams, events, graphs. Work is run at once, or, with CUDA_ON_CPU_LAZY=1, as late as CUDA allows: when something waits
for it. Then a missing synchronisation shows as old values (NaN, where nothing was written before).
*/
namespace cuda_on_cpu {

struct Op {
    uint64_t number; // in the order of the calls
    std::function<void()> run;
};
} // namespace cuda_on_cpu

// The toolkit's handles point to these.
struct CUgraph_st {
    std::vector<std::function<void()>> ops; // in the order of the calls, which no dependency contradicts
    std::vector<cudaStream_t> streams;      // that take part in the capture; the first began it
    bool invalid;                           // a call came that a capture forbids
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> ops;
};
struct CUstream_st {
    bool non_blocking;
    std::deque<cuda_on_cpu::Op> queue;
    CUgraph_st *capture;       // where calls go instead of into the queue
    uint64_t captured, joined; // its last call in the capture; the last one that another stream waits for
    bool asked;                // by cudaStreamQuery, which has said that there is work left
};
struct CUevent_st {
    CUstream_st *stream;             // where it was recorded, NULL before
    uint64_t number;                 // its place there
    CUgraph_st *capture;             // recorded in this capture
    std::shared_ptr<double> seconds; // when it ran, 0 before
};

namespace cuda_on_cpu {

static CUstream_st default_stream;
static std::vector<CUstream_st *> streams = {&default_stream};
static uint64_t calls_so_far;
static cudaError_t last_error;
static std::vector<CUgraph_st *> captures; // under way
static int nccl_groups;                    // begun and not ended (nccl.h)

static cudaError_t failed(cudaError_t error) { return last_error = error; }

// NULL after a report.
static CUstream_st *stream_of(cudaStream_t s, const char *function, uintptr_t pc) {
    if (!s || s == cudaStreamLegacy || s == cudaStreamPerThread) return &default_stream;
    if (std::find(streams.begin(), streams.end(), s) != streams.end()) return s;
    report("bad stream", nullptr, pc, "%s: %p is no stream, or was destroyed", function, static_cast<void *>(s));
    return nullptr;
}
// True after a report: function may not be called while a stream records a graph. As on a GPU the call fails, and what
// was being recorded is lost: cudaStreamEndCapture fails, too.
static bool illegal_in_capture(const char *function, uintptr_t pc) {
    if (captures.empty()) return false;
    report("illegal in capture", nullptr, pc,
           "%s while a stream records a graph\n    -> call it before cudaStreamBeginCapture or after "
           "cudaStreamEndCapture",
           function);
    for (CUgraph_st *graph : captures) graph->invalid = true;
    failed(cudaErrorStreamCaptureUnsupported);
    return true;
}

// True after a report: function would wait for calls that ncclGroupEnd has yet to start.
static bool illegal_in_group(const char *function, uintptr_t pc) {
    if (!nccl_groups) return false;
    report("open group", nullptr, pc,
           "%s between ncclGroupStart and ncclGroupEnd, where nothing has started\n    -> ncclGroupEnd first",
           function);
    return true;
}

// Runs what stream s got before call number `until`.
static void run_stream(CUstream_st *s, uint64_t until) {
    if (std::find(streams.begin(), streams.end(), s) == streams.end()) return; // destroyed: all of it ran then
    while (!s->queue.empty() && s->queue.front().number < until) {
        Op op = std::move(s->queue.front());
        s->queue.pop_front();
        // The default stream waits for all others that do not opt out, and they for it.
        if (s == &default_stream) {
            for (CUstream_st *other : streams)
                if (other != s && !other->non_blocking) run_stream(other, op.number);
        } else if (!s->non_blocking) {
            run_stream(&default_stream, op.number);
        }
        op.run();
    }
}
static void run_all() {
    for (CUstream_st *s : streams) run_stream(s, UINT64_MAX);
}
static void wait_for(CUstream_st *s) {
    // What blocks the default stream has to be over as well, even if it is empty.
    if (s == &default_stream)
        for (CUstream_st *other : streams)
            if (!other->non_blocking) run_stream(other, UINT64_MAX);
    run_stream(s, UINT64_MAX);
}

static void enqueue(CUstream_st *s, const char *function, uintptr_t pc, std::function<void()> run) {
    calls_so_far++;
    if (s->capture) {
        s->capture->ops.push_back(std::move(run));
        s->captured = calls_so_far;
        return;
    }
    if (s == &default_stream && !captures.empty()) {
        illegal_in_capture(function, pc); // it would wait for the streams that record
        return;
    }
    s->queue.push_back({calls_so_far, std::move(run)});
    if (!settings.lazy) run_stream(s, UINT64_MAX);
}

// ----------------------------------------------------------------------------
// Launches

static std::map<const void *, size_t> dynamic_shared_limits; // cudaFuncSetAttribute

void launch(const void *function, const char *name, dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
            const Call *call, size_t call_size) {
    uintptr_t pc = CALLER;
    std::shared_ptr<const Call> owned(call);
    CUstream_st *s = stream_of(stream, name, pc);
    if (!s) return;
    const char *wrong = nullptr, *advice = "";
    uint64_t n = uint64_t(block.x) * block.y * block.z;
    size_t allowed = dynamic_shared_limits.count(function) ? dynamic_shared_limits[function] : MAX_STATIC_SHARED;
    if (n < 1 || n > MAX_THREADS || block.x > 1024 || block.y > 1024 || block.z > 64)
        wrong = "a block has 1 to 1024 threads, at most 64 in z";
    if (grid.x < 1 || grid.x > 0x7fffffff || grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535)
        wrong = "a grid has at least 1 block in each direction, at most 2147483647 in x and 65535 in y and z";
    if (smem > allowed) {
        wrong = smem > max_shared() ? "a block has less shared memory"
                                    : "more than 48 KB of dynamic shared memory must be asked for";
        advice =
            smem > max_shared()
                ? ""
                : "\n    -> cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) first";
    }
    if (wrong) {
        report("bad launch", nullptr, pc, "%s: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory: %s%s",
               name, grid.x, grid.y, grid.z, block.x, block.y, block.z, smem, wrong, advice);
        failed(cudaErrorInvalidConfiguration);
        return;
    }
    auto k = std::make_shared<Kernel>(Kernel{name, grid, block, smem, pc, owned, call_size});
    enqueue(s, name, pc, [k] { run_kernel(k.get()); });
}

} // namespace cuda_on_cpu

using namespace cuda_on_cpu;

extern "C" {

// ----------------------------------------------------------------------------
// Streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    *stream = new CUstream_st{(flags & cudaStreamNonBlocking) != 0, {}, nullptr, 0, 0, false};
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s || s == &default_stream) return failed(cudaErrorInvalidResourceHandle);
    run_stream(s, UINT64_MAX);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    illegal_in_group(__func__, CALLER);
    wait_for(s);
    return cudaSuccess;
}
// Work that waits for being waited for is not ready when it is first asked for.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    illegal_in_group(__func__, CALLER);
    if (!s->queue.empty() && (s->asked = !s->asked)) return cudaErrorNotReady;
    wait_for(s);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    illegal_in_group(__func__, CALLER);
    run_all();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st{nullptr, 0, nullptr, std::make_shared<double>(0)};
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    event->stream = s;
    event->capture = s->capture;
    std::shared_ptr<double> seconds = event->seconds;
    if (!s->capture) {
        *seconds = 0;
        enqueue(s, __func__, CALLER, [seconds] {
            timespec t;
            clock_gettime(CLOCK_MONOTONIC, &t);
            *seconds = double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
        });
    }
    event->number = calls_so_far;
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    CUgraph_st *graph = event->capture;
    if (graph && std::find(captures.begin(), captures.end(), graph) != captures.end()) {
        if (!s->capture) {
            s->capture = graph;
            graph->streams.push_back(s);
        }
        event->stream->joined = event->number;
        s->captured = ++calls_so_far; // who waits for s waits for the event, too
        return cudaSuccess;
    }
    if (!event->stream) return cudaSuccess; // never recorded: nothing to wait for
    if (s->capture) {
        illegal_in_capture("cudaStreamWaitEvent for an event from outside", CALLER);
        return last_error;
    }
    CUstream_st *other = event->stream;
    uint64_t until = event->number + 1;
    enqueue(s, __func__, CALLER, [other, until] { run_stream(other, until); });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    if (event->stream) run_stream(event->stream, event->number + 1);
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t first, cudaEvent_t last) {
    if (*first->seconds <= 0 || *last->seconds <= 0)
        return failed(first->stream && last->stream ? cudaErrorNotReady : cudaErrorInvalidResourceHandle);
    *ms = float((*last->seconds - *first->seconds) * 1e3);
    return cudaSuccess;
}

// ----------------------------------------------------------------------------
// Graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    if (s == &default_stream || s->capture) {
        report("illegal in capture", nullptr, CALLER, "cudaStreamBeginCapture: %s",
               s->capture ? "the stream records already"
                          : "the default stream cannot record\n    -> make a stream with cudaStreamCreateWithFlags");
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    s->capture = new CUgraph_st{{}, {s}, false};
    captures.push_back(s->capture);
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    *graph = nullptr;
    if (!s || !s->capture || s->capture->streams[0] != s) return failed(cudaErrorIllegalState);
    CUgraph_st *g = s->capture;
    captures.erase(std::find(captures.begin(), captures.end(), g));
    bool unjoined = false;
    for (CUstream_st *each : g->streams) {
        unjoined |= each != s && each->captured > each->joined;
        each->capture = nullptr;
    }
    if (g->invalid) {
        delete g;
        return failed(cudaErrorStreamCaptureInvalidated);
    }
    if (unjoined) {
        report("illegal in capture", nullptr, CALLER,
               "cudaStreamEndCapture: a stream that joined the capture has work that nobody waits for\n"
               "    -> cudaEventRecord there, and cudaStreamWaitEvent on the stream that began");
        delete g;
        return failed(cudaErrorStreamCaptureUnjoined);
    }
    *graph = g;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = new CUgraphExec_st{graph->ops};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    CUstream_st *s = stream_of(stream, __func__, CALLER);
    if (!s) return failed(cudaErrorInvalidResourceHandle);
    auto ops = exec->ops; // the graph may be destroyed before it runs
    enqueue(s, __func__, CALLER, [ops] {
        for (auto &op : ops) op();
    });
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
}
