# The commands of this repository. `make help` lists them.

# A snapshot that differs is a failure. A reviewer accepts it, the tests never do.
export INSTA_UPDATE ?= no

# Tests wait for servers more than they compute: on two cores, four at a time take less time than two.
export RUST_TEST_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 4); [ "$$n" -gt 4 ] && echo "$$n" || echo 4)

.DEFAULT_GOAL := help
.PHONY: help demo test lint build man bench soak clean

help: ## List the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Migrate Kong's rows from a real Cassandra to a real PostgreSQL, step by step (DEMO=enterprise)
	cargo build --workspace
	tests/demo/demo.sh

# The tests create hundreds of keyspaces and databases: in memory they take a third of the time that they take on a disk.
test: export TMPDIR := $(or $(TMPDIR),$(shell tests/harness/roomy-memory),/tmp)
test: ## Run every test, with real servers
	cargo test --workspace --no-fail-fast

lint: ## Check formatting, clippy and the links in the code's documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

build: ## Build the program with optimisation: target/release/kongferry
	cargo build --release

man: ## Write the manual page of every command: target/man
	cargo run --quiet -- man --out $${CARGO_TARGET_DIR:-target}/man

bench: ## Measure the speed beside that of the machine: a table and target/bench.json
	cargo build --release --workspace
	$${CARGO_TARGET_DIR:-target}/release/kongferry-bench

soak: ## Run the long tests: a million rows, long property tests, sixty kills, other shapes
	tests/soak/million.sh
	tests/soak/properties.sh
	tests/soak/kills.sh
	tests/soak/shapes.sh

clean: ## Delete everything that was built and downloaded
	cargo clean
