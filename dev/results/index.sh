#!/usr/bin/env bash
# dev/results/index.sh [--check] [FOLDER]: makes FOLDER/README.md (default: dev/results), the index of its runs, from the heads of
# their README.md. With --check writes nothing: names each README that breaks the rules below and an index that its runs would not
# make, and ends in `N passed, N failed`, a README each.
#
# A run or a comparison is a folder <date>_<what>/. Its README.md has at most 40 lines: a title ("# ..."), an empty line, then a list of
# Question, Date (the folder's), Command, Commit, Machine, Result, each in one line; behind an empty line whatever else is to be said.
set -euo pipefail
check=
if [ "${1-}" = --check ]; then check=1; shift; fi
folder=${1-$(dirname "$0")}
[ -d "$folder" ] || { printf 'error: the index of runs: no folder %s\n  -> dev/results/index.sh [--check] [FOLDER]\n' "$folder" >&2; exit 2; }
cd "$folder"

# What is wrong with the README of run $1, a line each.
wrong() {
    if [ ! -f "$1/README.md" ]; then echo "$1: has no README.md"; return; fi
    awk -v run="$1" '
        function expect(ok, what) { if (!ok) print run "/README.md:" NR ": found \"" $0 "\", expected " what }
        BEGIN { n = split("Question Date Command Commit Machine Result", key, " ") }
        NR == 1 { expect(/^# ./, "a title, \"# ...\"") }
        NR == 2 || NR == n + 3 { expect($0 == "", "an empty line") }
        NR > 2 && NR <= n + 2 { expect(index($0, "- " key[NR - 2] ": ") == 1 && length($0) > length(key[NR - 2]) + 4, "\"- " key[NR - 2] ": ...\"") }
        NR == 4 { expect($0 == "- Date: " substr(run, 1, 10), "the date of the folder") }
        END {
            if (NR > 40) print run "/README.md: " NR " lines, at most 40 are wanted: put tables into files beside it"
            if (NR < n + 2) print run "/README.md: ends within the head: Question, Date, Command, Commit, Machine, Result are wanted"
        }' "$1/README.md"
}

# The runs, newest first.
runs() { find . -mindepth 1 -maxdepth 1 -type d | sed 's|^\./||' | LC_ALL=C sort -t_ -k1,1r -k2; }

index() {
    cat <<'END'
# Results

The runs and comparisons that the project reports, newest first, each in a folder of its own: what was asked, the commands, the commit, the
machine and the answer in its `README.md`; beside it what was measured, the configuration and the vectors.

Accuracies are percentages of problems whose last boxed answer equals the gold answer, with 95 % intervals in brackets (Wilson for one sample
a problem). Base and trained models are decoded the same way. "lost" and "won" are problems that were right without only, and with only.

The `metrics.jsonl` up to 2026-11-29 are older than [metrics.md](../doc/metrics.md): their `reward_std` is the mean of the groups' standard
deviations, `num_tokens` counts completions alone, `entropy` is over the completions that were trained on, and `step_time` includes validation.

`dev/results/index.sh` makes this page from the heads of the folders' `README.md`, and says what a head holds; `make test` says when it is stale.

| date | question | result | run |
|---|---|---|---|
END
    local run
    for run in $(runs); do # links in a head are the folder's; here they start from the folder above
        awk -v run="$run" '
            function value() { sub(/^- [A-Z][a-z]*: /, ""); gsub(/\]\(\.\.\//, "]("); return $0 }
            /^- Question: / && !question { question = value() }
            /^- Result: / && !result { result = value() }
            END { printf "| %s | %s | %s | [%s](%s) |\n", substr(run, 1, 10), question, result, substr(run, 12), run }' "$run/README.md"
    done
}

passed=0 failed=0
for run in $(runs); do
    found=$(wrong "$run")
    [[ $run =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}_[a-z0-9_]+$ ]] || found="$run: expected a folder <date>_<what>, in lower case"
    if [ -z "$found" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "$found" >&2; fi
done
if [ -z "$check" ]; then
    [ "$failed" = 0 ] || { echo "error: the index was not written: mend these first" >&2; exit 1; }
    index > README.md.new && mv README.md.new README.md
    exit
fi
if [ "$failed" = 0 ] && index | cmp -s - README.md; then passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "README.md is not what the heads of its runs make: dev/results/index.sh makes it anew" >&2
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
