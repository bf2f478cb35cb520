#!/bin/sh
# The engine's tests with the lowest versions pyproject.toml allows, in an environment of their own.
# usage: lowest.sh PYTHON (of the .venv whose extension module is built)
set -eu
python=$1
cd "$(dirname "$0")/.."
folder=build/lowest
[ -x $folder/bin/python ] || "$python" -m venv $folder
"$python" - > $folder/lowest.txt << 'END'
import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"], *project["optional-dependencies"]["bench"]]
print("\n".join(sorted({re.sub(r">=", "==", line) for line in wanted})))
END
cat $folder/lowest.txt
$folder/bin/python -m pip install -q -r $folder/lowest.txt "pytest>=8" "pytest-timeout>=2.3" "hypothesis>=6.100"
PYTHONPATH=src OMP_NUM_THREADS=1 $folder/bin/python -m pytest -q -m "not slow" \
  tests/masks --ignore tests/masks/test_propagate.py tests/test_files.py tests/test_imports.py tests/engine/test_load.py \
  tests/engine/test_passes.py tests/engine/test_views.py tests/engine/test_matmul.py \
  tests/engine/test_fallback.py tests/engine/test_plan_file.py tests/engine/test_random_graphs.py \
  tests/engine/test_onnxruntime_operators.py tests/engine/test_resize.py tests/engine/test_results.py \
  tests/engine/test_ranks.py
