# Two commands set everything up on a fresh machine: `make sandbox` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8080

# Idle OpenMP threads that spin starve whoever works beside them.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: install sandbox run test lint train bench drills conformance clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

sandbox: $(STAMP)
	$(BIN)/imagine-bot sandbox --port $(PORT)

run: $(STAMP)
	$(BIN)/imagine-bot run

test: $(STAMP)
	$(BIN)/python -m tests

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

train: $(STAMP)
	$(BIN)/t2i train fetch-data --out runs/data
	$(BIN)/t2i train base --config configs/base.toml
	$(BIN)/t2i train upsampler --config configs/upsampler.toml
	$(BIN)/t2i train assemble --out t2i/weights

bench: $(STAMP)
	$(BIN)/t2i bench --suite cpu --json benchmark.json

drills: $(STAMP)
	status=0; \
	for drill in outage diskfull locked clock zombie drain wal rush "soak --minutes 30" "crash --jobs 1000 --kills 50"; do \
	  $(BIN)/python -m benchmarks.drills $$drill --seed 1 --json drill-$${drill%% *}.json || status=1; \
	done; \
	for seed in 2 3; do \
	  $(BIN)/python -m benchmarks.drills crash --jobs 1000 --kills 50 --seed $$seed --json drill-crash-$$seed.json || status=1; \
	done; \
	$(BIN)/python -m benchmarks.drills crash --jobs 300 --kills 20 --database postgres --seed 1 --json drill-postgres.json || status=1; \
	for database in sqlite postgres; do \
	  $(BIN)/python -m benchmarks.claims --database $$database --json drill-claims-$$database.json || status=1; \
	done; \
	exit $$status

conformance: $(STAMP)
	$(BIN)/python -m pytest tests/bot/sandbox

clean:
	rm -rf $(VENV) build dist
