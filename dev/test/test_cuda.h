// The operations of cuda: those that test_matmul.h and test_ops.h judge on the CPU, through host_ops.h, and what is
// cuda's own: memory that the host cannot touch, copies in pieces, an embedding shared with the output layer, the
// update of the vectors.
#ifndef DEV_TEST_TEST_CUDA_H
#define DEV_TEST_TEST_CUDA_H

#include "dev/test/backends.h"            // test_cuda_ops; CHECK
#include "dev/test/host_ops.h"            // host_ops, hosted_bits
#include "dev/test/test_cuda_attention.h" // test_cuda_attention
#include "dev/test/test_cuda_graph.h"     // test_cuda_graph
#include "dev/test/test_cuda_time.h"      // test_cuda_time
#include "dev/test/test_matmul.h"         // test_matmul_on
#include "dev/test/test_ops.h"            // test_ops_on
#include "llmc/utils/rng.h"               // rng_uniform

// Sizes around the pieces of 8 MiB in which copies go; the host's memory is overwritten as soon as upload returns.
void test_cuda_copies(const Ops *ops) {
    static const size_t sizes[] = {0, 1, 255, 257, (8u << 20) - 1, 8u << 20, (8u << 20) + 1, (20u << 20) + 3};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s], wrong = 0;
        unsigned char *host = (unsigned char *)xmalloc(n + 1), *back = (unsigned char *)xmalloc(n + 1);
        unsigned char *there[2] = {(unsigned char *)ops->alloc(n), (unsigned char *)ops->alloc(n)};
        memset(back, 1, n + 1);
        ops->download(back, there[0], n);
        for (size_t i = 0; i < n; i++) wrong += back[i] != 0;
        CHECK(wrong == 0 && back[n] == 1 && (uintptr_t)there[0] % 64 == 0, "%s: alloc(%zu): %zu bytes are not 0",
              ops->isa, n, wrong);
        for (int copy = 0; copy < 2; copy++) {
            for (size_t i = 0; i < n; i++) host[i] = (unsigned char)(i * 7 + (i >> 8) + (size_t)copy);
            ops->upload(there[copy], host, n);
        }
        memset(host, 0xAA, n);
        for (int copy = 0; copy < 2; copy++) {
            ops->download(back, there[copy], n);
            for (size_t i = 0; i < n; i++) wrong += back[i] != (unsigned char)(i * 7 + (i >> 8) + (size_t)copy);
        }
        CHECK(wrong == 0, "%s: %zu of %zu bytes came back wrong", ops->isa, wrong, n);
        if (n > 100) { // a part in the middle
            ops->upload(there[0] + 17, host, 50);
            ops->zero(there[0] + 30, 20);
            ops->download(back, there[0], n);
            for (size_t i = 0; i < n; i++)
                wrong += back[i] != (i >= 30 && i < 50   ? 0
                                     : i >= 17 && i < 67 ? 0xAA
                                                         : (unsigned char)(i * 7 + (i >> 8)));
            CHECK(wrong == 0, "%s: a part of %zu bytes: %zu are wrong", ops->isa, n, wrong);
        }
        ops->release(there[0]);
        ops->release(there[1]);
        free(host);
        free(back);
    }
    ops->release(NULL);
}

