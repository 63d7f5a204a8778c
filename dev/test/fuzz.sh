#!/usr/bin/env bash
# dev/test/fuzz.sh [SECONDS]: each libFuzzer harness of dev/test/ for so long (60), under ASan and UBSan. Fails on a finding,
# whose input stays in build/fuzz/. Needs clang with its runtime (Debian: clang libclang-rt-dev).
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
mkdir -p build/fuzz/files

# what the mutations start from: real files, each after the byte that names its parser
seed() { { printf '%b' "\\x0$1"; head -c "${3:-20000}" "$2"; } > "build/fuzz/files/$(basename "$2")"; }
seed 0 data/tiny/model/config.json
seed 1 data/tiny/model/tokenizer.json
seed 2 data/tiny/model/model.safetensors 3000
seed 3 data/tiny/test.jsonl 1000
seed 8 dev/reference/small.gguf
seed 6 data/tiny/lora1/adapter_config.json
seed 7 data/tiny/lora1/adapter_model.safetensors
seed 4 scripts/train/rl/tiny/arithmetic/steering.yml
printf '\x05{"step": 1, "updates": 1, "next_problem": 4, "tokens_total": 9, "fingerprint": "x"}' > build/fuzz/files/trainer_state.json

# the verifier's: a gold answer and a given one a file, with a byte 0xFF between them, and some that are read as formulas
mkdir -p build/fuzz/answer
between=$(printf '\377')
LC_ALL=C sed -nE "s/^\{\"gold\": \"(.*)\", \"pred\": \"(.*)\", \"equal\": .*/\\1$between\\2/; s/\\\\\\\\/\\\\/g; p" dev/test/answers.jsonl | split -l 1 -a 4 - build/fuzz/answer/case_
for i in 1 2 3 4 5 6 7 8; do
    { printf '\xFE'; head -c "$((i * 4000))" data/tiny/model/model.safetensors | tail -c 40; } > "build/fuzz/answer/formula_$i"
done

libraries=()
while read -r word; do libraries+=("$word"); done < <(CC=clang scripts/setup.sh --flags | sed -n 's/^CPPFLAGS=//p; s/^LDFLAGS=//p; s/^LIBS=//p')
for harness in dev/test/fuzz_*.c; do
    name=$(basename "$harness" .c)
    name=${name#fuzz_}
    clang -g -O1 -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -ffp-contract=off -fopenmp-simd \
        -Wno-unknown-pragmas -Wno-psabi -Wno-pass-failed -I. "$harness" -o "build/fuzz_$name" "${libraries[@]}"
    echo "fuzzing $name for $seconds s"
    mkdir -p "build/fuzz/$name"
    length=8000
    if [ "$name" = answer ]; then length=200; fi # what a long answer costs is test_answer.h's matter
    "build/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len="$length" -print_final_stats=1 \
        -artifact_prefix=build/fuzz/ "build/fuzz/$name" 2> build/fuzz/log || { tail -n 40 build/fuzz/log >&2; exit 1; }
    grep -E 'number_of_executed_units' build/fuzz/log
done
