/*
Attention, backward: what it computes is said in ops.h, query vectors and shapes in attention.cuh. FlashAttention's
backward on tensor cores. With P = exp(q k^T / sqrt(HD) - lse) and D = dout . out, all from the rounded dout that tensor
cores take:

    dS = P (dout v^T - D),   dq = dS k / sqrt(HD),   dk = dS^T q / sqrt(HD),   dv = P^T dout

    prepare   rounds dout, computes D, finds each row's sequence
    plan      which tiles of keys are how much work
    dq        a block has 64 query vectors; the keys they see stream by
    dkv       a block has 64 packed rows of keys; the query vectors that see them stream by: those of their own
sequence, and for the keys of a prompt those of all its completions. A long stream is cut into pieces for several
              blocks.
    add       the pieces, in order

There are no atomics: every sum has an order that only the shapes decide. Until dq is computed its memory serves as
scratch: HD bf16 of dout, then D as a float, where a head's HD floats will be.
*/
#ifndef LLMC_CUDA_ATTENTION_BACKWARD_CUH
#define LLMC_CUDA_ATTENTION_BACKWARD_CUH

#include <limits.h>

#include "llmc/cuda/attention.cuh" // Attention, AttentionShape, load_keys, load_vectors

#define BACKWARD_PIECE_ROWS 512 // rows of queries that a block of dkv takes at least, where more are to come
#define PLAN_THREADS 512
#define LOG2_E 1.44269504f

// Sizes on top of AttentionShape: STREAM keys or query vectors come by at a time.
template <int HDP> struct BackwardShape : AttentionShape<HDP> {
    typedef AttentionShape<HDP> S;
    static constexpr int STREAM = HDP <= 128 ? 32 : 16, LD = STREAM + 8; // LD floats between two rows of scores
    static constexpr size_t TILE_BYTES = 2 * S::VECTORS * S::ROW, STREAM_BYTES = 2 * STREAM * S::ROW;
    static constexpr size_t SCORE_BYTES = 2 * 16 * LD * sizeof(float); // of one warp
    static constexpr size_t BYTES = TILE_BYTES + 2 * STREAM_BYTES + S::WARPS * SCORE_BYTES;
};

// A piece of dkv's work: tile `tile` of keys, its query rows row0 ... row1-1. It is number `piece` of n; if n > 1 its
// sums wait in slot `slot`.
struct alignas(16) Piece {
    int tile, row0, row1, piece, n, slot, padding[2];
};

// Scratch that lives from prepare to the end.
struct BackwardScratch {
    int *row_sequence; // [T] -1: none
    int *reach;        // [n_sequences] the row after the last whose query may see a key of the sequence
    int *tile_reach;   // [tiles] the same for a tile of key rows
    int *n_pieces;     // [1]
    Piece *pieces;     // [2 tiles]
    float *slots;      // [tiles, NKV, 2, VECTORS, HD] sums of dv and dk
};

// ----------------------------------------------------------------------------
// prepare and plan

// One warp per row and head. Rows of no sequence get dk = dv = 0 here (and dq = 0 from its kernel).
__global__ void attention_prepare_kernel(float *dq, float *dk, float *dv, int *row_sequence, const float *dout,
                                         const bf16 *out, Attention a, int T) {
    size_t at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    int lane = threadIdx.x % 32, row = (int)(at / a.NH), head = (int)(at % a.NH);
    if (row >= T) return;
    if (head < a.NKV) {
        int sequence = sequence_of_row(a.sequences, a.n_sequences, row);
        bool none = row < a.sequences[sequence].row0 || row >= a.sequences[sequence].row0 + a.sequences[sequence].T;
        size_t key = ((size_t)row * a.NKV + head) * a.HD;
        if (head == 0 && lane == 0) row_sequence[row] = none ? -1 : sequence;
        for (int d = lane; none && d < a.HD; d += 32) dk[key + d] = dv[key + d] = 0;
    }
    float *slot = dq + at * a.HD, D = 0;
    for (int d = 2 * lane; d < a.HD; d += 64) {
        float2 x = *(const float2 *)(dout + at * a.HD + d);
        __nv_bfloat162 rounded = __floats2bfloat162_rn(x.x, x.y), o = *(const __nv_bfloat162 *)(out + at * a.HD + d);
        *(__nv_bfloat162 *)((bf16 *)slot + d) = rounded;
        D += __bfloat162float(rounded.x) * __bfloat162float(o.x) + __bfloat162float(rounded.y) * __bfloat162float(o.y);
    }
    D = warp_reduce<Sum>(D);
    if (lane == 0) slot[a.HD / 2] = D;
}

