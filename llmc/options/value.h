/*
table.h as types, and one value at a time: text -> field, checked against its row. See options.h.
*/
#ifndef LLMC_OPTIONS_VALUE_H
#define LLMC_OPTIONS_VALUE_H

#include <ctype.h>            // iscntrl
#include <limits.h>           // INT_MAX
#include <strings.h>          // strcasecmp
#include <utf8proc.h>         // utf8proc_iterate: is it UTF-8?
#include "llmc/utils/utils.h" // Error, fail, Str, IntVec, edit_distance

// ----------------------------------------------------------------------------
// the table as types

typedef enum {
    CMD_TRAIN = 1,
    CMD_EVAL = 2,
    CMD_GENERATE = 4,
    CMD_SCORE = 8,
    CMD_TOKENIZE = 16,
    CMD_BENCH = 32,
    CMD_GRADE = 64,
    CMD_EXPERIMENT = 128,
    CMD_EXPORT = 256,
    CMD_ANSWERS = CMD_EVAL | CMD_EXPERIMENT, // those that answer benchmarks
    CMD_SAMPLING = CMD_TRAIN | CMD_ANSWERS | CMD_GENERATE,
    CMD_ALL = 511,
    CMD_MODEL = CMD_ALL & ~CMD_GRADE // those that need a model
} Command;

typedef struct {
    int *v;
    int n;
} IntList;

// One field per option. Strings are never NULL; "" is unset. Freed by options_free.
typedef struct Options {
#define INT(key, preset, range, commands, meaning) int key;
#define REAL(key, preset, range, commands, meaning) double key;
#define FLAG(key, preset, commands, meaning) bool key;
#define WORD(key, preset, words, commands, meaning) const char *key;
#define INTS(key, preset, range, commands, meaning) IntList key;
#define TEXT(key, preset, what, commands, meaning) const char *key;
#define TEXTS(key, preset, what, commands, meaning) const char *key;
#include "llmc/options/table.h"
} Options;

typedef enum {
    OPTION_GROUP,
    OPTION_INT,
    OPTION_REAL,
    OPTION_FLAG,
    OPTION_WORD,
    OPTION_INTS,
    OPTION_TEXT,
    OPTION_TEXTS
} OptionType;

typedef struct {
    OptionType type;
    const char *key;    // a group: its heading
    size_t offset;      // of the field in Options
    const char *preset; // the default as it would be written on the command line
    const char *valid;  // range, words or what the text is
    int commands;       // bits of Command that know it
    const char *meaning;
} OptionRow;

