/*
The example of README.md: a softmax over the rows of a matrix. Its results are right and it has two bugs.
*/
#include <stdio.h>

#include <vector>

#include "llmc/cuda/launch.cuh"

// out[row] = softmax(in[row]), rows of n numbers; a block of 128 threads a row
__global__ void softmax(float *out, const float *in, int n) {
    SHARED(float, part, [4]);
    in += blockIdx.x * n;
    out += blockIdx.x * n;
    float largest = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) largest = max(largest, in[i]);
    for (int lanes = 16; lanes > 0; lanes /= 2) largest = max(largest, __shfl_xor_sync(~0u, largest, lanes));
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = largest;
    __syncthreads();
    largest = max(max(part[0], part[1]), max(part[2], part[3]));
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += __expf(in[i] - largest);
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = part[0] + part[1] + part[2] + part[3];
    for (int i = threadIdx.x; i <= n; i += blockDim.x) out[i] = __expf(in[i] - largest) / sum;
}

int main() {
    const int rows = 3, n = 1000;
    std::vector<float> host(rows * n, 1.0f);
    float *in, *out;
    cudaMalloc(&in, host.size() * sizeof(float));
    cudaMalloc(&out, host.size() * sizeof(float));
    cudaMemcpy(in, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice);
    LAUNCH(softmax, rows, 128, 0, 0)(out, in, n);
    cudaMemcpy(host.data(), out, host.size() * sizeof(float), cudaMemcpyDeviceToHost);
    printf("%g %g %g\n", host[0], host[n], host[3 * n - 1]);
}
