/*
Do two trees mean the same? Structures part by part: tuples in order, lists and sets in any order, intervals with their
brackets, unions, inequalities as the intervals they describe, equations up to a factor, matrices entry by entry. Where
a part is a value, value.h decides. A left-hand side that only names the answer ("x =", "f(x) =", "x \in") may be
missing on one side.
*/
#ifndef LLMC_ANSWER_EQUAL_H
#define LLMC_ANSWER_EQUAL_H

#include "llmc/answer/interval.h" // answer_intervals_equal, answer_is_label
#include "llmc/answer/matrix.h"   // answer_matrix_value

bool answer_nodes_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b);

// ----------------------------------------------------------------------------
// relations

// left - right of a relation with two sides.
AnswerValue answer_difference(AnswerWork *w, const AnswerTree *p, int v) {
    int a = p->v[v].child;
    AnswerValue f = answer_eval(w, p, a, false), g = f.ok ? answer_eval(w, p, p->v[a].next, false) : f;
    if (!f.ok || !g.ok) return answer_none();
    const real_t x = answer_size(f), y = answer_size(g);
    w->absorbed |= fminl(x, y) > 0 && fminl(x, y) < fmaxl(x, y) * ANSWER_EPS;
    return answer_add(f, g, -1);
}

// Is left - right of the two the same up to a constant factor? Its sign in *sign; 0: not.
int answer_factor_sign(AnswerWork *w, const AnswerTree *p, int a, const AnswerTree *q, int b) {
    AnswerValue ratio = answer_none();
    int agreed = 0;
    bool variables = false, all_absorbed = true; // 1000! + y is 1000! at every point: no evidence
    w->hundredth = w->natural = false;
    w->sign = 1;
    for (w->point = 0; w->point < ANSWER_POINTS; w->point++) {
        w->variables = w->branched = w->absolute = w->absorbed = false;
        AnswerValue f = answer_difference(w, p, a), g = answer_difference(w, q, b);
        if (w->point > ANSWER_FAR && (w->branched || (w->point == ANSWER_POINTS - 1 && w->absolute))) continue;
        variables |= w->variables;
        if ((!f.ok && !g.ok) || ((w->point == ANSWER_FAR || w->point == ANSWER_POINTS - 1) && (!f.ok || !g.ok)))
            continue;
        if (!f.ok || !g.ok || answer_size(f) <= 100 * f.err) return 0;
        AnswerValue r = answer_div(f, g);
        if (!r.ok || (agreed > 0 && !answer_values_equal(r, ratio))) return 0;
        ratio = r;
        agreed++;
        all_absorbed &= w->absorbed;
    }
    if (agreed == 0 || all_absorbed || (!variables && fabsl(fabsl(ratio.re) - 1) > 1e-9L)) return 0;
    if (fabsl(ratio.im) > 1e-9L * fabsl(ratio.re)) return 2;
    return ratio.re > 0 ? 1 : -1;
}

// Do two variables of v differ in case alone (or one of them from the number e)? seen: what was met so far.
bool answer_case_matters(const AnswerTree *p, int v, const AnswerNode *seen[16], int *n) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_VAR) {
        for (int i = 0; i < *n; i++)
            if (seen[i]->folded == k->folded && seen[i]->name != k->name) return true;
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
                equal =
                    (i == 0 || rel == p->v[c].rel) && answer_nodes_equal(w, p, c, q, sides[way == 0 ? i : n - 1 - i]);
            }
            if (equal) return true;
        }
    }
    if (answer_intervals_equal(w, p, a, q, b)) return true;
    if (answer_all_rel(p, a, "i") && answer_all_rel(q, b, "i"))
        return answer_same(w, p, x->child, q, y->child) &&
               answer_nodes_equal(w, p, answer_last_side(p, a), q, answer_last_side(q, b));
    bool named = answer_is_label(p, x->child) && answer_is_label(q, y->child) && answer_all_rel(p, a, "=~") &&
                 answer_all_rel(q, b, "=~");
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

