/*
Reading a mathematical answer, first step: one spelling. answer_spell copies the text and rewrites Unicode mathematics
as LaTeX (π is \pi, ² is ^2), so that lex.h has to know only one way to write a thing. Also here: the tokens, and the
limits of all that is read.
*/
#ifndef LLMC_ANSWER_SPELL_H
#define LLMC_ANSWER_SPELL_H

#include <ctype.h>            // isalpha, isdigit
#include <strings.h>          // strncasecmp
#include "llmc/utils/utils.h" // Str

#define ANSWER_MAX_BYTES 6000 // longer answers are compared as text
#define ANSWER_MAX_TOKENS 1500
#define ANSWER_MAX_DIGITS 1500 // of one number
#define ANSWER_MAX_PERIOD 40   // digits that repeat

// clang-format off
typedef enum {
    TK_END, TK_NUM, TK_NAME, TK_CONST, TK_WORD, TK_TEXT, TK_FUNC, TK_FRAC, TK_SQRT, TK_BINOM, TK_BIG, TK_OPEN, TK_CLOSE,
    TK_BAR,
    TK_OP,    // sub: + - * / ^ _ ! ' : & or p (\pm), m (\mp), o (\over), c (\choose)
    TK_SEP,   // , ; and or
    TK_REL,   // sub: = < > l (<=) g (>=) ! (not equal) ~ (approximately) i (\in) t (\to)
    TK_SETOP, // sub: u (\cup), n (\cap), - (\setminus)
    TK_DEGREE, TK_PERCENT, TK_ROW, TK_BEGIN, TK_FINISH, TK_OVERLINE, TK_EMPTY, TK_LABEL,
} AnswerTokenKind;
// clang-format on

typedef struct {
    uint8_t kind, sub;
    bool space; // white space before it
    int at, n;  // its text in .text, for TK_NUM its digits in .digits
} AnswerToken;

typedef struct {
    char text[ANSWER_MAX_BYTES + 64], digits[ANSWER_MAX_BYTES + 64];
    int n_text, n_digits, n, runs; // runs: of two letters and more read as products of names
    bool unit_letters;             // letters after a number are units: 5 m/s
    AnswerToken v[ANSWER_MAX_TOKENS + 1];
} AnswerTokens;

// The inverse of each of the first six and of the six hyperbolic ones is FN_INVERSE further on.
// clang-format off
enum {
    FN_SIN, FN_COS, FN_TAN, FN_COT, FN_SEC, FN_CSC, FN_ASIN, FN_ACOS, FN_ATAN, FN_ACOT, FN_ASEC, FN_ACSC, FN_SINH,
    FN_COSH, FN_TANH, FN_COTH, FN_SECH, FN_CSCH, FN_ASINH, FN_ACOSH, FN_ATANH, FN_ACOTH, FN_ASECH, FN_ACSCH, FN_LN,
    FN_LOG, FN_EXP, FN_ABS, FN_FLOOR, FN_CEIL, FN_GCD, FN_LCM, FN_MAX, FN_MIN, FN_SQRT, FN_CIS, FN_CONJ, FN_MOD,
};
// clang-format on
#define FN_INVERSE (FN_ASIN - FN_SIN)

typedef struct {
    const char *name;
    uint8_t kind, sub;
} AnswerWord;

bool answer_starts(const char *s, const char *word) { return strncmp(s, word, strlen(word)) == 0; }
bool answer_is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool answer_is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool answer_is_digit(char c) { return c >= '0' && c <= '9'; }

// ----------------------------------------------------------------------------
// one spelling

typedef struct {
    const char *from, *to;
} AnswerSpelling;

