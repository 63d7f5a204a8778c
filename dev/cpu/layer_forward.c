/*
The forward pass of one layer of Qwen2.5-0.5B with random weights, through the table of operations as llmc/qwen2.h goes
through it: what the levels of `cpu` are compared by, in seconds or, under dev/cpu/count_instructions.c, in
instructions.

    make build/lab_layer_forward
    build/lab_layer_forward [N] [T] [LEVEL]        N times (1) a sequence of T tokens (128) on LEVEL (the best)

Prints a sum of the output, so that two levels can be seen to compute the same.
*/
#include "llmc/cpu/cpu.h" // cpu_ops_for, ops_cpu_init

enum { C = 896, I = 4864, NH = 14, NKV = 2, HD = 64, QD = NH * HD, QKV = (NH + 2 * NKV) * HD };

static float *layer_random(size_t n, float scale) {
    static uint64_t state = 1;
    float *x = (float *)xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(state >> 32) * 0x1p-31f * scale;
    }
    return x;
}

// N x K weights in the level's packing
static Weight layer_weight(const Ops *ops, int N, int K) {
    float *data = layer_random((size_t)N * K, 0.05f);
    bf16_t *half = (bf16_t *)xmalloc((size_t)N * K * sizeof *half);
    for (size_t i = 0; i < (size_t)N * K; i++) half[i] = f32_to_bf16(data[i]);
    const RawTensor raw = {"random", DTYPE_BF16, 2, {N, K, 0, 0}, half};
    Weight w;
    ops->weight_load(&w, &raw, 1);
    free(data);
    free(half);
    return w;
}

int main(int argc, char **argv) {
    const int n = argc > 1 ? atoi(argv[1]) : 1, T = argc > 2 ? atoi(argv[2]) : 128;
    Error err = {0, ""};
    const Ops *ops = argc > 3 ? cpu_ops_for(argv[3], &err) : ops_cpu_init(&err);
    if (!ops || n < 0 || T < 1) {
        fprintf(stderr, "%s\n", ops ? "N and T must be positive" : err.text);
        return EXIT_USAGE;
    }

    const Weight qkv_w = layer_weight(ops, QKV, C), o_w = layer_weight(ops, C, QD), gu_w = layer_weight(ops, 2 * I, C),
                 down_w = layer_weight(ops, C, I);
    float *norm1 = layer_random(C, 1), *norm2 = layer_random(C, 1), *bias = layer_random(QKV, 1),
          *h = layer_random((size_t)T * C, 1);
    float *rope = layer_random((size_t)T * HD, 1); // any numbers will do for a measurement
    const int n_pages = (T + KV_PAGE - 1) / KV_PAGE;
    int *pages = (int *)xmalloc((size_t)n_pages * sizeof *pages),
        *rows = (int *)xmalloc((size_t)T * sizeof *rows); // rows, positions and slots alike
    for (int i = 0; i < n_pages; i++) pages[i] = i;
    for (int t = 0; t < T; t++) rows[t] = t;
    const size_t cache = (size_t)n_pages * NKV * KV_PAGE * HD * ops->act_bytes;
    KVCache kv = {1, NKV, HD, n_pages, ops->alloc(cache), ops->alloc(cache)};
    const Sequence sequence = {0, T, 0, pages, 0, 0};

    act *x = ops->alloc((size_t)T * C * ops->act_bytes), *q = ops->alloc((size_t)T * QD * ops->act_bytes);
    act *att = ops->alloc((size_t)T * QD * ops->act_bytes), *a = ops->alloc((size_t)T * I * ops->act_bytes);
    float *qkv = (float *)ops->alloc((size_t)T * QKV * sizeof(float)),
          *gu = (float *)ops->alloc((size_t)T * 2 * I * sizeof(float));
    float *y = (float *)ops->alloc((size_t)T * C * sizeof(float)),
          *mid = (float *)ops->alloc((size_t)T * C * sizeof(float));
    for (int i = 0; i < n; i++) {
        ops->add_rmsnorm_forward(h, x, NULL, h, NULL, NULL, norm1, 1e-6f, T, C);
        ops->matmul_forward(qkv, x, &qkv_w, bias, T);
        ops->rope_kv_write(q, &kv, 0, qkv, rope, rows, rows, rows, T, T, NH);
        ops->attention_forward(att, NULL, q, &kv, 0, &sequence, 1, NH);
        ops->matmul_forward(y, att, &o_w, NULL, T);
        ops->add_rmsnorm_forward(mid, x, NULL, h, y, NULL, norm2, 1e-6f, T, C);
        if (ops->matmul_swiglu_forward) {
            ops->matmul_swiglu_forward(a, NULL, gu, x, &gu_w, T);
        } else {
            ops->matmul_forward(gu, x, &gu_w, NULL, T);
            ops->swiglu_forward(a, NULL, gu, T, I);
        }
        ops->matmul_forward(y, a, &down_w, NULL, T);
    }
    double sum = 0;
    for (size_t i = 0; i < (size_t)T * C; i++) sum += y[i] * (double)(i % 7 + 1);
    printf("%s %.17g\n", ops->isa, sum);
    return 0;
}
