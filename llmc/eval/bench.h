/*
`eval_steer bench`: tokens per second of each phase of training, beside the most this machine could reach.

    prefill           B prompts of --prompt_length tokens to their first drawn tokens     tokens = those of the prompts
    decode            --new_tokens more for each of the B sequences                       tokens = the new ones
    forward           16 sequences of 256 tokens, logits of the last rows alone
    forward_backward  the same rows, all logits, gradient of every vector
    grpo_step         4 prompts, 8 completions of 128 tokens each: rollout, log-probs,   tokens = those of the
                                                                                         completions
                      gradient, AdamW; every group has a gradient

The limit of a phase is the sum over its passes through the model of the larger of two times: 2 FLOPs for each weight
and row at the measured peak of the multiply-add in use, and one reading of each weight at the measured speed of
memory. Attention, norms and sampling are left out, so the limit is a little high; backward passes compute only
gradients of inputs, and need none below the lowest vector. On a GPU both limits are its own (a large product, a large
copy).

On a GPU every phase is run twice, the same each time, and the second is timed: the first one loads kernels, lets
cuBLASLt choose its own and records the graphs of decode steps. Wherever the clock is read the GPU has been waited for.
*/
#ifndef LLMC_EVAL_BENCH_H
#define LLMC_EVAL_BENCH_H

#include <sys/resource.h>           // getrusage
#include "llmc/eval/bench_limits.h" // bench_peak_flops, bench_memory_speed
#include "llmc/grpo.h"              // PolicyPass, group_advantages
#include "llmc/logger.h"            // Progress
#include "llmc/options/options.h"   // Options
#include "llmc/rollout.h"           // rollout

#define BENCH_SEQUENCES 16 // forward and forward_backward
#define BENCH_TOKENS 256
#define BENCH_PROMPTS 4 // grpo_step
#define BENCH_SAMPLES 8
#define BENCH_NEW 128

// ----------------------------------------------------------------------------
// results and limits

typedef struct {
    double count, flops, bytes;
} BenchPass; // so many alike passes, and what each must at least do

typedef struct {
    const char *phase;
    int batch; // sequences
    double tokens, seconds;
    double resident; // bytes of memory the process has held at most, so far; on a GPU, of its memory
    double peak;     // FLOP/s of multiply-adds, the mean of just before and just after
    BenchPass passes[4];
    int n_passes;
} BenchResult;

// Weights of one layer's matrices, and of the output matrix.
double bench_layer_weights(const ModelConfig *c) {
    return (double)c->C * (qwen2_qkv_size(c) + (double)c->NH * c->HD + 3.0 * c->I);
}

double bench_head_weights(const ModelConfig *c) { return (double)c->C * c->V; }

// Adds `count` passes of `rows` rows through `layers` layers and `head_rows` rows through the output matrix. A model
// that stays in the last cache is not read from memory.
void bench_add_pass(BenchResult *b, const Qwen2 *m, double count, double layers, double rows, double head_rows) {
    const ModelConfig *c = &m->config;
    const double body = layers * bench_layer_weights(c), head = bench_head_weights(c),
                 cache = bench_cache_bytes(m->ops);
    BenchPass *p = &b->passes[b->n_passes++];
    p->count = count;
    p->flops = 2 * (rows * body + head_rows * head);
    const double body_bytes = model_weight_bytes(c, false), head_bytes = model_weight_bytes(c, true) * head;
    p->bytes = (rows > 0 ? body_bytes * body : 0) + (head_rows > 0 ? head_bytes : 0);
    if (body_bytes * c->L * bench_layer_weights(c) + head_bytes <= cache) p->bytes = 0;
}

// The most bytes of memory the process has held so far; on a GPU what it has of its memory now.
double bench_resident(const Ops *ops) {
    struct rusage usage;
    size_t available;
    if (ops->memory) return (double)ops->memory(&available);
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (double)usage.ru_maxrss; // bytes there, KiB elsewhere
#else
    return (double)usage.ru_maxrss * 1024;
#endif
}

