/*
Sampling: one block draws the token of one row. What is found by inverting the cumulative distribution is the first
token whose sum exceeds the target; where rounding leaves the target unreached, the last of probability above 0.

top_k and top_p keep the best tokens down to some z, and of those at that very z the lowest ids. No sorting: a float's
bits, mapped so that they order like the floats (`key`), are searched from the highest 4 bits to the lowest. For each of
the 16 values of the next bits every thread sums up in a cell of its own what its tokens weigh (their number for top_k,
their probability for top_p), and the cells are added in a fixed order: no atomics, so the same bits in every run.
*/
#ifndef LLMC_CUDA_SAMPLE_CUH
#define LLMC_CUDA_SAMPLE_CUH

#include "llmc/cuda/output.cuh" // output_row, output_chunks

#define SAMPLE_THREADS 256
#define SAMPLE_WARPS (SAMPLE_THREADS / 32)

// What is kept: tokens with a key above `key`, and the first `ties` of those with it.
typedef struct {
    uint32_t key;
    int ties;
} SampleBound;

// A row as its block sees it.
typedef struct {
    const float *logits;
    const OutputChunk *chunks;
    OutputRow row;
    float inv_t;
    int V, n_chunks;
} SampleRow;

// Larger z, larger key; -0 and 0 have the same.
__device__ __forceinline__ uint32_t sample_key(float z) {
    uint32_t bits = __float_as_uint(z + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float sample_p(const SampleRow &r, float z) { return expf(z - r.row.max); }

// ----------------------------------------------------------------------------
// top_k and top_p

// weight (1 each if COUNT, else p) of the tokens with a key above `key`, and *ties = how many have it
template <bool COUNT>
__device__ __forceinline__ double sample_weight_above(const SampleRow &r, uint32_t key, int *ties, double *parts,
                                                      int *counts) {
    double weight = 0;
    int equal = 0;
    for (int v = (int)threadIdx.x; v < r.V; v += SAMPLE_THREADS) {
        float z = output_z(r.logits[v], r.inv_t);
        uint32_t k = sample_key(z);
        if (k > key) weight += COUNT ? 1.0 : (double)sample_p(r, z);
        equal += k == key;
    }
    *ties = block_reduce<Sum>(equal, counts);
    return block_reduce<Sum>(weight, parts);
}

// The largest key at which the weight of the tokens with it or a larger one reaches `need`; the smallest that occurs
// if none does. cells: [16][SAMPLE_THREADS], sums: [16].
template <bool COUNT>
__device__ __forceinline__ uint32_t sample_find_key(const SampleRow &r, double need, double *cells, double *sums) {
    const int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    uint32_t found = 0;
    for (int shift = 28; shift >= 0; shift -= 4) {
        for (int i = 0; i < 16; i++) cells[i * SAMPLE_THREADS + thread] = 0;
        for (int v = thread; v < r.V; v += SAMPLE_THREADS) {
            float z = output_z(r.logits[v], r.inv_t);
            uint32_t key = sample_key(z);
            if (shift < 28 && key >> (shift + 4) != found) continue;
            cells[(int)(key >> shift & 15) * SAMPLE_THREADS + thread] += COUNT ? 1.0 : (double)sample_p(r, z);
        }
        __syncthreads();
        for (int i = warp; i < 16; i += SAMPLE_WARPS) {
            double sum = 0;
            for (int t = lane; t < SAMPLE_THREADS; t += 32) sum += cells[i * SAMPLE_THREADS + t];
            sum = warp_reduce<Sum>(sum);
            if (lane == 0) sums[i] = sum;
        }
        __syncthreads();
        int digit = 15, last = 0; // last: where something weighs, in case rounding leaves `need` unreached
        for (;; digit--) {
            if (sums[digit] > 0) last = digit;
            if (sums[digit] >= need && sums[digit] > 0) break;
            need -= sums[digit];
            if (digit == 0) {
                digit = last;
                break;
            }
        }
        found = found << 4 | (uint32_t)digit;
        __syncthreads(); // before sums are overwritten
    }
    return found;
}

// The bound of top_k (0: off), then of top_p on what that leaves (1: off); *mass = sum of p of all that is kept.
__device__ __forceinline__ SampleBound sample_bound(const SampleRow &r, int top_k, float top_p, double *mass,
                                                    double *cells, double *sums, double *parts, int *counts) {
    SampleBound bound = {0, 0};
    *mass = r.row.total;
    if (top_k > 0) {
        bound.key = sample_find_key<true>(r, top_k, cells, sums);
        int above = (int)sample_weight_above<true>(r, bound.key, &bound.ties, parts, counts);
        bound.ties = top_k - above < bound.ties ? top_k - above : bound.ties;
    }
    for (int pass = top_k > 0 ? 0 : 1; pass < 2;
         pass++) { // the mass that top_k leaves; then top_p and the mass that it leaves
        int ties = bound.ties;
        double need = 0;
        if (pass == 1) {
            if (!(top_p < 1)) break;
            need = top_p * *mass;
            uint32_t key = sample_find_key<false>(r, need, cells, sums);
            if (key < bound.key) key = bound.key; // by rounding
            if (key > bound.key) ties = r.V;
            bound.key = key;
        }
        int equal;
        double above = sample_weight_above<false>(r, bound.key, &equal, parts, counts);
        uint32_t bits = bound.key & 0x80000000u ? bound.key & 0x7FFFFFFFu : ~bound.key;
        double p = sample_p(r, __uint_as_float(bits));
        if (ties > equal) ties = equal;
        if (pass == 1) { // the fewest of the ties that reach `need`, at least one in all
            int fewest = 1;
            while (fewest < ties && above + fewest * p < need) fewest++;
            ties = fewest;
        }
        bound.ties = ties;
        *mass = above + ties * p;
    }
    return bound;
}

// ----------------------------------------------------------------------------
// drawing

// The first token of a chunk, of those kept, with whose p the sum, starting from `before`, exceeds target; r.V if there
// is none. *before then includes the chunk, *ties what it took of the ties, *last is its last token with p > 0
// (unchanged if none).
__device__ __forceinline__ int sample_draw_in_chunk(const SampleRow &r, int chunk, double target, uint32_t key,
                                                    int *ties, double *before, int *last, double *parts, int *counts) {
    const int first = chunk * OUTPUT_CHUNK + 16 * (int)threadIdx.x;
    float p[16];
    int equal = 0, total_equal = 0;
    if (*ties > 0) {
        #pragma unroll
        for (int i = 0; i < 16; i++)
            equal += first + i < r.V && sample_key(output_z(r.logits[first + i], r.inv_t)) == key;
    }
    int left = *ties - block_sum_before(equal, &total_equal, counts); // ties that may still be taken from here on
    double sum = 0, total;
    #pragma unroll
    for (int i = 0; i < 16; i++) {
        p[i] = 0;
        if (first + i >= r.V) continue;
        float z = output_z(r.logits[first + i], r.inv_t);
        uint32_t k = sample_key(z);
        if (k > key || (k == key && left-- > 0)) p[i] = sample_p(r, z);
        sum += p[i];
    }
    double running = *before + block_sum_before(sum, &total, parts);
    int mine = r.V, latest = -1;
    #pragma unroll
    for (int i = 0; i < 16; i++) {
        if (!(p[i] > 0)) continue;
        latest = first + i;
        running += p[i];
        if (mine == r.V && running > target) mine = latest;
    }
    mine = block_reduce<Smallest>(mine, counts);
    latest = block_reduce<Largest>(latest, counts);
    if (latest >= 0) *last = latest;
    *ties -= total_equal;
    *before += total;
    return mine;
}

// u in the whole distribution: the chunk first, then the token in it
__device__ __forceinline__ int sample_draw(const SampleRow &r, float u, double *parts, int *counts) {
    double target = u * r.row.total, sum = 0, before = 0;
    int chunk = 0, none = 0, last = -1;
    for (int c = 0; c < r.n_chunks; c++) {
        double share = output_share(r.chunks[c], r.row.max);
        if (!(share > 0)) continue;
        chunk = c;
        before = sum;
        sum += share;
        if (sum > target) break;
    }
    int token = sample_draw_in_chunk(r, chunk, target, 0, &none, &before, &last, parts, counts);
    return token < r.V ? token : last;
}

__device__ __forceinline__ int sample_draw_filtered(const SampleRow &r, float u, int top_k, float top_p, double *cells,
                                                    double *sums, double *parts, int *counts) {
    double mass, before = 0;
    SampleBound bound = sample_bound(r, top_k, top_p, &mass, cells, sums, parts, counts);
    int last = -1;
    for (int c = 0; c < r.n_chunks; c++) {
        if (sample_key(r.chunks[c].max) < bound.key) continue;
        int token = sample_draw_in_chunk(r, c, u * mass, bound.key, &bound.ties, &before, &last, parts, counts);
        if (token < r.V) return token;
    }
    return last;
}

// the lowest id of the largest logits
__device__ __forceinline__ int sample_greedy(const SampleRow &r, int *counts) {
    int chunk = 0, token = r.V;
    while (r.chunks[chunk].max != r.row.max) chunk++;
    for (int v = chunk * OUTPUT_CHUNK + (int)threadIdx.x; v < r.V && v < (chunk + 1) * OUTPUT_CHUNK;
         v += SAMPLE_THREADS)
        if (output_z(r.logits[v], r.inv_t) == r.row.max && v < token) token = v;
    return block_reduce<Smallest>(token, counts);
}

// ----------------------------------------------------------------------------

enum { SAMPLE_GREEDY, SAMPLE_ALL, SAMPLE_FILTERED };

template <int HOW>
__global__ void __launch_bounds__(SAMPLE_THREADS, 2)
    sample_rows_kernel(int *token, float *logprob, const float *logits, const OutputChunk *chunks, const float *u,
                       float inv_t, int top_k, float top_p, int n_chunks, int V) {
    SHARED(OutputRow, row);
    SHARED(double, parts, [SAMPLE_WARPS]);
    SHARED(int, counts, [SAMPLE_WARPS]);
    const int i = (int)blockIdx.x;
    SampleRow r;
    r.logits = logits + (size_t)i * V;
    r.chunks = chunks + (size_t)i * n_chunks;
    r.inv_t = inv_t;
    r.V = V;
    r.n_chunks = n_chunks;
    if (threadIdx.x == 0) row = output_row(r.chunks, n_chunks);
    __syncthreads();
    r.row = row;
    int drawn = -1;
    if (isfinite(r.row.lse)) {
        if (HOW == SAMPLE_GREEDY) drawn = sample_greedy(r, counts);
        if (HOW == SAMPLE_ALL) drawn = sample_draw(r, u[i], parts, counts);
        if (HOW == SAMPLE_FILTERED) {
            SHARED(double, cells, [16 * SAMPLE_THREADS]);
            SHARED(double, sums, [16]);
            drawn = sample_draw_filtered(r, u[i], top_k, top_p, cells, sums, parts, counts);
        }
    }
    if (threadIdx.x > 0) return;
    token[i] = drawn;
    logprob[i] = drawn < 0 ? NAN : output_logprob(r.logits[drawn], inv_t, r.row.lse);
}

void cuda_sample_rows(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k,
                      float top_p, int n, int V) {
    if (n == 0) return;
    bool greedy = temperature <= 0;
    float inv_t = 1.0f / (greedy ? 1.0f : temperature);
    if (top_k >= V) top_k = 0;
    OutputChunk *chunks = output_chunks(logits, inv_t, n, V);
    int n_chunks = output_chunks_of(V);
#define SAMPLE(how) \
    LAUNCH(sample_rows_kernel<how>, (unsigned)n, SAMPLE_THREADS, 0, cuda_stream) \
    (token, logprob, logits, chunks, u, inv_t, top_k, top_p, n_chunks, V)
    if (greedy) SAMPLE(SAMPLE_GREEDY);
    else if (top_k > 0 || top_p < 1) SAMPLE(SAMPLE_FILTERED);
    else SAMPLE(SAMPLE_ALL);
#undef SAMPLE
    CUDA_CHECK(cudaGetLastError());
}

#endif
