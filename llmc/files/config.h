/*
What a model says of itself, a Hugging Face folder in config.json and generation_config.json, a GGUF file in its keys,
read into a ModelConfig.

Qwen2ForCausalLM only (Qwen2, Qwen2.5, Qwen2.5-Math, Qwen2.5-Coder, DeepSeek-R1-Distill-Qwen), of every size: all sizes
come from config.json. What the config asks for and this program does not compute (sliding windows, scaled RoPE,
quantised weights) is refused by name, never ignored.
*/
#ifndef LLMC_FILES_CONFIG_H
#define LLMC_FILES_CONFIG_H

#include "llmc/files/files.h"  // json_load, json_get_*, cJSON, model_dir_check, gguf_*
#include "llmc/model_config.h" // ModelConfig

// How the two call what checks of both name.
typedef struct {
    const char *C, *I, *NH, *NKV, *V, *eps, *theta;
} ModelKeys;

static const ModelKeys model_keys_hf = {"hidden_size",         "intermediate_size", "num_attention_heads",
                                        "num_key_value_heads", "vocab_size",        "rms_norm_eps",
                                        "rope_theta"};
static const ModelKeys model_keys_gguf = {"qwen2.embedding_length",     "qwen2.feed_forward_length",
                                          "qwen2.attention.head_count", "qwen2.attention.head_count_kv",
                                          "tokenizer.ggml.tokens",      "qwen2.attention.layer_norm_rms_epsilon",
                                          "qwen2.rope.freq_base"};

#define MODEL_MAX_ELEMENTS 2147483647LL // of one matrix: row * columns + column is computed in int by some kernels

// Refuses every kind of RoPE but the plain one. The settings are an object under `key` or absent.
bool model_check_rope(const cJSON *config, const char *key, const char *path, Error *err) {
    const cJSON *rope = json_find(config, key);
    if (!rope) return true;
    if (!cJSON_IsObject(rope)) return json_fail_type(config, key, "an object or null", path, err);
    if (!rope->child) return true;
    const char *names[2] = {"rope_type", "type"};
    bool named = strcmp(key, "rope_parameters") == 0; // there no type means the plain one
    for (int i = 0; i < 2; i++) {
        const char *type = NULL;
        if (!json_has(rope, names[i])) continue;
        if (!json_get_string(rope, names[i], &type, path, err)) return false;
        if (strcmp(type, "default") != 0)
            return fail(err, EXIT_RUN,
                        "%s: %s: found %s \"%.40s\", expected plain RoPE (\"default\" or null)\n  -> scaled contexts "
                        "are not supported: "
                        "remove the key to use the model's original context",
                        path, key, names[i], type);
        named = true;
    }
    if (!named)
        return fail(err, EXIT_RUN,
                    "%s: found %s, expected it to be null\n  -> scaled contexts are not supported: remove the key to "
                    "use the model's "
                    "original context",
                    path, key);
    double partial = 1;
    if (json_has(rope, "partial_rotary_factor") && !json_get_double(rope, "partial_rotary_factor", &partial, path, err))
        return false;
    if (partial != 1)
        return fail(err, EXIT_RUN, "%s: %s: found partial_rotary_factor %g, expected 1", path, key, partial);
    return true;
}

// Refuses configs with a layer that would not see the whole context.
bool model_check_windows(const cJSON *config, int L, const char *path, Error *err) {
    const cJSON *types = json_find(config, "layer_types");
    if (types) {
        int n = 0;
        if (!cJSON_IsArray(types)) return json_fail_type(config, "layer_types", "an array", path, err);
        for (const cJSON *t = types->child; t; t = t->next, n++) {
            if (!cJSON_IsString(t) || strcmp(t->valuestring, "full_attention") != 0)
                return fail(err, EXIT_RUN,
                            "%s: layer_types[%d]: found %s%.40s%s, expected \"full_attention\" (sliding windows are "
                            "not supported)",
                            path, n, cJSON_IsString(t) ? "\"" : "",
                            cJSON_IsString(t) ? t->valuestring : json_type_name(t), cJSON_IsString(t) ? "\"" : "");
        }
        if (n != L)
            return fail(err, EXIT_RUN, "%s: layer_types: found %d entries, expected num_hidden_layers = %d", path, n,
                        L);
        return true;
    }
    bool use = false;
    int first = 28; // transformers' default
    if (json_has(config, "use_sliding_window") && !json_get_bool(config, "use_sliding_window", &use, path, err))
        return false;
    if (json_has(config, "max_window_layers") &&
        !json_get_int(config, "max_window_layers", 0, INT_MAX, &first, path, err))
        return false;
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(config, "sliding_window");
    if (!use || cJSON_IsNull(window) || first >= L) return true;
    return fail(
        err, EXIT_RUN,
        "%s: found use_sliding_window true (layers %d to %d), expected false: sliding windows are not supported", path,
        first, L - 1);
}

