/*
Byte-pair encoding of one piece of text (Sennrich et al. 2016, arXiv:1508.07909): start from single bytes, merge the
neighbouring pair whose merge comes first in the tokenizer's list (of equals the leftmost) until no pair is in it. Below
it: the hash tables that make it fast.

- merge table: (left id, right id) -> (priority, merged id), flat, open addressing
- vocabulary:  bytes -> id, the same
- cache:       a piece of up to 23 bytes -> its ids; one slot is one cache line; a full neighbourhood evicts
*/
#ifndef LLMC_TOKENIZER_BPE_H
#define LLMC_TOKENIZER_BPE_H

#include "llmc/utils/utils.h" // Str, IntVec, xmalloc, xcalloc, xaligned

#define TOKENIZER_MAX_ID ((1 << 22) - 1) // no vocabulary comes near; bounds what a bad file can make us allocate
#define TOKENIZER_CACHE_SLOTS (1 << 16)
#define TOKENIZER_CACHE_BYTES 23
#define TOKENIZER_CACHE_IDS 9
#define TOKENIZER_SHORT 64 // pieces up to this many bytes are merged by scanning, longer ones with a heap

typedef struct {
    uint64_t pair;    // left id << 32 | right id; UINT64_MAX = free slot
    int priority, id; // its place in the list of merges, 0 first; the merged token
} BpeMerge;

typedef struct {
    uint64_t key[3]; // up to 23 bytes, zero-padded; the last byte is their number (0 = free slot)
    int n, ids[TOKENIZER_CACHE_IDS];
} BpeCacheSlot;

typedef struct {
    size_t offset; // into Bpe.bytes
    int length;    // -1: no token has this id
    bool special;  // left out by decode's skip_special
    bool added;    // one of the file's added tokens
} BpeToken;

typedef struct {
    BpeToken *tokens; // [n_tokens], indexed by id
    int n_tokens;
    Str bytes;  // all tokens' bytes, one after the other
    int *vocab; // [vocab_mask + 1] id + 1, 0 = free slot
    size_t vocab_mask;
    BpeMerge *merges; // [merge_mask + 1]
    size_t merge_mask;
    BpeCacheSlot *cache;
    int byte_id[256]; // -1: this byte has no token
    bool ignore_merges;
} Bpe;

// ----------------------------------------------------------------------------
// tables

uint64_t bpe_mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0x9E3779B97F4A7C15u;
    return x ^ (x >> 29);
}

uint64_t bpe_hash_bytes(const char *s, size_t n) {
    uint64_t h = 0xCBF29CE484222325u; // FNV-1a, then mixed
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001B3u;
    return bpe_mix(h);
}

size_t bpe_table_size(size_t entries) {
    size_t size = 16;
    while (size < 2 * entries) size *= 2;
    return size;
}

// Room for ids 0 .. n_tokens-1, n_vocab byte strings and n_merges merges. Zero-initialise *b before.
void bpe_init(Bpe *b, int n_tokens, size_t n_vocab, size_t n_merges) {
    b->n_tokens = n_tokens;
    b->tokens = (BpeToken *)xcalloc((size_t)n_tokens, sizeof(BpeToken));
    for (int i = 0; i < n_tokens; i++) b->tokens[i].length = -1;
    b->vocab_mask = bpe_table_size(n_vocab) - 1;
    b->vocab = (int *)xcalloc(b->vocab_mask + 1, sizeof(int));
    b->merge_mask = bpe_table_size(n_merges) - 1;
    b->merges = (BpeMerge *)xmalloc((b->merge_mask + 1) * sizeof(BpeMerge));
    memset(b->merges, 0xFF, (b->merge_mask + 1) * sizeof(BpeMerge));
    b->cache = (BpeCacheSlot *)xaligned(TOKENIZER_CACHE_SLOTS * sizeof(BpeCacheSlot));
    memset(b->cache, 0, TOKENIZER_CACHE_SLOTS * sizeof(BpeCacheSlot));
    for (int i = 0; i < 256; i++) b->byte_id[i] = -1;
}

void bpe_free(Bpe *b) {
    free(b->tokens);
    free(b->vocab);
    free(b->merges);
    free(b->cache);
    str_free(&b->bytes);
    memset(b, 0, sizeof *b);
}

const char *bpe_bytes(const Bpe *b, int id) { return b->bytes.s + b->tokens[id].offset; }

