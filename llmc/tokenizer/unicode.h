/*
What happens to text before the merges, as Hugging Face's tokenizers does it.

- nfc_append: Unicode NFC (UAX #15) through utf8proc, in linear time whatever the input
- byte_level_*: GPT-2's alphabet, in which tokenizer.json writes bytes as printable characters
- SplitPattern: the pre-tokeniser's regular expression, compiled by PCRE2 to mean what Oniguruma takes it to mean
*/
#ifndef LLMC_TOKENIZER_UNICODE_H
#define LLMC_TOKENIZER_UNICODE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>            // pcre2_compile, pcre2_jit_match ...
#include <utf8proc.h>         // utf8proc_decompose_char, utf8proc_normalize_utf32, utf8proc_iterate
#include "llmc/files/files.h" // utf8_length; Str, Error

// ----------------------------------------------------------------------------
// NFC

// The combining marks (and one half of a composition, U+11930) that came after Unicode 9.0. Hugging Face normalises by
// the tables of 9.0, in which they do not combine; utf8proc knows them.
static const int32_t nfc_newer_marks[][2] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

bool unicode_in(int32_t c, const int32_t (*ranges)[2], size_t bytes) {
    for (size_t i = 0; i < bytes / sizeof ranges[0]; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1]) return true;
    }
    return false;
}

bool nfc_newer(int32_t c) { return unicode_in(c, nfc_newer_marks, sizeof nfc_newer_marks); }

// True where NFC cannot change c nor anything before it: it has combining class 0, is no second half of a composition
// and does not decompose for good. Short and safe rather than complete; Unicode guarantees that it stays true.
// U+11A7 is here because utf8proc 2.8 takes it for the first of the final jamo, which it precedes, and drops it.
bool nfc_inert(int32_t c) {
    return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x48A && c <= 0x52F) || (c >= 0x5D0 && c <= 0x5EA) ||
           (c >= 0x620 && c <= 0x64A) || (c >= 0x2002 && c <= 0x2027) || (c >= 0x202F && c <= 0x205F) ||
           (c >= 0x2190 && c <= 0x2328) || (c >= 0x232B && c <= 0x2ADB) || (c >= 0x3000 && c <= 0x3029) ||
           (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A0 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF) ||
           c == 0x11A7 || (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xFF01 && c <= 0xFFEF) ||
           (c >= 0x1F300 && c <= 0x1FAFF) || nfc_newer(c);
}

int nfc_class(int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Sorts a run of combining marks by class, keeping the order of equals: by insertion, or by counting when long
// (a megabyte of marks must not take hours). scratch[n].
void nfc_sort_marks(int32_t *marks, size_t n, int32_t *scratch) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t c = marks[i];
            size_t j = i;
            for (; j > 0 && nfc_class(marks[j - 1]) > nfc_class(c); j--) marks[j] = marks[j - 1];
            marks[j] = c;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[nfc_class(marks[i]) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) scratch[start[nfc_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, n * sizeof(int32_t));
}

// Appends the NFC of n bytes of valid UTF-8, whatever they are.
void nfc_append_stretch(Str *out, const char *s, size_t n) {
    // a character decomposes into at most 4, and takes at least 2 bytes to do so
    int32_t *c = (int32_t *)xmalloc((2 * n + 8) * sizeof(int32_t)),
            *scratch = (int32_t *)xmalloc((2 * n + 8) * sizeof(int32_t));
    size_t count = 0;
    utf8proc_option_t options = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    int boundary = 0;
    for (size_t i = 0; i < n;) {
        int32_t x;
        i += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &x);
        count +=
            (size_t)utf8proc_decompose_char(x, c + count, (utf8proc_ssize_t)(2 * n + 8 - count), options, &boundary);
    }
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && nfc_class(c[end]) > 0) end++;
        if (end - i > 1) nfc_sort_marks(c + i, end - i, scratch);
        i = end + 1;
    }
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)count, options);
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        str_reserve(out, 4);
        out->n += (size_t)utf8proc_encode_char(c[i], (utf8proc_uint8_t *)out->s + out->n);
        out->s[out->n] = 0;
    }
    free(c);
    free(scratch);
}

