#!/usr/bin/env python3
"""Makes the PyTorch records that `make test` compares the C code with: tiny_records.json, tiny_records.safetensors.

    python dev/reference/make_records.py      (from the repository root; needs torch, transformers, safetensors, tokenizers)

Everything is computed by transformers' Qwen2 on data/tiny/model, in double precision, and stored as fp32: the
records are the mathematical truth to the last stored bit, and how far transformers' own fp32 lies from them is
stored beside them ("transformers_fp32").

.json: groups (prompt, completions, rewards; group 2 has equal rewards, one completion is a lone EOS, two have none),
RLOO advantages, the settings, the loss of each kind, loss and gradient norm before each of five AdamW steps, and
golden greedy completions, without and with steering0, with the smallest distance of the two best logits on the way.
.safetensors, rows over all completion tokens in order group, sample, token: logits (those that predict the token),
logprobs, entropy, ref_logprobs (vectors off), old_logprobs (made up), logprobs_t07 (temperature 0.7). By layer:
steering0, steering_step1..5, grad_<kind of loss> [L,C]; hidden_0..L [T,C], the residual stream of prompt and
completion of the first sample, after the embedding and after each layer with its vector.
Losses, A = advantage, summed over tokens t of samples i: dapo sum(x) / all tokens; grpo mean over i of mean over t;
dr_grpo sum(x) / (samples * max_completion_length); with x = -A log pi. dapo_clip_kl: as dapo, with
x = -min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon_high) A) + beta (exp(ref - logp) - (ref - logp) - 1).
"""
import json, os, sys
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2 import modeling_qwen2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tiny"))
from train_vectors import DATA, EOS, read_problems, sample, steer

G, STEPS, MAX_LENGTH = 4, 5, 48
SCALE, SAMPLE_T = 0.3, 1.4  # of the vectors; a little hot, so that the tokens are not all certain
LR, BETAS, EPS, WEIGHT_DECAY = 3e-2, (0.9, 0.999), 1e-8, 0.0
EPSILON, EPSILON_HIGH, BETA = 0.2, 0.28, 0.1


def allow_double():
    """transformers rounds to fp32 inside RMSNorm, RoPE and eager's softmax. The first two are written again here
    without that; the softmax of torch's own scaled_dot_product_attention keeps the type it gets."""
    def rmsnorm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rope(self, x, position_ids):
        dim = self.config.hidden_size // self.config.num_attention_heads
        inv_freq = 10000.0 ** (-torch.arange(0, dim, 2, dtype=x.dtype) / dim)
        angle = position_ids[..., None].to(x.dtype) * inv_freq
        angle = torch.cat((angle, angle), -1)
        return angle.cos(), angle.sin()

    modeling_qwen2.Qwen2RMSNorm.forward, modeling_qwen2.Qwen2RotaryEmbedding.forward = rmsnorm, rope


class Policy:
    """A model with one vector per layer, and the log-probabilities of the recorded completions under it."""

    def __init__(self, dtype, attention):
        self.model = Qwen2ForCausalLM.from_pretrained(os.path.join(DATA, "model"), dtype=dtype, attn_implementation=attention)
        self.model.eval().requires_grad_(False)
        self.vectors = torch.zeros(self.model.config.num_hidden_layers, self.model.config.hidden_size, dtype=dtype)
        steer(self.model, self)

    def __getitem__(self, layer):  # what steer() adds: always the vectors of the moment
        return self.vectors[layer]

    def logits(self, groups, vectors):
        """The logits that predict each completion token, a list of [tokens, V] in order group, sample."""
        self.vectors = vectors
        return [self.model(torch.tensor([g["prompt_ids"] + c]), use_cache=False).logits[0, len(g["prompt_ids"]) - 1:-1]
                for g in groups for c in g["completions"]]

    def logprobs(self, groups, vectors, temperature=1.0):
        """Lists over samples: log-probability [tokens] of each completion token, and the entropy there."""
        out, entropy = [], []
        for logits, c in zip(self.logits(groups, vectors), (c for g in groups for c in g["completions"])):
            logp = torch.log_softmax(logits / temperature, -1)
            out.append(logp.gather(1, torch.tensor(c)[:, None])[:, 0])
            entropy.append(-(logp.exp() * logp).sum(-1))
        return out, entropy

    def greedy(self, prompt, vectors, max_new=64):
        """Greedy completion and the smallest distance between the two highest logits on the way."""
        self.vectors, ids, margin = vectors, [], float("inf")
        while len(ids) < max_new and (not ids or ids[-1] not in EOS):
            top = self.model(torch.tensor([prompt + ids]), use_cache=False).logits[0, -1].topk(2)
            ids.append(top.indices[0].item())
            margin = min(margin, (top.values[0] - top.values[1]).item())
        return {"ids": ids, "min_margin": margin}


