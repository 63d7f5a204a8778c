/*
A Hugging Face model folder's weights: the safetensors file(s) read into FrozenWeights, of the sizes that model_config.h
has read. Also the trained thing: a file of steering vectors, one per layer.
*/
#ifndef LLMC_MODEL_H
#define LLMC_MODEL_H

#include <dirent.h>            // opendir
#include <sys/mman.h>          // madvise
#include "llmc/files/files.h"  // json_load, json_get_*, SafeTensors, safetensors_*, tensor_check_finite
#include "llmc/model_config.h" // ModelConfig, model_path
#include "llmc/ops.h"          // Ops, Weight, RawTensor
#include "llmc/ops_ref.h"      // raw_to_f32
#include "llmc/utils/utils.h"  // Error, fail, path_exists

// A linear layer, y = x W^T + bias: one projection or several stacked (tensors.h).
typedef struct {
    Weight weight;    // [N,K]
    float *bias;      // [N]; NULL: none
    int layer;        // -1: the output matrix
    Projection first; // in a layer: of the projections it is stacked of
    int n;            // how many they are; 0: the output matrix
} Linear;

typedef struct {
    Linear linear[N_LINEARS]; // by LinearId
    float *norm[N_NORMS];     // by NormId; NULL: the family has none
} Layer;

// Written after loading by weights_from_params (param_layout.h) alone.
typedef struct {
    RawTensor wte;     // [V, C]  the embedding matrix, as `embed` wants it
    bool wte_lent;     // it is an array of somebody else's, who frees it
    Layer *layers;     // [L]
    float *final_norm; // [C]
    Linear head;       // [V, C]  made of wte where tied
    int L;
    SafeTensors *files; // what the raw tensors point into
    int n_files;
} FrozenWeights;

// ----------------------------------------------------------------------------
// weights

// The folder's safetensors files while they are being read: one, or several with an index.
typedef struct {
    FrozenWeights *w;
    cJSON *index; // NULL for a single file
    char *index_path;
    const cJSON *map;    // tensor name -> shard name
    const char **shards; // [n_files]
    bool **used;         // [n_files][tensors of the file] which were asked for
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
    bool ok =
        n > 12 && n < 256 && strcmp(shard + n - 12, ".safetensors") == 0 && !strchr(shard, '/') && !strchr(shard, '\\');
    return ok ? true
              : fail(err, EXIT_RUN,
                     "%s: weight_map: found the file name \"%.80s\", expected a .safetensors file in the same folder",
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
            return fail(err, EXIT_RUN, "%s: weight_map: tensor \"%.80s\": found %s, expected a file name",
                        f->index_path, item->string, json_type_name(item));
        int i = model_find_shard(f, item->valuestring);
        if (i < 0) {
            if (!model_check_shard_name(item->valuestring, f->index_path, err)) return false;
            char *path = model_path(dir, item->valuestring);
            i = f->w->n_files;
            if (!path_exists(path))
                fail(err, EXIT_RUN,
                     "%s: weight_map names %.80s, which is not in the folder\n  -> download the missing file",
                     f->index_path, item->valuestring);
            else if (safetensors_open(&f->w->files[i], path, err)) f->shards[f->w->n_files++] = item->valuestring;
            free(path);
            if (f->w->n_files == i) return false;
        }
        if (!safetensors_find_entry(&f->w->files[i], item->string))
            return fail(err, EXIT_RUN,
                        "%s: weight_map says that tensor %.80s is in %.80s, but that file does not hold it",
                        f->index_path, item->string, item->valuestring);
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
                  "%s: found neither model.safetensors nor model.safetensors.index.json\n  -> download the model in "
                  "safetensors format",
                  dir);
    }
    free(single);
    return ok;
}

// Where the files have a tensor of that name: in which of them, -1 if nowhere.
int model_find_tensor(const ModelFiles *f, const char *name) {
    if (!f->map) return safetensors_find_entry(&f->w->files[0], name) ? 0 : -1;
    const cJSON *shard = cJSON_GetObjectItemCaseSensitive(f->map, name);
    return shard ? model_find_shard(f, shard->valuestring) : -1;
}

