/*
Kernel lab: attention over packed rows with a shared prompt and grouped-query heads: forward, decode, backward.

    nvcc -std=c++17 -O3 -arch=native -I. dev/cuda/attention.cu -o build/attention -lcublasLt
    build/attention [version] [P M groups samples NKV G HD]

The rows: per group a prompt of P tokens, then `samples` completions of M tokens that see it; G query heads share each
of NKV key/value heads. Keys lie on pages of 16, the prompt's whole pages once for all; positions that nobody fills hold
NaN.

    1, 3, 5  from the formula (attention_plain.cuh): one thread per query vector or per key, every number from memory or
             a cache, no tensor core. A key is fetched again for each query that sees it
    2        a block keeps 64 query vectors, those of the G heads together, and keys and values stream by in chunks of
             64, on their way while the chunk before is computed: each is fetched once for 64 vectors and the scores
             never leave the multiprocessor (FlashAttention, Dao et al. 2022, arXiv 2205.14135). Both products run on
             tensor cores
    4        decoding, one query a sequence: memory is the limit, each key serves G vectors. Chunks are spread over
             warps and blocks
    6        dq, then dk and dv, from the saved log sum exp: 7 products instead of 5, but no atomics

Tolerances, with u = 2^-8, a rounding to bf16, and 1/16 more for fp32: out u (sum p |v| + |out|), as p and out are
rounded; lse 1e-5 of 1 + the largest sum |q k|; dv 2 u sum p |dout|, as p and dout are; dq and dk u times the sum of p
(|dout| |v| + |dout| |out|) and |ds|, as dout and ds are. Versions 1, 3 and 5 round less and are held to the same.
*/
#include "lab.cuh"
#include "llmc/cuda/attention.cuh"          // versions 2 and 4
#include "llmc/cuda/attention_backward.cuh" // version 6

#include "attention_plain.cuh" // versions 1, 3 and 5

// One case: sequences, and for each the packed rows that its keys are.
struct LabCase {
    Sequence *host, *device;
    int *prefix_row, *own_row, n, rows;
};

static struct {
    int P, M, NKV, G, HD, NH, T;
    LabCase packed, decode;
    KVCache kv;
    LabArray<float> key, value; // [T,NKV*HD], bf16 numbers
    LabArray<bf16> q, q_decode, out, out_decode, out_given;
    LabArray<float> lse, lse_decode, lse_given, dout, dq, dk, dv;
} lab;

// ----------------------------------------------------------------------------
// versions

static void version_1(void) {
    plain_attention_forward(lab.out.device, lab.lse.device, lab.q.device, &lab.kv, 0, lab.packed.device, lab.packed.n,
                            lab.NH);
}
static void version_2(void) {
    cuda_attention_forward(lab.out.device, lab.lse.device, lab.q.device, &lab.kv, 0, lab.packed.device, lab.packed.n,
                           lab.NH);
}

static void version_3(void) {
    plain_attention_forward(lab.out_decode.device, lab.lse_decode.device, lab.q_decode.device, &lab.kv, 0,
                            lab.decode.device, lab.decode.n, lab.NH);
}
static void version_4(void) {
    cuda_attention_forward(lab.out_decode.device, lab.lse_decode.device, lab.q_decode.device, &lab.kv, 0,
                           lab.decode.device, lab.decode.n, lab.NH);
}

static void version_5(void) {
    plain_attention_backward(lab.dq.device, lab.dk.device, lab.dv.device, lab.dout.device, lab.out_given.device,
                             lab.lse_given.device, lab.q.device, &lab.kv, 0, lab.packed.device, lab.packed.n, lab.T,
                             lab.NH);
}
static void version_6(void) {
    cuda_attention_backward(lab.dq.device, lab.dk.device, lab.dv.device, lab.dout.device, lab.out_given.device,
                            lab.lse_given.device, lab.q.device, &lab.kv, 0, lab.packed.device, lab.packed.n, lab.T,
                            lab.NH);
}

// ----------------------------------------------------------------------------
// the case: rows, pages, cache

static LabCase lab_case(int n) {
    LabCase c = {};
    c.n = n;
    c.host = (Sequence *)calloc((size_t)n, sizeof(Sequence));
    c.prefix_row = (int *)calloc((size_t)n, sizeof(int)), c.own_row = (int *)calloc((size_t)n, sizeof(int));
    if (!c.host || !c.prefix_row || !c.own_row)
        cuda_failed("the lab's sequences", "out of memory on the host", "choose smaller sizes", __FILE__, __LINE__);
    CUDA_CHECK(cudaMalloc((void **)&c.device, (size_t)n * sizeof(Sequence)));
    return c;
}

