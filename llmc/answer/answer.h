/*
The reward's eye: is the answer in a completion the right one?

    extract.h   where the answer stands in a completion
    text.h      answers as text: words, choice letters
    prose.h     words around a value
    spell.h     Unicode to LaTeX
    words.h     names and commands that mean something
    digits.h    how a token is made, and digits are grouped
    lex.h       LaTeX and ASCII to tokens
    tree.h      the tree that tokens become; numbers, fractions and exponents
    units.h     units after a number
    bracket.h   tuples, sets, intervals, matrices
    parse.h     all of the grammar
    number.h    the value of a tree: an exact fraction, or a complex number where that does not suffice
    value.h     when two values are equal
    relation.h  what a relation names, and which value it states
    interval.h  sets of real numbers
    matrix.h    arithmetic of matrices
    equal.h     when two trees mean the same, part by part

From outside: answer.h

Two answers are equal if they are the same text (white space and dress aside) or mean the same by the rules of equal.h.
What is no mathematics (a word, a sentence) is compared as text alone, without regard to case where there are words.
Everything here is bounded: answers of more than ANSWER_MAX_BYTES are compared as text, of more than ANSWER_MAX_TEXT
byte for byte.
*/
#ifndef LLMC_ANSWER_ANSWER_H
#define LLMC_ANSWER_ANSWER_H

#include "llmc/answer/equal.h"   // answer_nodes_equal
#include "llmc/answer/extract.h" // answer_extract
#include "llmc/answer/prose.h"   // answer_without_words, answer_last_equal
#include "llmc/answer/text.h"    // answer_normalize
#include "llmc/files/files.h"    // Problem

#define ANSWER_MAX_TEXT 20000 // longer ones must be the same, byte for byte

// ----------------------------------------------------------------------------
// the verdict

typedef struct {
    AnswerTokens tokens;
    AnswerTree tree;
} AnswerParsed;

bool answer_parse_text(AnswerParsed *p, const char *s) {
    p->tree.n_numbers = 0;
    return strlen(s) < ANSWER_MAX_BYTES && answer_lex(&p->tokens, s) && answer_parse(&p->tree, &p->tokens);
}

// The same, or what stands after the last = if all of it cannot be read.
bool answer_read(AnswerParsed *p, const char *s) {
    if (answer_parse_text(p, s)) return true;
    const char *side = answer_last_equal(s);
    answer_tree_free(&p->tree);
    return side && answer_parse_text(p, side) && p->tree.v[p->tree.root].kind != AN_REL &&
           p->tree.v[p->tree.root].kind != AN_TEXT;
}

// Does the gold answer name the base of its digits, and are those given without it? 52 for 52_8.
bool answer_base_left_out(const AnswerTree *gold, const AnswerTree *given) {
    const AnswerNode *base = &gold->v[gold->root], *number = &given->v[given->root];
    if (base->kind != AN_BASE || number->kind != AN_NUM || !number->literal ||
        mpz_cmp_ui(mpq_denref(given->numbers[number->number]), 1) != 0)
        return false;
    char *digits = mpz_get_str(NULL, 10, mpq_numref(given->numbers[number->number]));
    bool same = base->name == answer_hash(ANSWER_HASH, digits, strlen(digits));
    free(digits);
    return same;
}

