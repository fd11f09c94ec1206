# The two commands that matter: `make demo` and `make test`. Both do all set-up by themselves; a second run starts in seconds.
PYTHON ?= python3
export MESH_CACHE ?= $(CURDIR)/.cache
# Hundreds of processes start in a run of all tests: what is compiled is kept, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
SOURCES := mesh runtime_adapters tests protos examples benchmarks
# Two files of tests at a time: those that start servers mostly wait for them. `make test BESIDE=` runs one after the other.
# Files in their order: sorted by their numbers of tests, the few long ones would come last and run alone.
BESIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo up test lint types layers proof docs environments unit simulation simulate conformance integration protocols clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: .venv/.made  ## a virtual environment with the `mesh` command in it

.venv/.made: pyproject.toml $(wildcard protos/*.py protos/mesh/protocols/*.proto)
	@echo "setup: making .venv (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup  ## start a mesh here, serve the walkthrough's model, call it over REST and gRPC, end the mesh
	@$(BIN)/python examples/demo.py --data .cache/demo-data

up: setup  ## the same, and the mesh stays; `.venv/bin/mesh down` ends it
	@$(BIN)/python examples/demo.py --data .cache/demo-data --stay

environment-%: setup  ## make a model server's environment, e.g. environment-mlserver
	@$(BIN)/mesh environment make $*

protocols: setup  ## generate mesh/protocols again
	@$(BIN)/python protos/build.py

test: setup  ## every check and every test; the first time it also makes the environments of model servers and stores
	@$(MAKE) --no-print-directory lint types layers environments proof unit simulation conformance integration

lint: setup  ## style
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types: setup  ## strict types
	@$(BIN)/python -m tests.support.stubs
	@$(BIN)/mypy

layers: setup  ## arrows between the layers point down
	@$(BIN)/lint-imports --no-logo

unit: setup  ## pure tests, with full coverage of the core
	@$(BIN)/pytest -q $(BESIDE) tests/unit --cov=mesh.core --cov-branch --cov-report=term

environments: setup  ## all that tests have installed for them: model servers, stores, clients, commands
	@environments/debian.sh curl=curl openssl=openssl
	@$(BIN)/python -m tests.support.environments

conformance: environments  ## ModelMesh's behaviours, a real router against a scripted runtime
	@$(BIN)/pytest -q $(BESIDE) tests/conformance tests/support

integration: environments  ## real model servers, stores and clients
	@$(BIN)/pytest -q $(BESIDE) tests/integration

simulation: setup  ## meshes in simulated time under seeded faults: 300 small ones, a large one, and rules broken on purpose
	@$(BIN)/pytest -q tests/simulation

# SEEDS=n plays so many, FIRST=n begins there, SEED=n plays one alone and tells its latest events.
SEEDS ?= 300
FIRST ?= 0
simulate: setup  ## the same with more seeds, e.g. SEEDS=10000, or one: SEED=17
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST))

docs: setup  ## write the generated pages again
	@$(BIN)/python -m tests.proof.settings_page
	@$(BIN)/python -m tests.proof.metrics_page

proof: setup  ## check that docs/proof.md names what shows each requirement
	@$(BIN)/pytest -q tests/proof -s

.PHONY: bench
bench: setup  ## what a hop through the router, a cold model and running loads cost, beside the same without a router
	@$(BIN)/python -m benchmarks.hop
	@$(BIN)/python -m benchmarks.hop --peer
	@$(BIN)/python -m benchmarks.cold
	@$(BIN)/python -m benchmarks.disturbance
	@$(BIN)/python -m benchmarks.queueing
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.scale --services 20000

.PHONY: bench-million
bench-million: setup  ## a router with a million services; etcd takes 2 GB of disk and 3 GB of memory for them
	@$(BIN)/python -m benchmarks.scale --services 1000000

clean:  ## remove everything that was built
	rm -rf .venv .cache mesh/protocols tests/support/protocols .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist
