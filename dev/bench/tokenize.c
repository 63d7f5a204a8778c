/*
How fast the tokenizer is, on one thread and with an empty cache: MB/s over the problems and solutions of a JSONL file.

    make build/bench_tokenize
    build/bench_tokenize MODEL_DIR data/gsm8k_train.jsonl
*/
#include "llmc/files/files.h"         // Dataset, dataset_load
#include "llmc/tokenizer/tokenizer.h" // Tokenizer, tokenizer_encode

int main(int argc, char **argv) {
    Error err = {0};
    Dataset d = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL_DIR FILE.jsonl\n", argv[0]);
        return 2;
    }
    Tokenizer *t = tokenizer_load(argv[1], &err);
    if (!t || !dataset_load(&d, argv[2], &err)) die(&err);
    IntVec ids = {0};
    size_t bytes = 0;
    double begin = now_s();
    for (int i = 0; i < d.n; i++) {
        const char *texts[2] = {d.items[i].problem, d.items[i].solution};
        for (int k = 0; k < 2; k++) {
            size_t n = strlen(texts[k]);
            ids.n = 0;
            if (!tokenizer_encode(t, &ids, texts[k], n, &err)) die(&err);
            bytes += n;
        }
    }
    printf("%.3f MB/s\n", 1e-6 * (double)bytes / (now_s() - begin));
    ints_free(&ids);
    dataset_free(&d);
    tokenizer_free(t);
    return 0;
}
