/*
Device `cuda`: the table of operations (ops.h) in CUDA. One translation unit, compiled by nvcc for a GPU, or by g++ for
dev/cuda_on_cpu, which runs the same kernels without one; the programs stay C and link with it.

    llmc/cuda/memory.cuh    device memory, copies             output.cuh     log-probs, entropy, their gradient
              limits.cuh    what the GPU can do at most
              graph.cuh     decode steps recorded and replayed
              rows.cuh      residual stream, norms            sample.cuh     drawing tokens
              matmul.cuh    weights, products (cuBLASLt)      update.cuh     gradient norm, AdamW
              swiglu.cuh    feed-forward                      rope.cuh, attention*.cuh

Everything is queued in one stream; only wait, download and gradient_norm wait. No kernel adds floats atomically or
waits for another block, so no bit of a kernel's result depends on the order in which the GPU runs its threads.
*/
#include "llmc/cuda/attention_backward.cuh" // rope.cuh, attention.cuh, attention_decode.cuh
#include "llmc/cuda/cuda.h"                 // what this file gives to the programs
#include "llmc/cuda/intervene.cuh"          // what experiments change in the forward pass
#include "llmc/cuda/limits.cuh"             // cuda_peak_flops, cuda_copy_speed
#include "llmc/cuda/matmul.cuh"             // memory.cuh, rows.cuh
#include "llmc/cuda/lora.cuh"               // products of few rows: LoRA
#include "llmc/cuda/sample.cuh"             // output.cuh
#include "llmc/cuda/swiglu.cuh"
#include "llmc/cuda/update.cuh"

// All that cuda_scratch gives, and how much of each the largest calls want.
#define CUDA_SCRATCHES 5
static CudaScratch *const cuda_scratches[CUDA_SCRATCHES] = {&cuda.backward, &cuda.update, &cuda.convert, &cuda.decode,
                                                            &cuda.output};
static void cuda_scratch_sizes(size_t bytes[CUDA_SCRATCHES], const LargestPass *p) {
    size_t at[6];
    auto backward = p->HD <= 32    ? backward_scratch_bytes<32>
                    : p->HD <= 64  ? backward_scratch_bytes<64>
                    : p->HD <= 128 ? backward_scratch_bytes<128>
                                   : backward_scratch_bytes<256>;
    bytes[0] = p->backward ? backward(at, p->T, p->n_sequences, p->NKV, p->HD) : 0;
    bytes[1] = p->backward ? NORM_BYTES : 0;
    bytes[2] = p->fp32_weights ? CONVERT_BYTES : cuda.convert.bytes;
    bytes[3] = decode_scratch_bytes(p->NH, p->NKV, p->HD);
    bytes[4] = output_chunks_bytes(p->head_rows, p->V);
}

static size_t cuda_own_bytes(const LargestPass *p) {
    size_t bytes[CUDA_SCRATCHES], sum = cuda.workspace_bytes;
    cuda_scratch_sizes(bytes, p);
    for (int i = 0; i < CUDA_SCRATCHES; i++) sum += bytes[i];
    return sum;
}

static void cuda_reserve(const LargestPass *p) {
    size_t bytes[CUDA_SCRATCHES];
    cuda_scratch_sizes(bytes, p);
    for (int i = 0; i < CUDA_SCRATCHES; i++) cuda_scratch(cuda_scratches[i], bytes[i]);
}

// How many GPUs this process can see; 0 and in why[why_size] the reason, with what to do about it.
static int gpu_count(char *why, size_t why_size) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    snprintf(why, why_size, "no GPU can be used: %s\n  -> %s",
             error != cudaSuccess ? cudaGetErrorString(error) : "there is none",
             error == cudaErrorInsufficientDriver ? cuda_advice(error)
                                                  : "see what nvidia-smi says, or use --device cpu");
    return 0;
}

extern "C" bool gpu_choose(Gpu *gpu, int local_rank, char *why, size_t why_size) {
    cudaDeviceProp properties;
    memset(gpu, 0, sizeof *gpu);
    gpu->count = gpu_count(why, why_size);
    if (gpu->count == 0) return false;
    gpu->index = local_rank % gpu->count;
    CUDA_CHECK(cudaSetDevice(gpu->index));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, gpu->index));
    snprintf(gpu->name, sizeof gpu->name, "%.60s", properties.name);
    CUDA_CHECK(cudaDeviceGetPCIBusId(gpu->bus, sizeof gpu->bus, gpu->index));
    return true;
}

