# make serve   install what is needed into .venv and run the server in the foreground
# make test    install what is needed into .venv and run every test
# make lint    ruff and mypy
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Options of `tagcache server`, for instance: make serve ARGS="--config my.conf"
ARGS ?=
# Arguments of pytest, for instance: make test TESTS="tests/unit -k wire"
TESTS ?=

.PHONY: serve test lint format clean

serve: $(STAMP)
	@echo "== tagcache server (Ctrl-C stops it)"
	@exec $(BIN)/tagcache server $(ARGS)

test: $(STAMP)
	@echo "== running the tests"
	$(BIN)/python -m pytest $(TESTS)

lint: $(STAMP)
	@echo "== ruff, mypy"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tagcache needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "== installing tagcache and what it needs into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
