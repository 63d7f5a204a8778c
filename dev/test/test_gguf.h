/*
GGUF files as models: the reader on recorded, broken and split files; every type's numbers against what the gguf package
makes of the same blocks (dev/reference/make_gguf_records.py); products of quantised weights, and the programs on a
quantised model, against the same model dequantised to bf16, bit by bit, at every level. GGUF=FILE FOLDER=DIR in the
environment (a real file and what gguf_to_folder.py makes of it) add whole real tensors.
*/
#ifndef DEV_TEST_TEST_GGUF_H
#define DEV_TEST_TEST_GGUF_H

#include "dev/test/backends.h"         // test_cpu_backends
#include "dev/test/gguf_write.h"       // gw_*
#include "dev/test/test_export.h"      // TINY_VECTORS
#include "dev/test/test_gguf_ops.h"    // test_gguf_products
#include "dev/test/test_model_files.h" // mf_expect, mf_random, mf_ops
#include "dev/test/test_programs.h"    // run_command, expect_command
#include "llmc/model.h"                // model_config_load, weights_load
#include "llmc/tokenizer/tokenizer.h"  // tokenizer_load

#define GGUF_SMALL "dev/reference/small.gguf"
#define GGUF_RECORDS "dev/reference/quant_records.gguf"

// ----------------------------------------------------------------------------
// numbers

// Recorded blocks, all of them and pieces that begin and end anywhere.
void test_gguf_numbers(void) {
    Gguf g;
    Error err = {0, ""};
    if (!CHECK(gguf_open(&g, GGUF_RECORDS, &err), "%s", err.text)) return;
    int types = 0;
    for (int i = 0; i < g.tensors.n; i++) {
        const RawTensor *t = &g.tensors.tensors[i];
        char name[64];
        snprintf(name, sizeof name, "%.40s.exact", t->name);
        const RawTensor *exact = safetensors_find(&g.tensors, name);
        if (!exact) continue;
        types++;
        const int n = (int)tensor_elements(t);
        float *x = (float *)xmalloc((size_t)n * sizeof *x), *y = (float *)xmalloc((size_t)n * sizeof *y);
        if (dtype_quantised(t->dtype)) quant_exact(x, t->dtype, t->data, 0, (size_t)n);
        else raw_to_f32(x, t, 0, n);
        int wrong = 0;
        for (int k = 0; k < n; k++) wrong += x[k] != ((const float *)exact->data)[k];
        CHECK(n == 1536 && wrong == 0, "%s: %d of %d numbers are not the gguf package's", t->name, wrong, n);
        raw_to_f32(y, t, 0, n);
        for (int k = 0; k < n; k++)
            wrong += y[k] != (dtype_quantised(t->dtype) ? bf16_to_f32(f32_to_bf16(x[k])) : x[k]);
        CHECK(wrong == 0, "%s: %d numbers are not rounded to bf16 as they should be", t->name, wrong);
        for (int from = 0; from < n; from += 37)
            for (int k = 1; k < 300 && from + k <= n; k += 61) {
                raw_to_f32(x, t, from, k);
                wrong += memcmp(x, y + from, (size_t)k * sizeof *x) != 0;
            }
        CHECK(wrong == 0, "%s: pieces are not parts of the whole", t->name);
        free(x);
        free(y);
    }
    CHECK(types == DTYPES - 1, "%d types were recorded, expected all but F32", types);
    gguf_close(&g);
}

// A scale that is no number is found, wherever it is.
void test_gguf_finite(void) {
    uint32_t state = 5;
    for (int t = DTYPE_Q8_0; t < DTYPES; t++) {
        const DTypeInfo type = dtype_info((DType)t);
        const bool two = t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K;
        for (int second = 0; second <= two; second++) {
            const int blocks = 700, bad = (int)(mf_random(&state) % 700), row = 512 / type.block;
            uint8_t *data = (uint8_t *)xcalloc((size_t)blocks, (size_t)type.bytes);
            const RawTensor raw = {"x", (DType)t, 2, {blocks / row, 512, 0, 0}, data};
            Error err = {0, ""};
            CHECK(tensor_check_finite(&raw, "f", &err), "%s: zeros are refused: %s", type.name, err.text);
            data[bad * type.bytes + (t == DTYPE_Q6_K ? 208 : 0) + 2 * second + 1] = 0xFC;
            char words[64];
            snprintf(words, sizeof words, "at row %d, column %d", bad / row, bad % row * type.block);
            const bool in = bad < blocks / row * row;
            if (in) mf_expect(tensor_check_finite(&raw, "f", &err), &err, words, type.name);
            free(data);
        }
    }
}

