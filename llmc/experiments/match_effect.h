/*
match_effect: does a vector do what the vectors of later layers do? For each layer l of --layers a completion of every
problem is sampled with s_l alone; the model runs over it with s_l and without, and

    D_{k,t} = residual stream after layer k at position t (prompt included), with s_l minus without

    diff_vector[l,k] = mean over t of cos(D_{k,t}, s_k)             does the change point where layer k's own vector
                                                                    points?
    diff_diff[l,k]   = mean over t of cos(D_{k,t}, mean_t D_{k,t})  is the change the same at all positions (of a
                                                                    sample)?
    mean_vector[l,k] = cos(mean of D_{k,t} over all positions and samples, s_k)

each the mean over samples; null below layer l, where nothing changes, and the first and last where layer k has no
vector. Then the tokens that the mean change after the last layer points to. --steering holds in row l the vector
trained alone at layer l.

    results/experiments/match_effect/<Model>/<dataset>/match_effect.json
*/
#ifndef LLMC_EXPERIMENTS_MATCH_EFFECT_H
#define LLMC_EXPERIMENTS_MATCH_EFFECT_H

#include "llmc/experiments/last_layer_steering.h" // effect_rows
#include "llmc/experiments/lens.h"
#include "llmc/experiments/teacher.h"
#include "llmc/experiments/variants.h"

#define MATCH_BINS 60 // of the histogram of cosines with the unembedding rows

// The three rows of one l, and sum[L,C] of D over all positions.
typedef struct {
    double *diff_vector, *diff_diff, *mean_vector, *sum;
    long long positions;
    int samples;
} MatchRow;

// Adds one sample: with[T,C] and without[T,C] after layer k. difference and mean are scratch.
void match_layer(MatchRow *row, const float *with, const float *without, const float *s_k, int k, int T, int C,
                 float *difference, float *mean) {
    double *sum = row->sum + (size_t)k * C, vector_cosines = 0, mean_cosines = 0;
    for (int c = 0; c < C; c++) {
        double total = 0;
        for (int t = 0; t < T; t++) total += (double)with[(size_t)t * C + c] - without[(size_t)t * C + c];
        mean[c] = (float)(total / T);
        sum[c] += total;
    }
    for (int t = 0; t < T; t++) {
        for (int c = 0; c < C; c++) difference[c] = with[(size_t)t * C + c] - without[(size_t)t * C + c];
        vector_cosines += lens_cosine(difference, s_k, (size_t)C);
        mean_cosines += lens_cosine(difference, mean, (size_t)C);
    }
    row->diff_vector[k] += vector_cosines / T;
    row->diff_diff[k] += mean_cosines / T;
}

// Keys "counts", "low", "high" of the cosines of `direction` with every row of the unembedding matrix.
void match_histogram(Str *out, const LensToken *tokens, int V) {
    double low = tokens[0].cosine, high = low;
    int counts[MATCH_BINS] = {0};
    for (int v = 0; v < V; v++) {
        if (tokens[v].cosine < low) low = tokens[v].cosine;
        if (tokens[v].cosine > high) high = tokens[v].cosine;
    }
    for (int v = 0; v < V; v++) {
        int bin = high > low ? (int)((tokens[v].cosine - low) / (high - low) * MATCH_BINS) : 0;
        counts[bin < MATCH_BINS ? bin : MATCH_BINS - 1]++;
    }
    str_printf(out, "\"low\": %.6g, \"high\": %.6g, \"counts\": [", low, high);
    for (int i = 0; i < MATCH_BINS; i++) str_printf(out, "%s%d", i ? ", " : "", counts[i]);
    str_printf(out, "]");
}

// Floats of the host that one l takes: the residual streams of all layers with s_l, of one without, a difference and a
// mean.
static size_t match_floats(const ModelConfig *c, size_t most) { return ((size_t)(c->L + 1) * most + 2) * (size_t)c->C; }

// SessionWork.look
size_t match_memory(const SessionWork *w, Qwen2 *dry) {
    const ModelConfig *c = &dry->config;
    Teacher t;
    teacher_alloc(&t, dry, w->first_longest, NULL, true);
    teacher_free(&t, dry);
    return match_floats(c, (size_t)w->first_longest) * sizeof(float) + (size_t)c->L * c->C * sizeof(double) +
           2 * (size_t)c->V * sizeof(LensToken);
}

