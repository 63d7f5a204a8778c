/*
A rank-one LoRA on the down_proj of every layer, read from a PEFT folder: adapter_config.json (r 1, lora_alpha) and
adapter_model.safetensors (base_model.model.model.layers.<l>.mlp.down_proj.lora_A.weight [1,I], lora_B.weight [C,1]).
*/
#ifndef LLMC_EXPERIMENTS_LORA1_ADAPTER_H
#define LLMC_EXPERIMENTS_LORA1_ADAPTER_H

#include "llmc/files/peft.h" // peft_load

// a[L,I], b[L,C] (b times lora_alpha / r) of every layer; layers that the file lacks stay as they are.
bool lora1_load(float *a, float *b, const ModelConfig *c, const char *dir, Error *err) {
    PeftConfig config;
    ParamLayout t;
    float *numbers;
    if (!peft_load(&config, &t, &numbers, c, dir, err)) return false;
    bool ok = config.r == 1 || fail(err, EXIT_RUN,
                                    "%s/" PEFT_CONFIG
                                    ": key \"r\": found %d, expected 1\n  -> this experiment is about LoRA of rank one",
                                    dir, config.r);
    for (int p = 0; p < N_PROJ && ok; p++)
        ok = config.targets[p] == (p == PROJ_DOWN) ||
             fail(err, EXIT_RUN,
                  "%s/" PEFT_CONFIG
                  ": target_modules: expected down_proj alone\n  -> this experiment is about LoRA on down_proj",
                  dir);
    for (int l = 0; l < c->L && ok; l++) {
        const LoraSite *s = layout_lora_site(&t, l, PROJ_DOWN);
        if (!s) continue;
        memcpy(a + (size_t)l * c->I, numbers + s->a, (size_t)c->I * sizeof(float));
        for (int i = 0; i < c->C; i++) b[(size_t)l * c->C + i] = t.scale * numbers[s->b + i];
    }
    layout_free(&t);
    free(numbers);
    return ok;
}

// a[L,I], b[L,C] as the model runs under them: their layout, to be freed with layout_free, and the flat array, on the
// host, with free().
float *lora1_params(ParamLayout *layout, const float *a, const float *b, const ModelConfig *c) {
    bool targets[N_PROJ] = {false};
    targets[PROJ_DOWN] = true;
    layout_lora(layout, c, 1, 1, targets, NULL);
    float *params = (float *)xmalloc(layout->n * sizeof(float));
    for (int l = 0; l < c->L; l++) {
        const LoraSite *site = layout_lora_site(layout, l, PROJ_DOWN);
        memcpy(params + site->a, a + (size_t)l * c->I, (size_t)c->I * sizeof(float));
        memcpy(params + site->b, b + (size_t)l * c->C, (size_t)c->C * sizeof(float));
    }
    return params;
}

#endif
