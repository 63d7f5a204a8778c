/*
Matrix products by cuBLASLt: bf16 inputs, fp32 sums and outputs. A weight [N,K], row by row, is the column-major matrix K x N with
leading dimension K, so that

    forward   y[T,N]  = x W^T + bias    as  y (N x T) = W^T (N x K) x (K x T), the bias as the product's epilogue
    backward  dx[T,K] = dy W            as dx (K x T) = W (K x N) dy (N x T)

What cuBLASLt chooses depends on the shape, so the bits of a row may depend on how many rows there are: unlike the CPU's
products these are not batch-invariant. The choice for a shape is made once and kept.
*/
#ifndef LLMC_CUDA_MATMUL_CUH
#define LLMC_CUDA_MATMUL_CUH

#include <cublasLt.h>

#include "llmc/cuda/memory.cuh"

#define CUBLAS_CHECK(call)                                                                                        \
    do {                                                                                                          \
        cublasStatus_t cublas_status_ = (call);                                                                   \
        if (cublas_status_ != CUBLAS_STATUS_SUCCESS) cuda_fail(#call, cublasLtGetStatusString(cublas_status_), __FILE__, __LINE__); \
    } while (0)

static cublasLtHandle_t cublas_handle;
static void *cublas_workspace;
static size_t cublas_workspace_bytes;

static void cuda_matmul_init(void) {
    CUBLAS_CHECK(cublasLtCreate(&cublas_handle));
    cublas_workspace_bytes = (size_t)(cuda_major >= 9 ? 32 : 8) << 20; // Hopper's kernels want more
    cublas_workspace = cuda_alloc(cublas_workspace_bytes);
}

// ----------------------------------------------------------------------------
// weights: bf16 on the device. The embedding matrix is there once, also where it is the output matrix too.

static struct { const void *file; void *there; } cuda_embedding;

// count elements of `raw` from `first` on, as bf16 (round to nearest even) where they are not already.
static void weight_upload(bf16 *to, const RawTensor *raw, size_t count) {
    const size_t piece = (size_t)1 << 20;
    bf16 *rounded = (bf16 *)malloc(piece * sizeof(bf16));
    if (!rounded) cuda_fail("loading a weight", "out of memory on the host", __FILE__, __LINE__);
    for (size_t first = 0; first < count; first += piece) {
        const size_t n = count - first < piece ? count - first : piece;
        if (raw->dtype == DTYPE_BF16) memcpy(rounded, (const bf16 *)raw->data + first, n * sizeof(bf16));
        if (raw->dtype == DTYPE_F32) for (size_t i = 0; i < n; i++) rounded[i] = __float2bfloat16(((const float *)raw->data)[first + i]);
        if (raw->dtype == DTYPE_F16) for (size_t i = 0; i < n; i++) rounded[i] = __float2bfloat16(__half2float(((const __half *)raw->data)[first + i]));
        cuda_upload(to + first, rounded, n * sizeof(bf16));
    }
    free(rounded);
}

static void cuda_weight_load(Weight *w, const RawTensor *raw, int n_raw) {
    memset(w, 0, sizeof *w);
    w->K = (int)raw[0].shape[1];
    w->n_raw = n_raw;
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    if (n_raw == 1 && raw->dtype == DTYPE_BF16 && raw->data == cuda_embedding.file) {
        w->data = cuda_embedding.there;
        return;
    }
    bf16 *to = (bf16 *)(w->data = cuda_alloc((size_t)w->N * w->K * sizeof(bf16)));
    for (int i = 0; i < n_raw; i++) {
        const size_t count = (size_t)raw[i].shape[0] * w->K;
        weight_upload(to, &raw[i], count);
        to += count;
    }
}

static void cuda_weight_free(Weight *w) {
    if (w->data && w->data != cuda_embedding.there) cuda_release(w->data);
}

static RawTensor cuda_embedding_load(const RawTensor *file) {
    RawTensor wte = *file;
    const size_t bytes = (size_t)file->shape[0] * (size_t)file->shape[1] * dtype_bytes(file->dtype);
    void *there = cuda_alloc(bytes);
    cuda_upload(there, file->data, bytes);
    wte.data = there;
    cuda_embedding.file = file->data;
    cuda_embedding.there = there;
    return wte;
}

static void cuda_embedding_free(RawTensor *wte) {
    if (wte->data == cuda_embedding.there) cuda_embedding.file = cuda_embedding.there = NULL;
    cuda_release((void *)wte->data);
}

// ----------------------------------------------------------------------------
// products

// What is asked of cuBLASLt: equal keys get the same kernel.
typedef struct {
    int rows, columns, inner; // of the column-major result, and the length of the sums
    bool transposed, bias;
    unsigned alignment[3];    // of weight, input, output: bytes, up to 256
} MatmulKey;

typedef struct {
    MatmulKey key;
    bool used;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t weight, input, output;
    cublasLtMatmulAlgo_t algorithm;
} MatmulPlan;

#define MATMUL_PLANS 4096 // a power of two; one that falls on another's place takes it

static unsigned matmul_alignment(const void *p) {
    unsigned a = 256;
    while (((uintptr_t)p & (a - 1)) != 0) a /= 2;
    return a;
}

static void matmul_plan_free(MatmulPlan *p) {
    CUBLAS_CHECK(cublasLtMatmulDescDestroy(p->product));
    cublasLtMatrixLayout_t all[3] = {p->weight, p->input, p->output};
    for (int i = 0; i < 3; i++) CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(all[i]));
    p->used = false;
}

