/*
Attention, forward and backward. How a page of the cache lies: cpu_kv_page.

The G = NH/NKV query heads of one key/value head read the same keys, so their queries are taken together:
query vector m of a sequence is row m / G, head m % G of the group. A tile of ATTENTION_TILE query vectors meets
one page of 16 keys at a time; the lanes of a register are the 16 keys (scores) or 16 columns (outputs), and a
query vector has accumulators of its own. Nothing is ever summed across query vectors, so a query's bits do not
depend on which others share its tile.

Forward: the online softmax of Milakov and Gimelshein (2018, arXiv 1805.02867) as in FlashAttention (Dao et al.
2022, arXiv 2205.14135), over blocks of ATTENTION_KEYS keys at absolute positions. A key after a query gets
probability exactly 0 and a block of only such keys multiplies by exactly 1, so it makes no difference whether
it is visited for the sake of another query of the tile. Slots not yet written may hold anything: their scores
are replaced before use and their values are not read.
*/
#ifndef LLMC_CPU_ATTENTION_H
#define LLMC_CPU_ATTENTION_H

#include "llmc/cpu/rows.h"

#define ATTENTION_KEYS 128 // keys between two rescalings of the forward
#define ATTENTION_ROWS 64  // backward: query vectors ...
#define ATTENTION_BLOCK 64 // ... that meet this many keys at a time

#define attention_tile SIMD_NAME(attention_tile)
#define attention_load_keys SIMD_NAME(attention_load_keys)
#define attention_load_queries SIMD_NAME(attention_load_queries)
#define attention_block SIMD_NAME(attention_block)
#define attention_sequence SIMD_NAME(attention_sequence)

#if SIMD_VECTORS == SIMD_AVX512
#define ATTENTION_TILE 8 // accumulators: 8 for scores, 16 for outputs, of 32 registers
#elif SIMD_VECTORS == SIMD_NEON
#define ATTENTION_TILE 8 // 16 accumulators and the inputs of four steps, 8, of 32 registers
#else
#define ATTENTION_TILE 4 // 8 accumulators of 16 registers
#endif

// ----------------------------------------------------------------------------
// the one product all is made of. `pieces`, is_bf16 and n are constants where these are inlined, so the
// accumulators live in registers.

#if SIMD_VECTORS == SIMD_NEON
// Four steps of attention_accumulate: FMLA takes its factor from a lane, so a load of four of p serves four steps
// (p_step 1) or four rows (p_row 1).
SIMD_INLINE void attention_accumulate_4(vf *acc, const float *p, int p_row, int p_step, const void *b, bool is_bf16,
                                        int b_stride, int n, int pieces) {
    vf x[ATTENTION_TILE];
    for (int i = 0; i < n; i++)
        memcpy(&x[i], p_step == 1 ? p + i * p_row : p + i % 2 * 4 + i / 2 * p_step, sizeof x[i]);
    for (int step = 0; step < 4; step++)
        for (int j = 0; j < pieces; j++) {
            const size_t at = (size_t)step * b_stride + j * VF_LANES;
            const vf row = is_bf16 ? vf_load_bf16((const bf16_t *)b + at) : vf_load((const float *)b + at);
            for (int i = 0; i < n; i++) {
                const float factor = p_step == 1 ? x[i][step] : x[2 * step + i / 4][i % 4];
                acc[i * pieces + j] = (vf)vfmaq_n_f32((float32x4_t)acc[i * pieces + j], (float32x4_t)row, factor);
            }
        }
}
#endif

