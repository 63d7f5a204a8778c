// The files of a model: config.json, weights (one file or shards), steering vectors. Small model folders are written
// here, read back, and then damaged in every way the readers must notice. MODEL=<folder> in the environment adds a
// real model. test_model_files also runs test_safetensors.h and test_checkpoint.h.
#ifndef DEV_TEST_TEST_MODEL_FILES_H
#define DEV_TEST_TEST_MODEL_FILES_H

#include "dev/test/test.h"             // CHECK, SKIP, test_path, test_write
#include "dev/test/test_checkpoint.h"  // test_checkpoint
#include "dev/test/test_safetensors.h" // test_safetensors, mf_expect, mf_file, mf_write, mf_replace
#include "llmc/files/steering_file.h"  // steering_load
#include "llmc/files/weights.h"        // model_config_load, weights_load

// ----------------------------------------------------------------------------
// a small model

#define MF_CONFIG \
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_act\": \"silu\", " \
    "\"hidden_size\": 8, " \
    "\"intermediate_size\": 12, " \
    "\"max_position_embeddings\": 64, \"max_window_layers\": 2, \"num_attention_heads\": 4, \"num_hidden_layers\": " \
    "2, " \
    "\"num_key_value_heads\": 2, " \
    "\"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0, \"rope_scaling\": null, \"sliding_window\": 32, " \
    "\"tie_word_embeddings\": true, " \
    "\"use_sliding_window\": false, " \
    "\"torch_dtype\": \"bfloat16\", \"vocab_size\": 11, \"eos_token_id\": 9, \"bos_token_id\": 8}"

typedef struct {
    char name[96];
    int ndim;
    int64_t shape[2];
    int like;
} MfTensor; // like: its values are those of tensor like - 1

// The tensors of the small model in Hugging Face's order; lm_head last. Returns how many.
int mf_tensors(MfTensor *t) {
    static const struct {
        const char *name;
        int ndim, rows, columns;
    } layer[12] = {{"self_attn.q_proj.weight", 2, 8, 8}, {"self_attn.k_proj.weight", 2, 4, 8},
                   {"self_attn.v_proj.weight", 2, 4, 8}, {"self_attn.q_proj.bias", 1, 8, 0},
                   {"self_attn.k_proj.bias", 1, 4, 0},   {"self_attn.v_proj.bias", 1, 4, 0},
                   {"self_attn.o_proj.weight", 2, 8, 8}, {"mlp.gate_proj.weight", 2, 12, 8},
                   {"mlp.up_proj.weight", 2, 12, 8},     {"mlp.down_proj.weight", 2, 8, 12},
                   {"input_layernorm.weight", 1, 8, 0},  {"post_attention_layernorm.weight", 1, 8, 0}};
    static const struct {
        const char *name;
        int ndim, rows, columns;
    } rest[3] = {{"model.norm.weight", 1, 8, 0}, {"model.embed_tokens.weight", 2, 11, 8}, {"lm_head.weight", 2, 11, 8}};
    int n = 0;
    for (int i = 0; i < 27; i++, n++) {
        memset(&t[n], 0, sizeof t[n]);
        if (i < 24) snprintf(t[n].name, sizeof t[n].name, "model.layers.%d.%s", i / 12, layer[i % 12].name);
        else snprintf(t[n].name, sizeof t[n].name, "%s", rest[i - 24].name);
        t[n].ndim = i < 24 ? layer[i % 12].ndim : rest[i - 24].ndim;
        t[n].shape[0] = i < 24 ? layer[i % 12].rows : rest[i - 24].rows;
        t[n].shape[1] = i < 24 ? layer[i % 12].columns : rest[i - 24].columns;
    }
    return n;
}

// Value j of tensor i: exact in every dtype.
float mf_value(int i, int64_t j) { return (float)((i * 7 + (int)j * 3) % 100 - 50) / 16.0f; }

// fp16 of the values above, which are normal numbers or 0 in it, and of NaN
uint16_t mf_half(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if (x == 0) return 0;
    return x != x ? 0x7E00 : (uint16_t)((u >> 16 & 0x8000) | ((u >> 13 & 0x3FFFF) - (112 << 10)));
}

