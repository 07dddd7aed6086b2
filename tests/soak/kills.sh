#!/usr/bin/env bash
# Kills runs with kill -9 at random moments and looks what is left: green must be untouched or complete every time, the
# run after it must end clean, and verify must find both sides the same. Half of the kills hit first loads of 200,000
# rows, half hit incremental runs that undo 20,000 changes made by hand on green. Prints where the kills hit.
#
#   KILLS=60  how many    CONSUMERS=50000  a quarter of the rows    VERIFY=1  after every so many kills
#   BIN=FOLDER  programs that are built already
set -euo pipefail

kills=${KILLS:-60}
consumers=${CONSUMERS:-50000}
verify=${VERIFY:-1}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BIN:-${CARGO_TARGET_DIR:-$root/target}/release}

[ -n "${BIN:-}" ] || (cd "$root" && cargo build --release --workspace)
home=$(mktemp -d "${TMPDIR:-/tmp}/kongferry-kills.XXXXXX")
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

# The database that the lab made stays as Kong bootstrapped it: every first load begins with a copy of it.
fresh=$KONGFERRY_GREEN
name=$(psql -XAtq "$fresh" -c 'select current_database()')
admin=${fresh/\/$name/\/postgres}
export KONGFERRY_GREEN=${fresh/\/$name/\/victim}

psql_green() { psql -XAtq -v ON_ERROR_STOP=1 "$KONGFERRY_GREEN" -c "$1"; }

begin_anew() {
    psql -XAtq -v ON_ERROR_STOP=1 "$admin" -c 'drop database if exists victim with (force)' -c "create database victim template \"$name\""
}

# Everything in Kong's tables that does not run out by itself, as one digest.
fingerprint() {
    local sql="select md5(string_agg(digest, '' order by name)) from (" table
    for table in workspaces parameters consumers basicauth_credentials keyauth_credentials acls plugins routes services; do
        sql+="select '$table' as name, md5(coalesce(string_agg(md5(t::text), '' order by md5(t::text)), '')) as digest
              from $table t where to_jsonb(t) ->> 'ttl' is null union all "
    done
    psql_green "$sql select 'tags', md5(string_agg(md5(t::text), '' order by md5(t::text))) from tags t
                where entity_name in ('consumers', 'acls', 'plugins', 'routes', 'services')) d"
}

# What a person may have done on green: a fifth of the rows is edited, deleted, or made.
by_hand() {
    psql_green "
      update consumers set custom_id = 'by hand ' || id where ascii(right(id::text, 1)) % 5 = 0;
      delete from acls where ascii(right(id::text, 1)) % 8 = 0;
      insert into keyauth_credentials (id, ws_id, consumer_id, key)
        select gen_random_uuid(), ws_id, id, 'by hand ' || id from consumers where ascii(right(id::text, 1)) % 8 = 1" > /dev/null
}

migrate=(--yes --accept-rejects --rejects-file rejects.jsonl --format json)

finish() {
    local code=0
    "$bin/kongferry" migrate "${migrate[@]}" "$@" > after.json 2> after.err || code=$?
    [ "$code" -eq 3 ] || { cat after.err >&2; fail "the run after the kill ended with $code"; }
}

begin_anew
finish
complete=$(fingerprint)

declare -A hit
for ((kill = 1; kill <= kills; kill++)); do
    more=()
    if ((kill % 2)); then
        begin_anew
        places=(loading loading staged checked applied)
    else
        begin_anew
        finish
        by_hand
        more=(--replace)
        places=(marking loading staged checked applied)
    fi
    before=$(fingerprint)
    place=${places[$((RANDOM % ${#places[@]}))]}
    # The place that was hit least so far comes first.
    for one in "${places[@]}"; do
        [ "${hit[$one]:-0}" -ge "${hit[$place]:-0}" ] || place=$one
    done
    rm -f phase
    # exec: the process to be killed is the program, not a shell around it.
    (export KONGFERRY_PHASE_FILE=$home/phase && exec "$bin/kongferry" migrate "${migrate[@]}" "${more[@]}") > killed.json 2> killed.err &
    run=$!
    while [ "$(cat phase 2>/dev/null || true)" != "$place" ]; do
        kill -0 "$run" 2>/dev/null || break
        sleep 0.01
    done
    case $place in
        applied) pause=$((RANDOM % 100)) ;;
        *) pause=$((RANDOM % 1500)) ;;
    esac
    sleep "$(awk -v ms=$pause 'BEGIN { print ms / 1000 }')"
    kill -9 "$run" 2>/dev/null || true
    wait "$run" 2>/dev/null || true
    at=$(cat phase)
    hit[$at]=$((${hit[$at]:-0} + 1))
    # The server may still be busy with what it was told last.
    kill -0 "$lab" 2>/dev/null || fail "the servers are gone"
    while [ "$(psql_green "select count(*) from pg_stat_activity where datname = 'victim' and application_name like 'kongferry %'")" != 0 ]; do
        sleep 0.1
    done
    now=$(fingerprint)
    if [ "$now" = "$before" ]; then
        left=untouched
    elif [ "$now" = "$complete" ]; then
        left=complete
    else
        fail "kill $kill, after \"$at\", left green neither untouched nor complete"
    fi
    finish "${more[@]}"
    [ "$(fingerprint)" = "$complete" ] || fail "the run after kill $kill left green other than complete"
    if ((kill % verify == 0)); then
        "$bin/kongferry" verify --format json > verify.json 2> verify.err || { tail -50 verify.json >&2; fail "verify after kill $kill"; }
    fi
    echo "kill $kill of $kills: ${more[*]:-first load}, after \"$at\" +${pause} ms: green $left"
done

echo
echo "where the kills hit (the last place that the run had passed):"
total=0
for at in inspected marking loading staged checked applying applied; do
    count=${hit[$at]:-0}
    total=$((total + count))
    printf '  %-10s %3d  %s\n' "$at" "$count" "$(printf '%*s' "$count" '' | tr ' ' '#')"
done
echo "$total kills; green untouched or complete every time"
