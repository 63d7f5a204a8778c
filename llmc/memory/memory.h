/*
The memory that a run will take of its device, known before it is taken: the functions that allocate are called with a
table of operations that only counts, so that what is planned and what is allocated cannot differ. The plan is held
against what is free on the GPU or, before anything is allocated, in this machine (host.h).

    memory.h  the plan, and what to change where it is too much
    host.h    what this machine still gives; included by itself
    passes.h  the arrays of a model's passes; included by itself

From outside: memory.h host.h passes.h
*/
#ifndef LLMC_MEMORY_MEMORY_H
#define LLMC_MEMORY_MEMORY_H

#include "llmc/ops.h"         // Ops
#include "llmc/utils/utils.h" // fail

typedef enum {
    MEMORY_WEIGHTS,
    MEMORY_CACHE,
    MEMORY_PASS_CACHE,
    MEMORY_SCRATCH,
    MEMORY_ACTIVATIONS,
    MEMORY_HEAD,
    MEMORY_TRAINED,
    MEMORY_OWN,
    MEMORY_MARGIN,
    MEMORY_ANSWERS,
    MEMORY_TOKENS,
    MEMORY_LOOK,
    MEMORY_PARTS
} MemoryPart;

// Bytes of an answer's token: its id and log-prob, and as text in a JSON line, which grows by doubling. A token of
// GSM8K's answers has 3.3 bytes of text; a line that is copied while it grows takes three times itself.
#define ANSWER_TOKEN_BYTES (sizeof(int) + sizeof(float) + 3 * 4)

static const char *const memory_names[MEMORY_PARTS] = {"weights",
                                                       "cache of the rollout",
                                                       "cache of the pass",
                                                       "scratch",
                                                       "activations of the pass",
                                                       "logits, output layer",
                                                       "trained, gradients, AdamW",
                                                       "the kernels' own",
                                                       "graphs, modules, rounding",
                                                       "answers",
                                                       "pass of save_tokens",
                                                       "what the experiment looks at"};

typedef struct {
    size_t part[MEMORY_PARTS]; // bytes
    size_t room;               // what allocations are rounded up by, beyond them (alloc_room, device_room)
} MemoryPlan;

size_t memory_total(const MemoryPlan *p) {
    size_t total = 0;
    for (int i = 0; i < MEMORY_PARTS; i++) total += p->part[i];
    return total;
}

// ----------------------------------------------------------------------------
// counting

static size_t memory_bytes, memory_rounded;
static bool memory_of_host;

// What a piece of a GPU's memory takes beyond its bytes: cudaMalloc gives large ones whole pages of 2 MiB.
static inline size_t device_room(size_t bytes) {
    const size_t page = bytes < (size_t)1 << 20 ? 512 : (size_t)2 << 20;
    return (page - bytes % page) % page;
}

static void *memory_count_alloc(size_t bytes) {
    static char nowhere; // is not touched
    memory_bytes += bytes ? bytes : 1;
    memory_rounded += memory_of_host ? alloc_room(bytes) : device_room(bytes);
    return &nowhere;
}
static void memory_count_release(void *p) { (void)p; }
static void memory_count_zero(void *p, size_t bytes) { (void)p, (void)bytes; }
static void memory_count_upload(void *p, const void *host, size_t bytes) { (void)p, (void)host, (void)bytes; }

// ops, but what is allocated is counted and not there.
Ops memory_counting(const Ops *ops) {
    Ops table = *ops;
    table.alloc = memory_count_alloc;
    table.release = memory_count_release;
    table.zero = memory_count_zero;
    table.upload = memory_count_upload;
    memory_bytes = memory_rounded = 0;
    memory_of_host = ops->host_memory;
    return table;
}

// Bytes since the last call, or since memory_counting.
size_t memory_counted(void) {
    const size_t bytes = memory_bytes;
    memory_bytes = 0;
    return bytes;
}

// What was rounded up, beyond all bytes since memory_counting.
size_t memory_room(void) { return memory_rounded; }

// What a GPU's driver takes while a run of a model of L layers goes on, beside what is allocated: modules (kernels, of
// which cuBLASLt's come as they are chosen, and their local memory) and the recorded decode steps, with MEMORY_LAUNCHES
// a layer; and what allocations are rounded up by. Estimated, not measured. 0 of the host's memory.
#define MEMORY_MODULES ((size_t)256 << 20)
#define MEMORY_GRAPHS 256 // as many as llmc/cuda/graph.cuh keeps
#define MEMORY_LAUNCHES 13
#define MEMORY_NODE 2048 // bytes of one launch in a graph
size_t memory_margin(const Ops *ops, int L, size_t room) {
    if (ops->host_memory) return 0;
    return MEMORY_MODULES + (size_t)MEMORY_GRAPHS * MEMORY_LAUNCHES * (size_t)L * MEMORY_NODE + room;
}

