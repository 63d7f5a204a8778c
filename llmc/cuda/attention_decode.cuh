/*
Attention of sequences with 16 query vectors at most - in decoding, the query heads that share a key/value head - over
many keys. Included by attention.cuh, which says what is computed: here the warps of a block each take a chunk of 64
keys, and its (top, sum, values) are folded in afterwards, in order. Where there are fewer (sequence, key/value head)
pairs than the GPU has room for, a pair's chunks are spread over several blocks, which leave them in memory; another
kernel folds them.
*/

#define DECODE_PARTIAL_BYTES ((size_t)32 << 20) // memory for chunks that wait to be folded

// What a block leaves for the fold: for each (sequence, key/value head) pair room for `chunks` chunks of 16 vectors.
struct DecodePartials {
    float *values; // [pairs, chunks, 16, HDP]
    float2 *stats; // [pairs, chunks, 16] top, sum
    int chunks, splits;
};

template <int HDP> constexpr size_t attention_decode_bytes() {
    typedef AttentionShape<HDP> S;
    return 16 * S::ROW + S::WARPS * (ATTENTION_CHUNK * S::ROW + S::SCORE_BYTES);
}

// Block ((sequence, head), split). A pair with more chunks than there is room for is done by its first block alone.
template <int HDP>
__global__ void __launch_bounds__(AttentionShape<HDP>::THREADS, 2)
    attention_decode_kernel(bf16 *out, float *lse, Attention a, DecodePartials partials) {
    typedef AttentionShape<HDP> S;
    constexpr int ELEMENTS = 16 * HDP / S::THREADS; // of O, for each thread
    DYN_SHARED(unsigned char, memory);
    SHARED(float2, stats, [S::WARPS][16]);   // top, sum of the chunks in work
    SHARED(float2, factors, [S::WARPS][16]); // what O and they are multiplied by
    SHARED(float, one_by_l, [16]);
    int split = (int)(blockIdx.x % partials.splits), pair = (int)(blockIdx.x / partials.splits);
    int kv_head = pair % a.NKV, G = a.NH / a.NKV;
    const Sequence g = a.sequences[pair / a.NKV];
    int n = g.T * G, n_keys = g.pos0 + g.T, n_chunks = (n_keys + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    bool leave = partials.splits > 1 && n_chunks <= partials.chunks;
    int per_split = leave ? (n_chunks + partials.splits - 1) / partials.splits : n_chunks;
    int chunk0 = split * per_split, chunk1 = min(chunk0 + per_split, n_chunks);
    if (!is_decoded<HDP>(g, G) || g.T == 0 || chunk0 >= chunk1) return;

    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    bf16 *qs = (bf16 *)memory,
         *keys = qs + (16 + warp * ATTENTION_CHUNK) * S::STRIDE; // keys, then values, then their sum
    float *s = (float *)(qs + (16 + S::WARPS * ATTENTION_CHUNK) * S::STRIDE) + warp * 16 * ATTENTION_SCORES;
    float *row = s + lane / 2 * ATTENTION_SCORES;
    float scale = 1.44269504f / sqrtf((float)a.HD);
    int sees = lane / 2 < n ? g.pos0 + lane / 2 / G + 1 : 0;
    load_vectors<HDP, 16>(qs, a.q, a.HD, a, kv_head, g.row0 * G, g.row0 * G + n);
    copies_commit();
    copies_wait<0>();
    __syncthreads();

    float O[ELEMENTS], m = -INFINITY, l = 0; // m and l of vector thread, in the first 16 threads
    for (int i = 0; i < ELEMENTS; i++) O[i] = 0;
    for (int chunk = chunk0; chunk < chunk1; chunk += S::WARPS) {
        int mine = chunk + warp, key = mine * ATTENTION_CHUNK;
        if (mine < chunk1) {
            load_keys<HDP, ATTENTION_CHUNK>(keys, a.k, a, g.pages, kv_head, key, n_keys, lane, 32);
            copies_commit();
            copies_wait<0>();
            __syncwarp();
            chunk_scores<HDP>(s, qs, keys);
            __syncwarp();
            load_keys<HDP, ATTENTION_CHUNK>(keys, a.v, a, g.pages, kv_head, key, n_keys, lane, 32);
            copies_commit();
            float top, sum;
            chunk_probabilities(row, sees - key, scale, &top, &sum);
            if (lane % 2 == 0) stats[warp][lane / 2] = make_float2(top, sum);
            copies_wait<0>();
            __syncwarp();
            TileA p[4];
            Tile value[S::TILES];
            for (int j = 0; j < 4; j++) load_tile(p[j], (const bf16 *)s + 16 * j, 2 * ATTENTION_SCORES);
            #pragma unroll
            for (int d = 0; d < S::TILES; d++) value[d] = chunk_value<HDP>(p, keys + 16 * d);
            __syncwarp(); // values are done with
            #pragma unroll
            for (int d = 0; d < S::TILES; d++)
                wmma::store_matrix_sync((float *)keys + 16 * d, value[d], S::STRIDE, wmma::mem_row_major);
        }
        __syncthreads();
        int n_here = min(S::WARPS, chunk1 - chunk);
        if (leave) {
            for (int w = 0; w < n_here; w++) {
                size_t at = ((size_t)pair * partials.chunks + chunk + w) * 16;
                const float *value = (const float *)(qs + (16 + w * ATTENTION_CHUNK) * S::STRIDE);
                for (int i = thread; i < n * HDP / 4; i += S::THREADS) {
                    int vector = i / (HDP / 4), d = i % (HDP / 4) * 4;
                    *(float4 *)(partials.values + (at + vector) * HDP + d) =
                        *(const float4 *)(value + vector * S::STRIDE + d);
                }
                if (thread < n) partials.stats[at + thread] = stats[w][thread];
            }
        } else {
            if (thread < n)
                for (int w = 0; w < n_here; w++) {
                    float2 chunk_stats = stats[w][thread], factor;
                    fold_factors(&m, &l, &factor.x, &factor.y, chunk_stats.x, chunk_stats.y);
                    factors[w][thread] = factor;
                }
            __syncthreads();
            #pragma unroll
            for (int i = 0; i < ELEMENTS; i++) {
                int vector = (thread + i * S::THREADS) / HDP, d = (thread + i * S::THREADS) % HDP;
                if (vector >= n) break;
                for (int w = 0; w < n_here; w++) {
                    float value =
                        ((const float *)(qs + (16 + w * ATTENTION_CHUNK) * S::STRIDE))[vector * S::STRIDE + d];
                    O[i] = fold(O[i], value, factors[w][vector].x, factors[w][vector].y);
                }
            }
        }
        __syncthreads();
    }
    if (leave) return;
    if (thread < n) {
        one_by_l[thread] = __fdiv_rn(1.0f, l);
        if (lse) lse[vector_at(a, kv_head, g.row0 * G + thread)] = fold_lse(m, l);
    }
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < ELEMENTS; i++) {
        int vector = (thread + i * S::THREADS) / HDP, d = (thread + i * S::THREADS) % HDP;
        if (vector >= n) break;
        size_t at = vector_at(a, kv_head, g.row0 * G + vector);
        if (d < a.HD) out[at * a.HD + d] = __float2bfloat16(fold_finish(O[i], one_by_l[vector]));
    }
}

