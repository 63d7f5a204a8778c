// Options from all three sources, every class of error, the table against its five printed forms, broken YAML.
#ifndef DEV_TEST_TEST_OPTIONS_H
#define DEV_TEST_TEST_OPTIONS_H

#include "dev/test/test.h"        // CHECK, SKIP, test_path, test_write
#include "llmc/options/options.h" // what is tested

// options_parse (or options_read) of a line of arguments separated by single blanks; "\1" stands for a blank in one.
bool test_options_call(Options *o, Command cmd, const char *line, bool check, Error *err) {
    char *argv[64], *copy = xstrdup(line), *rest = NULL;
    int argc = 1;
    argv[0] = copy;
    for (char *word = strtok_r(copy, " ", &rest); word && argc < 64; word = strtok_r(NULL, " ", &rest)) {
        for (char *c = word; *c; c++)
            if (*c == 1) *c = ' ';
        argv[argc++] = word;
    }
    memset(err, 0, sizeof *err);
    bool ok = check ? options_parse(o, cmd, argc, argv, err) : options_read(o, cmd, argc, argv, err);
    free(copy); // o keeps no pointer into argv: ASan would tell
    return ok;
}

// What options_help, _print or _markdown print. Free with free().
char *test_options_printed(int which, const Options *o, Command cmd) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) {
        perror("open_memstream");
        exit(1);
    }
    if (which == 0) options_help(f, cmd, "usage: x");
    else if (which == 1) options_print(f, o, cmd);
    else options_markdown(f);
    fclose(f);
    return text;
}

// ----------------------------------------------------------------------------
// the table itself

void test_options_table(void) {
    Options o;
    Error err;
    for (int i = 0; i < OPTIONS_ROWS; i++) {
        const OptionRow *row = &options_table[i];
        if (row->type == OPTION_GROUP) continue;
        CHECK(row->commands > 0 && row->commands <= CMD_ALL && *row->meaning, "%s", row->key);
        CHECK(!strpbrk(row->meaning, "|\n") && !strpbrk(row->preset, "|\n"),
              "%s would break the table in dev/doc/options.md", row->key);
        OptionRange r = options_range(row);
        CHECK(row->type == OPTION_REAL || (r.low >= INT_MIN && r.high <= INT_MAX), "%s does not fit an int", row->key);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(row->key, options_table[j].key) != 0, "%s is in the table twice", row->key);
    }
    for (int i = 0; i < OPTIONS_PRESETS; i++) {
        int commands = 0;
        for (int j = 0; j < OPTIONS_ROWS; j++)
            if (strcmp(options_presets[i].key, options_table[j].key) == 0) commands = options_table[j].commands;
        CHECK((options_presets[i].commands & ~commands) == 0, "another default of %s where it is not known",
              options_presets[i].key);
    }
    for (int cmd = 1; cmd <= CMD_GRADE; cmd *= 2) // the defaults pass their own checks
        if (CHECK(test_options_call(&o, (Command)cmd, "", false, &err), "command %d: %s", cmd, err.text))
            options_free(&o);
    if (CHECK(test_options_call(&o, CMD_TRAIN, "--model m --data d", true, &err), "%s", err.text)) {
        CHECK(o.num_generations == 8 && o.learning_rate == 1e-3 && o.adam_epsilon == 1e-8 && o.skip_equal_groups &&
                  !o.dynamic_sampling && strcmp(o.advantage, "rloo") == 0 && o.layers.n == 0 &&
                  strcmp(o.resume, "none") == 0 && o.max_grad_norm == 2,
              "defaults of train");
        options_free(&o);
    }
    if (CHECK(test_options_call(&o, CMD_EVAL, "--model m --data d", true, &err), "%s", err.text)) {
        CHECK(o.num_generations == 1 && o.batch.n == 3 && o.batch.v[2] == 64, "defaults of eval");
        options_free(&o);
    }
}

// ----------------------------------------------------------------------------
// default -> file -> command line

