#!/bin/sh
# YOLOv5n on fashion-scenes: dense, then trained on without masks, with the published ones and with ours, at 0.2; exported,
# checked and timed, and shown at work on test pictures. Runs that are finished are kept, stopped ones continue. An hour
# or so on two cores; for a quick look:
# run_yolov5n_scenes.sh OUT training.epochs=1 data.options.pictures=400 data.options.test_pictures=50
set -eu
cd "$(dirname "$0")/.."
make venv
out=${1:-runs}
if [ $# -gt 0 ]; then shift; fi
mkdir -p "$out"

.venv/bin/python reproduce/fashion_scenes.py --runs "$out" --results "$out/fashion_scenes.csv" --docs "$out" --set "$@"
for name in dense best; do
  .venv/bin/activsparse export "$out/fashion_scenes_$name" --out "$out/$name.onnx"
done
.venv/bin/activsparse verify "$out/best.onnx"
.venv/bin/activsparse bench --dense "$out/dense.onnx" --sparse "$out/best.onnx"

.venv/bin/python - "$out" <<'END'
import sys
from torchvision.io import write_png
from activsparse.detect.scenes import Scenes

scenes = Scenes(6, "test")
for i in range(6):
    write_png(scenes[i].image, f"{sys.argv[1]}/scene{i}.png")
END
.venv/bin/activsparse detect "$out/best.onnx" "$out"/scene?.png --dense "$out/dense.onnx" --out "$out/detections" \
  --report "$out/detections.html"
echo "Look at $out/detection.md and $out/detections.html"
