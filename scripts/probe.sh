#!/bin/sh
# What this machine has for building: `make` runs this first, with its variables in the environment, and includes what it writes, $1 (a file
# in the folder of the build, git-ignored): the compiler, the instruction sets that it knows, libraries, CUDA, MPI and NCCL. Nothing is
# guessed: what counts is a program that compiles and links. Trying takes a second, so $1 is kept as long as all that the answers came from
# is as it was: the variables, what lies in PATH, these scripts. While a library is missing, and after an impossible wish,
# which becomes a line $(error ...), it is tried again every time. For any POSIX shell.
# shellcheck disable=SC2016,SC2034,SC2086,SC2153,SC2154 # $(...) is make's; CC and flags are lists of words; the flags of levels are read by eval
to=$1
mkdir -p "$(dirname "$to")"
what=$to.$$.o

# find NAME FILE: where a program is; the file, where it is not in PATH but there; else nothing.
find() { command -v "$1" 2>/dev/null || { [ -z "$2" ] || [ ! -x "$2" ] || echo "$2"; }; }

if [ -z "$CC" ]; then
    for CC in gcc clang cc none; do ! command -v $CC >/dev/null 2>&1 || break; done
    [ $CC != none ] || CC=gcc
fi
version=$($CC --version 2>/dev/null | head -n 1)
nvcc=$(find "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" /usr/local/cuda/bin/nvcc)
real=$(readlink -f "$nvcc" 2>/dev/null) || real=$nvcc
[ -n "$CUDA_HOME" ] || CUDA_HOME=${real%/bin/nvcc}
gpu='' mpicc='' nccl_header=''
[ ! -e /proc/driver/nvidia/version ] && [ ! -e /dev/nvidia0 ] || gpu=yes
[ "$MPI" = 0 ] || mpicc=$(find mpicc '')
set -- "$CUDA_HOME/include/nccl.h" .venv/lib/python*/site-packages/nvidia/nccl/include/nccl.h /usr/include/nccl.h
[ -z "$NCCL_HOME" ] || set -- "$NCCL_HOME/include/nccl.h"
for header in "$@"; do [ -n "$nccl_header" ] || [ ! -f "$header" ] || nccl_header=$header; done

key="$CC|$version|$CFLAGS|$CPPFLAGS|$LDFLAGS|$OPENMP|$CUDA|$CUDA_HOME|$GPU_ARCH|$MPI|$NCCL|$NCCL_HOME|$nvcc|$gpu|$mpicc|$nccl_header|$PATH
$CONDA_PREFIX|$HOMEBREW_PREFIX|$PKG_CONFIG|$PKG_CONFIG_PATH|$PKG_CONFIG_LIBDIR|$CPATH|$LIBRARY_PATH|$(env | grep '^FLAGS_' | sort)
$(cksum "$0" scripts/setup.sh)"
[ ! -f "$to" ] || [ "$key" != "$(cat "$to.key" 2>/dev/null)" ] || exit 0
rm -f "$to.key"
impossible=''
new=$to.$$ # its own, for two may run at once
exec 3>"$new"

# set NAME VALUE: a variable for make. wish TEXT: make must stop with it. compiles SOURCE FLAG...: does a program?
set_() { printf '%s := %s\n' "$1" "$(printf '%s' "$2" | sed 's/[$]/$$/g; s/#/\\#/g')" >&3; }
wish() { printf '$(error %s)\n' "$1" >&3; impossible=yes; }
compiles() { source=$1; shift; echo "$source" | $CC "$@" >/dev/null 2>&1; }

case " $CC $CFLAGS $CPPFLAGS " in
*' -Ofast '* | *' -ffast-math '*) wish '-Ofast and -ffast-math drop the checks for NaN and change results; steer.c is built without them' ;;
esac
case $CUDA in '' | 0 | 1 | emulate) ;; *) wish "CUDA=$CUDA: expected 1 (for a GPU, with nvcc), emulate (the same kernels on the CPU) or 0" ;; esac
case $MPI in '' | 0 | 1) ;; *) wish "MPI=$MPI: expected 1 (train_steer in several processes), 0 (in one), or nothing (1 where mpicc is found and works)" ;; esac
case $NCCL in '' | 0 | 1) ;; *) wish "NCCL=$NCCL: expected 1 (gradients go from GPU to GPU), 0 (by way of the hosts), or nothing (1 where NCCL and MPI are found and work)" ;; esac

# ----------------------------------------------------------------------------
# The instruction sets that the kernels of the CPU are compiled for, beside `portable`: those whose flags and instructions the compiler and
# its assembler know. FLAGS_<level> may be given.

