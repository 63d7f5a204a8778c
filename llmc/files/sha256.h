/*
SHA-256 (FIPS 180-4) of bytes, files and model folders, as hexadecimal text: how a result says which model, vectors and
data it was made with.
*/
#ifndef LLMC_FILES_SHA256_H
#define LLMC_FILES_SHA256_H

#if defined __x86_64__
#include <cpuid.h>
#include <immintrin.h> // sha256_blocks_sha_ni
#endif
#include "llmc/utils/utils.h" // Error, fail, Str, warn

#define SHA256_HEX 65            // bytes of a digest as text, its NUL included
#define SHA256_PIECE (64u << 20) // bytes: a larger file is hashed in pieces of so many, by all threads

typedef struct {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} Sha256;

static inline uint32_t sha256_turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// Appends n blocks of 64 bytes: written out in C.
static void sha256_blocks_plain(uint32_t h[8], const unsigned char *p, size_t n_blocks) {
    for (; n_blocks > 0; n_blocks--, p += 64) {
        uint32_t w[64], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], last = h[7];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
        for (int i = 16; i < 64; i++) {
            const uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (sha256_turn(x, 7) ^ sha256_turn(x, 18) ^ x >> 3) + w[i - 7] +
                   (sha256_turn(y, 17) ^ sha256_turn(y, 19) ^ y >> 10);
        }
        for (int i = 0; i < 64; i++) {
            const uint32_t t = last + (sha256_turn(e, 6) ^ sha256_turn(e, 11) ^ sha256_turn(e, 25)) +
                               (g ^ (e & (f ^ g))) + sha256_k[i] + w[i];
            const uint32_t u =
                (sha256_turn(a, 2) ^ sha256_turn(a, 13) ^ sha256_turn(a, 22)) + ((a & b) | (c & (a | b)));
            last = g;
            g = f;
            f = e;
            e = d + t;
            d = c;
            c = b;
            b = a;
            a = t + u;
        }
        const uint32_t sums[8] = {a, b, c, d, e, f, g, last};
        for (int i = 0; i < 8; i++) h[i] += sums[i];
    }
}

#if defined __x86_64__
// The same by the instructions of x86-64 CPUs that have them (Intel's SHA Extensions; SSSE3 and SSE4.1 to order bytes),
// four rounds at a time. Their order of the state is a b e f, c d g h, from the highest number down.
__attribute__((target("sha,ssse3,sse4.1"))) static void sha256_blocks_sha_ni(uint32_t h[8], const unsigned char *p,
                                                                             size_t n_blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
    __m128i *const state = (__m128i *)(void *)h;
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(state), 0xb1),
                  efgh = _mm_shuffle_epi32(_mm_loadu_si128(state + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, efgh, 8), cdgh = _mm_blend_epi16(efgh, badc, 0xf0);
    for (; n_blocks > 0; n_blocks--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)p + i), big_endian);
#pragma GCC unroll 16 // so that w lies in registers
        for (int i = 0; i < 16; i++) {
            __m128i *now = &w[i % 4], next = w[(i + 1) % 4], last = w[(i + 3) % 4];
            const __m128i sums =
                _mm_add_epi32(*now, _mm_loadu_si128((const __m128i *)(const void *)(sha256_k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sums);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sums, 0x0e));
            const __m128i seven = _mm_alignr_epi8(last, w[(i + 2) % 4], 4); // w[t - 7]
            *now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*now, next), seven), last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(state + 1, _mm_alignr_epi8(dchg, feba, 8));
}

// Whether this CPU has them. Asked once: in a virtual machine each answer takes microseconds.
static bool sha256_has_sha_ni(void) {
    static int known; // 1: no, 2: yes
    unsigned a, b, c, d, b7;
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!answer) {
        const bool order = __get_cpuid(1, &a, &b, &c, &d) && (c >> 9 & 1) && (c >> 19 & 1); // SSSE3, SSE4.1
        answer = 1 + (order && __get_cpuid_count(7, 0, &a, &b7, &c, &d) && (b7 >> 29 & 1));
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }
    return answer == 2;
}
#endif

static void sha256_blocks(uint32_t h[8], const unsigned char *p, size_t n_blocks) {
#if defined __x86_64__
    if (sha256_has_sha_ni()) {
        sha256_blocks_sha_ni(h, p, n_blocks);
        return;
    }
#endif
    sha256_blocks_plain(h, p, n_blocks);
}

static void sha256_begin(Sha256 *s) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(s, 0, sizeof *s);
    memcpy(s->h, start, sizeof start);
}

