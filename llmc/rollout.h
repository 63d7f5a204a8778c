/*
Rollout: samples completions with a paged key/value cache and continuous batching. The prompt of a group is computed
once and its pages are shared by the group's samples; a slot whose sequence ended is refilled at once. Which tokens
come out depends on (seed, step, prompt, sample, position) alone, not on slots, batch or order.
*/
#ifndef LLMC_ROLLOUT_H
#define LLMC_ROLLOUT_H

#include "llmc/batch.h"         // BatchBuilder, Completion
#include "llmc/memory/passes.h" // scratch_alloc, kv_cache_alloc
#include "llmc/utils/rng.h"     // rng_uniform

typedef struct {
    float temperature, top_p; // 0 = greedy; 1 = off
    int top_k;                // 0 = off
    int max_new;              // tokens per completion, end-of-text included
    bool ignore_eos;          // benches: always max_new tokens
    uint32_t seed, step;      // what the random numbers are for
} Sampling;

// One prompt to answer G times. `key` is what its random numbers are keyed by (its place in the stream of problems).
typedef struct {
    const int *prompt;
    int P;
    uint32_t key;
    Completion *completions; // [G], filled by rollout; free each with completion_free
} RolloutPrompt;

typedef struct {
    Scratch scratch;
    KVCache kv;
    BatchBuilder packed;
    float *h, *h_waiting; // [slots,C] rows to draw the next token from; [C] last prompt row of a group half admitted
    float *drawn_logprob, *u; // [slots] of the tokens being drawn: their log-probs, the random numbers
    int *drawn;               // [slots] the tokens
    DeviceCopy d_rows;        // scratch: rows to gather
    int slots, prefill_rows, max_prompt, max_new;
    IntVec free_pages;
    long long prompt_tokens, new_tokens; // counted over all calls, for tokens/s
} Rollout;

// Gives back all pages; nothing may be running.
void rollout_reset(Rollout *r) {
    r->free_pages.n = 0;
    for (int page = r->kv.n_pages - 1; page >= 0; page--) ints_push(&r->free_pages, page);
}

// Plans memory for `slots` sequences of up to max_prompt + max_new tokens. Free with rollout_free.
void rollout_alloc(Rollout *r, const Qwen2 *m, int slots, int max_prompt, int max_new) {
    memset(r, 0, sizeof *r);
    r->slots = slots;
    r->max_prompt = max_prompt;
    r->max_new = max_new;
    r->prefill_rows = max_prompt > 1024 ? max_prompt : 1024;
    scratch_alloc(&r->scratch, m, r->prefill_rows > slots ? r->prefill_rows : slots, slots, false);
    // a sequence's own pages, one more for the copied tail of its prompt, and a prompt that waits for slots
    kv_cache_alloc(&r->kv, m, slots * (pages_for(max_prompt + max_new) + 1) + pages_for(max_prompt) + 1);
    batch_reserve(&r->packed, m->ops, r->scratch.T, r->scratch.T, slots * pages_for(max_prompt + max_new), slots);
    device_copy_reserve(&r->d_rows, m->ops, (size_t)slots * sizeof(int));
    r->h = (float *)m->ops->alloc((size_t)slots * m->config.C * sizeof(float));
    r->h_waiting = (float *)m->ops->alloc((size_t)m->config.C * sizeof(float));
    r->drawn_logprob = (float *)m->ops->alloc((size_t)slots * sizeof(float));
    r->u = (float *)m->ops->alloc((size_t)slots * sizeof(float));
    r->drawn = (int *)m->ops->alloc((size_t)slots * sizeof(int));
    rollout_reset(r);
}

void rollout_free(Rollout *r, const Qwen2 *m) {
    if (!r->h) return;
    scratch_free(&r->scratch, m->ops);
    kv_cache_free(&r->kv, m->ops);
    batch_free(&r->packed, m->ops);
    device_copy_free(&r->d_rows, m->ops);
    void *all[] = {r->h, r->h_waiting, r->drawn_logprob, r->u, r->drawn};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) m->ops->release(all[i]);
    ints_free(&r->free_pages);
    memset(r, 0, sizeof *r);
}

// A prompt whose samples are being admitted or still run.
typedef struct {
    int *pages; // pages of the prompt; the last, partly filled one goes when all samples have their copy
    int admitted, running;
} RolloutGroup;

// A sequence being decoded.
typedef struct {
    int prompt, sample, n_pages;
    int *pages; // shared pages of the prompt, then its own
} RolloutSlot;

