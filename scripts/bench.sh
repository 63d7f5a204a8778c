#!/usr/bin/env bash
# `make bench`: scripts/bench.sh MODEL_DIR [PEERS_DIR]. Run it with nothing else running.
# Prints the phases against this machine's limits; then measures how the cost grows with the batch, the lengths and the
# threads (results/bench/NAME/growth.jsonl, growth.png); then, with PEERS_DIR, compares with other programs.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:?usage: scripts/bench.sh MODEL_DIR [PEERS_DIR]}
peers=${2-}
out=results/bench/$(basename "$model")
mkdir -p "$out"
./eval_steer bench --model "$model" --batch 1,16,64 | tee "$out/phases.txt"

context=$(grep -o '"max_position_embeddings": *[0-9]*' "$model/config.json" | grep -o '[0-9]*$')
growth=$out/.tmp-growth.jsonl # in the place of an earlier one when it is whole
: > "$growth"

# sweep NAME OPTIONS...: the lines of one bench, with NAME as what grows
sweep() {
    name=$1
    shift
    ./eval_steer bench --model "$model" --json "$@" | sed "s/^{/{\"sweep\":\"$name\",/" >> "$growth"
}

for batch in 1 2 4 8 16 32 64 128; do sweep batch --phase rollout --batch $batch; done
for length in 64 128 256 512 1024 2048; do
    [ $((length + 129)) -gt "$context" ] && continue
    sweep prompt_length --phase rollout --batch 8 --prompt_length $length
    sweep new_tokens --phase rollout --batch 8 --new_tokens $length
done
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
for ((threads = 1; threads <= cores; threads *= 2)); do
    OMP_NUM_THREADS=$threads sweep threads --batch 64
done
mv -f "$growth" "$out/growth.jsonl"

echo
awk '
function get(key) { match($0, "\"" key "\":\"?[^,}\"]+"); text = substr($0, RSTART, RLENGTH); sub(/.*:"?/, "", text); return text }
BEGIN { printf "%-14s %-17s %6s %7s %5s %8s %11s %9s\n", "grows", "phase", "batch", "prompt", "new", "threads", "tokens/s", "GiB" }
{ printf "%-14s %-17s %6s %7s %5s %8s %11.4g %9s\n", get("sweep"), get("phase"), get("batch"), get("prompt_length"), get("new_tokens"), get("threads"),
         get("tokens_per_s"), get("resident_gib") }' "$out/growth.jsonl" | tee "$out/growth.txt"
if scripts/venv.sh; then .venv/bin/python scripts/plot/bench.py "$out/growth.jsonl" --out "$out/growth.png"; fi

if [ -n "$peers" ]; then python3 dev/bench/peers.py "$peers" "$model" --json "$out/peers.json" | tee "$out/peers.txt"; fi
