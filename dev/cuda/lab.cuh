/*
What every file of the kernel lab shares: its command line, arrays with a host and a device side, the comparison with a
reference, time and the line that is printed. A lab file computes the reference on the CPU, in double, with a tolerance
for each element, says where its outputs are (lab_check), and runs its versions (lab_run).

    build/NAME [version, 0: all of them] [sizes]

Emulated (dev/cuda_on_cpu) no times are printed: nothing about speed carries over to a GPU.
*/
#ifndef DEV_CUDA_LAB_CUH
#define DEV_CUDA_LAB_CUH

// A lab file takes some of the functions of a production file, which are static.
#ifdef __NVCC__
#pragma nv_diag_suppress 177
#else
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#include <math.h>

#include "llmc/cuda/memory.cuh"

#ifdef CUDA_ON_CPU
#define LAB_SIZE(gpu, emulated) emulated
#else
#define LAB_SIZE(gpu, emulated) gpu
#endif

// ----------------------------------------------------------------------------
// command line and arrays

static int lab_only;           // the version to run, 0: all
static uint32_t lab_state = 1; // of the random numbers
static bool lab_failed;
static float lab_first_ms; // the time of the first version

// Reads argv: a version up to n_versions, then up to n_sizes numbers, named by `names`, into sizes[], which holds the
// defaults. Makes the stream and prints what is run.
static void lab_begin(int argc, char **argv, int n_versions, const char *names, int *sizes, int n_sizes) {
    for (int i = 1; i < argc; i++) {
        char *end;
        const long x = strtol(argv[i], &end, 10);
        if (i > 1 + n_sizes || end == argv[i] || *end || x < (i > 1) || x > (i == 1 ? n_versions : 1 << 20)) {
            fprintf(stderr, "usage: %s [version, 1 to %d; 0: all of them] [%s]\n  -> found \"%s\"\n", argv[0],
                    n_versions, names, argv[i]);
            exit(2);
        }
        *(i == 1 ? &lab_only : &sizes[i - 2]) = (int)x;
    }
    CUDA_CHECK(cudaSetDevice(0));
    CUDA_CHECK(cudaGetDeviceProperties(&cuda.device, 0));
    CUDA_CHECK(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking));
    printf("%s =", names);
    for (int i = 0; i < n_sizes; i++) printf(" %d", sizes[i]);
    printf("%s%s\n", LAB_SIZE(", ", ", emulated: no times"), LAB_SIZE(cuda.device.name, ""));
}

template <typename Number> struct LabArray {
    Number *host, *device;
    size_t n;
};

// Memory on both sides; the host's is zero, nobody has written the device's.
template <typename Number> static LabArray<Number> lab_array(size_t n) {
    LabArray<Number> a = {(Number *)calloc(n, sizeof(Number)), NULL, n};
    if (!a.host)
        cuda_failed("the lab's arrays", "out of memory on the host", "choose smaller sizes", __FILE__, __LINE__);
    CUDA_CHECK(cudaMalloc((void **)&a.device, n * sizeof(Number)));
    return a;
}

template <typename Number> static void lab_upload(const LabArray<Number> &a) {
    CUDA_CHECK(cudaMemcpyAsync(a.device, a.host, a.n * sizeof(Number), cudaMemcpyHostToDevice, cuda_stream));
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
}

// Uniform in [-1, 1).
static float lab_uniform(void) {
    lab_state = lab_state * 1664525u + 1013904223u;
    return (float)(int32_t)lab_state * 0x1p-31f;
}

static void lab_set(float *to, float x) { *to = x; }
static void lab_set(bf16 *to, float x) { *to = __float2bfloat16(x); }
static double lab_get(const float *x) { return *x; }
static double lab_get(const bf16 *x) { return __bfloat162float(*x); }

// n numbers, uniform in [-scale, scale), on both sides.
template <typename Number> static LabArray<Number> lab_random(size_t n, float scale) {
    LabArray<Number> a = lab_array<Number>(n);
    for (size_t i = 0; i < n; i++) lab_set(&a.host[i], scale * lab_uniform());
    lab_upload(a);
    return a;
}

// The tolerance of a number that is rounded to bf16 once: half a unit in the last of 8 places, and a sixteenth more for
// the fp32 before it.
static double lab_bf16_off(double x) { return 0x1.1p-8 * fabs(x) + 1e-6; }

// n numbers of the reference.
static double *lab_doubles(size_t n) {
    double *x = (double *)calloc(n ? n : 1, sizeof(double));
    if (!x) cuda_failed("the lab's reference", "out of memory on the host", "choose smaller sizes", __FILE__, __LINE__);
    return x;
}

// ----------------------------------------------------------------------------
// the comparison: |device - want| <= tolerance, element by element; a NaN fails

#define LAB_CHECKS 4

struct LabCheck {
    const char *name;
    void *device;
    size_t n, bytes; // elements, and bytes of one
    const double *want, *tolerance;
    const size_t *at; // n_at places that the reference knows, NULL: all n
    size_t n_at;
    const void *before; // what the output holds before a run (`+=`), NULL: NaN
};

