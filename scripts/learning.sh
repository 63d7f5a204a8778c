#!/usr/bin/env bash
# scripts/learning.sh [--config RECIPE.yml] [--seeds "0 1 2"] [--tokens N] [--goal 90] [--out DIR] [NAME="OPTION ..." ...]
# A bench of learning: trains each arm with each seed and compares, per sampled token, with the first arm. An arm is a name and options of
# train_steer, as in  adamw=""  slower="--learning_rate 0.01"; without any, the arms that dev/results/README.md has a run of.
#   --config    a recipe that all arms begin with (default: the tiny model's, some ten seconds a run on two cores)
#   --seeds     of arm and baseline alike, so that they see the same problems in the same order and begin with the same answers
#   --tokens    compare the arms' accuracy after so many sampled tokens (default 200000); an arm of fewer is compared at its end
#   --goal      percent of the last 768 samples right, for the steps and tokens to it
#   --out       where runs go and stay (default train_output/learning); one that is finished is not run again
# Prints one Markdown table (scripts/learning.py): means over seeds and, of what is paired, 95 % intervals of Student's t over seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

wrong() { printf 'error: %s\n  -> %s\n' "$1" "$2" >&2; exit 2; }
config=scripts/train/rl/tiny/arithmetic/steering.yml seeds='0 1 2' tokens=200000 goal=90 out=train_output/learning arms=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -nE '2,/^set -/{/^set -/d;s/^# ?//p}' "$0"; exit 0 ;;
    --config | --seeds | --tokens | --goal | --out) [ $# -gt 1 ] || wrong "$1: its value is missing" "scripts/learning.sh --help" ;;
    --*) wrong "$1 is no option of this script" "options of training belong to an arm: name=\"$1 ...\"" ;;
    *=*) [[ $1 =~ ^[A-Za-z0-9._-]+= ]] || wrong "$1: an arm's name has letters, digits, ., _ and -" "name=\"--option value\""; arms+=("$1"); shift; continue ;;
    *) wrong "found \"$1\", expected an arm" "name=\"--option value\"" ;;
    esac
    case $1 in
    --config) config=$2; [ -r "$2" ] || wrong "$2 cannot be read" "a recipe, see scripts/train" ;;
    --seeds) seeds=$2; [[ $2 =~ ^[0-9]+( [0-9]+)*$ ]] || wrong "--seeds: found \"$2\", expected whole numbers" '--seeds "0 1 2"' ;;
    --tokens) tokens=$2; [[ $2 =~ ^[1-9][0-9]*$ ]] || wrong "--tokens: found \"$2\", expected a whole number from 1" "--tokens 200000" ;;
    --goal) goal=$2; [[ $2 =~ ^[0-9]+(\.[0-9]+)?$ ]] || wrong "--goal: found \"$2\", expected percent" "--goal 90" ;;
    --out) out=$2 ;;
    esac
    shift 2
done
natural='--optimizer natural_gradient --warmup_ratio 0 --adam_beta1 0.5 --lr_scheduler_type linear --target_kl'
if [ ${#arms[@]} -eq 0 ]; then
    arms=(adamw= 'no_warmup=--warmup_ratio 0' 'entropy=--warmup_ratio 0 --entropy_coeff -0.02' "natural_1e-4=$natural 1e-4" "natural_3e-4=$natural 3e-4"
          "natural_entropy=$natural 3e-4 --entropy_coeff -0.02" 'one_layer=--warmup_ratio 0 --setup steering_layer --layers 1')
fi
[ -x ./train_steer ] || make -s train_steer

for arm in "${arms[@]}"; do
    name=${arm%%=*}
    read -r -a options <<< "${arm#*=}"
    for seed in $seeds; do
        run=$out/$name/$seed
        [ ! -e "$run/done" ] || [ "$(cat "$run/done")" != "$config ${arm#*=}" ] || continue
        rm -rf "$run"
        mkdir -p "$run"
        echo "$name, seed $seed" >&2
        ./train_steer --config "$config" ${options[@]+"${options[@]}"} --seed "$seed" --save_steps 0 --output_dir "$run" > "$run/log" 2>&1 ||
            { tail -n 5 "$run/log" >&2; exit 1; }
        echo "$config ${arm#*=}" > "$run/done"
    done
done
python3 scripts/learning.py --seeds "$seeds" --tokens "$tokens" --goal "$goal" "$out" "${arms[@]%%=*}"
