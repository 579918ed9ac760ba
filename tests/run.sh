#!/bin/sh
# Installs what the tests need, builds everything with warnings as errors, runs all tests.
# Usage: tests/run.sh [PRESET]    presets: release (default), debug, clang, asan, tsan
set -eu
cd "$(dirname "$0")/.."

preset=${1:-release}
apps/install_dependencies.sh test
if [ "$preset" = clang ] && ! command -v clang++ >/dev/null; then
  echo "The preset 'clang' needs the package clang." >&2
  exit 1
fi
cmake --preset "$preset" -G Ninja -DSDQ_BUILD_TESTS=ON -DSDQ_WERROR=ON
cmake --build "build-$preset"
cd "build-$preset"
exec ctest --output-on-failure -j "$(nproc)"
