// dev/doc/steer_in_one_file.c as an object of the tests (one_file.h): the same source, but for the name of its `main`.
#define main one_file_main
int one_file_main(int argc, char **argv);
#include "dev/doc/steer_in_one_file.c"
#undef main
#include "dev/test/one_file.h"

_Static_assert((int)ONE_FILE_G == G && (int)ONE_FILE_MAX_NEW == MAX_NEW && (int)ONE_FILE_VECTORS == L * C,
               "one_file.h has other sizes than steer_in_one_file.c");

void one_file_run(OneFile *out) {
    int tokens = 0;
    memset(out, 0, sizeof *out);
    tokenizer_init();
    model_load();
    check_group(problems_load(train_set, "data/tiny/train.jsonl"));
    forward(0, group.T); // all rows at once, where sampling has run them one by one
    head_forward(group.P - 1, group.T - group.P + 1);
    for (int i = 0; i < G; i++) {
        for (int t = 0; t < group.n[i]; t++) {
            out->gap = fmaxf(
                out->gap, fabsf(logprob[group.rows[i][group.P + t - 1]][group.token[i][t]] - group.old_logprob[i][t]));
            group.old_logprob[i][t] += 0.08f * (float)((5 * i + 7 * t) % 11 - 5);
        }
        tokens += group.n[i];
    }
    out->loss = group_loss(&group) / tokens;
    group_backward(&group);
    snprintf(out->problem, sizeof out->problem, "%s", group.problem->text);
    snprintf(out->answer, sizeof out->answer, "%s", group.problem->answer);
    memcpy(out->token_of, token_of, sizeof out->token_of);
    memcpy(out->n, group.n, sizeof out->n);
    memcpy(out->ids, group.token, sizeof out->ids);
    memcpy(out->reward, group.reward, sizeof out->reward);
    memcpy(out->advantage, group.advantage, sizeof out->advantage);
    memcpy(out->old_logprob, group.old_logprob, sizeof out->old_logprob);
    for (int i = 0; i < G; i++)
        for (int t = 0; t < group.n[i]; t++)
            out->logprob[i][t] = logprob[group.rows[i][group.P + t - 1]][group.token[i][t]];
    memcpy(out->vectors, s, sizeof s);
    adamw_update(1, tokens);
    memcpy(out->gradient, ds, sizeof ds);
    memcpy(out->moved, s, sizeof s);
}
