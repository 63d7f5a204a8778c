#!/usr/bin/env bash
# CONFIG_PATH=scripts/eval/<model>/<dataset>.yml scripts/eval.sh --checkpoint none|DIR [--option value ...]
# Evaluates the model alone (none) or with the vectors of a checkpoint, in the repository, wherever it is called from; builds first where
# that is needed, and says so. CONFIG_PATH and paths among the options are looked for where the call came from, then in the repository.
# IS_STEERING=false is the model alone, whatever the recipe says; IS_STEERING=true wants a checkpoint or vectors.
# IS_DIST=true is for several machines, which this version does not have.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh
find_recipe scripts/eval/tiny/arithmetic.yml
place_options "$@"
set -- ${options[@]+"${options[@]}"}
if is_true IS_DIST; then refuse "IS_DIST=$IS_DIST: this version evaluates on one machine" "leave IS_DIST out"; fi
if [ -n "${IS_STEERING:-}" ]; then
    if ! is_true IS_STEERING; then set -- "$@" --checkpoint none --steering=
    elif ! { [[ " $* " == *" --checkpoint"* && " $* " != *" --checkpoint none "* ]] || [[ " $* " == *" --steering"* ]] || grep -qE '^(steering|checkpoint):' "$CONFIG_PATH"; }; then
        refuse "IS_STEERING=$IS_STEERING, but neither the call nor $CONFIG_PATH names vectors" "--checkpoint DIR, or IS_STEERING=false for the model alone"
    fi
fi
build eval_steer
exec ./eval_steer eval --config "$CONFIG_PATH" "$@"
