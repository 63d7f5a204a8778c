/*
The output side: log-probabilities, their gradient, sampling.

A row of logits is cut into chunks of OUTPUT_CHUNK tokens at fixed places. Each chunk is read from memory once:
its largest logit, then, while it is still in the L1 cache, its sum of exp(z - largest). The few chunk sums of a
row are then added in order, in double. So threads can share rows and parts of rows, one row uses all of them,
and no bit depends on it; the trainer's log-prob is the sampler's.

z = logit * (1/temperature) everywhere. A row with a NaN or +inf logit has a NaN sum, hence lse, logprob and entropy
NaN and token -1. -inf is a token of probability 0.
*/
#ifndef LLMC_CPU_OUTPUT_H
#define LLMC_CPU_OUTPUT_H

#include "llmc/cpu/rows.h"

#define output_n_chunks SIMD_NAME(output_n_chunks)
#define output_chunk SIMD_NAME(output_chunk)
#define output_chunks SIMD_NAME(output_chunks)
#define output_dlogits SIMD_NAME(output_dlogits)
#define output_collect SIMD_NAME(output_collect)
#define output_draw SIMD_NAME(output_draw)
#define output_draw_filtered SIMD_NAME(output_draw_filtered)
#define output_sample SIMD_NAME(output_sample)

static inline int output_n_chunks(int V) { return (V + OUTPUT_CHUNK - 1) / OUTPUT_CHUNK; }

// exp(z - max) of a register of logits, n of them real; 0 for the others
SIMD_INLINE vf output_exp(const float *x, float inv_t, float max, int n) {
    vf e = vf_exp(vf_get(x, n) * inv_t - max);
    return n >= VF_LANES ? e : vf_select(vf_lt(vf_lane(0), vf_set1((float)n)), e, vf_zero());
}

static void output_chunk(OutputChunk *c, const float *x, float inv_t, int n, bool with_moment) {
    vf top[VF_PARTS], sum[VF_PARTS], moment[VF_PARTS];
    for (int j = 0; j < VF_PARTS; j++) {
        top[j] = vf_set1(-INFINITY);
        sum[j] = moment[j] = vf_zero();
    }
    int i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < VF_PARTS; j++) top[j] = vf_max(vf_load(x + i + j * VF_LANES), top[j]);
    float max = vf_hmax(top);
    for (; i < n; i++)
        if (x[i] > max) max = x[i];
    c->max = max * inv_t;
    float base = c->max > -INFINITY ? c->max : 0.0f; // nothing but -inf (or NaN): their sum is 0 (or NaN)
    for (i = 0; i < n; i += 16)
        for (int j = 0; j < VF_PARTS; j++) {
            const int at = i + j * VF_LANES, left = n - at;
            vf e = output_exp(x + at, inv_t, base, left);
            sum[j] += e;
            // the bound keeps 0 * -inf out; below it e is 0
            if (with_moment)
                moment[j] = vf_fma(e, vf_max(vf_get(x + at, left) * inv_t - base, vf_set1(-100.0f)), moment[j]);
        }
    c->sum = vf_sum(sum);
    c->moment = vf_sum(moment);
}

// Chunk i % n_chunks of row i / n_chunks, for all rows. Freed by the caller.
static OutputChunk *output_chunks(const float *logits, float inv_t, int n, int V, bool with_moment) {
    int n_chunks = output_n_chunks(V);
    OutputChunk *chunks = (OutputChunk *)cpu_scratch((size_t)n * n_chunks * sizeof *chunks);
    #pragma omp parallel for schedule(static) if ((size_t)n * V > CPU_PARALLEL_MIN)
    for (int i = 0; i < n * n_chunks; i++) {
        int first = i % n_chunks * OUTPUT_CHUNK;
        output_chunk(&chunks[i], logits + (size_t)(i / n_chunks) * V + first, inv_t,
                     V - first < OUTPUT_CHUNK ? V - first : OUTPUT_CHUNK, with_moment);
    }
    return chunks;
}

