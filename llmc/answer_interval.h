/*
Relations and intervals: what a relation names, which value it states, which intervals it describes.
*/
#ifndef LLMC_ANSWER_INTERVAL_H
#define LLMC_ANSWER_INTERVAL_H

#include "answer_value.h" // answer_values

#define ANSWER_MAX_LIST 200

// Does v only name something: x, a_3, f(x), AB, (x, y), \frac{NO}{BO}, \angle A?
bool answer_is_label(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_VAR || k->kind == AN_CALL || k->kind == AN_TEXT) return true;
    if (k->kind == AN_CONST) return k->sub == 'e' || k->sub == 'i'; // a variable e, as in e = 5
    if (k->kind == AN_POW) return answer_is_label(p, k->child) && p->v[p->v[k->child].next].kind == AN_NEG; // f^{-1}
    if (k->kind == AN_FUNC) return answer_is_label(p, k->child);
    if (k->kind != AN_MUL && k->kind != AN_DIV && k->kind != AN_BRACKET && k->kind != AN_RATIO && k->kind != AN_SETOP && k->kind != AN_UNION && k->kind != AN_MATRIX) return false;
    bool capitals = k->kind == AN_MUL;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        const AnswerNode *x = &p->v[c];
        bool measure = c == k->child && x->kind == AN_VAR && x->sub == 'm' && p->v[x->next].kind == AN_VAR && p->v[x->next].sub == 'A'; // m\angle ABC
        capitals &= measure || (x->kind == AN_VAR && x->sub >= 'A' && x->sub <= 'Z');
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

// One interval. A node of -1 is unbounded; the signs say what \pm is in a bound.
typedef struct { int low, high, low_sign, high_sign; bool low_in, high_in; } AnswerInterval;

// A set of intervals that is being built; failed: the tree describes none.
typedef struct { AnswerInterval v[ANSWER_MAX_LIST]; int n, name; bool failed; } AnswerIntervals; // name: the variable, -1 outside inequalities

bool answer_is_open_end(const AnswerTree *p, int v) { return v < 0 || answer_infinity(p, v) != 0; }

bool answer_is_reals(const AnswerTree *p, int v) {
    static const char *const names[] = {"mathbb{R}", "mathbf{R}", "mathrm{R}"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (p->v[v].kind == AN_VAR && p->v[v].name == answer_hash(ANSWER_HASH, names[i], strlen(names[i]))) return true;
    }
    return false;
}

void answer_add_interval(const AnswerTree *p, AnswerIntervals *s, int low, bool low_in, int high, bool high_in) {
    AnswerInterval x = {low, high, 1, 1, low_in, high_in};
    if (answer_is_open_end(p, low)) { x.low = -1; x.low_in = false; }
    if (answer_is_open_end(p, high)) { x.high = -1; x.high_in = false; }
    if (s->n == ANSWER_MAX_LIST) s->failed = true;
    else s->v[s->n++] = x;
}

// The real number that node v is; false if it is none.
bool answer_real_number(AnswerWork *w, const AnswerTree *p, int v, int sign, real_t *x) {
    w->point = 0;
    w->variables = w->hundredth = w->natural = false;
    w->sign = sign;
    AnswerValue value = answer_eval(w, p, v, false);
    *x = value.re;
    return value.ok && value.im == 0 && !w->variables;
}

// Like a - b, but 0 where they differ by no more than rounding.
real_t answer_apart(real_t a, real_t b) { return fabsl(a - b) <= 1e-15L * (fabsl(a) + fabsl(b)) ? 0 : a - b; }