void test_options_sources(void) {
    const char *path = test_path("good.yml");
    char line[512];
    Options o;
    Error err;
    test_write(
        path,
        "# a recipe\nmodel: ../models/qwen  # folder\ndata: [a.jsonl, 'b c.jsonl']\nseed: 7\nlearning_rate: 5e-3\n"
        "setup: steering_layer\nlayers:\n  - 3\n  - 12\nsystem: \"two\\nlines \xC3\xA9\"\nvalidation_data: "
        "null\ndynamic_sampling: true\nmodel_name: ''\n");
    snprintf(
        line, sizeof line,
        "--seed 8 --config=%s --max_steps 3 --max_steps=4 --layers 1,2,5 --log_completions --dynamic_sampling false",
        path);
    if (CHECK(test_options_call(&o, CMD_TRAIN, line, true, &err), "%s", err.text)) {
        CHECK(strcmp(o.model, "../models/qwen") == 0 && strcmp(o.data, "a.jsonl,b c.jsonl") == 0 &&
                  o.learning_rate == 5e-3,
              "from the file");
        CHECK(strcmp(o.system, "two\nlines \xC3\xA9") == 0 && *o.validation_data == 0 && *o.model_name == 0,
              "texts of the file");
        CHECK(o.seed == 8 && !o.dynamic_sampling, "the command line wins, wherever --config stands");
        CHECK(o.layers.n == 3 && o.layers.v[0] == 1 && o.layers.v[2] == 5, "a list is replaced, not extended");
        CHECK(o.max_steps == 4, "the last of two wins");
        CHECK(o.log_completions && o.beta == 0 && o.epsilon == 0.2, "a bare flag is true; untouched defaults");
        options_free(&o);
    }
    if (CHECK(test_options_call(&o, CMD_GENERATE, "--model m --prompt=--help\1me=x --json --raw --temperature 0", true,
                                &err),
              "%s", err.text)) {
        CHECK(strcmp(o.prompt, "--help me=x") == 0 && o.json && o.raw && o.temperature == 0,
              "key=value holds anything");
        options_free(&o);
    }
    if (CHECK(test_options_call(&o, CMD_EVAL, "--model m --data d --checkpoint none", true, &err), "%s", err.text)) {
        CHECK(*o.checkpoint == 0, "none is the base model");
        options_free(&o);
    }
    if (CHECK(test_options_call(&o, CMD_TRAIN,
                                "--model m --data d --resume= --seed 2147483647 --top_p 1e-300 --num_generations +2",
                                true, &err),
              "%s", err.text)) {
        CHECK(strcmp(o.resume, "none") == 0 && o.seed == INT_MAX && o.top_p == 1e-300 && o.num_generations == 2,
              "edges of ranges");
        options_free(&o);
    }
    test_write(path, "# nothing but a comment\n");
    snprintf(line, sizeof line, "--config %s --model m", path);
    if (CHECK(test_options_call(&o, CMD_SCORE, line, true, &err), "%s", err.text)) options_free(&o);
    if (CHECK(test_options_call(&o, CMD_GRADE, "--json", true, &err), "%s", err.text)) options_free(&o);
    char *yes[] = {(char *)"x", (char *)"--seed", (char *)"1", (char *)"--help"},
         *no[] = {(char *)"--help", (char *)"--seed=1"};
    CHECK(options_wants_help(4, yes) && !options_wants_help(2, no) && !options_wants_help(0, NULL),
          "--help is found after argv[0]");
}

// ----------------------------------------------------------------------------
// wrong calls: exit code 2, and the words a reader needs

typedef struct {
    Command cmd;
    const char *line, *word1, *word2;
} TestWrongCall;

