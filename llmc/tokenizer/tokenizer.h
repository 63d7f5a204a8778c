/*
Text to token ids and back, from a Hugging Face tokenizer.json or a GGUF file, with the ids that Hugging Face's
`tokenizers` gives for encode(text, add_special_tokens=False).

    Error err = {0};
    Tokenizer *t = tokenizer_load("models/Qwen2.5-0.5B", &err);
    IntVec ids = {0};
    tokenizer_encode(t, &ids, "Hello", 5, &err);

A text goes through: added tokens ("<|im_end|>", see added.h) -> NFC -> added tokens that are normalised -> split
pattern -> byte-level BPE. Supported is what the Qwen family uses: model BPE; normalizer NFC, a Sequence of it, or none;
pre_tokenizer ByteLevel, or a Sequence of Split (Regex, Isolated) ending in ByteLevel. Anything else in the file is an
error, never a silent difference.

Bytes that are not valid UTF-8, which Hugging Face cannot take: each becomes the token of that byte, and the valid
stretches around it are tokenised by themselves. So decoding gives back every byte (of the NFC form of the text).

A Tokenizer has a cache and match buffers: encode with one from one thread at a time. Decoding only reads.

    unicode.h  NFC, bytes as characters, the split patterns
    bpe.h      the merges
    added.h    added tokens
    from_gguf.h  a GGUF file's tokenizer as a tokenizer.json

From outside: tokenizer.h
*/
#ifndef LLMC_TOKENIZER_TOKENIZER_H
#define LLMC_TOKENIZER_TOKENIZER_H

#include "llmc/files/files.h"         // json_load, json_get_*, utf8_length
#include "llmc/tokenizer/added.h"     // AddedTokens, added_load, added_next
#include "llmc/tokenizer/bpe.h"       // Bpe, bpe_encode
#include "llmc/tokenizer/from_gguf.h" // tokenizer_gguf_json
#include "llmc/tokenizer/unicode.h"   // nfc_append, byte_level_decode, SplitPattern
#include "llmc/utils/utils.h"         // Error, Str, IntVec

#define TOKENIZER_MAX_PATTERNS 4
#define TOKENIZER_MAX_TEXT ((size_t)1 << 29) // bytes in one call: positions stay ints

// The pattern of ByteLevel(use_regex=true), from GPT-2.
#define BYTE_LEVEL_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct Tokenizer {
    Bpe bpe;
    bool nfc;
    SplitPattern patterns[TOKENIZER_MAX_PATTERNS];
    int n_patterns;
    AddedTokens added[2]; // those that are looked for in the text, and in the normalised text
    Str normalized, view; // scratch of encode
} Tokenizer;

// ----------------------------------------------------------------------------
// loading: every value of the file is checked. `what` is its path, for messages.

bool tokenizer_load_vocab(Tokenizer *t, const cJSON *vocab, const int *alphabet, const char *what, Error *err) {
    Bpe *b = &t->bpe;
    Str bytes = {NULL, 0, 0};
    bool ok = true;
    for (const cJSON *item = vocab->child; item && ok; item = item->next) {
        int id = item->valueint;
        bytes.n = 0;
        if (!cJSON_IsNumber(item) || item->valuedouble != id || id < 0 || id >= b->n_tokens)
            ok = fail(err, EXIT_RUN,
                      "%s: key \"model.vocab\": token \"%.60s\" has id %.17g, expected a whole number from 0 to %d",
                      what, item->string, item->valuedouble, TOKENIZER_MAX_ID);
        else if (b->tokens[id].length >= 0)
            ok =
                fail(err, EXIT_RUN, "%s: key \"model.vocab\": id %d is given twice, the second time to token \"%.60s\"",
                     what, id, item->string);
        else if (!byte_level_decode(&bytes, alphabet, item->string))
            bpe_set_token(b, id, item->string,
                          strlen(item->string)); // only an added token may be spelled so: tokenizer_check_spelling
        else if (bytes.n == 0)
            ok = fail(err, EXIT_RUN, "%s: key \"model.vocab\": the token with id %d is empty", what, id);
        else if (bpe_id(b, bytes.s, bytes.n) >= 0)
            ok = fail(err, EXIT_RUN, "%s: key \"model.vocab\": token \"%.60s\" is given twice", what, item->string);
        else {
            bpe_set_token(b, id, bytes.s, bytes.n);
            *bpe_vocab_slot(b, bytes.s, bytes.n) = id + 1;
            if (bytes.n == 1) b->byte_id[(unsigned char)bytes.s[0]] = id;
        }
    }
    str_free(&bytes);
    return ok;
}

