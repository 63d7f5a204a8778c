/*
Reading a mathematical answer, first half: LaTeX, ASCII and Unicode to tokens.

Two passes. answer_spell copies the text and rewrites Unicode mathematics as LaTeX (π is \pi, ² is ^2), so that only one
spelling is left. answer_lex then makes tokens: numbers with their thousands separators resolved, names, functions, brackets,
relations, \text. What only changes the look ($, \left, \, \displaystyle, currency signs) leaves no token.
Both stop at fixed limits and read every byte a bounded number of times.
*/
#ifndef LLMC_ANSWER_LEX_H
#define LLMC_ANSWER_LEX_H

#include <ctype.h>   // isalpha, isdigit
#include <strings.h> // strncasecmp
#include "utils.h"   // Str

#define ANSWER_MAX_BYTES 6000  // longer answers are compared as text
#define ANSWER_MAX_TOKENS 1500
#define ANSWER_MAX_DIGITS 1500 // of one number

typedef enum {
    TK_END, TK_NUM, TK_NAME, TK_CONST, TK_WORD, TK_TEXT, TK_FUNC, TK_FRAC, TK_SQRT, TK_BINOM, TK_BIG, TK_OPEN, TK_CLOSE, TK_BAR,
    TK_OP,    // sub: + - * / ^ _ ! ' : & or p (\pm), m (\mp), o (\over), c (\choose)
    TK_SEP,   // , ; and or
    TK_REL,   // sub: = < > l (<=) g (>=) ! (not equal) ~ (approximately) i (\in)
    TK_SETOP, // sub: u (\cup), n (\cap), - (\setminus)
    TK_DEGREE, TK_PERCENT, TK_ROW, TK_BEGIN, TK_FINISH, TK_OVERLINE, TK_EMPTY, TK_LABEL,
} AnswerTokenKind;

typedef struct {
    uint8_t kind, sub;
    bool space;  // white space before it
    int at, n;   // its text in .text, for TK_NUM its digits in .digits
} AnswerToken;

typedef struct {
    char text[ANSWER_MAX_BYTES + 64], digits[ANSWER_MAX_BYTES + 64];
    int n_text, n_digits, n, runs; // runs: of two letters and more read as products of names
    AnswerToken v[ANSWER_MAX_TOKENS + 1];
} AnswerTokens;

enum { FN_SIN, FN_COS, FN_TAN, FN_COT, FN_SEC, FN_CSC, FN_ASIN, FN_ACOS, FN_ATAN, FN_ACOT, FN_SINH, FN_COSH, FN_TANH, FN_LN, FN_LOG, FN_EXP,
       FN_ABS, FN_FLOOR, FN_CEIL, FN_GCD, FN_LCM, FN_MAX, FN_MIN, FN_SQRT };

typedef struct { const char *name; uint8_t kind, sub; } AnswerWord;

bool answer_starts(const char *s, const char *word) { return strncmp(s, word, strlen(word)) == 0; }
bool answer_is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool answer_is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool answer_is_digit(char c) { return c >= '0' && c <= '9'; }

// ----------------------------------------------------------------------------
// one spelling

typedef struct { const char *from, *to; } AnswerSpelling;

