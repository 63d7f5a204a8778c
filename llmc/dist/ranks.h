/*
Several processes ("ranks") that train one model: started by mpirun or srun, each with all the weights. They exchange
bytes here and nowhere else, always all of them together and in the same order. A program built without MPI, or started
alone, is rank 0 of 1 and none of this costs anything.

No rank may leave on its own, or the others would wait for it for ever. So what can fail on one rank alone is followed
by

    ok = agree(ok, err);    the first failure, with its rank, becomes the failure of all; signals are shared too

and what ends a process otherwise (out of memory, a crash) ends all of them: by MPI_Abort on the way out, or by mpirun.
A rank that neither ends nor comes, because it is stopped or hangs, is found by those that wait for it (dist_call_roll),
which name it and end the run. Before MPI has started nobody can be named: then a thread watches how long that takes
(dist_watch_start).
*/
#ifndef LLMC_DIST_RANKS_H
#define LLMC_DIST_RANKS_H

#include "llmc/logger.h" // stop_requested; by way of it utils/utils.h: Error, fail, Str

#ifdef LLMC_MPI            // set by `make MPI=1`, and by `make` where mpicc is found
#define OMPI_SKIP_MPICXX 1 // the C interface, also in C++
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <poll.h>    // poll, as a clock
#include <pthread.h> // dist_watch_start
#endif

typedef struct {
    int rank, size;
    int stop;            // 0, or the signal that all ranks know of: as of the last agree
    double seconds;      // spent exchanging and waiting for the others, since somebody set it to 0
    bool started;        // by a launcher: MPI is running
    char host[64];       // this machine's name
    int machine;         // the lowest rank on it
    int local_rank;      // number among the ranks on it
    int local_size;      // how many ranks are on it
    char (*hosts)[64];   // [size] the machine of each rank; NULL: started alone
    double timeout;      // seconds that one rank waits for another, option ddp_timeout; 0: for ever
    void (*close)(void); // what dist_finalize ends first, with all ranks still there; NULL: nothing
} Dist;

Dist dist = {0, 1, 0, 0, false, "", 0, 0, 1, NULL, 0, NULL};

#ifdef LLMC_MPI
static MPI_Comm dist_calls; // what dist_call_roll talks over
#endif

// ----------------------------------------------------------------------------
// start

// A number that the launcher (Open MPI, MPICH and Intel MPI, Slurm's PMIx) left in the environment; -1: none.
int dist_launched(const char *const *names) {
    for (; *names; names++)
        if (getenv(*names)) return atoi(getenv(*names));
    return -1;
}

#ifdef LLMC_MPI
// Whatever ends this process before dist_finalize ends the others, too.
void dist_at_exit(void) {
    if (!dist.started) return;
    fprintf(stderr, "error: rank %d of %d (%s) ends the run\n", dist.rank, dist.size, dist.host);
    MPI_Abort(MPI_COMM_WORLD, EXIT_RUN);
}

static bool dist_has_started; // all ranks have found each other

// A thread: MPI_Init and the first exchanges wait for every rank, for ever if one never comes. After dist.timeout this
// process ends, upon which the launcher ends the others; rank 0 goes first, to say it once.
static void *dist_watch_start(void *launched) {
    const int rank = ((const int *)launched)[0], size = ((const int *)launched)[1];
    const double limit = dist.timeout + (rank > 0 ? 5 : 0);
    double waited = 0, last = now_s();
    while (!__atomic_load_n(&dist_has_started, __ATOMIC_ACQUIRE)) {
        if (waited > limit) {
            fprintf(stderr,
                    "error: rank %d of %d (%s): MPI has not started within %g s (ddp_timeout): another rank was not "
                    "started, is stopped or "
                    "hangs, or its machine cannot be reached\n"
                    "  -> look at the other machines and run again; a longer --ddp_timeout if they were only slow\n",
                    rank, size, dist.host, dist.timeout);
            _exit(EXIT_RUN);
        }
        poll(NULL, 0, 50);
        const double now = now_s(), passed = now - last;
        waited += passed < 1 ? passed : 1; // this process may have been stopped itself
        last = now;
    }
    return NULL;
}
#endif

