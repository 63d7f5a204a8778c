#!/usr/bin/env python3
"""Compare `eval_steer score` with transformers in fp32 on a real model: the log-probs of GSM8K solutions.

    python3 -m venv .venv && .venv/bin/pip install torch transformers
    .venv/bin/python dev/reference/check_score.py MODEL_DIR GSM8K.jsonl [--problems 50] [--device cpu ref]

Prints, for each of our devices, the mean and the largest |difference| of a token's log-prob and of its entropy. Wanted: ref within
1e-3 in every log-prob, cpu (bf16 products) within 0.05 in the mean.
"""
import argparse
import json
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = ("<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
          "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n")
LIMITS = {"ref": ("max", 1e-3), "cpu": ("mean", 0.05)}


def requests(path, tokenizer, n):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")][:n]
    for r in rows:
        prompt = tokenizer.encode(PROMPT.format(q=r["problem"]), add_special_tokens=False)
        answer = tokenizer.encode(f"{r['solution']}\n\\boxed{{{r['answer']}}}<|im_end|>", add_special_tokens=False)
        yield {"prompt_ids": prompt, "completion_ids": answer}


@torch.no_grad()
def expected(model, request):
    ids = request["prompt_ids"] + request["completion_ids"]
    logits = model(torch.tensor([ids])).logits[0, len(request["prompt_ids"]) - 1:-1].double()
    logp = torch.log_softmax(logits, -1)
    chosen = logp.gather(-1, torch.tensor(request["completion_ids"])[:, None])[:, 0]
    return chosen.tolist(), (-(logp.exp() * logp).sum(-1)).tolist()


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("model")
    args.add_argument("data")
    args.add_argument("--problems", type=int, default=50)
    args.add_argument("--device", nargs="+", default=["cpu", "ref"])
    a = args.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager")
    lines = list(requests(a.data, tokenizer, a.problems))
    reference = [expected(model, r) for r in lines]
    text = "".join(json.dumps(r) + "\n" for r in lines)
    bad = False
    for device in a.device:
        done = subprocess.run(["./eval_steer", "score", "--model", a.model, "--device", device], input=text, capture_output=True, text=True, check=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(found) == len(lines)
        figures = {}
        for key, place in (("logprobs", 0), ("entropy", 1)):
            d = [abs(x - y) for f, r in zip(found, reference) for x, y in zip(f[key], r[place], strict=True)]
            figures[key] = {"mean": sum(d) / len(d), "max": max(d)}
            print(f"{device:4} {key:9} mean {figures[key]['mean']:.2e}  max {figures[key]['max']:.2e}  over {len(d)} tokens of {len(lines)} solutions")
        kind, limit = LIMITS[device]
        bad |= not figures["logprobs"][kind] <= limit
    sys.exit(bad)


if __name__ == "__main__":
    main()
