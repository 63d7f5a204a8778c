/*
Operations that are plain loops, the same at every level: copies of rows and pages, and those of intervene.h, which run
in experiments alone, once a layer.
*/
#ifndef LLMC_CPU_PLAIN_H
#define LLMC_CPU_PLAIN_H

#include "llmc/cpu/shared.h" // cpu_kv_page, CPU_PARALLEL_MIN
#include "llmc/utils/threads.h"

static void cpu_gather_rows(float *out, const float *x, const int *rows, int n, int C) {
    #pragma omp parallel for if ((size_t)n * C > CPU_PARALLEL_MIN)
    for (int i = 0; i < n; i++) memcpy(out + (size_t)i * C, x + (size_t)rows[i] * C, (size_t)C * sizeof *out);
}

static void cpu_kv_copy_page(KVCache *kv, int to_page, int from_page) {
    size_t bytes = (size_t)kv->NKV * KV_PAGE * kv->HD * sizeof(bf16_t);
    for (int l = 0; l < kv->L; l++) {
        memcpy(cpu_kv_page(kv->k, kv, l, to_page, 0), cpu_kv_page(kv->k, kv, l, from_page, 0), bytes);
        memcpy(cpu_kv_page(kv->v, kv, l, to_page, 0), cpu_kv_page(kv->v, kv, l, from_page, 0), bytes);
    }
}

static void cpu_mix_blocks(float *x, const float *other, const unsigned char *take, int T, int blocks, int n) {
    #pragma omp parallel for if ((size_t)T * blocks * n > 8192)
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < blocks; j++) {
            size_t at = ((size_t)t * blocks + j) * n;
            if (take[j]) memcpy(x + at, other + at, (size_t)n * sizeof(float));
        }
    }
}

static void cpu_act_add_row(act *x, const float *s, int T, int C) {
    #pragma omp parallel for if ((size_t)T * C > 8192)
    for (int t = 0; t < T; t++) {
        bf16_t *row = (bf16_t *)x + (size_t)t * C;
        for (int c = 0; c < C; c++) row[c] = f32_to_bf16(bf16_to_f32(row[c]) + s[c]);
    }
}

static void cpu_put_rows(float *h, const float *v, const int *pos, int at, int T, int C) {
    for (int t = 0; t < T; t++)
        if (pos[t] == at) memcpy(h + (size_t)t * C, v, (size_t)C * sizeof(float));
}

#endif
