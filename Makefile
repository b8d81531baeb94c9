# onevip: build, try, test, measure. Everything installs what it needs first (scripts/deps).
# Root is needed wherever packets flow, in network namespaces of its own; without it, sudo is used and says so.

SHELL := /bin/sh
CARGO ?= cargo
PREFIX ?= /usr/local
UNITS ?= /etc/systemd/system
VMS ?= 6.1 6.12

ifneq ($(shell id -u),0)
SUDO := sudo -E
# Test binaries and examples are built as you, and run as root.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(SUDO)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(SUDO)
endif

.PHONY: help build demo test tidy lint deny bench matrix failover health load simulate fuzz vms configuration install clean

help:            ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

build:           ## the release binaries, in target/release
	@scripts/deps build
	$(CARGO) build --release --locked --workspace

demo:            ## one address, four hosts, sixty clients, in namespaces on this machine (under a minute)
	@scripts/deps test
	$(CARGO) build --locked --workspace
	$(SUDO) target/debug/onevip-lab demo

# Tests of whole clusters spend most of their time waiting for things to happen.
RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
test:            ## everything: unit, property, verdict, differential, simulated and end to end
	@scripts/deps test
	RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --locked --workspace

tidy:            ## the tree itself: sizes, imports, names, and whether the documents tell the truth (seconds; part of `make test`)
	$(CARGO) test --locked -p onevip-tidy

lint:            ## formatting, clippy, documentation
	@scripts/deps lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Advisories come from a database on the network. Where that cannot be reached, this says so, and checks the rest.
deny:            ## licences, sources and advisories of what is built in
	@scripts/deps deny
	@CARGO="$(CARGO)" scripts/deny

bench:           ## figures beside those of others, raw results in bench/results, and docs/benchmarks.md (under 20 minutes)
	@scripts/deps bench
	@SUDO="$(SUDO)" CARGO="$(CARGO)" scripts/bench

matrix:          ## the same stories over every kind of host, and docs/hosts.md (about five minutes)
	@scripts/deps test
	$(CARGO) build --locked --workspace
	$(SUDO) target/debug/onevip-lab matrix --out docs/hosts.md

failover:        ## what users notice when hosts die, hang, drain and return (about half an hour)
	@scripts/deps bench
	$(CARGO) build --locked --release --workspace
	$(SUDO) target/release/onevip-lab bench failover $(FAILOVER)

health:          ## how long an ill node goes on getting new users (about ten minutes)
	@scripts/deps test
	$(CARGO) build --locked --release --workspace
	$(SUDO) target/release/onevip-lab bench health $(HEALTH)

load:            ## two thousand sessions over four nodes that fail and return at random (about 40 minutes)
	@scripts/deps bench
	$(CARGO) build --locked --release -p onevip -p onevip-lab
	$(SUDO) target/release/onevip-lab bench load --save bench/results $(LOAD)
	target/release/onevip-lab bench page

simulate:        ## whole clusters under random faults in virtual time: a long campaign (SIMULATE="--lives N --seed N")
	@scripts/deps build
	$(CARGO) run --locked --release -p onevip-core --example simulate -- $(SIMULATE)

# Coverage-guided fuzzing on a stable toolchain: what cargo-fuzz asks of a nightly, asked of the compiler directly.
FUZZ_SECONDS ?= 300
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Ccodegen-units=1 -Cdebug-assertions
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

fuzz:            ## beats and frames as hostile input, FUZZ_SECONDS each
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --release --target $(HOST)
	cd fuzz && for target in beat packet; do \
		mkdir -p corpus/$$target artifacts && \
		target/$(HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=1500 -len_control=0 \
			-artifact_prefix=artifacts/ corpus/$$target || exit 1; done

vms:             ## the units under a real systemd, in two virtual hosts, on Linux 6.1 and 6.12 (under half an hour, emulated; VMS="6.12" for one)
	@scripts/deps vms
	$(CARGO) build --locked --release -p onevip
	$(SUDO) scripts/vms/run target/release/onevip $(VMS)

install: build   ## onevip into $(PREFIX)/sbin, its units into $(UNITS)
	$(SUDO) install -D -m 755 target/release/onevip $(DESTDIR)$(PREFIX)/sbin/onevip
	$(SUDO) install -d $(DESTDIR)$(UNITS)
	for unit in packaging/systemd/*; do \
		sed 's,/usr/local/sbin/,$(PREFIX)/sbin/,' $$unit | $(SUDO) tee $(DESTDIR)$(UNITS)/$$(basename $$unit) > /dev/null || exit 1; done

configuration:   ## docs/configuration.md, from the table of settings
	$(CARGO) run --locked -q -p onevip-config --example configuration > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

clean:           ## what was built
	$(CARGO) clean