// The slot of a byte string in the vocabulary: its id + 1, or 0 where it would go.
int *bpe_vocab_slot(const Bpe *b, const char *s, size_t n) {
    size_t i = bpe_hash_bytes(s, n) & b->vocab_mask;
    while (b->vocab[i]) {
        const BpeToken *t = &b->tokens[b->vocab[i] - 1];
        if ((size_t)t->length == n && memcmp(b->bytes.s + t->offset, s, n) == 0) break;
        i = (i + 1) & b->vocab_mask;
    }
    return &b->vocab[i];
}

int bpe_id(const Bpe *b, const char *s, size_t n) { return *bpe_vocab_slot(b, s, n) - 1; } // -1 if absent

// Gives a free id (see tokens[id].length) its bytes.
void bpe_set_token(Bpe *b, int id, const char *s, size_t n) {
    b->tokens[id].offset = b->bytes.n;
    b->tokens[id].length = (int)n;
    str_add(&b->bytes, s, n);
}

BpeMerge *bpe_merge_slot(const Bpe *b, int left, int right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = bpe_mix(pair * 0xD6E8FEB86659FD93u) & b->merge_mask;
    while (b->merges[i].pair != UINT64_MAX && b->merges[i].pair != pair) i = (i + 1) & b->merge_mask;
    return &b->merges[i];
}

// ----------------------------------------------------------------------------
// merging

// ids[n] is merged in place, n <= TOKENIZER_SHORT; returns the new count. Quadratic, but without a single allocation.
int bpe_merge_short(const Bpe *b, int *ids, int n) {
    int priority[TOKENIZER_SHORT], merged[TOKENIZER_SHORT]; // of the pair (i, i + 1)
    for (int i = 0; i + 1 < n; i++) {
        const BpeMerge *m = bpe_merge_slot(b, ids[i], ids[i + 1]);
        priority[i] = m->priority; // -1 where there is none: the largest when unsigned
        merged[i] = m->id;
    }
    for (;;) {
        int best = -1;
        unsigned lowest = UINT32_MAX;
        for (int i = 0; i + 1 < n; i++) {
            if ((unsigned)priority[i] < lowest) {
                lowest = (unsigned)priority[i];
                best = i;
            }
        }
        if (best < 0) return n;
        ids[best] = merged[best];
        n--;
        for (int i = best + 1; i < n; i++) ids[i] = ids[i + 1];
        for (int i = best + 1; i + 1 < n; i++) {
            priority[i] = priority[i + 1];
            merged[i] = merged[i + 1];
        }
        for (int i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const BpeMerge *m = bpe_merge_slot(b, ids[i], ids[i + 1]);
            priority[i] = m->priority;
            merged[i] = m->id;
        }
    }
}

typedef struct {
    uint64_t *v;
    size_t n, cap;
} BpeHeap; // smallest first: priority << 32 | position

void bpe_heap_push(BpeHeap *h, uint64_t x) {
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 256;
        h->v = (uint64_t *)xrealloc(h->v, h->cap * sizeof(uint64_t));
    }
    size_t i = h->n++;
    for (; i > 0 && h->v[(i - 1) / 2] > x; i = (i - 1) / 2) h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = x;
}

uint64_t bpe_heap_pop(BpeHeap *h) {
    uint64_t top = h->v[0], x = h->v[--h->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && h->v[child + 1] < h->v[child]) child++;
        if (h->v[child] >= x) break;
        h->v[i] = h->v[child];
        i = child;
    }
    h->v[i] = x;
    return top;
}

// The same in n log n: a linked list of symbols and a heap of pairs; a heap entry whose pair has since changed is
// skipped.
int bpe_merge_long(const Bpe *b, int *ids, int n) {
    int *next = (int *)xmalloc((size_t)n * sizeof(int)), *previous = (int *)xmalloc((size_t)n * sizeof(int));
    int *priority = (int *)xmalloc((size_t)n * sizeof(int)); // of the pair that starts here, -1 if none
    BpeHeap heap = {NULL, 0, 0};
    for (int i = 0; i < n; i++) {
        next[i] = i + 1;
        previous[i] = i - 1;
        priority[i] = i + 1 < n ? bpe_merge_slot(b, ids[i], ids[i + 1])->priority : -1;
        if (priority[i] >= 0) bpe_heap_push(&heap, (uint64_t)priority[i] << 32 | (uint64_t)i);
    }
    while (heap.n > 0) {
        uint64_t top = bpe_heap_pop(&heap);
        int i = (int)(top & 0xFFFFFFFF), j = next[i];
        if (priority[i] != (int)(top >> 32)) continue; // merged away or re-paired
        ids[i] = bpe_merge_slot(b, ids[i], ids[j])->id;
        priority[j] = -1;
        next[i] = next[j];
        if (next[j] < n) previous[next[j]] = i;
        int changed[2] = {previous[i], i};
        for (int k = 0; k < 2; k++) {
            int p = changed[k];
            if (p < 0) continue;
            priority[p] = next[p] < n ? bpe_merge_slot(b, ids[p], ids[next[p]])->priority : -1;
            if (priority[p] >= 0) bpe_heap_push(&heap, (uint64_t)priority[p] << 32 | (uint64_t)p);
        }
    }
    int count = 0;
    for (int i = 0; i < n; i = next[i]) ids[count++] = ids[i]; // next[i] > i >= count: nothing unread is overwritten
    free(next);
    free(previous);
    free(priority);
    free(heap.v);
    return count;
}

