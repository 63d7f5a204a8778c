/*
LoRA adapters in the format of the PEFT library: a folder of

    adapter_config.json         r, lora_alpha, target_modules
    adapter_model.safetensors   base_model.model.model.layers.<l>.<block>.<projection>.lora_A.weight [r,K],
                                .lora_B.weight [N,r]

They may come from anywhere. Which matrices are meant is read as PEFT reads it (peft_targets.h). A key that is not known
and not off, whatever it means (rsLoRA, DoRA, biases, ranks that differ, ...), is refused by name, never ignored, and so
is every tensor that is not one of those two.
*/
#ifndef LLMC_FILES_PEFT_H
#define LLMC_FILES_PEFT_H

#include "llmc/files/json.h"         // json_load, json_get_*
#include "llmc/files/peft_targets.h" // peft_find_targets
#include "llmc/files/file_tensor.h"  // FileTensor, file_tensor_read
#include "llmc/param_layout.h"       // ParamLayout, LoraSite, Projection

#define PEFT_WEIGHTS "adapter_model.safetensors"
#define PEFT_CONFIG "adapter_config.json"
#define PEFT_MAX_R 1024 // times the longest row of a model stays below 2^31

typedef struct {
    int r;
    double alpha;
    bool targets[N_PROJ]; // of some layer
    bool starts_at_zero;  // B A = 0 before training: what a file leaves out changes nothing
} PeftConfig;

// Marks the projection of that name; false (and an error that opens with `where`) if there is none.
bool peft_add_target(bool targets[N_PROJ], const char *name, const char *where, Error *err) {
    int nearest = 0;
    for (int p = 0; p < N_PROJ; p++) {
        if (strcmp(name, projections[p].name) == 0) return targets[p] = true;
        if (edit_distance(name, projections[p].name) < edit_distance(name, projections[nearest].name)) nearest = p;
    }
    return fail(err, EXIT_USAGE,
                "%s: found '%.60s', expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj\n  -> did "
                "you mean %s?",
                where, name, projections[nearest].name);
}

// "down_proj", "q,v" without _proj: the targets in a short form, appended.
void peft_target_names(Str *out, const bool targets[N_PROJ]) {
    const char *sep = "";
    for (int p = 0; p < N_PROJ; p++) {
        if (!targets[p]) continue;
        str_printf(out, "%s%.*s", sep, (int)strlen(projections[p].name) - 5, projections[p].name);
        sep = ",";
    }
}

// ----------------------------------------------------------------------------
// adapter_config.json

// Appends the text of adapter_config.json. t: the layout, where not every layer need have all targets; NULL: they have.
void peft_config_write(Str *out, const PeftConfig *p, const ParamLayout *t, const char *base) {
    char alpha[32], name[TENSOR_NAME];
    bool uneven = false;
    for (int i = 0; t && i < t->L * N_PROJ; i++) uneven |= p->targets[i % N_PROJ] && t->sites[i].K == 0;
    snprintf(alpha, sizeof alpha, "%.17g", p->alpha);
    str_printf(out, "{\n  \"base_model_name_or_path\": ");
    json_add_string(out, base, strlen(base));
    str_printf(out,
               ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n  \"lora_alpha\": "
               "%s,\n  \"lora_dropout\": 0.0,\n"
               "  \"peft_type\": \"LORA\",\n  \"r\": %d,\n  \"target_modules\": [",
               alpha, p->r);
    const char *sep = "";
    for (int i = 0; i < (uneven ? t->L * N_PROJ : N_PROJ); i++) {
        if (uneven ? t->sites[i].K == 0 : !p->targets[i]) continue;
        if (uneven) str_printf(out, "%s\"%s\"", sep, tensor_name(name, i / N_PROJ, projections[i % N_PROJ].module, ""));
        else str_printf(out, "%s\"%s\"", sep, projections[i].name);
        sep = ", ";
    }
    str_printf(out, "],\n  \"task_type\": \"CAUSAL_LM\"\n}\n");
}

// Keys that are read below or by peft_targets.h, then those that change nothing that a trained adapter computes.
// Whatever else is set changes something.
static const char *const peft_known[] = {
    "peft_type",
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "bias",
    "init_lora_weights",
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
};

// Absent, null, false, 0, empty, or made of such values alone.
bool peft_is_off(const cJSON *item) {
    if (!item || cJSON_IsNull(item) || cJSON_IsFalse(item)) return true;
    if (cJSON_IsString(item)) return !*item->valuestring;
    if (cJSON_IsNumber(item)) return item->valuedouble == 0;
    bool off = cJSON_IsObject(item) || cJSON_IsArray(item);
    for (const cJSON *child = off ? item->child : NULL; child && off; child = child->next) off = peft_is_off(child);
    return off;
}

