/*
Finding the answer in a completion.

What counts starts after the last </think> (nothing counts while a <think> is open) and ends at an end token. There the
answer is the last closed \boxed{} or \fbox{} that is not empty, the innermost where they are nested; boxes with only
separators between them are one list. Reward and evaluation ask for a box. Graders of other people's completions may
also ask for what follows ####, for what the text says "the answer is", for the last formula, number or choice letter.
Everything takes time linear in the text.
*/
#ifndef LLMC_ANSWER_EXTRACT_H
#define LLMC_ANSWER_EXTRACT_H

#include "llmc/answer/lex.h" // answer_starts, answer_is_space

#define ANSWER_MAX_PART (1 << 18) // the answer is looked for in the last so many bytes

// ----------------------------------------------------------------------------
// the part that counts

bool answer_at_text(const char *s, size_t left, const char *word) {
    size_t w = strlen(word);
    return w <= left && memcmp(s, word, w) == 0;
}

// Narrows [*s, *s + *n) to the answer part; false if the thinking never ended.
bool answer_part(const char **s, size_t *n) {
    static const char *const ends[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>"};
    size_t from = 0, to = *n;
    bool thinking = false;
    for (size_t i = 0; i + 1 < *n; i++) {
        const char *c = (*s) + i;
        if (*c != '<' || (c[1] != '/' && c[1] != 't')) continue;
        if (answer_at_text(c, *n - i, "</think>")) {
            from = i + 8;
            thinking = false;
        } else if (answer_at_text(c, *n - i, "<think>")) thinking = true;
    }
    for (size_t i = from; i + 1 < to; i++) {
        const char *c = (*s) + i;
        if (*c != '<' || (c[1] != '/' && c[1] != '|')) continue;
        for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
            if (answer_at_text(c, *n - i, ends[k])) to = i;
        }
    }
    if (to - from > ANSWER_MAX_PART) from = to - ANSWER_MAX_PART;
    *s += from;
    *n = to - from;
    return !thinking;
}

// Appends n bytes at s without spaces around; a NUL would cut strings short, so it becomes a space.
void answer_add_trimmed(Str *out, const char *s, size_t n) {
    while (n > 0 && answer_is_space(*s)) {
        s++;
        n--;
    }
    while (n > 0 && answer_is_space(s[n - 1]) && !(n > 1 && s[n - 2] == '\\')) n--; // "\ " is one thing
    str_add(out, s, n);
}

// ----------------------------------------------------------------------------
// boxes

// Length of "\boxed {" or "\fbox{" at s (within n bytes), brace included; 0 if it is something else.
size_t answer_box_at(const char *s, size_t n) {
    size_t i = n >= 6 && memcmp(s, "\\boxed", 6) == 0 ? 6 : n >= 5 && memcmp(s, "\\fbox", 5) == 0 ? 5 : 0;
    if (i == 0) return 0;
    for (int spaces = 0; i < n && answer_is_space(s[i]) && spaces < 8; spaces++) i++;
    return i < n && s[i] == '{' ? i + 1 : 0;
}

// "\boxed 7": the length up to the 7 if there is one, else 0; its own length in *length. A word after it ("I used
// \boxed as asked") is prose.
size_t answer_bare_box_at(const char *s, size_t n, size_t *length) {
    size_t i = n >= 7 && memcmp(s, "\\boxed", 6) == 0 && answer_is_space(s[6]) ? 7 : 0;
    while (i > 0 && i < 14 && i < n && answer_is_space(s[i])) i++;
    size_t end = i;
    bool word = false;
    while (i > 0 && end < n && end - i < 200 && (isalnum((unsigned char)s[end]) || strchr("+-./^_", s[end])) &&
           s[end]) {
        word |= end > i && answer_is_letter(s[end]) && answer_is_letter(s[end - 1]);
        end++;
    }
    while (end > i && s[end - 1] == '.') end--;
    *length = end - i;
    return end > i && !word ? i : 0;
}

// Is there nothing in these n bytes but space and dress? Such boxes are those of a sentence: "put it in \boxed{}".
bool answer_box_is_empty(const char *s, size_t n) {
    static const char *const dress[] = {"\\ldots", "\\dots", "\\cdots", "\\text", "\\quad", "\\qquad",
                                        "\\ ",     "\\,",    "\\;",     "\\:",    "\\!",    "..."};
    for (size_t i = 0; i < n;) {
        size_t step = s[i] && strchr(" \t\n\r${}~_", s[i]) ? 1 : 0;
        for (size_t k = 0; k < sizeof dress / sizeof dress[0] && !step; k++)
            if (answer_at_text(s + i, n - i, dress[k])) step = strlen(dress[k]);
        if (!step) return false;
        i += step;
    }
    return true;
}

