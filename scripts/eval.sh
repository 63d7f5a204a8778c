#!/usr/bin/env bash
# CONFIG_PATH=scripts/eval/<model>/<dataset>.yml scripts/eval.sh --checkpoint none|DIR [--option value ...]
# Builds and evaluates the model alone (none) or with the vectors of a checkpoint; paths are relative to the repository.
# IS_STEERING=false is the model alone, whatever the recipe says; IS_STEERING=true wants a checkpoint or vectors.
# IS_DIST=true is for several machines, which this version does not have.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/eval/tiny/arithmetic.yml"}"
if [ "${IS_DIST:-false}" = true ]; then
    echo "error: IS_DIST=true: this version evaluates on one machine" >&2
    echo "  -> leave IS_DIST out" >&2
    exit 2
fi
case ${IS_STEERING:-} in
'') ;;
false) set -- "$@" --checkpoint none --steering= ;;
true)
    if ! { [[ " $* " == *" --checkpoint"* && " $* " != *" --checkpoint none "* ]] || [[ " $* " == *" --steering"* ]] || grep -qE '^(steering|checkpoint):' "$CONFIG_PATH"; }; then
        echo "error: IS_STEERING=true, but neither the call nor $CONFIG_PATH names vectors" >&2
        echo "  -> --checkpoint DIR, or IS_STEERING=false for the model alone" >&2
        exit 2
    fi ;;
*)
    echo "error: IS_STEERING: found '$IS_STEERING', expected true or false" >&2
    exit 2 ;;
esac
make -s eval_steer
exec ./eval_steer eval --config "$CONFIG_PATH" "$@"
