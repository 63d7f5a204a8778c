/*
Kernel lab: the gradient of a steering vector, ds[C] += sum over t of dh[t,C].

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/column_sum.cu -o build/column_sum -lcublasLt
    build/column_sum [version] [T C]

4 bytes and one addition an element: memory is the limit, if there are enough threads to ask for it.

    1  C threads in all: for C = 3584 that is 28 blocks of 128 on 132 multiprocessors, few reads on their way
    2  rows are cut into pieces of 128 and the pieces are added with atomics: enough threads, but the order of the
       additions, and with it the last bits, changes from run to run
    3  a block has 16 columns: all its 256 threads fetch the next 128 rows, 8 KB, while 16 of them add the last ones.
       The order is that of version 1, and so are the bits: they do not depend on how rows come in batches, either. What
       is left is a chain of T additions, each waiting for the one before

Tolerance: sqrt(T) 2^-22 of the sum of absolute values: four times what roundings of random sign come to.
*/
#include "lab.cuh"
#include "llmc/cuda/rows.cuh" // version 3

static struct {
    int T, C;
    LabArray<float> dh, ds;
} lab;

__global__ void thread_per_column(float *ds, const float *dh, int T, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = ds[c];
    for (int t = 0; t < T; t++) sum += dh[(size_t)t * C + c];
    ds[c] = sum;
}

// 1.
static void version_1(void) {
    LAUNCH(thread_per_column, blocks_for((size_t)lab.C, 128), 128, 0, cuda_stream)(lab.ds.device, lab.dh.device, lab.T,
                                                                                   lab.C);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void piece_of_column(float *ds, const float *dh, int T, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * 128;
    if (c >= C) return;
    float sum = 0;
    for (int t = first; t < min(first + 128, T); t++) sum += dh[(size_t)t * C + c];
    atomicAdd(&ds[c], sum);
}

// 2.
static void version_2(void) {
    LAUNCH(piece_of_column, dim3(blocks_for((size_t)lab.C, 128), blocks_for((size_t)lab.T, 128)), 128, 0, cuda_stream)
    (lab.ds.device, lab.dh.device, lab.T, lab.C);
    CUDA_CHECK(cudaGetLastError());
}

// 3. What the programs run.
static void version_3(void) { cuda_column_sum(lab.ds.device, lab.dh.device, lab.T, lab.C); }

int main(int argc, char **argv) {
    int sizes[2] = {LAB_SIZE(8192, 300), LAB_SIZE(3584, 37)};
    lab_begin(argc, argv, 3, "T C", sizes, 2);
    const int T = lab.T = sizes[0], C = lab.C = sizes[1];
    lab.dh = lab_random<float>((size_t)T * C, 1), lab.ds = lab_random<float>((size_t)C, 1);
    double *want = lab_doubles((size_t)C), *off = lab_doubles((size_t)C);
    for (int c = 0; c < C; c++) {
        double sum = lab.ds.host[c], all = fabs(sum);
        for (int t = 0; t < T; t++) {
            const double x = lab.dh.host[(size_t)t * C + c];
            sum += x, all += fabs(x);
        }
        want[c] = sum;
        off[c] = 0x1p-22 * sqrt(T) * all;
    }
    lab_check("ds", lab.ds, want, off)->before = lab.ds.host;

    const double n = (double)T * C, bytes = 4 * n + 8.0 * C;
    lab_run(1, "naive: a thread per column", version_1, bytes, n);
    lab_run(2, "pieces of 128 rows, atomics", version_2, bytes, n, false);
    lab_run(3, "llmc: in order, the next rows fetched meanwhile", version_3, bytes, n);
    return lab_end();
}
