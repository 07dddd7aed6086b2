#!/usr/bin/env bash
# The property tests with many more cases than `make test` gives them.
#
#   PROPTEST_CASES=20000  cases of each one that needs no server    SERVER_CASES=2000  of each one that does
set -euo pipefail
cd "$(dirname "$0")/../.."

PROPTEST_CASES=${PROPTEST_CASES:-20000} cargo test --workspace --lib
PROPTEST_CASES=${SERVER_CASES:-2000} cargo test --test scenarios roundtrip