// Takes the point v out of the intervals from `from` on.
void answer_cut(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from, int v, int sign) {
    real_t at, low = 0, high = 0;
    bool known = answer_real_number(w, p, v, sign, &at);
    for (int i = from, n = s->n; i < n && !s->failed; i++) {
        AnswerInterval *x = &s->v[i], right = *x;
        bool line = x->low < 0 && x->high < 0;
        if (!known && (!line || n > from + 1)) { s->failed = true; return; } // which of the two would have to be known
        if (x->low >= 0 && !answer_real_number(w, p, x->low, x->low_sign, &low)) s->failed = true;
        if (x->high >= 0 && !answer_real_number(w, p, x->high, x->high_sign, &high)) s->failed = true;
        if (x->low >= 0 && answer_apart(at, low) <= 0) { x->low_in &= answer_apart(at, low) != 0; continue; }
        if (x->high >= 0 && answer_apart(high, at) <= 0) { x->high_in &= answer_apart(high, at) != 0; continue; }
        if (s->n == ANSWER_MAX_LIST) { s->failed = true; return; }
        x->high = right.low = v;
        x->high_sign = right.low_sign = sign;
        x->high_in = right.low_in = false;
        s->v[s->n++] = right;
    }
}

// The same for a value, both values of \pm, or the elements of a set.
void answer_cut_all(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from, int v) {
    if (p->v[v].kind == AN_SET) {
        for (int c = p->v[v].child; c >= 0 && !s->failed; c = p->v[c].next) answer_cut_all(w, p, s, from, c);
        return;
    }
    if (!answer_is_value(p, v)) { s->failed = true; return; }
    answer_cut(w, p, s, from, v, 1);
    if (p->pm && answer_contains(p, v, AN_PM)) answer_cut(w, p, s, from, v, -1);
}

void answer_name_variable(const AnswerTree *p, AnswerIntervals *s, int v) {
    if (s->name >= 0 && p->v[s->name].name != p->v[v].name) s->failed = true; // x < 0, y < 0
    s->name = v;
}

// |x| or |x - a| between bounds (-1: none), by new nodes.
void answer_absolute_intervals(AnswerTree *p, AnswerIntervals *s, int inside, int low, bool low_in, int high, bool high_in) {
    int shift = -1;
    if (p->v[inside].kind == AN_ADD && p->v[inside].count == 2) { // a of x - a, negated
        shift = p->v[p->v[inside].child].next;
        inside = p->v[inside].child;
    }
    if (!answer_is_label(p, inside) || (low < 0 && high < 0)) { s->failed = true; return; }
    answer_name_variable(p, s, inside);
    int ends[4] = {-1, -1, -1, -1}, bounds[2] = {low, high}; // -low, low, -high, high, each moved by the shift
    for (int i = 0; i < 4; i++) {
        if (bounds[i / 2] < 0) continue;
        int end = answer_node(p, AN_NEG, bounds[i / 2]); // twice negated it is itself, in no list
        if (i % 2) end = answer_node(p, AN_NEG, end);
        if (shift >= 0) end = answer_node2(p, AN_ADD, end, answer_node(p, AN_NEG, shift));
        if (p->failed) { s->failed = true; return; }
        ends[i] = end;
    }
    if (low < 0) { answer_add_interval(p, s, ends[2], high_in, ends[3], high_in); return; }
    answer_add_interval(p, s, ends[2], high_in, ends[0], low_in);
    answer_add_interval(p, s, ends[1], low_in, ends[3], high_in);
}

void answer_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s);

