/*
A Hugging Face model folder's weights: the safetensors file(s) read into FrozenWeights, of the sizes that model_config.h has read.
Also the trained thing: a file of steering vectors, one per layer.
*/
#ifndef LLMC_MODEL_H
#define LLMC_MODEL_H

#include <dirent.h>       // opendir
#include <sys/mman.h>     // madvise
#include "json.h"         // json_load, json_get_object, json_duplicate_key, cJSON
#include "model_config.h" // ModelConfig, model_path
#include "ops.h"          // Ops, Weight, RawTensor
#include "ops_ref.h"      // raw_to_f32
#include "safetensors.h"  // SafeTensors, safetensors_open, safetensors_get, tensor_check_finite, shape_text
#include "utils.h"        // Error, fail, path_exists

typedef struct {
    Weight qkv;         // [(NH + 2 NKV) HD, C]  query, then key, then value rows
    Weight o;           // [C, NH HD]
    Weight gu;          // [2I, C]  gate rows, then up rows
    Weight down;        // [C, I]
    float *qkv_bias;    // [(NH + 2 NKV) HD]
    float *input_norm;  // [C]
    float *post_norm;   // [C]
} Layer;

// Written after loading by tuning_write_weights (tuning.h) alone.
typedef struct {
    RawTensor wte;      // [V, C]  the embedding matrix, as `embed` wants it
    bool wte_lent;      // it is an array of somebody else's, who frees it
    Layer *layers;      // [L]
    float *final_norm;  // [C]
    Weight head;        // [V, C]  made of wte where tied
    int L;
    SafeTensors *files; // what the raw tensors point into
    int n_files;
} FrozenWeights;

// ----------------------------------------------------------------------------
// weights

// The folder's safetensors files while they are being read: one, or several with an index.
typedef struct {
    FrozenWeights *w;
    cJSON *index;         // NULL for a single file
    char *index_path;
    const cJSON *map;     // tensor name -> shard name
    const char **shards;  // [n_files]
} ModelFiles;

// Which open file holds the shard of that name; -1 if it is not open yet.
int model_find_shard(const ModelFiles *f, const char *shard) {
    for (int i = 0; i < f->w->n_files; i++) {
        if (strcmp(f->shards[i], shard) == 0) return i;
    }
    return -1;
}

// A shard is a file of the model's own folder.
bool model_check_shard_name(const char *shard, const char *index_path, Error *err) {
    size_t n = strlen(shard);
    bool ok = n > 12 && n < 256 && strcmp(shard + n - 12, ".safetensors") == 0 && !strchr(shard, '/') && !strchr(shard, '\\');
    return ok ? true
              : fail(err, EXIT_RUN, "%s: weight_map: found the file name \"%.80s\", expected a .safetensors file in the same folder",
                     index_path, shard);
}

// Opens every shard once; every tensor of the map must be in the shard that the map names.
bool model_open_shards(ModelFiles *f, const char *dir, Error *err) {
    f->index = json_load(f->index_path, err);
    if (!f->index) return false;
    f->map = json_get_object(f->index, "weight_map", f->index_path, err);
    if (!f->map) return false;
    const char *twice = json_duplicate_key(f->map);
    if (twice) return fail(err, EXIT_RUN, "%s: weight_map: tensor \"%.80s\" comes twice", f->index_path, twice);
    size_t n = (size_t)cJSON_GetArraySize(f->map); // no more shards than names
    f->shards = (const char **)xcalloc(n, sizeof(char *));
    f->w->files = (SafeTensors *)xcalloc(n, sizeof(SafeTensors));
    for (const cJSON *item = f->map->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return fail(err, EXIT_RUN, "%s: weight_map: tensor \"%.80s\": found %s, expected a file name", f->index_path, item->string,
                        json_type_name(item));
        int i = model_find_shard(f, item->valuestring);
        if (i < 0) {
            if (!model_check_shard_name(item->valuestring, f->index_path, err)) return false;
            char *path = model_path(dir, item->valuestring);
            i = f->w->n_files;
            if (!path_exists(path))
                fail(err, EXIT_RUN, "%s: weight_map names %.80s, which is not in the folder\n  -> download the missing file", f->index_path,
                     item->valuestring);
            else if (safetensors_open(&f->w->files[i], path, err)) f->shards[f->w->n_files++] = item->valuestring;
            free(path);
            if (f->w->n_files == i) return false;
        }
        if (!safetensors_find_entry(&f->w->files[i], item->string))
            return fail(err, EXIT_RUN, "%s: weight_map says that tensor %.80s is in %.80s, but that file does not hold it", f->index_path,
                        item->string, item->valuestring);
    }
    return true;
}

