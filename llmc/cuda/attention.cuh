/*
Attention, forward: what it computes is said in ops.h, how a page of the cache lies in rope.cuh. FlashAttention (Dao et
al. 2022, arXiv 2205.14135) on tensor cores, over packed rows and paged keys.

The G = NH/NKV query heads of one key/value head read the same keys, so their queries are taken together: query vector m
of the packed rows is row m / G, head m % G of the group. A warp has 16 query vectors, which need not be of one
sequence.

What a query vector's result is, in every bit, does not depend on which others are computed with it, nor on which of the
two kernels does it (this one, or attention_decode.cuh where a sequence has 16 query vectors at most):

    for each chunk of 64 keys at absolute positions 0, 64, 128 ...:
        s_j = q k_j (tensor cores, HD in steps of 16), times log2(e) / sqrt(HD); -inf for a key after the query
        t   = max s_j;   p_j = 2^(s_j - t);   z = sum p_j;   a = sum bf16(p_j) v_j (tensor cores, keys in steps of 16)
        m'  = max(m, t);   O = O 2^(m - m') + a 2^(t - m');   l = l 2^(m - m') + z 2^(t - m');   m = m'
    out = O / l;   lse = m ln 2 + ln l

So a chunk can be worked on anywhere and be folded in later. A chunk of keys after the query multiplies by exactly 1
and adds exactly 0: it makes no difference whether it is visited for the sake of another query. Products and sums of the
fold are written with __fmul_rn and its like, lest the compiler fuse them in one kernel and not in the other.
*/
#ifndef LLMC_CUDA_ATTENTION_CUH
#define LLMC_CUDA_ATTENTION_CUH

#include "llmc/cuda/memory.cuh" // cuda_scratch
#include "llmc/cuda/rope.cuh"   // kv_page_at
#include "llmc/cuda/tiles.cuh"  // Tile, load_tile, copy_async

#define ATTENTION_CHUNK 64 // keys between two folds
#define ATTENTION_MAX_HD 256
#define ATTENTION_SCORES 72 // floats between two rows of scores: rows begin 8 banks apart

// What all kernels of attention are told. Pointers are the device's.
struct Attention {
    const bf16 *q, *k, *v; // [rows, NH*HD]; the cache
    const Sequence *sequences;
    int n_sequences, n_pages, NH, NKV, HD, layer;
};

// Sizes for heads of up to HDP columns; columns HD ... HDP-1 are zeros in shared memory.
template <int HDP> struct AttentionShape {
    static constexpr int WARPS = HDP <= 128 ? 4 : 2, THREADS = 32 * WARPS, VECTORS = 16 * WARPS;
    static constexpr int COLUMNS = HDP <= 128 ? HDP : 64,
                         PARTS = HDP / COLUMNS; // a block's accumulators have room for so many
    static constexpr int TILES = COLUMNS / 16;
    static constexpr int BLOCKS = HDP <= 64 ? 3 : HDP <= 128 ? 2 : 1; // that registers should leave room for
    static constexpr int STRIDE = HDP + 8; // bf16 between two rows: 16 bytes more, so that rows lie in other banks
    static constexpr size_t ROW = STRIDE * sizeof(bf16);                         // bytes
    static constexpr size_t SCORE_BYTES = 16 * ATTENTION_SCORES * sizeof(float); // of one warp
};

// ----------------------------------------------------------------------------
// memory

// A row's columns piece*8 ... +7 into shared memory, zeros from column HD on and where the row is not valid.
__device__ __forceinline__ void load_piece(bf16 *to, const bf16 *row, int piece, int HD, bool valid) {
    if (HD % 8 == 0) {
        valid = valid && piece * 8 < HD;
        copy_async(to + piece * 8, valid ? row + piece * 8 : row, valid);
    } else {
        #pragma unroll 1
        for (int d = piece * 8; d < piece * 8 + 8; d++) to[d] = valid && d < HD ? row[d] : __float2bfloat16(0.0f);
    }
}

// Where a key and its value lie in the cache.
__device__ __forceinline__ size_t key_at(const Attention &a, const int *pages, int position, int kv_head) {
    int page = __ldg(pages + position / KV_PAGE);
    return kv_page_at(a.layer, page, kv_head, a.n_pages, a.NKV, a.HD) + position % KV_PAGE * a.HD;
}

