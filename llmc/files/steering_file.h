/*
The trained thing: a file of steering vectors, one per layer.
*/
#ifndef LLMC_FILES_STEERING_FILE_H
#define LLMC_FILES_STEERING_FILE_H

#include "llmc/files/files.h"  // SafeTensors, tensor_check_finite, model_path
#include "llmc/model_config.h" // ModelConfig
#include "llmc/ops_host.h"     // raw_to_f32

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
