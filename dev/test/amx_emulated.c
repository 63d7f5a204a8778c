/*
The level `amx_emulated`: the tile code of llmc/cpu/tile_amx.h over arrays that stand in for the tile registers, the
rest as portable. So that code is tested on any machine; where AMX exists, bit for bit against it.
*/
#include <math.h>            // fabsf, fmaf, copysignf
#include "llmc/cpu/shared.h" // CpuFill

typedef struct {
    uint32_t row[16][16];
} AmxTile;
static __thread AmxTile amx_tiles[8];

static inline void amx_emulated_load(AmxTile *t, const void *p, size_t stride) {
    for (int i = 0; i < 16; i++) memcpy(t->row[i], (const char *)p + i * stride, 64);
}

static inline void amx_emulated_store(const AmxTile *t, void *p, size_t stride) {
    for (int i = 0; i < 16; i++) memcpy((char *)p + i * stride, t->row[i], 64);
}

// Intel's definition, which rounds to nearest and takes subnormals for zero.
static inline float amx_flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

static inline void amx_emulated_dp(AmxTile *c, const AmxTile *a, const AmxTile *b) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < 16; k++) {
                uint32_t x = a->row[m][k], y = b->row[k][n];
                float x0 = amx_flush(bf16_to_f32((bf16_t)x)), x1 = amx_flush(bf16_to_f32((bf16_t)(x >> 16)));
                float y0 = amx_flush(bf16_to_f32((bf16_t)y)), y1 = amx_flush(bf16_to_f32((bf16_t)(y >> 16)));
                even = amx_flush(fmaf(x0, y0, even));
                odd = amx_flush(fmaf(x1, y1, odd));
            }
            memcpy(&sum, &c->row[m][n], 4);
            sum = amx_flush(amx_flush(sum) + amx_flush(even + odd));
            memcpy(&c->row[m][n], &sum, 4);
        }
}

#define TILE_BEGIN() ((void)0)
#define TILE_END() ((void)0)
#define TILE_ZERO(i) memset(&amx_tiles[i], 0, sizeof(AmxTile))
#define TILE_LOAD(i, p, stride) amx_emulated_load(&amx_tiles[i], p, stride)
#define TILE_STREAM TILE_LOAD
#define TILE_STORE(i, p, stride) amx_emulated_store(&amx_tiles[i], p, stride)
#define TILE_DP(c, a, b) amx_emulated_dp(&amx_tiles[c], &amx_tiles[a], &amx_tiles[b])

#ifdef __cplusplus
extern "C"
#endif
    CpuFill cpu_level_amx_emulated;
#define AMX_EMULATED 1
#define SIMD amx_emulated
#include "llmc/cpu/level.c"
