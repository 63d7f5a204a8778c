/*
GRPO and its relatives: advantages of a group, the loss of a token, and one pass over completions that computes their
log-probs and, if wanted, the gradient of the loss with respect to what is trained (param_layout.h).

    loss = sum over samples i, tokens t of  w_i * ( -min(r A_i, clip(r, 1-eps, 1+eps_high) A_i) + beta * kl - c * H )
    r  = exp(logprob - old_logprob)                      exactly 1 on-policy (on a GPU: nearly, see ops.h): then the
                                                         gradient is -A_i * dlogprob
    kl = r * k3, or k3 without use_bias_correction_kl    r * k3 has the gradient of KL(policy || reference), on-policy
                                                         too; k3 has not
    k3 = exp(ref - logprob) - (ref - logprob) - 1        Schulman's estimator of KL(policy || reference)
    H  = entropy of the distribution that token t was drawn from, c = entropy_coeff: below 0 it is minimised. Its
         gradient is that of the mean over the tokens sampled,  dH = -E[ r (logprob + H) dlogprob ]
    w_i: dapo 1 / all tokens of the step; grpo 1 / (samples * tokens of i); dr_grpo 1 / (samples * length limit)

or, where solutions are given (setup sft_...), the cross-entropy  loss = -(1 / all tokens of the step) * sum of logprob.

Papers: GRPO, Shao et al. 2024 (arXiv 2402.03300); RLOO, Ahmadian et al. 2024 (2402.14740); DAPO, Yu et al. 2025
(2503.14476); Dr. GRPO, Liu et al. 2025 (2503.20783); r * k3: DeepSeek-V3.2, 2025 (2512.02556).
*/
#ifndef LLMC_GRPO_H
#define LLMC_GRPO_H

#include <limits.h>             // LLONG_MAX
#include "llmc/batch.h"         // Completion, batch_add_group
#include "llmc/memory/passes.h" // scratch_alloc, activations_alloc

// ----------------------------------------------------------------------------
// advantages and losses

// advantage[G] from reward[G]. kind: rloo = r - mean of the others; grpo_no_std = r - mean of all;
// grpo = that over (sample std + 1e-4), as TRL has it. G >= 2 for rloo and grpo.
void group_advantages(float *advantage, const float *reward, int G, const char *kind) {
    double sum = 0, squares = 0;
    for (int i = 0; i < G; i++) sum += reward[i];
    for (int i = 0; i < G; i++) squares += (reward[i] - sum / G) * (reward[i] - sum / G);
    for (int i = 0; i < G; i++) {
        double a = reward[i] - sum / G;
        if (strcmp(kind, "rloo") == 0) a = reward[i] - (sum - reward[i]) / (G - 1);
        if (strcmp(kind, "grpo") == 0) a /= sqrt(squares / (G - 1)) + 1e-4;
        advantage[i] = (float)a;
    }
}

// True if no sample is better than another: such a group has no gradient (unless there is a KL term).
bool group_is_equal(const float *reward, int G) {
    for (int i = 1; i < G; i++)
        if (reward[i] != reward[0]) return false;
    return true;
}

// The weight of each token of a completion of n tokens, in a step of `samples` completions with `tokens` tokens in all.
// loss_type: dapo, grpo or dr_grpo.
float token_weight(const char *loss_type, long long tokens, int samples, int n, int length_limit) {
    if (strcmp(loss_type, "dapo") == 0) return 1.0f / (float)tokens;
    return 1.0f / ((float)samples * (float)(strcmp(loss_type, "grpo") == 0 ? n : length_limit));
}

typedef struct {
    float epsilon, epsilon_high, beta;
    float temperature; // log-probs are those of logits / temperature, as sampled
    bool use_bias_correction_kl;
    float entropy_coeff; // where it is not 0, every sample has its entropies
} LossConfig;

typedef struct {
    float loss, dlogprob; // d loss / d logprob
    float kl;
    int clipped; // -1 held back below 1 - epsilon, +1 above 1 + epsilon_high, 0 free
} TokenLoss;

