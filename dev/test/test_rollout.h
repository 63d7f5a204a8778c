/*
Sampling: the tokens and log-probs of a completion depend on (seed, step, prompt, sample) alone. They keep every bit
whatever the number of slots, the order, the threads and the neighbours, and the packed pass that trains on them finds
the same log-probs: the sampler-trainer gap is 0. Also the groups' arithmetic: advantages, token losses, one AdamW step.
*/
#ifndef DEV_TEST_TEST_ROLLOUT_H
#define DEV_TEST_TEST_ROLLOUT_H

#include "dev/test/backends.h" // test_backends, to_backend
#include "dev/test/test.h"
#include "dev/test/test_cuda_graph.h" // graph_counting, graph_never
#include "llmc/grpo.h"
#include "llmc/natural_gradient.h"
#include "llmc/ops_host.h"
#include "llmc/rollout.h"
#include "llmc/utils/threads.h" // omp_set_num_threads

#ifndef TINY_MODEL
#define TINY_MODEL "data/tiny/model"
#endif

typedef struct {
    int n, G;
    int prompt[8][40], length[8];
    Completion completions[8][6];
} RolloutCase;

// Prompts of 1, 15, 16, 17, ... tokens: around the edges of a page.
void rollout_case_init(RolloutCase *c, int V) {
    const int lengths[8] = {1, 15, 16, 17, 33, 5, 31, 32};
    c->n = 8;
    c->G = 6;
    for (int i = 0; i < c->n; i++) {
        c->length[i] = lengths[i];
        for (int k = 0; k < lengths[i]; k++)
            c->prompt[i][k] = (int)(rng_bits(7, RNG_TOKEN, (uint32_t)i, (uint32_t)k, 0, 0) % (uint32_t)V);
    }
}

// In a cache of so many pages (0: as many as may be needed); returns how many sequences were preempted.
long long rollout_case_run_in(int pages, RolloutCase *c, const Qwen2 *m, const float *steering, int slots,
                              bool reversed, const Sampling *sampling) {
    Error err = {0, ""};
    Rollout r;
    RolloutPrompt asked[8];
    rollout_alloc(&r, m, slots, (double)pages * kv_page_bytes(m), 40, sampling->max_new);
    int all_pages = r.free_pages.n;
    CHECK(pages == 0 || all_pages == pages, "a cache of %d pages, %d were asked for", all_pages, pages);
    for (int i = 0; i < c->n; i++) {
        int from = reversed ? c->n - 1 - i : i;
        asked[i].prompt = c->prompt[from];
        asked[i].P = c->length[from];
        asked[i].key = (uint32_t)from;
        asked[i].completions = c->completions[from];
    }
    bool ok = rollout(&r, m, steering, asked, c->n, c->G, sampling, NULL, NULL, &err);
    CHECK(ok, "%s", err.text);
    CHECK(r.free_pages.n == all_pages, "%d pages of %d came back", r.free_pages.n, all_pages);
    const long long preemptions = r.preemptions;
    rollout_free(&r, m);
    return preemptions;
}

void rollout_case_run(RolloutCase *c, const Qwen2 *m, const float *steering, int slots, bool reversed,
                      const Sampling *sampling) {
    rollout_case_run_in(0, c, m, steering, slots, reversed, sampling);
}

bool rollout_case_equal(const RolloutCase *a, const RolloutCase *b) {
    for (int i = 0; i < a->n; i++) {
        for (int g = 0; g < a->G; g++) {
            const Completion *x = &a->completions[i][g], *y = &b->completions[i][g];
            if (x->n != y->n || x->finished != y->finished || memcmp(x->ids, y->ids, (size_t)x->n * sizeof(int)) != 0 ||
                memcmp(x->logprob, y->logprob, (size_t)x->n * sizeof(float)) != 0)
                return false;
        }
    }
    return true;
}

void rollout_case_free(RolloutCase *c) {
    for (int i = 0; i < c->n; i++)
        for (int g = 0; g < c->G; g++) completion_free(&c->completions[i][g]);
}