// Writes the tensors [first, last) as one file; bad >= 0 gets a NaN as its last element.
void mf_write_tensors(const char *path, const MfTensor *t, int first, int last, DType dtype, int bad) {
    Str header = {0}, data = {0}, file = {0};
    for (int i = first; i < last; i++) {
        int64_t n = t[i].shape[0] * (t[i].ndim > 1 ? t[i].shape[1] : 1);
        size_t begin = data.n;
        for (int64_t j = 0; j < n; j++) {
            float x = i == bad && j == n - 1 ? NAN : mf_value(t[i].like ? t[i].like - 1 : i, j);
            uint16_t half = dtype == DTYPE_BF16 ? f32_to_bf16(x) : dtype == DTYPE_F16 ? mf_half(x) : 0;
            if (dtype == DTYPE_F32) str_add(&data, (const char *)&x, 4);
            else str_add(&data, (const char *)&half, 2);
        }
        str_printf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", i > first ? "," : "{", t[i].name,
                   dtype_name(dtype), (int)t[i].shape[0]);
        if (t[i].ndim > 1) str_printf(&header, ",%d", (int)t[i].shape[1]);
        str_printf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.n);
    }
    str_add(&header, "}", 1);
    mf_file(&file, header.s, 0);
    str_add(&file, data.s, data.n);
    mf_write(path, file.s, file.n);
    str_free(&header);
    str_free(&data);
    str_free(&file);
}

// A backend that only remembers what it was given.
int mf_alive;

void mf_weight_load(Weight *w, const RawTensor *raw, int n_raw) {
    memset(w, 0, sizeof *w);
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    w->K = (int)raw[0].shape[1];
    w->n_raw = n_raw;
    w->data = xmalloc(1);
    mf_alive++;
}

void mf_weight_free(Weight *w) {
    free(w->data);
    mf_alive--;
}

const Ops *mf_ops(void) {
    static Ops ops;
    ops_host_init(&ops);
    ops.alloc = ref_alloc;
    ops.release = ref_release;
    ops.weight_load = mf_weight_load;
    ops.weight_free = mf_weight_free;
    return &ops;
}

// raw part `part` of w is tensor i of the list, value for value
bool mf_same(const Weight *w, int part, const MfTensor *t, int i) {
    const RawTensor *r = &w->raw[part];
    if (part >= w->n_raw || strcmp(r->name, t[i].name) != 0 || r->shape[0] != t[i].shape[0] ||
        r->shape[1] != t[i].shape[1])
        return false;
    for (int64_t j = 0; j < r->shape[0] * r->shape[1]; j++) {
        float x;
        raw_to_f32(&x, r, j, 1);
        if (x != mf_value(i, j)) return false;
    }
    return true;
}

void mf_check_weights(const FrozenWeights *w, const MfTensor *t, bool tied, const char *label) {
    for (int l = 0; l < 2; l++) {
        const Layer *y = &w->layers[l];
        const Weight *qkv = &y->linear[LINEAR_QKV].weight, *gate_up = &y->linear[LINEAR_GATE_UP].weight;
        int b = 12 * l;
        CHECK(qkv->N == 16 && qkv->K == 8 && mf_same(qkv, 0, t, b) && mf_same(qkv, 1, t, b + 1) &&
                  mf_same(qkv, 2, t, b + 2),
              "%s: qkv of layer %d", label, l);
        CHECK(mf_same(&y->linear[LINEAR_O].weight, 0, t, b + 6) && gate_up->N == 24 && mf_same(gate_up, 0, t, b + 7) &&
                  mf_same(gate_up, 1, t, b + 8) && mf_same(&y->linear[LINEAR_DOWN].weight, 0, t, b + 9),
              "%s: matrices of layer %d", label, l);
        bool same = true;
        for (int j = 0; j < 16; j++)
            same &= y->linear[LINEAR_QKV].bias[j] == (j < 8    ? mf_value(b + 3, j)
                                                      : j < 12 ? mf_value(b + 4, j - 8)
                                                               : mf_value(b + 5, j - 12));
        for (int j = 0; j < 8; j++)
            same &= y->norm[NORM_INPUT][j] == mf_value(b + 10, j) && y->norm[NORM_POST][j] == mf_value(b + 11, j) &&
                    w->final_norm[j] == mf_value(24, j);
        CHECK(same, "%s: biases or norms of layer %d", label, l);
    }
    CHECK(mf_same(&w->head.weight, 0, t, tied ? 25 : 26) && strcmp(w->wte.name, t[25].name) == 0,
          "%s: head or embedding", label);
}

