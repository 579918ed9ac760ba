#!/bin/sh
# Runs sdq-bench and a llama-bench (llama.cpp or a fork) in turn on the files given and prints a
# Markdown table of ratios. Builds nothing. Each round runs every file once, so that both programs
# meet the same moods of the machine; figures are medians over rounds.
#
#   apps/compare_peers.sh --llama-bench PATH --gguf FILE... --sdq-bench PATH --sdq FILE...
#       [-p 512] [-n 128] [-t 1,2] [-r 3]
#
# -p, -n, -t: lists separated by commas, as both programs take them. -r: rounds.
set -eu

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
fail() { echo "compare_peers.sh: error: $1" >&2; exit "${2:-1}"; }

llama_bench='' sdq_bench='' prompts=512 decodes=128 threads='' rounds=3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
: >"$work/gguf"; : >"$work/sdq"

list=''
while [ $# -gt 0 ]; do
  case $1 in
    --gguf|--sdq) list=${1#--}; shift; continue ;;
    -h|--help) usage; exit 0 ;;
    --llama-bench|--sdq-bench|-p|-n|-t|-r) [ $# -ge 2 ] || fail "$1 needs a value" 2 ;;
    -*) fail "unknown option $1" 2 ;;
    *)
      [ -n "$list" ] || fail "'$1': say --gguf or --sdq before files" 2
      [ -f "$1" ] || fail "no such file: $1"
      printf '%s\n' "$1" >>"$work/$list"; shift; continue ;;
  esac
  case $1 in
    --llama-bench) llama_bench=$2 ;;
    --sdq-bench) sdq_bench=$2 ;;
    -p) prompts=$2 ;;
    -n) decodes=$2 ;;
    -t) threads=$2 ;;
    -r) rounds=$2 ;;
  esac
  list=''; shift 2
done
case $rounds in ''|*[!0-9]*|0) fail "-r $rounds: must be a number from 1" 2 ;; esac
[ -x "$llama_bench" ] || fail "--llama-bench '$llama_bench' is no program" 2
[ -x "$sdq_bench" ] || fail "--sdq-bench '$sdq_bench' is no program" 2
[ -s "$work/gguf" ] || fail "no --gguf files" 2
[ -s "$work/sdq" ] || fail "no --sdq files" 2
[ -n "$threads" ] || threads=$(getconf _NPROCESSORS_ONLN)

# Fields of a CSV line in a[1..]; fields may be quoted. Appends "kind file bytes test threads rate"
# to the results, whatever columns the version of the program has.
cat >"$work/read.awk" <<'AWK'
function split_csv(line, a,    n, i, c, quoted, field) {
  n = 0; field = ""; quoted = 0
  for (i = 1; i <= length(line); ++i) {
    c = substr(line, i, 1)
    if (c == "\"") quoted = !quoted
    else if (c == "," && !quoted) { a[++n] = field; field = "" }
    else field = field c
  }
  a[++n] = field
  return n
}
!("n_threads" in at || "threads" in at) {
  n = split_csv($0, head)
  for (i = 1; i <= n; ++i) at[head[i]] = i
  next
}
NF {
  split_csv($0, f)
  if (kind == "gguf") {
    p = f[at["n_prompt"]] + 0; g = f[at["n_gen"]] + 0
    if (p > 0 && g > 0) next
    test = p > 0 ? "pp" p : "tg" g
    print kind "\t" file "\t" bytes "\t" test "\t" f[at["n_threads"]] "\t" f[at["avg_ts"]]
  } else {
    print kind "\t" file "\t" bytes "\t" f[at["test"]] "\t" f[at["threads"]] "\t" \
        f[at["tokens_per_second"]]
  }
}
AWK

measure() {  # kind file
  bytes=$(wc -c <"$2")
  if [ "$1" = gguf ]; then
    "$llama_bench" -m "$2" -p "$prompts" -n "$decodes" -t "$threads" -r 1 -o csv
  else
    "$sdq_bench" -q -m "$2" -p "$prompts" -n "$decodes" -t "$threads" -r 1 -o csv
  fi >"$work/out.csv" 2>"$work/err" || { cat "$work/err" >&2; fail "the run on $2 failed"; }
  awk -v kind="$1" -v file="$(basename "$2")" -v bytes="$bytes" -f "$work/read.awk" \
    "$work/out.csv" >>"$work/results"
}

: >"$work/results"
round=1
while [ "$round" -le "$rounds" ]; do
  for kind in sdq gguf; do
    while IFS= read -r file; do
      echo "round $round of $rounds: $file" >&2
      measure "$kind" "$file" </dev/null
    done <"$work/$kind"
  done
  round=$((round + 1))
done

# Sorted by speed inside each (kind, file, test, threads), so that the median is in the middle.
sort -t "$(printf '\t')" -k1,1 -k2,2 -k4,4 -k5,5n -k6,6g "$work/results" | awk -F '\t' '
function finish() {
  if (n == 0) return
  median[group] = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
  n = 0
}
{
  g = $1 SUBSEP $2 SUBSEP $4 SUBSEP $5
  if (g != group) finish()
  group = g; v[++n] = $6 + 0; mb[$1, $2] = $3 / 1e6
  if (!(($1, $2) in seen)) { seen[$1, $2] = 1; files[$1, ++count[$1]] = $2 }
  if (!(($4, $5) in known)) { known[$4, $5] = 1; tests[++m] = $4 SUBSEP $5 }
}
END {
  finish()
  print "| test | threads | .sdq file | MB | tokens/s | peer file | MB | tokens/s | ratio |"
  print "|---|---:|---|---:|---:|---|---:|---:|---:|"
  for (t = 1; t <= m; ++t) for (i = 1; i <= count["sdq"]; ++i) for (j = 1; j <= count["gguf"]; ++j) {
    split(tests[t], part, SUBSEP)
    a = files["sdq", i]; b = files["gguf", j]
    ka = "sdq" SUBSEP a SUBSEP tests[t]; kb = "gguf" SUBSEP b SUBSEP tests[t]
    if (!(ka in median) || !(kb in median) || median[kb] <= 0) continue
    printf "| %s | %s | %s | %.0f | %.1f | %s | %.0f | %.1f | **%.2f** |\n", part[1], part[2], a,
        mb["sdq", a], median[ka], b, mb["gguf", b], median[kb], median[ka] / median[kb]
  }
}'