void test_options_wrong_calls(void) {
    const TestWrongCall wrong[] = {
        {CMD_TRAIN, "--learnig_rate 1e-3", "learnig_rate", "nearest is learning_rate"},
        {CMD_TRAIN, "--learning-rate=1e-3", "learning-rate", "nearest is learning_rate"},
        {CMD_TRAIN, "--learning_rate 1e-3x", "learning_rate: found '1e-3x'", "nearest valid value: 0.001"},
        {CMD_TRAIN, "--learning_rate -1e-3", "learning_rate: found '-1e-3', expected a number in [0, inf)", "value: 0"},
        {CMD_TRAIN, "--learning_rate nan", "learning_rate", "found 'nan'"},
        {CMD_TRAIN, "--learning_rate inf", "learning_rate", "found 'inf'"},
        {CMD_TRAIN, "--learning_rate 1e999", "learning_rate", "found '1e999'"},
        {CMD_TRAIN, "--learning_rate 0x1p-3", "learning_rate", "value: 0.125"},
        {CMD_TRAIN, "--learning_rate=", "learning_rate", "found ''"},
        {CMD_TRAIN, "--learning_rate 1e", "learning_rate: found '1e'", "value: 1"},
        {CMD_TRAIN, "--learning_rate 1.2.3", "learning_rate: found '1.2.3'", "value: 1.2"},
        {CMD_TRAIN, "--seed 5-3", "seed: found '5-3'", "value: 5"},
        {CMD_TRAIN, "--learning_rate \0011", "learning_rate", "found ' 1'"},
        {CMD_TRAIN, "--num_generations 0", "num_generations: found '0'", "value: 1"},
        {CMD_TRAIN, "--num_generations 2.5", "num_generations: found '2.5'", "value: 3"},
        {CMD_TRAIN, "--seed 1e3", "seed: found '1e3'", "value: 1000"},
        {CMD_TRAIN, "--seed 2147483648", "seed: found '2147483648'", "value: 2147483647"},
        {CMD_TRAIN, "--seed 99999999999999999999999", "seed", "value: 2147483647"},
        {CMD_TRAIN, "--seed -1", "seed: found '-1'", "value: 0"},
        {CMD_TRAIN, "--top_p 0", "top_p: found '0', expected a number in (0, 1]", "a little above 0"},
        {CMD_TRAIN, "--top_p 1.01", "top_p: found '1.01'", "value: 1"},
        {CMD_TRAIN, "--adam_beta1 1", "adam_beta1", "a little below 1"},
        {CMD_TRAIN, "--rollout_batch_size=-1", "rollout_batch_size: found '-1'", "value: 0"},
        {CMD_TRAIN, "--max_steps -1", "max_steps: found '-1'", "value: 0"},
        {CMD_TRAIN, "--advantage gprq", "rloo, grpo or grpo_no_std", "value: grpo"},
        {CMD_TRAIN, "--advantage RLOO", "advantage: found 'RLOO'", "value: rloo"},
        {CMD_TRAIN, "--setup loar", "setup: found 'loar'", "nearest valid value: lora"},
        {CMD_TRAIN, "--device gpu", "device: found 'gpu'", "value: cuda"},
        {CMD_TRAIN, "--dynamic_sampling yes", "dynamic_sampling: found 'yes', expected true or false", "value: true"},
        {CMD_TRAIN, "--dynamic_sampling no", "dynamic_sampling", "value: false"},
        {CMD_TRAIN, "--layers 1,,2", "layers: found ''", "whole numbers in [0, 1023]"},
        {CMD_TRAIN, "--layers 1,2,", "layers: found ''", "with commas"},
        {CMD_TRAIN, "--layers 1,x", "layers: found 'x'", "whole numbers"},
        {CMD_TRAIN, "--layers -1", "layers: found '-1'", "value: 0"},
        {CMD_TRAIN, "--seed", "--seed needs a value", "nothing"},
        {CMD_TRAIN, "--model --seed 3", "--model needs a value", "found --seed"},
        {CMD_TRAIN, "stray", "found 'stray'", "--option value"},
        {CMD_TRAIN, "--seed 1 2", "found '2'", "--option value"},
        {CMD_TRAIN, "-x", "found '-x'", "--help"},
        {CMD_TRAIN, "--", "no option ''", "--help"},
        {CMD_TRAIN, "--lr 1e-3", "no option 'lr'", "learning_rate"},
        {CMD_TRAIN, "--max_new_tokens 5", "no option 'max_new_tokens'", "max_completion_length"},
        {CMD_TRAIN, "--zzqqxx 1", "no option 'zzqqxx'", "\n  -> --help"}, // nothing is near that
        {CMD_TRAIN, "--model a\xFF\xFE", "model", "not UTF-8"},
        {CMD_EVAL, "--learning_rate 1", "learning_rate is an option of train, not of eval", "leave it out"},
        {CMD_TRAIN, "--checkpoint x", "checkpoint is an option of eval, generate, score", "not of train"},
        {CMD_GRADE, "--model x", "model is an option of", "not of grade"},
        {CMD_TRAIN, "--config nosuch.yml", "nosuch.yml", "No such file"},
        {CMD_TRAIN, "--config /", "/", "directory"},
        // what one value alone cannot show
        {CMD_TRAIN, "--data d", "model is missing", "--model DIR"},
        {CMD_TRAIN, "--model m", "data is missing", "--data FILE.jsonl"},
        {CMD_EVAL, "--model m", "data is missing", "--config"},
        {CMD_GENERATE, "--prompt x", "model is missing", "--model"},
        {CMD_TRAIN, "--model m --data d --num_generations 1", "num_generations 1", "advantage rloo"},
        {CMD_TRAIN, "--model m --data d --num_generations 1 --advantage grpo", "num_generations 1", "advantage grpo"},
        {CMD_TRAIN, "--model m --data d --temperature 0", "temperature 0", "training"},
        {CMD_TRAIN, "--model m --data d --setup steering_layer", "steering_layer needs layers", "--layers"},
        {CMD_TRAIN, "--model m --data d --layers 3", "layers", "--setup steering_layer"},
        {CMD_TRAIN, "--model m --data d --setup steering_layer --layers 3,4,3", "layers", "layer 3 twice"},
        {CMD_TRAIN, "--model m --data d --validation_steps 5", "validation_steps 5", "validation_size"},
        {CMD_TRAIN, "--model m --data d --validation_size 5 --validation_data x", "validation_size 5",
         "validation_data x"},
        {CMD_GENERATE, "--model m --prompt a --prompts b", "prompt and prompts", "leave one"},
        {CMD_GENERATE, "--model m --temperature 0 --num_generations 2", "num_generations 2", "temperature 0"},
        {CMD_SCORE, "--model m --temperature 0", "temperature 0", "score"},
        {CMD_EVAL, "--model m --data d --steering s --checkpoint c", "steering s", "checkpoint c"},
        {CMD_BENCH, "--model m --batch=", "batch is empty", "--batch"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Options o;
        Error err;
        bool ok = test_options_call(&o, wrong[i].cmd, wrong[i].line, true, &err);
        CHECK(!ok && err.code == EXIT_USAGE, "'%s' gave %d", wrong[i].line, err.code);
        CHECK(strstr(err.text, wrong[i].word1) && strstr(err.text, wrong[i].word2) && strstr(err.text, "\n  -> "),
              "'%s' says: %s", wrong[i].line, err.text);
        if (ok) options_free(&o);
    }
    // a very long value neither overflows nor hides the advice
    Str line = {0};
    Options o;
    Error err;
    str_printf(&line, "--seed ");
    for (int i = 0; i < 5000; i++) str_add(&line, "\x1B", 1);
    CHECK(!test_options_call(&o, CMD_TRAIN, line.s, true, &err) && strstr(err.text, "nearest valid") &&
              !strchr(err.text, 27),
          "long value: %s", err.text);
    str_free(&line);
}

// ----------------------------------------------------------------------------
// wrong files

typedef struct {
    const char *text, *word1, *word2;
} TestWrongYaml;

void test_options_wrong_yaml(void) {
    const TestWrongYaml wrong[] = {
        {"a: [1, 2", "bad.yml:", "no option 'a'"},
        {"layers: [1, 2", "bad.yml:", "flow sequence"},
        {"seed: 1\nlearnig_rate: 1e-3\n", "bad.yml:2:1", "nearest is learning_rate"},
        {"seed: 1\n\nlearning_rate: 1e-3x\n", "bad.yml:3:16", "learning_rate: found '1e-3x'"},
        {"seed: 1\nseed: 1\n", "bad.yml:2:1: seed is set a second time", "line 1"},
        {"seed: {a: 1}\n", "bad.yml:1:7", "found a mapping"},
        {"seed:\n  nested: 1\n", "bad.yml:2:3", "found a mapping"},
        {"seed: [1, 2]\n", "bad.yml:1:7: seed: found a list", "one value"},
        {"model: [a]\n", "model: found a list", "one value"},
        {"layers: [[1], 2]\n", "bad.yml:1:10", "found a list"},
        {"layers: [1, {a: 2}]\n", "bad.yml:1:13", "found a mapping"},
        {"layers: [1, x]\n", "bad.yml:1:9", "layers: found 'x'"},
        {"layers: ['1,2']\n", "bad.yml:1:10", "without commas"},
        {"data: ['', a]\n", "bad.yml:1:8", "data: found ''"},
        {"seed: &a 1\n", "bad.yml:1:7", "anchor"},
        {"seed: 1\nlimit: *a\n", "bad.yml:2:8", "an alias"},
        {"seed: !!int 1\n", "bad.yml:1:7", "tag"},
        {"layers: &x [1]\n", "bad.yml:1:9", "anchor"},
        {"&x {seed: 1}\n", "bad.yml:1:1", "anchor"},
        {"seed:\n", "bad.yml:", "seed: found ''"},
        {"seed: ~\n", "bad.yml:1:7", "seed: found ''"},
        {"seed: .nan\n", "bad.yml:1:7", "seed: found '.nan'"},
        {"temperature: .inf\n", "bad.yml:1:14", "found '.inf'"},
        {"- 1\n- 2\n", "bad.yml:1:1", "found a list"},
        {"just words\n", "bad.yml:1:1", "found a plain value"},
        {"seed: 1\n---\nseed: 2\n", "bad.yml:2:1", "second document"},
        {"seed: 1\n...\n---\n", "bad.yml:3:1", "second document"},
        {"config: x.yml\n", "bad.yml:1:1", "config cannot be set in a file"},
        {"[a, b]: 1\n", "bad.yml:1:1", "found a list"},
        {"? {a: 1}\n: 2\n", "bad.yml:1:3", "found a mapping"},
        {"seed: 1\n\tlimit: 2\n", "bad.yml:2:", "->"},
        {"seed: 'open\n", "bad.yml:", "quoted scalar"},
        {"seed: \"\\q\"\n", "bad.yml:1:", "escape"},
        {"model: \"a\\0b\"\n", "bad.yml:1:8", "NUL"},
        {"seed 1\nlimit: 3\n", "bad.yml:", "->"},
        {"model: a\xFF\xFE\n", "bad.yml: byte 8", "UTF-8"},
        {"model: a\x01\n", "bad.yml: byte 8", "control characters"},
        {"raw: true\n", "bad.yml:1:1", "raw is an option of generate"},
        {"%YAML 9.9\n---\nseed: 1\n", "bad.yml:1:1", "->"},
        {"<<: {seed: 1}\n", "bad.yml:1:1", "no option '<<'"},
        {"seed: [", "bad.yml:1:7", "found a list"},
        {"layers: [[[[[[[[[[[[", "bad.yml:1:10", "found a list"},
    };
    char line[256];
    snprintf(line, sizeof line, "--model m --data d --config %s", test_path("bad.yml"));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Options o;
        Error err;
        test_write(test_path("bad.yml"), wrong[i].text);
        bool ok = test_options_call(&o, CMD_TRAIN, line, true, &err);
        CHECK(!ok && err.code == EXIT_USAGE, "%s gave %d", wrong[i].text, err.code);
        CHECK(strstr(err.text, wrong[i].word1) && strstr(err.text, wrong[i].word2), "%s says: %s", wrong[i].text,
              err.text);
        if (ok) options_free(&o);
    }
    // a good file with 1 to 4 bytes changed at random: right, or wrong with a code and the file's name
    const char *good = "model: m\ndata: [a, \"b\\u00E9\"]\nlayers: [1, 2]\nsetup: steering_layer\nseed: 3\n# "
                       "c\nsystem: 'x ''y'''\nbeta: 0.1\n";
    const char *bytes = "[]{},:#&*!|>'\"%@`-?~ \n\t0a\\\xC3\xFF\x01";
    uint32_t random = 1;
    int strange = 0;
    Options o;
    Error none;
    if (!CHECK(test_options_call(&o, CMD_TRAIN, "", false, &none), "%s", none.text)) return;
    for (int i = 0; i < 3000; i++) {
        char *text = xstrdup(good);
        size_t n = strlen(good);
        for (int k = i % 4; k >= 0; k--) {
            random = random * 1664525u + 1013904223u;
            text[(random >> 8) % n] = bytes[(random >> 24) % strlen(bytes)];
        }
        Error err = {0, ""};
        if (!options_yaml_text(&o, CMD_TRAIN, "bad.yml", text, n, &err) &&
            !(err.code == EXIT_USAGE && strstr(err.text, "bad.yml:")) && strange++ == 0)
            printf("%s\nsays: %s\n", text, err.text);
        free(text);
    }
    CHECK(strange == 0, "%d changed files without an error that names the place", strange);
    options_free(&o);
}