// Seconds the phase takes at the machine's limits (its FLOP/s, bytes/s); *memory_s = what of it waits for memory.
double bench_limit_s(const BenchResult *b, double bandwidth, double *memory_s) {
    double sum = 0;
    *memory_s = 0;
    for (int i = 0; i < b->n_passes; i++) {
        const BenchPass *p = &b->passes[i];
        double compute = p->flops / b->peak, memory = p->bytes / bandwidth;
        sum += p->count * (compute > memory ? compute : memory);
        if (memory > compute) *memory_s += p->count * memory;
    }
    return sum;
}

// ----------------------------------------------------------------------------
// prefill and decode

// n prompts of P random tokens, their ids in *ids; each with room for G completions. Free with bench_prompts_free.
RolloutPrompt *bench_prompts(IntVec *ids, const Qwen2 *m, const Options *o, int n, int P, int G) {
    RolloutPrompt *prompts = (RolloutPrompt *)xcalloc((size_t)n, sizeof *prompts);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < P; k++)
            ints_push(ids, (int)(rng_bits((uint32_t)o->seed, RNG_SHUFFLE, 0, (uint32_t)i, 0, (uint32_t)k) %
                                 (uint32_t)m->config.V));
    for (int i = 0; i < n; i++) {
        prompts[i].prompt = ids->v + (size_t)i * P;
        prompts[i].P = P;
        prompts[i].key = (uint32_t)i;
        prompts[i].completions = (Completion *)xcalloc((size_t)G, sizeof(Completion));
    }
    return prompts;
}

void bench_completions_free(RolloutPrompt *prompts, int n, int G) {
    for (int i = 0; i < n; i++)
        for (int g = 0; g < G; g++) completion_free(&prompts[i].completions[g]);
}

void bench_prompts_free(RolloutPrompt *prompts, int n, int G, IntVec *ids) {
    bench_completions_free(prompts, n, G);
    for (int i = 0; i < n; i++) free(prompts[i].completions);
    free(prompts);
    ints_free(ids);
}

Sampling bench_sampling(const Options *o, int max_new) {
    Sampling sampling = {1.0f, 1.0f, 0, max_new, true, (uint32_t)o->seed, 0};
    return sampling;
}

// A sampler that looks at the clock: when the first tokens of a rollout were drawn, and the last.
struct {
    const Ops *ops;
    int draws;
    double first_s, last_s;
} bench_clock;

void bench_sample_rows(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k,
                       float top_p, int n, int V) {
    bench_clock.ops->sample_rows(token, logprob, logits, u, temperature, top_k, top_p, n, V);
    ops_wait(bench_clock.ops);
    bench_clock.last_s = now_s();
    if (bench_clock.draws++ == 0) bench_clock.first_s = bench_clock.last_s;
}