// acc[n][pieces] += sum over steps of p[i * p_row + step * p_step] * b[step * b_stride ...], b bf16 or float
SIMD_INLINE void attention_accumulate(vf *acc, const float *p, int p_row, int p_step, const void *b, bool is_bf16,
                                      int b_stride, int steps, int n, int pieces) {
    int step = 0;
#if SIMD_VECTORS == SIMD_NEON
    for (; step + 4 <= steps && (p_step == 1 || n == ATTENTION_TILE); step += 4) {
        const size_t at = (size_t)step * b_stride;
        const void *from = is_bf16 ? (const void *)((const bf16_t *)b + at) : (const void *)((const float *)b + at);
        attention_accumulate_4(acc, p + step * p_step, p_row, p_step, from, is_bf16, b_stride, n, pieces);
    }
#endif
    for (; step < steps; step++) {
        vf row[2];
        for (int j = 0; j < pieces; j++) {
            size_t at = (size_t)step * b_stride + j * VF_LANES;
            if (is_bf16) row[j] = vf_load_bf16((const bf16_t *)b + at);
            else memcpy(&row[j], (const float *)b + at, sizeof row[j]);
        }
        for (int i = 0; i < n; i++) {
            float x = p[i * p_row + step * p_step];
            for (int j = 0; j < pieces; j++) acc[i * pieces + j] = vf_fma(vf_set1(x), row[j], acc[i * pieces + j]);
        }
    }
}

SIMD_INLINE void attention_load(vf *acc, const float *a, int stride, int n, int pieces) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < pieces; j++) memcpy(&acc[i * pieces + j], a + i * stride + j * VF_LANES, sizeof *acc);
}

SIMD_INLINE void attention_store(float *a, const vf *acc, int stride, int n, int pieces) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < pieces; j++) memcpy(a + i * stride + j * VF_LANES, &acc[i * pieces + j], sizeof *acc);
}

// s[n][s_stride] = q[n] . k for 16 keys; k[HD][16] is a page of the cache or a copy in float
SIMD_INLINE void attention_scores(float *s, int s_stride, const float *q, int q_stride, const void *k, bool is_bf16,
                                  int HD, int n) {
    const int pieces = VF_LANES == 16 ? 1 : 2;
    for (int c = 0; c < KV_PAGE; c += pieces * VF_LANES) {
        vf acc[ATTENTION_TILE * 2];
        for (int i = 0; i < n * pieces; i++) acc[i] = vf_zero();
        const void *kc = is_bf16 ? (const void *)((const bf16_t *)k + c) : (const void *)((const float *)k + c);
        attention_accumulate(acc, q, q_stride, 1, kc, is_bf16, KV_PAGE, HD, n, pieces);
        attention_store(s + c, acc, s_stride, n, pieces);
    }
}

// a[ATTENTION_TILE][stride] += p b[steps][stride]; stride is a multiple of 16
SIMD_INLINE void attention_add_product(float *a, const float *p, int p_row, int p_step, const float *b, int stride,
                                       int steps) {
    vf acc[ATTENTION_TILE * 2];
    int c = 0;
    for (; c + 2 * VF_LANES <= stride; c += 2 * VF_LANES) {
        attention_load(acc, a + c, stride, ATTENTION_TILE, 2);
        attention_accumulate(acc, p, p_row, p_step, b + c, false, stride, steps, ATTENTION_TILE, 2);
        attention_store(a + c, acc, stride, ATTENTION_TILE, 2);
    }
    if (c < stride) {
        attention_load(acc, a + c, stride, ATTENTION_TILE, 1);
        attention_accumulate(acc, p, p_row, p_step, b + c, false, stride, steps, ATTENTION_TILE, 1);
        attention_store(a + c, acc, stride, ATTENTION_TILE, 1);
    }
}

