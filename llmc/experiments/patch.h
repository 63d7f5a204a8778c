/*
A patched layer (intervene.h) by the name of its variant, as the papers' experiments have them.
*/
#ifndef LLMC_EXPERIMENTS_PATCH_H
#define LLMC_EXPERIMENTS_PATCH_H

#include <string.h>         // strcmp, strchr
#include "llmc/intervene.h" // Intervention

/*
    no_patch      steered throughout              base          no vector at all
    skip_attn     the attention is plain          skip_layer    attention and feed-forward are plain
    skip_head_N   only head N's output is plain   steer_head_N  only head N's output is steered
    skip_q_N, skip_k_N, skip_v_N, skip_kv_N       only these heads of q, k, v are plain (k and v: by key/value head)
    steer_q_N, ...                                only these are steered
    skip_all_v, steer_all_v                       all value heads at once
*/

// How many heads the variant `name` counts (its _N runs from 0); 0 if it has no N, -1 if there is no such variant.
int variant_heads(const char *name, int NH, int NKV) {
    const struct {
        const char *name;
        int heads;
    } all[] = {{"no_patch", 0},   {"base", 0},        {"skip_attn", 0},  {"skip_layer", 0},
               {"skip_all_v", 0}, {"steer_all_v", 0}, {"skip_head", NH}, {"steer_head", NH},
               {"skip_q", NH},    {"steer_q", NH},    {"skip_k", NKV},   {"steer_k", NKV},
               {"skip_v", NKV},   {"steer_v", NKV},   {"skip_kv", NKV},  {"steer_kv", NKV}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0) return all[i].heads;
    return -1;
}

// *v = the variant of that name, without _N, and head N; vector[C] (on the host) enters layer `layer`. The name is a
// known one. Free with intervention_free.
void intervention_patch(Intervention *v, const Ops *ops, const char *name, int head, const float *vector, int layer,
                        PatchPath path, int NH, int NKV, int C) {
    memset(v, 0, sizeof *v);
    if (strcmp(name, "base") == 0) return;
    unsigned char chosen_qkv[4096] = {0}, chosen_heads[1024] = {0}; // what is plain
    const char *what = strchr(name, '_') + 1;                       // after skip_, steer_, no_
    const bool only_these_steered = strncmp(name, "steer", 5) == 0;
    if (strcmp(what, "head") == 0) chosen_heads[head] = 1;
    if (strcmp(what, "attn") == 0 || strcmp(what, "layer") == 0) memset(chosen_heads, 1, (size_t)NH);
    if (strcmp(what, "q") == 0) chosen_qkv[head] = 1;
    if (strcmp(what, "k") == 0 || strcmp(what, "kv") == 0) chosen_qkv[NH + head] = 1;
    if (strcmp(what, "v") == 0 || strcmp(what, "kv") == 0) chosen_qkv[NH + NKV + head] = 1;
    if (strcmp(what, "all_v") == 0) memset(chosen_qkv + NH + NKV, 1, (size_t)NKV);
    if (only_these_steered) { // what is plain is all the others, of what this variant is about
        unsigned char *of = strcmp(what, "head") == 0 ? chosen_heads : chosen_qkv;
        for (int i = 0; i < (of == chosen_heads ? NH : NH + 2 * NKV); i++) of[i] = !of[i];
    }
    v->plain_qkv = (unsigned char *)ops->alloc((size_t)(NH + 2 * NKV));
    v->plain_heads = (unsigned char *)ops->alloc((size_t)NH);
    ops->upload(v->plain_qkv, chosen_qkv, (size_t)(NH + 2 * NKV));
    ops->upload(v->plain_heads, chosen_heads, (size_t)NH);
    v->vector = intervention_floats(ops, vector, (size_t)C);
    v->layer = layer;
    v->skip_layer = strcmp(what, "layer") == 0;
    v->path = v->skip_layer ? PATH_BOTH : path; // there the wholly steered attention has nothing to go to
}

#endif
