/*
LoRA adapters in the format of the PEFT library: a folder of

    adapter_config.json         r, lora_alpha, target_modules
    adapter_model.safetensors   base_model.model.model.layers.<l>.<block>.<projection>.lora_A.weight [r,K], .lora_B.weight [N,r]

They may come from anywhere: whatever would change what the adapter means and is not computed here (rsLoRA, DoRA, biases, ranks that differ,
...) is refused by name, never ignored, and so is every tensor that is not one of those two.
*/
#ifndef LLMC_PEFT_H
#define LLMC_PEFT_H

#include "json.h"       // json_load, json_get_*
#include "tuned_file.h" // FileTensor, tuned_read
#include "tuning.h"     // Tuning, LoraSite, Projection

#define PEFT_WEIGHTS "adapter_model.safetensors"
#define PEFT_CONFIG "adapter_config.json"
#define PEFT_MAX_RANK 1024 // times the longest row of a model stays below 2^31

typedef struct {
    int rank;
    double alpha;
    bool targets[N_PROJ];
} PeftConfig;

const char *peft_block(Projection p) { return p >= PROJ_GATE ? "mlp" : "self_attn"; }

// Marks the projection of that name; false (and an error that opens with `where`) if there is none.
bool peft_add_target(bool targets[N_PROJ], const char *name, const char *where, Error *err) {
    int nearest = 0;
    for (int p = 0; p < N_PROJ; p++) {
        if (strcmp(name, projection_names[p]) == 0) return targets[p] = true;
        if (edit_distance(name, projection_names[p]) < edit_distance(name, projection_names[nearest])) nearest = p;
    }
    return fail(err, EXIT_USAGE, "%s: found '%.60s', expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj\n  -> did you mean %s?", where, name,
                projection_names[nearest]);
}

// "down_proj", "q,v" without _proj: the targets in a short form, appended.
void peft_target_names(Str *out, const bool targets[N_PROJ]) {
    const char *sep = "";
    for (int p = 0; p < N_PROJ; p++) {
        if (!targets[p]) continue;
        str_printf(out, "%s%.*s", sep, (int)strlen(projection_names[p]) - 5, projection_names[p]);
        sep = ",";
    }
}

// ----------------------------------------------------------------------------
// adapter_config.json

// Appends the text of adapter_config.json.
void peft_config_write(Str *out, const PeftConfig *p, const char *base) {
    char alpha[32];
    snprintf(alpha, sizeof alpha, "%.17g", p->alpha);
    str_printf(out, "{\n  \"base_model_name_or_path\": ");
    json_add_string(out, base, strlen(base));
    str_printf(out, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n  \"lora_alpha\": %s,\n  \"lora_dropout\": 0.0,\n"
                    "  \"peft_type\": \"LORA\",\n  \"r\": %d,\n  \"target_modules\": [", alpha, p->rank);
    const char *sep = "";
    for (int i = 0; i < N_PROJ; i++) {
        if (!p->targets[i]) continue;
        str_printf(out, "%s\"%s\"", sep, projection_names[i]);
        sep = ", ";
    }
    str_printf(out, "],\n  \"task_type\": \"CAUSAL_LM\"\n}\n");
}

// Keys that change the adapter's meaning unless they are absent, null, false, empty.
static const char *const peft_unknown[] = {
    "use_rslora", "use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern",
    "target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens", "arrow_config", "loftq_config", "corda_config", "eva_config",
};

bool peft_is_off(const cJSON *item) {
    return !item || cJSON_IsNull(item) || cJSON_IsFalse(item) || ((cJSON_IsObject(item) || cJSON_IsArray(item)) && !item->child);
}

