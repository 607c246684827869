# peftable: names and wiring. `make` prints help; what the targets do is in scripts/.
PYTHON ?= python3
PY := .venv/bin/python
VARIABLES := MODEL DATASET SEED SET DATA_DIR SPLIT BASELINE ADAPTER RUN INPUT OUTPUT TEXT SHARDS PROCESSES FORCE CHECK HERE JSON NO_DATA OUTPUTS DRY_RUN JOBS SEEDS CLUSTER RESOURCES WATCH MEMORY_GB
# Values reach the recipes through the environment, untouched by make: spaces, quotes and $ survive.
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES) PIP_DISABLE_PIP_VERSION_CHECK=1
# $(call given,NAME,--option): the option with the value where NAME is given; $(call flag,…): the option alone (0: off).
given = $(if $($(1)),$(2)="$$$(1)")
flag = $(if $(filter-out 0,$($(1))),$(2))
RUN_OPTIONS = $(call given,MODEL,--model) $(call given,DATASET,--dataset) $(call given,SET,--set) $(call given,OUTPUTS,--outputs)
SUBMIT_OPTIONS = $(RUN_OPTIONS) $(call given,DATA_DIR,--data-dir) $(call given,SEED,--seeds) $(call given,SEEDS,--seeds) $(call given,BASELINE,--baseline) $(call given,CLUSTER,--cluster) $(call given,RESOURCES,--resources) $(call flag,FORCE,--force) $(call flag,DRY_RUN,--check)
JOB_OPTIONS = $(RUN_OPTIONS) $(call given,SEED,--seed) $(call given,DATA_DIR,--data-dir)

.DEFAULT_GOAL := help
.PHONY: help demo smoke fetch check bench train evaluate baseline predict report submit submit-all submit-check status logs cancel setup test test-all testbed test-slurm lint format clean

help: ## print this help
	@"$(PYTHON)" scripts/make_help.py Makefile

## Start here
demo: .venv/requirements .venv/demo ## fine-tune a small encoder three ways on the embedded corpus (3 minutes, no GPU)
	@$(PY) scripts/demo.py
smoke: .venv/requirements ## every job, or MODEL=, in miniature: check, train, evaluate, predict, baseline, report [DRY_RUN=1]
	@$(PY) scripts/smoke.py $(call given,MODEL,--model) $(call flag,DRY_RUN,--dry-run)

## Experiments
fetch: .venv/requirements ## download models and data sets of all jobs, or of MODEL=, DATASET=, for machines without internet [DRY_RUN=1]
	@$(PY) scripts/fetch.py $(RUN_OPTIONS) $(call flag,DRY_RUN,--dry-run)
check: .venv/requirements ## look before training: rows, token lengths, duplicates, parameters [JSON=1, NO_DATA=1]
	@$(PY) scripts/check.py $(RUN_OPTIONS) $(call given,DATA_DIR,--data-dir) $(call flag,JSON,--json) $(call flag,NO_DATA,--no-data)
bench: .venv/requirements ## memory and speed of MODEL= on this machine, with random weights of true shape [JSON=1, MEMORY_GB=14.5]
	@$(PY) scripts/bench.py $(RUN_OPTIONS) $(call given,MEMORY_GB,--memory-gb) $(call flag,JSON,--json)
train: .venv/requirements ## fine-tune and evaluate one job; continues where it was stopped
	@$(PY) scripts/train.py $(JOB_OPTIONS) $(call given,RUN,--run) $(call flag,FORCE,--force)
evaluate: .venv/requirements ## score a trained run again, or on another SPLIT=, or a peft ADAPTER=
	@$(PY) scripts/evaluate.py $(JOB_OPTIONS) $(call given,SPLIT,--split) $(call given,ADAPTER,--adapter)
baseline: .venv/requirements ## evaluate BASELINE=untuned|zero-shot|majority|tfidf
	@$(PY) scripts/baseline.py $(JOB_OPTIONS) $(call given,RUN,--run) $(call given,BASELINE,--baseline) $(call flag,FORCE,--force)
