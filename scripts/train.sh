#!/usr/bin/env bash
# CONFIG_PATH=scripts/train/rl/<model>/<dataset>/<setup>.yml scripts/train.sh [--option value ...]
# Trains, in the repository, wherever it is called from; builds first where that is needed, and says so. `--resume auto` continues an
# interrupted run. CONFIG_PATH and paths among the options are looked for where the call came from, then in the repository; paths in a
# recipe are the repository's.
# IS_STEERING=true|false, where set, says what the recipe must be: one that trains vectors, or one that does not.
# IS_DIST=true: on several machines or in several processes, HOSTFILE=FILE or RANKS=N (see scripts/multi_node/mpirun.sh)
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh
find_recipe scripts/train/rl/tiny/arithmetic/steering.yml
place_options "$@"
if [ -n "${IS_STEERING:-}" ]; then
    steering=false wanted=false
    setup=$(sed -nE 's/^setup:[[:space:]]*([a-z_]+).*/\1/p' "$CONFIG_PATH")
    case ${setup:-steering} in steering* | sft_steering*) steering=true ;; esac
    if is_true IS_STEERING; then wanted=true; fi
    [ $wanted = $steering ] || refuse "IS_STEERING=$IS_STEERING, but $CONFIG_PATH has setup: ${setup:-steering}" "choose another recipe, or leave IS_STEERING out"
fi
if is_true IS_DIST; then
    export CONFIG_PATH
    if [ -n "${HOSTFILE:-}" ] && [ -f "$from/$HOSTFILE" ]; then export HOSTFILE="$from/$HOSTFILE"; fi
    exec scripts/multi_node/mpirun.sh ${options[@]+"${options[@]}"}
fi
for name in RANKS HOSTFILE; do
    [ -z "${!name:-}" ] || echo "warning: $name=${!name} is ignored: one process is started, for IS_DIST is not true" >&2
done
build train_steer
exec ./train_steer --config "$CONFIG_PATH" ${options[@]+"${options[@]}"}
