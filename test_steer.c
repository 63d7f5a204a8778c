/*
steer.c, the proof: `make test` runs this and it ends in `N passed, N failed`. No network, no GPU, no Python. From the
bottom up: parsers on recorded and broken input -> each operation on each backend against `ref` -> the whole model against
PyTorch records and finite differences -> sampling, bit by bit -> the programs as a user starts them.
*/
#ifndef _GNU_SOURCE // g++ defines it
#define _GNU_SOURCE // strcasestr
#endif
#include "dev/test/test.h"
#include "dev/test/test_options.h"     // options: table, YAML, command line, --help, README
#include "dev/test/test_logger.h"      // metrics.jsonl, progress line, signals
#include "dev/test/test_tokenizer.h"   // token ids against Hugging Face's
#include "dev/test/test_text.h"        // chat formats, problems
#include "dev/test/test_answer.h"      // the verifier
#include "dev/test/test_model_files.h" // config.json, safetensors, checkpoints: good and broken
#include "dev/test/test_matmul.h"      // vector instructions and matrix products
#include "dev/test/test_ops.h"         // every other operation
#include "dev/test/test_cuda.h"        // all of them on cuda
#include "dev/test/test_model.h"       // the whole model against PyTorch
#include "dev/test/test_intervene.h"   // interventions, each against what it means
#include "dev/test/test_rollout.h"     // sampling, groups, losses
#include "dev/test/test_tuning.h"      // LoRA, vectors at other places
#include "dev/test/test_programs.h"    // ./train_steer and ./eval_steer
#include "dev/test/test_memory.h"      // what a run plans is what it takes
#include "dev/test/test_setups.h"      // what else can be trained, on what
#include "dev/test/test_cost.h"        // scripts/cost_table.sh
#include "dev/test/test_experiments.h" // ./eval_steer experiment
#include "dev/test/test_export.h"      // ./eval_steer export
#include "dev/test/test_dist.h"        // several processes
#include "dev/test/test_gpus.h"        // with a GPU each

int main(int argc, char **argv) {
    const struct { const char *name; void (*run)(void); } tests[] = {
        {"options", test_options}, {"logger", test_logger}, {"tokenizer", test_tokenizer}, {"text", test_text}, {"answer", test_answer},
        {"model_files", test_model_files}, {"matmul", test_matmul}, {"ops", test_ops}, {"cuda", test_cuda}, {"model", test_model},
        {"intervene", test_intervene}, {"rollout", test_rollout}, {"tuning", test_tuning}, {"programs", test_programs}, {"memory", test_memory}, {"setups", test_setups}, {"cost", test_cost},
        {"experiments", test_experiments}, {"export", test_export}, {"dist", test_dist}, {"gpus", test_gpus},
    };
    const int n = (int)(sizeof tests / sizeof tests[0]);
    for (int i = 0; i < n; i++) {
        bool wanted = argc == 1; // ./test_steer NAME ... runs some of them
        for (int k = 1; k < argc; k++) wanted |= strcmp(argv[k], tests[i].name) == 0;
        if (!wanted) continue;
        int passed = tests_passed, failed = tests_failed;
        double start = now_s();
        tests[i].run();
        printf("%-12s %5d passed, %d failed, %.1f s\n", tests[i].name, tests_passed - passed, tests_failed - failed, now_s() - start);
        fflush(stdout);
    }
    return test_summary();
}
