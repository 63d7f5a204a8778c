/*
Options from and to a flat YAML file: `key: value` lines, values are scalars or lists of scalars. What YAML could do
beyond that (nested mappings, anchors, tags, several documents, a key twice) is an error with its line, because an
option that silently means something else costs a training run.
*/
#ifndef LLMC_OPTIONS_YAML_H
#define LLMC_OPTIONS_YAML_H

#include <yaml.h>               // yaml_parser_*: the events of a YAML file
#include "llmc/options/value.h" // Options, OptionRow, options_table, options_find, options_set

// ----------------------------------------------------------------------------
// reading

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event; // the current one
    bool has_event;
    const char *path;
    char where[512]; // "train.yml:3:16" of the current event
} OptionsYaml;

// Goes to the next event; broken YAML is an error.
bool options_yaml_next(OptionsYaml *y, Error *err) {
    if (y->has_event) yaml_event_delete(&y->event);
    y->has_event = yaml_parser_parse(&y->parser, &y->event) != 0;
    const yaml_parser_t *p = &y->parser;
    if (!y->has_event) {
        if (p->error == YAML_MEMORY_ERROR) out_of_memory(0);
        const char *problem = p->problem ? p->problem : "not YAML";
        if (p->error == YAML_READER_ERROR)
            return fail(err, EXIT_USAGE, "%s: byte %zu: %s\n  -> save the file as plain UTF-8 text", y->path,
                        p->problem_offset, problem);
        return fail(err, EXIT_USAGE, "%s:%zu:%zu: %s%s%s\n  -> write one `key: value` a line", y->path,
                    p->problem_mark.line + 1, p->problem_mark.column + 1, problem, p->context ? ", " : "",
                    p->context ? p->context : "");
    }
    snprintf(y->where, sizeof y->where, "%s:%zu:%zu", y->path, y->event.start_mark.line + 1,
             y->event.start_mark.column + 1);
    return true;
}

// The current event must be of this type, without anchor or tag.
bool options_yaml_want(const OptionsYaml *y, yaml_event_type_t type, const char *expected, Error *err) {
    const yaml_event_t *e = &y->event;
    const char *found = e->type == YAML_ALIAS_EVENT            ? "an alias"
                        : e->type == YAML_MAPPING_START_EVENT  ? "a mapping"
                        : e->type == YAML_SEQUENCE_START_EVENT ? "a list"
                        : e->type == YAML_SCALAR_EVENT         ? "a plain value"
                        : e->type == YAML_DOCUMENT_START_EVENT ? "a second document"
                                                               : "the end";
    bool decorated =
        (e->type == YAML_SCALAR_EVENT && (e->data.scalar.anchor || e->data.scalar.tag)) ||
        (e->type == YAML_SEQUENCE_START_EVENT && (e->data.sequence_start.anchor || e->data.sequence_start.tag)) ||
        (e->type == YAML_MAPPING_START_EVENT && (e->data.mapping_start.anchor || e->data.mapping_start.tag));
    if (e->type == type && !decorated) return true;
    return fail(err, EXIT_USAGE, "%s: found %s, expected %s\n  -> write one `key: value` a line; a list is [a, b]",
                y->where, decorated ? "an anchor or a tag" : found, expected);
}

// Appends the current scalar. The plain words null and ~ and an absent value are the empty text.
bool options_yaml_scalar(const OptionsYaml *y, Str *text, Error *err) {
    const char *s = (const char *)y->event.data.scalar.value;
    size_t n = y->event.data.scalar.length;
    if (memchr(s, 0, n))
        return fail(err, EXIT_USAGE, "%s: found a NUL character in a value\n  -> take it out", y->where);
    bool plain = y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    str_add(text, s, plain && (strcmp(s, "~") == 0 || strcmp(s, "null") == 0) ? 0 : n);
    return true;
}