// acc[n][stride] += p[n][ATTENTION_KEYS] v for the columns from c, the values of positions key0 ... end-1
SIMD_INLINE void attention_add_values(float *out, const float *p, const KVCache *kv, int layer, const Sequence *g,
                                      int head, int c, int stride, int key0, int end, int n, int pieces) {
    vf acc[ATTENTION_TILE * 2];
    int HD = kv->HD;
    attention_load(acc, out + c, stride, n, pieces);
    for (int key = key0; key < end; key += KV_PAGE) {
        const bf16_t *v = cpu_kv_page(kv->v, kv, layer, g->pages[key / KV_PAGE], head) + c;
        int steps = end - key < KV_PAGE ? end - key : KV_PAGE;
        if (HD - c >= pieces * VF_LANES) {
            attention_accumulate(acc, p + key - key0, ATTENTION_KEYS, 1, v, true, HD, steps, n, pieces);
        } else { // a head that does not fill its last register: a copy that does
            float copy[KV_PAGE * 2 * VF_LANES] = {0};
            for (int j = 0; j < steps; j++)
                for (int d = 0; d < HD - c; d++) copy[j * pieces * VF_LANES + d] = bf16_to_f32(v[j * HD + d]);
            attention_accumulate(acc, p + key - key0, ATTENTION_KEYS, 1, copy, false, pieces * VF_LANES, steps, n,
                                 pieces);
        }
    }
    attention_store(out + c, acc, stride, n, pieces);
}

// which of the 16 keys from position `key` (of register `part` of them) a query at position pos may see
SIMD_INLINE vi attention_mask(int part, int key, int pos) {
    return vf_lt(vf_lane(part), vf_set1((float)(pos - key + 1)));
}

// ----------------------------------------------------------------------------
// forward

// Query vectors first ... first+n-1 of a sequence's key/value head.
SIMD_INLINE void attention_tile_of(bf16_t *out, float *lse, const bf16_t *q, const KVCache *kv, int layer,
                                   const Sequence *g, int head, int first, int NH, int n) {
    int HD = kv->HD, G = NH / kv->NKV, stride = (HD + 15) & ~15;
    float scale = 1.0f / sqrtf((float)HD);
    float qs[ATTENTION_TILE * CPU_MAX_HD], acc[ATTENTION_TILE * CPU_MAX_HD], p[ATTENTION_TILE * ATTENTION_KEYS];
    float max[ATTENTION_TILE], rescale[16];
    int pos[ATTENTION_TILE];
    size_t at[ATTENTION_TILE]; // (row, head) in q and out
    vf sum[ATTENTION_TILE][VF_PARTS];
    for (int i = 0; i < n; i++) {
        int t = (first + i) / G;
        pos[i] = g->pos0 + t;
        at[i] = (size_t)(g->row0 + t) * NH + head * G + (first + i) % G;
        max[i] = -INFINITY;
        for (int j = 0; j < VF_PARTS; j++) sum[i][j] = vf_zero();
        for (int d = 0; d < stride; d += VF_LANES) {
            vf_store(qs + i * stride + d, vf_get_bf16(q + at[i] * HD + d, HD - d) * scale);
            vf_store(acc + i * stride + d, vf_zero());
        }
    }
    int last = pos[n - 1];
    for (int key0 = 0; key0 <= last; key0 += ATTENTION_KEYS) {
        int end = last + 1 < key0 + ATTENTION_KEYS ? last + 1 : key0 + ATTENTION_KEYS;
        vf top[ATTENTION_TILE][VF_PARTS];
        for (int i = 0; i < n; i++)
            for (int j = 0; j < VF_PARTS; j++) top[i][j] = vf_set1(-INFINITY);
        for (int key = key0; key < end; key += KV_PAGE) {
            float *s = p + key - key0;
            attention_scores(s, ATTENTION_KEYS, qs, stride,
                             cpu_kv_page(kv->k, kv, layer, g->pages[key / KV_PAGE], head), true, HD, n);
            for (int i = 0; i < n; i++)
                for (int j = 0; j < VF_PARTS; j++) {
                    float *at = s + i * ATTENTION_KEYS + j * VF_LANES;
                    vf si = vf_select(attention_mask(j, key, pos[i]), vf_load(at), vf_set1(-INFINITY));
                    top[i][j] = vf_max(si, top[i][j]); // drops a NaN, which exp(s - max) brings back
                    vf_store(at, si);
                }
        }
        for (int i = 0; i < 16; i++) rescale[i] = 0;
        for (int i = 0; i < n; i++) {
            float m = vf_hmax(top[i]), old = max[i];
            if (m > max[i]) max[i] = m;
            rescale[i] = old - max[i];
        }
        for (int i = 0; i < n; i += VF_LANES) vf_store(rescale + i, vf_exp(vf_load(rescale + i)));
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < VF_PARTS; j++) sum[i][j] *= rescale[i];
            for (int key = key0; key < end; key += KV_PAGE)
                for (int j = 0; j < VF_PARTS; j++) {
                    float *at = p + i * ATTENTION_KEYS + key - key0 + j * VF_LANES;
                    vf e = vf_exp(vf_load(at) - max[i]);
                    sum[i][j] += e;
                    vf_store(at, e);
                }
        }
        for (int i = 0; i < n; i++)
            for (int c = 0; c < stride; c += VF_LANES)
                vf_store(acc + i * stride + c, vf_load(acc + i * stride + c) * rescale[i]);
        int c = 0;
        for (; c + 2 * VF_LANES <= stride; c += 2 * VF_LANES)
            attention_add_values(acc, p, kv, layer, g, head, c, stride, key0, end, n, 2);
        if (c < stride) attention_add_values(acc, p, kv, layer, g, head, c, stride, key0, end, n, 1);
    }
    for (int i = 0; i < n; i++) {
        float total = vf_sum(sum[i]);
        // + 0 turns -0 into 0, the one trace that visiting keys of probability 0 could leave
        for (int d = 0; d < HD; d += VF_LANES)
            vf_put_bf16(out + at[i] * HD + d, vf_load(acc + i * stride + d) * (1.0f / total) + 0.0f, HD - d);
        if (lse) lse[at[i]] = max[i] + logf(total);
    }
}

