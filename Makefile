# Two commands for people (demo, test), four for the house (lint, test-fast, bench, lock). Each makes what it needs.
# make bench DATA=folder-in-the-Kaggle-layout [MODEL=bundle]
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
STAMP  := $(VENV)/.installed

.PHONY: demo test test-fast lint bench lock clean

$(STAMP): pyproject.toml locks/make.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "btc-ray needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r locks/make.txt
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)
	$(VENV)/bin/btc-ray demo --output demo-output

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What starts neither Ray nor a browser nor a store.
test-fast: $(STAMP)
	$(VENV)/bin/python -m pytest -m 'not ray and not slow' --ignore tests/integration -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(STAMP)
	$(VENV)/bin/python -m benchmarks --data "$(DATA)" $(if $(MODEL),--model "$(MODEL)")

# What is installed, with the hashes of every platform's files; pins stay as they are unless `make lock UPGRADE=--upgrade`. Needs uv.
COMPILE := uv pip compile pyproject.toml locks/build.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
IMAGE   := --extra s3 --extra gcs --extra azure --extra sign --extra cluster --constraint cluster/constraints.txt
OF_CUDA  = $(shell sed -n 's/^\(\(nvidia\|cuda\|triton\|torch\)[^=]*\)==.*/--no-emit-package \1/p' locks/image-cuda.txt)
lock:
	$(COMPILE) $(UPGRADE) --extra cpu --extra s3 --extra dev --output-file locks/make.txt
	$(COMPILE) $(UPGRADE) $(IMAGE) --output-file locks/image-cuda.txt
	$(COMPILE) $(UPGRADE) $(IMAGE) $(OF_CUDA) --output-file locks/image-cpu.txt

clean:
	rm -rf $(VENV) demo-output
