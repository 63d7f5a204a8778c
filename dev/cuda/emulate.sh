#!/bin/bash
# Runs the kernel lab without a GPU (dev/cuda_on_cpu): each file fast and checked, at odd sizes. A run must exit 0 (right results,
# no report), and print the same bits under every schedule. Ends in `N passed, N failed`.
# Usage: dev/cuda/emulate.sh [NAME...], anywhere: all files, or those named. CXX and CUDA_HOME choose the compiler and the toolkit.
cd "$(dirname "$0")/../.." || exit 1
build=build/cuda_lab passed=0 failed=0

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$nvcc")")")}
if [ ! -f "$cuda/include/cuda_runtime.h" ]; then
    echo "skipped: no CUDA headers in $cuda/include; set CUDA_HOME"
    echo "0 passed, 0 failed"
    exit 0
fi

common=("${CXX:-g++}" -std=c++17 -DCUDA_ON_CPU -ffp-contract=off -fno-strict-aliasing -fstack-clash-protection -Wall -Wextra -Werror
    -Wno-unknown-pragmas -Idev/cuda_on_cpu/shadow -I. -isystem "$cuda/include" -g)
mkdir -p $build
"${common[@]}" -O2 -c dev/cuda_on_cpu/cuda_on_cpu.cpp -o $build/cuda_on_cpu.o || exit 1

# The sizes that a file is run at: one row, no multiples of a tile, of a warp or of 128 bits, and what the kernels like.
sizes_of() {
    case $1 in
    rmsnorm) printf '%s\n' '1 4' '5 132' '3 1031' ;;
    column_sum) printf '%s\n' '1 3' '300 37' '129 64' ;;
    swiglu) printf '%s\n' '1 1' '7 52' '3 131' ;;
    logprob) printf '%s\n' '1 5' '3 1031' '5 4100' ;;
    matmul) printf '%s\n' '1 16 8' '70 72 130' '33 40 65' ;;
    attention) printf '%s\n' '1 1 1 2 1 1 16' '5 3 2 6 2 2 24' '19 40 2 3 1 7 64' '40 33 1 3 2 5 128' '3 20 1 2 1 2 130' ;;
    esac
}

result() { # result STATUS WHAT: one test, passed if STATUS is 0
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

[ $# -gt 0 ] || set -- rmsnorm attention logprob column_sum swiglu matmul
for name; do
    "${common[@]}" -O2 -x c++ dev/cuda/"$name".cu -x none $build/cuda_on_cpu.o -o $build/"$name".fast &&
        "${common[@]}" -O1 -finline-functions -fsanitize=thread,alignment -x c++ -c dev/cuda/"$name".cu -o $build/"$name".o &&
        "${CXX:-g++}" $build/"$name".o $build/cuda_on_cpu.o -o $build/"$name".checked || exit 1
    while read -r sizes; do
        # shellcheck disable=SC2086 # sizes are several words
        for run in 'checked forward' 'fast forward' 'fast reverse' 'fast random:1'; do
            read -r kind schedule <<<"$run"
            said=$(CUDA_ON_CPU_SCHEDULE=$schedule timeout 300 $build/"$name"."$kind" 0 $sizes 2>&1)
            status=$?
            [ "$run" != 'checked forward' ] || first=$said
            result $status "$name $sizes, $run: status $status
$said"
            result "$([ "$said" = "$first" ]; echo $?)" "$name $sizes, $run: other bits than checked:
$said"
        done
        [ $# -gt 1 ] || echo "$first"
    done < <(sizes_of "$name")
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
