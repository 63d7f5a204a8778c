#!/usr/bin/env bash
# scripts/merge_vectors_from_layers.sh MODEL_DIR RUNS [SEED] [CHECKPOINT]
# One L x d matrix whose row l is the vector that was trained alone at layer l. RUNS is train_output/<Model>/<dataset>, which holds
# steering_layer_<l>/seed-<SEED>/checkpoint-<n>; the last checkpoint of each run counts, or checkpoint-<CHECKPOINT>. Result:
# results/steering_vectors/<Model>/<dataset>/steering_layers/seed-<SEED>/steering_vectors.safetensors
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: scripts/merge_vectors_from_layers.sh MODEL_DIR train_output/<Model>/<dataset> [SEED] [CHECKPOINT]" >&2; exit 2; }
# shellcheck source=scripts/common.sh
. scripts/common.sh
build eval_steer
model=$1 runs=${2%/} seed=${3:-0} checkpoint=${4:-}
list=
for run in "$runs"/steering_layer_*/seed-"$seed"; do
    [ -d "$run" ] || { echo "error: $runs holds no steering_layer_<l>/seed-$seed" >&2; echo "  -> train them: ./train_steer --config .../steering_layer.yml --layers 0, and so on" >&2; exit 1; }
    if [ -n "$checkpoint" ]; then
        last=$run/checkpoint-$checkpoint
        [ -d "$last" ] || { echo "error: there is no $last" >&2; exit 1; }
    else
        last=$run/checkpoint-$(find "$run" -maxdepth 1 -name 'checkpoint-*' | sed 's/.*-//' | sort -n | tail -n 1)
        [ -d "$last" ] || { echo "error: $run holds no checkpoint" >&2; exit 1; }
    fi
    list=${list:+$list,}$last
done
./eval_steer export --format safetensors --model "$model" --checkpoint "$list" \
    --out "results/steering_vectors/$(basename "$(dirname "$runs")")/$(basename "$runs")/steering_layers/seed-$seed"
