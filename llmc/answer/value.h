/*
When are two values equal? Exactly, where both are rational; else where they agree at every point of number.h at which
both are known. A decimal of six places and more may stand for what it rounds; % and \log may be read in two ways.
*/
#ifndef LLMC_ANSWER_VALUE_H
#define LLMC_ANSWER_VALUE_H

#include "llmc/answer/number.h" // answer_exact, answer_eval

// The same formula, node for node.
bool answer_same(AnswerWork *w, const AnswerTree *p, int a, const AnswerTree *q, int b) {
    const AnswerNode *x = &p->v[a], *y = &q->v[b];
    if (++w->steps > ANSWER_MAX_STEPS || x->kind != y->kind || x->sub != y->sub || x->close != y->close ||
        x->count != y->count || x->name != y->name)
        return false;
    if (x->kind == AN_NUM && !mpq_equal(p->numbers[x->number], q->numbers[y->number])) return false;
    if (x->kind == AN_BASE && x->number != y->number) return false;
    int c = x->child, d = y->child;
    for (; c >= 0 && d >= 0; c = p->v[c].next, d = q->v[d].next) {
        if (p->v[c].rel != q->v[d].rel || !answer_same(w, p, c, q, d)) return false;
    }
    return c < 0 && d < 0;
}

bool answer_contains(const AnswerTree *p, int v, AnswerKind kind) {
    if (p->v[v].kind == kind) return true;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) {
        if (answer_contains(p, c, kind)) return true;
    }
    return false;
}

bool answer_contains_name(const AnswerTree *p, int v, uint64_t name) {
    if (p->v[v].kind == AN_VAR && p->v[v].name == name) return true;
    for (int c = p->v[v].child; c >= 0; c = p->v[c].next) {
        if (answer_contains_name(p, c, name)) return true;
    }
    return false;
}

// +1 or -1 for the two infinities, 0 for the rest.
int answer_infinity(const AnswerTree *p, int v) {
    int sign = 1;
    for (; p->v[v].kind == AN_NEG; v = p->v[v].child) sign = -sign;
    return p->v[v].kind == AN_CONST && p->v[v].sub == 'o' ? sign : 0;
}

// A decimal as it was written, perhaps with a sign: its node, else NULL.
const AnswerNode *answer_literal(const AnswerTree *p, int v) {
    while (p->v[v].kind == AN_NEG) v = p->v[v].child;
    return p->v[v].kind == AN_NUM && p->v[v].literal ? &p->v[v] : NULL;
}

// May a decimal of at least six places stand for a value that has more? x's last place is 10^-decimals. Against a value
// that is itself a decimal it must be rounded right; against one that never ends, cut off counts as well.
bool answer_rounds(const AnswerNode *x, const AnswerNode *y, real_t difference) {
    if (!x || x->decimals < 6 || x->significant < 6) return false;
    if (y && y->decimals >= 6 && y->decimals <= x->decimals) return false;
    if (y && y->decimals < 6 && x->significant < 12) return false; // 4.999999 is not 5, 4.999999999999 is
    real_t place = powl(10, -(real_t)x->decimals);
    return difference <= (y && y->decimals >= 6 ? 0.5000001L : 1.0000001L) * place;
}

bool answer_within_tolerance(const AnswerWork *w, const AnswerNode *x, const AnswerNode *y, real_t difference) {
    return answer_rounds(x, y, difference) || answer_rounds(y, x, difference) ||
           (w->error > 0 && difference <= w->error * (1 + 1e-12L));
}

// Surely irrational: a root of a fraction that is no perfect power, perhaps with fractions added or multiplied.
// Floating point cannot tell \sqrt{10^{20}+1} from 10^{10}.
bool answer_is_irrational(AnswerWork *w, const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (++w->steps > ANSWER_MAX_STEPS) return false;
    if (k->kind == AN_NEG) return answer_is_irrational(w, p, k->child);
    if (k->kind != AN_ROOT && k->kind != AN_ADD && k->kind != AN_MUL && k->kind != AN_DIV) return false;
    mpq_t q;
    mpq_init(q);
    int irrational = 0;
    bool known = true;
    for (int c = k->child; c >= 0 && known; c = p->v[c].next) {
        bool exact = answer_exact(w, p, c, q);
        if (exact) known = mpq_sgn(q) != 0 || k->kind == AN_ADD;
        else if (k->kind != AN_ROOT && !w->limited && ++irrational == 1) known = answer_is_irrational(w, p, c);
        else known = false;
        if (exact && k->kind == AN_ROOT && c != k->child) known = mpq_sgn(q) > 0;
    }
    if (known && k->kind == AN_ROOT) irrational = answer_exact(w, p, v, q) || w->limited ? 0 : 1;
    mpq_clear(q);
    return known && irrational == 1;
}

