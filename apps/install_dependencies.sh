#!/bin/sh
# Installs the Debian packages that SDQ is built with. Usage: install_dependencies.sh [test]
# With "test": also what the tests need. Does nothing when everything is there.
set -eu

packages="g++ cmake ninja-build pkg-config libhwy-dev libfmt-dev libxxhash-dev libpcre2-dev
nlohmann-json3-dev libcli11-dev"
if [ "${1:-}" = test ]; then
  packages="$packages catch2"
fi

missing=""
for package in $packages; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "These packages are missing:$missing" >&2
    echo "Install them as root: apt-get install$missing" >&2
    exit 1
  }
  root=sudo
fi
echo "Installing:$missing"
$root env DEBIAN_FRONTEND=noninteractive apt-get update -q
# shellcheck disable=SC2086
$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
