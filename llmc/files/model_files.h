/*
The tensors of a model, by Hugging Face's names, wherever they are: in model.safetensors, in the shards that
model.safetensors.index.json names, or in a GGUF file or its parts, which have names of their own (tensors.h).
*/
#ifndef LLMC_FILES_MODEL_FILES_H
#define LLMC_FILES_MODEL_FILES_H

#include "llmc/files/files.h"  // json_load, json_get_*, SafeTensors, safetensors_*, gguf_*, tensor_check_finite
#include "llmc/model_config.h" // ModelConfig, model_path
#include "llmc/ops_host.h"     // raw_to_f32
#include "llmc/tensors.h"      // Family, tensor_gguf_name
#include "llmc/utils/utils.h"  // Error, fail, path_exists

// A model's files while they are being read: safetensors, one, or several with an index, or GGUF.
typedef struct {
    SafeTensors *files; // [n_files]
    int n_files;
    const Family *gguf; // whose names GGUF files have; NULL: they are safetensors
    cJSON *index;       // NULL for a single file
    char *index_path;
    const cJSON *map;    // tensor name -> shard name
    const char **shards; // [n_files]
    bool **used;         // [n_files][tensors of the file] which were asked for
} ModelFiles;

// Which open file holds the shard of that name; -1 if it is not open yet.
int model_find_shard(const ModelFiles *f, const char *shard) {
    for (int i = 0; i < f->n_files; i++) {
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
    f->files = (SafeTensors *)xcalloc(n, sizeof(SafeTensors));
    for (const cJSON *item = f->map->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return fail(err, EXIT_RUN, "%s: weight_map: tensor \"%.80s\": found %s, expected a file name",
                        f->index_path, item->string, json_type_name(item));
        int i = model_find_shard(f, item->valuestring);
        if (i < 0) {
            if (!model_check_shard_name(item->valuestring, f->index_path, err)) return false;
            char *path = model_path(dir, item->valuestring);
            i = f->n_files;
            if (!path_exists(path))
                fail(err, EXIT_RUN,
                     "%s: weight_map names %.80s, which is not in the folder\n  -> download the missing file",
                     f->index_path, item->valuestring);
            else if (safetensors_open(&f->files[i], path, err)) f->shards[f->n_files++] = item->valuestring;
            free(path);
            if (f->n_files == i) return false;
        }
        if (!safetensors_find_entry(&f->files[i], item->string))
            return fail(err, EXIT_RUN,
                        "%s: weight_map says that tensor %.80s is in %.80s, but that file does not hold it",
                        f->index_path, item->string, item->valuestring);
    }
    return true;
}

bool model_files_quantised(const ModelFiles *f) {
    for (int i = 0; i < f->n_files; i++)
        for (int k = 0; k < f->files[i].n; k++)
            if (dtype_quantised(f->files[i].tensors[k].dtype)) return true;
    return false;
}

// The F32 and F16 tensors of a file (norms, biases, seldom a matrix) become bf16, as copies.
void model_round_tensors(SafeTensors *st) {
    st->copies = (void **)xcalloc((size_t)st->n, sizeof(void *));
    for (int i = 0; i < st->n; i++) {
        RawTensor *t = &st->tensors[i];
        if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_F16) continue;
        const int64_t n = tensor_elements(t);
        bf16_t *copy = (bf16_t *)xaligned((size_t)n * sizeof *copy);
        float x[256];
        for (int64_t k = 0; k < n; k += 256) {
            const int m = n - k < 256 ? (int)(n - k) : 256;
            raw_to_f32(x, t, k, m);
            for (int j = 0; j < m; j++) copy[k + j] = f32_to_bf16(x[j]);
        }
        st->copies[st->n_copies++] = copy;
        t->dtype = DTYPE_BF16;
        t->data = copy;
    }
}