// One rollout gives both: up to the first draw it is prefill, from there to the last, new_tokens later, decode.
bool bench_prefill_decode(BenchResult out[2], const Qwen2 *m, const float *steering, const Options *o, int B,
                          Error *err) {
    int P = o->prompt_length, N = o->new_tokens;
    Ops timed_ops = *m->ops;
    Qwen2 timed = *m;
    timed_ops.sample_rows = bench_sample_rows;
    timed.ops = &timed_ops;
    bench_clock.ops = m->ops;

    IntVec ids = {0, 0, 0};
    RolloutPrompt *prompts = bench_prompts(&ids, m, o, B, P, 1);
    Rollout r;
    rollout_alloc(&r, m, B, 0, P, N + 1);
    const int warm = m->ops->host_memory ? 1 : B; // prompts of the warm-up
    Sampling sampling = bench_sampling(o, m->ops->host_memory ? 2 : N + 1);
    bool ok = rollout(&r, m, steering, prompts, warm, 1, &sampling, NULL, NULL, err);
    bench_completions_free(prompts, warm, 1);

    sampling.max_new = N + 1;
    bench_clock.draws = 0;
    ops_wait(m->ops);
    double begin = now_s();
    ok = ok && rollout(&r, &timed, steering, prompts, B, 1, &sampling, NULL, NULL, err);
    out[0].phase = "prefill";
    out[1].phase = "decode";
    out[0].batch = out[1].batch = B;
    out[0].tokens = (double)B * P;
    out[1].tokens = (double)B * N;
    out[0].seconds = bench_clock.first_s - begin;
    out[1].seconds = bench_clock.last_s - bench_clock.first_s;
    bench_add_pass(&out[0], m, 1, m->config.L, (double)B * P, B);
    bench_add_pass(&out[1], m, N, m->config.L, B, B);
    out[0].resident = out[1].resident = bench_resident(m->ops);
    rollout_free(&r, m);
    bench_prompts_free(prompts, B, 1, &ids);
    return ok;
}

// ----------------------------------------------------------------------------
// forward

// n prompts packed into one batch, with the logits of their last rows alone.
void bench_forward_rows(const Qwen2 *m, Scratch *s, KVCache *kv, BatchBuilder *p, const float *steering,
                        const RolloutPrompt *prompts, int n) {
    IntVec last = {0, 0, 0}, pages = {0, 0, 0};
    batch_reset(p);
    for (int i = 0, page = 0; i < n; i++) {
        pages.n = 0;
        for (int k = 0; k < pages_for(prompts[i].P); k++) ints_push(&pages, page++);
        ints_push(&last, batch_add(p, prompts[i].prompt, prompts[i].P, 0, pages.v, 0, i) + prompts[i].P - 1);
    }
    qwen2_forward(m, s, NULL, kv, batch_finish(p, m->ops), steering);
    DeviceCopy d_last = {NULL, 0};
    qwen2_head_forward(m, s, s->h, (const int *)device_copy(&d_last, m->ops, last.v, (size_t)n * sizeof(int)), n);
    device_copy_free(&d_last, m->ops);
    ints_free(&last);
    ints_free(&pages);
}

void bench_forward(BenchResult *out, const Qwen2 *m, const float *steering, const Options *o) {
    IntVec ids = {0, 0, 0};
    RolloutPrompt *prompts = bench_prompts(&ids, m, o, BENCH_SEQUENCES, BENCH_TOKENS, 1);
    Scratch s;
    KVCache kv;
    BatchBuilder packed;
    memset(&packed, 0, sizeof packed);
    scratch_alloc(&s, m, BENCH_SEQUENCES * BENCH_TOKENS, BENCH_SEQUENCES, false);
    kv_cache_alloc(&kv, m, BENCH_SEQUENCES * pages_for(BENCH_TOKENS));
    bench_forward_rows(m, &s, &kv, &packed, steering, prompts, m->ops->host_memory ? 1 : BENCH_SEQUENCES); // warm-up
    ops_wait(m->ops);
    double t = now_s();
    bench_forward_rows(m, &s, &kv, &packed, steering, prompts, BENCH_SEQUENCES);
    ops_wait(m->ops);
    out->phase = "forward";
    out->batch = BENCH_SEQUENCES;
    out->tokens = BENCH_SEQUENCES * BENCH_TOKENS;
    out->seconds = now_s() - t;
    bench_add_pass(out, m, 1, m->config.L, BENCH_SEQUENCES * BENCH_TOKENS, BENCH_SEQUENCES);
    out->resident = bench_resident(m->ops);
    batch_free(&packed, m->ops);
    kv_cache_free(&kv, m->ops);
    scratch_free(&s, m->ops);
    bench_prompts_free(prompts, BENCH_SEQUENCES, 1, &ids);
}

// ----------------------------------------------------------------------------
// forward and backward, and the whole step

