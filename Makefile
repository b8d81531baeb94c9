# onevip: build, try, test, measure. Everything installs what it needs first (scripts/deps).
# Root is needed wherever packets flow, in network namespaces of its own; without it, sudo is used and says so.

SHELL := /bin/sh
CARGO ?= cargo
PREFIX ?= /usr/local

ifneq ($(shell id -u),0)
SUDO := sudo -E
# Test binaries and examples are built as you, and run as root.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(SUDO)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(SUDO)
endif

.PHONY: help build demo test lint bench clean install

help:            ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

build:           ## the release binaries, in target/release
	@scripts/deps build
	$(CARGO) build --release --locked --workspace

demo:            ## one address, four hosts, sixty clients, in namespaces on this machine (under a minute)
	@scripts/deps test
	$(CARGO) build --locked --workspace
	$(SUDO) target/debug/onevip-lab demo

test:            ## everything: unit, property, verdict, differential, simulated and end to end
	@scripts/deps test
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace

lint:            ## formatting, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

bench:           ## what a packet costs in the kernel part
	@scripts/deps bench
	$(CARGO) run --locked --release -p onevip-bpf --example program_cost

install: build   ## onevip into $(PREFIX)/sbin
	$(SUDO) install -D -m 755 target/release/onevip $(DESTDIR)$(PREFIX)/sbin/onevip

clean:           ## what was built
	$(CARGO) clean
