/*
Planted bugs of calls to NCCL, between two processes. Part of planted.cu.
*/
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include <nccl.h>

// A second process is made, then both connect; each has a device of its own. Needs CUDA_ON_CPU_DEVICES=2.
static struct {
    int rank;
    pid_t other; // rank 0's: the process of rank 1
    ncclComm_t comm;
    cudaStream_t stream;
} two;

static void connect(bool same_device = false) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    two.other = fork();
    two.rank = two.other == 0;
    cudaSetDevice(same_device ? 0 : two.rank);
    cudaStreamCreateWithFlags(&two.stream, cudaStreamNonBlocking);
    ncclCommInitRank(&two.comm, 2, id, two.rank); // bug: nccl_same_device
}
// What run_case returns: this process's result, or, on rank 0, that of the other one where its own is right.
static int both(int mine) {
    int status = 0;
    if (two.rank == 0) waitpid(two.other, &status, 0);
    return mine ? mine : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static ncclResult_t async_error() {
    ncclResult_t error = ncclSuccess;
    ncclCommGetAsyncError(two.comm, &error);
    return error;
}
static int expect_result(ncclResult_t found, ncclResult_t expected) {
    if (found == expected) return 0;
    printf("wrong: rank %d: %s, expected %s\n", two.rank, ncclGetErrorString(found), ncclGetErrorString(expected));
    return 1;
}

// ----------------------------------------------------------------------------
// Right: no report, and each rank gets what the other has sent

static int run_nccl_right() {
    enum { N = 400000 }; // more than a piece
    connect();
    float *mine = device_floats(N, false), *all = device_floats(2 * N, false);
    for (int turn = 0; turn < 3; turn++) {
        std::vector<float> host(2 * N, float(10 * turn + two.rank));
        cudaMemcpyAsync(mine, host.data(), N * sizeof *mine, cudaMemcpyHostToDevice, two.stream);
        ncclGroupStart();
        for (int root = 0; root < 2; root++)
            ncclBroadcast(root == two.rank ? mine : all + root * N, all + root * N, N, ncclFloat32, root, two.comm,
                          two.stream);
        ncclGroupEnd();
        ncclBroadcast(all + 7, all + 7, 1, ncclFloat32, 1, two.comm, two.stream); // in place
        cudaMemcpyAsync(host.data(), all, 2 * N * sizeof *all, cudaMemcpyDeviceToHost, two.stream);
        for (int i = 0; i < 2 * N; i++)
            if (int wrong = expect(host[i], float(10 * turn + i / N))) return both(wrong);
    }
    // each sends to each, itself as well
    std::vector<float> host(2 * N);
    for (int i = 0; i < 2 * N; i++) host[i] = float(10 * two.rank + i / N);
    float *out = device_floats(2 * N, false);
    cudaMemcpyAsync(out, host.data(), 2 * N * sizeof *out, cudaMemcpyHostToDevice, two.stream);
    ncclGroupStart();
    for (int r = 0; r < 2; r++) {
        ncclSend(out + r * N, N, ncclFloat32, r, two.comm, two.stream);
        ncclRecv(all + r * N, N, ncclFloat32, r, two.comm, two.stream);
    }
    ncclGroupEnd();
    cudaMemcpyAsync(host.data(), all, 2 * N * sizeof *all, cudaMemcpyDeviceToHost, two.stream);
    for (int i = 0; i < 2 * N; i++)
        if (int wrong = expect(host[i], float(10 * (i / N) + two.rank))) return both(wrong);
    const int result = expect_result(async_error(), ncclSuccess);
    ncclCommDestroy(two.comm);
    return both(result);
}

// ----------------------------------------------------------------------------
// Ranks that do not make the same calls

static int run_nccl_count() {
    connect();
    float *p = device_floats(32);
    ncclBroadcast(p, p, two.rank ? 31 : 32, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_count
    return both(0);
}
static int run_nccl_type() {
    connect();
    float *p = device_floats(32);
    ncclBroadcast(p, p, 8, two.rank ? ncclFloat32 : ncclInt32, 0, two.comm, two.stream); // bug: nccl_type
    return both(0);
}
static int run_nccl_send_count() {
    connect();
    float *p = device_floats(32), *q = device_floats(32);
    ncclGroupStart();
    ncclSend(p, two.rank ? 31 : 32, ncclFloat32, 1 - two.rank, two.comm, two.stream);
    ncclRecv(q, 32, ncclFloat32, 1 - two.rank, two.comm, two.stream); // bug: nccl_send_count
    ncclGroupEnd();
    return both(0);
}
static int run_nccl_no_receive() {
    connect();
    float *p = device_floats(32);
    ncclGroupStart();
    ncclSend(p, 32, ncclFloat32, 1 - two.rank, two.comm, two.stream); // bug: nccl_no_receive
    ncclGroupEnd();
    return both(0);
}
static int run_nccl_send_alone() {
    connect();
    float *p = device_floats(32);
    ncclSend(p, 32, ncclFloat32, 1 - two.rank, two.comm, two.stream); // bug: nccl_send_alone
    return both(0);
}
static int run_nccl_root() {
    connect();
    float *p = device_floats(32);
    ncclBroadcast(p, p, 8, ncclFloat32, two.rank, two.comm, two.stream); // bug: nccl_root
    return both(0);
}
static int run_nccl_order() { // each waits in the broadcast that the other makes second
    connect();
    float *p = device_floats(32);
    for (int i = 0; i < 2; i++)
        ncclBroadcast(p, p, 8, ncclFloat32, i ^ two.rank, two.comm, two.stream); // bug: nccl_order
    return both(0);
}
static int run_nccl_missing() {
    connect();
    float *p = device_floats(32);
    if (two.rank == 0) ncclBroadcast(p, p, 8, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_missing
    else sleep(2);
    return both(0);
}
static int run_nccl_same_device() {
    connect(true);
    return both(0);
}

// ----------------------------------------------------------------------------
// Memory and handles

static int run_nccl_host_pointer() {
    connect();
    float host[32] = {};
    ncclBroadcast(host, host, 32, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_host_pointer
    return both(0);
}
static int run_nccl_too_much() {
    connect();
    float *p = device_floats(32);
    ncclBroadcast(p, p, 33, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_too_much
    return both(0);
}
static int run_nccl_overlap() {
    connect();
    float *p = device_floats(64);
    ncclBroadcast(p, p + 16, 32, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_overlap
    return both(0);
}
static int run_nccl_unwritten() {
    connect();
    float *p = device_floats(32, false);
    ncclBroadcast(p, p, 32, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_unwritten
    return both(0);
}
static int run_nccl_after_abort() {
    connect();
    float *p = device_floats(32);
    ncclCommAbort(two.comm);
    ncclBroadcast(p, p, 32, ncclFloat32, 0, two.comm, two.stream); // bug: nccl_after_abort
    return both(0);
}
static int run_nccl_destroy_twice() {
    connect();
    ncclCommDestroy(two.comm);
    ncclCommDestroy(two.comm); // bug: nccl_destroy_twice
    return both(0);
}
static int run_nccl_open_group() {
    connect();
    float *p = device_floats(32);
    ncclGroupStart();
    ncclBroadcast(p, p, 32, ncclFloat32, 0, two.comm, two.stream);
    cudaStreamSynchronize(two.stream); // bug: nccl_open_group
    ncclGroupEnd();
    return both(0);
}
static int run_late_device() {
    device_floats(1);
    return cudaSetDevice(1) != cudaSuccess; // bug: late_device
}

// ----------------------------------------------------------------------------
// Wrong results: streams; ranks and networks that fail

static int run_nccl_no_event() {
    connect();
    float *p = device_floats(32);
    cudaStream_t other;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    LAUNCH(set, 1, 32, 0, other)(p, 5);
    ncclBroadcast(p, p, 32, ncclFloat32, 0, two.comm, two.stream); // no cudaStreamWaitEvent
    cudaStreamSynchronize(two.stream);
    const int result = two.rank ? expect(first_float(p), 5) : 0;
    cudaStreamSynchronize(other);
    return both(result);
}
// With CUDA_ON_CPU_NCCL=kill:1:1 or fail:1:1. What the ranks see: neither hangs, and the survivor's array is as it was.
static int run_nccl_lost() {
    connect();
    float *p = device_floats(32), *q = device_floats(32);
    ncclBroadcast(p, q, 32, ncclFloat32, 1, two.comm, two.stream);
    cudaStreamSynchronize(two.stream);
    if (two.rank == 1) return expect_result(async_error(), ncclSystemError);
    int result = expect_result(async_error(), ncclRemoteError), status;
    result |= ncclCommAbort(two.comm) != ncclSuccess;
    waitpid(two.other, &status, 0);
    return result;
}
