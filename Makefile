# make demo   everything from nothing to one picture        make test         the tests
# make check  style, types and configs                      make test-faults  kill anything, lose nothing
# make campaign  every fault at once, for some minutes
# make bench  the benchmarks (nothing else may run)         make clean        forget the environment
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-faults campaign check bench clean

demo: .venv/.service
	$(BIN)/python -m serve_app.tools.demo

test: .venv/.tests
	$(BIN)/python -m pytest -m "not fault and not campaign and not benchmark"

test-faults: .venv/.tests
	$(BIN)/python -m pytest -m fault

campaign: .venv/.tests
	$(BIN)/python -m pytest -m campaign

check: .venv/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m serve_app.tools.lint serve_config.yaml configs/serve.gpu.yaml

bench: .venv/.tests
	$(BIN)/python -m tests.benchmarks.bench_engine

.venv/.service: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.tests: .venv/.service
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,check,train]'
	touch $@

clean:
	rm -rf .venv .demo
