/*
THE list of options. One row is a YAML key, a long option, a field of `struct Options`, a line of --help, of the
run header, of the saved config.yml and of dev/doc/options.md. Included several times by options.h, which says each time
what the row macros mean; hence no include guard.

    GROUP(heading)
    INT  (key, default, range of whole numbers, commands, meaning)
    REAL (key, default, range of numbers,       commands, meaning)
    FLAG (key, default,                         commands, meaning)      true or false
    WORD (key, default, "word|word|...",        commands, meaning)
    INTS (key, default, range of each,          commands, meaning)      a list: [1, 2] in YAML, 1,2 on the command line
    TEXT (key, default, what it is,             commands, meaning)
    TEXTS(key, default, what each is,           commands, meaning)      a list of texts without commas
    PER_COMMAND(key, commands, default)                                 another default there; REQUIRED: must be given
    FREE_ON_RESUME(key)                                                 a resumed run may have another value unsaid: no
                                                                        trained number depends on it

Ranges are written as in mathematics: "[0, 1)" holds 0 but not 1. Whole numbers end at 2147483647. Names are TRL's where
TRL has one.
*/
#ifndef GROUP
#define GROUP(heading)
#endif
#ifndef INT
#define INT(key, preset, range, commands, meaning)
#endif
#ifndef REAL
#define REAL(key, preset, range, commands, meaning)
#endif
#ifndef FLAG
#define FLAG(key, preset, commands, meaning)
#endif
#ifndef WORD
#define WORD(key, preset, words, commands, meaning)
#endif
#ifndef INTS
#define INTS(key, preset, range, commands, meaning)
#endif
#ifndef TEXT
#define TEXT(key, preset, what, commands, meaning)
#endif
#ifndef TEXTS
#define TEXTS(key, preset, what, commands, meaning)
#endif
#ifndef PER_COMMAND
#define PER_COMMAND(key, commands, preset)
#endif
#ifndef FREE_ON_RESUME
#define FREE_ON_RESUME(key)
#endif

// clang-format off: a row is a line
GROUP("Files")
TEXT(config, "", "FILE.yml", CMD_ALL, "read options from this file; the command line wins over it")
TEXT(model, "", "DIR", CMD_MODEL,
    "Qwen2 or Qwen2.5 model: a Hugging Face folder (config.json, tokenizer.json, safetensors) or a GGUF file")
PER_COMMAND(model, CMD_MODEL, REQUIRED)
TEXTS(data, "", "FILE.jsonl", CMD_TRAIN | CMD_ANSWERS,
    "problems, one JSON object a line: what to train on, or the benchmarks to answer")
PER_COMMAND(data, CMD_TRAIN | CMD_EVAL, REQUIRED)
TEXTS(validation_data, "", "FILE.jsonl", CMD_TRAIN,
    "problems for validation_steps, when not held out of data by validation_size")
TEXT(checkpoint, "", "DIR", CMD_ANSWERS | CMD_GENERATE | CMD_SCORE | CMD_EXPORT | CMD_BENCH,
    "checkpoint folder whose vectors or LoRA are added, or any PEFT folder; none: the base model; export merges "
    "several, A,B,...")
TEXT(steering, "", "FILE", CMD_ANSWERS | CMD_EXPORT | CMD_GENERATE | CMD_SCORE | CMD_BENCH,
    "steering_vectors.safetensors to add to the model")
TEXT(init_steering, "", "FILE", CMD_TRAIN, "vectors to start from; empty: zeros, the base model")
TEXT(init_adapter, "", "DIR", CMD_TRAIN, "setup lora: PEFT folder to start from; empty: B zero, the base model")
TEXT(output_dir, "train_output", "DIR", CMD_TRAIN,
    "checkpoints and metrics.jsonl go to DIR/model_name/dataset_name/setup/seed-N/")
FREE_ON_RESUME(output_dir)
TEXT(results_dir, "results", "DIR", CMD_ANSWERS,
    "accuracies and completions go under DIR/eval/, what experiments find under DIR/experiments/")
TEXT(model_name, "", "NAME", CMD_TRAIN | CMD_ANSWERS, "the model's name in paths; empty: its folder's name")
TEXT(dataset_name, "", "NAME", CMD_TRAIN | CMD_ANSWERS,
    "the data's name in paths; empty: its file's name without .jsonl")
TEXT(resume, "none", "none|auto|DIR", CMD_TRAIN,
    "go on from the newest checkpoint of the same run (auto) or from this one")
FREE_ON_RESUME(resume)

