// Planted faults of warps and barriers, part of planted.cu.

__global__ void shuffle_from_outside(float *out) {
    if (threadIdx.x < 8) out[threadIdx.x] = __shfl_down_sync(0xff, float(threadIdx.x), 4); // bug: shuffle_from_outside
}
static int run_shuffle_from_outside() {
    LAUNCH(shuffle_from_outside, 1, 32, 0, 0)(device_floats(32));
    return 0;
}
__global__ void shuffle_from_returned(float *out) {
    if (threadIdx.x >= 16) return;
    out[threadIdx.x] = __shfl_xor_sync(~0u, float(threadIdx.x), 16); // bug: shuffle_from_returned
}
static int run_shuffle_from_returned() {
    LAUNCH(shuffle_from_returned, 1, 32, 0, 0)(device_floats(32));
    return 0;
}
__global__ void not_in_own_mask(float *out) {
    out[threadIdx.x] = __shfl_sync(0xffff, 1.0f, 0); // bug: not_in_own_mask
}
static int run_not_in_own_mask() {
    LAUNCH(not_in_own_mask, 1, 32, 0, 0)(device_floats(32));
    return 0;
}
__global__ void different_operations(int *out) {
    out[threadIdx.x] =
        threadIdx.x < 16 ? __any_sync(~0u, 1) : int(__reduce_max_sync(~0u, 1u)); // bug: different_operations
}
static int run_different_operations() {
    LAUNCH(different_operations, 1, 32, 0, 0)(reinterpret_cast<int *>(device_floats(32)));
    return 0;
}

__global__ void two_barriers(float *out) {
    // clang-format off
    if (threadIdx.x < 7) __syncthreads(); else __syncthreads();  // bug: two_barriers
    // clang-format on
    out[threadIdx.x] = 1;
}
static int run_two_barriers() {
    LAUNCH(two_barriers, 1, 64, 0, 0)(device_floats(64));
    return 0;
}
__global__ void early_return(float *out, int n) {
    if (int(threadIdx.x) >= n) return;
    __syncthreads(); // bug: early_return
    out[threadIdx.x] = 1;
}
static int run_early_return() {
    LAUNCH(early_return, 1, 64, 0, 0)(device_floats(64), 50);
    return 0;
}
__global__ void deadlock(float *out) {
    if (threadIdx.x < 7) __syncwarp(); // bug: deadlock
    __syncthreads();                   // bug: deadlock
    out[threadIdx.x] = 1;
}
static int run_deadlock() {
    LAUNCH(deadlock, 1, 64, 0, 0)(device_floats(64));
    return 0;
}

__global__ void endless(volatile float *p) {
    while (*p == 0) {} // bug: endless
}
static int run_endless() {
    LAUNCH(endless, 2, 32, 0, 0)(device_floats(1));
    return 0;
}
__global__ void endless_wait(int *flag) {
    if (threadIdx.x == 0)
        while (atomicAdd(flag, 0) == 0) {} // bug: endless_wait
    else atomicExch(flag, 1);
}
static int run_endless_wait() {
    LAUNCH(endless_wait, 1, 32, 0, 0)(reinterpret_cast<int *>(device_floats(1)));
    return 0;
}
__global__ void deep(float *out) { // bug: deep
    volatile float large[100000];
    for (int i = 0; i < 100000; i++) large[i] = 0;
    out[threadIdx.x] = large[99999];
}
static int run_deep() {
    LAUNCH(deep, 1, 1, 0, 0)(device_floats(1));
    return 0;
}
__global__ void trapped(const float *p) {
    if (*p == 0) __trap(); // bug: trapped
}
static int run_trapped() {
    LAUNCH(trapped, 1, 1, 0, 0)(device_floats(1));
    return 0;
}
