# Everything a newcomer needs: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := src tests client_examples bench readme
TEXTS := README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md docs

RAY := build/ray

.PHONY: ray .venv help fmt check test tables examples fault security clients view pictures conformance demo bench soak clean

help:
	@echo "make .venv     install into .venv, which the others do too where it is missing"
	@echo "make demo      install into .venv, then run the complete example over stdio"
	@echo "make test      install into .venv, then run every test"
	@echo "make check     formatting, ruff, mypy, import rules, spelling, README in sync"
	@echo "make fmt       format and fix what can be fixed"
	@echo "make bench     quick measurements into build/bench (about three minutes)"
	@echo "make soak      kill processes at random under load for ten minutes, and check everything"
	@echo "make clients | conformance     other MCP clients and the official suite; downloads them, needs npm"
	@echo "make tables     the cells of long tables (attacks, rules, seeds) that the suite leaves out (five minutes)"
	@echo "make view | pictures     the live view and an exported page in Chromium; the documents' pictures; needs npm"
	@echo "make ray        several machines: installs the extra into build/ray and runs its tests (five minutes; wants root)"
	@echo "make examples | fault | security     one part of the tests"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@echo "Installing the server, torch and the tools for its tests into $(VENV): up to 2 GB, some minutes ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

.venv: $(STAMP)
	@echo "$(VENV) is ready: $(BIN)/flow-nexus-neural is the server, '$(BIN)/flow-nexus-neural doctor' tries it"

fmt: $(STAMP)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

check: $(STAMP)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(filter-out tests,$(CODE)) $(TEXTS)  # tests misspell on purpose
	$(BIN)/python -m readme.tool_table --check
	$(BIN)/python -m bench.report --check

# Three parts at one time, of about as much processor time each: most tests wait for processes of their own, and one
# after the other they leave a core idle. The first is in front, so that where it hangs is seen while it hangs. Tests
# that count what a process has open, or attack from it, come first in theirs.
PART_ONE ?= tests/integration
PART_TWO ?= tests/fault tests/conformance tests/unit tests/property
PART_THREE ?= tests/security tests/sim

test: $(STAMP)
	@mkdir -p build
	@$(BIN)/python -m pytest -q $(PART_TWO) > build/test-part-two.txt 2>&1 & two=$$!; \
	$(BIN)/python -m pytest -q $(PART_THREE) > build/test-part-three.txt 2>&1 & three=$$!; \
	$(BIN)/python -m pytest -q $(PART_ONE); one=$$?; \
	wait $$two; two=$$?; wait $$three; three=$$?; cat build/test-part-two.txt build/test-part-three.txt; \
	test $$one -eq 0 && test $$two -eq 0 && test $$three -eq 0

tables: $(STAMP)
	$(BIN)/python -m pytest -q -m rest_of_table

examples: $(STAMP)
	$(BIN)/python -m pytest -q tests/integration/test_examples.py

fault: $(STAMP)
	$(BIN)/python -m pytest -q tests/fault

security: $(STAMP)
	$(BIN)/python -m pytest -q tests/security

build/clients/.installed: tests/integration/clients/install.sh
	PYTHON=$(PYTHON) tests/integration/clients/install.sh build/clients
	touch $@

clients: $(STAMP) build/clients/.installed
	CLIENTS_DIR=build/clients $(BIN)/python -m pytest -q tests/integration/clients

conformance: $(STAMP) build/clients/.installed
	PATH="$(CURDIR)/build/clients/node_modules/.bin:$$PATH" $(BIN)/python -m pytest -q tests/integration/mcp_suite

build/view/.installed: tests/integration/view/install.sh
	tests/integration/view/install.sh build/view
	touch $@

view: $(STAMP) build/view/.installed
	VIEW_DIR=$(CURDIR)/build/view $(BIN)/python -m pytest -q tests/integration/view

pictures: $(STAMP) build/view/.installed
	$(BIN)/python -m readme.pictures
	@mkdir -p build/view/pictures docs/pictures
	VIEW_NAME=price-desk node tests/integration/view/view.mjs build/view $(abspath $(BIN))/python build/view/pictures > /dev/null
	$(BIN)/python -c 'from PIL import Image; Image.open("build/view/pictures/readme-light.png").convert("RGB").quantize(192, dither=0).save("docs/pictures/view.png", optimize=True)'

$(RAY)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip install -q --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(RAY)/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,ray]"
	touch $@

ray: $(RAY)/.installed
	tests/machines/run.sh $(CURDIR)/$(RAY)/bin/python

demo: $(STAMP)
	$(BIN)/python client_examples/06_trading_system.py

bench: $(STAMP)
	$(BIN)/python -m bench.run --quick

soak: $(STAMP)
	$(BIN)/python -m bench.soak --minutes 10

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
