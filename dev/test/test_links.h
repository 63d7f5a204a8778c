// The pages (dev/test/links.sh): every link leads somewhere, and a small book in which each kind of link is broken is
// refused, and mended where that can be done.
#ifndef DEV_TEST_TEST_LINKS_H
#define DEV_TEST_TEST_LINKS_H

#include "dev/test/test_programs.h" // run_command, expect_command

void test_links(void) {
    expect_command(0, " 0 failed", "dev/test/links.sh");
    mkdir(test_path("dev"), 0777);
    mkdir(test_path("dev/doc"), 0777);
    test_write(test_path("one.c"), "int first;\n\n// second(x) is declared, then defined\nint second(int x);\n"
                                   "int second(int x) {\n    return second(x);\n}\n");
    test_write(test_path("two.c"), "#define MOVED 1\n");
    test_write(
        test_path("README.md"),
        "# A book\n[second](one.c#L3) and [`second`](one.c#L5), [MOVED](one.c#L1)\n[page](dev/doc/page.md#a-heading)\n"
        "```\n[not](a-link)\n```\n");
    test_write(
        test_path("dev/doc/page.md"),
        "# Page\n## A heading\n[back](../../README.md#nosuch) [gone](gone.md) [third](../../two.c#L1)\n"
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
        "12345678901\n");
    char path[256];
    snprintf(path, sizeof path, "%s", test_path("."));
    const char *const found[] = {
        "README.md:2: second is in line 5 of one.c, not in L3",
        "README.md:2: one.c does not define MOVED",
        "dev/doc/page.md:3: README.md has no heading #nosuch",
        "dev/doc/page.md:3: gone.md is not there",
        "dev/doc/page.md:3: two.c does not define third",
        "dev/doc/page.md: more than 120 columns in lines 4",
        "3 passed, 6 failed",
    };
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++)
        expect_command(1, found[i], "dev/test/links.sh %s", path);
    expect_command(1, "5 passed, 4 failed", "dev/test/links.sh --fix %s", path);
    expect_command(0, "[second](one.c#L5) and [`second`](one.c#L5), [MOVED](two.c#L1)", "cat %s/README.md", path);
}

#endif
