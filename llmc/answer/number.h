/*
The value of a tree: exactly, as a fraction of big integers (GMP), where it is one; else as a complex number at given
values of its variables. Two formulas that agree at several such points are the same function, so that no algebra is
needed.

Every complex value carries a bound on its own rounding error, so that "equal" means "closer than the arithmetic can
tell apart" and never "both small". All work is counted: a budget of steps and of bits ends it, whatever the input.
*/
#ifndef LLMC_ANSWER_NUMBER_H
#define LLMC_ANSWER_NUMBER_H

#include "llmc/answer/parse.h" // AnswerTree

#define ANSWER_MAX_STEPS 12000 // nodes visited for one verdict
#define ANSWER_MAX_WORK 400000 // bits in all exact results of one verdict
#define ANSWER_MAX_BITS 16000  // of one exact result
#define ANSWER_EPS 1.1e-19L    // of a long double with 64 bits; where it has more this is only careful
#define ANSWER_PI 3.14159265358979323846264338327950288L

typedef long double real_t;
typedef struct {
    real_t re, im, err;
    bool ok;
} AnswerValue;

// What a verdict has used up and the conditions it evaluates under.
typedef struct {
    long steps, bits;
    int depth;
    int point, sign;                    // which values the variables take; what \pm stands for
    bool hundredth;                     // % divides by 100
    bool folded;                        // names without regard to case, e among them
    bool natural;                       // \log without a base is \ln, not base 10
    bool variables, branched, absolute; // found on the way: a variable; a root or logarithm off the positive axis; |z|
    bool absorbed;                      // a term was too small to change a sum
    bool limited;                       // an exact result was too large to hold
    double error;                       // numbers may differ by so much
} AnswerWork;

// ----------------------------------------------------------------------------
// exact

bool answer_within_bits(AnswerWork *w, mpq_srcptr q) {
    long bits = (long)(mpz_sizeinbase(mpq_numref(q), 2) + mpz_sizeinbase(mpq_denref(q), 2));
    w->bits += bits;
    w->limited |= bits > ANSWER_MAX_BITS || w->bits > ANSWER_MAX_WORK;
    return !w->limited;
}

// q = q^e for a whole e.
bool answer_exact_power(AnswerWork *w, mpq_ptr q, long e) {
    if (e < 0) {
        if (mpq_sgn(q) == 0) return false;
        mpq_inv(q, q);
        e = -e;
    }
    long bits =
        (long)(mpz_sizeinbase(mpq_numref(q), 2) > mpz_sizeinbase(mpq_denref(q), 2) ? mpz_sizeinbase(mpq_numref(q), 2)
                                                                                   : mpz_sizeinbase(mpq_denref(q), 2));
    if (e > ANSWER_MAX_BITS || (bits > 1 && e * bits > ANSWER_MAX_BITS)) {
        w->limited = true;
        return false;
    }
    mpz_pow_ui(mpq_numref(q), mpq_numref(q), (unsigned long)e);
    mpz_pow_ui(mpq_denref(q), mpq_denref(q), (unsigned long)e);
    return answer_within_bits(w, q);
}

bool answer_exact_root(mpq_ptr q, unsigned long n) {
    if (mpq_sgn(q) < 0 && n % 2 == 0) return false;
    bool top = mpz_root(mpq_numref(q), mpq_numref(q), n) != 0, bottom = mpz_root(mpq_denref(q), mpq_denref(q), n) != 0;
    return top && bottom;
}

bool answer_small_integer(mpq_srcptr q, long *value) {
    if (mpz_cmp_ui(mpq_denref(q), 1) != 0 || !mpz_fits_slong_p(mpq_numref(q))) return false;
    *value = mpz_get_si(mpq_numref(q));
    return true;
}

bool answer_is_unit(const AnswerTree *p, int v) { // \text{m}, \frac{\text{m}}{\text{s}}
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_TEXT) return true;
    return (k->kind == AN_DIV || k->kind == AN_POW) && answer_is_unit(p, k->child) &&
           (k->kind == AN_POW || answer_is_unit(p, p->v[k->child].next));
}

