SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# PYTHON=... chooses the Python that .venv is made from (3.11 or 3.12); by default the first
# of python3.11, python3.12 and python3 that is one of the two.
export PYTHON

VENV := .venv
STAMP := $(VENV)/.complete
PINS := requirements.txt requirements-fairseq.txt constraints-cuda.txt

.PHONY: help venv demo demo-full test lint format clean

help: ## list the targets
	@awk -F ":.*## " '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## build .venv, or bring it up to the pins
	@echo "$(VENV) is ready"

$(STAMP): $(PINS) setup.py pyproject.toml
	@.ci/build-venv

demo: $(STAMP) ## run the three stages on generated speech
	$(VENV)/bin/python -m examples.demo.run $(ARGS)

demo-full: $(STAMP) ## larger, with three seeds (two hours on two cores)
	$(VENV)/bin/python -m examples.demo.run --out runs/demo-full --compare full --seeds 1 2 3 \
	    --midtraining-updates 4500 --finetuning-updates 3200 --guided-updates 1200 $(ARGS)

test: $(STAMP) ## run the tests; ARGS="-k name" goes to pytest, MMPT_REAL_DATA to the tests
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	    $(ARGS)

lint: $(STAMP) ## check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(STAMP) ## fix style and formatting where that can be done automatically
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove .venv, build products and caches (runs/ and data/ stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./.git/*" -prune -exec rm -rf {} +
