# Two commands for people (demo, test), three for the house (lint, test-fast, bench). Each makes what it needs.
# make bench DATA=folder-in-the-Kaggle-layout [MODEL=bundle]
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
STAMP  := $(VENV)/.installed

.PHONY: demo test test-fast lint bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "btc-ray needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade-strategy only-if-needed -e '.[cpu,s3,dev]'
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

clean:
	rm -rf $(VENV) demo-output
