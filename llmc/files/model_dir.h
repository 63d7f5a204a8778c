/*
Whether a path can be a Hugging Face model folder or a GGUF file, and what it is instead: people give what other
programs take, the name of a repository on the hub, a folder of the hub's cache. Nothing is downloaded here.
*/
#ifndef LLMC_FILES_MODEL_DIR_H
#define LLMC_FILES_MODEL_DIR_H

#include <dirent.h>           // opendir
#include "llmc/files/gguf.h"  // gguf_is_file
#include "llmc/utils/utils.h" // Error, fail, path_exists

static inline bool text_ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

// OWNER/NAME, as the hub names repositories?
static inline bool model_is_repository(const char *path) {
    const char *slash = strchr(path, '/');
    if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/') || *path == '.' || *path == '~') return false;
    return strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./") == strlen(path);
}

// Does a folder hold a file that ends so? Its name in name[n].
static inline bool model_dir_holds(const char *dir, const char *end, char *name, size_t n) {
    DIR *d = opendir(dir);
    bool found = false;
    for (const struct dirent *e; d && !found && (e = readdir(d)) != NULL;) {
        found = text_ends_with(e->d_name, end);
        if (found) snprintf(name, n, "%s", e->d_name);
    }
    if (d) closedir(d);
    return found;
}

#define MODEL_DIR_WANTED "give the folder of a Hugging Face model (config.json, tokenizer.json, *.safetensors)"

// True for a folder with a config.json and for a GGUF file. False with what else it is, and what to do.
static inline bool model_dir_check(const char *dir, Error *err) {
    char name[256];
    Str inner = {0};
    struct stat info;
    if (stat(dir, &info) != 0) {
        const int why = errno;
        if (model_is_repository(dir) && why == ENOENT)
            return fail(err, EXIT_RUN,
                        "cannot open the model %s: there is no such folder here, and nothing is downloaded\n"
                        "  -> if it is a repository of the Hugging Face hub: hf download %s --local-dir models/%s, "
                        "then --model models/%s",
                        dir, dir, strchr(dir, '/') + 1, strchr(dir, '/') + 1);
        return fail(err, EXIT_RUN, "cannot open the model %s: %s\n  -> " MODEL_DIR_WANTED, dir, strerror(why));
    }
    if (!S_ISDIR(info.st_mode)) {
        if (gguf_is_file(dir)) return true;
        const bool gguf = text_ends_with(dir, ".gguf");
        return fail(err, EXIT_RUN,
                    "cannot open the model %s: it is a file%s, expected a folder or a GGUF file\n  -> %s%s", dir,
                    gguf ? " that does not begin with GGUF" : "", gguf ? "download or copy it again" : MODEL_DIR_WANTED,
                    text_ends_with(dir, ".safetensors") ? ": the one this file lies in" : "");
    }
    str_printf(&inner, "%s/config.json", dir);
    bool ok = path_exists(inner.s);
    inner.n = 0;
    str_printf(&inner, "%s/snapshots", dir);
    if (!ok && path_exists(inner.s))
        fail(err, EXIT_RUN,
             "cannot open the model %s: it is a repository in the hub's cache\n  -> give the folder below %s, whose "
             "name is a long number",
             dir, inner.s);
    else if (!ok && model_dir_holds(dir, ".gguf", name, sizeof name))
        fail(err, EXIT_RUN, "cannot open the model %s: it has no config.json, but %s\n  -> give the file: %s/%s", dir,
             name, dir, name);
    else if (!ok) fail(err, EXIT_RUN, "cannot open the model %s: it has no config.json\n  -> " MODEL_DIR_WANTED, dir);
    str_free(&inner);
    return ok;
}

// ----------------------------------------------------------------------------
// paths and names

// "dir/file". Free with free().
char *model_path(const char *dir, const char *file) {
    Str s = {0};
    str_printf(&s, "%s/%s", dir, file);
    return s.s;
}

// Is this the folder of a whole model?
bool model_is_folder(const char *path) {
    char *config = model_path(path, "config.json"), *weights = model_path(path, "model.safetensors"),
         *index = model_path(path, "model.safetensors.index.json");
    const bool is = path_exists(config) && (path_exists(weights) || path_exists(index));
    free(config);
    free(weights);
    free(index);
    return is;
}

// The name that train_output/ uses: the last part of the folder; in a Hugging Face cache
// (models--Qwen--Qwen2.5-0.5B/snapshots/<hash>) the model's. Free with free().
char *model_name_from_dir(const char *dir) {
    char *name = path_basename(dir);
    if (strcmp(name, "") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        char *full = realpath(dir, NULL);
        free(name);
        name = full ? path_basename(full) : xstrdup("model");
        free(full);
        return name;
    }
    const size_t end = strlen(".gguf"), part = strlen(GGUF_PART_NAME);
    size_t n = strlen(name);
    if (text_ends_with(name, ".gguf")) { // NAME-00001-of-00003.gguf, too
        char *second = gguf_part_path(name, 1, n > part ? atoi(name + n - end - 5) : 0);
        n -= second ? part : end;
        free(second);
        name[n] = 0;
    }
    const char *snapshots = strstr(dir, "/snapshots/"), *cache = NULL, *s = dir;
    while (snapshots && (s = strstr(s, "--")) != NULL && s < snapshots) cache = s += 2;
    if (cache && cache < snapshots) {
        free(name);
        name = xstrndup(cache, (size_t)(snapshots - cache));
    }
    return name;
}

#endif
