#!/usr/bin/env bash
# What `make CUDA=emulate test` runs: the CUDA kernels on the CPU. The emulator's own tests; every operation with all accesses checked;
# every operation under three orders of blocks and threads, on three kinds of GPU, whose outputs must be the same bits; then the model, sampling, the programs, ranks with GPUs
# and the kernel lab; where there is nvcc, what it says of the kernels. Ends in `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export OMP_WAIT_POLICY=passive
passed=0 failed=0
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
jobs=$(nproc)
whats=() commands=() pids=()

# start WHAT COMMAND...: in the background, as soon as a core is free; its output is kept.
start() {
    local i=${#pids[@]}
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n 2>/dev/null; done
    whats[i]=$1
    shift
    commands[i]="$*"
    "$@" > "$out/$i" 2>&1 &
    pids[i]=$!
}

# Waits for all that was started; prints it in order and counts what each printed last. A command that did not end well is a failure more.
finish() {
    local i rc line
    for i in "${!pids[@]}"; do
        rc=0
        wait "${pids[i]}" || rc=$?
        echo "== ${whats[i]}"
        cat "$out/$i"
        line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$out/$i" | tail -n 1)
        read -r p _ f _ <<< "${line:-0 passed, 0 failed}"
        passed=$((passed + p)) failed=$((failed + f))
        if [ "$rc" != 0 ] && [ "$f" = 0 ]; then
            echo "FAILED: ${commands[i]} ended with status $rc"
            failed=$((failed + 1))
        fi
    done
}

start 'every operation, all accesses checked' build/test_checked cuda # the longest
for how in 'forward 80' 'reverse 90' 'random:1 100'; do # the last two have other numbers of multiprocessors and more shared memory, workspace
    start "every operation, schedule and architecture $how, work done only when waited for" \
        env CUDA_ON_CPU_SCHEDULE="${how% *}" CUDA_ON_CPU_ARCH="${how#* }" CUDA_ON_CPU_LAZY=1 ./test_steer cuda
done
for suite in tuning model programs; do start "on the emulated GPU: $suite" ./test_steer $suite; done
for suite in rollout memory; do
    start "on the emulated GPU, where cuBLASLt refuses odd shapes and rounds by shape: $suite" env CUDA_ON_CPU_CUBLASLT=other ./test_steer $suite
done
start 'the emulator: planted bugs are named, clean kernels are not' dev/cuda_on_cpu/test/run.sh
start 'several ranks with a GPU each' ./test_steer gpus
start 'the kernel lab' dev/cuda/emulate.sh
if [ -x "${CUDA_HOME:-}/bin/nvcc" ]; then start 'nvcc: no warning, no spill, registers as recorded' dev/cuda/resources.sh; fi
finish

bits=$(cat "$out"/[123] | grep -oE "outputs' bits [0-9a-f]+")
if [ "$(wc -l <<< "$bits")" = 3 ] && [ "$(sort -u <<< "$bits" | wc -l)" = 1 ]; then
    passed=$((passed + 1))
else
    echo "FAILED: the outputs depend on the schedule: $bits"
    failed=$((failed + 1))
fi
if command -v python3 >/dev/null; then
    if dev/cuda/roofline.py --check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
