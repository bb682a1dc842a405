# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: install demo test test-newest test-oldest lint docs docs-check coverage clean

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

# The newest versions that the registry offers, and the oldest that pyproject.toml allows, each in an
# empty environment. PYTHON chooses the interpreter. TORCH_BACKEND=cpu avoids gigabytes of CUDA, if
# the index of PyTorch can be reached; TORCH_BACKEND= takes torch from the registry.
TORCH_BACKEND ?= cpu
test-newest: RESOLUTION := highest
test-oldest: RESOLUTION := lowest-direct
test-newest test-oldest:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet uv
	.venv-uv/bin/uv venv --quiet --clear --python $(PYTHON) .venv-$@
	.venv-uv/bin/uv pip install --quiet --python .venv-$@ --resolution $(RESOLUTION) \
		$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --editable '.[dev,stac]'
	.venv-$@/bin/python -m pytest -n 2 -m "not gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site: open docs/build/index.html in a browser; no network is needed.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/build
	@echo "docs/build/index.html"

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs-check: install
	$(BIN)/ruff check --select D --ignore D105,D107,D203,D213 sarstack benchmarks
	find sarstack benchmarks -name '*.py' | xargs $(BIN)/numpydoc lint

coverage: install
	$(BIN)/coverage run -m pytest -m "not slow and not gpu"
	$(BIN)/coverage combine
	$(BIN)/coverage report

clean:
	rm -rf $(VENV) .venv-* demo build docs/build docs/generated *.egg-info