// Keys (or values) first ... first+ROWS-1 of a sequence from `cache` to to[ROWS][STRIDE], zeros from position `end` on.
// By thread `thread` of n_threads.
template <int HDP, int ROWS>
__device__ __forceinline__ void load_keys(bf16 *to, const bf16 *cache, const Attention &a, const int *pages,
                                          int kv_head, int first, int end, int thread, int n_threads) {
    constexpr int PIECES = HDP / 8;
    #pragma unroll 2
    for (int i = thread; i < ROWS * PIECES; i += n_threads) {
        int key = i / PIECES, position = first + key;
        bool valid = position < end;
        const bf16 *from = valid ? cache + key_at(a, pages, position, kv_head) : cache;
        load_piece(to + key * AttentionShape<HDP>::STRIDE, from, i % PIECES, a.HD, valid);
    }
}

// Where query vector `vector` lies in an array of [rows, NH] heads. A T x NH beyond 2^31 would not fit a GPU's memory.
__device__ __forceinline__ size_t vector_at(const Attention &a, int kv_head, int vector) {
    int G = a.NH / a.NKV;
    return (size_t)(vector / G) * a.NH + kv_head * G + vector % G;
}

// Query vectors first ... first+ROWS-1 of from[rows, NH][stride] to to[ROWS][STRIDE], zeros from vector `end` on.
template <int HDP, int ROWS>
__device__ __forceinline__ void load_vectors(bf16 *to, const bf16 *from, int stride, const Attention &a, int kv_head,
                                             int first, int end) {
    constexpr int PIECES = HDP / 8;
    for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += AttentionShape<HDP>::THREADS) {
        int vector = first + i / PIECES;
        bool valid = vector < end;
        load_piece(to + i / PIECES * AttentionShape<HDP>::STRIDE,
                   valid ? from + vector_at(a, kv_head, vector) * stride : from, i % PIECES, a.HD, valid);
    }
}

// The last sequence that begins at `row` or before. Sequences ascend.
__device__ __forceinline__ int sequence_of_row(const Sequence *sequences, int n_sequences, int row) {
    int low = 0, high = n_sequences - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (sequences[middle].row0 <= row) low = middle;
        else high = middle - 1;
    }
    return low;
}

// Sequences of so few query vectors are left to attention_decode.cuh (but where heads are too large for its registers).
template <int HDP> __device__ __forceinline__ bool is_decoded(const Sequence &g, int G) {
    return HDP <= 128 && g.T * G <= 16;
}

// ----------------------------------------------------------------------------
// one chunk, by one warp. Lanes 2r and 2r+1 look after query vector r.

// s[16][ATTENTION_SCORES] = q[16][STRIDE] keys[64][STRIDE]^T
template <int HDP> __device__ __forceinline__ void chunk_scores(float *s, const bf16 *q, const bf16 *keys) {
    constexpr int STRIDE = AttentionShape<HDP>::STRIDE;
    Tile sum[4];
    for (int j = 0; j < 4; j++) wmma::fill_fragment(sum[j], 0.0f);
    #pragma unroll 2
    for (int d = 0; d < HDP; d += 16) {
        TileA x;
        load_tile(x, q + d, STRIDE);
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            TileBT y;
            load_tile(y, keys + 16 * j * STRIDE + d, STRIDE);
            wmma::mma_sync(sum[j], x, y, sum[j]);
        }
    }
    #pragma unroll
    for (int j = 0; j < 4; j++) wmma::store_matrix_sync(s + 16 * j, sum[j], ATTENTION_SCORES, wmma::mem_row_major);
}