// q = the value of node v if it is rational and small enough. Depth is bounded by the parser's.
bool answer_exact(AnswerWork *w, const AnswerTree *p, int v, mpq_ptr q) {
    const AnswerNode *k = &p->v[v];
    if (++w->steps > ANSWER_MAX_STEPS) return false;
    switch (k->kind) {
    case AN_NUM: mpq_set(q, p->numbers[k->number]); return true;
    case AN_DEGREE: return answer_exact(w, p, k->child, q);
    case AN_PERCENT:
        if (!answer_exact(w, p, k->child, q)) return false;
        if (w->hundredth) {
            mpq_t hundred;
            mpq_init(hundred);
            mpq_set_ui(hundred, 100, 1);
            mpq_div(q, q, hundred);
            mpq_clear(hundred);
        }
        return true;
    case AN_NEG:
    case AN_PM:
        if (!answer_exact(w, p, k->child, q)) return false;
        if (k->kind == AN_NEG || (k->sub == 'p') != (w->sign > 0)) mpq_neg(q, q);
        return true;
    case AN_FACTORIAL: {
        long n;
        if (!answer_exact(w, p, k->child, q) || !answer_small_integer(q, &n) || n < 0 || n > 1200) return false;
        mpq_set_ui(q, 1, 1);
        if (k->sub) mpz_2fac_ui(mpq_numref(q), (unsigned long)n);
        else mpz_fac_ui(mpq_numref(q), (unsigned long)n);
        return answer_within_bits(w, q);
    }
    case AN_ADD:
    case AN_MUL:
    case AN_DIV:
    case AN_POW:
    case AN_ROOT:
    case AN_BINOM: break;
    case AN_FUNC:
        if (k->sub != FN_ABS && k->sub != FN_FLOOR && k->sub != FN_CEIL && k->sub != FN_GCD && k->sub != FN_LCM &&
            k->sub != FN_MAX && k->sub != FN_MIN && k->sub != FN_MOD)
            return false;
        break;
    default: return false;
    }
    if (k->child < 0 || !answer_exact(w, p, k->child, q)) return false;
    if (k->kind == AN_FUNC && k->sub <= FN_CEIL) {
        mpz_ptr top = mpq_numref(q);
        if (k->sub == FN_ABS) mpq_abs(q, q);
        else {
            if (k->sub == FN_FLOOR) mpz_fdiv_q(top, top, mpq_denref(q));
            else mpz_cdiv_q(top, top, mpq_denref(q));
            mpz_set_ui(mpq_denref(q), 1);
        }
        return true;
    }
    mpq_t b;
    mpq_init(b);
    bool ok = true;
    for (int c = p->v[k->child].next; c >= 0 && ok; c = p->v[c].next) {
        long n = 0, m = 0;
        if (k->kind == AN_MUL && answer_is_unit(p, c)) continue;
        ok = answer_exact(w, p, c, b);
        if (!ok) break;
        bool whole = mpz_cmp_ui(mpq_denref(q), 1) == 0 && mpz_cmp_ui(mpq_denref(b), 1) == 0;
        if (k->kind == AN_ADD) mpq_add(q, q, b);
        else if (k->kind == AN_MUL) mpq_mul(q, q, b);
        else if (k->kind == AN_DIV) {
            if (mpq_sgn(b) == 0) ok = false;
            else mpq_div(q, q, b);
        } else if (k->kind == AN_ROOT) { // q is the index
            ok = answer_small_integer(q, &n) && n >= 2 && n <= 1000;
            mpq_set(q, b);
            ok = ok && answer_exact_root(q, (unsigned long)n);
        } else if (k->kind == AN_POW) {
            if (answer_small_integer(b, &n)) ok = (n != 0 || mpq_sgn(q) != 0) && answer_exact_power(w, q, n);
            else
                ok = mpz_fits_slong_p(mpq_numref(b)) && mpz_cmp_ui(mpq_denref(b), 1000) <= 0 && mpq_sgn(q) >= 0 &&
                     answer_exact_root(q, mpz_get_ui(mpq_denref(b))) &&
                     answer_exact_power(w, q, mpz_get_si(mpq_numref(b)));
        } else if (k->kind == AN_BINOM) {
            ok = answer_small_integer(q, &n) && answer_small_integer(b, &m) && n >= 0 && m >= 0;
            if (m > n / 2 && m <= n) m = n - m;
            if (ok && n > 14000 && m <= n && m * (long)mpz_sizeinbase(mpq_numref(q), 2) > ANSWER_MAX_BITS) {
                w->limited = true;
                ok = false;
            }
            if (ok) {
                mpq_set_ui(q, 0, 1);
                if (m <= n) mpz_bin_uiui(mpq_numref(q), (unsigned long)n, (unsigned long)m);
            }
        } else if (k->sub == FN_GCD || k->sub == FN_LCM) {
            ok = whole;
            if (ok && k->sub == FN_GCD) mpz_gcd(mpq_numref(q), mpq_numref(q), mpq_numref(b));
            else if (ok) mpz_lcm(mpq_numref(q), mpq_numref(q), mpq_numref(b));
        } else if (k->sub == FN_MOD) {
            ok = whole && mpq_sgn(b) > 0;
            if (ok) mpz_fdiv_r(mpq_numref(q), mpq_numref(q), mpq_numref(b));
        } else if ((mpq_cmp(b, q) > 0) == (k->sub == FN_MAX)) mpq_set(q, b);
        ok = ok && answer_within_bits(w, q);
    }
    mpq_clear(b);
    return ok;
}

