#!/usr/bin/env bash
# CONFIG_PATH=RECIPE.yml HOSTFILE=hosts.txt scripts/multi_node/mpirun.sh [--option value ...]   one process on each machine of the file
# CONFIG_PATH=RECIPE.yml RANKS=2            scripts/multi_node/mpirun.sh [--option value ...]   several on this machine
#
# For Open MPI. hosts.txt has a line "name slots=1" for each machine (with --device cuda as many slots as it has GPUs); each is reached by ssh
# without a password (or what MPIRUN_FLAGS says) and has this folder, built, at the same path. Only the first machine's output_dir is
# written to. With both, RANKS processes on the machines of the file; with neither two on this machine. Ctrl-C saves, then ends.
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/common.sh
. scripts/common.sh
find_recipe scripts/train/rl/tiny/arithmetic/steering.yml
place_options "$@"
if [ -n "${HOSTFILE:-}" ]; then
    [ ! -f "$from/$HOSTFILE" ] || HOSTFILE=$from/$HOSTFILE
    [ -f "$HOSTFILE" ] || refuse "HOSTFILE=$HOSTFILE: there is no such file" "a file with a line \"name slots=1\" for each machine, or RANKS=N for this one"
    grep -qvE '^[[:space:]]*(#|$)' "$HOSTFILE" || refuse "HOSTFILE=$HOSTFILE names no machine" "a line \"name slots=1\" for each"
fi
if [ -n "${RANKS+set}" ] && ! [[ $RANKS =~ ^[1-9][0-9]{0,4}$ ]]; then refuse "RANKS=$RANKS: expected a whole number from 1" "RANKS=2, or leave it out"; fi
if ! command -v mpirun >/dev/null; then
    echo "error: mpirun was not found" >&2
    echo "  -> scripts/setup.sh --mpi, then make" >&2
    exit 1
fi
build train_steer MPI=1

# A machine that is gone is noticed by probes of its silent connection: after 5 s, then every 2 s, three times.
flags=(--bind-to none --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3)
if [ "$(id -u)" = 0 ]; then flags+=(--allow-run-as-root); fi
for name in OMP_NUM_THREADS OMP_WAIT_POLICY LLMC_ISA CUDA_VISIBLE_DEVICES NCCL_DEBUG NCCL_SOCKET_IFNAME NCCL_IB_HCA; do
    if [ -n "${!name:-}" ]; then flags+=(-x "$name"); fi
done
if [ -n "${HOSTFILE:-}" ]; then
    flags+=(--hostfile "$HOSTFILE")
    [ -z "${RANKS:-}" ] || flags+=(--oversubscribe -np "$RANKS")
else
    ranks=${RANKS:-2}
    threads=$(($(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) / ranks))
    if [ -z "${OMP_NUM_THREADS:-}" ]; then flags+=(-x "OMP_NUM_THREADS=$((threads > 0 ? threads : 1))"); fi
    flags+=(--oversubscribe -np "$ranks")
fi
# shellcheck disable=SC2206 # a list of words
flags+=(${MPIRUN_FLAGS:-})

# mpirun leaves its processes one second to end when it is itself interrupted. So it is not: it passes SIGUSR1 on, at which they save.
own_group=setsid # macOS has none; there the shell's job control starts it apart from what Ctrl-C reaches
command -v setsid >/dev/null || { own_group=''; set -m; }
$own_group mpirun "${flags[@]}" ./train_steer --config "$CONFIG_PATH" ${options[@]+"${options[@]}"} </dev/null &
mpirun=$!
trap 'kill -USR1 $mpirun 2>/dev/null' INT TERM
status=0
while wait "$mpirun" || status=$?; kill -0 "$mpirun" 2>/dev/null; do status=0; done
exit "$status"
