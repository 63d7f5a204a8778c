/*
Tools to look at vectors: dot products and cosines, the tokens a direction points to, singular values. Everything in
double, on the host; the unembedding matrix is read from the model's file.
*/
#ifndef LLMC_EXPERIMENTS_LENS_H
#define LLMC_EXPERIMENTS_LENS_H

#include "llmc/files/files.h"         // json_add_string
#include "llmc/qwen2.h"               // Qwen2
#include "llmc/tokenizer/tokenizer.h" // tokenizer_decode

double lens_dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

double lens_norm(const float *a, size_t n) { return sqrt(lens_dot(a, a, n)); }

// NAN where one of them is zero.
double lens_cosine(const float *a, const float *b, size_t n) {
    double size = lens_norm(a, n) * lens_norm(b, n);
    return size > 0 ? lens_dot(a, b, n) / size : NAN;
}

// ----------------------------------------------------------------------------
// JSON

// A number, or null where it is none.
void lens_json_number(Str *out, double x) {
    if (isfinite(x)) str_printf(out, "%.6g", x);
    else str_printf(out, "null");
}

void lens_json_numbers(Str *out, const double *x, size_t n) {
    str_printf(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) str_printf(out, ", ");
        lens_json_number(out, x[i]);
    }
    str_printf(out, "]");
}

// x[rows,columns]
void lens_json_matrix(Str *out, const double *x, int rows, int columns) {
    str_printf(out, "[");
    for (int i = 0; i < rows; i++) {
        if (i) str_printf(out, ",\n    ");
        lens_json_numbers(out, x + (size_t)i * columns, (size_t)columns);
    }
    str_printf(out, "]");
}

// The token's text, as JSON. A piece of a character shows as U+FFFD.
void lens_json_token(Str *out, const Tokenizer *tokenizer, int id) {
    Str text = {0};
    if (id < tokenizer_size(tokenizer)) tokenizer_decode(tokenizer, &text, &id, 1, false);
    json_add_string(out, text.s ? text.s : "", text.n);
    str_free(&text);
}

// ----------------------------------------------------------------------------
// the tokens a direction points to

typedef struct {
    int id;
    double dot, cosine;
} LensToken;

int lens_by_dot(const void *a, const void *b) {
    const LensToken *x = (const LensToken *)a, *y = (const LensToken *)b;
    return x->dot != y->dot ? (x->dot < y->dot ? 1 : -1) : x->id - y->id;
}

int lens_by_cosine(const void *a, const void *b) {
    const LensToken *x = (const LensToken *)a, *y = (const LensToken *)b;
    return x->cosine != y->cosine ? (x->cosine < y->cosine ? 1 : -1) : x->id - y->id;
}

// tokens[V]: dot and cosine of v[C] with every row of the unembedding matrix (no final norm). A row of zeros has cosine
// 0.
void lens_tokens(LensToken *tokens, const Qwen2 *m, const float *v) {
    const int C = m->config.C, V = m->config.V;
    const double size = lens_norm(v, (size_t)C);
    #pragma omp parallel
    {
        float *row = (float *)xmalloc((size_t)C * sizeof(float));
        #pragma omp for
        for (int t = 0; t < V; t++) {
            raw_to_f32(row, &m->weights.head.weight.raw[0], (int64_t)t * C, C);
            double length = lens_norm(row, (size_t)C);
            tokens[t].id = t;
            tokens[t].dot = lens_dot(row, v, (size_t)C);
            tokens[t].cosine = length * size > 0 ? tokens[t].dot / (length * size) : 0;
        }
        free(row);
    }
}

// "[{"token": ..., "id": ..., "dot": ..., "cosine": ...}, ...]" of n tokens from `from` on, by steps of `step`.
void lens_json_tokens(Str *out, const Tokenizer *tokenizer, const LensToken *from, int n, int step) {
    str_printf(out, "[");
    for (int i = 0; i < n; i++, from += step) {
        str_printf(out, "%s{\"token\": ", i ? ", " : "");
        lens_json_token(out, tokenizer, from->id);
        str_printf(out, ", \"id\": %d, \"dot\": %.6g, \"cosine\": %.6g}", from->id, from->dot, from->cosine);
    }
    str_printf(out, "]");
}

// Keys "top_dot", "top_cosine" and "bottom_cosine" of a direction: `top` tokens each.
void lens_json_direction(Str *out, const Qwen2 *m, const Tokenizer *tokenizer, const float *v, int top) {
    const int V = m->config.V, n = top < V ? top : V;
    LensToken *tokens = (LensToken *)xmalloc((size_t)V * sizeof(LensToken));
    lens_tokens(tokens, m, v);
    qsort(tokens, (size_t)V, sizeof(LensToken), lens_by_dot);
    str_printf(out, "\"top_dot\": ");
    lens_json_tokens(out, tokenizer, tokens, n, 1);
    qsort(tokens, (size_t)V, sizeof(LensToken), lens_by_cosine);
    str_printf(out, ", \"top_cosine\": ");
    lens_json_tokens(out, tokenizer, tokens, n, 1);
    str_printf(out, ", \"bottom_cosine\": ");
    lens_json_tokens(out, tokenizer, tokens + V - 1, n, -1);
    free(tokens);
}

// ----------------------------------------------------------------------------
// singular values

// values[n], largest first: the singular values of the n rows of x[n,C], as roots of the eigenvalues of x x^T by
// Jacobi's rotations.
void lens_singular_values(double *values, const float *x, int n, int C) {
    double *a = (double *)xmalloc((size_t)n * n * sizeof(double));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) a[i * n + j] = lens_dot(x + (size_t)i * C, x + (size_t)j * C, (size_t)C);
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0, all = 0;
        for (int i = 0; i < n * n; i++) {
            all += a[i] * a[i];
            if (i / n != i % n) off += a[i] * a[i];
        }
        if (!(off > 1e-26 * all)) break;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) {
                if (a[p * n + q] == 0) continue;
                double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1),
                       s = t * c;
                for (int k = 0; k < n; k++) {
                    double x1 = a[k * n + p], x2 = a[k * n + q];
                    a[k * n + p] = c * x1 - s * x2;
                    a[k * n + q] = s * x1 + c * x2;
                }
                for (int k = 0; k < n; k++) {
                    double x1 = a[p * n + k], x2 = a[q * n + k];
                    a[p * n + k] = c * x1 - s * x2;
                    a[q * n + k] = s * x1 + c * x2;
                }
            }
    }
    for (int i = 0; i < n; i++) { // sorted as they come
        double v = a[i * n + i] > 0 ? sqrt(a[i * n + i]) : 0;
        int at = i;
        for (; at > 0 && values[at - 1] < v; at--) values[at] = values[at - 1];
        values[at] = v;
    }
    free(a);
}

// sum of squares over the largest square: how many directions the rows use. NAN for zeros.
double lens_stable_rank(const double *values, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += values[i] * values[i];
    return n > 0 && values[0] > 0 ? sum / (values[0] * values[0]) : NAN;
}

#endif
