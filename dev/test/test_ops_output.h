// logprob_rows, dlogits_rows and sample_rows: against ref, against distributions worked out here in double, and
// the bits of one row in any batch on any number of threads. Included by test_ops.h.
#ifndef DEV_TEST_TEST_OPS_OUTPUT_H
#define DEV_TEST_TEST_OPS_OUTPUT_H

// p[V] = what sample_rows should draw from, by its definition: the best token not yet kept, again and again
void output_distribution(double *p, const float *logits, double temperature, int top_k, double top_p, int V) {
    double *q = (double *)xmalloc((size_t)V * sizeof *q), total = 0, mass = 0, kept = 0;
    for (int i = 0; i < V; i++) total += q[i] = exp(logits[i] / temperature - 20);
    for (int i = 0; i < V; i++) {
        q[i] /= total;
        p[i] = 0;
    }
    for (int pass = 0; pass < 2; pass++) { // first the mass top_k leaves, then what top_p keeps of it
        kept = 0;
        for (int i = 0; i < V; i++) p[i] = 0;
        for (int k = 0; k < (top_k > 0 && top_k < V ? top_k : V); k++) {
            int best = -1;
            for (int i = 0; i < V; i++)
                if (p[i] == 0 && (best < 0 || q[i] > q[best])) best = i;
            if (pass == 1 && top_p < 1 && kept >= top_p * mass) break;
            kept += p[best] = q[best];
        }
        mass = pass == 0 ? kept : mass;
    }
    for (int i = 0; i < V; i++) p[i] /= kept;
    free(q);
}

// what a row draws at u
int output_sample_one(const Ops *ops, const float *logits, float u, float temperature, int top_k, float top_p, int V) {
    int token = -2;
    float logprob = 0;
    ops->sample_rows(&token, &logprob, logits, &u, temperature, top_k, top_p, 1, V);
    int target = token < 0 ? 0 : token;
    float lse = 0, same = 0;
    ops->logprob_rows(&same, &lse, NULL, logits, &target, temperature > 0 ? temperature : 1, 1, V);
    CHECK(token < 0 ? isnan(logprob) && isnan(same) : memcmp(&same, &logprob, 4) == 0,
          "%s: sample_rows gives log-prob %.9g, logprob_rows %.9g", ops->isa, logprob, same);
    return token;
}

