/*
Optimizer natural_gradient: moves each layer's vector along its mean gradient, as far as a budget of KL divergence
allows (natural gradient, Amari 1998; TRPO, Schulman et al. 2015, arXiv 1502.05477). AdamW moves every number by the
whole rate, however weak its signal; here a layer's direction is that of its gradient, and one number that means the
same in every model, target_kl, says how far a step goes.

A vector s_l moves the policy by s_l^T F_l s_l / 2 nats a token, F_l the mean over tokens of dlogprob dlogprob^T
(Fisher's matrix). It is taken for a multiple of the identity, F_l = (tr F_l / C) I, and the gradient itself tells the
multiple:

    g_l = sum over tokens of  weight * advantage * dlogprob / ds_l
    |g_l|^2 = tr F_l * squares,         squares = sum over tokens of (weight * advantage)^2

in the mean, but for what is signal in g_l, since dlogprob of tokens that the policy has sampled are uncorrelated and of
mean 0. So a step of n trained layers, each with its share of the budget, is as long in layer l as

    |step_l|^2 * tr F_l / 2 C = target_kl / n,       |step_l| = sqrt(2 C target_kl squares / n) / |g_l|

In directions that the model is more sensitive to than to any, as gradients' are, a step takes several times target_kl.
*/
#ifndef LLMC_NATURAL_GRADIENT_H
#define LLMC_NATURAL_GRADIENT_H

#include <math.h>     // sqrt
#include "llmc/ops.h" // Ops

// One step, number `step` from 1, of the vectors x[L,C] with the gradient g[L,C], all three in the backend's memory.
// exp_avg[L,C] is the mean of the steps as they would be alone (decay beta1): shorter than those where gradients
// disagree. layers[L]: those that are trained; the others stay. rate: multiplies the step (the schedule's, at most 1).
// A layer without gradient goes on along its mean.
static inline void natural_gradient_update(float *x, float *exp_avg, const float *g, const bool *layers, int L, int C,
                                           double target_kl, double squares, double rate, double beta1, int step,
                                           const Ops *ops) {
    int n = 0;
    for (int l = 0; l < L; l++) n += layers[l];
    const double reach = sqrt(2 * C * target_kl * squares / n); // length of a step times that of its gradient
    for (int l = 0; l < L; l++) {
        if (!layers[l]) continue;
        const size_t at = (size_t)l * (size_t)C;
        const double norm = ops->gradient_norm(g + at, (size_t)C);
        const double scale = norm > 0 ? reach / (norm * norm) : 0; // the length is reach / norm, that of g is norm
        ops->momentum_update(x + at, exp_avg + at, g + at, scale, (size_t)C, step, rate, beta1);
    }
}

#endif
