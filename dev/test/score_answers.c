/*
How well the verifier does on files of labelled cases: a table by kind, every miss on a line, and the time a case takes.
The same as `eval_steer grade`, but small enough to compile in a second after every change to llmc/answer*.h.

    gcc -O2 -std=gnu11 -I. dev/test/score_answers.c -o build/score_answers -lcjson -lgmp -lm
    build/score_answers dev/test/answers.jsonl
*/
#include "llmc/eval/eval.h"

int main(int argc, char **argv) {
    for (int a = 1; a < argc; a++) {
        Error err = {0, ""};
        Grades g;
        memset(&g, 0, sizeof g);
        if (!grade_file(&g, argv[a], false, true, &err)) die(&err);
        printf("%s\n", argv[a]);
        grade_print_table(&g);
        printf("\n");
    }
    return 0;
}