static void attention_tile(bf16_t *out, float *lse, const bf16_t *q, const KVCache *kv, int layer, const Sequence *g,
                           int head, int first, int NH) {
    int left = g->T * (NH / kv->NKV) - first;
    switch (left < ATTENTION_TILE ? left : ATTENTION_TILE) {
    case 1: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 1); break;
    case 2: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 2); break;
    case 3: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 3); break;
    case 4: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 4); break;
#if ATTENTION_TILE == 8
    case 5: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 5); break;
    case 6: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 6); break;
    case 7: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 7); break;
    case 8: attention_tile_of(out, lse, q, kv, layer, g, head, first, NH, 8); break;
#endif
    }
}

static void SIMD_NAME(attention_forward)(act *out, float *lse, const act *q, const KVCache *kv, int layer,
                                         const Sequence *sequences, int n_sequences, int NH) {
    int G = NH / kv->NKV;
    int *first = (int *)cpu_scratch((size_t)(n_sequences + 1) * sizeof *first);
    first[0] = 0;
    for (int s = 0; s < n_sequences; s++)
        first[s + 1] = first[s] + kv->NKV * ((sequences[s].T * G + ATTENTION_TILE - 1) / ATTENTION_TILE);
    #pragma omp parallel for schedule(dynamic, 4) if (first[n_sequences] > 4)
    for (int task = 0; task < first[n_sequences]; task++) {
        int s = cpu_attention_sequence(first, n_sequences, task);
        int tiles = (first[s + 1] - first[s]) / kv->NKV, i = task - first[s];
        attention_tile((bf16_t *)out, lse, (const bf16_t *)q, kv, layer, &sequences[s], i / tiles,
                       i % tiles * ATTENTION_TILE, NH);
    }
    free(first);
}

// ----------------------------------------------------------------------------
// backward: a task is one sequence's key/value head. With P = exp(q k^T/sqrt(HD) - lse), D = dout . out:
//   dS = P (dout v^T - D),  dq = dS k / sqrt(HD),  dk = dS^T q / sqrt(HD),  dv = P^T dout
// The gradients of keys in the shared prompt are kept per sequence and added up afterwards, sequences in order.

