/*
Vectors for other programs: `./eval_steer export --format hf|peft|gguf|safetensors --model DIR --checkpoint DIR --out
DIR`.

    hf           a Hugging Face folder that transformers and vLLM load without a patch: the frozen weights as they are,
                 called Llama with attention_bias and mlp_bias, the vector as the bias of down_proj, all biases that
                 Qwen2 lacks zero
    peft         an adapter of the PEFT library: a LoRA of rank one whose product is zero and whose bias (lora_bias) is
                 the vector
    gguf         a control vector for llama.cpp (--control-vector FILE). It has no place for layer 0, whose vector is
                 lost
    safetensors  steering_vectors.safetensors: the tensor `steering` [L,C], fp32, as checkpoints have it

A LoRA is exported by export_adapter.h.

Several checkpoints (--checkpoint A,B,...) with different trained layers become one set of vectors. An --out that holds
an export already is refused; a new one is there when all of it is (export_files.h).
*/
#ifndef LLMC_FILES_EXPORT_H
#define LLMC_FILES_EXPORT_H

#include "llmc/files/export_adapter.h" // export_adapter: a LoRA
#include "llmc/intervene.h"            // place_by_site
#include "llmc/files/config.h"         // model_config_load
#include "llmc/files/steering_file.h"  // steering_load_site
#include "llmc/options/options.h"      // Options

// ----------------------------------------------------------------------------
// the vectors

// s[L,C] = the sum of the vectors of a comma-separated list of checkpoints or files; no layer may be non-zero in two of
// them, and all must belong after the same part of their layer, *place.
bool export_vectors(float *s, Place *place, const ModelConfig *c, const char *paths, Error *err) {
    const size_t C = (size_t)c->C;
    float *one = (float *)xmalloc((size_t)c->L * C * sizeof(float));
    bool *set = (bool *)xcalloc((size_t)c->L, sizeof(bool)), ok = true;
    char *copy = xstrdup(paths), *rest = copy;
    for (char *path; ok && (path = strsep(&rest, ",")) != NULL;) {
        char *site = NULL;
        ok = steering_load_site(one, &site, c, path, err);
        if (ok && path != copy && place_by_site(site) != *place)
            ok = fail(err, EXIT_RUN, "%s: its vectors belong after %s, those before it after %s", path,
                      place_names[place_by_site(site)].name, place_names[*place].name);
        *place = place_by_site(site);
        free(site);
        for (int l = 0; l < c->L && ok; l++) {
            bool zero = true;
            for (size_t i = 0; i < C; i++) zero &= one[l * C + i] == 0;
            if (zero) continue;
            if (set[l])
                ok = fail(err, EXIT_RUN,
                          "%s: layer %d has a vector, but so has a checkpoint before it\n  -> merge checkpoints whose "
                          "trained layers differ",
                          path, l);
            set[l] = true;
            memcpy(s + l * C, one + l * C, C * sizeof(float));
        }
    }
    free(copy);
    free(one);
    free(set);
    return ok;
}

// ----------------------------------------------------------------------------
// hf

// config.json of the model, made a Llama's with biases everywhere.
bool export_hf_config(const ModelConfig *c, const char *from, const char *to, Error *err) {
    char *path = model_path(from, "config.json");
    cJSON *root = json_load(path, err);
    free(path);
    if (!root) return false;
    const char *gone[] = {"architectures",      "model_type",        "sliding_window",
                          "use_sliding_window", "max_window_layers", "layer_types",
                          "attention_bias",     "mlp_bias",          "head_dim"};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) cJSON_DeleteItemFromObjectCaseSensitive(root, gone[i]);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(root, "architectures"), cJSON_CreateString("LlamaForCausalLM"));
    cJSON_AddStringToObject(root, "model_type", "llama");
    cJSON_AddBoolToObject(root, "attention_bias", true);
    cJSON_AddBoolToObject(root, "mlp_bias", true);
    cJSON_AddNumberToObject(root, "head_dim", c->HD);
    char *text = cJSON_Print(root);
    bool ok = export_write_text(to, "config.json", text, err);
    cJSON_free(text);
    cJSON_Delete(root);
    return ok;
}

