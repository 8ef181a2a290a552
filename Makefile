# make serve   install what is needed into .venv and run the server in the foreground
# make test    install what is needed into .venv and run the tests but for the slow ones
# make test-all   run every test but those of make soak
# make test-redis   run the tests again for which it matters that entries are in Redis; it starts one
# make lint    ruff, mypy, import-linter, deno for the JavaScript, and whether generated modules are current
# make unasync   generate the blocking half of the clients from the asynchronous half
# make format  let ruff and deno format the sources
# make soak    the fault tests and the long ones (about 20 minutes), and write docs/reliability.md
# make bench   measure the server, beside others that are installed, and write docs/performance.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
SOAK_STAMP := $(VENV)/.installed-soak
# Options of `tagcache server`, for instance: make serve ARGS="--config my.conf"
ARGS ?=
# Arguments of pytest instead of all tests, for instance: make test TESTS="tests/unit -k wire". They run
# in one process; to divide them among several: make test TESTS="tests/integration -n 4"
TESTS ?=
# All tests are divided among several processes.
WORKERS := -n auto
# Arguments of benchmarks.report, for instance: make bench BENCH="--quick latency"
BENCH ?=
DENO := DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
JAVASCRIPT := tagcache/dashboard/*.js

.PHONY: serve test test-all test-redis lint format unasync soak bench clean

serve: $(STAMP)
	@echo "== tagcache server (Ctrl-C stops it)"
	@exec $(BIN)/tagcache server $(ARGS)

test: $(STAMP)
	@echo "== running the tests"
	$(BIN)/python -m pytest $(if $(TESTS),$(TESTS),$(WORKERS) -m "not slow and not soak")

test-all: $(STAMP)
	@echo "== running all tests"
	$(BIN)/python -m pytest $(WORKERS)

test-redis: $(STAMP)
	@echo "== running tests with the entries in Redis"
	$(BIN)/python -m tests.against_redis $(TESTS)

lint: $(STAMP)
	@echo "== generated modules, ruff, mypy, import-linter, deno"
	$(BIN)/python tools/unasync.py --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DENO) fmt --check --line-width=120 $(JAVASCRIPT)
	$(DENO) lint $(JAVASCRIPT)

unasync: $(STAMP)
	$(BIN)/python tools/unasync.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(DENO) fmt --line-width=120 $(JAVASCRIPT)

# TAGCACHE_SOAK_SECONDS and TAGCACHE_FUZZ_SECONDS shorten or lengthen it.
soak: $(SOAK_STAMP)
	@echo "== faults, fuzzing and minutes of load; keep the machine idle meanwhile"
	$(BIN)/python -m pytest tests/faults tests/soak -m "soak or not soak" --write-reliability $(TESTS)

bench: $(BENCH_STAMP)
	@echo "== measuring; keep the machine idle meanwhile"
	$(BIN)/python -m benchmarks.report $(BENCH)

$(STAMP): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tagcache needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "== installing tagcache and what it needs into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	@command -v gcc >/dev/null || { echo "the load generator needs gcc; on Debian: apt-get install gcc libc6-dev" >&2; exit 1; }
	@echo "== installing what the plots need into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $(BENCH_STAMP)

$(SOAK_STAMP): $(STAMP)
	@echo "== installing the fuzzer and what the plot needs into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[soak]'
	@touch $(SOAK_STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