// As answer_stated_value; also the last of sides that are sets or lists or tuples and all equal.
int answer_stated_side(AnswerWork *w, AnswerTree *p, int v) {
    int value = answer_stated_value(w, p, v), last = answer_last_side(p, v);
    if (value >= 0 || !answer_all_rel(p, v, "=") || answer_is_value(p, last)) return value;
    for (int c = p->v[v].child; c != last; c = p->v[c].next)
        if (!answer_nodes_equal(w, p, c, p, last)) return -1;
    return last;
}

// ----------------------------------------------------------------------------
// lists

typedef struct {
    int node, sign;
} AnswerElement; // sign: what \pm is in it

// Appends v or, where \pm is in it, both its values; -1 if there are too many.
int answer_element(const AnswerTree *p, int v, AnswerElement *out, int n) {
    if (n < 0 || n + 2 > ANSWER_MAX_LIST) return -1;
    AnswerElement plus = {v, 1}, minus = {v, -1};
    out[n++] = plus;
    if (p->pm && (answer_is_value(p, v) || p->v[v].kind == AN_BRACKET) && answer_contains(p, v, AN_PM))
        out[n++] = minus;
    return n;
}

// The elements of a list or set; "x = 1, 2" loses its name. named: left-hand sides go, too.
int answer_elements(AnswerWork *w, AnswerTree *p, int v, AnswerElement *out, bool named) {
    int n = 0, kind = p->v[v].kind, others = 0;
    if (kind != AN_LIST && kind != AN_SET && kind != AN_UNION) {
        if (kind == AN_REL && (named || p->pm)) {
            int u = answer_stated_side(w, p, v);
            if (u >= 0) v = u;
            if (p->v[v].kind == AN_SET) return answer_elements(w, p, v, out, named);
        }
        return answer_element(p, v, out, 0);
    }
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) others += p->v[c].kind == AN_REL;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) {
        int u = c;
        if (p->v[c].kind == AN_REL && (named || (others == 1 && c == p->v[v].child))) u = answer_stated_value(w, p, c);
        if (u >= 0 && p->v[u].kind == AN_SET && kind == AN_LIST && p->v[v].count == 1)
            return answer_elements(w, p, u, out, named);
        if (u >= 0 && p->v[u].kind == AN_SET && kind == AN_UNION) { // \{1\} \cup \{2, 3\}
            for (int e = p->v[u].child; e >= 0; e = p->v[e].next) n = answer_element(p, e, out, n);
            continue;
        }
        n = answer_element(p, u < 0 ? c : u, out, n);
    }
    return n;
}

// What a list or an equation gives its values to: x of "x = 1, 2" and of "x = \pm 1"; -1: nothing, or each element its
// own.
int answer_list_label(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_LIST && k->count > 0) {
        k = &p->v[k->child];
        for (int c = k->next; c >= 0; c = p->v[c].next) { // "x = 1 or x = 2"
            if (p->v[c].kind == AN_REL && (k->kind != AN_REL || p->v[p->v[c].child].kind != AN_VAR ||
                                           p->v[p->v[c].child].name != p->v[k->child].name))
                return -1;
        }
    }
    if (k->kind != AN_REL) return -1;
    return answer_is_label(p, k->child) ? k->child : -1;
}

bool answer_has_relation(const AnswerTree *p, int v) {
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next)
        if (p->v[c].kind == AN_REL) return true;
    return p->v[v].kind == AN_REL;
}

// One element of each; tuples with \pm in them part by part.
bool answer_elements_equal(AnswerWork *w, AnswerTree *p, AnswerElement x, AnswerTree *q, AnswerElement y) {
    const AnswerNode *k = &p->v[x.node], *l = &q->v[y.node];
    if (answer_is_value(p, x.node) && answer_is_value(q, y.node))
        return answer_values(w, p, x.node, x.sign, q, y.node, y.sign);
    bool pm = (p->pm && answer_contains(p, x.node, AN_PM)) || (q->pm && answer_contains(q, y.node, AN_PM));
    if (!pm || k->kind != AN_BRACKET) return answer_nodes_equal(w, p, x.node, q, y.node);
    if (l->kind != AN_BRACKET || k->sub != l->sub || k->close != l->close || k->count != l->count ||
        ++w->steps > ANSWER_MAX_STEPS)
        return false;
    for (int c = k->child, d = l->child; c >= 0 && d >= 0; c = p->v[c].next, d = q->v[d].next) {
        if (!answer_is_value(p, c) || !answer_is_value(q, d) || !answer_values(w, p, c, x.sign, q, d, y.sign))
            return false;
    }
    return true;
}