void test_rollout_invariance(const char *backend, const Ops *ops) {
    Qwen2 m;
    Error err = {0, ""};
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
    size_t LC = (size_t)m.config.L * m.config.C;
    float *steering = (float *)xmalloc(LC * sizeof(float));
    for (size_t i = 0; i < LC; i++) steering[i] = 0.1f * (rng_uniform(3, RNG_TOKEN, (uint32_t)i, 0, 0, 0) - 0.5f);
    const int slots[4] = {64, 1, 7, 5}, threads[4] = {2, 1, 5, 2};
    const Sampling hows[2] = {{1, 1, 0, 24, false, 5, 2}, {0.8f, 0.9f, 20, 24, false, 5, 2}};
    int restore = omp_get_max_threads();
    for (int h = 0; h < 2; h++) {
        RolloutCase first, other;
        rollout_case_init(&first, m.config.V);
        omp_set_num_threads(2);
        rollout_case_run(&first, &m, steering, 64, false, &hows[h]);
        for (int k = 1; k < 4; k++) {
            rollout_case_init(&other, m.config.V);
            omp_set_num_threads(threads[k]);
            rollout_case_run(&other, &m, steering, slots[k], k % 2 == 0, &hows[h]);
            CHECK(rollout_case_equal(&first, &other), "%s: %d slots, %d threads, %s order: tokens or log-probs differ",
                  backend, slots[k], threads[k], k % 2 ? "same" : "reversed");
            rollout_case_free(&other);
        }
        // a cache that is too small for all: from what one sequence needs at least
        const int pages[3] = {rollout_most_pages(1, 40, hows[h].max_new), 13, 40}, crowd[3] = {64, 64, 20};
        for (int k = 0; k < 3; k++) {
            rollout_case_init(&other, m.config.V);
            const long long preempted = rollout_case_run_in(pages[k], &other, &m, steering, crowd[k], k == 1, &hows[h]);
            CHECK(rollout_case_equal(&first, &other), "%s: %d pages: tokens or log-probs differ", backend, pages[k]);
            CHECK(k == 2 || preempted > 0, "%s: in %d pages nothing was preempted", backend, pages[k]);
            rollout_case_free(&other);
        }

        // another step draws other numbers
        Sampling later = hows[h];
        later.step++;
        rollout_case_init(&other, m.config.V);
        rollout_case_run(&other, &m, steering, 64, false, &later);
        CHECK(!rollout_case_equal(&first, &other), "%s: another step gave the same tokens", backend);
        rollout_case_free(&other);

        // the trainer's packed pass, in large and in small batches
        PolicySample samples[48];
        float logprob[48][24];
        int n = 0;
        memset(samples, 0, sizeof samples);
        for (int i = 0; i < first.n; i++) {
            for (int g = 0; g < first.G; g++, n++) {
                samples[n].prompt = first.prompt[i];
                samples[n].P = first.length[i];
                samples[n].group = i;
                samples[n].completion = &first.completions[i][g];
                samples[n].logprob = logprob[n];
            }
        }
        LossConfig loss = {0.2f, 0.2f, 0, hows[h].temperature, false, 0};
        for (int budget = 0; budget < 2; budget++) {
            PolicyPass pass;
            PolicyStats stats;
            int wrong = 0;
            memset(&stats, 0, sizeof stats);
            policy_alloc(&pass, &m, budget ? 1 : 64 << 20, 70, m.config.L, false);
            policy_reserve(&pass, &m, n, first.n, 70);
            const int pages = pass.kv.n_pages;
            omp_set_num_threads(budget ? 5 : 1);
            CHECK(policy_pass(&pass, &m, steering, samples, n, &loss, NULL, NULL, &stats, &err), "%s", err.text);
            for (int i = 0; i < n; i++)
                wrong += memcmp(logprob[i], samples[i].completion->logprob,
                                (size_t)samples[i].completion->n * sizeof(float)) != 0;
            CHECK(wrong == 0, "%s: %d of %d completions have another log-prob in the packed pass than when sampled",
                  backend, wrong, n);
            CHECK(pass.kv.n_pages == pages, "%s: a pass with room for %d rows was planned %d pages and took %d",
                  backend, pass.rows, pages, pass.kv.n_pages);
            policy_free(&pass, &m);
        }
        rollout_case_free(&first);
    }
    omp_set_num_threads(restore);
    free(steering);
    qwen2_free(&m);
}

