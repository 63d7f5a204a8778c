/*
Lists of items, and what stands in brackets: tuples and intervals (also ]2, 5[), sets and their conditions, groups,
absolute values, matrices in their environments and as lists of lists.
*/
#ifndef LLMC_ANSWER_BRACKET_H
#define LLMC_ANSWER_BRACKET_H

#include "llmc/answer/tree.h" // AnswerTree

// {x : 0 < x < 1} was read as the relation (x:0) < x < 1: makes it the condition after the colon. False if v is
// something else.
bool answer_such_that(AnswerTree *p, int v) {
    if (p->v[v].kind != AN_REL) return false;
    int before = 0;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next, before++) {
        if (p->v[c].kind != AN_RATIO || p->v[c].count != 2) continue;
        int condition = p->v[p->v[c].child].next;
        if (p->v[c].next < 0) return false;
        p->v[condition].next = p->v[c].next;
        p->v[v].child = condition;
        p->v[v].count -= before;
        return true;
    }
    return false;
}

// [[1, 2], [3, 4]]: makes a matrix of a list of lists of the same length. False if v is none.
bool answer_rows(AnswerTree *p, int v) {
    int columns = 0, last = -1;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) {
        const AnswerNode *row = &p->v[c];
        if (row->kind != AN_BRACKET || row->sub != '[' || row->close != ']' || (columns && row->count != columns))
            return false;
        columns = row->count;
    }
    if (columns == 0) return false;
    int rows = p->v[v].count, first = p->v[p->v[v].child].child;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) { // one row after the other
        if (last >= 0) p->v[last].next = p->v[c].child;
        for (last = p->v[c].child; p->v[last].next >= 0;) last = p->v[last].next;
    }
    p->v[v].kind = AN_MATRIX;
    p->v[v].child = first;
    p->v[v].count = columns;
    p->v[v].number = rows * columns;
    p->v[v].sub = p->v[v].close = 0;
    return true;
}

// Items up to what is no separator, as a node of this kind.
int answer_list(AnswerTree *p, AnswerKind kind) {
    int list = answer_node(p, kind, -1);
    bool either = kind == AN_LIST;
    do {
        int item = p->item(p);
        if (p->failed || p->v[list].count >= 400) return answer_fail(p);
        answer_append(p, list, item);
        if (!answer_at(p, TK_SEP, -1)) break;
        either &= answer_at(p, TK_SEP, 'o');
        while (answer_at(p, TK_SEP, -1)) p->at++; // ", and"
    } while (!p->failed);
    p->v[list].close = either ? 'o' : 0; // "3/4 or 0.75"
    return list;
}

int answer_bracket(AnswerTree *p) {
    int open = answer_peek(p, 0)->sub, saved = p->bars;
    p->at++;
    p->bars = open == 'S'; // in a set | may stand for "such that"
    if (open == 'S' && answer_take(p, TK_CLOSE, 'S')) {
        p->bars = saved;
        return answer_node(p, AN_SET, -1);
    }
    int v = answer_list(p, open == 'S' || open == '{' ? AN_SET : AN_BRACKET);
    if (!p->failed && p->v[v].count == 1 && open == '{' &&
        (answer_at(p, TK_OP, 'o') || answer_at(p, TK_OP, 'c'))) { // {a \over b}
        AnswerKind kind = answer_at(p, TK_OP, 'o') ? AN_DIV : AN_BINOM;
        p->at++;
        v = answer_node2(p, kind, p->v[v].child, p->sum(p));
        p->bars = saved;
        return answer_take(p, TK_CLOSE, '}') ? v : answer_fail(p);
    }
    if (!p->failed && p->v[v].count == 1 && open == 'S' && answer_take(p, TK_BAR, -1)) { // {x | x > 0}: the condition
        v = p->item(p);
        p->bars = saved;
        return answer_take(p, TK_CLOSE, 'S') ? v : answer_fail(p);
    }
    p->bars = saved;
    int close = answer_peek(p, 0)->sub;
    bool turned =
        answer_at(p, TK_OPEN, '[') && open != 'S' && open != '{' && !p->failed && p->v[v].count == 2; // [2, 5[
    if (turned) {
        p->at++;
        close = ')';
    }
    if (p->failed || (!turned && !answer_take(p, TK_CLOSE, -1))) return answer_fail(p);
    if (open == ']') open = '('; // ]2, 5[
    int only = p->v[v].count == 1 ? p->v[v].child : -1;
    p->v[v].sub = (uint8_t)open;
    p->v[v].close = (uint8_t)close;
    if (open == '(' || open == '[') {
        if (close != ')' && close != ']') return answer_fail(p);
        if (open == '[' && close == ']' && answer_rows(p, v)) return v;
        p->v[v].sub = (uint8_t)open;
        if (only < 0) return v;
        if ((open == '(') != (close == ')')) return answer_fail(p); // half-open, of one element
        p->v[only].paren = true;
        return only;
    }
    if (open == 'S' && close == 'S') return only >= 0 && answer_such_that(p, only) ? only : v;
    if (open == 'S') return answer_fail(p);
    if (open == '{') {
        if (close != '}') return answer_fail(p);
        return only >= 0 ? only : v;
    }
    if (close != open || only < 0) return answer_fail(p);
    int f = answer_node(p, AN_FUNC, only);
    p->v[f].sub = open == 'f' ? FN_FLOOR : open == 'c' ? FN_CEIL : FN_ABS;
    return f;
}

int answer_matrix(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    if (k->sub == 'c') return answer_fail(p);
    bool determinant = p->t->text[k->at] == 'v';
    p->at++;
    int v = answer_node(p, AN_MATRIX, -1), cells = 0, columns = 0, column = 0, saved = p->bars;
    p->bars = 0;
    while (!p->failed && !answer_take(p, TK_FINISH, -1)) {
        if (answer_take(p, TK_ROW, -1)) {
            if (column == 0 && columns == 0) return answer_fail(p);
            if (column == 0 || answer_at(p, TK_FINISH, -1)) continue; // \\\\, by writers who escape twice
            if (columns && column != columns) return answer_fail(p);
            columns = column;
            column = 0;
            continue;
        }
        if (column > 0 && !answer_take(p, TK_OP, '&')) return answer_fail(p);
        answer_append(p, v, p->item(p));
        cells++;
        column++;
    }
    p->bars = saved;
    if (p->failed || cells == 0 || (columns && column != columns)) return answer_fail(p);
    p->v[v].count = column;
    p->v[v].number = cells;
    p->v[v].sub = determinant ? 'v' : 0;
    return v;
}

#endif
