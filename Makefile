# s3gpu: `make demo` shows it, `make test` checks all of it. `make` alone lists the rest.

S3GPU := cargo run --release --quiet --

# One to four minutes on two CPU cores, as busy as they are. S3 needs a large learning rate for its latent weights in so short a run.
DEMO_FLAGS := --dataset shapes --model resnet8 --method s3 --bits 3 --latent-lr 30 \
	--epochs 3 --batch-size 128 --lr 0.1 --seed 1 --log-every 10

# Integration tests that use an adapter: they run once on the default one and once on SwiftShader.
GPU_TESTS := kernels lockstep golden training dynamics long_runs tune integer_gpu
# And these once more with lavapipe's subgroups twice as wide.
WIDE_TESTS := kernels lockstep integer_gpu

# Browser and second Vulkan driver of the tests; both are names that the environment can change.
export CHROMIUM ?= /usr/bin/chromium
export SWIFTSHADER_ICD ?= /usr/lib/chromium/vk_swiftshader_icd.json

# Ends a part of the tests that is skipped: in failure where S3GPU_REQUIRE_ALL says so.
SKIP := [ -z "$$S3GPU_REQUIRE_ALL" ] || { echo 'S3GPU_REQUIRE_ALL is set: provide it, or unset that' >&2; exit 1; }

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-tests build demo test lint test-default test-swiftshader test-wide test-tint test-page doc bench guard guard-record fuzz kill

help:
	@echo 'make demo   set up, build, train ResNet-8 with 3-bit shift weights on drawn shapes (minutes), evaluate'
	@echo 'make test   set up, then every check and test, cheapest first'
	@echo
	@echo 'make setup  check the tools; on Linux without any Vulkan driver, install a software one'
	@echo 'make build  cargo build --release'
	@echo 'make lint   rustfmt and clippy       make doc   the documentation, warnings as errors'
	@echo 'make bench  time the kernels, a training step and the start'
	@echo 'make guard  fail if a step is 20 % slower than recorded (make guard-record), or a default plan has a naive rung'
	@echo 'make fuzz   every reader of outside bytes against made-up input, a minute each (FUZZ_SECONDS); needs cargo-fuzz'
	@echo 'make kill   a hundred kill -9 in training, each resumed; the ends are those of runs that nobody killed'
	@echo 'make test-default | test-swiftshader | test-wide | test-tint | test-page   the parts of make test'

setup:
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh --second-driver

build:
	cargo build --release

demo: setup build
	$(S3GPU) train $(DEMO_FLAGS) --out runs/demo --force
	$(S3GPU) eval --weights runs/demo/best.safetensors --dataset shapes
	@echo
	@echo 'The run is in runs/demo: best.safetensors, metrics.jsonl, and the curves as a picture (.svg). Next:'
	@echo '  $(S3GPU) train --dataset cifar10 --data-dir DIR --model resnet20 --method s3 --bits 3 --out runs/cifar10'
	@echo '      DIR holds CIFAR-10 in its binary version, from https://www.cs.toronto.edu/~kriz/cifar.html'
	@echo '  $(S3GPU) devices    the adapters here'
	@echo '  $(S3GPU) doctor     every kernel against its twin on the CPU'
	@echo '  $(S3GPU) --help     all commands; cargo install --path . puts s3gpu into your PATH'

test: setup-tests lint test-default test-swiftshader test-wide test-tint test-page doc
	@echo 'make test: done'

lint:
	@{ cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || rustup component add rustfmt clippy
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings

test-default:
	cargo test --release

test-swiftshader:
	@if [ -f "$(SWIFTSHADER_ICD)" ]; then \
		echo 'The GPU tests once more, on SwiftShader ($(SWIFTSHADER_ICD))'; \
		VK_DRIVER_FILES="$(SWIFTSHADER_ICD)" VK_ICD_FILENAMES="$(SWIFTSHADER_ICD)" \
			cargo test --release $(GPU_TESTS:%=--test %); \
	else \
		echo 'SKIPPED: the GPU tests on SwiftShader, as $(SWIFTSHADER_ICD) is not there'; $(SKIP); \
	fi

# lavapipe takes the width from the environment; compiled shaders do not say which they are for, hence a cache of their own. A CPU that
# has no vectors of 512 bits may leave it at 8 lanes: the first lines say.
test-wide:
	@set -e; export LP_NATIVE_VECTOR_WIDTH=512 MESA_SHADER_CACHE_DIR="$(CURDIR)/target/mesa-512"; \
	mkdir -p "$$MESA_SHADER_CACHE_DIR"; \
	found=$$($(S3GPU) devices); \
	case $$found in \
	'0: llvmpipe'*) \
		echo "The subgroup rungs once more, on wide lavapipe:"; \
		printf '%s\n' "$$found" | sed -n '1p; /^1:/q; /subgroups/p'; \
		cargo test --release $(WIDE_TESTS:%=--test %);; \
	*) echo 'SKIPPED: the tests on wide lavapipe, as the default adapter is another'; $(SKIP);; \
	esac

# The dumped shaders stay in target/wgsl, so that the lines of a failure can be read.
test-tint:
	@missing=; for tool in node npm "$(CHROMIUM)"; do \
		command -v "$$tool" >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then echo "SKIPPED: the shaders in Tint, as there is no$$missing"; $(SKIP); exit; fi; \
	set -e; cd tests/tint; \
	[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund || { \
		echo 'npm could not fetch playwright-core for the Tint check (no network?)' >&2; exit 1; }; \
	cd ../..; rm -rf target/wgsl; \
	$(S3GPU) doctor --dump-shaders target/wgsl; \
	node tests/tint/check.mjs target/wgsl

# The page in headless Chromium. What needs no browser, the reader of network files, runs wherever there is node.
test-page:
	@missing=; for tool in node npm "$(CHROMIUM)"; do \
		command -v "$$tool" >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	if ! command -v node >/dev/null 2>&1; then echo "SKIPPED: the page, as there is no$$missing"; $(SKIP); exit; fi; \
	set -e; cd web; node tests/reader.mjs; \
	if [ -n "$$missing" ]; then echo "SKIPPED: the page in a browser, as there is no$$missing"; $(SKIP); exit; fi; \
	[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund || { \
		echo 'npm could not fetch playwright-core for the test of the page (no network?)' >&2; exit 1; }; \
	cd ..; cargo build --release --bin s3gpu; node web/tests/page.mjs

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

bench: setup
	cargo bench --bench kernels
	cargo bench --bench step
	cargo bench --bench startup

guard: setup
	cargo bench --bench guard

guard-record: setup
	cargo bench --bench guard -- --record

FUZZ_SECONDS ?= 60

fuzz:
	fuzz/all.sh $(FUZZ_SECONDS)

kill: setup
	scripts/kill_campaign.sh
