/*
Do two trees mean the same? Structures part by part: tuples in order, lists and sets in any order, intervals with their brackets,
unions, inequalities as the intervals they describe, equations up to a factor, matrices entry by entry. Where a part is a value,
answer_value.h decides. A left-hand side that only names the answer ("x =", "f(x) =", "x \in") may be missing on one side.
*/
#ifndef LLMC_ANSWER_EQUAL_H
#define LLMC_ANSWER_EQUAL_H

#include "answer_matrix.h" // answer_matrix_value
#include "answer_value.h"  // answer_values

#define ANSWER_MAX_LIST 200

bool answer_nodes_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b);

// ----------------------------------------------------------------------------
// relations

// Does v only name something: x, a_3, f(x), AB, (x, y), \frac{NO}{BO}, \angle A?
bool answer_is_label(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_VAR || k->kind == AN_CALL || k->kind == AN_TEXT) return true;
    if (k->kind == AN_CONST) return k->sub == 'e' || k->sub == 'i'; // a variable e, as in e = 5
    if (k->kind == AN_POW) return answer_is_label(p, k->child) && p->v[p->v[k->child].next].kind == AN_NEG; // f^{-1}
    if (k->kind == AN_FUNC) return answer_is_label(p, k->child);
    if (k->kind != AN_MUL && k->kind != AN_DIV && k->kind != AN_BRACKET && k->kind != AN_RATIO && k->kind != AN_SETOP && k->kind != AN_UNION) return false;
    bool capitals = k->kind == AN_MUL;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        const AnswerNode *x = &p->v[c];
        capitals &= x->kind == AN_VAR && x->sub >= 'A' && x->sub <= 'Z';
        bool argument = k->kind == AN_MUL && c != k->child && x->paren && (x->kind == AN_NUM || x->kind == AN_NEG || x->kind == AN_ADD); // P(2)
        if (!answer_is_label(p, c) && !argument) return false;
    }
    if (k->kind == AN_MUL && !capitals) { // p(x) names a value, 2x and xy are values
        int second = p->v[k->child].next;
        return k->count == 2 && (p->v[second].paren || p->v[second].kind == AN_BRACKET);
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

// The value that a relation states: 2 of "x = 2", "2 = x", "x = 1 + 1 = 2", "x \approx 2"; sqrt 2 of "sqrt 2 \approx 1.41". -1: none.
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
    for (int c = p->v[first].child; c >= 0 && sum_of_labels; c = p->v[c].next) sum_of_labels = answer_is_label(p, c) && p->v[c].kind != AN_VAR;
    if (sum_of_labels) return last;
    w->variables = false;
    return answer_is_value(p, last) && answer_values(w, p, first, 1, p, last, 1) && !w->variables ? last : -1;
}

typedef struct { int low, high; bool low_in, high_in; } AnswerInterval; // node -1: unbounded

bool answer_is_open_end(const AnswerTree *p, int v) { return v < 0 || answer_infinity(p, v) != 0; }

