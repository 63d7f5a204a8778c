/*
Device memory, and how bytes come and go. Copies pass through pinned memory, which the GPU reads and writes by itself:
an upload returns as soon as the bytes are there, so that the host goes on while the GPU works through its queue.
*/
#ifndef LLMC_CUDA_MEMORY_CUH
#define LLMC_CUDA_MEMORY_CUH

#include "llmc/cuda/graph.cuh" // cuda_graphs_drop

// ----------------------------------------------------------------------------
// allocations

// All that is allocated, so that release knows how many bytes come back.
static struct {
    struct {
        void *p;
        size_t bytes;
    } *list;
    size_t n, cap, bytes; // bytes: their sum
} cuda_memory;

// bytes of device memory, not zeroed; ends the program with what to do when there is none.
static void *cuda_allocate(size_t bytes) {
    void *p = NULL;
    if (bytes == 0) bytes = 1;
    cudaError_t error = cudaMalloc(&p, bytes);
    if (error == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        (void)cudaGetLastError(); // is dealt with
        CUDA_CHECK(cudaMemGetInfo(&available, &total));
        const double MiB = 1 << 20;
        fprintf(stderr,
                "error: the GPU is out of memory: %.1f MiB more are wanted, %.1f of its %.1f MiB are free; "
                "%.1f MiB are in use by this program, the rest by others\n  -> %s\n",
                (double)bytes / MiB, (double)available / MiB, (double)total / MiB, (double)cuda_memory.bytes / MiB,
                cuda_advice(error));
        exit(EXIT_FAILURE);
    }
    CUDA_CHECK(error);
    if (cuda_memory.n == cuda_memory.cap) {
        cuda_memory.cap = cuda_memory.cap ? 2 * cuda_memory.cap : 256;
        void *more = realloc(cuda_memory.list, cuda_memory.cap * sizeof *cuda_memory.list);
        if (!more) cuda_failed("realloc", "the host is out of memory", "close other programs", __FILE__, __LINE__);
        cuda_memory.list = (decltype(cuda_memory.list))more;
    }
    cuda_memory.list[cuda_memory.n].p = p;
    cuda_memory.list[cuda_memory.n++].bytes = bytes;
    cuda_memory.bytes += bytes;
    return p;
}

void *cuda_alloc(size_t bytes) {
    void *p = cuda_allocate(bytes);
    CUDA_CHECK(cudaMemsetAsync(p, 0, bytes ? bytes : 1, cuda_stream));
    return p;
}

void cuda_release(void *p) {
    if (!p) return;
    for (size_t i = cuda_memory.n; i-- > 0;) {
        if (cuda_memory.list[i].p != p) continue;
        cuda_memory.bytes -= cuda_memory.list[i].bytes;
        cuda_memory.list[i] = cuda_memory.list[--cuda_memory.n];
        break;
    }
    CUDA_CHECK(cudaFree(p)); // waits for kernels that still use it
    cuda_graphs_drop();
}

size_t cuda_memory_taken(size_t *available) {
    size_t total;
    CUDA_CHECK(cudaMemGetInfo(available, &total));
    return cuda_memory.bytes;
}

// At least `bytes` of s. What was there is lost when it has to grow.
static void *cuda_scratch(CudaScratch *s, size_t bytes) {
    if (bytes > s->bytes) {
        cuda_release(s->p);
        s->p = cuda_allocate(bytes);
        s->bytes = bytes;
    }
    return s->p;
}

void cuda_wait() { CUDA_CHECK(cudaStreamSynchronize(cuda_stream)); }

void cuda_zero(void *p, size_t bytes) {
    if (bytes) CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, cuda_stream));
}

// ----------------------------------------------------------------------------
// copies

#define STAGING_BYTES ((size_t)8 << 20) // of each half; larger copies go in pieces

// Uploads are put one after another into one half, while the GPU may still read the other. done: the GPU has read a
// half.
static struct {
    char *half[2], *down;
    cudaEvent_t done[2];
    int current;
    size_t used;
} cuda_staging;

static void cuda_staging_init() {
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMallocHost((void **)&cuda_staging.half[i], STAGING_BYTES));
        CUDA_CHECK(cudaEventCreateWithFlags(&cuda_staging.done[i], cudaEventDisableTiming));
    }
    CUDA_CHECK(cudaMallocHost((void **)&cuda_staging.down, STAGING_BYTES));
}

void cuda_upload(void *p, const void *host, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        if (cuda_staging.used == STAGING_BYTES) { // the other half, once the GPU has read what is in it
            CUDA_CHECK(cudaEventRecord(cuda_staging.done[cuda_staging.current], cuda_stream));
            cuda_staging.current ^= 1;
            cuda_staging.used = 0;
            CUDA_CHECK(cudaEventSynchronize(cuda_staging.done[cuda_staging.current]));
        }
        size_t room = STAGING_BYTES - cuda_staging.used, n = bytes - done < room ? bytes - done : room;
        char *staged = cuda_staging.half[cuda_staging.current] + cuda_staging.used;
        memcpy(staged, (const char *)host + done, n);
        CUDA_CHECK(cudaMemcpyAsync((char *)p + done, staged, n, cudaMemcpyHostToDevice, cuda_stream));
        cuda_staging.used += (n + 255) / 256 * 256; // STAGING_BYTES is a multiple
        done += n;
    }
}

void cuda_download(void *host, const void *p, size_t bytes) {
    for (size_t done = 0; done < bytes; done += STAGING_BYTES) {
        size_t n = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
        CUDA_CHECK(cudaMemcpyAsync(cuda_staging.down, (const char *)p + done, n, cudaMemcpyDeviceToHost, cuda_stream));
        CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
        memcpy((char *)host + done, cuda_staging.down, n);
    }
}

#endif
