# The targets of a checkout; each is a script in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup demo test analyse bench soak e2e hunt sequences plants fuzz clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-7s  %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing: distribution packages (as root or with sudo) and .venv
	@scripts/setup

demo: setup ## build, configure and verify a Solaris image, and prove routing on this machine
	@.venv/bin/python scripts/demo

test: setup ## lint, type check and run the tests (at most 10 minutes)
	@scripts/test

plants: setup ## as root: plant each known weakness into the library, see its tests fail: docs/results/plants.md
	@.venv/bin/python scripts/plants --results docs/results/plants.md

bench: setup ## measure what libmemproxy costs: bench/RESULTS.md (15 minutes alone; ARGS=--quick)
	@.venv/bin/python -m bench $(ARGS)

hunt: setup ## as root: every change cut short or failed at every call: docs/results/hunt*.md (80 minutes alone; ARGS=--help)
	@.venv/bin/python -m hunt $(ARGS)

sequences: setup ## as root: ten thousand random sequences on a laboratory: docs/results/sequences.md (40 minutes; ARGS=--help)
	@.venv/bin/python -m hunt.random_sequences $(ARGS)

soak: setup ## hours of real programs under every allocator, as root: docs/results/soak.md (ARGS=--help)
	@.venv/bin/python -m soak $(ARGS)

e2e: setup ## as root: a whole system with both ABIs under each allocator, its programs on both routes: docs/results/e2e.md
	@.venv/bin/python -m e2e $(ARGS)

fuzz: setup ## fuzz the exclusion list readers: docs/results/fuzz.md (15 minutes alone; ARGS=--help)
	@.venv/bin/python scripts/fuzz $(ARGS)

analyse: setup ## clang-tidy, and the native tests with undefined behaviour trapped: docs/results/analyse.md (10 minutes)
	@.venv/bin/python scripts/analyse --results docs/results/analyse.md

clean: ## remove everything that is generated here, .venv included
	rm -rf build 2>/dev/null || sudo rm -rf build # an image belongs to root
	rm -rf .venv .setup dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
