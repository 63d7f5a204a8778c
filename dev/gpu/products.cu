/*
What cuBLASLt answers to every matrix product that the Qwen2.5 models from 0.5B to 14B ask for: whether it has an
algorithm at all, how fast that is beside this GPU's fastest product and copy, and which numbers of rows share their
bits.

    nvcc -std=c++17 -O3 -arch=native -I. dev/gpu/products.cu -o build/products -lcublasLt
    build/products [models, 5]

One line a matrix and direction and, below it, one a number of rows. The last line is the sum; the exit status is 1
where cuBLASLt has refused a product, which a plain kernel would do, slowly. `make CUDA=emulate`'s emulator runs it at
small sizes.
*/
#ifdef __NVCC__
#pragma nv_diag_suppress 177
#else
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#include "llmc/cuda/limits.cuh"

#ifdef CUDA_ON_CPU
#define PRODUCTS_SIZE(gpu, emulated) emulated
#else
#define PRODUCTS_SIZE(gpu, emulated) gpu
#endif

typedef struct {
    const char *name;
    int C, QKV, QD, I, V;
} Shape;

static const Shape shapes[] = {
    {"0.5B", 896, 1152, 896, 4864, 151936},   {"1.5B", 1536, 2048, 1536, 8960, 151936},
    {"3B", 2048, 2560, 2048, 11008, 151936},  {"7B", 3584, 4608, 3584, 18944, 152064},
    {"14B", 5120, 7168, 5120, 13824, 152064},
};
static const int rows_of[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096};

static double peak, copy;
static int asked, refused, slow;

// One matrix [N,K] in one direction, at each number of rows up to most.
static void product(const char *model, const char *what, int N, int K, bool bias, MatmulKind kind, int most) {
    const size_t weight = (size_t)N * K * sizeof(bf16);
    const int in_columns = kind == MATMUL_FORWARD ? K : N, out_columns = kind == MATMUL_FORWARD ? N : K;
    const size_t in = (size_t)most * in_columns * sizeof(bf16), out = (size_t)most * out_columns * sizeof(float);
    char *p = limit_memory(weight + in + out + 4 * (size_t)N + 1024);
    printf("%-5s %-10s %6d x %6d  %s\n", model, what, N, K, kind == MATMUL_FORWARD ? "forward" : "backward");
    if (!p) {
        printf("      left out: too little memory\n");
        return;
    }
    char *w = p, *x = w + (weight + 255) / 256 * 256, *y = x + (in + 255) / 256 * 256, *b = y + (out + 255) / 256 * 256;
    limit_fill(w, (size_t)N * K);
    limit_fill(x, (size_t)most * in_columns);
    if (bias) cuda_zero(b, (size_t)N * sizeof(float));
    float *first = (float *)malloc((size_t)out_columns * sizeof(float)),
          *now = (float *)malloc((size_t)out_columns * sizeof(float));
    for (size_t i = 0; i < sizeof rows_of / sizeof rows_of[0] && rows_of[i] <= most; i++) {
        const int T = rows_of[i];
        const MatmulKey key = {T, N, K, kind, bias, {matmul_alignment(w), matmul_alignment(x), matmul_alignment(y)}};
        auto run = [&] { matmul((float *)y, x, w, bias ? (const float *)b : NULL, T, N, K, kind); };
        const double s = limit_seconds(run), flops = 2.0 * T * N * K,
                     bytes = (double)weight + (double)T * (in_columns * 2.0 + out_columns * 4.0);
        const double least = flops / peak > bytes / copy ? flops / peak : bytes / copy;
        const MatmulPlan *plan = matmul_plan(&key);
        cuda_download(now, y, (size_t)out_columns * sizeof(float));
        if (i == 0) memcpy(first, now, (size_t)out_columns * sizeof(float));
        const bool same = memcmp(first, now, (size_t)out_columns * sizeof(float)) == 0;
        asked++;
        refused += plan->plain;
        slow += s > 2 * least + 5e-6; // a launch takes some 5 us
        printf("      %5d rows %9.4f ms  %6.1f TFLOP/s  %4.0f %% of the limit  workspace %zu MiB  row 0 %s%s\n", T,
               1e3 * s, 1e-12 * flops / s, 100 * least / s, plan->workspace >> 20,
               same ? "as in the first" : "other bits", plan->plain ? "  REFUSED" : "");
    }
    fflush(stdout);
    free(first);
    free(now);
    CUDA_CHECK(cudaFree(p));
}

int main(int argc, char **argv) {
    const int all = (int)(sizeof shapes / sizeof shapes[0]), n = argc > 1 ? atoi(argv[1]) : all;
    CUDA_CHECK(cudaGetDeviceProperties(&cuda.device, 0));
    CUDA_CHECK(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking));
    CUBLAS_CHECK(cublasLtCreate(&cuda.cublas));
    cuda.workspace_bytes = (size_t)(cuda.device.major >= 9 ? 32 : 4) << 20;
    cuda.workspace = cuda_allocate(cuda.workspace_bytes);
    cuda_staging_init();
    peak = cuda_peak_flops();
    copy = cuda_copy_speed();
    printf("%s, cuBLASLt %zu: %.1f TFLOP/s in a large product, %.0f GB/s in a large copy\n", cuda.device.name,
           cublasLtGetVersion(), 1e-12 * peak, 1e-9 * copy);
    for (int i = 0; i < n && i < all; i++) {
        const Shape *s = &shapes[i];
        const int C = PRODUCTS_SIZE(s->C, s->C / 8), QKV = PRODUCTS_SIZE(s->QKV, s->QKV / 8),
                  QD = PRODUCTS_SIZE(s->QD, s->QD / 8), I = PRODUCTS_SIZE(s->I, s->I / 64),
                  V = PRODUCTS_SIZE(s->V, s->V / 512), most = PRODUCTS_SIZE(4096, 16);
        for (int kind = 0; kind < 2; kind++) {
            product(s->name, "qkv", QKV, C, kind == MATMUL_FORWARD, (MatmulKind)kind, most);
            product(s->name, "o_proj", C, QD, false, (MatmulKind)kind, most);
            product(s->name, "gate, up", 2 * I, C, false, (MatmulKind)kind, most);
            product(s->name, "down_proj", C, I, false, (MatmulKind)kind, most);
            product(s->name, "lm_head", V, C, false, (MatmulKind)kind, PRODUCTS_SIZE(1024, 16));
        }
    }
    printf("products: %d asked for, %d refused, %d slower than twice the limit\n", asked, refused, slow);
    return refused > 0;
}
