#!/usr/bin/env bash
# A million rows (250,000 consumers with basic-auth, key-auth and acl each) through the released program: prints rows per
# second and the peak of resident memory, and fails where rows are missing or memory is not flat.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${CARGO_TARGET_DIR:-target}/release
consumers=${CONSUMERS:-250000}
limit_mb=${LIMIT_MB:-200}
work=$(mktemp -d)
"$bin/kongferry-lab" up --line 3.3 --fill "$consumers" --env-file "$work/env" >"$work/lab.log" 2>&1 &
lab=$!
trap 'kill -INT "$lab" 2>/dev/null; wait "$lab" 2>/dev/null; rm -rf "$work"' EXIT
until [ -f "$work/env" ]; do
  kill -0 "$lab" || { cat "$work/lab.log" >&2; exit 1; }
  sleep 1
done
set -a
. "$work/env"
set +a

"$bin/kongferry" migrate --yes --accept-rejects --rejects-file "$work/rejects.jsonl" --format json >"$work/report.json" &
ferry=$!
peak=0
while kill -0 "$ferry" 2>/dev/null; do
  now=$(awk '/VmHWM/ {print $2}' "/proc/$ferry/status" 2>/dev/null || true)
  peak=${now:-$peak}
  sleep 0.2
done
code=0
wait "$ferry" || code=$?
python3 - "$work/report.json" "$((peak / 1024))" "$limit_mb" "$consumers" "$code" <<'PY'
import json, sys
report, peak, limit, consumers, code = json.load(open(sys.argv[1])), *map(int, sys.argv[2:])
totals, seconds = report["totals"], report["seconds"]
print(f"{totals['applied']:,} rows in {seconds['total']:.1f} s = {totals['applied'] / seconds['total']:,.0f} rows/s "
      f"(stage {seconds['stage']:.1f}, check {seconds['check']:.1f}, apply {seconds['apply']:.1f}), peak RSS {peak} MB")
assert code == 3, f"exit code {code}"
assert totals["applied"] >= 4 * consumers and totals["rejected"] == 1, totals
assert peak < limit, f"peak RSS {peak} MB is over {limit} MB"
PY
