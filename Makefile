# Each target does its own set-up; a second run of it takes seconds.
PYTHON ?= python3
BIN := .venv/bin
PROJECTS := pyproject.toml core/pyproject.toml $(wildcard plugins/*/pyproject.toml)
PLUGINS := $(patsubst %/pyproject.toml,-e %,$(wildcard plugins/*/pyproject.toml))
# Runs a command with the rig's environment; fails where the rig is not up.
WITH_RIG = rig=$$($(PYTHON) -m tests.rig env) && eval "$$rig" &&
# The certificates of the machine, as pip uses them.
export UV_SYSTEM_CERTS = true

.PHONY: venv rig rig-all rig-early rig-down demo test check bench docs

venv: .venv/.installed

.venv/.installed: $(PROJECTS)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e 'core[conda,yaml]' $(PLUGINS) --group dev
	@touch $@

rig:
	@$(PYTHON) -m tests.rig up

# With the optional parts: linux/arm64 by emulation, and Cloud Native Buildpacks.
rig-all:
	@$(PYTHON) -m tests.rig up --with arm64 --with cnb

rig-down:
	@$(PYTHON) -m tests.rig down

demo: venv rig
ifeq ($(BUILDER),oci)
	@$(WITH_RIG) $(BIN)/python examples/hello/without_docker.py \
	  "$$($(BIN)/python -c 'from tests.rig import user; print(user.ordinary().name)')"
else
	@$(WITH_RIG) IMAGESMITH_BUILDER=$(BUILDER) $(BIN)/python examples/hello/demo.py
endif

# All of it but for the arm64 part, which goes on beside: the tests that use it wait.
rig-early:
	@$(PYTHON) -m tests.rig up --with arm64 --with cnb --no-wait

# Three tests run at a time, files as a whole and in their order: what they make has names of its own.
test: venv rig-early
	@$(WITH_RIG) $(BIN)/pytest --numprocesses=3 --dist=loadscope --no-loadscope-reorder $(PYTEST_ARGS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: venv
	$(BIN)/python docs/generate.py
	$(BIN)/imagesmith conformance --rules > docs/conformance.md
