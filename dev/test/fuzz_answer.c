/*
libFuzzer harness of the verifier: the input, cut at its first byte of the kind 0xFF, is a gold answer and a completion. Nothing may crash,
leak or take long. dev/test/fuzz.sh runs it.
*/
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "llmc/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const uint8_t *cut = n ? (const uint8_t *)memchr(data, 0xFF, n) : NULL;
    size_t first = cut ? (size_t)(cut - data) : n / 2, from = cut ? first + 1 : first;
    char *gold = xstrndup((const char *)data, first), *pred = xstrndup((const char *)data + from, n - from);
    double start = now_s();
    answer_equal(gold, pred);
    Str found = {NULL, 0, 0};
    answer_find(&found, pred, n - from);
    answer_choice(&found, pred, n - from);
    if (now_s() - start > 5) abort();
    str_free(&found);
    free(gold);
    free(pred);
    return 0;
}