void test_ops_output_exact(const Ops *ops) {
    static const int sizes[] = {5, 16, 259};
    static const struct {
        float temperature, top_p;
        int top_k;
    } settings[] = {{1, 1, 0},     {0.7f, 1, 0},     {1, 1, 3},          {1.5f, 0.83f, 0},
                    {1, 0.61f, 4}, {0.9f, 1e-6f, 0}, {1, 0.9999f, 1000}, {1, 1, 1}};
    for (int v = 0; v < 3; v++) {
        int V = sizes[v], wrong = 0;
        op_draws = 9000;
        float *logits = op_random((size_t)V, 1.5f);
        double *p = (double *)xmalloc((size_t)V * sizeof *p), boundary;
        logits[V - 1] = logits[1]; // a tie
        for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
            output_distribution(p, logits, settings[s].temperature, settings[s].top_k, settings[s].top_p, V);
            for (int j = 0; j < 64; j++) {
                float u = rng_uniform(3, RNG_TOKEN, (uint32_t)j, 0, 0, 0);
                int token = 0;
                for (boundary = p[0]; boundary <= u; boundary += p[token]) token++;
                bool near_edge = fabs(boundary - u) < 1e-5 || fabs(boundary - p[token] - u) < 1e-5;
                wrong += !near_edge && output_sample_one(ops, logits, u, settings[s].temperature, settings[s].top_k,
                                                         settings[s].top_p, V) != token;
            }
        }
        CHECK(wrong == 0, "%s sample_rows, V %d: %d draws are not where the distribution says", ops->isa, V, wrong);

        // 20,000 draws (emulated, which takes its time: 2,000): chi-square within five standard deviations
        enum { BATCH = 500 };
        const int DRAWS = strstr(ops->isa, "emulated") ? 2000 : 20000;
        float *many = (float *)xmalloc((size_t)BATCH * V * sizeof(float)), u[BATCH], logprob[BATCH];
        int token[BATCH], *count = (int *)xcalloc((size_t)V, sizeof(int)), kinds = 0;
        for (int i = 0; i < BATCH; i++) memcpy(many + (size_t)i * V, logits, (size_t)V * sizeof(float));
        for (int i = 0; i < DRAWS; i += BATCH) {
            for (int j = 0; j < BATCH; j++) u[j] = rng_uniform(4, RNG_TOKEN, (uint32_t)(i + j), 0, 0, 0);
            ops->sample_rows(token, logprob, many, u, 0.8f, 0, 0.95f, BATCH, V);
            for (int j = 0; j < BATCH; j++)
                if (token[j] >= 0 && token[j] < V) count[token[j]]++;
        }
        output_distribution(p, logits, 0.8f, 0, 0.95f, V);
        double chi = 0;
        for (int i = 0; i < V; i++) {
            if (p[i] > 0) {
                chi += (count[i] - DRAWS * p[i]) * (count[i] - DRAWS * p[i]) / (DRAWS * p[i]);
                kinds++;
            } else if (count[i]) chi = INFINITY;
        }
        CHECK(chi <= kinds - 1 + 5 * sqrt(2.0 * kinds), "%s sample_rows, V %d: chi-square %.1f over %d tokens",
              ops->isa, V, chi, kinds);
        free(logits);
        free(p);
        free(many);
        free(count);
    }

    // by hand: probabilities 1/2, 1/4, 1/8, 1/16, 1/16
    const float hand[5] = {logf(0.5f), logf(0.25f), logf(0.125f), logf(0.0625f), logf(0.0625f)}, last = 1 - 0x1p-24f;
    static const struct {
        float u;
        int top_k;
        float top_p;
        int token;
    } cases[] = {{0, 0, 1, 0},
                 {0.49f, 0, 1, 0},
                 {0.51f, 0, 1, 1},
                 {0.74f, 0, 1, 1},
                 {0.76f, 0, 1, 2},
                 {0.93f, 0, 1, 3},
                 {0.95f, 0, 1, 4},
                 {1 - 0x1p-24f, 0, 1, 4},
                 {0.66f, 2, 1, 0},
                 {0.67f, 2, 1, 1},
                 {1 - 0x1p-24f, 2, 1, 1},
                 {0.66f, 0, 0.7f, 0},
                 {0.67f, 0, 0.7f, 1},
                 {1 - 0x1p-24f, 0, 0.7f, 1},
                 {1 - 0x1p-24f, 4, 1, 3},    // of two equals the lower id stays
                 {1 - 0x1p-24f, 2, 0.6f, 0}, // 0.6 of what top_k left: 0.45 <= 1/2
                 {1 - 0x1p-24f, 5, 1, 4},
                 {1 - 0x1p-24f, 9, 1, 4},
                 {1 - 0x1p-24f, 0, 0.3f, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int token = output_sample_one(ops, hand, cases[i].u, 1, cases[i].top_k, cases[i].top_p, 5);
        CHECK(token == cases[i].token, "%s sample_rows: u %.9g top_k %d top_p %g drew %d, expected %d", ops->isa,
              cases[i].u, cases[i].top_k, cases[i].top_p, token, cases[i].token);
    }
    float odd[40];
    for (int i = 0; i < 40; i++) odd[i] = i < 3 || i > 30 ? -INFINITY : i % 7 == 0 ? 2.0f : 1.0f;
    CHECK(output_sample_one(ops, odd, 0, 1, 0, 1, 40) == 3, "%s sample_rows: u 0 drew a token of probability 0",
          ops->isa);
    CHECK(output_sample_one(ops, odd, last, 1, 0, 1, 40) == 30,
          "%s sample_rows: u near 1 drew a token of probability 0", ops->isa);
    CHECK(output_sample_one(ops, odd, last, 1, 39, 1, 40) == 30, "%s sample_rows: top_k drew a token of probability 0",
          ops->isa);
    CHECK(output_sample_one(ops, odd, 0.5f, 0, 0, 1, 40) == 7,
          "%s sample_rows: greedy did not take the first of the largest", ops->isa);
    CHECK(output_sample_one(ops, odd, 0.5f, 0, 3, 0.5f, 40) == 7, "%s sample_rows: greedy with filters", ops->isa);
    for (int i = 0; i < 40; i += 13) {
        float keep = odd[i];
        odd[i] = NAN;
        for (int k = 0; k < 4; k++)
            CHECK(output_sample_one(ops, odd, 0.5f, (float)(k & 1), k & 2, 1, 40) == -1,
                  "%s sample_rows: NaN at %d was not noticed", ops->isa, i);
        odd[i] = keep;
    }
}

