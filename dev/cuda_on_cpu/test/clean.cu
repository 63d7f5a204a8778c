/*
Correct kernels: each must give the right result and no report, under every schedule, in both builds. Also what only the
emulator's user sees: bits that do not depend on the schedule, and bits that do. run.sh compiles and runs it.
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>
#include <vector>

#include "llmc/cuda/launch.cuh"

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cublasLt.h>
#include <mma.h>

typedef __nv_bfloat16 bf16;
namespace cg = cooperative_groups;
namespace wmma = nvcuda::wmma;

static int passed, failed;
static void check(bool ok, const char *what) {
    ok ? passed++ : failed++;
    if (!ok) printf("FAILED: %s\n", what);
}

template <class T> static T *to_device(const std::vector<T> &host) {
    T *p;
    cudaMalloc(&p, host.size() * sizeof(T));
    cudaMemcpy(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
    return p;
}
template <class T> static std::vector<T> to_host(const T *p, size_t n) {
    std::vector<T> host(n);
    cudaMemcpy(host.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost);
    return host;
}
static std::vector<float> numbers(size_t n) { // of very different sizes, so that the order of a sum matters
    std::vector<float> x(n);
    uint32_t state = 1;
    for (float &v : x) {
        state = state * 1664525u + 1013904223u;
        v = ldexpf(float(state >> 8) / float(1 << 24) - 0.5f, int(state >> 4 & 31) - 16);
    }
    return x;
}

// ----------------------------------------------------------------------------
// Sums: by shuffles and shared memory, in a fixed order; by the last block to finish; by atomics

__device__ float block_sum(float x) {
    SHARED(float, sums, [32]);
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = threadIdx.x % 32 < blockDim.x / 32 ? sums[threadIdx.x % 32] : 0;
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    __syncthreads(); // sums may be used again
    return x;
}
__global__ void sum_parts(float *parts, const float *in, int n) {
    float x = 0;
    for (int i = int(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += int(gridDim.x * blockDim.x)) x += in[i];
    x = block_sum(x);
    if (threadIdx.x == 0) parts[blockIdx.x] = x;
}
__global__ void sum_in_last_block(float *out, float *parts, unsigned *count, const float *in, int n) {
    SHARED(bool, last);
    float x = 0;
    for (int i = int(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += int(gridDim.x * blockDim.x)) x += in[i];
    x = block_sum(x);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = x;
        __threadfence();
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    x = block_sum(threadIdx.x < gridDim.x ? __ldcg(&parts[threadIdx.x]) : 0);
    if (threadIdx.x == 0) *out = x;
}
// All threads write; all fence before the barrier or one does after it, which then counts.
template <bool all_fence> __global__ void columns_in_last_block(float *out, float *parts, unsigned *count) {
    SHARED(unsigned, place);
    parts[blockIdx.x * blockDim.x + threadIdx.x] = float(blockIdx.x + threadIdx.x);
    if (all_fence) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        if (!all_fence) __threadfence();
        place = atomicAdd(count, 1u);
    }
    __syncthreads();
    if (place != gridDim.x - 1) return;
    float x = 0;
    for (unsigned i = 0; i < gridDim.x; i++) x += parts[i * blockDim.x + threadIdx.x];
    out[threadIdx.x] = x;
    if (threadIdx.x == 0) *count = 0; // for the next launch
}
__global__ void sum_by_atomics(float *out, const float *in, int n) {
    int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) atomicAdd(out, in[i]);
}

__global__ void who_comes_when(int *order, int *count) {
    order[atomicAdd(count, 1)] = int(blockIdx.x * blockDim.x + threadIdx.x);
    __syncthreads();
    order[atomicAdd(count, 1)] = int(blockIdx.x * blockDim.x + threadIdx.x);
}

static const char *const schedules[] = {"forward", "reverse", "random:1", "random:2"};

// Two blocks of 40 threads, each thread before and after a barrier
static std::vector<int> order_under(const char *schedule) {
    check(cuda_on_cpu_schedule(schedule), "a schedule has a name");
    int *order = to_device(std::vector<int>(160));
    LAUNCH(who_comes_when, 2, 40, 0, 0)(order, to_device(std::vector<int>(1)));
    return to_host(order, 160);
}
static void test_schedules() {
    std::vector<int> forward = order_under("forward"), reverse = order_under("reverse"), one = order_under("random:1"),
                     two = order_under("random:2");
    bool ok = true;
    for (int i = 0; i < 160; i++) ok &= forward[i] == i / 80 * 40 + i % 40 && reverse[i] == 79 - forward[i];
    check(ok, "forward and reverse");
    check(one != forward && one != reverse && one != two && one == order_under("random:1"),
          "random, and the same again for the same seed");
    check(!cuda_on_cpu_schedule("backward") && !cuda_on_cpu_schedule("random:x"), "a wrong schedule is refused");
}

static void test_sums() {
    const int n = 5000, blocks = 7;
    float *in = to_device(numbers(n)), *parts = to_device(std::vector<float>(blocks)),
          *out = to_device(std::vector<float>(64));
    unsigned *count = to_device(std::vector<unsigned>(1));
    std::vector<float> fixed, last, columns, by_atomics;
    for (const char *schedule : schedules) {
        check(cuda_on_cpu_schedule(schedule), "a schedule has a name");
        LAUNCH(sum_parts, blocks, 128, 0, 0)(parts, in, n);
        LAUNCH(sum_parts, 1, 32, 0, 0)(out, parts, blocks);
        fixed.push_back(to_host(out, 1)[0]);
        LAUNCH(sum_in_last_block, blocks, 128, 0, 0)(out, parts, count, in, n);
        last.push_back(to_host(out, 1)[0]);
        cudaMemset(out, 0, sizeof *out);
        LAUNCH(sum_by_atomics, (n + 127) / 128, 128, 0, 0)(out, in, n);
        by_atomics.push_back(to_host(out, 1)[0]);
        std::vector<float> grid(4 * 64);
        LAUNCH(columns_in_last_block<true>, 4, 64, 0, 0)(out, to_device(grid), count);
        columns.push_back(to_host(out, 64)[63]);
        LAUNCH(columns_in_last_block<false>, 4, 64, 0, 0)(out, to_device(grid), count);
        columns.push_back(to_host(out, 64)[63]);
    }
    bool fixed_same = true, last_same = true, atomics_same = true;
    for (size_t i = 1; i < fixed.size(); i++) {
        fixed_same &= memcmp(&fixed[i], &fixed[0], sizeof(float)) == 0;
        last_same &= memcmp(&last[i], &last[0], sizeof(float)) == 0;
        atomics_same &= memcmp(&by_atomics[i], &by_atomics[0], sizeof(float)) == 0;
    }
    check(fixed_same, "a sum in a fixed order has the same bits under every schedule");
    check(last_same, "so has the sum by the last block");
    check(!atomics_same, "a sum by atomicAdd of floats has not");
    double exact = 0, magnitude = 0;
    for (float x : numbers(n)) exact += x, magnitude += fabs(x);
    check(fabs(fixed[0] - exact) <= 1e-6 * magnitude && fabs(last[0] - exact) <= 1e-6 * magnitude,
          "the sums are right");
    check(columns == std::vector<float>(columns.size(), 63 * 4 + 6), "columns summed up by the last block");
}

// ----------------------------------------------------------------------------
// Shared memory, vectors, 2-dimensional blocks

template <int tile> __global__ void transpose(float *out, const float *in, int rows, int columns) {
    SHARED(float, s, [tile][tile + 1]);
    int row = int(blockIdx.y * tile + threadIdx.y), column = int(blockIdx.x * tile + threadIdx.x);
    if (row < rows && column < columns) s[threadIdx.y][threadIdx.x] = in[row * columns + column];
    __syncthreads();
    row = int(blockIdx.y * tile + threadIdx.x), column = int(blockIdx.x * tile + threadIdx.y);
    if (row < rows && column < columns) out[column * rows + row] = s[threadIdx.x][threadIdx.y];
}
// Two types in one dynamic array, 128-bit accesses, and 100 KB of it
__global__ void reverse_copy(uint4 *out, const uint4 *in, int n) {
    DYN_SHARED(uint4, vectors);
    DYN_SHARED(bf16, halves);
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) vectors[i] = __ldcs(&in[i]);
    __syncthreads();
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) {
        uint4 v;
        bf16 *eight = reinterpret_cast<bf16 *>(&v);
        for (int j = 0; j < 8; j++) eight[j] = halves[8 * n - 1 - (8 * i + j)];
        __stcs(&out[i], v);
    }
}
static void test_shared() {
    const int rows = 45, columns = 19, n = 6400;
    std::vector<float> in = numbers(rows * columns);
    float *out = to_device(std::vector<float>(in.size()));
    LAUNCH((transpose<16>), dim3(2, 3), dim3(16, 16), 0, 0)(out, to_device(in), rows, columns);
    std::vector<float> found = to_host(out, in.size());
    bool ok = true;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) ok &= found[size_t(c * rows + r)] == in[size_t(r * columns + c)];
    check(ok, "transposition through shared memory");

    std::vector<unsigned short> halves(8 * n);
    for (size_t i = 0; i < halves.size(); i++) halves[i] = (unsigned short)(i * 7);
    unsigned short *from = to_device(halves), *to = to_device(halves);
    check(cudaFuncSetAttribute(reverse_copy, cudaFuncAttributeMaxDynamicSharedMemorySize, 16 * n) == cudaSuccess,
          "100 KB of shared memory can be asked for");
    LAUNCH(reverse_copy, 1, 96, 16 * n, 0)(reinterpret_cast<uint4 *>(to), reinterpret_cast<const uint4 *>(from), n);
    std::vector<unsigned short> turned = to_host(to, halves.size());
    ok = true;
    for (size_t i = 0; i < halves.size(); i++) ok &= turned[i] == halves[halves.size() - 1 - i];
    check(ok, "128-bit copies through dynamic shared memory");
}

// ----------------------------------------------------------------------------
// Warp operations, atomics, cooperative groups, mathematics: each writes 1 where its result is right

__global__ void warp_operations(int *ok) {
    unsigned lane = threadIdx.x % 32, half = lane < 16 ? 0xffffu : 0xffff0000u;
    int *mine = ok + threadIdx.x * 16;
    mine[0] = __shfl_sync(~0u, lane * 3, 5) == 15;
    mine[1] = __shfl_sync(~0u, lane, 3, 8) == lane / 8 * 8 + 3;
    mine[2] = __shfl_up_sync(~0u, int(lane), 4) == (lane < 4 ? int(lane) : int(lane) - 4);
    mine[3] = __shfl_down_sync(~0u, double(lane), 2, 16) == (lane % 16 < 14 ? lane + 2 : lane);
    mine[4] = __shfl_xor_sync(half, 1ull << lane, 9) == 1ull << (lane ^ 9);
    mine[5] = __ballot_sync(~0u, lane % 3 == 0) == 0x49249249u;
    mine[6] = __any_sync(half, lane == 20) == (lane >= 16) && __all_sync(half, lane < 16) == (lane < 16);
    mine[7] = __reduce_add_sync(half, lane) == (lane < 16 ? 120u : 376u) && __reduce_add_sync(~0u, -int(lane)) == -496;
    mine[8] = __reduce_min_sync(~0u, int(lane) - 9) == -9 && __reduce_max_sync(~0u, int(lane) - 40) == -9 &&
              __reduce_max_sync(half, lane) == (lane | 15);
    mine[9] = __syncthreads_or(threadIdx.x == 40) && !__syncthreads_and(threadIdx.x != 40) &&
              __syncthreads_count(threadIdx.x < 41) == 41;
    __nv_bfloat162 two = __shfl_xor_sync(~0u, __floats2bfloat162_rn(float(lane), -float(lane)), 1);
    mine[10] = __bfloat162float(two.x) == float(lane ^ 1) && __bfloat162float(two.y) == -float(lane ^ 1);
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
    mine[11] = tile.thread_rank() == lane % 8 && tile.meta_group_rank() == threadIdx.x / 8 &&
               tile.shfl(lane, 7) == lane / 8 * 8 + 7;
    mine[12] = cg::reduce(tile, float(lane % 8), cg::plus<float>()) == 28 &&
               cg::reduce(tile, lane % 8, cg::greater<unsigned>()) == 7;
    mine[13] = tile.ballot(lane % 8 == 2) == 4 && tile.any(lane % 8 == 2) && !tile.all(lane % 8 == 2);
    mine[14] = block.size() == 64 && block.thread_rank() == threadIdx.x;
    mine[15] = 1;
    if (lane < 10) mine[15] = __shfl_xor_sync(0x3ffu, lane, 1) == (lane ^ 1);
    if (lane >= 8) return; // a part of the warp may leave
    mine[15] &= __shfl_xor_sync(0xffu, lane, 4) == (lane ^ 4);
}
__global__ void atomics(int *ok, int *i, unsigned *u, unsigned long long *l, float *f) {
    atomicAdd(&i[0], -2);
    atomicMin(&i[1], -int(threadIdx.x));
    atomicMax(&i[2], int(threadIdx.x));
    atomicInc(&u[0], 9);
    atomicDec(&u[1], 9);
    atomicOr(&u[2], 1u << threadIdx.x % 32);
    atomicAnd(&u[3], ~(1u << threadIdx.x % 32));
    atomicXor(&u[4], 3u);
    atomicMax(&l[0], 1ull << 40 | threadIdx.x);
    atomicAdd(&f[0], 0.5f);
    unsigned seen = u[5], expected; // maximum by compare and swap
    do {
        expected = seen;
        if (expected >= threadIdx.x) break;
        seen = atomicCAS(&u[6], expected, threadIdx.x);
    } while (seen != expected);
    __syncthreads();
    if (threadIdx.x) return;
    ok[0] = i[0] == -128 && i[1] == -63 && i[2] == 63;
    ok[1] = u[0] == 4 && u[1] == 6 && u[2] == ~0u && u[3] == 0 && u[4] == 0 && u[6] == 63;
    ok[2] = l[0] == (1ull << 40 | 63) && f[0] == 32;
    ok[3] = atomicExch(&i[0], 7) == -128 && i[0] == 7 && atomicSub(&i[0], 3) == 7 && i[0] == 4;
}
__global__ void mathematics(int *ok) {
    ok[0] = rsqrtf(4.0f) == 0.5f && __frcp_rn(8.0f) == 0.125f && fabsf(__expf(1.0f) - 2.7182817f) < 1e-6f &&
            exp2f(3.0f) == 8;
    ok[1] = min(3, 2u) == 2 && max(1.0, 2.5f) == 2.5 && max(-1, 0) == 0 && min(NAN, 1.0f) == 1 && max(1.0f, NAN) == 1 &&
            min(int64_t(5), size_t(7)) == 5;
    ok[2] = __popc(0xf0u) == 4 && __clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 && __brev(1u) == 0x80000000u &&
            __umulhi(1u << 31, 6u) == 3;
    ok[3] = __float_as_uint(1.0f) == 0x3f800000u && __uint_as_float(0x40000000u) == 2 &&
            __int_as_float(__float_as_int(-3.5f)) == -3.5f;
    ok[8] = __dadd_rn(1, __dmul_rn(2, 3)) == 7 && __fma_rn(2, 3, 1) == 7 && __ddiv_rn(1, 4) == 0.25 &&
            __dsqrt_rn(9) == 3 && rsqrt(4.0) == 0.5 && __longlong_as_double(__double_as_longlong(-2.5)) == -2.5 &&
            __double2float_rn(0.1) == 0.1f && __float2uint_rn(2.5f) == 2;
    // 1.0078125 squared is 1.01568603515625; minus 1.015625 leaves 2^-14, which a rounded product has lost.
    bf16 a = __float2bfloat16(1.0078125f), c = __float2bfloat16(-1.015625f);
    ok[4] = __bfloat162float(__hfma(a, a, c)) == ldexpf(1, -14) && __bfloat162float(__hadd(__hmul(a, a), c)) == 0;
    __nv_bfloat162 fused = __hfma2(__nv_bfloat162(a, a), __nv_bfloat162(a, a), __nv_bfloat162(c, c)),
                   two = __float22bfloat162_rn(make_float2(1.5f, -2));
    ok[5] = __bfloat162float(fused.y) == ldexpf(1, -14) && __bfloat1622float2(two).x == 1.5f &&
            __bfloat162float(two.y * two.x) == -3;
    ok[6] = __bfloat162float(__float2bfloat16(1.00390625f)) == 1 &&
            __bfloat162float(__float2bfloat16(1.01171875f)) == 1.015625f; // to even
    ok[7] = __float2int_rn(2.5f) == 2 && __float2int_rn(-1.7f) == -2 && __saturatef(1.5f) == 1 && __saturatef(NAN) == 0;
}
// A pipeline of two buffers: the next tile is on its way while this one is added up.
__global__ void pipeline(float *out, const float *in, int tiles) {
    SHARED(float4, buffer, [2][32]);
    const float4 *next = reinterpret_cast<const float4 *>(in) + threadIdx.x;
    cuda_on_cpu::copy_async(&buffer[0][threadIdx.x], next, 16, true);
    cuda_on_cpu::copies_commit();
    float sum = 0;
    for (int i = 0; i < tiles; i++) {
        cuda_on_cpu::copy_async(&buffer[(i + 1) % 2][threadIdx.x], next + (i + 1) * 32, 16, i + 1 < tiles);
        cuda_on_cpu::copies_commit();
        cuda_on_cpu::copies_wait(1);
        __syncthreads();
        sum += buffer[i % 2][31 - threadIdx.x].w;
        __syncthreads();
    }
    out[threadIdx.x] = sum;
    cuda_on_cpu::copies_wait(0);
    out[threadIdx.x] += buffer[tiles % 2][threadIdx.x].x; // the zeros of the tile that is not there
}
static void test_pipeline() {
    std::vector<float> in(5 * 128);
    for (size_t i = 0; i < in.size(); i++) in[i] = float(i);
    float *out = to_device(std::vector<float>(32));
    LAUNCH(pipeline, 1, 32, 0, 0)(out, to_device(in), 5);
    std::vector<float> found = to_host(out, 32);
    check(found[31] == 5 * 3 + 10 * 128 && found[0] == 5 * 127 + 10 * 128, "asynchronous copies");
}
static bool all_ones(const std::vector<int> &x, const char *what) {
    bool ok = true;
    for (size_t i = 0; i < x.size(); i++) {
        if (x[i] != 1) printf("%s: number %zu\n", what, i);
        ok &= x[i] == 1;
    }
    return ok;
}
static void test_operations() {
    int *ok = to_device(std::vector<int>(64 * 16));
    LAUNCH(warp_operations, 1, 64, 0, 0)(ok);
    check(all_ones(to_host(ok, 64 * 16), "thread * 16 + operation"), "warp operations");
    int *i = to_device(std::vector<int>{0, 100, -100});
    unsigned *u = to_device(std::vector<unsigned>{0, 0, 0, ~0u, 0, 0, 0});
    LAUNCH(atomics, 1, 64, 0, 0)(ok, i, u, to_device(std::vector<unsigned long long>(1)),
                                 to_device(std::vector<float>(1)));
    check(all_ones(to_host(ok, 4), "atomic"), "atomics");
    LAUNCH(mathematics, 1, 1, 0, 0)(ok);
    check(all_ones(to_host(ok, 9), "function"), "mathematics");
}

// All write the same; lanes are ordered by __syncwarp.
__global__ void same_value(int *flag, float *out) {
    SHARED(float, s, [64]);
    out += blockIdx.x * 64;
    *flag = 1;
    s[threadIdx.x] = float(threadIdx.x);
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 5];
    __syncwarp();
    if (threadIdx.x % 32 < 16) {
        s[threadIdx.x] = 2;
        __syncwarp(0xffff);
        out[threadIdx.x] += s[threadIdx.x ^ 3];
    }
}
static void test_allowed() {
    float *out = to_device(std::vector<float>(3 * 64));
    LAUNCH(same_value, 3, 64, 0, 0)(to_device(std::vector<int>(1)), out);
    std::vector<float> x = to_host(out, 64);
    check(x[0] == 7 && x[40] == 2 + (40 ^ 5) && x[63] == (63 ^ 5), "__syncwarp of a whole and of half a warp");
}

#include "clean_products.cuh" // wmma, cublasLtMatmul

// ----------------------------------------------------------------------------
// Streams, events, graphs, the device

__global__ void set(float *p, float value) { p[threadIdx.x] = value; }
__global__ void add(float *out, const float *in, float value) { out[threadIdx.x] = in[threadIdx.x] + value; }

static void test_streams() {
    cudaStream_t one, two;
    cudaEvent_t first, last, forked, joined;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *pinned, *p = to_device(std::vector<float>(32)), *q = to_device(std::vector<float>(32)), ms = -1;
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    for (cudaEvent_t *e : {&first, &last, &forked, &joined}) cudaEventCreate(e);
    cudaMallocHost(&pinned, 32 * sizeof(float));

    for (int round = 0; round < 3; round++) { // two streams in turn, ordered by events
        cudaEventRecord(first, one);
        LAUNCH(set, 1, 32, 0, one)(p, float(round));
        cudaEventRecord(forked, one);
        cudaStreamWaitEvent(two, forked, 0);
        LAUNCH(add, 1, 32, 0, two)(q, p, 10);
        cudaMemcpyAsync(pinned, q, 32 * sizeof(float), cudaMemcpyDeviceToHost, two);
        cudaEventRecord(last, two);
        cudaEventSynchronize(last);
        check(pinned[31] == float(round) + 10, "streams ordered by events");
        check(cudaEventElapsedTime(&ms, first, last) == cudaSuccess && ms >= 0, "time between events");
        cudaStreamWaitEvent(one, last, 0);
    }
    cudaEventDestroy(last);

    float pageable = 1; // copies to and from such memory wait, as CUDA says
    cudaMemcpyAsync(p, &pageable, sizeof pageable, cudaMemcpyHostToDevice, one);
    pageable = 2;
    LAUNCH(add, 1, 1, 0, one)(p, p, 10);
    cudaMemcpyAsync(&pageable, p, sizeof pageable, cudaMemcpyDeviceToHost, one);
    check(pageable == 11, "asynchronous copies of pageable memory");

    cudaStream_t blocking;
    cudaStreamCreate(&blocking);
    LAUNCH(set, 1, 32, 0, blocking)(p, 3);
    LAUNCH(add, 1, 32, 0, 0)(q, p, 1); // the default stream waits for it
    LAUNCH(add, 1, 32, 0, blocking)(p, q, 1);
    cudaStreamSynchronize(blocking);
    check(to_host(q, 1)[0] == 4 && to_host(p, 1)[0] == 5, "a stream waits for the default stream");
    LAUNCH(set, 1, 32, 0, blocking)(p, 7);
    cudaMemcpyAsync(pinned, p, sizeof(float), cudaMemcpyDeviceToHost, 0);
    cudaEventRecord(first, 0);
    cudaEventSynchronize(first);
    check(*pinned == 7, "the default stream waits for it");
    LAUNCH(add, 1, 32, 0, 0)(p, q, 1); // 5 again

    check(cudaStreamBeginCapture(one, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "capture begins");
    LAUNCH(add, 1, 32, 0, one)(p, p, 1);
    cudaEventRecord(forked, one);
    cudaStreamWaitEvent(two, forked, 0);
    LAUNCH(add, 1, 32, 0, two)(q, p, 100);
    cudaEventRecord(joined, two);
    cudaStreamWaitEvent(one, joined, 0);
    cudaMemcpyAsync(pinned, q, 32 * sizeof(float), cudaMemcpyDeviceToHost, one);
    check(cudaStreamEndCapture(one, &graph) == cudaSuccess, "capture ends");
    check(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess,
          "a graph is made");
    check(to_host(p, 1)[0] == 5, "what is captured does not run");
    for (int i = 0; i < 3; i++) cudaGraphLaunch(exec, one);
    cudaStreamSynchronize(one);
    check(pinned[0] == 108 && to_host(p, 1)[0] == 8, "a graph with a fork, launched three times");
    cudaGraphExecDestroy(exec);
    cudaStreamDestroy(two);
    cudaStreamDestroy(one);
    cudaFreeHost(pinned);
}
// A pointer that the arguments do not show: found in device memory.
__global__ void through_table(float *const *table) { table[1][threadIdx.x] = table[0][threadIdx.x] + 1; }
static void test_table() {
    float *in = to_device(std::vector<float>(32, 4)), *out = to_device(std::vector<float>(32));
    LAUNCH(through_table, 1, 32, 0, 0)(to_device(std::vector<float *>{in, out}));
    check(to_host(out, 32)[31] == 5, "pointers in device memory");
}
static void test_device() {
    int count = 0, blocks = 0, value = 0;
    size_t before, after, total;
    cudaDeviceProp properties;
    void *p = nullptr;
    check(cudaGetDeviceCount(&count) == cudaSuccess && count == 1 && cudaSetDevice(0) == cudaSuccess, "one device");
    check(cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major >= 8 && properties.warpSize == 32,
          "its properties");
    check(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess &&
              size_t(value) == properties.sharedMemPerBlockOptin,
          "its attributes");
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, set, 256, 0) == cudaSuccess && blocks == 8,
          "occupancy");
    cudaMemGetInfo(&before, &total);
    cudaMalloc(&p, 1 << 20);
    cudaMemGetInfo(&after, &total);
    check(before - after == 1 << 20 && cudaFree(p) == cudaSuccess, "memory that is left");
    check(cudaMalloc(&p, total + 1) == cudaErrorMemoryAllocation && p == nullptr, "more memory than there is");
    check(cudaPeekAtLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaErrorMemoryAllocation &&
              cudaGetLastError() == cudaSuccess,
          "the last error");
    check(strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation") == 0 &&
              *cudaGetErrorString(cudaErrorInvalidValue),
          "its name");
    check(cudaSetDevice(1) == cudaErrorInvalidDevice && cudaGetLastError() == cudaErrorInvalidDevice,
          "a device that is not there");
}

int main() {
    test_operations();
    test_allowed();
    test_pipeline();
    test_shared();
    test_products();
    test_streams();
    test_table();
    test_device();
    test_schedules(); // set the schedule
    test_sums();
    check(cuda_on_cpu_reports() == 0, "no reports");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
