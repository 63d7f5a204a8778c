/*
What no level owns: which levels this CPU can run and their tables, memory, the packing of weights, and the few
operations that are plain loops everywhere. Compiled for every CPU, as the programs are.
*/
#include "llmc/cpu/shared.h"    // what this file gives to the levels
#include "llmc/cpu/plain.h"     // operations that are plain loops
#include "llmc/ops_host.h"      // ops_host_init
#include "llmc/utils/threads.h" // OpenMP, or its meaning for one thread

#include <sys/mman.h> // mmap, madvise: large pieces of memory
#if defined __x86_64__
#include <cpuid.h>
#endif
#if defined __linux__
#include <sys/auxv.h>    // getauxval
#include <sys/syscall.h> // arch_prctl
#elif defined __APPLE__
#include <sys/sysctl.h> // sysctlbyname
#endif

// ----------------------------------------------------------------------------
// memory and weights

// Zeroed, 64-byte aligned; from 1.5 MiB on in huge pages where the system has them (fewer page faults when
// loading, fewer TLB misses when streaming). Pages are zeroed when first touched, so what is never used costs
// nothing. Freed by cpu_release.
typedef struct {
    void *base;
    size_t mapped;
} CpuBlock; // lies in front of what cpu_alloc returns; mapped 0: from calloc

static void *cpu_alloc(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    if (bytes > SIZE_MAX / 2) out_of_memory(bytes);
    CpuBlock block;
    char *p;
    const size_t room = alloc_room(bytes);
    if (room) {
        block.mapped = bytes + room;
        block.base = mmap(NULL, block.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block.base == MAP_FAILED) out_of_memory(bytes);
        p = (char *)(((uintptr_t)block.base + sizeof block + huge - 1) & ~(uintptr_t)(huge - 1));
#ifdef MADV_HUGEPAGE // an advice: if refused, nothing is lost. A last piece that fills less than 3/4 stays in small
                     // pages.
        madvise(p, (bytes + huge / 4) / huge * huge, MADV_HUGEPAGE);
#endif
    } else {
        block.mapped = 0;
        block.base = calloc(bytes + 64 + sizeof block, 1);
        if (!block.base) out_of_memory(bytes);
        p = (char *)(((uintptr_t)block.base + sizeof block + 63) & ~(uintptr_t)63);
    }
    memcpy(p - sizeof block, &block, sizeof block);
    return p;
}

static void cpu_release(void *p) {
    if (!p) return;
    CpuBlock block;
    memcpy(&block, (char *)p - sizeof block, sizeof block);
    if (block.mapped) munmap(block.base, block.mapped);
    else free(block.base);
}

void *cpu_scratch(size_t bytes) { return xaligned(bytes); }

