# The front door. `make help` lists the targets; what a target does is in scripts/.
SHELL := /bin/bash
PREFIX ?= /usr
FUZZ_SECONDS ?= 30
CTEST_ARGS ?= -j$(shell nproc)
export FUZZ_SECONDS LINT_BASE

.DEFAULT_GOAL := help
.PHONY: help setup build run test bench fuzz lint crash soak package install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing Debian packages, create the service users
	@scripts/setup

build: ## set-up, then the release preset, into build/release/bin
	@scripts/setup
	@scripts/build release

run: build ## watch this machine in the foreground with the bundled rules, until Ctrl-C
	@scripts/run

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

crash: build ## long crash tests
	@scripts/long-test crash

soak: build ## long load test
	@scripts/long-test soak

package: build ## a .deb in build/release
	@cd build/release && cpack -G DEB

install: build ## install below PREFIX (/usr: rules are looked for in /usr/share/daemoneye/rules), honours DESTDIR
	@cmake --install build/release --prefix "$(PREFIX)"

clean: ## remove what was built (not var/)
	@rm -rf build
