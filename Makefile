# Every target makes what it needs: the virtual environment is built when it is missing and
# brought up to date when a requirement has changed. `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
# An index or options of your own for pip, for example one that serves CPU builds of torch:
#   make run PIP_ARGS="--extra-index-url https://…"
PIP_ARGS ?=
# Arguments of the embedding service, for example: make run ARGS="--port 9000 --limit 2GiB"
ARGS ?=
# One benchmark or all of them: make bench ONLY=overhead
ONLY ?=
# Arguments of pytest, for example: make test-only PYTEST="-k semaphore"
PYTEST ?=

BIN   := $(VENV)/bin
NEEDS := constraints.txt pyproject.toml services/pyproject.toml
CODE  := asyncmem services/asyncmem_services tests examples
say    = @printf '\033[1m==> %s\033[0m\n' $(1)

.DEFAULT_GOAL := help
.PHONY: help run test test-only lint format bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: $(VENV)/.run  ## start the guarded embedding service on http://127.0.0.1:8080
	$(BIN)/python -m asyncmem_services.embedding $(ARGS)

test: lint  ## everything that must hold: lint, types, floors, tests with coverage, wheels
	$(call say,'tests')
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST)

test-only: $(VENV)/.dev  ## the test suite alone, without lint and coverage
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.dev  ## ruff, mypy and the floors of the architecture
	$(call say,'ruff')
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(call say,'mypy')
	$(BIN)/mypy
	$(call say,'import-linter')
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.dev  ## the benchmarks, or one of them with ONLY=name
	$(BIN)/python -m tests.benchmarks $(ONLY)

clean:  ## remove everything that was built, the virtual environment too
	rm -rf $(VENV) .bench .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(call say,'new virtual environment in $(VENV)')
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "asyncmem needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another with make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade $(PIP_ARGS) -c constraints.txt pip

$(VENV)/.run: $(VENV)/bin/python $(NEEDS)
	$(call say,'installing asyncmem and the embedding service: torch and the model are some 400 MB')
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[aiohttp,cli]' -e ./services
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(call say,'installing what the tests need')
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt --group dev
	@touch $@
