# Every target makes the environment it needs. PYTHON is only used to create .venv.
PYTHON ?= python3
BIN := .venv/bin
MODULES = $(subst /,.,$(patsubst %/__init__,%,$(basename $(shell find peftlab -name '[!_]*.py' -o -name __init__.py))))
# as container images set it; two dozen tests and every notebook start processes, which would each compile all modules
unexport PYTHONDONTWRITEBYTECODE
# tests that start kernels, whole reports or browsers
KERNELS := tests/workbook tests/test_installed.py
# tests make, rename and remove tens of thousands of small files: in memory, where Linux has 4 GB of it for files
MEMORY := $(or $(TMPDIR),$(shell df -m --output=avail /dev/shm 2> /dev/null | awk 'NR == 2 && $$1 > 4000 {print "/dev/shm"}'))
# two tests at a time, so one thread each
PYTEST := PEFTLAB_HEADLESS=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest

.PHONY: help workbook test lab lint docs wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-9s %s\n", $$1, $$2}' Makefile

workbook: .venv/core ## run every notebook, write reports/index.html
	$(BIN)/peftlab workbook --jobs 2

test: .venv/dev ## unit tests and examples; the workbook by papermill; its pages and slides, and all solutions by nbval
	folder=$$(TMPDIR="$(MEMORY)" mktemp -d) && trap 'rm -rf "$$folder"' EXIT INT TERM && \
	export TMPDIR=$$folder && \
	$(PYTEST) -n 2 --dist worksteal -p no:nbval --doctest-modules tests peftlab $(KERNELS:%=--ignore=%) && \
	export PEFTLAB_RUNS=$$folder/runs PEFTLAB_REPORTS=$$folder/reports PEFTLAB_CLASS=$$folder/class && \
	$(BIN)/peftlab workbook --jobs 2 --out $$PEFTLAB_REPORTS && \
	$(BIN)/peftlab class build $$PEFTLAB_CLASS --reports $$PEFTLAB_REPORTS && \
	ls $$PEFTLAB_RUNS | grep -v -- -my_ > $$folder/papermill && \
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env -p no:cacheprovider \
	  $(KERNELS) $$PEFTLAB_CLASS/instructor && \
	ls $$PEFTLAB_RUNS | grep -v -- -my_ | diff $$folder/papermill - # nbval trains nothing again but the builds of 09

lab: .venv/core ## open a copy of the lessons, lab/, in JupyterLab
	$(BIN)/peftlab lab

lint: .venv/dev ## style, layers of imports, types, house rules of notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m peftlab.workbook.lint notebooks

docs: .venv/dev ## the API reference, reports/api/index.html, linked from reports/index.html
	$(BIN)/python -W ignore -m pdoc -t docs/pdoc -o reports/api $(MODULES)
	@$(BIN)/python -c 'from pathlib import Path; from peftlab.workbook import run; \
	  run.publish(run.find_notebooks("notebooks"), Path("reports"), run.describe_environment())'

wheel: .venv/dev ## dist/peftlab-*.whl, with notebooks, results and embedded models
	$(BIN)/python -m build --wheel

clean: ## remove what the targets made, synthetic tasks and runs included; lab/ is yours and stays
	rm -rf .venv reports runs dist data/synthetic

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "peftlab needs Python 3.11 or newer; $(PYTHON) is older or missing. Name another: make $(MAKECMDGOALS) PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --progress-bar off -e .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet --progress-bar off -e ".[dev]"
	@touch $@
