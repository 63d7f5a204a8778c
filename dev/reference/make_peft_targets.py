#!/usr/bin/env python3
"""Writes peft_targets.jsonl: settings of adapter_config.json with the modules of the tiny model that PEFT changes by them, for dev/test/test_foreign.h.

    pip install torch transformers==5.24.0 peft==0.21.2
    python dev/reference/make_peft_targets.py > dev/reference/peft_targets.jsonl
"""
import json

from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

SETTINGS = [
    {"target_modules": ["down_proj"]},
    {"target_modules": ["q_proj", "v_proj", "gate_proj"]},
    {"target_modules": ["layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "2.mlp.up_proj", "v_proj"]},
    {"target_modules": ["proj", "mlp.up_proj", "query_key_value"]},
    {"target_modules": "all-linear"},
    {"target_modules": "ALL-linear", "exclude_modules": ["q_proj", "layers.2.mlp.down_proj"]},
    {"target_modules": r".*\.mlp\.(down_proj)"},
    {"target_modules": r"model\.layers\.[13]\..*(q|v)_proj"},
    {"target_modules": r".*(?<!o)_proj", "exclude_modules": r".*\.0\..*|.*self_attn.*"},
    {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["0.self_attn.q_proj", "model.layers.3.mlp.down_proj"]},
    {"target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "layers_to_transform": [1, 3]},
    {"target_modules": ["q_proj"], "layers_to_transform": 2, "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": ["h", "lay.rs"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [], "exclude_modules": []},
]

if __name__ == "__main__":
    base = AutoConfig.from_pretrained("data/tiny/model")
    for settings in SETTINGS:
        model = get_peft_model(AutoModelForCausalLM.from_config(base), LoraConfig(task_type="CAUSAL_LM", **settings))
        modules = sorted({name.split(".lora_A")[0].removeprefix("base_model.model.") for name, _ in model.named_parameters() if ".lora_A" in name})
        print(json.dumps({**settings, "modules": modules}))