// ----------------------------------------------------------------------------
// the reader

// What `bytes` is as a model: config, tokenizer and weights. True if all of it loads.
bool gguf_try(const char *path, const char *bytes, size_t n, Error *err) {
    ModelConfig c;
    FrozenWeights w;
    mf_write(path, bytes, n);
    if (!model_config_load(&c, path, err)) return false;
    Tokenizer *t = tokenizer_load(path, err);
    bool ok = t != NULL && weights_load(&w, &c, path, mf_ops(), err);
    if (ok) weights_free(&w, mf_ops());
    if (t) tokenizer_free(t);
    model_config_free(&c);
    return ok;
}

// bytes with the first `from` replaced by as long a `to`, at `skip` bytes after its beginning.
void gguf_damage(char *bytes, size_t n, const char *from, size_t skip, const void *to, size_t n_to) {
    char *at = (char *)memmem(bytes, n, from, strlen(from));
    if (CHECK(at && at + skip + n_to <= bytes + n, "the test is wrong: no %s", from)) memcpy(at + skip, to, n_to);
}

void test_gguf_reader(void) {
    ModelConfig c;
    Error err = {0, ""};
    size_t n;
    char *good = read_file(GGUF_SMALL, &n, &err);
    const char *path = test_path("x.gguf");
    if (!CHECK(good && gguf_try(path, good, n, &err), "%s", err.text)) return;
    CHECK(model_config_load(&c, GGUF_SMALL, &err) && c.C == 32 && c.I == 32 && c.L == 1 && c.NH == 2 && c.NKV == 1 &&
              c.HD == 16 && c.V == 14 && c.max_position == 64 && c.rms_norm_eps == 1e-6f && c.rope_theta == 10000 &&
              c.tied && c.eos.n == 2 && c.eos.v[0] == 10 && c.eos.v[1] == 8 && c.pad == 8,
          "config of %s: %s", GGUF_SMALL, err.text);
    model_config_free(&c);
    Tokenizer *t = tokenizer_load(GGUF_SMALL, &err);
    IntVec ids = {0};
    const char *text = "abc d<|im_end|>b<tool_call>[PAD";
    CHECK(t && !tokenizer_encode(t, &ids, text, strlen(text), &err) && strstr(err.text, "has no token"), "%s",
          err.text);
    err.code = 0;
    text = "abc d<|im_end|>b<tool_call>";
    if (CHECK(t && tokenizer_encode(t, &ids, text, strlen(text), &err), "%s", err.text)) {
        const int want[] = {6, 7, 10, 1, 11};
        Str back = {0};
        CHECK(ids.n == 5 && memcmp(ids.v, want, sizeof want) == 0, "ids of \"%s\"", text);
        ints_push(&ids, 12); // an unused one is nothing
        tokenizer_decode(t, &back, ids.v, ids.n, true);
        CHECK(back.n == strlen("abc db<tool_call>") && memcmp(back.s, "abc db<tool_call>", back.n) == 0, "decoded");
        str_free(&back);
    }
    ints_free(&ids);
    if (t) tokenizer_free(t);
    char *opening = generation_chat_template(GGUF_SMALL), *name = model_name_from_dir("a/Qwen-Q4-00001-of-00003.gguf");
    CHECK(opening && strstr(opening, "add_generation_prompt") && strcmp(name, "Qwen-Q4") == 0, "template, name %s",
          name);
    free(opening);
    free(name);

    // one thing broken at a time: `to` is written `skip` bytes after the beginning of `from`
    static const struct {
        const char *from;
        size_t skip;
        const char *to;
        size_t n;
        const char *words;
    } damage[] = {
        {"GGUF", 4, "\1\0\0\0", 4, "found GGUF version 1, expected 2 or 3"},
        {"GGUF", 4, "\4\0\0\0", 4, "version 4, expected 2 or 3"},
        {"GGUF", 4, "\0\0\0\3", 4, "big-endian"},
        {"GGUF", 8, "\0\0\0\0\0\0\0\1", 8, "more than the file has room for"},
        {"GGUF", 16, "\377\377\377\377\377\377\377\377", 8, "more than the file has room for"},
        {"GGUF", 16, "\377\0\0\0\0\0\0\0", 8, "file cut short in a key"},
        {"general.architecture", 24, "\5\0\0\0\0\0\0\0llama", 13,
         "another architecture: key general.architecture is \"llama\""},
        {"general.architecture", 24, "\377\377\377\377\377\377\377\377", 8,
         "file cut short in key general.architecture"},
        {"general.architecture", 20, "\15\0\0\0", 4, "found value type 13, expected 0 to 12"},
        {"general.name", 0, "general.nam\n", 12, "not of printable ASCII"},
        {"qwen2.block_count", 21, "\0\0\0\0", 4, "key qwen2.block_count: found 0, expected a whole number from 1"},
        {"qwen2.block_count", 21, "\2\0\0\0", 4, "tensor blk.1.attn_q.weight is missing; expected [32, 32]"},
        {"qwen2.block_count", 17, "\6\0\0\0", 4, "key qwen2.block_count: found f32, expected a whole number"},
        {"qwen2.block_count", 6, "lock_kount", 10, "qwen2.block_count: found nothing"},
        {"qwen2.embedding_length", 26, "\41\0\0\0", 4,
         "qwen2.embedding_length 33 is not a multiple of qwen2.attention.head_count 2"},
        {"qwen2.embedding_length", 26, "\100\0\0\0", 4,
         "tensor token_embd.weight: found shape [14, 32] Q8_0, expected [14, 64]"},
        {"qwen2.attention.head_count_kv", 33, "\3\0\0\0", 4, "is not a multiple of qwen2.attention.head_count_kv 3"},
        {"qwen2.rope.freq_base", 24, "\0\0\300\177", 4, "qwen2.rope.freq_base: found nan"},
        {"qwen2.context_length", 0, "qwen2.block_countxxx", 20, "qwen2.context_length: found nothing"},
        {"tokenizer.ggml.model", 32, "spm2", 4, "key tokenizer.ggml.model: expected \"gpt2\""},
        {"tokenizer.ggml.pre", 30, "qwen9", 5, "key tokenizer.ggml.pre: found \"qwen9\", expected \"qwen2\""},
        {"tokenizer.ggml.tokens", 25, "\5\0\0\0", 4, "file cut short in a key"},
        {"tokenizer.ggml.tokens", 29, "\377\377\377\377\377\377\377\177", 8,
         "file cut short in key tokenizer.ggml.tokens"},
        {"tokenizer.ggml.tokens", 45, "\377", 1, "entry 0 is not UTF-8"},
        {"tokenizer.ggml.tokens", 45, "b", 1, "is given twice"},
        {"tokenizer.ggml.token_type", 41, "\6", 1, "token 0 has type 6"},
        {"a b", 0, "a c", 3, "its result is not in the vocabulary"},
        {"a b", 0, "axb", 3, "entry 0 is not a pair"},
        {"tokenizer.ggml.eos_token_id", 31, "\16\0\0\0", 4,
         "key tokenizer.ggml.eos_token_id: found 14, expected a whole number from 0 to 13"},
        {"token_embd.weight", 17, "\5\0\0\0", 4, "tensor token_embd.weight: found 5 dimensions"},
        {"token_embd.weight", 21, "\0\0\0\0\0\0\0\0", 8, "dimension 0 is 0"},
        {"token_embd.weight", 21, "\0\0\0\0\0\0\0\1", 8, "dimension 0 is 72057594037927936: too small or too large"},
        {"token_embd.weight", 21, "\41", 1, "rows of 33 elements, expected a multiple of 32, for its type is Q8_0"},
        {"token_embd.weight", 37, "\27\0\0\0", 4,
         "tensor token_embd.weight: found type IQ4_XS (number 23), expected one of F32, BF16, F16, Q8_0, Q5_0"},
        {"token_embd.weight", 37, "\143\0\0\0", 4, "found type unknown (number 99)"},
        {"token_embd.weight", 41, "\40", 1, "found offset 32, expected 0"},
        {"blk.0.attn_q.weight", 43, "\377\377\377\377\377\377\377\377", 8, "beyond the file"},
        {"blk.0.attn_q.weight", 0, "blk.0.attn_k.weight", 19, "tensor blk.0.attn_k.weight comes twice"},
        {"blk.0.attn_q.weight", 0, "blk.7.attn_q.weight", 19, "tensor blk.0.attn_q.weight is missing"},
        {"blk.0.ffn_norm.weight", 0, "blk.0.ffn_nxrm.weight", 21, "tensor blk.0.ffn_norm.weight is missing"},
        {"tokenizer.ggml.padding_token_id", 0, "qwen2.attention.sliding_window!", 31, NULL},
    };
    char *bad = (char *)xmalloc(n + 64);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        memcpy(bad, good, n);
        gguf_damage(bad, n, damage[i].from, damage[i].skip, damage[i].to, damage[i].n);
        err.code = 0;
        const bool ok = gguf_try(path, bad, n, &err);
        if (damage[i].words) mf_expect(ok, &err, damage[i].words, damage[i].words);
        else CHECK(ok, "%s", err.text);
    }
    memcpy(bad, good, n); // version 2 has the same layout
    bad[4] = 2;
    err.code = 0;
    CHECK(gguf_try(path, bad, n, &err), "version 2: %s", err.text);
    memset(bad + n, 0, 64); // padding at the end, as much as its writer likes to a whole multiple, and more
    const size_t padded = (n + 31) / 32 * 32;
    CHECK(gguf_try(path, bad, padded, &err), "padded: %s", err.text);
    mf_expect(gguf_try(path, bad, padded + 1, &err), &err, "trailing bytes", "trailing");
    for (size_t cut = 0; cut < n - 1; cut += cut < 3000 ? 1 : 7) {
        err.code = 0;
        if (gguf_try(path, good, cut, &err)) CHECK(false, "cut to %zu bytes, it was accepted", cut);
    }
    CHECK(mf_alive == 0, "%d weights were not freed", mf_alive);
    // any bytes at all: nothing may crash or run over (the sanitizers of make check see to that)
    uint32_t state = 7;
    int accepted = 0;
    for (int i = 0; i < (test_few() ? 300 : 3000); i++) {
        memcpy(bad, good, n);
        for (uint32_t k = mf_random(&state) % 4; k < 4; k++) bad[mf_random(&state) % n] = (char)mf_random(&state);
        accepted += gguf_try(path, bad, n, NULL);
    }
    CHECK(accepted > 0 && mf_alive == 0, "damaged at random: %d accepted, %d weights not freed", accepted, mf_alive);
    free(bad);
    free(good);
}