// ----------------------------------------------------------------------------
// what is said of it

typedef struct {
    char text[24];
} MemoryText;

MemoryText memory_text(size_t bytes) {
    MemoryText m;
    const double MiB = 1 << 20;
    if ((double)bytes >= 1024 * MiB) snprintf(m.text, sizeof m.text, "%.2f GiB", (double)bytes / MiB / 1024);
    else if ((double)bytes < MiB) snprintf(m.text, sizeof m.text, "%.1f KiB", (double)bytes / 1024);
    else snprintf(m.text, sizeof m.text, "%.1f MiB", (double)bytes / MiB);
    return m;
}

// The lines of a run's header. A part that takes nothing is left out.
void memory_print(FILE *f, const MemoryPlan *p, const char *device) {
    fprintf(f, "%-28s %s of device %s, at most:\n", "memory", memory_text(memory_total(p)).text, device);
    for (int i = 0; i < MEMORY_PARTS; i++)
        if (p->part[i]) fprintf(f, "  %-26s %s\n", memory_names[i], memory_text(p->part[i]).text);
}

// What makes a plan smaller, by what it is made of: the options that lower its largest parts; appended. available: what
// it must go into.
void memory_advice(Str *out, const MemoryPlan *p, size_t available) {
    const size_t *part = p->part;
    const size_t pass = part[MEMORY_ACTIVATIONS] + part[MEMORY_PASS_CACHE],
                 rows = pass ? pass + part[MEMORY_SCRATCH] : 0;
    const size_t rollout =
        part[MEMORY_CACHE] + (part[MEMORY_CACHE] ? part[MEMORY_HEAD] : 0) + (pass ? 0 : part[MEMORY_SCRATCH]);
    if (part[MEMORY_WEIGHTS] > available) {
        str_printf(out, "a smaller model, or more memory: the weights alone are %s",
                   memory_text(part[MEMORY_WEIGHTS]).text);
        return;
    }
    const struct {
        size_t bytes;
        const char *verb, *options, *what;
    } all[] = {
        {rows, "lower", "--activation_memory", "rows of a pass and what goes with them"},
        {rollout, "lower", "--rollout_batch_size, --cache_memory or --max_completion_length",
         "cache of the rollout, logits"},
        {part[MEMORY_TRAINED], "lower", "--prompts_per_step or --lora_r, or choose another --setup",
         "what is trained, its gradients and moments"},
        {part[MEMORY_ANSWERS], "lower", "--max_completion_length, --num_generations or --limit",
         "tokens and log-probs of the answers"},
        {part[MEMORY_LOOK], "lower", "--max_completion_length or --limit", memory_names[MEMORY_LOOK]},
        {part[MEMORY_TOKENS], "leave out", "--save_tokens", "its pass"},
    };
    const size_t total = memory_total(p);
    const char *verb = "";
    int named = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].bytes <= total / 32) continue;
        const bool same = strcmp(verb, all[i].verb) == 0;
        verb = all[i].verb;
        str_printf(out, "%s%s%s%s (%s: %s)", named++ ? ", " : "", same ? "" : verb, same ? "" : " ", all[i].options,
                   all[i].what, memory_text(all[i].bytes).text);
    }
    if (!named) str_printf(out, "a smaller model, or more memory");
}

// taken: what this program has of the plan already; available: what is free besides. False with what is wanted and what
// lowers it.
bool memory_fits(const MemoryPlan *p, const char *device, size_t taken, size_t available, Error *err) {
    const size_t total = memory_total(p), more = total > taken ? total - taken : 0;
    if (more <= available) return true;
    Str advice = {0};
    memory_advice(&advice, p, available + taken);
    fail(err, EXIT_RUN,
         "device %s: the run wants %s of memory; %s are taken already (weights %s), %s more are wanted, %s are free\n  "
         "-> %s",
         device, memory_text(total).text, memory_text(taken).text, memory_text(p->part[MEMORY_WEIGHTS]).text,
         memory_text(more).text, memory_text(available).text, advice.s);
    str_free(&advice);
    return false;
}

#endif