// Intervals that node v describes, at most two more than n; the new n, -1 if it describes none. *name: the variable, -1 unless v is an inequality.
int answer_intervals(AnswerTree *p, int v, AnswerInterval *out, int n, int *name) {
    const AnswerNode *k = &p->v[v];
    if (n + 2 > ANSWER_MAX_LIST) return -1;
    if (k->kind == AN_UNION || k->kind == AN_LIST) {
        for (int c = k->child; c >= 0 && n >= 0; c = p->v[c].next) {
            if (k->kind == AN_LIST && p->v[c].kind != AN_REL) return -1;
            int variable = -1;
            n = answer_intervals(p, c, out, n, &variable);
            if (name && *name >= 0 && variable >= 0 && p->v[*name].name != p->v[variable].name) return -1; // x < 0, y < 0
            if (name && variable >= 0) *name = variable;
        }
        return n;
    }
    if (k->kind == AN_VAR && k->name == answer_hash(ANSWER_HASH, "mathbb{R}", 9)) {
        AnswerInterval x = {-1, -1, false, false};
        out[n] = x;
        return n + 1;
    }
    if (k->kind == AN_SETOP && k->sub == '-' && answer_intervals(p, k->child, out, n, NULL) == n + 1 && out[n].low < 0 && out[n].high < 0) { // all but one
        int c = p->v[k->child].next;
        if (p->v[c].kind != AN_SET || p->v[c].count != 1) return -1;
        AnswerInterval x = {-1, p->v[c].child, false, false}, y = {p->v[c].child, -1, false, false};
        out[n] = x;
        out[n + 1] = y;
        return n + 2;
    }
    if (k->kind == AN_BRACKET && k->count == 2) {
        AnswerInterval x = {k->child, p->v[k->child].next, k->sub == '[', k->close == ']'};
        if (answer_is_open_end(p, x.low)) { x.low = -1; x.low_in = false; }
        if (answer_is_open_end(p, x.high)) { x.high = -1; x.high_in = false; }
        out[n] = x;
        return n + 1;
    }
    if (k->kind != AN_REL || k->count > 3) return -1;
    int a = k->child, b = p->v[a].next, c = p->v[b].next, r = p->v[b].rel, s = c >= 0 ? p->v[c].rel : 0;
    AnswerInterval x = {-1, -1, false, false};
    int middle = b;
    if (c >= 0) { // a < x < c
        if (strchr("<l", r) && strchr("<l", s)) { x.low = a; x.high = c; x.low_in = r == 'l'; x.high_in = s == 'l'; }
        else if (strchr(">g", r) && strchr(">g", s)) { x.low = c; x.high = a; x.low_in = s == 'g'; x.high_in = r == 'g'; }
        else return -1;
    } else {
        if (r == 'i') { if (name) *name = a; return answer_intervals(p, b, out, n, NULL); }
        if (!strchr("<>lg!", r)) return -1;
        bool flipped = !answer_is_label(p, a) && answer_is_label(p, b);
        middle = flipped ? b : a;
        int bound = flipped ? a : b;
        bool less = (r == '<' || r == 'l') != flipped;
        if (r == '!') {
            AnswerInterval y = {-1, bound, false, false}, z = {bound, -1, false, false};
            out[n] = y;
            out[n + 1] = z;
            if (name) *name = middle;
            return answer_is_label(p, middle) ? n + 2 : -1;
        }
        if (less) { x.high = bound; x.high_in = r == 'l' || r == 'g'; } else { x.low = bound; x.low_in = r == 'l' || r == 'g'; }
    }
    if (!answer_is_label(p, middle)) return -1;
    if (answer_is_open_end(p, x.low)) x.low = -1;
    if (answer_is_open_end(p, x.high)) x.high = -1;
    if (p->v[middle].kind == AN_FUNC && p->v[middle].sub == FN_ABS) { // |x| between bounds
        if (name) *name = p->v[middle].child;
        int high = x.high >= 0 ? answer_node(p, AN_NEG, x.high) : -1, low = x.low >= 0 ? answer_node(p, AN_NEG, x.low) : high;
        if (p->failed) return -1;
        AnswerInterval left = {high, low, x.high_in, x.low >= 0 ? x.low_in : x.high_in}, right = x;
        if (x.low < 0) { left.high = x.high; left.high_in = x.high_in; out[n] = left; return n + 1; }
        out[n] = left;
        out[n + 1] = right;
        return n + 2;
    }
    if (name) *name = middle;
    out[n] = x;
    return n + 1;
}

bool answer_bounds_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    return a < 0 || b < 0 ? a < 0 && b < 0 : answer_values(w, p, a, 1, q, b, 1);
}

