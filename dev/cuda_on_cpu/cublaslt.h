/*
The part of cuBLASLt that multiplies bf16 matrices into bf16 or fp32 ones, D = alpha op(A) op(B) + beta C (+ bias), with
the checks that the library leaves to whoever debugs the result: shapes, extents, overlaps, alignment, workspace.
What is not supported is refused by name.

With CUDA_ON_CPU_CUBLASLT=other it is as difficult as the library may be: it has no algorithm where rows are no
multiples of 16 bytes or less alignment was promised, and it adds up in an order that depends on the shape.
*/
#include <cublasLt.h>

namespace cuda_on_cpu {

struct MatmulDesc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    const void *bias;
    int32_t bias_type;
};
struct MatrixLayout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
    size_t element() const { return type == CUDA_R_32F ? 4 : 2; }
    size_t extent() const {
        return (uint64_t(ld) * (columns - 1) + rows) * element();
    } // bytes from the first to the last
};
struct Preference {
    uint64_t workspace;
    uint32_t alignment[4]; // that A, B, C, D will at least have
};
// What the heuristic leaves in cublasLtMatmulAlgo_t: the promises that it was given.
struct Algo {
    Preference promised;
};
static_assert(sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm must fit into its handle");

struct Operand {
    const char *name;
    uintptr_t address;
    MatrixLayout layout;
};
struct Matmul {
    MatmulDesc desc;
    Operand a, b, c, d;
    float alpha, beta;
    void *workspace;
    size_t workspace_size;
    uintptr_t pc;
};

// ----------------------------------------------------------------------------
// Checks

__attribute__((format(printf, 2, 3))) static cublasStatus_t bad_matmul(uintptr_t pc, const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    report("bad matmul", nullptr, pc, "%s", text);
    return CUBLAS_STATUS_INVALID_VALUE;
}

// Shapes and types, when the call comes.
static cublasStatus_t check_shapes(const MatmulDesc &desc, const MatrixLayout &a, const MatrixLayout &b,
                                   const MatrixLayout &c, const MatrixLayout &d, uintptr_t pc) {
    const MatrixLayout *all[] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; i++)
        if (all[i]->ld < int64_t(all[i]->rows) || !all[i]->rows || !all[i]->columns)
            return bad_matmul(pc,
                              "%c has %zu rows, %zu columns and leading dimension %lld\n    -> matrices are stored by "
                              "columns: ld is at least the number "
                              "of rows",
                              "ABCD"[i], size_t(all[i]->rows), size_t(all[i]->columns), (long long)all[i]->ld);
    uint64_t m = desc.transpose_a ? a.columns : a.rows, k = desc.transpose_a ? a.rows : a.columns;
    uint64_t n = desc.transpose_b ? b.rows : b.columns, kb = desc.transpose_b ? b.columns : b.rows;
    if (k != kb)
        return bad_matmul(pc, "K: op(A) is %zu x %zu, op(B) is %zu x %zu", size_t(m), size_t(k), size_t(kb), size_t(n));
    if (d.rows != m || d.columns != n || c.rows != m || c.columns != n)
        return bad_matmul(pc, "op(A) op(B) is %zu x %zu, C is %zu x %zu, D is %zu x %zu", size_t(m), size_t(n),
                          size_t(c.rows), size_t(c.columns), size_t(d.rows), size_t(d.columns));
    if (a.type != CUDA_R_16BF || b.type != CUDA_R_16BF || c.type != d.type ||
        (d.type != CUDA_R_16BF && d.type != CUDA_R_32F) || desc.compute != CUBLAS_COMPUTE_32F ||
        desc.scale != CUDA_R_32F)
        return bad_matmul(
            pc, "types: bf16 times bf16, summed up in fp32, into bf16 or fp32 (C like D) is what there is here");
    if (desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT && desc.epilogue != CUBLASLT_EPILOGUE_BIAS)
        return bad_matmul(pc, "epilogue %u: only DEFAULT and BIAS are here", desc.epilogue);
    if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS && desc.bias_type >= 0 && desc.bias_type != int32_t(d.type))
        return bad_matmul(pc, "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE is %d, D has %d: the bias must have D's type",
                          desc.bias_type, int(d.type));
    return CUBLAS_STATUS_SUCCESS;
}

