# All targets but help, lock and clean set up .venv when requirements.lock or pyproject.toml changed.
#   make run    run all lessons, with a page for each        make run ARGS="02 --budget quick -p seed 1"
#   make test   the whole test suite
# WORKBOOK_TORCH=cpu or =cuda chooses torch's build; PYTHON=... another Python to start from.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
STEPS ?=
# Tests side by side, on one thread each; tests/side_by_side.py says which stay together.
SIDE ?= -n logical --maxprocesses 4
# Some lessons show wider tables: pitfalls instructions dpo peft_methods lora lora_variants.
REFERENCES ?=

.PHONY: help run test verify test-fast test-faults test-gpu lab doctor notebooks editions data models real reference site bench drift format lock setup clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup:
	@$(PYTHON) tools/setup_venv.py

run: setup  ## run the lessons: notebooks, figures and pages under runs/      WORKBOOK_REAL=no: without the published models
ifneq ($(WORKBOOK_REAL),no)
	@$(BIN)/workbook real || echo "The run goes on: its sections on real text show kept figures, and say so."
endif
	@$(BIN)/workbook run $(ARGS)

test: setup  ## the whole suite; names its twenty slowest tests
	@$(BIN)/python -m pytest $(SIDE) --durations=20 $(ARGS)

verify: setup  ## run the committed notebooks whose code changed, and keep which passed      ARGS="02", ARGS=--all
	@$(BIN)/python -m tests.verification $(ARGS)

test-fast: setup  ## the part of the suite that needs no lesson to run
	@$(BIN)/python -m pytest $(SIDE) -m "not slow and not gpu and not network" $(ARGS)

test-faults: setup  ## sweeps whose workers, schedulers and commands are killed (ten minutes)
	@$(BIN)/python -m pytest tests/workbook/sweeps -m faults $(ARGS)

test-gpu: setup  ## what needs a CUDA device: precision, 4 bits, paged optimizers, the memory ledger
	@$(BIN)/python -m pytest tests/gpu -m gpu $(ARGS)

lab: setup  ## JupyterLab on your own copy of the lessons, in my-lessons      ARGS="--folder ~/course"
	@$(BIN)/workbook lab $(ARGS)

doctor: setup  ## what this machine has, and what it lacks
	@$(BIN)/workbook doctor $(ARGS)

notebooks: setup  ## build the notebooks from notebooks/source       ARGS="02", ARGS=--check
	@$(BIN)/python -m workbook.notebooks $(ARGS)

editions: setup  ## write the learner's, the instructor's and nbgrader's notebooks      ARGS="02 --only learner"
	@$(BIN)/python -m workbook.editions $(ARGS)

data: setup  ## generate the micro-world anew
	@$(BIN)/python -m microworld.build $(ARGS) && $(BIN)/python -m microworld.measure

models: setup  ## pretrain the pocket models anew (over an hour)
	@$(BIN)/python -m microworld.pretraining $(ARGS)

real: setup  ## fetch published models and rated texts for the real track (180 MB, once)
	@$(BIN)/workbook real $(ARGS)

reference: setup  ## every lesson over five seeds, into data/reference (over two hours)      REFERENCES="pitfalls": that lesson's wider table
ifeq ($(REFERENCES),)
	@$(BIN)/workbook sweep run sweeps/reference.yaml $(ARGS); $(BIN)/python -m workbook.claims.gather
else
	@for name in $(REFERENCES); do echo "$$name:" && $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done
endif

site: setup  ## the web site, from the committed notebooks, under build/site
	@$(BIN)/workbook site $(ARGS)

bench: setup  ## seconds and memory of each lesson, and our steps beside the libraries'    STEPS="lora --rounds 5"
	@$(BIN)/python benchmarks/lessons.py $(ARGS) && $(BIN)/python -m benchmarks.steps $(STEPS) && $(BIN)/python -m benchmarks.sweep

drift: setup  ## what breaks with the oldest and the newest libraries: one table, in build/drift      ARGS="--only newest"
	@$(BIN)/python tools/drift.py $(ARGS)

format: setup  ## ruff, as the pre-commit hook runs it
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock:  ## requirements.lock and the versions of all ways in, from pyproject.toml
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(PYTHON) -m venv "$$dir" \
	  && "$$dir/bin/pip" install --quiet --upgrade pip && "$$dir/bin/python" tools/lock.py && "$$dir/bin/python" tools/ways_in.py

clean:  ## remove .venv; runs/ stays
	rm -rf .venv
