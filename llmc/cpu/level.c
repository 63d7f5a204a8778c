/*
The kernels of one level of `cpu` (cpu.h). Compiled once for each, with the flags of its instructions and -DSIMD=<its
name>; the one thing that leaves the object is the function at the end. Levels that have matrix products of their own
alone leave the rest to the level below them.
*/
#include "llmc/cpu/level.h"     // SIMD_LEVEL, SIMD_NAME
#include "llmc/cpu/shared.h"    // what all levels call
#include "llmc/utils/threads.h" // OpenMP, or its meaning for one thread

#include "llmc/cpu/matmul.h" // matrix products: packing, tiles, the deal among threads
#include "llmc/cpu/chains.h" // their multiply-add by itself, for its limit
#if SIMD_LEVEL == SIMD_VECTORS
#include "llmc/cpu/rows.h"      // embedding, norms, RoPE, SwiGLU, sums and copies of rows
#include "llmc/cpu/lora.h"      // products of few rows: LoRA
#include "llmc/cpu/attention.h" // forward and backward
#include "llmc/cpu/output.h"    // log-probs, their gradient, sampling
#endif

void SIMD_NAME(cpu_level)(Ops *ops, CpuChains *chains) {
    chains->run = SIMD_NAME(chains);
    chains->flops = CHAINS_FLOPS;
    ops->weight_load = SIMD_NAME(weight_load);
    ops->weight_bytes = SIMD_NAME(weight_bytes);
    ops->matmul_forward = SIMD_NAME(matmul_forward);
    ops->matmul_backward = SIMD_NAME(matmul_backward);
    ops->matmul_weight_backward = SIMD_NAME(matmul_weight_backward);
#if SIMD_LEVEL == SIMD_AMX
    ops->matmul_swiglu_forward = SIMD_NAME(matmul_swiglu_forward);
#endif
#if SIMD_LEVEL == SIMD_VECTORS
    ops->embed = SIMD_NAME(embed);
    ops->add_rmsnorm_forward = SIMD_NAME(add_rmsnorm_forward);
    ops->rmsnorm_backward = SIMD_NAME(rmsnorm_backward);
    ops->rmsnorm_weight_backward = SIMD_NAME(rmsnorm_weight_backward);
    ops->column_sum = SIMD_NAME(column_sum);
    ops->scatter_add_rows = SIMD_NAME(scatter_add_rows);
    ops->to_act = SIMD_NAME(to_act);
    ops->rope_kv_write = SIMD_NAME(rope_kv_write);
    ops->rope_backward = SIMD_NAME(rope_backward);
    ops->swiglu_forward = SIMD_NAME(swiglu_forward);
    ops->swiglu_backward = SIMD_NAME(swiglu_backward);
    ops->lora_down = SIMD_NAME(lora_down);
    ops->lora_up = SIMD_NAME(lora_up);
    ops->lora_grad = SIMD_NAME(lora_grad);
    ops->attention_forward = SIMD_NAME(attention_forward);
    ops->attention_backward = SIMD_NAME(attention_backward);
    ops->logprob_rows = SIMD_NAME(logprob_rows);
    ops->dlogits_rows = SIMD_NAME(dlogits_rows);
    ops->sample_rows = SIMD_NAME(sample_rows);
#endif
}
