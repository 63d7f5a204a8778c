/*
Options: table.h is the one list; here it becomes a struct, a strict parser for the command line and for
flat YAML files, --help, the run header, the resolved config.yml and dev/doc/options.md.

    Options o;
    if (options_wants_help(argc, argv)) { options_help(stdout, CMD_TRAIN, "usage: ..."); return 0; }
    if (!options_parse(&o, CMD_TRAIN, argc, argv, &err)) die(&err);     // exit code 2
    ... o.learning_rate ...
    options_free(&o);

Order: defaults, then the file named by --config, then the command line. Nothing is repaired silently: a wrong
key or value is an error that says where it stands and what the nearest valid one is.

    table.h  THE list
    value.h  the list as types, and text as one value
    yaml.h   flat YAML files; how a number and a text are written, for all that write some

From outside: options.h yaml.h
*/
#ifndef LLMC_OPTIONS_OPTIONS_H
#define LLMC_OPTIONS_OPTIONS_H

#include "llmc/options/yaml.h" // options_read_yaml; by way of value.h: Options, Command, options_set ...

// ----------------------------------------------------------------------------
// everything: defaults -> file -> command line

void options_free(Options *o) {
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        void *field = (char *)o + options_table[i].offset;
        OptionType t = options_table[i].type;
        if (t == OPTION_WORD || t == OPTION_TEXT || t == OPTION_TEXTS) free(*(char **)field);
        if (t == OPTION_INTS) free(((IntList *)field)->v);
    }
    memset(o, 0, sizeof *o);
}

