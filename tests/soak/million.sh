#!/usr/bin/env bash
# A million rows (250,000 consumers, each with basic-auth, key-auth and acl) through the optimised program: they must
# all arrive, verify must find them the same in no more time than migrate took, and memory must stay flat. Prints rows/s
# and the peak of the resident memory of both.
#
#   CONSUMERS=250000  how many    LIMIT_MB=150  what the peak must stay under
set -euo pipefail

consumers=${CONSUMERS:-250000}
limit=${LIMIT_MB:-150}
# shellcheck source=tests/soak/lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"

# A number of the report: of the totals, or of one table.
total() { awk -v key="\"$1\":" '/"totals": \{/ { here = 1 } here && $1 == key { gsub(",", "", $2); print $2; exit }' report.json; }
table() { awk -v name="\"$1\"," -v key="\"$2\":" '$1 == "\"table\":" { here = ($2 == name) } here && $1 == key { gsub(",", "", $2); print $2; exit }' "$3"; }

start_lab "$consumers"

# Runs the program with these arguments, its report in the file given first; leaves its exit code and its peak of memory.
measured() {
    local report=$1 run now
    shift
    "$bin/kongferry" "$@" --format json > "$report" &
    run=$!
    peak=0 code=0
    # The kernel keeps the peak; it is read until the program is gone.
    while kill -0 "$run" 2>/dev/null; do
        now=$(awk '/^VmHWM/ { print $2 }' "/proc/$run/status" 2>/dev/null || true)
        peak=${now:-$peak}
        sleep 0.1
    done
    wait "$run" || code=$?
    [ "$peak" -gt 0 ] || fail "the memory could not be read"
}

measured report.json migrate --yes --accept-rejects --rejects-file rejects.jsonl
[ "$code" -eq 3 ] || fail "exit code $code; 3 was expected, for the one row of the fixture that is rejected"

seconds=$(awk '/"seconds": \{/ { here = 1 } here && $1 == "\"total\":" { print $2 + 0; exit }' report.json)
source=$(total source) applied=$(total applied) repaired=$(total repaired) rejected=$(total rejected)
expired=$(total expired) not_copied=$(total not_copied)
[ "$source" -eq $((applied + repaired + rejected + expired + not_copied)) ] || fail "the sums do not add up"
[ "$rejected" -eq 1 ] || fail "$rejected rows were rejected, not 1"

# What green says itself, table by table.
"$bin/kongferry" inspect --format json > inspect.json || fail "inspect"
for name in consumers basicauth_credentials keyauth_credentials acls; do
    on_blue=$(table $name on_blue inspect.json) on_green=$(table $name on_green inspect.json)
    set_aside=$(($(table $name rejected report.json) + $(table $name expired report.json)))
    echo "$name: $on_blue on blue, $on_green on green, $set_aside set aside or expired"
    [ "$on_green" -ge "$consumers" ] || fail "green has $on_green rows of $name"
    [ "$on_green" -eq $(($(table $name applied report.json) + $(table $name repaired report.json))) ] ||
        fail "green has other rows of $name than the report says"
done

# said NAME ROWS SECONDS: the line of figures, and the limit of memory.
said() {
    awk -v name="$1" -v rows="$2" -v seconds="$3" -v kb="$peak" -v load="$(cut -d ' ' -f 1-3 /proc/loadavg)" \
        'BEGIN { printf "%s: %d rows in %.1f s: %d rows/s, peak memory %.0f MB (load average %s)\n", name, rows, seconds, rows / seconds, kb / 1024, load }'
    [ "$peak" -le $((limit * 1024)) ] || fail "$1: peak memory over $limit MB"
}

# A number of the summary of a comparison, or of all of it.
number() { awk -v key="\"$2\":" '/"summary": \{/ { here = 1 } here && $1 == key { gsub(",", "", $2); print $2; exit }' "$1"; }
whole() { awk -v key="\"$2\":" '/^  "/ && $1 == key { print $2 + 0; exit }' "$1"; }

said migrate $((applied + repaired)) "$seconds"

measured verify.json verify --findings findings.jsonl
[ "$code" -eq 0 ] || fail "verify: exit code $code; $(head -c 2000 findings.jsonl)"
compared=$(number verify.json equal) took=$(whole verify.json seconds)
[ $((compared + $(number verify.json repaired))) -eq $((applied + repaired)) ] || fail "verify saw other rows than migrate wrote"
said verify "$compared" "$took"
# Figures, no judgement: on a busy machine either may be the slower one.
awk -v one="$took" -v other="$seconds" 'BEGIN { printf "verify took %.2f of the time of migrate\n", one / other }'

# A thousand rows that differ are named without reading everything twice.
psql "$KONGFERRY_GREEN" -qc "update acls set \"group\" = 'another' where id in (select id from acls limit 1000)"
measured differ.json verify --findings findings.jsonl
[ "$code" -eq 3 ] && [ "$(number differ.json different)" -eq 1000 ] || fail "of 1000 rows that differ $(number differ.json different) were found"
said "verify with 1000 that differ" "$compared" "$(whole differ.json seconds)"
