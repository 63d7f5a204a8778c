#!/usr/bin/env bash
# dev/test/setup.sh [SHELL]: scripts/setup.sh, by sh or this shell, on systems that are not this one. Package managers, sudo, brew and pip are
# stand-ins that write down how they were called; the libraries are stand-ins that lie in one folder only, and the compiler is the real one,
# which does not see the real libraries' headers. No network, no root; ends in `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
shell=${1:-sh}
real=${CC:-gcc}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0 code=0 out=''
mkdir -p "$dir/tree/scripts" "$dir/tools" "$dir/bin" "$dir/prefix/include/cjson" "$dir/prefix/lib"
cp scripts/setup.sh "$dir/tree/scripts/"
# shellcheck disable=SC2086 # a compiler may be several words
for tool in ${shell%% *} ${real%% *} sh dirname mktemp cat rm cp mkdir chmod grep sed env as ld make; do
    path=$(command -v $tool) && ln -sf "$path" "$dir/tools/${path##*/}"
done

# ok WHAT COMMAND...: counts; where COMMAND fails, shows what setup.sh had said.
ok() {
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        printf 'FAILED %s: %s\n  ended with %s; output: %s\n  calls: %s\n' "$what" "$*" "$code" "$out" "$(cat "$dir/calls" 2>/dev/null)"
    fi
}
says() { [[ $out == *"$1"* ]]; }
silent() { [ -z "$out" ]; }
ended() { [ "$code" = "$1" ]; }
called() { [ "$(cat "$dir/calls")" = "$1" ]; }
lines() { [ "$(grep "^$1=" <<< "$out")" = "$2" ]; } # all lines of a name

# stand_in NAME...: commands that write down how they were called. FAIL makes them fail; id, uname and brew --prefix answer.
stand_in() {
    rm -f "$dir/bin/"*
    local name
    for name in id uname "$@"; do
        cat > "$dir/bin/$name" <<'END'
#!/bin/sh
name=${0##*/}
case "$name $*" in
'id -u') echo "${USER_ID:-0}"; exit ;;
'uname -s') echo "${SYSTEM:-Linux}"; exit ;;
'brew --prefix') echo "$BREW"; exit ;;
esac
echo "$name $*" >> "$CALLS"
[ -z "$FAIL" ] || { echo "$name: cannot find that"; exit 1; }
case $name in
sudo | doas) exec "$@" ;;
python3) mkdir -p .venv/bin && cp "$0" .venv/bin/pip ;;
esac
END
        chmod +x "$dir/bin/$name"
    done
}

# run [NAME=VALUE...] [OPTION...]: setup.sh in the tree, with the stand-ins and nothing else.
run() {
    local settings=()
    while [[ ${1-} == [A-Z]*=* ]]; do settings+=("$1"); shift; done
    : > "$dir/calls"
    code=0
    # shellcheck disable=SC2086 # busybox sh is two words
    out=$(env -i PATH="$dir/bin:$dir/tools" CALLS="$dir/calls" CC=false ${settings[@]+"${settings[@]}"} $shell "$dir/tree/scripts/setup.sh" "$@" 2>&1) || code=$?
}

# ----------------------------------------------------------------------------
# installing: no compiler, no library (CC=false)

