#!/usr/bin/env bash
# dev/test/rooms.sh [FOLDER]: that the rooms of llmc/ are as their doors say. A room is a folder of llmc/, its door the header of the same
# name; the lines `From outside:` and `From dev/, too:` of its head say what others may include. Names each include of anything else, each
# include that is not written from the root, each circle of files or rooms, and each function that one header declares and another defines.
# Ends in `N passed, N failed`, one for each of these four.
set -uo pipefail
shopt -s nullglob
cd "${1:-$(dirname "$0")/../..}" || exit
passed=0 failed=0

# said WHAT LINES: passed if there are none.
said() {
    if [ -z "$2" ]; then passed=$((passed + 1))
    else
        printf 'FAILED: %s:\n%s\n' "$1" "$2"
        failed=$((failed + 1))
    fi
}

sources=(*.c *.cu llmc/*.h llmc/*/*.h llmc/*/*.c llmc/*/*.cu llmc/*/*.cuh dev/*/*.c dev/*/*.h dev/*/*.cu dev/*/*.cuh dev/*/*/*.c dev/*/*/*.cu)

# "file:line file it includes", once for each include of a file in quotes.
includes=$(awk 'match($0, /^ *# *include "[^"]+"/) { split($0, part, "\""); print FILENAME ":" FNR, part[2] }' "${sources[@]}")

# The doors: "room outside|dev pattern".
doors=$(for room in llmc/*/; do
    name=$(basename "$room")
    awk -v room="$name" '
        sub(/^From outside: /, "") { for (i = 1; i <= NF; i++) { print room, "outside", $i; found = 1 } }
        sub(/^From dev\/, too: /, "") { gsub(/[,;]/, ""); for (i = 1; i <= NF; i++) if ($i ~ /\./) print room, "dev", $i }
        END { if (!found) print room, "closed" }' "$room$name.h" 2>/dev/null || echo "$name closed"
done)
said 'a room without a door (ROOM/ROOM.h with a line "From outside: ..."), or a file included past one, or not from the root' "$(
    grep ' closed$' <<< "$doors"
    awk 'NR == FNR { if ($3 == "*.cuh") all_dev[$1] = 1; allowed[$1 " " $2 " " $3] = 1; next }
        function room(path, part) { return split(path, part, "/") > 2 && part[1] == "llmc" ? part[2] : "" }
        {
            from = $1; sub(/:[0-9]+$/, "", from)
            if (from ~ /^llmc\// && $2 !~ /^(llmc|dev)\//) print $1 ": \"" $2 "\" is not written from the root"
            to = room($2); file = $2; sub(/.*\//, "", file)
            if (to == "" || room(from) == to || allowed[to " outside " file]) next
            if (from ~ /^dev\// && (allowed[to " dev " file] || (all_dev[to] && file ~ /\.cuh$/))) next
            print $1 ": " $2
        }' <(echo "$doors") <(echo "$includes"))"

edges=$(awk '$1 ~ /^llmc\// && $2 ~ /^(llmc|dev)\// { sub(/:[0-9]+ /, " "); print }' <<< "$includes")
said 'files that include each other' "$(tsort <<< "$edges" 2>&1 >/dev/null)"
said 'rooms that include each other' "$(awk '{ a = split($1, from, "/"); b = split($2, to, "/") }
    a > 2 && b > 2 && from[1] == "llmc" && to[1] == "llmc" && from[2] != to[2] { print from[2], to[2] }' <<< "$edges" | tsort 2>&1 >/dev/null)"

# A statement outside of all braces that ends in ; after a parameter list declares a function; one that goes on with { defines it. Doors
# declare what a .c or .cu file, compiled by itself, defines: only headers are looked at.
said 'functions declared in one header and defined in another' "$(awk '
    FNR == 1 { text = ""; comment = 0 }
    { line = $0 }
    comment { if (!sub(/^.*\*\//, "", line)) next; comment = 0 }
    { gsub(/\/\*.*\*\//, "", line); if (sub(/\/\*.*/, "", line)) comment = 1; sub(/\/\/.*/, "", line) }
    text == "" && line !~ /^[A-Za-z]/ { next }
    text == "" && line ~ /^(typedef|struct|enum|union|extern|return|else|case|default)/ { next }
    {
        text = text " " line
        if (text !~ /[;{]/) next
        if (match(text, /[A-Za-z_0-9]+\(/) && text !~ /^[^(]*=/) {
            name = substr(text, RSTART, RLENGTH - 1); rest = text; sub(/[;{].*/, "", rest)
            if (substr(text, length(rest) + 1, 1) == "{") defined[name] = defined[name] " " FILENAME
            else declared[name] = FILENAME
        }
        text = ""
    }
    END { for (name in declared) if (defined[name] != "" && index(defined[name] " ", " " declared[name] " ") == 0) print declared[name] ": " name ", which" defined[name] " defines" }' \
    llmc/*.h llmc/*/*.h | sort)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