bool peft_config_parse(PeftConfig *p, const cJSON *root, const char *path, Error *err) {
    const char *type = NULL, *bias = "none";
    if (!cJSON_IsObject(root)) return fail(err, EXIT_RUN, "%s: found %s, expected an object", path, json_type_name(root));
    const char *twice = json_duplicate_key(root);
    if (twice) return fail(err, EXIT_RUN, "%s: key \"%.60s\" comes twice", path, twice);
    if (!json_get_string(root, "peft_type", &type, path, err)) return false;
    if (strcmp(type, "LORA") != 0) return fail(err, EXIT_RUN, "%s: peft_type: found \"%.40s\", expected \"LORA\"", path, type);
    for (size_t i = 0; i < sizeof peft_unknown / sizeof peft_unknown[0]; i++)
        if (!peft_is_off(json_find(root, peft_unknown[i])))
            return fail(err, EXIT_RUN, "%s: %s is set, which is not computed here\n  -> plain LoRA only: %s must be absent, null, false or empty%s", path, peft_unknown[i],
                        peft_unknown[i], strcmp(peft_unknown[i], "lora_bias") == 0 ? " (vectors are read from their own file: --steering)" : "");
    if (json_has(root, "bias") && !json_get_string(root, "bias", &bias, path, err)) return false;
    if (strcmp(bias, "none") != 0) return fail(err, EXIT_RUN, "%s: bias: found \"%.40s\", expected \"none\"", path, bias);
    const cJSON *init = json_find(root, "init_lora_weights"); // some ways to begin also change the base model
    if (cJSON_IsString(init) && strcmp(init->valuestring, "gaussian") != 0)
        return fail(err, EXIT_RUN, "%s: init_lora_weights: found \"%.40s\", expected true, false or \"gaussian\"\n  -> the others belong to a changed base model: have PEFT convert the adapter",
                    path, init->valuestring);
    if (!json_get_int(root, "r", 1, PEFT_MAX_RANK, &p->rank, path, err) || !json_get_double(root, "lora_alpha", &p->alpha, path, err)) return false;
    if (!(p->alpha > 0 && p->alpha < 1e6)) return fail(err, EXIT_RUN, "%s: lora_alpha: found %g, expected a number above 0 and below 1e6", path, p->alpha);
    const cJSON *targets = json_get_array(root, "target_modules", path, err);
    if (!targets) return false;
    for (const cJSON *item = targets->child; item; item = item->next) {
        if (!cJSON_IsString(item)) return fail(err, EXIT_RUN, "%s: target_modules: found %s in it, expected strings", path, json_type_name(item));
        const char *dot = strrchr(item->valuestring, '.');
        Str where = {0};
        str_printf(&where, "%s: target_modules", path);
        bool ok = peft_add_target(p->targets, dot ? dot + 1 : item->valuestring, where.s, err);
        str_free(&where);
        if (!ok) { if (err) err->code = EXIT_RUN; return false; }
    }
    return targets->child || fail(err, EXIT_RUN, "%s: target_modules is empty", path);
}

// Is this the folder of an adapter?
bool peft_is_folder(const char *path) {
    char *config = model_path(path, PEFT_CONFIG);
    bool is = path_exists(config);
    free(config);
    return is;
}

// *p = what dir/adapter_config.json says.
bool peft_config_read(PeftConfig *p, const char *dir, Error *err) {
    memset(p, 0, sizeof *p);
    char *path = model_path(dir, PEFT_CONFIG);
    cJSON *root = json_load(path, err);
    bool ok = root && peft_config_parse(p, root, path, err);
    cJSON_Delete(root);
    free(path);
    return ok;
}

// ----------------------------------------------------------------------------
// adapter_model.safetensors

// The tensors that the file of an adapter of layout t has, with their numbers in tuned[t->n] (host; NULL: none yet). Free with free(); *n of them.
FileTensor *peft_tensors(const Tuning *t, float *tuned, int *n) {
    FileTensor *all = (FileTensor *)xcalloc((size_t)t->L * N_PROJ * 2, sizeof(FileTensor));
    *n = 0;
    for (int i = 0; i < t->L * N_PROJ; i++) {
        const LoraSite *s = &t->sites[i];
        const Projection p = (Projection)(i % N_PROJ);
        for (int b = 0; b < 2 && s->K > 0; b++) {
            FileTensor *x = &all[(*n)++];
            snprintf(x->name, sizeof x->name, "base_model.model.model.layers.%d.%s.%s.lora_%c.weight", i / N_PROJ, peft_block(p), projection_names[p], 'A' + b);
            x->rows = b ? s->N : t->rank;
            x->columns = b ? t->rank : s->K;
            x->data = tuned ? tuned + (b ? s->b : s->a) : NULL;
            x->transposed = b;
        }
    }
    return all;
}

