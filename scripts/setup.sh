#!/bin/sh
# Installs what building steer.c needs: a C compiler, make, cJSON, GMP, PCRE2, utf8proc and libyaml, by apt-get, dnf, apk, pacman,
# zypper or brew. On another system, or without root, it says what to do. Does nothing where everything is present.
#   --mpi      also Open MPI, for training on several machines
#   --nccl     also NCCL, for several GPUs: NVIDIA's Python package for the toolkit's version, into .venv, where the Makefile finds it
#   --ports    also what checks the builds for other machines: qemu-user, a compiler for arm64; its libraries and zig, into .venv
#   --missing  only prints the names of what is not there
#   --flags    only prints how a program finds the libraries: a line CPPFLAGS=, THREADS=, LDFLAGS=, LIBS= or MISSING= for each word, for make
# Libraries and OpenMP are tried, not guessed: with CPPFLAGS and LDFLAGS as given, with what pkg-config says, in CONDA_PREFIX, and where
# Homebrew puts them. For any POSIX shell.
# shellcheck disable=SC2086 # CC, CPPFLAGS, LDFLAGS, flags and packages are lists of words
CC=${CC:-gcc}
LIBRARIES='cJSON GMP PCRE2 utf8proc libyaml'
ZIG=0.17.1

# ----------------------------------------------------------------------------
# finding

found_flags='' found_libs='' threads='' missing='' # what has worked so far, beyond CPPFLAGS and LDFLAGS; what has not

# know NAME: sets what is known of a library.
know() {
    case $1 in
    cJSON) flag=-lcjson pc=libcjson header=cjson/cJSON.h check='!cJSON_Version()' ;;
    GMP) flag=-lgmp pc=gmp header=gmp.h check='!gmp_version' ;;
    PCRE2) flag=-lpcre2-8 pc=libpcre2-8 header=pcre2.h check='pcre2_config(PCRE2_CONFIG_JIT, 0) < 0' ;;
    utf8proc) flag=-lutf8proc pc=libutf8proc header=utf8proc.h check='!utf8proc_version()' ;;
    libyaml) flag=-lyaml pc=yaml-0.1 header=yaml.h check='!yaml_get_version_string()' ;;
    OpenMP) flag='' pc='' header=omp.h check='!omp_get_max_threads()' ;;
    esac
}

# links "NAME..." FLAGS LIBS: does a program that uses these compile and link?
links() {
    includes='#define PCRE2_CODE_UNIT_WIDTH 8' checks=0
    for name in $1; do
        know $name
        includes="$includes
#include <$header>" checks="$checks || $check"
    done
    printf '%s\nint main(void) { return %s; }\n' "$includes" "$checks" |
        $CC $CPPFLAGS $found_flags $2 -x c - -o /dev/null $LDFLAGS $found_libs $3 >/dev/null 2>&1
}

# try NAME CPPFLAGS LIBS: are these it? If so they are kept, each word once.
try() {
    more='' more_libs=''
    for word in $2; do
        case $word in
        *[\ \'\"\`\$\#\;\&\|\<\>\(\)\*\?\\]*) return 1 ;; # what make or a shell would read
        -I*) word=-isystem${word#-I} ;;                    # no warnings about others' headers
        esac
        case " $found_flags$more " in *" $word "*) ;; *) more="$more $word" ;; esac
    done
    for word in $3; do
        case $word in *[\ \'\"\`\$\#\;\&\|\<\>\(\)\*\?\\]*) return 1 ;; esac
        case " $found_libs$more_libs " in *" $word "*) continue ;; esac
        more_libs="$more_libs $word"
        case $word in -L*) more_libs="$more_libs -Wl,-rpath,${word#-L}" ;; esac # or the program would not find it when it starts
    done
    links $1 "$threads$more" "$more_libs" && found_flags=$found_flags$more found_libs=$found_libs$more_libs
}

# Where Homebrew keeps libraries. Asked last: brew takes its time.
prefixes=''
find_prefixes() { [ -n "$prefixes" ] || prefixes="${CONDA_PREFIX:-} ${HOMEBREW_PREFIX:-$(brew --prefix 2>/dev/null)} /opt/homebrew /usr/local"; }

find_library() {
    know $1
    try $1 '' $flag && return
    config=${PKG_CONFIG:-pkg-config}
    if $config --exists $pc 2>/dev/null; then
        flags=$($config --cflags $pc) linked=$($config --libs $pc)
        try $1 "$flags" "$linked" && return
        # libcjson.pc may name the folder include/cjson alone, and what we include is <cjson/cJSON.h>
        try $1 "$flags -I$($config --variable=includedir $pc)" "$linked" && return
    fi
    find_prefixes
    for prefix in $prefixes; do
        if [ -f "$prefix/include/$header" ]; then try $1 "-I$prefix/include" "-L$prefix/lib $flag" && return; fi
    done
    missing="$missing $1"
}