// Two values at one setting of % and \log. sa, sb: what \pm is on each side.
bool answer_values_agree(AnswerWork *w, const AnswerTree *p, int a, int sa, const AnswerTree *q, int b, int sb) {
    const AnswerNode *x = answer_literal(p, a), *y = answer_literal(q, b);
    mpq_t u, v;
    mpq_init(u);
    mpq_init(v);
    w->sign = sa;
    w->limited = false;
    bool left = answer_exact(w, p, a, u), limited = w->limited, equal = false;
    w->sign = sb;
    w->limited = false;
    bool right = answer_exact(w, q, b, v), exact = left && right;
    w->limited |= limited;
    if (exact) {
        equal = mpq_equal(u, v);
        if (!equal && (x || y || w->error > 0)) {
            mpq_sub(u, u, v);
            equal = answer_within_tolerance(w, x, y, fabsl((real_t)mpq_get_d(u)));
        }
    }
    mpq_clear(u);
    mpq_clear(v);
    if (exact || w->limited) return equal; // what is too large exactly would look equal in floating point
    bool distinct = left ? answer_is_irrational(w, q, b) : right && answer_is_irrational(w, p, a);
    int agreed = 0;
    for (w->point = 0; w->point < ANSWER_POINTS; w->point++) {
        w->variables = w->branched = w->absolute = w->absorbed = false;
        w->sign = sa;
        AnswerValue f = answer_eval(w, p, a, false);
        w->sign = sb;
        AnswerValue g = answer_eval(w, q, b, false);
        if (w->steps > ANSWER_MAX_STEPS) return false;
        // off the positive axis roots and logarithms depend on how a formula is written
        bool vague = w->variables && (w->branched || (w->point == ANSWER_POINTS - 1 && w->absolute));
        if (!f.ok && !g.ok && (w->point >= 1 || w->variables)) continue;
        if ((w->point == ANSWER_FAR || w->point == ANSWER_POINTS - 1) && w->variables && (!f.ok || !g.ok))
            continue; // too large, or only known on the real line
        if (!f.ok || !g.ok) return false;
        if (distinct || !answer_values_equal(f, g)) {
            if (vague) continue;
            bool constant = !w->variables && f.im == 0 && g.im == 0;
            return constant && answer_within_tolerance(w, x, y, fabsl(f.re - g.re));
        }
        if (!w->variables && w->absorbed) return false; // 7 + e^{-100}
        agreed += !vague || w->point < ANSWER_FAR;
        if (!w->variables) return true; // a constant is the same everywhere
    }
    return agreed > 0;
}

bool answer_is_value(const AnswerTree *p, int v) { return p->v[v].kind <= AN_DEGREE; }

bool answer_values(AnswerWork *w, const AnswerTree *p, int a, int sa, const AnswerTree *q, int b, int sb) {
    int i = answer_infinity(p, a), j = answer_infinity(q, b);
    if (i || j) return i == j;
    if (sa == sb && answer_same(w, p, a, q, b)) return true;
    w->hundredth = w->natural = false;
    if (answer_values_agree(w, p, a, sa, q, b, sb)) return true;
    if (p->percent != q->percent) { // 8% is 8 as people write it, and 0.08
        w->hundredth = true;
        if (answer_values_agree(w, p, a, sa, q, b, sb)) return true;
        w->hundredth = false;
    }
    if (!p->log && !q->log) return false;
    w->natural = true;
    bool equal = answer_values_agree(w, p, a, sa, q, b, sb);
    w->natural = false;
    return equal;
}

#endif