// Takes elements of a set (or a union of sets) that are there twice out of its n elements; returns how many are left.
int answer_once(AnswerWork *w, AnswerTree *p, int v, AnswerElement *out, int n) {
    int left = 0;
    if (p->v[v].kind != AN_SET && p->v[v].kind != AN_UNION) return n;
    for (int i = 0; i < n; i++) {
        int j = 0;
        while (j < left && !answer_elements_equal(w, p, out[i], p, out[j])) j++;
        if (j == left) out[left++] = out[i];
    }
    return left;
}

bool answer_lists_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b, bool named) {
    AnswerElement x[ANSWER_MAX_LIST], y[ANSWER_MAX_LIST];
    bool used[ANSWER_MAX_LIST] = {false};
    int n = answer_elements(w, p, a, x, named), m = answer_elements(w, q, b, y, named);
    int label_a = answer_list_label(p, a), label_b = answer_list_label(q, b);
    if (n != m && n > 0 && m > 0) { // \{1, 1, 2\} has two elements
        n = answer_once(w, p, a, x, n);
        m = answer_once(w, q, b, y, m);
    }
    if (n < 0 || n != m || (label_a >= 0 && label_b >= 0 && !answer_same(w, p, label_a, q, label_b))) return false;
    if (named && !(label_a >= 0 && label_b >= 0) && answer_has_relation(p, a) && answer_has_relation(q, b))
        return false; // both name their elements: names count
    for (int i = 0; i < n; i++) {
        int j = 0;
        for (; j < m; j++) {
            if (used[j]) continue;
            if (answer_elements_equal(w, p, x[i], q, y[j])) break;
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

// The tuple of a named point, P(1, 2); -1 if v is none.
int answer_point(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v], *name = &p->v[k->child >= 0 ? k->child : 0];
    bool point = k->kind == AN_MUL && k->count == 2 && name->kind == AN_VAR && name->sub >= 'A' && name->sub <= 'Z' &&
                 p->v[name->next].kind == AN_BRACKET;
    return point ? name->next : -1;
}

// "3/4 or 0.75": a list of one value, twice?
bool answer_said_twice(AnswerWork *w, const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind != AN_LIST || k->close != 'o' || p->pm || !answer_is_value(p, k->child)) return false;
    for (int c = p->v[k->child].next; c >= 0; c = p->v[c].next) {
        if (!answer_is_value(p, c) || answer_same(w, p, k->child, p, c) || !answer_values(w, p, k->child, 1, p, c, 1))
            return false;
    }
    return true;
}

// (a, b) = (1, 2) and b = 2, a = 1?
bool answer_named_tuple(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if (p->v[a].count != 2 || !answer_all_rel(p, a, "=")) return false;
    const AnswerNode *names = &p->v[p->v[a].child], *values = &p->v[names->next], *list = &q->v[b];
    if (names->kind != AN_BRACKET || values->kind != AN_BRACKET || names->count != values->count ||
        names->count != list->count || names->count > 20)
        return false;
    for (int c = names->child, d = values->child; c >= 0; c = p->v[c].next, d = p->v[d].next) {
        int e = list->child;
        for (; e >= 0; e = q->v[e].next) {
            const AnswerNode *r = &q->v[e];
            if (r->kind == AN_REL && r->count == 2 && answer_all_rel(q, e, "=") && answer_same(w, p, c, q, r->child) &&
                answer_nodes_equal(w, p, d, q, q->v[r->child].next))
                break;
        }
        if (e < 0) return false;
    }
    return true;
}

// 2 \pmod 5 of x \equiv 2 \pmod 5: its first node, so that the name may be missing; -1 if v is no such relation.
int answer_residue(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind != AN_REL || p->v[answer_last_side(p, v)].rel != 'M') return -1;
    int second = p->v[k->child].next;
    return k->count == 3 && p->v[second].rel == 'e' && answer_is_label(p, k->child) ? second
           : k->count == 2                                                          ? k->child
                                                                                    : -1;
}

