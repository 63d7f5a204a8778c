// What test_bits.h makes of the operations' results on avx2, avx512 and neon.
#ifndef DEV_TEST_RECORDED_BITS_H
#define DEV_TEST_RECORDED_BITS_H

#include <stdint.h>

typedef struct {
    const char *what;
    uint64_t hash;
} RecordedBits;

#define BITS_RECORDS 7
static const RecordedBits recorded_bits[BITS_RECORDS] = {
    {"matmul_forward", 0xEA9B5E9981B53F27u},
    {"matmul_backward", 0xAC51195B7A1AE411u},
    {"rows", 0xBC3B926E2C172E5Bu},
    {"rank", 0xDE410FDA3668C15Du},
    {"attention 14 2 64", 0x5DF1CB547789C6F3u},
    {"attention 5 1 24", 0xC9007A644F7591CAu},
    {"output", 0x318F2376B847AB9Eu},
};

#endif
