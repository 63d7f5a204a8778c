#!/usr/bin/env bash
# scripts/cost_table.sh [--model DIR] [--data FILE.jsonl] [--setups "NAME[:OPTION=VALUE...] ..."] [--steps N] [--out FILE.jsonl]
#                       [--run_steps N] [--computed] [any option of train_steer ...]
# What each setup costs, measured: memory of what is trained, and a training step part by part, as Markdown. Without --model on the tiny model.
#   --setups    default: steering steering_rank lora:lora_r=1 lora full; more options of one setup as in lora:lora_r=8:lora_target_modules=q_proj,v_proj
#   --steps     measured steps of each (default 3), after one more that warms up and is left out
#   --out       one JSON line a setup, with the lines of metrics.jsonl that the table is made of
#   --run_steps so many steps are a whole run, for the last column (default 314, the papers': one epoch of DeepScaleR at 128 prompts a step)
#   --computed  also what the 0.5B, 1.5B, 7B and 14B models would cost by arithmetic (scripts/cost_table.py)
#   --table FILE.jsonl, alone: prints the table of an earlier --out again
# All setups run the same steps: learning_rate is 0, so all stay at the base model (an update by 0 is as much work as any) and sample the same
# completions, and groups of equal reward are not skipped. Run it with nothing else running. Checkpoints go to TMPDIR and are removed: of setup full 12
# bytes a weight.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

wrong() { printf 'error: %s\n  -> %s\n' "$1" "$2" >&2; exit 2; }
whole() { [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || wrong "$1: found \"$2\", expected a whole number from 1" "scripts/cost_table.sh --help"; }

# The two tables of the lines in $1; $2: steps of a whole run.
print_tables() {
    awk -v run_steps="$2" '
    function get(key, i) { # the value after a key; quoted or not
        i = index($0, "\"" key "\": ")
        if (!i) return ""
        text = substr($0, i + length(key) + 4)
        if (substr(text, 1, 1) == "\"") { text = substr(text, 2); return substr(text, 1, index(text, "\"") - 1) }
        match(text, /^[^,}\]]*/)
        return substr(text, 1, RLENGTH)
    }
    function find(key, values, n, i, rest) { # all values after a key of the steps; how many
        n = 0
        for (rest = $0; (i = index(rest, "\"" key "\": ")) > 0;) {
            rest = substr(rest, i + length(key) + 4)
            match(rest, /^[^,}\]]*/)
            values[++n] = substr(rest, 1, RLENGTH) + 0
        }
        return n
    }
    function median(values, n, i, k, x) {
        for (i = 2; i <= n; i++) {
            x = values[i]
            for (k = i - 1; k >= 1 && values[k] > x; k--) values[k + 1] = values[k]
            values[k + 1] = x
        }
        return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
    }
    function middle(key, values, n) { n = find(key, values); return median(values, n) }
    function small(x) { return x == 0 ? "0" : x < 0.001 && x > -0.001 ? sprintf("%.6f", x) : x < 1 && x > -1 ? sprintf("%.4f", x) : sprintf("%.2f", x) }
    function whole(x, text, out) { # with commas
        text = sprintf("%.0f", x)
        for (out = ""; length(text) > 3; text = substr(text, 1, length(text) - 3)) out = "," substr(text, length(text) - 2) out
        return text out
    }
    function cell(t, text) { # the next cell of the row
        grid[t, rows[t], ++column] = text
        if (length(text) > width[t, column]) width[t, column] = length(text)
        if (column > columns[t]) columns[t] = column
    }
    function row(t) { rows[t]++; column = 0 }
    function print_grid(t, r, k) {
        for (r = 1; r <= rows[t]; r++) {
            line = "|"
            for (k = 1; k <= columns[t]; k++) line = line sprintf(k == 1 ? " %-" width[t, k] "s |" : " %" width[t, k] "s |", grid[t, r, k])
            print line
            if (r > 1) continue
            line = "|"
            for (k = 1; k <= columns[t]; k++) { rule = sprintf("%" (width[t, k] + 1) "s", ""); gsub(/ /, "-", rule); line = line (k == 1 ? rule "-|" : rule ":|") }
            print line
        }
        print ""
    }
    BEGIN {
        row(1)
        n = split("setup;numbers;their bytes;bytes of moments;gradients;numbers, gradients, moments;bytes of the file;resident at most", head, ";")
        for (i = 1; i <= n; i++) cell(1, head[i])
        row(2)
        n = split("setup;rollout;reward;forward;backward;update;communication;other;step;completions;tokens;rows;rollout, ms a token;pass, ms a row", head, ";")
        for (i = 1; i <= n; i++) cell(2, head[i])
        cell(2, run_steps " steps, h")
    }
    get("failed") != "" { failures = failures get("setup") ": " get("failed") "\n"; next }
    NF {
        row(1)
        cell(1, get("setup"))
        cell(1, whole(get("numbers")))
        cell(1, whole(4 * get("numbers")))
        cell(1, whole(get("moments_bytes")))
        cell(1, get("gradient"))
        cell(1, get("planned"))
        cell(1, whole(get("file_bytes")))
        cell(1, get("resident_kib") > 0 ? sprintf("%.0f MiB", get("resident_kib") / 1024) : "")
        row(2)
        cell(2, get("setup"))
        parts = 0
        n = split("rollout reward forward backward update communication", name, " ")
        for (i = 1; i <= n; i++) { part[i] = middle("time/" name[i]); parts += part[i]; cell(2, small(part[i])) }
        step = middle("step_time")
        cell(2, small(step - parts))
        cell(2, small(step))
        n = find("num_completions", completions)
        find("completions/mean_length", lengths)
        find("train_rows_per_s", rates)
        find("time/forward", forward)
        find("time/backward", backward)
        all = ""
        for (i = 1; i <= n; i++) {
            tokens[i] = completions[i] * lengths[i]
            run[i] = rates[i] * (forward[i] + backward[i])
            all = all sprintf(" %.0f", tokens[i])
        }
        if (first == "") first = all
        different += all != first
        measured = n
        per_token = median(tokens, n)
        per_row = median(run, n)
        cell(2, whole(median(completions, n)))
        cell(2, whole(per_token))
        cell(2, whole(per_row))
        cell(2, per_token > 0 ? small(1000 * part[1] / per_token) : "")
        cell(2, per_row > 0 ? small(1000 * (part[3] + part[4]) / per_row) : "")
        cell(2, small(step * run_steps / 3600))
        about = get("model") ", " get("device") " (" get("kernels") "), median of " n " steps"
    }
    END {
        if (rows[1] > 1) { print about "\n"; print "Memory of what is trained\n"; print_grid(1); print "Seconds of a step\n"; print_grid(2) }
        if (failures != "") print "Not measured\n\n" failures
        if (different) print "The rows sampled different tokens: compare milliseconds a token and a row, not seconds.\n"
    }' "$1"
}

