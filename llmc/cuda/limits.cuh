/*
What this GPU can do at most, measured on it: FLOP/s of one large product by cuBLASLt, bf16 into fp32 as all products
here, and bytes per second of one large copy within its memory. Of each the fastest of several, as everything that may
disturb slows it down. On small GPUs, and in the emulator, smaller ones do.
*/
#ifndef LLMC_CUDA_LIMITS_CUH
#define LLMC_CUDA_LIMITS_CUH

#include "llmc/cuda/matmul.cuh" // matmul

#define LIMIT_SECONDS 1e-3 // what is measured takes so long, if it can
#define LIMIT_TIMES 10
#define LIMIT_MATRIX 8192 // rows and columns at most
#define LIMIT_COPY ((size_t)1 << 30)

// The fewest seconds of several calls of run, by the GPU's own clock.
template <class Run> static double limit_seconds(Run run) {
    cudaEvent_t begin, end;
    double best = INFINITY;
    CUDA_CHECK(cudaEventCreate(&begin));
    CUDA_CHECK(cudaEventCreate(&end));
    run(); // loads the kernel
    for (int i = 0; i < LIMIT_TIMES; i++) {
        float ms = 0;
        CUDA_CHECK(cudaEventRecord(begin, cuda_stream));
        run();
        CUDA_CHECK(cudaEventRecord(end, cuda_stream));
        CUDA_CHECK(cudaEventSynchronize(end));
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        if (ms > 0 && 1e-3 * ms < best) best = 1e-3 * ms;
        if (best > 20 * LIMIT_SECONDS) break; // an emulated one
    }
    CUDA_CHECK(cudaEventDestroy(begin));
    CUDA_CHECK(cudaEventDestroy(end));
    return best;
}

// So many bytes that cuda_release does not know of (it would drop the recorded decode steps). NULL: there are not.
static char *limit_memory(size_t bytes) {
    size_t available, total;
    void *p = NULL;
    CUDA_CHECK(cudaMemGetInfo(&available, &total));
    if (bytes > available / 2 || cudaMalloc(&p, bytes) != cudaSuccess) {
        (void)cudaGetLastError(); // is dealt with
        return NULL;
    }
    return (char *)p;
}

// A matrix of n random bf16 between -2 and 2 at p: of zeros, which cost less power, a GPU may multiply faster.
static void limit_fill(char *p, size_t n) {
    const size_t PIECE = 1 << 16;
    static unsigned short bits[PIECE];
    uint32_t state = 1;
    for (size_t i = 0; i < PIECE; i++) {
        state = state * 1664525u + 1013904223u;
        bits[i] = (unsigned short)((state >> 16 & 0x807F) | (0x3C00 + (state >> 8 & 0x380))); // 2^-7 ... 2
    }
    cuda_upload(p, bits, 2 * (n < PIECE ? n : PIECE));
    for (size_t done = PIECE; done < n; done *= 2) // the GPU repeats it
        CUDA_CHECK(cudaMemcpyAsync(p + 2 * done, p, 2 * (n - done < done ? n - done : done), cudaMemcpyDeviceToDevice,
                                   cuda_stream));
}

double cuda_peak_flops() {
    double best = 0;
    for (int n = 128; n <= LIMIT_MATRIX; n *= 2) {
        const size_t one = (size_t)n * n * sizeof(bf16);
        char *p = limit_memory(4 * one);
        if (!p) break;
        limit_fill(p, 2 * (size_t)n * n);
        float *out = (float *)(p + 2 * one);
        const double s = limit_seconds([&] { matmul(out, p, p + one, NULL, n, n, n, MATMUL_FORWARD); });
        const double flops = 2.0 * n * n * n / s;
        CUDA_CHECK(cudaFree(p));
        if (flops > best) best = flops;
        if (s >= LIMIT_SECONDS) break;
    }
    return best;
}

// Of more than the last cache holds: 4 times as much, and more until it takes LIMIT_SECONDS.
double cuda_copy_speed() {
    double speed = 0;
    for (size_t bytes = 4 * ((size_t)cuda.device.l2CacheSize + 1); bytes <= LIMIT_COPY; bytes *= 2) {
        char *p = limit_memory(2 * bytes);
        if (!p) break;
        CUDA_CHECK(cudaMemsetAsync(p, 0, 2 * bytes, cuda_stream));
        const double s = limit_seconds(
            [&] { CUDA_CHECK(cudaMemcpyAsync(p + bytes, p, bytes, cudaMemcpyDeviceToDevice, cuda_stream)); });
        CUDA_CHECK(cudaFree(p));
        speed = 2.0 * (double)bytes / s;
        if (s >= LIMIT_SECONDS) break;
    }
    return speed;
}

#endif
