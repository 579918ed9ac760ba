#!/bin/sh
# Converts a checkpoint in several ways, measures each file on held-out text against the float
# model, and prints a Markdown table.
#
#   apps/quality.sh [OPTIONS] CHECKPOINT CALIBRATION_TEXT EVALUATION_TEXT
#
#   -r 'ARGUMENTS'  a row: arguments for sdq-convert; may be repeated (default: both methods at
#                   several rates)
#   -c N            tokens per window (default 512)
#   -n N            windows to evaluate (default: all)
#   -s LINE         line between documents of the evaluation text (default <|endoftext|>)
#   -t N            threads (default: one per core)
#   -b FOLDER       where the programs are (default build-release/apps)
#   -o FOLDER       keep the .sdq files here (default: they are removed)
set -eu

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; }
fail() { echo "quality.sh: error: $1" >&2; exit "${2:-1}"; }

newline='
'
rows='' context=512 chunks='' separator='<|endoftext|>' threads=$(getconf _NPROCESSORS_ONLN)
programs=$(dirname "$0")/../build-release/apps keep=''
while getopts 'r:c:n:s:t:b:o:h' option; do
  case $option in
    r) rows=$rows$OPTARG$newline ;;
    c) context=$OPTARG ;;
    n) chunks=$OPTARG ;;
    s) separator=$OPTARG ;;
    t) threads=$OPTARG ;;
    b) programs=$OPTARG ;;
    o) keep=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -eq 3 ] || { usage >&2; exit 2; }
checkpoint=$1 calibration=$2 evaluation=$3
for program in sdq-convert sdq-ppl sdq-info; do
  [ -x "$programs/$program" ] || fail "no $program in $programs (build first, or use -b)" 2
done
for file in "$checkpoint" "$calibration" "$evaluation"; do
  [ -e "$file" ] || fail "no such file: $file" 2
done
[ -n "$rows" ] || rows="--method sdq --osr 1.5
--method sdq --osr 2
--method sdq --osr 3
--osr 1.5
--osr 2
--osr 2.5
--osr 3
--osr 4
"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
[ -n "$keep" ] || keep=$work
mkdir -p "$keep"

value() { sed -n "s/.*\"$1\": *\([-+.0-9eE]*\).*/\1/p" "$2" | head -n 1; }  # key file

"$programs/sdq-convert" "$checkpoint" -o "$keep/float.sdq" --method float -q -t "$threads"
model=$(basename "$checkpoint")
printf '%s\n' '| model | arguments | bits/weight | file, bytes | perplexity | KL | top-1 | seconds |' \
  '|---|---|---|---|---|---|---|---|'
printf '%s' "$rows" >"$work/rows"
row=0
while IFS= read -r arguments; do
  row=$((row + 1))
  file=$keep/row$row.sdq
  echo "row $row: sdq-convert $arguments" >&2
  begin=$(date +%s)
  # shellcheck disable=SC2086  # the arguments are several words
  "$programs/sdq-convert" "$checkpoint" -o "$file" --calib "$calibration" -t "$threads" -q \
    $arguments </dev/null
  seconds=$(($(date +%s) - begin))
  "$programs/sdq-ppl" "$file" -f "$evaluation" --separator "$separator" -c "$context" \
    ${chunks:+--chunks "$chunks"} -t "$threads" --reference "$keep/float.sdq" --json \
    </dev/null >"$work/ppl.json"
  "$programs/sdq-info" "$file" --json >"$work/info.json"
  bytes=$(wc -c <"$file")
  [ "$keep" != "$work" ] || rm "$file"
  reference=$(value reference_perplexity "$work/ppl.json")
  LC_ALL=C awk -v model="$model" -v arguments="$arguments" -v bytes="$bytes" -v seconds="$seconds" \
    -v bits="$(value bits_per_weight "$work/info.json")" \
    -v ppl="$(value perplexity "$work/ppl.json")" -v kl="$(value kl "$work/ppl.json")" \
    -v top="$(value top1 "$work/ppl.json")" 'BEGIN {
      printf "| %s | `%s` | %.4f | %d | %.3f | %.4f | %.1f%% | %d |\n",
             model, arguments, bits, bytes, ppl, kl, 100 * top, seconds }'
done <"$work/rows"
LC_ALL=C awk -v ppl="$reference" 'BEGIN { printf "\nPerplexity of the float model: %.3f\n", ppl }'
