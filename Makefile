PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: setup demo test test-long lint format

setup: $(READY)

# A first small fit has Numba compile its loops, which keeps the machine code: no later fit waits for that.
$(READY): requirements.txt requirements-dev.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements-dev.txt
	presets/instant.sh --num_points 400000 --epochs 1 --reconstructionRes 32 --showVis 0 --overwrite 1 --outputDir $(VENV)/compiled > $(VENV)/compiled.log 2>&1
	touch $@

demo: $(READY)
	presets/demo.sh

test: $(READY)
	$(RUN) -m pytest

test-long: $(READY)
	$(RUN) -m pytest -m long

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Each benchmark prints the machine and ratios taken in one run: make bench-labels, bench-fit, bench-march, ...
bench-%: $(READY)
	$(RUN) benchmarks/$*.py $(ARGS)
