/*
Ranks with a GPU each, without a model: what mpirun starts with 1 to 4 processes. The tree that adds up a gradient, its subtrees
exchanged from GPU to GPU, against the same tree on one rank's CPU, to the bit, for any owners of its parts. Without NCCL
they travel through the hosts' memory, and the same holds.

    CUDA_ON_CPU_DEVICES=4 mpirun -np 4 build/test_ranks
*/
#include "dev/test/test.h"
#include "llmc/grad_tree.h"
#include "llmc/rng.h"

enum { MOST = 13 };

// values[i,c] of case k: the same numbers on every rank.
static float value(uint32_t k, int n, int i, size_t c) { return rng_uniform(k, RNG_TOKEN, (uint32_t)n, (uint32_t)i, (uint32_t)c, 0) - 0.5f; }

// total[size] (the host's memory) = the sum of the parts, of which this rank has those with owner == me. Through `ops`.
static void tree_sum(float *total, GradTree *g, const int *owner, int n, uint32_t k, int me) {
    const Ops *ops = g->ops;
    const size_t bytes = g->size * sizeof(float);
    float *part = (float *)xmalloc(bytes), *there = (float *)ops->alloc(bytes);
    grad_tree_begin(g, n);
    memcpy(g->owner, owner, (size_t)n * sizeof(int));
    grad_tree_zero(g, me);
    for (int i = 0; i < n; i++) {
        if (g->part[i] < 0) continue;
        for (size_t c = 0; c < g->size; c++) part[c] = value(k, n, i, c);
        ops->upload(g->parts + (size_t)g->part[i] * g->size, part, bytes);
    }
    grad_tree_sum(g, there);
    ops->download(total, there, bytes);
    ops->release(there);
    free(part);
}

// The same on one rank: all parts are rank 0's.
static void tree_alone(float *total, const int *owner, int n, size_t size, uint32_t k) {
    const Dist before = dist;
    const bool direct = dist_gpu.direct;
    int all[MOST];
    GradTree g;
    for (int i = 0; i < n; i++) all[i] = owner[i] < 0 ? -1 : 0;
    grad_tree_init(&g, ops_ref_init(), size);
    dist.rank = 0;
    dist.size = 1;
    dist_gpu.direct = false;
    tree_sum(total, &g, all, n, k, 0);
    dist = before;
    dist_gpu.direct = direct;
    grad_tree_free(&g);
}

static void test_trees(const Ops *ops) {
    static const size_t sizes[] = {1, 5, (1u << 18) + 3}; // the last: more than what the stand-in moves at once
    for (int s = 0; s < 3; s++) {
        const size_t size = sizes[s], bytes = size * sizeof(float);
        float *alone = (float *)xmalloc(bytes), *shared = (float *)xmalloc(bytes), *in_order = (float *)xmalloc(bytes);
        int wrong = 0, order_seen = 0;
        GradTree g; // one for all cases, as in training: its buffers are used again
        grad_tree_init(&g, ops, size);
        for (uint32_t k = 0; k < (size < 1000 ? 48 : 1); k++) { // an emulated GPU takes its time
            const int n = size < 1000 ? 1 + (int)(k % MOST) : 5;
            int owner[MOST];
            for (size_t c = 0; c < size; c++) in_order[c] = 0;
            for (int i = 0; i < n; i++) { // neighbours have one owner, or any; some groups have no gradient, in case 7 none has
                const uint32_t bits = rng_bits(k, RNG_TOKEN, (uint32_t)n, 1000, (uint32_t)i, 0);
                owner[i] = k == 7 || (k % 3 == 2 && bits % 3 == 0) ? -1 : k % 2 ? i * dist.size / n : (int)(bits >> 8) % dist.size;
                for (size_t c = 0; c < size && owner[i] >= 0; c++) in_order[c] += value(k, n, i, c);
            }
            tree_sum(shared, &g, owner, n, k, dist.rank);
            tree_alone(alone, owner, n, size, k);
            wrong += memcmp(alone, shared, bytes) != 0;
            order_seen += memcmp(alone, in_order, bytes) != 0;
        }
        CHECK(wrong == 0, "rank %d of %d: %d sums of %zu numbers have other bits than one rank's", dist.rank, dist.size, wrong, size);
        CHECK(order_seen > 0, "only %d sums of %zu numbers would notice another order", order_seen, size);
        grad_tree_free(&g);
        free(alone);
        free(shared);
        free(in_order);
    }
}

int main(int argc, char **argv) {
    Error err = {0, ""};
    const Ops *ops = NULL;
    if (!dist_init(&argc, &argv, &err)) die(&err);
    bool ok = dist_gpu_choose("cuda", &err);
    if (ok) ops = ops_for_device("cuda", &err);
    if (!dist_agree(ok && ops, &err) || !dist_gpu_begin("cuda", &err)) dist_die(&err);
    if (dist.size > 1) printf("%d ranks, rank 0 on %s; gradients %s\n", dist.size, dist_gpu.gpu, dist_gpu.gradient);
    test_trees(ops);
    // what went wrong on any rank is rank 0's to say: the others' output goes nowhere
    struct { int passed, failed; } mine = {tests_passed, tests_failed}, *one;
    Str all = {0};
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    dist_gather(&all, start, &mine, sizeof mine);
    one = (__typeof__(one))(void *)all.s;
    for (int r = 1; r < dist.size; r++) {
        if (one[r].failed && dist.rank == 0) printf("FAILED: %d tests on rank %d\n", one[r].failed, r);
        tests_passed += dist.rank == 0 ? one[r].passed : 0;
        tests_failed += dist.rank == 0 ? one[r].failed : 0;
    }
    str_free(&all);
    free(start);
    dist_finalize();
    return test_summary();
}
