/*
eval_steer grade: verdicts on lines of JSON, and a table of how they agree with the labels where there are some. A line
is one of

    {"gold": "1/2", "pred": "0.5"}                      is pred right? "gold_form"/"pred_form": "text" if the answer
                                                        must first be found in it
    {"gold": "1/2", "completion": "... \\boxed{0.5}"}   is the boxed answer right?
    {"completion": "...", "answer": "1/2", "correct": true}   as eval writes them: graded again
    {"completion": "...", "answer": "0.5", "mode": "boxed"}   is this what is found in it? (null: nothing) mode: boxed,
                                                              hash, answer_is,
                                                        last_number, choice, any
    {"problem": "...", "answer": "1/2", "source": "x"}  a problem's gold answer: can a boxed answer ever be right? Is it
                                                        read as mathematics, or compared as text? A row of the table for
                                                        each source

and may carry "equal" (the label; lines without one are counted apart), "kind" (its row in the table), "contested" (left
out of the table). Kinds with rule "human" are counted again in a row of that name.
*/
#ifndef LLMC_EVAL_GRADE_H
#define LLMC_EVAL_GRADE_H

#include "llmc/answer/answer.h" // answer_equal, answer_find
#include "llmc/files/files.h"   // json_parse

#define GRADE_MAX_ROWS 100

// right: of the labelled; correct: of the others; accepted: though labelled unequal; formulas: golds read as
// mathematics
typedef struct {
    char name[24];
    long n, labelled, right, correct, accepted, rejected, golds, formulas;
} GradeRow;

typedef struct {
    GradeRow rows[GRADE_MAX_ROWS]; // the first is all
    int n;
    double seconds, worst;
} Grades;

// One verdict.
typedef struct {
    bool verdict, labelled, label, is_gold, formula;
    Str gold, pred;
} Grade; // formula: the gold answer is read as mathematics

// Seconds of processor time, which other programs on the machine do not lengthen.
double grade_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

