#!/usr/bin/env python3
"""Makes single_layers.safetensors again from the runs in this tree, as OUT.safetensors (needs numpy and safetensors).

    dev/results/2026-11-29_single_layers/make_vectors.py OUT.safetensors
"""
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

RESULTS = Path(__file__).resolve().parents[1]
RUNS = ["2026-11-24_gsm8k_18_steps/checkpoint-18", "2026-11-24_gsm8k_32_steps/checkpoint-16", "2026-11-24_gsm8k_48_steps/checkpoint-36",
        "2026-11-29_gsm8k_halved/checkpoint-52"]
LENGTHS = {0: 3.11, 3: 2.76, 7: 4.12, 11: 1.9, 15: 5.6, 19: 15.33, 22: 23.59, 23: 7.98}


def load(file, name):
    return load_file(RESULTS / file)[name].astype(float)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


runs = sum(unit(load(f"{run}/steering_vectors.safetensors", "steering")) for run in RUNS)
rows = unit(unit(runs) - unit(load("2026-11-29_mean_gradient/checkpoint-4/optimizer.safetensors", "exp_avg")))
vectors = np.zeros((24, 896), np.float32)
for layer, length in LENGTHS.items():
    vectors[layer] = rows[layer] * length
save_file({"steering": vectors}, sys.argv[1])