static void sha256_add(Sha256 *s, const void *data, size_t n) {
    const unsigned char *p = (const unsigned char *)data;
    const size_t held = (size_t)(s->bytes % 64), fill = held + n < 64 ? n : 64 - held;
    s->bytes += n;
    if (held) {
        memcpy(s->block + held, p, fill);
        if (held + fill < 64) return;
        sha256_blocks(s->h, s->block, 1);
        p += fill;
        n -= fill;
    }
    sha256_blocks(s->h, p, n / 64);
    memcpy(s->block, p + n / 64 * 64, n % 64);
}

static void sha256_end(Sha256 *s, unsigned char digest[32]) {
    const uint64_t bits = s->bytes * 8;
    const unsigned char one = 0x80, zeros[64] = {0};
    unsigned char length[8];
    sha256_add(s, &one, 1);
    sha256_add(s, zeros, (size_t)((120 - s->bytes % 64) % 64));
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, length, 8);
    for (int i = 0; i < 32; i++) digest[i] = (unsigned char)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

static void sha256_text(char hex[SHA256_HEX], const unsigned char digest[32]) {
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static inline void sha256_bytes(char hex[SHA256_HEX], const void *data, size_t n) {
    Sha256 s;
    unsigned char digest[32];
    sha256_begin(&s);
    sha256_add(&s, data, n);
    sha256_end(&s, digest);
    sha256_text(hex, digest);
}

// Of n bytes of a file from `from` on. False if they cannot be read.
static bool sha256_part(unsigned char digest[32], int fd, off_t from, size_t n) {
    Sha256 s;
    sha256_begin(&s);
    char *chunk = (char *)xmalloc(1 << 20);
    ssize_t got = 1;
    for (size_t done = 0; done < n && got > 0; done += (size_t)(got > 0 ? got : 0)) {
        got = pread(fd, chunk, n - done < 1 << 20 ? n - done : 1 << 20, from + (off_t)done);
        if (got > 0) sha256_add(&s, chunk, (size_t)got);
    }
    free(chunk);
    sha256_end(&s, digest);
    return got > 0;
}

// What sha256sum prints of a file of up to 64 MiB; of a larger one, that of the 32-byte digests of its pieces of 64
// MiB, one after another.
static inline bool sha256_file(char hex[SHA256_HEX], const char *path, Error *err) {
    struct stat info;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &info) != 0) {
        const int why = errno;
        if (fd >= 0) close(fd);
        return fail(err, EXIT_RUN, "cannot open %s: %s", path, strerror(why));
    }
    const size_t bytes = (size_t)info.st_size, n = bytes > SHA256_PIECE ? (bytes + SHA256_PIECE - 1) / SHA256_PIECE : 1;
    unsigned char *digests = (unsigned char *)xmalloc(n * 32);
    bool ok = true;
    #pragma omp parallel for schedule(dynamic) reduction(&& : ok) if (n > 1)
    for (size_t i = 0; i < n; i++) {
        const size_t from = i * (size_t)SHA256_PIECE;
        ok =
            sha256_part(digests + 32 * i, fd, (off_t)from, bytes - from < SHA256_PIECE ? bytes - from : SHA256_PIECE) &&
            ok;
    }
    close(fd);
    if (n == 1) sha256_text(hex, digests);
    else sha256_bytes(hex, digests, n * 32);
    free(digests);
    return ok || fail(err, EXIT_RUN, "cannot read %s", path);
}

static int sha256_by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Of a folder as Hugging Face has it: of the lines "digest  name" of its .json and .safetensors files, sorted by name.
//                                                           What training
// alone needs (optimizer.safetensors, trainer_state.json) is left out.
static inline bool sha256_folder(char hex[SHA256_HEX], const char *path, Error *err) {
    DIR *dir = opendir(path);
    if (!dir) return fail(err, EXIT_RUN, "cannot read the folder %s: %s", path, strerror(errno));
    char **names = NULL;
    size_t n = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        const char *end = strrchr(e->d_name, '.');
        if (!end || e->d_name[0] == '.' || (strcmp(end, ".json") != 0 && strcmp(end, ".safetensors") != 0)) continue;
        if (strcmp(e->d_name, "optimizer.safetensors") == 0 || strcmp(e->d_name, "trainer_state.json") == 0) continue;
        names = (char **)xrealloc(names, (n + 1) * sizeof *names);
        names[n++] = xstrdup(e->d_name);
    }
    closedir(dir);
    if (n > 1) qsort(names, n, sizeof *names, sha256_by_name);
    Str lines = {0}, file = {0};
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        file.n = 0;
        str_printf(&file, "%s/%s", path, names[i]);
        ok = ok && sha256_file(hex, file.s, err);
        str_printf(&lines, "%s  %s\n", hex, names[i]);
        free(names[i]);
    }
    sha256_bytes(hex, lines.s ? lines.s : "", lines.n);
    free(names);
    str_free(&lines);
    str_free(&file);
    return ok;
}

#endif
