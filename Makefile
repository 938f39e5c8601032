# Everything runs in this clone's own virtual environment. Stamps inside it, and the files that the commands leave behind,
# let a second run skip what is done. Needs only Python >= 3.11 with pip and venv, and GNU make.
PYTHON ?= python3

# Versions: the tried ones (constraints/tried.txt), so that every command works tomorrow as it works today.
#   make test NEWEST=1   the newest versions that pip finds, looked up again at every call
#   make test LOWEST=1   the lowest versions that pyproject.toml allows
# Each of the three has an environment of its own, because a switch would otherwise install several GB again.
ifdef NEWEST
VERSIONS := newest
VENV := .venv-newest
CONSTRAINTS :=
else ifdef LOWEST
VERSIONS := lowest
VENV := .venv-lowest
CONSTRAINTS := constraints/lowest.txt
else
VERSIONS := tried
VENV := .venv
CONSTRAINTS := constraints/tried.txt
endif
# --no-compile: pip would compile 20,000 files, and a run imports a fifth of them. Python compiles these at first use.
# Some machines forbid Python to keep what it compiled. Then every process would compile torch anew, for ten seconds.
export PYTHONDONTWRITEBYTECODE :=
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile \
  $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
# "torch" with the version that the constraints name. The CPU index has no old numpy, so it is not given all constraints.
pinned = $(or $(if $(CONSTRAINTS),$(shell sed -n 's/^\($(1)==[^ ;]*\).*/\1/p' $(CONSTRAINTS))),$(1))

# uv installs the dependencies in half the time, where it can be had. Then pip finds them installed, and checks them.
QUICK_INSTALL = $(if $(CONSTRAINTS),$(BIN)/python scripts/quick_install.py --constraint $(CONSTRAINTS) -r pyproject.toml $(1) || echo "pip installs them.")

BIN := $(VENV)/bin
TGMM := $(BIN)/tgmm
MADE := $(VENV)/.stamp-venv
RUNTIME := $(VENV)/.stamp-runtime
DEV := $(VENV)/.stamp-dev
EXPLAIN := $(VENV)/.stamp-explain
# two workers with one thread each: tests are many and small
WORKERS ?= 2
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 MPLBACKEND=Agg

.PHONY: test-app style help audit licences install install-dev freeze demo learn test test-fast test-slow test-hf robustness fuzz durations coverage reference lint format bench clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make demo       install, make a synthetic cohort, train, evaluate, predict and explain one patient: demo/report.html, demo/patient.html"
	@echo "make test       install and run lint and the tests"
	@echo "make test-fast  the quick tests only, without lint: about two minutes"
	@echo "make test-slow  the tests marked slow as well"
	@echo "make coverage   the tests, with the share of lines and branches that they run"
	@echo "make test-app   the web page in a headless Chromium; screenshots in .cache/app-screenshots"
	@echo "make test-hf    transformers' own common tests over our classes (their sources come from PyPI)"
	@echo "make robustness  over 2,500 hostile inputs (20 minutes): docs/results/robustness/inputs.md"
	@echo "make fuzz READER=wfdb_header MINUTES=10  coverage-guided fuzzing: wfdb_header, ecg_dicom, echo_dicom or lab_row"
	@echo "make learn      the longer experiment (over an hour): learn/metrics.json on an unseen synthetic cohort"
	@echo "make reference  write docs/cli.md and docs/settings.md anew"
	@echo "make lint       ruff, typos (spelling) and mypy;  make format: let ruff rewrite"
	@echo "make install    only the package, in .venv;  make install-dev: with the test tools"
	@echo "make audit      known vulnerabilities of the installed packages;  make licences: their licences, none GPL"
	@echo "make clean      remove demo/, learn/ and caches (not .venv)"
	@echo "make bench      time and memory against references measured in the same run (20 minutes): one table, bench.json"
	@echo "make durations  measure the tests anew, and choose those of make test-fast"
	@echo "make freeze     write the installed versions to constraints/tried.txt"
	@echo "NEWEST=1 or LOWEST=1 behind any of them: the newest versions, or the lowest that pyproject.toml allows, instead"
	@echo "of the tried ones; in an environment of its own (.venv-newest, .venv-lowest)"

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