// What training keeps from step to step.
typedef struct {
    PolicyPass pass;
    float *steering, *dsteering, *exp_avg, *exp_avg_sq; // a copy of the vectors or the LoRA, their gradient and moments
    bool *trained;                                      // [L] all
} BenchTrainer;

// Numbers that the model reads: of vectors, or of a LoRA.
size_t bench_numbers(const Qwen2 *m) { return m->layout ? m->layout->n : (size_t)m->config.L * m->config.C; }

void bench_trainer_alloc(BenchTrainer *t, const Qwen2 *m, const float *steering, const Options *o) {
    size_t n = bench_numbers(m);
    int longest = o->prompt_length + BENCH_NEW;
    if (longest < BENCH_TOKENS + 1) longest = BENCH_TOKENS + 1;
    const int samples =
        BENCH_PROMPTS * BENCH_SAMPLES > BENCH_SEQUENCES ? BENCH_PROMPTS * BENCH_SAMPLES : BENCH_SEQUENCES;
    policy_alloc(&t->pass, m, o->activation_memory * (1 << 30), longest, 0, true);
    policy_reserve(&t->pass, m, samples, BENCH_SEQUENCES, longest);
    float **all[4] = {&t->steering, &t->dsteering, &t->exp_avg, &t->exp_avg_sq};
    for (int i = 0; i < 4; i++) *all[i] = (float *)m->ops->alloc(n * sizeof(float));
    if (steering) {
        float *host = (float *)xmalloc(n * sizeof(float));
        m->ops->download(host, steering, n * sizeof(float));
        m->ops->upload(t->steering, host, n * sizeof(float));
        free(host);
    }
    t->trained = (bool *)xmalloc((size_t)m->config.L * sizeof(bool));
    for (int l = 0; l < m->config.L; l++) t->trained[l] = true;
}

void bench_trainer_free(BenchTrainer *t, const Qwen2 *m) {
    policy_free(&t->pass, m);
    float *all[4] = {t->steering, t->dsteering, t->exp_avg, t->exp_avg_sq};
    for (int i = 0; i < 4; i++) m->ops->release(all[i]);
    free(t->trained);
}

// Gradient of the loss over the n_prompts * G completions at rewards of +1 and -1, no group all alike.
bool bench_gradient(BenchTrainer *t, const Qwen2 *m, const Options *o, const RolloutPrompt *prompts, int n_prompts,
                    int G, Error *err) {
    PolicySample *samples = (PolicySample *)xcalloc((size_t)n_prompts * G, sizeof *samples);
    long long tokens = 0, at = 0;
    for (int i = 0; i < n_prompts; i++)
        for (int g = 0; g < G; g++) tokens += prompts[i].completions[g].n;
    float *out = (float *)xmalloc(2 * (size_t)tokens * sizeof(float));
    float *reward = (float *)xmalloc(2 * (size_t)G * sizeof(float)), *advantage = reward + G;
    for (int i = 0; i < n_prompts; i++) {
        for (int g = 0; g < G; g++)
            reward[g] = rng_bits((uint32_t)o->seed, RNG_REWARD, 0, (uint32_t)i, (uint32_t)g, 0) & 1 ? 1.0f : -1.0f;
        if (group_is_equal(reward, G)) reward[0] = -reward[0];
        group_advantages(advantage, reward, G, "grpo_no_std"); // unlike rloo it allows G = 1
        for (int g = 0; g < G; g++) {
            PolicySample *s = &samples[i * G + g];
            s->prompt = prompts[i].prompt;
            s->P = prompts[i].P;
            s->group = i;
            s->completion = &prompts[i].completions[g];
            s->advantage = G > 1 ? advantage[g] : reward[g];
            s->weight = 1.0f / (float)tokens;
            s->old_logprob = s->completion->logprob;
            s->logprob = out + at;
            s->entropy = out + tokens + at;
            at += s->completion->n;
        }
    }
    LossConfig loss_config = {0.2f, 0.2f, 0, 1, false, 0};
    PolicyStats stats;
    memset(&stats, 0, sizeof stats);
    m->ops->zero(t->dsteering, bench_numbers(m) * sizeof(float));
    bool ok = policy_pass(&t->pass, m, t->steering, samples, n_prompts * G, &loss_config, t->dsteering, t->trained,
                          &stats, err);
    free(samples);
    free(out);
    free(reward);
    return ok;
}

