/*
A Hugging Face model folder's config.json and generation_config.json, read into a ModelConfig; its paths and names.

Qwen2ForCausalLM only (Qwen2, Qwen2.5, Qwen2.5-Math, Qwen2.5-Coder, DeepSeek-R1-Distill-Qwen), of every size: all sizes
come from config.json. What the config asks for and this program does not compute (sliding windows, scaled RoPE,
quantised weights) is refused by name, never ignored.
*/
#ifndef LLMC_MODEL_CONFIG_H
#define LLMC_MODEL_CONFIG_H

#include "llmc/files/files.h" // json_load, json_get_*, cJSON, model_dir_check
#include "llmc/tensors.h"     // Family, Size
#include "llmc/utils/utils.h" // Error, fail, IntVec, path_exists

typedef struct {
    const Family *family;
    int C, I, L, NH, NKV, HD, V; // see ops.h; HD = C / NH unless the config says otherwise
    int max_position;            // the longest context
    float rms_norm_eps, rope_theta;
    bool tied;  // the output matrix is the embedding matrix
    IntVec eos; // every one of them ends a completion
    int pad;    // -1 if the model names none
} ModelConfig;

#define MODEL_MAX_ELEMENTS 2147483647LL // of one matrix: row * columns + column is computed in int by some kernels

int model_size(const ModelConfig *c, Size size) {
    switch (size) {
    case SIZE_C: return c->C;
    case SIZE_I: return c->I;
    case SIZE_HD: return c->HD;
    case SIZE_Q: return c->NH * c->HD;
    case SIZE_KV: return c->NKV * c->HD;
    }
    return 0;
}

// The shape [N,K] of a projection's weight.
void projection_shape(int *N, int *K, const ModelConfig *c, Projection p) {
    *N = model_size(c, projections[p].rows);
    *K = model_size(c, projections[p].columns);
}

// "dir/file". Free with free().
char *model_path(const char *dir, const char *file) {
    Str s = {0};
    str_printf(&s, "%s/%s", dir, file);
    return s.s;
}

// Is this the folder of a whole model?
bool model_is_folder(const char *path) {
    char *config = model_path(path, "config.json"), *weights = model_path(path, "model.safetensors"),
         *index = model_path(path, "model.safetensors.index.json");
    const bool is = path_exists(config) && (path_exists(weights) || path_exists(index));
    free(config);
    free(weights);
    free(index);
    return is;
}

// The name that train_output/ uses: the last part of the folder; in a Hugging Face cache
// (models--Qwen--Qwen2.5-0.5B/snapshots/<hash>) the model's. Free with free().
char *model_name_from_dir(const char *dir) {
    char *name = path_basename(dir);
    if (strcmp(name, "") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        char *full = realpath(dir, NULL);
        free(name);
        name = full ? path_basename(full) : xstrdup("model");
        free(full);
        return name;
    }
    const char *snapshots = strstr(dir, "/snapshots/"), *cache = NULL, *s = dir;
    while (snapshots && (s = strstr(s, "--")) != NULL && s < snapshots) cache = s += 2;
    if (cache && cache < snapshots) {
        free(name);
        name = xstrndup(cache, (size_t)(snapshots - cache));
    }
    return name;
}

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
    } else {
        if (c->C % c->NH != 0)
            return fail(err, EXIT_RUN, "%s: hidden_size %d is not a multiple of num_attention_heads %d", path, c->C,
                        c->NH);
        c->HD = c->C / c->NH;
    }
    if (c->HD % 2 != 0)
        return fail(err, EXIT_RUN, "%s: found a head dimension of %d, expected an even number (RoPE turns pairs)", path,
                    c->HD);
    if (c->NH % c->NKV != 0)
        return fail(err, EXIT_RUN, "%s: num_attention_heads %d is not a multiple of num_key_value_heads %d", path,
                    c->NH, c->NKV);
    int64_t qkv = (int64_t)(c->NH + 2 * c->NKV) * c->HD;
    if ((int64_t)c->V * c->C > MODEL_MAX_ELEMENTS || 2 * (int64_t)c->I * c->C > MODEL_MAX_ELEMENTS ||
        qkv * c->C > MODEL_MAX_ELEMENTS)
        return fail(err, EXIT_RUN,
                    "%s: a weight matrix would have more than %lld elements\n  -> check vocab_size, hidden_size and "
                    "intermediate_size",
                    path, MODEL_MAX_ELEMENTS);

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
    if (!(eps > 1e-30 && eps < 1))
        return fail(err, EXIT_RUN, "%s: rms_norm_eps: found %g, expected a number between 0 and 1", path, eps);
    if (!(theta > 1 && theta < 1e30))
        return fail(err, EXIT_RUN, "%s: rope_theta: found %g, expected a number above 1", path, theta);
    c->rms_norm_eps = (float)eps;
    c->rope_theta = (float)theta;
    if (json_has(root, "tie_word_embeddings") && !json_get_bool(root, "tie_word_embeddings", &c->tied, path, err))
        return false;
    return model_read_special(c, root, path, err);
}

void model_config_free(ModelConfig *c) {
    ints_free(&c->eos);
    memset(c, 0, sizeof *c);
}

// Reads dir/config.json, then dir/generation_config.json where there is one (its EOS and pad win). On failure *c is
// empty. Free with model_config_free.
bool model_config_load(ModelConfig *c, const char *dir, Error *err) {
    memset(c, 0, sizeof *c);
    c->family = &qwen2_family;
    c->pad = -1;
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