bool answer_intervals_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    AnswerInterval x[ANSWER_MAX_LIST], y[ANSWER_MAX_LIST];
    int name_a = -1, name_b = -1, n = answer_intervals(p, a, x, 0, &name_a), m = answer_intervals(q, b, y, 0, &name_b);
    if (n <= 0 || n != m || (name_a >= 0 && name_b >= 0 && !answer_same(w, p, name_a, q, name_b))) return false;
    bool used[ANSWER_MAX_LIST] = {false};
    for (int i = 0; i < n; i++) {
        int j = 0;
        while (j < m && (used[j] || x[i].low_in != y[j].low_in || x[i].high_in != y[j].high_in || !answer_bounds_equal(w, p, x[i].low, q, y[j].low) || !answer_bounds_equal(w, p, x[i].high, q, y[j].high))) j++;
        if (j == m) return false;
        used[j] = true;
    }
    return true;
}

// left - right of a relation with two sides.
AnswerValue answer_difference(AnswerWork *w, const AnswerTree *p, int v) {
    int a = p->v[v].child;
    AnswerValue f = answer_eval(w, p, a, false), g = f.ok ? answer_eval(w, p, p->v[a].next, false) : f;
    return f.ok && g.ok ? answer_add(f, g, -1) : answer_none();
}

// Is left - right of the two the same up to a constant factor? Its sign in *sign; 0: not.
int answer_factor_sign(AnswerWork *w, const AnswerTree *p, int a, const AnswerTree *q, int b) {
    AnswerValue ratio = answer_none();
    int agreed = 0;
    bool variables = false;
    w->hundredth = w->natural = false;
    w->sign = 1;
    for (w->point = 0; w->point < ANSWER_POINTS; w->point++) {
        w->variables = w->branched = w->absolute = false;
        AnswerValue f = answer_difference(w, p, a), g = answer_difference(w, q, b);
        if (w->point > ANSWER_FAR && (w->branched || (w->point == ANSWER_POINTS - 1 && w->absolute))) continue;
        variables |= w->variables;
        if ((!f.ok && !g.ok) || ((w->point == ANSWER_FAR || w->point == ANSWER_POINTS - 1) && (!f.ok || !g.ok))) continue;
        if (!f.ok || !g.ok || answer_size(f) <= 100 * f.err) return 0;
        AnswerValue r = answer_div(f, g);
        if (!r.ok || (agreed > 0 && !answer_values_equal(r, ratio))) return 0;
        ratio = r;
        agreed++;
    }
    if (agreed == 0 || (!variables && fabsl(fabsl(ratio.re) - 1) > 1e-9L)) return 0;
    if (fabsl(ratio.im) > 1e-9L * fabsl(ratio.re)) return 2;
    return ratio.re > 0 ? 1 : -1;
}

// Do two variables of v differ in case alone (or one of them from the number e)? seen: what was met so far.
bool answer_case_matters(const AnswerTree *p, int v, const AnswerNode *seen[16], int *n) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_VAR) {
        for (int i = 0; i < *n; i++) if (seen[i]->folded == k->folded && seen[i]->name != k->name) return true;
        if (*n == 16) return true;
        seen[(*n)++] = k;
    }
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        if (answer_case_matters(p, c, seen, n)) return true;
    }
    return false;
}

// The same, where K = 8 may be written 3k - 24 = 0.
int answer_factor_sign_folded(AnswerWork *w, const AnswerTree *p, int a, const AnswerTree *q, int b) {
    const AnswerNode *seen[16];
    int n = 0, m = 0;
    if (answer_case_matters(p, a, seen, &n) || answer_case_matters(q, b, seen, &m)) return 0;
    w->folded = true;
    int sign = answer_factor_sign(w, p, a, q, b);
    w->folded = false;
    return sign;
}

int answer_flip(int rel) { return rel == '<' ? '>' : rel == '>' ? '<' : rel == 'l' ? 'g' : rel == 'g' ? 'l' : rel; }

