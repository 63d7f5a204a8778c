/*
The reward's eye: is the answer in a completion the right one?

    answer_extract.h   where the answer stands in a completion
    answer_lex.h       LaTeX, ASCII and Unicode to tokens
    answer_parse.h     tokens to a tree (answer_tree.h)
    answer_number.h    exact fractions, and complex numbers where those do not suffice (answer_value.h)
    answer_equal.h     tuples, sets, intervals, equations, matrices: part by part (answer_matrix.h)

Two answers are equal if they are the same text (white space and dress aside) or mean the same by the rules of
answer_equal.h. What is no mathematics (a word, a sentence) is compared as text alone, without regard to case where there are words.
Everything here is bounded: answers of more than ANSWER_MAX_BYTES are compared as text, of more than ANSWER_MAX_TEXT byte for byte.
*/
#ifndef LLMC_ANSWER_H
#define LLMC_ANSWER_H

#include "answer_equal.h"   // answer_nodes_equal
#include "answer_extract.h" // answer_extract
#include "dataset.h"        // Problem

#define ANSWER_MAX_TEXT 20000 // longer ones must be the same, byte for byte

// ----------------------------------------------------------------------------
// as text

// Appends the normal form of s: no white space, $, \left, \right, spacing; \dfrac is \frac, \text{x} is x, {x} of one character is x.
void answer_normalize(Str *out, const char *s) {
    IntVec open = {NULL, 0, 0}; // per open brace: its place in out, -1 if it was left out
    static const char *const dropped[] = {"\\$", "\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\(", "\\)", "\\[", "\\]"};
    static const char *const wrappers[] = {"\\text{", "\\mbox{", "\\textbf{", "\\mathrm{", "\\textit{", "\\textnormal{", "\\textrm{", "\\mathbf{"};
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

// Of a normal form that is words: punctuation between them, brackets around a choice letter, "and" for a comma.
bool answer_texts_equal(const char *a, const char *b, bool words) {
    for (;;) {
        while (*a && strchr("()., ;:'\"", *a)) a++;
        while (*b && strchr("()., ;:'\"", *b)) b++;
        if (*a == 0 || *b == 0) return *a == *b;
        if (words ? tolower((unsigned char)*a) != tolower((unsigned char)*b) : *a != *b) return false;
        a++;
        b++;
    }
}

// The letter of "A", "(A)", "A)"; 0 if it is something else.
char answer_choice_letter(const char *s) {
    s += *s == '(';
    char letter = *s >= 'A' && *s <= 'Z' ? *s++ : 0;
    s += *s == ')';
    return *s ? 0 : letter;
}

// Does it hold words, and neither digits nor operators?
bool answer_is_words(const char *s) {
    int letters = 0;
    for (; *s; s++) {
        letters += isalpha((unsigned char)*s) || (unsigned char)*s >= 0x80;
        if (strchr("\\^_+*/=<>{}[]|!%", *s)) return false;
    }
    return letters > 0;
}

// "2,74" for 2.74: one comma between digits where the other has a point. Into *out; false if it is nothing of the kind.
bool answer_decimal_comma(Str *out, const char *s, const char *other) {
    size_t digits = strspn(s, "-+0123456789"), behind = s[digits] == ',' ? strspn(s + digits + 1, "0123456789") : 0;
    if (digits == 0 || behind == 0 || s[digits + 1 + behind] != 0 || !strchr(other, '.') || other[strspn(other, "-+.0123456789")] != 0) return false;
    str_add(out, s, strlen(s));
    out->s[digits] = '.';
    return true;
}

// ----------------------------------------------------------------------------
// the verdict

typedef struct { AnswerTokens tokens; AnswerTree tree; } AnswerParsed;

bool answer_parse_text(AnswerParsed *p, const char *s) {
    p->tree.n_numbers = 0;
    return strlen(s) < ANSWER_MAX_BYTES && answer_lex(&p->tokens, s) && answer_parse(&p->tree, &p->tokens);
}

// As mathematics: 1 equal, 0 not, -1 if one of the two is none.
int answer_meaning_equal(const char *gold, const char *given, double error) {
    AnswerParsed *a = (AnswerParsed *)xmalloc(sizeof *a), *b = (AnswerParsed *)xmalloc(sizeof *b);
    b->tree.n_numbers = 0;
    int verdict = -1;
    if (answer_parse_text(a, gold) && answer_parse_text(b, given)) {
        AnswerWork w;
        memset(&w, 0, sizeof w);
        w.sign = 1;
        w.error = error;
        verdict = answer_nodes_equal(&w, &a->tree, a->tree.root, &b->tree, b->tree.root);
        if (!verdict && a->tree.v[a->tree.root].kind == AN_TEXT && b->tree.v[b->tree.root].kind == AN_TEXT) verdict = -1;
    }
    answer_tree_free(&a->tree);
    answer_tree_free(&b->tree);
    free(a);
    free(b);
    return verdict;
}

// The inside of the box if s has one; s up to an end token, without **.
const char *answer_unwrap(Str *inner, const char *s) {
    if (strstr(s, "box") && answer_extract(inner, s, strlen(s))) return inner->s;
    size_t n = strlen(s);
    bool bold = n > 4 && answer_starts(s, "**") && strcmp(s + n - 2, "**") == 0;
    if (!bold && !strchr(s, '<')) return s;
    if (bold) { s += 2; n -= 4; }
    if (!answer_part(&s, &n)) n = 0;
    str_add(inner, s, n);
    return inner->s;
}

// As answer_equal; numbers may differ by `error` (0: exactly equal). Either may still be in its box, as some gold answers are.
bool answer_equal_within(const char *gold, const char *given, double error) {
    if (strlen(gold) > ANSWER_MAX_TEXT || strlen(given) > ANSWER_MAX_TEXT) return strcmp(gold, given) == 0;
    Str a = {NULL, 0, 0}, b = {NULL, 0, 0}, inner_gold = {NULL, 0, 0}, inner = {NULL, 0, 0}, point = {NULL, 0, 0};
    gold = answer_unwrap(&inner_gold, gold);
    given = answer_unwrap(&inner, given);
    answer_normalize(&a, gold);
    answer_normalize(&b, given);
    bool equal = a.n > 0 && a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
    if (!equal && a.n > 0 && b.n > 0) {
        if (answer_decimal_comma(&point, b.s, a.s)) given = point.s;
        else if (answer_decimal_comma(&point, a.s, b.s)) gold = point.s;
        int meaning = answer_meaning_equal(gold, given, error);
        if (meaning >= 0) equal = meaning;
        bool words = answer_is_words(a.s) && answer_is_words(b.s), text = strstr(gold, "\\text") || strstr(given, "\\text") || strstr(gold, "\\m") || strstr(given, "\\m");
        if (!equal && words && (meaning < 0 || (text && !strpbrk(a.s, "0123456789")))) equal = answer_texts_equal(a.s, b.s, a.n > 1);
        if (!equal && answer_choice_letter(a.s)) equal = answer_choice_letter(a.s) == answer_choice_letter(b.s); // (A) is A
    }
    str_free(&a);
    str_free(&b);
    str_free(&inner_gold);
    str_free(&inner);
    str_free(&point);
    return equal;
}

// True if the two mean the same by the rules at the top. Never true for an empty answer.
bool answer_equal(const char *gold, const char *given) { return answer_equal_within(gold, given, 0); }

// Is all of it mathematics, but for a unit?
bool answer_is_formula(const char *s, size_t n) {
    if (n >= 400) return false;
    AnswerParsed *p = (AnswerParsed *)xmalloc(sizeof *p);
    char *copy = xstrndup(s, n);
    bool whole = answer_parse_text(p, copy) && p->tree.words <= 2 && p->tokens.runs <= 1; // "in all 5" is prose
    answer_tree_free(&p->tree);
    free(copy);
    free(p);
    return whole;
}

// The last formula in a text, or the last number if one stands behind it.
bool answer_in_prose(Str *answer, const char *text, size_t n) {
    size_t before = answer->n, end = 0;
    if (!answer_last_formula(answer, text, n, &end)) return answer_last_number(answer, text, n);
    Str number = {NULL, 0, 0};
    if (answer_last_number(&number, text + end, n - end)) { // a number behind the last formula
        answer->n = before;
        str_add(answer, number.s, number.n);
    }
    str_free(&number);
    return true;
}

// The answer of a text that need not have a box: the box, what is behind ####, what the text says the answer is, all of it if it is one
// formula, its last formula, its last number. False if there is none.
bool answer_find(Str *answer, const char *text, size_t n) {
    if (answer_extract(answer, text, n)) return true;
    if (!answer_part(&text, &n)) return false;
    if (answer_after_hashes(answer, text, n)) return true;
    Str stated = {NULL, 0, 0};
    if (answer_stated(&stated, text, n)) { // "the answer is: the volume is 120"
        if (answer_is_formula(stated.s, stated.n) || !answer_in_prose(answer, stated.s, stated.n)) str_add(answer, stated.s, stated.n);
        str_free(&stated);
        return true;
    }
    if (answer_is_formula(text, n)) { answer_add_trimmed(answer, text, n); return true; }
    return answer_in_prose(answer, text, n);
}

// The verdict on a completion of n bytes (a NUL in the answer ends it). What was in the box is appended to *extracted (may be NULL).
// Where the problem says `multiple`, a gold list may be given in any order; all lists may.
bool answer_correct(const Problem *p, const char *completion, size_t n, Str *extracted) {
    Str answer = {NULL, 0, 0};
    bool correct = answer_extract(&answer, completion, n);
    if (correct) {
        if (extracted) str_add(extracted, answer.s, answer.n);
        correct = answer_equal_within(p->answer, answer.s, p->error);
        for (int i = 0; i < p->n_alt && !correct; i++) correct = answer_equal_within(p->alt[i], answer.s, p->error);
    }
    str_free(&answer);
    return correct;
}

#endif
