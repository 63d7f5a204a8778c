/*
Reading a mathematical answer, second half: tokens to a tree.

A recursive-descent parser over the tokens of answer_lex.h. Nodes come from one array of a fixed size and are linked as first
child and next sibling; depth is bounded, so that whatever the input, the tree is small and every walk over it is short.
What it cannot read (prose, broken LaTeX) is a failure, and the answer is then compared as text.

From loose to tight: lists (, ; and or), relations (= < \in), unions, ratios (a:b), sums, products, prefix signs, powers and
other postfixes. Units after a number are read and dropped.
*/
#ifndef LLMC_ANSWER_PARSE_H
#define LLMC_ANSWER_PARSE_H

#include <gmp.h>
#include "answer_lex.h" // AnswerTokens

#define ANSWER_MAX_NODES 2000
#define ANSWER_MAX_NUMBERS 600
#define ANSWER_MAX_DEPTH 60

typedef enum {
    AN_NUM, AN_CONST, AN_VAR, AN_ADD, AN_MUL, AN_DIV, AN_NEG, AN_PM, AN_POW, AN_ROOT, AN_FUNC, AN_FACTORIAL, AN_BINOM, AN_CALL, AN_BIG, AN_PERCENT, AN_DEGREE,
    AN_BASE, AN_RATIO, AN_BRACKET, AN_SET, AN_LIST, AN_REL, AN_UNION, AN_SETOP, AN_MATRIX, AN_TEXT,
} AnswerKind;

typedef struct {
    uint8_t kind;
    uint8_t sub;     // which constant, function, opening bracket, sign (\pm p, \mp m)
    uint8_t close;   // AN_BRACKET: the closing bracket
    uint8_t rel;     // of a child of AN_REL after the first: the relation before it
    bool paren;      // stood in parentheses
    bool literal;    // AN_NUM as it was written: digits without a sign
    int child, next; // -1: none
    int count;       // children; AN_MATRIX: columns
    int number;      // AN_NUM: index; AN_BASE: the base
    int decimals, significant; // AN_NUM: digits behind the point, digits from the first that is not 0
    uint64_t name;   // AN_VAR, AN_CALL, AN_BASE (its digits), AN_TEXT, AN_BIG: hash
} AnswerNode;

typedef struct {
    AnswerTokens *t;
    int at, n, n_numbers, depth, bars, root, words, power; // power: of the unit
    bool failed, pm, log, percent;
    AnswerNode v[ANSWER_MAX_NODES];
    mpq_t numbers[ANSWER_MAX_NUMBERS];
} AnswerTree;

// ----------------------------------------------------------------------------
// nodes

uint64_t answer_hash(uint64_t h, const char *s, size_t n) { // FNV-1a
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}
#define ANSWER_HASH 14695981039346656037u

int answer_fail(AnswerTree *p) { p->failed = true; return 0; } // node 0 always exists

int answer_node(AnswerTree *p, AnswerKind kind, int child) {
    if (p->n >= ANSWER_MAX_NODES) return answer_fail(p);
    AnswerNode *v = &p->v[p->n];
    memset(v, 0, sizeof *v);
    v->kind = (uint8_t)kind;
    v->child = child;
    v->next = -1;
    v->count = child >= 0;
    return p->n++;
}

// Makes b the last child of a.
void answer_append(AnswerTree *p, int a, int b) {
    int *link = &p->v[a].child;
    while (*link >= 0) link = &p->v[*link].next;
    *link = b;
    p->v[a].count++;
}

int answer_node2(AnswerTree *p, AnswerKind kind, int a, int b) {
    int v = answer_node(p, kind, a);
    if (p->failed) return 0;
    p->v[a].next = b;
    p->v[v].count = 2;
    return v;
}

int answer_integer(AnswerTree *p, long value) {
    int v = answer_node(p, AN_NUM, -1);
    if (p->failed || p->n_numbers >= ANSWER_MAX_NUMBERS) return answer_fail(p);
    p->v[v].number = p->n_numbers;
    mpq_init(p->numbers[p->n_numbers]);
    mpq_set_si(p->numbers[p->n_numbers++], value, 1);
    return v;
}

