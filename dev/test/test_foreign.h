/*
Models and adapters as other programs write them: what a file holds is used, or refused by name. The numbers that they
stand for are PyTorch's (test_model.h, test_tuning.h); which matrices an adapter means, PEFT's
(dev/reference/make_peft_targets.py).
*/
#ifndef DEV_TEST_TEST_FOREIGN_H
#define DEV_TEST_TEST_FOREIGN_H

#include "dev/test/test.h"
#include "dev/test/test_model_files.h" // MfTensor, mf_write_tensors, mf_try_weights
#include "dev/test/test_setups.h"      // setups_adapter, setups_refused
#include "llmc/files/export.h"         // export_adapter_peft
#include "llmc/generation.h"           // generation_opening

// Every tensor of a file is used, or refused by name: output matrices of tied models, biases of down_proj, strangers.
void test_weights_used(void) {
    char dir[200], file[256];
    snprintf(dir, sizeof dir, "%s", test_path("used"));
    mkdir(dir, 0777);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    char *config = model_path(dir, "config.json"), *index = model_path(dir, "model.safetensors.index.json");
    test_write(config, MF_CONFIG);
    MfTensor t[28];
    const int n = mf_tensors(t), embed = 25, head = 26;
    memset(&t[n], 0, sizeof t[n]);
    // tie_word_embeddings true: an output matrix that is the embedding's twin, of another type too; one that differs;
    // one alone; untied, one alone
    const struct {
        const char *label;
        bool tied, twin, alone, stays_tied;
        int head_is;
    } cases[4] = {{"a twin", true, true, false, true, embed},
                  {"another", true, false, false, false, head},
                  {"the head alone", true, false, true, true, head},
                  {"apart", false, false, false, false, head}};
    for (int i = 0; i < 4; i++) {
        ModelConfig c;
        FrozenWeights w;
        Error e = {0, ""};
        MfTensor some[27];
        memcpy(some, t, sizeof some);
        if (cases[i].twin) some[head].like = embed + 1;
        if (cases[i].alone) some[embed] = t[head];
        if (cases[i].alone) some[embed].like = head + 1;
        mf_write_tensors(file, some, 0, cases[i].alone ? n - 1 : n, DTYPE_BF16, -1);
        if (!CHECK(model_config_load(&c, dir, &e), "%s", e.text)) return;
        c.tied = cases[i].tied;
        warnings_off = true;
        const bool ok = weights_load(&w, &c, dir, mf_ops(), &e);
        warnings_off = false;
        if (CHECK(ok, "%s: %s", cases[i].label, e.text)) {
            const int wte_is = cases[i].alone ? head : embed;
            float x[2], y[2];
            raw_to_f32(x, &w.wte, 5, 1);
            raw_to_f32(x + 1, &w.head.weight.raw[0], 5, 1);
            CHECK(x[0] == mf_value(wte_is, 5) && x[1] == mf_value(cases[i].head_is, 5) && c.tied == cases[i].stays_tied,
                  "%s: embedding %g, output %g, tied %d", cases[i].label, (double)x[0], (double)x[1], c.tied);
            raw_to_f32(y, weights_find_raw(&w, "model.embed_tokens.weight"), 5, 1);
            CHECK(y[0] == x[0], "%s: full tuning would begin at %g", cases[i].label, (double)y[0]);
            weights_free(&w, mf_ops());
        }
        model_config_free(&c);
    }

    // one tensor more: words NULL, it loads
    const struct {
        const char *name;
        int rows, columns;
        const char *words;
    } more[] = {
        {"model.layers.1.mlp.down_proj.bias", 8, 0, NULL},
        {"model.layers.1.mlp.down_proj.bias", 7, 0, "down_proj.bias: found shape [7]|expected [8]"},
        {"model.layers.0.self_attn.rotary_emb.inv_freq", 1, 0, NULL},
        {"model.layers.2.mlp.down_proj.weight", 8, 12, "layers.2.mlp.down_proj.weight|layers 0 to 1|num_hidden_layers"},
        {"model.layers.0.self_attn.o_proj.bias", 8, 0, "found tensor model.layers.0.self_attn.o_proj.bias [8]"},
        {"v_head.summary.weight", 1, 8, "found tensor v_head.summary.weight [1, 8]"},
        {"model.layers.0.self_attn.q_norm.weight", 2, 0, "q_norm.weight"},
        {"model.layers.0.self_attn.q_proj.lora_A.weight", 1, 8, "lora_A.weight|merge"}};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        ModelConfig c;
        FrozenWeights w;
        Error e = {0, ""};
        snprintf(t[n].name, sizeof t[n].name, "%s", more[i].name);
        t[n].ndim = more[i].columns ? 2 : 1;
        t[n].shape[0] = more[i].rows;
        t[n].shape[1] = more[i].columns;
        mf_write_tensors(file, t, 0, n + 1, DTYPE_F32, -1);
        if (!CHECK(model_config_load(&c, dir, &e), "%s", e.text)) return;
        c.tied = false;
        warnings_off = true;
        const bool ok = weights_load(&w, &c, dir, mf_ops(), &e);
        warnings_off = false;
        if (more[i].words) mf_expect(ok, &e, more[i].words, more[i].name);
        else if (CHECK(ok, "%s: %s", more[i].name, e.text)) {
            const float *b = w.layers[1].linear[LINEAR_DOWN].bias;
            CHECK(!w.layers[0].linear[LINEAR_DOWN].bias &&
                      (i ? !b : b && b[0] == mf_value(n, 0) && b[7] == mf_value(n, 7)),
                  "%s: the biases of down_proj", more[i].name);
        }
        if (ok) weights_free(&w, mf_ops());
        model_config_free(&c);
    }

    // two shards that both hold a tensor: which of the two is meant?
    unlink(file);
    char shard[2][256];
    for (int i = 0; i < 2; i++) snprintf(shard[i], sizeof shard[i], "%s/%c.safetensors", dir, 'a' + i);
    mf_write_tensors(shard[0], t, 0, 14, DTYPE_F32, -1);
    mf_write_tensors(shard[1], t, 13, n, DTYPE_F32, -1);
    Str map = {0};
    for (int i = 0; i < n; i++)
        str_printf(&map, "%s\"%s\": \"%c.safetensors\"", i ? ", " : "{\"weight_map\": {", t[i].name,
                   i < 14 ? 'a' : 'b');
    str_printf(&map, "}}");
    test_write(index, map.s);
    char words[256];
    snprintf(words, sizeof words, "b.safetensors: holds tensor %.95s|is in a.safetensors", t[13].name);
    mf_try_weights(dir, false, t, words, "in two shards");
    str_free(&map);
    free(config);
    free(index);
}

