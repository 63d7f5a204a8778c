#!/usr/bin/env bash
# CONFIG_PATH=scripts/eval/<model>/<dataset>.yml scripts/eval.sh --checkpoint none|DIR [--option value ...]
# Builds and evaluates the model alone (none) or with the vectors of a checkpoint; paths are relative to the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/eval/tiny/arithmetic.yml"}"
make -s eval_steer
exec ./eval_steer eval --config "$CONFIG_PATH" "$@"