// As many rows as `forward` and as many logits: a prompt of one token and a completion of 256, whose last is not run.
bool bench_forward_backward(BenchResult *out, BenchTrainer *t, const Qwen2 *m, const Options *o, Error *err) {
    const ModelConfig *c = &m->config;
    const double rows = BENCH_SEQUENCES * BENCH_TOKENS;
    IntVec ids = {0, 0, 0};
    RolloutPrompt *prompts = bench_prompts(&ids, m, o, BENCH_SEQUENCES, BENCH_TOKENS + 1, 1);
    for (int i = 0; i < BENCH_SEQUENCES; i++) {
        Completion *given = prompts[i].completions;
        prompts[i].P = 1;
        given->n = BENCH_TOKENS;
        given->ids = (int *)xmalloc(BENCH_TOKENS * sizeof(int));
        given->logprob = (float *)xcalloc(BENCH_TOKENS, sizeof(float)); // "when sampled": any value does
        memcpy(given->ids, prompts[i].prompt + 1, BENCH_TOKENS * sizeof(int));
    }
    ops_wait(m->ops);
    double begin = now_s();
    bool ok = bench_gradient(t, m, o, prompts, BENCH_SEQUENCES, 1, err);
    ops_wait(m->ops);
    out->phase = "forward_backward";
    out->batch = BENCH_SEQUENCES;
    out->tokens = rows;
    out->seconds = now_s() - begin;
    bench_add_pass(out, m, 1, c->L, rows, rows);
    bench_add_pass(out, m, 1, c->L - 1, rows, rows);
    out->resident = bench_resident(m->ops);
    bench_prompts_free(prompts, BENCH_SEQUENCES, 1, &ids);
    return ok;
}

// Rollout, gradient and update; the completions are left to the caller.
bool bench_step(BenchTrainer *t, Rollout *r, const Qwen2 *m, const Options *o, RolloutPrompt *prompts, Error *err) {
    const AdamW adamw = {1e-3, 0.9, 0.999, 1e-8, 0};
    const size_t n = (size_t)m->config.L * m->config.C;
    const Sampling sampling = bench_sampling(o, BENCH_NEW);
    if (!rollout(r, m, t->steering, prompts, BENCH_PROMPTS, BENCH_SAMPLES, &sampling, NULL, NULL, err) ||
        !bench_gradient(t, m, o, prompts, BENCH_PROMPTS, BENCH_SAMPLES, err))
        return false;
    const double norm = m->ops->gradient_norm(t->dsteering, n);
    if (!(norm > 0 && isfinite(norm)))
        return fail(err, EXIT_RUN, "bench: the gradient's length is %g, expected a number above 0", norm);
    m->ops->adamw_update(t->steering, t->exp_avg, t->exp_avg_sq, t->dsteering, norm > 2 ? 2 / norm : 1, n, 1, &adamw);
    ops_wait(m->ops);
    return true;
}

