# Two commands for a newcomer: `make demo` and `make test`. Each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= excavators
OUT ?= runs/demo
ARGS ?=
RUNS ?= 10000000
SEED ?= 1
BROKER ?= mosquitto
MQTT ?= 5
LIMIT_BYTES ?= 4096
SUITE ?= bookworm

.PHONY: help demo test test-slow test-arm64 test-vm fuzz kill-matrix kill-matrices lint clean

help:
	@echo "make demo                     the main job, end to end (about 4 minutes)"
	@echo "make demo DATA=20newsgroups   the same on 20 Newsgroups (about 20 minutes)"
	@echo "make demo ARGS='--rounds 3'   any option of 'rankfleet demo --help'"
	@echo "make test                     linters, types, import rules and tests"
	@echo "make test-slow                the tests that take minutes each"
	@echo "make test-arm64 SUITE=trixie  the installer in a Debian for arm64, emulated (root, debootstrap, qemu-user-static)"
	@echo "make test-vm                  the agent under systemd, in a virtual machine (one of the slow tests; root)"
	@echo "make fuzz RUNS=1000000        fuzz every decoder (Linux on x86-64; RUNS is 10 million by default)"
	@echo "make kill-matrix BROKER=mosquitto MQTT=3.1.1 LIMIT_BYTES=131072   kill everybody everywhere, on one broker"
	@echo "make kill-matrices            the same on every broker, protocol and limit (about an hour)"
	@echo "make clean                    remove the virtual environment and caches"

demo: $(VENV)/ready
	$(BIN)/rankfleet demo --data $(DATA) --out $(OUT) $(ARGS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

test-arm64: $(VENV)/ready
	RANKFLEET_ARM64_SUITE=$(SUITE) $(BIN)/python -m pytest -s -rs -m slow tests/system/test_arm64.py

test-vm: $(VENV)/ready
	RANKFLEET_VM_EMULATED=1 $(BIN)/python -m pytest -s -x --durations=0 tests/system/test_vm.py

fuzz: $(VENV)/ready
	$(BIN)/python -m tests.fuzz.fuzz_decoders --runs $(RUNS) --seed $(SEED) $(ARGS)

kill-matrix: $(VENV)/ready
	$(BIN)/python -m tests.system.kill_matrix --broker $(BROKER) --mqtt $(MQTT) --limit-bytes $(LIMIT_BYTES) $(ARGS)

kill-matrices: $(VENV)/ready
	$(BIN)/python -m tests.system.kill_matrix --all $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The stamp is written last, so that an interrupted installation is repeated.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gateway,pack,dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