// Finds a tensor ([d0], or [d0, d1] where d1 > 0), checks shape, type and values. The data stays where it is.
bool model_get_tensor(RawTensor *out, const ModelFiles *f, const char *name, int64_t d0, int64_t d1, Error *err) {
    int64_t shape[2] = {d0, d1};
    char text[128];
    const int file = model_find_tensor(f, name);
    if (f->map && file < 0)
        return fail(err, EXIT_RUN, "%s: weight_map: tensor %s is missing; expected %s", f->index_path, name,
                    shape_text(text, d1 ? 2 : 1, shape));
    const SafeTensors *st = &f->w->files[file < 0 ? 0 : file];
    const RawTensor *t = safetensors_get(st, name, d1 ? 2 : 1, shape, err);
    if (!t || !tensor_check_finite(t, st->path, err)) return false;
    f->used[file][safetensors_find_entry(st, name) - st->entries] = true;
    *out = *t;
    return true;
}

// A tensor that nothing has asked for means something that is not computed here: the numbers would be another model's.
// Old files keep RoPE's frequencies, which follow from config.json: those are named and passed over, as transformers
// does.
bool model_check_used(const ModelFiles *f, const ModelConfig *c, Error *err) {
    const char *frequencies = NULL;
    for (int i = 0; i < f->w->n_files; i++) {
        const SafeTensors *st = &f->w->files[i];
        for (int k = 0; k < st->n_entries; k++) {
            const SafeTensorsEntry *e = &st->entries[k];
            char shape[128];
            int layer = -1;
            if (f->used[i][k]) continue;
            if (strstr(e->name, "rotary_emb.inv_freq")) {
                frequencies = e->name;
                continue;
            }
            if (sscanf(e->name, "model.layers.%d.", &layer) == 1 && layer >= c->L)
                return fail(err, EXIT_RUN,
                            "%s: found tensor %s, expected layers 0 to %d: num_hidden_layers in config.json is %d\n"
                            "  -> the config.json of this file, or a file of %d layers",
                            st->path, e->name, c->L - 1, c->L, c->L);
            if (model_find_tensor(f, e->name) >= 0 && model_find_tensor(f, e->name) != i)
                return fail(err, EXIT_RUN,
                            "%s: holds tensor %s, which %s says is in %s\n  -> remove it from one of the two files",
                            st->path, e->name, f->index_path, f->shards[model_find_tensor(f, e->name)]);
            return fail(
                err, EXIT_RUN,
                "%s: found tensor %s %s, which no Qwen2 computes with: without it the numbers would be another "
                "model's\n"
                "  -> merge an adapter into the weights first; remove what belongs to no forward pass (a value head)",
                st->path, e->name, shape_text(shape, e->ndim, e->shape));
        }
    }
    if (frequencies) warn("%s and the like are not read: RoPE's frequencies follow from config.json", frequencies);
    return true;
}

// The vectors t[0], t[1], ... one after another as fp32, in the backend's memory.
float *model_to_float(const RawTensor *t, int n, const Ops *ops) {
    size_t all = 0, done = 0;
    for (int i = 0; i < n; i++) all += (size_t)t[i].shape[0];
    float *host = (float *)xmalloc(all * sizeof(float)), *x = (float *)ops->alloc(all * sizeof(float));
    for (int i = 0; i < n; done += (size_t)t[i++].shape[0]) raw_to_f32(host + done, &t[i], 0, (int)t[i].shape[0]);
    ops->upload(x, host, all * sizeof(float));
    free(host);
    return x;
}

