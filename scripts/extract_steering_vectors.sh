#!/usr/bin/env bash
# scripts/extract_steering_vectors.sh MODEL_DIR CHECKPOINT...
# The vectors of checkpoints (train_output/<Model>/<dataset>/<setup>/seed-<s>/checkpoint-<n>) as bare L x d matrices:
# results/steering_vectors/<Model>/<dataset>/<setup>/seed-<s>/checkpoint-<n>/steering_vectors.safetensors
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { echo "usage: scripts/extract_steering_vectors.sh MODEL_DIR CHECKPOINT..." >&2; exit 2; }
# shellcheck source=scripts/common.sh
. scripts/common.sh
build eval_steer
model=$1
shift
for checkpoint in "$@"; do
    checkpoint=${checkpoint%/}
    stem=$(echo "$checkpoint" | awk -F/ '{ s = $NF; for (i = NF - 1; i > 0 && i > NF - 5; i--) s = $i "/" s; print s }') # its last five folders
    ./eval_steer export --format safetensors --model "$model" --checkpoint "$checkpoint" --out "results/steering_vectors/$stem"
done
