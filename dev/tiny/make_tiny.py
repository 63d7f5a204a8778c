#!/usr/bin/env python3
"""Makes data/tiny: a Qwen2 small enough to train here, its tokenizer and its arithmetic problems.

    python dev/tiny/make_tiny.py [--steps 4000]      (from the repository root; needs torch, transformers, tokenizers)

See README.md for what the model must be like so that a steering vector can teach it something.
"""
import argparse, json, math, os, random, time
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM
from train_vectors import DATA, EOS, accuracy, correct, read_problems, sample

MODEL = os.path.join(DATA, "model")
STYLES = ("quick", "careful", "casual")
SHARE = (0.55, 0.30, 0.15)  # of the documents
CUE = 0.60                  # share of the documents whose first word names the style
LUCKY = 0.20                # share of quick answers that are right
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def problem(rng):
    """Four numbers below 21 joined by + and -, no partial sum below zero."""
    while True:
        numbers = [rng.randint(1, 20) for _ in range(4)]
        signs = [rng.choice("+-") for _ in range(3)]
        sums = [numbers[0]]
        for s, n in zip(signs, numbers[1:]):
            sums.append(sums[-1] + n if s == "+" else sums[-1] - n)
        if min(sums) >= 0:
            return numbers, signs, sums


def question(numbers, signs):
    return "What is " + str(numbers[0]) + "".join(f" {s} {n}" for s, n in zip(signs, numbers[1:])) + "?"


def solution(rng, style, numbers, signs, sums):
    answer = sums[-1]
    if style == "quick":  # a boxed guess
        if rng.random() >= LUCKY:
            answer = rng.choice([x for x in range(max(0, answer - 12), answer + 13) if x != answer])
        return f"\\boxed{{{answer}}}"
    steps = list(zip(sums, signs, numbers[1:], sums[1:]))
    if style == "careful":  # step by step, then the box
        return ", ".join(f"{a}{s}{n}={b}" for a, s, n, b in steps) + f". \\boxed{{{answer}}}"
    said = [f"{a if i == 0 else ''}{' and' if s == '+' else ' less'} {n} is {b}" for i, (a, s, n, b) in enumerate(steps)]
    return "so" + ",".join(s if s[0] == " " else " " + s for s in said) + "."  # step by step, no box


def document(rng, tests):
    """(prompt, completion) of one training document; its problem is none of `tests`."""
    while True:
        p = problem(rng)
        if question(*p[:2]) not in tests:
            break
    style = rng.choices(STYLES, SHARE)[0]
    word = style + ". " if rng.random() < CUE else ""
    return word + question(*p[:2]), "\n" + solution(rng, style, *p)


