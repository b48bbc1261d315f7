# Two commands: `make demo` and `make test`. Needs Python >= 3.11 and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARTIFACTS ?= artifacts

.PHONY: demo test fast lint install install-dev clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

demo: install ## the whole pipeline on the shipped captioner
	$(BIN)/saebias run-all --set runtime.artifacts=$(ARTIFACTS)
	@echo
	@echo "The report: $(abspath $(ARTIFACTS))/report/index.html"
	@echo "Ask it:     $(BIN)/saebias query"

lint: install-dev ## style, types, layers
	$(BIN)/ruff check saebias tests
	$(BIN)/ruff format --check saebias tests
	$(BIN)/lint-imports
	$(BIN)/ty check saebias

fast: install-dev ## the quick tests
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test: lint ## everything
	$(BIN)/python -m pytest -q -n 2 -m "not slow"
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m slow

clean:
	rm -rf $(VENV) build dist *.egg-info
