# Every verb of the project; CI calls only these.
.DEFAULT_GOAL := help
.PHONY: help tools build production demo up fmt lint docs config-reference test faults isolation backlog sabotage powercut bench-smtp fuzz bench bench-quick \
  bench-tools console smuggling peers check

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

tools: ## Install what the demo and the tests run: nats-server, redis-server
	@deploy/tools.sh

build: ## Build the binary, optimised crate by crate: target/release/postrider
	cargo build --release --package postrider

production: ## Build the binary for production, optimised as a whole, ten minutes: target/production/postrider
	cargo build --profile production --package postrider

demo: tools build ## Send 5,000 messages through a cluster on this machine and reconcile the books
	target/release/postrider demo

up: tools build ## Run everything in the foreground, with a simulator in place of the world
	target/release/postrider all --embedded --mailsim

fmt: ## Format the code
	cargo fmt --all

lint: ## Check format and lints; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings

docs: ## Check the API docs; warnings are errors
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet

config-reference: ## Write docs/config.md from the types
	cargo run --quiet --package postrider -- config-reference > docs/config.md

test: tools ## Run all tests
	cargo test --workspace

faults: tools ## Kill and stop things under 20,000 messages, half an hour; POSTRIDER_TEST_SEED=n repeats a run
	POSTRIDER_TEST_MESSAGES=20000 POSTRIDER_TEST_STANDSTILL=40 cargo test --release --package tests --test e2e -- \
	  --nocapture --test-threads 1 a_killed_ a_stopped_ a_full_

isolation: tools ## Time other tenants' mail beside a quiet cluster while providers hang, defer and turn away, and while a campaign passes
	POSTRIDER_TEST_NOISE=0 cargo test --release --package tests --test e2e -- --nocapture --test-threads 1 \
	  a_provider_that_hangs a_campaign_delays

backlog: tools ## A million messages behind a stopped provider, then a campaign of a million: half an hour each, 25 GB of disk
	GOGC=400 POSTRIDER_BACKLOG_MESSAGES=$${POSTRIDER_BACKLOG_MESSAGES:-1000000} \
	POSTRIDER_CAMPAIGN_MESSAGES=$${POSTRIDER_BACKLOG_MESSAGES:-1000000} POSTRIDER_TEST_NOISE=0 \
	  cargo test --release --package tests --test e2e -- --nocapture --test-threads 1 a_backlog_costs a_campaign_delays

sabotage: tools ## Break the product's promises one by one, and see that a test notices each
	@deploy/sabotage.sh

powercut: tools ## Cut the power under one and under three nats-servers while mail is accepted; needs root
	cargo test --release --package tests --test powercut -- --ignored --nocapture --test-threads 1

bench-smtp: ## One connection beside lettre and smtp-source, on one core: speed, CPU, allocations; target/bench/smtp.json
	@deploy/tools.sh bench
	cargo bench --quiet --package smtp --bench one_connection --no-run
	taskset --cpu-list 0 cargo bench --quiet --package smtp --bench one_connection

fuzz: ## Feed 10 million inputs to each parser that strangers reach; FUZZ_RUNS=n changes that. Needs a nightly compiler
	@deploy/tools.sh fuzz
	@deploy/fuzz.sh

console: ## Build with what tokio-console shows of every task: target/console/release/postrider, and tokio-console in .tools/bin
	@deploy/tools.sh console
	RUSTFLAGS="--cfg tokio_unstable" cargo build --release --target-dir target/console --package postrider --features tokio-console

bench-tools: tools
	@deploy/bench-tools.sh
	cargo build --profile production --package postrider --package tests --bin postrider --bin bench

bench: bench-tools ## Measure beside Postfix, 20 minutes: a table, and target/bench/throughput.json
	target/production/bench

bench-quick: bench-tools ## A first look at the same, 7 minutes; not for figures
	target/production/bench --quick

smuggling: tools ## Send every string of line ends and dots up to nine octets through a cluster
	POSTRIDER_TEST_STRING_LENGTH=9 cargo test --package tests --test e2e -- --nocapture every_string

peers: tools ## Deliver to Postfix, Exim, OpenSMTPD and aiosmtpd, and compare what arrives octet by octet
	@deploy/peers.sh
	cargo test --package tests --features peers --test peers -- --nocapture --test-threads 1

check: lint docs test ## All of CI
