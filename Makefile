# The two commands to begin with: make run, make test. make help lists all.

GO          ?= go
STATICCHECK ?= $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# make run: STEMMA_* variables and ARGS="--listen ..." configure the server.
ARGS ?=
# make fuzz: seconds for each fuzz target at most, and for all of them together.
FUZZ_SECONDS       ?= 10
FUZZ_TOTAL_SECONDS ?= 600
# make crash: rounds of kill -9.
CRASH_ROUNDS ?= 100
# make soak: runs of the model test, and the steps of each.
SOAK_RUNS  ?= 20
SOAK_STEPS ?= 20000
# make microbench: which benchmarks, and how often.
BENCH       ?= .
BENCH_COUNT ?= 1
# make bench, make bench-full: directory on the disk to measure.
BENCH_DIR ?= $(or $(TMPDIR),/tmp)

.DEFAULT_GOAL := help
.PHONY: help build run test allocs race soak lint fmt tidy vet staticcheck fuzz crash microbench bench bench-full bench-store bench-tag figures bench-gc golden check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/stemma
	$(GO) build -o bin/stemma ./cmd/stemma

run: build ## build and serve ./stemma-data on 127.0.0.1:9000
	./bin/stemma serve $(ARGS)

# The race detector needs cgo, which Go turns off where there is no C compiler.
test: ## all tests, and what is short or concurrent once more with the race detector where there is a C compiler
	$(GO) test -timeout 20m ./...
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ]; then set -x; $(GO) test -race -short -timeout 20m ./...; \
	else echo "no C compiler, no race detector"; fi

allocs: ## what the hot paths may allocate, which the race detector would hide
	$(GO) test -count=1 -run 'Allocations$$' ./...

race: ## all tests, the server binary that some of them start under the race detector too
	STEMMA_TEST_RACE_BINARY=1 $(GO) test -race -count=1 -timeout 30m ./...

soak: export STEMMA_RANDOM_SEEDS = 1
soak: crash ## an hour or two: crash rounds, the README as written, all tests with new seeds, PostgreSQL on a mount, linearizability, mutated requests, the model test with many
	STEMMA_TEST_README=1 $(GO) test -count=1 -timeout 30m -run '^TestReadme' ./cmd/stemma
	$(GO) test -count=1 -timeout 1h ./...
	STEMMA_TEST_POSTGRES=1 $(GO) test -count=1 -timeout 30m -run '^TestPostgres$$' ./mount
	STEMMA_LINEAR_HISTORIES=100 $(GO) test -count=1 -timeout 1h -v -run '^TestLinearizable$$' ./cmd/stemma
	STEMMA_MUTATE_SECONDS=600 $(GO) test -count=1 -timeout 30m -v -run '^TestMutatedRequests$$' ./pageserver/s3api
	@set -e; for i in $$(seq $(SOAK_RUNS)); do \
		seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
		echo "model and swarm, run $$i of $(SOAK_RUNS), STEMMA_MODEL_SEED=$$seed STEMMA_MODEL_STEPS=$(SOAK_STEPS)"; \
		STEMMA_MODEL_SEED=$$seed STEMMA_MODEL_STEPS=$(SOAK_STEPS) $(GO) test -count=1 -timeout 2h -run 'Model|Swarm' ./timeline/...; \
	done

lint: fmt tidy vet staticcheck ## gofmt, go mod tidy, vet, staticcheck

fmt:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt -w needed:" $$files; exit 1; fi

tidy:
	$(GO) mod tidy -diff

vet:
	$(GO) vet ./...

staticcheck:
	$(STATICCHECK) ./...