// Finds out which rank this is, within dist.timeout. Ranks other than 0 print nothing but errors from here on. Call
// first in main, or when the options are known.
bool dist_init(int *argc, char ***argv, Error *err) {
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", NULL};
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", NULL};
    gethostname(dist.host, sizeof dist.host - 1);
#ifdef LLMC_MPI
    if (dist_launched(ranks) < 0) return true;
    static int launched[2];
    launched[0] = dist_launched(ranks);
    launched[1] = dist_launched(sizes);
    pthread_t watch;
    if (dist.timeout > 0 && pthread_create(&watch, NULL, dist_watch_start, launched) == 0) pthread_detach(watch);
    int level;
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return fail(err, EXIT_RUN, "MPI cannot start on %s", dist.host);
    MPI_Comm_rank(MPI_COMM_WORLD, &dist.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &dist.size);
    dist.started = true;
    atexit(dist_at_exit);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, dist.rank, MPI_INFO_NULL, &machine);
    MPI_Comm_rank(machine, &dist.local_rank);
    MPI_Comm_size(machine, &dist.local_size);
    dist.machine = dist.rank;
    MPI_Bcast(&dist.machine, 1, MPI_INT, 0, machine);
    MPI_Comm_free(&machine);
    MPI_Comm_dup(MPI_COMM_WORLD, &dist_calls);
    dist.hosts = (char (*)[64])xcalloc((size_t)dist.size, sizeof *dist.hosts);
    MPI_Allgather(dist.host, sizeof dist.host, MPI_CHAR, dist.hosts, sizeof dist.host, MPI_CHAR, MPI_COMM_WORLD);
    __atomic_store_n(&dist_has_started, true, __ATOMIC_RELEASE);
    if (dist.size == 1 && dist_launched(sizes) > 1)
        return fail(err, EXIT_RUN,
                    "the launcher started %d processes, MPI says that each is alone\n  -> use the mpirun of the MPI "
                    "this was built with",
                    dist_launched(sizes));
    if (dist.rank > 0) {
        warnings_off = true;
        if (!freopen("/dev/null", "w", stdout))
            return fail(err, EXIT_RUN, "cannot open /dev/null: %s", strerror(errno));
    }
    return true;
#else
    (void)argc;
    (void)argv;
    if (dist_launched(sizes) <= 1) return true;
    return fail(err, EXIT_USAGE,
                "started as process %d of %d, but built without MPI\n  -> scripts/setup.sh --mpi && make MPI=1, or "
                "start it without mpirun",
                dist_launched(ranks), dist_launched(sizes));
#endif
}

// ----------------------------------------------------------------------------
// waiting for the others

#ifdef LLMC_MPI
enum { DIST_CALL, DIST_HERE }; // tags: who waits with me? I do

// What a rank that waits knows of the others.
typedef struct {
    double waited, last, next; // seconds waited so far; when they were last counted; when mail is next looked for
    int round;                 // which of this rank's roll calls this is, 0: none yet
    bool *here;                // [size] who has answered
} DistWait;

// Answers those who call, and notes those who answer. Everybody who waits in an exchange does this; who computes, hangs
// or is stopped does not.
static void dist_read_mail(DistWait *w) {
    static int round; // of the answer that is under way
    for (int found = 1; found;) {
        MPI_Status from;
        MPI_Request sent;
        int number;
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, dist_calls, &found, &from);
        if (!found) break;
        MPI_Recv(&number, 1, MPI_INT, from.MPI_SOURCE, from.MPI_TAG, dist_calls, MPI_STATUS_IGNORE);
        if (from.MPI_TAG == DIST_HERE) {
            if (w->here && number == w->round) w->here[from.MPI_SOURCE] = true;
            continue;
        }
        round = number;
        MPI_Isend(&round, 1, MPI_INT, from.MPI_SOURCE, DIST_HERE, dist_calls, &sent);
        MPI_Wait(&sent, MPI_STATUS_IGNORE); // four bytes: they leave at once, whether they are awaited or not
    }
}

// Asks all others whether they wait, too.
static void dist_call_roll(DistWait *w) {
    static int rounds;
    w->round = ++rounds;
    if (!w->here) w->here = (bool *)xmalloc((size_t)dist.size * sizeof(bool));
    for (int r = 0; r < dist.size; r++) {
        MPI_Request sent;
        w->here[r] = r == dist.rank;
        if (r == dist.rank) continue;
        MPI_Isend(&w->round, 1, MPI_INT, r, DIST_CALL, dist_calls, &sent);
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
    }
}

// The time is up: if somebody has not answered the run ends, by the lowest of those who have. True if all have: then
// all wait, and what is awaited is on its way (a machine that slept, a network that is slow).
static bool dist_all_here(const DistWait *w) {
    Str missing = {0};
    int lowest = 0, n = 0;
    while (!w->here[lowest]) lowest++;
    for (int r = 0; r < dist.size; r++)
        if (!w->here[r]) str_printf(&missing, "%s%d (%s)", n++ ? ", " : "", r, dist.hosts[r]);
    if (n > 0 && (lowest == dist.rank || w->waited > 2 * dist.timeout)) {
        fprintf(stderr,
                "error: rank %s of %d did not come to an exchange within %g s (ddp_timeout): it is stopped, hangs, or "
                "is much slower than rank "
                "%d (%s), which waits\n"
                "  -> look at that machine; then --resume auto goes on from the last checkpoint; a longer "
                "--ddp_timeout if it was only slow\n",
                missing.s, dist.size, dist.timeout, dist.rank, dist.host);
        exit(EXIT_RUN);
    }
    str_free(&missing);
    return n == 0;
}

