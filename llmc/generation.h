/*
What a model's folder says of how it is to be prompted and sampled, where that is not what happens here: said once, when
the model has been loaded.

    generation_config.json                            repetition_penalty and other settings that transformers applies
                                                      even to greedy decoding
    tokenizer_config.json, chat_template.jinja        a chat template that opens the answer otherwise than the prompt
                                                      used (llmc/chat.h) ends
    a GGUF file                                       the same template, in the key tokenizer.chat_template
    config.json, generation_config.json               an end of turn of that prompt that ends no completion: option stop
                                                      makes it one
*/
#ifndef LLMC_GENERATION_H
#define LLMC_GENERATION_H

#include "llmc/chat.h"                // chat_find
#include "llmc/files/files.h"         // json_load, cJSON
#include "llmc/model_config.h"        // ModelConfig, model_path
#include "llmc/rollout.h"             // is_eos
#include "llmc/tokenizer/tokenizer.h" // Tokenizer, tokenizer_id

// Option stop: each of these tokens ends a completion as the model's own ends do.
bool generation_stop(ModelConfig *c, const Tokenizer *t, const char *tokens, Error *err) {
    char *copy = xstrdup(tokens), *rest = copy, *name;
    bool ok = true;
    while (ok && *tokens && (name = strsep(&rest, ",")) != NULL) {
        const int id = tokenizer_id(t, name);
        if (id < 0)
            ok = fail(err, EXIT_USAGE,
                      "stop: found \"%.60s\", expected one token of the model's tokenizer\n  -> ./eval_steer tokenize "
                      "shows how a text is "
                      "divided",
                      name);
        else if (!is_eos(c, id)) ints_push(&c->eos, id);
    }
    free(copy);
    return ok;
}

// Settings of generation_config.json that change what greedy decoding gives in transformers, and here do nothing.
void generation_note_settings(const char *dir) {
    static const struct {
        const char *key;
        double neutral;
    } keys[] = {{"repetition_penalty", 1},
                {"no_repeat_ngram_size", 0},
                {"min_length", 0},
                {"min_new_tokens", 0},
                {"num_beams", 1},
                {"guidance_scale", 1},
                {"bad_words_ids", 0},
                {"suppress_tokens", 0},
                {"begin_suppress_tokens", 0},
                {"forced_bos_token_id", -1},
                {"forced_eos_token_id", -1},
                {"sequence_bias", 0},
                {"exponential_decay_length_penalty", 0},
                {"stop_strings", 0},
                {"watermarking_config", 0},
                {"token_healing", 0}};
    char *path = model_path(dir, "generation_config.json");
    cJSON *root = path_exists(path) ? json_load(path, NULL) : NULL;
    Str said = {0};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const cJSON *item = json_find(root, keys[i].key);
        if (!item || cJSON_IsFalse(item) || (cJSON_IsNumber(item) && item->valuedouble == keys[i].neutral) ||
            ((cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child))
            continue;
        str_printf(&said, "%s%s", said.n ? ", " : "", keys[i].key);
        if (cJSON_IsNumber(item)) str_printf(&said, " %g", item->valuedouble);
    }
    if (said.n)
        warn("%s: %s: not applied here; transformers applies it, even to greedy decoding (temperature 0)", path,
             said.s);
    str_free(&said);
    cJSON_Delete(root);
    free(path);
}

