#!/usr/bin/env bash
# What `make check` runs, for those who change the code: the tests under ASan and UBSan, other compilers, C++17, cppcheck, shellcheck, a
# minute of fuzzing, the installer, CONTRIBUTING's diffs, the commands of the pages and of one_vector.md, objects for macOS, two hosts. A tool
# that is not here is named and skipped.
# MAKE, CXX, CFLAGS, LEVELS, CORES: make's. COMPILERS: which ones, beside CC.
# shellcheck disable=SC2086 # MAKE may have words
set -euo pipefail
cd "$(dirname "$0")/../.."
have() { command -v "$1" >/dev/null || { echo "skipped: $1 not found"; return 1; }; }
said() { (set -x; "$@"); }

$MAKE BUILD=build/sanitized CFLAGS="$CFLAGS -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" build/sanitized/test_steer
OMP_WAIT_POLICY=passive build/sanitized/test_steer -j "$CORES"
for cc in ${COMPILERS:-$(compgen -c | grep -E '^(gcc|clang)-[0-9]+$' | sort -uV)}; do # every one that is installed
    said $MAKE BUILD="build/$cc" CC="$cc" all
    said "build/$cc/test_steer" matmul ops bits
done
if have "${CXX%% *}"; then said $MAKE BUILD=build/cxx CC="$CXX" DIALECT='-std=c++17 -Wno-missing-field-initializers -x c++' all; fi
if have cppcheck; then
    check=(cppcheck --quiet --error-exitcode=1 --std=c11 --language=c "--enable=warning,portability" --suppressions-list=dev/cppcheck.txt -I.)
    said "${check[@]}" --include=dev/cppcheck.h train_steer.cu eval_steer.cu test_steer.c llmc/cpu/backend.c
    for level in $LEVELS; do said "${check[@]}" -DSIMD="$level" llmc/cpu/level.c; done
fi
if have shellcheck; then said shellcheck .ci/run scripts/*.sh scripts/multi_node/*.sh dev/bench/*.sh dev/gpu/*.sh dev/test/*.sh dev/results/*.sh; fi
if have clang; then dev/test/fuzz.sh 60; fi
dev/test/setup.sh
dev/test/contributing.sh
dev/test/readme.sh
dev/test/one_vector.sh all
dev/test/macos_objects.sh
dev/test/two_hosts.sh
