#!/usr/bin/env bash
# dev/test/one_vector.sh [all]: does dev/doc/one_vector.md say what is so? Needs what `make test` builds.
#
# A fence ```console holds commands after `$ ` and what they print; each is run here, and the lines are compared word by
# word. A line `...` stands for any lines. Numbers must be equal, or as near as a comment <!-- within N % --> before the
# fence allows; but not times (before s, ms, GB/s), nor numbers with an exponent (rounding errors). What follows
# <!-- takes a while --> is run only with `all`. A fence ```c begins with the comment `// FILE`; each of its lines must be
# in that file.
# The last line is "N passed, M failed".
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
page=dev/doc/one_vector.md passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Each fence into files of its own: N.head (kind, within, slow); N.c; of each command N-K.command and N-K.want.
awk -v tmp="$tmp" '
!inside && /^<!-- within [0-9.]+ % -->$/ { within = $3; next }
!inside && /^<!-- takes a while -->$/ { slow = 1; next }
/^```/ && !inside {
    inside = 1; kind = substr($0, 4); n++; k = 0
    if (kind == "console" || kind == "c") print kind, within + 0, slow + 0 > (tmp "/" n ".head")
    next
}
/^```/ { inside = within = slow = 0; next }
!inside { next }
kind == "c" { print > (tmp "/" n ".c") }
kind == "console" && /^\$ / { k++; print substr($0, 3) > (tmp "/" n "-" k ".command"); printf "" > (tmp "/" n "-" k ".want"); next }
kind == "console" { print > (tmp "/" n "-" k ".want") }' "$page"

# differences WITHIN WANT GOT: prints the first line that is not as the page has it.
differences() {
    awk -v within="$1" '
    function number(x) { gsub(/[(),:;\/]/, "", x); return x }
    function is_number(x) { return x ~ /^[-+]?[0-9]+(\.[0-9]+)?$/ }
    function is_rough(x, unit) { return x ~ /^[-+]?[0-9.]+e[-+][0-9]+$/ || (is_number(x) && unit ~ /^(s|ms|GB\/s)$/) }
    function same(w, g,   a, b, n, i, x, y, d) {
        gsub(/\/[0-9]/, " &", w); gsub(/\/[0-9]/, " &", g) # 30/32: two numbers
        n = split(w, a, " ")
        if (split(g, b, " ") != n) return 0
        for (i = 1; i <= n; i++) {
            x = number(a[i]); y = number(b[i])
            if (is_rough(x, a[i + 1]) && is_rough(y, b[i + 1])) continue
            if (a[i] == b[i]) continue
            if (!is_number(x) || !is_number(y)) return 0
            d = x - y
            if (d < 0) d = -d
            if (d > within / 100 * (x < 0 ? -x : x)) return 0
        }
        return 1
    }
    NR == FNR { want[++m] = $0; next }
    { got[++n] = $0 }
    END {
        for (i = j = 1; i <= m; i++) {
            if (want[i] == "...") { skip = 1; continue }
            while (skip && j <= n && !same(want[i], got[j])) j++
            if (j > n || !same(want[i], got[j])) { print "  page:    " want[i]; print "  printed: " (j > n ? "(nothing more)" : got[j]); exit }
            j++
            skip = 0
        }
        if (!skip && j <= n) { print "  page:    (nothing more)"; print "  printed: " got[j] }
    }' "$2" "$3"
}

result() { # result WHAT WRONG
    if [ -z "$2" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); printf 'FAILED %s: %s\n%s\n' "$page" "$1" "$2"; fi
}

commands=0 pieces=0
for head in $(cd "$tmp" && printf '%s\n' *.head | sort -n); do
    n=${head%.head}
    read -r kind within slow < "$tmp/$head"
    if [ "$kind" = c ]; then
        pieces=$((pieces + 1))
        file=$(sed -n '1s|^// ||p' "$tmp/$n.c")
        if [ ! -f "$file" ]; then result "code" "  a fence of C names no file in its first line"; continue; fi
        while read -r line; do
            if [ -n "$line" ] && ! grep -qF -- "$line" "$file"; then result "code of $file" "  not in it: $line"; else result "" ""; fi
        done < <(tail -n +2 "$tmp/$n.c")
        continue
    fi
    for file in $(cd "$tmp" && ls "$n"-*.command); do
        command=$(cat "$tmp/$file")
        commands=$((commands + 1))
        if [ "$slow" = 1 ] && [ "${1-}" != all ]; then echo "not run: $command (takes a while; dev/test/one_vector.sh all runs it)"; continue; fi
        bash -c "$command" > "$tmp/got" 2>&1 < /dev/null
        status=$?
        if grep -q '^skipped: no CUDA headers' "$tmp/got"; then echo "not run: $command (no CUDA headers)"; continue; fi
        wrong=$(differences "$within" "$tmp/${file%.command}.want" "$tmp/got")
        [ $status = 0 ] || wrong="  it ended with $status: $(tail -n 1 "$tmp/got")"
        result "\`$command\`" "$wrong"
    done
done
[ $commands -ge 3 ] || result "$commands commands" "  expected at least 3: are the fences still \`\`\`console?"
[ $pieces -ge 3 ] || result "$pieces pieces of code" "  expected at least 3: are the fences still \`\`\`c?"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
