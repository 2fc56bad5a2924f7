# Every target makes the environment it needs. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
SERVICES ?= .services

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format bench services-up services-down schemas build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## create the environment in .venv (PYTHON=python3.12 picks the interpreter)

# What pip says goes to standard error, so that `services-up` prints nothing but what the shell is to evaluate.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "This needs Python 3.11 or newer and found $$($(PYTHON) --version 2>&1): make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing the environment into $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
	@touch $@

demo: $(READY) ## the whole system in one process, with three applications: hire, move and leave
	@$(BIN)/jml demo

# What starts fleets of processes runs alone: it needs both cores for itself.
test: $(READY) ## the whole suite; without JML_TEST_KAFKA and JML_TEST_POSTGRES it says what it left out
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/acceptance
	@$(BIN)/python -m pytest tests/acceptance

lint: $(READY) ## ruff, mypy --strict, and the rules of who may import whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(READY) ## measure throughput and latency on this machine
	@$(BIN)/jml bench resolve
	@$(BIN)/jml bench resolve --apps 5
	@$(BIN)/jml bench converge
	@$(BIN)/jml bench pipeline
	@$(BIN)/jml bench leaver
	@$(BIN)/jml bench memory

services-up: $(READY) ## start a real Kafka and PostgreSQL, print what to export for `make test`
	@$(BIN)/python -m tests.services up --folder $(SERVICES)

services-down: $(READY) ## stop them
	@$(BIN)/python -m tests.services down --folder $(SERVICES)

schemas: $(READY) ## write the JSON schemas of all messages
	@$(BIN)/jml schema export

build: $(READY) ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove what was built and cached; the environment and the services' data stay
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache tests/services/target
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