// The parts of a GGUF model. One that has quantised matrices is a bf16 model in whole. Its keys have been read by
// model_config_load.
bool model_open_gguf(ModelFiles *f, const char *path, const ModelConfig *c, Error *err) {
    Gguf *all;
    int n;
    if (!gguf_open_all(&all, &n, path, err)) return false;
    f->gguf = c->family;
    f->files = (SafeTensors *)xcalloc((size_t)n, sizeof(SafeTensors));
    for (int i = 0; i < n; i++) { // the files stay open, the keys go
        f->files[f->n_files++] = all[i].tensors;
        memset(&all[i].tensors, 0, sizeof all[i].tensors);
    }
    gguf_close_all(all, n);
    for (int i = 0; i < n && model_files_quantised(f); i++) model_round_tensors(&f->files[i]);
    return true;
}

// Opens the files of the folder, or the GGUF file, dir.
bool model_open_files(ModelFiles *f, const char *dir, const ModelConfig *c, Error *err) {
    if (gguf_is_file(dir)) return model_open_gguf(f, dir, c, err);
    char *single = model_path(dir, "model.safetensors");
    bool ok;
    if (path_exists(single)) {
        f->files = (SafeTensors *)xcalloc(1, sizeof(SafeTensors));
        ok = safetensors_open(f->files, single, err);
        f->n_files = ok;
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

// Where the files have a tensor of that name, which is theirs: in which of them, -1 if nowhere.
int model_find_named(const ModelFiles *f, const char *name) {
    if (f->map) {
        const cJSON *shard = cJSON_GetObjectItemCaseSensitive(f->map, name);
        return shard ? model_find_shard(f, shard->valuestring) : -1;
    }
    for (int i = 0; i < f->n_files; i++)
        if (safetensors_find_entry(&f->files[i], name)) return i;
    return -1;
}

// The same for Hugging Face's name.
int model_find_tensor(const ModelFiles *f, const char *name) {
    char gguf[TENSOR_NAME];
    return model_find_named(f, f->gguf ? tensor_gguf_name(gguf, name, f->gguf) : name);
}

// Finds a tensor ([d0], or [d0, d1] where d1 > 0), checks shape, type and values. The data stays where it is.
bool model_get_tensor(RawTensor *out, const ModelFiles *f, const char *name, int64_t d0, int64_t d1, Error *err) {
    int64_t shape[2] = {d0, d1};
    char text[128], gguf[TENSOR_NAME];
    if (f->gguf) name = tensor_gguf_name(gguf, name, f->gguf);
    const int file = model_find_named(f, name);
    if (f->map && file < 0)
        return fail(err, EXIT_RUN, "%s: weight_map: tensor %s is missing; expected %s", f->index_path, name,
                    shape_text(text, d1 ? 2 : 1, shape));
    const SafeTensors *st = &f->files[file < 0 ? 0 : file];
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
    for (int i = 0; i < f->n_files; i++) {
        const SafeTensors *st = &f->files[i];
        for (int k = 0; k < st->n_entries; k++) {
            const SafeTensorsEntry *e = &st->entries[k];
            char shape[128];
            int layer = -1;
            if (f->used[i][k]) continue;
            if (strstr(e->name, "rotary_emb.inv_freq")) {
                frequencies = e->name;
                continue;
            }
            if (sscanf(e->name, f->gguf ? "blk.%d." : "model.layers.%d.", &layer) == 1 && layer >= c->L)
                return fail(err, EXIT_RUN,
                            "%s: found tensor %s, expected layers 0 to %d: %s is %d\n  -> the %s of this file, or a "
                            "file of %d layers",
                            st->path, e->name, c->L - 1,
                            f->gguf ? "key qwen2.block_count" : "num_hidden_layers in config.json", c->L,
                            f->gguf ? "keys" : "config.json", c->L);
            if (model_find_named(f, e->name) >= 0 && model_find_named(f, e->name) != i)
                return fail(err, EXIT_RUN,
                            "%s: holds tensor %s, which %s says is in %s\n  -> remove it from one of the two files",
                            st->path, e->name, f->index_path, f->shards[model_find_named(f, e->name)]);
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

void model_files_free(ModelFiles *f) {
    for (int i = 0; f->used && i < f->n_files; i++) free(f->used[i]);
    free(f->used);
    cJSON_Delete(f->index);
    free(f->index_path);
    free(f->shards);
}

#endif