// A model whose files hold vectors as biases of down_proj, as the programs take it: scored as the steered model; what
// would lose them is refused.
void test_vectors_inside(void) {
    const char *model = test_path("inside"), *vectors = "data/tiny/vectors/steering.safetensors";
    const char *line = "echo '{\"prompt\": \"What is 1 + 2?\", \"completion\": \"1+2=3\"}' | ./eval_steer score "
                       "--device ref --json --model";
    ModelConfig c;
    Error e = {0, ""};
    if (!CHECK(model_config_load(&c, "data/tiny/model", &e), "%s", e.text)) return;
    expect_command(0, "", "cp -r data/tiny/model %s && chmod -R u+w %s && mv %s/model.safetensors %s/a.safetensors",
                   model, model, model, model);
    float *s = (float *)xmalloc((size_t)c.L * c.C * sizeof(float));
    OutTensor *t = (OutTensor *)xcalloc((size_t)c.L, sizeof(OutTensor));
    char (*names)[64] = (char (*)[64])xcalloc((size_t)c.L, 64), *biases = model_path(model, "b.safetensors"),
         *weights = model_path(model, "a.safetensors"), *index = model_path(model, "model.safetensors.index.json");
    SafeTensors st;
    Str map = {0};
    if (!CHECK(steering_load(s, &c, vectors, &e) && safetensors_open(&st, weights, &e), "%s", e.text)) return;
    for (int l = 0; l < c.L; l++) {
        snprintf(names[l], 64, "model.layers.%d.mlp.down_proj.bias", l);
        t[l].name = names[l];
        t[l].ndim = 1;
        t[l].shape[0] = c.C;
        t[l].data = s + (size_t)l * c.C;
        str_printf(&map, "%s\"%s\": \"b.safetensors\"", l ? ", " : "{\"weight_map\": {", names[l]);
    }
    for (int i = 0; i < st.n_entries; i++) str_printf(&map, ", \"%s\": \"a.safetensors\"", st.entries[i].name);
    str_printf(&map, "}}");
    safetensors_close(&st);
    CHECK(safetensors_write(biases, t, c.L, NULL, &e), "%s", e.text);
    test_write(index, map.s);
    Str out[3] = {{0}, {0}, {0}};
    run_command(&out[0], "%s %s 2>/dev/null", line, model);
    run_command(&out[1], "%s data/tiny/model --steering %s 2>/dev/null", line, vectors);
    run_command(&out[2], "%s data/tiny/model 2>/dev/null", line);
    double sum[3] = {0, 0, 0};
    for (int i = 0; i < 3; i++) {
        cJSON *o = json_parse(out[i].s, out[i].n, "score", &e);
        const cJSON *list = json_get_array(o, "logprobs", "score", &e);
        if (CHECK(list != NULL, "%s", e.text))
            for (const cJSON *x = list->child; x; x = x->next) sum[i] += x->valuedouble;
        cJSON_Delete(o);
        str_free(&out[i]);
    }
    CHECK(fabs(sum[0] - sum[1]) < 1e-4 && fabs(sum[2] - sum[1]) > 0.1, "log-probs' sum %.6f, steered %.6f, base %.6f",
          sum[0], sum[1], sum[2]);
    expect_command(1, "down_proj.bias already", "./eval_steer export --format hf --model %s --steering %s --out %s",
                   model, vectors, test_path("twice"));
    expect_command(
        1, "setup full: the model has biases of down_proj",
        "./train_steer --config scripts/train/rl/tiny/arithmetic/full.yml --model %s --max_steps 1 --output_dir %s",
        model, test_path("never"));
    str_free(&map);
    free(s);
    free(t);
    free(names);
    free(biases);
    free(weights);
    free(index);
    model_config_free(&c);
}

