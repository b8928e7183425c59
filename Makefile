# Thin on purpose: the work is done by cargo, poolctl, loadtest and examples/setup.py.
PYTHON ?= python3
VENV := .cache/venv/bin/python
# An ONNX Runtime library of your own wins over the one that is fetched.
export ORT_DYLIB_PATH ?= $(CURDIR)/.cache/onnxruntime/libonnxruntime.so

.PHONY: demo test lint models bench crds tools help

help: ## This list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: tools ## Start the stack with the example models, ask each for a prediction from zero (CHECK=1: then stop).
	$(PYTHON) examples/setup.py runtime models clients && cargo build --profile demo --locked -p poolctl -p model-wrapper
	$(VENV) examples/demo.py --poolctl target/demo/poolctl $(if $(CHECK),--check)

test: models ## Every test.
	cargo test --workspace --locked

models: tools ## Fetch the example models, make the benchmark models.
	$(PYTHON) examples/setup.py tests

bench: models ## Build what the load tests run: then target/release/loadtest SCENARIO (loadtests/README.md).
	cargo build --release --locked --workspace

.PHONY: conformance
conformance: tools ## One of Knative's suites on the cluster: SUITE=ingress|serving-api|serving-runtime|serving-e2e|ha OPTIONS="--baseline …".
	@[ -n "$(SUITE)" ] || { echo "name a suite: make conformance SUITE=ingress|serving-api|serving-runtime|serving-e2e|ha" >&2; exit 2; }
	cargo run --locked -p e2e --bin cluster -- up && cargo run --locked -p e2e --bin cluster -- conformance $(SUITE) $(OPTIONS)

lint: ## What CI checks besides the tests.
	cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings

crds: ## Write manifests/crds from the types.
	cargo run --locked -p poolctl -- crds --write manifests/crds

tools:
	@missing=""; for pair in $(PYTHON):python3 cargo:cargo cc:gcc; do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -z "$$missing" ] || { echo "missing on this machine:$$missing. Debian and Ubuntu: apt-get install gcc make python3 python3-pip python3-venv; cargo: https://rustup.rs" >&2; exit 1; }