// Begins that leave the base model as it is, but for what the file holds. The others' numbers belong to a changed base
// model.
bool peft_read_init(PeftConfig *p, const cJSON *init, const char *path, Error *err) {
    static const char *const names[] = {"gaussian", "eva", "mica", "orthogonal"};
    const char *name = cJSON_IsString(init) ? init->valuestring : NULL;
    p->starts_at_zero = !cJSON_IsFalse(init) && !(name && strcmp(name, "orthogonal") == 0);
    bool known = !init || cJSON_IsBool(init);
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++) known |= strcasecmp(name, names[i]) == 0;
    return known || fail(err, EXIT_RUN,
                         "%s: init_lora_weights: found %s%.40s%s, expected true, false, \"gaussian\", \"eva\", "
                         "\"mica\" or \"orthogonal\"\n"
                         "  -> the others belong to a changed base model: have PEFT convert the adapter",
                         path, name ? "\"" : "", name ? name : json_type_name(init), name ? "\"" : "");
}

bool peft_config_parse(PeftConfig *p, bool *sites, int L, const cJSON *root, const char *path, Error *err) {
    const char *type = NULL, *bias = "none";
    if (!cJSON_IsObject(root))
        return fail(err, EXIT_RUN, "%s: found %s, expected an object", path, json_type_name(root));
    const char *twice = json_duplicate_key(root);
    if (twice) return fail(err, EXIT_RUN, "%s: key \"%.60s\" comes twice", path, twice);
    if (!json_get_string(root, "peft_type", &type, path, err)) return false;
    if (strcmp(type, "LORA") != 0)
        return fail(err, EXIT_RUN, "%s: peft_type: found \"%.40s\", expected \"LORA\"", path, type);
    for (const cJSON *item = root->child; item; item = item->next) {
        bool known = peft_is_off(item);
        for (size_t i = 0; i < sizeof peft_known / sizeof peft_known[0] && !known; i++)
            known = strcmp(item->string, peft_known[i]) == 0;
        if (!known)
            return fail(err, EXIT_RUN,
                        "%s: %.60s is set, which is not computed here\n  -> plain LoRA only: %.60s must be absent, "
                        "null, false or empty%s",
                        path, item->string, item->string,
                        strcmp(item->string, "lora_bias") == 0 ? " (vectors are read from their own file: --steering)"
                                                               : "");
    }
    if (json_has(root, "bias") && !json_get_string(root, "bias", &bias, path, err)) return false;
    if (strcmp(bias, "none") != 0)
        return fail(err, EXIT_RUN, "%s: bias: found \"%.40s\", expected \"none\"", path, bias);
    if (!peft_read_init(p, json_find(root, "init_lora_weights"), path, err)) return false;
    if (!json_get_int(root, "r", 1, PEFT_MAX_R, &p->r, path, err) ||
        !json_get_double(root, "lora_alpha", &p->alpha, path, err))
        return false;
    if (!(p->alpha > 0 && p->alpha < 1e6))
        return fail(err, EXIT_RUN, "%s: lora_alpha: found %g, expected a number above 0 and below 1e6", path, p->alpha);
    if (!peft_find_targets(sites, root, L, path, err)) return false;
    for (int i = 0; i < L * N_PROJ; i++) p->targets[i % N_PROJ] |= sites[i];
    return true;
}

// Is this the folder of an adapter?
bool peft_is_folder(const char *path) {
    char *config = model_path(path, PEFT_CONFIG);
    bool is = path_exists(config);
    free(config);
    return is;
}

// *p, sites[L, N_PROJ] = what dir/adapter_config.json says of a model of L layers.
bool peft_config_read(PeftConfig *p, bool *sites, int L, const char *dir, Error *err) {
    memset(p, 0, sizeof *p);
    memset(sites, 0, (size_t)L * N_PROJ * sizeof(bool));
    char *path = model_path(dir, PEFT_CONFIG);
    cJSON *root = json_load(path, err);
    bool ok = root && peft_config_parse(p, sites, L, root, path, err);
    cJSON_Delete(root);
    free(path);
    return ok;
}

// ----------------------------------------------------------------------------
// adapter_model.safetensors

// The name of what belongs to projection p of layer l, "lora_A.weight" or the like, in the file. Returns name.
#define PEFT_NAME 128
char *peft_name(char name[PEFT_NAME], int l, Projection p, const char *rest) {
    char module[TENSOR_NAME];
    snprintf(name, PEFT_NAME, "base_model.model.%s.%s", tensor_name(module, l, projections[p].module, ""), rest);
    return name;
}

// The name of a factor ('A' or 'B') of matrix i of [L, N_PROJ].
char *peft_tensor_name(char name[PEFT_NAME], int i, char factor) {
    return peft_name(name, i / N_PROJ, (Projection)(i % N_PROJ), factor == 'A' ? "lora_A.weight" : "lora_B.weight");
}