static void dist_wait_begin(DistWait *w) {
    memset(w, 0, sizeof *w);
    w->last = now_s();
    w->next = w->last + 0.05;
}

// Called again and again by one that waits. After three quarters of dist.timeout the others are asked whether they wait
// as well; who has not answered at its end is lost, and with it the run.
static void dist_wait_on(DistWait *w) {
    const double now = now_s(), passed = now - w->last;
    if (now < w->next) return;
    w->waited += passed < 1 ? passed : 1; // this process may have been stopped itself
    w->last = now;
    w->next = now + 0.05;
    dist_read_mail(w);
    if (dist.timeout <= 0 || w->waited < 0.75 * dist.timeout) return;
    if (!w->round) dist_call_roll(w);
    if (w->waited > dist.timeout && dist_all_here(w)) w->waited = w->round = 0;
}

// Waits for all of them, without using up a core, which the slower ranks may need.
void dist_wait_all(MPI_Request *requests, int n, double start) {
    const struct timespec pause = {0, 100000};
    DistWait w;
    dist_wait_begin(&w);
    for (int done = 0;;) {
        MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE);
        if (done) break;
        nanosleep(&pause, NULL);
        dist_wait_on(&w);
    }
    free(w.here);
    dist.seconds += now_s() - start;
}

void dist_wait(MPI_Request request, double start) { dist_wait_all(&request, 1, start); }
#endif

// ----------------------------------------------------------------------------
// the end

// All ranks together, at the end of main: on success, or after a failure that was agreed on.
void dist_finalize(void) {
    if (dist.close) dist.close();
    dist.close = NULL;
#ifdef LLMC_MPI
    if (dist.started) {
        MPI_Request all_here;
        MPI_Ibarrier(MPI_COMM_WORLD, &all_here);
        dist_wait(all_here, now_s()); // MPI_Finalize itself would wait for ever for one that is stopped
        MPI_Finalize();
    }
#endif
    dist.started = false;
}

// Ends all ranks with an error that agree has made known to all; rank 0 prints it.
__attribute__((noreturn)) void dist_die(const Error *err) {
    fflush(stdout);
    if (dist.rank == 0) fprintf(stderr, "error: %s\n", err->text);
    fflush(stderr);
    dist_finalize();
    exit(err->code ? err->code : EXIT_RUN);
}

// ----------------------------------------------------------------------------
// exchanges: every rank calls the same one

// *all = the bytes of every rank, one after another; those of rank r are start[r] ... start[r+1]-1 (start[size+1]).
// bytes: a multiple of 4, another one on each rank if need be; 8 GiB in all.
void dist_gather(Str *all, size_t *start, const void *mine, size_t bytes) {
    all->n = 0;
    start[0] = 0;
    start[dist.size] = bytes;
#ifdef LLMC_MPI
    if (dist.size > 1) {
        const double t0 = now_s();
        const int size = dist.size;
        int *count = (int *)xmalloc(2 * (size_t)size * sizeof(int)), *first = count + size, words = (int)(bytes / 4);
        MPI_Request request;
        MPI_Iallgather(&words, 1, MPI_INT, count, 1, MPI_INT, MPI_COMM_WORLD, &request);
        dist_wait(request, t0);
        for (int r = 0; r < size; r++) start[r + 1] = start[r] + 4 * (size_t)count[r];
        if (start[size] / 4 > INT_MAX) {
            fprintf(stderr,
                    "error: the ranks want to exchange %.1f GiB at once, 8 are possible\n  -> lower prompts_per_step "
                    "or num_generations\n",
                    (double)start[size] / (1 << 30));
            exit(EXIT_RUN);
        }
        for (int r = 0; r < size; r++) first[r] = (int)(start[r] / 4);
        str_reserve(all, start[size]);
        const double t1 = now_s();
        MPI_Iallgatherv(mine, words, MPI_INT32_T, all->s, count, first, MPI_INT32_T, MPI_COMM_WORLD, &request);
        dist_wait(request, t1);
        free(count);
        all->n = start[size];
        return;
    }
#endif
    str_add(all, (const char *)mine, bytes);
}

