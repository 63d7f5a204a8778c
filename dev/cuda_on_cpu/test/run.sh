#!/bin/bash
# Tests the emulator: every planted bug must be reported, by class, kernel and line, in the builds that can see it; correct
# kernels must give right results and no report, under every schedule. Ends in `N passed, N failed`.
# Usage: dev/cuda_on_cpu/test/run.sh, anywhere. CXX, CC and CUDA_HOME choose the compilers and the toolkit.
cd "$(dirname "$0")/../../.." || exit 1
here=dev/cuda_on_cpu/test build=build/cuda_on_cpu passed=0 failed=0

cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")}
if [ ! -f "$cuda/include/cuda_runtime.h" ]; then
    echo "skipped: no $cuda/include/cuda_runtime.h; put nvcc into PATH, or set CUDA_HOME to the CUDA toolkit"
    echo "0 passed, 0 failed"
    exit 0
fi

# ----------------------------------------------------------------------------
# Building

common=(-std=c++17 -DCUDA_ON_CPU -ffp-contract=off -fno-strict-aliasing -fstack-clash-protection -Wall -Wextra -Werror -Wno-unknown-pragmas
    -Idev/cuda_on_cpu/shadow -I. -isystem "$cuda/include")
fast=(-O2 -g) checked=(-O1 -g -finline-functions '-fsanitize=thread,alignment')
cxx=${CXX:-g++}
mkdir -p $build
{
    "$cxx" "${common[@]}" "${fast[@]}" -c dev/cuda_on_cpu/cuda_on_cpu.cpp -o $build/cuda_on_cpu.o &&
        "${CC:-gcc}" -O2 -g -Wall -Wextra -Werror -c $here/host.c -o $build/host.o &&
        for name in planted clean; do
            program=()
            [ $name = clean ] || program=("$build/host.o")
            "$cxx" "${common[@]}" "${fast[@]}" -x c++ -c $here/$name.cu -o $build/$name.fast.o &&
                "$cxx" "${common[@]}" "${checked[@]}" -x c++ -c $here/$name.cu -o $build/$name.checked.o &&
                "$cxx" "${program[@]}" $build/$name.fast.o $build/cuda_on_cpu.o -o $build/$name.fast &&
                "$cxx" "${program[@]}" $build/$name.checked.o $build/cuda_on_cpu.o -o $build/$name.checked || exit 1
        done
} || exit 1

# ----------------------------------------------------------------------------
# Testing

result() { # result STATUS WHAT: one test, passed if STATUS is 0
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

# report "BUILDS" CLASS WHERE CASE [MARK]: in each build the case must end with status 70 and a report of that class, WHERE being
# a kernel or `host code`, that names each line marked "bug: MARK" and says $also, if that is set.
report() {
    local name found status line ok
    for name in $1; do
        found=$(CUDA_ON_CPU_WATCHDOG=${watchdog:-60} $build/planted."$name" "$4" 2>&1)
        status=$?
        ok=$([ $status = 70 ] || echo "status $status; ")
        case $3 in
        'host code') grep -qF "cuda_on_cpu: $2: host code" <<<"$found" || ok+="no report '$2' of the host; " ;;
        *) grep -qE "cuda_on_cpu: $2: kernel $3, block \([0-9]+,[0-9]+,[0-9]+\), thread \([0-9]+,[0-9]+,[0-9]+\)" <<<"$found" ||
            ok+="no report '$2' of kernel $3 with its block and thread; " ;;
        esac
        for line in $(cd $here && grep -nE "bug:.* ${5:-$4}( |\$)" planted*.cu* host.c | cut -d: -f1,2); do
            grep -qE "$here/$line( |\$)" <<<"$found" || ok+="line $line is not named; "
        done
        grep -qF "${also:-}" <<<"$found" || ok+="nothing of '$also'; "
        grep -qE "bug:.* ${5:-$4}( |\$)" $here/planted*.cu* $here/host.c || ok+="no line is marked; "
        [ -z "$ok" ] || echo "$found"
        result "$([ -z "$ok" ]; echo $?)" "$4, $name: $ok"
    done
}
# wrong "BUILDS" CASE [SETTING...]: no report is promised, but the result is wrong.
wrong() {
    local name found case=$2 builds=$1
    shift 2
    for name in $builds; do
        found=$(env "$@" $build/planted."$name" "$case" 2>/dev/null)
        result "$([[ $? != 0 && $found == wrong* ]]; echo $?)" "$case, $name, $*: the result is not wrong"
    done
}
# right "BUILDS" CASE: where the bug stays hidden; else `wrong` would prove nothing.
right() {
    local name
    for name in $1; do
        $build/planted."$name" "$2" >/dev/null 2>&1
        result $? "$2, $name: fails without the setting, too"
    done
}
# refused WHAT CODE MESSAGE: must not compile.
refused() {
    local found
    found=$(printf '#include "llmc/cuda/launch.cuh"\n%s\n' "$2" | "$cxx" "${common[@]}" -O1 -x c++ -S -o /dev/null - 2>&1) && found=
    result "$(grep -q "$3" <<<"$found"; echo $?)" "$1 is not refused"
}

