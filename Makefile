# One command each: make help. A recipe gets CMD as it was typed: neither make nor a second shell reads it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test torture check vm mesh bench clean
unexport CMD
# $ reaches the command as $; so does $$, which is what people used to make write.
export MESH_CMD := $(subst $$$$,$$,$(value CMD))

help:
	@echo 'make demo            a three-node mesh from nothing, shown step by step'
	@echo 'make test            every test, on a real kernel; ends with "N passed, N failed"'
	@echo 'make check           format, types, import rules, unit tests'
	@echo 'make torture         damage by chance to three kernels under traffic (SEED=n, ROUNDS=n, default 200)'
	@echo "make vm CMD='...'    run a command in the test host (no CMD: a shell), e.g. CMD='ipvsadm -Ln'"
	@echo "make mesh CMD='...'  run a command beside a running mesh (NODES=n, default 3): on NODE COMMAND"
	@echo 'make bench           measure beside Docker Swarm; results in bench/RESULTS.md'
	@echo 'make build           native addon and dist/'
	@echo 'make clean           remove what was built or fetched'

setup:
	@test/host/setup

build: setup
	@. test/host/lib.sh; node build.mjs

demo: setup
	@test/demo/run

test: setup
	@test/run

torture: setup
	@. test/host/lib.sh; node build.mjs test/scenarios/torture.ts test/scenarios/probe.ts
	@VM_TIMEOUT=7200 TEST_SEED='$(or $(SEED),1)' TEST_ROUNDS='$(or $(ROUNDS),200)' TEST_VERBOSE=1 test/host/mesh 'node dist/torture.mjs'

check: setup
	@test/check

bench: setup
	@bench/run

vm: setup
	@test/host/vm $${MESH_CMD:+"$$MESH_CMD"}

mesh: setup
	@NODES='$(or $(NODES),3)' test/host/mesh $${MESH_CMD:+"$$MESH_CMD"}

clean:
	@rm -rf .cache dist native/build node_modules