// ----------------------------------------------------------------------------
// the programs

// The same command on both models must print the same.
void gguf_same_output(const char *before, const char *folder, const char *file, const char *command) {
    Str a = {0}, b = {0};
    const int x = run_command(&a, "%s ./eval_steer %s --model %s 2>/dev/null", before, command, folder),
              y = run_command(&b, "%s ./eval_steer %s --model %s 2>/dev/null", before, command, file);
    CHECK(x == 0 && y == 0 && a.n > 20 && strcmp(a.s, b.s) == 0,
          "%s eval_steer %s: the folder gave (%d)\n%s\nthe file (%d)\n%s", before, command, x, a.s, y, b.s);
    str_free(&a);
    str_free(&b);
}

void test_gguf_programs(void) {
    GwFile f;
    ModelConfig c;
    Str bytes = {0};
    const char *levels[CPU_LEVELS];
    const int n_levels = cpu_levels(levels);
    char folder[256], path[256], command[1024], other[300];
    snprintf(folder, sizeof folder, "%s", test_path("gguf_twin"));
    snprintf(path, sizeof path, "%s", test_path("tiny.gguf"));
    for (int head = 0; head < 2; head++) {
        gw_tiny(&f, &c, head);
        bytes.n = 0;
        gw_bytes(&bytes, &f, NULL, 0, 0, f.n_tensors);
        gw_write(path, &bytes);
        expect_command(0, "",
                       "mkdir -p %s && cp data/tiny/model/*.json %s && sed -i 's/\"tie_word_embeddings\": true/"
                       "\"tie_word_embeddings\": %s/' %s/config.json",
                       folder, folder, head ? "false" : "true", folder);
        snprintf(other, sizeof other, "%s/model.safetensors", folder);
        gw_write_folder(other, &f);
        const Ops *list[CPU_LEVELS];
        const int n_ops = test_cpu_backends(list);
        for (int l = 0; l < n_ops; l++) { // what is planned is what is there: a file's blocks, not bf16
            ModelConfig own;
            FrozenWeights w;
            Error err = {0, ""};
            if (!CHECK(model_config_load(&own, path, &err) && weights_load(&w, &own, path, list[l], &err), "%s",
                       err.text))
                break;
            const size_t planned = weights_bytes_planned(&own, list[l]), there = weights_bytes(&w, &own, list[l]);
            CHECK(planned == there && there < (size_t)(own.V * own.C) * 2 + bytes.n,
                  "%s: %zu bytes are planned, %zu there", list[l]->isa, planned, there);
            weights_free(&w, list[l]);
            model_config_free(&own);
        }
        for (int l = 0; l <= n_levels; l++) {
            char before[64];
            snprintf(before, sizeof before, "LLMC_ISA=%s", l < n_levels ? levels[l] : "");
            const char *device = l < n_levels ? "" : " --device ref";
            Str shell = {0};
            str_printf(&shell, "echo '{\"prompt\": \"12+7=\", \"completion\": \"It is 19, 20, 21.\"}' | %s", before);
            snprintf(command, sizeof command, "score --json%s --steering " TINY_VECTORS, device);
            gguf_same_output(shell.s, folder, path, command);
            snprintf(command, sizeof command,
                     "generate --json%s --prompt 3+4 --num_generations 5 --max_completion_length 24", device);
            gguf_same_output(before, folder, path, command);
            str_free(&shell);
        }
        gw_free(&f);
        model_config_free(&c);
    }

    // training: sampling, packed passes, backward; vectors, LoRA
    static const char *const setups[] = {"steering", "lora"};
    for (int l = 0; l < n_levels + 1 && !test_few(); l++)
        for (int s = 0; s < 2; s++) {
            char run[2][256], file[2][600];
            for (int k = 0; k < 2; k++) {
                snprintf(run[k], sizeof run[k], "%s", test_path(k ? "gguf_run" : "folder_run"));
                expect_command(0, "", "rm -rf %s", run[k]);
                expect_command(0, "saved",
                               "LLMC_ISA=%s ./train_steer --config " TINY_RECIPE TINY_SMALL
                               " --max_steps 2 --reward format --setup %s --model %s --output_dir %s --model_name m "
                               "--dataset_name d%s",
                               l < n_levels ? levels[l] : "", setups[s], k ? path : folder, run[k],
                               l < n_levels ? "" : " --device ref");
                snprintf(file[k], sizeof file[k], "%s/m/d/%s/seed-0/checkpoint-2/%s", run[k],
                         s ? "lora_r32_all" : "steering",
                         s ? "adapter_model.safetensors" : "steering_vectors.safetensors");
            }
            Str a = {0}, b = {0};
            run_command(
                &a, "cd %s && find . -name '*.safetensors' | grep checkpoint-2 | grep -v optim | xargs cat | sha256sum",
                run[0]);
            run_command(
                &b, "cd %s && find . -name '*.safetensors' | grep checkpoint-2 | grep -v optim | xargs cat | sha256sum",
                run[1]);
            CHECK(a.n > 60 && strcmp(a.s, b.s) == 0 && !strstr(a.s, "e3b0c44298fc1c149afbf4c8996fb924"),
                  "level %s, setup %s: trained %s and %s", l < n_levels ? levels[l] : "ref", setups[s], a.s, b.s);
            str_free(&a);
            str_free(&b);
        }
    expect_command(2, "setup full: the model",
                   "./train_steer --config " TINY_RECIPE " --setup full --model %s --output_dir %s", path,
                   test_path("none"));
    expect_command(2, "format hf: copies",
                   "./eval_steer export --format hf --model %s --steering " TINY_VECTORS " --out %s", path,
                   test_path("none"));
    expect_command(0, "saved", "./eval_steer export --format gguf --model %s --steering " TINY_VECTORS " --out %s",
                   path, test_path("gguf_vector"));
    str_free(&bytes);
}

