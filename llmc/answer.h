/*
The reward's eye: is the answer in a completion the right one?

The answer is what stands in the last closed \boxed{} (or \fbox{}), after the last </think> if there is one. It is right if it
equals the gold answer (or one of its alternatives) in one of two ways:

1. As text, once white space, $, \left, \right, \! \, \; \: and a closing period are taken out, \dfrac and \tfrac are \frac,
   \text{x} and \mbox{x} are x, and {x} around one character is x.
2. As a number, compared exactly, without rounding. A number is: an optional sign; digits with at most one point and
   commas (or {,} or ,\!) only between groups of three, or a/b, or \frac{a}{b} or \frac12 of such. Around it $ and \$ do not count, nor
   does % (GSM8K's gold answers have none), nor a unit: \text{ clips} or \mbox{}, with or without a power (\text{cm}^2), or words of two
   letters and more after a space ("18 dollars"). But "5x" and "5 x" are no numbers, and neither is "5 million".

Where the problem says `multiple`, both are comma-separated lists and the order is free; where it gives an `error`, numbers
may differ by that much. Everything here takes time linear in the completion (and the product of the lists' lengths).
*/
#ifndef LLMC_ANSWER_H
#define LLMC_ANSWER_H

#include <ctype.h>   // isalpha, isdigit
#include <strings.h> // strncasecmp
#include "dataset.h" // Problem
#include "utils.h"   // Str, IntVec

#define ANSWER_MAX_LIST 64 // longer lists are compared as text

bool answer_starts(const char *s, const char *word) { return strncmp(s, word, strlen(word)) == 0; }
bool answer_is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// ----------------------------------------------------------------------------
// finding the box

// Length of "\boxed {" or "\fbox{" at s (within n bytes), brace included; 0 if it is something else.
size_t answer_box_at(const char *s, size_t n) {
    size_t i = n >= 6 && memcmp(s, "\\boxed", 6) == 0 ? 6 : n >= 5 && memcmp(s, "\\fbox", 5) == 0 ? 5 : 0;
    if (i == 0) return 0;
    for (int spaces = 0; i < n && answer_is_space(s[i]) && spaces < 8; spaces++) i++;
    return i < n && s[i] == '{' ? i + 1 : 0;
}

// Appends the inside of the last closed box (the innermost where boxes are nested) to *answer, trimmed. False if there is none.
bool answer_extract(Str *answer, const char *completion, size_t n) {
    size_t from = 0;
    for (size_t i = 0; i + 8 <= n; i++) {
        if (completion[i] == '<' && memcmp(completion + i, "</think>", 8) == 0) from = i + 8;
    }
    IntVec open = {NULL, 0, 0}; // per open brace: 1 + where the inside of a box starts (from `from`), 0 for other braces
    const char *s = completion + from;
    size_t length = n - from < INT_MAX / 2 ? n - from : INT_MAX / 2, best = 0, best_end = 0;
    bool found = false;
    for (size_t i = 0; i < length;) {
        size_t box = s[i] == '\\' ? answer_box_at(s + i, length - i) : 0;
        if (box) {
            i += box;
            ints_push(&open, 1 + (int)i);
        } else if (s[i] == '\\') { // \{ and \} are no braces; \\boxed{ is a box
            i += i + 2 < length && s[i + 1] == '\\' && answer_box_at(s + i + 1, length - i - 1) ? 1 : 2;
        } else {
            if (s[i] == '{') ints_push(&open, 0);
            if (s[i] == '}' && open.n > 0) {
                int start = open.v[--open.n] - 1;
                if (start >= 0 && (!found || (size_t)start > best)) { found = true; best = (size_t)start; best_end = i; }
            }
            i++;
        }
    }
    ints_free(&open);
    if (!found) return false;
    while (best < best_end && answer_is_space(s[best])) best++;
    while (best < best_end && answer_is_space(s[best_end - 1])) best_end--;
    str_add(answer, s + best, best_end - best);
    return true;
}

// ----------------------------------------------------------------------------
// as text

