/*
What every other header needs: errors with an exit code, memory that is checked, growing strings and int arrays,
whole-file reading and writing (never in place: NewFile), a clock. Its functions are static, so that any translation
unit may include it. Beside it, each included by itself where it is needed:

    numbers.h  bf16 and fp16
    rng.h      randomness that does not depend on order
    threads.h  OpenMP, or what it means for a single thread

From outside: utils.h numbers.h rng.h threads.h

Errors. A function that can fail on what the user gave us (a file, an option, a model) takes an `Error *err`
last and returns false (or NULL) after filling it through `fail`. main prints the text and exits with its
code: 2 for a wrong call, 1 for a failed run. The text says what was being done, where, what was found,
what was expected and, after "\n  -> ", what to do. Running out of memory is not worth a return path:
it prints and exits.
*/
#ifndef LLMC_UTILS_UTILS_H
#define LLMC_UTILS_UTILS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "llmc/utils/numbers.h" // bf16_t, bf16_to_f32, f32_to_bf16, f16_to_f32

// ----------------------------------------------------------------------------
// errors

#define EXIT_RUN 1   // the run failed
#define EXIT_USAGE 2 // the call was wrong

typedef struct {
    int code;        // 0 = no error, else the exit code
    char text[2048]; // what, where, found, expected, what to do
} Error;

// Fills err (which may be NULL) and returns false, so that callers can write `return fail(...)`.
// If err already holds an error it is kept: the first cause is the one worth reading.
__attribute__((format(printf, 3, 4))) static inline bool fail(Error *err, int code, const char *format, ...) {
    if (err && err->code == 0) {
        err->code = code;
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return false;
}

// Prints the error and ends the program with its exit code.
__attribute__((noreturn)) static inline void die(const Error *err) {
    fflush(stdout);
    fprintf(stderr, "error: %s\n", err->text);
    exit(err->code ? err->code : EXIT_RUN);
}

static bool warnings_off; // another process, doing the same, prints them (dist/ranks.h)

__attribute__((format(printf, 1, 2))) static inline void warn(const char *format, ...) {
    if (warnings_off) return;
    va_list args;
    va_start(args, format);
    fputs("warning: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

// ----------------------------------------------------------------------------
// memory: these return usable memory or end the program. Freed with free().

__attribute__((noreturn)) static inline void out_of_memory(size_t bytes) {
    fprintf(stderr,
            "error: out of memory: wanted %.1f MiB more\n"
            "  -> more memory, or less work at once: rollout_batch_size, max_completion_length, activation_memory, "
            "where the command has "
            "them\n",
            (double)bytes / (1 << 20));
    exit(EXIT_RUN);
}

static inline void *xmalloc(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) out_of_memory(bytes);
    return p;
}

static inline void *xcalloc(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) out_of_memory(n * size);
    return p;
}

static inline void *xrealloc(void *old, size_t bytes) {
    void *p = realloc(old, bytes ? bytes : 1);
    if (!p) out_of_memory(bytes);
    return p;
}

// 64-byte aligned (one cache line, one zmm register), contents undefined.
static inline void *xaligned(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes ? (bytes + 63) & ~(size_t)63 : 64) != 0) out_of_memory(bytes);
    return p;
}

static inline char *xstrndup(const char *s, size_t n) {
    char *p = (char *)xmalloc(n + 1);
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

static inline char *xstrdup(const char *s) { return xstrndup(s, strlen(s)); }

// ----------------------------------------------------------------------------
// growing arrays. Zero-initialise ({0} or memset) before use; *_free leaves them zeroed and reusable.

typedef struct {
    char *s;
    size_t n, cap;
} Str; // s is always NUL-terminated once anything was appended

static inline void str_reserve(Str *b, size_t more) {
    if (b->n + more + 1 > b->cap) {
        b->cap = (b->n + more + 1) * 2;
        b->s = (char *)xrealloc(b->s, b->cap);
    }
}

static inline void str_add(Str *b, const char *s, size_t n) {
    str_reserve(b, n);
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = 0;
}

__attribute__((format(printf, 2, 3))) static inline void str_printf(Str *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    str_reserve(b, (size_t)n);
    va_start(args, format);
    vsnprintf(b->s + b->n, (size_t)n + 1, format, args);
    va_end(args);
    b->n += (size_t)n;
}

static inline void str_free(Str *b) {
    free(b->s);
    memset(b, 0, sizeof *b);
}

typedef struct {
    int *v;
    int n, cap;
} IntVec;

static inline void ints_push(IntVec *a, int x) {
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 16;
        a->v = (int *)xrealloc(a->v, (size_t)a->cap * sizeof(int));
    }
    a->v[a->n++] = x;
}

