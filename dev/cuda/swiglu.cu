/*
Kernel lab: SwiGLU on gu[T,2I] = gate, then up, forward and backward:

    a[T,I] = bf16(silu(gate) * up), gu_saved[T,2I] = bf16(gu)
    dgu[T,2I] from da[T,I] and gu_saved:   dgate = da up sigmoid(gate) (1 + gate (1 - sigmoid(gate))), dup = da gate
                                           sigmoid(gate)

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/swiglu.cu -o build/swiglu -lcublasLt
    build/swiglu [version] [T I]

Forward 14 bytes a column (two floats in, three bf16 out), backward 12: memory is the limit, the exponential costs less.

    1  three kernels, as a framework without fusion runs them: silu(gate) to memory in fp32, its product with up, gu
       rounded: 30 bytes
    2  one kernel, a column a thread: 14 bytes, but stores of 2 bytes a thread, so that a warp's store is 64 bytes
    3  eight columns a thread: loads and stores of 128 bits
    4  the backward, a column a thread
    5  the backward, eight columns a thread

Tolerance: one rounding to bf16, 2^-8 of the value, and a sixteenth more for what fp32 adds.
*/
#include "lab.cuh"
#include "llmc/cuda/swiglu.cuh" // versions 3 and 5

static struct {
    int T, I;
    LabArray<float> gu, da, silu;
    LabArray<bf16> a, gu_saved, gu_given, dgu;
} lab;

static unsigned lab_blocks(size_t n) { return blocks_for(n, 256); }

// ----------------------------------------------------------------------------
// forward

__global__ void silu_alone(float *silu, const float *gu, size_t n, int I) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float g = gu[i / I * 2 * I + i % I];
    silu[i] = g / (1.0f + expf(-g));
}

__global__ void product_alone(bf16 *a, const float *silu, const float *gu, size_t n, int I) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] = __float2bfloat16(silu[i] * gu[i / I * 2 * I + I + i % I]);
}

__global__ void round_alone(bf16 *out, const float *in, size_t n) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = __float2bfloat16(in[i]);
}

// 1.
static void version_1(void) {
    const size_t n = (size_t)lab.T * lab.I;
    LAUNCH(silu_alone, lab_blocks(n), 256, 0, cuda_stream)(lab.silu.device, lab.gu.device, n, lab.I);
    LAUNCH(product_alone, lab_blocks(n), 256, 0, cuda_stream)(lab.a.device, lab.silu.device, lab.gu.device, n, lab.I);
    LAUNCH(round_alone, lab_blocks(2 * n), 256, 0, cuda_stream)(lab.gu_saved.device, lab.gu.device, 2 * n);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void column_forward(bf16 *a, bf16 *gu_saved, const float *gu, size_t n, int I) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, gate = i / I * 2 * I + i % I;
    if (i >= n) return;
    const float g = gu[gate], u = gu[gate + I];
    a[i] = __float2bfloat16(g / (1.0f + expf(-g)) * u);
    gu_saved[gate] = __float2bfloat16(g);
    gu_saved[gate + I] = __float2bfloat16(u);
}

// 2.
static void version_2(void) {
    const size_t n = (size_t)lab.T * lab.I;
    LAUNCH(column_forward, lab_blocks(n), 256, 0, cuda_stream)(lab.a.device, lab.gu_saved.device, lab.gu.device, n,
                                                               lab.I);
    CUDA_CHECK(cudaGetLastError());
}

// 3. What the programs run.
static void version_3(void) { cuda_swiglu_forward(lab.a.device, lab.gu_saved.device, lab.gu.device, lab.T, lab.I); }

// ----------------------------------------------------------------------------
// backward

__global__ void column_backward(bf16 *dgu, const float *da, const bf16 *gu_saved, size_t n, int I) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, gate = i / I * 2 * I + i % I;
    if (i >= n) return;
    const float g = __bfloat162float(gu_saved[gate]), u = __bfloat162float(gu_saved[gate + I]),
                sigmoid = 1.0f / (1.0f + expf(-g));
    dgu[gate] = __float2bfloat16(da[i] * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
    dgu[gate + I] = __float2bfloat16(da[i] * g * sigmoid);
}

// 4.
static void version_4(void) {
    const size_t n = (size_t)lab.T * lab.I;
    LAUNCH(column_backward, lab_blocks(n), 256, 0, cuda_stream)
    (lab.dgu.device, lab.da.device, lab.gu_given.device, n, lab.I);
    CUDA_CHECK(cudaGetLastError());
}

// 5. What the programs run.
static void version_5(void) {
    cuda_swiglu_backward(lab.dgu.device, NULL, lab.da.device, lab.gu_given.device, lab.T, lab.I);
}

// ----------------------------------------------------------------------------

int main(int argc, char **argv) {
    int sizes[2] = {LAB_SIZE(2048, 7), LAB_SIZE(18944, 52)};
    lab_begin(argc, argv, 5, "T I", sizes, 2);
    const int T = lab.T = sizes[0], I = lab.I = sizes[1];
    const size_t n = (size_t)T * I;
    lab.gu = lab_random<float>(2 * n, 6), lab.da = lab_random<float>(n, 1), lab.silu = lab_array<float>(n);
    lab.gu_given = lab_random<bf16>(2 * n, 6);
    lab.a = lab_array<bf16>(n), lab.gu_saved = lab_array<bf16>(2 * n), lab.dgu = lab_array<bf16>(2 * n);

    double *a = lab_doubles(n), *a_off = lab_doubles(n), *gu = lab_doubles(2 * n), *gu_off = lab_doubles(2 * n),
           *dgu = lab_doubles(2 * n), *dgu_off = lab_doubles(2 * n);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < I; i++) {
            const size_t at = (size_t)t * I + i, gate = (size_t)t * 2 * I + i, up = gate + I;
            double g = lab.gu.host[gate], u = lab.gu.host[up];
            gu[gate] = g, gu[up] = u, gu_off[gate] = lab_bf16_off(g), gu_off[up] = lab_bf16_off(u);
            a[at] = g / (1 + exp(-g)) * u, a_off[at] = lab_bf16_off(a[at]);
            g = lab_get(&lab.gu_given.host[gate]), u = lab_get(&lab.gu_given.host[up]);
            const double d = lab.da.host[at], sigmoid = 1 / (1 + exp(-g));
            dgu[gate] = d * u * sigmoid * (1 + g * (1 - sigmoid)), dgu[up] = d * g * sigmoid;
            dgu_off[gate] = lab_bf16_off(dgu[gate]), dgu_off[up] = lab_bf16_off(dgu[up]);
        }
    lab_check("a", lab.a, a, a_off);
    lab_check("gu_saved", lab.gu_saved, gu, gu_off);
    lab_run(1, "naive: three kernels", version_1, 14.0 * (double)n, 6.0 * (double)n);
    lab_run(2, "one kernel, a column a thread", version_2, 14.0 * (double)n, 6.0 * (double)n);
    lab_run(3, "llmc: eight columns a thread, 128 bits", version_3, 14.0 * (double)n, 6.0 * (double)n);
    lab_no_checks();
    lab_check("dgu", lab.dgu, dgu, dgu_off);
    lab_run(4, "backward: a column a thread", version_4, 12.0 * (double)n, 10.0 * (double)n);
    lab_run(5, "llmc: eight columns a thread, 128 bits", version_5, 12.0 * (double)n, 10.0 * (double)n);
    return lab_end();
}
