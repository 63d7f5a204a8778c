/*
The tree of an answer: its nodes, and the numbers among them.

Nodes come from one array of a fixed size and are linked as first child and next sibling; numbers are exact (GMP). Also
here: the cursor over the tokens, and how numbers are read: decimals, exponents, periods (0.1\overline{36}), fractions,
mixed numbers, bases.
*/
#ifndef LLMC_ANSWER_TREE_H
#define LLMC_ANSWER_TREE_H

#include <gmp.h>
#include "llmc/answer/lex.h" // AnswerTokens

#define ANSWER_MAX_NODES 2000
#define ANSWER_MAX_NUMBERS 600
#define ANSWER_MAX_DEPTH 60
#define ANSWER_UNIT_DEGREE 22 // of those in units.h
#define ANSWER_UNIT_AM 28
#define ANSWER_UNIT_PM 29
#define ANSWER_UNIT_PERCENT 30 // 31 and more: in units.h

// clang-format off
typedef enum {
    AN_NUM, AN_CONST, AN_VAR, AN_ADD, AN_MUL, AN_DIV, AN_NEG, AN_PM, AN_POW, AN_ROOT, AN_FUNC, AN_FACTORIAL, AN_BINOM,
    AN_CALL, AN_BIG, AN_PERCENT, AN_DEGREE, AN_BASE, AN_RATIO, AN_BRACKET, AN_SET, AN_LIST, AN_REL, AN_UNION, AN_SETOP,
    AN_MATRIX, AN_TEXT,
} AnswerKind;
// clang-format on

typedef struct {
    uint8_t kind;
    uint8_t sub;               // which constant, function, opening bracket, sign (\pm p, \mp m)
    uint8_t close;             // AN_BRACKET: the closing bracket
    uint8_t rel;               // of a child of AN_REL after the first: the relation before it
    bool paren;                // stood in parentheses
    bool literal;              // AN_NUM as it was written: digits without a sign
    int child, next;           // -1: none
    int count;                 // children; AN_MATRIX: columns
    int number;                // AN_NUM: index; AN_BASE: the base
    int decimals, significant; // AN_NUM: digits after the point, digits from the first that is not 0
    uint64_t name;             // AN_VAR, AN_CALL, AN_BASE (its digits), AN_TEXT, AN_BIG: hash
    uint64_t folded;           // AN_VAR: the same without regard to case
} AnswerNode;

typedef struct AnswerTree AnswerTree;
struct AnswerTree {
    AnswerTokens *t;
    int (*primary)(AnswerTree *p), (*sum)(AnswerTree *p),
        (*item)(AnswerTree *p); // parse.h's: in a fraction or brackets stands a formula again
    int at, n, n_numbers, depth, bars, root, words, power, unit, products; // power: of the unit
    bool failed, pm, log, percent;
    AnswerNode v[ANSWER_MAX_NODES];
    mpq_t numbers[ANSWER_MAX_NUMBERS];
};

// ----------------------------------------------------------------------------
// nodes

uint64_t answer_hash(uint64_t h, const char *s, size_t n) { // FNV-1a
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}
#define ANSWER_HASH 14695981039346656037u

uint64_t answer_hash_folded(uint64_t h, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = (char)tolower((unsigned char)s[i]);
        h = answer_hash(h, &c, 1);
    }
    return h;
}

uint64_t answer_sign_name(int sign) { // of \mathbb{R}^+ and the like
    char c = (char)sign;
    return answer_hash(answer_hash(ANSWER_HASH, "^", 1), &c, 1);
}

int answer_fail(AnswerTree *p) {
    p->failed = true;
    return 0;
} // node 0 always exists

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
        if (s[i] == 'e') {
            exponent = strtol(s + i + 1, NULL, 10);
            break;
        }
        if (s[i] == '.') {
            point = true;
            continue;
        }
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

const AnswerToken *answer_peek(const AnswerTree *p,
                               int ahead) { // negative: what was read; the end token beyond either end
    int i = p->at + ahead;
    return &p->t->v[i >= 0 && i < p->t->n ? i : p->t->n];
}
bool answer_at(const AnswerTree *p, AnswerTokenKind kind, int sub) {
    const AnswerToken *k = answer_peek(p, 0);
    return k->kind == kind && (sub < 0 || k->sub == sub);
}
bool answer_take(AnswerTree *p, AnswerTokenKind kind, int sub) {
    bool is = answer_at(p, kind, sub);
    p->at += is;
    return is;
}
const char *answer_token_text(const AnswerTree *p, const AnswerToken *k) {
    return k->kind == TK_NUM ? p->t->digits + k->at : p->t->text + k->at;
}

// Adds a token to the hash of a name, or a whole {group}: x_{12} and x_12 are one name.
uint64_t answer_hash_token(AnswerTree *p, uint64_t h) {
    int depth = 0;
    do {
        const AnswerToken *k = answer_peek(p, 0);
        if (k->kind == TK_END) {
            p->failed = true;
            return h;
        }
        if (k->kind == TK_OPEN && k->sub == '{') depth++;
        else if (k->kind == TK_CLOSE && k->sub == '}') depth--;
        else h = answer_hash(h, answer_token_text(p, k), (size_t)k->n);
        p->at++;
    } while (depth > 0);
    return h;
}

// ----------------------------------------------------------------------------
// numbers