// a < x < b, x >= a, x \ne a, x \in (a, b)
void answer_relation_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    int a = p->v[v].child, b = p->v[a].next, c = p->v[b].next, r = p->v[b].rel, second = c >= 0 ? p->v[c].rel : 0;
    int middle = b, low = -1, high = -1;
    bool low_in = false, high_in = false;
    s->failed |= p->v[v].count > 3 || r == 0;
    if (s->failed) return;
    if (c >= 0) {
        bool up = strchr("<l", r) && strchr("<l", second), down = strchr(">g", r) && strchr(">g", second);
        if (up) { low = a; high = c; low_in = r == 'l'; high_in = second == 'l'; }
        else if (down) { low = c; high = a; low_in = second == 'g'; high_in = r == 'g'; }
        else { s->failed = true; return; }
    } else {
        if (r == 'i') {
            answer_name_variable(p, s, a);
            answer_intervals(w, p, b, s);
            return;
        }
        if (!strchr("<>lg!", r)) { s->failed = true; return; }
        bool flipped = !answer_is_label(p, a) && answer_is_label(p, b);
        middle = flipped ? b : a;
        int bound = flipped ? a : b;
        if (r == '!') {
            s->failed |= !answer_is_label(p, middle);
            answer_name_variable(p, s, middle);
            answer_add_interval(p, s, -1, false, -1, false);
            if (!s->failed) answer_cut_all(w, p, s, s->n - 1, bound);
            return;
        }
        bool less = (r == '<' || r == 'l') != flipped, in = r == 'l' || r == 'g';
        if (less) { high = bound; high_in = in; } else { low = bound; low_in = in; }
    }
    if (p->v[middle].kind == AN_FUNC && p->v[middle].sub == FN_ABS) {
        if (answer_is_open_end(p, low)) low = -1;
        if (answer_is_open_end(p, high)) high = -1;
        answer_absolute_intervals(p, s, p->v[middle].child, low, low_in, high, high_in);
        return;
    }
    s->failed |= !answer_is_label(p, middle);
    answer_name_variable(p, s, middle);
    answer_add_interval(p, s, low, low_in, high, high_in);
}

// Relations in a list: what is not equal cuts points out of the rest, x > 2 and x < 3 lie between if they meet.
void answer_list_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    int from = s->n, first = p->v[v].child;
    bool cuts = false;
    for (int way = 0; way < 2; way++) { // the cuts come last
        for (int c = first; c >= 0 && !s->failed; c = p->v[c].next) {
            bool relation = p->v[c].kind == AN_REL, cut = relation && p->v[c].count == 2 && p->v[p->v[p->v[c].child].next].rel == '!';
            bool more = !relation && p->v[first].kind == AN_REL && p->v[p->v[p->v[first].child].next].rel == '!'; // -1 of x \ne 1, -1
            if (!relation && !more) { s->failed = true; return; }
            cuts |= cut || more;
            if (way == 0 && !cut && !more) answer_intervals(w, p, c, s);
            if (way == 0 || !(cut || more)) continue;
            if (cut) answer_name_variable(p, s, p->v[c].child);
            answer_cut_all(w, p, s, from, cut ? p->v[p->v[c].child].next : c);
        }
        if (way == 0 && cuts && s->n == from) answer_add_interval(p, s, -1, false, -1, false);
    }
    if (s->failed || s->n != from + 2) return;
    AnswerInterval *x = &s->v[from], *y = x + 1, *up = x->high < 0 ? x : y, *down = up == x ? y : x;
    real_t low, high;
    if (x->low < 0 ? x->high < 0 || y->low < 0 : x->high >= 0 || y->low >= 0) return; // one has the lower end, the other the upper
    if (up->low < 0 || down->high < 0 || up->high >= 0 || down->low >= 0) return;
    if (!answer_real_number(w, p, up->low, up->low_sign, &low) || !answer_real_number(w, p, down->high, down->high_sign, &high) || low >= high) return;
    AnswerInterval both = {up->low, down->high, up->low_sign, down->high_sign, up->low_in, down->high_in};
    *x = both;
    s->n--;
}