// The length of a name before a box, "x =", "x_1 =" or "x_{12} &=", at s; 0 if there is none.
size_t answer_box_name(const char *s, size_t n) {
    size_t i = n > 0 && answer_is_letter(s[0]) ? 1 : 0;
    if (i == 0) return 0;
    if (i < n && s[i] == '_') {
        bool group = ++i < n && s[i] == '{';
        i += group;
        while (i < n && isalnum((unsigned char)s[i])) i++;
        if (group && (i >= n || s[i++] != '}')) return 0;
    }
    while (i < n && (answer_is_space(s[i]) || s[i] == '&')) i++;
    return i < n && s[i] == '=' ? i + 1 : 0;
}

enum { BOXES_APART, BOXES_BESIDE, BOXES_LISTED };

// What stands in these n bytes between two boxes? Only separators, a comma or "and" or "or" among them: listed. Nothing
// but the end of a formula and the start of the next, of the same style: beside each other. Each box may have a name
// before it: x_1 =.
int answer_between_boxes(const char *s, size_t n) {
    // the last four: Chinese "or", "and", two commas
    static const char *const words[] = {"\\text", "\\mbox",       "\\quad",       "\\qquad",      "\\ ",         "\\,",
                                        "\\;",    "\\)",          "\\(",          "\\]",          "\\[",         "and",
                                        "or",     "\xE6\x88\x96", "\xE5\x92\x8C", "\xEF\xBC\x8C", "\xE3\x80\x81"};
    bool listed = false;
    int formulas = 0, style = 0; // style: 0 where as many \( as \) were met, and as many \[ as \]
    if (n > 60) return BOXES_APART;
    for (size_t i = 0; i < n;) {
        size_t step = strchr(" \t\n\r${},;", s[i]) && s[i] ? 1 : 0;
        listed |= s[i] == ',' || s[i] == ';';
        formulas += s[i] == '$';
        for (size_t k = 0; k < sizeof words / sizeof words[0] && !step; k++) {
            if (!answer_at_text(s + i, n - i, words[k])) continue;
            step = strlen(words[k]);
            listed |= k >= 11;
            formulas += k >= 7 && k < 11;
            style += k == 7 ? 1 : k == 8 ? -1 : k == 9 ? 100 : k == 10 ? -100 : 0;
        }
        if (!step) step = answer_box_name(s + i, n - i);
        if (!step) return BOXES_APART;
        i += step;
    }
    if (style != 0) return BOXES_APART; // \] or \(: said again in another way
    return listed ? BOXES_LISTED : formulas > 1 ? BOXES_BESIDE : BOXES_APART;
}

// Is this box the same, byte for byte, as the one before it? A result that is repeated is one result.
bool answer_box_repeats(const IntVec *list, const char *s, size_t start, size_t end) {
    if (list->n < 2) return false;
    size_t from = (size_t)list->v[list->n - 2], to = (size_t)list->v[list->n - 1];
    return to - from == end - start && memcmp(s + from, s + start, to - from) == 0;
}

