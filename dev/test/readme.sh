#!/usr/bin/env bash
# dev/test/readme.sh: runs every command of README.md, dev/doc/*.md and dev/CONTRIBUTING.md as it is typed there, page by page, in a copy of what git
# tracks. Needs the built programs (make) and bash.
#
# What a command is: in a fence ```sh every line; in a fence without a language what follows `$ `; a line that ends in \ goes on. Commands of a fence
# share a shell. Of a command between backticks in the text, which has placeholders, the program must be there and start, and know the options.
# A fence that names a file (```json data/mine.jsonl) is that file.
#
# What is not as typed, each by a rule:
#   short      train_steer samples 4 prompts twice a step, of at most 48 tokens; eval_steer answers at most 8 problems of a benchmark
#   stand-ins  models/Qwen2.5-Coder-0.5B-Instruct is the tiny model; FOLDER_WITH_JSONL has its problems under GSM8K's names, and data/ links to them
#   not run    those of the list `not_run`, with the reason
# The last line is "N passed, M failed".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
repository=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
passed=0 failed=0
pages=(README.md dev/doc/*.md dev/CONTRIBUTING.md)

bad() { failed=$((failed + 1)); printf 'FAILED %s\n' "$1"; }
check() { if [ "$2" = 0 ]; then passed=$((passed + 1)); else bad "$1"; fi; }

# not_run COMMAND: prints why it is not run here; false: it is.
not_run() {
    case $1 in
    'make test' | 'make check' | dev/test/readme.sh | dev/test/contributing.sh) echo 'this is a part of it' ;;
    'make format') echo 'would change the code; CI runs format-check' ;;
    hf\ * | *dev/data/download.py*) echo 'needs a network' ;;
    *.gguf*) echo 'needs a model of llama.cpp' ;;
    'make CUDA=1' | *--device\ cuda*) echo 'needs a GPU' ;;
    'make CUDA=emulate test' | 'make demo DEVICE=emulate') echo 'builds and runs for minutes, and needs the headers of the CUDA Toolkit; CI runs both as typed where they are (.ci/run)' ;;
    *IS_DIST=true*) command -v mpirun >/dev/null && return 1; echo 'needs mpirun (scripts/setup.sh --mpi)' ;;
    'cmp train_output/'*) command -v mpirun >/dev/null && return 1; echo 'its first file needs mpirun' ;;
    scripts/venv.sh | *scripts/plot/*) "$repository/.venv/bin/python" -c 'import matplotlib' 2>/dev/null && return 1; echo 'needs a network, or .venv with matplotlib (scripts/venv.sh)' ;;
    *) return 1 ;;
    esac
}

# commands of fences, one a line: the page, the number of the fence, the command, with tabs between them
fenced() {
    awk '
    /^```/ { if (inside) inside = 0; else { inside = 1; fence++; kind = substr($0, 4); more = 0 } next }
    !inside || (kind != "sh" && kind != "") { next }
    more { line = line $0 }
    !more && kind == "sh" { line = $0 }
    !more && kind == "" { if (substr($0, 1, 2) != "$ ") { if ($0 ~ /^(\.\/|make |scripts\/|dev\/)/) print FILENAME "\t" fence "\tunmarked: " $0; next } line = substr($0, 3) }
    { more = sub(/\\$/, "", line); if (!more && line != "") print FILENAME "\t" fence "\t" line }' "${pages[@]}"
}

# Commands between backticks outside of fences: the page, a tab, the command; each once.
inline() {
    awk '
    /^```/ { inside = !inside; next }
    inside { next }
    {
        n = split($0, part, "`")
        for (i = 2; i <= n; i += 2)
            if (part[i] ~ /(^|[A-Z]+=[^ ]* )(\.\/|make |scripts\/[^ ]*\.(sh|py)|dev\/[^ ]*\.(sh|py))/ && !seen[part[i]]++) print FILENAME "\t" part[i]
    }' "${pages[@]}"
}

# The files that fences are: "file, tab, a line of it".
files() { awk '/^```/ { file = /^```[a-z]+ [^ ]+$/ && !file ? $2 : ""; next } file { print file "\t" $0 }' "${pages[@]}"; }

# ----------------------------------------------------------------------------
# the copy: tracked files as a clone has them, and what make has built of them

for program in train_steer eval_steer test_steer; do
    [ -x $program ] || { echo "error: $program is not built: make" >&2; exit 1; }
done
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy" || exit
cp -Rp build "$copy/" && cp -p test_steer "$copy/"
for program in train_steer eval_steer; do cp -p $program "$copy/$program.whole"; done
cat > "$copy/train_steer" <<'END'
#!/bin/sh
exec "${0%/*}/train_steer.whole" "$@" --prompts_per_step 4 --num_generations 2 --max_completion_length 48
END
cat > "$copy/eval_steer" <<'END'
#!/bin/sh
case ${1-}\ ${2-} in eval\ --config | experiment\ [a-z]*) exec "${0%/*}/eval_steer.whole" "$@" --limit 8 ;; esac
exec "${0%/*}/eval_steer.whole" "$@"
END
chmod +x "$copy/train_steer" "$copy/eval_steer"
mkdir -p "$copy/models" "$copy/FOLDER_WITH_JSONL"
cp -R data/tiny/model "$copy/models/Qwen2.5-Coder-0.5B-Instruct"
for name in train test; do
    cp data/tiny/$name.jsonl "$copy/FOLDER_WITH_JSONL/gsm8k_$name.jsonl"
    ln -s "../FOLDER_WITH_JSONL/gsm8k_$name.jsonl" "$copy/data/gsm8k_$name.jsonl"
done
if [ -d .venv ]; then ln -s "$repository/.venv" "$copy/.venv"; fi
export PIP_NO_INDEX=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
cd "$copy" || exit
unset CONFIG_PATH IS_DIST IS_STEERING RANKS HOSTFILE

# ----------------------------------------------------------------------------

# A file that starts with #! may be started, and nothing else may.
while read -r mode _ _ file; do
    first=$(head -c 2 "$file" | tr -d '\0')
    case $mode:$first in 100755:'#!') check "$file" 0 ;; 100755:*) bad "$file is executable, but has no #!" ;; *:'#!') bad "$file has a #!, but is not executable" ;; esac
done < <(git -C "$repository" ls-files -s)

while IFS=$'\t' read -r file line; do printf '%s\n' "$line" >> "$file"; done < <(files)

last='' number=0
while IFS=$'\t' read -r page fence command; do
    number=$((number + 1))
    case $command in unmarked:*) bad "$page: a command in a fence without a mark: ${command#*: }: write \`\`\`sh, or \$ in front of it"; continue ;; esac
    if why=$(not_run "${command%%  *}"); then echo "not run: $command ($why)"; continue; fi
    [ "$fence" = "$last" ] || : > state
    last=$fence
    # shellcheck disable=SC2016 # the inner shell's
    bash -c 'set -a; . ./state; set +a; eval "$1"; status=$?; export -p | grep -E "^declare -x (CONFIG_PATH)=" > state; exit $status' - "$command" </dev/null >log 2>&1
    status=$?
    [ $status = 0 ] || tail -n 5 log
    check "$page: \`$command\` ended with $status" $status
done < <(fenced)
[ $number -ge 15 ] || bad "only $number commands were found in fences"

number=0
while IFS=$'\t' read -r page command; do
    number=$((number + 1))
    read -r -a words <<< "$command"
    while [[ ${words[0]} =~ ^[A-Z_]+= ]]; do words=("${words[@]:1}"); done
    program=${words[0]} known=''
    case $program in
    make)
        for word in "${words[@]:1}"; do
            case $word in *=* | -*) ;; build/*) make -n "$word" >/dev/null 2>&1 || known="no rule for $word" ;; *) grep -qE "^([a-z -]* )?$word( [a-z -]*)?:" Makefile || known="no target $word" ;; esac
        done ;;
    *NAME*) ;;
    *) if [ ! -x "$program" ] && [ ! -d "$program" ]; then known="$program is not there, or may not be started"; fi ;;
    esac
    case $program in
    ./train_steer) help=$(./train_steer.whole --help) ;;
    ./eval_steer) if [ "${words[1]-}" = experiment ]; then help=$(./eval_steer.whole experiment vanilla --help); else help=$(./eval_steer.whole "${words[1]-}" --help); fi || known="no command ${words[1]-}" ;;
    *.sh) help=$(cat "$program") ;;
    *) help='' ;;
    esac
    for word in "${words[@]:1}"; do
        word=${word#[} word=${word%]}
        case $program:$word in ./*:--* | scripts/setup.sh:--*) grep -qE -- "$word\b" <<< "$help" || known="no option $word" ;; esac
    done
    [ -z "$known" ]
    check "$page: \`$command\`: $known" $?
done < <(inline)
[ $number -ge 15 ] || bad "only $number commands were found in the text"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
