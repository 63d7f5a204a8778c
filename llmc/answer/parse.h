/*
Reading a mathematical answer, second half: tokens to a tree.

A recursive-descent parser over the tokens of lex.h. Depth and the number of nodes are bounded, so that whatever the
input, the tree is small and every walk over it is short. What it cannot read (prose, broken LaTeX) is a failure, and
the answer is then compared as text.

From loose to tight: lists (, ; and or), relations (= < \in), unions, ratios (a:b), sums, products, prefix signs, powers
and other postfixes. Units after a number are read and dropped.
*/
#ifndef LLMC_ANSWER_PARSE_H
#define LLMC_ANSWER_PARSE_H

#include "llmc/answer/tree.h"    // AnswerTree, answer_node, answer_primary_number, answer_fraction, answer_exponent
#include "llmc/answer/bracket.h" // answer_list, answer_bracket, answer_matrix
#include "llmc/answer/units.h"   // answer_units

int answer_primary(AnswerTree *p);
int answer_factor(AnswerTree *p);
int answer_term(AnswerTree *p);
int answer_sum(AnswerTree *p);

// ----------------------------------------------------------------------------
// primaries

int answer_primary_name(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    char first = answer_token_text(p, k)[0];
    const AnswerToken *argument = answer_peek(p, 2);
    bool at_zero = answer_peek(p, 1)->kind == TK_OPEN && answer_peek(p, 1)->sub == '(' && argument->kind == TK_NUM &&
                   argument->n == 1 && *answer_token_text(p, argument) == '0' && answer_peek(p, 3)->kind == TK_CLOSE;
    bool function = k->n == 1 && (first == 'f' || first == 'g' || first == 'h' || at_zero); // I(0) is no product
    p->at++;
    uint64_t rest = 0; // primes and subscript
    while (answer_take(p, TK_OP, '\'')) rest = answer_hash(rest, "'", 1);
    if (answer_take(p, TK_OP, '_')) rest = answer_hash_token(p, answer_hash(rest, "_", 1));
    while (answer_take(p, TK_OP, '\'')) rest = answer_hash(rest, "'", 1);
    while (answer_at(p, TK_OP, '^') && answer_peek(p, answer_peek(p, 1)->kind == TK_OPEN ? 2 : 1)->kind == TK_OP &&
           answer_peek(p, answer_peek(p, 1)->kind == TK_OPEN ? 2 : 1)->sub == '\'') { // x^{\prime}
        p->at++;
        bool group = answer_take(p, TK_OPEN, '{');
        while (answer_take(p, TK_OP, '\'')) rest = answer_hash(rest, "'", 1);
        if (group && !answer_take(p, TK_CLOSE, '}')) return answer_fail(p);
    }
    uint64_t h = k->sub == 3 ? 3
                             : answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n) +
                                   rest; // 3: dots, however they are written
    int v = answer_node(p, AN_VAR, -1);
    if (p->failed) return 0;
    p->v[v].name = h;
    p->v[v].folded = answer_hash_folded(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n) + rest;
    p->v[v].sub = (uint8_t)first;
    int group = answer_at(p, TK_OPEN, '{') && answer_peek(p, 1)->kind == TK_OPEN && answer_peek(p, 1)->sub == '(';
    if (function && (answer_at(p, TK_OPEN, '(') || group)) { // f(x)
        p->at += 1 + group;
        int call = answer_list(p, AN_CALL);
        if (!answer_take(p, TK_CLOSE, ')') || (group && !answer_take(p, TK_CLOSE, '}')) || p->failed)
            return answer_fail(p);
        p->v[call].name = h;
        return call;
    }
    return v;
}

