/*
A rank-one LoRA on the down_proj of every layer, read from a PEFT folder: adapter_config.json (r 1, lora_alpha) and adapter_model.safetensors
(base_model.model.model.layers.<l>.mlp.down_proj.lora_A.weight [1,I], lora_B.weight [C,1]).
*/
#ifndef LLMC_EXPERIMENTS_LORA1_ADAPTER_H
#define LLMC_EXPERIMENTS_LORA1_ADAPTER_H

#include "../json.h"
#include "../model.h" // ModelConfig, model_path, raw_to_f32

// a[L,I], b[L,C] (b times lora_alpha / r) of every layer; layers that the file lacks stay as they are.
bool lora1_load(float *a, float *b, const ModelConfig *c, const char *dir, Error *err) {
    char *config = model_path(dir, "adapter_config.json"), *file = model_path(dir, "adapter_model.safetensors");
    SafeTensors st;
    int rank = 0, found = 0;
    double alpha = 0;
    cJSON *root = json_load(config, err);
    bool ok = root && json_get_int(root, "r", 1, 1 << 16, &rank, config, err) && json_get_double(root, "lora_alpha", &alpha, config, err);
    if (ok && rank != 1) ok = fail(err, EXIT_RUN, "%s: key \"r\": found %d, expected 1\n  -> this experiment is about LoRA of rank one", config, rank);
    const bool opened = ok && safetensors_open(&st, file, err);
    ok = opened;
    const int64_t shape_a[2] = {1, c->I}, shape_b[2] = {c->C, 1};
    for (int l = 0; l < c->L && ok; l++) {
        char name[2][128];
        for (int k = 0; k < 2; k++) snprintf(name[k], sizeof name[k], "base_model.model.model.layers.%d.mlp.down_proj.lora_%c.weight", l, 'A' + k);
        if (!safetensors_find_entry(&st, name[0]) && !safetensors_find_entry(&st, name[1])) continue;
        const RawTensor *ta = safetensors_get(&st, name[0], 2, shape_a, err), *tb = ta ? safetensors_get(&st, name[1], 2, shape_b, err) : NULL;
        ok = ta && tb && tensor_check_finite(ta, file, err) && tensor_check_finite(tb, file, err);
        if (!ok) break;
        raw_to_f32(a + (size_t)l * c->I, ta, 0, c->I);
        raw_to_f32(b + (size_t)l * c->C, tb, 0, c->C);
        for (int i = 0; i < c->C; i++) b[(size_t)l * c->C + i] *= (float)alpha;
        found++;
    }
    if (ok && found == 0) ok = fail(err, EXIT_RUN, "%s: found no LoRA on mlp.down_proj of any layer\n  -> train one with target_modules: [\"down_proj\"]", file);
    if (opened) safetensors_close(&st);
    cJSON_Delete(root);
    free(config);
    free(file);
    return ok;
}

#endif
