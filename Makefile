# Dimmy to Google Cloud. `make help` lists what there is to type.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The first Python that is new enough; `make demo PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
INSTALLED := $(VENV)/.installed
IN_TESTS := PYTHONPATH=tests $(VENV)/bin/python -m
WORKERS ?= 4
SEED ?= 1
EVENTS ?= 2000

.PHONY: help demo run backfill redrive chaos test lint format clean lock

help: ## Say what each command does
	@echo "Dimmy's webhooks into Google Cloud. Commands:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "PUBSUB=google runs demo and run on Google's Pub/Sub emulator in place of our own."

demo: $(INSTALLED) ## Send signed events through the whole pipeline on this machine and show the result
	@$(IN_TESTS) sandbox.demo

run: $(INSTALLED) ## Keep the pipeline up for `svix listen` and a real phone; settings come from .env
	@$(IN_TESTS) sandbox.run

backfill: $(INSTALLED) ## Store what Dimmy has since a date: make backfill SINCE=2026-11-01 [UNTIL=2026-11-08]
	@SINCE="$(SINCE)" UNTIL="$(UNTIL)" $(IN_TESTS) sandbox.backfill

redrive: $(INSTALLED) ## Send the dead letters of a running `make run` through resolve once more
	@$(IN_TESTS) sandbox.redrive

chaos: $(INSTALLED) ## Break everything while thousands of events come in, and look what is lost (SEED=1 EVENTS=2000)
	@$(IN_TESTS) sandbox.chaos --seed $(SEED) --events $(EVENTS)

test: lint ## Check types, style and behaviour (WORKERS=4 tests at a time), with the coverage of function/
	@rm -f .coverage .coverage.*
	$(VENV)/bin/coverage run -m pytest -n $(WORKERS) --dist loadgroup -q
	@$(VENV)/bin/coverage combine -q
	@$(VENV)/bin/coverage report

lint: $(INSTALLED) ## Check style (ruff) and types (mypy --strict)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy function tests

format: $(INSTALLED) ## Bring the code into the common form
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Delete what the other commands made: the environment, caches and stored data
	rm -rf $(VENV) .data .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find function tests -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(INSTALLED) ## Pin every dependency anew, after a change of .requirements.in or tests/requirements.in
	$(VENV)/bin/uv pip compile $(LOCK) .requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) -c requirements.txt requirements.txt tests/requirements.in -o tests/requirements.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

$(INSTALLED): requirements.txt tests/requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; name it: make demo PYTHON=/path/to/python"; exit 1; }
	@echo "Installing into $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@