// One token's loss before its weight. `old`: log-prob when sampled; `ref`: under the base model (used if beta > 0);
// entropy: of the distribution that the token is from (used with entropy_coeff).
TokenLoss token_loss(float logprob, float old, float ref, float entropy, float advantage,
                     const LossConfig *loss_config) {
    TokenLoss t = {0, 0, 0, 0};
    float ratio = expf(logprob - old);
    float low = 1 - loss_config->epsilon, high = 1 + loss_config->epsilon_high;
    float limited = ratio < low ? low : ratio > high ? high : ratio;
    if (ratio * advantage <= limited * advantage) {
        t.loss = -ratio * advantage;
        t.dlogprob = -ratio * advantage;
    } else { // the clipped branch is constant
        t.loss = -limited * advantage;
        t.clipped = ratio < low ? -1 : 1;
    }
    if (loss_config->beta > 0) {
        float d = ref - logprob;
        const float k3 = expf(d) - d - 1, weight = loss_config->use_bias_correction_kl ? ratio : 1;
        t.kl = weight * k3;
        t.loss += loss_config->beta * t.kl;
        t.dlogprob += loss_config->beta * (weight * (1 - expf(d)) + (loss_config->use_bias_correction_kl ? t.kl : 0));
    }
    if (loss_config->entropy_coeff != 0) {
        t.loss -= loss_config->entropy_coeff * entropy;
        t.dlogprob += loss_config->entropy_coeff * ratio * (logprob + entropy);
    }
    return t;
}

// ----------------------------------------------------------------------------
// one pass over given completions

// A completion to be scored or trained on. Neighbours with the same `group` have the same prompt, which is run once;
// neighbours with the same `slot` (whole groups) add to the same slot of the gradient.
typedef struct {
    const int *prompt;
    int P, group, slot;
    const Completion *completion;
    float advantage, weight; // of each of its tokens (training only)
    const float *old_logprob,
        *ref_logprob; // [n] (training only; ref only with beta > 0). old NULL: a given solution, that nobody sampled
    float *logprob, *entropy; // [n] outputs; entropy may be NULL
} PolicySample;

// The loss of token t of a sample, before its weight. Of a given solution it is the cross-entropy, -logprob: its
// gradient is that of the policy's loss at ratio 1 with advantage 1.
TokenLoss sample_loss(const PolicySample *s, int t, float logprob, const LossConfig *loss_config) {
    const TokenLoss given = {-logprob, -1, 0, 0};
    return s->old_logprob ? token_loss(logprob, s->old_logprob[t], s->ref_logprob ? s->ref_logprob[t] : 0,
                                       s->entropy ? s->entropy[t] : 0, s->advantage, loss_config)
                          : given;
}

// Memory of the pass, reused from step to step.
typedef struct {
    int rows, pages; // most rows and most pages of the cache in one batch
    int first_layer; // activations are kept from here on
    bool backward;
    Scratch scratch;
    Activations acts;
    KVCache kv;
    BatchBuilder packed;
    IntVec head_rows, targets;
    DeviceCopy d_head_rows, d_targets;
    float *out;       // [4, head_rows] logprob, lse, entropy, dlogprob of a chunk
    float *values;    // [3, head_rows] logprob, entropy, dlogprob of a chunk, in the host's memory
    RowRange *ranges; // the gradient slots of the batch
    int n_ranges, cap_ranges;
} PolicyPass;

typedef struct {
    long long tokens, rows; // rows run, prompts included
    double forward_s, backward_s;
} PolicyStats;

// The loss of completions whose log-probs are known, tokens in order.
typedef struct {
    double loss, kl, entropy; // kl, entropy: sums over tokens
    long long tokens, clipped_low, clipped_high;
    double low_min,
        high_max; // the least share of a completion's tokens that is clipped below, the largest that is clipped above
} PolicyLoss;

