# Plain make lists the targets: each one's line is the comment after its name.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:

, := ,
VENV := .venv
BIN := $(VENV)/bin

# What is installed, by level: each adds to the one before, and is done again only when the pins change.
FOR_BENCH := $(VENV)/.installed-bench
FOR_TEST := $(VENV)/.installed-test
FOR_CHECK := $(VENV)/.installed

MATRIX ?= matrix.yaml

# Linux without an NVIDIA GPU takes PyTorch's CPU build from PyTorch's own index: the plain one brings gigabytes of CUDA.
# TORCH_INDEX= (empty) takes the plain one all the same; a folder of wheels that pip is set up with is used in either case.
TORCH_INDEX ?= $(shell [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null || echo https://download.pytorch.org/whl/cpu)

# Tests that start no real engine, cluster, store or image; they are independent of each other and run side by side.
FAST := not docker and not kubernetes and not s3 and not live and not gpu and not images
# These measure the machine: nothing runs beside them.
ALONE := gpu or alone
# One more worker than processors: many tests wait for a process.
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN); [ $$n -lt 8 ] && expr $$n + 1 || echo 8)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(FOR_CHECK) ## set up .venv with all that the targets below need; does nothing when nothing changed

bench: $(FOR_BENCH) ## run MATRIX (matrix.yaml) here, or on HOSTS=a,b, and show the comparison
	$(BIN)/orchestrator submit $(MATRIX) $(if $(HOSTS),--hosts $(HOSTS))

build: $(FOR_BENCH) ## build the runner's images, here or on HOSTS=a,b; from a folder of wheels with WHEELS=DIR
	$(BIN)/orchestrator build $(if $(HOSTS),--hosts $(HOSTS)) $(if $(WHEELS),--wheels $(WHEELS))

test: test-fast test-live test-alone ## run the tests; those that need Docker or a GPU skip where there is none

test-fast: $(FOR_TEST) ## run the tests that need no engine, cluster, store or GPU
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m '$(FAST)'

test-live: $(FOR_TEST) ## run the tests that need an engine, a cluster or a store, three groups at a time
	$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder --durations 10 -m 'not ($(FAST)) and not ($(ALONE))'

test-alone: $(FOR_TEST) ## run the tests that need a GPU, and then those that measure this machine, with nothing beside them
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'gpu and not alone'
	$(BIN)/pytest -m alone

check: lint test ## lint, then test: what a contributor and CI run

lint: $(FOR_CHECK) ## lint, types, import contracts, Dockerfiles
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive orchestrator runner sd_orchestrator benchmarks
	$(BIN)/hadolint images/*/Dockerfile

pins: ## resolve pins.txt again, with hashes: the newest versions, or with KEEP=1 only what pyproject.toml demands
	$(or $(PYTHON),python3) .ci/pins $(if $(KEEP),--keep)

bases: $(FOR_BENCH) ## write the digests that the registries have now into images/*/Dockerfile; needs a Docker engine
	$(BIN)/python .ci/bases

audit: ## look up known weaknesses of all that is pinned; ends with an error too where they cannot be looked up
	.ci/audit

notebook: $(FOR_TEST) ## execute docs/analysis.ipynb again, and store what it shows
	$(BIN)/python tests/support/notebook.py

fuzz: $(FOR_CHECK) ## fuzz each parser of what others send, for SECONDS=10 each
	$(BIN)/python tests/fuzz $(or $(SECONDS),10)

benchmarks: $(FOR_TEST) ## measure speed and scale against their targets, in 15 minutes on a quiet machine; more of them as root
	$(BIN)/python benchmarks/run_all.py

chaos: $(FOR_TEST) ## 200 short jobs on three private engines under a seeded mix of faults (SEED=5); as root
	$(BIN)/python benchmarks/chaos.py $(if $(SEED),--seed $(SEED))

clean: ## remove .venv and what the tools left; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz
	find orchestrator runner sd_orchestrator tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install bench build test test-fast test-live test-alone check lint pins bases audit notebook fuzz benchmarks chaos clean

# $(call installed,LEVEL,OPTIONS) installs a level of pins.txt, every file checked against its hashes, and nothing else. pip
# says which packages it downloads: one line that is written over on a terminal, and elsewhere the large ones alone.
installed = @$(BIN)/python orchestrator/images/pins.py $(1) > $(VENV)/.pins \
	&& { $(PIP) --no-deps --require-hashes $(2) -r $(VENV)/.pins || echo $$? > $(VENV)/.failed; } | $(BIN)/python .ci/progress \
	&& if [ -e $(VENV)/.failed ]; then rm $(VENV)/.failed; exit 1; fi
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --retries 1 --no-compile

$(FOR_TEST): $(FOR_BENCH)
	@echo "Installing OpenVINO and the test tools ..."
	$(call installed,test)
	@touch $@

$(FOR_CHECK): $(FOR_TEST)
	@echo "Installing the linters and the fuzzer ..."
	$(call installed,check)
	@touch $@

$(FOR_BENCH): pyproject.toml pins.txt
	@set -eu; \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "No Python 3.10 or newer found: install one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python cannot make a virtual environment; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; \
	fi; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	@echo "Installing PyTorch $(if $(TORCH_INDEX),(CPU build$(,) about 190 MB),as the package index has it) ..."
	$(if $(TORCH_INDEX),$(call installed,torch-cpu,--index-url $(TORCH_INDEX)),$(call installed,torch))
	@echo "Installing the runner and the orchestrator ..."
	$(call installed,bench)
	@$(PIP) --quiet --no-deps --no-index --no-build-isolation -e .
	@touch $@