notes() {
    cat <<'END'
numbers        what AdamW moves; in fp32, so 4 bytes each. moments: AdamW's two, as the checkpoint's optimizer.safetensors holds them
gradients      of how many bytes one is, and how often the program keeps it; "numbers, gradients, moments": all that of the device, as the run plans it
file           what a checkpoint has of the trained thing itself, without the moments
resident       the process's largest memory, weights and all, as seen ten times a second; left out of runs below a second
rollout        sampling the completions; reward: grading them
forward        the policy's pass over prompts and completions, log-probs and loss; backward: the gradient
update         gradient norm, AdamW, and what the model computes with made anew: in full, all weights in the model's own form
communication  with other processes; one process has none
other          step less all these: zeroing and adding up gradients, lists, the log. Medians of parts need not add up to the median step, so it may be off by the noise
rows           of forward and backward: tokens, and each prompt once a group
END
    echo "Computed, not measured: ${1} steps = so many times this step; a real run's completions are as long as they are."
    cat <<'END'
The original's table has 0.11 s (vectors) against 9.94 s (all weights) "per step", times 314 steps "overall". That is most likely not training time
but that of handing the new weights to the sampler. The sampler here is the same program, so the nearest column is update.
END
}

model='' data='' steps=3 out='' run_steps=314 computed=no config='' more=()
setups='steering steering_rank lora:lora_r=1 lora full'
while [ $# -gt 0 ]; do
    key=$1
    case $key in
    -h | --help) sed -nE '2,/^set -/{/^set -/d;s/^# ?//p}' "$0"; exit 0 ;;
    --computed) computed=yes; shift; continue ;;
    --*=*) set -- "${key%%=*}" "${key#*=}" "${@:2}"; continue ;;
    --model | --data | --setups | --steps | --out | --run_steps | --config | --table) [ $# -gt 1 ] || wrong "$key: its value is missing" "scripts/cost_table.sh --help" ;;
    --setup | --max_steps | --output_dir | --resume) wrong "$key is this script's own" "--setups, --steps" ;;
    *) more+=("$key"); shift; continue ;;
    esac
    case $key in
    --model) model=$2 ;;
    --data) data=$2 ;;
    --setups) setups=$2 ;;
    --steps) steps=$2; whole "$key" "$2" ;;
    --out) out=$2 ;;
    --run_steps) run_steps=$2; whole "$key" "$2" ;;
    --config) config=$2 ;;
    --table) [ -r "$2" ] || wrong "$2 cannot be read" "a file that --out has written"; print_tables "$2" "$run_steps"; notes "$run_steps"; exit 0 ;;
    esac
    shift 2
done
[ -x ./train_steer ] || make -s train_steer

