/*
Results that are kept: a file is whole or as it was, whatever stops the program; what was made with other settings is
never replaced, nor put beside others without a word; an evaluation that was stopped goes on to the same bytes; tables
refuse what was not made alike.
*/
#ifndef DEV_TEST_TEST_RESULTS_H
#define DEV_TEST_TEST_RESULTS_H

#include <sys/resource.h>
#include "dev/test/test.h"
#include "dev/test/test_programs.h" // run_command, expect_command, same_files
#include "llmc/eval/eval.h"
#include "llmc/utils/rng.h"

#define RESULTS_EVAL "./eval_steer eval --config scripts/eval/tiny/arithmetic.yml"
#define RESULTS_SEED "eval/tiny/base/temp_1.0_top_p_1.0/eval_seed-0"

// FIPS 180-4's own cases, and all ways to cut a message around a block's end.
void test_results_sha256(void) {
    char hex[SHA256_HEX], *many = (char *)xmalloc(1000000);
    memset(many, 'a', 1000000);
    const struct {
        const char *text, *expected;
        size_t n;
    } cases[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0},
                 {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 56},
                 {many, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 1000000}};
    for (int i = 0; i < 4; i++) {
        sha256_bytes(hex, cases[i].text, cases[i].n);
        CHECK(strcmp(hex, cases[i].expected) == 0, "SHA-256 of %zu bytes is %s", cases[i].n, hex);
    }
    int different = 0;
    for (size_t n = 0; n < 200; n++) {
        for (size_t cut = 0; cut <= n; cut++) {
            Sha256 s;
            unsigned char digest[32];
            char two[SHA256_HEX];
            sha256_begin(&s);
            sha256_add(&s, many, cut);
            sha256_add(&s, many, n - cut);
            sha256_end(&s, digest);
            sha256_text(two, digest);
            sha256_bytes(hex, many, n);
            different += strcmp(hex, two) != 0;
        }
    }
    CHECK(different == 0, "%d messages have another hash in two parts", different);

    // what this CPU has for it against the plain C, from random states on
    unsigned char blocks[7 * 64];
    uint32_t fast[8], plain[8];
    different = 0;
    for (uint32_t k = 0; k < 2000; k++) {
        for (size_t i = 0; i < sizeof blocks; i++)
            blocks[i] = (unsigned char)rng_bits(1, RNG_SHUFFLE, k, (uint32_t)i, 0, 0);
        for (uint32_t i = 0; i < 8; i++) fast[i] = plain[i] = rng_bits(1, RNG_SPLIT, k, i, 0, 0);
        sha256_blocks(fast, blocks, k % 8);
        sha256_blocks_plain(plain, blocks, k % 8);
        different += memcmp(fast, plain, sizeof fast) != 0;
    }
    CHECK(different == 0, "%d of 2000 random inputs are hashed otherwise than by plain C", different);
    free(many);
}

// A file that cannot be written leaves the one before as it was, and nothing beside it; what a killed program left is
// no hindrance.
void test_results_write(void) {
    const char *names[3] = {"written/file", "written/.tmp-file", "written"};
    char path[3][256];
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s", test_path(names[i]));
    Error e = {0, ""};
    Str big = {0};
    while (big.n < 5000) str_printf(&big, "line %zu\n", big.n);
    CHECK(make_dirs(path[2], &e) && write_file(path[0], "before\n", 7, &e), "%s", e.text);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit, small;
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 3000;
    setrlimit(RLIMIT_FSIZE, &small);
    const bool wrote = write_file(path[0], big.s, big.n, &e),
               copied = export_copy_file("data/tiny/test.jsonl", path[0], NULL);
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, handler);
    char *text = read_file(path[0], NULL, NULL);
    CHECK(!wrote && !copied && strstr(e.text, "File too large") && text && strcmp(text, "before\n") == 0 &&
              !path_exists(path[1]),
          "after a full disk there is %s; %s", text, e.text);
    free(text);
    test_write(path[1], "half of something");
    memset(&e, 0, sizeof e);
    CHECK(write_file(path[0], big.s, big.n, &e) && !path_exists(path[1]), "%s", e.text);
    text = read_file(path[0], NULL, NULL);
    CHECK(text && strcmp(text, big.s) == 0, "another text was written");
    free(text);
    // leftovers of both kinds go, what is not ours stays
    expect_command(0, "", "mkdir %s/.tmp-checkpoint-3 && touch %s/.tmp-checkpoint-3/half %s/.tmp-file", path[2],
                   path[2], path[2]);
    remove_temporaries(path[2]);
    expect_command(0, "file", "test \"$(ls -A %s)\" = file && echo file", path[2]);
    str_free(&big);
}

