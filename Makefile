# Every target that needs the virtual environment makes it, and remakes it when setup.cfg changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Most tests wait for most of their time, so several run at once.
JOBS ?= 2
# What `make chaos` does; the same seed, the same faults.
SEED ?= 1
QUESTIONS ?= 800
ENGINE ?= sqlite
# Where `make install` puts the program; with DESTDIR, for packagers, below that.
# Empty: as at the last installation; at the first, /opt/chatrelaybot and postgres.
PREFIX ?=
DESTDIR ?=
EXTRAS ?=

# With mounts of its own, which the kernel takes away with it, whatever ends it.
APART = $$(unshare --mount true 2>/dev/null && echo unshare --mount)

# ruff does not read setup.cfg, so its settings are these flags.
RUFF_STYLE := --line-length 100 --target-version py311
RUFF_RULES := --select A,ARG,B,BLE,C4,C90,DTZ,E,ERA,F,G,I,ISC,LOG,N,PERF,PGH,PIE,PT,PTH,RET,RUF,S,SIM,SLOT,T20,TID,UP,W \
	--config 'lint.mccabe.max-complexity=10' \
	--per-file-ignores 'tests/*:S101' \
	--per-file-ignores 'tests/*:S105' \
	--per-file-ignores 'tests/*:S106' \
	--ignore ISC001 --ignore N818 --ignore S311 \
	--ignore RUF001 --ignore RUF002 --ignore RUF003
# S101, S105, S106 in tests: asserts and made-up tokens are what tests are made of.
# ISC001 conflicts with the formatter. N818: error names such as LeaseLost say what happened.
# S311: jitter needs no cryptographic randomness. RUF001-RUF003: the project writes … and – on purpose.

.DEFAULT_GOAL := help
.PHONY: help venv demo manifest doctor run install uninstall test test-systemd check format chaos bench bench-quick trace-picture clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## make the virtual environment (.venv)

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	@echo "Making $(VENV); this takes half a minute."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[dev]' # setuptools warns of every editable install
	@touch $(READY)

# The question goes to the shell by way of the environment, where no character of it means anything.
override ASK := $(value ASK)
export ASK

demo: $(READY) ## the bot in a local workspace, no Slack account; ASK="…" asks one question and exits
	@$(BIN)/chatrelaybot playground $${ASK:+"--ask=$$ASK"}

manifest: $(READY) ## the Slack app's manifest, to make the app of; ARGS="--name …"
	@$(BIN)/chatrelaybot manifest $(ARGS)

doctor: $(READY) ## check settings, tokens, scopes, link, backend, and say how to mend them; ARGS="--ask --send"
	@$(BIN)/chatrelaybot doctor $(ARGS)

run: $(READY) ## the daemon, with the settings of the environment and .env
	$(BIN)/chatrelaybot run

install: ## as a service of systemd, or its upgrade; as root; PREFIX=… DESTDIR=… EXTRAS=postgres,grpc
	@PYTHON="$(PYTHON)" PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" EXTRAS="$(EXTRAS)" systemd/install install

uninstall: ## remove what install has put there; settings, secrets and the inbox stay
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/install uninstall

test: $(READY) ## the whole test suite, with coverage
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term --cov-fail-under=95

test-systemd: $(READY) ## the service under a real systemd, in a container of this machine; as root
	$(APART) $(BIN)/python -m pytest -o python_files='checks_*.py' tests/systemd

chaos: $(READY) ## kill, freeze and cut off the bot, and count; SEED=n QUESTIONS=n ENGINE=sqlite or postgres
	$(BIN)/python -m tests.chaos --seed $(SEED) --questions $(QUESTIONS) --engine $(ENGINE) $(ARGS)

bench: $(READY) ## how near the daemon is to what Slack permits, into build/bench.json; ARGS="--only 1,9"
	$(BIN)/python -m tests.bench --json build/bench.json $(ARGS)

bench-quick: $(READY) ## the same in two minutes: whether all texts are right, and about how fast
	$(BIN)/python -m tests.bench --quick $(ARGS)

trace-picture: $(READY) ## draw docs/trace.svg anew, of what two real processes have exported
	$(BIN)/python -m tests.trace_example docs/trace.svg

check: $(READY) ## format, lint and types
	$(BIN)/ruff format --check $(RUFF_STYLE) chatrelaybot tests
	$(BIN)/ruff check $(RUFF_STYLE) $(RUFF_RULES) chatrelaybot tests
	$(BIN)/mypy

format: $(READY) ## put the code into the project's format
	$(BIN)/ruff format $(RUFF_STYLE) chatrelaybot tests
	$(BIN)/ruff check --fix $(RUFF_STYLE) $(RUFF_RULES) chatrelaybot tests

clean: ## remove what was built and cached
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
	find chatrelaybot tests -name __pycache__ -prune -exec rm -rf {} +
