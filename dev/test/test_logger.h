// metrics.jsonl written, read back and cut for a resumed run; the progress line; the signals.
#ifndef DEV_TEST_TEST_LOGGER_H
#define DEV_TEST_TEST_LOGGER_H

#include <sys/wait.h>      // waitpid: the signal test ends a child
#include "dev/test/test.h" // CHECK, SKIP, test_path, test_write
#include "llmc/logger.h"   // Logger, Progress, install_signal_handlers

void test_logger_lines(void) {
    char path[256];
    snprintf(path, sizeof path, "%s", test_path("metrics.jsonl"));
    Error err = {0, ""};
    Logger log;
    for (int part = 0; part < 2; part++) { // closed and opened again: appends
        if (!CHECK(logger_open(&log, path, &err), "%s", err.text)) return;
        for (int step = part * 3 + 1; step <= part * 3 + 3; step++) {
            logger_number(&log, "step", step);
            logger_number(&log, "reward", step / 3.0);
            if (step == 2) logger_number(&log, "kl", NAN);
            if (step == 2) logger_number(&log, "loss", -INFINITY);
            logger_text(&log, "note", step == 3 ? "a \"b\"\n\\" : step == 4 ? "\xFF" : "c\xC3\xA9");
            CHECK(logger_end(&log, &err), "%s", err.text);
            CHECK(strcmp(log.nonfinite, step == 2 ? "kl" : "") == 0, "step %d: '%s' is not finite", step,
                  log.nonfinite);
        }
        logger_close(&log);
    }
    char *text = read_file(path, NULL, &err), *line = text;
    for (int step = 1; step <= 6 && CHECK(text && *line, "line %d is missing", step);
         step++, line += strcspn(line, "\n") + 1) {
        cJSON *o = cJSON_ParseWithLength(line, strcspn(line, "\n"));
        const cJSON *note = cJSON_GetObjectItemCaseSensitive(o, "note"),
                    *reward = cJSON_GetObjectItemCaseSensitive(o, "reward");
        CHECK(o && o->child && strcmp(o->child->string, "step") == 0 && o->child->valuedouble == step,
              "line %d: order of keys", step);
        CHECK(cJSON_IsNumber(reward) && reward->valuedouble == step / 3.0, "line %d: bits of reward", step);
        if (step == 2)
            CHECK(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, "kl")) &&
                      cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, "loss")),
                  "null");
        if (step == 3) CHECK(cJSON_IsString(note) && strcmp(note->valuestring, "a \"b\"\n\\") == 0, "escapes");
        if (step == 4) CHECK(cJSON_IsNull(note), "what is not UTF-8 is null");
        cJSON_Delete(o);
    }
    free(text);

    // resume at step 4: 5, 6 and a line cut by a crash go
    FILE *f = fopen(path, "ab");
    if (f) {
        fputs("{\"step\": 4, \"cut", f);
        fclose(f);
    }
    CHECK(logger_truncate_after(path, 4, &err), "%s", err.text);
    size_t n = 0;
    text = read_file(path, &n, &err);
    CHECK(text && strstr(text, "\"step\": 4") && !strstr(text, "\"step\": 5") && !strstr(text, "cut") &&
              text[n - 1] == '\n',
          "%zu bytes after truncation", n);
    CHECK(logger_truncate_after(path, 4, &err), "again: %s", err.text);
    char *same = read_file(path, NULL, &err);
    CHECK(text && same && strcmp(text, same) == 0, "truncating twice changes nothing more");
    free(text);
    free(same);
    CHECK(logger_truncate_after(path, 0, &err), "%s", err.text);
    text = read_file(path, &n, &err);
    CHECK(text && n == 0, "nothing is left of a run resumed at 0");
    free(text);
    CHECK(logger_truncate_after(test_path("absent.jsonl"), 4, &err), "no file is fine");
    test_write(path, "{\"step\": 1}\nnot json\n{\"step\": 9}\n");
    CHECK(!logger_truncate_after(path, 4, &err) && err.code == EXIT_RUN && strstr(err.text, ":2:"),
          "a strange line: %s", err.text);
    text = read_file(path, NULL, NULL);
    CHECK(text && strstr(text, "\"step\": 9"), "the file is left as it was");
    free(text);

    // what a step lacks: only where the step is there
    test_write(path, "{\"step\": 1, \"a\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"step\": 3, \"a\": 2}\n{\"step\": 4");
    CHECK(!logger_lacks(path, 1, "a") && logger_lacks(path, 2, "a") && !logger_lacks(path, 3, "a") &&
              !logger_lacks(path, 4, "a") && !logger_lacks(test_path("absent.jsonl"), 1, "a"),
          "what a step lacks");

    memset(&err, 0, sizeof err);
    CHECK(!logger_open(&log, test_path("no/folder.jsonl"), &err) && err.code == EXIT_RUN &&
              strstr(err.text, "no/folder"),
          "%s", err.text);
    memset(&err, 0, sizeof err);
    if (!path_exists("/dev/full")) SKIP("a full disk: no /dev/full here");
    else if (CHECK(logger_open(&log, "/dev/full", &err), "%s", err.text)) {
        logger_number(&log, "step", 1);
        CHECK(!logger_end(&log, &err) && err.code == EXIT_RUN && strstr(err.text, "No space"), "a full disk: %s",
              err.text);
        logger_close(&log);
    }
}

void test_logger_progress(void) {
    Progress p;
    progress_begin(&p, "step", 10, 314);
    Str s = {0};
    progress_text(&s, &p, 10, 5, "");
    CHECK(strcmp(s.s, "step 10/314") == 0, "%s", s.s);
    s.n = 0;
    progress_text(&s, &p, 12, 4, "reward 0.5");
    CHECK(strcmp(s.s, "step 12/314  0.5/s  10m 04s left  reward 0.5") == 0, "%s", s.s);
    s.n = 0;
    progress_text(&s, &p, 14, 400, "");
    CHECK(strcmp(s.s, "step 14/314  100.0 s each  8h 20m left") == 0, "%s", s.s);
    s.n = 0;
    progress_text(&s, &p, 314, 304, "");
    CHECK(strcmp(s.s, "step 314/314  1/s  0s left") == 0, "%s", s.s);
    str_free(&s);
}

// In children: each signal that asks for an end sets the flag; SIGHUP does not where it was ignored (nohup).
void test_logger_each_signal(void) {
    static const int each[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP, SIGHUP};
    for (int i = 0; i < 5; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child < 0) {
            SKIP("signals: fork: %s", strerror(errno));
            return;
        }
        if (child == 0) {
            dup2(open("/dev/null", O_WRONLY), 2);
            signal(SIGHUP, i == 4 ? SIG_IGN : SIG_DFL); // whatever this program was started with
            install_signal_handlers();
            raise(each[i]);
            _exit(stop_requested == (i == 4 ? 0 : each[i]) ? 0 : 1);
        }
        int status = 0;
        const pid_t ended = waitpid(child, &status, 0);
        CHECK(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
              "signal %d%s: the child ended with status %d", each[i], i == 4 ? ", ignored" : "", status);
    }
}

// In a child: one signal sets the flag, a second one of either kind ends it.
void test_logger_signals(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        SKIP("signals: fork: %s", strerror(errno));
        return;
    }
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, 2);
        install_signal_handlers();
        raise(SIGTERM);
        if (stop_requested != SIGTERM) _exit(3);
        raise(SIGINT);
        _exit(4); // must not be reached
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGINT,
          "the child ended with status %d", status);
}

void test_logger(void) {
    test_logger_lines();
    test_logger_progress();
    test_logger_each_signal();
    test_logger_signals();
}

#endif
