#!/usr/bin/env python3
"""A model of Qwen2.5's shape with random weights, for machines that no weights can be brought to.

    dev/gpu/make_model.py SHAPE DIR        SHAPE: 0.5B, 7B, or small (for a rehearsal)

A Hugging Face folder: config.json, model.safetensors (bf16) and the tiny model's tokenizer, whose ids are the first of
the vocabulary. Weights come from one block of normal numbers, repeated with another beginning for each tensor: they are
written as fast as the disk takes them, and are the same for the same shape.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np

#         C     L   NH  NKV HD   I      V       tied
SHAPES = {
    "0.5B": (896, 24, 14, 2, 64, 4864, 151936, True),
    "7B": (3584, 28, 28, 4, 128, 18944, 152064, False),
    "small": (128, 3, 4, 1, 32, 256, 512, True),
}
TINY = Path(__file__).resolve().parents[2] / "data" / "tiny" / "model"


def bf16(x):
    """The bits of float32 numbers rounded to bf16, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    C, L, NH, NKV, HD, I, V, tied = SHAPES[sys.argv[1]]
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((TINY / "config.json").read_text())
    config.update(hidden_size=C, num_hidden_layers=L, num_attention_heads=NH, num_key_value_heads=NKV, head_dim=HD,
                  intermediate_size=I, vocab_size=V, tie_word_embeddings=tied, max_position_embeddings=32768,
                  max_window_layers=L, sliding_window=32768, rope_theta=1000000.0)
    (out / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, out / name)

    # name, shape, standard deviation (0: all ones). The head's is larger, so that the distribution is not flat.
    tensors = [("model.embed_tokens.weight", (V, C), 0.05)]
    for l in range(L):
        at = f"model.layers.{l}."
        tensors += [(at + "input_layernorm.weight", (C,), 0), (at + "post_attention_layernorm.weight", (C,), 0)]
        for name, rows in (("q", NH * HD), ("k", NKV * HD), ("v", NKV * HD)):
            tensors += [(at + f"self_attn.{name}_proj.weight", (rows, C), 0.02),
                        (at + f"self_attn.{name}_proj.bias", (rows,), 0.02)]
        tensors += [(at + "self_attn.o_proj.weight", (C, NH * HD), 0.02), (at + "mlp.gate_proj.weight", (I, C), 0.02),
                    (at + "mlp.up_proj.weight", (I, C), 0.02), (at + "mlp.down_proj.weight", (C, I), 0.02)]
    tensors += [("model.norm.weight", (C,), 0)]
    if not tied:
        tensors += [("lm_head.weight", (V, C), 0.05)]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    normal = np.random.default_rng(0).standard_normal(1 << 24, dtype=np.float32)
    blocks = {std: bf16(normal * std) for std in {t[2] for t in tensors} if std}
    with open(out / "unfinished", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for i, (_, shape, std) in enumerate(tensors):
            n = int(np.prod(shape))
            if not std:
                f.write(bf16(np.ones(n)).tobytes())
                continue
            block, at = blocks[std], 1000003 * i % (1 << 23)
            while n:
                piece = block[at:at + n]
                f.write(piece.data)
                n -= len(piece)
                at = (at + 7919) % (1 << 20)
    (out / "unfinished").rename(out / "model.safetensors")  # whoever sees it finds all of it
    print(f"{out}: {end / 1e9:.2f} GB of {len(tensors)} tensors")


if __name__ == "__main__":
    main()