bool answer_relations_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    AnswerNode *x = &p->v[a], *y = &q->v[b];
    if (answer_same(w, p, a, q, b)) return true;
    if (x->count == y->count) { // side by side, then from the other end
        int sides[8], n = 0;
        for (int c = y->child; c >= 0 && n < 8; c = q->v[c].next) sides[n++] = c;
        for (int way = 0; way < 2 && n == x->count; way++) {
            int i = 0;
            bool equal = true;
            for (int c = x->child; c >= 0 && equal; c = p->v[c].next, i++) {
                int rel = i == 0 ? 0 : way == 0 ? q->v[sides[i]].rel : answer_flip(q->v[sides[n - i]].rel);
                equal = (i == 0 || rel == p->v[c].rel) && answer_nodes_equal(w, p, c, q, sides[way == 0 ? i : n - 1 - i]);
            }
            if (equal) return true;
        }
    }
    if (answer_intervals_equal(w, p, a, q, b)) return true;
    if (answer_all_rel(p, a, "i") && answer_all_rel(q, b, "i")) return answer_same(w, p, x->child, q, y->child) && answer_nodes_equal(w, p, answer_last_side(p, a), q, answer_last_side(q, b));
    bool named = answer_is_label(p, x->child) && answer_is_label(q, y->child) && answer_all_rel(p, a, "=~") && answer_all_rel(q, b, "=~");
    if (named && answer_same(w, p, x->child, q, y->child)) {
        int u = answer_stated_value(w, p, a), v = answer_stated_value(w, q, b);
        if (u >= 0 && v >= 0 && answer_nodes_equal(w, p, u, q, v)) return true;
    }
    if (x->count != 2 || y->count != 2 || p->pm || q->pm) return false;
    int r = p->v[p->v[x->child].next].rel, s = q->v[q->v[y->child].next].rel;
    if (!answer_is_value(p, x->child) || !answer_is_value(q, y->child)) return false;
    int sign = strchr("=<>lg!", r) && strchr("=<>lg!", s) ? answer_factor_sign(w, p, a, q, b) : 0;
    if (sign == 0 && r == '=' && s == '=') sign = answer_factor_sign_folded(w, p, a, q, b);
    if (sign == 0) return false;
    if (r == '=' || r == '!') return r == s;
    return sign != 2 && (sign > 0 ? r == s : r == answer_flip(s));
}

// ----------------------------------------------------------------------------
// lists

typedef struct { int node, sign; } AnswerElement;

// Appends v or, where \pm is in it, both its values; -1 if there are too many.
int answer_element(const AnswerTree *p, int v, AnswerElement *out, int n) {
    if (n < 0 || n + 2 > ANSWER_MAX_LIST) return -1;
    AnswerElement plus = {v, 1}, minus = {v, -1};
    out[n++] = plus;
    if (p->pm && answer_is_value(p, v) && answer_contains(p, v, AN_PM)) out[n++] = minus;
    return n;
}

// The elements of a list or set; "x = 1, 2" loses its name. named: left-hand sides go, too.
int answer_elements(AnswerWork *w, AnswerTree *p, int v, AnswerElement *out, bool named) {
    int n = 0, kind = p->v[v].kind, others = 0;
    if (kind != AN_LIST && kind != AN_SET && kind != AN_UNION) {
        if (kind == AN_REL && (named || p->pm)) {
            int u = answer_stated_value(w, p, v);
            if (u >= 0) v = u;
            if (p->v[v].kind == AN_SET) return answer_elements(w, p, v, out, named);
        }
        return answer_element(p, v, out, 0);
    }
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) others += p->v[c].kind == AN_REL;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) {
        int u = c;
        if (p->v[c].kind == AN_REL && (named || (others == 1 && c == p->v[v].child))) u = answer_stated_value(w, p, c);
        if (u >= 0 && p->v[u].kind == AN_SET && kind == AN_LIST && p->v[v].count == 1) return answer_elements(w, p, u, out, named);
        n = answer_element(p, u < 0 ? c : u, out, n);
    }
    return n;
}

