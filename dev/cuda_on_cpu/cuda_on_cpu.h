/*
CUDA C++ for g++: what nvcc knows by itself, as a header. A kernel compiled with it is an ordinary function;
cuda_on_cpu.cpp runs it once per thread, on one CPU thread, and checks what it does. README.md says how to compile and
what is found.

Everything here is the device's side: indices, barriers, shuffles, atomics, mathematics. The host's side (cudaMalloc,
...) has its types and prototypes from the real toolkit and its bodies in cuda_on_cpu.cpp.
*/
#ifndef CUDA_ON_CPU_H
#define CUDA_ON_CPU_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#include <cuda_runtime.h>
#include <cuda_bf16.h>

#ifdef __CUDACC__
#error "cuda_on_cpu.h is for g++ -DCUDA_ON_CPU; nvcc needs nothing from it"
#endif

// Not a local variable, which is what an empty macro would make of it.
#undef __shared__
#define __shared__ write_SHARED_or_DYN_SHARED_of_launch_cuh_instead
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __builtin_assume
#define __builtin_assume(condition) ((void)0)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ----------------------------------------------------------------------------
// For tests: the order in which threads run, and what was found so far

extern "C" {
// Order of blocks and threads from the next kernel on: "forward", "reverse" or "random:SEED". 0 if it is none of these.
int cuda_on_cpu_schedule(const char *order);
// Work runs only when it is waited for (1) or at once (0).
void cuda_on_cpu_lazy(int lazy);
// cuBLASLt is as difficult as it may be (1) or as usual (0), see CUDA_ON_CPU_CUBLASLT; -1 only asks. What holds now.
int cuda_on_cpu_other_cublaslt(int other);
// Number of reports so far.
int cuda_on_cpu_reports(void);
}

namespace cuda_on_cpu {

// ----------------------------------------------------------------------------
// Launching

// A kernel with its arguments: what a launch puts into a stream, and a graph keeps.
struct Call {
    virtual void run() const = 0;
    virtual ~Call() {}
};
template <class... P> struct CallOf : Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    CallOf(void (*k)(P...), P... args) : kernel(k), arguments(args...) {}
    void run() const override { std::apply(kernel, arguments); }
};
void launch(const void *kernel, const char *name, dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
            const Call *call, size_t call_size); // call now belongs to the runtime

template <class... P> struct Launcher {
    void (*kernel)(P...);
    const char *name;
    dim3 grid, block;
    size_t smem;
    cudaStream_t stream;
    __forceinline__ void operator()(P... args) const {
        launch(reinterpret_cast<const void *>(kernel), name, grid, block, smem, stream,
               new CallOf<P...>(kernel, args...), sizeof(CallOf<P...>));
    }
};
template <class... P>
__forceinline__ Launcher<P...> launcher(void (*kernel)(P...), const char *name, dim3 grid, dim3 block, size_t smem,
                                        cudaStream_t stream) {
    return {kernel, name, grid, block, smem, stream};
}

// ----------------------------------------------------------------------------
// What the runtime does for a running thread

// The array of this block that the source line `site` declares; the first thread to come gets it made, filled with NaN.
void *shared_array(const void *site, const char *name, size_t size);
void *dynamic_shared();
template <class T> __forceinline__ T &shared(const void *site, const char *name) {
    return *static_cast<T *>(shared_array(site, name, sizeof(T)));
}

enum Barrier { BARRIER, BARRIER_OR, BARRIER_AND, BARRIER_COUNT };
// Waits for all threads of the block. site names the place in the source, NULL where it is not known.
int barrier(const void *site, Barrier kind, int value);

enum WarpOp {
    SYNCWARP,
    SHUFFLE,
    SHUFFLE_UP,
    SHUFFLE_DOWN,
    SHUFFLE_XOR,
    BALLOT,
    REDUCE_ADD,
    REDUCE_MIN_SIGNED,
    REDUCE_MIN,
    REDUCE_MAX_SIGNED,
    REDUCE_MAX,
    REDUCE_AND,
    REDUCE_OR,
    REDUCE_XOR,
    MATRIX_LOAD,
    MATRIX_STORE,
    MATRIX_MULTIPLY,
    MATRIX_FILL
};
// Waits for the lanes in mask; all of them must come with the same op and mask. The result is this lane's.
uint64_t warp(WarpOp op, unsigned mask, uint64_t value, int argument, int width);

