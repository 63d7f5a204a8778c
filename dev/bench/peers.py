#!/usr/bin/env python3
"""steer.c beside the programs one would use instead, on this machine, the two in turn.

    dev/bench/install_peers.sh DIR
    python3 dev/bench/peers.py DIR MODEL [--data GSM8K.jsonl] [--rounds 3] [--only rollout,matmul ...] [--json FILE]

Each peer runs in a process of its own that is loaded once and then waits; a round is one measurement of theirs and one
of ours with nothing else running. The table gives the median of each and the median of the rounds' ratios (theirs in
time over ours), with the lowest and highest. `make bench PEERS=DIR MODEL=...` runs everything.

    rollout            vLLM CPU: prefill of 100 random tokens each, decoding of 64, by batch size
    first_token        vLLM CPU: from the start of the program to one token, weights in the page cache (seconds)
    forward_backward   torch through transformers: 16 x 256 tokens, gradient of one bias a layer, all logits
    grpo_step          TRL: 4 prompts x 8 completions x 128 tokens, LoRA of rank 1 on down_proj (its nearest to a bias)
    tokenize           bpe-qwen and Hugging Face tokenizers: problems and solutions of --data, one thread
    matmul             oneDNN through torch, weights packed beforehand: the products of the model
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT, NEW = 100, 64
SHAPES = [(896, 1152), (896, 896), (896, 9728), (4864, 896), (896, 151936)]
ROWS = [1, 16, 64, 512, 4096]

# ----------------------------------------------------------------------------
# theirs: each function loads and returns what measures one thing, given its name; it runs in the peer's own Python


def vllm(model, data):
    import random

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{os.cpu_count() - 1}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from vllm import LLM, SamplingParams

    llm = LLM(model=model, dtype="bfloat16", max_model_len=1024, max_num_seqs=128, enforce_eager=True,
              enable_prefix_caching=False)
    random.seed(0)

    def seconds(batch, n):
        prompts = [{"prompt_token_ids": [random.randint(1000, 20000) for _ in range(PROMPT)]} for _ in range(batch)]
        params = SamplingParams(temperature=1.0, max_tokens=n, ignore_eos=True, detokenize=False)
        start = time.time()
        llm.generate(prompts, params, use_tqdm=False)
        return time.time() - start

    def measure(what):
        _, batch = what.split()
        batch = int(batch)
        first, all_ = seconds(batch, 1), seconds(batch, NEW + 1)
        return {"prefill": batch * PROMPT / first, "decode": batch * NEW / (all_ - first)}

    if data != "first":
        seconds(1, 4)  # warm-up
    return measure, lambda: seconds(1, 1)


def torch_biases(model, data):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    m = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="sdpa")
    m.requires_grad_(False)
    for layer in m.model.layers:
        bias = torch.nn.Parameter(torch.zeros(m.config.hidden_size))
        layer.mlp.down_proj.register_forward_hook(lambda module, i, o, b=bias: o + b.to(o.dtype))
    B, T, at_once = 16, 256, 4  # all logits of 16 sequences would be 2.5 GB, several times over
    ids = torch.randint(0, 150000, (B, T))

    def run(n):
        start = time.time()
        for i in range(0, n, at_once):
            logits = m(input_ids=ids[i:i + at_once]).logits
            torch.log_softmax(logits.float(), -1).gather(-1, ids[i:i + at_once].unsqueeze(-1)).mean().backward()
        return time.time() - start

    run(at_once)  # warm-up
    return (lambda what: {"forward_backward": B * T / run(B)}), None


def trl(model, data):
    import random

    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    system = "Please reason step by step, and put your final answer within \\boxed{}."
    with open(data, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f][:64]
    prompts = [[{"role": "system", "content": system}, {"role": "user", "content": r["problem"]}] for r in rows]
    random.seed(0)
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=8, gradient_accumulation_steps=4, num_generations=8,
        max_completion_length=128, max_steps=1, logging_steps=1, bf16=True, use_cpu=True, beta=0.0, learning_rate=1e-3,
        report_to=[], save_strategy="no", gradient_checkpointing=False, generation_kwargs={"min_new_tokens": 128},
        model_init_kwargs={"dtype": "bfloat16"}, disable_tqdm=True)
    trainer = GRPOTrainer(
        model=model, reward_funcs=lambda completions, **_: [random.choice([0.0, 1.0]) for _ in completions],
        args=config, train_dataset=Dataset.from_list([{"prompt": p} for p in prompts]),
        peft_config=LoraConfig(r=1, lora_alpha=1, target_modules=["down_proj"], task_type="CAUSAL_LM"))

    def measure(what):
        trainer.train()
        seconds = [h["step_time"] for h in trainer.state.log_history if "step_time" in h][-1]
        return {"grpo_step": 32 * 128 / seconds}

    return measure, None


def tokenizers(model, data):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import bpe_qwen
    from tokenizers import Tokenizer

    hf = Tokenizer.from_file(f"{model}/tokenizer.json")
    vocab = tempfile.mkdtemp()  # bpe-qwen reads the older files
    with open(f"{model}/tokenizer.json", encoding="utf-8") as f:
        bpe = json.load(f)["model"]
    with open(f"{vocab}/vocab.json", "w", encoding="utf-8") as f:
        json.dump(bpe["vocab"], f, ensure_ascii=False)
    with open(f"{vocab}/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join((m if isinstance(m, str) else " ".join(m)) + "\n" for m in bpe["merges"]))
    fast = bpe_qwen.QwenTokenizer(vocab)
    texts = gsm8k_texts(data)
    size = sum(len(t.encode()) for t in texts)
    right = [hf.encode(t, add_special_tokens=False).ids for t in texts]
    with open(f"{vocab}/ids", "w") as f:
        json.dump(right, f)

    def measure(what):
        out = {}
        for name, encode in (("bpe-qwen", fast.encode), ("hf", lambda t: hf.encode(t, add_special_tokens=False).ids)):
            encode(texts[0])
            start = time.time()
            ids = [encode(t) for t in texts]
            out[name] = 1e-6 * size / (time.time() - start)
            out[name + " wrong"] = sum(a != b for a, b in zip(ids, right))
        out["ids"] = f"{vocab}/ids"
        return out

    return measure, None


def onednn(model, data):
    import torch

    torch.manual_seed(0)

    def measure(what):
        K, N, T = map(int, what.split()[1:])
        copies = (160 << 20) // (2 * K * N) + 1  # so that none is found in a cache
        x = torch.rand(T, K).bfloat16() * 2 - 1
        packed = []
        for _ in range(copies):
            w = (torch.rand(N, K) * 2 - 1).bfloat16()
            packed.append(torch.ops.mkldnn._reorder_linear_weight(w, T))
        best, i, stop = 1e9, 0, time.time() + 0.6
        while i < 3 or time.time() < stop:
            start = time.perf_counter()
            torch.ops.mkldnn._linear_pointwise(x, packed[i % copies], None, "none", [], "")
            best = min(best, time.perf_counter() - start)
            i += 1
        return {"matmul": 2e-9 * T * K * N / best}

    with torch.no_grad():
        measure("matmul 896 896 16")
    return (lambda what: torch.no_grad()(measure)(what)), None


PEERS = {"vllm": (vllm, "vllm"), "torch": (torch_biases, "hf"), "trl": (trl, "hf"), "tokenizers": (tokenizers, "hf"),
         "onednn": (onednn, "hf")}


def serve(peer, model, data):
    """Answers each line of stdin, the name of a measurement, by one line of JSON; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    measure, first = PEERS[peer][0](model, data)
    if data == "first":
        first()
        print("{}", file=answers, flush=True)
        os._exit(0)  # stopping vLLM is not part of its first token
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(line.strip())), file=answers, flush=True)