apt='gcc libc6-dev make libcjson-dev libgmp-dev libpcre2-dev libutf8proc-dev libyaml-dev'
dnf='gcc make cjson-devel gmp-devel pcre2-devel utf8proc-devel libyaml-devel'
# manager | what it is told | what --mpi adds
table="apt-get|install -y --no-install-recommends $apt|openmpi-bin libopenmpi-dev
dnf|install -y $dnf|openmpi openmpi-devel
apk|add gcc musl-dev make bash cjson-dev gmp-dev pcre2-dev utf8proc-dev yaml-dev|openmpi openmpi-dev
pacman|-S --needed --noconfirm gcc make cjson gmp pcre2 libutf8proc libyaml|openmpi
zypper|--non-interactive install gcc make cJSON-devel gmp-devel pcre2-devel utf8proc-devel libyaml-devel|openmpi4-devel
brew|install cjson gmp pcre2 utf8proc libyaml libomp pkgconf|open-mpi"
newline=$'\n'
while IFS='|' read -r manager words mpi; do
    update=''
    [ "$manager" != apt-get ] || update="apt-get update$newline"
    stand_in "$manager"
    run
    ok "$manager" called "$update$manager $words"
    run --mpi
    ok "$manager --mpi" called "$update$manager $words $mpi"
    run FAIL=yes
    ok "$manager fails" ended 1
    ok "$manager fails" says "$manager: cannot find that"
    ok "$manager fails" says "$newline  -> "
    [ "$manager" = brew ] && continue
    stand_in "$manager" sudo
    run USER_ID=1000
    ok "$manager by sudo" says "installing: gcc${words#*gcc}"
    ok "$manager by sudo" grep -qx "sudo env DEBIAN_FRONTEND=noninteractive $manager $words" "$dir/calls"
    stand_in "$manager" doas
    run USER_ID=1000
    ok "$manager by doas" grep -qx "doas env DEBIAN_FRONTEND=noninteractive $manager $words" "$dir/calls"
    stand_in "$manager"
    run USER_ID=1000
    ok "$manager without root" ended 1
    ok "$manager without root" called ''
    ok "$manager without root" says "  -> as root: $manager $words"
    ok "$manager without root" says 'conda create -n steer -c conda-forge c-compiler make cjson gmp pcre2 libutf8proc yaml pkg-config; conda activate steer'
    stand_in "$manager" brew
    run USER_ID=1000
    ok "brew beside $manager, without root" grep -qx 'brew install cjson gmp pcre2 utf8proc libyaml libomp pkgconf' "$dir/calls"
done <<< "$table"

stand_in dnf
run FAIL=yes
ok 'Rocky and the like' says 'cJSON is in EPEL, headers are in CRB'
stand_in brew
run SYSTEM=Darwin USER_ID=501
ok 'macOS without a compiler' says '  -> xcode-select --install'
stand_in
run
ok 'an unknown system' ended 1
for name in cJSON GMP PCRE2 utf8proc libyaml; do ok 'an unknown system' grep -q "^     $name  *https://" <<< "$out"; done
run --port
ok 'a wrong option' ended 2
ok 'a wrong option' says '--port: expected --mpi'

# ----------------------------------------------------------------------------
# finding