// Turns a row of scores into bf16 probabilities [64], in its place: p_j = 2^(s_j scale - top), 0 from key `visible` on.
// Both lanes of the row get top and sum p_j. scale is log2(e) / sqrt(HD). A NaN score makes the sum NaN.
__device__ __forceinline__ void chunk_probabilities(float *row, int visible, float scale, float *top, float *sum) {
    int half = threadIdx.x % 2;
    float p[32], t = -INFINITY, z = 0;
    #pragma unroll
    for (int j = 0; j < 8; j++) {
        float4 s = *(const float4 *)(row + 8 * j + 4 * half);
        float x[4] = {s.x, s.y, s.z, s.w};
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            p[4 * j + i] = 8 * j + 4 * half + i < visible ? __fmul_rn(x[i], scale) : -INFINITY;
            t = fmaxf(t, p[4 * j + i]);
        }
    }
    t = fmaxf(t, __shfl_xor_sync(~0u, t, 1));
    float from = t == -INFINITY ? 0.0f : t; // nothing visible, or all NaN
    __syncwarp();                           // both lanes have read
    #pragma unroll
    for (int j = 0; j < 8; j++) {
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            p[4 * j + i] = exp2f(__fsub_rn(p[4 * j + i], from));
            z = __fadd_rn(z, p[4 * j + i]);
        }
        *(Bf16x4 *)((bf16 *)row + 8 * j + 4 * half) = round4(p[4 * j], p[4 * j + 1], p[4 * j + 2], p[4 * j + 3]);
    }
    *top = t;
    *sum = __fadd_rn(z, __shfl_xor_sync(~0u, z, 1));
}

// 16 columns of probabilities[16][64] values[64][STRIDE]
template <int HDP> __device__ __forceinline__ Tile chunk_value(const TileA *p, const bf16 *values) {
    Tile sum;
    wmma::fill_fragment(sum, 0.0f);
    #pragma unroll
    for (int j = 0; j < 4; j++) {
        TileB y;
        load_tile(y, values + 16 * j * AttentionShape<HDP>::STRIDE, AttentionShape<HDP>::STRIDE);
        wmma::mma_sync(sum, p[j], y, sum);
    }
    return sum;
}

// The fold of a chunk's (top, sum) into (m, l); O has to be multiplied by *keep and the chunk's values by *add.
__device__ __forceinline__ void fold_factors(float *m, float *l, float *keep, float *add, float top, float sum) {
    float together = fmaxf(*m, top), from = together == -INFINITY ? 0.0f : together;
    *keep = exp2f(__fsub_rn(*m, from));
    *add = exp2f(__fsub_rn(top, from));
    *l = __fmaf_rn(sum, *add, __fmul_rn(*l, *keep));
    *m = together;
}

__device__ __forceinline__ float fold(float O, float value, float keep, float add) {
    return __fmaf_rn(value, add, __fmul_rn(O, keep));
}

// + 0 turns -0 into 0, the one trace that keys of probability 0 could leave
__device__ __forceinline__ float fold_finish(float O, float one_by_l) {
    return __fadd_rn(__fmul_rn(O, one_by_l), 0.0f);
}
__device__ __forceinline__ float fold_lse(float m, float l) { return __fmaf_rn(m, 0.693147181f, logf(l)); }

// ----------------------------------------------------------------------------
// sequences of many query vectors: a block has 64 of them (32 if heads are large), in turns

// out[at] = O / l for the 16 vectors of a warp, `at` being the lane's; none where not `mine`. O has the columns from
// column0 on. stage[16][STRIDE] is this warp's.
template <int HDP>
__device__ __forceinline__ void write_output(bf16 *out, float *lse, const Tile *O, float *stage, float m, float l,
                                             bool mine, size_t at, int column0, int HD) {
    constexpr int STRIDE = AttentionShape<HDP>::STRIDE;
    int row = threadIdx.x % 32 / 2, half = threadIdx.x % 2;
    #pragma unroll
    for (int d = 0; d < AttentionShape<HDP>::TILES; d++)
        wmma::store_matrix_sync(stage + 16 * d, O[d], STRIDE, wmma::mem_row_major);
    __syncwarp();
    if (!mine) return;
    float one_by_l = __fdiv_rn(1.0f, l);
    for (int i = 8 * half; i < AttentionShape<HDP>::COLUMNS && column0 + i < HD; i += 16) {
        float x[8];
        bf16 *to = out + at * HD + column0 + i;
        for (int j = 0; j < 8; j++) x[j] = fold_finish(stage[row * STRIDE + i + j], one_by_l);
        if (HD % 8 == 0) *(Bf16x8 *)to = round8(x);
        else
            for (int j = 0; j < 8 && column0 + i + j < HD; j++) to[j] = __float2bfloat16(x[j]);
    }
    if (lse && half == 0 && column0 == 0) lse[at] = fold_lse(m, l);
}

