/*
Between backend.c and the levels: what a level calls that is the same for all of them, so that it is compiled for every
CPU and not for one level; and the one function of each level.
*/
#ifndef LLMC_CPU_SHARED_H
#define LLMC_CPU_SHARED_H

#include "llmc/cpu/cpu.h" // CpuChains; Ops, Weight, Sequence, bf16_t

#ifdef __cplusplus
extern "C" {
#endif

// below this many elements one thread is faster than waking the others
#define CPU_PARALLEL_MIN 8192

// ----------------------------------------------------------------------------
// memory

// 64-byte aligned scratch, contents undefined. Freed with free(). Ends the program when there is none.
void *cpu_scratch(size_t bytes);

// ----------------------------------------------------------------------------
// weights

// w = raw[0 ... n_raw-1] stacked along N, all [*, K]. Where one of them is quantised, w is computed from the tensors as
// they lie in the file (unpack.h). Else they are packed in strips of `strip` rows as matmul.h describes, columns filled
// up with zeros to a multiple of `whole`. turn(to, x) packs 32 columns of `strip` rows x[strip][32]. Freed by
// cpu_weight_free.
void cpu_weight_pack(Weight *w, const RawTensor *raw, int n_raw, int strip, int whole,
                     void (*turn)(bf16_t *to, const bf16_t *x));
void cpu_weight_free(Weight *w);

// Bytes of what cpu_weight_pack keeps.
size_t cpu_weight_bytes(const RawTensor *raw, int n_raw, int whole);

// to[n,T] = n columns of from[T,ld]
void cpu_turn(bf16_t *to, const bf16_t *from, int T, int n, int ld);

// ----------------------------------------------------------------------------
// output: a row of logits is cut into chunks of OUTPUT_CHUNK tokens at fixed places (output.h). z = logit /
// temperature.

#define OUTPUT_CHUNK 4096

// of one chunk: largest z, sum of e = exp(z - max), sum of e (z - max)
typedef struct {
    float max, sum, moment;
} OutputChunk;

// of one row: largest z, sum of exp(z - max), log sum exp(z)
typedef struct {
    float max, lse;
    double total;
} OutputRow;

typedef struct {
    float z, p;
    int id;
} OutputCandidate; // p = exp(z - max of the row)

// how much of exp(z - row's max) is in the chunk
double cpu_output_share(const OutputChunk *c, const OutputRow *row);

// The chunks of one row put together, in order.
OutputRow cpu_output_row(const OutputChunk *c, int n_chunks);

// -sum p log p = log total - sum e (z - max) / total
float cpu_output_entropy(const OutputChunk *c, int n_chunks, const OutputRow *row);

// Whether a comes before b: the larger z, of equals the lower id.
bool cpu_output_better(const OutputCandidate *a, const OutputCandidate *b);

// Reorders c so that the fewest best candidates whose weights (p, or 1 each if `counting`) reach `need` come first
// and returns how many they are, at least 1. Quickselect: linear on average, nothing is sorted.
int cpu_output_select(OutputCandidate *c, int n, double need, bool counting);

// ----------------------------------------------------------------------------
// attention

// Which sequence task i belongs to, when sequences have first[s+1] - first[s] tasks each.
int cpu_attention_sequence(const int *first, int n_sequences, int task);

// ----------------------------------------------------------------------------
// the levels. Each fills in the operations that it has kernels of its own for, and its chains.

typedef void CpuFill(Ops *ops, CpuChains *chains);
CpuFill cpu_level_portable;
CpuFill cpu_level_avx2;
CpuFill cpu_level_avx512;
CpuFill cpu_level_avx512_bf16; // products alone, the rest is avx512's
CpuFill cpu_level_amx;         // products alone, the rest is avx512's
CpuFill cpu_level_neon;
CpuFill cpu_level_neon_bf16; // products alone, the rest is neon's

#ifdef __cplusplus
}
#endif

#endif