GROUP("Machine")
WORD(device, "cpu", "ref|cpu|cuda", CMD_MODEL & ~(CMD_TOKENIZE | CMD_EXPORT),
    "who computes; ref: plain loops in fp32, slow, the specification")
INT(seed, 0, "[0, inf)", CMD_MODEL & ~(CMD_TOKENIZE | CMD_EXPORT),
    "all randomness: order of problems, sampling, held-out problems")
REAL(activation_memory, 2.0, "(0, 65536]", CMD_TRAIN | CMD_SCORE | CMD_BENCH | CMD_EXPERIMENT,
    "GiB for activations of one forward; more rows at a time run faster, same gradient (on a GPU: but for rounding)")
INT(ddp_timeout, 1800, "[0, inf)", CMD_TRAIN,
    "seconds that one process waits for another, which is then taken for lost and ends the run; 0: for ever")
FREE_ON_RESUME(ddp_timeout)

GROUP("Problems and prompts")
WORD(prompt_template, "qwen25-math-cot", "qwen25-math-cot|qwen-boxed|r1|raw", CMD_SAMPLING,
    "how a problem becomes a prompt; the default is Qwen2.5-Math's and the papers'")
TEXT(system, "", "TEXT", CMD_SAMPLING, "system turn; empty: the template's own")
INT(limit, 0, "[0, inf)", CMD_TRAIN | CMD_ANSWERS, "use the first so many problems of each file; 0: all")
INT(max_solution_steps, 0, "[0, 1000]", CMD_TRAIN,
    "keep training problems whose solution has at most so many <<...>> marks; 0: all")
INT(validation_size, 0, "[0, inf)", CMD_TRAIN,
    "so many problems, chosen by seed, are kept out of training for validation")
INT(max_prompt_length, 0, "[0, inf)", CMD_TRAIN, "leave out training problems whose prompt has more tokens; 0: none")
TEXT(exclude, "", "FILE.jsonl", CMD_TRAIN, "leave out the training problems whose id is a train_id of this file")

GROUP("Sampling")
INT(num_generations, 8, "[1, 16384]", CMD_SAMPLING, "completions of each prompt: G, the size of a group")
PER_COMMAND(num_generations, CMD_ANSWERS | CMD_GENERATE, "1")
INT(max_completion_length, 512, "[1, 1048576]", CMD_SAMPLING,
    "most new tokens of a completion; a longer one is cut and marked truncated")
TEXTS(stop, "", "TOKEN", CMD_SAMPLING,
    "tokens that end a completion besides the model's own, as the end of turn of a base model with a chat prompt")
REAL(temperature, 1.0, "[0, 100]", CMD_SAMPLING | CMD_SCORE,
    "logits are divided by it before the softmax; 0: greedy, not in training")
REAL(top_p, 1.0, "(0, 1]", CMD_SAMPLING, "sample from the fewest tokens that hold this much probability; 1: all")
INT(top_k, 0, "[0, inf)", CMD_SAMPLING, "sample from the so many likeliest tokens; 0: all")
INT(rollout_batch_size, 64, "[0, 16384]", CMD_SAMPLING,
    "sequences decoded at once, 0 (training): as many as memory has room for; changes speed and memory, never a "
    "result (on a GPU: its last bits)")
FREE_ON_RESUME(rollout_batch_size)
REAL(cache_memory, 0.0, "[0, 65536]", CMD_TRAIN | CMD_ANSWERS,
    "GiB for keys and values of what is sampled, 0: what rollout_batch_size sequences need at most; with less, "
    "some are sampled twice, to the same tokens")
FREE_ON_RESUME(cache_memory)

GROUP("Training")
WORD(setup, "steering", "steering|steering_layer|steering_at_place|steering_rank|lora|full|sft_steering|sft_steering_layer|sft_steering_at_place|sft_steering_rank|sft_lora|sft_full", CMD_TRAIN,
    "what is trained (dev/doc/setups.md); sft_...: on given solutions, by cross-entropy, not by GRPO")
INTS(layers, "", "[0, 1023]", CMD_TRAIN | CMD_EXPERIMENT,
    "the layers of setups steering_layer and steering_at_place (there none: all), or those an experiment runs "
    "over; the first is 0")
INT(lora_r, 4, "[1, 1024]", CMD_TRAIN, "setup lora: the rank of B A")
REAL(lora_alpha, 0, "[0, 1e6)", CMD_TRAIN, "setup lora: B A is multiplied by lora_alpha / lora_r; 0: by 1, the papers'")
TEXTS(lora_target_modules, "down_proj", "NAME", CMD_TRAIN,
    "setup lora: which of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj of every layer")
