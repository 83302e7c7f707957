# Everything runs in .venv, made here from the pinned requirements; only Python, pip and make needed.
PYTHON ?= python3
PYTHON_KAGGLE ?= $(PYTHON)
BIN := .venv/bin
KAGGLE := .venv-kaggle/bin

.PHONY: quickstart test test-all check docs bench fuzz test-kaggle clean

# The main job, end to end, on a demo competition made from this machine's own files.
quickstart: .venv/requirements
	$(BIN)/python train.py
	$(BIN)/python blend.py
	$(BIN)/python infer.py

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The long runs, too: kills at every moment, every kind of damage to every file.
test-all: check
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ""

# All tests with what Kaggle preinstalls; then whether its submissions are those of the pins.
test-kaggle: .venv-kaggle/requirements .venv/requirements
	$(KAGGLE)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python tests/agreement/agree.py --with $(KAGGLE)/python

# Linters and types, with the pins that pre-commit uses.
check: .venv/requirements-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documents' tables, from the code.
docs: .venv/requirements
	$(BIN)/python docs/tables.py

# Speed and memory against peers, as ratios within one run (about half an hour on two cores).
bench: .venv/requirements-dev
	$(BIN)/python benchmarks/grid.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/blending.py

# Damaged and hostile bytes for every reader of files, for ten minutes.
fuzz: .venv/requirements-dev
	$(BIN)/python tests/fuzz/fuzz_readers.py --minutes 10

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/requirements: requirements.txt pyproject.toml setup.py | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt -e .
	@touch $@

.venv/requirements-dev: requirements-dev.txt .venv/requirements
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-dev.txt
	@touch $@

.venv-kaggle/requirements: requirements-kaggle.txt
	$(PYTHON_KAGGLE) -m venv .venv-kaggle
	$(KAGGLE)/python -m pip install --disable-pip-version-check -q -r requirements-kaggle.txt
	@touch $@

# What the quickstart made; your own runs stay.
clean:
	rm -rf input/quickstart models/quickstart oof/quickstart submissions/quickstart cache/quickstart
