# Sourced by the soaks: a folder of their own, a blue and a green in it, and nothing left behind however they end.
# Sets root, bin and home, and goes to home. BIN=FOLDER takes programs that are built already.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${BIN:-${CARGO_TARGET_DIR:-$root/target}/release}
[ -n "${BIN:-}" ] || (cd "$root" && cargo build --release --workspace --features kongferry/test-hooks)
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

# start_lab CONSUMERS: both servers, with so many consumers on blue; their addresses are in the environment.
start_lab() {
    echo "writing $1 consumers with 3 credentials each to blue"
    "$bin/kongferry-lab" up --line 3.3 --fill "$1" --env-file "$home/env" > "$home/lab.out" 2> "$home/lab.err" &
    lab=$!
    while [ ! -e "$home/env" ]; do
        kill -0 "$lab" 2>/dev/null || { cat "$home/lab.err" >&2; fail "the servers did not start"; }
        sleep 1
    done
    set -a
    # shellcheck disable=SC1091
    . "$home/env"
    set +a
}

cd "$home"
