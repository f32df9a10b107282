# conch: every task of the project. `make run` and `make test` need nothing but Python 3.11+ and this checkout.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  ?= examples/shapes-clip
# The CPU build of PyTorch; a plain `torch` brings gigabytes of CUDA libraries. Override for a GPU: make run TORCH=torch
TORCH  ?= torch==2.13.0
ONCE   ?=
SLOW   ?= 1
# Further arguments of coverage-table: --resume, --only NAME ..., --real DIR, --jobs N; of oracle-compare: examples
ARGS   ?=
# Processes that share the tests, each module in one of them; 0: none but pytest's own
JOBS   ?= 2

# Servers are started hundreds of times by tests and measured by benchmarks: with their bytecode, as pip installs them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check format bench oracle-compare coverage-table clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

run: $(VENV)/.installed  ## deploy the demo model, start the server, send the first request (ONCE=1: stop after the answer)
	$(BIN)/python examples/run_demo.py --model $(MODEL) $(if $(ONCE),--once)

test: check  ## everything: style, types, layers and the whole test suite (in JOBS processes, two unless told otherwise; 0: in one)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

check: $(VENV)/.installed  ## style, types and layers, without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed  ## the named benchmarks (see docs/performance.md)
	$(BIN)/python -m bench

oracle-compare: $(VENV)/.installed  ## the examples' clients against conch and the Triton that TRITON starts (ARGS="bls decoupled")
	$(BIN)/python -m tests.examples $(ARGS)

coverage-table: $(VENV)/.installed  ## deploy every architecture by both approaches: docs/coverage.md (ARGS="--resume")
	$(BIN)/python -m tests.coverage $(ARGS)

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One environment for all targets. `pip install` is repeated only when the project's dependencies change.
$(VENV)/.installed: pyproject.toml
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("conch needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on "$(TORCH)" --editable ".[all,dev]"
	@touch $@