// For shadow/mma.h. This lane's parts of the fragments, m x k, k x n and twice m x n.
struct MatrixProduct {
    const __nv_bfloat16 *a, *b;
    const float *c;
    float *d;
    int m, n, k;
};
// Which element of a fragment (counted along the rows) is x[i] of a lane.
constexpr int fragment_element(unsigned lane, int i) { return i * 32 + int((lane * 13 + unsigned(i) * 7) % 32); }
// Reports an address or a leading dimension (elements of `size` bytes, at least `least`) that wmma does not take.
void check_fragment(const void *p, unsigned ld, size_t size, unsigned least);

// For code that uses cp.async through inline PTX, as the bodies of its functions on the CPU: starts a copy of 4, 8 or
// 16 bytes to shared memory (zeros where not valid); closes a group of this thread's copies; waits for all its groups
// but the `left` latest.
void copy_async(void *shared, const void *global, size_t size, bool valid);
void copies_commit();
void copies_wait(unsigned left);

enum AtomicOp {
    ATOMIC_ADD,
    ATOMIC_MIN,
    ATOMIC_MAX,
    ATOMIC_AND,
    ATOMIC_OR,
    ATOMIC_XOR,
    ATOMIC_EXCHANGE,
    ATOMIC_CAS,
    ATOMIC_INC,
    ATOMIC_DEC
};
enum AtomicType { ATOMIC_I32, ATOMIC_U32, ATOMIC_U64, ATOMIC_F32, ATOMIC_F64 };
// *address = op(*address, value); returns the old value. compare is for ATOMIC_CAS.
uint64_t atomic(AtomicOp op, AtomicType type, void *address, uint64_t value, uint64_t compare);
void fence(bool whole_device);
[[noreturn]] void trap();

// The build with checks announces itself before main.
void set_checked();
#if defined(__has_feature) // clang's way to say the same
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
static const bool checked_build = (set_checked(), true);
#endif

template <class T> __forceinline__ uint64_t bits_of(T value) {
    static_assert(sizeof(T) <= 8, "shuffles and atomics move at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> __forceinline__ T value_of(uint64_t bits) {
    T value;
    memcpy(static_cast<void *>(&value), &bits, sizeof value);
    return value;
}
template <class T> constexpr AtomicType atomic_type() {
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "no atomics of this type here");
    if (std::is_floating_point<T>::value) return sizeof(T) == 4 ? ATOMIC_F32 : ATOMIC_F64;
    return sizeof(T) == 8 ? ATOMIC_U64 : std::is_signed<T>::value ? ATOMIC_I32 : ATOMIC_U32;
}
template <class T> __forceinline__ T smaller(T a, T b) { return b < a || a != a ? b : a; }
template <class T> __forceinline__ T larger(T a, T b) { return a < b || a != a ? b : a; }
template <class T> struct Same {
    using type = T;
}; // a parameter that takes no part in finding T
template <class T> using SameType = typename Same<T>::type;

} // namespace cuda_on_cpu

// One address for each place in the source, however often the compiler copies the code.
#define CUDA_ON_CPU_SITE \
    ({ \
    static char site; \
    static_cast<const void *>(&site); \
    })

#define LAUNCH(kernel, grid, block, smem, stream) cuda_on_cpu::launcher(kernel, #kernel, grid, block, smem, stream)
#define SHARED(type, name, ...) auto &name = cuda_on_cpu::shared<type __VA_ARGS__>(CUDA_ON_CPU_SITE, #name)
#define DYN_SHARED(type, name) type *name = static_cast<type *>(cuda_on_cpu::dynamic_shared())

// The toolkit has this form for nvcc only.
template <class... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

