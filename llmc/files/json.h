/*
JSON for untrusted files: cJSON parses, this header checks what cJSON lets through and makes good messages.

- json_parse / json_load: valid UTF-8, no raw control characters in strings, depth at most JSON_MAX_DEPTH, nothing after
  the value. Errors give line and byte. Free the result with cJSON_Delete.
- json_get_*: a key that must be there, of the right type and in range. `what` says whose key it is ("config.json");
  they return false (or NULL) and fill err. For optional keys ask json_has first (null counts as absent).
- json_add_string: appends a quoted, escaped string to an output line.

A \u0000 inside a string would cut cJSON's C string short. It is carried as the bytes C0 80 (which valid UTF-8 cannot
contain): json_get_text gives the NUL back, json_get_string refuses it.
*/
#ifndef LLMC_FILES_JSON_H
#define LLMC_FILES_JSON_H

#include <cjson/cJSON.h>      // cJSON, cJSON_ParseWithLengthOpts, cJSON_Delete
#include <limits.h>           // INT_MIN, INT_MAX
#include "llmc/utils/utils.h" // Error, fail, Str, read_file

#define JSON_MAX_DEPTH 64                   // config.json and tokenizer.json need about 8
#define JSON_MAX_INTEGER 9007199254740992.0 // 2^53: above it a double no longer holds every integer

// ----------------------------------------------------------------------------
// UTF-8

// Length (1-4) of the well-formed UTF-8 character at s, 0 if there is none within n bytes (overlong forms, surrogates,
// values above U+10FFFF and cut characters are not well-formed).
int utf8_length(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    int length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || (size_t)length > n) return 0;
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return length;
}

// ----------------------------------------------------------------------------
// parsing

bool json_fail_at(const char *text, size_t offset, const char *what, const char *problem, Error *err) {
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) line += text[i] == '\n';
    return fail(err, EXIT_RUN, "%s: not valid JSON at byte %zu (line %zu): %s", what, offset, line, problem);
}

// What cJSON does not check: depth, UTF-8, control characters. A \u0000 becomes C0 80, in place (text only shrinks).
bool json_scan(char *text, size_t *n, const char *what, Error *err) {
    int depth = 0;
    bool quoted = false;
    size_t out = 0;
    for (size_t i = 0; i < *n;) {
        unsigned char c = (unsigned char)text[i];
        int length = utf8_length(text + i, *n - i);
        if (length == 0) return json_fail_at(text, i, what, "invalid UTF-8", err);
        if (c < 0x20 && (quoted || (c != '\t' && c != '\n' && c != '\r')))
            return json_fail_at(text, i, what, "raw control character", err);
        if (quoted && c == '\\') {
            if (*n - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0) {
                text[out++] = (char)0xC0;
                text[out++] = (char)0x80;
                i += 6;
                continue;
            }
            text[out++] = text[i++];
            if (i == *n || (unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x80)
                continue; // reported above or by cJSON
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == '[' || c == '{')) {
            if (++depth > JSON_MAX_DEPTH) return json_fail_at(text, i, what, "nested too deeply", err);
        } else if (!quoted && (c == ']' || c == '}')) {
            depth--;
        }
        for (; length > 0; length--) text[out++] = text[i++];
    }
    *n = out;
    text[out] = 0;
    return true;
}

// Parses n bytes; `what` names them in messages ("file.jsonl:12"). NULL and err on failure. Free with cJSON_Delete.
cJSON *json_parse(const char *text, size_t n, const char *what, Error *err) {
    char *copy = xstrndup(text, n);
    const char *end = copy;
    cJSON *root = NULL;
    if (json_scan(copy, &n, what, err)) {
        root = cJSON_ParseWithLengthOpts(copy, n, &end, false);
        while (root && end < copy + n && strchr(" \t\r\n", *end)) end++;
        if (!root || end != copy + n) {
            json_fail_at(copy, (size_t)(end - copy), what,
                         root ? "text after the value"
                         : n  ? "syntax error or text cut short"
                              : "empty",
                         err);
            cJSON_Delete(root);
            root = NULL;
        }
    }
    free(copy);
    return root;
}

// Parses a whole file. NULL and err on failure. Free with cJSON_Delete.
cJSON *json_load(const char *path, Error *err) {
    size_t n;
    char *text = read_file(path, &n, err);
    if (!text) return NULL;
    cJSON *root = json_parse(text, n, path, err);
    free(text);
    return root;
}

// ----------------------------------------------------------------------------
// getters

const char *json_type_name(const cJSON *item) {
    return !item                  ? "nothing"
           : cJSON_IsObject(item) ? "an object"
           : cJSON_IsArray(item)  ? "an array"
           : cJSON_IsString(item) ? "a string"
           : cJSON_IsNumber(item) ? "a number"
           : cJSON_IsBool(item)   ? "a boolean"
                                  : "null";
}

