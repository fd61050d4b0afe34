# Everything a developer or a CI job runs. `make` alone lists the targets.
#
# Variables (give them on the command line: `make unit ARGS=-k\ golden`):
#   VENV    the virtual environment, default .venv
#   PYTHON  the interpreter that makes it, default python3 (3.11 or newer)
#   ARGS    further arguments of the tool that a target runs (pytest, the demo, the benchmark)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
PYTEST := $(PY) -m pytest $(ARGS)
# Whole files side by side: fixtures start servers on ports of their own, once per process.
PARALLEL := --numprocesses 2 --dist loadfile
# Tests beside an API server mostly wait for it: 393 of them took 515 s of CPU, those servers' included.
WAITING := --numprocesses 4 --dist loadfile
# What failed runs once more, alone, and is named at the end of `make test`.
STAGE = $(PY) -m devtools.stage
CRD := llm-operator.dev_llmdeployments.yaml
SOURCES := operator devcluster devtools tests $(wildcard images)
# In the order in which they fail fastest; `make test` runs them all and says how long each took.
STAGES := prepare lint site unit chart engines web cluster-tests faults

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][-a-z0-9]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##### Environment

.PHONY: venv
venv: $(STAMP) ## Make the virtual environment from requirements-dev.lock

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make venv: $(PYTHON) is $$($(PYTHON) --version 2>&1), Python 3.11 or newer is needed: make venv PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { \
	  echo "make venv: python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@# The lock names every package; --no-deps keeps a resolver from having another opinion.
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(PY) --no-deps -r requirements-dev.lock && \
	  uv pip install --quiet --python $(PY) --no-deps -e .; \
	else \
	  $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock && \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $@

##### Generated files

.PHONY: generate
generate: venv ## Write the CRD, rules, dashboards and tables of reasons that are made from code
	$(PY) -m llm_operator.api.crd --write crds/
	cp crds/$(CRD) helm/llm-operator/files/$(CRD)
	$(PY) -m llm_operator.monitoring --write helm/llm-operator/files
	$(PY) -m llm_operator.reasons docs/status.md
	$(PY) -m devtools

.PHONY: lock
lock: venv ## Write the hashes of every pinned package into the locks
	$(PY) -m devtools.locks

.PHONY: fmt
fmt: venv ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

##### Checks

.PHONY: lint
lint: venv ## Style, types, layers, generated files, chart
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PY) -m llm_operator.api.crd --check crds/
	$(PY) -m llm_operator.monitoring --check helm/llm-operator/files
	@cmp crds/$(CRD) helm/llm-operator/files/$(CRD) || { echo "the chart's CRD is stale: make generate" >&2; exit 1; }

.PHONY: audit
audit: venv ## Known vulnerabilities of every locked package; SKIPPED where no database can be reached
	$(PY) -m devtools.audit

.PHONY: site
site: venv ## Build the documentation's site, strictly: a broken link ends it
	@$(PY) -m tests.engines.environments docs
	@rm -rf $(VENV)/site; $(PY) -m devtools.site $(VENV)/site/source
	@cp mkdocs.yml $(VENV)/site/mkdocs.yml
	@cd $(VENV)/site && printf 'docs_dir: source\nsite_dir: built\n' >> mkdocs.yml && \
	  NO_MKDOCS_2_WARNING=1 $$($(CURDIR)/$(PY) -c 'import sys; sys.path.insert(0, "$(CURDIR)"); from tests.engines.environments import docs_interpreter; print(docs_interpreter())') \
	  -m mkdocs build --strict --quiet
	@echo "the site: $(VENV)/site/built/index.html"

# Builds and downloads come before the tests: a test's time limit is for the test.
.PHONY: programs
programs: venv
	@$(PY) -m devcluster build

.PHONY: environments
environments: venv
	@$(PY) -m tests.engines.environments

.PHONY: prepare
prepare: venv ## Build what tests run, once: the cluster's programs, the engines' environments
	@$(MAKE) --no-print-directory --jobs 2 programs environments

.PHONY: unit
unit: venv ## Tests that need no server and no program but Python
	LLM_OPERATOR_PROGRAMS=no $(STAGE) unit $(ARGS) $(PARALLEL) -m "not programs" tests/unit