// Adds the intervals that node v describes.
void answer_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    const AnswerNode *k = &p->v[v];
    int from = s->n;
    if (s->failed || ++w->steps > ANSWER_MAX_STEPS) { s->failed = true; return; }
    if (answer_is_reals(p, v)) answer_add_interval(p, s, -1, false, -1, false);
    else if (k->kind == AN_UNION) {
        for (int c = k->child; c >= 0 && !s->failed; c = p->v[c].next) answer_intervals(w, p, c, s);
    } else if (k->kind == AN_LIST) answer_list_intervals(w, p, v, s);
    else if (k->kind == AN_SETOP && k->sub == '-') {
        answer_intervals(w, p, k->child, s);
        if (!s->failed) answer_cut_all(w, p, s, from, p->v[k->child].next);
    } else if (k->kind == AN_BRACKET && k->count == 2 && !(p->pm && answer_contains(p, v, AN_PM))) {
        answer_add_interval(p, s, k->child, k->sub == '[', p->v[k->child].next, k->close == ']');
    } else if (k->kind == AN_REL) answer_relation_intervals(w, p, v, s);
    else s->failed = true;
}

// Joins what overlaps or touches, in ascending order, where all bounds are known numbers.
void answer_join_intervals(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s) {
    real_t low[ANSWER_MAX_LIST], high[ANSWER_MAX_LIST];
    for (int i = 0; i < s->n; i++) {
        AnswerInterval x = s->v[i];
        real_t a = -INFINITY, b = INFINITY;
        if ((x.low >= 0 && !answer_real_number(w, p, x.low, x.low_sign, &a)) || (x.high >= 0 && !answer_real_number(w, p, x.high, x.high_sign, &b)) || !(a < b)) return;
        int j = i;
        for (; j > 0 && (a < low[j - 1] || (a == low[j - 1] && x.low_in && !s->v[j - 1].low_in)); j--) {
            s->v[j] = s->v[j - 1];
            low[j] = low[j - 1];
            high[j] = high[j - 1];
        }
        s->v[j] = x;
        low[j] = a;
        high[j] = b;
    }
    int n = 0;
    for (int i = 1; i < s->n; i++) {
        AnswerInterval *x = &s->v[n], *y = &s->v[i];
        real_t gap = isinf(high[n]) ? -1 : isinf(low[i]) ? -1 : answer_apart(low[i], high[n]);
        if (gap > 0 || (gap == 0 && !x->high_in && !y->low_in)) { // apart
            s->v[++n] = *y;
            high[n] = high[i];
            continue;
        }
        if (high[i] > high[n] || (high[i] == high[n] && y->high_in)) {
            x->high = y->high;
            x->high_sign = y->high_sign;
            x->high_in = y->high_in;
            high[n] = high[i];
        }
    }
    if (s->n > 0) s->n = n + 1;
}

bool answer_bounds_equal(AnswerWork *w, AnswerTree *p, int a, int sa, AnswerTree *q, int b, int sb) {
    return a < 0 || b < 0 ? a < 0 && b < 0 : answer_values(w, p, a, sa, q, b, sb);
}

bool answer_intervals_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    AnswerIntervals s, t;
    s.n = t.n = 0;
    s.name = t.name = -1;
    s.failed = t.failed = false;
    answer_intervals(w, p, a, &s);
    if (s.failed || s.n == 0) return false;
    answer_intervals(w, q, b, &t);
    if (t.failed || (s.name >= 0 && t.name >= 0 && !answer_same(w, p, s.name, q, t.name))) return false;
    if (s.n > 1) answer_join_intervals(w, p, &s);
    if (t.n > 1) answer_join_intervals(w, q, &t);
    if (s.n != t.n) return false;
    bool used[ANSWER_MAX_LIST] = {false};
    for (int i = 0; i < s.n; i++) {
        int j = 0;
        for (; j < t.n; j++) {
            const AnswerInterval *x = &s.v[i], *y = &t.v[j];
            if (!used[j] && x->low_in == y->low_in && x->high_in == y->high_in && answer_bounds_equal(w, p, x->low, x->low_sign, q, y->low, y->low_sign)
                && answer_bounds_equal(w, p, x->high, x->high_sign, q, y->high, y->high_sign)) break;
        }
        if (j == t.n) return false;
        used[j] = true;
    }
    return true;
}

#endif