// One id, or a list of ids, appended to *ids. Null or absent: nothing.
bool model_read_ids(IntVec *ids, const cJSON *object, const char *key, int V, const char *path, Error *err) {
    const cJSON *item = json_find(object, key);
    if (!item) return true;
    const cJSON *id = cJSON_IsArray(item) ? item->child : item;
    for (int n = 0; id; id = cJSON_IsArray(item) ? id->next : NULL, n++) {
        double x = cJSON_IsNumber(id) ? id->valuedouble : -1;
        if (!(x >= 0 && x < V) || x != floor(x))
            return fail(err, EXIT_RUN, "%s: %s: entry %d is not a whole number from 0 to vocab_size - 1 = %d", path,
                        key, n, V - 1);
        ints_push(ids, (int)x);
    }
    return true;
}

// EOS and pad from one file; what it does not name stays as it was.
bool model_read_special(ModelConfig *c, const cJSON *root, const char *path, Error *err) {
    IntVec eos = {0}, pad = {0};
    bool ok = model_read_ids(&eos, root, "eos_token_id", c->V, path, err) &&
              model_read_ids(&pad, root, "pad_token_id", c->V, path, err);
    if (ok && eos.n > 0) {
        ints_free(&c->eos);
        c->eos = eos;
        memset(&eos, 0, sizeof eos);
    }
    if (ok && pad.n > 0) c->pad = pad.v[0];
    ints_free(&eos);
    ints_free(&pad);
    return ok;
}

// The sizes fit together. c->HD becomes C / NH where nothing has set it.
bool model_check_sizes(ModelConfig *c, const ModelKeys *key, const char *path, Error *err) {
    if (c->HD == 0 && c->C % c->NH != 0)
        return fail(err, EXIT_RUN, "%s: %s %d is not a multiple of %s %d", path, key->C, c->C, key->NH, c->NH);
    if (c->HD == 0) c->HD = c->C / c->NH;
    if (c->HD % 2 != 0)
        return fail(err, EXIT_RUN, "%s: found a head dimension of %d, expected an even number (RoPE turns pairs)", path,
                    c->HD);
    if (c->NH % c->NKV != 0)
        return fail(err, EXIT_RUN, "%s: %s %d is not a multiple of %s %d", path, key->NH, c->NH, key->NKV, c->NKV);
    const int64_t qkv = (int64_t)(c->NH + 2 * c->NKV) * c->HD;
    if ((int64_t)c->V * c->C > MODEL_MAX_ELEMENTS || 2 * (int64_t)c->I * c->C > MODEL_MAX_ELEMENTS ||
        qkv * c->C > MODEL_MAX_ELEMENTS)
        return fail(err, EXIT_RUN, "%s: a weight matrix would have more than %lld elements\n  -> check %s, %s and %s",
                    path, MODEL_MAX_ELEMENTS, key->V, key->C, key->I);
    return true;
}

bool model_set_numbers(ModelConfig *c, double eps, double theta, const ModelKeys *key, const char *path, Error *err) {
    if (!(eps > 1e-30 && eps < 1))
        return fail(err, EXIT_RUN, "%s: %s: found %g, expected a number between 0 and 1", path, key->eps, eps);
    if (!(theta > 1 && theta < 1e30))
        return fail(err, EXIT_RUN, "%s: %s: found %g, expected a number above 1", path, key->theta, theta);
    c->rms_norm_eps = (float)eps;
    c->rope_theta = (float)theta;
    return true;
}