// One merge, written "left right" or ["left", "right"]; its halves' byte strings one after the other in *bytes.
bool tokenizer_read_merge(const cJSON *item, const int *alphabet, Str *bytes, size_t *left_bytes) {
    bytes->n = 0;
    if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2 && cJSON_IsString(item->child) &&
        cJSON_IsString(item->child->next)) {
        if (!byte_level_decode(bytes, alphabet, item->child->valuestring)) return false;
        *left_bytes = bytes->n;
        return byte_level_decode(bytes, alphabet, item->child->next->valuestring);
    }
    char *space = cJSON_IsString(item) ? strchr(item->valuestring, ' ') : NULL;
    if (!space) return false;
    *space = 0; // the alphabet has no space, so the first one divides
    bool ok = byte_level_decode(bytes, alphabet, item->valuestring);
    *left_bytes = bytes->n;
    ok = ok && byte_level_decode(bytes, alphabet, space + 1);
    *space = ' ';
    return ok;
}

bool tokenizer_load_merges(Tokenizer *t, const cJSON *merges, const int *alphabet, const char *what, Error *err) {
    Bpe *b = &t->bpe;
    Str bytes = {NULL, 0, 0};
    bool ok = true;
    int priority = 0;
    for (const cJSON *item = merges->child; item && ok; item = item->next, priority++) {
        size_t n = 0;
        if (!tokenizer_read_merge(item, alphabet, &bytes, &n)) {
            ok = fail(err, EXIT_RUN, "%s: key \"model.merges\": entry %d is not a pair of byte-level tokens", what,
                      priority);
            break;
        }
        const char *s = bytes.s ? bytes.s : "";
        int left = bpe_id(b, s, n), right = bpe_id(b, s + n, bytes.n - n), id = bpe_id(b, s, bytes.n);
        if (left < 0 || right < 0 || id < 0) {
            ok = fail(err, EXIT_RUN, "%s: key \"model.merges\": entry %d: %s is not in the vocabulary", what, priority,
                      left < 0    ? "its left half"
                      : right < 0 ? "its right half"
                                  : "its result");
            break;
        }
        BpeMerge *slot = bpe_merge_slot(b, left, right);
        if (slot->pair != UINT64_MAX)
            ok = fail(err, EXIT_RUN, "%s: key \"model.merges\": entry %d repeats entry %d", what, priority,
                      slot->priority);
        slot->pair = (uint64_t)left << 32 | (uint64_t)right;
        slot->priority = priority;
        slot->id = id;
    }
    str_free(&bytes);
    return ok;
}

// Every token must be reachable by its bytes; one that is not came from a vocabulary of another kind ("▁the").
bool tokenizer_check_spelling(const Tokenizer *t, const char *what, Error *err) {
    for (int id = 0; id < t->bpe.n_tokens; id++) {
        int length = t->bpe.tokens[id].length;
        if (length >= 0 && !t->bpe.tokens[id].added && bpe_id(&t->bpe, bpe_bytes(&t->bpe, id), (size_t)length) != id)
            return fail(err, EXIT_RUN,
                        "%s: key \"model.vocab\": token \"%.*s\" (id %d) is not in byte-level spelling and no added "
                        "token\n  -> only byte-level BPE tokenizers (the Qwen family's) are supported",
                        what, length < 60 ? length : 60, bpe_bytes(&t->bpe, id), id);
    }
    return true;
}

