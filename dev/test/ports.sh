#!/usr/bin/env bash
# What `make check-ports` runs: the programs on CPUs that are not here, by QEMU's user-mode emulation, and compiled for macOS.
#   x86-64   the programs of this machine on a Nehalem (SSE4.2: portable), a Haswell and an EPYC-Milan (AVX2)
#   aarch64  cross-built into build/aarch64; on a Cortex-A57 (neon) and on `max` (neon_bf16)
# Each answers as it must, trains to the bits it must (avx2 and neon alike) and passes the suites that an emulator has time for. ARM's
# programs are disassembled as `make test` does this machine's, and instructions are counted. Ends in `N passed, N failed`.
# scripts/setup.sh --ports installs what it needs; what is not there is named and skipped.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
passed=0 failed=0
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive TEST_FEW=1
suites=(options logger tokenizer text answer model_files bits levels)
left_out='on the Haswell, whose multiply-adds QEMU does in software: matmul and ops; everywhere: cuda and gpus (make CUDA=emulate test), model, intervene, rollout, tuning, memory (minutes each), and those that start programs: programs setups cost experiments export dist shard'

# ok WHAT COMMAND...: counts; shows the output of a command that failed.
ok() {
    local what=$1
    shift
    if "$@" > "$out/log" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED on $what: $*"
        tail -n 20 "$out/log"
    fi
}

question='What is 13 + 18 - 2 + 9?' # 38
answers() {
    "$@" generate --model data/tiny/model --raw --steering data/tiny/vectors/steering.safetensors --temperature 0 --max_completion_length 60 \
        --prompt "$question" | grep -F 'boxed{38}'
}

# bits NAME COMMAND...: the sum of the vectors after two small steps, trained by this command
bits() {
    local name=$1
    shift
    "$@" --config scripts/train/rl/tiny/arithmetic/steering.yml --max_steps 2 --prompts_per_step 1 --num_generations 4 \
        --max_completion_length 8 --reward random --output_dir "$out/$name" > "$out/$name.log" 2>&1 ||
        { tail -n 5 "$out/$name.log" >&2; return 1; }
    cksum < "$(find "$out/$name" -name steering_vectors.safetensors)"
}

# on NAME DIR LEVEL SUITES COMMAND...: the programs in DIR, started by COMMAND on the CPU called NAME, whose best level must be LEVEL;
# SUITES: beside those that run everywhere
on() {
    local name=$1 programs=$2 level=$3 more sum
    read -r -a more <<< "$4"
    shift 4
    echo "== $name ($level)"
    ok "$name" answers "$@" "$programs/eval_steer"
    for wrong in amx neon_bf16; do # forced, a level that it lacks is refused by name
        [ "$wrong" != "$level" ] || continue
        LLMC_ISA=$wrong "$@" "$programs/eval_steer" generate --model data/tiny/model --prompt x > "$out/refused" 2>&1
        ok "$name: LLMC_ISA=$wrong refused" grep -q "one of: $level" "$out/refused"
    done
    sum=$(bits "$name" "$@" "$programs/train_steer")
    echo "$level $sum" >> "$out/sums"
    ok "$name: trains" test -n "$sum"
    "$@" "$programs/test_steer" -j 2 "${suites[@]}" ${more[@]+"${more[@]}"} > "$out/log" 2> /dev/null
    local rc=$?
    grep -vE '^skipped|^matmul: no AMX|warning: TCG' "$out/log" | tail -n 12
    read -r p _ f _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$out/log" | tail -n 1)
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
    [ "$rc" = 0 ] || [ "${f:-0}" != 0 ] || { failed=$((failed + 1)); echo "FAILED: the tests on $name ended with status $rc"; }
}

