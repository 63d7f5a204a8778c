/*
RoPE fused with the write to the paged KV cache, its backward, and the copy of a page. What they compute is said in
ops.h.

The cache's layout, shared with attention.cuh, per (layer, page, key/value head), for keys and values alike:

    [KV_PAGE][HD] bf16

so a page of a head is one piece of memory, a key is a row of it, and 128-bit loads run along rows.

A thread moves 16 numbers of one head: 8 pairs (i, i + HD/2), read as four float4 and written as two 128-bit stores.
Heads whose HD is no multiple of 16 are moved pair by pair.
*/
#ifndef LLMC_CUDA_ROPE_CUH
#define LLMC_CUDA_ROPE_CUH

#include "llmc/cuda/common.cuh"

// Where a key/value head's page begins, in elements.
__device__ __forceinline__ size_t kv_page_at(int layer, int page, int head, int n_pages, int NKV, int HD) {
    return (((size_t)layer * n_pages + page) * NKV + head) * KV_PAGE * HD;
}

// ----------------------------------------------------------------------------
// kernels

// in[0..8) and in[half..half+8) turned by the angles of cos_sin[8][2]; direction -1 turns back. 128-bit accesses.
__device__ __forceinline__ void rotate8(bf16 *out, const float *in, const float *cos_sin, int half, float direction) {
    float a[8], b[8], cs[16];
    for (int i = 0; i < 8; i += 4) {
        *(float4 *)(a + i) = *(const float4 *)(in + i);
        *(float4 *)(b + i) = *(const float4 *)(in + half + i);
    }
    for (int i = 0; i < 16; i += 4) *(float4 *)(cs + i) = *(const float4 *)(cos_sin + i);
    for (int i = 0; i < 8; i++) {
        float c = cs[2 * i], s = direction * cs[2 * i + 1], x = a[i], y = b[i];
        a[i] = x * c - y * s;
        b[i] = y * c + x * s;
    }
    *(Bf16x8 *)out = round8(a);
    *(Bf16x8 *)(out + half) = round8(b);
}

// out[16] = in[16]
__device__ __forceinline__ void round16(bf16 *out, const float *in) {
    for (int j = 0; j < 16; j += 8) {
        float4 a = *(const float4 *)(in + j), b = *(const float4 *)(in + j + 4);
        *(Bf16x8 *)(out + j) = round8(a, b);
    }
}

// Piece `piece` of a head (of HD / 16, or HD / 2 where a piece is one pair).
template <bool WIDE>
__device__ __forceinline__ void rotate_piece(bf16 *out, const float *in, const float *cos_sin, int piece, int HD,
                                             float direction) {
    if (WIDE) rotate8(out + 8 * piece, in + 8 * piece, cos_sin + 16 * piece, HD / 2, direction);
    else {
        float c = cos_sin[2 * piece], s = direction * cos_sin[2 * piece + 1], a = in[piece], b = in[piece + HD / 2];
        out[piece] = __float2bfloat16(a * c - b * s);
        out[piece + HD / 2] = __float2bfloat16(b * c + a * s);
    }
}

template <bool WIDE> __device__ __forceinline__ void round_piece(bf16 *out, const float *in, int piece) {
    if (WIDE) round16(out + 16 * piece, in + 16 * piece);
    else
        for (int j = 2 * piece; j < 2 * piece + 2; j++) out[j] = __float2bfloat16(in[j]);
}

// One thread per piece: first those of q, then those of k together with those of v, write by write.
template <bool WIDE>
__global__ void rope_kv_write_kernel(bf16 *q, bf16 *k_cache, bf16 *v_cache, const float *qkv, const float *rope,
                                     const int *pos, const int *write_row, const int *write_slot, int n_writes, int T,
                                     int NH, int NKV, int HD, int layer, int n_pages) {
    int pieces = WIDE ? HD / 16 : HD / 2;
    size_t QKV = (size_t)(NH + 2 * NKV) * HD, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x,
           of_q = (size_t)T * NH * pieces;
    if (i < of_q) {
        int piece = (int)(i % pieces), head = (int)(i / pieces % NH);
        size_t t = i / pieces / NH;
        const float *from = qkv + t * QKV + (size_t)head * HD;
        rotate_piece<WIDE>(q + (t * NH + head) * HD, from, rope + (size_t)pos[t] * HD, piece, HD, 1.0f);
        return;
    }
    i -= of_q;
    if (i >= (size_t)n_writes * NKV * pieces) return;
    int piece = (int)(i % pieces), head = (int)(i / pieces % NKV), write = (int)(i / pieces / NKV);
    int t = write_row[write], slot = write_slot[write];
    const float *k = qkv + (size_t)t * QKV + (size_t)(NH + head) * HD, *v = k + (size_t)NKV * HD;
    size_t to = kv_page_at(layer, slot / KV_PAGE, head, n_pages, NKV, HD) + (size_t)(slot % KV_PAGE) * HD;
    rotate_piece<WIDE>(k_cache + to, k, rope + (size_t)pos[t] * HD, piece, HD, 1.0f);
    round_piece<WIDE>(v_cache + to, v, piece);
}