// ----------------------------------------------------------------------------
// the five printed forms of the table

// Another valid value for a row, as text.
void test_options_other(Str *out, const OptionRow *row, Command cmd) {
    const char *preset = options_preset(row, cmd);
    double x = preset ? strtod(preset, NULL) : 0;
    OptionRange r = options_range(row);
    char number[32];
    switch (row->type) {
    case OPTION_INT:
        x += 1;
        str_printf(out, "%.0f", options_in_range(&r, x) ? x : x - 2);
        break;
    case OPTION_REAL: str_printf(out, "%s", number_text(number, x * 0.7 + 1e-5 / 3)); break; // 17 digits
    case OPTION_FLAG: str_printf(out, "%s", *preset == 't' ? "false" : "true"); break;
    case OPTION_WORD: str_printf(out, "%s", strrchr(row->valid, '|') + 1); break;
    case OPTION_INTS: str_printf(out, "7,5,11"); break;
    default:
        str_printf(out, "%s: \"q\" \\ 'a'#-\xC3\xA9\xF0\x9F\x99\x82\xC2\x85\xE2\x80\xA8 ~ [x] & %%\n\ttail \x7F",
                   row->key);
    }
}

void test_options_round_trip(void) {
    for (int cmd = 1; cmd <= CMD_GRADE; cmd *= 2) {
        // every option at another value, by --key=value
        char *argv[OPTIONS_ROWS + 1];
        int argc = 1;
        argv[0] = (char *)"x";
        for (int i = 0; i < OPTIONS_ROWS; i++) {
            const OptionRow *row = &options_table[i];
            if (!(row->commands & cmd) || strcmp(row->key, "config") == 0) continue;
            Str argument = {0};
            str_printf(&argument, "--%s=", row->key);
            test_options_other(&argument, row, (Command)cmd);
            argv[argc++] = argument.s;
        }
        Options a, b, plain;
        Error err = {0, ""};
        Str yaml = {0}, again = {0};
        bool ok = CHECK(options_read(&a, (Command)cmd, argc, argv, &err), "command %d: %s", cmd, err.text);
        for (int i = 1; i < argc; i++) free(argv[i]);
        if (!ok) continue;
        CHECK(options_write_yaml(&a, (Command)cmd, &yaml), "command %d", cmd);
        test_write(test_path("resolved.yml"), yaml.s ? yaml.s : "");
        char line[256];
        snprintf(line, sizeof line, "--config %s", test_path("resolved.yml"));
        ok = CHECK(test_options_call(&b, (Command)cmd, line, false, &err), "command %d: %s in:\n%s", cmd, err.text,
                   yaml.s);
        if (ok && CHECK(test_options_call(&plain, (Command)cmd, "", false, &err), "%s", err.text)) {
            for (int i = 0; i < OPTIONS_ROWS; i++) {
                const OptionRow *row = &options_table[i];
                if (!(row->commands & cmd) || strcmp(row->key, "config") == 0) continue;
                const void *fa = (char *)&a + row->offset, *fb = (char *)&b + row->offset,
                           *fp = (char *)&plain + row->offset;
                bool same, moved = true;
                if (row->type == OPTION_INT) {
                    same = *(int *)fa == *(int *)fb;
                    moved = *(int *)fa != *(int *)fp;
                } else if (row->type == OPTION_REAL) {
                    same = *(double *)fa == *(double *)fb;
                    moved = *(double *)fa != *(double *)fp;
                } else if (row->type == OPTION_FLAG) {
                    same = *(bool *)fa == *(bool *)fb;
                    moved = *(bool *)fa != *(bool *)fp;
                } else if (row->type == OPTION_INTS) {
                    const IntList *la = (const IntList *)fa, *lb = (const IntList *)fb;
                    same = la->n == 3 && lb->n == 3 && memcmp(la->v, lb->v, 3 * sizeof(int)) == 0;
                } else {
                    same = strcmp(*(char **)fa, *(char **)fb) == 0;
                    moved = strcmp(*(char **)fa, *(char **)fp) != 0;
                }
                CHECK(same && moved, "command %d: %s does not come back from config.yml", cmd, row->key);
            }
            options_free(&plain);
        }
        if (ok) {
            CHECK(options_write_yaml(&b, (Command)cmd, &again) && (!yaml.s || strcmp(yaml.s, again.s) == 0),
                  "written twice, command %d", cmd);
            options_free(&b);
        }
        options_free(&a);
        str_free(&yaml);
        str_free(&again);
    }
}