extern "C" void *gpu_stream(void) { return cuda_stream; }

// The first call makes the stream and the buffers on the current device; later ones give the same table.
extern "C" const Ops *ops_cuda_init(char *why, size_t why_size) {
    static Ops ops;
    static char isa[32];
    if (ops.name) return &ops;
    int device = 0;
    if (gpu_count(why, why_size) == 0) return NULL;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&cuda.device, device));
    if (cuda.device.major < 8) {
        snprintf(why, why_size,
                 "GPU %d, %s, has compute capability %d.%d; 8.0 or higher is needed (bf16 tensor cores)\n"
                 "  -> choose another GPU by CUDA_VISIBLE_DEVICES, or use --device cpu",
                 device, cuda.device.name, cuda.device.major, cuda.device.minor);
        return NULL;
    }
    CUDA_CHECK(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking));
    CUBLAS_CHECK(cublasLtCreate(&cuda.cublas));
    cuda.workspace_bytes = (size_t)(cuda.device.major >= 9 ? 32 : 4)
                           << 20; // what NVIDIA advises for Hopper, and before it
    cuda.workspace = cuda_allocate(cuda.workspace_bytes);
    cuda_staging_init();

#ifdef CUDA_ON_CPU
    snprintf(isa, sizeof isa, "sm_%d%d emulated", cuda.device.major, cuda.device.minor);
#else
    snprintf(isa, sizeof isa, "sm_%d%d", cuda.device.major, cuda.device.minor);
#endif
    ops.isa = isa;
    ops.act_bytes = sizeof(bf16);
    ops.host_memory = false;
    ops.alloc = cuda_alloc;
    ops.release = cuda_release;
    ops.zero = cuda_zero;
    ops.upload = cuda_upload;
    ops.download = cuda_download;
    ops.wait = cuda_wait;
    ops.memory = cuda_memory_taken;
    ops.own_bytes = cuda_own_bytes;
    ops.reserve = cuda_reserve;
    ops.peak_flops = cuda_peak_flops;
    ops.copy_speed = cuda_copy_speed;
    ops.cache_bytes = (size_t)cuda.device.l2CacheSize;
    ops.graph_begin = cuda_graph_begin;
    ops.graph_end = cuda_graph_end;
    ops.embedding_load = cuda_embedding_load;
    ops.embedding_free = cuda_embedding_free;
    ops.weight_load = cuda_weight_load;
    ops.weight_free = cuda_weight_free;
    ops.embed = cuda_embed;
    ops.add_rmsnorm_forward = cuda_add_rmsnorm_forward;
    ops.rmsnorm_backward = cuda_rmsnorm_backward;
    ops.rmsnorm_weight_backward = cuda_rmsnorm_weight_backward;
    ops.column_sum = cuda_column_sum;
    ops.gather_rows = cuda_gather_rows;
    ops.scatter_add_rows = cuda_scatter_add_rows;
    ops.matmul_forward = cuda_matmul_forward;
    ops.matmul_backward = cuda_matmul_backward;
    ops.matmul_weight_backward = cuda_matmul_weight_backward;
    ops.lora_down = cuda_lora_down;
    ops.lora_up = cuda_lora_up;
    ops.lora_grad = cuda_lora_grad;
    ops.rope_kv_write = cuda_rope_kv_write;
    ops.rope_backward = cuda_rope_backward;
    ops.kv_copy_page = cuda_kv_copy_page;
    ops.attention_forward = cuda_attention_forward;
    ops.attention_backward = cuda_attention_backward;
    ops.to_act = cuda_to_act;
    ops.swiglu_forward = cuda_swiglu_forward;
    ops.swiglu_backward = cuda_swiglu_backward;
    ops.mix_blocks = cuda_mix_blocks;
    ops.act_add_row = cuda_act_add_row;
    ops.put_rows = cuda_put_rows;
    ops.logprob_rows = cuda_logprob_rows;
    ops.dlogits_rows = cuda_dlogits_rows;
    ops.sample_rows = cuda_sample_rows;
    ops.gradient_norm = cuda_gradient_norm;
    ops.adamw_update = cuda_adamw_update;
    ops.momentum_update = cuda_momentum_update;
    ops.name = "cuda";
    return &ops;
}
