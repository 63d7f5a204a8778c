// That one program runs on every CPU: what lies where in it, and what it says of a level that it cannot run. How it
// fares on CPUs that are not here is for `make check-ports` to see.
#ifndef DEV_TEST_TEST_LEVELS_H
#define DEV_TEST_TEST_LEVELS_H

#include "dev/test/backends.h"      // cpu_levels; CHECK, SKIP
#include "dev/test/test_programs.h" // run_command, expect_command

// Instructions that not every CPU has lie in the functions of a level, in every program; and a function that lies
// elsewhere is seen.
void test_levels_strays(void) {
    Str out = {0};
    if (run_command(&out, "command -v objdump") != 0) {
        SKIP("no objdump: that each instruction lies in a level that has it is not tested");
        str_free(&out);
        return;
    }
#if defined __AVX__ || defined __SSE3__ || defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC || defined __ARM_FEATURE_DOTPROD
    SKIP("CFLAGS, or the compiler of itself, allow instructions everywhere that not every CPU has (-march=native?): "
         "where they lie is not tested");
#else
    expect_command(0, "3 passed, 0 failed", "dev/test/strays.sh ./train_steer ./eval_steer ./test_steer");
    int code = run_command(&out, "ls build/stray_*.o");
    int n = 0;
    for (const char *p = out.s; code == 0 && (p = strstr(p, "stray_")); p++, n++) {
        char name[64];
        if (sscanf(p, "%63[^\n]", name) == 1) expect_command(1, "everyone", "dev/test/strays.sh build/%s", name);
    }
    if (n == 0) SKIP("no build/stray_*.o: that a stray is seen is not tested (`make test` makes one for each level)");
#endif
    str_free(&out);
}

// A level that this CPU lacks is refused with the names of those it has.
void test_levels_refused(void) {
    const char *const all[] = {"amx", "avx512_bf16", "avx512", "avx2", "neon_bf16", "neon", "portable"},
                      *levels[CPU_LEVELS];
    const int n = cpu_levels(levels);
    for (int i = 0; i < 7; i++) {
        bool has = false;
        for (int k = 0; k < n; k++) has = has || strcmp(levels[k], all[i]) == 0;
        Error err = {0, ""};
        const Ops *ops = cpu_ops_for(all[i], &err);
        CHECK(has ? ops && strcmp(ops->isa, all[i]) == 0 : !ops && err.code == EXIT_USAGE, "%s: %s", all[i], err.text);
        if (has) continue;
        for (int k = 0; k < n; k++)
            CHECK(strstr(err.text, levels[k]), "%s refused without naming %s: %s", all[i], levels[k], err.text);
    }
}

void test_levels(void) {
    test_levels_refused();
    test_levels_strays();
}

#endif
