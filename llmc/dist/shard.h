/*
All weights in several processes: each rank has the model, the numbers x[n] that it is made of, and the gradient of its
own groups; AdamW's moments, 8 of the 16 bytes a number takes, and its work are split. Rank r owns shard r, `each`
neighbouring numbers (ZeRO, Rajbhandari et al. 2020, arXiv 1910.02054, stages 1 and 2):

    gradient   reduce-scatter: shard r of all ranks' gradients to rank r, which adds rank 0's + rank 1's + ...
    norm       of the shards' sums of squares, in the order of ranks
    AdamW      on the shard
    x          all-gather: every shard to all ranks

So the same number of ranks gives the same bits, another number others: each adds up its groups first, and a tree over
groups (gradient_reduction.h) would have to move whole gradients. Everything moves in pieces, and nothing beyond x, the
gradient and the shard is kept but one piece of each rank. From GPU to GPU where NCCL does that, otherwise through the
hosts' memory: to the same bits, for the sums are made here. A run in one process is one shard.
*/
#ifndef LLMC_DIST_SHARD_H
#define LLMC_DIST_SHARD_H

#include "llmc/dist/gpu.h" // dist, dist_trade, dist_gpu_trade, dist_gpu_share
#include "llmc/ops.h"      // Ops

#define SHARD_PIECE (1 << 17) // numbers from each rank at a time: half a MiB
#define SHARD_ALIGN 64        // a shard begins at a multiple of so many

typedef struct {
    const Ops *ops;
    bool split;         // false: one shard, the whole, on every rank
    size_t n, each;     // numbers; of a shard, which after n are nobody's and zero
    size_t first, mine; // this rank's: first ... first + mine - 1
    float *arrived;     // [ranks, SHARD_PIECE] in the backend's memory (NULL: not split)
} Shard;

// How n numbers are split, if they are and there are several ranks. Takes no memory yet.
void shard_init(Shard *s, const Ops *ops, size_t n, bool split) {
    memset(s, 0, sizeof *s);
    s->ops = ops;
    s->n = s->each = s->mine = n;
    s->split = split && dist.size > 1;
    if (!s->split) return;
    const size_t ranks = (size_t)dist.size;
    s->each = ((n + ranks - 1) / ranks + SHARD_ALIGN - 1) / SHARD_ALIGN * SHARD_ALIGN;
    s->first = (size_t)dist.rank * s->each;
    s->mine = s->first >= n ? 0 : n - s->first < s->each ? n - s->first : s->each;
}

// Numbers that x and the gradient have room for: all shards.
size_t shard_room(const Shard *s) { return s->split ? s->each * (size_t)dist.size : s->n; }

void shard_alloc(Shard *s, const Ops *ops) {
    if (s->split) s->arrived = (float *)ops->alloc((size_t)dist.size * SHARD_PIECE * sizeof(float));
}

void shard_release(Shard *s) {
    if (s->arrived) s->ops->release(s->arrived);
    s->arrived = NULL;
}

// ----------------------------------------------------------------------------
// pieces. at, len: which of each shard's numbers

int shard_piece(const Shard *s, size_t at) { return s->each - at < SHARD_PIECE ? (int)(s->each - at) : SHARD_PIECE; }

// count[r] = len for every rank; for rank `but` 0 (-1: for none).
void shard_counts(int *count, int len, int but) {
    for (int r = 0; r < dist.size; r++) count[r] = r == but ? 0 : len;
}

// s->arrived[ranks, len] = this rank's shard of g of every rank.
void shard_scatter_piece(Shard *s, const float *g, size_t at, int len, int *count) {
    const size_t bytes = (size_t)len * sizeof(float);
    if (dist_gpu.direct) {
        dist_gpu_trade(s->arrived, g + at, s->each, (size_t)len);
        return;
    }
    shard_counts(count, len, -1);
    if (s->ops->host_memory) {
        dist_trade(s->arrived, (size_t)len, count, g + at, s->each, count);
        return;
    }
    float *out = (float *)xmalloc(2 * (size_t)dist.size * bytes), *in = out + (size_t)dist.size * len;
    for (int r = 0; r < dist.size; r++) s->ops->download(out + (size_t)r * len, g + (size_t)r * s->each + at, bytes);
    dist_trade(in, (size_t)len, count, out, (size_t)len, count);
    s->ops->upload(s->arrived, in, (size_t)dist.size * bytes);
    free(out);
}

// ----------------------------------------------------------------------------
// a step. All ranks together; nothing is done where the numbers are not split

