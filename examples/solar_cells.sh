#!/bin/sh
# The one command on real photographs and real weights, both packages for pip: EfficientNet-Lite0 with ImageNet weights
# learns to tell defective solar cells from functional ones (elpv-dataset, licence CC BY-NC-SA 4.0: for research, not for
# products), and then to do so 1.5 times as fast. QUICK=1 is a trial in minutes, whose accuracy says little.
# What is finished is kept, what was stopped goes on. Further options go to `activsparse sparsify`, for example
# solar_cells.sh OUT --threads 2
set -eu
cd "$(dirname "$0")/.."
make venv
out=${1:-solar_cells}
if [ $# -gt 0 ]; then shift; fi

.venv/bin/python reproduce/solar_cells.py --out "$out"
effort="--input-size 112x112 --dense-epochs 4 --epochs 4"
if [ -n "${QUICK:-}" ]; then effort="--input-size 96x96 --quick"; fi
# shellcheck disable=SC2086 # several options
.venv/bin/activsparse sparsify timm:tf_efficientnet_lite0 --weights "$out/lite0.pth" --data "$out/fold0" \
  --target-speedup 1.5 --out "$out/${QUICK:+quick_}faster" $effort "$@" \
  --set data.mean='[0.498,0.498,0.498]' data.std='[0.502,0.502,0.502]'
echo "Look at $out/${QUICK:+quick_}faster/report.html; $out/${QUICK:+quick_}faster/README.md says how to use the network"