// As mathematics: 1 equal, 0 not, -1 if one of the two is none.
int answer_meaning_equal(const char *gold, const char *given, double error) {
    AnswerParsed *a = (AnswerParsed *)xmalloc(sizeof *a), *b = (AnswerParsed *)xmalloc(sizeof *b);
    b->tree.n_numbers = 0;
    a->tokens.unit_letters = b->tokens.unit_letters = false;
    int verdict = -1;
    for (int way = 0; way < 2 && verdict <= 0; way++) {
        if (way == 1) { // where one side has a unit, the letters of the other may be one: 5 m/s
            bool units_a = a->tree.words > 0, units_b = b->tree.words > 0;
            if (verdict < 0 || units_a == units_b) break;
            (units_a ? b : a)->tokens.unit_letters = true;
            answer_tree_free(units_a ? &b->tree : &a->tree);
            if (!answer_read(units_a ? b : a, units_a ? given : gold)) break;
        } else if (!answer_read(a, gold) || !answer_read(b, given)) break;
        AnswerWork w;
        memset(&w, 0, sizeof w);
        w.sign = 1;
        w.error = error;
        int constant = answer_integration_constant(&a->tree), other = answer_integration_constant(&b->tree);
        if (constant >= 0 && other >= 0) b->tree.v[other].name = a->tree.v[constant].name; // x^2 + c is x^2 + C
        verdict = answer_nodes_equal(&w, &a->tree, a->tree.root, &b->tree, b->tree.root);
        if (!verdict) verdict = answer_base_left_out(&a->tree, &b->tree);
        if (!verdict && a->tree.v[a->tree.root].kind == AN_TEXT && b->tree.v[b->tree.root].kind == AN_TEXT)
            verdict = -1;
    }
    answer_tree_free(&a->tree);
    answer_tree_free(&b->tree);
    free(a);
    free(b);
    return verdict;
}

// The inside of the box if s has one; s up to an end token, without ** or ` or " around.
const char *answer_unwrap(Str *inner, const char *s) {
    if (strstr(s, "box") && answer_extract(inner, s, strlen(s))) return inner->s;
    size_t n = strlen(s);
    bool bold = n > 4 && answer_starts(s, "**") && strcmp(s + n - 2, "**") == 0,
         quoted = n > 2 && (*s == '`' || *s == '"') && s[n - 1] == *s;
    if (!bold && !quoted && !strchr(s, '<')) return s;
    size_t around = bold ? 2 : quoted ? 1 : 0;
    s += around;
    n -= 2 * around;
    if (!answer_part(&s, &n)) n = 0;
    str_add(inner, s, n);
    return inner->s;
}

// What s says in words as LaTeX ("seven" is 7, "no solution" the empty set); else s. *words: its words, empty if there
// is more in it.
const char *answer_in_words(Str *words, Str *meaning, const char *s) {
    if (!answer_words(words, s)) {
        words->n = 0;
        return s;
    }
    const char *latex = answer_words_meaning(words->s);
    if (latex) return latex;
    return answer_number_in_words(meaning, words->s) ? meaning->s : s;
}