static void lab_case_upload(const LabCase *c) {
    CUDA_CHECK(
        cudaMemcpyAsync(c->device, c->host, (size_t)c->n * sizeof(Sequence), cudaMemcpyHostToDevice, cuda_stream));
    CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
}

// The packed row of the key at `position` of sequence s.
static int lab_key_row(const LabCase *c, int s, int position) {
    return position < lab.P ? c->prefix_row[s] + position : c->own_row[s] + position - lab.P;
}

static void lab_make(int groups, int samples) {
    const int P = lab.P, M = lab.M, width = (P + M + KV_PAGE - 1) / KV_PAGE, n = groups * (1 + samples);
    const size_t page_size = (size_t)lab.NKV * KV_PAGE * lab.HD;
    lab.packed = lab_case(n), lab.decode = lab_case(groups * samples);
    lab.T = groups * (P + samples * M);
    lab.kv = {1, lab.NKV, lab.HD, n * width, NULL, NULL};
    lab.key = lab_random<float>((size_t)lab.T * lab.NKV * lab.HD, 1);
    lab.value = lab_random<float>((size_t)lab.T * lab.NKV * lab.HD, 1);
    for (size_t i = 0; i < lab.key.n; i++) {
        lab.key.host[i] = __bfloat162float(__float2bfloat16(lab.key.host[i]));
        lab.value.host[i] = __bfloat162float(__float2bfloat16(lab.value.host[i]));
    }
    LabArray<int> pages = lab_array<int>((size_t)n * width);
    LabArray<bf16> k = lab_array<bf16>(n * width * page_size), v = lab_array<bf16>(n * width * page_size);
    memset((void *)k.host, 0xFF, k.n * sizeof(bf16));
    memset((void *)v.host, 0xFF, v.n * sizeof(bf16));
    for (int s = 0, row = 0, d = 0; s < n; s++) {
        const int group = s / (1 + samples), of_group = s % (1 + samples), prompt = s - of_group,
                  positions = of_group ? P + M : P;
        Sequence *g = &lab.packed.host[s];
        *g = {row, of_group ? M : P, of_group ? P : 0, pages.device + (size_t)s * width, 0, group};
        if (of_group) g->prefix_row0 = lab.packed.host[prompt].row0;
        lab.packed.prefix_row[s] = of_group ? g->prefix_row0 : row;
        lab.packed.own_row[s] = row;
        row += g->T;
        for (int i = 0; i < width; i++)
            pages.host[(size_t)s * width + i] =
                of_group && i < P / KV_PAGE ? pages.host[(size_t)prompt * width + i] : n * width - 1 - s * width - i;
        for (int position = 0; position < positions; position++)
            for (int head = 0; head < lab.NKV; head++)
                for (int i = 0; i < lab.HD; i++) {
                    const size_t from = ((size_t)lab_key_row(&lab.packed, s, position) * lab.NKV + head) * lab.HD + i;
                    const size_t to = pages.host[(size_t)s * width + position / KV_PAGE] * page_size +
                                      ((size_t)head * KV_PAGE + position % KV_PAGE) * lab.HD + i;
                    k.host[to] = __float2bfloat16(lab.key.host[from]),
                    v.host[to] = __float2bfloat16(lab.value.host[from]);
                }
        if (!of_group) continue;
        lab.decode.host[d] = {d, 1, P + M - 1, g->pages, 0, d}; // its last token, with all keys before it
        lab.decode.prefix_row[d] = lab.packed.prefix_row[s], lab.decode.own_row[d] = lab.packed.own_row[s];
        d++;
    }
    lab.packed.rows = lab.T, lab.decode.rows = groups * samples;
    lab_upload(pages), lab_upload(k), lab_upload(v);
    lab.kv.k = k.device, lab.kv.v = v.device;
    lab_case_upload(&lab.packed), lab_case_upload(&lab.decode);
}

// ----------------------------------------------------------------------------
// the reference: straight from the formulas, in double

struct LabReference {
    double *out, *out_off, *lse, *lse_off, *dq, *dq_off, *dk, *dk_off, *dv, *dv_off;
};

static double lab_pairs; // of a query vector and a key that it sees, in the last reference

