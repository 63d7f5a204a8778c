#!/usr/bin/env bash
# dev/test/links.sh [--fix] [FOLDER]: that README.md, dev/CONTRIBUTING.md, dev/doc/ and the other pages of dev/ can be followed:
#   a relative link, or a name such as `dev/test/links.sh` between backticks, leads to a file that is there, and #heading to a heading
#   of that page; a link with a line, [token_loss](llmc/grpo.h#L64), leads to the line that defines what it is called;
#   README.md has at most 160 lines, a page of dev/doc 180, CONTRIBUTING.md 200, and no line outside of tables and code is
#   longer than 120 columns (the digits of #L64 do not count, for --fix changes them).
# --fix writes the line numbers anew; what its file no longer defines, but one other file does, is followed there. What is left is
# named. Ends in `N passed, N failed`, one for each link and each page.
set -uo pipefail
shopt -s nullglob
fix=false
[ "${1-}" != --fix ] || { fix=true; shift; }
cd "${1:-$(dirname "$0")/../..}" || exit
passed=0 failed=0

bad() { failed=$((failed + 1)); printf 'FAILED: %s\n' "$1"; }

# definition NAME FILE: "FILE LINE" of the line that defines NAME: a function, type or macro of C, a row of a table, a function of a
# script, a target of make; else a member of a struct.
definition() {
    awk -v name="$1" '
        function take(rank) { if (!best || rank < best) { best = rank; at = FILENAME " " FNR } }
        index($0, name) == 0 { next }
        $0 ~ "^[A-Za-z].*[ *]" name "\\(" && !/;$/ && !/^(return|else|if|for|while) / { take(1) }
        $0 ~ "^(typedef )?(struct|enum|union) " name " \\{" || $0 ~ "^} " name ";" { take(1) }
        $0 ~ "^typedef .*[ *]" name ";" || $0 ~ "^# *define " name "[ (]" { take(1) }
        $0 ~ "^" name "\\(\\) \\{" || $0 ~ "^" name "( [a-z-]+)*:" || $0 ~ "^[A-Z]+\\(" name "," { take(1) }
        $0 ~ "\\(\\*" name "\\)\\(" || $0 ~ "^    [A-Za-z].*[ *]" name ";" { take(2) }
        END { if (at) print at }' "$2"
}

# Each link of a page outside of fences: line, text, target; text without backticks. A file's name between backticks is /NAME.
links() {
    awk '
        /^```/ { inside = !inside; next }
        inside { next }
        {
            rest = $0
            if (match(rest, /src="[^"]*"/)) print FNR "\t-\t" substr(rest, RSTART + 5, RLENGTH - 6)
            rest = $0
            while (match(rest, /\[[^][]*\]\([^()]*\)/)) {
                link = substr(rest, RSTART + 1, RLENGTH - 2); rest = substr(rest, RSTART + RLENGTH)
                at = index(link, "]("); text = substr(link, 1, at - 1); gsub(/`/, "", text)
                if (text == "") text = "-"
                print FNR "\t" text "\t" substr(link, at + 2)
            }
            n = split($0, span, "`")
            for (i = 2; i <= n; i += 2)
                if (span[i] !~ /NAME/ && span[i] ~ /^(llmc|dev|scripts|data\/tiny)\/[A-Za-z0-9_.\/-]+$/) print FNR "\t-\t/" span[i]
            if (index(rest, "](")) print FNR "\t-\tthe end of a link that began a line before"
        }' "$1"
}

# The anchors that a page has, as GitHub makes them of its headings.
anchors() { awk '/^```/ { inside = !inside } !inside && sub(/^#+ /, "") { s = tolower($0); gsub(/[^a-z0-9 _-]/, "", s); gsub(/ /, "-", s); print s }' "$1"; }

sources=(*.c *.cu llmc/*.h llmc/*/*.h llmc/*/*.c llmc/*/*.cu llmc/*/*.cuh dev/test/*.h)
for page in README.md dev/*.md dev/*/*.md; do
    folder=$(dirname "$page")
    while IFS=$'\t' read -r line text target; do
        case $target in *://* | mailto:*) continue ;; esac
        path=${target%%#*} anchor=''
        case $target in *'#'*) anchor=${target#*#} ;; esac
        case $path in '') file=$page ;; /*) file=.$path ;; *) file=$folder/$path ;; esac
        file=./$file/
        while [[ $file == */./* ]]; do file=${file/\/.\///}; done
        while [[ $file =~ ([^/]+/\.\./) ]]; do file=${file/"${BASH_REMATCH[1]}"/}; done
        file=${file#./} file=${file%/}
        if [[ $anchor =~ ^L[0-9]+$ ]]; then
            found=''
            [ ! -f "$file" ] || found=$(definition "$text" "$file")
            if [ ! "$found" ] && $fix; then # moved: one other file has to define it
                found=$(for other in "${sources[@]}"; do definition "$text" "$other"; done)
                [ "$(wc -l <<< "$found")" = 1 ] || found=''
            fi
            if [ ! "$found" ]; then bad "$page:$line: $file does not define $text"; continue; fi
            read -r there at <<< "$found"
            if [ "$there#L$at" != "$file#$anchor" ]; then
                case $folder in .) new=$there#L$at ;; */*) new=../../$there#L$at ;; *) new=../$there#L$at ;; esac
                $fix || { bad "$page:$line: $text is in line $at of $there, not in $anchor (dev/test/links.sh --fix)"; continue; }
                from="]($target)" to="]($new)"
                awk -v n="$line" -v from="[$text$from" -v code="[\`$text\`$from" -v to="$to" -v old="$from" '
                    FNR == n && !(at = index($0, from)) { at = index($0, from = code) }
                    FNR == n && at { end = at + length(from); $0 = substr($0, 1, end - length(old) - 1) to substr($0, end) }
                    1' "$page" > "$page.fixed" && cat "$page.fixed" > "$page" && rm -f "$page.fixed"
            fi
        elif [ ! -e "$file" ]; then bad "$page:$line: $target is not there"; continue
        elif [ "$anchor" ] && ! anchors "$file" | grep -qx -- "$anchor"; then bad "$page:$line: $file has no heading #$anchor"; continue
        fi
        passed=$((passed + 1))
    done < <(links "$page")
done

for page in README.md dev/CONTRIBUTING.md dev/doc/*.md; do
    [ -f "$page" ] || continue # its links are missed above
    limit=180
    case $page in README.md) limit=160 ;; dev/CONTRIBUTING.md) limit=200 ;; esac
    wide=$(LC_ALL=C awk '
        /^```/ { inside = !inside }
        inside || /^ *\|/ { next }
        { gsub(/[\200-\277]/, ""); gsub(/#L[0-9]+/, "") } # further bytes of a character; line numbers, which --fix changes
        length > 120 { printf "%s ", FNR }' "$page")
    if [ "$wide" ]; then bad "$page: more than 120 columns in lines $wide"
    elif [ "$(wc -l < "$page")" -gt "$limit" ]; then bad "$page: $(wc -l < "$page") lines, at most $limit"
    else passed=$((passed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
