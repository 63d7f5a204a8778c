#!/usr/bin/env python3
"""Makes tiny_tuning.safetensors: log-probs of the completions of tiny_records.json with something other than vectors after the MLP trained,
and the gradient of the dapo loss (-A log pi / all tokens, RLOO advantages) with respect to it. `make test` compares the C code with them.

    python dev/reference/make_tuning_records.py      (from the repository root; needs torch, transformers, peft, safetensors, tokenizers)

All in double precision, stored as fp32. LoRA is PEFT's, the vectors' pass is make_interventions.py's, full is transformers'.

    <case>/logprobs                              [completion tokens, in order group, sample, token]
    lora_*/<layer>.<module>.A, .B, and /grad/... PEFT's lora_A.weight [r,K] and lora_B.weight [N,r]; lora_*/rank_alpha holds the settings
    place_<place>/grad                           [L,C] of 0.3 times the vectors of layers.safetensors behind another part of their layers
    full/norm/<tensor>, full/sample/<tensor>     the gradient of a weight: its 2-norm, and every SAMPLE-th element (all of a short one)
"""
import json, os
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM

import make_interventions, make_records

HERE = os.path.dirname(os.path.abspath(__file__))
F64 = torch.float64
SAMPLE, SHORT = 37, 128
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {  # rank, alpha, modules, layers
    "lora_all": (3, 4.5, ALL, None),
    "lora_down": (5, 10.0, ["down_proj"], [1, 3]),
    "lora_kup": (1, 2.0, ["k_proj", "up_proj"], None),
}


def loss_of(groups, logprobs):
    """The on-policy loss from the log-probs of all tokens, a list over samples."""
    return make_records.mean_by("dapo", [-a * x for a, x in zip(make_records.advantages(groups), logprobs)])


def logprobs_of(model, groups):
    out = []
    for g in groups:
        for c in g["completions"]:
            logits = model(torch.tensor([g["prompt_ids"] + c]), use_cache=False).logits[0, len(g["prompt_ids"]) - 1:-1]
            out.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(c)[:, None])[:, 0])
    return out


def load():
    return Qwen2ForCausalLM.from_pretrained(os.path.join(make_records.DATA, "model"), dtype=F64, attn_implementation="sdpa").eval()


def lora(case, groups, found):
    rank, alpha, modules, layers = CASES[case]
    model = get_peft_model(load(), LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, layers_to_transform=layers, lora_dropout=0.0)).double()
    noise = torch.Generator().manual_seed(5)
    factors = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        part = name.split(".")  # base_model.model.model.layers.<l>.<block>.<module>.lora_<k>.default.weight
        key = f"{part[part.index('layers') + 1]}.{part[-4]}.{part[-3][-1]}"
        size = 0.6 / p.shape[1] ** 0.5 if key.endswith("A") else 0.05
        p.data = (size * torch.randn(p.shape, generator=noise)).float().double()
        factors[key] = p
    logprobs = logprobs_of(model, groups)
    loss_of(groups, logprobs).backward()
    found[f"{case}/logprobs"] = torch.cat(logprobs).detach()
    found[f"{case}/rank_alpha"] = torch.tensor([rank, alpha])
    for key, p in factors.items():
        found[f"{case}/{key}"], found[f"{case}/grad/{key}"] = p.data, p.grad


def place(where, groups, found):
    vectors = load_file(os.path.join(make_records.DATA, "vectors/layers.safetensors"))["steering"].to(F64)
    s = (0.3 * vectors).requires_grad_(True)
    logprobs = make_interventions.logprobs(groups, s, place=where)
    parts = logprobs.split([len(c) for g in groups for c in g["completions"]])
    loss_of(groups, parts).backward()
    found[f"place_{where}/logprobs"], found[f"place_{where}/grad"] = logprobs.detach(), s.grad


def full(groups, found):
    model = load().requires_grad_(True)
    logprobs = logprobs_of(model, groups)
    loss_of(groups, logprobs).backward()
    found["full/logprobs"] = torch.cat(logprobs).detach()
    for name, p in model.named_parameters():
        flat = p.grad.flatten()
        found[f"full/norm/{name}"] = flat.norm()[None]
        found[f"full/sample/{name}"] = flat if len(flat) <= SHORT else flat[::SAMPLE]


def main():
    make_records.allow_double()
    groups = json.load(open(os.path.join(HERE, "tiny_records.json")))["groups"]
    found = {}
    for case in CASES:
        lora(case, groups, found)
    for where in ("self_attn", "post_attention_layernorm", "input_layernorm"):
        place(where, groups, found)
    full(groups, found)
    plain = load_file(os.path.join(HERE, "tiny_records.safetensors"))["ref_logprobs"].double()
    gap = (found["full/logprobs"] - plain).abs().max().item()
    assert gap < 1e-5, gap
    path = os.path.join(HERE, "tiny_tuning.safetensors")
    save_file({k: v.float().contiguous() for k, v in found.items()}, path)
    os.chmod(path, 0o644)
    for k, v in found.items():
        if k.endswith("logprobs"):
            print(f"{k}: moved by {(v - plain).abs().mean().item():.3f} on average")
    print(f"{len(found)} tensors, {os.path.getsize(path)} bytes; the plain model is {gap:.1e} from tiny_records.safetensors")


if __name__ == "__main__":
    main()
