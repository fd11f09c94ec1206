# The two commands that matter: `make demo` and `make test`. Both do all set-up by themselves; a second run starts in seconds.
PYTHON ?= python3
export MESH_CACHE ?= $(CURDIR)/.cache
# Hundreds of processes start in a run of all tests: what is compiled is kept, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
SOURCES := mesh runtime_adapters tests protos examples benchmarks
# Two files of tests at a time: those that start servers mostly wait for them. `make test BESIDE=` runs one after the other.
# Files in their order: sorted by their numbers of tests, the few long ones would come last and run alone. The shortest come last.
BESIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

# What only computes runs beside what mostly waits, and takes what that leaves of the processor.
GENTLY := nice -n 19
# Two parts at a time; what one of them tells comes whole.
TOGETHER := --jobs 2 --output-sync=line
# Behind a summary: of which part it is.
SAID = && echo "$@: passed"

.PHONY: setup demo up demo-llm demo-text test checks computing waiting lint types layers proof docs environments
.PHONY: unit core around simulation simulate conformance integration protocols clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: .venv/.made  ## a virtual environment with the `mesh` command in it, and the express lane where cargo is

# Asked for once in a run, by whichever make was called: that there is no cargo is told once.
ifeq ($(MAKELEVEL),0)
setup: .venv/.lane
endif

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

# MODEL=smollm2 is a real one, of 98 MB to fetch and a few minutes to make; tiny is made in seconds.
MODEL ?= tiny
demo-llm: setup  ## a language model with adapters: build it, serve it in a runtime of its own, ask it; MODEL=smollm2 for a real one
	@$(BIN)/python examples/peft/demo_llm.py --model $(MODEL)

demo-text: setup  ## strings in, words out: a class of one's own around a packaged model
	@$(BIN)/python examples/text/demo_text.py

environment-%: setup  ## make a model server's environment, e.g. environment-mlserver
	@$(BIN)/mesh environment make $*

protocols: setup  ## generate mesh/protocols again
	@$(BIN)/python protos/build.py

# None of it needs the express lane, which test-lane builds.
test: .venv/.made  ## every check and every test but those of the express lane; the first time it also makes the environments of model servers and stores
	@$(BIN)/python -m tests.support.stubs
	@$(MAKE) --no-print-directory $(TOGETHER) computing waiting

checks: types lint layers proof  ## what reads the code, and runs none of it

computing: setup  ## checks, and tests that need little but a processor; one after the other, as long as the others wait
	@$(MAKE) --no-print-directory checks
	@$(MAKE) --no-print-directory core
	@$(MAKE) --no-print-directory simulation
	@$(MAKE) --no-print-directory around BESIDE=

# In one run: at the end of each, one of the two files that run beside each other would run alone.
waiting: environments  ## tests with servers and clients: integration, conformance
	@echo "waiting: tests/integration, tests/conformance"
	@$(BIN)/pytest -q $(BESIDE) tests/integration tests/conformance tests/support $(SAID)

lint: setup  ## style
	@echo "lint: style of $(SOURCES)"
	@$(GENTLY) $(BIN)/ruff check $(SOURCES)
	@$(GENTLY) $(BIN)/ruff format --check $(SOURCES)

types: setup  ## strict types
	@echo "types: mypy, strict"
	@$(BIN)/python -m tests.support.stubs
	@$(GENTLY) $(BIN)/mypy

layers: setup  ## arrows between the layers point down
	@echo "layers: who may import whom"
	@$(GENTLY) $(BIN)/lint-imports --no-logo

unit: core around  ## pure tests

core: setup  ## those of the rules, with full coverage
	@echo "core: tests/unit/core, covering mesh.core"
	@$(GENTLY) $(BIN)/pytest -q tests/unit/core --cov=mesh.core --cov-branch --cov-report=term $(SAID)

around: setup  ## those of all that is around the rules
	@echo "around: the other tests of tests/unit"
	@$(BIN)/pytest -q $(BESIDE) tests/unit --ignore=tests/unit/core $(SAID)

environments: setup  ## all that tests have installed for them: model servers, stores, clients, commands
	@environments/debian.sh curl=curl openssl=openssl
	@$(BIN)/python -m tests.support.environments

conformance: environments  ## ModelMesh's behaviours, a real router against a scripted runtime
	@echo "conformance: tests/conformance, routers beside scripted runtimes"
	@$(BIN)/pytest -q $(BESIDE) tests/conformance tests/support $(SAID)

integration: environments  ## real model servers, stores and clients
	@echo "integration: tests/integration, real model servers, stores and clients"
	@$(BIN)/pytest -q $(BESIDE) tests/integration $(SAID)

simulation: setup  ## meshes in simulated time under seeded faults: 300 small ones, a large one, and rules broken on purpose
	@echo "simulation: tests/simulation, meshes in simulated time"
	@$(GENTLY) $(BIN)/pytest -q tests/simulation $(SAID)

# SEEDS=n plays so many, FIRST=n begins there, SEED=n plays one alone and tells its latest events.
SEEDS ?= 300
FIRST ?= 0
simulate: setup  ## the same with more seeds, e.g. SEEDS=10000, or one: SEED=17
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST))

# ROLLOUTS=10000 takes half an hour of two cores; the figures of docs/rollouts.md are such a run's.
ROLLOUTS ?= 300
.PHONY: rollouts
rollouts: setup  ## judged rollouts of good and bad canaries, and how often the verdict is wrong; ROLLOUTS=n of each kind
	@$(GENTLY) $(BIN)/python -m tests.simulation.rollouts --rollouts $(ROLLOUTS)

