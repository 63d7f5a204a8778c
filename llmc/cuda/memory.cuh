/*
Memory of the device: allocation, and the ways to it and back. Uploads go through a ring of pinned memory, so that the host's
array may be changed as soon as the call returns and the copy runs beside the kernels before it.
*/
#ifndef LLMC_CUDA_MEMORY_CUH
#define LLMC_CUDA_MEMORY_CUH

#include "llmc/cuda/common.cuh"

#define CUDA_STAGING ((size_t)4 << 20) // bytes of the ring; what is larger is copied from where it lies
#define CUDA_RETURN ((size_t)64 << 10) // bytes that a download takes through pinned memory

static unsigned char *cuda_staging, *cuda_return;
static size_t cuda_staged;

static void cuda_memory_init(void) {
    CUDA_CHECK(cudaMallocHost((void **)&cuda_staging, CUDA_STAGING));
    CUDA_CHECK(cudaMallocHost((void **)&cuda_return, CUDA_RETURN));
}

static void *cuda_alloc(size_t bytes) {
    void *p = NULL;
    const size_t rounded = bytes ? (bytes + 255) / 256 * 256 : 256;
    if (cudaMalloc(&p, rounded) != cudaSuccess) {
        size_t available = 0, all = 0;
        cudaGetLastError();
        CUDA_CHECK(cudaMemGetInfo(&available, &all));
        fflush(stdout);
        fprintf(stderr, "error: out of memory on the GPU: wanted %.1f MiB more, %.1f of %.1f MiB are free\n"
                        "  -> lower rollout_batch_size, max_completion_length or activation_memory\n",
                (double)rounded / (1 << 20), (double)available / (1 << 20), (double)all / (1 << 20));
        exit(1);
    }
    CUDA_CHECK(cudaMemsetAsync(p, 0, rounded, cuda_stream));
    return p;
}

static void cuda_release(void *p) {
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
    CUDA_CHECK(cudaFree(p));
}

static void cuda_zero(void *p, size_t bytes) {
    if (bytes > 0) CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, cuda_stream));
}

static void cuda_upload(void *p, const void *host, size_t bytes) {
    if (bytes == 0) return;
    if (bytes > CUDA_STAGING) {
        CUDA_CHECK(cudaMemcpyAsync(p, host, bytes, cudaMemcpyHostToDevice, cuda_stream));
        CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
        return;
    }
    const size_t step = (bytes + 63) / 64 * 64;
    if (cuda_staged + step > CUDA_STAGING) { // copies from the ring's start may still be on their way
        CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
        cuda_staged = 0;
    }
    memcpy(cuda_staging + cuda_staged, host, bytes);
    CUDA_CHECK(cudaMemcpyAsync(p, cuda_staging + cuda_staged, bytes, cudaMemcpyHostToDevice, cuda_stream));
    cuda_staged += step;
}

static void cuda_download(void *host, const void *p, size_t bytes) {
    if (bytes == 0) return;
    void *to = bytes <= CUDA_RETURN ? cuda_return : host;
    CUDA_CHECK(cudaMemcpyAsync(to, p, bytes, cudaMemcpyDeviceToHost, cuda_stream));
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
    if (to != host) memcpy(host, to, bytes);
}

#endif
