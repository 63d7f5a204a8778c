/*
steer.c in one file. It reads a small language model whose weights never change, adds one vector to the residual stream
after each of its layers, and trains these vectors by reinforcement learning (GRPO). Before, the model solves a third of
the arithmetic problems it is given; afterwards nearly all of them. Plain C11, one core, nothing but the C library:

    mkdir -p build && cc -O3 -o build/steer_in_one_file dev/doc/steer_in_one_file.c -lm
    build/steer_in_one_file                            # from the top of the repository: it reads data/tiny
    build/steer_in_one_file train STEPS PROBLEMS SEED  # a shorter run; the one above is: train 40 500 0
    build/steer_in_one_file difference                 # compares the gradient with finite differences

train_steer.cu and llmc/ do the same for large models, on CPUs and GPUs, and fast. This file is read top to bottom:

     1  Sizes                     every dimension of the model is a constant
     2  Files                     the weights and the problems
     3  Tokens                    one byte is one token
     4  The model                 frozen weights; and the vectors, the only thing that is trained
     5  Operations                matrix product, RMSNorm, RoPE, attention, SwiGLU, each forward and backward
     6  Forward                   from tokens to log-probs; the same code samples (with a KV cache) and trains
     7  Sampling                  a group: eight answers to one problem
     8  Reward and advantage      which answers are better than the others
     9  Loss and backward         from the log-probs back to a gradient for each vector
    10  AdamW                     the update
    11  Training and evaluation   the loop around all this
    12  Finite differences        a check of the gradient, and `main`

The whole idea in formulas, for layer l, answer i of the G answers to a problem, and token t of an answer:

    h = h + attention(rmsnorm(h))
    h = h + mlp(rmsnorm(h)) + s[l]                        the vector s[l] is the same for every token
    A_i = reward_i - mean of the other answers' rewards   the advantage; the reward is +1 or -1
    r_it = exp(logprob_it - old_logprob_it)               the ratio; the old log-prob is the one at sampling
    loss = -1/N sum over i, t of  A_i r_it                N is the number of tokens in all answers of the step
    ds[l] = sum over all rows of  dloss/dh after layer l  the whole gradient of a vector: a sum of rows

Conventions: arguments come in the order outputs, inputs, sizes. dx is the derivative of the loss with respect to x. A
"row" is one token at one position, and [T, C] means T rows of C numbers each.
*/
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// ----------------------------------------------------------------------------
// 1 Sizes. They are constants so that every array can be declared as what it is.

enum {
    L = 4,  // layers
    C = 96, // channels: the width of the residual stream
    NH = 6,
    NKV = 2,                         // attention heads; key/value heads, each of which serves NH / NKV heads
    D = C / NH,                      // width of a head
    KV = NKV * D,                    // width of the keys of a row, and of its values
    QKV = C + 2 * KV,                // queries, keys and values side by side
    I = 256,                         // width of the feed-forward
    V = 259,                         // vocabulary: 256 bytes and three special tokens
    VP = 272,                        // the same, rounded up to a multiple of 16 for `product`
    G = 8,                           // answers sampled to each problem
    MAX_PROMPT = 48,                 // most tokens of a problem
    MAX_NEW = 80,                    // most tokens of an answer
    POS = MAX_PROMPT + MAX_NEW,      // most positions
    ROWS = MAX_PROMPT + G * MAX_NEW, // most rows of a group: its answers share the rows of the problem
    PROMPTS = 32,
    WARMUP = 8, // problems in a step; steps in which the learning rate rises
};
static const float NORM_EPSILON = 1e-6f, ROPE_THETA = 10000;
static const float EPSILON = 0.2f, EPSILON_HIGH = 0.28f; // beyond 1 - EPSILON and 1 + EPSILON_HIGH the ratio is clipped
static const double LEARNING_RATE = 0.03, BETA1 = 0.9, BETA2 = 0.999, ADAM_EPSILON = 1e-8, MAX_GRAD_NORM = 2;

// ----------------------------------------------------------------------------
// 2 Files

static _Noreturn void die(const char *where, const char *what) {
    fprintf(stderr, "error: %s: %s\n", where, what);
    exit(1);
}

// The weights, a safetensors file: 8 bytes that say how long the header is; the header, JSON, which says of each tensor
// what its type and shape are and where its bytes lie; and those bytes. The tiny model has 0.8 MB of them.
static char file[1 << 20];
static size_t file_size, data_at;

