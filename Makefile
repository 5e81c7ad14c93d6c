# One command each on a fresh clone. Needs python3 (3.11 or newer), make and a package index.
PYTHON ?= python3
UV ?= uv
TORTURE_KILLS ?= 500
TORTURE_STEPS ?= 100000
TORTURE_EXAMPLES ?= 5000
TORTURE_ROWS ?= 1000000
TEST_PROCESSES ?= 2
PYTEST_ARGS ?=
export TORTURE_KILLS TORTURE_STEPS TORTURE_EXAMPLES TORTURE_ROWS

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo serve install parquet test check bench torture lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

# `exec` puts the service itself where make's signals go, so Ctrl-C and SIGTERM stop it cleanly.
demo: $(INSTALLED) ## the service on an embedded ledger with sample traffic; Ctrl-C stops it
	@exec $(BIN)/usage-ledger demo

serve: $(INSTALLED) ## the service, no sample traffic
	@exec $(BIN)/usage-ledger serve

install: $(INSTALLED) ## .venv only

parquet: $(INSTALLED) ## what Parquet files need, into .venv
	$(PIP) install --quiet --require-hashes -r ops/requirements-parquet.txt

test: $(INSTALLED_DEV) ## the whole test suite
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(PYTEST_ARGS)

check: $(INSTALLED_DEV) ## format, lint, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_layers.py

bench: $(INSTALLED) ## benchmarks; BIG=1: the questions of the dashboard with ten million calls
	$(BIN)/python -m ops.bench$(if $(BIG),.big)

torture: $(INSTALLED_DEV) ## long fault tests: TORTURE_KILLS, TORTURE_STEPS, TORTURE_EXAMPLES, TORTURE_ROWS
	$(BIN)/python -m pytest -m torture --timeout=0 $(PYTEST_ARGS)

# Versions that stand stay; UV_ARGS=--upgrade moves them all. The addresses of an index are never written.
LOCK := $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11
lock: ## pin ops/requirements*.in anew (needs uv)
	$(LOCK) $(UV_ARGS) ops/requirements.in -o ops/requirements.txt
	$(LOCK) $(UV_ARGS) ops/requirements-parquet.in -o ops/requirements-parquet.txt
	$(LOCK) $(UV_ARGS) ops/requirements-dev.in -o ops/requirements-dev.txt

clean: ## remove the environment and what tools left; the data stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything that a build would fetch is in the pinned requirements, hence no isolation and no index.
$(INSTALLED): ops/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r ops/requirements.txt
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_DEV): ops/requirements-dev.txt $(INSTALLED)
	$(PIP) install --quiet --require-hashes -r ops/requirements-dev.txt
	@touch $@
