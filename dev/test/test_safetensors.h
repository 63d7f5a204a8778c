// safetensors files, read and written: good ones, ones damaged in every way the reader must notice, random damage.
#ifndef DEV_TEST_TEST_SAFETENSORS_H
#define DEV_TEST_TEST_SAFETENSORS_H

#include "dev/test/test.h"    // CHECK, test_path
#include "llmc/files/files.h" // safetensors_*, tensor_check_finite

// ----------------------------------------------------------------------------
// tools

// True if the call failed and its message has every one of the words, which '|' separates.
void mf_expect(bool ok, const Error *e, const char *words, const char *label) {
    CHECK(!ok && e->code == EXIT_RUN, "%s: was accepted, expected an error with \"%s\"", label, words);
    char word[200];
    for (const char *w = words; !ok && *w;) {
        size_t n = strcspn(w, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, w);
        CHECK(strstr(e->text, word) != NULL, "%s: the message has no \"%s\": %s", label, word, e->text);
        w += n + (w[n] == '|');
    }
}

uint32_t mf_random(uint32_t *state) { // xorshift32 (Marsaglia 2003)
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// A new file each time: ext4 flushes one that is cut to nothing and written again, slow when done 10,000 times.
void mf_write(const char *path, const char *bytes, size_t n) {
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

// A safetensors file of this header and n_data bytes of data 1, 2, 3, ...
void mf_file(Str *out, const char *header, int n_data) {
    uint64_t n = strlen(header);
    str_free(out);
    for (int i = 0; i < 8; i++) {
        char byte = (char)(n >> (8 * i));
        str_add(out, &byte, 1);
    }
    str_add(out, header, n);
    for (int i = 1; i <= n_data; i++) {
        char byte = (char)i;
        str_add(out, &byte, 1);
    }
}

// `text` with the first `from` replaced by `to`; from must be there. Free with free().
char *mf_replace(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    if (!at) {
        printf("test is wrong: no \"%s\" in \"%s\"\n", from, text);
        exit(1);
    }
    Str s = {0};
    str_printf(&s, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return s.s;
}

// ----------------------------------------------------------------------------
// safetensors

const char *mf_good_header =
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},\"c\":{\"dtype\":\"F16\",\"shape\":[1,1],\"data_"
    "offsets\":[22,24]},"
    "\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]},\"z\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_"
    "offsets\":[32,32]}}";

void test_safetensors_good(void) {
    const char *path = test_path("good.safetensors");
    Str file = {0};
    // A header of every length modulo 4: the data of an old writer's file may lie at any address.
    for (int pad = 0; pad < 4; pad++) {
        char header[600];
        snprintf(header, sizeof header, "%s%*s", mf_good_header, pad, "");
        mf_file(&file, header, 32);
        mf_write(path, file.s, file.n);
        SafeTensors st;
        Error e = {0, ""};
        if (!CHECK(safetensors_open(&st, path, &e), "pad %d: %s", pad, e.text)) continue;
        const RawTensor *a = safetensors_find(&st, "a"), *b = safetensors_find(&st, "b"),
                        *c = safetensors_find(&st, "c"), *z = safetensors_find(&st, "z");
        CHECK(st.n == 4 && st.n_entries == 5 && a && b && c && z, "found %d tensors of %d", st.n, st.n_entries);
        if (a && b && c && z) {
            CHECK(a->dtype == DTYPE_F32 && a->ndim == 2 && a->shape[0] == 2 && a->shape[1] == 2 &&
                      memcmp(a->data, file.s + file.n - 32, 16) == 0,
                  "a");
            CHECK(b->dtype == DTYPE_BF16 && b->ndim == 1 && b->shape[0] == 3 &&
                      memcmp(b->data, file.s + file.n - 16, 6) == 0,
                  "b");
            CHECK(c->dtype == DTYPE_F16 && memcmp(c->data, file.s + file.n - 10, 2) == 0, "c");
            CHECK((uintptr_t)a->data % 4 == 0 && (uintptr_t)b->data % 2 == 0 && (uintptr_t)c->data % 2 == 0,
                  "pad %d: unaligned", pad);
            CHECK(strcmp(b->name, "b") == 0, "name %s", b->name);
        }
        CHECK(!safetensors_find(&st, "i") && !safetensors_find(&st, "nothing"), "found what is not there");
        CHECK(safetensors_metadata(&st, "format") && strcmp(safetensors_metadata(&st, "format"), "pt") == 0 &&
                  !safetensors_metadata(&st, "x"),
              "metadata");
        const int64_t shape[2] = {2, 3}, one[1] = {1};
        mf_expect(safetensors_get(&st, "a", 2, shape, &e) != NULL, &e, "good.safetensors|tensor a|[2, 2]|[2, 3]",
                  "other shape");
        memset(&e, 0, sizeof e);
        mf_expect(safetensors_get(&st, "i", 1, one, &e) != NULL, &e, "tensor i|I64|expected F32, BF16 or F16",
                  "other dtype");
        memset(&e, 0, sizeof e);
        mf_expect(safetensors_get(&st, "q", 1, one, &e) != NULL, &e, "tensor q is missing|[1]", "missing");
        safetensors_close(&st);
    }
    str_free(&file);
}

void test_safetensors_writer(void) {
    float x[6] = {1, -0.0f, 1e-42f, INFINITY, -3e38f, 0.1f}, y[1] = {7};
    OutTensor t[2] = {{"x", 2, {2, 3, 0, 0}, x}, {"y \"quoted\"", 1, {1, 0, 0, 0}, y}};
    const char *metadata[] = {"base_model", "a\"b\\c\nd", "step", "3", NULL};
    const char *path = test_path("written.safetensors");
    SafeTensors st;
    for (int n = 0; n <= 2; n++) {
        for (int m = 0; m < 2; m++) {
            Error e = {0, ""};
            bool ok = safetensors_write(path, t, n, m ? metadata : NULL, &e) && safetensors_open(&st, path, &e);
            if (!CHECK(ok && st.n == n, "%d tensors: %s", n, e.text)) continue;
            CHECK(!m || strcmp(safetensors_metadata(&st, "base_model"), metadata[1]) == 0, "metadata %s",
                  safetensors_metadata(&st, "base_model"));
            const RawTensor *r = safetensors_find(&st, "x"), *q = safetensors_find(&st, t[1].name);
            if (n > 0)
                CHECK(r && memcmp(r->data, x, sizeof x) == 0 && (uintptr_t)r->data % 8 == 0 && st.n_copies == 0,
                      "data differ or are not aligned in the file");
            if (n > 1) CHECK(q && memcmp(q->data, y, sizeof y) == 0, "second tensor differs");
            safetensors_close(&st);
        }
    }
}

typedef struct {
    const char *from, *to;
    int n_data;
    const char *words;
} MfDamage;

void test_safetensors_bad(void) {
    static const MfDamage damage[] = {
        {"\"F32\"", "\"F31\"", 32, "tensor a|found dtype \"F31\""},
        {"\"F32\"", "32", 32, "tensor a|dtype|found a number, expected a string"},
        {"\"dtype\":\"F32\",", "", 32, "tensor a|dtype|found nothing"},
        {"\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"dtype\":\"F16\"", 32, "tensor a|dtype|twice"},
        {"\"shape\":[2,2],", "", 32, "tensor a|shape"},
        {"[2,2]", "[2,-2]", 32, "tensor a|dimension 1"},
        {"[2,2]", "[2,2.5]", 32, "tensor a|dimension 1"},
        {"[2,2]", "[\"2\",2]", 32, "tensor a|dimension 0"},
        {"[2,2]", "[4294967296,4294967296]", 32, "tensor a|too large"},
        {"[2,2]", "[9007199254740992,2049]", 32, "tensor a|too large"},
        {"[2,2]", "[1e300]", 32, "tensor a|dimension 0"},
        {"[2,2]", "[2,3]", 32, "tensor a|16 bytes|expected 24|F32 [2, 3]"},
        {"[2,2]", "{\"x\":1}", 32, "tensor a|shape|found an object, expected an array"},
        {"[2,2]", "[2,2,1,1,2]", 32, "tensor a|[2, 2, 1, 1, ...]"},
        {"[0,16]", "[0]", 32, "tensor a|data_offsets"},
        {"[0,16]", "[0,16,32]", 32, "tensor a|data_offsets"},
        {"[0,16]", "[16,0]", 32, "tensor a|begin <= end"},
        {"[0,16]", "[0,1e400]", 32, "tensor a|data_offsets"},
        {"[0,16]", "[-1,15]", 32, "tensor a|data_offsets"},
        {"[0,16]", "\"0\"", 32, "tensor a|data_offsets"},
        {"[16,22]", "[14,20]", 32, "tensors a and b overlap"},
        {"[16,22]", "[0,6]", 32, "overlap"},
        {"[24,32]", "[26,34]", 34, "2 bytes before tensor i"},
        {"[0,16]", "[8,24]", 32, "8 bytes before tensor a"},
        {"\"b\":", "\"a\":", 32, "tensor a comes twice"},
        {"\"b\":", "\"\":", 32, "name is empty"},
        {"\"b\":", "\"b\\u001b[2J\":", 32, "control characters"},
        {"\"b\":", "\"b\\u0000\":", 32, "control characters"},
        {"{\"format\":\"pt\"}", "[1]", 32, "__metadata__|found an array"},
        {"\"pt\"", "1", 32, "__metadata__|format|expected a string"},
        {"\"pt\"", "\"pt\",\"format\":\"x\"", 32, "__metadata__|format|twice"},
        {"\"a\":{", "\"__metadata__\":{},\"a\":{", 32, "__metadata__ comes twice"},
        {"{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}", "3", 32,
         "tensor i|found a number, expected an object"},
        {"}}", "}", 32, "not valid JSON"},
        {"}}", "}}x", 32, "not valid JSON|text after"},
        {"\"b\":", "\"\xFF\":", 32, "not valid JSON|UTF-8"},
        {"[2,2]", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 32,
         "not valid JSON|nested too deeply"},
        {"{\"__", " {\"__", 32, "does not begin with '{'"},
        {"\"a\"", "\"a\"", 33, "bytes, expected|trailing"},
        {"\"a\"", "\"a\"", 31, "cut short|tensor i is the first that is cut"},
        {"\"a\"", "\"a\"", 20, "cut short|tensor b is the first that is cut"},
        {"\"a\"", "\"a\"", 0, "cut short|tensor a is the first that is cut"},
        {"[24,32]", "[9007199254740984,9007199254740992]", 32, "cut short|9007199254741|tensor i"},
    };
    const char *path = test_path("bad.safetensors");
    Str file = {0};
    SafeTensors st;
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char *header = mf_replace(mf_good_header, damage[i].from, damage[i].to);
        mf_file(&file, header, damage[i].n_data);
        mf_write(path, file.s, file.n);
        Error e = {0, ""};
        bool ok = safetensors_open(&st, path, &e);
        mf_expect(ok, &e, damage[i].words, header);
        CHECK(ok || strstr(e.text, "bad.safetensors"), "the message does not name the file: %s", e.text);
        if (ok) safetensors_close(&st);
        free(header);
    }
    // Cut at every length, and everything that is no safetensors file at all.
    mf_file(&file, mf_good_header, 32);
    int accepted = 0;
    for (size_t n = 0; n < file.n; n++) {
        mf_write(path, file.s, n);
        Error e = {0, ""};
        accepted += safetensors_open(&st, path, &e) || !strstr(e.text, "found");
    }
    CHECK(accepted == 0, "%d cut files were accepted or not explained", accepted);
    static const struct {
        const char *bytes;
        size_t n;
        const char *words;
    } other[] = {{"", 0, "found 0 bytes"},
                 {"GGUF\3\0\0\0\1\1\1\1\1\1", 14, "not a safetensors file|header length"},
                 {"\0\0\0\0\0\0\0\0", 8, "does not begin"},
                 {"\377\377\377\377\377\377\377\377{}", 10, "header length"},
                 {"\3\0\0\0\0\0\0\0{}", 10, "cut short inside the header|found 10 bytes, expected at least 11"},
                 {"\2\0\0\0\0\0\0\0[]", 10, "does not begin"},
                 {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer|git lfs pull"}};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        mf_write(path, other[i].bytes, other[i].n);
        Error e = {0, ""};
        mf_expect(safetensors_open(&st, path, &e), &e, other[i].words, "no safetensors file");
    }
    Error e = {0, ""};
    mf_expect(safetensors_open(&st, test_tmpdir(), &e), &e, "found a folder", "folder");
    memset(&e, 0, sizeof e);
    mf_expect(safetensors_open(&st, test_path("absent.safetensors"), &e), &e, "absent.safetensors|No such file",
              "missing file");
    str_free(&file);
}

// Random damage to the header: refused, or every tensor lies inside the file. Deterministic.
void test_safetensors_fuzz(void) {
    const char *path = test_path("fuzz.safetensors");
    const char *tokens = "0123456789,:{}[]\"-e.\\ \xC3\x01"
                         "abFI";
    Str good = {0}, file = {0};
    mf_file(&good, mf_good_header, 32);
    size_t header_end = good.n - 32;
    uint32_t state = 12345;
    int accepted = 0, outside = 0;
    volatile unsigned sum = 0; // every byte is read, so that a wrong pointer shows
    for (int round = 0; round < 6000; round++) {
        file.n = 0;
        str_add(&file, good.s, good.n);
        for (uint32_t k = mf_random(&state) % 3 + 1; k > 0; k--) {
            size_t at = mf_random(&state) % (round % 8 ? header_end - 8 : header_end) + (round % 8 ? 8 : 0);
            file.s[at] = round % 2 ? (char)mf_random(&state) : tokens[mf_random(&state) % strlen(tokens)];
        }
        mf_write(path, file.s, file.n);
        SafeTensors st;
        if (!safetensors_open(&st, path, NULL)) continue;
        accepted++;
        for (int i = 0; i < st.n; i++) {
            const RawTensor *t = &st.tensors[i];
            size_t bytes = dtype_size(t->dtype, (size_t)tensor_elements(t));
            const char *data = (const char *)t->data, *map = (const char *)st.map;
            bool copied = false;
            for (int c = 0; c < st.n_copies; c++) copied |= st.copies[c] == t->data;
            if (bytes > 32 || (!copied && (data < map + 8 || data + bytes > map + st.map_bytes))) {
                outside++;
                continue;
            }
            for (size_t b = 0; b < bytes; b++) sum = sum + (unsigned char)data[b];
        }
        safetensors_close(&st);
    }
    CHECK(outside == 0, "%d tensors outside of their file", outside);
    CHECK(accepted > 0 && accepted < 3000, "%d of 6000 damaged headers were accepted", accepted);
    str_free(&good);
    str_free(&file);
}

void test_nonfinite(void) {
    // Every dtype, at the first, a middle and the last place, across the blocks of the threads.
    const uint16_t bad16[2][4] = {{0x7F80, 0xFF80, 0x7FC1, 0xFFFF}, {0x7C00, 0xFC00, 0x7E00, 0xFFFF}},
                   good16[2][2] = {{0x7F7F, 0x0001}, {0x7BFF, 0x8001}};
    const uint32_t bad32[4] = {0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF};
    int64_t n = 3 * NONFINITE_BLOCK + 7, places[5] = {0, 1, NONFINITE_BLOCK, 2 * NONFINITE_BLOCK + 11, n - 1};
    uint32_t *x32 = (uint32_t *)xmalloc((size_t)n * 4);
    uint16_t *x16 = (uint16_t *)x32;
    for (int type = 0; type < 3; type++) {
        DType dtype = type == 0 ? DTYPE_F32 : type == 1 ? DTYPE_BF16 : DTYPE_F16;
        RawTensor t = {"weight", dtype, 2, {1, n, 0, 0}, x32};
        for (int64_t i = 0; i < n; i++) {
            if (type == 0) x32[i] = i % 2 ? 0x7F7FFFFF : 0x00000001;
            else x16[i] = good16[type - 1][i % 2];
        }
        Error e = {0, ""};
        CHECK(tensor_check_finite(&t, "f", &e), "type %d: %s", type, e.text);
        for (int p = 4; p >= 0; p--) {
            for (int k = 0; k < 4; k++) {
                if (type == 0) x32[places[p]] = bad32[k];
                else x16[places[p]] = bad16[type - 1][k];
                char words[64];
                snprintf(words, sizeof words, "tensor weight|row 0, column %lld,", (long long)places[p]);
                memset(&e, 0, sizeof e);
                mf_expect(tensor_check_finite(&t, "f", &e), &e, words, dtype_name(dtype));
            }
        }
    }
    free(x32);
}

void test_safetensors(void) {
    test_safetensors_good();
    test_safetensors_writer();
    test_safetensors_bad();
    test_safetensors_fuzz();
    test_nonfinite();
}

#endif