// An output layer tied to a bf16 embedding is the same memory, whichever is freed first; other tensors are not.
void test_cuda_tied(const Ops *ops) {
    enum { V = 40, C = 24 };
    bf16_t file[V * C], other[V * C];
    float whole[V * C], h[C];
    for (int i = 0; i < V * C; i++) whole[i] = bf16_to_f32(file[i] = other[i] = f32_to_bf16((float)(i % 97) - 40));
    const RawTensor raw = {"wte", DTYPE_BF16, 2, {V, C, 0, 0}, file},
                    apart = {"head", DTYPE_BF16, 2, {V, C, 0, 0}, other};
    const RawTensor wide = {"wte", DTYPE_F32, 2, {V, C, 0, 0}, whole};
    const int id = 7;
    int *d_id = (int *)ops->alloc(sizeof id);
    float *d_h = (float *)ops->alloc(sizeof h);
    ops->upload(d_id, &id, sizeof id);
    for (int first = 0; first < 2; first++) {
        RawTensor wte = ops->embedding_load(&raw), wte_wide = ops->embedding_load(&wide);
        Weight head, untied, head_wide;
        ops->weight_load(&head, &raw, 1);
        ops->weight_load(&untied, &apart, 1);
        ops->weight_load(&head_wide, &wide, 1);
        CHECK(head.data == wte.data && untied.data != wte.data && head_wide.data != wte_wide.data,
              "%s: which weights share the embedding", ops->isa);
        if (first == 1) ops->weight_free(&head);
        if (first == 1) ops->embed(d_h, d_id, &wte, 1, C);
        ops->embedding_free(&wte);
        if (first == 0) { // the other one still has it
            act *x = ops->alloc(C * ops->act_bytes);
            float *y = (float *)ops->alloc(V * sizeof(float)), logits[V];
            bf16_t unit[C] = {0};
            unit[3] = f32_to_bf16(1);
            ops->upload(x, unit, sizeof unit);
            ops->matmul_forward(y, x, &head, NULL, 1);
            ops->download(logits, y, sizeof logits);
            int wrong = 0;
            for (int v = 0; v < V; v++) wrong += logits[v] != whole[v * C + 3];
            CHECK(wrong == 0, "%s: %d logits of a tied layer are wrong once the embedding is freed", ops->isa, wrong);
            ops->release(x);
            ops->release(y);
            ops->weight_free(&head);
        } else {
            ops->download(h, d_h, sizeof h);
            CHECK(memcmp(h, whole + id * C, sizeof h) == 0,
                  "%s: the embedding is wrong once the layer tied to it is freed", ops->isa);
        }
        ops->weight_free(&untied);
        ops->weight_free(&head_wide);
        ops->embedding_free(&wte_wide);
    }
    ops->release(d_id);
    ops->release(d_h);
}

// ds after 300 rows, in one call or in pieces: the same chain of additions as ref's rows added one after the other.
void test_cuda_column_sum(const Ops *ops) {
    enum { T = 300, C = 21 };
    float *dh = (float *)xmalloc(T * C * sizeof(float)), want[C] = {0}, got[C] = {0};
    for (int i = 0; i < T * C; i++) dh[i] = rng_uniform(11, RNG_TOKEN, (uint32_t)i, 0, 0, 0) - 0.4f;
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) want[c] += dh[t * C + c];
    static const int cuts[] = {0, 1, 129, 257, T};
    for (int i = 0; i < 4; i++) ops->column_sum(got, dh + cuts[i] * C, cuts[i + 1] - cuts[i], C);
    CHECK(memcmp(got, want, sizeof got) == 0, "%s column_sum: other bits than rows added in order", ops->isa);
    free(dh);
}

// The bits of host_adamw_update and host_momentum_update over three steps; the norm up to the order of its sum, in
// double.
void test_cuda_update(const Ops *ops) {
    static const size_t sizes[] = {1, 255, 21504};
    const AdamW adamw = {1e-2, 0.9, 0.999, 1e-8, 0.1};
    for (int s = 0; s < 3; s++) {
        size_t n = sizes[s];
        float *x[2], *m[2], *v[2], *g = (float *)xmalloc(n * sizeof(float));
        for (int side = 0; side < 2; side++) {
            x[side] = (float *)xcalloc(n, sizeof(float));
            m[side] = (float *)xcalloc(n, sizeof(float));
            v[side] = (float *)xcalloc(n, sizeof(float));
        }
        for (int step = 1; step <= 3; step++) {
            for (size_t i = 0; i < n; i++) g[i] = rng_uniform(9, RNG_TOKEN, (uint32_t)i, (uint32_t)step, 0, 0) - 0.5f;
            double norm = ops->gradient_norm(g, n), want = host_gradient_norm(g, n);
            CHECK(fabs(norm - want) <= 1e-13 * want, "%s gradient_norm of %zu: %.17g, expected %.17g", ops->isa, n,
                  norm, want);
            ops->adamw_update(x[0], m[0], v[0], g, 0.7, n, step, &adamw);
            host_adamw_update(x[1], m[1], v[1], g, 0.7, n, step, &adamw);
            ops->momentum_update(x[0], m[0], g, 0.3, n, step, 1e-2, 0.9);
            host_momentum_update(x[1], m[1], g, 0.3, n, step, 1e-2, 0.9);
        }
        size_t bytes = n * sizeof(float);
        CHECK(memcmp(x[0], x[1], bytes) == 0 && memcmp(m[0], m[1], bytes) == 0 && memcmp(v[0], v[1], bytes) == 0,
              "%s adamw_update and momentum_update of %zu: other bits than on the host", ops->isa, n);
        for (int side = 0; side < 2; side++) {
            free(x[side]);
            free(m[side]);
            free(v[side]);
        }
        free(g);
    }
}