// Tries to load; expects the words in the message, or success where words is NULL.
void mf_try_weights(const char *dir, bool tied, const MfTensor *t, const char *words, const char *label) {
    ModelConfig c;
    FrozenWeights w;
    Error e = {0, ""};
    if (!CHECK(model_config_load(&c, dir, &e), "%s: %s", label, e.text)) return;
    c.tied = tied;
    bool ok = weights_load(&w, &c, dir, mf_ops(), &e);
    if (words) mf_expect(ok, &e, words, label);
    else if (CHECK(ok, "%s: %s", label, e.text)) mf_check_weights(&w, t, tied, label);
    if (ok) weights_free(&w, mf_ops());
    CHECK(mf_alive == 0 && !w.files && !w.layers, "%s: %d weights were not freed", label, mf_alive);
    model_config_free(&c);
}

void test_weights(void) {
    char dir[200], file[256], shard[2][256], index[256];
    snprintf(dir, sizeof dir, "%s", test_path("model"));
    mkdir(dir, 0777);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    snprintf(index, sizeof index, "%s/model.safetensors.index.json", dir);
    for (int i = 0; i < 2; i++) snprintf(shard[i], sizeof shard[i], "%s/model-0000%d-of-00002.safetensors", dir, i + 1);
    char *config = model_path(dir, "config.json");
    test_write(config, MF_CONFIG);
    MfTensor t[27];
    int n = mf_tensors(t);
    mf_try_weights(dir, true, t, "found neither model.safetensors nor", "no weights");
    const DType types[3] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (int k = 0; k < 3; k++) {
        mf_write_tensors(file, t, 0, n - 1, types[k], -1);
        mf_try_weights(dir, true, t, NULL, "tied");
        mf_try_weights(dir, false, t, "lm_head.weight is missing|[11, 8]", "no lm_head");
        mf_write_tensors(file, t, 0, n, types[k], -1);
        mf_try_weights(dir, false, t, NULL, "separate head");
    }
    char words[256];
    for (int i = 0; i < n; i++) { // every tensor: missing, of another shape, with a NaN
        MfTensor changed[27];
        memcpy(changed, t, sizeof t);
        changed[i].name[0] = 'X';
        mf_write_tensors(file, changed, 0, n, DTYPE_BF16, -1);
        snprintf(words, sizeof words, "tensor %.95s is missing", t[i].name);
        mf_try_weights(dir, false, t, words, "missing tensor");
        memcpy(changed, t, sizeof t);
        changed[i].shape[0]++;
        mf_write_tensors(file, changed, 0, n, DTYPE_BF16, -1);
        snprintf(words, sizeof words,
                 t[i].ndim > 1 ? "tensor %.95s: found shape [%d, %d]|expected [%d, %d]"
                               : "tensor %.95s: found shape [%d]|expected [%d]",
                 t[i].name, (int)t[i].shape[0] + 1, t[i].ndim > 1 ? (int)t[i].shape[1] : (int)t[i].shape[0],
                 (int)t[i].shape[0], (int)t[i].shape[1]);
        mf_try_weights(dir, false, t, words, "other shape");
        mf_write_tensors(file, t, 0, n, types[i % 3], i);
        snprintf(words, sizeof words, "model.safetensors|tensor %.95s: found NaN or infinity at row %d, column %d",
                 t[i].name, t[i].ndim > 1 ? (int)t[i].shape[0] - 1 : 0, (int)t[i].shape[t[i].ndim - 1] - 1);
        mf_try_weights(dir, false, t, words, "NaN");
    }

    // Shards: q of layer 0 in the second, so that one layer's tensors come from two files.
    unlink(file);
    mf_write_tensors(shard[0], t, 1, 14, DTYPE_BF16, -1);
    MfTensor second[27];
    memcpy(second, t + 14, 13 * sizeof(MfTensor));
    mf_write_tensors(shard[1], t, 14, n, DTYPE_F16, -1);
    Str map = {0};
    for (int i = 1; i < n; i++)
        str_printf(&map, ", \"%s\": \"model-0000%d-of-00002.safetensors\"", t[i].name, i < 14 ? 1 : 2);
    Str good = {0};
    str_printf(&good,
               "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"%s\": \"model-00001-of-00002.safetensors\"%s}}",
               t[0].name, map.s);
    test_write(index, good.s);
    snprintf(words, sizeof words, "index.json: weight_map says that tensor %.95s is in model-00001", t[0].name);
    mf_try_weights(dir, false, t, words, "tensor not in the named shard");
    mf_write_tensors(shard[0], t, 0, 14, DTYPE_BF16, -1);
    mf_try_weights(dir, false, t, NULL, "shards");
    static const char *damage[][3] = {
        {"\"model-00001-of-00002.safetensors\"", "\"../model/model-00001-of-00002.safetensors\"", "same folder"},
        {"\"model-00001-of-00002.safetensors\"", "\"/etc/model.safetensors\"", "same folder"},
        {"\"model-00001-of-00002.safetensors\"", "\"model-00001-of-00002.bin\"", "same folder"},
        {"\"model-00001-of-00002.safetensors\"", "\"model-00003-of-00002.safetensors\"", "not in the folder"},
        {"\"model-00001-of-00002.safetensors\"", "\"model-00002-of-00002.safetensors\"", "that file does not hold it"},
        {"\"model-00001-of-00002.safetensors\"", "7", "found a number, expected a file name"},
        {"model.norm.weight", "model.layers.1.mlp.up_proj.weight", "comes twice"},
        {"\"model.norm.weight\": \"model-00002-of-00002.safetensors\", ", "",
         "weight_map: tensor model.norm.weight is missing"},
        {"\"weight_map\"", "\"weights\"", "weight_map|found nothing"},
        {"{\"model.", "[\"model.", "not valid JSON"},
        {"}}", "}", "not valid JSON"}};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char *bad = mf_replace(good.s, damage[i][0], damage[i][1]);
        test_write(index, bad);
        mf_try_weights(dir, false, t, damage[i][2], damage[i][1]);
        free(bad);
    }
    test_write(index, good.s);
    if (truncate(shard[1], 900) == 0)
        mf_try_weights(dir, false, t, "model-00002-of-00002.safetensors|cut short", "cut shard");
    str_free(&map);
    str_free(&good);
    free(config);
}