fuzz: ## every fuzz target for FUZZ_SECONDS, all within FUZZ_TOTAL_SECONDS
	@set -e; targets=$$($(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/ { names[++n] = $$1 } \
		/^ok/ { for (i = 1; i <= n; i++) print $$2 ":" names[i]; n = 0 }'); \
	count=$$(echo $$targets | wc -w); [ $$count -gt 0 ] || { echo "no fuzz targets"; exit 1; }; \
	each=$$(($(FUZZ_TOTAL_SECONDS) / count)); \
	if [ $$each -gt $(FUZZ_SECONDS) ]; then each=$(FUZZ_SECONDS); fi; if [ $$each -lt 1 ]; then each=1; fi; \
	echo "$$count fuzz targets, $${each}s each"; \
	for t in $$targets; do \
		echo "== $$t"; out=$$(mktemp); \
		if ! $(GO) test -run '^$$' -fuzz "^$${t##*:}$$" -fuzztime $${each}s "$${t%%:*}" >$$out 2>&1; then \
			cat $$out; \
			if grep -q 'Failing input written' $$out || ! grep -q '^ *context deadline exceeded$$' $$out; then exit 1; fi; \
			echo "no failing input: the go command's own deadline passed while a worker was busy"; \
		else tail -1 $$out; fi; \
		rm -f $$out; \
	done

crash: export STEMMA_RANDOM_SEEDS = 1
crash: ## kill -9 the real server CRASH_ROUNDS times under load, and under a block device, and twice as often in background work, and check what it acknowledged
	STEMMA_CRASH_ROUNDS=$(CRASH_ROUNDS) $(GO) test -count=1 -timeout 3h -v -run '^TestCrash(NBD)?$$' ./cmd/stemma
	STEMMA_CRASH_ROUNDS=$$((2 * $(CRASH_ROUNDS))) $(GO) test -count=1 -timeout 3h -v -run '^TestCrashSteps$$' ./cmd/stemma

microbench: ## the Go benchmarks
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) ./...

BENCH_OUT := bin/bench

bench: build ## under five minutes: this machine's limits, S3 beside them, and the last tag beside the working tree
	@rm -rf $(BENCH_OUT) && mkdir -p $(BENCH_OUT)
	./bin/stemma bench limits --dir $(BENCH_DIR) --size 4KiB --duration 2s --warmup 200ms --rounds 1 --json $(BENCH_OUT)/limits.json
	./bin/stemma bench s3 --dir $(BENCH_DIR) --size 4KiB,10MiB --duration 2s --warmup 500ms --rounds 3 --json $(BENCH_OUT)/s3.json
	@$(MAKE) --no-print-directory bench-tag BENCH_TAG_FLAGS="--size 4KiB --ops put,get,mixed --duration 1500ms --warmup 300ms --rounds 5"
	$(GO) run ./benchmarks/page -out $(BENCH_OUT)/page.html $(BENCH_OUT)/*.json

bench-full: build ## the same, longer, with more sizes, and bench-store: three hours, and 30 GiB of disk
	@rm -rf $(BENCH_OUT) && mkdir -p $(BENCH_OUT)
	./bin/stemma bench limits --dir $(BENCH_DIR) --size 4KiB,64KiB,1MiB,10MiB --duration 5s --rounds 5 --json $(BENCH_OUT)/limits.json
	./bin/stemma bench s3 --dir $(BENCH_DIR) --size 1KiB,4KiB,64KiB,1MiB,10MiB --duration 20s --rounds 5 --json $(BENCH_OUT)/s3.json
	./bin/stemma bench s3 --dir $(BENCH_DIR) --size 4KiB --ops list,list-dirs --keys 1000000 --duration 20s --rounds 5 --json $(BENCH_OUT)/list.json
	@$(MAKE) --no-print-directory bench-tag BENCH_TAG_FLAGS="--size 4KiB,1MiB --ops put,get,mixed --duration 10s --rounds 9"
	@$(MAKE) --no-print-directory bench-store
	$(GO) run ./benchmarks/page -out $(BENCH_OUT)/page.html $(BENCH_OUT)/*.json

bench-store: build ## the log, forks, agents, chains, the past, pages, merges, long lists, collection, recovery, soak: an hour, and 4 GiB of disk
	@mkdir -p $(BENCH_OUT)
	@set -e; for b in log forks swarm chain past pages diff merge list reclaim recovery soak; do \
		echo "== stemma bench $$b"; ./bin/stemma bench $$b --dir $(BENCH_DIR) --json $(BENCH_OUT)/$$b.json; \
	done

bench-tag: build ## the last git tag (a) and the working tree (b) in interleaved rounds; BENCH_TAG_FLAGS: of stemma bench ab
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || { \
		echo "no git tag before this commit: nothing is compared (git tag NAME COMMIT makes one); all else is measured as ever"; exit 0; }; \
	set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	echo "a: $$tag, b: the working tree"; \
	git archive "$$tag" | tar -x -C "$$dir"; \
	(cd "$$dir" && $(GO) build -o stemma-of-tag ./cmd/stemma); \
	mkdir -p $(BENCH_OUT); \
	./bin/stemma bench ab --dir $(BENCH_DIR) --a-binary "$$dir/stemma-of-tag" --b-binary bin/stemma $(BENCH_TAG_FLAGS) --json $(BENCH_OUT)/ab.json

bench-gc: ## what forks and overwrites leave on the disk, tail latencies: half an hour, and 40 GiB of disk
	$(GO) run ./benchmarks/churn
	$(GO) run ./benchmarks/overwrite
	$(GO) run ./benchmarks/merge
	$(GO) run ./benchmarks/tail -through engine
	$(GO) run ./benchmarks/tail -through server

figures: ## the other programs of benchmarks/ in full size: minutes, and 15 GiB of disk
	$(GO) run ./benchmarks/httpget
	$(GO) run ./benchmarks/stream

golden: ## rewrite the golden files from what the code does now; read the diff
	$(GO) test -count=1 $$(grep -rl --include='*_test.go' 'datadriven\.' . | xargs -n1 dirname | sort -u) -rewrite
	$(GO) test -count=1 $$(grep -rl --include='*_test.go' '"rewrite-golden"' . | xargs -n1 dirname | sort -u) -rewrite-golden

check: lint build test allocs race fuzz ## what must pass before a merge

clean: ## remove what make built
	rm -rf bin
	$(GO) clean -testcache
