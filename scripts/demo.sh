#!/usr/bin/env bash
# `make demo`: how often the built-in tiny model solves problems it has not seen, before and after its vectors are trained.
# Starts from scratch each time, in two folders of its own, which it replaces: train_output/demo and results/demo. DEVICE=cuda: on a GPU.
# DEVICE=emulate: the CUDA kernels on the CPU, where only two small steps and a few problems are affordable.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # threads that wait by spinning are slow where other programs run too
case "${DEVICE:-cpu}" in # no options: bash 3.2 takes an empty array for an unset one, so they are used as ${x[@]+"${x[@]}"}
cpu) train_options=() eval_options=() ;;
cuda) train_options=(--device cuda) eval_options=(--device cuda) ;;
emulate) train_options=(--device cuda --max_steps 2 --prompts_per_step 2) eval_options=(--device cuda --limit 8) ;;
*) echo "error: DEVICE=$DEVICE: expected cpu, cuda or emulate" >&2; exit 2 ;;
esac
trained=train_output/demo
answered=results/demo
run=$trained/tiny/arithmetic/steering/seed-0
before=$answered/eval/tiny/base
after=$answered/eval/tiny/arithmetic/steering/seed-0
table=$(mktemp)
trap 'rm -f "$table"' EXIT

say() { printf '\n$ %s\n' "$*"; }

# evaluate NAME CHECKPOINT: adds a line of JSON after NAME to the table.
evaluate() {
    command=(./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint "$2" --results_dir "$answered" --json ${eval_options[@]+"${eval_options[@]}"})
    say "${command[@]}"
    line=$("${command[@]}")
    echo "$line"
    echo "$1 $line" >> "$table"
}

rm -rf "$trained" "$answered"
evaluate before none
command=(./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml --output_dir "$trained" ${train_options[@]+"${train_options[@]}"})
say "${command[@]}"
start=$(date +%s)
"${command[@]}"
seconds=$(($(date +%s) - start))
checkpoint=$run/checkpoint-$(find "$run" -maxdepth 1 -name 'checkpoint-*' | sed 's/.*-//' | sort -n | tail -n 1)
evaluate after "$checkpoint"

echo
LC_ALL=C awk '
function value(key) { # of a number in the flat JSON object on this line
    if (!match($0, "\"" key "\" *: *[-+0-9.eE]+")) { print "error: no " key " in: " $0 > "/dev/stderr"; failed = 1; exit 1 }
    text = substr($0, RSTART, RLENGTH); sub(/.*: */, "", text); return text + 0
}
BEGIN { printf "%-8s %10s %16s %9s %11s %8s\n", "", "accuracy", "95 % interval", "boxed", "cut off", "tokens" }
{
    printf "%-8s %8.1f %% %8.1f - %5.1f %7.1f %% %9.1f %% %8.1f\n", $1, value("accuracy"), value("ci_low"), value("ci_high"),
        value("format_rate"), value("truncation_rate"), value("mean_length"); n = value("n")
}
END { if (!failed) printf "%d problems not seen in training, one sample each at temperature 1\n", n }' "$table"
echo "training took $seconds s; the vectors: $checkpoint/steering_vectors.safetensors"

scripts/venv.sh || exit 0 # it has said why there will be no pictures
.venv/bin/python scripts/plot/accuracy.py before="$before" after="$after" --title 'Tiny model, arithmetic' --out accuracy.png
.venv/bin/python scripts/plot/learning_curve.py "tiny model, a vector per layer=$run/metrics.jsonl" --out learning_curve.png
