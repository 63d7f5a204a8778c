/*
What the ranks of a training run tell each other in a step (llmc/dist/ranks.h moves the bytes): the groups that each has
sampled, the log-probs and the gradient that each has computed for its share of them, and how long it took. Alone, a
process has all the groups, and nothing is sent.
*/
#ifndef LLMC_DIST_SYNC_H
#define LLMC_DIST_SYNC_H

#include "llmc/trainer.h" // Trainer, Group; PolicySample, GradientReduction, dist

// ----------------------------------------------------------------------------
// after the rollout

// The groups from `first` on, which each rank has a share of, become known to all: tokens, log-probs, rewards.
void share_groups(Trainer *t, int first) {
    const int G = t->G;
    Str mine = {0}, all = {0};
    size_t *at = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t)); // how far the ranks' bytes are read
    for (int i = first; i < t->n_groups && dist.size > 1; i++) {
        const Group *g = &t->groups[i];
        if (g->sampled_by != dist.rank) continue;
        for (int k = 0; k < G; k++) {
            const Completion *c = &g->completions[k];
            int head[2] = {c->n, c->finished};
            str_add(&mine, (const char *)head, sizeof head);
            str_add(&mine, (const char *)c->ids, (size_t)c->n * sizeof(int));
            str_add(&mine, (const char *)c->logprob, (size_t)c->n * sizeof(float));
        }
        str_add(&mine, (const char *)g->reward, (size_t)G * sizeof(float));
    }
    dist_gather(&all, at, mine.s, mine.n);
    for (int i = first; i < t->n_groups; i++) {
        Group *g = &t->groups[i];
        if (g->sampled_by == dist.rank) continue;
        const char *from = all.s + at[g->sampled_by];
        for (int k = 0; k < G; k++) {
            Completion *c = &g->completions[k];
            int head[2];
            memcpy(head, from, sizeof head);
            const size_t bytes = (size_t)head[0] * sizeof(int);
            c->n = head[0];
            c->finished = head[1] != 0;
            c->ids = (int *)xmalloc(bytes);
            c->logprob = (float *)xmalloc(bytes);
            memcpy(c->ids, from + sizeof head, bytes);
            memcpy(c->logprob, from + sizeof head + bytes, bytes);
            from += sizeof head + 2 * bytes;
        }
        memcpy(g->reward, from, (size_t)G * sizeof(float));
        at[g->sampled_by] = (size_t)(from - all.s) + (size_t)G * sizeof(float);
    }
    str_free(&mine);
    str_free(&all);
    free(at);
}

// ----------------------------------------------------------------------------
// forward and backward: whose, and what came out

// Which rank runs the passes of which group: neighbours together, shares of equal numbers of rows.
void assign_groups(Trainer *t, const PolicySample *samples, int n) {
    double total = 0, done = 0;
    reduction_begin(&t->reduction, t->n_groups);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0, k; i < n; i = k) {
            double rows = samples[i].P;
            for (k = i; k < n && samples[k].slot == samples[i].slot; k++) rows += samples[k].completion->n;
            if (pass == 0) {
                total += rows;
                continue;
            }
            int middle = (int)(dist.size * (done + rows / 2) / total);
            t->reduction.owner[samples[i].slot] = middle < dist.size ? middle : dist.size - 1;
            done += rows;
        }
    }
    reduction_zero(&t->reduction, dist.rank);
}

// Shares out the groups of the n samples among the ranks and returns the samples that this rank runs; their part is its
// place in reduction.slots. Free with free().
PolicySample *my_samples(Trainer *t, const PolicySample *samples, int n, int *n_mine) {
    assign_groups(t, samples, n);
    PolicySample *mine = (PolicySample *)xmalloc((size_t)n * sizeof(PolicySample));
    *n_mine = 0;
    for (int i = 0; i < n; i++) {
        if (t->reduction.owner[samples[i].slot] != dist.rank) continue;
        mine[*n_mine] = samples[i];
        mine[(*n_mine)++].slot = t->reduction.slot[samples[i].slot];
    }
    return mine;
}

// Log-probs and entropies (and the reference's log-probs) of every sample, from the rank that ran it to all; *rows =
// run by all.
void share_logprobs(const Trainer *t, PolicySample *samples, int n, long long *rows) {
    const size_t arrays = t->options.beta > 0 ? 3 : 2;
    Str mine = {0}, all = {0};
    size_t *at = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    str_add(&mine, (const char *)rows, sizeof *rows);
    for (int i = 0; i < n; i++)
        if (t->reduction.owner[samples[i].slot] == dist.rank)
            str_add(&mine, (const char *)samples[i].logprob, arrays * (size_t)samples[i].completion->n * sizeof(float));
    dist_gather(&all, at, mine.s, mine.n);
    *rows = 0;
    for (int r = 0; r < dist.size; r++) {
        long long theirs;
        memcpy(&theirs, all.s + at[r], sizeof theirs);
        *rows += theirs;
        at[r] += sizeof theirs;
    }
    for (int i = 0; i < n; i++) {
        size_t *from = &at[t->reduction.owner[samples[i].slot]],
               bytes = arrays * (size_t)samples[i].completion->n * sizeof(float);
        memcpy(samples[i].logprob, all.s + *from, bytes);
        *from += bytes;
    }
    str_free(&mine);
    str_free(&all);
    free(at);
}

// Before a pass: the gradient of this rank's groups is zero.
void zero_gradient(Trainer *t) { reduction_zero(&t->reduction, dist.rank); }

// After the passes: trainable.grads = the gradient of the whole step, summed over the groups of all ranks in one order
// (of all weights, this rank's shard of it).
void reduce_gradient(Trainer *t) {
    Trainable *x = &t->trainable;
    reduction_sum(&t->reduction, x->model_grads);
    shard_reduce(&x->shard, x->grads);
    trainable_gradient(x);
}

// ----------------------------------------------------------------------------
// how long it took

// At the start of a step.
void step_times_begin(Trainer *t) {
    memset(&t->times, 0, sizeof t->times);
    dist.seconds = 0;
    t->times.start = now_s();
}

// The seconds of each part of this step become those of the rank that took longest for it: a rank may have no problem
// to sample, or no rows to run, and what it tells of its own time would say nothing of the step's.
void share_times(Trainer *t) {
    StepTimes *longest = &t->times, theirs;
    Str all = {0};
    size_t *at = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    dist_gather(&all, at, longest, sizeof *longest);
    for (int r = 0; r < dist.size; r++) {
        memcpy(&theirs, all.s + at[r], sizeof theirs);
        longest->rollout = fmax(longest->rollout, theirs.rollout);
        longest->reward = fmax(longest->reward, theirs.reward);
        longest->forward = fmax(longest->forward, theirs.forward);
        longest->backward = fmax(longest->backward, theirs.backward);
        longest->update = fmax(longest->update, theirs.update);
    }
    str_free(&all);
    free(at);
}

#endif
