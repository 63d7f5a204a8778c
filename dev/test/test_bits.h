/*
The bits of the operations, as numbers in recorded_bits.h: avx2, avx512 and neon give the same, on any machine. Input is
made by integers and exact divisions alone, so that it does not depend on a library of functions; exp and log (double),
of which the outputs are made, and logf are the C library's, and agree between glibc's x86 (with FMA) and aarch64.

After a change that is meant to change bits: ./test_steer bits prints the lines to record.
*/
#ifndef DEV_TEST_TEST_BITS_H
#define DEV_TEST_TEST_BITS_H

#include "dev/test/backends.h" // test_cpu_backends
#include "dev/test/recorded_bits.h"
#include "llmc/utils/threads.h"

static uint64_t bits_state;

float bits_random(void) { // multiples of 2^-23 in -1 ... 1
    bits_state = bits_state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int64_t)(bits_state >> 40) - (1 << 23)) * 0x1p-23f;
}

float *bits_floats(size_t n, float scale) {
    float *x = (float *)xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = bits_random() * scale;
    return x;
}

bf16_t *bits_acts(size_t n, float scale) {
    bf16_t *x = (bf16_t *)xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = f32_to_bf16(bits_random() * scale);
    return x;
}

// FNV-1a over words of 16 bits, so that the order of bytes in memory does not matter
void bits_add(uint64_t *hash, const void *data, size_t n, size_t size) {
    for (size_t i = 0; i < n; i++) {
        uint32_t word = 0;
        uint16_t half;
        if (size == 4) memcpy(&word, (const char *)data + 4 * i, 4);
        else {
            memcpy(&half, (const char *)data + 2 * i, 2);
            word = half;
        }
        for (size_t part = 0; part < size; part += 2)
            *hash = (*hash ^ ((word >> (8 * part)) & 0xFFFF)) * 0x100000001B3u;
    }
}

uint64_t bits_matmul(const Ops *ops, bool backward) {
    static const int shapes[][3] = {{1, 65, 96},   {6, 16, 30},  {7, 130, 31},
                                    {12, 64, 896}, {13, 33, 66}, {70, 96, 1100}}; // T, N, K
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const int T = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
        bf16_t *file = bits_acts((size_t)N * K, 1), *in = bits_acts((size_t)T * (backward ? N : K), 1);
        float *bias = bits_floats((size_t)N, 1), *out = bits_floats((size_t)T * (backward ? K : N), 1);
        const RawTensor raw = {"bits", DTYPE_BF16, 2, {N, K, 0, 0}, file};
        Weight w;
        ops->weight_load(&w, &raw, 1);
        if (backward) ops->matmul_backward(out, in, &w, T);
        else ops->matmul_forward(out, in, &w, bias, T);
        bits_add(&hash, out, (size_t)T * (backward ? K : N), 4);
        ops->weight_free(&w);
        free(file), free(in), free(bias), free(out);
    }
    return hash;
}

uint64_t bits_rows(const Ops *ops) {
    uint64_t hash = 0xCBF29CE484222325u;
    static const int columns[] = {30, 96, 897};
    for (int s = 0; s < 3; s++) {
        const int T = 5, C = columns[s];
        const size_t n = (size_t)T * C;
        float *h = bits_floats(n, 2), *y = bits_floats(n, 1), *w = bits_floats((size_t)C, 1),
              *v = bits_floats((size_t)C, 1), *gu = bits_floats(2 * n, 8), rstd[5];
        bf16_t *x = bits_acts(n, 1), *saved = bits_acts(2 * n, 1), *d = bits_acts(2 * n, 1);
        ops->add_rmsnorm_forward(h, x, rstd, h, y, v, w, 1e-6f, T, C);
        bits_add(&hash, h, n, 4), bits_add(&hash, x, n, 2), bits_add(&hash, rstd, 5, 4);
        ops->rmsnorm_backward(h, x, y, h, rstd, w, T, C);
        bits_add(&hash, h, n, 4), bits_add(&hash, x, n, 2);
        ops->rmsnorm_weight_backward(w, y, h, rstd, T, C);
        bits_add(&hash, w, (size_t)C, 4);
        ops->swiglu_forward(x, saved, gu, T, C);
        bits_add(&hash, x, n, 2), bits_add(&hash, saved, 2 * n, 2);
        ops->swiglu_backward(d, x, y, saved, T, C);
        bits_add(&hash, d, 2 * n, 2), bits_add(&hash, x, n, 2);
        ops->column_sum(v, y, T, C);
        bits_add(&hash, v, (size_t)C, 4);
        free(h), free(y), free(w), free(v), free(gu), free(x), free(saved), free(d);
    }
    return hash;
}

