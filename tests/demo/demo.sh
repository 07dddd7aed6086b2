#!/usr/bin/env bash
# A whole migration on this machine: Kong 3.3's own rows in a real Cassandra, an empty green in a real PostgreSQL,
# inspect, plan, migrate, and one login checked. Stops everything it started, however it ends.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${CARGO_TARGET_DIR:-target}/debug
work=$(mktemp -d)
lab=

stop() {
  if [ -n "$lab" ]; then
    kill -INT "$lab" 2>/dev/null || true
    wait "$lab" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

step() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

# Runs a command as the user would type it; a plan or a migration that sets rows aside ends with 3.
show() {
  step kongferry "$@"
  local code=0
  "$bin/kongferry" "$@" || code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"
}

echo "Starting Cassandra (blue) with the rows of a real Kong 3.3, and PostgreSQL (green) as Kong's bootstrap leaves it."
"$bin/kongferry-lab" up --line 3.3 --fill 3 --env-file "$work/env" >"$work/lab.log" 2>&1 &
lab=$!
until [ -f "$work/env" ]; do
  kill -0 "$lab" 2>/dev/null || { cat "$work/lab.log" >&2; exit 1; }
  sleep 0.2
done
set -a
. "$work/env"
set +a
printf 'KONGFERRY_BLUE=%s\nKONGFERRY_GREEN=%s\n' "$KONGFERRY_BLUE" "$KONGFERRY_GREEN"

show inspect
show plan --rejects-file "$work/rejects.jsonl"
echo
echo "One consumer's name holds a character that PostgreSQL cannot store. After a look at the rejects file:"
cut -c1-200 "$work/rejects.jsonl"
show migrate --yes --accept-rejects="$work/rejects.jsonl" --rejects-file "$work/left-behind.jsonl"

step "a login on green"
"$bin/kongferry-lab" login "$KONGFERRY_GREEN" 1
