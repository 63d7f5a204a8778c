/*
One model trained by several processes, the ranks, each with all the weights, on CPUs or GPUs. The results are the same
bits with any number of ranks. A program alone is rank 0 of 1, and all of this does nothing.

    ranks.h               who is there, bytes from each to all, what to do when one fails: MPI, and nothing else of the
                          program sees it
    gpu.h                 arrays from GPU to GPU
    gradient_reduction.h  the gradient as a sum whose order does not depend on who computed which part
    shard.h               all weights trained: each rank updates its share of them
    sync.h                what ranks tell each other in a step of training; it knows the trainer, so it is included by
                          itself

From outside: dist.h sync.h
*/
#ifndef LLMC_DIST_DIST_H
#define LLMC_DIST_DIST_H

#include "llmc/dist/ranks.h"              // dist, dist_share, dist_gather, agree
#include "llmc/dist/gpu.h"                // dist_gpu_begin, dist_gpu_share
#include "llmc/dist/gradient_reduction.h" // GradientReduction
#include "llmc/dist/shard.h"              // Shard

#endif