// A prompt that is run once for its group against one run for every sample: the same log-probs in every bit, and the
// same gradient but for the order of its sums (and, on cpu, for where bf16 rounds).
void test_shared_prompts(const char *backend, const Ops *ops) {
    Qwen2 m;
    Error err = {0, ""};
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
    const size_t LC = (size_t)m.config.L * m.config.C;
    const Sampling sampling = {1, 1, 0, 24, false, 5, 2};
    const LossConfig loss = {0.2f, 0.2f, 0, 1, false, 0};
    float *gradient[2] = {(float *)xcalloc(LC, sizeof(float)), (float *)xcalloc(LC, sizeof(float))};
    static float logprob[2][48][24];
    bool trained[64];
    RolloutCase c;
    rollout_case_init(&c, m.config.V);
    rollout_case_run(&c, &m, NULL, 64, false, &sampling);
    for (int l = 0; l < m.config.L; l++) trained[l] = true;
    for (int separate = 0; separate < 2; separate++) {
        PolicySample samples[48];
        PolicyPass pass;
        PolicyStats stats;
        int n = 0;
        memset(samples, 0, sizeof samples);
        memset(&stats, 0, sizeof stats);
        for (int i = 0; i < c.n; i++)
            for (int g = 0; g < c.G; g++, n++) {
                PolicySample s = {c.prompt[i],
                                  c.length[i],
                                  separate ? n : i,
                                  0,
                                  &c.completions[i][g],
                                  g % 2 ? -1.0f : 0.7f,
                                  0.01f,
                                  c.completions[i][g].logprob,
                                  NULL,
                                  logprob[separate][n],
                                  NULL};
                samples[n] = s;
            }
        policy_alloc(&pass, &m, 64 << 20, 70, 0, true);
        CHECK(policy_pass(&pass, &m, NULL, samples, n, &loss, gradient[separate], trained, &stats, &err), "%s",
              err.text);
        policy_free(&pass, &m);
        int wrong = 0;
        for (int i = 0; i < n; i++)
            wrong += memcmp(logprob[separate][i], samples[i].completion->logprob,
                            (size_t)samples[i].completion->n * sizeof(float)) != 0;
        CHECK(wrong == 0, "%s, prompts %s: %d of %d completions have other log-probs than when sampled", backend,
              separate ? "run for each sample" : "shared", wrong, n);
    }
    double off = 0, size = 0;
    for (size_t i = 0; i < LC; i++) {
        off += ((double)gradient[0][i] - gradient[1][i]) * ((double)gradient[0][i] - gradient[1][i]);
        size += (double)gradient[0][i] * gradient[0][i];
    }
    off = sqrt(off / size);
    const double allowed = strcmp(backend, "ref") == 0 ? 1e-5 : 1e-2;
    CHECK(size > 0 && off > 0 && off < allowed,
          "%s: sharing prompts moves the gradient by %.2g of its length, allowed %.2g", backend, off, allowed);
    rollout_case_free(&c);
    free(gradient[0]);
    free(gradient[1]);
    qwen2_free(&m);
}

// How many of the 48 completions of two runs have the same tokens.
int rollout_case_alike(const RolloutCase *a, const RolloutCase *b) {
    int alike = 0;
    for (int i = 0; i < a->n; i++)
        for (int g = 0; g < a->G; g++) {
            const Completion *x = &a->completions[i][g], *y = &b->completions[i][g];
            alike += x->n == y->n && memcmp(x->ids, y->ids, (size_t)x->n * sizeof(int)) == 0;
        }
    return alike;
}

