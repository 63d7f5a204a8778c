#!/usr/bin/env bash
# The first run on a GPU, in at most 8 minutes: does it load, is it right, how fast is it. Each step has a time limit, a log and a line of the
# summary; a step that fails does not keep the next ones from running. Nothing is built and nothing fetched: dev/gpu/pack.sh has made
# build/first_run before, on a machine with nvcc.
# Usage: dev/gpu/first_run.sh [--rehearse] [STEP...]; steps: all, or those named. --rehearse: the emulator in place of the GPU, small models.
# OUT=DIR: where summary.txt and logs.tar.gz go (build/first_run_out). PYTHON: one that has torch and transformers (python3).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
script=$PWD/dev/gpu/first_run.sh rehearse='' one='' # one: a step, for which the script calls itself
if [ "${1:-}" = --rehearse ]; then rehearse=1; shift; fi
if [ "${1:-}" = --one ]; then one=$2; shift 2; fi
all=(load products lab tests sanitizer logprobs tiny bench05 bench7 torch memory kernels)
[ $# -gt 0 ] || set -- "${all[@]}"
out=${OUT:-build/first_run_out} packed=build/first_run python=${PYTHON:-python3}
logs=$out/logs
total=480 # seconds for everything
start=$SECONDS
mkdir -p "$logs"

if [ ! -x "$packed/bin/eval_steer" ]; then
    echo "error: $packed/bin/eval_steer is not there" >&2
    echo "  -> dev/gpu/pack.sh${rehearse:+ with EMULATE=1} makes it, where there is nvcc" >&2
    exit 1
fi
# Our libraries and cuBLASLt (the toolkit's, or torch's) are for our programs alone: Python keeps its own. Tests and comparisons want the
# programs beside them.
bin=$packed/bin
theirs=$("$python" -c '
import glob, site
print(":".join(sorted({f.rsplit("/", 1)[0] for d in site.getsitepackages() for f in glob.glob(d + "/nvidia/**/libcublasLt.so*", recursive=True)})))' 2>/dev/null)
libraries=$PWD/$packed/lib:/usr/local/cuda/lib64:$theirs:${LD_LIBRARY_PATH:-}
if [ -z "$one" ]; then
    for name in train_steer eval_steer test_steer; do
        rm -f $name
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "'$libraries'" "'$PWD/$bin/$name'" > $name
        chmod +x $name
    done
    trap 'rm -f train_steer eval_steer test_steer' EXIT # or make would take them for built
fi
export OMP_WAIT_POLICY=passive
models=${MODELS:-$([ -z "$rehearse" ] && [ -w /dev/shm ] && echo /dev/shm/first_run || echo "$out/models")}

if [ -n "$rehearse" ]; then
    large=small larger=small torch=cpu ours=cpu suites=(model) bench05=(--batch 2 --prompt_length 8 --new_tokens 2) bench7=(--batch 2 --prompt_length 8 --new_tokens 2)
    bench_phase=rollout tiny_options=(--max_steps 2 --prompts_per_step 2) tiny_limit=8 wanted=0
    memory_options=(--max_steps 1 --prompts_per_step 2 --num_generations 2 --max_completion_length 8)
    lab_sizes() {
        case $1 in
        rmsnorm) echo 5 132 ;; column_sum) echo 300 37 ;; swiglu) echo 7 52 ;; logprob) echo 3 1031 ;; matmul) echo 33 40 65 ;; *) echo 5 3 2 6 2 2 24 ;;
        esac
    }
else
    large=0.5B larger=7B torch=cuda ours=cuda suites=(cuda model rollout tuning memory) bench05=(--batch '64,256,1024' --activation_memory 16) bench7=(--batch '64,256,512' --activation_memory 24)
    bench_phase=all tiny_options=() tiny_limit=500 wanted=90
    memory_options=(--max_steps 2 --prompts_per_step 16 --num_generations 8 --max_completion_length 128 --rollout_batch_size 128 --activation_memory 8)
    lab_sizes() { :; }
fi

# ----------------------------------------------------------------------------
# the steps

say() { printf '\n$ %s\n' "$*"; }
run() { say "$@"; "$@"; }
run_lab() { say "$@"; LD_LIBRARY_PATH=$libraries "$@"; }

load() {
    if [ -z "$rehearse" ]; then run nvidia-smi || return; fi
    LD_LIBRARY_PATH=$libraries ldd "$bin/eval_steer" | grep 'not found' && return 1
    run ./eval_steer generate --model data/tiny/model --device cuda --prompt 'What is 2 + 3?' --max_completion_length 8 --temperature 0
}

products() { run_lab "$bin/products" ${rehearse:+1}; }