bool answer_is_integer(const AnswerTree *p, const AnswerToken *k) {
    return k->kind == TK_NUM && !memchr(p->t->digits + k->at, '.', (size_t)k->n) &&
           !memchr(p->t->digits + k->at, 'e', (size_t)k->n);
}

int answer_number_word(const char *s, size_t n) {
    static const char *const words[] = {"two", "three",  "four",   "five",     "six",      "seven",   "eight",  "nine",
                                        "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"};
    for (int i = 0; i < 15; i++) {
        if (strlen(words[i]) == n && strncasecmp(s, words[i], n) == 0) return i + 2;
    }
    return 0;
}

void answer_base_digits(AnswerTree *p, int v, const char *digits, size_t n) {
    while (n > 1 && *digits == '0') {
        digits++;
        n--;
    }
    p->v[v].name = answer_hash(ANSWER_HASH, digits, n);
}

int answer_base_node(AnswerTree *p, const char *digits, size_t n, int base) {
    int v = answer_node(p, AN_BASE, -1);
    if (p->failed) return 0;
    p->v[v].number = base;
    answer_base_digits(p, v, digits, n);
    return v;
}

// The base of "base 2", "(base two)"; 1 of "base" alone, 0 of anything else.
int answer_base_words(const char *s, size_t n) {
    while (n > 0 && strchr("( ", *s)) {
        s++;
        n--;
    }
    while (n > 0 && strchr(") ", s[n - 1])) n--;
    if (n < 4 || strncasecmp(s, "base", 4) != 0) return 0;
    s += 4;
    n -= 4;
    while (n > 0 && *s == ' ') {
        s++;
        n--;
    }
    if (n == 0) return 1;
    return answer_is_digit(*s) ? atoi(s) : answer_number_word(s, n);
}

// After digits: _8, _{8}, _{\text{eight}}. Returns a node of digits and base, both of which must agree.
int answer_base(AnswerTree *p, const char *digits, size_t n) {
    int v = answer_node(p, AN_BASE, -1);
    bool group = answer_take(p, TK_OPEN, '{'), paren = answer_take(p, TK_OPEN, '(');
    const AnswerToken *k = answer_peek(p, 0);
    if (p->failed) return 0;
    p->at++;
    p->v[v].number = answer_is_integer(p, k) ? atoi(answer_token_text(p, k))
                     : k->kind == TK_WORD || k->kind == TK_TEXT
                         ? answer_number_word(answer_token_text(p, k), (size_t)k->n)
                         : 0;
    answer_base_digits(p, v, digits, n);
    if (p->v[v].number < 2 || (paren && !answer_take(p, TK_CLOSE, ')')) || (group && !answer_take(p, TK_CLOSE, '}')))
        return answer_fail(p);
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
    if (k->kind == TK_NUM) {
        p->at++;
        return answer_decimal(p, p->t->digits + k->at, 1);
    }
    return p->primary(p); // without a power: \frac{1}{2}^2
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
    const AnswerToken *word = answer_peek(p, 0); // 1011 base 2, 1011 \text{ (base 2)}
    int base = word->kind == TK_WORD || word->kind == TK_TEXT
                   ? answer_base_words(answer_token_text(p, word), (size_t)word->n)
                   : 0;
    if (base == 1 && answer_is_integer(p, answer_peek(p, 1))) {
        base = atoi(answer_token_text(p, answer_peek(p, 1)));
        p->at++;
    }
    if (base > 1) {
        p->at++;
        return answer_base_node(p, digits, (size_t)k->n, base);
    }
    int v = answer_decimal(p, digits, k->n);
    if (p->failed) return 0;
    if (answer_at(p, TK_OVERLINE, -1) &&
        (memchr(digits, '.', (size_t)k->n) || p->t->text[answer_peek(p, 0)->at - 2] == '.')) { // 0.1\overline{36}
        p->at++;
        bool group = answer_take(p, TK_OPEN, '{');
        const AnswerToken *r = answer_peek(p, 0);
        if (!answer_is_integer(p, r) || r->n > ANSWER_MAX_PERIOD) return answer_fail(p);
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
    if (a->kind == TK_NUM && a->space && answer_is_integer(p, a) && answer_peek(p, 1)->kind == TK_OP &&
        answer_peek(p, 1)->sub == '/' && answer_is_integer(p, b)) {
        int top = answer_decimal(p, answer_token_text(p, a), a->n),
            bottom = answer_decimal(p, answer_token_text(p, b), b->n);
        p->at += 3;
        int part = answer_node2(p, AN_DIV, top, bottom);
        return answer_node2(p, AN_ADD, v, part);
    }
    return v;
}

int answer_exponent(AnswerTree *p) {
    bool minus = false;
    while (answer_at(p, TK_OP, '-') || answer_at(p, TK_OP, '+')) {
        minus ^= answer_at(p, TK_OP, '-');
        p->at++;
    }
    const AnswerToken *k = answer_peek(p, 0), *next = answer_peek(p, 1);
    bool ends =
        k->kind == TK_NUM && (next->kind == TK_NUM || next->kind == TK_FRAC); // 2^3 5, 2^3 \frac{1}{2}: no mixed number
    p->at += ends;
    int v = ends ? answer_decimal(p, answer_token_text(p, k), k->n) : p->primary(p);
    return minus ? answer_node(p, AN_NEG, v) : v;
}

void answer_tree_free(AnswerTree *p) {
    for (int i = 0; i < p->n_numbers; i++) mpq_clear(p->numbers[i]);
    p->n_numbers = 0;
}

#endif
