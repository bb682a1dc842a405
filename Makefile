# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: install demo test lint docs-check coverage clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,stac]'
	touch $@

demo: install
	$(BIN)/python recipes/quickstart/run.py demo

test: install
	$(BIN)/python -m pytest -n 2 -m "not gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs-check: install
	$(BIN)/ruff check --select D --ignore D105,D107,D203,D213 sarstack benchmarks
	find sarstack benchmarks -name '*.py' | xargs $(BIN)/numpydoc lint

coverage: install
	$(BIN)/coverage run -m pytest -m "not slow and not gpu"
	$(BIN)/coverage combine
	$(BIN)/coverage report

clean:
	rm -rf $(VENV) demo build *.egg-info
