#!/usr/bin/env bash
# scripts/format.sh [--check]: lays out all C and CUDA code as .clang-format says; with --check only names the files that are not laid out
# so, and fails if there are any. What the tool would spoil (assembly, tables whose rows are words) stands between the comments
# `clang-format off` and `clang-format on`. By one version of the tool, for others lay out otherwise: found in PATH or in .venv, into which
# it is installed from the Python package index; where it cannot be had, that is said, and nothing is checked.
set -euo pipefail
cd "$(dirname "$0")/.."
version=23.1.3

tool=''
for candidate in clang-format .venv/bin/clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q " $version\b"; then tool=$candidate; fi
done
if [ -z "$tool" ]; then
    if { [ -x .venv/bin/pip ] || python3 -m venv .venv; } >/dev/null 2>&1 &&
        .venv/bin/pip -q --disable-pip-version-check --retries 1 --timeout 15 install "clang-format==$version" >/dev/null 2>&1
    then tool=.venv/bin/clang-format
    else
        echo "skipped: the layout of the code: clang-format $version was not found and could not be installed into .venv (python3-venv? network?)"
        [ "${1-}" = --check ] # to be asked to format and not to do so is a failure
        exit
    fi
fi
mapfile -t files < <(git ls-files '*.c' '*.cpp' '*.cu' '*.cuh' '*.h')
if [ "${1-}" != --check ]; then
    "$tool" -i "${files[@]}"
    exec "$tool" -i "${files[@]}" # strings and macros that the first pass has broken anew may want a second
fi
wrong=()
for file in "${files[@]}"; do "$tool" "$file" | cmp -s - "$file" || wrong+=("$file"); done
for file in "${wrong[@]}"; do echo "FAILED: $file is not laid out as .clang-format says: make format"; done
echo "$((${#files[@]} - ${#wrong[@]})) passed, ${#wrong[@]} failed"
[ ${#wrong[@]} = 0 ]
