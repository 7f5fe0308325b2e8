# The newest Python that is there and fits; name another with make PYTHON=...
FITTING = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c "$(FITTING)" 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: setup demo picture test test-long fuzz lint format

setup: $(READY)

# A first small fit has Numba compile its loops and keep the machine code: no later fit waits for that.
# Its earlier result goes first, as a poor fit never replaces a better one.
$(READY): requirements.txt requirements-dev.txt requirements-export.txt
	@test -x $(RUN) || test -n "$(PYTHON)" || { echo "make: needs Python 3.11, 3.12 or 3.13; name one with make PYTHON=..." >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt -r requirements-dev.txt -r requirements-export.txt
	rm -rf $(VENV)/compiled
	presets/instant.sh --num_points 400000 --epochs 1 --reconstructionRes 32 --showVis 0 --overwrite 1 --outputDir $(VENV)/compiled > $(VENV)/compiled.log 2>&1
	touch $@

# Fits the impeller by both recipes, the hash grid in seconds and then the DAM network, and compares them.
demo: $(READY)
	presets/demo.sh

# The picture of the README: the impeller, its network, a section of it.
picture: $(READY)
	presets/instant.sh --showVis 0 --outputDir results/picture
	$(RUN) -m docs.make_picture results/picture/impeller.safetensors data/impeller/impeller.stl

# The 200 generated parts. Made under another name first, so that a stopped run leaves no half-made folder.
data/geometry_200: | $(READY)
	$(RUN) data/make_geometry_200.py --out $@.new
	mv $@.new $@

# Two processes share the tests; each begins with a half of its own, so what the tests of a file have in common is made once.
test: $(READY)
	$(RUN) -m pytest -n 2 --dist worksteal

test-long: $(READY)
	$(RUN) -m pytest -m long

# Damaged and hostile files of every format: make fuzz ARGS="--count 10000 --seed 1 --kinds ply glb"
fuzz: $(READY)
	$(RUN) -m tests.fuzz $(ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Each benchmark prints the machine and ratios taken in one run: make bench-labels, bench-fit, bench-march, ...
bench-%: $(READY)
	$(RUN) benchmarks/$*.py $(ARGS)