// ----------------------------------------------------------------------------
// Barriers, fences, warps

#define __syncthreads() ((void)cuda_on_cpu::barrier(CUDA_ON_CPU_SITE, cuda_on_cpu::BARRIER, 0))
#define __syncthreads_or(predicate) cuda_on_cpu::barrier(CUDA_ON_CPU_SITE, cuda_on_cpu::BARRIER_OR, (predicate) != 0)
#define __syncthreads_and(predicate) cuda_on_cpu::barrier(CUDA_ON_CPU_SITE, cuda_on_cpu::BARRIER_AND, (predicate) != 0)
#define __syncthreads_count(predicate) \
    cuda_on_cpu::barrier(CUDA_ON_CPU_SITE, cuda_on_cpu::BARRIER_COUNT, (predicate) != 0)
__forceinline__ void __syncwarp(unsigned mask = ~0u) { cuda_on_cpu::warp(cuda_on_cpu::SYNCWARP, mask, 0, 0, 32); }
__forceinline__ void __threadfence() { cuda_on_cpu::fence(true); }
__forceinline__ void __threadfence_system() { cuda_on_cpu::fence(true); }
__forceinline__ void __threadfence_block() { cuda_on_cpu::fence(false); }
__forceinline__ void __trap() { cuda_on_cpu::trap(); }
[[gnu::error("__activemask() depends on how the hardware happens to run: pass the mask of the lanes that you mean")]]
unsigned __activemask();

#define CUDA_ON_CPU_SHUFFLE(name, op, Argument) \
    template <class T> __forceinline__ T name(unsigned mask, T value, Argument argument, int width = 32) { \
        return cuda_on_cpu::value_of<T>( \
            cuda_on_cpu::warp(cuda_on_cpu::op, mask, cuda_on_cpu::bits_of(value), int(argument), width)); \
    }
CUDA_ON_CPU_SHUFFLE(__shfl_sync, SHUFFLE, int)
CUDA_ON_CPU_SHUFFLE(__shfl_up_sync, SHUFFLE_UP, unsigned)
CUDA_ON_CPU_SHUFFLE(__shfl_down_sync, SHUFFLE_DOWN, unsigned)
CUDA_ON_CPU_SHUFFLE(__shfl_xor_sync, SHUFFLE_XOR, int)
#undef CUDA_ON_CPU_SHUFFLE

__forceinline__ unsigned __ballot_sync(unsigned mask, int predicate) {
    return unsigned(cuda_on_cpu::warp(cuda_on_cpu::BALLOT, mask, predicate != 0, 0, 32));
}
__forceinline__ int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
__forceinline__ int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

#define CUDA_ON_CPU_REDUCE(name, T, op) \
    __forceinline__ T name(unsigned mask, T value) { \
        return T(cuda_on_cpu::warp(cuda_on_cpu::op, mask, unsigned(value), 0, 32)); \
    }
CUDA_ON_CPU_REDUCE(__reduce_add_sync, unsigned, REDUCE_ADD)
CUDA_ON_CPU_REDUCE(__reduce_add_sync, int, REDUCE_ADD)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, unsigned, REDUCE_MIN)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, int, REDUCE_MIN_SIGNED)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, unsigned, REDUCE_MAX)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, int, REDUCE_MAX_SIGNED)
CUDA_ON_CPU_REDUCE(__reduce_and_sync, unsigned, REDUCE_AND)
CUDA_ON_CPU_REDUCE(__reduce_or_sync, unsigned, REDUCE_OR)
CUDA_ON_CPU_REDUCE(__reduce_xor_sync, unsigned, REDUCE_XOR)
#undef CUDA_ON_CPU_REDUCE

// ----------------------------------------------------------------------------
// Atomics, loads and stores with a hint for the cache

#define CUDA_ON_CPU_ATOMIC(name, op) \
    template <class T> __forceinline__ T name(T *address, cuda_on_cpu::SameType<T> value) { \
        return cuda_on_cpu::value_of<T>(cuda_on_cpu::atomic(cuda_on_cpu::op, cuda_on_cpu::atomic_type<T>(), address, \
                                                            cuda_on_cpu::bits_of(value), 0)); \
    }