// Whether any element of x lies on one of y.
static bool overlap(const Operand &x, const Operand &y) {
    if (x.address >= y.address + y.layout.extent() || y.address >= x.address + x.layout.extent()) return false;
    uintptr_t step = uintptr_t(x.layout.ld) * x.layout.element();
    if (step != uintptr_t(y.layout.ld) * y.layout.element()) return true;
    // Columns of both begin at the same distance: they may be different rows of one larger matrix.
    uintptr_t gap = (y.address - x.address) % step;
    return gap < x.layout.rows * x.layout.element() || gap + y.layout.rows * y.layout.element() > step;
}
static bool check_written(const Operand &x, uintptr_t pc) {
    for (uint64_t column = 0; column < x.layout.columns; column++) {
        size_t n = x.layout.rows * x.layout.element();
        size_t first = first_unwritten(x.address + column * uint64_t(x.layout.ld) * x.layout.element(), n);
        if (first >= n) continue;
        report("uninitialised read", nullptr, pc, "cublasLtMatmul: %s, row %zu, column %zu was never written", x.name,
               first / x.layout.element(), size_t(column));
        return false;
    }
    return true;
}

// Memory, when the product is computed. False after a report.
static bool check_memory(const Matmul &p) {
    const Operand bias = {"the bias",
                          reinterpret_cast<uintptr_t>(p.desc.bias),
                          {p.d.layout.type, p.d.layout.rows, 1, int64_t(p.d.layout.rows)}};
    const Operand workspace = {"the workspace",
                               reinterpret_cast<uintptr_t>(p.workspace),
                               {CUDA_R_16BF, p.workspace_size / 2, 1, int64_t(p.workspace_size / 2)}};
    std::vector<Operand> inputs = {p.a, p.b};
    if (p.beta != 0) inputs.push_back(p.c);
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) inputs.push_back(bias);
    std::vector<Operand> all = inputs;
    all.push_back(p.d);
    if (p.workspace_size >= 2) all.push_back(workspace);
    for (const Operand &x : all) {
        if (!check_device_bytes(reinterpret_cast<void *>(x.address), x.layout.extent(), "cublasLtMatmul", x.name, p.pc))
            return false;
        if (x.address % x.layout.element()) {
            report("misaligned access", nullptr, p.pc, "cublasLtMatmul: %s lies at an odd address", x.name);
            return false;
        }
        bool in_place = strcmp(x.name, "C") == 0 && x.address == p.d.address && x.layout.ld == p.d.layout.ld;
        if (strcmp(x.name, "D") != 0 && !in_place && overlap(x, p.d)) {
            bad_matmul(p.pc, "D overlaps %s", x.name);
            return false;
        }
    }
    for (const Operand &x : inputs)
        if (!check_written(x, p.pc) ||
            (p.workspace_size >= 2 && overlap(x, workspace) && bad_matmul(p.pc, "the workspace overlaps %s", x.name)))
            return false;
    return true;
}

// ----------------------------------------------------------------------------
// The product

typedef float Four __attribute__((vector_size(16)));

static float element_at(uintptr_t address, cudaDataType_t type) {
    if (type == CUDA_R_32F) return *reinterpret_cast<const float *>(address);
    return __bfloat162float(*reinterpret_cast<const __nv_bfloat16 *>(address));
}

// Panels of `width` rows of op(x), k after k: panel[(row / width) K width + k width + row % width], 0 after the last
// row.
static std::vector<float> pack(const Operand &x, bool transpose, uint64_t first, uint64_t rows, uint64_t k,
                               uint64_t width) {
    std::vector<float> packed((rows + width - 1) / width * width * k);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t l = 0; l < k; l++) {
            uint64_t at = transpose ? l + (first + r) * uint64_t(x.layout.ld) : first + r + l * uint64_t(x.layout.ld);
            packed[r / width * width * k + l * width + r % width] =
                element_at(x.address + at * x.layout.element(), x.layout.type);
        }
    return packed;
}

// Into how many pieces the sum is cut; each is added up by itself.
static uint64_t pieces_of_sum(uint64_t n, uint64_t k) {
    const uint64_t pieces = !settings.other_cublaslt ? 1 : n <= 1 ? 4 : n <= 16 ? 2 : n <= 64 ? 3 : 1;
    return std::min(pieces, k);
}