// This rank's shard of g[shard_room] = the sum of all ranks', added in the order of ranks. The other shards stay as
// they were.
void shard_reduce(Shard *s, float *g) {
    int *count = (int *)xmalloc((size_t)dist.size * sizeof(int));
    for (size_t at = 0; s->split && at < s->each; at += SHARD_PIECE) {
        const int len = shard_piece(s, at);
        float *sum = g + s->first + at;
        shard_scatter_piece(s, g, at, len, count);
        s->ops->zero(sum, (size_t)len * sizeof(float));
        s->ops->column_sum(sum, s->arrived, dist.size, len); // rows in order
    }
    free(count);
}

// The length of the gradient whose shards shard_reduce has left on the ranks: the same number on all.
double shard_norm(const Shard *s, const float *g) {
    double mine = s->ops->gradient_norm(g + s->first, s->mine), sum = 0;
    if (!s->split) return mine;
    Str all = {0};
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    dist_gather(&all, start, &mine, sizeof mine);
    for (int r = 0; r < dist.size; r++) {
        memcpy(&mine, all.s + start[r], sizeof mine);
        sum += mine * mine;
    }
    str_free(&all);
    free(start);
    return sqrt(sum);
}

// x[shard_room] = every rank's shard of x.
void shard_share(Shard *s, float *x) {
    if (!s->split) return;
    const int ranks = dist.size, me = dist.rank;
    int *come = (int *)xmalloc(3 * (size_t)ranks * sizeof(int)), *go = come + ranks, *owner = go + ranks;
    if (dist_gpu.direct) { // each shard is an array, from its place on its rank to its place on all
        const float **from = (const float **)xcalloc((size_t)ranks, sizeof(float *));
        for (int r = 0; r < ranks; r++) owner[r] = r;
        from[me] = x + s->first;
        dist_gpu_share(x, from, owner, ranks, s->each);
        free((void *)from);
        free(come);
        return;
    }
    float *in = s->ops->host_memory ? NULL : (float *)xmalloc(((size_t)ranks + 1) * SHARD_PIECE * sizeof(float)),
          *out = in ? in + (size_t)ranks * SHARD_PIECE : NULL;
    for (size_t at = 0; at < s->each; at += SHARD_PIECE) {
        const int len = shard_piece(s, at);
        shard_counts(come, len, me);
        shard_counts(go, len, me);
        if (in) s->ops->download(out, x + s->first + at, (size_t)len * sizeof(float));
        dist_trade(in ? in : x + at, in ? SHARD_PIECE : s->each, come, in ? out : x + s->first + at, 0, go);
        for (int r = 0; r < ranks && in; r++)
            if (r != me)
                s->ops->upload(x + (size_t)r * s->each + at, in + (size_t)r * SHARD_PIECE, (size_t)len * sizeof(float));
    }
    free(in);
    free(come);
}

// ----------------------------------------------------------------------------
// checkpoints: between rank 0's host memory, all[shard_room], and each rank's shard, mine[each] in the backend's. Only
// where split; all ranks together. `all` is read and written on rank 0 alone.

// to_zero: the shards come to rank 0; else they go out from there. On rank 0 `mine` may be its place in `all`.
void shard_move(Shard *s, float *all, float *mine, bool to_zero) {
    const bool zero = dist.rank == 0;
    int *come = (int *)xcalloc(2 * (size_t)dist.size, sizeof(int)), *go = come + dist.size;
    float *piece = s->ops->host_memory ? NULL : (float *)xmalloc(SHARD_PIECE * sizeof(float));
    for (size_t at = 0; at < s->each; at += SHARD_PIECE) {
        const int len = shard_piece(s, at);
        const size_t bytes = (size_t)len * sizeof(float);
        float *here = piece ? piece : mine + at, *there = zero ? all + at : NULL;
        if (to_zero && piece) s->ops->download(piece, mine + at, bytes);
        for (int r = 1; r < dist.size && zero; r++) (to_zero ? come : go)[r] = len;
        if (!zero) (to_zero ? go : come)[0] = len;
        if (to_zero) dist_trade(there, s->each, come, here, 0, go);
        else dist_trade(here, 0, come, there, s->each, go);
        if (zero && here != there) memcpy(to_zero ? there : here, to_zero ? here : there, bytes); // its own
        if (!to_zero && piece) s->ops->upload(mine + at, piece, bytes);
    }
    free(piece);
    free(come);
}

// all = the shards of all ranks.
void shard_collect(Shard *s, float *all, float *mine) { shard_move(s, all, mine, true); }

// Each rank's shard = its part of `all`.
void shard_deal(Shard *s, float *mine, float *all) { shard_move(s, all, mine, false); }

#endif