$(RUNTIME): pyproject.toml scripts/install_torch.sh $(CONSTRAINTS) | $(MADE)
	@echo "Installing the $(VERSIONS) versions into $(VENV): a few minutes and 1.5 to 6 GB, once."
	sh scripts/install_torch.sh $(BIN)/python $(UPGRADE) $(call pinned,torch)
	$(QUICK_INSTALL)
	$(PIP_INSTALL) -e .
	@touch $@

# torch and torchvision in one go, so that they match and nothing is fetched twice
$(DEV): pyproject.toml scripts/install_torch.sh $(CONSTRAINTS) | $(MADE)
	@echo "Installing the $(VERSIONS) versions into $(VENV): a few minutes and 1.5 to 6 GB, once."
	sh scripts/install_torch.sh $(BIN)/python $(UPGRADE) $(call pinned,torch) $(call pinned,torchvision)
	$(call QUICK_INSTALL,--extra dev)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(RUNTIME) $@

# packages of the contributions in the patient report
$(EXPLAIN): pyproject.toml $(CONSTRAINTS) | $(RUNTIME)
	$(PIP_INSTALL) -e '.[explain]'
	@touch $@

ifdef NEWEST
UPGRADE := --upgrade
# the newest versions are looked up at every call
$(RUNTIME) $(DEV): look-again
.PHONY: look-again
endif

# after `make test NEWEST=1` has passed, `make freeze NEWEST=1` makes its versions the tried ones; installs nothing
freeze:
	$(BIN)/python scripts/freeze_versions.py

# ---- tests --------------------------------------------------------------------------------------------------------

LINTED := src tests scripts metrics benchmarks experiments

# docs/cli.md and docs/settings.md, from the commands and the dataclasses
reference: $(DEV)
	$(BIN)/python scripts/write_reference.py

lint: style
	$(BIN)/mypy

style: $(DEV)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/typos

# known vulnerabilities, looked up at PyPI or OSV: fails where neither answers, because then nothing was checked
audit: $(DEV)
	$(BIN)/python scripts/audit.py

# licences of what `pip install tgmm-hf` brings: fails at GPL, AGPL or an unknown one
licences: $(DEV)
	$(BIN)/python scripts/check_licences.py

format: $(DEV)
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

# Each worker takes the next file. tests/conftest.py puts the files that take long first, so both workers end together.
PYTEST = $(TEST_ENV) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Lint runs with the tried versions only, because types and rules differ from version to version. mypy uses one core for
# half a minute, so it runs beside the tests. Its findings come last.
ifneq ($(VERSIONS),tried)
test: $(DEV)
	$(PYTEST) --durations 15
else
test: style
	@mkdir -p .cache
	$(BIN)/mypy > .cache/mypy.log 2>&1 & types=$$!; \
	  $(PYTEST) --durations 15; tests=$$?; \
	  wait $$types; types=$$?; cat .cache/mypy.log; test $$tests -eq 0 && test $$types -eq 0
endif

# the tests without those marked slow or medium: about two minutes on two cores
test-fast: $(DEV)
	$(PYTEST) -m 'not slow and not medium'

test-slow: $(DEV)
	$(PYTEST) -m 'slow or not slow' --durations 15

# which tests are medium: written to tests/medium_tests.txt
durations: $(DEV)
	PYTHONPATH=tests $(PYTEST) -p measure_durations

# lines and branches of src that the tests run; fails below `fail_under` in pyproject.toml
coverage: $(DEV)
	$(PYTEST) --cov --cov-report term

