# Everything runs in .venv, which the first command creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint coverage docs bench clean

demo: $(VENV)/.ready
	@echo "==> Clustering the bundled digits images (about half a minute on two cores)"
	$(BIN)/python examples/plot_digits.py --output demo

# the tests start many processes, each of which would compile the package where none may write it
test: lint
	@echo "==> pytest, two processes of one thread each"
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.ready
	@echo "==> ruff: lint and format"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "==> mypy: types"
	$(BIN)/mypy

coverage: $(VENV)/.ready-coverage
	@echo "==> pytest under coverage, with all processes that the tests start"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

$(VENV)/.ready-coverage: $(VENV)/.ready
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e ".[coverage]"
	@touch $@

docs: $(VENV)/.ready-docs
	@echo "==> Building the documentation; the gallery takes a few minutes at first"
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "==> docs/_build/html/index.html"

$(VENV)/.ready-docs: $(VENV)/.ready
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e ".[docs]"
	@touch $@

$(VENV)/.ready: setup.cfg pyproject.toml
	@echo "==> Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit("deepcluster_sk needs Python >= 3.11, found " + sys.version.split()[0] + "; run: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@echo "==> Installing deepcluster_sk, torch and torchvision (2-5 minutes, about 6 GB of disk)"
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e ".[plot,test]"
	@touch $@

bench: $(VENV)/.ready
	@echo "==> Installing what the benchmarks compare with"
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e ".[bench]"
	@echo "==> Speed as ratios (leave the machine alone meanwhile)"
	$(BIN)/python benchmarks

clean:
	rm -rf $(VENV) .coverage .coverage.* demo build dist *.egg-info docs/_build docs/api docs/auto_examples
