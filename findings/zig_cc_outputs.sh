#!/usr/bin/env bash
# zig cc (ziglang 0.17.1 from PyPI) in place of gcc or clang in a build's probes: `zig cc -c -o /dev/null x.c` succeeds, and leaves the object
# as x.o in the current folder; gcc and clang write nothing. So a probe that is run in a source tree litters it, and overwrites an x.o that
# another rule has made. Runs in a temporary folder; fails if that has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check ziglang==0.17.1
export ZIG_GLOBAL_CACHE_DIR="$dir/cache" ZIG_LOCAL_CACHE_DIR="$dir/cache"
mkdir "$dir/zig" "$dir/cc"
echo 'int f(void) { return 1; }' > "$dir/x.c"
(cd "$dir/zig" && "$dir/venv/bin/python" -m ziglang cc -c -o /dev/null "$dir/x.c")
(cd "$dir/cc" && cc -c -o /dev/null "$dir/x.c")
echo "zig cc -c -o /dev/null x.c leaves: $(ls "$dir/zig")"
echo "cc -c -o /dev/null x.c leaves: $(ls "$dir/cc")"
[ -s "$dir/zig/x.o" ] && [ -z "$(ls "$dir/cc")" ] || { echo 'CHANGED'; exit 1; }