// target_modules and its like, in every form: the matrices that PEFT changes.
void test_peft_targets(void) {
    const char *records = "dev/reference/peft_targets.jsonl";
    Error err = {0, ""};
    char *text = read_file(records, NULL, &err), *rest = text, *line;
    if (!CHECK(text != NULL, "%s", err.text)) return;
    int lines = 0;
    while ((line = strsep(&rest, "\n")) != NULL && *line) {
        cJSON *o = json_parse(line, strlen(line), records, &err);
        const cJSON *modules = json_get_array(o, "modules", records, &err);
        bool sites[4 * N_PROJ] = {false};
        int found = 0, expected = cJSON_GetArraySize(modules), wrong = 0;
        const bool ok = modules && peft_find_targets(sites, o, 4, records, &err);
        for (int i = 0; i < 4 * N_PROJ; i++) {
            char name[96];
            tensor_name(name, i / N_PROJ, projections[i % N_PROJ].module, "");
            bool listed = false;
            for (const cJSON *m = modules ? modules->child : NULL; m; m = m->next)
                listed |= strcmp(m->valuestring, name) == 0;
            found += sites[i];
            wrong += sites[i] != listed;
        }
        CHECK(ok && expected > 0 && found == expected && wrong == 0,
              "%s:%d: %d matrices found, %d expected, %d wrong: %s", records, ++lines, found, expected, wrong,
              err.text);
        cJSON_Delete(o);
    }
    CHECK(lines >= 14, "%d lines", lines);
    free(text);
}

