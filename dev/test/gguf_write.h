/*
Writes GGUF files for tests, without the gguf package: the tiny model with matrices of every type that is read, and the
Hugging Face folder in bf16 that such a file is to be computed as. The quantisers are plain (the largest value sets the
scale); what blocks mean is judged by recorded ones (test_gguf.h).
*/
#ifndef DEV_TEST_GGUF_WRITE_H
#define DEV_TEST_GGUF_WRITE_H

#include "dev/test/test.h"     // CHECK, test_write
#include "llmc/files/export.h" // gguf_u32, gguf_u64, gguf_string, gguf_pad
#include "llmc/files/files.h"  // SafeTensors, cJSON
#include "llmc/model_config.h" // ModelConfig
#include "llmc/ops_host.h"     // raw_to_f32

// fp16 of a float, cut off; 0 below 2^-14.
void gw_half(uint8_t *to, float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    const uint16_t h = fabsf(x) < 0x1p-14f ? 0 : (uint16_t)((u >> 16 & 0x8000) | ((u >> 13 & 0x3FFFF) - (112 << 10)));
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
}

int gw_round(float x, int low, int high) {
    const float r = roundf(x);
    return !(r > (float)low) ? low : r > (float)high ? high : (int)r;
}

// Block b of 32: d (and m); the integers q[32] that come out are packed by the caller.
void gw_scale_32(int *q, float *d, float *m, const float *x, int levels, bool minimum) {
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float most = -low > high ? -low : high;
    uint8_t half[2];
    *m = minimum ? low : 0;
    gw_half(half, minimum ? (high - low) / (float)(levels - 1) : most / (float)(levels / 2 - 1));
    *d = quant_f16(half);
    gw_half(half, *m);
    *m = quant_f16(half);
    for (int i = 0; i < 32; i++)
        q[i] = *d == 0 ? (minimum ? 0 : levels / 2)
                       : gw_round((x[i] - *m) / *d + (minimum ? 0 : (float)(levels / 2)), 0, levels - 1);
}

// Q4_K, Q5_K: 256 values.
void gw_block_k(uint8_t *b, const float *x, DType t) {
    float scale[8], least[8], d = 0, dmin = 0;
    const int levels = t == DTYPE_Q4_K ? 16 : 32;
    for (int j = 0; j < 8; j++) {
        float low = 0, high = 0;
        for (int i = 0; i < 32; i++) {
            low = x[32 * j + i] < low ? x[32 * j + i] : low;
            high = x[32 * j + i] > high ? x[32 * j + i] : high;
        }
        least[j] = -low;
        scale[j] = (high - low) / (float)(levels - 1);
        d = scale[j] > d ? scale[j] : d;
        dmin = least[j] > dmin ? least[j] : dmin;
    }
    gw_half(b, d / 63);
    gw_half(b + 2, dmin / 63);
    d = quant_f16(b);
    dmin = quant_f16(b + 2);
    for (int j = 0; j < 8; j++) {
        const int sc = d > 0 ? gw_round(scale[j] / d, 0, 63) : 0, m = dmin > 0 ? gw_round(least[j] / dmin, 0, 63) : 0;
        uint8_t *s = b + 4;
        if (j < 4) {
            s[j] |= (uint8_t)sc;
            s[j + 4] |= (uint8_t)m;
        } else {
            s[j + 4] |= (uint8_t)((sc & 15) | (m & 15) << 4);
            s[j - 4] |= (uint8_t)(sc >> 4 << 6);
            s[j] |= (uint8_t)(m >> 4 << 6);
        }
        for (int i = 0; i < 32; i++) {
            const int q = sc > 0 ? gw_round((x[32 * j + i] + dmin * (float)m) / (d * (float)sc), 0, levels - 1) : 0;
            if (t == DTYPE_Q5_K) b[16 + i] |= (uint8_t)((q >> 4) << j);
            b[(t == DTYPE_Q5_K ? 48 : 16) + j / 2 * 32 + i] |= (uint8_t)((q & 15) << (j % 2 ? 4 : 0));
        }
    }
}