// The call must fail, name this key, and change no byte below results_dir.
void results_refused(const char *key, const char *more) {
    Str before = {0}, after = {0}, out = {0};
    const char *list = "find %s -type f -exec cksum {} + | sort";
    run_command(&before, list, test_path("kept"));
    const int code = run_command(&out, RESULTS_EVAL " --limit 6 --results_dir %s %s", test_path("kept"), more);
    run_command(&after, list, test_path("kept"));
    CHECK(code != 0 && strstr(out.s, key), "%s: ended with %d, expected a refusal that names %s:\n%s", more, code, key,
          out.s);
    CHECK(before.n > 0 && before.n == after.n && strcmp(before.s, after.s) == 0, "%s: changed\n%sto\n%s", more,
          before.s, after.s);
    str_free(&before);
    str_free(&after);
    str_free(&out);
}

void test_results_settings(void) {
    char more[512], other[256], data[256];
    expect_command(0, "saved",
                   RESULTS_EVAL " --limit 6 --results_dir %s --steering data/tiny/vectors/steering.safetensors",
                   test_path("kept"));
    expect_command(0, "saved", RESULTS_EVAL " --limit 6 --results_dir %s", test_path("kept"));
    const struct {
        const char *key, *more;
    } options[] = {{"limit: found 6, this call has 5", "--limit 5"},
                   {"top_k: found 0, this call has 3", "--top_k 3"},
                   {"max_completion_length: found 80, this call has 40", "--max_completion_length 40"},
                   {"num_generations: found 1, this call has 2", "--num_generations 2"},
                   {"device: found \"cpu\", this call has \"ref\"", "--device ref"},
                   {"prompt_template", "--prompt_template qwen-boxed --max_completion_length 80"},
                   {"limit", "--limit 5 --seed 1"},
                   {"limit", "--limit 5 --seeds 3,0"},
                   {"limit", "--limit 5 --data data/tiny/train.jsonl"},
                   {"num_generations", "--benchmark_generations test=4"}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) results_refused(options[i].key, options[i].more);
    // other files under the same name: a model, vectors, data
    snprintf(other, sizeof other, "%s", test_path("other/tiny"));
    snprintf(data, sizeof data, "%s", test_path("other/test.jsonl"));
    expect_command(0, "",
                   "mkdir -p %s && cp data/tiny/model/* %s && sed 's/\"rms_norm_eps\": [^,]*/\"rms_norm_eps\": 0.001/' "
                   "data/tiny/model/config.json > %s/config.json",
                   other, other, other);
    snprintf(more, sizeof more, "--model %s", other);
    results_refused("model_sha256", more);
    expect_command(0, "",
                   "cp data/tiny/vectors/layers.safetensors %s/../steering.safetensors && head -n 400 "
                   "data/tiny/test.jsonl | tail -n "
                   "20 > %s",
                   other, data);
    snprintf(more, sizeof more, "--steering %s/../steering.safetensors", other);
    results_refused("vectors_sha256", more);
    snprintf(more, sizeof more, "--data %s", data);
    results_refused("data_sha256", more);
    snprintf(more, sizeof more, "--data data/tiny/test.jsonl,%s", data);
    results_refused("would both write test.jsonl", more);
    // the same again, and what does not matter: kept, and said; another benchmark and another seed have their place
    // beside it
    expect_command(0, "kept, not answered again", RESULTS_EVAL " --limit 6 --results_dir %s --rollout_batch_size 2",
                   test_path("kept"));
    expect_command(0, "kept, not answered again",
                   "cp -r data/tiny/model %s && " RESULTS_EVAL " --limit 6 --results_dir %s --model %s",
                   test_path("copy"), test_path("kept"), test_path("copy"));
    expect_command(0, "train ",
                   RESULTS_EVAL
                   " --limit 6 --results_dir %s --data data/tiny/test.jsonl,data/tiny/train.jsonl --seeds 0,1",
                   test_path("kept"));
    // results that do not say what they were made with
    expect_command(0, "", "sed -i 's/, \"made_with\": .*}}/}/' %s/" RESULTS_SEED "/metrics.json", test_path("kept"));
    results_refused("does not say what it was made with", "");
    expect_command(0, "", "rm %s/" RESULTS_SEED "/metrics.json %s/" RESULTS_SEED "/train.jsonl", test_path("kept"),
                   test_path("kept"));
    results_refused("test.jsonl is there and does not say what it was made with", "");
    // experiments: a variant's answers, and one that leaves one object
    const char
        *lens = "./eval_steer experiment logit_lens --config scripts/eval/tiny/logit_lens.yml --results_dir",
        *magnitude =
            "./eval_steer experiment magnitude --config scripts/eval/tiny/magnitude.yml --magnitudes 1 --seeds 0 "
            "--results_dir";
    expect_command(0, "saved", "%s %s --top 3 && %s %s --top 3", lens, test_path("kept"), lens, test_path("kept"));
    expect_command(1, "top: found 3, this call has 4", "%s %s --top 4", lens, test_path("kept"));
    expect_command(0, "saved", "%s %s --limit 4", magnitude, test_path("kept"));
    expect_command(1, "limit: found 4, this call has 5", "%s %s --limit 5", magnitude, test_path("kept"));
}

