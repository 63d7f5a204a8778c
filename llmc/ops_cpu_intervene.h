/*
The operations of intervene.h on `cpu`. They run in experiments alone, once a layer, so they are plain loops, the same at every
instruction set; only what is stored as bf16 differs from ops_ref.h.
*/
#ifndef LLMC_OPS_CPU_INTERVENE_H
#define LLMC_OPS_CPU_INTERVENE_H

#include "ops.h"

void cpu_mix_blocks(float *x, const float *other, const unsigned char *take, int T, int blocks, int n) {
    #pragma omp parallel for if ((size_t)T * blocks * n > 8192)
    for (int t = 0; t < T; t++) {
        for (int j = 0; j < blocks; j++) {
            size_t at = ((size_t)t * blocks + j) * n;
            if (take[j]) memcpy(x + at, other + at, (size_t)n * sizeof(float));
        }
    }
}

void cpu_act_add_row(act *x, const float *s, int T, int C) {
    #pragma omp parallel for if ((size_t)T * C > 8192)
    for (int t = 0; t < T; t++) {
        bf16_t *row = (bf16_t *)x + (size_t)t * C;
        for (int c = 0; c < C; c++) row[c] = f32_to_bf16(bf16_to_f32(row[c]) + s[c]);
    }
}

void cpu_put_rows(float *h, const float *v, const int *pos, int at, int T, int C) {
    for (int t = 0; t < T; t++) if (pos[t] == at) memcpy(h + (size_t)t * C, v, (size_t)C * sizeof(float));
}

#endif