// keys[n][stride] = k / sqrt(HD) and v_t[n/16][HD][16] = v transposed, in fp32; 0 from position n on
static void attention_load_keys(float *keys, float *v_t, const KVCache *kv, int layer, const Sequence *g, int head,
                                int n) {
    int HD = kv->HD, stride = (HD + 15) & ~15;
    float scale = 1.0f / sqrtf((float)HD);
    for (int key = 0; key < n; key += KV_PAGE) {
        const bf16_t *k_page = cpu_kv_page(kv->k, kv, layer, g->pages[key / KV_PAGE], head);
        const bf16_t *v_page = cpu_kv_page(kv->v, kv, layer, g->pages[key / KV_PAGE], head);
        for (int j = 0; j < KV_PAGE; j++) {
            for (int d = 0; d < stride; d++)
                keys[(key + j) * stride + d] =
                    key + j < n && d < HD ? bf16_to_f32(k_page[d * KV_PAGE + j]) * scale : 0.0f;
            for (int d = 0; d < HD; d++)
                v_t[key * HD + d * KV_PAGE + j] = key + j < n ? bf16_to_f32(v_page[j * HD + d]) : 0.0f;
        }
    }
}

// Query vectors first ... first+n-1, in fp32, n rounded up to whole tiles: qs = q / sqrt(HD), dout, D, lse, pos.
// The padding is 0 everywhere, so it adds nothing to any gradient.
static void attention_load_queries(float *qs, float *d_out, float *D, float *l, int *pos, const float *dout,
                                   const bf16_t *out, const float *lse, const bf16_t *q, const Sequence *g, int head,
                                   int first, int n, int NH, int G, int HD) {
    int stride = (HD + 15) & ~15;
    float scale = 1.0f / sqrtf((float)HD);
    for (int i = 0; i < n || i % ATTENTION_TILE; i++) {
        int t = (first + (i < n ? i : n - 1)) / G;
        size_t at = (size_t)(g->row0 + t) * NH + head * G + (first + i) % G;
        vf dots[VF_PARTS] = {vf_zero()};
        pos[i] = g->pos0 + t;
        l[i] = i < n ? lse[at] : 0;
        for (int e = 0; e < stride; e += 16)
            for (int j = 0; j < VF_PARTS; j++) {
                const int d = e + j * VF_LANES;
                vf x = vf_zero(), y = vf_zero();
                if (i < n) {
                    x = vf_get_bf16(q + at * HD + d, HD - d) * scale;
                    y = vf_get(dout + at * HD + d, HD - d);
                    dots[j] = vf_fma(y, vf_get_bf16(out + at * HD + d, HD - d), dots[j]);
                }
                vf_store(qs + i * stride + d, x);
                vf_store(d_out + i * stride + d, y);
            }
        D[i] = vf_sum(dots);
    }
}

// P and dS of one tile of query vectors against the keys from key0 to `end`, a page at a time as far as the tile
// sees; returns how many keys that were.
static int attention_block(float *p, float *ds, const float *qs, const float *d_out, const float *D, const float *l,
                           const int *pos, const KVCache *kv, int layer, const Sequence *g, int head, const float *v_t,
                           int key0, int end) {
    int HD = kv->HD, stride = (HD + 15) & ~15, key = key0;
    for (; key < end && key <= pos[ATTENTION_TILE - 1]; key += KV_PAGE) {
        float *s = p + key - key0, *dp = ds + key - key0;
        const bf16_t *k_page = cpu_kv_page(kv->k, kv, layer, g->pages[key / KV_PAGE], head);
        attention_scores(s, ATTENTION_BLOCK, qs, stride, k_page, true, HD, ATTENTION_TILE);
        attention_scores(dp, ATTENTION_BLOCK, d_out, stride, v_t + (size_t)key * HD, false, HD, ATTENTION_TILE);
        for (int i = 0; i < ATTENTION_TILE * ATTENTION_BLOCK; i += ATTENTION_BLOCK) {
            int row = i / ATTENTION_BLOCK;
            for (int j = 0; j < VF_PARTS; j++) {
                float *si = s + i + j * VF_LANES, *di = dp + i + j * VF_LANES;
                vf pi = vf_select(attention_mask(j, key, pos[row]), vf_exp(vf_load(si) - l[row]), vf_zero());
                vf_store(si, pi);
                vf_store(di, pi * (vf_load(di) - D[row]));
            }
        }
    }
    return key - key0;
}