if [ "$(uname -s)" = Linux ]; then
    # A folder of links for each folder of headers that the compiler searches, without the headers in question.
    hidden="$real -nostdinc" i=0
    while read -r folder; do
        i=$((i + 1))
        mkdir -p "$dir/headers/$i"
        ln -s "$folder"/* "$dir/headers/$i/" 2>/dev/null
        (cd "$dir/headers/$i" && rm -rf cjson gmp.h pcre2.h utf8proc.h yaml.h)
        hidden="$hidden -isystem $dir/headers/$i"
    done < <($real -E -v -x c /dev/null 2>&1 >/dev/null | sed -n '/^#include </,/^End of/{/^ /s/^ //p;}')

    # library NAME HEADER DECLARATION DEFINITION FOLDER: its file has a name of its own, so that the loader finds it nowhere else
    library() {
        mkdir -p "$5/include" "$5/lib"
        echo "$3" > "$5/include/$2"
        echo "$4" | $real -shared -fPIC -Wl,-soname,"lib$1_stand_in.so" -x c - -o "$5/lib/lib$1_stand_in.so" && ln -s "lib$1_stand_in.so" "$5/lib/lib$1.so"
    }
    prefix=$dir/prefix
    library cjson cjson/cJSON.h 'const char *cJSON_Version(void);' 'const char *cJSON_Version(void) { return ""; }' "$prefix"
    library gmp gmp.h 'extern const char *const gmp_version;' 'const char *const gmp_version = "";' "$prefix"
    library pcre2-8 pcre2.h '#define PCRE2_CONFIG_JIT 1
#if PCRE2_CODE_UNIT_WIDTH == 8
int pcre2_config(unsigned, void *);
#endif' 'int pcre2_config(unsigned a, void *b) { return a != 1 || b != 0; }' "$prefix"
    library utf8proc utf8proc.h 'const char *utf8proc_version(void);' 'const char *utf8proc_version(void) { return ""; }' "$prefix"
    library yaml yaml.h 'const char *yaml_get_version_string(void);' 'const char *yaml_get_version_string(void) { return ""; }' "$prefix"
    cp -r "$prefix" "$dir/brew"
    library omp omp.h 'int omp_get_max_threads(void);' 'int omp_get_max_threads(void) { return 1; }' "$dir/brew/opt/libomp"
    cp -r "$prefix" "$dir/no yaml"
    mv "$dir/no yaml" "$dir/no_yaml"
    rm "$dir/no_yaml/include/yaml.h"
    mkdir "$dir/pc"
    # shellcheck disable=SC2016 # the files' own variables
    # cJSON's as some versions have it: it names the folder below the one that <cjson/cJSON.h> needs
    while read -r pc flag include; do
        printf 'prefix=%s\nincludedir=${prefix}/include\nName: %s\nDescription: a stand-in\nVersion: 1\nCflags: -I${includedir}%s\nLibs: -L${prefix}/lib %s\n' \
            "$prefix" "$pc" "$include" "$flag" > "$dir/pc/$pc.pc"
    done <<< 'libcjson -lcjson /cjson
gmp -lgmp
libpcre2-8 -lpcre2-8
libutf8proc -lutf8proc
yaml-0.1 -lyaml'

    # runs FOLDER: a program made with the flags that were printed has the libraries of this folder, and they are found when it starts
    runs() {
        # shellcheck disable=SC2046,SC2086 # words
        printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <cjson/cJSON.h>\n#include <gmp.h>\n#include <pcre2.h>\n#include <utf8proc.h>\n#include <yaml.h>\n%s\n' \
            'int main(void) { return *cJSON_Version() || *gmp_version || pcre2_config(PCRE2_CONFIG_JIT, 0) < 0 || *utf8proc_version() || *yaml_get_version_string(); }' |
            $hidden ${2-} $(sed -n 's/^CPPFLAGS=//p' <<< "$out") -x c - -o "$dir/program" ${3-} $(sed -n 's/^LDFLAGS=//p; s/^LIBS=//p' <<< "$out") &&
            LD_LIBRARY_PATH='' "$dir/program"
    }
    none=$'MISSING=cJSON\nMISSING=GMP\nMISSING=PCRE2\nMISSING=utf8proc\nMISSING=libyaml'
    all=$'LIBS=-lcjson\nLIBS=-lgmp\nLIBS=-lpcre2-8\nLIBS=-lutf8proc\nLIBS=-lyaml\nLIBS=-lm'

    stand_in
    run CC="$hidden" --flags
    ok 'no library' lines MISSING "$none"
    run CC="$hidden" --missing
    ok 'no library' [ "$out" = 'cJSON GMP PCRE2 utf8proc libyaml' ]
    run --flags
    ok 'no compiler' lines MISSING "MISSING=compiler$newline$none"

    run CC="$hidden" CPPFLAGS="-I$dir/no_yaml/include" LDFLAGS="-L$dir/no_yaml/lib" --missing
    ok 'one is missing' [ "$out" = libyaml ]
    out=$(PKG_CONFIG=false make MPI=0 CUDA=0 CC="$hidden" CPPFLAGS="-I$dir/no_yaml/include" LDFLAGS="-L$dir/no_yaml/lib" build/flags 2>&1)
    ok 'one is missing: make' says 'error: not found: libyaml'

    given="-I$prefix/include" given_ld="-L$prefix/lib -Wl,-rpath,$prefix/lib"
    run CC="$hidden" CPPFLAGS="$given" LDFLAGS="$given_ld" CONDA_PREFIX="$dir/brew" --flags
    ok 'CPPFLAGS and LDFLAGS' lines CPPFLAGS ''
    ok 'CPPFLAGS and LDFLAGS' lines LDFLAGS ''
    ok 'CPPFLAGS and LDFLAGS' lines LIBS "$all"
    ok 'CPPFLAGS and LDFLAGS' runs "$prefix" "$given" "$given_ld"
    stand_in dnf
    run CC="$hidden" CPPFLAGS="$given" LDFLAGS="$given_ld"
    ok 'all is there' silent
    ok 'all is there' ended 0
    ok 'all is there' called ''

    # found WHAT FOLDER: everything is found there, and works
    found() {
        ok "$1" lines LIBS "$all"
        ok "$1" lines LDFLAGS "LDFLAGS=-L$2/lib${newline}LDFLAGS=-Wl,-rpath,$2/lib"
        ok "$1" lines MISSING ''
        ok "$1" runs "$2"
    }
    if path=$(command -v pkg-config); then
        stand_in
        ln -sf "$path" "$dir/bin/"
        run CC="$hidden" PKG_CONFIG_LIBDIR="$dir/pc" CONDA_PREFIX="$dir/brew" --flags
        found pkg-config "$prefix"
        ok pkg-config grep -qx "CPPFLAGS=-isystem$prefix/include" <<< "$out"
    else
        echo 'skipped: what pkg-config says (it was not found)'
    fi
    stand_in brew
    run CC="$hidden" CONDA_PREFIX="$prefix" BREW="$dir/brew" --flags
    found CONDA_PREFIX "$prefix"
    ok CONDA_PREFIX lines CPPFLAGS "CPPFLAGS=-isystem$prefix/include"
    run CC="$hidden" BREW="$dir/brew" --flags
    found Homebrew "$dir/brew"
    ok Homebrew lines CPPFLAGS "CPPFLAGS=-isystem$dir/brew/include"
    run CC="$hidden" HOMEBREW_PREFIX="$dir/brew" --flags
    found HOMEBREW_PREFIX "$dir/brew"

    # what make or a shell would read as something else
    for name in 'a b' 'a;b' 'a#b'; do
        cp -r "$prefix" "$dir/$name"
        run CC="$hidden" HOMEBREW_PREFIX="$dir/$name" --flags
        ok "a folder \"$name\"" lines MISSING "$none"
    done

    # Apple's clang: no omp.h, -fopenmp only after -Xclang; header and library from Homebrew
    cat > "$dir/tools/apple" <<END
#!/bin/sh
previous=
for word; do
    shift
    case "\$previous \$word" in
    *' -Xclang' | '-Xclang -fopenmp') ;;
    *' -fopenmp') echo "unsupported option '-fopenmp'" >&2; exit 1 ;;
    *) set -- "\$@" "\$word" ;;
    esac
    previous=\$word
done
exec $hidden "\$@"
END
    chmod +x "$dir/tools/apple"
    rm -f "$dir/headers/"*/omp.h
    run CC=apple BREW="$dir/brew" --flags
    ok libomp lines THREADS "THREADS=-Xclang${newline}THREADS=-fopenmp"
    ok libomp grep -qx LIBS=-lomp <<< "$out"
    ok libomp runs "$dir/brew"
    run CC=apple HOMEBREW_PREFIX="$prefix" --flags
    ok 'no libomp' lines THREADS ''
    ok 'no libomp' lines MISSING ''

    # --ports and --nccl, where the rest is there
    complete=(CC="$hidden" CPPFLAGS="$given" LDFLAGS="$given_ld")
    stand_in apt-get python3
    cp "$dir/bin/apt-get" "$dir/tree/scripts/arm64_libraries.sh"
    run "${complete[@]}" --ports
    ok --ports ended 0
    ok --ports called 'apt-get update
