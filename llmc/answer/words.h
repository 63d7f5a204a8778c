/*
The words that mean something in a mathematical answer, as lists, and finding one in them.
*/
#ifndef LLMC_ANSWER_WORDS_H
#define LLMC_ANSWER_WORDS_H

#include "llmc/answer/spell.h" // AnswerWord

// Names with a meaning, with or without a backslash. Of those that start alike the longer comes first.
static const AnswerWord answer_functions[] = {
    {"arcsinh", TK_FUNC, FN_ASINH}, {"arccosh", TK_FUNC, FN_ACOSH}, {"arctanh", TK_FUNC, FN_ATANH},
    {"arccoth", TK_FUNC, FN_ACOTH}, {"arsinh", TK_FUNC, FN_ASINH},  {"arcosh", TK_FUNC, FN_ACOSH},
    {"artanh", TK_FUNC, FN_ATANH},  {"arcoth", TK_FUNC, FN_ACOTH},  {"arsech", TK_FUNC, FN_ASECH},
    {"arcsch", TK_FUNC, FN_ACSCH},  {"asinh", TK_FUNC, FN_ASINH},   {"acosh", TK_FUNC, FN_ACOSH},
    {"atanh", TK_FUNC, FN_ATANH},   {"arcsec", TK_FUNC, FN_ASEC},   {"arccsc", TK_FUNC, FN_ACSC},
    {"coth", TK_FUNC, FN_COTH},     {"sech", TK_FUNC, FN_SECH},     {"csch", TK_FUNC, FN_CSCH},
    {"arcsin", TK_FUNC, FN_ASIN},   {"arccos", TK_FUNC, FN_ACOS},   {"arctan", TK_FUNC, FN_ATAN},
    {"arccot", TK_FUNC, FN_ACOT},   {"arctg", TK_FUNC, FN_ATAN},    {"asin", TK_FUNC, FN_ASIN},
    {"acos", TK_FUNC, FN_ACOS},     {"atan", TK_FUNC, FN_ATAN},     {"sinh", TK_FUNC, FN_SINH},
    {"cosh", TK_FUNC, FN_COSH},     {"tanh", TK_FUNC, FN_TANH},     {"sin", TK_FUNC, FN_SIN},
    {"cos", TK_FUNC, FN_COS},       {"tan", TK_FUNC, FN_TAN},       {"cot", TK_FUNC, FN_COT},
    {"sec", TK_FUNC, FN_SEC},       {"csc", TK_FUNC, FN_CSC},       {"log", TK_FUNC, FN_LOG},
    {"ln", TK_FUNC, FN_LN},         {"exp", TK_FUNC, FN_EXP},       {"sqrt", TK_SQRT, 2},
    {"cbrt", TK_SQRT, 3},           {"gcd", TK_FUNC, FN_GCD},       {"lcm", TK_FUNC, FN_LCM},
    {"max", TK_FUNC, FN_MAX},       {"min", TK_FUNC, FN_MIN},       {"abs", TK_FUNC, FN_ABS},
    {"floor", TK_FUNC, FN_FLOOR},   {"ceil", TK_FUNC, FN_CEIL},     {"cis", TK_FUNC, FN_CIS},
    {"pi", TK_CONST, 'p'},          {"infinity", TK_CONST, 'o'},    {"infty", TK_CONST, 'o'},
    {"inf", TK_CONST, 'o'},         {"binom", TK_BINOM, 0},
};
// Commands (after a backslash) that are no names.
// clang-format off
static const AnswerWord answer_commands[] = {
    {"frac", TK_FRAC, 0}, {"dfrac", TK_FRAC, 0}, {"tfrac", TK_FRAC, 0}, {"cfrac", TK_FRAC, 0}, {"sfrac", TK_FRAC, 0},
    {"nicefrac", TK_FRAC, 0}, {"dbinom", TK_BINOM, 0}, {"tbinom", TK_BINOM, 0}, {"tg", TK_FUNC, FN_TAN},
    {"ctg", TK_FUNC, FN_COT}, {"lg", TK_FUNC, FN_LOG}, {"cdot", TK_OP, '*'}, {"times", TK_OP, '*'}, {"ast", TK_OP, '*'},
    {"div", TK_OP, '/'}, {"over", TK_OP, 'o'}, {"choose", TK_OP, 'c'}, {"pm", TK_OP, 'p'}, {"mp", TK_OP, 'm'},
    {"colon", TK_OP, ':'}, {"prime", TK_OP, '\''}, {"le", TK_REL, 'l'}, {"leq", TK_REL, 'l'}, {"leqslant", TK_REL, 'l'},
    {"lt", TK_REL, '<'}, {"ge", TK_REL, 'g'}, {"geq", TK_REL, 'g'}, {"geqslant", TK_REL, 'g'}, {"gt", TK_REL, '>'},
    {"ne", TK_REL, '!'}, {"neq", TK_REL, '!'}, {"approx", TK_REL, '~'}, {"simeq", TK_REL, '~'}, {"in", TK_REL, 'i'},
    {"to", TK_REL, 't'}, {"rightarrow", TK_REL, 't'}, {"equiv", TK_REL, 'e'}, {"cup", TK_SETOP, 'u'},
    {"cap", TK_SETOP, 'n'}, {"setminus", TK_SETOP, '-'}, {"smallsetminus", TK_SETOP, '-'}, {"bigcup", TK_SETOP, 'u'},
    {"bigcap", TK_SETOP, 'n'}, {"backslash", TK_SETOP, '-'}, {"circ", TK_DEGREE, 0}, {"degree", TK_DEGREE, 0},
    {"emptyset", TK_EMPTY, 0}, {"varnothing", TK_EMPTY, 0}, {"overline", TK_OVERLINE, 0}, {"dot", TK_OVERLINE, 0},
    {"bar", TK_OVERLINE, 0}, {"pmod", TK_OP, 'M'}, {"bmod", TK_OP, 'M'}, {"mod", TK_OP, 'M'}, {"sum", TK_BIG, 's'},
    {"prod", TK_BIG, 'p'}, {"int", TK_BIG, 'i'}, {"lim", TK_BIG, 'l'}, {"lfloor", TK_OPEN, 'f'},
    {"rfloor", TK_CLOSE, 'f'}, {"lceil", TK_OPEN, 'c'}, {"rceil", TK_CLOSE, 'c'}, {"lvert", TK_OPEN, 'a'},
    {"rvert", TK_CLOSE, 'a'}, {"lbrace", TK_OPEN, 'S'}, {"rbrace", TK_CLOSE, 'S'}, {"langle", TK_OPEN, '('},
    {"rangle", TK_CLOSE, ')'}, {"lbrack", TK_OPEN, '['}, {"rbrack", TK_CLOSE, ']'}, {"vert", TK_BAR, 0},
    {"mid", TK_BAR, 0}, {"angle", TK_LABEL, 0}, {"triangle", TK_LABEL, 0}, {"Rightarrow", TK_SEP, 0},
    {"land", TK_SEP, 0}, {"lor", TK_SEP, 0}, {"wedge", TK_SEP, 0}, {"vee", TK_SEP, 0}, {"And", TK_SEP, 0},
    {"cr", TK_ROW, 0}, {"newline", TK_ROW, 0},
};
// clang-format on
// Commands that leave nothing, and those that only dress what is in their braces.
static const char *const answer_silent[] = {
    "left",      "right",          "big",        "Big",          "bigg",       "Bigg",   "bigl",
    "bigr",      "Bigl",           "Bigr",       "displaystyle", "textstyle",  "quad",   "qquad",
    "limits",    "phantom",        "hspace",     "rm",           "bf",         "it",     "mathstrut",
    "mathbf",    "mathbb",         "mathcal",    "mathit",       "mathsf",     "vec",    "hat",
    "tilde",     "overrightarrow", "boldsymbol", "bm",           "ensuremath", "mathop", "limits",
    "nolimits",  "underline",      "widehat",    "boxed",        "fbox",       "hline",  "enspace",
    "thinspace", "space",          "small",      "large",        "euro",       "pounds", "cancel"};
static const char *const answer_texts[] = {"text",         "mbox", "textbf", "textit", "textrm", "textnormal", "mathrm",
                                           "operatorname", "hbox", "texttt", "textsf", "mathtt", "emph"};
// Short words that are units and not products of letters, when they follow a number.
static const char *const answer_short_units[] = {
    "cm",  "mm",  "km",  "nm",  "kg",  "mg",  "lb",  "lbs", "ft",    "in",  "yd",  "yds", "mi",   "oz",
    "sec", "min", "hr",  "hrs", "mph", "kph", "ml",  "mL",  "deg",   "sq",  "cc",  "gal", "day",  "men",
    "hz",  "Hz",  "kHz", "J",   "kJ",  "eV",  "rad", "pts", "cents", "am",  "pm",  "AM",  "PM",   "USD",
    "Pa",  "kPa", "mol", "cup", "pie", "boy", "cat", "dog", "way",   "odd", "per", "kW",  "amp",  "atm",
    "cal", "box", "pin", "pen", "car", "bus", "egg", "set", "lot",   "bag", "can", "hat", "hens", "pi/s"};

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

#endif
