# Two commands do everything on a fresh machine: `make bench ALG=mega` and `make test`.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# Fields of a run. What is not given is left to the suite: mega, quick, MT10, 0, cpu.
#   ALG PRESET TASKS SEED DEVICE ENGINE
#   SEEDS    several seeds: how many, counted from SEED, or a list such as 0,5,7
#   MATCH    the size of another algorithm, or a number of parameters, instead of widths: MATCH=d2r
#   BATCHED  1 trains the seeds together in one process, in bench and in sweep
# A variable that is given is handed on also where it is empty, and then refused.
given = $(filter-out undefined,$(origin $(1)))
option = $(if $(call given,$(1)),--$(2) '$($(1))')
flag = $(if $(call given,$(1)),--$(2)=$(call truth,$(1)))
YES := 1 yes Yes YES true True TRUE
NO := 0 no No NO false False FALSE
truth = $(if $(filter 1,$(words $($(1)))),$(if $(filter $(YES),$($(1))),True,$(if $(filter \
	$(NO),$($(1))),False,$(wrong_flag))),$(wrong_flag))
wrong_flag = $(error $(1): '$($(1))' is neither yes nor no; give 1 or 0)
WHAT = $(call option,ALG,alg) $(call option,PRESET,preset) $(call option,TASKS,tasks)
OPTIONS = $(WHAT) $(call option,SEED,seed) $(call option,SEEDS,seeds) $(call option,MATCH,match) \
	$(call option,DEVICE,device) $(call option,ENGINE,engine) $(call flag,BATCHED,batched)
# Any other field: make bench ALG=mtsac ARGS="--actor-width 1024 --critic-width 400"
ARGS ?=
# A sweep: a name of results/sweeps, or a .toml file
SWEEP ?=
# LAUNCHER: local, ray or slurm; DRY_RUN=1 prints the plan and stops
# JOBS: processes at once, side by side on the cores and on one GPU; none is as many as fit
# What tables, plots and report read: folders of runs, rows.parquet or CSV files. None is
# results/runs, or results/release without runs.
RUNS ?=
# Handed to pip when the environment is built.
PIP_ARGS ?=

TARGETS := help bench scale sweep status check-algorithm tables plots report test check verify-env \
	storm perf perf-gpu clean
.PHONY: $(TARGETS)

# What a command line may give, by target; anything else would be ignored without a word.
A_RUN := ALG PRESET TASKS SEED SEEDS MATCH BATCHED DEVICE ENGINE ARGS
TAKES_bench := $(A_RUN)
TAKES_scale := ALG PRESET TASKS ARGS
TAKES_sweep := SWEEP LAUNCHER JOBS DRY_RUN $(A_RUN)
TAKES_status := SWEEP LAUNCHER JOBS $(A_RUN)
TAKES_check-algorithm := ALG
TAKES_tables := RUNS ARGS
TAKES_plots := RUNS ARGS
TAKES_report := RUNS ARGS
TAKES_storm := ARGS
TAKES_perf-gpu := ARGS
OF_MAKE := PYTHON VENV PIP_ARGS SHELL MAKE MAKEFLAGS

GOALS := $(or $(MAKECMDGOALS),help)
TAKEN := $(sort $(foreach goal,$(GOALS),$(TAKES_$(goal))))
method = $(shell grep -c '^    "$(1)": "algorithms[.]' algorithms/__init__.py)
meant = $(firstword $(if $(filter SWEEP,$(TAKEN)),$(if $(wildcard results/sweeps/$(1).toml),SWEEP=$(1))) \
	$(if $(filter 1,$(method)),ALG=$(1)))
no_target = '$(1)' is no target$(if $(call meant,$(1)),; did you mean $(call meant,$(1))?,;) \
	targets are $(TARGETS)
