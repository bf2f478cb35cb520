#!/bin/sh
# All fuzzing in turn, sharing some minutes: random graphs, ONNX files, plans. make fuzz runs it.
# usage: run.sh PYTHON MINUTES [SEED]
set -eu
cd "$(dirname "$0")/../.."
python=$1
seconds=$(awk "BEGIN { print int($2 * 60) }")
seed=${3:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
export PYTHONPATH=src:tests:tests/engine OMP_NUM_THREADS=1 ACTIVSPARSE_CACHE=off
found=build/fuzz
mkdir -p $found/onnx $found/plans
echo "fuzz: $seconds s, seed $seed; what fails is kept in $found"

failed=0
echo "== random graphs, against ONNX Runtime"
"$python" -m fuzz --minutes "$(awk "BEGIN { print $seconds * 0.6 / 60 }")" --seed "$seed" \
  --out $found || failed=1

echo "== hostile ONNX files"
share=$((seconds / 5 + 1))
"$python" -m fuzz.hostile --cases "$((share * 10))" --first "$seed" || failed=1
packages=build/fuzz-packages
if [ -d $packages/atheris ] \
  || "$python" -m pip install -q --no-deps --only-binary :all: --target $packages \
    -c constraints.txt atheris 2> /dev/null
then
  PYTHONPATH=$PYTHONPATH:$packages "$python" -m fuzz.onnx_loader $found/onnx tests/fuzz/corpus/onnx \
    -max_total_time="$share" -seed="$seed" -artifact_prefix=$found/ -verbosity=0 \
    -print_final_stats=1 2> $found/onnx.log || failed=1
  grep -E "Uncaught|Error|stat::number|SUMMARY" $found/onnx.log || tail -3 $found/onnx.log
else
  echo "not by coverage: atheris has no wheel for this Python"
fi

echo "== plans, by coverage"
clang=
for name in clang++ clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do
  if [ -z "$clang" ] && command -v $name > /dev/null; then clang=$name; fi
done
if [ "${FUZZ_PLANS:-yes}" = no ]; then
  echo "not tried: FUZZ_PLANS=no"
elif [ -n "$clang" ] && command -v cmake > /dev/null; then
  cmake -S . -B build/fuzz-plans -DACTIVSPARSE_FUZZ=ON -DACTIVSPARSE_PYTHON=OFF \
    -DCMAKE_CXX_COMPILER="$clang" > $found/cmake.log
  cmake --build build/fuzz-plans --target fuzz_plan_reader -j 2 >> $found/cmake.log
  build/fuzz-plans/fuzz_plan_reader $found/plans tests/fuzz/corpus/plans \
    -max_total_time="$share" -seed="$seed" -artifact_prefix=$found/ -verbosity=0 -timeout=60 \
    -rss_limit_mb=4096 -print_final_stats=1 2> $found/plans.log || failed=1
  grep -E "ERROR|stat::number|SUMMARY" $found/plans.log || tail -3 $found/plans.log
else
  echo "not tried: clang++ or cmake is missing"
fi
exit $failed
