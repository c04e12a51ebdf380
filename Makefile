# Two commands are all a user needs:
#   make lab DAY=7     set up, build, run one lab, print where its report is
#   make test          all tests
# MODE=quick|full chooses the lab's size.

# KERNEL=6.12 runs the lab on that kernel, in a virtual machine.

DAY    ?= 7
MODE   ?= quick
KERNEL ?=
ARGS   ?=
TESTFLAGS ?=

GO ?= go
# giouring reaches two unexported syscall functions by linkname, which the
# linker refuses since Go 1.23 unless told otherwise.
export GOFLAGS += -buildvcs=false -ldflags=-checklinkname=0

CLANG        ?= clang-19
CLANG_FORMAT ?= clang-format-19
NEXUS        := bin/nexus

.DEFAULT_GOAL := help
.PHONY: help build lab vm matrix powercut vagrant-check setup test race lint fmt generate generate-check crosscheck fuzz bench doctor clean ci

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile bin/nexus
	@mkdir -p bin
	$(GO) build -o $(NEXUS) .

setup: build ## install what DAY needs from the system's packages
	$(NEXUS) setup --day $(DAY)

ifeq ($(KERNEL),)
lab: setup ## set up and run the lab of DAY in MODE, then print its report's path; KERNEL=6.12: on that kernel
	$(NEXUS) run day$(shell printf '%02d' $(DAY:0%=%)) --mode $(MODE) $(ARGS)
else
lab: vm
endif

vm: build
	$(NEXUS) setup --for vm
	$(NEXUS) vm run --kernel $(or $(KERNEL),6.12) --day $(DAY) --mode $(MODE) $(ARGS)

matrix: build ## every BPF program on every kernel of vagrant/kernels.yaml and on this one; writes docs/KERNELS.md
	$(NEXUS) setup --for vm
	$(NEXUS) vm test --kernel all --write

powercut: build ## cut the power of a machine in which Day 7's log appends
	$(NEXUS) setup --for vm
	$(NEXUS) vm powercut --mode $(MODE)

vagrant-check: ## check the Vagrant machines without starting them, offline
	@set -e; dot=$$(mktemp -d); trap 'rm -rf "$$dot"' EXIT; \
	cd vagrant; VAGRANT_DOTFILE_PATH="$$dot" VAGRANT_HOME="$$dot" VAGRANT_CHECKPOINT_DISABLE=1 vagrant validate --ignore-provider

test: ## all tests
	$(GO) test $(TESTFLAGS) ./...

race: ## the tests of shared state under the race detector
	$(GO) test -race ./...

lint: ## gofmt, vet, staticcheck, clang-format
	@test -n "$$(git ls-files '*.go')" || { echo "lint needs the git checkout"; exit 1; }
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt wants to change:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(CLANG_FORMAT) --dry-run --Werror $$(git ls-files '*.c' '*.h' | grep -v '^bpf/headers/')

fmt: ## format Go and C
	gofmt -w $$(git ls-files '*.go')
	$(CLANG_FORMAT) -i $$(git ls-files '*.c' '*.h' | grep -v '^bpf/headers/')

generate: ## rebuild the generated BPF, Wasm and Go
	$(GO) generate ./...

generate-check: generate ## fail if a committed generated file is not what its source gives
	git diff --exit-code --stat
	@new=$$(git ls-files --others --exclude-standard); test -z "$$new" || { echo "not committed:"; echo "$$new"; exit 1; }

crosscheck: ## wrap the Wasm guests as components with the component model's own tools and compare (npm installs them)
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	cp components/crosscheck/package.json components/crosscheck/crosscheck.mjs "$$dir"; \
	(cd "$$dir" && npm install --no-audit --no-fund --no-package-lock --silent); \
	node "$$dir/crosscheck.mjs" "$(CURDIR)/components"

FUZZTIME ?= 10s
fuzz: ## run every fuzz target for FUZZTIME
	@set -e; for file in $$(git grep -lE '^func Fuzz' -- '*_test.go'); do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' $$file); do \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
	  done; done

bench: ## micro-benchmarks of the hot paths
	$(GO) test -run '^$$' -bench . -benchmem ./frame ./uring ./loadgen/... ./systems/... ./components/... ./bpf/...

ci: ## everything that CI runs
	bash .ci/run

doctor: build ## what this machine can measure, and what it can't
	$(NEXUS) doctor

clean: build ## remove what killed runs left behind
	$(NEXUS) clean