// A file that adapts other matrices in each layer is read as it is, and exported so that it means the same; what does
// not fit its config is refused.
void test_peft_uneven(void) {
    static const char *const config =
        "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 3, \"target_modules\": "
        "[\"layers.0.self_attn.q_proj\", \"model.layers.1.mlp.down_proj\"], "
        "\"init_lora_weights\": \"eva\", \"eva_config\": {\"rho\": 2.0}, \"qalora_group_size\": 16, "
        "\"megatron_core\": \"megatron.core\", \"use_new\": false}";
    ModelConfig c;
    PeftConfig p;
    ParamLayout made, t;
    float *numbers;
    Error e = {0, ""};
    if (!CHECK(model_config_load(&c, "data/tiny/model", &e), "%s", e.text)) return;
    bool targets[N_PROJ] = {false}, sites[64 * N_PROJ] = {false};
    targets[PROJ_Q] = targets[PROJ_DOWN] = sites[PROJ_Q] = sites[N_PROJ + PROJ_DOWN] = true;
    layout_lora(&made, &c, 2, 3, targets, sites);
    float *x = (float *)xmalloc(made.n * sizeof(float));
    for (size_t i = 0; i < made.n; i++) x[i] = (float)(i % 97) - 40;
    int n = 0;
    FileTensor *tensors = peft_tensors(&made, x, &n);
    CHECK(n == 4, "%d tensors", n);
    const char *from = setups_adapter(config, tensors, n), *to = test_path("uneven");
    for (int again = 0; again < 2; again++) { // as given, and exported
        memset(&e, 0, sizeof e);
        if (!CHECK(peft_load(&p, &t, &numbers, &c, again ? to : from, &e), "%s", e.text)) continue;
        CHECK(layout_lora_site(&t, 0, PROJ_Q) && layout_lora_site(&t, 1, PROJ_DOWN) &&
                  !layout_lora_site(&t, 1, PROJ_Q) && t.n == made.n && t.scale == 1.5f &&
                  memcmp(numbers, x, t.n * sizeof(float)) == 0,
              "what comes back is not what was written");
        if (!again) CHECK(make_dirs(to, &e) && export_adapter_peft(&p, &t, numbers, "base", to, &e), "%s", e.text);
        layout_free(&t);
        free(numbers);
    }
    static const struct {
        const char *from, *to, *words;
    } wrong[] = {
        {"\"use_new\": false", "\"use_new\": true", "use_new is set"},
        {"\"use_new\": false", "\"new_factor\": 0.5", "new_factor is set"},
        {"\"use_new\": false", "\"kasa_config\": {\"beta\": 1}", "kasa_config"},
        {"\"eva\"", "\"olora\"", "init_lora_weights|olora"},
        {"\"eva\"", "7", "init_lora_weights|number"},
        {"\"layers.0.self_attn.q_proj\", ", "", "q_proj.lora_A.weight|PEFT would leave it out"},
        {"[\"layers.0", "[\"lm_head\", \"layers.0", "target_modules|lm_head"},
        {"[\"layers.0", "[\"embed_tokens\", \"layers.0", "model.embed_tokens"},
        {"[\"layers.0.self_attn.q_proj\", \"model.layers.1.mlp.down_proj\"]", "\"(q_proj\"",
         "regular expression|(q_proj"},
        {"\"use_new\": false", "\"exclude_modules\": 7", "exclude_modules|a number"},
        {"[\"layers.0.self_attn.q_proj\", \"model.layers.1.mlp.down_proj\"]",
         "\".*q_proj\", \"layers_to_transform\": [0]", "layers_to_transform"},
        {"[\"layers.0.self_attn.q_proj\", \"model.layers.1.mlp.down_proj\"]", "[\"foo\"]", "target_modules: none"},
        {"\"use_new\": false", "\"layers_to_transform\": \"1\"", "layers_to_transform"},
        // a matrix that is meant and not there: zero where training begins at zero, else PEFT's random numbers
        {"\"eva\"", "\"orthogonal\"", NULL},
        {"\"model.layers.1.mlp.down_proj\"]", "\"down_proj\"]", NULL},
        {"\"model.layers.1.mlp.down_proj\"], \"init_lora_weights\": \"eva\"",
         "\"down_proj\"], \"init_lora_weights\": \"orthogonal\"",
         "layers.0.mlp.down_proj.lora_A.weight is missing|random"},
        {"\"model.layers.1.mlp.down_proj\"], \"init_lora_weights\": \"eva\"",
         "\"down_proj\"], \"init_lora_weights\": false", "layers.0.mlp.down_proj.lora_A.weight is missing|random"}};
    warnings_off = true;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *changed = mf_replace(config, wrong[i].from, wrong[i].to);
        memset(&e, 0, sizeof e);
        if (wrong[i].words) setups_refused(&c, changed, tensors, n, wrong[i].words, wrong[i].to);
        else if (CHECK(peft_load(&p, &t, &numbers, &c, setups_adapter(changed, tensors, n), &e), "%s: %s", wrong[i].to,
                       e.text)) {
            CHECK(t.n == made.n && memcmp(numbers, x, t.n * sizeof(float)) == 0, "%s: other numbers", wrong[i].to);
            layout_free(&t);
            free(numbers);
        }
        free(changed);
    }
    warnings_off = false;
    free(tensors);
    free(x);
    layout_free(&made);
    model_config_free(&c);
}