lab() {
    local name failed=0
    for name in rmsnorm attention logprob column_sum swiglu matmul; do
        # shellcheck disable=SC2046 # sizes are several words
        run_lab "$bin/$name" 0 $(lab_sizes $name) || failed=1
    done
    return $failed
}

tests() { run ./test_steer -j 1 "${suites[@]}"; }

sanitizer() {
    local check=(compute-sanitizer --error-exitcode 9 --target-processes all)
    if ! command -v compute-sanitizer >/dev/null; then
        echo "no compute-sanitizer here: the same commands without it"
        check=()
    fi
    # shellcheck disable=SC2046
    run_lab ${check[@]+"${check[@]}"} "$bin/attention" 6 5 3 2 6 2 2 24 && run_lab ${check[@]+"${check[@]}"} "$bin/logprob" 4 3 1031 &&
        run ${check[@]+"${check[@]}"} ./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml --device cuda --max_steps 1 \
            --prompts_per_step 1 --num_generations 2 --max_completion_length 8 --output_dir "$out/sanitized"
}

# Made in the background from the start; a step that wants one waits for it.
weights() {
    until [ -f "$models/$1/model.safetensors" ]; do
        kill -0 $weights_pid 2>/dev/null || [ -f "$models/$1/model.safetensors" ] || { echo "no weights: see weights.log"; return 1; }
        sleep 0.2
    done
}

logprobs() { weights $large && run "$python" dev/gpu/compare.py logprobs "$models/$large" --torch $torch; }

tiny() {
    local before after line run=$out/tiny
    rm -rf "$run" "$out/answers"
    accuracy() { sed -nE 's/.*"accuracy" *: *([0-9.]+).*/\1/p' <<< "$1"; }
    evaluate() {
        ./eval_steer eval --config scripts/eval/tiny/arithmetic.yml --checkpoint "$1" --results_dir "$out/answers" --json --device cuda --limit $tiny_limit
    }
    line=$(evaluate none) || return
    before=$(accuracy "$line")
    run ./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml --output_dir "$run" --device cuda ${tiny_options[@]+"${tiny_options[@]}"} || return
    line=$(evaluate "$(find "$run" -name 'checkpoint-*' -type d | sort -V | tail -n 1)") || return
    after=$(accuracy "$line")
    echo "accuracy: $before before, $after after training; wanted: $wanted"
    awk -v a="$after" -v w="$wanted" 'BEGIN { exit !(a != "" && a >= w) }'
}

bench() { # bench MODEL OPTION...: its lines also go to MODEL.jsonl
    local model=$1 phase
    shift
    weights "$model" || return
    : > "$out/$model.jsonl"
    for phase in $([ $bench_phase = all ] && echo rollout forward_backward grpo_step || echo $bench_phase); do
        say ./eval_steer bench --model "$models/$model" --device cuda --phase "$phase" "$@"
        ./eval_steer bench --model "$models/$model" --device cuda --phase "$phase" --json "$@" | tee -a "$out/$model.jsonl" || return
    done
    "$python" -c '
import json, sys
for line in open(sys.argv[1]):
    x = json.loads(line)
    print("{phase:16} batch {batch:5} {tokens_per_s:12.1f} tokens/s".format(**x), " {:.0f} % of the limit, {:.1f} GiB".format(
        100 * x["tokens_per_s"] / x["limit_tokens_per_s"], x["resident_gib"]))' "$out/$model.jsonl"
}
bench05() { bench $large "${bench05[@]}"; }
bench7() { bench $larger "${bench7[@]}"; }

torch() {
    weights $large || return
    local lines=$out/$large.jsonl
    grep -q grpo_step "$lines" 2>/dev/null || lines=
    run "$python" dev/gpu/compare.py speed "$models/$large" --torch $torch --device $ours ${lines:+--bench "$lines"}
}

memory() {
    weights $large || return
    local before=0 poll='' log=$logs/memory_used.txt
    if command -v nvidia-smi >/dev/null && [ -z "$rehearse" ]; then
        before=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n 1)
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 100 > "$log" &
        poll=$!
    fi
    run ./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml --model "$models/$large" --model_name random --device cuda \
        --reward random --output_dir "$out/memory" "${memory_options[@]}" | tee "$out/memory_plan.txt"
    local status=$?
    [ -z "$poll" ] || { kill "$poll"; wait "$poll" 2>/dev/null; }
    [ $status = 0 ] || return $status
    grep -E '^memory ' "$out/memory_plan.txt" || return
    if [ -n "$poll" ]; then
        awk -v b="$before" '{ if ($1 > m) m = $1 } END { printf "used at most, with what the driver had before (%d MiB): %d MiB = %.2f GiB\n", b, m, m / 1024 }' "$log"
    fi
}