// Unicode characters as LaTeX. Superscripts get their ^ and subscripts their _ from answer_spell, which joins runs of them.
static const AnswerSpelling answer_spellings[] = {
    {"π", "\\pi "}, {"−", "-"}, {"–", "-"}, {"—", "-"}, {"×", "\\times "}, {"·", "\\cdot "}, {"⋅", "\\cdot "}, {"∙", "\\cdot "}, {"∗", "*"}, {"÷", "/"}, {"∕", "/"}, {"⁄", "/"},
    {"√", "\\sqrt "}, {"∛", "\\sqrt[3]"}, {"∞", "\\infty "}, {"≤", "\\le "}, {"≥", "\\ge "}, {"⩽", "\\le "}, {"⩾", "\\ge "}, {"≠", "\\ne "}, {"≈", "\\approx "}, {"≡", "\\equiv "},
    {"∪", "\\cup "}, {"∩", "\\cap "}, {"∈", "\\in "}, {"∅", "\\emptyset "}, {"∖", "\\setminus "}, {"±", "\\pm "}, {"∓", "\\mp "}, {"°", "^\\circ "}, {"º", "^\\circ "}, {"∘", "\\circ "},
    {"½", "\\frac12 "}, {"⅓", "\\frac13 "}, {"⅔", "\\frac23 "}, {"¼", "\\frac14 "}, {"¾", "\\frac34 "}, {"⅛", "\\frac18 "}, {"⅜", "\\frac38 "}, {"⅝", "\\frac58 "}, {"⅞", "\\frac78 "},
    {"⅕", "\\frac15 "}, {"⅖", "\\frac25 "}, {"⅗", "\\frac35 "}, {"⅘", "\\frac45 "}, {"⅙", "\\frac16 "}, {"⅚", "\\frac56 "}, {"€", "\\$"}, {"£", "\\$"}, {"¥", "\\$"}, {"₹", "\\$"}, {"′", "'"}, {"’", "'"},
    {"α", "\\alpha "}, {"β", "\\beta "}, {"γ", "\\gamma "}, {"δ", "\\delta "}, {"ε", "\\epsilon "}, {"θ", "\\theta "}, {"λ", "\\lambda "}, {"μ", "\\mu "}, {"ρ", "\\rho "}, {"σ", "\\sigma "},
    {"τ", "\\tau "}, {"φ", "\\phi "}, {"ϕ", "\\phi "}, {"ω", "\\omega "}, {"Δ", "\\Delta "}, {"Σ", "\\sum "}, {"∑", "\\sum "}, {"∏", "\\prod "}, {"∫", "\\int "}, {"Ω", "\\Omega "}, {"∠", "\\angle "}, {"△", "\\triangle "},
    {"ℝ", "\\mathbb{R}"}, {"ℤ", "\\mathbb{Z}"}, {"ℕ", "\\mathbb{N}"}, {"ℚ", "\\mathbb{Q}"}, {"ℂ", "\\mathbb{C}"}, {"\xC2\xA0", " "}, {"\xE2\x80\x89", " "}, {"\xE2\x80\xAF", " "}, {"\xE2\x80\x8B", ""}, {"⟨", "("}, {"⟩", ")"},
    {"（", "("}, {"）", ")"}, {"，", ","}, {"：", ":"}, {"＝", "="}, {"＋", "+"}, {"－", "-"}, {"∣", "|"}, {"⌊", "\\lfloor "}, {"⌋", "\\rfloor "}, {"⌈", "\\lceil "}, {"⌉", "\\rceil "}, {"％", "%"}, {"∧", "^"}, {"✓", ""},
};
static const AnswerSpelling answer_raised[] = {
    {"⁰", "0"}, {"¹", "1"}, {"²", "2"}, {"³", "3"}, {"⁴", "4"}, {"⁵", "5"}, {"⁶", "6"}, {"⁷", "7"}, {"⁸", "8"}, {"⁹", "9"}, {"⁺", "+"}, {"⁻", "-"}, {"ⁿ", "n"}, {"ˣ", "x"}, {"⁽", "("}, {"⁾", ")"},
};
static const AnswerSpelling answer_lowered[] = {
    {"₀", "0"}, {"₁", "1"}, {"₂", "2"}, {"₃", "3"}, {"₄", "4"}, {"₅", "5"}, {"₆", "6"}, {"₇", "7"}, {"₈", "8"}, {"₉", "9"}, {"ₙ", "n"}, {"₊", "+"}, {"₋", "-"},
};

const AnswerSpelling *answer_spelling(const AnswerSpelling *table, size_t n, const char *s) {
    for (size_t i = 0; i < n; i++) {
        if (answer_starts(s, table[i].from)) return &table[i];
    }
    return NULL;
}

bool answer_put(AnswerTokens *t, const char *s, size_t n) {
    if (t->n_text + n > ANSWER_MAX_BYTES) return false;
    memcpy(t->text + t->n_text, s, n);
    t->n_text += (int)n;
    t->text[t->n_text] = 0;
    return true;
}