PolicyLoss policy_loss(const PolicySample *samples, int n, const LossConfig *loss_config) {
    PolicyLoss sum = {0, 0, 0, 0, 0, 0, 0, 0};
    for (const PolicySample *s = samples; s < samples + n; s++) {
        int low = 0, high = 0;
        for (int t = 0; t < s->completion->n; t++) {
            TokenLoss l = sample_loss(s, t, s->logprob[t], loss_config);
            sum.loss += (double)s->weight * l.loss;
            sum.kl += l.kl;
            sum.entropy += s->entropy ? s->entropy[t] : 0;
            low += l.clipped < 0;
            high += l.clipped > 0;
        }
        const double of = s->completion->n;
        sum.tokens += s->completion->n;
        sum.clipped_low += low;
        sum.clipped_high += high;
        if (s == samples || low / of < sum.low_min) sum.low_min = low / of;
        if (high / of > sum.high_max) sum.high_max = high / of;
    }
    return sum;
}

#define HEAD_ROWS 256 // rows of logits at a time: [256, V] floats, never tokens x vocabulary

// Pages of the cache that a batch of `rows` rows is given, of at most k completions of so many prompts. A prompt may
// begin a page that it does not fill; a completion, too, and it has a copy of the prompt's last page. Of completions
// that are shorter than PAGES_FOR_ROWS on average fewer go into a batch: with room for the shortest, the cache of 14B
// would take 14 GB and use one.
#define PAGES_FOR_ROWS 128
int policy_pages(int rows, long long k, long long prompts) {
    const long long most = rows > PAGES_FOR_ROWS ? rows / PAGES_FOR_ROWS : 1;
    return (int)(rows / KV_PAGE + 2 * (k < most ? k : most) + (prompts < most ? prompts : most));
}

// Plans a pass that uses about `bytes` for activations; longest = most tokens of one prompt with its completion.
// lowest_trained: the lowest layer with something trained; backward false plans for log-probs alone.
void policy_alloc(PolicyPass *p, const Qwen2 *m, double bytes, int longest, int lowest_trained, bool backward) {
    const ModelConfig *c = &m->config;
    memset(p, 0, sizeof *p);
    p->backward = backward;
    p->first_layer = backward ? qwen2_first_kept(m, lowest_trained) : c->L;
    // scratch: h, y, x, qkv, q, att of the forward; dh, dx, dy, dq, datt, dk, dv, dqkv of the backward, all below 16 (C
    // + QKV) floats
    size_t scratch_row = 16 * (size_t)(c->C + qwen2_qkv_size(c)) * sizeof(float);
    double per_row = (double)activation_bytes_per_row(m) * (c->L - p->first_layer) + (double)scratch_row;
    double rows = bytes / per_row;
    p->rows = rows > 65536 ? 65536 : (int)rows;
    if (p->rows < longest) p->rows = longest; // a completion cannot be cut
    p->pages = policy_pages(p->rows, LLONG_MAX, LLONG_MAX);
    scratch_alloc(&p->scratch, m, p->rows, HEAD_ROWS, backward);
    if (backward) activations_alloc(&p->acts, m, p->rows, p->first_layer);
    p->out = (float *)m->ops->alloc(4 * HEAD_ROWS * sizeof(float));
    p->values = (float *)xmalloc(3 * HEAD_ROWS * sizeof(float));
}

// Room for what depends on the completions, of which at most `samples` in `groups` come in one call of policy_pass:
// then nothing is allocated while it runs (but where a batch has more completions than rows, because most are of a
// single token). longest as in policy_alloc.
void policy_reserve(PolicyPass *p, const Qwen2 *m, long long samples, long long groups, int longest) {
    const int k = samples < p->rows ? (int)samples : p->rows, prompts = groups < k ? (int)groups : k,
              sequences = k + prompts;
    kv_cache_alloc(&p->kv, m, policy_pages(p->rows, samples, groups));
    batch_reserve(&p->packed, m->ops, p->rows, p->rows + (KV_PAGE - 1) * k, sequences * pages_for(longest), sequences);
    DeviceCopy *copies[2] = {&p->d_head_rows, &p->d_targets};
    for (int i = 0; i < 2; i++)
        device_copy_reserve(copies[i], m->ops, (size_t)(p->rows + k) * sizeof(int)); // the last token is no row
}