// A file of the biases that the family lacks: zeros, and the vectors on down_proj.
bool export_hf_biases(const ModelConfig *c, const float *s, const char *path, cJSON *map, const char *file,
                      Error *err) {
    const size_t most = (size_t)c->L * N_PROJ;
    float *zeros = (float *)xcalloc((size_t)(c->I > c->C ? c->I : c->C), sizeof(float));
    OutTensor *t = (OutTensor *)xcalloc(most, sizeof(OutTensor));
    char (*names)[TENSOR_NAME] = (char (*)[TENSOR_NAME])xcalloc(most, TENSOR_NAME);
    bool ok = true;
    int n = 0;
    for (int i = 0; i < c->L * N_PROJ; i++) {
        const int l = i / N_PROJ, p = i % N_PROJ;
        if (c->family->bias[p] == BIAS) continue;
        OutTensor *o = &t[n];
        o->name = tensor_name(names[n++], l, projections[p].module, ".bias");
        if (ok && cJSON_HasObjectItem(map, o->name))
            ok = fail(err, EXIT_RUN,
                      "the model has a tensor %s already, where the vectors would go\n  -> export both sets of vectors "
                      "from the model without it",
                      o->name);
        o->ndim = 1;
        o->shape[0] = model_size(c, projections[p].rows);
        o->data = p == PROJ_DOWN ? s + (size_t)l * c->C : zeros;
        cJSON_AddStringToObject(map, o->name, file);
    }
    const char *const metadata[] = {"format", "pt", NULL};
    ok = ok && safetensors_write(path, t, n, metadata, err);
    free(zeros);
    free(t);
    free(names);
    return ok;
}

// Copies the weight files and adds one for the biases, with an index over all.
bool export_hf(const ModelConfig *c, const float *s, const char *from, const char *to, Error *err) {
    char *single = model_path(from, "model.safetensors"), *index = model_path(from, "model.safetensors.index.json");
    cJSON *old = NULL, *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(cJSON_AddObjectToObject(root, "metadata"), "steering_vectors", c->L);
    cJSON *map = cJSON_AddObjectToObject(root, "weight_map");
    bool ok = true;
    if (path_exists(single)) {
        SafeTensors st;
        char *copy = model_path(to, "model-00001-of-00002.safetensors");
        ok = safetensors_open(&st, single, err);
        for (int i = 0; ok && i < st.n_entries; i++)
            cJSON_AddStringToObject(map, st.entries[i].name, "model-00001-of-00002.safetensors");
        if (ok) safetensors_close(&st);
        ok = ok && export_copy_file(single, copy, err);
        free(copy);
    } else {
        const cJSON *found = NULL;
        ok = (old = json_load(index, err)) != NULL && (found = json_get_object(old, "weight_map", index, err)) != NULL;
        for (const cJSON *item = found ? found->child : NULL; item && ok; item = item->next) {
            const char *shard = cJSON_GetStringValue(item);
            ok = shard && !strchr(shard, '/')
                     ? true
                     : fail(err, EXIT_RUN, "%s: weight_map: tensor \"%.80s\": expected a file name of the same folder",
                            index, item->string);
            if (!ok) break;
            cJSON_AddStringToObject(map, item->string, shard);
            char *a = model_path(from, shard), *b = model_path(to, shard);
            if (!path_exists(b)) ok = export_copy_file(a, b, err);
            free(a);
            free(b);
        }
    }
    char *biases = model_path(to, "model-00002-of-00002.safetensors");
    if (old) {
        free(biases);
        biases = model_path(to, "model-biases.safetensors");
    }
    ok = ok && export_hf_biases(c, s, biases, map, strrchr(biases, '/') + 1, err) &&
         export_copy_side_files(from, to, err) && export_hf_config(c, from, to, err);
    char *text = cJSON_Print(root);
    ok = ok && export_write_text(to, "model.safetensors.index.json", text, err);
    cJSON_free(text);
    cJSON_Delete(root);
    cJSON_Delete(old);
    free(single);
    free(index);
    free(biases);
    return ok;
}

// ----------------------------------------------------------------------------
// peft