// Stopped again and again, by a kill, an interrupt, a full disk, with a journal that was cut off or damaged: the same
// bytes in the end.
void test_results_stopped(void) {
    Str out = {0};
    char whole[256], cut[256], partial[512];
    snprintf(whole, sizeof whole, "%s", test_path("whole"));
    snprintf(cut, sizeof cut, "%s", test_path("cut_off"));
    const char *eval = RESULTS_EVAL
        " --steering data/tiny/vectors/steering.safetensors --model_name tiny --limit 60 --num_generations "
        "2 --save_tokens";
    const char *folder = "eval/tiny/steering.safetensors/temp_1.0_top_p_1.0/eval_seed-0";
    snprintf(partial, sizeof partial, "%s/%s/test.partial", cut, folder);
    expect_command(0, "saved", "%s --results_dir %s", eval, whole);
    const char *signals[3] = {"KILL", "INT", "KILL"};
    for (int i = 0; i < 3; i++) { // decoding one sequence at a time, so that the signal meets it in mid-run
        const int code =
            run_command(&out,
                        "OMP_NUM_THREADS=1 %s --rollout_batch_size 1 --results_dir %s & p=$!; while ! [ $(cat %s "
                        "2>/dev/null | wc -l) -gt %d ]; do kill -0 $p || exit 99; sleep 0.01; done; "
                        "kill -%s $p; wait $p",
                        eval, cut, partial, 6 * i + 4, signals[i]);
        CHECK(code == (i == 1 ? 130 : 137) && path_exists(partial), "stopped by %s: ended with %d:\n%s", signals[i],
              code, out.s);
        if (i == 1)
            CHECK(strstr(out.s, "going on from") && strstr(out.s, "answered and kept"), "interrupted: %s", out.s);
        if (i == 0) {
            char said[600];
            snprintf(said, sizeof said, "-> --results_dir %s_limit_7 keeps both", cut);
            expect_command(1, "test.partial was made with other settings: limit", "%s --limit 7 --results_dir %s", eval,
                           cut);
            expect_command(1, said, "%s --limit 7 --results_dir %s", eval, cut);
        }
    }
    expect_command(1, "another process is answering", "flock %s/%s %s --results_dir %s", cut, folder, eval, cut);
    expect_command(1, "File too large", "trap '' XFSZ; ulimit -f 30; %s --results_dir %s", eval,
                   cut); // blocks of 512 or 1024 bytes
    expect_command(0, "", "printf '{\"problem\": 59, \"seconds\": 1, \"comple' >> %s", partial);
    const int code = run_command(&out, "%s --rollout_batch_size 5 --results_dir %s", eval, cut);
    CHECK(code == 0 && strstr(out.s, "going on from"), "the last call ended with %d:\n%s", code, out.s);
    const char *files[2] = {"test.jsonl", "test.tokens.jsonl"};
    char a[600], b[600];
    for (int i = 0; i < 2; i++) {
        snprintf(a, sizeof a, "%s/%s/%s", whole, folder, files[i]);
        snprintf(b, sizeof b, "%s/%s/%s", cut, folder, files[i]);
        CHECK(same_files(a, b), "%s of an evaluation that was stopped has other bytes", files[i]);
    }
    CHECK(!path_exists(partial), "the journal is left");
    // a full disk while a second benchmark is written leaves the first as it was
    expect_command(1, "File too large", "trap '' XFSZ; ulimit -f 1; %s --data data/tiny/train.jsonl --results_dir %s",
                   eval, cut);
    CHECK(same_files(a, b), "a full disk has changed what lay there");
    str_free(&out);
}