bool model_load_linear(Linear *y, const ModelFiles *f, int l, LinearId id, const ModelConfig *c, const Ops *ops,
                       Error *err) {
    RawTensor weight[MAX_STACKED], bias[MAX_STACKED];
    char name[TENSOR_NAME];
    int n_biases = 0;
    y->layer = l;
    y->n = linear_projections(&y->first, id);
    for (int i = 0; i < y->n; i++) {
        const Projection p = (Projection)(y->first + i);
        const char *module = projections[p].module;
        int N, K;
        projection_shape(&N, &K, c, p);
        if (!model_get_tensor(&weight[i], f, tensor_name(name, l, module, ".weight"), N, K, err)) return false;
        tensor_name(name, l, module, ".bias");
        const Bias rule = c->family->bias[p];
        if (rule == NO_BIAS || (rule == BIAS_IF_STORED && model_find_tensor(f, name) < 0)) continue;
        if (!model_get_tensor(&bias[n_biases++], f, name, N, 0, err)) return false;
    }
    if (n_biases > 0) y->bias = model_to_float(bias, n_biases, ops);
    ops->weight_load(&y->weight, weight, y->n);
    return true;
}

bool model_load_layer(Layer *y, const ModelFiles *f, int l, const ModelConfig *c, const Ops *ops, Error *err) {
    for (int i = 0; i < N_LINEARS; i++)
        if (!model_load_linear(&y->linear[i], f, l, (LinearId)i, c, ops, err)) return false;
    for (int i = 0; i < N_NORMS; i++) {
        RawTensor t;
        char name[TENSOR_NAME];
        const char *module = c->family->norms[i].module;
        if (!module) continue;
        if (!model_get_tensor(&t, f, tensor_name(name, l, module, ".weight"), model_size(c, c->family->norms[i].size),
                              0, err))
            return false;
        y->norm[i] = model_to_float(&t, 1, ops);
    }
    return true;
}

void model_free_linear(Linear *y, const Ops *ops) {
    if (y->weight.n_raw > 0) ops->weight_free(&y->weight); // never loaded where loading failed half-way
    if (y->bias) ops->release(y->bias);
    memset(y, 0, sizeof *y);
}

void weights_free(FrozenWeights *w, const Ops *ops) {
    for (int l = 0; w->layers && l < w->L; l++) {
        for (int i = 0; i < N_LINEARS; i++) model_free_linear(&w->layers[l].linear[i], ops);
        for (int i = 0; i < N_NORMS; i++)
            if (w->layers[l].norm[i]) ops->release(w->layers[l].norm[i]);
    }
    model_free_linear(&w->head, ops);
    if (w->wte.data && !w->wte_lent) ops->embedding_free(&w->wte);
    if (w->final_norm) ops->release(w->final_norm);
    free(w->layers);
    for (int i = 0; i < w->n_files; i++) safetensors_close(&w->files[i]);
    free(w->files);
    memset(w, 0, sizeof *w);
}

// Floats of a layer's norms.
size_t model_norm_floats(const ModelConfig *c) {
    size_t n = 0;
    for (int i = 0; i < N_NORMS; i++)
        if (c->family->norms[i].module) n += (size_t)model_size(c, c->family->norms[i].size);
    return n;
}

// Bytes that the weights take of the backend's memory; a file's pages, where it computes from them, are not counted.
size_t weights_bytes(const FrozenWeights *w, const ModelConfig *c, const Ops *ops) {
    size_t bytes = w->head.weight.bytes + (size_t)c->C * sizeof(float);
    if (!ops->host_memory) bytes += (size_t)c->V * c->C * dtype_bytes(w->wte.dtype);
    for (int l = 0; l < w->L; l++) {
        bytes += model_norm_floats(c) * sizeof(float);
        for (int i = 0; i < N_LINEARS; i++) {
            const Linear *y = &w->layers[l].linear[i];
            bytes += y->weight.bytes + (y->bias ? (size_t)y->weight.N * sizeof(float) : 0);
        }
    }
    return bytes;
}

// The same before they are loaded, for a backend that has weight_bytes (ops.h).
size_t weights_bytes_planned(const ModelConfig *c, const Ops *ops) {
    size_t layer = model_norm_floats(c) * sizeof(float);
    for (int i = 0; i < N_LINEARS; i++) {
        Projection first = PROJ_Q;
        const int n = linear_projections(&first, (LinearId)i);
        int N = 0, rows, K = 0;
        for (int k = 0; k < n; k++) {
            projection_shape(&rows, &K, c, (Projection)(first + k));
            N += rows;
        }
        layer += ops->weight_bytes(N, K) + (c->family->bias[first] == BIAS ? (size_t)N * sizeof(float) : 0);
    }
    return ops->weight_bytes(c->V, c->C) + (size_t)c->C * sizeof(float) + (size_t)c->L * layer;
}