// Appends the inside of the last closed box to *answer, trimmed. False if there is none. A box with nothing in it, or
// none around a word, counts only where there is no other.
bool answer_extract(Str *answer, const char *completion, size_t n) {
    if (!answer_part(&completion, &n)) return false;
    IntVec open = {NULL, 0, 0}; // per open brace: 1 + where the inside of a box starts, 0 for other braces
    IntVec list = {NULL, 0, 0}; // start and end of the boxes of the last list, the last box last
    const char *s = completion;
    size_t length = n < INT_MAX / 2 ? n : INT_MAX / 2, best = 0, best_end = 0, bare = 0;
    int found = 0, rank = 0; // rank: 1 an empty box, 2 without braces, 3 with
    for (size_t i = 0; i < length;) {
        size_t box = s[i] == '\\' ? answer_box_at(s + i, length - i) : 0,
               at = s[i] == '\\' && !box ? answer_bare_box_at(s + i, length - i, &bare) : 0;
        int start = -1;
        size_t end = i;
        if (box) {
            i += box;
            ints_push(&open, 1 + (int)i);
        } else if (at) {
            start = (int)(i + at);
            i = end = i + at + bare;
        } else if (s[i] == '\\') { // \{ and \} are no braces; \\boxed{ is a box
            i += i + 2 < length && s[i + 1] == '\\' && answer_box_at(s + i + 1, length - i - 1) ? 1 : 2;
        } else {
            if (s[i] == '{') ints_push(&open, 0);
            if (s[i] == '}' && open.n > 0) start = open.v[--open.n] - 1;
            i++;
        }
        if (start < 0) continue;
        rank = at ? 2 : answer_box_is_empty(s + start, end - (size_t)start) ? 1 : 3;
        if (rank < found || (found == rank && (size_t)start <= best)) continue;
        size_t before = (size_t)start; // where \boxed stands
        while (before > 0 && s[before] != '\\') before--;
        while (before > 0 && s[before - 1] == '\\') before--;
        int between = found != rank || list.n >= 128
                          ? BOXES_APART
                          : answer_between_boxes(s + best_end + 1, before > best_end ? before - best_end - 1 : 0);
        if (between == BOXES_APART || (between == BOXES_BESIDE && answer_box_repeats(&list, s, (size_t)start, end)))
            list.n = 0;
        ints_push(&list, start);
        ints_push(&list, (int)end);
        found = rank;
        best = (size_t)start;
        best_end = end;
    }
    for (int k = 0; k + 1 < list.n; k += 2) {
        if (k > 0) str_add(answer, ", ", 2);
        answer_add_trimmed(answer, s + list.v[k], (size_t)(list.v[k + 1] - list.v[k]));
    }
    if (found) str_add(answer, "", 0);
    ints_free(&open);
    ints_free(&list);
    return found > 0;
}

// ----------------------------------------------------------------------------
// other places; s and n are what answer_part left

// What stands after the last ####, to the end of its line.
bool answer_after_hashes(Str *answer, const char *s, size_t n) {
    for (size_t i = n; i-- > 0;) {
        if (s[i] != '#' || i + 4 > n || memcmp(s + i, "####", 4) != 0) continue;
        const char *from = s + i + 4;
        size_t left = n - i - 4, length = 0;
        while (length < left && from[length] != '\n') length++;
        answer_add_trimmed(answer, from, length);
        return true;
    }
    return false;
}

// If a formula starts at s (within n bytes): where its inside starts and ends. Else false.
bool answer_formula_at(const char *s, size_t n, size_t *from, size_t *to, size_t *after) {
    const char *close = answer_at_text(s, n, "$$")    ? "$$"
                        : answer_at_text(s, n, "$")   ? "$"
                        : answer_at_text(s, n, "\\(") ? "\\)"
                        : answer_at_text(s, n, "\\[") ? "\\]"
                                                      : NULL;
    if (!close) return false;
    size_t w = strlen(close);
    *from = w;
    for (size_t i = w; i < n; i++) {
        if (answer_at_text(s + i, n - i, close)) {
            *to = i;
            *after = i + w;
            return i > w;
        }
        if (s[i] == '\\') i++;
    }
    *after = n; // unclosed: nothing after it is a formula either
    return false;
}

// The inside of the last formula, $..$, \(..\) or \[..\], and where it ends. Those with only "and", "or" or a comma
// between them are one.
bool answer_last_formula(Str *answer, const char *s, size_t n, size_t *end) {
    size_t best = 0, best_end = 0, last_end = 0;
    for (size_t i = 0; i < n;) {
        size_t from, to, after = 0;
        if (s[i] != '$' && s[i] != '\\') {
            i++;
            continue;
        }
        if (answer_formula_at(s + i, n - i, &from, &to, &after)) {
            if (last_end == 0 || answer_between_boxes(s + last_end, i - last_end) != BOXES_LISTED)
                best = i + from; // "$x = 1$ or $x = 2$" is one
            best_end = i + to;
            last_end = i + after;
        } else after = after == n - i ? 1 : after; // a lone $
        if (after == 1 && n - i > 500) break;      // or many of them would each be read to the end
        i += after ? after : s[i] == '\\' ? 2 : 1;
    }
    *end = best_end;
    if (best_end == best) return false;
    answer_add_trimmed(answer, s + best, best_end - best);
    return true;
}