# ----------------------------------------------------------------------------
# ours


def gsm8k_texts(path):
    with open(path, encoding="utf-8") as f:
        return [row[key] for row in map(json.loads, f) for key in ("problem", "solution")]


def run(command, **how):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **how).stdout


def ours_bench(model, phase, batch=1):
    lines = run(["./eval_steer", "bench", "--model", model, "--json", "--phase", phase, "--batch", str(batch)],
                stderr=subprocess.DEVNULL).splitlines()
    return {r["phase"]: r["tokens_per_s"] for r in map(json.loads, lines)}


def build(name):
    run(["make", "-s", f"build/bench_{name}"])
    return f"build/bench_{name}"


# ----------------------------------------------------------------------------
# in turn


class Peer:
    def __init__(self, args, name):
        self.name, python = name, f"{args.peers}/{PEERS[name][1]}/bin/python"
        self.log = open(f"build/peer_{name}.log", "w")
        self.process = subprocess.Popen([python, __file__, args.peers, args.model, "--data", args.data, "--serve", name],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended before it answered\n  -> see {self.log.name}")
        return json.loads(line)

    def measure(self, what):
        print(what, file=self.process.stdin, flush=True)
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Table:
    def __init__(self):
        self.rows = []
        print(f"{'':34} {'ours':>9} {'theirs':>9} {'ratio':>7}   lowest - highest", flush=True)

    def add(self, what, unit, ours, theirs, faster_is_more=True):
        """ours and theirs: one number a round"""
        ratios = [a / b if faster_is_more else b / a for a, b in zip(ours, theirs)]
        row = {"what": what, "unit": unit, "ours": statistics.median(ours), "theirs": statistics.median(theirs),
               "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios), "rounds": len(ratios)}
        self.rows.append(row)
        print(f"{what:34} {row['ours']:9.4g} {row['theirs']:9.4g} {row['ratio']:6.2f}x   {row['lowest']:.2f} - {row['highest']:.2f}"
              f"   {unit}", flush=True)


def compare_rollout(args, table):
    peer = Peer(args, "vllm")
    for batch in args.batch:
        theirs, ours = [], []
        for _ in range(args.rounds):
            theirs.append(peer.measure(f"rollout {batch}"))
            ours.append(ours_bench(args.model, "rollout", batch))
        for phase in ("prefill", "decode"):
            table.add(f"{phase}, batch {batch}: vLLM", "tokens/s", [r[phase] for r in ours], [r[phase] for r in theirs])
    peer.close()


def compare_first_token(args, table):
    def seconds(command):
        for name in os.listdir(args.model):  # the weights are in the page cache
            if name.endswith(".safetensors"):
                with open(f"{args.model}/{name}", "rb") as f:
                    while f.read(1 << 24):
                        pass
        start = time.time()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        answered = process.stdout.readline() != ""
        taken = time.time() - start
        os.killpg(process.pid, signal.SIGKILL)  # vLLM leaves processes after, which would go on taking memory and time
        process.wait()
        if not answered:
            sys.exit(f"error: no token came from: {' '.join(command)}")
        return taken

    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(seconds([f"{args.peers}/vllm/bin/python", __file__, args.peers, args.model, "--data", "first", "--serve", "vllm"]))
        ours.append(seconds(["./eval_steer", "generate", "--model", args.model, "--raw", "--prompt", "hello " * PROMPT,
                             "--max_completion_length", "1"]))
    table.add("start to first token: vLLM", "s", ours, theirs, faster_is_more=False)


def compare_phase(args, table, peer_name, phase, title):
    peer = Peer(args, peer_name)
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(peer.measure(phase)[phase])
        ours.append(ours_bench(args.model, phase)[phase])
    table.add(title, "tokens/s", ours, theirs)
    peer.close()


def compare_tokenizers(args, table):
    program = build("tokenize")
    peer = Peer(args, "tokenizers")
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(peer.measure("tokenize"))
        ours.append(float(run([program, args.model, args.data], env={**os.environ, "OMP_NUM_THREADS": "1"}).split()[0]))
    lines = "".join(json.dumps({"text": t}) + "\n" for t in gsm8k_texts(args.data))
    mine = [json.loads(line)["ids"] for line in run(["./eval_steer", "tokenize", "--model", args.model], input=lines).splitlines()]
    with open(theirs[0]["ids"]) as f:
        right = json.load(f)
    wrong = sum(a != b for a, b in zip(mine, right)) + abs(len(mine) - len(right))
    table.add("tokenizing: bpe-qwen", "MB/s", ours, [r["bpe-qwen"] for r in theirs])
    table.add("tokenizing: HF tokenizers", "MB/s", ours, [r["hf"] for r in theirs])
    print(f"  texts whose ids differ from HF tokenizers': ours {wrong}, bpe-qwen {theirs[0]['bpe-qwen wrong']}, of {len(right)}")
    table.rows[-1]["texts"], table.rows[-1]["wrong_ours"], table.rows[-1]["wrong_bpe_qwen"] = len(right), wrong, theirs[0]["bpe-qwen wrong"]
    peer.close()


def compare_matmul(args, table):
    program = build("matmul")
    peer = Peer(args, "onednn")
    ratios = []
    for T in ROWS:
        theirs, ours = {s: [] for s in SHAPES}, {s: [] for s in SHAPES}
        for _ in range(args.rounds):
            for s in SHAPES:
                if s[1] < 100000 or T <= 512:
                    theirs[s].append(peer.measure(f"matmul {s[0]} {s[1]} {T}")["matmul"])
            for line in run([program, "forward", str(T)]).splitlines()[2:]:
                _, K, _, N, _, speed = line.split()[:6]
                ours[int(K), int(N)].append(float(speed))
        for s in SHAPES:
            if theirs[s]:
                table.add(f"{T} x {s[0]} x {s[1]}: oneDNN", "GFLOP/s", ours[s], theirs[s])
                ratios.append(table.rows[-1]["ratio"])
    mean = statistics.geometric_mean(ratios)
    table.rows.append({"what": "matmul, geometric mean", "ratio": mean})
    print(f"  geometric mean of the products' ratios: {mean:.3f}")
    peer.close()


COMPARISONS = {
    "rollout": compare_rollout,
    "first_token": compare_first_token,
    "forward_backward": lambda a, t: compare_phase(a, t, "torch", "forward_backward", "forward + backward 16 x 256: torch"),
    "grpo_step": lambda a, t: compare_phase(a, t, "trl", "grpo_step", "GRPO step 4 x 8 x 128: TRL"),
    "tokenize": compare_tokenizers,
    "matmul": compare_matmul,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", help="where install_peers.sh put them")
    parser.add_argument("model")
    parser.add_argument("--data", default="data/gsm8k_train.jsonl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=lambda s: [int(b) for b in s.split(",")], default=[1, 64])
    parser.add_argument("--only", default=",".join(COMPARISONS), help=", ".join(COMPARISONS))
    parser.add_argument("--json", help="write the table to this file too")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.model, args.data)
    table = Table()
    for name in args.only.split(","):
        if name not in COMPARISONS:
            parser.error(f"--only: found {name!r}, expected some of {', '.join(COMPARISONS)}")
        COMPARISONS[name](args, table)
        if args.json:
            part = os.path.join(os.path.dirname(args.json), f".tmp-{os.path.basename(args.json)}")
            with open(part, "w") as f:
                json.dump(table.rows, f, indent=1)
            os.replace(part, args.json)


if __name__ == "__main__":
    main()
