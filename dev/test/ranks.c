/*
Ranks with a GPU each, or on the CPU, without a model: what mpirun starts with 1 to 4 processes. The tree that adds up a
gradient, its subtrees exchanged from GPU to GPU, against the same tree on one rank's CPU, to the bit, for any owners of
its parts. And shards of a gradient of all weights: their sums, against the same sums in the order of ranks, their norm,
what all ranks and what rank 0 gather. Without NCCL they travel through the hosts' memory, and the same holds; with it
the shards do both.

    CUDA_ON_CPU_DEVICES=4 mpirun -np 4 build/test_ranks
    mpirun -np 4 build/test_ranks cpu
*/
#include "dev/test/test.h"
#include "llmc/dist/dist.h"
#include "llmc/utils/rng.h"

enum { MOST = 13 };

// values[i,c] of case k: the same numbers on every rank.
static float value(uint32_t k, int n, int i, size_t c) {
    return rng_uniform(k, RNG_TOKEN, (uint32_t)n, (uint32_t)i, (uint32_t)c, 0) - 0.5f;
}

// total[size] (the host's memory) = the sum of the slots, of which this rank has those with owner == me. Through `ops`.
static void tree_sum(float *total, GradientReduction *g, const int *owner, int n, uint32_t k, int me) {
    const Ops *ops = g->ops;
    const size_t bytes = g->size * sizeof(float);
    float *part = (float *)xmalloc(bytes), *there = (float *)ops->alloc(bytes);
    reduction_begin(g, n);
    memcpy(g->owner, owner, (size_t)n * sizeof(int));
    reduction_zero(g, me);
    for (int i = 0; i < n; i++) {
        if (g->slot[i] < 0) continue;
        for (size_t c = 0; c < g->size; c++) part[c] = value(k, n, i, c);
        ops->upload(g->slots + (size_t)g->slot[i] * g->size, part, bytes);
    }
    reduction_sum(g, there);
    ops->download(total, there, bytes);
    ops->release(there);
    free(part);
}

// The same on one rank: all slots are rank 0's.
static void tree_alone(float *total, const int *owner, int n, size_t size, uint32_t k) {
    const Dist before = dist;
    const bool direct = dist_gpu.direct;
    int all[MOST];
    GradientReduction g;
    for (int i = 0; i < n; i++) all[i] = owner[i] < 0 ? -1 : 0;
    reduction_init(&g, ops_ref_init(), size);
    dist.rank = 0;
    dist.size = 1;
    dist_gpu.direct = false;
    tree_sum(total, &g, all, n, k, 0);
    dist = before;
    dist_gpu.direct = direct;
    reduction_free(&g);
}

static void test_trees(const Ops *ops) {
    static const size_t sizes[] = {1, 5, (1u << 18) + 3}; // the last: more than what the stand-in moves at once
    for (int s = 0; s < 3; s++) {
        const size_t size = sizes[s], bytes = size * sizeof(float);
        float *alone = (float *)xmalloc(bytes), *shared = (float *)xmalloc(bytes), *in_order = (float *)xmalloc(bytes);
        int wrong = 0, order_seen = 0;
        GradientReduction g; // one for all cases, as in training: its buffers are used again
        reduction_init(&g, ops, size);
        for (uint32_t k = 0; k < (size < 1000 ? 48 : 1); k++) { // an emulated GPU takes its time
            const int n = size < 1000 ? 1 + (int)(k % MOST) : 5;
            int owner[MOST];
            for (size_t c = 0; c < size; c++) in_order[c] = 0;
            for (int i = 0; i < n;
                 i++) { // neighbours have one owner, or any; some groups have no gradient, in case 7 none has
                const uint32_t bits = rng_bits(k, RNG_TOKEN, (uint32_t)n, 1000, (uint32_t)i, 0);
                owner[i] = k == 7 || (k % 3 == 2 && bits % 3 == 0) ? -1
                           : k % 2                                 ? i * dist.size / n
                                                                   : (int)(bits >> 8) % dist.size;
                for (size_t c = 0; c < size && owner[i] >= 0; c++) in_order[c] += value(k, n, i, c);
            }
            tree_sum(shared, &g, owner, n, k, dist.rank);
            tree_alone(alone, owner, n, size, k);
            wrong += memcmp(alone, shared, bytes) != 0;
            order_seen += memcmp(alone, in_order, bytes) != 0;
        }
        CHECK(wrong == 0, "rank %d of %d: %d sums of %zu numbers have other bits than one rank's", dist.rank, dist.size,
              wrong, size);
        CHECK(order_seen > 0, "only %d sums of %zu numbers would notice another order", order_seen, size);
        reduction_free(&g);
        free(alone);
        free(shared);
        free(in_order);
    }
}