# gcc and clang take -fopenmp; Apple's clang takes it only after -Xclang, and has neither header nor library.
find_openmp() {
    threads=-fopenmp
    links OpenMP $threads '' && return
    find_prefixes
    for prefix in $prefixes; do
        for folder in "$prefix/opt/libomp" "$prefix"; do
            [ -f "$folder/include/omp.h" ] || continue
            threads=-fopenmp
            try OpenMP "-I$folder/include" "-L$folder/lib" && return
            threads='-Xclang -fopenmp'
            try OpenMP "-I$folder/include" "-L$folder/lib -lomp" && return
        done
    done
    threads=''
}

# Sets found_flags, found_libs, threads and missing. All at once is quick and mostly enough; otherwise one by one.
find_all() {
    everything='-lcjson -lgmp -lpcre2-8 -lutf8proc -lyaml'
    if links "$LIBRARIES OpenMP" -fopenmp "$everything"; then
        threads=-fopenmp found_libs=" $everything"
    elif ! links '' '' ''; then
        missing=" compiler $LIBRARIES"
    else
        for library in $LIBRARIES; do find_library $library; done
        find_openmp
    fi
    found_libs="$found_libs -lm"
}

find_missing() {
    found_flags='' found_libs='' threads='' missing=''
    find_all
    command -v make >/dev/null || missing=" make$missing"
    [ -z "$mpi" ] || { command -v mpicc && command -v mpirun; } >/dev/null || missing="$missing MPI"
    missing=${missing# }
}

print_flags() {
    for word in $found_flags; do echo "CPPFLAGS=$word"; done
    for word in $threads; do echo "THREADS=$word"; done
    for word in $found_libs; do case $word in -L* | -Wl,*) echo "LDFLAGS=$word" ;; *) echo "LIBS=$word" ;; esac; done
    for word in $missing; do echo "MISSING=$word"; done
}

# ----------------------------------------------------------------------------
# installing

# wrong WHAT TO_DO: ends with an error.
wrong() { printf 'error: %s\n  -> %s\n' "$1" "$2" >&2; exit 1; }

# Names, for each package manager, and how it installs them without asking.
know_packages() {
    case $manager in
    apt-get)
        install='apt-get install -y --no-install-recommends' hint='check the network'
        packages='gcc libc6-dev make libcjson-dev libgmp-dev libpcre2-dev libutf8proc-dev libyaml-dev' mpi_packages='openmpi-bin libopenmpi-dev' ;;
    dnf) # MPI is found only when its folder is in PATH
        install='dnf install -y' hint='on RHEL, Rocky and Alma cJSON is in EPEL, headers are in CRB: dnf install -y epel-release dnf-plugins-core && dnf config-manager --set-enabled crb (release 8: powertools)'
        packages='gcc make cjson-devel gmp-devel pcre2-devel utf8proc-devel libyaml-devel' mpi_packages='openmpi openmpi-devel' ;;
    apk)
        install='apk add' hint='check the network, and that /etc/apk/repositories has community'
        packages='gcc musl-dev make bash cjson-dev gmp-dev pcre2-dev utf8proc-dev yaml-dev' mpi_packages='openmpi openmpi-dev' ;;
    pacman)
        install='pacman -S --needed --noconfirm' hint='bring the system up to date (pacman -Syu)'
        packages='gcc make cjson gmp pcre2 libutf8proc libyaml' mpi_packages=openmpi ;;
    zypper)
        install='zypper --non-interactive install' hint='check the network'
        packages='gcc make cJSON-devel gmp-devel pcre2-devel utf8proc-devel libyaml-devel' mpi_packages=openmpi4-devel ;;
    brew)
        install='brew install' hint='check the network'
        packages='cjson gmp pcre2 utf8proc libyaml libomp pkgconf' mpi_packages=open-mpi ;;
    esac
}

# Sets manager and as_root; ends where there is neither.
find_manager() {
    as_root=''
    if [ "$(id -u)" != 0 ]; then
        for as_root in sudo doas no; do ! command -v $as_root >/dev/null || break; done
    fi
    for manager in apt-get dnf apk pacman zypper brew no; do ! command -v $manager >/dev/null || break; done
    if [ "$as_root" = no ] && command -v brew >/dev/null; then manager=brew; fi
    [ $manager != brew ] || as_root=''
    if [ $manager = no ]; then
        echo "error: found none of apt-get, dnf, apk, pacman, zypper and brew, which this script knows" >&2
        echo "  -> install a C compiler, make and these, with their headers; set CPPFLAGS=-I... and LDFLAGS=-L... if they lie elsewhere:" >&2
        echo "     cJSON     https://github.com/DaveGamble/cJSON" >&2
        echo "     GMP       https://gmplib.org" >&2
        echo "     PCRE2     https://github.com/PCRE2Project/pcre2 (8 bit)" >&2
        echo "     utf8proc  https://juliastrings.github.io/utf8proc" >&2
        echo "     libyaml   https://pyyaml.org/wiki/LibYAML" >&2
        exit 1
    fi
    know_packages
}