static void multiply(const Matmul &p) {
    if (!check_memory(p)) return;
    for (const void *operand :
         {reinterpret_cast<const void *>(p.a.address), reinterpret_cast<const void *>(p.b.address),
          reinterpret_cast<const void *>(p.c.address), reinterpret_cast<const void *>(p.d.address), p.desc.bias,
          static_cast<const void *>(p.workspace)})
        open_device(reinterpret_cast<uintptr_t>(operand));
    if (p.workspace_size)
        memset(p.workspace, 0xFF, std::min(p.workspace_size, size_t(64) << 10)); // scratch: nobody may count on it
    const MatrixLayout &d = p.d.layout;
    const uint64_t m = d.rows, n = d.columns, k = p.desc.transpose_a ? p.a.layout.rows : p.a.layout.columns,
                   block = 256, pieces = pieces_of_sum(n, k);
    const std::vector<float> b = pack(p.b, !p.desc.transpose_b, 0, n, k, 4); // the panels of B run along its columns
    for (uint64_t m0 = 0; m0 < m; m0 += block) {
        uint64_t rows = std::min(block, m - m0);
        const std::vector<float> a = pack(p.a, p.desc.transpose_a != 0, m0, rows, k, 8);
        for (uint64_t j = 0; j < n; j += 4)
            for (uint64_t i = 0; i < rows; i += 8) {
                float sums[4][8];
                Four all[4][2] = {};
                const float *ap = &a[i * k], *bp = &b[j * k];
                for (uint64_t piece = 0, l = 0; piece < pieces; piece++) {
                    Four s[4][2] = {};
                    for (; l < k * (piece + 1) / pieces; l++, ap += 8, bp += 4) {
                        Four a0, a1;
                        memcpy(&a0, ap, sizeof a0);
                        memcpy(&a1, ap + 4, sizeof a1);
                        for (int q = 0; q < 4; q++) s[q][0] += a0 * bp[q], s[q][1] += a1 * bp[q];
                    }
                    for (int q = 0; q < 4; q++)
                        for (int h = 0; h < 2; h++) all[q][h] = piece ? all[q][h] + s[q][h] : s[q][h];
                }
                memcpy(sums, all, sizeof sums);
                for (uint64_t q = 0; q < std::min<uint64_t>(4, n - j); q++)
                    for (uint64_t r = 0; r < std::min<uint64_t>(8, rows - i); r++) {
                        uint64_t row = m0 + i + r, column = j + q;
                        float value = p.alpha * sums[q][r];
                        if (p.beta != 0)
                            value += p.beta *
                                     element_at(p.c.address + (row + column * uint64_t(p.c.layout.ld)) * d.element(),
                                                d.type);
                        if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                            value += element_at(reinterpret_cast<uintptr_t>(p.desc.bias) + row * d.element(), d.type);
                        uintptr_t at = p.d.address + (row + column * uint64_t(d.ld)) * d.element();
                        if (d.type == CUDA_R_32F) *reinterpret_cast<float *>(at) = value;
                        else *reinterpret_cast<__nv_bfloat16 *>(at) = __float2bfloat16(value);
                    }
            }
    }
    close_device();
    for (uint64_t column = 0; column < n; column++)
        written_by_host(p.d.address + column * uint64_t(d.ld) * d.element(), m * d.element());
}

static MatmulDesc *own(cublasLtMatmulDesc_t p) { return reinterpret_cast<MatmulDesc *>(p); }
static MatrixLayout *own(cublasLtMatrixLayout_t p) { return reinterpret_cast<MatrixLayout *>(p); }
static Preference *own(cublasLtMatmulPreference_t p) { return reinterpret_cast<Preference *>(p); }

} // namespace cuda_on_cpu

// ----------------------------------------------------------------------------
// The library's functions

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    static int one;
    *handle = reinterpret_cast<cublasLtHandle_t>(&one);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }
