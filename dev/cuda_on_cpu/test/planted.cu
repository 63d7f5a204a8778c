/*
One planted bug a case: `planted CASE` runs it. run.sh knows the class, the kernel and the builds in which each must be
reported; the lines that a report must name carry the comment "bug: CASE". A case whose bug shows in its result instead
prints "wrong".
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llmc/cuda/launch.cuh"

#include <cublasLt.h>
#include <mma.h>

extern "C" { // host.c, which is C and knows nothing of CUDA
float read_float(const float *p);
float copy_floats(float *to, const float *from, size_t n);
}

typedef __nv_bfloat16 bf16;

static float *device_floats(int n, bool fill = true) {
    float *p;
    cudaMalloc(&p, size_t(n) * sizeof *p);
    if (fill) cudaMemset(p, 0, size_t(n) * sizeof *p);
    return p;
}
static float first_float(const float *p) {
    float x;
    cudaMemcpy(&x, p, sizeof x, cudaMemcpyDeviceToHost);
    return x;
}
static int expect(float found, float expected) {
    if (found == expected) return 0;
    printf("wrong: %g instead of %g\n", found, expected);
    return 1;
}

// ----------------------------------------------------------------------------
// Races

__global__ void no_barrier(float *out, const float *in) {
    SHARED(float, s, [64]);
    s[threadIdx.x] = in[threadIdx.x] + 1;          // bug: no_barrier
    out[threadIdx.x] = s[(threadIdx.x + 32) % 64]; // bug: no_barrier
}
static int run_no_barrier() {
    float *p = device_floats(64), *q = device_floats(64);
    LAUNCH(no_barrier, 1, 64, 0, 0)(p, q);
    return expect(first_float(p), 1);
}

__global__ void no_second_barrier(float *out) {
    SHARED(float, s, [64]);
    for (int round = 0; round < 2; round++) {
        s[threadIdx.x] = float(round * 64 + int(threadIdx.x)); // bug: no_second_barrier
        __syncthreads();
        out[threadIdx.x] = s[63 - threadIdx.x]; // bug: no_second_barrier
    }
}
static int run_no_second_barrier() {
    LAUNCH(no_second_barrier, 1, 64, 0, 0)(device_floats(64));
    return 0;
}

// A shuffle is no barrier for memory.
__global__ void no_syncwarp(float *out) {
    SHARED(float, s, [32]);
    s[threadIdx.x] = 1; // bug: no_syncwarp
    float x = __shfl_xor_sync(~0u, float(threadIdx.x), 1);
    out[threadIdx.x] = s[threadIdx.x ^ 1] + x; // bug: no_syncwarp
}
static int run_no_syncwarp() {
    LAUNCH(no_syncwarp, 1, 32, 0, 0)(device_floats(32));
    return 0;
}

// The two halves of the warp synchronise each within itself.
__global__ void half_syncwarp(float *out) {
    SHARED(float, s, [32]);
    s[threadIdx.x] = 1; // bug: half_syncwarp
    __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffff0000u);
    out[threadIdx.x] = s[31 - threadIdx.x]; // bug: half_syncwarp
}
static int run_half_syncwarp() {
    LAUNCH(half_syncwarp, 1, 32, 0, 0)(device_floats(32));
    return 0;
}

__global__ void add_without_atomic(float *sum) {
    if (threadIdx.x == 0) *sum += float(blockIdx.x + 1); // bug: add_without_atomic
}
static int run_add_without_atomic() {
    LAUNCH(add_without_atomic, 4, 32, 0, 0)(device_floats(1));
    return 0;
}

__global__ void last_one_wins(float *out) {
    *out = float(threadIdx.x); // bug: last_one_wins
}
static int run_last_one_wins() {
    LAUNCH(last_one_wins, 1, 64, 0, 0)(device_floats(1));
    return 0;
}

__global__ void plain_beside_atomic(int *count, int *out) {
    atomicAdd(count, 1);       // bug: plain_beside_atomic
    out[threadIdx.x] = *count; // bug: plain_beside_atomic
}
static int run_plain_beside_atomic() {
    int *p = reinterpret_cast<int *>(device_floats(65));
    LAUNCH(plain_beside_atomic, 1, 64, 0, 0)(p, p + 1);
    return 0;
}

// The last block sums up what all wrote, but nobody fenced, or too early.
template <bool early> __global__ void no_fence(float *out, float *parts, unsigned *count) {
    SHARED(bool, last);
    if (threadIdx.x == 0) {
        if (early) __threadfence();
        parts[blockIdx.x] = 1; // bug: no_fence early_fence
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        for (unsigned i = 0; i < gridDim.x; i++) *out += parts[i]; // bug: no_fence early_fence
}
static int run_no_fence() {
    float *p = device_floats(10);
    LAUNCH(no_fence<false>, 4, 32, 0, 0)(p, p + 1, reinterpret_cast<unsigned *>(p + 9));
    return 0;
}
static int run_early_fence() {
    float *p = device_floats(10);
    LAUNCH(no_fence<true>, 4, 32, 0, 0)(p, p + 1, reinterpret_cast<unsigned *>(p + 9));
    return 0;
}

// Reads before the wait for its copies; and other threads' copies without a barrier.
__global__ void no_wait(float *out, const float *in) {
    SHARED(float4, s, [32]);
    s[threadIdx.x] = make_float4(0, 0, 0, 0); // the right result, by chance
    cuda_on_cpu::copy_async(&s[threadIdx.x], in + 4 * threadIdx.x, 16, true);
    cuda_on_cpu::copies_commit();
    cuda_on_cpu::copies_wait(1); // one group too few
    out[threadIdx.x] = s[threadIdx.x].x;
}
static int run_no_wait() {
    float *p = device_floats(32);
    LAUNCH(no_wait, 1, 32, 0, 0)(p, device_floats(128));
    return expect(first_float(p), 0);
}
__global__ void overtaken(float *out, const float *in) {
    SHARED(float4, s, [32]);
    s[threadIdx.x] = make_float4(0, 0, 0, 0);
    __syncthreads();
    cuda_on_cpu::copy_async(&s[threadIdx.x], in + 4 * threadIdx.x, 16, true); // bug: overtaken
    out[threadIdx.x] = s[31 - threadIdx.x].x;                                 // bug: overtaken
    __syncthreads();
    cuda_on_cpu::copies_commit();
    cuda_on_cpu::copies_wait(0);
}
static int run_overtaken() {
    LAUNCH(overtaken, 1, 32, 0, 0)(device_floats(32), device_floats(128));
    return 0;
}
__global__ void copied_twice(float *out, const float *in) {
    SHARED(float4, s, [32]);
    cuda_on_cpu::copy_async(&s[threadIdx.x], in + 4 * threadIdx.x, 16, true);
    cuda_on_cpu::copies_wait(0);                            // no group has taken it in
    cuda_on_cpu::copy_async(&s[threadIdx.x], in, 16, true); // bug: copied_twice
    cuda_on_cpu::copies_commit();
    cuda_on_cpu::copies_wait(0);
    out[threadIdx.x] = s[threadIdx.x].x;
}
static int run_copied_twice() {
    LAUNCH(copied_twice, 1, 32, 0, 0)(device_floats(32), device_floats(128));
    return 0;
}

// ----------------------------------------------------------------------------
// Bounds

__global__ void past_the_end(float *p, int n) {
    p[n + int(threadIdx.x)] = 1; // bug: past_the_end past_by_one before_the_begin
}
static int run_past_the_end() {
    LAUNCH(past_the_end, 1, 32, 0, 0)(device_floats(1000), 1024);
    return 0;
}
static int run_past_by_one() { // within the 256 bytes up to which memory is rounded
    LAUNCH(past_the_end, 1, 1, 0, 0)(device_floats(1000), 1000);
    return 0;
}
static int run_before_the_begin() {
    LAUNCH(past_the_end, 1, 1, 0, 0)(device_floats(1000), -1);
    return 0;
}

__global__ void after_free(const float *p, float *out) {
    *out = *p; // bug: after_free
}
static int run_after_free() {
    float *p = device_floats(4), *q = device_floats(4);
    cudaFree(p);
    LAUNCH(after_free, 1, 1, 0, 0)(p, q);
    return 0;
}

__global__ void past_shared(float *out) {
    SHARED(float, before, [32]);
    SHARED(float, tile, [32]);
    before[threadIdx.x + 1] = 0; // bug: past_shared
    tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x] + before[31];
}
static int run_past_shared() {
    LAUNCH(past_shared, 1, 32, 0, 0)(device_floats(32));
    return 0;
}
__global__ void past_dynamic() {
    DYN_SHARED(float, d);
    d[threadIdx.x] = 1; // bug: past_dynamic
}
static int run_past_dynamic() {
    LAUNCH(past_dynamic, 1, 33, 128, 0)();
    return 0;
}

__global__ void from_the_host(const float *p, float *out) {
    *out = *p; // bug: from_the_host
}
static int run_from_the_host() {
    static float *on_heap = static_cast<float *>(calloc(1, sizeof(float)));
    LAUNCH(from_the_host, 1, 1, 0, 0)(on_heap, device_floats(1));
    return 0;
}
static int run_copied_on_the_host() {
    float host[100];
    return copy_floats(host, device_floats(100), 100) != 0;
}
static int run_on_the_host() { return read_float(device_floats(1)) == 0; }

__global__ void unaligned(float *p) {
    reinterpret_cast<float4 *>(p + 1)[threadIdx.x] = make_float4(1, 2, 3, 4); // bug: unaligned
}
static int run_unaligned() {
    LAUNCH(unaligned, 1, 4, 0, 0)(device_floats(64));
    return 0;
}

// ----------------------------------------------------------------------------
// Memory that nothing has written

__global__ void unwritten_global(float *out, const float *in) {
    out[threadIdx.x] = in[threadIdx.x]; // bug: unwritten_global
}
static int run_unwritten_global() {
    float *p = device_floats(32);
    LAUNCH(unwritten_global, 1, 32, 0, 0)(p, device_floats(32, false));
    return expect(first_float(p), 0);
}

__global__ void unwritten_shared(float *out) {
    SHARED(float, s, [64]);
    if (threadIdx.x < 32) s[threadIdx.x + 32] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x]; // bug: unwritten_shared
}
static int run_unwritten_shared() {
    float *p = device_floats(64);
    for (int i = 0; i < 2; i++) LAUNCH(unwritten_shared, 2, 64, 0, 0)(p); // what an earlier block wrote does not count
    return expect(first_float(p), 0);
}

#include "planted_warps.cuh"

// ----------------------------------------------------------------------------
// Fragments

__global__ void unaligned_fragment(const bf16 *p) {
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, bf16, nvcuda::wmma::row_major> a;
    nvcuda::wmma::load_matrix_sync(a, p + 8, 16); // bug: unaligned_fragment
}
static int run_unaligned_fragment() {
    LAUNCH(unaligned_fragment, 1, 32, 0, 0)(reinterpret_cast<bf16 *>(device_floats(256)));
    return 0;
}
__global__ void odd_fragment(const bf16 *p) {
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, bf16, nvcuda::wmma::row_major> a;
    nvcuda::wmma::load_matrix_sync(a, p, 20); // bug: odd_fragment
}
static int run_odd_fragment() {
    LAUNCH(odd_fragment, 1, 32, 0, 0)(reinterpret_cast<bf16 *>(device_floats(256)));
    return 0;
}
// A tile of 16 x 16 where only 16 x 15 are.
__global__ void large_fragment(const bf16 *p) {
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, bf16, nvcuda::wmma::row_major> a;
    nvcuda::wmma::load_matrix_sync(a, p, 16); // bug: large_fragment
}
static int run_large_fragment() {
    LAUNCH(large_fragment, 1, 32, 0, 0)(reinterpret_cast<bf16 *>(device_floats(120)));
    return 0;
}

// ----------------------------------------------------------------------------
// Launches

__global__ void nothing() {}
static int run_too_many_threads() {
    LAUNCH(nothing, 1, dim3(64, 32), 0, 0)(); // bug: too_many_threads
    return cudaGetLastError() != cudaErrorInvalidConfiguration;
}
static int run_empty_grid() {
    LAUNCH(nothing, 0, 32, 0, 0)(); // bug: empty_grid
    return 0;
}
static int run_shared_not_asked_for() {
    LAUNCH(nothing, 1, 32, 64 << 10, 0)(); // bug: shared_not_asked_for
    return 0;
}
__global__ void large_static() {
    SHARED(float, large, [12289]); // bug: large_static
    large[threadIdx.x] = 0;
}
static int run_large_static() {
    LAUNCH(large_static, 1, 32, 0, 0)();
    return 0;
}
__global__ void no_dynamic() {
    DYN_SHARED(float, d); // bug: no_dynamic
    if (d == nullptr) __trap();
}
__global__ void too_much_shared() {
    SHARED(float, s, [12000]); // bug: too_much_shared
    s[threadIdx.x] = 0;
}
static int run_too_much_shared() {
    cudaFuncSetAttribute(too_much_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 160 << 10);
    LAUNCH(too_much_shared, 1, 32, 160 << 10, 0)();
    return 0;
}
static int run_no_dynamic() {
    LAUNCH(no_dynamic, 1, 32, 0, 0)();
    return 0;
}

// ----------------------------------------------------------------------------
// Copies

static int run_copy_too_much() {
    float host[64] = {}, *p = device_floats(32);
    cudaMemcpy(p, host, sizeof host, cudaMemcpyHostToDevice); // bug: copy_too_much
    return 0;
}
static int run_wrong_direction() {
    float host[32] = {}, *p = device_floats(32);
    cudaMemcpy(p, host, sizeof host, cudaMemcpyDeviceToHost); // bug: wrong_direction
    return 0;
}
static int run_free_twice() {
    float *p = device_floats(32);
    cudaFree(p);
    cudaFree(p); // bug: free_twice
    return 0;
}

// ----------------------------------------------------------------------------

#include "planted_host.cuh" // streams, captures, cuBLASLt
#include "planted_nccl.cuh" // NCCL

#define CASE(name) {#name, run_##name}
static const struct {
    const char *name;
    int (*run)();
} cases[] = {
    CASE(no_barrier),
    CASE(no_second_barrier),
    CASE(no_syncwarp),
    CASE(half_syncwarp),
    CASE(add_without_atomic),
    CASE(last_one_wins),
    CASE(plain_beside_atomic),
    CASE(no_wait),
    CASE(overtaken),
    CASE(copied_twice),
    CASE(no_fence),
    CASE(early_fence),
    CASE(past_the_end),
    CASE(past_by_one),
    CASE(before_the_begin),
    CASE(after_free),
    CASE(past_shared),
    CASE(past_dynamic),
    CASE(from_the_host),
    CASE(on_the_host),
    CASE(copied_on_the_host),
    CASE(unaligned),
    CASE(unwritten_global),
    CASE(unwritten_shared),
    CASE(shuffle_from_outside),
    CASE(shuffle_from_returned),
    CASE(not_in_own_mask),
    CASE(different_operations),
    CASE(two_barriers),
    CASE(early_return),
    CASE(deadlock),
    CASE(endless),
    CASE(endless_wait),
    CASE(deep),
    CASE(trapped),
    CASE(unaligned_fragment),
    CASE(odd_fragment),
    CASE(large_fragment),
    CASE(too_many_threads),
    CASE(empty_grid),
    CASE(shared_not_asked_for),
    CASE(large_static),
    CASE(no_dynamic),
    CASE(too_much_shared),
    CASE(copy_too_much),
    CASE(wrong_direction),
    CASE(free_twice),
    CASE(no_synchronize),
    CASE(buffer_reused),
    CASE(no_event),
    CASE(malloc_in_capture),
    CASE(wait_in_capture),
    CASE(default_stream_in_capture),
    CASE(unjoined),
    CASE(matmul_ld),
    CASE(matmul_k),
    CASE(matmul_small_d),
    CASE(matmul_unaligned),
    CASE(matmul_null_workspace),
    CASE(matmul_small_workspace),
    CASE(matmul_in_place),
    CASE(matmul_unwritten),
    CASE(nccl_right),
    CASE(nccl_count),
    CASE(nccl_type),
    CASE(nccl_root),
    CASE(nccl_send_count),
    CASE(nccl_no_receive),
    CASE(nccl_send_alone),
    CASE(nccl_order),
    CASE(nccl_missing),
    CASE(nccl_same_device),
    CASE(nccl_host_pointer),
    CASE(nccl_too_much),
    CASE(nccl_overlap),
    CASE(nccl_unwritten),
    CASE(nccl_after_abort),
    CASE(nccl_destroy_twice),
    CASE(nccl_open_group),
    CASE(late_device),
    CASE(nccl_no_event),
    CASE(nccl_lost),
};

extern "C" int run_case(const char *name) {
    for (auto &c : cases) {
        if (strcmp(c.name, name) != 0) continue;
        int status = c.run();
        cudaDeviceSynchronize();
        return status;
    }
    fprintf(stderr, "no case %s\n", name);
    return 2;
}