docs: setup  ## write the generated pages again
	@$(BIN)/python -m tests.proof.settings_page
	@$(BIN)/python -m tests.proof.metrics_page

proof: setup  ## check that docs/proof.md names what shows each requirement
	@echo "proof: docs/proof.md against the tree"
	@$(GENTLY) $(BIN)/pytest -q tests/proof -s $(SAID)

.PHONY: test-torch environments-torch
test-torch: environments-torch  ## what needs PyTorch: TorchServe, TorchScript in Triton, the language model; the first time it makes their environments
	@$(BIN)/pytest -q $(BESIDE) tests/torch

environments-torch: environments
	@environments/debian.sh java=openjdk-17-jre-headless
	@$(BIN)/python -m tests.support.environments --torch || { \
		echo "test-torch: environments with PyTorch cannot be made here, for the reasons above; nothing of tests/torch ran" >&2; exit 1; }

.PHONY: bench
bench: setup  ## what a hop through the router, a cold model and running loads cost, beside the same without a router
	@$(BIN)/python -m benchmarks.hop
	@$(BIN)/python -m benchmarks.hop --peer
	@$(BIN)/python -m benchmarks.cold
	@$(BIN)/python -m benchmarks.disturbance
	@$(BIN)/python -m benchmarks.queueing
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.scale --services 20000
	@$(MAKE) --no-print-directory bench-lane

# What debian.sh installs is not to start as a service. Where the express lane is not compiled, what needs it says so in a line.
.PHONY: bench-lane
bench-lane: setup  ## the express lane beside HAProxy, nghttpx, Envoy, nginx and the Python doors; REST; three pods; memory; JSON in .cache
	@RUNLEVEL=1 environments/debian.sh h2load=nghttp2-client nghttpd=nghttp2-server nghttpx=nghttp2-proxy haproxy=haproxy nginx=nginx-light
	@$(BIN)/python -m benchmarks.lane --output .cache/bench-lane.json
	@$(BIN)/python -m benchmarks.lane_rest --output .cache/bench-lane-rest.json
	@$(BIN)/python -m benchmarks.lane_mesh --json .cache/bench-lane-mesh.json
	@$(BIN)/python -m benchmarks.memory --output .cache/bench-lane-memory.json

.PHONY: bench-million
bench-million: setup  ## a router with a million services; etcd takes 2 GB of disk and 3 GB of memory for them
	@$(BIN)/python -m benchmarks.scale --services 1000000

# Where it cannot be built that is told in a line, and all else goes on without it; `make lane` fails there.
.PHONY: lane lane-suite lane-crate lane-stories test-lane
LANE_SOURCES := lane/build.sh lane/Cargo.toml lane/Cargo.lock $(wildcard lane/.cargo/* lane/src/*.rs lane/src/*/*.rs)
BUILD_LANE := lane/build.sh $(CURDIR)/$(BIN)/python
.venv/.lane: .venv/.made $(LANE_SOURCES)
	@$(BUILD_LANE) && touch $@ || true

lane: .venv/.made  ## build the express lane and put it into .venv; a part of setup
	@$(BUILD_LANE)
	@touch .venv/.lane

# Its own tests, and the suite of conformance once more with it on the routers' ports.
lane-suite: .venv/.made
	@$(BUILD_LANE); code=$$?; \
	if [ $$code = 3 ]; then echo "lane-suite: none of it runs without the express lane"; \
	elif [ $$code = 0 ]; then $(MAKE) --no-print-directory lane-crate lane-stories; else exit $$code; fi

lane-crate:
	@echo "lane-crate: tests of the crate, and its style"
	@cd lane && $(GENTLY) cargo test --no-default-features --locked --quiet
	@! cargo clippy --version > /dev/null 2>&1 || { cd lane && $(GENTLY) cargo clippy --all-targets --locked --quiet -- -D warnings; }

lane-stories: environments
	@environments/debian.sh h2load=nghttp2-client
	@echo "lane-stories: tests/lane; tests/conformance with the lane on the routers' ports"
	@MESH_LANE=auto $(BIN)/pytest -q $(BESIDE) tests/lane tests/conformance --ignore=tests/lane/foreign $(SAID)

test-lane: lane lane-suite  ## the express lane: its own tests, stories of routers and of pods under load with it, and clients of many kinds before it
	@MESH_LANE=auto $(BIN)/pytest -q $(BESIDE) tests/integration/pods tests/integration/clients tests/lane/foreign $(SAID)

# Seconds; a run of less than a quarter of an hour says little of memory.
SOAK ?= 3600
.PHONY: soak
soak: lane  ## an hour of all kinds of calls of a router with the express lane: whether it keeps its memory; SOAK=seconds
	@$(GENTLY) $(BIN)/python -m benchmarks.soak --seconds $(SOAK) --output .cache/soak.json
	@echo "the figures are in .cache/soak.json"

# So many times the examples that the tests draw; three minutes of a processor.
FUZZ ?= 5
.PHONY: fuzz
fuzz: lane  ## generated and broken bytes for the lane: ids replaced in messages, JSON transcoded beside the Python door; FUZZ=times
	@cd lane && PROPTEST_CASES=$$((1024 * $(FUZZ))) $(GENTLY) cargo test --no-default-features --quiet -- splice framing rest authority
	@FUZZ=$(FUZZ) $(GENTLY) $(BIN)/pytest -q tests/lane/test_rest_transcoding.py $(SAID)

.PHONY: h2spec
h2spec: lane  ## a conformance suite of HTTP/2 against the lane, and against its library alone; needs cargo and go
	@$(BIN)/python -m tests.lane.h2spec

clean:  ## remove everything that was built
	rm -rf lane/target .venv .cache mesh/protocols tests/support/protocols .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist
