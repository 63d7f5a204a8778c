#!/usr/bin/env bash
# Builds here what dev/gpu/first_run.sh runs there, where neither our libraries nor a network may be: the programs, the kernel lab and
# products.cu for one compute capability, with the shared libraries that they need (but the compiler's and CUDA's), in DIR. It must stay
# under 60 MiB. nvcc is needed, a GPU is not.
# Usage: dev/gpu/pack.sh [DIR, build/first_run]; GPU_ARCH=90 chooses. EMULATE=1: for the emulator, as first_run.sh --rehearse wants it.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:-build/first_run} arch=${GPU_ARCH:-90}
labs=(rmsnorm attention logprob column_sum swiglu matmul)
rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/lib"
if [ -n "${EMULATE:-}" ]; then
    ${MAKE:-make} CUDA=emulate all
    cp train_steer eval_steer test_steer "$dir/bin"
    cuda=${CUDA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")}
    compile() { # compile FILE OUT: fast, without checks
        "${CXX:-g++}" -std=c++17 -DCUDA_ON_CPU -ffp-contract=off -fno-strict-aliasing -Wall -Wextra -Werror -Wno-unknown-pragmas \
            -Idev/cuda_on_cpu/shadow -I. -isystem "$cuda/include" -O1 -x c++ "$1" -x none build/cuda_on_cpu.o -o "$2"
    }
else
    ${MAKE:-make} CUDA=1 GPU_ARCH="$arch" MPI=0 NCCL=0 BUILD=build/gpu all
    cp build/gpu/train_steer build/gpu/eval_steer build/gpu/test_steer "$dir/bin"
    compile() { nvcc -std=c++17 -O3 -arch="sm_$arch" -I. "$1" -o "$2" -lcublasLt; }
fi
for name in "${labs[@]}"; do compile dev/cuda/"$name".cu "$dir/bin/$name"; done
compile dev/gpu/products.cu "$dir/bin/products"
for program in "$dir"/bin/*; do
    ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
        grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcublas|libcublasLt|libcudart|libcuda|libnvidia[^/]*)\.so' || true
done | sort -u | while read -r library; do cp -L "$library" "$dir/lib"; done
strip "$dir"/bin/* 2>/dev/null || true
git rev-parse HEAD > "$dir/commit" 2>/dev/null || true
size=$(du -sm "$dir" | cut -f1)
echo "$dir: $size MiB, $(find "$dir/bin" -type f | wc -l) programs, $(find "$dir/lib" -type f | wc -l) libraries"
if [ "$size" -ge 60 ]; then
    echo "error: $dir has $size MiB, and less than 60 can travel" >&2
    exit 1
fi
