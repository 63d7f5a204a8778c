/*
Sets of real numbers as intervals (points among them): what brackets, inequalities, unions, sections and differences
describe, and whether two of them are the same.
*/
#ifndef LLMC_ANSWER_INTERVAL_H
#define LLMC_ANSWER_INTERVAL_H

#include "llmc/answer/relation.h" // answer_is_label, answer_all_rel

#define ANSWER_MAX_LIST 200

// One interval. A node of -1 is unbounded; the signs say what \pm is in a bound.
typedef struct {
    int low, high, low_sign, high_sign;
    bool low_in, high_in;
} AnswerInterval;

// A set of intervals that is being built; failed: the tree describes none.
typedef struct {
    AnswerInterval v[ANSWER_MAX_LIST];
    int n, name;
    bool failed;
} AnswerIntervals; // name: the variable, -1 outside inequalities

bool answer_is_open_end(const AnswerTree *p, int v) { return v < 0 || answer_infinity(p, v) != 0; }

// \mathbb{R}: 'R'; with a sign above it, \mathbb{R}^+, that sign (* stands for all but 0); else 0.
int answer_reals(const AnswerTree *p, int v) {
    static const char *const names[] = {"mathbb{R}", "mathbf{R}", "mathrm{R}"};
    int sign = 'R';
    for (const char *c = "+-*"; *c && p->v[v].kind == AN_CALL && sign == 'R'; c++)
        if (p->v[v].name == answer_sign_name(*c)) sign = *c;
    if (p->v[v].kind == AN_CALL && sign != 'R') v = p->v[v].child;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (p->v[v].kind == AN_VAR && p->v[v].name == answer_hash(ANSWER_HASH, names[i], strlen(names[i]))) return sign;
    }
    return 0;
}

void answer_add_interval(const AnswerTree *p, AnswerIntervals *s, int low, bool low_in, int high, bool high_in) {
    AnswerInterval x = {low, high, 1, 1, low_in, high_in};
    if (answer_is_open_end(p, low)) {
        x.low = -1;
        x.low_in = false;
    }
    if (answer_is_open_end(p, high)) {
        x.high = -1;
        x.high_in = false;
    }
    if (s->n == ANSWER_MAX_LIST) s->failed = true;
    else s->v[s->n++] = x;
}

// The points of a set, each an interval from itself to itself.
void answer_add_points(const AnswerTree *p, AnswerIntervals *s, int v) {
    for (int c = p->v[v].child; c >= 0 && !s->failed; c = p->v[c].next) {
        bool twice = p->pm && answer_contains(p, c, AN_PM);
        for (int sign = 1; sign >= (twice ? -1 : 1) && !s->failed; sign -= 2) {
            AnswerInterval x = {c, c, sign, sign, true, true};
            s->failed |= !answer_is_value(p, c) || answer_infinity(p, c) || s->n == ANSWER_MAX_LIST;
            if (!s->failed) s->v[s->n++] = x;
        }
    }
}

