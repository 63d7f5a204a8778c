/*
Settings, source lines and reports.
*/
#include <execinfo.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <elf.h>

extern "C" const char __executable_start[], end[]; // by the linker: the program's code and static data
extern char **environ;

namespace cuda_on_cpu {

// ----------------------------------------------------------------------------
// Settings

[[noreturn]] static void wrong_setting(const char *name, const char *value, const char *expected) {
    fprintf(stderr, "cuda_on_cpu: %s=%s: expected %s\n  -> set it so, or unset it\n", name, value, expected);
    exit(2);
}
static double number_setting(const char *name, double least, double most, double otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *rest, expected[80];
    double x = strtod(text, &rest);
    if (*rest || !(x >= least && x <= most)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", least, most);
        wrong_setting(name, text, expected);
    }
    return x;
}
static bool set_order(const char *text) {
    if (strcmp(text, "forward") == 0) return settings.order = FORWARD, true;
    if (strcmp(text, "reverse") == 0) return settings.order = REVERSE, true;
    if (strncmp(text, "random:", 7) != 0 || !text[7]) return false;
    char *rest;
    uint64_t seed = strtoull(text + 7, &rest, 10);
    if (*rest) return false;
    settings.order = RANDOM;
    settings.seed = seed;
    return true;
}
static void read_settings() {
    const char *order = getenv("CUDA_ON_CPU_SCHEDULE");
    if (order && *order && !set_order(order))
        wrong_setting("CUDA_ON_CPU_SCHEDULE", order, "forward, reverse or random:SEED");
    settings.lazy = number_setting("CUDA_ON_CPU_LAZY", 0, 1, 0) != 0;
    settings.keys = number_setting("CUDA_ON_CPU_KEYS", 0, 1, 1) != 0;
    settings.watchdog = number_setting("CUDA_ON_CPU_WATCHDOG", 0.01, 1e6, 60);
    settings.device_memory = size_t(number_setting("CUDA_ON_CPU_MEMORY", 1, 131072, 8192)) << 20;
    settings.arch = int(number_setting("CUDA_ON_CPU_ARCH", 80, 120, 80));
    const char *products = getenv("CUDA_ON_CPU_CUBLASLT");
    settings.other_cublaslt = products && strcmp(products, "other") == 0;
    if (products && *products && !settings.other_cublaslt && strcmp(products, "usual") != 0)
        wrong_setting("CUDA_ON_CPU_CUBLASLT", products, "usual or other");
    settings.devices = int(number_setting("CUDA_ON_CPU_DEVICES", 1, MOST_DEVICES, 1));
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    for (int i = 0; !list && i < settings.devices; i++) visible_devices[visible++] = i;
    for (char *rest; list && *list && visible < settings.devices;
         list = *rest == ',' ? rest + 1 : "") { // up to the first that is not there, as in CUDA
        const long device = strtol(list, &rest, 10);
        if (rest == list || device < 0 || device >= settings.devices) break;
        visible_devices[visible++] = int(device);
    }
    settings.max_reports = int(number_setting("CUDA_ON_CPU_REPORTS", 1, 1e6, 20));
}

// ----------------------------------------------------------------------------
// Source lines

static char program[4096]; // this program's file
static const char *here = __FILE__;

// Runs addr2line and reads what it prints. No malloc: also called from signal handlers. Length, 0 on failure.
static size_t addr2line(uintptr_t pc, char *out, size_t size) {
    char address[32];
    bool movable = reinterpret_cast<const Elf64_Ehdr *>(__executable_start)->e_type == ET_DYN;
    snprintf(address, sizeof address, "0x%zx",
             size_t(pc - 1 - (movable ? reinterpret_cast<uintptr_t>(__executable_start) : 0)));
    const char *argv[] = {"addr2line", "-Cfie", program, address, nullptr};
    int ends[2];
    if (pipe(ends) != 0) return 0;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t child;
    bool started = posix_spawnp(&child, argv[0], &actions, nullptr, const_cast<char **>(argv), environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    size_t n = 0;
    while (started && n < size - 1) {
        ssize_t got = read(ends[0], out + n, size - 1 - n);
        if (got <= 0) break;
        n += size_t(got);
    }
    ::close(ends[0]);
    if (started) waitpid(child, nullptr, 0);
    out[n] = 0;
    return n;
}

// Writes "file.cu:12 (function)" of the innermost function around pc that is neither ours nor the toolkit's. False:
// only ours.
static bool write_source_line(uintptr_t pc, char *line, size_t size) {
    static char text[65536], folder[4096];
    snprintf(line, size, "address 0x%zx", size_t(pc));
    if (!addr2line(pc, text, sizeof text)) return true; // no addr2line here: the address has to do
    if (!getcwd(folder, sizeof folder)) folder[0] = 0;
    size_t ours = size_t(strrchr(here, '/') ? strrchr(here, '/') - here : 0);
    bool outside = false;
    for (char *function = strtok(text, "\n"), *file; function && (file = strtok(nullptr, "\n"));
         function = strtok(nullptr, "\n")) {
        if (char *more = strstr(file, " (discriminator")) *more = 0;
        if (strncmp(file, "??", 2) == 0) continue;
        const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
        const char *parent = slash ? slash - std::min(ours, size_t(slash - file)) : file;
        outside = !(ours && slash && strncmp(parent, here, ours) == 0) && !strstr(file, "/shadow/") &&
                  !strstr(file, "/include/") && *base;
        char *arguments = strchr(function, '(');
        if (arguments && arguments > function) *arguments = 0;
        size_t in = strlen(folder);
        bool below = in && strncmp(file, folder, in) == 0 && file[in] == '/';
        snprintf(line, size, "%s (%s)", below ? file + in + 1 : file, function);
        if (outside) break;
    }
    return outside;
}
struct SourceLine {
    std::string text;
    bool outside; // of this emulator and of the toolkit
};
static const SourceLine &find_source_line(uintptr_t pc) {
    static std::map<uintptr_t, SourceLine> known;
    SourceLine &line = known[pc];
    if (line.text.empty()) {
        char text[1024];
        line.outside = write_source_line(pc, text, sizeof text);
        line.text = text;
    }
    return line;
}
static std::string source_line(uintptr_t pc) { return find_source_line(pc).text; }

static int callers_of(uintptr_t pc, uintptr_t *callers, int most) {
    void *stack[32];
    int n = backtrace(stack, 32), i = 0, count = 0;
    while (i < n && reinterpret_cast<uintptr_t>(stack[i]) != pc) i++;
    for (i++; i < n && count < most; i++) callers[count++] = reinterpret_cast<uintptr_t>(stack[i]);
    return count;
}

// ----------------------------------------------------------------------------
// Reports

static int reports;

static std::string kernel_name() {
    std::string name = kernel->name;
    return name[0] == '(' ? name.substr(1, name.size() - 2) : name;
}
static void print_where(const Thread *thread) {
    if (!kernel) {
        fprintf(stderr, "host code");
        return;
    }
    fprintf(stderr, "kernel %s", kernel_name().c_str());
    if (!thread) return;
    fprintf(stderr, ", block (%u,%u,%u), thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, thread->index.x,
            thread->index.y, thread->index.z);
}
static void report(const char *what, const Thread *thread, uintptr_t pc, const char *format, ...) {
    static std::map<std::string, int> seen;
    // From a function of the toolkit, up to the code that called it. calls[0] is a call by this runtime.
    std::vector<SourceLine> lines = {find_source_line(pc)};
    for (size_t i = thread && thread->calls ? thread->calls->size() : 0; i-- > 1;)
        lines.push_back(find_source_line((*thread->calls)[i]));
    if (!kernel) { // the functions around pc, if it is still on the stack
        uintptr_t callers[16];
        int n = callers_of(pc, callers, 16);
        for (int i = 0; i < n; i++) lines.push_back(find_source_line(callers[i]));
    }
    size_t top = 0;
    while (top < lines.size() && !lines[top].outside) top++;
    if (top == lines.size()) top = 0;
    std::string line = lines[top].text;
    // The same thing again, from another thread or from a copy of the code that the compiler made
    if (seen[std::string(what) + line + format]++) return;
    if (reports++ >= settings.max_reports) {
        if (reports == settings.max_reports + 1)
            fprintf(stderr, "cuda_on_cpu: more reports follow that are not shown\n");
        return;
    }
    fflush(stdout);
    fprintf(stderr, "cuda_on_cpu: %s: ", what);
    print_where(thread);
    fprintf(stderr, "\n    at %s", line.c_str());
    for (size_t i = top + 1; i < lines.size(); i++)
        if (lines[i].outside && lines[i].text != lines[i - 1].text)
            fprintf(stderr, "\n    called at %s", lines[i].text.c_str());
    fprintf(stderr, "\n    ");
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    fflush(stderr);
}
static void give_up() {
    fflush(nullptr);
    _exit(EXIT_REPORTED);
}

// Runs after main and after all functions registered by atexit.
__attribute__((destructor(101))) static void exit_with_reports() {
    if (!reports) return;
    fflush(stdout);
    fprintf(stderr, "cuda_on_cpu: %d report%s\n", reports, reports == 1 ? "" : "s");
    give_up();
}

} // namespace cuda_on_cpu

extern "C" {
int cuda_on_cpu_schedule(const char *order) { return cuda_on_cpu::set_order(order); }
void cuda_on_cpu_lazy(int lazy) { cuda_on_cpu::settings.lazy = lazy != 0; }
int cuda_on_cpu_other_cublaslt(int other) {
    if (other >= 0) cuda_on_cpu::settings.other_cublaslt = other != 0;
    return cuda_on_cpu::settings.other_cublaslt;
}
int cuda_on_cpu_reports(void) { return cuda_on_cpu::reports; }
}
