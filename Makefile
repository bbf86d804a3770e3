# `make` shows the targets. All of them use .venv, which `make venv` makes with python3 (3.11 to 3.13).

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
LENGTH ?= 7.5
# for 3.11 to 3.13 and every platform, with hashes, and without the name of any index
LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help venv run test lint format format-check types imports bench soak lock image

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Maserver needs Python 3.11 to 3.13: make PYTHON=python3.13 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

venv: .venv/installed ## make .venv with all that the other targets need

run: venv ## record without Docker; ARGS=--sim records a simulated exchange
	$(BIN)/python main.py $(ARGS)

test: venv ## run the tests, five at a time (most of them wait); ARGS="-k config" runs some
	$(BIN)/python -m pytest -n 5 --dist loadfile $(ARGS)

lint: format-check types imports ## check style, types and who imports whom

format: venv ## write the code in the house's style
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

format-check: venv
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: venv ## check the types
	$(BIN)/mypy

imports: venv ## check who imports whom
	$(BIN)/lint-imports

bench: venv ## measure; nothing passes or fails
	$(BIN)/python -m tests.bench $(ARGS)

soak: venv ## run the simulations at full length; writes docs/reliability.md (about half an hour)
	MASERVER_TEST_LENGTH=$(LENGTH) $(BIN)/python -m pytest tests/sims -n 5 --dist loadfile --reliability docs/reliability.md $(ARGS)

lock: venv ## resolve requirements/*.txt anew from pyproject.toml; ARGS=--upgrade takes newer versions
	$(LOCK) --output-file requirements/run.txt && $(LOCK) --extra dev --constraint requirements/run.txt --output-file requirements/dev.txt

image: ## build the image of the services
	docker compose build
