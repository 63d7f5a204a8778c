#!/usr/bin/env bash
# CONFIG_PATH=scripts/train/rl/<model>/<dataset>/<setup>.yml scripts/train.sh [--option value ...]
# Builds and trains; paths are relative to the repository. `--resume auto` continues an interrupted run.
# IS_STEERING=true|false, where set, says what the recipe must be: one that trains vectors, or one that does not.
# IS_DIST=true: on several machines or in several processes, HOSTFILE=FILE or RANKS=N (see scripts/multi_node/mpirun.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/train/rl/tiny/arithmetic/steering.yml"}"
if [ -n "${IS_STEERING:-}" ]; then
    steering=false
    setup=$(sed -nE 's/^setup:[[:space:]]*([a-z_]+).*/\1/p' "$CONFIG_PATH")
    case ${setup:-steering} in steering* | sft_steering*) steering=true ;; esac
    if [ "$IS_STEERING" != "$steering" ]; then
        echo "error: IS_STEERING=$IS_STEERING, but $CONFIG_PATH has setup: ${setup:-steering}" >&2
        echo "  -> choose another recipe, or leave IS_STEERING out" >&2
        exit 2
    fi
fi
if [ "${IS_DIST:-false}" = true ]; then exec scripts/multi_node/mpirun.sh "$@"; fi
make -s train_steer
exec ./train_steer --config "$CONFIG_PATH" "$@"
