# The two commands that matter: `make run` and `make test`. `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# One more than there are cores: some tests mostly wait, for processes to start or for a time to be over.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
# The order in which tests are given out is tests/servers.py's.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
POSTGRES_15 := /usr/lib/postgresql/15/bin

# Settings for tools that read portal.settings but talk to nothing: production's, as far as that goes.
TOOLS := SECRET_KEY=$(shell printf 'tools-only-%.0s' 1 2 3 4 5 6) BASE_URL=https://daypass.example.com \
	DATABASE_URL=postgres://app:none@127.0.0.1:9/none REDIS_URL=redis://127.0.0.1:9/0 DEBUG=0 PYTHONWARNINGS=ignore

.DEFAULT_GOAL := help
.PHONY: help run watch reset test suite test-pg15 bench bench-mint bench-verbs bench-pages bench-scale bench-new-passwords chaos \
	prove faketime lint programs lock install

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(BIN)/installed  ## start Daypass with everything it needs, on http://localhost:8000
	@exec $(BIN)/python -m sandbox.run

watch: $(BIN)/installed  ## while `make run` runs: ask for a minute, get keys, and watch AWS end them at their second
	@$(BIN)/python -m sandbox.watch

reset: $(BIN)/installed  ## forget what `make run` keeps in .run
	@$(BIN)/python -m sandbox.run reset

# Lint beside the tests: one core each is idle now and then.
test: $(BIN)/installed programs  ## everything that must hold: lint, types, migrations, the whole suite
	@$(MAKE) --no-print-directory -j 2 lint suite

# What our own SQL decides, and how it is found; the rest says the same on every PostgreSQL, and so does how many
# statements we make. All of it: POSTGRES_BIN=…
IN_SQL := $(foreach about,catalog deciders edits guards guards_of_terms installed invariants moments normal_form races reach rights scale stuck sweeps,tests/domain/test_$(about).py)
ON_15 := POSTGRES_BIN=$(POSTGRES_15) $(PYTEST) -k "not as_many_statements" $(IN_SQL)

# Both, whatever becomes of the first; the whole suite last, so that its closing lines are the last ones.
suite:
	@failed=0; \
	if test -x $(POSTGRES_15)/postgres; then $(ON_15) || failed=1; \
	else echo "Left out: PostgreSQL 15 is not installed in $(POSTGRES_15)."; fi; \
	$(PYTEST) --durations=30 || failed=1; \
	exit $$failed

test-pg15: $(BIN)/installed  ## the tests that lean on the database, on Debian's PostgreSQL 15
	$(ON_15)

# Each says what else it takes: CHECKOUT=, OTHER=, ONLY=, SECONDS=, REQUESTS=, EVENTS=.
bench: bench-mint bench-verbs bench-pages bench-scale  ## everything beside its floor, a quarter of an hour; see bench/README.md

bench-mint: $(BIN)/installed  ## what a mint costs, how long keys take, how many a second; writes bench/mint.md
	$(BIN)/python -m bench.mint

bench-verbs: $(BIN)/installed  ## what asking and approving cost; writes bench/verbs.md
	$(BIN)/python -m bench.verbs

bench-pages: $(BIN)/installed  ## pages, their growth, and sweeps; writes bench/pages.md
	$(BIN)/python -m bench.pages

bench-scale: $(BIN)/installed  ## by which plans, with much of everything (REQUESTS= EVENTS=); writes bench/scale.md
	$(BIN)/python -m bench.scale

bench-new-passwords: $(BIN)/installed  ## whether an answer's time tells which addresses are known; writes bench/new_passwords.md
	$(BIN)/python -m bench.new_passwords

chaos: $(BIN)/installed faketime  ## everything broken on purpose, three quarters of an hour; writes bench/chaos.md (SECONDS= ONLY= SEED=)
	SECONDS=$(SECONDS) ONLY="$(ONLY)" SEED=$(SEED) $(BIN)/python -m tests.chaos

prove: $(BIN)/installed  ## ask AWS itself what only it can answer (PROFILE= REGION=); see docs/operations.md
	@$(TOOLS) $(BIN)/python manage.py prove $(if $(PROFILE),--profile "$(PROFILE)") $(if $(REGION),--region "$(REGION)")

faketime:
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq >/dev/null 2>&1 \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends libfaketime >/dev/null 2>&1; } \
		|| echo "Left out: clocks set apart, for Debian's libfaketime is not installed."

lint: $(BIN)/installed  ## style of code and templates, types, forgotten migrations, production settings
	@echo "ruff check" && $(BIN)/ruff check --quiet
	@echo "ruff format --check" && $(BIN)/ruff format --check --quiet
	@echo "djlint --lint" && $(BIN)/djlint templates --lint --quiet
	@echo "djlint --check" && $(BIN)/djlint templates --check --quiet
	@echo "mypy" && $(TOOLS) $(BIN)/mypy
	@echo "manage.py makemigrations --check" && $(TOOLS) $(BIN)/python manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy" && $(TOOLS) $(BIN)/python manage.py check --deploy --fail-level WARNING

# What tests need from Debian and no wheel carries.
programs:
	@for program in chromium nginx zsh fish; do \
		command -v $$program >/dev/null || test -x /usr/sbin/$$program && continue; \
		if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
			echo "Installing Debian's $$program for the tests."; \
			package=$$program; test $$program = nginx && package=nginx-light; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $$package; } \
				>/dev/null 2>&1 || true; \
		fi; \
		command -v $$program >/dev/null || test -x /usr/sbin/$$program || echo "Left out: its tests, for there is no $$program."; \
	done

lock: $(BIN)/installed  ## compile the requirements files from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group sandbox --group test --generate-hashes --python-version 3.11 \
		-o requirements-dev.txt
	$(BIN)/uv pip compile pyproject.toml -c requirements-dev.txt --generate-hashes --python-version 3.11 \
		-o requirements.txt
	$(BIN)/uv pip compile --group stand-in --generate-hashes --python-version 3.11 -o requirements-aws.txt
	echo uv | $(BIN)/uv pip compile - --generate-hashes --python-version 3.11 -o requirements-uv.txt

install: $(BIN)/installed  ## the virtual environment with exactly what requirements-dev.txt says

$(BIN)/installed: requirements-dev.txt requirements-aws.txt requirements-uv.txt
	@echo "Installing what requirements-dev.txt says into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		-r requirements-dev.txt
	@test -x .venv/aws/bin/python || $(BIN)/python -m venv --without-pip .venv/aws
	@$(BIN)/uv pip install --quiet --compile-bytecode --python .venv/aws/bin/python --require-hashes \
		-r requirements-aws.txt
	@touch $@