void test_model_config(void) {
    char dir[200];
    snprintf(dir, sizeof dir, "%s", test_path("config"));
    mkdir(dir, 0777);
    char *path = model_path(dir, "config.json"), *generation = model_path(dir, "generation_config.json");
    ModelConfig c;
    Error e = {0, ""};
    mf_expect(model_config_load(&c, dir, &e), &e, "has no config.json", "empty folder");
    memset(&e, 0, sizeof e);
    test_write(path, MF_CONFIG);
    CHECK(model_config_load(&c, dir, &e), "%s", e.text);
    CHECK(c.C == 8 && c.I == 12 && c.L == 2 && c.NH == 4 && c.NKV == 2 && c.HD == 2 && c.V == 11 &&
              c.max_position == 64 && c.tied && c.pad == -1,
          "sizes");
    CHECK(c.rms_norm_eps == 1e-6f && c.rope_theta == 1e6f && c.eos.n == 1 && c.eos.v[0] == 9, "numbers");
    model_config_free(&c);
    test_write(generation, "{\"eos_token_id\": [10, 8], \"pad_token_id\": 8}");
    CHECK(model_config_load(&c, dir, &e) && c.eos.n == 2 && c.eos.v[0] == 10 && c.eos.v[1] == 8 && c.pad == 8,
          "generation_config: %s", e.text);
    model_config_free(&c);
    test_write(generation, "{\"eos_token_id\": null}");
    CHECK(model_config_load(&c, dir, &e) && c.eos.n == 1 && c.eos.v[0] == 9, "EOS falls back to config.json: %s",
          e.text);
    model_config_free(&c);
    static const char *bad_generation[][2] = {{"[]", "expected an object"},
                                              {"{\"eos_token_id\": 11}", "eos_token_id|0 to vocab_size - 1 = 10"},
                                              {"{\"eos_token_id\": [1, \"x\"]}", "entry 1"},
                                              {"{\"eos_token_id\"", "not valid JSON"}};
    for (size_t i = 0; i < sizeof bad_generation / sizeof *bad_generation; i++) {
        test_write(generation, bad_generation[i][0]);
        memset(&e, 0, sizeof e);
        mf_expect(model_config_load(&c, dir, &e), &e, bad_generation[i][1], bad_generation[i][0]);
    }
    unlink(generation);

    static const char *change[][3] = {
        // words NULL: must load
        {"[\"Qwen2ForCausalLM\"]", "[\"LlamaForCausalLM\"]",
         "config.json|another architecture|found \"LlamaForCausalLM\"|expected \"Qwen2ForCausalLM\""},
        {"\"architectures\": [\"Qwen2ForCausalLM\"], ", "", NULL},
        {"\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\"", "\"model_type\": \"qwen3\"",
         "found \"qwen3\""},
        {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act|gelu|silu"},
        {"\"hidden_act\": \"silu\", ", "", NULL},
        {"\"hidden_size\": 8", "\"hidden_size\": 8.5", "hidden_size|8.5"},
        {"\"hidden_size\": 8", "\"hidden_size\": \"8\"", "hidden_size|a string"},
        {"\"hidden_size\": 8, ", "", "hidden_size|found nothing"},
        {"\"hidden_size\": 8", "\"hidden_size\": -8", "hidden_size|-8"},
        {"\"hidden_size\": 8", "\"hidden_size\": 10", "not a multiple of num_attention_heads 4"},
        {"\"hidden_size\": 8", "\"hidden_size\": 12", "head dimension of 3"},
        {"\"hidden_size\": 8", "\"hidden_size\": 8, \"hidden_size\": 8", "twice"},
        {"\"hidden_size\": 8", "\"hidden_size\": 8, \"head_dim\": 6", NULL},
        {"\"hidden_size\": 8", "\"hidden_size\": 8, \"head_dim\": 5", "head dimension of 5"},
        {"\"hidden_size\": 8", "\"hidden_size\": 1e99", "hidden_size"},
        {"\"vocab_size\": 11", "\"vocab_size\": 0", "vocab_size"},
        {"\"vocab_size\": 11", "\"vocab_size\": 9", "eos_token_id"},
        {"\"hidden_size\": 8, \"intermediate_size\": 12", "\"hidden_size\": 65536, \"intermediate_size\": 1048576",
         "more than 2147483647 elements"},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "not a multiple of num_key_value_heads 3"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000", "num_hidden_layers|100000"},
        {"\"use_sliding_window\": false", "\"use_sliding_window\": true",
         NULL}, // layers 2 and up, of which there are none
        {"\"max_window_layers\": 2",
         "\"max_window_layers\": 1, \"use_sliding_window\": true, \"use_sliding_window\": true", "twice"},
        {"\"use_sliding_window\": false", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]",
         "layer_types[1]|sliding_attention"},
        {"\"use_sliding_window\": false", "\"layer_types\": [\"full_attention\", \"full_attention\"]", NULL},
        {"\"use_sliding_window\": false", "\"layer_types\": [\"full_attention\"]", "layer_types: found 1 entries"},
        {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}", "rope_scaling|yarn"},
        {"\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 4.0}", "rope_scaling|null"},
        {"\"rope_scaling\": null", "\"rope_scaling\": 4", "rope_scaling|a number"},
        {"\"rope_theta\": 1000000.0", "\"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"default\"}",
         NULL},
        {"\"rope_theta\": 1000000.0", "\"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": \"linear\"}",
         "rope_parameters|linear"},
        {"\"rope_theta\": 1000000.0", "\"rope_theta\": \"big\"", "rope_theta|a string"},
        {"\"rope_theta\": 1000000.0", "\"rope_theta\": 0", "rope_theta"},
        {"1e-06", "-1", "rms_norm_eps"},
        {"1e-06", "1e999", "rms_norm_eps"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "tie_word_embeddings|true or false"},
        {"\"torch_dtype\"", "\"quantization_config\": {\"bits\": 4}, \"torch_dtype\"", "quantization_config"},
        {"\"eos_token_id\": 9, ", "", "no eos_token_id"},
        {"\"bos_token_id\": 8}", "\"bos_token_id\": 8", "not valid JSON"}};
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        char *text = mf_replace(MF_CONFIG, change[i][0], change[i][1]);
        test_write(path, text);
        memset(&e, 0, sizeof e);
        bool ok = model_config_load(&c, dir, &e);
        if (change[i][2]) mf_expect(ok, &e, change[i][2], change[i][1]);
        else CHECK(ok && c.rope_theta == 1e6f, "%s: %s", change[i][1], e.text);
        if (ok) model_config_free(&c);
        free(text);
    }
    // absent keys, and the places where rope_theta may be, as transformers 5.24 reads them
    static const struct {
        const char *from, *to;
        double theta, eps;
        int context;
    } defaults[] = {
        {"\"rope_theta\": 1000000.0, ", "", 1e4, 1e-6, 64},
        {"\"rms_norm_eps\": 1e-06, ", "", 1e6, 1e-6, 64},
        {"1e-06", "0.001", 1e6, 1e-3, 64},
        {"\"max_position_embeddings\": 64, ", "", 1e6, 1e-6, 32768},
        {"\"rope_scaling\": null", "\"rope_scaling\": {}", 1e6, 1e-6, 64},
        {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"default\", \"rope_theta\": 500}", 500, 1e-6, 64},
        {"\"rope_scaling\": null", "\"rope_parameters\": {\"rope_theta\": 500}", 500, 1e-6, 64},
        {"\"rope_scaling\": null", "\"rope_parameters\": {\"rope_type\": \"default\"}", 1e6, 1e-6, 64},
        {"\"rope_scaling\": null",
         "\"rope_scaling\": {\"type\": \"default\"}, \"rope_parameters\": {\"rope_theta\": 500}", 1e6, 1e-6, 64}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        char *text = mf_replace(MF_CONFIG, defaults[i].from, defaults[i].to);
        test_write(path, text);
        memset(&e, 0, sizeof e);
        if (CHECK(model_config_load(&c, dir, &e), "%s: %s", text, e.text))
            CHECK(c.rope_theta == (float)defaults[i].theta && c.rms_norm_eps == (float)defaults[i].eps &&
                      c.max_position == defaults[i].context,
                  "%s: found rope_theta %g, eps %g, context %d", text, (double)c.rope_theta, (double)c.rms_norm_eps,
                  c.max_position);
        model_config_free(&c);
        free(text);
    }
    char *windows = mf_replace(MF_CONFIG, "\"max_window_layers\": 2", "\"max_window_layers\": 1"),
         *text = mf_replace(windows, "\"use_sliding_window\": false", "\"use_sliding_window\": true");
    test_write(path, text);
    memset(&e, 0, sizeof e);
    mf_expect(model_config_load(&c, dir, &e), &e, "use_sliding_window true (layers 1 to 1)", "sliding window");
    free(windows);
    free(text);

    uint32_t state = 99; // random damage: refused, or within the limits
    int wrong = 0;
    for (int round = 0; round < 2000; round++) {
        char bytes[] = MF_CONFIG;
        for (uint32_t k = mf_random(&state) % 3 + 1; k > 0; k--)
            bytes[mf_random(&state) % (sizeof bytes - 1)] =
                (char)(round % 2 ? mf_random(&state) % 255 + 1 : '0' + mf_random(&state) % 10);
        mf_write(path, bytes, sizeof bytes - 1);
        if (!model_config_load(&c, dir, NULL)) continue;
        wrong += c.C < 1 || c.HD < 2 || c.HD % 2 || c.NH % c.NKV || c.L < 1 || c.L > 1024 || c.eos.n < 1 ||
                 c.eos.v[0] >= c.V || !(c.rope_theta > 1) || (int64_t)c.V * c.C > MODEL_MAX_ELEMENTS;
        model_config_free(&c);
    }
    CHECK(wrong == 0, "%d damaged configs were accepted with impossible values", wrong);
    static const char *names[][2] = {{"/models/Qwen2.5-0.5B/", "Qwen2.5-0.5B"},
                                     {"tiny", "tiny"},
                                     {"/hub/models--Qwen--Qwen2.5-1.5B/snapshots/0a1b2c", "Qwen2.5-1.5B"},
                                     {"/x--y/qwen", "qwen"},
                                     {"/snapshots/qwen", "qwen"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *name = model_name_from_dir(names[i][0]);
        CHECK(strcmp(name, names[i][1]) == 0, "%s: found %s, expected %s", names[i][0], name, names[i][1]);
        free(name);
    }
    free(path);
    free(generation);
}

