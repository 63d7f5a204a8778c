/*
Scores the verifier on files of labelled cases and prints a table by kind, every miss, and the time a case takes.

    gcc -O2 -I. -x c dev/test/score_answers.c -o build/score_answers -lcjson -lgmp -lm
    build/score_answers [--misses] FILE.jsonl...

A line with "completion" asks what answer_extract.h finds in it ("answer", null for nothing; "mode": where to look). A line with "gold",
"pred" and "equal" asks for a verdict; gold_form and pred_form say "bare" (the answer itself) or "text" (to be found first); a
"rule" that is "human" is counted apart; lines with "contested" are left out.
*/
#include "llmc/answer.h"

typedef struct { char name[32]; int n, right, false_accepts, false_rejects; } Row;
typedef struct { Row rows[128]; int n; } Table;

Row *table_row(Table *t, const char *name) {
    for (int i = 0; i < t->n; i++) if (strcmp(t->rows[i].name, name) == 0) return &t->rows[i];
    if (t->n == 128) return &t->rows[127];
    Row *r = &t->rows[t->n++];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

const char *field(const cJSON *o, const char *key, const char *otherwise) {
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(x) ? x->valuestring : otherwise;
}

// The convention of extraction rows: spaces, $ and a final period do not count.
void trim(Str *s) {
    size_t from = 0;
    while (from < s->n && (answer_is_space(s->s[from]) || s->s[from] == '$')) from++;
    while (s->n > from && (answer_is_space(s->s[s->n - 1]) || s->s[s->n - 1] == '$' || s->s[s->n - 1] == '.')) s->n--;
    memmove(s->s, s->s + from, s->n - from);
    s->n -= from;
    s->s[s->n] = 0;
}

bool extract(Str *found, const char *mode, const char *text) {
    size_t n = strlen(text);
    if (strcmp(mode, "boxed") == 0 || strcmp(mode, "none") == 0) return answer_extract(found, text, n);
    if (strcmp(mode, "any") == 0) return answer_find(found, text, n);
    if (!answer_part(&text, &n)) return false;
    if (strcmp(mode, "hash") == 0) return answer_after_hashes(found, text, n);
    if (strcmp(mode, "choice") == 0) return answer_choice(found, text, n);
    if (strncmp(mode, "answer", 6) == 0) return answer_stated(found, text, n);
    return answer_last_number(found, text, n);
}

int main(int argc, char **argv) {
    bool misses = argc > 1 && strcmp(argv[1], "--misses") == 0;
    for (int a = 1 + misses; a < argc; a++) {
        Error err = {0, ""};
        size_t n;
        char *text = read_file(argv[a], &n, &err);
        if (!text) die(&err);
        Table kinds = {.n = 0};
        Row *all = table_row(&kinds, "all"), *human = table_row(&kinds, "human");
        double total = 0, worst = 0;
        Str slowest = {0};
        char *rest = text;
        for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
            cJSON *o = *line ? json_parse(line, strlen(line), argv[a], &err) : NULL;
            if (!o || json_has(o, "contested")) { cJSON_Delete(o); continue; }
            const char *completion = field(o, "completion", NULL);
            Str gold = {0}, pred = {0};
            bool expected, verdict;
            double start;
            if (completion) {
                const char *answer = field(o, "answer", NULL);
                start = now_s();
                bool found = extract(&pred, field(o, "mode", "boxed"), completion);
                total += now_s() - start;
                str_add(&gold, answer ? answer : "", answer ? strlen(answer) : 0);
                str_add(&pred, "", 0);
                trim(&gold);
                trim(&pred);
                expected = true;
                verdict = found == (answer != NULL) && (!found || strcmp(gold.s, pred.s) == 0);
            } else {
                const char *g = field(o, "gold", ""), *p = field(o, "pred", "");
                expected = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "equal"));
                start = now_s();
                if (strcmp(field(o, "gold_form", "bare"), "text") == 0) answer_find(&gold, g, strlen(g));
                else str_add(&gold, g, strlen(g));
                if (strcmp(field(o, "pred_form", "bare"), "text") == 0) answer_find(&pred, p, strlen(p));
                else str_add(&pred, p, strlen(p));
                str_add(&gold, "", 0);
                str_add(&pred, "", 0);
                verdict = answer_equal(gold.s, pred.s);
                double took = now_s() - start;
                total += took;
                if (took > worst) { worst = took; slowest.n = 0; str_printf(&slowest, "%.100s ||| %.100s", gold.s, pred.s); }
            }
            const char *mode = field(o, "mode", NULL), *rule = field(o, "rule", "");
            Row *rows[3] = {all, table_row(&kinds, mode ? mode : field(o, "kind", "?")), strcmp(rule, "human") == 0 ? human : NULL};
            for (int i = 0; i < 3; i++) {
                if (!rows[i]) continue;
                rows[i]->n++;
                rows[i]->right += verdict == expected;
                rows[i]->false_accepts += verdict && !expected;
                rows[i]->false_rejects += !verdict && expected;
            }
            if (misses && verdict != expected) printf("%s %s/%s: %s ||| %s\n", verdict ? "ACCEPTED" : "REJECTED", mode ? mode : field(o, "kind", "?"), rule, gold.s, pred.s);
            str_free(&gold);
            str_free(&pred);
            cJSON_Delete(o);
        }
        printf("%s\n%-18s %6s %8s %8s %8s\n", argv[a], "kind", "cases", "right", "accepted", "rejected");
        for (int i = 0; i < kinds.n; i++) {
            Row *r = &kinds.rows[i];
            if (r->n) printf("%-18s %6d %7.2f%% %8d %8d\n", r->name, r->n, 100.0 * r->right / r->n, r->false_accepts, r->false_rejects);
        }
        printf("mean %.1f us, worst %.1f us: %s\n\n", 1e6 * total / (all->n ? all->n : 1), 1e6 * worst, slowest.n ? slowest.s : "");
        str_free(&slowest);
        free(text);
    }
    return 0;
}
