/*
bf16 and fp16, and what they are in fp32.

Always inlined: the kernels of every instruction set (cpu/level.c) convert numbers too, and a copy that was compiled for
one of them must not be what a program runs elsewhere.
*/
#ifndef LLMC_UTILS_NUMBERS_H
#define LLMC_UTILS_NUMBERS_H

#include <stdint.h>
#include <string.h> // memcpy

#define NUMBERS_INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16_t; // the upper half of an fp32

NUMBERS_INLINE float bf16_to_f32(bf16_t x) {
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// Round to nearest even; NaN stays NaN.
NUMBERS_INLINE bf16_t f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (bf16_t)((u >> 16) | 0x40);
    return (bf16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}

// IEEE half, subnormals included.
NUMBERS_INLINE float f16_to_f32(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = (x >> 10) & 31, mantissa = x & 0x3FF;
    if (exponent == 0) {
        float f = (float)mantissa * 0x1p-24f; // exact: 10 bits
        return sign ? -f : f;
    }
    uint32_t u = sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (mantissa << 13);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

#endif
