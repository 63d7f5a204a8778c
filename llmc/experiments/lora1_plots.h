/*
lora1_plots: a rank-one LoRA on down_proj is a vector b whose strength a . x_t changes from token to token. How much?
For every layer and token, of completions sampled with the adapter on (prompt included),

    strength = (a . x_t) |b| / mean over the sample's tokens of |down_proj x_t|       and cos(h_t, b), h_t the MLP's
                                                                                      residual input

    results/experiments/lora1_plots/<Model>/<dataset>/lora1_plots.json: for each layer mean, median, histogram and a
    sample of pairs with their
    correlation, and the tokens b points to; the stable rank of all b; the whole layer x token matrix of the first
    LORA1_SHOWN samples with
    the borders of their sequences.
*/
#ifndef LLMC_EXPERIMENTS_LORA1_PLOTS_H
#define LLMC_EXPERIMENTS_LORA1_PLOTS_H

#include "llmc/experiments/lens.h"
#include "llmc/experiments/lora1_adapter.h" // lora1_load, lora1_params
#include "llmc/experiments/teacher.h"
#include "llmc/experiments/variants.h"

#define LORA1_SHOWN 4    // samples whose matrix is kept
#define LORA1_PAIRS 1000 // points of a layer's scatter plot
#define LORA1_BINS 60

typedef struct {
    double *strength, *cosine;
    size_t n;
} Lora1Layer; // all tokens of all samples