// ----------------------------------------------------------------------------
// complex

AnswerValue answer_value(real_t re, real_t im, real_t err) {
    AnswerValue v = {re, im, err, isfinite(re) && isfinite(im) && isfinite(err)};
    return v;
}
AnswerValue answer_none(void) {
    AnswerValue v = {0, 0, 0, false};
    return v;
}
real_t answer_size(AnswerValue a) { return a.im == 0 ? fabsl(a.re) : hypotl(a.re, a.im); }

AnswerValue answer_mul(AnswerValue a, AnswerValue b) {
    real_t size = answer_size(a) * answer_size(b);
    if (a.err == 0 && b.err == 0 && a.im == 0 && b.im == 0 && size < 1e18L && a.re == truncl(a.re) &&
        b.re == truncl(b.re))
        return answer_value(a.re * b.re, 0, 0);
    return answer_value(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re,
                        answer_size(a) * b.err + answer_size(b) * a.err + a.err * b.err + size * ANSWER_EPS);
}
AnswerValue answer_div(AnswerValue a, AnswerValue b) {
    real_t size = answer_size(b), n = size * size;
    if (!(size > 4 * b.err) || !(n > 0) || !isfinite(n))
        return answer_none(); // by infinity all quotients would be 0 and equal
    AnswerValue r = answer_value((a.re * b.re + a.im * b.im) / n, (a.im * b.re - a.re * b.im) / n, 0);
    r.err = a.err / size + answer_size(r) * (b.err / size + 2 * ANSWER_EPS);
    r.ok = r.ok && isfinite(r.err);
    return r;
}
AnswerValue answer_exp(AnswerValue a) {
    if (fabsl(a.re) > 11000 || a.err > 1) return answer_none();
    real_t size = expl(a.re);
    return answer_value(a.im == 0 ? size : size * cosl(a.im), a.im == 0 ? 0 : size * sinl(a.im),
                        size * (a.err + ANSWER_EPS * (1 + fabsl(a.im))));
}
AnswerValue answer_log(AnswerWork *w, AnswerValue a) {
    real_t size = answer_size(a);
    if (!(size > 4 * a.err)) return answer_none();
    if (a.im != 0 || a.re < 0) w->branched = true;
    real_t re = logl(size), im = a.im == 0 ? (a.re > 0 ? 0 : ANSWER_PI) : atan2l(a.im, a.re); // not -pi for -0
    return answer_value(re, im, a.err / size + ANSWER_EPS * (1 + fabsl(re) + fabsl(im)));
}
AnswerValue answer_pow_integer(AnswerValue a, long n) {
    AnswerValue r = answer_value(1, 0, 0);
    bool nonzero = a.re != 0 || a.im != 0;
    for (unsigned long e = (unsigned long)labs(n); e; e >>= 1) {
        if (e & 1) r = answer_mul(r, a);
        if (e > 1) a = answer_mul(a, a);
        if (!r.ok || !a.ok || (r.re == 0 && r.im == 0 && nonzero)) return answer_none(); // too large, too small
    }
    return n < 0 ? answer_div(answer_value(1, 0, 0), r) : r;
}
AnswerValue answer_pow(AnswerWork *w, AnswerValue a, AnswerValue b) {
    if (b.im == 0 && b.err == 0 && b.re == truncl(b.re) && fabsl(b.re) <= 100000) {
        return b.re == 0 && a.re == 0 && a.im == 0 ? answer_none() : answer_pow_integer(a, (long)b.re);
    }
    if (a.re == 0 && a.im == 0 && a.err == 0) return b.re > 0 ? answer_value(0, 0, 0) : answer_none();
    AnswerValue l = answer_log(w, a);
    return l.ok ? answer_exp(answer_mul(l, b)) : l;
}
// sin or cos of a + bi: sin a cosh b + i cos a sinh b, cos a cosh b - i sin a sinh b.
AnswerValue answer_sin(AnswerValue a, bool cosine) {
    if (fabsl(a.im) > 11000 || fabsl(a.re) > 1e15L) return answer_none();
    real_t s = sinl(a.re), c = cosl(a.re), ch = a.im == 0 ? 1 : coshl(a.im), sh = a.im == 0 ? 0 : sinhl(a.im);
    return answer_value((cosine ? c : s) * ch, (cosine ? -s : c) * sh,
                        (a.err + ANSWER_EPS * fabsl(cosine ? c : s)) * ch + ANSWER_EPS * fabsl((cosine ? s : c) * sh));
}
AnswerValue answer_add(AnswerValue a, AnswerValue b, int sign) {
    AnswerValue r = answer_value(a.re + sign * b.re, a.im + sign * b.im, a.err + b.err);
    if (r.err > 0 || r.im != 0 || r.re != truncl(r.re))
        r.err += ANSWER_EPS * answer_size(r); // whole numbers stay exact
    return r;
}

