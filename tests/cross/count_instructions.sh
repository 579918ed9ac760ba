#!/bin/sh
# Counts the instructions that the NEON segment kernels run per 64 samples of a row and token, in an
# emulator that writes down every instruction of the kernel, and fails where one is over its budget
# (kernels/README.md has the table; on x86-64 the kernel tests count by themselves).
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

# count SECTION BUDGET FUNCTION...
count() {
  section=$1 most=$2
  shift 2
  # The kernels say where they lie; the log covers these functions alone.
  said=$(qemu-aarch64 "$tests" "$name" -c "$section" |
    sed -n 's/^ *kernels \(0x[0-9a-fx ]*\) samples \([0-9]*\)$/\1 \2/p')
  samples=${said##* } ranges=""
  for address in ${said% *}; do
    size=$(nm -S -C "$tests" |
      sed -n "s/^[0-9a-f]* \([0-9a-f]*\) . sdq::kernels::N_NEON::$1(.*/\1/p")
    ranges="$ranges${ranges:+,}$address+0x$size"
    shift
  done
  qemu-aarch64 "$step" -d exec,nochain -dfilter "$ranges" -D "$log" "$tests" "$name" \
    -c "$section" > /dev/null
  awk -v name="$section" -v samples="$samples" -v most="$most" '/^Trace/ { ++n }
    END {
      printf "NEON, %s: %d instructions, %.2f per 64 samples\n", name, n, n * 64 / samples
      if (n == 0 || n * 64 / samples > most) { print "over its budget of " most; exit 1 }
    }' "$log"
}

count "binary, decode" 6 NibbleToken
count "binary, prefill" 5 NibbleSegment
count "packed, decode" 14.5 TritToken
count "packed, prefill" 9.8 TritSegment
count "with derived samples" 16.5 DerivedToken
