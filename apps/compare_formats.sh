#!/bin/sh
# Quantizes one GGUF model with llama.cpp in several formats and with sdq-convert to no more bytes,
# measures all files with their own runtime's perplexity at 512 tokens, and prints a Markdown table.
# Both sides calibrate on the same text.
#
#   apps/compare_formats.sh [OPTIONS] LLAMA_BIN_FOLDER MODEL.gguf CALIBRATION_TEXT EVALUATION_TEXT
#
#   -f 'FORMATS'  llama.cpp's formats (default: IQ2_XXS IQ2_S Q2_K IQ3_XXS Q3_K_M Q4_K_M)
#   -n N          windows to evaluate (default: all)
#   -k N          calibration windows (default 128)
#   -a 'ARGS'     more arguments for sdq-convert
#   -t N          threads (default: one per core)
#   -b FOLDER     where sdq's programs are (default build-release/apps)
#   -o FOLDER     keep the files here, and use those that are there already
#
# LLAMA_BIN_FOLDER holds llama-quantize, llama-imatrix and llama-perplexity. Their formats are made
# from the model in F16, so that what they quantize is what sdq-convert reads. The two protocols
# differ (llama-perplexity scores the second half of each window only): compare the ratios to each
# runtime's own figure for the unquantized model, which the last column and the one before it give.
set -eu

usage() { sed -n '2,21s/^# \{0,1\}//p' "$0"; }
fail() { echo "compare_formats.sh: error: $1" >&2; exit "${2:-1}"; }

formats='IQ2_XXS IQ2_S Q2_K IQ3_XXS Q3_K_M Q4_K_M' chunks='' calibration_windows=128 more=''
threads=$(getconf _NPROCESSORS_ONLN) programs=$(dirname "$0")/../build-release/apps keep=''
while getopts 'f:n:k:a:t:b:o:h' option; do
  case $option in
    f) formats=$OPTARG ;;
    n) chunks=$OPTARG ;;
    k) calibration_windows=$OPTARG ;;
    a) more=$OPTARG ;;
    t) threads=$OPTARG ;;
    b) programs=$OPTARG ;;
    o) keep=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -eq 4 ] || { usage >&2; exit 2; }
llama=$1 model=$2 calibration=$3 evaluation=$4
for file in "$model" "$calibration" "$evaluation"; do
  [ -f "$file" ] || fail "no such file: $file"
done
for program in llama-quantize llama-imatrix llama-perplexity; do
  [ -x "$llama/$program" ] || fail "no $program in $llama"
done
for program in sdq-convert sdq-ppl; do
  [ -x "$programs/$program" ] || fail "no $program in $programs"
done
if [ -z "$keep" ]; then
  keep=$(mktemp -d)
  trap 'rm -rf "$keep"' EXIT
  trap 'exit 130' INT TERM
fi
mkdir -p "$keep"

# step FILE COMMAND...: runs the command unless the file is there; its output goes to FILE.log. A
# file appears when it is complete.
step() {
  made=$1; shift
  [ -s "$made" ] && return
  echo "making $made" >&2
  "$@" >"$made.log" 2>&1 || { cat "$made.log" >&2; fail "could not make $made"; }
  [ -s "$made" ] || mv "$made.part" "$made"
}
bytes() { wc -c <"$1" | tr -d ' '; }
ratio() { awk "BEGIN { printf \"%.4f\", $1 / $2 }"; }

llama_ppl() {  # FILE
  step "$1.ppl" sh -c '"$0" -m "$1" -f "$2" -c 512 -t "$3" ${4:+--chunks "$4"} >"$5.log2" 2>&1 &&
    sed -n "s/^Final estimate: PPL = \([0-9.]*\).*/\1/p" "$5.log2" >"$5.part"' \
    "$llama/llama-perplexity" "$1" "$evaluation" "$threads" "$chunks" "$1.ppl"
  cat "$1.ppl"
}
sdq_ppl() {  # FILE
  step "$1.ppl" sh -c '"$0" "$1" -f "$2" -c 512 -t "$3" ${4:+--chunks "$4"} >"$5.log2" &&
    sed -n "s/^perplexity \([0-9.]*\).*/\1/p" "$5.log2" >"$5.part"' \
    "$programs/sdq-ppl" "$1" "$evaluation" "$threads" "$chunks" "$1.ppl"
  cat "$1.ppl"
}

# A file of at most so many bytes; the largest there can be if that is less. ${more} is a list of
# arguments.
convert() {  # FILE BYTES
  made=$1 size=$2
  [ -s "$made" ] && return
  # shellcheck disable=SC2086
  set -- "$programs/sdq-convert" "$model" -o "$made.part" -q -t "$threads" --calib "$calibration" \
    --calib-separator '' --calib-tokens $((calibration_windows * 512)) $more
  echo "making $made" >&2
  if ! "$@" --target-size "$size" >"$made.log" 2>&1; then
    most=$(sed -n 's/.*cannot be met.*the largest \([0-9]*\) .*/\1/p' "$made.log")
    [ -n "$most" ] && [ "$most" -lt "$size" ] || { cat "$made.log" >&2; fail "could not make $made"; }
    "$@" --target-size "$most" >"$made.log" 2>&1 || { cat "$made.log" >&2; fail "could not make $made"; }
  fi
  mv "$made.part" "$made"
}

base=$keep/f16.gguf
step "$base" "$llama/llama-quantize" --allow-requantize "$model" "$base.part" F16 "$threads"
step "$keep/imatrix.dat" "$llama/llama-imatrix" -m "$base" -f "$calibration" \
  -o "$keep/imatrix.dat.part" -c 512 --chunks "$calibration_windows" -t "$threads"
[ -s "$keep/float.sdq" ] ||
  step "$keep/float.sdq" "$programs/sdq-convert" "$model" -o "$keep/float.sdq.part" --method float \
    -q -t "$threads"
llama_float=$(llama_ppl "$base")
sdq_float=$(sdq_ppl "$keep/float.sdq")

echo "| file | bytes | perplexity | its runtime's unquantized model | ratio |"
echo "|---|---|---|---|---|"
for format in $formats; do
  file=$keep/$format.gguf
  step "$file" "$llama/llama-quantize" --imatrix "$keep/imatrix.dat" "$base" "$file.part" \
    "$format" "$threads"
  found=$(llama_ppl "$file")
  echo "| $format | $(bytes "$file") | $found | $llama_float | $(ratio "$found" "$llama_float") |"
  file=$keep/sdq-$format.sdq
  convert "$file" "$(bytes "$keep/$format.gguf")"
  found=$(sdq_ppl "$file")
  echo "| sdq, no larger | $(bytes "$file") | $found | $sdq_float | $(ratio "$found" "$sdq_float") |"
done