// The C of x^2 + C, in a sum of terms of one more variable at most; -1 if there is none.
int answer_integration_constant(const AnswerTree *p) {
    int v = p->v[p->root].kind == AN_REL && answer_all_rel(p, p->root, "=") ? answer_last_side(p, p->root) : p->root,
        constant = -1;
    uint64_t c = answer_hash_folded(ANSWER_HASH, "c", 1), other = 0;
    for (int i = p->v[v].kind == AN_ADD ? p->v[v].child : -1; i >= 0; i = p->v[i].next)
        if (p->v[i].kind == AN_VAR && p->v[i].folded == c) constant = i;
    for (int i = 0; i < p->n && constant >= 0; i++) {
        const AnswerNode *k = &p->v[i];
        if (k->kind != AN_VAR || i == constant) continue;
        if (k->folded == c || (other && other != k->name) || (k->sub | 32) == 'a' || (k->sub | 32) == 'b') return -1;
        other = k->name;
    }
    return constant;
}

// A relation whose value is a list with a relation in it could lead back here, hence the depth.
bool answer_nodes_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if (++w->steps > ANSWER_MAX_STEPS || w->depth > ANSWER_MAX_DEPTH) return false;
    w->depth++;
    bool equal = answer_nodes_by_kind(w, p, a, q, b);
    w->depth--;
    return equal;
}

// x > 2 and x < 5: an interval, not a tuple of its parts.
bool answer_has_inequality(const AnswerTree *p, int v) {
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next)
        if (p->v[c].kind == AN_REL && !answer_all_rel(p, c, "=~ieM")) return true;
    return false;
}