bool export_peft(const ModelConfig *c, const float *s, const char *base, const char *to, Error *err) {
    float *zeros = (float *)xcalloc((size_t)(c->I > c->C ? c->I : c->C), sizeof(float));
    OutTensor *t = (OutTensor *)xcalloc((size_t)c->L * 3, sizeof(OutTensor));
    char (*names)[PEFT_NAME] = (char (*)[PEFT_NAME])xcalloc((size_t)c->L * 3, PEFT_NAME);
    const char *rest[3] = {"lora_A.weight", "lora_B.bias", "lora_B.weight"};
    for (int l = 0; l < c->L; l++) {
        for (int k = 0; k < 3; k++) {
            OutTensor *o = &t[l * 3 + k];
            o->name = peft_name(names[l * 3 + k], l, PROJ_DOWN, rest[k]);
            o->ndim = k == 1 ? 1 : 2;
            o->shape[0] = k == 0 ? 1 : c->C;
            o->shape[1] = k == 0 ? c->I : 1;
            o->data = k == 1 ? s + (size_t)l * c->C : zeros;
        }
    }
    Str config = {0};
    str_printf(&config, "{\n  \"base_model_name_or_path\": ");
    json_add_string(&config, base, strlen(base));
    str_printf(&config, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n  "
                        "\"lora_alpha\": 1,\n  \"lora_bias\": true,\n"
                        "  \"lora_dropout\": 0.0,\n  \"peft_type\": \"LORA\",\n  \"r\": 1,\n  \"target_modules\": "
                        "[\"down_proj\"],\n  \"task_type\": \"CAUSAL_LM\"\n}\n");
    const char *const metadata[] = {"format", "pt", NULL};
    char *file = model_path(to, "adapter_model.safetensors");
    bool ok = safetensors_write(file, t, c->L * 3, metadata, err) &&
              export_write_text(to, "adapter_config.json", config.s, err);
    free(file);
    free(zeros);
    free(t);
    free(names);
    str_free(&config);
    return ok;
}

// ----------------------------------------------------------------------------
// gguf (version 3): magic, counts, key-value pairs, tensor descriptions, then the tensors, each at a multiple of 32
// bytes

void gguf_u32(Str *out, uint32_t x) {
    for (int i = 0; i < 4; i++) {
        char c = (char)(x >> (8 * i));
        str_add(out, &c, 1);
    }
}
void gguf_u64(Str *out, uint64_t x) {
    gguf_u32(out, (uint32_t)x);
    gguf_u32(out, (uint32_t)(x >> 32));
}

void gguf_string(Str *out, const char *s) {
    gguf_u64(out, strlen(s));
    str_add(out, s, strlen(s));
}

void gguf_pad(Str *out) {
    while (out->n % 32) str_add(out, "", 1);
}

#define GGUF_F32 0 // tensor type

// direction.1 ... direction.L-1: llama.cpp adds direction.l to the output of layer l.
bool export_gguf(const ModelConfig *c, const float *s, const char *to, Error *err) {
    const size_t C = (size_t)c->C;
    Str out = {0};
    str_add(&out, "GGUF", 4);
    gguf_u32(&out, 3);
    gguf_u64(&out, (uint64_t)(c->L - 1));
    gguf_u64(&out, 3);
    gguf_string(&out, "general.architecture");
    gguf_u32(&out, GGUF_STRING);
    gguf_string(&out, "controlvector");
    gguf_string(&out, "controlvector.model_hint");
    gguf_u32(&out, GGUF_STRING);
    gguf_string(&out, "qwen2");
    gguf_string(&out, "controlvector.layer_count");
    gguf_u32(&out, GGUF_UINT32);
    gguf_u32(&out, (uint32_t)(c->L - 1));
    const size_t bytes = (C * sizeof(float) + 31) / 32 * 32;
    for (int l = 1; l < c->L; l++) {
        char name[32];
        snprintf(name, sizeof name, "direction.%d", l);
        gguf_string(&out, name);
        gguf_u32(&out, 1);
        gguf_u64(&out, C);
        gguf_u32(&out, GGUF_F32);
        gguf_u64(&out, (uint64_t)(l - 1) * bytes);
    }
    gguf_pad(&out);
    double lost = 0, all = 0;
    for (int l = 0; l < c->L; l++) {
        for (size_t i = 0; i < C; i++) {
            all += (double)s[l * C + i] * s[l * C + i];
            if (l == 0) lost += (double)s[i] * s[i];
        }
        if (l == 0) continue;
        str_add(&out, (const char *)(s + l * C), C * sizeof(float));
        gguf_pad(&out);
    }
    char *file = model_path(to, "steering_vectors.gguf");
    bool ok = write_file(file, out.s, out.n, err);
    if (ok && lost > 0)
        warn("a control vector of llama.cpp has no place for layer 0: its vector (length %.4g, %.1f %% of all squared "
             "lengths) is lost; results will differ",
             sqrt(lost), 100 * lost / all);
    free(file);
    str_free(&out);
    return ok;
}

