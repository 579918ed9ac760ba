#!/bin/sh
# From nothing to a story: installs what is needed, builds, converts the bundled checkpoint and
# runs it. Usage: apps/demo.sh [PROMPT]
set -eu
cd "$(dirname "$0")/.."

prompt=${1:-"Once upon a time"}
build=build-release

echo "== 1/4 packages"
apps/install_dependencies.sh
echo "== 2/4 build (some minutes, the first time)"
cmake --preset release -G Ninja -DSDQ_BUILD_TESTS=OFF >/dev/null
cmake --build "$build"
echo "== 3/4 convert stories-llama-5m: 16 bits per weight to 2.5"
"$build/apps/sdq-convert" apps/models/stories-llama-5m -o "$build/stories.sdq" --osr 2.5
echo "== 4/4 run"
"$build/apps/sdq-run" "$build/stories.sdq" -p "$prompt" -n 200 --seed 7