# Defaults first, then the recipe's or the caller's: of an option that is given twice the last counts.
call=(./train_steer)
if [ -n "$config" ]; then call+=(--config "$config"); else call+=(--prompts_per_step 4 --num_generations 8 --max_completion_length 128); fi
if [ -z "$model$config" ]; then
    model=data/tiny/model
    data=${data:-data/tiny/train.jsonl}
    call+=(--prompt_template raw --model_name tiny)
fi
[ -z "$model" ] || call+=(--model "$model")
[ -z "$data" ] || call+=(--data "$data")
call+=(--learning_rate 0 --skip_equal_groups false --validation_size 0 --validation_steps 0 ${more[@]+"${more[@]}"})

work=$(mktemp -d)
child=''
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
lines=$work/lines.jsonl
: > "$lines"

# On the CPU no more than the memory that is free: then a setup that does not fit says so, and is not killed in the middle.
free_kib=$(sed -nE 's/^MemAvailable: *([0-9]+) kB/\1/p' /proc/meminfo 2>/dev/null || true)
if [[ " ${more[*]-} " == *" cuda "* ]] || { [ -n "$config" ] && grep -qE '^device: *cuda' "$config"; }; then free_kib=''; fi

keep() { # the lines so far as --out, whole or as it was
    [ -z "$out" ] || { cp "$lines" "$(dirname "$out")/.tmp-$(basename "$out")" && mv -f "$(dirname "$out")/.tmp-$(basename "$out")" "$out"; }
}

header() { sed -nE "s/^$1 +(.*)/\1/p" "$work/log" | head -n 1; }

for spec in $setups; do
    [[ $spec =~ ^[a-z0-9_:=,.]+$ ]] || wrong "--setups: found $spec" "NAME or NAME:OPTION=VALUE:..., with spaces between setups"
    IFS=: read -r -a fields <<< "$spec"
    options=(--setup "${fields[0]}")
    for field in "${fields[@]:1}"; do options+=("--${field%%=*}" "${field#*=}"); done
    rm -rf "$work/run"
    echo "$ ${call[*]} ${options[*]}" >&2
    ( [ -z "$free_kib" ] || ulimit -v "$free_kib" 2>/dev/null || true # a lower limit than that stays
      exec "${call[@]}" "${options[@]}" --max_steps $((steps + 1)) --save_steps 0 --output_dir "$work/run" ) > "$work/log" 2> "$work/errors" &
    child=$!
    resident=0 seen=0
    while kill -0 "$child" 2>/dev/null; do
        now=$(sed -nE 's/^VmHWM:[[:space:]]*([0-9]+) kB/\1/p' "/proc/$child/status" 2>/dev/null || true)
        resident=${now:-$resident}
        seen=$((seen + 1))
        sleep 0.1
    done
    [ $seen -ge 10 ] || resident=0 # it ended before it was watched
    code=0
    wait "$child" || code=$?
    child=''
    if [ $code -ne 0 ]; then
        why=$(grep -m 1 '^error' "$work/errors" | tr -d '\134"' || true)
        echo "{\"setup\": \"$spec\", \"failed\": \"${why:-it ended with $code, without a word (137: killed, most likely for its memory)}\"}" >> "$lines"
        continue
    fi
    checkpoint=$(find "$work/run" -type d -name "checkpoint-$((steps + 1))")
    file=$(find "$checkpoint" -name '*.safetensors' ! -name optimizer.safetensors)
    moments=$checkpoint/optimizer.safetensors # 8 bytes: how long the header is; the header; the numbers
    head_bytes=$(od -An -t u8 -N 8 "$moments" | tr -d ' ')
    numbers=$(header 'trained numbers')
    name=${checkpoint#"$work/run/"}
    name=$(tr -d '\134"' <<< "${name%%/*}")
    gradient=$(header gradient | sed -E 's/ for each problem of a step/ a problem/')
    device=$(sed -nE 's/^\| device +\| ([a-z]+) .*/\1/p' "$work/log")
    {
        printf '{"model": "%s", "setup": "%s", "device": "%s", "kernels": "%s", "numbers": %s, "moments_bytes": %s, "gradient": "%s", ' \
            "$name" "$spec" "$device" "$(header kernels)" \
            "${numbers%%[ :,]*}" $(($(wc -c < "$moments") - 8 - head_bytes)) "$gradient"
        printf '"planned": "%s", "file": "%s", "file_bytes": %s, "resident_kib": %s, "steps": [' \
            "$(header '  trained, gradients, AdamW')" "$(basename "$file")" "$(($(wc -c < "$file")))" "$resident"
        sed 1d "$(dirname "$checkpoint")/metrics.jsonl" | paste -sd , -
        printf ']}'
    } | tr -d '\n' >> "$lines"
    echo >> "$lines"
    keep # what is measured is kept, whatever becomes of the rest
done

keep
print_tables "$lines" "$run_steps"
notes "$run_steps"
if [ "$computed" = yes ]; then
    echo
    if command -v python3 >/dev/null; then python3 scripts/cost_table.py; else echo "no computed rows: python3 is not installed"; fi
fi
