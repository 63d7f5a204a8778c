/*
The GGUF file format, versions 2 and 3, read (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):

    4 bytes   "GGUF"
    u32       version
    u64 u64   how many tensors, how many key-value pairs
    pairs     key, type, value
    infos     of each tensor its name, dimensions (the fastest first), type, offset
    the rest  from the next multiple of general.alignment (32) on: the tensors, each at such a multiple, no other gaps

All little endian; a string is a u64 length and so many bytes. A file is untrusted: nothing is used before every count,
length, offset, type and name has been held against the size of the file. Tensors are not copied: they lie in the mapped
file. They become what safetensors.h has, under the file's own names, dimensions with the slowest first.
*/
#ifndef LLMC_FILES_GGUF_H
#define LLMC_FILES_GGUF_H

#include "llmc/files/safetensors.h" // SafeTensors, tensor_file_map, safetensors_check_name
#include "llmc/utils/utils.h"       // Error, fail, Str

#define GGUF_MAX_KEY 256
#define GGUF_TOKEN_NORMAL 1 // tokenizer.ggml.token_type
#define GGUF_TOKEN_CONTROL 3
#define GGUF_TOKEN_USER_DEFINED 4
#define GGUF_TOKEN_UNUSED 5
#define GGUF_MAX_ELEMENTS ((int64_t)1 << 50) // of one tensor

typedef enum {
    GGUF_UINT8,
    GGUF_INT8,
    GGUF_UINT16,
    GGUF_INT16,
    GGUF_UINT32,
    GGUF_INT32,
    GGUF_FLOAT32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_UINT64,
    GGUF_INT64,
    GGUF_FLOAT64,
    GGUF_VALUE_TYPES
} GgufValueType;

// A key and its value, as they lie in the file. n: bytes of a string, elements of an array, else 1. Elements of an
// array of strings come one after another, each with its length before it; all have been checked.
typedef struct {
    char *key;
    GgufValueType type, element; // element: of an array
    uint64_t n;
    const uint8_t *data;
} GgufPair;

typedef struct {
    SafeTensors tensors; // path, the mapped file, its tensors
    GgufPair *pairs;     // sorted by key
    int n_pairs;
    uint32_t version;
} Gguf;

// What is still to be read of a file.
typedef struct {
    const uint8_t *at, *end;
    const char *path;
} GgufCursor;

static const int gguf_value_bytes[GGUF_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const gguf_value_names[GGUF_VALUE_TYPES] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                               "bool", "string", "array", "u64", "i64", "f64"};

// ggml's numbers of tensor types; those that no DType is known for have a name alone.
static const struct {
    const char *name;
    int number;
    DType dtype; // DTYPES: not computed with
} gguf_tensor_types[] = {
    {"F32", 0, DTYPE_F32},    {"F16", 1, DTYPE_F16},   {"Q4_0", 2, DTYPE_Q4_0},  {"Q4_1", 3, DTYPE_Q4_1},
    {"Q5_0", 6, DTYPE_Q5_0},  {"Q5_1", 7, DTYPE_Q5_1}, {"Q8_0", 8, DTYPE_Q8_0},  {"Q8_1", 9, DTYPES},
    {"Q2_K", 10, DTYPES},     {"Q3_K", 11, DTYPES},    {"Q4_K", 12, DTYPE_Q4_K}, {"Q5_K", 13, DTYPE_Q5_K},
    {"Q6_K", 14, DTYPE_Q6_K}, {"Q8_K", 15, DTYPES},    {"IQ2_XXS", 16, DTYPES},  {"IQ2_XS", 17, DTYPES},
    {"IQ3_XXS", 18, DTYPES},  {"IQ1_S", 19, DTYPES},   {"IQ4_NL", 20, DTYPES},   {"IQ3_S", 21, DTYPES},
    {"IQ2_S", 22, DTYPES},    {"IQ4_XS", 23, DTYPES},  {"I8", 24, DTYPES},       {"I16", 25, DTYPES},
    {"I32", 26, DTYPES},      {"I64", 27, DTYPES},     {"F64", 28, DTYPES},      {"IQ1_M", 29, DTYPES},
    {"BF16", 30, DTYPE_BF16}, {"TQ1_0", 34, DTYPES},   {"TQ2_0", 35, DTYPES},    {"MXFP4", 39, DTYPES},
    {"NVFP4", 40, DTYPES},    {"Q1_0", 41, DTYPES},
};
#define GGUF_TENSOR_TYPES ((int)(sizeof gguf_tensor_types / sizeof gguf_tensor_types[0]))