uint64_t bits_rank(const Ops *ops) {
    uint64_t hash = 0xCBF29CE484222325u;
    static const int shapes[][3] = {{1, 96, 1}, {7, 897, 5}, {17, 130, 16}}; // T, K, r
    for (int s = 0; s < 3; s++) {
        const int T = shapes[s][0], K = shapes[s][1], r = shapes[s][2];
        float *a = bits_floats((size_t)r * K, 1), *u = bits_floats((size_t)T * r, 1),
              *y = bits_floats((size_t)T * K, 1);
        bf16_t *x = bits_acts((size_t)T * K, 1);
        ops->lora_up(y, K, u, a, T, K, r);
        ops->lora_grad(a, u, x, K, T, K, r);
        ops->lora_down(u, x, K, a, 0.75f, T, K, r);
        bits_add(&hash, y, (size_t)T * K, 4), bits_add(&hash, a, (size_t)r * K, 4),
            bits_add(&hash, u, (size_t)T * r, 4);
        free(a), free(u), free(y), free(x);
    }
    return hash;
}

// RoPE, the cache, attention forward and backward of a prompt of 20 and two completions, the second across two blocks
// of keys
uint64_t bits_attention(const Ops *ops, int NH, int NKV, int HD) {
    uint64_t hash = 0xCBF29CE484222325u;
    enum { T = 20 + 9 + 150, PAGES = 1 + 2 + 11 };
    const int QKV = (NH + 2 * NKV) * HD;
    int pages[3][11], pos[T], row[2 * T], slot[2 * T], n_writes = 0, n_pages = 0;
    Sequence sequences[3] = {{0, 20, 0, pages[0], 0, 0}, {20, 9, 20, pages[1], 0, 0}, {29, 150, 20, pages[2], 0, 0}};
    for (int s = 0; s < 3; s++)
        for (int p = 0; p < sequences[s].pos0 + sequences[s].T;
             p++) { // the prompt's full page is shared, the other is each sequence's own
            const bool shared = s > 0 && p < KV_PAGE;
            if (p % KV_PAGE == 0) pages[s][p / KV_PAGE] = shared ? pages[0][0] : n_pages++;
            if (p >= sequences[s].pos0) pos[sequences[s].row0 + p - sequences[s].pos0] = p;
            if (shared) continue;
            row[n_writes] = p < sequences[s].pos0 ? p : sequences[s].row0 + p - sequences[s].pos0;
            slot[n_writes++] = pages[s][p / KV_PAGE] * KV_PAGE + p % KV_PAGE;
        }
    const size_t cache = (size_t)(PAGES + 2) * NKV * KV_PAGE * HD * ops->act_bytes, n = (size_t)T * NH * HD,
                 n_kv = (size_t)T * NKV * HD;
    KVCache kv = {1, NKV, HD, PAGES + 2, ops->alloc(cache), ops->alloc(cache)};
    float *qkv = bits_floats((size_t)T * QKV, 2), *rope = bits_floats((size_t)170 * HD, 1), *dout = bits_floats(n, 1),
          *lse = bits_floats((size_t)T * NH, 1);
    float *dq = bits_floats(n, 1), *dk = bits_floats(n_kv, 1), *dv = bits_floats(n_kv, 1);
    bf16_t *q = bits_acts(n, 1), *out = bits_acts(n, 1), *dqkv = bits_acts((size_t)T * QKV, 1);
    ops->rope_kv_write(q, &kv, 0, qkv, rope, pos, row, slot, n_writes, T, NH);
    ops->attention_forward(out, lse, q, &kv, 0, sequences, 3, NH);
    bits_add(&hash, q, n, 2), bits_add(&hash, out, n, 2), bits_add(&hash, lse, (size_t)T * NH, 4);
    ops->attention_backward(dq, dk, dv, dout, out, lse, q, &kv, 0, sequences, 3, T, NH);
    bits_add(&hash, dq, n, 4), bits_add(&hash, dk, n_kv, 4), bits_add(&hash, dv, n_kv, 4);
    ops->rope_backward(dqkv, dq, dk, dv, rope, pos, T, NH, NKV, HD);
    bits_add(&hash, dqkv, (size_t)T * QKV, 2);
    ops->release(kv.k), ops->release(kv.v);
    free(qkv), free(rope), free(dout), free(lse), free(dq), free(dk), free(dv), free(q), free(out), free(dqkv);
    return hash;
}

