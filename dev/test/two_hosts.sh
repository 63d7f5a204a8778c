#!/usr/bin/env bash
# Two hosts on one machine: network namespaces with their own names and addresses, joined by one cable. Trains over it and compares with a
# run alone, bit by bit; then swallows every packet, and then pulls the cable, in mid-run: the run must end within 40 seconds, with an
# error, and go on from its last checkpoint as if nothing had been. Needs root, `ip` and mpirun; without them it says so and passes over.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "skipped: two hosts: $1"; exit 0; }
fail() { echo "FAILED two hosts: $1"; tail -n 20 "$dir/log"; exit 1; }
[ "$(id -u)" = 0 ] || skip "only root can make network namespaces"
for tool in ip unshare mpirun; do command -v $tool >/dev/null || skip "$tool was not found"; done
[ -x train_steer ] || skip "train_steer is not built"
ldd ./train_steer | grep -q libmpi || skip "train_steer was built without MPI"

dir=$(mktemp -d /tmp/two_hosts.XXXXXX)
a=steer$$a b=steer$$b
clean() { for n in $a $b; do ip netns del "$n" 2>/dev/null || true; done; rm -rf "$dir"; }
trap clean EXIT
join() { # two fresh hosts with a cable between them
    for n in $a $b; do ip netns del "$n" 2>/dev/null || true; done
    ip netns add $a && ip netns add $b && ip link add cable netns $a type veth peer name cable netns $b || return 1
    ip -n $a addr add 10.77.0.1/24 dev cable
    ip -n $b addr add 10.77.0.2/24 dev cable
    for n in $a $b; do ip -n "$n" link set lo up && ip -n "$n" link set cable up; done
}
join 2>"$dir/log" || skip "no network namespaces here: $(head -n 1 "$dir/log")"

# What ssh is elsewhere: runs a command on the host with this address.
cat > "$dir/rsh" <<END
#!/bin/sh
case \$1 in 10.77.0.1) n=$a;; 10.77.0.2) n=$b;; *) echo "no host \$1" >&2; exit 1;; esac
shift
exec ip netns exec \$n unshare --uts sh -c "hostname \$n; \$*"
END
chmod +x "$dir/rsh"
printf '10.77.0.1 slots=1\n10.77.0.2 slots=1\n' > "$dir/hosts"

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive CONFIG_PATH=scripts/train/rl/tiny/arithmetic/steering.yml HOSTFILE=$dir/hosts
export MPIRUN_FLAGS="--mca plm_rsh_agent $dir/rsh --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24"
options="--prompts_per_step 8 --num_generations 4 --max_steps 24 --save_steps 2 --save_total_limit 3 --rollout_batch_size 1"
run=tiny/arithmetic/steering/seed-0
# shellcheck disable=SC2086 # options is a list of words
on_two() { "$dir/rsh" 10.77.0.1 scripts/multi_node/mpirun.sh $options --output_dir "$dir/$1" --resume auto >"$dir/log" 2>&1; }
# shellcheck disable=SC2086
alone() { ./train_steer --config $CONFIG_PATH $options --output_dir "$dir/$1" --resume auto >"$dir/log" 2>&1 || fail "a run alone"; }
same() {
    for file in steering_vectors optimizer; do
        cmp "$dir/alone/$run/checkpoint-24/$file.safetensors" "$dir/$1/$run/checkpoint-24/$file.safetensors" || fail "$2: other bits than alone"
    done
}

alone alone
on_two together || fail "a run on two hosts"
same together "a run on two hosts"
echo "two hosts: the bits of a run alone"

for cut in swallowed pulled; do
    join
    on_two $cut & training=$!
    until [ -d "$dir/$cut/$run/checkpoint-2" ]; do kill -0 $training 2>/dev/null || fail "the run ended before its link was cut"; sleep 0.05; done
    start=$(date +%s)
    if [ $cut = pulled ]; then
        ip -n $a link set cable down
    else # each host sends to a card that does not exist
        ip -n $a neigh replace 10.77.0.2 lladdr 02:00:00:00:00:99 dev cable nud permanent
        ip -n $b neigh replace 10.77.0.1 lladdr 02:00:00:00:00:99 dev cable nud permanent
    fi
    code=0
    wait $training || code=$?
    took=$(($(date +%s) - start))
    if [ $code = 0 ] || [ $took -gt 40 ] || [ -d "$dir/$cut/$run/checkpoint-24" ]; then fail "cable $cut: ended with $code after $took s"; fi
    grep -q 10.77.0.2 "$dir/log" || fail "cable $cut: the error does not name the host"
    sleep 1
    for n in $a $b; do [ -z "$(ip netns pids "$n")" ] || fail "cable $cut: processes are left on host $n: $(ip netns pids "$n")"; done
    alone $cut
    same $cut "cable $cut, then resumed alone"
    echo "two hosts, cable $cut in mid-run: ended with $code after $took s; resumed alone, the bits of an unbroken run"
done
