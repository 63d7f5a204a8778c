// The verifier: where an answer stands, which answers are equal, bounds for hostile input, the gold answers of the data
// sets.
#ifndef DEV_TEST_TEST_ANSWER_H
#define DEV_TEST_TEST_ANSWER_H

#include "dev/test/test.h"
#include "dev/test/test_tokenizer.h" // test_mutate
#include "llmc/answer/answer.h"
#include "llmc/eval/eval.h"
#include "llmc/files/files.h"

// ----------------------------------------------------------------------------

void test_answer_extract(void) {
    static const struct {
        const char *text, *expect;
    } cases[] = {
        {"It is \\boxed{18}.", "18"},
        {"\\boxed{1} no, \\boxed{2}", "2"},
        {"\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"},
        {"\\boxed{\\{1,2\\}}", "\\{1,2\\}"},
        {"\\boxed{3} and \\boxed{4", "3"},
        {"\\boxed{ {3 \\boxed{5}", "5"},
        {"\\boxed{x=\\boxed{3}}", "3"},
        {"\\boxed {\n 7 }", "7"},
        {"\\fbox{9}", "9"},
        {"}} \\boxed{1}", "1"},
        {"\\\\boxed{6}", "6"},
        {"\\boxed{}", ""},
        {"<think>\\boxed{1}</think> \\boxed{2}", "2"},
        {"<think>\\boxed{1}</think> so 2", NULL},
        {"a</think>\\boxed{1}</think>\\boxed{8}", "8"},
        {"<think>\\boxed{1}", NULL},
        {"\\boxed{1}<think> no", NULL},
        {"\\boxed{4}<|im_end|>\\boxed{5}", "4"},
        {"\\boxed{1}, \\boxed{2} and $\\boxed{3}$", "1, 2, 3"},
        {"\\boxed{1} or \\boxed{-1}", "1, -1"},
        {"\\boxed{1} \\boxed{2}", "2"},
        {"\\boxed{9} is wrong, \\boxed{2}, \\boxed{3}", "2, 3"},
        {"no box", NULL},
        {"", NULL},
        {"\\boxed", NULL},
        {"\\boxed{", NULL},
        {"\\boxed 5", "5"},
        {"so $\\boxed 7$.", "7"},
        {"\\boxed{1\\}", NULL},
        {"\\boxedx{1}", NULL},
        {"\\", NULL},
        {"\\boxed{1}\\", "1"},
        {"boxed{1}", NULL},
        {"\\boxed{5\\\\}", "5\\\\"},
        // a word after a bare \boxed, and an empty box, are those of a sentence
        {"\\boxed{12}. (I used \\boxed as asked)", "12"},
        {"The \\boxed notation: \\boxed{12}", "12"},
        {"\\boxed{12}. The \\boxed notation is as asked.", "12"},
        {"\\boxed{12}. I put it in \\boxed{}.", "12"},
        {"\\boxed{12} in \\boxed{ }", "12"},
        {"\\boxed{12}; in \\boxed{\\text{}}", "12"},
        {"as \\boxed{...}: \\boxed{12}, not \\boxed{\\ldots}", "12"},
        {"\\boxed{12} \\fbox{}", "12"},
        {"\\boxed{12} and \\boxed{13}, in \\boxed{}", "12, 13"},
        {"\\boxed 7 and \\boxed{}", "7"},
        {"\\boxed{12}, i.e. \\boxed 12", "12"},
        {"\\boxed{12} \\boxed 13", "12"},
        {"I use \\boxed as asked", NULL},
        {"\\boxed{ }", ""},
        {"\\boxed{x=\\boxed{}}", "x=\\boxed{}"},
        {"\\boxed C", "C"},
        {"\\boxed 2x", "2x"},
        // boxes that are one list
        {"$$\\boxed{3}$$ $$\\boxed{5}$$ $$\\boxed{7}$$", "3, 5, 7"},
        {"$x=\\boxed{3}$ or $x=\\boxed{5}$", "3, 5"},
        {"$x_1=\\boxed{3}$ and $x_2=\\boxed{5}$", "3, 5"},
        {"\\[\\boxed{3}\\]\n\\[\\boxed{5}\\]", "3, 5"},
        {"\\(\\boxed{3}\\), \\(\\boxed{5}\\)", "3, 5"},
        {"\\[x_{1} = \\boxed{3}\\] and \\[x_{2} = \\boxed{5}\\]", "3, 5"},
        {"$\\boxed{3}$和$\\boxed{5}$", "3, 5"},
        {"$\\boxed{3}$ $\\boxed{5}$", "3, 5"},
        {"$p=\\boxed{3}$, $q=\\boxed{5}$", "3, 5"},
        // and that are not
        {"$$\\boxed{3}$$ so $$\\boxed{5}$$", "5"},
        {"$\\boxed{3}+\\boxed{5}$", "5"},
        {"$$\\boxed{3}$$ $$\\boxed{3}$$", "3"},
        {"\\[\\boxed{2.5}\\] or \\(\\boxed{\\frac52}\\)", "\\frac52"},
        {"$a=\\boxed{3}$ then $b=\\boxed{5}$", "5"},
        {"$\\boxed{3}$ not $\\boxed{5}$", "5"},
        {"\\boxed{3}\n\n\\boxed{5}", "5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str s = {NULL, 0, 0};
        bool found = answer_extract(&s, cases[i].text, strlen(cases[i].text));
        CHECK(found == (cases[i].expect != NULL) && (!found || strcmp(s.s, cases[i].expect) == 0), "%s: %s",
              cases[i].text, found ? s.s : "none");
        str_free(&s);
    }
}

// Where there is no box.
void test_answer_find(void) {
    static const struct {
        const char *text, *expect;
    } cases[] = {
        {"First 3.\n#### 42", "42"},
        {"The answer is $\\frac12$. Good.", "\\frac12"},
        {"Answer: 7", "7"},
        {"**Answer:** \\(x+1\\)", "x+1"},
        {"The answer is 12 cm.\nIt is", "12 cm"},
        {"\\frac{1}{2}", "\\frac{1}{2}"},
        {"The interval is [2, 5).", "[2, 5)"},
        {"Hence.\nThe value is \\frac{1}{2}.", "\\frac{1}{2}"},
        {"Then $x = 1$ or $x = 2$.", "x = 1$ or $x = 2"},
        {"Here $x = 1$ while $y = 2$.", "y = 2"},
        {"The two numbers are 3 and 4.", "3 and 4"},
        {"So it costs 1,250 dollars", "1250"},
        {"We get $x = 3$ and 4 of them", "4"},
        {"We get 4, that is $x = 3$.", "x = 3"},
        {"I do not know.", NULL},
        {"<think> 5", NULL},
        {"", NULL},
        {"R2D2", NULL},
        {"in all -3.5", "-3.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Str s = {NULL, 0, 0};
        bool found = answer_find(&s, cases[i].text, strlen(cases[i].text));
        CHECK(found == (cases[i].expect != NULL) && (!found || strcmp(s.s, cases[i].expect) == 0), "%s: %s",
              cases[i].text, found ? s.s : "none");
        str_free(&s);
    }
    Str s = {NULL, 0, 0};
    CHECK(answer_choice(&s, "The answer is (C), not B", 24) && strcmp(s.s, "C") == 0, "a choice letter");
    str_free(&s);
}

// dev/test/answers.jsonl: pairs and whether they are equal, each in both orders ("swapped": with another verdict), and
// each with itself.
void test_answer_equal(void) {
    Error err = {0, ""};
    char *text = read_file("dev/test/answers.jsonl", NULL, &err), *rest = text;
    if (!CHECK(text != NULL, "%s", err.text)) return;
    int n = 0;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        cJSON *o = *line ? json_parse(line, strlen(line), "answers.jsonl", &err) : NULL;
        if (!o) continue;
        const char *gold = grade_text(o, "gold", ""), *pred = grade_text(o, "pred", "");
        bool equal = cJSON_IsTrue(json_find(o, "equal"));
        bool swapped = json_has(o, "swapped") ? cJSON_IsTrue(json_find(o, "swapped")) : equal;
        n++;
        CHECK(answer_equal(gold, pred) == equal && answer_equal(pred, gold) == swapped, "%s and %s: %s", gold, pred,
              equal ? "equal" : "not equal");
        CHECK(answer_equal(gold, gold) && (!*pred || answer_equal(pred, pred)), "%s and %s, each with itself", gold,
              pred);
        cJSON_Delete(o);
    }
    CHECK(n > 1500 && err.code == 0, "%d cases %s", n, err.text);
    free(text);
    CHECK(!answer_equal("", "") && !answer_equal("5", "\\boxed{}"), "an empty answer");
}

// eval_steer grade's counts.
void test_grade(void) {
    const char *path = test_path("grade.jsonl");
    test_write(
        path,
        "{\"gold\": \"1/2\", \"pred\": \"0.5\", \"equal\": true, \"kind\": \"a\"}\n{\"gold\": \"2\", \"completion\": "
        "\"\\\\boxed{2}\", \"equal\": false}\n\n"
        "{\"answer\": \"2\", \"completion\": \"2\", \"correct\": true}\n{\"completion\": \"#### 7\", \"answer\": "
        "\"7\", \"mode\": \"hash\"}\n{\"gold\": \"1\", \"pred\": \"2\", \"equal\": true, \"contested\": \"x\"}\n");
    Grades g;
    Error err = {0, ""};
    memset(&g, 0, sizeof g);
    bool ok = grade_file(&g, path, false, false, &err);
    CHECK(ok && g.n == 3 && g.rows[0].n == 4 && g.rows[0].labelled == 4 && g.rows[0].right == 2 &&
              g.rows[0].accepted == 1 && g.rows[0].rejected == 1,
          "%s %ld lines, %ld right", err.text, g.rows[0].n, g.rows[0].right);
    test_write(path, "{\"problem\": \"p\", \"answer\": \"\\\\frac12\", \"source\": \"a\"}\n{\"problem\": \"p\", "
                     "\"answer\": \"the quick brown fox\", \"source\": \"a\"}\n");
    memset(&g, 0, sizeof g);
    ok = grade_file(&g, path, false, false, &err);
    CHECK(ok && g.n == 2 && g.rows[1].golds == 2 && g.rows[1].formulas == 1 && g.rows[1].right == 2,
          "%s gold answers: %ld, mathematics: %ld, right: %ld", err.text, g.rows[1].golds, g.rows[1].formulas,
          g.rows[1].right);
    // lines without a label are no part of the share
    test_write(path, "{\"gold\": \"1\", \"pred\": \"1\", \"equal\": true, \"kind\": \"x\"}\n{\"gold\": \"1\", "
                     "\"pred\": \"2\", \"kind\": \"x\"}\n{\"gold\": \"1\", \"pred\": \"1.0\", \"kind\": \"x\"}\n");
    memset(&g, 0, sizeof g);
    ok = grade_file(&g, path, false, false, &err);
    CHECK(ok && g.n == 2 && g.rows[1].n == 3 && g.rows[1].labelled == 1 && g.rows[1].right == 1 &&
              g.rows[1].correct == 1,
          "%s %ld of %ld labelled lines right, %ld others correct", err.text, g.rows[1].right, g.rows[1].labelled,
          g.rows[1].correct);
    // gold answers that nothing can match
    test_write(path, "{\"problem\": \"p\", \"answer\": \"Add: 1+3 = <<1+3=4>>4\\n#### 4\"}\n{\"problem\": \"p\", "
                     "\"answer\": \"#### 7\"}\n{\"problem\": \"p\", \"answer\": \"7\"}\n");
    memset(&g, 0, sizeof g);
    ok = grade_file(&g, path, false, false, &err);
    CHECK(ok && g.rows[0].golds == 3 && g.rows[0].right == 1 && g.rows[0].rejected == 2,
          "%s %ld of 3 gold answers can be matched", err.text, g.rows[0].right);
    test_write(path, "{\"gold\": \"1\"}\n");
    CHECK(!grade_file(&g, path, false, false, &err) && strstr(err.text, "grade.jsonl:1"), "%s", err.text);
}

// Which gold answers no boxed answer can match.
void test_unmatchable(void) {
    static const char *const never[] = {
        "#### 7", "Add: 0+3 = <<0+3=3>>3\n#### 3", "x}", "{", "\\frac{1}{2", "$$", "\\text{}", " . "};
    static const char *const can[] = {"7",
                                      "\\boxed{7}",
                                      "so we get \\boxed{7}",
                                      "\\frac12",
                                      "the midpoints form a regular hexagon",
                                      "1, 2",
                                      "(A)",
                                      "\\{1, 2\\}",
                                      "x = 1 \\text{ or } x = 2",
                                      "no solution",
                                      "#7",
                                      "12元"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        CHECK(answer_unmatchable(never[i]) != NULL, "%s can be matched", never[i]);
    for (size_t i = 0; i < sizeof can / sizeof can[0]; i++)
        CHECK(answer_unmatchable(can[i]) == NULL, "%s: %s", can[i], answer_unmatchable(can[i]));
    Str text = {NULL, 0, 0};
    for (int i = 0; i < 60; i++) str_printf(&text, "%sWe then see that it holds", i ? ". " : "");
    CHECK(answer_unmatchable(text.s) != NULL, "a whole text can be matched");
    text.n = 0;
    for (int i = 0; i < 60; i++) str_printf(&text, "%s%d", i ? "+" : "", i);
    CHECK(answer_unmatchable(text.s) == NULL, "a long sum: %s", answer_unmatchable(text.s));
    str_free(&text);
}

bool test_verdict(const Problem *p, const char *completion) {
    return answer_correct(p, completion, strlen(completion), NULL);
}

void test_answer_correct(void) {
    Problem p;
    memset(&p, 0, sizeof p);
    char gold[16] = "1, -2", other[16] = "\\pm 7", *alt[] = {other};
    p.answer = gold;
    p.alt = alt;
    p.n_alt = 1;
    CHECK(!test_verdict(&p, "\\boxed{2,1}") && test_verdict(&p, "\\boxed{-2,1}") &&
              test_verdict(&p, "\\boxed{1} and \\boxed{-2}") && test_verdict(&p, "\\boxed{\\pm7}") &&
              !test_verdict(&p, "1, -2") && !test_verdict(&p, "\\boxed{}"),
          "one answer");
    p.multiple = true;
    CHECK(test_verdict(&p, "\\boxed{-2.0, 1}") && !test_verdict(&p, "\\boxed{1,1}") &&
              !test_verdict(&p, "\\boxed{1,-2,3}") && !test_verdict(&p, "\\boxed{1}"),
          "a list");
    strcpy(gold, "7, 7");
    CHECK(test_verdict(&p, "\\boxed{7,7.0}") && !test_verdict(&p, "\\boxed{7,8}"), "a list that repeats an element");
    strcpy(gold, "675");
    p.multiple = false;
    p.error = 1;
    CHECK(test_verdict(&p, "\\boxed{674}") && !test_verdict(&p, "\\boxed{673}"), "with a tolerance");

    // a megabyte of anything takes a moment
    // clang-format off
    static const char *const units[] = {
        "{", "}", "\\boxed{", "\\boxed{1}", "\\", "</think>", "\\frac", "1,", "9", " ", "\\text{", "$", "a ",
        "\\boxed{ ", "\\left", "{}", "9^", "9!", "1000!+", "99^{999}+", "\\sqrt{", "\\sin ", "\\frac{1}{1+", "x=1,",
        "\\pm1,", "|", "1:", "<", "\\log_{", "\\binom{9999}{4999}+", "\\begin{pmatrix}", "√", "²", "1 000 ",
        "answer is $", "-", "(1,2)\\cup", "x\\ne1,", "]1,2[\\cup", "9!!", "[1,2],", "twenty ", "é", "5\\text{ m}+",
        "\\overline{", "1.234.", "(A)", "\\{1,1\\}\\cup", "[1,2]\\cap", "\\mathbb{R}\\setminus",
        "\\mathbb{R}\\setminus(", "\\{1,2\\}\\setminus[0,1]\\cup", "The answer is ", "1\n\n", "5^{\\text{th}}",
        "0.(3)+", "或", "1万", "$$\\boxed{3}$$ ", "(about ", "for all ", "x>1,x<2,", "\\cosh^{-1}", "2^3 ",
        "\\lim_{x\\to0}", "P(A|B)=", "1 \\bmod 5 = ", "1=", "\\{1\\}=", "A,", "1,5", "\\boxed a", "x=\\boxed{1},",
        "\\binom{1000000}{3}+",
    };
    // clang-format on
    size_t n = 1 << 20;
    char *text = (char *)xmalloc(n + 1);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        size_t length = strlen(units[u]);
        for (size_t i = 0; i < n; i++) text[i] = units[u][i % length];
        text[n] = 0;
        double start = now_s();
        bool right = answer_correct(&p, text, n, NULL);
        memcpy(text, "\\boxed{1", 8);
        text[n - 1] = '}';
        right = answer_correct(&p, text, n, NULL) || right;
        CHECK(!right && now_s() - start < 10, "1 MB of %s: right %d, %.1f s", units[u], right, now_s() - start);
        for (size_t length = 100; length <= 6400; length *= 8) { // short enough to be read as mathematics
            Str a = {NULL, 0, 0}, b = {NULL, 0, 0};
            str_add(&a, text, length);
            for (size_t i = 0; i < length; i++) a.s[i] = units[u][i % strlen(units[u])];
            str_printf(&b, "%s7", a.s);
            str_printf(&a, "1");
            double cpu = grade_cpu_s();
            bool equal = answer_equal(a.s, b.s);
            cpu = grade_cpu_s() - cpu;
            CHECK((!equal || strstr(units[u], "box")) && cpu < 0.1, "%zu bytes of %s: equal %d, %.3f s", length,
                  units[u], equal, cpu);
            str_free(&a);
            str_free(&b);
        }
    }
    free(text);

    // a product of matrices must not refer to each cell again and again
    Str product = {NULL, 0, 0}, wrong = {NULL, 0, 0};
    for (int i = 0; i < 9; i++) str_printf(&product, "\\begin{pmatrix}1&2&3\\\\4&5&6\\\\7&8&9\\end{pmatrix}");
    str_printf(&wrong, "2%s", product.s);
    double cpu = grade_cpu_s();
    bool same = answer_equal(product.s, wrong.s);
    cpu = grade_cpu_s() - cpu;
    CHECK(!same && cpu < 0.1, "a product of 9 matrices: equal %d, %.3f s", same, cpu);
    str_free(&product);
    str_free(&wrong);

    static const char seed[] = "So \\(x = 674\\), i.e. \\boxed{\\frac{1,348}{2} \\text{ cm}^2}. </think> Hence "
                               "\\boxed{\\dfrac{-6.740}{0.01}\\,\\%}, {\\$}.";
    Str mutated = {NULL, 0, 0};
    uint64_t random = 5;
    int found = 0;
    for (int trial = 0; trial < 20000; trial++) {
        test_mutate(&mutated, seed, sizeof seed - 1, 1 + trial % 4, &random);
        Str s = {NULL, 0, 0};
        answer_correct(&p, mutated.s, mutated.n, &s);
        found += s.n > 0;
        str_free(&s);
    }
    CHECK(found > 1000 && found < 20000, "%d of 20000 mutated completions have an answer", found); // and none crashes
    str_free(&mutated);
}

// Every gold answer must be right when it is given.
void test_answer_data(void) {
    static const char *const files[] = {"gsm8k_train", "gsm8k_test", "math_train",   "math_test_rest", "math500",
                                        "aime24",      "amc23",      "minerva_math", "olympiadbench"};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[128];
        snprintf(path, sizeof path, "../shared/data/%s.jsonl", files[f]);
        if (!path_exists(path)) {
            SKIP("no %s", path);
            continue;
        }
        Error err = {0, ""};
        Dataset d;
        if (!CHECK(dataset_load(&d, path, &err), "%s", err.text)) continue;
        int wrong = 0, steps = 0;
        for (int i = 0; i < d.n; i++) {
            Str s = {NULL, 0, 0};
            str_printf(&s, "So it is $\\boxed{%s}$.", d.items[i].answer);
            wrong += !answer_correct(&d.items[i], s.s, s.n, NULL) || answer_unmatchable(d.items[i].answer);
            steps += problem_steps(&d.items[i]) <= 2;
            str_free(&s);
        }
        CHECK(wrong == 0, "%s: %d of %d gold answers are not accepted", path, wrong, d.n);
        if (f == 0) CHECK(d.n == 7473 && steps == 2674, "%d problems, %d of at most two steps", d.n, steps);
        dataset_free(&d);
    }
}

void test_answer(void) {
    test_answer_extract();
    test_answer_find();
    test_answer_equal();
    test_grade();
    test_unmatchable();
    test_answer_correct();
    test_answer_data();
}

#endif
