/*
Weights on the device, and their products by cuBLASLt: bf16 times bf16, summed in fp32, into fp32.

A matrix that C stores by rows is its transpose to cuBLASLt, which stores by columns, so the products are asked for as

    forward   y^T[N,T]  = op(W) x^T      W seen as [K,N], transposed;  the bias is added to rows: an epilogue
    backward  dx^T[K,T] = W dy^T         W seen as [K,N], as it is
    weight    dw^T[K,N] += x^T dy        x seen as [K,T], as it is; dy as [N,T], transposed

What a product needs besides pointers (descriptors, and the algorithm that the library's heuristic chooses) is kept per
shape, direction and alignment. The algorithm may differ from one T to another, and with it the order of a sum: on a GPU
a row may have other last bits in another batch, while equal shapes always give equal bits. The CPU backend does not
have that, nor have the emulated products of dev/cuda_on_cpu (but with CUDA_ON_CPU_CUBLASLT=other).

The library need not have an algorithm for every shape: rows that are no multiples of 16 bytes (a vocabulary of 259) may
be too odd for it. Those products are done by a plain kernel, slowly.
*/
#ifndef LLMC_CUDA_MATMUL_CUH
#define LLMC_CUDA_MATMUL_CUH

#include "llmc/cuda/rows.cuh" // convert_to_bf16

// ----------------------------------------------------------------------------
// the embedding, which a tied output layer shares

// An embedding matrix on the device and what it was copied from. users: the embedding itself, and weights made of the
// same tensor.
typedef struct {
    const void *file;
    void *there;
    size_t n; // elements
    int users;
} CudaEmbedding;

#define CUDA_EMBEDDINGS 8 // models loaded at once that can share; further ones have two copies
static CudaEmbedding cuda_embeddings[CUDA_EMBEDDINGS];

#define CONVERT_BYTES ((size_t)4 << 20) // of a tensor at a time

// to[n] = all numbers of a quantised tensor as bf16: the host dequantises, a piece at a time.
static void cuda_upload_quantised(bf16 *to, const RawTensor *raw, size_t n) {
    const size_t step = CONVERT_BYTES / sizeof(bf16_t);
    static bf16_t piece[CONVERT_BYTES / sizeof(bf16_t)];
    for (size_t done = 0; done < n; done += step) {
        const size_t m = n - done < step ? n - done : step;
        quant_bf16(piece, raw->dtype, raw->data, done, m);
        cuda_upload(to + done, piece, m * sizeof *piece);
    }
}

// The file must stay mapped until embedding_free: then no other tensor can have its address.
RawTensor cuda_embedding_load(const RawTensor *file) {
    RawTensor t = *file;
    size_t n = (size_t)file->shape[0] * (size_t)file->shape[1];
    if (dtype_quantised(file->dtype)) t.dtype = DTYPE_BF16;
    void *there = cuda_allocate(dtype_size(t.dtype, n));
    if (dtype_quantised(file->dtype)) cuda_upload_quantised((bf16 *)there, file, n);
    else cuda_upload(there, file->data, dtype_size(t.dtype, n));
    t.data = there;
    for (int i = 0; i < CUDA_EMBEDDINGS && t.dtype == DTYPE_BF16; i++) {
        if (cuda_embeddings[i].users) continue;
        cuda_embeddings[i].file = file->data;
        cuda_embeddings[i].there = there;
        cuda_embeddings[i].n = n;
        cuda_embeddings[i].users = 1;
        break;
    }
    return t;
}

// Gives up one use of device memory that may be shared.
static void cuda_release_shared(void *there) {
    for (int i = 0; i < CUDA_EMBEDDINGS; i++)
        if (cuda_embeddings[i].users && cuda_embeddings[i].there == there && --cuda_embeddings[i].users > 0) return;
    cuda_release(there);
}

void cuda_embedding_free(RawTensor *wte) {
    for (int i = 0; i < CUDA_EMBEDDINGS; i++)
        if (cuda_embeddings[i].there == wte->data) cuda_embeddings[i].file = NULL; // the file may go now
    cuda_release_shared((void *)wte->data);
    wte->data = NULL;
}

// ----------------------------------------------------------------------------
// weights: [N,K] bf16