// Appends the normal form of s (rule 1 above).
void answer_normalize(Str *out, const char *s) {
    IntVec open = {NULL, 0, 0}; // per open brace: its place in out, -1 if it was left out
    static const char *const dropped[] = {"\\$", "\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ "};
    static const char *const wrappers[] = {"\\text{", "\\mbox{", "\\textbf{", "\\mathrm{"};
    size_t start = out->n;
    str_add(out, "", 0);
    while (*s) {
        size_t skip = answer_is_space(*s) || *s == '$' ? 1 : 0;
        for (size_t k = 0; k < sizeof dropped / sizeof dropped[0] && *s == '\\' && !skip; k++) {
            size_t n = strlen(dropped[k]);
            if (answer_starts(s, dropped[k]) && !(n > 3 && isalpha((unsigned char)s[n]))) skip = n; // \left, not \leftarrow
        }
        for (size_t k = 0; k < sizeof wrappers / sizeof wrappers[0] && *s == '\\' && !skip; k++) {
            if (answer_starts(s, wrappers[k])) { skip = strlen(wrappers[k]); ints_push(&open, -1); }
        }
        if (skip) { s += skip; continue; }
        if (answer_starts(s, "\\dfrac") || answer_starts(s, "\\tfrac")) {
            str_add(out, "\\frac", 5);
            s += 6;
            continue;
        }
        if (*s == '\\' && s[1]) { // \{ and the like are kept whole
            str_add(out, s, 2);
            s += 2;
            continue;
        }
        if (*s == '{') ints_push(&open, (int)(out->n - start));
        if (*s == '}' && open.n > 0) {
            int at = open.v[--open.n];
            s++;
            if (at < 0) continue;
            if (out->n - start == (size_t)at + 2) { // {x}
                out->s[out->n - 2] = out->s[out->n - 1];
                out->s[--out->n] = 0;
            } else str_add(out, "}", 1);
            continue;
        }
        str_add(out, s++, 1);
    }
    while (out->n > start && out->s[out->n - 1] == '.') out->s[--out->n] = 0;
    ints_free(&open);
}

// ----------------------------------------------------------------------------
// as a number

// digits * 10^-scale, in lowest terms: no leading zero, no trailing zero behind the point; zero is "" and 0.
typedef struct { Str digits; size_t scale; } AnswerDecimal;

typedef struct {
    bool negative;
    AnswerDecimal top, bottom; // bottom is 1 unless it is a fraction
} AnswerNumber;

void answer_number_free(AnswerNumber *x) {
    str_free(&x->top.digits);
    str_free(&x->bottom.digits);
}

const char *answer_skip_space(const char *s) {
    for (;;) {
        if (answer_is_space(*s)) s++;
        else if (answer_starts(s, "\\ ") || answer_starts(s, "\\,") || answer_starts(s, "\\!") || answer_starts(s, "\\;")) s += 2;
        else return s;
    }
}

// Reads digits, commas and a point; returns where it ends, NULL if no decimal starts at s.
const char *answer_read_decimal(AnswerDecimal *d, const char *s) {
    size_t whole = 0, group = 0; // digits before the point; digits since the last comma
    bool commas = false;
    d->digits.n = 0;
    d->scale = 0;
    str_add(&d->digits, "", 0);
    for (;; s++) {
        size_t comma = *s == ',' ? 1 : answer_starts(s, "{,}") ? 3 : 0;
        const char *next = s + comma;
        if (comma && answer_starts(next, "\\!")) next = answer_skip_space(next); // 32,\! 349
        if (comma && isdigit((unsigned char)*next)) {
            if (whole == 0 || group > 3 || (commas && group != 3)) return NULL;
            commas = true;
            group = 0;
            s = next;
        }
        if (!isdigit((unsigned char)*s)) break;
        if (d->digits.n > 0 || *s != '0') str_add(&d->digits, s, 1);
        whole++;
        group++;
    }
    if (commas && group != 3) return NULL;
    size_t behind = 0;
    if (*s == '.' && isdigit((unsigned char)s[1])) {
        for (s++; isdigit((unsigned char)*s); s++, behind++) {
            if (d->digits.n > 0 || *s != '0') str_add(&d->digits, s, 1);
        }
    } else if (*s == '.' && whole > 0) s++; // "18."
    if (whole + behind == 0) return NULL;
    d->scale = behind;
    while (d->scale > 0 && d->digits.n > 0 && d->digits.s[d->digits.n - 1] == '0') { d->digits.s[--d->digits.n] = 0; d->scale--; }
    if (d->digits.n == 0) d->scale = 0;
    return s;
}

const char *answer_skip_sign(const char *s, bool *negative) {
    for (;; s = answer_skip_space(s)) {
        if (*s == '$' || *s == ' ') s++;
        else if (answer_starts(s, "\\$")) s += 2;
        else break;
    }
    if (*s == '-') { *negative = !*negative; s++; }
    else if (answer_starts(s, "\xE2\x88\x92")) { *negative = !*negative; s += 3; } // U+2212
    else if (*s == '+') s++;
    s = answer_skip_space(s);
    while (*s == '$' || answer_starts(s, "\\$")) s += *s == '$' ? 1 : 2;
    return answer_skip_space(s);
}

