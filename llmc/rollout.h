/*
Rollout: samples completions with a paged key/value cache and continuous batching. The prompt of a group is computed
once and its pages are shared by the group's samples; a slot whose sequence ended is refilled at once. Which tokens
come out depends on (seed, step, prompt, sample, position) alone, not on slots, batch or order; on a GPU, whose products
round by their shapes, but for a token now and then.

A sequence takes pages as it grows. Where the cache is smaller than the longest answers in all slots would need, it can
run out: then the sequence with the fewest tokens gives its pages back and is sampled again later, to the same tokens.
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
    long long prompt_tokens, new_tokens; // counted over all calls, for tokens/s; those sampled again twice
    long long preemptions;               // sequences that had to be sampled again
} Rollout;

// Gives back all pages; nothing may be running.
void rollout_reset(Rollout *r) {
    r->free_pages.n = 0;
    for (int page = r->kv.n_pages - 1; page >= 0; page--) ints_push(&r->free_pages, page);
}

// The pages that `slots` sequences need at most, of up to max_prompt + max_new tokens each: a sequence's own, one more
// for the copied tail of its prompt, and a prompt that waits for slots.
int rollout_most_pages(int slots, int max_prompt, int max_new) {
    return slots * (pages_for(max_prompt + max_new) + 1) + pages_for(max_prompt) + 1;
}

// Plans memory for `slots` sequences of up to max_prompt + max_new tokens; cache_bytes: of their keys and values, at
// least as much as one sequence needs, 0: as much as all may need. Free with rollout_free.
void rollout_alloc(Rollout *r, const Qwen2 *m, int slots, double cache_bytes, int max_prompt, int max_new) {
    const int most = rollout_most_pages(slots, max_prompt, max_new), least = rollout_most_pages(1, max_prompt, max_new);
    const double pages = cache_bytes > 0 ? cache_bytes / (double)kv_page_bytes(m) : most;
    memset(r, 0, sizeof *r);
    r->slots = slots;
    r->max_prompt = max_prompt;
    r->max_new = max_new;
    r->prefill_rows = max_prompt > 1024 ? max_prompt : 1024;
    scratch_alloc(&r->scratch, m, r->prefill_rows > slots ? r->prefill_rows : slots, slots, false);
    kv_cache_alloc(&r->kv, m, pages > most ? most : pages < least ? least : (int)pages);
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

// Samples of one prompt that share its pages: all G of them, or those that are sampled again.
typedef struct {
    int prompt;
    int *samples; // [n] their numbers
    int *pages;   // of the prompt; the last, partly filled one goes when all samples have their copy
    int n, admitted, running;
} RolloutGroup;

// A sequence being decoded.
typedef struct {
    RolloutGroup *group;
    int sample, n_pages;
    int *pages; // [pages_for(P + max_new)] shared pages of the prompt, then its own, n_pages so far
} RolloutSlot;

// out[n,C] = rows rows[n] of h[.,C]; rows is the host's.
void rollout_gather(Rollout *r, const Qwen2 *m, float *out, const float *h, const int *rows, int n) {
    m->ops->gather_rows(out, h, (const int *)device_copy(&r->d_rows, m->ops, rows, (size_t)n * sizeof(int)), n,
                        m->config.C);
}

int rollout_take_page(Rollout *r) { return r->free_pages.v[--r->free_pages.n]; }

// The next samples to begin: those that were preempted, which wait in `again` as prompt * G + sample, then those of the
// next prompt. NULL if there are none. Free with rollout_group_free.
RolloutGroup *rollout_next_group(IntVec *again, int *next_prompt, int n_prompts, int G) {
    if (*next_prompt == n_prompts && again->n == 0) return NULL;
    RolloutGroup *g = (RolloutGroup *)xcalloc(1, sizeof *g);
    g->samples = (int *)xmalloc((size_t)G * sizeof(int));
    if (again->n == 0) {
        g->prompt = (*next_prompt)++;
        for (; g->n < G; g->n++) g->samples[g->n] = g->n;
        return g;
    }
    g->prompt = again->v[again->n - 1] / G;
    while (again->n > 0 && again->v[again->n - 1] / G == g->prompt) g->samples[g->n++] = again->v[--again->n] % G;
    return g;
}

void rollout_group_free(RolloutGroup *g) {
    free(g->samples);
    free(g->pages);
    free(g);
}

bool is_eos(const ModelConfig *c, int token) {
    for (int i = 0; i < c->eos.n; i++)
        if (c->eos.v[i] == token) return true;
    return false;
}

// Pages that a sequence takes when it begins, and the one that it will want next, if any.
int rollout_first_pages(int P, int max_new) { return 1 + (pages_for(P + max_new) > P / KV_PAGE + 1); }

// Free pages but for one for each of the n sequences that can still grow. Of a cache with room for all, enough for as
// many more as there are slots.
int rollout_spare_pages(const Rollout *r, const RolloutPrompt *prompts, const RolloutSlot *active, int n, int max_new) {
    int spare = r->free_pages.n;
    for (int i = 0; i < n; i++) spare -= active[i].n_pages < pages_for(prompts[active[i].group->prompt].P + max_new);
    return spare;
}

// Runs the prompts of groups[n] together; their last rows of the residual stream end up in `rows` of scratch.h.
void rollout_prefill(Rollout *r, const Qwen2 *m, const float *params, const RolloutPrompt *prompts,
                     RolloutGroup *const *groups, int n, IntVec *rows) {
    batch_reset(&r->packed);
    rows->n = 0;
    for (int i = 0; i < n; i++) {
        RolloutGroup *g = groups[i];
        const RolloutPrompt *p = &prompts[g->prompt];
        g->pages = (int *)xmalloc((size_t)pages_for(p->P) * sizeof(int));
        for (int k = 0; k < pages_for(p->P); k++) g->pages[k] = rollout_take_page(r);
        int row0 = batch_add(&r->packed, p->prompt, p->P, 0, g->pages, 0, i);
        ints_push(rows, row0 + p->P - 1);
        r->prompt_tokens += p->P;
    }
    qwen2_forward(m, &r->scratch, NULL, &r->kv, batch_finish(&r->packed, m->ops), params);
}

// Gives the next sample of a prefilled group a slot and its first own page; the row to draw its first token from is row
// `row` of `from`.
void rollout_admit(Rollout *r, const Qwen2 *m, const RolloutPrompt *p, RolloutGroup *g, RolloutSlot *slot,
                   int slot_index, int max_new, const float *from, int row) {
    int shared = p->P / KV_PAGE, tail = p->P % KV_PAGE;
    slot->group = g;
    slot->sample = g->samples[g->admitted++];
    slot->n_pages = shared + 1;
    slot->pages = (int *)xmalloc((size_t)pages_for(p->P + max_new) * sizeof(int));
    for (int k = 0; k < shared; k++) slot->pages[k] = g->pages[k];
    slot->pages[shared] = rollout_take_page(r);
    if (tail) m->ops->kv_copy_page(&r->kv, slot->pages[shared], g->pages[shared]);
    if (tail && g->admitted == g->n) ints_push(&r->free_pages, g->pages[shared]);
    g->running++;
    rollout_gather(r, m, r->h + (size_t)slot_index * m->config.C, from, &row, 1);
}

// The slot's sequence ends: its pages are free, and its group's where that was the last of it.
void rollout_retire(Rollout *r, const RolloutPrompt *p, RolloutSlot *slot) {
    RolloutGroup *g = slot->group;
    int shared = p->P / KV_PAGE;
    for (int k = shared; k < slot->n_pages; k++) ints_push(&r->free_pages, slot->pages[k]);
    free(slot->pages);
    slot->group = NULL;
    g->running--;
    if (g->running > 0 || g->admitted < g->n) return;
    for (int k = 0; k < shared; k++) ints_push(&r->free_pages, g->pages[k]);
    rollout_group_free(g);
}

// A page for the next row of each of n sequences that needs one. Where none is free, the sequence with the fewest
// tokens gives its own back, and waits in `again`. Returns how many are left in active[n], in their order.
int rollout_grow(Rollout *r, RolloutPrompt *prompts, RolloutSlot *active, int n, int G, IntVec *again) {
    for (int i = 0; i < n; i++) {
        while (active[i].group) {
            const RolloutPrompt *p = &prompts[active[i].group->prompt];
            if (active[i].n_pages == pages_for(p->P + p->completions[active[i].sample].n)) break;
            if (r->free_pages.n > 0) {
                active[i].pages[active[i].n_pages++] = rollout_take_page(r);
                break;
            }
            int victim = i;
            for (int k = 0; k < n; k++) {
                if (!active[k].group) continue;
                const Completion *of[2];
                for (int j = 0; j < 2; j++) {
                    const RolloutSlot *slot = &active[j ? victim : k];
                    of[j] = &prompts[slot->group->prompt].completions[slot->sample];
                }
                if (of[0]->n < of[1]->n) victim = k;
            }
            const int prompt = active[victim].group->prompt, sample = active[victim].sample;
            completion_free(&prompts[prompt].completions[sample]);
            ints_push(again, prompt * G + sample);
            rollout_retire(r, &prompts[prompt], &active[victim]);
            r->preemptions++;
        }
    }
    int left = 0;
    for (int i = 0; i < n; i++)
        if (active[i].group) active[left++] = active[i];
    return left;
}

// Says once that the cache is so small that much is sampled twice.
void rollout_warn(const Rollout *r, long long preempted, int completions) {
    static bool said;
    if (said || preempted * 10 < completions) return;
    said = true;
    warn("%lld sequences were sampled again, for %d completions: %d pages of the cache are few for %d sequences at "
         "once\n"
         "  -> a larger --cache_memory, or a smaller --rollout_batch_size",
         preempted, completions, r->kv.n_pages, r->slots);
}

// Answers every prompt G times under the model with `params` (NULL = base). Completions are allocated here.
// on_progress(done, total, context) is called after each decode step if not NULL; it returns false to stop early.
// False with err on non-finite logits or an early stop; then no completion is left allocated.
bool rollout(Rollout *r, const Qwen2 *m, const float *params, RolloutPrompt *prompts, int n_prompts, int G,
             const Sampling *sampler, bool (*on_progress)(int, int, void *), void *context, Error *err) {
    int V = m->config.V, n_active = 0, next_prompt = 0, done = 0;
    const long long before = r->preemptions;
    RolloutGroup **fresh = (RolloutGroup **)xcalloc((size_t)r->slots + 1, sizeof *fresh), *next = NULL,
                 *filling = NULL; // prefilled, and not all of its samples have a slot
    RolloutSlot *active = (RolloutSlot *)xcalloc((size_t)r->slots, sizeof *active);
    int *token = (int *)xmalloc((size_t)r->slots * sizeof(int));
    float *logprob = (float *)xmalloc((size_t)r->slots * sizeof(float)),
          *u = (float *)xmalloc((size_t)r->slots * sizeof(float));
    IntVec rows = {0}, again = {0};
    bool ok = true;
    for (int i = 0; i < n_prompts; i++) memset(prompts[i].completions, 0, (size_t)G * sizeof(Completion));

    while (ok && done < n_prompts * G) {
        // 1. admit: first the samples that wait for a slot, then as many new prompts as fill the free slots
        int spare = rollout_spare_pages(r, prompts, active, n_active, sampler->max_new);
        while (filling && n_active < r->slots) {
            RolloutGroup *g = filling;
            spare -= rollout_first_pages(prompts[g->prompt].P, sampler->max_new);
            if (spare < 0 && n_active > 0) break;
            if (g->admitted + 1 == g->n) filling = NULL;
            rollout_admit(r, m, &prompts[g->prompt], g, &active[n_active], n_active, sampler->max_new, r->h_waiting, 0);
            n_active++;
        }
        while (!filling && n_active < r->slots) {
            int n_fresh = 0, room = r->slots - n_active, row_count = 0;
            while (room > 0 && (next || (next = rollout_next_group(&again, &next_prompt, n_prompts, G)) != NULL)) {
                const int P = prompts[next->prompt].P, samples = next->n < room ? next->n : room;
                if (n_fresh > 0 && row_count + P > r->prefill_rows) break;
                const int pages = pages_for(P) + samples * rollout_first_pages(P, sampler->max_new);
                if (pages > spare && n_active + n_fresh > 0) break;
                spare -= pages;
                row_count += P;
                room -= next->n;
                fresh[n_fresh++] = next;
                next = NULL;
            }
            if (n_fresh == 0) break;
            rollout_prefill(r, m, params, prompts, fresh, n_fresh, &rows);
            for (int i = 0; i < n_fresh; i++) {
                RolloutGroup *g = fresh[i];
                int row = rows.v[i];
                while (n_active < r->slots && g->admitted < g->n && r->free_pages.n > 0) {
                    rollout_admit(r, m, &prompts[g->prompt], g, &active[n_active], n_active, sampler->max_new,
                                  r->scratch.h, row);
                    n_active++;
                }
                if (g->admitted == g->n) continue;
                filling = g; // only the last can be left half admitted
                rollout_gather(r, m, r->h_waiting, r->scratch.h, &row, 1);
            }
        }

        // 2. draw a token for every active sequence
        for (int i = 0; i < n_active; i++) {
            const RolloutPrompt *p = &prompts[active[i].group->prompt];
            u[i] = rng_uniform(sampler->seed, RNG_TOKEN, sampler->step, p->key, (uint32_t)active[i].sample,
                               (uint32_t)p->completions[active[i].sample].n);
        }
        qwen2_head_forward(m, &r->scratch, r->h, NULL, n_active);
        m->ops->upload(r->u, u, (size_t)n_active * sizeof(float));
        m->ops->sample_rows(r->drawn, r->drawn_logprob, r->scratch.logits, r->u, sampler->temperature, sampler->top_k,
                            sampler->top_p, n_active, V);
        m->ops->download(token, r->drawn, (size_t)n_active * sizeof(int));
        m->ops->download(logprob, r->drawn_logprob, (size_t)n_active * sizeof(float));

        // 3. keep it; sequences that ended leave, the others move up and take the page that their next row needs
        int running = 0;
        for (int i = 0; i < n_active; i++) {
            RolloutSlot *slot = &active[i];
            RolloutPrompt *p = &prompts[slot->group->prompt];
            Completion *c = &p->completions[slot->sample];
            if (token[i] < 0 || !isfinite(logprob[i])) {
                ok = fail(err, EXIT_RUN,
                          "sampling prompt %d, sample %d, token %d: the logits are not finite\n"
                          "  -> the vectors have grown too large or the weights are damaged: lower learning_rate, "
                          "resume from an earlier checkpoint",
                          slot->group->prompt, slot->sample, c->n);
                token[i] = 0;
            }
            if (c->n == 0) {
                c->ids = (int *)xmalloc((size_t)sampler->max_new * sizeof(int));
                c->logprob = (float *)xmalloc((size_t)sampler->max_new * sizeof(float));
            }
            c->ids[c->n] = token[i];
            c->logprob[c->n++] = logprob[i];
            r->new_tokens++;
            c->finished = !sampler->ignore_eos && is_eos(&m->config, token[i]);
            if (c->finished || c->n == sampler->max_new) {
                rollout_retire(r, p, slot);
                done++;
                continue;
            }
            active[running++] = *slot;
        }
        n_active = rollout_grow(r, prompts, active, running, G, &again);

        // 4. run the drawn tokens
        if (ok && n_active > 0) {
            batch_reset(&r->packed);
            for (int i = 0; i < n_active; i++) {
                const RolloutPrompt *p = &prompts[active[i].group->prompt];
                const Completion *c = &p->completions[active[i].sample];
                batch_add(&r->packed, &c->ids[c->n - 1], 1, p->P + c->n - 1, active[i].pages, 0, i);
            }
            qwen2_forward(m, &r->scratch, NULL, &r->kv, batch_finish(&r->packed, m->ops), params);
            rows.n = 0;
            for (int i = 0; i < n_active; i++) ints_push(&rows, i);
            rollout_gather(r, m, r->h, r->scratch.h, rows.v, n_active);
        }
        if (ok && on_progress && !on_progress(done, n_prompts * G, context))
            ok = fail(err, EXIT_RUN, "stopped while sampling (%d of %d completions done)", done, n_prompts * G);
    }

    if (!ok) { // give back what is still held
        for (int i = 0; i < n_active; i++) rollout_retire(r, &prompts[active[i].group->prompt], &active[i]);
        rollout_reset(r);
        if (filling) rollout_group_free(filling);
        if (next) rollout_group_free(next);
        for (int i = 0; i < n_prompts; i++)
            for (int g = 0; g < G; g++) completion_free(&prompts[i].completions[g]);
    }
    rollout_warn(r, r->preemptions - before, n_prompts * G);
    free(fresh);
    free(active);
    free(token);
    free(logprob);
    free(u);
    ints_free(&rows);
    ints_free(&again);
    return ok;
}

#endif