// Block ((sequence, head), vector), thread d: folds what the blocks of a pair have left.
template <int HDP>
__global__ void __launch_bounds__(HDP)
    attention_fold_kernel(bf16 *out, float *lse, Attention a, DecodePartials partials) {
    int pair = (int)blockIdx.x, vector = (int)blockIdx.y, kv_head = pair % a.NKV, G = a.NH / a.NKV, d = threadIdx.x;
    const Sequence g = a.sequences[pair / a.NKV];
    int n_chunks = (g.pos0 + g.T + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    if (!is_decoded<HDP>(g, G) || vector >= g.T * G || n_chunks > partials.chunks) return;
    float O = 0, m = -INFINITY, l = 0;
    #pragma unroll 8
    for (int chunk = 0; chunk < n_chunks; chunk++) {
        size_t part = ((size_t)pair * partials.chunks + chunk) * 16 + vector;
        float2 stats = partials.stats[part];
        float keep, add, value = partials.values[part * HDP + d];
        fold_factors(&m, &l, &keep, &add, stats.x, stats.y);
        O = fold(O, value, keep, add);
    }
    size_t at = vector_at(a, kv_head, g.row0 * G + vector);
    if (d < a.HD) out[at * a.HD + d] = __float2bfloat16(fold_finish(O, __fdiv_rn(1.0f, l)));
    if (lse && d == 0) lse[at] = fold_lse(m, l);
}

// Over how many blocks the chunks of each of so many (sequence, key/value head) pairs are spread.
static int decode_splits(size_t pairs) {
    size_t splits = (size_t)(2 * cuda_multiprocessors()) / pairs;
    return splits < 1 ? 1 : splits > 64 ? 64 : (int)splits;
}

// What attention_decode takes for itself, for any number of sequences.
static size_t decode_scratch_bytes(int NH, int NKV, int HD) {
    return HD <= 128 && NH / NKV <= 16 && decode_splits((size_t)NKV) > 1 ? DECODE_PARTIAL_BYTES : 0;
}

// The sequences that attention_forward_kernel leaves.
template <int HDP> void attention_decode(bf16 *out, float *lse, const Attention &a) {
    typedef AttentionShape<HDP> S;
    DecodePartials partials = {NULL, NULL, 0, 0};
    if (a.NH / a.NKV > 16) return;
    size_t pairs = (size_t)a.n_sequences * a.NKV, chunk = 16 * (HDP * sizeof(float) + sizeof(float2));
    partials.splits = decode_splits(pairs);
    partials.chunks = (int)(DECODE_PARTIAL_BYTES / chunk / pairs);
    if (partials.splits > 1) {
        partials.values = (float *)cuda_scratch(&cuda.decode, DECODE_PARTIAL_BYTES);
        partials.stats = (float2 *)(partials.values + pairs * partials.chunks * 16 * HDP);
    }
    constexpr size_t bytes = attention_decode_bytes<HDP>();
    allow_shared(attention_decode_kernel<HDP>, bytes);
    LAUNCH(attention_decode_kernel<HDP>, (unsigned)(pairs * partials.splits), S::THREADS, bytes, cuda_stream)
    (out, lse, a, partials);
    CUDA_CHECK(cudaGetLastError());
    if (partials.splits == 1) return;
    LAUNCH(attention_fold_kernel<HDP>, dim3((unsigned)pairs, 16), HDP, 0, cuda_stream)(out, lse, a, partials);
    CUDA_CHECK(cudaGetLastError());
}