template <int HDP> constexpr size_t attention_forward_bytes() {
    typedef AttentionShape<HDP> S;
    return (S::VECTORS + 2 * ATTENTION_CHUNK) * S::ROW + S::WARPS * S::SCORE_BYTES;
}

// Blocks take (tile of query vectors, key/value head, part of the columns) in turns. While scores of a chunk are
// computed its values are on their way, and the next keys while its values are added.
template <int HDP>
__global__ void __launch_bounds__(AttentionShape<HDP>::THREADS, AttentionShape<HDP>::BLOCKS)
    attention_forward_kernel(bf16 *out, float *lse, Attention a) {
    typedef AttentionShape<HDP> S;
    DYN_SHARED(unsigned char, memory);
    bf16 *qs = (bf16 *)memory, *keys = qs + S::VECTORS * S::STRIDE, *values = keys + ATTENTION_CHUNK * S::STRIDE;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32, G = a.NH / a.NKV;
    float *s = (float *)(values + ATTENTION_CHUNK * S::STRIDE) + warp * 16 * ATTENTION_SCORES;
    float *row = s + lane / 2 * ATTENTION_SCORES;
    float scale = 1.44269504f / sqrtf((float)a.HD);
    const Sequence end = a.sequences[a.n_sequences - 1];
    int n = (end.row0 + end.T) * G, tasks = (n + S::VECTORS - 1) / S::VECTORS * a.NKV * S::PARTS;
    for (int task = (int)blockIdx.x; task < tasks; task += (int)gridDim.x) {
        int first = task / (a.NKV * S::PARTS) * S::VECTORS,
            last = min(first + S::VECTORS, n) - 1; // query vectors of the block
        int kv_head = task / S::PARTS % a.NKV, column0 = task % S::PARTS * S::COLUMNS, first_row = first / G,
            last_row = last / G;
        int sequence0 = sequence_of_row(a.sequences, a.n_sequences, first_row), sequence1 = sequence0;
        bool any = false;
        for (; sequence1 < a.n_sequences && a.sequences[sequence1].row0 <= last_row; sequence1++)
            any |= !is_decoded<HDP>(a.sequences[sequence1], G);
        if (!any) continue;

        load_vectors<HDP, S::VECTORS>(qs, a.q, a.HD, a, kv_head, first, last + 1);
        int vector = first + 16 * warp + lane / 2, vector_row = vector / G; // of this lane
        int warp_last_row = min(first + 16 * warp + 15, last) / G;
        float m = -INFINITY, l = 0;
        bool mine = false;
        Tile O[S::TILES];
        for (int d = 0; d < S::TILES; d++) wmma::fill_fragment(O[d], 0.0f);

        for (int sequence = sequence0; sequence < sequence1; sequence++) {
            const Sequence g = a.sequences[sequence];
            if (is_decoded<HDP>(g, G) || first_row >= g.row0 + g.T) continue;
            int n_keys = g.pos0 + min(last_row, g.row0 + g.T - 1) - g.row0 + 1; // that any vector of the tile sees
            bool here = vector <= last && vector_row >= g.row0 && vector_row < g.row0 + g.T;
            int sees = here ? g.pos0 + vector_row - g.row0 + 1 : 0; // keys that the lane's vector sees
            int warp_sees = g.pos0 + min(warp_last_row, g.row0 + g.T - 1) - g.row0 + 1; // at most, in this warp
            if (here) mine = true;
            load_keys<HDP, ATTENTION_CHUNK>(keys, a.k, a, g.pages, kv_head, 0, n_keys, thread, S::THREADS);
            copies_commit();
            load_keys<HDP, ATTENTION_CHUNK>(values, a.v, a, g.pages, kv_head, 0, n_keys, thread, S::THREADS);
            copies_commit();
            for (int key = 0; key < n_keys; key += ATTENTION_CHUNK) {
                bool visible = key < warp_sees;
                int next = key + ATTENTION_CHUNK;
                copies_wait<1>();
                __syncthreads(); // keys (and queries) are there
                if (visible) chunk_scores<HDP>(s, qs + 16 * warp * S::STRIDE, keys);
                __syncthreads(); // keys are done with
                if (next < n_keys)
                    load_keys<HDP, ATTENTION_CHUNK>(keys, a.k, a, g.pages, kv_head, next, n_keys, thread, S::THREADS);
                copies_commit();
                if (visible) {
                    float top, sum, keep, add;
                    chunk_probabilities(row, sees - key, scale, &top, &sum);
                    fold_factors(&m, &l, &keep, &add, top, sum);
                    float4 four = lane % 2 ? make_float4(add, add, add, add) : make_float4(keep, keep, keep, keep);
                    for (int i = 0; i < 16; i += 4) *(float4 *)(row + (lane % 2 ? 56 : 40) + i) = four;
                }
                copies_wait<1>();
                __syncthreads(); // values are there
                if (visible) {
                    TileA p[4];
                    Tile factor; // each row 16 times the same
                    wmma::load_matrix_sync(factor, s + 40, ATTENTION_SCORES, wmma::mem_row_major);
                    #pragma unroll
                    for (int d = 0; d < S::TILES; d++)
                        for (int i = 0; i < factor.num_elements; i++) O[d].x[i] = __fmul_rn(O[d].x[i], factor.x[i]);
                    wmma::load_matrix_sync(factor, s + 56, ATTENTION_SCORES, wmma::mem_row_major);
                    for (int j = 0; j < 4; j++) load_tile(p[j], (const bf16 *)s + 16 * j, 2 * ATTENTION_SCORES);
                    #pragma unroll
                    for (int d = 0; d < S::TILES; d++) {
                        Tile sum = chunk_value<HDP>(p, values + column0 + 16 * d);
                        for (int i = 0; i < factor.num_elements; i++)
                            O[d].x[i] = __fmaf_rn(sum.x[i], factor.x[i], O[d].x[i]);
                    }
                }
                __syncthreads(); // values are done with
                if (next < n_keys)
                    load_keys<HDP, ATTENTION_CHUNK>(values, a.v, a, g.pages, kv_head, next, n_keys, thread, S::THREADS);
                copies_commit();
            }
        }
        // keys and values make room for the output
        float *stage = (float *)keys + warp * 16 * S::STRIDE;
        write_output<HDP>(out, lse, O, stage, m, l, mine, mine ? vector_at(a, kv_head, vector) : 0, column0, a.HD);
        copies_commit();
        copies_wait<0>(); // of queries whose rows are no sequence's
        __syncthreads();
    }
}