// \sin, \log_2, \max: an optional base and power, then the argument.
int answer_primary_function(AnswerTree *p) {
    int f = answer_peek(p, 0)->sub, base = -1, power = -1;
    p->at++;
    for (int i = 0; i < 2; i++) {
        if (f == FN_LOG && base < 0 && answer_take(p, TK_OP, '_'))
            base = answer_at(p, TK_NUM, -1) ? answer_primary_number(p) : answer_factor(p);
        else if (power < 0 && answer_take(p, TK_OP, '^'))
            power = answer_at(p, TK_OPEN, '{') || answer_at(p, TK_OP, '-') ? answer_factor(p) : answer_argument(p);
    }
    int v = answer_node(p, AN_FUNC, -1);
    if (p->failed) return 0;
    if (answer_at(p, TK_OPEN, -1) || answer_at(p, TK_BAR, -1)) {
        int open = answer_peek(p, 0)->sub;
        if (strchr("({S", open) && answer_at(p, TK_OPEN, -1) && f >= FN_GCD &&
            f <= FN_MIN) { // \max(a, b), \max\{a, b\}
            p->at++;
            int list = answer_list(p, AN_FUNC);
            p->v[v].child = p->v[list].child;
            p->v[v].count = p->v[list].count;
            if (!answer_take(p, TK_CLOSE, open == '(' ? ')' : open == '{' ? '}' : 'S')) return answer_fail(p);
        } else {
            int arg = answer_primary(p);
            if (p->failed) return 0;
            answer_append(p, v, arg);
        }
    } else {
        int arg = answer_factor(p);
        for (const AnswerToken *k = answer_peek(p, 0);
             !p->failed && (k->kind == TK_NAME || k->kind == TK_CONST || k->kind == TK_FRAC || k->kind == TK_SQRT);
             k = answer_peek(p, 0)) {
            arg = answer_node2(p, AN_MUL, arg, answer_factor(p));
        }
        answer_append(p, v, arg);
    }
    if (p->failed) return 0;
    p->v[v].sub = (uint8_t)f;
    p->log |= f == FN_LOG && base < 0;
    if (base >= 0) answer_append(p, v, base);
    if (power < 0) return v;
    const AnswerNode *e = &p->v[power];
    bool invertible = f <= FN_CSC || (f >= FN_SINH && f <= FN_CSCH);
    // \sin^{-1}
    if (e->kind == AN_NEG && p->v[e->child].kind == AN_NUM &&
        mpq_cmp_si(p->numbers[p->v[e->child].number], 1, 1) == 0 && invertible) {
        p->v[v].sub = (uint8_t)(f + FN_INVERSE);
        return v;
    }
    return answer_node2(p, AN_POW, v, power);
}

// \sum_{k=0}^{n} body. Its value is not computed: equal parts make equal sums.
int answer_primary_big(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    int v = answer_node(p, AN_BIG, -1);
    p->v[v].name = answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n);
    p->v[v].sub = k->sub;
    p->at++;
    for (int i = 0; i < 2 && !p->failed; i++) {
        if (answer_take(p, TK_OP, '_') || answer_take(p, TK_OP, '^'))
            answer_append(p, v, answer_at(p, TK_OPEN, '{') ? answer_bracket(p) : answer_argument(p));
    }
    if (p->failed) return 0;
    int body = answer_term(p);
    if (p->failed) return 0;
    answer_append(p, v, body);
    return v;
}

// \overline{AB} is a name, \overline{3 + 4i} a conjugate.
int answer_overline(AnswerTree *p) {
    int from = ++p->at, arg = answer_primary(p);
    if (p->failed) return 0;
    bool names = true;
    for (int i = from; i < p->at; i++)
        names &= p->t->v[i].kind == TK_NAME || p->t->v[i].kind == TK_OPEN || p->t->v[i].kind == TK_CLOSE ||
                 p->t->v[i].kind == TK_CONST;
    int v = answer_node(p, names ? AN_VAR : AN_FUNC, names ? -1 : arg);
    if (p->failed) return 0;
    p->v[v].sub = (uint8_t)(names ? (int)'A' : (int)FN_CONJ);
    p->v[v].name = names ? ANSWER_HASH + 1 : 0;
    for (int i = from; i < p->at && names; i++)
        p->v[v].name = answer_hash(p->v[v].name, answer_token_text(p, &p->t->v[i]), (size_t)p->t->v[i].n);
    return v;
}

