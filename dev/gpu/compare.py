#!/usr/bin/env python3
"""steer.c beside transformers on the same weights and the same GPU.

    dev/gpu/compare.py logprobs MODEL [--device cuda] [--torch cuda]
    dev/gpu/compare.py speed MODEL [--device cuda] [--torch cuda] [--bench FILE]

logprobs: of the same random ids, ours and transformers' in bf16 against transformers' in fp32. Ours must not be further
from fp32 than 1.5 times as far as transformers' own bf16 is, on average.

speed: forward and backward of 16 sequences of 256 tokens, and a GRPO step of 4 prompts and 8 completions of 128 tokens,
by transformers (bf16, sdpa; one bias a layer is trained; the second of two runs) and by `eval_steer bench`, whose lines
(--json) are in FILE, or are measured here. MODEL may be small: then there is less of all.
"""
import argparse
import json
import subprocess
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

STEER = Path(__file__).resolve().parents[2]


def model_of(folder, dtype, device):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").to(device).eval()


def logprobs(a):
    torch.backends.cuda.matmul.allow_tf32 = False
    V = json.loads((Path(a.model) / "config.json").read_text())["vocab_size"]
    P, N = (32, 96) if V > 10000 else (9, 15)
    ids = torch.randint(0, V, (4, P + N), generator=torch.Generator().manual_seed(1))
    lines = "".join(json.dumps({"prompt_ids": row[:P], "completion_ids": row[P:]}) + "\n" for row in ids.tolist())
    said = subprocess.run([STEER / "eval_steer", "score", "--model", a.model, "--device", a.device], input=lines, text=True,
                          stdout=subprocess.PIPE, check=True).stdout
    ours = torch.tensor([json.loads(line)["logprobs"] for line in said.splitlines() if line.startswith("{")]).double()

    def theirs(dtype):
        m = model_of(a.model, dtype, a.torch)
        with torch.no_grad():
            logits = m(ids.to(a.torch)).logits[:, P - 1:-1].double()
        return torch.log_softmax(logits, -1).gather(-1, ids[:, P:, None].to(a.torch))[..., 0].cpu()

    want = theirs(torch.float32)
    far = {}
    for name, got in (("steer.c", ours), ("transformers bf16", theirs(torch.bfloat16))):
        off = (got - want).abs()
        far[name] = off.mean().item()
        print(f"{name:18}  {off.numel()} log-probs against transformers fp32: mean {off.mean():.5f}, largest {off.max():.4f}")
    ok = far["steer.c"] <= 1.5 * far["transformers bf16"] + 1e-6
    print("logprobs:", "agree" if ok else "DIFFER")
    return 0 if ok else 1


def speed(a):
    small = json.loads((Path(a.model) / "config.json").read_text())["vocab_size"] < 10000
    B, T, prompts, G, P, new = (2, 16, 1, 2, 8, 4) if small else (16, 256, 4, 8, 100, 128)
    m = model_of(a.model, torch.bfloat16, a.torch)
    m.requires_grad_(False)
    for layer in m.model.layers:
        bias = torch.nn.Parameter(torch.zeros(m.config.hidden_size, device=a.torch))
        layer.mlp.down_proj.register_parameter("steer", bias)
        layer.mlp.down_proj.register_forward_hook(lambda module, i, o: o + module.steer.to(o.dtype))
    trained = [p for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    V = m.config.vocab_size

    def wait():
        if a.torch != "cpu":
            torch.cuda.synchronize()

    def gradient(ids, first, advantage):  # a few sequences at a time: all logits at once would take 10 GB and more
        for i in range(0, len(ids), 4):
            x, w = ids[i:i + 4], advantage[i:i + 4, None]
            logits = m(x, use_cache=False).logits[:, first - 1:-1].float()
            logprob = torch.log_softmax(logits, -1).gather(-1, x[:, first:, None])[..., 0]
            (-(w * logprob).sum() / ids[:, first:].numel()).backward()

    def forward_backward():
        ids = torch.randint(0, V, (B, T + 1), device=a.torch)
        gradient(ids, 1, torch.ones(B, device=a.torch))
        return B * T

    def grpo_step():
        ids = torch.randint(0, V, (prompts, P), device=a.torch).repeat_interleave(G, 0)
        with torch.no_grad():
            out = m.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                             min_new_tokens=new, max_new_tokens=new, pad_token_id=0)
        sign = torch.arange(prompts * G, device=a.torch) % 2 * 2.0 - 1
        gradient(out, P, sign)
        torch.nn.utils.clip_grad_norm_(trained, 2.0)
        optimizer.step()
        optimizer.zero_grad()
        return prompts * G * new

    theirs = {}
    for name, run in (("forward_backward", forward_backward), ("grpo_step", grpo_step)):
        for _ in range(2):
            wait()
            start = time.time()
            tokens = run()
            wait()
            theirs[name] = tokens / (time.time() - start)
    del m
    if a.bench:
        text = Path(a.bench).read_text()
    else:
        text = ""
        for phase in theirs:
            text += subprocess.run([STEER / "eval_steer", "bench", "--model", a.model, "--device", a.device, "--json",
                                    "--phase", phase], text=True, stdout=subprocess.PIPE, check=True).stdout
    ours = {x["phase"]: x["tokens_per_s"] for x in map(json.loads, filter(lambda s: s.startswith("{"), text.splitlines()))}
    for name, per_s in theirs.items():
        print(f"{name:16}  transformers {per_s:10.1f} tokens/s  steer.c {ours[name]:10.1f}  {ours[name] / per_s:.2f} times as fast")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["logprobs", "speed"])
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda", help="eval_steer's")
    parser.add_argument("--torch", default="cuda", help="transformers'")
    parser.add_argument("--bench", help="lines of eval_steer bench --json on the same model")
    arguments = parser.parse_args()
    raise SystemExit({"logprobs": logprobs, "speed": speed}[arguments.what](arguments))
