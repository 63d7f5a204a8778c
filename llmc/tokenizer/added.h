/*
Added tokens of a tokenizer.json ("<|im_end|>", and what tokenizer.add_tokens has added), as Hugging Face's tokenizers
0.23 finds them:

    normalized    false: in the text as it comes; true: in what is left of it, normalised, by the token's normalised
                  content
    single_word   only where no letter, mark, digit or underscore touches it
    lstrip, rstrip  the spaces before, after it belong to it

The leftmost is taken, of those at one place the longest; one that single_word forbids is text, and the search goes on
after it.
*/
#ifndef LLMC_TOKENIZER_ADDED_H
#define LLMC_TOKENIZER_ADDED_H

#include "llmc/files/files.h"       // json_get_*
#include "llmc/tokenizer/bpe.h"     // Bpe, bpe_set_token
#include "llmc/tokenizer/unicode.h" // nfc_append, byte_level_decode, unicode_in

typedef struct {
    size_t offset; // of what is looked for, in AddedTokens.bytes
    int length, id;
    bool normalized, special, single_word, lstrip, rstrip;
} AddedToken;

// Sorted by first byte, then longest first. No two are spelled alike.
typedef struct {
    AddedToken *v;     // [n]
    int n, start[257]; // those that begin with byte b: v[start[b] .. start[b + 1])
    Str bytes;
} AddedTokens;

// A text on its way through added_next.
typedef struct {
    const AddedTokens *of;
    const char *s;
    size_t n, at;       // how far it has been searched
    size_t from, start; // what precedes the token: from .. start
    size_t end;         // where the token ends; in the end, what is left: end .. n
} AddedSearch;

// ----------------------------------------------------------------------------
// loading

// One entry of the file; *length of its content.
bool added_read(AddedToken *a, const char **content, const cJSON *item, int n_tokens, const char *where, Error *err) {
    static const char *const names[] = {"normalized", "single_word", "lstrip", "rstrip"};
    bool *const flags[] = {&a->normalized, &a->single_word, &a->lstrip, &a->rstrip};
    memset(a, 0, sizeof *a);
    if (!json_get_string(item, "content", content, where, err) ||
        !json_get_int(item, "id", 0, n_tokens - 1, &a->id, where, err) ||
        !json_get_bool(item, "special", &a->special, where, err))
        return false;
    for (int k = 0; k < 4; k++)
        if (json_has(item, names[k]) && !json_get_bool(item, names[k], flags[k], where, err)) return false;
    return **content || fail(err, EXIT_RUN, "%s: the token is empty", where);
}

// The id of a token of the vocabulary that is spelled so, -1 if there is none.
int added_in_vocab(const Bpe *b, const cJSON *vocab, const int *alphabet, const char *content) {
    Str bytes = {NULL, 0, 0};
    int id = -1;
    if (byte_level_decode(&bytes, alphabet, content)) id = bpe_id(b, bytes.s, bytes.n);
    else { // seldom: not in byte-level spelling
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(vocab, content);
        if (item) id = item->valueint;
    }
    str_free(&bytes);
    return id;
}

// No content may be given twice.
bool added_check_twice(const cJSON *list, const char *what, Error *err) {
    int n = 0;
    const char **names = (const char **)xcalloc((size_t)cJSON_GetArraySize(list), sizeof(char *)), *twice = NULL;
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        const char *content = cJSON_GetStringValue(json_find(item, "content"));
        if (content) names[n++] = content;
    }
    qsort(names, (size_t)n, sizeof(char *), json_compare_keys);
    for (int i = 1; i < n && !twice; i++)
        if (strcmp(names[i - 1], names[i]) == 0) twice = names[i];
    free(names);
    return !twice || fail(err, EXIT_RUN, "%s: key \"added_tokens\": token \"%.60s\" is given twice", what, twice);
}

