/*
OpenMP's functions where the compiler has OpenMP, and what they mean for a single thread where it has not.
*/
#ifndef LLMC_THREADS_H
#define LLMC_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#else
int omp_get_max_threads(void) { return 1; }
int omp_get_num_threads(void) { return 1; }
int omp_get_thread_num(void) { return 0; }
void omp_set_num_threads(int n) { (void)n; }
#endif

#endif
