/*
What a run tells the world: metrics.jsonl (one line a step), a progress line on a terminal, and the flag that a
signal sets.

    Logger log;
    logger_open(&log, ".../metrics.jsonl", &err);
    logger_number(&log, "step", 12); logger_number(&log, "reward", -0.5); logger_end(&log, &err);
        -> {"step": 12, "reward": -0.5}
*/
#ifndef LLMC_LOGGER_H
#define LLMC_LOGGER_H

#include <cjson/cJSON.h>       // cJSON_ParseWithLength: the step of a line already written
#include <signal.h>            // sigaction, sig_atomic_t
#include "llmc/options/yaml.h" // number_text, options_quote; by way of it utils.h: Error, fail, Str

// ----------------------------------------------------------------------------
// metrics.jsonl

typedef struct {
    FILE *f;
    char *path;
    Str line;           // the line being made
    char nonfinite[64]; // key of the line's first NaN or infinity; "" if there is none
} Logger;

// Opens path for appending. Freed by logger_close.
bool logger_open(Logger *log, const char *path, Error *err) {
    memset(log, 0, sizeof *log);
    log->f = fopen(path, "ab");
    if (!log->f)
        return fail(err, EXIT_RUN, "cannot open %s for appending: %s\n  -> choose another output_dir", path,
                    strerror(errno));
    log->path = xstrdup(path);
    return true;
}

void logger_close(Logger *log) {
    if (log->f) fclose(log->f); // every line was flushed, and its errors seen, by logger_end
    free(log->path);
    str_free(&log->line);
    memset(log, 0, sizeof *log);
}

// Opens the line's next pair; the first one forgets what the line before had that was not finite.
void logger_key(Logger *log, const char *key) {
    if (log->line.n == 0) log->nonfinite[0] = 0;
    str_printf(&log->line, "%s\"%s\": ", log->line.n ? ", " : "{", key);
}

// Adds a number; it reads back as the same double. JSON has no NaN and no infinity: these are written as null, and
// log->nonfinite names the first.
void logger_number(Logger *log, const char *key, double x) {
    char text[32];
    logger_key(log, key);
    str_printf(&log->line, "%s", isfinite(x) ? number_text(text, x) : "null");
    if (!isfinite(x) && !log->nonfinite[0]) snprintf(log->nonfinite, sizeof log->nonfinite, "%s", key);
}

// Adds a text; null if it is not UTF-8.
void logger_text(Logger *log, const char *key, const char *text) {
    logger_key(log, key);
    size_t start = log->line.n;
    if (options_quote(&log->line, text)) return;
    log->line.n = start;
    str_printf(&log->line, "null");
}

// Ends the line and hands it to the operating system, so that a crash loses none. A full disk is an error.
bool logger_end(Logger *log, Error *err) {
    str_printf(&log->line, "%s}\n", log->line.n ? "" : "{");
    bool ok = fwrite(log->line.s, 1, log->line.n, log->f) == log->line.n;
    ok = fflush(log->f) == 0 && ok;
    int why = errno;
    log->line.n = 0;
    return ok || fail(err, EXIT_RUN, "cannot append to %s: %s\n  -> free the disk and run again with --resume auto",
                      log->path, strerror(why));
}

// For resuming at `step`: drops the lines of later steps, and a last line that was cut off. Lines without a step
// stay. The file is replaced in one move, so a failure leaves it as it was; no file is fine.
bool logger_truncate_after(const char *path, int64_t step, Error *err) {
    if (!path_exists(path)) return true;
    size_t n = 0;
    char *text = read_file(path, &n, err);
    if (!text) return false;
    Str keep = {0};
    bool ok = true;
    int number = 0;
    for (char *line = text, *end; ok && line < text + n; line = end + 1) {
        number++;
        end = (char *)memchr(line, '\n', (size_t)(text + n - line));
        if (!end) break; // cut off
        cJSON *object = cJSON_ParseWithLength(line, (size_t)(end - line));
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, "step");
        if (!cJSON_IsObject(object))
            ok = fail(err, EXIT_RUN,
                      "%s:%d: found something other than a JSON object\n  -> repair or move the file away, then resume",
                      path, number);
        else if (!cJSON_IsNumber(at) || at->valuedouble <= (double)step) str_add(&keep, line, (size_t)(end + 1 - line));
        cJSON_Delete(object);
    }
    if (ok && keep.n != n) ok = write_file(path, keep.n ? keep.s : "", keep.n, err);
    str_free(&keep);
    free(text);
    return ok;
}