bool model_read_config(ModelConfig *c, const cJSON *root, const char *path, Error *err) {
    if (!cJSON_IsObject(root))
        return fail(err, EXIT_RUN, "%s: found %s, expected an object", path, json_type_name(root));
    const char *twice = json_duplicate_key(root), *arch = "";
    if (twice) return fail(err, EXIT_RUN, "%s: key \"%.60s\" comes twice", path, twice);
    const cJSON *architectures = json_find(root, "architectures");
    bool qwen2;
    if (cJSON_IsArray(architectures) && cJSON_IsString(architectures->child)) {
        arch = architectures->child->valuestring;
        qwen2 = strcmp(arch, "Qwen2ForCausalLM") == 0;
    } else {
        if (json_has(root, "model_type") && !json_get_string(root, "model_type", &arch, path, err)) return false;
        qwen2 = strcmp(arch, "qwen2") == 0;
    }
    if (!qwen2)
        return fail(err, EXIT_RUN,
                    "%s: another architecture: found \"%.60s\", expected \"Qwen2ForCausalLM\"\n  -> use a Qwen2 or "
                    "Qwen2.5 model",
                    path, arch);
    if (json_has(root, "quantization_config"))
        return fail(err, EXIT_RUN,
                    "%s: found quantization_config, expected a model in bf16, fp16 or fp32\n  -> download the model "
                    "that is not quantised",
                    path);

    if (!json_get_int(root, "hidden_size", 1, 1 << 16, &c->C, path, err) ||
        !json_get_int(root, "intermediate_size", 1, 1 << 20, &c->I, path, err) ||
        !json_get_int(root, "num_hidden_layers", 1, 1024, &c->L, path, err) ||
        !json_get_int(root, "num_attention_heads", 1, 1024, &c->NH, path, err) ||
        !json_get_int(root, "num_key_value_heads", 1, 1024, &c->NKV, path, err) ||
        !json_get_int(root, "vocab_size", 1, 1 << 24, &c->V, path, err))
        return false;
    c->max_position = 32768; // an absent key means transformers' default, here and below
    if (json_has(root, "max_position_embeddings") &&
        !json_get_int(root, "max_position_embeddings", 1, 1 << 24, &c->max_position, path, err))
        return false;
    if (json_has(root, "head_dim")) {
        if (!json_get_int(root, "head_dim", 1, 1024, &c->HD, path, err)) return false;
    }
    if (!model_check_sizes(c, &model_keys_hf, path, err)) return false;

    const char *activation = "silu";
    if (json_has(root, "hidden_act") && !json_get_string(root, "hidden_act", &activation, path, err)) return false;
    if (strcmp(activation, "silu") != 0)
        return fail(err, EXIT_RUN, "%s: hidden_act: found \"%.40s\", expected \"silu\"", path, activation);
    if (!model_check_windows(root, c->L, path, err) || !model_check_rope(root, "rope_scaling", path, err) ||
        !model_check_rope(root, "rope_parameters", path, err))
        return false;

    double eps = 1e-6, theta = 10000;
    const cJSON *scaling = json_find(root, "rope_scaling"),
                *parameters = json_find(root, "rope_parameters"); // transformers 5 keeps rope_theta there
    const cJSON *inside = scaling && scaling->child ? scaling : parameters,
                *rope = json_has(inside, "rope_theta") ? inside : root;
    if ((json_has(root, "rms_norm_eps") && !json_get_double(root, "rms_norm_eps", &eps, path, err)) ||
        (json_has(rope, "rope_theta") && !json_get_double(rope, "rope_theta", &theta, path, err)))
        return false;
    if (!model_set_numbers(c, eps, theta, &model_keys_hf, path, err)) return false;
    if (json_has(root, "tie_word_embeddings") && !json_get_bool(root, "tie_word_embeddings", &c->tied, path, err))
        return false;
    return model_read_special(c, root, path, err);
}

// ----------------------------------------------------------------------------
// a GGUF file's keys