// ----------------------------------------------------------------------------
// reading, never past the end

bool gguf_left(const GgufCursor *c, uint64_t bytes, const char *what, Error *err) {
    return (uint64_t)(c->end - c->at) >= bytes ||
           fail(err, EXIT_RUN,
                "%s: file cut short in %.80s: %llu bytes are left, expected at least %llu\n  -> download or copy it "
                "again",
                c->path, what, (unsigned long long)(c->end - c->at), (unsigned long long)bytes);
}

// A little-endian number of so many bytes, of which there are enough.
uint64_t gguf_number(const uint8_t *p, int bytes) {
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

bool gguf_read(GgufCursor *c, uint64_t *x, int bytes, const char *what, Error *err) {
    if (!gguf_left(c, (uint64_t)bytes, what, err)) return false;
    *x = gguf_number(c->at, bytes);
    c->at += bytes;
    return true;
}

// A string, where it lies.
bool gguf_read_bytes(GgufCursor *c, const char **s, uint64_t *n, const char *what, Error *err) {
    if (!gguf_read(c, n, 8, what, err) || !gguf_left(c, *n, what, err)) return false;
    *s = (const char *)c->at;
    c->at += *n;
    return true;
}

// A name of a key or a tensor, which messages will show. Free with free().
bool gguf_read_name(GgufCursor *c, char **name, const char *what, Error *err) {
    const char *s;
    uint64_t n;
    if (!gguf_read_bytes(c, &s, &n, what, err)) return false;
    bool bad = n == 0 || n > GGUF_MAX_KEY;
    for (uint64_t i = 0; i < n && !bad; i++) bad = (unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7E;
    if (bad)
        return fail(err, EXIT_RUN, "%s: %s: a name is empty, longer than %d bytes or not of printable ASCII", c->path,
                    what, GGUF_MAX_KEY);
    *name = xstrndup(s, (size_t)n);
    return true;
}

// The elements of an array, or one value, of a type that is no array: checked and passed over.
bool gguf_skip_values(GgufCursor *c, GgufValueType type, uint64_t n, const char *what, Error *err) {
    const int bytes = gguf_value_bytes[type];
    if (type == GGUF_STRING) {
        for (uint64_t i = 0, length; i < n; i++) {
            const char *s;
            if (!gguf_read_bytes(c, &s, &length, what, err)) return false;
        }
        return true;
    }
    if (n > UINT64_MAX / 8 || !gguf_left(c, n * (uint64_t)bytes, what, err))
        return n > UINT64_MAX / 8 ? fail(err, EXIT_RUN, "%s: %s: found an array of %llu elements", c->path, what,
                                         (unsigned long long)n)
                                  : false;
    c->at += n * (uint64_t)bytes;
    return true;
}

bool gguf_read_type(GgufCursor *c, GgufValueType *type, const char *what, Error *err) {
    uint64_t x;
    if (!gguf_read(c, &x, 4, what, err)) return false;
    if (x >= GGUF_VALUE_TYPES)
        return fail(err, EXIT_RUN, "%s: %s: found value type %llu, expected 0 to %d", c->path, what,
                    (unsigned long long)x, GGUF_VALUE_TYPES - 1);
    *type = (GgufValueType)x;
    return true;
}

bool gguf_read_pair(GgufPair *p, GgufCursor *c, Error *err) {
    char what[GGUF_MAX_KEY + 8];
    if (!gguf_read_name(c, &p->key, "a key", err)) return false;
    snprintf(what, sizeof what, "key %s", p->key);
    if (!gguf_read_type(c, &p->type, what, err)) return false;
    p->element = p->type;
    p->n = 1;
    if (p->type == GGUF_STRING) {
        const char *s;
        if (!gguf_read_bytes(c, &s, &p->n, what, err)) return false;
        p->data = (const uint8_t *)s;
        return true;
    }
    if (p->type == GGUF_ARRAY) {
        if (!gguf_read_type(c, &p->element, what, err) || !gguf_read(c, &p->n, 8, what, err)) return false;
        if (p->element == GGUF_ARRAY)
            return fail(err, EXIT_RUN, "%s: %s: found an array of arrays, which is not supported", c->path, what);
    }
    p->data = c->at;
    return gguf_skip_values(c, p->element, p->n, what, err);
}

// ----------------------------------------------------------------------------
// values by key

int gguf_compare_keys(const void *a, const void *b) {
    return strcmp(((const GgufPair *)a)->key, ((const GgufPair *)b)->key);
}

// The pair of that key; NULL if there is none.
const GgufPair *gguf_find(const Gguf *g, const char *key) {
    GgufPair wanted;
    memset(&wanted, 0, sizeof wanted);
    wanted.key = (char *)key;
    if (g->n_pairs == 0) return NULL;
    return (const GgufPair *)bsearch(&wanted, g->pairs, (size_t)g->n_pairs, sizeof wanted, gguf_compare_keys);
}

// Says what was found under a key and what was expected. Returns false.
bool gguf_fail(const Gguf *g, const char *key, const char *expected, Error *err) {
    const GgufPair *p = gguf_find(g, key);
    return fail(err, EXIT_RUN, "%s: key %s: found %s%s%s, expected %s", g->tensors.path, key,
                !p ? "nothing" : gguf_value_names[p->type], p && p->type == GGUF_ARRAY ? " of " : "",
                p && p->type == GGUF_ARRAY ? gguf_value_names[p->element] : "", expected);
}

bool gguf_get_double(const Gguf *g, const char *key, double *x, Error *err) {
    const GgufPair *p = gguf_find(g, key);
    float f;
    if (!p || (p->type != GGUF_FLOAT32 && p->type != GGUF_FLOAT64)) return gguf_fail(g, key, "a number (f32)", err);
    memcpy(&f, p->data, 4);
    if (p->type == GGUF_FLOAT32) *x = (double)f;
    else memcpy(x, p->data, 8);
    return true;
}

// A whole number of any type, from low to high.
bool gguf_get_int(const Gguf *g, const char *key, int low, int high, int *x, Error *err) {
    const GgufPair *p = gguf_find(g, key);
    char expected[64];
    snprintf(expected, sizeof expected, "a whole number from %d to %d", low, high);
    const bool has_sign = p && (p->type == GGUF_INT8 || p->type == GGUF_INT16 || p->type == GGUF_INT32 ||
                                p->type == GGUF_INT64),
               none = p && (p->type == GGUF_UINT8 || p->type == GGUF_UINT16 || p->type == GGUF_UINT32 ||
                            p->type == GGUF_UINT64);
    if (!has_sign && !none) return gguf_fail(g, key, expected, err);
    const int bits = 8 * gguf_value_bytes[p->type];
    uint64_t u = gguf_number(p->data, bits / 8);
    const bool negative = has_sign && u >> (bits - 1);
    if (negative && bits < 64) u |= UINT64_MAX << bits;
    const int64_t value = !negative && u > INT64_MAX ? INT64_MAX : (int64_t)u;
    if (value < low || value > high)
        return fail(err, EXIT_RUN, "%s: key %s: found %lld, expected %s", g->tensors.path, key, (long long)value,
                    expected);
    *x = (int)value;
    return true;
}

// *s = a copy of a text. Free with free().
bool gguf_get_string(const Gguf *g, const char *key, char **s, Error *err) {
    const GgufPair *p = gguf_find(g, key);
    if (!p || p->type != GGUF_STRING) return gguf_fail(g, key, "a string", err);
    if (memchr(p->data, 0, (size_t)p->n)) return gguf_fail(g, key, "a text without NUL", err);
    *s = xstrndup((const char *)p->data, (size_t)p->n);
    return true;
}

// Whether key is the text `value`; false, too, where there is none.
bool gguf_is(const Gguf *g, const char *key, const char *value) {
    const GgufPair *p = gguf_find(g, key);
    return p && p->type == GGUF_STRING && p->n == strlen(value) && memcmp(p->data, value, (size_t)p->n) == 0;
}

// An array of n elements of that type; NULL and err if there is none. n < 0: of any length.
const GgufPair *gguf_get_array(const Gguf *g, const char *key, GgufValueType element, int64_t n, Error *err) {
    const GgufPair *p = gguf_find(g, key);
    char expected[64];
    snprintf(expected, sizeof expected, "an array of %s", gguf_value_names[element]);
    if (!p || p->type != GGUF_ARRAY || p->element != element) {
        gguf_fail(g, key, expected, err);
        return NULL;
    }
    if ((n >= 0 && p->n != (uint64_t)n) || p->n > INT_MAX) {
        fail(err, EXIT_RUN, "%s: key %s: found %llu elements, expected %lld", g->tensors.path, key,
             (unsigned long long)p->n, (long long)(n >= 0 ? n : INT_MAX));
        return NULL;
    }
    return p;
}

// The next of an array's strings, from *at on, which begins at the pair's data.
const char *gguf_next_string(const uint8_t **at, size_t *n) {
    const char *s = (const char *)*at + 8;
    *n = (size_t)gguf_number(*at, 8);
    *at += 8 + *n;
    return s;
}

// ----------------------------------------------------------------------------
// tensors

// The types that are computed with, for messages: into text, which holds 128 bytes. Returns text.
char *gguf_types_text(char *text) {
    int n = 0;
    for (int t = 0; t < DTYPES; t++)
        n += snprintf(text + n, 128 - (size_t)n, "%s%s", t ? ", " : "", dtype_name((DType)t));
    return text;
}

bool gguf_tensor_type(DType *dtype, int64_t number, const char *name, const char *path, Error *err) {
    char known[128];
    int i = 0;
    while (i < GGUF_TENSOR_TYPES && gguf_tensor_types[i].number != number) i++;
    if (i < GGUF_TENSOR_TYPES && gguf_tensor_types[i].dtype != DTYPES) {
        *dtype = gguf_tensor_types[i].dtype;
        return true;
    }
    return fail(err, EXIT_RUN,
                "%s: tensor %s: found type %s (number %lld), expected one of %s\n  -> a file with these types: Q4_K_M, "
                "Q5_K_M, Q6_K or Q8_0",
                path, name, i < GGUF_TENSOR_TYPES ? gguf_tensor_types[i].name : "unknown", (long long)number,
                gguf_types_text(known));
}

// One info. e->begin, e->end: bytes from the first tensor on.
bool gguf_read_info(SafeTensorsEntry *e, DType *dtype, GgufCursor *c, Error *err) {
    uint64_t x, ndim;
    if (!gguf_read_name(c, &e->name, "a tensor's name", err)) return false;
    char what[GGUF_MAX_KEY + 16];
    snprintf(what, sizeof what, "tensor %s", e->name);
    if (!gguf_read(c, &ndim, 4, what, err)) return false;
    if (ndim < 1 || ndim > 4)
        return fail(err, EXIT_RUN, "%s: %s: found %llu dimensions, expected 1 to 4", c->path, what,
                    (unsigned long long)ndim);
    e->ndim = (int)ndim;
    int64_t n = 1;
    for (int i = e->ndim - 1; i >= 0; i--) {
        if (!gguf_read(c, &x, 8, what, err)) return false;
        if (x < 1 || x > (uint64_t)(GGUF_MAX_ELEMENTS / n))
            return fail(err, EXIT_RUN, "%s: %s: dimension %d is %llu: too small or too large to exist", c->path, what,
                        e->ndim - 1 - i, (unsigned long long)x);
        e->shape[i] = (int64_t)x;
        n *= e->shape[i];
    }
    if (!gguf_read(c, &x, 4, what, err) || !gguf_tensor_type(dtype, (int64_t)x, e->name, c->path, err) ||
        !gguf_read(c, &e->begin, 8, what, err))
        return false;
    const int block = dtype_info(*dtype).block;
    if (e->shape[e->ndim - 1] % block != 0)
        return fail(err, EXIT_RUN, "%s: %s: rows of %lld elements, expected a multiple of %d, for its type is %s",
                    c->path, what, (long long)e->shape[e->ndim - 1], block, dtype_name(*dtype));
    snprintf(e->dtype, sizeof e->dtype, "%s", dtype_name(*dtype));
    if (e->begin > UINT64_MAX / 2)
        return fail(err, EXIT_RUN, "%s: %s: found offset %llu, beyond the file", c->path, what,
                    (unsigned long long)e->begin);
    e->end = e->begin + dtype_size(*dtype, (size_t)n);
    return true;
}

// Each tensor begins at the first multiple of `alignment` after the one before it, and the file holds them all and no
// more (but for the padding after the last, which some writers leave out). order: as in the file.
bool gguf_check_cover(const SafeTensors *st, const SafeTensorsEntry *order, size_t data_start, size_t alignment,
                      Error *err) {
    const uint64_t data_bytes = st->map_bytes - data_start;
    uint64_t expected = 0, end = 0;
    for (int i = 0; i < st->n_entries; i++) {
        const SafeTensorsEntry *e = &order[i];
        if (e->begin != expected)
            return fail(err, EXIT_RUN,
                        "%s: tensor %s: found offset %llu, expected %llu: the next multiple of %zu after "
                        "the tensor before it",
                        st->path, e->name, (unsigned long long)e->begin, (unsigned long long)expected, alignment);
        if (e->end > data_bytes)
            return fail(err, EXIT_RUN,
                        "%s: file cut short: found %zu bytes, expected at least %llu; tensor %s is the first that is "
                        "cut\n  -> download or copy it again",
                        st->path, st->map_bytes, (unsigned long long)(e->end + data_start), e->name);
        end = e->end;
        expected = (end + alignment - 1) / alignment * alignment;
    }
    if (data_bytes > expected)
        return fail(
            err, EXIT_RUN,
            "%s: found %zu bytes, expected %llu: trailing bytes after the last tensor\n  -> download or copy it "
            "again",
            st->path, st->map_bytes, (unsigned long long)(expected + data_start));
    return true;
}

// From the infos at c on to the tables of g->tensors.
bool gguf_read_tensors(Gguf *g, GgufCursor *c, uint64_t n, size_t alignment, Error *err) {
    SafeTensors *st = &g->tensors;
    const uint8_t *start = (const uint8_t *)st->map;
    DType dtype;
    st->entries = (SafeTensorsEntry *)xcalloc((size_t)n, sizeof(SafeTensorsEntry));
    for (uint64_t i = 0; i < n; i++)
        if (!gguf_read_info(&st->entries[st->n_entries++], &dtype, c, err)) return false;
    const size_t header = (size_t)(c->at - start), data_start = (header + alignment - 1) / alignment * alignment;
    if (data_start > st->map_bytes && n > 0)
        return fail(err, EXIT_RUN, "%s: file cut short after the header\n  -> download or copy it again", st->path);
    if (n > 0 && !gguf_check_cover(st, st->entries, data_start, alignment, err)) return false;
    qsort(st->entries, (size_t)n, sizeof(SafeTensorsEntry), safetensors_compare_names);
    st->tensors = (RawTensor *)xcalloc((size_t)n, sizeof(RawTensor));
    for (int i = 0; i < st->n_entries; i++) {
        const SafeTensorsEntry *e = &st->entries[i];
        if (i > 0 && strcmp(e[-1].name, e->name) == 0)
            return fail(err, EXIT_RUN, "%s: tensor %s comes twice", st->path, e->name);
        RawTensor *t = &st->tensors[st->n++];
        t->name = e->name;
        t->ndim = e->ndim;
        memcpy(t->shape, e->shape, sizeof t->shape);
        t->data = start + data_start + e->begin;
        t->dtype = DTYPE_F32;
        while (strcmp(e->dtype, dtype_name(t->dtype)) != 0) t->dtype = (DType)(t->dtype + 1);
    }
    return true;
}

// ----------------------------------------------------------------------------

void gguf_close(Gguf *g) {
    for (int i = 0; i < g->n_pairs; i++) free(g->pairs[i].key);
    free(g->pairs);
    if (g->tensors.path) safetensors_close(&g->tensors);
    memset(g, 0, sizeof *g);
}

bool gguf_read_head(Gguf *g, GgufCursor *c, uint64_t *n_tensors, uint64_t *n_pairs, Error *err) {
    uint64_t version;
    if (memcmp(c->at, "GGUF", 4) != 0) return fail(err, EXIT_RUN, "%s: does not begin with GGUF", c->path);
    c->at += 4;
    if (!gguf_read(c, &version, 4, "its head", err)) return false;
    g->version = (uint32_t)version;
    if (version != 2 && version != 3)
        return fail(err, EXIT_RUN, "%s: found GGUF version %u%s, expected 2 or 3", c->path, g->version,
                    version && (version & 0xFFFF) == 0 ? " (a big-endian file)" : "");
    if (!gguf_read(c, n_tensors, 8, "its head", err) || !gguf_read(c, n_pairs, 8, "its head", err)) return false;
    const uint64_t left = (uint64_t)(c->end - c->at); // a pair takes at least 14 bytes, an info 33
    if (*n_pairs > left / 14 || *n_tensors > left / 33)
        return fail(err, EXIT_RUN, "%s: found %llu keys and %llu tensors, more than the file has room for", c->path,
                    (unsigned long long)*n_pairs, (unsigned long long)*n_tensors);
    return true;
}

// Opens a file and checks its header in full. On failure *g is empty and err says what was found and expected. Free
// with gguf_close. The file must not be cut while it is open.
bool gguf_open(Gguf *g, const char *path, Error *err) {
    memset(g, 0, sizeof *g);
    g->tensors.path = xstrdup(path);
    uint64_t n_tensors = 0, n_pairs = 0;
    int alignment = 32;
    bool ok = tensor_file_map(&g->tensors, "GGUF", 24, err);
    GgufCursor c = {(const uint8_t *)g->tensors.map, (const uint8_t *)g->tensors.map + g->tensors.map_bytes,
                    g->tensors.path};
    ok = ok && gguf_read_head(g, &c, &n_tensors, &n_pairs, err);
    if (ok) g->pairs = (GgufPair *)xcalloc((size_t)n_pairs, sizeof(GgufPair));
    for (uint64_t i = 0; i < n_pairs && ok; i++) ok = gguf_read_pair(&g->pairs[g->n_pairs++], &c, err);
    if (ok) qsort(g->pairs, (size_t)g->n_pairs, sizeof(GgufPair), gguf_compare_keys);
    for (int i = 1; i < g->n_pairs && ok; i++)
        if (strcmp(g->pairs[i - 1].key, g->pairs[i].key) == 0)
            ok = fail(err, EXIT_RUN, "%s: key %s comes twice", path, g->pairs[i].key);
    if (ok && gguf_find(g, "general.alignment"))
        ok = gguf_get_int(g, "general.alignment", 8, 1 << 20, &alignment, err) &&
             ((alignment & (alignment - 1)) == 0 ||
              fail(err, EXIT_RUN, "%s: key general.alignment: found %d, expected a power of 2", path, alignment));
    ok = ok && gguf_read_tensors(g, &c, n_tensors, (size_t)alignment, err);
    if (!ok) gguf_close(g);
    return ok;
}

// Whether path is a file that begins as a GGUF file does.
bool gguf_is_file(const char *path) {
    char magic[4] = "";
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return false;
    FILE *f = fopen(path, "rb");
    const size_t got = f ? fread(magic, 1, sizeof magic, f) : 0;
    if (f) fclose(f);
    return got == 4 && memcmp(magic, "GGUF", 4) == 0;
}

#endif