void policy_free(PolicyPass *p, const Qwen2 *m) {
    if (!p->out) return;
    scratch_free(&p->scratch, m->ops);
    activations_free(&p->acts, m);
    kv_cache_free(&p->kv, m->ops);
    batch_free(&p->packed, m->ops);
    DeviceCopy *copies[2] = {&p->d_head_rows, &p->d_targets};
    for (int i = 0; i < 2; i++) device_copy_free(copies[i], m->ops);
    ints_free(&p->head_rows);
    ints_free(&p->targets);
    m->ops->release(p->out);
    free(p->values);
    free(p->ranges);
    memset(p, 0, sizeof *p);
}

// How many of the n samples go into the next batch; at least 1. *pages = the cache pages they need. A slot is not cut,
// so that its gradient is one sum over the same rows whatever its neighbours are; one that exceeds a batch, by rows or
// by pages, is alone from its own start.
int policy_fit(const PolicyPass *p, const PolicySample *samples, int n, int *pages) {
    int rows = 0, k = 0, all_pages = 0, whole = 0; // whole: samples up to the end of a slot
    for (*pages = 0; k < n; k++) {
        const PolicySample *s = &samples[k];
        int more = s->completion->n - 1, more_pages = pages_for(s->P + more) - s->P / KV_PAGE;
        if (k == 0 || s->group != samples[k - 1].group) {
            more += s->P;
            more_pages += pages_for(s->P);
        }
        if (k > 0 && (rows + more > p->rows || all_pages + more_pages > p->pages)) break;
        rows += more;
        all_pages += more_pages;
        if (k + 1 < n && samples[k + 1].slot == s->slot) continue;
        whole = k + 1;
        *pages = all_pages;
    }
    if (whole == 0) *pages = all_pages;
    return whole ? whole : k;
}

void policy_pack(PolicyPass *p, const PolicySample *samples, int n) {
    const Completion **same = (const Completion **)xmalloc((size_t)n * sizeof *same);
    int next_page = 0;
    batch_reset(&p->packed);
    p->head_rows.n = p->targets.n = p->n_ranges = 0;
    for (int i = 0; i < n;) {
        int k = 0, row0 = p->packed.ids.n;
        while (i + k < n && samples[i + k].group == samples[i].group) {
            same[k] = samples[i + k].completion;
            k++;
        }
        batch_add_group(&p->packed, samples[i].prompt, samples[i].P, same, k, samples[i].group, &next_page,
                        &p->head_rows, &p->targets);
        if (i == 0 || samples[i].slot != samples[i - 1].slot) {
            if (p->n_ranges == p->cap_ranges) {
                p->cap_ranges = p->cap_ranges ? 2 * p->cap_ranges : 16;
                p->ranges = (RowRange *)xrealloc(p->ranges, (size_t)p->cap_ranges * sizeof(RowRange));
            }
            RowRange fresh = {row0, 0, samples[i].slot};
            p->ranges[p->n_ranges++] = fresh;
        }
        p->ranges[p->n_ranges - 1].T += p->packed.ids.n - row0;
        i += k;
    }
    free((void *)same);
}