// The id under a key, -1 where there is none.
bool model_gguf_id(int *id, const Gguf *g, const char *key, int V, Error *err) {
    *id = -1;
    return !gguf_find(g, key) || gguf_get_int(g, key, 0, V - 1, id, err);
}

// Every token that ends a completion: those of the keys for end of text, of turn and of message, and the control tokens
// <|endoftext|> and <|im_end|>, by name, as in generation_config.json of Qwen2.5.
bool model_gguf_eos(ModelConfig *c, const Gguf *g, Error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"},
                             *const names[] = {"<|endoftext|>", "<|im_end|>"};
    IntVec ids = {0};
    bool ok = true;
    for (int i = 0, id; i < 3 && ok; i++) {
        ok = model_gguf_id(&id, g, keys[i], c->V, err);
        if (ok && id >= 0) ints_push(&ids, id);
    }
    const GgufPair *tokens = gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, c->V, NULL),
                   *types = gguf_get_array(g, "tokenizer.ggml.token_type", GGUF_INT32, c->V, NULL);
    const uint8_t *at = tokens && types ? tokens->data : NULL;
    for (int i = 0; at && i < c->V; i++) {
        size_t n;
        const char *s = gguf_next_string(&at, &n);
        if (gguf_number(types->data + 4 * (size_t)i, 4) != GGUF_TOKEN_CONTROL) continue;
        for (int k = 0; k < 2; k++)
            if (n == strlen(names[k]) && memcmp(s, names[k], n) == 0) ints_push(&ids, i);
    }
    for (int i = 0; i < ids.n; i++) {
        bool there = false;
        for (int k = 0; k < c->eos.n; k++) there |= c->eos.v[k] == ids.v[i];
        if (!there) ints_push(&c->eos, ids.v[i]);
    }
    ints_free(&ids);
    if (ok && c->eos.n == 0)
        ok = fail(err, EXIT_RUN, "%s: no key tokenizer.ggml.eos_token_id: without it no completion would end",
                  g->tensors.path);
    return ok;
}

// The tensor of that name in one of n parts; NULL if there is none.
const RawTensor *model_gguf_tensor(const Gguf *g, int n, const char *name) {
    const RawTensor *t = NULL;
    for (int i = 0; i < n && !t; i++) t = safetensors_find(&g[i].tensors, name);
    return t;
}

// c->types; a tensor that is missing, which loading will say, counts as bf16.
void model_gguf_types(ModelConfig *c, const Gguf *g, int n) {
    for (int i = 0; i <= c->L * N_PROJ; i++) {
        char hf[TENSOR_NAME], name[TENSOR_NAME];
        if (i < c->L * N_PROJ) tensor_name(hf, i / N_PROJ, projections[i % N_PROJ].module, ".weight");
        else snprintf(hf, sizeof hf, "%s.weight", c->tied ? MODULE_EMBEDDING : MODULE_HEAD);
        const RawTensor *t = model_gguf_tensor(g, n, tensor_gguf_name(name, hf, c->family));
        ints_push(&c->types, t ? (int)t->dtype : DTYPE_BF16);
    }
}