// What follows the last "answer is", "answer:" or "answer" before a formula: the formula (*formula), or the sentence's
// rest.
bool answer_stated(Str *answer, const char *s, size_t n, bool *formula) {
    *formula = false;
    int unclosed = 0; // formulas, each of which was read to the end
    for (size_t i = n; i-- > 0 && unclosed < 20;) {
        if ((s[i] | 32) != 'a' || n - i < 7 || strncasecmp(s + i, "answer", 6) != 0) continue;
        size_t k = i + 6;
        while (k < n && answer_is_space(s[k])) k++;
        bool stated = false;
        if (n - k > 3 && strncasecmp(s + k, "is", 2) == 0 && !answer_is_letter(s[k + 2])) {
            stated = true;
            k += 2;
        }
        if (k < n && s[k] == ':') stated = true;
        while (k < n && (answer_is_space(s[k]) || s[k] == '*' || s[k] == ':')) k++;
        size_t from, to, after = 0;
        if (k < n && answer_formula_at(s + k, n - k, &from, &to, &after)) {
            answer_add_trimmed(answer, s + k + from, to - from);
            *formula = true;
            return true;
        }
        unclosed += after > 0;
        if (!stated || k >= n) continue;
        size_t end = k;
        while (end < n && s[end] != '\n' && !(s[end] == '.' && (end + 1 == n || answer_is_space(s[end + 1])))) end++;
        while (end > k && (s[end - 1] == '*' || s[end - 1] == '.' || answer_is_space(s[end - 1]))) end--;
        if (end == k) continue;
        answer_add_trimmed(answer, s + k, end - k);
        return true;
    }
    return false;
}

// The last number that is not part of a word, as it stands but without thousands commas: -1234, .75, 3:5, 1/2.
bool answer_last_number(Str *answer, const char *s, size_t n) {
    for (size_t end = n; end > 0; end--) {
        if (!answer_is_digit(s[end - 1])) continue;
        size_t from = end;
        while (from > 0 && (answer_is_digit(s[from - 1]) ||
                            (strchr(".,:/", s[from - 1]) && s[from - 1] && from < end && answer_is_digit(s[from]))))
            from--;
        if (from > 1 && (s[from - 1] | 32) == 'e' && answer_is_digit(s[from - 2])) { // 1.5e6
            from--;
            while (from > 0 && (answer_is_digit(s[from - 1]) || s[from - 1] == '.')) from--;
        }
        while (from < end && strchr(",:/", s[from])) from++;
        bool word = (from > 0 && answer_is_letter(s[from - 1])) || (end < n && answer_is_letter(s[end]));
        if (word) {
            end = from + 1;
            continue;
        }
        if (from > 0 && s[from - 1] == '-' && (from < 2 || !isalnum((unsigned char)s[from - 2]))) from--;
        size_t groups = 0, run = 0;
        bool thousands = true;
        for (size_t i = from; i < end; i++) {
            if (s[i] == ',') {
                thousands &= groups == 0 ? run >= 1 && run <= 3 : run == 3;
                groups++;
                run = 0;
            } else if (answer_is_digit(s[i])) run++;
            else if (s[i] == '.') {
                thousands &= groups == 0 || run == 3;
                run = 3;
                while (i + 1 < end && answer_is_digit(s[i + 1])) i++;
            }
        }
        thousands &= groups > 0 && run == 3;
        for (size_t i = from; i < end; i++) {
            if (!thousands || s[i] != ',') str_add(answer, s + i, 1);
        }
        return true;
    }
    return false;
}

// A choice letter, A to J: the first that stands alone after the last "answer", else in the text, and is not denied
// ("not A").
bool answer_choice(Str *answer, const char *s, size_t n) {
    size_t start = 0;
    for (size_t i = 0; i + 6 <= n; i++) {
        if ((s[i] | 32) == 'a' && strncasecmp(s + i, "answer", 6) == 0) start = i + 6;
    }
    for (size_t i = start; i < n; i++) {
        bool alone = s[i] >= 'A' && s[i] <= 'J' && s[i] != 'I' && (i == 0 || !isalnum((unsigned char)s[i - 1])) &&
                     (i + 1 == n || (!isalnum((unsigned char)s[i + 1]) && s[i + 1] != '\''));
        if (!alone || (i >= 4 && strncasecmp(s + i - 4, "not ", 4) == 0)) continue;
        str_add(answer, s + i, 1);
        return true;
    }
    return false;
}

#endif
