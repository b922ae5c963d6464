# Two commands for a fresh machine with Python 3.11 or newer, git and make:
#   make reproduce    set up .venv from the locks, make the nano scale, name the report
#   make test         the tests
# Another Python: make PYTHON=python3.12 reproduce. How to get torch's smaller CPU build: see `.venv` below.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := $(PIP) install -qq --require-hashes --no-deps -r
SOURCES := dart analysis tests envs profiles

.PHONY: reproduce test test-gpu vllm-test slurm-test bench bench-gpu envs lint lock clean
.NOTPARALLEL:

reproduce: .venv
	$(BIN)/snakemake

test: .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# What needs a GPU, and says so where there is none.
test-gpu: .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gpu -rs tests/gpu

# The engine vLLM, in an environment of its own that is removed after: minutes and 4 GB.
vllm-test:
	PYTHON=$(PYTHON) tests/vllm_env.sh

# Wall time, time to the first figure and share of overhead of the nano run (makes it first if it is not there).
bench: .venv
	$(BIN)/snakemake
	$(BIN)/python -m dart.overhead results/nano

# Speed of mapper RL, scoring and SFT at the true size, on one GPU: docs/gpu.md.
bench-gpu: .venv
	$(BIN)/python -m dart.bench_gpu

lint: .venv
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

# The environment. On Linux the package index has torch's CUDA build only, with several GB of libraries that it cannot be
# imported without. A machine without a GPU is better served by the CPU build: give pip the extra index that PyTorch's
# "Get started" page shows for the compute platform CPU, as in `PIP_EXTRA_INDEX_URL=... make reproduce`. Where pip is
# offered that build it is installed; elsewhere (macOS needs no choice) the index's build, with its libraries if need be.
# The environment counts as made once `installed` is there, which is written last.
.venv: .venv/installed

.venv/installed: envs/dart.lock envs/cuda.lock envs/torch-cpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "Setting up .venv: some 170 packages, one to three minutes, or more where torch is the CUDA build."
	$(PYTHON) -m venv .venv
	$(LOCKED) envs/torch-cpu.lock 2> /dev/null || echo "No CPU build of torch on offer: taking the package index's."
	$(LOCKED) envs/dart.lock
	$(BIN)/python -c 'import torch' 2> /dev/null || $(LOCKED) envs/cuda.lock
	$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import torch'
	@touch $@

# What a cluster takes instead of .venv: Snakemake and the analysis (.venv-flow), and the stages with vLLM on GPUs
# (.venv-gpu: Linux on x86-64, Python 3.11 or 3.12, 9 GB). With conda, `--sdm conda` makes the same from envs/*.yaml.
envs: .venv-flow .venv-gpu

.venv-%: .venv-%/installed ;

.PRECIOUS: .venv-%/installed
.venv-%/installed: envs/%.lock pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install -qq --require-hashes --no-deps -r $<
	.venv-$*/bin/python -m pip --disable-pip-version-check install -qq --no-deps --no-build-isolation --editable .
	@touch $@

# The workflow on a real Slurm, which the tests start in a folder of their own; minutes. The packages are Debian's, and
# none of their services is started.
slurm-test: .venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm -rs tests/slurm

# Locks for what envs/*.in have changed, other versions kept (`python envs/lock.py --upgrade` takes new ones); needs uv.
lock:
	$(PYTHON) envs/lock.py

clean:
	rm -rf .venv .venv-* .snakemake .pytest_cache .ruff_cache .mypy_cache *.egg-info results/nano results/smoke results/rehearsal results/slurm_logs
