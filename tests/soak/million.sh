#!/usr/bin/env bash
# A million rows (250,000 consumers, each with basic-auth, key-auth and acl) through the optimised program: they must
# all arrive, and memory must stay flat. Prints rows/s and the peak of the resident memory.
#
#   CONSUMERS=250000  how many    LIMIT_MB=200  what the peak must stay under
set -euo pipefail

consumers=${CONSUMERS:-250000}
limit=${LIMIT_MB:-200}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release

(cd "$root" && cargo build --release --workspace)
home=$(mktemp -d "${TMPDIR:-/tmp}/kongferry-soak.XXXXXX")
lab=

stop() {
    code=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ -n "$lab" ]; then
        kill "$lab" 2>/dev/null || true
        wait "$lab" 2>/dev/null || true
    fi
    rm -rf "$home"
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    echo "failed: $*" >&2
    exit 1
}

# A number of the report: of the totals, or of one table.
total() { awk -v key="\"$1\":" '/"totals": \{/ { here = 1 } here && $1 == key { gsub(",", "", $2); print $2; exit }' report.json; }
table() { awk -v name="\"$1\"," -v key="\"$2\":" '$1 == "\"table\":" { here = ($2 == name) } here && $1 == key { gsub(",", "", $2); print $2; exit }' "$3"; }

cd "$home"
echo "writing $consumers consumers with 3 credentials each to blue"
"$bin/kongferry-lab" up --line 3.3 --fill "$consumers" --env-file "$home/env" > lab.out 2> lab.err &
lab=$!
while [ ! -e env ]; do
    kill -0 "$lab" 2>/dev/null || { cat lab.err >&2; fail "the servers did not start"; }
    sleep 1
done
set -a
# shellcheck disable=SC1091
. ./env
set +a

"$bin/kongferry" migrate --yes --accept-rejects --rejects-file rejects.jsonl --format json > report.json &
run=$!
peak=0
# The kernel keeps the peak; it is read until the program is gone.
while kill -0 "$run" 2>/dev/null; do
    now=$(awk '/^VmHWM/ { print $2 }' "/proc/$run/status" 2>/dev/null || true)
    peak=${now:-$peak}
    sleep 0.1
done
code=0
wait "$run" || code=$?
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

awk -v rows="$((applied + repaired))" -v seconds="$seconds" -v kb="$peak" \
    'BEGIN { printf "%d rows in %.1f s: %d rows/s, peak memory %.0f MB\n", rows, seconds, rows / seconds, kb / 1024 }'
[ "$peak" -gt 0 ] || fail "the memory could not be read"
[ "$peak" -le $((limit * 1024)) ] || fail "peak memory over $limit MB"
