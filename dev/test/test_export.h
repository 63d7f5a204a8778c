/*
./eval_steer export: what each format holds, read back byte by byte; merging; nothing overwritten. That other programs
load them is dev/reference/check_export.py's to show.
*/
#ifndef DEV_TEST_TEST_EXPORT_H
#define DEV_TEST_TEST_EXPORT_H

#include "dev/test/test.h"
#include "dev/test/test_programs.h" // expect_command, same_files
#include "llmc/files/files.h"
#include "llmc/model.h"

#define TINY_VECTORS "data/tiny/vectors/steering.safetensors"

// n floats of a file's tensor equal these.
void export_check_tensor(const char *path, const char *name, const float *expected, size_t n) {
    SafeTensors st;
    Error err = {0, ""};
    if (!CHECK(safetensors_open(&st, path, &err), "%s", err.text)) return;
    const RawTensor *t = safetensors_find(&st, name);
    CHECK(t && t->dtype == DTYPE_F32 && (size_t)tensor_elements(t) == n &&
              memcmp(t->data, expected, n * sizeof(float)) == 0,
          "%s: %s", path, name);
    safetensors_close(&st);
}

void test_export_hf(const float *s, int L, int C, int I) {
    const float *zeros = (const float *)xcalloc((size_t)I, sizeof(float));
    Error err = {0, ""};
    expect_command(0, "saved",
                   "./eval_steer export --format hf --model data/tiny/model --steering " TINY_VECTORS " --out %s",
                   test_path("hf"));
    char biases[256], index[256];
    snprintf(biases, sizeof biases, "%s/model-00002-of-00002.safetensors", test_path("hf"));
    snprintf(index, sizeof index, "%s/model.safetensors.index.json", test_path("hf"));
    for (int l = 0; l < L; l++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj.bias", l);
        export_check_tensor(biases, name, s + (size_t)l * C, (size_t)C);
        snprintf(name, sizeof name, "model.layers.%d.mlp.gate_proj.bias", l);
        export_check_tensor(biases, name, zeros, (size_t)I);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.o_proj.bias", l);
        export_check_tensor(biases, name, zeros, (size_t)C);
    }
    CHECK(same_files("data/tiny/model/model.safetensors",
                     strcat(strcpy(biases, test_path("hf")), "/model-00001-of-00002.safetensors")),
          "the weights changed");
    CHECK(same_files("data/tiny/model/tokenizer.json", strcat(strcpy(biases, test_path("hf")), "/tokenizer.json")),
          "the tokenizer changed");
    cJSON *root = json_load(index, &err);
    CHECK(cJSON_GetArraySize(cJSON_GetObjectItem(root, "weight_map")) == 2 + L * 12 + L * 4, "%d tensors in the index",
          cJSON_GetArraySize(cJSON_GetObjectItem(root, "weight_map")));
    cJSON_Delete(root);
    cJSON *config = json_load(strcat(strcpy(biases, test_path("hf")), "/config.json"), &err);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(config, "mlp_bias")) &&
              cJSON_IsTrue(cJSON_GetObjectItem(config, "attention_bias")) &&
              !cJSON_GetObjectItem(config, "sliding_window"),
          "config.json");
    cJSON_Delete(config);
    expect_command(1, "is there already",
                   "./eval_steer export --format hf --model data/tiny/model --steering " TINY_VECTORS " --out %s",
                   test_path("hf"));
    free((void *)zeros);
}

void test_export_gguf(const float *s, int L, int C) {
    expect_command(0, "no place for layer 0",
                   "./eval_steer export --format gguf --model data/tiny/model --steering " TINY_VECTORS " --out %s",
                   test_path("gguf"));
    char path[256];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/steering_vectors.gguf", test_path("gguf"));
    char *file = read_file(path, &n, NULL);
    const size_t rows = (size_t)(L - 1) * C * sizeof(float); // C is a multiple of 8 here: rows follow each other
    uint32_t version = 0;
    if (n > 8) memcpy(&version, file + 4, 4);
    CHECK(file && n > rows && memcmp(file, "GGUF", 4) == 0 && version == 3 && n % 32 == 0 &&
              memcmp(file + n - rows, s + C, rows) == 0,
          "%s: %zu bytes", path, n);
    free(file);
    // without a vector at layer 0 nothing is lost, so nothing is said
    Str out = {0};
    run_command(&out,
                "./eval_steer export --format gguf --model data/tiny/model --steering "
                "data/tiny/vectors/place_self_attn_3.safetensors --out %s",
                test_path("gguf3"));
    CHECK(strstr(out.s, "saved") && !strstr(out.s, "lost"), "%s", out.s);
    str_free(&out);
}

// One file for each layer, merged, is the whole again; the same layer twice is refused.
void test_export_merge(const float *s, int L, int C) {
    Str list = {0};
    float *one = (float *)xcalloc((size_t)L * C, sizeof(float));
    Error err = {0, ""};
    for (int l = 0; l < L; l++) {
        char name[32];
        snprintf(name, sizeof name, "layer_%d.safetensors", l);
        memset(one, 0, (size_t)L * C * sizeof(float));
        memcpy(one + (size_t)l * C, s + (size_t)l * C, (size_t)C * sizeof(float));
        OutTensor t;
        memset(&t, 0, sizeof t);
        t.name = "steering";
        t.ndim = 2;
        t.shape[0] = L;
        t.shape[1] = C;
        t.data = one;
        CHECK(safetensors_write(test_path(name), &t, 1, NULL, &err), "%s", err.text);
        str_printf(&list, "%s%s", l ? "," : "", test_path(name));
    }
    expect_command(0, "saved",
                   "./eval_steer export --format safetensors --model data/tiny/model --checkpoint %s --out %s", list.s,
                   test_path("merged"));
    char path[256];
    snprintf(path, sizeof path, "%s/steering_vectors.safetensors", test_path("merged"));
    export_check_tensor(path, "steering", s, (size_t)L * C);
    expect_command(1, "layer 0 has a vector",
                   "./eval_steer export --format safetensors --model data/tiny/model --checkpoint %s,%s --out %s",
                   list.s, TINY_VECTORS, test_path("merged2"));
    str_free(&list);
    free(one);
}