const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown cuBLAS status";
    }
}
const char *cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
const char *cublasGetStatusName(cublasStatus_t status) { return cublasLtGetStatusName(status); }
const char *cublasGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale) {
    *desc = reinterpret_cast<cublasLtMatmulDesc_t>(
        new MatmulDesc{compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, -1});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return delete own(desc), CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size) {
    MatmulDesc *d = own(desc);
    void *field = nullptr;
    size_t expected = 4;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: field = &d->transpose_a; break;
    case CUBLASLT_MATMUL_DESC_TRANSB: field = &d->transpose_b; break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: field = &d->epilogue; break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: field = &d->bias_type; break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: field = &d->bias, expected = sizeof d->bias; break;
    default:
        return bad_matmul(CALLER, "cublasLtMatmulDescSetAttribute: attribute %d is not supported here", int(attribute));
    }
    if (size != expected)
        return bad_matmul(CALLER, "cublasLtMatmulDescSetAttribute: attribute %d has %zu bytes, not %zu", int(attribute),
                          expected, size);
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new MatrixLayout{type, rows, columns, ld});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    return delete own(layout), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t size) {
    MatrixLayout *l = own(layout);
    if (size == 8 && attribute == CUBLASLT_MATRIX_LAYOUT_ROWS) memcpy(&l->rows, value, size);
    else if (size == 8 && attribute == CUBLASLT_MATRIX_LAYOUT_COLS) memcpy(&l->columns, value, size);
    else if (size == 8 && attribute == CUBLASLT_MATRIX_LAYOUT_LD) memcpy(&l->ld, value, size);
    else
        return bad_matmul(CALLER, "cublasLtMatrixLayoutSetAttribute: attribute %d of %zu bytes is not supported here",
                          int(attribute), size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference{0, {256, 256, 256, 256}});
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    return delete own(preference), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t size) {
    Preference *p = own(preference);
    int which = int(attribute) - int(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && size == 8) memcpy(&p->workspace, value, size);
    else if (which >= 0 && which < 4 && size == 4) memcpy(&p->alignment[which], value, size);
    else
        return bad_matmul(CALLER,
                          "cublasLtMatmulPreferenceSetAttribute: attribute %d of %zu bytes is not supported here",
                          int(attribute), size);
    return CUBLAS_STATUS_SUCCESS;
}

// One algorithm, which wants all of the workspace that it may have.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int requested, cublasLtMatmulHeuristicResult_t results[], int *returned) {
    *returned = 0;
    if (requested < 1) return bad_matmul(CALLER, "cublasLtMatmulAlgoGetHeuristic: %d algorithms requested", requested);
    cublasStatus_t status = check_shapes(*own(desc), *own(a), *own(b), *own(c), *own(d), CALLER);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const MatrixLayout *all[4] = {own(a), own(b), own(c), own(d)};
    for (int i = 0; i < 4 && settings.other_cublaslt; i++)
        if (own(preference)->alignment[i] < 16 || uint64_t(all[i]->ld) * all[i]->element() % 16)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    results[0] = {};
    Algo algo = {*own(preference)};
    memcpy(&results[0].algo, &algo, sizeof algo);
    results[0].workspaceSize = algo.promised.workspace;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1;
    *returned = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_size, cudaStream_t stream) {
    uintptr_t pc = CALLER;
    CUstream_st *s = stream_of(stream, __func__, pc);
    if (!s) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status =
        check_shapes(*own(desc), *own(a_layout), *own(b_layout), *own(c_layout), *own(d_layout), pc);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    Matmul p = {*own(desc),
                {"A", reinterpret_cast<uintptr_t>(a), *own(a_layout)},
                {"B", reinterpret_cast<uintptr_t>(b), *own(b_layout)},
                {"C", reinterpret_cast<uintptr_t>(c), *own(c_layout)},
                {"D", reinterpret_cast<uintptr_t>(d), *own(d_layout)},
                *static_cast<const float *>(alpha),
                *static_cast<const float *>(beta),
                workspace,
                workspace_size,
                pc};
    if (workspace_size && !workspace) return bad_matmul(pc, "a workspace of %zu bytes at NULL", workspace_size);
    if (algo) {
        Algo chosen;
        memcpy(&chosen, algo, sizeof chosen);
        if (workspace_size < chosen.promised.workspace)
            return bad_matmul(pc, "a workspace of %zu bytes, but the algorithm was chosen for %zu", workspace_size,
                              size_t(chosen.promised.workspace));
        const Operand *all[] = {&p.a, &p.b, &p.c, &p.d};
        for (int i = 0; i < 4; i++)
            if (all[i]->address % chosen.promised.alignment[i] && !(i == 2 && p.beta == 0))
                return bad_matmul(
                    pc,
                    "%s lies at %p, but the algorithm was chosen for addresses that are multiples of %u\n    -> lower "
                    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_%s_BYTES before asking for it",
                    all[i]->name, reinterpret_cast<void *>(all[i]->address), chosen.promised.alignment[i],
                    all[i]->name);
    }
    enqueue(s, __func__, pc, [p] { multiply(p); });
    return CUBLAS_STATUS_SUCCESS;
}
}
