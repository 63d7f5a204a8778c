/*
libFuzzer harness of the verifier. Nothing may crash, leak or take long, and what is true of "equal" must hold on every
input:

    raw      the input, cut at its first byte 0xFF, is a gold answer and a given one. Equal is reflexive (for all but
             the empty answer) and symmetric (but for what the form of the gold answer decides), and neither \dfrac for
             \frac, spaces around, nor a box change the verdict
    grammar  (the first byte is 0xFE) the input is read as two formulas, each written in two ways that mean the same:
             \dfrac for \frac, \left and \right, redundant braces and parentheses, spaces, terms in another order,
             fractions scaled. A formula equals itself in its other way, and the verdict on the two formulas is the same
             in either

dev/test/fuzz.sh runs it.
*/
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "llmc/answer/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// Ends the program, and so the fuzzing, with what was found.
static void fuzz_fail(const char *what, const char *a, const char *b) {
    fprintf(stderr, "%s:\n  %s\n  %s\n", what, a, b);
    abort();
}

static double fuzz_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ----------------------------------------------------------------------------
// raw

static bool fuzz_can_box(const char *s) {
    int depth = 0;
    for (const char *c = s; *c; c++) {
        if (*c == '\\') {
            if (*++c == 0) return false; // whatever else follows is no brace of a group
        } else if (*c == '{') {
            depth++;
        } else if (*c == '}' && --depth < 0) {
            return false;
        }
    }
    return depth == 0 && !strstr(s, "box") && !strchr(s, '<') && !strstr(s, "**") && !strpbrk(s, "\"`") && *s;
}

// May the verdict depend on which of the two is the gold answer? It says how 2,74 is read (where it is 2.74), that 52
// may lack its base (where it is 52_8), and that AB are two choices (where it is A,B).
static bool fuzz_directed(const char *a, const char *b) {
    bool comma = (strchr(a, ',') || strstr(a, "，")) && (strpbrk(b, ".,") || strstr(b, "。"));
    int letters = 0;
    for (const char *c = a; *c; c++) letters += *c >= 'A' && *c <= 'J';
    return comma || strchr(a, '_') || strstr(a, "base") || strstr(a, "\xE2\x82") || letters > 1;
}

static void fuzz_raw(const uint8_t *data, size_t n) {
    const uint8_t *cut = n ? (const uint8_t *)memchr(data, 0xFF, n) : NULL;
    size_t first = cut ? (size_t)(cut - data) : n / 2, from = cut ? first + 1 : first;
    char *gold = xstrndup((const char *)data, first), *pred = xstrndup((const char *)data + from, n - from);
    bool equal = answer_equal(gold, pred);
    bool directed = fuzz_directed(gold, pred) || fuzz_directed(pred, gold);
    if (equal != answer_equal(pred, gold) && !directed) fuzz_fail("not symmetric", gold, pred);
    Str inner = {NULL, 0, 0}, normal = {NULL, 0, 0}, other = {NULL, 0, 0};
    answer_normalize(&normal, answer_unwrap(&inner, gold));
    if (normal.n > 0 && strlen(gold) == first && !answer_equal(gold, gold))
        fuzz_fail("not equal to itself", gold, gold);
    for (const char *s = pred; *s; s++) {
        bool frac = strncmp(s, "\\frac", 5) == 0 && !(s > pred && s[-1] == '\\') && !isalpha((unsigned char)s[5]);
        str_add(&other, frac ? "\\d" : s, frac ? 2 : 1);
    }
    str_add(&other, "", 0);
    if (answer_equal(gold, other.s) != equal) fuzz_fail("\\dfrac changes the verdict", gold, other.s);
    if (fuzz_can_box(pred)) {
        other.n = 0;
        str_printf(&other, " \\boxed{ %s } ", pred);
        if (answer_equal(gold, other.s) != equal) fuzz_fail("a box changes the verdict", gold, other.s);
    }
    Str found = {NULL, 0, 0};
    answer_find(&found, pred, n - from);
    answer_choice(&found, pred, n - from);
    str_free(&found);
    str_free(&inner);
    str_free(&normal);
    str_free(&other);
    free(gold);
    free(pred);
}

// ----------------------------------------------------------------------------
// grammar

typedef struct {
    const uint8_t *data;
    size_t n, at;
} FuzzBytes;

static int fuzz_byte(FuzzBytes *b) { return b->at < b->n ? b->data[b->at++] : 0; }

