# Plain make lists the targets: each one's line is the comment after its name.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MATRIX ?= matrix.yaml
TORCH := $(shell grep '^torch==' constraints.txt)

# Linux without an NVIDIA GPU takes PyTorch's CPU build from PyTorch's own index: the plain one brings gigabytes of CUDA.
# TORCH_INDEX= (empty) takes the plain one all the same; a folder of wheels that pip is set up with is used in either case.
TORCH_INDEX ?= $(shell [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null || echo https://download.pytorch.org/whl/cpu)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## set up .venv with the pinned versions; does nothing when nothing changed

bench: $(STAMP) ## run MATRIX (matrix.yaml) here, or on HOSTS=a,b, and show the comparison
	$(BIN)/orchestrator submit $(MATRIX) $(if $(HOSTS),--hosts $(HOSTS))

build: $(STAMP) ## build the runner's images, here or on HOSTS=a,b; from a folder of wheels with WHEELS=DIR
	$(BIN)/orchestrator build $(if $(HOSTS),--hosts $(HOSTS)) $(if $(WHEELS),--wheels $(WHEELS))

test: $(STAMP) ## run the tests; those that need Docker or a GPU skip where there is none
	$(BIN)/pytest

check: $(STAMP) ## lint, types, import contracts, Dockerfiles, tests: what a contributor and CI run
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive orchestrator runner benchmarks
	$(BIN)/hadolint images/*/Dockerfile
	$(BIN)/pytest

audit: ## look up known weaknesses of all that is pinned; ends with an error too where they cannot be looked up
	.ci/audit

fuzz: $(STAMP) ## fuzz each parser of what others send, for SECONDS=10 each
	$(BIN)/python tests/fuzz $(or $(SECONDS),10)

chaos: $(STAMP) ## 200 short jobs on three private engines under a seeded mix of faults (SEED=5); as root
	$(BIN)/python benchmarks/chaos.py $(if $(SEED),--seed $(SEED))

clean: ## remove .venv and what the tools left; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz
	find orchestrator runner tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install bench build test check audit fuzz chaos clean

$(STAMP): pyproject.toml constraints.txt
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
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --retries 1 --no-deps --index-url $(TORCH_INDEX) '$(TORCH)')
	$(BIN)/pip install --quiet -c constraints.txt -e '.[runner,openvino,dev]'
	@touch $@