CUDA_ON_CPU_ATOMIC(atomicAdd, ATOMIC_ADD)
CUDA_ON_CPU_ATOMIC(atomicMin, ATOMIC_MIN)
CUDA_ON_CPU_ATOMIC(atomicMax, ATOMIC_MAX)
CUDA_ON_CPU_ATOMIC(atomicAnd, ATOMIC_AND)
CUDA_ON_CPU_ATOMIC(atomicOr, ATOMIC_OR)
CUDA_ON_CPU_ATOMIC(atomicXor, ATOMIC_XOR)
CUDA_ON_CPU_ATOMIC(atomicExch, ATOMIC_EXCHANGE)
CUDA_ON_CPU_ATOMIC(atomicInc, ATOMIC_INC)
CUDA_ON_CPU_ATOMIC(atomicDec, ATOMIC_DEC)
#undef CUDA_ON_CPU_ATOMIC
template <class T> __forceinline__ T atomicSub(T *address, cuda_on_cpu::SameType<T> value) {
    return atomicAdd(address, T(0) - value);
}
template <class T>
__forceinline__ T atomicCAS(T *address, cuda_on_cpu::SameType<T> compare, cuda_on_cpu::SameType<T> value) {
    return cuda_on_cpu::value_of<T>(cuda_on_cpu::atomic(cuda_on_cpu::ATOMIC_CAS, cuda_on_cpu::atomic_type<T>(), address,
                                                        cuda_on_cpu::bits_of(value), cuda_on_cpu::bits_of(compare)));
}

template <class T> __forceinline__ T __ldg(const T *p) { return *p; }
template <class T> __forceinline__ T __ldcs(const T *p) { return *p; }
template <class T> __forceinline__ T __ldcg(const T *p) { return *p; }
template <class T> __forceinline__ T __ldca(const T *p) { return *p; }
template <class T> __forceinline__ T __ldlu(const T *p) { return *p; }
template <class T> __forceinline__ T __ldcv(const T *p) { return *p; }
template <class T> __forceinline__ void __stcs(T *p, cuda_on_cpu::SameType<T> value) { *p = value; }
template <class T> __forceinline__ void __stcg(T *p, cuda_on_cpu::SameType<T> value) { *p = value; }
template <class T> __forceinline__ void __stwb(T *p, cuda_on_cpu::SameType<T> value) { *p = value; }
template <class T> __forceinline__ void __stwt(T *p, cuda_on_cpu::SameType<T> value) { *p = value; }

// ----------------------------------------------------------------------------
// Mathematics. The fast versions are exact here: the rounding of a GPU's special function unit is not imitated.

// CUDA's min and max, with its choice of types: other mixtures are ambiguous there, too. Of a NaN and a number, the
// number.
#define CUDA_ON_CPU_MIN_MAX(A, B, T) \
    __forceinline__ T min(A a, B b) { return cuda_on_cpu::smaller<T>(a, b); } \
    __forceinline__ T max(A a, B b) { return cuda_on_cpu::larger<T>(a, b); }
#define CUDA_ON_CPU_MIN_MAX_INTEGERS(T) \
    CUDA_ON_CPU_MIN_MAX(T, T, T) \
    CUDA_ON_CPU_MIN_MAX(unsigned T, unsigned T, unsigned T) \
    CUDA_ON_CPU_MIN_MAX(T, unsigned T, unsigned T) CUDA_ON_CPU_MIN_MAX(unsigned T, T, unsigned T)
CUDA_ON_CPU_MIN_MAX_INTEGERS(int)
CUDA_ON_CPU_MIN_MAX_INTEGERS(long)
CUDA_ON_CPU_MIN_MAX_INTEGERS(long long)
CUDA_ON_CPU_MIN_MAX(float, float, float)
CUDA_ON_CPU_MIN_MAX(double, double, double)
CUDA_ON_CPU_MIN_MAX(float, double, double)
CUDA_ON_CPU_MIN_MAX(double, float, double)
#undef CUDA_ON_CPU_MIN_MAX_INTEGERS
#undef CUDA_ON_CPU_MIN_MAX

