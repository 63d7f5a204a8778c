/*
Relations: what one names, and which value it states.
*/
#ifndef LLMC_ANSWER_RELATION_H
#define LLMC_ANSWER_RELATION_H

#include "llmc/answer/value.h" // answer_values

bool answer_is_differential(const AnswerTree *p, int v) { // dy
    const AnswerNode *k = &p->v[v], *d = &p->v[k->child >= 0 ? k->child : 0];
    bool product =
        k->kind == AN_MUL && k->count == 2 && d->kind == AN_VAR && d->name == answer_hash(ANSWER_HASH, "d", 1);
    return product && p->v[d->next].kind == AN_VAR;
}

// Does v only name something: x, a_3, f(x), AB, (x, y), \frac{NO}{BO}, \angle A?
bool answer_is_label(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_VAR || k->kind == AN_CALL || k->kind == AN_TEXT) return true;
    if (k->kind == AN_CONST) return k->sub == 'e' || k->sub == 'i'; // a variable e, as in e = 5
    if (k->kind == AN_POW) return answer_is_label(p, k->child) && p->v[p->v[k->child].next].kind == AN_NEG; // f^{-1}
    if (k->kind == AN_FUNC) return answer_is_label(p, k->child);
    if (k->kind != AN_MUL && k->kind != AN_DIV && k->kind != AN_BRACKET && k->kind != AN_RATIO && k->kind != AN_SETOP &&
        k->kind != AN_UNION && k->kind != AN_MATRIX)
        return false;
    if (k->kind == AN_DIV && answer_is_differential(p, k->child) && answer_is_differential(p, p->v[k->child].next))
        return true; // dy/dx
    bool capitals = k->kind == AN_MUL;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        const AnswerNode *x = &p->v[c];
        // m\angle ABC
        bool measure = c == k->child && x->kind == AN_VAR && x->sub == 'm' && p->v[x->next].kind == AN_VAR &&
                       p->v[x->next].sub == 'A';
        capitals &= measure || (x->kind == AN_VAR && x->sub >= 'A' && x->sub <= 'Z');
        // P(2), P(X > 2)
        bool argument = k->kind == AN_MUL && c != k->child && x->paren &&
                        (x->kind == AN_NUM || x->kind == AN_NEG || x->kind == AN_ADD || x->kind == AN_REL);
        if (!answer_is_label(p, c) && !argument) return false;
    }
    if (k->kind == AN_MUL && !capitals) { // p(x) names a value, 2x and xy are values
        int second = p->v[k->child].next;
        bool variable = p->v[k->child].sub >= 'x' && p->v[k->child].sub <= 'z'; // x(y - 1) is a product
        return k->count == 2 && !(variable && p->v[second].kind == AN_ADD) &&
               (p->v[second].paren || p->v[second].kind == AN_BRACKET);
    }
    return true;
}

int answer_last_side(const AnswerTree *p, int v) {
    int c = p->v[v].child;
    while (p->v[c].next >= 0) c = p->v[c].next;
    return c;
}

bool answer_all_rel(const AnswerTree *p, int v, const char *which) {
    for (int c = p->v[p->v[v].child].next; c >= 0; c = p->v[c].next) {
        if (!p->v[c].rel || !strchr(which, p->v[c].rel)) return false;
    }
    return true;
}

// Is every name in v that of the variable `bound` (-1: the first one met), of an integral's d, or in `result` as well?
bool answer_is_bound(const AnswerTree *p, int v, int *bound, int result) {
    const AnswerNode *k = &p->v[v];
    bool known = k->kind != AN_TEXT;
    if (k->kind == AN_VAR) {
        if (*bound < 0 && k->name != answer_hash(ANSWER_HASH, "d", 1)) *bound = v;
        known = k->name == answer_hash(ANSWER_HASH, "d", 1) || k->name == p->v[*bound].name ||
                answer_contains_name(p, result, k->name);
    }
    for (int c = k->child; c >= 0 && known; c = p->v[c].next) known = answer_is_bound(p, c, bound, result);
    return known;
}

// Is v a limit, a sum, an integral or a determinant, perhaps with numbers around it, whose value is not computed here
// but which `result` can be? Not \sum x_i, which says something of x_i.
bool answer_is_uncomputed(const AnswerTree *p, int v, int result) {
    const AnswerNode *k = &p->v[v];
    int bound = -1, body = v;
    if (k->kind == AN_BIG && k->sub == 'l') return p->v[k->child].kind == AN_REL; // x \to 0
    if (k->kind == AN_BIG && k->sub == 'i') {                                     // \int_0^x t dt = 5 asks for x
        for (body = k->child; p->v[body].next >= 0; body = p->v[body].next) {
            bool known = p->v[body].kind == AN_VAR && answer_contains_name(p, result, p->v[body].name);
            if (!known && answer_contains(p, body, AN_VAR)) return false;
        }
    } else if (k->kind == AN_BIG) { // k = 1
        if (p->v[k->child].kind != AN_REL || p->v[p->v[k->child].child].kind != AN_VAR) return false;
        bound = p->v[k->child].child;
    }
    if (k->kind == AN_BIG) return answer_is_bound(p, body, &bound, result);
    if (k->kind == AN_MATRIX && k->sub == 'v') return true;
    if (k->kind > AN_ROOT || k->child < 0) return false;
    bool any = false;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        bool one = answer_is_uncomputed(p, c, result);
        if (!one && (answer_contains(p, c, AN_VAR) || answer_contains(p, c, AN_CALL) || answer_contains(p, c, AN_TEXT)))
            return false;
        any |= one;
    }
    return any;
}

// The value that a relation states: 2 of "x = 2", "2 = x", "x = 1 + 1 = 2", "x \approx 2"; sqrt 2 of "sqrt 2 \approx
// 1.41". -1: none.
int answer_stated_value(AnswerWork *w, AnswerTree *p, int v) {
    int first = p->v[v].child, last = answer_last_side(p, v);
    if (answer_all_rel(p, v, "i")) return p->v[v].count == 2 ? last : -1;
    if (!answer_all_rel(p, v, "=~")) return -1;
    bool named = answer_is_label(p, first);
    int exact = first, n = 1; // the last side before an approximation
    for (int c = p->v[first].next; c >= 0 && p->v[c].rel == '='; c = p->v[c].next, n++) exact = c;
    if (!(named && exact == first)) last = exact;
    if (named) return last;
    if (n == 1) return exact;
    if (answer_is_label(p, last) && n == 2) return first;
    // a calculation: 2 + 2 = 4
    bool sum_of_labels = p->v[first].kind == AN_ADD;
    for (int c = p->v[first].child; c >= 0 && sum_of_labels; c = p->v[c].next)
        sum_of_labels = answer_is_label(p, c) && p->v[c].kind != AN_VAR;
    if (sum_of_labels) return last;
    w->variables = false;
    if (answer_is_value(p, last) && answer_values(w, p, first, 1, p, last, 1) && !w->variables) return last;
    bool left = answer_is_uncomputed(p, first, last), right = answer_is_uncomputed(p, last, first);
    return left == right ? -1 : left ? last : n == 2 ? first : -1; // \lim ... = 1: the side that can be read
}

#endif
