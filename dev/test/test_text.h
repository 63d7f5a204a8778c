// JSON glue, chat templates, data sets: recorded cases, refusals, mutated input.
#ifndef DEV_TEST_TEST_TEXT_H
#define DEV_TEST_TEST_TEXT_H

#include "dev/test/test.h"
#include "dev/test/test_tokenizer.h" // test_mutate
#include "llmc/chat.h"
#include "llmc/files/files.h"

// ----------------------------------------------------------------------------

void test_json(void) {
    static const struct {
        const char *text, *expect;
    } bad[] = {
        {"", "empty"},           {"{\"a\":1} x", "byte 8"},
        {"[1,\n2,", "byte 5"},   {"{\"a\":\n\"\xFF\"}", "byte 7 (line 2): invalid UTF-8"},
        {"\"a\nb\"", "control"}, {"\"\\ud800\"", "byte"},
        {"\"\\", "byte"},        {"\"\xED\xA0\x80\"", "UTF-8"},
        {"nul", "byte"},         {"\x01[]", "control"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Error err = {0, ""};
        cJSON *o = json_parse(bad[i].text, strlen(bad[i].text), "file:3", &err);
        CHECK(!o && strstr(err.text, bad[i].expect) && strstr(err.text, "file:3"), "%s: %s", bad[i].text, err.text);
        cJSON_Delete(o);
    }
    char deep[2 * JSON_MAX_DEPTH + 4];
    for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        Error err = {0, ""};
        cJSON *o = json_parse(deep, 2 * (size_t)depth, "deep", &err);
        CHECK((o != NULL) == (depth == JSON_MAX_DEPTH), "depth %d: %s", depth, err.text);
        cJSON_Delete(o);
    }
    const char *text = "{\"s\":\"a\\u0000\\\\u0000\",\"i\":7,\"x\":1.5,\"big\":1e300,\"b\":true,\"z\":null,\"i\":8}";
    cJSON *o = json_parse(text, strlen(text), "t", NULL);
    Str s = {NULL, 0, 0}, quoted = {NULL, 0, 0};
    Error err = {0, ""};
    int i = 0;
    double x = 0;
    bool b = false;
    const char *p = "";
    CHECK(json_get_text(o, "s", &s, "t", &err) && s.n == 8 && memcmp(s.s, "a\0\\u0000", 8) == 0, "%zu bytes", s.n);
    CHECK(json_get_int(o, "i", 0, 7, &i, "t", &err) && i == 7 && json_get_double(o, "x", &x, "t", &err) && x == 1.5 &&
              json_get_bool(o, "b", &b, "t", &err) && b,
          "%s", err.text);
    CHECK(!json_has(o, "z") && !json_has(o, "none") && strcmp(json_duplicate_key(o), "i") == 0, "keys");
    CHECK(!json_get_int(o, "i", 0, 6, &i, "t", &err) &&
              strstr(err.text, "\"i\": found 7, expected a whole number from 0 to 6"),
          "%s", err.text);
    CHECK(!json_get_int(o, "x", 0, 6, &i, "t", NULL) && !json_get_int(o, "big", 0, 6, &i, "t", NULL) &&
              !json_get_string(o, "s", &p, "t", NULL) && !json_get_string(o, "none", &p, "t", NULL),
          "refusals");
    json_add_string(&quoted, "a\"\\\n\x01\xC3\xA9\xC3", 8);
    CHECK(strcmp(quoted.s, "\"a\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBD\"") == 0, "%s", quoted.s);
    str_free(&s);
    str_free(&quoted);
    cJSON_Delete(o);
}