// Columns k0 ... k0+n-1 of row `row` of a raw matrix as bf16.
static void cpu_raw_bf16(bf16_t *to, const RawTensor *raw, int64_t row, int64_t k0, int n) {
    const size_t at = (size_t)(row * raw->shape[1] + k0);
    const char *from = (const char *)raw->data + dtype_size(raw->dtype, at); // a file's data need not be aligned
    __builtin_prefetch(from + 64);                                           // the caller comes for it soon
    if (raw->dtype == DTYPE_BF16) {
        if (n == 32) memcpy(to, from, 64);
        else memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
    for (int i = 0; i < n; i++) {
        uint16_t h;
        float f;
        if (raw->dtype == DTYPE_F16) {
            memcpy(&h, from + 2 * i, 2);
            f = f16_to_f32(h);
        } else {
            memcpy(&f, from + 4 * i, 4);
        }
        to[i] = f32_to_bf16(f);
    }
}

// Whether products read the file's blocks: they are smaller than bf16.
static bool cpu_weight_stays(const RawTensor *raw, int n_raw) {
    for (int i = 0; i < n_raw; i++)
        if (dtype_quantised(raw[i].dtype)) return true;
    return false;
}

size_t cpu_weight_bytes(const RawTensor *raw, int n_raw, int whole) {
    size_t N = 0, bytes = 0;
    const int K = (int)raw[0].shape[1];
    for (int i = 0; i < n_raw; i++) {
        N += (size_t)raw[i].shape[0];
        bytes += dtype_size(raw[i].dtype, (size_t)raw[i].shape[0] * (size_t)K);
    }
    if (cpu_weight_stays(raw, n_raw)) return bytes;
    return (N + 63) / 64 * 64 * (size_t)((K + whole - 1) / whole * whole) * sizeof(bf16_t);
}

void cpu_weight_pack(Weight *w, const RawTensor *raw, int n_raw, int strip, int whole,
                     void (*turn)(bf16_t *to, const bf16_t *x)) {
    memset(w, 0, sizeof *w);
    w->n_raw = n_raw;
    w->K = (int)raw[0].shape[1];
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    w->bytes = cpu_weight_bytes(raw, n_raw, whole);
    if (cpu_weight_stays(raw, n_raw)) return;
    const int K = w->K, columns = (K + whole - 1) / whole * whole, n_strips = (w->N + 63) / 64 * (64 / strip);
    bf16_t *data = (bf16_t *)cpu_alloc(w->bytes);
#pragma omp parallel for schedule(static)
    for (int s = 0; s < n_strips; s++) {
        bf16_t x[64 * 32], turned[64 * 32]; // 32 columns of all rows at a time: it all stays in the L1 cache
        for (int k = 0; k < K; k += 32) {
            int n_k = K - k < 32 ? K - k : 32;
            if (n_k < 32 || (s + 1) * strip > w->N) memset(x, 0, sizeof x);
            for (int n = 0; n < strip && s * strip + n < w->N; n++) {
                int from = 0, row = s * strip + n;
                while (row >= w->raw[from].shape[0]) row -= (int)w->raw[from++].shape[0];
                cpu_raw_bf16(x + 32 * n, &w->raw[from], row, k, n_k);
            }
            bf16_t *to = data + ((size_t)s * columns + k) * strip;
            if (n_k == 32) {
                turn(to, x);
            } else {
                turn(turned, x);
                memcpy(to, turned, (size_t)(columns - k) * strip * sizeof *to);
            }
        }
    }
    w->data = data;
}

void cpu_weight_free(Weight *w) {
    cpu_release(w->data);
    memset(w, 0, sizeof *w);
}

#define WEIGHT_TILE 32 // rows and columns that are turned while they are in the L1 cache

void cpu_turn(bf16_t *to, const bf16_t *from, int T, int n, int ld) {
    #pragma omp parallel for schedule(static) if ((size_t)T * n > 8192)
    for (int i0 = 0; i0 < n; i0 += WEIGHT_TILE)
        for (int t0 = 0; t0 < T; t0 += WEIGHT_TILE)
            for (int i = i0; i < n && i < i0 + WEIGHT_TILE; i++)
                for (int t = t0; t < T && t < t0 + WEIGHT_TILE; t++) to[(size_t)i * T + t] = from[(size_t)t * ld + i];
}

// ----------------------------------------------------------------------------
// output and attention

double cpu_output_share(const OutputChunk *c, const OutputRow *row) { return exp((double)c->max - row->max) * c->sum; }

OutputRow cpu_output_row(const OutputChunk *c, int n_chunks) {
    OutputRow row;
    row.max = -INFINITY;
    row.total = 0;
    for (int i = 0; i < n_chunks; i++)
        if (c[i].max > row.max) row.max = c[i].max;
    for (int i = 0; i < n_chunks; i++) row.total += cpu_output_share(&c[i], &row);
    row.lse = (float)(row.max + log(row.total));
    return row;
}

float cpu_output_entropy(const OutputChunk *c, int n_chunks, const OutputRow *row) {
    double moment = 0;
    for (int i = 0; i < n_chunks; i++) {
        double below = (double)c[i].max - row->max;
        if (c[i].sum > 0) moment += exp(below) * (c[i].moment + below * c[i].sum);
    }
    return (float)(log(row->total) - moment / row->total);
}

bool cpu_output_better(const OutputCandidate *a, const OutputCandidate *b) {
    return a->z != b->z ? a->z > b->z : a->id < b->id;
}

int cpu_output_select(OutputCandidate *c, int n, double need, bool counting) {
    int lo = 0, hi = n; // all before lo are in, none from hi on
    while (hi - lo > 1) {
        OutputCandidate *a = &c[lo], *b = &c[lo + (hi - lo) / 2], *last = &c[hi - 1], *middle;
        if (cpu_output_better(a, b)) middle = cpu_output_better(b, last) ? b : cpu_output_better(a, last) ? last : a;
        else middle = cpu_output_better(a, last) ? a : cpu_output_better(b, last) ? last : b;
        OutputCandidate pivot = *middle, t;
        *middle = *last;
        double weight = 0;
        int m = lo;
        for (int i = lo; i < hi - 1; i++) {
            if (!cpu_output_better(&c[i], &pivot)) continue;
            weight += counting ? 1 : c[i].p;
            t = c[i];
            c[i] = c[m];
            c[m++] = t;
        }
        c[hi - 1] = c[m];
        c[m] = pivot;
        if (m > lo && weight >= need) {
            hi = m;
            continue;
        }
        weight += counting ? 1 : pivot.p;
        if (weight >= need) return m + 1;
        need -= weight;
        lo = m + 1;
    }
    return hi;
}

int cpu_attention_sequence(const int *first, int n_sequences, int task) {
    int lo = 0, hi = n_sequences - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (first[mid] <= task) lo = mid;
        else hi = mid - 1;
    }
    return lo;
}