// found[n] of the backend's memory are the bits of expected * scale.
static void same_bits(const Ops *ops, const float *found, const float *expected, float scale, size_t n,
                      const char *what) {
    float *x = (float *)xmalloc((n + 1) * sizeof(float));
    size_t wrong = 0, first = n;
    ops->download(x, found, n * sizeof(float));
    for (size_t i = n; i-- > 0;) {
        const float wanted = scale * expected[i];
        if (memcmp(&x[i], &wanted, sizeof wanted) != 0) {
            wrong++;
            first = i;
        }
    }
    CHECK(wrong == 0, "rank %d of %d: %s: %zu of %zu numbers are wrong, the first is number %zu", dist.rank, dist.size,
          what, wrong, n, first);
    free(x);
}

// Number i of rank r's gradient; of another size on each, so that sums of three depend on their order.
static float shard_value(int r, size_t i) { return value((uint32_t)r, 1, 0, i) * (1 + 0.37f * (float)r); }

// A gradient of n numbers, of which every rank has its own, goes the way of a step and of a checkpoint.
static void test_shards(const Ops *ops, size_t n) {
    Shard s;
    shard_init(&s, ops, n, true);
    shard_alloc(&s, ops);
    const size_t room = shard_room(&s), bytes = room * sizeof(float), each = s.each * sizeof(float);
    float *host = (float *)xcalloc(room, sizeof(float)), *sum = (float *)xcalloc(room, sizeof(float)),
          *backwards = (float *)xcalloc(room, sizeof(float));
    float *g = (float *)ops->alloc(bytes), *moments = (float *)ops->alloc(each), *all = (float *)ops->alloc(bytes);
    double squares = 0;
    int order_seen = 0;
    for (size_t i = 0; i < n; i++) {
        for (int r = 0; r < dist.size; r++) {
            sum[i] += shard_value(r, i);
            backwards[i] += shard_value(dist.size - 1 - r, i);
        }
        host[i] = shard_value(dist.rank, i);
        squares += (double)sum[i] * sum[i];
        order_seen += sum[i] != backwards[i];
    }
    CHECK(order_seen > 0 || n < 100 || dist.size < 3, "no sum of %zu numbers would notice another order", n);

    const size_t first = s.split ? s.first : 0;
    ops->upload(g, host, bytes);
    shard_reduce(&s, g);
    same_bits(ops, g + first, sum + first, 1, s.mine, "the sums of a shard");
    const double norm = shard_norm(&s, g), wanted = sqrt(squares);
    CHECK(fabs(norm - wanted) <= 1e-12 * wanted, "rank %d of %d: the norm is %.17g, expected %.17g", dist.rank,
          dist.size, norm, wanted);
    shard_share(&s, g);
    same_bits(ops, g, sum, 1, n, "what all have of all shards");
    if (s.split) {
        memset(host, 0, bytes);
        ops->upload(moments, sum + first, each);
        shard_collect(&s, host, moments);
        if (dist.rank == 0)
            CHECK(memcmp(host, sum, bytes) == 0, "rank 0 of %d: it gathers other numbers than the shards'", dist.size);
        for (size_t i = 0; i < room; i++) host[i] = dist.rank == 0 ? 2 * sum[i] : 7; // rank 0's alone count
        shard_deal(&s, moments, host);
        same_bits(ops, moments, sum + first, 2, s.mine, "a shard from rank 0");
        // where x is: on the host rank 0's shard lies in its place
        ops->upload(all, host, bytes);
        shard_deal(&s, all + first, ops->host_memory ? all : host);
        shard_share(&s, all);
        same_bits(ops, all, sum, 2, n, "all shards from rank 0");
    }
    ops->release(g);
    ops->release(moments);
    ops->release(all);
    shard_release(&s);
    free(host);
    free(sum);
    free(backwards);
}

int main(int argc, char **argv) {
    Error err = {0, ""};
    const Ops *ops = NULL;
    const char *device = argc > 1 ? argv[1] : "cuda";
    if (!dist_init(&argc, &argv, &err)) die(&err);
    bool ok = dist_gpu_choose(device, &err);
    if (ok) ops = ops_for_device(device, &err);
    if (!agree(ok && ops, &err) || !dist_gpu_begin(device, &err)) dist_die(&err);
    if (dist.size > 1) printf("%d ranks, rank 0 on %s; gradients %s\n", dist.size, dist_gpu.gpu, dist_gpu.gradient);
    test_trees(ops);
    const bool direct = dist_gpu.direct;
    for (int k = 0; k < (direct ? 2 : 1); k++) { // from GPU to GPU, and through the hosts' memory
        static const size_t sizes[] = {1, 100, 1000, 2 * SHARD_PIECE + 77};
        dist_gpu.direct = direct && k == 0;
        for (int i = 0; i < 4; i++) test_shards(ops, sizes[i]);
    }
    dist_gpu.direct = direct;
    // what went wrong on any rank is rank 0's to say: the others' output goes nowhere
    struct {
        int passed, failed;
    } mine = {tests_passed, tests_failed}, *one;
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