// The forward of a case. out_given, lse_given (NULL: not wanted): what the backward is given.
static void lab_forward(LabReference *r, const LabCase *c, const LabArray<bf16> &q, LabArray<bf16> *out_given,
                        LabArray<float> *lse_given) {
    const int HD = lab.HD;
    const double scale = 1 / sqrt(HD);
    double *p = lab_doubles((size_t)lab.P + lab.M);
    r->out = lab_doubles(q.n), r->out_off = lab_doubles(q.n), r->lse = lab_doubles((size_t)c->rows * lab.NH);
    r->lse_off = lab_doubles((size_t)c->rows * lab.NH);
    lab_pairs = 0;
    for (int s = 0; s < c->n; s++)
        for (int t = 0; t < c->host[s].T; t++)
            for (int h = 0; h < lab.NH; h++) {
                const int keys = c->host[s].pos0 + t + 1;
                const size_t at = (size_t)(c->host[s].row0 + t) * lab.NH + h;
                double max = -INFINITY, sum = 0, mass = 0;
                for (int j = 0; j < keys; j++) {
                    const float *k = lab.key.host + ((size_t)lab_key_row(c, s, j) * lab.NKV + h / lab.G) * HD;
                    double dot = 0, absolute = 0;
                    for (int d = 0; d < HD; d++) {
                        const double x = lab_get(&q.host[at * HD + d]) * k[d];
                        dot += x, absolute += fabs(x);
                    }
                    p[j] = dot * scale;
                    max = p[j] > max ? p[j] : max, mass = absolute * scale > mass ? absolute * scale : mass;
                }
                for (int j = 0; j < keys; j++) sum += p[j] = exp(p[j] - max);
                for (int j = 0; j < keys; j++)
                    for (int d = 0; d < HD; d++) {
                        const double x =
                            p[j] / sum * lab.value.host[((size_t)lab_key_row(c, s, j) * lab.NKV + h / lab.G) * HD + d];
                        r->out[at * HD + d] += x, r->out_off[at * HD + d] += fabs(x);
                    }
                for (int d = 0; d < HD; d++) {
                    r->out_off[at * HD + d] = 0x1.1p-8 * (r->out_off[at * HD + d] + fabs(r->out[at * HD + d])) + 1e-6;
                    if (out_given) out_given->host[at * HD + d] = __float2bfloat16((float)r->out[at * HD + d]);
                }
                r->lse[at] = max + log(sum), r->lse_off[at] = 1e-5 * (1 + mass);
                if (lse_given) lse_given->host[at] = (float)r->lse[at];
                lab_pairs += keys;
            }
    free(p);
}

// The backward of the packed case, from lab.out_given and lab.lse_given.
static void lab_backward(LabReference *r) {
    const LabCase *c = &lab.packed;
    const int HD = lab.HD;
    const double scale = 1 / sqrt(HD), u = 0x1.1p-8;
    const size_t n_q = (size_t)lab.T * lab.NH * HD, n_k = (size_t)lab.T * lab.NKV * HD;
    r->dq = lab_doubles(n_q), r->dq_off = lab_doubles(n_q), r->dk = lab_doubles(n_k), r->dk_off = lab_doubles(n_k);
    r->dv = lab_doubles(n_k), r->dv_off = lab_doubles(n_k);
    for (int s = 0; s < c->n; s++)
        for (int t = 0; t < c->host[s].T; t++)
            for (int h = 0; h < lab.NH; h++) {
                const size_t at = (size_t)(c->host[s].row0 + t) * lab.NH + h;
                const float *dout = lab.dout.host + at * HD;
                double D = 0, D_mass = 0;
                for (int d = 0; d < HD; d++) {
                    const double x = dout[d] * lab_get(&lab.out_given.host[at * HD + d]);
                    D += x, D_mass += fabs(x);
                }
                for (int j = 0; j <= c->host[s].pos0 + t; j++) {
                    const size_t key_at = ((size_t)lab_key_row(c, s, j) * lab.NKV + h / lab.G) * HD;
                    double dot = 0, dp = 0, dp_mass = 0;
                    for (int d = 0; d < HD; d++) {
                        const double x = (double)dout[d] * lab.value.host[key_at + d];
                        dot += lab_get(&lab.q.host[at * HD + d]) * lab.key.host[key_at + d];
                        dp += x, dp_mass += fabs(x);
                    }
                    const double p = exp(dot * scale - lab.lse_given.host[at]), ds = p * (dp - D) * scale;
                    const double off = u * (p * (dp_mass + D_mass) * scale + fabs(ds));
                    for (int d = 0; d < HD; d++) {
                        const double k = lab.key.host[key_at + d], q = lab_get(&lab.q.host[at * HD + d]);
                        r->dq[at * HD + d] += ds * k, r->dq_off[at * HD + d] += off * fabs(k);
                        r->dk[key_at + d] += ds * q, r->dk_off[key_at + d] += off * fabs(q);
                        r->dv[key_at + d] += p * dout[d], r->dv_off[key_at + d] += 2 * u * p * fabs(dout[d]);
                    }
                }
            }
    for (size_t i = 0; i < n_q; i++) r->dq_off[i] += 1e-6;
    for (size_t i = 0; i < n_k; i++) r->dk_off[i] += 1e-6, r->dv_off[i] += 1e-6;
}

