#!/usr/bin/env bash
# Kills runs with kill -9 at random moments of each of their phases and looks what is left: green must be untouched or
# complete every time, the run after it must end clean, and verify must find both sides the same. A third of the kills
# hits first loads of all rows into a fresh database, the others incremental runs after a day's changes on blue. The
# phases take turns; within one the moment is random. Prints where the kills hit, and fails when one phase was hit too
# seldom.
#
#   KILLS=60  how many    LEAST=10  in each phase    CONSUMERS=50000  a quarter of the rows
#   BIN=FOLDER  programs that are built already
set -euo pipefail

kills=${KILLS:-60}
least=${LEAST:-10}
consumers=${CONSUMERS:-50000}
# shellcheck source=tests/soak/lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"

start_lab "$consumers"

# The database that the lab made stays as Kong bootstrapped it: every first load begins with a copy of it.
fresh=$KONGFERRY_GREEN
name=$(psql -XAtq "$fresh" -c 'select current_database()')
admin=${fresh/\/$name/\/postgres}
export KONGFERRY_GREEN=${fresh/\/$name/\/victim}
export KONGFERRY_PHASE_FILE=$home/place

psql_green() { psql -XAtq -v ON_ERROR_STOP=1 "$KONGFERRY_GREEN" -c "$1"; }

begin_anew() {
    psql -XAtq -v ON_ERROR_STOP=1 "$admin" -c 'set client_min_messages = error' \
        -c 'drop database if exists victim with (force)' -c "create database victim template \"$name\""
}

# What everything in Kong's tables comes to that does not run out by itself: rows, and a sum over their hashes. Ordered,
# because parallel workers bring the tables in any order.
fingerprint() {
    local sql="" table lasting
    for table in workspaces parameters consumers basicauth_credentials keyauth_credentials acls plugins routes services; do
        lasting=true
        [ "$table" != keyauth_credentials ] || lasting="ttl is null"
        sql+="select '$table', count(*), sum(hashtextextended(t::text, 0)::numeric) from $table t where $lasting union all "
    done
    psql_green "$sql select 'tags', count(*), sum(hashtextextended(t::text, 0)::numeric) from tags t
                where entity_name in ('consumers', 'acls', 'plugins', 'routes', 'services')
                order by 1"
}

# The phase that a place which a run has passed stands for (src/failpoints.rs).
phase_of() {
    case $1 in
        marking | loading) echo staging ;;
        staged | checked) echo checking ;;
        writing | applying) echo applying ;;
        applied) echo committed ;;
        *) echo before ;;
    esac
}
phases=(staging checking applying committed)

now() { echo "${EPOCHREALTIME/[.,]/}"; }

# Naps without starting a process, so that looking costs nothing.
exec {nothing}<> <(:)
nap() { read -rt "$1" -u "$nothing" || true; }

place() {
    at=
    read -r at 2>/dev/null < place || true
}

# begin_run: a run that is watched; run is its process, and the process is the program, not a shell around it.
begin_run() {
    rm -f place
    "$bin/kongferry" migrate --yes --accept-rejects --rejects-file rejects.jsonl --format json > run.json 2> run.err &
    run=$!
}

# end_run WHAT: it must have ended well; 3 is for the one row of the fixture that is rejected.
end_run() {
    local code=0
    wait "$run" || code=$?
    [ "$code" -eq 3 ] || { cat run.err >&2; fail "$1 ended with $code"; }
}

# measured KIND: a run that nobody kills, and how many microseconds it is in each phase.
declare -A long
measured() {
    local began last=before phase
    begin_run
    began=$(now)
    while kill -0 "$run" 2>/dev/null; do
        place
        phase=$(phase_of "$at")
        if [ "$phase" != "$last" ] && [ -n "$at" ]; then
            long[$1/$last]=$(($(now) - began))
            began=$(now)
            last=$phase
        fi
        nap 0.005
    done
    long[$1/$last]=$(($(now) - began))
    end_run "the first run"
    echo "$1: $(for phase in "${phases[@]}"; do printf '%s %d ms  ' "$phase" $((${long[$1/$phase]:-0} / 1000)); done)"
}

round=0
change_blue() {
    round=$((round + 1))
    "$bin/kongferry-lab" change "$home/env" "$consumers" "$round"
}

verified() {
    "$bin/kongferry" verify --format json > verify.json 2> verify.err || { tail -50 verify.json >&2; fail "verify after $1"; }
}

echo "two runs that nobody kills:"
begin_anew
bootstrapped=$(fingerprint)
measured first
change_blue
measured incremental
verified "the runs that nobody killed"
complete=$(fingerprint)

declare -A hit left
for ((kill = 1; kill <= kills; kill++)); do
    if ((kill % 3 == 1)); then
        kind=first
        before=$bootstrapped
        begin_anew
    else
        kind=incremental
        before=$complete
        change_blue
    fi
    # The phase that was hit least comes next.
    target=staging
    for one in "${phases[@]}"; do
        [ "${hit[$one]:-0}" -ge "${hit[$target]:-0}" ] || target=$one
    done
    begin_run
    while kill -0 "$run" 2>/dev/null; do
        place
        [ "$(phase_of "$at")" != "$target" ] || break
        nap 0.002
    done
    pause=$(awk -v long="${long[$kind/$target]:-1000}" -v random="$RANDOM" 'BEGIN { print long * 0.9 * random / 32768 / 1e6 }')
    nap "$pause"
    kill -9 "$run" 2>/dev/null || true
    wait "$run" 2>/dev/null || true
    place
    phase=$(phase_of "$at")
    hit[$phase]=$((${hit[$phase]:-0} + 1))
    # The server may still be busy with what it was told last.
    kill -0 "$lab" 2>/dev/null || fail "the servers are gone"
    while [ "$(psql_green "select count(*) from pg_stat_activity where datname = 'victim' and application_name like 'kongferry %'")" != 0 ]; do
        nap 0.05
    done
    found=$(fingerprint)
    begin_run
    end_run "the run after kill $kill"
    complete=$(fingerprint)
    [ "$complete" != "$before" ] || fail "kill $kill: the run had nothing to do"
    if [ "$found" = "$before" ]; then
        state=untouched
    elif [ "$found" = "$complete" ]; then
        state=complete
    else
        diff <(echo "$found") <(echo "$complete") >&2 || true
        fail "kill $kill, after \"$at\", left green neither untouched nor complete"
    fi
    left[$phase/$state]=$((${left[$phase/$state]:-0} + 1))
    verified "kill $kill"
    echo "kill $kill of $kills: $kind run, $phase (after \"$at\", +$pause s): green $state; the next run is clean, verify too"
done

echo
echo "where the kills hit:"
for phase in before "${phases[@]}"; do
    count=${hit[$phase]:-0}
    printf '  %-10s %3d  %-20s  untouched %d, complete %d\n' "$phase" "$count" "$(printf '%*s' "$count" '' | tr ' ' '#')" \
        "${left[$phase/untouched]:-0}" "${left[$phase/complete]:-0}"
done
echo "$kills kills; green untouched or complete every time"
for phase in "${phases[@]}"; do
    [ "${hit[$phase]:-0}" -ge "$least" ] || fail "only ${hit[$phase]:-0} kills hit \"$phase\""
done