kernels() {
    weights $large || return
    local train=(./train_steer --config scripts/train/rl/tiny/arithmetic/steering.yml --model "$models/$large" --model_name random --device cuda
        --reward random --max_steps 1 --prompts_per_step 2 --num_generations 2 --max_completion_length 4 --output_dir "$out/kernels")
    if [ -n "$rehearse" ] || ! command -v ncu >/dev/null; then
        echo "no ncu here: the step alone"
        run "${train[@]}"
        return
    fi
    say ncu "${train[@]}"
    timeout -s INT 45 ncu --csv --metrics gpu__time_duration.sum --clock-control none --launch-count 6000 --target-processes all --log-file "$out/kernels.csv" \
        "${train[@]}" > /dev/null # what it has seen until then is worth having
    "$python" - "$out/kernels.csv" << 'P'
import collections, csv, re, sys
rows = [r for r in csv.reader(open(sys.argv[1])) if len(r) > 5]
head, rows = rows[0], [r for r in rows[1:] if len(r) == len(rows[0])]
name, unit, value = head.index("Kernel Name"), head.index("Metric Unit"), head.index("Metric Value")
scale = {"nsecond": 1e-3, "ns": 1e-3, "usecond": 1, "us": 1, "msecond": 1e3, "ms": 1e3, "second": 1e6, "s": 1e6}
time, count = collections.Counter(), collections.Counter()
for r in rows:
    if r[unit] not in scale:
        continue
    k = re.sub(r"<.*|\(.*", "", r[name])[:60]
    time[k] += float(r[value].replace(",", "")) * scale[r[unit]]
    count[k] += 1
all_ = sum(time.values())
print(f"{sum(count.values())} kernels, {all_ / 1e3:.2f} ms")
for k, us in time.most_common(25):
    print(f"{100 * us / all_:5.1f} %  {us / 1e3:9.3f} ms  {count[k]:6} times  {k}")
P
}

# ----------------------------------------------------------------------------
# running them

# Seconds that a step may take. Together that is more than `total`, which ends the last ones early where all take as long as they may.
limit_of() {
    case $1 in
    load) echo 15 ;; products) echo 35 ;; lab) echo 30 ;; tests) echo 110 ;; sanitizer) echo 45 ;; logprobs) echo 40 ;;
    tiny) echo 50 ;; bench05) echo 40 ;; bench7) echo 50 ;; torch) echo 45 ;; memory) echo 30 ;; kernels) echo 60 ;;
    *) echo "error: step $1: expected one of ${all[*]}" >&2; exit 2 ;;
    esac
}

step() {
    local name=$1 limit left begin=$SECONDS status line
    limit=$(limit_of "$name") || exit 2
    [ -z "$rehearse" ] || limit=$((3 * limit)) # one slow core instead of a GPU
    left=$((total - SECONDS + start))
    if [ $left -lt 5 ]; then
        printf '%-10s left out: no time\n' "$name" | tee -a "$out/summary.txt"
        return 1
    fi
    [ "$limit" -le "$left" ] || limit=$left
    timeout -k 3 "$limit" "$script" ${rehearse:+--rehearse} --one "$name" > "$logs/$name.log" 2>&1 < /dev/null # ends all that the step has started
    status=$?
    line=$(grep -vE '^ *$' "$logs/$name.log" | tail -n 1 | cut -c1-150)
    { [ $status != 124 ] && [ $status != 137 ]; } || line="ended after $((SECONDS - begin)) of $limit s; last: $line"
    printf '%-10s %-7s %4d s  %s\n' "$name" "$([ $status = 0 ] && echo ok || echo "FAILED")" $((SECONDS - begin)) "$line" | tee -a "$out/summary.txt"
    [ $status = 0 ]
}

if [ -n "$one" ]; then
    "$one"
    exit
fi
for name; do limit_of "$name" > /dev/null || exit 2; done
: > "$out/summary.txt"
(for shape in $(printf '%s\n' $large $larger | sort -u); do "$python" dev/gpu/make_model.py "$shape" "$models/$shape"; done) > "$logs/weights.log" 2>&1 &
export weights_pid=$!
failed=0
for name; do step "$name" || failed=$((failed + 1)); done
printf '%d steps, %d failed, %d s%s\n' $# $failed $((SECONDS - start)) "${rehearse:+, a rehearsal: nothing here is a GPU}" | tee -a "$out/summary.txt"
kill $weights_pid 2>/dev/null
[ -n "${KEEP_MODELS:-}" ] || rm -rf "$models"
tar -czf "$out/logs.tar.gz" -C "$out" logs
[ $failed = 0 ]
