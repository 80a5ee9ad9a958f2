# Needs only make and Python >= 3.11; everything else is installed into .venv, pinned by hash in requirements/.
#   make demo [ARGS="--headless --duration 40 --out DIR"]    make test    make check    make bench    make clean
# Another Python: make PYTHON=/path/to/python3.12 demo

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --require-virtualenv
PYTHON ?=
ARGS ?=

.PHONY: demo test check check-format check-lint check-types check-docstrings bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-hub
	$(BIN)/agls demo $(ARGS)

test: $(VENV)/installed-all
	$(BIN)/python -m pytest $(ARGS)

check: check-format check-lint check-types check-docstrings

check-format: $(VENV)/installed-all
	$(BIN)/ruff format --check .

check-lint: $(VENV)/installed-all
	$(BIN)/ruff check .

check-types: $(VENV)/installed-all
	$(BIN)/mypy

check-docstrings: $(VENV)/installed-all
	find agls calibration firmware_sim bench -name '*.py' | sort | xargs $(BIN)/python -m numpydoc lint

bench: $(VENV)/installed-all
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough and can make environments.
$(VENV)/made:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$python"; \
	    "$$python" -m venv --clear $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "AGLS needs Python 3.11 or newer with venv, and found none; install it or name it: make PYTHON=..." >&2; exit 1

# One stamp for each extra: made again when what it depends on changes.
$(VENV)/installed-%: $(VENV)/made requirements/%.txt requirements/build.txt pyproject.toml
	@echo "installing requirements/$*.txt into $(VENV) (a minute or more)"
	@$(PIP) install --require-hashes -r requirements/build.txt
	@$(PIP) install --require-hashes -r requirements/$*.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