// ----------------------------------------------------------------------------
// one piece

void bpe_push_all(IntVec *out, const int *ids, int n) {
    for (int i = 0; i < n; i++) ints_push(out, ids[i]);
}

// Appends the ids of one pre-tokenised piece of n bytes. False (and nothing appended) if a byte has no token.
bool bpe_encode_uncached(const Bpe *b, IntVec *out, const char *s, size_t n, Error *err) {
    int whole = b->ignore_merges ? bpe_id(b, s, n) : -1;
    if (whole >= 0) {
        ints_push(out, whole);
        return true;
    }
    int few[TOKENIZER_SHORT];
    int *ids = n <= TOKENIZER_SHORT ? few : (int *)xmalloc(n * sizeof(int));
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ids[i] = b->byte_id[(unsigned char)s[i]];
        if (ids[i] < 0)
            ok = fail(err, EXIT_RUN, "cannot tokenise the text: byte 0x%02X has no token in this vocabulary",
                      (unsigned char)s[i]);
    }
    if (ok)
        bpe_push_all(out, ids, n <= TOKENIZER_SHORT ? bpe_merge_short(b, ids, (int)n) : bpe_merge_long(b, ids, (int)n));
    if (ids != few) free(ids);
    return ok;
}

// The cache key of n <= 23 bytes at s, of which `readable` >= n may be read. Little-endian.
void bpe_cache_key(uint64_t key[3], const char *s, size_t n, size_t readable) {
    if (readable >= 24) {
        memcpy(key, s, 24);
        if (n < 8) {
            key[0] &= ((uint64_t)1 << 8 * n) - 1;
            key[1] = key[2] = 0;
        } else if (n < 16) {
            key[1] &= ((uint64_t)1 << 8 * (n - 8)) - 1;
            key[2] = 0;
        } else key[2] &= ((uint64_t)1 << 8 * (n - 16)) - 1;
    } else {
        key[0] = key[1] = key[2] = 0;
        memcpy(key, s, n);
    }
    key[2] |= (uint64_t)n << 56;
}

// As bpe_encode_uncached, through the cache.
bool bpe_encode(Bpe *b, IntVec *out, const char *s, size_t n, size_t readable, Error *err) {
    if (n > TOKENIZER_CACHE_BYTES) return bpe_encode_uncached(b, out, s, n, err);
    uint64_t key[3];
    bpe_cache_key(key, s, n, readable);
    size_t home =
        bpe_mix(key[0] * 0x9E3779B97F4A7C15u + key[1] * 0xC2B2AE3D27D4EB4Fu + key[2] * 0x165667B19E3779F9u) >> 20;
    BpeCacheSlot *slot = NULL;
    for (size_t probe = 0; probe < 4; probe++) {
        slot = &b->cache[(home + probe) % TOKENIZER_CACHE_SLOTS];
        if (slot->key[0] == key[0] && slot->key[1] == key[1] && slot->key[2] == key[2]) {
            bpe_push_all(out, slot->ids, slot->n);
            return true;
        }
        if (slot->key[2] == 0) break;
    }
    int before = out->n;
    if (!bpe_encode_uncached(b, out, s, n, err)) return false;
    int count = out->n - before;
    if (count <= TOKENIZER_CACHE_IDS) {
        if (slot->key[2] != 0) slot = &b->cache[home % TOKENIZER_CACHE_SLOTS]; // all four taken: evict the first
        memcpy(slot->key, key, sizeof key);
        memcpy(slot->ids, out->v + before, (size_t)count * sizeof(int));
        slot->n = count;
    }
    return true;
}

#endif
