/*
OpenMP's functions where the compiler has OpenMP, and what they mean for a single thread where it has not.
*/
#ifndef LLMC_UTILS_THREADS_H
#define LLMC_UTILS_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif

#endif
