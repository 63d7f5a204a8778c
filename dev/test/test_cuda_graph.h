// Decode steps that are recorded as CUDA graphs and replayed (llmc/cuda/graph.cuh): always the bits of the same
// operations one by one. All arrays stay where they are, so that steps differ in nothing but what the case names: a key
// that leaves it out replays the wrong graph.
#ifndef DEV_TEST_TEST_CUDA_GRAPH_H
#define DEV_TEST_TEST_CUDA_GRAPH_H

#include "dev/test/backends.h" // to_backend; CHECK
#include "llmc/batch.h"        // BatchBuilder
#include "llmc/utils/rng.h"    // rng_uniform

#ifndef TINY_MODEL
#define TINY_MODEL "data/tiny/model"
#endif

// ----------------------------------------------------------------------------
// a table of operations that counts replays, and one that never records

static const Ops *graph_ops;
static int graph_replays, graph_runs;

static bool graph_counted_begin(const void *key, size_t bytes) {
    const bool run = graph_ops->graph_begin(key, bytes);
    graph_replays += !run;
    graph_runs += run;
    return run;
}

Ops graph_counting(const Ops *ops) {
    Ops table = *ops;
    graph_ops = ops;
    graph_replays = graph_runs = 0;
    table.graph_begin = graph_counted_begin;
    return table;
}

Ops graph_never(const Ops *ops) {
    Ops table = *ops;
    table.graph_begin = NULL;
    return table;
}

// ----------------------------------------------------------------------------
// decode steps of the tiny model

enum {
    GRAPH_ROWS = 5,
    GRAPH_PAGES = 2 * GRAPH_ROWS + 1
}; // two pages a sequence; one more that a row may be written to as well

typedef struct {
    Qwen2 model; // with the side's own table
    Scratch scratch[2];
    KVCache kv[2];
    float *steering[3]; // the last one is NULL
    BatchBuilder packed;
    float *h; // what the last step gave: [GRAPH_ROWS,C], then all keys and values
    size_t h_bytes, kv_bytes;
} GraphSide;

typedef struct {
    const char *differs_in;
    int T, more_writes, steering, kv, scratch;
    bool replayed;
} GraphStep;

// T sequences, each at its own position; the last `more_writes` writes send row 0 to the page that is nobody's.
static const Batch *graph_pack(GraphSide *s, int T, int more_writes, int turn) {
    batch_reset(&s->packed);
    for (int i = 0; i < T; i++) {
        const int pages[2] = {2 * i, 2 * i + 1}, token = 3 + (7 * turn + 11 * i) % 200;
        batch_add(&s->packed, &token, 1, KV_PAGE + 3 * i, pages, 0, i);
    }
    for (int i = 0; i < more_writes; i++) batch_write_also(&s->packed, 0, (GRAPH_PAGES - 1) * KV_PAGE + i);
    return batch_finish(&s->packed, s->model.ops);
}

static void graph_side_init(GraphSide *s, const Qwen2 *m, const Ops *table, const float *const host[2]) {
    const size_t LC = (size_t)m->config.L * m->config.C;
    memset(s, 0, sizeof *s);
    s->model = *m;
    s->model.ops = table;
    for (int i = 0; i < 2; i++) {
        scratch_alloc(&s->scratch[i], &s->model, GRAPH_ROWS, 1, false);
        kv_cache_alloc(&s->kv[i], &s->model, GRAPH_PAGES);
        s->steering[i] = to_backend(table, host[i], LC);
    }
    s->h_bytes = (size_t)GRAPH_ROWS * m->config.C * sizeof(float);
    s->kv_bytes = (size_t)s->kv[0].L * GRAPH_PAGES * m->config.NKV * KV_PAGE * m->config.HD * table->act_bytes;
    s->h = (float *)xcalloc(1, s->h_bytes + 2 * s->kv_bytes);
    graph_pack(s, GRAPH_ROWS, GRAPH_ROWS, 0); // the arrays have their last size and place from here on
}

static void graph_side_step(GraphSide *s, const GraphStep *step, int turn) {
    const Ops *ops = s->model.ops;
    Scratch *scratch = &s->scratch[step->scratch];
    KVCache *kv = &s->kv[step->kv];
    memset(s->h, 0, s->h_bytes);
    qwen2_forward(&s->model, scratch, NULL, kv, graph_pack(s, step->T, step->more_writes, turn),
                  s->steering[step->steering]);
    ops->download(s->h, scratch->h, (size_t)step->T * s->model.config.C * sizeof(float));
    ops->download((char *)s->h + s->h_bytes, kv->k, s->kv_bytes);
    ops->download((char *)s->h + s->h_bytes + s->kv_bytes, kv->v, s->kv_bytes);
}

static void graph_side_free(GraphSide *s) {
    const Ops *ops = s->model.ops;
    for (int i = 0; i < 2; i++) {
        scratch_free(&s->scratch[i], ops);
        kv_cache_free(&s->kv[i], ops);
        ops->release(s->steering[i]);
    }
    batch_free(&s->packed, ops);
    free(s->h);
}

