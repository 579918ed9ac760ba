#!/bin/sh
# Cross-builds for 64-bit Arm on a Debian machine of another architecture and runs the tests under
# qemu-user. Usage: tests/cross/aarch64.sh [CTEST ARGUMENTS]    e.g. -R kernels
#
# The tests run on a processor with NEON, as small boards have; then the kernels once more with SVE and
# SVE2. The length of an SVE vector is a property of the machine, and Highway chooses other targets at
# another length, so they run at 512, 256 and 128 bits.
set -eu
cd "$(dirname "$0")/../.."

packages="libhwy-dev:arm64 libfmt-dev:arm64 libxxhash-dev:arm64
libpcre2-dev:arm64 libstdc++6:arm64 g++-aarch64-linux-gnu qemu-user"

apps/install_dependencies.sh test

missing=""
for package in $packages; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
  root=""
  [ "$(id -u)" -eq 0 ] || root=sudo
  echo "Installing:$missing"
  $root dpkg --add-architecture arm64
  $root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  # shellcheck disable=SC2086
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

build=${SDQ_BUILD_DIR:-build-aarch64}
cmake --preset aarch64 -B "$build" -G Ninja
cmake --build "$build" -j "$(nproc)"

# The tests of the programs start them by name, which the kernel of this machine refuses.
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" -E '^cli:' "$@"
for bytes in 64 32 16; do
  export QEMU_CPU="max,sve-default-vector-length=$bytes"
  echo "Kernels with SVE of $((8 * bytes)) bits, targets:"
  qemu-aarch64 "$build/tests/kernels_tests" -s "every listed target can be forced and says its name" |
    sed -n 's/^  "\([A-Z0-9_]*\)" == "\1"$/  \1/p' | sort -u
  qemu-aarch64 "$build/tests/kernels_tests"
done