// Digits with a point and an exponent as an exact fraction.
int answer_decimal(AnswerTree *p, const char *s, int n) {
    char digits[ANSWER_MAX_DIGITS + 1];
    int length = 0, decimals = 0, significant = 0;
    bool point = false;
    long exponent = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] == 'e') { exponent = strtol(s + i + 1, NULL, 10); break; }
        if (s[i] == '.') { point = true; continue; }
        digits[length++] = s[i];
        decimals += point;
        significant += significant > 0 || s[i] != '0';
    }
    digits[length] = 0;
    int v = answer_integer(p, 0);
    if (p->failed || length == 0 || labs(exponent) > 400) return answer_fail(p);
    mpq_ptr q = p->numbers[p->v[v].number];
    mpz_set_str(mpq_numref(q), digits, 10);
    if (exponent < decimals) mpz_ui_pow_ui(mpq_denref(q), 10, (unsigned long)(decimals - exponent));
    mpq_canonicalize(q);
    if (exponent > decimals) {
        mpz_t power;
        mpz_init(power);
        mpz_ui_pow_ui(power, 10, (unsigned long)(exponent - decimals));
        mpz_mul(mpq_numref(q), mpq_numref(q), power);
        mpz_clear(power);
    }
    p->v[v].decimals = decimals;
    p->v[v].significant = significant;
    p->v[v].literal = true;
    return v;
}

// ----------------------------------------------------------------------------
// tokens

int answer_list(AnswerTree *p, AnswerKind kind);
int answer_item(AnswerTree *p);
int answer_factor(AnswerTree *p);
int answer_sum(AnswerTree *p);
int answer_term(AnswerTree *p);
int answer_primary(AnswerTree *p);

const AnswerToken *answer_peek(const AnswerTree *p, int ahead) { return &p->t->v[p->at + ahead < p->t->n ? p->at + ahead : p->t->n]; }
bool answer_at(const AnswerTree *p, AnswerTokenKind kind, int sub) {
    const AnswerToken *k = answer_peek(p, 0);
    return k->kind == kind && (sub < 0 || k->sub == sub);
}
bool answer_take(AnswerTree *p, AnswerTokenKind kind, int sub) {
    bool is = answer_at(p, kind, sub);
    p->at += is;
    return is;
}
const char *answer_token_text(const AnswerTree *p, const AnswerToken *k) { return k->kind == TK_NUM ? p->t->digits + k->at : p->t->text + k->at; }

// Adds a token to the hash of a name, or a whole {group}: x_{12} and x_12 are one name.
uint64_t answer_hash_token(AnswerTree *p, uint64_t h) {
    int depth = 0;
    do {
        const AnswerToken *k = answer_peek(p, 0);
        if (k->kind == TK_END) { p->failed = true; return h; }
        if (k->kind == TK_OPEN && k->sub == '{') depth++;
        else if (k->kind == TK_CLOSE && k->sub == '}') depth--;
        else h = answer_hash(h, answer_token_text(p, k), (size_t)k->n);
        p->at++;
    } while (depth > 0);
    return h;
}

// ----------------------------------------------------------------------------
// primaries

bool answer_is_integer(const AnswerTree *p, const AnswerToken *k) {
    return k->kind == TK_NUM && !memchr(p->t->digits + k->at, '.', (size_t)k->n) && !memchr(p->t->digits + k->at, 'e', (size_t)k->n);
}

int answer_number_word(const char *s, size_t n) {
    static const char *const words[] = {"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"};
    for (int i = 0; i < 15; i++) {
        if (strlen(words[i]) == n && strncasecmp(s, words[i], n) == 0) return i + 2;
    }
    return 0;
}

