/*
Kernel lab: the log-probability of one token a row from logits[n,V], V = 151,936: log softmax without the softmax.

    make build/lab_logprob
    build/lab_logprob [n]        64 rows

Logits of 64 rows are 39 MB: the fast versions are bound by how often they are read from memory. The last line is what
the programs run (llmc/cpu/output.h). Every version but the last two runs on one thread.
*/
#include "llmc/cpu/cpu.h" // ops_cpu_init
#include "llmc/utils/threads.h"

#define LAB_V 151936
#define LAB_CHUNK 4096 // logits that stay in the L1 cache

typedef float vf16 __attribute__((vector_size(64)));
typedef int vi16 __attribute__((vector_size(64)));

typedef struct {
    int n;
    const float *logits;
    const int *target;
    float *logprob;
} Lab;

// 1. The definition, after the largest logit is taken off so that nothing overflows: two passes, one exp at a time in
// double.
void version_1(const Lab *l) {
    for (int i = 0; i < l->n; i++) {
        const float *x = l->logits + (size_t)i * LAB_V;
        float max = x[0];
        double sum = 0;
        for (int v = 1; v < LAB_V; v++)
            if (x[v] > max) max = x[v];
        for (int v = 0; v < LAB_V; v++) sum += exp((double)x[v] - max);
        l->logprob[i] = (float)(x[l->target[i]] - max - log(sum));
    }
}

// 2. expf, still one at a time: a double carries only the sum.
void version_2(const Lab *l) {
    for (int i = 0; i < l->n; i++) {
        const float *x = l->logits + (size_t)i * LAB_V;
        float max = x[0];
        double sum = 0;
        for (int v = 1; v < LAB_V; v++)
            if (x[v] > max) max = x[v];
        for (int v = 0; v < LAB_V; v++) sum += expf(x[v] - max);
        l->logprob[i] = (float)(x[l->target[i]] - max - log(sum));
    }
}

// exp of 16 numbers not above 0: 2^k times a polynomial in the rest (Taylor, enough for |r| <= ln 2 / 2).
static inline vf16 lab_exp(vf16 x) {
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to a whole number
    x = (vf16)(((vi16)x & (vi16)(x > -87.0f)) | ((vi16)((vf16){0} - 87.0f) & (vi16)(x <= -87.0f)));
    vf16 t = x * 1.44269504f + magic, k = t - magic;
    vf16 r = x - k * 0.693359375f + k * 2.12194440e-4f;
    vf16 p = ((((r * (1.0f / 720) + 1.0f / 120) * r + 1.0f / 24) * r + 1.0f / 6) * r + 0.5f) * r * r + r + 1.0f;
    vi16 two_k = ((vi16)t - 0x4B400000 + 127) << 23;
    return p * (vf16)two_k;
}

static inline float lab_max(const float *x, int n) {
    vf16 top, a;
    memcpy(&top, x, sizeof top);
    for (int v = 16; v < n; v += 16) {
        memcpy(&a, x + v, sizeof a);
        top = (vf16)(((vi16)a & (vi16)(a > top)) | ((vi16)top & (vi16)(a <= top)));
    }
    float max = top[0];
    for (int j = 1; j < 16; j++)
        if (top[j] > max) max = top[j];
    return max;
}

static inline double lab_sum(const float *x, int n, float max) {
    vf16 sum = {0}, a;
    for (int v = 0; v < n; v += 16) {
        memcpy(&a, x + v, sizeof a);
        sum += lab_exp(a - max);
    }
    double total = 0;
    for (int j = 0; j < 16; j++) total += sum[j];
    return total;
}

// 3. Sixteen at a time, with an exp made of multiplications.
void version_3(const Lab *l) {
    for (int i = 0; i < l->n; i++) {
        const float *x = l->logits + (size_t)i * LAB_V;
        float max = lab_max(x, LAB_V);
        l->logprob[i] = (float)(x[l->target[i]] - max - log(lab_sum(x, LAB_V, max)));
    }
}