// As answer_equal; numbers may differ by `error` (0: exactly equal). Either may still be in its box, as some gold
// answers are.
bool answer_equal_within(const char *gold, const char *given, double error) {
    if (strlen(gold) > ANSWER_MAX_TEXT || strlen(given) > ANSWER_MAX_TEXT) return strcmp(gold, given) == 0;
    // clang-format off
    enum {
        GOLD_TEXT, TEXT, GOLD_INSIDE, INSIDE, GOLD_VALUE, VALUE, GOLD_SUBJECT, SUBJECT, VALUE_WORDS, GOLD_POINT, POINT,
        GOLD_WORDS, WORDS, GOLD_MEANING, MEANING, STRINGS,
    };
    // clang-format on
    Str s[STRINGS];
    memset(s, 0, sizeof s);
    gold = answer_unwrap(&s[GOLD_INSIDE], gold);
    given = answer_unwrap(&s[INSIDE], given);
    Str *a = &s[GOLD_TEXT], *b = &s[TEXT];
    answer_normalize(a, gold);
    answer_normalize(b, given);
    bool equal = a->n > 0 && a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
    if (!equal && a->n > 0 && b->n > 0) {
        bool text = strstr(gold, "\\text") || strstr(given, "\\text") || strstr(gold, "\\m") || strstr(given, "\\m");
        gold = answer_in_words(&s[GOLD_WORDS], &s[GOLD_MEANING], gold);
        given = answer_in_words(&s[WORDS], &s[MEANING], given);
        const char *written = gold;
        const char *gold_value = answer_without_words(&s[GOLD_VALUE], gold, &s[GOLD_SUBJECT]),
                   *value = answer_without_words(&s[VALUE], given, &s[SUBJECT]);
        Str *x = &s[GOLD_SUBJECT], *y = &s[SUBJECT];
        // "Ann is 5", "Tom is 5"
        if (x->n > 0 && y->n > 0 && (x->n != y->n || memcmp(x->s, y->s, x->n) != 0)) {
            gold_value = gold;
            value = given;
        }
        if (gold_value != gold) gold = answer_in_words(&s[VALUE_WORDS], &s[GOLD_MEANING], gold_value);
        s[VALUE_WORDS].n = 0;
        if (value != given) given = answer_in_words(&s[VALUE_WORDS], &s[MEANING], value);
        if (answer_decimal_comma(&s[GOLD_POINT], gold, "")) gold = s[GOLD_POINT].s;
        if (answer_decimal_comma(&s[POINT], given, written)) given = s[POINT].s;
        int meaning = answer_meaning_equal(gold, given, error);
        if (meaning >= 0) equal = meaning;
        bool words =
            answer_is_words(a->s) && answer_is_words(b->s) && (meaning < 0 || (text && !strpbrk(a->s, "0123456789")));
        if (!equal && words) equal = answer_texts_equal(a->s, b->s, a->n > 1 && b->n > 1);
        if (!equal && words && s[WORDS].n > 2)
            equal = s[WORDS].n == s[GOLD_WORDS].n && memcmp(s[WORDS].s, s[GOLD_WORDS].s, s[WORDS].n) == 0;
        if (!equal) equal = answer_choices_equal(a->s, b->s); // (A) is A
    }
    for (int i = 0; i < STRINGS; i++) str_free(&s[i]);
    return equal;
}

// True if the two mean the same by the rules at the top. Never true for an empty answer.
bool answer_equal(const char *gold, const char *given) { return answer_equal_within(gold, given, 0); }

// Is it read as mathematics, and not compared as text?
bool answer_is_read(const char *s) {
    Str words = {NULL, 0, 0}, meaning = {NULL, 0, 0}, inside = {NULL, 0, 0};
    AnswerParsed *p = (AnswerParsed *)xmalloc(sizeof *p);
    p->tokens.unit_letters = false;
    bool read = answer_read(p, answer_in_words(&words, &meaning, answer_unwrap(&inside, s))) &&
                p->tree.v[p->tree.root].kind != AN_TEXT;
    answer_tree_free(&p->tree);
    free(p);
    str_free(&words);
    str_free(&meaning);
    str_free(&inside);
    return read;
}

#define ANSWER_MAX_WORDS 40 // of a gold answer that is text: no box will hold the same

// Why no boxed answer can ever be right against this gold answer, NULL if one can.
const char *answer_unmatchable(const char *gold) {
    if (strstr(gold, "####")) return "it holds #### and the answer after it";
    Str box = {NULL, 0, 0}, inside = {NULL, 0, 0};
    str_printf(&box, "\\boxed{%s}", gold);
    bool equal = answer_extract(&inside, box.s, box.n) && answer_equal(gold, inside.s);
    int words = 0;
    for (const char *s = equal ? inside.s : ""; *s; s++)
        words += answer_is_letter(*s) && answer_is_letter(s[1]) && (s == inside.s || answer_is_space(s[-1]));
    const char *why = !equal                                              ? "it is not equal to itself in a box"
                      : words > ANSWER_MAX_WORDS && !answer_is_read(gold) ? "it is a whole text"
                                                                          : NULL;
    str_free(&box);
    str_free(&inside);
    return why;
}