int answer_primary_any(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    int v;
    switch (k->kind) {
    case TK_NUM: return answer_primary_number(p);
    case TK_NAME: return answer_primary_name(p);
    case TK_FUNC: return answer_primary_function(p);
    case TK_OPEN: return answer_bracket(p);
    case TK_BEGIN: return answer_matrix(p);
    case TK_BIG: return answer_primary_big(p);
    case TK_FRAC: p->at++; return answer_fraction(p);
    case TK_BINOM: {
        p->at++;
        int a = answer_argument(p), b = answer_argument(p);
        return answer_node2(p, AN_BINOM, a, b);
    }
    case TK_CONST:
        p->at++;
        v = answer_node(p, AN_CONST, -1);
        p->v[v].sub = k->sub;
        return v;
    case TK_LABEL:
        p->at++;
        v = answer_node(p, AN_VAR, -1);
        p->v[v].sub = 'A';
        p->v[v].name = answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n);
        return v;
    case TK_CLOSE: return k->sub == ']' ? answer_bracket(p) : answer_fail(p); // ]2, 5[
    case TK_OVERLINE: return answer_overline(p);
    case TK_EMPTY: p->at++; return answer_node(p, AN_SET, -1);
    case TK_TEXT:
        p->at++;
        v = answer_node(p, AN_TEXT, -1);
        p->v[v].name = answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n);
        return v;
    case TK_SQRT: {
        p->at++;
        int index = -1;
        if (answer_take(p, TK_OPEN, '[')) {
            index = answer_sum(p);
            if (!answer_take(p, TK_CLOSE, ']')) return answer_fail(p);
        } else index = answer_integer(p, k->sub ? k->sub : 2);
        int saved = p->bars;
        p->bars = 0;
        int arg = answer_primary(p); // \sqrt19 is read as people mean it
        p->bars = saved;
        return answer_node2(p, AN_ROOT, index, arg);
    }
    case TK_BAR: {
        p->at++;
        p->bars++;
        int arg = answer_sum(p);
        p->bars--;
        if (!answer_take(p, TK_BAR, -1)) return answer_fail(p);
        v = answer_node(p, AN_FUNC, arg);
        p->v[v].sub = FN_ABS;
        return v;
    }
    default: return answer_fail(p);
    }
}

int answer_primary(AnswerTree *p) {
    if (p->failed || ++p->depth > ANSWER_MAX_DEPTH) return answer_fail(p);
    int v = answer_primary_any(p);
    p->depth--;
    return v;
}

// ----------------------------------------------------------------------------
// operators

// After a ^: a sign alone, the + of \mathbb{R}^+ and of x \to 0^{+}. Takes it and returns it; 0 if something else
// stands there.
int answer_lone_sign(AnswerTree *p) {
    bool group = answer_at(p, TK_OPEN, '{');
    const AnswerToken *k = answer_peek(p, group), *next = answer_peek(p, group + 1);
    if (k->kind != TK_OP || !strchr("+-*", k->sub)) return 0;
    bool alone = group ? next->kind == TK_CLOSE && next->sub == '}'
                       : next->kind == TK_END || next->kind == TK_SEP || next->kind == TK_CLOSE ||
                             next->kind == TK_SETOP || next->kind == TK_REL;
    if (!alone) return 0;
    p->at += group ? 3 : 1;
    return k->sub;
}

int answer_postfixes(AnswerTree *p, int v) {
    for (int chain = 0; !p->failed; chain++) {
        if (chain > 20) return answer_fail(p);
        if (answer_at(p, TK_OP, '^')) {
            p->at++;
            bool group = answer_at(p, TK_OPEN, '{') && answer_peek(p, 1)->kind == TK_DEGREE;
            p->at += group;
            if (answer_take(p, TK_DEGREE, -1)) {
                v = answer_node(p, AN_DEGREE, v);
                if (!p->unit) p->unit = ANSWER_UNIT_DEGREE;
                if (group && !answer_take(p, TK_CLOSE, '}')) return answer_fail(p);
                continue;
            }
            int sign = answer_lone_sign(p);
            if (sign) {
                v = answer_node(p, AN_CALL, v);
                p->v[v].name = answer_sign_name(sign);
                continue;
            }
            int e = answer_exponent(p);
            // towers group from the right: 2^3^2
            if (answer_at(p, TK_OP, '^')) {
                if (++p->depth > ANSWER_MAX_DEPTH) return answer_fail(p);
                e = answer_postfixes(p, e);
                p->depth--;
            }
            v = answer_node2(p, AN_POW, v, e);
        } else if (answer_take(p, TK_OP, '!')) {
            int twice = answer_take(p, TK_OP, '!');
            if (answer_at(p, TK_OP, '!')) return answer_fail(p);
            v = answer_node(p, AN_FACTORIAL, v);
            p->v[v].sub = (uint8_t)twice;
        } else if (answer_take(p, TK_PERCENT, -1)) {
            v = answer_node(p, AN_PERCENT, v);
            p->percent = true;
            if (!p->unit) p->unit = ANSWER_UNIT_PERCENT;
        } else if (answer_take(p, TK_DEGREE, -1)) {
            v = answer_node(p, AN_DEGREE, v);
            if (!p->unit) p->unit = ANSWER_UNIT_DEGREE;
        } else if (p->v[v].kind == AN_NUM && p->v[v].paren && p->v[v].literal && answer_at(p, TK_OP, '_')) { // (1011)_2
            const AnswerToken *k = answer_peek(p, -2);
            if (!answer_is_integer(p, k)) return answer_fail(p);
            p->at++;
            v = answer_base(p, answer_token_text(p, k), (size_t)k->n);
        } else return v;
    }
    return 0;
}

