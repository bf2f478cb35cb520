#!/usr/bin/env bash
# YOLOv5n on fashion-scenes: dense, then sparse at 0.2 from its weights; exported, checked and timed. EPOCHS=2 is a
# quick look; the default takes about half an hour for each of both on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
make venv
run=.venv/bin/activsparse
out=${1:-runs/scenes}
epochs=${EPOCHS:-60}

$run train-detector --out "$out/dense" --set training.epochs="$epochs"
$run train-detector --out "$out/sparse" --set training.epochs="$epochs" init_from="$out/dense" \
  training.lr=0.001 sparsity.sparsity=0.2 sparsity.pattern=auto
$run verify "$out/sparse/detector.onnx"
$run bench --dense "$out/dense/detector.onnx" --sparse "$out/sparse/detector.onnx"
