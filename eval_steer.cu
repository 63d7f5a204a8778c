/*
steer.c, everything that runs a model without training it:

    eval       answer benchmarks and count: accuracy with its interval, format and truncation rate
    generate   answer one prompt or many
    score      log-probs and entropies of given completions
    tokenize   text <-> token ids
    grade      verdicts on given answers, no model needed
    bench      how fast each phase runs here, against this machine's limits
    experiment one of the papers' experiments, by name
    export     the vectors for transformers, vLLM, PEFT or llama.cpp

Each command is one function below; `main`, at the end, lists them. --json: one object a line on stdout.
*/
#include "llmc/eval/eval.h"               // bench_run, Benchmarks, benchmarks_answer, grade_file, Session
#include "llmc/experiments/experiments.h" // experiments_find
#include "llmc/files/export.h"            // export_run
#include "llmc/grpo.h"                    // policy_pass: log-probs of given completions
#include "llmc/options/options.h"         // Options, options_parse

// ----------------------------------------------------------------------------
// eval

// What stands after the first part `.` or `..` of a path; NULL if there is none.
const char *eval_after_dots(const char *path) {
    while (*path) {
        const size_t n = strcspn(path, "/");
        const char *next = path + n + (path[n] == '/');
        if ((n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.')) return next;
        path = next;
    }
    return NULL;
}

// results/eval/<stem>: the stem is the checkpoint's last five folders
// (<Model>/<dataset>/<setup>/seed-<s>/checkpoint-<n>), <Model>/<file> for --steering, <Model>/base for the base model.
// A checkpoint's folders end at a `..`: results stay below results/.
char *eval_results_dir(const Session *s) {
    const Options *o = &s->options;
    Str dir = {0};
    str_printf(&dir, "%s/eval/", o->results_dir);
    if (*o->checkpoint) {
        const char *stem = o->checkpoint + strlen(o->checkpoint);
        while (stem > o->checkpoint && stem[-1] == '/') stem--;
        size_t end = (size_t)(stem - o->checkpoint);
        int parts = 0;
        while (stem > o->checkpoint && !(stem[-1] == '/' && ++parts == 5)) stem--;
        for (const char *up; (up = eval_after_dots(stem)) != NULL;) stem = up;
        const size_t n = end > (size_t)(stem - o->checkpoint) ? end - (size_t)(stem - o->checkpoint) : 0;
        str_add(&dir, n ? stem : "checkpoint", n ? n : 10);
    } else if (*o->steering) {
        char *file = path_basename(o->steering);
        str_printf(&dir, "%s/%s", s->model_name, file);
        free(file);
    } else {
        str_printf(&dir, "%s/base", s->model_name);
    }
    return dir.s;
}

bool command_eval(Session *s, Error *err) {
    Benchmarks b;
    if (!session_tokenizer(s, err) || !benchmarks_load(&b, s, err) ||
        !session_sampler(s, b.longest + b.max_new, false, err))
        return false;
    char *dir = eval_results_dir(s);
    install_signal_handlers();
    cJSON *made = made_with(s, CMD_EVAL, err);
    bool ok = made && benchmarks_answer(s, &b, s->steering, made, dir, "", err);
    cJSON_Delete(made);
    if (ok && !s->options.json) printf("saved %s\n", dir);
    benchmarks_free(&b);
    free(dir);
    return ok;
}

// ----------------------------------------------------------------------------
// experiment

bool command_experiment(Session *s, Error *err) { return s->experiment->run(s, err); }

// ----------------------------------------------------------------------------
// generate

// The prompts of --prompt, of --prompts (JSONL with the key problem, else one a line), or of stdin. texts[n]: free
// each.
bool generate_read(const Options *o, char ***texts, int *n, Error *err) {
    *n = 0;
    *texts = NULL;
    if (*o->prompt) {
        *texts = (char **)xmalloc(sizeof(char *));
        (*texts)[(*n)++] = xstrdup(o->prompt);
        return true;
    }
    const char *path = *o->prompts ? o->prompts : "-";
    char *file = read_file(path, NULL, err);
    if (!file) return false;
    if (strcmp(path, "-") == 0) path = "stdin";
    bool ok = true;
    int number = 0;
    for (char *rest = file, *line; ok && (line = strsep(&rest, "\n")) != NULL;) {
        number++;
        if (!*line) continue;
        *texts = (char **)xrealloc(*texts, (size_t)(*n + 1) * sizeof(char *));
        if (*line != '{') {
            (*texts)[(*n)++] = xstrdup(line);
            continue;
        }
        char what[512];
        snprintf(what, sizeof what, "%s:%d", path, number);
        cJSON *object = json_parse(line, strlen(line), what, err);
        const char *problem = NULL;
        ok = object && json_get_string(object, "problem", &problem, what, err);
        if (ok) (*texts)[(*n)++] = xstrdup(problem);
        cJSON_Delete(object);
    }
    free(file);
    if (ok && *n == 0) ok = fail(err, EXIT_RUN, "%s: no prompt found\n  -> --prompt TEXT, or one prompt a line", path);
    return ok;
}

void generate_print(const Session *s, const char *prompt, int sample, const Completion *c, Str *text) {
    text->n = 0;
    tokenizer_decode(s->tokenizer, text, c->ids, c->n, true);
    if (!s->options.json) {
        printf("%s%s\n", text->s ? text->s : "", c->finished ? "" : " [cut at max_completion_length]");
        return;
    }
    Str line = {0};
    str_printf(&line, "{\"prompt\": ");
    json_add_string(&line, prompt, strlen(prompt));
    str_printf(&line, ", \"sample\": %d, \"completion\": ", sample);
    json_add_string(&line, text->s ? text->s : "", text->n);
    str_printf(&line, ", \"finished\": %s, \"ids\": [", c->finished ? "true" : "false");
    for (int i = 0; i < c->n; i++) str_printf(&line, "%s%d", i ? ", " : "", c->ids[i]);
    str_printf(&line, "], \"logprobs\": [");
    for (int i = 0; i < c->n; i++) str_printf(&line, "%s%.9g", i ? ", " : "", (double)c->logprob[i]);
    printf("%s]}\n", line.s);
    str_free(&line);
}

bool command_generate(Session *s, Error *err) {
    const Options *o = &s->options;
    char **texts;
    int n, G = o->num_generations, longest = 0;
    if (!session_tokenizer(s, err) || !generate_read(o, &texts, &n, err)) return false;
    Dataset d; // prompts_encode works on problems
    memset(&d, 0, sizeof d);
    d.n = n;
    d.items = (Problem *)xcalloc((size_t)n, sizeof(Problem));
    char unnamed[] = "prompt";
    for (int i = 0; i < n; i++) {
        d.items[i].problem = texts[i];
        d.items[i].id = unnamed;
    }
    IntVec *prompts;
    if (!prompts_encode(&prompts, &longest, s->tokenizer, &d, o->raw ? "raw" : o->prompt_template, o->system, err))
        return false;
    const int slots = o->rollout_batch_size < n * G ? o->rollout_batch_size : n * G;
    s->work.slots = slots;
    s->work.max_prompt = longest;
    s->work.max_new = o->max_completion_length;
    s->work.answer_tokens = (double)n * G * o->max_completion_length;
    if (!session_sampler(s, longest + o->max_completion_length, o->raw, err)) return false;

    install_signal_handlers();
    Rollout r;
    rollout_alloc(&r, &s->model, slots, 0, longest, o->max_completion_length);
    RolloutPrompt *asked = (RolloutPrompt *)xcalloc((size_t)n, sizeof(RolloutPrompt));
    Completion *completions = (Completion *)xcalloc((size_t)n * G, sizeof(Completion));
    for (int i = 0; i < n; i++) {
        asked[i].prompt = prompts[i].v;
        asked[i].P = prompts[i].n;
        asked[i].key = (uint32_t)i;
        asked[i].completions = completions + (size_t)i * G;
    }
    Sampling sampling = session_sampling(o);
    Progress progress;
    progress_begin(&progress, "answer", 0, (int64_t)n * G);
    bool ok = rollout(&r, &s->model, s->steering, asked, n, G, &sampling, evaluation_progress, &progress, err);
    progress_clear(&progress);
    Str text = {0};
    for (int i = 0; i < n && ok; i++)
        for (int g = 0; g < G; g++) generate_print(s, texts[i], g, &completions[(size_t)i * G + g], &text);
    for (int i = 0; i < n * G; i++) completion_free(&completions[i]);
    for (int i = 0; i < n; i++) free(texts[i]);
    free(texts);
    free(d.items);
    free(asked);
    free(completions);
    str_free(&text);
    prompts_free(prompts, n);
    rollout_free(&r, &s->model);
    return ok;
}

// ----------------------------------------------------------------------------
// score

typedef struct {
    IntVec prompt, ids;
    Completion completion;
    float *out;
} ScoreLine;

bool score_read_ids(IntVec *ids, const cJSON *object, const char *ids_key, const char *text_key, Tokenizer *tokenizer,
                    const char *what, Error *err) {
    if (json_has(object, text_key) && !json_has(object, ids_key)) {
        Str text = {0};
        bool ok = json_get_text(object, text_key, &text, what, err) &&
                  tokenizer_encode(tokenizer, ids, text.s ? text.s : "", text.n, err);
        str_free(&text);
        return ok;
    }
    const cJSON *array = json_get_array(object, ids_key, what, err);
    if (!array) return false;
    for (const cJSON *item = array->child; item; item = item->next) {
        if (!cJSON_IsNumber(item) || item->valuedouble != (double)item->valueint || item->valueint < 0)
            return fail(err, EXIT_RUN,
                        "%s: %s: found something other than a token id at place %d, expected whole numbers from 0",
                        what, ids_key, ids->n);
        ints_push(ids, item->valueint);
    }
    return true;
}

bool score_read(Session *s, ScoreLine **lines, int *n, int *longest, Error *err) {
    char *file = read_file("-", NULL, err);
    if (!file) return false;
    bool ok = true;
    int number = 0;
    *lines = NULL;
    *n = *longest = 0;
    for (char *rest = file, *line; ok && (line = strsep(&rest, "\n")) != NULL;) {
        number++;
        if (!*line) continue;
        char what[64];
        snprintf(what, sizeof what, "stdin:%d", number);
        *lines = (ScoreLine *)xrealloc(*lines, (size_t)(*n + 1) * sizeof(ScoreLine));
        ScoreLine *l = &(*lines)[(*n)++];
        memset(l, 0, sizeof *l);
        cJSON *object = json_parse(line, strlen(line), what, err);
        ok = object && score_read_ids(&l->prompt, object, "prompt_ids", "prompt", s->tokenizer, what, err) &&
             score_read_ids(&l->ids, object, "completion_ids", "completion", s->tokenizer, what, err);
        cJSON_Delete(object);
        if (ok && (l->prompt.n == 0 || l->ids.n == 0))
            ok = fail(err, EXIT_RUN, "%s: found %d prompt and %d completion tokens, expected at least one of each",
                      what, l->prompt.n, l->ids.n);
        if (ok && l->prompt.n + l->ids.n > *longest) *longest = l->prompt.n + l->ids.n;
    }
    free(file);
    return ok;
}

bool score_check_ids(const ScoreLine *l, int number, int V, Error *err) {
    for (int i = 0; i < l->prompt.n + l->ids.n; i++) {
        int id = i < l->prompt.n ? l->prompt.v[i] : l->ids.v[i - l->prompt.n];
        if (id >= V)
            return fail(err, EXIT_RUN, "stdin, object %d: found token id %d, expected 0 to %d (vocab_size - 1)", number,
                        id, V - 1);
    }
    return true;
}

void score_print(const float *values, int n) {
    for (int i = 0; i < n; i++) printf("%s%.9g", i ? ", " : "", (double)values[i]);
}

bool command_score(Session *s, Error *err) {
    const Options *o = &s->options;
    ScoreLine *lines;
    int n, longest;
    if (!session_tokenizer(s, err) || !score_read(s, &lines, &n, &longest, err)) return false;
    s->work.longest = longest;
    s->work.samples = n;
    s->work.pass_bytes = o->activation_memory * (1 << 30);
    for (int i = 0; i < n; i++) s->work.pass_tokens += lines[i].prompt.n + lines[i].ids.n;
    if (!session_model(s, longest, err)) return false;
    PolicySample *samples = (PolicySample *)xcalloc((size_t)n, sizeof(PolicySample));
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        ScoreLine *l = &lines[i];
        ok = score_check_ids(l, i + 1, s->model.config.V, err);
        l->completion.ids = l->ids.v;
        l->completion.n = l->ids.n;
        l->out = (float *)xmalloc(2 * (size_t)l->ids.n * sizeof(float));
        samples[i].prompt = l->prompt.v;
        samples[i].P = l->prompt.n;
        samples[i].group = i;
        samples[i].completion = &l->completion;
        samples[i].logprob = l->out;
        samples[i].entropy = l->out + l->ids.n;
    }
    PolicyPass pass;
    PolicyStats stats;
    LossConfig loss_config = {0.2f, 0.2f, 0, (float)o->temperature, false, 0};
    memset(&stats, 0, sizeof stats);
    policy_alloc(&pass, &s->model, o->activation_memory * (1 << 30), longest, s->model.config.L, false);
    ok = ok && policy_pass(&pass, &s->model, s->steering, samples, n, &loss_config, NULL, NULL, &stats, err);
    for (int i = 0; i < n; i++) {
        if (ok) {
            printf("{\"logprobs\": [");
            score_print(samples[i].logprob, lines[i].ids.n);
            printf("], \"entropy\": [");
            score_print(samples[i].entropy, lines[i].ids.n);
            printf("]}\n");
        }
        ints_free(&lines[i].prompt);
        ints_free(&lines[i].ids);
        free(lines[i].out);
    }
    if (ok)
        fprintf(stderr, "%lld tokens scored, %lld rows, %.0f rows/s\n", stats.tokens, stats.rows,
                stats.forward_s > 0 ? stats.rows / stats.forward_s : 0);
    free(lines);
    free(samples);
    policy_free(&pass, &s->model);
    return ok;
}

// ----------------------------------------------------------------------------
// tokenize

bool command_tokenize(Session *s, Error *err) {
    if (!session_tokenizer(s, err)) return false;
    char *line = NULL;
    size_t cap = 0;
    ssize_t got;
    bool ok = true;
    IntVec ids = {0};
    Str text = {0}, out = {0};
    for (int number = 1; ok && (got = getline(&line, &cap, stdin)) > 0; number++) {
        char what[64];
        snprintf(what, sizeof what, "stdin:%d", number);
        while (got > 0 && (line[got - 1] == '\n' || line[got - 1] == '\r')) line[--got] = 0;
        if (got == 0) continue;
        cJSON *object = json_parse(line, (size_t)got, what, err);
        ids.n = 0;
        text.n = out.n = 0;
        if (s->options.decode) {
            ok = object && score_read_ids(&ids, object, "ids", "", s->tokenizer, what, err);
            if (ok) tokenizer_decode(s->tokenizer, &text, ids.v, ids.n, false);
            str_printf(&out, "{\"text\": ");
            json_add_string(&out, text.s ? text.s : "", text.n);
        } else {
            ok = object && json_get_text(object, "text", &text, what, err) &&
                 tokenizer_encode(s->tokenizer, &ids, text.s ? text.s : "", text.n, err);
            str_printf(&out, "{\"ids\": [");
            for (int i = 0; i < ids.n; i++) str_printf(&out, "%s%d", i ? ", " : "", ids.v[i]);
            str_printf(&out, "]");
        }
        cJSON_Delete(object);
        if (ok) printf("%s}\n", out.s);
    }
    free(line);
    ints_free(&ids);
    str_free(&text);
    str_free(&out);
    return ok;
}

// ----------------------------------------------------------------------------
// export, grade, bench

bool command_export(Session *s, Error *err) { return export_run(&s->options, err); }

bool command_grade(Session *s, Error *err) { return grade_stdin(s->options.json, err); }

bool command_bench(Session *s, Error *err) {
    const Options *o = &s->options;
    int slots = 0;
    for (int i = 0; i < o->batch.n; i++)
        if (o->batch.v[i] > slots) slots = o->batch.v[i];
    const bool pass =
        strcmp(o->phase, "all") == 0 || strcmp(o->phase, "forward_backward") == 0 || strcmp(o->phase, "grpo_step") == 0;
    s->work.slots = slots;
    s->work.max_prompt = o->prompt_length;
    s->work.max_new = o->new_tokens + 1;
    s->work.longest = pass ? bench_positions(o) : 0;
    s->work.samples = BENCH_PROMPTS * BENCH_SAMPLES;
    s->work.pass_bytes = o->activation_memory * (1 << 30);
    s->work.pass_tokens = (double)s->work.samples * bench_positions(o);
    s->work.backward = true;
    return session_model(s, bench_positions(o), err) && bench_run(&s->model, s->steering, o, err);
}

// ----------------------------------------------------------------------------

int main(int argc, char **argv) {
    const struct {
        const char *name;
        Command command;
        bool (*run)(Session *, Error *);
        const char *usage;
    } commands[] = {
        {"eval", CMD_EVAL, command_eval,
         "usage: ./eval_steer eval --config FILE.yml [--checkpoint DIR] [--option value ...]\nAnswers benchmarks and "
         "counts.\n"},
        {"generate", CMD_GENERATE, command_generate,
         "usage: ./eval_steer generate --model DIR --prompt TEXT [--option value ...]\nAnswers one prompt, or one a "
         "line.\n"},
        {"score", CMD_SCORE, command_score,
         "usage: ./eval_steer score --model DIR [--option value ...] < LINES\n"
         "Each line {\"prompt_ids\": [...], \"completion_ids\": [...]} or {\"prompt\": \"...\", \"completion\": "
         "\"...\"}\ngives {\"logprobs\": [...], \"entropy\": [...]}, in nats.\n"},
        {"tokenize", CMD_TOKENIZE, command_tokenize,
         "usage: ./eval_steer tokenize --model DIR [--decode] < LINES\n{\"text\": \"...\"} gives {\"ids\": [...]}, "
         "with --decode the reverse.\n"},
        {"grade", CMD_GRADE, command_grade,
         "usage: ./eval_steer grade [--json] < LINES\nEach line {\"gold\": \"1/2\", \"pred\": \"0.5\"} or {\"gold\": "
         "\"1/2\", \"completion\": \"...\"}, perhaps with a label \"equal\",\n"
         "or a line that eval wrote. Prints a table and each verdict that is not the label. Of problems, {\"problem\": "
         "\"...\", \"answer\": \"1/2\"}, it says\n"
         "whether a boxed answer can ever match each, and how many are read as mathematics.\n"},
        {"experiment", CMD_EXPERIMENT, command_experiment, ""},
        {"export", CMD_EXPORT, command_export,
         "usage: ./eval_steer export --format hf|peft|gguf|safetensors --model DIR --checkpoint DIR --out DIR\nWrites "
         "the vectors for transformers and vLLM (hf), PEFT or llama.cpp; of a LoRA the adapter (peft) or a model with "
         "it in its weights (hf).\n"},
        {"bench", CMD_BENCH, command_bench,
         "usage: ./eval_steer bench --model DIR [--batch 1,32,64] [--option value ...]\nTokens per second of each "
         "phase, against this machine's limits.\n"},
    };
    const int n = (int)(sizeof commands / sizeof commands[0]);
    Error err = {0, ""};
    int chosen = -1;
    for (int i = 0; i < n && argc > 1; i++)
        if (strcmp(argv[1], commands[i].name) == 0) chosen = i;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        print_version("eval_steer");
        if (!check_stdout(&err)) die(&err);
        return 0;
    }
    if (chosen < 0) {
        bool help = argc > 1 && strcmp(argv[1], "--help") == 0;
        FILE *f = help ? stdout : stderr;
        if (argc > 1 && !help) fprintf(f, "error: there is no command \"%s\"\n", argv[1]);
        fprintf(f, "usage: ./eval_steer COMMAND [--option value ...]    (./eval_steer COMMAND --help lists its "
                   "options)\ncommands:");
        for (int i = 0; i < n; i++) fprintf(f, " %s", commands[i].name);
        fprintf(f, "\n");
        if (!check_stdout(&err)) die(&err);
        return help ? 0 : EXIT_USAGE;
    }
    argc--;
    argv++;
    Session s;
    memset(&s, 0, sizeof s);
    Str usage = {0};
    str_printf(&usage, "%s", commands[chosen].usage);
    if (commands[chosen].command == CMD_EXPERIMENT) { // the next word is its name
        if (!experiments_find(&s.experiment, &usage, argc > 1 ? argv[1] : "", &err)) die(&err);
        if (s.experiment) {
            argc--;
            argv++;
        }
    }
    if (options_wants_help(argc, argv)) {
        options_help(stdout, commands[chosen].command, usage.s);
        if (!check_stdout(&err)) die(&err);
        return 0;
    }
    str_free(&usage);
    if (!options_parse(&s.options, commands[chosen].command, argc, argv, &err)) die(&err);
    if (!commands[chosen].run(&s, &err)) die(&err);
    if (!check_stdout(&err)) die(&err);
    session_free(&s);
    return 0;
}
