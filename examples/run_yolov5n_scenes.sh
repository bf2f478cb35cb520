#!/usr/bin/env bash
# YOLOv5n on fashion-scenes: dense, then trained on without masks, with the published ones and with ours, at 0.2; exported,
# checked and timed. Runs that are finished are kept, stopped ones continue. An hour or so on two cores; for a quick look:
# run_yolov5n_scenes.sh OUT training.epochs=1 data.options.pictures=400
set -euo pipefail
cd "$(dirname "$0")/.."
make venv
out=${1:-runs}
shift || true

.venv/bin/python reproduce/fashion_scenes.py --runs "$out" --set "$@"
for name in dense best; do
  .venv/bin/activsparse export "$out/fashion_scenes_$name" --out "$out/$name.onnx"
done
.venv/bin/activsparse verify "$out/best.onnx"
.venv/bin/activsparse bench --dense "$out/dense.onnx" --sparse "$out/best.onnx"
