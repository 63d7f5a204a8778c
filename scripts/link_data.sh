#!/usr/bin/env bash
# scripts/link_data.sh DIR: the recipes read data/<name>.jsonl; this links every DIR/*.jsonl there. A file that is not a link stays.
set -euo pipefail
from=$(cd -- "${1:?"usage: scripts/link_data.sh DIR (a folder of .jsonl files)"}" >/dev/null && pwd -P)
cd "$(dirname "$0")/../data"
n=0
for file in "$from"/*.jsonl; do
    [ -e "$file" ] || { echo "error: no .jsonl file in $from" >&2; exit 1; }
    name=$(basename "$file")
    if [ -e "$name" ] && [ ! -L "$name" ]; then
        echo "kept data/$name: it is a file, not a link" >&2
        continue
    fi
    ln -sfn "$file" "$name"
    n=$((n + 1))
done
echo "$n files linked into data/"