// Copies s into t->text in LaTeX spelling; false if it is too long.
bool answer_spell(AnswerTokens *t, const char *s) {
    t->n_text = 0;
    t->text[0] = 0;
    bool matrix = strstr(s, "\\begin") != NULL && strstr(s, "\\\\begin") == NULL; // there \\ ends a row
    int script = 0;
    while (*s) {
        if ((unsigned char)*s < 0x80) {
            if (script) { script = 0; if (!answer_put(t, "}", 1)) return false; }
            // \\frac is \frac: some writers escape twice
            if (*s == '\\' && s[1] == '\\' && !matrix && (answer_is_letter(s[2]) || (s[2] && strchr("{}$%,!;:[]()", s[2])))) s++;
            if (!answer_put(t, s++, 1)) return false;
            if (s[-1] == '\\' && *s && (unsigned char)*s < 0x80 && !answer_put(t, s++, 1)) return false; // an escaped character is not looked at again
            continue;
        }
        const AnswerSpelling *up = answer_spelling(answer_raised, sizeof answer_raised / sizeof answer_raised[0], s);
        const AnswerSpelling *low = up ? NULL : answer_spelling(answer_lowered, sizeof answer_lowered / sizeof answer_lowered[0], s);
        int kind = up ? '^' : low ? '_' : 0;
        if (script && script != kind) { script = 0; if (!answer_put(t, "}", 1)) return false; }
        if (kind) {
            if (!script && !answer_put(t, kind == '^' ? "^{" : "_{", 2)) return false;
            script = kind;
            const AnswerSpelling *to = up ? up : low;
            if (!answer_put(t, to->to, strlen(to->to))) return false;
            s += strlen(to->from);
            continue;
        }
        const AnswerSpelling *to = answer_spelling(answer_spellings, sizeof answer_spellings / sizeof answer_spellings[0], s);
        if (to) {
            if (!answer_put(t, to->to, strlen(to->to))) return false;
            s += strlen(to->from);
        } else if (!answer_put(t, s++, 1)) return false;
    }
    return !script || answer_put(t, "}", 1);
}

// ----------------------------------------------------------------------------
// tokens