// ----------------------------------------------------------------------------
// which levels there are

// The levels that the compiler could make (Makefile); the others are named, but cannot be had.
#ifndef LLMC_LEVEL_amx
#define LLMC_LEVEL_amx NULL
#endif
#ifndef LLMC_LEVEL_avx512_bf16
#define LLMC_LEVEL_avx512_bf16 NULL
#endif
#ifndef LLMC_LEVEL_avx512
#define LLMC_LEVEL_avx512 NULL
#endif
#ifndef LLMC_LEVEL_avx2
#define LLMC_LEVEL_avx2 NULL
#endif
#ifndef LLMC_LEVEL_neon_bf16
#define LLMC_LEVEL_neon_bf16 NULL
#endif
#ifndef LLMC_LEVEL_neon
#define LLMC_LEVEL_neon NULL
#endif

typedef struct {
    const char *name;
    bool here; // this CPU and its operating system can run it
    CpuFill *below,
        *fill; // the level that it takes the rest from, or NULL; its own, NULL where the program was built without it
} CpuLevel;

#if defined __x86_64__

// Permission of the operating system to use the tile registers: Linux asks for it, once per process.
static bool cpu_amx_permitted(void) {
#if defined __linux__
    const long request = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1))
        return false; // AMX-BF16, AMX-TILE
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

// Intel's cores that have AMX take two cycles for VDPBF16PS, in which they do four FMAs of half as many products: where
// a virtual machine hides the tiles, avx512 is faster. (Measured on Emerald Rapids: 86 against 176 GFLOP/s a core; the
// same is seen in libxsmm/tpp-mlir #1025.) They are known by AVX512-FP16. On Zen 4 it is twice as fast as FMAs
// (iree-org/iree #15089).
static bool cpu_bf16_slower(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_is("intel") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 23 & 1);
}

// all[n] = every level of this kind of CPU, best first; returns n.
static int cpu_all_levels(CpuLevel all[CPU_LEVELS]) {
    __builtin_cpu_init(); // its answers include whether the system saves the registers
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16"), slower = has_bf16 && cpu_bf16_slower();
    const CpuLevel amx = {"amx", has_bf16 && cpu_amx_permitted(), LLMC_LEVEL_avx512, LLMC_LEVEL_amx};
    const CpuLevel bf16 = {"avx512_bf16", has_bf16, LLMC_LEVEL_avx512, LLMC_LEVEL_avx512_bf16};
    const CpuLevel avx512 = {"avx512", has_avx512, NULL, LLMC_LEVEL_avx512};
    const CpuLevel avx2 = {"avx2", has_avx2, NULL, LLMC_LEVEL_avx2};
    const CpuLevel portable = {"portable", true, NULL, cpu_level_portable};
    all[0] = amx;
    all[1] = slower ? avx512 : bf16;
    all[2] = slower ? bf16 : avx512;
    all[3] = avx2;
    all[4] = portable;
    return 5;
}

