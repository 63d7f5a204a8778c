/*
Types of a weight in a file: floats, and ggml's quantised blocks (GGUF, llama.cpp), and what a block means.

A quantised row is a run of blocks of 32 or 256 neighbours along K; a block is a few scales and small integers q:

    Q8_0           d q                     q in int8
    Q4_0, Q5_0     d (q - 8), d (q - 16)
    Q4_1, Q5_1     d q + m
    Q4_K, Q5_K     (d sc) q - (dmin m)     sc and m of 6 bits for each 32
    Q6_K           (d sc) (q - 32)         sc of 8 bits for each 16

d, m and dmin are fp16. All products are exact in fp32 (11 + 6 + 5 bits at the most), so there is one rounding, in the
sum, and any order gives the bits that the `gguf` package gives.

What is computed with is that number rounded to bf16 (nearest, ties to even), on every backend: a quantised model is the
bf16 model that it dequantises to, its norms and biases, too (files/model_files.h).
*/
#ifndef LLMC_QUANT_H
#define LLMC_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>             // memcpy
#include "llmc/utils/numbers.h" // f16_to_f32, f32_to_bf16

typedef enum {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_Q8_0,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPES
} DType;

typedef struct {
    const char *name;
    int block, bytes; // elements of a block, and its bytes
} DTypeInfo;

NUMBERS_INLINE DTypeInfo dtype_info(DType t) {
    static const DTypeInfo all[DTYPES] = {{"F32", 1, 4},      {"BF16", 1, 2},     {"F16", 1, 2},     {"Q8_0", 32, 34},
                                          {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q4_0", 32, 18},  {"Q4_1", 32, 20},
                                          {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};
    return all[t];
}

NUMBERS_INLINE bool dtype_quantised(DType t) { return t >= DTYPE_Q8_0; }

// Bytes of n elements, n a multiple of the type's block.
NUMBERS_INLINE size_t dtype_size(DType t, size_t n) {
    return n / (size_t)dtype_info(t).block * (size_t)dtype_info(t).bytes;
}

NUMBERS_INLINE float quant_f16(const uint8_t *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

// The 6-bit scale and minimum of the j-th 32 elements of a Q4_K or Q5_K block, from its 12 bytes s.
NUMBERS_INLINE void quant_scale_min(uint8_t *sc, uint8_t *m, const uint8_t *s, int j) {
    *sc = j < 4 ? s[j] & 63 : (uint8_t)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
    *m = j < 4 ? s[j + 4] & 63 : (uint8_t)(s[j + 4] >> 4 | s[j] >> 6 << 4);
}

// x[32] = elements 32 j ... 32 j + 31 of the block at b, exactly. A block of 32 has j = 0 alone.
NUMBERS_INLINE void quant_32(float *x, DType t, const uint8_t *b, int j) {
    if (t == DTYPE_Q8_0) {
        const float d = quant_f16(b);
        for (int i = 0; i < 32; i++) x[i] = d * (float)(int8_t)b[2 + i];
    } else if (t == DTYPE_Q4_0 || t == DTYPE_Q4_1) {
        const float d = quant_f16(b), m = t == DTYPE_Q4_1 ? quant_f16(b + 2) : 0;
        const uint8_t *q = b + (t == DTYPE_Q4_1 ? 4 : 2);
        for (int i = 0; i < 32; i++) {
            const int v = i < 16 ? q[i] & 15 : q[i - 16] >> 4;
            x[i] = t == DTYPE_Q4_1 ? d * (float)v + m : d * (float)(v - 8);
        }
    } else if (t == DTYPE_Q5_0 || t == DTYPE_Q5_1) {
        const float d = quant_f16(b), m = t == DTYPE_Q5_1 ? quant_f16(b + 2) : 0;
        const uint8_t *h = b + (t == DTYPE_Q5_1 ? 4 : 2), *q = h + 4;
        for (int i = 0; i < 32; i++) {
            const int v = (i < 16 ? q[i] & 15 : q[i - 16] >> 4) | (h[i / 8] >> i % 8 & 1) << 4;
            x[i] = t == DTYPE_Q5_1 ? d * (float)v + m : d * (float)(v - 16);
        }
    } else if (t == DTYPE_Q4_K || t == DTYPE_Q5_K) {
        const uint8_t *h = b + 16, *q = b + (t == DTYPE_Q5_K ? 48 : 16) + j / 2 * 32;
        uint8_t sc, m;
        quant_scale_min(&sc, &m, b + 4, j);
        const float d = quant_f16(b) * (float)sc, least = quant_f16(b + 2) * (float)m;
        for (int i = 0; i < 32; i++) {
            const int v = (j % 2 ? q[i] >> 4 : q[i] & 15) | (t == DTYPE_Q5_K ? (h[i] >> j & 1) << 4 : 0);
            x[i] = d * (float)v - least;
        }
    } else if (t == DTYPE_Q6_K) {
        const int n = j / 4, k = j % 4; // of two halves, of four groups
        const uint8_t *ql = b + 64 * n + 32 * (k & 1), *qh = b + 128 + 32 * n, *scale = b + 192 + 2 * j;
        const float d = quant_f16(b + 208);
        for (int i = 0; i < 32; i++) {
            const int v = (k < 2 ? ql[i] & 15 : ql[i] >> 4) | (qh[i] >> 2 * k & 3) << 4;
            x[i] = d * (float)(int8_t)scale[i / 16] * (float)(v - 32);
        }
    }
}

// x[n] = elements first ... first + n - 1 of the quantised numbers at data, exactly.
NUMBERS_INLINE void quant_exact(float *x, DType t, const void *data, size_t first, size_t n) {
    const DTypeInfo type = dtype_info(t);
    for (size_t i = first / 32 * 32; i < first + n; i += 32) {
        float of[32];
        const size_t from = i < first ? first - i : 0, to = first + n - i < 32 ? first + n - i : 32;
        quant_32(of, t, (const uint8_t *)data + i / (size_t)type.block * (size_t)type.bytes,
                 (int)(i % (size_t)type.block / 32));
        memcpy(x + (i + from - first), of + from, (to - from) * sizeof *of);
    }
}

// As above, rounded to bf16: what is computed with.
NUMBERS_INLINE void quant_bf16(bf16_t *x, DType t, const void *data, size_t first, size_t n) {
    for (size_t i = 0; i < n; i += 32) {
        float of[32];
        const size_t k = n - i < 32 ? n - i : 32;
        quant_exact(of, t, data, first + i, k);
        for (size_t j = 0; j < k; j++) x[i + j] = f32_to_bf16(of[j]);
    }
}

// Whether the block at b holds a scale that is NaN or infinite.
NUMBERS_INLINE bool quant_nonfinite(DType t, const uint8_t *b) {
    const bool last = t == DTYPE_Q6_K, two = t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K;
    const uint8_t *d = b + (last ? 208 : 0);
    return (d[1] & 0x7C) == 0x7C || (two && (d[3] & 0x7C) == 0x7C);
}

#endif
