/*
Units: read after a number and dropped, but for those that people confuse (cm and m, hours and minutes), which both
sides must share.
*/
#ifndef LLMC_ANSWER_UNITS_H
#define LLMC_ANSWER_UNITS_H

#include "llmc/answer/tree.h" // AnswerTree

// Which unit the first word is of those that people confuse: 0 if none of them. Other units are dropped unread.
int answer_unit(const char *s, size_t n) {
    static const struct {
        const char *word;
        int unit;
    } units[] = {
        {"mm", 1},          {"millimeter", 1}, {"millimetre", 1}, {"cm", 2},      {"centimeter", 2}, {"centimetre", 2},
        {"m", 3},           {"meter", 3},      {"metre", 3},      {"km", 4},      {"kilometer", 4},  {"kilometre", 4},
        {"inch", 5},        {"inches", 5},     {"in", 5},         {"foot", 6},    {"feet", 6},       {"ft", 6},
        {"yard", 7},        {"yd", 7},         {"mile", 8},       {"mi", 8},      {"second", 9},     {"sec", 9},
        {"s", 9},           {"minute", 10},    {"min", 10},       {"hour", 11},   {"hr", 11},        {"h", 11},
        {"day", 12},        {"week", 13},      {"month", 14},     {"year", 15},   {"yr", 15},        {"cent", 16},
        {"dollar", 17},     {"gram", 18},      {"g", 18},         {"kg", 19},     {"kilogram", 19},  {"mg", 20},
        {"milligram", 20},  {"radian", 21},    {"rad", 21},       {"degree", 22}, {"deg", 22},       {"pound", 23},
        {"lb", 23},         {"ounce", 24},     {"oz", 24},        {"liter", 25},  {"litre", 25},     {"ml", 26},
        {"milliliter", 26}, {"gallon", 27},    {"yuan", 31},      {"jiao", 32},   {"ton", 33},       {"a.m", 28},
        {"am", 28},         {"p.m", 29},       {"pm", 29},        {"a.m.", 28},   {"p.m.", 29},
    };
    while (n > 0 && !answer_is_letter(*s)) {
        s++;
        n--;
    }
    size_t w = 0;
    while (w < n && (answer_is_letter(s[w]) || s[w] == '.')) w++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t u = strlen(units[i].word);
        bool plural = u > 1 && w == u + 1 && (s[u] | 32) == 's';
        if ((w == u || plural || (w == u + 1 && s[u] == '.')) && strncasecmp(units[i].word, s, u) == 0)
            return units[i].unit;
    }
    return 0;
}

bool answer_has_number(const AnswerTree *p, int v) {
    const AnswerNode *k = &p->v[v];
    if (k->kind == AN_NUM || (k->kind == AN_CONST && k->sub == 'p')) return true;
    for (int c = k->child; c >= 0; c = p->v[c].next) {
        if (answer_has_number(p, c)) return true;
    }
    return false;
}

// "square", "cubic" and their short forms at s, a point and spaces after them included: their length, and the power in
// *power; 0 if it is another word.
size_t answer_unit_power(const char *s, size_t n, int *power) {
    static const struct {
        const char *word;
        int power;
    } words[] = {{"square", 2}, {"sq", 2}, {"cubic", 3}, {"cu", 3}};
    size_t from = 0;
    while (from < n && !answer_is_letter(s[from])) from++;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t w = strlen(words[i].word), end = from + w;
        if (end > n || strncasecmp(s + from, words[i].word, w) != 0 || (end < n && answer_is_letter(s[end]))) continue;
        *power = words[i].power;
        while (end < n && (s[end] == '.' || s[end] == ' ')) end++;
        return end;
    }
    return 0;
}

// Do words after a number say that it is not the answer, or not all of it? "5 or more", "5 is wrong".
bool answer_qualifies(const char *s, size_t n) {
    static const char *const words[] = {
        "or",    "more",  "less", "fewer",  "greater", "not",   "no",  "wrong", "incorrect", "false",
        "least", "most",  "than", "except", "above",   "below", "if",  "when",  "unless",    "but",
        "does",  "doesn", "isn",  "cannot", "plus",    "minus", "nor", "never", "impossible"};
    for (size_t i = 0; i < n;) {
        size_t w = 0;
        while (i + w < n && answer_is_letter(s[i + w])) w++;
        for (size_t k = 0; k < sizeof words / sizeof words[0] && w > 0; k++)
            if (strlen(words[k]) == w && strncasecmp(s + i, words[k], w) == 0) return true;
        i += w ? w : 1;
    }
    return false;
}

// Reads units after a number; "million" multiplies. Returns the node.
int answer_units(AnswerTree *p, int v) {
    static const struct {
        const char *word;
        long value;
    } multipliers[] = {{"hundred", 100},        {"thousand", 1000},           {"million", 1000000},
                       {"billion", 1000000000}, {"trillion", 1000000000000},  {"dozen", 12},
                       {"tenthousand", 10000},  {"hundredmillion", 100000000}};
    while (!p->failed && (answer_at(p, TK_WORD, -1) || answer_at(p, TK_TEXT, -1))) {
        const AnswerToken *k = answer_peek(p, 0);
        if (k->kind == TK_WORD && !answer_has_number(p, v)) return answer_fail(p); // prose
        p->at++;
        p->words++;
        const char *s = answer_token_text(p, k);
        size_t power = answer_unit_power(s, (size_t)k->n, &p->power);
        if (!p->unit) p->unit = answer_unit(s + power, (size_t)k->n - power);
        if (answer_qualifies(s, (size_t)k->n)) return answer_fail(p);
        for (size_t i = 0; i < sizeof multipliers / sizeof multipliers[0]; i++) {
            size_t w = strlen(multipliers[i].word);
            if ((size_t)k->n >= w && strncasecmp(s, multipliers[i].word, w) == 0 &&
                !answer_is_letter(s[w] == 's' ? s[w + 1] : s[w]))
                v = answer_node2(p, AN_MUL, v, answer_integer(p, multipliers[i].value));
        }
        for (int i = 0; i < k->n;
             i++) { // "5 \text{ or } 6", "3 \text{ R } 2" and "2 \text{ (mod 5)}" say more than a unit
            if (answer_is_digit(s[i]) && !(i > 0 && (s[i - 1] == '^' || answer_is_letter(s[i - 1]))))
                return answer_fail(p);
        }
        if (answer_take(p, TK_OP, '^')) {
            const AnswerToken *e = answer_peek(p, answer_at(p, TK_OPEN, '{'));
            p->power = answer_is_integer(p, e) ? atoi(answer_token_text(p, e)) : 0;
            answer_exponent(p);
        }
        if ((answer_at(p, TK_OP, '/') || answer_at(p, TK_OP, '*')) &&
            (answer_peek(p, 1)->kind == TK_WORD || answer_peek(p, 1)->kind == TK_TEXT))
            p->at++;
    }
    return v;
}

#endif
