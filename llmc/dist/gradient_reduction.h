/*
The gradient of a step as a sum of parts, one for each group of answers, in an order that does not depend on who
computed which part: a binary tree over the groups' numbers.

    sum(lo, hi) = sum(lo, mid) + sum(mid, hi),  mid = (lo + hi) / 2,  of the groups that have a gradient

A rank adds up the largest subtrees whose groups are all its own, and sends these; from there on all ranks add the same
numbers in the same order. A rank whose groups are neighbours sends at most 2 log2(its groups) or so [L,C] arrays. One
rank does the same additions, so the sum has the same bits on 1, 2 or any number of ranks. They travel from GPU to GPU
where NCCL does that, otherwise through the hosts' memory: to the same bits.

The gradient of all weights is too large for that: all groups of a rank add to one part, which is the gradient's array
itself (single); the ranks' are added by shard.h.
*/
#ifndef LLMC_DIST_GRADIENT_REDUCTION_H
#define LLMC_DIST_GRADIENT_REDUCTION_H

#include "llmc/dist/gpu.h"    // dist_gather, dist_gpu_share
#include "llmc/utils/utils.h" // IntVec
#include "llmc/ops.h"         // Ops

typedef struct {
    const Ops *ops;
    size_t size;  // numbers of a gradient
    float *slots; // [cap, size] in the backend's memory: this rank's, then the subtrees of all
    int cap;
    float *spare; // [spare_cap, size] what subtrees of all arrive in that come from other GPUs; then it is `parts`
    int spare_cap;
    int n; // groups of the step
    int *owner,
        *slot;   // [n] the rank that computes a group's gradient, -1: it has none; its slot, if that is this rank
    int owned;   // slots of this rank
    bool single; // slots is one, the caller's array
} GradientReduction;

// Free with reduction_free.
void reduction_init(GradientReduction *g, const Ops *ops, size_t size) {
    memset(g, 0, sizeof *g);
    g->ops = ops;
    g->size = size;
}

// All groups of this rank add to `sum` [size], in the backend's memory, the caller's: no tree, nothing to exchange
// here.
void reduction_init_single(GradientReduction *g, const Ops *ops, size_t size, float *sum) {
    reduction_init(g, ops, size);
    g->slots = sum;
    g->cap = 1;
    g->single = true;
}

void reduction_free(GradientReduction *g) {
    if (g->slots && !g->single) g->ops->release(g->slots);
    if (g->spare) g->ops->release(g->spare);
    free(g->owner);
    free(g->slot);
    memset(g, 0, sizeof *g);
}

// Room for n slots; what was there is lost.
void reduction_reserve(GradientReduction *g, int n) {
    if (n <= g->cap) return;
    if (g->slots) g->ops->release(g->slots);
    g->cap = n;
    g->slots = (float *)g->ops->alloc((size_t)n * g->size * sizeof(float));
}

// `slots` and `spare` change places.
void reduction_swap(GradientReduction *g) {
    float *slots = g->slots;
    const int cap = g->cap;
    g->slots = g->spare;
    g->cap = g->spare_cap;
    g->spare = slots;
    g->spare_cap = cap;
}

// A new step of n groups; owner[n] is then to be filled in by the caller, alike on all ranks.
void reduction_begin(GradientReduction *g, int n) {
    g->n = n;
    g->owner = (int *)xrealloc(g->owner, (size_t)n * sizeof(int));
    g->slot = (int *)xrealloc(g->slot, (size_t)n * sizeof(int));
    for (int i = 0; i < n; i++) g->owner[i] = -1;
}

// Gives each group of rank `me` a slot, all zero.
void reduction_zero(GradientReduction *g, int me) {
    g->owned = 0;
    for (int i = 0; i < g->n; i++) g->slot[i] = g->owner[i] != me ? -1 : g->single ? 0 : g->owned++;
    if (g->single) g->owned = 1; // also where it has no group: the gradient is zero then
    reduction_reserve(g, g->owned);
    if (g->owned) g->ops->zero(g->slots, (size_t)g->owned * g->size * sizeof(float));
}

// The rank whose the groups lo ... hi-1 are, as far as they have a gradient; -1: none has, -2: several ranks'.
int reduction_owner(const GradientReduction *g, int lo, int hi) {
    int found = -1;
    for (int i = lo; i < hi; i++) {
        if (g->owner[i] < 0 || g->owner[i] == found) continue;
        if (found >= 0) return -2;
        found = g->owner[i];
    }
    return found;
}

// slots[a] += slots[b]; either may be -1, nothing. Returns where the sum is.
int reduction_add(GradientReduction *g, int a, int b) {
    if (a < 0 || b < 0) return a < 0 ? b : a;
    g->ops->column_sum(g->slots + (size_t)a * g->size, g->slots + (size_t)b * g->size, 1, (int)g->size);
    return a;
}

