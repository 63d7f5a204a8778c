#!/usr/bin/env python3
"""Do exported vectors mean in other programs what they mean here? Log-probs in fp32 against `eval_steer score --device ref`.

    python3 -m venv .venv && .venv/bin/pip install torch transformers peft gguf
    .venv/bin/python dev/reference/check_export.py MODEL_DIR VECTORS DATA.jsonl [--problems 20] [--template chat|raw] [--vllm PYTHON] [--llama DIR]

Exports MODEL_DIR with VECTORS (a checkpoint or a file) in every format into a temporary folder, then

    hf      the folder in transformers, unpatched: log-probs of the problems' solutions, or of greedy answers where there are none
    peft    the adapter on the base model, the same log-probs (peft 0.14 or newer)
    gguf    read with the gguf package: direction.l is row l, and there is no direction.0
    vllm    with --vllm PYTHON, a Python that has vLLM: the greedy answers are ours, up to ties
    llama   with --llama DIR, which holds llama-perplexity and llama-completion of llama.cpp and model.gguf (convert_hf_to_gguf.py
            MODEL_DIR --outtype f32): the perplexity of the problems and five greedy answers, with the control vector, are ours
            with the vectors of all layers but 0, for which such a file has no place

Exit 1 if a log-prob differs by more than 1e-3, or llama.cpp's perplexity by more than 1e-3 of itself.
"""
import argparse, json, math, re, subprocess, sys, tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

CHAT = ("<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
        "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n")
LIMIT = 1e-3
VLLM = """
import json, os, sys
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
from vllm import LLM, SamplingParams
prompts = json.load(open(sys.argv[2]))
llm = LLM(sys.argv[1], dtype="float32", max_model_len=int(sys.argv[4]), enforce_eager=True, seed=0, gpu_memory_utilization=0.5)
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


def greedy(args, vectors, prompts):
    lines = ours(args, "generate", "--model", args.model, "--steering", str(vectors), "--raw", "--prompts", "-", "--temperature", "0", "--max_completion_length",
                 str(args.tokens), "--device", "ref", "--json", text="".join(json.dumps({"problem": p}) + "\n" for p in prompts))
    return [json.loads(line) for line in lines.splitlines()]


def llama(args, out, vectors, tokenizer, prompts):
    def run(program, *more):
        done = subprocess.run([Path(args.llama) / program, "-m", Path(args.llama) / "model.gguf", *more], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"{program} {' '.join(map(str, more))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout, done.stderr

    rest = dict(steering=vectors.clone())
    rest["steering"][0] = 0
    save_file(rest, out / "without_layer_0.safetensors")
    vector = ["--control-vector", out / "gguf/steering_vectors.gguf"]

    # llama-perplexity cuts the text into pieces of `context` tokens, and counts those after the first half and one more
    context = 256
    text = "\n".join(json.loads(line)["problem"] for line in open(args.data, encoding="utf-8"))
    ids = tokenizer.encode(text[:20000], add_special_tokens=False)[:3 * context]
    text = tokenizer.decode(ids)
    if tokenizer.encode(text, add_special_tokens=False) != ids or len(ids) < 2 * context:
        sys.exit(f"the problems of {args.data} are no text of at least {2 * context} tokens to compare perplexities on")
    (out / "text").write_text(text, encoding="utf-8")
    requests = "".join(json.dumps({"prompt_ids": ids[i:i + context // 2 + 1], "completion_ids": ids[i + context // 2 + 1:i + context]}) + "\n"
                       for i in range(0, len(ids) - context + 1, context))
    good, bases = True, []
    for name, theirs, steering in (("base", [], []), ("steered", vector, ["--steering", out / "without_layer_0.safetensors"])):
        said = "".join(run("llama-perplexity", "-f", out / "text", "-c", str(context), *theirs))
        found = float(re.search(r"Final estimate: PPL = ([0-9.]+)", said)[1])
        logp = [x for line in ours(args, "score", "--model", args.model, "--device", "ref", *map(str, steering), text=requests).splitlines() for x in json.loads(line)["logprobs"]]
        expected = math.exp(-sum(logp) / len(logp))
        bases.append(expected)
        print(f"llama perplexity of {len(logp)} tokens, {name}: {found:.4f}, ours {expected:.4f}")
        good &= abs(found - expected) <= LIMIT * expected
    if abs(bases[1] - bases[0]) < 10 * LIMIT * bases[0]:
        print("llama the vectors hardly move the perplexity: this shows nothing")
        good = False

    same, answers = 0, greedy(args, out / "without_layer_0.safetensors", prompts)
    for r in answers:
        (out / "prompt").write_text(r["prompt"], encoding="utf-8")
        said, _ = run("llama-completion", "-f", out / "prompt", "-no-cnv", "--no-display-prompt", "--temp", "0", "-n", str(args.tokens), "--simple-io", *vector)
        expected = tokenizer.decode(r["ids"], skip_special_tokens=True).strip()
        said = said.replace("[end of text]", "").strip()
        same += said == expected
        if said != expected:
            print(f"      llama.cpp {said!r}\n      ours      {expected!r}")
    print(f"llama {same} of {len(answers)} greedy answers are the same text")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("vectors")
    parser.add_argument("data")
    parser.add_argument("--problems", type=int, default=20)
    parser.add_argument("--template", choices=["chat", "raw"], default="chat")
    parser.add_argument("--tokens", type=int, default=80, help="length of greedy answers (default 80)")
    parser.add_argument("--vllm", metavar="PYTHON")
    parser.add_argument("--llama", metavar="DIR")
    a = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="check_export."))
    for kind in ("hf", "peft", "gguf", "safetensors"):
        print(ours(a, "export", "--format", kind, "--model", a.model, "--steering", a.vectors, "--out", str(out / kind)).strip())
    vectors = load_file(out / "safetensors/steering_vectors.safetensors")["steering"]

    tokenizer = AutoTokenizer.from_pretrained(out / "hf")
    prompts = [(CHAT.format(q=p) if a.template == "chat" else p) for p in
               (json.loads(line)["problem"] for line in open(a.data, encoding="utf-8").readlines()[:a.problems])]
    requests = [{"prompt_ids": tokenizer.encode(r["prompt"], add_special_tokens=False), "completion_ids": r["ids"]} for r in greedy(a, a.vectors, prompts)]
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
    if a.llama:
        good &= llama(a, out, vectors, tokenizer, prompts[:5])
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
