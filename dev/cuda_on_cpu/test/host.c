/*
The program around planted.cu: plain C, compiled by a C compiler, as the programs of this project are.
*/
#include <stdio.h>
#include <string.h>

int run_case(const char *name);
float read_float(const float *p);
float copy_floats(float *to, const float *from, size_t n);

float read_float(const float *p) {
    return *p; // bug: on_the_host
}

float copy_floats(float *to, const float *from, size_t n) {
    memcpy(to, from, n * sizeof *to); // bug: copied_on_the_host
    return to[n - 1];
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s CASE\n", argv[0]);
        return 2;
    }
    return run_case(argv[1]);
}
