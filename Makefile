# Two commands for newcomers: `make demo` and `make test`. Both need only Python 3.11+, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python

.PHONY: help demo test lint types elsewhere unit spark crash torture bench docs clean

help: ## show the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(RUN):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.demo: pyproject.toml | $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

# The hooks of watch_model are tested with torch where CI is set: elsewhere it may be a download of gigabytes.
# It comes first and alone, so that a build for CPUs is taken if there is one. Python compiles what it imports:
# pip would compile all of it.
$(VENV)/.test: pyproject.toml | $(RUN)
	$(if $(CI),$(BIN)/pip install --quiet --disable-pip-version-check --no-compile 'torch==2.13.0')
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -e '.[all,test]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

demo: $(VENV)/.demo ## train a sweep, kill a run, resume it, ask SQL (a minute)
	rm -rf demo-experiments
	$(RUN) docs/examples/digits_sweep.py --dir demo-experiments

test: lint unit ## everything that guards main (13 to 18 minutes on two cores)

lint: $(VENV)/.test ## style, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs=2 types elsewhere
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks docs/examples

elsewhere: $(VENV)/.test # with a cache of its own, as the other runs beside it
	$(BIN)/mypy --cache-dir .mypy_cache/elsewhere --platform darwin --no-warn-unreachable
	$(BIN)/mypy --cache-dir .mypy_cache/elsewhere --platform win32 --no-warn-unreachable

unit: $(VENV)/.test ## the tests, and the queries again on the other supported DuckDB
	$(RUN) -m pytest -n auto --dist loadgroup -q
	$(RUN) -m tests.duckdb_majors

spark: $(VENV)/.test ## the questions over a real Spark with two workers (needs Java 17)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[spark]'
	$(RUN) -m pytest -q tests/lake/test_spark.py

crash: $(VENV)/.test ## SIGKILL at 500 random moments
	$(RUN) -m tests.crash.campaign --rounds 500

torture: $(VENV)/.test ## every row of the fault campaign, into docs/explanation/durability.md (hours)
	$(RUN) -m tests.torture

bench: $(VENV)/.bench ## measure, next to the peers, in one run
	$(RUN) -m benchmarks
	$(RUN) -m benchmarks.into_tensorboard
	$(RUN) -m benchmarks.into_mlflow
	$(RUN) -m benchmarks.into_wandb
	$(RUN) -m benchmarks.following
	$(RUN) -m benchmarks.asking

docs: $(VENV)/.test ## write the generated reference pages
	$(RUN) -m tests.docs.generate

clean: ## remove what was installed and made
	rm -rf $(VENV) demo-experiments .mypy_cache .ruff_cache .pytest_cache .hypothesis
