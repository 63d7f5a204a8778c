/*
A model loaded: the tensors of its files read into FrozenWeights, of the sizes that config.h has read.
*/
#ifndef LLMC_FILES_WEIGHTS_H
#define LLMC_FILES_WEIGHTS_H

#include <dirent.h>                 // opendir
#include <sys/mman.h>               // madvise
#include "llmc/files/config.h"      // model_config_load
#include "llmc/files/model_files.h" // ModelFiles, model_get_tensor
#include "llmc/ops_host.h"          // raw_to_f32
#include "llmc/qwen2_memory.h"      // Qwen2, FrozenWeights

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

// Floats of a layer's norms.
size_t model_norm_floats(const ModelConfig *c) {
    size_t n = 0;
    for (int i = 0; i < N_NORMS; i++)
        if (c->family->norms[i].module) n += (size_t)model_size(c, c->family->norms[i].size);
    return n;
}

// Bytes that the weights take of the backend's memory, and quantised blocks that `cpu` computes from where the file has
// them; other pages of a file are not counted.
size_t weights_bytes(const FrozenWeights *w, const ModelConfig *c, const Ops *ops) {
    size_t bytes = w->head.weight.bytes + (size_t)c->C * sizeof(float);
    if (!ops->host_memory) bytes += dtype_size(w->wte.dtype, (size_t)c->V * c->C);
    for (int l = 0; l < w->L; l++) {
        bytes += model_norm_floats(c) * sizeof(float);
        for (int i = 0; i < N_LINEARS; i++) {
            const Linear *y = &w->layers[l].linear[i];
            bytes += y->weight.bytes + (y->bias ? (size_t)y->weight.N * sizeof(float) : 0);
        }
    }
    return bytes;
}

// The shapes and types of what a linear will be stacked of: that of layer l, or the output matrix for l = -1. Returns
// how many.
int weights_planned(RawTensor raw[MAX_STACKED], const ModelConfig *c, int l, LinearId id) {
    Projection first = PROJ_Q;
    const int n = l < 0 ? 1 : linear_projections(&first, id);
    memset(raw, 0, MAX_STACKED * sizeof *raw);
    for (int i = 0; i < n; i++) {
        int N = c->V, K = c->C;
        if (l >= 0) projection_shape(&N, &K, c, (Projection)(first + i));
        raw[i].shape[0] = N;
        raw[i].shape[1] = K;
        raw[i].dtype = c->types.n ? (DType)c->types.v[l < 0 ? c->L * N_PROJ : l * N_PROJ + (int)first + i] : DTYPE_BF16;
    }
    return n;
}

// What the linears and the output matrix will take, before they are loaded, for a backend that has weight_bytes
// (ops.h): in all, as quantised blocks of the files alone, and the address space of the others beyond their bytes
// (alloc_room).
typedef struct {
    size_t bytes, in_file, room;
} WeightsPlan;

WeightsPlan weights_plan(const ModelConfig *c, const Ops *ops) {
    WeightsPlan p = {0, 0, 0};
    for (int i = -1; i < c->L * N_LINEARS; i++) {
        RawTensor raw[MAX_STACKED];
        const int n = weights_planned(raw, c, i < 0 ? -1 : i / N_LINEARS, (LinearId)(i < 0 ? 0 : i % N_LINEARS));
        const size_t bytes = ops->weight_bytes(raw, n);
        bool stays = false;
        for (int k = 0; k < n; k++) stays |= dtype_quantised(raw[k].dtype);
        p.bytes += bytes;
        if (stays) p.in_file += bytes;
        else p.room += alloc_room(bytes);
    }
    return p;
}

// weights_bytes before they are loaded.
size_t weights_bytes_planned(const ModelConfig *c, const Ops *ops) {
    size_t layer = model_norm_floats(c);
    for (int p = 0; p < N_PROJ; p++)
        if (c->family->bias[p] == BIAS) layer += (size_t)model_size(c, projections[p].rows);
    return weights_plan(c, ops).bytes + ((size_t)c->L * layer + (size_t)c->C) * sizeof(float);
}

size_t weights_room_planned(const ModelConfig *c, const Ops *ops) { return weights_plan(c, ops).room; }

// Bytes of a weight, on average: of the matrices of layers, or of the output matrix. 2, or what a quantised file has.
double model_weight_bytes(const ModelConfig *c, bool head) {
    double bytes = 0, n = 0;
    for (int i = head ? c->L * N_PROJ : 0; i < (head ? c->L * N_PROJ + 1 : c->L * N_PROJ) && c->types.n; i++) {
        int N = c->V, K = c->C;
        if (!head) projection_shape(&N, &K, c, (Projection)(i % N_PROJ));
        const DType type = (DType)c->types.v[i];
        bytes += dtype_quantised(type) ? (double)dtype_size(type, (size_t)N * (size_t)K) : 2.0 * N * K;
        n += (double)N * K;
    }
    return n > 0 ? bytes / n : 2;
}