void gw_block_q6(uint8_t *b, const float *x) {
    float d = 0, most[16];
    for (int j = 0; j < 16; j++) {
        most[j] = 0;
        for (int i = 0; i < 16; i++) most[j] = fabsf(x[16 * j + i]) > most[j] ? fabsf(x[16 * j + i]) : most[j];
        d = most[j] > d ? most[j] : d;
    }
    gw_half(b + 208, d / 31 / 127);
    d = quant_f16(b + 208);
    for (int j = 0; j < 16; j++) {
        const int sc = d > 0 ? gw_round(most[j] / 31 / d, 0, 127) : 0;
        b[192 + j] = (uint8_t)sc;
        for (int i = 0; i < 16; i++) {
            const int at = 16 * j + i, n = at / 128, k = at % 128 / 32, l = at % 32;
            const int q = sc > 0 ? gw_round(x[at] / (d * (float)sc) + 32, 0, 63) : 32;
            b[64 * n + 32 * (k & 1) + l] |= (uint8_t)((q & 15) << (k < 2 ? 0 : 4));
            b[128 + 32 * n + l] |= (uint8_t)((q >> 4) << 2 * k);
        }
    }
}

// Appends n values as that type; n whole blocks.
void gw_quantise(Str *out, const float *x, size_t n, DType t) {
    const DTypeInfo type = dtype_info(t);
    for (size_t at = 0; at < n; at += (size_t)type.block) {
        uint8_t b[256];
        int q[32];
        float d, m;
        memset(b, 0, sizeof b);
        const float *v = x + at;
        if (t == DTYPE_F32) memcpy(b, v, 4);
        if (t == DTYPE_F16) gw_half(b, *v);
        if (t == DTYPE_BF16) {
            const bf16_t h = f32_to_bf16(*v);
            memcpy(b, &h, 2);
        }
        if (t == DTYPE_Q8_0) {
            gw_scale_32(q, &d, &m, v, 256, false);
            gw_half(b, d);
            for (int i = 0; i < 32; i++) b[2 + i] = (uint8_t)(q[i] - 128);
        }
        if (t == DTYPE_Q4_0 || t == DTYPE_Q4_1 || t == DTYPE_Q5_0 || t == DTYPE_Q5_1) {
            const bool five = t == DTYPE_Q5_0 || t == DTYPE_Q5_1, minimum = t == DTYPE_Q4_1 || t == DTYPE_Q5_1;
            gw_scale_32(q, &d, &m, v, five ? 32 : 16, minimum);
            gw_half(b, d);
            if (minimum) gw_half(b + 2, m);
            uint8_t *h = b + (minimum ? 4 : 2), *low = h + (five ? 4 : 0);
            for (int i = 0; i < 32; i++) {
                low[i % 16] |= (uint8_t)((q[i] & 15) << (i < 16 ? 0 : 4));
                if (five) h[i / 8] |= (uint8_t)(q[i] >> 4 << i % 8);
            }
        }
        if (t == DTYPE_Q4_K || t == DTYPE_Q5_K) gw_block_k(b, v, t);
        if (t == DTYPE_Q6_K) gw_block_q6(b, v);
        str_add(out, (const char *)b, (size_t)type.bytes);
    }
}

// ----------------------------------------------------------------------------
// files

typedef struct {
    char name[TENSOR_NAME], hf[TENSOR_NAME]; // here, and in a folder
    DType type;
    int rows, columns; // columns 0: a vector
    Str data;
} GwTensor;

typedef struct {
    Str pairs;
    int n_pairs, n_tensors;
    GwTensor tensors[128];
    uint32_t version;
} GwFile;

void gw_text(GwFile *f, const char *key, const char *value) {
    gguf_string(&f->pairs, key);
    gguf_u32(&f->pairs, GGUF_STRING);
    gguf_string(&f->pairs, value);
    f->n_pairs++;
}

void gw_int(GwFile *f, const char *key, uint32_t value) {
    gguf_string(&f->pairs, key);
    gguf_u32(&f->pairs, GGUF_UINT32);
    gguf_u32(&f->pairs, value);
    f->n_pairs++;
}

void gw_float(GwFile *f, const char *key, float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    gguf_string(&f->pairs, key);
    gguf_u32(&f->pairs, GGUF_FLOAT32);
    gguf_u32(&f->pairs, u);
    f->n_pairs++;
}

void gw_array(GwFile *f, const char *key, GgufValueType element, uint64_t n) {
    gguf_string(&f->pairs, key);
    gguf_u32(&f->pairs, GGUF_ARRAY);
    gguf_u32(&f->pairs, (uint32_t)element);
    gguf_u64(&f->pairs, n);
    f->n_pairs++;
}

