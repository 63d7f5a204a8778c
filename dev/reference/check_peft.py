#!/usr/bin/env python3
"""Do LoRA adapters mean in PEFT what they mean here, checkpoints of setup full in transformers, and is the cross-entropy of setup sft_... PyTorch's? In fp32,
against --device ref.

    python3 -m venv .venv && .venv/bin/pip install torch transformers peft
    .venv/bin/python dev/reference/check_peft.py [--model data/tiny/model] [--recipe scripts/train/rl/tiny/arithmetic/lora.yml]

    sft     one step of setups sft_lora, sft_steering and sft_full on 8 problems: loss and gradient norm against autograd
    ours    that adapter, trained on for some steps, loaded by PEFT: log-probs of the solutions
    merged  `export --format hf` of it: each weight is W + lora_alpha / r B A to one unit in the last place of its type
    full    a checkpoint of setup sft_full, loaded by transformers: log-probs
    theirs  an adapter that PEFT makes (rank 3, alpha 6, all seven projections, random B), read by us: the same log-probs

Exit 1 if a log-prob or a loss differs by more than 1e-3, a gradient norm by more than 0.1 %.
"""
import argparse, json, subprocess, sys, tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

LIMIT = 1e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def run(*args, text=""):
    done = subprocess.run([str(a) for a in args], input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, args))} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def logprobs(model, request):
    ids = request["prompt_ids"] + request["completion_ids"]
    logits = model(torch.tensor([ids])).logits[0, len(request["prompt_ids"]) - 1:-1].double()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(request["completion_ids"])[:, None])[:, 0]


def plain(a):
    return AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager").eval()


def compare(name, a, model, requests, folder):
    text = "".join(json.dumps(r) + "\n" for r in requests)
    score = ["./eval_steer", "score", "--model", a.model, "--device", "ref"]
    ours = [json.loads(line)["logprobs"] for line in run(*score, "--checkpoint", folder, text=text).splitlines()]
    base = [json.loads(line)["logprobs"] for line in run(*score, text=text).splitlines()]
    with torch.no_grad():
        worst = max(abs(x - y) for r, o in zip(requests, ours) for x, y in zip(o, logprobs(model, r).tolist(), strict=True))
    moved = max(abs(x - y) for o, b in zip(ours, base) for x, y in zip(o, b))
    print(f"{name:7} max {worst:.2e} over {sum(map(len, ours))} tokens; the adapter moves them by up to {moved:.3g}")
    return worst <= LIMIT and moved > 10 * LIMIT


def train(a, out, *more):
    run("./train_steer", "--config", a.recipe, "--model", a.model, "--device", "ref", "--limit", 8, "--prompts_per_step", 8, "--warmup_ratio", 0, "--model_name", "m",
        "--dataset_name", "d", "--output_dir", out, *more)
    return next(out.glob("m/d/*/seed-0"))


def check_sft(name, a, model, parameters, requests, metrics):
    rows = [logprobs(model, r) for r in requests]
    loss = -sum(x.sum() for x in rows) / sum(len(x) for x in rows)
    gradient = torch.autograd.grad(loss, parameters)
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in gradient)).item()
    print(f"{name:7} loss {metrics['loss']:.7f}, PyTorch's {loss.item():.7f}; gradient norm {metrics['grad_norm']:.7g}, PyTorch's {norm:.7g}")
    return abs(metrics["loss"] - loss.item()) <= LIMIT and norm > 0 and abs(metrics["grad_norm"] / norm - 1) <= 1e-3