bool bench_grpo_step(BenchResult *out, BenchTrainer *t, const Qwen2 *m, const Options *o, Error *err) {
    const ModelConfig *c = &m->config;
    const int samples = BENCH_PROMPTS * BENCH_SAMPLES;
    IntVec ids = {0, 0, 0};
    RolloutPrompt *prompts = bench_prompts(&ids, m, o, BENCH_PROMPTS, o->prompt_length, BENCH_SAMPLES);
    Rollout r;
    rollout_alloc(&r, m, samples, 0, o->prompt_length, BENCH_NEW);
    bool ok;
    if (!m->ops->host_memory) { // loads and records
        ok = bench_step(t, &r, m, o, prompts, err);
        bench_completions_free(prompts, BENCH_PROMPTS, BENCH_SAMPLES);
    } else {
        const Sampling sampling = bench_sampling(o, 2);
        ok = rollout(&r, m, t->steering, prompts, 1, BENCH_SAMPLES, &sampling, NULL, NULL, err) &&
             bench_gradient(t, m, o, prompts, 1, BENCH_SAMPLES, err);
        bench_completions_free(prompts, 1, BENCH_SAMPLES);
    }

    ops_wait(m->ops);
    double begin = now_s();
    ok = ok && bench_step(t, &r, m, o, prompts, err);
    out->phase = "grpo_step";
    out->batch = samples;
    out->tokens = samples * BENCH_NEW;
    out->seconds = now_s() - begin;
    double prompt_rows = (double)BENCH_PROMPTS * o->prompt_length, rows = prompt_rows + samples * (BENCH_NEW - 1);
    bench_add_pass(out, m, 1, c->L, prompt_rows, samples);
    bench_add_pass(out, m, BENCH_NEW - 1, c->L, samples, samples);
    bench_add_pass(out, m, 1, c->L, rows, out->tokens);
    bench_add_pass(out, m, 1, c->L - 1, rows, out->tokens);
    out->resident = bench_resident(m->ops);
    rollout_free(&r, m);
    bench_prompts_free(prompts, BENCH_PROMPTS, BENCH_SAMPLES, &ids);
    return ok;
}

// ----------------------------------------------------------------------------
// all of it

// The longest sequence that a bench with these options runs.
int bench_positions(const Options *o) {
    int64_t longest = (int64_t)o->prompt_length + (o->new_tokens >= BENCH_NEW ? o->new_tokens + 1 : BENCH_NEW);
    if (longest < BENCH_TOKENS + 1) longest = BENCH_TOKENS + 1;
    return (int)longest;
}

void bench_print_header(const Qwen2 *m, const Options *o, const double peak[2], double bandwidth, double resident) {
    const ModelConfig *c = &m->config;
    char *name = model_name_from_dir(o->model);
    double weights = c->L * bench_layer_weights(c) + bench_head_weights(c);
    printf("model   %s: %d layers, hidden size %d, %.1f M weights in matrix products\n", name, c->L, c->C,
           1e-6 * weights);
    printf("device  %s, %s, %d threads; prompts of %d tokens, %d new\n", m->ops->name, m->ops->isa,
           omp_get_max_threads(), o->prompt_length, o->new_tokens);
    printf("limits  %.4g to %.4g GFLOP/s of %s, measured before and after each phase, %.3g GB/s of memory%s\n",
           1e-9 * peak[0], 1e-9 * peak[1], m->ops->peak_flops ? "a large product" : "multiply-adds", 1e-9 * bandwidth,
           m->ops->copy_speed ? " (a large copy)" : "");
    printf("memory  %.2f GiB at most %s\n\n", resident / (1 << 30), m->ops->memory ? "of the device's" : "resident");
    printf("%-16s %6s %11s %11s %7s  %s\n", "phase", "batch", "tokens/s", "limit", "share", "limited by");
    free(name);
}