machine=$($CC -dumpmachine 2>/dev/null)
case $machine in
x86_64-* | amd64-*) all='avx2 avx512 avx512_bf16 amx' ;;
aarch64-* | arm64-*) all='neon neon_bf16' ;;
*) all='' ;;
esac
: "${FLAGS_avx2=-mavx2 -mfma}" "${FLAGS_neon=}" "${FLAGS_neon_bf16=-march=armv8.2-a+bf16}"
: "${FLAGS_avx512=$FLAGS_avx2 -mavx512f -mavx512bw -mavx512vl -mavx512dq}"
: "${FLAGS_avx512_bf16=$FLAGS_avx512 -mavx512bf16}"
: "${FLAGS_amx=$FLAGS_avx512_bf16 -mamx-tile -mamx-bf16}"
one_of_avx2='vpermd %ymm0, %ymm1, %ymm2' one_of_avx512='vpermd %zmm0, %zmm1, %zmm2' one_of_avx512_bf16='vdpbf16ps %zmm0, %zmm1, %zmm2'
one_of_amx='tdpbf16ps %tmm0, %tmm1, %tmm2' one_of_neon='fmla v0.4s, v1.4s, v2.4s' one_of_neon_bf16='bfmmla v0.4s, v1.8h, v2.8h'
levels=portable left_out=''
for level in $all; do
    eval "flags=\$FLAGS_$level instruction=\$one_of_$level"
    if compiles "void f(void) { __asm__(\"$instruction\"); }" $flags -c -x c - -o "$what"; then levels="$levels $level"; else left_out="$left_out $level"; fi
    set_ "FLAGS_$level" "$flags"
done
rm -f "$what"

# ----------------------------------------------------------------------------
# Libraries and OpenMP: scripts/setup.sh tries them and answers with a line NAME=WORD for each flag that worked.

found=$(CC=$CC CPPFLAGS=$CPPFLAGS LDFLAGS=$LDFLAGS scripts/setup.sh --flags)
named() { echo "$found" | sed -n "s/^$1=//p" | tr '\n' ' '; }
missing=$(named MISSING) openmp=$(named THREADS)
# Without OpenMP its `simd` pragmas still hold: they order sums, and results must not depend on the number of threads.
threads=$openmp
if [ "$OPENMP" = 0 ] || [ -z "$openmp" ]; then threads='-fopenmp-simd -Wno-unknown-pragmas'; fi

# ----------------------------------------------------------------------------
# CUDA, which has a backend to link; MPI and NCCL, for train_steer alone.

if [ -z "$CUDA" ]; then
    CUDA=0
    [ -z "$nvcc" ] || [ -z "$gpu" ] || CUDA=1
fi
backend_libs=''
case $CUDA in
1)
    backend_libs="-L$CUDA_HOME/lib64 -Wl,-rpath,$CUDA_HOME/lib64 -lcublasLt -lcudart_static -lstdc++ -ldl -lrt -lpthread"
    [ -n "$nvcc" ] || wish 'CUDA=1: nvcc was not found: install the CUDA Toolkit, or set CUDA_HOME to where it is' ;;
emulate)
    backend_libs='-lstdc++ -ldl -lpthread'
    [ -f "$CUDA_HOME/include/cublasLt.h" ] || wish 'CUDA=emulate: the headers of the CUDA Toolkit were not found (cublasLt.h): install it, or set CUDA_HOME to where it is' ;;
esac

# What the compiler must be told, from Open MPI's mpicc or MPICH's, then a try.
mpi_works='' mpi_flags='' mpi_libs=''
if [ -n "$mpicc" ]; then
    mpi_flags=$($mpicc --showme:compile 2>/dev/null || $mpicc -compile-info 2>/dev/null | cut -d ' ' -f 2-)
    mpi_flags=$(for word in $mpi_flags; do case $word in -I*) echo "-isystem ${word#-I}" ;; *) echo "$word" ;; esac; done | tr '\n' ' ')
    mpi_libs=$($mpicc --showme:link 2>/dev/null || $mpicc -link-info 2>/dev/null | cut -d ' ' -f 2-)
    ! compiles 'int main(void) { return MPI_Init(NULL, NULL); }' $mpi_flags -include mpi.h -x c - -o /dev/null $LDFLAGS $mpi_libs || mpi_works=yes
fi
if [ "$MPI" = 1 ] && [ -z "$mpi_works" ]; then
    why='mpicc was not found'
    [ -z "$mpicc" ] || why="a program with what $mpicc names does not compile with $CC"
    wish "MPI=1: $why: \`scripts/setup.sh --mpi\` installs Open MPI"
fi

# From NCCL_HOME, the toolkit, what `scripts/setup.sh --nccl` has put into .venv, or the system. CUDA=emulate has its own (dev/cuda_on_cpu/nccl.h).
nccl_works='' nccl_flags='' nccl_libs=''
if [ "$CUDA" != 0 ] && [ -n "$mpi_works" ] && [ "$NCCL" != 0 ]; then
    if [ "$CUDA" = emulate ]; then nccl_works=emulated
    elif [ -n "$nccl_header" ]; then
        home=$(cd "${nccl_header%/include/nccl.h}" && pwd)
        nccl_flags="-isystem $home/include"
        for folder in "$home/lib64" "$home/lib"; do [ ! -d "$folder" ] || nccl_libs="$nccl_libs -L$folder -Wl,-rpath,$folder"; done
        nccl_libs="$nccl_libs -l:libnccl.so.2"
        ! compiles 'int main(void) { int v; return ncclGetVersion(&v) || NCCL_VERSION_CODE < 21800; }' \
            -isystem "$CUDA_HOME/include" $nccl_flags -include nccl.h -x c - -o /dev/null $LDFLAGS $nccl_libs || nccl_works=yes
    fi