void test_ops_output(const Ops *ops, const Ops *ref) {
    static const int sizes[] = {5, 16, 259, 4096, 9000, 151936};
    enum { MOST = 6 };
    for (int v = 0; v < 6; v++) {
        int V = sizes[v], N = V > 100000 ? 2 : MOST, target[MOST], token[MOST],
            token2[MOST]; // ref sorts the vocabulary
        size_t n = (size_t)N * V;
        float *logits = op_random(n, 10), x[3][MOST], y[3][MOST], d[MOST], u[MOST];
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < 8; j++) logits[(size_t)i * V + op_integer(V)] += 10;
            target[i] = i == 0 ? V - 1 : i == 1 ? 0 : op_integer(V);
            d[i] = 2 * rng_uniform(7, RNG_TOKEN, op_draws++, 0, 0, 0) - 1;
            u[i] = rng_uniform(7, RNG_TOKEN, op_draws++, 0, 0, 0);
        }
        for (int k = 0; k < 3; k++) {
            static const float temperatures[3] = {1, 0.6f, 1.7f};
            float temperature = temperatures[k];
            char shape[64];
            snprintf(shape, sizeof shape, "V %d temperature %g", V, temperature);
            ops->logprob_rows(x[0], x[1], x[2], logits, target, temperature, N, V);
            ref->logprob_rows(y[0], y[1], y[2], logits, target, temperature, N, V);
            op_check(ops->isa, "logprob", x[0], y[0], (size_t)N, shape);
            op_check(ops->isa, "lse", x[1], y[1], (size_t)N, shape);
            op_check(ops->isa, "entropy", x[2], y[2], (size_t)N, shape);
            act *dl = op_act(ops, NULL, n), *dl2 = op_act(ref, NULL, n);
            ops->dlogits_rows(dl, logits, y[1], target, d, temperature, N, V);
            ref->dlogits_rows(dl2, logits, y[1], target, d, temperature, N, V);
            for (int i = 0; i < N; i++) { // alone; without entropy
                float one[2];
                act *row = op_act(ops, NULL, (size_t)V);
                ops->logprob_rows(one, one + 1, NULL, logits + (size_t)i * V, target + i, temperature, 1, V);
                ops->dlogits_rows(row, logits + (size_t)i * V, y[1] + i, target + i, d + i, temperature, 1, V);
                CHECK(one[0] == x[0][i] && one[1] == x[1][i] &&
                          memcmp(row, (char *)dl + (size_t)i * V * ops->act_bytes, (size_t)V * ops->act_bytes) == 0,
                      "%s logprob_rows or dlogits_rows, %s: row %d has other bits alone", ops->isa, shape, i);
                ops->release(row);
            }
            op_check_act(ops, ref, "dlogits", dl, dl2, n, shape);
            static const struct {
                int top_k;
                float top_p;
            } filters[] = {{0, 1}, {50, 0.95f}, {0, 0.9f}};
            for (int f = 0; f < 3; f++) {
                ops->sample_rows(token, x[0], logits, u, temperature, filters[f].top_k, filters[f].top_p, N, V);
                ref->sample_rows(token2, y[0], logits, u, temperature, filters[f].top_k, filters[f].top_p, N, V);
                CHECK(memcmp(token, token2, (size_t)N * sizeof(int)) == 0,
                      "%s sample_rows, %s top_k %d: other tokens than ref", ops->isa, shape, filters[f].top_k);
                op_check(ops->isa, "logprob", x[0], y[0], (size_t)N, shape);
                for (int threads = 1; k == 0 && threads <= 5; threads += threads == 1 ? 1 : 3) {
                    int before = omp_get_max_threads();
                    int first = threads == 5 ? N - 1 : 0; // the last time alone
                    omp_set_num_threads(threads);
                    ops->sample_rows(token2 + first, y[0] + first, logits + (size_t)first * V, u + first, temperature,
                                     filters[f].top_k, filters[f].top_p, N - first, V);
                    CHECK(memcmp(token, token2, (size_t)N * sizeof(int)) == 0 &&
                              memcmp(x[0] + first, y[0] + first, (size_t)(N - first) * 4) == 0,
                          "%s sample_rows, %s: other bits with %d threads", ops->isa, shape, threads);
                    omp_set_num_threads(before);
                }
            }
        }
        free(logits);
    }
}

#endif
