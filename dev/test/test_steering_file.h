// Files of steering vectors (llmc/files/steering_file.h).
#ifndef DEV_TEST_TEST_STEERING_FILE_H
#define DEV_TEST_TEST_STEERING_FILE_H

#include "dev/test/test_model_files.h" // mf_expect, mf_write

void test_steering(void) {
    ModelConfig c;
    memset(&c, 0, sizeof c);
    c.L = 2;
    c.C = 8;
    float s[16], x[16];
    for (int i = 0; i < 16; i++) x[i] = mf_value(3, i);
    const char *path = test_path("steering_vectors.safetensors");
    OutTensor t = {"steering", 2, {2, 8, 0, 0}, x};
    const char *from[2] = {path, test_tmpdir()}; // the file, or the folder that holds it
    for (int i = 0; i < 2; i++) {
        Error e = {0, ""};
        memset(s, 0, sizeof s);
        CHECK(safetensors_write(path, &t, 1, NULL, &e) && steering_load(s, &c, from[i], &e) &&
                  memcmp(s, x, sizeof x) == 0,
              "%s", e.text);
    }
    MfTensor m = {"steering", 2, {2, 8}, 0};
    mf_write_tensors(path, &m, 0, 1, DTYPE_F16, -1);
    CHECK(steering_load(s, &c, path, NULL) && s[5] == mf_value(0, 5), "fp16 vectors");
    Error e = {0, ""};
    mf_write_tensors(path, &m, 0, 1, DTYPE_BF16, 0);
    mf_expect(steering_load(s, &c, path, &e), &e, "steering vectors|tensor steering|NaN or infinity at row 1, column 7",
              "NaN vectors");
    m.shape[0] = 3;
    memset(&e, 0, sizeof e);
    mf_write_tensors(path, &m, 0, 1, DTYPE_F32, -1);
    mf_expect(steering_load(s, &c, path, &e), &e,
              "steering_vectors.safetensors|found shape [3, 8]|expected [2, 8]|same number of layers", "other shape");
    m.name[0] = 'S';
    memset(&e, 0, sizeof e);
    mf_write_tensors(path, &m, 0, 1, DTYPE_F32, -1);
    mf_expect(steering_load(s, &c, path, &e), &e, "tensor steering is missing|the first is Steering", "other name");
    memset(&e, 0, sizeof e);
    mf_expect(steering_load(s, &c, test_path("nowhere"), &e), &e, "nowhere|No such file", "no file");
    MfTensor two[2] = {{"steering", 2, {2, 8}, 0}, {"steering_A", 2, {2, 1}, 0}};
    mf_write_tensors(path, two, 0, 2, DTYPE_F32, -1);
    CHECK(steering_load(s, &c, path, &e), "with a factor: %s", e.text);
    snprintf(two[1].name, sizeof two[1].name, "scale");
    memset(&e, 0, sizeof e);
    mf_write_tensors(path, two, 0, 2, DTYPE_F32, -1);
    mf_expect(steering_load(s, &c, path, &e), &e, "found tensor scale", "a stranger beside the vectors");
}

#endif