// One block. Cuts the work of dkv into pieces of equally many rows, of BACKWARD_PIECE_ROWS or as many more as it takes
// for the slots to suffice.
__global__ void __launch_bounds__(PLAN_THREADS, 1)
    attention_plan_kernel(BackwardScratch scratch, Attention a, int T, int tile_rows) {
    SHARED(int, sums, [32]);
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32, tiles = (T + tile_rows - 1) / tile_rows;
    for (int s = warp; s < a.n_sequences;
         s += PLAN_THREADS / 32) { // a warp looks for those that share a sequence's keys
        const Sequence own = a.sequences[s];
        int reach = own.row0 + own.T;
        bool more = true;
        for (int first = s + 1; more; first += 32) {
            int i = first + lane;
            bool same = i < a.n_sequences && a.sequences[i].group == own.group;
            if (same) {
                const Sequence g = a.sequences[i];
                bool shares = g.pos0 > 0 && g.prefix_row0 < own.row0 + own.T && g.prefix_row0 + g.pos0 > own.row0;
                if (shares) reach = max(reach, g.row0 + g.T);
            }
            more = __all_sync(~0u, same);
        }
        reach = warp_reduce<Largest>(reach);
        if (lane == 0) scratch.reach[s] = reach;
    }
    __syncthreads();
    for (int tile = thread; tile < tiles; tile += PLAN_THREADS) {
        int row0 = tile * tile_rows, row1 = min(row0 + tile_rows, T), reach = row0;
        for (int row = row0; row < row1;) { // from sequence to sequence
            int sequence = scratch.row_sequence[row];
            if (sequence >= 0) reach = max(reach, scratch.reach[sequence]);
            row = sequence < 0 ? row + 1 : a.sequences[sequence].row0 + a.sequences[sequence].T;
        }
        scratch.tile_reach[tile] = min(reach, T);
    }
    __syncthreads();
    int piece_rows = BACKWARD_PIECE_ROWS, total = 0;
    for (;; piece_rows *= 2) {
        int slots = 0;
        for (int tile = thread; tile < tiles; tile += PLAN_THREADS) {
            int n = (scratch.tile_reach[tile] - tile * tile_rows + piece_rows - 1) / piece_rows;
            if (n > 1) slots += n;
        }
        block_sum_before(slots, &total, sums);
        if (total <= tiles) break;
    }
    int pieces = 0, slots = 0;
    for (int tile0 = 0; tile0 < tiles; tile0 += PLAN_THREADS) {
        int tile = tile0 + thread, rows = tile < tiles ? scratch.tile_reach[tile] - tile * tile_rows : 0;
        int n = (rows + piece_rows - 1) / piece_rows, new_pieces, new_slots;
        int first_piece = pieces + block_sum_before(n, &new_pieces, sums);
        int first_slot = slots + block_sum_before(n > 1 ? n : 0, &new_slots, sums);
        for (int i = 0; i < n; i++) { // all but the last of equally many rows
            int row0 = tile * tile_rows + i * piece_rows, row1 = min(row0 + piece_rows, tile * tile_rows + rows);
            scratch.pieces[first_piece + i] = {tile, row0, row1, i, n, first_slot + i, {0, 0}};
        }
        pieces += new_pieces;
        slots += new_slots;
    }
    if (thread == 0) *scratch.n_pieces = pieces;
}

// ----------------------------------------------------------------------------
// products of one warp