# the web page in a real browser: needs a Chromium (Debian: apt-get install chromium); axe-core comes from npm, if npm is there
AXE := .cache/axe/node_modules/axe-core/axe.min.js
test-app: $(DEV)
	$(PIP_INSTALL) -e '.[dev,app,explain]' playwright
	$(if $(shell command -v npm),test -f $(AXE) || npm install --silent --prefix .cache/axe axe-core@4,@echo "no npm: accessibility is not tested")
	$(TEST_ENV) $(BIN)/python -m pytest -q -m 'browser or not browser' tests/app tests/hub/test_push_space.py

# transformers' common tests of the installed version, over our classes; counts and exclusions at the end
test-hf: $(DEV)
	$(TEST_ENV) $(BIN)/python scripts/test_hf.py

# ---- time and memory ------------------------------------------------------------------------------------------------

# Every benchmark in small sizes, each in a process with one thread. One that fails does not stop the others. Real files
# lie beside the clone; without them their rows are left out.
# PATIENCE multiplies the limits of time, for a busy machine.
BENCH_OUT ?= bench.json
PATIENCE ?= 1
bench: $(DEV)
	$(TEST_ENV) $(BIN)/python -W ignore benchmarks/run_all.py $(if $(FILES),--files $(FILES)) --out $(BENCH_OUT) --patience $(PATIENCE) $(if $(ONLY),--only $(ONLY))

# ---- hostile inputs -------------------------------------------------------------------------------------------------

CASES ?= 64
SEED ?= 0
ROBUSTNESS_PATH := PYTHONPATH=tests:tests/robustness

robustness: $(DEV)
	$(TEST_ENV) $(ROBUSTNESS_PATH) $(BIN)/python -W ignore tests/robustness/measure.py --cases $(CASES) --seed $(SEED) \
	  --workers $(WORKERS) --out docs/results/robustness

# atheris is no dependency, so it has an environment of its own, which sees the packages of $(VENV)
READER ?= wfdb_header
MINUTES ?= 10
.venv-fuzz/.stamp: $(DEV)
	$(BIN)/python -m venv --clear .venv-fuzz
	.venv-fuzz/bin/python -m pip install -qq --disable-pip-version-check atheris
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > \
	  "$$(.venv-fuzz/bin/python -c 'import site; print(site.getsitepackages()[0])')/package.pth"
	@touch $@

fuzz: .venv-fuzz/.stamp
	$(TEST_ENV) PYTHONPATH=src:tests:tests/robustness .venv-fuzz/bin/python -W ignore tests/robustness/fuzz.py \
	  $(READER) $(MINUTES) .cache/fuzz-$(READER)

# ---- the main job: synthetic cohort -> prepare -> train -> evaluate -> predict ---------------------------------------

DEMO_PATIENTS ?= 427
DEMO_SEED ?= 0
# a finished model that is older than its data or settings is replaced; a training that was stopped goes on
in_place = $(if $(wildcard $(1)-training/finished),--set resume=never)
# clips at half MIMIC's size: the tiny model looks at 64 pixels
SMALL_CLIPS := --height 120 --width 160

# Two threads on every machine, because sums in another order round differently and the training amplifies it.
demo: export OMP_NUM_THREADS = 2
demo: export MKL_NUM_THREADS = 2
demo: demo/patient.html
	@echo
	@echo "Done. Everything lies in demo/ :"
	@echo "  cohort/          synthetic patients in MIMIC's file formats, with the best reachable figures in bayes.json"
	@echo "  data/            the same, model-ready (datasets, Arrow)"
	@echo "  model/           the saved repository: AutoModel.from_pretrained('demo/model', trust_remote_code=True)"
	@echo "  metrics.json     every figure with its 95 % interval, for all seven subsets of modalities"
	@echo "  report.html      the same as a page with figures: open it in a browser"
	@echo "  prediction.json  one test patient"
	@echo "  patient.html     the report of this patient, with the contributions to the answer: open it in a browser"

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

demo/patient.html: demo/prediction.json | $(EXPLAIN)
	$(BIN)/python scripts/predict_one.py demo/model demo/cohort --out demo/patient.html

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
