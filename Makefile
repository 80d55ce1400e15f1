# On a fresh machine: Python >= 3.11, pip and make are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check lint types layers docs docs-check sabotage mutate bench example lock clean

demo: $(VENV)/.run
	@$(BIN)/podfence demo

test: $(VENV)/.dev
	$(BIN)/pytest -n 2 --dist loadgroup

check: lint types layers docs-check

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

# The reference pages and the README's output are made from the program.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

docs-check: $(VENV)/.dev
	$(BIN)/python docs/generate.py --check

# Breaks each stage on purpose and shows which test turns red.
sabotage: $(VENV)/.dev
	$(BIN)/python tests/sabotage.py

# Changes the judge in small ways and tells which changes no test notices; ARGS="--sample 5 deploy/semantics/engine.py".
mutate: $(VENV)/.dev
	$(BIN)/python tests/mutations.py $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# Needs root: makes examples/shop anew from the network lab.
example: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python -m lab capture --out examples/shop

# Needs uv (pip install uv).
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url pyproject.toml --group build -o requirements/run.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url pyproject.toml --group build --group dev -o requirements/dev.lock

# The virtual environment is made without its own pip, which some systems package apart; the outer pip fills it.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "podfence needs Python 3.11 or newer (PYTHON=...)")'
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --without-pip $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.lock pyproject.toml
	@test -e $(VENV)/.dev || $(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/run.lock
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.lock pyproject.toml
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/dev.lock
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
