# Dimmy to Google Cloud. `make help` lists the commands.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The first Python that is new enough; `make demo PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
# Two sets of packages: those that operating an installation needs, and all of them.
OPERATOR := $(VENV)/.operator
DEVELOPER := $(VENV)/.developer
WORKERS ?= 4
SEED ?= 1
EVENTS ?= 2000

TERRAFORM := $(shell command -v terraform)
CHECKOV := $(VENV)/checkov/.installed

# Variables of make's command line, passed to the commands in their environment.
export ENV PROJECT SINCE UNTIL YES LAST LIMIT EVENT ITEM SEVERITY OUTCOME REPAIR PHOTOS
# Such names may mean something else in a person's environment.
$(foreach name,FILE ITEMS FULL URL SECRET DEAD_LETTER,$(eval \
	$(if $(filter command,$(origin $(name))),export,unexport) $(name)))
# QUERY reaches the command as it was typed: make would expand the $ of a JSON path.
override QUERY := $(value QUERY)
export QUERY
ON_CLOUD := PYTHONPATH=function:infra $(VENV)/bin/python -m operate
ON_SANDBOX := PYTHONPATH=function:infra:tests $(VENV)/bin/python -m sandbox
TESTS := PYTHONPATH=function:infra:tests $(VENV)/bin/python -m
# Without ENV, the commands operate the sandbox of `make run`, unless PROJECT is typed: ENV is then missing.
IS_CLOUD := $(ENV)$(filter command,$(origin PROJECT))
INSTALLATION := $(if $(IS_CLOUD),$(ON_CLOUD),$(ON_SANDBOX))
INSTALLED := $(if $(IS_CLOUD),$(OPERATOR),$(DEVELOPER))

.PHONY: help demo run sql view chaos bench bootstrap secrets rotate retire plan deploy unlock destroy \
	status logs trace doctor backfill verify redrive send replay republish discard \
	package test lint format screenshots mutants provider-schema lock clean