// After digits: _8, _{8}, _{\text{eight}}. Returns a node of digits and base, both of which must agree.
int answer_base(AnswerTree *p, const char *digits, size_t n) {
    int v = answer_node(p, AN_BASE, -1);
    bool group = answer_take(p, TK_OPEN, '{'), paren = answer_take(p, TK_OPEN, '(');
    const AnswerToken *k = answer_peek(p, 0);
    if (p->failed) return 0;
    p->at++;
    p->v[v].number = answer_is_integer(p, k) ? atoi(answer_token_text(p, k)) : k->kind == TK_WORD || k->kind == TK_TEXT ? answer_number_word(answer_token_text(p, k), (size_t)k->n) : 0;
    while (n > 1 && *digits == '0') { digits++; n--; }
    p->v[v].name = answer_hash(ANSWER_HASH, digits, n);
    if (p->v[v].number < 2 || (paren && !answer_take(p, TK_CLOSE, ')')) || (group && !answer_take(p, TK_CLOSE, '}'))) return answer_fail(p);
    return v;
}

bool answer_is_fraction_of_integers(const AnswerTree *p) { // at \frac{1}{2}, \frac12
    int i = 1, parts = 0;
    for (; parts < 2; parts++) {
        bool group = answer_peek(p, i)->kind == TK_OPEN && answer_peek(p, i)->sub == '{';
        const AnswerToken *k = answer_peek(p, i + group);
        if (!answer_is_integer(p, k)) return false;
        if (!group && k->n == 2 && parts == 0) return true;
        i += 1 + 2 * group;
        if (group && !(answer_peek(p, i - 1)->kind == TK_CLOSE)) return false;
    }
    return true;
}

// The argument of \frac: a group, one digit or one token.
int answer_argument(AnswerTree *p) {
    AnswerToken *k = &p->t->v[p->at < p->t->n ? p->at : p->t->n];
    if (k->kind == TK_NUM && k->n > 1) {
        int v = answer_decimal(p, p->t->digits + k->at, 1);
        k->at++;
        k->n--;
        return v;
    }
    if (k->kind == TK_NUM) { p->at++; return answer_decimal(p, p->t->digits + k->at, 1); }
    return answer_primary(p); // without a power: \frac{1}{2}^2
}

int answer_fraction(AnswerTree *p) {
    int saved = p->bars;
    p->bars = 0;
    int top = answer_argument(p), bottom = answer_argument(p);
    p->bars = saved;
    return answer_node2(p, AN_DIV, top, bottom);
}

int answer_primary_number(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    p->at++;
    const char *digits = answer_token_text(p, k);
    if (answer_take(p, TK_OP, '_')) return answer_base(p, digits, (size_t)k->n);
    int v = answer_decimal(p, digits, k->n);
    if (p->failed) return 0;
    if (answer_at(p, TK_OVERLINE, -1) && (memchr(digits, '.', (size_t)k->n) || p->t->text[answer_peek(p, 0)->at - 2] == '.')) { // 0.1\overline{36}
        p->at++;
        bool group = answer_take(p, TK_OPEN, '{');
        const AnswerToken *r = answer_peek(p, 0);
        if (!answer_is_integer(p, r) || r->n > 40) return answer_fail(p);
        p->at++;
        if (group && !answer_take(p, TK_CLOSE, '}')) return answer_fail(p);
        int period = answer_decimal(p, answer_token_text(p, r), r->n);
        if (p->failed) return 0;
        mpz_t nines;
        mpz_init(nines);
        mpz_ui_pow_ui(nines, 10, (unsigned long)r->n);
        mpz_sub_ui(nines, nines, 1);
        mpz_t shift;
        mpz_init(shift);
        mpz_ui_pow_ui(shift, 10, (unsigned long)p->v[v].decimals);
        mpz_mul(nines, nines, shift);
        mpq_ptr q = p->numbers[p->v[period].number];
        mpz_set(mpq_denref(q), nines);
        mpq_canonicalize(q);
        mpq_add(p->numbers[p->v[v].number], p->numbers[p->v[v].number], q);
        mpz_clear(nines);
        mpz_clear(shift);
        p->v[v].decimals = p->v[v].significant = 0;
        return v;
    }
    if (!answer_is_integer(p, k)) return v;
    // mixed numbers: 2\frac{1}{2}, 2 1/2
    if (answer_at(p, TK_FRAC, -1) && answer_is_fraction_of_integers(p)) {
        p->at++;
        return answer_node2(p, AN_ADD, v, answer_fraction(p));
    }
    const AnswerToken *a = answer_peek(p, 0), *b = answer_peek(p, 2);
    if (a->kind == TK_NUM && a->space && answer_is_integer(p, a) && answer_peek(p, 1)->kind == TK_OP && answer_peek(p, 1)->sub == '/' && answer_is_integer(p, b)) {
        int top = answer_decimal(p, answer_token_text(p, a), a->n), bottom = answer_decimal(p, answer_token_text(p, b), b->n);
        p->at += 3;
        int part = answer_node2(p, AN_DIV, top, bottom);
        return answer_node2(p, AN_ADD, v, part);
    }
    return v;
}