WORD(place, "mlp", "mlp|self_attn|post_attention_layernorm|input_layernorm", CMD_TRAIN | CMD_EXPERIMENT,
    "setup steering_at_place, experiments add_place and add_place_steering: after which part of its layer a "
    "vector is added")
INT(rank, 1, "[1, 1024]", CMD_TRAIN, "setup steering_rank: the vectors are A B, A of so many columns")
WORD(reward, "math", "math|format|random", CMD_TRAIN,
    "+1 or -1 for: a correct boxed answer, any boxed answer, a coin (controls)")
INT(prompts_per_step, 16, "[1, 16384]", CMD_TRAIN, "prompts of one optimizer step; times num_generations completions")
WORD(advantage, "rloo", "rloo|grpo|grpo_no_std", CMD_TRAIN,
    "reward less: the mean of the others (rloo, the papers'), the group mean, over its std (grpo)")
WORD(loss_type, "dapo", "dapo|grpo|dr_grpo", CMD_TRAIN,
    "log-prob sums divided by: all tokens of the step, each completion's own, the length limit")
INT(num_iterations, 1, "[1, 1000]", CMD_TRAIN,
    "optimizer steps on each batch of completions (mu); 1 is on-policy, its ratio exactly 1 (on a GPU: but for "
    "rounding)")
REAL(epsilon, 0.2, "(0, 1]", CMD_TRAIN, "the ratio is clipped below 1 - epsilon; idle with num_iterations 1")
REAL(epsilon_high, 0.2, "(0, inf)", CMD_TRAIN, "the ratio is clipped above 1 + epsilon_high")
REAL(beta, 0.0, "[0, inf)", CMD_TRAIN, "weight of the KL to the base model (k3 estimator); 0: none")
FLAG(use_bias_correction_kl, true, CMD_TRAIN,
    "multiply the KL's estimator by the ratio, which makes its gradient that of the KL (TRL's default)")
REAL(entropy_coeff, 0.0, "[-10, 10]", CMD_TRAIN,
    "weight of the tokens' mean entropy, taken from the loss: above 0 it is raised, below 0 lowered; 0: none")
WORD(optimizer, "adamw", "adamw|natural_gradient", CMD_TRAIN,
    "natural_gradient: of vectors, each layer's step along the mean gradient is as long as target_kl allows")
REAL(target_kl, 2e-4, "(0, 1e3]", CMD_TRAIN,
    "natural_gradient: nats a token that a step of all layers may move the policy, before lr_scheduler_type")
REAL(learning_rate, 1e-3, "[0, inf)", CMD_TRAIN,
    "AdamW's; the papers: 1e-3 for all layers, more for one layer, the deeper the more")
REAL(warmup_ratio, 0.03, "[0, 1]", CMD_TRAIN, "share of the steps in which the rate rises linearly from 0")
WORD(lr_scheduler_type, "constant", "constant|linear|cosine", CMD_TRAIN,
    "the rate after warm-up: stays, or falls to 0 at the last step")
INT(max_steps, 0, "[0, inf)", CMD_TRAIN, "optimizer steps; 0: as many as num_train_epochs needs")
REAL(num_train_epochs, 1, "(0, 100000]", CMD_TRAIN, "passes over the training problems when max_steps is 0")
REAL(max_grad_norm, 2.0, "(0, inf)", CMD_TRAIN,
    "a longer gradient is scaled down to this length (all vectors together); the papers: 2")
REAL(adam_beta1, 0.9, "[0, 1)", CMD_TRAIN, "AdamW: decay of the mean gradient")
REAL(adam_beta2, 0.999, "[0, 1)", CMD_TRAIN, "AdamW: decay of the mean squared gradient")
REAL(adam_epsilon, 1e-8, "(0, 1]", CMD_TRAIN, "AdamW: added to the root of the mean squared gradient")
REAL(weight_decay, 0.0, "[0, inf)", CMD_TRAIN, "AdamW: pull towards zero, that is towards the base model")
FLAG(dynamic_sampling, false, CMD_TRAIN,
    "draw further prompts until prompts_per_step groups have unequal rewards (DAPO)")
INT(dynamic_sampling_max_rounds, 4, "[1, 1000]", CMD_TRAIN,
    "at most so many rounds of prompts a step; the first counts")
FLAG(mask_truncated_completions, false, CMD_TRAIN, "leave completions cut by max_completion_length out of the loss")
FLAG(skip_equal_groups, true, CMD_TRAIN,
    "save the passes of groups whose rewards are all equal: their gradient is zero (not with beta, entropy_coeff)")
FLAG(share_prompts, true, CMD_TRAIN,
    "run the prompt of a group once in the training pass, not once a sample: the same gradient but for rounding")

