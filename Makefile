# The front door. `make help` lists the targets; what a target does is in scripts/.
SHELL := /bin/bash
PREFIX ?= /usr
FUZZ_SECONDS ?= 30
CTEST_ARGS ?= -j$(shell nproc)
export FUZZ_SECONDS LINT_BASE

.DEFAULT_GOAL := help
.PHONY: help setup build programs run test bench fuzz lint crash soak package install uninstall installable clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing Debian packages, create the service users
	@scripts/setup

build: ## set-up, then the release preset, into build/release/bin
	@scripts/setup
	@scripts/build release

run: programs ## watch this machine in the foreground with the bundled rules, until Ctrl-C
	@scripts/run

programs: ## set-up, then the programs alone, without their tests
	@scripts/setup
	@scripts/build release programs

test: build ## every test
	@ctest --test-dir build/release --output-on-failure --no-tests=error $(CTEST_ARGS)

bench: build ## benchmarks: a table, and one JSON file each in build/bench/
	@scripts/bench

fuzz: ## each fuzzer for FUZZ_SECONDS (30)
	@scripts/setup --build-only
	@scripts/fuzz

lint: ## format, arrows between the rooms, clang-tidy on what changed since LINT_BASE
	@scripts/setup --build-only
	@scripts/lint

crash: programs ## long crash tests
	@scripts/build release store_test
	@scripts/long-test crash

soak: programs ## SOAK_SECONDS (600) of load, kills, outages, full disks and clock steps, then the account
	@scripts/long-test soak

package: installable ## a .deb in build/release, checked by lintian
	@scripts/package

install: installable ## install below PREFIX (/usr: rules are looked for in /usr/share/daemoneye/rules), honours DESTDIR
	@cmake --install build/release --prefix "$(PREFIX)"
	@[ -n "$(DESTDIR)" ] || scripts/after-install "$(PREFIX)"

uninstall: ## remove what `make install` put below PREFIX; configuration and what was recorded stay
	@scripts/uninstall build/release "$(PREFIX)"

installable: programs
	@scripts/build release documentation

clean: ## remove what was built (not var/)
	@rm -rf build
