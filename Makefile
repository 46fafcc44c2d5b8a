# Every target makes the environment it needs. PYTHON is only used to create .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: workbook test lab lint clean

workbook: .venv/core ## run every notebook, write reports/index.html
	$(BIN)/peftlab workbook

test: .venv/dev ## unit tests, contracts, notebooks with nbval
	PEFTLAB_HEADLESS=1 $(BIN)/python -m pytest
	PEFTLAB_HEADLESS=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks

lab: .venv/core ## open the workbook in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=notebooks

lint: .venv/dev ## style of code and notebooks, cleanliness of notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m peftlab.notebook_lint notebooks

clean: ## remove what the targets made, synthetic tasks and runs included
	rm -rf .venv reports runs data/synthetic

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "peftlab needs Python 3.11 or newer; $(PYTHON) is older. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/core: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --progress-bar off -e .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet --progress-bar off -e ".[dev]"
	@touch $@