// The model's chat template: of a GGUF file the key tokenizer.chat_template; of a folder chat_template.jinja, else what
// tokenizer_config.json has, of several the one called default. NULL if there is none. Free with free().
char *generation_chat_template(const char *dir) {
    Gguf g;
    if (gguf_is_file(dir)) {
        char *of_key = NULL;
        if (!gguf_open(&g, dir, NULL)) return NULL;
        gguf_get_string(&g, "tokenizer.chat_template", &of_key, NULL);
        gguf_close(&g);
        return of_key;
    }
    char *path = model_path(dir, "chat_template.jinja"), *text = path_exists(path) ? read_file(path, NULL, NULL) : NULL;
    free(path);
    if (text) return text;
    path = model_path(dir, "tokenizer_config.json");
    cJSON *root = path_exists(path) ? json_load(path, NULL) : NULL;
    const cJSON *item = json_find(root, "chat_template");
    const char *found = cJSON_GetStringValue(item);
    for (const cJSON *one = cJSON_IsArray(item) ? item->child : NULL; one && !found; one = one->next) {
        const char *name = cJSON_GetStringValue(json_find(one, "name"));
        if (name && strcmp(name, "default") == 0) found = cJSON_GetStringValue(json_find(one, "template"));
    }
    if (found) text = xstrdup(found);
    cJSON_Delete(root);
    free(path);
    return text;
}

// What a Jinja chat template writes last, where the answer begins: the text, or the first string, after its last {% if
// add_generation_prompt %}; appended without spaces at its end. Nothing if it is written in another way.
void generation_opening(Str *out, const char *jinja) {
    const char *s = NULL;
    for (const char *next = jinja; (next = strstr(next, "add_generation_prompt")) != NULL; next++) s = next;
    if (!s || (s = strstr(s, "%}")) == NULL) return;
    for (s += 2; *s == ' ' || *s == '\n'; s++) {}
    const bool expression = strncmp(s, "{{", 2) == 0;
    if (expression && (s += strcspn(s, "'\"}"), *s != '\'' && *s != '"')) return;
    const char quote = expression ? *s++ : '{';
    for (; *s && *s != quote; s++) {
        char c = *s;
        if (expression && c == '\\' && s[1]) {
            c = *++s;
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        str_add(out, &c, 1);
    }
    while (out->n > 0 && (out->s[out->n - 1] == '\n' || out->s[out->n - 1] == ' ')) out->s[--out->n] = 0;
}

// The prompt of this template, against the model's own and against what ends a completion.
void generation_note_prompt(const char *dir, const Tokenizer *t, const ModelConfig *c, const char *template_name) {
    const ChatTemplate *used = chat_find(template_name, NULL);
    char *jinja = generation_chat_template(dir);
    Str own = {0}, ours = {0};
    if (jinja) generation_opening(&own, jinja);
    str_printf(&ours, "%s", used->after_problem);
    while (ours.n > 0 && ours.s[ours.n - 1] == '\n') ours.s[--ours.n] = 0;
    if (own.n && !(ours.n >= own.n && strcmp(ours.s + ours.n - own.n, own.s) == 0)) {
        Str quoted = {0}; // a file's text on a terminal
        json_add_string(&quoted, own.s, own.n);
        warn("%s: the model's chat template opens an answer by %.200s; the prompts here are those of prompt_template "
             "%s, another form",
             dir, quoted.s, used->name);
        str_free(&quoted);
    } else if (jinja && !own.n)
        warn("%s: the model has a chat template, which is not used; the prompts here are those of prompt_template %s",
             dir, used->name);
    const char *turn = "<|im_end|>";
    if (used->after_system && strstr(used->after_system, turn)) {
        const int id = tokenizer_id(t, turn);
        if (id < 0) warn("%s: %s of prompt_template %s is no token of this model", dir, turn, used->name);
        else if (!is_eos(c, id))
            warn("%s: %s ends a turn of prompt_template %s, but no completion of this model: what it writes after it "
                 "counts\n  -> --stop "
                 "'%s'",
                 dir, turn, used->name, turn);
    }
    str_free(&own);
    str_free(&ours);
    free(jinja);
}

// All of it, for a loaded model: its own ends and those of option stop, and what there is to say. raw: the prompts are
// the user's texts.
bool generation_begin(ModelConfig *c, const Tokenizer *t, const char *dir, const char *stop, const char *template_name,
                      bool raw, Error *err) {
    if (!generation_stop(c, t, stop, err)) return false;
    generation_note_settings(dir);
    if (!raw) generation_note_prompt(dir, t, c, template_name);
    return true;
}

#endif
