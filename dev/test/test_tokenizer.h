// Tokenizer: a small synthetic one (every rule, every refusal, mutated files), merging against a naive loop, and the
// real Qwen2.5 tokenizer against records from Hugging Face (dev/reference/make_tokenizer_records.py) where it is at
// hand.
#ifndef DEV_TEST_TEST_TOKENIZER_H
#define DEV_TEST_TEST_TOKENIZER_H

#include "dev/test/test.h"
#include "llmc/tokenizer/tokenizer.h"

#define TEST_QWEN_DIR "../shared/model/qwen2.5-coder-0.5b-instruct"
#define TEST_QWEN_PATTERN \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define TEST_SPLIT \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" TEST_QWEN_PATTERN \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}," \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define TEST_WHOLE \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}" // no splitting: the text is one piece

// In order of priority; the result of merge k has id 256 + k.
static const char *const test_merges[][2] = {
    {"a", "a"},   {"aa", "aa"}, {"a", "b"},    {"b", "a"},  {"ab", "c"},      {"c", "c"}, {"aa", "b"},
    {"ba", "ab"}, {"b", "b"},   {"abc", "cc"}, {"aa", "a"}, {"aaaa", "aaaa"}, {"Ġ", "a"}, {"Ã", "©"},
};
#define TEST_MERGES ((int)(sizeof test_merges / sizeof test_merges[0]))
enum { TEST_STOP = 256 + TEST_MERGES, TEST_STOP_LONG, TEST_TAG };

// tokenizer.json with id = byte for the bytes. Free with str_free.
Str test_tokenizer_json(const char *normalizer, const char *pre_tokenizer, const char *model_extra) {
    Str s = {NULL, 0, 0};
    str_printf(&s,
               "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":%d,\"content\":\"<|s|>\",\"special\":true,"
               "\"normalized\":false},{\"id\":%d,\"content\":\"<|s|>>\",\"special\":true},"
               "{\"id\":%d,\"content\":\"<tag é>\",\"special\":false,\"lstrip\":false}],\n",
               TEST_STOP, TEST_STOP_LONG, TEST_TAG);
    str_printf(&s, "\"normalizer\":%s,\"pre_tokenizer\":%s,\n\"model\":{\"type\":\"BPE\",%s\"vocab\":{", normalizer,
               pre_tokenizer, model_extra);
    int byte_of[0x144];
    byte_level_alphabet(byte_of);
    for (int c = 0; c < 0x144; c++) {
        utf8proc_uint8_t utf8[4];
        if (byte_of[c] < 0) continue;
        str_add(&s, "", 0);
        str_printf(&s, "%s", byte_of[c] == 0x21 ? "" : ","); // 0x21 is the first of the alphabet
        json_add_string(&s, (const char *)utf8, (size_t)utf8proc_encode_char(c, utf8));
        str_printf(&s, ":%d", byte_of[c]);
    }
    for (int k = 0; k < TEST_MERGES; k++) str_printf(&s, ",\"%s%s\":%d", test_merges[k][0], test_merges[k][1], 256 + k);
    str_printf(&s, "},\n\"merges\":[");
    for (int k = 0; k < TEST_MERGES; k++)
        str_printf(&s,
                   k % 2 ? ",[\"%s\",\"%s\"]"
                   : k   ? ",\"%s %s\""
                         : "\"%s %s\"",
                   test_merges[k][0], test_merges[k][1]);
    str_printf(&s, "]}}\n");
    return s;
}

