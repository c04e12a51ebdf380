# Two commands are all a user needs:
#   make lab DAY=7     set up, build, run one lab, print where its report is
#   make test          all tests
# MODE=quick|full chooses the lab's size.

DAY  ?= 7
MODE ?= quick
ARGS ?=
TESTFLAGS ?=

GO ?= go
# giouring reaches two unexported syscall functions by linkname, which the
# linker refuses since Go 1.23 unless told otherwise.
export GOFLAGS += -buildvcs=false -ldflags=-checklinkname=0

CLANG        ?= clang-19
CLANG_FORMAT ?= clang-format-19
NEXUS        := bin/nexus

.DEFAULT_GOAL := help
.PHONY: help build lab setup test race lint fmt generate generate-check fuzz bench doctor clean ci

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile bin/nexus
	@mkdir -p bin
	$(GO) build -o $(NEXUS) .

setup: build ## install what DAY needs from the system's packages
	$(NEXUS) setup --day $(DAY)

lab: setup ## set up and run the lab of DAY in MODE, then print its report's path
	$(NEXUS) run day$(shell printf '%02d' $(DAY:0%=%)) --mode $(MODE) $(ARGS)

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
