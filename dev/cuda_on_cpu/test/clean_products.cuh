/*
Matrix products that must be exact: wmma in all shapes and layouts, cublasLtMatmul. Part of clean.cu.
*/

// ----------------------------------------------------------------------------
// Matrix products

// C (m x n) = scale A (m x k) B, a warp a tile
template <int m, int n, class LayoutA, class LayoutB>
__global__ void tiles(float *c, const bf16 *a, const bf16 *b, int k, int lda, int ldb, float scale) {
    wmma::fragment<wmma::matrix_a, m, n, 16, bf16, LayoutA> fa;
    wmma::fragment<wmma::matrix_b, m, n, 16, bf16, LayoutB> fb;
    wmma::fragment<wmma::accumulator, m, n, 16, float> sum, out;
    wmma::fill_fragment(sum, 0.0f);
    for (int i = 0; i < k; i += 16) {
        wmma::load_matrix_sync(fa, std::is_same<LayoutA, wmma::row_major>::value ? a + i : a + i * lda, unsigned(lda));
        wmma::load_matrix_sync(fb, std::is_same<LayoutB, wmma::row_major>::value ? b + i * ldb : b + i, unsigned(ldb));
        wmma::mma_sync(sum, fa, fb, sum);
    }
    for (int i = 0; i < sum.num_elements; i++) sum.x[i] *= scale;
    // Through shared memory, as an accumulator whose elements get a meaning goes
    SHARED(float, tile, [m * n]);
    wmma::store_matrix_sync(tile, sum, m, wmma::mem_col_major);
    __syncwarp();
    wmma::load_matrix_sync(out, tile, m, wmma::mem_col_major);
    wmma::store_matrix_sync(c, out, n, wmma::mem_row_major);
}
static std::vector<bf16> small_integers(size_t n, uint32_t seed) { // whose products and sums are exact
    std::vector<bf16> x(n);
    for (bf16 &v : x) v = __float2bfloat16(float((seed = seed * 1664525u + 1013904223u) >> 24) / 8 - 16);
    return x;
}
template <int m, int n, class LayoutA, class LayoutB> static bool right_tiles() {
    const int k = 48, row_a = std::is_same<LayoutA, wmma::row_major>::value,
              row_b = std::is_same<LayoutB, wmma::row_major>::value;
    std::vector<bf16> a = small_integers(m * k, 1), b = small_integers(k * n, 2);
    float *c = to_device(std::vector<float>(m * n));
    LAUNCH((tiles<m, n, LayoutA, LayoutB>), 1, 32, 0, 0)(c, to_device(a), to_device(b), k, row_a ? k : m, row_b ? n : k,
                                                         0.5f);
    std::vector<float> found = to_host(c, m * n);
    bool ok = true;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float s = 0;
            for (int l = 0; l < k; l++)
                s += __bfloat162float(a[row_a ? i * k + l : l * m + i]) *
                     __bfloat162float(b[row_b ? l * n + j : j * k + l]);
            ok &= found[i * n + j] == s / 2;
        }
    return ok;
}

// D = alpha op(A) op(B) + beta C + bias, with leading dimensions larger than the matrices
template <class T>
static bool right_product(int m, int n, int k, bool ta, bool tb, bool add_bias, float beta, cudaDataType type) {
    int lda = (ta ? k : m) + 8, ldb = (tb ? n : k) + 16, ldd = m + 8;
    float alpha = 0.5f;
    std::vector<bf16> a = small_integers(lda * (ta ? m : k), 3), b = small_integers(ldb * (tb ? k : n), 4);
    std::vector<T> c(ldd * n), bias(m);
    for (size_t i = 0; i < c.size(); i++) c[i] = T(float(int(i * 7 % 31) - 15));
    for (size_t i = 0; i < bias.size(); i++) bias[i] = T(float(int(i * 5 % 17) - 8));
    T *dd = to_device(c), *dbias = to_device(bias);
    void *workspace;
    const uint64_t workspace_size = 1 << 16;
    cudaMalloc(&workspace, workspace_size);
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t la, lb, ld;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    bool ok = cublasLtCreate(&lt) == CUBLAS_STATUS_SUCCESS;
    ok &= cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS;
    int32_t op_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N, bias_type = type;
    uint32_t epilogue = add_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &dbias, sizeof dbias);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type);
    cublasLtMatrixLayoutCreate(&la, CUDA_R_16BF, uint64_t(ta ? k : m), uint64_t(ta ? m : k), lda);
    cublasLtMatrixLayoutCreate(&lb, CUDA_R_16BF, uint64_t(tb ? n : k), uint64_t(tb ? k : n), ldb);
    cublasLtMatrixLayoutCreate(&ld, type, uint64_t(m), uint64_t(n), ldd);
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_size,
                                         sizeof workspace_size);
    ok &= cublasLtMatmulAlgoGetHeuristic(lt, desc, la, lb, ld, ld, preference, 1, &found, &count) ==
              CUBLAS_STATUS_SUCCESS &&
          count == 1;
    ok &= cublasLtMatmul(lt, desc, &alpha, to_device(a), la, to_device(b), lb, &beta, dd, ld, dd, ld, &found.algo,
                         workspace, workspace_size, 0) == CUBLAS_STATUS_SUCCESS;
    std::vector<T> d = to_host(dd, c.size());
    for (int j = 0; j < n; j++)
        for (int i = 0; i < ldd; i++) {
            float s = 0;
            for (int l = 0; l < k && i < m; l++)
                s += __bfloat162float(a[ta ? i * lda + l : l * lda + i]) *
                     __bfloat162float(b[tb ? l * ldb + j : j * ldb + l]);
            s = i < m ? alpha * s + beta * float(c[j * ldd + i]) + (add_bias ? float(bias[i]) : 0)
                      : float(c[j * ldd + i]); // what lies between stays
            ok &= float(d[j * ldd + i]) == float(T(s));
        }
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatrixLayoutDestroy(la);
    cublasLtMatrixLayoutDestroy(lb);
    cublasLtMatrixLayoutDestroy(ld);
    cublasLtMatmulDescDestroy(desc);
    return ok && cublasLtDestroy(lt) == CUBLAS_STATUS_SUCCESS;
}
static void test_products() {
    check((right_tiles<16, 16, wmma::row_major, wmma::row_major>()), "wmma 16x16x16, rows");
    check((right_tiles<16, 16, wmma::col_major, wmma::col_major>()), "wmma 16x16x16, columns");
    check((right_tiles<32, 8, wmma::row_major, wmma::col_major>()), "wmma 32x8x16");
    check((right_tiles<8, 32, wmma::col_major, wmma::row_major>()), "wmma 8x32x16");
    for (int t = 0; t < 4; t++) {
        bool ta = t & 1, tb = t & 2;
        check(right_product<float>(37, 19, 45, ta, tb, false, 0, CUDA_R_32F), "cublasLtMatmul, fp32 out, odd sizes");
        check(right_product<float>(300, 5, 64, ta, tb, true, 1, CUDA_R_32F), "cublasLtMatmul, fp32 out, bias, beta");
        check(right_product<bf16>(1, 1, 16, ta, tb, true, 0.25f, CUDA_R_16BF), "cublasLtMatmul, bf16 out, one element");
        check(right_product<bf16>(64, 9, 7, ta, tb, true, 0, CUDA_R_16BF), "cublasLtMatmul, bf16 out, bias");
    }
}
