/*
The safetensors file format, read and written (https://huggingface.co/docs/safetensors):

    8 bytes    N, the length of the header, little endian
    N bytes    JSON: {"name": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end]}, ...,
               "__metadata__": {"key": "value", ...}}
    the rest   the tensors, row-major, little endian, offsets counted from here, no gap between them

A file is untrusted: nothing is used before every length, offset, shape and name in the header has been checked
against the size of the file. The tensors are not copied: they lie in the mapped file, whose pages the system
loads when they are first read and drops when memory is short.
*/
#ifndef LLMC_FILES_SAFETENSORS_H
#define LLMC_FILES_SAFETENSORS_H

#include <sys/mman.h>          // mmap, munmap
#include "llmc/files/finite.h" // tensor_check_finite
#include "llmc/files/json.h"   // json_parse, json_get_*, json_duplicate_key, json_add_string, cJSON
#include "llmc/ops.h"          // DType, RawTensor
#include "llmc/utils/utils.h"  // Error, fail, Str, write_file

#define SAFETENSORS_MAX_HEADER (100u << 20) // the format's own limit
#define SAFETENSORS_MAX_NAME 256

// One line of the header: also of tensors that this program cannot compute with (integers, 8-bit floats).
typedef struct {
    char *name;
    char dtype[12];
    int ndim; // of any number of dimensions; shape holds the first four
    int64_t shape[4];
    uint64_t begin, end; // bytes, from the end of the header
} SafeTensorsEntry;

typedef struct {
    char *path;
    void *map;
    size_t map_bytes;
    SafeTensorsEntry *entries; // all tensors of the file, sorted by name
    int n_entries;
    RawTensor *tensors; // those in F32, BF16 or F16 with at most four dimensions, sorted by name
    int n;
    char **metadata; // key, value, key, value, ..., NULL
    void **copies;   // tensors whose place in the file is not aligned to their type (files of old writers)
    int n_copies;
} SafeTensors;

typedef struct {
    const char *name;
    int ndim;
    int64_t shape[4];
    const float *data;
} OutTensor;

// ----------------------------------------------------------------------------
// words for messages

const char *dtype_name(DType t) { return dtype_info(t).name; }

// Bits of one element, 0 for a type that the format does not know.
int safetensors_dtype_bits(const char *dtype) {
    static const struct {
        const char *name;
        int bits;
    } types[] = {{"F32", 32},    {"BF16", 16},   {"F16", 16},    {"F64", 64},    {"I64", 64},
                 {"U64", 64},    {"I32", 32},    {"U32", 32},    {"C64", 64},    {"I16", 16},
                 {"U16", 16},    {"I8", 8},      {"U8", 8},      {"BOOL", 8},    {"F8_E4M3", 8},
                 {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(dtype, types[i].name) == 0) return types[i].bits;
    }
    return 0;
}

// "[24, 896]" into text, which holds 128 bytes. Returns text.
char *shape_text(char *text, int ndim, const int64_t *shape) {
    int n = snprintf(text, 128, "[");
    for (int i = 0; i < ndim && i < 4; i++)
        n += snprintf(text + n, 128 - (size_t)n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, 128 - (size_t)n, ndim > 4 ? ", ...]" : "]");
    return text;
}

// ----------------------------------------------------------------------------
// reading

int safetensors_compare_names(const void *a, const void *b) {
    return strcmp(((const SafeTensorsEntry *)a)->name, ((const SafeTensorsEntry *)b)->name);
}

