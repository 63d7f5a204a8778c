#!/usr/bin/env bash
# dev/test/strays.sh PROGRAM...: disassembles programs or objects and names each function that holds an instruction which not every
# CPU has, unless its name says a level that has it (llmc/cpu/level.h), or sha_ni (llmc/files/sha256.h). Ends in `N passed, N failed`, a program each.
# OBJDUMP: that of the programs' machine.
set -uo pipefail
objdump=${OBJDUMP:-objdump}
passed=0 failed=0

# Beyond x86-64's baseline (SSE2): VEX and EVEX, which are AVX, FMA, F16C, AVX2 and AVX-512, by the registers they name; AMX; SSE3 to
# SSE4.2 and the bit instructions, which no level is compiled with but AVX includes. Beyond aarch64's: bf16, dot products, SVE.
# clang before 17 calls the bodies of parallel regions .omp_outlined.; they follow the function they come from.
strays() {
    "$objdump" -d --no-show-raw-insn "$1" | awk '
        /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name); if (name !~ /^\.omp_outlined/) f = name; next }
        /file format/ { arm = $0 ~ /aarch64/ }
        { op = $2; seen++ }
        arm {
            if (op ~ /^bf(dot|mmla|mlal|cvt)/) need("bf16", "neon_bf16")
            else if (op ~ /^[us]+(dot|mmla)$/) need("dot products", "^$")
            else if ($0 ~ /[ ,{]z[0-9]+\.[bhsd]/) need("SVE", "^$")
            next
        }
        op ~ /^(tdp|tile|ldtilecfg|sttilecfg)/ { need("AMX", "amx"); next }
        op ~ /^sha(1|256)[a-z]/ { need("SHA", "sha_ni"); next }
        op ~ /^v[a-z]/ && op !~ /^ver[rw]$/ {
            if (op ~ /bf16/) need("AVX512-BF16", "amx|avx512_bf16")
            else if (op ~ /^v(pdp[bw]|perm[it2]*b$|p[ms]*shld|p[ms]*shrd|popcnt|plzcnt|pconflict|p2intersect|aes|pclmul|gf2p8|pmadd52|.*ph$|.*sh$)/) need("beyond the levels", "^$")
            else if ($0 ~ /%zmm|%k[0-7]|[xy]mm(1[6-9]|2[0-9]|3[01])/) need("AVX-512", "amx|avx512")
            else need("AVX", "amx|avx512|avx2")
            next
        }
        op ~ /^(k(mov|or|and|xor|not|shift|add|unpck|test|xnor)[a-z]*[bwdq])$/ { need("AVX-512", "amx|avx512"); next }
        op ~ /^(andn|bextr|bls[irm][a-z]*|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|lzcnt|movbe|crc32[bwlq]?|popcnt[wlq]?)$/ ||
        op ~ /^(pshufb|palignr|ph(add|sub)|pabs|psign|pmaddubsw|pmulhrsw|pmulld|pmuldq|ptest|pblend|blend|round[sp]|insertps|extractps|pextr[bdq]|pinsr[bdq]|pmov[sz]x|pm(ax|in)(s[bd]|u[wd])|packusdw|pcmpeqq|pcmpgtq|pcmp[ei]str|mov(s[hl]|d)dup|h(add|sub)p|addsubp|lddqu|dpp[sd]|mpsadbw|phminpos|aes|pclmul)/ {
            need("SSE3 to SSE4.2", "amx|avx512|avx2|sha_ni")
        }
        function need(what, levels) { if (f !~ levels) stray[f ": " what]++ }
        END {
            if (seen < 1) print "no instructions were found"
            for (s in stray) print s " (" stray[s] " times)"
        }' | sort
}

for program in "$@"; do
    found=$(strays "$program")
    if [ -z "$found" ]; then passed=$((passed + 1))
    else
        echo "FAILED: $program holds instructions that not every CPU has outside the functions of a level that has them:"
        echo "$found" | head -n 20
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