// s[16][LD] = x[16][STRIDE] y[STREAM][STRIDE]^T
template <int HDP> __device__ __forceinline__ void stream_scores(float *s, const bf16 *x, const bf16 *y) {
    typedef BackwardShape<HDP> S;
    Tile sum[S::STREAM / 16];
    for (int j = 0; j < S::STREAM / 16; j++) wmma::fill_fragment(sum[j], 0.0f);
    #pragma unroll 2
    for (int d = 0; d < HDP; d += 16) {
        TileA x_tile;
        load_tile(x_tile, x + d, S::STRIDE);
        #pragma unroll
        for (int j = 0; j < S::STREAM / 16; j++) {
            TileBT y_tile;
            load_tile(y_tile, y + 16 * j * S::STRIDE + d, S::STRIDE);
            wmma::mma_sync(sum[j], x_tile, y_tile, sum[j]);
        }
    }
    #pragma unroll
    for (int j = 0; j < S::STREAM / 16; j++) wmma::store_matrix_sync(s + 16 * j, sum[j], S::LD, wmma::mem_row_major);
}

// sum[16][COLUMNS] += p[16][STREAM] y[STREAM][STRIDE], p in bf16, 2 LD apart
template <int HDP> __device__ __forceinline__ void stream_add(Tile *sum, const float *p, const bf16 *y) {
    typedef BackwardShape<HDP> S;
    TileA p_tile[S::STREAM / 16];
    for (int j = 0; j < S::STREAM / 16; j++) load_tile(p_tile[j], (const bf16 *)p + 16 * j, 2 * S::LD);
    #pragma unroll
    for (int d = 0; d < S::TILES; d++) {
        #pragma unroll
        for (int j = 0; j < S::STREAM / 16; j++) {
            TileB y_tile;
            load_tile(y_tile, y + 16 * j * S::STRIDE + 16 * d, S::STRIDE);
            wmma::mma_sync(sum[d], p_tile[j], y_tile, sum[d]);
        }
    }
}

// Columns column0 ... of to[row] = factor * sum, for the lane's row of 16 if `valid`. stage[16][STRIDE] is this warp's.
template <int HDP>
__device__ __forceinline__ void write_sums(float *to, const Tile *sum, float *stage, float factor, bool valid,
                                           int column0, int HD) {
    typedef AttentionShape<HDP> S;
    int row = threadIdx.x % 32 / 2, half = threadIdx.x % 2;
    __syncwarp();
    #pragma unroll
    for (int d = 0; d < S::TILES; d++) wmma::store_matrix_sync(stage + 16 * d, sum[d], S::STRIDE, wmma::mem_row_major);
    __syncwarp();
    if (!valid) return;
    for (int i = 4 * half; i < S::COLUMNS && column0 + i < HD; i += 8) {
        float4 x = *(const float4 *)(stage + row * S::STRIDE + i);
        x = make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
        if (HD % 4 == 0) *(float4 *)(to + column0 + i) = x;
        else { // HD is even
            *(float2 *)(to + column0 + i) = make_float2(x.x, x.y);
            if (column0 + i + 2 < HD) *(float2 *)(to + column0 + i + 2) = make_float2(x.z, x.w);
        }
    }
}

// ----------------------------------------------------------------------------
// dq

