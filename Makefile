# Two commands do all the set-up: `make demo` and `make test`.
.DEFAULT_GOAL := help
CARGO ?= cargo

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo:            ## a whole migration on this machine: both servers, inspect, plan, migrate, a login
	$(CARGO) build --workspace
	tests/demo/demo.sh

test:            ## every test, on real servers
	INSTA_UPDATE=no $(CARGO) test --workspace

lint:            ## formatting, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

soak:            ## what takes longer: a million rows, many more random cases
	$(CARGO) build --release --workspace
	tests/soak/million.sh
	PROPTEST_CASES=20000 $(CARGO) test --workspace --lib
	PROPTEST_CASES=2000 $(CARGO) test --test scenarios roundtrip

build:           ## the program, optimised: target/release/kongferry
	$(CARGO) build --release

clean:           ## everything that was built or downloaded
	$(CARGO) clean

.PHONY: help demo test lint soak build clean