// An export that is killed or meets a full disk leaves nothing under its name and is in nobody's way.
void test_export_stopped(void) {
    Str out = {0};
    const char *call = "./eval_steer export --format %s --model data/tiny/model --steering " TINY_VECTORS " --out %s",
               *formats[4] = {"hf", "peft", "gguf", "safetensors"};
    const bool kill =
        run_command(&out, "cc -shared -fPIC -o %s dev/test/kill_at.c -ldl", test_path("kill_export.so")) == 0;
    if (!kill) SKIP("exports that are killed: %s", out.s);
    for (int i = 0; i < 4; i++) {
        char to[256], whole[256], command[700];
        snprintf(to, sizeof to, "%s", test_path("stopped/to"));
        snprintf(whole, sizeof whole, "%s", test_path("stopped/whole"));
        expect_command(0, "", "rm -rf %s", test_path("stopped"));
        snprintf(command, sizeof command, call, formats[i], whole);
        expect_command(0, "saved", "%s", command);
        snprintf(command, sizeof command, call, formats[i], to);
        for (int at = 1; at <= 4 && kill; at++) { // KILL_AT wants a rank; each file takes two fsync
            const int code = run_command(&out, "OMPI_COMM_WORLD_RANK=0 KILL_AT=fsync:%d:0 LD_PRELOAD=%s %s", at,
                                         test_path("kill_export.so"), command);
            CHECK(code == 137 || (code == 0 && at > 3), "%s killed at fsync %d: ended with %d:\n%s", formats[i], at,
                  code, out.s);
            if (code == 137)
                CHECK(!path_exists(to), "%s killed at fsync %d: there is a folder of that name", formats[i], at);
            else expect_command(0, "", "rm -r %s", to);
        }
        expect_command(1, "File too large", "trap '' XFSZ; ulimit -f 1; %s", command);
        CHECK(!path_exists(to), "%s on a full disk: there is a folder of that name", formats[i]);
        expect_command(0, "saved", "%s", command);
        expect_command(0, "", "diff -r %s %s", to, whole);
        expect_command(0, "to whole ", "echo $(ls -A %s) ''", test_path("stopped"));
    }
    // a folder that is there: others' files stay, another file of the same name is not overwritten, half of a killed
    // export is completed
    char to[256];
    snprintf(to, sizeof to, "%s", test_path("there"));
    expect_command(0, "", "mkdir %s && echo mine > %s/notes.txt", to, to);
    expect_command(0, "saved",
                   "./eval_steer export --format gguf --model data/tiny/model --steering " TINY_VECTORS " --out %s/",
                   to);
    expect_command(0, "saved",
                   "./eval_steer export --format hf --model data/tiny/model --steering " TINY_VECTORS " --out %s", to);
    expect_command(
        0, "saved",
        "rm %s/config.json && ./eval_steer export --format hf --model data/tiny/model --steering " TINY_VECTORS
        " --out %s",
        to, to);
    expect_command(0, "mine", "cat %s/notes.txt; test ! -e %s/.tmp-export", to, to);
    expect_command(1, "tokenizer.json is there already",
                   "rm %s/config.json && echo other > %s/tokenizer.json && ./eval_steer export --format hf --model "
                   "data/tiny/model "
                   "--steering " TINY_VECTORS " --out %s",
                   to, to, to);
    expect_command(0, "other", "cat %s/tokenizer.json", to);
    str_free(&out);
}

void test_export(void) {
    ModelConfig c;
    Error err = {0, ""};
    if (!CHECK(model_config_load(&c, "data/tiny/model", &err), "%s", err.text)) return;
    float *s = (float *)xcalloc((size_t)c.L * c.C, sizeof(float));
    if (CHECK(steering_load(s, &c, TINY_VECTORS, &err), "%s", err.text)) {
        test_export_hf(s, c.L, c.C, c.I);
        test_export_gguf(s, c.L, c.C);
        test_export_merge(s, c.L, c.C);
        test_export_stopped();
        expect_command(0, "saved",
                       "./eval_steer export --format peft --model data/tiny/model --steering " TINY_VECTORS " --out %s",
                       test_path("peft"));
        char path[256];
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_path("peft"));
        for (int l = 0; l < c.L; l++) {
            char name[96];
            snprintf(name, sizeof name, "base_model.model.model.layers.%d.mlp.down_proj.lora_B.bias", l);
            export_check_tensor(path, name, s + (size_t)l * c.C, (size_t)c.C);
        }
    }
    expect_command(2, "out is missing", "./eval_steer export --model data/tiny/model --steering " TINY_VECTORS);
    expect_command(2, "checkpoint is missing", "./eval_steer export --model data/tiny/model --out %s",
                   test_path("never"));
    expect_command(2, "gguff", "./eval_steer export --format gguff --model data/tiny/model");
    free(s);
    model_config_free(&c);
}

#endif