// The same seed draws the same tokens on a backend that rounds elsewhere, but where a random number falls between the
// two distributions. Their log-probs, of size 3, are some 0.7 % apart (bf16, see test_model.h): 1 % in total variation
// a token, so that 0.99^24 = 79 % of the completions should be the same, 38 of 48; ten less is four standard
// deviations.
void test_rollout_like(const Ops *judge, const Ops *backend) {
    RolloutCase found[3];
    const Sampling sampling = {1, 1, 0, 24, false, 5, 2}, other = {1, 1, 0, 24, false, 5, 3};
    for (int k = 0; k < 3; k++) {
        Qwen2 m;
        Error err = {0, ""};
        const Ops *ops = k == 1 ? backend : judge;
        if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
        const size_t LC = (size_t)m.config.L * m.config.C;
        float *host = (float *)xmalloc(LC * sizeof(float));
        for (size_t i = 0; i < LC; i++) host[i] = 0.1f * (rng_uniform(3, RNG_TOKEN, (uint32_t)i, 0, 0, 0) - 0.5f);
        float *steering = to_backend(ops, host, LC);
        rollout_case_init(&found[k], m.config.V);
        rollout_case_run(&found[k], &m, steering, 7, false, k == 2 ? &other : &sampling);
        from_backend(ops, NULL, steering, LC);
        free(host);
        qwen2_free(&m);
    }
    const int alike = rollout_case_alike(&found[0], &found[1]), by_chance = rollout_case_alike(&found[0], &found[2]);
    CHECK(alike >= 28, "%s: %d of 48 completions have the tokens of %s, expected at least 28",
          backend_name(backend).text, alike, backend_name(judge).text);
    CHECK(by_chance < 5, "other random numbers give %d of 48 completions the same tokens: the comparison sees nothing",
          by_chance);
    for (int k = 0; k < 3; k++) rollout_case_free(&found[k]);
}

// The same two rollouts in the same memory, decode steps recorded and replayed or not: the same tokens and log-probs to
// the bit. Sequences end at their own time and give their place to others, so that the number of rows falls and rises.
void test_rollout_replayed(const Ops *ops) {
    const Ops tables[2] = {graph_counting(ops), graph_never(ops)};
    const Sampling sampling = {1, 1, 0, 12, false, 5, 2};
    RolloutCase found[2][2];
    Qwen2 m;
    Error err = {0, ""};
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
    for (int side = 0; side < 2; side++) {
        Rollout r;
        m.ops = &tables[side];
        rollout_alloc(&r, &m, 4, 0, 40, sampling.max_new);
        for (int again = 0; again < 2; again++) {
            RolloutCase *c = &found[side][again];
            RolloutPrompt asked[8];
            rollout_case_init(c, m.config.V);
            c->n = 3;
            c->G = 3;
            for (int i = 0; i < c->n; i++) {
                RolloutPrompt p = {c->prompt[i], c->length[i], (uint32_t)(i + 3 * again), c->completions[i]};
                asked[i] = p;
            }
            CHECK(rollout(&r, &m, NULL, asked, c->n, c->G, &sampling, NULL, NULL, &err), "%s", err.text);
        }
        rollout_free(&r, &m);
    }
    for (int again = 0; again < 2; again++)
        CHECK(rollout_case_equal(&found[0][again], &found[1][again]),
              "%s: recorded decode steps change what is sampled", backend_name(ops).text);
    CHECK(graph_replays > graph_runs, "%s: of %d decode steps %d were replayed", backend_name(ops).text,
          graph_runs + graph_replays, graph_replays);
    for (int i = 0; i < 4; i++) rollout_case_free(&found[i / 2][i % 2]);
    m.ops = ops;
    qwen2_free(&m);
}

// What a step of 128 problems and 16 completions each is given on 14B, whose passes have some 4,600 rows: the pages of
// these rows and a third more, not two for each completion of the step.
void test_policy_pages(void) {
    const int pages = policy_pages(4600, 2048, 128), rows = 4600 / KV_PAGE;
    CHECK(pages >= rows + 3 && 3 * pages < 5 * rows, "%d pages for %d of rows", pages, rows);
    CHECK(policy_pages(40, 1, 1) == 40 / KV_PAGE + 3, "%d pages for one completion", policy_pages(40, 1, 1));
}