// The subtree over lo ... hi-1, all of it this rank's: which slot holds its sum.
int reduction_own_sum(GradientReduction *g, int lo, int hi) {
    if (hi - lo == 1) return g->slot[lo];
    int mid = lo + (hi - lo) / 2, left = reduction_own_sum(g, lo, mid);
    return reduction_add(g, left, reduction_own_sum(g, mid, hi));
}

// Appends the bounds and owners of the largest subtrees that belong to one rank, from left to right.
void reduction_subtrees(const GradientReduction *g, int lo, int hi, IntVec *bounds) {
    int owner = hi > lo ? reduction_owner(g, lo, hi) : -1;
    if (owner == -1) return;
    if (owner >= 0) {
        ints_push(bounds, lo);
        ints_push(bounds, hi);
        ints_push(bounds, owner);
        return;
    }
    int mid = lo + (hi - lo) / 2;
    reduction_subtrees(g, lo, mid, bounds);
    reduction_subtrees(g, mid, hi, bounds);
}

// Adds up the subtrees, which are in slots 0, 1, ... from left to right; *next counts them.
int reduction_top(GradientReduction *g, int lo, int hi, int *next) {
    int owner = hi > lo ? reduction_owner(g, lo, hi) : -1;
    if (owner == -1) return -1;
    if (owner >= 0) return (*next)++;
    int mid = lo + (hi - lo) / 2, left = reduction_top(g, lo, mid, next);
    return reduction_add(g, left, reduction_top(g, mid, hi, next));
}

// Appends to `sums` (in the host's memory) those of rank `me` among the subtrees.
void reduction_send(GradientReduction *g, const IntVec *subtrees, int me, Str *sums) {
    const size_t bytes = g->size * sizeof(float);
    for (int i = 0; i < subtrees->n; i += 3) {
        if (subtrees->v[i + 2] != me) continue;
        int slot = reduction_own_sum(g, subtrees->v[i], subtrees->v[i + 1]);
        str_reserve(sums, bytes);
        g->ops->download(sums->s + sums->n, g->slots + (size_t)slot * g->size, bytes);
        sums->n += bytes;
    }
}

// total[size] = slot `whole`; -1: zero.
void reduction_total(GradientReduction *g, int whole, float *total) {
    g->ops->zero(total, g->size * sizeof(float));
    if (whole >= 0) g->ops->column_sum(total, g->slots + (size_t)whole * g->size, 1, (int)g->size);
}

// total[size] = the whole sum, where slots 0, 1, ... hold the subtrees.
void reduction_finish(GradientReduction *g, float *total) {
    int next = 0, whole = reduction_top(g, 0, g->n, &next);
    reduction_total(g, whole, total);
}

// total[size] = the whole sum, given what each of the ranks sent: rank r's from sums + start[r] on. Uses start up.
void reduction_receive(GradientReduction *g, const IntVec *subtrees, const char *sums, size_t *start, float *total) {
    const size_t bytes = g->size * sizeof(float);
    reduction_reserve(g, subtrees->n / 3);
    for (int i = 0; i < subtrees->n / 3; i++) {
        size_t *from = &start[subtrees->v[3 * i + 2]];
        g->ops->upload(g->slots + (size_t)i * g->size, sums + *from, bytes);
        *from += bytes;
    }
    reduction_finish(g, total);
}

// The same from GPU to GPU: the subtrees of rank `me`, added up, go to all ranks, and theirs come here. All ranks
// together.
void reduction_sync(GradientReduction *g, const IntVec *subtrees, int me, float *total) {
    const int n = subtrees->n / 3;
    const float **from = (const float **)xcalloc((size_t)n + 1, sizeof(float *));
    int *owner = (int *)xmalloc(((size_t)n + 1) * sizeof(int));
    for (int i = 0; i < n; i++) {
        const int *s = &subtrees->v[3 * i];
        owner[i] = s[2];
        if (owner[i] == me) from[i] = g->slots + (size_t)reduction_own_sum(g, s[0], s[1]) * g->size;
    }
    reduction_swap(g);
    reduction_reserve(g, n);
    if (n > 0) dist_gpu_share(g->slots, from, owner, n, g->size);
    reduction_finish(g, total);
    free(from);
    free(owner);
}

// total[size] = the sum over all groups of all ranks, the same bits on each. The slots are used up. All ranks together.
// Of a single slot nothing is done: it is this rank's sum.
void reduction_sum(GradientReduction *g, float *total) {
    IntVec subtrees = {0};
    if (g->single) return;
    if (dist.size == 1) {
        reduction_total(g, g->n > 0 ? reduction_own_sum(g, 0, g->n) : -1, total);
        return;
    }
    reduction_subtrees(g, 0, g->n, &subtrees);
    if (dist_gpu.direct) {
        reduction_sync(g, &subtrees, dist.rank, total);
        ints_free(&subtrees);
        return;
    }
    Str mine = {0}, all = {0};
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    reduction_send(g, &subtrees, dist.rank, &mine);
    dist_gather(&all, start, mine.s, mine.n);
    reduction_receive(g, &subtrees, all.s, start, total);
    ints_free(&subtrees);
    str_free(&mine);
    str_free(&all);
    free(start);
}

#endif
