#!/bin/bash
# What nvcc makes of the kernels, without a GPU: registers, shared memory and spills of each on each architecture, beside the
# committed table dev/cuda/resources.txt; and whether the machine code has the 128-bit loads and tensor-core instructions that
# the sources claim. Ends in `N passed, N failed`.
# Usage: dev/cuda/resources.sh [--write]    --write replaces the table
# NVCC=PATH, CUOBJDUMP=PATH and NVDISASM=PATH choose the tools. Without a disassembler (CUDA toolkits have one, and so have PyPI's
# triton and nvidia-cuda-nvdisasm) its part is skipped; so is all without nvcc.
cd "$(dirname "$0")/../.." || exit 1
table=dev/cuda/resources.txt build=build/cuda_resources passed=0 failed=0
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [ ! -x "$nvcc" ]; then
    echo "skipped: no nvcc; set NVCC"
    echo "0 passed, 0 failed"
    exit 0
fi
mkdir -p $build

result() { # result STATUS WHAT: one test, passed if STATUS is 0
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $2"
    fi
}

# ----------------------------------------------------------------------------
# registers, shared memory, spills

# kernel | architecture | registers | bytes of static shared memory | bytes of stack | bytes spilled (stores + loads)
rows() { # rows ARCH < ptxas' output
    c++filt | awk -v arch="$1" '
        /Compiling entry function/ {
            name = $0
            sub(/^[^\x27]*\x27/, "", name); sub(/\x27 for .*/, "", name); sub(/^void /, "", name)
            sub(/\([^()]*(\([^()]*\)[^()]*)*\)$/, "", name)
        }
        /bytes stack frame/ { stack = $1; spill = $5 + $9 }
        /Used [0-9]+ registers/ {
            match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
            shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
            printf "%-52s %-7s %9d %7d %6d %6d\n", name, arch, registers, shared, stack, spill
        }'
}

version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
{
    echo "# Written by dev/cuda/resources.sh --write with nvcc $version: what each kernel takes. A spill is a fault."
    printf '%-52s %-7s %9s %7s %6s %6s\n' '# kernel' arch registers shared stack spills
    for arch in sm_80 sm_90 sm_100; do
        "$nvcc" -std=c++17 -O3 -Werror all-warnings -Xptxas -v -I. -cubin -arch=$arch llmc/cuda/backend.cu -o $build/$arch.cubin >$build/$arch.txt 2>&1
        result $? "nvcc for $arch; see $build/$arch.txt" >&2
        rows $arch <$build/$arch.txt | sort
    done
} >$build/resources.txt
kernels=$(grep -vc '^#' $build/resources.txt)
result $((kernels < 30)) "only $kernels kernels were found in what ptxas printed"
spilling=$(awk '!/^#/ && $NF > 0' $build/resources.txt)
result "$([ -z "$spilling" ]; echo $?)" "these spill registers:
$spilling"

if [ "$1" = --write ]; then
    cp $build/resources.txt $table
    echo "written: $table"
elif [ "$(sed -n '1s/.*nvcc \([0-9.]*\):.*/\1/p' $table)" != "$version" ]; then
    echo "skipped: $table is of another nvcc than $version"
else
    diff -u $table $build/resources.txt
    result $? "what kernels take has changed; if that is meant: dev/cuda/resources.sh --write"
fi

# ----------------------------------------------------------------------------
# machine code

disassemble() { # disassemble CUBIN
    if [ -n "$disassembler" ]; then
        case $disassembler in
        *nvdisasm) "$disassembler" -c "$1" ;;
        *) "$disassembler" -sass "$1" ;;
        esac
    fi
}
for disassembler in "$CUOBJDUMP" "$NVDISASM" "$(command -v nvdisasm)" "$(command -v cuobjdump)" ''; do
    [ -x "$disassembler" ] && break
done
if [ -z "$disassembler" ]; then
    echo "skipped: the machine code; no nvdisasm or cuobjdump; set NVDISASM or CUOBJDUMP"
else
    for arch in sm_80 sm_90 sm_100; do
        disassemble $build/$arch.cubin | sed -n -e 's/^\.text\.\([A-Za-z0-9_]*\):.*/@\1/p' -e 's/.*Function : \([A-Za-z0-9_]*\).*/@\1/p' \
            -e 's/.*\(LDG\.E[A-Z0-9.]*\|STG\.E[A-Z0-9.]*\|HMMA[A-Z0-9.]*\).*/\1/p' | c++filt >$build/$arch.sass
        # has KERNEL INSTRUCTION: every form of a kernel whose demangled name begins so has it
        has() {
            awk -v kernel="$1" -v wanted="$2" '
                /^@/ { name = substr($0, 2); sub(/^void /, "", name); on = index(name, kernel) == 1; if (on) found[name] += 0; next }
                on && index($0, wanted) == 1 { found[name]++ }
                END { n = 0; for (k in found) { n++; if (!found[k]) bad = bad "\n    " k } if (!n) bad = "\n    no such kernel"; print substr(bad, 2) }
            ' $build/$arch.sass
        }
        while read -r kernel instruction; do
            bad=$(has "$kernel" "$instruction")
            result "$([ -z "$bad" ]; echo $?)" "$arch: no $instruction in
$bad"
        done <<'END'
copy_rows_kernel<true LDG.E.128
scatter_add_rows_kernel<true LDG.E.128
add_rmsnorm_kernel<true LDG.E.128
add_rmsnorm_kernel<true STG.E.128
rmsnorm_backward_kernel<true LDG.E.128
rmsnorm_backward_kernel<true STG.E.128
column_sum_kernel<true LDG.E.128
to_act_kernel<true LDG.E.128
to_act_kernel<true STG.E.128
swiglu_forward_kernel<true LDG.E.128
swiglu_forward_kernel<true STG.E.128
swiglu_backward_kernel<true LDG.E.128
swiglu_backward_kernel<true STG.E.128
output_chunks_kernel<true LDG.E.128
dlogits_rows_kernel<true LDG.E.128
dlogits_rows_kernel<true STG.E.128
rope_kv_write_kernel<true LDG.E.128
rope_kv_write_kernel<true STG.E.128
rope_backward_kernel<true LDG.E.128
rope_backward_kernel<true STG.E.128
kv_copy_page_kernel LDG.E.128
attention_forward_kernel HMMA
attention_decode_kernel HMMA
attention_dq_kernel HMMA
attention_dkv_kernel HMMA
END
    done
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
