# The words for everything. `make run` and `make test` need Python >= 3.11 and nothing else.
# Another Python than python3:  make PYTHON=python3.12 run

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# What the tests start that comes in no wheel, by Debian's names. As root they are
# installed; where they are missing, tests/conftest.py skips and names them.
TEST_PACKAGES := nginx openssl pgbouncer systemd util-linux procps python3-venv chromium \
  fonts-noto-color-emoji libfaketime

# What the bench compares the router with, beside Python: Node, which some machines have from
# elsewhere, and Go with its driver.
BENCH_PACKAGES := $(if $(shell command -v npm),,nodejs npm) \
  golang-go golang-github-jackc-pgx-v4-dev

SOAK_S := 1200  # seconds of `make soak`

.PHONY: run smoke test test-faults soak check lint format bench coverage mutants screenshot \
  lock clean packages bench-packages peers
.DEFAULT_GOAL := run

run: $(VENV)/.run                     ## the router, on its own PostgreSQL
	$(BIN)/psi-router dev

smoke: $(VENV)/.run                   ## the same, one message through it, and out
	$(BIN)/psi-router dev --smoke

test: $(VENV)/.test packages          ## every test but the long ones
	$(BIN)/python -m pytest -m "not slow"

test-faults: $(VENV)/.test packages peers ## the long ones
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/.test                   ## 20 minutes under load; `make soak SOAK_S=90` for less
	$(BIN)/python -m tests.faults.soak --seconds $(SOAK_S)

check: lint                           ## the quick loop: what needs no server
	$(BIN)/python -m pytest -m "not server and not slow"

lint: $(VENV)/.test                   ## format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test                 ## what lint would complain about, mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

coverage: $(VENV)/.test packages
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term-missing

# Some 10 minutes; what is found out is remembered in mutants/. A part of it:
#   make mutants MUTANTS='router.conversation.words.*'
mutants: $(VENV)/.test                ## whether the tests of the conversation notice mistakes
	nice $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results
	$(BIN)/mutmut export-cicd-stats
	$(BIN)/python -m tests.mutation_score

bench: $(VENV)/.test peers            ## the measurements, into bench/RESULTS.md
	$(BIN)/python -m bench.results

screenshot: $(VENV)/.test packages    ## docs/chat.png anew
	$(BIN)/python -m tests.chat_page docs/chat.png

# --- The environment. A stamp holds for as long as the files it was made from.

$(VENV)/.run: requirements/embedded.txt setup.cfg pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --require-hashes -r $<
	$(PIP) install --quiet --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.test: requirements/dev.txt setup.cfg pyproject.toml | $(BIN)/pip
	$(PIP) install --quiet --require-hashes -r $<
	$(PIP) install --quiet --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/.run

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "psi-router needs Python >= 3.11, and there is no $(PYTHON)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "psi-router needs Python >= 3.11, and $(PYTHON) is " + sys.version.split()[0] + \
	  ". With another one:  make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

# A server that comes with a package is for the tests to start, not for Debian.
POLICY := /usr/sbin/policy-rc.d

packages: WANTED := $(TEST_PACKAGES)
bench-packages: WANTED := $(BENCH_PACKAGES)
packages bench-packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=; for p in $(WANTED); do \
	    dpkg-query -W -f '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q '^ii' || missing="$$missing $$p"; done; \
	  [ -z "$$missing" ] || { export DEBIAN_FRONTEND=noninteractive; \
	    [ -e $(POLICY) ] || { printf '#!/bin/sh\nexit 101\n' >$(POLICY); \
	      chmod +x $(POLICY); trap 'rm -f $(POLICY)' EXIT; }; \
	    apt-get -qq update && apt-get -qq install --no-install-recommends $$missing >/dev/null; } \
	  || echo "not installed:$$missing; what needs them is left out" >&2; fi

# --- Whom the bench compares the router with. What cannot be made is left out, by name.

PEERS := bench/baselines

peers: bench-packages                 ## the baselines that are not Python
	@$(MAKE) --silent --keep-going $(PEERS)/node/node_modules/.made $(PEERS)/go/receiver || \
	  echo "not made: see above; what needs them is left out" >&2

$(PEERS)/node/node_modules/.made: $(PEERS)/node/package-lock.json
	npm --prefix $(PEERS)/node ci --silent --ignore-scripts
	@touch $@

$(PEERS)/go/receiver: $(PEERS)/go/main.go
	cd $(@D) && GO111MODULE=off GOPATH=/usr/share/gocode go build -o $(@F) .

# --- The lock. dev.txt first: it holds all, and the others follow its choices. Extras stay in
# the names: a pip before 23.3 takes "coverage[toml]" that a package asks for as another package
# than the locked "coverage", and refuses it as soon as there is a newer release.

LOCK = $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX=$(PIP_INDEX_URL)) \
  $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 \
  --generate-hashes --no-strip-extras --custom-compile-command 'make lock' setup.cfg

lock: $(VENV)/.test                   ## requirements/ anew, with the newest releases
	$(LOCK) --upgrade --all-extras -o requirements/dev.txt
	$(LOCK) --extra embedded --extra redis --extra s3 --extra build -c requirements/dev.txt -o requirements/embedded.txt
	$(LOCK) -c requirements/dev.txt -o requirements/runtime.txt

clean:                                ## all that make and the tools have made; no data
	rm -rf $(VENV) build dist *.egg-info .coverage* htmlcov .hypothesis mutants
	rm -rf $(PEERS)/node/node_modules $(PEERS)/go/receiver
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