void cuda_weight_load(Weight *w, const RawTensor *raw, int n_raw) {
    memset(w, 0, sizeof *w);
    w->K = (int)raw[0].shape[1];
    w->n_raw = n_raw;
    for (int i = 0; i < n_raw; i++) {
        w->raw[i] = raw[i];
        w->N += (int)raw[i].shape[0];
    }
    for (int i = 0; i < CUDA_EMBEDDINGS && n_raw == 1 && (raw[0].dtype == DTYPE_BF16 || dtype_quantised(raw[0].dtype));
         i++) {
        CudaEmbedding *e = &cuda_embeddings[i];
        if (!e->users || e->file != raw[0].data || e->n != (size_t)w->N * w->K) continue;
        e->users++;
        w->data = e->there;
        return;
    }
    w->bytes = (size_t)w->N * w->K * sizeof(bf16);
    bf16 *to = (bf16 *)cuda_allocate(w->bytes);
    w->data = to;
    for (int i = 0; i < n_raw; i++) {
        const size_t n = (size_t)raw[i].shape[0] * w->K;
        const bool quantised = dtype_quantised(raw[i].dtype), as_it_is = raw[i].dtype == DTYPE_BF16;
        const size_t size = quantised ? 1 : dtype_size(raw[i].dtype, 1), step = CONVERT_BYTES / size;
        if (as_it_is) cuda_upload(to, raw[i].data, n * size);
        if (quantised) cuda_upload_quantised(to, &raw[i], n);
        for (size_t done = 0; done < n && !as_it_is && !quantised; done += step) {
            size_t m = n - done < step ? n - done : step;
            void *piece = cuda_scratch(&cuda.convert, CONVERT_BYTES);
            cuda_upload(piece, (const char *)raw[i].data + done * size, m * size);
            if (raw[i].dtype == DTYPE_F32) convert_to_bf16(to + done, (const float *)piece, m);
            else convert_to_bf16(to + done, (const __half *)piece, m);
        }
        to += n;
    }
}

void cuda_weight_free(Weight *w) {
    cuda_release_shared(w->data);
    memset(w, 0, sizeof *w);
}

// ----------------------------------------------------------------------------
// products

typedef enum { MATMUL_FORWARD, MATMUL_BACKWARD, MATMUL_WEIGHT } MatmulKind;

typedef struct {
    int T, N, K;
    MatmulKind kind;
    bool bias;
    int align[3]; // bytes that the addresses of the two factors and the output are multiples of, 16 at most
} MatmulKey;

typedef struct {
    bool used;
    MatmulKey key;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, in, out; // w: W, or x of a weight's gradient; in: the other factor
    bool plain;                        // by matmul_plain_kernel, as the library has no algorithm
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
} MatmulPlan;

#define MATMUL_PLANS 4096 // a power of 2; when three quarters are taken all are forgotten
static MatmulPlan cuda_matmul_plans[MATMUL_PLANS];
static int cuda_matmul_n_plans;

static void matmul_plan_free(MatmulPlan *p) {
    CUBLAS_CHECK(cublasLtMatmulDescDestroy(p->desc));
    CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(p->w));
    CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(p->in));
    CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(p->out));
    p->used = false;
}

static bool matmul_same_key(const MatmulKey *a, const MatmulKey *b) {
    return a->T == b->T && a->N == b->N && a->K == b->K && a->kind == b->kind && a->bias == b->bias &&
           a->align[0] == b->align[0] && a->align[1] == b->align[1] && a->align[2] == b->align[2];
}

// A thread an element, terms in order. Rows of out and its columns, which lie side by side; the sum is over i. The
// second factor is W, or x of a weight's gradient, which is added to out.
template <MatmulKind KIND>
__global__ void __launch_bounds__(256)
    matmul_plain_kernel(float *out, const bf16 *in, const bf16 *w, const float *bias, int T, int N, int K) {
    const int columns = KIND == MATMUL_FORWARD ? N : K, rows = KIND == MATMUL_WEIGHT ? N : T,
              n = KIND == MATMUL_FORWARD    ? K
                  : KIND == MATMUL_BACKWARD ? N
                                            : T;
    const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, row = at / columns, column = at % columns;
    if (row >= (size_t)rows) return;
    float sum = 0;
    for (int i = 0; i < n; i++) {
        const bf16 a = KIND == MATMUL_WEIGHT ? in[(size_t)i * N + row] : in[row * n + i];
        const bf16 b = KIND == MATMUL_FORWARD ? w[column * K + i] : w[(size_t)i * K + column];
        sum = __fmaf_rn(__bfloat162float(a), __bfloat162float(b), sum);
    }
    if (KIND == MATMUL_FORWARD && bias) sum += bias[column];
    out[at] = KIND == MATMUL_WEIGHT ? out[at] + sum : sum;
}

static void matmul_plain(float *out, const act *in, const act *w, const float *bias, const MatmulKey *k) {
    const size_t n = (size_t)(k->kind == MATMUL_WEIGHT ? k->N : k->T) * (k->kind == MATMUL_FORWARD ? k->N : k->K);
    auto kernel = k->kind == MATMUL_FORWARD    ? matmul_plain_kernel<MATMUL_FORWARD>
                  : k->kind == MATMUL_BACKWARD ? matmul_plain_kernel<MATMUL_BACKWARD>
                                               : matmul_plain_kernel<MATMUL_WEIGHT>;
    LAUNCH(kernel, blocks_for(n, 256), 256, 0, cuda_stream)
    (out, (const bf16 *)in, (const bf16 *)w, bias, k->T, k->N, k->K);
    CUDA_CHECK(cudaGetLastError());
}

