/*
What every export needs: a folder in which nothing is overwritten and which is there whole or not at all; files copied
and synced.
*/
#ifndef LLMC_FILES_EXPORT_FILES_H
#define LLMC_FILES_EXPORT_FILES_H

#include "llmc/files/files.h" // model_path
#include "llmc/utils/utils.h" // Error, fail, NewFile, write_file, make_dirs, lock_dir

// An export on its way: written to `work` beside --out, or in it where it is there, and put in its place when it is
// whole.
typedef struct {
    char *to, *work;
    const char *last; // the file without which nobody takes the folder for an export
    bool fresh;       // --out was not there: `work` becomes it in one step
    int lock;
} Export;

// Makes e->work, empty: what a killed export left there goes. to/last must not be there yet. export_end must follow
// where this is true.
bool export_begin(Export *e, const char *to, const char *last, Error *err) {
    Str path = {0}, parent = {0};
    e->to = xstrdup(to);
    for (size_t n = strlen(e->to); n > 1 && e->to[n - 1] == '/'; n--) e->to[n - 1] = 0;
    e->last = last;
    e->fresh = !path_exists(e->to);
    str_printf(&path, "%s/%s", e->to, last);
    str_printf(&parent, "%s", e->to);
    char *slash = strrchr(parent.s, '/');
    if (e->fresh && slash) parent.n = slash == parent.s ? 1 : (size_t)(slash - parent.s);
    else if (e->fresh) {
        parent.n = 0;
        str_printf(&parent, ".");
    }
    parent.s[parent.n] = 0;
    char *inside = model_path(e->to, "export");
    e->work = temporary_path(e->fresh ? e->to : inside);
    e->lock = -1;
    bool ok = (!path_exists(path.s) ||
               fail(err, EXIT_RUN, "%s is there already\n  -> choose another --out, or remove it", path.s)) &&
              make_dirs(parent.s, err) && (path_exists(e->work) || make_dirs(e->work, err)) &&
              lock_dir(&e->lock, e->work, "exporting", "choose another --out", err);
    DIR *dir = ok ? opendir(e->work) : NULL; // emptied, not removed: it is locked
    for (struct dirent *d; dir && ok && (d = readdir(dir)) != NULL;) {
        path.n = 0;
        str_printf(&path, "%s/%s", e->work, d->d_name);
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlink(path.s) != 0)
            ok = fail(err, EXIT_RUN, "cannot remove %s: %s", path.s, strerror(errno));
    }
    if (dir) closedir(dir);
    if (!ok) {
        if (e->lock >= 0) close(e->lock);
        free(e->to);
        free(e->work);
    }
    free(inside);
    str_free(&path);
    str_free(&parent);
    return ok;
}

bool export_same_files(const char *a, const char *b) {
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    int c = x && y ? 0 : 1;
    while (c == 0) {
        const int k = fgetc(x);
        c = k != fgetc(y) ? 1 : k == EOF ? -1 : 0;
    }
    if (x) fclose(x);
    if (y) fclose(y);
    return c < 0;
}

// Moves one file from the work folder into --out. What is there is not overwritten, but for the same bytes, which a
// killed export left.
bool export_publish(const Export *e, const char *name, Error *err) {
    char *from = model_path(e->work, name), *to = model_path(e->to, name);
    bool ok = !path_exists(to) || export_same_files(from, to) ||
              fail(err, EXIT_RUN, "%s is there already, and is another\n  -> choose another --out, or remove it", to);
    ok = ok && (rename(from, to) == 0 || fail(err, EXIT_RUN, "cannot rename %s to %s: %s", from, to, strerror(errno)));
    free(from);
    free(to);
    return ok;
}

// ok: everything is synced and put in its place. Otherwise, or if that fails, nothing new is left. Frees *e.
bool export_end(Export *e, bool ok, Error *err) {
    ok = ok && fsync_path(e->work, err);
    if (ok && e->fresh) {
        ok = rename(e->work, e->to) == 0 ||
             fail(err, EXIT_RUN, "cannot rename %s to %s: %s", e->work, e->to, strerror(errno));
    } else if (ok) {
        DIR *dir = opendir(e->work);
        for (struct dirent *d; dir && ok && (d = readdir(dir)) != NULL;)
            if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && strcmp(d->d_name, e->last) != 0)
                ok = export_publish(e, d->d_name, err);
        if (dir) closedir(dir);
        ok = ok && export_publish(e, e->last, err) && fsync_path(e->to, err);
    }
    Error why = {0, ""};
    if ((!ok || !e->fresh) && !remove_dir(e->work, &why)) warn("%s", why.text);
    close(e->lock);
    free(e->to);
    free(e->work);
    return ok;
}

bool export_write_text(const char *dir, const char *file, const char *text, Error *err) {
    char *path = model_path(dir, file);
    bool ok = write_file(path, text, strlen(text), err);
    free(path);
    return ok;
}

bool export_copy_file(const char *from, const char *to, Error *err) {
    FILE *in = fopen(from, "rb");
    if (!in) return fail(err, EXIT_RUN, "cannot copy %s: %s", from, strerror(errno));
    NewFile out;
    if (!new_file_begin(&out, to, err)) {
        fclose(in);
        return false;
    }
    char *chunk = (char *)xmalloc(1 << 20);
    size_t n;
    bool ok = true;
    while (ok && (n = fread(chunk, 1, 1 << 20, in)) > 0) ok = fwrite(chunk, 1, n, out.f) == n;
    ok = new_file_end(&out, ok && !ferror(in)) ||
         fail(err, EXIT_RUN, "cannot copy %s to %s: %s\n  -> free the disk or choose another place", from, to,
              strerror(errno));
    fclose(in);
    free(chunk);
    return ok;
}

bool export_ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

// The model's folder but for config.json, the index and the weights: tokenizer, chat template, generation settings.
bool export_copy_side_files(const char *from, const char *to, Error *err) {
    DIR *dir = opendir(from);
    if (!dir) return fail(err, EXIT_RUN, "cannot read the folder %s: %s", from, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir)) != NULL;) {
        const bool wanted = export_ends_with(e->d_name, ".json") || export_ends_with(e->d_name, ".txt") ||
                            export_ends_with(e->d_name, ".jinja");
        if (!wanted || strcmp(e->d_name, "config.json") == 0 || export_ends_with(e->d_name, ".index.json")) continue;
        char *a = model_path(from, e->d_name), *b = model_path(to, e->d_name);
        ok = export_copy_file(a, b, err);
        free(a);
        free(b);
    }
    closedir(dir);
    return ok;
}

#endif