// Names with a meaning, with or without a backslash. Of those that start alike the longer comes first.
static const AnswerWord answer_functions[] = {
    {"arcsin", TK_FUNC, FN_ASIN}, {"arccos", TK_FUNC, FN_ACOS}, {"arctan", TK_FUNC, FN_ATAN}, {"arccot", TK_FUNC, FN_ACOT}, {"arctg", TK_FUNC, FN_ATAN}, {"asin", TK_FUNC, FN_ASIN}, {"acos", TK_FUNC, FN_ACOS},
    {"atan", TK_FUNC, FN_ATAN}, {"sinh", TK_FUNC, FN_SINH}, {"cosh", TK_FUNC, FN_COSH}, {"tanh", TK_FUNC, FN_TANH}, {"sin", TK_FUNC, FN_SIN}, {"cos", TK_FUNC, FN_COS}, {"tan", TK_FUNC, FN_TAN},
    {"cot", TK_FUNC, FN_COT}, {"sec", TK_FUNC, FN_SEC}, {"csc", TK_FUNC, FN_CSC}, {"log", TK_FUNC, FN_LOG}, {"ln", TK_FUNC, FN_LN}, {"exp", TK_FUNC, FN_EXP}, {"sqrt", TK_SQRT, 2}, {"cbrt", TK_SQRT, 3},
    {"gcd", TK_FUNC, FN_GCD}, {"lcm", TK_FUNC, FN_LCM}, {"max", TK_FUNC, FN_MAX}, {"min", TK_FUNC, FN_MIN}, {"abs", TK_FUNC, FN_ABS}, {"floor", TK_FUNC, FN_FLOOR}, {"ceil", TK_FUNC, FN_CEIL},
    {"pi", TK_CONST, 'p'}, {"infinity", TK_CONST, 'o'}, {"infty", TK_CONST, 'o'}, {"inf", TK_CONST, 'o'}, {"binom", TK_BINOM, 0},
};
// Commands (after a backslash) that are no names.
static const AnswerWord answer_commands[] = {
    {"frac", TK_FRAC, 0}, {"dfrac", TK_FRAC, 0}, {"tfrac", TK_FRAC, 0}, {"cfrac", TK_FRAC, 0}, {"dbinom", TK_BINOM, 0}, {"tbinom", TK_BINOM, 0}, {"tg", TK_FUNC, FN_TAN}, {"ctg", TK_FUNC, FN_COT}, {"lg", TK_FUNC, FN_LOG},
    {"cdot", TK_OP, '*'}, {"times", TK_OP, '*'}, {"ast", TK_OP, '*'}, {"div", TK_OP, '/'}, {"over", TK_OP, 'o'}, {"choose", TK_OP, 'c'}, {"pm", TK_OP, 'p'}, {"mp", TK_OP, 'm'}, {"colon", TK_OP, ':'}, {"prime", TK_OP, '\''},
    {"le", TK_REL, 'l'}, {"leq", TK_REL, 'l'}, {"leqslant", TK_REL, 'l'}, {"lt", TK_REL, '<'}, {"ge", TK_REL, 'g'}, {"geq", TK_REL, 'g'}, {"geqslant", TK_REL, 'g'}, {"gt", TK_REL, '>'}, {"ne", TK_REL, '!'}, {"neq", TK_REL, '!'},
    {"approx", TK_REL, '~'}, {"simeq", TK_REL, '~'}, {"in", TK_REL, 'i'}, {"equiv", TK_REL, 'e'}, {"cup", TK_SETOP, 'u'}, {"cap", TK_SETOP, 'n'}, {"setminus", TK_SETOP, '-'}, {"backslash", TK_SETOP, '-'},
    {"circ", TK_DEGREE, 0}, {"degree", TK_DEGREE, 0}, {"emptyset", TK_EMPTY, 0}, {"varnothing", TK_EMPTY, 0}, {"overline", TK_OVERLINE, 0}, {"dot", TK_OVERLINE, 0}, {"sum", TK_BIG, 's'}, {"prod", TK_BIG, 'p'},
    {"int", TK_BIG, 'i'}, {"lim", TK_BIG, 'l'}, {"lfloor", TK_OPEN, 'f'}, {"rfloor", TK_CLOSE, 'f'}, {"lceil", TK_OPEN, 'c'}, {"rceil", TK_CLOSE, 'c'}, {"lvert", TK_OPEN, 'a'}, {"rvert", TK_CLOSE, 'a'},
    {"lbrace", TK_OPEN, 'S'}, {"rbrace", TK_CLOSE, 'S'}, {"langle", TK_OPEN, '('}, {"rangle", TK_CLOSE, ')'}, {"lbrack", TK_OPEN, '['}, {"rbrack", TK_CLOSE, ']'}, {"vert", TK_BAR, 0}, {"mid", TK_BAR, 0},
    {"angle", TK_LABEL, 0}, {"triangle", TK_LABEL, 0}, {"Rightarrow", TK_SEP, 0}, {"land", TK_SEP, 0}, {"lor", TK_SEP, 0}, {"wedge", TK_SEP, 0}, {"vee", TK_SEP, 0}, {"And", TK_SEP, 0}, {"cr", TK_ROW, 0}, {"newline", TK_ROW, 0},
};
// Commands that leave nothing, and those that only dress what is in their braces.
static const char *const answer_silent[] = {"left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle", "quad", "qquad", "limits", "phantom", "hspace", "rm", "bf", "it", "mathstrut",
    "mathbf", "mathbb", "mathcal", "mathit", "mathsf", "vec", "hat", "bar", "tilde", "overrightarrow", "boldsymbol", "bm", "ensuremath", "mathop", "limits", "nolimits", "underline", "widehat", "boxed", "fbox", "hline", "enspace", "thinspace", "space", "small", "large", "euro", "pounds", "cancel"};
