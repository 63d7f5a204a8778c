/*
How much memory this machine still gives to this program, and who says so: the RAM that is free, every cgroup above the
process (versions 1 and 2), and the shell's ulimit. What device cpu or ref will take is held against each of them before
any of it is allocated; without that a run that is too large begins, and is killed in the middle of it.
*/
#ifndef LLMC_MEMORY_HOST_H
#define LLMC_MEMORY_HOST_H

#include <sys/resource.h> // getrlimit
#if defined __APPLE__
#include <sys/sysctl.h>
#endif
#include "llmc/memory/memory.h" // MemoryPlan, memory_total, memory_text, memory_advice
#include "llmc/utils/threads.h" // omp_get_max_threads

#define HOST_LIMITS 64

// One of those who limit memory.
typedef struct {
    size_t free;   // bytes that may still be taken
    bool shared;   // with the other processes of this machine
    bool mappings; // files that are mapped and stacks of threads count, too
    char who[200];
} HostLimit;

typedef struct {
    HostLimit all[HOST_LIMITS];
    int n;
} HostLimits;

static void host_limit_add(HostLimits *h, double limit, double taken, bool shared, bool mappings, const char *format,
                           const char *name) {
    if (h->n == HOST_LIMITS || !(limit >= 0) || limit > 9e18) return; // as good as none
    HostLimit *l = &h->all[h->n++];
    l->free = limit > taken ? (size_t)(limit - taken) : 0;
    l->shared = shared;
    l->mappings = mappings;
    snprintf(l->who, sizeof l->who, format, name);
}

// A whole small file under root, "" if it cannot be read. Free with free().
static char *host_file(const char *root, const char *path) {
    Str name = {0};
    Error err = {0, ""};
    str_printf(&name, "%s%s", root, path);
    char *text = path_exists(name.s) ? read_file(name.s, NULL, &err) : NULL;
    str_free(&name);
    return text ? text : xstrdup("");
}

// The number after `key` at the beginning of a line; -1: there is none. An empty key: the number that the text begins
// with ("max": none).
static double host_number(const char *text, const char *key) {
    const size_t n = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, key, n) != 0) continue;
        char *end;
        const double x = strtod(line + n, &end);
        return end > line + n ? x : -1;
    }
    return -1;
}

static double host_number_of(const char *root, const char *dir, const char *file, const char *key) {
    Str path = {0};
    str_printf(&path, "%s/%s", dir, file);
    char *text = host_file(root, path.s);
    const double x = host_number(text, key);
    free(text);
    str_free(&path);
    return x;
}

// ----------------------------------------------------------------------------
// cgroups

// The limits of one cgroup's folder. What is taken, but can be given back at once (pages of files that nobody used
// lately), is free.
static void host_cgroup_add(HostLimits *h, const char *root, const char *dir, bool v2) {
    const char *const limits[2][2] = {{"memory.limit_in_bytes", NULL}, {"memory.max", "memory.high"}};
    double taken = host_number_of(root, dir, v2 ? "memory.current" : "memory.usage_in_bytes", "");
    const double files = host_number_of(root, dir, "memory.stat", v2 ? "inactive_file " : "total_inactive_file ");
    if (taken < 0) taken = 0;
    if (files > 0) taken = taken > files ? taken - files : 0;
    for (int i = 0; i < 2 && limits[v2][i]; i++) {
        Str name = {0};
        str_printf(&name, "%s/%s", dir, limits[v2][i]);
        const double limit = host_number_of(root, dir, limits[v2][i], "");
        if (limit < 9e18 / 2)
            host_limit_add(h, limit, taken, true, false, "the cgroup's limit, %s",
                           name.s); // version 1 says 2^63 for none
        str_free(&name);
    }
}

// Where a hierarchy is mounted: the fields of a line of mountinfo. The memory controller's, of version 1, or version
// 2's.
static bool host_cgroup_mount(const char *mountinfo, bool v2, char *from, char *at, size_t n) {
    for (const char *line = mountinfo; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char fields[2][512], type[32], options[512];
        const char *dash = strstr(line, " - "), *end = strchr(line, '\n');
        if (!dash || (end && dash > end)) continue;
        if (sscanf(line, "%*s %*s %*s %511s %511s", fields[0], fields[1]) != 2 ||
            sscanf(dash, " - %31s %*s %511s", type, options) != 2)
            continue;
        if (strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 || (!v2 && !strstr(options, "memory"))) continue;
        snprintf(from, n, "%s", fields[0]);
        snprintf(at, n, "%s", fields[1]);
        return true;
    }
    return false;
}