void gw_add(GwFile *f, const char *name, const char *hf, DType type, int rows, int columns, const float *x) {
    GwTensor *t = &f->tensors[f->n_tensors++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->hf, sizeof t->hf, "%s", hf);
    t->type = type;
    t->rows = rows;
    t->columns = columns;
    gw_quantise(&t->data, x, (size_t)rows * (size_t)(columns ? columns : 1), type);
}

// Appends the file that holds tensors first ... last - 1, with the pairs and those of `more`.
void gw_bytes(Str *out, const GwFile *f, const Str *more, int n_more, int first, int last) {
    size_t offset = 0;
    str_add(out, "GGUF", 4);
    gguf_u32(out, f->version);
    gguf_u64(out, (uint64_t)(last - first));
    gguf_u64(out, (uint64_t)((first == 0 ? f->n_pairs : 0) + n_more));
    if (first == 0) str_add(out, f->pairs.s, f->pairs.n);
    if (more) str_add(out, more->s, more->n);
    for (int i = first; i < last; i++) {
        const GwTensor *t = &f->tensors[i];
        int number = 0;
        for (int k = 0; k < GGUF_TENSOR_TYPES; k++)
            if (gguf_tensor_types[k].dtype == t->type) number = gguf_tensor_types[k].number;
        gguf_string(out, t->name);
        gguf_u32(out, t->columns ? 2 : 1);
        if (t->columns) gguf_u64(out, (uint64_t)t->columns);
        gguf_u64(out, (uint64_t)t->rows);
        gguf_u32(out, (uint32_t)number);
        gguf_u64(out, offset);
        offset += (t->data.n + 31) / 32 * 32;
    }
    gguf_pad(out);
    for (int i = first; i < last; i++) {
        str_add(out, f->tensors[i].data.s, f->tensors[i].data.n);
        gguf_pad(out);
    }
}

void gw_write(const char *path, const Str *bytes) {
    Error err = {0, ""};
    CHECK(write_file(path, bytes->s, bytes->n, &err), "%s", err.text);
}

void gw_free(GwFile *f) {
    for (int i = 0; i < f->n_tensors; i++) str_free(&f->tensors[i].data);
    str_free(&f->pairs);
    memset(f, 0, sizeof *f);
}

