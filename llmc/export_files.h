/*
What every export needs: a folder in which nothing is overwritten, files copied and synced.
*/
#ifndef LLMC_EXPORT_FILES_H
#define LLMC_EXPORT_FILES_H

#include <dirent.h>       // opendir, readdir
#include "model_config.h" // model_path
#include "utils.h"        // Error, fail, write_file, make_dirs

// dir/file must not be there yet; dir is made.
bool export_begin(const char *dir, const char *file, Error *err) {
    char *path = model_path(dir, file);
    bool ok = !path_exists(path) || fail(err, EXIT_RUN, "%s is there already\n  -> choose another --out, or remove it", path);
    free(path);
    return ok && make_dirs(dir, err);
}

bool export_write_text(const char *dir, const char *file, const char *text, Error *err) {
    char *path = model_path(dir, file);
    bool ok = write_file(path, text, strlen(text), err);
    free(path);
    return ok;
}

bool export_copy_file(const char *from, const char *to, Error *err) {
    FILE *in = fopen(from, "rb"), *out = in ? fopen(to, "wb") : NULL;
    char *chunk = (char *)xmalloc(1 << 20);
    size_t n;
    bool ok = in && out;
    while (ok && (n = fread(chunk, 1, 1 << 20, in)) > 0) ok = fwrite(chunk, 1, n, out) == n;
    ok = ok && !ferror(in) && fflush(out) == 0 && fsync(fileno(out)) == 0;
    int why = errno;
    if (in) fclose(in);
    if (out && fclose(out) != 0) ok = false;
    free(chunk);
    return ok || fail(err, EXIT_RUN, "cannot copy %s to %s: %s\n  -> free the disk or choose another --out", from, to, strerror(why));
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
        const bool wanted = export_ends_with(e->d_name, ".json") || export_ends_with(e->d_name, ".txt") || export_ends_with(e->d_name, ".jinja");
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
