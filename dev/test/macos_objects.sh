#!/usr/bin/env bash
# dev/test/macos_objects.sh ['FILE FLAG...' ...]: does everything compile for macOS? By zig, which has the system's headers but not its
# libraries, so objects are made and nothing is linked. Without arguments the files and flags are those that `make` would use for that
# compiler. TARGET: aarch64-macos (default), x86_64-macos. Stops at the first file that does not compile; ends in `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${TARGET:-aarch64-macos}
if [ -z "${ZIG-}" ]; then
    if .venv/bin/python -m ziglang version >/dev/null 2>&1; then ZIG='.venv/bin/python -m ziglang'
    elif command -v zig >/dev/null; then ZIG=zig
    else
        echo 'skipped: objects for macOS: zig was not found (scripts/setup.sh --ports installs it)'
        exit 0
    fi
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Copies of the libraries' headers, alone: beside them lie those of this system's C library.
for header in cjson/cJSON.h gmp.h pcre2.h utf8proc.h yaml.h; do
    mkdir -p "$dir/include/$(dirname $header)"
    file=$(printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <%s>\n' $header | ${HOSTCC:-cc} -M -x c - | tr -s ' \134' '\n' | grep "/$header\$" | head -n 1) || true
    [ -n "$file" ] || { printf 'error: looking for the headers to compile with: %s was not found\n  -> scripts/setup.sh\n' $header >&2; exit 1; }
    cp "$file" "$dir/include/$header"
done

compiler="$ZIG cc -target $target"
passed=0

# compile FILE FLAG...: the object must be one for macOS (its first bytes say so).
compile() {
    local file=$1
    shift
    # shellcheck disable=SC2086 # words
    if $compiler "$@" -idirafter "$dir/include" -c -x c "$file" -o "$dir/object" >"$dir/log" 2>&1 &&
        [ "$(od -An -t x1 -N 4 "$dir/object" | tr -d ' ')" = cffaedfe ]; then
        echo "compiled for $target: $file"
        passed=$((passed + 1))
    else
        head -n 40 "$dir/log"
        echo "FAILED: $compiler $* -c $file"
        echo "$passed passed, 1 failed"
        exit 1
    fi
}

if [ $# -gt 0 ]; then
    for argument in "$@"; do
        read -r -a words <<< "$argument"
        compile "${words[@]}"
    done
else
    # What make would run, less what goes with linking and dependencies. That the libraries cannot be linked does not stop it: -n. Asked
    # for its version, zig cc leaves an empty a.o after; so it is not asked. It knows CPUs, no
    # features of -march: the bf16 level is compiled for a CPU that has it.
    printf '#!/bin/sh\n[ "$*" != --version ] || { echo zig; exit; }\nexec %s "$@"\n' "$compiler" > "$dir/cc"
    chmod +x "$dir/cc"
    make -n -B CC="$dir/cc" CPPFLAGS="-idirafter $dir/include" FLAGS_neon_bf16=-mcpu=apple_m2 MPI=0 CUDA=0 OPENMP=0 all > "$dir/commands" 2>"$dir/log" || { cat "$dir/log" >&2; exit 1; }
    while read -r command; do
        read -r -a words <<< "${command#"$dir/cc "}"
        files=() flags=()
        skip=''
        for word in "${words[@]}"; do
            if [ -n "$skip" ]; then skip=''; continue; fi
            case $word in
            -o | -x | -MF | -MT | -isystem | -idirafter) skip=yes ;;
            -c | -M* | -l* | -L* | -Wl,* | *.o | *.a) ;;
            -*) flags+=("$word") ;;
            *.c | *.cu) files+=("$word") ;;
            *) printf 'error: reading what make would run: found "%s" in: %s\n  -> teach dev/test/macos_objects.sh what it is\n' "$word" "$command" >&2; exit 1 ;;
            esac
        done
        for file in ${files[@]+"${files[@]}"}; do compile "$file" "${flags[@]}"; done
    done < <(sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' "$dir/commands" | grep "^$dir/cc ") # a command that goes on in the next line is one
fi
echo "$passed passed, 0 failed"
[ "$passed" -gt 0 ]