// The end of the character at s[i] and its value.
size_t nfc_next(const char *s, size_t n, size_t i, int32_t *c) {
    if ((unsigned char)s[i] < 0x80) {
        *c = s[i];
        return i + 1;
    }
    return i + (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), c);
}

// Appends the NFC of n bytes of valid UTF-8 to *out and returns true; or returns false, having done nothing, if the
// text is NFC already by nfc_inert. Only stretches of other characters, each with the one before it, are worked on.
bool nfc_append(Str *out, const char *s, size_t n) {
    size_t copied = 0, before = 0; // before: where the last inert character starts; after it if it joins with nothing
    for (size_t i = 0; i < n;) {
        int32_t c;
        size_t next = nfc_next(s, n, i, &c);
        if (nfc_inert(c)) {
            before = nfc_newer(c) ? next : i;
            i = next;
            continue;
        }
        while (next < n) {
            size_t end = nfc_next(s, n, next, &c);
            if (nfc_inert(c)) break;
            next = end;
        }
        str_add(out, s + copied, before - copied);
        nfc_append_stretch(out, s + before, next - before);
        copied = before = i = next;
    }
    if (copied == 0) return false;
    str_add(out, s + copied, n - copied);
    return true;
}

// ----------------------------------------------------------------------------
// GPT-2's byte alphabet: printable Latin-1 bytes stand for themselves, the other 68 for U+0100, U+0101, ... in order

// byte_of[c]: the byte that character c < 0x144 stands for, -1 if none.
void byte_level_alphabet(int byte_of[0x144]) {
    for (int c = 0; c < 0x144; c++) byte_of[c] = -1;
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
        bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        byte_of[itself ? b : next++] = b;
    }
}

// Appends the bytes that a token of tokenizer.json spells; false if it has a character outside the alphabet.
bool byte_level_decode(Str *out, const int byte_of[0x144], const char *s) {
    for (size_t n = strlen(s), i = 0; i < n;) {
        int32_t c;
        i += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        if (c < 0 || c >= 0x144 || byte_of[c] < 0) return false;
        char byte = (char)byte_of[c];
        str_add(out, &byte, 1);
    }
    return true;
}

// ----------------------------------------------------------------------------
// split patterns

typedef struct {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; // NULL: no JIT on this machine
} SplitPattern;

// Oniguruma's \s is Unicode's White_Space; PCRE2's also has U+180E.
#define SPLIT_SPACES "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

// Rewrites a pattern to mean in PCRE2 what it means in Oniguruma; false where this is not known to be possible.
bool split_pattern_translate(Str *out, const char *pattern, const char *what, Error *err) {
    bool in_class = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\') {
            p++;
            bool space = *p == 's' || *p == 'S';
            bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
            if (*p == 0 || (letter && !strchr("sSpPdDrntf", *p)) || (*p == 'S' && in_class))
                return fail(err, EXIT_RUN, "%s: the split pattern has \\%c%s, which is not supported: %.200s", what,
                            *p ? *p : ' ', in_class ? " inside [...]" : "", pattern);
            if (!space) str_printf(out, "\\%c", *p);
            else if (in_class) str_printf(out, "%s", SPLIT_SPACES);
            else str_printf(out, "[%s%s]", *p == 'S' ? "^" : "", SPLIT_SPACES);
            continue;
        }
        bool other = in_class ? *p == '[' || (*p == '&' && p[1] == '&') // nested classes and intersections
                              : *p == '$' || *p == '^' ||
                                    (*p == '(' && (p[1] == '*' || (p[1] == '?' && !(p[2] && strchr(":i=!<>", p[2])))));
        if (other)
            return fail(err, EXIT_RUN, "%s: the split pattern has %.3s, which is not supported: %.200s", what, p,
                        pattern);
        str_add(out, p, 1);
        if (*p == ']') in_class = false;
        if (*p == '[') {
            in_class = true;
            if (p[1] == '^') str_add(out, ++p, 1);
        }
    }
    return true;
}

void split_pattern_free(SplitPattern *s) {
    pcre2_code_free(s->code); // each accepts NULL
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    memset(s, 0, sizeof *s);
}

