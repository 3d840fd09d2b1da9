# Everything here needs Python 3.11+ with venv and pip, and make; the rest is installed into .venv.
#   make demo            draw figure 1 of the paper and print its numbers
#   make test            the whole test suite
#   make lint            style and types
#   make format          repair what can be repaired of the style
#   make docs            the documentation, into docs/_build/html
#   make bench           speed, as ratios measured in the same run
#   make validate        the claims of the paper and the package beside simulations, in minutes
#   make lock            renew requirements/ci.txt
#   make clean           remove .venv and everything that was built
# PYTHON=python3.13 chooses the interpreter, CI=true the exact versions of requirements/ci.txt,
# VERSIONS=oldest those of requirements/oldest.txt (with a VENV of its own), PYTEST_ARGS="-k ridge"
# the tests, VALIDATE_ARGS="--full --output DIR" the validation.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
VALIDATE_ARGS ?= --quick
VERSIONS ?= $(if $(filter true 1,$(CI)),ci,newest)

BIN := $(VENV)/bin
CONSTRAINTS := $(if $(filter-out newest,$(VERSIONS)),requirements/$(VERSIONS).txt)
PIP_INSTALL := $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench validate lock clean

help:
	@sed -n 's/^#   //p' Makefile

# One stamp for each set of packages: nothing is installed twice while pyproject.toml stays as it is.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing into $(VENV) ..."
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing into $(VENV) (for $*) ..."
	$(PIP_INSTALL) --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/replica figure 1 -o figure1.png

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

validate: $(VENV)/.installed
	$(BIN)/python -m validation $(VALIDATE_ARGS)

# The newest versions that pass; run the tests before committing the result.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[test,lint]'
	@{ echo "# Exact versions for CI, made by: make lock"; \
	  build/lock/bin/python -m pip freeze --exclude replica-solver; } > requirements/ci.txt
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist docs/_build docs/gallery docs/modules.svg .pytest_cache .ruff_cache .hypothesis figure1.png figure1.pdf
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
