/*
Words around a value: "The length of AB is 9/4", "2x for all x", "41/8 (about 5.1 litres)". They are left out only where
they cannot change the value: nothing that denies, chooses or sets a condition ("is not", "either", "if"), no number
before the verb, no set after "for all" but the real numbers. Also here: the last side of a calculation whose other
sides cannot be read.
*/
#ifndef LLMC_ANSWER_PROSE_H
#define LLMC_ANSWER_PROSE_H

#include "llmc/answer/text.h" // answer_starts, answer_is_letter

#define ANSWER_MAX_PROSE 400 // longer ones are left as they are

static const char *const answer_text_commands[] = {"\\text",   "\\textbf", "\\textit", "\\textrm", "\\mbox",
                                                   "\\mathrm", "\\mathbf", "\\emph",   "\\quad",   "\\qquad"};

size_t answer_text_command_at(const char *s) {
    if (*s != '\\') return 0;
    for (size_t i = 0; i < sizeof answer_text_commands / sizeof answer_text_commands[0]; i++) {
        size_t n = strlen(answer_text_commands[i]);
        if (answer_starts(s, answer_text_commands[i]) && !answer_is_letter(s[n])) return n;
    }
    return 0;
}

// Length of what only separates or dresses words at s: spaces, $, braces, \text, "\ ".
size_t answer_dress_at(const char *s) {
    if (answer_is_space(*s) || (*s && strchr("${}~", *s))) return 1;
    if (*s == '\\' && s[1] && strchr(" ,;:!", s[1])) return 2;
    return answer_text_command_at(s);
}

#define ANSWER_WORD_IN(list, s, n) answer_word_in(list, sizeof(list) / sizeof(list)[0], s, n)
bool answer_word_in(const char *const *list, size_t count, const char *s, size_t n) {
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == n && strncasecmp(list[i], s, n) == 0) return true;
    return false;
}

bool answer_is_balanced(const char *s) {
    int depth = 0;
    for (; *s && depth >= 0; s++) {
        if (*s == '\\' && s[1]) s++;
        else depth += *s == '{' ? 1 : *s == '}' ? -1 : 0;
    }
    return depth == 0;
}

// Cuts s before the byte at `end` and before a \text{ and spaces that stand there, if what is left is balanced and not
// empty. A \text{...} that is cut is closed.
bool answer_cut_text(Str *s, size_t end) {
    size_t n = end;
    for (bool more = true; more && n > 0;) {
        more = false;
        for (size_t i = 0; i < sizeof answer_text_commands / sizeof answer_text_commands[0] && !more; i++) {
            size_t w = strlen(answer_text_commands[i]);
            bool brace = n > w && s->s[n - 1] == '{';
            if (brace && memcmp(s->s + n - 1 - w, answer_text_commands[i], w) == 0) {
                n -= w + 1;
                more = true;
            }
        }
        if (!more && answer_is_space(s->s[n - 1]) && !(n > 1 && s->s[n - 2] == '\\')) {
            n--;
            more = true;
        }
        if (!more && n > 1 && s->s[n - 2] == '\\' && strchr(" ,;:!", s->s[n - 1])) {
            n -= 2;
            more = true;
        }
    }
    char kept = s->s[n];
    s->s[n] = 0;
    bool dollars = false;
    for (size_t i = 0; i < n; i++) dollars ^= s->s[i] == '$' && !(i > 0 && s->s[i - 1] == '\\');
    bool balanced = answer_is_balanced(s->s);
    if (!balanced && n + 1 < s->n) {
        char second = s->s[n + 1];
        memcpy(s->s + n, "}", 2);
        balanced = answer_is_balanced(s->s);
        if (balanced) n++;
        else s->s[n + 1] = second;
    }
    if (n == 0 || dollars || !balanced) {
        s->s[n] = kept;
        return false;
    }
    s->n = n;
    return true;
}

// \text{the value is $5$}: the inside, which has formulas in it.
void answer_open_text(Str *s) {
    size_t n = s->n > 0 && s->s[0] == '\\' ? answer_text_command_at(s->s) : 0;
    if (n == 0 || s->s[n] != '{' || s->s[s->n - 1] != '}' || !strchr(s->s, '$')) return;
    s->s[s->n - 1] = 0;
    if (!answer_is_balanced(s->s + n + 1)) {
        s->s[s->n - 1] = '}';
        return;
    }
    s->n -= n + 2;
    memmove(s->s, s->s + n + 1, s->n + 1);
}