// What a list or an equation gives its values to: x of "x = 1, 2" and of "x = \pm 1"; -1: nothing, or each element its own.
int answer_list_label(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_LIST && k->count > 0) {
        k = &p->v[k->child];
        for (int c = k->next; c >= 0; c = p->v[c].next) { // "x = 1 or x = 2"
            if (p->v[c].kind == AN_REL && (k->kind != AN_REL || p->v[p->v[c].child].kind != AN_VAR || p->v[p->v[c].child].name != p->v[k->child].name)) return -1;
        }
    }
    if (k->kind != AN_REL) return -1;
    return answer_is_label(p, k->child) ? k->child : -1;
}

bool answer_has_relation(const AnswerTree *p, int v) {
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) if (p->v[c].kind == AN_REL) return true;
    return p->v[v].kind == AN_REL;
}

bool answer_lists_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b, bool named) {
    AnswerElement x[ANSWER_MAX_LIST], y[ANSWER_MAX_LIST];
    bool used[ANSWER_MAX_LIST] = {false};
    int n = answer_elements(w, p, a, x, named), m = answer_elements(w, q, b, y, named);
    int label_a = answer_list_label(p, a), label_b = answer_list_label(q, b);
    if (n < 0 || n != m || (label_a >= 0 && label_b >= 0 && !answer_same(w, p, label_a, q, label_b))) return false;
    if (named && !(label_a >= 0 && label_b >= 0) && answer_has_relation(p, a) && answer_has_relation(q, b)) return false; // both name their elements: names count
    for (int i = 0; i < n; i++) {
        int j = 0;
        for (; j < m; j++) {
            if (used[j]) continue;
            bool values = answer_is_value(p, x[i].node) && answer_is_value(q, y[j].node);
            if (values ? answer_values(w, p, x[i].node, x[i].sign, q, y[j].node, y[j].sign) : answer_nodes_equal(w, p, x[i].node, q, y[j].node)) break;
        }
        if (j == m) return false;
        used[j] = true;
    }
    return true;
}

// Part by part, in order.
bool answer_parts_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    int c = p->v[a].child, d = q->v[b].child;
    for (; c >= 0 && d >= 0; c = p->v[c].next, d = q->v[d].next) {
        if (!answer_nodes_equal(w, p, c, q, d)) return false;
    }
    return c < 0 && d < 0;
}

// a:b:c up to a factor; 7:30 and 3:45 are times, not ratios.
bool answer_ratios_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if (p->v[a].count != q->v[b].count) return false;
    if (answer_parts_equal(w, p, a, q, b)) return true;
    if (p->v[a].number && q->v[b].number) return false;
    AnswerValue ratio = answer_none();
    w->sign = 1;
    for (w->point = 0; w->point < 2; w->point++) {
        int i = 0;
        for (int c = p->v[a].child, d = q->v[b].child; c >= 0; c = p->v[c].next, d = q->v[d].next, i++) {
            AnswerValue f = answer_eval(w, p, c, false), g = answer_eval(w, q, d, false);
            if (!f.ok || !g.ok || answer_size(f) <= 100 * f.err) return false;
            AnswerValue r = answer_div(f, g);
            if (!r.ok || (i > 0 && !answer_values_equal(r, ratio))) return false;
            ratio = r;
        }
    }
    return true;
}

// ----------------------------------------------------------------------------
// all of it

bool answer_nodes_by_kind(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b);

// A relation whose value is a list with a relation in it could lead back here, hence the depth.
bool answer_nodes_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if (++w->steps > ANSWER_MAX_STEPS || w->depth > ANSWER_MAX_DEPTH) return false;
    w->depth++;
    bool equal = answer_nodes_by_kind(w, p, a, q, b);
    w->depth--;
    return equal;
}

