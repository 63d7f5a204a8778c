/*
Drawing tokens: a block per row inverts the cumulative distribution at the given random number, tokens in order of id, after top_k
and top_p. See ops.h.

Probabilities are whole numbers here: exp(z - max) in units of 2^-40. Sums of whole numbers are exact, so they do not depend on the
order in which threads add them, and atomics may be used. A token 2^40 times less likely than the best is never drawn.

What top_k and top_p keep is "the values above a threshold, and the first few that equal it". The threshold is found by a radix
search over the bits of z, eight at a time, from histograms of counts and masses.
*/
#ifndef LLMC_CUDA_SAMPLE_CUH
#define LLMC_CUDA_SAMPLE_CUH

#include "llmc/cuda/output.cuh"

typedef unsigned long long Mass;

#define SAMPLE_UNIT 1099511627776.0f // 2^40
#define SAMPLE_CHUNKS 1024           // pieces of the vocabulary that are summed apart, at most
#define SAMPLE_WARPS (OUTPUT_THREADS / 32)

// One row, to every thread.
struct Row { const float *logits; float inv_t, max; int V; };

__device__ __forceinline__ float row_z(const Row &r, int v) { return r.logits[v] * r.inv_t; }
__device__ __forceinline__ Mass row_mass(const Row &r, float z) { return (Mass)(expf(z - r.max) * SAMPLE_UNIT); }

// z as a whole number in the same order; 0 and -0 are the same.
__device__ __forceinline__ unsigned row_key(float z) {
    const unsigned bits = __float_as_uint(z + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Kept: the tokens whose key is above `key`, and the first `ties` of those that equal it.
struct Kept { unsigned key; int ties; };

struct SelectMemory {
    unsigned count[256];
    Mass mass[256];
    unsigned prefix, above_count;
    Mass above_mass;
};

// The fewest of the most likely tokens that are `count` in number, or whose masses reach `mass` (count 0). Every thread calls it.
// *kept_mass = their mass.
__device__ Kept row_select(const Row &r, unsigned count, Mass mass, SelectMemory *s, Mass *kept_mass) {
    if (threadIdx.x == 0) {
        s->prefix = 0;
        s->above_count = 0;
        s->above_mass = 0;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int i = threadIdx.x; i < 256; i += OUTPUT_THREADS) {
            s->count[i] = 0;
            s->mass[i] = 0;
        }
        __syncthreads();
        const unsigned prefix = s->prefix;
        for (int v = threadIdx.x; v < r.V; v += OUTPUT_THREADS) {
            const float z = row_z(r, v);
            const unsigned key = row_key(z);
            if (shift < 24 && key >> (shift + 8) != prefix) continue;
            atomicAdd(&s->count[key >> shift & 255], 1u);
            atomicAdd(&s->mass[key >> shift & 255], row_mass(r, z));
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 255;
            for (; digit > 0; digit--) {
                const unsigned c = s->above_count + s->count[digit];
                const Mass m = s->above_mass + s->mass[digit];
                if (s->count[digit] > 0 && (count > 0 ? c >= count : m >= mass)) break;
                s->above_count = c;
                s->above_mass = m;
            }
            s->prefix = prefix << 8 | (unsigned)digit;
        }
        __syncthreads();
    }
    // all that are left have the same key, so the same mass
    const unsigned equal = s->count[s->prefix & 255];
    const Mass each = equal > 0 ? s->mass[s->prefix & 255] / equal : 0;
    Mass ties = count > 0 ? count - s->above_count : each == 0 || s->above_mass >= mass ? 1 : (mass - s->above_mass + each - 1) / each;
    if (ties > equal) ties = equal;
    if (ties < 1) ties = 1;
    *kept_mass = s->above_mass + ties * each;
    const Kept kept = {s->prefix, (int)ties};
    __syncthreads();
    return kept;
}

// The lowest id of those with the largest value.
__device__ int row_best(const Row &r, int *parts) {
    int best = r.V;
    for (int v = threadIdx.x; v < r.V && best == r.V; v += OUTPUT_THREADS) if (row_z(r, v) == r.max) best = v;
    for (int step = 16; step > 0; step /= 2) best = min(best, __shfl_xor_sync(0xFFFFFFFFu, best, step));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = best;
    __syncthreads();
    for (int i = 0; i < SAMPLE_WARPS; i++) best = min(best, parts[i]);
    return best;
}

struct DrawMemory {
    Mass above[SAMPLE_CHUNKS]; // of the tokens above the threshold, per chunk
    int ties[SAMPLE_CHUNKS];   // tokens that equal it
    int chunk, ties_before;    // where the token lies
    Mass target;               // what is left to reach in it
};

// The first token, in order of id, at which the masses of the kept tokens exceed u of their sum. -1 only where all masses are 0.
// Every thread calls it; thread 0's answer counts.
__device__ int row_draw(const Row &r, Kept kept, float u, DrawMemory *d) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int size = max(2048, ((r.V + SAMPLE_CHUNKS - 1) / SAMPLE_CHUNKS + 31) / 32 * 32), chunks = (r.V + size - 1) / size;
    for (int c = warp; c < chunks; c += SAMPLE_WARPS) {
        Mass above = 0;
        int ties = 0;
        for (int v = c * size + lane; v < min((c + 1) * size, r.V); v += 32) {
            const float z = row_z(r, v);
            const unsigned key = row_key(z);
            if (key > kept.key) above += row_mass(r, z);
            ties += key == kept.key;
        }
        above = warp_sum(above);
        ties = warp_sum(ties);
        if (lane == 0) {
            d->above[c] = above;
            d->ties[c] = ties;
        }
    }
    __syncthreads();
    // the value of a tie, from its key
    const unsigned bits = kept.key & 0x80000000u ? kept.key & 0x7FFFFFFFu : ~kept.key;
    const Mass each = kept.ties > 0 ? row_mass(r, __uint_as_float(bits)) : 0;
    if (threadIdx.x == 0) {
        Mass total = 0, before = 0;
        int ties = 0;
        for (int pass = 0; pass < 2; pass++) { // the sum; then the chunk
            const Mass target = (Mass)((double)u * (double)total);
            ties = 0;
            before = 0;
            for (int c = 0; c < chunks; c++) {
                const Mass share = d->above[c] + each * (Mass)max(0, min(d->ties[c], kept.ties - ties));
                if (pass == 1 && share > 0) {
                    d->chunk = c;
                    d->ties_before = ties;
                    d->target = target - before;
                    if (before + share > target) break;
                }
                before += share;
                ties += d->ties[c];
            }
            if (pass == 0) {
                total = before;
                d->chunk = -1;
            }
        }
    }
    __syncthreads();
    if (warp > 0 || d->chunk < 0) return -1;
    const int first = d->chunk * size, last = min(first + size, r.V);
    Mass before = 0;
    int ties = d->ties_before, token = -1;
    for (int v0 = first; v0 < last; v0 += 32) {
        const int v = v0 + lane;
        const float z = v < last ? row_z(r, v) : -INFINITY;
        const unsigned key = v < last ? row_key(z) : 0;
        const unsigned equal = __ballot_sync(0xFFFFFFFFu, v < last && key == kept.key);
        const bool keep = v < last && (key > kept.key || (key == kept.key && ties + __popc(equal & ((1u << lane) - 1)) < kept.ties));
        const Mass mine = keep ? row_mass(r, z) : 0;
        Mass sum = mine;
        for (int step = 1; step < 32; step *= 2) {
            const Mass other = __shfl_up_sync(0xFFFFFFFFu, sum, step);
            if (lane >= step) sum += other;
        }
        const unsigned reached = __ballot_sync(0xFFFFFFFFu, mine > 0 && before + sum > d->target), possible = __ballot_sync(0xFFFFFFFFu, mine > 0);
        if (possible) token = v0 + 31 - __clz(possible); // the last, should rounding leave the target unreached
        if (reached) {
            token = v0 + __ffs(reached) - 1;
            break;
        }
        before += __shfl_sync(0xFFFFFFFFu, sum, 31);
        ties += __popc(equal);
    }
    return token;
}