// "(about 5.1 litres)" at the end says nothing new.
void answer_drop_aside(Str *s) {
    static const char *const about[] = {"about",    "approx",           "approximately", "roughly",     "nearly",
                                        "or about", "or approximately", "\\approx",      "\xE2\x89\x88"};
    size_t end = s->n;
    while (end > 0 && strchr("}$. ", s->s[end - 1])) end--;
    if (end == 0 || s->s[end - 1] != ')') return;
    size_t open = end - 1;
    while (open > 0 && s->s[open] != '(' && (open == end - 1 || s->s[open] != ')')) open--;
    if (open == 0 || s->s[open] != '(') return;
    const char *word = s->s + open + 1;
    for (size_t n; (n = answer_dress_at(word)) > 0;) word += n;
    for (size_t i = 0; i < sizeof about / sizeof about[0]; i++) {
        size_t n = strlen(about[i]);
        if (strncasecmp(word, about[i], n) == 0 && !answer_is_letter(word[n])) {
            answer_cut_text(s, open);
            return;
        }
    }
}

// Do these words, after "for all", name no more than a variable and the real numbers?
bool answer_is_everywhere(const char *s) {
    static const char *const words[] = {"real", "reals", "number", "numbers", "value", "values", "of"},
                             *const sets[] = {"\\mathbb{R}", "\\mathbf{R}", "\\R", "R", "\xE2\x84\x9D"};
    bool within = false;
    while (*s) {
        size_t n = 0;
        for (size_t i = 0; i < sizeof sets / sizeof sets[0] && within && n == 0; i++)
            if (answer_starts(s, sets[i]) && !answer_is_letter(s[strlen(sets[i])])) n = strlen(sets[i]);
        if (n > 0) within = false;
        else if ((n = answer_dress_at(s)) > 0 || (*s == '.' && s[1] == 0)) {
            s += n ? n : 1;
            continue;
        } else if (answer_starts(s, "\\in") && !answer_is_letter(s[3])) {
            n = 3;
            within = true;
        } else if (answer_starts(s, "\xE2\x88\x88")) {
            n = 3;
            within = true;
        } else {
            while (answer_is_letter(s[n])) n++;
            bool in = n == 2 && memcmp(s, "in", 2) == 0;
            if (n == 0 || within || (n > 1 && !in && !ANSWER_WORD_IN(words, s, n))) return false;
            within = in;
        }
        s += n;
    }
    return !within;
}

void answer_drop_everywhere(Str *s) {
    static const char *const words[] = {"for all", "for every", "for any", "for each"};
    for (size_t i = 1; i < s->n; i++) {
        if (s->s[i] != 'f' || answer_is_letter(s->s[i - 1]) || s->s[i - 1] == '\\') continue;
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            size_t n = strlen(words[k]);
            if (answer_starts(s->s + i, words[k]) && !answer_is_letter(s->s[i + n]) &&
                answer_is_everywhere(s->s + i + n)) {
                answer_cut_text(s, i);
                return;
            }
        }
    }
}

// Where the value starts after "The length of AB is", "Answer:"; 0 if there is no such beginning.
size_t answer_after_verb(const char *s) {
    static const char *const verbs[] = {"is", "are", "equals"},
                             *const titles[] = {"answer", "ans", "result", "solution", "total"},
                             *const fillers[] = {"exactly", "just",          "simply", "equal",    "to",
                                                 "about",   "approximately", "thus",   "therefore"};
    static const char *const blocked[] = {
        "not",     "no",      "never",  "if",        "when",  "whenever", "unless",  "than",    "least",
        "most",    "more",    "less",   "fewer",     "or",    "either",   "neither", "nor",     "cannot",
        "without", "except",  "wrong",  "incorrect", "false", "maybe",    "perhaps", "between", "because",
        "since",   "suppose", "assume", "let",       "given", "where",    "isn",     "aren",    "doesn",
        "don",     "while",   "though", "but",       "some",  "one",      "only"};
    static const char *const chinese[] = {"答案是", "答案为", "答案：", "答案:", "答：", "答:", "结果是", "结果为"};
    for (size_t i = 0; i < sizeof chinese / sizeof chinese[0]; i++)
        if (answer_starts(s, chinese[i])) return strlen(chinese[i]);
    size_t value = 0, words = 0, end = 1; // end: of the last word
    bool title = false;
    for (size_t i = 0; s[i];) {
        size_t n = answer_dress_at(s + i);
        if (n > 0) {
            i += n;
            continue;
        }
        while (answer_is_letter(s[i + n])) n++;
        if (n == 0) return s[i] == ':' && (title || value == end) ? i + 1 : value;
        title = ANSWER_WORD_IN(titles, s + i, n);
        if (ANSWER_WORD_IN(blocked, s + i, n)) return 0;
        bool filler = value > 0 && ANSWER_WORD_IN(fillers, s + i, n);
        if ((words > 0 && ANSWER_WORD_IN(verbs, s + i, n)) || filler) value = i + n;
        words++;
        end = i += n;
    }
    return value;
}