// The tensors that the file of an adapter of layout t has, with their numbers in params[t->n] (host; NULL: none yet).
// Free with free(); *n of them.
FileTensor *peft_tensors(const ParamLayout *t, float *params, int *n) {
    FileTensor *all = (FileTensor *)xcalloc((size_t)t->L * N_PROJ * 2, sizeof(FileTensor));
    *n = 0;
    for (int i = 0; i < t->L * N_PROJ; i++) {
        const LoraSite *s = &t->sites[i];
        for (int b = 0; b < 2 && s->K > 0; b++) {
            FileTensor *x = &all[(*n)++];
            char name[PEFT_NAME];
            snprintf(x->name, sizeof x->name, "%.95s", peft_tensor_name(name, i, (char)('A' + b)));
            x->rows = b ? s->N : t->lora_r;
            x->columns = b ? t->lora_r : s->K;
            x->data = params ? params + (b ? s->b : s->a) : NULL;
            x->transposed = b;
        }
    }
    return all;
}

// What the file has for sites[L, N_PROJ]: both factors of a matrix, or none of the two, which is then no site any more;
// nothing else may be in it.
bool peft_check_tensors(PeftConfig *p, bool *sites, const SafeTensors *st, int L, Error *err) {
    int meant = 0, missing = 0, found = 0;
    char a[PEFT_NAME], b[PEFT_NAME], lacking[PEFT_NAME] = "";
    for (int i = 0; i < L * N_PROJ; i++) {
        if (!sites[i]) continue;
        const bool has_a = safetensors_find_entry(st, peft_tensor_name(a, i, 'A')),
                   has_b = safetensors_find_entry(st, peft_tensor_name(b, i, 'B'));
        if (has_a != has_b)
            return fail(err, EXIT_RUN, "%s: tensor %s is missing, its other half of layer %d is there", st->path,
                        has_a ? b : a, i / N_PROJ);
        if (!has_a && missing++ == 0) snprintf(lacking, sizeof lacking, "%s", a);
        meant++;
        found += 2 * (sites[i] = has_a);
    }
    for (int k = 0; k < st->n_entries && found < st->n_entries; k++) { // name the first stranger
        bool known = false;
        for (int i = 0; i < L * N_PROJ && !known; i++)
            known = sites[i] && (strcmp(peft_tensor_name(a, i, 'A'), st->entries[k].name) == 0 ||
                                 strcmp(peft_tensor_name(b, i, 'B'), st->entries[k].name) == 0);
        if (!known)
            return fail(
                err, EXIT_RUN,
                "%s: found tensor %.120s, expected only lora_A and lora_B of what target_modules in " PEFT_CONFIG
                " means in the %d layers\n"
                "  -> PEFT would leave it out: correct the config, or remove the tensor",
                st->path, st->entries[k].name, L);
    }
    if (missing > 0 && (found == 0 || !p->starts_at_zero))
        return fail(err, EXIT_RUN, "%s: tensor %s is missing, though target_modules in " PEFT_CONFIG " means it%s",
                    st->path, lacking,
                    found ? " (and init_lora_weights does not begin at zero: PEFT would put random numbers there)"
                          : "");
    if (missing > 0)
        warn("%s: %d of the %d matrices that target_modules means have no tensors, %s the first: they stay as they "
             "are, as in PEFT",
             st->path, missing, meant, lacking);
    memset(p->targets, 0, sizeof p->targets);
    for (int i = 0; i < L * N_PROJ; i++) p->targets[i % N_PROJ] |= sites[i];
    return true;
}

// Reads the adapter in folder dir: *p its settings, *t its layout, *params [t->n] its numbers, in the host's memory.
// Shapes and values are checked against the model. Free with layout_free and free(); on failure there is nothing to
// free.
bool peft_load(PeftConfig *p, ParamLayout *t, float **params, const ModelConfig *c, const char *dir, Error *err) {
    memset(t, 0, sizeof *t);
    *params = NULL;
    bool *sites = (bool *)xcalloc((size_t)c->L * N_PROJ, sizeof(bool));
    char *file = model_path(dir, PEFT_WEIGHTS);
    SafeTensors st;
    const bool opened = peft_config_read(p, sites, c->L, dir, err) && safetensors_open(&st, file, err);
    bool ok = opened && peft_check_tensors(p, sites, &st, c->L, err);
    if (ok) {
        layout_lora(t, c, p->r, (float)p->alpha, p->targets, sites);
        int n = 0;
        FileTensor *all = peft_tensors(t, NULL, &n); // the shapes first: they bound what is allocated
        for (int i = 0; i < n && ok; i++) ok = file_tensor_read(&all[i], &st, false, true, err);
        free(all);
        if (ok) *params = (float *)xmalloc(t->n * sizeof(float));
        all = peft_tensors(t, *params, &n);
        for (int i = 0; i < n && ok; i++) ok = file_tensor_read(&all[i], &st, false, false, err);
        free(all);
    }
    if (opened) safetensors_close(&st);
    if (!ok) {
        free(*params);
        *params = NULL;
        layout_free(t);
    }
    free(sites);
    free(file);
    return ok;
}

#endif