# share LEVEL MOST: instructions of a layer's forward pass against portable's, by the difference of one and no pass
count() { qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu -plugin build/count_instructions.so -d plugin build/aarch64/lab_layer_forward "$2" 32 "$1" 2>&1 | sed -n 's/instructions: //p'; }
layer() { echo $(($(count "$1" 1) - $(count "$1" 0))); }
share() {
    local share=$(($(layer "$1") * 1000 / portable))
    echo "a layer's forward pass of 32 rows on $1: 0.$(printf %03d $share) of portable's $portable instructions (at most 0.$2)"
    [ $share -gt 0 ] && [ $share -le "$2" ]
}

if command -v qemu-x86_64 >/dev/null && [ "$(uname -m)" = x86_64 ]; then
    on Nehalem . portable 'matmul ops' qemu-x86_64 -cpu Nehalem
    on Haswell . avx2 '' qemu-x86_64 -cpu Haswell
    ok EPYC-Milan answers qemu-x86_64 -cpu EPYC-Milan ./eval_steer
else echo 'skipped: x86-64 without AVX-512: no qemu-x86_64, or another machine (scripts/setup.sh --ports)'; fi

if command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null && { [ -f .venv/arm64/complete ] || [ -n "${ARM64_LDFLAGS-}" ]; }; then
    usr=$PWD/.venv/arm64/usr
    flags=("${ARM64_CPPFLAGS--isystem $usr/include -isystem $usr/include/aarch64-linux-gnu}" "${ARM64_LDFLAGS--L$usr/lib/aarch64-linux-gnu -Wl,-rpath,$usr/lib/aarch64-linux-gnu}")
    ok aarch64 make -s NATIVE= BUILD=build/aarch64 CC=aarch64-linux-gnu-gcc CUDA=0 MPI=0 CPPFLAGS="${flags[0]}" LDFLAGS="${flags[1]}" all build/aarch64/lab_layer_forward build/aarch64/stray_neon_bf16.o
    arm='qemu-aarch64 -L /usr/aarch64-linux-gnu'
    # shellcheck disable=SC2086 # words
    on cortex-a57 build/aarch64 neon 'matmul ops' $arm -cpu cortex-a57
    # shellcheck disable=SC2086
    on max build/aarch64 neon_bf16 'matmul ops' $arm -cpu max
    ok 'aarch64: instructions of a level outside it' env OBJDUMP=aarch64-linux-gnu-objdump dev/test/strays.sh build/aarch64/{train_steer,eval_steer,test_steer}
    OBJDUMP=aarch64-linux-gnu-objdump dev/test/strays.sh build/aarch64/stray_neon_bf16.o > "$out/stray" && echo "FAILED: a stray was not seen" && failed=$((failed + 1))
    ok 'aarch64: a planted stray' grep -q 'everyone: bf16' "$out/stray"
    if "${HOSTCC:-cc}" -shared -fPIC -O2 dev/cpu/count_instructions.c -o build/count_instructions.so 2>"$out/log" &&
        export OMP_NUM_THREADS=1 && portable=$(layer portable) && [ "$portable" -gt 0 ]; then
        if share neon 550 && share neon_bf16 200; then passed=$((passed + 1)); else failed=$((failed + 1)); echo 'FAILED: more instructions than that'; fi
    else echo 'skipped: counting instructions: this QEMU takes no plugins of version 1'; fi
else echo 'skipped: aarch64: qemu-aarch64, aarch64-linux-gnu-gcc or its libraries were not found (scripts/setup.sh --ports)'; fi

# avx2 and neon train to the same bits
if [ "$(grep -cE '^(avx2|neon) ' "$out/sums" 2>/dev/null)" = 2 ]; then
    ok 'avx2 and neon: the same vectors' test "$(grep -E '^(avx2|neon) ' "$out/sums" | cut -d ' ' -f 2- | sort -u | wc -l)" = 1
fi

dev/test/macos_objects.sh > "$out/macos" 2>&1 || failed=$((failed + 1))
tail -n 4 "$out/macos"
read -r p _ < <(grep -E '^[0-9]+ passed' "$out/macos" | tail -n 1)
passed=$((passed + ${p:-0}))
echo "left out: $left_out"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
