/*
Answers as text: what is compared where one of the two is no mathematics. A normal form without white space and dress,
words, choice letters.
*/
#ifndef LLMC_ANSWER_TEXT_H
#define LLMC_ANSWER_TEXT_H

#include "llmc/answer/extract.h" // answer_starts, answer_is_space

// Does what was left out before these digits keep numbers apart? 2 1/2 is not 21/2, and 1, 234 not 1,234. last: the
// last byte of n so far.
bool answer_splits(const char *last, size_t n, const char *digits) {
    return answer_is_digit(*last) ||
           (*last == ',' && n > 1 && answer_is_digit(last[-1]) && strspn(digits, "0123456789") == 3);
}

// Appends the normal form of s: no white space, $, \left, \right, spacing; \dfrac is \frac, \text{x} is x, {x} of one
// character is x.
void answer_normalize(Str *out, const char *s) {
    IntVec open = {NULL, 0, 0}; // per open brace: its place in out, -1 if it was left out
    static const char *const dropped[] = {"\\$", "\\left", "\\right", "\\!", "\\,", "\\;",
                                          "\\:", "\\ ",    "\\(",     "\\)", "\\[", "\\]"};
    static const char *const wrappers[] = {"\\text{",   "\\mbox{",       "\\textbf{", "\\mathrm{",
                                           "\\textit{", "\\textnormal{", "\\textrm{", "\\mathbf{"};
    size_t start = out->n;
    str_add(out, "", 0);
    while (*s) {
        size_t skip = answer_is_space(*s) || *s == '$' ? 1 : 0;
        for (size_t k = 0; k < sizeof dropped / sizeof dropped[0] && *s == '\\' && !skip; k++) {
            size_t n = strlen(dropped[k]);
            if (answer_starts(s, dropped[k]) && !(n > 3 && isalpha((unsigned char)s[n])))
                skip = n; // \left, not \leftarrow
        }
        for (size_t k = 0; k < sizeof wrappers / sizeof wrappers[0] && *s == '\\' && !skip; k++) {
            if (answer_starts(s, wrappers[k])) {
                skip = strlen(wrappers[k]);
                ints_push(&open, -1);
            }
        }
        if (skip) {
            s += skip;
            if (answer_is_digit(*s) && out->n > start && answer_splits(out->s + out->n - 1, out->n - start, s))
                str_add(out, " ", 1);
            continue;
        }
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

// Is there a letter in brackets, "(B)"?
bool answer_has_letter(const char *s) {
    for (; *s; s++)
        if (*s == '(' && s[1] >= 'A' && s[1] <= 'Z' && s[2] == ')') return true;
    return false;
}

// The letter of a choice in normal form: "A", "(A)", "A)", "OptionA"; 0 if it is something else. *more: whether the
// choice itself follows, as in "(A)5", "A.5" and "A)5".
char answer_choice_letter(const char *s, bool *more) {
    static const char *const words[] = {"option", "choice", "answer"}, *const denials[] = {"iswrong", "isnot",
                                                                                           "isincorrect", "isfalse"};
    *more = false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strncasecmp(s, words[i], 6) == 0) {
            s += 6;
            break;
        }
    }
    s += *s == ':';
    bool open = *s == '(';
    s += open;
    char letter = *s >= 'A' && *s <= 'Z' ? *s++ : 0;
    bool closed = *s == ')';
    s += closed;
    bool ratio = *s == ':' && strpbrk(s + 1, ":=");
    // not D.N.E.
    bool marked = !open && !closed && letter && (*s == '.' || *s == ':') &&
                  !(answer_is_letter(s[1]) && (s[2] == '.' || s[2] == 0));
    s += marked;
    *more = *s != 0;
    if (!*more) return letter;
    bool list = (*s >= 'A' && *s <= 'Z' && s[1] == 0) || strchr(",;/&", *s) || strncasecmp(s, "or", 2) == 0 ||
                strncasecmp(s, "and", 3) == 0 || answer_has_letter(s);
    for (size_t i = 0; i < sizeof denials / sizeof denials[0]; i++)
        list |= strncasecmp(s, denials[i], strlen(denials[i])) == 0;
    return (closed || marked) && !ratio && letter <= 'J' && !list ? letter : 0;
}

// Several choice letters in normal form, in alphabetical order without anything between ("ABD") or as a list ("A,B,D",
// "(B)and(A)"): one bit for each, 0 if it is something else.
unsigned answer_choice_letters(const char *s, bool *list) {
    unsigned letters = 0;
    *list = false;
    for (char before = 0; *s;) {
        size_t between = strspn(s, ",;&()");
        if (strncasecmp(s + between, "and", 3) == 0) between += 3;
        between += strspn(s + between, ",;&()");
        s += between;
        *list |= between > 0;
        if (*s == 0) break;
        if (*s < 'A' || *s > 'J' || (letters & 1u << (*s - 'A')) || (!*list && *s < before)) return 0;
        before = *s++;
        letters |= 1u << (before - 'A');
    }
    return letters;
}