// The current event opens a list: its elements, joined by commas, are appended.
bool options_yaml_list(OptionsYaml *y, const OptionRow *row, Str *text, Error *err) {
    if (row->type != OPTION_INTS && row->type != OPTION_TEXTS)
        return fail(err, EXIT_USAGE, "%s: %s: found a list, expected one value: %s\n  -> write %s: VALUE", y->where,
                    row->key, row->valid, row->key);
    if (!options_yaml_want(y, YAML_SEQUENCE_START_EVENT, "a list", err)) return false;
    for (int i = 0;; i++) {
        if (!options_yaml_next(y, err)) return false;
        if (y->event.type == YAML_SEQUENCE_END_EVENT) return true;
        if (!options_yaml_want(y, YAML_SCALAR_EVENT, "a list of plain values", err)) return false;
        if (i > 0) str_add(text, ",", 1);
        size_t start = text->n;
        if (!options_yaml_scalar(y, text, err)) return false;
        if (text->n == start || memchr(text->s + start, ',', text->n - start))
            return fail(err, EXIT_USAGE,
                        "%s: %s: found '%s' in a list, expected a value without commas\n  -> write [a, b]", y->where,
                        row->key, text->s + start);
    }
}

// From the first event of the stream to the last.
bool options_yaml_stream(OptionsYaml *y, Options *o, Command cmd, Error *err) {
    size_t line_of[OPTIONS_ROWS]; // 0: not met yet
    memset(line_of, 0, sizeof line_of);
    if (!options_yaml_next(y, err) || !options_yaml_next(y, err)) return false; // stream, document
    if (y->event.type == YAML_STREAM_END_EVENT) return true;                    // comments only
    if (!options_yaml_next(y, err) || !options_yaml_want(y, YAML_MAPPING_START_EVENT, "`key: value` lines", err))
        return false;
    for (;;) {
        if (!options_yaml_next(y, err)) return false;
        if (y->event.type == YAML_MAPPING_END_EVENT) break;
        if (!options_yaml_want(y, YAML_SCALAR_EVENT, "a key", err)) return false;
        const OptionRow *row = options_find((const char *)y->event.data.scalar.value, cmd, y->where, err);
        if (!row) return false;
        if (strcmp(row->key, "config") == 0)
            return fail(err, EXIT_USAGE, "%s: config cannot be set in a file\n  -> give --config on the command line",
                        y->where);
        size_t *line = &line_of[row - options_table];
        if (*line)
            return fail(err, EXIT_USAGE, "%s: %s is set a second time, first in line %zu\n  -> keep one of them",
                        y->where, row->key, *line);
        *line = y->event.start_mark.line + 1;

        Str text = {0};
        str_reserve(&text, 0);
        text.s[0] = 0;
        char where[sizeof y->where];
        bool ok = options_yaml_next(y, err);
        memcpy(where, y->where, sizeof where); // the value's, which a list leaves behind
        if (ok && y->event.type == YAML_SEQUENCE_START_EVENT) ok = options_yaml_list(y, row, &text, err);
        else ok = ok && options_yaml_want(y, YAML_SCALAR_EVENT, "a value", err) && options_yaml_scalar(y, &text, err);
        ok = ok && options_set(o, row, text.s, where, err);
        str_free(&text);
        if (!ok) return false;
    }
    return options_yaml_next(y, err) && options_yaml_next(y, err) &&
           options_yaml_want(y, YAML_STREAM_END_EVENT, "one document", err);
}

// Sets in o what the n bytes of YAML text set; `path` names them in errors, which all have code 2 and say where:
// file:line:column.
bool options_yaml_text(Options *o, Command cmd, const char *path, const char *text, size_t n, Error *err) {
    OptionsYaml y;
    memset(&y, 0, sizeof y);
    y.path = path;
    if (!yaml_parser_initialize(&y.parser)) out_of_memory(sizeof y.parser);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, n);
    bool ok = options_yaml_stream(&y, o, cmd, err);
    if (y.has_event) yaml_event_delete(&y.event);
    yaml_parser_delete(&y.parser);
    return ok;
}

// The same of a file. A file that cannot be read is a wrong call too.
bool options_read_yaml(Options *o, Command cmd, const char *path, Error *err) {
    Error unreadable = {0, ""};
    size_t n = 0;
    char *text = read_file(path, &n, &unreadable);
    if (!text)
        return fail(err, EXIT_USAGE, "--config: %s\n  -> --config takes a YAML file of `key: value` lines",
                    unreadable.text);
    bool ok = options_yaml_text(o, cmd, path, text, n, err);
    free(text);
    return ok;
}

