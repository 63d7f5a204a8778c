#!/usr/bin/env python3
"""Do exported vectors mean in other programs what they mean here? Log-probs in fp32 against `eval_steer score --device ref`.

    python3 -m venv .venv && .venv/bin/pip install torch transformers peft gguf
    .venv/bin/python dev/reference/check_export.py MODEL_DIR VECTORS DATA.jsonl [--problems 20] [--template chat|raw] [--vllm PYTHON]

Exports MODEL_DIR with VECTORS (a checkpoint or a file) in every format into a temporary folder, then

    hf      the folder in transformers, unpatched: log-probs of the problems' solutions, or of greedy answers where there are none
    peft    the adapter on the base model, the same log-probs (peft 0.14 or newer)
    gguf    read with the gguf package: direction.l is row l, and there is no direction.0
    vllm    with --vllm PYTHON, a Python that has vLLM: the greedy answers are ours, up to ties

Exit 1 if a log-prob differs by more than 1e-3.
"""
import argparse, json, subprocess, sys, tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

CHAT = ("<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
        "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n")
LIMIT = 1e-3
VLLM = """
import json, sys
from vllm import LLM, SamplingParams
prompts = json.load(open(sys.argv[2]))
llm = LLM(sys.argv[1], dtype="float32", max_model_len=int(sys.argv[4]), enforce_eager=True, seed=0)
out = llm.generate([{"prompt_token_ids": p} for p in prompts], SamplingParams(temperature=0, max_tokens=int(sys.argv[3])))
json.dump([list(o.outputs[0].token_ids) for o in out], open(sys.argv[5], "w"))
"""


def ours(args, *more, text=""):
    done = subprocess.run(["./eval_steer", *more], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"./eval_steer {' '.join(more)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


@torch.no_grad()
def logprobs(model, request):
    ids = request["prompt_ids"] + request["completion_ids"]
    logits = model(torch.tensor([ids])).logits[0, len(request["prompt_ids"]) - 1:-1].double()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(request["completion_ids"])[:, None])[:, 0].tolist()


def compare(name, model, requests, expected):
    gaps = [abs(a - b) for r, e in zip(requests, expected) for a, b in zip(logprobs(model, r), e, strict=True)]
    worst = max(gaps)
    print(f"{name:5} max {worst:.2e}  mean {sum(gaps) / len(gaps):.2e}  over {len(gaps)} tokens of {len(requests)} answers  (limit {LIMIT:g})")
    return worst <= LIMIT


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("vectors")
    parser.add_argument("data")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--template", choices=["chat", "raw"], default="chat")
    parser.add_argument("--tokens", type=int, default=80, help="length of greedy answers (default 80)")
    parser.add_argument("--vllm", metavar="PYTHON")
    a = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="check_export."))
    for kind in ("hf", "peft", "gguf", "safetensors"):
        print(ours(a, "export", "--format", kind, "--model", a.model, "--steering", a.vectors, "--out", str(out / kind)).strip())
    vectors = load_file(out / "safetensors/steering_vectors.safetensors")["steering"]

    tokenizer = AutoTokenizer.from_pretrained(out / "hf")
    prompts = [(CHAT.format(q=p) if a.template == "chat" else p) for p in
               (json.loads(line)["problem"] for line in open(a.data, encoding="utf-8").readlines()[:a.problems])]
    lines = ours(a, "generate", "--model", a.model, "--steering", a.vectors, "--raw", "--prompts", "-", "--temperature", "0", "--max_completion_length", str(a.tokens),
                 "--device", "ref", "--json", text="".join(json.dumps({"problem": p}) + "\n" for p in prompts))
    requests = [{"prompt_ids": tokenizer.encode(r["prompt"], add_special_tokens=False), "completion_ids": r["ids"]} for r in map(json.loads, lines.splitlines())]
    text = "".join(json.dumps(r) + "\n" for r in requests)
    expected = [json.loads(line)["logprobs"] for line in ours(a, "score", "--model", a.model, "--steering", a.vectors, "--device", "ref", text=text).splitlines()]
    base = [json.loads(line)["logprobs"] for line in ours(a, "score", "--model", a.model, "--device", "ref", text=text).splitlines()]
    moved = max(abs(x - y) for e, b in zip(expected, base) for x, y in zip(e, b))
    print(f"the vectors move these log-probs by up to {moved:.3g}")
    good = moved > 10 * LIMIT

    model = AutoModelForCausalLM.from_pretrained(out / "hf", dtype=torch.float32, attn_implementation="eager").eval()
    print(f"hf loads as {type(model).__name__}")
    good &= compare("hf", model, requests, expected)
    try:
        from peft import PeftModel
    except ImportError:
        print("peft  skipped: the library is not installed")
    else:
        plain = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager")
        good &= compare("peft", PeftModel.from_pretrained(plain, out / "peft").eval(), requests, expected)
    try:
        from gguf import GGUFReader
    except ImportError:
        print("gguf  skipped: the package is not installed")
    else:
        reader = GGUFReader(out / "gguf/steering_vectors.gguf")
        rows = {t.name: torch.tensor(t.data.copy()) for t in reader.tensors}
        same = set(rows) == {f"direction.{l}" for l in range(1, len(vectors))} and all(torch.equal(rows[f"direction.{l}"], vectors[l]) for l in range(1, len(vectors)))
        print(f"gguf  {len(rows)} directions, {'the rows above layer 0' if same else 'WRONG'}; {[f.name for f in reader.fields.values() if '.' in f.name and not f.name.startswith('GGUF')]}")
        good &= same
    if a.vllm:
        (out / "prompts.json").write_text(json.dumps([r["prompt_ids"] for r in requests]))
        longest = max(len(r["prompt_ids"]) for r in requests) + a.tokens
        subprocess.run([a.vllm, "-c", VLLM, str(out / "hf"), str(out / "prompts.json"), str(a.tokens), str(longest), str(out / "vllm.json")], check=True)
        found = json.loads((out / "vllm.json").read_text())
        same = sum(x == r["completion_ids"] for x, r in zip(found, requests))
        print(f"vllm  {same} of {len(requests)} greedy answers are the same tokens")
        for x, r in zip(found, requests):
            if x != r["completion_ids"]:
                at = next((i for i, (p, q) in enumerate(zip(x, r["completion_ids"])) if p != q), min(len(x), len(r["completion_ids"])))
                print(f"      differs at token {at}: {x[at:at + 3]} against {r['completion_ids'][at:at + 3]}")
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
