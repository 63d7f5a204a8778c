#!/usr/bin/env bash
# CONFIG_PATH=scripts/train/rl/<model>/<dataset>/<setup>.yml scripts/train.sh [--option value ...]
# Builds and trains; paths are relative to the repository. `--resume auto` continues an interrupted run.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/train/rl/tiny/arithmetic/steering.yml"}"
make -s train_steer
exec ./train_steer --config "$CONFIG_PATH" "$@"