// Compiles an Oniguruma pattern (valid UTF-8). False and err on failure; split_pattern_free either way.
bool split_pattern_init(SplitPattern *s, const char *pattern, const char *what, Error *err) {
    memset(s, 0, sizeof *s);
    Str translated = {NULL, 0, 0};
    bool ok = split_pattern_translate(&translated, pattern, what, err);
    if (ok) {
        int code = 0;
        size_t offset = 0;
        s->code = pcre2_compile((PCRE2_SPTR)(translated.s ? translated.s : ""), translated.n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
        if (!s->code) {
            PCRE2_UCHAR message[256];
            pcre2_get_error_message(code, message, sizeof message);
            ok = fail(err, EXIT_RUN, "%s: the split pattern does not compile: %s: %.200s", what, (const char *)message,
                      pattern);
        }
    }
    str_free(&translated);
    if (!ok) return false;
    s->match = pcre2_match_data_create_from_pattern(s->code, NULL);
    s->context = pcre2_match_context_create(NULL);
    if (!s->match || !s->context) out_of_memory(sizeof(SplitPattern));
    if (pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0) {
        s->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, NULL);
        if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    }
    return true;
}

// What Unicode 15.0 to 16.0 added to \p{L} and \p{N}. Hugging Face's Oniguruma 6.9.10 knows these, PCRE2 10.42 does
// not.
static const int32_t split_newer_letters[][2] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3}, {0x10D4A, 0x10D65},
    {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x1123F, 0x11240}, {0x11380, 0x11389}, {0x1138B, 0x1138B},
    {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7}, {0x113D1, 0x113D1}, {0x113D3, 0x113D3},
    {0x11BC0, 0x11BE0}, {0x11F02, 0x11F02}, {0x11F04, 0x11F10}, {0x11F12, 0x11F33}, {0x1342F, 0x1342F},
    {0x13441, 0x13446}, {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF},
    {0x1B132, 0x1B132}, {0x1B155, 0x1B155}, {0x1DF25, 0x1DF2A}, {0x1E030, 0x1E06D}, {0x1E4D0, 0x1E4EB},
    {0x1E5D0, 0x1E5ED}, {0x1E5F0, 0x1E5F0}, {0x2B739, 0x2B739}, {0x2EBF0, 0x2EE5D}, {0x31350, 0x323AF},
};
static const int32_t split_newer_numbers[][2] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x11F50, 0x11F59}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1D2C0, 0x1D2D3}, {0x1E4F0, 0x1E4F9}, {0x1E5F1, 0x1E5FA},
};

// For PCRE2 to see: the text with those characters replaced by old ones of the same kind and length in bytes, in *view.
// False, and *view empty, if there are none.
bool split_disguise(Str *view, const char *s, size_t n) {
    view->n = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char lead = (unsigned char)s[i];
        if (lead != 0xE1 && lead != 0xEA && lead < 0xF0) continue; // none of them starts so
        int32_t c;
        size_t length = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        const char *other = unicode_in(c, split_newer_letters, sizeof split_newer_letters)
                                ? (length == 3 ? "\u4E00" : "\U00010280")
                            : unicode_in(c, split_newer_numbers, sizeof split_newer_numbers) ? "\U00010107"
                                                                                             : NULL;
        if (!other) continue;
        if (view->n == 0) str_add(view, s, n);
        memcpy(view->s + i, other, length);
    }
    return view->n > 0;
}

// The next match at or after `from` in valid UTF-8: 1 found (*start < *end), 0 none, -1 and err when PCRE2 gave up.
// A match of no characters is passed over, as Hugging Face drops empty pieces.
int split_pattern_next(SplitPattern *s, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                       Error *err) {
    while (from < n) {
        int rc = s->stack ? pcre2_jit_match(s->code, (PCRE2_SPTR)text, n, from, 0, s->match, s->context)
                          : pcre2_match(s->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
        if (rc == PCRE2_ERROR_NOMATCH) return 0;
        if (rc < 0) {
            PCRE2_UCHAR message[256];
            pcre2_get_error_message(rc, message, sizeof message);
            fail(err, EXIT_RUN, "cannot tokenise the text: the split pattern gave up at byte %zu of %zu: %s", from, n,
                 (const char *)message);
            return -1;
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
        if (span[0] < span[1]) {
            *start = span[0];
            *end = span[1];
            return 1;
        }
        from = span[1] + (size_t)utf8_length(text + span[1], n - span[1]);
        if (from == span[1]) break; // at the end
    }
    return 0;
}

#endif