// Which layers the file adapts: all targets of a layer or none, and nothing else may be in it.
bool peft_layers(bool *layers, const PeftConfig *p, const SafeTensors *st, int L, Error *err) {
    int targets = 0, found = 0;
    for (int i = 0; i < N_PROJ; i++) targets += p->targets[i];
    memset(layers, 0, (size_t)L * sizeof(bool));
    for (int l = 0; l < L; l++) {
        int here = 0;
        char missing[128] = "";
        for (int i = 0; i < 2 * N_PROJ; i++) {
            char name[128];
            if (!p->targets[i / 2]) continue;
            snprintf(name, sizeof name, "base_model.model.model.layers.%d.%s.%s.lora_%c.weight", l, peft_block((Projection)(i / 2)), projection_names[i / 2], 'A' + i % 2);
            if (safetensors_find_entry(st, name)) here++;
            else snprintf(missing, sizeof missing, "%s", name);
        }
        if (here > 0 && here < 2 * targets) return fail(err, EXIT_RUN, "%s: tensor %s is missing, others of layer %d are there", st->path, missing, l);
        layers[l] = here > 0;
        found += here;
    }
    if (found == 0) {
        Str names = {0};
        peft_target_names(&names, p->targets);
        fail(err, EXIT_RUN, "%s: found no LoRA of the %d layers' %s; its first tensor is %.80s\n  -> expected base_model.model.model.layers.<l>.mlp.down_proj.lora_A.weight and the like",
             st->path, L, names.s, st->n_entries ? st->entries[0].name : "(none)");
        str_free(&names);
        return false;
    }
    for (int i = 0; i < st->n_entries && found < st->n_entries; i++) { // name the first stranger
        bool known = false;
        for (int k = 0; k < L * N_PROJ * 2 && !known; k++) {
            char name[128];
            const Projection q = (Projection)(k / 2 % N_PROJ);
            if (!p->targets[q]) continue;
            snprintf(name, sizeof name, "base_model.model.model.layers.%d.%s.%s.lora_%c.weight", k / 2 / N_PROJ, peft_block(q), projection_names[q], 'A' + k % 2);
            known = strcmp(name, st->entries[i].name) == 0;
        }
        if (!known)
            return fail(err, EXIT_RUN, "%s: found tensor %.80s, expected only lora_A and lora_B of the %d layers' target_modules", st->path, st->entries[i].name, L);
    }
    return true;
}

// Reads the adapter in folder dir: *p its settings, *t its layout, *tuned [t->n] its numbers, in the host's memory. Shapes and values are checked against the
// model. Free with tuning_free and free(); on failure there is nothing to free.
bool peft_load(PeftConfig *p, Tuning *t, float **tuned, const ModelConfig *c, const char *dir, Error *err) {
    memset(t, 0, sizeof *t);
    *tuned = NULL;
    if (!peft_config_read(p, dir, err)) return false;
    char *file = model_path(dir, PEFT_WEIGHTS);
    bool *layers = (bool *)xcalloc((size_t)c->L, sizeof(bool));
    SafeTensors st;
    const bool opened = safetensors_open(&st, file, err);
    bool ok = opened && peft_layers(layers, p, &st, c->L, err);
    if (ok) {
        tuning_lora(t, c, p->rank, (float)p->alpha, p->targets, layers);
        int n = 0;
        FileTensor *all = peft_tensors(t, NULL, &n); // the shapes first: they bound what is allocated
        for (int i = 0; i < n && ok; i++) ok = tuned_read(&all[i], &st, false, true, err);
        free(all);
        if (ok) *tuned = (float *)xmalloc(t->n * sizeof(float));
        all = peft_tensors(t, *tuned, &n);
        for (int i = 0; i < n && ok; i++) ok = tuned_read(&all[i], &st, false, false, err);
        free(all);
    }
    if (opened) safetensors_close(&st);
    if (!ok) {
        free(*tuned);
        *tuned = NULL;
        tuning_free(t);
    }
    free(layers);
    free(file);
    return ok;
}

#endif