// ----------------------------------------------------------------------------
// writing

// Appends text in double quotes as YAML (and JSON) read it back: what is not printable as \n, \t or \uXXXX.
// False if it is not UTF-8.
bool options_quote(Str *out, const char *text) {
    str_add(out, "\"", 1);
    utf8proc_int32_t c;
    for (utf8proc_ssize_t n; *text; text += n) {
        if ((n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &c)) <= 0) return false;
        // C0, DEL, C1; then what YAML takes for a line break, a byte-order mark or no character
        bool hidden = c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0xFEFF || c == 0xFFFE ||
                      c == 0xFFFF;
        if (c == '\n' || c == '\t') str_add(out, c == '\n' ? "\\n" : "\\t", 2);
        else if (hidden) str_printf(out, "\\u%04X", (unsigned)c);
        else {
            if (c == '"' || c == '\\') str_add(out, "\\", 1);
            str_add(out, text, (size_t)n);
        }
    }
    str_add(out, "\"", 1);
    return true;
}

// Appends a field's value as YAML. False if a string in it is not UTF-8.
bool options_value(Str *out, const Options *o, const OptionRow *row) {
    const void *field = (const char *)o + row->offset;
    char number[32];
    switch (row->type) {
    case OPTION_INT: str_printf(out, "%d", *(const int *)field); break;
    case OPTION_REAL: str_printf(out, "%s", number_text(number, *(const double *)field)); break;
    case OPTION_FLAG: str_printf(out, "%s", *(const bool *)field ? "true" : "false"); break;
    case OPTION_WORD: str_printf(out, "%s", *(const char *const *)field); break;
    case OPTION_INTS: {
        const IntList *list = (const IntList *)field;
        str_add(out, "[", 1);
        for (int i = 0; i < list->n; i++) str_printf(out, "%s%d", i ? ", " : "", list->v[i]);
        str_add(out, "]", 1);
        break;
    }
    default: return options_quote(out, *(const char *const *)field);
    }
    return true;
}

// Appends the resolved config.yml: every option cmd knows, config itself left out. --config of it gives o again.
// False only if a string in o is not UTF-8, which options_parse never lets through.
bool options_write_yaml(const Options *o, Command cmd, Str *out) {
    const char *heading = NULL, *blank = "";
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP) heading = row->key;
        if (!(row->commands & cmd) || strcmp(row->key, "config") == 0) continue;
        if (heading) str_printf(out, "%s# %s\n", blank, heading);
        heading = NULL;
        blank = "\n";
        str_printf(out, "%s: ", row->key);
        if (!options_value(out, o, row)) return false;
        str_add(out, "\n", 1);
    }
    return true;
}

// Appends a line "\n  key: 1 before, 0.7 now" for every option of cmd whose value is another in `saved`, the text of a
//                     config.yml that
// options_write_yaml has made, or is missing there; those that are FREE_ON_RESUME are left out.
void options_changes(Str *out, const Options *o, Command cmd, const char *saved) {
    Str key = {0}, now = {0};
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (!(row->commands & cmd) || strcmp(row->key, "config") == 0 || options_is_free_on_resume(row->key)) continue;
        key.n = now.n = 0;
        str_printf(&key, "\n%s: ", row->key);
        if (!options_value(&now, o, row)) continue;
        const char *at = strncmp(saved, key.s + 1, key.n - 1) == 0 ? saved : strstr(saved, key.s),
                   *before = at ? at + key.n - (*at != '\n') : "";
        const size_t n = strcspn(before, "\n");
        if (at && n == now.n && strncmp(before, now.s, n) == 0) continue;
        if (at) str_printf(out, "\n  %s: %.*s before, %s now", row->key, (int)n, before, now.s);
        else str_printf(out, "\n  %s: not an option before, %s now", row->key, now.s);
    }
    str_free(&key);
    str_free(&now);
}

#endif