predict: .venv/requirements ## label INPUT=<file> into OUTPUT=<file>, or one TEXT=, with MODEL= or RUN= [SHARDS=n]
	@$(PY) scripts/predict.py $(RUN_OPTIONS) $(call given,SEED,--seed) $(call given,RUN,--run) $(call given,ADAPTER,--adapter) $(call given,INPUT,--input) $(call given,OUTPUT,--output) $(call given,TEXT,--text) $(call given,SHARDS,--shards) $(call given,PROCESSES,--processes) $(call given,CLUSTER,--cluster) $(call given,RESOURCES,--resources) $(call flag,FORCE,--force)
report: .venv/requirements ## publish finished runs; write the tables and plots [CHECK=1, HERE=1]
	@$(PY) scripts/collect.py $(call given,OUTPUTS,--outputs) $(call flag,CHECK,--check) $(call flag,HERE,--here)

## A cluster, or this machine's queue
submit: .venv/requirements ## train MODEL= as a job, for each of SEEDS=; continues what was stopped [BASELINE=, CLUSTER=, RESOURCES=]
	@$(PY) scripts/submit.py $(SUBMIT_OPTIONS)
submit-all: .venv/requirements ## every job and baseline that can start, and a report in the log of the last [JOBS=, SEEDS=]
	@$(PY) scripts/submit.py --all $(call given,JOBS,--jobs) $(SUBMIT_OPTIONS)
submit-check: .venv/requirements ## ask the cluster what it would say to MODEL=, or to every job; queues nothing
	@$(PY) scripts/submit.py --check $(if $(MODEL),,--all) $(call given,JOBS,--jobs) $(SUBMIT_OPTIONS)
status: .venv/requirements ## the state of every run, or of those of MODEL=: state, step, time left, reason [WATCH=1]
	@$(PY) scripts/status.py $(call given,MODEL,--model) $(call given,DATASET,--dataset) $(call given,OUTPUTS,--outputs) $(call flag,WATCH,--watch)
logs: .venv/requirements ## the end of the newest log of each of MODEL='s runs
	@$(PY) scripts/logs.py $(call given,MODEL,--model) $(call given,DATASET,--dataset) $(call given,OUTPUTS,--outputs)
cancel: .venv/requirements ## take submitted runs back, all or MODEL='s; they keep their checkpoints
	@$(PY) scripts/cancel.py $(call given,MODEL,--model) $(call given,DATASET,--dataset) $(call given,OUTPUTS,--outputs)

## Development
setup: .venv/requirements .venv/demo .venv/dev ## create .venv with everything
test: setup ## run the fast tests, which cover every module (5 minutes on two cores)
	@$(PY) -m pytest -m "not slow" --numprocesses=auto --cov --cov-report= --cov-fail-under=80
test-all: test ## run the slow tests, too: kills, methods that learn, whole journeys (20 minutes)
	@$(PY) -m pytest -m slow --numprocesses=auto --cov --cov-append --cov-report=term
testbed: ## bring a real Slurm with two small nodes up on this machine (root on Debian 12; installs what is missing)
	@slurm/testbed/install.sh && slurm/testbed/up.sh
test-slurm: setup ## run the tests of jobs on a real Slurm, in testbeds of their own that are gone afterwards (root)
	@slurm/testbed/run_tests.sh $(PY)
lint: setup ## ruff, mypy, and the list of modules
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && $(PY) scripts/module_index.py --check
format: setup ## format the code, write the list of modules (scripts/common/README.md)
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format . && $(PY) scripts/module_index.py
clean: ## remove .venv and caches; outputs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	"$(PYTHON)" scripts/make_help.py --python-version && "$(PYTHON)" -m venv .venv
.venv/requirements: requirements.txt | .venv/bin/python
	@echo "installing requirements (about 1 GB, once)" && $(PY) -m pip install --quiet -r requirements.txt && touch $@
.venv/demo: requirements-demo.txt .venv/requirements
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-demo.txt && touch $@
.venv/dev: requirements-dev.txt .venv/requirements
	$(PY) -m pip install --quiet -r requirements-dev.txt && touch $@