// Products that cuBLASLt refuses are done by a plain kernel, and a row may have other bits in another batch: both of
// them where the emulator's cuBLASLt is as difficult as the real one may be. Shapes that nobody has asked for before.
void test_cuda_products(const Ops *ops) {
    enum { N = 259, K = 96, T = 19 };
    if (!test_other_cublaslt(true)) return;
    const int shapes[4][3] = {{1, N, K}, {T, N, K}, {T, 40, 51}, {70, 33, 88}};
    for (int i = 0; i < 4; i++) test_matmul_shape(ops, shapes[i][0], shapes[i][1], shapes[i][2], true);
    TestMatmul m = test_matmul_make(ops, T, 136, 904, 3);
    float *y = (float *)xmalloc(T * 136 * sizeof *y), alone[136], dw[2][5 * 7] = {{0}}, dy[3 * 5], x[3 * 7];
    test_matmul_run(ops, &m, y, false, false, 0, T);
    test_matmul_run(ops, &m, alone, false, false, 0, 1);
    CHECK(memcmp(y, alone, sizeof alone) != 0, "%s: the difficult cuBLASLt gives a row alone the same bits", ops->isa);
    test_matmul_free(ops, &m);
    free(y);

    // += of a weight's gradient, of 5 x 7
    for (int i = 0; i < 3 * 5; i++) dy[i] = (float)(i % 4) - 1;
    for (int i = 0; i < 3 * 7; i++) x[i] = (float)(i % 3) + 1;
    for (int i = 0; i < 5 * 7; i++) dw[0][i] = dw[1][i] = (float)i;
    act *d_dy = op_act(ops, dy, 3 * 5), *d_x = op_act(ops, x, 3 * 7);
    ops->matmul_weight_backward(dw[0], d_dy, d_x, 3, 5, 7);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 5 * 7; i++) dw[1][i] += dy[t * 5 + i / 7] * x[t * 7 + i % 7];
    CHECK(memcmp(dw[0], dw[1], sizeof dw[0]) == 0, "%s: a weight's gradient of 5 x 7", ops->isa);
    ops->release(d_dy);
    ops->release(d_x);
    test_other_cublaslt(false);
}

void test_cuda(void) {
    const Ops *ops = test_cuda_ops();
    if (!ops) return;
    test_cuda_copies(ops);
    test_cuda_tied(ops);
    test_cuda_graph(ops);
    test_cuda_time(ops);
    test_cuda_column_sum(host_ops(ops));
    test_cuda_update(host_ops(ops));
    test_matmul_on(host_ops(ops));
    test_ops_on(host_ops(ops));
    test_cuda_attention(host_ops(ops));
    test_ops_interventions(ops);
    const uint64_t bits = hosted_bits; // without those of the difficult one
    test_cuda_products(host_ops(ops));
    hosted_bits = bits;
    printf("cuda (%s): all outputs' bits %016llx\n", ops->isa,
           (unsigned long long)hosted_bits); // the same under every schedule: emulated.sh
}

#endif