// Block (tile of query vectors, key/value head). Where a block's accumulators have no room for all columns, the keys
// stream by several times.
template <int HDP>
__global__ void __launch_bounds__(AttentionShape<HDP>::THREADS, AttentionShape<HDP>::BLOCKS)
    attention_dq_kernel(float *dq, const float *lse, Attention a, const int *row_sequence, int T) {
    typedef BackwardShape<HDP> S;
    DYN_SHARED(unsigned char, memory);
    bf16 *qs = (bf16 *)memory, *douts = qs + S::VECTORS * S::STRIDE, *stream = douts + S::VECTORS * S::STRIDE;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32, half = lane % 2, G = a.NH / a.NKV, n = T * G;
    float *s = (float *)(memory + S::TILE_BYTES + 2 * S::STREAM_BYTES) + warp * 2 * 16 * S::LD, *dp = s + 16 * S::LD;
    float *s_row = s + lane / 2 * S::LD, *dp_row = dp + lane / 2 * S::LD;
    float scale = 1.0f / sqrtf((float)a.HD);
    int kv_head = (int)(blockIdx.x % a.NKV);
    int first = (int)(blockIdx.x / a.NKV) * S::VECTORS, last = min(first + S::VECTORS, n) - 1;
    int first_row = first / G, last_row = last / G;
    load_vectors<HDP, S::VECTORS>(qs, a.q, a.HD, a, kv_head, first, last + 1);
    load_vectors<HDP, S::VECTORS>(douts, (const bf16 *)dq, 2 * a.HD, a, kv_head, first, last + 1);
    int vector = first + 16 * warp + lane / 2, row = vector / G, warp_last_row = min(first + 16 * warp + 15, last) / G;
    bool valid = vector <= last;
    size_t at = valid ? vector_at(a, kv_head, vector) : 0;
    int own = valid ? row_sequence[row] : -1;
    float lse2 = own >= 0 ? lse[at] * LOG2_E : 0, D = own >= 0 ? dq[at * a.HD + a.HD / 2] : 0;
    int sequence0 = sequence_of_row(a.sequences, a.n_sequences, first_row);
    copies_commit();
    copies_wait<0>();
    __syncthreads(); // all dout is here, before any of it is overwritten: rows of no sequence see no key and wait for
                     // none

    for (int part = 0; part < S::PARTS; part++) {
        Tile sum[S::TILES];
        for (int d = 0; d < S::TILES; d++) wmma::fill_fragment(sum[d], 0.0f);
        for (int sequence = sequence0; sequence < a.n_sequences; sequence++) {
            const Sequence g = a.sequences[sequence];
            if (g.row0 > last_row) break;
            if (first_row >= g.row0 + g.T) continue;
            int n_keys = g.pos0 + min(last_row, g.row0 + g.T - 1) - g.row0 + 1;
            int sees = own == sequence ? g.pos0 + row - g.row0 + 1 : 0;
            int warp_sees = g.pos0 + min(warp_last_row, g.row0 + g.T - 1) - g.row0 + 1;
            for (int key = -S::STREAM; key < n_keys;
                 key += S::STREAM) { // computes with one buffer while the other is filled
                int next = key + S::STREAM, buffer = next / S::STREAM % 2;
                copies_wait<0>();
                __syncthreads();
                if (next < n_keys) {
                    bf16 *keys = stream + buffer * 2 * S::STREAM * S::STRIDE, *values = keys + S::STREAM * S::STRIDE;
                    load_keys<HDP, S::STREAM>(keys, a.k, a, g.pages, kv_head, next, n_keys, thread, S::THREADS);
                    load_keys<HDP, S::STREAM>(values, a.v, a, g.pages, kv_head, next, n_keys, thread, S::THREADS);
                    copies_commit();
                }
                if (key < 0 || key >= warp_sees) continue;
                const bf16 *keys = stream + (1 - buffer) * 2 * S::STREAM * S::STRIDE,
                           *values = keys + S::STREAM * S::STRIDE;
                stream_scores<HDP>(s, qs + 16 * warp * S::STRIDE, keys);
                stream_scores<HDP>(dp, douts + 16 * warp * S::STRIDE, values);
                __syncwarp();
                float ds[S::STREAM / 2];
                #pragma unroll
                for (int i = 0; i < S::STREAM / 2; i += 4) {
                    int j = 2 * i + 4 * half;
                    float x[4], y[4];
                    *(float4 *)x = *(const float4 *)(s_row + j);
                    *(float4 *)y = *(const float4 *)(dp_row + j);
                    for (int k = 0; k < 4; k++)
                        ds[i + k] = key + j + k < sees ? exp2f(x[k] * (scale * LOG2_E) - lse2) * (y[k] - D) : 0.0f;
                }
                __syncwarp(); // both lanes of a row have read
                #pragma unroll
                for (int i = 0; i < S::STREAM / 2; i += 4)
                    *(Bf16x4 *)((bf16 *)dp_row + 2 * i + 4 * half) = round4(ds[i], ds[i + 1], ds[i + 2], ds[i + 3]);
                __syncwarp();
                stream_add<HDP>(sum, dp, keys + part * S::COLUMNS);
            }
            __syncthreads(); // keys are done with
        }
        // The sums pass through where keys were.
        write_sums<HDP>(dq + at * a.HD, sum, (float *)stream + warp * 16 * S::STRIDE, scale, valid, part * S::COLUMNS,
                        a.HD);
        __syncthreads();
    }
}

