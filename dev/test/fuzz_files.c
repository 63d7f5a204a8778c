/*
libFuzzer harness for every parser of files that others made: the first byte of an input chooses the parser, the rest is
the file. Nothing may crash, leak, or run over; what the parsers answer is their own tests' matter. dev/test/fuzz.sh
runs it.
*/
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "llmc/files/checkpoint.h"
#include "llmc/files/files.h"
#include "llmc/files/weights.h" // model_config_load
#include "llmc/options/options.h"
#include "llmc/tokenizer/tokenizer.h"

static char fuzz_dir[64];

static void fuzz_remove_dir(void) {
    const char *files[] = {"config.json",   "generation_config.json", "tokenizer.json", "x.jsonl",    "x.yml",
                           "x.safetensors", "trainer_state.json",     PEFT_CONFIG,      PEFT_WEIGHTS, "x.gguf"};
    char path[128];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", fuzz_dir, files[i]);
        unlink(path);
    }
    rmdir(fuzz_dir);
}

// Writes the input where the parser looks for it; returns the path.
static const char *fuzz_file(const char *name, const uint8_t *data, size_t size) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    return path;
}

static void fuzz_tokenizer(const char *dir, const uint8_t *data, size_t size) {
    Error err = {0, ""};
    Tokenizer *t = tokenizer_load(dir, &err);
    if (!t) return;
    IntVec ids = {0, 0, 0};
    Str text = {0};
    if (tokenizer_encode(t, &ids, (const char *)data, size < 200 ? size : 200, &err))
        tokenizer_decode(t, &text, ids.v, ids.n, false);
    ints_free(&ids);
    str_free(&text);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (!fuzz_dir[0]) {
        strcpy(fuzz_dir, "/tmp/fuzz_steer.XXXXXX");
        if (!mkdtemp(fuzz_dir)) {
            perror(fuzz_dir);
            exit(1);
        }
        atexit(fuzz_remove_dir);
    }
    Error err = {0, ""};
    const int parser = data[0] % 9;
    data++;
    size--;
    if (parser == 0) {
        ModelConfig c;
        memset(&c, 0, sizeof c);
        fuzz_file("config.json", data, size);
        if (model_config_load(&c, fuzz_dir, &err)) model_config_free(&c);
    } else if (parser == 1) {
        fuzz_file("tokenizer.json", data, size);
        fuzz_tokenizer(fuzz_dir, data, size);
    } else if (parser == 2) {
        SafeTensors st;
        if (safetensors_open(&st, fuzz_file("x.safetensors", data, size), &err)) {
            const RawTensor *t = safetensors_find(&st, "steering");
            if (t) tensor_check_finite(t, st.path, &err);
            safetensors_close(&st);
        }
    } else if (parser == 3) {
        Dataset d;
        if (dataset_load(&d, fuzz_file("x.jsonl", data, size), &err)) dataset_free(&d);
    } else if (parser == 4) {
        Options o;
        char name[] = "train_steer", option[] = "--config";
        char *argv[] = {name, option, (char *)fuzz_file("x.yml", data, size), NULL};
        if (options_parse(&o, CMD_TRAIN, 3, argv, &err)) options_free(&o);
    } else if (parser == 6) {
        PeftConfig p;
        bool sites[4 * N_PROJ];
        fuzz_file(PEFT_CONFIG, data, size);
        peft_config_read(&p, sites, 4, fuzz_dir, &err);
    } else if (parser == 7) {
        static const char *const config =
            "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1, \"target_modules\": [\"down_proj\"]}";
        PeftConfig p;
        ParamLayout t;
        float *params;
        ModelConfig c;
        memset(&c, 0, sizeof c);
        c.L = 4;
        c.C = 96;
        c.I = 256;
        c.NH = c.NKV = 1;
        c.HD = 96;
        fuzz_file(PEFT_CONFIG, (const uint8_t *)config, strlen(config));
        fuzz_file(PEFT_WEIGHTS, data, size);
        if (peft_load(&p, &t, &params, &c, fuzz_dir, &err)) {
            layout_free(&t);
            free(params);
        }
    } else if (parser == 8) {
        const char *path = fuzz_file("x.gguf", data, size);
        ModelConfig c;
        Gguf g;
        if (model_config_load(&c, path, &err)) model_config_free(&c);
        if (gguf_open(&g, path, &err)) {
            for (int i = 0; i < g.tensors.n; i++) tensor_check_finite(&g.tensors.tensors[i], path, &err);
            gguf_close(&g);
        }
        fuzz_tokenizer(path, data, size);
    } else {
        TrainerState s;
        memset(&s, 0, sizeof s);
        checkpoint_read_state(&s, fuzz_file("trainer_state.json", data, size), &err);
    }
    return 0;
}
