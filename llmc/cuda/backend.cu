/*
The CUDA backend: the table of ops.h for `--device cuda`. The one file that nvcc compiles, for a GPU; g++ -DCUDA_ON_CPU compiles the
same for the CPU, where dev/cuda_on_cpu runs it with checks. The programs are plain C and are linked to it.
*/
#include "llmc/cuda/attention.cuh"          // flash attention, prefill and decode
#include "llmc/cuda/attention_backward.cuh" // its gradients
#include "llmc/cuda/matmul.cuh"             // cuBLASLt; weights
#include "llmc/cuda/memory.cuh"             // allocation, upload, download
#include "llmc/cuda/output.cuh"             // log-probs, gradient of the logits
#include "llmc/cuda/rope.cuh"               // RoPE and the write to the cache
#include "llmc/cuda/rows.cuh"               // embedding, RMSNorm, column sum, rows picked
#include "llmc/cuda/sample.cuh"             // drawing tokens
#include "llmc/cuda/swiglu.cuh"
#include "llmc/cuda/update.cuh"             // gradient norm, AdamW

// NULL and the reason where there is no GPU to use.
extern "C" const Ops *ops_cuda_init(char *why, size_t why_bytes) {
    static Ops ops;
    static char isa[160];
    if (ops.name) return &ops;
    int devices = 0;
    const cudaError_t found = cudaGetDeviceCount(&devices);
    if (found != cudaSuccess || devices == 0) {
        snprintf(why, why_bytes, "no GPU can be used (%s)", found != cudaSuccess ? cudaGetErrorString(found) : "none is there");
        return NULL;
    }
    cudaDeviceProp device;
    CUDA_CHECK(cudaSetDevice(0));
    CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
    if (device.major < 8) {
        snprintf(why, why_bytes, "%s has compute capability %d.%d, expected 8.0 or above (bf16 tensor cores)", device.name, device.major, device.minor);
        return NULL;
    }
    cuda_major = device.major;
    snprintf(isa, sizeof isa, "%.120s, sm_%d%d", device.name, device.major, device.minor);
    CUDA_CHECK(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking));
    cuda_memory_init();
    cuda_matmul_init();

    ops.isa = isa;
    ops.act_bytes = sizeof(bf16);
    ops.host_memory = false;
    ops.alloc = cuda_alloc;
    ops.release = cuda_release;
    ops.zero = cuda_zero;
    ops.upload = cuda_upload;
    ops.download = cuda_download;
    ops.embedding_load = cuda_embedding_load;
    ops.embedding_free = cuda_embedding_free;
    ops.weight_load = cuda_weight_load;
    ops.weight_free = cuda_weight_free;
    ops.embed = cuda_embed;
    ops.add_rmsnorm_forward = cuda_add_rmsnorm_forward;
    ops.rmsnorm_backward = cuda_rmsnorm_backward;
    ops.column_sum = cuda_column_sum;
    ops.gather_rows = cuda_gather_rows;
    ops.scatter_add_rows = cuda_scatter_add_rows;
    ops.matmul_forward = cuda_matmul_forward;
    ops.matmul_backward = cuda_matmul_backward;
    ops.rope_kv_write = cuda_rope_kv_write;
    ops.rope_backward = cuda_rope_backward;
    ops.kv_copy_page = cuda_kv_copy_page;
    ops.attention_forward = cuda_attention_forward;
    ops.attention_backward = cuda_attention_backward;
    ops.to_act = cuda_to_act;
    ops.swiglu_forward = cuda_swiglu_forward;
    ops.swiglu_backward = cuda_swiglu_backward;
    ops.logprob_rows = cuda_logprob_rows;
    ops.dlogits_rows = cuda_dlogits_rows;
    ops.sample_rows = cuda_sample_rows;
    ops.gradient_norm = cuda_gradient_norm;
    ops.adamw_update = cuda_adamw_update;
    ops.name = "cuda";
    return &ops;
}
