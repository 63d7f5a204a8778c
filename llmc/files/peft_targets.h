/*
Which matrices of a model an adapter of the PEFT library changes, as its adapter_config.json says and PEFT reads it
(check_target_module_exists):

    target_modules       names (down_proj, layers.3.mlp.down_proj), each the end of a module's name; or one regular
                         expression over whole names; or "all-linear"
    exclude_modules      the same: modules that are not meant after all
    layers_to_transform  of the modules that a name's end has found, those of these layers only; layers_pattern: what
                         stands before the layer's number
*/
#ifndef LLMC_FILES_PEFT_TARGETS_H
#define LLMC_FILES_PEFT_TARGETS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>            // pcre2_compile, pcre2_match
#include <strings.h>          // strcasecmp
#include "llmc/files/json.h"  // json_find, cJSON
#include "llmc/tensors.h"     // projections, tensor_name
#include "llmc/utils/utils.h" // Error, fail

// 1: the regular expression matches all of `name`; 0: it does not; -1 and err: it is none, or gave up.
int peft_full_match(const char *pattern, const char *name, const char *what, Error *err) {
    int code = 0;
    size_t at = 0;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern),
                      PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
    pcre2_match_data *match = compiled ? pcre2_match_data_create_from_pattern(compiled, NULL) : NULL;
    const int rc = match ? pcre2_match(compiled, (PCRE2_SPTR)name, strlen(name), 0, 0, match, NULL) : code;
    pcre2_match_data_free(match);
    pcre2_code_free(compiled);
    if (match && (rc >= 0 || rc == PCRE2_ERROR_NOMATCH)) return rc >= 0;
    PCRE2_UCHAR why[256];
    pcre2_get_error_message(rc, why, sizeof why);
    fail(err, EXIT_RUN, "%s: the regular expression \"%.100s\" cannot be used: %s", what, pattern, (const char *)why);
    return -1;
}

// A rule is absent, a string, or an array of strings.
bool peft_check_rule(const cJSON *root, const char *key, const char *path, Error *err) {
    const cJSON *rule = json_find(root, key);
    if (rule && !cJSON_IsString(rule) && !cJSON_IsArray(rule))
        return json_fail_type(root, key, "a string or an array of strings", path, err);
    for (const cJSON *item = cJSON_IsArray(rule) ? rule->child : NULL; item; item = item->next)
        if (!cJSON_IsString(item))
            return fail(err, EXIT_RUN, "%s: %s: found %s in it, expected strings", path, key, json_type_name(item));
    return true;
}

// How a checked rule finds the module of that name: 0 not at all, 1 as a whole, 2 by its end; -1 and err.
int peft_rule_finds(const cJSON *rule, const char *name, const char *what, Error *err) {
    int found = 0;
    if (cJSON_IsString(rule)) return *rule->valuestring ? peft_full_match(rule->valuestring, name, what, err) : 0;
    for (const cJSON *item = rule ? rule->child : NULL; item; item = item->next) {
        const char *end = item->valuestring;
        const size_t n = strlen(name), k = strlen(end);
        if (strcmp(name, end) == 0) return 1;
        if (n > k && name[n - k - 1] == '.' && strcmp(name + n - k, end) == 0) found = 2;
    }
    return found;
}

// Whether layers_to_transform and layers_pattern let a module of layer l pass: 1 or 0, -1 and err.
int peft_layer_passes(const cJSON *root, const char *name, int l, const char *path, Error *err) {
    const cJSON *layers = json_find(root, "layers_to_transform"), *patterns = json_find(root, "layers_pattern");
    if (!layers || (cJSON_IsArray(layers) && !layers->child)) return 1;
    bool listed = false;
    for (const cJSON *item = cJSON_IsArray(layers) ? layers->child : layers; item;
         item = cJSON_IsArray(layers) ? item->next : NULL) {
        if (!cJSON_IsNumber(item)) {
            json_fail_type(root, "layers_to_transform", "a whole number or an array of them", path, err);
            return -1;
        }
        listed |= item->valuedouble == l;
    }
    const cJSON *pattern = cJSON_IsArray(patterns) ? patterns->child : patterns;
    if (!listed || !pattern || !*pattern->valuestring) return listed;
    int passes = 0;
    for (; pattern && passes == 0; pattern = cJSON_IsArray(patterns) ? pattern->next : NULL) {
        Str whole = {0};
        str_printf(&whole, "(?:|.*?\\.)%s\\.[0-9]+\\..*", pattern->valuestring);
        passes = peft_full_match(whole.s, name, path, err);
        str_free(&whole);
    }
    return passes;
}

// Whether the config means the module of that name, which is of layer l: 1 or 0, -1 and err.
int peft_is_target(const cJSON *root, const char *name, int l, const char *path, Error *err) {
    const cJSON *targets = json_find(root, "target_modules");
    const int excluded = peft_rule_finds(json_find(root, "exclude_modules"), name, path, err);
    if (excluded != 0) return excluded < 0 ? -1 : 0;
    if (cJSON_IsString(targets) && strcasecmp(targets->valuestring, "all-linear") == 0)
        return l >= 0; // all but the output matrix
    const int found = peft_rule_finds(targets, name, path, err);
    return found == 2 ? peft_layer_passes(root, name, l, path, err) : found;
}

// sites[L, N_PROJ] = the matrices of a model of L layers that the config means. One that means the embedding or the
// output matrix, or nothing, is refused.
bool peft_find_targets(bool *sites, const cJSON *root, int L, const char *path, Error *err) {
    const cJSON *targets = json_find(root, "target_modules"), *layers = json_find(root, "layers_to_transform");
    if (!targets) return json_fail_type(root, "target_modules", "a string or an array of strings", path, err);
    if (!peft_check_rule(root, "target_modules", path, err) || !peft_check_rule(root, "exclude_modules", path, err) ||
        !peft_check_rule(root, "layers_pattern", path, err))
        return false;
    if (cJSON_IsString(targets) && layers && !(cJSON_IsArray(layers) && !layers->child))
        return fail(err, EXIT_RUN,
                    "%s: layers_to_transform: found beside target_modules as a string, which PEFT does not take\n  -> "
                    "the layers belong "
                    "into the regular expression",
                    path);
    static const char *const others[2] = {MODULE_HEAD, MODULE_EMBEDDING};
    bool any = false;
    for (int i = -2; i < L * N_PROJ; i++) {
        char name[TENSOR_NAME];
        const int l = i < 0 ? -1 : i / N_PROJ;
        if (i < 0) snprintf(name, sizeof name, "%s", others[i + 2]);
        else tensor_name(name, l, projections[i % N_PROJ].module, "");
        const int is = peft_is_target(root, name, l, path, err);
        if (is < 0) return false;
        if (i < 0 && is)
            return fail(err, EXIT_RUN,
                        "%s: target_modules: %s is among them, expected only q_proj, k_proj, v_proj, o_proj, "
                        "gate_proj, up_proj and "
                        "down_proj of layers",
                        path, name);
        if (i >= 0) any |= sites[i] = is;
    }
    return any || fail(err, EXIT_RUN,
                       "%s: target_modules: none of the %d layers' q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
                       "down_proj is meant",
                       path, L);
}

#endif
