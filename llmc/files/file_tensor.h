/*
Trained numbers in a safetensors file: which run of floats is which tensor. Checkpoints (checkpoint.h) and PEFT's
adapters (peft.h) are written and read by these few functions, whatever is trained.
*/
#ifndef LLMC_FILES_FILE_TENSOR_H
#define LLMC_FILES_FILE_TENSOR_H

#include "llmc/files/safetensors.h" // OutTensor, SafeTensors, safetensors_get, safetensors_write, tensor_check_finite
#include "llmc/ops_host.h"          // raw_to_f32
#include "llmc/utils/utils.h"       // Error, fail

// A tensor [rows, columns] of a file, or [rows] where columns is 0, and where its numbers are in memory.
typedef struct {
    char name[96];
    int rows, columns;
    float *data;
    bool transposed; // the memory has them as [columns, rows]
} FileTensor;

size_t file_tensor_size(const FileTensor *t) { return (size_t)t->rows * (size_t)(t->columns ? t->columns : 1); }

// out[rows, columns] = in[columns, rows] turned over.
void file_tensor_transpose(float *out, const float *in, int rows, int columns) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) out[(size_t)i * columns + j] = in[(size_t)j * rows + i];
}

// Writes and syncs a file of n fp32 tensors (as safetensors_write).
bool file_tensor_write(const char *path, const FileTensor *t, int n, const char *const *metadata, Error *err) {
    OutTensor *out = (OutTensor *)xcalloc((size_t)n, sizeof(OutTensor));
    float **turned = (float **)xcalloc((size_t)n, sizeof(float *));
    for (int i = 0; i < n; i++) {
        if (t[i].transposed) {
            turned[i] = (float *)xmalloc(file_tensor_size(&t[i]) * sizeof(float));
            file_tensor_transpose(turned[i], t[i].data, t[i].rows, t[i].columns);
        }
        out[i].name = t[i].name;
        out[i].ndim = t[i].columns ? 2 : 1;
        out[i].shape[0] = t[i].rows;
        out[i].shape[1] = t[i].columns;
        out[i].data = turned[i] ? turned[i] : t[i].data;
    }
    bool ok = safetensors_write(path, out, n, metadata, err);
    for (int i = 0; i < n; i++) free(turned[i]);
    free(turned);
    free(out);
    return ok;
}

// t->data = the tensor of that name and shape, of finite fp32, bf16 or fp16 numbers (exact: fp32 alone). look: nothing
// is copied.
bool file_tensor_read(const FileTensor *t, const SafeTensors *st, bool exact, bool look, Error *err) {
    const int64_t shape[2] = {t->rows, t->columns};
    const RawTensor *raw = safetensors_get(st, t->name, t->columns ? 2 : 1, shape, err);
    if (!raw || !tensor_check_finite(raw, st->path, err)) return false;
    if (exact && raw->dtype != DTYPE_F32)
        return fail(err, EXIT_RUN, "%s: tensor %s: found dtype %s, expected F32", st->path, t->name,
                    dtype_name(raw->dtype));
    if (look) return true;
    float *in = t->transposed ? (float *)xmalloc(file_tensor_size(t) * sizeof(float)) : t->data;
    raw_to_f32(in, raw, 0, (int)file_tensor_size(t));
    if (t->transposed) {
        file_tensor_transpose(t->data, in, t->columns, t->rows);
        free(in);
    }
    return true;
}

// Values that must never reach the disk: training has gone wrong, the last good checkpoint is the one to keep.
bool file_tensor_check_finite(const FileTensor *t, Error *err) {
    const int columns = t->transposed || !t->columns ? t->rows : t->columns;
    for (size_t j = 0; j < file_tensor_size(t); j++)
        if (!isfinite(t->data[j]))
            return fail(err, EXIT_RUN, "%s: found %g at row %zu, place %zu%s, expected finite numbers", t->name,
                        (double)t->data[j], j / columns, j % columns, t->transposed ? " (turned over)" : "");
    return true;
}

#endif
