/*
CUDA graphs (graph_begin, graph_end in ops.h): the operations of a decode step, some 13 launches a layer, come again
with every token. They are recorded once and from then on launched as one, which spares the host all but one call.

The first time that a key is seen its operations just run: that loads the kernels and settles what cuBLASLt chooses and
how much scratch memory there is, which may not happen while a stream is recorded. The second time they are recorded;
from the third on they are replayed.

A graph has the grids of its launches, and so the number of sequences, in it; as sequences end, that number falls. vLLM
pads a batch to the next of some recorded sizes; here each number has a graph of its own, which computes no row too many
and keeps the bits of the same operations launched one by one. The next rollouts meet the same numbers again. GRAPHS
bounds what is kept.
*/
#ifndef LLMC_CUDA_GRAPH_CUH
#define LLMC_CUDA_GRAPH_CUH

#include "llmc/cuda/common.cuh"

#define GRAPHS \
    256 // rollout_batch_size up to here has a graph for each number of sequences; of more, the least recently used goes
#define GRAPH_KEY_BYTES 2048

typedef struct {
    size_t bytes; // of the key; 0: free
    unsigned char key[GRAPH_KEY_BYTES];
    cudaGraphExec_t ready; // NULL: seen, not recorded yet
    long long used;        // when: counts calls of graph_begin
} Graph;

static Graph cuda_graphs[GRAPHS];
static long long cuda_graph_calls;
static Graph *cuda_recording; // between graph_begin and graph_end

static void cuda_graph_drop(Graph *g) {
    if (g->ready) {
        CUDA_CHECK(cudaStreamSynchronize(cuda_stream)); // it may still run
        CUDA_CHECK(cudaGraphExecDestroy(g->ready));
    }
    g->ready = NULL;
    g->bytes = 0;
}

// Memory is given back: any graph may point there, and at the same address other memory may come.
static void cuda_graphs_drop(void) {
    for (int i = 0; i < GRAPHS; i++)
        if (cuda_graphs[i].bytes) cuda_graph_drop(&cuda_graphs[i]);
}

bool cuda_graph_begin(const void *key, size_t bytes) {
    if (bytes == 0 || bytes > GRAPH_KEY_BYTES)
        cuda_failed("graph_begin", "the key is empty or too long", "raise GRAPH_KEY_BYTES", __FILE__, __LINE__);
    Graph *g = NULL, *oldest = cuda_graphs;
    for (int i = 0; i < GRAPHS && !g; i++) {
        if (cuda_graphs[i].bytes == bytes && memcmp(cuda_graphs[i].key, key, bytes) == 0) g = &cuda_graphs[i];
        if (oldest->bytes && (!cuda_graphs[i].bytes || cuda_graphs[i].used < oldest->used)) oldest = &cuda_graphs[i];
    }
    const bool seen = g != NULL;
    if (!seen) {
        g = oldest; // or a free one
        cuda_graph_drop(g);
        memcpy(g->key, key, bytes);
        g->bytes = bytes;
    }
    g->used = ++cuda_graph_calls;
    if (!seen) return true;
    if (g->ready) {
        CUDA_CHECK(cudaGraphLaunch(g->ready, cuda_stream));
        return false;
    }
    cuda_recording = g;
    CUDA_CHECK(cudaStreamBeginCapture(cuda_stream, cudaStreamCaptureModeThreadLocal));
    return true;
}

void cuda_graph_end(void) {
    if (!cuda_recording) return;
    cudaGraph_t graph;
    CUDA_CHECK(cudaStreamEndCapture(cuda_stream, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&cuda_recording->ready, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    CUDA_CHECK(cudaGraphLaunch(cuda_recording->ready, cuda_stream)); // recording has run nothing
    cuda_recording = NULL;
}

#endif
