/*
Kernel lab: the log-probability of one token a row from logits[n,V], log sum exp and entropy with it: log softmax
without the softmax.

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/logprob.cu -o build/logprob -lcublasLt
    build/logprob [version] [n V]

512 rows of 151,936 logits are 311 MB, six times the L2 cache: what counts is how often they are read from memory.

    1  a thread per row: n threads in all, each reads its own row, and neighbouring threads addresses V floats apart
    2  a block per row, two passes: the largest logit, then the sums. The rows in work, 608 KB each, exceed the L2
       cache, so that both passes read from memory
    3  one pass: each thread keeps the largest logit so far and rescales its sums where it rises (Milakov & Gimelshein
       2018, arXiv 1805.02867). Each logit comes once
    4  a block has a chunk of 4,096 logits, 16 a thread, and keeps them in registers: their largest and their sum from
       one reading, by 128 bits, without a rescaling. 38 blocks a row keep the card busy even where there is one row; a
       second kernel adds up the chunks, in order, so that a row's bits do not depend on the others

Tolerance: 2e-6, a few fp32 roundings of numbers of the size of logits, and sqrt(V) 2^-22 for the V additions.
*/
#include "lab.cuh"
#include "llmc/cuda/output.cuh" // version 4

static struct {
    int n, V;
    LabArray<float> logits, logprob, lse, entropy;
    LabArray<int> target;
} lab;

// ----------------------------------------------------------------------------
// versions. m = max z, s = sum exp(z - m), e = sum exp(z - m) (z - m)

__device__ __forceinline__ void write_row(int row, float m, float s, float e, float *logprob, float *lse,
                                          float *entropy, const float *logits, const int *target, int V) {
    lse[row] = m + logf(s);
    logprob[row] = logits[(size_t)row * V + target[row]] - lse[row];
    entropy[row] = logf(s) - e / s;
}

__global__ void thread_per_row(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                               int n, int V) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n) return;
    const float *z = logits + (size_t)row * V;
    float m = -INFINITY, s = 0, e = 0;
    for (int v = 0; v < V; v++) m = fmaxf(m, z[v]);
    for (int v = 0; v < V; v++) {
        const float d = z[v] - m, p = expf(d);
        s += p;
        e += p * d;
    }
    write_row(row, m, s, e, logprob, lse, entropy, logits, target, V);
}

// 1.
static void version_1(void) {
    LAUNCH(thread_per_row, blocks_for((size_t)lab.n, 64), 64, 0, cuda_stream)
    (lab.logprob.device, lab.lse.device, lab.entropy.device, lab.logits.device, lab.target.device, lab.n, lab.V);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void two_passes(float *logprob, float *lse, float *entropy, const float *logits, const int *target, int V) {
    SHARED(float, parts, [32]);
    const float *z = logits + (size_t)blockIdx.x * V;
    float m = -INFINITY, s = 0, e = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) m = fmaxf(m, z[v]);
    m = block_reduce<Largest>(m, parts);
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const float d = z[v] - m, p = expf(d);
        s += p;
        e += p * d;
    }
    s = block_reduce<Sum>(s, parts);
    e = block_reduce<Sum>(e, parts);
    if (threadIdx.x == 0) write_row(blockIdx.x, m, s, e, logprob, lse, entropy, logits, target, V);
}

// 2.
static void version_2(void) {
    LAUNCH(two_passes, lab.n, 512, 0, cuda_stream)
    (lab.logprob.device, lab.lse.device, lab.entropy.device, lab.logits.device, lab.target.device, lab.V);
    CUDA_CHECK(cudaGetLastError());
}

__global__ void one_pass(float *logprob, float *lse, float *entropy, const float *logits, const int *target, int V) {
    SHARED(float, parts, [32]);
    const float *z = logits + (size_t)blockIdx.x * V;
    float m = -INFINITY, s = 0, e = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const float x = z[v];
        if (x > m) { // rescale what is there; the first time there is nothing
            const float d = m - x, f = s > 0 ? expf(d) : 0.0f;
            e = s > 0 ? f * (e + s * d) : 0.0f;
            s *= f;
            m = x;
        }
        const float d = x - m, p = expf(d);
        s += p;
        e += p * d;
    }
    const float largest = block_reduce<Largest>(m, parts), d = m - largest;
    const float f = s > 0 ? expf(d) : 0.0f; // a thread without logits has m = -inf
    e = block_reduce<Sum>(s > 0 ? f * (e + s * d) : 0.0f, parts);
    s = block_reduce<Sum>(s * f, parts);
    if (threadIdx.x == 0) write_row(blockIdx.x, largest, s, e, logprob, lse, entropy, logits, target, V);
}

// 3.
static void version_3(void) {
    LAUNCH(one_pass, lab.n, 512, 0, cuda_stream)
    (lab.logprob.device, lab.lse.device, lab.entropy.device, lab.logits.device, lab.target.device, lab.V);
    CUDA_CHECK(cudaGetLastError());
}

// 4. What the programs run.
static void version_4(void) {
    cuda_logprob_rows(lab.logprob.device, lab.lse.device, lab.entropy.device, lab.logits.device, lab.target.device,
                      1.0f, lab.n, lab.V);
}

// ----------------------------------------------------------------------------

int main(int argc, char **argv) {
    int sizes[2] = {LAB_SIZE(512, 3), LAB_SIZE(151936, 1031)};
    lab_begin(argc, argv, 4, "n V", sizes, 2);
    const int n = lab.n = sizes[0], V = lab.V = sizes[1];
    lab.logits = lab_random<float>((size_t)n * V, 8);
    lab.target = lab_array<int>((size_t)n);
    lab.logprob = lab_array<float>((size_t)n), lab.lse = lab_array<float>((size_t)n),
    lab.entropy = lab_array<float>((size_t)n);
    for (int i = 0; i < n; i++) lab.target.host[i] = i == 0 ? V - 1 : i * 997 % V;
    lab_upload(lab.target);

    double *logprob = lab_doubles((size_t)n), *lse = lab_doubles((size_t)n), *entropy = lab_doubles((size_t)n),
           *off = lab_doubles((size_t)n);
    for (int i = 0; i < n; i++) {
        const float *z = lab.logits.host + (size_t)i * V;
        double m = z[0], s = 0, e = 0;
        for (int v = 1; v < V; v++) m = z[v] > m ? z[v] : m;
        for (int v = 0; v < V; v++) {
            const double p = exp(z[v] - m);
            s += p;
            e += p * (z[v] - m);
        }
        lse[i] = m + log(s);
        logprob[i] = z[lab.target.host[i]] - lse[i];
        entropy[i] = log(s) - e / s;
        off[i] = 2e-6 + 0x1p-22 * sqrt(V);
    }
    lab_check("logprob", lab.logprob, logprob, off);
    lab_check("lse", lab.lse, lse, off);
    lab_check("entropy", lab.entropy, entropy, off);

    const double bytes = 4.0 * n * V, flops = 6.0 * n * V;
    lab_run(1, "naive: a thread per row", version_1, bytes, flops);
    lab_run(2, "a block per row, two passes", version_2, bytes, flops);
    lab_run(3, "one pass, the largest so far", version_3, bytes, flops);
    lab_run(4, "llmc: chunks in registers, then their sums", version_4, bytes, flops);
    return lab_end();
}