void test_options_printed_forms(void) {
    char *markdown = test_options_printed(2, NULL, CMD_ALL);
    for (int cmd = 1; cmd <= CMD_GRADE; cmd *= 2) {
        Options o;
        Error err;
        if (!CHECK(test_options_call(&o, (Command)cmd, "", false, &err), "%s", err.text)) continue;
        Str yaml = {0};
        options_write_yaml(&o, (Command)cmd, &yaml);
        str_printf(&yaml, "\n");
        char *help = test_options_printed(0, &o, (Command)cmd), *header = test_options_printed(1, &o, (Command)cmd);
        for (int i = 0; i < OPTIONS_ROWS; i++) {
            const OptionRow *row = &options_table[i];
            if (row->type == OPTION_GROUP) continue;
            bool known = (row->commands & cmd) != 0, config = strcmp(row->key, "config") == 0;
            char in_help[64], in_header[64], in_yaml[64], in_page[64];
            snprintf(in_help, sizeof in_help, "\n  --%s ", row->key);
            snprintf(in_header, sizeof in_header, "| %-28s |", row->key);
            snprintf(in_yaml, sizeof in_yaml, "\n%s: ", row->key);
            snprintf(in_page, sizeof in_page, "\n| `%s` | ", row->key);
            CHECK((strstr(help, in_help) != NULL) == known, "%s in --help of command %d", row->key, cmd);
            CHECK((strstr(header, in_header) != NULL) == known, "%s in the run header of command %d", row->key, cmd);
            CHECK((yaml.s && strstr(yaml.s, in_yaml) != NULL) == (known && !config), "%s in config.yml of command %d",
                  row->key, cmd);
            CHECK(strstr(markdown, in_page) && strstr(markdown, row->meaning), "%s in dev/doc/options.md", row->key);
        }
        for (char *l = help; l && *l; l += strcspn(l, "\n") + 1)
            CHECK(strcspn(l, "\n") <= OPTIONS_HELP_WIDTH, "help is too wide: %.40s", l);
        free(help);
        free(header);
        str_free(&yaml);
        options_free(&o);
    }
    if (!path_exists("README.md")) SKIP("dev/doc/options.md against the options table: no README.md here");
    else {
        char *page = read_file("dev/doc/options.md", NULL, NULL);
        const bool same = page && strcmp(page, markdown) == 0;
        if (!same) write_file("build/options.md", markdown, strlen(markdown), NULL);
        CHECK(same, "dev/doc/options.md is stale: cp build/options.md dev/doc/options.md");
        free(page);
    }
    free(markdown);
}

void test_options_numbers(void) {
    char text[32];
    CHECK(strcmp(number_text(text, 0.1), "0.1") == 0 && strcmp(number_text(text, 1e-3), "0.001") == 0 &&
              strcmp(number_text(text, 64), "64") == 0 && strcmp(number_text(text, -400), "-400") == 0,
          "the shortest text, not %s", text);
    uint64_t random = 88172645463325252u;
    int wrong = 0;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        double x;
        memcpy(&x, &random, 8);
        if (isfinite(x) && !(strtod(number_text(text, x), NULL) == x)) wrong++;
    }
    CHECK(wrong == 0, "%d numbers did not come back", wrong);
}

void test_options(void) {
    test_options_table();
    test_options_sources();
    test_options_wrong_calls();
    test_options_wrong_yaml();
    test_options_round_trip();
    test_options_printed_forms();
    test_options_numbers();
}

#endif