void test_graph_decode(const Ops *ops) {
    static const GraphStep steps[] = {
        {"nothing: it is seen", 2, 0, 0, 0, 0, false},
        {"nothing: it is recorded", 2, 0, 0, 0, 0, false},
        {"tokens", 2, 0, 0, 0, 0, true},
        {"more sequences", 5, 0, 0, 0, 0, false},
        {"fewer sequences", 1, 0, 0, 0, 0, false},
        {"more writes to the cache", 2, 1, 0, 0, 0, false},
        {"fewer sequences, as many writes", 1, 1, 0, 0, 0, false},
        {"another vector", 2, 0, 1, 0, 0, false},
        {"no vector", 2, 0, 2, 0, 0, false},
        {"another cache", 2, 0, 0, 1, 0, false},
        {"other scratch memory", 2, 0, 0, 0, 1, false},
        {"the vector's values", 2, 0, 0, 0, 0, true},
    };
    const int n = (int)(sizeof steps / sizeof steps[0]);
    const Ops tables[2] = {graph_counting(ops), graph_never(ops)};
    GraphSide sides[2];
    Qwen2 m;
    Error err = {0, ""};
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
    const size_t LC = (size_t)m.config.L * m.config.C;
    float *host[2];
    for (int v = 0; v < 2; v++) {
        host[v] = (float *)xmalloc(LC * sizeof(float));
        for (size_t i = 0; i < LC; i++)
            host[v][i] = rng_uniform(3 + (uint32_t)v, RNG_TOKEN, (uint32_t)i, 0, 0, 0) - 0.5f;
    }
    for (int side = 0; side < 2; side++) graph_side_init(&sides[side], &m, &tables[side], (const float *const *)host);
    for (int i = 0; i < n; i++) {
        const int before = graph_replays;
        if (i == n - 1)
            for (int side = 0; side < 2; side++) ops->upload(sides[side].steering[0], host[1], LC * sizeof(float));
        for (int side = 0; side < 2; side++) graph_side_step(&sides[side], &steps[i], i);
        CHECK(memcmp(sides[0].h, sides[1].h, sides[0].h_bytes) == 0,
              "%s: decode steps that differ in %s: other bits of h than without graphs", ops->isa, steps[i].differs_in);
        CHECK(memcmp((char *)sides[0].h + sides[0].h_bytes, (char *)sides[1].h + sides[1].h_bytes,
                     2 * sides[0].kv_bytes) == 0,
              "%s: decode steps that differ in %s: other keys or values than without graphs", ops->isa,
              steps[i].differs_in);
        CHECK(graph_replays - before == steps[i].replayed, "%s: decode steps that differ in %s: %d replays", ops->isa,
              steps[i].differs_in, graph_replays - before);
    }
    for (int side = 0; side < 2; side++) {
        graph_side_free(&sides[side]);
        free(host[side]);
    }
    qwen2_free(&m);
}

// ----------------------------------------------------------------------------
// what is kept, and for how long

// A round with that key that zeroes p[4]; true if it was replayed.
static bool graph_round(const Ops *ops, int key, float *p) {
    if (!ops->graph_begin(&key, sizeof key)) return true;
    ops->zero(p, 4 * sizeof(float));
    ops->graph_end();
    return false;
}

void test_graph_memory(const Ops *ops) {
    enum { KEYS = 600, KEPT = 256 };
    const float ones[4] = {1, 1, 1, 1};
    float got[4] = {1, 1, 1, 1}, *p = to_backend(ops, ones, 4), *other = to_backend(ops, ones, 4);
    for (int round = 0; round < 4; round++) { // seen, recorded, replayed twice
        ops->upload(p, ones, sizeof ones);
        CHECK(graph_round(ops, -1, p) == (round >= 2), "%s: round %d: replayed or not", ops->isa, round);
        ops->download(got, p, sizeof got);
        CHECK(got[0] == 0 && got[3] == 0, "%s: round %d did nothing", ops->isa, round);
    }
    ops->release(p); // a graph that writes there must not run again, whoever has the memory now
    p = to_backend(ops, ones, 4);
    for (int round = 0; round < 3; round++) {
        CHECK(graph_round(ops, -1, p) == (round == 2), "%s: round %d after a release: replayed or not", ops->isa,
              round);
        ops->download(got, p, sizeof got);
        CHECK(got[0] == 0 && got[3] == 0, "%s: round %d after a release did nothing", ops->isa, round);
    }
    ops->download(got, other, sizeof got);
    CHECK(got[0] == 1 && got[3] == 1, "%s: a round wrote elsewhere", ops->isa);

    int kept = 0;
    for (int key = 0; key < KEYS; key++)
        for (int round = 0; round < 2; round++) graph_round(ops, key, p);
    for (int key = KEYS - 1; key >= 0; key--)
        kept += graph_round(ops, key, p); // the newest first: a miss drops the oldest
    CHECK(kept == KEPT, "%s: %d of %d graphs are kept, expected the newest %d", ops->isa, kept, KEYS, KEPT);
    ops->release(p);
    ops->release(other);
}

void test_cuda_graph(const Ops *ops) {
    test_graph_memory(ops);
    test_graph_decode(ops);
}

#endif
