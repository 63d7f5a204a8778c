/*
Products of quantised weights and rows of a quantised embedding against those of the same numbers in bf16, bit by bit,
on every backend.
*/
#ifndef DEV_TEST_TEST_GGUF_OPS_H
#define DEV_TEST_TEST_GGUF_OPS_H

#include "dev/test/backends.h"         // test_cpu_backends
#include "dev/test/host_ops.h"         // host_ops
#include "dev/test/test_safetensors.h" // mf_random
#include "llmc/files/files.h"          // dtype_name

// Random blocks of any bytes with a scale of a sensible size.
uint8_t *gguf_blocks(DType t, size_t n, uint32_t *state) {
    const DTypeInfo type = dtype_info(t);
    uint8_t *b = (uint8_t *)xmalloc(dtype_size(t, n));
    for (size_t i = 0; i < dtype_size(t, n); i++) b[i] = (uint8_t)(mf_random(state) >> 8);
    for (size_t i = 0; i < n / (size_t)type.block; i++) {
        uint8_t *d = b + i * (size_t)type.bytes + (t == DTYPE_Q6_K ? 208 : 0);
        d[1] = (uint8_t)(0x18 + (d[1] & 7)); // about 2^-9 ... 2^-8
        if (t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K)
            d[3] = (uint8_t)(0x18 + (d[3] & 0x87));
    }
    return b;
}

// y and dx of one to three stacked matrices of quantised types against those of the same numbers in bf16.
void gguf_product(const Ops *ops, const DType *types, int n_raw, int N, int K, int T, uint32_t *state) {
    const size_t act_bytes = ops->act_bytes, in = (size_t)T * (size_t)(K > n_raw * N ? K : n_raw * N);
    RawTensor raw[2][3];
    Weight w[2];
    memset(raw, 0, sizeof raw);
    float *x = (float *)ops->alloc(in * sizeof *x), *y[2], *bias = (float *)ops->alloc((size_t)(3 * N) * sizeof *x);
    void *a = ops->alloc(in * act_bytes);
    for (size_t i = 0; i < in; i++) x[i] = (float)(int32_t)mf_random(state) * 0x1p-31f;
    for (int i = 0; i < 3 * N; i++) bias[i] = (float)(int32_t)mf_random(state) * 0x1p-31f;
    ops->to_act(a, x, in);
    for (int i = 0; i < n_raw; i++) {
        const size_t n = (size_t)N * K;
        bf16_t *half = (bf16_t *)xmalloc(n * sizeof *half);
        uint8_t *blocks = gguf_blocks(types[i], n, state);
        quant_bf16(half, types[i], blocks, 0, n);
        const RawTensor both[2] = {{"q", types[i], 2, {N, K, 0, 0}, blocks}, {"h", DTYPE_BF16, 2, {N, K, 0, 0}, half}};
        raw[0][i] = both[0];
        raw[1][i] = both[1];
    }
    bool same = true;
    for (int k = 0; k < 2; k++) {
        ops->weight_load(&w[k], raw[k], n_raw);
        y[k] = (float *)ops->alloc(in * sizeof *y[k]);
    }
    for (int pass = 0; pass < 4; pass++) {
        for (int k = 0; k < 2; k++) {
            if (pass == 0) ops->matmul_forward(y[k], a, &w[k], bias, T);
            if (pass == 1) ops->matmul_forward(y[k], a, &w[k], NULL, T);
            if (pass == 2) ops->matmul_backward(y[k], a, &w[k], T);
            if (pass == 3 && ops->matmul_swiglu_forward && n_raw == 2)
                ops->matmul_swiglu_forward(y[k], (char *)y[k] + (size_t)T * N * act_bytes, x, a, &w[k], T);
        }
        same = same && memcmp(y[0], y[1], in * sizeof *y[0]) == 0;
    }
    CHECK(same, "%s: %s%s, %d x [%d, %d], %d rows: not the bits of the bf16 matrix", ops->isa, dtype_name(types[0]),
          n_raw > 1 ? " and others" : "", n_raw, N, K, T);
    for (int k = 0; k < 2; k++) {
        ops->weight_free(&w[k]);
        ops->release(y[k]);
        for (int i = 0; i < n_raw; i++) free((void *)raw[k][i].data);
    }
    ops->release(x);
    ops->release(bias);
    ops->release(a);
}

// Rows of a quantised embedding matrix.
void gguf_embedding(const Ops *ops, DType t, uint32_t *state) {
    enum { V = 9, C = 768, T = 4 };
    const int ids[T] = {8, 0, 3, 8};
    uint8_t *blocks = gguf_blocks(t, (size_t)V * C, state);
    bf16_t half[V * C];
    float h[2][T * C];
    quant_bf16(half, t, blocks, 0, (size_t)V * C);
    const RawTensor raw[2] = {{"q", t, 2, {V, C, 0, 0}, blocks}, {"h", DTYPE_BF16, 2, {V, C, 0, 0}, half}};
    for (int k = 0; k < 2; k++) ops->embed(h[k], ids, &raw[k], T, C);
    CHECK(memcmp(h[0], h[1], sizeof h[0]) == 0, "%s: %s: rows of an embedding", ops->isa, dtype_name(t));
    free(blocks);
}

void test_gguf_products(void) {
    const Ops *list[CPU_LEVELS + 2], *cuda = test_cuda_ops();
    int n = test_cpu_backends(list);
    list[n++] = ops_ref_init();
    if (cuda) list[n++] = host_ops(cuda);
    static const int rows[] = {1, 2, 5, 16, 17, 32, 33, 70, 400, 600};
    uint32_t state = 3;
    for (int b = 0; b < n; b++)
        for (int t = DTYPE_Q8_0; t < DTYPES; t++) {
            const int block = dtype_info((DType)t).block;
            const DType one[1] = {(DType)t}, two[2] = {(DType)t, block == 256 ? DTYPE_Q6_K : DTYPE_Q8_0},
                        three[3] = {(DType)t, block == 256 ? DTYPE_Q4_K : DTYPE_Q5_0, (DType)t};
            gguf_embedding(list[b], (DType)t, &state);
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                if (rows[r] > 70 && (test_few() || t % 3 != b % 3 || list[b]->act_bytes == 4)) continue;
                gguf_product(list[b], one, 1, 65, block == 256 ? 512 : 224, rows[r], &state);
                if (r % 3 == 0) gguf_product(list[b], three, 3, 48, block == 256 ? 1280 : 1056, rows[r], &state);
                if (rows[r] == 600) gguf_product(list[b], two, 2, 512, block == 256 ? 256 : 96, rows[r], &state);
                if (r % 3 == 1) gguf_product(list[b], two, 2, 128, block == 256 ? 768 : 96, rows[r], &state);
            }
        }
}

#endif
