// The test programs' three tools: CHECK counts and reports, SKIP says why a check could not run, test_tmpdir is
// a scratch folder removed by test_summary. A check that could not run is never counted as passed.
#ifndef DEV_TEST_TEST_H
#define DEV_TEST_TEST_H

#include "llmc/utils/utils.h"

int tests_passed, tests_failed;

#define CHECK(condition, ...) test_check((condition) ? true : false, #condition, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6))) bool test_check(bool ok, const char *condition, const char *file, int line,
                                                      const char *format, ...) {
    if (ok) {
        tests_passed++;
        return true;
    }
    tests_failed++;
    printf("FAILED %s:%d: %s: ", file, line, condition);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    return false;
}

// Whether each kind of test is wanted, but few of its cases: TEST_FEW=1, for a CPU that is emulated (ports.sh).
static inline bool test_few(void) { return getenv("TEST_FEW") != NULL; }

#define SKIP(...) (printf("skipped: "), printf(__VA_ARGS__), printf("\n"))

// A scratch folder, made on first use.
const char *test_tmpdir(void) {
    static char dir[64];
    if (!dir[0]) {
        strcpy(dir, "/tmp/test_steer.XXXXXX");
        if (!mkdtemp(dir)) {
            perror(dir);
            exit(1);
        }
    }
    return dir;
}

// A path inside it, valid until the 8th call from now.
const char *test_path(const char *name) {
    static char path[8][256];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_tmpdir(), name);
    return path[turn];
}

void test_write(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, strlen(text), f) != strlen(text) || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

void test_remove_tmpdir(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", test_tmpdir());
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", test_tmpdir());
}

// Prints the closing line; returns the exit code.
int test_summary(void) {
    test_remove_tmpdir();
    printf("%d passed, %d failed\n", tests_passed, tests_failed);
    return tests_failed ? 1 : 0;
}

#endif