static inline void ints_free(IntVec *a) {
    free(a->v);
    memset(a, 0, sizeof *a);
}

// ----------------------------------------------------------------------------
// files

// Reads a whole file ("-": standard input), NUL-terminated, its length in *n. NULL and err on failure. Free with
// free().
static inline char *read_file(const char *path, size_t *n, Error *err) {
    bool input = strcmp(path, "-") == 0;
    FILE *f = input ? stdin : fopen(path, "rb");
    if (input) path = "standard input";
    if (!f) {
        fail(err, EXIT_RUN, "cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    Str b = {0};
    str_reserve(&b, 1 << 16);
    size_t got;
    while ((got = fread(b.s + b.n, 1, b.cap - b.n - 1, f)) > 0) {
        b.n += got;
        str_reserve(&b, 1 << 16);
    }
    bool bad = ferror(f) != 0; // a directory opens, but does not read
    int why = errno;
    if (!input) fclose(f);
    if (bad) {
        free(b.s);
        fail(err, EXIT_RUN, "cannot read %s: %s", path, strerror(why));
        return NULL;
    }
    b.s[b.n] = 0;
    if (n) *n = b.n;
    return b.s;
}

// Makes a folder and its parents (mkdir -p).
static inline bool make_dirs(const char *path, Error *err) {
    char *p = xstrdup(path);
    for (char *c = p + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        char keep = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            fail(err, EXIT_RUN, "cannot make folder %s: %s\n  -> choose another folder, or free the disk", p,
                 strerror(errno));
            free(p);
            return false;
        }
        if (keep == 0) break;
        *c = keep;
    }
    free(p);
    return true;
}

// Forces what was written at path (a file or a folder) to the disk.
static inline bool fsync_path(const char *path, Error *err) {
    int fd = open(path, O_RDONLY);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) { // EINVAL: a file system that cannot sync a folder
        int why = errno;
        if (fd >= 0) close(fd);
        return fail(err, EXIT_RUN, "cannot sync %s to disk: %s", path, strerror(why));
    }
    close(fd);
    return true;
}

// A new file under a temporary name in the folder of `path`, ".tmp-NAME", so that a failure, a kill or a full disk
// leaves `path` as it was.
typedef struct {
    FILE *f;
    char *path, *temporary;
} NewFile;

// "DIR/.tmp-NAME" of "DIR/NAME". Free with free().
static inline char *temporary_path(const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t dir = slash ? (size_t)(slash + 1 - path) : 0;
    Str t = {0};
    str_printf(&t, "%.*s.tmp-%s", (int)dir, path, path + dir);
    return t.s;
}

// Opens it; what a killed try left under the temporary name is replaced. new_file_end must follow where this is true.
static inline bool new_file_begin(NewFile *n, const char *path, Error *err) {
    n->temporary = temporary_path(path);
    n->f = fopen(n->temporary, "wb");
    n->path = xstrdup(path);
    if (n->f) return true;
    fail(err, EXIT_RUN, "cannot create %s: %s", path, strerror(errno));
    free(n->temporary);
    free(n->path);
    return false;
}

// ok: syncs the file and puts it in its place, in one step, and syncs the folder. Otherwise, or if that fails, it is
// removed; errno says why.
static inline bool new_file_end(NewFile *n, bool ok) {
    int why = errno;
    if (ok) {
        ok = fflush(n->f) == 0 && fsync(fileno(n->f)) == 0;
        why = errno;
    }
    if (fclose(n->f) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && rename(n->temporary, n->path) != 0) {
        ok = false;
        why = errno;
    }
    if (!ok) unlink(n->temporary);
    char *slash = strrchr(n->temporary, '/');
    if (ok) {
        if (slash) *(slash == n->temporary ? slash + 1 : slash) = 0;
        ok = fsync_path(slash ? n->temporary : ".", NULL);
        why = errno;
    }
    free(n->temporary);
    free(n->path);
    errno = why;
    return ok;
}