void test_group_arithmetic(void) {
    float reward[4] = {1, -1, -1, -1}, a[4];
    group_advantages(a, reward, 4, "rloo");
    CHECK(a[0] == 2.0f && fabsf(a[1] + 2.0f / 3) < 1e-6f, "rloo: %g %g", (double)a[0],
          (double)a[1]); // 1 - (-1); -1 - (1-1-1)/3
    group_advantages(a, reward, 4, "grpo_no_std");
    CHECK(a[0] == 1.5f && a[1] == -0.5f, "grpo_no_std: %g %g", (double)a[0], (double)a[1]);
    group_advantages(a, reward, 4, "grpo"); // sample std of (1,-1,-1,-1) is 1
    CHECK(fabsf(a[0] - 1.5f / 1.0001f) < 1e-6f, "grpo: %g", (double)a[0]);
    float equal[4] = {-1, -1, -1, -1};
    group_advantages(a, equal, 4, "grpo");
    CHECK(a[0] == 0 && group_is_equal(equal, 4) && !group_is_equal(reward, 4),
          "a group of equal rewards has no advantage");

    LossConfig loss_config = {0.2f, 0.3f, 0, 1, false, 0};
    TokenLoss t = token_loss(-1, -1, 0, 0, 2, &loss_config); // on-policy: ratio 1
    CHECK(t.loss == -2 && t.dlogprob == -2 && t.clipped == 0, "on-policy loss %g, gradient %g", (double)t.loss,
          (double)t.dlogprob);
    t = token_loss(logf(1.5f), 0, 0, 0, 1, &loss_config); // ratio 1.5 above 1.3, advantage positive: held back
    CHECK(fabsf(t.loss + 1.3f) < 1e-6f && t.dlogprob == 0 && t.clipped == 1, "clipped above: %g %g", (double)t.loss,
          (double)t.dlogprob);
    t = token_loss(logf(1.5f), 0, 0, 0, -1, &loss_config); // advantage negative: free to come down
    CHECK(fabsf(t.loss - 1.5f) < 1e-6f && fabsf(t.dlogprob - 1.5f) < 1e-6f && t.clipped == 0, "not clipped: %g %g",
          (double)t.loss, (double)t.dlogprob);
    t = token_loss(logf(0.5f), 0, 0, 0, -1, &loss_config); // ratio 0.5 below 0.8, advantage negative: held back
    CHECK(fabsf(t.loss - 0.8f) < 1e-6f && t.dlogprob == 0 && t.clipped == -1, "clipped below: %g %g", (double)t.loss,
          (double)t.dlogprob);
    loss_config.beta = 0.5f; // k3 at ref - logprob = ln 2: 2 - ln 2 - 1; its derivative 1 - 2
    t = token_loss(0, 0, logf(2), 0, 0, &loss_config);
    CHECK(fabsf(t.kl - (1 - logf(2))) < 1e-6f && fabsf(t.dlogprob + 0.5f) < 1e-6f, "k3: %g, gradient %g", (double)t.kl,
          (double)t.dlogprob);

    // the weight of a token: a completion of 3 tokens among 4 of 20 in all, at most 10 each
    CHECK(token_weight("dapo", 20, 4, 3, 10) == 1.0f / 20 && token_weight("grpo", 20, 4, 3, 10) == 1.0f / 12 &&
              token_weight("dr_grpo", 20, 4, 3, 10) == 1.0f / 40,
          "weights");
    // a given solution: cross-entropy, whose gradient is that of the policy's loss at ratio 1 and advantage 1
    const float logprob[2] = {-0.5f, -2}, advantage_one = 1;
    int ids[2] = {0, 0};
    Completion given = {ids, NULL, 2, true};
    PolicySample s = {ids, 1, 0, 0, &given, 7, 0.5f, NULL, NULL, (float *)(uintptr_t)logprob, NULL};
    loss_config.beta = 0;
    t = sample_loss(&s, 1, -2, &loss_config);
    CHECK(t.loss == 2 && t.dlogprob == -1 && t.kl == 0 && t.clipped == 0, "cross-entropy %g, gradient %g",
          (double)t.loss, (double)t.dlogprob);
    CHECK(t.dlogprob == token_loss(-2, -2, 0, 0, advantage_one, &loss_config).dlogprob,
          "another gradient than the policy's at ratio 1");
    PolicyLoss sum = policy_loss(&s, 1, &loss_config);
    CHECK(sum.loss == 0.5 * 2.5 && sum.tokens == 2, "cross-entropy of two tokens %g", sum.loss);

    // one AdamW step by hand: m/c1 = g, v/c2 = g^2, so x moves by lr g/(|g|+eps) after decay
    float x[2] = {1, -1}, m[2] = {0, 0}, v[2] = {0, 0}, g[2] = {0.5f, -4};
    AdamW adamw = {0.1, 0.9, 0.999, 1e-8, 0.01};
    host_adamw_update(x, m, v, g, 0.5, 2, 1, &adamw);
    CHECK(fabsf(x[0] - (1 - 0.001f - 0.1f)) < 1e-6f && fabsf(x[1] - (-1 + 0.001f + 0.1f)) < 1e-6f, "AdamW: %g %g",
          (double)x[0], (double)x[1]);
    CHECK(fabs(host_gradient_norm(g, 2) - sqrt(16.25)) < 1e-12, "norm %g", host_gradient_norm(g, 2));

    // momentum by hand: the second step is along (0.5 * 0.5 * g1 + 0.5 * g2) / (1 - 0.25)
    float y[1] = {1}, mean[1] = {0}, g1[1] = {3}, g2[1] = {-6};
    host_momentum_update(y, mean, g1, 2, 1, 1, 0.1, 0.5);
    CHECK(fabsf(y[0] - (1 - 0.6f)) < 1e-6f, "momentum, step 1: %g", (double)y[0]);
    host_momentum_update(y, mean, g2, 1, 1, 2, 0.1, 0.5);
    CHECK(fabsf(y[0] - (0.4f + 0.2f)) < 1e-6f, "momentum, step 2: %g", (double)y[0]);
}

