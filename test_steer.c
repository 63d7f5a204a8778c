/*
steer.c, the proof: `make test` runs this and it ends in `N passed, N failed`. No network, no GPU, no Python. From the
bottom up: parsers on recorded and broken input -> each operation on each backend against `ref` -> the whole model
against PyTorch records and finite differences -> sampling, bit by bit -> the programs as a user starts them.
*/
#ifndef _GNU_SOURCE // g++ defines it
#define _GNU_SOURCE // strcasestr
#endif
#include <sys/mman.h> // mmap: the counts of a suite in a process of its own
#include <sys/wait.h> // wait
#include "dev/test/test.h"
#include "dev/test/test_options.h"     // options: table, YAML, command line, --help, README
#include "dev/test/test_logger.h"      // metrics.jsonl, progress line, signals
#include "dev/test/test_tokenizer.h"   // token ids against Hugging Face's
#include "dev/test/test_text.h"        // chat formats, problems
#include "dev/test/test_answer.h"      // the verifier
#include "dev/test/test_model_files.h" // config.json, safetensors, checkpoints: good and broken
#include "dev/test/test_matmul.h"      // vector instructions and matrix products
#include "dev/test/test_ops.h"         // every other operation
#include "dev/test/test_bits.h"        // bits that levels of different CPUs share
#include "dev/test/test_cuda.h"        // all of them on cuda
#include "dev/test/test_model.h"       // the whole model against PyTorch
#include "dev/test/test_intervene.h"   // interventions, each against what it means
#include "dev/test/test_rollout.h"     // sampling, groups, losses
#include "dev/test/test_tuning.h"      // LoRA, vectors at other places
#include "dev/test/test_one_file.h"    // dev/doc/steer_in_one_file.c
#include "dev/test/test_programs.h"    // ./train_steer and ./eval_steer
#include "dev/test/test_metrics.h"     // metrics.jsonl against TRL's
#include "dev/test/test_gguf.h"        // models of llama.cpp
#include "dev/test/test_rooms.h"
#include "dev/test/test_links.h"       // README.md and dev/doc can be followed
#include "dev/test/test_levels.h"      // one program for every CPU
#include "dev/test/test_memory.h"      // what a run plans is what it takes
#include "dev/test/test_setups.h"      // what else can be trained, on what
#include "dev/test/test_foreign.h"     // models and adapters of other programs
#include "dev/test/test_cost.h"        // scripts/cost_table.sh
#include "dev/test/test_experiments.h" // ./eval_steer experiment
#include "dev/test/test_export.h"      // ./eval_steer export
#include "dev/test/test_results.h"     // what is written, and that it is kept
#include "dev/test/test_dist.h"        // several processes
#include "dev/test/test_shard.h"       // all weights in several processes
#include "dev/test/test_gpus.h"        // with a GPU each

typedef struct {
    const char *name;
    void (*run)(void);
} Suite;

// Runs one suite in this process and says how it went.
void run_suite(const Suite *suite) {
    const int passed = tests_passed, failed = tests_failed;
    const double start = now_s();
    suite->run();
    printf("%-12s %5d passed, %d failed, %.1f s\n", suite->name, tests_passed - passed, tests_failed - failed,
           now_s() - start);
    fflush(stdout);
}

// Runs n suites in processes of their own, at most `jobs` at once; prints what they printed in the order of the list.
// One that crashes is a failure more, and the others go on.
void run_suites(const Suite *const *suites, int n, int jobs) {
    int (*counts)[3] =
        (int (*)[3])mmap(NULL, (size_t)n * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                         0); // passed, failed, whether it came to its end
    FILE **printed = (FILE **)xcalloc((size_t)n, sizeof *printed);
    pid_t *child = (pid_t *)xcalloc((size_t)n, sizeof *child);
    if (counts == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    fflush(stdout);
    for (int started = 0, running = 0, shown = 0; shown < n;) {
        while (started < n && running < jobs) {
            printed[started] = tmpfile();
            child[started] = printed[started] ? fork() : -1;
            if (child[started] < 0) {
                perror("a suite's process");
                exit(1);
            }
            if (child[started] == 0) {
                if (dup2(fileno(printed[started]), STDOUT_FILENO) < 0 || dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
                    _exit(1);
                tests_passed = tests_failed = 0;
                run_suite(suites[started]);
                test_remove_tmpdir();
                counts[started][0] = tests_passed;
                counts[started][1] = tests_failed;
                counts[started][2] = 1;
                free(printed); // or LeakSanitizer ends every suite with a failure
                free(child);
                exit(0);
            }
            started++;
            running++;
        }
        int status;
        const pid_t ended = wait(&status);
        running--;
        for (int i = 0; i < started; i++) {
            if (child[i] != ended) continue;
            child[i] = 0;
            tests_passed += counts[i][0];
            tests_failed += counts[i][1];
            fseek(printed[i], 0, SEEK_END);
            if (status == 0 && counts[i][2]) continue; // not one that something in it has ended with 0
            tests_failed++;
            if (WIFSIGNALED(status))
                fprintf(printed[i], "FAILED %s: ended by signal %d (%s)\n", suites[i]->name, WTERMSIG(status),
                        strsignal(WTERMSIG(status)));
            else fprintf(printed[i], "FAILED %s: ended with status %d\n", suites[i]->name, WEXITSTATUS(status));
            fflush(printed[i]); // or the next child writes it again
        }
        for (; shown < started && child[shown] == 0; shown++) {
            char piece[4096];
            rewind(printed[shown]);
            for (size_t k; (k = fread(piece, 1, sizeof piece, printed[shown])) > 0;) fwrite(piece, 1, k, stdout);
            fclose(printed[shown]);
        }
        fflush(stdout);
    }
    munmap(counts, (size_t)n * sizeof *counts);
    free(printed);
    free(child);
}

// ./test_steer [-j N] [NAME ...]: some or all of the suites; with -j each in a process of its own, N at once.
int main(int argc, char **argv) {
    // clang-format off
    const Suite tests[] = {
        {"options", test_options}, {"logger", test_logger}, {"tokenizer", test_tokenizer}, {"text", test_text},
        {"answer", test_answer}, {"model_files", test_model_files}, {"foreign", test_foreign}, {"matmul", test_matmul},
        {"ops", test_ops}, {"bits", test_bits}, {"cuda", test_cuda}, {"model", test_model},
        {"intervene", test_intervene}, {"rollout", test_rollout}, {"tuning", test_tuning},
        {"one_file", test_one_file}, {"programs", test_programs},
        {"metrics", test_metrics}, {"gguf", test_gguf}, {"rooms", test_rooms}, {"links", test_links}, {"levels", test_levels},
        {"memory", test_memory}, {"setups", test_setups}, {"cost", test_cost}, {"experiments", test_experiments},
        {"export", test_export}, {"results", test_results}, {"dist", test_dist}, {"shard", test_shard},
        {"gpus", test_gpus},
    };
    // clang-format on
    enum { N = sizeof tests / sizeof tests[0] };
    const Suite *wanted[N];
    const int jobs = argc > 2 && strcmp(argv[1], "-j") == 0 ? atoi(argv[2]) : 0, names = jobs ? 3 : 1;
    int n = 0;
    for (int i = 0; i < N; i++) {
        bool named = argc == names;
        for (int k = names; k < argc; k++) named |= strcmp(argv[k], tests[i].name) == 0;
        if (named) wanted[n++] = &tests[i];
    }
    if (jobs > 0) run_suites(wanted, n, jobs);
    else
        for (int i = 0; i < n; i++) run_suite(wanted[i]);
    return test_summary();
}