bool answer_nodes_by_kind(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    if ((p->power && q->power && p->power != q->power) || (p->unit && q->unit && p->unit != q->unit))
        return false; // cm^2 is not cm^3, a.m. not p.m.
    AnswerNode *x = &p->v[a], *y = &q->v[b];
    bool list_a = x->kind == AN_LIST || x->kind == AN_SET, list_b = y->kind == AN_LIST || y->kind == AN_SET;
    bool pm = (p->pm && answer_contains(p, a, AN_PM)) || (q->pm && answer_contains(q, b, AN_PM));
    int u = answer_residue(p, a), v = answer_residue(q, b);
    if (u >= 0 && v >= 0 && x->count != y->count)
        return answer_nodes_equal(w, p, u, q, v) && answer_nodes_equal(w, p, p->v[u].next, q, q->v[v].next);
    if (x->kind == AN_REL && y->kind == AN_REL && !pm) return answer_relations_equal(w, p, a, q, b);
    if (list_a && !pm && y->kind == AN_BRACKET && x->kind == AN_LIST && !answer_has_inequality(p, a) && y->sub == '(' &&
        y->close == ')')
        return answer_parts_equal(w, p, a, q, b);
    if (list_b && !pm && x->kind == AN_BRACKET && y->kind == AN_LIST && !answer_has_inequality(q, b) && x->sub == '(' &&
        x->close == ')')
        return answer_parts_equal(w, p, a, q, b);
    if (answer_intervals_equal(w, p, a, q, b)) return true;
    u = answer_point(p, a);
    v = answer_point(q, b);
    if ((u >= 0 && y->kind == AN_BRACKET) || (v >= 0 && x->kind == AN_BRACKET))
        return answer_nodes_equal(w, p, u >= 0 && y->kind == AN_BRACKET ? u : a, q,
                                  v >= 0 && x->kind == AN_BRACKET ? v : b);
    if (answer_said_twice(w, p, a)) return answer_nodes_equal(w, p, x->child, q, b);
    if (answer_said_twice(w, q, b)) return answer_nodes_equal(w, p, a, q, y->child);
    if (x->kind == AN_REL && y->kind == AN_LIST && answer_named_tuple(w, p, a, q, b)) return true;
    if (y->kind == AN_REL && x->kind == AN_LIST && answer_named_tuple(w, q, b, p, a)) return true;
    // 2, 3, 5 as [2, 3, 5]; [2, 3] would be an interval
    if (list_a && x->kind == AN_LIST && x->count > 2 && y->kind == AN_BRACKET && y->sub == '[' && y->close == ']')
        return answer_parts_equal(w, p, a, q, b);
    if (list_b && y->kind == AN_LIST && y->count > 2 && x->kind == AN_BRACKET && x->sub == '[' && x->close == ']')
        return answer_parts_equal(w, p, a, q, b);
    if (list_a || list_b || pm)
        return answer_lists_equal(w, p, a, q, b, false) || answer_lists_equal(w, p, a, q, b, true);
    if (x->kind == AN_REL || y->kind == AN_REL) {
        u = x->kind == AN_REL ? answer_stated_side(w, p, a) : a;
        v = y->kind == AN_REL ? answer_stated_side(w, q, b) : b;
        if (u < 0 || v < 0) return false;
        return (p->v[u].kind == AN_REL || q->v[v].kind == AN_REL) ? false : answer_nodes_equal(w, p, u, q, v);
    }
    if (x->kind == AN_RATIO || y->kind == AN_RATIO) {
        if (x->kind == y->kind) return answer_ratios_equal(w, p, a, q, b);
        AnswerTree *r = x->kind == AN_RATIO ? p : q; // 3:5 is 3/5
        int ratio = x->kind == AN_RATIO ? a : b;
        if (r->v[ratio].count != 2 || r->unit == ANSWER_UNIT_AM || r->unit == ANSWER_UNIT_PM) return false;
        int quotient = answer_node(r, AN_DIV, r->v[ratio].child);
        if (r->failed) return false;
        return r == p ? answer_values(w, p, quotient, 1, q, b, 1) : answer_values(w, p, a, 1, q, quotient, 1);
    }
    if (answer_contains(p, a, AN_MATRIX) && answer_contains(q, b, AN_MATRIX)) { // \frac{1}{2} times a matrix
        u = answer_matrix_value(p, a);
        v = answer_matrix_value(q, b);
        if (u < 0 || v < 0) return answer_same(w, p, a, q, b);
        x = &p->v[u];
        y = &q->v[v];
        return x->count == y->count && x->number == y->number && x->sub == y->sub && answer_parts_equal(w, p, u, q, v);
    }
    if (answer_is_value(p, a) && answer_is_value(q, b)) return answer_values(w, p, a, 1, q, b, 1);
    // a column vector is the tuple of its entries
    if (x->kind == AN_MATRIX && x->count == 1 && !x->sub && y->kind == AN_BRACKET &&
        (y->sub == '(') == (y->close == ')'))
        return answer_parts_equal(w, p, a, q, b);
    if (y->kind == AN_MATRIX && y->count == 1 && !y->sub && x->kind == AN_BRACKET &&
        (x->sub == '(') == (x->close == ')'))
        return answer_parts_equal(w, p, a, q, b);
    if (x->kind != y->kind) return false;
    switch (x->kind) {
    case AN_BASE: return x->number == y->number && x->name == y->name;
    case AN_TEXT: return x->name == y->name;
    case AN_BRACKET:
        return x->sub == y->sub && x->close == y->close && x->count == y->count && answer_parts_equal(w, p, a, q, b);
    case AN_SETOP: return x->sub == y->sub && answer_parts_equal(w, p, a, q, b);
    case AN_UNION: return answer_lists_equal(w, p, a, q, b, false); // sets among intervals
    default: return answer_same(w, p, a, q, b);
    }
}

#endif
