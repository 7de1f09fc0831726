# What a developer types. Needs python3.11 (or newer) with venv, and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.bakflow-installed
# Processes of the test run. Tests are spread by file, so those of one file
# never meet each other.
JOBS ?= 2
# More arguments for pytest, for instance TESTS='-k upload'.
TESTS ?=
APT := apt-get install -y git make python3 python3-venv

.PHONY: help venv demo test test-real lint docs samples wheel clean

help:
	@echo 'make venv       build $(VENV) from constraints.txt'
	@echo 'make demo       a simulated cloud, two backups, a restore; under a minute'
	@echo 'make test       every test that needs no server'
	@echo 'make test-real  the scenarios on a real cloud: BAKFLOW_TEST_CLOUD=NAME'
	@echo 'make lint       ruff and mypy'
	@echo 'make docs       the manual, in doc/_build/html'
	@echo 'make samples    write etc/bakflow/*.sample anew'
	@echo 'make wheel      build a wheel in dist/'
	@echo 'make clean      remove what was built, $(VENV) too'

# Nothing is done while the stamp is newer than what it depends on.
venv: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(BIN)/python -c '' 2>/dev/null || { \
	  echo 'making $(VENV) with $(PYTHON)'; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo 'Python 3.11 or newer with venv is needed. On Debian:' >&2; \
	    echo '  $(APT)' >&2; rm -rf $(VENV); exit 1; }; }
	@echo 'installing into $(VENV)'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[test,docs,mysql,postgresql]'
	@touch $@

demo: venv
	@$(BIN)/python -m bakflow.cmd.demo

# tests/cloud needs real services; the rest of what a real cloud would answer
# is asked of the simulated one.
test: venv
	env -u BAKFLOW_TEST_CLOUD $(BIN)/python -m pytest tests \
	  --ignore=tests/cloud -q -n $(JOBS) --dist loadfile $(TESTS)

test-real: venv
	@test -n '$(BAKFLOW_TEST_CLOUD)' || { \
	  echo 'make test-real BAKFLOW_TEST_CLOUD=NAME [BAKFLOW_TEST_TYPES=a,b]' >&2; \
	  echo 'NAME: an entry of clouds.yaml, a plain member of a project' >&2; \
	  exit 2; }
	$(BIN)/python -m pytest -q tests/contract tests/functional/cloud/test_real.py \
	  $(wildcard tests/cloud) -k 'real or (cloud and not contract)' $(TESTS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: venv
	$(BIN)/sphinx-build -W --keep-going -q -b html doc doc/_build/html
	@echo 'doc/_build/html/index.html'

samples: venv
	$(BIN)/oslo-config-generator --config-file etc/bakflow-config-generator.conf
	$(BIN)/oslopolicy-sample-generator --config-file etc/bakflow-policy-generator.conf

wheel: venv
	@rm -rf build
	$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps \
	  --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist doc/_build *.egg-info .pytest_cache .mypy_cache \
	  .ruff_cache .hypothesis