// Is there a --help or -h among the arguments?
bool options_wants_help(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

// Splits argv[*i] (and the argument after it, which advances *i) into a row and its value. Values starting with
// "--" must be written --key=value, so that a forgotten value is noticed.
const OptionRow *options_argument(Command cmd, int argc, char **argv, int *i, const char **value, Error *err) {
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    char shown[72];
    if (strncmp(argument, "--", 2) != 0) {
        fail(err, EXIT_USAGE, "command line: found '%s', expected --option value\n  -> --help lists the options",
             options_show(shown, argument));
        return NULL;
    }
    char *key = equals ? xstrndup(argument + 2, (size_t)(equals - argument - 2)) : xstrdup(argument + 2);
    const OptionRow *row = options_find(key, cmd, "command line", err);
    free(key);
    if (!row) return NULL;
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    if (equals) *value = equals + 1;
    else if (next && strncmp(next, "--", 2) != 0) {
        *value = next;
        ++*i;
    } else if (row->type == OPTION_FLAG) *value = "true";
    else {
        fail(err, EXIT_USAGE,
             "command line: --%s needs a value, found %s\n  -> --%s VALUE, or --%s=VALUE if it starts with --",
             row->key, next ? options_show(shown, next) : "nothing after it", row->key, row->key);
        return NULL;
    }
    return row;
}

// options_parse without options_check. Free o with options_free only if it returned true.
bool options_read(Options *o, Command cmd, int argc, char **argv, Error *err) {
    const OptionRow **rows = (const OptionRow **)xcalloc((size_t)argc + 1, sizeof *rows);
    const char **values = (const char **)xcalloc((size_t)argc + 1, sizeof *values);
    const char *config = "";
    int n = 0;
    bool ok = true;
    memset(o, 0, sizeof *o);
    for (int i = 0; i < OPTIONS_ROWS && ok; i++) {
        const char *preset = options_preset(&options_table[i], cmd);
        if (options_table[i].type != OPTION_GROUP)
            ok = options_set(o, &options_table[i], preset ? preset : "", "default", err);
    }
    for (int i = 1; i < argc && ok; i++, n++) {
        ok = (rows[n] = options_argument(cmd, argc, argv, &i, &values[n], err)) != NULL;
        if (ok && strcmp(rows[n]->key, "config") == 0) config = values[n];
    }
    if (ok && *config) ok = options_read_yaml(o, cmd, config, err);
    for (int i = 0; i < n && ok; i++) ok = options_set(o, rows[i], values[i], "command line", err);
    free(rows);
    free(values);
    if (!ok) {
        options_free(o);
        return false;
    }
    // one spelling for each meaning of nothing
    if (strcmp(o->checkpoint, "none") == 0) ((char *)o->checkpoint)[0] = 0;
    if (*o->resume == 0) {
        free((char *)o->resume);
        o->resume = xstrdup("none");
    }
    return true;
}

// Does this setup learn given solutions (sft_...)? And what it trains: its name without that.
bool setup_is_sft(const char *setup) { return strncmp(setup, "sft_", 4) == 0; }
const char *setup_kind(const char *setup) { return setup + (setup_is_sft(setup) ? 4 : 0); }

// Which options of training do not go together.
bool options_check_train(const Options *o, Error *err) {
    const char *kind = setup_kind(o->setup);
    const bool sft = setup_is_sft(o->setup);
    if (sft && (o->num_iterations > 1 || o->beta > 0 || o->entropy_coeff != 0 || o->dynamic_sampling ||
                strcmp(o->loss_type, "dapo") != 0))
        return fail(err, EXIT_USAGE,
                    "setup %s learns given solutions: %s has no meaning there\n  -> leave it out, or --setup %s",
                    o->setup,
                    o->num_iterations > 1   ? "num_iterations above 1"
                    : o->beta > 0           ? "beta above 0"
                    : o->entropy_coeff != 0 ? "entropy_coeff"
                    : o->dynamic_sampling   ? "dynamic_sampling"
                                            : "a loss_type other than dapo (its mean is over the tokens of the step)",
                    kind);
    if (!sft && o->num_generations < 2)
        return fail(err, EXIT_USAGE,
                    "num_generations %d with advantage %s: a group of one has no baseline, every advantage would be 0\n"
                    "  -> --num_generations 2 or more",
                    o->num_generations, o->advantage);
    if (!(o->temperature > 0))
        return fail(err, EXIT_USAGE,
                    "temperature %g in training: greedy completions of a group are all equal\n  -> --temperature 1",
                    o->temperature);
    const char *without = strcmp(o->optimizer, "natural_gradient") != 0 ? NULL
                          : sft ? "its steps are measured by answers that are sampled"
                          : strcmp(kind, "steering_rank") == 0 || strcmp(kind, "lora") == 0 || strcmp(kind, "full") == 0
                              ? "it moves vectors of layers"
                          : o->weight_decay > 0 ? "it has no weight_decay"
                                                : NULL;
    if (without)
        return fail(err, EXIT_USAGE, "optimizer %s with setup %s, weight_decay %g: %s\n  -> --optimizer adamw",
                    o->optimizer, o->setup, o->weight_decay, without);
    bool by_layer = strcmp(kind, "steering_layer") == 0;
    if (by_layer && o->layers.n == 0)
        return fail(err, EXIT_USAGE, "setup %s needs layers, found none\n  -> --layers 12 or --layers 3,12", o->setup);
    const bool at_place = strcmp(kind, "steering_at_place") == 0;
    if (at_place != (strcmp(o->place, "mlp") != 0))
        return fail(
            err, EXIT_USAGE,
            at_place
                ? "setup %s needs a place other than %s, which is setup steering's\n  -> --place self_attn, "
                  "post_attention_layernorm or input_layernorm"
                : "setup %s trains at place mlp, found place %s\n  -> --setup steering_at_place, or leave place out",
            o->setup, o->place);
    if (!by_layer && !at_place && o->layers.n > 0)
        return fail(err, EXIT_USAGE,
                    "layers is set, but setup %s trains all layers\n  -> --setup %ssteering_layer, or leave layers out",
                    o->setup, sft ? "sft_" : "");
    if (strcmp(kind, "lora") != 0 && *o->init_adapter)
        return fail(err, EXIT_USAGE,
                    "init_adapter %s with setup %s, which trains no LoRA\n  -> --setup lora, or leave init_adapter out",
                    o->init_adapter, o->setup);
    const bool lora = strcmp(kind, "lora") == 0, full = strcmp(kind, "full") == 0;
    if ((lora || full) && *o->init_steering)
        return fail(err, EXIT_USAGE,
                    "init_steering %s with setup %s, which trains no vectors\n  -> leave init_steering out%s",
                    o->init_steering, o->setup, lora ? ", or --init_adapter DIR" : "");
    if (full && o->beta > 0)
        return fail(err, EXIT_USAGE,
                    "beta %g with setup %s: the KL needs the base model, and there is no second copy of it\n  -> "
                    "--beta 0, or --setup lora",
                    o->beta, o->setup);
    if (strcmp(kind, "steering_rank") == 0 && *o->init_steering)
        return fail(err, EXIT_USAGE,
                    "init_steering %s with setup %s: vectors are not taken apart into factors\n  -> --setup steering, "
                    "or leave init_steering out",
                    o->init_steering, o->setup);
    for (int i = 0; i < o->layers.n; i++)
        for (int j = 0; j < i; j++)
            if (o->layers.v[i] == o->layers.v[j])
                return fail(err, EXIT_USAGE, "layers names layer %d twice\n  -> name each layer once", o->layers.v[i]);
    if (o->validation_size > 0 && *o->validation_data)
        return fail(
            err, EXIT_USAGE,
            "validation_size %d and validation_data %s both say what to validate on\n  -> leave one of them out",
            o->validation_size, o->validation_data);
    if (o->validation_steps > 0 && o->validation_size == 0 && *o->validation_data == 0)
        return fail(err, EXIT_USAGE,
                    "validation_steps %d, but there is nothing to validate on\n  -> --validation_size 100, or "
                    "--validation_data FILE.jsonl",
                    o->validation_steps);
    return true;
}

// What one value alone cannot show. Every message names the options to change.
bool options_check(const Options *o, Command cmd, Error *err) {
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if ((row->commands & cmd) && !options_preset(row, cmd) && **(char **)((char *)o + row->offset) == 0)
            return fail(err, EXIT_USAGE, "%s is missing: %s\n  -> --%s %s, or a line `%s: ...` in --config FILE.yml",
                        row->key, row->meaning, row->key, row->valid, row->key);
    }
    if (cmd == CMD_TRAIN && !options_check_train(o, err)) return false;
    if (cmd != CMD_TRAIN && (cmd & CMD_SAMPLING) && o->rollout_batch_size == 0)
        return fail(err, EXIT_USAGE,
                    "rollout_batch_size 0, as many sequences as memory has room for, is for training alone\n  -> "
                    "--rollout_batch_size 64, or how many are to be decoded at once");
    if ((cmd & (CMD_ANSWERS | CMD_GENERATE)) && o->temperature == 0 && o->num_generations > 1)
        return fail(err, EXIT_USAGE,
                    "num_generations %d with temperature 0: greedy completions are all equal\n  -> --num_generations "
                    "1, or --temperature 1",
                    o->num_generations);
    if (cmd == CMD_SCORE && !(o->temperature > 0))
        return fail(err, EXIT_USAGE, "temperature %g in score: every log-prob would be 0 or -inf\n  -> --temperature 1",
                    o->temperature);
    if ((cmd & (CMD_ANSWERS | CMD_GENERATE | CMD_SCORE | CMD_EXPORT | CMD_BENCH)) && *o->steering && *o->checkpoint)
        return fail(err, EXIT_USAGE, "steering %s and checkpoint %s both name vectors\n  -> leave one of them out",
                    o->steering, o->checkpoint);
    if (cmd == CMD_GENERATE && *o->prompt && *o->prompts)
        return fail(err, EXIT_USAGE, "prompt and prompts are both set\n  -> leave one of them out");
    if (cmd == CMD_BENCH && o->batch.n == 0)
        return fail(err, EXIT_USAGE, "batch is empty: nothing to time\n  -> --batch 1,32,64");
    return true;
}

