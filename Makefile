# Shortcuts; the work is done by scripts/.

BIN := .venv/bin

help:           ## show this
	@awk -F ':.*## ' '/^[a-z].*:.*## / { n = split($$1, t, " "); for (i = 1; i <= n; i++) printf "%-13s %s\n", t[i], $$2 }' $(MAKEFILE_LIST)

setup:          ## install what is missing: packages, .venv
	scripts/setup

format: setup   ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check:          ## format, lint, types, imports, generated code
	scripts/check

proto: setup    ## generate code from proto/
	$(BIN)/python scripts/proto

test:           ## checks and all tests
	scripts/test

unit property contract simulation integration e2e: ## one part of the tests
	scripts/test $@

simulate:       ## clusters under faults on a virtual clock, on seeds that nobody tried
	scripts/simulate --runs 10

bench-cluster:  ## measure a whole cluster beside the machine's own limit
	scripts/bench-cluster

bench-swarm:    ## measure Docker Swarm and us in one lab, in turns
	scripts/bench-swarm

bench-scheduler: ## measure how fast the scheduler decides, beside its peers
	scripts/bench-scheduler

bench-packing:  ## measure how tightly it packs, beside simpler ways
	scripts/bench-packing

bench-decisions: ## measure planning, and what the journal costs
	scripts/bench-decisions

.PHONY: help simulate bench-decisions bench-cluster bench-swarm bench-scheduler bench-packing setup format check proto test unit property contract simulation integration e2e
.DEFAULT_GOAL := help