static void safetensors_load(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) die(path, "cannot be opened; run this from the top of the repository");
    file_size = fread(file, 1, sizeof file - 1, f);
    fclose(f);
    for (int i = 7; i >= 0; i--) data_at = data_at << 8 | (unsigned char)file[i];
    if (file_size < 8 || data_at > file_size - 8) die(path, "is cut short, or no safetensors file");
    data_at += 8;
}

// out[n] = a tensor, of layer l or, if l < 0, of the whole model. Its numbers are bf16: the upper half of a float.
static void tensor_load(float *out, size_t n, int l, const char *name) {
    char key[96];
    size_t begin, end;
    snprintf(key, sizeof key, "\"model.layers.%d.%s\":", l, name);
    if (l < 0) snprintf(key, sizeof key, "\"model.%s\":", name);
    const char *entry = strstr(file + 8, key);
    const char *pattern = "{\"dtype\":\"BF16\",\"shape\":[%*[^]]],\"data_offsets\":[%zu,%zu]}";
    if (!entry || sscanf(entry + strlen(key), pattern, &begin, &end) != 2) die(key, "is not in the model as bf16");
    if (begin > end || end > file_size - data_at || end - begin != 2 * n) die(key, "is not of the tiny model's size");
    for (size_t i = 0; i < n; i++) {
        const unsigned char *b = (unsigned char *)file + data_at + begin + 2 * i;
        const uint32_t bits = (uint32_t)b[1] << 24 | (uint32_t)b[0] << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

typedef struct {
    char text[MAX_PROMPT + 1], answer[16];
} Problem;
static Problem train_set[2000], test_set[2000];

// Reads at most 2000 problems, one a line, and returns how many there are:
// {"id": "tiny-test-0", "problem": "What is 6 + 3 + 14 + 10?", "answer": "33", ...
static int problems_load(Problem *all, const char *path) {
    const char *pattern = "{\"id\": \"%*[^\"]\", \"problem\": \"%48[^\"]\", \"answer\": \"%15[^\"]\""; // 48: MAX_PROMPT
    char line[1024];
    int n = 0;
    FILE *f = fopen(path, "rb");
    if (!f) die(path, "cannot be opened");
    for (; n < 2000 && fgets(line, sizeof line, f); n++)
        if (sscanf(line, pattern, all[n].text, all[n].answer) != 2) die(path, "has a bad line");
    fclose(f);
    if (n == 0) die(path, "holds no problems");
    return n;
}

// ----------------------------------------------------------------------------
// 3 Tokens. The model's tokenizer.json is byte-level BPE without merges, so a token is a byte, and the rules by which
// text is normalised and split before merging change nothing in ASCII. Only the numbering is peculiar: as in GPT-2, the
// printable bytes of Latin-1 come first, and then all others.

enum { END_OF_TEXT = 256, IM_END = 258 }; // either of them ends an answer
static int token_of[256], byte_of[256];

static bool is_printable(int b) { return (b >= '!' && b <= '~') || (b >= 161 && b <= 172) || b >= 174; }
static void tokenizer_init(void) {
    int n = 0;
    for (int printable = 1; printable >= 0; printable--)
        for (int b = 0; b < 256; b++)
            if (is_printable(b) == printable) byte_of[n++] = b;
    for (int token = 0; token < 256; token++) token_of[byte_of[token]] = token;
}

// ----------------------------------------------------------------------------
// 4 The model: a Qwen2. Its weights are read once and never written again.

// W [N, K] and its transpose [K, N], so that both products read their matrix row by row. Room for the largest of all.
typedef struct {
    int N, K;
    float w[2 * I * C], wt[2 * I * C];
} Matrix;

typedef struct {
    float input_norm[C], post_norm[C], qkv_bias[QKV];
    Matrix qkv, o;   // [QKV, C], [C, C]: into the attention and out of it
    Matrix gu, down; // [2I, C], [C, I]: into the feed-forward, gate above up; and out of it
} Layer;

static struct {
    Matrix embedding; // [VP, C], the embedding of each token, and the output matrix as well
    Layer layers[L];
    float final_norm[C];
    float cosine[POS][D / 2], sine[POS][D / 2]; // RoPE's angles
} model;
static float s[L][C], ds[L][C]; // THE VECTORS, and their gradient. Nothing else is trained.

// Rows [first, first + n) of m [N, K] = a tensor.
static void matrix_load(Matrix *m, int N, int K, int first, int n, int l, const char *name) {
    m->N = N;
    m->K = K;
    tensor_load(m->w + first * K, (size_t)n * K, l, name);
    for (int i = first; i < first + n; i++)
        for (int k = 0; k < K; k++) m->wt[k * N + i] = m->w[i * K + k];
}

static void model_load(void) {
    safetensors_load("data/tiny/model/model.safetensors");
    matrix_load(&model.embedding, VP, C, 0, V, -1, "embed_tokens.weight");
    tensor_load(model.final_norm, C, -1, "norm.weight");
    for (int l = 0; l < L; l++) {
        Layer *w = &model.layers[l];
        tensor_load(w->input_norm, C, l, "input_layernorm.weight");
        tensor_load(w->qkv_bias, C, l, "self_attn.q_proj.bias");
        tensor_load(w->qkv_bias + C, KV, l, "self_attn.k_proj.bias");
        tensor_load(w->qkv_bias + C + KV, KV, l, "self_attn.v_proj.bias");
        matrix_load(&w->qkv, QKV, C, 0, C, l, "self_attn.q_proj.weight");
        matrix_load(&w->qkv, QKV, C, C, KV, l, "self_attn.k_proj.weight");
        matrix_load(&w->qkv, QKV, C, C + KV, KV, l, "self_attn.v_proj.weight");
        matrix_load(&w->o, C, C, 0, C, l, "self_attn.o_proj.weight");
        tensor_load(w->post_norm, C, l, "post_attention_layernorm.weight");
        matrix_load(&w->gu, 2 * I, C, 0, I, l, "mlp.gate_proj.weight");
        matrix_load(&w->gu, 2 * I, C, I, I, l, "mlp.up_proj.weight");
        matrix_load(&w->down, C, I, 0, C, l, "mlp.down_proj.weight");
    }
    for (int pos = 0; pos < POS; pos++)
        for (int i = 0; i < D / 2; i++) {
            const double angle = pos * pow(ROPE_THETA, -2.0 * i / D);
            model.cosine[pos][i] = (float)cos(angle);
            model.sine[pos][i] = (float)sin(angle);
        }
}

// What is kept of each row in each layer. Later rows attend to its keys and values, so that sampling a token costs one
// row and not the whole text again: the KV cache. The rest is for the backward pass.
static struct {
    float h_in[ROWS][C], h_mid[ROWS][C]; // the residual stream before the attention, and before the feed-forward
    float qkv[ROWS][QKV];                // queries, keys, values; the first two after RoPE
    float p[ROWS][NH][POS];              // how much of its attention a head gives to each position
    float gu[ROWS][2 * I];               // gate and up, before SwiGLU
} kept[L];

static float h[ROWS][C];        // the residual stream after the last layer
static float logprob[ROWS][VP]; // log of the probability of each next token

// Which token a row holds, at what position, and past[j], the row that holds position j of the same text.
static struct {
    int token, pos;
    const int *past;
} row[ROWS];

// ----------------------------------------------------------------------------
// 5 Operations, forward and backward

// out[T, N] = x[T, K] w[K, N]; K is a multiple of 8, N of 16. The order of the loops is all there is to its speed:
// eight rows of w stay in the cache while all of x passes, and the compiler turns the inner loop into vector
// instructions.
static void product(float *restrict out, const float *restrict x, const float *restrict w, int T, int K, int N) {
    memset(out, 0, (size_t)T * N * sizeof(float));
    for (int k = 0; k < K; k += 8)
        for (int t = 0; t < T; t++)
            for (int n = 0; n < N; n += 16) {
                const float *a = x + t * K + k, *b = w + k * N + n;
                float *sum = out + t * N + n;
                for (int j = 0; j < 16; j++)
                    sum[j] += a[0] * b[j] + a[1] * b[N + j] + a[2] * b[2 * N + j] + a[3] * b[3 * N + j] +
                              a[4] * b[4 * N + j] + a[5] * b[5 * N + j] + a[6] * b[6 * N + j] + a[7] * b[7 * N + j];
            }
}

// y[T, N] = x[T, K] W^T, and its gradient dx[T, K] = dy[T, N] W. There is no dW: the weights are frozen.
static void matmul_forward(float *y, float *x, const Matrix *m, int T) { product(y, x, m->wt, T, m->K, m->N); }
static void matmul_backward(float *dx, float *dy, const Matrix *m, int T) { product(dx, dy, m->w, T, m->N, m->K); }

// The sum of a[i] b[i], n a multiple of 4: four sums side by side, for the same reason.
static float dot(const float *a, const float *b, int n) {
    float sum[4] = {0};
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) sum[j] += a[i + j] * b[i + j];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// out = w in / rms,  rms = sqrt(mean of in^2 + epsilon)
static void rmsnorm_forward(float out[][C], float in[][C], const float *w, int T) {
    for (int t = 0; t < T; t++) {
        const float r = 1 / sqrtf(dot(in[t], in[t], C) / C + NORM_EPSILON);
        for (int c = 0; c < C; c++) out[t][c] = w[c] * in[t][c] * r;
    }
}

// din += w dout / rms - in (sum of w dout in) / (C rms^3): an element acts directly, and through rms on all of them.
static void rmsnorm_backward(float din[][C], float dout[][C], float in[][C], const float *w, int T) {
    for (int t = 0; t < T; t++) {
        const float r = 1 / sqrtf(dot(in[t], in[t], C) / C + NORM_EPSILON);
        float wd[C];
        for (int c = 0; c < C; c++) wd[c] = w[c] * dout[t][c];
        const float along = dot(wd, in[t], C) * r * r * r / C;
        for (int c = 0; c < C; c++) din[t][c] += wd[c] * r - in[t][c] * along;
    }
}

// Rotates n heads of D numbers: the pair (x[i], x[i + D/2]) turns by an angle that grows with the position, so that the
// product of a query and a key depends on their distance. sign -1 turns back, which is also the gradient.
static void rope(float *x, int n, int pos, float sign) {
    for (; n > 0; n--, x += D)
        for (int i = 0; i < D / 2; i++) {
            const float a = x[i], b = x[i + D / 2], cosine = model.cosine[pos][i], sine = sign * model.sine[pos][i];
            x[i] = a * cosine - b * sine;
            x[i + D / 2] = b * cosine + a * sine;
        }
}

// x[n] = its softmax,  exp(x) / sum of exp(x). The largest is taken off first, so that nothing overflows.
static void softmax(float *x, int n) {
    float most = x[0], sum = 0;
    for (int i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int i = 0; i < n; i++) sum += x[i] = expf(x[i] - most);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

// x[n] = the logarithm of its softmax. The sum is a double: hundreds of tiny terms, added one by one to a large one,
// would be lost in a float, and the gradient of a token that is almost certain is as small as they are.
static void log_softmax(float *x, int n) {
    float most = x[0];
    double sum = 0;
    for (int i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int i = 0; i < n; i++) sum += expf(x[i] - most);
    for (int i = 0; i < n; i++) x[i] = x[i] - most - (float)log(sum);
}

// For each head:  p_j = softmax over the past j of  q k_j / sqrt(D);   att = sum of p_j v_j. Rows [first, first + T).
static void attention_forward(float att[][C], int l, int first, int T) {
    memset(att, 0, (size_t)T * sizeof *att);
    for (int t = first; t < first + T; t++)
        for (int head = 0; head < NH; head++) {
            const int k = C + head / (NH / NKV) * D, v = k + KV, n = row[t].pos + 1; // k, v: this head's place in qkv
            const float *q = kept[l].qkv[t] + head * D;
            float *p = kept[l].p[t][head], *out = att[t - first] + head * D;
            for (int j = 0; j < n; j++) p[j] = dot(q, kept[l].qkv[row[t].past[j]] + k, D) / sqrtf(D);
            softmax(p, n);
            for (int j = 0; j < n; j++) {
                const float *past = kept[l].qkv[row[t].past[j]];
                for (int i = 0; i < D; i++) out[i] += p[j] * past[v + i];
            }
        }
}

// dqkv = the gradient of queries, keys and values, given datt:  dv_j += p_j datt;  dp_j = datt v_j;  past the softmax,
// dscore_j = p_j (dp_j - sum of p dp);  dq += dscore_j k_j;  dk_j += dscore_j q. All rows that attended to row j add to
// its dk and dv. Rows [0, T).
static void attention_backward(float dqkv[][QKV], float datt[][C], int l, int T) {
    memset(dqkv, 0, (size_t)T * sizeof *dqkv);
    for (int t = 0; t < T; t++)
        for (int head = 0; head < NH; head++) {
            const int k = C + head / (NH / NKV) * D, v = k + KV, n = row[t].pos + 1;
            const float *p = kept[l].p[t][head], *q = kept[l].qkv[t] + head * D, *dout = datt[t] + head * D;
            float *dq = dqkv[t] + head * D, dp[POS], mean = 0;
            for (int j = 0; j < n; j++) {
                dp[j] = dot(dout, kept[l].qkv[row[t].past[j]] + v, D);
                mean += p[j] * dp[j];
            }
            for (int j = 0; j < n; j++) {
                const float *past = kept[l].qkv[row[t].past[j]], dscore = p[j] * (dp[j] - mean) / sqrtf(D);
                float *dpast = dqkv[row[t].past[j]];
                for (int i = 0; i < D; i++) {
                    dq[i] += dscore * past[k + i];
                    dpast[k + i] += dscore * q[i];
                    dpast[v + i] += p[j] * dout[i];
                }
            }
        }
}

// a = silu(gate) up,  silu(g) = g sigmoid(g)
static void swiglu_forward(float a[][I], float gu[][2 * I], int T) {
    for (int t = 0; t < T; t++)
        for (int i = 0; i < I; i++) a[t][i] = gu[t][i] / (1 + expf(-gu[t][i])) * gu[t][I + i];
}

static void swiglu_backward(float dgu[][2 * I], float da[][I], float gu[][2 * I], int T) {
    for (int t = 0; t < T; t++)
        for (int i = 0; i < I; i++) {
            const float g = gu[t][i], up = gu[t][I + i], sigmoid = 1 / (1 + expf(-g));
            dgu[t][i] = da[t][i] * up * sigmoid * (1 + g * (1 - sigmoid));
            dgu[t][I + i] = da[t][i] * g * sigmoid;
        }
}

// ----------------------------------------------------------------------------
// 6 Forward. What must last is in `kept`; x, y and a are scratch.

static float x[ROWS][C], y[ROWS][C], a[ROWS][I];

// Takes h of rows [first, first + T) through layer l. The rows before them must have been there, or be among them.
static void layer_forward(int l, int first, int T) {
    const Layer *w = &model.layers[l];
    memcpy(kept[l].h_in[first], h[first], (size_t)T * sizeof *h);
    rmsnorm_forward(x, h + first, w->input_norm, T);
    matmul_forward(kept[l].qkv[first], x[0], &w->qkv, T);
    for (int t = first; t < first + T; t++) {
        for (int i = 0; i < QKV; i++) kept[l].qkv[t][i] += w->qkv_bias[i];
        rope(kept[l].qkv[t], NH + NKV, row[t].pos, 1);
    }
    attention_forward(x, l, first, T);
    matmul_forward(y[0], x[0], &w->o, T);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) kept[l].h_mid[first + t][c] = h[first + t][c] + y[t][c];
    rmsnorm_forward(x, kept[l].h_mid + first, w->post_norm, T);
    matmul_forward(kept[l].gu[first], x[0], &w->gu, T);
    swiglu_forward(a, kept[l].gu + first, T);
    matmul_forward(y[0], a[0], &w->down, T);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) h[first + t][c] = kept[l].h_mid[first + t][c] + y[t][c] + s[l][c]; // the vector
}

// h of rows [first, first + T), from the tokens they hold to the end of the last layer.
static void forward(int first, int T) {
    for (int t = first; t < first + T; t++) memcpy(h[t], model.embedding.w + row[t].token * C, sizeof h[t]);
    for (int l = 0; l < L; l++) layer_forward(l, first, T);
}

// logprob of the same rows, which forward must have run.
static void head_forward(int first, int T) {
    rmsnorm_forward(x, h + first, model.final_norm, T);
    matmul_forward(logprob[first], x[0], &model.embedding, T);
    for (int t = first; t < first + T; t++) log_softmax(logprob[t], V);
}

// ----------------------------------------------------------------------------
// 7 Sampling

typedef struct {
    const Problem *problem;
    int P, T, samples;             // tokens of the problem; rows in use; answers, at most G
    int rows[G][POS];              // rows[i][pos] holds position pos of problem and answer i: the first P are shared
    int n[G], token[G][MAX_NEW];   // the tokens of each answer
    float old_logprob[G][MAX_NEW]; // of each of them, when it was sampled
    char text[G][MAX_NEW + 1];
    float reward[G], advantage[G];
} Group;

static uint64_t random_state;
static void random_seed(int seed) { random_state = ((uint64_t)(uint32_t)seed << 1 | 1) * 0x9E3779B97F4A7C15u; }

// Uniform in [0, 1): the upper 24 bits of xorshift64* (Marsaglia 2003, Vigna 2016).
static float random_uniform(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (float)(random_state * 0x2545F4914F6CDD1Du >> 40) / 16777216.0f;
}

// Draws a token from the distribution whose logarithms are given.
static int draw(const float *next) {
    float u = random_uniform();
    int v = 0;
    while (v < V - 1 && (u -= expf(next[v])) >= 0) v++;
    return v;
}

static void row_set(int t, int token, int pos, int *rows) {
    row[t].token = token;
    row[t].pos = pos;
    row[t].past = rows;
    rows[pos] = t;
}

// *g = answers to a problem. The problem runs once, as P rows; then each pass runs a new row of each unfinished answer.
static void sample_group(Group *g, const Problem *problem, int samples) {
    bool ended[G] = {false};
    memset(g, 0, sizeof *g);
    g->problem = problem;
    g->samples = samples;
    g->P = g->T = (int)strlen(problem->text);
    for (int t = 0; t < g->P; t++)
        for (int i = 0; i < samples; i++) row_set(t, token_of[(unsigned char)problem->text[t]], t, g->rows[i]);
    forward(0, g->P);
    head_forward(g->P - 1, 1);
    for (int t = 0; t < MAX_NEW; t++) {
        const int first = g->T;
        for (int i = 0; i < samples; i++) {
            if (ended[i]) continue;
            const float *next = logprob[g->rows[i][g->P + t - 1]];
            const int token = draw(next);
            g->token[i][t] = token;
            g->old_logprob[i][t] = next[token];
            g->n[i] = t + 1;
            if (token < 256) g->text[i][strlen(g->text[i])] = (char)byte_of[token];
            ended[i] = token == IM_END || token == END_OF_TEXT || g->n[i] == MAX_NEW;
            if (!ended[i]) row_set(g->T++, token, g->P + t, g->rows[i]); // the last token of an answer predicts nothing
        }
        if (g->T == first) return;
        forward(first, g->T - first);
        head_forward(first, g->T - first);
    }
}

// ----------------------------------------------------------------------------
// 8 Reward and advantage

// Is the content of the last \boxed{...} the answer, letter by letter? (The program compares what the two mean.)
static bool is_right(const char *text, const char *answer) {
    const char *box = NULL, *p = text;
    while ((p = strstr(p, "\\boxed{")) != NULL) box = p += strlen("\\boxed{");
    const size_t n = strlen(answer);
    return box && strncmp(box, answer, n) == 0 && box[n] == '}';
}

// Rewards, and advantages by leaving one out (RLOO):  A_i = reward_i - mean of the other answers' rewards. Returns the
// number of right answers. If all are right or all are wrong, every advantage is 0 and there is nothing to learn.
static int grade_group(Group *g) {
    float sum = 0;
    int right = 0;
    for (int i = 0; i < g->samples; i++) {
        g->reward[i] = is_right(g->text[i], g->problem->answer) ? 1 : -1;
        sum += g->reward[i];
        right += g->reward[i] > 0;
    }
    for (int i = 0; i < g->samples && g->samples > 1; i++)
        g->advantage[i] = g->reward[i] - (sum - g->reward[i]) / (float)(g->samples - 1);
    return right;
}

// ----------------------------------------------------------------------------
// 9 Loss and backward

static float dlogits[ROWS][VP], dh[ROWS][C], dx[ROWS][C], da[ROWS][I], dgu[ROWS][2 * I], dqkv[ROWS][QKV];

// The loss of one token, -min(r A, clip(r) A), and its derivative with respect to the token's log-prob. Here each batch
// of answers serves for one update, so the ratio r is exactly 1, nothing is ever clipped, and the derivative is -A: the
// loss only says that tokens of good answers shall become likelier, and those of bad ones less likely.
static float token_loss(float *dlogprob, float now, float old, float advantage) {
    const float ratio = expf(now - old), clipped = fminf(fmaxf(ratio, 1 - EPSILON), 1 + EPSILON_HIGH);
    const bool clips = ratio * advantage > clipped * advantage;
    *dlogprob = clips ? 0 : -ratio * advantage;
    return -(clips ? clipped : ratio) * advantage;
}

// Returns the sum of the losses of the group's tokens, whose rows must have gone forward, and leaves dlogits:
// d logprob(token) / d logit_v = (v is the token) - p_v.
static double group_loss(const Group *g) {
    double loss = 0;
    memset(dlogits, 0, sizeof dlogits);
    for (int i = 0; i < g->samples; i++)
        for (int t = 0; t < g->n[i]; t++) {
            const int r = g->rows[i][g->P + t - 1], token = g->token[i][t]; // row r predicts token t
            float d;
            loss += token_loss(&d, logprob[r][token], g->old_logprob[i][t], g->advantage[i]);
            for (int v = 0; v < V; v++) dlogits[r][v] += d * ((v == token) - expf(logprob[r][v]));
        }
    return loss;
}

// dh = the gradient at the input of layer l, given the one at its output. Rows [0, T). Twice the stream goes straight
// on while a branch leaves it through a norm; so dh stays, and the branch's gradient is added.
static void layer_backward(int l, int T) {
    const Layer *w = &model.layers[l];
    matmul_backward(da[0], dh[0], &w->down, T);
    swiglu_backward(dgu, da, kept[l].gu, T);
    matmul_backward(dx[0], dgu[0], &w->gu, T);
    rmsnorm_backward(dh, dx, kept[l].h_mid, w->post_norm, T);

    matmul_backward(dx[0], dh[0], &w->o, T);
    attention_backward(dqkv, dx, l, T);
    for (int t = 0; t < T; t++) rope(dqkv[t], NH + NKV, row[t].pos, -1);
    matmul_backward(dx[0], dqkv[0], &w->qkv, T);
    rmsnorm_backward(dh, dx, kept[l].h_in, w->input_norm, T);
}

// ds += the gradient of the sum that group_loss has just returned.
static void group_backward(const Group *g) {
    const int first = g->P - 1;
    memset(dh, 0, sizeof dh);
    matmul_backward(dx[0], dlogits[first], &model.embedding, g->T - first);
    rmsnorm_backward(dh + first, dx, h + first, model.final_norm, g->T - first);
    for (int l = L - 1; l >= 0; l--) {
        // s[l] was added to h in every row, so its gradient is the sum of dh over the rows.
        for (int t = 0; t < g->T; t++)
            for (int c = 0; c < C; c++) ds[l][c] += dh[t][c];
        if (l > 0) layer_backward(l, g->T); // below the lowest vector there is nothing to train
    }
}

// ----------------------------------------------------------------------------
// 10 AdamW (with no weight decay, so it is Adam). m and v are running means of the gradient and of its square; they
// begin at 0, which the corrections make up for. A number moves by about the learning rate, however large its gradient.

static double norm(const float *values, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

// Moves the vectors; step counts from 1. ds was summed over all tokens and becomes the mean.
static void adamw_update(int step, int tokens) {
    static float m[L * C], v[L * C];
    float *number = s[0], *d = ds[0];
    for (int i = 0; i < L * C; i++) d[i] /= (float)tokens;
    const double rate = LEARNING_RATE * (step < WARMUP ? (double)step / WARMUP : 1), size = norm(d, L * C);
    const double scale = size > MAX_GRAD_NORM ? MAX_GRAD_NORM / size : 1;
    for (int i = 0; i < L * C; i++) {
        const double g = d[i] * scale;
        m[i] = (float)(BETA1 * m[i] + (1 - BETA1) * g);
        v[i] = (float)(BETA2 * v[i] + (1 - BETA2) * g * g);
        const double mean = m[i] / (1 - pow(BETA1, step)), square = v[i] / (1 - pow(BETA2, step));
        number[i] -= (float)(rate * mean / (sqrt(square) + ADAM_EPSILON));
    }
}

// ----------------------------------------------------------------------------
// 11 Training and evaluation

static Group group; // the one at work

// Prints the share of right answers, one answer to each of the first n problems, with Wilson's 95 % interval.
static void evaluate(const char *when, int n) {
    const double z = 1.96;
    int right = 0, tokens = 0;
    for (int i = 0; i < n; i++) {
        sample_group(&group, &test_set[i], 1);
        right += grade_group(&group);
        tokens += group.n[0];
    }
    const double p = (double)right / n, centre = (p + z * z / (2 * n)) / (1 + z * z / n);
    const double half = z * sqrt(p * (1 - p) / n + z * z / (4.0 * n * n)) / (1 + z * z / n);
    printf("%-6s  %d of %d problems right: %.1f %%, 95 %% interval %.1f - %.1f; %.1f tokens an answer\n", when, right,
           n, 100 * p, 100 * fmax(centre - half, 0), 100 * fmin(centre + half, 1), (double)tokens / n);
}

// One step: sample, grade, go backward, update.
static void train_step(int step, int problems) {
    const clock_t start = clock();
    const double answers = PROMPTS * G;
    int right = 0, tokens = 0, mixed = 0;
    double loss = 0;
    memset(ds, 0, sizeof ds);
    for (int i = 0; i < PROMPTS; i++) {
        sample_group(&group, &train_set[((step - 1) * PROMPTS + i) % problems], G);
        const int group_right = grade_group(&group);
        right += group_right;
        for (int k = 0; k < G; k++) tokens += group.n[k];
        if (group_right == 0 || group_right == G) continue; // all advantages are 0: no gradient
        mixed++;
        loss += group_loss(&group); // of the rows as sampling has left them: nothing has moved since
        group_backward(&group);
    }
    adamw_update(step, tokens);
    printf("step %d  right %.1f %%  mixed groups %d/%d  length %.1f  loss %.4f  |ds| %.4f  |s| %.3f  %.1f s\n", step,
           100 * right / answers, mixed, PROMPTS, tokens / answers, loss / tokens, norm(ds[0], L * C),
           norm(s[0], L * C), (double)(clock() - start) / CLOCKS_PER_SEC);
    fflush(stdout);
}

// ----------------------------------------------------------------------------
// 12 Finite differences

// Makes a group in which some answers are right and some wrong, with vectors that are not zero.
static void check_group(int problems) {
    for (int l = 0; l < L; l++)
        for (int c = 0; c < C; c++) s[l][c] = (float)((l * C + c) * 37 % 101 - 50) / 1000;
    random_seed(1);
    for (int i = 0, right = 0; i < problems && (right == 0 || right == G); i++) {
        sample_group(&group, &train_set[i], G);
        right = grade_group(&group);
    }
}

// (loss(s[l] + e u) - loss(s[l] - e u)) / 2e: how fast the group's loss changes when s[l] moves in the direction u.
static double finite_difference(int l, const float *u, double e) {
    double loss[2];
    float before[C];
    memcpy(before, s[l], sizeof before);
    for (int side = 0; side < 2; side++) {
        for (int c = 0; c < C; c++) s[l][c] = before[c] + (float)((side ? -e : e) * u[c]);
        forward(0, group.T);
        head_forward(group.P - 1, group.T - group.P + 1);
        loss[side] = group_loss(&group);
    }
    memcpy(s[l], before, sizeof before);
    return (loss[0] - loss[1]) / (2 * e);
}

// Compares the gradient of a group's loss, here the sum over its tokens, with finite differences: one number of one
// vector, by large and small steps; then each vector as a whole, moved along its own gradient, where the loss must
// change at the rate of the gradient's length.
static void print_differences(int problems) {
    const int l = 2;
    int c = 0;
    float u[C] = {0};
    check_group(problems);
    printf("%s  %d answers, loss %.4f\n", group.problem->text, G, group_loss(&group));
    group_backward(&group);
    for (int k = 0; k < C; k++) c = fabsf(ds[l][k]) > fabsf(ds[l][c]) ? k : c;
    printf("\nds[%d][%d] = %.5f by the backward pass\n", l, c, ds[l][c]);
    printf("%8s %12s %15s\n", "step", "difference", "relative error");
    u[c] = 1;
    for (double e = 1; e > 5e-4; e /= 10) {
        const double d = finite_difference(l, u, e);
        printf("%8g %12.5f %15.0e\n", e, d, fabs(d / ds[l][c] - 1));
    }
    printf("\n%8s %12s %12s %15s\n", "layer", "|ds|", "difference", "relative error");
    for (int k = 0; k < L; k++) {
        const double length = norm(ds[k], C);
        for (int j = 0; j < C; j++) u[j] = (float)(ds[k][j] / length);
        const double d = finite_difference(k, u, 0.01);
        printf("%8d %12.5f %12.5f %15.0e\n", k, length, d, fabs(d / length - 1));
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "train";
    const int steps = argc > 2 ? atoi(argv[2]) : 40, n = argc > 3 ? atoi(argv[3]) : 500;
    const bool train = strcmp(mode, "train") == 0;
    tokenizer_init();
    model_load();
    const int problems = problems_load(train_set, "data/tiny/train.jsonl");
    if (!train && strcmp(mode, "difference") != 0) die(mode, "expected train [STEPS [PROBLEMS [SEED]]] or difference");
    if (n < 1 || n > problems_load(test_set, "data/tiny/test.jsonl")) die("PROBLEMS", "expected 1 to 500");
    if (!train) return print_differences(problems), 0;
    random_seed(argc > 4 ? atoi(argv[4]) : 0);
    evaluate("before", n);
    for (int step = 1; step <= steps; step++) train_step(step, problems);
    evaluate("after", n);
    return 0;
}
