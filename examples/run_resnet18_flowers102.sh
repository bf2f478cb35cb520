#!/bin/sh
# ResNet18 on Flowers102 with the published training settings: pretrained weights, 224x224, batch 64, 400 epochs, masks
# frozen half-way, sparsity 0.3, 1x1 convolutions left dense. Days on a CPU; meant for a GPU.
# Data and pretrained weights are downloaded where no copy is found; where they cannot be had, a message says so.
# Further options go to `activsparse train`, for example --set training.epochs=1 model.weights=null; OUT names the run
# folder. Called again, it continues a run that was stopped.
set -eu
cd "$(dirname "$0")/.."
make venv
out=${OUT:-runs/resnet18_flowers102}
if [ -f "$out/config.yaml" ]; then way=--resume; else way=--out; fi
.venv/bin/python -m activsparse train --recipe paper_resnet18_flowers102 "$way" "$out" "$@"
.venv/bin/python -m activsparse export "$out" --out "$out/sparse.onnx" --dense "$out/dense.onnx" --header "$out/masks.h"
.venv/bin/python -m activsparse verify "$out/sparse.onnx"
.venv/bin/python -m activsparse bench --dense "$out/dense.onnx" --sparse "$out/sparse.onnx"
