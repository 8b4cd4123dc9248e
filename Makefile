# One command each; run `make help`. A recipe receives CMD exactly as typed: neither make nor a second shell expands it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test torture check vm mesh bench clean
unexport CMD
# $ reaches the command as $; so does $$, the usual make escape.
export MESH_CMD := $(subst $$$$,$$,$(value CMD))

help:
	@echo 'make demo            create a three-node mesh and show each step'
	@echo 'make test            every test, on a real kernel; ends with "N passed, N failed"'
	@echo 'make check           format, types, import rules, unit tests'
	@echo 'make torture         randomly damage three kernels under traffic (SEED=n, ROUNDS=n, default 200)'
	@echo "make vm CMD='...'    run a command in the test host (without CMD: a shell), e.g. CMD='ipvsadm -Ln'"
	@echo "make mesh CMD='...'  start a mesh (NODES=n, default 3) and run a command; in it, "on NODE COMMAND" runs on a node"
	@echo 'make bench           compare with Docker Swarm; results in bench/RESULTS.md'
	@echo 'make build           native addon and dist/'
	@echo 'make clean           remove build outputs and downloads'

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
