# Everything a person or a machine needs: make demo, make test, make check, make bench, make bench-large,
# make clean.
# PYTHON=/path/to/python3.12 chooses the interpreter; otherwise the first suitable one on the PATH is taken.

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_VIRTUALENV= $(RUN) pip install -qq --no-input -c constraints.txt
PINS := pyproject.toml constraints.txt
KERNELS := $(shell grep -rl --include='*.py' njit src)

# A checkout that was moved needs its environment anew: paths are written into it.
ifneq ($(shell cat $(VENV)/made-in 2>/dev/null),$(CURDIR))
  STALE := stale
endif

.PHONY: help demo test check lint types floors docs bench bench-large clean stale
.DELETE_ON_ERROR:

help:
	@echo 'make demo    simulate a small night, run the main job on it, say where the movie is'
	@echo 'make test    all tests'
	@echo 'make check   lint, types, floors, docs'
	@echo 'make bench   speed, beside the peers'
	@echo 'make bench-large   what is found in many simulated nights; half an hour'
	@echo 'make clean   remove what these made'

demo: $(VENV)/with-base $(VENV)/kernels
	@$(RUN) difflapse demo -o difflapse-demo

test: $(VENV)/with-dev $(VENV)/kernels
	@$(RUN) pytest -q -n auto --dist loadfile $(ARGS)

check: lint types floors docs

lint: $(VENV)/with-dev
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: $(VENV)/with-dev
	@$(RUN) mypy

floors: $(VENV)/with-dev
	@$(BIN)/python -c 'from importlinter.cli import lint_imports; raise SystemExit(lint_imports())'

docs: $(VENV)/with-dev
	@$(RUN) pytest -q tests/house/test_docs.py

bench: $(VENV)/with-bench $(VENV)/kernels
	@$(RUN) compileall -q src
	@$(BIN)/python benchmarks/run.py $(ARGS)

# Half an hour on two quiet cores, and 4 GB of disk: 28 nights, each removed when it is scored. Interrupt it and go on as you like.
bench-large: $(VENV)/with-bench $(VENV)/kernels
	@$(BIN)/python benchmarks/changes_many.py difflapse-bench --figures docs/images $(ARGS)

clean:
	rm -rf $(VENV) difflapse-demo difflapse-bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. Each stamp stands until the pins change.

$(VENV)/with-base: $(VENV)/made-in $(PINS)
	@echo 'installing difflapse into $(VENV) ...'
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e .
	@$(RUN) compileall -q src
	@echo 'compiling its fast parts, once ...'
	@$(RUN) difflapse demo -o $(VENV)/first-demo --frames 6 --quiet && rm -rf $(VENV)/first-demo
	@touch $@

$(VENV)/with-dev: $(VENV)/with-base
	@echo 'installing what tests and checks need ...'
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

$(VENV)/with-bench: $(VENV)/with-dev
	@echo 'installing the peers to compare with ...'
	@$(PIP) --no-build-isolation -e '.[dev,bench]'
	@touch $@

# numba looks for changes in a kernel's own file only, and takes over what kernels of other files were.
$(VENV)/kernels: $(KERNELS) | $(VENV)/with-base
	@if [ -e $@ ]; then find src -name '*.nb[ci]' -delete; fi
	@touch $@

# A candidate counts only if it runs, is of a supported version, and can make an environment that has pip.
$(VENV)/made-in: $(STALE)
	@found=''; \
	if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; \
	else set -- python3.13 python3.12 python3.11 python3 python; fi; \
	for python do \
	  if version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then \
	    case $$version in \
	      3.11|3.12|3.13) \
	        if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	          echo "making $(VENV) with $$(command -v "$$python") ($$version)"; \
	          rm -rf $(VENV); "$$python" -m venv $(VENV) && printf '%s\n' '$(CURDIR)' > $@ && exit 0; exit 1; \
	        fi; \
	        version="$$version without its venv module";; \
	    esac; \
	    found="$$found$${found:+, }$$python ($$version)"; \
	  fi; \
	done; \
	echo "difflapse: found $${found:-no Python that runs}; needed Python 3.11, 3.12 or 3.13 with venv." \
	  'Try: install one, or make PYTHON=/path/to/python3.12' >&2; \
	exit 1
