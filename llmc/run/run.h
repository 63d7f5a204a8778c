/*
A training run around its steps, which are train_steer.cu's.

    setup.h            from options to a model, problems and memory
    trainable_setup.h  what is trained: its name, where it begins, its checkpoints; included by itself, too
    resume.h           checkpoints, and going on from one
    train_log.h        a step's figures: on the terminal, in metrics.jsonl, completions

From outside: run.h trainable_setup.h
From dev/, too: setup.h train_log.h
*/
#ifndef LLMC_RUN_RUN_H
#define LLMC_RUN_RUN_H

#include "llmc/run/resume.h"
#include "llmc/run/setup.h"
#include "llmc/run/train_log.h"

#endif