// Appends one formula to both: plainly to *p, in its other way to *q.
static void fuzz_formula(FuzzBytes *b, Str *p, Str *q, int depth) {
    int kind = depth > 4 || b->at >= b->n ? 0 : fuzz_byte(b) % 12, value = fuzz_byte(b);
    Str x[2] = {{NULL, 0, 0}, {NULL, 0, 0}}, y[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    if (kind >= 3 && kind <= 10) fuzz_formula(b, &x[0], &x[1], depth + 1);
    if (kind >= 6 && kind <= 9) fuzz_formula(b, &y[0], &y[1], depth + 1);
    const char *s = x[0].s, *t = x[1].s, *u = y[0].s, *v = y[1].s;
    switch (kind) {
    case 0:
        str_printf(p, "%d", value);
        str_printf(q, value % 2 ? "{%d}" : "%d", value);
        break;
    case 1:
        str_printf(p, "%c", "xyzabt"[value % 6]);
        str_printf(q, value % 5 ? "%c" : "{%c}", "xyzabt"[value % 6]);
        break;
    case 2:
        str_printf(p, "\\frac{%d}{%d}", value, value % 13 + 1);
        str_printf(q, "\\dfrac{%d}{%d}", 3 * value, 3 * (value % 13 + 1));
        break;
    case 3:
        str_printf(p, "\\sqrt{%s}", s);
        str_printf(q, "\\sqrt{ {%s} }", t);
        break;
    case 4:
        str_printf(p, "\\left(%s\\right)^{%d}", s, value % 4 + 1);
        str_printf(q, "(%s)^%d", t, value % 4 + 1);
        break;
    case 5:
        str_printf(p, "-(%s)", s);
        str_printf(q, "- \\left( %s \\right)", t);
        break;
    case 6:
        str_printf(p, "(%s)+(%s)", s, u);
        str_printf(q, "(%s) + (%s)", v, t);
        break;
    case 7:
        str_printf(p, "(%s)-(%s)", s, u);
        str_printf(q, "-((%s)) + (%s)", v, t);
        break;
    case 8:
        str_printf(p, "(%s)(%s)", s, u);
        str_printf(q, "\\left(%s\\right) \\cdot \\left(%s\\right)", v, t);
        break;
    case 9:
        str_printf(p, "\\frac{%s}{%s}", s, u);
        str_printf(q, "\\tfrac{ %s }{ %s }", t, v);
        break;
    case 10:
        str_printf(p, "\\%s(%s)", value % 3 ? "sin" : "cos", s);
        str_printf(q, "\\%s\\left( %s\\right)", value % 3 ? "sin" : "cos", t);
        break;
    default:
        str_printf(p, "%s", value % 2 ? "\\pi" : "i");
        str_printf(q, "{%s}", value % 2 ? "\\pi" : "i");
        break;
    }
    for (int i = 0; i < 2; i++) {
        str_free(&x[i]);
        str_free(&y[i]);
    }
}

static void fuzz_grammar(const uint8_t *data, size_t n) {
    FuzzBytes b = {data, n, 0};
    Str p[2] = {{NULL, 0, 0}, {NULL, 0, 0}}, q[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    for (int i = 0; i < 2; i++) fuzz_formula(&b, &p[i], &q[i], 0);
    for (int i = 0; i < 2; i++) {
        if (!answer_equal(p[i].s, p[i].s)) fuzz_fail("not equal to itself", p[i].s, p[i].s);
        // where neither can be computed (0/0) they are the same only if the trees are
        if (answer_equal(q[i].s, p[i].s) != answer_equal(p[i].s, q[i].s)) fuzz_fail("not symmetric", p[i].s, q[i].s);
        AnswerParsed *a = (AnswerParsed *)xmalloc(sizeof *a);
        a->tokens.unit_letters = false;
        AnswerWork w;
        memset(&w, 0, sizeof w);
        w.sign = 1;
        if (answer_parse_text(a, p[i].s) && answer_is_value(&a->tree, a->tree.root) &&
            answer_values_agree(&w, &a->tree, a->tree.root, 1, &a->tree, a->tree.root, 1) &&
            !answer_equal(p[i].s, q[i].s))
            fuzz_fail("another way to write it is not equal", p[i].s, q[i].s);
        answer_tree_free(&a->tree);
        free(a);
    }
    bool equal = answer_equal(p[0].s, p[1].s);
    if (answer_equal(p[1].s, p[0].s) != equal) fuzz_fail("not symmetric", p[0].s, p[1].s);
    if (equal && !answer_equal(q[0].s, p[1].s))
        fuzz_fail("another way to write it changes the verdict", q[0].s, p[1].s);
    if (equal && !answer_equal(p[0].s, q[1].s))
        fuzz_fail("another way to write it changes the verdict", p[0].s, q[1].s);
    for (int i = 0; i < 2; i++) {
        str_free(&p[i]);
        str_free(&q[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    double start = fuzz_cpu_s();
    if (n > 0 && data[0] == 0xFE) fuzz_grammar(data + 1, n - 1);
    else fuzz_raw(data, n);
    if (fuzz_cpu_s() - start > 1) fuzz_fail("more than a second", "", "");
    return 0;
}
