#!/usr/bin/env python3
"""The tables of dev/cuda/ROOFLINE.md: bytes, FLOPs, occupancy and the least time of each CUDA kernel on an H100, and what a step of
the papers' setting needs. Computed, not measured.

    dev/cuda/roofline.py             prints the tables
    dev/cuda/roofline.py --check     fails if ROOFLINE.md holds other ones
    dev/cuda/roofline.py --write     puts them into ROOFLINE.md
"""
import math
import os
import re
import sys

# ----------------------------------------------------------------------------
# The card: NVIDIA H100 SXM5 80 GB, from NVIDIA's data sheet (dense figures) and, for the multiprocessor, the CUDA C++
# Programming Guide, compute capability 9.0.

BANDWIDTH = 3.35e12    # bytes/s
TENSOR = 989e12        # FLOP/s, bf16 with fp32 sums
FP32 = 67e12           # FLOP/s without tensor cores
CARD_BYTES = 80e9
SM_REGISTERS, SM_WARPS, SM_BLOCKS, SM_SHARED = 65536, 64, 32, 228 * 1024
BLOCK_SHARED_EXTRA = 1024  # that the system takes of each block's shared memory

# ----------------------------------------------------------------------------
# The models: config.json of Qwen2.5-0.5B, 1.5B, 7B and 14B. Letters as in llmc/ops.h.


class Model:
    def __init__(self, name, L, C, I, NH, NKV, HD, V, tied):
        self.name, self.L, self.C, self.I, self.NH, self.NKV, self.HD, self.V, self.tied = name, L, C, I, NH, NKV, HD, V, tied
        self.G = NH // NKV
        self.QD, self.KD = NH * HD, NKV * HD
        self.QKV = self.QD + 2 * self.KD
        self.layer_weights = C * self.QKV + self.QD * C + 3 * C * I   # elements
        self.weights = 2 * (L * self.layer_weights + V * C * (1 if tied else 2))  # bytes, bf16
        self.kv_token = 2 * L * self.KD * 2                            # bytes of one token in the cache
        # activation_bytes_per_row and the scratch of a row, as llmc/qwen2.h and policy_alloc of llmc/grpo.h count them
        self.kept_row = (2 * C + NH + 2) * 4 + (2 * self.QD + 2 * I) * 2
        self.scratch_row = 16 * (C + self.QKV) * 4


SHAPES = [Model("0.5B", 24, 896, 4864, 14, 2, 64, 151936, True),
          Model("1.5B", 28, 1536, 8960, 12, 2, 128, 151936, True),
          Model("7B", 28, 3584, 18944, 28, 4, 128, 152064, False),
          Model("14B", 48, 5120, 13824, 40, 8, 128, 152064, False)]
MODELS = [m for m in SHAPES if m.name != "1.5B"]  # of the tables here; scripts/cost_table.py has all

MLP_ROWS, HEAD_ROWS, KV_PAGE = 512, 256, 16  # llmc/qwen2.h, llmc/grpo.h, llmc/ops.h

# ----------------------------------------------------------------------------
# Occupancy, from registers of a thread and static shared memory of a block on sm_90: dev/cuda/resources.txt, which resources.sh holds
# against what nvcc says.


def resources():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resources.txt")
    with open(path, encoding="utf-8") as f: # kernel, architecture, registers, static shared memory, stack, spills
        rows = [line.rsplit(None, 5) for line in f if not line.startswith("#")]
    return {row[0]: (int(row[2]), int(row[3])) for row in rows if row[1] == "sm_90"}


def attention_shared(HD):
    """Dynamic shared memory of the attention kernels: AttentionShape, BackwardShape. dev/cuda/attention.cu asserts the same."""
    row, warps, vectors, scores = (HD + 8) * 2, 4, 64, 16 * 72 * 4
    backward = 2 * vectors * row + 2 * 2 * 32 * row + warps * 2 * 16 * 40 * 4
    forward, decode = (vectors + 128) * row + warps * scores, 16 * row + warps * (64 * row + scores)
    return {"forward": forward, "decode": decode, "backward": backward}


