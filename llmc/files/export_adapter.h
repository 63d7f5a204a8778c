/*
A LoRA (a checkpoint of setup lora, or any PEFT folder) for other programs:

    peft   the adapter alone: adapter_config.json and adapter_model.safetensors
    hf     the model's folder with the LoRA in its weights, W + lora_alpha / r B A, summed in fp32 and rounded once to
           the type they are stored in
*/
#ifndef LLMC_FILES_EXPORT_ADAPTER_H
#define LLMC_FILES_EXPORT_ADAPTER_H

#include "llmc/files/export_files.h" // export_copy_file, export_copy_side_files
#include "llmc/files/peft.h"         // peft_load, peft_tensors
#include "llmc/files/file_tensor.h"  // file_tensor_write

bool export_adapter_peft(const PeftConfig *p, const ParamLayout *t, float *params, const char *base, const char *to,
                         Error *err) {
    int n = 0;
    const char *const metadata[] = {"format", "pt", NULL};
    FileTensor *tensors = peft_tensors(t, params, &n);
    char *file = model_path(to, PEFT_WEIGHTS);
    Str config = {0};
    peft_config_write(&config, p, t, base);
    bool ok = file_tensor_write(file, tensors, n, metadata, err) && export_write_text(to, PEFT_CONFIG, config.s, err);
    str_free(&config);
    free(file);
    free(tensors);
    return ok;
}

// row[K] += scale * (row n of B A)
void adapter_add_row(float *row, const ParamLayout *t, const LoraSite *s, const float *params, int n) {
    for (int k = 0; k < t->lora_r; k++) {
        const float b = t->scale * params[s->b + (size_t)k * s->N + n], *a = params + s->a + (size_t)k * s->K;
        for (int j = 0; j < s->K; j++) row[j] += b * a[j];
    }
}

// Adds the LoRA to the weights of the safetensors file `path`, in place. *merged counts matrices.
bool adapter_merge_file(const ParamLayout *t, const float *params, const char *path, int *merged, Error *err) {
    SafeTensors st;
    if (!safetensors_open(&st, path, err)) return false;
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 || fail(err, EXIT_RUN, "cannot write %s: %s", path, strerror(errno));
    for (int i = 0; i < t->L * N_PROJ && ok; i++) {
        const LoraSite *s = &t->sites[i];
        char name[TENSOR_NAME];
        tensor_name(name, i / N_PROJ, projections[i % N_PROJ].module, ".weight");
        if (s->K == 0 || !safetensors_find_entry(&st, name)) continue;
        const int64_t shape[2] = {s->N, s->K};
        const RawTensor *w = safetensors_get(&st, name, 2, shape, err);
        const char *start = (const char *)st.map, *data = w ? (const char *)w->data : NULL;
        ok = w && (data >= start && data < start + st.map_bytes
                       ? true
                       : fail(err, EXIT_RUN,
                              "%s: tensor %s is not aligned to its type\n  -> have another program save the model anew",
                              path, name));
        ok = ok && (w->dtype != DTYPE_F16 ||
                    fail(err, EXIT_RUN,
                         "%s: tensor %s: found dtype F16, expected BF16 or F32 to merge into\n  -> --format peft", path,
                         name));
        const size_t bytes = ok && w->dtype == DTYPE_F32 ? 4 : 2;
        float *row = (float *)xmalloc((size_t)s->K * sizeof(float));
        bf16_t *half = (bf16_t *)xmalloc((size_t)s->K * sizeof(bf16_t));
        for (int n = 0; n < s->N && ok; n++) {
            raw_to_f32(row, w, (int64_t)n * s->K, s->K);
            adapter_add_row(row, t, s, params, n);
            for (int j = 0; j < s->K; j++) half[j] = f32_to_bf16(row[j]);
            const off_t at = (off_t)(data - start) + (off_t)((size_t)n * s->K * bytes);
            ok = pwrite(fd, bytes == 4 ? (const void *)row : half, s->K * bytes, at) == (ssize_t)(s->K * bytes) ||
                 fail(err, EXIT_RUN, "cannot write %s: %s", path, strerror(errno));
        }
        *merged += ok;
        free(row);
        free(half);
    }
    ok = ok && (fsync(fd) == 0 || fail(err, EXIT_RUN, "cannot write %s: %s", path, strerror(errno)));
    if (fd >= 0) close(fd);
    safetensors_close(&st);
    return ok;
}

// Copies the model's folder and merges.
bool export_adapter_hf(const ParamLayout *t, const float *params, const char *from, const char *to, Error *err) {
    int merged = 0, wanted = 0;
    for (int i = 0; i < t->L * N_PROJ; i++) wanted += t->sites[i].K > 0;
    DIR *dir = opendir(from);
    bool ok = dir || fail(err, EXIT_RUN, "cannot read the folder %s: %s", from, strerror(errno));
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        if (!export_ends_with(e->d_name, ".safetensors")) continue;
        char *a = model_path(from, e->d_name), *b = model_path(to, e->d_name);
        ok = export_copy_file(a, b, err) && adapter_merge_file(t, params, b, &merged, err);
        free(a);
        free(b);
    }
    if (dir) closedir(dir);
    if (ok && merged != wanted)
        ok = fail(err, EXIT_RUN, "%s: found %d of the %d matrices that the LoRA changes", from, merged, wanted);
    ok = ok && export_copy_side_files(from, to, err);
    const char *last[2] = {"model.safetensors.index.json", "config.json"};
    for (int i = 0; i < 2 && ok; i++) {
        char *a = model_path(from, last[i]), *b = model_path(to, last[i]);
        ok = (i == 0 && !path_exists(a)) || export_copy_file(a, b, err);
        free(a);
        free(b);
    }
    return ok;
}

// Everything for --checkpoint `dir`, which is an adapter.
bool export_adapter(const ModelConfig *c, const char *dir, const char *format, const char *model, const char *to,
                    Error *err) {
    PeftConfig config;
    ParamLayout t;
    float *params;
    const bool hf = strcmp(format, "hf") == 0;
    if (!hf && strcmp(format, "peft") != 0)
        return fail(err, EXIT_USAGE,
                    "%s is a LoRA, which format %s cannot hold\n  -> --format peft (the adapter) or hf (a model with "
                    "it in its weights)",
                    dir, format);
    if (!peft_load(&config, &t, &params, c, dir, err)) return false;
    bool ok =
        hf ? export_adapter_hf(&t, params, model, to, err) : export_adapter_peft(&config, &t, params, model, to, err);
    layout_free(&t);
    free(params);
    return ok;
}

#endif
