#!/bin/sh
# Cross-builds a wheel for 64-bit ARM into DIST, on Debian: cmake/aarch64_wheel.sh PYTHON DIST
#
# Debian's arm64 Python, whose headers the wheel needs and under which it can be tried in an emulator,
# is unpacked beside the build (build/aarch64-python); nothing is installed. PYTHON has
# scikit-build-core and nanobind, and is the version that Debian has; exits with 3 if Debian's cannot be had.
set -eu
python=$(realpath -s "$1") dist=$2
cd "$(dirname "$0")/.."
root=$PWD/build/aarch64-python
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

if [ ! -e "$root/.complete" ]; then
  rm -rf "$root"
  apt=$root/.apt
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
  touch "$apt/status"
  # An apt of its own, which knows no installed package and only this architecture.
  own() {
    command=$1 && shift
    "$command" -q -o Dir::State="$apt/state" -o Dir::Cache="$apt/cache" -o Dir::State::status="$apt/status" \
      -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none -o APT::Sandbox::User= "$@"
  }
  own apt-get update
  if ! own apt-cache show "python$version" > /dev/null; then
    echo "$0: this Debian has no python$version for arm64, or its packages cannot be reached" >&2
    exit 3
  fi
  own apt-get install -y --no-install-recommends --download-only \
    "python$version" "libpython$version-dev" libstdc++6
  for package in "$apt"/cache/archives/*.deb; do dpkg -x "$package" "$root"; done
  rm -rf "$apt"
  touch "$root/.complete"
fi
# Debian's own only includes this one, by a path that would have to be on every compiler's command line.
cp "$root/usr/include/aarch64-linux-gnu/python$version/pyconfig.h" "$root/usr/include/python$version"

export _PYTHON_HOST_PLATFORM=linux-aarch64
export SETUPTOOLS_EXT_SUFFIX=".cpython-${version%.*}${version#*.}-aarch64-linux-gnu.so"
"$python" -m pip wheel -q . --no-deps --no-build-isolation -w "$dist" \
  -C build-dir=build/aarch64-wheel \
  -C cmake.define.CMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
  -C cmake.define.Python_INCLUDE_DIR="$root/usr/include/python$version"
