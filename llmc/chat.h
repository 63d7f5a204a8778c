/*
Prompts: how a problem is put to the model. The texts are those the papers' code uses, byte for byte.

| name            | source |
|-----------------|--------|
| qwen25-math-cot | Qwen2.5-Math evaluation/utils.py; understand-r1-zero train_zero_math.py ("qwen_math") |
| qwen-boxed      | Qwen2.5-Math evaluation/utils.py; simpleRL-reason, same file name |
| r1              | understand-r1-zero train_zero_math.py ("r1") |
| raw             | the problem alone |
*/
#ifndef LLMC_CHAT_H
#define LLMC_CHAT_H

#include "llmc/utils/utils.h" // Str, Error, fail

typedef struct {
    const char *name;
    const char *system;        // NULL: the template has no system turn
    const char *before_system; // before_system system after_system problem after_problem
    const char *after_system;
    const char *after_problem;
} ChatTemplate;

static const ChatTemplate chat_templates[] = {
    {"qwen25-math-cot", "Please reason step by step, and put your final answer within \\boxed{}.",
     "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"},
    {"qwen-boxed", "You are a helpful assistant.", "<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n",
     "\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"},
    {"r1", NULL, "",
     "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
     "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
     "process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, respectively, "
     "i.e., <think> reasoning process here </think> <answer> answer here </answer>.\nUser: ",
     "\nAssistant: <think>"},
    {"raw", NULL, "", "", ""},
};

#define CHAT_TEMPLATES ((int)(sizeof chat_templates / sizeof chat_templates[0]))

// The template of that name; NULL and err (with the nearest name) if there is none.
const ChatTemplate *chat_find(const char *name, Error *err) {
    const ChatTemplate *nearest = &chat_templates[0];
    for (int i = 0; i < CHAT_TEMPLATES; i++) {
        if (strcmp(name, chat_templates[i].name) == 0) return &chat_templates[i];
        if (edit_distance(name, chat_templates[i].name) < edit_distance(name, nearest->name))
            nearest = &chat_templates[i];
    }
    fail(err, EXIT_USAGE,
         "unknown chat template \"%.60s\", expected qwen25-math-cot, qwen-boxed, r1 or raw\n  -> did you mean %s?",
         name, nearest->name);
    return NULL;
}

// Appends what a given solution looks like as a completion of the template's prompt, for cross-entropy (its end-of-text
// token not included): the text without calculator marks <<...>> and without a last line "#### answer", and, where it
// has no \boxed{}, a line with the answer in one; r1: in its tags.
bool chat_solution(Str *out, const char *template_name, const char *solution, const char *answer, Error *err) {
    if (!chat_find(template_name, err)) return false;
    const size_t start = out->n;
    const char *marks = strstr(solution, "\n####"),
               *end = marks && !strchr(marks + 1, '\n') ? marks : solution + strlen(solution);
    const bool tags = strcmp(template_name, "r1") == 0;
    if (tags) str_add(out, " ", 1);
    for (const char *s = solution; s < end;) {
        const char *open = strstr(s, "<<"), *close = open ? strstr(open, ">>") : NULL,
                   *upto = close && close < end ? open : end;
        str_add(out, s, (size_t)(upto - s));
        s = upto == end ? end : close + 2;
    }
    str_reserve(out, 1);
    out->s[out->n] = 0;
    const bool boxed = strstr(out->s + start, "\\boxed{") != NULL;
    if (tags) str_printf(out, " </think> <answer> \\boxed{%s} </answer>", answer);
    else if (!boxed) str_printf(out, "\n\\boxed{%s}", answer);
    return true;
}

// Appends the whole prompt for a problem. system: "" for the template's own; for a template without a system turn
// anything else is an error.
bool chat_format(Str *out, const char *template_name, const char *system, const char *problem, Error *err) {
    const ChatTemplate *t = chat_find(template_name, err);
    if (!t) return false;
    if (system[0] && !t->system)
        return fail(err, EXIT_USAGE,
                    "the chat template %s has no system turn, found system \"%.60s\"\n  -> leave system empty or "
                    "choose qwen25-math-cot",
                    t->name, system);
    const char *parts[] = {t->before_system,
                           system[0]   ? system
                           : t->system ? t->system
                                       : "",
                           t->after_system, problem, t->after_problem};
    for (int i = 0; i < 5; i++) str_add(out, parts[i], strlen(parts[i]));
    return true;
}

#endif