int answer_factor(AnswerTree *p) {
    bool minus = false, pm = false;
    int sign = 0;
    for (;; p->at++) {
        if (answer_at(p, TK_OP, '-')) minus = !minus;
        else if (!pm && (answer_at(p, TK_OP, 'p') || answer_at(p, TK_OP, 'm'))) {
            pm = true;
            sign = answer_peek(p, 0)->sub;
        } else if (!answer_at(p, TK_OP, '+')) break;
    }
    int v = answer_postfixes(p, answer_primary(p));
    if (minus) v = answer_node(p, AN_NEG, v);
    if (pm) {
        v = answer_node(p, AN_PM, v);
        p->v[v].sub = (uint8_t)sign;
        p->pm = true;
    }
    return p->failed ? 0 : v;
}

bool answer_starts_factor(const AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    const AnswerToken *before = answer_peek(p, -1);
    // 2^3 5
    bool raised =
        before->kind == TK_NUM && k->space &&
        (answer_peek(p, -2)->sub == '^' || (answer_peek(p, -2)->sub == '-' && answer_peek(p, -3)->sub == '^'));
    if (k->kind == TK_NUM)
        return raised || before->kind == TK_CLOSE || (before->kind == TK_OP && before->sub == '!') ||
               (before->kind == TK_CONST && before->sub == 'p') ||
               (answer_peek(p, 1)->kind == TK_OP && answer_peek(p, 1)->sub == '^' &&
                before->kind == TK_NAME); // (x+1)2, 3!4!, \pi 2 and n 2^n, but not x 2 and 2 3
    if (k->kind == TK_OPEN && k->sub == '(' && answer_peek(p, 1)->kind == TK_OP && answer_peek(p, 1)->sub == 'M')
        return false;                          // 2 (mod 5)
    if (k->kind == TK_OPEN && k->sub == '[') { // ]2, 5[
        const AnswerToken *next = answer_peek(p, 1);
        if (next->kind == TK_END || next->kind == TK_SEP || next->kind == TK_SETOP || next->kind == TK_CLOSE)
            return false;
    }
    return k->kind == TK_NAME || k->kind == TK_CONST || k->kind == TK_FUNC || k->kind == TK_FRAC ||
           k->kind == TK_SQRT || k->kind == TK_BINOM || k->kind == TK_BIG || k->kind == TK_OPEN ||
           (k->kind == TK_BAR && p->bars == 0) || k->kind == TK_BEGIN || k->kind == TK_LABEL;
}

int answer_term(AnswerTree *p) {
    int v = answer_factor(p);
    int product = -1; // an open product that more factors may join
    for (int chain = 0; !p->failed; chain++) {
        if (chain > 200) return answer_fail(p);
        v = answer_units(p, v);
        if (answer_at(p, TK_OP, '/')) {
            if (chain > 40) return answer_fail(p);
            p->at++;
            v = answer_node2(p, AN_DIV, v, answer_factor(p));
            product = -1;
            continue;
        }
        if (!answer_take(p, TK_OP, '*') && !answer_starts_factor(p)) break;
        int f = answer_factor(p);
        if (p->failed) return 0;
        if (product < 0) product = v = answer_node2(p, AN_MUL, v, f);
        else answer_append(p, product, f);
    }
    return v;
}

int answer_sum(AnswerTree *p) {
    if (p->failed || ++p->depth > ANSWER_MAX_DEPTH) return answer_fail(p);
    int v = answer_term(p), sum = -1;
    while (!p->failed && (answer_at(p, TK_OP, '+') || answer_at(p, TK_OP, '-') || answer_at(p, TK_OP, 'p') ||
                          answer_at(p, TK_OP, 'm'))) {
        if (answer_at(p, TK_OP, '+')) p->at++;
        int term = answer_term(p); // takes the sign along
        if (p->failed) return 0;
        if (sum < 0) sum = v = answer_node2(p, AN_ADD, v, term);
        else answer_append(p, sum, term);
    }
    p->depth--;
    return p->failed ? 0 : v;
}