// What the n bytes before a verb speak of: their words in lower case but for those of every answer ("the final
// answer").
void answer_subject(Str *subject, const char *s, size_t n) {
    static const char *const every[] = {
        "the", "final",  "answer",  "result", "solution", "value", "so",    "thus", "hence",   "therefore", "is",
        "are", "equals", "exactly", "just",   "simply",   "ans",   "total", "our",  "correct", "text",      "textbf"};
    str_add(subject, "", 0);
    for (size_t i = 0; i < n;) {
        size_t w = 0;
        while (i + w < n && answer_is_letter(s[i + w])) w++;
        for (size_t k = 0; k < w && !ANSWER_WORD_IN(every, s + i, w); k++) {
            char lower = (char)tolower((unsigned char)s[i + k]);
            str_add(subject, &lower, 1);
        }
        i += w ? w : 1;
    }
}

// Is s a value, and no word that says how something is ("n is odd")?
bool answer_is_no_adjective(const char *s) {
    if (strpbrk(s, "0123456789\\")) return true;
    for (; *s; s++)
        if (answer_is_letter(*s) && answer_is_letter(s[1])) return false;
    return true;
}

// s without the words around its value, in *out; s itself if there are none. What they speak of is appended to
// *subject.
const char *answer_without_words(Str *out, const char *s, Str *subject) {
    size_t n = strlen(s);
    if (n > ANSWER_MAX_PROSE || n == 0 || !(strpbrk(s, " :$(") || (unsigned char)*s >= 0x80)) return s;
    bool words =
             strstr(s, "is") || strstr(s, "are") || strstr(s, "equals") || strchr(s, ':') || (unsigned char)*s >= 0x80,
         around = strstr(s, "for ") || strstr(s, "pprox") || strstr(s, "about") || strstr(s, "rly") ||
                  strstr(s, "\xE2\x89\x88");
    if (!words && !around) return s;
    answer_add_trimmed(out, s, n);
    size_t trimmed = out->n;
    if (trimmed == 0) return s;
    answer_open_text(out);
    if (strchr(out->s, '(')) answer_drop_aside(out);
    if (strstr(out->s, "for ")) answer_drop_everywhere(out);
    size_t from = answer_after_verb(out->s);
    int open = 0; // braces of a \text{ that the words began in
    for (size_t i = 0; i < from; i++) open += out->s[i] == '{' ? 1 : out->s[i] == '}' ? -1 : 0;
    answer_subject(subject, out->s, from);
    while (open > 0 && (out->s[from] == '}' || answer_is_space(out->s[from]))) open -= out->s[from++] == '}';
    for (; open > 0 && out->n > from; open--) {
        while (out->n > from && answer_is_space(out->s[out->n - 1])) out->n--;
        if (out->n == from || out->s[out->n - 1] != '}') return s;
        out->n--;
    }
    out->s[out->n] = 0;
    if (out->n <= from || (from > 0 && !answer_is_no_adjective(out->s + from))) return s;
    memmove(out->s, out->s + from, out->n - from);
    out->n -= from;
    out->s[out->n] = 0;
    return out->n == trimmed ? s : out->s;
}

// What stands after the last = outside brackets, where the side before is a limit, a sum or the like, written in a way
// that may not be readable. NULL if s is anything else: of "we get 2x = 5" the 5 is not the value.
const char *answer_last_equal(const char *s) {
    static const char *const heads[] = {
        "\\lim",          "\\limsup", "\\liminf", "\\int", "\\iint", "\\iiint", "\\oint",      "\\sum",
        "\\prod",         "\\det",    "\\begin",  "\\sup", "\\inf",  "\\Pr",    "\\mathbb{E}", "\\mathbb{P}",
        "\\operatorname", "P(",       "P\\left(", "E(",    "E[",     "E\\left["};
    const char *last = NULL;
    bool head = false;
    int depth = 0;
    s += strspn(s, " \t\n$");
    if (answer_starts(s, "\\displaystyle")) s += strspn(s + 13, " \t\n") + 13;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0] && !head; i++) {
        size_t n = strlen(heads[i]);
        head = answer_starts(s, heads[i]) && !(answer_is_letter(heads[i][n - 1]) && answer_is_letter(s[n]));
    }
    if (!head || strlen(s) > ANSWER_MAX_PROSE) return NULL;
    for (const char *c = s; *c; c++) {
        if (*c == '\\' && c[1]) {
            depth += (c[1] == '{') - (c[1] == '}');
            c++;
        } else {
            depth += (strchr("{([", *c) != NULL) - (strchr("})]", *c) != NULL);
            if (depth == 0 && strchr("?<>,;", *c)) return NULL;
            if (depth == 0 && *c == '=') last = c + 1;
        }
    }
    return last && !strstr(s, "\\ne") && !strstr(s, "\\not") && !strstr(s, "\\square") ? last : NULL;
}

#endif