// Unicode characters as LaTeX. Superscripts get their ^ and subscripts their _ from answer_spell, which joins runs of
// them.
// clang-format off
static const AnswerSpelling answer_spellings[] = {
    {"π", "\\pi "}, {"−", "-"}, {"–", "-"}, {"—", "-"}, {"×", "\\times "}, {"·", "\\cdot "},
    {"⋅", "\\cdot "}, {"∙", "\\cdot "}, {"∗", "*"}, {"÷", "/"}, {"∕", "/"}, {"⁄", "/"}, {"√", "\\sqrt "},
    {"∛", "\\sqrt[3]"}, {"∞", "\\infty "}, {"≤", "\\le "}, {"≥", "\\ge "}, {"⩽", "\\le "}, {"⩾", "\\ge "},
    {"≠", "\\ne "}, {"≈", "\\approx "}, {"≡", "\\equiv "}, {"∪", "\\cup "}, {"∩", "\\cap "},
    {"∈", "\\in "}, {"∅", "\\emptyset "}, {"∖", "\\setminus "}, {"±", "\\pm "}, {"∓", "\\mp "},
    {"°", "^\\circ "}, {"º", "^\\circ "}, {"∘", "\\circ "}, {"½", "\\frac12 "}, {"⅓", "\\frac13 "},
    {"⅔", "\\frac23 "}, {"¼", "\\frac14 "}, {"¾", "\\frac34 "}, {"⅛", "\\frac18 "}, {"⅜", "\\frac38 "},
    {"⅝", "\\frac58 "}, {"⅞", "\\frac78 "}, {"⅕", "\\frac15 "}, {"⅖", "\\frac25 "}, {"⅗", "\\frac35 "},
    {"⅘", "\\frac45 "}, {"⅙", "\\frac16 "}, {"⅚", "\\frac56 "}, {"€", "\\$"}, {"£", "\\$"}, {"¥", "\\$"},
    {"₹", "\\$"}, {"′", "'"}, {"’", "'"}, {"α", "\\alpha "}, {"β", "\\beta "}, {"γ", "\\gamma "},
    {"δ", "\\delta "}, {"ε", "\\epsilon "}, {"θ", "\\theta "}, {"λ", "\\lambda "}, {"μ", "\\mu "},
    {"ρ", "\\rho "}, {"σ", "\\sigma "}, {"τ", "\\tau "}, {"φ", "\\phi "}, {"ϕ", "\\phi "}, {"ω", "\\omega "},
    {"Δ", "\\Delta "}, {"Σ", "\\sum "}, {"∑", "\\sum "}, {"∏", "\\prod "}, {"∫", "\\int "},
    {"Ω", "\\Omega "}, {"∠", "\\angle "}, {"△", "\\triangle "}, {"ℝ", "\\mathbb{R}"}, {"ℤ", "\\mathbb{Z}"},
    {"ℕ", "\\mathbb{N}"}, {"ℚ", "\\mathbb{Q}"}, {"ℂ", "\\mathbb{C}"}, {"\xC2\xA0", " "}, {"\xE2\x80\x89", " "},
    {"\xE2\x80\xAF", " "}, {"\xE2\x80\x8B", ""}, {"⟨", "("}, {"⟩", ")"}, {"（", "("}, {"）", ")"}, {"，", ","},
    {"：", ":"}, {"＝", "="}, {"＋", "+"}, {"－", "-"}, {"∣", "|"}, {"⌊", "\\lfloor "}, {"⌋", "\\rfloor "},
    {"⌈", "\\lceil "}, {"⌉", "\\rceil "}, {"％", "%"}, {"∧", "^"}, {"✓", ""}, {"″", "''"}, {"“", ""},
    {"”", ""}, {"‘", "'"}, {"…", "\\ldots "}, {"⋯", "\\ldots "}, {"∨", "\\lor "}, {"⇒", "\\Rightarrow "},
    {"¢", "\\text{ cents}"}, {"℃", "^\\circ\\text{C}"}, {"⅑", "\\frac19 "}, {"⅒", "\\frac1{10}"},
    {"ψ", "\\psi "}, {"χ", "\\chi "}, {"η", "\\eta "}, {"κ", "\\kappa "}, {"ν", "\\nu "}, {"ξ", "\\xi "},
    {"ζ", "\\zeta "}, {"Γ", "\\Gamma "}, {"Λ", "\\Lambda "}, {"Φ", "\\Phi "}, {"Ψ", "\\Psi "},
    {"Θ", "\\Theta "}, {"\xC2\xB5", "\\mu "}, {"\xEF\xBB\xBF", ""}, {"\xE2\x81\xA0", ""}, {"\xE2\x80\x83", " "},
    {"\xE2\x80\x82", " "}, {"\xE3\x80\x80", " "}, {"\xE2\x80\x88", " "}, {"\xE2\x80\x8A", " "}, {"。", "."},
    {"、", ","}, {"⁢", ""}, {"【", "["}, {"】", "]"}, {"→", "\\to "},
    // Chinese connectives, units and what qualifies a number, as English words: longer ones first
    {"或者", " or "}, {"或", " or "}, {"以及", " and "}, {"并且", " and "}, {"和", " and "}, {"与", " and "},
    {"及", " and "}, {"且", " and "}, {"以上", " or more "}, {"以下", " or less "}, {"至少", " at least "},
    {"至多", " at most "}, {"最多", " at most "}, {"大于", " more than "}, {"小于", " less than "},
    {"不", " not "}, {"没有", " no "}, {"平方", " square "}, {"立方", " cubic "}, {"每", " per "},
    {"千米", " km "}, {"公里", " km "}, {"分米", " decimeters "}, {"厘米", " cm "}, {"毫米", " mm "},
    {"米", " meters "}, {"千克", " kg "}, {"公斤", " kg "}, {"毫克", " mg "}, {"克", " grams "},
    {"吨", " tons "}, {"毫升", " ml "}, {"升", " liters "}, {"公顷", " hectares "}, {"分钟", " minutes "},
    {"小时", " hours "}, {"秒", " seconds "}, {"天", " days "}, {"日", " days "}, {"星期", " weeks "},
    {"周", " weeks "}, {"个月", " months "}, {"月", " months "}, {"年", " years "}, {"岁", " years "},
    {"度", " degrees "}, {"元", " yuan "}, {"角", " jiao "}, {"万", " tenthousand "}, {"亿", " hundredmillion "},
    {"千", " thousand "}, {"百", " hundred "}, {"分", " points "}, {"倍", " times"}, {"单位", " units "},
    {"个", " items "}, {"只", " items "}, {"人", " people "}, {"名", " people "}, {"种", " kinds "},
    {"次", " rounds "}, {"张", " items "}, {"本", " items "}, {"支", " items "}, {"条", " items "},
    {"件", " items "}, {"辆", " items "}, {"页", " pages "}, {"道", " items "}, {"题", " items "},
    {"颗", " items "}, {"粒", " items "}, {"块", " items "}, {"棵", " items "}, {"箱", " items "},
    {"瓶", " items "}, {"袋", " items "}, {"包", " items "}, {"盒", " items "}, {"组", " groups "},
    {"枚", " items "}, {"台", " items "}, {"头", " items "}, {"根", " items "}, {"朵", " items "},
    {"份", " parts "},
};
// clang-format on
static const AnswerSpelling answer_raised[] = {
    {"⁰", "0"}, {"¹", "1"}, {"²", "2"}, {"³", "3"}, {"⁴", "4"}, {"⁵", "5"}, {"⁶", "6"}, {"⁷", "7"},
    {"⁸", "8"}, {"⁹", "9"}, {"⁺", "+"}, {"⁻", "-"}, {"ⁿ", "n"}, {"ˣ", "x"}, {"⁽", "("}, {"⁾", ")"},
};
static const AnswerSpelling answer_lowered[] = {
    {"₀", "0"}, {"₁", "1"}, {"₂", "2"}, {"₃", "3"}, {"₄", "4"}, {"₅", "5"}, {"₆", "6"},
    {"₇", "7"}, {"₈", "8"}, {"₉", "9"}, {"ₙ", "n"}, {"₊", "+"}, {"₋", "-"},
};