int answer_primary_name(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    char first = answer_token_text(p, k)[0];
    bool function = k->n == 1 && (first == 'f' || first == 'g' || first == 'h');
    p->at++;
    uint64_t h = answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n);
    while (answer_take(p, TK_OP, '\'')) h = answer_hash(h, "'", 1);
    if (answer_take(p, TK_OP, '_')) h = answer_hash_token(p, answer_hash(h, "_", 1));
    while (answer_take(p, TK_OP, '\'')) h = answer_hash(h, "'", 1);
    int v = answer_node(p, AN_VAR, -1);
    if (p->failed) return 0;
    p->v[v].name = h;
    p->v[v].sub = (uint8_t)first;
    int group = answer_at(p, TK_OPEN, '{') && answer_peek(p, 1)->kind == TK_OPEN && answer_peek(p, 1)->sub == '(';
    if (function && (answer_at(p, TK_OPEN, '(') || group)) { // f(x)
        p->at += 1 + group;
        int call = answer_list(p, AN_CALL);
        if (!answer_take(p, TK_CLOSE, ')') || (group && !answer_take(p, TK_CLOSE, '}')) || p->failed) return answer_fail(p);
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
        if (f == FN_LOG && base < 0 && answer_take(p, TK_OP, '_')) base = answer_at(p, TK_NUM, -1) ? answer_primary_number(p) : answer_factor(p);
        else if (power < 0 && answer_take(p, TK_OP, '^')) power = answer_at(p, TK_OPEN, '{') || answer_at(p, TK_OP, '-') ? answer_factor(p) : answer_argument(p);
    }
    int v = answer_node(p, AN_FUNC, -1);
    if (p->failed) return 0;
    if (answer_at(p, TK_OPEN, -1) || answer_at(p, TK_BAR, -1)) {
        if (answer_at(p, TK_OPEN, '(') && f >= FN_GCD && f <= FN_MIN) {
            p->at++;
            int list = answer_list(p, AN_FUNC);
            p->v[v].child = p->v[list].child;
            p->v[v].count = p->v[list].count;
            if (!answer_take(p, TK_CLOSE, ')')) return answer_fail(p);
        } else {
            int arg = answer_primary(p);
            if (p->failed) return 0;
            answer_append(p, v, arg);
        }
    } else {
        int arg = answer_factor(p);
        for (const AnswerToken *k = answer_peek(p, 0); !p->failed && (k->kind == TK_NAME || k->kind == TK_CONST || k->kind == TK_FRAC || k->kind == TK_SQRT); k = answer_peek(p, 0)) {
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
    if (e->kind == AN_NEG && p->v[e->child].kind == AN_NUM && mpq_cmp_si(p->numbers[p->v[e->child].number], 1, 1) == 0 && f <= FN_COT) { // \sin^{-1}
        p->v[v].sub = f == FN_SIN ? FN_ASIN : f == FN_COS ? FN_ACOS : f == FN_TAN ? FN_ATAN : FN_ACOT;
        return v;
    }
    return answer_node2(p, AN_POW, v, power);
}

int answer_bracket(AnswerTree *p) {
    int open = answer_peek(p, 0)->sub, saved = p->bars;
    p->at++;
    p->bars = 0;
    if (open == 'S' && answer_take(p, TK_CLOSE, 'S')) { p->bars = saved; return answer_node(p, AN_SET, -1); }
    int v = answer_list(p, open == 'S' || open == '{' ? AN_SET : AN_BRACKET);
    p->bars = saved;
    int close = answer_peek(p, 0)->sub;
    if (p->failed || !answer_take(p, TK_CLOSE, -1)) return answer_fail(p);
    int only = p->v[v].count == 1 ? p->v[v].child : -1;
    p->v[v].sub = (uint8_t)open;
    p->v[v].close = (uint8_t)close;
    if (open == '(' || open == '[') {
        if (close != ')' && close != ']') return answer_fail(p);
        if (only < 0) return v;
        if ((open == '(') != (close == ')')) return answer_fail(p); // half-open, of one element
        p->v[only].paren = true;
        return only;
    }
    if (open == 'S') return close == 'S' ? v : answer_fail(p);
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
            if (column == 0) return answer_fail(p);
            if (answer_at(p, TK_FINISH, -1)) continue;
            if (columns && column != columns) return answer_fail(p);
            columns = column;
            column = 0;
            continue;
        }
        if (column > 0 && !answer_take(p, TK_OP, '&')) return answer_fail(p);
        answer_append(p, v, answer_item(p));
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

// \sum_{k=0}^{n} body. Its value is not computed: equal parts make equal sums.
int answer_primary_big(AnswerTree *p) {
    const AnswerToken *k = answer_peek(p, 0);
    int v = answer_node(p, AN_BIG, -1);
    p->v[v].name = answer_hash(ANSWER_HASH, answer_token_text(p, k), (size_t)k->n);
    p->at++;
    for (int i = 0; i < 2 && !p->failed; i++) {
        if (answer_take(p, TK_OP, '_') || answer_take(p, TK_OP, '^')) answer_append(p, v, answer_at(p, TK_OPEN, '{') ? answer_bracket(p) : answer_argument(p));
    }
    if (p->failed) return 0;
    int body = answer_term(p);
    if (p->failed) return 0;
    answer_append(p, v, body);
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

int answer_exponent(AnswerTree *p) {
    bool minus = false;
    while (answer_at(p, TK_OP, '-') || answer_at(p, TK_OP, '+')) { minus ^= answer_at(p, TK_OP, '-'); p->at++; }
    int v = answer_primary(p);
    return minus ? answer_node(p, AN_NEG, v) : v;
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
                if (group && !answer_take(p, TK_CLOSE, '}')) return answer_fail(p);
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
            if (answer_at(p, TK_OP, '!')) return answer_fail(p);
            v = answer_node(p, AN_FACTORIAL, v);
        } else if (answer_take(p, TK_PERCENT, -1)) {
            v = answer_node(p, AN_PERCENT, v);
            p->percent = true;
        } else if (answer_take(p, TK_DEGREE, -1)) v = answer_node(p, AN_DEGREE, v);
        else if (p->v[v].kind == AN_NUM && p->v[v].paren && p->v[v].literal && answer_at(p, TK_OP, '_')) { // (1011)_2
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
        else if (!pm && (answer_at(p, TK_OP, 'p') || answer_at(p, TK_OP, 'm'))) { pm = true; sign = answer_peek(p, 0)->sub; }
        else if (!answer_at(p, TK_OP, '+')) break;
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

bool answer_starts_factor(const AnswerTree *p, int before) {
    const AnswerToken *k = answer_peek(p, 0);
    (void)before;
    if (k->kind == TK_NUM) return answer_peek(p, -1)->kind == TK_CLOSE; // (x+1)2, but not x 2 and 2 3
    return k->kind == TK_NAME || k->kind == TK_CONST || k->kind == TK_FUNC || k->kind == TK_FRAC || k->kind == TK_SQRT || k->kind == TK_BINOM || k->kind == TK_BIG || k->kind == TK_OPEN
        || (k->kind == TK_BAR && p->bars == 0) || k->kind == TK_BEGIN || k->kind == TK_LABEL;
}

bool answer_has_number(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_NUM || (k->kind == AN_CONST && k->sub == 'p')) return true;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        if (answer_has_number(p, c)) return true;
    }
    return false;
}

// Reads units after a number; "million" multiplies. Returns the node.
int answer_units(AnswerTree *p, int v) {
    static const struct { const char *word; long value; } multipliers[] = {{"hundred", 100}, {"thousand", 1000}, {"million", 1000000}, {"billion", 1000000000}, {"trillion", 1000000000000}, {"dozen", 12}};
    while (!p->failed && (answer_at(p, TK_WORD, -1) || answer_at(p, TK_TEXT, -1))) {
        const AnswerToken *k = answer_peek(p, 0);
        if (k->kind == TK_WORD && !answer_has_number(p, v)) return answer_fail(p); // prose
        p->at++;
        p->words++;
        const char *s = answer_token_text(p, k);
        for (size_t i = 0; i < sizeof multipliers / sizeof multipliers[0]; i++) {
            size_t w = strlen(multipliers[i].word);
            if ((size_t)k->n >= w && strncasecmp(s, multipliers[i].word, w) == 0 && !answer_is_letter(s[w] == 's' ? s[w + 1] : s[w])) v = answer_node2(p, AN_MUL, v, answer_integer(p, multipliers[i].value));
        }
        for (int i = 0; i < k->n; i++) { // "5 \text{ or } 6", "3 \text{ R } 2" and "2 \text{ (mod 5)}" say more than a unit
            if (answer_is_digit(s[i]) && !(i > 0 && (s[i - 1] == '^' || answer_is_letter(s[i - 1])))) return answer_fail(p);
        }
        if (answer_take(p, TK_OP, '^')) {
            const AnswerToken *e = answer_peek(p, answer_at(p, TK_OPEN, '{'));
            p->power = answer_is_integer(p, e) ? atoi(answer_token_text(p, e)) : 0;
            answer_exponent(p);
        }
        if (answer_at(p, TK_OP, '/') && (answer_peek(p, 1)->kind == TK_WORD || answer_peek(p, 1)->kind == TK_TEXT)) p->at++;
    }
    return v;
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
        if (!answer_take(p, TK_OP, '*') && !answer_starts_factor(p, v)) break;
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
    while (!p->failed && (answer_at(p, TK_OP, '+') || answer_at(p, TK_OP, '-') || answer_at(p, TK_OP, 'p') || answer_at(p, TK_OP, 'm'))) {
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

int answer_item(AnswerTree *p) {
    if (p->failed || ++p->depth > ANSWER_MAX_DEPTH) return answer_fail(p);
    int v = answer_union(p);
    if (!p->failed && answer_at(p, TK_REL, -1)) {
        v = answer_node(p, AN_REL, v);
        while (!p->failed && answer_at(p, TK_REL, -1)) {
            int rel = answer_peek(p, 0)->sub;
            p->at++;
            int side = answer_union(p);
            if (p->failed) return 0;
            p->v[side].rel = (uint8_t)rel;
            answer_append(p, v, side);
        }
    }
    p->depth--;
    return p->failed ? 0 : v;
}

// Items up to what is no separator, as a node of this kind.
int answer_list(AnswerTree *p, AnswerKind kind) {
    int list = answer_node(p, kind, -1);
    do {
        int item = answer_item(p);
        if (p->failed || p->v[list].count >= 400) return answer_fail(p);
        answer_append(p, list, item);
        if (!answer_at(p, TK_SEP, -1)) break;
        while (answer_at(p, TK_SEP, -1)) p->at++; // ", and"
    } while (!p->failed);
    return list;
}

// Reads a whole answer. The numbers in it must be freed with answer_tree_free, also after a failure.
bool answer_parse(AnswerTree *p, AnswerTokens *t) {
    p->t = t;
    p->at = p->n = p->n_numbers = p->depth = p->bars = p->root = p->words = p->power = 0;
    p->failed = p->pm = p->log = p->percent = false;
    answer_node(p, AN_TEXT, -1); // node 0, what failures return
    int list = answer_list(p, AN_LIST);
    if (p->failed || p->at < t->n) return false;
    p->root = p->v[list].count == 1 ? p->v[list].child : list;
    return true;
}

void answer_tree_free(AnswerTree *p) {
    for (int i = 0; i < p->n_numbers; i++) mpq_clear(p->numbers[i]);
    p->n_numbers = 0;
}

#endif
