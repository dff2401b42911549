# kage-mesh: `make` lists the targets, `make ready` before a commit, `make test`
# is everything that CI runs.

GO       ?= go
FUZZTIME ?= 1m
NODES    ?= 3
SOAK     ?= 10m
LINT     := deploy/ci/golangci-lint.sh

.DEFAULT_GOAL := help
.PHONY: help vuln build test unit race lint fmt fmt-check tidy tidy-check vet cross e2e e2e-all fleet deb lab ollama deps \
	fuzz cover bench bench-go bench-once scale dev demo conformance faults soak ready clean sim

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## To use it

build: ## the kage-mesh binary, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/kage-mesh

demo: ## four nodes with fake Ollamas in one process: what a mesh does, in a minute
	$(GO) run ./cmd/kage-mesh demo

dev: ## NODES (3) nodes with fake Ollamas that stay up, to play with
	$(GO) run ./cmd/kage-mesh demo --keep --nodes $(NODES)

## To change it

test: ## everything: vet, lint, race, e2e (what needs root or Ollama skips itself elsewhere)
ifeq ($(CI),true)
test: deps ollama
endif
test: vet lint race e2e

ready: fmt-check vet lint race tidy-check ## the one command before a commit

unit: ## unit tests and meshes on loopback
	$(GO) test -short ./...

race: ## the same with the race detector
	$(GO) test -race -short -timeout 15m ./...

e2e: ## several hosts and real Ollamas: join, route, survive; the page; what the README says (two minutes)
	deploy/ci/e2e.sh -run 'ThreeMachines|OwnerDies|DeathsAreSeen|OllamaCLI|ThePageFollows|EveryBlock'

e2e-all: ## the same with the lab's own tests, the official clients, strangers and floods
	deploy/ci/e2e.sh

fleet: ## meshes in one process, also what takes longer: 500 streams, a rolling restart, makespans
	$(GO) test -count=1 -v -timeout 30m -skip TestSoak ./bench/fleet

deb: ## install, run, upgrade under load and purge the package kage-mesh (Debian, root; part of CI)
	KAGE_TEST_DEB=1 $(GO) test -count=1 -v -timeout 10m ./deploy/package

lab: ## the tests of the network lab itself (Linux, root)
	$(GO) test -race -count=1 ./deploy/lab/...

vet: ## go vet, here and as macOS and Windows build it
	$(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

lint: ## golangci-lint, pinned, built once into the user's cache
	$(LINT) run ./...

vuln: ## known vulnerabilities in what our code calls, where their database can be reached
	deploy/ci/vuln.sh

fmt: ## format the sources
	$(LINT) fmt ./...

fmt-check: ## fail where fmt would change something
	$(LINT) fmt --diff ./...

tidy: ## go.mod and go.sum as the sources need them
	$(GO) mod tidy

tidy-check: ## fail where tidy would change something
	$(GO) mod tidy -diff

fuzz: ## every fuzz target for FUZZTIME (1m)
	deploy/ci/fuzz.sh $(FUZZTIME)

cover: ## coverage by package and in cover.html
	$(GO) test -short -covermode=atomic -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -n 1
	$(GO) tool cover -html=cover.out -o cover.html

## To measure it

bench: ## kage-mesh, nginx and HAProxy side by side, into bench/report (BENCH=-quick: two minutes)
	$(GO) run ./bench/compare/cmd/compare $(BENCH)

scale: ## meshes of 32 to 300 members in one process: convergence, traffic, staleness; 8 minutes (SCALE="-members 32")
	$(GO) run ./bench/fleet/scale/cmd/scale $(SCALE)

sim: ## placement rules in a simulated mesh: the tables of bench/sim/RESULTS.md
	$(GO) run ./bench/sim/cmd/sim

bench-go: ## every benchmark of the packages, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-once: ## every benchmark once, so that none rots
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...



## To try to break it

conformance: ## official clients, against Ollama and against a mesh
	$(GO) test -race -count=1 -v -timeout 30m ./deploy/conformance/...

faults: ## the fault lab: fifty ways to break a mesh, and the table of what it did (Linux, root)
	$(GO) test -count=1 -timeout 40m ./deploy/faults -args -results RESULTS.md

soak: ## random faults for SOAK (10m) under the race detector, held to the promises; SEED=n plays one again
	SOAK=$(SOAK) SEED=$(SEED) $(GO) test -race -count=1 -v -timeout 1h -run TestSoak ./bench/fleet

## Once for a machine

deps: ## what the tests need beside Go (Debian, root)
	deploy/ci/deps.sh

ollama: ## a real Ollama in the user's cache, for the tests
	deploy/ci/ollama.sh

clean: ## what make wrote into the tree
	rm -rf bin cover.out cover.html