.PHONY: chart
chart: programs ## The chart, the examples and every documented command, with the real Helm, kubectl and kubeconform
	$(STAGE) chart $(ARGS) $(PARALLEL) -m programs tests/unit

.PHONY: coverage
coverage: venv ## Which code no unit test runs; fails below the floor in pyproject.toml
	@rm -rf .state/coverage; mkdir -p .state/coverage
	LLM_OPERATOR_PROGRAMS=no $(BIN)/coverage run -m pytest $(ARGS) $(PARALLEL) -m "not programs" tests/unit
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: mutants
mutants: venv ## Changes in one module that no test notices: ARGS="operator/llm_operator/x.py tests/unit/x"
	$(PY) -m devtools.mutants $(ARGS)

.PHONY: engines
engines: environments ## Rendered command lines against the engines' own argument parsers
	$(STAGE) engines $(ARGS) $(PARALLEL) --no-loadscope-reorder tests/engines

.PHONY: web
web: environments ## The chat page in a real browser, in front of a fake engine
	$(STAGE) web $(ARGS) tests/web

.PHONY: cluster-tests
cluster-tests: programs ## Tests against a real API server and etcd
	$(STAGE) cluster $(ARGS) $(WAITING) tests/cluster

.PHONY: faults
faults: programs ## Machines that search for faults: kills, a faulty API server, vandals; longer by ARGS=--long
	$(STAGE) faults $(ARGS) $(PARALLEL) tests/faults

.PHONY: e2e
e2e: venv ## Tests on the full node: real kubelet, real pods, real engines on the CPU
	@[ "$${LLM_OPERATOR_E2E_USE_EXISTING:-}" = 1 ] || $(PY) -m devcluster prepare
	$(STAGE) e2e $(ARGS) --capture=no --verbose tests/e2e

.PHONY: test
test: venv ## All of the above, with the time of each; e2e, which mostly waits, beside the others
	@log=$$(mktemp); verdict=passed; \
	time_of() { \
	  local start=$$SECONDS word=passed; \
	  $(MAKE) --no-print-directory $$1 || word=FAILED; \
	  printf '%-14s %-7s %5d s\n' $$1 $$word $$((SECONDS - start)) >> $$log.report; \
	  [ $$word = passed ]; \
	}; \
	: > $$log.report; \
	time_of e2e > $$log 2>&1 < /dev/null & beside=$$!; \
	for stage in $(STAGES); do \
	  echo "== $$stage"; time_of $$stage || { verdict=FAILED; break; }; \
	done; \
	echo "== e2e (it runs since the beginning; what it says comes when it ends)"; \
	while kill -0 $$beside 2>/dev/null; do sleep 1; (( SECONDS % 60 )) || echo "    $$SECONDS s: $$(tail -n 1 $$log | cut -c 1-150)"; done; \
	wait $$beside || verdict=FAILED; \
	cat $$log; printf '\n'; cat $$log.report; $(STAGE) --flaky; printf '%-14s %-7s %5d s\n' all $$verdict $$SECONDS; \
	rm -f $$log $$log.report; [ $$verdict = passed ]

##### The development cluster

.PHONY: cluster
cluster: venv ## A Kubernetes node on this machine (root; nothing else is needed)
	$(PY) -m devcluster up $(ARGS)

.PHONY: cluster-down
cluster-down: venv ## Remove it and whatever it left behind
	$(PY) -m devcluster down $(ARGS)

.PHONY: images
images: venv ## Build the images and bring them into the node
	$(PY) -m devcluster images $(ARGS)

.PHONY: demo
demo: venv ## From nothing to an answer of both engines: cluster, images, chart, examples
	$(PY) -m devcluster demo $(ARGS)

.PHONY: run
run: venv ## The operator from this tree against the current kubeconfig; ARGS="--namespace team" narrows it
	$(PY) -m llm_operator --no-leader-elect --log-format text $(ARGS)

.PHONY: bench
bench: venv ## Reconcile N objects against the real API server, beside a bare client
	$(PY) -m tests.bench.reconcile $(ARGS)