bool tokenizer_load_model(Tokenizer *t, const cJSON *root, const char *what, Error *err) {
    char where[512];
    snprintf(where, sizeof where, "%.400s: key \"model\"", what);
    const cJSON *model = json_get_object(root, "model", what, err);
    if (!model) return false;
    const char *type = "BPE";
    if (json_has(model, "type") && !json_get_string(model, "type", &type, where, err)) return false;
    if (strcmp(type, "BPE") != 0)
        return fail(err, EXIT_RUN,
                    "%s: found type \"%.60s\", expected \"BPE\"\n  -> only byte-level BPE tokenizers (the Qwen "
                    "family's) are supported",
                    where, type);
    static const char *const unsupported[] = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                                              "byte_fallback"};
    for (int i = 0; i < 5; i++) {
        const cJSON *item = json_find(model, unsupported[i]);
        bool off = !item || cJSON_IsFalse(item) || (cJSON_IsString(item) && !item->valuestring[0]) ||
                   (cJSON_IsNumber(item) && item->valuedouble == 0);
        if (!off) return fail(err, EXIT_RUN, "%s: \"%s\" is set, which is not supported", where, unsupported[i]);
    }
    if (json_has(model, "ignore_merges") && !json_get_bool(model, "ignore_merges", &t->bpe.ignore_merges, where, err))
        return false;
    const cJSON *vocab = json_get_object(model, "vocab", where, err);
    const cJSON *merges = json_get_array(model, "merges", where, err);
    const cJSON *added = json_find(root, "added_tokens");
    if (!vocab || !merges) return false;
    if (added && !cJSON_IsArray(added)) return json_fail_type(root, "added_tokens", "an array", what, err);

    int highest = -1;
    for (const cJSON *item = vocab->child; item; item = item->next) {
        if (item->valueint > highest) highest = item->valueint;
    }
    for (const cJSON *item = added ? added->child : NULL; item; item = item->next) {
        const cJSON *id = json_find(item, "id");
        if (cJSON_IsNumber(id) && id->valueint > highest) highest = id->valueint;
    }
    if (highest < 0) return fail(err, EXIT_RUN, "%s: the vocabulary is empty", where);
    if (highest > TOKENIZER_MAX_ID)
        return fail(err, EXIT_RUN, "%s: the highest token id is %d, expected at most %d", where, highest,
                    TOKENIZER_MAX_ID);
    int alphabet[0x144];
    byte_level_alphabet(alphabet);
    bpe_init(&t->bpe, highest + 1, (size_t)cJSON_GetArraySize(vocab), (size_t)cJSON_GetArraySize(merges));
    return tokenizer_load_vocab(t, vocab, alphabet, what, err) &&
           tokenizer_load_merges(t, merges, alphabet, what, err) &&
           added_load(t->added, &t->bpe, added, vocab, alphabet, t->nfc, what, err) &&
           tokenizer_check_spelling(t, what, err);
}

bool tokenizer_add_pattern(Tokenizer *t, const char *pattern, const char *what, Error *err) {
    if (t->n_patterns == TOKENIZER_MAX_PATTERNS)
        return fail(err, EXIT_RUN, "%s: more than %d split patterns", what, TOKENIZER_MAX_PATTERNS);
    return split_pattern_init(&t->patterns[t->n_patterns++], pattern, what, err);
}

bool tokenizer_load_split(Tokenizer *t, const cJSON *item, const char *what, Error *err) {
    const char *behavior = "", *regex = "";
    bool invert = false;
    const cJSON *pattern = json_get_object(item, "pattern", what, err);
    if (!pattern || !json_get_string(pattern, "Regex", &regex, what, err) ||
        !json_get_string(item, "behavior", &behavior, what, err))
        return false;
    if (json_has(item, "invert") && !json_get_bool(item, "invert", &invert, what, err)) return false;
    if (strcmp(behavior, "Isolated") != 0 || invert)
        return fail(err, EXIT_RUN, "%s: Split with behavior \"%.60s\", invert %s: expected \"Isolated\", false", what,
                    behavior, invert ? "true" : "false");
    return tokenizer_add_pattern(t, regex, what, err);
}

bool tokenizer_load_byte_level(Tokenizer *t, const cJSON *item, const char *what, Error *err) {
    bool prefix = true, regex = true; // what an absent key means to Hugging Face
    if (json_has(item, "add_prefix_space") && !json_get_bool(item, "add_prefix_space", &prefix, what, err))
        return false;
    if (json_has(item, "use_regex") && !json_get_bool(item, "use_regex", &regex, what, err)) return false;
    if (prefix) return fail(err, EXIT_RUN, "%s: ByteLevel with add_prefix_space true: only false is supported", what);
    return !regex || tokenizer_add_pattern(t, BYTE_LEVEL_PATTERN, what, err);
}

// A normalizer, or null, or a sequence of them: *nfc becomes true if one of them is NFC.
bool tokenizer_load_normalizer(bool *nfc, const cJSON *normalizer, const char *what, Error *err) {
    const char *type = "";
    if (!normalizer) return true;
    if (!json_get_string(normalizer, "type", &type, what, err)) return false;
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *list = json_get_array(normalizer, "normalizers", what, err);
        bool ok = list != NULL;
        for (const cJSON *item = ok ? list->child : NULL; item && ok; item = item->next)
            ok = tokenizer_load_normalizer(nfc, item, what, err);
        return ok;
    }
    if (strcmp(type, "NFC") != 0)
        return fail(err, EXIT_RUN, "%s: found type \"%.60s\", expected \"NFC\", a Sequence of it, or null", what, type);
    return *nfc = true;
}

bool tokenizer_load_splitter(Tokenizer *t, const cJSON *root, const char *path, Error *err) {
    const char *type = "";
    const cJSON *splitter = json_find(root, "pre_tokenizer");
    char what[512];
    snprintf(what, sizeof what, "%.400s: key \"pre_tokenizer\"", path);
    if (!json_get_string(splitter, "type", &type, what, err)) return false;
    bool sequence = strcmp(type, "Sequence") == 0;
    const cJSON *list = sequence ? json_get_array(splitter, "pretokenizers", what, err) : NULL;
    if (sequence && !list) return false;
    for (const cJSON *item = sequence ? list->child : splitter;; item = item->next) {
        if (!item) return fail(err, EXIT_RUN, "%s: the Sequence does not end in ByteLevel", what);
        if (!json_get_string(item, "type", &type, what, err)) return false;
        bool last = !sequence || !item->next;
        if (strcmp(type, "Split") == 0 && !last) {
            if (!tokenizer_load_split(t, item, what, err)) return false;
        } else if (strcmp(type, "ByteLevel") == 0 && last) {
            return tokenizer_load_byte_level(t, item, what, err);
        } else {
            return fail(err, EXIT_RUN,
                        "%s: found \"%.60s\", expected ByteLevel, or a Sequence of Split ending in ByteLevel", what,
                        type);
        }
    }
}

void tokenizer_free(Tokenizer *t) {
    if (!t) return;
    for (int i = 0; i < t->n_patterns; i++) split_pattern_free(&t->patterns[i]);
    bpe_free(&t->bpe);
    for (int i = 0; i < 2; i++) added_free(&t->added[i]);
    str_free(&t->normalized);
    str_free(&t->view);
    free(t);
}

// The tokenizer.json of a folder, or what a GGUF file has in its place; *path says where that is.
cJSON *tokenizer_json(Str *path, const char *model, Error *err) {
    Gguf g;
    if (!gguf_is_file(model)) {
        str_printf(path, "%s/tokenizer.json", model);
        return json_load(path->s, err);
    }
    str_printf(path, "%s, its tokenizer as tokenizer.json", model);
    if (!gguf_open(&g, model, err)) return NULL;
    cJSON *root = tokenizer_gguf_json(&g, err);
    gguf_close(&g);
    return root;
}

// Reads model_dir/tokenizer.json, or the keys of a GGUF file. NULL and err (naming file and key) on failure; end with
// tokenizer_free.
Tokenizer *tokenizer_load(const char *model_dir, Error *err) {
    Str path = {NULL, 0, 0};
    cJSON *root = tokenizer_json(&path, model_dir, err);
    Tokenizer *t = NULL;
    if (root) {
        t = (Tokenizer *)xcalloc(1, sizeof(Tokenizer));
        Str what = {NULL, 0, 0};
        str_printf(&what, "%s: key \"normalizer\"", path.s);
        bool ok = tokenizer_load_normalizer(&t->nfc, json_find(root, "normalizer"), what.s, err);
        ok = ok && tokenizer_load_model(t, root, path.s, err) && tokenizer_load_splitter(t, root, path.s, err);
        str_free(&what);
        if (!ok) {
            tokenizer_free(t);
            t = NULL;
        }
    }
    cJSON_Delete(root);
    str_free(&path);
    return t;
}

// ----------------------------------------------------------------------------
// encoding

// Splits s[n] (valid UTF-8) by a pattern, each piece by the next pattern, and appends the ids of what comes out. The
// patterns look at view[n] instead (see split_disguise). Matches and the gaps between them are pieces alike
// ("Isolated").
bool tokenizer_split(Tokenizer *t, IntVec *ids, const char *s, const char *view, size_t n, size_t readable,
                     SplitPattern *pattern, Error *err) {
    if (pattern == t->patterns + t->n_patterns) return n == 0 || bpe_encode(&t->bpe, ids, s, n, readable, err);
    size_t done = 0, start = 0, end = 0;
    while (done < n) {
        int found = split_pattern_next(pattern, view, n, done, &start, &end, err);
        if (found < 0) return false;
        if (!found) start = end = n;
        if (start > done &&
            !tokenizer_split(t, ids, s + done, view + done, start - done, readable - done, pattern + 1, err))
            return false;
        if (end > start &&
            !tokenizer_split(t, ids, s + start, view + start, end - start, readable - start, pattern + 1, err))
            return false;
        done = end;
    }
    return true;
}