// One sequence's key/value head. dq, and dk and dv of the sequence's own rows, are written; those of its prompt go
// to prefix[pos0][2][HD]. `work` is scratch.
static void attention_sequence(float *dq, float *dk, float *dv, float *prefix, float *work, const float *dout,
                               const bf16_t *out, const float *lse, const bf16_t *q, const KVCache *kv, int layer,
                               const Sequence *g, int head, int NH) {
    int HD = kv->HD, NKV = kv->NKV, G = NH / NKV, stride = (HD + 15) & ~15;
    int n_keys = g->pos0 + g->T, padded = (n_keys + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
    float *keys = work, *v_t = keys + (size_t)padded * stride;
    float *dkeys = v_t + (size_t)padded * stride, *dvalues = dkeys + (size_t)padded * stride;
    float *qs = dvalues + (size_t)padded * stride, *d_out = qs + ATTENTION_ROWS * stride;
    float *dqs = d_out + ATTENTION_ROWS * stride;
    float *p = dqs + ATTENTION_ROWS * stride, *ds = p + ATTENTION_ROWS * ATTENTION_BLOCK;
    float D[ATTENTION_ROWS], l[ATTENTION_ROWS];
    int pos[ATTENTION_ROWS];
    attention_load_keys(keys, v_t, kv, layer, g, head, n_keys);
    memset(dkeys, 0, (size_t)padded * stride * 2 * sizeof(float));
    for (int first = 0; first < g->T * G; first += ATTENTION_ROWS) {
        int n = g->T * G - first < ATTENTION_ROWS ? g->T * G - first : ATTENTION_ROWS;
        attention_load_queries(qs, d_out, D, l, pos, dout, out, lse, q, g, head, first, n, NH, G, HD);
        memset(dqs, 0, (size_t)ATTENTION_ROWS * stride * sizeof(float));
        int tiles = (n + ATTENTION_TILE - 1) / ATTENTION_TILE, seen = pos[n - 1] + 1;
        for (int key0 = 0; key0 < seen; key0 += ATTENTION_BLOCK) {
            int end = seen < key0 + ATTENTION_BLOCK ? seen : key0 + ATTENTION_BLOCK;
            for (int i = 0; i < tiles * ATTENTION_TILE; i += ATTENTION_TILE) {
                int steps =
                    attention_block(p + i * ATTENTION_BLOCK, ds + i * ATTENTION_BLOCK, qs + i * stride,
                                    d_out + i * stride, D + i, l + i, pos + i, kv, layer, g, head, v_t, key0, end);
                attention_add_product(dqs + i * stride, ds + i * ATTENTION_BLOCK, ATTENTION_BLOCK, 1,
                                      keys + (size_t)key0 * stride, stride, steps);
            }
            for (int key = key0; key < end; key += KV_PAGE) {
                int i = 0; // the first tile that sees this page
                while (pos[i + ATTENTION_TILE - 1] < key) i += ATTENTION_TILE;
                int steps = tiles * ATTENTION_TILE - i;
                for (int j = 0; j < KV_PAGE; j += ATTENTION_TILE) {
                    size_t row = (size_t)(key + j) * stride, column = (size_t)i * ATTENTION_BLOCK + key - key0 + j;
                    attention_add_product(dvalues + row, p + column, 1, ATTENTION_BLOCK, d_out + i * stride, stride,
                                          steps);
                    attention_add_product(dkeys + row, ds + column, 1, ATTENTION_BLOCK, qs + i * stride, stride, steps);
                }
            }
        }
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)(g->row0 + (first + i) / G) * NH + head * G + (first + i) % G;
            memcpy(dq + at * HD, dqs + i * stride, (size_t)HD * sizeof(float));
        }
    }
    for (int key = 0; key < n_keys; key++) {
        size_t at = ((size_t)(g->row0 + key - g->pos0) * NKV + head) * HD;
        bool own = key >= g->pos0;
        memcpy(own ? dk + at : prefix + (size_t)key * 2 * HD, dkeys + (size_t)key * stride, (size_t)HD * sizeof(float));
        memcpy(own ? dv + at : prefix + (size_t)key * 2 * HD + HD, dvalues + (size_t)key * stride,
               (size_t)HD * sizeof(float));
    }
}