// Log-probs (and entropies) of every token of the samples under `params` (NULL = base model). With grads != NULL (then
// the pass was planned with backward) also grads[slot,*] += d loss / d params (of vectors, for the trained layers). How
// samples fall into batches changes no log-prob in any bit (but on a GPU: ops.h), and no part of the gradient that fits
// into one batch. Fails on a log-prob that is not finite.
bool policy_pass(PolicyPass *p, const Qwen2 *m, const float *params, PolicySample *samples, int n,
                 const LossConfig *loss_config, float *grads, const bool *trained, PolicyStats *stats, Error *err) {
    int V = m->config.V, C = m->config.C;
    const Ops *ops = m->ops;
    float *d_logprob = p->out, *lse = p->out + HEAD_ROWS, *d_entropy = p->out + 2 * HEAD_ROWS,
          *d_dlogprob = p->out + 3 * HEAD_ROWS;
    float *logprob = p->values, *entropy = p->values + HEAD_ROWS, *dlogprob = p->values + 2 * HEAD_ROWS;
    for (int done = 0; done < n;) {
        int pages, k = policy_fit(p, samples + done, n - done, &pages);
        if (pages > p->kv.n_pages) {
            kv_cache_free(&p->kv, m->ops);
            kv_cache_alloc(&p->kv, m, pages);
        }
        policy_pack(p, samples + done, k);
        const Gradient gradient = {grads, m->layout ? m->layout->n : (size_t)m->config.L * C, p->ranges, p->n_ranges};
        ops_wait(ops);
        double t0 = now_s(), head_backward_s = 0;
        const Batch *b = batch_finish(&p->packed, ops);
        const int *all_rows =
            (const int *)device_copy(&p->d_head_rows, ops, p->head_rows.v, (size_t)p->head_rows.n * sizeof(int));
        const int *all_targets =
            (const int *)device_copy(&p->d_targets, ops, p->targets.v, (size_t)p->targets.n * sizeof(int));
        qwen2_forward(m, &p->scratch, grads ? &p->acts : NULL, &p->kv, b, params);
        if (grads) ops->zero(p->scratch.dh, (size_t)b->T * C * sizeof(float));

        // the output layer, a chunk of tokens at a time: log-prob, loss and gradient at once
        PolicySample *s = samples + done;
        int t = 0; // token of s
        for (int first = 0; first < p->head_rows.n; first += HEAD_ROWS) {
            int rows = p->head_rows.n - first < HEAD_ROWS ? p->head_rows.n - first : HEAD_ROWS;
            const int *head_rows = all_rows + first, *targets = all_targets + first;
            const size_t bytes = (size_t)rows * sizeof(float);
            qwen2_head_forward(m, &p->scratch, p->scratch.h, head_rows, rows);
            ops->logprob_rows(d_logprob, lse, s->entropy ? d_entropy : NULL, p->scratch.logits, targets,
                              loss_config->temperature, rows, V);
            ops->download(logprob, d_logprob, bytes);
            if (s->entropy) ops->download(entropy, d_entropy, bytes);
            for (int i = 0; i < rows; i++, t++) {
                if (t == s->completion->n) {
                    s++;
                    t = 0;
                }
                if (!isfinite(logprob[i]))
                    return fail(err, EXIT_RUN,
                                "completion %d, token %d (id %d): its log-prob is %g\n"
                                "  -> the vectors have grown too large or the weights are damaged: lower "
                                "learning_rate, resume from an earlier checkpoint",
                                (int)(s - samples), t, p->targets.v[first + i], (double)logprob[i]);
                s->logprob[t] = logprob[i];
                if (s->entropy) s->entropy[t] = entropy[i];
                stats->tokens++;
                if (!grads) continue;
                TokenLoss l = sample_loss(s, t, logprob[i], loss_config);
                dlogprob[i] = s->weight * l.dlogprob;
            }
            if (!grads) continue;
            double t1 = now_s();
            ops->upload(d_dlogprob, dlogprob, bytes);
            ops->dlogits_rows(p->scratch.dlogits, p->scratch.logits, lse, targets, d_dlogprob, loss_config->temperature,
                              rows, V);
            qwen2_head_backward(m, &p->scratch, head_rows, rows, &gradient);
            ops_wait(ops);
            head_backward_s += now_s() - t1;
        }
        ops_wait(ops);
        double t2 = now_s();
        if (grads) qwen2_backward(m, &p->scratch, &p->acts, &p->kv, b, params, &gradient, trained);
        ops_wait(ops);
        stats->forward_s += t2 - t0 - head_backward_s;
        stats->backward_s += now_s() - t2 + head_backward_s;
        stats->rows += b->T;
        done += k;
    }
    return true;
}

#endif