uint64_t bits_output(const Ops *ops) {
    uint64_t hash = 0xCBF29CE484222325u;
    enum { N = 6, V = 9001 };
    float *logits = bits_floats((size_t)N * V, 20), u[N], logprob[N], lse[N], entropy[N], d[N];
    bf16_t *dlogits = bits_acts((size_t)N * V, 1);
    int target[N], token[N];
    for (int i = 0; i < N; i++) {
        target[i] = i * 1789;
        u[i] = 0.5f + 0.5f * bits_random();
        d[i] = bits_random();
    }
    ops->logprob_rows(logprob, lse, entropy, logits, target, 0.75f, N, V);
    ops->dlogits_rows(dlogits, logits, lse, target, d, 0.75f, N, V);
    bits_add(&hash, logprob, N, 4), bits_add(&hash, lse, N, 4), bits_add(&hash, entropy, N, 4),
        bits_add(&hash, dlogits, (size_t)N * V, 2);
    for (int form = 0; form < 3; form++) {
        ops->sample_rows(token, logprob, logits, u, form == 2 ? 0.0f : 1.5f, form == 1 ? 50 : 0,
                         form == 1 ? 0.9f : 1.0f, N, V);
        bits_add(&hash, token, N, 4), bits_add(&hash, logprob, N, 4);
    }
    free(logits), free(dlogits);
    return hash;
}

void test_bits_on(const Ops *ops) {
    uint64_t hash[BITS_RECORDS];
    bits_state = 1;
    hash[0] = bits_matmul(ops, false);
    hash[1] = bits_matmul(ops, true);
    hash[2] = bits_rows(ops);
    hash[3] = bits_rank(ops);
    hash[4] = bits_attention(ops, 14, 2, 64);
    hash[5] = bits_attention(ops, 5, 1, 24);
    hash[6] = bits_output(ops);
    for (int i = 0; i < BITS_RECORDS; i++)
        CHECK(hash[i] == recorded_bits[i].hash, "%s %s: other bits than recorded: {\"%s\", 0x%016llXu},", ops->isa,
              recorded_bits[i].what, recorded_bits[i].what, (unsigned long long)hash[i]);
}

void test_bits(void) {
    const Ops *backends[CPU_LEVELS];
    const int n = test_cpu_backends(backends);
    for (int i = 0; i < n; i++)
        if (!strcmp(backends[i]->isa, "avx2") || !strcmp(backends[i]->isa, "avx512") ||
            !strcmp(backends[i]->isa, "neon"))
            test_bits_on(backends[i]);
}

#endif