const AnswerSpelling *answer_spelling(const AnswerSpelling *table, size_t n, const char *s) {
    for (size_t i = 0; i < n; i++) {
        if (*s == *table[i].from && answer_starts(s, table[i].from)) return &table[i];
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
            if (script) {
                script = 0;
                if (!answer_put(t, "}", 1)) return false;
            }
            // \\frac is \frac: some writers escape twice
            if (*s == '\\' && s[1] == '\\' && !matrix &&
                (answer_is_letter(s[2]) || (s[2] && strchr("{}$%,!;:[]()", s[2]))))
                s++;
            if (!answer_put(t, s++, 1)) return false;
            if (s[-1] == '\\' && *s && (unsigned char)*s < 0x80 && !answer_put(t, s++, 1))
                return false; // an escaped character is not looked at again
            continue;
        }
        const AnswerSpelling *up = answer_spelling(answer_raised, sizeof answer_raised / sizeof answer_raised[0], s);
        const AnswerSpelling *low =
            up ? NULL : answer_spelling(answer_lowered, sizeof answer_lowered / sizeof answer_lowered[0], s);
        int kind = up ? '^' : low ? '_' : 0;
        if (script && script != kind) {
            script = 0;
            if (!answer_put(t, "}", 1)) return false;
        }
        if (kind) {
            if (!script && !answer_put(t, kind == '^' ? "^{" : "_{", 2)) return false;
            script = kind;
            const AnswerSpelling *to = up ? up : low;
            if (!answer_put(t, to->to, strlen(to->to))) return false;
            s += strlen(to->from);
            continue;
        }
        const AnswerSpelling *to =
            answer_spelling(answer_spellings, sizeof answer_spellings / sizeof answer_spellings[0], s);
        if (to) {
            if (!answer_put(t, to->to, strlen(to->to))) return false;
            s += strlen(to->from);
        } else if (answer_starts(s, "\xEF\xBC") && (unsigned char)s[2] >= 0x81 &&
                   (unsigned char)s[2] <= 0xBF) { // full width: U+FF01 is !
            char narrow = (char)(s[2] - 0x60);
            if (!answer_put(t, &narrow, 1)) return false;
            s += 3;
        } else if (answer_starts(s, "\xEF\xBD") && (unsigned char)s[2] >= 0x80 && (unsigned char)s[2] <= 0x9E) {
            char narrow = (char)(s[2] - 0x20);
            if (!answer_put(t, &narrow, 1)) return false;
            s += 3;
        } else if (!answer_put(t, s++, 1)) return false;
    }
    return !script || answer_put(t, "}", 1);
}

#endif