// Every cgroup from the process's own to the one at the mount. In a container the path may be the host's, of which only
// the end is there, or nothing: then the mount itself is the container's.
static void host_cgroups(HostLimits *h, const char *root) {
    char *groups = host_file(root, "/proc/self/cgroup"), *mounts = host_file(root, "/proc/self/mountinfo");
    for (char *rest = groups, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL, from[512],
             at[512];
        if (!path) continue;
        *path++ = 0;
        const bool v2 = strcmp(controllers, ":") == 0;
        if (!v2 && !strstr(controllers, "memory")) continue;
        if (!host_cgroup_mount(mounts, v2, from, at, sizeof from)) continue;
        const size_t prefix = strlen(from);
        if (prefix > 1 && strncmp(path, from, prefix) == 0) path += prefix;
        Str dir = {0};
        str_printf(&dir, "%s%s", at, strcmp(path, "/") == 0 ? "" : path);
        for (const size_t top = strlen(at);;) {
            host_cgroup_add(h, root, dir.s, v2);
            char *slash = strrchr(dir.s, '/');
            if (!slash || dir.n <= top || (size_t)(slash - dir.s) < top) break;
            *slash = 0;
            dir.n = (size_t)(slash - dir.s);
        }
        str_free(&dir);
    }
    free(groups);
    free(mounts);
}

// ----------------------------------------------------------------------------
// all of them

// *h = what limits this process now. root: where /proc and the cgroups' mounts are looked for; "" but in tests.
void host_limits(HostLimits *h, const char *root) {
    h->n = 0;
    char *meminfo = host_file(root, "/proc/meminfo"), *status = host_file(root, "/proc/self/status");
    host_limit_add(h, 1024 * host_number(meminfo, "MemAvailable:"), 0, true, false, "this machine's RAM%s",
                   " (MemAvailable)");
    char *overcommit = host_file(root, "/proc/sys/vm/overcommit_memory");
    if (host_number(overcommit, "") == 2)
        host_limit_add(h, 1024 * host_number(meminfo, "CommitLimit:"), 1024 * host_number(meminfo, "Committed_AS:"),
                       true, false, "%s", "CommitLimit, for overcommit_memory is 2");
    free(overcommit);
#if defined __APPLE__
    uint64_t bytes = 0;
    size_t n = sizeof bytes;
    if (sysctlbyname("hw.memsize", &bytes, &n, NULL, 0) == 0)
        host_limit_add(h, (double)bytes, 0, true, false, "this machine's RAM%s", " (hw.memsize)");
#endif
    host_cgroups(h, root);
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        host_limit_add(h, (double)limit.rlim_cur, 1024 * host_number(status, "VmSize:"), false, true,
                       "the address space%s", " that `ulimit -v` allows");
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        host_limit_add(h, (double)limit.rlim_cur, 1024 * host_number(status, "VmData:"), false, false, "the data%s",
                       " that `ulimit -d` allows");
    free(meminfo);
    free(status);
}

// Whether what p plans, of which nothing is taken yet, goes into all limits. processes: of this machine, that will each
// take as much; mapped: bytes of files that will be mapped. False with who has less, what is wanted, and what lowers
// it.
bool host_memory_fits(const HostLimits *h, const MemoryPlan *p, const char *device, int processes, size_t mapped,
                      Error *err) {
    const size_t stacks = (size_t)omp_get_max_threads() << 23;
    const HostLimit *worst = NULL;
    double missing = 0;
    for (int i = 0; i < h->n; i++) {
        const HostLimit *l = &h->all[i];
        double want = (double)memory_total(p) * (l->shared ? processes : 1);
        if (!l->shared) want += (double)p->room; // ulimit counts address space, touched or not
        if (l->mappings) want += (double)(mapped + stacks);
        if (want - (double)l->free <= missing) continue;
        missing = want - (double)l->free;
        worst = l;
    }
    if (!worst) return true;
    Str text = {0};
    char many[80] = "";
    if (processes > 1 && worst->shared)
        snprintf(many, sizeof many, " in each of the %d processes on this machine", processes);
    str_printf(&text, "device %s: the run wants %s of memory%s (weights %s); %s", device,
               memory_text(memory_total(p)).text, many, memory_text(p->part[MEMORY_WEIGHTS]).text,
               worst->mappings             ? "with the model's mapped files and the threads' stacks that is more than "
               : !worst->shared && p->room ? "rounded up to whole huge pages that is more than "
                                           : "");
    str_printf(&text, "%s free of %s\n  -> ", memory_text(worst->free).text, worst->who);
    memory_advice(&text, p, worst->free / (size_t)(worst->shared ? processes : 1));
    if (processes > 1 && worst->shared) str_printf(&text, "; or start fewer processes on a machine");
    fail(err, EXIT_RUN, "%s", text.s);
    str_free(&text);
    return false;
}

#endif
