# Thin on purpose: the work is done by cargo, poolctl, loadtest and examples/setup.py.
PYTHON ?= python3
VENV := .cache/venv/bin/python
PROGRAMS := gateway poolctl model-wrapper loadtests
CLUSTER := cargo run --quiet --locked -p e2e --bin cluster --
# An ONNX Runtime library of your own wins over the one that is fetched.
export ORT_DYLIB_PATH ?= $(CURDIR)/.cache/onnxruntime/libonnxruntime.so

.PHONY: demo test release profile cluster cluster-down e2e conformance lint models bench crds tools help

help: ## This list.
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: tools ## Start the stack with the example models, ask each for a prediction from zero (CHECK=1: then stop).
	$(PYTHON) examples/setup.py runtime models clients && cargo build --profile demo --locked -p poolctl -p model-wrapper
	$(VENV) examples/demo.py --poolctl target/demo/poolctl $(if $(CHECK),--check)

test: models ## Every test.
	cargo test --workspace --locked

models: tools ## Fetch the example models, make the benchmark models.
	$(PYTHON) examples/setup.py tests

release: tools ## Build the programs as they are deployed, optimized for what the load tests run most (target/release).
	cargo build --release --locked $(PROGRAMS:%=--package=%) --config "build.rustflags=['-Cprofile-use=$(CURDIR)/loadtests/release.profdata', '-Cllvm-args=-no-pgo-warn-mismatch']"

profile: bench ## Count anew what the load tests run most: loadtests/release.profdata, which `make release` builds with.
	loadtests/profile.sh $(PROGRAMS)

bench: models release ## Build and fetch what the load tests need: then target/release/loadtest SCENARIO (loadtests/README.md).

conformance: tools ## One of Knative's suites on the cluster: SUITE=ingress|serving-api|serving-runtime|serving-e2e|ha OPTIONS="--baseline …".
	$(CLUSTER) conformance $(SUITE) $(OPTIONS)

cluster: tools ## Start a real cluster with Knative on this machine (root; KNATIVE_DIR=… takes another Knative).
	$(CLUSTER) up $(if $(KNATIVE_DIR),--knative-dir "$(KNATIVE_DIR)")

cluster-down: tools ## Stop it: nothing of it is left.
	$(CLUSTER) down

e2e: models ## Tests on the cluster of KUBECONFIG, or on one of this machine (root; minutes).
	cargo build --locked --workspace --bins && cargo test --locked --workspace --test 'node*' --no-run
	target/debug/cluster during --or-given cargo test --locked --workspace --test 'node*' -- --ignored --test-threads=1

lint: ## What CI checks besides the tests.
	cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings

crds: ## Write manifests/crds from the types.
	cargo run --locked -p poolctl -- crds --write manifests/crds

tools:
	@missing=""; for pair in $(PYTHON):python3 cargo:cargo cc:gcc; do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -z "$$missing" ] || { echo "missing on this machine:$$missing. Debian and Ubuntu: apt-get install gcc make python3 python3-pip python3-venv; cargo: https://rustup.rs" >&2; exit 1; }
