# `make demo` and `make test` are the whole set-up on a fresh machine: each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench nightly clean

# Torch-free and CPU-only by default: on a GPU machine install the matching jax extra into .venv yourself.
$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plots]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[oracles]' || \
		echo 'NanoPyx cannot be installed here: the tests that compare with it are skipped'
	touch $@

demo: $(VENV)/.run
	$(BIN)/dps-jax demo --output demo

# A worker that crashes ends the run: pytest-xdist 3.8 would wait for its replacement for ever.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Speed and memory: one table at the end. It fails where a figure misses what was wanted, after all were measured.
bench: $(VENV)/.dev
	$(BIN)/python -m pytest tests/benchmarks --override-ini="addopts=--import-mode=importlib" --override-ini="python_files=bench_*.py" -s

# What takes too long for `make test`: 2,000 damaged files in place of 200, and trainings that are killed.
nightly: $(VENV)/.dev
	DPS_JAX_FUZZ_CASES=2000 $(BIN)/python -m pytest tests/nightly tests/cli/test_fuzz.py \
		--override-ini="addopts=--strict-markers --strict-config --import-mode=importlib"

clean:
	rm -rf $(VENV) build dist *.egg-info demo .pytest_cache .mypy_cache .ruff_cache
