/*
Reading a mathematical answer, second step: tokens. Numbers with their thousands separators resolved, names, functions,
brackets, relations, \text. What only changes the look ($, \left, \, \displaystyle, currency signs) leaves no token. It
stops at fixed limits and reads every byte a bounded number of times.
*/
#ifndef LLMC_ANSWER_LEX_H
#define LLMC_ANSWER_LEX_H

#include "llmc/answer/digits.h" // answer_token, answer_thousands; words.h: answer_functions, answer_commands, answer_word

// Is "st", "nd", "rd" or "th" what these digits ask for? 21st, 12th.
bool answer_is_ordinal(const char *digits, size_t n, const char *ending) {
    char last = digits[n - 1];
    bool teen = n > 1 && digits[n - 2] == '1';
    const char *right = !teen && last == '1' ? "st" : !teen && last == '2' ? "nd" : !teen && last == '3' ? "rd" : "th";
    return memcmp(ending, right, 2) == 0;
}

// ^{\text{th}}, ^{th} and the like after what came last, from the ^: how long, or 0.
size_t answer_ordinal_at(const AnswerTokens *t, const char *s) {
    static const char *const wrappers[] = {"\\text{", "\\mathrm{", "\\textrm{", "\\mbox{", "\\textit{", "\\rm "};
    const AnswerToken *last = t->n > 0 ? &t->v[t->n - 1] : NULL;
    const char *p = s + 1;
    int braces = 0;
    bool text = false;
    for (bool more = true; more;) {
        p = answer_skip_space(p);
        more = *p == '{';
        p += more;
        braces += more;
        for (size_t k = 0; k < sizeof wrappers / sizeof wrappers[0] && !more; k++) {
            if (!answer_starts(p, wrappers[k])) continue;
            more = text = true;
            p += strlen(wrappers[k]);
            braces += p[-1] == '{';
        }
    }
    if (!last || braces == 0 || !(p[0] && p[1]) || answer_is_letter(p[2])) return 0;
    bool number = last->kind == TK_NUM && answer_is_ordinal(t->digits + last->at, (size_t)last->n, p);
    if (!number && !(text && memcmp(p, "th", 2) == 0 && (last->kind == TK_NAME || last->kind == TK_CLOSE))) return 0;
    for (p += 2; braces > 0; braces--) {
        p = answer_skip_space(p);
        if (*p++ != '}') return 0;
    }
    return (size_t)(p - s);
}

