/*
A training run: what it holds. What it does step by step is train_steer.cu; how it is set up, saved and resumed,
run/run.h.
*/
#ifndef LLMC_TRAINER_H
#define LLMC_TRAINER_H

#include "llmc/dist/dist.h"           // GradientReduction
#include "llmc/files/checkpoint.h"    // TrainerState
#include "llmc/files/files.h"         // Dataset
#include "llmc/grpo.h"                // PolicyPass
#include "llmc/logger.h"              // Logger, Progress
#include "llmc/memory/memory.h"       // MemoryPlan
#include "llmc/options/options.h"     // Options
#include "llmc/rollout.h"             // Rollout
#include "llmc/tokenizer/tokenizer.h" // Tokenizer
#include "llmc/trainable.h"           // Trainable: what AdamW moves, what the model reads

// One problem drawn for this step, and its G answers.
typedef struct {
    int problem;               // index into the training set
    uint32_t key;              // its place in the endless stream of problems: keys the random numbers
    Completion *completions;   // [G]
    float *reward, *advantage; // [G]
    bool equal;                // no answer is better than another: no gradient
    int sampled_by;            // rank
} Group;                       // of a given solution: one completion, of reward and advantage 0

// Seconds of the parts of a step: at first this rank's own, after share_times (llmc/dist/sync.h) the slowest
// rank's.
typedef struct {
    double start; // when the step began, of now_s
    double rollout, reward, forward, backward, update;
} StepTimes;

typedef struct {
    Options options;
    const Ops *ops;
    Qwen2 model;
    Tokenizer *tokenizer;
    Dataset train, validation;
    IntVec *prompts, *validation_prompts; // token ids of each problem
    IntVec *solutions;                    // setup sft_...: of each given solution, NULL: answers are sampled
    int G;                                // answers of each problem: num_generations, 1 where they are given

    Trainable trainable; // what is trained, its gradient and AdamW's moments
    TrainerState state;
    bool moved;              // what is trained is ahead of `state`: an update that is not finished, or has failed
    bool validation_missing; // that of state.step was interrupted: the resumed run begins with it

    // machinery
    Rollout rollout;
    int slots;          // of the rollout: rollout_batch_size, or as many as memory has room for
    double cache_bytes; // of its keys and values, 0: as much as they may need
    PolicyPass policy;
    GradientReduction reduction; // the groups' parts of the gradient, and which rank computes which
    char *run_dir, *model_name, *dataset_name;
    Logger log;
    Progress progress;
    MemoryPlan memory;
    LargestPass largest; // what operations will be asked for
    int longest;         // tokens of the longest prompt
    int max_steps;
    int *order; // the problems of epoch `order_epoch` in the order they are drawn
    long long order_epoch;

    // this step
    Group *groups;
    int n_groups;
    StepTimes times;
    bool ended;     // in an earlier step of this call most completions ended by themselves
    char note[128]; // for the progress line
} Trainer;

#endif