// One thread per piece of dqkv.
template <bool WIDE>
__global__ void rope_backward_kernel(bf16 *dqkv, const float *dq, const float *dk, const float *dv, const float *rope,
                                     const int *pos, int T, int NH, int NKV, int HD) {
    int pieces = WIDE ? HD / 16 : HD / 2, heads = NH + 2 * NKV;
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)T * heads * pieces) return;
    int piece = (int)(i % pieces), head = (int)(i / pieces % heads);
    size_t t = i / pieces / heads;
    bf16 *out = dqkv + (t * heads + head) * HD;
    const float *cos_sin = rope + (size_t)pos[t] * HD;
    if (head < NH) rotate_piece<WIDE>(out, dq + (t * NH + head) * HD, cos_sin, piece, HD, -1.0f);
    else if (head < NH + NKV) rotate_piece<WIDE>(out, dk + (t * NKV + head - NH) * HD, cos_sin, piece, HD, -1.0f);
    else round_piece<WIDE>(out, dv + (t * NKV + head - NH - NKV) * HD, piece);
}

// One thread per 128 bits of a page; `page` such pieces are a page of all heads, `layer` those of all pages. y: keys,
// values.
__global__ void kv_copy_page_kernel(uint4 *k, uint4 *v, size_t page, size_t layer, int L, int to_page, int from_page) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= page * L) return;
    uint4 *in_layer = (blockIdx.y ? v : k) + i / page * layer + i % page;
    in_layer[page * to_page] = in_layer[page * from_page];
}

// ----------------------------------------------------------------------------
// launchers

#define ROPE_THREADS 256

void cuda_rope_kv_write(act *q, KVCache *kv, int layer, const float *qkv, const float *rope, const int *pos,
                        const int *write_row, const int *write_slot, int n_writes, int T, int NH) {
    bool wide = kv->HD % 16 == 0;
    size_t n = ((size_t)T * NH + (size_t)n_writes * kv->NKV) * (wide ? kv->HD / 16 : kv->HD / 2);
    if (n == 0) return;
    auto rope_kv_write = wide ? rope_kv_write_kernel<true> : rope_kv_write_kernel<false>;
    LAUNCH(rope_kv_write, blocks_for(n, ROPE_THREADS), ROPE_THREADS, 0, cuda_stream)
    ((bf16 *)q, (bf16 *)kv->k, (bf16 *)kv->v, qkv, rope, pos, write_row, write_slot, n_writes, T, NH, kv->NKV, kv->HD,
     layer, kv->n_pages);
    CUDA_CHECK(cudaGetLastError());
}

void cuda_rope_backward(act *dqkv, const float *dq, const float *dk, const float *dv, const float *rope, const int *pos,
                        int T, int NH, int NKV, int HD) {
    bool wide = HD % 16 == 0;
    size_t n = (size_t)T * (NH + 2 * NKV) * (wide ? HD / 16 : HD / 2);
    if (n == 0) return;
    auto rope_backward = wide ? rope_backward_kernel<true> : rope_backward_kernel<false>;
    LAUNCH(rope_backward, blocks_for(n, ROPE_THREADS), ROPE_THREADS, 0, cuda_stream)
    ((bf16 *)dqkv, dq, dk, dv, rope, pos, T, NH, NKV, HD);
    CUDA_CHECK(cudaGetLastError());
}

void cuda_kv_copy_page(KVCache *kv, int to_page, int from_page) {
    if (to_page == from_page) return;
    size_t page = (size_t)kv->NKV * KV_PAGE * kv->HD * sizeof(bf16) / sizeof(uint4), n = page * kv->L;
    LAUNCH(kv_copy_page_kernel, dim3(blocks_for(n, ROPE_THREADS), 2), ROPE_THREADS, 0, cuda_stream)
    ((uint4 *)kv->k, (uint4 *)kv->v, page, page * kv->n_pages, kv->L, to_page, from_page);
    CUDA_CHECK(cudaGetLastError());
}

#endif