// ----------------------------------------------------------------------------
// dk and dv

// What decides which keys a query vector sees: positions below pos0 are rows `prefix` + position, others `own` +
// position.
struct alignas(16) StreamVector {
    int pos, pos0, prefix, own;
    float lse2, D;
};

// Block (piece of work, key/value head and part of the columns).
template <int HDP>
__global__ void __launch_bounds__(AttentionShape<HDP>::THREADS, HDP <= 128 ? 2 : 1)
    attention_dkv_kernel(float *dk, float *dv, const float *dq, const float *lse, Attention a, BackwardScratch scratch,
                         int T) {
    typedef BackwardShape<HDP> S;
    DYN_SHARED(unsigned char, memory);
    SHARED(StreamVector, infos, [2][S::STREAM]);
    if ((int)blockIdx.x >= *scratch.n_pieces) return;
    const Piece piece = scratch.pieces[blockIdx.x];
    int kv_head = (int)blockIdx.y / S::PARTS, column0 = (int)blockIdx.y % S::PARTS * S::COLUMNS;
    bf16 *keys = (bf16 *)memory, *values = keys + S::VECTORS * S::STRIDE, *stream = values + S::VECTORS * S::STRIDE;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32, half = lane % 2, G = a.NH / a.NKV;
    float *s = (float *)(memory + S::TILE_BYTES + 2 * S::STREAM_BYTES) + warp * 2 * 16 * S::LD, *dp = s + 16 * S::LD;
    float *s_row = s + lane / 2 * S::LD, *dp_row = dp + lane / 2 * S::LD;
    float scale = 1.0f / sqrtf((float)a.HD);

    for (int i = thread; i < S::VECTORS * HDP / 8; i += S::THREADS) {
        int key = i / (HDP / 8), row = piece.tile * S::VECTORS + key,
            sequence = row < T ? scratch.row_sequence[row] : -1;
        size_t from = 0;
        if (sequence >= 0) {
            const Sequence &g = a.sequences[sequence];
            from = key_at(a, g.pages, g.pos0 + row - g.row0, kv_head);
        }
        load_piece(keys + key * S::STRIDE, a.k + from, i % (HDP / 8), a.HD, sequence >= 0);
        load_piece(values + key * S::STRIDE, a.v + from, i % (HDP / 8), a.HD, sequence >= 0);
    }
    int row = piece.tile * S::VECTORS + 16 * warp + lane / 2; // of the lane's key
    int sequence = row < T ? scratch.row_sequence[row] : -1;
    int position = sequence < 0 ? INT_MAX : a.sequences[sequence].pos0 + row - a.sequences[sequence].row0;
    Tile dk_sum[S::TILES], dv_sum[S::TILES];
    for (int d = 0; d < S::TILES; d++) {
        wmma::fill_fragment(dk_sum[d], 0.0f);
        wmma::fill_fragment(dv_sum[d], 0.0f);
    }

    int first = piece.row0 * G, end = piece.row1 * G;
    for (int vector = first - S::STREAM; vector < end;
         vector += S::STREAM) { // computes with one buffer, the other being filled
        int next = vector + S::STREAM, buffer = (next - first) / S::STREAM % 2;
        copies_wait<0>();
        __syncthreads();
        if (next < end) {
            bf16 *qs = stream + buffer * 2 * S::STREAM * S::STRIDE;
            load_vectors<HDP, S::STREAM>(qs, a.q, a.HD, a, kv_head, next, end);
            load_vectors<HDP, S::STREAM>(qs + S::STREAM * S::STRIDE, (const bf16 *)dq, 2 * a.HD, a, kv_head, next, end);
            copies_commit();
            if (thread < S::STREAM) {
                StreamVector info = {-1, 0, 0, 0, 0, 0};
                int query_row = (next + thread) / G,
                    query_sequence = next + thread < end ? scratch.row_sequence[query_row] : -1;
                if (query_sequence >= 0) {
                    const Sequence g = a.sequences[query_sequence];
                    size_t at = vector_at(a, kv_head, next + thread);
                    info = {g.pos0 + query_row - g.row0, g.pos0, g.prefix_row0, g.row0 - g.pos0, lse[at] * LOG2_E,
                            dq[at * a.HD + a.HD / 2]};
                }
                infos[buffer][thread] = info;
            }
        }
        if (vector < first) continue;
        const bf16 *qs = stream + (1 - buffer) * 2 * S::STREAM * S::STRIDE, *douts = qs + S::STREAM * S::STRIDE;
        stream_scores<HDP>(s, keys + 16 * warp * S::STRIDE, qs);
        stream_scores<HDP>(dp, values + 16 * warp * S::STRIDE, douts);
        __syncwarp();
        float p[S::STREAM / 2], ds[S::STREAM / 2];
        #pragma unroll
        for (int i = 0; i < S::STREAM / 2; i += 4) {
            int j = 2 * i + 4 * half;
            float x[4], y[4];
            *(float4 *)x = *(const float4 *)(s_row + j);
            *(float4 *)y = *(const float4 *)(dp_row + j);
            for (int k = 0; k < 4; k++) {
                const StreamVector info = infos[1 - buffer][j + k];
                bool visible =
                    position <= info.pos && (position < info.pos0 ? info.prefix : info.own) == row - position;
                p[i + k] = visible ? exp2f(x[k] * (scale * LOG2_E) - info.lse2) : 0.0f;
                ds[i + k] = visible ? p[i + k] * (y[k] - info.D) : 0.0f;
            }
        }
        __syncwarp(); // both lanes of a row have read
        #pragma unroll
        for (int i = 0; i < S::STREAM / 2; i += 4) {
            *(Bf16x4 *)((bf16 *)s_row + 2 * i + 4 * half) = round4(p[i], p[i + 1], p[i + 2], p[i + 3]);
            *(Bf16x4 *)((bf16 *)dp_row + 2 * i + 4 * half) = round4(ds[i], ds[i + 1], ds[i + 2], ds[i + 3]);
        }
        __syncwarp();
        stream_add<HDP>(dv_sum, s, douts + column0);
        stream_add<HDP>(dk_sum, dp, qs + column0);
    }
    __syncthreads(); // the stream's buffers make room for the sums
    float *dv_to = dv + ((size_t)row * a.NKV + kv_head) * a.HD, *dk_to = dk + ((size_t)row * a.NKV + kv_head) * a.HD;
    if (piece.n > 1) {
        dv_to = scratch.slots + (((size_t)piece.slot * a.NKV + kv_head) * 2 * S::VECTORS + 16 * warp + lane / 2) * a.HD;
        dk_to = dv_to + (size_t)S::VECTORS * a.HD;
    }
    float *stage = (float *)stream + warp * 16 * S::STRIDE;
    write_sums<HDP>(dv_to, dv_sum, stage, 1.0f, sequence >= 0, column0, a.HD);
    write_sums<HDP>(dk_to, dk_sum, stage, scale, sequence >= 0, column0, a.HD);
}

