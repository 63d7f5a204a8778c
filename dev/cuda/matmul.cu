/*
Kernel lab: the matrix product of the forward pass, y[T,N] = x[T,K] W^T with W[N,K], bf16 in, fp32 sums and output.

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/matmul.cu -o build/matmul -lcublasLt
    build/matmul [version] [T K N]

2 T K N operations on 2 (T K + N K) + 4 T N bytes: with thousands of rows the arithmetic is the limit, if the numbers
are near.

    1  a thread per output: each multiplication asks for two numbers, from the caches at best
    2  a block has 64 x 64 outputs and takes 16 columns of both matrices to shared memory; a thread has 4 x 4 outputs in
       registers, so that 8 numbers from shared memory serve 16 multiplications. A number from memory serves 64
    3  the same tile on tensor cores (wmma): a warp's instruction multiplies 16 x 16 x 16. Still without copies that run
       beside the products, and far from the card's 989 TFLOP/s
    4  cuBLASLt: large tiles, several of them on their way at a time (TMA), and wgmma, which takes its operands from
       shared memory

Tolerance: K 2^-24 of the sum of absolute products: K additions in any order.
*/
#include <mma.h>

#include "lab.cuh"
#include "llmc/cuda/matmul.cuh" // version 4

#define TILE 64  // rows and columns of a block's outputs
#define DEPTH 16 // of version 2
#define DEPTH_WMMA 32

static struct {
    int T, K, N;
    LabArray<bf16> x, w;
    LabArray<float> y;
} lab;

static dim3 lab_tiles(void) { return dim3(blocks_for((size_t)lab.N, TILE), blocks_for((size_t)lab.T, TILE)); }

// ----------------------------------------------------------------------------
// versions

__global__ void thread_per_output(float *y, const bf16 *x, const bf16 *w, int K, int N) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
    if (n >= N) return;
    float sum = 0;
    for (int k = 0; k < K; k++) sum += __bfloat162float(x[(size_t)t * K + k]) * __bfloat162float(w[(size_t)n * K + k]);
    y[(size_t)t * N + n] = sum;
}

// 1.
static void version_1(void) {
    LAUNCH(thread_per_output, dim3(blocks_for((size_t)lab.N, 128), lab.T), 128, 0, cuda_stream)
    (lab.y.device, lab.x.device, lab.w.device, lab.K, lab.N);
    CUDA_CHECK(cudaGetLastError());
}

