/*
The rest of the CUDA runtime: memory, copies, the device's properties, errors.
*/
namespace cuda_on_cpu {

static bool on_device(const void *p) { return in_device_range(reinterpret_cast<uintptr_t>(p)); }

// Copies or fills n bytes; the pointers were checked when the call came, and again here: a stream may have freed them
// since.
static void copy_now(void *to, const void *from, size_t n, uintptr_t pc) {
    if (on_device(to) && !check_device_bytes(to, n, "copy", "destination", pc)) return;
    if (on_device(from) && !check_device_bytes(from, n, "copy", "source", pc)) return;
    open_device(reinterpret_cast<uintptr_t>(to));
    open_device(reinterpret_cast<uintptr_t>(from));
    memmove(to, from, n);
    close_device();
    if (on_device(to) && on_device(from))
        copied_by_host(reinterpret_cast<uintptr_t>(to), reinterpret_cast<uintptr_t>(from), n);
    else if (on_device(to)) written_by_host(reinterpret_cast<uintptr_t>(to), n);
}
static void fill_now(void *p, int value, size_t n, uintptr_t pc) {
    if (!check_device_bytes(p, n, "cudaMemset", "pointer", pc)) return;
    open_device(reinterpret_cast<uintptr_t>(p));
    memset(p, value, n);
    close_device();
    written_by_host(reinterpret_cast<uintptr_t>(p), n);
}

static bool right_direction(const void *to, const void *from, size_t n, cudaMemcpyKind kind, const char *function,
                            uintptr_t pc) {
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice ||
                     (kind == cudaMemcpyDefault && on_device(to));
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice ||
                       (kind == cudaMemcpyDefault && on_device(from));
    if (to_device && !check_device_bytes(to, n, function, "destination", pc)) return false;
    if (from_device && !check_device_bytes(from, n, function, "source", pc)) return false;
    if ((to_device || !on_device(to)) && (from_device || !on_device(from))) return true;
    report("bad pointer", nullptr, pc, "%s: the %s is device memory, the kind of copy says host", function,
           on_device(to) && !to_device ? "destination" : "source");
    return false;
}
static bool is_pageable(const void *p, size_t n) {
    return !on_device(p) && !is_pinned(reinterpret_cast<uintptr_t>(p), n);
}

static void *allocate_pinned(size_t n) {
    void *p = aligned_alloc(PAGE, (n + PAGE - 1) / PAGE * PAGE);
    if (!p) return nullptr;
    memset(p, 0xFF, n);
    pinned[reinterpret_cast<uintptr_t>(p)] = n;
    return p;
}

} // namespace cuda_on_cpu

