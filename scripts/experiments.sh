#!/usr/bin/env bash
# scripts/experiments.sh [scripts/eval/<model>]
# Runs every experiment that has a recipe in the folder (default scripts/eval/tiny: about a minute) and draws its picture beside
# its data under results/experiments/. Options after the folder go to each experiment, for example --skip_done.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
recipes=${1:-scripts/eval/tiny}
recipes=${recipes%/}
[ $# -eq 0 ] || shift
# shellcheck source=scripts/common.sh
. scripts/common.sh
build eval_steer
pictures=yes
scripts/venv.sh || pictures=no # it has said why

value() { sed -nE "s/^$1:[[:space:]]*([^[:space:]#]+).*/\1/p" "$2"; } # of a key in a flat recipe

names=$(./eval_steer experiment --help | sed -nE 's/^    ([a-z0-9_]+) .*/\1/p')
for name in $names; do
    recipe=$recipes/$name.yml
    [ -e "$recipe" ] || continue
    echo "$ ./eval_steer experiment $name --config $recipe $*"
    ./eval_steer experiment "$name" --config "$recipe" "$@"
    [ "$pictures" = yes ] || continue
    model=$(value model_name "$recipe")
    model=${model:-$(basename "$(value model "$recipe")")}
    results=results/experiments
    found=$results/$name/$model/$(value dataset_name "$recipe")
    vanilla=$results/vanilla/$model/$(value dataset_name "$recipe")
    pairs=$results/pair_single/$model/$(value dataset_name "$recipe")
    case $name in
    vanilla) .venv/bin/python scripts/plot/accuracies_table.py "$model/base=$found/base" "$model/steering=$found/steered" --out "$found/accuracies_table.png" ;;
    pair_single)
        [ -d "$vanilla/steered" ] || { echo "no picture of pairs: there is no $vanilla/steered to compare with" >&2; continue; }
        .venv/bin/python scripts/plot/pair_layers.py "$found" --all "$vanilla/steered"
        .venv/bin/python scripts/plot/layers.py "$found" --base "$vanilla/base" --all "$vanilla/steered" ;;
    patch_head_path) .venv/bin/python scripts/plot/patch_head.py "$found" ;;
    match_effect)
        if [ -d "$pairs" ]; then .venv/bin/python scripts/plot/match_effect.py "$found" --pairs "$pairs"
        else .venv/bin/python scripts/plot/match_effect.py "$found"; fi ;;
    exchange_svs) .venv/bin/python scripts/plot/exchange_svs.py "$found" --own "$model=$(sed -nE 's/^ *- ([^=]+)=.*/\1/p' "$recipe" | head -n 1)" ;;
    add_place) ;;
    *) .venv/bin/python "scripts/plot/$name.py" "$found" ;;
    esac
done
