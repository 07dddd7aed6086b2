# Everything that is done with this repository. `make help` lists it.

# A snapshot that differs is a failure; it is reviewed by a person, never accepted on the way.
export INSTA_UPDATE ?= no

# Tests wait for servers more than they compute: on a small machine four at a time take less time than two.
export RUST_TEST_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 4); [ "$$n" -gt 4 ] && echo "$$n" || echo 4)

.DEFAULT_GOAL := help
.PHONY: help demo test lint build man bench soak clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Kong's rows from a real Cassandra to a real PostgreSQL, in front of your eyes
	cargo build --workspace
	tests/demo/demo.sh

# Hundreds of keyspaces and databases come and go, and their files with them: a third of the time where they are on a disk.
test: export TMPDIR := $(or $(TMPDIR),$(shell tests/harness/roomy-memory),/tmp)
test: ## every test, real servers included
	cargo test --workspace --no-fail-fast

lint: ## formatting, clippy, links in the documentation of the code
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

build: ## the program, optimised: target/release/kongferry
	cargo build --release

man: ## manual pages of every command: target/man
	cargo run --quiet -- man --out $${CARGO_TARGET_DIR:-target}/man

bench: ## how fast it is, beside the physical floor: a table, and target/bench.json
	cargo build --release --workspace
	$${CARGO_TARGET_DIR:-target}/release/kongferry-bench

soak: ## what takes longer: a million rows, property tests at length, sixty kills, other shapes
	tests/soak/million.sh
	tests/soak/properties.sh
	tests/soak/kills.sh
	tests/soak/shapes.sh

clean: ## all that was built and downloaded
	cargo clean