// One argument of \frac: {decimal} or one digit.
const char *answer_read_argument(AnswerDecimal *d, const char *s, bool *negative) {
    s = answer_skip_space(s);
    if (*s == '{') {
        s = answer_read_decimal(d, answer_skip_sign(s + 1, negative));
        s = s ? answer_skip_space(s) : NULL;
        return s && *s == '}' ? s + 1 : NULL;
    }
    char digit[2] = {*s, 0};
    return answer_read_decimal(d, digit) ? s + 1 : NULL;
}

// True if n bytes at s are a unit: words that do not change the number. A lone letter may be a variable, unless it stands in \text{}.
bool answer_is_unit(const char *s, size_t n, bool in_text) {
    static const char *const multipliers[] = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "half"};
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && isalpha((unsigned char)s[k])) k++;
        size_t length = k - i;
        if (length == 0) {
            bool filler = answer_is_space(s[i]) || (in_text && strchr("./-", s[i]) && s[i]) || (s[i] == '.' && i + 1 == n);
            if (!filler) return false;
            i++;
            continue;
        }
        if (length == 1 && !in_text) return false;
        for (size_t m = 0; m < sizeof multipliers / sizeof multipliers[0]; m++) {
            size_t w = strlen(multipliers[m]);
            if ((length == w || (length == w + 1 && (s[k - 1] | 32) == 's')) && strncasecmp(s + i, multipliers[m], w) == 0) return false;
        }
        i = k;
    }
    return true;
}

// True if what follows a number does not change it: %, $, a unit, a period.
bool answer_is_tail(const char *s) {
    while (*s == '$') s++;
    bool space = answer_skip_space(s) > s;
    s = answer_skip_space(s);
    if (answer_starts(s, "\\%")) s += 2;
    else if (*s == '%') s++;
    s = answer_skip_space(s);
    if (answer_starts(s, "\\text{") || answer_starts(s, "\\mbox{")) {
        s += 6;
        size_t n = strcspn(s, "}");
        if (s[n] == 0 || !answer_is_unit(s, n, true)) return false;
        s += n + 1;
        if (*s == '^') s += s[1] == '{' && (s[2] == '2' || s[2] == '3') && s[3] == '}' ? 4 : s[1] == '2' || s[1] == '3' ? 2 : 0;
    } else if (space && isalpha((unsigned char)*s)) return answer_is_unit(s, strlen(s), false);
    while (*s == '.' || *s == '$' || answer_starts(s, "\\$") || answer_skip_space(s) > s) {
        s = *s == '.' || *s == '$' ? s + 1 : answer_starts(s, "\\$") ? s + 2 : answer_skip_space(s);
    }
    return *s == 0;
}

// Reads s as a number (rule 2 above). Free with answer_number_free, also when it returns false.
bool answer_read_number(AnswerNumber *x, const char *s) {
    memset(x, 0, sizeof *x);
    str_add(&x->bottom.digits, "1", 1);
    s = answer_skip_sign(answer_skip_space(s), &x->negative);
    if (answer_starts(s, "\\frac") || answer_starts(s, "\\dfrac") || answer_starts(s, "\\tfrac")) {
        s = answer_read_argument(&x->top, s + (s[1] == 'f' ? 5 : 6), &x->negative);
        if (s) s = answer_read_argument(&x->bottom, s, &x->negative);
    } else {
        s = answer_read_decimal(&x->top, s);
        const char *slash = s ? answer_skip_space(s) : NULL;
        if (slash && *slash == '/') s = answer_read_decimal(&x->bottom, answer_skip_sign(slash + 1, &x->negative));
    }
    if (!s || x->bottom.digits.n == 0 || !answer_is_tail(s)) return false;
    if (x->top.digits.n == 0) x->negative = false; // -0 is 0
    return true;
}

// d as a whole number after multiplication with 10^power; false if it has more than 18 digits.
bool answer_to_integer(const AnswerDecimal *d, size_t power, int64_t *value) {
    *value = 0;
    if (d->digits.n == 0) return true;
    if (d->digits.n > 18 || power > 18 || d->digits.n + power > 18) return false;
    for (size_t i = 0; i < d->digits.n; i++) *value = *value * 10 + (d->digits.s[i] - '0');
    for (size_t i = 0; i < power; i++) *value *= 10;
    return true;
}

bool answer_decimal_equal(const AnswerDecimal *a, const AnswerDecimal *b) {
    return a->scale == b->scale && a->digits.n == b->digits.n && memcmp(a->digits.s, b->digits.s, a->digits.n) == 0;
}

