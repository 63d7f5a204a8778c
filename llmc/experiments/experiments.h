/*
The experiments of the papers, one file each. `./eval_steer experiment NAME --config FILE.yml` runs one; its file says
what it computes and what it leaves in results/experiments/NAME/<Model>/<dataset>/, which scripts/plot/NAME.py draws.

    variants.h      what they share: where results go, one variant of an evaluation
    patch.h         a patched layer, by the name of its variant
    lens.h          tools to look at vectors
    teacher.h       completions sampled once, then read under one condition or another
    token_effect.h  what a change does to the next token

From outside: experiments.h
From dev/, too: patch.h
*/
#ifndef LLMC_EXPERIMENTS_H
#define LLMC_EXPERIMENTS_H

// benchmarks answered under an intervention
#include "llmc/experiments/add_place.h"
#include "llmc/experiments/exchange_svs.h"
#include "llmc/experiments/magnitude.h"
#include "llmc/experiments/pair_single.h"
#include "llmc/experiments/patch_head.h" // and patch_head_path
#include "llmc/experiments/vanilla.h"
// looked into once
#include "llmc/experiments/add_place_steering.h"
#include "llmc/experiments/last_layer_steering.h"
#include "llmc/experiments/logit_lens.h"
#include "llmc/experiments/lora1_plots.h"
#include "llmc/experiments/match_effect.h"
#include "llmc/experiments/pre_last_layer_steering.h"
#include "llmc/experiments/self_explain.h"

typedef struct Experiment {
    const char *name;
    bool (*run)(Session *s, Error *err);
    const char *what;
} Experiment;

// clang-format off
const Experiment experiments[] = {
    {"vanilla", experiment_vanilla, "benchmarks answered without vectors and with them"},
    {"add_place", experiment_add_place, "benchmarks answered with the vectors after another --place of their layer"},
    {"exchange_svs", experiment_exchange_svs,
        "the vectors of each of --donors in each of --recipients, benchmarks answered"},
    {"magnitude", experiment_magnitude, "all vectors multiplied by each of --magnitudes, benchmarks answered"},
    {"pair_single", experiment_pair_single, "single vectors and pairs of them, all others zero, benchmarks answered"},
    {"patch_head", experiment_patch_head,
        "the vector before the last layer reaches parts of that layer only (--variants), benchmarks answered"},
    {"patch_head_path", experiment_patch_head_path,
        "patch_head with the patched attention going to the residual stream, to the MLP, or to both"},
    {"logit_lens", experiment_logit_lens,
        "the tokens each vector points to, norms, cosines and singular values of the vectors"},
    {"last_layer_steering", experiment_last_layer_steering,
        "what the last layer's vector does to the probability of each next token"},
    {"pre_last_layer_steering", experiment_pre_last_layer_steering,
        "the same for the vector before it, through parts of the last layer (--variants)"},
    {"add_place_steering", experiment_add_place_steering,
        "the same for a vector at its usual place against one after --place"},
    {"match_effect", experiment_match_effect,
        "what each single vector changes in the residual stream of later layers, against their own vectors"},
    {"self_explain", experiment_self_explain, "the model asked what a vector means, the vector standing in for a word"},
    {"lora1_plots", experiment_lora1_plots, "how strongly a rank-one LoRA acts at each layer and token"},
};
// clang-format on
#define EXPERIMENTS ((int)(sizeof experiments / sizeof experiments[0]))

// *found = the experiment of that name, and its usage; NULL and the list of all for --help. False: there is none of
// that name.
bool experiments_find(const Experiment **found, Str *usage, const char *name, Error *err) {
    *found = NULL;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        str_printf(usage, "usage: ./eval_steer experiment NAME --config FILE.yml [--option value ...]\n");
        for (int i = 0; i < EXPERIMENTS; i++)
            str_printf(usage, "    %-24s %s\n", experiments[i].name, experiments[i].what);
        return true;
    }
    const Experiment *nearest = &experiments[0];
    for (int i = 0; i < EXPERIMENTS; i++) {
        if (strcmp(name, experiments[i].name) == 0) *found = &experiments[i];
        if (edit_distance(name, experiments[i].name) < edit_distance(name, nearest->name)) nearest = &experiments[i];
    }
    if (!*found)
        return fail(
            err, EXIT_USAGE,
            "there is no experiment \"%.60s\"\n  -> ./eval_steer experiment --help lists them; did you mean %s?", name,
            nearest->name);
    str_printf(usage, "usage: ./eval_steer experiment %s --config FILE.yml [--option value ...]\n%s.\n", name,
               (*found)->what);
    return true;
}

#endif
