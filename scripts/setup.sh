#!/bin/sh
# Installs what building steer.c needs: a C compiler, make, cJSON, GMP, PCRE2, utf8proc and libyaml. Debian and Ubuntu; elsewhere
# it says what to install. Does nothing where everything is present. `--mpi`: also Open MPI, for training on several machines.
# `--nccl`: also NCCL, for several GPUs: NVIDIA's Python package for the toolkit's version, into .venv, where the Makefile finds it.
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

cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")}
install_nccl() {
    for header in "$cuda/include/nccl.h" /usr/include/nccl.h .venv/lib/python*/site-packages/nvidia/nccl/include/nccl.h; do
        [ ! -f "$header" ] || return 0
    done
    version=$("$cuda/bin/nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    if [ -z "$version" ]; then
        echo "error: NCCL goes with the CUDA Toolkit, and $cuda/bin/nvcc was not found" >&2
        echo "  -> install the toolkit first, or set CUDA_HOME to where it is" >&2
        return 1
    fi
    echo "installing: nvidia-nccl-cu$version into .venv"
    { [ -x .venv/bin/pip ] || python3 -m venv .venv; } && .venv/bin/pip -q --disable-pip-version-check install "nvidia-nccl-cu$version" && return 0
    echo "error: pip could not install nvidia-nccl-cu$version (its message is above)" >&2
    echo "  -> check the network and python3-venv; or install NCCL from developer.nvidia.com/nccl and set NCCL_HOME to where it is" >&2
    return 1
}

cd "$(dirname "$0")/.." || exit
mpi='' nccl='' only_names=''
for argument in "$@"; do
    case $argument in
    --mpi) mpi='openmpi-bin libopenmpi-dev' ;;
    --nccl) nccl=yes ;;
    --missing) only_names=yes ;;
    *)
        echo "error: $argument: expected --mpi, --nccl, --missing or nothing" >&2
        exit 2
        ;;
    esac
done
list=$(missing | paste -sd ' ')
if [ -n "$only_names" ]; then echo "$list"; exit 0; fi
if [ -n "$nccl" ]; then install_nccl || exit; fi
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
