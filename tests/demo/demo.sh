#!/usr/bin/env bash
# The whole way in three minutes: a real Cassandra with the rows that Kong 3.3 left there, a real PostgreSQL with the
# empty tables that Kong's bootstrap makes, and kongferry between them; then the traffic, by cutover.sh. Nothing of it
# stays. Called by `make demo`. With DEMO=enterprise: rows of our own on the tables of Kong Enterprise 2.8, and a green
# whose bootstrap made a first super admin.
set -euo pipefail

case ${DEMO:-open-source} in
    open-source) line=3.3 kong="Kong 3.3" fill=(--fill 1) rejected="Its name holds U+0000, which PostgreSQL cannot store:" ;;
    enterprise) line=enterprise-2.8 kong="Kong Enterprise 2.8" fill=() rejected="Two applications have one custom_id, which is unique on PostgreSQL:" ;;
    *)
        echo "DEMO is open-source or enterprise, not $DEMO" >&2
        exit 2
        ;;
esac

root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/debug
home=$(mktemp -d "${TMPDIR:-/tmp}/kongferry-demo.XXXXXX")
lab=

stop() {
    code=$?
    trap - EXIT
    # A second Ctrl-C must not leave anything behind either.
    trap '' INT TERM HUP
    if type stop_traffic > /dev/null 2>&1; then stop_traffic; fi
    if [ -n "$lab" ]; then
        kill "$lab" 2>/dev/null || true
        wait "$lab" 2>/dev/null || true
    fi
    rm -rf "$home"
    if [ "$code" -eq 0 ]; then
        echo
        echo "All servers are stopped and their data is gone. Next: the README says how to run it on your own servers."
    fi
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bold() { if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then printf '\033[1m%s\033[0m\n' "$1"; else printf '%s\n' "$1"; fi; }

step() { echo; bold "── $1"; echo; }

# Runs a command line as a user would type it, and fails when it ends with another exit code than the one expected.
run() {
    local expected=$1 code=0
    shift
    bold "\$ $*"
    "$@" || code=$?
    if [ "$code" -ne "$expected" ]; then
        echo "it ended with exit code $code, not $expected" >&2
        exit 1
    fi
}

cd "$home"
PATH=$bin:$PATH
for name in $(compgen -e | grep -E '^(KONG|PG)' | grep -v '^KONGFERRY_HARNESS_CACHE$' || true); do unset "$name"; done

step "Starting Cassandra and PostgreSQL, and loading rows of $kong on Cassandra"
kongferry-lab up --line "$line" ${fill[@]+"${fill[@]}"} --env-file "$home/env" > "$home/lab.out" 2> "$home/lab.err" &
lab=$!
while [ ! -e "$home/env" ]; do
    if ! kill -0 "$lab" 2>/dev/null; then
        cat "$home/lab.err" >&2
        exit 1
    fi
    sleep 0.2
done
blue=$(sed -n 's/^KONGFERRY_BLUE=//p' env)
green=$(sed -n 's/^KONGFERRY_GREEN=//p' env)
echo "blue   $blue"
echo "green  $green"
if [ "$line" = 3.3 ]; then
    echo
    echo "One more consumer was written to blue, \"consumer-0\" with the basic-auth password \"password-0\","
    echo "so that there is a password to check in step 6."
fi

step "1. Check both databases"
run 0 kongferry inspect --blue "$blue" --green "$green"

step "2. Rehearse the migration; green is not written"
run 3 kongferry plan --blue "$blue" --green "$green" --rejects-file rejects.jsonl
echo
echo "Exit code 3: done, but rows would be rejected. $rejected"
sed 's/\(.\{160\}\).*/\1…/' rejects.jsonl

step "3. Move the rows"
run 3 kongferry migrate --blue "$blue" --green "$green" --yes --accept-rejects --rejects-file rejects.jsonl

step "4. Prove it: re-read both databases with independent decoders and compare every field"
run 0 kongferry verify --blue "$blue" --green "$green"

step "5. The same rows on both sides"
look() {
    bold "$1"
    kongferry-lab look env "${@:2}"
}
if [ "$line" = 3.3 ]; then
    look consumers consumers username=consumer-0 id username created_at
    look basicauth_credentials basicauth_credentials username=consumer-0 id consumer_id username password
    look "keyauth_credentials, one that expires" keyauth_credentials 'ttl=*' id key ttl
    look routes routes 'headers=*' name protocols headers
else
    look "consumers: the first super admin's" consumers username=kong_admin_ADMIN_ id username username_lower type
    look admins admins username=Dora.Two id username status consumer_id rbac_user_id
    look "keyring_meta: blue names the active key in a table of its own" keyring_meta state=active id state
    look degraphql_routes degraphql_routes 'uri=*' partition uri methods
fi

step "6. Check that a password still works"
echo "Kong stores SHA-1 of the password followed by the consumer's id, so it works only if both have arrived."
if [ "$line" = 3.3 ]; then
    printf %s password-0 > secret
    run 0 kongferry credentials check --blue "$blue" --green "$green" --kind basic-auth --user consumer-0 --secret-file secret
else
    printf %s "dora's pässword €" > secret
    run 0 kongferry credentials check --blue "$blue" --green "$green" --kind admin-password --user Dora.Two --secret-file secret
    printf %s "Kong's-Adm1n!" > secret
    run 0 kongferry credentials check --blue "$blue" --green "$green" --kind admin-token --user kong_admin --secret-file secret
fi

. "$root/tests/demo/cutover.sh"