// dev/cuda/roofline.py computes occupancy from these; after a change here change attention_shared there, too, and run
// it with --write.
static_assert(attention_forward_bytes<64>() == 46080 && attention_forward_bytes<128>() == 70656,
              "attention_shared of roofline.py");
static_assert(attention_decode_bytes<64>() == 57600 && attention_decode_bytes<128>() == 92416,
              "attention_shared of roofline.py");
static_assert(BackwardShape<64>::BYTES == 57344 && BackwardShape<128>::BYTES == 90112,
              "attention_shared of roofline.py");

// ----------------------------------------------------------------------------

int main(int argc, char **argv) {
    int sizes[7] = {LAB_SIZE(128, 19), LAB_SIZE(256, 40), LAB_SIZE(1, 2), LAB_SIZE(8, 3), LAB_SIZE(4, 1), 7,
                    LAB_SIZE(128, 64)};
    lab_begin(argc, argv, 6, "P M groups samples NKV G HD", sizes, 7);
    if (sizes[6] % 2 != 0 || sizes[6] > PLAIN_MAX_HD) {
        fprintf(stderr, "%s: HD: found %d, expected an even number up to %d\n", argv[0], sizes[6], PLAIN_MAX_HD);
        return 2;
    }
    lab.P = sizes[0], lab.M = sizes[1], lab.NKV = sizes[4], lab.G = sizes[5], lab.HD = sizes[6],
    lab.NH = lab.NKV * lab.G;
    lab_make(sizes[2], sizes[3]);
    const size_t heads = (size_t)lab.T * lab.NH, keys = (size_t)lab.T * lab.NKV,
                 decode = (size_t)lab.decode.rows * lab.NH, HD = (size_t)lab.HD;
    lab.q = lab_random<bf16>(heads * HD, 2), lab.q_decode = lab_random<bf16>(decode * HD, 2);
    lab.dout = lab_random<float>(heads * HD, 1);
    lab.out = lab_array<bf16>(heads * HD), lab.lse = lab_array<float>(heads),
    lab.out_given = lab_array<bf16>(heads * HD);
    lab.lse_given = lab_array<float>(heads);
    lab.out_decode = lab_array<bf16>(decode * HD), lab.lse_decode = lab_array<float>(decode);
    lab.dq = lab_array<float>(heads * HD), lab.dk = lab_array<float>(keys * HD), lab.dv = lab_array<float>(keys * HD);

    LabReference r = {}, of_decode = {};
    lab_forward(&of_decode, &lab.decode, lab.q_decode, NULL, NULL);
    const double decode_flops = 4 * lab_pairs * lab.HD,
                 decode_bytes = 4.0 * lab_pairs / lab.G * lab.HD + 4.0 * (double)decode * lab.HD;
    lab_forward(&r, &lab.packed, lab.q, &lab.out_given, &lab.lse_given);
    lab_upload(lab.out_given), lab_upload(lab.lse_given);
    lab_backward(&r);
    const double flops = 4 * lab_pairs * lab.HD, bytes = 4.0 * (double)(heads + keys) * lab.HD,
                 backward_bytes = 12.0 * (double)(heads + keys) * lab.HD;

    lab_check("out", lab.out, r.out, r.out_off), lab_check("lse", lab.lse, r.lse, r.lse_off);
    lab_run(1, "forward, plain: a thread per query vector", version_1, bytes, flops);
    lab_run(2, "forward, llmc: chunks of keys on tensor cores", version_2, bytes, flops);
    lab_no_checks();
    lab_check("out", lab.out_decode, of_decode.out, of_decode.out_off);
    lab_check("lse", lab.lse_decode, of_decode.lse, of_decode.lse_off);
    lab_run(3, "decode, plain", version_3, decode_bytes, decode_flops);
    lab_run(4, "decode, llmc: keys spread over warps and blocks", version_4, decode_bytes, decode_flops);
    lab_no_checks();
    lab_check("dq", lab.dq, r.dq, r.dq_off), lab_check("dk", lab.dk, r.dk, r.dk_off),
        lab_check("dv", lab.dv, r.dv, r.dv_off);
    lab_run(5, "backward, plain: a thread per query vector or key", version_5, backward_bytes, 2.5 * flops);
    lab_run(6, "backward, llmc: tensor cores, no atomics", version_6, backward_bytes, 2.5 * flops);
    return lab_end();
}
