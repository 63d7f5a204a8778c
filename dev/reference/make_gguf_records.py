#!/usr/bin/env python3
"""Writes what dev/test/test_gguf.h holds the GGUF reader against, with the gguf package (0.19):

    quant_records.gguf  of each type that is read a tensor of random blocks, and what gguf.dequantize makes of it (F32)
    small.gguf          a whole model of one layer and 14 tokens, some 7 KB: what fuzzing starts from

    python3 -m venv .venv && .venv/bin/pip install gguf numpy
    .venv/bin/python dev/reference/make_gguf_records.py
"""
import os

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFWriter, dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

HERE = os.path.dirname(os.path.abspath(__file__))
SCALES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}


def blocks(rng, kind, n):
    """n blocks of random bytes; fp16 scales of every size, none infinite or NaN, some subnormal, some 0."""
    b = rng.integers(0, 256, (n, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in SCALES[kind]:
        d = rng.integers(0, 1 << 16, n, dtype=np.uint16)
        d[(d & 0x7C00) == 0x7C00] ^= 0x4000
        d[: n // 8] &= 0x83FF
        d[0] = 0
        b[:, at : at + 2] = d.view(np.uint8).reshape(n, 2)
    return b


def records(path):
    rng = np.random.default_rng(1)
    w = GGUFWriter(path, "records")
    for kind in SCALES:
        per_row = 512 // GGML_QUANT_SIZES[kind][0]
        b = blocks(rng, kind, 3 * per_row).reshape(3, -1)
        w.add_tensor(kind.name, b, raw_dtype=kind)
        w.add_tensor(kind.name + ".exact", dequantize(b, kind).astype(np.float32))
    x = (rng.standard_normal((3, 512)) * np.exp(rng.uniform(-9, 9, (3, 512)))).astype(np.float32)
    for kind in (Q.F16, Q.BF16):
        y = quantize(x, kind)
        w.add_tensor(kind.name, y, raw_dtype=kind)
        w.add_tensor(kind.name + ".exact", dequantize(y, kind).astype(np.float32))
    close(w)


def small(path):
    rng = np.random.default_rng(2)
    w = GGUFWriter(path, "qwen2")
    w.add_name("small")
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_head_count(2)
    w.add_head_count_kv(1)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    tokens = ["a", "b", "c", "d", "Ġ", "ab", "abc", "Ġd", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "[PAD12]", "[PAD13]"]
    w.add_token_list(tokens)
    w.add_token_types([1] * 8 + [3] * 3 + [4] + [5] * 2)
    w.add_token_merges(["a b", "ab c", "Ġ d"])
    w.add_eos_token_id(10)
    w.add_pad_token_id(8)
    w.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}")
    matrix = lambda rows, kind=Q.Q4_0: (quantize(rng.standard_normal((rows, 32)).astype(np.float32) / 8, kind), kind)
    def add(name, data, kind=None):
        w.add_tensor(name, data, raw_dtype=kind)
    add("token_embd.weight", *matrix(14, Q.Q8_0))
    for name, rows in (("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32), ("ffn_gate", 32), ("ffn_up", 32), ("ffn_down", 32)):
        add(f"blk.0.{name}.weight", *matrix(rows))
    for name, rows in (("attn_q", 32), ("attn_k", 16), ("attn_v", 16)):
        add(f"blk.0.{name}.bias", rng.standard_normal(rows).astype(np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        add(name + ".weight", np.ones(32, np.float32))
    close(w)


def close(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    records(os.path.join(HERE, "quant_records.gguf"))
    small(os.path.join(HERE, "small.gguf"))