// The address space that they take beyond that (alloc_room).
size_t weights_room_planned(const ModelConfig *c, const Ops *ops) {
    const int qkv = (c->NH + 2 * c->NKV) * c->HD;
    const size_t layer = alloc_room(ops->weight_bytes(qkv, c->C)) + alloc_room(ops->weight_bytes(c->C, c->NH * c->HD)) +
                         alloc_room(ops->weight_bytes(2 * c->I, c->C)) + alloc_room(ops->weight_bytes(c->C, c->I));
    return alloc_room(ops->weight_bytes(c->V, c->C)) + (size_t)c->L * layer;
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

// The tensor of that name as the files hold it; what a tied model's files call the output matrix alone is its
// embedding, too.
const RawTensor *weights_find_raw(const FrozenWeights *w, const char *name) {
    const RawTensor *raw = NULL;
    for (int i = 0; i < w->n_files && !raw; i++) raw = safetensors_find(&w->files[i], name);
    return raw || strcmp(name, MODULE_EMBEDDING ".weight") != 0 ? raw : weights_find_raw(w, MODULE_HEAD ".weight");
}

// Whether the files hold vectors already, as biases of down_proj.
bool weights_have_vectors(const FrozenWeights *w) {
    for (int l = 0; l < w->L; l++)
        if (w->layers[l].linear[LINEAR_DOWN].bias) return true;
    return false;
}

// The pages of the files that were read may go; they come back from the file when touched again.
void weights_drop_pages(FrozenWeights *w) {
    for (int i = 0; i < w->n_files; i++) madvise(w->files[i].map, w->files[i].map_bytes, MADV_DONTNEED);
}

// Whether two tensors of one shape hold the same numbers, whatever their types.
bool model_same_numbers(const RawTensor *a, const RawTensor *b) {
    const int64_t n = tensor_elements(a);
    if (a->dtype == b->dtype && memcmp(a->data, b->data, (size_t)n * dtype_bytes(a->dtype)) == 0) return true;
    float x[256], y[256];
    for (int64_t i = 0; i < n; i += 256) {
        const int k = n - i < 256 ? (int)(n - i) : 256;
        raw_to_f32(x, a, i, k);
        raw_to_f32(y, b, i, k);
        for (int j = 0; j < k; j++)
            if (x[j] != y[j]) return false;
    }
    return true;
}

// The embedding and the output matrix as transformers takes them under tie_word_embeddings: one of the two in the files
// is both; two that differ stay two, and c->tied becomes false.
bool model_get_embeddings(RawTensor *wte, RawTensor *head, const ModelFiles *f, ModelConfig *c, Error *err) {
    const char *const names[2] = {MODULE_EMBEDDING ".weight", MODULE_HEAD ".weight"};
    const bool there[2] = {model_find_tensor(f, names[0]) >= 0, model_find_tensor(f, names[1]) >= 0};
    if (c->tied && !(there[0] && there[1])) {
        if (!model_get_tensor(wte, f, names[there[1]], c->V, c->C, err)) return false;
        *head = *wte;
        return true;
    }
    if (!model_get_tensor(wte, f, names[0], c->V, c->C, err) || !model_get_tensor(head, f, names[1], c->V, c->C, err))
        return false;
    if (!c->tied) return true;
    c->tied = model_same_numbers(wte, head);
    if (c->tied) *head = *wte;
    else
        warn("%s: %s is not %s, though config.json says tie_word_embeddings true: it is used, as transformers does",
             f->w->files[0].path, names[1], names[0]);
    return true;
}

// Loads dir/model.safetensors, or the shards that dir/model.safetensors.index.json names, under Hugging Face's names.
// Every tensor is checked for shape, type, NaN and infinity, and every one of the files is used or refused by name
// (model_check_used). c->tied becomes false where the files have an output matrix of their own (model_get_embeddings).
// On failure *w is empty and err names file and tensor, what was found and what was expected. Free with weights_free.
bool weights_load(FrozenWeights *w, ModelConfig *c, const char *dir, const Ops *ops, Error *err) {
    memset(w, 0, sizeof *w);
    ModelFiles f;
    memset(&f, 0, sizeof f);
    f.w = w;
    f.index_path = model_path(dir, "model.safetensors.index.json");
    RawTensor t, wte, head;
    bool ok = model_open_files(&f, dir, err);
    f.used = (bool **)xcalloc((size_t)w->n_files, sizeof(bool *));
    for (int i = 0; i < w->n_files; i++) f.used[i] = (bool *)xcalloc((size_t)w->files[i].n_entries, sizeof(bool));
    ok = ok && model_get_embeddings(&wte, &head, &f, c, err);
    if (ok) {
        w->wte = ops->embedding_load(&wte);
        w->L = c->L;
        w->layers = (Layer *)xcalloc((size_t)c->L, sizeof(Layer));
    }
    if (ok && (ok = model_get_tensor(&t, &f, MODULE_FINAL_NORM ".weight", c->C, 0, err)))
        w->final_norm = model_to_float(&t, 1, ops);
    w->head.layer = -1;
    if (ok) ops->weight_load(&w->head.weight, &head, 1);
    for (int l = 0; l < c->L && ok; l++) {
        if (w->head.weight.data) weights_drop_pages(w); // the backend has copies: never the whole model twice in memory
        ok = model_load_layer(&w->layers[l], &f, l, c, ops, err);
    }
    if (ok && w->head.weight.data) weights_drop_pages(w);
    ok = ok && model_check_used(&f, c, err);
    if (ok && weights_have_vectors(w))
        warn("%s: the biases of down_proj in it are added, as the vectors that they are; transformers' Qwen2 leaves "
             "them out",
             w->files[0].path);
    for (int i = 0; i < w->n_files; i++) free(f.used[i]);
    free(f.used);
    cJSON_Delete(f.index);
    free(f.index_path);
    free(f.shards);
    if (!ok) weights_free(w, ops);
    return ok;
}

// ----------------------------------------------------------------------------
// steering vectors

// s[L,C], in the host's memory, = the tensor `steering` of a file, or of steering_vectors.safetensors in a checkpoint
// folder. fp32, bf16 and fp16 load; another shape or a value that is no number is an error. *site (site may be NULL) =
// where in a layer they belong, as the file's metadata say, NULL if they do not; free with free().
bool steering_load_site(float *s, char **site, const ModelConfig *c, const char *path, Error *err) {
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    char *file = folder ? model_path(path, "steering_vectors.safetensors") : xstrdup(path);
    SafeTensors st;
    Error inner = {0, ""};
    const int64_t shape[2] = {c->L, c->C};
    const RawTensor *t = NULL;
    bool opened = safetensors_open(&st, file, &inner);
    bool ok = opened && (t = safetensors_get(&st, "steering", 2, shape, &inner)) != NULL &&
              tensor_check_finite(t, file, &inner);
    for (int i = 0; ok && i < st.n_entries; i++) { // steering_A and steering_B are the factors of the same vectors
        const char *name = st.entries[i].name;
        if (strcmp(name, "steering") != 0 && strcmp(name, "steering_A") != 0 && strcmp(name, "steering_B") != 0)
            ok = fail(&inner, EXIT_RUN,
                      "%s: found tensor %s, expected `steering` alone: what it would do is not known here\n  -> remove "
                      "it from the file",
                      file, name);
    }
    if (ok) raw_to_f32(s, t, 0, c->L * c->C);
    if (ok && site) *site = safetensors_metadata(&st, "site") ? xstrdup(safetensors_metadata(&st, "site")) : NULL;
    if (!ok)
        fail(err, EXIT_RUN, "cannot load steering vectors: %s%s", inner.text,
             opened && !t ? "\n  -> the vectors must come from a model with the same number of layers and hidden_size"
                          : "");
    if (opened) safetensors_close(&st);
    free(file);
    return ok;
}

bool steering_load(float *s, const ModelConfig *c, const char *path, Error *err) {
    return steering_load_site(s, NULL, c, path, err);
}

#endif
