// A function that no level owns, compiled with the flags of each: dev/test/strays.sh must find every one of them.
#include <stddef.h>

void everyone(float *y, const float *x, const float *z, size_t n);
void everyone(float *y, const float *x, const float *z, size_t n) {
#if defined __AMX_BF16__
    __asm__ volatile("tdpbf16ps %tmm0, %tmm1, %tmm2");
#elif defined __AVX512BF16__
    __asm__ volatile("vdpbf16ps %zmm0, %zmm1, %zmm2");
#elif defined __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
    __asm__ volatile("bfmmla v0.4s, v1.8h, v2.8h" ::: "v0");
#endif
    for (size_t i = 0; i < n; i++) y[i] += x[i] * z[i]; // vector instructions of x86 from here on
}
