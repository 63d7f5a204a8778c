/*
Rewards: what a completion is worth. To add one, write a function like the three below, name it in
completion_reward and in the words of the option `reward`.
*/
#ifndef LLMC_REWARD_H
#define LLMC_REWARD_H

#include "llmc/answer/answer.h" // answer_correct, answer_extract
#include "llmc/files/files.h"   // Problem
#include "llmc/utils/rng.h"     // rng_bits

// Which completion of which step: what the coin of `random` is keyed by.
typedef struct {
    uint32_t seed, step, prompt, sample;
} RewardKey;

// The last boxed answer is right.
bool reward_math(const Problem *p, const char *text, size_t n) { return answer_correct(p, text, n, NULL); }

// There is a boxed answer. Control: how much of a gain is format?
bool reward_format(const char *text, size_t n) {
    Str answer = {0};
    bool boxed = answer_extract(&answer, text, n);
    str_free(&answer);
    return boxed;
}

// A coin. Control: any gain it brings has nothing to do with the answers.
bool reward_random(RewardKey key) { return rng_bits(key.seed, RNG_REWARD, key.step, key.prompt, key.sample, 0) >> 31; }

// +1 or -1 for the decoded text of a completion. kind: math, format or random.
float completion_reward(const char *kind, const Problem *p, const char *text, size_t n, RewardKey key) {
    bool good = strcmp(kind, "math") == 0     ? reward_math(p, text, n)
                : strcmp(kind, "format") == 0 ? reward_format(text, n)
                                              : reward_random(key);
    return good ? 1.0f : -1.0f;
}

#endif