// Block (first piece of a tile, key/value head): adds up the tile's pieces, in order.
__global__ void attention_add_kernel(float *dk, float *dv, Attention a, BackwardScratch scratch, int T, int tile_rows) {
    if ((int)blockIdx.x >= *scratch.n_pieces) return;
    const Piece first = scratch.pieces[blockIdx.x];
    if (first.piece > 0 || first.n == 1) return;
    int kv_head = (int)blockIdx.y;
    size_t one = (size_t)tile_rows * a.HD, slot = one * 2 * a.NKV;
    for (int i = (int)threadIdx.x; i < tile_rows * a.HD; i += (int)blockDim.x) {
        int row = first.tile * tile_rows + i / a.HD, d = i % a.HD;
        if (row >= T || scratch.row_sequence[row] < 0) continue;
        const float *from = scratch.slots + first.slot * slot + kv_head * 2 * one + i;
        float dv_sum = 0, dk_sum = 0;
        for (int piece = 0; piece < first.n; piece++) {
            dv_sum += from[piece * slot];
            dk_sum += from[piece * slot + one];
        }
        dv[((size_t)row * a.NKV + kv_head) * a.HD + d] = dv_sum;
        dk[((size_t)row * a.NKV + kv_head) * a.HD + d] = dk_sum;
    }
}

