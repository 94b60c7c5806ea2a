# A fresh machine needs Python 3.11 or newer (with venv), git and make. Everything else goes into .venv.
#
#   PYTHON=python3.12 make test     another interpreter for .venv
#   TORCH=cu128 make demo           another build of torch than the CPU's (see `uv pip install --torch-backend`)
#   WORKERS=4 make test             test processes at once

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench slow fuzz clean

PYTHON ?= python3
VENV ?= .venv
TORCH ?= cpu
# Each test may start a handful of processes of its own, so two at once keep several cores busy.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$(( cores < 2 ? cores : 2 )))

# Tests and the demo start dozens of interpreters. Where Python is told to keep no bytecode, each of them would
# compile torch and the rest again; seconds of processor time each.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
STAMP := $(VENV)/installed

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(STAMP) ## Sets up .venv (the other targets do it by themselves)

# Both pip and uv must take the CPU build of torch: the default build on Linux is gigabytes of CUDA.
# uv does not read pip's settings; where pip is told of a place that holds a torch wheel, that place is
# handed on, and otherwise uv is told to use PyTorch's own index of CPU wheels.
$(STAMP): pyproject.toml
	@if ! test -x $(BIN)/python; then \
		$(PYTHON) -c 'import sys; sys.exit("mpcpriv needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": set PYTHON") if sys.version_info < (3, 11) else None'; \
		$(PYTHON) -m venv $(VENV); \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@places=""; \
	for place in $${PIP_FIND_LINKS:-} $$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true); do \
		case $$place in \
			http://*|https://*) $(BIN)/python -c 'import sys, urllib.request; sys.exit(b"torch-" not in urllib.request.urlopen(sys.argv[1], timeout=20).read())' "$$place" 2>/dev/null || continue ;; \
			*) compgen -G "$${place#file://}/torch-*.whl" >/dev/null || continue ;; \
		esac; \
		case ",$$places," in *",$$place,"*) ;; *) places="$${places:+$$places,}$$place" ;; esac; \
	done; \
	if test "$(TORCH)" = cpu && test -n "$$places"; then \
		export UV_FIND_LINKS="$${UV_FIND_LINKS:+$$UV_FIND_LINKS,}$$places"; set --; \
	else \
		set -- --torch-backend=$(TORCH); \
	fi; \
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -e . --group dev "$$@"
	@touch $@

demo: $(STAMP) ## The main job, end to end, on real data
	$(BIN)/mpcpriv demo

test: lint ## Lint and the test suite (minutes)
	$(BIN)/pytest -n $(WORKERS) --dist=worksteal

lint: $(STAMP) ## Style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Every measurement in benchmarks/
	@shopt -s nullglob; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

fuzz: $(STAMP) ## A million inputs for every parser of bytes from outside (an hour on two cores)
	$(BIN)/python -m tests.fuzz --inputs 1000000 --processes $(WORKERS)

slow: $(STAMP) ## The tests that take long
	$(BIN)/pytest -n $(WORKERS) --dist=worksteal -m slow

clean: ## Removes .venv and every cache
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