// out[n,C] = rows rows[n] of h[.,C]; rows is the host's.
void rollout_gather(Rollout *r, const Qwen2 *m, float *out, const float *h, const int *rows, int n) {
    m->ops->gather_rows(out, h, (const int *)device_copy(&r->d_rows, m->ops, rows, (size_t)n * sizeof(int)), n,
                        m->config.C);
}

int rollout_take_page(Rollout *r) { return r->free_pages.v[--r->free_pages.n]; }

bool is_eos(const ModelConfig *c, int token) {
    for (int i = 0; i < c->eos.n; i++)
        if (c->eos.v[i] == token) return true;
    return false;
}

// Runs the prompts first ... last-1 together; their last rows of the residual stream end up in `rows` of scratch.h.
void rollout_prefill(Rollout *r, const Qwen2 *m, const float *params, const RolloutPrompt *prompts,
                     RolloutGroup *groups, int first, int last, IntVec *rows) {
    batch_reset(&r->packed);
    rows->n = 0;
    for (int i = first; i < last; i++) {
        int n = pages_for(prompts[i].P);
        groups[i].pages = (int *)xmalloc((size_t)n * sizeof(int));
        for (int k = 0; k < n; k++) groups[i].pages[k] = rollout_take_page(r);
        int row0 = batch_add(&r->packed, prompts[i].prompt, prompts[i].P, 0, groups[i].pages, 0, i);
        ints_push(rows, row0 + prompts[i].P - 1);
        r->prompt_tokens += prompts[i].P;
    }
    qwen2_forward(m, &r->scratch, NULL, &r->kv, batch_finish(&r->packed, m->ops), params);
}

// Gives sample groups[prompt].admitted of a prefilled prompt a slot; the row to draw its first token from is row
// `row` of `from`.
void rollout_admit(Rollout *r, const Qwen2 *m, const RolloutPrompt *p, RolloutGroup *g, RolloutSlot *slot,
                   int slot_index, int prompt, int G, int max_new, const float *from, int row) {
    int shared = p->P / KV_PAGE, tail = p->P % KV_PAGE;
    slot->prompt = prompt;
    slot->sample = g->admitted++;
    slot->n_pages = pages_for(p->P + max_new);
    slot->pages = (int *)xmalloc((size_t)slot->n_pages * sizeof(int));
    for (int k = 0; k < slot->n_pages; k++) slot->pages[k] = k < shared ? g->pages[k] : rollout_take_page(r);
    if (tail) m->ops->kv_copy_page(&r->kv, slot->pages[shared], g->pages[shared]);
    if (tail && g->admitted == G) ints_push(&r->free_pages, g->pages[shared]);
    g->running++;
    rollout_gather(r, m, r->h + (size_t)slot_index * m->config.C, from, &row, 1);
}

void rollout_retire(Rollout *r, const RolloutPrompt *p, RolloutGroup *g, RolloutSlot *slot, int G) {
    int shared = p->P / KV_PAGE;
    for (int k = shared; k < slot->n_pages; k++) ints_push(&r->free_pages, slot->pages[k]);
    free(slot->pages);
    g->running--;
    if (g->running > 0 || g->admitted < G) return;
    for (int k = 0; k < shared; k++) ints_push(&r->free_pages, g->pages[k]);
    free(g->pages);
}