// Bytes of the folder's safetensors files, or of the GGUF file and its parts, which will be mapped.
size_t model_file_bytes(const char *dir) {
    size_t bytes = 0;
    if (gguf_is_file(dir)) {
        Gguf *all;
        int n;
        if (!gguf_open_all(&all, &n, dir, NULL)) return 0;
        for (int i = 0; i < n; i++) bytes += all[i].tensors.map_bytes;
        gguf_close_all(all, n);
        return bytes;
    }
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
    char gguf[TENSOR_NAME];
    const char *own = w->gguf ? tensor_gguf_name(gguf, name, w->gguf) : name;
    for (int i = 0; i < w->n_files && !raw; i++) raw = safetensors_find(&w->files[i], own);
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
    if (a->dtype == b->dtype && memcmp(a->data, b->data, dtype_size(a->dtype, (size_t)n)) == 0) return true;
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
             f->files[0].path, names[1], names[0]);
    return true;
}

// Loads the weights of the folder, or the GGUF file, dir.
// Every tensor is checked for shape, type, NaN and infinity, and every one of the files is used or refused by name
// (model_check_used). c->tied becomes false where the files have an output matrix of their own (model_get_embeddings).
// On failure *w is empty and err names file and tensor, what was found and what was expected. Free with weights_free.
bool weights_load(FrozenWeights *w, ModelConfig *c, const char *dir, const Ops *ops, Error *err) {
    memset(w, 0, sizeof *w);
    ModelFiles f;
    memset(&f, 0, sizeof f);
    f.index_path = model_path(dir, "model.safetensors.index.json");
    RawTensor t, wte, head;
    bool ok = model_open_files(&f, dir, c, err);
    w->files = f.files; // to be freed with w
    w->n_files = f.n_files;
    w->gguf = f.gguf;
    f.used = (bool **)xcalloc((size_t)f.n_files, sizeof(bool *));
    for (int i = 0; i < f.n_files; i++) f.used[i] = (bool *)xcalloc((size_t)f.files[i].n_entries, sizeof(bool));
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
    model_files_free(&f);
    if (!ok) weights_free(w, ops);
    return ok;
}

// ----------------------------------------------------------------------------
// the model

// Reads what a Hugging Face folder says of its model, not the weights: then qwen2_load_weights. `positions`: the
// longest sequence that will be run; it must fit the model's context. Free with qwen2_free (also after a failure).
bool qwen2_open(Qwen2 *m, const char *dir, int positions, const Ops *ops, Error *err) {
    memset(m, 0, sizeof *m);
    m->ops = ops;
    m->rope_positions = positions;
    if (!model_config_load(&m->config, dir, err)) return false;
    if (positions > m->config.max_position)
        return fail(err, EXIT_RUN,
                    "%s: sequences of up to %d tokens are wanted, the model's context is %d (max_position_embeddings)\n"
                    "  -> lower max_completion_length or leave out the longest prompts",
                    dir, positions, m->config.max_position);
    return true;
}

bool qwen2_load_weights(Qwen2 *m, const char *dir, Error *err) {
    const ModelConfig *c = &m->config;
    const Ops *ops = m->ops;
    const int positions = m->rope_positions;
    if (!weights_load(&m->weights, &m->config, dir, ops, err)) return false;
    const size_t rope_bytes = (size_t)positions * c->HD * sizeof(float);
    float *rope = (float *)xmalloc(rope_bytes);
    for (int p = 0; p < positions; p++) {
        for (int i = 0; i < c->HD / 2; i++) {
            double angle = p * pow((double)c->rope_theta, -2.0 * i / c->HD);
            rope[(size_t)p * c->HD + 2 * i] = (float)cos(angle);
            rope[(size_t)p * c->HD + 2 * i + 1] = (float)sin(angle);
        }
    }
    m->rope = (float *)ops->alloc(rope_bytes);
    ops->upload(m->rope, rope, rope_bytes);
    free(rope);
    return true;
}

// Both, where nobody plans memory in between.
bool qwen2_load(Qwen2 *m, const char *dir, int positions, const Ops *ops, Error *err) {
    return qwen2_open(m, dir, positions, ops, err) && qwen2_load_weights(m, dir, err);
}

// Bytes of the backend's memory that weights and RoPE's table take: as loaded, or, for a backend that has weight_bytes,
// as they will be.
size_t qwen2_bytes(const Qwen2 *m) {
    const size_t rope = (size_t)m->rope_positions * m->config.HD * sizeof(float);
    return rope + (m->ops->weight_bytes ? weights_bytes_planned(&m->config, m->ops)
                                        : weights_bytes(&m->weights, &m->config, m->ops));
}

#endif