apt-get install -y --no-install-recommends qemu-user binutils gcc-aarch64-linux-gnu libc6-dev-arm64-cross
arm64_libraries.sh .venv/arm64
python3 -m venv .venv
pip -q --disable-pip-version-check install ziglang==0.17.1'
    run "${complete[@]}" USER_ID=1000 --ports
    ok '--ports without root' says '  -> as root: apt-get install -y --no-install-recommends qemu-user'
    stand_in dnf
    run "${complete[@]}" --ports
    ok '--ports by dnf' ended 1
    ok '--ports by dnf' says '  -> install qemu-user (qemu-aarch64), aarch64-linux-gnu-gcc and, for arm64, cJSON GMP PCRE2 utf8proc libyaml'
    if [ ! -f /usr/include/nccl.h ]; then
        rm -rf "$dir/tree/.venv"
        mkdir -p "$dir/cuda/bin"
        printf '#!/bin/sh\necho "Cuda compilation tools, release 12.4, V12.4.131"\n' > "$dir/cuda/bin/nvcc"
        chmod +x "$dir/cuda/bin/nvcc"
        stand_in python3
        run "${complete[@]}" CUDA_HOME="$dir/cuda" --nccl
        ok --nccl called 'python3 -m venv .venv
pip -q --disable-pip-version-check install nvidia-nccl-cu12'
        run "${complete[@]}" CUDA_HOME="$dir/no_cuda" --nccl
        ok '--nccl without the toolkit' says "no_cuda/bin/nvcc was not found$newline  -> "
    fi
else
    echo 'skipped: finding libraries (its stand-ins are for Linux)'
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
