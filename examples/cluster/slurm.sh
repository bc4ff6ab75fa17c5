#!/bin/bash
# MODEL=M DATA=/shared/pairs.jsonl sbatch examples/cluster/slurm.sh
# Two machines with eight GPUs each, from a folder that both see. Before the time is up the run saves a checkpoint and ends with 75,
# whereupon the job is put into the queue again and goes on.
#SBATCH --job-name=prefine
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=prefine-%j.log
set -euo pipefail

MODEL=${MODEL:?a folder or Hub id}
DATA=${DATA:?preference pairs}
RUN=${RUN:-runs/$SLURM_JOB_ID}
HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD=${HOSTS%%$'\n'*} # by head(1) in a pipe, scontrol may be killed while it still writes

code=0
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
# A machine that has ended leaves the other its time to end, too.
srun --kill-on-bad-exit=0 --wait=600 prefine launch --machines "$SLURM_NNODES" --processes 8 --head "$HEAD" \
  dpo --model "$MODEL" --data "$DATA" --output-dir "$RUN" --fsdp true --resume auto --stop-after 7h30m || code=$?

if [ "$code" = 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
