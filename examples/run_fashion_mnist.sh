#!/bin/sh
# The demo's walk on Fashion-MNIST. An existing copy is used where one is found: $ACTIVSPARSE_DATA, ./data, or the
# folder of Debian's dataset-fashion-mnist; else it is downloaded. Further options go to demo.py, for example --epochs 3.
set -eu
cd "$(dirname "$0")/.."
make venv
exec .venv/bin/python examples/demo.py --data fashion_mnist --out demo_out/fashion_mnist "$@"