// Warns of the problems whose gold answer (and each alternative) no boxed answer can match: how many, and one of them.
// what: the files they are from.
void answer_warn_unmatchable(const Dataset *d, const char *what) {
    int n = 0, first = 0;
    for (int i = 0; i < d->n; i++) {
        const Problem *p = &d->items[i];
        bool none = answer_unmatchable(p->answer) != NULL;
        for (int k = 0; k < p->n_alt && none; k++) none = answer_unmatchable(p->alt[k]) != NULL;
        if (none && n++ == 0) first = i;
    }
    if (n == 0) return;
    const Problem *p = &d->items[first];
    Str line = {NULL, 0, 0};
    str_printf(&line, "%.60s", p->answer);
    for (size_t i = 0; i < line.n; i++)
        if ((unsigned char)line.s[i] < ' ') line.s[i] = ' ';
    warn("%d of %d gold answers of %s can never be matched, e.g. that of problem %s: %s, \"%s%s\"\n  -> \"answer\" "
         "holds the final answer alone, as it would stand in \\boxed{}",
         n, d->n, what, p->id, answer_unmatchable(p->answer), line.s, strlen(p->answer) > line.n ? "..." : "");
    str_free(&line);
}

// Is all of it mathematics, but for a unit?
bool answer_is_formula(const char *s, size_t n) {
    if (n >= 400) return false;
    AnswerParsed *p = (AnswerParsed *)xmalloc(sizeof *p);
    p->tokens.unit_letters = false;
    char *copy = xstrndup(s, n);
    bool whole = answer_parse_text(p, copy) && p->tree.words <= 2 && p->tokens.runs <= 1; // "in all 5" is prose
    answer_tree_free(&p->tree);
    free(copy);
    free(p);
    return whole;
}

// The last formula in a text, or the last number if one stands after it.
bool answer_in_prose(Str *answer, const char *text, size_t n) {
    size_t before = answer->n, end = 0;
    if (!answer_last_formula(answer, text, n, &end)) return answer_last_number(answer, text, n);
    Str number = {NULL, 0, 0};
    if (answer_last_number(&number, text + end, n - end)) { // a number after the last formula
        answer->n = before;
        str_add(answer, number.s, number.n);
    }
    str_free(&number);
    return true;
}

// The value that the last sentence states, "The interval is [2, 5).", if all after its verb is a formula.
bool answer_in_sentence(Str *answer, const char *text, size_t n) {
    while (n > 0 && (answer_is_space(text[n - 1]) || text[n - 1] == '.')) n--;
    size_t from = n;
    while (from > 0 && n - from < ANSWER_MAX_PROSE && text[from - 1] != '\n' &&
           !(from < n && text[from - 1] == '.' && answer_is_space(text[from])))
        from--;
    char *sentence = xstrndup(text + from, n - from);
    Str value = {NULL, 0, 0}, subject = {NULL, 0, 0};
    bool found = answer_without_words(&value, sentence, &subject) != sentence && answer_is_formula(value.s, value.n);
    if (found) answer_add_trimmed(answer, value.s, value.n);
    str_free(&value);
    str_free(&subject);
    free(sentence);
    return found;
}

// The answer of a text that need not have a box: the box, what is after ####, what the text says the answer is, all of
// it if it is one formula, what its last sentence states, its last formula, its last number. False if there is none.
bool answer_find(Str *answer, const char *text, size_t n) {
    if (answer_extract(answer, text, n)) return true;
    if (!answer_part(&text, &n)) return false;
    if (answer_after_hashes(answer, text, n)) return true;
    Str stated = {NULL, 0, 0};
    bool formula;
    if (answer_stated(&stated, text, n, &formula)) { // "the answer is: the volume is 120"
        if (formula || answer_is_formula(stated.s, stated.n) || !answer_in_prose(answer, stated.s, stated.n))
            str_add(answer, stated.s, stated.n);
        str_free(&stated);
        return true;
    }
    if (answer_is_formula(text, n)) {
        answer_add_trimmed(answer, text, n);
        return true;
    }
    return answer_in_sentence(answer, text, n) || answer_in_prose(answer, text, n);
}

// The verdict on a completion of n bytes (a NUL in the answer ends it). What was in the box is appended to *extracted
// (may be NULL). Where the problem says `multiple`, a gold list may be given in any order; all lists may.
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