static const char *const answer_texts[] = {"text", "mbox", "textbf", "textit", "textrm", "textnormal", "mathrm", "operatorname", "hbox", "texttt", "textsf", "mathtt", "emph"};
// Short words that are units and not products of letters, when they follow a number.
static const char *const answer_short_units[] = {"cm", "mm", "km", "nm", "kg", "mg", "lb", "lbs", "ft", "in", "yd", "yds", "mi", "oz", "sec", "min", "hr", "hrs", "mph", "kph", "ml", "mL", "deg", "sq", "cc", "gal", "day", "men", "hz", "Hz", "kHz",
    "J", "kJ", "eV", "rad", "pts", "cents", "am", "pm", "AM", "PM", "USD", "Pa", "kPa", "mol", "cup", "pie", "boy", "cat", "dog", "way", "odd", "kW", "amp", "atm", "cal", "box", "pin", "pen", "car", "bus", "egg", "set", "lot", "bag", "can", "hat", "hens", "pi/s"};

bool answer_listed(const char *const *list, size_t n, const char *s, size_t length) {
    for (size_t i = 0; i < n; i++) {
        if (strlen(list[i]) == length && memcmp(list[i], s, length) == 0) return true;
    }
    return false;
}

const AnswerWord *answer_word(const AnswerWord *list, size_t n, const char *s, size_t length, bool prefix) {
    for (size_t i = 0; i < n; i++) {
        size_t w = strlen(list[i].name);
        if ((prefix ? w <= length : w == length) && memcmp(list[i].name, s, w) == 0) return &list[i];
    }
    return NULL;
}
#define ANSWER_LIST(list) list, sizeof(list) / sizeof(list)[0]

typedef struct { const char *s; bool space, failed; int depth; } AnswerLexer; // depth: open ( [ \{, where a comma separates