// model.safetensors of the same numbers, all bf16.
void gw_write_folder(const char *path, const GwFile *f) {
    Str header = {0}, data = {0}, file = {0};
    for (int i = 0; i < f->n_tensors; i++) {
        const GwTensor *t = &f->tensors[i];
        const RawTensor raw = {t->name, t->type, 1, {t->rows, t->columns, 0, 0}, t->data.s};
        const int n = t->rows * (t->columns ? t->columns : 1);
        const size_t begin = data.n;
        float *x = (float *)xmalloc((size_t)n * sizeof *x);
        raw_to_f32(x, &raw, 0, n);
        for (int k = 0; k < n; k++) {
            const bf16_t h = f32_to_bf16(x[k]);
            str_add(&data, (const char *)&h, 2);
        }
        free(x);
        str_printf(&header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%d", i ? "," : "{", t->hf, t->rows);
        if (t->columns) str_printf(&header, ",%d", t->columns);
        str_printf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.n);
    }
    str_add(&header, "}", 1);
    gguf_u64(&file, header.n);
    str_add(&file, header.s, header.n);
    str_add(&file, data.s, data.n);
    gw_write(path, &file);
    str_free(&header);
    str_free(&data);
    str_free(&file);
}

// ----------------------------------------------------------------------------
// the tiny model

// Keys of the tiny model's config and tokenizer.
void gw_tiny_keys(GwFile *f, const ModelConfig *c) {
    cJSON *root = json_load("data/tiny/model/tokenizer.json", NULL);
    const cJSON *vocab = json_find(json_find(root, "model"), "vocab"), *added = json_find(root, "added_tokens");
    const char **tokens = (const char **)xcalloc((size_t)c->V, sizeof *tokens);
    int *types = (int *)xcalloc((size_t)c->V, sizeof *types);
    for (const cJSON *t = vocab ? vocab->child : NULL; t; t = t->next) {
        tokens[t->valueint] = t->string;
        types[t->valueint] = GGUF_TOKEN_NORMAL;
    }
    for (const cJSON *t = added ? added->child : NULL; t; t = t->next) {
        tokens[json_find(t, "id")->valueint] = json_find(t, "content")->valuestring;
        types[json_find(t, "id")->valueint] = GGUF_TOKEN_CONTROL;
    }
    f->version = 3;
    gw_text(f, "general.architecture", "qwen2");
    gw_int(f, "qwen2.block_count", (uint32_t)c->L);
    gw_int(f, "qwen2.context_length", (uint32_t)c->max_position);
    gw_int(f, "qwen2.embedding_length", (uint32_t)c->C);
    gw_int(f, "qwen2.feed_forward_length", (uint32_t)c->I);
    gw_int(f, "qwen2.attention.head_count", (uint32_t)c->NH);
    gw_int(f, "qwen2.attention.head_count_kv", (uint32_t)c->NKV);
    gw_float(f, "qwen2.rope.freq_base", c->rope_theta);
    gw_float(f, "qwen2.attention.layer_norm_rms_epsilon", c->rms_norm_eps);
    gw_text(f, "tokenizer.ggml.model", "gpt2");
    gw_text(f, "tokenizer.ggml.pre", "qwen2");
    gw_array(f, "tokenizer.ggml.tokens", GGUF_STRING, (uint64_t)c->V);
    for (int i = 0; i < c->V; i++) gguf_string(&f->pairs, tokens[i] ? tokens[i] : "");
    gw_array(f, "tokenizer.ggml.token_type", GGUF_INT32, (uint64_t)c->V);
    for (int i = 0; i < c->V; i++) gguf_u32(&f->pairs, (uint32_t)(tokens[i] ? types[i] : GGUF_TOKEN_UNUSED));
    gw_array(f, "tokenizer.ggml.merges", GGUF_STRING, 0);
    gw_int(f, "tokenizer.ggml.eos_token_id", (uint32_t)c->eos.v[0]);
    gw_int(f, "tokenizer.ggml.padding_token_id", (uint32_t)c->pad);
    free(tokens);
    free(types);
    cJSON_Delete(root);
}

// The type of a matrix of the tiny model: all eleven come, those of 256 where rows allow it.
DType gw_tiny_type(int i, int columns) {
    static const DType large[] = {DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K},
                       small[] = {DTYPE_Q8_0, DTYPE_Q5_0, DTYPE_Q4_0, DTYPE_BF16, DTYPE_Q5_1,
                                  DTYPE_Q4_1, DTYPE_F16,  DTYPE_Q8_0, DTYPE_Q5_0};
    if (columns % 256 == 0) return large[i % 3];
    return columns % 32 == 0 ? small[i % 9] : DTYPE_F32;
}

// The tiny model with quantised matrices. head: an output matrix of its own, beside the embedding.
void gw_tiny(GwFile *f, ModelConfig *c, bool head) {
    Error err = {0, ""};
    SafeTensors st;
    memset(f, 0, sizeof *f);
    if (!CHECK(model_config_load(c, "data/tiny/model", &err) &&
                   safetensors_open(&st, "data/tiny/model/model.safetensors", &err),
               "%s", err.text))
        return;
    gw_tiny_keys(f, c);
    for (int i = 0; i < st.n; i++) {
        const RawTensor *t = &st.tensors[i];
        const int rows = (int)t->shape[0], columns = t->ndim > 1 ? (int)t->shape[1] : 0, n = (int)tensor_elements(t);
        char name[TENSOR_NAME];
        float *x = (float *)xmalloc((size_t)n * sizeof *x);
        raw_to_f32(x, t, 0, n);
        if (columns == 0) // not what bf16 can hold, as in the real files
            for (int k = 0; k < n; k++) x[k] *= 1.0009765625f;
        const DType type = columns ? gw_tiny_type(i, columns) : DTYPE_F32;
        gw_add(f, tensor_gguf_name(name, t->name, c->family), t->name, type, rows, columns, x);
        if (head && strcmp(name, "token_embd.weight") == 0) {
            for (int k = 0; k < n; k++) x[k] *= 1.25f;
            gw_add(f, "output.weight", "lm_head.weight", DTYPE_Q8_0, rows, columns, x);
        }
        free(x);
    }
    safetensors_close(&st);
}

#endif
