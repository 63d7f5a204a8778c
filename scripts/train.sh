#!/usr/bin/env bash
# CONFIG_PATH=scripts/train/rl/<model>/<dataset>/<setup>.yml scripts/train.sh [--option value ...]
# Builds and trains; paths are relative to the repository. `--resume auto` continues an interrupted run.
# IS_DIST=true: on several machines or in several processes, HOSTFILE=FILE or RANKS=N (see scripts/multi_node/mpirun.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/train/rl/tiny/arithmetic/steering.yml"}"
if [ "${IS_DIST:-false}" = true ]; then exec scripts/multi_node/mpirun.sh "$@"; fi
make -s train_steer
exec ./train_steer --config "$CONFIG_PATH" "$@"
