#!/usr/bin/env bash
# The bench on the other shapes that databases of Kong have: plugins with 20 KB of configuration, a hundred thousand
# routes in one partition, and five million oauth2 tokens that expire. Everything must go through, and the memory of the
# program must stay as flat as with few rows; the times are printed, and judged by people.
#
#   TOKENS=5000000  how many tokens    LIMIT_MB=150  what the peak must stay under
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit=${LIMIT_MB:-150}
target=${CARGO_TARGET_DIR:-target}
cargo build --release --workspace --quiet

# run SHAPE [N=HOW_MANY]
run() {
    local peak
    env ROUNDS=1 "SHAPE=$1" "${@:2}" "$target/release/kongferry-bench"
    peak=$(awk '$1 == "\"peak_rss_mb\":" { print int($2) }' "$target/bench.json")
    [ "${peak:-0}" -gt 0 ] && [ "$peak" -lt "$limit" ] || {
        echo "$1: peak memory ${peak:-unknown} MB, limit $limit MB" >&2
        exit 1
    }
}

run plugins
run routes
run tokens "N=${TOKENS:-5000000}"
echo "every shape went through, under $limit MB"