def row_threads(C):
    """Of a block that has a row of C elements, 8 a thread: llmc/cuda/rows.cuh."""
    return min(256, math.ceil(C / 8 / 32) * 32)


def rows_kernel(name, m):
    """ROW_PACKS of llmc/cuda/rows.cuh: how many times 8 elements a thread keeps."""
    return f"{name}<true, {next(packs for packs in (1, 2, 4, 0) if m.C <= packs * 8 * 256 or packs == 0)}>"


def launches(m):
    """(kernel, threads of a block, dynamic shared memory)"""
    shared, H = attention_shared(m.HD), m.HD
    return [
        (rows_kernel("add_rmsnorm_kernel", m), row_threads(m.C), 0),
        (rows_kernel("rmsnorm_backward_kernel", m), row_threads(m.C), 0),
        ("column_sum_kernel<true>", 256, 0),
        ("rope_kv_write_kernel<true>", 256, 0),
        ("rope_backward_kernel<true>", 256, 0),
        (f"attention_forward_kernel<{H}>", 128, shared["forward"]),
        (f"attention_decode_kernel<{H}>", 128, shared["decode"]),
        ("attention_prepare_kernel", 256, 0),
        (f"attention_dq_kernel<{H}>", 128, shared["backward"]),
        (f"attention_dkv_kernel<{H}>", 128, shared["backward"]),
        ("swiglu_forward_kernel<true>", 256, 0),
        ("swiglu_backward_kernel<true, false>", 256, 0),
        ("output_chunks_kernel<true>", 256, 0),
        ("dlogits_rows_kernel<true>", 256, 0),
        ("sample_rows_kernel<0>", 256, 0),
    ]


