/*
Ranks with GPUs: which one each rank computes on, and how arrays get from one GPU's memory to all others'. By NCCL
directly, where the program was built with it (cuda/nccl.cu); otherwise through the hosts' memory, by dist_gather. MPI
has started the processes and hands out the id by which NCCL finds them.
*/
#ifndef LLMC_DIST_GPU_H
#define LLMC_DIST_GPU_H

#include "llmc/device.h"     // cuda/cuda.h: Gpu, gpu_choose, nccl_...
#include "llmc/dist/ranks.h" // dist, dist_gather, agree

typedef struct {
    bool direct;   // arrays go from GPU to GPU: dist_gpu_share, dist_gpu_trade
    char gpu[160]; // for the header of a run: this rank's GPU, and what moves the gradient; empty: nothing to say
    char gradient[100];
} DistGpu;

DistGpu dist_gpu;

#ifdef LLMC_CUDA
static Gpu dist_gpu_chosen;
#endif

// Gives this rank its GPU: before ops_for_device, and before anything else uses CUDA. Each rank for itself. Several
// ranks of a machine take its GPUs in turn; where the launcher shows each rank one GPU alone (Slurm does), that is it.
bool dist_gpu_choose(const char *device, Error *err) {
#ifdef LLMC_CUDA
    char why[512];
    if (strcmp(device, "cuda") != 0) return true;
    if (!gpu_choose(&dist_gpu_chosen, dist.local_rank, why, sizeof why))
        return fail(err, EXIT_RUN, "device cuda: %s", why);
    snprintf(dist_gpu.gpu, sizeof dist_gpu.gpu, "%s, number %d of %d on %s", dist_gpu_chosen.name,
             dist_gpu_chosen.index, dist_gpu_chosen.count, dist.host);
#else
    (void)device;
    (void)err;
#endif
    return true;
}

// Whether arrays will go from GPU to GPU, once dist_gpu_begin has connected them.
bool dist_gpu_will_be_direct(const char *device) {
#ifdef LLMC_NCCL
    return dist.size > 1 && strcmp(device, "cuda") == 0;
#else
    (void)device;
    return false;
#endif
}

#ifdef LLMC_NCCL
static DistWait dist_gpu_wait;
static void dist_gpu_waiting(void) { dist_wait_on(&dist_gpu_wait); }
#endif

// Connects the GPUs of all ranks, which call this together after dist_gpu_choose. With one rank, or without NCCL, it
// only says so.
bool dist_gpu_begin(const char *device, Error *err) {
    if (dist.size == 1) return true;
    const bool cuda = strcmp(device, "cuda") == 0;
    struct {
        int cuda, nccl, machine;
        char bus[32];
    } mine, *one, *other;
    memset(&mine, 0, sizeof mine);
    mine.cuda = cuda;
    mine.machine = dist.machine;
#ifdef LLMC_CUDA
    snprintf(mine.bus, sizeof mine.bus, "%s", dist_gpu_chosen.bus);
#endif
#ifdef LLMC_NCCL
    if (cuda) mine.nccl = nccl_version();
#endif
    Str all = {0};
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    bool ok = true;
    dist_gather(&all, start, &mine, sizeof mine);
    one = (__typeof__(one))(void *)all.s;
    if (mine.cuda != one->cuda)
        ok = fail(err, EXIT_RUN, "this rank has --device %s, rank 0 has not\n  -> the same call on every machine",
                  device);
    else if (mine.nccl != one->nccl)
        ok = fail(
            err, EXIT_RUN,
            "NCCL here is %d, that of rank 0 is %d (0: built without)\n  -> the same program and NCCL on every machine",
            mine.nccl, one->nccl);
    for (int r = 0; r < dist.rank && ok && mine.nccl; r++) {
        other = one + r;
        if (mine.machine == other->machine && strcmp(mine.bus, other->bus) == 0)
            ok = fail(err, EXIT_RUN,
                      "it has the same GPU as rank %d (%s), for there are more ranks on this machine than GPUs that "
                      "they can see; NCCL wants one for each\n"
                      "  -> no more ranks than GPUs, and CUDA_VISIBLE_DEVICES as it fits; or `make NCCL=0`: then they "
                      "share it, by way of the host",
                      r, mine.bus);
    }
    str_free(&all);
    free(start);
    if (!agree(ok, err)) return false;
    if (cuda)
        snprintf(dist_gpu.gradient, sizeof dist_gpu.gradient, "through the hosts' memory, by MPI (built without NCCL)");
#ifdef LLMC_NCCL
    if (dist_gpu_will_be_direct(device)) {
        char id[NCCL_ID_BYTES] = "", why[512];
        ok = dist.rank > 0 || nccl_make_id(id, why, sizeof why) || fail(err, EXIT_RUN, "%s", why);
        if (!agree(ok, err)) return false;
        dist_broadcast(id, sizeof id);
        nccl_begin(id, dist.rank, dist.size, dist.host, dist_gpu_waiting);
        dist_gpu.direct = true;
        const int v = mine.nccl;
        snprintf(dist_gpu.gradient, sizeof dist_gpu.gradient, "from GPU to GPU, by NCCL %d.%d.%d", v / 10000,
                 v / 100 % 100, v % 100);
        dist.close = nccl_end;
    }
#endif
    return true;
}

// arrays[n,count] on the GPU: array i = from[i] of rank owner[i] (see nccl_share, cuda/cuda.h). All ranks together,
// only where dist_gpu.direct.
void dist_gpu_share(float *arrays, const float *const *from, const int *owner, int n, size_t count) {
    const double start = now_s();
#ifdef LLMC_NCCL
    free(dist_gpu_wait.here);
    dist_wait_begin(&dist_gpu_wait);
    nccl_share(arrays, from, owner, n, count);
#else
    (void)arrays;
    (void)from;
    (void)owner;
    (void)n;
    (void)count;
#endif
    dist.seconds += now_s() - start;
}

// in[ranks,count] on the GPU: row r = what rank r has at out + r' stride, r' this rank (see nccl_trade, cuda/cuda.h).
// All ranks together, only where dist_gpu.direct.
void dist_gpu_trade(float *in, const float *out, size_t stride, size_t count) {
    const double start = now_s();
#ifdef LLMC_NCCL
    free(dist_gpu_wait.here);
    dist_wait_begin(&dist_gpu_wait);
    nccl_trade(in, out, stride, count);
#else
    (void)in;
    (void)out;
    (void)stride;
    (void)count;
#endif
    dist.seconds += now_s() - start;
}

#endif
