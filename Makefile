# make demo   from nothing to a picture and a sheet         make serve        the service, until Ctrl-C
# make test   the tests                                     make test-faults  kill anything, lose nothing
# make check  style, types and configs                      make test-browser what we write, read by others' programs
# make campaign  every fault at once, for some minutes
# make bench  the benchmarks (nothing else may run)         make clean        forget the environment
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo serve test test-browser test-faults campaign check bench clean

demo: .venv/.service
	@$(BIN)/python -m serve_app.tools.demo

serve: .venv/.service
	@$(BIN)/assets run

test: .venv/.tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not cluster and not fault and not campaign and not benchmark and not browser"
	$(BIN)/python -m pytest -m "cluster and not fault and not campaign and not benchmark and not browser"

# Installs Chromium, Tiled, npm and promtool from Debian if they are missing, which needs root.
test-browser: .venv/.tests
	bash tests/delivery/install.sh
	$(BIN)/python -m pytest -m browser

test-faults: .venv/.tests
	$(BIN)/python -m pytest -m fault

campaign: .venv/.tests
	$(BIN)/python -m pytest -m campaign

check: .venv/.tests .venv/.types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/node .venv/web/node_modules/typescript/bin/tsc -p serve_app/web
	$(BIN)/python -m serve_app.tools.lint serve_config.yaml configs/serve.gpu.yaml

bench: .venv/.tests
	$(BIN)/python -m tests.benchmarks.bench_engine

# Not --quiet: it takes minutes, and shows what it fetches.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.venv/.service: pyproject.toml constraints.txt
	@echo "Installing into .venv: about 130 packages, some minutes. PyTorch is most of it."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -e .
	@touch $@

.venv/.tests: .venv/.service
	@echo "Installing what the tests and checks need."
	@$(INSTALL) -e '.[test,check,train,benchmark]'
	@# Without what spandrel depends on: its torchvision does not load beside a CPU build of torch.
	@$(INSTALL) --no-deps spandrel einops
	@touch $@

# The type checker of the page, by the npm that PyPI has: nothing of it is needed to run the service.
.venv/.types: tests/web/package.json .venv/.tests
	@mkdir -p .venv/web
	@cp tests/web/package.json .venv/web/
	@$(BIN)/npm install --prefix .venv/web --ignore-scripts --no-audit --no-fund --silent
	@touch $@

clean:
	rm -rf .venv .demo