int safetensors_compare_offsets(const void *a, const void *b) {
    const SafeTensorsEntry *x = *(const SafeTensorsEntry *const *)a, *y = *(const SafeTensorsEntry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

// Names end up on terminals and in messages: no control characters, no endless ones.
bool safetensors_check_name(const char *name, const char *path, Error *err) {
    size_t n = strlen(name);
    bool bad = n == 0 || n > SAFETENSORS_MAX_NAME;
    for (size_t i = 0; i < n && !bad; i++)
        bad = (unsigned char)name[i] < 0x20 || name[i] == 0x7F || (unsigned char)name[i] == 0xC0;
    return bad ? fail(err, EXIT_RUN, "%s: a tensor's name is empty, longer than %d bytes or holds control characters",
                      path, SAFETENSORS_MAX_NAME)
               : true;
}

// A whole number that an offset or a dimension may be; false if it is none.
bool safetensors_number(const cJSON *item, uint64_t *value) {
    if (!cJSON_IsNumber(item)) return false;
    double x = item->valuedouble;
    if (!(x >= 0 && x <= JSON_MAX_INTEGER) || x != floor(x)) return false;
    *value = (uint64_t)x;
    return true;
}

// Fills *e from one line of the header: type known, shape and offsets whole numbers, length = what the shape needs.
bool safetensors_read_entry(SafeTensorsEntry *e, const cJSON *item, const char *path, Error *err) {
    if (!safetensors_check_name(item->string, path, err)) return false;
    e->name = xstrdup(item->string);
    char what[SAFETENSORS_MAX_NAME + 16];
    snprintf(what, sizeof what, "tensor %s", e->name);
    if (!cJSON_IsObject(item))
        return fail(err, EXIT_RUN, "%s: %s: found %s, expected an object", path, what, json_type_name(item));
    const char *twice = json_duplicate_key(item), *dtype = NULL;
    if (twice) return fail(err, EXIT_RUN, "%s: %s: key \"%.40s\" comes twice", path, what, twice);
    Error inner = {0, ""};
    const cJSON *shape = json_get_array(item, "shape", what, &inner);
    const cJSON *offsets = json_get_array(item, "data_offsets", what, &inner);
    if (!shape || !offsets || !json_get_string(item, "dtype", &dtype, what, &inner))
        return fail(err, EXIT_RUN, "%s: %s", path, inner.text);
    uint64_t bits = (uint64_t)safetensors_dtype_bits(dtype);
    if (bits == 0)
        return fail(err, EXIT_RUN,
                    "%s: %s: found dtype \"%.40s\", expected F32, BF16, F16 or another type of the format", path, what,
                    dtype);
    snprintf(e->dtype, sizeof e->dtype, "%s", dtype);

    bool overflow = false;
    for (const cJSON *d = shape->child; d; d = d->next, e->ndim++) {
        uint64_t size = 0;
        if (!safetensors_number(d, &size))
            return fail(err, EXIT_RUN, "%s: %s: dimension %d of the shape is not a whole number from 0 to 2^53", path,
                        what, e->ndim);
        if (e->ndim < 4) e->shape[e->ndim] = (int64_t)size;
        if (__builtin_mul_overflow(bits, size, &bits)) overflow = true;
    }
    if (cJSON_GetArraySize(offsets) != 2 || !safetensors_number(offsets->child, &e->begin) ||
        !safetensors_number(offsets->child->next, &e->end) || e->begin > e->end)
        return fail(err, EXIT_RUN, "%s: %s: data_offsets: expected [begin, end], two whole numbers with begin <= end",
                    path, what);
    char text[128];
    if (overflow)
        return fail(err, EXIT_RUN, "%s: %s: the shape %s is too large to exist", path, what,
                    shape_text(text, e->ndim, e->shape));
    if (bits % 8 != 0 || bits / 8 != e->end - e->begin)
        return fail(err, EXIT_RUN, "%s: %s: data_offsets give it %llu bytes, expected %llu for %s %s", path, what,
                    (unsigned long long)(e->end - e->begin), (unsigned long long)(bits + 7) / 8, e->dtype,
                    shape_text(text, e->ndim, e->shape));
    return true;
}

// The tensors must fill the data part exactly: none cut off, no two on the same bytes, no bytes without a tensor.
bool safetensors_check_cover(const SafeTensors *st, size_t data_start, Error *err) {
    const SafeTensorsEntry **order = (const SafeTensorsEntry **)xmalloc((size_t)st->n_entries * sizeof(*order));
    for (int i = 0; i < st->n_entries; i++) order[i] = &st->entries[i];
    qsort(order, (size_t)st->n_entries, sizeof(*order), safetensors_compare_offsets);
    uint64_t data_bytes = st->map_bytes - data_start, covered = 0, expected = 0;
    const SafeTensorsEntry *cut = NULL;
    bool ok = true;
    for (int i = 0; i < st->n_entries; i++) {
        if (order[i]->end > expected) expected = order[i]->end;
        if (order[i]->end > data_bytes && !cut) cut = order[i];
    }
    if (cut) {
        ok = fail(err, EXIT_RUN,
                  "%s: file cut short: found %zu bytes, expected %llu; tensor %s is the first that is cut\n  -> "
                  "download or copy it again",
                  st->path, st->map_bytes, (unsigned long long)(expected + data_start), cut->name);
    }
    for (int i = 0; i < st->n_entries && ok; i++) {
        const SafeTensorsEntry *e = order[i];
        if (e->begin < covered)
            ok = fail(err, EXIT_RUN, "%s: tensors %s and %s overlap", st->path, order[i - 1]->name, e->name);
        else if (e->begin > covered)
            ok = fail(err, EXIT_RUN, "%s: %llu bytes before tensor %s belong to no tensor", st->path,
                      (unsigned long long)(e->begin - covered), e->name);
        covered = e->end;
    }
    if (ok && covered != data_bytes) {
        ok = fail(
            err, EXIT_RUN,
            "%s: found %zu bytes, expected %llu: trailing bytes after the last tensor\n  -> download or copy it again",
            st->path, st->map_bytes, (unsigned long long)(covered + data_start));
    }
    free(order);
    return ok;
}

// Metadata is an object of strings.
bool safetensors_read_metadata(SafeTensors *st, const cJSON *meta, Error *err) {
    if (!cJSON_IsObject(meta))
        return fail(err, EXIT_RUN, "%s: __metadata__: found %s, expected an object", st->path, json_type_name(meta));
    const char *twice = json_duplicate_key(meta);
    if (twice) return fail(err, EXIT_RUN, "%s: __metadata__: key \"%.40s\" comes twice", st->path, twice);
    st->metadata = (char **)xcalloc(2 * (size_t)cJSON_GetArraySize(meta) + 1, sizeof(char *));
    int k = 0;
    for (const cJSON *item = meta->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return fail(err, EXIT_RUN, "%s: __metadata__: key \"%.40s\": found %s, expected a string", st->path,
                        item->string, json_type_name(item));
        st->metadata[k++] = xstrdup(item->string);
        st->metadata[k++] = xstrdup(item->valuestring);
    }
    return true;
}

// From the parsed header to the tables of *st.
bool safetensors_read_header(SafeTensors *st, const cJSON *root, size_t data_start, Error *err) {
    if (!cJSON_IsObject(root))
        return fail(err, EXIT_RUN, "%s: header: found %s, expected an object", st->path, json_type_name(root));
    int n_items = cJSON_GetArraySize(root);
    st->entries = (SafeTensorsEntry *)xcalloc((size_t)n_items, sizeof(SafeTensorsEntry));
    for (const cJSON *item = root->child; item; item = item->next) {
        if (strcmp(item->string, "__metadata__") == 0) {
            if (st->metadata) return fail(err, EXIT_RUN, "%s: __metadata__ comes twice", st->path);
            if (!safetensors_read_metadata(st, item, err)) return false;
        } else if (!safetensors_read_entry(&st->entries[st->n_entries++], item, st->path, err)) return false;
    }
    qsort(st->entries, (size_t)st->n_entries, sizeof(SafeTensorsEntry), safetensors_compare_names);
    for (int i = 1; i < st->n_entries; i++) {
        if (strcmp(st->entries[i - 1].name, st->entries[i].name) == 0)
            return fail(err, EXIT_RUN, "%s: tensor %s comes twice", st->path, st->entries[i].name);
    }
    if (!safetensors_check_cover(st, data_start, err)) return false;

    st->tensors = (RawTensor *)xcalloc((size_t)st->n_entries, sizeof(RawTensor));
    st->copies = (void **)xcalloc((size_t)st->n_entries, sizeof(void *));
    for (int i = 0; i < st->n_entries; i++) {
        const SafeTensorsEntry *e = &st->entries[i];
        bool f32 = strcmp(e->dtype, "F32") == 0, bf16 = strcmp(e->dtype, "BF16") == 0,
             f16 = strcmp(e->dtype, "F16") == 0;
        if (!(f32 || bf16 || f16) || e->ndim > 4) continue;
        RawTensor *t = &st->tensors[st->n++];
        t->name = e->name;
        t->dtype = f32 ? DTYPE_F32 : bf16 ? DTYPE_BF16 : DTYPE_F16;
        t->ndim = e->ndim;
        memcpy(t->shape, e->shape, sizeof t->shape);
        const char *data = (const char *)st->map + data_start + e->begin;
        if ((uintptr_t)data % dtype_size(t->dtype, 1) != 0) {
            void *copy = xaligned((size_t)(e->end - e->begin));
            memcpy(copy, data, (size_t)(e->end - e->begin));
            st->copies[st->n_copies++] = copy;
            data = (const char *)copy;
        }
        t->data = data;
    }
    return true;
}

void safetensors_close(SafeTensors *st) {
    for (int i = 0; i < st->n_entries; i++) free(st->entries[i].name);
    for (int i = 0; i < st->n_copies; i++) free(st->copies[i]);
    for (char **m = st->metadata; m && *m; m++) free(*m);
    if (st->map) munmap(st->map, st->map_bytes);
    free(st->entries);
    free(st->tensors);
    free(st->copies);
    free(st->metadata);
    free(st->path);
    memset(st, 0, sizeof *st);
}

// Maps the file st->path, a `kind` file of at least `least` bytes.
bool tensor_file_map(SafeTensors *st, const char *kind, size_t least, Error *err) {
    struct stat info;
    int fd = open(st->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // a pipe must not make us wait
    if (fd < 0 || fstat(fd, &info) != 0) {
        int why = errno;
        if (fd >= 0) close(fd);
        return fail(err, EXIT_RUN, "cannot open %s: %s", st->path, strerror(why));
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return fail(err, EXIT_RUN, "%s: found %s, expected a %s file", st->path,
                    S_ISDIR(info.st_mode) ? "a folder" : "something that is no file", kind);
    }
    size_t size = (size_t)info.st_size;
    if (size < least) {
        close(fd);
        return fail(err, EXIT_RUN,
                    "%s: found %zu bytes, expected a %s file (at least %zu bytes)\n  -> download or copy it again",
                    st->path, size, kind, least);
    }
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    int why = errno;
    close(fd);
    if (map == MAP_FAILED) return fail(err, EXIT_RUN, "cannot map %s (%zu bytes): %s", st->path, size, strerror(why));
    st->map = map;
    st->map_bytes = size;
    if (memcmp(map, "version ", 8) == 0)
        return fail(err, EXIT_RUN,
                    "%s: found a Git LFS pointer (%zu bytes), expected the weights themselves\n  -> run `git lfs pull` "
                    "in its folder",
                    st->path, size);
    return true;
}

// Maps path and sizes of things into *st: everything up to the header's JSON. *header_bytes = its length.
bool safetensors_map(SafeTensors *st, uint64_t *header_bytes, Error *err) {
    if (!tensor_file_map(st, "safetensors", 8, err)) return false;
    const size_t size = st->map_bytes;
    const unsigned char *bytes = (const unsigned char *)st->map;
    *header_bytes = 0;
    for (int i = 0; i < 8; i++) *header_bytes |= (uint64_t)bytes[i] << (8 * i);
    if (*header_bytes > SAFETENSORS_MAX_HEADER)
        return fail(err, EXIT_RUN,
                    "%s: not a safetensors file: found a header length of %llu bytes, expected at most %u", st->path,
                    (unsigned long long)*header_bytes, SAFETENSORS_MAX_HEADER);
    if (*header_bytes > size - 8)
        return fail(err, EXIT_RUN,
                    "%s: file cut short inside the header: found %zu bytes, expected at least %llu\n  -> download or "
                    "copy it again",
                    st->path, size, (unsigned long long)*header_bytes + 8);
    if (*header_bytes == 0 || bytes[8] != '{')
        return fail(err, EXIT_RUN, "%s: not a safetensors file: the header does not begin with '{'", st->path);
    return true;
}

// Opens a file and checks its header in full: lengths, offsets, overlaps, gaps, types, shapes, names, depth. On failure
// *st is empty and err says what was found and expected. Free with safetensors_close. The file must not be cut while
// it is open (the system ends programs that read a mapped page which is gone).
bool safetensors_open(SafeTensors *st, const char *path, Error *err) {
    memset(st, 0, sizeof *st);
    st->path = xstrdup(path);
    uint64_t header_bytes = 0;
    bool ok = safetensors_map(st, &header_bytes, err);
    cJSON *root = ok ? json_parse((const char *)st->map + 8, (size_t)header_bytes, path, err) : NULL;
    ok = root && safetensors_read_header(st, root, (size_t)header_bytes + 8, err);
    cJSON_Delete(root);
    if (!ok) safetensors_close(st);
    return ok;
}

// The tensor of that name, NULL if there is none that this program can compute with.
const RawTensor *safetensors_find(const SafeTensors *st, const char *name) {
    int low = 0, high = st->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(name, st->tensors[middle].name);
        if (order == 0) return &st->tensors[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

// The header's line for a name, whatever its type; NULL if there is none.
const SafeTensorsEntry *safetensors_find_entry(const SafeTensors *st, const char *name) {
    SafeTensorsEntry key;
    memset(&key, 0, sizeof key);
    key.name = (char *)name;
    if (st->n_entries == 0) return NULL;
    return (const SafeTensorsEntry *)bsearch(&key, st->entries, (size_t)st->n_entries, sizeof key,
                                             safetensors_compare_names);
}

// The tensor of that name if it has the expected shape; otherwise NULL and err says what the file has.
const RawTensor *safetensors_get(const SafeTensors *st, const char *name, int ndim, const int64_t *shape, Error *err) {
    char found[128], expected[128];
    shape_text(expected, ndim, shape);
    const SafeTensorsEntry *e = safetensors_find_entry(st, name);
    if (!e) {
        fail(err, EXIT_RUN, "%s: tensor %s is missing; expected %s; the file holds %d tensors%s%.*s", st->path, name,
             expected, st->n_entries, st->n_entries ? ", the first is " : "", SAFETENSORS_MAX_NAME,
             st->n_entries ? st->entries[0].name : "");
        return NULL;
    }
    shape_text(found, e->ndim, e->shape);
    const RawTensor *t = safetensors_find(st, name);
    if (!t && e->ndim <= 4) {
        fail(err, EXIT_RUN, "%s: tensor %s: found dtype %s %s, expected F32, BF16 or F16 %s", st->path, name, e->dtype,
             found, expected);
        return NULL;
    }
    if (!t || t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) != 0) {
        fail(err, EXIT_RUN, "%s: tensor %s: found shape %s %s, expected %s", st->path, name, found, e->dtype, expected);
        return NULL;
    }
    return t;
}

// The value of a metadata key, NULL if absent.
const char *safetensors_metadata(const SafeTensors *st, const char *key) {
    for (char **m = st->metadata; m && *m; m += 2) {
        if (strcmp(m[0], key) == 0) return m[1];
    }
    return NULL;
}

// ----------------------------------------------------------------------------
// writing

// Writes n fp32 tensors and metadata (key, value, ..., NULL; may be NULL) to a file that is then whole and synced
// (write_file_parts). The header is padded with spaces to a multiple of 8, so the data is aligned.
bool safetensors_write(const char *path, const OutTensor *t, int n, const char *const *metadata, Error *err) {
    Str out = {0};
    str_add(&out, "\0\0\0\0\0\0\0\0{", 9);
    for (const char *const *m = metadata; m && *m; m += 2) {
        str_printf(&out, m == metadata ? "\"__metadata__\":{" : ",");
        json_add_string(&out, m[0], strlen(m[0]));
        str_add(&out, ":", 1);
        json_add_string(&out, m[1], strlen(m[1]));
        if (!m[2]) str_add(&out, n ? "}," : "}", n ? 2 : 1);
    }
    size_t offset = 0;
    for (int i = 0; i < n; i++) {
        size_t begin = offset, bytes = sizeof(float);
        for (int d = 0; d < t[i].ndim; d++) bytes *= (size_t)t[i].shape[d];
        offset += bytes;
        json_add_string(&out, t[i].name, strlen(t[i].name));
        str_printf(&out, ":{\"dtype\":\"F32\",\"shape\":[");
        for (int d = 0; d < t[i].ndim; d++) str_printf(&out, "%s%lld", d ? "," : "", (long long)t[i].shape[d]);
        str_printf(&out, "],\"data_offsets\":[%zu,%zu]}%s", begin, offset, i + 1 < n ? "," : "");
    }
    str_add(&out, "}", 1);
    while (out.n % 8 != 0) str_add(&out, " ", 1);
    uint64_t header = out.n - 8;
    for (int i = 0; i < 8; i++) out.s[i] = (char)(header >> (8 * i));
    FilePart *parts = (FilePart *)xmalloc(
        ((size_t)n + 1) * sizeof(FilePart)); // from where they are: all weights of a model are no small thing
    parts[0].data = out.s;
    parts[0].bytes = out.n;
    for (int i = 0; i < n; i++) {
        parts[i + 1].data = t[i].data;
        parts[i + 1].bytes = sizeof(float);
        for (int d = 0; d < t[i].ndim; d++) parts[i + 1].bytes *= (size_t)t[i].shape[d];
    }
    bool ok = write_file_parts(path, parts, n + 1, err);
    free(parts);
    str_free(&out);
    return ok;
}

#endif