void answer_add_reals(AnswerTree *p, AnswerIntervals *s, int sign) {
    int zero = sign == 'R' ? -1 : answer_integer(p, 0);
    s->failed |= p->failed;
    if (sign != '+' && !s->failed) answer_add_interval(p, s, -1, false, zero, false);
    if ((sign == '+' || sign == '*') && !s->failed) answer_add_interval(p, s, zero, false, -1, false);
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
real_t answer_apart(real_t a, real_t b) {
    if (isinf(a) || isinf(b)) return a == b ? 0 : a - b;
    return fabsl(a - b) <= 1e-15L * (fabsl(a) + fabsl(b)) ? 0 : a - b;
}

// Takes the point v out of the intervals from `from` on.
void answer_cut(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from, int v, int sign) {
    real_t at, low = 0, high = 0;
    bool known = answer_real_number(w, p, v, sign, &at);
    for (int i = from, n = s->n; i < n && !s->failed; i++) {
        AnswerInterval *x = &s->v[i], right = *x;
        bool line = x->low < 0 && x->high < 0;
        if (!known && (!line || n > from + 1)) {
            s->failed = true;
            return;
        } // which of the two would have to be known
        if (x->low >= 0 && !answer_real_number(w, p, x->low, x->low_sign, &low)) s->failed = true;
        if (x->high >= 0 && !answer_real_number(w, p, x->high, x->high_sign, &high)) s->failed = true;
        if (x->low >= 0 && answer_apart(at, low) <= 0) {
            x->low_in &= answer_apart(at, low) != 0;
            continue;
        }
        if (x->high >= 0 && answer_apart(high, at) <= 0) {
            x->high_in &= answer_apart(high, at) != 0;
            continue;
        }
        if (s->n == ANSWER_MAX_LIST) {
            s->failed = true;
            return;
        }
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
    if (!answer_is_value(p, v)) {
        s->failed = true;
        return;
    }
    answer_cut(w, p, s, from, v, 1);
    if (p->pm && answer_contains(p, v, AN_PM)) answer_cut(w, p, s, from, v, -1);
}

void answer_name_variable(const AnswerTree *p, AnswerIntervals *s, int v) {
    if (s->name >= 0 && p->v[s->name].name != p->v[v].name) s->failed = true; // x < 0, y < 0
    s->name = v;
}

// |x| or |x - a| between bounds (-1: none), by new nodes.
void answer_absolute_intervals(AnswerTree *p, AnswerIntervals *s, int inside, int low, bool low_in, int high,
                               bool high_in) {
    int shift = -1;
    if (p->v[inside].kind == AN_ADD && p->v[inside].count == 2) { // a of x - a, negated
        shift = p->v[p->v[inside].child].next;
        inside = p->v[inside].child;
    }
    if (!answer_is_label(p, inside) || (low < 0 && high < 0)) {
        s->failed = true;
        return;
    }
    answer_name_variable(p, s, inside);
    int ends[4] = {-1, -1, -1, -1}, bounds[2] = {low, high}; // -low, low, -high, high, each moved by the shift
    for (int i = 0; i < 4; i++) {
        if (bounds[i / 2] < 0) continue;
        int end = answer_node(p, AN_NEG, bounds[i / 2]); // twice negated it is itself, in no list
        if (i % 2) end = answer_node(p, AN_NEG, end);
        if (shift >= 0) end = answer_node2(p, AN_ADD, end, answer_node(p, AN_NEG, shift));
        if (p->failed) {
            s->failed = true;
            return;
        }
        ends[i] = end;
    }
    if (low < 0) {
        answer_add_interval(p, s, ends[2], high_in, ends[3], high_in);
        return;
    }
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
        if (up) {
            low = a;
            high = c;
            low_in = r == 'l';
            high_in = second == 'l';
        } else if (down) {
            low = c;
            high = a;
            low_in = second == 'g';
            high_in = r == 'g';
        } else {
            s->failed = true;
            return;
        }
    } else {
        if (r == 'i') {
            answer_name_variable(p, s, a);
            answer_intervals(w, p, b, s);
            return;
        }
        if (!strchr("<>lg!", r)) {
            s->failed = true;
            return;
        }
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
        if (less) {
            high = bound;
            high_in = in;
        } else {
            low = bound;
            low_in = in;
        }
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

// Two half-lines that meet become what lies between: x > 2 and x < 3.
void answer_between(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from) {
    if (s->failed || s->n != from + 2) return;
    AnswerInterval *x = &s->v[from], *y = x + 1, *up = x->high < 0 ? x : y, *down = up == x ? y : x;
    real_t low, high;
    if (x->low < 0 ? x->high < 0 || y->low < 0 : x->high >= 0 || y->low >= 0)
        return; // one has the lower end, the other the upper
    if (up->low < 0 || down->high < 0 || up->high >= 0 || down->low >= 0) return;
    if (!answer_real_number(w, p, up->low, up->low_sign, &low) ||
        !answer_real_number(w, p, down->high, down->high_sign, &high) || low >= high)
        return;
    AnswerInterval both = {up->low, down->high, up->low_sign, down->high_sign, up->low_in, down->high_in};
    *x = both;
    s->n--;
}

// Relations in a list: what is not equal cuts points out of the rest, x > 2 and x < 3 (but not "x > 2 or x < 3") lie
// between if they meet.
void answer_list_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    int from = s->n, first = p->v[v].child;
    bool cuts = false;
    for (int way = 0; way < 2; way++) { // the cuts come last
        for (int c = first; c >= 0 && !s->failed; c = p->v[c].next) {
            bool relation = p->v[c].kind == AN_REL,
                 cut = relation && p->v[c].count == 2 && p->v[p->v[p->v[c].child].next].rel == '!';
            bool more = !relation && p->v[first].kind == AN_REL &&
                        p->v[p->v[p->v[first].child].next].rel == '!'; // -1 of x \ne 1, -1
            if (!relation && !more) {
                s->failed = true;
                return;
            }
            cuts |= cut || more;
            if (way == 0 && !cut && !more) answer_intervals(w, p, c, s);
            if (way == 0 || !(cut || more)) continue;
            if (cut) answer_name_variable(p, s, p->v[c].child);
            answer_cut_all(w, p, s, from, cut ? p->v[p->v[c].child].next : c);
        }
        if (way == 0 && p->v[v].close != 'o') answer_between(w, p, s, from);
        if (way == 0 && cuts && s->n == from) answer_add_interval(p, s, -1, false, -1, false);
    }
}

// Where the ends of an interval are, in ends[2]; false if they are no known numbers.
bool answer_ends(AnswerWork *w, const AnswerTree *p, const AnswerInterval *x, real_t ends[2]) {
    ends[0] = -INFINITY;
    ends[1] = INFINITY;
    return (x->low < 0 || answer_real_number(w, p, x->low, x->low_sign, &ends[0])) &&
           (x->high < 0 || answer_real_number(w, p, x->high, x->high_sign, &ends[1]));
}

// Is end a of one interval left (-1) or right (1) of end b of another, or the same (0)? Floating point alone must not
// say that they are the same.
int answer_order(AnswerWork *w, const AnswerTree *p, int a, int sa, real_t x, int b, int sb, real_t y, bool *failed) {
    real_t apart = answer_apart(x, y);
    if (apart == 0 && a >= 0 && b >= 0 && (a != b || sa != sb) && !answer_values(w, p, a, sa, p, b, sb)) *failed = true;
    return apart < 0 ? -1 : apart > 0;
}

// Joins the intervals from `from` on that overlap or touch, in ascending order, and leaves out empty ones; false (and
// nothing done) where a bound is no known number.
bool answer_join_intervals(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from) {
    real_t ends[ANSWER_MAX_LIST][2], e[2];
    AnswerInterval sorted[ANSWER_MAX_LIST];
    bool failed = false;
    int n = 0;
    for (int i = from; i < s->n; i++) {
        AnswerInterval x = s->v[i];
        if (!answer_ends(w, p, &x, e) || e[0] > e[1]) return false;
        if (answer_order(w, p, x.low, x.low_sign, e[0], x.high, x.high_sign, e[1], &failed) == 0 &&
            !(x.low_in && x.high_in))
            continue;
        int j = n++;
        for (; j > 0 && (e[0] < ends[j - 1][0] || (e[0] == ends[j - 1][0] && x.low_in && !sorted[j - 1].low_in)); j--) {
            sorted[j] = sorted[j - 1];
            memcpy(ends[j], ends[j - 1], sizeof e);
        }
        sorted[j] = x;
        memcpy(ends[j], e, sizeof e);
    }
    int out = 0;
    if (failed) return false;
    for (int i = 1; i < n; i++) {
        AnswerInterval *x = &sorted[out], *y = &sorted[i];
        int gap = answer_order(w, p, y->low, y->low_sign, ends[i][0], x->high, x->high_sign, ends[out][1], &failed);
        if (gap > 0 || (gap == 0 && !x->high_in && !y->low_in)) { // apart
            sorted[++out] = *y;
            memmove(ends[out], ends[i], sizeof e);
            continue;
        }
        if (ends[i][1] > ends[out][1] || (ends[i][1] == ends[out][1] && y->high_in)) {
            x->high = y->high;
            x->high_sign = y->high_sign;
            x->high_in = y->high_in;
            ends[out][1] = ends[i][1];
        }
    }
    s->n = from + (n > 0 ? out + 1 : 0);
    memcpy(s->v + from, sorted, (size_t)(s->n - from) * sizeof sorted[0]);
    return !failed;
}

// Makes what all but those from `from` on cover of them; they are joined.
void answer_complement(AnswerIntervals *s, int from) {
    AnswerInterval gap = {-1, -1, 1, 1, false, false};
    int n = from;
    bool open = true; // does the line go on?
    for (int i = from; i < s->n; i++) {
        AnswerInterval x = s->v[i];
        gap.high = x.low;
        gap.high_sign = x.low_sign;
        gap.high_in = !x.low_in;
        if (x.low >= 0) s->v[n++] = gap;
        gap.low = x.high;
        gap.low_sign = x.high_sign;
        gap.low_in = !x.high_in;
        open = x.high >= 0;
    }
    s->n = n;
    gap.high = -1;
    gap.high_in = false;
    if (!open) return;
    if (n == ANSWER_MAX_LIST) {
        s->failed = true;
        return;
    }
    s->v[s->n++] = gap;
}

// What the intervals from `from` to `middle` have in common with those from there on, in their place.
void answer_meet(AnswerWork *w, const AnswerTree *p, AnswerIntervals *s, int from, int middle) {
    real_t ends[ANSWER_MAX_LIST][2];
    AnswerInterval common[ANSWER_MAX_LIST];
    int n = 0;
    for (int i = from; i < s->n; i++)
        if (!answer_ends(w, p, &s->v[i], ends[i])) {
            s->failed = true;
            return;
        }
    for (int i = from; i < middle; i++) {
        for (int j = middle; j < s->n; j++) {
            AnswerInterval x = s->v[i], *y = &s->v[j];
            if (++w->steps > ANSWER_MAX_STEPS) s->failed = true;
            int low = answer_order(w, p, x.low, x.low_sign, ends[i][0], y->low, y->low_sign, ends[j][0], &s->failed);
            int high =
                answer_order(w, p, x.high, x.high_sign, ends[i][1], y->high, y->high_sign, ends[j][1], &s->failed);
            if (low == 0) x.low_in &= y->low_in;
            if (high == 0) x.high_in &= y->high_in;
            if (low < 0) {
                x.low = y->low;
                x.low_sign = y->low_sign;
                x.low_in = y->low_in;
            }
            if (high > 0) {
                x.high = y->high;
                x.high_sign = y->high_sign;
                x.high_in = y->high_in;
            }
            int order = answer_order(w, p, x.low, x.low_sign, ends[low < 0 ? j : i][0], x.high, x.high_sign,
                                     ends[high > 0 ? j : i][1], &s->failed);
            if (s->failed) return;
            if (order > 0 || (order == 0 && !(x.low_in && x.high_in))) continue;
            if (n == ANSWER_MAX_LIST) {
                s->failed = true;
                return;
            }
            common[n++] = x;
        }
    }
    memcpy(s->v + from, common, (size_t)n * sizeof common[0]);
    s->n = from + n;
}

// A \cap B, A \setminus B. Points may be taken out of intervals whose ends are not known numbers.
void answer_setop_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    int from = s->n, left = p->v[v].child, right = p->v[left].next;
    bool minus = p->v[v].sub == '-',
         unclear = !p->v[left].paren &&
                   (p->v[left].kind == AN_UNION || (p->v[left].kind == AN_SETOP && p->v[left].sub == '-'));
    answer_intervals(w, p, left, s);
    int middle = s->n;
    if (!minus && unclear) s->failed = true; // A \cup B \cap C may be meant in two ways
    if (s->failed) return;
    AnswerIntervals other = *s;
    answer_intervals(w, p, right, &other);
    if (!other.failed && answer_join_intervals(w, p, &other, middle)) {
        *s = other;
        if (minus) answer_complement(s, middle);
        if (!s->failed) answer_meet(w, p, s, from, middle);
    } else if (minus) answer_cut_all(w, p, s, from, right);
    else s->failed = true;
}

// Adds the intervals that node v describes.
void answer_intervals(AnswerWork *w, AnswerTree *p, int v, AnswerIntervals *s) {
    const AnswerNode *k = &p->v[v];
    if (s->failed || ++w->steps > ANSWER_MAX_STEPS) {
        s->failed = true;
        return;
    }
    int reals = answer_reals(p, v);
    if (reals) answer_add_reals(p, s, reals);
    else if (k->kind == AN_SET) answer_add_points(p, s, v);
    else if (k->kind == AN_UNION) {
        for (int c = k->child; c >= 0 && !s->failed; c = p->v[c].next) answer_intervals(w, p, c, s);
    } else if (k->kind == AN_LIST) answer_list_intervals(w, p, v, s);
    else if (k->kind == AN_SETOP) answer_setop_intervals(w, p, v, s);
    else if (k->kind == AN_BRACKET && k->count == 2 && !(p->pm && answer_contains(p, v, AN_PM))) {
        answer_add_interval(p, s, k->child, k->sub == '[', p->v[k->child].next, k->close == ']');
    } else if (k->kind == AN_REL) answer_relation_intervals(w, p, v, s);
    else s->failed = true;
}

bool answer_bounds_equal(AnswerWork *w, AnswerTree *p, int a, int sa, AnswerTree *q, int b, int sb) {
    return a < 0 || b < 0 ? a < 0 && b < 0 : answer_values(w, p, a, sa, q, b, sb);
}

bool answer_intervals_equal(AnswerWork *w, AnswerTree *p, int a, AnswerTree *q, int b) {
    AnswerIntervals s, t;
    if (p->v[a].kind == AN_SET && q->v[b].kind == AN_SET) return false; // element by element, not as points of a line
    s.n = t.n = 0;
    s.name = t.name = -1;
    s.failed = t.failed = false;
    answer_intervals(w, p, a, &s);
    if (s.failed) return false;
    answer_intervals(w, q, b, &t);
    if (t.failed || (s.name >= 0 && t.name >= 0 && !answer_same(w, p, s.name, q, t.name))) return false;
    if (s.n > 1) answer_join_intervals(w, p, &s, 0);
    if (t.n > 1) answer_join_intervals(w, q, &t, 0);
    if (s.n != t.n) return false;
    bool used[ANSWER_MAX_LIST] = {false};
    for (int i = 0; i < s.n; i++) {
        int j = 0;
        for (; j < t.n; j++) {
            const AnswerInterval *x = &s.v[i], *y = &t.v[j];
            if (!used[j] && x->low_in == y->low_in && x->high_in == y->high_in &&
                answer_bounds_equal(w, p, x->low, x->low_sign, q, y->low, y->low_sign) &&
                answer_bounds_equal(w, p, x->high, x->high_sign, q, y->high, y->high_sign))
                break;
        }
        if (j == t.n) return false;
        used[j] = true;
    }
    return true;
}

#endif