// The value under key, NULL if there is none or it is null or object is no object.
const cJSON *json_find(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
    return cJSON_IsNull(item) ? NULL : item;
}

bool json_has(const cJSON *object, const char *key) { return json_find(object, key) != NULL; }

bool json_fail_type(const cJSON *object, const char *key, const char *expected, const char *what, Error *err) {
    if (!cJSON_IsObject(object))
        return fail(err, EXIT_RUN, "%s: found %s, expected an object with key \"%s\"", what, json_type_name(object),
                    key);
    return fail(err, EXIT_RUN, "%s: key \"%s\": found %s, expected %s", what, key,
                json_type_name(json_find(object, key)), expected);
}

const cJSON *json_get_object(const cJSON *object, const char *key, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (cJSON_IsObject(item)) return item;
    json_fail_type(object, key, "an object", what, err);
    return NULL;
}

const cJSON *json_get_array(const cJSON *object, const char *key, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (cJSON_IsArray(item)) return item;
    json_fail_type(object, key, "an array", what, err);
    return NULL;
}

// *value points into the tree: valid until cJSON_Delete. A string with a NUL character is an error.
bool json_get_string(const cJSON *object, const char *key, const char **value, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (!cJSON_IsString(item)) return json_fail_type(object, key, "a string", what, err);
    if (strstr(item->valuestring, "\xC0\x80"))
        return fail(err, EXIT_RUN, "%s: key \"%s\": the string holds a NUL character", what, key);
    *value = item->valuestring;
    return true;
}

// Appends the string to *value, NUL characters and all.
bool json_get_text(const cJSON *object, const char *key, Str *value, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (!cJSON_IsString(item)) return json_fail_type(object, key, "a string", what, err);
    const char *s = item->valuestring;
    for (const char *nul; (nul = strstr(s, "\xC0\x80")) != NULL; s = nul + 2) {
        str_add(value, s, (size_t)(nul - s));
        str_add(value, "", 1);
    }
    str_add(value, s, strlen(s));
    return true;
}

bool json_get_double(const cJSON *object, const char *key, double *value, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (!cJSON_IsNumber(item)) return json_fail_type(object, key, "a number", what, err);
    if (!isfinite(item->valuedouble))
        return fail(err, EXIT_RUN, "%s: key \"%s\": the number is out of range", what, key);
    *value = item->valuedouble;
    return true;
}

// A whole number in [low, high]; JSON numbers are doubles, so |value| is at most 2^53.
bool json_get_int64(const cJSON *object, const char *key, int64_t low, int64_t high, int64_t *value, const char *what,
                    Error *err) {
    double x = 0;
    if (!json_get_double(object, key, &x, what, err)) return false;
    if (!(fabs(x) <= JSON_MAX_INTEGER) || x != floor(x) || (int64_t)x < low || (int64_t)x > high)
        return fail(err, EXIT_RUN, "%s: key \"%s\": found %.17g, expected a whole number from %lld to %lld", what, key,
                    x, (long long)low, (long long)high);
    *value = (int64_t)x;
    return true;
}

bool json_get_int(const cJSON *object, const char *key, int low, int high, int *value, const char *what, Error *err) {
    int64_t x = 0;
    if (!json_get_int64(object, key, low, high, &x, what, err)) return false;
    *value = (int)x;
    return true;
}

bool json_get_bool(const cJSON *object, const char *key, bool *value, const char *what, Error *err) {
    const cJSON *item = json_find(object, key);
    if (!cJSON_IsBool(item)) return json_fail_type(object, key, "true or false", what, err);
    *value = cJSON_IsTrue(item);
    return true;
}

int json_compare_keys(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

// A key that an object holds twice (cJSON keeps both and finds only the first), NULL if there is none.
const char *json_duplicate_key(const cJSON *object) {
    size_t n = (size_t)cJSON_GetArraySize(object), k = 0;
    const char **keys = (const char **)xmalloc(n * sizeof(char *)), *found = NULL;
    for (const cJSON *item = object ? object->child : NULL; item; item = item->next)
        keys[k++] = item->string ? item->string : "";
    qsort(keys, k, sizeof(char *), json_compare_keys);
    for (size_t i = 1; i < k && !found; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0) found = keys[i];
    }
    free(keys);
    return found;
}

// ----------------------------------------------------------------------------
// writing

// Appends "..." with escapes; bytes that are not UTF-8 (a completion cut inside a character) become U+FFFD.
void json_add_string(Str *out, const char *s, size_t n) {
    str_add(out, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        int length = utf8_length(s + i, n - i);
        if (c == '"' || c == '\\') str_printf(out, "\\%c", c);
        else if (c == '\n') str_add(out, "\\n", 2);
        else if (c < 0x20) str_printf(out, "\\u%04x", c);
        else if (length == 0) str_add(out, "\xEF\xBF\xBD", 3);
        else str_add(out, s + i, (size_t)length);
        i += length ? (size_t)length : 1;
    }
    str_add(out, "\"", 1);
}

#endif
