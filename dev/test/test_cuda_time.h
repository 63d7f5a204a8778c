// What a GPU is asked for is only queued, so a clock that is read too early measures nothing. Under CUDA_ON_CPU_LAZY=1,
// as emulated.sh runs this, the emulator does the work only when it is waited for: then the seconds that a pass and a
// rollout report must be those of their work. And what repeats: equal shapes give equal bits, on a GPU as elsewhere.
#ifndef DEV_TEST_TEST_CUDA_TIME_H
#define DEV_TEST_TEST_CUDA_TIME_H

#include "dev/test/backends.h"
#include "llmc/eval/bench.h" // bench_prefill_decode; PolicyPass, Rollout

#ifndef TINY_MODEL
#define TINY_MODEL "data/tiny/model"
#endif

enum { TIME_PROMPTS = 2, TIME_SAMPLES = 2, TIME_TOKENS = 12, TIME_PROMPT = 20 };

typedef struct {
    int ids[TIME_PROMPTS * TIME_SAMPLES][TIME_TOKENS];
    float sampled[TIME_PROMPTS * TIME_SAMPLES][TIME_TOKENS], logprob[TIME_PROMPTS * TIME_SAMPLES][TIME_TOKENS];
    float *gradient; // [L,C]
    double wall;     // seconds of the pass, by a clock around it
    PolicyStats stats;
} TimeRun;

// A rollout, and the gradient of what it gave. False after a failed check.
static bool time_run(TimeRun *t, Rollout *r, PolicyPass *pass, const Qwen2 *m, float *steering, float *d_gradient) {
    const Ops *ops = m->ops;
    const size_t LC = (size_t)m->config.L * m->config.C;
    const Sampling sampling = {1, 1, 0, TIME_TOKENS, true, 5, 2};
    const LossConfig loss = {0.2f, 0.2f, 0, 1, false, 0};
    RolloutPrompt asked[TIME_PROMPTS];
    Completion completions[TIME_PROMPTS][TIME_SAMPLES];
    PolicySample samples[TIME_PROMPTS * TIME_SAMPLES];
    int prompts[TIME_PROMPTS][TIME_PROMPT];
    bool trained[64];
    Error err = {0, ""};
    memset(t, 0, sizeof *t);
    memset(samples, 0, sizeof samples);
    for (int l = 0; l < 64; l++) trained[l] = true;
    for (int i = 0; i < TIME_PROMPTS; i++) {
        for (int k = 0; k < TIME_PROMPT; k++) prompts[i][k] = (31 * i + 7 * k) % m->config.V;
        const RolloutPrompt p = {prompts[i], TIME_PROMPT, (uint32_t)i, completions[i]};
        asked[i] = p;
    }
    t->gradient = (float *)xcalloc(LC, sizeof(float));
    if (!CHECK(rollout(r, m, steering, asked, TIME_PROMPTS, TIME_SAMPLES, &sampling, NULL, NULL, &err), "%s", err.text))
        return false;
    for (int i = 0; i < TIME_PROMPTS * TIME_SAMPLES; i++) {
        const Completion *c = &completions[i / TIME_SAMPLES][i % TIME_SAMPLES];
        PolicySample s = {prompts[i / TIME_SAMPLES],
                          TIME_PROMPT,
                          i / TIME_SAMPLES,
                          0,
                          c,
                          i % 2 ? 1.0f : -1.0f,
                          0.01f,
                          c->logprob,
                          NULL,
                          t->logprob[i],
                          NULL};
        samples[i] = s;
        memcpy(t->ids[i], c->ids, sizeof t->ids[i]);
        memcpy(t->sampled[i], c->logprob, sizeof t->sampled[i]);
    }
    ops->zero(d_gradient, LC * sizeof(float));
    ops_wait(ops);
    const double begin = now_s();
    const bool ok = CHECK(policy_pass(pass, m, steering, samples, TIME_PROMPTS * TIME_SAMPLES, &loss, d_gradient,
                                      trained, &t->stats, &err),
                          "%s", err.text);
    ops_wait(ops);
    t->wall = now_s() - begin;
    ops->download(t->gradient, d_gradient, LC * sizeof(float));
    for (int i = 0; i < TIME_PROMPTS; i++)
        for (int g = 0; g < TIME_SAMPLES; g++) completion_free(&completions[i][g]);
    return ok;
}

void test_cuda_time(const Ops *ops) {
    Qwen2 m;
    Rollout r;
    PolicyPass pass;
    TimeRun runs[3]; // the first also loads, the second records
    Error err = {0, ""};
    if (!CHECK(qwen2_load(&m, TINY_MODEL, 128, ops, &err), "%s", err.text)) return;
    const size_t LC = (size_t)m.config.L * m.config.C;
    float *steering = (float *)ops->alloc(LC * sizeof(float)), *gradient = (float *)ops->alloc(LC * sizeof(float));
    rollout_alloc(&r, &m, TIME_PROMPTS * TIME_SAMPLES, 0, TIME_PROMPT, TIME_TOKENS);
    policy_alloc(&pass, &m, 16 << 20, TIME_PROMPT + TIME_TOKENS, 0, true);
    bool ok = true;
    for (int i = 0; i < 3; i++) ok = time_run(&runs[i], &r, &pass, &m, steering, gradient) && ok;
    for (int i = 1; i < 3 && ok; i++)
        CHECK(memcmp(runs[i].ids, runs[0].ids, sizeof runs[0].ids) == 0 &&
                  memcmp(runs[i].sampled, runs[0].sampled, sizeof runs[0].sampled) == 0 &&
                  memcmp(runs[i].logprob, runs[0].logprob, sizeof runs[0].logprob) == 0 &&
                  memcmp(runs[i].gradient, runs[0].gradient, LC * sizeof(float)) == 0,
              "%s: run %d of the same shapes has other bits than the first", ops->isa, i);
    const PolicyStats *s = &runs[2].stats;
    const double sum = s->forward_s + s->backward_s;
    CHECK(!ok || (sum > 0.8 * runs[2].wall && s->forward_s > 0.1 * sum && s->backward_s > 0.1 * sum),
          "%s: of a pass of %.3f s, %.3f s are forward and %.3f s backward", ops->isa, runs[2].wall, s->forward_s,
          s->backward_s);

    if (strstr(ops->isa, "emulated")) { // as long as there is work: a real GPU does this in microseconds
        Options o;
        BenchResult bench[2];
        memset(&o, 0, sizeof o);
        memset(bench, 0, sizeof bench);
        o.prompt_length = 48;
        o.new_tokens = 1;
        ok = CHECK(bench_prefill_decode(bench, &m, NULL, &o, 1, &err), "%s", err.text) && ok;
        CHECK(!ok || bench[0].seconds > bench[1].seconds, "%s: 48 rows take %.4f s, one takes %.4f s", ops->isa,
              bench[0].seconds, bench[1].seconds);
    }
    const double flops = bench_peak_flops(ops), copy = bench_memory_speed(ops);
    CHECK(flops > 1e6 && flops < 1e17 && copy > 1e6 && copy < 1e14 && bench_cache_bytes(ops) > 0,
          "%s: %g FLOP/s, %g bytes/s at most", ops->isa, flops, copy);
    for (int i = 0; i < 3; i++) free(runs[i].gradient);
    rollout_free(&r, &m);
    policy_free(&pass, &m);
    ops->release(steering);
    ops->release(gradient);
    qwen2_free(&m);
}

#endif