// ----------------------------------------------------------------------------
// launchers

// at[6] = where each part of BackwardScratch begins in one piece of memory; returns its size. The largest part, slots,
// is as much as dk and dv together.
template <int HDP> size_t backward_scratch_bytes(size_t at[6], int T, int n_sequences, int NKV, int HD) {
    typedef BackwardShape<HDP> S;
    size_t tiles = blocks_for((size_t)T, S::VECTORS), total = 0;
    size_t bytes[6] = {(size_t)T * sizeof(int),   (size_t)n_sequences * sizeof(int),
                       tiles * sizeof(int),       sizeof(int),
                       2 * tiles * sizeof(Piece), tiles * 2 * NKV * S::VECTORS * HD * sizeof(float)};
    for (int i = 0; i < 6; i++) {
        at[i] = total;
        total += (bytes[i] + 255) / 256 * 256;
    }
    return total;
}

static BackwardScratch backward_scratch(const size_t at[6], size_t bytes) {
    char *p = (char *)cuda_scratch(&cuda.backward, bytes);
    return {(int *)(p + at[0]), (int *)(p + at[1]),   (int *)(p + at[2]),
            (int *)(p + at[3]), (Piece *)(p + at[4]), (float *)(p + at[5])};
}

template <int HDP>
void attention_backward(float *dq, float *dk, float *dv, const float *dout, const bf16 *out, const float *lse,
                        const Attention &a, int T) {
    typedef BackwardShape<HDP> S;
    int tiles = (int)blocks_for((size_t)T, S::VECTORS);
    size_t at[6], bytes = backward_scratch_bytes<HDP>(at, T, a.n_sequences, a.NKV, a.HD);
    BackwardScratch scratch = backward_scratch(at, bytes);
    LAUNCH(attention_prepare_kernel, blocks_for((size_t)T * a.NH, 8), 256, 0, cuda_stream)
    (dq, dk, dv, scratch.row_sequence, dout, out, a, T);
    CUDA_CHECK(cudaGetLastError());
    LAUNCH(attention_plan_kernel, 1, PLAN_THREADS, 0, cuda_stream)(scratch, a, T, S::VECTORS);
    CUDA_CHECK(cudaGetLastError());
    allow_shared(attention_dkv_kernel<HDP>, S::BYTES);
    LAUNCH(attention_dkv_kernel<HDP>, dim3(2 * tiles, a.NKV * S::PARTS), S::THREADS, S::BYTES, cuda_stream)
    (dk, dv, dq, lse, a, scratch, T);
    CUDA_CHECK(cudaGetLastError());
    LAUNCH(attention_add_kernel, dim3(2 * tiles, a.NKV), 256, 0, cuda_stream)(dk, dv, a, scratch, T, S::VECTORS);
    CUDA_CHECK(cudaGetLastError());
    allow_shared(attention_dq_kernel<HDP>, S::BYTES);
    unsigned query_tiles = blocks_for((size_t)T * (a.NH / a.NKV), S::VECTORS);
    LAUNCH(attention_dq_kernel<HDP>, query_tiles * a.NKV, S::THREADS, S::BYTES, cuda_stream)
    (dq, lse, a, scratch.row_sequence, T);
    CUDA_CHECK(cudaGetLastError());
}

void cuda_attention_backward(float *dq, float *dk, float *dv, const float *dout, const act *out, const float *lse,
                             const act *q, const KVCache *kv, int layer, const Sequence *sequences, int n_sequences,
                             int T, int NH) {
    if (T == 0 || n_sequences == 0) return;
    Attention a = attention_of(q, kv, layer, sequences, n_sequences, NH);
    auto backward = kv->HD <= 32    ? attention_backward<32>
                    : kv->HD <= 64  ? attention_backward<64>
                    : kv->HD <= 128 ? attention_backward<128>
                                    : attention_backward<256>;
    backward(dq, dk, dv, dout, (const bf16 *)out, lse, a, T);
}

#endif
