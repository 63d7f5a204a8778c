/*
Teacher forcing: completions are sampled once, then the model is run over them under one condition or another (vectors
and an intervention), and its residual streams and whole distributions are compared on the host.
*/
#ifndef LLMC_EXPERIMENTS_TEACHER_H
#define LLMC_EXPERIMENTS_TEACHER_H

#include "llmc/eval/eval.h" // Benchmarks, Session

// What the model is run under; each may be NULL.
typedef struct {
    const float *steering; // [L,C], or as `layout` says, in the backend's memory
    const Intervention *intervention;
    const ParamLayout *layout; // NULL: Qwen2.layout as it is
} Condition;

// The model under that condition.
Qwen2 model_under(const Qwen2 *m, Condition under) {
    Qwen2 changed = *m;
    changed.intervention = under.intervention;
    if (under.layout) changed.layout = under.layout;
    return changed;
}

// ----------------------------------------------------------------------------
// sampling

// Completions of the first benchmark's problems, one each.
typedef struct {
    const Benchmark *of;
    Completion *completions;  // [of->problems.n]
    int n, finished, longest; // longest: tokens of a prompt and its completion
} Sampled;

void sampled_free(Sampled *a) {
    for (int i = 0; i < a->n; i++) completion_free(&a->completions[i]);
    free(a->completions);
    memset(a, 0, sizeof *a);
}

// One completion of every problem under a condition, with the options' temperature and the seed. Free with
// sampled_free.
bool sample_under(Sampled *a, Session *s, const Benchmark *b, Condition under, Error *err) {
    const int n = b->problems.n;
    memset(a, 0, sizeof *a);
    a->of = b;
    a->n = n;
    a->completions = (Completion *)xcalloc((size_t)n, sizeof(Completion));
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)n, sizeof(RolloutPrompt));
    int longest = 1;
    for (int i = 0; i < n; i++) {
        asked[i].prompt = b->prompts[i].v;
        asked[i].P = b->prompts[i].n;
        asked[i].key = (uint32_t)i;
        asked[i].completions = &a->completions[i];
        if (asked[i].P > longest) longest = asked[i].P;
    }
    Sampling sampling = session_sampling(&s->options);
    sampling.max_new = b->max_new;
    Rollout r;
    Progress progress;
    const Qwen2 m = model_under(&s->model, under);
    rollout_alloc(&r, &m, s->options.rollout_batch_size, 0, longest, b->max_new);
    progress_begin(&progress, "sample", 0, n);
    bool ok = rollout(&r, &m, under.steering, asked, n, 1, &sampling, evaluation_progress, &progress, err);
    progress_clear(&progress);
    rollout_free(&r, &m);
    for (int i = 0; i < n && ok; i++) {
        a->finished += a->completions[i].finished;
        int tokens = asked[i].P + a->completions[i].n;
        if (tokens > a->longest) a->longest = tokens;
    }
    free(asked);
    return ok;
}

// ----------------------------------------------------------------------------
// one forward pass

#define TEACHER_ROWS 64 // rows of logits at a time

typedef struct {
    Scratch scratch;
    Activations acts; // of all layers, where asked for
    KVCache kv;
    BatchBuilder packed;
    IntVec head_rows, targets;
    DeviceCopy d_rows; // head_rows for the backend
    int longest;
} Teacher;

// For prompts with completions of up to `longest` tokens together; `patched` as in Qwen2.intervention where one of the
// conditions patches a layer (else NULL). keep: residual streams are wanted. Free with teacher_free.
void teacher_alloc(Teacher *t, Qwen2 *m, int longest, const Intervention *patched, bool keep) {
    memset(t, 0, sizeof *t);
    t->longest = longest;
    m->intervention = patched;
    scratch_alloc(&t->scratch, m, longest, TEACHER_ROWS, false);
    kv_cache_alloc(&t->kv, m, 2 * pages_for(longest) + 1);
    if (keep) activations_alloc(&t->acts, m, longest, 0);
    m->intervention = NULL;
}

void teacher_free(Teacher *t, const Qwen2 *m) {
    scratch_free(&t->scratch, m->ops);
    activations_free(&t->acts, m);
    kv_cache_free(&t->kv, m->ops);
    batch_free(&t->packed, m->ops);
    device_copy_free(&t->d_rows, m->ops);
    ints_free(&t->head_rows);
    ints_free(&t->targets);
}

// head_rows where the backend can read them.
const int *teacher_head_rows(Teacher *t, const Qwen2 *m) {
    return (const int *)device_copy(&t->d_rows, m->ops, t->head_rows.v, (size_t)t->head_rows.n * sizeof(int));
}

// Runs prompt and completion (NULL: the prompt alone): rows 0 ... of scratch.h are their residual stream after the last
// layer, acts what lies below. head_rows: the rows that predict the completion's tokens. The rows that ran are
// returned: the last token is not run.
int teacher_run(Teacher *t, const Qwen2 *m, const IntVec *prompt, const Completion *c, Condition under) {
    int next_page = 0;
    batch_reset(&t->packed);
    t->head_rows.n = t->targets.n = 0;
    batch_add_group(&t->packed, prompt->v, prompt->n, &c, c ? 1 : 0, 0, &next_page, &t->head_rows, &t->targets);
    const Batch *b = batch_finish(&t->packed, m->ops);
    const Qwen2 changed = model_under(m, under);
    qwen2_forward(&changed, &t->scratch, t->acts.layers ? &t->acts : NULL, &t->kv, b, under.steering);
    return b->T;
}

// x[T,C] (on the host) = the residual stream after layer k, vector included, of the last run.
void teacher_residual(float *x, const Teacher *t, const Qwen2 *m, int k, int T) {
    const float *from = k + 1 < m->config.L ? t->acts.layers[k + 1].h_in : t->scratch.h;
    m->ops->download(x, from, (size_t)T * m->config.C * sizeof(float));
}

// ----------------------------------------------------------------------------
// distributions

// p[V] = softmax(logits), in double. Returns the entropy in nats.
double distribution(double *p, const float *logits, int V) {
    double max = -INFINITY, sum = 0, entropy = 0;
    for (int v = 0; v < V; v++)
        if (logits[v] > max) max = logits[v];
    for (int v = 0; v < V; v++) sum += p[v] = exp(logits[v] - max);
    for (int v = 0; v < V; v++) {
        p[v] /= sum;
        if (p[v] > 0) entropy -= p[v] * log(p[v]);
    }
    return entropy;
}

double distribution_kl(const double *p, const double *q, int V) {
    double sum = 0;
    for (int v = 0; v < V; v++)
        if (p[v] > 0) sum += p[v] * log(p[v] / q[v]);
    return sum;
}

#endif