// True if there are lines of this step and none of them has the key: what it stands for was interrupted.
bool logger_lacks(const char *path, int64_t step, const char *key) {
    char *text = path_exists(path) ? read_file(path, NULL, NULL) : NULL, *rest = text, *line;
    bool found = false, lacks = true;
    while (text && (line = strsep(&rest, "\n")) != NULL) {
        cJSON *object = cJSON_Parse(line);
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, "step");
        if (cJSON_IsNumber(at) && at->valuedouble == (double)step) {
            found = true;
            lacks = lacks && !cJSON_GetObjectItemCaseSensitive(object, key);
        }
        cJSON_Delete(object);
    }
    free(text);
    return found && lacks;
}

// ----------------------------------------------------------------------------
// progress line: on stderr, and only if that is a terminal

typedef struct {
    bool on;              // stderr is a terminal
    bool drawn;           // a line stands there
    const char *what;     // "step", "problem"
    int64_t first, total; // done before the start (a resumed run), done at the end
    double start, last;   // now_s() at the start, at the last drawing
} Progress;

void progress_begin(Progress *p, const char *what, int64_t first, int64_t total) {
    memset(p, 0, sizeof *p);
    p->on = isatty(2) != 0;
    p->what = what;
    p->first = first;
    p->total = total;
    p->start = now_s();
    p->last = -1;
}

// Appends "step 12/314  0.21/s  24m 05s left  <note>" as it stands `seconds` after the start.
void progress_text(Str *out, const Progress *p, int64_t done, double seconds, const char *note) {
    str_printf(out, "%s %lld/%lld", p->what, (long long)done, (long long)p->total);
    double rate = done > p->first && seconds > 0 ? (double)(done - p->first) / seconds : 0;
    if (rate > 0) {
        if (rate >= 0.1) str_printf(out, "  %.3g/s", rate);
        else str_printf(out, "  %.1f s each", 1 / rate);
        double left = p->total > done ? (double)(p->total - done) / rate : 0;
        int64_t s = left < 1e9 ? (int64_t)(left + 0.5) : 1000000000;
        if (s >= 3600) str_printf(out, "  %lldh %02lldm left", (long long)(s / 3600), (long long)(s / 60 % 60));
        else if (s >= 60) str_printf(out, "  %lldm %02llds left", (long long)(s / 60), (long long)(s % 60));
        else str_printf(out, "  %llds left", (long long)s);
    }
    if (*note) str_printf(out, "  %s", note);
}

// Draws the line anew, at most ten times a second; `note` may be "".
void progress_update(Progress *p, int64_t done, const char *note) {
    double now = now_s();
    if (!p->on || (p->drawn && now - p->last < 0.1)) return;
    Str line = {0};
    progress_text(&line, p, done, now - p->start, note);
    fprintf(stderr, "\r\033[K%s", line.s);
    fflush(stderr);
    str_free(&line);
    p->drawn = true;
    p->last = now;
}

// Wipes the line; to be called before anything else is printed, and at the end.
void progress_clear(Progress *p) {
    if (!p->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}

// ----------------------------------------------------------------------------
// signals

volatile sig_atomic_t stop_requested; // 0, or the signal that asked to save and end

void logger_on_signal(int signal_number) {
    if (stop_requested) { // asked twice: end at once, as if there were no handler
        signal(signal_number, SIG_DFL);
        raise(signal_number); // delivered when this handler returns
        return;
    }
    stop_requested = signal_number;
    static const char text[] = "\nstopping as soon as the work so far is saved; once more ends it at once\n";
    int keep = errno;
    ssize_t ignored = write(2, text, sizeof text - 1);
    (void)ignored;
    errno = keep;
}

// From here on SIGINT, SIGTERM, SIGHUP (the terminal or the connection is gone) and SIGUSR1 (which mpirun passes on,
// and Slurm sends before the time is up) set stop_requested; the second one ends the program. Reads and writes go on.
// nohup's wish, to ignore SIGHUP, holds.
void install_signal_handlers(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = logger_on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    stop_requested = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, NULL);
}

#endif
