# make serve       run the server in the foreground
# make test        run all tests except the slow ones
# make test-all    run all tests except those of make soak
# make test-redis  run those tests again that depend on the engine, with the entries in a Redis server
# make lint        run ruff, mypy, import-linter, deno for the JavaScript, cppcheck for the C, codespell and proselint
#                  for the prose; check generated modules
# make docs        build the documentation in build/docs; warnings and broken links between its pages are errors
# make linkcheck   check the links of the documentation to other sites, which needs a network
# make unasync     generate the blocking half of the clients from the asynchronous half
# make format      format the sources with ruff and deno
# make soak        run the fault tests and the long tests (25 minutes), and write docs/reliability.md
# make bench       measure the server and other installed servers, and write docs/performance.md
# make changelog   print what the fragments in changelog.d add to CHANGELOG.md
# make dist        build the source archive and its bill of materials into dist/, and check them
# make audit       look up known vulnerabilities of what the server depends on
# make clean       remove .venv, build folders and caches
# Each target first installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
SOAK_STAMP := $(VENV)/.installed-soak
DOCS_STAMP := $(VENV)/.installed-docs
RELEASE_STAMP := $(VENV)/.installed-release
# An environment with nothing but the server and all that it can use.
SHIPPED := build/shipped
# Options of `tagcache server`, for example: make serve ARGS="--config my.conf"
ARGS ?=
# Arguments of pytest, in place of all tests, for example: make test TESTS="tests/unit -k wire". These
# tests run in one process. To use several: make test TESTS="tests/integration -n 4"
TESTS ?=
# All tests together run in several processes.
WORKERS := -n auto
# Arguments of benchmarks.report, for example: make bench BENCH="--quick latency"
BENCH ?=
DENO := DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
CPPCHECK := cppcheck --quiet --error-exitcode=1 --library=python --inline-suppr \
	--enable=warning,performance,portability,style --suppress=missingIncludeSystem --suppress=constParameter
NATIVE := $(wildcard tagcache/native/*.[ch])
# Words in tools/words.txt count as misspelt. tools/proselint.json leaves out the checks that code blocks fail.
SPELL := codespell --dictionary - --dictionary tools/words.txt
PROSE := README.md CONTRIBUTING.md docs
JAVASCRIPT := tagcache/dashboard/*.js tests/outside/other_redis_clients/node/*.mjs

SPHINX := $(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --jobs auto --quiet

.PHONY: serve test test-all test-redis lint docs linkcheck format unasync soak bench changelog dist audit clean

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
	@echo "== generated modules, ruff, mypy, import-linter, deno, prose"
	$(BIN)/python tools/unasync.py --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DENO) fmt --check --line-width=120 $(JAVASCRIPT)
	$(DENO) lint $(JAVASCRIPT)
	$(BIN)/$(SPELL) $(PROSE) Makefile benchmarks conf tagcache tests tools
	$(BIN)/proselint check --config tools/proselint.json $(PROSE)
	@if command -v cppcheck >/dev/null; then set -x; $(CPPCHECK) $(filter %.c,$(NATIVE)); \
	else echo "the C sources were not checked: cppcheck is not installed"; test -z "$$CI"; fi

docs: $(DOCS_STAMP)
	@echo "== building the documentation; its links to other sites are not checked, see make linkcheck"
	$(SPHINX) --builder html docs build/docs
	@echo "== written: build/docs/index.html"

linkcheck: $(DOCS_STAMP)
	$(SPHINX) --builder linkcheck docs build/linkcheck

unasync: $(STAMP)
	$(BIN)/python tools/unasync.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(DENO) fmt --line-width=120 $(JAVASCRIPT)

# TAGCACHE_SOAK_SECONDS, TAGCACHE_SOAK_RACE_SECONDS and TAGCACHE_FUZZ_SECONDS set the duration.
soak: $(SOAK_STAMP)
	@echo "== fault tests, fuzzing and minutes of load; do not use the machine meanwhile"
	$(BIN)/python -m pytest tests/faults tests/soak -m "soak or not soak" --write-reliability $(TESTS)

bench: $(BENCH_STAMP)
	@echo "== measuring; do not use the machine meanwhile"
	$(BIN)/python -m benchmarks.report $(BENCH)

$(STAMP): pyproject.toml setup.py $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tagcache needs Python 3.11 or later; choose one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "== installing tagcache and its dependencies into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	@echo "== installing the dependencies of the documentation into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $(DOCS_STAMP)

$(BENCH_STAMP): $(STAMP)
	@command -v gcc >/dev/null || { echo "the load generator needs gcc; on Debian: apt-get install gcc libc6-dev" >&2; exit 1; }
	@echo "== installing the dependencies of the benchmarks into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $(BENCH_STAMP)

$(SOAK_STAMP): $(STAMP)
	@echo "== installing the fuzzer and the dependencies of the plot into $(VENV)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[soak]'
	@touch $(SOAK_STAMP)

$(RELEASE_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $(RELEASE_STAMP)

changelog: $(STAMP)
	@$(BIN)/towncrier build --draft

# The wheels are built by cibuildwheel, one for each version of Python.
dist: $(RELEASE_STAMP)
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --sdist
	$(BIN)/twine check --strict dist/*.tar.gz
	$(PYTHON) -m venv --clear $(SHIPPED)
	$(SHIPPED)/bin/pip install --quiet --disable-pip-version-check "$$(echo dist/*.tar.gz)[all]"
	$(SHIPPED)/bin/pip uninstall --quiet --yes pip setuptools
	sed "s/^dynamic = .*/version = \"$$($(SHIPPED)/bin/tagcache --version | sed 's/.* //')\"/" pyproject.toml > $(SHIPPED)/pyproject.toml
	$(BIN)/cyclonedx-py environment $(SHIPPED) --pyproject $(SHIPPED)/pyproject.toml --mc-type application \
		--output-reproducible --output-file dist/tagcache-server.cdx.json

audit: $(RELEASE_STAMP)
	$(PYTHON) -m venv --clear $(SHIPPED)
	$(SHIPPED)/bin/pip install --quiet --disable-pip-version-check '.[all]'
	$(SHIPPED)/bin/pip uninstall --quiet --yes tagcache-server pip setuptools
	@$(BIN)/pip-audit --strict $$(printf -- '--path %s' $(SHIPPED)/lib/python*/site-packages) || { echo "no vulnerability \
	is listed above? Then pip-audit did not reach https://pypi.org, which it asks about each package; mirrors cannot answer" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