void answer_lex_number(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s;
    int start = t->n_digits, leading = 0;
    while (answer_is_digit(*s) && t->n_digits < ANSWER_MAX_BYTES) {
        t->digits[t->n_digits++] = *s++;
        leading++;
    }
    // a group starts with 1 to 3 digits, not with a 0 (0,111 is no thousands)
    bool script = t->n > 0 && t->v[t->n - 1].kind == TK_OP && strchr("_^", t->v[t->n - 1].sub); // \log_2 128
    size_t points = answer_point_groups(s);
    if (leading >= 1 && leading <= 3 && points && t->n_digits + 3 * points < ANSWER_MAX_BYTES) {
        for (; points > 0; points--, s += 4, t->n_digits += 3) memcpy(t->digits + t->n_digits, s + 1, 3);
    } else if (leading >= 1 && leading <= 3 && t->digits[start] != '0') {
        for (const char *group; !(script && (answer_is_space(*s) || *s == ',')) &&
                                (group = answer_thousands(s, x->depth == 0)) != NULL && t->n_digits < ANSWER_MAX_BYTES;
             s = group + 3) {
            memcpy(t->digits + t->n_digits, group, 3);
            t->n_digits += 3;
        }
    }
    if (*s == '.' && answer_is_digit(s[1])) {
        t->digits[t->n_digits++] = *s++;
        while (answer_is_digit(*s) && t->n_digits < ANSWER_MAX_BYTES) t->digits[t->n_digits++] = *s++;
    } else if (*s == '.' && leading > 0 &&
               (s[1] == 0 || answer_is_space(s[1]) || s[1] == '\\' || s[1] == '$' || s[1] == '}' || s[1] == ',' ||
                s[1] == '/'))
        s++;
    bool point = *s == '.';
    size_t period = leading > 0 && (point || memchr(t->digits + start, '.', (size_t)(t->n_digits - start)))
                        ? answer_period_at(t, s + point, point)
                        : 0;
    if (period) s += point;
    // 1.5e-3; "2e" alone is twice Euler's number
    const char *e = s;
    if ((*e == 'e' || *e == 'E') &&
        (answer_is_digit(e[1]) || ((e[1] == '-' || e[1] == '+') && answer_is_digit(e[2])))) {
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
    if (period && !x->failed) answer_lex_period(t, x, s, period);
}

// Is what came last something that a unit can follow?
bool answer_after_number(const AnswerTokens *t) {
    if (t->n == 0) return false;
    const AnswerToken *k = &t->v[t->n - 1];
    return k->kind == TK_NUM || (k->kind == TK_CLOSE && k->sub != ']') || k->kind == TK_CONST || k->kind == TK_WORD ||
           k->kind == TK_TEXT || k->kind == TK_PERCENT || k->kind == TK_DEGREE;
}

// 5 \text{m} / \text{s}, 5 \text{N} \cdot \text{m}: was the token before the operator a unit?
bool answer_after_unit(const AnswerTokens *t) {
    return t->n > 1 && t->v[t->n - 1].kind == TK_OP && strchr("/*", t->v[t->n - 1].sub) &&
           t->v[t->n - 2].kind == TK_TEXT;
}

// A letter or two that name a unit where the other answer shows that units are meant.
bool answer_is_unit_letters(const char *s, size_t n) {
    static const char *const letters[] = {"m", "s", "g", "h", "N", "J", "W", "V",
                                          "A", "K", "C", "L", "l", "T", "F", "Hz"};
    return answer_listed(ANSWER_LIST(letters), s, n);
}

// Inside the \frac of a unit: 3 \frac{\text{m}}{\text{s}}?
bool answer_in_unit(const AnswerTokens *t) {
    if (t->n < 3 || t->v[t->n - 1].kind != TK_OPEN || t->v[t->n - 1].sub != '{') return false;
    const AnswerToken *a = &t->v[t->n - 3], *b = &t->v[t->n - 2];
    return (b->kind == TK_FRAC && (a->kind == TK_NUM || a->kind == TK_CLOSE)) ||
           (b->kind == TK_CLOSE && a->kind == TK_TEXT);
}

// A run of letters: a function and what follows it, a word, or a product of one-letter names.
void answer_lex_letters(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s;
    size_t n = 0;
    while (answer_is_letter(s[n])) n++;
    if ((n == 3 && memcmp(s, "and", 3) == 0) || (n == 2 && memcmp(s, "or", 2) == 0)) {
        answer_token(t, x, TK_SEP, n == 2 ? 'o' : 0, s, n);
        x->s = s + n;
        return;
    }
    if (n == 1 && (*s == 'a' || *s == 'p') && s[1] == '.' && s[2] == 'm' && !answer_is_letter(s[3])) { // 9:45 a.m.
        answer_token(t, x, TK_WORD, 0, s, 3);
        x->s = s + 3 + (s[3] == '.');
        return;
    }
    const AnswerToken *last = t->n > 0 ? &t->v[t->n - 1] : NULL;
    const char *next = answer_skip_space(s + n);
    if (n == 1 && *s == 'U' && last && last->kind == TK_CLOSE && strchr(")]", last->sub) && *next &&
        strchr("([\\", *next)) { // (1,2) U (3,4)
        answer_token(t, x, TK_SETOP, 'u', s, 1);
        x->s = s + 1;
        return;
    }
    if (n == 1 && (*s | 32) == 'x' && last && last->kind == TK_NUM && next[0] == '1' && next[1] == '0' &&
        *(next = answer_skip_space(next + 2)) && strchr("^*", *next)) { // 6.02 x 10^23
        answer_token(t, x, TK_OP, '*', s, 1);
        x->s = s + 1;
        return;
    }
    if (n == 2 && memcmp(s, "oo", 2) == 0) {
        answer_token(t, x, TK_CONST, 'o', s, 2);
        x->s = s + 2;
        return;
    }
    if (n == 2 && memcmp(s, "to", 2) == 0 && last && last->kind == TK_NUM && answer_is_digit(*next)) { // 3 to 5
        answer_token(t, x, TK_OP, ':', s, 2);
        x->s = s + 2;
        return;
    }
    // 5th
    if (n == 2 && last && last->kind == TK_NUM && s > t->text && answer_is_digit(s[-1]) &&
        answer_is_ordinal(t->digits + last->at, (size_t)last->n, s)) {
        x->s = s + 2;
        return;
    }
    if (n == 3 && memcmp(s, "mod", 3) == 0) {
        answer_token(t, x, TK_OP, 'M', s, n);
        x->s = s + n;
        return;
    }
    static const char *const prefixes[] = {"USD", "US", "EUR", "GBP", "Rs", "CAD", "AUD"};
    if ((t->n == 0 && n < 4 && answer_listed(ANSWER_LIST(prefixes), s, n)) ||
        (n == 2 && memcmp(s, "np", 2) == 0 && s[2] == '.')) { // Rs 5, np.pi
        x->s = s + n + (s[n] == '.');
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
    unit |= last && last->kind == TK_DEGREE && n == 1 && (*s == 'C' || *s == 'F');
    if (t->unit_letters && n <= 3 && (answer_after_number(t) || answer_after_unit(t) || answer_in_unit(t)) &&
        (answer_is_unit_letters(s, n) || answer_listed(ANSWER_LIST(answer_short_units), s, n))) {
        answer_token(t, x, TK_TEXT, 0, s, n);
        x->s = s + n;
        return;
    }
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

// \ldots and the like between separators or operators: one name for all of them. Elsewhere (1.77\ldots) it is no
// mathematics.
void answer_dots(AnswerTokens *t, AnswerLexer *x, const char *s) {
    const AnswerToken *last = t->n > 0 ? &t->v[t->n - 1] : NULL;
    x->failed |= !last || (last->kind != TK_SEP && !(last->kind == TK_OP && strchr("+-*", last->sub)));
    answer_token(t, x, TK_NAME, 3, s, 1);
}

// \text{...}: a separator, a number, a name or words.
void answer_lex_text(AnswerTokens *t, AnswerLexer *x, const char *s) {
    s = answer_skip_space(s);
    if (*s != '{') {
        x->s = s;
        return;
    }
    int depth = 1;
    const char *p = s + 1;
    for (; *p && depth > 0; p++) {
        if (*p == '\\' && p[1]) p++;
        else if (*p == '{') depth++;
        else if (*p == '}') depth--;
    }
    if (depth > 0) {
        x->failed = true;
        return;
    }
    const char *from = s + 1, *to = p - 1;
    while (from < to && (answer_is_space(*from) || *from == '~')) from++;
    while (from < to && (answer_is_space(to[-1]) || to[-1] == '~')) to--;
    size_t n = (size_t)(to - from);
    x->s = p;
    if (n == 0) {
        x->space = true;
        return;
    }
    char word[24];
    size_t w = 0;
    for (size_t i = 0; i < n && w < sizeof word - 1; i++)
        if (from[i] != ',' && !answer_is_space(from[i])) word[w++] = from[i];
    word[w] = 0;
    bool letters = true, number = false;
    for (size_t i = 0; i < n; i++) {
        letters &= answer_is_letter(from[i]);
        number |= answer_is_digit(from[i]);
    }
    for (size_t i = 0; i < n && number; i++) { // numbers, also "3 and 5"
        size_t word = i > 0 && answer_is_space(from[i - 1]) ? (answer_starts(from + i, "and ")  ? 3
                                                               : answer_starts(from + i, "or ") ? 2
                                                                                                : 0)
                                                            : 0;
        number = word || answer_is_digit(from[i]) || strchr(".,$%/+- ", from[i]);
        i += word;
    }
    const AnswerWord *f = letters ? answer_word(ANSWER_LIST(answer_functions), from, n, false) : NULL;
    if (f && answer_after_number(t) && answer_listed(ANSWER_LIST(answer_short_units), from, n))
        f = NULL; // 40\text{ min}
    if (w == 0 || strcasecmp(word, "and") == 0 || strcasecmp(word, "or") == 0)
        answer_token(t, x, TK_SEP, (word[0] | 32) == 'o' ? 'o' : 0, from, n);
    else if (n == 1 && *from == 'U' && t->n > 0 && t->v[t->n - 1].kind == TK_CLOSE)
        answer_token(t, x, TK_SETOP, 'u', from, n);
    else if ((strcmp(word, "to") == 0 || strcmp(word, ":") == 0) && t->n > 0 && t->v[t->n - 1].kind == TK_NUM)
        answer_token(t, x, TK_OP, ':', from, n);
    else if (strcmp(word, "percent") == 0 || strcmp(word, "pct") == 0 || strcmp(word, "%") == 0 ||
             strcmp(word, "\\%") == 0)
        answer_token(t, x, TK_PERCENT, 0, from, n);
    else if (number) x->s = s; // the braces and what they hold are read as mathematics
    else if (f) answer_token(t, x, (AnswerTokenKind)f->kind, f->sub, from, n);
    else if (n == 1 && letters && !answer_after_number(t) && !answer_in_unit(t) && !answer_after_unit(t))
        answer_token(t, x, *from == 'i' || *from == 'e' ? TK_CONST : TK_NAME, *from, from, 1);
    else answer_token(t, x, TK_TEXT, 0, from, n);
}

void answer_lex_command(AnswerTokens *t, AnswerLexer *x) {
    const char *s = x->s + 1;
    size_t n = 0;
    while (answer_is_letter(s[n])) n++;
    if (n == 0) { // an escaped character
        x->s = *s ? s + 1 : s;
        if (*s == '{') {
            answer_token(t, x, TK_OPEN, 'S', s, 1);
            x->depth++;
        } else if (*s == '}') {
            answer_token(t, x, TK_CLOSE, 'S', s, 1);
            x->depth--;
        } else if (*s == '%') answer_token(t, x, TK_PERCENT, 0, s, 1);
        else if (*s == '|') answer_token(t, x, TK_BAR, 0, s, 1);
        else if (*s == '\\') {
            answer_token(t, x, TK_ROW, 0, s, 1);
            const char *p = s + 1;
            if (*p == '[') { // \\[4pt]
                for (p++; answer_is_digit(*p) || *p == '.'; p++) {}
                if (answer_is_letter(p[0]) && answer_is_letter(p[1]) && p[2] == ']') x->s = p + 3;
            }
        } else if (*s == '_' || *s == '&' || *s == '#' || answer_is_digit(*s)) x->failed = true;
        else if (*s) x->space = true; // spaces, \$, \( \[ and their ends
        return;
    }
    if (n > 4 && memcmp(s, "quad", 4) == 0) n = 4;
    x->s = s + n;
    if (n == 5 && (memcmp(s, "begin", 5) == 0)) {
        const char *p = answer_skip_space(x->s);
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        if (!end || end - p > 20) {
            x->failed = true;
            return;
        }
        answer_token(t, x, TK_BEGIN, p[1] == 'c' ? 'c' : 'm', p + 1, (size_t)(end - p - 1)); // c: cases
        bool array = answer_starts(p, "{array");
        x->s = end + 1;
        if (array && *answer_skip_space(x->s) == '{' && (end = strchr(x->s, '}')) != NULL) x->s = end + 1; // {cc|c}
    } else if (n == 3 && memcmp(s, "end", 3) == 0) {
        const char *p = answer_skip_space(x->s), *end = *p == '{' ? strchr(p, '}') : NULL;
        if (!end) {
            x->failed = true;
            return;
        }
        answer_token(t, x, TK_FINISH, 0, p, 1);
        x->s = end + 1;
    } else if ((n == 5 && memcmp(s, "color", 5) == 0) || (n == 9 && memcmp(s, "textcolor", 9) == 0)) {
        const char *p = answer_skip_space(x->s), *end = *p == '{' ? strchr(p, '}') : NULL;
        if (end) x->s = end + 1;
    } else if (n >= 4 && n <= 5 &&
               memcmp(s + n - 4, "dots", 4) == 0) { // between separators or operators; elsewhere it is no mathematics
        answer_dots(t, x, s);
    } else if (n == 6 && (memcmp(s, "mathbf", 6) == 0 || memcmp(s, "mathrm", 6) == 0) &&
               answer_starts(s + 6, "{R}")) { // all real numbers
        answer_token(t, x, TK_NAME, 2, s, 9);
        x->s = s + 9;
    } else if (answer_listed(ANSWER_LIST(answer_texts), s, n)) {
        answer_lex_text(t, x, x->s);
    } else if (n == 6 && memcmp(s, "mathbb", 6) == 0 && s[6] == '{' && s[7] &&
               s[8] == '}') { // the set of all real numbers, of all integers
        answer_token(t, x, TK_NAME, 2, s, 9);
        x->s = s + 9;
    } else if (answer_listed(ANSWER_LIST(answer_silent), s, n)) {
        bool spaced = n == 4 && memcmp(s, "quad", 4) == 0;
        x->space |= spaced;
        const char *p = answer_skip_space(x->s);
        if (((n == 4 && memcmp(s, "left", 4) == 0) || (n == 5 && memcmp(s, "right", 5) == 0)) && *p == '.')
            x->s = p + 1;
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

// Does an empty line stand here between two values, as between the elements of a list?
bool answer_is_paragraph(const AnswerTokens *t, const AnswerLexer *x, bool matrix) {
    if (*x->s != '\n' || matrix || x->depth > 0 || t->n == 0) return false;
    const AnswerToken *last = &t->v[t->n - 1];
    size_t n = 0, lines = 0;
    for (; answer_is_space(x->s[n]); n++) lines += x->s[n] == '\n';
    bool value = last->kind != TK_SEP && last->kind != TK_REL && last->kind != TK_OPEN && last->kind != TK_SETOP &&
                 !(last->kind == TK_OP && !strchr("!'", last->sub));
    return lines > 1 && value && !(last->kind == TK_CLOSE && x->s[n] == '{') && x->s[n] &&
           !strchr("+-*/^_=<>,;)]}&|", x->s[n]);
}

// Makes tokens of s; false if there are too many or it is not mathematics.
bool answer_lex(AnswerTokens *t, const char *source) {
    t->n = t->n_digits = t->runs = 0;
    if (!answer_spell(t, source)) return false;
    AnswerLexer x = {t->text, false, false, 0};
    bool matrix = strstr(t->text, "\\begin") != NULL;
    size_t ordinal;
    while (*x.s && !x.failed) {
        char c = *x.s;
        if (answer_is_paragraph(t, &x, matrix)) answer_token(t, &x, TK_SEP, ',', x.s++, 1);
        else if (answer_is_space(c) || c == '~' || c == '$') {
            x.space |= c != '$';
            x.s++;
        } else if (c == '^' && (ordinal = answer_ordinal_at(t, x.s)) > 0) x.s += ordinal;
        else if (answer_is_digit(c) || (c == '.' && answer_is_digit(x.s[1]))) answer_lex_number(t, &x);
        else if (answer_is_letter(c)) answer_lex_letters(t, &x);
        else if (c == '\\') answer_lex_command(t, &x);
        else {
            const char *s = x.s++;
            bool eq = s[1] == '=';
            if (c == '+' && s[1] == '/' && s[2] == '-') {
                answer_token(t, &x, TK_OP, 'p', s, 3);
                x.s += 2;
            } else if (c == '-' && t->n > 0 &&
                       (t->v[t->n - 1].kind == TK_CLOSE ||
                        (t->v[t->n - 1].kind == TK_NAME && t->v[t->n - 1].sub == 2)) &&
                       answer_starts(answer_skip_space(x.s), "\\{"))
                answer_token(t, &x, TK_SETOP, '-', s, 1);
            else if (strchr("([", c)) {
                answer_token(t, &x, TK_OPEN, c, s, 1);
                x.depth++;
            } else if (strchr(")]", c)) {
                answer_token(t, &x, TK_CLOSE, c, s, 1);
                x.depth--;
            } else if (c == '{') answer_token(t, &x, TK_OPEN, '{', s, 1);
            else if (c == '}') answer_token(t, &x, TK_CLOSE, '}', s, 1);
            else if (c == '|') answer_token(t, &x, TK_BAR, 0, s, 1);
            else if (c == '%') answer_token(t, &x, TK_PERCENT, 0, s, 1);
            else if (c == ',' || c == ';') answer_token(t, &x, TK_SEP, c, s, 1);
            else if (c == '*' && s[1] == '*') {
                answer_token(t, &x, TK_OP, '^', s, 2);
                x.s++;
            } else if ((c == '<' || c == '>' || c == '!') && eq) {
                answer_token(t, &x, TK_REL, c == '<' ? 'l' : c == '>' ? 'g' : '!', s, 2);
                x.s++;
            } else if (c == '=' && (s[1] == '<' || s[1] == '>')) {
                answer_token(t, &x, TK_REL, s[1] == '<' ? 'l' : 'g', s, 2);
                x.s++;
            } else if (c == '=' || c == '<' || c == '>') {
                answer_token(t, &x, TK_REL, c, s, 1);
                x.s += eq;
            } else if (strchr("+-*/^_!':&", c)) answer_token(t, &x, TK_OP, c, s, 1);
            else if (c == '.' && s[1] == '.' && s[2] == '.' && t->n > 0 && t->v[t->n - 1].kind == TK_SEP) {
                answer_dots(t, &x, s);
                x.s += 2;
            } else if (c == '.' && *answer_skip_space(x.s) == 0) continue; // the end of the sentence
            else if (c == '.' && *x.s == '$') continue;
            else if (c == '.' && t->n > 0 && (t->v[t->n - 1].kind == TK_WORD || t->v[t->n - 1].kind == TK_TEXT) &&
                     s > t->text && (answer_is_letter(s[-1]) || s[-1] == '}'))
                continue; // sq. cm
            else x.failed = true;
        }
    }
    while (t->n > 0 && t->v[t->n - 1].kind == TK_SEP) t->n--; // "1, 2," and "5;"
    AnswerToken *end = &t->v[t->n];
    memset(end, 0, sizeof *end);
    return !x.failed && t->n > 0;
}

#endif
