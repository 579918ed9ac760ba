#!/bin/sh
# Counts the instructions that the NEON segment kernels run per 64 samples of a row and token, in an
# emulator that writes down every instruction of the kernel (kernels/README.md has the table; on
# x86-64 the kernel tests count by themselves).
# Usage: tests/cross/count_instructions.sh    after tests/cross/aarch64.sh
set -eu
cd "$(dirname "$0")/../.."

tests=${SDQ_BUILD_DIR:-build-aarch64}/tests/kernels_tests
name="one segment*"
step=-singlestep
if qemu-aarch64 -help | grep -q one-insn-per-tb; then step=-one-insn-per-tb; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export SDQ_TARGET=NEON

# count SECTION FUNCTION
count() {
  # The kernel says where it lies; the log covers that function alone.
  said=$(qemu-aarch64 "$tests" "$name" -c "$1" |
    sed -n 's/^ *kernel \(0x[0-9a-f]*\) samples \([0-9]*\)$/\1 \2/p')
  address=${said% *} samples=${said#* }
  size=$(nm -S -C "$tests" |
    sed -n "s/^[0-9a-f]* \([0-9a-f]*\) . sdq::kernels::N_NEON::$2(.*/\1/p")
  qemu-aarch64 "$step" -d exec,nochain -dfilter "$address+0x$size" -D "$log" "$tests" "$name" \
    -c "$1" > /dev/null
  awk -v name="$1" -v samples="$samples" '/^Trace/ { ++n }
    END { printf "NEON, %s: %d instructions, %.2f per 64 samples\n", name, n, n * 64 / samples }' "$log"
}

count "binary, decode" NibbleSegment
count "binary, prefill" NibbleSegment
count "packed, decode" TritSegment
count "packed, prefill" TritSegment