// Fills o for one command: defaults, then the file of --config, then the command line (argv[0] is skipped): `--key
// value`, `--key=value`, a bare `--flag` is true; given twice, the last wins. Checks it (options_check). False: err has
// code 2 and o holds nothing to free.
bool options_parse(Options *o, Command cmd, int argc, char **argv, Error *err) {
    if (!options_read(o, cmd, argc, argv, err)) return false;
    if (options_check(o, cmd, err)) return true;
    options_free(o);
    return false;
}

// ----------------------------------------------------------------------------
// the table as text: --help, run header, dev/doc/options.md

#define OPTIONS_HELP_INDENT 34
#define OPTIONS_HELP_WIDTH 118

// "(in [1, 16384]; default 8)", appended with a blank before it; nothing for a text that is empty by default.
void options_remark(Str *out, const OptionRow *row, Command cmd) {
    const char *preset = options_preset(row, cmd);
    if (!preset) {
        str_printf(out, " (must be given)");
        return;
    }
    Str valid = {0};
    if (row->type == OPTION_WORD) options_words(&valid, row->valid);
    else if (row->type != OPTION_FLAG && row->type != OPTION_TEXT && row->type != OPTION_TEXTS)
        str_printf(&valid, "in %s", row->valid);
    if (valid.n && *preset) str_printf(out, " (%s; default %s)", valid.s, preset);
    else if (*preset) str_printf(out, " (default %s)", preset);
    else if (valid.n) str_printf(out, " (%s)", valid.s);
    str_free(&valid);
}

