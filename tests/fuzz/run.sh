#!/bin/sh
# Builds every fuzz target with clang's libFuzzer, AddressSanitizer and UBSan, and runs each.
# Usage: tests/fuzz/run.sh [SECONDS] [TARGET...]    60 seconds and all targets unless told
# SDQ_BUILD_DIR: the build folder (build-fuzz). New inputs collect in its corpus/<name>/; an input
# that fails is left in its failures/ and the script ends with an error.
set -eu
cd "$(dirname "$0")/../.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
command -v clang++ >/dev/null || {
  echo "The preset 'fuzz' needs the packages clang and libclang-rt-14-dev." >&2
  exit 1
}
apps/install_dependencies.sh test

build=${SDQ_BUILD_DIR:-build-fuzz}
cmake --preset fuzz -B "$build" -G Ninja
if [ $# -eq 0 ]; then
  for source in tests/fuzz/*_fuzz.cc; do
    set -- "$@" "$(basename "$source" .cc)"
  done
fi
cmake --build "$build" -j "$(nproc)" --target "$@"

failed=""
mkdir -p "$build/failures"
for target in "$@"; do
  name=${target%_fuzz}
  mkdir -p "$build/corpus/$name"
  echo "== $target, $seconds s"
  # -malloc_limit_mb: what an input of a few kilobytes may ask for at once. The inputs must lead to
  # no allocation that their own size does not justify.
  "$build/tests/fuzz/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=256 \
    -timeout=10 -max_len=65536 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$build/failures/$name-" \
    "$build/corpus/$name" "tests/fuzz/corpus/$name" || failed="$failed $target"
done
if [ -n "$failed" ]; then
  echo "Failed:$failed (inputs in $build/failures)" >&2
  exit 1
fi
echo "All clean."