// From the keys of g, the first of the model's n parts.
bool model_read_gguf(ModelConfig *c, const Gguf *g, int n, Error *err) {
    const char *path = g->tensors.path;
    char *arch = NULL;
    if (!gguf_get_string(g, "general.architecture", &arch, err)) return false;
    const bool qwen2 = strcmp(arch, "qwen2") == 0;
    if (!qwen2) {
        Str quoted = {0}; // a file's text on a terminal
        json_add_string(&quoted, arch, strlen(arch) < 60 ? strlen(arch) : 60);
        fail(err, EXIT_RUN,
             "%s: another architecture: key general.architecture is %s, expected \"qwen2\"\n  -> a Qwen2 or Qwen2.5 "
             "model",
             path, quoted.s);
        str_free(&quoted);
    }
    free(arch);
    const ModelKeys *k = &model_keys_gguf;
    if (!qwen2 || !gguf_get_int(g, k->C, 1, 1 << 16, &c->C, err) || !gguf_get_int(g, k->I, 1, 1 << 20, &c->I, err) ||
        !gguf_get_int(g, "qwen2.block_count", 1, 1024, &c->L, err) || !gguf_get_int(g, k->NH, 1, 1024, &c->NH, err))
        return false;
    c->NKV = c->NH; // llama.cpp's defaults, here and below
    const GgufPair *tokens = gguf_get_array(g, k->V, GGUF_STRING, -1, err);
    if (!tokens || (gguf_find(g, k->NKV) && !gguf_get_int(g, k->NKV, 1, 1024, &c->NKV, err)) ||
        !gguf_get_int(g, "qwen2.context_length", 1, 1 << 24, &c->max_position, err))
        return false;
    if (tokens->n < 1 || tokens->n > 1 << 24)
        return fail(err, EXIT_RUN, "%s: key %s: found %llu tokens, expected 1 to %d", path, k->V,
                    (unsigned long long)tokens->n, 1 << 24);
    c->V = (int)tokens->n;
    if (gguf_find(g, "qwen2.attention.key_length") &&
        !gguf_get_int(g, "qwen2.attention.key_length", 1, 1024, &c->HD, err))
        return false;
    double eps = 0, theta = 10000;
    if (!model_check_sizes(c, k, path, err) || !gguf_get_double(g, k->eps, &eps, err) ||
        (gguf_find(g, k->theta) && !gguf_get_double(g, k->theta, &theta, err)) ||
        !model_set_numbers(c, eps, theta, k, path, err))
        return false;
    if (gguf_find(g, "qwen2.rope.scaling.type") && !gguf_is(g, "qwen2.rope.scaling.type", "none"))
        return fail(err, EXIT_RUN,
                    "%s: key qwen2.rope.scaling.type: expected \"none\": scaled contexts are not supported", path);
    static const char *const refused[] = {"qwen2.attention.sliding_window", "qwen2.rope.scale_linear", "adapter.type"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (gguf_find(g, refused[i]))
            return fail(err, EXIT_RUN, "%s: found key %s, expected none: that is not computed here", path, refused[i]);
    c->tied = !model_gguf_tensor(g, n, "output.weight");
    model_gguf_types(c, g, n);
    return model_gguf_id(&c->pad, g, "tokenizer.ggml.padding_token_id", c->V, err) && model_gguf_eos(c, g, err);
}

bool model_config_load_gguf(ModelConfig *c, const char *path, Error *err) {
    Gguf *all;
    int n;
    if (!gguf_open_all(&all, &n, path, err)) return false;
    const bool ok = model_read_gguf(c, all, n, err);
    gguf_close_all(all, n);
    if (!ok) model_config_free(c);
    return ok;
}

// ----------------------------------------------------------------------------

// Reads dir/config.json, then dir/generation_config.json where there is one (its EOS and pad win); of a GGUF file its
// keys. On failure *c is empty. Free with model_config_free.
bool model_config_load(ModelConfig *c, const char *dir, Error *err) {
    memset(c, 0, sizeof *c);
    c->family = &qwen2_family;
    c->pad = -1;
    if (gguf_is_file(dir)) return model_config_load_gguf(c, dir, err);
    char *path = model_path(dir, "config.json"), *generation = model_path(dir, "generation_config.json");
    cJSON *root = NULL, *special = NULL;
    bool ok =
        model_dir_check(dir, err) && (root = json_load(path, err)) != NULL && model_read_config(c, root, path, err);
    if (ok && path_exists(generation)) {
        ok = (special = json_load(generation, err)) != NULL;
        if (ok && !cJSON_IsObject(special))
            ok = fail(err, EXIT_RUN, "%s: found %s, expected an object", generation, json_type_name(special));
        ok = ok && model_read_special(c, special, generation, err);
    }
    if (ok && c->eos.n == 0)
        ok = fail(
            err, EXIT_RUN,
            "%s: no eos_token_id here or in generation_config.json\n  -> add it: without it no completion would end",
            path);
    cJSON_Delete(root);
    cJSON_Delete(special);
    free(path);
    free(generation);
    if (!ok) model_config_free(c);
    return ok;
}

#endif