// 16 x 16 threads.
__global__ void __launch_bounds__(256) tiled(float *y, const bf16 *x, const bf16 *w, int T, int K, int N) {
    SHARED(float, xs, [DEPTH][TILE + 4]); // turned, so that a thread's four rows are neighbours
    SHARED(float, ws, [DEPTH][TILE + 4]);
    const int n0 = blockIdx.x * TILE, t0 = blockIdx.y * TILE, thread = threadIdx.y * 16 + threadIdx.x;
    float sum[4][4] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
        for (int i = thread; i < TILE * DEPTH; i += 256) {
            const int row = i / DEPTH, k = k0 + i % DEPTH;
            xs[i % DEPTH][row] = k < K && t0 + row < T ? __bfloat162float(x[(size_t)(t0 + row) * K + k]) : 0.0f;
            ws[i % DEPTH][row] = k < K && n0 + row < N ? __bfloat162float(w[(size_t)(n0 + row) * K + k]) : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            const float4 a4 = *(const float4 *)&xs[k][4 * threadIdx.y], b4 = *(const float4 *)&ws[k][4 * threadIdx.x];
            const float a[4] = {a4.x, a4.y, a4.z, a4.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            const int t = t0 + 4 * threadIdx.y + i, n = n0 + 4 * threadIdx.x + j;
            if (t < T && n < N) y[(size_t)t * N + n] = sum[i][j];
        }
}

// 2.
static void version_2(void) {
    LAUNCH(tiled, lab_tiles(), dim3(16, 16), 0, cuda_stream)(lab.y.device, lab.x.device, lab.w.device, lab.T, lab.K,
                                                             lab.N);
    CUDA_CHECK(cudaGetLastError());
}

// Columns k0 ... of rows row0 ... row0+TILE-1 of from[rows,K], zeros beyond. By 128 threads.
__device__ __forceinline__ void load_tile(bf16 (*to)[DEPTH_WMMA + 8], const bf16 *from, int row0, int rows, int k0,
                                          int K) {
    for (int i = threadIdx.x; i < TILE * DEPTH_WMMA / 8; i += 128) {
        const int row = i / (DEPTH_WMMA / 8), k = k0 + i % (DEPTH_WMMA / 8) * 8;
        const bf16 *p = from + (size_t)(row0 + row) * K + k;
        if (K % 8 == 0 && row0 + row < rows && k < K) *(Bf16x8 *)&to[row][k - k0] = *(const Bf16x8 *)p;
        else
            for (int j = 0; j < 8; j++)
                to[row][k - k0 + j] = row0 + row < rows && k + j < K ? p[j] : __float2bfloat16(0.0f);
    }
}

// Four warps, each 32 x 32 outputs.
__global__ void __launch_bounds__(128) tensor_cores(float *y, const bf16 *x, const bf16 *w, int T, int K, int N) {
    using namespace nvcuda::wmma;
    SHARED(bf16, xs, [TILE][DEPTH_WMMA + 8]); // 16 bytes more: rows lie in other banks
    SHARED(bf16, ws, [TILE][DEPTH_WMMA + 8]);
    SHARED(float, ys, [TILE][TILE + 4]);
    const int n0 = blockIdx.x * TILE, t0 = blockIdx.y * TILE, warp = threadIdx.x / 32, row = warp / 2 * 32,
              column = warp % 2 * 32;
    fragment<accumulator, 16, 16, 16, float> sum[2][2];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) fill_fragment(sum[i][j], 0.0f);
    for (int k0 = 0; k0 < K; k0 += DEPTH_WMMA) {
        load_tile(xs, x, t0, T, k0, K);
        load_tile(ws, w, n0, N, k0, K);
        __syncthreads();
        for (int k = 0; k < DEPTH_WMMA; k += 16) {
            fragment<matrix_a, 16, 16, 16, bf16, row_major> a[2];
            fragment<matrix_b, 16, 16, 16, bf16, col_major> b[2];
            for (int i = 0; i < 2; i++) {
                load_matrix_sync(a[i], &xs[row + 16 * i][k], DEPTH_WMMA + 8);
                load_matrix_sync(b[i], &ws[column + 16 * i][k], DEPTH_WMMA + 8);
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++) mma_sync(sum[i][j], a[i], b[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            store_matrix_sync(&ys[row + 16 * i][column + 16 * j], sum[i][j], TILE + 4, mem_row_major);
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += 128)
        if (t0 + i / TILE < T && n0 + i % TILE < N)
            y[(size_t)(t0 + i / TILE) * N + n0 + i % TILE] = ys[i / TILE][i % TILE];
}

// 3.
static void version_3(void) {
    LAUNCH(tensor_cores, lab_tiles(), 128, 0, cuda_stream)(lab.y.device, lab.x.device, lab.w.device, lab.T, lab.K,
                                                           lab.N);
    CUDA_CHECK(cudaGetLastError());
}

// 4. What the programs run.
static void version_4(void) {
    Weight w = {};
    w.N = lab.N, w.K = lab.K, w.data = lab.w.device;
    cuda_matmul_forward(lab.y.device, lab.x.device, &w, NULL, lab.T);
}

// ----------------------------------------------------------------------------

#define LAB_SAMPLE 16384 // outputs that are compared where there are more

int main(int argc, char **argv) {
    int sizes[3] = {LAB_SIZE(4096, 70), LAB_SIZE(3584, 72), LAB_SIZE(37888, 130)};
    lab_begin(argc, argv, 4, "T K N", sizes, 3);
    const int T = lab.T = sizes[0], K = lab.K = sizes[1], N = lab.N = sizes[2];
    CUBLAS_CHECK(cublasLtCreate(&cuda.cublas));
    cuda.workspace_bytes = (size_t)32 << 20;
    cuda.workspace = cuda_allocate(cuda.workspace_bytes);
    lab.x = lab_random<bf16>((size_t)T * K, 1), lab.w = lab_random<bf16>((size_t)N * K, 1);
    lab.y = lab_array<float>((size_t)T * N);

    // all outputs, or some of them spread over the whole, the last one among them
    const size_t all = (size_t)T * N, n = all < LAB_SAMPLE ? all : LAB_SAMPLE;
    size_t *at = (size_t *)malloc(n * sizeof(size_t));
    double *y = lab_doubles(n), *off = lab_doubles(n);
    for (size_t i = 0; i < n; i++) {
        at[i] = all - 1 - (n == all ? i : i * 1000003 % all);
        const bf16 *x = lab.x.host + at[i] / N * K, *w = lab.w.host + at[i] % N * K;
        double sum = 0, mass = 0;
        for (int k = 0; k < K; k++) {
            const double product = lab_get(&x[k]) * lab_get(&w[k]);
            sum += product, mass += fabs(product);
        }
        y[i] = sum;
        off[i] = K * 0x1p-24 * mass + 1e-30;
    }
    LabCheck *check = lab_check("y", lab.y, y, off);
    check->at = at, check->n_at = n;

    const double bytes = 2.0 * K * ((double)T + N) + 4.0 * T * N, flops = 2.0 * T * K * N;
    lab_run(1, "naive: a thread per output", version_1, bytes, flops);
    lab_run(2, "tiles of 64 x 64 in shared memory, 4 x 4 a thread", version_2, bytes, flops);
    lab_run(3, "the same tiles on tensor cores", version_3, bytes, flops);
    lab_run(4, "llmc: cuBLASLt", version_4, bytes, flops);
    return lab_end();
}