// All entries, in the order of the file. Each must have the id that Hugging Face gives it, whatever the file says: the
// vocabulary's own, or the next one.
bool added_read_all(AddedToken *all, Str *bytes, Bpe *b, const cJSON *list, const cJSON *vocab, const int *alphabet,
                    bool nfc, const char *what, Error *err) {
    const int size = cJSON_GetArraySize(vocab);
    bool ok = added_check_twice(list, what, err);
    int i = 0, highest = -1;
    for (const cJSON *item = list ? list->child : NULL; item && ok; item = item->next, i++) {
        AddedToken *a = &all[i];
        char where[512];
        const char *content = "";
        snprintf(where, sizeof where, "%.400s: key \"added_tokens\" entry %d", what, i);
        if (!(ok = added_read(a, &content, item, b->n_tokens, where, err))) break;
        const int own = added_in_vocab(b, vocab, alphabet, content), id = own >= 0          ? own
                                                                          : highest >= size ? highest + 1
                                                                                            : size;
        if (a->id != id)
            ok = fail(err, EXIT_RUN,
                      "%s: token \"%.60s\" with id %d contradicts %s: Hugging Face's tokenizers gives it id %d\n  -> "
                      "have tokenizers save "
                      "the file anew, and see that the model has been trained with those ids",
                      where, content, a->id, own >= 0 ? "the vocabulary" : "the tokens before it", id);
        else if (own < 0 && b->tokens[id].length >= 0) // a vocabulary with gaps
            ok = fail(err, EXIT_RUN,
                      "%s: token \"%.60s\" with id %d contradicts the vocabulary, which has another token of that id",
                      where, content, id);
        if (!ok) break;
        if (id > highest) highest = id;
        if (own < 0) bpe_set_token(b, id, content, strlen(content));
        b->tokens[id].special = a->special;
        b->tokens[id].added = true;
        a->offset = bytes->n;
        if (!a->normalized || !nfc || !nfc_append(bytes, content, strlen(content)))
            str_add(bytes, content, strlen(content));
        a->length = (int)(bytes->n - a->offset);
    }
    return ok;
}

// qsort has no argument for the bytes, so they travel with the elements.
typedef struct {
    AddedToken token;
    const char *s;
} AddedSorted;

int added_compare(const void *x, const void *y) {
    const AddedSorted *a = (const AddedSorted *)x, *b = (const AddedSorted *)y;
    const unsigned char first_a = (unsigned char)a->s[0], first_b = (unsigned char)b->s[0];
    if (first_a != first_b) return first_a < first_b ? -1 : 1;
    if (a->token.length != b->token.length) return a->token.length > b->token.length ? -1 : 1;
    return memcmp(a->s, b->s, (size_t)a->token.length);
}

// sets[0], sets[1] = the tokens of the file that are looked for in the text, and in the normalised text. Free with
// added_free, also after a failure.
bool added_load(AddedTokens sets[2], Bpe *b, const cJSON *list, const cJSON *vocab, const int *alphabet, bool nfc,
                const char *what, Error *err) {
    const int n = cJSON_GetArraySize(list);
    AddedToken *all = (AddedToken *)xcalloc((size_t)n, sizeof(AddedToken));
    AddedSorted *sorted = (AddedSorted *)xcalloc((size_t)n, sizeof(AddedSorted));
    Str bytes = {NULL, 0, 0};
    bool ok = added_read_all(all, &bytes, b, list, vocab, alphabet, nfc, what, err);
    for (int k = 0; k < 2 && ok; k++) {
        AddedTokens *set = &sets[k];
        set->v = (AddedToken *)xcalloc((size_t)n, sizeof(AddedToken));
        for (int i = 0; i < n; i++) {
            if (all[i].normalized != (k == 1)) continue;
            sorted[set->n].token = all[i];
            sorted[set->n++].s = bytes.s + all[i].offset;
        }
        qsort(sorted, (size_t)set->n, sizeof(AddedSorted), added_compare);
        for (int i = 0; i < set->n && ok; i++) {
            if (i > 0 && added_compare(&sorted[i - 1], &sorted[i]) ==
                             0) // Hugging Face finds the one or the other, from run to run
                ok = fail(err, EXIT_RUN,
                          "%s: key \"added_tokens\": the tokens with ids %d and %d are normalised to the same text, so "
                          "chance decides "
                          "which is found\n  -> remove one of them",
                          what, sorted[i - 1].token.id, sorted[i].token.id);
            set->v[i] = sorted[i].token;
            set->start[(unsigned char)sorted[i].s[0] + 1]++;
        }
        for (int c = 0; c < 256; c++) set->start[c + 1] += set->start[c];
        if (bytes.n) str_add(&set->bytes, bytes.s, bytes.n);
    }
    str_free(&bytes);
    free(sorted);
    free(all);
    return ok;
}