typedef struct {
    const void *data;
    size_t bytes;
} FilePart;

// Writes n parts, one after another, to a file that is then whole and synced or, on failure, as it was before
// (NewFile).
static inline bool write_file_parts(const char *path, const FilePart *parts, int n, Error *err) {
    NewFile file;
    if (!new_file_begin(&file, path, err)) return false;
    bool ok = true;
    size_t all = 0;
    for (int i = 0; i < n; all += parts[i++].bytes)
        ok = ok && fwrite(parts[i].data, 1, parts[i].bytes, file.f) == parts[i].bytes;
    return new_file_end(&file, ok) ||
           fail(err, EXIT_RUN, "cannot write %s (%zu bytes): %s\n  -> free the disk and run again", path, all,
                strerror(errno));
}

static inline bool write_file(const char *path, const void *data, size_t n, Error *err) {
    const FilePart whole = {data, n};
    return write_file_parts(path, &whole, 1, err);
}

// Removes a folder and the files in it, but no folder in it: one that somebody else filled stays, with an error.
// A folder that is not there is no error.
static inline bool remove_dir(const char *path, Error *err) {
    DIR *dir = opendir(path);
    if (!dir) return errno == ENOENT ? true : fail(err, EXIT_RUN, "cannot open %s: %s", path, strerror(errno));
    bool ok = true;
    Str file = {0};
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        file.n = 0;
        str_printf(&file, "%s/%s", path, e->d_name);
        if (unlink(file.s) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", file.s, strerror(errno));
    }
    closedir(dir);
    str_free(&file);
    if (ok && rmdir(path) != 0) ok = fail(err, EXIT_RUN, "cannot remove %s: %s", path, strerror(errno));
    return ok;
}

// Removes what a killed program left in a folder: every file and folder called .tmp-... in it. The caller holds the
// folder's lock. What cannot be removed is named in a warning.
static inline void remove_temporaries(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    Str here = {0};
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, ".tmp-", 5) != 0) continue;
        Error why = {0, ""};
        here.n = 0;
        str_printf(&here, "%s/%s", path, e->d_name);
        if (unlink(here.s) != 0 && !remove_dir(here.s, &why))
            warn("left over from a run that was killed: %s", why.text);
    }
    closedir(dir);
    str_free(&here);
}

// Two programs writing into one folder would overwrite each other: the second is refused; doing: what the first does.
// *lock ends with the process, or with close().
static inline bool lock_dir(int *lock, const char *dir, const char *doing, const char *advice, Error *err) {
    *lock = open(dir, O_RDONLY);
    if (*lock >= 0 && flock(*lock, LOCK_EX | LOCK_NB) == 0) return true;
    const int why = errno;
    if (*lock >= 0) close(*lock);
    return *lock >= 0 && why == EWOULDBLOCK
               ? fail(err, EXIT_RUN, "%s: another process is %s there\n  -> wait for it, or %s", dir, doing, advice)
               : fail(err, EXIT_RUN, "cannot lock %s: %s", dir, strerror(why));
}

static inline bool path_exists(const char *path) { return access(path, F_OK) == 0; }

// The last part of a path without trailing slashes: "/models/qwen/" -> "qwen". Free with free().
static inline char *path_basename(const char *path) {
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    return xstrndup(path + start, end - start);
}

// What was printed has arrived: a full disk behind standard output is an error, too.
static inline bool check_stdout(Error *err) {
    const bool ok = fflush(stdout) == 0 && !ferror(stdout);
    return ok || fail(err, EXIT_RUN,
                      "cannot write to standard output: %s\n  -> free the disk it goes to, or send it elsewhere",
                      strerror(errno ? errno : EIO));
}

// ----------------------------------------------------------------------------
// words a user mistyped

// Edit distance (insertions, deletions, substitutions) of two short words, case ignored.
static inline int edit_distance(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    int *row = (int *)xmalloc((nb + 1) * sizeof(int));
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int up = row[j];
            int cost = (a[i - 1] | 32) == (b[j - 1] | 32) ? 0 : 1;
            int best = diagonal + cost;
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    int d = row[nb];
    free(row);
    return d;
}

// ----------------------------------------------------------------------------
// time

// Seconds on a clock that only goes forward.
static inline double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