// ----------------------------------------------------------------------------
// launchers

// Asks for more than the 48 KB of shared memory that a kernel has unasked.
template <class Kernel> static void allow_shared(Kernel *kernel, size_t bytes) {
    CUDA_CHECK(cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

#include "llmc/cuda/attention_decode.cuh" // attention_decode

template <int HDP> void attention_forward(bf16 *out, float *lse, const Attention &a) {
    constexpr size_t bytes = attention_forward_bytes<HDP>();
    allow_shared(attention_forward_kernel<HDP>, bytes);
    LAUNCH(attention_forward_kernel<HDP>, 4 * cuda_multiprocessors(), AttentionShape<HDP>::THREADS, bytes, cuda_stream)
    (out, lse, a);
    CUDA_CHECK(cudaGetLastError());
    if constexpr (HDP <= 128) attention_decode<HDP>(out, lse, a);
}

// Ends the program if heads are larger than the kernels can take.
static Attention attention_of(const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                              int NH) {
    if (kv->HD > ATTENTION_MAX_HD) {
        fprintf(stderr,
                "error: attention on the GPU: the model's heads have %d columns (head_dim), at most %d are supported\n"
                "  -> use --device cpu\n",
                kv->HD, ATTENTION_MAX_HD);
        exit(EXIT_FAILURE);
    }
    return {(const bf16 *)q,
            (const bf16 *)kv->k,
            (const bf16 *)kv->v,
            sequences,
            n_sequences,
            kv->n_pages,
            NH,
            kv->NKV,
            kv->HD,
            layer};
}

void cuda_attention_forward(act *out, float *lse, const act *q, const KVCache *kv, int layer, const Sequence *sequences,
                            int n_sequences, int NH) {
    if (n_sequences == 0) return;
    Attention a = attention_of(q, kv, layer, sequences, n_sequences, NH);
    auto forward = kv->HD <= 32    ? attention_forward<32>
                   : kv->HD <= 64  ? attention_forward<64>
                   : kv->HD <= 128 ? attention_forward<128>
                                   : attention_forward<256>;
    forward((bf16 *)out, lse, a);
}

#endif
