# `make run` plans a real model through the service; `make test` runs every test. Each sets up what
# it needs.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: run test fuzz lint bench generate clean

run: $(READY)
	$(BIN)/layout-planner demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

fuzz: $(READY)
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -q tests/planner/test_hostile_graphs.py tests/schema/test_hostile_bytes.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m schema.generate --check

bench: $(READY)
	$(BIN)/layout-planner bench models --profile bytes -o benchmarks/models.md
	$(BIN)/layout-planner bench replan -o benchmarks/replan.md

generate: $(READY)
	$(BIN)/python -m schema.generate

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
