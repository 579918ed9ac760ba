#!/bin/sh
# Cross-builds for 64-bit Arm on a Debian machine of another architecture and runs the tests under
# qemu-user. Usage: tests/cross/aarch64.sh [CTEST ARGUMENTS]    e.g. -R kernels
#
# qemu's cpu "max" offers NEON, SVE and SVE2; the kernel tests force each target in turn. The length
# of an SVE vector is a property of the machine, so after everything has run at qemu's default of 512
# bits the kernels run once more at 256 and 128, where Highway chooses other targets.
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

# The name of each target that the kernel tests force, at the SVE vector length given in bytes.
targets() {
  QEMU_CPU="max,sve-default-vector-length=$1" qemu-aarch64 "$build/tests/kernels_tests" -s \
    "every listed target can be forced and says its name" |
    sed -n 's/^  "\([A-Z0-9_]*\)" == "\1"$/ \1/p' | sort -u | tr -d '\n'
}
echo "Targets with SVE of 512 bits:$(targets 64); of 256 bits:$(targets 32); of 128 bits:$(targets 16)"

# The tests of the programs start them by name, which the kernel of this machine refuses.
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" -E '^cli:' "$@"
for bytes in 32 16; do
  echo "Kernels with SVE of $((8 * bytes)) bits:"
  QEMU_CPU="max,sve-default-vector-length=$bytes" qemu-aarch64 "$build/tests/kernels_tests"
done