static inline float row_in_chunks(const float *x, int target) {
    float largest[LAB_V / LAB_CHUNK + 1], max = -INFINITY;
    double sum[LAB_V / LAB_CHUNK + 1], total = 0;
    int n = 0;
    for (int v = 0; v < LAB_V; v += LAB_CHUNK, n++) {
        int left = LAB_V - v < LAB_CHUNK ? LAB_V - v : LAB_CHUNK;
        largest[n] = lab_max(x + v, left);
        sum[n] = lab_sum(x + v, left, largest[n]);
        if (largest[n] > max) max = largest[n];
    }
    for (int i = 0; i < n; i++) total += sum[i] * exp((double)largest[i] - max);
    return (float)(x[target] - max - log(total));
}

// 4. In chunks: the largest of a chunk, then its sum while it is in the L1 cache. Each logit comes from memory once.
void version_4(const Lab *l) {
    for (int i = 0; i < l->n; i++) l->logprob[i] = row_in_chunks(l->logits + (size_t)i * LAB_V, l->target[i]);
}

// 5. All cores, a row each.
void version_5(const Lab *l) {
#pragma omp parallel for
    for (int i = 0; i < l->n; i++) l->logprob[i] = row_in_chunks(l->logits + (size_t)i * LAB_V, l->target[i]);
}

// 6. What the programs run: chunks dealt to the cores (one row uses all of them), temperature, entropy, NaN and
// infinity.
const Ops *lab_ops;
float *lab_lse;
void version_6(const Lab *l) { lab_ops->logprob_rows(l->logprob, lab_lse, NULL, l->logits, l->target, 1, l->n, LAB_V); }

// ----------------------------------------------------------------------------

double lab_first_s;

void lab_time(int version, const char *idea, void (*run)(const Lab *), Lab *l, const float *right) {
    double best = 1e9, worst = 0, stop = now_s() + 1;
    for (int i = 0; i < 3 || now_s() < stop; i++) {
        double t = now_s();
        run(l);
        t = now_s() - t;
        if (t < best) best = t;
        if (t > 1) break;
    }
    for (int i = 0; right && i < l->n; i++) {
        double d = fabs((double)l->logprob[i] - right[i]);
        if (!(d <= worst)) worst = d;
    }
    if (version == 1) lab_first_s = best;
    printf("%d  %-48s %9.2f ms %8.2f GB/s of logits %8.1fx   error %.1e\n", version, idea, 1e3 * best,
           4e-9 * l->n * LAB_V / best, lab_first_s / best, worst);
    fflush(stdout);
    if (!(worst < 1e-4)) {
        fprintf(stderr, "version %d is wrong\n", version);
        exit(1);
    }
}

int main(int argc, char **argv) {
    Lab l = {argc > 1 ? atoi(argv[1]) : 64, NULL, NULL, NULL};
    if (l.n < 1 || argc > 2) {
        fprintf(stderr, "usage: %s [rows]\n", argv[0]);
        return 2;
    }
    Error err = {0};
    lab_ops = ops_cpu_init(&err);
    if (!lab_ops) die(&err);
    float *logits = (float *)xaligned((size_t)l.n * LAB_V * sizeof(float)),
          *right = (float *)xmalloc((size_t)l.n * sizeof(float));
    int *target = (int *)xmalloc((size_t)l.n * sizeof(int));
    lab_lse = (float *)xmalloc((size_t)l.n * sizeof(float));
    uint32_t state = 1;
    for (size_t i = 0; i < (size_t)l.n * LAB_V; i++) {
        state = state * 1664525u + 1013904223u;
        logits[i] = 8 * (float)(int32_t)state * 0x1p-31f;
    }
    for (int i = 0; i < l.n; i++) target[i] = i * 997 % LAB_V;
    l.logits = logits, l.target = target, l.logprob = right;
    printf("log-probs of %d rows of %d logits, %s, %d threads\n", l.n, LAB_V, lab_ops->isa, omp_get_max_threads());
    lab_time(1, "naive: two passes, exp in double", version_1, &l, NULL);
    l.logprob = (float *)xmalloc((size_t)l.n * sizeof(float));
    lab_time(2, "expf", version_2, &l, right);
    lab_time(3, "16 at a time, exp of multiplications", version_3, &l, right);
    lab_time(4, "chunks: every logit once from memory", version_4, &l, right);
    lab_time(5, "all cores", version_5, &l, right);
    lab_time(6, "llmc", version_6, &l, right);
    return 0;
}
