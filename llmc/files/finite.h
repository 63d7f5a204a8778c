/*
Whether a tensor of a file holds numbers only: no NaN, no infinity.
*/
#ifndef LLMC_FILES_FINITE_H
#define LLMC_FILES_FINITE_H

#include "llmc/ops.h"         // DType, RawTensor
#include "llmc/utils/utils.h" // Error, fail

// All exponent bits set. Integers, because compilers turn this loop into vector instructions.

// The loops below run over one block without leaving early.
#define NONFINITE_BLOCK (1 << 16)

bool nonfinite_in_16(const uint16_t *x, int64_t n, uint16_t exponent) {
    uint16_t found = 0;
    for (int64_t i = 0; i < n; i++) found |= (uint16_t)((x[i] & exponent) == exponent);
    return found != 0;
}

bool nonfinite_in_32(const uint32_t *x, int64_t n, uint32_t exponent) {
    uint32_t found = 0;
    for (int64_t i = 0; i < n; i++) found |= (uint32_t)((x[i] & exponent) == exponent);
    return found != 0;
}

// Elements first ... first+n-1 of t hold a NaN or an infinity; of a quantised tensor, a block that they touch has such
// a scale.
bool nonfinite_in(const RawTensor *t, int64_t first, int64_t n) {
    if (dtype_quantised(t->dtype)) {
        const DTypeInfo type = dtype_info(t->dtype);
        const uint8_t *block = (const uint8_t *)t->data + first / type.block * type.bytes,
                      *last = (const uint8_t *)t->data + (first + n - 1) / type.block * type.bytes;
        bool found = false;
        for (; block <= last; block += type.bytes) found |= quant_nonfinite(t->dtype, block);
        return found;
    }
    if (t->dtype == DTYPE_F32) return nonfinite_in_32((const uint32_t *)t->data + first, n, 0x7F800000);
    return nonfinite_in_16((const uint16_t *)t->data + first, n, t->dtype == DTYPE_BF16 ? 0x7F80 : 0x7C00);
}

int64_t tensor_elements(const RawTensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

// True if every value is a number; else err names file, tensor and place. All threads read, at the speed of the memory:
// this also brings the file into memory before the first step is timed.
bool tensor_check_finite(const RawTensor *t, const char *path, Error *err) {
    int64_t n = tensor_elements(t), blocks = (n + NONFINITE_BLOCK - 1) / NONFINITE_BLOCK, bad = INT64_MAX;
    #pragma omp parallel for schedule(static) reduction(min : bad) if (blocks > 1)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t first = b * NONFINITE_BLOCK, count = n - first < NONFINITE_BLOCK ? n - first : NONFINITE_BLOCK;
        if (b < bad && nonfinite_in(t, first, count)) bad = b;
    }
    if (bad == INT64_MAX) return true;
    int64_t i = bad * NONFINITE_BLOCK, columns = t->ndim ? t->shape[t->ndim - 1] : 1;
    while (!nonfinite_in(t, i, 1)) i++;
    return fail(err, EXIT_RUN,
                "%s: tensor %s: found NaN or infinity at row %lld, column %lld, expected finite numbers\n  -> the file "
                "is damaged or its "
                "training diverged: get it again",
                path, t->name, (long long)(t->ndim > 1 ? i / columns : 0), (long long)(i % columns));
}

#endif
