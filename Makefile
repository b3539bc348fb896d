# Each target works as the first command on a fresh clone with Python 3.11 or newer.
# To reuse an environment that has the package installed: make test VENV=/path/to/venv
PYTHON ?= python3
BIN = $(VENV)/bin

ifeq ($(origin VENV), undefined)
VENV := .venv
ENVIRONMENT := .venv/installed
endif

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-slow test-gpu check lint format typecheck bench bench-gpu clean

help:
	@echo "make demo       the whole way on emoji pictures (9 minutes on 2 free cores, more on busy ones)"
	@echo "make test       the tests"
	@echo "make test-slow  the tests that need minutes each (Debian: slurm-wlm munge for some)"
	@echo "make test-gpu   the tests that need a GPU: kernels, and copies made by both devices"
	@echo "make check      ruff and mypy"
	@echo "make docs       the documentation as a site: build/docs/site/index.html"
	@echo "make bench      measure speed on this machine (about 15 minutes on 2 cores)"
	@echo "make bench-gpu  the same on a GPU, with RN50 and ViT-B-32 at 224 px"
	@echo "make clean      remove what make made"

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into .venv: about 7 GB, minutes on a fast line; torch comes with its GPU libraries."
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check \
		-c constraints.txt -e '.[demo,s3,docs,dev]'
	touch $@

demo: $(ENVIRONMENT)
	$(BIN)/unlearnable demo --output demo

# Two processes: the tests need both cores of a small machine, and little more of a large one.
test: $(ENVIRONMENT)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test-slow: $(ENVIRONMENT)
	$(BIN)/python -m pytest -m "slow and not gpu" --timeout=7200

test-gpu: $(ENVIRONMENT)
	$(BIN)/python -m pytest -m "not slow" tests/kernels tests/pipeline/execution/test_devices.py

check: lint typecheck

lint: $(ENVIRONMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(ENVIRONMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy finds packages by folder names, so it is shown the package as installed, made of links.
typecheck: $(ENVIRONMENT)
	@mkdir -p .typecheck/unlearnable
	@cd .typecheck/unlearnable && \
		ln -sfn ../../jobs/api/*.py ../../pipeline ../../kernels ../../jobs .
	$(BIN)/mypy --package unlearnable

docs: $(ENVIRONMENT)
	$(BIN)/python docs/site/build.py

bench: $(ENVIRONMENT)
	$(BIN)/unlearnable bench --record docs/results/bench.csv --plot docs/results/bench.png

bench-gpu: $(ENVIRONMENT)
	for model in RN50 ViT-B-32; do \
		$(BIN)/unlearnable bench --device cuda --model $$model --only limit,io,photos \
			--samples 256 --record docs/results/bench-gpu.csv || exit 1; \
	done
	$(BIN)/unlearnable bench --device cuda --only kernels \
		--record docs/results/bench-gpu.csv --plot docs/results/bench-gpu.png

clean:
	rm -rf .venv .typecheck .mypy_cache .pytest_cache .ruff_cache build dist demo bench *.egg-info
