# Tandem's targets. `make check` and `make demo` need Node and npm only; `make test` also needs root on Debian or Ubuntu.
SHELL := /bin/bash
NODE  := bin/node24
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
PARTS  ?= check deep api crash chaos commands grow mirrors convert ring demo kernel e2e bench
OPS    ?= 100000
SEED   ?= 1
INPUTS ?= 100000
JEST   := NODE_OPTIONS="--experimental-vm-modules --disable-warning=ExperimentalWarning" $(NODE) node_modules/jest/bin/jest.js --silent=false

.PHONY: help deps gen check drift format types lint imports simulated unit deep test sim fuzz api crash chaos commands grow mirrors convert ring demo kernel e2e bench
help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: node_modules/.package-lock.json
node_modules/.package-lock.json: package-lock.json
	@echo "npm ci (packages, once)"; npm ci --no-audit --no-fund --loglevel=error
	@touch $@

gen: deps ## write the generated files anew: types, CRDs, chart, manifests, reference docs, protobuf code
	@$(NODE) src/main.ts gen
	@$(NODE) scripts/proto.ts

check: deps ## generated files, format, types, lint, import rules, unit and simulation tests (under 3 minutes)
	@$(MAKE) --no-print-directory -j2 -Otarget drift format types lint imports simulated unit
	@echo "check: all passed"

drift: deps
	@$(NODE) src/main.ts gen --check
	@$(NODE) scripts/proto.ts --check
format: deps
	@prettier --check --log-level warn . && echo "format: ok"
types: deps
	@tsc -p tsconfig.json && tsc -p tsconfig.core.json && echo "types: ok"
lint: deps
	@$(NODE) node_modules/eslint/bin/eslint.js --cache --cache-location node_modules/.cache/eslint/ --max-warnings 0 . && echo "lint: ok"
imports: deps
	@$(NODE) node_modules/dependency-cruiser/bin/dependency-cruise.mjs src
unit: deps
	@$(JEST)
# Together more than 100,000 operations.
simulated: deps
	@$(NODE) src/main.ts sim --kept && $(NODE) src/main.ts sim --every 150 --seed 1
deep: deps ## the tests that take longer: known-bad builds, every fault at every step, mirrors of whole pairs, more seeds
	@DEEP=1 $(JEST) && $(NODE) src/main.ts sim --ops 100000 --seed $(SEED) && $(NODE) src/main.ts sim --every 50 --seed $(SEED) && $(NODE) src/main.ts sim --ops 1 --seed 10 --scenario snapshots && $(NODE) src/main.ts sim --ops 1 --seed 2 --scenario storm

test: deps ## everything: PARTS="check deep api crash chaos commands grow mirrors convert ring demo kernel e2e bench"; installs with apt what it needs (root)
	@$(NODE) scripts/test.ts $(PARTS)

api: deps ## the operator against a real kube-apiserver
	@$(NODE) e2e/api.ts
crash: deps ## kill -9 of filers under load, ROUNDS=10 (ROUNDS=200 by hand)
	@$(NODE) e2e/crash.ts $(if $(ROUNDS),--rounds $(ROUNDS))
chaos: deps ## faults of filers, links, vote under load, and the pauses of clients; CASE="kill hang links link flap vote planned partition full" ROUNDS=100; BAD=all: filers that must be caught
	@$(NODE) e2e/chaos.ts $(if $(CASE),--case "$(CASE)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(BAD),--bad "$(BAD)")
commands: deps ## drill, takeover, update, stop, a replaced filer: real processes under load
	@$(NODE) e2e/commands.ts
grow: deps ## a pair gets devices, an aggregate, a traditional volume while clients write
	@$(NODE) e2e/grow.ts
mirrors: deps ## the life of a Mirror between two pairs: broken, resynced, reversed, deleted, by the documented commands
	@$(NODE) e2e/mirrors.ts
convert: deps ## a traditional volume becomes a flexible one under load, killed and rolled back on the way; FILES=100000 LARGE=2500 (MiB more of large ones) KILLS=50
	@$(NODE) e2e/convert.ts $(if $(FILES),--files $(FILES)) $(if $(LARGE),--large $(LARGE)) $(if $(KILLS),--kills $(KILLS))
ring: deps ## pairs in a ring of mirrors under load, then a source lost whole: real processes; PAIRS=3 DURATION=300 RATIO=10
	@$(NODE) e2e/ring.ts $(if $(PAIRS),--pairs $(PAIRS)) $(if $(DURATION),--duration $(DURATION)) $(if $(RATIO),--ratio $(RATIO))
sim: deps ## whole pairs simulated with faults; OPS=1000000 SEED=1 SCENARIO=name EVERY=1
	@$(NODE) src/main.ts sim --ops $(OPS) --seed $(SEED) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(EVERY),--every $(EVERY))
fuzz: deps ## damaged inputs to everything that reads what others wrote; INPUTS=1000000 SEED=1 TARGET=name
	@$(NODE) src/main.ts fuzz --inputs $(INPUTS) --seed $(SEED) $(if $(TARGET),--target $(TARGET))
demo: deps ## a pair on this machine, a cut link, a killed filer, the data still there; KEEP=1 leaves it running
	@$(NODE) src/main.ts demo $(if $(KEEP),--keep)
kernel: deps ## programs on the Linux kernel's NFS client, beside that kernel's own server (root); FILES=100000 ENTRIES=100000 OPERATIONS=100000 SUITES="git tree" VOLUME=traditional
	@$(NODE) e2e/kernel.ts $(if $(FILES),--files $(FILES)) $(if $(ENTRIES),--entries $(ENTRIES)) $(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(SUITES),--suites "$(SUITES)") $(if $(VOLUME),--volume $(VOLUME))
e2e: deps ## a two-node Kubernetes cluster with real pods and the Linux kernel's NFS client (root)
	@$(NODE) e2e/run.ts
bench: deps ## beside NFS-Ganesha and GlusterFS, and what growth, age and memory cost (root); BENCH=long for docs/benchmarks.md
	@$(NODE) bench/run.ts $(BENCH)