const OptionRow options_table[] = {
#define GROUP(heading) {OPTION_GROUP, heading, 0, "", "", 0, ""},
#define INT(key, preset, range, commands, meaning) \
    {OPTION_INT, #key, offsetof(Options, key), #preset, range, commands, meaning},
#define REAL(key, preset, range, commands, meaning) \
    {OPTION_REAL, #key, offsetof(Options, key), #preset, range, commands, meaning},
#define FLAG(key, preset, commands, meaning) \
    {OPTION_FLAG, #key, offsetof(Options, key), (preset) ? "true" : "false", "true|false", commands, meaning},
#define WORD(key, preset, words, commands, meaning) \
    {OPTION_WORD, #key, offsetof(Options, key), preset, words, commands, meaning},
#define INTS(key, preset, range, commands, meaning) \
    {OPTION_INTS, #key, offsetof(Options, key), preset, range, commands, meaning},
#define TEXT(key, preset, what, commands, meaning) \
    {OPTION_TEXT, #key, offsetof(Options, key), preset, what, commands, meaning},
#define TEXTS(key, preset, what, commands, meaning) \
    {OPTION_TEXTS, #key, offsetof(Options, key), preset, what, commands, meaning},
#include "llmc/options/table.h"
};
#define OPTIONS_ROWS ((int)(sizeof options_table / sizeof options_table[0]))

typedef struct {
    const char *key;
    int commands;
    const char *preset;
} OptionPreset;

const OptionPreset options_presets[] = {
#define REQUIRED NULL
#define PER_COMMAND(key, commands, preset) {#key, commands, preset},
#include "llmc/options/table.h"
#undef REQUIRED
};
#define OPTIONS_PRESETS ((int)(sizeof options_presets / sizeof options_presets[0]))

const char *const options_free_on_resume[] = {
#define FREE_ON_RESUME(key) #key,
#include "llmc/options/table.h"
};

// May a run be resumed with another value of this option without a word?
bool options_is_free_on_resume(const char *key) {
    for (size_t i = 0; i < sizeof options_free_on_resume / sizeof options_free_on_resume[0]; i++)
        if (strcmp(options_free_on_resume[i], key) == 0) return true;
    return false;
}

const char *const options_commands[] = {"train", "eval",  "generate",   "score", "tokenize",
                                        "bench", "grade", "experiment", "export"}; // bit i

// The default of a row for one command; NULL if it must be given there.
const char *options_preset(const OptionRow *row, Command cmd) {
    for (int i = 0; i < OPTIONS_PRESETS; i++)
        if ((options_presets[i].commands & cmd) && strcmp(options_presets[i].key, row->key) == 0)
            return options_presets[i].preset;
    return row->preset;
}

// "train, eval": the commands in a bit mask, appended.
void options_command_names(Str *out, int commands) {
    const char *sep = "";
    for (int i = 0; i < 9; i++)
        if (commands >> i & 1) {
            str_printf(out, "%s%s", sep, options_commands[i]);
            sep = ", ";
        }
}

// ----------------------------------------------------------------------------
// one value: text -> field

// The shortest decimal text that reads back as the same double; whole numbers below 10^15 without an exponent (400, not
// 4e+02). `out` holds 32 bytes; returns it.
const char *number_text(char *out, double x) {
    if (fabs(x) < 1e15 && x == floor(x)) {
        snprintf(out, 32, "%.0f", x);
        return out;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, x);
        if (strtod(out, NULL) == x) break;
    }
    return out;
}

typedef struct {
    double low, high;
    bool holds_low, holds_high;
} OptionRange;

// Of the rows that have one: "[0, 1)". Whole numbers end at INT_MAX at the latest.
OptionRange options_range(const OptionRow *row) {
    OptionRange r = {0, 0, false, false};
    if (row->type != OPTION_INT && row->type != OPTION_REAL && row->type != OPTION_INTS) return r;
    char *end;
    r.holds_low = row->valid[0] == '[';
    r.low = strtod(row->valid + 1, &end);
    r.high = strtod(end + 1, &end);
    r.holds_high = *end == ']';
    if (row->type != OPTION_REAL && r.high > INT_MAX) {
        r.high = INT_MAX;
        r.holds_high = true;
    }
    return r;
}

// NaN is in no range.
bool options_in_range(const OptionRange *r, double x) {
    return (r->holds_low ? x >= r->low : x > r->low) && (r->holds_high ? x <= r->high : x < r->high);
}

// Up to 60 bytes of a user's text for a message, control characters shown as ?. `out` holds 72 bytes; returns it.
const char *options_show(char *out, const char *text) {
    size_t n = 0;
    for (; text[n] && n < 60; n++) out[n] = iscntrl((unsigned char)text[n]) ? '?' : text[n];
    strcpy(out + n, text[n] ? "..." : "");
    return out;
}

// A decimal number and nothing else: no blanks, hexadecimal, inf or nan. strtod and strtol take all of these.
bool options_number(const char *text, bool whole, double *x) {
    if (*text == 0 || strspn(text, whole ? "+-0123456789" : "+-.0123456789eE") != strlen(text)) return false;
    char *end;
    errno = 0;
    *x = whole ? (double)strtol(text, &end, 10) : strtod(text, &end);
    return *end == 0 && errno == 0;
}

// What other programs, or people, call it: of options and of their words.
static const char *const options_also_called[][2] = {{"lr", "learning_rate"},
                                                     {"batch_size", "prompts_per_step"},
                                                     {"train_batch_size", "prompts_per_step"},
                                                     {"per_device_train_batch_size", "prompts_per_step"},
                                                     {"epochs", "num_train_epochs"},
                                                     {"steps", "max_steps"},
                                                     {"n", "num_generations"},
                                                     {"group_size", "num_generations"},
                                                     {"max_tokens", "max_completion_length"},
                                                     {"max_new_tokens", "max_completion_length"},
                                                     {"max_length", "max_completion_length"},
                                                     {"kl_coef", "beta"},
                                                     {"kl_beta", "beta"},
                                                     {"entropy_coef", "entropy_coeff"},
                                                     {"ent_coef", "entropy_coeff"},
                                                     {"max_kl", "target_kl"},
                                                     {"clip_range", "epsilon"},
                                                     {"cliprange", "epsilon"},
                                                     {"wd", "weight_decay"},
                                                     {"temp", "temperature"},
                                                     {"dataset", "data"},
                                                     {"train_file", "data"},
                                                     {"model_path", "model"},
                                                     {"model_name_or_path", "model"},
                                                     {"output", "output_dir"},
                                                     {"resume_from_checkpoint", "resume"},
                                                     {"grad_clip", "max_grad_norm"},
                                                     {"gpu", "cuda"},
                                                     {"cuda:0", "cuda"}};

// Our name for it; NULL: there is none.
const char *options_our_name(const char *theirs) {
    for (size_t i = 0; i < sizeof options_also_called / sizeof options_also_called[0]; i++)
        if (strcasecmp(options_also_called[i][0], theirs) == 0) return options_also_called[i][1];
    return NULL;
}

// The word of "a|b|c" with the smallest edit distance to text. Free with free().
char *options_nearest_word(const char *words, const char *text) {
    char *best = NULL;
    for (int best_distance = INT_MAX; *words;) {
        size_t n = strcspn(words, "|");
        char *word = xstrndup(words, n);
        const char *ours = options_our_name(text);
        int d = ours && strcmp(ours, word) == 0 && strcmp(text, word) != 0 ? 0 : edit_distance(word, text);
        if (d < best_distance) {
            best_distance = d;
            free(best);
            best = word;
        } else free(word);
        words += n + (words[n] == '|');
    }
    return best;
}

// A valid value near to a wrong one, appended: what a number most likely meant, moved into its range.
void options_nearest(Str *out, const OptionRow *row, const char *text) {
    char number[32];
    if (row->type == OPTION_FLAG && (strchr("nN0fF", *text) || strcasecmp(text, "off") == 0)) {
        str_printf(out, "false"); // which is not what the edit distance of "no" says
        return;
    }
    if (row->type == OPTION_WORD || row->type == OPTION_FLAG) {
        char *word = options_nearest_word(row->valid, text);
        str_printf(out, "%s", word);
        free(word);
        return;
    }
    OptionRange r = options_range(row);
    char *end;
    double x = strtod(text, &end);
    if (end == text || isnan(x)) {
        str_printf(out, "%s", *row->preset ? row->preset : "0");
        return;
    }
    if (row->type != OPTION_REAL) x = round(x);
    if (x < r.low) x = r.low;
    if (x > r.high || isinf(x)) x = isinf(r.high) ? 1e9 : r.high;
    const char *open_end = !r.holds_low && x == r.low     ? "a little above "
                           : !r.holds_high && x == r.high ? "a little below "
                                                          : "";
    if (row->type == OPTION_REAL) str_printf(out, "%s%s", open_end, number_text(number, x));
    else str_printf(out, "%.0f", x);
}

// "a, b or c" of "a|b|c", appended.
void options_words(Str *out, const char *words) {
    for (const char *c = words; *c; c++) {
        const char *sep = strchr(c + 1, '|') ? ", " : " or ";
        str_add(out, *c == '|' ? sep : c, *c == '|' ? strlen(sep) : 1);
    }
}

// What a row takes, in words, appended.
void options_expected(Str *out, const OptionRow *row) {
    switch (row->type) {
    case OPTION_INT: str_printf(out, "a whole number in %s", row->valid); break;
    case OPTION_REAL: str_printf(out, "a number in %s", row->valid); break;
    case OPTION_INTS: str_printf(out, "whole numbers in %s with commas between", row->valid); break;
    case OPTION_FLAG:
    case OPTION_WORD: options_words(out, row->valid); break;
    default: str_printf(out, "%s", row->valid);
    }
}

// Error: this row cannot take this text (or this element of a list). Always false.
bool options_bad_value(const OptionRow *row, const char *text, const char *where, Error *err) {
    Str expected = {0}, nearest = {0};
    char shown[72];
    options_expected(&expected, row);
    options_nearest(&nearest, row, text);
    fail(err, EXIT_USAGE, "%s: %s: found '%s', expected %s\n  -> nearest valid value: %s", where, row->key,
         options_show(shown, text), expected.s, nearest.s);
    str_free(&expected);
    str_free(&nearest);
    return false;
}

bool options_is_utf8(const char *text) {
    utf8proc_int32_t code;
    for (utf8proc_ssize_t n; *text; text += n)
        if ((n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code)) <= 0) return false;
    return true;
}

// Sets the row's field from text; `where` ("train.yml:3:5", "command line") opens the error.
bool options_set(Options *o, const OptionRow *row, const char *text, const char *where, Error *err) {
    void *field = (char *)o + row->offset;
    char shown[72];
    double x = 0;
    OptionRange r = options_range(row);
    switch (row->type) {
    case OPTION_INT:
    case OPTION_REAL:
        if (!options_number(text, row->type == OPTION_INT, &x) || !options_in_range(&r, x))
            return options_bad_value(row, text, where, err);
        if (row->type == OPTION_INT) *(int *)field = (int)x;
        else *(double *)field = x;
        return true;
    case OPTION_FLAG:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) return options_bad_value(row, text, where, err);
        *(bool *)field = text[0] == 't';
        return true;
    case OPTION_INTS: {
        IntVec list = {0};
        for (const char *c = text; *text;) {
            size_t n = strcspn(c, ",");
            char *element = xstrndup(c, n);
            bool ok = (options_number(element, true, &x) && options_in_range(&r, x)) ||
                      options_bad_value(row, element, where, err);
            free(element);
            if (!ok) {
                ints_free(&list);
                return false;
            }
            ints_push(&list, (int)x);
            if (c[n] == 0) break;
            c += n + 1; // a comma at the end leaves an empty element, which is refused
        }
        free(((IntList *)field)->v);
        ((IntList *)field)->v = list.v;
        ((IntList *)field)->n = list.n;
        return true;
    }
    case OPTION_WORD: {
        char *word = options_nearest_word(row->valid, text);
        bool same = strcmp(word, text) == 0;
        free(word);
        if (!same) return options_bad_value(row, text, where, err);
    } // fall through
    default: // the saved config.yml must be able to hold it
        if (!options_is_utf8(text))
            return fail(err, EXIT_USAGE, "%s: %s: found '%s', which is not UTF-8\n  -> rename the file or fix the text",
                        where, row->key, options_show(shown, text));
        free(*(char **)field);
        *(char **)field = xstrdup(text);
        return true;
    }
}

// The row of a key that cmd knows. NULL and an error naming the nearest key or the commands that know it.
const OptionRow *options_find(const char *key, Command cmd, const char *where, Error *err) {
    const OptionRow *nearest = NULL;
    int nearest_distance = INT_MAX;
    const char *ours = options_our_name(key);
    char shown[72];
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP) continue;
        if (strcmp(row->key, key) == 0) {
            if (row->commands & cmd) return row;
            Str names = {0}, own = {0};
            options_command_names(&names, row->commands);
            options_command_names(&own, cmd);
            fail(err, EXIT_USAGE,
                 "%s: %s is an option of %s, not of %s\n  -> leave it out; --help lists the options of %s", where, key,
                 names.s, own.s, own.s);
            str_free(&names);
            str_free(&own);
            return NULL;
        }
        int d = !(row->commands & cmd)                ? INT_MAX
                : ours && strcmp(ours, row->key) == 0 ? -1
                                                      : edit_distance(row->key, key);
        if (d < nearest_distance) {
            nearest_distance = d;
            nearest = row;
        }
    }
    const bool near =
        nearest_distance < 0 ||
        2 * nearest_distance <= (int)strlen(key); // half of its letters are another's: then it is nothing like it
    fail(err, EXIT_USAGE, "%s: there is no option '%s'\n  -> %s%s%s--help lists them all", where,
         options_show(shown, key),
         nearest_distance < 0 ? "here it is "
         : near               ? "the nearest is "
                              : "",
         near ? nearest->key : "", near ? "; " : "");
    return NULL;
}

#endif