// The entropy's gradient, in the mean over tokens drawn from another policy (old), against finite differences.
void test_entropy_loss(void) {
    enum { V = 5 };
    const double z[V] = {0.3, -1.2, 2, 0, -0.4}, q[V] = {0.1, 0.3, 0.2, 0.25, 0.15}, eps = 1e-4;
    const LossConfig how = {10, 10, 0, 1, false, 0.7f};
    double p[V], H[3] = {0, 0, 0};
    for (int j = 0; j < V; j++) {
        for (int side = 2; side >= 0; side--) { // above, below, at z
            double sum = 0;
            for (int k = 0; k < V; k++) sum += exp(z[k] + (k == j && side ? (side == 2 ? eps : -eps) : 0));
            H[side] = 0;
            for (int k = 0; k < V; k++) {
                p[k] = exp(z[k] + (k == j && side ? (side == 2 ? eps : -eps) : 0)) / sum;
                H[side] -= p[k] * log(p[k]);
            }
        }
        const double want = -0.7 * (H[2] - H[1]) / (2 * eps); // of the loss -0.7 H
        double got = 0, loss = 0;
        for (int y = 0; y < V; y++) {
            const TokenLoss t = token_loss((float)log(p[y]), (float)log(q[y]), 0, (float)H[0], 0, &how);
            got += q[y] * t.dlogprob * ((y == j) - p[j]);
            loss += q[y] * t.loss;
        }
        CHECK(fabs(got - want) < 1e-6 && fabs(loss + 0.7 * H[0]) < 1e-6, "logit %d: gradient %g, expected %g", j, got,
              want);
    }
}