// Says it once: a whole model of such shapes would print thousands.
static void matmul_say_plain(const MatmulKey *k) {
    static bool said;
    if (said) return;
    said = true;
    fprintf(stderr,
            "note: cuBLASLt has no algorithm for the %s product of %d rows with a %d x %d matrix; a plain kernel "
            "computes it, and all others like it, slowly\n",
            k->kind == MATMUL_FORWARD    ? "forward"
            : k->kind == MATMUL_BACKWARD ? "backward"
                                         : "weight's",
            k->T, k->N, k->K);
}

static void matmul_plan_make(MatmulPlan *p, const MatmulKey *key) {
    const int rows = key->kind == MATMUL_FORWARD ? key->N : key->K,
              columns = key->kind == MATMUL_WEIGHT ? key->N : key->T; // of the output's transpose
    const int w_columns = key->kind == MATMUL_WEIGHT ? key->T : key->N,
              in_rows = key->kind == MATMUL_FORWARD ? key->K : key->N;
    const cublasOperation_t yes = CUBLAS_OP_T, no = CUBLAS_OP_N;
    p->used = true;
    p->key = *key;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA,
                                                key->kind == MATMUL_FORWARD ? &yes : &no, sizeof no));
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB,
                                                key->kind == MATMUL_WEIGHT ? &yes : &no, sizeof no));
    if (key->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        CUBLAS_CHECK(
            cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    }
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->w, CUDA_R_16BF, (uint64_t)key->K, (uint64_t)w_columns, key->K));
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->in, CUDA_R_16BF, (uint64_t)in_rows, (uint64_t)key->T, in_rows));
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&p->out, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, rows));

    cublasLtMatmulPreference_t preference;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &cuda.workspace_bytes, sizeof cuda.workspace_bytes));
    const cublasLtMatmulPreferenceAttributes_t attributes[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4; i++) {
        uint32_t bytes = (uint32_t)key->align[i < 2 ? i : 2];
        CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attributes[i], &bytes, sizeof bytes));
    }
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(cuda.cublas, p->desc, p->w, p->in, p->out, p->out, preference, 1, &found, &n);
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    p->plain = status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && n == 0);
    if (p->plain) {
        matmul_say_plain(key);
        return;
    }
    CUBLAS_CHECK(status);
    p->algo = found.algo;
    p->workspace = found.workspaceSize;
}

static MatmulPlan *matmul_plan(const MatmulKey *key) {
    uint32_t hash = 2166136261u, parts[4] = {(uint32_t)key->T, (uint32_t)key->N, (uint32_t)key->K, (uint32_t)key->kind};
    for (int i = 0; i < 4; i++) hash = (hash ^ parts[i]) * 16777619u;
    hash ^= hash >> 15;
    for (uint32_t i = hash;; i++) {
        MatmulPlan *p = &cuda_matmul_plans[i % MATMUL_PLANS];
        if (p->used && matmul_same_key(&p->key, key)) return p;
        if (p->used) continue;
        if (4 * ++cuda_matmul_n_plans > 3 * MATMUL_PLANS) {
            for (int j = 0; j < MATMUL_PLANS; j++)
                if (cuda_matmul_plans[j].used) matmul_plan_free(&cuda_matmul_plans[j]);
            cuda_matmul_n_plans = 1;
            p = &cuda_matmul_plans[hash % MATMUL_PLANS];
        }
        matmul_plan_make(p, key);
        return p;
    }
}

static int matmul_alignment(const void *p) {
    int bytes = 16;
    while ((uintptr_t)p % (uintptr_t)bytes) bytes /= 2;
    return bytes;
}

// out = the product, or += for a weight's gradient
static void matmul(float *out, const act *in, const act *w, const float *bias, int T, int N, int K, MatmulKind kind) {
    if (T == 0) return;
    MatmulKey key = {T, N, K, kind, bias != NULL, {matmul_alignment(w), matmul_alignment(in), matmul_alignment(out)}};
    MatmulPlan *p = matmul_plan(&key);
    const float one = 1, zero = 0;
    if (p->plain) return matmul_plain(out, in, w, bias, &key);
    if (bias)
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    CUBLAS_CHECK(cublasLtMatmul(cuda.cublas, p->desc, &one, w, p->w, in, p->in, kind == MATMUL_WEIGHT ? &one : &zero,
                                out, p->out, out, p->out, &p->algo, cuda.workspace, p->workspace, cuda_stream));
}

void cuda_matmul_forward(float *y, const act *x, const Weight *w, const float *bias, int T) {
    matmul(y, x, w->data, bias, T, w->N, w->K, MATMUL_FORWARD);
}
void cuda_matmul_backward(float *dx, const act *dy, const Weight *w, int T) {
    matmul(dx, dy, w->data, NULL, T, w->N, w->K, MATMUL_BACKWARD);
}
void cuda_matmul_weight_backward(float *dw, const act *dy, const act *x, int T, int N, int K) {
    matmul(dw, dy, x, NULL, T, N, K, MATMUL_WEIGHT);
}

#endif