AnswerValue answer_sqrt(AnswerWork *w, AnswerValue a) {
    if (!a.ok) return a;
    if (a.im != 0 || a.re < 0) return answer_pow(w, a, answer_value(0.5L, 0, 0));
    real_t r = sqrtl(a.re);
    return answer_value(r, 0, r > 0 ? a.err / r + ANSWER_EPS * r : sqrtl(a.err));
}

AnswerValue answer_function(AnswerWork *w, int f, AnswerValue a) {
    AnswerValue one = answer_value(1, 0, 0), i = answer_value(0, 1, 0), s, c;
    switch (f) {
    case FN_SIN:
    case FN_COS: return answer_sin(a, f == FN_COS);
    case FN_TAN:
    case FN_COT:
    case FN_SEC:
    case FN_CSC:
        s = answer_sin(a, false);
        c = answer_sin(a, true);
        if (!s.ok || !c.ok) return answer_none();
        return f == FN_TAN   ? answer_div(s, c)
               : f == FN_COT ? answer_div(c, s)
               : f == FN_SEC ? answer_div(one, c)
                             : answer_div(one, s);
    case FN_ASIN:
    case FN_ACOS:
        if (a.im != 0 || fabsl(a.re) > 1) return answer_none();
        s = answer_value(f == FN_ASIN ? asinl(a.re) : acosl(a.re), 0, 0);
        s.err = a.err / sqrtl(fmaxl(1 - a.re * a.re, 1e-12L)) + 4 * ANSWER_EPS;
        return s;
    case FN_ATAN:
    case FN_ACOT:
        if (a.im != 0) return answer_none();
        return answer_value(f == FN_ATAN ? atanl(a.re) : ANSWER_PI / 2 - atanl(a.re), 0, a.err + 4 * ANSWER_EPS);
    case FN_ASEC:
    case FN_ACSC: s = answer_div(one, a); return s.ok ? answer_function(w, f == FN_ASEC ? FN_ACOS : FN_ASIN, s) : s;
    case FN_COTH:
    case FN_SECH:
    case FN_CSCH:
        s = answer_function(w, f == FN_COTH ? FN_TANH : f == FN_SECH ? FN_COSH : FN_SINH, a);
        return s.ok ? answer_div(one, s) : s;
    case FN_ASINH:
    case FN_ACOSH: // ln(a + \sqrt{a^2 + 1}), ln(a + \sqrt{a + 1} \sqrt{a - 1})
        s = f == FN_ASINH ? answer_sqrt(w, answer_add(answer_mul(a, a), one, 1))
                          : answer_mul(answer_sqrt(w, answer_add(a, one, 1)), answer_sqrt(w, answer_add(a, one, -1)));
        return s.ok ? answer_log(w, answer_add(a, s, 1)) : s;
    case FN_ATANH: // half of ln((1 + a) / (1 - a))
        s = answer_div(answer_add(one, a, 1), answer_add(one, a, -1));
        s = s.ok ? answer_log(w, s) : s;
        return s.ok ? answer_div(s, answer_value(2, 0, 0)) : s;
    case FN_ACOTH:
    case FN_ASECH:
    case FN_ACSCH:
        s = answer_div(one, a);
        return s.ok ? answer_function(w, f == FN_ACOTH ? FN_ATANH : f == FN_ASECH ? FN_ACOSH : FN_ASINH, s) : s;
    case FN_SINH: return answer_div(answer_sin(answer_mul(a, i), false), i);
    case FN_COSH: return answer_sin(answer_mul(a, i), true);
    case FN_TANH:
        return answer_div(answer_div(answer_sin(answer_mul(a, i), false), i), answer_sin(answer_mul(a, i), true));
    case FN_LN: return answer_log(w, a);
    case FN_LOG:
        return w->natural ? answer_log(w, a) : answer_div(answer_log(w, a), answer_value(logl(10), 0, ANSWER_EPS));
    case FN_EXP: return answer_exp(a);
    case FN_CIS: return answer_exp(answer_mul(a, i));
    case FN_CONJ:
        w->absolute = true;
        a.im = -a.im;
        return a;
    case FN_ABS: w->absolute = true; return answer_value(answer_size(a), 0, a.err + ANSWER_EPS * answer_size(a));
    case FN_FLOOR:
    case FN_CEIL:
        w->absolute = true;
        if (a.im != 0 || fabsl(a.re - roundl(a.re)) < 1e-9L) return answer_none(); // too near to say
        return answer_value(f == FN_FLOOR ? floorl(a.re) : ceill(a.re), 0, 0);
    default: return answer_none();
    }
}