// Is one of the two the letter of the other? "(A) 5" is "A", but "(A) 5" is not "(A) 6". Several letters may be a list
// or not; two, which might be a product, only where the gold answer is the list.
bool answer_choices_equal(const char *gold, const char *given) {
    bool more_a, more_b, list_a, list_b;
    char letter = answer_choice_letter(gold, &more_a);
    if (letter && letter == answer_choice_letter(given, &more_b) && !(more_a && more_b)) return true;
    unsigned a = answer_choice_letters(gold, &list_a), b = answer_choice_letters(given, &list_b);
    bool several = (a & (a - 1)) != 0, many = several && ((a & (a - 1)) & ((a & (a - 1)) - 1)) != 0;
    return several && a == b && (many || list_a);
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

// Appends the words of s in lower case with one space between them, without \text, punctuation, articles and "and";
// false if s holds more than words.
bool answer_words(Str *out, const char *s) {
    static const char *const dropped[] = {"a", "an", "the", "and", "is", "are", "there"};
    static const char *const wrappers[] = {"\\text",   "\\mbox",   "\\textbf", "\\mathrm",
                                           "\\textit", "\\textrm", "\\mathbf", "\\emph"};
    size_t start = out->n, length = strlen(s);
    str_add(out, "", 0);
    if (length > 200) return false;
    for (size_t i = 0; i < length;) {
        char c = s[i];
        size_t n = 0;
        while (answer_is_letter(s[i + n]) || (unsigned char)s[i + n] >= 0x80) n++;
        if (n > 0) {
            bool drop = false;
            for (size_t k = 0; k < sizeof dropped / sizeof dropped[0]; k++)
                drop |= strlen(dropped[k]) == n && strncasecmp(s + i, dropped[k], n) == 0;
            if (!drop && out->n > start) str_add(out, " ", 1);
            for (size_t k = 0; k < n && !drop; k++) {
                char lower = (char)tolower((unsigned char)s[i + k]);
                str_add(out, &lower, 1);
            }
            i += n;
            continue;
        }
        if (c == '\\') {
            size_t w = 0;
            for (size_t k = 0; k < sizeof wrappers / sizeof wrappers[0]; k++) {
                size_t u = strlen(wrappers[k]);
                if (u > w && answer_starts(s + i, wrappers[k]) && !answer_is_letter(s[i + u])) w = u;
            }
            if (w == 0 && !(s[i + 1] && strchr(" ,;:!", s[i + 1]))) return false;
            i += w ? w : 2;
            continue;
        }
        if (!strchr(" \t\r\n{}()$.,;:!?'\"-~", c)) return false;
        i++;
    }
    return out->n > start;
}

// Below a hundred, "seventy-two" or "seven": its value, and past it in *s; -1 if the next word is none.
long answer_word_below_hundred(const char **s) {
    static const char *const small[] = {
        "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
        "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
    static const char *const tens[] = {"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"};
    size_t n = strcspn(*s, " ");
    long value = -1, ten = -1;
    for (int i = 0; i < 20; i++)
        if (strlen(small[i]) == n && memcmp(*s, small[i], n) == 0) value = i;
    for (int i = 0; i < 8; i++)
        if (strlen(tens[i]) == n && memcmp(*s, tens[i], n) == 0) ten = value = 20 + 10 * i;
    if (value < 0) return -1;
    *s += n;
    if (ten < 0 || **s != ' ') return value;
    const char *next = *s + 1;
    long unit = answer_word_below_hundred(&next);
    if (unit < 1 || unit > 9) return value;
    *s = next;
    return ten + unit;
}

// A number in words, as answer_words gives them: "one hundred twenty three", "three fourths". Appends digits; false if
// it is none.
bool answer_number_in_words(Str *out, const char *s) {
    static const struct {
        const char *word;
        long value;
    } parts[] = {{"half", 2},    {"halves", 2},  {"third", 3},    {"thirds", 3},   {"fourth", 4},
                 {"fourths", 4}, {"quarter", 4}, {"quarters", 4}, {"fifth", 5},    {"fifths", 5},
                 {"sixth", 6},   {"sixths", 6},  {"seventh", 7},  {"sevenths", 7}, {"eighth", 8},
                 {"eighths", 8}, {"ninth", 9},   {"ninths", 9},   {"tenth", 10},   {"tenths", 10}};
    long total = 0, group = 0;
    for (bool first = true; *s; first = false) {
        long value = answer_word_below_hundred(&s);
        if (value >= 0) {
            if (!first && (group % 100 != 0 || value == 0)) return false; // "two three"
            group += value;
        } else if (!first && answer_starts(s, "hundred") && group > 0 && group < 10) {
            group *= 100;
            s += 7;
        } else if (!first && answer_starts(s, "thousand") && group > 0 && total == 0) {
            total = 1000 * group;
            group = 0;
            s += 8;
        } else {
            for (size_t k = 0; k < sizeof parts / sizeof parts[0] && !first; k++) {
                if (strcmp(s, parts[k].word) == 0) {
                    str_printf(out, "%ld/%ld", total + group, parts[k].value);
                    return true;
                }
            }
            return false;
        }
        if (*s == ' ') s++;
        else if (*s) return false;
    }
    str_printf(out, "%ld", total + group);
    return true;
}

// What these words stand for in LaTeX, or NULL.
const char *answer_words_meaning(const char *words) {
    // clang-format off
    static const char *const meanings[][2] = {
        {"no solution", "\\emptyset"}, {"no solutions", "\\emptyset"}, {"no real solution", "\\emptyset"},
        {"no real solutions", "\\emptyset"}, {"none", "\\emptyset"}, {"empty set", "\\emptyset"},
        {"no such number", "\\emptyset"}, {"all real numbers", "\\mathbb{R}"}, {"all reals", "\\mathbb{R}"},
        {"real numbers", "\\mathbb{R}"}, {"set of all real numbers", "\\mathbb{R}"},
        {"set of real numbers", "\\mathbb{R}"}, {"all integers", "\\mathbb{Z}"}, {"all real x", "\\mathbb{R}"},
        {"infinity", "\\infty"}, {"positive infinity", "\\infty"}, {"negative infinity", "-\\infty"},
        {"minus infinity", "-\\infty"}, {"dne", "\\text{does not exist}"}, {"undefined", "\\text{undefined}"},
        {"not defined", "\\text{undefined}"}, {"does not exist", "\\text{does not exist}"},
        {"limit does not exist", "\\text{does not exist}"}, {"it does not exist", "\\text{does not exist}"},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        if (strcmp(words, meanings[i][0]) == 0) return meanings[i][1];
    }
    return NULL;
}

// A comma at s that may be one of a decimal: "," or "{,}" between digits. Its length, else 0.
size_t answer_comma_at(const char *s) {
    size_t n = answer_starts(s, "{,}") ? 3 : *s == ',' ? 1 : 0;
    return n > 0 && answer_is_digit(s[n]) ? n : 0;
}

// Is s one number with a point, "-2.74", with a unit or a name around it?
bool answer_is_decimal(const char *s) {
    const char *point = strchr(s, '.');
    while (point && !(answer_is_digit(point[1]) && (point == s || answer_is_digit(point[-1]) || point[-1] == '-')))
        point = strchr(point + 1, '.');
    if (!point || strpbrk(s, ",;([")) return false;
    const char *from = point, *to = point + 1;
    while (from > s && answer_is_digit(from[-1])) from--;
    while (answer_is_digit(*to)) to++;
    return strcspn(s, "0123456789") >= (size_t)(from - s) && !strpbrk(to, "0123456789.");
}

// A decimal comma, as in "2,74", rewritten with a point into *out; false if s has none. Which comma is one is said by
// the string: two integers are a list (1,2) and groups of three are thousands (2,500), but 1.234,56, 3{,}14 and 0,111
// can be neither. Only where the gold answer is a decimal is a single comma before two digits and more (not three) that
// of a decimal: 2,74.
bool answer_decimal_comma(Str *out, const char *s, const char *gold) {
    size_t from = strcspn(s, "0123456789,"), whole = from;
    while (answer_is_digit(s[whole])) whole++;
    size_t first = whole - from, groups = 0;
    bool marked = false;
    for (; first > 0 && first <= 3 && (s[whole] == '.' || s[whole] == ' ') && strspn(s + whole + 1, "0123456789") == 3;
         whole += 4) {
        groups++;
        marked |= s[whole] == '.';
    }
    size_t comma = answer_comma_at(s + whole), decimals = comma ? strspn(s + whole + comma, "0123456789") : 0;
    const char *rest = s + whole + comma + decimals;
    if (first == 0 || decimals == 0 || strpbrk(rest, "0123456789,;([") || memchr(s, '(', from) || memchr(s, '[', from))
        return false;
    bool leading = s[from] == '0', bare = *rest == 0 && from == strspn(s, "+-$ "); // 0,111
    bool said = groups > 0   ? marked || decimals != 3
                : comma == 3 ? decimals != 3 || leading || first > 3
                             : first == 1 && leading && decimals > 2 && bare;
    bool asked = groups == 0 && comma == 1 && answer_is_decimal(gold) && decimals > 1 && (decimals != 3 || leading);
    if (!said && !asked) return false;
    for (size_t i = 0; i < whole; i++) {
        if (i < from || answer_is_digit(s[i])) str_add(out, s + i, 1);
    }
    str_printf(out, ".%s", s + whole + comma);
    return true;
}

#endif
