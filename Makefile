# make demo   a minute's walk through the program, on data with a known answer
# make test   the tests (those on the real data beside the project: make acceptance)
# make faults harm done to jobs, each run again to the same bytes, in a table (some minutes)
# make fuzz   spoiled inputs by the thousand, none of which may do more than be refused
#             (make fuzz N=20000 SEED=0; some minutes)
# make memory what operators and measures take, beside what was projected, in a table (half an hour)
# make bench  the maps beside other libraries, in one table (some minutes)
# All make and fill .venv by themselves; a second call finds it ready.

# The first of these that is 3.11 or newer and can make environments, unless PYTHON is given.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
DEMO_OUTPUT ?= demo-output

.PHONY: demo test acceptance lint format bench faults fuzz memory clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "bigcorr needs Python 3.11 or newer (make PYTHON=/path/to/python)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/bigcorr demo -o $(DEMO_OUTPUT)

# Two processes, file by file: half of the time on two cores. -n 0 for one.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not acceptance"

acceptance: $(READY)
	$(BIN)/python -m pytest -m acceptance

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python tests/benchmarks/table.py

faults: $(READY)
	$(BIN)/python tests/faults/campaign.py

memory: $(READY)
	$(BIN)/python tests/memory/peaks.py

N ?= 20000
SEED ?= 0
fuzz: $(READY)
	$(BIN)/python tests/fuzz/fuzz.py $(N) $(SEED)

clean:
	rm -rf .venv build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find bigcorr tests -name __pycache__ -type d -exec rm -rf {} +