static void SIMD_NAME(logprob_rows)(float *logprob, float *lse, float *entropy, const float *logits, const int *target,
                                    float temperature, int n, int V) {
    int n_chunks = output_n_chunks(V);
    float inv_t = 1.0f / temperature;
    OutputChunk *chunks = output_chunks(logits, inv_t, n, V, entropy != NULL);
    for (int i = 0; i < n; i++) {
        OutputRow row = cpu_output_row(chunks + (size_t)i * n_chunks, n_chunks);
        lse[i] = row.lse;
        logprob[i] = logits[(size_t)i * V + target[i]] * inv_t - row.lse;
        if (entropy) entropy[i] = cpu_output_entropy(chunks + (size_t)i * n_chunks, n_chunks, &row);
    }
    free(chunks);
}

// ----------------------------------------------------------------------------
// gradient

// n tokens of one row; `target` counts from the first of them and may lie outside
static void output_dlogits(bf16_t *d, const float *x, float inv_t, float lse, float scale, int target, int n) {
    for (int i = 0; i < n; i += VF_LANES)
        vf_put_bf16(d + i, vf_exp(vf_get(x + i, n - i) * inv_t - lse) * -scale, n - i);
    if (target < 0 || target >= n) return;
    d[target] = f32_to_bf16(scale * (1.0f - vf_exp(vf_set1(x[target] * inv_t - lse))[0]));
}

static void SIMD_NAME(dlogits_rows)(act *dlogits, const float *logits, const float *lse, const int *target,
                                    const float *dlogprob, float temperature, int n, int V) {
    int n_chunks = output_n_chunks(V);
    float inv_t = 1.0f / temperature;
    #pragma omp parallel for schedule(static) if ((size_t)n * V > CPU_PARALLEL_MIN)
    for (int i = 0; i < n * n_chunks; i++) {
        int row = i / n_chunks, first = i % n_chunks * OUTPUT_CHUNK;
        size_t at = (size_t)row * V + first;
        output_dlogits((bf16_t *)dlogits + at, logits + at, inv_t, lse[row], dlogprob[row] * inv_t, target[row] - first,
                       V - first < OUTPUT_CHUNK ? V - first : OUTPUT_CHUNK);
    }
}

// ----------------------------------------------------------------------------
// sampling. What is found by inverting the cumulative distribution is the first token whose sum exceeds the
// target; where rounding leaves the target unreached, the last of probability above 0.

// u in the whole distribution: the chunk first, then the token in it
static int output_draw(const float *logits, const OutputChunk *chunks, const OutputRow *row, float inv_t, float u,
                       int V) {
    double target = u * row->total, sum = 0, before = 0;
    int chunk = 0;
    for (int c = 0; c < output_n_chunks(V); c++) {
        double share = cpu_output_share(&chunks[c], row);
        if (!(share > 0)) continue;
        chunk = c;
        before = sum;
        sum += share;
        if (sum > target) break;
    }
    const float *x = logits + chunk * OUTPUT_CHUNK;
    int first = chunk * OUTPUT_CHUNK, n = V - first < OUTPUT_CHUNK ? V - first : OUTPUT_CHUNK;
    target = (target - before) / exp((double)chunks[chunk].max - row->max);
    sum = 0;
    for (int i = 0; i < n; i += 16) {
        vf parts[VF_PARTS];
        float e[16];
        for (int j = 0; j < VF_PARTS; j++) {
            parts[j] = output_exp(x + i + j * VF_LANES, inv_t, chunks[chunk].max, n - i - j * VF_LANES);
            vf_store(e + j * VF_LANES, parts[j]);
        }
        double next = sum + vf_sum(parts);
        for (int j = 0; j < 16 && next > target; j++) {
            sum += e[j];
            if (e[j] > 0 && sum > target) return first + i + j;
        }
        if (!(next > target)) sum = next;
    }
    int last = n - 1;
    while (last > 0 && !(vf_exp(vf_set1(x[last] * inv_t - chunks[chunk].max))[0] > 0)) last--;
    return first + last;
}

