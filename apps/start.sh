#!/bin/sh
# Runs sdq-run on a model again and again for one token and prints, as Markdown, how long after
# launch the first token is there, prefill not counted, and how much memory the process held, beside
# what it had stated before it began. Medians over runs; the last run fills the whole context.
#
#   apps/start.sh [-b FOLDER_OF_SDQ_RUN] [-r 20] [-t THREADS] [-c CONTEXT] MODEL.sdq
#
# -r: runs. The model should be in the page cache (cat MODEL.sdq >/dev/null).
set -eu

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }
fail() { echo "start.sh: error: $1" >&2; exit "${2:-1}"; }

folder='' runs=20 threads=2 context=512
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) usage; exit 0 ;;
    -b|-r|-t|-c) [ $# -ge 2 ] || fail "$1 needs a value" 2 ;;
    -*) fail "unknown option $1" 2 ;;
    *) break ;;
  esac
  case $1 in
    -b) folder=$2/ ;;
    -r) runs=$2 ;;
    -t) threads=$2 ;;
    -c) context=$2 ;;
  esac
  shift 2
done
[ $# -eq 1 ] || { usage >&2; exit 2; }
[ -f "$1" ] || fail "no such file: $1"
case $runs in ''|*[!0-9]*|0) fail "-r $runs: must be a number from 1" 2 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# field NAME: its number in the last run's JSON
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$work/json"; }
# run MODEL PROMPT TOKENS
run() {
  "${folder}sdq-run" "$1" -p "$2" -n "$3" -t "$threads" -c "$context" --ignore-eos \
    --temp 0 --json -q >"$work/json" || fail "sdq-run failed"
}
# median FILE: of its lines
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

i=0
while [ $i -lt "$runs" ]; do
  before=$(date +%s%N)
  run "$1" "Once upon a time" 1
  after=$(date +%s%N)
  # From before the process exists until it is gone, without the prefill.
  awk -v ns=$((after - before)) -v prefill="$(field prefill_ms)" \
    'BEGIN { printf "%.2f\n", ns / 1e6 - prefill }' >>"$work/whole"
  awk -v first="$(field first_token_ms)" -v prefill="$(field prefill_ms)" \
    'BEGIN { printf "%.2f\n", first - prefill }' >>"$work/first"
  field prefill_ms >>"$work/prefill"
  i=$((i + 1))
done
# Half of the context read as a prompt, in whole batches, the rest generated.
run "$1" "$(yes 'Once upon a time' | head -n $((context / 10)) | tr '\n' ' ')" "$context"
awk -v runs="$runs" -v threads="$threads" -v context="$context" -v first="$(median "$work/first")" \
  -v whole="$(median "$work/whole")" -v prefill="$(median "$work/prefill")" \
  -v file="$(field file_bytes)" -v kv="$(field kv_bytes)" \
  -v limit="$(field resident_limit_bytes)" -v peak="$(field resident_peak_bytes)" 'BEGIN {
  printf "| what | figure |\n|---|---|\n"
  printf "| first token, without its prefill | %.1f ms |\n", first
  printf "| whole process of one token, likewise | %.1f ms |\n", whole
  printf "| prefill (5 words, first touch of the weights) | %.1f ms |\n", prefill
  printf "| file + KV cache | %.1f MB |\n", (file + kv) / 1e6
  printf "| resident, stated before the start | %.1f MB (+ %.1f) |\n", limit / 1e6, (limit - file - kv) / 1e6
  printf "| resident, peak with the context full | %.1f MB |\n", peak / 1e6
  printf "\n%d threads, medians of %d runs, context of %d.\n", threads, runs, context
}'
