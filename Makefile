# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-all lint bench coverage fuzz clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP) ## make .venv with all that development needs

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0] + "; name one: make PYTHON=python3.12 install" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP) ## analyse the bundled network; prints the path of the report
	$(BIN)/filterscope demo

test: $(STAMP) ## the tests, but for the slow ones
	$(BIN)/python -m pytest --numprocesses auto -m "not slow"

test-all: $(STAMP) ## all tests, and how much of the code they reach
	$(BIN)/python -m pytest --numprocesses auto --cov --cov-report=term:skip-covered

lint: $(STAMP) ## style, types, the direction of imports and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_house.py

bench: $(STAMP) ## measure speed; writes docs/speed.md, docs/performance.md and others
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/examples.py

coverage: $(STAMP) ## open many networks; writes docs/coverage.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[coverage]'
	$(BIN)/python benchmarks/network_coverage.py

FUZZ_FILES ?= 10000
FUZZ_WATCH ?= $(if $(shell command -v strace),300,0)

fuzz: $(STAMP) ## open thousands of damaged files (FUZZ_FILES=500 for a night); writes docs/security.md
	PYTHONPATH=. $(BIN)/python benchmarks/fuzz.py --files $(FUZZ_FILES) --watch $(FUZZ_WATCH)

clean: ## remove what the commands above made
	rm -rf $(VENV) demo-filterscope .pytest_cache .mypy_cache .ruff_cache
