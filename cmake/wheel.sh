#!/bin/sh
# A wheel whose bytes depend on the sources and the compiler alone, and what it is made of beside it.
# usage: wheel.sh PYTHON FOLDER
set -eu
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
# Times in the archive are those of the last commit; of an unpacked source, a fixed one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 1577836800)}
export SOURCE_DATE_EPOCH
umask 022
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip wheel -q --no-deps --no-build-isolation --wheel-dir "$scratch/wheel" \
  --config-settings build-dir="$scratch/build" .
cp "$scratch"/wheel/*.whl "$folder"
sha256sum "$folder"/activsparse-*.whl