void added_free(AddedTokens *set) {
    free(set->v);
    str_free(&set->bytes);
}

// The id of the token with exactly this content, -1 if there is none.
int added_id(const AddedTokens *set, const char *content) {
    for (int i = 0; i < set->n; i++)
        if ((size_t)set->v[i].length == strlen(content) &&
            memcmp(set->bytes.s + set->v[i].offset, content, strlen(content)) == 0)
            return set->v[i].id;
    return -1;
}

// ----------------------------------------------------------------------------
// finding

// The character that ends at s[i], whose bytes begin at *begin; -1 where there is none, or none that is valid.
int32_t added_char_before(const char *s, size_t i, size_t *begin) {
    size_t k = i;
    while (k > 0 && i - k < 4 && ((unsigned char)s[--k] & 0xC0) == 0x80) {}
    int32_t c = -1;
    *begin = k;
    return i > 0 && utf8proc_iterate((const utf8proc_uint8_t *)s + k, (utf8proc_ssize_t)(i - k), &c) ==
                        (utf8proc_ssize_t)(i - k)
               ? c
               : -1;
}

// The character at s[i] of n, which ends at *end; -1 as above.
int32_t added_char_at(const char *s, size_t n, size_t i, size_t *end) {
    int32_t c = -1;
    const utf8proc_ssize_t length =
        i < n ? utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c) : 0;
    *end = i + (length > 0 ? (size_t)length : 0);
    return length > 0 ? c : -1;
}

// White_Space
bool added_is_space(int32_t c) {
    static const int32_t spaces[][2] = {{9, 13},          {32, 32},         {0x85, 0x85},     {0xA0, 0xA0},
                                        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                        {0x205F, 0x205F}, {0x3000, 0x3000}};
    return unicode_in(c, spaces, sizeof spaces);
}

// What UTS #18 calls a word's: Alphabetic, marks, decimal digits, connectors, joiners.
bool added_is_word(int32_t c) {
    static const int32_t more[][2] = {
        {0x200C, 0x200D}, {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
    if (c < 0) return false;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return unicode_in(c, more, sizeof more) || unicode_in(c, split_newer_letters, sizeof split_newer_letters);
    }
}

// The longest token at s, NULL if there is none.
const AddedToken *added_at(const AddedTokens *set, const char *s, size_t n) {
    const unsigned char c = (unsigned char)s[0];
    for (const AddedToken *a = set->v + set->start[c]; a < set->v + set->start[c + 1]; a++)
        if ((size_t)a->length <= n && memcmp(s, set->bytes.s + a->offset, (size_t)a->length) == 0) return a;
    return NULL;
}

// The next token's id, and where it is; -1 if there is none any more. (It may begin before `from`: spaces with which it
// begins may belong to the one before, too.)
int added_next(AddedSearch *x) {
    const char *s = x->s;
    while (x->at < x->n && x->of->n > 0) {
        const AddedToken *a = added_at(x->of, s + x->at, x->n - x->at);
        if (!a) {
            x->at++;
            continue;
        }
        size_t start = x->at, end = start + (size_t)a->length, k;
        x->at = end;
        if (a->single_word &&
            (added_is_word(added_char_before(s, start, &k)) || added_is_word(added_char_at(s, x->n, end, &k))))
            continue;
        while (a->lstrip && start > x->end && added_is_space(added_char_before(s, start, &k))) start = k;
        while (a->rstrip && added_is_space(added_char_at(s, x->n, end, &k))) end = k;
        if (a->lstrip && start < x->end) start = x->end;
        x->from = x->end;
        x->start = start;
        x->end = end;
        if (start < end) return a->id; // else the one before has taken all of it
    }
    x->at = x->n;
    return -1;
}

#endif