// ----------------------------------------------------------------------------

bool export_safetensors(const ModelConfig *c, const float *s, Place place, const char *base, const char *to,
                        Error *err) {
    OutTensor t;
    memset(&t, 0, sizeof t);
    t.name = "steering";
    t.ndim = 2;
    t.shape[0] = c->L;
    t.shape[1] = c->C;
    t.data = s;
    const char *const metadata[] = {"base_model", base, "site", place_names[place].site, NULL};
    char *file = model_path(to, "steering_vectors.safetensors");
    bool ok = safetensors_write(file, &t, 1, metadata, err);
    free(file);
    return ok;
}

// The vectors of those files, in the format that the options name.
bool export_steering(const ModelConfig *c, const char *vectors, const Options *o, const char *to, Error *err) {
    float *s = (float *)xcalloc((size_t)c->L * c->C, sizeof(float));
    char *name = model_name_from_dir(o->model);
    Place place = PLACE_MLP;
    bool ok = export_vectors(s, &place, c, vectors, err);
    if (ok && place != PLACE_MLP && strcmp(o->format, "safetensors") != 0)
        ok = fail(err, EXIT_USAGE,
                  "%s: its vectors belong after %s; format %s has a place only after the feed-forward\n  -> --format "
                  "safetensors",
                  vectors, place_names[place].name, o->format);
    if (ok && strcmp(o->format, "hf") == 0) ok = export_hf(c, s, o->model, to, err);
    else if (ok && strcmp(o->format, "peft") == 0) ok = export_peft(c, s, o->model, to, err);
    else if (ok && strcmp(o->format, "gguf") == 0) ok = export_gguf(c, s, to, err);
    else if (ok) ok = export_safetensors(c, s, place, name, to, err);
    free(s);
    free(name);
    return ok;
}

// The command: everything from the options.
bool export_run(const Options *o, Error *err) {
    ModelConfig c;
    const char *vectors = *o->steering ? o->steering : o->checkpoint;
    if (!*vectors)
        return fail(err, EXIT_USAGE,
                    "checkpoint is missing: whose vectors to export\n  -> --checkpoint DIR or --steering FILE");
    if (!*o->out) return fail(err, EXIT_USAGE, "out is missing: the folder to write\n  -> --out DIR");
    if (!model_config_load(&c, o->model, err)) return false;
    if (model_is_folder(vectors)) {
        model_config_free(&c);
        return fail(err, EXIT_USAGE, "%s is a whole model already, as Hugging Face has it\n  -> copy the folder",
                    vectors);
    }
    if (gguf_is_file(o->model) && strcmp(o->format, "hf") == 0) {
        model_config_free(&c);
        return fail(err, EXIT_USAGE,
                    "format hf: copies a Hugging Face folder, but the model %s is a GGUF file\n  -> --format gguf, the "
                    "control vector that llama.cpp adds to it, or peft",
                    o->model);
    }
    const bool adapter = peft_is_folder(vectors), hf = strcmp(o->format, "hf") == 0,
               peft = strcmp(o->format, "peft") == 0, gguf = strcmp(o->format, "gguf") == 0;
    Export e;
    if (!export_begin(&e, o->out,
                      hf     ? "config.json"
                      : peft ? PEFT_CONFIG
                      : gguf ? "steering_vectors.gguf"
                             : "steering_vectors.safetensors",
                      err)) {
        model_config_free(&c);
        return false;
    }
    bool ok = export_end(&e,
                         adapter ? export_adapter(&c, vectors, o->format, o->model, e.work, err)
                                 : export_steering(&c, vectors, o, e.work, err),
                         err);
    if (ok) printf("saved %s\n", o->out);
    model_config_free(&c);
    return ok;
}

#endif