void bench_print(const BenchResult *b, const Options *o, const char *isa, double bandwidth) {
    double memory_s, limit_s = bench_limit_s(b, bandwidth, &memory_s);
    double speed = b->tokens / b->seconds, limit = b->tokens / limit_s;
    if (o->json)
        printf("{\"phase\":\"%s\",\"batch\":%d,\"prompt_length\":%d,\"new_tokens\":%d,\"isa\":\"%s\",\"threads\":%d,"
               "\"tokens_per_s\":%.6g,"
               "\"limit_tokens_per_s\":%.6g,\"seconds\":%.6g,\"resident_gib\":%.4g}\n",
               b->phase, b->batch, o->prompt_length, o->new_tokens, isa, omp_get_max_threads(), speed, limit,
               b->seconds, b->resident / (1 << 30));
    else
        printf("%-16s %6d %11.4g %11.4g %6.0f%%  %s\n", b->phase, b->batch, speed, limit, 100 * speed / limit,
               memory_s > limit_s / 2 ? "memory" : "multiply-adds");
}

// Sets the peak of n results that have just been measured: the machine, a shared one, may not be what it was a minute
// ago. *last: the reading before them, from now on the one after them.
void bench_set_peak(BenchResult *results, int n, const Qwen2 *m, double *last) {
    const double now = bench_peak_flops(m->ops);
    for (int i = 0; i < n; i++) results[i].peak = (*last + now) / 2;
    *last = now;
}

// Times the wanted phases, the rollout for every batch size of o->batch, and prints the table, or lines of JSON.
bool bench_run(const Qwen2 *m, const float *steering, const Options *o, Error *err) {
    const bool all = strcmp(o->phase, "all") == 0;
    const bool rollouts = all || strcmp(o->phase, "rollout") == 0, forward = all || strcmp(o->phase, "forward") == 0;
    const bool gradient = all || strcmp(o->phase, "forward_backward") == 0,
               step = all || strcmp(o->phase, "grpo_step") == 0;
    const int n = (rollouts ? 2 * o->batch.n : 0) + forward + gradient + step;
    BenchResult *results = (BenchResult *)xcalloc((size_t)n, sizeof *results), *r = results;
    BenchTrainer trainer;
    Progress progress;
    bool ok = true;
    double peak = bench_peak_flops(m->ops);
    progress_begin(&progress, "bench", 0, n);
    for (int i = 0; i < o->batch.n && rollouts && ok; i++, r += 2) {
        progress_update(&progress, (int)(r - results), "prefill, decode");
        ok = bench_prefill_decode(r, m, steering, o, o->batch.v[i], err);
        bench_set_peak(r, 2, m, &peak);
    }
    if (ok && forward) {
        progress_update(&progress, (int)(r - results), "forward");
        bench_forward(r, m, steering, o);
        bench_set_peak(r++, 1, m, &peak);
    }
    if (ok && (gradient || step)) {
        bench_trainer_alloc(&trainer, m, steering, o);
        progress_update(&progress, (int)(r - results), "forward_backward");
        BenchResult warm_up; // the activations are first touched here
        memset(&warm_up, 0, sizeof warm_up);
        ok = bench_forward_backward(&warm_up, &trainer, m, o, err);
        peak = bench_peak_flops(m->ops);
        if (gradient) {
            ok = ok && bench_forward_backward(r, &trainer, m, o, err);
            bench_set_peak(r++, 1, m, &peak);
        }
        progress_update(&progress, (int)(r - results), "grpo_step");
        if (step) {
            ok = ok && bench_grpo_step(r, &trainer, m, o, err);
            bench_set_peak(r, 1, m, &peak);
        }
        bench_trainer_free(&trainer, m);
    }
    progress_clear(&progress);
    if (ok) {
        const double bandwidth = bench_memory_speed(m->ops);
        double range[2] = {results[0].peak, results[0].peak}, resident = 0;
        for (int i = 0; i < n; i++) {
            if (results[i].resident > resident) resident = results[i].resident;
            if (results[i].peak < range[0]) range[0] = results[i].peak;
            if (results[i].peak > range[1]) range[1] = results[i].peak;
        }
        if (!o->json) bench_print_header(m, o, range, bandwidth, resident);
        for (int i = 0; i < n; i++) bench_print(&results[i], o, m->ops->isa, bandwidth);
    }
    free(results);
    return ok;
}

#endif