// Steps of two layers of a policy that is softmax(s_0 + 3 s_1), with coins for advantages: each takes its half of
// target_kl, whatever its layer's sensitivity is. |gradient|^2 is a sum of C - 1 = 1023 squares, so that its standard
// deviation is 4.4 % of it, and a quarter more than five of these.
void test_natural_gradient(void) {
    enum { C = 1024, N = 8192 };
    const double target = 1e-3;
    static float x[3 * C], exp_avg[3 * C], g[3 * C];
    const bool layers[3] = {true, false, true};
    Ops ops;
    memset(&ops, 0, sizeof ops);
    ops_host_init(&ops);
    for (int i = 0; i < N; i++) {
        const int token = (int)(rng_uniform(1, RNG_TOKEN, (uint32_t)i, 0, 0, 0) * C);
        const double a = (rng_uniform(1, RNG_TOKEN, (uint32_t)i, 1, 0, 0) < 0.5f ? -1.0 : 1.0) / N;
        for (int c = 0; c < C; c++) {
            const float d = (float)(a * ((c == token) - 1.0 / C));
            g[c] += d;
            g[C + c] += d; // not trained
            g[2 * C + c] += 3 * d;
        }
    }
    natural_gradient_update(x, exp_avg, g, layers, 3, C, target, 1.0 / N, 1, 0.9, 1, &ops);
    for (int l = 0; l < 3; l += 2) {
        double sum = 0, kl = 0, dot = 0;
        for (int c = 0; c < C; c++) sum += exp((l ? 3 : 1) * x[l * C + c]) / C;
        for (int c = 0; c < C; c++) kl += (log(sum) - (l ? 3 : 1) * x[l * C + c]) / C;
        for (int c = 0; c < C; c++) dot += x[l * C + c] * g[l * C + c];
        CHECK(fabs(kl / (target / 2) - 1) < 0.25, "layer %d: a step of %g nats, expected %g", l, kl, target / 2);
        CHECK(dot < 0, "layer %d: up the loss", l);
        // again, the other way: half of what the first step went, at beta1 0.9 (0.1 - 0.09) / 0.19 of it
        const double before = x[l * C];
        for (int c = 0; c < C; c++) g[l * C + c] *= -1;
        if (l == 0) continue;
        const double went[2] = {x[0], before};
        natural_gradient_update(x, exp_avg, g, layers, 3, C, target, 1.0 / N, 1, 0.9, 2, &ops);
        for (int k = 0; k < 2; k++)
            CHECK(fabs(x[2 * k * C] / went[k] - (1 + (0.09 - 0.1) / 0.19)) < 1e-5,
                  "layer %d: gradients that disagree: %g", 2 * k, x[2 * k * C] / went[k]);
    }
    double stays = 0;
    for (int c = 0; c < C; c++) stays += fabs(x[C + c]) + fabs(exp_avg[C + c]);
    CHECK(stays == 0, "a layer that is not trained has moved");
}

void test_rng(void) {
    // known answers of the authors' library for philox4x32-10
    Philox zero = {{0, 0, 0, 0}}, ones = {{~0u, ~0u, ~0u, ~0u}};
    Philox a = philox(zero, 0, 0), b = philox(ones, ~0u, ~0u);
    CHECK(a.v[0] == 0x6627e8d5u && a.v[1] == 0xe169c58du && a.v[2] == 0xbc57ac4cu && a.v[3] == 0x9b00dbd8u,
          "philox of zeros: %08x %08x %08x %08x", a.v[0], a.v[1], a.v[2], a.v[3]);
    CHECK(b.v[0] == 0x408f276du && b.v[1] == 0x41c83b0eu && b.v[2] == 0xa20bc7c6u && b.v[3] == 0x6d5451fdu,
          "philox of ones: %08x %08x %08x %08x", b.v[0], b.v[1], b.v[2], b.v[3]);
    double sum = 0;
    int order[100], seen[100] = {0};
    for (uint32_t i = 0; i < 100000; i++) sum += rng_uniform(1, RNG_TOKEN, 0, i, 0, 0);
    CHECK(fabs(sum / 100000 - 0.5) < 0.005, "mean %g", sum / 100000);
    rng_permutation(order, 100, 1, RNG_SHUFFLE, 0);
    for (int i = 0; i < 100; i++) seen[order[i]]++;
    for (int i = 0; i < 100; i++)
        if (seen[i] != 1) {
            CHECK(false, "%d comes %d times", i, seen[i]);
            return;
        }
    CHECK(order[0] != 0 || order[1] != 1, "not shuffled");
}

void test_rollout(void) {
    test_rng();
    test_policy_pages();
    test_entropy_loss();
    test_natural_gradient();
    test_group_arithmetic();
    test_rollout_invariance("ref", ops_ref_init());
    const Ops *backends[TEST_BACKENDS];
    const int n = test_backends(backends);
    for (int i = 0; i < n; i++) {
        if (backends[i]->host_memory) test_rollout_invariance(backend_name(backends[i]).text, backends[i]);
        else test_rollout_like(backends[0], backends[i]); // cuBLASLt chooses its kernel by shape: no promise about bits
        if (backends[i]->graph_begin) test_rollout_replayed(backends[i]);
    }
    test_shared_prompts("ref", ops_ref_init());
    Error err = {0, ""};
    test_shared_prompts("cpu", ops_cpu_init(&err));
}

#endif