# need_root COMMAND [WITHOUT]: ends if it cannot be run; WITHOUT needs no root.
need_root() {
    [ "$as_root" = no ] || return 0
    echo "error: installing by $manager needs root, and there is neither sudo nor doas" >&2
    echo "  -> as root: $1" >&2
    [ -z "$2" ] || echo "     or without: $2" >&2
    exit 1
}

# as_admin COMMAND...: its words are shown only if it fails.
as_admin() {
    log=$(mktemp)
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
    rm -f "$log"
}

install_packages() {
    find_manager
    packages="$packages${mpi:+ $mpi_packages}"
    conda="c-compiler make cjson gmp pcre2 libutf8proc yaml pkg-config${mpi:+ openmpi}"
    [ "$(uname -s)" != Darwin ] || conda="$conda llvm-openmp"
    need_root "$install $packages" "conda create -n steer -c conda-forge $conda; conda activate steer"
    echo "installing: $packages"
    if [ $manager = apt-get ] && ! as_admin apt-get update; then wrong "apt-get update failed (its message is above)" "check the network and /etc/apt"; fi
    as_admin $install $packages || wrong "$manager failed (its message is above)" "$hint; then: $install $packages"
    # The package manager of macOS has no compiler and no make; Apple's tools have both.
    if [ $manager = brew ] && ! { command -v make && links '' '' ''; } >/dev/null; then
        wrong "no compiler or no make: $CC" "xcode-select --install"
    fi
}

# into_venv PACKAGE: from the Python package index.
into_venv() {
    echo "installing: $1 into .venv"
    { [ -x .venv/bin/pip ] || python3 -m venv .venv; } && .venv/bin/pip -q --disable-pip-version-check install "$1"
}

install_nccl() {
    cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")}
    for header in "$cuda/include/nccl.h" /usr/include/nccl.h .venv/lib/python*/site-packages/nvidia/nccl/include/nccl.h; do
        [ ! -f "$header" ] || return 0
    done
    version=$("$cuda/bin/nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ -n "$version" ] || wrong "NCCL goes with the CUDA Toolkit, and $cuda/bin/nvcc was not found" "install the toolkit first, or set CUDA_HOME to where it is"
    into_venv "nvidia-nccl-cu$version" || wrong "pip could not install nvidia-nccl-cu$version (its message is above)" \
        "check the network and python3-venv; or install NCCL from developer.nvidia.com/nccl and set NCCL_HOME to where it is"
}

install_ports() {
    find_manager
    if [ $manager != apt-get ]; then
        wrong "--ports installs by apt-get (Debian, Ubuntu); found $manager" \
            "install qemu-user (qemu-aarch64), aarch64-linux-gnu-gcc and, for arm64, $LIBRARIES and libgomp; .venv/bin/pip install ziglang==$ZIG"
    fi
    tools=''
    command -v qemu-aarch64 >/dev/null || tools='qemu-user binutils'
    command -v aarch64-linux-gnu-gcc >/dev/null || tools="$tools gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    if [ -n "$tools" ]; then
        need_root "$install $tools"
        echo "installing: $tools"
        { as_admin apt-get update && as_admin $install $tools; } || wrong "apt-get failed (its message is above)" "check the network; then: $install $tools"
    fi
    scripts/arm64_libraries.sh .venv/arm64 || exit
    .venv/bin/python -m ziglang version 2>/dev/null | grep -qx "$ZIG" || into_venv "ziglang==$ZIG" ||
        wrong "pip could not install ziglang==$ZIG (its message is above)" "check the network and python3-venv"
}

# ----------------------------------------------------------------------------

cd "$(dirname "$0")/.." || exit
mpi='' nccl='' ports='' only=''
for argument in "$@"; do
    case $argument in
    --mpi) mpi=yes ;;
    --nccl) nccl=yes ;;
    --ports) ports=yes ;;
    --missing | --flags) only=$argument ;;
    *) echo "error: $argument: expected --mpi, --nccl, --ports, --missing, --flags or nothing" >&2; exit 2 ;;
    esac
done
case $only in
--flags) find_all; print_flags; exit 0 ;;
--missing) find_missing; echo "$missing"; exit 0 ;;
esac
if [ -n "$nccl" ]; then install_nccl; fi
find_missing
if [ -n "$missing" ]; then
    echo "not found: $missing"
    install_packages
    find_missing
    case $missing in
    '') ;;
    MPI) wrong "installed, but mpicc and mpirun are not in PATH" "Fedora: module load mpi/openmpi-x86_64; openSUSE: mpi-selector; or PATH=FOLDER_OF_MPICC:\$PATH" ;;
    *) wrong "installed, but a program using $missing still does not compile with $CC" "check CC, CPPFLAGS and LDFLAGS" ;;
    esac
fi
if [ -n "$ports" ]; then install_ports; fi
