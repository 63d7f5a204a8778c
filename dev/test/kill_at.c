/*
Ends its process by SIGKILL in the middle of something, at the same place every time. Loaded by LD_PRELOAD:

    KILL_AT=fsync:23:0      rank 0 at its 23rd fsync, which is inside the second checkpoint
    KILL_AT=nanosleep:20:1  rank 1 the 20th time that it waits for the others, which is inside an exchange
    KILL_AT=MPI_Isend:16:1  rank 1 at the 16th piece that it sends (dist_trade)
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void called(const char *function) {
    static int calls;
    char wanted[32];
    int at, rank;
    const char *mine = getenv("OMPI_COMM_WORLD_RANK"), *where = getenv("KILL_AT");
    if (!mine || !where || sscanf(where, "%31[^:]:%d:%d", wanted, &at, &rank) != 3) return;
    if (strcmp(wanted, function) == 0 && atoi(mine) == rank && ++calls == at) raise(SIGKILL);
}

int fsync(int fd) {
    called("fsync");
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

// MPI's handles, pointers or ints, go through as they are.
int MPI_Isend(const void *from, int count, void *type, int to, int tag, void *comm, void *request) {
    called("MPI_Isend");
    return ((int (*)(const void *, int, void *, int, int, void *, void *))dlsym(RTLD_NEXT, "MPI_Isend"))(
        from, count, type, to, tag, comm, request);
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    called("nanosleep");
    return ((int (*)(const struct timespec *, struct timespec *))dlsym(RTLD_NEXT, "nanosleep"))(time, left);
}