// A fixed pseudo-random number in [0,1) of a name and a counter.
real_t answer_random(uint64_t name, int k) {
    uint64_t x = name + 0x9E3779B97F4A7C15u * (uint64_t)(k + 1);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (real_t)((x ^ (x >> 31)) >> 11) / 9007199254740992.0L;
}

#define ANSWER_POINTS 6 // four positive, a negative, a complex one
#define ANSWER_FAR 3    // the largest: tells floors apart, but powers may be too large there
AnswerValue answer_variable(const AnswerWork *w, uint64_t name) {
    real_t u = answer_random(name, w->point);
    switch (w->point) {
    case 0: return answer_value(1.1L + 1.7L * u, 0, 0);
    case 1: return answer_value(0.25L + 0.6L * u, 0, 0);
    case 2: return answer_value(3.2L + 2.9L * u, 0, 0);
    case ANSWER_FAR: return answer_value(37 + 50 * u, 0, 0);
    case 4: return answer_value(-0.4L - 1.3L * u, 0, 0);
    default: return answer_value(0.5L + u, 0.3L + 0.7L * answer_random(name, w->point + 1), 0);
    }
}

AnswerValue answer_eval(AnswerWork *w, const AnswerTree *p, int v, bool angle);

// f(x), sums and the like: unknown functions of their parts, smooth, and another one for each name.
AnswerValue answer_opaque(AnswerWork *w, const AnswerTree *p, const AnswerNode *k) {
    AnswerValue sum = answer_value(answer_random(k->name, 10 + 1000 * w->point), 0,
                                   0); // differs between points, or f(1) = 0 would be f(1) = 1 times a factor
    int i = 11;
    for (int c = k->child; c >= 0; c = p->v[c].next, i++) {
        const AnswerNode *part = &p->v[c];
        int last = c;
        if (part->kind == AN_REL) { // \sum_{k=0}: the variable and where it starts
            AnswerValue name = answer_eval(w, p, part->child, false);
            for (last = part->child; p->v[last].next >= 0; last = p->v[last].next) {}
            if (!name.ok) return name;
            sum = answer_add(sum, answer_mul(name, answer_value(0.1L + answer_random(k->name, 100), 0, 0)), 1);
        }
        AnswerValue x = p->v[last].kind == AN_CONST && p->v[last].sub == 'o' ? answer_value(0.777L, 0, 0)
                                                                             : answer_eval(w, p, last, false);
        if (!x.ok) return x;
        sum = answer_add(sum, answer_mul(x, answer_value(0.3L + answer_random(k->name, i), 0, 0)), 1);
    }
    w->variables = true;
    return answer_add(answer_sin(sum, true), answer_mul(sum, answer_value(0.01L, 0, 0)), 1);
}