__forceinline__ float rsqrtf(float x) { return 1.0f / sqrtf(x); }
__forceinline__ float __frsqrt_rn(float x) { return float(1.0 / sqrt(double(x))); }
__forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
__forceinline__ float __fsqrt_rn(float x) { return sqrtf(x); }
__forceinline__ float __fadd_rn(float x, float y) { return x + y; }
__forceinline__ float __fsub_rn(float x, float y) { return x - y; }
__forceinline__ float __fmul_rn(float x, float y) { return x * y; }
__forceinline__ float __fdiv_rn(float x, float y) { return x / y; }
__forceinline__ float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
__forceinline__ double __dadd_rn(double x, double y) { return x + y; }
__forceinline__ double __dsub_rn(double x, double y) { return x - y; }
__forceinline__ double __dmul_rn(double x, double y) { return x * y; }
__forceinline__ double __ddiv_rn(double x, double y) { return x / y; }
__forceinline__ double __dsqrt_rn(double x) { return sqrt(x); }
__forceinline__ double __drcp_rn(double x) { return 1.0 / x; }
__forceinline__ double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
__forceinline__ double rsqrt(double x) { return 1.0 / sqrt(x); }
__forceinline__ float __fdividef(float x, float y) { return x / y; }
__forceinline__ float __expf(float x) { return expf(x); }
__forceinline__ float __logf(float x) { return logf(x); }
__forceinline__ float __log2f(float x) { return log2f(x); }
__forceinline__ float __log10f(float x) { return log10f(x); }
__forceinline__ float __powf(float x, float y) { return powf(x, y); }
__forceinline__ float __sinf(float x) { return sinf(x); }
__forceinline__ float __cosf(float x) { return cosf(x); }
__forceinline__ void __sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
__forceinline__ float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; } // NaN becomes 0, as on the GPU

__forceinline__ unsigned __float_as_uint(float x) { return cuda_on_cpu::value_of<unsigned>(cuda_on_cpu::bits_of(x)); }
__forceinline__ int __float_as_int(float x) { return cuda_on_cpu::value_of<int>(cuda_on_cpu::bits_of(x)); }
__forceinline__ float __uint_as_float(unsigned x) { return cuda_on_cpu::value_of<float>(x); }
__forceinline__ float __int_as_float(int x) { return cuda_on_cpu::value_of<float>(unsigned(x)); }
__forceinline__ int __float2int_rn(float x) { return int(nearbyintf(x)); }
__forceinline__ int __float2int_rd(float x) { return int(floorf(x)); }
__forceinline__ int __float2int_ru(float x) { return int(ceilf(x)); }
__forceinline__ int __float2int_rz(float x) { return int(x); }
__forceinline__ unsigned __float2uint_rn(float x) { return unsigned(nearbyintf(x)); }
__forceinline__ float __double2float_rn(double x) { return float(x); }
__forceinline__ long long __double_as_longlong(double x) {
    return cuda_on_cpu::value_of<long long>(cuda_on_cpu::bits_of(x));
}
__forceinline__ double __longlong_as_double(long long x) {
    return cuda_on_cpu::value_of<double>(cuda_on_cpu::bits_of(x));
}
__forceinline__ float __int2float_rn(int x) { return float(x); }
__forceinline__ float __uint2float_rn(unsigned x) { return float(x); }
__forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
__forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
__forceinline__ int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
__forceinline__ int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
__forceinline__ unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
__forceinline__ unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
    return r;
}

// The exact a b + c rounded once: a product of bf16 is exact in double, and so is all but the last bits of the sum.
__forceinline__ __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __double2bfloat16(double(__bfloat162float(a)) * double(__bfloat162float(b)) + double(__bfloat162float(c)));
}
__forceinline__ __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

#endif