// Answers every prompt G times under the model with `params` (NULL = base). Completions are allocated here.
// on_progress(done, total, context) is called after each decode step if not NULL; it returns false to stop early.
// False with err on non-finite logits or an early stop; then no completion is left allocated.
bool rollout(Rollout *r, const Qwen2 *m, const float *params, RolloutPrompt *prompts, int n_prompts, int G,
             const Sampling *how, bool (*on_progress)(int, int, void *), void *context, Error *err) {
    int V = m->config.V, n_active = 0, next_prompt = 0, filling = -1, done = 0;
    RolloutGroup *groups = (RolloutGroup *)xcalloc((size_t)n_prompts, sizeof *groups);
    RolloutSlot *active = (RolloutSlot *)xcalloc((size_t)r->slots, sizeof *active);
    int *token = (int *)xmalloc((size_t)r->slots * sizeof(int));
    float *logprob = (float *)xmalloc((size_t)r->slots * sizeof(float)),
          *u = (float *)xmalloc((size_t)r->slots * sizeof(float));
    IntVec rows = {0};
    bool ok = true;
    for (int i = 0; i < n_prompts; i++) memset(prompts[i].completions, 0, (size_t)G * sizeof(Completion));

    while (ok && done < n_prompts * G) {
        // 1. admit: first the samples that wait for a slot, then as many new prompts as fill the free slots
        while (filling >= 0 && n_active < r->slots) {
            rollout_admit(r, m, &prompts[filling], &groups[filling], &active[n_active], n_active, filling, G,
                          how->max_new, r->h_waiting, 0);
            n_active++;
            if (groups[filling].admitted == G) filling = -1;
        }
        while (n_active < r->slots && next_prompt < n_prompts) {
            int first = next_prompt, room = r->slots - n_active, row_count = 0;
            while (next_prompt < n_prompts && room > 0 &&
                   (row_count == 0 || row_count + prompts[next_prompt].P <= r->prefill_rows)) {
                row_count += prompts[next_prompt++].P;
                room -= G;
            }
            rollout_prefill(r, m, params, prompts, groups, first, next_prompt, &rows);
            for (int i = first; i < next_prompt; i++) {
                int row = rows.v[i - first];
                while (n_active < r->slots && groups[i].admitted < G) {
                    rollout_admit(r, m, &prompts[i], &groups[i], &active[n_active], n_active, i, G, how->max_new,
                                  r->scratch.h, row);
                    n_active++;
                }
                if (groups[i].admitted == G) continue;
                filling = i; // only the last can be left half admitted
                rollout_gather(r, m, r->h_waiting, r->scratch.h, &row, 1);
            }
        }

        // 2. draw a token for every active sequence
        for (int i = 0; i < n_active; i++) {
            const RolloutPrompt *p = &prompts[active[i].prompt];
            u[i] = rng_uniform(how->seed, RNG_TOKEN, how->step, p->key, (uint32_t)active[i].sample,
                               (uint32_t)p->completions[active[i].sample].n);
        }
        qwen2_head_forward(m, &r->scratch, r->h, NULL, n_active);
        m->ops->upload(r->u, u, (size_t)n_active * sizeof(float));
        m->ops->sample_rows(r->drawn, r->drawn_logprob, r->scratch.logits, r->u, how->temperature, how->top_k,
                            how->top_p, n_active, V);
        m->ops->download(token, r->drawn, (size_t)n_active * sizeof(int));
        m->ops->download(logprob, r->drawn_logprob, (size_t)n_active * sizeof(float));

        // 3. keep it; sequences that ended leave, the others move up
        int running = 0;
        batch_reset(&r->packed);
        for (int i = 0; i < n_active; i++) {
            RolloutSlot *slot = &active[i];
            RolloutPrompt *p = &prompts[slot->prompt];
            Completion *c = &p->completions[slot->sample];
            if (token[i] < 0 || !isfinite(logprob[i])) {
                ok = fail(err, EXIT_RUN,
                          "sampling prompt %d, sample %d, token %d: the logits are not finite\n"
                          "  -> the vectors have grown too large or the weights are damaged: lower learning_rate, "
                          "resume from an earlier checkpoint",
                          slot->prompt, slot->sample, c->n);
                token[i] = 0;
            }
            if (c->n == 0) {
                c->ids = (int *)xmalloc((size_t)how->max_new * sizeof(int));
                c->logprob = (float *)xmalloc((size_t)how->max_new * sizeof(float));
            }
            c->ids[c->n] = token[i];
            c->logprob[c->n++] = logprob[i];
            r->new_tokens++;
            c->finished = !how->ignore_eos && is_eos(&m->config, token[i]);
            if (c->finished || c->n == how->max_new) {
                rollout_retire(r, p, &groups[slot->prompt], slot, G);
                done++;
                continue;
            }
            batch_add(&r->packed, &token[i], 1, p->P + c->n - 1, slot->pages, 0, running);
            active[running++] = *slot;
        }
        n_active = running;

        // 4. run the drawn tokens
        if (ok && n_active > 0) {
            qwen2_forward(m, &r->scratch, NULL, &r->kv, batch_finish(&r->packed, m->ops), params);
            rows.n = 0;
            for (int i = 0; i < n_active; i++) ints_push(&rows, i);
            rollout_gather(r, m, r->h, r->scratch.h, rows.v, n_active);
        }
        if (ok && on_progress && !on_progress(done, n_prompts * G, context))
            ok = fail(err, EXIT_RUN, "stopped while sampling (%d of %d completions done)", done, n_prompts * G);
    }

    if (!ok) { // give back what is still held
        for (int i = 0; i < n_active; i++)
            rollout_retire(r, &prompts[active[i].prompt], &groups[active[i].prompt], &active[i], G);
        rollout_reset(r);
        if (filling >= 0) free(groups[filling].pages);
        for (int i = 0; i < n_prompts; i++)
            for (int g = 0; g < G; g++) completion_free(&prompts[i].completions[g]);
    }
    free(groups);
    free(active);
    free(token);
    free(logprob);
    free(u);
    ints_free(&rows);
    return ok;
}

#endif