// One l: samples, runs, fills *row; an object of "final" is appended to out.
bool match_one(Session *s, const Benchmarks *b, int l, MatchRow *row, Str *out, Error *err) {
    Qwen2 *m = &s->model;
    const int L = m->config.L, C = m->config.C;
    IntVec only = {0};
    ints_push(&only, l);
    float *vectors = effect_rows(s->vectors, &only, L, C, err);
    ints_free(&only);
    if (!vectors) return false;
    Sampled a;
    Teacher t;
    float *there = intervention_floats(m->ops, vectors, (size_t)L * C);
    Condition steered = {there, NULL, NULL}, base = {NULL, NULL, NULL};
    bool ok = sample_under(&a, s, &b->items[0], steered, err);
    const size_t most = ok ? (size_t)a.longest : 1;
    teacher_alloc(&t, m, (int)most, NULL, true);
    float *with = (float *)xmalloc(match_floats(&m->config, most) * sizeof(float)),
          *without = with + (size_t)L * most * C;
    float *difference = without + most * C, *mean = difference + C;
    for (int i = 0; i < a.n && ok; i++) {
        ok = !stop_requested || fail(err, EXIT_RUN, "stopped at layer %d, completion %d", l, i);
        int T = teacher_run(&t, m, &b->items[0].prompts[i], &a.completions[i], steered);
        for (int k = l; k < L; k++) teacher_residual(with + (size_t)k * most * C, &t, m, k, T);
        teacher_run(&t, m, &b->items[0].prompts[i], &a.completions[i], base);
        for (int k = l; k < L; k++) {
            teacher_residual(without, &t, m, k, T);
            match_layer(row, with + (size_t)k * most * C, without, s->vectors + (size_t)k * C, k, T, C, difference,
                        mean);
        }
        row->positions += T;
        row->samples++;
    }
    for (int k = 0; k < L && ok; k++) {
        const float *s_k = s->vectors + (size_t)k * C;
        const bool has_vector = lens_norm(s_k, (size_t)C) > 0;
        row->diff_vector[k] = k < l || !has_vector ? NAN : row->diff_vector[k] / row->samples;
        row->diff_diff[k] = k < l ? NAN : row->diff_diff[k] / row->samples;
        for (int c = 0; c < C; c++) mean[c] = (float)(row->sum[(size_t)k * C + c] / (double)row->positions);
        row->mean_vector[k] = k < l || !has_vector ? NAN : lens_cosine(mean, s_k, (size_t)C);
    }
    if (ok) { // mean is now that after the last layer
        LensToken *tokens = (LensToken *)xmalloc((size_t)m->config.V * sizeof(LensToken));
        lens_tokens(tokens, m, mean);
        str_printf(out, "{\"layer\": %d, \"norm\": %.6g, \"histogram\": {", l, lens_norm(mean, (size_t)C));
        match_histogram(out, tokens, m->config.V);
        str_printf(out, "}, ");
        lens_json_direction(out, m, s->tokenizer, mean, s->options.top);
        str_printf(out, "}");
        free(tokens);
    }
    m->ops->release(there);
    free(vectors);
    free(with);
    teacher_free(&t, m);
    sampled_free(&a);
    return ok;
}

bool experiment_match_effect(Session *s, Error *err) {
    Benchmarks b;
    s->work.look = match_memory;
    if (!experiment_begin(s, &b, true, err)) return false;
    const int L = s->model.config.L, C = s->model.config.C;
    IntVec layers = {0};
    char *dir = NULL;
    Str final = {0}, out = {0};
    bool ok = experiment_layers(&layers, s, err) && (dir = experiment_dir(s, "match_effect", err)) != NULL &&
              experiment_result_begin(&out, s, dir, "match_effect.json", err);
    double *matrices[3];
    for (int i = 0; i < 3; i++) matrices[i] = (double *)xcalloc((size_t)(layers.n ? layers.n : 1) * L, sizeof(double));
    for (int i = 0; i < layers.n && ok; i++) {
        MatchRow row = {matrices[0] + i * L,
                        matrices[1] + i * L,
                        matrices[2] + i * L,
                        (double *)xcalloc((size_t)L * C, sizeof(double)),
                        0,
                        0};
        str_printf(&final, "%s  ", i ? ",\n" : "");
        ok = match_one(s, &b, layers.v[i], &row, &final, err);
        if (ok && !s->options.json)
            printf("layer %2d: after the last layer diff_vector %.3f, diff_diff %.3f (%d samples, %lld positions)\n",
                   layers.v[i], row.diff_vector[L - 1], row.diff_diff[L - 1], row.samples,
                   row.positions); // nan: the last layer has no vector
        fflush(stdout);
        free(row.sum);
    }
    if (ok) {
        const char *names[3] = {"diff_vector", "diff_diff", "mean_vector"};
        str_printf(&out, "\"problems\": %d, \"layers\": [", b.items[0].problems.n);
        for (int i = 0; i < layers.n; i++) str_printf(&out, "%s%d", i ? ", " : "", layers.v[i]);
        str_printf(&out, "]");
        for (int k = 0; k < 3; k++) {
            str_printf(&out, ", \"%s\": ", names[k]);
            lens_json_matrix(&out, matrices[k], layers.n, L);
        }
        str_printf(&out, ", \"final\": [\n%s]}\n", final.s);
        ok = experiment_write(dir, "match_effect.json", &out, err);
        if (ok && !s->options.json) printf("saved %s\n", dir);
    }
    for (int i = 0; i < 3; i++) free(matrices[i]);
    free(dir);
    str_free(&final);
    str_free(&out);
    ints_free(&layers);
    benchmarks_free(&b);
    return ok;
}

#endif