GradeRow *grade_row(Grades *g, const char *name) {
    for (int i = 0; i < g->n; i++)
        if (strncmp(g->rows[i].name, name, sizeof g->rows[i].name - 1) == 0) return &g->rows[i];
    if (g->n == GRADE_MAX_ROWS) return &g->rows[GRADE_MAX_ROWS - 1];
    GradeRow *r = &g->rows[g->n++];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

const char *grade_text(const cJSON *o, const char *key, const char *otherwise) {
    const cJSON *x = json_find(o, key);
    return cJSON_IsString(x) ? x->valuestring : otherwise;
}

// Spaces, $ and a final period do not count in what was found.
void grade_trim(Str *s) {
    size_t from = 0;
    str_add(s, "", 0);
    while (from < s->n && (answer_is_space(s->s[from]) || s->s[from] == '$')) from++;
    while (s->n > from && (answer_is_space(s->s[s->n - 1]) || s->s[s->n - 1] == '$' || s->s[s->n - 1] == '.')) s->n--;
    memmove(s->s, s->s + from, s->n - from);
    s->n -= from;
    s->s[s->n] = 0;
}

bool grade_find(Str *found, const char *mode, const char *text) {
    size_t n = strlen(text);
    if (strcmp(mode, "boxed") == 0 || strcmp(mode, "none") == 0) return answer_extract(found, text, n);
    if (strcmp(mode, "any") == 0) return answer_find(found, text, n);
    if (!answer_part(&text, &n)) return false;
    if (strcmp(mode, "hash") == 0) return answer_after_hashes(found, text, n);
    if (strcmp(mode, "choice") == 0) return answer_choice(found, text, n);
    bool formula;
    if (strncmp(mode, "answer", 6) == 0) return answer_stated(found, text, n, &formula);
    return answer_last_number(found, text, n);
}

// Appends the answer itself, which form says how to find.
void grade_answer(Str *out, const char *text, const char *form) {
    if (strcmp(form, "text") == 0) answer_find(out, text, strlen(text));
    else str_add(out, text, strlen(text));
    str_add(out, "", 0);
}

// Grades one line into *g, whose strings are appended to.
bool grade_line(Grade *g, const cJSON *o, const char *what, Error *err) {
    const char *completion = grade_text(o, "completion", NULL), *pred = grade_text(o, "pred", NULL),
               *gold = grade_text(o, "gold", NULL);
    const cJSON *equal = json_find(o, "equal");
    g->labelled = cJSON_IsBool(equal);
    g->label = cJSON_IsTrue(equal);
    const cJSON *correct = json_find(o, "correct");
    if (completion && cJSON_IsBool(correct)) {
        gold = grade_text(o, "answer", NULL);
        g->labelled = true;
        g->label = cJSON_IsTrue(correct);
    } else if (completion && !pred && cJSON_HasObjectItem(o, "answer")) {
        const char *answer = grade_text(o, "answer", NULL);
        bool found = grade_find(&g->pred, grade_text(o, "mode", "boxed"), completion);
        str_add(&g->gold, answer ? answer : "", answer ? strlen(answer) : 0);
        grade_trim(&g->gold);
        grade_trim(&g->pred);
        g->labelled = g->label = true;
        g->verdict = found == (answer != NULL) && (!found || strcmp(g->gold.s, g->pred.s) == 0);
        return true;
    }
    const char *answer = grade_text(o, "answer", NULL);
    if (answer && !gold && !pred && !completion && json_has(o, "problem")) { // a gold answer alone
        str_printf(&g->pred, "\\boxed{%s}", answer);
        str_add(&g->gold, answer, strlen(answer));
        g->is_gold = g->labelled = g->label = true;
        g->formula = answer_is_read(answer);
        g->verdict = answer_unmatchable(answer) == NULL;
        return true;
    }
    if (!gold || !(pred || completion))
        return fail(err, EXIT_RUN, "%s: expected the strings \"gold\" and \"pred\" or \"completion\"", what);
    grade_answer(&g->gold, gold, grade_text(o, "gold_form", "bare"));
    if (pred) grade_answer(&g->pred, pred, grade_text(o, "pred_form", "bare"));
    else answer_extract(&g->pred, completion, strlen(completion));
    str_add(&g->pred, "", 0);
    g->verdict = answer_equal(g->gold.s, g->pred.s);
    return true;
}

void grade_count(Grades *g, const Grade *x, const cJSON *o) {
    const char *mode = grade_text(o, "mode", NULL),
               *kind = mode ? mode : grade_text(o, x->is_gold ? "source" : "kind", NULL);
    GradeRow *rows[3] = {grade_row(g, "all"), kind ? grade_row(g, kind) : NULL,
                         strcmp(grade_text(o, "rule", ""), "human") == 0 ? grade_row(g, "human") : NULL};
    for (int i = 0; i < 3; i++) {
        GradeRow *r = rows[i];
        if (!r) continue;
        r->n++;
        r->golds += x->is_gold;
        r->formulas += x->is_gold && x->formula;
        r->labelled += x->labelled;
        r->right += x->labelled && x->verdict == x->label;
        r->correct += !x->labelled && x->verdict;
        r->accepted += x->labelled && x->verdict && !x->label;
        r->rejected += x->labelled && !x->verdict && x->label;
    }
}

void grade_print_line(const Grade *x) {
    Str line = {NULL, 0, 0};
    str_printf(&line, "{\"correct\": %s, \"gold\": ", x->verdict ? "true" : "false");
    json_add_string(&line, x->gold.s, x->gold.n);
    str_printf(&line, ", \"pred\": ");
    json_add_string(&line, x->pred.s, x->pred.n);
    printf("%s}\n", line.s);
    str_free(&line);
}

void grade_print_table(const Grades *g) {
    printf("%-24s %8s %9s %9s %9s\n", "kind", "lines", "right", "accepted", "rejected");
    for (int i = 0; i < g->n; i++) {
        const GradeRow *r = &g->rows[i];
        if (r->labelled)
            printf("%-24s %8ld %7.2f %% %9ld %9ld\n", r->name, r->labelled,
                   100.0 * (double)r->right / (double)r->labelled, r->accepted, r->rejected);
    }
    if (g->n && g->rows[0].labelled)
        printf("right: the verdict is the label; accepted, rejected: the verdicts that are not\n");
    for (int i = 0; i < g->n; i++) {
        const GradeRow *r = &g->rows[i];
        if (r->n > r->labelled)
            printf("%-24s %8ld lines without a label: %ld correct (%.2f %%)\n", r->name, r->n - r->labelled, r->correct,
                   100.0 * (double)r->correct / (double)(r->n - r->labelled));
    }
    for (int i = 0; i < g->n; i++) {
        const GradeRow *r = &g->rows[i];
        if (r->golds)
            printf("%-24s %8ld gold answers: %ld read as mathematics, %ld compared as text\n", r->name, r->golds,
                   r->formulas, r->golds - r->formulas);
    }
    if (g->n)
        printf("%.1f us of processor time a line, %.1f us the longest\n", 1e6 * g->seconds / (double)g->rows[0].n,
               1e6 * g->worst);
}

// Grades every line of `path` ("-": standard input). json: a line for each instead of the table; misses: a line for
// each that disagrees.
bool grade_file(Grades *g, const char *path, bool json, bool misses, Error *err) {
    char *text = read_file(path, NULL, err);
    if (!text) return false;
    bool ok = true;
    int number = 0;
    char *rest = text;
    for (char *line; ok && (line = strsep(&rest, "\n")) != NULL;) {
        number++;
        if (line[strspn(line, " \t\r")] == 0) continue;
        char what[512];
        snprintf(what, sizeof what, "%.480s:%d", strcmp(path, "-") == 0 ? "stdin" : path, number);
        cJSON *o = json_parse(line, strlen(line), what, err);
        Grade x;
        memset(&x, 0, sizeof x);
        double start = grade_cpu_s();
        ok = o && grade_line(&x, o, what, err);
        double took = grade_cpu_s() - start;
        if (ok && json) grade_print_line(&x);
        if (ok && !json_has(o, "contested")) {
            grade_count(g, &x, o);
            g->seconds += took;
            if (took > g->worst) g->worst = took;
            if (misses && x.labelled && x.verdict != x.label)
                printf("%s %s/%s: %s ||| %s\n", x.verdict ? "ACCEPTED" : "REJECTED",
                       grade_text(o, "kind", grade_text(o, "mode", "")), grade_text(o, "rule", ""), x.gold.s, x.pred.s);
        }
        str_free(&x.gold);
        str_free(&x.pred);
        cJSON_Delete(o);
    }
    free(text);
    return ok;
}

// The command: lines from standard input, a table or, as JSON, a line for each.
bool grade_stdin(bool json, Error *err) {
    Grades g;
    memset(&g, 0, sizeof g);
    if (!grade_file(&g, "-", json, !json, err)) return false;
    if (!json) grade_print_table(&g);
    return true;
}

#endif
