#!/usr/bin/env bash
# Serving and training on a GPU, unattended: no network, no server, no Java. Some 8 minutes.
#
#   benchmarks/gpu.sh [RESULTS]            # PYTHON names the interpreter; QUICK=1: small models, a CPU will do
#
# Wants torch >= 2.11, transformers >= 5.17 and the project's other libraries, torchserve and its archivers apart.
# Weights are random and films are drawn where none are at hand. Each benchmark runs whether or not the other failed.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
RESULTS=${1:-benchmarks/results${QUICK:+/quick}}
QUICK=${QUICK:+--quick}
export HF_HUB_OFFLINE=1 PYTHONPATH=$PWD
mkdir -p "$RESULTS"

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no GPU is seen"
failed=0
echo "== serving, in process"
$PYTHON -m benchmarks.gpu $QUICK --out "$RESULTS/serving-gpu.json" || failed=1
echo "== training loop"
$PYTHON benchmarks/training.py $QUICK --out "$RESULTS/training-gpu.json" || failed=1
exit $failed