void test_real_model(void) {
    const char *dir = getenv("MODEL");
    if (!dir || !*dir) {
        SKIP("no MODEL=<folder> in the environment: the reading of a real model is not tested");
        return;
    }
    ModelConfig c;
    FrozenWeights w;
    Error e = {0, ""};
    double start = now_s();
    if (!CHECK(model_config_load(&c, dir, &e) && weights_load(&w, &c, dir, mf_ops(), &e), "%s", e.text)) return;
    double seconds = now_s() - start, bytes = 0;
    for (int i = 0; i < w.n_files; i++) bytes += (double)w.files[i].map_bytes;
    printf("read and checked %s: %d layers, %.2f GB in %.2f s\n", dir, c.L, bytes * 1e-9, seconds);
    CHECK(w.layers[c.L - 1].linear[LINEAR_DOWN].weight.N == c.C && w.head.weight.N == c.V && c.eos.n > 0, "sizes");
    weights_free(&w, mf_ops());
    model_config_free(&c);
}

#include "dev/test/test_steering_file.h" // test_steering

// What everybody takes from the table of tensors: each projection in one linear, stacked neighbours, a bias for all of
// them or for none, names whose last part is PEFT's.
void test_tensor_table(void) {
    const Family *families[1] = {&qwen2_family};
    int seen = 0;
    for (int i = 0; i < N_LINEARS; i++) {
        Projection first = N_PROJ;
        const int n = linear_projections(&first, (LinearId)i);
        CHECK(n >= 1 && n <= MAX_STACKED && (int)first == seen,
              "linear %d: %d projections from %d on, expected from %d", i, n, (int)first, seen);
        for (int p = seen; p < seen + n && p < N_PROJ; p++) {
            const char *dot = strrchr(projections[p].module, '.');
            CHECK((int)projections[p].linear == i && projections[p].columns == projections[seen].columns,
                  "%s is not stacked on its neighbours of linear %d", projections[p].module, i);
            CHECK(dot && strcmp(dot + 1, projections[p].name) == 0, "%s is not %s", projections[p].module,
                  projections[p].name);
            for (int f = 0; f < 1; f++)
                CHECK(families[f]->bias[p] == families[f]->bias[seen], "family %d: the bias of %s", f,
                      projections[p].module);
        }
        seen += n;
    }
    CHECK(seen == N_PROJ, "%d projections in the linears, expected %d", seen, N_PROJ);
}

void test_model_files(void) {
    test_tensor_table();
    test_safetensors();
    test_model_config();
    test_weights();
    test_real_model();
    test_steering();
    test_checkpoint();
}

#endif