GROUP("Logging and saving")
INT(save_steps, 50, "[0, inf)", CMD_TRAIN, "a checkpoint every so many steps and at the end; 0: at the end only")
FREE_ON_RESUME(save_steps)
INT(save_total_limit, 0, "[0, inf)", CMD_TRAIN, "keep so many newest checkpoints; 0: all")
FREE_ON_RESUME(save_total_limit)
INT(validation_steps, 0, "[0, inf)", CMD_TRAIN, "measure validation accuracy every so many steps; 0: never")
FLAG(log_completions, false, CMD_TRAIN, "write every completion with its reward to completions/step-N.jsonl")
FREE_ON_RESUME(log_completions)

GROUP("Evaluation")
INTS(seeds, "", "[0, inf)", CMD_ANSWERS,
    "answer once for each of these seeds, mean and standard deviation are over them; empty: seed alone")
TEXTS(benchmark_generations, "", "NAME=N", CMD_ANSWERS,
    "num_generations of single benchmarks, by file name; the papers: 32 for AIME and AMC")
TEXTS(benchmark_lengths, "", "NAME=N", CMD_ANSWERS, "max_completion_length of single benchmarks, by file name")
FLAG(save_tokens, false, CMD_ANSWERS,
    "also write each completion's tokens and their log-probs with and without vectors, for scripts/plot/report.py")

GROUP("Experiments")
FLAG(skip_done, false, CMD_EXPERIMENT, "leave out variants whose metrics.json is there already")
TEXTS(magnitudes, "-1,-0.5,0,0.1,0.5,0.75,0.9,0.95,0.98,1,1.05,1.1,1.2,1.5,2,3,4,5,7,10", "NUMBER", CMD_EXPERIMENT,
    "magnitude: factors on all vectors; self_explain: lengths of the vector put in")
TEXTS(variants, "no_patch,base,skip_attn,skip_layer,skip_head,steer_head", "VARIANT", CMD_EXPERIMENT,
    "patch_head and the like: which patches, see llmc/intervene.h; a name without its head runs over all heads")
WORD(path, "both", "both|residual|mlp", CMD_EXPERIMENT, "pre_last_layer_steering: where the patched attention goes")
TEXT(place_steering, "", "FILE", CMD_EXPERIMENT,
    "add_place_steering: the vectors that belong to place; steering are those of mlp")
TEXTS(recipients, "", "NAME=DIR", CMD_EXPERIMENT, "exchange_svs: model folders of one shape; empty: model alone")
TEXTS(donors, "", "NAME=FILE", CMD_EXPERIMENT, "exchange_svs: vectors to put into each of them")
TEXT(adapter, "", "DIR", CMD_EXPERIMENT, "lora1_plots: PEFT folder of a rank-one LoRA on down_proj")
TEXT(token, "To", "TEXT", CMD_EXPERIMENT, "last_layer_steering and the like: the token whose probability is followed")
INT(top, 50, "[1, 1000]", CMD_EXPERIMENT, "how many tokens a list of tokens has")

GROUP("Input and output of eval_steer's commands")
TEXT(prompt, "", "TEXT", CMD_GENERATE, "the problem to answer")
TEXT(prompts, "", "FILE", CMD_GENERATE, "many: one a line, or JSONL with the key problem")
FLAG(raw, false, CMD_GENERATE, "no chat template: the text is continued as it stands")
WORD(format, "hf", "hf|peft|gguf|safetensors", CMD_EXPORT,
    "what to write: a model folder, a PEFT adapter, a control vector of llama.cpp, the bare vectors")
TEXT(out, "", "DIR", CMD_EXPORT, "the folder to write; what it holds is never overwritten")
FLAG(decode, false, CMD_TOKENIZE, "from {\"ids\":[...]} to {\"text\":\"...\"} instead")
FLAG(json, false, CMD_ALL & ~(CMD_TRAIN | CMD_EXPORT), "one JSON object a line on stdout and nothing else there")
WORD(phase, "all", "all|rollout|forward|forward_backward|grpo_step", CMD_BENCH,
    "what to time; rollout: prefill and decode")
INTS(batch, "1,32,64", "[1, 16384]", CMD_BENCH, "batch sizes to time")
INT(prompt_length, 100, "[1, 1048576]", CMD_BENCH, "tokens of each prompt")
INT(new_tokens, 64, "[1, 1048576]", CMD_BENCH, "tokens decoded after it")

// clang-format on
#undef GROUP
#undef INT
#undef REAL
#undef FLAG
#undef WORD
#undef INTS
#undef TEXT
#undef TEXTS
#undef PER_COMMAND
#undef FREE_ON_RESUME
