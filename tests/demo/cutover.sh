#!/usr/bin/env bash
# The second half of the demo: the traffic. A real PowerDNS, clients that ask it before every request, a Prometheus that
# scrapes both sides, and a canary: green turns bad at 10 % and kongferry goes back by itself; green is mended, and it
# goes through. Called by demo.sh, in its directory, with its functions, and with $blue and $green.

traffic=
stop_traffic() {
    if [ -n "$traffic" ]; then
        kill "$traffic" 2>/dev/null || true
        wait "$traffic" 2>/dev/null || true
        traffic=
    fi
}

step "7. Move the traffic: a name server, clients, and a Prometheus that watches both sides"
kongferry-traffic "$home/traffic.env" "$home/green-is-bad" > "$home/traffic.out" 2> "$home/traffic.err" &
traffic=$!
while [ ! -e "$home/traffic.env" ]; do
    if ! kill -0 "$traffic" 2>/dev/null; then
        cat "$home/traffic.err" >&2
        exit 1
    fi
    sleep 0.2
done
. "$home/traffic.env"

cat > cutover.toml <<TOML
zone = "example.test"
ttl = 1
resolver_floor = "1s"
check_every = "500ms"
drain = { time = "2s", idle_below = 0.5 }
query = { name_servers = ["$NAME_SERVER"] }
provider = { kind = "powerdns", url = "$PDNS_URL", api_key = { file = "$PDNS_KEY_FILE" } }
prometheus = { url = "$PROMETHEUS", window = "3s", kong_blue = "2.8", kong_green = "3.3" }
preflight = { unproven = ["nodes", "metrics"], acknowledge = ["acme_storage", "oauth2_authorization_codes", "oauth2_tokens", "ratelimiting_metrics", "response_ratelimiting_metrics", "sessions", "keyring_meta", "jwt_signer_jwks", "oic_issuers", "workspace_entity_counters"] }

[[record]]
name = "api.example.test"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]

[[step]]
share = 10
bake = "6s"

[[step]]
share = 50
bake = "4s"

[[step]]
share = 100
bake = "4s"

[[gate]]
kind = "kong-errors"
interval = "500ms"
min_requests = 5
inconclusive_limit = 20

[[gate]]
kind = "kong-latency"
interval = "500ms"
min_requests = 5
max_decrease = 0.2
inconclusive_limit = 20
TOML
echo "cutover.toml says what is moved, in which steps, and what must hold:"
sed -n '/^\[\[record/,$p' cutover.toml | head -n 12
echo "…"

step "8. A canary that turns bad: green answers four of ten requests with 500 as soon as it gets 10 %"
(
    while ! kongferry cutover status --format json 2>/dev/null | grep -q '"weight": 10.0'; do sleep 0.3; done
    sleep 3
    touch "$home/green-is-bad"
) &
run 3 kongferry cutover start --yes --blue "$blue" --green "$green"

step "9. Green is mended; the same cutover again"
rm -f "$home/green-is-bad"
sleep 4
echo "It stays at work until somebody says \"finish\"; here that is another terminal, as soon as it has drained."
(
    while ! kongferry cutover status --format json 2>/dev/null | grep -q '"state": "drained"'; do sleep 0.3; done
    sleep 2
    kongferry cutover finish > "$home/finish.out" 2>&1
) &
run 0 kongferry cutover retry --blue "$blue" --green "$green"
stop_traffic