# The README's example prints what the README says.
said=$(sed -n '/^cuda_on_cpu: race: kernel softmax/,/^```/p' dev/cuda_on_cpu/README.md | grep -v '^```')
"$cxx" "${common[@]}" "${checked[@]}" -x c++ -c dev/cuda_on_cpu/example/softmax.cu -o $build/softmax.o &&
    "$cxx" $build/softmax.o $build/cuda_on_cpu.o -o $build/softmax && found=$($build/softmax 2>&1)
result "$([ $? = 70 ] && [ -n "$said" ] && [ "$found" = "$said" ]; echo $?)" "the example prints what README.md does not say:
$found"

both='checked fast'
report checked race no_barrier no_barrier
report checked race no_second_barrier no_second_barrier
report checked race no_syncwarp no_syncwarp
report checked race half_syncwarp half_syncwarp
report checked race add_without_atomic add_without_atomic
report checked race last_one_wins last_one_wins
report checked race plain_beside_atomic plain_beside_atomic
report checked race 'no_fence<false>' no_fence
report checked race 'no_fence<true>' early_fence
report checked race overtaken overtaken
report checked race copied_twice copied_twice
wrong "$both" no_wait
wrong fast no_barrier CUDA_ON_CPU_SCHEDULE=forward
report "$both" 'out of bounds' past_the_end past_the_end
also='0 bytes past the end of the 4000 bytes' report checked 'out of bounds' past_the_end past_by_one
report "$both" 'out of bounds' past_the_end before_the_begin
report "$both" 'use after free' after_free after_free
also='128 bytes past the beginning of before' report checked 'shared out of bounds' past_shared past_shared
report checked 'shared out of bounds' past_dynamic past_dynamic
report checked 'host pointer' from_the_host from_the_host
report "$both" 'device pointer on host' 'host code' on_the_host
report "$both" 'device pointer on host' 'host code' copied_on_the_host
for case in on_the_host copied_on_the_host; do CUDA_ON_CPU_KEYS=0 report "$both" 'device pointer on host' 'host code' $case; done
CUDA_ON_CPU_KEYS=0 report "$both" 'out of bounds' past_the_end past_the_end
CUDA_ON_CPU_KEYS=0 report "$both" 'use after free' after_free after_free
report "$both" 'misaligned access' unaligned unaligned
report checked 'uninitialised read' unwritten_global unwritten_global
report checked 'uninitialised read' unwritten_shared unwritten_shared
wrong fast unwritten_global
wrong fast unwritten_shared

report "$both" 'bad shuffle' shuffle_from_outside shuffle_from_outside
report "$both" 'bad shuffle' shuffle_from_returned shuffle_from_returned
report "$both" 'bad shuffle' not_in_own_mask not_in_own_mask
report "$both" 'divergent warp' different_operations different_operations
report "$both" 'divergent barrier' two_barriers two_barriers
report "$both" 'divergent barrier' early_return early_return
report "$both" deadlock deadlock deadlock
watchdog=0.2 report "$both" 'endless loop' endless endless
watchdog=0.2 report "$both" 'endless loop' endless_wait endless_wait
report "$both" 'stack overflow' deep deep
report "$both" trap trapped trapped
report "$both" 'misaligned access' unaligned_fragment unaligned_fragment
report "$both" 'bad fragment' odd_fragment odd_fragment
report checked 'out of bounds' large_fragment large_fragment

report "$both" 'bad launch' 'host code' too_many_threads
report "$both" 'bad launch' 'host code' empty_grid
report "$both" 'bad launch' 'host code' shared_not_asked_for
report "$both" 'bad launch' large_static large_static
report "$both" 'bad launch' no_dynamic no_dynamic
report "$both" 'bad launch' too_much_shared too_much_shared
report "$both" 'out of bounds' 'host code' copy_too_much
report "$both" 'host pointer' 'host code' wrong_direction
report "$both" 'bad pointer' 'host code' free_twice

