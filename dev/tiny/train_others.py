#!/usr/bin/env python3
"""For the experiments on the tiny model, made by PyTorch and not by train_steer: a rank-one LoRA on every down_proj, or one vector
behind another part of a layer. Same algorithm as train_vectors.py, which see.

    python dev/tiny/train_others.py lora    data/tiny/lora1            # a PEFT folder
    python dev/tiny/train_others.py place   data/tiny/vectors/place_self_attn_3.safetensors --layer 3 --place self_attn
"""
import argparse, json, math, os, time
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM
from train_vectors import DATA, accuracy, correct, read_problems, sample, token_logprobs


def add_lora(model):
    """y <- y + (a . x) b on every down_proj. PEFT's initialisation: a uniform in +-1/sqrt(K), b zero."""
    c, a, b = model.config, [], []
    for layer in model.model.layers:
        a.append(torch.nn.Parameter(torch.empty(1, c.intermediate_size).uniform_(-1, 1) / math.sqrt(c.intermediate_size)))
        b.append(torch.nn.Parameter(torch.zeros(c.hidden_size, 1)))
        layer.mlp.down_proj.register_forward_hook(lambda module, x, y, a=a[-1], b=b[-1]: y + x[0] @ a.T @ b.T)
    return a, b


def add_place(model, layer, place):
    vector = torch.nn.Parameter(torch.zeros(model.config.hidden_size))
    add = lambda module, x, y: (y[0] + vector, *y[1:]) if isinstance(y, tuple) else y + vector
    getattr(model.model.layers[layer], place).register_forward_hook(add)
    return vector


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("what", choices=["lora", "place"])
    args.add_argument("out")
    args.add_argument("--place", default="self_attn", choices=["self_attn", "mlp", "input_layernorm", "post_attention_layernorm"])
    for name, value in dict(layer=3, steps=40, prompts=32, generations=8, lr=0.03, warmup=8, clip=2.0, seed=0).items():
        args.add_argument("--" + name, type=type(value), default=value)
    o = args.parse_args()
    torch.manual_seed(o.seed)
    tokenizer = Tokenizer.from_file(os.path.join(DATA, "model", "tokenizer.json"))
    model = Qwen2ForCausalLM.from_pretrained(os.path.join(DATA, "model"), dtype=torch.float32).eval().requires_grad_(False)
    train, test = read_problems("train.jsonl"), read_problems("test.jsonl")
    if o.what == "lora":
        a, b = add_lora(model)
        trained = a + b
    else:
        trained = [add_place(model, o.layer, o.place)]
    optimizer = torch.optim.AdamW(trained, lr=o.lr, weight_decay=0.0)
    order, start = torch.randperm(len(train)).tolist(), time.time()
    for step in range(1, o.steps + 1):
        part = [train[order[((step - 1) * o.prompts + i) % len(train)]] for i in range(o.prompts)]
        prompts = [tokenizer.encode(p["problem"]).ids for p in part for _ in range(o.generations)]
        completions, keep = sample(model, prompts)
        right, _ = correct(tokenizer, completions, keep, [p["answer"] for p in part for _ in range(o.generations)])
        reward = (2 * right - 1).view(o.prompts, o.generations)
        advantage = (reward - (reward.sum(1, keepdim=True) - reward) / (o.generations - 1)).view(-1, 1)
        loss = -(advantage * token_logprobs(model, prompts, completions, keep) * keep).sum() / keep.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, o.clip)
        for group in optimizer.param_groups:
            group["lr"] = o.lr * min(1.0, step / o.warmup)
        optimizer.step(), optimizer.zero_grad()
        print(f"step {step:3d}  reward {reward.mean():+.3f}  {time.time() - start:.0f} s", flush=True)
    print(f"test accuracy {100 * accuracy(model, tokenizer, test):.1f} %")

    metadata = {"base_model": "tiny", "site": o.place if o.what == "place" else "lora", "step": str(o.steps)}
    if o.what == "place":
        steering = torch.zeros(model.config.num_hidden_layers, model.config.hidden_size)
        steering[o.layer] = trained[0].detach()
        save_file({"steering": steering}, o.out, metadata)
        return
    os.makedirs(o.out, exist_ok=True)
    name = "base_model.model.model.layers.{}.mlp.down_proj.lora_{}.weight"
    tensors = {name.format(l, k): x.detach().contiguous() for k, m in (("A", a), ("B", b)) for l, x in enumerate(m)}
    save_file(tensors, os.path.join(o.out, "adapter_model.safetensors"), {"format": "pt"})
    config = {"base_model_name_or_path": "data/tiny/model", "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "lora_alpha": 1,
              "lora_dropout": 0.0, "peft_type": "LORA", "r": 1, "target_modules": ["down_proj"], "task_type": "CAUSAL_LM"}
    with open(os.path.join(o.out, "adapter_config.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