bool model_open_files(ModelFiles *f, const char *dir, Error *err) {
    char *single = model_path(dir, "model.safetensors");
    bool ok;
    if (path_exists(single)) {
        f->w->files = (SafeTensors *)xcalloc(1, sizeof(SafeTensors));
        ok = safetensors_open(f->w->files, single, err);
        f->w->n_files = ok;
    } else if (path_exists(f->index_path)) {
        ok = model_open_shards(f, dir, err);
    } else {
        ok = fail(err, EXIT_RUN,
                  "%s: found neither model.safetensors nor model.safetensors.index.json\n  -> download the model in safetensors format",
                  dir);
    }
    free(single);
    return ok;
}

// Finds a tensor ([d0], or [d0, d1] where d1 > 0), checks shape, type and values. The data stays where it is.
bool model_get_tensor(RawTensor *out, const ModelFiles *f, const char *name, int64_t d0, int64_t d1, Error *err) {
    int64_t shape[2] = {d0, d1};
    int file = 0;
    if (f->map) {
        const cJSON *shard = cJSON_GetObjectItemCaseSensitive(f->map, name);
        char text[128];
        if (!shard)
            return fail(err, EXIT_RUN, "%s: weight_map: tensor %s is missing; expected %s", f->index_path, name,
                        shape_text(text, d1 ? 2 : 1, shape));
        file = model_find_shard(f, shard->valuestring);
    }
    const SafeTensors *st = &f->w->files[file];
    const RawTensor *t = safetensors_get(st, name, d1 ? 2 : 1, shape, err);
    if (!t || !tensor_check_finite(t, st->path, err)) return false;
    *out = *t;
    return true;
}

// model.layers.<l>.<rest>
bool model_get_layer_tensor(RawTensor *out, const ModelFiles *f, int l, const char *rest, int64_t d0, int64_t d1, Error *err) {
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.%s", l, rest);
    return model_get_tensor(out, f, name, d0, d1, err);
}

// The vectors t[0], t[1], ... one behind the other as fp32, in the backend's memory.
float *model_to_float(const RawTensor *t, int n, const Ops *ops) {
    size_t all = 0, done = 0;
    for (int i = 0; i < n; i++) all += (size_t)t[i].shape[0];
    float *host = (float *)xmalloc(all * sizeof(float)), *x = (float *)ops->alloc(all * sizeof(float));
    for (int i = 0; i < n; done += (size_t)t[i++].shape[0]) raw_to_f32(host + done, &t[i], 0, (int)t[i].shape[0]);
    ops->upload(x, host, all * sizeof(float));
    free(host);
    return x;
}