// c = the tokens with z >= least, in order of id; returns their number
static int output_collect(OutputCandidate *c, const float *logits, const OutputChunk *chunks, const OutputRow *row,
                          float inv_t, float least, int V) {
    int n = 0;
    for (int i = 0; i < V; i++) {
        if (i % OUTPUT_CHUNK == 0 && chunks[i / OUTPUT_CHUNK].max < least) {
            i += OUTPUT_CHUNK - 1;
            continue;
        }
        float z = logits[i] * inv_t;
        if (!(z >= least)) continue;
        c[n].z = z;
        c[n].p = expf(z - row->max);
        c[n++].id = i;
    }
    return n;
}

// u in what top_k and then top_p leave. Only the tokens near the best are looked at, more of them until they
// surely hold all that is kept.
static int output_draw_filtered(const float *logits, const OutputChunk *chunks, const OutputRow *row, float inv_t,
                                float u, int top_k, float top_p, int V) {
    OutputCandidate *c = (OutputCandidate *)cpu_scratch((size_t)V * sizeof *c), worst;
    int n, kept = 0, token = -1;
    double mass, sum = 0;
    for (float below = 4;; below *= 2) {
        n = output_collect(c, logits, chunks, row, inv_t, below < 1000 ? row->max - below : -INFINITY, V);
        mass = 0;
        for (int i = 0; i < n; i++) mass += c[i].p;
        if (below >= 1000 || (top_k > 0 ? n >= top_k : mass >= top_p * row->total)) break;
    }
    if (top_k > 0) {
        n = cpu_output_select(c, n, top_k, true);
        mass = 0;
        for (int i = 0; i < n; i++) mass += c[i].p;
    } else {
        mass = row->total;
    }
    if (top_p < 1) n = cpu_output_select(c, n, top_p * mass, false);
    worst = c[0];
    for (int i = 1; i < n; i++)
        if (cpu_output_better(&worst, &c[i])) worst = c[i];
    n = output_collect(c, logits, chunks, row, inv_t, worst.z, V); // back in order of id
    mass = 0;
    for (int i = 0; i < n; i++) {
        if (cpu_output_better(&worst, &c[i])) continue;
        c[kept++] = c[i];
        mass += c[i].p;
    }
    for (int i = 0; i < kept; i++) {
        if (!(c[i].p > 0)) continue;
        token = c[i].id;
        sum += c[i].p;
        if (sum > u * mass) break;
    }
    free(c);
    return token;
}

static int output_sample(const float *logits, const OutputChunk *chunks, const OutputRow *row, float inv_t, float u,
                         bool greedy, int top_k, float top_p, int V) {
    if (!isfinite(row->lse)) return -1;
    if (greedy) {
        int i = 0;
        while (chunks[i / OUTPUT_CHUNK].max != row->max) i += OUTPUT_CHUNK;
        while (logits[i] != row->max) i++; // inv_t is 1
        return i;
    }
    if (top_k > 0 || top_p < 1) return output_draw_filtered(logits, chunks, row, inv_t, u, top_k, top_p, V);
    return output_draw(logits, chunks, row, inv_t, u, V);
}

static void SIMD_NAME(sample_rows)(int *token, float *logprob, const float *logits, const float *u, float temperature,
                                   int top_k, float top_p, int n, int V) {
    int n_chunks = output_n_chunks(V);
    bool greedy = temperature <= 0;
    float inv_t = 1.0f / (greedy ? 1.0f : temperature);
    OutputChunk *chunks = output_chunks(logits, inv_t, n, V, false);
    #pragma omp parallel for schedule(dynamic, 1) if (n > 1)
    for (int i = 0; i < n; i++) {
        const OutputChunk *c = chunks + (size_t)i * n_chunks;
        const float *x = logits + (size_t)i * V;
        OutputRow row = cpu_output_row(c, n_chunks);
        token[i] = output_sample(x, c, &row, inv_t, u[i], greedy, top_k < V ? top_k : 0, top_p, V);
        logprob[i] = token[i] < 0 ? NAN : x[token[i]] * inv_t - row.lse;
    }
    free(chunks);
}

#endif
