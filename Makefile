# Everything a newcomer needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: fmt check test demo bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

.venv: $(STAMP)

fmt: $(STAMP)
	$(BIN)/ruff format src tests client_examples bench
	$(BIN)/ruff check --fix src tests client_examples bench

check: $(STAMP)
	$(BIN)/ruff format --check src tests client_examples bench
	$(BIN)/ruff check src tests client_examples bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src tests client_examples bench README.md ARCHITECTURE.md CHANGELOG.md

test: $(STAMP)
	$(BIN)/python -m pytest -q

demo: $(STAMP)
	$(BIN)/python client_examples/06_trading_system.py

bench: $(STAMP)
	$(BIN)/python -m bench.run --quick

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