def occupancy(kernel, threads, dynamic):
    """Blocks on a multiprocessor, share of its 64 warps, and what limits them."""
    registers, static = resources()[kernel]
    warps = threads // 32
    of_warp = math.ceil(registers * 32 / 256) * 256 # registers are dealt out to a warp in units of 256
    shared = math.ceil((static + dynamic) / 128) * 128 + BLOCK_SHARED_EXTRA
    limits = [(SM_WARPS // warps, "warps"), (SM_REGISTERS // of_warp // warps, "registers"), (SM_SHARED // shared, "shared memory"),
              (SM_BLOCKS, "blocks")]
    blocks = min(n for n, _ in limits)
    names = [name for n, name in limits if n == blocks]
    return blocks, blocks * warps / SM_WARPS, names[0]


# ----------------------------------------------------------------------------
# Bytes and FLOPs. A kernel: what it is called here, what computes it, calls, bytes and FLOPs of all calls, the peak it could reach.
# Bytes are those that must come from or go to memory if each kernel reads its inputs once and nothing of the last kernel is left in
# the cache; weights once a call.


class Kernel:
    def __init__(self, name, code, calls, bytes_, flops, peak=FP32):
        self.name, self.code, self.calls, self.bytes, self.flops, self.peak = name, code, calls, bytes_, flops, peak

    def seconds(self):
        return max(self.bytes / BANDWIDTH, self.flops / self.peak)

    def limit(self):
        if self.bytes / BANDWIDTH >= self.flops / self.peak:
            return "memory"
        return "tensor cores" if self.peak == TENSOR else "fp32"


def product(name, T, K, N, chunk=None):
    """y[T,N] = x[T,K] W: bf16 in, fp32 out, `chunk` rows a call."""
    calls = math.ceil(T / chunk) if chunk else 1
    return Kernel(name, "cuBLASLt", calls, calls * 2 * K * N + 2 * T * K + 4 * T * N, 2 * T * K * N, TENSOR)


def packed(P, M, samples):
    """One group: rows, and pairs of a query and a key that it sees."""
    return P + samples * M, P * (P + 1) // 2 + samples * (P * M + M * (M + 1) // 2)


def layer_forward(m, T, pairs, keep):
    k = 1 if keep else 0
    return [
        Kernel("add + RMSNorm, twice", rows_kernel("add_rmsnorm_kernel", m), 2, 2 * T * m.C * 14, 2 * T * m.C * 6),
        product("q, k, v product", T, m.C, m.QKV),
        Kernel("RoPE, write to the cache", "rope_kv_write_kernel<true>", 1, T * m.QKV * 6, T * (m.QD + m.KD) * 3),
        Kernel("attention forward", f"attention_forward_kernel<{m.HD}>", 1, T * (m.QD * 4 + 2 * m.KD * 2 + k * 4 * m.NH),
               4 * pairs * m.QD, TENSOR),
        product("o product", T, m.QD, m.C),
        product("gate and up product", T, m.C, 2 * m.I, MLP_ROWS),
        Kernel("SwiGLU", "swiglu_forward_kernel<true>", math.ceil(T / MLP_ROWS), T * m.I * (10 + 4 * k), T * m.I * 6),
        product("down product", T, m.I, m.C, MLP_ROWS),
    ]


def layer_backward(m, T, pairs):
    return [
        Kernel("column sum", "column_sum_kernel<true>", 1, T * m.C * 4, T * m.C),
        product("down product, backward", T, m.C, m.I, MLP_ROWS),
        Kernel("SwiGLU backward", "swiglu_backward_kernel<true, false>", math.ceil(T / MLP_ROWS), T * m.I * 12, T * m.I * 10),
        product("gate and up product, backward", T, 2 * m.I, m.C, MLP_ROWS),
        # h, dx, dh in and out, dy; h and dx wait in registers
        Kernel("RMSNorm backward, twice", rows_kernel("rmsnorm_backward_kernel", m), 2, 2 * T * m.C * 18, 2 * T * m.C * 10),
        product("o product, backward", T, m.C, m.QD),
        # prepare: dout, out in, rounded dout out; dq: q, dout in, dq out; dkv: q, dout in, dk, dv out; keys and values twice
        # 7 products
        Kernel("attention backward", f"attention_dkv_kernel<{m.HD}>", 1, T * (m.QD * 20 + m.KD * 16), 14 * pairs * m.QD,
               TENSOR),
        Kernel("RoPE backward", "rope_backward_kernel<true>", 1, T * m.QKV * 6, T * (m.QD + m.KD) * 3),
        product("q, k, v product, backward", T, m.QKV, m.C),
    ]


def head_forward(m, n, chunk=HEAD_ROWS):
    return [
        # with the gathered rows
        Kernel("final RMSNorm", rows_kernel("add_rmsnorm_kernel", m), math.ceil(n / chunk), n * m.C * 18, n * m.C * 6),
        product("output product", n, m.C, m.V, chunk),
        Kernel("log-prob, entropy", "output_chunks_kernel<true>", math.ceil(n / chunk), n * m.V * 4, n * m.V * 6),
    ]


def head_backward(m, n):
    return [
        Kernel("gradient of the logits", "dlogits_rows_kernel<true>", math.ceil(n / HEAD_ROWS), n * m.V * 6, n * m.V * 5),
        product("output product, backward", n, m.V, m.C, HEAD_ROWS),
    ]


def decode_layer(m, B, context):
    forward = layer_forward(m, B, 0, False)
    attention = [k for k in forward if k.name == "attention forward"][0]
    attention.name, attention.code = "decode attention", f"attention_decode_kernel<{m.HD}>"
    attention.bytes, attention.flops = B * (context * 2 * m.KD * 2 + m.QD * 4), 4 * B * context * m.QD
    return forward


def decode_head(m, B):
    return head_forward(m, B, B)[:2] + [Kernel("sampling, log-prob", "output_chunks_kernel<true>", 1, B * m.V * 4, B * m.V * 6)]


def total(kernels):
    return sum(k.seconds() for k in kernels)


# ----------------------------------------------------------------------------
# Tables


def number(x, digits=3):
    """x with so many significant digits."""
    if x == 0:
        return "0"
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


def table(head, rows):
    left = ("kernel", "model", "limit")
    rule = ["---" if i == 0 or name in left else "---:" for i, name in enumerate(head)]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(rule) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


DECODE_KERNELS = 10                            # launches of a layer in decoding (qwen2_forward; attention is two)
TRAIN_P, TRAIN_M, TRAIN_SAMPLES = 128, 496, 8  # one group of 4,096 rows
DECODE_B, DECODE_CONTEXT = 64, 1024


def occupancy_of(m, code):
    for kernel, threads, dynamic in launches(m):
        if kernel == code:
            return f"{100 * occupancy(kernel, threads, dynamic)[1]:.0f} %"
    return "cuBLASLt's"


def kernel_table(kernels_of):
    rows = []
    for i, kernel in enumerate(kernels_of(MODELS[0])):
        for m in MODELS:
            k = kernels_of(m)[i]
            assert k.name == kernel.name
            rows.append([k.name, m.name, str(k.calls), number(k.bytes / 1e6), number(k.flops / 1e9), number(k.flops / k.bytes),
                         occupancy_of(m, k.code), k.limit(), number(k.seconds() * 1e6)])
    rows += [["**together**", m.name, "", "", "", "", "", "", number(total(kernels_of(m)) * 1e6)] for m in MODELS]
    head = ["kernel", "model", "calls", "MB", "GFLOP", "FLOP a byte", "occupancy", "limit", "least µs"]
    return table(head, rows)


def table_card():
    rows = [["memory bandwidth", f"{BANDWIDTH / 1e12:.2f} TB/s"], ["bf16 on tensor cores, dense", f"{TENSOR / 1e12:.0f} TFLOP/s"],
            ["fp32 without them", f"{FP32 / 1e12:.0f} TFLOP/s"], ["memory", f"{CARD_BYTES / 1e9:.0f} GB"],
            ["FLOP a byte where tensor cores become the limit", f"{TENSOR / BANDWIDTH:.0f}"]]
    return table(["NVIDIA H100 SXM, data sheet", ""], rows)


def table_models():
    rows = [[m.name, *(f"{x:,}" for x in (m.L, m.C, m.I, m.NH, m.NKV, m.HD, m.V)), "yes" if m.tied else "no",
             number(m.weights / 1e9)] for m in MODELS]
    return table(["model", "L", "C", "I", "NH", "NKV", "HD", "V", "tied", "weights GB"], rows)


def table_occupancy():
    rows, seen = [], set()
    for m in MODELS:
        for kernel, threads, dynamic in launches(m):
            if (kernel, dynamic) in seen:
                continue
            seen.add((kernel, dynamic))
            blocks, share, limit = occupancy(kernel, threads, dynamic)
            registers, static = resources()[kernel]
            rows.append([f"`{kernel}`", str(threads), str(registers), f"{static + dynamic:,}", str(blocks), f"{100 * share:.0f} %",
                         limit])
    head = ["kernel", "threads", "registers", "shared bytes", "blocks a multiprocessor", "occupancy", "limit"]
    return table(head, rows)


def table_forward():
    T, pairs = packed(TRAIN_P, TRAIN_M, TRAIN_SAMPLES)
    return kernel_table(lambda m: layer_forward(m, T, pairs, True))


def table_backward():
    T, pairs = packed(TRAIN_P, TRAIN_M, TRAIN_SAMPLES)
    return kernel_table(lambda m: layer_backward(m, T, pairs))


def table_head():
    return kernel_table(lambda m: head_forward(m, HEAD_ROWS) + head_backward(m, HEAD_ROWS))


def table_decode():
    return kernel_table(lambda m: decode_layer(m, DECODE_B, DECODE_CONTEXT))


def table_decode_head():
    return kernel_table(lambda m: decode_head(m, DECODE_B))


def share_of(kernels, peak):
    return f"{100 * total(k for k in kernels if k.peak == peak) / total(kernels):.0f} %"


def table_shares():
    """Of the least time of a layer: what is neither a product nor attention."""
    T, pairs = packed(TRAIN_P, TRAIN_M, TRAIN_SAMPLES)
    rows = [[m.name, share_of(layer_forward(m, T, pairs, True), FP32), share_of(layer_backward(m, T, pairs), FP32),
             share_of(decode_layer(m, DECODE_B, DECODE_CONTEXT), FP32)] for m in MODELS]
    return table(["model", "forward", "backward", "decoding"], rows)


# ----------------------------------------------------------------------------
# A step of the papers' setting

PROMPTS, SAMPLES = 128, 16            # prompts a step, samples of each
CAPS = (1024, 2048, 4096, 8192)       # tokens of a prompt with its completion at most; the papers' is the last
CAP = 4096                            # of the tables of a step: what fits a card
PROMPT_TOKENS = 150                   # assumed
STEPS = 314
LENGTHS = (500, 1000, 2000)           # assumed means of a completion's tokens
ACTIVATION_MEMORY = 8 * 2**30         # --activation_memory 8
OVERHEAD = 2e9                        # assumed: the CUDA context, cuBLASLt's workspace, fragments
SHARE = 0.6                           # assumed: of either limit, what real kernels reach


def table_assumptions():
    m = MODELS[2]
    rows = [["prompts a step x samples of each", f"{PROMPTS} x {SAMPLES}", "the papers'"],
            ["steps", f"{STEPS}", "the papers', one epoch"],
            ["tokens of a prompt", f"{PROMPT_TOKENS}", "assumed"],
            ["tokens of a completion", ", ".join(f"{n:,}" for n in LENGTHS), "assumed; all of a step alike"],
            ["most tokens, prompt included", f"{CAP:,}", f"the papers' is {CAPS[-1]:,}, which does not fit"],
            ["`activation_memory`", f"{ACTIVATION_MEMORY // 2**30} GiB", "chosen"],
            ["CUDA context, workspace, fragments", f"{number(OVERHEAD / 1e9, 2)} GB", "assumed"],
            ["of either limit, what kernels reach", f"{100 * SHARE:.0f} %", "assumed; not a forecast"],
            ["bytes of the gradient", f"{4 * m.L * m.C:,}", "follows; to be added up over GPUs, at no time"],
            ["kernels of a decode step", f"{m.L * DECODE_KERNELS}", "follows; launches are not counted"]]
    return table(["14B", "value", "where from"], rows)


class Memory:
    """On one card, for completions of up to `cap` tokens, prompt included."""

    def __init__(self, m, cap):
        row = m.kept_row * (m.L - 1) + m.scratch_row
        self.rows = max(int(ACTIVATION_MEMORY / row), cap)
        self.pass_ = self.rows * row + MLP_ROWS * 18 * m.I + HEAD_ROWS * (6 * m.V + 20 * m.C)
        self.pass_kv = self.rows * m.kv_token
        self.left = CARD_BYTES - OVERHEAD - m.weights - self.pass_ - self.pass_kv
        slot = (math.ceil(cap / KV_PAGE) + 1) * KV_PAGE * m.kv_token + 4 * m.V + 4 * m.C
        self.slots = max(0, min(int(self.left / slot), PROMPTS * SAMPLES))
        self.slots_kv = self.slots * slot


def table_memory():
    rows = []
    for m in MODELS:
        for cap in CAPS:
            x = Memory(m, cap)
            all_ = m.weights + x.pass_ + x.pass_kv + x.slots_kv + OVERHEAD
            rows.append([m.name, f"{cap:,}", number(m.weights / 1e9), number(m.kv_token / 1e3), f"{x.rows:,}",
                         number(x.pass_ / 1e9), number(x.pass_kv / 1e9), f"{x.slots:,}", number(x.slots_kv / 1e9),
                         number(all_ / 1e9) if x.slots else f"does not fit: {number(all_ / 1e9)} without any"])
    head = ["model", "longest", "weights GB", "KB a token in the cache", "rows of a training pass", "its activations GB",
            "its cache GB", "sequences decoded at once", "their cache GB", "together GB"]
    return table(head, rows)


class Step:
    """Least seconds of a step on `cards` cards: prompts are dealt out, each card has all the weights."""

    def __init__(self, m, length, cards, slots):
        prompts = PROMPTS // cards
        sequences = prompts * SAMPLES
        B = min(slots, sequences)
        rows = Memory(m, CAP).rows
        T, pairs = packed(PROMPT_TOKENS, length, SAMPLES)
        if T <= rows: # several groups in a training pass
            groups = min(rows // T, prompts)
            T, pairs, passes = T * groups, pairs * groups, prompts / groups
        else:         # a group in several passes, with the prompt in each
            cuts = math.ceil(SAMPLES / max(1, (rows - PROMPT_TOKENS) // length))
            (T, pairs), passes = packed(PROMPT_TOKENS, length, SAMPLES / cuts), prompts * cuts
        self.batch, self.decode_steps = B, math.ceil(sequences * length / B)
        one = m.L * total(decode_layer(m, B, PROMPT_TOKENS + length // 2)) + total(decode_head(m, B))
        self.decode = self.decode_steps * one
        prompt_rows = prompts * PROMPT_TOKENS
        prompt_pairs = prompt_rows * (PROMPT_TOKENS + 1) // 2
        self.prefill = m.L * total(layer_forward(m, prompt_rows, prompt_pairs, False))
        n = sequences * length
        self.forward = passes * m.L * total(layer_forward(m, T, pairs, True)) + total(head_forward(m, n))
        self.backward = passes * (m.L - 1) * total(layer_backward(m, T, pairs)) + total(head_backward(m, n))
        self.all = self.prefill + self.decode + self.forward + self.backward


def table_step():
    m, rows = MODELS[2], []
    for cards in (1, 8):
        for length in LENGTHS:
            s = Step(m, length, cards, Memory(m, CAP).slots)
            rows.append([str(cards), f"{length:,}", str(s.batch), f"{s.decode_steps:,}", number(s.prefill), number(s.decode),
                         number(s.forward), number(s.backward), number(s.all), f"{100 * s.decode / s.all:.0f} %",
                         number(s.all / SHARE), number(STEPS * s.all / SHARE / 3600)])
    head = ["GPUs", "mean completion", "decoded at once", "decode steps", "prefill s", "decode s", "forward s", "backward s",
            "least s a step", "decode's share", f"s at {100 * SHARE:.0f} % of the limits", f"hours of {STEPS} steps at that"]
    return table(head, rows)


def table_batch():
    m, rows = MODELS[2], []
    for slots in (16, 32, 64, 128, 256):
        s = Step(m, 1000, 8, slots)
        need = slots * ((math.ceil((PROMPT_TOKENS + 1000) / KV_PAGE) + 1) * KV_PAGE * m.kv_token)
        rows.append([str(slots), number(need / 1e9), f"{s.decode_steps:,}", number(1e3 * s.decode / s.decode_steps),
                     number(s.decode), number(s.all)])
    head = ["decoded at once", f"cache GB at {PROMPT_TOKENS + 1000:,} tokens each", "decode steps", "ms a decode step", "decode s",
            "least s a step"]
    return table(head, rows)


TABLES = {"card": table_card, "models": table_models, "occupancy": table_occupancy, "forward": table_forward,
          "backward": table_backward, "head": table_head, "decode": table_decode, "decode_head": table_decode_head,
          "shares": table_shares, "assumptions": table_assumptions, "memory": table_memory, "step": table_step, "batch": table_batch}

# ----------------------------------------------------------------------------
# The page


def put(page):
    """The page with its tables replaced by the script's. Between `<!-- table NAME -->` and `<!-- end -->` nothing else stands."""
    found = re.findall(r"<!-- table (\w+) -->", page)
    if sorted(found) != sorted(TABLES):
        raise SystemExit(f"error: ROOFLINE.md: found the tables {sorted(found)}, expected {sorted(TABLES)}")
    made = lambda t: f"<!-- table {t[1]} -->\n{TABLES[t[1]]()}\n<!-- end -->"
    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", made, page, flags=re.S)


def main(arguments):
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ROOFLINE.md")
    if not arguments:
        for name, make in TABLES.items():
            print(f"{name}\n\n{make()}\n")
    elif arguments in (["--check"], ["--write"]):
        with open(page, encoding="utf-8") as f:
            text = f.read()
        new = put(text)
        if arguments == ["--write"]:
            with open(page, "w", encoding="utf-8") as f:
                f.write(new)
        elif new != text:
            for i, (a, b) in enumerate(zip(text.split("\n"), new.split("\n"))):
                if a != b:
                    print(f"dev/cuda/ROOFLINE.md:{i + 1}: found\n  {a}\nexpected\n  {b}", file=sys.stderr)
                    print("  -> dev/cuda/roofline.py --write", file=sys.stderr)
                    break
            return 1
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