def advantages(groups):
    """RLOO: the reward minus the mean reward of the other samples of the group."""
    return [r - (sum(g["rewards"]) - r) / (G - 1) for g in groups for r in g["rewards"]]


def mean_by(loss_type, per_sample):
    """One loss from the per-token losses of each sample."""
    if loss_type == "grpo":
        return sum(x.mean() for x in per_sample) / len(per_sample)
    total = MAX_LENGTH * len(per_sample) if loss_type == "dr_grpo" else sum(map(len, per_sample))
    return sum(x.sum() for x in per_sample) / total


def reinforce(policy, groups, vectors, loss_type, temperature=1.0):
    """-A log pi, the on-policy loss. Its gradient is that of -A ratio at ratio 1."""
    logp, _ = policy.logprobs(groups, vectors, temperature)
    return mean_by(loss_type, [-a * x for a, x in zip(advantages(groups), logp)])


def clipped_with_kl(policy, groups, vectors, old, ref):
    """-min(ratio A, clip(ratio) A) + beta k3, with the share of tokens where a clip bites and the mean k3."""
    logp, _ = policy.logprobs(groups, vectors)
    losses, low, high, kl = [], 0, 0, 0.0
    for a, x, o, r in zip(advantages(groups), logp, old, ref):
        ratio = torch.exp(x - o)
        k3 = torch.exp(r - x) - (r - x) - 1
        losses.append(-torch.minimum(ratio * a, ratio.clamp(1 - EPSILON, 1 + EPSILON_HIGH) * a) + BETA * k3)
        low += ((ratio < 1 - EPSILON) & (a < 0)).sum().item()
        high += ((ratio > 1 + EPSILON_HIGH) & (a > 0)).sum().item()
        kl += k3.detach().sum().item()
    n = sum(map(len, logp))
    return mean_by("dapo", losses), {"low": low / n, "high": high / n, "kl": kl / n}


def gradient(loss_of, vectors):
    s = vectors.clone().requires_grad_(True)
    loss = loss_of(s)
    loss.backward()
    return loss.item(), s.grad


def adamw(policy, groups, vectors, max_grad_norm):
    """Five steps on the same data. The vectors after each, the losses before each, the norms before clipping."""
    s = vectors.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([s], lr=LR, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY)
    after, losses, norms = [], [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = reinforce(policy, groups, s, "dapo")
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_([s], max_grad_norm).item())
        losses.append(loss.item())
        optimizer.step()
        after.append(s.detach().clone())
    return after, losses, norms


def make_groups(tokenizer, policy, vectors):
    """Three prompts of different length, four completions each: sampled, one cut short, one of a single token."""
    torch.manual_seed(3)
    policy.vectors = vectors
    texts = ["What is 7 + 5 - 2 + 9?", "What is 12 + 16 - 3 + 20?", "careful. What is 14 + 20 - 19 + 13?"]
    rewards = [[1, -1, -1, 1], [-1, -1, -1, -1], [1, 1, 1, -1]]
    groups = []
    for text, r in zip(texts, rewards):
        prompt = tokenizer.encode(text).ids
        completions, keep = sample(policy.model, [prompt] * G, MAX_LENGTH, SAMPLE_T)
        groups.append({"prompt_ids": prompt, "completions": [c[k.bool()].tolist() for c, k in zip(completions, keep)], "rewards": r})
    groups[0]["completions"][1] = [EOS[0]]  # one token
    groups[2]["completions"][3] = groups[2]["completions"][3][:21]  # truncated: no EOS
    return groups


