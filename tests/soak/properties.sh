#!/usr/bin/env bash
# The property tests with many more cases than `make test` gives them, and the tests that are too long for it.
#
#   PROPTEST_CASES=20000  cases of each one that needs no server    SERVER_CASES=2000  of each one that does
#   HOSTILE_CASES=100000  of the decoders of bytes
set -euo pipefail
cd "$(dirname "$0")/../.."

PROPTEST_CASES=${PROPTEST_CASES:-20000} cargo test --workspace --lib
# Hostile bytes for every decoder of what Cassandra sends.
PROPTEST_CASES=${HOSTILE_CASES:-100000} cargo test --test hostile_bytes
PROPTEST_CASES=${SERVER_CASES:-2000} cargo test --test scenarios roundtrip
# The tests whose inputs are smaller in `make test`.
KONGFERRY_CONSUMERS=25000 KONGFERRY_USERS=5000 cargo test --test scenarios -- unchanged_rows bcrypt_hashes
KONGFERRY_QUERIES=10000 cargo test --test dns -- powerdns::every_share
# A real kill -9 of the cutover at every one of its transitions.
cargo test --test cutover -- --ignored
