#!/usr/bin/env python3
"""What each setup costs by arithmetic, for models that are not run here: bytes and FLOPs, computed, not measured. scripts/cost_table.sh measures.

    scripts/cost_table.py [--model DIR] [--problems N]

Without --model: Qwen2.5-0.5B, 1.5B, 7B and 14B. Shapes, bytes of activations and the group of answers (128 tokens of prompt, 8 answers of 496)
are dev/cuda/roofline.py's; what is kept is that of llmc/trainable.h and llmc/dist/gradient_reduction.h. --problems: of a step (default 128, the papers').
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dev" / "cuda"))
import roofline  # noqa: E402

# What the models' cards say, to the weight: the arithmetic below must give it.
PARAMETERS = {"0.5B": 494_032_768, "1.5B": 1_543_714_304, "7B": 7_615_616_512, "14B": 14_770_033_664}


def all_weights(m):
    """With norms and biases, which roofline's count of bytes leaves out."""
    return m.V * m.C * (1 if m.tied else 2) + m.L * (m.layer_weights + m.QKV + 2 * m.C) + m.C


class Setup:
    """numbers: what AdamW moves; params: what the model reads, and one gradient has. r: the rank of a LoRA on down_proj; else 0."""

    def __init__(self, name, m):
        self.name, self.r, self.full, self.factors = name, 0, name == "full", name == "steering_rank"
        if name.startswith("lora"):
            self.r = int(name.rsplit("=", 1)[1])
        self.params = self.numbers = all_weights(m) if self.full else m.L * self.r * (m.I + m.C) if self.r else m.L * m.C
        if self.factors:
            self.numbers = m.L + m.C  # rank 1

    def device_bytes(self, problems):
        """x, its gradient, two moments; of steering_rank the product and its gradient; the parts of a step's gradient, of full the gradient itself."""
        parts = 0 if self.full else problems
        return 4 * (4 * self.numbers + (2 + parts if self.factors else parts) * self.params)

    def layers_backward(self, m):
        return m.L if self.full or self.r else m.L - 1  # a vector after layer 0 needs nothing below

    def activation_row(self, m):
        return m.kept_row * self.layers_backward(m) + m.scratch_row + 8 * self.r

    def update_bytes(self):
        """The norm reads the gradient; AdamW reads x, gradient, moments and writes all but the gradient; of full, fp32 in, bf16 out."""
        return self.numbers * (4 + 16 + 12 + (6 if self.full else 0))

    def flops(self, m, T, pairs, n):
        """Forward and backward over T rows, n of them with logits: matrix products, attention, column sums."""
        products, head = 2 * T * m.layer_weights, 2 * n * m.V * m.C
        adapter = 2 * T * self.r * (m.I + m.C)
        forward = m.L * (products + 4 * pairs * m.QD + adapter) + head
        backward = self.layers_backward(m) * (products + 14 * pairs * m.QD) + head
        if self.full:
            backward += m.L * products + head                               # dW = dy^T x
        elif self.r:
            backward += m.L * 2 * T * self.r * (3 * m.I + 2 * m.C)          # du, dx; u again, dA, dB
        else:
            backward += m.L * T * m.C                                       # the vectors' whole gradient
        return forward, backward


SETUPS = ["steering", "steering_rank", "lora:lora_r=1", "lora:lora_r=4", "full"]


def grid(rows):
    """Markdown, aligned as cost_table.sh has it."""
    width = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["| " + " | ".join(x.rjust(w) if k else x.ljust(w) for k, (x, w) in enumerate(zip(row, width))) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + (":" if k else "-") for k, w in enumerate(width)) + "|")
    return "\n".join(lines)


def tables(models, problems):
    P, M, samples = roofline.TRAIN_P, roofline.TRAIN_M, roofline.TRAIN_SAMPLES
    (T, pairs), n = roofline.packed(P, M, samples), M * samples
    memory = [["setup", "numbers", "bytes of moments", "bytes of a gradient", "numbers, gradients, moments", "host's copies", "weights",
               "activations a row"]]
    work = [["setup", "rollout", "forward", "backward", "backward / forward", "bytes of an update"]]
    for m in models:
        for name in SETUPS:
            s = Setup(name, m)
            label = name if len(models) == 1 else f"{m.name} {name}"
            forward, backward = (x / n / 1e9 for x in s.flops(m, T, pairs, n))
            sizes = (s.numbers, 8 * s.numbers, 4 * s.params, s.device_bytes(problems), 12 * s.numbers, m.weights, s.activation_row(m))
            memory.append([label] + [f"{x:,}" for x in sizes])
            work.append([label, *(roofline.number(x) for x in (forward, forward, backward, backward / forward)), f"{s.update_bytes():,}"])
    return f"""Computed, not measured: bytes

{grid(memory)}

Computed, not measured: GFLOP a token of a completion, in groups of {samples} answers of {M} tokens to a prompt of {P}

{grid(work)}

numbers, gradients, moments   on the device, with {problems} problems a step: vectors and LoRA keep a gradient of each and their sum, full the sum alone
host's copies                 on a GPU alone: numbers and moments once more, where checkpoints are written from; of full only while one is written or read
weights                       the model as it computes, bf16
full                          above 2,147,483,647 numbers the program refuses it: 7B and 14B are arithmetic alone
rollout                       is as many FLOPs as forward, but every token of the sequences decoded together reads all weights: bytes limit it, not FLOPs
backward                      vectors and LoRA: no weight's gradient; full: one more product as large as the forward's
bytes of an update            read and written by gradient norm, AdamW and, in full, the weights made again: the least, whatever the machine"""


def read_model(folder):
    path = Path(folder) / "config.json"
    try:
        c = json.loads(path.read_text(encoding="utf-8"))
        heads, hidden = c["num_attention_heads"], c["hidden_size"]
        return roofline.Model(Path(folder).resolve().name, c["num_hidden_layers"], hidden, c["intermediate_size"], heads, c["num_key_value_heads"],
                              c.get("head_dim") or hidden // heads, c["vocab_size"], bool(c.get("tie_word_embeddings", False)))
    except OSError as error:
        sys.exit(f"error: cannot read {path}: {error.strerror}\n  -> --model takes a model's folder as Hugging Face has it")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {path}: {error!r}\n  -> --model takes a model's folder as Hugging Face has it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder with a config.json")
    parser.add_argument("--problems", type=int, default=128, help="of a step")
    args = parser.parse_args()
    for m in roofline.SHAPES:
        if all_weights(m) != PARAMETERS[m.name]:
            sys.exit(f"error: {m.name} has {PARAMETERS[m.name]:,} weights, its shape gives {all_weights(m):,}")
    print(tables([read_model(args.model)] if args.model else roofline.SHAPES, args.problems))


if __name__ == "__main__":
    main()
