/*
Kernel lab: residual + block output + steering vector, and RMSNorm, in one pass:

    h_out[T,C] = h + y + s;   rstd[T] = 1/sqrt(mean(h_out^2) + eps);   x[T,C] = bf16(h_out * rstd * w)

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/rmsnorm.cu -o build/rmsnorm -lcublasLt
    build/rmsnorm [version] [T C]

A row of C floats is read twice (h, y) and written once as fp32, once as bf16: 14 bytes an element, and hardly 5
operations. So memory is the limit, and versions differ by how often they touch it and in what pieces:

    1  neighbouring threads read addresses C floats apart: each 32-byte sector that comes from memory is used for 4
       bytes, unless the cache keeps it for the next columns
    2  a warp reads 128 neighbouring bytes at once. The sum goes to memory and comes back for the second half
    3  128 bits a thread; the sum waits in registers: each byte crosses the bus once

Tolerances: h_out 2 fp32 roundings; rstd 1e-5 of itself; x one rounding to bf16, 2^-8 of it, and a sixteenth more.
*/
#include "lab.cuh"
#include "llmc/cuda/rows.cuh" // version 3

#define LAB_EPS 1e-6f

static struct {
    int T, C;
    LabArray<float> h, y, s, w, h_out, rstd;
    LabArray<bf16> x;
} lab;

// ----------------------------------------------------------------------------
// versions

__global__ void thread_per_row(float *h_out, bf16 *x, float *rstd, const float *h, const float *y, const float *s,
                               const float *w, int T, int C) {
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= T) return;
    const size_t at = (size_t)t * C;
    float squares = 0;
    for (int c = 0; c < C; c++) {
        const float sum = h[at + c] + y[at + c] + s[c];
        h_out[at + c] = sum;
        squares += sum * sum;
    }
    const float r = 1.0f / sqrtf(squares / (float)C + LAB_EPS);
    rstd[t] = r;
    for (int c = 0; c < C; c++) x[at + c] = __float2bfloat16(h_out[at + c] * r * w[c]);
}

// 1.
static void version_1(void) {
    LAUNCH(thread_per_row, blocks_for((size_t)lab.T, 128), 128, 0, cuda_stream)
    (lab.h_out.device, lab.x.device, lab.rstd.device, lab.h.device, lab.y.device, lab.s.device, lab.w.device, lab.T,
     lab.C);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void warp_per_row(float *h_out, bf16 *x, float *rstd, const float *h, const float *y, const float *s,
                             const float *w, int T, int C) {
    const int t = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (t >= T) return;
    const size_t at = (size_t)t * C;
    float squares = 0;
    for (int c = lane; c < C; c += 32) {
        const float sum = h[at + c] + y[at + c] + s[c];
        h_out[at + c] = sum;
        squares += sum * sum;
    }
    const float r = 1.0f / sqrtf(warp_reduce<Sum>(squares) / (float)C + LAB_EPS);
    if (lane == 0) rstd[t] = r;
    for (int c = lane; c < C; c += 32) x[at + c] = __float2bfloat16(h_out[at + c] * r * w[c]); // what this lane wrote
}

// 2.
static void version_2(void) {
    LAUNCH(warp_per_row, blocks_for((size_t)lab.T, 4), 128, 0, cuda_stream)
    (lab.h_out.device, lab.x.device, lab.rstd.device, lab.h.device, lab.y.device, lab.s.device, lab.w.device, lab.T,
     lab.C);
    CUDA_CHECK(cudaGetLastError());
}

// 3. What the programs run.
static void version_3(void) {
    cuda_add_rmsnorm_forward(lab.h_out.device, lab.x.device, lab.rstd.device, lab.h.device, lab.y.device, lab.s.device,
                             lab.w.device, LAB_EPS, lab.T, lab.C);
}

// ----------------------------------------------------------------------------

int main(int argc, char **argv) {
    int sizes[2] = {LAB_SIZE(8192, 5), LAB_SIZE(3584, 132)};
    lab_begin(argc, argv, 3, "T C", sizes, 2);
    const int T = lab.T = sizes[0], C = lab.C = sizes[1];
    const size_t n = (size_t)T * C;
    lab.h = lab_random<float>(n, 4), lab.y = lab_random<float>(n, 1), lab.s = lab_random<float>((size_t)C, 0.5f);
    lab.w = lab_random<float>((size_t)C, 2);
    lab.h_out = lab_array<float>(n), lab.x = lab_array<bf16>(n), lab.rstd = lab_array<float>((size_t)T);

    double *h = lab_doubles(n), *h_off = lab_doubles(n), *x = lab_doubles(n), *x_off = lab_doubles(n),
           *rstd = lab_doubles((size_t)T), *rstd_off = lab_doubles((size_t)T);
    for (int t = 0; t < T; t++) {
        double squares = 0;
        for (int c = 0; c < C; c++) {
            const size_t i = (size_t)t * C + c;
            h[i] = (double)lab.h.host[i] + lab.y.host[i] + lab.s.host[c];
            h_off[i] = 0x1p-23 * (fabs(lab.h.host[i]) + fabs(lab.y.host[i]) + fabs(lab.s.host[c]));
            squares += h[i] * h[i];
        }
        rstd[t] = 1 / sqrt(squares / C + LAB_EPS);
        rstd_off[t] = 1e-5 * rstd[t];
        for (int c = 0; c < C; c++) {
            const size_t i = (size_t)t * C + c;
            x[i] = h[i] * rstd[t] * lab.w.host[c];
            x_off[i] = lab_bf16_off(x[i]);
        }
    }
    lab_check("h_out", lab.h_out, h, h_off);
    lab_check("x", lab.x, x, x_off);
    lab_check("rstd", lab.rstd, rstd, rstd_off);

    const double bytes = 14.0 * (double)n + 4.0 * T, flops = 6.0 * (double)n;
    lab_run(1, "naive: a thread per row", version_1, bytes, flops);
    lab_run(2, "a warp per row: neighbouring addresses", version_2, bytes, flops);
    lab_run(3, "llmc: a block per row, 128 bits, the sum kept", version_3, bytes, flops);
    return lab_end();
}
