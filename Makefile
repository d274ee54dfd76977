# Everything here works in a fresh clone with Python 3.11+, git and GNU make. Each target makes the environment
# it needs; nothing is installed outside the clone, and no database has to be running.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.installed
# On two cores, which they share with the server they test: each waits for a process or a database most of the time.
# On the same day 8,476 tests took 489 s in four processes, and 667 s in three.
JOBS    ?= 4
# The folder of another PostgreSQL's programs for the tests to run on, such as /usr/lib/postgresql/15/bin.
POSTGRES ?=
# What the type checker and the import checker see: `platform/` under the name it is imported by.
SOURCES := platform migrations tests benchmarks examples wsgi.py jobplatform_pytest.py

export PYTHONDONTWRITEBYTECODE := 1
ifneq ($(POSTGRES),)
export JOBPLATFORM_POSTGRES_PROGRAMS := $(POSTGRES)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo up test thorough pooled check lint types imports drift package chaos fuzz bench clean

help: ## What can be run
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(READY): pyproject.toml constraints.txt examples/tasks_service/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/react --requirement examples/tasks_service/requirements.txt
	@touch $@

demo: $(READY) ## Watch a sync run end to end: database, API, worker and a demo source
	@$(BIN)/jobplatform demo $(DEMO)

up: $(READY) ## Run database, API and worker until Ctrl-C
	@$(BIN)/jobplatform up $(UP)

test: $(READY) ## The tests, on an embedded PostgreSQL
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 10 -m 'not package and not thorough'

thorough: $(READY) ## Tests that take long, or have the same under other circumstances
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 10 -m thorough

pooled: $(READY) ## The tests that use the database, through PgBouncer (which has to be installed)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations 10 -m 'not package' --pooled

check: lint types imports drift package ## What CI asks beside the tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/python tests/packaging/typecheck.py

imports: $(READY)
	PYTHONPATH=.link:.link/alembic $(BIN)/lint-imports

drift: $(READY)
	$(BIN)/python -m pytest -q tests/models -k drift

package: $(READY)
	$(BIN)/python -m pytest -q -m package tests/packaging

fuzz: $(READY) ## Requests made from the OpenAPI document, until nothing is found
	$(BIN)/python tests/fuzz/run.py $(FUZZ)

chaos: $(READY) ## Kill workers, backends and the server while 10,000 jobs run, then count
	$(BIN)/python tests/chaos/run.py $(CHAOS)

bench: $(READY) ## Our numbers beside the peers'
	$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## Remove the environment and what the tools left
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/fuzz/.schemathesis .coverage*
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +
