/*
The tokenizer of a GGUF file as the tokenizer.json that it stands for, so that one loader (tokenizer.h) checks and reads
both:

    tokenizer.ggml.model       "gpt2": byte-level BPE, the only one
    tokenizer.ggml.pre         the split pattern, by name
    tokenizer.ggml.tokens      every id's text
    tokenizer.ggml.token_type  1 normal: of the vocabulary; 3 control, 4 user-defined: added tokens, control ones
special; 5 unused (padding of the output matrix): no token tokenizer.ggml.merges      "left right", best first

As Hugging Face's tokenizer of the same model has it, text becomes NFC first, which llama.cpp leaves out, and a normal
token is never found as a whole in the text (llama.cpp makes </s> of Qwen2.5 a control token).
*/
#ifndef LLMC_TOKENIZER_FROM_GGUF_H
#define LLMC_TOKENIZER_FROM_GGUF_H

#include "llmc/files/files.h" // Gguf, cJSON, utf8_length

// Split patterns by the names of tokenizer.ggml.pre.
static const struct {
    const char *name, *pattern;
} tokenizer_gguf_patterns[] = {
    {"qwen2", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*["
              "\\r\\n]+|\\s+(?!\\S)|\\s+"},
};

// A string of the file as a JSON string; NULL and err if it is not valid UTF-8 or holds NUL.
cJSON *tokenizer_gguf_text(const char *s, size_t n, const char *path, const char *key, int64_t i, Error *err) {
    size_t at = 0;
    for (int length; at < n && s[at] && (length = utf8_length(s + at, n - at)) > 0;) at += (size_t)length;
    if (at < n) {
        fail(err, EXIT_RUN, "%s: key %s: entry %lld is not UTF-8, or holds NUL", path, key, (long long)i);
        return NULL;
    }
    char *copy = xstrndup(s, n);
    cJSON *item = cJSON_CreateString(copy);
    free(copy);
    return item;
}

// One added token, as tokenizer.json has it.
cJSON *tokenizer_gguf_added(const char *content, int id, bool special) {
    static const char *const off[] = {"single_word", "lstrip", "rstrip", "normalized"};
    cJSON *a = cJSON_CreateObject();
    cJSON_AddNumberToObject(a, "id", id);
    cJSON_AddStringToObject(a, "content", content);
    for (int i = 0; i < 4; i++) cJSON_AddFalseToObject(a, off[i]);
    cJSON_AddBoolToObject(a, "special", special);
    return a;
}

// Vocabulary and added tokens. Added ones are in the vocabulary, too: that is what gives them their ids.
bool tokenizer_gguf_tokens(cJSON *vocab, cJSON *added, const Gguf *g, Error *err) {
    const char *key = "tokenizer.ggml.tokens", *path = g->tensors.path;
    const GgufPair *tokens = gguf_get_array(g, key, GGUF_STRING, -1, err);
    const GgufPair *types =
        tokens ? gguf_get_array(g, "tokenizer.ggml.token_type", GGUF_INT32, (int64_t)tokens->n, err) : NULL;
    if (!types) return false;
    const uint8_t *at = tokens->data;
    for (int i = 0; i < (int)tokens->n; i++) {
        size_t n;
        const char *s = gguf_next_string(&at, &n);
        const int type = (int)gguf_number(types->data + 4 * (size_t)i, 4);
        if (type == GGUF_TOKEN_UNUSED) continue;
        if (type != GGUF_TOKEN_NORMAL && type != GGUF_TOKEN_CONTROL && type != GGUF_TOKEN_USER_DEFINED)
            return fail(err, EXIT_RUN,
                        "%s: key tokenizer.ggml.token_type: token %d has type %d, expected 1 (normal), 3 (control), 4 "
                        "(user-defined) or 5 (unused)",
                        path, i, type);
        cJSON *text = tokenizer_gguf_text(s, n, path, key, i, err);
        if (!text) return false;
        cJSON *id = cJSON_CreateNumber(i);
        cJSON_AddItemToObject(vocab, text->valuestring, id);
        if (type != GGUF_TOKEN_NORMAL)
            cJSON_AddItemToArray(added, tokenizer_gguf_added(text->valuestring, i, type == GGUF_TOKEN_CONTROL));
        cJSON_Delete(text);
    }
    return true;
}

bool tokenizer_gguf_merges(cJSON *merges, const Gguf *g, Error *err) {
    const char *key = "tokenizer.ggml.merges";
    const GgufPair *p = gguf_get_array(g, key, GGUF_STRING, -1, err);
    const uint8_t *at = p ? p->data : NULL;
    for (int i = 0; p && i < (int)p->n; i++) {
        size_t n;
        const char *s = gguf_next_string(&at, &n);
        cJSON *text = tokenizer_gguf_text(s, n, g->tensors.path, key, i, err);
        if (!text) return false;
        cJSON_AddItemToArray(merges, text);
    }
    return p != NULL;
}

// {"type": "Sequence", "pretokenizers": [Split by the pattern, ByteLevel]}
bool tokenizer_gguf_splitter(cJSON *root, const Gguf *g, Error *err) {
    const char *pattern = NULL;
    Str known = {0};
    for (size_t i = 0; i < sizeof tokenizer_gguf_patterns / sizeof *tokenizer_gguf_patterns; i++) {
        if (gguf_is(g, "tokenizer.ggml.pre", tokenizer_gguf_patterns[i].name))
            pattern = tokenizer_gguf_patterns[i].pattern;
        str_printf(&known, "%s\"%s\"", i ? " or " : "", tokenizer_gguf_patterns[i].name);
    }
    if (!pattern) {
        char *found = NULL;
        Str quoted = {0}; // a file's text on a terminal
        if (gguf_get_string(g, "tokenizer.ggml.pre", &found, err))
            json_add_string(&quoted, found, strlen(found) < 60 ? strlen(found) : 60);
        if (found)
            fail(err, EXIT_RUN,
                 "%s: key tokenizer.ggml.pre: found %s, expected %s\n  -> another way of dividing text is not known "
                 "here",
                 g->tensors.path, quoted.s, known.s);
        str_free(&quoted);
        free(found);
    } else {
        cJSON *splitter = cJSON_AddObjectToObject(root, "pre_tokenizer");
        cJSON_AddStringToObject(splitter, "type", "Sequence");
        cJSON *list = cJSON_AddArrayToObject(splitter, "pretokenizers"), *split = cJSON_CreateObject(),
              *bytes = cJSON_CreateObject();
        cJSON_AddItemToArray(list, split);
        cJSON_AddItemToArray(list, bytes);
        cJSON_AddStringToObject(split, "type", "Split");
        cJSON_AddStringToObject(cJSON_AddObjectToObject(split, "pattern"), "Regex", pattern);
        cJSON_AddStringToObject(split, "behavior", "Isolated");
        cJSON_AddStringToObject(bytes, "type", "ByteLevel");
        cJSON_AddFalseToObject(bytes, "add_prefix_space");
        cJSON_AddFalseToObject(bytes, "use_regex");
    }
    str_free(&known);
    return pattern != NULL;
}

// The tokenizer.json of an open file; NULL and err on failure. Free with cJSON_Delete.
cJSON *tokenizer_gguf_json(const Gguf *g, Error *err) {
    char *kind = NULL;
    if (!gguf_get_string(g, "tokenizer.ggml.model", &kind, err)) return NULL;
    bool ok = strcmp(kind, "gpt2") == 0;
    if (!ok)
        fail(err, EXIT_RUN,
             "%s: key tokenizer.ggml.model: expected \"gpt2\"\n  -> only byte-level BPE tokenizers (the Qwen family's) "
             "are supported",
             g->tensors.path);
    free(kind);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(cJSON_AddObjectToObject(root, "normalizer"), "type", "NFC");
    cJSON *added = cJSON_AddArrayToObject(root, "added_tokens"), *model = cJSON_AddObjectToObject(root, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    cJSON *vocab = cJSON_AddObjectToObject(model, "vocab"), *merges = cJSON_AddArrayToObject(model, "merges");
    ok = ok && tokenizer_gguf_splitter(root, g, err) && tokenizer_gguf_tokens(vocab, added, g, err) &&
         tokenizer_gguf_merges(merges, g, err);
    if (ok) return root;
    cJSON_Delete(root);
    return NULL;
}

#endif
