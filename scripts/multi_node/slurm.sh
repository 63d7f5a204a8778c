#!/usr/bin/env bash
# CONFIG_PATH=RECIPE.yml sbatch --nodes=4 scripts/multi_node/slurm.sh [--option value ...]
# One process on each machine, started by srun through PMIx; from the folder of the repository, which all machines share. Five minutes before
# the time is up the run saves and ends; the same call goes on with it, on as many machines as it then gets.
#SBATCH --job-name=steer
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=USR1@300
#SBATCH --output=steer-%j.log
set -euo pipefail
: "${CONFIG_PATH:?"set it to a recipe, for example CONFIG_PATH=scripts/train/rl/tiny/arithmetic/steering.yml"}"
# shellcheck source=scripts/common.sh
. scripts/common.sh
build train_steer MPI=1
exec srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=none ./train_steer --config "$CONFIG_PATH" --resume auto "$@"
