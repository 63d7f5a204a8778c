/*
A GGUF model that was split into files, NAME-00001-of-00003.gguf and so on (llama.cpp's gguf-split): the first has the
keys, each some of the tensors.
*/
#ifndef LLMC_FILES_GGUF_PARTS_H
#define LLMC_FILES_GGUF_PARTS_H

#include "llmc/files/gguf.h" // Gguf, gguf_open, gguf_get_int

#define GGUF_MAX_PARTS 999
#define GGUF_PART_NAME "-00001-of-00003.gguf"

// The path of part i (from 0) of n beside that of the first; NULL where the first is not called so. Free with free().
char *gguf_part_path(const char *first, int i, int n) {
    const size_t length = strlen(first), end = strlen(GGUF_PART_NAME);
    char expected[32];
    Str path = {0};
    snprintf(expected, sizeof expected, "-00001-of-%05d.gguf", n);
    if (length <= end || strcmp(first + length - end, expected) != 0) return NULL;
    str_printf(&path, "%.*s-%05d-of-%05d.gguf", (int)(length - end), first, i + 1, n);
    return path.s;
}

// Opens part i of n.
bool gguf_open_part(Gguf *g, const char *first, int i, int n, Error *err) {
    char *path = gguf_part_path(first, i, n);
    int number = 0, count = 0;
    if (!path)
        return fail(err, EXIT_RUN,
                    "%s: split.count is %d, but the file is not called NAME-00001-of-%05d.gguf\n  -> give the parts "
                    "their names again",
                    first, n, n);
    bool ok = gguf_open(g, path, err);
    free(path);
    if (!ok) return false;
    ok = gguf_get_int(g, "split.no", 0, GGUF_MAX_PARTS - 1, &number, err) &&
         gguf_get_int(g, "split.count", 1, GGUF_MAX_PARTS, &count, err) &&
         ((number == i && count == n) || fail(err, EXIT_RUN, "%s: found part %d of %d, expected part %d of %d",
                                              g->tensors.path, number + 1, count, i + 1, n));
    if (!ok) gguf_close(g);
    return ok;
}

// No two parts have a tensor of the same name, and all have as many as the first says.
bool gguf_check_parts(const Gguf *all, int n, Error *err) {
    int total = 0, expected = 0;
    for (int i = 0; i < n; i++) {
        total += all[i].tensors.n_entries;
        for (int k = 0; k < i; k++)
            for (int j = 0; j < all[i].tensors.n_entries; j++)
                if (safetensors_find_entry(&all[k].tensors, all[i].tensors.entries[j].name))
                    return fail(err, EXIT_RUN, "%s: holds tensor %s, and so does %s", all[i].tensors.path,
                                all[i].tensors.entries[j].name, all[k].tensors.path);
    }
    if (!gguf_find(&all[0], "split.tensors.count")) return true;
    return gguf_get_int(&all[0], "split.tensors.count", 0, INT_MAX, &expected, err) &&
           (total == expected || fail(err, EXIT_RUN, "%s: split.tensors.count is %d, but the %d parts hold %d tensors",
                                      all[0].tensors.path, expected, n, total));
}

void gguf_close_all(Gguf *all, int n) {
    for (int i = 0; i < n; i++) gguf_close(&all[i]);
    free(all);
}

// *all = the file at path and, where it is the first of several parts, the others; *n = how many. On failure NULL. Free
// with gguf_close_all.
bool gguf_open_all(Gguf **all, int *n, const char *path, Error *err) {
    Gguf first;
    int count = 1, number = 0;
    *all = NULL;
    *n = 0;
    if (!gguf_open(&first, path, err)) return false;
    bool ok = !gguf_find(&first, "split.count") || gguf_get_int(&first, "split.count", 1, GGUF_MAX_PARTS, &count, err);
    ok =
        ok && (!gguf_find(&first, "split.no") || gguf_get_int(&first, "split.no", 0, GGUF_MAX_PARTS - 1, &number, err));
    if (ok && number != 0)
        ok = fail(err, EXIT_RUN, "%s: it is part %d of %d\n  -> give the first part, ...-00001-of-%05d.gguf", path,
                  number + 1, count, count);
    if (!ok) {
        gguf_close(&first);
        return false;
    }
    *all = (Gguf *)xcalloc((size_t)count, sizeof(Gguf));
    (*all)[(*n)++] = first;
    for (int i = 1; i < count && ok; i++) {
        ok = gguf_open_part(&(*all)[i], path, i, count, err);
        *n += ok;
    }
    ok = ok && gguf_check_parts(*all, *n, err);
    if (ok) return true;
    gguf_close_all(*all, *n);
    *all = NULL;
    *n = 0;
    return false;
}

#endif