static void matmul_plan_make(MatmulPlan *p, const MatmulKey *k) {
    p->key = *k;
    p->used = true;
    const cublasOperation_t op = k->transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op));
    if (k->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const cudaDataType_t type = CUDA_R_32F;
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
    }
    const uint64_t m = (uint64_t)k->rows, n = (uint64_t)k->columns, inner = (uint64_t)k->inner;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->weight, CUDA_R_16BF, k->transposed ? inner : m, k->transposed ? m : inner, k->transposed ? k->inner : k->rows));
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->input, CUDA_R_16BF, inner, n, k->inner));
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->output, CUDA_R_32F, m, n, k->rows));

    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &cublas_workspace_bytes, sizeof cublas_workspace_bytes));
    const struct { cublasLtMatmulPreferenceAttributes_t attribute; uint32_t bytes; } alignments[4] = {
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, k->alignment[0]}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, k->alignment[1]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, k->alignment[2]}, {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, k->alignment[2]}};
    for (int i = 0; i < 4; i++) CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, alignments[i].attribute, &alignments[i].bytes, sizeof(uint32_t)));
    CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(cublas_handle, p->product, p->weight, p->input, p->output, p->output, preference, 1, &found, &n_found));
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    if (n_found == 0) cuda_fail("cublasLtMatmulAlgoGetHeuristic", "no kernel for this shape", __FILE__, __LINE__);
    p->algorithm = found.algo;
}

static MatmulPlan *matmul_plan(const MatmulKey *k) {
    static MatmulPlan plans[MATMUL_PLANS];
    uint64_t hash = 14695981039346656037u; // FNV-1a over the numbers
    const unsigned parts[8] = {(unsigned)k->rows, (unsigned)k->columns, (unsigned)k->inner, k->transposed, k->bias, k->alignment[0], k->alignment[1], k->alignment[2]};
    for (int i = 0; i < 8; i++) hash = (hash ^ parts[i]) * 1099511628211u;
    MatmulPlan *p = &plans[(hash ^ hash >> 32) % MATMUL_PLANS];
    const MatmulKey *h = &p->key;
    if (p->used && h->rows == k->rows && h->columns == k->columns && h->inner == k->inner && h->transposed == k->transposed && h->bias == k->bias &&
        memcmp(h->alignment, k->alignment, sizeof h->alignment) == 0)
        return p;
    if (p->used) matmul_plan_free(p);
    matmul_plan_make(p, k);
    return p;
}

static void matmul(float *out, const bf16 *in, const bf16 *weight, const float *bias, MatmulKey key) {
    const float one = 1, zero = 0;
    key.bias = bias != NULL;
    const unsigned alignment[3] = {matmul_alignment(weight), matmul_alignment(in), matmul_alignment(out)};
    memcpy(key.alignment, alignment, sizeof alignment);
    MatmulPlan *p = matmul_plan(&key);
    if (bias) CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    CUBLAS_CHECK(cublasLtMatmul(cublas_handle, p->product, &one, weight, p->weight, in, p->input, &zero, out, p->output, out, p->output,
                                &p->algorithm, cublas_workspace, cublas_workspace_bytes, cuda_stream));
}

static void cuda_matmul_forward(float *y, const act *x, const Weight *w, const float *bias, int T) {
    if (T > 0) matmul(y, (const bf16 *)x, (const bf16 *)w->data, bias, MatmulKey{w->N, T, w->K, true, false, {}});
}

static void cuda_matmul_backward(float *dx, const act *dy, const Weight *w, int T) {
    if (T > 0) matmul(dx, (const bf16 *)dy, (const bf16 *)w->data, NULL, MatmulKey{w->K, T, w->N, false, false, {}});
}

#endif
