/*
What eval_steer does with a model, beside the experiments (experiments/experiments.h) and exports (files/export.h).
Answering problems is evaluate.h's, which training needs, too.

    session.h       what every command works with: the options, the model, its tokenizer, the vectors
    made_with.h     what a result was made with
    results.h       a folder of results, as several calls fill it
    benchmark.h     `eval`: a list of problem files, answered once for each seed
    grade.h         `grade`: verdicts on lines of JSON
    bench_limits.h  what this machine can do; it needs nothing of the others, and dev/bench includes it by itself
    bench.h         `bench`: tokens per second, beside those limits

From outside: eval.h
From dev/, too: bench.h bench_limits.h
*/
#ifndef LLMC_EVAL_EVAL_H
#define LLMC_EVAL_EVAL_H

#include "llmc/eval/session.h"   // Session
#include "llmc/eval/benchmark.h" // Benchmarks, benchmarks_answer; made_with, results_check
#include "llmc/eval/grade.h"     // grade_file
#include "llmc/eval/bench.h"     // bench_run

#endif