void test_gguf_parts(void) {
    GwFile f;
    ModelConfig c;
    FrozenWeights w;
    Error err = {0, ""};
    gw_tiny(&f, &c, false);
    char path[3][256];
    const int cut[4] = {0, 5, 20, f.n_tensors};
    model_config_free(&c);
    for (int i = 0; i < 3; i++) {
        GwFile more;
        Str bytes = {0};
        char name[64];
        memset(&more, 0, sizeof more);
        gw_int(&more, "split.no", (uint32_t)i);
        gw_int(&more, "split.count", 3);
        gw_int(&more, "split.tensors.count", (uint32_t)f.n_tensors);
        gw_bytes(&bytes, &f, &more.pairs, more.n_pairs, cut[i], cut[i + 1]);
        snprintf(name, sizeof name, "parts-0000%d-of-00003.gguf", i + 1);
        snprintf(path[i], sizeof path[i], "%s", test_path(name));
        gw_write(path[i], &bytes);
        str_free(&bytes);
        gw_free(&more);
    }
    if (CHECK(model_config_load(&c, path[0], &err), "%s", err.text)) {
        CHECK(weights_load(&w, &c, path[0], mf_ops(), &err) && w.n_files == 3 && w.L == 4, "%s", err.text);
        weights_free(&w, mf_ops());
        char *name = model_name_from_dir(path[0]);
        CHECK(strcmp(name, "parts") == 0, "name %s", name);
        free(name);
        model_config_free(&c);
    }
    err.code = 0;
    mf_expect(model_config_load(&c, path[1], &err), &err, "it is part 2 of 3|give the first part", "second part");
    expect_command(0, "", "mv %s %s.away", path[2], path[2]);
    err.code = 0;
    mf_expect(model_config_load(&c, path[0], &err), &err, "parts-00003-of-00003.gguf", "a part is missing");
    expect_command(0, "", "cp %s %s", path[1], path[2]);
    err.code = 0;
    mf_expect(model_config_load(&c, path[0], &err), &err, "found part 2 of 3, expected part 3 of 3", "a part twice");
    expect_command(0, "", "cp %s %s", path[0], test_path("one.gguf"));
    err.code = 0;
    mf_expect(model_config_load(&c, test_path("one.gguf"), &err), &err, "split.count is 3, but the file is not called",
              "another name");
    gw_free(&f);
}