// What a chat template writes where the answer begins, in the ways it is written.
void test_generation_opening(void) {
    static const char *const cases[][2] = {
        {"{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
         "<|im_start|>assistant"},
        {"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% if "
         "add_generation_prompt and "
         "not ns.is_tool %}{{'<\xEF\xBD\x9C"
         "A>\\n<think>\\n'}}{% endif %}",
         "<\xEF\xBD\x9C"
         "A>\n<think>"},
        {"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant"},
        {"{% if add_generation_prompt %}{{ \"it\\'s\" }}{% endif %}", "it's"},
        {"{% if add_generation_prompt %}{{ role }}{% endif %}", ""},
        {"{{ messages }}", ""},
        {"add_generation_prompt", ""},
        {"{% if add_generation_prompt %}{{ '", ""},
        {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str out = {0};
        generation_opening(&out, cases[i][0]);
        CHECK(strcmp(out.s ? out.s : "", cases[i][1]) == 0, "%s: found \"%s\"", cases[i][0], out.s ? out.s : "");
        str_free(&out);
    }
}

// What a model's folder says and is not done is said; an end of turn that is no end of text stops a completion where it
// is asked to.
void test_generation(void) {
    const char *model = test_path("speaks"),
               *ask = "--max_completion_length 60 --seed 1 --raw --prompt 'What is 13 + 18 - 2 + 9?'";
    Str out = {0};
    Error e = {0, ""};
    expect_command(0, "", "cp -r data/tiny/model %s && chmod -R u+w %s", model, model);
    char *settings = model_path(model, "generation_config.json"),
         *tokenizer = model_path(model, "tokenizer_config.json"), *config = model_path(model, "config.json");
    char *text = read_file(config, NULL, &e),
         *ended = mf_replace(text ? text : "", "\"eos_token_id\": 258", "\"eos_token_id\": 256");
    run_command(&out, "./eval_steer generate --model %s --max_completion_length 1 --prompt x", model);
    CHECK(!strstr(out.s, "warning"), "the tiny model says nothing: %s", out.s);
    test_write(settings,
               "{\"eos_token_id\": [256], \"repetition_penalty\": 1.1, \"num_beams\": 1, \"no_repeat_ngram_size\": 0, "
               "\"suppress_tokens\": [3], \"bad_words_ids\": null}");
    test_write(config, ended);
    test_write(tokenizer, "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"no\"}, {\"name\": "
                          "\"default\", \"template\": \"{% "
                          "if add_generation_prompt %}{{ '<|im_start|>model\\\\n\\u001b' }}{% endif %}\"}]}");
    run_command(&out, "./eval_steer generate --model %s --max_completion_length 1 --prompt x", model);
    CHECK(strstr(out.s, "repetition_penalty 1.1, suppress_tokens: not applied") &&
              strstr(out.s, "opens an answer by \"<|im_start|>model\\n\\u001b\"") &&
              strstr(out.s, "--stop '<|im_end|>'"),
          "%s", out.s);
    run_command(&out, "./eval_steer generate --model %s %s", model,
                ask); // the user's own text: nothing about templates
    CHECK(strstr(out.s, "repetition_penalty") && !strstr(out.s, "template") && strstr(out.s, "cut at"), "%s", out.s);
    run_command(&out, "./eval_steer generate --model %s %s --stop '<|im_end|>'", model, ask);
    CHECK(strstr(out.s, "boxed{") && !strstr(out.s, "cut at"), "%s", out.s);
    expect_command(2, "stop: found \"<|im\", expected one token", "./eval_steer generate --model %s %s --stop '<|im'",
                   model, ask);
    unlink(tokenizer);
    test_write(settings, "{}");
    char *jinja = model_path(model, "chat_template.jinja");
    test_write(jinja, "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
    run_command(&out, "./eval_steer generate --model %s --max_completion_length 1 --prompt x --stop '<|im_end|>'",
                model);
    CHECK(!strstr(out.s, "warning"), "a template that fits, ends that stop, no settings: %s", out.s);
    test_write(jinja, "{{ messages }}");
    expect_command(0, "has a chat template, which is not used",
                   "./eval_steer generate --model %s --max_completion_length 1 --prompt x", model);

    const char *recipe =
        "scripts/train/rl/tiny/arithmetic/steering.yml --max_steps 1 --prompts_per_step 1 --num_generations 2 "
        "--max_completion_length 4 --validation_size 0";
    expect_command(0, "top_p 0.9, top_k 0: completions", "./train_steer --config %s --top_p 0.9 --output_dir %s",
                   recipe, test_path("top_p"));
    run_command(&out, "./train_steer --config %s --output_dir %s", recipe, test_path("whole"));
    CHECK(strstr(out.s, "saved") && !strstr(out.s, "samples, and a gap"), "%s", out.s);
    str_free(&out);
    free(settings);
    free(tokenizer);
    free(config);
    free(jinja);
    free(text);
    free(ended);
}

void test_foreign(void) {
    test_weights_used();
    test_vectors_inside();
    test_peft_targets();
    test_peft_uneven();
    test_generation_opening();
    test_generation();
}

#endif