int answer_ratio(AnswerTree *p) {
    int v = answer_sum(p);
    if (p->failed || !answer_at(p, TK_OP, ':')) return v;
    int ratio = answer_node(p, AN_RATIO, v);
    while (!p->failed && answer_take(p, TK_OP, ':')) {
        p->v[ratio].number |= answer_at(p, TK_NUM, -1) && answer_peek(p, 0)->n == 2; // like 7:05
        int part = answer_sum(p);
        if (!p->failed) answer_append(p, ratio, part);
    }
    return ratio;
}

int answer_union(AnswerTree *p) {
    int v = answer_ratio(p);
    while (!p->failed && answer_at(p, TK_SETOP, -1)) {
        int op = answer_peek(p, 0)->sub;
        p->at++;
        int right = answer_ratio(p);
        if (p->failed) return 0;
        if (p->v[v].kind == AN_UNION && op == 'u' && !p->v[v].paren) answer_append(p, v, right);
        else v = answer_node2(p, op == 'u' ? AN_UNION : AN_SETOP, v, right);
        p->v[v].sub = (uint8_t)op;
    }
    return p->failed ? 0 : v;
}

// At the first relation after `first`: the relation of it and all further sides.
int answer_sides(AnswerTree *p, int first) {
    int v = answer_node(p, AN_REL, first);
    while (!p->failed && answer_at(p, TK_REL, -1)) {
        int rel = answer_peek(p, 0)->sub;
        p->at++;
        int side = answer_union(p);
        if (p->failed) return 0;
        p->v[side].rel = (uint8_t)rel;
        answer_append(p, v, side);
    }
    return v;
}

int answer_item(AnswerTree *p) {
    if (p->failed || ++p->depth > ANSWER_MAX_DEPTH) return answer_fail(p);
    int v = answer_union(p);
    if (!p->failed && answer_at(p, TK_REL, -1)) v = answer_sides(p, v);
    int group =
        answer_at(p, TK_OPEN, '(') && answer_peek(p, 1)->kind == TK_OP && answer_peek(p, 1)->sub == 'M'; // (\bmod 5)
    if (!p->failed && (group || answer_at(p, TK_OP, 'M'))) { // x \equiv 2 \pmod{5}: the modulus is one more side
        p->at += 1 + group;
        int modulus = answer_sum(p);
        if (p->failed || (group && !answer_take(p, TK_CLOSE, ')'))) return answer_fail(p);
        if (!group && p->v[v].kind != AN_REL &&
            answer_at(p, TK_REL, '=')) { // 17 \bmod 5 = 2: what is left over is the value
            int rest = answer_node2(p, AN_FUNC, v, modulus);
            p->v[rest].sub = FN_MOD;
            v = answer_sides(p, rest);
        } else {
            if (p->v[v].kind != AN_REL) v = answer_node(p, AN_REL, v);
            p->v[modulus].rel = 'M';
            answer_append(p, v, modulus);
        }
    }
    p->depth--;
    return p->failed ? 0 : v;
}

// Reads a whole answer. The numbers in it must be freed with answer_tree_free, also after a failure.
bool answer_parse(AnswerTree *p, AnswerTokens *t) {
    p->t = t;
    p->primary = answer_primary;
    p->sum = answer_sum;
    p->item = answer_item;
    p->at = p->n = p->n_numbers = p->depth = p->bars = p->root = p->words = p->power = p->unit = p->products = 0;
    p->failed = p->pm = p->log = p->percent = false;
    answer_node(p, AN_TEXT, -1);                                   // node 0, what failures return
    if (!answer_take(p, TK_REL, '~')) answer_take(p, TK_REL, '='); // "= 5"
    int list = answer_list(p, AN_LIST);
    if (!p->failed && p->v[list].count == 1 && answer_take(p, TK_OP, 'o')) { // 3 \over 4
        int quotient = answer_node2(p, AN_DIV, p->v[list].child, answer_sum(p));
        p->v[list].child = quotient;
    }
    if (p->failed || p->at < t->n) return false;
    int last = p->v[list].child, before = -1;
    for (; p->v[last].next >= 0; last = p->v[last].next) before = last;
    if (before >= 0 && p->v[last].kind == AN_REL && p->v[p->v[p->v[last].child].next].rel == 'i' &&
        p->v[p->v[p->v[last].child].next].sub == 'm') {
        p->v[before].next = -1; // "..., k \in \mathbb{Z}"
        p->v[list].count--;
    }
    p->root = p->v[list].count == 1 ? p->v[list].child : list;
    return true;
}

#endif