void answer_token(AnswerTokens *t, AnswerLexer *x, AnswerTokenKind kind, int sub, const char *at, size_t n) {
    if (t->n >= ANSWER_MAX_TOKENS) { x->failed = true; return; }
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

// Where the next group of three digits starts if a thousands separator stands at s, else NULL. Of the plain comma and of
// the space alone `all` says that groups may follow: "1,234" is a number, "(1,234)" and "1, 234" are not.
const char *answer_thousands(const char *s, bool all) {
    const char *p = answer_skip_space(s);
    bool spaced = p > s, macro = spaced && memchr(s, '\\', (size_t)(p - s));
    if (*p == '{') { // {,} and { , }
        const char *q = answer_skip_space(p + 1);
        if (*q != ',') return NULL;
        q = answer_skip_space(q + 1);
        if (*q != '}') return NULL;
        p = answer_skip_space(q + 1);
    } else if (*p == ',') {
        const char *q = answer_skip_space(p + 1);
        bool tight = p[1] == '\\' && p[2] == '!';
        if (spaced || (q > p + 1 && !tight) || (!all && !tight)) return NULL;
        p = q;
    } else if (!spaced || (!all && !macro) || (!macro && p > s + 1)) return NULL;
    for (int i = 0; i < 3; i++) {
        if (!answer_is_digit(p[i])) return NULL;
    }
    return answer_is_digit(p[3]) ? NULL : p;
}

void answer_lex_number(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s;
    int start = t->n_digits, leading = 0;
    while (answer_is_digit(*s) && t->n_digits < ANSWER_MAX_BYTES) { t->digits[t->n_digits++] = *s++; leading++; }
    // a group starts with 1 to 3 digits, not with a 0 (0,111 is no thousands)
    if (leading >= 1 && leading <= 3 && t->digits[start] != '0') {
        for (const char *group; (group = answer_thousands(s, x->depth == 0)) != NULL && t->n_digits < ANSWER_MAX_BYTES; s = group + 3) {
            memcpy(t->digits + t->n_digits, group, 3);
            t->n_digits += 3;
        }
    }
    if (*s == '.' && answer_is_digit(s[1])) {
        t->digits[t->n_digits++] = *s++;
        while (answer_is_digit(*s) && t->n_digits < ANSWER_MAX_BYTES) t->digits[t->n_digits++] = *s++;
    } else if (*s == '.' && leading > 0 && (s[1] == 0 || answer_is_space(s[1]) || s[1] == '\\' || s[1] == '$' || s[1] == '}' || s[1] == ',')) s++;
    // 1.5e-3; "2e" alone is twice Euler's number
    const char *e = s;
    if ((*e == 'e' || *e == 'E') && (answer_is_digit(e[1]) || ((e[1] == '-' || e[1] == '+') && answer_is_digit(e[2])))) {
        t->digits[t->n_digits++] = 'e';
        e++;
        if (*e == '-' || *e == '+') t->digits[t->n_digits++] = *e++;
        while (answer_is_digit(*e) && t->n_digits < ANSWER_MAX_BYTES) t->digits[t->n_digits++] = *e++;
        s = e;
    }
    t->digits[t->n_digits++] = 0;
    int n = t->n_digits - start - 1;
    if (n > ANSWER_MAX_DIGITS || t->n_digits >= ANSWER_MAX_BYTES) x->failed = true;
    answer_token(t, x, TK_NUM, 0, t->text, (size_t)n);
    if (t->n > 0) t->v[t->n - 1].at = start;
    x->s = s;
}

// Is what came last something that a unit can follow?
bool answer_after_number(const AnswerTokens *t) {
    if (t->n == 0) return false;
    const AnswerToken *k = &t->v[t->n - 1];
    return k->kind == TK_NUM || (k->kind == TK_CLOSE && k->sub != ']') || k->kind == TK_CONST || k->kind == TK_WORD || k->kind == TK_TEXT || k->kind == TK_PERCENT;
}

// Inside the \frac of a unit: 3 \frac{\text{m}}{\text{s}}?
bool answer_in_unit(const AnswerTokens *t) {
    if (t->n < 3 || t->v[t->n - 1].kind != TK_OPEN || t->v[t->n - 1].sub != '{') return false;
    const AnswerToken *a = &t->v[t->n - 3], *b = &t->v[t->n - 2];
    return (b->kind == TK_FRAC && (a->kind == TK_NUM || a->kind == TK_CLOSE)) || (b->kind == TK_CLOSE && a->kind == TK_TEXT);
}

// A run of letters: a function and what follows it, a word, or a product of one-letter names.
void answer_lex_letters(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s;
    size_t n = 0;
    while (answer_is_letter(s[n])) n++;
    if ((n == 3 && memcmp(s, "and", 3) == 0) || (n == 2 && memcmp(s, "or", 2) == 0)) {
        answer_token(t, x, TK_SEP, 0, s, n);
        x->s = s + n;
        return;
    }
    if (n == 1 && (*s == 'a' || *s == 'p') && s[1] == '.' && s[2] == 'm' && !answer_is_letter(s[3])) { // 9:45 a.m.
        answer_token(t, x, TK_WORD, 0, s, 3);
        x->s = s + 3 + (s[3] == '.');
        return;
    }
    if ((n == 3 && memcmp(s, "pct", 3) == 0) || (n == 7 && memcmp(s, "percent", 7) == 0)) {
        answer_token(t, x, TK_PERCENT, 0, s, n);
        x->s = s + n;
        return;
    }
    const AnswerWord *f = answer_word(ANSWER_LIST(answer_functions), s, n, true);
    size_t known = f ? strlen(f->name) : 0;
    bool unit = n <= 3 && answer_after_number(t) && answer_listed(ANSWER_LIST(answer_short_units), s, n);
    if (f && !unit && (n - known <= 2 || answer_word(ANSWER_LIST(answer_functions), s + known, n - known, true))) {
        answer_token(t, x, (AnswerTokenKind)f->kind, f->sub, s, known);
        x->s = s + known;
        return;
    }
    if (n >= 4 || unit) {
        answer_token(t, x, TK_WORD, 0, s, n);
        x->s = s + n;
        return;
    }
    t->runs += n > 1 && (s == t->text || !answer_is_letter(s[-1]));
    if ((*s == 'e' || *s == 'i') && !(n == 1 && s[1] == '_')) answer_token(t, x, TK_CONST, *s, s, 1);
    else answer_token(t, x, TK_NAME, 0, s, 1);
    x->s = s + 1;
}

// \text{...}: a separator, a number, a name or words.
void answer_lex_text(AnswerTokens *t, AnswerLexer *x, const char *s) {
    s = answer_skip_space(s);
    if (*s != '{') { x->s = s; return; }
    int depth = 1;
    const char *p = s + 1;
    for (; *p && depth > 0; p++) {
        if (*p == '\\' && p[1]) p++;
        else if (*p == '{') depth++;
        else if (*p == '}') depth--;
    }
    if (depth > 0) { x->failed = true; return; }
    const char *from = s + 1, *to = p - 1;
    while (from < to && (answer_is_space(*from) || *from == '~')) from++;
    while (from < to && (answer_is_space(to[-1]) || to[-1] == '~')) to--;
    size_t n = (size_t)(to - from);
    x->s = p;
    if (n == 0) { x->space = true; return; }
    char word[24];
    size_t w = 0;
    for (size_t i = 0; i < n && w < sizeof word - 1; i++) if (from[i] != ',' && !answer_is_space(from[i])) word[w++] = from[i];
    word[w] = 0;
    bool letters = true, number = false;
    for (size_t i = 0; i < n; i++) {
        letters &= answer_is_letter(from[i]);
        number |= answer_is_digit(from[i]);
    }
    for (size_t i = 0; i < n && number; i++) number = answer_is_digit(from[i]) || strchr(".,$%/+- ", from[i]);
    const AnswerWord *f = letters ? answer_word(ANSWER_LIST(answer_functions), from, n, false) : NULL;
    if (f && answer_after_number(t)) f = NULL; // 40\text{ min}
    if (w == 0 || strcasecmp(word, "and") == 0 || strcasecmp(word, "or") == 0) answer_token(t, x, TK_SEP, 0, from, n);
    else if (strcmp(word, "percent") == 0 || strcmp(word, "pct") == 0 || strcmp(word, "%") == 0 || strcmp(word, "\\%") == 0) answer_token(t, x, TK_PERCENT, 0, from, n);
    else if (number) x->s = s; // the braces and what they hold are read as mathematics
    else if (f) answer_token(t, x, (AnswerTokenKind)f->kind, f->sub, from, n);
    else if (n == 1 && letters && !answer_after_number(t) && !answer_in_unit(t)) answer_token(t, x, *from == 'i' || *from == 'e' ? TK_CONST : TK_NAME, *from, from, 1);
    else answer_token(t, x, TK_TEXT, 0, from, n);
}

void answer_lex_command(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s + 1;
    size_t n = 0;
    while (answer_is_letter(s[n])) n++;
    if (n == 0) { // an escaped character
        x->s = *s ? s + 1 : s;
        if (*s == '{') { answer_token(t, x, TK_OPEN, 'S', s, 1); x->depth++; }
        else if (*s == '}') { answer_token(t, x, TK_CLOSE, 'S', s, 1); x->depth--; }
        else if (*s == '%') answer_token(t, x, TK_PERCENT, 0, s, 1);
        else if (*s == '|') answer_token(t, x, TK_BAR, 0, s, 1);
        else if (*s == '\\') answer_token(t, x, TK_ROW, 0, s, 1);
        else if (*s == '_' || *s == '&' || *s == '#') x->failed = true;
        else if (*s) x->space = true; // spaces, \$, \( \[ and their ends
        return;
    }
    if (n > 4 && memcmp(s, "quad", 4) == 0) n = 4;
    x->s = s + n;
    if (n == 5 && (memcmp(s, "begin", 5) == 0)) {
        const char *p = answer_skip_space(x->s);
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        if (!end || end - p > 20) { x->failed = true; return; }
        answer_token(t, x, TK_BEGIN, p[1] == 'c' ? 'c' : 'm', p + 1, (size_t)(end - p - 1)); // c: cases
        bool array = answer_starts(p, "{array");
        x->s = end + 1;
        if (array && *answer_skip_space(x->s) == '{' && (end = strchr(x->s, '}')) != NULL) x->s = end + 1; // {cc|c}
    } else if (n == 3 && memcmp(s, "end", 3) == 0) {
        const char *p = answer_skip_space(x->s), *end = *p == '{' ? strchr(p, '}') : NULL;
        if (!end) { x->failed = true; return; }
        answer_token(t, x, TK_FINISH, 0, p, 1);
        x->s = end + 1;
    } else if (answer_listed(ANSWER_LIST(answer_texts), s, n)) {
        answer_lex_text(t, x, x->s);
    } else if (n == 6 && memcmp(s, "mathbb", 6) == 0 && s[6] == '{' && s[7] && s[8] == '}') { // the set of all real numbers, of all integers
        answer_token(t, x, TK_NAME, 2, s, 9);
        x->s = s + 9;
    } else if (answer_listed(ANSWER_LIST(answer_silent), s, n)) {
        bool spaced = n == 4 && memcmp(s, "quad", 4) == 0;
        x->space |= spaced;
        const char *p = answer_skip_space(x->s);
        if (((n == 4 && memcmp(s, "left", 4) == 0) || (n == 5 && memcmp(s, "right", 5) == 0)) && *p == '.') x->s = p + 1;
    } else {
        const AnswerWord *w = answer_word(ANSWER_LIST(answer_commands), s, n, false);
        if (!w) w = answer_word(ANSWER_LIST(answer_functions), s, n, false);
        if (w) {
            if (w->kind == TK_OPEN && strchr("S([", w->sub)) x->depth++;
            if (w->kind == TK_CLOSE && strchr("S)]", w->sub)) x->depth--;
            answer_token(t, x, (AnswerTokenKind)w->kind, w->sub, s, n);
        } else answer_token(t, x, TK_NAME, 1, s, n); // a Greek letter
    }
}

// Makes tokens of s; false if there are too many or it is not mathematics.
bool answer_lex(AnswerTokens *t, const char *source) {
    t->n = t->n_digits = t->runs = 0;
    if (!answer_spell(t, source)) return false;
    AnswerLexer x = {t->text, false, false, 0};
    while (*x.s && !x.failed) {
        char c = *x.s;
        if (answer_is_space(c) || c == '~' || c == '$') { x.space |= c != '$'; x.s++; }
        else if (answer_is_digit(c) || (c == '.' && answer_is_digit(x.s[1]))) answer_lex_number(t, &x);
        else if (answer_is_letter(c)) answer_lex_letters(t, &x);
        else if (c == '\\') answer_lex_command(t, &x);
        else {
            const char *s = x.s++;
            bool eq = s[1] == '=';
            if (strchr("([", c)) { answer_token(t, &x, TK_OPEN, c, s, 1); x.depth++; }
            else if (strchr(")]", c)) { answer_token(t, &x, TK_CLOSE, c, s, 1); x.depth--; }
            else if (c == '{') answer_token(t, &x, TK_OPEN, '{', s, 1);
            else if (c == '}') answer_token(t, &x, TK_CLOSE, '}', s, 1);
            else if (c == '|') answer_token(t, &x, TK_BAR, 0, s, 1);
            else if (c == '%') answer_token(t, &x, TK_PERCENT, 0, s, 1);
            else if (c == ',' || c == ';') answer_token(t, &x, TK_SEP, c, s, 1);
            else if (c == '*' && s[1] == '*') { answer_token(t, &x, TK_OP, '^', s, 2); x.s++; }
            else if ((c == '<' || c == '>' || c == '!') && eq) { answer_token(t, &x, TK_REL, c == '<' ? 'l' : c == '>' ? 'g' : '!', s, 2); x.s++; }
            else if (c == '=' && (s[1] == '<' || s[1] == '>')) { answer_token(t, &x, TK_REL, s[1] == '<' ? 'l' : 'g', s, 2); x.s++; }
            else if (c == '=' || c == '<' || c == '>') { answer_token(t, &x, TK_REL, c, s, 1); x.s += eq; }
            else if (strchr("+-*/^_!':&", c)) answer_token(t, &x, TK_OP, c, s, 1);
            else if (c == '.' && *answer_skip_space(x.s) == 0) continue; // the end of the sentence
            else if (c == '.' && *x.s == '$') continue;
            else x.failed = true;
        }
    }
    while (t->n > 0 && t->v[t->n - 1].kind == TK_SEP) t->n--; // "1, 2," and "5;"
    AnswerToken *end = &t->v[t->n];
    memset(end, 0, sizeof *end);
    return !x.failed && t->n > 0;
}

#endif