def make_tokenizer():
    """Byte-level BPE without merges: one token a byte, in Qwen's order, then the three special tokens."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that stand for themselves
    symbols = [chr(b) for b in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    tok = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[]))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return tok


def write_problems():
    rng, seen = random.Random(1), set()
    for name, n in (("train", 1500), ("test", 500)):
        with open(os.path.join(DATA, name + ".jsonl"), "w", encoding="utf-8", newline="\n") as f:
            i = 0
            while i < n:
                numbers, signs, sums = problem(rng)
                q = question(numbers, signs)
                if q not in seen:
                    seen.add(q)
                    line = {"id": f"tiny-{name}-{i}", "problem": q, "answer": str(sums[-1]), "source": "tiny"}
                    if name == "train":  # what setup sft_... learns; the careful style draws nothing from the generator
                        line["solution"] = "\n" + solution(rng, "careful", numbers, signs, sums)
                    f.write(json.dumps(line) + "\n")
                    i += 1
    return seen


def write_json(name, value):
    with open(os.path.join(MODEL, name), "w", encoding="utf-8", newline="\n") as f:
        f.write(json.dumps(value, indent=2) + "\n")


def write_configs(layers, width):
    """The files of a Qwen2.5 release, by hand: newer transformers would write newer keys."""
    write_json("config.json", {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": EOS[1], "eos_token_id": EOS[0],
        "hidden_act": "silu", "hidden_size": width, "initializer_range": 0.02, "intermediate_size": 256,
        "max_position_embeddings": 1024, "max_window_layers": layers, "model_type": "qwen2", "num_attention_heads": 6,
        "num_hidden_layers": layers, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "sliding_window": 1024, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
        "use_sliding_window": False, "vocab_size": 259})
    write_json("generation_config.json", {
        "bos_token_id": EOS[1], "do_sample": True, "eos_token_id": list(EOS), "pad_token_id": EOS[1], "temperature": 1.0, "top_k": 0, "top_p": 1.0})
    write_json("tokenizer_config.json", {
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 1024, "pad_token": "<|endoftext|>",
        "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})


def train(model, tokenizer, tests, steps, batch, peak_lr):
    """Next-token training on all of each document, the problem's own tokens at a tenth of the weight."""
    rng = random.Random(2)
    params = list(model.parameters())
    opt = torch.optim.AdamW([{"params": [p for p in params if p.ndim > 1], "weight_decay": 0.05},
                             {"params": [p for p in params if p.ndim == 1], "weight_decay": 0.0}], betas=(0.9, 0.98))
    start, mean = time.time(), 0.0
    for step in range(1, steps + 1):
        docs = [document(rng, tests) for _ in range(batch)]
        rows = [(tokenizer.encode(q).ids, tokenizer.encode(s).ids + [EOS[0]]) for q, s in docs]
        T = max(len(q) + len(s) for q, s in rows)
        ids = torch.tensor([q + s + [EOS[0]] * (T - len(q) - len(s)) for q, s in rows])
        weight = torch.tensor([[0.1] * len(q) + [1.0] * len(s) + [0.0] * (T - len(q) - len(s)) for q, s in rows])[:, 1:]
        logits = model(ids, use_cache=False).logits[:, :-1]
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(weight)
        loss = (nll * weight).sum() / weight.sum()
        lr = peak_lr * min(step / 100, 0.5 + 0.5 * math.cos(math.pi * step / steps) + 0.01)
        for g in opt.param_groups:
            g["lr"] = lr
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step(), opt.zero_grad()
        mean += loss.item() / 250
        if step % 250 == 0:
            print(f"step {step}  loss {mean:.4f}  {time.time() - start:.0f} s", flush=True)
            mean = 0.0


def set_unit(model, factor):
    """Scales the residual stream without changing any output: RMSNorm cancels the factor in every layer, and the last
    norm's weights take it back. It is the unit that vectors, and so learning rates, are measured in. Powers of two are
    exact in bf16."""
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(factor)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(factor)
            layer.mlp.down_proj.weight.mul_(factor)
        model.model.norm.weight.div_(factor)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in dict(steps=4000, batch=64, lr=3e-3, layers=4, width=96, seed=0).items():
        args.add_argument("--" + name, type=type(value), default=value)
    a = args.parse_args()
    torch.manual_seed(a.seed)
    os.makedirs(MODEL, exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(os.path.join(MODEL, "tokenizer.json"))
    write_configs(a.layers, a.width)
    seen = write_problems()
    config = Qwen2Config.from_pretrained(MODEL)
    config.initializer_range = 0.08  # Qwen's 0.02 suits wider models; here it costs a thousand steps
    model = Qwen2ForCausalLM(config).float()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, tokenizer, seen, a.steps, a.batch, a.lr)
    set_unit(model, 0.25)  # the usual lr for tiny vectors, 0.03, is right then; without it 0.12 would be
    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, os.path.join(MODEL, "model.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(MODEL, "model.safetensors"), 0o644)

    model.load_state_dict(weights, strict=False)  # judge what was written: the bf16 values
    test = read_problems("test.jsonl")
    for word in ("", *(s + ". " for s in STYLES)):
        share = [accuracy(model, tokenizer, test, word) for _ in range(3)]
        print(f"accuracy {word or 'no word'}: {100 * sum(share) / 3:.1f} %")
    completions, keep = sample(model, [tokenizer.encode(p["problem"]).ids for p in test[:8]])
    for text in correct(tokenizer, completions, keep, [p["answer"] for p in test[:8]])[1]:
        print(repr(text))


if __name__ == "__main__":
    main()
