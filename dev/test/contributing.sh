#!/usr/bin/env bash
# dev/test/contributing.sh: applies the diffs of dev/CONTRIBUTING.md to a copy of what git tracks, builds, and runs the suites that the
# page names; those of the CUDA kernels in the emulator, too, where the toolkit's headers are. Ends in `N passed, N failed`, one for each
# diff, build and suite.
# MAKE: make's. For speed two levels of the CPU's kernels are built.
# shellcheck disable=SC2086 # MAKE may have words
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
passed=0 failed=0
make=${MAKE:-make}
said() { if "${@:2}" > "$copy/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; tail -n 20 "$copy/log"; fi; }

git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy" || exit
cd "$copy" || exit
mkdir -p build
awk '/^```/ { inside = /^```diff$/ && !inside; n += inside; next } inside { print > "build/" n ".diff" }' dev/CONTRIBUTING.md
[ -f build/2.diff ] || { echo 'error: dev/CONTRIBUTING.md holds no two diffs' >&2; exit 1; }
for diff in build/*.diff; do said "$diff does not apply" patch -p1 -s --no-backup-if-mismatch -i "$diff"; done
levels='portable avx2'
[ "$(uname -m)" = x86_64 ] || levels='portable neon'
said 'it does not build' $make -j2 CUDA=0 MPI=0 LEVELS="$levels" test_steer
[ -x test_steer ] || { echo "$passed passed, $failed failed"; exit 1; }
./test_steer options > build/stale 2>&1 && { echo 'FAILED: the stale dev/doc/options.md was not noticed'; failed=$((failed + 1)); }
cp build/options.md dev/doc/options.md
for suite in answer options ops; do said "suite $suite" ./test_steer $suite; done
if $make -n CUDA=emulate test_steer >/dev/null 2>&1; then
    said 'it does not build for the emulator' $make -j2 CUDA=emulate MPI=0 LEVELS="$levels" test_steer
    said 'suite cuda' ./test_steer cuda
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
