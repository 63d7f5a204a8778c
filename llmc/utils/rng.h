/*
Randomness that does not depend on order: every number is a pure function of what it is for. A sampled token
draws at (seed, step, prompt, sample, position), so the same run gives the same tokens whatever the batching,
the number of threads or ranks, and across a restart; there is no generator state to save.

Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
*/
#ifndef LLMC_UTILS_RNG_H
#define LLMC_UTILS_RNG_H

#include "llmc/utils/utils.h"

typedef struct {
    uint32_t v[4];
} Philox;

// Ten rounds over a counter of four words under a key of two.
Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter.v[0], b = (uint64_t)0xCD9E8D57u * counter.v[2];
        Philox next;
        next.v[0] = (uint32_t)(b >> 32) ^ counter.v[1] ^ key0;
        next.v[1] = (uint32_t)b;
        next.v[2] = (uint32_t)(a >> 32) ^ counter.v[3] ^ key1;
        next.v[3] = (uint32_t)a;
        counter = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// What a number is drawn for; the streams never overlap.
typedef enum { RNG_TOKEN, RNG_SHUFFLE, RNG_REWARD, RNG_SPLIT, RNG_INIT } RngUse;

// 32 random bits for (seed, use; a, b, c, d), e.g. (seed, RNG_TOKEN; step, prompt, sample, position).
// step and prompt share the key and the counter as full 32-bit words.
uint32_t rng_bits(uint32_t seed, RngUse use, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    Philox counter = {{a, b, c, d}};
    return philox(counter, seed, (uint32_t)use).v[0];
}

// Uniform in [0, 1): 24 bits, so that every value is an exact float.
float rng_uniform(uint32_t seed, RngUse use, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return (float)(rng_bits(seed, use, a, b, c, d) >> 8) * 0x1p-24f;
}

// A permutation of 0 ... n-1 for this epoch (Fisher-Yates; the modulo's bias is below n / 2^32).
void rng_permutation(int *order, int n, uint32_t seed, RngUse use, uint32_t epoch) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(rng_bits(seed, use, epoch, (uint32_t)i, 0, 0) % (uint32_t)(i + 1));
        int t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

#endif