static void SIMD_NAME(attention_backward)(float *dq, float *dk, float *dv, const float *dout, const act *out,
                                          const float *lse, const act *q, const KVCache *kv, int layer,
                                          const Sequence *sequences, int n_sequences, int T, int NH) {
    int HD = kv->HD, NKV = kv->NKV, stride = (HD + 15) & ~15, rows = 0, longest = 0, longest_prefix = 0;
    size_t *prefix_at = (size_t *)cpu_scratch((size_t)(n_sequences + 1) * sizeof *prefix_at); // of [NKV][pos0][2][HD]
    prefix_at[0] = 0;
    for (int s = 0; s < n_sequences; s++) {
        const Sequence *g = &sequences[s];
        prefix_at[s + 1] = prefix_at[s] + (size_t)NKV * g->pos0 * 2 * HD;
        if (g->pos0 + g->T > longest) longest = g->pos0 + g->T;
        if (g->pos0 > longest_prefix) longest_prefix = g->pos0;
        rows += g->T;
    }
    if (rows != T) { // rows of no sequence have no gradient
        memset(dq, 0, (size_t)T * NH * HD * sizeof(float));
        memset(dk, 0, (size_t)T * NKV * HD * sizeof(float));
        memset(dv, 0, (size_t)T * NKV * HD * sizeof(float));
    }
    float *prefix = (float *)cpu_scratch(prefix_at[n_sequences] * sizeof(float));
    size_t work =
        ((size_t)(longest + KV_PAGE) * 4 + ATTENTION_ROWS * 3) * stride + 2 * ATTENTION_ROWS * ATTENTION_BLOCK;
    #pragma omp parallel
    {
        float *mine = (float *)cpu_scratch(work * sizeof(float));
        #pragma omp for schedule(dynamic, 1)
        for (int task = 0; task < n_sequences * NKV; task++) {
            const Sequence *g = &sequences[task / NKV];
            int head = task % NKV;
            attention_sequence(dq, dk, dv, prefix + prefix_at[task / NKV] + (size_t)head * g->pos0 * 2 * HD, mine, dout,
                               (const bf16_t *)out, lse, (const bf16_t *)q, kv, layer, g, head, NH);
        }
        free(mine);
        // a position of the prompts belongs to one thread, which takes the sequences in order
        #pragma omp for schedule(static)
        for (int p = 0; p < longest_prefix; p++) {
            for (int s = 0; s < n_sequences; s++) {
                if (p >= sequences[s].pos0) continue;
                for (int head = 0; head < NKV; head++) {
                    const float *from = prefix + prefix_at[s] + ((size_t)head * sequences[s].pos0 + p) * 2 * HD;
                    size_t at = ((size_t)(sequences[s].prefix_row0 + p) * NKV + head) * HD;
                    rows_add(dk + at, from, HD);
                    rows_add(dv + at, from + HD, HD);
                }
            }
        }
    }
    free(prefix);
    free(prefix_at);
}

#endif
