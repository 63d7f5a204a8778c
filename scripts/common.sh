# shellcheck shell=bash
# What train.sh, eval.sh and their like share, for bash to read in the repository's folder. from: where the call came from.
: "${from:=$PWD}"

# refuse WHAT TO_DO: a wrong call.
refuse() { printf 'error: %s\n  -> %s\n' "$1" "$2" >&2; exit 2; }

# is_true NAME: whether the variable of that name says yes; unset or empty is no.
is_true() {
    case ${!1:-} in
    true | True | TRUE | yes | Yes | YES | on | 1) return 0 ;;
    '' | false | False | FALSE | no | No | NO | off | 0) return 1 ;;
    *) refuse "$1=${!1}: expected true or false" "$1=true, or leave it out" ;;
    esac
}

# build PROGRAM [VARIABLE=VALUE of make ...]: makes it where it is not there or older than its sources, and says so. One that is newer than
# its sources is left as it is, whatever it was made with (CUDA=1, CC=clang).
build() {
    local newer=''
    if [ -x "$1" ]; then
        newer=$(find "$1.cu" llmc -type f -newer "$1" | head -n 1)
        [ -n "$newer" ] || return 0
    fi
    echo "building $1${newer:+, for $newer is newer}: make${2:+ $2} $1" >&2
    if ! make "${@:2}" "$1" >&2; then
        printf 'error: %s could not be built (see above)\n' "$1" >&2
        exit 1
    fi
}

# find_recipe: CONFIG_PATH is looked for where the call came from, then in the repository.
find_recipe() {
    case ${CONFIG_PATH:-} in
    '') refuse "CONFIG_PATH is not set" "set it to a recipe, for example CONFIG_PATH=$1" ;;
    /*) ;;
    *) if [ -f "$from/$CONFIG_PATH" ]; then CONFIG_PATH=$from/$CONFIG_PATH; fi ;;
    esac
    CONFIG_PATH=${CONFIG_PATH#"$PWD"/}
    [ -r "$CONFIG_PATH" ] || refuse "CONFIG_PATH=$CONFIG_PATH: there is no such file, neither in $from nor in $PWD" "see scripts/train and scripts/eval"
}

# place_options OPTION...: sets `options` to the same options; a path among their values that is there, seen from where the call came from,
# or is to be written, is made absolute. (Paths in a recipe, and others, are the repository's.)
place_options() {
    options=()
    local key='' word
    for word in "$@"; do
        if [ "$from" = "$PWD" ]; then options+=("$word"); continue; fi
        case $word in
        --*=*) options+=("${word%%=*}=$(placed "${word%%=*}" "${word#*=}")") key='' ;;
        --*) options+=("$word") key=$word ;;
        *) options+=("$(placed "$key" "$word")") key='' ;;
        esac
    done
}

placed() {
    local key=${1#--} list='' path
    case $key:$2 in
    *: | *:/*) echo "$2"; return ;;
    output_dir:* | results_dir:*) echo "$from/$2"; return ;;
    esac
    case $key in
    model | data | validation_data | checkpoint | steering | init_steering | init_adapter | resume | exclude)
        while IFS= read -r path; do
            if [ -n "$path" ] && [ "${path#/}" = "$path" ] && [ -e "$from/$path" ]; then path=$from/$path; fi
            list=${list:+$list,}$path
        done < <(tr , '\n' <<< "$2")
        echo "$list" ;;
    *) echo "$2" ;;
    esac
}
