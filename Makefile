# Everything runs in this clone's own .venv. Stamps inside it, and the files that the commands leave behind, let a second
# run skip what is done. Needs only Python >= 3.11 with pip and venv, and GNU make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TGMM := $(BIN)/tgmm
MADE := $(VENV)/.stamp-venv
RUNTIME := $(VENV)/.stamp-runtime
DEV := $(VENV)/.stamp-dev
# two workers with one thread each: tests are many and small
WORKERS ?= 2
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 MPLBACKEND=Agg

.PHONY: help install install-dev demo learn test test-slow test-hf lint format clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make demo       install, make a synthetic cohort, train, evaluate, predict one patient, write demo/report.html"
	@echo "make test       install and run lint and the tests"
	@echo "make test-slow  the tests marked slow as well"
	@echo "make test-hf    transformers' own common tests over our classes (their sources come from PyPI)"
	@echo "make learn      the longer experiment (over an hour): learn/metrics.json on an unseen synthetic cohort"
	@echo "make lint       ruff and mypy;  make format: let ruff rewrite"
	@echo "make install    only the package, in .venv;  make install-dev: with the test tools"
	@echo "make clean      remove demo/, learn/ and caches (not .venv)"

# ---- installation -------------------------------------------------------------------------------------------------

install: $(RUNTIME)
install-dev: $(DEV)

# A stamp, not bin/python: a .venv that was cut short is made anew. Debian's Python without python3-venv cannot put pip into
# a venv, but its own pip can.
$(MADE):
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, this is {sys.version}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV) || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	@touch $@

$(RUNTIME): pyproject.toml scripts/install_torch.sh | $(MADE)
	@echo "Installing into $(VENV): a few minutes and 1.5 to 6 GB, once."
	sh scripts/install_torch.sh $(BIN)/python torch
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

# torch and torchvision in one go, so that they match and nothing is fetched twice
$(DEV): pyproject.toml scripts/install_torch.sh | $(MADE)
	@echo "Installing into $(VENV): a few minutes and 1.5 to 6 GB, once."
	sh scripts/install_torch.sh $(BIN)/python torch torchvision
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $(RUNTIME) $@

# ---- tests --------------------------------------------------------------------------------------------------------

lint: $(DEV)
	$(BIN)/ruff check src tests scripts metrics
	$(BIN)/ruff format --check src tests scripts metrics
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix src tests scripts metrics
	$(BIN)/ruff format src tests scripts metrics

test: $(DEV) lint
	$(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --durations 15

test-slow: $(DEV)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m 'slow or not slow' --durations 15

# transformers' common tests of the installed version, over our classes; counts and exclusions at the end
test-hf: $(DEV)
	$(TEST_ENV) $(BIN)/python scripts/test_hf.py

# ---- the main job: synthetic cohort -> prepare -> train -> evaluate -> predict ---------------------------------------

DEMO_PATIENTS ?= 427
DEMO_SEED ?= 0
# a finished model that is older than its data or settings is replaced; a training that was stopped goes on
in_place = $(if $(wildcard $(1)-training/finished),--set resume=never)
# clips at half MIMIC's size: the tiny model looks at 64 pixels
SMALL_CLIPS := --height 120 --width 160

demo: demo/prediction.json
	@echo
	@echo "Done. Everything lies in demo/ :"
	@echo "  cohort/          synthetic patients in MIMIC's file formats, with the Bayes optimum in bayes.json"
	@echo "  data/            the same, model-ready (datasets, Arrow)"
	@echo "  model/           the saved repository: AutoModel.from_pretrained('demo/model', trust_remote_code=True)"
	@echo "  metrics.json     every figure with its 95 % interval, for all seven modality combinations"
	@echo "  report.html      the same as a page with figures: open it in a browser"
	@echo "  prediction.json  one test patient"

demo/cohort/cohort.parquet: | $(RUNTIME)
	$(TGMM) synth demo/cohort --patients $(DEMO_PATIENTS) --seed $(DEMO_SEED) --evidence strong --height 96 --width 128

demo/data/prepare.json: demo/cohort/cohort.parquet
	$(TGMM) prepare demo/cohort --out demo/data

demo/model/run.json: demo/data/prepare.json configs/demo.yaml
	$(TGMM) train configs/demo.yaml $(call in_place,demo/model)

demo/metrics.json: demo/model/run.json
	$(TGMM) evaluate demo/model demo/data --bayes demo/cohort --out demo

demo/prediction.json: demo/metrics.json
	$(BIN)/python scripts/predict_one.py demo/model demo/cohort --out demo/prediction.json

# ---- does it learn? two cohorts of different seeds, one multitask model ----------------------------------------------

# One patient in thirteen has an observed event: 2000 test patients have about 150.

LEARN_PATIENTS ?= 1524
LEARN_TEST_PATIENTS ?= 2000

learn: learn/metrics.json
	@echo "Done: learn/metrics.json, learn/report.html"

learn/cohort/cohort.parquet: | $(RUNTIME)
	$(TGMM) synth learn/cohort --patients $(LEARN_PATIENTS) --seed 103 $(SMALL_CLIPS)

learn/test_cohort/cohort.parquet: | $(RUNTIME)
	$(TGMM) synth learn/test_cohort --patients $(LEARN_TEST_PATIENTS) --seed 104 --all-test $(SMALL_CLIPS)

learn/data/prepare.json: learn/cohort/cohort.parquet
	$(TGMM) prepare learn/cohort --out learn/data

learn/test_data/prepare.json: learn/test_cohort/cohort.parquet
	$(TGMM) prepare learn/test_cohort --out learn/test_data

learn/model/run.json: learn/data/prepare.json configs/learn.yaml
	$(TGMM) train configs/learn.yaml $(call in_place,learn/model)

learn/metrics.json: learn/model/run.json learn/test_data/prepare.json
	$(TGMM) evaluate learn/model learn/test_data --validation learn/data --bayes learn/test_cohort --out learn

clean:
	rm -rf demo learn .cache .pytest_cache .ruff_cache .mypy_cache
