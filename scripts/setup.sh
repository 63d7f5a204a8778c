#!/bin/sh
# Installs what building steer.c needs: a C compiler, make, cJSON, GMP, PCRE2, utf8proc and libyaml. Debian and Ubuntu; elsewhere
# it says what to install. Does nothing where everything is present. `--mpi`: also Open MPI, for training on several machines.
# `--missing` only prints the names of what is not there.
# shellcheck disable=SC2086 # CC, CPPFLAGS, LDFLAGS and the packages are lists of words
CC=${CC:-gcc}

# links FLAG HEADER EXPRESSION: does a program that uses the library compile and link?
links() {
    printf '#include <stddef.h>\n#define PCRE2_CODE_UNIT_WIDTH 8\n#include <%s>\nint main(void) { return %s; }\n' "$2" "$3" |
        $CC $CPPFLAGS -x c - -o /dev/null $LDFLAGS "$1" >/dev/null 2>&1
}

missing() {
    command -v make >/dev/null || echo make
    echo 'int main(void) { return 0; }' | $CC -x c - -o /dev/null >/dev/null 2>&1 || echo compiler
    links -lcjson cjson/cJSON.h 'cJSON_Version() == NULL' || echo cJSON
    links -lgmp gmp.h 'gmp_version == NULL' || echo GMP
    links -lpcre2-8 pcre2.h 'pcre2_config(PCRE2_CONFIG_JIT, NULL) < 0' || echo PCRE2
    links -lutf8proc utf8proc.h 'utf8proc_version() == NULL' || echo utf8proc
    links -lyaml yaml.h 'yaml_get_version_string() == NULL' || echo libyaml
    [ -z "$mpi" ] || { command -v mpicc && command -v mpirun; } >/dev/null || echo MPI
}

mpi=
[ "$1" != --mpi ] || mpi='openmpi-bin libopenmpi-dev'
list=$(missing | paste -sd ' ')
if [ "$1" = --missing ]; then echo "$list"; exit 0; fi
if [ -z "$list" ]; then exit 0; fi
echo "not found: $list"
packages='gcc libc6-dev make libcjson-dev libgmp-dev libpcre2-dev libutf8proc-dev libyaml-dev'
packages="$packages${mpi:+ $mpi}"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! command -v apt-get >/dev/null; then
    echo "error: this script knows apt-get (Debian, Ubuntu) only" >&2
    echo "  -> install a C compiler, make and the development files of cJSON, GMP, PCRE2 (8 bit), utf8proc and libyaml" >&2
    echo "     (Fedora: gcc make cjson-devel gmp-devel pcre2-devel utf8proc-devel libyaml-devel; Homebrew: cjson gmp pcre2 utf8proc libyaml)" >&2
    exit 1
fi
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
    echo "error: installing needs root, and there is no sudo" >&2
    echo "  -> as root: apt-get install $packages" >&2
    exit 1
fi
echo "installing: $packages"
if ! { $as_root apt-get -qq update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages; } >/dev/null; then
    echo "error: apt-get failed (its message is above)" >&2
    echo "  -> check the network, then: apt-get update && apt-get install $packages" >&2
    exit 1
fi
list=$(missing | paste -sd ' ')
if [ -n "$list" ]; then
    echo "error: installed, but a program using $list still does not compile with $CC" >&2
    echo "  -> check CC, CPPFLAGS and LDFLAGS" >&2
    exit 1
fi
