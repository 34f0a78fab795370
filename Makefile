# Dimmy to Google Cloud. `make help` lists what there is to type.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The first Python that is new enough; `make demo PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
INSTALLED := $(VENV)/.installed
WORKERS ?= 4
SEED ?= 1
EVENTS ?= 2000

TERRAFORM := $(shell command -v terraform)
CHECKOV := $(VENV)/checkov/.installed

# ENV and PROJECT say which installation is meant; the commands ask for what is missing.
export ENV PROJECT SINCE UNTIL YES LAST LIMIT EVENT ITEM SEVERITY
ON_SANDBOX := PYTHONPATH=function:infra:tests $(VENV)/bin/python -m
ON_CLOUD := PYTHONPATH=function:infra $(VENV)/bin/python -m

.PHONY: help demo run view chaos bench bootstrap secrets plan deploy status logs trace doctor backfill redrive destroy \
	package test lint format mutants provider-schema lock clean

help: ## Say what each command does
	@echo "Dimmy's webhooks into Google Cloud."
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ On this machine (PUBSUB=google: on Google's Pub/Sub emulator in place of our own)

demo: $(INSTALLED) ## Send signed events through the whole pipeline and show the result
	@$(ON_SANDBOX) sandbox.demo

run: $(INSTALLED) ## Keep the pipeline up for `svix listen` and a real phone; settings come from .env
	@$(ON_SANDBOX) sandbox.run

view: $(INSTALLED) ## Show what `make run` has stored in a browser, as it comes in; with ENV what lies in a bucket
	@$(ON_SANDBOX) sandbox.view

chaos: $(INSTALLED) ## Break everything while thousands of events come in, and look what is lost (SEED=1 EVENTS=2000)
	@$(ON_SANDBOX) sandbox.chaos --seed $(SEED) --events $(EVENTS)

bench: $(INSTALLED) ## Measure speed beside the alternatives, in 10 minutes (QUICK=1: in two; SECTION=receive)
	@$(ON_SANDBOX) bench $(if $(QUICK),--quick) $(if $(SECTION),--only $(SECTION))

##@ In Google Cloud: all take ENV=dev|staging|prod PROJECT=project-id; YES=1 answers their questions

bootstrap: $(INSTALLED) ## Make what the first deployment needs: Terraform's state, APIs, empty secrets
	@$(ON_CLOUD) operate.bootstrap

secrets: $(INSTALLED) ## Ask for the signing secret and the API key (or read lines from standard input), and store them
	@$(ON_CLOUD) operate.secrets

plan: $(INSTALLED) ## Show what a deployment would change
	@$(ON_CLOUD) operate.deploy --plan

deploy: $(INSTALLED) ## Package, show the plan, ask, apply it, and print the webhook URL
	@$(ON_CLOUD) operate.deploy

status: $(INSTALLED) ## Say what is deployed, what came, what waits, and what needs a person; without ENV of `make run`
	@$(if $(ENV),$(ON_CLOUD) operate.status,$(ON_SANDBOX) sandbox.status)

logs: $(INSTALLED) ## Print what the functions logged (LAST=1h LIMIT=200 SEVERITY=WARNING EVENT=msg_...)
	@$(ON_CLOUD) operate.logs

trace: $(INSTALLED) ## Tell the story of an event or an item: EVENT=msg_... or ITEM=...; without ENV of `make run`
	@$(if $(ENV),$(ON_CLOUD) operate.trace,$(ON_SANDBOX) sandbox.trace)

doctor: $(INSTALLED) ## Look for what is wrong with an installation; without ENV with .env and `make run`
	@$(if $(ENV),$(ON_CLOUD) operate.doctor,$(ON_SANDBOX) sandbox.doctor)

backfill: $(INSTALLED) ## Store what Dimmy has since a date: SINCE=2026-11-01 [UNTIL=2026-11-08]; without ENV for `make run`
	@$(if $(ENV),$(ON_CLOUD) operate.backfill,$(ON_SANDBOX) sandbox.backfill)

redrive: $(INSTALLED) ## Send the dead letters through resolve once more; without ENV those of a running `make run`
	@$(if $(ENV),$(ON_CLOUD) operate.redrive,$(ON_SANDBOX) sandbox.redrive)

destroy: $(INSTALLED) ## Take an installation down, with every scan that it stores
	@$(ON_CLOUD) operate.destroy

##@ For whoever changes this software

package: $(INSTALLED) ## Build the archive that is deployed, in .build
	@$(ON_CLOUD) operate.package

test: lint $(if $(TERRAFORM),$(CHECKOV)) ## Check style, types, behaviour and infra/ (WORKERS=4 tests at a time), with coverage
	@$(if $(TERRAFORM),,echo "Terraform is not installed, so infra/ is not checked: https://developer.hashicorp.com/terraform/install")
	@command -v chromium chromedriver > /dev/null || echo "Chromium is not installed, so no page is tested in it: apt install chromium chromium-driver"
	@rm -f .coverage .coverage.*
	$(VENV)/bin/coverage run -m pytest -n $(WORKERS) --dist loadgroup -q
	@$(VENV)/bin/coverage combine -q
	@$(VENV)/bin/coverage report

lint: $(INSTALLED) ## Check style (ruff) and types (mypy --strict)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy function infra tests
	$(if $(TERRAFORM),terraform fmt -check -recursive infra)

format: $(INSTALLED) ## Bring the code into the common form
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(if $(TERRAFORM),terraform fmt -recursive infra)

clean: ## Delete what the other commands made: the environment, caches and stored data
	rm -rf $(VENV) .build .data .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find function infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

mutants: $(INSTALLED) ## Break infra/ in many ways, and count how many of them the checks notice
	@PYTHONPATH=function:infra:tests $(VENV)/bin/python -m terraform.mutants

provider-schema: $(INSTALLED) ## Renew what the tests know of Terraform's provider, after infra/ uses something new of it
	@$(ON_SANDBOX) terraform.renew_schema

lock: $(INSTALLED) ## Pin every dependency anew, after a change of .requirements.in or tests/requirements.in
	$(VENV)/bin/uv pip compile $(LOCK) .requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) -c requirements.txt requirements.txt tests/requirements.in -o tests/requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) tests/checkov.in -o tests/checkov.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

$(INSTALLED): requirements.txt tests/requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; name it: make demo PYTHON=/path/to/python"; exit 1; }
	@echo "Installing into $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@

$(CHECKOV): tests/checkov.txt $(INSTALLED)
	@echo "Installing checkov, which scans infra/ ..."
	@$(VENV)/bin/python -m venv --clear $(VENV)/checkov
	@$(VENV)/checkov/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@
