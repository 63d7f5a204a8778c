#!/usr/bin/env bash
# What `make CUDA=emulate test` runs: the CUDA kernels on the CPU. The emulator's own tests; every operation with all accesses checked;
# every operation under three orders of blocks and threads, whose outputs must be the same bits; then the model, sampling, the programs, ranks with GPUs
# and the kernel lab; where there is nvcc, what it says of the kernels. Ends in `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
export OMP_WAIT_POLICY=passive
passed=0 failed=0 bits=''
log=$(mktemp)
checked=$(mktemp)
trap 'rm -f "$log" "$checked"' EXIT

# run WHAT COMMAND...: counts what it printed last; a command that did not end well is a failure more.
run() {
    echo "== $1"
    shift
    local rc=0 line
    "$@" > "$log" 2>&1 || rc=$?
    cat "$log"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    read -r p _ f _ <<< "${line:-0 passed, 0 failed}"
    passed=$((passed + p)) failed=$((failed + f))
    if [ "$rc" != 0 ] && [ "$f" = 0 ]; then
        echo "FAILED: $* ended with status $rc"
        failed=$((failed + 1))
    fi
}

run 'the emulator: planted bugs are named, clean kernels are not' dev/cuda_on_cpu/test/run.sh
build/test_checked cuda > "$checked" 2>&1 & # takes one core as long as the three schedules take another
pid=$!
for schedule in forward reverse random:1; do
    export CUDA_ON_CPU_SCHEDULE=$schedule CUDA_ON_CPU_LAZY=1
    run "every operation, schedule $schedule, work done only when waited for" ./test_steer cuda
    bits+=" $(grep -oE "outputs' bits [0-9a-f]+" "$log" | cut -d ' ' -f 3)"
done
unset CUDA_ON_CPU_SCHEDULE CUDA_ON_CPU_LAZY
if [ "$(tr ' ' '\n' <<< "$bits" | grep -c .)" = 3 ] && [ "$(tr ' ' '\n' <<< "$bits" | grep . | sort -u | wc -l)" = 1 ]; then
    passed=$((passed + 1))
else
    echo "FAILED: the outputs depend on the schedule:$bits"
    failed=$((failed + 1))
fi
ended() { wait "$pid"; local rc=$?; cat "$checked"; return $rc; }
run 'every operation, all accesses checked' ended
run 'the model, sampling, what can be trained, the programs' ./test_steer model rollout tuning programs memory
run 'several ranks with a GPU each' ./test_steer gpus
run 'the kernel lab' dev/cuda/emulate.sh
if [ -x "${CUDA_HOME:-}/bin/nvcc" ]; then run 'nvcc: no warning, no spill, registers as recorded' dev/cuda/resources.sh; fi
if command -v python3 >/dev/null; then
    if dev/cuda/roofline.py --check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