// angle: degrees in it count as angles.
AnswerValue answer_eval(AnswerWork *w, const AnswerTree *p, int v, bool angle) {
    const AnswerNode *k = &p->v[v];
    if (++w->steps > ANSWER_MAX_STEPS) return answer_none();
    switch (k->kind) {
    case AN_NUM: {
        mpq_srcptr q = p->numbers[k->number];
        if (mpz_sizeinbase(mpq_numref(q), 2) < 62 && mpz_sizeinbase(mpq_denref(q), 2) < 62) {
            real_t top = (real_t)mpz_get_si(mpq_numref(q)), bottom = (real_t)mpz_get_si(mpq_denref(q));
            return bottom == 1 ? answer_value(top, 0, 0)
                               : answer_value(top / bottom, 0, fabsl(top / bottom) * ANSWER_EPS);
        }
        long et, eb;
        double mt = mpz_get_d_2exp(&et, mpq_numref(q)), mb = mpz_get_d_2exp(&eb, mpq_denref(q));
        real_t x = ldexpl((real_t)mt / (real_t)mb, (int)(et - eb));
        return answer_value(x, 0, fabsl(x) * 3e-16L);
    }
    case AN_CONST:
        if (k->sub == 'e' && w->folded) return answer_variable(w, answer_hash(ANSWER_HASH, "e", 1));
        if (k->sub == 'p') return answer_value(ANSWER_PI, 0, ANSWER_EPS);
        if (k->sub == 'e') return answer_value(2.71828182845904523536028747135266250L, 0, ANSWER_EPS);
        return k->sub == 'i' ? answer_value(0, 1, 0) : answer_none();
    case AN_VAR: w->variables = true; return answer_variable(w, w->folded ? k->folded : k->name);
    case AN_CALL:
    case AN_BIG: return answer_opaque(w, p, k);
    case AN_FACTORIAL: {
        AnswerValue a = answer_eval(w, p, k->child, angle);
        if (!a.ok || a.im != 0 || a.re > 1700) return answer_none();
        real_t g = k->sub ? exp2l(a.re / 2) * tgammal(a.re / 2 + 1) *
                                (a.err == 0 && fmodl(a.re, 2) == 0 ? 1 : sqrtl(2 / ANSWER_PI))
                          : tgammal(a.re + 1); // n!!, and as for odd n where n is unknown
        return answer_value(g, 0, fabsl(g) * (a.err * 10 + 1e-17L));
    }
    case AN_ADD:
    case AN_MUL:
    case AN_DIV:
    case AN_NEG:
    case AN_PM:
    case AN_POW:
    case AN_ROOT:
    case AN_FUNC:
    case AN_BINOM:
    case AN_PERCENT:
    case AN_DEGREE: break;
    default: return answer_none();
    }
    if (k->child < 0) return answer_none();
    bool trigonometric = k->kind == AN_FUNC && (k->sub <= FN_CSC || k->sub == FN_CIS);
    AnswerValue a = answer_eval(w, p, k->child, trigonometric || (angle && k->kind != AN_FUNC));
    if (!a.ok) return a;
    if (k->kind == AN_NEG || (k->kind == AN_PM && (k->sub == 'p') != (w->sign > 0))) {
        a.re = -a.re;
        a.im = -a.im;
        return a;
    }
    if (k->kind == AN_PM) return a;
    if (k->kind == AN_PERCENT) return w->hundredth ? answer_div(a, answer_value(100, 0, 0)) : a;
    if (k->kind == AN_DEGREE) return angle ? answer_mul(a, answer_value(ANSWER_PI / 180, 0, ANSWER_EPS / 50)) : a;
    int second = p->v[k->child].next;
    if (k->kind == AN_FUNC && second < 0) return answer_function(w, k->sub, a);
    for (int c = second; c >= 0 && a.ok; c = p->v[c].next) {
        if (k->kind == AN_MUL && answer_is_unit(p, c)) continue;
        AnswerValue b = answer_eval(w, p, c, angle);
        if (!b.ok) return b;
        if (k->kind == AN_ADD) {
            real_t x = answer_size(a), y = answer_size(b), least = fminl(x, y);
            w->absorbed |= least > 0 && least < fmaxl(x, y) * ANSWER_EPS && least > 4 * (x < y ? a.err : b.err);
            a = answer_add(a, b, 1);
        } else if (k->kind == AN_MUL) a = answer_mul(a, b);
        else if (k->kind == AN_DIV) a = answer_div(a, b);
        else if (k->kind == AN_POW) a = answer_pow(w, a, b);
        else if (k->kind == AN_ROOT) { // a is the index; an odd root of a negative number is negative
            bool negative = b.im == 0 && b.re < 0 && fmodl(a.re, 2) == 1;
            if (negative) {
                b.re = -b.re;
                w->branched = true;
            }
            if (b.im == 0 && b.re >= 0 && a.re == 2) a = answer_sqrt(w, b);
            else {
                AnswerValue inverse = answer_div(answer_value(1, 0, 0), a);
                a = inverse.ok ? answer_pow(w, b, inverse) : inverse;
            }
            if (negative) a.re = -a.re;
        } else if (k->kind == AN_FUNC && k->sub == FN_LOG) { // with a base
            AnswerValue x = answer_log(w, a), base = answer_log(w, b);
            a = x.ok && base.ok ? answer_div(x, base) : answer_none();
        } else if (k->kind == AN_FUNC && (k->sub == FN_MAX || k->sub == FN_MIN)) {
            if (a.im != 0 || b.im != 0) return answer_none();
            if ((b.re > a.re) == (k->sub == FN_MAX)) a = b;
        } else if (k->kind == AN_BINOM) { // by the gamma function
            if (a.im != 0 || b.im != 0 || a.re > 500) return answer_none();
            real_t r = tgammal(a.re + 1) / tgammal(b.re + 1) / tgammal(a.re - b.re + 1);
            a = answer_value(r, 0, fabsl(r) * (1e-16L + 10 * (a.err + b.err)));
        } else return answer_none();
    }
    return a;
}

// Equal as far as the arithmetic can tell; false where it cannot tell.
bool answer_values_equal(AnswerValue a, AnswerValue b) {
    if (!a.ok || !b.ok) return false;
    real_t size = fmaxl(answer_size(a), answer_size(b)), err = a.err + b.err;
    if (err > 1e-9L && err > 1e-9L * size) return false;
    return hypotl(a.re - b.re, a.im - b.im) <= 8 * err + 1e-17L * size;
}

#endif
