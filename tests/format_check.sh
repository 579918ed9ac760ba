#!/bin/sh
# Fails if a C++ file is not formatted as .clang-format says. Usage: tests/format_check.sh [--fix]
# Without clang-format 14 (other versions disagree in details) it says so and checks nothing.
set -eu
cd "$(dirname "$0")/.."

formatter=""
for candidate in clang-format-14 clang-format; do
  if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then
    formatter=$candidate
    break
  fi
done
if [ -z "$formatter" ]; then
  echo "SKIPPED: clang-format 14 is not installed"
  exit 0
fi

list() {
  find apps converter format kernels runtime tests -name '*.h' -o -name '*.cc'
}
if [ "${1:-}" = --fix ]; then
  list | xargs "$formatter" -i
else
  list | xargs "$formatter" --dry-run --Werror
fi