// Loads tokenizer.json from the bytes; NULL and err as tokenizer_load.
Tokenizer *test_tokenizer_from(const char *json, size_t n, Error *err) {
    const char *dir = test_path("tokenizer"), *path = test_path("tokenizer/tokenizer.json");
    if (!make_dirs(dir, err)) return NULL;
    unlink(path); // a new file each time: writing over the old one makes some file systems wait for the disk
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(json, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    return tokenizer_load(dir, err);
}

bool test_ids_are(Tokenizer *t, const char *text, size_t n, const int *ids, int count) {
    IntVec got = {NULL, 0, 0};
    Error err = {0, ""};
    bool same = tokenizer_encode(t, &got, text, n, &err) && got.n == count;
    for (int i = 0; i < count && same; i++) same = got.v[i] == ids[i];
    if (!same) {
        printf("  %s got", err.text);
        for (int i = 0; i < got.n && i < 24; i++) printf(" %d", got.v[i]);
        printf(", expected");
        for (int i = 0; i < count && i < 24; i++) printf(" %d", ids[i]);
        printf("\n");
    }
    ints_free(&got);
    return same;
}

bool test_round_trip(Tokenizer *t, const char *text, size_t n) {
    IntVec ids = {NULL, 0, 0};
    Str back = {NULL, 0, 0};
    bool ok = tokenizer_encode(t, &ids, text, n, NULL);
    tokenizer_decode(t, &back, ids.v, ids.n, false);
    ok = ok && back.n == n && (n == 0 || memcmp(back.s, text, n) == 0);
    ints_free(&ids);
    str_free(&back);
    return ok;
}

// ----------------------------------------------------------------------------

void test_tokenizer_rules(void) {
    Error err = {0, ""};
    Str json = test_tokenizer_json("{\"type\":\"NFC\"}", TEST_SPLIT, "");
    Tokenizer *t = test_tokenizer_from(json.s, json.n, &err);
    if (!CHECK(t != NULL, "%s", err.text)) {
        str_free(&json);
        return;
    }
    CHECK(tokenizer_size(t) == TEST_TAG + 1 && tokenizer_id(t, "<|s|>") == TEST_STOP && tokenizer_id(t, " a") == 268 &&
              tokenizer_id(t, "zz") == -1,
          "size %d", tokenizer_size(t));
    static const struct {
        const char *what, *text;
        int n, ids[12], count;
    } cases[] = {
        {"nothing", "", 0, {0}, 0},
        {"merges by priority, not from the left", "abaab", 5, {258, 262}, 2},
        {"a word with its space", "b a", 3, {'b', 268}, 2},
        {"spaces before a word stay behind, but for one", "   a", 4, {' ', ' ', 268}, 3},
        {"NUL is a byte like others", "a\0b", 3, {'a', 0, 'b'}, 3},
        {"an added token", "b<|s|>b", 7, {'b', TEST_STOP, 'b'}, 3},
        {"the longest added token", "<|s|>>", 6, {TEST_STOP_LONG}, 1},
        {"the beginning of one", "<|s|<|s|>", 9, {'<', '|', 's', '|', TEST_STOP}, 5},
        {"added tokens are found before NFC", "<tag \xC3\xA9>", 8, {TEST_TAG}, 1},
        {"and not after it", "<tag e\xCC\x81>", 9, {'<', 't', 'a', 'g', ' ', 269, '>'}, 7},
        {"NFC composes", "e\xCC\x81", 3, {269}, 1},
        {"invalid bytes are single",
         "a\xFF\xC3"
         "a",
         4,
         {'a', 0xFF, 0xC3, 'a'},
         4},
        {"a character cut short", "\xC3\xA9\xC3", 3, {269, 0xC3}, 2},
        {"an overlong slash and a surrogate", "\xC0\xAF\xED\xA0\x80", 5, {0xC0, 0xAF, 0xED, 0xA0, 0x80}, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(test_ids_are(t, cases[i].text, (size_t)cases[i].n, cases[i].ids, cases[i].count), "%s", cases[i].what);
    }
    // the same pieces at every position before the end of the text, where the cache key is read differently
    for (int pad = 0; pad < 30; pad++) {
        char text[64];
        memset(text, '1', sizeof text);
        memcpy(text, "aab", 3);
        int ids[40] = {262};
        for (int k = 0; k < pad; k++) ids[1 + k] = '1';
        CHECK(test_ids_are(t, text, (size_t)(3 + pad), ids, 1 + pad), "%d bytes follow", pad);
    }
    // a piece that differs from one in the cache in its last byte only
    for (int n = 1; n < 30; n++) {
        char text[64]; // long enough for the cache key to be read at once
        int ids[64];
        for (int last = '!'; last <= '#'; last++) {
            for (int k = 0; k < 64; k++) ids[k] = text[k] = k + 1 < n ? '?' : k + 1 == n ? (char)last : 'x';
            CHECK(test_ids_are(t, text, 64, ids, 64), "%d bytes, the last %c", n, last);
        }
    }
    Str out = {NULL, 0, 0};
    int ids[] = {'a', TEST_STOP, TEST_TAG, -1, 1 << 30, TEST_TAG + 1, 0xFF};
    tokenizer_decode(t, &out, ids, 7, true);
    CHECK(out.n == 10 && memcmp(out.s, "a<tag \xC3\xA9>\xFF", 10) == 0, "decoded %s", out.s);
    str_free(&out);
    tokenizer_free(t);
    str_free(&json);

    // what lies between matches is a piece too, and a second pattern divides the pieces of the first
    json = test_tokenizer_json("null",
                               "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
                               "\"b+\"},\"behavior\":\"Isolated\"},"
                               "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}",
                               "");
    t = test_tokenizer_from(json.s, json.n, &err);
    static const int pieces[] = {256, 264, 256, ' ', 'b', 'a', '1', 'a'};
    if (CHECK(t != NULL, "%s", err.text)) CHECK(test_ids_are(t, "aabbaa ba1a", 11, pieces, 8), "gaps");
    tokenizer_free(t);
    str_free(&json);
}

// Pairs are merged in order of priority, the leftmost first, by scanning the whole list again each time.
int test_naive_merge(int *ids, int n) {
    for (int priority = 0; priority < TEST_MERGES;) {
        static int left[TEST_MERGES], right[TEST_MERGES]; // ids of each merge's halves
        if (!left[0]) {
            for (int k = 0; k < TEST_MERGES; k++) {
                for (int side = 0; side < 2; side++) {
                    const char *half = test_merges[k][side];
                    int id = half[1] ? -1 : half[0];
                    for (int j = 0; j < TEST_MERGES && id < 0; j++) {
                        char whole[32];
                        snprintf(whole, sizeof whole, "%s%s", test_merges[j][0], test_merges[j][1]);
                        if (strcmp(whole, half) == 0) id = 256 + j;
                    }
                    (side ? right : left)[k] = id;
                }
            }
        }
        int at = 0;
        while (at + 1 < n && (ids[at] != left[priority] || ids[at + 1] != right[priority])) at++;
        if (at + 1 >= n) {
            priority++;
            continue;
        }
        ids[at] = 256 + priority;
        for (int i = at + 1; i + 1 < n; i++) ids[i] = ids[i + 1];
        n--;
        priority = 0;
    }
    return n;
}

void test_tokenizer_merging(void) {
    Error err = {0, ""};
    Str json = test_tokenizer_json("null", TEST_WHOLE, "");
    Tokenizer *t = test_tokenizer_from(json.s, json.n, &err);
    str_free(&json);
    if (!CHECK(t != NULL, "%s", err.text)) return;
    int wrong = 0, broken = 0;
    uint64_t random = 1;
    for (int trial = 0; trial < 600; trial++) {
        char text[300];
        int ids[300], n = 1 + trial % 299;
        for (int i = 0; i < n; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[i] = "aaabbc"[(random >> 33) % 6];
            ids[i] = text[i];
        }
        wrong += !test_ids_are(t, text, (size_t)n, ids, test_naive_merge(ids, n));
        for (int i = 0; i < n; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[i] = (char)(random >> 40);
        }
        broken += !test_round_trip(t, text, (size_t)n);
    }
    CHECK(wrong == 0, "%d of 600 random texts are merged otherwise than by the naive loop", wrong);
    CHECK(broken == 0, "%d of 600 random byte strings do not come back", broken);
    size_t n = 1 << 20;
    char *many = (char *)xmalloc(n);
    memset(many, 'a', n);
    IntVec ids = {NULL, 0, 0};
    double start = now_s();
    CHECK(tokenizer_encode(t, &ids, many, n, NULL) && ids.n == (int)n / 8, "%d tokens",
          ids.n); // a quadratic loop would take hours
    CHECK(now_s() - start < 30, "1 MB of one letter took %.1f s", now_s() - start);
    ints_free(&ids);
    free(many);
    tokenizer_free(t);
}

void test_nfc(void) {
    static const char *const cases[][2] = {
        {"a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81"},            // marks out of order: ạ + acute
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"}, // jamo to 한
        {"\xEA\xB0\x80\xE1\x86\xA7", "\xEA\xB0\x80\xE1\x86\xA7"}, // U+11A7 does not compose
        {"\xE2\x84\xAB", "\xC3\x85"},
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"}, // Å; a composition exclusion
        {"\xCC\x81x\xCC\x81", "\xCC\x81x\xCC\x81"},
        {"plain \xE4\xB8\xAD", "plain \xE4\xB8\xAD"},
        {"\xCD\x85\xE1\xAB\x80", "\xCD\x85\xE1\xAB\x80"}, // U+1AC0 is newer than Unicode 9.0
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str out = {NULL, 0, 0};
        const char *s = cases[i][0];
        if (!nfc_append(&out, s, strlen(s))) str_add(&out, s, strlen(s));
        CHECK(strcmp(out.s, cases[i][1]) == 0, "case %zu", i);
        str_free(&out);
    }
    int wrong = 0; // characters called inert that utf8proc composes, orders or decomposes
    for (int32_t c = 0x80; c < 0x110000; c++) {
        if (!nfc_inert(c) || nfc_newer(c) || (c >= 0xD800 && c < 0xE000)) continue;
        utf8proc_uint8_t text[16] = {'e', 0};
        utf8proc_ssize_t n = utf8proc_encode_char(c, text + 1);
        text[1 + n] = 0;
        utf8proc_uint8_t *normal = utf8proc_NFC(text);
        wrong += strcmp((char *)normal, (char *)text) != 0 || utf8proc_get_property(c)->combining_class != 0;
        free(normal);
    }
    CHECK(wrong == 0, "%d characters", wrong);
    Str marks = {NULL, 0, 0}, out = {NULL, 0, 0};
    for (int i = 0; i < 200000; i++) str_add(&marks, i % 2 ? "\xCC\xA3" : "\xCC\x81", 2);
    double start = now_s();
    CHECK(nfc_append(&out, marks.s, marks.n) && out.n == marks.n && memcmp(out.s, "\xCC\xA3\xCC\xA3", 4) == 0,
          "%zu bytes", out.n);
    CHECK(now_s() - start < 20, "200,000 marks out of order took %.1f s", now_s() - start);
    str_free(&marks);
    str_free(&out);
}

// ----------------------------------------------------------------------------
// bad files

void test_tokenizer_refusals(void) {
    static const struct {
        const char *find, *replace, *expect;
    } cases[] = {
        {"\"BPE\"", "\"WordPiece\"", "WordPiece"},
        {"\"NFC\"", "\"Lowercase\"", "Lowercase"},
        {"\"Isolated\"", "\"Removed\"", "Removed"},
        {"\"Sequence\"", "\"Whitespace\"", "Whitespace"},
        {"\"Split\"", "\"Digits\"", "Digits"},
        {"\"invert\":false", "\"invert\":true", "invert true"},
        {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space"},
        {"\"normalized\":false", "\"normalized\":7", "normalized"},
        {"\"lstrip\":false", "\"lstrip\":\"\"", "lstrip"},
        {"{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"}]}", "Strip"},
        {"{\"type\":\"NFC\"}", "{\"type\":\"Sequence\"}", "normalizers"},
        {"\"<|s|>>\"", "\"<|s|>\"", "given twice"},
        {"(?i:", "(?x:", "not supported"},
        {"(?i:'s", "(?i:([)", "split pattern"},
        {"\\\\p{L}+|", "\\\\p{L}+|[[:alpha:]]|", "split pattern"},
        {"\"aa\":256", "\"aa\":-1", "model.vocab"},
        {"\"aa\":256", "\"aa\":1.5", "model.vocab"},
        {"\"aa\":256", "\"aa\":257", "given twice"},
        {"\"aa\":256", "\"aa\":\"x\"", "model.vocab"},
        {"\"aa\":256", "\"aa\":99999999", "99999999"},
        {"\"aa\":256", "\"a\":256", "given twice"},
        {"\"aa\":256", "\"\":256", "empty"},
        {"\"aa\":256",
         "\"\xE2\x96\x81"
         "a\":256",
         "model.merges"},
        {"\"aaaaaaaa\":267",
         "\"\xE2\x96\x81"
         "a\":267",
         "its result is not in the vocabulary"},
        {"[\"aa\",\"aa\"]", "[\"aa\",\"a\"]", "repeats"},
        {"[\"aa\",\"aa\"]", "[\"aa\"]", "entry 1"},
        {"[\"aa\",\"aa\"]", "[\"zz\",\"aa\"]", "left half"},
        {"[\"aa\",\"aa\"]", "7", "entry 1"},
        {"[\"aa\",\"aa\"]", "\"aaaa\"", "entry 1"},
        {"\"a b\"", "\"a \\u0000\"", "entry 2"},
        {"\"content\":\"<|s|>\"", "\"content\":\"\"", "empty"},
        {"\"content\":\"<|s|>\"", "\"content\":\"aa\"", "contradicts"},
        {"\"content\":\"<|s|>\"", "\"content\":7", "content"},
        {"{\"id\":270", "{\"id\":97", "contradicts"},
        {"{\"id\":270", "{\"id\":-3", "\"id\""},
        {"\"added_tokens\":[", "\"added_tokens\":7,\"x\":[", "added_tokens"},
        {"\"vocab\":", "\"vocabulary\":", "vocab"},
        {"\"merges\":[", "\"merges\":7,\"x\":[", "merges"},
        {"\"model\":", "\"modell\":", "model"},
        {"}}\n", "}", "not valid JSON"},
        {"\"pre_tokenizer\":", "\"pre_tokeniser\":", "pre_tokenizer"},
        {"\"vocab\":{", "\"unk_token\":\"a\",\"vocab\":{", "unk_token"},
        {"\"1.0\"", "\"1.\xFF\"", "UTF-8"},
        {",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]", "]", "ByteLevel"},
    };
    Str json = test_tokenizer_json("{\"type\":\"NFC\"}", TEST_SPLIT, "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *at = strstr(json.s, cases[i].find);
        if (!CHECK(at != NULL, "case %zu: no %s in the file", i, cases[i].find)) continue;
        Str bad = {NULL, 0, 0};
        str_printf(&bad, "%.*s%s%s", (int)(at - json.s), json.s, cases[i].replace, at + strlen(cases[i].find));
        Error err = {0, ""};
        Tokenizer *t = test_tokenizer_from(bad.s, bad.n, &err);
        CHECK(t == NULL && err.code == EXIT_RUN && strstr(err.text, cases[i].expect) &&
                  strstr(err.text, "tokenizer.json"),
              "%s -> %s: %s", cases[i].find, cases[i].replace, err.text);
        tokenizer_free(t);
        str_free(&bad);
    }
    Error err = {0, ""};
    CHECK(tokenizer_load("/nonexistent", &err) == NULL && strstr(err.text, "/nonexistent/tokenizer.json"), "%s",
          err.text);
    str_free(&json);
    // a vocabulary without some byte refuses only the texts that have it
    const char *small = "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
                        "\"ByteLevel\",\"add_prefix_space\":false}}";
    memset(&err, 0, sizeof err);
    Tokenizer *t = test_tokenizer_from(small, strlen(small), &err);
    if (!CHECK(t != NULL, "%s", err.text)) return;
    static const int ids[] = {0, 1};
    IntVec none = {NULL, 0, 0};
    CHECK(test_ids_are(t, "ab", 2, ids, 2), "without merges");
    CHECK(!tokenizer_encode(t, &none, "abz", 3, &err) && none.n == 0 && strstr(err.text, "0x7A"), "%s", err.text);
    ints_free(&none);
    tokenizer_free(t);
    const char *whole = "{\"model\":{\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[]},\"pre_"
                        "tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}";
    static const int one[] = {2};
    t = test_tokenizer_from(whole, strlen(whole), NULL);
    CHECK(t && test_ids_are(t, "ab", 2, one, 1), "ignore_merges");
    tokenizer_free(t);
}

// Bytes of s changed, dropped, doubled or replaced by something that hurts, `edits` times. Deterministic in *random.
void test_mutate(Str *out, const char *s, size_t n, int edits, uint64_t *random) {
    static const char *const nasty[] = {"\"",    "{",    "]",           "\\",   "\\u0000", "\\ud800", "\xFF", "-1",
                                        "1e999", "null", "99999999999", "\xC3", "",        "[[[[[[",  ","};
    out->n = 0;
    str_add(out, s, n);
    for (int k = 0; k < edits && out->n > 0; k++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        uint64_t r = *random >> 20;
        size_t at = (size_t)(r % out->n), length = (size_t)(r >> 24) % 9;
        const char *piece = nasty[(r >> 32) % (sizeof nasty / sizeof nasty[0])];
        if (at + length > out->n) length = out->n - at;
        switch ((r >> 40) % 4) {
        case 0: out->s[at] = (char)(r >> 16); break;
        case 1:
            out->n -= length;
            memmove(out->s + at, out->s + at + length, out->n - at);
            break;
        case 2:
            str_reserve(out, length); // so that str_add does not move what it copies
            str_add(out, out->s + at, length);
            break;
        default:
            str_reserve(out, strlen(piece));
            memmove(out->s + at + strlen(piece), out->s + at, out->n - at);
            memcpy(out->s + at, piece, strlen(piece));
            out->n += strlen(piece);
        }
        out->s[out->n] = 0;
    }
}

void test_tokenizer_fuzz(void) {
    Str json = test_tokenizer_json("{\"type\":\"NFC\"}", TEST_SPLIT, ""), bad = {NULL, 0, 0};
    uint64_t random = 7;
    int loaded = 0, silent = 0;
    for (int trial = 0; trial < 2000; trial++) {
        test_mutate(&bad, json.s, json.n, 1 + trial % 3, &random);
        Error err = {0, ""};
        Tokenizer *t = test_tokenizer_from(bad.s, bad.n, &err);
        loaded += t != NULL;
        silent += !t && !strstr(err.text, "tokenizer.json");
        IntVec ids = {NULL, 0, 0};
        if (t) tokenizer_encode(t, &ids, bad.s + bad.n / 2, 100, NULL);
        ints_free(&ids);
        tokenizer_free(t);
    }
    CHECK(silent == 0 && loaded < 2000, "%d of 2000 broken files loaded, %d failed without naming the file", loaded,
          silent);
    str_free(&json);
    str_free(&bad);
}

#include "dev/test/test_tokenizer_added.h" // test_tokenizer_added, test_tokenizer_added_bytes

// ----------------------------------------------------------------------------
// Qwen2.5's own

void test_tokenizer_qwen(void) {
    const char *records = "dev/reference/tokenizer_records.jsonl";
    if (!path_exists(TEST_QWEN_DIR "/tokenizer.json")) {
        SKIP("no %s/tokenizer.json: tokenizer not compared with Hugging Face", TEST_QWEN_DIR);
        return;
    }
    Error err = {0, ""};
    const clock_t start = clock();
    Tokenizer *t = tokenizer_load(TEST_QWEN_DIR, &err);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    size_t n = 0;
    char *text = t ? read_file(records, &n, &err) : NULL, *rest = NULL;
    if (!CHECK(text != NULL, "%s", err.text)) {
        tokenizer_free(t);
        return;
    }
    CHECK(seconds < 20, "loading took %.1f s of processor time", seconds); // 0.2 s; 3 s under the sanitizers
    int lines = 0, wrong = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), lines++) {
        cJSON *o = json_parse(line, strlen(line), records, &err);
        const cJSON *list = json_get_array(o, "ids", records, &err);
        Str s = {NULL, 0, 0}, decoded = {NULL, 0, 0};
        IntVec ids = {NULL, 0, 0};
        bool ok = list && json_get_text(o, "text", &s, records, &err);
        for (const cJSON *id = ok ? list->child : NULL; id; id = id->next) ints_push(&ids, id->valueint);
        ok = ok && test_ids_are(t, s.s, s.n, ids.v, ids.n);
        tokenizer_decode(t, &decoded, ids.v, ids.n, false);
        if (ok && json_has(o, "decoded")) {
            s.n = 0;
            ok = json_get_text(o, "decoded", &s, records, &err);
        }
        ok = ok && s.n == decoded.n && (s.n == 0 || memcmp(s.s, decoded.s, s.n) == 0);
        if (!ok) {
            wrong++;
            printf("  %s:%d %s\n", records, lines + 1, err.text);
        }
        str_free(&s);
        str_free(&decoded);
        ints_free(&ids);
        cJSON_Delete(o);
    }
    CHECK(lines > 500 && wrong == 0, "%d of %d texts have other ids or come back otherwise than with Hugging Face",
          wrong, lines);
    CHECK(tokenizer_id(t, "<|im_end|>") == 151645 && tokenizer_size(t) == 151665, "size %d", tokenizer_size(t));
    free(text);
    tokenizer_free(t);
}

void test_tokenizer(void) {
    test_nfc();
    test_tokenizer_rules();
    test_tokenizer_merging();
    test_tokenizer_refusals();
    test_tokenizer_fuzz();
    test_tokenizer_added();
    test_tokenizer_added_bytes();
    test_tokenizer_qwen();
}

#endif
