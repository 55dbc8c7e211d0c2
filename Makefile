# make demo: set up, run the whole bench on the embedded digits. make test: lint, types, tests. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test test-avx2 test-sse2 parity fuzz chaos bench gpu format clean

# The stamp files say what is installed; they are made again when the project's dependencies change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	# by itself: it asks for an old requests and for torchvision, and uses neither
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps torchattacks
	touch $@

demo: $(VENV)/.installed
	$(BIN)/bangbench reproduce demo --root $(DEMO)

# One more than there are cores: some tests wait for other processes.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal
	$(MAKE) test-avx2 test-sse2

# The tests that every number rests on, once more as on a processor without AVX-512, and as on one without AVX. torch,
# oneDNN, MKL, numba and OpenCV each choose their instructions, and each has a variable that limits the choice.
EXACT = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto -m exact $$(grep -rl --include='*.py' mark.exact tests)

test-avx2: $(VENV)/.installed-test
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 NUMBA_CPU_NAME=generic \
		OPENCV_CPU_DISABLE=AVX512-SKX $(EXACT)

test-sse2: $(VENV)/.installed-test
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE NUMBA_CPU_NAME=generic \
		OPENCV_CPU_DISABLE=AVX512-SKX,AVX2,FMA3,FP16,AVX $(EXACT)

parity: $(VENV)/.installed-test
	$(BIN)/pytest -m parity

# Damaged and hostile inputs for every reader (docs/reliability.md); 300 of them are in make test.
SEED ?= 0
fuzz: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/campaign.py --inputs 5000 --seed $(SEED)

# Commands that are killed, starved of disk, or robbed of what they wrote last; 20 of them are in make test.
chaos: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fault/chaos.py --rounds 200 --seed $(SEED)

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[peers]'
	touch $@

# On a machine with a card, with whatever Python has torch and bangbench's other requirements: nothing is installed.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:
	$(GPU_PYTHON) -m pytest -m gpu -p no:cacheprovider
	$(GPU_PYTHON) -m benchmarks.gpu --out gpu.json

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

# The site, in docs/_build/html: nothing is fetched, and every warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs docs/_build/html

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) build dist docs/_build docs/_generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