bool model_load_layer(Layer *y, const ModelFiles *f, int l, const ModelConfig *c, const Ops *ops, Error *err) {
    int rows[3] = {c->NH * c->HD, c->NKV * c->HD, c->NKV * c->HD};
    const char *weight[3] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"};
    const char *bias[3] = {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"};
    RawTensor t[3], b[3];
    for (int i = 0; i < 3; i++) {
        if (!model_get_layer_tensor(&t[i], f, l, weight[i], rows[i], c->C, err) ||
            !model_get_layer_tensor(&b[i], f, l, bias[i], rows[i], 0, err))
            return false;
    }
    y->qkv_bias = model_to_float(b, 3, ops);
    ops->weight_load(&y->qkv, t, 3);
    if (!model_get_layer_tensor(&t[0], f, l, "self_attn.o_proj.weight", c->C, rows[0], err)) return false;
    ops->weight_load(&y->o, t, 1);
    if (!model_get_layer_tensor(&t[0], f, l, "mlp.gate_proj.weight", c->I, c->C, err) ||
        !model_get_layer_tensor(&t[1], f, l, "mlp.up_proj.weight", c->I, c->C, err))
        return false;
    ops->weight_load(&y->gu, t, 2);
    if (!model_get_layer_tensor(&t[0], f, l, "mlp.down_proj.weight", c->C, c->I, err)) return false;
    ops->weight_load(&y->down, t, 1);
    if (!model_get_layer_tensor(b, f, l, "input_layernorm.weight", c->C, 0, err)) return false;
    y->input_norm = model_to_float(b, 1, ops);
    if (!model_get_layer_tensor(b, f, l, "post_attention_layernorm.weight", c->C, 0, err)) return false;
    y->post_norm = model_to_float(b, 1, ops);
    return true;
}

void model_free_weight(Weight *w, const Ops *ops) {
    if (w->n_raw > 0) ops->weight_free(w); // never loaded where loading failed half-way
    memset(w, 0, sizeof *w);
}

void weights_free(FrozenWeights *w, const Ops *ops) {
    for (int l = 0; w->layers && l < w->L; l++) {
        Layer *y = &w->layers[l];
        model_free_weight(&y->qkv, ops);
        model_free_weight(&y->o, ops);
        model_free_weight(&y->gu, ops);
        model_free_weight(&y->down, ops);
        float *vectors[3] = {y->qkv_bias, y->input_norm, y->post_norm};
        for (int i = 0; i < 3; i++) if (vectors[i]) ops->release(vectors[i]);
    }
    model_free_weight(&w->head, ops);
    if (w->wte.data && !w->wte_lent) ops->embedding_free(&w->wte);
    if (w->final_norm) ops->release(w->final_norm);
    free(w->layers);
    for (int i = 0; i < w->n_files; i++) safetensors_close(&w->files[i]);
    free(w->files);
    memset(w, 0, sizeof *w);
}

// Bytes that the weights take of the backend's memory; a file's pages, where it computes from them, are not counted.
size_t weights_bytes(const FrozenWeights *w, const ModelConfig *c, const Ops *ops) {
    size_t bytes = w->head.bytes + (size_t)c->C * sizeof(float);
    if (!ops->host_memory) bytes += (size_t)c->V * c->C * dtype_bytes(w->wte.dtype);
    for (int l = 0; l < w->L; l++) {
        const Layer *y = &w->layers[l];
        bytes += y->qkv.bytes + y->o.bytes + y->gu.bytes + y->down.bytes + ((size_t)y->qkv.N + 2 * (size_t)c->C) * sizeof(float);
    }
    return bytes;
}

// The same before they are loaded, for a backend that has weight_bytes (ops.h).
size_t weights_bytes_planned(const ModelConfig *c, const Ops *ops) {
    const int qkv = (c->NH + 2 * c->NKV) * c->HD;
    const size_t layer = ops->weight_bytes(qkv, c->C) + ops->weight_bytes(c->C, c->NH * c->HD) + ops->weight_bytes(2 * c->I, c->C) +
                         ops->weight_bytes(c->C, c->I) + ((size_t)qkv + 2 * (size_t)c->C) * sizeof(float);
    return ops->weight_bytes(c->V, c->C) + (size_t)c->C * sizeof(float) + (size_t)c->L * layer;
}

// Bytes of the folder's safetensors files, which will be mapped.
size_t model_file_bytes(const char *dir) {
    size_t bytes = 0;
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct stat info;
        const size_t n = strlen(e->d_name);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0) continue;
        char *path = model_path(dir, e->d_name);
        if (stat(path, &info) == 0) bytes += (size_t)info.st_size;
        free(path);
    }
    if (d) closedir(d);
    return bytes;
}