__global__ void __launch_bounds__(OUTPUT_THREADS) sample_kernel(int *token, float *logprob, const float *logits, const float *u, float temperature,
                                                                int top_k, float top_p, int V) {
    SHARED(RowSums, parts, [SAMPLE_WARPS]);
    SHARED(int, best, [SAMPLE_WARPS]);
    SHARED(SelectMemory, select);
    SHARED(DrawMemory, draw);
    const bool greedy = temperature <= 0;
    Row r = {logits + (size_t)blockIdx.x * V, greedy ? 1.0f : 1.0f / temperature, 0, V};
    const RowSums sums = row_sums(r.logits, r.inv_t, V, parts);
    const float lse = sums.m + logf(sums.s);
    r.max = sums.m;
    int drawn = -1;
    if (isfinite(lse)) { // the same for all threads
        if (greedy) {
            drawn = row_best(r, best);
        } else {
            Kept kept = {0, 0}; // all
            Mass mass = 0;
            const bool few = top_k > 0 && top_k < V;
            if (few) kept = row_select(r, (unsigned)top_k, 0, &select, &mass);
            if (top_p < 1) {
                if (!few) row_select(r, (unsigned)V, 0, &select, &mass); // the mass of all
                const Mass wanted = (Mass)ceil((double)top_p * (double)mass);
                kept = row_select(r, 0, wanted > 0 ? wanted : 1, &select, &mass);
            }
            drawn = row_draw(r, kept, u[blockIdx.x], &draw);
        }
    }
    if (threadIdx.x > 0) return;
    token[blockIdx.x] = drawn;
    logprob[blockIdx.x] = drawn < 0 ? NAN : r.logits[drawn] * r.inv_t - lse;
}

static void cuda_sample_rows(int *token, float *logprob, const float *logits, const float *u, float temperature, int top_k, float top_p, int n, int V) {
    if (n == 0) return;
    LAUNCH(sample_kernel, n, OUTPUT_THREADS, 0, cuda_stream)(token, logprob, logits, u, temperature, top_k, top_p, V);
    CUDA_CHECK(cudaGetLastError());
}

#endif