def pick_golden(tokenizer, policy, vectors):
    """Three test problems alone and three with the style word that makes long answers; the ones with widest margins."""
    golden = []
    for word in ("", "careful. "):
        found = []
        for p in read_problems("test.jsonl")[:20]:
            prompt = tokenizer.encode(word + p["problem"]).ids
            found.append({"prompt": word + p["problem"], "prompt_ids": prompt,
                          "base": policy.greedy(prompt, torch.zeros_like(vectors)), "steered": policy.greedy(prompt, vectors)})
        found.sort(key=lambda g: -min(g["base"]["min_margin"], g["steered"]["min_margin"]))
        golden += found[:3]
    return golden


def main():
    tokenizer = Tokenizer.from_file(os.path.join(DATA, "model", "tokenizer.json"))
    plain = Policy(torch.float32, "eager")
    L, C = plain.vectors.shape
    steering0 = (SCALE * torch.randn(L, C, generator=torch.Generator().manual_seed(7))).float()
    groups = make_groups(tokenizer, plain, steering0)
    with torch.no_grad():
        plain_logits = plain.logits(groups, steering0)
        plain_logprobs = plain.logprobs(groups, steering0)[0]
    _, plain_grad = gradient(lambda s: reinforce(plain, groups, s, "dapo"), steering0)

    allow_double()
    exact = Policy(torch.float64, "sdpa")
    s0, zero = steering0.double(), torch.zeros(L, C, dtype=torch.float64)
    with torch.no_grad():
        hidden = []
        first = groups[0]["prompt_ids"] + groups[0]["completions"][0]
        layers = exact.model.model.layers
        hooks = [layers[0].register_forward_pre_hook(lambda m, x: hidden.append(x[0][0]))]
        hooks += [l.register_forward_hook(lambda m, x, y: hidden.append((y[0] if isinstance(y, tuple) else y).reshape(-1, C))) for l in layers]
        exact.vectors = s0
        exact.model(torch.tensor([first]), use_cache=False)
        for hook in hooks:
            hook.remove()
        logits = exact.logits(groups, s0)
        logprobs, entropy = exact.logprobs(groups, s0)
        ref, _ = exact.logprobs(groups, zero)
        t07, _ = exact.logprobs(groups, s0, 0.7)
        noise = torch.Generator().manual_seed(11)
        old = [(x + 0.5 * torch.randn(len(x), generator=noise)).float().double() for x in logprobs]
        old = [torch.minimum(x, torch.zeros_like(x)) for x in old]
        golden = pick_golden(tokenizer, exact, s0)

    loss, grad = {}, {}
    for kind in ("dapo", "grpo", "dr_grpo"):
        loss[kind], grad[kind] = gradient(lambda s: reinforce(exact, groups, s, kind), s0)
    loss["t07"], grad["t07"] = gradient(lambda s: reinforce(exact, groups, s, "dapo", 0.7), s0)
    clipped = lambda s: clipped_with_kl(exact, groups, s, old, ref)
    loss["dapo_clip_kl"], grad["dapo_clip_kl"] = gradient(lambda s: clipped(s)[0], s0)
    with torch.no_grad():
        clip_ratio = clipped(s0)[1]
        assert clip_ratio["low"] > 0 and clip_ratio["high"] > 0
        for i in range(0, L * C, 97):  # the gradient itself against finite differences
            d = torch.zeros(L * C, dtype=torch.float64)
            d[i] = 1e-6
            d = d.view(L, C)
            slope = (clipped(s0 + d)[0] - clipped(s0 - d)[0]).item() / 2e-6
            assert abs(slope - grad["dapo_clip_kl"].flatten()[i].item()) < 1e-7, (i, slope)

    # A limit in the widest gap amid the unclipped norms, so that two or three steps are clipped and none is a near thing.
    norms = sorted(adamw(exact, groups, s0, 1e9)[2])
    gap, limit = max((b - a, (a + b) / 2) for a, b in zip(norms[1:-2], norms[2:-1]))
    max_grad_norm = float(f"{limit:.3g}")
    after, losses, grad_norms = adamw(exact, groups, s0, max_grad_norm)
    assert min(grad_norms) < max_grad_norm < max(grad_norms), (norms, max_grad_norm, grad_norms)

    tensors = {"steering0": s0, "logits": torch.cat(logits), "logprobs": torch.cat(logprobs), "entropy": torch.cat(entropy),
               "ref_logprobs": torch.cat(ref), "old_logprobs": torch.cat(old), "logprobs_t07": torch.cat(t07)}
    tensors |= {"grad_" + k: v for k, v in grad.items()}
    tensors |= {f"hidden_{i}": h for i, h in enumerate(hidden)}
    tensors |= {f"steering_step{i + 1}": s for i, s in enumerate(after)}
    save_file({k: v.float().contiguous() for k, v in tensors.items()}, os.path.join(HERE, "tiny_records.safetensors"))
    os.chmod(os.path.join(HERE, "tiny_records.safetensors"), 0o644)

    tokens = sum(len(c) for g in groups for c in g["completions"])
    A = advantages(groups)
    on_ratio = {k: mean_by(k, [torch.full((len(x),), -a, dtype=torch.float64) for a, x in zip(A, logprobs)]).item() for k in ("dapo", "grpo", "dr_grpo")}
    scale = grad["dapo"].abs().max()
    record = {
        "temperature": 1.0, "max_completion_length": MAX_LENGTH, "num_generations": G, "eos": list(EOS),
        "groups": groups, "advantages": A, "completion_tokens": tokens,
        "loss": loss,                  # -A log pi (dapo_clip_kl: the clipped ratio with KL)
        "loss_ratio_one": on_ratio,    # -A ratio at ratio 1: TRL's on-policy value, of the same gradient
        "epsilon": EPSILON, "epsilon_high": EPSILON_HIGH, "beta": BETA, "clip_ratio_low": clip_ratio["low"],
        "clip_ratio_high": clip_ratio["high"], "kl": clip_ratio["kl"],
        "learning_rate": LR, "betas": BETAS, "eps": EPS, "weight_decay": WEIGHT_DECAY, "max_grad_norm": max_grad_norm,
        "losses": losses, "grad_norms": grad_norms, "golden": golden,
        "transformers_fp32": {
            "logits": max((a - b).abs().max().item() for a, b in zip(plain_logits, logits)),
            "logprobs": max((a - b).abs().max().item() for a, b in zip(plain_logprobs, logprobs)),
            "grad_dapo_relative": ((plain_grad - grad["dapo"]).abs().max() / scale).item()}}
    with open(os.path.join(HERE, "tiny_records.json"), "w", encoding="utf-8", newline="\n") as f:
        f.write("{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in record.items()) + "\n}\n")
    print(json.dumps({k: record[k] for k in ("completion_tokens", "loss", "loss_ratio_one", "clip_ratio_low", "clip_ratio_high", "kl",
                                              "grad_norms", "max_grad_norm", "losses", "transformers_fp32")}, indent=1))
    for g in groups:
        print(len(g["prompt_ids"]), [len(c) for c in g["completions"]], [c[-1] in EOS for c in g["completions"]], g["rewards"])
    for g in golden:
        for k in ("base", "steered"):
            print(repr(g["prompt"]), k, repr(tokenizer.decode(g[k]["ids"])), f"{g[k]['min_margin']:.3f}")


if __name__ == "__main__":
    main()
