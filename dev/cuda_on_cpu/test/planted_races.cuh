// Planted races, part of planted.cu.

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
