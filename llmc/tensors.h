/*
THE table of a model's tensors: Hugging Face's names and those of GGUF, their shapes, which are stacked to one matrix,
which have a bias. Whatever loads, trains, saves or exports weights reads it and spells no name itself:
param_layout.h, files/.

All families that are built like Llama have the seven projections below, under these names. They differ in biases and
norms, which a Family states. A new family is another Family, its norms added to NormId, and a forward pass: Llama 3 has
no bias on q, k and v; OLMo 2 has its norms after attention and feed-forward, and one over the whole row of q (SIZE_Q)
and of k (SIZE_KV); Qwen3 has norms of q and k of SIZE_HD, and a head_dim of its own.
*/
#ifndef LLMC_TENSORS_H
#define LLMC_TENSORS_H

#include <stdio.h>  // snprintf
#include <string.h> // strcmp

// The sizes of a model that shapes are made of; model_size (model_config.h) gives their numbers.
typedef enum {
    SIZE_C,  // hidden_size
    SIZE_I,  // intermediate_size
    SIZE_HD, // head_dim
    SIZE_Q,  // all query heads: NH HD
    SIZE_KV, // all key (or value) heads: NKV HD
} Size;

// The matrices of a layer as they are multiplied: each is one projection or several that read the same input, stacked.
typedef enum { LINEAR_QKV, LINEAR_O, LINEAR_GATE_UP, LINEAR_DOWN, N_LINEARS } LinearId;

// The matrices of a layer as files have them, in the order of Hugging Face's. These are what a LoRA may change.
typedef enum { PROJ_Q, PROJ_K, PROJ_V, PROJ_O, PROJ_GATE, PROJ_UP, PROJ_DOWN, N_PROJ } Projection;

// The norms of a layer.
typedef enum { NORM_INPUT, NORM_POST, N_NORMS } NormId;

static const struct {
    const char *module; // name.weight, name.bias, below model.layers.<l>.
    const char *name;   // its last part, as PEFT's target_modules have it
    const char *gguf;   // the same in a GGUF file, below blk.<l>.
    Size rows, columns; // of the weight; a bias has `rows`
    LinearId linear;    // rows of the same linear are neighbours here, stacked in this order
} projections[N_PROJ] = {
    // in the order of Projection
    {"self_attn.q_proj", "q_proj", "attn_q", SIZE_Q, SIZE_C, LINEAR_QKV},
    {"self_attn.k_proj", "k_proj", "attn_k", SIZE_KV, SIZE_C, LINEAR_QKV},
    {"self_attn.v_proj", "v_proj", "attn_v", SIZE_KV, SIZE_C, LINEAR_QKV},
    {"self_attn.o_proj", "o_proj", "attn_output", SIZE_C, SIZE_Q, LINEAR_O},
    {"mlp.gate_proj", "gate_proj", "ffn_gate", SIZE_I, SIZE_C, LINEAR_GATE_UP},
    {"mlp.up_proj", "up_proj", "ffn_up", SIZE_I, SIZE_C, LINEAR_GATE_UP},
    {"mlp.down_proj", "down_proj", "ffn_down", SIZE_C, SIZE_I, LINEAR_DOWN},
};
#define MAX_STACKED 3 // projections of one linear

// BIAS_IF_STORED: loaded and added where the files have one (a steering vector), never trained.
typedef enum { NO_BIAS, BIAS, BIAS_IF_STORED } Bias;

// What families differ in. Either all projections of a linear have a bias, or none has.
typedef struct {
    Bias bias[N_PROJ]; // in the order of Projection
    struct {
        const char *module; // NULL: this family has no such norm
        Size size;
        const char *gguf;
    } norms[N_NORMS]; // in the order of NormId
} Family;

static const Family qwen2_family = {
    {BIAS, BIAS, BIAS, NO_BIAS, NO_BIAS, NO_BIAS, BIAS_IF_STORED},
    {{"input_layernorm", SIZE_C, "attn_norm"}, {"post_attention_layernorm", SIZE_C, "ffn_norm"}},
};

// Outside the layers.
#define MODULE_EMBEDDING "model.embed_tokens" // [V,C]
#define MODULE_FINAL_NORM "model.norm"        // [C]
#define MODULE_HEAD "lm_head"                 // [V,C]; absent where the embedding is both

// "model.layers.<l>.<module><end>", end being ".weight", ".bias", or "". Returns name.
#define TENSOR_NAME 64
static inline char *tensor_name(char name[TENSOR_NAME], int l, const char *module, const char *end) {
    snprintf(name, TENSOR_NAME, "model.layers.%d.%s%s", l, module, end);
    return name;
}

// The name in a GGUF file of the tensor that Hugging Face calls `name`; an empty text where there is none. Returns
// gguf.
static inline char *tensor_gguf_name(char gguf[TENSOR_NAME], const char *name, const Family *family) {
    static const char *const outside[][2] = {{MODULE_EMBEDDING ".weight", "token_embd.weight"},
                                             {MODULE_FINAL_NORM ".weight", "output_norm.weight"},
                                             {MODULE_HEAD ".weight", "output.weight"}};
    int l = -1, at = 0;
    gguf[0] = 0;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, outside[i][0]) == 0) snprintf(gguf, TENSOR_NAME, "%s", outside[i][1]);
    if (sscanf(name, "model.layers.%d.%n", &l, &at) != 1 || at == 0) return gguf;
    for (int i = 0; i < N_PROJ + N_NORMS; i++) {
        const char *module = i < N_PROJ ? projections[i].module : family->norms[i - N_PROJ].module,
                   *short_name = i < N_PROJ ? projections[i].gguf : family->norms[i - N_PROJ].gguf;
        const size_t n = module ? strlen(module) : 0;
        if (module && strncmp(name + at, module, n) == 0 && name[at + n] == '.')
            snprintf(gguf, TENSOR_NAME, "blk.%d.%s%s", l, short_name, name + at + n);
    }
    return gguf;
}

// The projections that a linear is stacked of: *first and how many after it, it included.
static inline int linear_projections(Projection *first, LinearId linear) {
    int n = 0;
    for (int p = N_PROJ - 1; p >= 0; p--) {
        if (projections[p].linear != linear) continue;
        *first = (Projection)p;
        n++;
    }
    return n;
}

#endif
