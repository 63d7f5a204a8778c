/*
Reading a mathematical answer, second step, its beginning: how a token is made, and how digits are grouped: thousands
separators, the period of a repeating decimal.
*/
#ifndef LLMC_ANSWER_DIGITS_H
#define LLMC_ANSWER_DIGITS_H

#include "llmc/answer/words.h" // AnswerTokens, answer_is_digit

typedef struct {
    const char *s;
    bool space, failed;
    int depth;
} AnswerLexer; // depth: open ( [ \{, where a comma separates

void answer_token(AnswerTokens *t, AnswerLexer *x, AnswerTokenKind kind, int sub, const char *at, size_t n) {
    if (t->n >= ANSWER_MAX_TOKENS) {
        x->failed = true;
        return;
    }
    AnswerToken *k = &t->v[t->n++];
    k->kind = (uint8_t)kind;
    k->sub = (uint8_t)sub;
    k->space = x->space;
    k->at = (int)(at - t->text);
    k->n = (int)n;
    x->space = false;
}

// Past spaces and spacing macros.
const char *answer_skip_space(const char *s) {
    for (;;) {
        if (answer_is_space(*s) || *s == '~') s++;
        else if (*s == '\\' && s[1] && strchr(",!;: ", s[1])) s += 2;
        else return s;
    }
}

// Where the next group of three digits starts if a thousands separator stands at s, else NULL. Of the plain comma and
// of the space alone `all` says that groups may follow: "1,234" is a number, "(1,234)" and "1, 234" are not.
const char *answer_thousands(const char *s, bool all) {
    const char *p = answer_skip_space(s);
    bool spaced = p > s, macro = spaced && memchr(s, '\\', (size_t)(p - s));
    if (*p == '{') { // {,} and { , }
        const char *q = answer_skip_space(p + 1);
        if (*q != ',' && *q != '}') return NULL; // {\,} is a separator, too
        if (*q == ',') q = answer_skip_space(q + 1);
        if (*q != '}') return NULL;
        p = answer_skip_space(q + 1);
    } else if (*p == ',') {
        const char *q = answer_skip_space(p + 1);
        bool tight = p[1] == '\\' && p[2] == '!';
        if (spaced || (q > p + 1 && !tight) || (!all && !tight)) return NULL;
        p = q;
    } else if (*s == '\'') p = s + 1; // 1'234
    else if (!spaced || (!all && !macro) || (!macro && p > s + 1)) return NULL;
    for (int i = 0; i < 3; i++) {
        if (!answer_is_digit(p[i])) return NULL;
    }
    if (answer_is_digit(p[3])) return NULL;
    return spaced && !macro && *answer_skip_space(p + 3) == '/' ? NULL : p; // 2 226/625 is a mixed number
}

// How many groups of a point and three digits stand at s: the dots of 1.234.567; 0 if there are fewer than two, or
// something else follows.
size_t answer_point_groups(const char *s) {
    size_t n = 0;
    for (; *s == '.' && answer_is_digit(s[1]) && answer_is_digit(s[2]) && answer_is_digit(s[3]); n++) s += 4;
    return n >= 2 && !answer_is_digit(*s) && !(*s == '.' && answer_is_digit(s[1])) ? n : 0;
}

// A period in parentheses at s, the (142857) of 0.(142857): its length, else 0. Directly after the point it can be
// nothing else; 0.1(6) might be a product, and is one unless it is all there is.
size_t answer_period_at(const AnswerTokens *t, const char *s, bool after_point) {
    size_t n = *s == '(' ? strspn(s + 1, "0123456789") : 0;
    if (n == 0 || s[n + 1] != ')' || answer_is_digit(s[n + 2])) return 0;
    const AnswerToken *last = t->n > 0 ? &t->v[t->n - 1] : NULL;
    const char *end = answer_skip_space(s + n + 2);
    bool alone = (!last || last->kind == TK_REL || (t->n == 1 && last->kind == TK_OP && strchr("+-", last->sub))) &&
                 (*end == 0 || *end == '$' || (*end == '.' && end[1] == 0));
    return after_point || alone ? n : 0;
}

// The period of n digits at s, as \overline{...}.
void answer_lex_period(AnswerTokens *t, AnswerLexer *x, const char *s, size_t n) {
    x->failed |= n > ANSWER_MAX_PERIOD;
    answer_token(t, x, TK_OVERLINE, 0, s + 1, 1);
    answer_token(t, x, TK_OPEN, '{', s, 1);
    answer_token(t, x, TK_NUM, 0, t->text, n);
    if (t->n > 0) t->v[t->n - 1].at = t->n_digits;
    memcpy(t->digits + t->n_digits, s + 1, n);
    t->n_digits += (int)n;
    t->digits[t->n_digits++] = 0;
    answer_token(t, x, TK_CLOSE, '}', s, 1);
    x->s = s + n + 2;
}

#endif