no_variable = $(1) is no variable of 'make $(GOALS)', which takes $(or $(TAKEN),none)$(if \
	$(filter ARGS,$(TAKEN)),; other options are given as ARGS="--option value"); variables of the \
	environment stand before make: $(1)=$($(1)) make $(GOALS)
# Not where make only prints what it knows, as for completion, or is part of another make, which hands
# its own variables on.
ifeq (,$(findstring p,$(filter-out --%,$(firstword -$(MAKEFLAGS))))$(filter-out 0,$(MAKELEVEL)))
$(foreach goal,$(filter-out $(TARGETS) $(VENV)/.ready,$(GOALS)),$(error $(call no_target,$(goal))))
$(foreach v,$(filter-out $(TAKEN) $(OF_MAKE),$(.VARIABLES)),$(if \
	$(filter command,$(origin $(v))),$(error $(call no_variable,$(v)))))
CHECKED := $(foreach v,$(filter BATCHED DRY_RUN,$(TAKEN)),$(if $(call given,$(v)),$(call truth,$(v))))
endif

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo 'error: $(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

bench: $(VENV)/.ready  ## Train: ALG, PRESET, TASKS, SEED, SEEDS, BATCHED, DEVICE, ENGINE, MATCH, ARGS
	@$(RUN) -m suite bench $(OPTIONS) $(ARGS)

scale: $(VENV)/.ready  ## Widths at given sizes: ALG, PRESET, TASKS, ARGS="--params 1M,4M,16M"
	@$(RUN) -m suite scale $(WHAT) $(ARGS)

sweep: $(VENV)/.ready  ## Train a grid of runs: SWEEP, LAUNCHER, JOBS, DRY_RUN, ARGS, and what bench takes
	@$(RUN) -m suite sweep $(SWEEP) $(call option,LAUNCHER,launcher) $(call option,JOBS,jobs) \
		$(call flag,DRY_RUN,dry-run) $(OPTIONS) $(ARGS)

status: $(VENV)/.ready  ## Where the runs of a sweep stand: SWEEP, ARGS, and what sweep was given
	@$(RUN) -m suite status $(SWEEP) $(call option,LAUNCHER,launcher) $(call option,JOBS,jobs) \
		$(OPTIONS) $(ARGS)

check-algorithm: $(VENV)/.ready  ## Try whether an algorithm keeps the contract: ALG=my_module:MyAlgorithm
	@$(RUN) -m suite check-algorithm $(call option,ALG,alg)

plots: $(VENV)/.ready  ## Draw the figures of RUNS to results/figures
	@$(RUN) -m analysis plots $(RUNS) $(ARGS)

report: $(VENV)/.ready  ## Write the report of RUNS to results/report.html
	@$(RUN) -m analysis report $(RUNS) $(ARGS)

tables: $(VENV)/.ready  ## Tables of the rows as Markdown, CSV and LaTeX: RUNS, ARGS
	@$(RUN) -m analysis tables $(RUNS) $(ARGS)

test: $(VENV)/.ready  ## Run the tests
	$(RUN) -m pytest --benchmark-disable --numprocesses auto --dist loadfile --no-loadscope-reorder \
		--durations 12

check: $(VENV)/.ready  ## Lint, types and tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(MAKE) test

verify-env: $(VENV)/.ready  ## Compare the fast engine with Meta-World, all tasks, bit for bit
	$(RUN) -m suite.envs.verify_env

storm: $(VENV)/.ready  ## Kill runs over and over, compare their bytes: ARGS="--seconds 600 --seed 0"
	@PYTHONPATH=. $(RUN) tests/suite/storm.py $(ARGS)

perf-gpu: $(VENV)/.ready  ## Everything that only a GPU can show, in four minutes: ARGS="--out FOLDER"
	@PYTHONPATH=. $(RUN) tests/perf/gpu.py $(ARGS)

perf: $(VENV)/.ready  ## Run the benchmarks
	$(RUN) -m pytest tests/perf --benchmark-only -s

clean:  ## Remove the environment; results stay
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
