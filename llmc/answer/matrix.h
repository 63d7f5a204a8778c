/*
Arithmetic of matrices: \frac{1}{2} times a matrix, sums and products become one matrix of formulas, whose entries
equal.h then compares. New entries refer to the old formulas through NEG nodes (twice over, so that nothing changes),
because a node can have only one next sibling and so be in only one list.
*/
#ifndef LLMC_ANSWER_MATRIX_H
#define LLMC_ANSWER_MATRIX_H

#include "llmc/answer/parse.h" // AnswerTree

#define ANSWER_MAX_CELLS 64 // larger matrices are compared, but not computed with
#define ANSWER_MAX_PRODUCTS \
    3 // of matrices: each refers to every old cell several times, so that walks over the tree grow exponentially

int answer_matrix_value(AnswerTree *p, int v);

// The cells of matrix m; how many, 0 if there are too many.
int answer_cells(const AnswerTree *p, int m, int cells[ANSWER_MAX_CELLS]) {
    int n = 0;
    for (int c = p->v[m].child; c >= 0; c = p->v[c].next) {
        if (n == ANSWER_MAX_CELLS) return 0;
        cells[n++] = c;
    }
    return n;
}

int answer_new_matrix(AnswerTree *p, int columns, int number) {
    int m = answer_node(p, AN_MATRIX, -1);
    if (p->failed) return -1;
    p->v[m].number = number;
    p->v[m].count = columns;
    return m;
}

int answer_opposite(AnswerTree *p, int v) { return answer_node(p, AN_NEG, v); }

// kind: AN_MUL or AN_DIV by the scalar s, AN_NEG of each cell.
int answer_scale(AnswerTree *p, int m, AnswerKind kind, int s) {
    int cells[ANSWER_MAX_CELLS], n = answer_cells(p, m, cells), columns = p->v[m].count,
                                 out = n ? answer_new_matrix(p, columns, n) : -1;
    for (int i = 0; i < n && out >= 0; i++) {
        int cell = answer_opposite(p, cells[i]);
        if (kind != AN_NEG) cell = answer_node2(p, kind, cell, answer_opposite(p, s));
        if (p->failed) return -1;
        answer_append(p, out, cell);
    }
    if (out >= 0) p->v[out].count = columns;
    return out;
}

int answer_matrix_sum(AnswerTree *p, int a, int b) {
    int x[ANSWER_MAX_CELLS], y[ANSWER_MAX_CELLS], n = answer_cells(p, a, x), m = answer_cells(p, b, y),
                                                  columns = p->v[a].count;
    int out = n && n == m && columns == p->v[b].count ? answer_new_matrix(p, columns, n) : -1;
    for (int i = 0; i < n && out >= 0; i++) {
        int cell = answer_node2(p, AN_ADD, answer_opposite(p, x[i]), answer_opposite(p, y[i]));
        cell = answer_opposite(p, cell);
        if (p->failed) return -1;
        answer_append(p, out, cell);
    }
    if (out >= 0) p->v[out].count = columns;
    return out;
}

int answer_matrix_product(AnswerTree *p, int a, int b) {
    int x[ANSWER_MAX_CELLS], y[ANSWER_MAX_CELLS], n = answer_cells(p, a, x), m = answer_cells(p, b, y),
                                                  inner = p->v[a].count, columns = p->v[b].count;
    if (++p->products > ANSWER_MAX_PRODUCTS || n == 0 || m == 0 || m != inner * columns ||
        n / inner * columns > ANSWER_MAX_CELLS)
        return -1;
    int rows = n / inner, out = answer_new_matrix(p, columns, rows * columns);
    for (int i = 0; i < rows * columns && out >= 0; i++) {
        int cell = answer_node(p, AN_ADD, -1);
        for (int k = 0; k < inner && !p->failed; k++) {
            int term = answer_node2(p, AN_MUL, answer_opposite(p, x[i / columns * inner + k]),
                                    answer_opposite(p, y[k * columns + i % columns]));
            if (!p->failed) answer_append(p, cell, term);
        }
        if (p->failed) return -1;
        answer_append(p, out, cell);
    }
    if (out >= 0) p->v[out].count = columns;
    return out;
}

// The matrix that v is or makes; -1 if it makes none. Depth is bounded by the parser's.
int answer_matrix_value(AnswerTree *p, int v) {
    int kind = p->v[v].kind, first = p->v[v].child;
    if (kind == AN_MATRIX) return v;
    if (kind != AN_NEG && kind != AN_MUL && kind != AN_DIV && kind != AN_ADD) return -1;
    int m = answer_matrix_value(p, first), scalar = m < 0 ? first : -1;
    if (m >= 0 && p->v[m].sub) return -1; // a determinant
    if (kind == AN_NEG) return m < 0 ? -1 : answer_scale(p, m, AN_NEG, -1);
    for (int c = p->v[first].next; c >= 0; c = p->v[c].next) {
        int other = answer_matrix_value(p, c);
        if (other >= 0 && p->v[other].sub) return -1;
        if (kind == AN_ADD) m = m >= 0 && other >= 0 ? answer_matrix_sum(p, m, other) : -1;
        else if (kind == AN_DIV) m = m >= 0 && other < 0 ? answer_scale(p, m, AN_DIV, c) : -1;
        else if (m < 0 && other < 0) return -1; // two scalars before the matrix
        else if (m < 0) m = answer_scale(p, other, AN_MUL, scalar);
        else m = other >= 0 ? answer_matrix_product(p, m, other) : answer_scale(p, m, AN_MUL, c);
        if (m < 0 || p->failed) return -1;
    }
    return m;
}

#endif