// ----------------------------------------------------------------------------
// a real file

// Every tensor of GGUF against FOLDER's bf16, and the token ids of some texts.
void test_gguf_real(void) {
    const char *path = getenv("GGUF"), *folder = getenv("FOLDER");
    if (!path || !folder) {
        SKIP("a real GGUF file: set GGUF=FILE and FOLDER=what gguf_to_folder.py made of it");
        return;
    }
    Gguf g;
    SafeTensors st;
    Error err = {0, ""};
    char *weights = model_path(folder, "model.safetensors");
    if (CHECK(gguf_open(&g, path, &err) && safetensors_open(&st, weights, &err), "%s", err.text)) {
        for (int i = 0; i < st.n; i++) {
            const RawTensor *want = &st.tensors[i];
            char name[TENSOR_NAME];
            const RawTensor *t = safetensors_find(&g.tensors, tensor_gguf_name(name, want->name, &qwen2_family));
            const int64_t n = tensor_elements(want), columns = want->shape[want->ndim - 1];
            int64_t wrong = t && tensor_elements(t) == n ? 0 : n;
            #pragma omp parallel for reduction(+ : wrong)
            for (int64_t r = 0; r < n / columns; r++) {
                if (!t || tensor_elements(t) != n) continue;
                float *x = (float *)xmalloc((size_t)columns * sizeof *x);
                raw_to_f32(x, t, r * columns, (int)columns);
                for (int64_t k = 0; k < columns; k++)
                    wrong += f32_to_bf16(x[k]) != ((const bf16_t *)want->data)[r * columns + k];
                free(x);
            }
            CHECK(wrong == 0, "%s: %lld numbers differ", want->name, (long long)wrong);
        }
        gguf_close(&g);
        safetensors_close(&st);
    }
    free(weights);
}

void test_gguf(void) {
    test_gguf_numbers();
    test_gguf_finite();
    test_gguf_reader();
    test_gguf_products();
    test_gguf_parts();
    test_gguf_programs();
    test_gguf_real();
}

#endif