// Prints the --help text of one command.
void options_help(FILE *f, Command cmd, const char *usage) {
    fprintf(f, "%s\n", usage);
    const char *heading = NULL;
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP) heading = row->key;
        if (!(row->commands & cmd)) continue;
        if (heading) fprintf(f, "\n%s\n", heading);
        heading = NULL;
        Str text = {0};
        const char *kind = row->type == OPTION_INT    ? "N"
                           : row->type == OPTION_REAL ? "X"
                           : row->type == OPTION_INTS ? "N,N,..."
                           : row->type == OPTION_WORD ? "WORD"
                           : row->type == OPTION_FLAG ? ""
                                                      : row->valid;
        int column = fprintf(f, "  --%s %s%s", row->key, kind, row->type == OPTION_TEXTS ? ",..." : "");
        str_printf(&text, "%s", row->meaning);
        options_remark(&text, row, cmd);
        for (const char *word = text.s; *word;) { // wrapped at blanks
            int n = (int)strcspn(word, " ");
            if (column + 1 + n > OPTIONS_HELP_WIDTH || (word == text.s && column >= OPTIONS_HELP_INDENT)) {
                fputc('\n', f);
                column = 0;
            }
            column +=
                fprintf(f, "%*s%.*s", column < OPTIONS_HELP_INDENT ? OPTIONS_HELP_INDENT - column : 1, "", n, word);
            word += n + (word[n] == ' ');
        }
        fputc('\n', f);
        str_free(&text);
    }
}

// Prints the run header: every option cmd knows and its value, two columns.
void options_print(FILE *f, const Options *o, Command cmd) {
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (!(row->commands & cmd)) continue;
        Str value = {0};
        if (!options_value(&value, o, row)) str_printf(&value, "...not UTF-8");
        fprintf(f, "| %-28s | %-60s |\n", row->key, value.s);
        str_free(&value);
    }
}

// Prints dev/doc/options.md, a Markdown table per group. | in a cell would end it, so words are split by commas.
void options_markdown(FILE *f) {
    fprintf(
        f,
        "# Options\n\nThis page answers: which options are there, what values do they take, and which commands know "
        "them?\n\nIt is printed from [table.h](../../llmc/options/table.h), which also gives `--help`, the YAML keys "
        "and the run header.\n`make test` says when it is stale.\n");
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP) {
            fprintf(f, "\n## %s\n\n| option | default | value | commands | meaning |\n|---|---|---|---|---|\n",
                    row->key);
            continue;
        }
        Str preset = {0}, expected = {0}, commands = {0};
        str_printf(&preset, "%s", row->preset);
        for (int j = 0; j < OPTIONS_PRESETS; j++) {
            const OptionPreset *p = &options_presets[j];
            if (strcmp(p->key, row->key) != 0) continue;
            if (!p->preset) {
                str_printf(&preset, "must be given");
                continue;
            }
            str_printf(&preset, "; ");
            options_command_names(&preset, p->commands);
            str_printf(&preset, ": %s", p->preset);
        }
        if (row->type == OPTION_TEXT || row->type == OPTION_TEXTS) options_words(&expected, row->valid);
        else options_expected(&expected, row);
        if (row->type == OPTION_TEXTS) str_printf(&expected, ",...");
        if (row->commands == CMD_ALL) str_printf(&commands, "all");
        else options_command_names(&commands, row->commands);
        fprintf(f, "| `%s` | %s | %s | %s | %s |\n", row->key, preset.s, expected.s, commands.s, row->meaning);
        str_free(&preset);
        str_free(&expected);
        str_free(&commands);
    }
}

#endif