// A journal whose middle is damaged, that holds a problem twice or ids that are none: what is good in front of it is
// kept.
void test_results_journal(void) {
    const char *bad[5] = {"garbage",
                          "{\"problem\": 0, \"seconds\": 1, \"completions\": [{\"ids\": [1], \"finished\": true}]}",
                          "{\"problem\": 1, \"seconds\": 1, \"completions\": [{\"ids\": [10], \"finished\": true}]}",
                          "{\"problem\": 1, \"seconds\": 1, \"completions\": [{\"ids\": [1], \"finished\": false}]}",
                          "{\"problem\": 3, \"seconds\": 1, \"completions\": [{\"ids\": [1], \"finished\": true}]}"};
    for (int i = 0; i < 5; i++) {
        char text[1024];
        Completion c[3];
        Journal j;
        Error e = {0, ""};
        memset(c, 0, sizeof c);
        snprintf(
            text, sizeof text,
            "{\"made_with\": {}}\n{\"problem\": 0, \"seconds\": 2.5, \"completions\": [{\"ids\": [7, 3], \"finished\": "
            "true}]}\n%s\n"
            "{\"problem\": 2, \"seconds\": 3, \"completions\": [{\"ids\": [1, 2, 3], \"finished\": false}]}\n",
            bad[i]);
        test_write(test_path("j.partial"), text);
        CHECK(journal_open(&j, c, test_path("j.partial"), 3, 1, false, 3, 10, "{}", &e), "%s", e.text);
        CHECK(j.count == 1 && j.has[0] && !j.has[2] && j.seconds == 2.5 && c[0].n == 2 && c[0].ids[0] == 7 &&
                  c[0].ids[1] == 3 && c[1].n == 0 && c[2].n == 0,
              "%s: %d problems are taken", bad[i], j.count);
        c[1].ids = (int *)xcalloc(3, sizeof(int));
        c[1].n = 3;
        CHECK(journal_add(&j, 1, &c[1], 4), "%s", j.failed.text);
        journal_close(&j);
        for (int k = 0; k < 3; k++) completion_free(&c[k]);
        CHECK(journal_open(&j, c, test_path("j.partial"), 3, 1, false, 3, 10, "{}", &e) && j.count == 2 && j.has[1] &&
                  c[1].n == 3,
              "what was added after it: %d problems", j.count);
        journal_close(&j);
        for (int k = 0; k < 3; k++) completion_free(&c[k]);
    }
}

