/*
Planted bugs of host code: streams, captures and cuBLASLt. Part of planted.cu.
*/

// ----------------------------------------------------------------------------
// Streams: wrong results where work runs as late as it may

__global__ void set(float *p, float value) { p[threadIdx.x] = value; }
__global__ void add(float *out, const float *in, float value) { out[threadIdx.x] = in[threadIdx.x] + value; }

static int run_no_synchronize() {
    float *pinned, *p = device_floats(32);
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMallocHost(&pinned, sizeof *pinned);
    LAUNCH(set, 1, 32, 0, stream)(p, 5);
    cudaMemcpyAsync(pinned, p, sizeof *pinned, cudaMemcpyDeviceToHost, stream);
    return expect(*pinned, 5); // no cudaStreamSynchronize
}
static int run_buffer_reused() {
    float *pinned, *p = device_floats(1);
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMallocHost(&pinned, sizeof *pinned);
    *pinned = 1;
    cudaMemcpyAsync(p, pinned, sizeof *pinned, cudaMemcpyHostToDevice, stream);
    *pinned = 2; // before the copy is over
    cudaStreamSynchronize(stream);
    return expect(first_float(p), 1);
}
static int run_no_event() {
    float *p = device_floats(32);
    cudaStream_t one, two;
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    LAUNCH(set, 1, 32, 0, one)(p, 5);
    LAUNCH(add, 1, 32, 0, two)(p, p, 1); // no cudaStreamWaitEvent
    cudaStreamSynchronize(two);
    cudaStreamSynchronize(one);
    return expect(first_float(p), 6);
}

static cudaStream_t capturing() {
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    return stream;
}
// Prints how the forbidden call failed, and that the capture ends in an error after it.
static int end_of_capture(cudaStream_t stream, cudaError_t forbidden) {
    cudaGraph_t graph;
    cudaError_t end = cudaStreamEndCapture(stream, &graph);
    printf("%s, then %s\n", cudaGetErrorName(forbidden), cudaGetErrorName(end));
    return 0;
}
static int run_malloc_in_capture() {
    float *p;
    cudaStream_t stream = capturing();
    cudaError_t error = cudaMalloc(&p, 4); // bug: malloc_in_capture
    return end_of_capture(stream, error);
}
static int run_wait_in_capture() {
    cudaStream_t stream = capturing();
    cudaError_t error = cudaStreamSynchronize(stream); // bug: wait_in_capture
    return end_of_capture(stream, error);
}
static int run_default_stream_in_capture() {
    float *p = device_floats(32);
    capturing();
    LAUNCH(set, 1, 32, 0, 0)(p, 1); // bug: default_stream_in_capture
    return 0;
}
static int run_unjoined() {
    float *p = device_floats(32);
    cudaStream_t one = capturing(), two;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    cudaEventCreate(&fork);
    cudaEventCreate(&join);
    cudaEventRecord(fork, one);
    cudaStreamWaitEvent(two, fork, 0);
    cudaEventRecord(join, two);
    LAUNCH(set, 1, 32, 0, two)(p, 1); // after the event that the first stream waits for
    cudaStreamWaitEvent(one, join, 0);
    return cudaStreamEndCapture(one, &graph) == cudaSuccess; // bug: unjoined
}

// ----------------------------------------------------------------------------
// cuBLASLt: D (16 x 8) = A (16 x 32) B (32 x 8), one thing wrong at a time

struct Product {
    int rows_b = 32, ld_a = 16;
    size_t d_floats = 16 * 8, d_offset = 0, workspace_size = 0;
    uint64_t heuristic_workspace = 0;
    bool in_place = false, unwritten = false;
    cublasStatus_t run() const {
        float one = 1, zero = 0, *a = device_floats(16 * 32), *d = device_floats(int(d_floats));
        bf16 *b = reinterpret_cast<bf16 *>(device_floats(32 * 8 / 2, !unwritten));
        cublasLtHandle_t lt;
        cublasLtMatmulDesc_t desc;
        cublasLtMatrixLayout_t la, lb, ld;
        cublasLtMatmulPreference_t preference;
        cublasLtMatmulHeuristicResult_t found;
        int n;
        cublasLtCreate(&lt);
        cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
        cublasLtMatrixLayoutCreate(&la, CUDA_R_16BF, 16, 32, 16);
        cublasLtMatrixLayoutCreate(&lb, CUDA_R_16BF, 32, 8, 32);
        cublasLtMatrixLayoutCreate(&ld, CUDA_R_32F, 16, 8, 16);
        cublasLtMatmulPreferenceCreate(&preference);
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &heuristic_workspace,
                                             sizeof heuristic_workspace);
        cublasLtMatmulAlgoGetHeuristic(lt, desc, la, lb, ld, ld, preference, 1, &found, &n);
        cublasLtMatrixLayoutCreate(&la, CUDA_R_16BF, 16, 32, ld_a);
        cublasLtMatrixLayoutCreate(&lb, CUDA_R_16BF, uint64_t(rows_b), 8, rows_b);
        float *out = in_place ? a : d + d_offset;
        const cublasLtMatmulAlgo_t *algo = &found.algo;
        // clang-format off: the report names the line on which the call begins
        return cublasLtMatmul(lt, desc, &one, a, la, b, lb, &zero, out, ld, out, ld, algo, nullptr, workspace_size, 0); // bug: matmul
        // clang-format on
    }
};
static int run_matmul_ld() { return Product{32, 8}.run() == CUBLAS_STATUS_SUCCESS; }
static int run_matmul_k() { return Product{31}.run() == CUBLAS_STATUS_SUCCESS; }
static int run_matmul_small_d() { return Product{32, 16, 16 * 8 - 1}.run() != CUBLAS_STATUS_SUCCESS; }
static int run_matmul_unaligned() { return Product{32, 16, 16 * 8 + 1, 1}.run() == CUBLAS_STATUS_SUCCESS; }
static int run_matmul_null_workspace() { return Product{32, 16, 128, 0, 1 << 20}.run() == CUBLAS_STATUS_SUCCESS; }
static int run_matmul_small_workspace() { return Product{32, 16, 128, 0, 0, 1 << 20}.run() == CUBLAS_STATUS_SUCCESS; }
static int run_matmul_in_place() { return Product{32, 16, 128, 0, 0, 0, true}.run() != CUBLAS_STATUS_SUCCESS; }
static int run_matmul_unwritten() { return Product{32, 16, 128, 0, 0, 0, false, true}.run() != CUBLAS_STATUS_SUCCESS; }