int lora1_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lora1_pearson(const double *x, const double *y, size_t n) {
    double sx = 0, sy = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        sx += x[i];
        sy += y[i];
    }
    for (size_t i = 0; i < n; i++) {
        double dx = x[i] - sx / (double)n, dy = y[i] - sy / (double)n;
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

// One float of act memory on the host.
double lora1_act(const void *acts, size_t i, size_t act_bytes) {
    return act_bytes == 2 ? bf16_to_f32(((const bf16_t *)acts)[i]) : ((const float *)acts)[i];
}

// Appends strength and cosine of the T tokens of the last run to layer l; a, b: its LoRA on the host.
void lora1_layer(Lora1Layer *out, const Teacher *t, const Qwen2 *m, int l, int T, const float *a, const float *b,
                 float *mid, float *after, void *gu) {
    const int C = m->config.C, I = m->config.I;
    const size_t bytes = m->ops->act_bytes;
    const double size = lens_norm(b, (size_t)C);
    m->ops->download(mid, t->acts.layers[l].h_mid, (size_t)T * C * sizeof(float));
    m->ops->download(gu, t->acts.layers[l].gu, (size_t)T * 2 * I * bytes);
    teacher_residual(after, t, m, l, T);
    double length = 0;
    for (int i = 0; i < T; i++) {
        double dot = 0, squares = 0;
        for (int k = 0; k < I; k++) { // x = silu(gate) up, as the forward pass rounds it
            double g = lora1_act(gu, (size_t)i * 2 * I + k, bytes), u = lora1_act(gu, (size_t)i * 2 * I + I + k, bytes);
            dot += g / (1 + exp(-g)) * u * a[k];
        }
        for (int c = 0; c < C; c++) {
            double y = (double)after[(size_t)i * C + c] - mid[(size_t)i * C + c] - dot * b[c];
            squares += y * y;
        }
        length += sqrt(squares) / T;
        out->strength[out->n + (size_t)i] = dot * size;
        out->cosine[out->n + (size_t)i] = lens_cosine(mid + (size_t)i * C, b, (size_t)C);
    }
    for (int i = 0; i < T; i++) out->strength[out->n + (size_t)i] /= length;
    out->n += (size_t)T;
}

// Keys of one layer, all its tokens.
void lora1_json_layer(Str *out, const Lora1Layer *x, const float *b, int C) {
    const size_t n = x->n, step = n > LORA1_PAIRS ? n / LORA1_PAIRS : 1;
    double *sorted = (double *)xmalloc((n ? n : 1) * sizeof(double)), sum = 0;
    int counts[LORA1_BINS] = {0};
    memcpy(sorted, x->strength, n * sizeof(double));
    qsort(sorted, n, sizeof(double), lora1_compare);
    for (size_t i = 0; i < n; i++) sum += sorted[i];
    const double low = sorted[0], high = sorted[n - 1];
    for (size_t i = 0; i < n; i++) {
        int bin = high > low ? (int)((sorted[i] - low) / (high - low) * LORA1_BINS) : 0;
        counts[bin < LORA1_BINS ? bin : LORA1_BINS - 1]++;
    }
    str_printf(out,
               "\"norm_b\": %.6g, \"tokens\": %zu, \"mean\": %.6g, \"median\": %.6g, \"r\": ", lens_norm(b, (size_t)C),
               n, sum / (double)n, sorted[n / 2]);
    lens_json_number(out, lora1_pearson(x->strength, x->cosine, n));
    str_printf(out, ", \"low\": %.6g, \"high\": %.6g, \"counts\": [", low, high);
    for (int i = 0; i < LORA1_BINS; i++) str_printf(out, "%s%d", i ? ", " : "", counts[i]);
    str_printf(out, "], \"pairs\": [");
    for (size_t i = 0; i < n; i += step) str_printf(out, "%s[%.4g, %.4g]", i ? ", " : "", x->cosine[i], x->strength[i]);
    str_printf(out, "], ");
    free(sorted);
}

// "[["system", 12], ["question", 30], ...]": the parts of a prompt and their tokens; one part where the pieces do not
// add up.
bool lora1_sequences(Str *out, Session *s, const Problem *p, int P, int generated, Error *err) {
    const ChatTemplate *t = chat_find(s->options.prompt_template, err);
    if (!t) return false;
    const char *system = *s->options.system ? s->options.system : t->system ? t->system : "";
    const char *parts[5] = {t->before_system, system, t->after_system, p->problem, t->after_problem},
               *names[5] = {"role", "system", "role", "question", "role"};
    int tokens[5], sum = 0;
    bool ok = true;
    for (int i = 0; i < 5 && ok; i++) {
        IntVec ids = {0};
        ok = tokenizer_encode(s->tokenizer, &ids, parts[i], strlen(parts[i]), err);
        tokens[i] = ids.n;
        sum += ids.n;
        ints_free(&ids);
    }
    str_printf(out, "[");
    for (int i = 0; i < 5 && sum == P; i++)
        if (tokens[i]) str_printf(out, "[\"%s\", %d], ", names[i], tokens[i]);
    if (sum != P) str_printf(out, "[\"prompt\", %d], ", P);
    str_printf(out, "[\"generation\", %d]]", generated);
    return ok;
}

// The whole matrix of a sample whose tokens are the last T of each layer.
bool lora1_json_sample(Str *out, Session *s, const Benchmark *b, int i, const Completion *c, const Lora1Layer *layers,
                       int T, Error *err) {
    const int P = b->prompts[i].n;
    str_printf(out, "{\"sequences\": ");
    bool ok = lora1_sequences(out, s, &b->problems.items[i], P, c->n - 1, err);
    str_printf(out, ", \"tokens\": [");
    for (int t = 0; t < T; t++) {
        if (t) str_printf(out, ", ");
        lens_json_token(out, s->tokenizer, t < P ? b->prompts[i].v[t] : c->ids[t - P]);
    }
    str_printf(out, "], \"strength\": [");
    for (int l = 0; l < s->model.config.L; l++) {
        str_printf(out, "%s\n    ", l ? "," : "");
        lens_json_numbers(out, layers[l].strength + layers[l].n - T, (size_t)T);
    }
    str_printf(out, "]}");
    return ok;
}

// Bytes of the host for `most` tokens of a sample, before and after a layer and in its feed-forward.
static size_t lora1_row_bytes(const ModelConfig *c, size_t most) {
    return most * (2 * (size_t)c->C + 2 * (size_t)c->I) * sizeof(float);
}

// SessionWork.look. The adapter has four copies: as read, as the model runs it on the host and for the backend, and its
// matrices alone.
size_t lora1_memory(const SessionWork *w, Qwen2 *dry) {
    const ModelConfig *c = &dry->config;
    const size_t adapter = (size_t)c->L * (c->I + c->C) * sizeof(float);
    Teacher t;
    teacher_alloc(&t, dry, w->first_longest, NULL, true);
    teacher_free(&t, dry);
    dry->ops->alloc(adapter);
    return 3 * adapter + lora1_row_bytes(c, (size_t)w->first_longest) + (size_t)c->V * sizeof(LensToken) +
           (size_t)(w->first_tokens * (2 * c->L + 1) *
                    sizeof(double)); // strengths and cosines, and a layer's strengths sorted
}

bool experiment_lora1_plots(Session *s, Error *err) {
    Benchmarks b;
    if (!*s->options.adapter)
        return fail(err, EXIT_USAGE,
                    "adapter is missing: the rank-one LoRA to look at\n  -> --adapter DIR, a PEFT folder with "
                    "adapter_model.safetensors");
    s->work.look = lora1_memory;
    s->work.lora_r = 1;
    if (!experiment_begin(s, &b, false, err)) return false;
    Qwen2 *m = &s->model;
    const int L = m->config.L, C = m->config.C, I = m->config.I;
    float *a = (float *)xcalloc((size_t)L * I, sizeof(float)), *bs = (float *)xcalloc((size_t)L * C, sizeof(float));
    double *values = (double *)xcalloc((size_t)L, sizeof(double));
    Lora1Layer *layers = (Lora1Layer *)xcalloc((size_t)L, sizeof *layers);
    ParamLayout layout;
    Sampled sampled;
    Teacher t;
    Str out = {0}, samples = {0};
    char *dir = NULL;
    memset(&sampled, 0, sizeof sampled);
    bool ok = lora1_load(a, bs, &m->config, s->options.adapter, err) &&
              (dir = experiment_dir(s, "lora1_plots", err)) != NULL &&
              experiment_result_begin(&out, s, dir, "lora1_plots.json", err);
    float *host = lora1_params(&layout, a, bs, &m->config), *params = intervention_floats(m->ops, host, layout.n);
    m->layout = &layout;
    Condition adapted = {params, NULL, NULL};
    ok = ok && sample_under(&sampled, s, &b.items[0], adapted, err);
    const size_t most = ok ? (size_t)sampled.longest : 1;
    teacher_alloc(&t, m, (int)most, NULL, true);
    float *mid = (float *)xmalloc(lora1_row_bytes(&m->config, most)), *after = mid + most * C;
    void *gu = after + most * C;
    size_t tokens = 0;
    for (int i = 0; i < sampled.n && ok; i++)
        tokens += (size_t)(b.items[0].prompts[i].n + sampled.completions[i].n - 1);
    for (int l = 0; l < L; l++) {
        layers[l].strength = (double *)xmalloc(tokens * sizeof(double));
        layers[l].cosine = (double *)xmalloc(tokens * sizeof(double));
    }
    for (int i = 0; i < sampled.n && ok; i++) {
        ok = !stop_requested || fail(err, EXIT_RUN, "stopped at completion %d", i);
        int T = teacher_run(&t, m, &b.items[0].prompts[i], &sampled.completions[i], adapted);
        for (int l = 0; l < L; l++)
            lora1_layer(&layers[l], &t, m, l, T, a + (size_t)l * I, bs + (size_t)l * C, mid, after, gu);
        if (i < LORA1_SHOWN) {
            str_printf(&samples, "%s  ", i ? ",\n" : "");
            ok = ok && lora1_json_sample(&samples, s, &b.items[0], i, &sampled.completions[i], layers, T, err);
        }
    }
    if (ok) {
        lens_singular_values(values, bs, L, C);
        str_printf(&out, "\"problems\": %d, \"stable_rank_b\": ", sampled.n);
        lens_json_number(&out, lens_stable_rank(values, L));
        str_printf(&out, ", \"layers\": [\n");
        for (int l = 0; l < L; l++) {
            str_printf(&out, "%s  {\"layer\": %d, ", l ? ",\n" : "", l);
            lora1_json_layer(&out, &layers[l], bs + (size_t)l * C, C);
            lens_json_direction(&out, m, s->tokenizer, bs + (size_t)l * C, s->options.top);
            str_printf(&out, "}");
        }
        str_printf(&out, "\n], \"samples\": [\n%s\n]}\n", samples.s ? samples.s : "");
        ok = experiment_write(dir, "lora1_plots.json", &out, err);
        if (ok && !s->options.json)
            printf("%d completions, %zu tokens; stable rank of b %.2f of %d layers\nsaved %s\n", sampled.n, layers[0].n,
                   lens_stable_rank(values, L), L, dir);
    }
    for (int l = 0; l < L; l++) {
        free(layers[l].strength);
        free(layers[l].cosine);
    }
    free(layers);
    free(a);
    free(bs);
    free(values);
    free(mid);
    free(dir);
    str_free(&out);
    str_free(&samples);
    teacher_free(&t, m);
    sampled_free(&sampled);
    m->layout = NULL;
    m->ops->release(params);
    layout_free(&layout);
    free(host);
    benchmarks_free(&b);
    return ok;
}

#endif