bool answer_nodes_by_kind(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if ((p->power && q->power && p->power != q->power) || (p->unit && q->unit && p->unit != q->unit)) return false; // cm^2 is not cm^3, a.m. not p.m.
    AnswerNode *x = &p->v[a], *y = &q->v[b];
    bool list_a = x->kind == AN_LIST || x->kind == AN_SET, list_b = y->kind == AN_LIST || y->kind == AN_SET;
    bool pm = (p->pm && answer_contains(p, a, AN_PM)) || (q->pm && answer_contains(q, b, AN_PM));
    if (x->kind == AN_REL && y->kind == AN_REL && !pm) return answer_relations_equal(w, p, a, q, b);
    if (list_a && y->kind == AN_BRACKET && x->kind == AN_LIST && y->sub == '(' && y->close == ')') return answer_parts_equal(w, p, a, q, b);
    if (list_b && x->kind == AN_BRACKET && y->kind == AN_LIST && x->sub == '(' && x->close == ')') return answer_parts_equal(w, p, a, q, b);
    if (answer_intervals_equal(w, p, a, q, b)) return true;
    if (list_a || list_b || pm) return answer_lists_equal(w, p, a, q, b, false) || answer_lists_equal(w, p, a, q, b, true);
    if (x->kind == AN_REL || y->kind == AN_REL) {
        int u = x->kind == AN_REL ? answer_stated_value(w, p, a) : a, v = y->kind == AN_REL ? answer_stated_value(w, q, b) : b;
        if (u < 0 || v < 0) return false;
        return (p->v[u].kind == AN_REL || q->v[v].kind == AN_REL) ? false : answer_nodes_equal(w, p, u, q, v);
    }
    if (x->kind == AN_RATIO || y->kind == AN_RATIO) {
        if (x->kind == y->kind) return answer_ratios_equal(w, p, a, q, b);
        AnswerTree *r = x->kind == AN_RATIO ? p : q; // 3:5 is 3/5
        int ratio = x->kind == AN_RATIO ? a : b;
        if (r->v[ratio].count != 2) return false;
        int quotient = answer_node(r, AN_DIV, r->v[ratio].child);
        if (r->failed) return false;
        return r == p ? answer_values(w, p, quotient, 1, q, b, 1) : answer_values(w, p, a, 1, q, quotient, 1);
    }
    if (answer_contains(p, a, AN_MATRIX) && answer_contains(q, b, AN_MATRIX)) { // \frac{1}{2} times a matrix
        int u = answer_matrix_value(p, a), v = answer_matrix_value(q, b);
        if (u < 0 || v < 0) return answer_same(w, p, a, q, b);
        x = &p->v[u];
        y = &q->v[v];
        return x->count == y->count && x->number == y->number && x->sub == y->sub && answer_parts_equal(w, p, u, q, v);
    }
    if (answer_is_value(p, a) && answer_is_value(q, b)) return answer_values(w, p, a, 1, q, b, 1);
    // a column vector is the tuple of its entries
    if (x->kind == AN_MATRIX && x->count == 1 && !x->sub && y->kind == AN_BRACKET && y->sub == '(' && y->close == ')') return answer_parts_equal(w, p, a, q, b);
    if (y->kind == AN_MATRIX && y->count == 1 && !y->sub && x->kind == AN_BRACKET && x->sub == '(' && x->close == ')') return answer_parts_equal(w, p, a, q, b);
    if (x->kind != y->kind) return false;
    switch (x->kind) {
    case AN_BASE: return x->number == y->number && x->name == y->name;
    case AN_TEXT: return x->name == y->name;
    case AN_BRACKET: return x->sub == y->sub && x->close == y->close && x->count == y->count && answer_parts_equal(w, p, a, q, b);
    case AN_SETOP: return x->sub == y->sub && answer_parts_equal(w, p, a, q, b);
    case AN_UNION: return answer_lists_equal(w, p, a, q, b, false); // sets among intervals
    default: return answer_same(w, p, a, q, b);
    }
}

#endif