// A stretch of valid UTF-8 without the added tokens of the text itself.
bool tokenizer_encode_valid(Tokenizer *t, IntVec *ids, const char *s, size_t n, bool ascii, Error *err) {
    t->normalized.n = 0;
    if (!ascii && t->nfc && nfc_append(&t->normalized, s, n)) {
        s = t->normalized.s;
        n = t->normalized.n;
    }
    const char *view = !ascii && split_disguise(&t->view, s, n) ? t->view.s : s;
    AddedSearch found = {&t->added[1], s, n, 0, 0, 0, 0};
    for (int id; (id = added_next(&found)) >= 0;) {
        if (found.start > found.from && !tokenizer_split(t, ids, s + found.from, view + found.from,
                                                         found.start - found.from, n - found.from, t->patterns, err))
            return false;
        ints_push(ids, id);
    }
    return tokenizer_split(t, ids, s + found.end, view + found.end, n - found.end, n - found.end, t->patterns, err);
}

// Any bytes without added tokens.
bool tokenizer_encode_plain(Tokenizer *t, IntVec *ids, const char *s, size_t n, Error *err) {
    size_t start = 0, i = 0;
    bool ascii = true; // so far in this stretch
    while (i < n) {
        uint64_t word;
        while (n - i >= 8 && (memcpy(&word, s + i, 8), (word & 0x8080808080808080u) == 0))
            i += 8; // ASCII, the common case
        if (i == n) break;
        int length = utf8_length(s + i, n - i);
        if (length > 0) {
            ascii = ascii && length == 1;
            i += (size_t)length;
            continue;
        }
        if (i > start && !tokenizer_encode_valid(t, ids, s + start, i - start, ascii, err)) return false;
        if (!bpe_encode(&t->bpe, ids, s + i, 1, n - i, err)) return false;
        start = ++i;
        ascii = true;
    }
    return n == start || tokenizer_encode_valid(t, ids, s + start, n - start, ascii, err);
}

// Appends the ids of n bytes of any kind. False and err if the text is too long or a byte has no token; ids is then as
// before.
bool tokenizer_encode(Tokenizer *t, IntVec *ids, const char *text, size_t n, Error *err) {
    if (n > TOKENIZER_MAX_TEXT)
        return fail(err, EXIT_RUN, "cannot tokenise a text of %zu bytes, at most %zu", n, TOKENIZER_MAX_TEXT);
    int before = ids->n;
    bool ok = true;
    AddedSearch found = {&t->added[0], text, n, 0, 0, 0, 0};
    for (int id; ok && (id = added_next(&found)) >= 0;) {
        ok = found.start <= found.from ||
             tokenizer_encode_plain(t, ids, text + found.from, found.start - found.from, err);
        ints_push(ids, id);
    }
    ok = ok && tokenizer_encode_plain(t, ids, text + found.end, n - found.end, err);
    if (!ok) ids->n = before;
    return ok;
}

// ----------------------------------------------------------------------------
// decoding and looking up

// Appends the bytes of the ids, without special tokens if skip_special. Ids that name no token (a model's output may be
// padded past its vocabulary) add nothing, as in Hugging Face.
void tokenizer_decode(const Tokenizer *t, Str *text, const int *ids, int n, bool skip_special) {
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->bpe.n_tokens) continue;
        const BpeToken *token = &t->bpe.tokens[ids[i]];
        if (token->length > 0 && !(skip_special && token->special))
            str_add(text, bpe_bytes(&t->bpe, ids[i]), (size_t)token->length);
    }
}

// The id of the token with exactly these bytes ("<|im_end|>", " the"), an added one first; -1 if there is none.
int tokenizer_id(const Tokenizer *t, const char *token) {
    for (int i = 0; i < 2; i++)
        if (added_id(&t->added[i], token) >= 0) return added_id(&t->added[i], token);
    return bpe_id(&t->bpe, token, strlen(token));
}

// The highest id + 1. A model's output may have more rows than that.
int tokenizer_size(const Tokenizer *t) { return t->bpe.n_tokens; }

#endif