void test_chat(void) {
    static const struct {
        const char *name, *system, *expect;
    } cases[] = {
        {"qwen25-math-cot", "",
         "<|im_start|>system\nPlease reason step by step, and put your final answer within "
         "\\boxed{}.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"},
        {"qwen25-math-cot", "Be brief.",
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"},
        {"qwen-boxed", "",
         "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat?\nPlease reason step by "
         "step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"},
        {"r1", "",
         "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The "
         "Assistant first thinks about the reasoning process in the mind and then provides the User with the answer. "
         "The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> "
         "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.\nUser: "
         "What?\nAssistant: <think>"},
        {"raw", "", "What?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str out = {NULL, 0, 0};
        str_add(&out, "", 0);
        CHECK(chat_format(&out, cases[i].name, cases[i].system, "What?", NULL) && strcmp(out.s, cases[i].expect) == 0,
              "%s: %s", cases[i].name, out.s);
        str_free(&out);
    }
    Str out = {NULL, 0, 0};
    Error err = {0, ""}, err2 = {0, ""};
    CHECK(!chat_format(&out, "qwen-box", "", "?", &err) && err.code == EXIT_USAGE &&
              strstr(err.text, "did you mean qwen-boxed"),
          "%s", err.text);
    CHECK(!chat_format(&out, "raw", "Be brief.", "?", &err2) && strstr(err2.text, "no system turn"), "%s", err2.text);
    str_free(&out);
}

// ----------------------------------------------------------------------------

void test_dataset(void) {
    Error err = {0, ""};
    const char *a = test_path("a.jsonl"), *b = test_path("b.jsonl");
    test_write(a, "{\"id\":\"p1\",\"problem\":\"What is 1 + "
                  "1?\",\"answer\":\"2\",\"source\":\"s\",\"solution\":\"<<1+1=2>> and <<2*1=2>>\",\"level\":3}\r\n\n"
                  "{\"problem\":\"Roots of x^2=1\",\"answer\":\"1,-1\",\"alt\":[\"\\\\pm "
                  "1\"],\"multiple\":true,\"error\":\"1e-1\"}");
    test_write(b, "{\"problem\":\"q\",\"answer\":\"3\",\"id\":null}\n{\"problem\":\"what is 1+1\",\"answer\":\"2\"}\n");
    Str paths = {NULL, 0, 0};
    str_printf(&paths, "%s,%s", a, b);
    Dataset d, e;
    if (CHECK(dataset_load(&d, paths.s, &err) && d.n == 4, "%s", err.text)) {
        Problem *p = d.items;
        CHECK(strcmp(p[0].id, "p1") == 0 && strcmp(p[0].source, "s") == 0 && problem_steps(&p[0]) == 2 &&
                  p[0].n_alt == 0 && !p[0].multiple,
              "%s", p[0].id);
        CHECK(strstr(p[1].id, "a.jsonl:3") && strcmp(p[1].source, "a.jsonl") == 0 && p[1].n_alt == 1 && p[1].multiple &&
                  p[1].error == 0.1 && p[1].solution[0] == 0,
              "%s", p[1].id);
        int train = -1, eval = -1;
        if (CHECK(dataset_load(&e, b, &err), "%s", err.text)) {
            CHECK(dataset_overlap(&d, &e, &train, &eval) == 3 && train == 0 && eval == 1, "train %d, eval %d", train,
                  eval);
            dataset_free(&e);
        }
        dataset_free(&d);
    }
    static const struct {
        const char *text, *expect;
    } bad[] = {
        {"", "no problems"},
        {"\n \n", "no problems"},
        {"{\"problem\":\"p\"}", ":1: key \"answer\": found nothing"},
        {"\n{\"problem\":\"p\",\"answer\":\" \"}", ":2: key \"answer\" is empty"},
        {"{\"problem\":\"\",\"answer\":\"1\"}", "\"problem\" is empty"},
        {"{\"problem\":\"p\",\"answer\":7}", "found a number, expected a string"},
        {"{\"problem\":\"p\",", "not valid JSON"},
        {"[1]", "found an array"},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"alt\":[1]}", "\"alt\""},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"alt\":\"1\"}", "\"alt\""},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"error\":-1}", "\"error\""},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"error\":\"x\"}", "\"error\""},
        {"{\"problem\":\"p\xFF\",\"answer\":\"1\"}", "UTF-8"},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"multiple\":\"yes\"}", "\"multiple\""},
        {"{\"problem\":\"a\\u0000b\",\"answer\":\"1\"}", "NUL"},
        {"{\"problem\":\"p\",\"answer\":\"1\",\"solution\":\" \"}", "solution"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&err, 0, sizeof err);
        test_write(b, bad[i].text);
        CHECK(!dataset_load(&d, paths.s, &err) && err.code == EXIT_RUN && strstr(err.text, bad[i].expect) &&
                  strstr(err.text, "b.jsonl") && d.n == 0,
              "%s: %s", bad[i].text, err.text);
    }
    memset(&err, 0, sizeof err);
    CHECK(!dataset_load(&d, "a,,b", &err) || err.code != 0, "%s", err.text);
    memset(&err, 0, sizeof err);
    CHECK(!dataset_load(&d, test_tmpdir(), &err) && strstr(err.text, "cannot read"), "%s", err.text);

    static const char line[] = "{\"id\":\"p1\",\"problem\":\"What is \\u00e9 1 + "
                               "1?\",\"answer\":\"2\",\"source\":\"s\",\"alt\":[\"2.0\",\"x\"],\"multiple\":true,"
                               "\"error\":0.5,\"solution\":\"<<1+1=2>>\"}\n";
    uint64_t random = 3;
    Str text = {NULL, 0, 0};
    int loaded = 0, silent = 0;
    for (int trial = 0; trial < 2000; trial++) {
        test_mutate(&text, line, sizeof line - 1, 1 + trial % 3, &random);
        unlink(b); // see test_tokenizer_from
        FILE *f = fopen(b, "wb");
        if (!f || fwrite(text.s, 1, text.n, f) != text.n || fclose(f) != 0) {
            perror(b);
            exit(1);
        }
        memset(&err, 0, sizeof err);
        bool ok = dataset_load(&d, b, &err);
        loaded += ok;
        silent += !ok && !strstr(err.text, "b.jsonl");
        if (ok) dataset_free(&d);
    }
    CHECK(silent == 0 && loaded < 2000, "%d of 2000 broken lines loaded, %d failed without naming the file", loaded,
          silent);
    str_free(&text);
    str_free(&paths);
}

void test_text(void) {
    test_json();
    test_chat();
    test_dataset();
}

#endif