static LabCheck lab_checks[LAB_CHECKS];
static int lab_n_checks;

// From here on lab_run compares these outputs, and no others.
static void lab_no_checks(void) { lab_n_checks = 0; }

template <typename Number>
static LabCheck *lab_check(const char *name, const LabArray<Number> &a, const double *want, const double *tolerance) {
    lab_checks[lab_n_checks] = {name, a.device, a.n, sizeof(Number), want, tolerance, NULL, 0, NULL};
    return &lab_checks[lab_n_checks++];
}

static void lab_prepare(void) {
    for (int i = 0; i < lab_n_checks; i++) {
        const LabCheck *c = &lab_checks[i];
        if (c->before)
            CUDA_CHECK(cudaMemcpyAsync(c->device, c->before, c->n * c->bytes, cudaMemcpyHostToDevice, cuda_stream));
        else CUDA_CHECK(cudaMemsetAsync(c->device, 0xFF, c->n * c->bytes, cuda_stream));
    }
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
}

// The largest error in units of its tolerance; *hash gets the output's bits (FNV-1a).
static double lab_compare(const LabCheck *c, uint64_t *hash) {
    unsigned char *got = (unsigned char *)malloc(c->n * c->bytes);
    if (!got)
        cuda_failed("the lab's comparison", "out of memory on the host", "choose smaller sizes", __FILE__, __LINE__);
    CUDA_CHECK(cudaMemcpyAsync(got, c->device, c->n * c->bytes, cudaMemcpyDeviceToHost, cuda_stream));
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
    for (size_t i = 0; i < c->n * c->bytes; i++) *hash = (*hash ^ got[i]) * 1099511628211u;
    double worst = 0;
    size_t wrong = 0, worst_at = 0;
    for (size_t i = 0; i < (c->at ? c->n_at : c->n); i++) {
        const size_t at = c->at ? c->at[i] : i;
        const double x = c->bytes == sizeof(float) ? lab_get((const float *)got + at) : lab_get((const bf16 *)got + at);
        const double error = fabs(x - c->want[i]) / c->tolerance[i];
        if (!(error <= 1)) wrong++;
        if (!(error <= worst)) {
            worst = error;
            worst_at = i;
        }
    }
    if (wrong > 0) {
        const size_t at = c->at ? c->at[worst_at] : worst_at;
        const double x = c->bytes == sizeof(float) ? lab_get((const float *)got + at) : lab_get((const bf16 *)got + at);
        printf("   WRONG: %s: %zu elements, worst [%zu]: found %.9g, expected %.9g, tolerance %.2g\n", c->name, wrong,
               at, x, c->want[worst_at], c->tolerance[worst_at]);
        lab_failed = true;
    }
    free(got);
    return worst;
}

// ----------------------------------------------------------------------------
// a version

// Milliseconds, the best of 20 runs. Arrays larger than the L2 cache (50 MB on an H100) come from memory each time,
// smaller ones do not.
static float lab_time(void (*run)(void)) {
    float best = INFINITY, ms;
    cudaEvent_t from, to;
    CUDA_CHECK(cudaEventCreate(&from));
    CUDA_CHECK(cudaEventCreate(&to));
    for (int i = 0; i < 20; i++) {
        CUDA_CHECK(cudaEventRecord(from, cuda_stream));
        run();
        CUDA_CHECK(cudaEventRecord(to, cuda_stream));
        CUDA_CHECK(cudaEventSynchronize(to));
        CUDA_CHECK(cudaEventElapsedTime(&ms, from, to));
        if (ms < best) best = ms;
    }
    CUDA_CHECK(cudaEventDestroy(from));
    CUDA_CHECK(cudaEventDestroy(to));
    return best;
}

// Version `number` of the kernel: runs, compares, times. bytes and flops: what the operation needs at least. fixed: the
// same bits under every schedule; their hash is printed.
static void lab_run(int number, const char *idea, void (*run)(void), double bytes, double flops, bool fixed = true) {
    if (lab_only && lab_only != number) return;
    lab_prepare();
    run();
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
    double worst = 0;
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < lab_n_checks; i++) {
        const double error = lab_compare(&lab_checks[i], &hash);
        if (!(error <= worst)) worst = error;
    }
    printf("%d  %-52s ", number, idea);
    if (LAB_SIZE(true, false)) {
        const float ms = lab_time(run);
        if (number == 1 || lab_only) lab_first_ms = ms;
        printf("%9.4f ms %8.1f GB/s %7.2f TFLOP/s %7.1fx  ", ms, bytes / ms * 1e-6, flops / ms * 1e-9,
               lab_first_ms / ms);
    }
    if (fixed) printf("error %.2f of the tolerance, bits %016llx\n", worst, (unsigned long long)hash);
    else printf("error %s the tolerance, bits vary\n", worst <= 1 ? "within" : "beyond");
    fflush(stdout);
}

// The exit status: 1 after a wrong result.
static int lab_end(void) {
    CUDA_CHECK(cudaDeviceSynchronize());
    return lab_failed;
}

#endif