// Exact: decimals of any length digit by digit; fractions by cross-multiplication, in 128 bits from parts of 18 digits.
bool answer_number_equal(const AnswerNumber *a, const AnswerNumber *b) {
    if (a->negative != b->negative) return false;
    if (answer_decimal_equal(&a->bottom, &b->bottom)) return answer_decimal_equal(&a->top, &b->top);
    int64_t p, q, r, t; // p/q and r/t
    if (!answer_to_integer(&a->top, a->bottom.scale, &p) || !answer_to_integer(&a->bottom, a->top.scale, &q)
        || !answer_to_integer(&b->top, b->bottom.scale, &r) || !answer_to_integer(&b->bottom, b->top.scale, &t)) return false;
    return (__int128)p * t == (__int128)r * q;
}

// ----------------------------------------------------------------------------
// the verdict

double answer_number_value(const AnswerNumber *x) {
    double v = strtod(x->top.digits.n ? x->top.digits.s : "0", NULL) / strtod(x->bottom.digits.s, NULL);
    v *= pow(10.0, (double)x->bottom.scale - (double)x->top.scale);
    return x->negative ? -v : v;
}

// As answer_equal; numbers may differ by `error` (0: exactly equal). Either may still be in its box, as some gold answers are.
bool answer_equal_within(const char *gold, const char *given, double error) {
    Str a = {NULL, 0, 0}, b = {NULL, 0, 0}, inner_gold = {NULL, 0, 0}, inner = {NULL, 0, 0};
    if (answer_extract(&inner_gold, gold, strlen(gold))) gold = inner_gold.s;
    if (answer_extract(&inner, given, strlen(given))) given = inner.s;
    answer_normalize(&a, gold);
    answer_normalize(&b, given);
    bool equal = a.n > 0 && a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
    if (!equal) {
        AnswerNumber x, y;
        bool numbers = answer_read_number(&x, gold);
        numbers = answer_read_number(&y, given) && numbers;
        equal = numbers && (answer_number_equal(&x, &y) || (error > 0 && fabs(answer_number_value(&x) - answer_number_value(&y)) <= error));
        answer_number_free(&x);
        answer_number_free(&y);
    }
    str_free(&a);
    str_free(&b);
    str_free(&inner_gold);
    str_free(&inner);
    return equal;
}

// True if the two mean the same by the rules at the top. Never true for an empty answer.
bool answer_equal(const char *gold, const char *given) { return answer_equal_within(gold, given, 0); }

// Cuts s (in place) at the commas outside all brackets; the number of parts, -1 if there are more than ANSWER_MAX_LIST.
int answer_split(char *s, char *parts[ANSWER_MAX_LIST]) {
    int n = 0, depth = 0;
    parts[n++] = s;
    for (; *s; s++) {
        if (strchr("([{", *s)) depth++;
        if (strchr(")]}", *s)) depth--;
        if (*s != ',' || depth > 0) continue;
        if (n == ANSWER_MAX_LIST) return -1;
        *s = 0;
        parts[n++] = s + 1;
    }
    return n;
}

// Two comma-separated lists with the same elements, in any order.
bool answer_list_equal(const char *gold, const char *given, double error) {
    char *a = xstrdup(gold), *b = xstrdup(given), *x[ANSWER_MAX_LIST], *y[ANSWER_MAX_LIST];
    int n = answer_split(a, x), m = answer_split(b, y);
    bool equal = n == m && n > 0, used[ANSWER_MAX_LIST] = {false};
    for (int i = 0; i < n && equal; i++) {
        int k = 0;
        while (k < m && (used[k] || !answer_equal_within(x[i], y[k], error))) k++;
        equal = k < m;
        if (equal) used[k] = true;
    }
    free(a);
    free(b);
    return equal;
}

// The verdict on a completion of n bytes (a NUL in the answer ends it). What was in the box is appended to *extracted (may be NULL).
bool answer_correct(const Problem *p, const char *completion, size_t n, Str *extracted) {
    Str answer = {NULL, 0, 0};
    bool correct = answer_extract(&answer, completion, n);
    if (correct) {
        if (extracted) str_add(extracted, answer.s, answer.n);
        correct = answer_equal_within(p->answer, answer.s, p->error) || (p->multiple && answer_list_equal(p->answer, answer.s, p->error));
        for (int i = 0; i < p->n_alt && !correct; i++) correct = answer_equal_within(p->alt[i], answer.s, p->error);
    }
    str_free(&answer);
    return correct;
}

#endif
