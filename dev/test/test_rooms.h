// The rooms of llmc/ (dev/test/rooms.sh): they are as their doors say, and a small house in which each of the rules is
// broken is refused.
#ifndef DEV_TEST_TEST_ROOMS_H
#define DEV_TEST_TEST_ROOMS_H

#include "dev/test/test_programs.h" // run_command, expect_command

void test_rooms(void) {
    expect_command(0, "4 passed, 0 failed", "dev/test/rooms.sh");
    static const struct {
        const char *path, *text;
    } house[] = {
        {"llmc/a/a.h", "From outside: a.h\n#include \"llmc/b/b.h\"\n"},
        {"llmc/a/inner.h", "int f(int x);\n"},
        {"llmc/b/b.h", "From outside: b.h\n#include \"llmc/a/a.h\"\n"},
        {"llmc/c/c.h", "int f(int x) { return x; }\n"},
        {"llmc/model.h", "#include \"llmc/a/inner.h\"\n#include \"utils.h\"\n"},
    };
    char path[256];
    for (size_t i = 0; i < sizeof house / sizeof house[0]; i++) {
        snprintf(path, sizeof path, "%s", test_path(house[i].path));
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
            *slash = 0;
            mkdir(path, 0777);
            *slash = '/';
        }
        test_write(test_path(house[i].path), house[i].text);
    }
    const char *const found[] = {
        "c closed",
        "llmc/model.h:1: llmc/a/inner.h",
        "llmc/model.h:2: \"utils.h\" is not written from the root",
        "llmc/a/a.h",
        "loop:\ntsort: a",
        "llmc/a/inner.h: f, which llmc/c/c.h defines",
        "0 passed, 4 failed",
    };
    snprintf(path, sizeof path, "%s", test_path("."));
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++)
        expect_command(1, found[i], "dev/test/rooms.sh %s", path);
}

#endif