// p[bytes] of rank 0 becomes that of all.
void dist_broadcast(void *p, size_t bytes) {
#ifdef LLMC_MPI
    for (size_t at = 0; dist.size > 1 && at < bytes;) {
        const size_t piece = bytes - at < 1 << 30 ? bytes - at : 1 << 30;
        const double start = now_s();
        MPI_Request request;
        MPI_Ibcast((char *)p + at, (int)piece, MPI_BYTE, 0, MPI_COMM_WORLD, &request);
        dist_wait(request, start);
        at += piece;
    }
#else
    (void)p;
    (void)bytes;
#endif
}

// in + r in_stride = in_count[r] numbers from rank r, and out_count[r] numbers at out + r out_stride go to rank r, for
// all r: what r sends here must be as many as are awaited of it. The two do not overlap. (MPI_Ialltoallv would be one
// call; with Open MPI 4.1 it hung here, for a reason that was not found.)
void dist_trade(float *in, size_t in_stride, const int *in_count, const float *out, size_t out_stride,
                const int *out_count) {
#ifdef LLMC_MPI
    const double start = now_s();
    MPI_Request *requests = (MPI_Request *)xmalloc(2 * (size_t)dist.size * sizeof *requests);
    int n = 0;
    for (int r = 0; r < dist.size; r++) {
        if (r == dist.rank || !in_count[r]) continue;
        MPI_Irecv(in + (size_t)r * in_stride, in_count[r], MPI_FLOAT, r, 0, MPI_COMM_WORLD, &requests[n++]);
    }
    for (int i = 1; i < dist.size; i++) { // each begins with another one
        const int r = (dist.rank + i) % dist.size;
        if (out_count[r])
            MPI_Isend(out + (size_t)r * out_stride, out_count[r], MPI_FLOAT, r, 0, MPI_COMM_WORLD, &requests[n++]);
    }
    const size_t own = (size_t)in_count[dist.rank] * sizeof(float);
    if (own) memcpy(in + (size_t)dist.rank * in_stride, out + (size_t)dist.rank * out_stride, own);
    dist_wait_all(requests, n, start);
    free(requests);
#else
    (void)in, (void)in_stride, (void)in_count, (void)out, (void)out_stride, (void)out_count;
#endif
}

// True if it went well (ok) on every rank. Otherwise err of each rank becomes that of the lowest one that failed, named
// in its text. A signal that any rank has got becomes dist.stop of all.
bool agree(bool ok, Error *err) {
    if (dist.size == 1) {
        dist.stop = stop_requested;
        return ok;
    }
    struct {
        int failed, signal;
    } mine = {!ok, stop_requested}, *one;
    Str all = {0};
    size_t *start = (size_t *)xmalloc(((size_t)dist.size + 1) * sizeof(size_t));
    int first = -1, stop = 0, failed = 0;
    dist_gather(&all, start, &mine, sizeof mine);
    for (int r = dist.size - 1; r >= 0; r--) {
        one = (__typeof__(one))(void *)(all.s + start[r]);
        if (one->failed) first = r;
        failed += one->failed;
        if (one->signal > stop) stop = one->signal;
    }
    dist.stop = stop;
    if (first >= 0) {
        Error theirs = *err;
        if (dist.rank == first && failed < dist.size) // if all have failed, all for the same reason
            snprintf(theirs.text, sizeof theirs.text, "rank %d of %d (%s): %.1900s", dist.rank, dist.size, dist.host,
                     err->text);
        dist_gather(&all, start, &theirs, dist.rank == first ? sizeof theirs : 0);
        memcpy(err, all.s, sizeof *err);
    }
    str_free(&all);
    free(start);
    return first < 0;
}

// The first of n things that are rank r's when they are shared out in order; r = size: n.
int dist_share(int n, int r) { return (int)((long long)n * r / dist.size); }

// This rank's of n things that are shared out in order: first ... last-1. Alone: all of them.
void my_range(int n, int *first, int *last) {
    *first = dist_share(n, dist.rank);
    *last = dist_share(n, dist.rank + 1);
}

// The rank that has thing i of these n.
int rank_of(int n, int i) {
    int r = 0;
    while (i >= dist_share(n, r + 1)) r++;
    return r;
}

// True on the one rank, number 0, that prints and writes the run's files. Alone: true.
bool is_writer(void) { return dist.rank == 0; }

// 0, or the signal that all ranks know of since the last agree(): the run is to end.
int stop_agreed(void) { return dist.stop; }

// Seconds of a clock that stands still while this rank exchanges with others or waits for them.
double own_time(void) { return now_s() - dist.seconds; }

#endif