fi
if [ "$NCCL" = 1 ] && [ -z "$nccl_works" ]; then
    if [ -z "$mpi_works" ]; then why='it goes with MPI: `scripts/setup.sh --mpi`'
    elif [ "$CUDA" = 0 ]; then why='it goes with CUDA=1'
    elif [ -n "$nccl_header" ]; then why="a program with $nccl_header does not link"
    else why='nccl.h was not found: `scripts/setup.sh --nccl` installs it'; fi
    wish "NCCL=1: $why"
fi

# ----------------------------------------------------------------------------
# The answers, and what make says of them.

set_ CC "$CC"
set_ CC_VERSION "$version"
set_ LEVELS "$levels"
set_ MISSING "${missing% }"
set_ PROBED_FLAGS "$(named CPPFLAGS)$threads"
set_ THREADS "$threads"
set_ LIBS "$(named LDFLAGS)$(named LIBS)"
set_ NVCC "$nvcc"
set_ CUDA "$CUDA"
set_ CUDA_HOME "$CUDA_HOME"
set_ NVCC_ARCH "$(for arch in $GPU_ARCH; do printf -- '-gencode arch=compute_%s,code=sm_%s ' "$arch" "$arch"; done)-gencode arch=compute_${GPU_ARCH##* },code=compute_${GPU_ARCH##* }"
set_ BACKEND_LIBS "$backend_libs"
set_ MPI_WORKS "$mpi_works"
set_ NCCL_WORKS "$nccl_works"
set_ NCCL_FLAGS "$nccl_flags"
set_ RANKS_FLAGS "${mpi_works:+-DLLMC_MPI $mpi_flags}${nccl_works:+ -DLLMC_NCCL}"
set_ RANKS_LIBS "${mpi_works:+$mpi_libs}${nccl_works:+ $nccl_libs}"

say() { printf '%s\n' "$1" | sed 's/[$]/$$/g' >&3; }
# because WORDS...: the first of the conditions that holds (each an `if`, then its text); the last text if none does.
because() { while [ $# -gt 1 ]; do if eval "$1"; then echo "$2"; return; fi; shift 2; done; echo "$1"; }
echo 'define REPORT' >&3
case $missing in *compiler*) say "✗ compiler $CC not found" ;; *) say "✓ compiler $version" ;; esac
if [ "$threads" = "$openmp" ]; then say '✓ OpenMP   all cores are used'
else say "✗ OpenMP   $(because '[ "$OPENMP" = 0 ]' 'switched off by OPENMP=0' \
    "$CC cannot link it (clang needs libomp: Debian libomp-dev, Homebrew libomp)"): the programs use one thread"; fi
say "✓ levels   $levels${left_out:+; left out, for this compiler or its assembler does not know it:$left_out}"
for library in cJSON GMP PCRE2 utf8proc libyaml; do
    case " $missing " in *" $library "*) say "✗ $library not found: scripts/setup.sh installs it" ;; *) say "✓ $library" ;; esac
done
case $CUDA in
1) say "✓ CUDA     $nvcc, for compute capability $GPU_ARCH" ;;
emulate) say '✓ CUDA     the kernels run on the CPU (dev/cuda_on_cpu)' ;;
0) say "→ CUDA     $(because '[ -z "$nvcc" ]' 'nvcc not found: building for the CPU' '[ -n "$gpu" ]' 'nvcc found, switched off' \
    'nvcc found, no GPU here: `make CUDA=1` builds for one, `make CUDA=emulate` runs the kernels on the CPU')" ;;
esac
if [ -n "$mpi_works" ]; then say "✓ MPI      $mpicc: mpirun starts train_steer on several machines"
else say "→ MPI      $(because '[ "$MPI" = 0 ]' 'switched off by MPI=0' '[ -n "$mpicc" ]' "$mpicc found, but $CC cannot use it" \
    'mpicc not found (`scripts/setup.sh --mpi` installs it)'): train_steer runs in one process"; fi
if [ "$CUDA" != 0 ] && [ -n "$nccl_works" ]; then
    say "✓ NCCL     $(because '[ "$nccl_works" = yes ]' "$nccl_header" 'its stand-in (dev/cuda_on_cpu)'): gradients go from GPU to GPU"
elif [ "$CUDA" != 0 ]; then
    say "→ NCCL     $(because '[ "$NCCL" = 0 ]' 'switched off by NCCL=0' '[ -z "$mpi_works" ]' 'of no use without MPI' \
        '[ -n "$nccl_header" ]' "$nccl_header found, but a program with it does not link" \
        'not found (`scripts/setup.sh --nccl` installs it)'): gradients go by way of the hosts"
fi
if command -v python3 >/dev/null; then say '✓ python3  for pictures only'; else say '✗ python3  not found: `make demo` will draw no pictures'; fi
echo 'endef' >&3
exec 3>&-
mv "$new" "$to"
[ -n "$missing$impossible" ] || printf '%s' "$key" > "$to.key"