for case in no_synchronize buffer_reused no_event; do
    wrong "$both" $case CUDA_ON_CPU_LAZY=1
    right "$both" $case
done
lost='cudaErrorStreamCaptureUnsupported, then cudaErrorStreamCaptureInvalidated'
also=$lost report "$both" 'illegal in capture' 'host code' malloc_in_capture
also=$lost report "$both" 'illegal in capture' 'host code' wait_in_capture
report "$both" 'illegal in capture' 'host code' default_stream_in_capture
report "$both" 'illegal in capture' 'host code' unjoined
for case in matmul_ld matmul_k matmul_unaligned matmul_null_workspace matmul_small_workspace matmul_in_place; do
    report "$both" 'bad matmul' 'host code' $case matmul
done
report "$both" 'out of bounds' 'host code' matmul_small_d matmul
report checked 'uninitialised read' 'host code' matmul_unwritten matmul

export CUDA_ON_CPU_DEVICES=2
for case in nccl_count nccl_type nccl_root nccl_order nccl_send_count nccl_no_receive; do report "$both" 'ranks differ' 'host code' $case; done
watchdog=0.5 report "$both" deadlock 'host code' nccl_missing
for case in nccl_same_device nccl_after_abort nccl_destroy_twice; do report "$both" 'bad communicator' 'host code' $case; done
report "$both" 'host pointer' 'host code' nccl_host_pointer
report "$both" 'out of bounds' 'host code' nccl_too_much
report "$both" 'bad broadcast' 'host code' nccl_overlap
report checked 'uninitialised read' 'host code' nccl_unwritten
report "$both" 'open group' 'host code' nccl_open_group
for case in late_device nccl_send_alone; do report "$both" 'not supported' 'host code' $case; done
wrong "$both" nccl_no_event CUDA_ON_CPU_LAZY=1
for case in nccl_no_event nccl_right; do right "$both" $case; done
for how in kill fail; do CUDA_ON_CPU_NCCL=$how:1:1 right "$both" nccl_lost; done
CUDA_ON_CPU_LAZY=1 right "$both" nccl_right
wrong "$both" nccl_lost # where nothing is lost, it says so
found=$(CUDA_ON_CPU_NCCL=drop:1:1 $build/planted.fast nccl_right 2>&1)
result "$([ $? = 2 ] && grep -q 'CUDA_ON_CPU_NCCL=drop:1:1: expected' <<<"$found"; echo $?)" 'a wrong CUDA_ON_CPU_NCCL is not refused by name'
unset CUDA_ON_CPU_DEVICES

refused '__activemask' '__global__ void k(unsigned *p) { *p = __activemask(); }' __activemask
refused '__shared__' '__global__ void k() { __shared__ float s[32]; s[threadIdx.x] = 0; }' write_SHARED

for setting in CUDA_ON_CPU_SCHEDULE=backward CUDA_ON_CPU_LAZY=yes CUDA_ON_CPU_KEYS=2 CUDA_ON_CPU_WATCHDOG=0; do
    found=$(env $setting $build/clean.fast 2>&1)
    result "$([ $? = 2 ] && grep -q "cuda_on_cpu: $setting: expected" <<<"$found"; echo $?)" "$setting is not refused by name"
done
found=$(CUDA_ON_CPU_REPORTS=1 $build/planted.checked no_barrier 2>&1)
result "$([ "$(grep -c '^    at ' <<<"$found")" = 1 ] && grep -q 'more reports' <<<"$found"; echo $?)" 'the number of reports is not bounded'

# clean BUILD SETTING...: correct kernels, as many tests as they say.
clean() {
    local name=$1 found p f
    shift
    found=$(env "$@" timeout 60 $build/clean."$name" 2>&1) || echo "$found"
    read -r p _ f _ <<<"$(tail -n 1 <<<"$found")"
    [[ $p =~ ^[0-9]+$ && $f =~ ^[0-9]+$ ]] || p=0 f=1
    passed=$((passed + p)) failed=$((failed + f))
}
for name in $both; do
    for lazy in 0 1; do
        for schedule in forward reverse random:1 random:2; do clean "$name" CUDA_ON_CPU_LAZY=$lazy CUDA_ON_CPU_SCHEDULE=$schedule; done
    done
    clean "$name" CUDA_ON_CPU_KEYS=0
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
