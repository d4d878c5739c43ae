# MusicGen Workbench. `make` alone tells what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

# Each kernel and server would compile torch and transformers again (10 s each) where no bytecode may be written.
unexport PYTHONDONTWRITEBYTECODE

# Where pip has been given local wheels, uv is told of them and torch is the pinned one; elsewhere uv picks the
# build of torch that fits the machine (CPU or CUDA). Say TORCH="torch==2.13.0+cu130" or the like to choose yourself.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
ifneq ($(strip $(PIP_FIND_LINKS)),)
TORCH ?= torch==2.13.0
else
TORCH ?= torch --torch-backend=auto
endif
export TORCH

VERIFY := processors laws shapes figures fuzz dependencies wheel
# The laws that compare numbers of the model, which another processor may round otherwise.
LAWS := $(wildcard tests/*/test_*laws.py) tests/generation/test_generate.py tests/generation/test_continue.py tests/generation/test_long.py \
	tests/model/test_capture.py tests/model/test_capture_sources.py tests/steering/test_operations.py tests/generation/test_steered_sites.py
RECIPE := PYTHONPATH=data/embedded $(BIN)/python -m recipe
.PHONY: help lab app demo docs test verify $(VERIFY:%=verify-%) check browser clean
.PHONY: embedded evaluate-embedded evaluate-steering evidence

help: ## Show this list
	@grep -E '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 22

lab: $(VENV)/installed ## Set everything up and open JupyterLab on the quickstart notebook
	$(BIN)/workbench lab

app: $(VENV)/installed ## Set everything up and open just the interactive pages, code hidden (Voila)
	$(BIN)/workbench app

demo: $(VENV)/installed ## Run the main job without a browser; writes out/demo/index.html
	$(BIN)/workbench demo --out out/demo

test: $(VENV)/installed-test browser check ## Set everything up, check style and types, run all tests
	$(BIN)/python -m pytest -m "not long and not browser"
	$(BIN)/python -m pytest -m "browser and not long"
	ATEN_CPU_CAPABILITY=default $(BIN)/python -m pytest -n 2 -m "not long" -k test_law $(LAWS)

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

verify: $(VERIFY:%=verify-%) ## Run all long checks, part by part; parts that were run on this code are skipped

# Each part takes at most an hour on two threads. It continues where it was stopped, and dates what it found in
# docs/verified.md; the figures date themselves.
verify-processors: $(VENV)/installed-test ## Run the quick tests with other vector units and other numbers of threads
verify-laws: $(VENV)/installed-test browser ## Run the tests that are marked `long`
verify-shapes: $(VENV)/installed-test ## Load, read, steer and continue every published shape, with random weights (20 GB of memory)
verify-figures: $(VENV)/installed-test ## Measure the built-in model and the steering engine; writes docs/ and the card
verify-fuzz: $(VENV)/installed-test ## Feed 20,000 new cases of damaged text, tables, sound and files to the readers
verify-dependencies: $(VENV)/installed-test ## Run the laws on the lowest and the highest dependencies that are allowed
verify-wheel: $(VENV)/installed-test ## Install the package without a clone, three ways, and run its demo
$(VERIFY:%=verify-%):
	$(BIN)/python tests/verify.py $(@:verify-%=%)

embedded: $(VENV)/installed ## Make the built-in music and model again, from nothing (hours; needs soundfonts)
	$(UV) --no-deps "tinysoundfont>=0.3.7,<0.4"
	$(RECIPE) build

evaluate-embedded: $(VENV)/installed ## Measure the built-in model (LISTENER="..." has outside ears beside the judge)
	$(RECIPE) evaluate $(if $(LISTENER),--listener "$(LISTENER)")

evaluate-steering: $(VENV)/installed ## Measure what the steering engine does with the built-in model
	$(RECIPE) steering

evidence: $(VENV)/installed ## Measure whether steering is real (40 minutes); writes out/evidence/index.html and docs/results.md
	$(RECIPE) evidence

DOCUMENTED := sound activations model steering probing probing.diagnosis generation evidence show.plots show.widgets
docs: $(VENV)/installed ## Write the reference of all modules as pages; open out/docs/index.html
	$(UV) -e ".[docs]"
	$(BIN)/python -m pdoc --docformat google -o out/docs workbench $(DOCUMENTED:%=workbench.%)

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build out *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/installed: pyproject.toml | $(BIN)/uv
	$(UV) $(TORCH)
	$(UV) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(UV) -e ".[test]"
	touch $@

# Browser tests drive a system Chromium where there is one, else Debian's (as root), else Playwright's own.
browser: $(VENV)/installed-test
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	|| $(BIN)/playwright install chromium \
	|| echo "No browser could be installed: browser tests will be skipped (on CI they fail)."
