/*
Kernel lab: the gradient of a steering vector, ds[C] += sum over t of dh[t,C].

    make build/lab_column_sum
    build/lab_column_sum [T C]        8192 rows of 896

4 bytes and one addition an element: memory is the limit. All versions add the rows of a column in the same order, so
all give the same bits; what differs is the order in which they read memory. The program's (llmc/cpu/rows.h) runs on all
threads, or on OMP_NUM_THREADS.
*/
#include "llmc/cpu/cpu.h" // cpu_ops_for, ops_cpu_init

typedef struct {
    int T, C;
    const float *dh;
    float *ds;
    const Ops *ops;
} Lab;

// 1. The formula: column by column. Every number is read from another cache line than the one before, so each line is
// fetched for one number and, where the rows of a column do not fit into the cache, fetched again for the next.
static void version_1(const Lab *l) {
    for (int c = 0; c < l->C; c++)
        for (int t = 0; t < l->T; t++) l->ds[c] += l->dh[(size_t)t * l->C + c];
}

// 2. Row by row: memory is read from front to back, and neighbouring columns are added by one vector instruction. This
// is the loop of dev/doc/steer_in_one_file.c.
static void version_2(const Lab *l) {
    for (int t = 0; t < l->T; t++)
        for (int c = 0; c < l->C; c++) l->ds[c] += l->dh[(size_t)t * l->C + c];
}

// 3. The program's: 128 columns at a time, whose sums stay in the L1 cache, and threads share the columns.
static void version_3(const Lab *l) { l->ops->column_sum(l->ds, l->dh, l->T, l->C); }

// Runs a version twice, the second time on the clock; then compares its bits with those of `want`.
static bool lab_run(const char *name, void (*version)(const Lab *), Lab *l, const float *want) {
    double seconds = 0;
    for (int run = 0; run < 2; run++) {
        for (int c = 0; c < l->C; c++) l->ds[c] = 1;
        const double start = now_s();
        version(l);
        seconds = now_s() - start;
    }
    const bool same = !want || memcmp(l->ds, want, (size_t)l->C * sizeof(float)) == 0;
    printf("%-28s %8.2f ms %6.1f GB/s   %s\n", name, 1e3 * seconds, 4e-9 * l->T * l->C / seconds,
           !want  ? "the reference"
           : same ? "same bits"
                  : "OTHER BITS");
    return same;
}

int main(int argc, char **argv) {
    const int T = argc > 2 ? atoi(argv[1]) : 8192, C = argc > 2 ? atoi(argv[2]) : 896;
    if (T < 1 || C < 1) {
        fprintf(stderr, "usage: %s [rows columns]\n", argv[0]);
        return 2;
    }
    const size_t n = (size_t)T * C;
    float *dh = (float *)xaligned(n * sizeof(float)), *want = (float *)xmalloc((size_t)C * sizeof(float)),
          *ds = (float *)xmalloc((size_t)C * sizeof(float));
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        dh[i] = (float)(int32_t)state * 0x1p-31f;
    }
    Lab lab = {T, C, dh, want, NULL};
    Error err = {0, ""};
    printf("%d rows of %d columns\n", T, C);
    lab_run("1 column by column", version_1, &lab, NULL);
    lab.ds = ds;
    bool ok = lab_run("2 row by row", version_2, &lab, want);
    lab.ops = cpu_ops_for("portable", &err);
    ok = lab.ops && lab_run("3 the program's, portable", version_3, &lab, want) && ok;
    lab.ops = ops_cpu_init(&err);
    ok = lab.ops && lab_run("3 the program's, this CPU's", version_3, &lab, want) && ok;
    if (!lab.ops) die(&err);
    free(dh);
    free(want);
    free(ds);
    return ok ? 0 : EXIT_RUN;
}
