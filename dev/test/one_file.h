/*
What dev/doc/steer_in_one_file.c computes, for test_one_file.h. The file is compiled as it is, into an object of its own
(one_file.c): its names are not the program's.
*/
#ifndef DEV_TEST_ONE_FILE_H
#define DEV_TEST_ONE_FILE_H

enum { ONE_FILE_G = 8, ONE_FILE_MAX_NEW = 80, ONE_FILE_VECTORS = 4 * 96, ONE_FILE_BYTES = 256 };

typedef struct {
    char problem[64], answer[16];
    int token_of[ONE_FILE_BYTES];                         // of each byte
    int n[ONE_FILE_G], ids[ONE_FILE_G][ONE_FILE_MAX_NEW]; // the answers
    float reward[ONE_FILE_G], advantage[ONE_FILE_G];
    float old_logprob[ONE_FILE_G][ONE_FILE_MAX_NEW], logprob[ONE_FILE_G][ONE_FILE_MAX_NEW];
    float vectors[ONE_FILE_VECTORS],
        gradient[ONE_FILE_VECTORS]; // [L,C] at which all this was computed; of the loss, the mean over tokens
    float moved[ONE_FILE_VECTORS];  // the vectors after AdamW's first step
    double loss;
    float gap; // the most by which a log-prob at sampling is not the one of all rows at once
} OneFile;

#ifdef __cplusplus
extern "C" // the file is C, whatever the tests are compiled as
#endif
           // Reads data/tiny, samples a group with right and wrong answers, moves its log-probs at sampling so that
           // ratios leave 1 and some are clipped, and fills in *out.
    void one_file_run(OneFile *out);

#endif