extern "C" {

// ----------------------------------------------------------------------------
// Memory

cudaError_t cudaMalloc(void **p, size_t n) {
    *p = nullptr;
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    if (!n) return cudaSuccess;
    *p = device_allocate(n, CALLER);
    return *p ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *p) {
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    run_all();
    return !p || device_free(p, CALLER) ? cudaSuccess : failed(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void **p, size_t n) {
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    *p = allocate_pinned(n);
    return *p || !n ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) { return cudaMallocHost(p, n); }
cudaError_t cudaFreeHost(void *p) {
    if (illegal_in_capture(__func__, CALLER)) return last_error;
    run_all();
    if (p && !pinned.erase(reinterpret_cast<uintptr_t>(p))) {
        report("bad pointer", nullptr, CALLER, "cudaFreeHost: %p does not come from cudaMallocHost", p);
        return failed(cudaErrorInvalidValue);
    }
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *total = settings.device_memory;
    *available = settings.device_memory - device_used;
    return cudaSuccess;
}

// Copies from and to host memory that is not pinned wait as they do on a GPU: until the buffer has been read or
// written.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t stream) {
    uintptr_t pc = CALLER;
    CUstream_st *s = stream_of(stream, __func__, pc);
    if (!s || !right_direction(to, from, n, kind, __func__, pc)) return failed(cudaErrorInvalidValue);
    enqueue(s, __func__, pc, [=] { copy_now(to, from, n, pc); });
    if (!s->capture && (is_pageable(to, n) || is_pageable(from, n))) wait_for(s);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind) {
    uintptr_t pc = CALLER;
    if (illegal_in_capture(__func__, pc)) return last_error;
    if (!right_direction(to, from, n, kind, __func__, pc)) return failed(cudaErrorInvalidValue);
    enqueue(&default_stream, __func__, pc, [=] { copy_now(to, from, n, pc); });
    if (!on_device(to) || !on_device(from)) wait_for(&default_stream);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t stream) {
    uintptr_t pc = CALLER;
    CUstream_st *s = stream_of(stream, __func__, pc);
    if (!s || !check_device_bytes(p, n, __func__, "pointer", pc)) return failed(cudaErrorInvalidValue);
    enqueue(s, __func__, pc, [=] { fill_now(p, value, n, pc); });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t n) {
    uintptr_t pc = CALLER;
    if (!check_device_bytes(p, n, __func__, "pointer", pc)) return failed(cudaErrorInvalidValue);
    enqueue(&default_stream, __func__, pc, [=] { fill_now(p, value, n, pc); });
    return cudaSuccess;
}

// ----------------------------------------------------------------------------
// The devices: CUDA_ON_CPU_DEVICES alike, with the limits of the A100, H100 or B200, whichever CUDA_ON_CPU_ARCH says. A
// process uses one.

static bool is_device(int device) { return device >= 0 && device < visible; }

cudaError_t cudaGetDeviceCount(int *count) {
    *count = visible;
    return *count ? cudaSuccess : failed(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int *device) { return *device = current_device, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    if (!is_device(device)) return failed(cudaErrorInvalidDevice);
    if (device != current_device && (!allocations.empty() || streams.size() > 1))
        report("not supported", nullptr, CALLER,
               "cudaSetDevice(%d) where device %d has memory or streams already\n    -> choose the device first",
               device, current_device);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *bus, int size, int device) {
    if (!is_device(device) || size < 13) return failed(cudaErrorInvalidValue);
    snprintf(bus, size_t(size), "0000:%02x:00.0", visible_devices[device] + 1);
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void) { return cudaDeviceSynchronize(); }

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    if (!is_device(device)) return failed(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = MAX_THREADS; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int(MAX_STATIC_SHARED); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(max_shared()); break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = int(max_shared() + 1024); break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
    case cudaDevAttrMultiProcessorCount: *value = settings.arch == 80 ? 108 : settings.arch == 90 ? 132 : 148; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrComputeCapabilityMajor: *value = settings.arch / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = settings.arch % 10; break;
    default:
        report("not supported", nullptr, CALLER, "cudaDeviceGetAttribute: attribute %d is unknown here",
               int(attribute));
        return failed(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (!is_device(device)) return failed(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{};
    snprintf(p->name, sizeof p->name, "CPU that emulates sm_%d", settings.arch);
    p->totalGlobalMem = settings.device_memory;
    p->sharedMemPerBlock = MAX_STATIC_SHARED;
    p->sharedMemPerBlockOptin = max_shared();
    p->sharedMemPerMultiprocessor = max_shared() + 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = MAX_THREADS;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = settings.arch / 10;
    p->minor = settings.arch % 10;
    cudaDeviceGetAttribute(&p->multiProcessorCount, cudaDevAttrMultiProcessorCount, device);
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->l2CacheSize = 40 << 20;
    p->unifiedAddressing = p->concurrentKernels = p->canMapHostMemory = 1;
    p->asyncEngineCount = 2;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || size_t(value) > max_shared()) {
        report("bad launch", nullptr, CALLER,
               "cudaFuncSetAttribute: attribute %d, value %d: a block has at most %zu bytes", int(attribute), value,
               max_shared());
        return failed(cudaErrorInvalidValue);
    }
    dynamic_shared_limits[function] = std::max(size_t(value), MAX_STATIC_SHARED);
    return cudaSuccess;
}
// By threads and shared memory alone: registers are not known here.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int threads, size_t smem,
                                                                   unsigned) {
    if (threads < 1 || threads > MAX_THREADS) return failed(cudaErrorInvalidValue);
    *blocks = std::min({32, 2048 / ((threads + 31) / 32 * 32), int((max_shared() + 1024) / (smem + 1024))});
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t smem) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, smem, 0);
}

// ----------------------------------------------------------------------------
// Errors

cudaError_t cudaPeekAtLastError(void) { return last_error; }
cudaError_t cudaGetLastError(void) { return std::exchange(last_error, cudaSuccess); }

#define CUDA_ON_CPU_ERRORS(_) \
    _(cudaSuccess, "no error") \
    _(cudaErrorInvalidValue, "invalid argument") \
    _(cudaErrorMemoryAllocation, "out of memory") \
    _(cudaErrorInvalidConfiguration, "invalid configuration argument") \
    _(cudaErrorInvalidDevice, "invalid device ordinal") \
    _(cudaErrorNoDevice, "no CUDA-capable device is detected") \
    _(cudaErrorInvalidResourceHandle, "invalid resource handle") \
    _(cudaErrorIllegalState, "the operation cannot be performed in the present state") \
    _(cudaErrorNotReady, "device not ready") \
    _(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing") \
    _(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture") \
    _(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")
const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
#define CUDA_ON_CPU_ERROR(name, text) \
    case name: return text;
        CUDA_ON_CPU_ERRORS(CUDA_ON_CPU_ERROR)
#undef CUDA_ON_CPU_ERROR
    default: return "unrecognized error code";
    }
}
const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
#define CUDA_ON_CPU_ERROR(name, text) \
    case name: return #name;
        CUDA_ON_CPU_ERRORS(CUDA_ON_CPU_ERROR)
#undef CUDA_ON_CPU_ERROR
    default: return "unrecognized error code";
    }
}
}
