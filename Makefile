# Every target sets up what it needs (.venv from the hashed lock, both compiled modules) and is quick the second time.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
PY := $(BIN)/python
STAMPS := .venv/stamps
CARGO := cargo
# cargo and maturin share one target directory, so a dependency is compiled once per profile
export CARGO_TARGET_DIR ?= $(CURDIR)/rust/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ARGS ?=

RUST_SOURCES := $(shell find rust -path rust/target -prune -o \( -name '*.rs' -o -name Cargo.toml -o -name Cargo.lock \) -print)
CYTHON_SOURCES := $(wildcard core_ext/*.pyx core_ext/*.pxd fastlog/native/*.pxd)
STUBS := $(patsubst fastlog/native/%.pyi,fastlog.native.%,$(filter-out %/__init__.pyi,$(wildcard fastlog/native/_*.pyi)))
FAST_TESTS := $(wildcard tests/unit tests/wire tests/property tests/formats)
# in this order: with files of few and long tests at the end one worker would go on alone
SERVER_TESTS := $(wildcard tests/fault tests/integration)
BY_FILE := --dist loadfile --no-loadscope-reorder
# three on two cores: their tests wait as much as they compute
SERVER_WORKERS := 3
# where the time of the long suites goes
SLOWEST := --durations=40 --durations-min=4
# how long each fuzz target runs, and in the long form
SECONDS_EACH := 20
FUZZ_SECONDS_LONG := 120
TARGETS ?=
# prints how long a suite took beside what it may take: $(TIMED) NAME SECONDS COMMAND…
TIMED := $(PY) tools/timed.py

.PHONY: help build run cluster demo power-loss bench fuzz fuzz-replay simulation test-fast test test-all check fmt relock clean
.PHONY: $(addprefix check-,lint types layers stubs cython tidy locks generated rustfmt clippy) rust-test python-test server-test long-test

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# ---- set-up ----

$(STAMPS)/environment: requirements/dev.lock tools/tools.sh
	@python=$$(sh tools/tools.sh); \
	$(PY) -c '' 2>/dev/null || { rm -rf .venv; echo "making .venv with $$python"; "$$python" -m venv .venv; }
	$(PY) -m pip install -q --require-hashes -r requirements/dev.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/package: pyproject.toml $(STAMPS)/environment
	$(PY) -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@

$(STAMPS)/build: setup.py $(RUST_SOURCES) $(CYTHON_SOURCES) | $(STAMPS)/environment
	$(PY) setup.py -q build_ext --inplace
	@touch $@

$(STAMPS)/demo: requirements/demo.lock $(STAMPS)/environment
	$(PY) -m pip install -q --require-hashes --no-deps -r requirements/demo.lock
	@touch $@

build: $(STAMPS)/package $(STAMPS)/build ## both compiled modules; then .venv/bin/fastlog works

# ---- use ----

run: build ## a broker on 127.0.0.1:9092, ZeroMQ on 9192; options in ARGS='…'
	@exec $(BIN)/fastlog serve $(ARGS)

cluster: build ## brokers on 127.0.0.1:9092-9094, ZeroMQ on 9192-9194, ZooKeeper on 2181; data in fastlog-data/cluster
	@exec $(PY) -m fastlog.testing.run_cluster $(ARGS)

demo: build $(STAMPS)/demo ## a year of flights in and out, counted and compared; ARGS='FILE' for your own
	@$(PY) -m examples.flights $(ARGS)

power-loss: build ## cuts the power of a broker under load and counts what survived; root only
	@$(PY) -m tests.crashes power-cut $(ARGS)

bench: $(STAMPS)/package ## benchmarks of the parts, on the release build
	FASTLOG_PROFILE=release $(PY) setup.py -q build_ext --inplace
	$(PY) -m pytest benchmarks --benchmark-only $(ARGS)
	@touch -d @0 $(STAMPS)/build

# ---- tests ----

rust-test: $(STAMPS)/environment
	@$(TIMED) rust-build 300 $(CARGO) test --manifest-path rust/Cargo.toml --workspace --locked --quiet --no-run
	@$(TIMED) rust 75 $(CARGO) test --manifest-path rust/Cargo.toml --workspace --locked --quiet

python-test: build
	@$(TIMED) fast 100 $(PY) -m pytest -n 2 $(FAST_TESTS) $(ARGS)

simulation: build ## clusters from 2,000 seeds, others each time; docs/simulation.md
	@$(TIMED) simulation 240 $(PY) -m pytest -n 2 tests/simulation $(ARGS)

server-test: build
	@$(TIMED) servers 900 $(PY) -m pytest -n $(SERVER_WORKERS) $(BY_FILE) $(SLOWEST) $(SERVER_TESTS) $(ARGS)

# one after the other, so that they do not share the cores and the last closing line is pytest's own
long-test: build
	@$(TIMED) rust-long 600 $(CARGO) test --manifest-path rust/Cargo.toml --workspace --locked --quiet -- --include-ignored
	@$(TIMED) long 2400 $(PY) -m pytest -n $(SERVER_WORKERS) $(BY_FILE) $(SLOWEST) --long $(SERVER_TESTS) tests $(ARGS)

fuzz: $(STAMPS)/environment ## hostile bytes; SECONDS_EACH=N for each target, TARGETS='…' for some
	@$(TIMED) fuzz-build 300 $(PY) tools/fuzz.py build
	@$(TIMED) fuzz $$(($(SECONDS_EACH) * 4)) $(PY) tools/fuzz.py run --seconds $(SECONDS_EACH) $(TARGETS)

fuzz-replay: $(STAMPS)/environment ## one input again: TARGET=… FILE=…
	@$(PY) tools/fuzz.py replay $(TARGET) $(FILE)

test-fast: ## no servers, 3 minutes at most
	@$(MAKE) --no-print-directory rust-test
	@$(MAKE) --no-print-directory python-test

test: test-fast ## also fuzzing, a simulated cluster, brokers, other people's clients, faults; half an hour
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory simulation
	@$(MAKE) --no-print-directory server-test

test-all: ## everything, long forms too
	@$(MAKE) --no-print-directory fuzz SECONDS_EACH=$(FUZZ_SECONDS_LONG)
	@$(MAKE) --no-print-directory long-test

# ---- gates ----

# each gate is a target of its own, so that `make -k check` names all that is wrong
check: $(addprefix check-,lint types layers stubs cython tidy locks generated rustfmt clippy) ## all gates
	@echo "check: all gates passed"

check-lint: $(STAMPS)/environment
	@$(TIMED) lint 30 bash -c '$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check .'

check-types: build
	@$(TIMED) types 90 $(BIN)/mypy

check-layers: build
	@$(TIMED) layers 30 $(BIN)/lint-imports --no-logo --no-cache

check-stubs: build
	@$(if $(STUBS),$(TIMED) stubs 90 $(PY) -m mypy.stubtest --concise --mypy-config-file pyproject.toml --ignore-unused-allowlist \
	  --allowlist tools/stubtest.allow $(STUBS),echo "stubs: there are none")

check-cython: $(STAMPS)/environment
	@PATH=$(CURDIR)/$(BIN):$$PATH $(TIMED) cython 30 $(BIN)/cython-lint --max-line-length=120 $(CYTHON_SOURCES)

check-tidy: $(STAMPS)/environment
	@$(TIMED) tidy 20 $(PY) tools/tidy.py

check-locks: $(STAMPS)/environment
	@$(TIMED) locks 20 bash -c '$(PY) tools/lock.py check && \
	  $(CARGO) metadata --locked --no-deps --format-version 1 --manifest-path rust/Cargo.toml >/dev/null'

check-generated: $(STAMPS)/environment
	@$(TIMED) generated 60 bash -c 'for tool in tools/generate_*.py; do $(PY) "$$tool" --check || exit 1; done'

check-rustfmt: $(STAMPS)/environment
	@$(TIMED) rustfmt 30 $(CARGO) fmt --manifest-path rust/Cargo.toml --all --check

check-clippy: $(STAMPS)/environment
	@$(TIMED) clippy 300 $(CARGO) clippy --manifest-path rust/Cargo.toml --workspace --all-targets --locked --quiet \
	  --features fastlog-fuzz/libfuzzer,fastlog-native/simulation -- -D warnings

fmt: $(STAMPS)/environment ## writes what check asks for, where a program can
	for tool in tools/generate_*.py; do $(PY) "$$tool"; done
	$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .
	$(CARGO) fmt --manifest-path rust/Cargo.toml --all

relock: ## writes requirements/*.lock and rust/Cargo.lock anew
	"$$(sh tools/tools.sh)" tools/lock.py compile
	$(CARGO) update --manifest-path rust/Cargo.toml

clean: ## removes the environment and everything built
	rm -rf .venv build dist *.egg-info rust/target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find fastlog core_ext \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +
