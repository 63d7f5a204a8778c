/*
How fast the matrix products of the `cpu` backend are, against what this machine can do.

    make build/bench_matmul
    OMP_NUM_THREADS=2 build/bench_matmul [forward|backward] [T ...]

For each shape of Qwen2.5-0.5B (K x N) and each number of rows T: GFLOP/s, its share of the measured peak of the
multiply-add the level uses, GB/s of weights read and its share of the measured memory speed. The weights of a
shape lie in memory often enough that none is found in a cache. Best of several: other load only ever slows.
LLMC_ISA forces a level.
*/
#include "llmc/cpu/cpu.h"           // ops_cpu_init, Weight, bf16
#include "llmc/eval/bench_limits.h" // bench_peak_gflops, bench_memory_gbs
#include "llmc/utils/threads.h"

bf16_t random_bf16(uint64_t *state) { // about uniform in -1 ... 1
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return f32_to_bf16((float)(int32_t)(*state >> 32) * 0x1p-31f);
}

int main(int argc, char **argv) {
    Error err = {0};
    const Ops *ops = ops_cpu_init(&err);
    if (!ops) die(&err);
    int rows[16], n_rows = 0;
    bool directions[2] = {true, true};
    for (int i = 1; i < argc && n_rows < 16; i++) {
        if (!strcmp(argv[i], "forward")) directions[1] = false;
        else if (!strcmp(argv[i], "backward")) directions[0] = false;
        else if (atoi(argv[i]) > 0) rows[n_rows++] = atoi(argv[i]);
    }
    if (!n_rows)
        for (int t = 0; t < 5; t++) rows[n_rows++] = t == 0 ? 1 : t == 1 ? 16 : t == 2 ? 64 : t == 3 ? 512 : 4096;

    double peak = bench_peak_gflops(ops->isa), memory = bench_memory_gbs();
    printf("%s, %d threads: peak %.1f GFLOP/s, memory %.1f GB/s\n", ops->isa, omp_get_max_threads(), peak, memory);
    printf("%-9s %13s %5s %9s %6s %8s %6s\n", "", "K x N", "T", "GFLOP/s", "peak", "GB/s", "memory");

    const int shapes[5][2] = {{896, 1152}, {896, 896}, {896, 9728}, {4864, 896}, {896, 151936}};
    for (int s = 0; s < 5; s++) {
        const int K = shapes[s][0], N = shapes[s][1];
        const size_t values = (size_t)K * N;
        uint64_t state = 1;
        bf16_t *raw = (bf16_t *)xmalloc(values * sizeof *raw);
        for (size_t i = 0; i < values; i++) raw[i] = random_bf16(&state);
        RawTensor tensor;
        memset(&tensor, 0, sizeof tensor);
        tensor.name = "bench";
        tensor.dtype = DTYPE_BF16;
        tensor.ndim = 2;
        tensor.shape[0] = N;
        tensor.shape[1] = K;
        tensor.data = raw;
        int copies = (int)(((size_t)160 << 20) / (values * sizeof *raw)) + 1;
        Weight *w = (Weight *)xcalloc((size_t)copies, sizeof *w);
        for (int i = 0; i < copies; i++) ops->weight_load(&w[i], &tensor, 1);
        free(raw);

        for (int d = 0; d < 2; d++)
            for (int r = 0; r < n_rows; r++) {
                if (!directions[d]) continue;
                int T = rows[r];
                if (N > 100000 && T > 512) continue; // logits come in chunks
                int in = d ? N : K, out = d ? K : N;
                bf16_t *x = (bf16_t *)ops->alloc((size_t)T * in * sizeof *x); // as the programs do: huge pages
                float *y = (float *)ops->alloc((size_t)T * out * sizeof *y);
                for (size_t i = 0; i < (size_t)T * in; i++) x[i] = random_bf16(&state);
                memset(y, 0, (size_t)T * out * sizeof *y);
                double best = 1e9, stop = now_s() + 0.6;
                for (int i = 0; i < 3 || now_s() < stop; i++) {
                    const Weight *weight = &w[i % copies];
                    double t = now_s();
                    if (d) ops->matmul_backward(y, x, weight, T);
                    else ops->matmul_forward(y, x, weight, NULL, T);
                    t = now_s() - t;
                    if (t < best) best = t;
                }
                double speed = 2e-9 * T * values / best, read = 2e-9 * values / best;
                printf("%-9s %6d x %-6d %3d %9.1f %5.1f%% %8.1f %5.1f%%\n", d ? "backward" : "forward", K, N, T, speed,
                       100 * speed / peak, read, 100 * read / memory);
                fflush(stdout);
                ops->release(x);
                ops->release(y);
            }
        for (int i = 0; i < copies; i++) ops->weight_free(&w[i]);
        free(w);
    }
    return 0;
}
