#!/usr/bin/env bash
# Every GPU check in one command, under nine minutes on a bare machine with an NVIDIA GPU:
# exactness of the CUDA attention paths against float64, then DPO against TRL at three sizes.
# Needs torch, transformers, peft and accelerate; where datasets or trl are missing the TRL side is skipped.
#   benchmarks/gpu.sh [FOLDER_FOR_RESULTS]
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu}
mkdir -p "$out"
export PYTHONPATH="src:tests:${PYTHONPATH:-}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
python3 -c 'import torch; assert torch.cuda.is_available(), "no NVIDIA GPU"; print(torch.__version__, torch.cuda.get_device_name())' || exit 1
status=0
timeout 120 python3 -m pytest -p no:cacheprovider -q tests/packing/test_varlen.py tests/packing/test_flex.py 2>&1 | tee "$out/exactness.txt" || status=1
for shape in qwen2.5-0.5b qwen2.5-1.5b llama-3.1-8b; do
    for lengths in hh long; do
        timeout 75 python3 benchmarks/gpu_dpo.py --shape "$shape" --lengths "$lengths" 2>&1 | tee "$out/$shape-$lengths.txt" || status=1
    done
done
# Several processes, one a GPU, by NCCL: what tests/training/test_processes.py runs on processors.
if [ "$(nvidia-smi -L | wc -l)" -ge 2 ]; then
    PREFINE_TEST_GPUS=1 timeout 500 python3 -m pytest -p no:cacheprovider -q -m processes tests/training/test_processes.py 2>&1 |
        tee "$out/processes.txt" || status=1
else
    echo "several processes were not run: they need two GPUs (three for all)" | tee "$out/processes.txt"
fi
exit $status
