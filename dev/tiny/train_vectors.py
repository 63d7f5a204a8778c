#!/usr/bin/env python3
"""The readable PyTorch twin of train_steer: one vector per layer, taught to the frozen tiny model by RLOO.

    python dev/tiny/train_vectors.py [--steps 40] [--lr 0.03] [--seed 0]     (from the repository root)

Everything the C trainer does is in main(): sample a group of completions per problem, reward +1 where the last
\\boxed{} holds the answer and -1 elsewhere, advantage = reward minus the mean reward of the *other* samples of
the group (RLOO), loss = -sum_i A_i sum_t log pi(token) / all completion tokens of the step, AdamW with warm-up.
"""
import argparse, json, os, re, time
import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DATA = os.path.join(ROOT, "data", "tiny")
EOS = (258, 256)  # <|im_end|>, <|endoftext|>; the first also serves as padding here


def read_problems(name):
    with open(os.path.join(DATA, name), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def steer(model, vectors):
    """h <- h + mlp(x) + s_l: vectors[l] is a bias on the output of layer l's down_proj, at every position."""
    hooks = [layer.mlp.down_proj.register_forward_hook(lambda module, x, y, l=l: y + vectors[l])
             for l, layer in enumerate(model.model.layers)]
    return hooks  # hook.remove() takes it out again


def pad_left(rows):
    """ids [B,T] and mask [B,T] of token lists, padded on the left so that all prompts end at the same column."""
    T = max(map(len, rows))
    ids = torch.tensor([[EOS[0]] * (T - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (T - len(r)) + [1] * len(r) for r in rows])
    return ids, mask


@torch.no_grad()
def sample(model, prompts, max_new=64, temperature=1.0):
    """Plain ancestral sampling with a KV cache. Completions [B,<=max_new] and their mask, EOS included."""
    ids, mask = pad_left(prompts)
    position, cache, out, keep = mask.cumsum(1) - 1, None, [], []
    alive = torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(max_new):
        y = model(ids, attention_mask=mask, position_ids=position.clamp(min=0), past_key_values=cache, use_cache=True)
        cache = y.past_key_values
        token = torch.multinomial(torch.softmax(y.logits[:, -1].float() / temperature, -1), 1).squeeze(1)
        token = torch.where(alive, token, EOS[0])
        out.append(token), keep.append(alive)
        alive = alive & ~torch.isin(token, torch.tensor(EOS))
        if not alive.any():
            break
        ids, position = token[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return torch.stack(out, 1), torch.stack(keep, 1).long()


def token_logprobs(model, prompts, completions, keep):
    """log pi of every completion token [B,N], from one forward over prompt and completion."""
    ids, mask = pad_left(prompts)
    ids, mask = torch.cat([ids, completions], 1), torch.cat([mask, keep], 1)
    N = completions.shape[1]
    y = model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=N + 1)
    return torch.log_softmax(y.logits[:, :-1].float(), -1).gather(2, completions[..., None]).squeeze(2)


def correct(tokenizer, completions, keep, answers):
    """1.0 where the last \\boxed{} of the completion is the answer."""
    texts = tokenizer.decode_batch([c[k.bool()].tolist() for c, k in zip(completions, keep)])
    boxed = [re.findall(r"\\boxed\{([^{}]*)\}", t) for t in texts]
    return torch.tensor([float(bool(b) and b[-1].strip() == a) for b, a in zip(boxed, answers)]), texts


def accuracy(model, tokenizer, problems, word="", max_new=64, temperature=1.0):
    """Share of right answers, one sample a problem; `word` names a style before the problem."""
    right = []
    for i in range(0, len(problems), 250):
        part = problems[i:i + 250]
        completions, keep = sample(model, [tokenizer.encode(word + p["problem"]).ids for p in part], max_new, temperature)
        right.append(correct(tokenizer, completions, keep, [p["answer"] for p in part])[0])
    return torch.cat(right).mean().item()


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in dict(steps=40, prompts=32, generations=8, lr=0.03, warmup=8, clip=2.0, seed=0).items():
        args.add_argument("--" + name, type=type(value), default=value)
    a = args.parse_args()
    torch.manual_seed(a.seed)
    tokenizer = Tokenizer.from_file(os.path.join(DATA, "model", "tokenizer.json"))
    model = Qwen2ForCausalLM.from_pretrained(os.path.join(DATA, "model"), dtype=torch.float32).eval().requires_grad_(False)
    train, test = read_problems("train.jsonl"), read_problems("test.jsonl")
    c = model.config
    vectors = torch.nn.Parameter(torch.zeros(c.num_hidden_layers, c.hidden_size))
    steer(model, vectors)
    optimizer = torch.optim.AdamW([vectors], lr=a.lr, weight_decay=0.0)
    order = torch.randperm(len(train)).tolist()
    before, start = accuracy(model, tokenizer, test), time.time()
    for step in range(1, a.steps + 1):
        part = [train[order[((step - 1) * a.prompts + i) % len(train)]] for i in range(a.prompts)]
        prompts = [tokenizer.encode(p["problem"]).ids for p in part for _ in range(a.generations)]
        completions, keep = sample(model, prompts)
        right, _ = correct(tokenizer, completions, keep, [p["answer"] for p in part for _ in range(a.generations)])
        reward = (2 * right - 1).view(a.prompts, a.generations)
        others = (reward.sum(1, keepdim=True) - reward) / (a.generations - 1)
        advantage = (reward - others).view(-1, 1)
        logprobs = token_logprobs(model, prompts, completions, keep)
        loss = -(advantage * logprobs * keep).sum() / keep.sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([vectors], a.clip)
        for group in optimizer.param_groups:
            group["lr"] = a.lr * min(1.0, step / a.warmup)
        optimizer.step(), optimizer.zero_grad()
        print(f"step {step:3d}  reward {reward.mean():+.3f}  same {(reward.std(1) == 0).float().mean():.2f}  length "
              f"{keep.sum(1).float().mean():.1f}  grad {norm:.3f}  |s| {vectors.detach().norm(dim=1).mean():.2f}  {time.time() - start:.0f} s", flush=True)
    after = accuracy(model, tokenizer, test)
    print(f"test accuracy, sampled at T = 1: {100 * before:.1f} % -> {100 * after:.1f} % in {time.time() - start:.0f} s; "
          f"greedy-like (T = 0.01): {100 * accuracy(model, tokenizer, test, temperature=0.01):.1f} %")


if __name__ == "__main__":
    main()