help: ## Show what each command does
	@echo "Receives Dimmy's webhooks in Google Cloud."
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ On this machine (PUBSUB=google: with Google's Pub/Sub emulator instead of our own)

demo: $(DEVELOPER) ## Send signed events through the whole pipeline and show the result
	@$(TESTS) sandbox.demo

run: $(DEVELOPER) ## Run the pipeline for `svix listen` and a real phone, with the settings in .env
	@$(TESTS) sandbox.run

sql: $(DEVELOPER) ## Query the tables and views that `make run` fills, in BigQuery's SQL (QUERY="SELECT ...")
	@$(TESTS) sandbox.sql

chaos: $(DEVELOPER) ## Make every component fail while events arrive, and check that nothing is lost (SEED=1 EVENTS=2000)
	@$(TESTS) sandbox.chaos --seed $(SEED) --events $(EVENTS)

bench: $(DEVELOPER) ## Compare the speed with alternatives, in 12 minutes (QUICK=1: 2 minutes; SECTION=receive: one part)
	@$(TESTS) bench $(if $(QUICK),--quick) $(if $(SECTION),--only $(SECTION))

##@ Operate an installation: that of `make run` or, with ENV and PROJECT, one in Google Cloud

status: $(INSTALLED) ## Show the deployed versions, the events received and waiting, and what needs a person
	@$(INSTALLATION) status

trace: $(INSTALLED) ## Show the history of an event or an item, and what to do next (EVENT=msg_... or ITEM=...)
	@$(INSTALLATION) trace

doctor: $(INSTALLED) ## Check for faults, before and after a deployment
	@$(INSTALLATION) doctor

logs: $(INSTALLED) ## Print the logs of the functions (LAST=1h LIMIT=200 SEVERITY=WARNING EVENT=msg_...)
	@$(INSTALLATION) logs

view: $(INSTALLED) ## Show the stored items in a browser, as they arrive
	@$(INSTALLATION) view

backfill: $(INSTALLED) ## Store the items that Dimmy has since a date (SINCE=2026-11-01 [UNTIL=...]; PHOTOS=1: photos)
	@$(INSTALLATION) backfill

verify: $(INSTALLED) ## Compare what Dimmy lists with what is stored, day by day (SINCE=2026-11-01 [UNTIL=...] [REPAIR=1])
	@$(INSTALLATION) verify

redrive: $(INSTALLED) ## Push the dead letters to resolve again
	@$(INSTALLATION) redrive

send: $(INSTALLED) ## Send an event, signed as Svix signs (FILE=event.json, ITEMS=id,id or FULL=item.json; DEAD_LETTER=1)
	@$(INSTALLATION) send

replay: $(INSTALLED) ## Resolve stored events again (OUTCOME=unrecognised [SINCE=...] or EVENT=msg_...)
	@$(INSTALLATION) replay

republish: $(INSTALLED) ## Publish the stored items to the items topic once more, for a new subscriber ([SINCE=2026-11-01])
	@$(INSTALLATION) republish

discard: $(INSTALLED) ## Give up the items of an event that Dimmy no longer has (EVENT=msg_... [ITEM=...])
	@$(INSTALLATION) discard

##@ Deploy to Google Cloud: all take ENV=dev|staging|prod PROJECT=project-id; YES=1 answers their questions

bootstrap: $(OPERATOR) ## Create what the first deployment needs: Terraform's state, APIs, accounts, empty secrets
	@$(ON_CLOUD) bootstrap

secrets: $(OPERATOR) ## Store the signing secret and the API key, from prompts or from lines of standard input
	@$(ON_CLOUD) secrets

rotate: $(OPERATOR) ## Let the running functions read the newest secrets, without a build
	@$(ON_CLOUD) rotate

retire: $(OPERATOR) ## Disable the versions of the secrets that no function reads any more
	@$(ON_CLOUD) retire

plan: $(OPERATOR) ## Show what a deployment would change
	@$(ON_CLOUD) plan

deploy: $(OPERATOR) ## Build the package, show the plan, ask, apply it, and print the webhook URL
	@$(ON_CLOUD) deploy

unlock: $(OPERATOR) ## Remove the lock that a killed deployment has left on Terraform's state
	@$(ON_CLOUD) unlock

destroy: $(OPERATOR) ## Delete an installation and every scan that it stores
	@$(ON_CLOUD) destroy

##@ Change this software

package: $(OPERATOR) ## Build the archive that is deployed, in .build
	@$(ON_CLOUD) package

test: lint $(if $(TERRAFORM),$(CHECKOV)) ## Check style, types, behaviour and infra/, with coverage (WORKERS=4: 4 tests at a time)
	@rm -f .coverage .coverage.*
	$(VENV)/bin/coverage run -m pytest -n $(WORKERS) --dist loadgroup -q
	@$(VENV)/bin/coverage combine -q
	@$(VENV)/bin/coverage report

lint: $(DEVELOPER) ## Check style (ruff) and types (mypy --strict)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy function infra tests
	$(if $(TERRAFORM),terraform fmt -check -recursive infra)

format: $(DEVELOPER) ## Format the code, and fix its style where ruff can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(if $(TERRAFORM),terraform fmt -recursive infra)

clean: ## Delete the environment, caches, builds and stored data
	rm -rf $(VENV) .build .data .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find function infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

screenshots: $(DEVELOPER) ## Take the pictures of `make view` for these documents again, with Chromium
	@$(TESTS) screenshots

mutants: $(DEVELOPER) ## Break infra/ in almost ninety ways, and count how many the checks notice
	@$(TESTS) terraform.mutants

provider-schema: $(DEVELOPER) ## Update the provider's schema for the tests, when infra/ uses something new of it
	@$(TESTS) terraform.renew_schema

lock: $(DEVELOPER) ## Pin all versions again, after a change of a requirements.in
	$(VENV)/bin/uv pip compile $(LOCK) .requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) -c requirements.txt infra/operate/requirements.in -o infra/operate/requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) -c requirements.txt -c infra/operate/requirements.txt \
		requirements.txt infra/operate/requirements.in tests/requirements.in -o tests/requirements.txt
	$(VENV)/bin/uv pip compile $(LOCK) tests/checkov.in -o tests/checkov.txt
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

$(OPERATOR): infra/operate/requirements.txt
	@$(call install,$<,a few seconds)
	@touch $@

$(DEVELOPER): tests/requirements.txt
	@$(call install,$<,about a minute)
	@touch $@ $(OPERATOR)

# Create the environment and install a file of pinned packages.
define install
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Python 3.11 or newer is needed. To name one: make demo PYTHON=/path/to/python"; exit 1; }; \
echo "Installing into $(VENV) (once, $(2)) ..."; \
"$(PYTHON)" -m venv --clear $(VENV) || { \
	echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }; \
$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
endef

$(CHECKOV): tests/checkov.txt $(DEVELOPER)
	@echo "Installing checkov, which scans infra/ ..."
	@$(VENV)/bin/python -m venv --clear $(VENV)/checkov
	@$(VENV)/checkov/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $<
	@touch $@
