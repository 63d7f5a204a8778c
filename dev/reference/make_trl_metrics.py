#!/usr/bin/env python3
"""Records what TRL's GRPOTrainer logs, and what it computed that from: dev/test/trl_metrics.json.

    pip install trl==1.16.0 torch transformers
    dev/reference/make_trl_metrics.py dev/test/trl_metrics.json

A small random model answers in a vocabulary of 16 words, so that some completions end and some are cut. Recorded of each run:
the options, of each completion its prompt's length, length, end, reward and advantage; the log-probs when it was sampled and
under the reference; of each of num_iterations updates the log-probs and entropies; and the line that TRL logs for them
(logging_steps = num_iterations). test_metrics in dev/test/test_metrics.h computes the same line from the same numbers.
"""
import json
import sys
import tempfile

import datasets
import tokenizers
import torch
import transformers
import trl

WORDS = ["<eos>", "<pad>"] + [f"w{i}" for i in range(14)]
PROMPTS = ["w0 w1 w2", "w3", "w4 w5 w6 w7 w8", "w9 w10"]

RUNS = [
    dict(loss_type="dapo", beta=0.3, num_iterations=2, epsilon=0.2, epsilon_high=0.3),
    dict(loss_type="grpo", beta=0.3, num_iterations=2, epsilon=0.1, epsilon_high=0.1, use_bias_correction_kl=False,
            mask_truncated_completions=True),
    dict(loss_type="dr_grpo", beta=0.0, num_iterations=3, epsilon=0.05, epsilon_high=0.05, scale_rewards="none"),
]


def make_model(folder):
    torch.manual_seed(1)
    config = transformers.Qwen2Config(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, eos_token_id=0,
                                      pad_token_id=1, bos_token_id=None)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return tokenizer


# By the sum of the token ids; the answers to one prompt are all wrong: a group without an advantage.
def by_sum(prompts, completion_ids, **_):
    return [-1.0 if p == PROMPTS[1] else (1.0, -1.0, 0.5)[sum(ids) % 3] for p, ids in zip(prompts, completion_ids)]


class Recorder(trl.GRPOTrainer):
    """GRPOTrainer that keeps what _compute_loss gets and computes."""

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if kwargs.get("compute_entropy"):
            self.passed = (result[0].detach(), result[1].detach())
        return result

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        self.updates.append((inputs, *self.passed, loss.item()))
        return loss

    def log(self, logs, start_time=None):
        super().log(logs, start_time)
        self.logged.append(dict(logs))


def numbers(row, n):
    return [float(f"{x:.9g}") for x in row[:n].tolist()]


def record(options):
    mu = options["num_iterations"]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make_model(folder)
        config = trl.GRPOConfig(output_dir=folder, per_device_train_batch_size=16, num_generations=4, max_completion_length=8,
                logging_steps=mu, max_steps=2 * mu,
                                learning_rate=2e-2, seed=3, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
                                disable_tqdm=True, max_grad_norm=1.0,
                                generation_kwargs={"suppress_tokens": [1]}, **options) # no <pad> is sampled: it would look like the end
        trainer = Recorder(model=folder, processing_class=tokenizer, reward_funcs=by_sum, args=config, 
                           train_dataset=datasets.Dataset.from_dict({"prompt": PROMPTS}))
        trainer.updates, trainer.logged = [], []
        trainer.train()
    # the second batch of completions: its policy is no longer the reference
    updates, step = trainer.updates[mu:], trainer.logged[1]
    step["num_tokens before"] = trainer.logged[0]["num_tokens"]
    first = updates[0][0]
    prompt_length = first["prompt_mask"].sum(1)
    length = (first["completion_ids"] != 1).sum(1) # not of the mask,
            which is 0 throughout where a completion is left out because it was cut
    completions = []
    # groups stand together again: TRL shuffles what it has sampled
    order = sorted(range(16), key=lambda i: (first["prompt_ids"][i].tolist(), i))
    for i in order:
        n = int(length[i])
        rewards = by_sum([tokenizer.decode(first["prompt_ids"][i], skip_special_tokens=True)], [first["completion_ids"][i, :n].tolist()])
        c = dict(prompt=int(prompt_length[i]), tokens=n, finished=int(first["completion_ids"][i, n - 1]) == 0, reward=rewards[0],
                advantage=float(f"{first['advantages'][i]:.9g}"))
        c["old"] = numbers(first["old_per_token_logps"][i], n)
        if options["beta"]:
            c["ref"] = numbers(first["ref_per_token_logps"][i], n)
        c["logprob"], c["entropy"] = [], []
        for inputs, logprob, entropy, _ in updates[:mu]: # in the order of this update's own shuffle
            assert torch.equal(inputs["completion_ids"], first["completion_ids"])
            c["logprob"].append(numbers(logprob[i], n))
            c["entropy"].append(numbers(entropy[i], n))
        completions.append(c)
    return dict(options={**{k: getattr(config, k) for k in ("use_bias_correction_kl", "mask_truncated_completions",
            "max_completion_length", "num_generations")}, **options},
                completions=completions, metrics=step)


def main():
    runs = [record(options) for options in RUNS]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        versions = {m.__name__: m.__version__ for m in (trl, transformers, torch)}
        file.write(json.dumps({"made by": "dev/reference/make_trl_metrics.py", **versions})[:-1] + ', "runs": [\n')
        for k, run in enumerate(runs):
            file.write(json.dumps({"options": run["options"], "metrics": run["metrics"]})[:-1] + ', "completions": [\n')
            file.write(",\n".join(json.dumps(c) for c in run["completions"]) + "\n]}" + (",\n" if k + 1 < len(runs) else "\n]}\n"))


if __name__ == "__main__":
    main()