// Tables and pictures take their figures from scripts/plot/results.py: it refuses what was not made alike.
void test_results_tables(void) {
    if (system("command -v python3 >/dev/null") != 0) {
        SKIP("no python3: what tables refuse is not tested");
        return;
    }
    char r[256];
    snprintf(r, sizeof r, "%s", test_path("tables"));
    expect_command(0, "saved",
                   RESULTS_EVAL
                   " --limit 8 --results_dir %s/a && " RESULTS_EVAL " --limit 6 --results_dir %s/b && " RESULTS_EVAL
                   " --limit 8 --temperature 0 --results_dir %s/a && " RESULTS_EVAL " --limit 8 --results_dir %s/a "
                   "--steering "
                   "data/tiny/vectors/"
                   "steering.safetensors",
                   r, r, r, r);
    const char *python = "python3 -c 'import sys; sys.path.insert(0, \"scripts/plot\"); from results import *; a = "
                         "evaluation(sys.argv[1]); b = evaluation(sys.argv[2]); "
                         "alike([(\"one\", a), (\"two\", b)]%s); print(\"taken\", accuracy(a)[0] == accuracy(a)[0])' "
                         "%s/%s/temp_1.0_top_p_1.0 %s/%s";
    expect_command(0, "taken", python, "", r, "a/eval/tiny/base", r, "a/eval/tiny/steering.safetensors");
    expect_command(1, "limit", python, "", r, "a/eval/tiny/base", r, "b/eval/tiny/base");
    expect_command(1, "temperature", python, "", r, "a/eval/tiny/base", r, "a/eval/tiny/base/temp_0.0_top_p_1.0");
    expect_command(0, "taken", python, ", free={\"temperature\"}", r, "a/eval/tiny/base", r,
                   "a/eval/tiny/base/temp_0.0_top_p_1.0");
}

// The index of dev/results is what the heads of its runs make; a README that breaks their rules is named, with what is
// wrong.
void test_results_index(void) {
    expect_command(0, " 0 failed", "dev/results/index.sh --check");
    expect_command(2, "nosuchdir", "dev/results/index.sh nosuchdir");
    char r[256];
    snprintf(r, sizeof r, "%s", test_path("index"));
    expect_command(0, "", "mkdir -p %s/2026-11-24_a", r);
    test_write(test_path("index/head"),
               "# A run\n\n- Question: why?\n- Date: 2026-11-24\n- Command: `true`\n- Commit: abc\n- Machine: any\n"
               "- Result: as [before](../2026-11-23_b)\n");
    expect_command(0, "| 2026-11-24 | why? | as [before](2026-11-23_b) | [a](2026-11-24_a) |",
                   "cp %s/head %s/2026-11-24_a/README.md && dev/results/index.sh %s && cat %s/README.md", r, r, r, r);
    expect_command(0, "2 passed, 0 failed", "dev/results/index.sh --check %s", r);
    const struct {
        const char *change, *said;
    } bad[] = {{"sed 's/why/what/'", "is not what the heads"},
               {"sed '/Result/d'", "ends within the head"},
               {"sed 's/^- Machine: any/- Machine:/'", "Machine: ..."},
               {"sed 's/11-24/11-25/'", "date of the folder"},
               {"sed 's/^# A run/A run/'", "a title"},
               {"awk '{ print } END { while (NR++ < 41) print \"\" }'", "README.md: 41 lines"}};
    for (int i = 0; i < 6; i++)
        expect_command(1, bad[i].said, "%s %s/head > %s/2026-11-24_a/README.md && dev/results/index.sh --check %s",
                       bad[i].change, r, r, r);
    expect_command(1, "has no README.md", "rm %s/2026-11-24_a/README.md && dev/results/index.sh --check %s", r, r);
}

void test_results(void) {
    test_results_sha256();
    test_results_write();
    test_results_journal();
    test_results_settings();
    test_results_stopped();
    test_results_tables();
    test_results_index();
}

#endif