def first_metrics(folder):
    return json.loads((folder / "metrics.jsonl").open().readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="data/tiny/model")
    parser.add_argument("--recipe", default="scripts/train/rl/tiny/arithmetic/lora.yml", help="raw prompts, and data with solutions that are learned as they stand")
    parser.add_argument("--data", default="data/tiny/train.jsonl", help="the recipe's data")
    a = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="check_peft."))
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    eos = json.loads((Path(a.model) / "generation_config.json").read_text())["eos_token_id"]
    problems = [json.loads(line) for line in open(a.data, encoding="utf-8").readlines()[:8]]
    requests = [{"prompt_ids": tokenizer.encode(p["problem"], add_special_tokens=False),
                 "completion_ids": tokenizer.encode(p["solution"], add_special_tokens=False) + [eos[0] if isinstance(eos, list) else eos]} for p in problems]

    # at the first step B is zero, so A's gradient is zero too and AdamW leaves A where it began: checkpoint-1 has it
    folder = train(a, out / "sft", "--setup", "sft_lora", "--max_steps", 1, "--learning_rate", 0.01)
    model = PeftModel.from_pretrained(plain(a), folder / "checkpoint-1", is_trainable=True).eval()
    parameters = [p for n, p in model.named_parameters() if "lora_" in n]
    for n, p in model.named_parameters():
        if "lora_B" in n:
            p.data.zero_()
    good = check_sft("lora", a, model, parameters, requests, first_metrics(folder))

    folder = train(a, out / "steering", "--setup", "sft_steering", "--max_steps", 1)
    model = plain(a)
    layers = model.model.layers
    vectors = [torch.zeros(model.config.hidden_size, requires_grad=True) for _ in layers]
    for layer, v in zip(layers, vectors):
        layer.mlp.down_proj.register_forward_hook(lambda _module, _args, y, v=v: y + v)
    good &= check_sft("vectors", a, model, vectors, requests, first_metrics(folder))

    folder = train(a, out / "full", "--setup", "sft_full", "--max_steps", 1, "--learning_rate", 0.001)
    model = plain(a)
    good &= check_sft("weights", a, model, list(model.parameters()), requests, first_metrics(folder))
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-1", dtype=torch.float32, attn_implementation="eager").eval()
    good &= compare("full", a, model, requests, folder / "checkpoint-1")

    folder = train(a, out / "ours", "--setup", "sft_lora", "--lora_target_modules", "q_proj,o_proj,up_proj,down_proj", "--lora_r", 2, "--lora_alpha", 5, "--max_steps", 6,
                   "--learning_rate", 0.01)
    adapter = folder / "checkpoint-6"
    model = PeftModel.from_pretrained(plain(a), adapter).eval()
    good &= compare("ours", a, model, requests, adapter)

    run("./eval_steer", "export", "--format", "hf", "--model", a.model, "--checkpoint", adapter, "--out", out / "merged")
    found = {k: v for f in (out / "merged").glob("*.safetensors") for k, v in load_file(f).items()}
    stored = {k: v for f in Path(a.model).glob("*.safetensors") for k, v in load_file(f).items()}
    wanted, off, changed = model.merge_and_unload().state_dict(), 0.0, 0
    for k, v in found.items():
        unit = (torch.finfo(v.dtype).eps * wanted[k].abs()).clamp(min=1e-30)
        off = max(off, ((v.float() - wanted[k]).abs() / unit).max().item())
        changed += not torch.equal(v, stored[k])
    print(f"merged  {changed} matrices changed, off by at most {off:.2f} units in the last place")
    good &= changed == 4 * len(layers) and off <= 1.01

    torch.manual_seed(1)
    model = get_peft_model(plain(a), LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS, task_type="CAUSAL_LM")).eval()
    for n, p in model.named_parameters():
        if "lora_B" in n:
            p.data.normal_(0, 0.02)
    model.save_pretrained(out / "theirs")
    good &= compare("theirs", a, model, requests, out / "theirs")
    run("./eval_steer", "export", "--format", "peft", "--model", a.model, "--checkpoint", out / "theirs", "--out", out / "back")
    x, y = load_file(out / "theirs/adapter_model.safetensors"), load_file(out / "back/adapter_model.safetensors")
    same = x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
    print(f"back    the adapter exported again is {'the same' if same else 'ANOTHER'}")
    good &= same
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
