#!/usr/bin/env bash
# Runs every test, in two groups at the same time: the tests of the cutover wait for name servers and Prometheus more than
# they compute, and those of the databases compute more than they wait. `make test` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."

# A test that is named here runs beside all others.
beside=(cutover dns connections schema_dump servers bench lab_command)

others=()
for path in tests/*.rs tests/*/main.rs tests/harness/tests/*.rs; do
    name=$(basename "${path%/main.rs}" .rs)
    [[ " ${beside[*]} " == *" $name "* ]] || others+=("$name")
done

run() {
    cargo test --workspace --no-fail-fast "$@"
}

run --no-run
log=$(mktemp)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -f "$log"' EXIT
run "${beside[@]/#/--test=}" > "$log" 2>&1 &
code=0
run --lib --bins "${others[@]/#/--test=}" || code=$?
run --doc || code=$?
wait $! || code=$?
cat "$log"
exit "$code"