#elif defined __aarch64__

static bool cpu_has_bf16(void) {
#if defined __APPLE__
    int has = 0;
    size_t bytes = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &bytes, NULL, 0) == 0 && has;
#elif defined __linux__
    return getauxval(AT_HWCAP2) >> 14 & 1; // HWCAP2_BF16, which older headers lack
#else
    return false;
#endif
}

static int cpu_all_levels(CpuLevel all[CPU_LEVELS]) {
    const CpuLevel bf16 = {"neon_bf16", cpu_has_bf16(), LLMC_LEVEL_neon, LLMC_LEVEL_neon_bf16},
                   neon = {"neon", true, NULL, LLMC_LEVEL_neon};
    const CpuLevel portable = {"portable", true, NULL, cpu_level_portable};
    all[0] = bf16;
    all[1] = neon;
    all[2] = portable;
    return 3;
}

#else

static int cpu_all_levels(CpuLevel all[CPU_LEVELS]) {
    const CpuLevel portable = {"portable", true, NULL, cpu_level_portable};
    all[0] = portable;
    return 1;
}

#endif

int cpu_levels(const char *names[CPU_LEVELS]) {
    CpuLevel all[CPU_LEVELS];
    const int n_all = cpu_all_levels(all);
    int n = 0;
    for (int i = 0; i < n_all; i++)
        if (all[i].here && all[i].fill) names[n++] = all[i].name;
    return n;
}

// ----------------------------------------------------------------------------
// the tables

static void cpu_fill(Ops *ops, CpuChains *chains, const CpuLevel *level) {
    ops_host_init(ops);
    ops->name = "cpu";
    ops->isa = level->name;
    ops->act_bytes = sizeof(bf16_t);
    ops->alloc = cpu_alloc;
    ops->release = cpu_release;
    ops->weight_free = cpu_weight_free;
    ops->kv_copy_page = cpu_kv_copy_page;
    ops->gather_rows = cpu_gather_rows;
    ops->mix_blocks = cpu_mix_blocks;
    ops->act_add_row = cpu_act_add_row;
    ops->put_rows = cpu_put_rows;
    if (level->below) level->below(ops, chains);
    level->fill(ops, chains);
}

const Ops *cpu_ops_for(const char *level, Error *err) {
    static Ops tables[CPU_LEVELS];
    CpuLevel all[CPU_LEVELS];
    CpuChains chains;
    char can[64] = "";
    const char *why = "no level of this kind of CPU";
    const int n = cpu_all_levels(all);
    for (int i = 0; i < n; i++) {
        const bool asked = strcmp(all[i].name, level) == 0;
        if (asked && !all[i].here) why = "this CPU cannot run that";
        else if (asked && !all[i].fill) why = "this program was built without it (see what `make` says of the levels)";
        if (!all[i].here || !all[i].fill) continue;
        snprintf(can + strlen(can), sizeof can - strlen(can), "%s%s", *can ? ", " : "", all[i].name);
        if (!asked) continue;
        cpu_fill(&tables[i], &chains, &all[i]);
        return &tables[i];
    }
    fail(err, EXIT_USAGE, "LLMC_ISA=%s: %s\n  -> one of: %s (or unset it)", level, why, can);
    return NULL;
}

CpuChains cpu_chains(const char *level) {
    CpuLevel all[CPU_LEVELS];
    CpuChains chains;
    Ops ops;
    cpu_level_portable(&ops, &chains);
    const int n = cpu_all_levels(all);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i].name, level) == 0 && all[i].here && all[i].fill) all[i].fill(&ops, &chains);
    return chains;
}