// The pages of the files that were read may go; they come back from the file when touched again.
void weights_drop_pages(FrozenWeights *w) {
    for (int i = 0; i < w->n_files; i++) madvise(w->files[i].map, w->files[i].map_bytes, MADV_DONTNEED);
}

// Loads dir/model.safetensors, or the shards that dir/model.safetensors.index.json names, under Hugging Face's names.
// Every tensor is checked for shape, type, NaN and infinity. On failure *w is empty and err names file and tensor, what
// was found and what was expected. Free with weights_free.
bool weights_load(FrozenWeights *w, const ModelConfig *c, const char *dir, const Ops *ops, Error *err) {
    memset(w, 0, sizeof *w);
    ModelFiles f;
    memset(&f, 0, sizeof f);
    f.w = w;
    f.index_path = model_path(dir, "model.safetensors.index.json");
    RawTensor t, wte;
    bool ok = model_open_files(&f, dir, err) && model_get_tensor(&wte, &f, "model.embed_tokens.weight", c->V, c->C, err);
    if (ok) {
        w->wte = ops->embedding_load(&wte);
        w->L = c->L;
        w->layers = (Layer *)xcalloc((size_t)c->L, sizeof(Layer));
    }
    if (ok && (ok = model_get_tensor(&t, &f, "model.norm.weight", c->C, 0, err))) w->final_norm = model_to_float(&t, 1, ops);
    if (ok) t = wte;
    ok = ok && (c->tied || model_get_tensor(&t, &f, "lm_head.weight", c->V, c->C, err));
    if (ok) ops->weight_load(&w->head, &t, 1);
    for (int l = 0; l < c->L && ok; l++) {
        if (w->head.data) weights_drop_pages(w); // the backend has copies: never the whole model twice in memory
        ok = model_load_layer(&w->layers[l], &f, l, c, ops, err);
    }
    if (ok && w->head.data) weights_drop_pages(w);
    cJSON_Delete(f.index);
    free(f.index_path);
    free(f.shards);
    if (!ok) weights_free(w, ops);
    return ok;
}

// ----------------------------------------------------------------------------
// steering vectors

// s[L,C], in the host's memory, = the tensor `steering` of a file, or of steering_vectors.safetensors in a checkpoint folder. fp32, bf16 and
// fp16 load; another shape or a value that is no number is an error. *site (site may be NULL) = where in a layer they belong, as the file's metadata
// say, NULL if they do not; free with free().
bool steering_load_site(float *s, char **site, const ModelConfig *c, const char *path, Error *err) {
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    char *file = folder ? model_path(path, "steering_vectors.safetensors") : xstrdup(path);
    SafeTensors st;
    Error inner = {0, ""};
    const int64_t shape[2] = {c->L, c->C};
    const RawTensor *t = NULL;
    bool opened = safetensors_open(&st, file, &inner);
    bool ok = opened && (t = safetensors_get(&st, "steering", 2, shape, &inner)) != NULL && tensor_check_finite(t, file, &inner);
    if (ok) raw_to_f32(s, t, 0, c->L * c->C);
    if (ok && site) *site = safetensors_metadata(&st, "site") ? xstrdup(safetensors_metadata(&st, "site")) : NULL;
    if (!ok) fail(err, EXIT_RUN, "cannot load steering vectors: %s%s", inner.text,
              opened && !t ? "\n  -> the vectors must come from a model with the same number of layers and hidden_size" : "");
    if (opened) safetensors_close(&st);
    free(file);
    return ok;
}

bool steering_load(float *s, const ModelConfig *c, const char *path, Error *err) { return steering_load_site(s, NULL, c, path, err); }

#endif
