/*
The GPUs of several ranks: NCCL moves arrays between them without the hosts' memory, over NVLink, PCIe or the network.
What is to be moved, and when, is dist/gpu.h's business; cuda.h says what the functions do. Linked to train_steer alone.

Nothing is added up here. ncclAllReduce would be shorter, but the order of its additions depends on the number of ranks
and on the network: the same gradient would have other bits on 2 ranks than on 1. Ours are made by
dist/gradient_reduction.h, in the tree's order, on every rank; those of all weights, where ncclReduceScatter would be
shorter, by dist/shard.h in the order of ranks.

A rank may be lost at any time, and a call that waits for it would wait for ever. mpirun or srun then end the others, as
they do without GPUs; where NCCL notices first (a link that broke), the loop in nccl_wait does it.
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nccl.h>

#include "llmc/cuda/cuda.h"
#include "llmc/cuda/launch.cuh" // cuda_runtime.h

static_assert(sizeof(ncclUniqueId) == NCCL_ID_BYTES, "the size of NCCL's id");

// This rank's end of the connection.
static struct {
    ncclComm_t comm;
    int rank, size;
    char host[64];
    void (*waiting)(void);
} nccl;

static const char *nccl_advice(ncclResult_t result) {
    switch (result) {
    case ncclSystemError:
        return "NCCL_DEBUG=WARN says which; often a network card: NCCL_SOCKET_IFNAME=<its name> chooses one; or too "
               "small a /dev/shm";
    case ncclRemoteError:
        return "another rank, its machine or its link was lost: see above what it said; then go on with --resume auto";
    case ncclInvalidUsage: return "one GPU for each rank, and the same NCCL on all machines; NCCL_DEBUG=WARN says more";
    case ncclUnhandledCudaError: return "see whether nvidia-smi finds the GPUs in order; NCCL_DEBUG=WARN says more";
    default: return "NCCL_DEBUG=WARN in the environment says more; `make NCCL=0` builds without NCCL";
    }
}

// Ends this rank; the exit that follows ends the others (dist/ranks.h). The abort stops what still waits on the GPU,
// which would keep the process from ending.
[[noreturn]] static void nccl_failed(const char *call, const char *error, const char *detail, const char *advice) {
    fprintf(stderr, "error: rank %d of %d (%s): %s: %s%s%s\n  -> %s\n", nccl.rank, nccl.size, nccl.host, call, error,
            *detail ? ": " : "", detail, advice);
    if (nccl.comm) ncclCommAbort(nccl.comm);
    nccl.comm = NULL;
    exit(EXIT_FAILURE);
}

static void nccl_check(ncclResult_t result, const char *call) {
    if (result == ncclSuccess) return;
    const char *detail = ncclGetLastError(nccl.comm);
    nccl_failed(call, ncclGetErrorString(result), detail ? detail : "", nccl_advice(result));
}
#define NCCL_CHECK(call) nccl_check(call, #call)

// Returns when what was queued is done. Not cudaStreamSynchronize, which never returns when a rank is lost.
static void nccl_wait(cudaStream_t stream) {
    const struct timespec pause = {0, 50000};
    for (cudaError_t state = cudaErrorNotReady; state == cudaErrorNotReady;) {
        state = cudaStreamQuery(stream);
        ncclResult_t broken = ncclSuccess;
        NCCL_CHECK(ncclCommGetAsyncError(nccl.comm, &broken));
        nccl_check(broken, "exchange of the gradient");
        if (state == cudaErrorNotReady) {
            nanosleep(&pause, NULL);
            nccl.waiting(); // ends the run when a rank does not come (dist/ranks.h)
        } else if (state != cudaSuccess)
            nccl_failed("exchange of the gradient", cudaGetErrorString(state), "", nccl_advice(ncclUnhandledCudaError));
    }
}

extern "C" {

int nccl_version(void) {
    int version = 0;
    NCCL_CHECK(ncclGetVersion(&version));
    return version;
}

bool nccl_make_id(void *id, char *why, size_t why_bytes) {
    ncclUniqueId fresh;
    ncclResult_t result = ncclGetUniqueId(&fresh);
    if (result != ncclSuccess) {
        snprintf(why, why_bytes, "ncclGetUniqueId: %s: %s\n  -> %s", ncclGetErrorString(result), ncclGetLastError(NULL),
                 nccl_advice(result));
        return false;
    }
    memcpy(id, &fresh, sizeof fresh);
    return true;
}

void nccl_begin(const void *id, int rank, int size, const char *host, void (*waiting)(void)) {
    ncclUniqueId name;
    memcpy(&name, id, sizeof name);
    nccl.rank = rank;
    nccl.size = size;
    nccl.waiting = waiting;
    snprintf(nccl.host, sizeof nccl.host, "%s", host);
    NCCL_CHECK(ncclCommInitRank(&nccl.comm, size, name, rank));
}

void nccl_share(float *arrays, const float *const *from, const int *owner, int n, size_t count) {
    const cudaStream_t stream = (cudaStream_t)gpu_stream();
    NCCL_CHECK(ncclGroupStart());
    for (int i = 0; i < n; i++) {
        float *to = arrays + (size_t)i * count;
        NCCL_CHECK(
            ncclBroadcast(owner[i] == nccl.rank ? from[i] : to, to, count, ncclFloat32, owner[i], nccl.comm, stream));
    }
    NCCL_CHECK(ncclGroupEnd());
    nccl_wait(stream);
}

void nccl_trade(float *in, const float *out, size_t stride, size_t count) {
    const cudaStream_t stream = (cudaStream_t)gpu_stream();
    NCCL_CHECK(ncclGroupStart());
    for (int r = 0; r < nccl.size; r++) {
        NCCL_CHECK(ncclSend(out + (size_t)r * stride, count, ncclFloat32, r, nccl.comm, stream));
        NCCL_CHECK(ncclRecv(in + (size_t)r * count, count, ncclFloat32, r, nccl.comm, stream));
    }
    NCCL_CHECK(ncclGroupEnd());
    nccl_wait(stream);
}

void nccl_end(void) {
    if (!nccl.comm) return;
    ncclComm_t comm = nccl.comm;
    nccl.comm = NULL;
    NCCL_CHECK(ncclCommDestroy(comm));
}
}
