# Two commands do everything on a fresh machine: `make bench ALG=mega` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

ALG ?= mega
PRESET ?= quick
TASKS ?= MT10
SEED ?= 0
DEVICE ?= cpu
ENGINE ?= fast
# Several seeds: how many, counted from SEED, or a list such as 0,5,7
SEEDS ?=
# 1 trains the seeds together in one process, in bench and in sweep
BATCHED ?=
# The size of another algorithm, or a number of parameters, instead of widths: MATCH=d2r
MATCH ?=
# Any other field: make bench ALG=mtsac ARGS="--actor-width 1024 --critic-width 400"
ARGS ?=
# A sweep: a name of results/sweeps, or a .toml file
SWEEP ?=
# local, ray or slurm
LAUNCHER ?= local
# 1 prints the plan and stops
DRY_RUN ?=
# What tables, plots and report read: folders of runs, rows.parquet or CSV files. None is
# results/runs, or results/release without runs.
RUNS ?=
# Handed to pip when the environment is built.
PIP_ARGS ?=

.PHONY: help bench scale sweep status tables plots report test check verify-env storm perf clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo 'error: $(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

bench: $(VENV)/.ready  ## Train: ALG, PRESET, TASKS, SEED, SEEDS, BATCHED, DEVICE, ENGINE, MATCH, ARGS
	@$(RUN) -m suite bench --alg '$(ALG)' --preset '$(PRESET)' --tasks '$(TASKS)' --seed '$(SEED)' \
		--device '$(DEVICE)' --engine '$(ENGINE)' $(if $(MATCH),--match '$(MATCH)') \
		$(if $(SEEDS),--seeds '$(SEEDS)') $(if $(filter-out 0,$(BATCHED)),--batched) $(ARGS)

scale: $(VENV)/.ready  ## Widths at given sizes: ARGS="--params 1M,4M,16M --alg all"
	@$(RUN) -m suite scale $(ARGS)

sweep: $(VENV)/.ready  ## Train a grid of runs: SWEEP, LAUNCHER, DRY_RUN, BATCHED, ARGS
	@$(RUN) -m suite sweep $(SWEEP) --launcher '$(LAUNCHER)' $(if $(filter-out 0,$(DRY_RUN)),--dry-run) \
		$(if $(filter-out 0,$(BATCHED)),--batched) $(ARGS)

status: $(VENV)/.ready  ## Where the runs of a sweep stand: SWEEP, ARGS
	@$(RUN) -m suite status $(SWEEP) $(ARGS)

plots: $(VENV)/.ready  ## Draw the figures of RUNS to results/figures
	@$(RUN) -m analysis plots $(RUNS) $(ARGS)

report: $(VENV)/.ready  ## Write the report of RUNS to results/report.html
	@$(RUN) -m analysis report $(RUNS) $(ARGS)

tables: $(VENV)/.ready  ## Tables of the rows as Markdown, CSV and LaTeX: RUNS, ARGS
	@$(RUN) -m analysis tables $(RUNS) $(ARGS)

test: $(VENV)/.ready  ## Run the tests
	$(RUN) -m pytest --benchmark-disable --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.ready  ## Lint, types and tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(MAKE) test

verify-env: $(VENV)/.ready  ## Compare the fast engine with Meta-World, all tasks, bit for bit
	$(RUN) -m suite.envs.verify_env

storm: $(VENV)/.ready  ## Kill runs over and over, compare their bytes: ARGS="--seconds 600 --seed 0"
	@PYTHONPATH=. $(RUN) tests/suite/storm.py $(ARGS)

perf: $(VENV)/.ready  ## Run the benchmarks
	$(RUN) -m pytest tests/perf --benchmark-only -s

clean:  ## Remove the environment; results stay
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
