#!/usr/bin/env python3
"""Makes tiny_interventions.safetensors: log-probs of the completions of tiny_records.json under interventions (llmc/intervene.h), by a
forward pass written out in PyTorch, in double precision. `make test` compares the C code with them.

    python dev/reference/make_interventions.py      (from the repository root; needs torch, safetensors)

One tensor an intervention [completion tokens, in order group, sample, token], named

    place/<place>                     the vectors of layers.safetensors behind another part of their layers
    patch/<variant>/<head>/<path>     row L-2 of them put into the input of layer L-1
    put/<layer>/<position>            the residual stream behind that layer replaced at a position by row 0 of them
    lora                              the adapter data/tiny/lora1

Before anything is written, the pass is held against the log-probs that transformers gave (tiny_records.safetensors).
"""
import json, os
import torch
from safetensors.torch import load_file, save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
F64 = torch.float64
CONFIG = json.load(open(os.path.join(ROOT, "data/tiny/model/config.json")))
W = {k: v.to(F64) for k, v in load_file(os.path.join(ROOT, "data/tiny/model/model.safetensors")).items()}
L, C, NH, NKV = (CONFIG[k] for k in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads"))
HD = C // NH


def norm(x, name):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * W[name]


def project(x, l):
    """q [T,NH,HD], k and v [T,NKV,HD] before RoPE."""
    p = f"model.layers.{l}.self_attn."
    return [(x @ W[p + f"{n}_proj.weight"].T + W[p + f"{n}_proj.bias"]).view(len(x), -1, HD) for n in "qkv"]


def rotate(x):
    angle = torch.arange(len(x), dtype=F64)[:, None] * CONFIG["rope_theta"] ** (-torch.arange(0, HD, 2, dtype=F64) / HD)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :HD // 2], x[..., HD // 2:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attend(q, k, v):
    """Outputs of the heads [T,NH,HD], before o_proj."""
    k, v = (x.repeat_interleave(NH // NKV, 1) for x in (rotate(k), v))
    score = torch.einsum("thd,shd->hts", rotate(q), k) / HD ** 0.5
    score = score.masked_fill(torch.triu(torch.ones(len(q), len(q), dtype=torch.bool), 1), -torch.inf)
    return torch.einsum("hts,shd->thd", score.softmax(-1), v)


def out(heads, l):
    return heads.reshape(len(heads), -1) @ W[f"model.layers.{l}.self_attn.o_proj.weight"].T


def mlp(x, l, lora=None):
    p = f"model.layers.{l}.mlp."
    a = torch.nn.functional.silu(x @ W[p + "gate_proj.weight"].T) * (x @ W[p + "up_proj.weight"].T)
    y = a @ W[p + "down_proj.weight"].T
    return y if lora is None else y + torch.outer(a @ lora[0][l], lora[1][l])


def patched_layer(h, l, s, variant, head, path):
    """The last layer, its input without (h) and with the vector (h + s)."""
    plain, steered = project(norm(h, f"model.layers.{l}.input_layernorm.weight"), l), project(norm(h + s, f"model.layers.{l}.input_layernorm.weight"), l)
    att_plain, att_steered = attend(*plain), attend(*steered)
    post = f"model.layers.{l}.post_attention_layernorm.weight"
    if variant == "skip_layer":
        mid = h + out(att_plain, l)
        return mid + mlp(norm(mid, post), l) + s
    mode, _, what = variant.partition("_")
    if variant == "no_patch":
        heads = att_steered
    elif variant == "skip_attn":
        heads = att_plain
    elif what == "head":
        heads, other = (att_steered.clone(), att_plain) if mode == "skip" else (att_plain.clone(), att_steered)
        heads[:, head] = other[:, head]
    else:  # heads of q, k, v: all of the one kind but those named
        mixed, other = ([x.clone() for x in steered], plain) if mode == "skip" else ([x.clone() for x in plain], steered)
        for i, name in enumerate("qkv"):
            if what == "all_v" and name == "v":
                mixed[i] = other[i]
            elif name in what and what != "all_v":
                mixed[i][:, head] = other[i][:, head]
        heads = attend(*mixed)
    y, y_steered = out(heads, l), out(att_steered, l)
    to_mlp, to_residual = (y_steered if path == "residual" else y), (y_steered if path == "mlp" else y)
    return h + s + to_residual + mlp(norm(h + s + to_mlp, post), l)


def forward(ids, steering, place="mlp", patch=None, put=None, lora=None):
    """Log-probs [T,V]."""
    h = W["model.embed_tokens.weight"][torch.tensor(ids)]
    at = lambda where, l: steering[l] if place == where else 0
    for l in range(L):
        if patch and l == L - 1:
            h = patched_layer(h, l, *patch)
        else:
            x = norm(h, f"model.layers.{l}.input_layernorm.weight") + at("input_layernorm", l)
            h = h + out(attend(*project(x, l)), l) + at("self_attn", l)
            h = h + mlp(norm(h, f"model.layers.{l}.post_attention_layernorm.weight") + at("post_attention_layernorm", l), l, lora) + at("mlp", l)
        if put and put[0] == l:
            h = h.clone()
            h[put[1]] = put[2]
    return (norm(h, "model.norm.weight") @ W["model.embed_tokens.weight"].T).log_softmax(-1)


def logprobs(groups, steering, **how):
    found = []
    for g in groups:
        for c in g["completions"]:
            table = forward(g["prompt_ids"] + c, steering, **how)[len(g["prompt_ids"]) - 1:-1]
            found.append(table.gather(1, torch.tensor(c)[:, None])[:, 0])
    return torch.cat(found)


def main():
    here = os.path.join(ROOT, "dev/reference/")
    groups, records = json.load(open(here + "tiny_records.json"))["groups"], load_file(here + "tiny_records.safetensors")
    gap = (logprobs(groups, records["steering0"].to(F64)) - records["logprobs"].to(F64)).abs().max().item()
    assert gap < 1e-5, gap
    vectors = load_file(os.path.join(ROOT, "data/tiny/vectors/layers.safetensors"))["steering"].to(F64)
    adapter = load_file(os.path.join(ROOT, "data/tiny/lora1/adapter_model.safetensors"))
    ab = [[adapter[f"base_model.model.model.layers.{l}.mlp.down_proj.lora_{k}.weight"].to(F64).flatten() for l in range(L)] for k in "AB"]
    zero = torch.zeros(L, C, dtype=F64)

    found = {f"place/{p}": logprobs(groups, 0.3 * vectors, place=p) for p in ("self_attn", "input_layernorm", "post_attention_layernorm")}
    cases = [("no_patch", 0, "both"), ("skip_layer", 0, "both"), ("skip_all_v", 0, "both"), ("steer_all_v", 0, "both")]
    cases += [("skip_attn", 0, p) for p in ("both", "residual", "mlp")] + [("skip_head", 1, p) for p in ("both", "residual", "mlp")] + [("steer_head", 5, "both")]
    cases += [(f"{mode}_{what}", 1, path) for mode in ("skip", "steer") for what in ("q", "k", "v", "kv") for path in ("both", "mlp")]
    for variant, head, path in cases:
        found[f"patch/{variant}/{head}/{path}"] = logprobs(groups, zero, patch=(vectors[L - 2], variant, head, path))
    for layer, position in ((0, 3), (2, 5), (L - 1, 8)):
        found[f"put/{layer}/{position}"] = logprobs(groups, zero, put=(layer, position, vectors[0]))
    found["lora"] = logprobs(groups, zero, lora=ab)
    save_file({k: v.float().contiguous() for k, v in found.items()}, here + "tiny_interventions.safetensors")
    os.chmod(here + "tiny_interventions.safetensors", 0o644)
    print(f"{len(found)} interventions; without one, {gap:.1e} from transformers")


if __name__ == "__main__":
    main()
